// The simplifying constructors: constant folding and identities that hold bit for bit, also for floats.
#include <math.h>
#include <string.h>

#include "ir/tile_priv.h"

static bool is_const(const sd_expr *e) { return e->op == SD_X_CONST || e->number; }
static sd_scalar scalar_of(const sd_expr *e) {
  sd_scalar s = {0};
  if (sd_dtype_is_float(e->dtype)) s.f = e->f;
  else s.i = e->i;
  return s;
}
static sd_expr *const_of(sd_kernel *k, sd_dtype t, sd_scalar s) {
  return sd_dtype_is_float(t) ? sd_x_f(k, t, s.f) : sd_x_i(k, t, s.i);
}
static bool is_f(const sd_expr *e, double v) {
  return e->op == SD_X_CONST && sd_dtype_is_float(e->dtype) && e->f == v && signbit(e->f) == signbit(v);
}
static bool is_i(const sd_expr *e, int64_t v) { return is_const(e) && !sd_dtype_is_float(e->dtype) && e->i == v; }
static sd_expr *bool_of(sd_kernel *k, bool v) { return sd_x_i(k, SD_BOOL, v); }

static sd_expr *fold(sd_kernel *k, sd_xop op, sd_dtype to, sd_expr *const *a, uint32_t n) {
  sd_scalar s[3], out;
  for (uint32_t i = 0; i < n; i++) {
    if (!is_const(a[i])) return NULL;
    s[i] = scalar_of(a[i]);
  }
  return sd_scalar_eval(op, a[0]->dtype, to, s, &out) ? const_of(k, to, out) : NULL;
}

static bool is_compare(sd_xop op) { return op == SD_X_EQ || op == SD_X_NE || op == SD_X_LT || op == SD_X_LE; }
static bool is_commutative(sd_xop op) {
  switch (op) {
  case SD_X_ADD: case SD_X_MUL: case SD_X_MIN: case SD_X_MAX: case SD_X_AND: case SD_X_OR: case SD_X_XOR: case SD_X_EQ:
  case SD_X_NE: return true;
  default: return false;
  }
}

// ---- one operand ----
static sd_expr *simplify_un(sd_kernel *k, sd_xop op, sd_expr *x) {
  bool f = sd_dtype_is_float(x->dtype);
  switch (op) {
  case SD_X_NEG:
    if (x->op == SD_X_NEG) return x->a[0];
    if (x->dtype == SD_I64) return sd_tile_affine_scale(k, x, sd_dim_const(k->dims, -1));
    return NULL;
  case SD_X_NOT: return x->op == SD_X_NOT ? x->a[0] : NULL;
  case SD_X_ABS:
    if (x->op == SD_X_ABS) return x;
    if (sd_dtype_kind_of(x->dtype) == SD_DK_U) return x;
    if (x->dtype == SD_I64 && sd_tile_decide_lt(k, x, sd_x_i(k, SD_I64, 0)) == 0) return x;
    return f && x->op == SD_X_NEG ? sd_x_un(k, op, x->a[0]) : NULL;
  case SD_X_FLOOR: case SD_X_CEIL: case SD_X_ROUND: case SD_X_TRUNC:
    if (!f) return x;
    return x->op == SD_X_FLOOR || x->op == SD_X_CEIL || x->op == SD_X_ROUND || x->op == SD_X_TRUNC ? x : NULL;
  case SD_X_ISNAN: case SD_X_ISINF: return f ? NULL : bool_of(k, false);
  default: return NULL;
  }
}

sd_expr *sd_x_un(sd_kernel *k, sd_xop op, sd_expr *x) {
  if (!x) return NULL;
  sd_dtype t = op == SD_X_ISNAN || op == SD_X_ISINF ? SD_BOOL : x->dtype;
  sd_expr *r = fold(k, op, t, &x, 1);
  if (!r) r = simplify_un(k, op, x);
  return r ? r : sd_tile_raw(k, op, t, &x, 1);
}

