// Stand-ins of codegen/cuda/mma.cuh's helpers on the host: fragments by exchange among the lanes of a warp, late copies.
#pragma once

#define SD_DYNAMIC(name, bytes) unsigned char *const name = (unsigned char *)model_shared(bytes)
#define SD_HERE(x)

// ---- fragments ----
static inline void host_ldmatrix(unsigned (&r)[4], const unsigned char *base, int at, bool turned, int line) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if (at % 16) model_complain("line %d: a row of a matrix that does not begin at a multiple of 16 bytes", line);
  const unsigned char *const rows = model_exchange(&at, sizeof at, line);
  for (int i = 0; i < 4; i++) {
    unsigned char bytes[4] = {0};
    const int size = turned ? 2 : 4; // of what stands side by side
    for (int b = 0; b < 4; b += size) {
      const int row = i * 8 + (turned ? 2 * t + b / 2 : g), from = *(const int *)(rows + row * MODEL_GIVEN) + (turned ? 2 * g : 4 * t);
      if (model_touch(base, from, size, false)) memcpy(bytes + b, base + from, size);
    }
    memcpy(&r[i], bytes, 4);
  }
}
static inline void sd_ldmatrix(unsigned (&r)[4], const unsigned char *base, int at) { host_ldmatrix(r, base, at, false, __LINE__); }
static inline void sd_ldmatrix_t(unsigned (&r)[4], const unsigned char *base, int at) { host_ldmatrix(r, base, at, true, __LINE__); }

static inline unsigned sd_lane(unsigned x, int lane) {
  unsigned y;
  memcpy(&y, model_exchange(&x, sizeof x, __LINE__) + lane * MODEL_GIVEN, sizeof y);
  return y;
}

#pragma GCC push_options // most of the time goes here, also where kernels are compiled without optimization
#pragma GCC optimize("O2")
static inline float host_word(unsigned x) {
  float f;
  memcpy(&f, &x, sizeof f);
  return f;
}
static inline float host_f16(unsigned x) {
  const unsigned mag = x & 0x7fff;
  const float f = mag >= 0x7c00 ? host_word(mag << 13 | 0x7f800000u) : host_word(mag << 13) * 0x1p112f;
  return x & 0x8000 ? -f : f;
}
static inline float host_bf16(unsigned x) { return host_word(x << 16); }
static inline float host_tf32(unsigned x) { return host_word(x & 0xffffe000u); }
static inline int host_s8(unsigned x) { return (signed char)x; }
static inline int host_u8(unsigned x) { return (int)x; }

// Registers of a lane, of what all have given.
static inline const unsigned *host_of(const unsigned char *given, int lane) { return (const unsigned *)(given + lane * MODEL_GIVEN); }
// Steps (2 x 4 x PER) of a row of the first factor, whose registers are given first, and of a column of the second one, whose
// registers are those from `at` on. A register has PER of them.
template <int PER, class T, class X> static inline void host_row(T (&to)[8 * PER], const unsigned char *given, int row, X x) {
  const int bits = 32 / PER;
  for (int k = 0; k < 8 * PER; k++) {
    const unsigned word = host_of(given, row % 8 * 4 + k / PER % 4)[row / 8 + 2 * (k / (4 * PER))];
    to[k] = x(word >> k % PER * bits & (unsigned)((1ull << bits) - 1));
  }
}
template <int PER, int N, class T, class Y> static inline void host_column(T (&to)[N], const unsigned char *given, int at, int column, Y y) {
  const int bits = 32 / PER;
  for (int k = 0; k < N; k++) {
    const unsigned word = host_of(given, column * 4 + k / PER % 4)[at + k / (4 * PER)];
    to[k] = y(word >> k % PER * bits & (unsigned)((1ull << bits) - 1));
  }
}
template <int PER, class T, class X, class Y>
static inline void host_mma(T (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, X x, Y y, int line) {
  const unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const unsigned char *const given = model_exchange(mine, sizeof mine, line);
  T rows[2][8 * PER], columns[2][8 * PER];
  for (int h = 0; h < 2; h++) host_row<PER>(rows[h], given, g + 8 * h, x), host_column<PER>(columns[h], given, 4, 2 * t + h, y);
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8 * PER; k++) c[i] += rows[i / 2][k] * columns[i % 2][k];
}

static inline void sd_mma_f16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  host_mma<2>(c, a, b0, b1, host_f16, host_f16, __LINE__);
}
static inline void sd_mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  host_mma<2>(c, a, b0, b1, host_bf16, host_bf16, __LINE__);
}
static inline void sd_mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  host_mma<1>(c, a, b0, b1, host_tf32, host_tf32, __LINE__);
}
template <bool XS, bool YS> static inline void sd_mma_bytes(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  host_mma<4>(c, a, b0, b1, XS ? host_s8 : host_u8, YS ? host_s8 : host_u8, __LINE__);
}

// ---- the same with a first factor without its zeros: PTX's mma.sp ----
#ifndef SD_UNPACK
// The four bits of the places of steps 4 g to 4 g + 3 of a row; what says places is given last.
template <int PER> static inline unsigned host_place(const unsigned char *given, int row, int g) {
  if (PER == 2) return host_of(given, row % 8 * 4 + g / 4)[8] >> (row / 8 * 16 + g % 4 * 4) & 15;
  return host_of(given, row % 8 * 4 + row / 8 + g / 8 * 2)[8] >> g % 8 * 4 & 15;
}
template <int PER, class T, class X, class Y>
static inline void host_places_mma(T (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e, X x, Y y, int line) {
  const unsigned mine[9] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], e};
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const unsigned char *const given = model_exchange(mine, sizeof mine, line);
  T rows[2][8 * PER], columns[2][16 * PER];
  for (int h = 0; h < 2; h++) host_row<PER>(rows[h], given, g + 8 * h, x), host_column<PER>(columns[h], given, 4, 2 * t + h, y);
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8 * PER; k++) { // kept steps
      const unsigned two = host_place<PER>(given, g + i / 2 * 8, k / 2), at = k % 2 ? two >> 2 : two & 3;
      if ((two & 3) >= two >> 2) return model_complain("line %d: places %u and %u of a row", line, two & 3, two >> 2);
      c[i] += rows[i / 2][k] * columns[i % 2][k / 2 * 4 + at];
    }
}
static inline void sd_places_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  host_places_mma<2>(c, a, b, e, host_f16, host_f16, __LINE__);
}
static inline void sd_places_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  host_places_mma<2>(c, a, b, e, host_bf16, host_bf16, __LINE__);
}
template <bool XS, bool YS> static inline void sd_places_bytes(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  host_places_mma<4>(c, a, b, e, XS ? host_s8 : host_u8, YS ? host_s8 : host_u8, __LINE__);
}
#endif
#pragma GCC pop_options

// ---- copies: nothing arrives before a wait needs it ----
template <int BYTES> static inline void sd_cp(unsigned char *to, int to_at, const void *from, long long from_at, int some) {
  model_copy(to, to_at, from, from_at, BYTES, some);
}
static inline void sd_cp_commit() { model_copy_commit(); }
template <int N> static inline void sd_cp_wait() { model_copy_wait(N); }
