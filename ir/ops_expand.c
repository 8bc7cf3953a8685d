// TEXT bodies: expansion of the parsed tree into tile expressions for one node, with the typing rules of ir/ops.def.
#include "ir/lower.h"
#include "ir/ops_text.h"

// A value under construction. Loose ones (numbers, attributes and arithmetic of them) are F64 or BOOL constants that
// take the type of what they meet.
typedef struct val {
  sd_expr *e; // NULL after an error, or for lowest and highest
  bool loose;
  int extreme; // -1 lowest, 1 highest
} val;

typedef struct ctx {
  sd_tb *b;
  const sd_node *n;
  sd_expr *const *operands;
  uint32_t n_operands;
} ctx;

static val expand(ctx *c, const text_node *t);

static val fail(ctx *c, const char *what, const char *name) {
  sd_tb_fail(c->b, sd_node_error(c->n, SD_ERR(INTERNAL, "TEXT body \"%s\": %s%s%s", c->n->op->text, what,
                                              *name ? " " : "", name)));
  return (val){0};
}

static bool bad(val v) { return !v.e && !v.extreme; }
static val typed(sd_expr *e) { return (val){.e = e}; }
static val loose(sd_expr *e) { return (val){.e = e, .loose = true}; }

static sd_expr *extreme_of(sd_kernel *k, int sign, sd_dtype t) {
  if (sd_dtype_is_float(t)) return sd_x_f(k, t, sign * __builtin_inf());
  if (t == SD_BOOL) return sd_x_i(k, t, sign > 0);
  int bits = sd_dtype_bits(t);
  if (sd_dtype_kind_of(t) == SD_DK_U) return sd_x_i(k, t, sign < 0 ? 0 : (int64_t)(UINT64_MAX >> (64 - bits)));
  int64_t max = INT64_MAX >> (64 - bits);
  return sd_x_i(k, t, sign > 0 ? max : -max - 1);
}

static sd_expr *convert(sd_kernel *k, val v, sd_dtype t) {
  double f;
  int64_t i;
  if (v.extreme) return extreme_of(k, v.extreme, t);
  if (v.loose && v.e->dtype == SD_F64 && sd_x_const_value(v.e, &f, &i))
    return sd_dtype_is_float(t) ? sd_x_f(k, t, f) : t == SD_BOOL ? sd_x_i(k, t, f != 0) : sd_x_cast(k, t, v.e);
  return sd_x_cast(k, t, v.e);
}

static sd_dtype wider(sd_dtype x, sd_dtype y) {
  bool fx = sd_dtype_is_float(x), fy = sd_dtype_is_float(y);
  if (x == y || y == SD_BOOL) return x;
  if (x == SD_BOOL) return y;
  if (fx != fy) return fx ? x : y;
  return sd_dtype_bits(y) > sd_dtype_bits(x) ? y : x;
}

// Gives both the same type.
static bool unify(ctx *c, val *x, val *y, bool *out_loose) {
  sd_kernel *k = c->b->k;
  if (bad(*x) || bad(*y)) return false;
  bool lx = x->loose || x->extreme, ly = y->loose || y->extreme;
  *out_loose = lx && ly;
  sd_dtype t;
  if (lx && ly) t = x->e && y->e && x->e->dtype == SD_BOOL && y->e->dtype == SD_BOOL ? SD_BOOL : SD_F64;
  else t = lx ? y->e->dtype : ly ? x->e->dtype : wider(x->e->dtype, y->e->dtype);
  x->e = convert(k, *x, t);
  y->e = convert(k, *y, t);
  x->extreme = y->extreme = 0;
  return x->e && y->e;
}

// ---- operations ----

static bool float_only(sd_xop op) {
  switch (op) {
  case SD_X_SQRT: case SD_X_EXP: case SD_X_LOG: case SD_X_SIN: case SD_X_COS: case SD_X_TAN: case SD_X_ASIN:
  case SD_X_ACOS: case SD_X_ATAN: case SD_X_SINH: case SD_X_COSH: case SD_X_TANH: case SD_X_ASINH: case SD_X_ACOSH:
  case SD_X_ATANH: case SD_X_ERF: return true;
  default: return false;
  }
}