// ---- two operands ----
static sd_expr *simplify_i64(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y) {
  sd_dim d;
  int lt;
  switch (op) {
  case SD_X_ADD: return sd_tile_affine_add(k, x, y, 1);
  case SD_X_SUB: return sd_tile_affine_add(k, x, y, -1);
  case SD_X_MUL:
    if (sd_tile_is_dim(y, &d)) return sd_tile_affine_scale(k, x, d);
    return sd_tile_is_dim(x, &d) ? sd_tile_affine_scale(k, y, d) : NULL;
  case SD_X_FLOORDIV: return sd_tile_is_dim(y, &d) ? sd_tile_affine_div(k, x, d) : NULL;
  case SD_X_MOD: return sd_tile_is_dim(y, &d) ? sd_tile_affine_mod(k, x, d) : NULL;
  case SD_X_DIV: case SD_X_FMOD: // toward zero is toward minus infinity for x >= 0, y > 0
    if (!sd_tile_is_dim(y, &d) || d == SD_DIM_NONE || sd_dim_get(k->dims, d)->min < 1) return NULL;
    if (sd_tile_decide_lt(k, x, sd_x_i(k, SD_I64, 0)) != 0) return NULL;
    return op == SD_X_DIV ? sd_tile_affine_div(k, x, d) : sd_tile_affine_mod(k, x, d);
  case SD_X_LT: lt = sd_tile_decide_lt(k, x, y); return lt < 0 ? NULL : bool_of(k, lt);
  case SD_X_LE: lt = sd_tile_decide_lt(k, y, x); return lt < 0 ? NULL : bool_of(k, !lt);
  case SD_X_EQ: case SD_X_NE:
    if (sd_tile_decide_lt(k, x, y) == 1 || sd_tile_decide_lt(k, y, x) == 1) return bool_of(k, op == SD_X_NE);
    return NULL;
  case SD_X_MIN: case SD_X_MAX:
    lt = sd_tile_decide_lt(k, x, y);
    if (lt < 0) lt = sd_tile_decide_lt(k, y, x), lt = lt < 0 ? lt : !lt;
    return lt < 0 ? NULL : (lt == 1) == (op == SD_X_MIN) ? x : y;
  default: return NULL;
  }
}

// x/c as x*(1/c) where 1/c is exact and normal.
static sd_expr *reciprocal(sd_kernel *k, sd_expr *x, sd_expr *y) {
  int e;
  if (y->op != SD_X_CONST || !isfinite(y->f) || y->f == 0 || fabs(frexp(y->f, &e)) != 0.5) return NULL;
  int limit = y->dtype == SD_F32 ? 126 : 1022;
  if (e - 1 > limit || e - 1 < -limit) return NULL;
  return sd_x_bin(k, SD_X_MUL, x, sd_x_f(k, y->dtype, 1.0 / y->f));
}

static sd_expr *simplify_float(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y) {
  switch (op) {
  case SD_X_ADD: return is_f(y, -0.0) ? x : NULL; // x + 0 turns -0 into 0
  case SD_X_SUB: return is_f(y, 0.0) ? x : NULL;
  case SD_X_MUL: return is_f(y, 1.0) ? x : is_f(y, -1.0) ? sd_x_un(k, SD_X_NEG, x) : NULL;
  case SD_X_DIV: return is_f(y, 1.0) ? x : reciprocal(k, x, y);
  case SD_X_MIN: return x == y || is_f(y, INFINITY) ? x : NULL;
  case SD_X_MAX: return x == y || is_f(y, -INFINITY) ? x : NULL;
  case SD_X_POW:
    // Correctly rounded where the C library's pow may be off by an ulp; x^3 is within one ulp of it.
    if (is_f(y, 1.0)) return x;
    if (is_f(y, 0.0)) return sd_x_f(k, x->dtype, 1.0);
    if (is_f(y, -1.0)) return sd_x_bin(k, SD_X_DIV, sd_x_f(k, x->dtype, 1.0), x);
    if (is_f(y, 2.0)) return sd_x_bin(k, SD_X_MUL, x, x);
    if (is_f(y, 3.0)) return sd_x_bin(k, SD_X_MUL, sd_x_bin(k, SD_X_MUL, x, x), x);
    return NULL;
  default: return NULL;
  }
}

static sd_expr *simplify_int(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y) {
  int64_t ones = x->dtype == SD_BOOL ? 1 : sd_scalar_wrap(x->dtype, -1);
  switch (op) {
  case SD_X_ADD: case SD_X_SUB: case SD_X_SHL: case SD_X_SHR: return is_i(y, 0) ? x : NULL;
  case SD_X_XOR: return is_i(y, 0) ? x : x == y ? sd_x_i(k, x->dtype, 0) : NULL;
  case SD_X_MUL: return is_i(y, 1) ? x : is_i(y, 0) ? y : NULL;
  case SD_X_DIV: case SD_X_FLOORDIV: case SD_X_POW: return is_i(y, 1) ? x : NULL;
  case SD_X_MOD: case SD_X_FMOD: return is_i(y, 1) ? sd_x_i(k, x->dtype, 0) : NULL;
  case SD_X_AND: return x == y || is_i(y, ones) ? x : is_i(y, 0) ? y : NULL;
  case SD_X_OR: return x == y || is_i(y, 0) ? x : is_i(y, ones) ? y : NULL;
  case SD_X_MIN: case SD_X_MAX: return x == y ? x : NULL;
  case SD_X_EQ: case SD_X_LE: return x == y ? bool_of(k, true) : NULL;
  case SD_X_NE: case SD_X_LT: return x == y ? bool_of(k, false) : NULL;
  default: return NULL;
  }
}

