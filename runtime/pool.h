// Thread pool of a context: runs the tiles of one dispatch at a time on all its threads.
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct sd_pool sd_pool;
// Runs tiles [begin, end) on worker `worker` (0 = the calling thread). A worker may get several ranges of one job.
typedef void (*sd_pool_fn)(void *user, int worker, uint32_t begin, uint32_t end);

// A pool of `threads` threads, the caller of sd_pool_run included (0 = sd_cpu_count()). Threads start with the first
// job. NULL when memory is short.
sd_pool *sd_pool_new(int threads);
void sd_pool_free(sd_pool *p); // no run may be under way; NULL ok
int sd_pool_threads(const sd_pool *p);

// Takes the pool for a series of jobs; false when another thread has it (then run the tiles yourself, as worker 0).
bool sd_pool_enter(sd_pool *p);
void sd_pool_leave(sd_pool *p);
// Runs fn over all tiles [0, tiles) and returns when all are done. The caller has entered the pool. Each tile runs
// exactly once; which worker runs it is not defined. `backward`: each worker takes its tiles from the last one on, and gets
// them one by one. A loop that reads the same memory forward and backward in turns finds the end of the turn before in its cache.
void sd_pool_run(sd_pool *p, sd_pool_fn fn, void *user, uint32_t tiles, bool backward);
