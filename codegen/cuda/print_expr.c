// Expressions: a constant of C for each, loads, reductions, stores.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

// ---- indices of 32 bits ----
static bool const_bounds(sd_print *P, const sd_expr *e, int64_t *lo, int64_t *hi) {
  sd_dim l, h;
  if (sd_x_const_value(e, NULL, lo)) return *hi = *lo, true;
  return sd_x_bounds(P->k, e, &l, &h) && sd_dim_is_const(P->k->dims, l, lo) &&
         sd_dim_is_const(P->k->dims, h, hi);
}

// No partial sum leaves 32 bits.
static bool small_affine(sd_print *P, const sd_expr *e) {
  int64_t c, lo, hi, total = 0;
  if (e->dim != SD_DIM_NONE &&
      (!sd_dim_is_const(P->k->dims, e->dim, &total) || total <= INT32_MIN || total > INT32_MAX))
    return false;
  total = total < 0 ? -total : total;
  for (uint32_t i = 0; i < e->n; i++) {
    if (!sd_print_small(P, e->a[i]) || !sd_dim_is_const(P->k->dims, e->coef[i], &c) || c > INT32_MAX ||
        c < -INT32_MAX)
      return false;
    if (!const_bounds(P, e->a[i], &lo, &hi)) return false;
    int64_t most = -lo > hi ? -lo : hi;
    total += (c < 0 ? -c : c) * most; // below 2^62
    if (total > INT32_MAX) return false;
  }
  return true;
}

static bool find_small(sd_print *P, const sd_expr *e) {
  int64_t lo, hi;
  if (e->dtype != SD_I64 || !const_bounds(P, e, &lo, &hi) || lo <= INT32_MIN || hi > INT32_MAX) return false;
  switch (e->op) {
  case SD_X_CONST:
  case SD_X_AXIS:
  case SD_X_INDEX:
    return true;
  case SD_X_AFFINE:
    return small_affine(P, e);
  case SD_X_FLOORDIV:
  case SD_X_MOD:
  case SD_X_MIN:
  case SD_X_MAX:
    return sd_print_small(P, e->a[0]) && sd_print_small(P, e->a[1]);
  default:
    return false;
  }
}

bool sd_print_small(sd_print *P, const sd_expr *e) {
  sd_print_info *x = &P->info[e->id];
  if (!x->small) x->small = find_small(P, e) ? 1 : 2;
  return x->small == 1;
}

// ---- types ----
const char *sd_print_ctype(sd_dtype t) {
  switch (t) {
  case SD_F32:
    return "float";
  case SD_F64:
    return "double";
  case SD_I8:
    return "i8";
  case SD_I16:
    return "i16";
  case SD_I32:
    return "int";
  case SD_U8:
    return "u8";
  case SD_U16:
    return "u16";
  case SD_U32:
    return "unsigned";
  case SD_U64:
    return "u64";
  case SD_BOOL:
    return "bool";
  default:
    return "i64";
  }
}

const char *sd_print_storage(sd_dtype t) {
  int bits = sd_dtype_bits(t);
  if (t == SD_F32 || t == SD_F64 || (bits >= 8 && sd_dtype_is_int(t))) return sd_print_ctype(t);
  return bits == 16 ? "u16" : bits == 64 ? "i64" : "u8";
}

static const char *type_of(sd_print *P, const sd_expr *e) {
  return sd_print_small(P, e) ? "int" : sd_print_ctype(e->dtype);
}

// ---- loads ----
static const char *element(sd_print *P, const sd_buf *b, const char *offset) {
  int bits = sd_dtype_bits(b->dtype);
  if (bits < 8) return sd_print_text(P, "sd_ld_bits<%d>(b%u, %s)", bits, b->id, offset);
  return sd_print_text(P, "SD_LD(b%u, %s)", b->id, offset);
}

static const char *loaded(sd_print *P, const sd_expr *e) {
  const char *held = P->info[e->id].held;
  return held ? held : element(P, e->buf, sd_print_value(P, e->a[0]));
}

const char *sd_print_raw(sd_print *P, const sd_expr *e) {
  const char *guard = e->a[1] ? sd_print_value(P, e->a[1]) : NULL, *x = loaded(P, e);
  return guard ? sd_print_text(P, "%s ? %s : (%s)0", guard, x, sd_print_storage(e->buf->dtype)) : x;
}

static const char *load(sd_print *P, const sd_expr *e) {
  if (P->plan->fragments && e->buf->kind == SD_BUF_LOCAL) return sd_print_fragment_load(P, e->buf);
  const char *guard = e->a[1] ? sd_print_value(P, e->a[1]) : NULL;
  const char *x = sd_print_widen(P, e->buf->dtype, loaded(P, e));
  return guard ? sd_print_text(P, "%s ? %s : (%s)0", guard, x, sd_print_ctype(e->dtype)) : x;
}

