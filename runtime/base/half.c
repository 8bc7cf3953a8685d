// f16 and bf16 conversions of f32, bit by bit, so that they work on any CPU and in constant folding alike.
#include "runtime/base/half.h"

#include <string.h>

static uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

static float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

// Drops the low `shift` bits (1..31) of m, to nearest, ties to even.
static uint32_t round_shift(uint32_t m, unsigned shift) {
  uint32_t half = 1u << (shift - 1), rest = m & ((1u << shift) - 1), q = m >> shift;
  return q + (rest > half || (rest == half && (q & 1)));
}

uint16_t sd_f32_to_f16(float x) {
  uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
  if (mag > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x1ff)); // NaN, kept quiet
  if (mag >= 0x47800000) return (uint16_t)(sign | 0x7c00);                       // 65536 and above
  int exponent = (int)(mag >> 23) - 127;
  if (exponent < -25) return (uint16_t)sign;
  if (exponent < -14) { // subnormal: units of 2^-24
    uint32_t m = (mag & 0x7fffff) | 0x800000;
    return (uint16_t)(sign | round_shift(m, (unsigned)(-1 - exponent)));
  }
  // A carry out of the mantissa rightly raises the exponent, up to infinity.
  return (uint16_t)(sign | round_shift(mag - ((127u - 15u) << 23), 13));
}

float sd_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, m = h & 0x3ff;
  if (exponent == 31) return float_of(sign | 0x7f800000 | m << 13);
  if (exponent) return float_of(sign | (exponent + 112) << 23 | m << 13);
  float tiny = (float)m * 0x1p-24f;
  return sign ? -tiny : tiny;
}

uint16_t sd_f32_to_bf16(float x) {
  uint32_t u = bits_of(x);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)round_shift(u, 16);
}

float sd_bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }
