// Arithmetic as CUDA C, with the meaning that ir/tile.h gives it: integers wrap, nothing traps.
#include "codegen/cuda/print.h"

#include <math.h>

#include "runtime/base/alloc.h"

// ---- numbers ----
static const char *whole(sd_print *P, sd_dtype t, int64_t v) {
  if (t == SD_BOOL) return v ? "true" : "false";
  if (t == SD_U64) return sd_print_text(P, "%lluull", (unsigned long long)v);
  if (t == SD_U32) return sd_print_text(P, "%uu", (unsigned)v);
  if (v == INT64_MIN) return "(-9223372036854775807LL - 1)";
  if (v == INT32_MIN) return "(-2147483647 - 1)";
  return sd_print_text(P, v < 0 ? "(%lld%s)" : "%lld%s", (long long)v,
                       v > INT32_MAX || v < INT32_MIN ? "LL" : "");
}

static const char *real(sd_print *P, sd_dtype t, double v) {
  union {
    double d;
    uint64_t u;
  } d = {v};
  union {
    float f;
    uint32_t u;
  } f = {(float)v};
  bool wide = t == SD_F64;
  if (wide && !isfinite(v)) return sd_print_text(P, "sd_bits<double>(0x%llxull)", (unsigned long long)d.u);
  if (!wide && !isfinite(f.f)) return sd_print_text(P, "sd_bits<float>(0x%xu)", f.u);
  return wide ? sd_print_text(P, signbit(v) ? "(%a)" : "%a", v)
              : sd_print_text(P, signbit(v) ? "(%af)" : "%af", (double)f.f);
}

const char *sd_print_const(sd_print *P, const sd_expr *e) {
  return sd_dtype_is_float(e->dtype) ? real(P, e->dtype, e->f) : whole(P, e->dtype, e->i);
}

// ---- reductions ----
const char *sd_print_identity(sd_print *P, const sd_expr *e) {
  sd_dtype t = e->dtype;
  bool f = sd_dtype_is_float(t), is_signed = sd_dtype_kind_of(t) == SD_DK_I;
  if (e->rop == SD_R_SUM || e->rop == SD_R_PROD)
    return f ? real(P, t, e->rop == SD_R_PROD) : whole(P, t, e->rop == SD_R_PROD);
  bool max = e->rop == SD_R_MAX;
  if (f) return real(P, t, max ? -INFINITY : INFINITY);
  int bits = sd_dtype_bits(t);
  if (!is_signed) return whole(P, t, max ? 0 : (int64_t)(UINT64_MAX >> (64 - bits)));
  int64_t high = INT64_MAX >> (64 - bits);
  return whole(P, t, max ? -high - 1 : high);
}

const char *sd_print_combine(sd_print *P, const sd_expr *e, const char *x, const char *y) {
  static const char *const names[] = {
      [SD_R_SUM] = "sd_add", [SD_R_PROD] = "sd_mul", [SD_R_MAX] = "sd_max", [SD_R_MIN] = "sd_min"};
  return sd_print_text(P, "%s<%s>(%s, %s)", names[e->rop], sd_print_ctype(e->dtype), x, y);
}

const char *sd_print_group_op(const sd_expr *e) {
  static const char *const names[] = {[SD_R_SUM] = "sd_op_sum",
                                      [SD_R_PROD] = "sd_op_prod",
                                      [SD_R_MAX] = "sd_op_max",
                                      [SD_R_MIN] = "sd_op_min"};
  return names[e->rop];
}

// ---- storage types ----
// Name of a narrow float in the prelude; NULL for other types.
static const char *format_of(sd_dtype t) {
  return sd_dtype_is_float(t) && sd_dtype_bits(t) <= 16 ? sd_dtype_name(t) : NULL;
}

const char *sd_print_widen(sd_print *P, sd_dtype t, const char *v) {
  if (t == SD_BOOL) return sd_print_text(P, "(%s != 0)", v);
  if (format_of(t)) return sd_print_text(P, "sd_from_%s(%s)", format_of(t), v);
  if (sd_dtype_bits(t) < 8 && sd_dtype_kind_of(t) == SD_DK_I)
    return sd_print_text(P, "sd_sign_extend<%d>(%s)", sd_dtype_bits(t), v);
  return v;
}

const char *sd_print_narrow(sd_print *P, sd_dtype t, const char *v) {
  if (format_of(t)) return sd_print_text(P, "sd_to_%s(%s)", format_of(t), v);
  return v;
}

// ---- operations ----
static bool not_negative(sd_print *P, const sd_expr *x) {
  sd_dim lo, hi;
  int64_t v;
  if (sd_x_const_value(x, NULL, &v)) return v >= 0;
  return sd_x_bounds(P->k, x, &lo, &hi) && sd_dim_is_const(P->k->dims, lo, &v) && v >= 0;
}

