// Sard's kernels: types, conversions, arithmetic, reductions of a group of threads. Needs no header of CUDA.
typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

// The tests run this text on a processor: they bring their own form of what follows.
#ifndef SD_HOST
#define SD_LD(p, i) ((p)[i])
#define SD_ST(p, i, v) ((p)[i] = (v))
#define SD_SHARED(type, name, count) __shared__ type name[count]
#define SD_ATOMIC_AND(p, v) atomicAnd((p), (v))
#define SD_ATOMIC_OR(p, v) atomicOr((p), (v))
#endif
#define SD_FN __device__ __forceinline__
// Blocks of a processor at once. Older GPUs copy to shared memory by registers, which do not suffice for several.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define SD_BLOCKS(n) n
#else
#define SD_BLOCKS(n) 1
#endif

template <class T, class F> SD_FN T sd_bits(F f) {
  static_assert(sizeof(T) == sizeof(F), "types of one width");
  union { F f; T t; } u;
  u.f = f;
  return u.t;
}

// ---- arithmetic: integers wrap, division by zero gives 0 ----
template <class T> struct sd_is_float { static const bool value = false; };
template <> struct sd_is_float<float> { static const bool value = true; };
template <> struct sd_is_float<double> { static const bool value = true; };

template <class T> SD_FN T sd_add(T x, T y) {
  if constexpr (sd_is_float<T>::value) return x + y;
  else return (T)((u64)x + (u64)y);
}
template <class T> SD_FN T sd_sub(T x, T y) { return (T)((u64)x - (u64)y); }
template <class T> SD_FN T sd_mul(T x, T y) {
  if constexpr (sd_is_float<T>::value) return x * y;
  else return (T)((u64)x * (u64)y);
}
template <class T> SD_FN T sd_min(T x, T y) { return x != x || y != y ? (T)(x + y) : x < y ? x : y; }
template <class T> SD_FN T sd_max(T x, T y) { return x != x || y != y ? (T)(x + y) : x > y ? x : y; }
#if !defined(SD_HOST) && __CUDA_ARCH__ >= 800
template <> SD_FN float sd_min<float>(float x, float y) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
template <> SD_FN float sd_max<float>(float x, float y) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
#endif
template <class T> SD_FN T sd_div(T x, T y) {
  if (y == 0) return 0;
  if ((T)-1 < (T)0 && y == (T)-1) return sd_sub<T>(0, x);
  return (T)(x / y);
}
template <class T> SD_FN T sd_rem(T x, T y) {
  if (y == 0 || ((T)-1 < (T)0 && y == (T)-1)) return 0;
  return (T)(x % y);
}
template <class T> SD_FN T sd_floordiv(T x, T y) {
  T q = sd_div<T>(x, y), r = sd_rem<T>(x, y);
  return r != 0 && ((r < 0) != (y < 0)) ? (T)(q - 1) : q;
}
template <class T> SD_FN T sd_mod(T x, T y) {
  T r = sd_rem<T>(x, y);
  return r != 0 && ((r < 0) != (y < 0)) ? (T)(r + y) : r;
}
template <class T> SD_FN T sd_shl(T x, T n) { return (u64)n < sizeof(T) * 8 ? (T)((u64)x << (u64)n) : (T)0; }
template <class T> SD_FN T sd_shr(T x, T n) {
  if ((u64)n < sizeof(T) * 8) return (T)(x >> n);
  return x < 0 ? (T)-1 : (T)0;
}
template <class T> SD_FN T sd_abs(T x) { return x < 0 ? sd_sub<T>(0, x) : x; }
template <class T> SD_FN T sd_sign(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; } // 0 and NaN stay

// 2^23 + x of 0 <= x < 256.
SD_FN float sd_biased(unsigned x) { return sd_bits<float>(0x4b000000u | x); }

