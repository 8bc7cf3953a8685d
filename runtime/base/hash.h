// Content hashes: a fast 64-bit one for tables and caches (not cryptographic).
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t sd_hash_bytes(const void *p, size_t n, uint64_t seed);
uint64_t sd_hash_text(const char *p, size_t n); // another one, faster where texts are short
static inline uint64_t sd_hash_mix(uint64_t h, uint64_t x) {
  h ^= x + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  h *= 0xff51afd7ed558ccdull;
  return h ^ (h >> 33);
}
