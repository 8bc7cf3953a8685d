// Arithmetic of expressions on LLVM values, scalars or vectors alike. No operation may become a library call or trap.
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

// ---- constants, vectors ----
static unsigned lanes_of(LLVMTypeRef t) { return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 0; }
static LLVMTypeRef element(LLVMTypeRef t) { return lanes_of(t) ? LLVMGetElementType(t) : t; }
static LLVMTypeRef like(LLVMTypeRef t, LLVMTypeRef e) { return lanes_of(t) ? LLVMVectorType(e, lanes_of(t)) : e; }

static sd_ll spread(LLVMTypeRef t, sd_ll c) {
  sd_ll v[64];
  unsigned n = lanes_of(t);
  for (unsigned i = 0; i < n && i < 64; i++) v[i] = c;
  return n ? LLVMConstVector(v, n) : c;
}

sd_ll sd_emit_splat_f(LLVMTypeRef t, double v) { return spread(t, LLVMConstReal(element(t), v)); }
sd_ll sd_emit_splat_i(LLVMTypeRef t, int64_t v) { return spread(t, LLVMConstInt(element(t), (uint64_t)v, true)); }

sd_ll sd_emit_splat(sd_emit *E, sd_ll v) {
  LLVMTypeRef t = LLVMVectorType(LLVMTypeOf(v), (unsigned)E->lanes_full);
  if (LLVMIsConstant(v)) return spread(t, v);
  sd_ll x = LLVMBuildInsertElement(E->b, LLVMGetPoison(t), v, LLVMConstInt(E->i32, 0, 0), "");
  return LLVMBuildShuffleVector(E->b, x, LLVMGetPoison(t), LLVMConstNull(LLVMVectorType(E->i32, (unsigned)E->lanes_full)), "");
}

sd_ll sd_emit_iota(sd_emit *E, LLVMTypeRef t) {
  sd_ll v[64];
  for (int i = 0; i < E->lanes_full; i++) v[i] = LLVMConstInt(t, (uint64_t)i, 0);
  return LLVMConstVector(v, (unsigned)E->lanes_full);
}

sd_ll sd_emit_intrinsic(sd_emit *E, const char *name, LLVMTypeRef *over, unsigned n_over, sd_ll *args, unsigned n) {
  sd_ll f = LLVMGetIntrinsicDeclaration(E->m, LLVMLookupIntrinsicID(name, strlen(name)), over, n_over);
  return LLVMBuildCall2(E->b, LLVMGlobalGetValueType(f), f, args, n, "");
}

static sd_ll intrinsic1(sd_emit *E, const char *name, sd_ll x) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return sd_emit_intrinsic(E, name, &t, 1, &x, 1);
}

sd_ll sd_emit_any(sd_emit *E, sd_ll v) { return lanes_of(LLVMTypeOf(v)) ? intrinsic1(E, "llvm.vector.reduce.or", v) : v; }
sd_ll sd_emit_all(sd_emit *E, sd_ll v) { return lanes_of(LLVMTypeOf(v)) ? intrinsic1(E, "llvm.vector.reduce.and", v) : v; }

sd_ll sd_emit_fma(sd_emit *E, sd_ll x, sd_ll y, sd_ll z) {
  if (!E->has_fma) return LLVMBuildFAdd(E->b, LLVMBuildFMul(E->b, x, y, ""), z, "");
  LLVMTypeRef t = LLVMTypeOf(x);
  return sd_emit_intrinsic(E, "llvm.fma", &t, 1, (sd_ll[]){x, y, z}, 3);
}