// What no integer of the format has, NaN among it, becomes the least integer; types below 32 bits are cut out of an i32,
// unsigned ones of 32 bits out of an i64.
template <class W, class F> SD_FN W sd_to_signed(F v) {
  const F limit = sizeof(W) == 8 ? (F)9223372036854775808.0 : (F)2147483648.0;
  const W least = sizeof(W) == 8 ? (W)(1ull << 63) : (W)(1u << 31);
  return v < limit && v >= -limit ? (W)v : least;
}
template <class T, class F> SD_FN T sd_to_int(F v) {
  if constexpr (sizeof(T) == 8 && (T)-1 > (T)0) {
    const F top = (F)9223372036854775808.0;
    return v >= top ? (T)sd_to_signed<i64>(v - top) ^ 1ull << 63 : (T)sd_to_signed<i64>(v);
  } else if constexpr (sizeof(T) == 8 || (sizeof(T) == 4 && (T)-1 > (T)0)) {
    return (T)sd_to_signed<i64>(v);
  } else {
    return (T)sd_to_signed<int>(v);
  }
}

// e^x within 2 units in the last place, results below 2^-126 are 0: 2^t is an instruction, and what x log2(e) lost in
// rounding is made up for.
SD_FN float sd_exp(float x) {
  const float t = x * 0x1.715476p+0f, low = fmaf(x, 0x1.4ae0cp-26f, fmaf(x, 0x1.715476p+0f, -t));
#ifdef SD_HOST
  const float e = exp2f(t);
#else
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(t));
#endif
  return fabsf(t) < 200.0f ? fmaf(e, low * 0x1.62e43p-1f, e) : e;
}

// x / y within 2 units in the last place, y in [1, 2^100].
SD_FN float sd_about(float x, float y) {
#ifdef SD_HOST
  return x * (1 / y);
#else
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(y));
  return x * r;
#endif
}

// x where 0 <= x < n; else 0, and the error is noted.
SD_FN i64 sd_index(i64 x, i64 n, unsigned *error) {
  if ((u64)x < (u64)n) return x;
  SD_ATOMIC_OR(error, 1u);
  return 0;
}

// ---- narrow floats ----
// INF: code of infinity, NaNs above it. NOT: the only NaN of a format without infinity; 0: it has none. LARGEST: what a
// finite number beyond it becomes. NZ: it has no minus zero.
template <int M, int BIAS, unsigned SIGN, unsigned INF, unsigned NOT, bool NZ> SD_FN float sd_decode(unsigned x) {
  const int up = 31 - (SIGN == 0x8000 ? 15 : SIGN == 0x80 ? 7 : SIGN == 0x20 ? 5 : 3);
  const unsigned mag = x & (SIGN - 1), sign = (x & SIGN) << up;
  unsigned v = sd_bits<unsigned>(sd_bits<float>(mag << (23 - M)) * sd_bits<float>((unsigned)(254 - BIAS) << 23));
  if (INF && mag >= INF) v |= 0x7f800000u;
  if (!INF && NOT && (NZ ? x : mag) == NOT) v |= 0x7fc00000u;
  return sd_bits<float>(v | sign);
}
template <int M, int BIAS, unsigned SIGN, unsigned LARGEST, unsigned INF, unsigned NOT, bool NZ> SD_FN unsigned sd_encode(float f) {
  const int drop = 23 - M, up = 31 - (SIGN == 0x8000 ? 15 : SIGN == 0x80 ? 7 : SIGN == 0x20 ? 5 : 3);
  const unsigned x = sd_bits<unsigned>(f), a = x & 0x7fffffffu;
  unsigned r = ((a + ((1u << (drop - 1)) - 1) + (a >> drop & 1)) >> drop) - ((unsigned)(127 - BIAS) << M);
  const float unit = sd_bits<float>((unsigned)(127 + 24 - BIAS - M) << 23); // last place: the smallest denormal
  if (a < (unsigned)(128 - BIAS) << 23) r = sd_bits<unsigned>(sd_bits<float>(a) + unit) - sd_bits<unsigned>(unit);
  // the smallest f32 that does not round to a smaller code is halfway; larger ones, and infinity, are caught here
  if (r > LARGEST) r = LARGEST;
  const bool nan = a > 0x7f800000u;
  unsigned s = x >> up & SIGN;
  if (INF && INF != LARGEST && a == 0x7f800000u) r = INF;
  if (NZ) { // infinity is NaN too; neither has a sign
    if (r == 0) s = 0;
    return a >= 0x7f800000u ? NOT : r | s;
  }
  if (!INF && !NOT) return nan ? LARGEST : r | s;
  if (nan) r = INF ? INF | 1u << (M - 1) : NOT;
  return r | s;
}
#define SD_FORMAT(name, type, M, BIAS, SIGN, LARGEST, INF, NOT, NZ)                                                    \
  SD_FN float sd_from_##name(type x) { return sd_decode<M, BIAS, SIGN, INF, NOT, NZ>(x); }                            \
  SD_FN type sd_to_##name(float x) { return (type)sd_encode<M, BIAS, SIGN, LARGEST, INF, NOT, NZ>(x); }