static const char *small_divide(sd_print *P, const sd_expr *e, const char *const *v) {
  int64_t d;
  bool plain = not_negative(P, e->a[0]) && sd_x_const_value(e->a[1], NULL, &d) && d > 0;
  if (plain)
    return sd_print_text(P, "(int)((unsigned)%s %c %lldu)", v[0], e->op == SD_X_MOD ? '%' : '/',
                         (long long)d);
  return sd_print_text(P, "%s<int>(%s, %s)", e->op == SD_X_MOD ? "sd_mod" : "sd_floordiv", v[0], v[1]);
}

static const char *call(sd_print *P, const char *fn, const char *type, const char *const *v, int n) {
  if (n == 1) return sd_print_text(P, "%s<%s>(%s)", fn, type, v[0]);
  return sd_print_text(P, "%s<%s>(%s, %s)", fn, type, v[0], v[1]);
}

static const char *int_op(sd_print *P, const sd_expr *e, const char *const *v) {
  const char *t = sd_print_ctype(e->dtype);
  bool small = sd_print_small(P, e);
  switch (e->op) {
  case SD_X_ADD:
    return call(P, "sd_add", t, v, 2);
  case SD_X_SUB:
    return call(P, "sd_sub", t, v, 2);
  case SD_X_MUL:
    return call(P, "sd_mul", t, v, 2);
  case SD_X_DIV:
    return call(P, "sd_div", t, v, 2);
  case SD_X_FMOD:
    return call(P, "sd_rem", t, v, 2);
  case SD_X_FLOORDIV:
    return small ? small_divide(P, e, v) : call(P, "sd_floordiv", t, v, 2);
  case SD_X_MOD:
    return small ? small_divide(P, e, v) : call(P, "sd_mod", t, v, 2);
  case SD_X_SHL:
    return call(P, "sd_shl", t, v, 2);
  case SD_X_SHR:
    return call(P, "sd_shr", t, v, 2);
  case SD_X_NOT:
    return sd_print_text(P, e->dtype == SD_BOOL ? "!%s" : "~%s", v[0]);
  case SD_X_NEG:
    return sd_print_text(P, "sd_sub<%s>(0, %s)", t, v[0]);
  case SD_X_ABS:
    return call(P, "sd_abs", t, v, 1);
  case SD_X_FLOOR:
  case SD_X_CEIL:
  case SD_X_ROUND:
  case SD_X_TRUNC:
    return v[0];
  case SD_X_FMA:
    return sd_print_text(P, "sd_add<%s>(sd_mul<%s>(%s, %s), %s)", t, t, v[0], v[1], v[2]);
  default:
    return NULL;
  }
}

static const char *float_op(sd_print *P, const sd_expr *e, const char *const *v) {
  const char *f = e->dtype == SD_F64 ? "" : "f"; // of the names of C's functions
  static const char *const fns[SD_X_COUNT] = {
      [SD_X_ABS] = "fabs",  [SD_X_SQRT] = "sqrt",  [SD_X_FLOOR] = "floor",
      [SD_X_CEIL] = "ceil", [SD_X_ROUND] = "rint", [SD_X_TRUNC] = "trunc"};
  switch (e->op) {
  case SD_X_ADD:
    return sd_print_text(P, "%s + %s", v[0], v[1]);
  case SD_X_SUB:
    return sd_print_text(P, "%s - %s", v[0], v[1]);
  case SD_X_MUL:
    return sd_print_text(P, "%s * %s", v[0], v[1]);
  case SD_X_DIV:
    return sd_print_text(P, "%s / %s", v[0], v[1]);
  case SD_X_FLOORDIV: // as sd_vmath_expand makes it
    return sd_print_text(P, "sd_about(%s, %s)", v[0], v[1]);
  case SD_X_NEG:
    return sd_print_text(P, "-%s", v[0]);
  case SD_X_FMA:
    return sd_print_text(P, "fma%s(%s, %s, %s)", f, v[0], v[1], v[2]);
  case SD_X_EXP: // of f64 it is expanded
    return sd_print_text(P, "sd_exp(%s)", v[0]);
  default:
    return fns[e->op] ? sd_print_text(P, "%s%s(%s)", fns[e->op], f, v[0]) : NULL;
  }
}

// An integer whose value fits a byte without sign.
static bool is_byte(const sd_expr *e) {
  int64_t v;
  if (sd_x_const_value(e, NULL, &v)) return v >= 0 && v <= 255;
  if (e->op == SD_X_CAST) return e->a[0]->dtype == SD_U8 && e->dtype != SD_I8 && e->dtype != SD_BOOL;
  if (e->op != SD_X_AND) return e->dtype == SD_U8;
  for (int i = 0; i < 2; i++)
    if (sd_x_const_value(e->a[i], NULL, &v) && v >= 0 && v <= 255) return true;
  return false;
}

