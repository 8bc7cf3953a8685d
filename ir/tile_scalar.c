// Meaning of the scalar operations on constants: shared by constant folding and the reference interpreter.
#include <math.h>

#include "ir/tile_priv.h"

static float sign_f(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }
static double sign_d(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }
static float neg_f(float x) { return -x; }
static double neg_d(double x) { return -x; }
// fmin and fmax of C drop NaN; ONNX and numpy keep it.
static float min_f(float x, float y) { return x != x || y != y ? x + y : x < y ? x : y; }
static double min_d(double x, double y) { return x != x || y != y ? x + y : x < y ? x : y; }
static float max_f(float x, float y) { return x != x || y != y ? x + y : x > y ? x : y; }
static double max_d(double x, double y) { return x != x || y != y ? x + y : x > y ? x : y; }

static const sd_float_fns float_fns[SD_X_COUNT] = {
    [SD_X_NEG] = {neg_f, neg_d},      [SD_X_ABS] = {fabsf, fabs},     [SD_X_SIGN] = {sign_f, sign_d},
    [SD_X_FLOOR] = {floorf, floor},   [SD_X_CEIL] = {ceilf, ceil},    [SD_X_ROUND] = {rintf, rint},
    [SD_X_TRUNC] = {truncf, trunc},   [SD_X_SQRT] = {sqrtf, sqrt},    [SD_X_EXP] = {expf, exp},
    [SD_X_LOG] = {logf, log},         [SD_X_SIN] = {sinf, sin},       [SD_X_COS] = {cosf, cos},
    [SD_X_TAN] = {tanf, tan},         [SD_X_ASIN] = {asinf, asin},    [SD_X_ACOS] = {acosf, acos},
    [SD_X_ATAN] = {atanf, atan},      [SD_X_SINH] = {sinhf, sinh},    [SD_X_COSH] = {coshf, cosh},
    [SD_X_TANH] = {tanhf, tanh},      [SD_X_ASINH] = {asinhf, asinh}, [SD_X_ACOSH] = {acoshf, acosh},
    [SD_X_ATANH] = {atanhf, atanh},   [SD_X_ERF] = {erff, erf},
};
static const sd_float_fns2 float_fns2[SD_X_COUNT] = {
    [SD_X_POW] = {powf, pow}, [SD_X_FMOD] = {fmodf, fmod}, [SD_X_MIN] = {min_f, min_d}, [SD_X_MAX] = {max_f, max_d},
};

const sd_float_fns *sd_scalar_float_fns(sd_xop op) { return float_fns[op].f ? &float_fns[op] : NULL; }
const sd_float_fns2 *sd_scalar_float_fns2(sd_xop op) { return float_fns2[op].f ? &float_fns2[op] : NULL; }

int64_t sd_scalar_wrap(sd_dtype t, int64_t v) {
  if (t == SD_BOOL) return v != 0;
  int bits = sd_dtype_bits(t);
  if (bits <= 0 || bits >= 64) return v;
  uint64_t m = (uint64_t)v << (64 - bits);
  return sd_dtype_kind_of(t) == SD_DK_U ? (int64_t)(m >> (64 - bits)) : (int64_t)m >> (64 - bits);
}

// What no integer of the format has, NaN among it, becomes the least integer, as x86 does; types below 32 bits are cut out
// of an i32, unsigned ones of 32 bits out of an i64. codegen/cpu/emit_op.c does the same.
int64_t sd_scalar_from_float(sd_dtype t, double v) {
  if (t == SD_BOOL) return v != 0;
  bool wide = sd_dtype_bits(t) == 64 || t == SD_U32, high = t == SD_U64 && v >= 0x1p63;
  double limit = wide ? 0x1p63 : 0x1p31, x = high ? v - 0x1p63 : v;
  double least = wide ? -0x1p63 : -0x1p31 - 1; // -2^31 - 0.5 rounds to -2^31
  bool inside = x < limit && (wide ? x >= least : x > least);
  int64_t i = inside ? (int64_t)x : wide ? INT64_MIN : INT32_MIN;
  return sd_scalar_wrap(t, high ? (int64_t)((uint64_t)i ^ 1ull << 63) : i);
}

