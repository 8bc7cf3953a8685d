// A keyed digest of 128 bits: fast as memory, and nobody who does not know the key can make two contents that collide.
//
// Blocks of 1 KiB go through NH (sums of 64 x 64 -> 128 bit products of words that have a secret word added), their
// results through a polynomial modulo 2^127 - 1 at a secret point; the length ends it. For a random key two different
// contents of n blocks collide with a probability below 2^-62 + n * 2^-126 (Black, Halevi, Krawczyk, Krovetz, Rogaway:
// UMAC, CRYPTO '99; Krovetz: VMAC, 2007). It is no signature: digests must stay where the key does.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SD_DIGEST_BLOCK = 1024, SD_DIGEST_WORDS = SD_DIGEST_BLOCK / 8 };
typedef struct sd_digest_key {
  uint64_t block[SD_DIGEST_WORDS], point[2];
} sd_digest_key;
typedef struct sd_digest {
  uint64_t lo, hi;
} sd_digest;

static inline bool sd_digest_same(sd_digest a, sd_digest b) { return a.lo == b.lo && a.hi == b.hi; }

typedef struct sd_digesting {
  const sd_digest_key *key;
  sd_digest sum;
  uint64_t bytes;
  uint8_t rest[SD_DIGEST_BLOCK]; // of the block that is not whole yet
  size_t n_rest;
} sd_digesting;
void sd_digest_begin(sd_digesting *d, const sd_digest_key *key);
void sd_digest_put(sd_digesting *d, const void *data, size_t n);
sd_digest sd_digest_end(sd_digesting *d);
sd_digest sd_digest_bytes(const sd_digest_key *key, const void *data, size_t n);
