// Storage types: their form in memory, and the conversions between it and the type that is computed in.
//
// Narrow floats are converted by integer arithmetic and one exact multiplication or addition of f32, as
// runtime/base/dtype.c defines them; types below a byte come and go as codes of one byte each.
#include "codegen/cpu/emit.h"
#include "runtime/base/dtype.h"

LLVMTypeRef sd_emit_storage(sd_emit *E, sd_dtype t) {
  switch (t) {
  case SD_F32:
    return E->f32;
  case SD_F64:
    return E->f64;
  case SD_F16:
    return E->has_f16 ? E->f16 : E->i16;
  default:
    break;
  }
  int bits = sd_dtype_bits(t);
  if (!sd_dtype_is_int(t) && t != SD_BOOL && !sd_dtype_is_float(t)) {
    sd_emit_fail(E,
                 SD_ERR(UNSUPPORTED, "kernel %s: no code for buffers of %s", E->k->name, sd_dtype_name(t)));
    return E->i8;
  }
  return LLVMIntTypeInContext(E->c, bits < 8 ? 8 : (unsigned)bits);
}

static LLVMTypeRef like(sd_ll v, LLVMTypeRef t) {
  LLVMTypeRef vt = LLVMTypeOf(v);
  return LLVMGetTypeKind(vt) == LLVMVectorTypeKind ? LLVMVectorType(t, LLVMGetVectorSize(vt)) : t;
}

// ---- narrow floats ----

// `infinity`: code of infinity, NaNs above it. `nan`: the only NaN of a format without infinity; 0: it has
// none. `largest`: what a finite number beyond it becomes; IEEE formats go to infinity.
typedef struct format {
  sd_dtype dtype;
  int mantissa, bias;
  uint32_t sign, largest, infinity, nan;
  bool no_minus_zero;
} format;

static const format formats[] = {
    {SD_F16, 10, 15, 0x8000, 0x7c00, 0x7c00, 0, false}, {SD_F8E4M3FN, 3, 7, 0x80, 0x7e, 0, 0x7f, false},
    {SD_F8E4M3FNUZ, 3, 8, 0x80, 0x7f, 0, 0x80, true},   {SD_F8E5M2, 2, 15, 0x80, 0x7b, 0x7c, 0, false},
    {SD_F8E5M2FNUZ, 2, 16, 0x80, 0x7f, 0, 0x80, true},  {SD_F4E2M1, 1, 1, 0x8, 0x7, 0, 0, false},
    {SD_F6E2M3, 3, 1, 0x20, 0x1f, 0, 0, false},         {SD_F6E3M2, 2, 3, 0x20, 0x1f, 0, 0, false},
};

static const format *format_of(sd_dtype t) {
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
    if (formats[i].dtype == t) return &formats[i];
  return NULL;
}

// The magnitude as the low bits of an f32, whose exponent a multiplication rebases: that also does denormals.
static sd_ll decode(sd_emit *E, const format *f, sd_ll code) {
  LLVMBuilderRef b = E->b;
  LLVMTypeRef u = like(code, E->i32), t = like(code, E->f32);
  sd_ll x = LLVMBuildZExt(b, code, u, ""), mag = LLVMBuildAnd(b, x, sd_emit_splat_i(u, f->sign - 1), "");
  sd_ll sign = LLVMBuildAnd(b, x, sd_emit_splat_i(u, f->sign), "");
  sign = LLVMBuildShl(b, sign, sd_emit_splat_i(u, 31 - __builtin_ctz(f->sign)), "");
  sd_ll v = LLVMBuildBitCast(b, LLVMBuildShl(b, mag, sd_emit_splat_i(u, 23 - f->mantissa), ""), t, "");
  v = LLVMBuildBitCast(b, LLVMBuildFMul(b, v, sd_emit_splat_f(t, __builtin_ldexp(1, 127 - f->bias)), ""), u,
                       "");
  sd_ll special = NULL, set = sd_emit_splat_i(u, 0x7f800000);
  if (f->infinity) {
    special = LLVMBuildICmp(b, LLVMIntUGE, mag, sd_emit_splat_i(u, f->infinity), "");
  } else if (f->nan) {
    special = LLVMBuildICmp(b, LLVMIntEQ, f->no_minus_zero ? x : mag, sd_emit_splat_i(u, f->nan), "");
    set = sd_emit_splat_i(u, 0x7fc00000);
  }
  if (special) v = LLVMBuildSelect(b, special, LLVMBuildOr(b, v, set, ""), v, "");
  return LLVMBuildBitCast(b, LLVMBuildOr(b, v, sign, ""), t, "");
}