static val unary(ctx *c, sd_xop op, val x) {
  sd_kernel *k = c->b->k;
  if (bad(x)) return x;
  if (x.extreme) x.e = convert(k, x, SD_F64), x.extreme = 0, x.loose = true;
  bool is_float = sd_dtype_is_float(x.e->dtype);
  if (op == SD_X_NOT && is_float) x.e = sd_x_cast(k, SD_BOOL, x.e);
  else if (op == SD_X_NEG && x.e->dtype == SD_BOOL) x.e = sd_x_cast(k, x.loose ? SD_F64 : SD_I32, x.e);
  else if (!is_float && float_only(op)) x.e = sd_x_cast(k, sd_dtype_bits(x.e->dtype) > 16 ? SD_F64 : SD_F32, x.e);
  else if (!is_float && (op == SD_X_ISNAN || op == SD_X_ISINF)) return typed(sd_x_i(k, SD_BOOL, 0));
  else if (!is_float && (op == SD_X_FLOOR || op == SD_X_CEIL || op == SD_X_ROUND || op == SD_X_TRUNC)) return x;
  x.e = sd_x_un(k, op, x.e);
  return x;
}

static sd_expr *binary_expr(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y) {
  sd_dtype t = x->dtype;
  bool is_float = sd_dtype_is_float(t);
  if (is_float && (op == SD_X_FLOORDIV || op == SD_X_MOD)) {
    sd_expr *q = sd_x_un(k, SD_X_FLOOR, sd_x_bin(k, SD_X_DIV, x, y));
    return op == SD_X_MOD ? sd_x_bin(k, SD_X_SUB, x, sd_x_bin(k, SD_X_MUL, q, y)) : q;
  }
  if (is_float && (op == SD_X_AND || op == SD_X_OR || op == SD_X_XOR))
    return sd_x_bin(k, op, sd_x_cast(k, SD_BOOL, x), sd_x_cast(k, SD_BOOL, y));
  return sd_x_bin(k, op, x, y);
}

static val binary(ctx *c, sd_xop op, val x, val y) {
  bool both_loose;
  if (!unify(c, &x, &y, &both_loose)) return (val){0};
  return (val){.e = binary_expr(c->b->k, op, x.e, y.e), .loose = both_loose};
}

static val select_op(ctx *c, const text_node *t) {
  sd_kernel *k = c->b->k;
  double f;
  int64_t i;
  bool both_loose;
  val cond = expand(c, t->a[0]);
  if (bad(cond) || cond.extreme) return (val){0};
  sd_expr *test = sd_x_cast(k, SD_BOOL, cond.e);
  if (!test) return (val){0};
  if (test->op == SD_X_CONST && sd_x_const_value(test, &f, &i)) return expand(c, t->a[i ? 1 : 2]);
  val x = expand(c, t->a[1]), y = expand(c, t->a[2]);
  if (!unify(c, &x, &y, &both_loose)) return (val){0};
  return (val){.e = sd_x_sel(k, test, x.e, y.e), .loose = both_loose};
}

static val fma_op(ctx *c, const text_node *t) {
  bool l;
  val x = expand(c, t->a[0]), y = expand(c, t->a[1]), z = expand(c, t->a[2]);
  if (!unify(c, &x, &y, &l) || !unify(c, &x, &z, &l) || !unify(c, &y, &z, &l) || !unify(c, &x, &y, &l)) return (val){0};
  sd_kernel *k = c->b->k;
  if (sd_dtype_is_float(x.e->dtype)) return (val){.e = sd_x_fma(k, x.e, y.e, z.e), .loose = l};
  return (val){.e = sd_x_bin(k, SD_X_ADD, sd_x_bin(k, SD_X_MUL, x.e, y.e), z.e), .loose = l};
}

