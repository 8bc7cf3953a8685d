// Stand-ins of codegen/cuda/mma.cuh's helpers on the host: fragments by exchange among the lanes of a warp, late copies.
#pragma once

#define SD_DYNAMIC(name, bytes) unsigned char *const name = (unsigned char *)model_shared(bytes)
#define SD_HERE(x)

// ---- fragments ----
static inline void host_ldmatrix(unsigned (&r)[4], const unsigned char *base, int at, bool turned, int line) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  int rows[32];
  if (at % 16) model_complain("line %d: a row of a matrix that does not begin at a multiple of 16 bytes", line);
  for (int i = 0; i < 32; i++) memcpy(&rows[i], model_exchange(i ? NULL : &at, sizeof at, i, line), sizeof at);
  for (int i = 0; i < 4; i++) {
    unsigned char bytes[4] = {0};
    for (int h = 0; h < 2; h++) {
      const int from = turned ? rows[i * 8 + 2 * t + h] + 2 * g : rows[i * 8 + g] + 4 * t + 2 * h;
      if (model_touch(base, from, 2, false)) memcpy(bytes + 2 * h, base + from, 2);
    }
    memcpy(&r[i], bytes, 4);
  }
}
static inline void sd_ldmatrix(unsigned (&r)[4], const unsigned char *base, int at) { host_ldmatrix(r, base, at, false, __LINE__); }
static inline void sd_ldmatrix_t(unsigned (&r)[4], const unsigned char *base, int at) { host_ldmatrix(r, base, at, true, __LINE__); }

static inline unsigned sd_lane(unsigned x, int lane) {
  unsigned y;
  memcpy(&y, model_exchange(&x, sizeof x, lane, __LINE__), sizeof y);
  return y;
}

// Registers of all lanes, as elements of SIZE bytes: PER of them in a register.
typedef struct host_fragments {
  unsigned a[32][4], b[32][2];
} host_fragments;
static inline void host_gather(host_fragments &f, const unsigned (&a)[4], unsigned b0, unsigned b1, int line) {
  const unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  for (int i = 0; i < 32; i++) {
    const unsigned *other = (const unsigned *)model_exchange(i ? NULL : mine, sizeof mine, i, line);
    memcpy(f.a[i], other, 16), memcpy(f.b[i], other + 4, 8);
  }
}
// Step k (of 2 x 4 x PER) of a row of the first factor, of a column of the second one.
template <int PER> static inline unsigned host_a(const host_fragments &f, int row, int k) {
  const int up = k / (4 * PER), bits = 32 / PER;
  return f.a[row % 8 * 4 + k / PER % 4][row / 8 + 2 * up] >> k % PER * bits & (unsigned)((1ull << bits) - 1);
}
template <int PER> static inline unsigned host_b(const host_fragments &f, int column, int k) {
  const int up = k / (4 * PER), bits = 32 / PER;
  return f.b[column * 4 + k / PER % 4][up] >> k % PER * bits & (unsigned)((1ull << bits) - 1);
}
template <int PER, class T, class X, class Y>
static inline void host_mma(T (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, X x, Y y, int line) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  host_fragments f;
  host_gather(f, a, b0, b1, line);
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8 * PER; k++) c[i] += x(host_a<PER>(f, g + i / 2 * 8, k)) * y(host_b<PER>(f, 2 * t + i % 2, k));
}

static inline float host_word(unsigned x) {
  float f;
  memcpy(&f, &x, sizeof f);
  return f;
}
static inline float host_f16(unsigned x) {
  const unsigned mag = x & 0x7fff;
  const float f = mag >= 0x7c00 ? host_word(mag << 13 | 0x7f800000u) : ldexpf(host_word(mag << 13), 112);
  return x & 0x8000 ? -f : f;
}
static inline float host_bf16(unsigned x) { return host_word(x << 16); }
static inline float host_tf32(unsigned x) { return host_word(x & 0xffffe000u); }
static inline int host_s8(unsigned x) { return (signed char)x; }
static inline int host_u8(unsigned x) { return (int)x; }

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
typedef struct host_places {
  unsigned a[32][4], b[32][4], e[32];
} host_places;
// The four bits of the places of steps 4 g to 4 g + 3 of a row.
template <int PER> static inline unsigned host_place(const host_places &f, int row, int g) {
  if (PER == 2) return f.e[row % 8 * 4 + g / 4] >> (row / 8 * 16 + g % 4 * 4) & 15;
  return f.e[row % 8 * 4 + row / 8 + g / 8 * 2] >> g % 8 * 4 & 15;
}
template <int PER, class T, class X, class Y>
static inline void host_places_mma(T (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e, X x, Y y, int line) {
  const unsigned mine[9] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], e};
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, bits = 32 / PER;
  const unsigned mask = (unsigned)((1ull << bits) - 1);
  host_places f;
  for (int i = 0; i < 32; i++) {
    const unsigned *other = (const unsigned *)model_exchange(i ? NULL : mine, sizeof mine, i, line);
    memcpy(f.a[i], other, 16), memcpy(f.b[i], other + 4, 16), f.e[i] = other[8];
  }
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8 * PER; k++) { // kept steps
      const int row = g + i / 2 * 8, column = 2 * t + i % 2;
      const unsigned two = host_place<PER>(f, row, k / 2), at = k % 2 ? two >> 2 : two & 3;
      if ((two & 3) >= two >> 2) return model_complain("line %d: places %u and %u of a row", line, two & 3, two >> 2);
      const int step = k / 2 * 4 + (int)at, up = k / (4 * PER);
      const unsigned left = f.a[row % 8 * 4 + k / PER % 4][row / 8 + 2 * up] >> k % PER * bits & mask;
      const unsigned right = f.b[column * 4 + step / PER % 4][step / (4 * PER)] >> step % PER * bits & mask;
      c[i] += x(left) * y(right);
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

// ---- copies: nothing arrives before a wait needs it ----
template <int BYTES> static inline void sd_cp(unsigned char *to, int to_at, const void *from, long long from_at, int some) {
  model_copy(to, to_at, from, from_at, BYTES, some);
}
static inline void sd_cp_commit() { model_copy_commit(); }
template <int N> static inline void sd_cp_wait() { model_copy_wait(N); }
