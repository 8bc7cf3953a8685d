// Shared state of the CUDA printer: one sd_print per kernel, used by the print_*.c files only.
//
// Text is printed strictly forward. Each expression becomes a constant of C where it is first needed, and is
// remembered until the block of C in which it stands closes. Reductions that a loop does not move with are
// printed before the loop opens; everything else that does not move with it is left to the compiler of CUDA
// C.
#pragma once
#include "codegen/cuda/cuda.h"

#define SD_PRINT_DEPTH 1500 // nesting of expressions

typedef struct sd_print_info {
  uint64_t *axes;    // free axes, bit = axis id; NULL: not known yet
  const char *name;  // of its value in the text, NULL: none
  const char *held;  // text of its value for the lane at hand (of a load: of the element); NULL: none
  uint32_t seen;     // stamp of the last walk
  uint32_t rw_stamp; // stamp of `rw`
  bool rw;           // reads a buffer that the nest writes
  uint8_t small;     // 0: not known yet, 1: computed in 32 bits, 2: not
} sd_print_info;

typedef struct sd_print_scope {
  SD_VEC(uint32_t) kept, held;
  bool braces;
} sd_print_scope;

typedef struct sd_print {
  sd_kernel *k;
  const sd_cuda_plan *plan;
  sd_arena *a;
  sard_status *error;
  sd_str out, whole; // the body; the function
  int indent;
  uint32_t n_value, n_stamp, stamp, nest_stamp, words, next_nest;
  sd_print_info *info; // by expression id
  const char **axis;   // by axis id: its value in the text, NULL: not bound
  SD_VEC(sd_print_scope) scopes;
  uint32_t n_scope;
  SD_VEC(sd_dim) dims;
  const sd_nest *nest; // being printed
  int group;           // > 0: threads that share the reductions printed now
  const sd_axis *lane; // iterations side by side in a thread, NULL: none
  int lanes;
  bool no_reductions; // inputs of lanes are printed without them
  int dynamic;         // bytes of dynamic shared memory
} sd_print;

// ---- print_scope.c: lines, blocks, names, axes ----
void sd_print_fail(sd_print *P, sard_status *st); // keeps the first
__attribute__((format(printf, 2, 3))) void sd_print_line(sd_print *P, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) const char *sd_print_text(sd_print *P, const char *fmt,
                                                                ...);                        // in the arena
__attribute__((format(printf, 2, 3))) void sd_print_open(sd_print *P, const char *fmt, ...); // "head {"
void sd_print_block(sd_print *P);                                                            // "{"
void sd_print_close(sd_print *P);
void sd_print_keep(sd_print *P, const sd_expr *e, const char *name);
void sd_print_hold(sd_print *P, const sd_expr *e, const char *text); // until the block closes
bool sd_print_uses(sd_print *P, const sd_expr *e, const sd_axis *a);
void sd_print_forget_written(sd_print *P);          // values that read what the nest writes
void sd_print_forget_axis(sd_print *P, const sd_axis *a); // values that move with it
bool sd_print_ready(sd_print *P, const sd_expr *e); // every axis below is bound
bool sd_print_rw(sd_print *P, const sd_expr *e);
const char *sd_print_dim(sd_print *P, sd_dim d);
const char *sd_print_wide_dim(sd_print *P, sd_dim d);      // of type i64 whatever its size
const char *sd_print_fresh(sd_print *P, const char *stem); // a new name
// Binds `n` axes to the digits of `index`, the last one lowest. `small`: the index has 32 bits.
void sd_print_bind_digits(sd_print *P, const sd_axis *const *axes, uint32_t n, const char *index, bool small);
const char *sd_print_axis_type(sd_print *P, const sd_axis *a); // of its values
void sd_print_unbind(sd_print *P, const sd_axis *const *axes, uint32_t n);
// Product of the extents as text, and whether it surely fits 31 bits.
const char *sd_print_count(sd_print *P, const sd_axis *const *axes, uint32_t n, bool *out_small);
// "a < limit && ..." for the axes that have limits; NULL when none has.
const char *sd_print_limits(sd_print *P, const sd_axis *const *axes, uint32_t n);
const char *sd_print_index_type(bool small);       // of indices that are never negative
void sd_print_loop(sd_print *P, const sd_axis *a); // opens a loop over the axis, in order
void sd_print_loop_end(sd_print *P, const sd_axis *a);

// ---- print_expr.c ----
const char *sd_print_ctype(sd_dtype t);   // C type of a compute type
const char *sd_print_storage(sd_dtype t); // C type of an element in memory; of packed ones, of a byte
bool sd_print_small(sd_print *P, const sd_expr *e); // an I64 that is computed in 32 bits
const char *sd_print_value(sd_print *P, const sd_expr *e);
void sd_print_reductions(sd_print *P, const sd_expr *e); // those below e that are ready
void sd_print_store(sd_print *P, const sd_store *s);
// The value as it stands in a buffer of type t.
const char *sd_print_stored(sd_print *P, const sd_expr *value, sd_dtype t);
// An affine offset without the terms that move with the lane.
const char *sd_print_offset_base(sd_print *P, const sd_expr *e);
// acc with a body of the reduction e
const char *sd_print_accumulate(sd_print *P, const sd_expr *e, const sd_expr *body, const char *acc);
// The reduction e over what the threads of a group have in their arrays of n accumulators.
const char *sd_print_group_reduce(sd_print *P, const sd_expr *e, const char *acc, int n, int group);