sd_expr *sd_x_bin(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y) {
  if (!x || !y) return NULL;
  if (op == SD_X_INDEX) {
    sd_dim d;
    return sd_tile_is_dim(y, &d) ? sd_x_index(k, x, d) : sd_tile_raw(k, op, SD_I64, (sd_expr *[]){x, y}, 2);
  }
  sd_dtype t = is_compare(op) ? SD_BOOL : x->dtype;
  sd_expr *a[2] = {x, y}, *r = NULL;
  if (x->dtype != y->dtype) return sd_tile_raw(k, op, t, a, 2); // a mistake that the verifier reports
  if (is_commutative(op) && (is_const(x) || (!is_const(y) && x->id > y->id))) {
    a[0] = y;
    a[1] = x;
  }
  r = fold(k, op, t, a, 2);
  if (!r && x->dtype == SD_I64) r = simplify_i64(k, op, a[0], a[1]);
  if (!r) r = sd_dtype_is_float(x->dtype) ? simplify_float(k, op, a[0], a[1]) : simplify_int(k, op, a[0], a[1]);
  return r ? r : sd_tile_raw(k, op, t, a, 2);
}

// ---- others ----
sd_expr *sd_x_sel(sd_kernel *k, sd_expr *c, sd_expr *x, sd_expr *y) {
  if (!c || !x || !y) return NULL;
  int64_t v = 0;
  if (c->dtype == SD_BOOL && x->dtype == y->dtype) {
    if (sd_x_const_value(c, NULL, &v)) return v ? x : y;
    if (x == y) return x;
    if (c->op == SD_X_NOT) return sd_x_sel(k, c->a[0], y, x);
    if (x->dtype == SD_BOOL && is_i(x, 1) && is_i(y, 0)) return c;
  }
  sd_expr *a[3] = {c, x, y};
  return sd_tile_raw(k, SD_X_SEL, x->dtype, a, 3);
}

sd_expr *sd_x_fma(sd_kernel *k, sd_expr *x, sd_expr *y, sd_expr *z) {
  if (!x || !y || !z) return NULL;
  sd_expr *a[3] = {x, y, z}, *r = NULL;
  if (!sd_dtype_is_float(x->dtype)) return sd_x_bin(k, SD_X_ADD, sd_x_bin(k, SD_X_MUL, x, y), z);
  if (x->dtype == y->dtype && x->dtype == z->dtype) r = fold(k, SD_X_FMA, x->dtype, a, 3);
  return r ? r : sd_tile_raw(k, SD_X_FMA, x->dtype, a, 3);
}

// Every value of `from` is exactly a value of `to`.
static bool lossless(sd_dtype from, sd_dtype to) {
  if (from == SD_BOOL || from == to) return true;
  int fb = sd_dtype_bits(from), tb = sd_dtype_bits(to);
  sd_dtype_kind fk = sd_dtype_kind_of(from), tk = sd_dtype_kind_of(to);
  if (to == SD_BOOL) return false;
  if (fk == SD_DK_F) return tk == SD_DK_F && tb >= fb;
  if (tk == SD_DK_F) return fb <= (to == SD_F64 ? 32 : 16);
  if (fk == tk) return tb >= fb;
  return fk == SD_DK_U && tb > fb;
}

// I64 x whose proven values fit integer type t.
static bool fits(sd_kernel *k, const sd_expr *x, sd_dtype t) {
  sd_dim lo, hi;
  if (x->dtype != SD_I64 || sd_dtype_is_float(t) || t == SD_BOOL || !sd_x_bounds(k, x, &lo, &hi)) return false;
  int bits = sd_dtype_bits(t);
  bool u = sd_dtype_kind_of(t) == SD_DK_U;
  int64_t min = u ? 0 : bits >= 64 ? INT64_MIN : -(INT64_C(1) << (bits - 1));
  int64_t max = bits >= 63 + u ? INT64_MAX : (INT64_C(1) << (u ? bits : bits - 1)) - 1;
  return sd_dim_get(k->dims, lo)->min >= min && sd_dim_get(k->dims, hi)->max <= max;
}