// ---- minimum, maximum ----
// x86 max(a, b) gives b when either is NaN: with the operand that is known not to be NaN first, that is what we want.
sd_ll sd_emit_minmax(sd_emit *E, sd_dtype t, bool max, sd_ll x, sd_ll y) {
  if (!sd_dtype_is_float(t)) {
    if (t == SD_BOOL) return max ? LLVMBuildOr(E->b, x, y, "") : LLVMBuildAnd(E->b, x, y, "");
    bool u = sd_dtype_kind_of(t) == SD_DK_U;
    LLVMIntPredicate p = max ? (u ? LLVMIntUGT : LLVMIntSGT) : (u ? LLVMIntULT : LLVMIntSLT);
    return LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, p, x, y, ""), x, y, "");
  }
  LLVMRealPredicate p = max ? LLVMRealOGT : LLVMRealOLT;
  if (LLVMIsConstant(y)) {
    sd_ll s = x;
    x = y, y = s;
  }
  sd_ll r = LLVMBuildSelect(E->b, LLVMBuildFCmp(E->b, p, x, y, ""), x, y, "");
  if (LLVMIsConstant(x)) return r;
  return LLVMBuildSelect(E->b, LLVMBuildFCmp(E->b, LLVMRealUNO, x, x, ""), x, r, "");
}

// ---- integer division: by zero gives 0, the lowest number by -1 wraps ----
static sd_ll zero_of(sd_ll x) { return LLVMConstNull(LLVMTypeOf(x)); }
static bool safe_divisor(const sd_expr *y) {
  int64_t v;
  return sd_x_const_value(y, NULL, &v) && v != 0 && v != -1;
}
static bool not_negative(sd_emit *E, const sd_expr *x) {
  sd_dim lo, hi;
  int64_t v;
  if (sd_dtype_kind_of(x->dtype) == SD_DK_U) return true;
  return x->dtype == SD_I64 && sd_x_bounds(E->k, x, &lo, &hi) && sd_dim_is_const(E->k->dims, lo, &v) && v >= 0;
}

static bool small_number(sd_emit *E, const sd_expr *x) { // 0 <= x < 2^31
  sd_dim lo, hi;
  int64_t v;
  if (sd_x_const_value(x, NULL, &v)) return v >= 0 && v <= INT32_MAX;
  return not_negative(E, x) && sd_x_bounds(E->k, x, &lo, &hi) && sd_dim_is_const(E->k->dims, hi, &v) && v <= INT32_MAX;
}

// Quotient toward zero and, in *out_rem, the remainder.
static sd_ll divide(sd_emit *E, const sd_expr *e, sd_ll x, sd_ll y, sd_ll *out_rem) {
  LLVMBuilderRef b = E->b;
  bool u = sd_dtype_kind_of(e->dtype) == SD_DK_U || (not_negative(E, e->a[0]) && not_negative(E, e->a[1]));
  LLVMTypeRef t = LLVMTypeOf(x), n = like(t, E->i32);
  if (e->dtype == SD_I64 && safe_divisor(e->a[1]) && small_number(E, e->a[0]) && small_number(E, e->a[1])) {
    x = LLVMBuildTrunc(b, x, n, ""), y = LLVMBuildTrunc(b, y, n, ""); // vectors have no wide multiplication of 64 bits
    sd_ll q = LLVMBuildUDiv(b, x, y, "");
    *out_rem = LLVMBuildZExt(b, LLVMBuildSub(b, x, LLVMBuildMul(b, q, y, ""), ""), t, "");
    return LLVMBuildZExt(b, q, t, "");
  }
  sd_ll bad = NULL, d = y;
  if (!safe_divisor(e->a[1])) {
    bad = LLVMBuildICmp(b, LLVMIntEQ, y, zero_of(y), "");
    sd_ll risky = bad;
    if (!u) {
      unsigned bits = LLVMGetIntTypeWidth(element(t));
      sd_ll low = LLVMBuildICmp(b, LLVMIntEQ, x, sd_emit_splat_i(t, (int64_t)(1ull << (bits - 1))), "");
      sd_ll minus = LLVMBuildICmp(b, LLVMIntEQ, y, sd_emit_splat_i(t, -1), "");
      risky = LLVMBuildOr(b, bad, LLVMBuildAnd(b, low, minus, ""), "");
    }
    d = LLVMBuildSelect(b, risky, sd_emit_splat_i(t, 1), y, "");
  }
  sd_ll q = u ? LLVMBuildUDiv(b, x, d, "") : LLVMBuildSDiv(b, x, d, "");
  *out_rem = LLVMBuildSub(b, x, LLVMBuildMul(b, q, d, ""), "");
  if (bad) {
    q = LLVMBuildSelect(b, bad, zero_of(q), q, "");
    *out_rem = LLVMBuildSelect(b, bad, zero_of(q), *out_rem, "");
  }
  return q;
}

