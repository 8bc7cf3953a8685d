// CUDA's execution model on the host: the threads of a block are fibers of one thread of the system.
//
// A block's warps run to the barrier one after the other, never in step: that is what makes a missing barrier
// show. Every access to a buffer or to shared memory goes through a shadow: bounds, reads of what nobody
// wrote, and accesses of two threads that no barrier orders are errors. Included by C (the runner) and C++
// (the kernels, through host.h).
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct model_index {
  unsigned x;
} model_index;
extern model_index threadIdx, blockIdx, gridDim; // of the fiber that runs

// ---- called by kernels ----
bool model_access(const void *base, int64_t index, uint64_t size,
                  bool write);      // false: an error was noted, do not touch it
void *model_shared(uint64_t bytes); // the n-th call of each thread gives the same memory
void model_barrier(int line);
uint64_t model_shuffle(uint64_t bits, int mask, int line);
// As model_access for `size` bytes at that byte; the position has to be a multiple of the size.
bool model_touch(const void *base, int64_t byte, uint64_t size, bool write);
// Gives `mine` (at most MODEL_GIVEN bytes) to the other lanes of the warp, all of which have to come here, and returns what lane
// 0 gave, with those of the others MODEL_GIVEN bytes apart; it stays until the next exchange but one.
enum { MODEL_GIVEN = 40 };
const unsigned char *model_exchange(const void *mine, uint64_t bytes, int line);
void model_copy(void *to, int64_t to_at, const void *from, int64_t from_at, int bytes, int some);
void model_copy_commit(void);
void model_copy_wait(int groups); // all but the youngest so many groups of this thread arrive
void *model_thread(uint64_t bytes); // memory of the thread, zero when it begins; the same for every call
// What the thread wrote to shared memory so far may be read by tensor cores behind the next barrier. Such a read: as
// model_touch, and what was written needs a fence behind it.
void model_fence(void);
bool model_tensor_read(const void *base, int64_t byte, uint64_t size);
__attribute__((format(printf, 1, 2))) void model_complain(const char *fmt, ...);

// ---- called by the runner ----
typedef enum model_order { MODEL_FORWARD, MODEL_BACKWARD, MODEL_RANDOM, MODEL_ORDERS } model_order;
typedef struct model_launch {
  void (*kernel)(const void *words); // one thread
  const void *words;
  unsigned blocks, threads;
  bool alone; // no barriers, no shuffles: no fibers needed
  model_order order;
} model_launch;
// Memory that kernels may touch. `defined`: holds values before the launch; else reads before writes are
// errors. `packed`: of elements below a byte, which are written by atomic operations that are not looked at.
typedef struct model_region {
  void *base;
  uint64_t bytes;
  bool defined, packed;
} model_region;
void model_begin(const model_region *regions, int n);
// Memory beside the regions: NULL, or what is wrong with the access. NULL: there is none.
typedef const char *(*model_judge)(const void *p, uint64_t bytes, bool write);
void model_use(model_judge judge);
// NULL, or what went wrong first; the text stays until the next launch.
const char *model_run(const model_launch *l);

#ifdef __cplusplus
}
#endif
