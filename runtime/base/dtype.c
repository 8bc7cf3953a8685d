// Element types: the table of dtype.def, and reading and writing of single elements of any of them.
#include "runtime/base/dtype.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/alloc.h"
#include "runtime/base/half.h"

typedef struct row {
  const char *name, *onnx;
  uint8_t bits, kind;
} row;

static const row rows[SD_DT_COUNT] = {
#define SD_DTYPE(name, text, onnx, bits, kind) [onnx] = {text, #name, bits, SD_DK_##kind},
#include "runtime/base/dtype.def"
#undef SD_DTYPE
};

// Names by which ONNX and numpy call the types.
static const struct { const char *name; sd_dtype t; } aliases[] = {
    {"float", SD_F32},       {"float32", SD_F32},     {"double", SD_F64},      {"float64", SD_F64},
    {"float16", SD_F16},     {"half", SD_F16},        {"bfloat16", SD_BF16},   {"int8", SD_I8},
    {"int16", SD_I16},       {"int32", SD_I32},       {"int64", SD_I64},       {"int", SD_I64},
    {"uint8", SD_U8},        {"uint16", SD_U16},      {"uint32", SD_U32},      {"uint64", SD_U64},
    {"int4", SD_I4},         {"uint4", SD_U4},        {"int2", SD_I2},         {"uint2", SD_U2},
    {"complex64", SD_C64},   {"complex128", SD_C128}, {"str", SD_STRING},      {"float8e4m3fn", SD_F8E4M3FN},
    {"float8e4m3fnuz", SD_F8E4M3FNUZ}, {"float8e5m2", SD_F8E5M2}, {"float8e5m2fnuz", SD_F8E5M2FNUZ},
    {"float4e2m1", SD_F4E2M1}, {"float8e8m0", SD_F8E8M0}, {"float6e2m3", SD_F6E2M3}, {"float6e3m2", SD_F6E3M2},
};

static const row *row_of(sd_dtype t) { return (unsigned)t < SD_DT_COUNT ? &rows[t] : &rows[0]; }

const char *sd_dtype_name(sd_dtype t) { return row_of(t)->name ? row_of(t)->name : "?"; }
bool sd_dtype_of_tensors(int64_t t) { return t > 0 && t < SD_OBJECT && rows[t].name; }
int sd_dtype_bits(sd_dtype t) { return row_of(t)->bits; }
sd_dtype_kind sd_dtype_kind_of(sd_dtype t) { return (sd_dtype_kind)row_of(t)->kind; }

sd_dtype sd_dtype_part(sd_dtype t) { return t == SD_C64 ? SD_F32 : t == SD_C128 ? SD_F64 : t; }

sd_dtype sd_dtype_parse(const char *text) {
  for (int t = 1; t < SD_DT_COUNT; t++)
    if (rows[t].name && (!strcasecmp(text, rows[t].name) || !strcasecmp(text, rows[t].onnx))) return (sd_dtype)t;
  for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
    if (!strcasecmp(text, aliases[i].name)) return aliases[i].t;
  return SD_DT_NONE;
}

bool sd_dtype_bytes(sd_dtype t, uint64_t count, uint64_t *out_bytes) {
  uint64_t bits = (uint64_t)sd_dtype_bits(t);
  if (bits == 0) return false;
  if (bits >= 8) return sd_ck_mul(count, bits / 8, out_bytes);
  uint64_t per_byte = 8 / bits;
  *out_bytes = count / per_byte + (count % per_byte != 0);
  return true;
}

// ---- narrow floats ----

// What the top codes of a format mean, and what a value beyond the largest becomes.
typedef enum topcodes {
  TOP_IEEE,  // infinities and NaNs; overflow gives infinity
  TOP_SAT,   // infinities and NaNs exist, finite numbers saturate (ONNX Cast with saturate=1 limits infinity before)
  TOP_FN,    // all ones is NaN, no infinity, saturates
  TOP_FNUZ,  // minus zero is NaN, saturates, infinity gives NaN
  TOP_NONE,  // neither: saturates, NaN gives the largest
} topcodes;
typedef struct format { int exponent, mantissa, bias; topcodes top; } format;