static sd_ll floor_divide(sd_emit *E, const sd_expr *e, sd_ll x, sd_ll y, bool want_rem) {
  LLVMBuilderRef b = E->b;
  sd_ll rem, q = divide(E, e, x, y, &rem);
  if (not_negative(E, e->a[0]) && not_negative(E, e->a[1])) return want_rem ? rem : q;
  sd_ll off = LLVMBuildAnd(b, LLVMBuildICmp(b, LLVMIntNE, rem, zero_of(rem), ""),
                           LLVMBuildICmp(b, LLVMIntSLT, LLVMBuildXor(b, x, y, ""), zero_of(x), ""), "");
  if (want_rem) return LLVMBuildSelect(b, off, LLVMBuildAdd(b, rem, y, ""), rem, "");
  return LLVMBuildSelect(b, off, LLVMBuildSub(b, q, sd_emit_splat_i(LLVMTypeOf(q), 1), ""), q, "");
}

// ---- shifts ----
static sd_ll shift(sd_emit *E, const sd_expr *e, sd_ll x, sd_ll n) {
  LLVMTypeRef t = LLVMTypeOf(x);
  int bits = sd_dtype_bits(e->dtype);
  bool arithmetic = e->op == SD_X_SHR && sd_dtype_kind_of(e->dtype) == SD_DK_I;
  int64_t v;
  bool known = sd_x_const_value(e->a[1], NULL, &v) && v >= 0 && v < bits;
  sd_ll ok = known ? NULL : LLVMBuildICmp(E->b, LLVMIntULT, n, sd_emit_splat_i(t, bits), "");
  if (ok) n = LLVMBuildSelect(E->b, ok, n, arithmetic ? sd_emit_splat_i(t, bits - 1) : LLVMConstNull(t), "");
  sd_ll r = e->op == SD_X_SHL ? LLVMBuildShl(E->b, x, n, "")
            : arithmetic      ? LLVMBuildAShr(E->b, x, n, "")
                              : LLVMBuildLShr(E->b, x, n, "");
  return ok && !arithmetic ? LLVMBuildSelect(E->b, ok, r, LLVMConstNull(t), "") : r;
}

// ---- rounding ----
// Without rounding instructions: adding and subtracting 2^23 (2^52) rounds to even; larger numbers are whole already.
static sd_ll round_slow(sd_emit *E, sd_xop op, sd_ll x) {
  LLVMBuilderRef b = E->b;
  LLVMTypeRef t = LLVMTypeOf(x);
  double big = element(t) == E->f32 ? 0x1p23 : 0x1p52;
  sd_ll m = intrinsic1(E, "llvm.fabs", x), one = sd_emit_splat_f(t, 1);
  sd_ll r = LLVMBuildFSub(b, LLVMBuildFAdd(b, m, sd_emit_splat_f(t, big), ""), sd_emit_splat_f(t, big), "");
  sd_ll small = LLVMBuildFCmp(b, LLVMRealOLT, m, sd_emit_splat_f(t, big), "");
  if (op == SD_X_TRUNC)
    r = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, r, m, ""), LLVMBuildFSub(b, r, one, ""), r, "");
  r = sd_emit_intrinsic(E, "llvm.copysign", &t, 1, (sd_ll[]){r, x}, 2);
  if (op == SD_X_FLOOR)
    r = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, r, x, ""), LLVMBuildFSub(b, r, one, ""), r, "");
  if (op == SD_X_CEIL) {
    r = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, r, x, ""), LLVMBuildFAdd(b, r, one, ""), r, "");
    r = sd_emit_intrinsic(E, "llvm.copysign", &t, 1, (sd_ll[]){r, x}, 2); // ceil(-0.5) is -0
  }
  return LLVMBuildSelect(b, small, r, x, "");
}

static sd_ll rounding(sd_emit *E, sd_xop op, sd_ll x) {
  if (!E->has_round) return round_slow(E, op, x);
  return intrinsic1(E, op == SD_X_FLOOR ? "llvm.floor" : op == SD_X_CEIL ? "llvm.ceil" : op == SD_X_TRUNC ? "llvm.trunc" : "llvm.roundeven", x);
}