// ---- reductions ----
static void walk_reductions(sd_print *P, const sd_expr *e) {
  sd_print_info *x = &P->info[e->id];
  if (x->seen == P->stamp || x->name) return;
  x->seen = P->stamp;
  if (e->op == SD_X_REDUCE && sd_print_ready(P, e)) {
    uint32_t stamp = P->stamp; // its own walks need another one
    if (!sd_print_rw(P, e)) sd_print_value(P, e);
    P->stamp = stamp;
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) walk_reductions(P, e->a[i]);
}

void sd_print_reductions(sd_print *P, const sd_expr *e) {
  uint32_t outer = P->stamp;
  P->stamp = ++P->n_stamp;
  walk_reductions(P, e);
  P->stamp = outer;
}

const char *sd_print_accumulate(sd_print *P, const sd_expr *e, const sd_expr *b, const char *acc) {
  if (b->op == SD_X_MUL && e->rop == SD_R_SUM && sd_dtype_is_float(b->dtype) && !P->info[b->id].name) {
    const char *x = sd_print_value(P, b->a[0]), *y = sd_print_value(P, b->a[1]);
    return sd_print_text(P, "%s(%s, %s, %s)", b->dtype == SD_F64 ? "fma" : "fmaf", x, y, acc);
  }
  return sd_print_combine(P, e, acc, sd_print_value(P, b));
}

static void accumulate(sd_print *P, const sd_expr *e, const char *acc) {
  const char *r = sd_print_accumulate(P, e, e->a[0], acc); // prints lines of its own
  sd_print_line(P, "%s = %s;", acc, r);
}

const char *sd_print_group_reduce(sd_print *P, const sd_expr *e, const char *acc, int n, int group) {
  const char *r = sd_print_fresh(P, "s"), *op = sd_print_group_op(e), *type = sd_print_ctype(e->dtype);
  const char *own = sd_print_text(P, "sd_fold<%s, %d, %s>(%s)", op, n, type, acc);
  if (group < SD_CUDA_WARP)
    sd_print_line(P, "const %s %s = sd_part_reduce<%s, %d, %s>(%s);", type, r, op, group, type, own);
  else if (group == SD_CUDA_WARP)
    sd_print_line(P, "const %s %s = sd_warp_reduce<%s, %s>(%s);", type, r, op, type, own);
  else
    sd_print_line(P, "const %s %s = sd_block_reduce<%s, %d, %s>(%s, exchange);", type, r, op, group, type, own);
  return r;
}

// Each thread of the group takes every group-th step, or vector of steps; then they exchange.
static const char *shared_loop(sd_print *P, const sd_expr *e) {
  int group = P->group, lanes = P->lanes;
  const sd_axis *const *axes = (const sd_axis *const *)e->axes, *lane = P->lane, *last = axes[e->n_axes - 1];
  bool vectors = last->vec > 0;
  uint32_t n = e->n_axes - vectors;
  const char *acc = sd_print_fresh(P, "r"), *one = sd_print_text(P, vectors ? "%s[i]" : "%s[0]", acc);
  if (vectors) sd_print_with_lanes(P, last);
  sd_print_line(P, "%s %s[%d];", sd_print_ctype(e->dtype), acc, vectors ? last->vec : 1);
  if (vectors) sd_print_lane_open(P);
  sd_print_line(P, "%s = %s;", one, sd_print_identity(P, e));
  if (vectors) sd_print_close(P);
  sd_print_steps loop = sd_print_open_steps(P, sd_print_product(P, axes, n), "lane", group, 4);
  P->group = 0;
  sd_print_bind_digits(P, axes, n, loop.index, loop.small);
  const char *limits = sd_print_limits(P, axes, n);
  if (limits) sd_print_open(P, "if (%s)", limits);
  if (vectors) sd_print_lane_inputs(P, e->a[0]), sd_print_lane_open(P);
  accumulate(P, e, one);
  if (vectors) sd_print_close(P), sd_print_without_lanes(P);
  if (limits) sd_print_close(P);
  sd_print_unbind(P, axes, n);
  sd_print_close_steps(P, loop);
  P->group = group, P->lane = lane, P->lanes = lanes;
  return sd_print_group_reduce(P, e, acc, vectors ? last->vec : 1, group);
}

static void own_loops(sd_print *P, const sd_expr *e, const char *acc) {
  int group = P->group;
  for (uint32_t i = 0; i < e->n_axes; i++) sd_print_loop(P, e->axes[i]);
  P->group = 0;
  accumulate(P, e, acc);
  P->group = group;
  for (uint32_t i = e->n_axes; i-- > 0;) sd_print_loop_end(P, e->axes[i]);
}

static const char *reduce(sd_print *P, const sd_expr *e) {
  sd_print_reductions(P, e->a[0]); // what the loops do not move with
  if (P->group && !sd_print_rw(P, e)) return shared_loop(P, e);
  const char *acc = sd_print_fresh(P, "r");
  sd_print_line(P, "%s %s = %s;", sd_print_ctype(e->dtype), acc, sd_print_identity(P, e));
  own_loops(P, e, acc);
  return acc;
}