static bool format_of(sd_dtype t, format *f) {
  switch (t) {
  case SD_F16: *f = (format){5, 10, 15, TOP_IEEE}; return true;
  case SD_BF16: *f = (format){8, 7, 127, TOP_IEEE}; return true;
  case SD_F8E4M3FN: *f = (format){4, 3, 7, TOP_FN}; return true;
  case SD_F8E4M3FNUZ: *f = (format){4, 3, 8, TOP_FNUZ}; return true;
  case SD_F8E5M2: *f = (format){5, 2, 15, TOP_SAT}; return true;
  case SD_F8E5M2FNUZ: *f = (format){5, 2, 16, TOP_FNUZ}; return true;
  case SD_F4E2M1: *f = (format){2, 1, 1, TOP_NONE}; return true;
  case SD_F6E2M3: *f = (format){2, 3, 1, TOP_NONE}; return true;
  case SD_F6E3M2: *f = (format){3, 2, 3, TOP_NONE}; return true;
  default: return false;
  }
}

// Largest finite magnitude as a code without sign.
static uint32_t largest_code(const format *f) {
  uint32_t all = (1u << (f->exponent + f->mantissa)) - 1;
  if (f->top == TOP_IEEE || f->top == TOP_SAT) return all - (1u << f->mantissa);
  return f->top == TOP_FN ? all - 1 : all;
}

static uint32_t infinity_code(const format *f) { return ((1u << f->exponent) - 1) << f->mantissa; }

static double decode(const format *f, uint32_t code) {
  uint32_t sign = code >> (f->exponent + f->mantissa) & 1, mag = code & ((1u << (f->exponent + f->mantissa)) - 1);
  uint32_t e = mag >> f->mantissa, m = mag & ((1u << f->mantissa) - 1);
  double v;
  if (f->top == TOP_FNUZ && sign && mag == 0) return NAN;
  if (mag > largest_code(f))
    v = (f->top == TOP_IEEE || f->top == TOP_SAT) && m == 0 ? INFINITY : NAN;
  else if (e == 0)
    v = ldexp(m, 1 - f->bias - f->mantissa);
  else
    v = ldexp(m | 1u << f->mantissa, (int)e - f->bias - f->mantissa);
  return sign ? -v : v;
}

// Code of |v| rounded to nearest even without an upper bound; the caller compares with the largest code.
static uint64_t encode_magnitude(const format *f, double v) {
  int e;
  frexp(v, &e); // v = x * 2^e with 0.5 <= x < 1
  int scale = e - 1;
  if (scale < 1 - f->bias) scale = 1 - f->bias;
  double units = nearbyint(ldexp(v, f->mantissa - scale)); // exact but for the rounding: at most mantissa+2 bits
  // Subnormals have exponent field 0 at the scale of field 1; a carry of the rounding goes into the exponent field.
  return (uint64_t)units + ((uint64_t)(scale + f->bias - 1) << f->mantissa);
}

static uint32_t encode(const format *f, double v) {
  uint32_t sign = signbit(v) ? 1u << (f->exponent + f->mantissa) : 0, largest = largest_code(f);
  if (isnan(v)) {
    if (f->top == TOP_FNUZ) return 1u << (f->exponent + f->mantissa);
    if (f->top == TOP_NONE) return largest;
    if (f->top == TOP_FN) return sign | (largest + 1);
    return sign | infinity_code(f) | 1u << (f->mantissa - 1);
  }
  if (isinf(v)) {
    if (f->top == TOP_FNUZ) return 1u << (f->exponent + f->mantissa);
    return sign | (f->top == TOP_IEEE || f->top == TOP_SAT ? infinity_code(f) : largest);
  }
  uint64_t code = v == 0 ? 0 : encode_magnitude(f, fabs(v));
  if (code > largest) code = f->top == TOP_IEEE ? infinity_code(f) : largest;
  if (code == 0 && f->top == TOP_FNUZ) return 0; // has no minus zero
  return sign | (uint32_t)code;
}

