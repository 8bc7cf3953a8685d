// Shared by the files that choose schedules for GPUs (choose_cuda*.c): one nest with what is known about it.
#pragma once
#include "codegen/access.h"
#include "codegen/choose_cuda.h"

#define SD_CUDA_FEWEST_THREADS 32768 // below, parts of a large GPU have nothing to do

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

static inline bool sd_cuda_known(const sd_cuda_choice *c) { // the number of points
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (!sd_dim_is_const(c->k->dims, c->n->axes[i]->extent, NULL)) return false;
  return true;
}

// ---- choose_cuda.c ----
bool sd_cuda_reads_own(const sd_cuda_choice *c); // a buffer that the nest writes
// A reduction does: it belongs to its point alone.
bool sd_cuda_reduces_own(const sd_cuda_choice *c);
// Moves the axis along which the offset is contiguous to the end of `axes`, where neighbouring threads are.
void sd_cuda_contiguous_last(const sd_cuda_choice *c, const sd_axis **axes, uint32_t n, const sd_expr *offset);
// The same for the first store, of out->axes; axes before `from` stay.
void sd_cuda_along_stores(sd_cuda_choice *c, uint32_t from);

// ---- the forms: false where one does not fit, *out is then in any state ----
bool sd_choose_cuda_tiles(sd_cuda_choice *c); // choose_cuda_tiles.c
bool sd_choose_cuda_rows(sd_cuda_choice *c);  // choose_cuda_rows.c
bool sd_choose_cuda_columns(sd_cuda_choice *c); // choose_cuda_columns.c
bool sd_choose_cuda_turned(sd_cuda_choice *c);  // choose_cuda_turned.c
void sd_choose_cuda_serial(sd_cuda_choice *c); // choose_cuda_serial.c: of sequential nests
void sd_choose_cuda_points(sd_cuda_choice *c); // choose_cuda_points.c: lanes, where they fit

const sd_cuda_scan *sd_choose_cuda_scan(sd_kernel *k, sd_arena *a); // choose_cuda_scan.c; NULL: the kernel is no walk

// ---- choose_cuda_lanes.c ----
// A free axis in two: vec * outer + lane.
typedef struct sd_cuda_split {
  sd_axis *outer, *lane;
  sd_expr *by; // what stands for the axis
} sd_cuda_split;
sd_cuda_split sd_cuda_split_axis(sd_kernel *k, const sd_axis *a, int vec);
// A copy of the nest with out->axes' position `at` split; sets the fields of out that tell of lanes. Gives what stands for the
// axis.
sd_expr *sd_cuda_make_lanes(sd_cuda_choice *c, uint32_t at, int vec);
// `by` in place of the axis in all stores.
void sd_cuda_subst_stores(sd_kernel *k, sd_nest *n, const sd_axis *a, sd_expr *by);
sd_nest *sd_cuda_copy_nest(sd_cuda_choice *c); // becomes out->nest, and c->n out->plain
void sd_cuda_test(sd_cuda_nest *n, sd_dim d, int count); // adds a test; more than SD_CUDA_TESTS are only counted
// Axes that end where data or other axes tell, or stores that are not always made: what a point loads may not be there
// for another one.
bool sd_cuda_has_limits(const sd_cuda_choice *c);
// Are most of the loads that move with the lane vectors, and all of those of reductions? Adds tests to out.
bool sd_cuda_vectors(sd_cuda_choice *c, const sd_accesses *loads, const sd_axis *lane);
// Adds to o->phases the reductions that no step of another one moves. False: there are none, or too many.
bool sd_cuda_collect_phases(sd_cuda_nest *o, const sd_reductions *all);
// Lanes along `a` that make accesses of 16 bytes and leave enough threads (choose_cuda_points.c).
int sd_cuda_most_lanes(const sd_cuda_choice *c, const sd_axis *a);

// ---- choose_cuda_mma.c ----
// For a nest of the form TILES with its axes and factors: how tensor cores compute it; NULL when they do not.
const sd_cuda_product *sd_choose_cuda_product(sd_cuda_choice *c, double m, double n, double batch);
// ---- choose_cuda_two_of_four.c ----
// Is the factor of out->sum kept without its zeros? Adds an axis to the kernel.
bool sd_cuda_two_of_four(const sd_cuda_choice *c, const sd_expr *factor, sd_cuda_places *out);