int64_t sd_scalar_ipow(int64_t x, int64_t y, bool is_unsigned) {
  if (!is_unsigned && y < 0) return x == 1 ? 1 : x == -1 ? (y & 1 ? -1 : 1) : 0;
  uint64_t r = 1, b = (uint64_t)x;
  for (uint64_t e = (uint64_t)y; e; e >>= 1, b *= b) {
    if (e & 1) r *= b;
  }
  return (int64_t)r;
}

static int64_t int_div(int64_t x, int64_t y, bool u) {
  if (!y) return 0;
  if (u) return (int64_t)((uint64_t)x / (uint64_t)y);
  return y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y; // INT64_MIN / -1 wraps
}
static int64_t int_rem(int64_t x, int64_t y, bool u) {
  if (!y) return 0;
  if (u) return (int64_t)((uint64_t)x % (uint64_t)y);
  return y == -1 ? 0 : x % y;
}
static bool int_less(int64_t x, int64_t y, bool u) { return u ? (uint64_t)x < (uint64_t)y : x < y; }

static bool eval_int(sd_xop op, sd_dtype t, int64_t x, int64_t y, int64_t *out) {
  bool u = sd_dtype_kind_of(t) != SD_DK_I;
  int bits = t == SD_BOOL ? 8 : sd_dtype_bits(t);
  uint64_t ux = (uint64_t)x, uy = (uint64_t)y;
  int64_t rem = 0;
  switch (op) {
  case SD_X_ADD: *out = (int64_t)(ux + uy); return true;
  case SD_X_SUB: *out = (int64_t)(ux - uy); return true;
  case SD_X_MUL: *out = (int64_t)(ux * uy); return true;
  case SD_X_DIV: *out = int_div(x, y, u); return true;
  case SD_X_FMOD: *out = int_rem(x, y, u); return true;
  case SD_X_FLOORDIV:
    rem = int_rem(x, y, u);
    *out = int_div(x, y, u) - (!u && rem && (rem < 0) != (y < 0));
    return true;
  case SD_X_MOD:
    rem = int_rem(x, y, u);
    *out = !u && rem && (rem < 0) != (y < 0) ? rem + y : rem;
    return true;
  case SD_X_MIN: *out = int_less(x, y, u) ? x : y; return true;
  case SD_X_MAX: *out = int_less(x, y, u) ? y : x; return true;
  case SD_X_POW: *out = sd_scalar_ipow(x, y, u); return true;
  case SD_X_AND: *out = x & y; return true;
  case SD_X_OR: *out = x | y; return true;
  case SD_X_XOR: *out = x ^ y; return true;
  case SD_X_SHL: *out = uy >= (uint64_t)bits ? 0 : (int64_t)(ux << uy); return true;
  case SD_X_SHR: *out = uy >= (uint64_t)bits ? (u || x >= 0 ? 0 : -1) : u ? (int64_t)(ux >> uy) : x >> uy; return true;
  case SD_X_EQ: *out = x == y; return true;
  case SD_X_NE: *out = x != y; return true;
  case SD_X_LT: *out = int_less(x, y, u); return true;
  case SD_X_LE: *out = !int_less(y, x, u); return true;
  case SD_X_NOT: *out = t == SD_BOOL ? !x : ~x; return true;
  case SD_X_NEG: *out = (int64_t)(0 - ux); return true;
  case SD_X_ABS: *out = u || x >= 0 ? x : (int64_t)(0 - ux); return true;
  case SD_X_SIGN: *out = x == 0 ? 0 : u || x > 0 ? 1 : -1; return true;
  case SD_X_FLOOR: case SD_X_CEIL: case SD_X_ROUND: case SD_X_TRUNC: *out = x; return true;
  default: return false;
  }
}