// E8M0: a power of two 2^(code-127), 255 is NaN.
static double decode_e8m0(uint32_t code) { return code == 255 ? NAN : ldexp(1, (int)code - 127); }

static uint32_t encode_e8m0(double v) {
  if (isnan(v) || v < 0) return 255;
  if (v == 0) return 0;
  if (isinf(v)) return 254;
  int e;
  double x = frexp(v, &e);
  int code = e - 1 + 127;
  if (x > 0.75 || (x == 0.75 && (code & 1))) code++; // nearest power, ties to the even code
  return (uint32_t)(code < 0 ? 0 : code > 254 ? 254 : code);
}

// ---- elements ----

// Raw bits of element i of a type of at most 64 bits, zero-extended.
static uint64_t get_bits(int bits, const void *data, uint64_t i) {
  const uint8_t *p = data;
  uint64_t u = 0;
  if (bits >= 8) {
    memcpy(&u, p + i * (uint64_t)(bits / 8), (size_t)bits / 8); // little-endian hosts only (checked in verify.c)
    return u;
  }
  uint64_t per_byte = 8 / (unsigned)bits;
  return p[i / per_byte] >> (i % per_byte * (unsigned)bits) & ((1u << bits) - 1);
}

static void set_bits(int bits, void *data, uint64_t i, uint64_t u) {
  uint8_t *p = data;
  if (bits >= 8) {
    memcpy(p + i * (uint64_t)(bits / 8), &u, (size_t)bits / 8);
    return;
  }
  uint64_t per_byte = 8 / (unsigned)bits;
  unsigned shift = (unsigned)(i % per_byte) * (unsigned)bits, mask = ((1u << bits) - 1) << shift;
  p[i / per_byte] = (uint8_t)((p[i / per_byte] & ~mask) | ((u << shift) & mask));
}

static int64_t sign_extend(uint64_t u, int bits) {
  unsigned shift = 64 - (unsigned)bits;
  return (int64_t)(u << shift) >> shift;
}

static double float_value(sd_dtype t, uint64_t u) {
  format f;
  if (t == SD_F32) {
    float x;
    memcpy(&x, &u, 4);
    return x;
  }
  if (t == SD_F64) {
    double x;
    memcpy(&x, &u, 8);
    return x;
  }
  if (t == SD_F8E8M0) return decode_e8m0((uint32_t)u);
  return format_of(t, &f) ? decode(&f, (uint32_t)u) : 0;
}

static uint64_t float_bits(sd_dtype t, double v) {
  format f;
  uint64_t u = 0;
  if (t == SD_F32) {
    float x = (float)v;
    memcpy(&u, &x, 4);
  } else if (t == SD_F64) {
    memcpy(&u, &v, 8);
  } else if (t == SD_F8E8M0) {
    u = encode_e8m0(v);
  } else if (format_of(t, &f)) {
    u = encode(&f, v);
  }
  return u;
}

// Nearest integer in the range of an integer type; NaN gives 0.
static int64_t to_integer(double v, int bits, bool is_signed) {
  v = nearbyint(v);
  if (isnan(v)) return 0;
  double top = ldexp(1, is_signed ? bits - 1 : bits), low = is_signed ? -top : 0;
  if (v < low) v = low;
  if (v >= top) return is_signed ? (int64_t)((UINT64_C(1) << (bits - 1)) - 1) : (int64_t)(UINT64_MAX >> (64 - bits));
  return is_signed ? (int64_t)v : (int64_t)(uint64_t)v;
}

// ---- elements in files ----

// Bits of an element in a file.
static int file_bits(sd_dtype t) {
  format f;
  return format_of(t, &f) ? 1 + f.exponent + f.mantissa : sd_dtype_bits(t);
}

