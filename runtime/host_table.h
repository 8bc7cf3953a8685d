// A table from keys to numbers for host functions: open addressing, mostly free.
#pragma once
#include "runtime/base/alloc.h"
#include "runtime/host.h"

typedef struct sd_entry { uint64_t key; int64_t value; } sd_entry; // value -1: free
typedef struct sd_table {
  sd_entry *at; // of sd_malloc
  uint64_t size; // power of 2
} sd_table;

static inline uint64_t sd_table_mix(uint64_t x) { // the finalizer of MurmurHash3
  x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
  x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
  return x ^ x >> 33;
}

// The entry of that key or the free one where it belongs; NULL when it is further than `probes` from its place.
static inline sd_entry *sd_table_find(const sd_table *t, uint64_t key, uint64_t probes) {
  uint64_t i = sd_table_mix(key);
  for (; probes > 0; probes--, i++) {
    sd_entry *e = &t->at[i & (t->size - 1)];
    if ((e->value < 0) | (e->key == key)) return e; // which of them is hard to predict, that one holds is not
  }
  return NULL;
}

static inline bool sd_table_make(sd_table *t, uint64_t size) { // false: no memory
  *t = (sd_table){sd_calloc(size, sizeof *t->at), size};
  for (uint64_t i = 0; i < size && t->at; i++) t->at[i].value = -1;
  return t->at != NULL;
}