SD_FORMAT(f8e4m3fn, u8, 3, 7, 0x80, 0x7e, 0, 0x7f, false)
SD_FORMAT(f8e4m3fnuz, u8, 3, 8, 0x80, 0x7f, 0, 0x80, true)
SD_FORMAT(f8e5m2, u8, 2, 15, 0x80, 0x7b, 0x7c, 0, false)
SD_FORMAT(f8e5m2fnuz, u8, 2, 16, 0x80, 0x7f, 0, 0x80, true)
SD_FORMAT(f4e2m1, u8, 1, 1, 0x8, 0x7, 0, 0, false)
SD_FORMAT(f6e2m3, u8, 3, 1, 0x20, 0x1f, 0, 0, false)
SD_FORMAT(f6e3m2, u8, 2, 3, 0x20, 0x1f, 0, 0, false)
#ifdef SD_HOST
SD_FORMAT(f16, u16, 10, 15, 0x8000, 0x7c00, 0x7c00, 0, false)
#else
SD_FN float sd_from_f16(u16 x) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x));
  return f;
}
SD_FN u16 sd_to_f16(float f) {
  u16 x;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(x) : "f"(f));
  return f != f ? (u16)(0x7e00u | sd_bits<unsigned>(f) >> 16 & 0x8000u) : x;
}
#endif
SD_FN float sd_from_bf16(u16 x) { return sd_bits<float>((unsigned)x << 16); }
SD_FN u16 sd_to_bf16(float f) {
  const unsigned x = sd_bits<unsigned>(f);
  return (u16)(f != f ? x >> 16 | 0x40u : (x + 0x7fffu + (x >> 16 & 1)) >> 16);
}
// 2^(code - 127): the code is the exponent of an f32; 0 is the denormal below, 255 NaN.
SD_FN float sd_from_f8e8m0(u8 x) { return sd_bits<float>(x == 255 ? 0x7fc00000u : x == 0 ? 0x400000u : (unsigned)x << 23); }
// The nearest power of two, a tie to the even exponent; negative numbers are NaN.
SD_FN u8 sd_to_f8e8m0(float f) {
  const unsigned a = sd_bits<unsigned>(f) & 0x7fffffffu, code = a >> 23;
  unsigned r = (a + 0x3fffffu + (code & 1)) >> 23;
  if (code == 0) r = a > 0x600000u;
  if (r > 254) r = 254;
  return (u8)(f != f || f < 0 ? 255u : r);
}

