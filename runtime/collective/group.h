// A group of devices, its ranks, that compute one model together and exchange tensors: sums over all, and
// axes put together or cut apart. All ranks make the same calls in the same order. Sums are taken in the
// order of the ranks, so that results do not depend on which device is fast.
#pragma once
#include <stdbool.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef enum sd_collective_kind {
  SD_ALL_REDUCE,     // [rows,size,inner] of each -> their sum, for all
  SD_ALL_GATHER,     // [rows,share,inner] of each -> [rows,size,inner], for all
  SD_REDUCE_SCATTER, // [rows,size,inner] of each -> the share of a rank in their sum
} sd_collective_kind;

typedef struct sd_collective {
  sd_collective_kind kind;
  sd_dtype dtype;
  int64_t tag; // of the node: the same for all ranks
  uint64_t rows, size, inner, unit;
  const void *in;
  void *out;
} sd_collective;

// What one rank sees of its group. Transports fill the functions.
typedef struct sd_group sd_group;
struct sd_group {
  int rank, ranks;
  uint64_t bytes; // that this rank has read from others
  bool on_device; // takes tensors where the rank's session on a GPU has them (runtime/cuda/group.h)
  // Returns when the rank's `out` is complete and its `in` is not read any more. SARD_E_CANCELLED: another
  // rank has failed, which the message names.
  sard_status *(*run)(sd_group *g, const sd_collective *c);
  void (*fail)(sd_group *g); // this rank will make no more calls: those who wait for it get an error
  // Of all ranks, when none is in a call; NULL: of processes. `reset`: before each run, also after a failure.
  sard_status *(*reset)(sd_group **groups);
  void (*free)(sd_group **groups);
};

// Where the share of a rank begins in an axis of `size` elements that is cut between units: evenly, but for
// one unit. That of rank + 1 is its end.
static inline uint64_t sd_share_begin(uint64_t size, uint64_t unit, int rank, int ranks) {
  uint64_t units = unit ? size / unit : 0, n = (uint64_t)ranks, r = (uint64_t)rank;
  return (units / n * r + units % n * r / n) * unit;
}

// Types that can be summed: floats and integers of whole bytes.
bool sd_group_sums(sd_dtype t);
// out[i] = the sum of in[r][i] over all ranks r, in that order. 16-bit floats are summed as f32 and rounded
// once.
void sd_group_sum(sd_dtype t, const void *const *in, int ranks, uint64_t count, void *out);

// Ranks that are threads of this process. NULL: no memory. Freed as a whole, by `free`.
sd_group **sd_group_threads(int ranks);
