// Memory plan: places buffers with lifetimes into one arena.
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct sd_plan_item {
  uint64_t size;        // bytes, a multiple of 64
  uint32_t first, last; // steps, inclusive
  uint32_t id;          // of the caller
  uint64_t offset;      // result
} sd_plan_item;

// Gives every item an offset such that items whose lifetimes meet do not overlap: the largest first, each into the
// tightest gap. Reorders items. `work` has room for n numbers. False when the total overflows.
bool sd_plan_place(sd_plan_item *items, uint32_t n, uint32_t *work, uint64_t *out_total);
