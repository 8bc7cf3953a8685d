// Order of values for host functions: keys, and a stable sort in linear time.
#pragma once
#include <stdbool.h>

#include "runtime/host.h"

// A value's key, and where it stands.
typedef struct sd_item { uint64_t key; int64_t at; } sd_item;

// Numbers in the order of the values: NaN comes last, -0 is 0. Of elements from .. from + n - 1.
void sd_host_keys(sd_dtype t, const void *data, uint64_t from, uint64_t n, uint64_t *key);
// The high halves of the keys, in the order of signed numbers. Only for types for which sd_host_narrow is true are these
// the whole keys: the low halves are 0.
void sd_host_high_keys(sd_dtype t, const void *data, uint64_t from, uint64_t n, int32_t *key);
bool sd_host_narrow(sd_dtype t);
float sd_host_float_of(int32_t high); // the f32 that has this high key
static inline uint64_t sd_host_widen(int32_t high) { return (uint64_t)((uint32_t)high ^ UINT32_C(0x80000000)) << 32; }

// Sorts by key; items of equal keys stay in their order. `spare` has room for n items, too.
void sd_host_sort(sd_item *items, sd_item *spare, uint64_t n);

// The first k of what is offered. k up to SD_TOP_FEW stay in order; else what came after the last sort stands behind them.
enum { SD_TOP_FEW = 32 };
typedef struct sd_top {
  sd_item *items, *spare;
  uint64_t k, room; // k > 0; room for items, and as much of spare: sd_top_room of k and of the number of offers at most
  uint64_t n;
  bool full;
  uint64_t bound; // when full: the last key of the k
} sd_top;
uint64_t sd_top_room(uint64_t k, uint64_t most);
void sd_top_add(sd_top *t, uint64_t key, int64_t at);
void sd_top_settle(sd_top *t); // in the end: items[0 .. n) are the first k, in order; of equal keys the one that came first
static inline void sd_top_offer(sd_top *t, uint64_t key, int64_t at) {
  if (!t->full || key < t->bound) sd_top_add(t, key, at);
}
