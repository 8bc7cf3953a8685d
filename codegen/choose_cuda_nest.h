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
  const sd_cuda_options *options;
  sd_accesses loads;
  sd_reductions reductions;
  sd_cuda_nest *out; // begins as points, in the order of the nest's axes
} sd_cuda_choice;

static inline double sd_cuda_extent(const sd_cuda_choice *c, const sd_axis *a) {
  return (double)sd_access_guess(c->k->dims, a->extent);
}

static inline double sd_cuda_points(const sd_cuda_choice *c) {
  double p = 1;
  for (uint32_t i = 0; i < c->n->n_axes; i++) p *= sd_cuda_extent(c, c->n->axes[i]);
  return p;
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
void sd_choose_cuda_points(sd_cuda_choice *c); // choose_cuda_points.c: lanes, where they fit

// ---- choose_cuda_lanes.c ----
// A free axis in two: vec * outer + lane.
typedef struct sd_cuda_split {
  sd_axis *outer, *lane;
  sd_expr *by; // what stands for the axis
} sd_cuda_split;
sd_cuda_split sd_cuda_split_axis(sd_kernel *k, const sd_axis *a, int vec);
// A copy of the nest with out->axes' position `at` split; sets the fields of out that tell of lanes.
void sd_cuda_make_lanes(sd_cuda_choice *c, uint32_t at, int vec);

// ---- choose_cuda_mma.c ----
// For a nest of the form TILES with its axes and factors: how tensor cores compute it; NULL when they do not.
const sd_cuda_product *sd_choose_cuda_product(sd_cuda_choice *c, double m, double n, double batch);