static sd_ll is_zero(sd_emit *E, sd_ll v) {
  return LLVMBuildICmp(E->b, LLVMIntEQ, v, LLVMConstNull(LLVMTypeOf(v)), "");
}

static sd_ll encode(sd_emit *E, const format *f, sd_ll v) {
  LLVMBuilderRef b = E->b;
  LLVMTypeRef u = like(v, E->i32), t = LLVMTypeOf(v);
#define C(x) sd_emit_splat_i(u, (int64_t)(x))
  int drop = 23 - f->mantissa;
  sd_ll x = LLVMBuildBitCast(b, v, u, ""), a = LLVMBuildAnd(b, x, C(0x7fffffff), "");
  sd_ll odd = LLVMBuildAnd(b, LLVMBuildLShr(b, a, C(drop), ""), C(1), "");
  sd_ll r = LLVMBuildAdd(b, LLVMBuildAdd(b, a, C((1u << (drop - 1)) - 1), ""), odd, "");
  r = LLVMBuildSub(b, LLVMBuildLShr(b, r, C(drop), ""), C((127 - f->bias) << f->mantissa), "");
  sd_ll unit =
      sd_emit_splat_f(t, __builtin_ldexp(1, 24 - f->bias - f->mantissa)); // last place: the smallest denormal
  sd_ll small = LLVMBuildBitCast(b, LLVMBuildFAdd(b, LLVMBuildBitCast(b, a, t, ""), unit, ""), u, "");
  small = LLVMBuildSub(b, small, LLVMBuildBitCast(b, unit, u, ""), "");
  r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntULT, a, C((uint32_t)(128 - f->bias) << 23), ""), small, r,
                      "");
  // the smallest f32 that does not round to a smaller code is halfway; larger ones, and infinity, are caught
  // here
  r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntUGT, r, C(f->largest), ""), C(f->largest), r, "");
  sd_ll special = LLVMBuildICmp(b, LLVMIntUGT, a, C(0x7f800000), ""),
        s = LLVMBuildAnd(b, LLVMBuildLShr(b, x, C(31 - __builtin_ctz(f->sign)), ""), C(f->sign), "");
  if (f->infinity && f->infinity != f->largest)
    r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntEQ, a, C(0x7f800000), ""), C(f->infinity), r, "");
  if (f->no_minus_zero) { // infinity is NaN too; neither has a sign
    special = LLVMBuildICmp(b, LLVMIntUGE, a, C(0x7f800000), "");
    s = LLVMBuildSelect(b, is_zero(E, r), r, s, "");
  } else if (f->infinity || f->nan) {
    r = LLVMBuildSelect(b, special, C(f->infinity ? f->infinity | 1u << (f->mantissa - 1) : f->nan), r, "");
  }
  r = LLVMBuildOr(b, r, s, "");
  if (f->no_minus_zero || !(f->infinity || f->nan))
    r = LLVMBuildSelect(b, special, C(f->nan ? f->nan : f->largest), r, "");
#undef C
  return LLVMBuildTrunc(b, r, like(v, f->dtype == SD_F16 ? E->i16 : E->i8), "");
}

