// Schedules of kernels for GPUs: who computes which point. The kernel itself stays as lowered; the schedule
// stands beside it.
#pragma once
#include "codegen/choose_cuda_fragments.h"

typedef enum sd_cuda_form {
  SD_CUDA_POINTS, // a thread for each point; reductions are loops of the thread
  SD_CUDA_ROWS,   // the threads of a group (warp or block) share the reductions of a row, then the points of
                  // the row
  SD_CUDA_COLUMNS, // threads along the results, in strips; the threads of a block that have the same results share
                   // the steps of the reductions
  SD_CUDA_TURNED, // points whose operands go through shared memory, as their elements are neighbours along another axis
  SD_CUDA_TILES,  // a block computes bm x bn results of a sum of products from slices in shared memory
  SD_CUDA_SERIAL, // in the order of the loops, by one thread, or by threads that store to different elements
} sd_cuda_form;

#define SD_CUDA_WARP         32
#define SD_CUDA_MOST_THREADS 512 // of a block

#define SD_CUDA_TESTS  6
#define SD_CUDA_PHASES 6
#define SD_CUDA_TURNED_LOADS 2

// ROWS held in registers: a reduction, and its body at the points of the columns.
typedef struct sd_cuda_phase {
  const sd_expr *reduce, *body;
} sd_cuda_phase;

// What multiplies the elements of slices that stand in shared memory as codegen/cuda/tiles.cuh says.
typedef enum sd_cuda_unit {
  SD_CUDA_F16,  // both factors are elements of that type in memory; sums are f32
  SD_CUDA_BF16,
  SD_CUDA_TF32, // f32 of which the last 13 bits do not count, or do not exist
  SD_CUDA_F32,
  SD_CUDA_BYTES, // 8-bit integers, each signed or not; sums are i32
} sd_cuda_unit;

// A factor of a product, and how its elements come into shared memory.
typedef struct sd_cuda_factor {
  const sd_expr *value; // of bytes: in its own type
  // A load whose elements go as they stand in memory; its offset is fixed + moving, and the steps of the sum move only the
  // latter. NULL: the value is computed.
  const sd_expr *load, *fixed, *moving;
  const sd_axis *const *steps; // of the sum
  uint32_t n_steps;
  int copy;     // bytes of an asynchronous copy; 0: elements go through registers
  bool along_k; // a row of a slice are steps for one row (column) of the product; else results for one step
} sd_cuda_factor;

typedef struct sd_cuda_tile {
  int bm, bn;     // results of a block
  int chunks;     // of 16 bytes in the steps of a slice
  int wm, wn, wk; // warps along m, n and the steps
  int stages;     // slices in shared memory
  // Four warps multiply slices where they stand (wgmma): slices at once that this may be reading, 0: it is done otherwise.
  int wide;
} sd_cuda_tile;

// A second factor that is kept without its zeros (ir/two_of_four.h): it has half the steps.
typedef struct sd_cuda_places {
  const sd_buf *buf;   // of words
  const sd_expr *row;  // position of the first one of a column's row
  const sd_axis *kept; // the steps
  const sd_expr *value; // load of a value, by `kept`
} sd_cuda_places;

typedef struct sd_cuda_product {
  sd_cuda_unit unit;
  int element; // bytes in shared memory
  sd_cuda_factor x, y;
  const sd_cuda_places *places; // of y; NULL: it has all steps
  // The second one, where there are two, is taken when it has at least `many` tiles: sizes were guessed.
  sd_cuda_tile tile[2];
  int n_tiles;
  int64_t many;
  int blocks; // of a processor at once: what registers are to suffice for
  bool many_products; // there are axes of both factors
} sd_cuda_product;