// ---- casts ----
// What sd_scalar_from_float says. The comparison is also for x86, whose instructions do the same: constants would be folded
// to anything.
static sd_ll to_signed(sd_emit *E, sd_ll v, LLVMTypeRef w) {
  bool wide = LLVMGetIntTypeWidth(element(w)) == 64;
  sd_ll limit = sd_emit_splat_f(LLVMTypeOf(v), wide ? 0x1p63 : 0x1p31);
  sd_ll inside = LLVMBuildFCmp(E->b, LLVMRealOLT, intrinsic1(E, "llvm.fabs", v), limit, "");
  sd_ll r = LLVMBuildFreeze(E->b, LLVMBuildFPToSI(E->b, v, w, ""), "");
  return LLVMBuildSelect(E->b, inside, r, sd_emit_splat_i(w, wide ? INT64_MIN : INT32_MIN), "");
}

static sd_ll float_to_int(sd_emit *E, sd_dtype to, sd_ll v, LLVMTypeRef t) {
  bool wide = sd_dtype_bits(to) == 64 || to == SD_U32;
  LLVMTypeRef w = like(LLVMTypeOf(v), wide ? E->i64 : E->i32);
  sd_ll r = to_signed(E, v, w);
  if (to == SD_U64) { // from 2^63 on, by way of the number less 2^63
    sd_ll top = sd_emit_splat_f(LLVMTypeOf(v), 0x1p63), high = LLVMBuildFCmp(E->b, LLVMRealOGE, v, top, "");
    sd_ll other = LLVMBuildXor(E->b, to_signed(E, LLVMBuildFSub(E->b, v, top, ""), w), sd_emit_splat_i(w, INT64_MIN), "");
    r = LLVMBuildSelect(E->b, high, other, r, "");
  }
  return w == t ? r : LLVMBuildTrunc(E->b, r, t, "");
}

sd_ll sd_emit_cast(sd_emit *E, sd_dtype from, sd_dtype to, sd_ll v, bool lanes) {
  if (from == to) return v;
  LLVMTypeRef t = sd_emit_vtype(E, sd_emit_type(E, to), lanes), vt = LLVMTypeOf(v);
  bool ff = sd_dtype_is_float(from), tf = sd_dtype_is_float(to);
  bool fs = sd_dtype_kind_of(from) == SD_DK_I;
  if (to == SD_BOOL)
    return ff ? LLVMBuildFCmp(E->b, LLVMRealUNE, v, LLVMConstNull(vt), "") : LLVMBuildICmp(E->b, LLVMIntNE, v, LLVMConstNull(vt), "");
  if (ff && tf) return sd_dtype_bits(to) > sd_dtype_bits(from) ? LLVMBuildFPExt(E->b, v, t, "") : LLVMBuildFPTrunc(E->b, v, t, "");
  if (ff) return float_to_int(E, to, v, t);
  if (tf) return fs ? LLVMBuildSIToFP(E->b, v, t, "") : LLVMBuildUIToFP(E->b, v, t, "");
  unsigned a = LLVMGetIntTypeWidth(element(vt)), z = LLVMGetIntTypeWidth(element(t));
  if (a == z) return v;
  if (a > z) return LLVMBuildTrunc(E->b, v, t, "");
  return fs ? LLVMBuildSExt(E->b, v, t, "") : LLVMBuildZExt(E->b, v, t, "");
}

// f32 v to the nearest integers in one instruction; what is none of i32 gives the lowest.
sd_ll sd_emit_round_to_i32(sd_emit *E, sd_ll v) {
  unsigned n = lanes_of(LLVMTypeOf(v));
  bool x86 = !strcmp(E->isa->arch, "x86_64");
  if (x86 && n == 16) {
    sd_ll args[4] = {v, LLVMConstNull(like(LLVMTypeOf(v), E->i32)), LLVMConstAllOnes(E->i16), LLVMConstInt(E->i32, 4, 0)};
    return sd_emit_intrinsic(E, "llvm.x86.avx512.mask.cvtps2dq.512", NULL, 0, args, 4);
  }
  if (x86 && n == 8) return sd_emit_intrinsic(E, "llvm.x86.avx.cvt.ps2dq.256", NULL, 0, &v, 1);
  if (x86 && n == 4) return sd_emit_intrinsic(E, "llvm.x86.sse2.cvtps2dq", NULL, 0, &v, 1);
  return to_signed(E, rounding(E, SD_X_ROUND, v), like(LLVMTypeOf(v), E->i32));
}