// ---- elements below a byte, the first one in the low bits ----
template <int BITS> SD_FN u8 sd_ld_bits(const u8 *p, i64 i) {
  const int per = 8 / BITS;
  return (u8)(SD_LD(p, i / per) >> (int)(i % per) * BITS & ((1 << BITS) - 1));
}
// Others may own the rest of the byte.
template <int BITS> SD_FN void sd_st_bits(u8 *p, i64 i, unsigned code) {
  const u64 at = (u64)p + (u64)i / (8 / BITS), word = at & ~3ull;
  const unsigned shift = (unsigned)(at - word) * 8 + (unsigned)((u64)i % (8 / BITS)) * BITS, mask = ((1u << BITS) - 1) << shift;
  SD_ATOMIC_AND((unsigned *)word, ~mask);
  SD_ATOMIC_OR((unsigned *)word, code << shift & mask);
}
template <int BITS> SD_FN i8 sd_sign_extend(u8 x) { return (i8)((i8)(x << (8 - BITS)) >> (8 - BITS)); }

// ---- N neighbouring elements as one access; p + i is at a multiple of their bytes, or of 16 ----
#ifndef SD_HOST
template <int N, class T> SD_FN void sd_unpack(T *to, const unsigned *w) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    if constexpr (sizeof(T) == 8) to[j] = sd_bits<T>((u64)w[2 * j] | (u64)w[2 * j + 1] << 32);
    else if constexpr (sizeof(T) == 4) to[j] = sd_bits<T>(w[j]);
    else if constexpr (sizeof(T) == 2) to[j] = (T)(u16)(w[j / 2] >> j % 2 * 16);
    else to[j] = (T)(u8)(w[j / 4] >> j % 4 * 8);
  }
}
template <int N, class T> SD_FN void sd_pack(unsigned *w, const T *from) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    if constexpr (sizeof(T) == 8) w[2 * j] = (unsigned)sd_bits<u64>(from[j]), w[2 * j + 1] = (unsigned)(sd_bits<u64>(from[j]) >> 32);
    else if constexpr (sizeof(T) == 4) w[j] = sd_bits<unsigned>(from[j]);
    else if constexpr (sizeof(T) == 2) w[j / 2] = (j % 2 ? w[j / 2] : 0) | (unsigned)(u16)from[j] << j % 2 * 16;
    else w[j / 4] = (j % 4 ? w[j / 4] : 0) | (unsigned)(u8)from[j] << j % 4 * 8;
  }
}
template <int N, class T> SD_FN void sd_load_vector(T *to, const T *p, i64 i) {
  constexpr int bytes = N * (int)sizeof(T), part = 16 / (int)sizeof(T);
  p += i;
  if constexpr (bytes > 16) {
#pragma unroll
    for (int j = 0; j < N; j += part) sd_load_vector<part>(to + j, p, j);
  } else if constexpr (bytes == 16) {
    const uint4 v = *(const uint4 *)p;
    const unsigned w[4] = {v.x, v.y, v.z, v.w};
    sd_unpack<N>(to, w);
  } else if constexpr (bytes == 8) {
    const uint2 v = *(const uint2 *)p;
    const unsigned w[2] = {v.x, v.y};
    sd_unpack<N>(to, w);
  } else if constexpr (bytes == 4) {
    const unsigned w[1] = {*(const unsigned *)p};
    sd_unpack<N>(to, w);
  } else if constexpr (bytes == 2) {
    const unsigned w[1] = {*(const u16 *)p};
    sd_unpack<N>(to, w);
  } else {
    to[0] = *p;
  }
}
template <int N, class T> SD_FN void sd_store_vector(T *p, i64 i, const T *from) {
  constexpr int bytes = N * (int)sizeof(T), part = 16 / (int)sizeof(T);
  p += i;
  if constexpr (bytes > 16) {
#pragma unroll
    for (int j = 0; j < N; j += part) sd_store_vector<part>(p, j, from + j);
  } else {
    unsigned w[4];
    sd_pack<N>(w, from);
    if constexpr (bytes == 16) *(uint4 *)p = make_uint4(w[0], w[1], w[2], w[3]);
    else if constexpr (bytes == 8) *(uint2 *)p = make_uint2(w[0], w[1]);
    else if constexpr (bytes == 4) *(unsigned *)p = w[0];
    else if constexpr (bytes == 2) *(u16 *)p = (u16)w[0];
    else *p = from[0];
  }
}
#endif