// The instruction makes denormals zero (dtype.c does not).
static sd_ll f32_to_bf16(sd_emit *E, sd_ll v) {
  LLVMBuilderRef b = E->b;
  if (E->has_bf16) {
    sd_ll narrow = LLVMBuildFPTrunc(b, v, like(v, LLVMBFloatTypeInContext(E->c)), "");
    return LLVMBuildBitCast(b, narrow, like(v, E->i16), "");
  }
  LLVMTypeRef u = like(v, E->i32);
  sd_ll x = LLVMBuildBitCast(b, v, u, ""), high = LLVMBuildLShr(b, x, sd_emit_splat_i(u, 16), "");
  sd_ll odd = LLVMBuildAnd(b, high, sd_emit_splat_i(u, 1), "");
  sd_ll r = LLVMBuildAdd(b, LLVMBuildAdd(b, x, sd_emit_splat_i(u, 0x7fff), ""), odd, "");
  r = LLVMBuildLShr(b, r, sd_emit_splat_i(u, 16), "");
  sd_ll nan = LLVMBuildFCmp(b, LLVMRealUNO, v, v, "");
  r = LLVMBuildSelect(b, nan, LLVMBuildOr(b, high, sd_emit_splat_i(u, 0x40), ""), r, "");
  return LLVMBuildTrunc(b, r, like(v, E->i16), "");
}

// 2^(code - 127): the code is the exponent of an f32; 0 is the denormal below, 255 NaN.
static sd_ll e8m0_to_f32(sd_emit *E, sd_ll code) {
  LLVMBuilderRef b = E->b;
  LLVMTypeRef u = like(code, E->i32);
  sd_ll x = LLVMBuildZExt(b, code, u, ""), v = LLVMBuildShl(b, x, sd_emit_splat_i(u, 23), "");
  v = LLVMBuildSelect(b, is_zero(E, x), sd_emit_splat_i(u, 0x400000), v, "");
  sd_ll nan = LLVMBuildICmp(b, LLVMIntEQ, x, sd_emit_splat_i(u, 255), "");
  v = LLVMBuildSelect(b, nan, sd_emit_splat_i(u, 0x7fc00000), v, "");
  return LLVMBuildBitCast(b, v, like(code, E->f32), "");
}

// The nearest power of two, a tie to the even exponent; negative numbers are NaN.
static sd_ll f32_to_e8m0(sd_emit *E, sd_ll v) {
  LLVMBuilderRef b = E->b;
  LLVMTypeRef u = like(v, E->i32);
#define C(x) sd_emit_splat_i(u, (int64_t)(x))
  sd_ll x = LLVMBuildBitCast(b, v, u, ""), a = LLVMBuildAnd(b, x, C(0x7fffffff), "");
  sd_ll code = LLVMBuildLShr(b, a, C(23), ""), odd = LLVMBuildAnd(b, code, C(1), "");
  sd_ll r = LLVMBuildLShr(b, LLVMBuildAdd(b, LLVMBuildAdd(b, a, C(0x3fffff), ""), odd, ""), C(23), "");
  sd_ll above = LLVMBuildICmp(b, LLVMIntUGT, a, C(0x600000), ""); // of the denormals, whose steps are equal
  r = LLVMBuildSelect(b, is_zero(E, code), LLVMBuildZExt(b, above, u, ""), r, "");
  r = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntUGT, r, C(254), ""), C(254), r, "");
  sd_ll nan = LLVMBuildOr(b, LLVMBuildFCmp(b, LLVMRealUNO, v, v, ""),
                          LLVMBuildFCmp(b, LLVMRealOLT, v, LLVMConstNull(LLVMTypeOf(v)), ""), "");
#undef C
  return LLVMBuildTrunc(b, LLVMBuildSelect(b, nan, sd_emit_splat_i(u, 255), r, ""), like(v, E->i8), "");
}

// ---- all types ----