// 2^23 + a byte is cheaper than a conversion; the difference of two such numbers is exact.
static const char *byte_to_float(sd_print *P, const sd_expr *x) {
  if (x->dtype == SD_BOOL || sd_dtype_is_float(x->dtype)) return NULL;
  if (is_byte(x)) return sd_print_text(P, "sd_biased(%s) - 0x1p+23f", sd_print_value(P, x));
  if (x->op != SD_X_SUB || !is_byte(x->a[0]) || !is_byte(x->a[1]) || sd_dtype_bits(x->dtype) < 16) return NULL;
  const char *a = sd_print_value(P, x->a[0]), *b = sd_print_value(P, x->a[1]);
  return sd_print_text(P, "sd_biased(%s) - sd_biased(%s)", a, b);
}

static const char *cast(sd_print *P, const sd_expr *e, const char *v) {
  const char *t = sd_print_ctype(e->dtype), *b = e->dtype == SD_F32 ? byte_to_float(P, e->a[0]) : NULL;
  if (b) return b;
  if (e->dtype == SD_BOOL) return sd_print_text(P, "%s != 0", v);
  if (sd_dtype_is_float(e->a[0]->dtype) && !sd_dtype_is_float(e->dtype))
    return sd_print_text(P, "sd_to_int<%s>(%s)", t, v);
  return sd_print_text(P, "(%s)%s", t, v);
}

static const char *reinterpret(sd_print *P, const sd_expr *e, const char *v) {
  sd_dtype from = e->a[0]->dtype == SD_BOOL ? SD_U8 : e->a[0]->dtype; // a bool is a byte in memory
  const char *x = sd_print_text(P, "(%s)%s", sd_print_ctype(from), v);
  if (e->dtype == SD_BOOL) return sd_print_text(P, "sd_bits<u8>(%s) != 0", x);
  return sd_print_text(P, "sd_bits<%s>(%s)", sd_print_ctype(e->dtype), x);
}

static const char *compare(sd_print *P, const sd_expr *e, const char *const *v) {
  static const char *const ops[SD_X_COUNT] = {
      [SD_X_EQ] = "==", [SD_X_NE] = "!=", [SD_X_LT] = "<", [SD_X_LE] = "<="};
  return sd_print_text(P, "%s %s %s", v[0], ops[e->op], v[1]);
}

const char *sd_print_op(sd_print *P, const sd_expr *e, const char *const *v) {
  static const char *const bits[SD_X_COUNT] = {[SD_X_AND] = "&", [SD_X_OR] = "|", [SD_X_XOR] = "^"};
  const char *t = sd_print_small(P, e) ? "int" : sd_print_ctype(e->dtype), *r;
  bool single = e->n && e->a[0] && e->a[0]->dtype == SD_F32;
  switch (e->op) {
  case SD_X_EQ:
  case SD_X_NE:
  case SD_X_LT:
  case SD_X_LE:
    return compare(P, e, v);
  case SD_X_AND:
  case SD_X_OR:
  case SD_X_XOR:
    return sd_print_text(P, "%s %s %s", v[0], bits[e->op], v[1]);
  case SD_X_MIN:
    return call(P, "sd_min", t, v, 2);
  case SD_X_MAX:
    return call(P, "sd_max", t, v, 2);
  case SD_X_SIGN:
    return call(P, "sd_sign", t, v, 1);
  case SD_X_SEL:
    return sd_print_text(P, "%s ? %s : %s", v[0], v[1], v[2]);
  case SD_X_CAST:
    return cast(P, e, v[0]);
  case SD_X_BITS:
    return reinterpret(P, e, v[0]);
  case SD_X_INDEX:
    return sd_print_text(P, "%ssd_index(%s, %s, A.error)", sd_print_small(P, e) ? "(int)" : "", v[0], v[1]);
  case SD_X_ISNAN:
    return sd_print_text(P, "%s != %s", v[0], v[0]);
  case SD_X_ISINF:
    return sd_print_text(P, "fabs%s(%s) == %s", single ? "f" : "", v[0], real(P, e->a[0]->dtype, INFINITY));
  default:
    break;
  }
  r = sd_dtype_is_float(e->dtype) ? float_op(P, e, v) : int_op(P, e, v);
  if (r) return r;
  static const char *const names[] = {
#define X(e, t, n) [SD_X_##e] = #e,
      SD_XOPS(X)
#undef X
  };
  sd_print_fail(P, SD_ERR(UNSUPPORTED, "kernel %s: no CUDA code for %s of %s", P->k->name, names[e->op],
                          sd_dtype_name(e->dtype)));
  return "0";
}
