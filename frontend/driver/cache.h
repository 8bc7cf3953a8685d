// The compile cache: artifacts of models that were compiled before, in a folder of the user.
//
// An artifact is found by a digest of all that its code depends on: the bytes of the model and of its external data,
// the options, the processor, the build of Sard and of LLVM; for GPUs architectures and NVRTC. Nothing that is wrong with the cache is an error: the
// model is compiled then, and sd_cache_state tells why.
#pragma once
#include "frontend/driver/driver.h"
#include "runtime/model.h"

typedef struct sd_cache sd_cache;

// By the options "cache" and "cache-limit" and the environment (docs/cli.md). `o` and `src` must outlive it; the ranks
// that o->more_ranks gives are asked through the cache from here on. Errors: SARD_E_USAGE, SARD_E_NOMEM.
sard_status *sd_cache_open(const sard_source *src, const sard_options *options, sd_driver_options *o, sd_cache **out);
void sd_cache_free(sd_cache *c); // NULL ok
// *out: the model where the cache has it, else NULL. `json`: the report of its compilation (NULL: not wanted).
// Where schedules were tuned for the threads of the context, the options have them from here on.
sard_status *sd_cache_find(sd_cache *c, sard_context *ctx, char **json, sard_model **out);
// ---- schedules that were measured (sard tune) ----
// What is known about a model on this machine with that many threads. `next`: of the trials, the first one that was not
// made.
typedef struct sd_tune_entry {
  sd_tuned best,
      used;     // of a kernel: the best choice so far, and the one that is used when the model is compiled (0: none)
  double ratio; // time of the best one beside the estimated schedule
} sd_tune_entry;
typedef struct sd_tune_state {
  uint32_t next;
  SD_VEC(sd_tune_entry) entries;
} sd_tune_state;
// False: the cache cannot be used (sd_cache_why); else *out, in `a`, is what is known.
bool sd_cache_tuning_read(sd_cache *c, int threads, sd_arena *a, sd_tune_state *out);
bool sd_cache_tuning_write(sd_cache *c, const sd_tune_state *s);
const char *sd_cache_why(const sd_cache *c); // why it cannot be used

// Keeps what was compiled.
void sd_cache_store(sd_cache *c, const sd_compiled *compiled);
// Tells the model how it came to be.
sard_status *sd_cache_tell(const sd_cache *c, sard_model *m);

// The folder that is used where the options name none, and what is in it; path NULL: the cache is off. In the arena.
typedef struct sd_cache_summary {
  const char *path, *why;
  uint32_t artifacts;
  uint64_t bytes, limit;
} sd_cache_summary;
void sd_cache_summarize(sd_arena *a, sd_cache_summary *out);