// ---- values ----
static const char *affine(sd_print *P, const sd_expr *e, const sd_axis *without) {
  bool small = sd_print_small(P, e);
  const char *sum = NULL;
  for (uint32_t i = 0; i < e->n; i++) {
    if (without && sd_print_uses(P, e->a[i], without)) continue;
    const char *v = sd_print_value(P, e->a[i]), *c = sd_print_dim(P, e->coef[i]), *t;
    bool one = sd_dim_is(P->k->dims, e->coef[i], 1);
    if (small) t = one ? v : sd_print_text(P, "%s * %s", c, v);
    else
      t = one ? sd_print_text(P, "(u64)%s", v) : sd_print_text(P, "(u64)%s * (u64)%s", c, v);
    sum = sum ? sd_print_text(P, "%s + %s", sum, t) : t;
  }
  if (e->dim != SD_DIM_NONE && (!sum || !sd_dim_is(P->k->dims, e->dim, 0))) {
    const char *c = sd_print_dim(P, e->dim);
    if (!small) c = sd_print_text(P, "(u64)%s", c);
    sum = sum ? sd_print_text(P, "%s + %s", sum, c) : c;
  }
  return small && sum ? sum : sd_print_text(P, "(i64)(%s)", sum ? sum : "0");
}

const char *sd_print_offset_base(sd_print *P, const sd_expr *e) {
  return e->op == SD_X_AFFINE ? affine(P, e, P->lane) : "0";
}

static const char *compute(sd_print *P, const sd_expr *e) {
  const char *v[3] = {NULL, NULL, NULL};
  switch (e->op) {
  case SD_X_AFFINE:
    return affine(P, e, NULL);
  case SD_X_LOAD:
    return load(P, e);
  default:
    break;
  }
  for (uint32_t i = 0; i < e->n && i < 3; i++) v[i] = sd_print_value(P, e->a[i]);
  return sd_print_op(P, e, v);
}

const char *sd_print_value(sd_print *P, const sd_expr *e) {
  if (P->error) return "0";
  if (e->op == SD_X_CONST) return sd_print_const(P, e);
  if (e->op == SD_X_AXIS) return P->axis[e->axis->id];
  if (e->op == SD_X_AFFINE && e->n == 0) return sd_print_dim(P, e->dim);
  if (P->info[e->id].name) return P->info[e->id].name;
  if (P->info[e->id].held && e->op != SD_X_LOAD) return P->info[e->id].held;
  sd_print_rw(P, e);
  const char *name;
  if (e->op == SD_X_REDUCE) {
    name = reduce(P, e);
  } else {
    const char *text = compute(P, e);
    name = sd_print_fresh(P, "v");
    sd_print_line(P, "const %s %s = %s;", type_of(P, e), name, text);
  }
  sd_print_keep(P, e, name);
  return name;
}

// ---- stores ----
// The element as it stands in memory, where it only moves between buffers of narrow floats (NaNs keep their
// bits): NULL else.
static const char *stored_form(sd_print *P, const sd_expr *e, sd_dtype t, int depth) {
  if (!sd_dtype_is_float(t) || sd_dtype_bits(t) > 16 || depth > 8) return NULL;
  if (e->op == SD_X_CONST) {
    uint64_t code = 0;
    sd_dtype_set_f64(t, &code, 0, e->f);
    return sd_print_text(P, "(%s)%llu", sd_print_storage(t), (unsigned long long)code);
  }
  if (e->op == SD_X_LOAD && e->buf->dtype == t) return sd_print_text(P, "(%s)", sd_print_raw(P, e));
  if (e->op != SD_X_SEL) return NULL;
  const char *x = stored_form(P, e->a[1], t, depth + 1),
             *y = x ? stored_form(P, e->a[2], t, depth + 1) : NULL;
  return y ? sd_print_text(P, "(%s ? %s : %s)", sd_print_value(P, e->a[0]), x, y) : NULL;
}

static bool moves_only(const sd_expr *e, sd_dtype t, int depth) {
  if (depth > 8) return false;
  if (e->op == SD_X_SEL) return moves_only(e->a[1], t, depth + 1) && moves_only(e->a[2], t, depth + 1);
  return e->op == SD_X_CONST || (e->op == SD_X_LOAD && e->buf->dtype == t);
}

const char *sd_print_stored(sd_print *P, const sd_expr *value, sd_dtype t) {
  const char *v = moves_only(value, t, 0) ? stored_form(P, value, t, 0) : NULL;
  return v ? v : sd_print_narrow(P, t, sd_print_value(P, value));
}

void sd_print_store(sd_print *P, const sd_store *s) {
  sd_dtype t = s->buf->dtype;
  if (s->guard) sd_print_open(P, "if (%s)", sd_print_value(P, s->guard));
  const char *offset = sd_print_value(P, s->offset), *v = sd_print_stored(P, s->value, t);
  if (sd_dtype_bits(t) < 8)
    sd_print_line(P, "sd_st_bits<%d>(b%u, %s, %s);", sd_dtype_bits(t), s->buf->id, offset, v);
  else
    sd_print_line(P, "SD_ST(b%u, %s, %s);", s->buf->id, offset, v);
  if (s->guard) sd_print_close(P);
  sd_print_forget_written(P);
}