sd_ll sd_emit_widen(sd_emit *E, sd_dtype t, sd_ll v) {
  const format *f = format_of(t);
  if (t == SD_BOOL) return LLVMBuildICmp(E->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "");
  if (t == SD_F16 && E->has_f16) return LLVMBuildFPExt(E->b, v, like(v, E->f32), "");
  if (f) return decode(E, f, v);
  if (t == SD_F8E8M0) return e8m0_to_f32(E, v);
  if (t == SD_BF16) {
    sd_ll u = LLVMBuildZExt(E->b, v, like(v, E->i32), "");
    return LLVMBuildBitCast(E->b, LLVMBuildShl(E->b, u, sd_emit_splat_i(LLVMTypeOf(u), 16), ""),
                            like(v, E->f32), "");
  }
  if (sd_dtype_bits(t) >= 8 || sd_dtype_kind_of(t) != SD_DK_I) return v;
  sd_ll n = sd_emit_splat_i(LLVMTypeOf(v), 8 - sd_dtype_bits(t)); // becomes one pair of shifts with that of the load
  return LLVMBuildAShr(E->b, LLVMBuildShl(E->b, v, n, ""), n, "");
}

sd_ll sd_emit_narrow(sd_emit *E, sd_dtype t, sd_ll v) {
  const format *f = format_of(t);
  if (t == SD_BOOL) return LLVMBuildZExt(E->b, v, like(v, E->i8), "");
  if (t == SD_F16 && E->has_f16) return LLVMBuildFPTrunc(E->b, v, like(v, E->f16), "");
  if (f) return encode(E, f, v);
  if (t == SD_F8E8M0) return f32_to_e8m0(E, v);
  if (t == SD_BF16) return f32_to_bf16(E, v);
  if (sd_dtype_bits(t) >= 8) return v;
  return LLVMBuildAnd(E->b, v, sd_emit_splat_i(LLVMTypeOf(v), (1 << sd_dtype_bits(t)) - 1), "");
}

static sd_ll constant_code(sd_emit *E, sd_dtype t, const sd_expr *e, bool lanes) {
  uint64_t code = 0;
  sd_dtype_set_f64(t, &code, 0, e->f);
  LLVMTypeRef m = sd_emit_storage(E, t);
  if (m == E->f16) return sd_emit_splat_f(sd_emit_vtype(E, m, lanes), e->f);
  return sd_emit_splat_i(sd_emit_vtype(E, m, lanes), (int64_t)code);
}

// The upper halves of f32 whose lower ones are made zero: a bf16 as it is, denormals too. NULL for others.
static sd_ll upper_half(sd_emit *E, const sd_expr *e, bool lanes) {
  int64_t low;
  if (e->op != SD_X_BITS || e->dtype != SD_F32 || e->a[0]->op != SD_X_AND || e->a[0]->dtype != SD_U32) return NULL;
  const sd_expr *and = e->a[0];
  bool zero = (sd_x_const_value(and->a[1], NULL, &low) || sd_x_const_value(and->a[0], NULL, &low)) && !(low & 0xffff);
  if (!zero) return NULL;
  sd_ll v = sd_emit_value_lanes(E, and, lanes);
  return LLVMBuildTrunc(E->b, LLVMBuildLShr(E->b, v, sd_emit_splat_i(LLVMTypeOf(v), 16), ""), like(v, E->i16), "");
}

sd_ll sd_emit_stored_form(sd_emit *E, const sd_expr *e, sd_dtype t, bool lanes, int depth) {
  if (!sd_dtype_is_float(t) || sd_dtype_bits(t) > 16 || depth > 8 || sd_emit_info_of(E, e)->rw) return NULL;
  if (e->op == SD_X_CONST) return constant_code(E, t, e, lanes);
  if (e->op == SD_X_LOAD && e->buf->dtype == t) {
    sd_ll v = sd_emit_load_stored(E, e);
    return lanes && !sd_emit_info_of(E, e)->lanes ? sd_emit_splat(E, v) : v;
  }
  if (t == SD_BF16 && e->op == SD_X_BITS) return upper_half(E, e, lanes);
  if (e->op != SD_X_SEL) return NULL;
  if (sd_emit_true(E, e->a[0])) return sd_emit_stored_form(E, e->a[1], t, lanes, depth + 1);
  sd_ll x = sd_emit_stored_form(E, e->a[1], t, lanes, depth + 1),
        y = x ? sd_emit_stored_form(E, e->a[2], t, lanes, depth + 1) : NULL;
  return y ? LLVMBuildSelect(E->b, sd_emit_value_lanes(E, e->a[0], lanes), x, y, "") : NULL;
}
