// Shared by the files that choose schedules for GPUs (choose_cuda*.c): one nest with what is known about it.
#pragma once
#include "codegen/access.h"
#include "codegen/choose_cuda.h"

typedef struct sd_cuda_choice {
  sd_kernel *k;
  const sd_nest *n;
  sd_arena *a;
  bool whole, alone; // points are spread over all blocks; the kernel has no other nest
  int threads;       // of a block where the points are not spread over all blocks
  sd_accesses loads;
  sd_reductions reductions;
  sd_cuda_nest *out; // begins as points, in the order of the nest's axes
} sd_cuda_choice;

static inline double sd_cuda_extent(const sd_cuda_choice *c, const sd_axis *a) {
  return (double)sd_access_guess(c->k->dims, a->extent);
}

// ---- choose_cuda.c ----
// A reduction reads what the nest writes: it belongs to its point alone.
bool sd_choose_cuda_reduces_own(const sd_cuda_choice *c);
// Moves the axis along which the first store is contiguous to the end of out->axes, where neighbouring threads are; axes
// before `from` stay.
void sd_choose_cuda_along_stores(sd_cuda_choice *c, uint32_t from);

// ---- the forms: false where one does not fit, *out is then in any state ----
bool sd_choose_cuda_tiles(sd_cuda_choice *c); // choose_cuda_tiles.c
bool sd_choose_cuda_rows(sd_cuda_choice *c);  // choose_cuda_rows.c
