// 64-bit content hash by 64x64 -> 128 bit multiplication, four lanes of 16 bytes so that large weights hash fast.
#include "runtime/base/hash.h"

#include <string.h>

static uint64_t read64(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  return x;
}

static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 m = (unsigned __int128)a * b;
  return (uint64_t)m ^ (uint64_t)(m >> 64);
}

// Odd constants with about half of their bits set.
static const uint64_t K[5] = {0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full, 0x165667b19e3779f9ull,
                              0xd6e8feb86659fd93ull, 0xa0761d6478bd642full};

static uint64_t pair(const uint8_t *p, uint64_t lane, uint64_t k) {
  // The lane is added after the product as well: a zero factor must not wipe out what came before.
  return fold(read64(p) ^ k, read64(p + 8) ^ lane) + (lane << 31 | lane >> 33);
}

uint64_t sd_hash_bytes(const void *data, size_t n, uint64_t seed) {
  const uint8_t *p = data;
  uint64_t lane[4], total = n;
  for (int i = 0; i < 4; i++) lane[i] = seed ^ K[i];
  for (; n >= 64; n -= 64, p += 64)
    for (int i = 0; i < 4; i++) lane[i] = pair(p + 16 * i, lane[i], K[i + 1]);
  for (; n >= 16; n -= 16, p += 16) lane[0] = pair(p, lane[0], K[2]);
  uint8_t tail[16] = {0};
  if (n) memcpy(tail, p, n);
  lane[1] = pair(tail, lane[1], K[3]);
  uint64_t h = fold(lane[0] ^ K[4], lane[1] ^ K[0]) ^ fold(lane[2] ^ K[3], lane[3] ^ K[2]) ^ fold(total ^ K[1], K[0]);
  return sd_hash_mix(h, lane[0] ^ lane[1]);
}

static uint64_t read32(const char *p) {
  uint32_t x;
  memcpy(&x, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap32(x);
#endif
  return x;
}

// Up to 16 bytes are two words that overlap in the middle.
uint64_t sd_hash_text(const char *p, size_t n) {
  uint64_t a = 0, b = 0;
  if (n > 16) return sd_hash_bytes(p, n, 0);
  if (n >= 8) a = read64((const uint8_t *)p), b = read64((const uint8_t *)p + n - 8);
  else if (n >= 4) a = read32(p), b = read32(p + n - 4);
  else if (n) a = (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint8_t)p[n - 1];
  return fold(fold(a ^ K[0], b ^ K[1]) ^ K[2], n ^ K[3]);
}