// v / c of f32, where c is neither near overflow nor near underflow: the product with the reciprocal and what is left over,
// which is exact. Only quotients below the normal numbers may differ in their last bit.
static sd_ll divide_by_constant(sd_emit *E, sd_ll v, double c) {
  LLVMTypeRef t = LLVMTypeOf(v);
  sd_ll r = sd_emit_splat_f(t, (double)(1 / (float)c)), q = LLVMBuildFMul(E->b, v, r, "");
  sd_ll rest = sd_emit_fma(E, LLVMBuildFNeg(E->b, q, ""), sd_emit_splat_f(t, c), v);
  sd_ll finite = LLVMBuildFCmp(E->b, LLVMRealOLT, intrinsic1(E, "llvm.fabs", q), sd_emit_splat_f(t, INFINITY), "");
  return LLVMBuildSelect(E->b, finite, sd_emit_fma(E, rest, r, q), q, "");
}

static sd_ll divide_float(sd_emit *E, const sd_expr *e, sd_ll x, sd_ll y) {
  double c;
  int power;
  bool known = e->dtype == SD_F32 && lanes_of(LLVMTypeOf(x)) && E->has_fma && sd_x_const_value(e->a[1], &c, NULL);
  if (known && fabs(c) > 0x1p-60 && fabs(c) < 0x1p60 && fabs(frexp(c, &power)) != 0.5) return divide_by_constant(E, x, c);
  return LLVMBuildFDiv(E->b, x, y, "");
}

// ---- the rest ----
static sd_ll compare(sd_emit *E, const sd_expr *e, sd_ll x, sd_ll y) {
  sd_dtype t = e->a[0]->dtype;
  if (sd_dtype_is_float(t)) {
    LLVMRealPredicate p = e->op == SD_X_EQ ? LLVMRealOEQ : e->op == SD_X_NE ? LLVMRealUNE : e->op == SD_X_LT ? LLVMRealOLT : LLVMRealOLE;
    return LLVMBuildFCmp(E->b, p, x, y, "");
  }
  bool u = sd_dtype_kind_of(t) != SD_DK_I;
  LLVMIntPredicate p = e->op == SD_X_EQ   ? LLVMIntEQ
                       : e->op == SD_X_NE ? LLVMIntNE
                       : e->op == SD_X_LT ? (u ? LLVMIntULT : LLVMIntSLT)
                                          : (u ? LLVMIntULE : LLVMIntSLE);
  return LLVMBuildICmp(E->b, p, x, y, "");
}

static sd_ll sign(sd_emit *E, const sd_expr *e, sd_ll x) {
  LLVMTypeRef t = LLVMTypeOf(x);
  sd_ll z = LLVMConstNull(t);
  if (sd_dtype_is_float(e->dtype)) { // 0 and NaN stay
    sd_ll r = LLVMBuildSelect(E->b, LLVMBuildFCmp(E->b, LLVMRealOLT, x, z, ""), sd_emit_splat_f(t, -1), x, "");
    return LLVMBuildSelect(E->b, LLVMBuildFCmp(E->b, LLVMRealOGT, x, z, ""), sd_emit_splat_f(t, 1), r, "");
  }
  sd_ll nz = LLVMBuildZExt(E->b, LLVMBuildICmp(E->b, LLVMIntNE, x, z, ""), t, "");
  if (sd_dtype_kind_of(e->dtype) != SD_DK_I) return nz;
  return LLVMBuildOr(E->b, LLVMBuildAShr(E->b, x, sd_emit_splat_i(t, sd_dtype_bits(e->dtype) - 1), ""), nz, "");
}

// Out of range lanes set the flag (kept on the stack, written back at the end) and become 0.
static sd_ll index_check(sd_emit *E, sd_ll x, sd_ll y, bool lanes) {
  sd_ll ok = LLVMBuildICmp(E->b, LLVMIntULT, x, y, "");
  sd_ll bad = LLVMBuildNot(E->b, ok, ""), mask = lanes ? sd_emit_lane_mask(E) : NULL;
  if (mask) bad = LLVMBuildAnd(E->b, bad, mask, "");
  if (!E->err) {
    E->err = LLVMBuildAlloca(E->entry, E->i32, "");
    LLVMBuildStore(E->entry, LLVMConstInt(E->i32, 0, 0), E->err);
  }
  sd_ll flag = LLVMBuildZExt(E->b, sd_emit_any(E, bad), E->i32, "");
  LLVMBuildStore(E->b, LLVMBuildOr(E->b, LLVMBuildLoad2(E->b, E->i32, E->err, ""), flag, ""), E->err);
  return LLVMBuildSelect(E->b, ok, x, LLVMConstNull(LLVMTypeOf(x)), "");
}

static bool all_ones(sd_ll v) {
  int64_t c;
  return sd_emit_const(v, &c) && c == -1;
}

static sd_ll int_op(sd_emit *E, const sd_expr *e, sd_ll *v) {
  LLVMBuilderRef b = E->b;
  sd_ll rem;
  switch (e->op) {
  case SD_X_ADD: return LLVMBuildAdd(b, v[0], v[1], "");
  case SD_X_SUB: return LLVMBuildSub(b, v[0], v[1], "");
  case SD_X_MUL: return LLVMBuildMul(b, v[0], v[1], "");
  case SD_X_DIV: return divide(E, e, v[0], v[1], &rem);
  case SD_X_FMOD: return divide(E, e, v[0], v[1], &rem), rem;
  case SD_X_FLOORDIV: return floor_divide(E, e, v[0], v[1], false);
  case SD_X_MOD: return floor_divide(E, e, v[0], v[1], true);
  case SD_X_AND: return all_ones(v[0]) ? v[1] : all_ones(v[1]) ? v[0] : LLVMBuildAnd(b, v[0], v[1], "");
  case SD_X_OR: return LLVMBuildOr(b, v[0], v[1], "");
  case SD_X_XOR: return LLVMBuildXor(b, v[0], v[1], "");
  case SD_X_SHL:
  case SD_X_SHR: return shift(E, e, v[0], v[1]);
  case SD_X_NOT: return LLVMBuildNot(b, v[0], "");
  case SD_X_NEG: return LLVMBuildNeg(b, v[0], "");
  case SD_X_ABS:
    if (sd_dtype_kind_of(e->dtype) != SD_DK_I) return v[0];
    return LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntSLT, v[0], zero_of(v[0]), ""), LLVMBuildNeg(b, v[0], ""), v[0], "");
  case SD_X_FLOOR:
  case SD_X_CEIL:
  case SD_X_ROUND:
  case SD_X_TRUNC: return v[0];
  case SD_X_FMA: return LLVMBuildAdd(b, LLVMBuildMul(b, v[0], v[1], ""), v[2], "");
  default: return NULL;
  }
}

// x * 2^y of f32 in the AVX-512 instruction (codegen/vmath.h); a scalar goes through a vector.
static sd_ll scale_by_power(sd_emit *E, sd_ll x, sd_ll y) {
  LLVMBuilderRef b = E->b;
  unsigned n = lanes_of(LLVMTypeOf(x)), w = n ? n : 16;
  LLVMTypeRef t = LLVMVectorType(E->f32, w);
  sd_ll zero = LLVMConstInt(E->i32, 0, 0);
  if (!n) x = LLVMBuildInsertElement(b, LLVMGetUndef(t), x, zero, ""), y = LLVMBuildInsertElement(b, LLVMGetUndef(t), y, zero, "");
  sd_ll all = LLVMConstAllOnes(w == 16 ? E->i16 : E->i8), r;
  if (w == 16)
    r = sd_emit_intrinsic(E, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0,
                          (sd_ll[]){x, y, LLVMConstNull(t), all, LLVMConstInt(E->i32, 4, 0)}, 5);
  else
    r = sd_emit_intrinsic(E, "llvm.x86.avx512.mask.scalef.ps.256", NULL, 0, (sd_ll[]){x, y, LLVMConstNull(t), all}, 4);
  return n ? r : LLVMBuildExtractElement(b, r, zero, "");
}

