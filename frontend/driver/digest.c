// The keyed digest: NH over blocks, a polynomial over their results.
#include "frontend/driver/digest.h"

#include <string.h>

typedef unsigned __int128 u128;

// Words are read as they lie: digests are of this machine only.
static u128 block_sum(const sd_digest_key *key, const uint8_t *p) {
  u128 a = 0, b = 0;
  for (int i = 0; i < SD_DIGEST_WORDS; i += 4) {
    uint64_t w[4];
    memcpy(w, p + 8 * i, sizeof w);
    a += (u128)(w[0] + key->block[i]) * (w[1] + key->block[i + 1]);
    b += (u128)(w[2] + key->block[i + 2]) * (w[3] + key->block[i + 3]);
  }
  return a + b;
}

static const u128 PRIME = ((u128)1 << 127) - 1;

// x modulo 2^127 - 1, or that and the prime: at most 2^127.
static u128 reduce(u128 x) { return (x & PRIME) + (x >> 127); }

// a * b modulo 2^127 - 1, at most 2^127; so are both.
static u128 multiply(u128 a, u128 b) {
  uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
  u128 low = (u128)a0 * b0, high = (u128)a1 * b1;                // high <= 2^126
  u128 m0 = (u128)a0 * b1, m1 = (u128)a1 * b0, middle = m0 + m1; // each below 2^127
  u128 sum = low + (middle << 64);
  high += (middle >> 64) + (sum < low);
  // the product is high * 2^128 + sum, and 2^128 = 2 modulo the prime
  return reduce(reduce(high << 1) + reduce(sum));
}

static void take_block(sd_digesting *d, const uint8_t *p) {
  u128 point = ((u128)d->key->point[1] << 64 | d->key->point[0]) & PRIME;
  u128 y = (u128)d->sum.hi << 64 | d->sum.lo;
  // the two upper bits of a sum are left out: it has to be below the prime
  y = reduce(multiply(y, point) + (block_sum(d->key, p) & (PRIME >> 1)));
  d->sum = (sd_digest){(uint64_t)y, (uint64_t)(y >> 64)};
}

void sd_digest_begin(sd_digesting *d, const sd_digest_key *key) {
  d->key = key, d->sum = (sd_digest){1, 0}, d->bytes = 0, d->n_rest = 0; // 1: blocks of zeros count, too
}

void sd_digest_put(sd_digesting *d, const void *data, size_t n) {
  const uint8_t *p = data;
  d->bytes += n;
  if (d->n_rest) {
    size_t k = SD_DIGEST_BLOCK - d->n_rest < n ? SD_DIGEST_BLOCK - d->n_rest : n;
    memcpy(d->rest + d->n_rest, p, k);
    d->n_rest += k, p += k, n -= k;
    if (d->n_rest < SD_DIGEST_BLOCK) return;
    take_block(d, d->rest);
    d->n_rest = 0;
  }
  for (; n >= SD_DIGEST_BLOCK; n -= SD_DIGEST_BLOCK, p += SD_DIGEST_BLOCK) take_block(d, p);
  if (n) memcpy(d->rest, p, n);
  d->n_rest = n;
}

sd_digest sd_digest_end(sd_digesting *d) {
  uint64_t bytes = d->bytes;
  memset(d->rest + d->n_rest, 0, SD_DIGEST_BLOCK - d->n_rest);
  if (d->n_rest) take_block(d, d->rest);
  memset(d->rest, 0, SD_DIGEST_BLOCK);
  memcpy(d->rest, &bytes, sizeof bytes);
  take_block(d, d->rest);
  u128 y = (u128)d->sum.hi << 64 | d->sum.lo;
  if (y >= PRIME) y -= PRIME;
  return (sd_digest){(uint64_t)y, (uint64_t)(y >> 64)};
}

sd_digest sd_digest_bytes(const sd_digest_key *key, const void *data, size_t n) {
  sd_digesting d;
  sd_digest_begin(&d, key);
  sd_digest_put(&d, data, n);
  return sd_digest_end(&d);
}