const char *sd_print_raw(sd_print *P, const sd_expr *e); // a load as it stands in memory

// ---- print_op.c ----
const char *sd_print_const(sd_print *P, const sd_expr *e);
const char *sd_print_op(sd_print *P, const sd_expr *e, const char *const *v); // v: values of the operands
const char *sd_print_identity(sd_print *P, const sd_expr *e);                 // of a reduction
const char *sd_print_combine(sd_print *P, const sd_expr *e, const char *x, const char *y);
const char *sd_print_group_op(const sd_expr *e);                     // functor of the prelude
const char *sd_print_widen(sd_print *P, sd_dtype t, const char *v);  // from storage
const char *sd_print_narrow(sd_print *P, sd_dtype t, const char *v); // to storage

// ---- print_lanes.c: expressions and stores for all iterations of P->lane ----
// Prints what e needs before a loop over the lanes: vectors of loads, reductions, values that all lanes share.
void sd_print_lane_inputs(sd_print *P, const sd_expr *e);
void sd_print_lane_open(sd_print *P); // the loop; sd_print_close ends it
void sd_print_lane_sums(sd_print *P, const sd_expr *e, const char *acc); // array of a reduction, a number for each lane, as it begins
const char *sd_print_lane_reduce(sd_print *P, const sd_expr *e);
void sd_print_lane_stores(sd_print *P); // of P->nest, all axes but the lane bound
void sd_print_with_lanes(sd_print *P, const sd_axis *lane);
void sd_print_without_lanes(sd_print *P);
const char *sd_print_lane_test(sd_print *P, const sd_cuda_nest *n); // every size is a multiple of what vectors need
int sd_print_array_length(const sd_buf *b, int count);              // of an array of so many elements
// The element of lane i, of iterations from `first` (NULL: 0) on.
const char *sd_print_array_element(sd_print *P, const sd_buf *b, const char *array, const char *first, int per);
void sd_print_load_vector(sd_print *P, const sd_expr *e, sd_cuda_vector v, const char *array);

// A loop over every step-th of `steps` from `first` (below `step`) on, unrolled up to `most` times.
typedef struct sd_print_steps {
  const char *index;
  bool small;
  int blocks;
} sd_print_steps;
sd_print_steps sd_print_open_steps(sd_print *P, sd_dim steps, const char *first, int step, int most);
void sd_print_close_steps(sd_print *P, sd_print_steps s);
// Loops over n->many, unrolled, where there is one; its iterations.
int sd_print_many(sd_print *P, const sd_cuda_nest *n);
void sd_print_open_many(sd_print *P, const sd_cuda_nest *n);
void sd_print_close_many(sd_print *P, const sd_cuda_nest *n);
// Calls `reduce` for the reductions among n->phases below the stores, those that another one needs before it.
typedef void (*sd_print_phase_fn)(sd_print *P, const sd_cuda_nest *n, const sd_expr *e);
void sd_print_phases(sd_print *P, const sd_cuda_nest *n, sd_print_phase_fn reduce);

// ---- print_nest.c, print_tiles.c ----
void sd_print_whole(sd_print *P, const sd_cuda_nest *n); // points spread over all blocks
void sd_print_in_block(sd_print *P,
                       const sd_cuda_nest *n); // points spread over the threads of a block, then a barrier
void sd_print_stores(sd_print *P);             // of P->nest, all axes bound
void sd_print_rows(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step); // print_rows.c
void sd_print_columns(sd_print *P, const sd_cuda_nest *n); // print_columns.c
sd_dim sd_print_column_blocks(sd_print *P, const sd_cuda_nest *n);
void sd_print_turned(sd_print *P, const sd_cuda_nest *n); // print_turned.c
sd_dim sd_print_turned_blocks(sd_print *P, const sd_cuda_nest *n);
void sd_print_plain_points(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step);
// Opens "for (q = first; q < count; q += step)" and returns q.
const char *sd_print_range(sd_print *P, const char *first, const char *count, const char *step, bool small);
// The stores of all points of these axes from `first` on, in steps.
void sd_print_points(sd_print *P, const sd_axis *const *axes, uint32_t n, const char *first, const char *step);
void sd_print_tiles(sd_print *P, const sd_cuda_nest *n);
void sd_print_scan(sd_print *P); // print_scan.c: of a tile of the grid
void sd_print_fragments(sd_print *P); // the items of a kernel whose local buffers are rows in registers
const char *sd_print_fragment_load(sd_print *P, const sd_buf *b); // of the row and column at hand
int sd_print_fragment_bytes(sd_print *P);                         // of shared memory
sd_dim sd_print_tile_count(sd_print *P, const sd_cuda_nest *n, int bm, int bn);
// ---- print_mma.c, print_places.c, print_results.c: products on tensor cores ----
// Of a second factor without its zeros: once for a tile, where the row of the column is that a thread brings places of; then the copy
// of a slice's places to byte `at` of a stage.
void sd_print_places_row(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, bool small);
void sd_print_places(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, int at);
void sd_print_product_tiles(sd_print *P, const sd_cuda_nest *n);
sd_dim sd_print_product_blocks(sd_print *P, const sd_cuda_nest *n);
// The stores of the results of a tile at m0, n0, from the sums in shared memory.
void sd_print_results(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, const char *tile, bool small);
sd_dim sd_print_product(sd_print *P, const sd_axis *const *axes, uint32_t n);