static sd_ll float_op(sd_emit *E, const sd_expr *e, sd_ll *v) {
  LLVMBuilderRef b = E->b;
  switch (e->op) {
  case SD_X_ADD: return LLVMBuildFAdd(b, v[0], v[1], "");
  case SD_X_SUB: return LLVMBuildFSub(b, v[0], v[1], "");
  case SD_X_MUL: return LLVMBuildFMul(b, v[0], v[1], "");
  case SD_X_DIV: return divide_float(E, e, v[0], v[1]);
  case SD_X_NEG: return LLVMBuildFNeg(b, v[0], "");
  case SD_X_ABS: return intrinsic1(E, "llvm.fabs", v[0]);
  case SD_X_SQRT: return intrinsic1(E, "llvm.sqrt", v[0]);
  case SD_X_FLOOR:
  case SD_X_CEIL:
  case SD_X_ROUND:
  case SD_X_TRUNC: return rounding(E, e->op, v[0]);
  case SD_X_FMA: return sd_emit_fma(E, v[0], v[1], v[2]);
  case SD_X_SHL: return E->isa->vector_bytes == 64 && e->dtype == SD_F32 ? scale_by_power(E, v[0], v[1]) : NULL;
  default: return NULL;
  }
}

sd_ll sd_emit_op(sd_emit *E, const sd_expr *e, sd_ll *v, bool lanes) {
  LLVMTypeRef t = sd_emit_vtype(E, sd_emit_type(E, e->dtype), lanes);
  sd_ll r;
  switch (e->op) {
  case SD_X_EQ:
  case SD_X_NE:
  case SD_X_LT:
  case SD_X_LE: return compare(E, e, v[0], v[1]);
  case SD_X_MIN:
  case SD_X_MAX: return sd_emit_minmax(E, e->dtype, e->op == SD_X_MAX, v[0], v[1]);
  case SD_X_SIGN: return sign(E, e, v[0]);
  case SD_X_SEL:
    if (LLVMIsAConstantInt(v[0])) return LLVMIsNull(v[0]) ? v[2] : v[1];
    return LLVMBuildSelect(E->b, v[0], v[1], v[2], "");
  case SD_X_CAST: return sd_emit_cast(E, e->a[0]->dtype, e->dtype, v[0], lanes);
  case SD_X_BITS: // a bool is one bit here and a byte in memory
    if (e->a[0]->dtype == SD_BOOL) v[0] = sd_emit_cast(E, SD_BOOL, SD_U8, v[0], lanes);
    if (e->dtype == SD_BOOL) return sd_emit_cast(E, SD_U8, SD_BOOL, v[0], lanes);
    return LLVMBuildBitCast(E->b, v[0], t, "");
  case SD_X_INDEX: return index_check(E, v[0], v[1], lanes);
  case SD_X_ISNAN:
    return sd_dtype_is_float(e->a[0]->dtype) ? LLVMBuildFCmp(E->b, LLVMRealUNO, v[0], v[0], "") : LLVMConstNull(t);
  case SD_X_ISINF:
    if (!sd_dtype_is_float(e->a[0]->dtype)) return LLVMConstNull(t);
    return LLVMBuildFCmp(E->b, LLVMRealOEQ, intrinsic1(E, "llvm.fabs", v[0]), sd_emit_splat_f(LLVMTypeOf(v[0]), __builtin_inf()), "");
  default: break;
  }
  r = sd_dtype_is_float(e->dtype) ? float_op(E, e, v) : int_op(E, e, v);
  if (r) return r;
  static const char *const names[] = {
#define X(e, t, n) [SD_X_##e] = #e,
      SD_XOPS(X)
#undef X
  };
  sd_emit_fail(E, SD_ERR(UNSUPPORTED, "kernel %s: no code for %s of %s", E->k->name, names[e->op], sd_dtype_name(e->dtype)));
  return LLVMConstNull(t);
}
