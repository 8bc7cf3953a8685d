// Host functions: operators whose result sizes depend on data, in C. Used by the executor and by the interpreter.
//
// The dims list of a HOST step describes the tensors: number of inputs and of outputs, then for each input dtype, rank and
// dims, for each output the same, then the parameters of the function. A tensor of dtype 0 is omitted and has no buffer.
// A dim of an output that is a symbol of its own gets its value from the result.
#pragma once
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/pool.h"

#define SD_HOST_RANK   16
#define SD_HOST_ABSENT INT64_MIN // parameter: optional attribute that is not given

typedef struct sd_host_tensor {
  sd_dtype dtype; // SD_DT_NONE: omitted
  int rank;
  int64_t dims[SD_HOST_RANK];
  uint64_t count;
  void *data;     // row-major, packed
} sd_host_tensor;

typedef struct sd_host_call sd_host_call;
struct sd_host_call {
  uint32_t n_in, n_out, n_param;
  const sd_host_tensor *in;
  sd_host_tensor *out;  // dtype and rank are set; the rest by `make`
  const int64_t *param; // attributes in the order of the row
  sard_status *(*make)(sd_host_call *c, uint32_t out, const int64_t *dims); // memory for an output of these dims
  void *user;
  sd_pool *pool; // threads that the run has; NULL: the caller's only
};

typedef sard_status *(*sd_host_fn)(sd_host_call *c);
typedef struct sd_host_op {
  const char *name;
  sd_host_fn fn;
  uint32_t min_in, n_out, n_param; // the least that the function reads
} sd_host_op;
const sd_host_op *sd_host_find(const char *name); // NULL when there is none
// Checks the numbers of the call against the row, and runs it.
sard_status *sd_host_run(const sd_host_op *op, sd_host_call *c);
// For host functions: runs fn on all tiles, on the threads of the run. Tiles may depend on shapes and data only.
void sd_host_tiles(const sd_host_call *c, sd_pool_fn fn, void *user, uint32_t tiles);
int sd_host_workers(const sd_host_call *c); // fn is given workers less than that