typedef struct sd_cuda_nest {
  const sd_nest *nest;
  sd_cuda_form form;
  // Axes in the order in which points are numbered, the last one runs over neighbouring threads. ROWS: the
  // first `n_rows` are the rows. TILES: `n_rows` axes of the batch, then `n_m` that only the first factor
  // moves with, then those of the second one.
  const sd_axis *axes[SD_MAX_AXES];
  uint32_t n_rows, n_m;
  int group;          // ROWS: threads of a group, SD_CUDA_WARP or those of the block
  int threads;        // of a block that suit the nest, 0: any number
  const sd_expr *sum; // TILES: the reduction, whose body is a product
  int bm, bn, bk;     // TILES: results of a block, length of a slice
  int tm, tn;         // TILES: results of a thread
  bool x_along_k,
      y_along_k; // TILES: neighbouring threads load neighbouring elements of the slice, else of m or n
  const sd_expr *x, *y;           // TILES: the factors; results with neighbouring places in memory move with y
  const sd_cuda_product *product; // TILES: for all above but the axes, NULL: scalar slices
  // Lanes: a thread computes `vec` neighbouring points, which are the iterations of `lane`; in `nest`, a copy made for
  // it, an axis `plain_axis` of `plain` has become vec * outer + lane, and `axes` has the outer one. vec 0: there are none.
  // Where one of `tests` is no multiple of `modulus` when the kernel runs, `plain` is computed in its place.
  int vec, modulus;
  const sd_axis *lane, *plain_axis;
  const sd_nest *plain;
  sd_dim tests[SD_CUDA_TESTS];
  uint32_t n_tests;
  // ROWS: chunks > 0: a thread keeps in registers what several phases of a row need of `chunks` times vec points: those
  // of lane and of `across`, the outer axis. Else reductions over an axis with `vec` > 0 have that many accumulators.
  int chunks;
  const sd_axis *across;
  sd_cuda_phase phases[SD_CUDA_PHASES]; // of COLUMNS too: the reductions that are shared
  uint32_t n_phases;
  // COLUMNS: `n_rows` axes, the last one of them along the results, then `n_columns` that the reductions do not move with.
  // `strip`: threads along the results. `many`: an axis that each thread computes as a whole, NULL:
  // none; of ROWS that are not held too, where `phases` are their reductions then.
  uint32_t n_columns;
  int strip;
  const sd_axis *many;
  // SERIAL: threads take the points of the first `n_rows` axes; or all points, and leave out those whose element is not
  // their own. Neither: one thread.
  bool owned;
  // TURNED: the axis along which the turned loads are contiguous, in vec * turn_outer + turn_lane; the loads in `nest`, and
  // as they are made, along that axis.
  const sd_axis *turn, *turn_outer, *turn_lane;
  struct {
    const sd_expr *inside, *outside;
  } turned[SD_CUDA_TURNED_LOADS];
  uint32_t n_turned;
} sd_cuda_nest;

// How an access moves with the iterations of a lane axis: over `count` neighbouring elements, whole bytes together, the
// first one at a multiple of `count`, each of them for `per` iterations. count 0: in another way.
typedef struct sd_cuda_vector {
  int count, per;
} sd_cuda_vector;
// Sizes that need to be multiples of `count` and are not known to be are added to n->tests; `n` NULL: they are, as tested.
sd_cuda_vector sd_cuda_vector_of(sd_kernel *k, const sd_buf *b, const sd_expr *offset, const sd_axis *lane,
                                 sd_cuda_nest *n);

// A kernel that walks along an axis, y[p] = y[p - 1] op x[p].
typedef struct sd_cuda_scan {
  const sd_nest *nest;
  const sd_axis *run, *column; // column: walks beside each other, in a tile of the grid; NULL: there is one
  const sd_expr *x, *first;    // first: what a walk begins with
  sd_rop op;
  bool by_thread; // a thread has a walk, else a warp
} sd_cuda_scan;

typedef struct sd_cuda_plan {
  int threads; // of a block, a multiple of SD_CUDA_WARP
  int blocks;  // at once on a processor, for which the registers have to suffice
  // All points of the nests may be computed in any order: they are spread over all blocks. Else a block
  // computes a point of the explicit grid, the items one after the other.
  bool whole;
  SD_VEC(sd_cuda_nest) nests; // in the order of the items, inside of loops too
  const sd_cuda_fragments *fragments; // not NULL: local buffers are rows in registers, and `nests` is empty
  const sd_cuda_scan *scan;           // the same of a walk along an axis
} sd_cuda_plan;

typedef struct sd_cuda_options {
  bool tf32; // products of f32 may drop the last 13 bits of their factors
  bool wide; // for sm_90a alone: products by four warps at once
  int tile;  // to test and to measure: products take this row, from 1, of the table of tiles; 0: by their sizes
} sd_cuda_options;

// Bytes of a slice of both factors in shared memory, with the places of the second one where it has any.
int sd_cuda_stage_bytes(const sd_cuda_product *p, const sd_cuda_tile *t);

// Chooses for all nests of k; the plan is made in `a`. o NULL: defaults.
sard_status *sd_choose_cuda(sd_kernel *k, const sd_cuda_options *o, sd_arena *a, sd_cuda_plan *out);