bool sd_dtype_file_bytes(sd_dtype t, uint64_t count, uint64_t *out_bytes) {
  if (!sd_dtype_repacked(t)) return sd_dtype_bytes(t, count, out_bytes);
  *out_bytes = count / 4 * 3 + count % 4; // n codes of a last group take n bytes
  return true;
}

bool sd_dtype_repacked(sd_dtype t) { return file_bits(t) < sd_dtype_bits(t); }

void sd_dtype_from_file(sd_dtype t, const void *file, uint64_t count, void *out) {
  const uint8_t *from = file;
  uint8_t *to = out;
  uint64_t bytes;
  if (!sd_dtype_file_bytes(t, count, &bytes) || !bytes) return;
  if (!sd_dtype_repacked(t)) {
    memcpy(to, from, bytes);
    return;
  }
  for (uint64_t i = 0; i < count; i++) {
    uint64_t at = i / 4 * 3 + i % 4 * 6 / 8, shift = i % 4 * 6 % 8;
    uint32_t pair = from[at] | (shift > 2 ? (uint32_t)from[at + 1] << 8 : 0);
    to[i] = (uint8_t)(pair >> shift & 63);
  }
}

void sd_dtype_to_file(sd_dtype t, const void *data, uint64_t count, void *file) {
  const uint8_t *from = data;
  uint8_t *to = file;
  uint64_t bytes;
  if (!sd_dtype_file_bytes(t, count, &bytes) || !bytes) return;
  if (!sd_dtype_repacked(t)) {
    memcpy(to, from, bytes);
    return;
  }
  memset(to, 0, bytes);
  for (uint64_t i = 0; i < count; i++) {
    uint64_t at = i / 4 * 3 + i % 4 * 6 / 8, shift = i % 4 * 6 % 8;
    uint32_t pair = (from[i] & 63u) << shift;
    to[at] |= (uint8_t)pair;
    if (shift > 2) to[at + 1] |= (uint8_t)(pair >> 8);
  }
}

double sd_dtype_get_f64(sd_dtype t, const void *data, uint64_t i) {
  int bits = sd_dtype_bits(t);
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: return float_value(t, get_bits(bits, data, i));
  case SD_DK_I: return (double)sign_extend(get_bits(bits, data, i), bits);
  case SD_DK_U: return (double)get_bits(bits, data, i);
  case SD_DK_B: return get_bits(bits, data, i) != 0;
  default: return 0;
  }
}

int64_t sd_dtype_get_i64(sd_dtype t, const void *data, uint64_t i) {
  int bits = sd_dtype_bits(t);
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: return to_integer(trunc(float_value(t, get_bits(bits, data, i))), 64, true);
  case SD_DK_I: return sign_extend(get_bits(bits, data, i), bits);
  case SD_DK_S:
  case SD_DK_O:
  case SD_DK_U: return (int64_t)get_bits(bits, data, i);
  case SD_DK_B: return get_bits(bits, data, i) != 0;
  default: return 0;
  }
}

void sd_dtype_set_f64(sd_dtype t, void *data, uint64_t i, double v) {
  int bits = sd_dtype_bits(t);
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: set_bits(bits, data, i, float_bits(t, v)); break;
  case SD_DK_I: set_bits(bits, data, i, (uint64_t)to_integer(v, bits, true)); break;
  case SD_DK_U: set_bits(bits, data, i, (uint64_t)to_integer(v, bits, false)); break;
  case SD_DK_B: set_bits(bits, data, i, v != 0); break;
  default: break;
  }
}

void sd_dtype_set_i64(sd_dtype t, void *data, uint64_t i, int64_t v) {
  int bits = sd_dtype_bits(t);
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: set_bits(bits, data, i, float_bits(t, (double)v)); break;
  case SD_DK_I:
  case SD_DK_S:
  case SD_DK_O:
  case SD_DK_U: set_bits(bits, data, i, (uint64_t)v); break; // wraps
  case SD_DK_B: set_bits(bits, data, i, v != 0); break;
  default: break;
  }
}