static val expand_op(ctx *c, const text_node *t) {
  if (t->op == SD_X_SEL) return select_op(c, t);
  if (t->op == SD_X_FMA) return fma_op(c, t);
  val x = expand(c, t->a[0]);
  return t->a[1] ? binary(c, t->op, x, expand(c, t->a[1])) : unary(c, t->op, x);
}

// ---- leaves ----

static val operand(ctx *c, uint32_t i) {
  if (i < c->n_operands && c->operands[i]) return typed(c->operands[i]);
  return c->b->error ? (val){0} : fail(c, "uses the omitted operand", c->n->op->ins[i].name);
}

static val attribute(ctx *c, uint32_t i) {
  const sd_attr *a = &c->n->attrs[i];
  if (a->kind == SD_ATTR_INT) return loose(sd_x_f(c->b->k, SD_F64, (double)a->i));
  if (a->kind == SD_ATTR_FLOAT) return loose(sd_x_f(c->b->k, SD_F64, (double)a->f));
  return fail(c, "uses the absent attribute", c->n->op->attrs[i].name);
}

static bool is_given(const ctx *c, const text_node *t) {
  uint32_t i = (uint32_t)t->index;
  return t->is_attr ? c->n->attrs[i].kind != SD_ATTR_NONE : i < c->n_operands && c->operands[i];
}

static val fold(ctx *c, const text_node *t) {
  val acc = operand(c, (uint32_t)t->index);
  for (uint32_t i = (uint32_t)t->index + 1; i < c->n_operands && !bad(acc); i++)
    acc = binary(c, t->op, acc, operand(c, i));
  return acc;
}

static val cast(ctx *c, const text_node *t) {
  val x = expand(c, t->a[0]);
  sd_dtype to = t->dtype;
  if (t->index >= 0) {
    val like = operand(c, (uint32_t)t->index);
    if (bad(like)) return like;
    to = like.e->dtype;
  }
  return bad(x) ? x : typed(convert(c->b->k, x, sd_compute_type(to)));
}

static val expand(ctx *c, const text_node *t) {
  sd_kernel *k = c->b->k;
  const sd_attr *a;
  switch (t->kind) {
  case TEXT_NUMBER: return loose(sd_x_f(k, SD_F64, t->number));
  case TEXT_BOOL: return loose(sd_x_i(k, SD_BOOL, t->number != 0));
  case TEXT_LOWEST: return (val){.extreme = -1};
  case TEXT_HIGHEST: return (val){.extreme = 1};
  case TEXT_OPERAND: return operand(c, (uint32_t)t->index);
  case TEXT_ATTR: return attribute(c, (uint32_t)t->index);
  case TEXT_STRING_IS:
    a = &c->n->attrs[t->index];
    return loose(sd_x_i(k, SD_BOOL, (a->kind == SD_ATTR_STRING && strcmp(a->s, t->text) == 0) != t->negate));
  case TEXT_OP: return expand_op(c, t);
  case TEXT_CAST: return cast(c, t);
  case TEXT_OPT:
    if (!is_given(c, t)) return expand(c, t->a[0]);
    return t->is_attr ? attribute(c, (uint32_t)t->index) : operand(c, (uint32_t)t->index);
  case TEXT_GIVEN: return loose(sd_x_i(k, SD_BOOL, is_given(c, t)));
  case TEXT_COUNT: return loose(sd_x_f(k, SD_F64, (double)(c->n_operands - (uint32_t)t->index)));
  case TEXT_FOLD: return fold(c, t);
  }
  return (val){0};
}

sd_expr *sd_text_expand(sd_tb *b, const sd_node *n, const void *map, sd_expr *const *operands, uint32_t n_operands) {
  ctx c = {b, n, operands, n_operands};
  if (!map) return sd_tb_fail(b, sd_node_error(n, SD_ERR(INTERNAL, "the row has no TEXT body")));
  val v = expand(&c, map);
  if (bad(v)) return b->error ? NULL : fail(&c, "cannot be expanded", "").e;
  return convert(b->k, v, sd_compute_type(n->out[0]->dtype));
}
