// What the nodes of a model take on this machine: it is compiled in one piece and runs a few times, with
// inputs of usual sizes (sd_dim_usual).
#pragma once
#include "frontend/driver/driver.h"

// By the ids of nodes' first results, which are the same in every compilation with the same options.
typedef struct sd_measured {
  uint32_t n;         // ids, 0: nothing was measured
  const sd_op **ops;  // of the node, NULL: the main graph has none there
  double *seconds;    // that its steps take
  double run_seconds; // of all, with what a run takes beside its steps
  int64_t size;       // what sizes that are open were taken for, see sd_dim_guess_size
  double batch;       // elements of the batch that the times are of; 1 where it cannot be split
  const char *why;    // nothing was measured: why not
} sd_measured;

// Compiles for one device what `o` says and runs it on `threads` threads, with `batch` elements where it leaves that open;
// the result is in `a`. What cannot be run is no error. SARD_E_CANCELLED: o->progress stopped it.
sard_status *sd_measure_nodes(const sard_source *src, const sd_driver_options *o, int threads, int64_t batch, sd_arena *a,
                              sd_measured *out);