// What sel(low < x, x, low), min(.., high) and rounding to i32 prove of a value that is never NaN; wide bounds where nothing.
static void clamped(const sd_expr *e, double *lo, double *hi) {
  double c = 0;
  *lo = -1e30, *hi = 1e30;
  switch (e->op) {
  case SD_X_SEL:
    if (e->a[0]->op == SD_X_LT && e->a[0]->a[0] == e->a[2] && e->a[0]->a[1] == e->a[1] && sd_x_const_value(e->a[2], &c, NULL)) *lo = c;
    break;
  case SD_X_MIN:
    clamped(e->a[0], lo, hi);
    if (sd_x_const_value(e->a[1], &c, NULL) && c < *hi) *hi = c;
    break;
  case SD_X_ROUND: clamped(e->a[0], lo, hi); break;
  case SD_X_CAST:
    if (e->dtype == SD_I32 && sd_dtype_is_float(e->a[0]->dtype)) clamped(e->a[0], lo, hi);
    break;
  case SD_X_ADD: {
    int64_t i = 0;
    clamped(e->a[0], lo, hi);
    if (e->dtype == SD_I32 && sd_x_const_value(e->a[1], NULL, &i)) *lo += (double)i, *hi += (double)i;
    else *lo = -1e30, *hi = 1e30;
    break;
  }
  default: break;
  }
}

// i32 x whose values are those of a quantized type of at most 16 bits.
static bool small(const sd_expr *x, sd_dtype t) {
  int bits = sd_dtype_bits(t);
  if (x->dtype != SD_I32 || !sd_dtype_is_int(t) || bits > 16) return false;
  double lo, hi, min = sd_dtype_kind_of(t) == SD_DK_U ? 0 : -(double)(1 << (bits - 1));
  clamped(x, &lo, &hi);
  return lo >= min && hi <= min + (double)((1 << bits) - 1);
}

sd_expr *sd_x_cast(sd_kernel *k, sd_dtype t, sd_expr *x) {
  if (!x || x->dtype == t) return x;
  sd_expr *r = fold(k, SD_X_CAST, t, &x, 1);
  if (r) return r;
  if (x->op == SD_X_CAST && (lossless(x->a[0]->dtype, x->dtype) || fits(k, x->a[0], x->dtype) || small(x->a[0], x->dtype))) {
    return sd_x_cast(k, t, x->a[0]);
  }
  if (t == SD_BOOL) {
    sd_expr *zero = sd_dtype_is_float(x->dtype) ? sd_x_f(k, x->dtype, 0) : sd_x_i(k, x->dtype, 0);
    return sd_x_bin(k, SD_X_NE, x, zero);
  }
  return sd_tile_raw(k, SD_X_CAST, t, &x, 1);
}

sd_expr *sd_x_bits(sd_kernel *k, sd_dtype t, sd_expr *x) {
  if (!x || x->dtype == t) return x;
  if (x->op == SD_X_BITS) return sd_x_bits(k, t, x->a[0]);
  sd_expr *r = fold(k, SD_X_BITS, t, &x, 1);
  return r ? r : sd_tile_raw(k, SD_X_BITS, t, &x, 1);
}

sd_expr *sd_x_index(sd_kernel *k, sd_expr *x, sd_dim extent) {
  if (!x) return NULL;
  sd_expr *a[2] = {x, sd_x_dim(k, extent)};
  if (x->dtype == SD_I64 && sd_tile_decide_lt(k, x, sd_x_i(k, SD_I64, 0)) == 0 && sd_tile_decide_lt(k, x, a[1]) == 1) {
    return x;
  }
  return sd_tile_raw(k, SD_X_INDEX, SD_I64, a, 2);
}

sd_expr *sd_x_mul_dim(sd_kernel *k, sd_expr *x, sd_dim d) { return x ? sd_x_bin(k, SD_X_MUL, x, sd_x_dim(k,
    d)) : NULL; }

sd_expr *sd_tile_rebuild(sd_kernel *k, const sd_expr *e, sd_expr *const *a) {
  switch (e->op) {
  case SD_X_CONST: case SD_X_AXIS: case SD_X_COUNT: return (sd_expr *)e;
  case SD_X_AFFINE: {
    sd_expr *r = sd_tile_affine_sum(k, e->n, a, e->coef, e->dim);
    if (r) return r;
    r = sd_x_dim(k, e->dim); // does not fit the form: plain operations
    for (uint32_t i = 0; i < e->n; i++) r = sd_x_bin(k, SD_X_ADD, r, sd_x_mul_dim(k, a[i], e->coef[i]));
    return r;
  }
  case SD_X_LOAD: return sd_x_load(k, e->buf, a[0], a[1]);
  case SD_X_REDUCE: return sd_x_reduce(k, e->rop, e->axes, e->n_axes, a[0]);
  case SD_X_SEL: return sd_x_sel(k, a[0], a[1], a[2]);
  case SD_X_FMA: return sd_x_fma(k, a[0], a[1], a[2]);
  case SD_X_CAST: return sd_x_cast(k, e->dtype, a[0]);
  case SD_X_BITS: return sd_x_bits(k, e->dtype, a[0]);
  default: return e->n == 1 ? sd_x_un(k, e->op, a[0]) : sd_x_bin(k, e->op, a[0], a[1]);
  }
}