// Arithmetic of f32 is done in float: rounding happens where the kernel's code rounds.
static bool eval_float(sd_xop op, sd_dtype t, const sd_scalar *x, sd_scalar *out) {
  bool single = t == SD_F32;
  double a = x[0].f, b = x[1].f;
  const sd_float_fns *f1 = sd_scalar_float_fns(op);
  const sd_float_fns2 *f2 = sd_scalar_float_fns2(op);
  if (f1) { out->f = single ? f1->f((float)a) : f1->d(a); return true; }
  if (f2) { out->f = single ? f2->f((float)a, (float)b) : f2->d(a, b); return true; }
  switch (op) {
  case SD_X_ADD: out->f = single ? (float)a + (float)b : a + b; return true;
  case SD_X_SUB: out->f = single ? (float)a - (float)b : a - b; return true;
  case SD_X_MUL: out->f = single ? (float)a * (float)b : a * b; return true;
  case SD_X_DIV: out->f = single ? (float)a / (float)b : a / b; return true;
  case SD_X_FMA: out->f = single ? fmaf((float)a, (float)b, (float)x[2].f) : fma(a, b, x[2].f); return true;
  case SD_X_EQ: out->i = a == b; return true;
  case SD_X_NE: out->i = a != b; return true;
  case SD_X_LT: out->i = a < b; return true;
  case SD_X_LE: out->i = a <= b; return true;
  case SD_X_ISNAN: out->i = a != a; return true;
  case SD_X_ISINF: out->i = isinf(a) != 0; return true;
  default: return false;
  }
}

static bool eval_bits(sd_dtype from, sd_dtype to, sd_scalar x, sd_scalar *out) {
  uint8_t raw[8] = {0};
  if (sd_dtype_bits(from) != sd_dtype_bits(to) || sd_dtype_bits(to) < 8) return false;
  if (sd_dtype_is_float(from)) sd_dtype_set_f64(from, raw, 0, x.f);
  else sd_dtype_set_i64(from, raw, 0, x.i);
  if (sd_dtype_is_float(to)) out->f = sd_dtype_get_f64(to, raw, 0);
  else out->i = sd_dtype_get_i64(to, raw, 0);
  return true;
}

bool sd_scalar_eval(sd_xop op, sd_dtype from, sd_dtype to, const sd_scalar *x, sd_scalar *out) {
  *out = (sd_scalar){0};
  bool f = sd_dtype_is_float(from);
  if (op == SD_X_CAST) {
    if (sd_dtype_is_float(to)) {
      double v = f ? x->f : from == SD_U64 ? (double)(uint64_t)x->i : (double)x->i;
      if (to == SD_F32) v = f ? (float)v : from == SD_U64 ? (float)(uint64_t)x->i : (float)x->i;
      out->f = v;
    } else {
      out->i = f ? sd_scalar_from_float(to, x->f) : sd_scalar_wrap(to, x->i);
    }
    return true;
  }
  if (op == SD_X_BITS) return eval_bits(from, to, *x, out);
  sd_scalar args[3] = {x[0], {.i = 0}, {.i = 0}};
  int arity = sd_xop_arity(op);
  for (int i = 1; i < arity && i < 3; i++) args[i] = x[i];
  if (f) return eval_float(op, from, args, out);
  if (op == SD_X_FMA) { out->i = sd_scalar_wrap(to,
      (int64_t)((uint64_t)args[0].i * (uint64_t)args[1].i + (uint64_t)args[2].i)); return true; }
  if (op == SD_X_ISNAN || op == SD_X_ISINF) { out->i = 0; return true; }
  if (!eval_int(op, from, args[0].i, args[1].i, &out->i)) return false;
  out->i = sd_scalar_wrap(to, out->i);
  return true;
}
