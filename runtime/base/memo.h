// A small memory of results for loops over data that repeats itself: a key has one place, which the last one takes.
#pragma once
#include "runtime/base/alloc.h"

typedef struct sd_memo_entry { uint64_t key, value; } sd_memo_entry; // key 0: free
typedef struct sd_memo {
  sd_memo_entry *at; // of sd_malloc; NULL: it remembers nothing
  int bits;          // of the number of places
} sd_memo;

// For about `uses` look-ups. Without memory it is one that remembers nothing.
static inline sd_memo sd_memo_make(uint64_t uses) {
  int bits = 4;
  while (bits < 12 && UINT64_C(1) << bits < 2 * uses) bits++;
  return (sd_memo){sd_calloc((size_t)1 << bits, sizeof(sd_memo_entry)), bits};
}
static inline void sd_memo_free(sd_memo *m) { sd_free(m->at); }
static inline sd_memo_entry *sd_memo_place(const sd_memo *m, uint64_t key) {
  return &m->at[key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - m->bits)];
}

// `key` is not 0. False: not known (any more).
static inline bool sd_memo_get(const sd_memo *m, uint64_t key, uint64_t *value) {
  if (!m->at) return false;
  const sd_memo_entry *e = sd_memo_place(m, key);
  *value = e->value;
  return e->key == key;
}
static inline void sd_memo_put(const sd_memo *m, uint64_t key, uint64_t value) {
  if (m->at) *sd_memo_place(m, key) = (sd_memo_entry){key, value};
}