// ---- reductions of a group of threads: every thread gets the result ----
struct sd_op_sum { template <class T> static __device__ __forceinline__ T of(T x, T y) { return sd_add<T>(x, y); } };
struct sd_op_prod { template <class T> static __device__ __forceinline__ T of(T x, T y) { return sd_mul<T>(x, y); } };
struct sd_op_max { template <class T> static __device__ __forceinline__ T of(T x, T y) { return sd_max<T>(x, y); } };
struct sd_op_min { template <class T> static __device__ __forceinline__ T of(T x, T y) { return sd_min<T>(x, y); } };
SD_FN float sd_shuffle(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
SD_FN double sd_shuffle(double x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
SD_FN i64 sd_shuffle(i64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
SD_FN u64 sd_shuffle(u64 x, int mask) { return (u64)__shfl_xor_sync(0xffffffffu, (i64)x, mask); }
SD_FN unsigned sd_shuffle(unsigned x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
template <class T> SD_FN T sd_shuffle(T x, int mask) { return (T)__shfl_xor_sync(0xffffffffu, (int)x, mask); }

template <class OP, int GROUP, class T> SD_FN T sd_part_reduce(T x) { // of GROUP neighbours in a warp
#pragma unroll
  for (int mask = GROUP / 2; mask > 0; mask >>= 1) x = OP::template of<T>(x, sd_shuffle(x, mask));
  return x;
}
template <class OP, class T> SD_FN T sd_warp_reduce(T x) { return sd_part_reduce<OP, 32, T>(x); }
// Of N accumulators of a thread.
template <class OP, int N, class T> SD_FN T sd_fold(const T *r) {
  if constexpr (N == 1) return r[0];
  else return OP::template of<T>(sd_fold<OP, (N + 1) / 2, T>(r), sd_fold<OP, N / 2, T>(r + (N + 1) / 2));
}
// `exchange`: shared memory of a word for each warp.
template <class OP, int THREADS, class T> SD_FN T sd_block_reduce(T x, u64 *exchange) {
  T *const part = (T *)exchange;
  x = sd_warp_reduce<OP>(x);
  if (threadIdx.x % 32 == 0) SD_ST(part, threadIdx.x / 32, x);
  __syncthreads();
  x = SD_LD(part, 0);
  for (int i = 1; i < THREADS / 32; i++) x = OP::template of<T>(x, SD_LD(part, i));
  __syncthreads();
  return x;
}
// N results for each of STRIP neighbouring threads, of which each STRIP-th one has a part. `part`: N * STRIP for each warp.
template <class OP, int THREADS, int STRIP, int N, class T> SD_FN void sd_column_reduce(T *r, u64 *exchange) {
  T *const part = (T *)exchange;
  const int at = (int)threadIdx.x % STRIP * N;
#pragma unroll
  for (int mask = 16; mask >= STRIP; mask >>= 1)
#pragma unroll
    for (int i = 0; i < N; i++) r[i] = OP::template of<T>(r[i], sd_shuffle(r[i], mask));
  if (threadIdx.x % 32 < STRIP)
#pragma unroll
    for (int i = 0; i < N; i++) SD_ST(part, (int)threadIdx.x / 32 * (STRIP * N) + at + i, r[i]);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; i++) r[i] = SD_LD(part, at + i);
  for (int w = 1; w < THREADS / 32; w++)
#pragma unroll
    for (int i = 0; i < N; i++) r[i] = OP::template of<T>(r[i], SD_LD(part, w * (STRIP * N) + at + i));
  __syncthreads();
}

