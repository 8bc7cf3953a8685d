// Host functions: operators whose result sizes depend on data, in C. Used by the executor and by the interpreter.
//
// The dims list of a HOST step describes the tensors: number of inputs and of outputs, then for each input dtype, rank and
// dims, for each output the same, then the parameters of the function. A tensor of dtype 0 is omitted and has no buffer.
// A dim of an output that is a symbol of its own gets its value from the result.
#pragma once
#include <stdbool.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/base/strtab.h"
#include "runtime/objects.h"
#include "runtime/pool.h"

#define SD_HOST_RANK   16
#define SD_HOST_ABSENT INT64_MIN // parameter: optional attribute that is not given

typedef struct sd_host_tensor {
  sd_dtype dtype; // SD_DT_NONE: omitted
  int rank;
  int64_t dims[SD_HOST_RANK];
  uint64_t count;
  void *data;     // row-major, packed
  bool fixed;     // the same in all calls with this `kept`
} sd_host_tensor;

// What a function made of fixed inputs, kept by its caller from call to call.
typedef struct sd_host_kept { void *state; void (*free)(void *state); } sd_host_kept;

typedef struct sd_host_call sd_host_call;
struct sd_host_call {
  uint32_t n_in, n_out, n_param;
  const sd_host_tensor *in;
  sd_host_tensor *out;  // dtype and rank are set; the rest by `make`
  const int64_t *param; // attributes in the order of the row
  sard_status *(*make)(sd_host_call *c, uint32_t out, const int64_t *dims); // memory for an output of these dims
  void *user;
  sd_pool *pool; // threads that the run has; NULL: the caller's only
  sd_strtab *strings;   // what elements of type string are numbers of
  sd_objects *objects;  // what elements of type object are numbers of
  sd_host_kept *kept;   // NULL: nothing is kept
  struct sd_group *group; // devices to exchange tensors with (runtime/collective/group.h), NULL: it is alone
};

typedef sard_status *(*sd_host_fn)(sd_host_call *c);
typedef struct sd_host_op {
  const char *name;
  sd_host_fn fn;
  uint32_t min_in, n_out, n_param; // the least that the function reads
} sd_host_op;

// What sard.Sizes computes (runtime/host_sizes.c): numbers >= 0, from the dims of operand 0, x, and the contents of the others.
// A number of any sign is two of them, of which one is 0: it is their difference. Contents are checked: wrong ones are errors.
typedef enum sd_sizes {
  SD_SIZES_PAIRS,     // x, axes; 1 = no axes mean none: for each dim what is kept of it and what is reduced, one of them 1
  SD_SIZES_WITHOUT,   // x, axes; 1 = these dims must be 1: the other dims
  SD_SIZES_WITH_ONES, // x, axes: the dims, with ones that have these positions in the result
  SD_SIZES_AROUND,    // x, axis; k: sizes before the axis, of it, and behind it up to the last k dims
  SD_SIZES_REPLACED,  // x, axis, y [before, length, behind, k more]; k: dims of x with the length and the last k from y
  SD_SIZES_SLICE,     // x, starts, ends, axes?, steps?: for each dim start, step (signed), count
  SD_SIZES_PAD,       // x, pads, axes?: for each dim what stands before it (signed); then for each dim the result's
  SD_SIZES_SCALED,    // x, scales; axes: the dims of these axes times the scales
  SD_SIZES_RANGE,     // start, limit, delta: number of steps
  SD_SIZES_NUMBER,    // a number of any type as size
} sd_sizes;
// Element i of what a sard.Define reads. sign 1: any, but for INT64_MIN, which cannot be negated; 2: within +-INT64_MAX/4.
int64_t sd_host_defined(sd_dtype t, const void *data, uint64_t i, int64_t sign);
// The simplest p/q within float precision of v; false when v is none with a small denominator.
bool sd_host_fraction(double v, int64_t *p, int64_t *q);

const sd_host_op *sd_host_find(const char *name); // NULL when there is none
bool sd_host_exchanges(const sd_host_op *op);     // tensors with other devices of the group; NULL ok
// Checks the numbers of the call against the row, and runs it.
sard_status *sd_host_run(const sd_host_op *op, sd_host_call *c);
// For host functions: runs fn on all tiles, on the threads of the run. Tiles may depend on shapes and data only.
void sd_host_tiles(const sd_host_call *c, sd_pool_fn fn, void *user, uint32_t tiles);
int sd_host_workers(const sd_host_call *c); // fn is given workers less than that
