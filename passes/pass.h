// Passes: graph to graph, one file each, one row each in passes.def; the pipeline runs the rows in order.
#pragma once
#include "ir/graph.h"
#include "ir/lower.h"
#include "passes/precision/precision.h"
#include "passes/target.h"

typedef struct sd_pass_options {
  int opt;               // 0..3
  sd_pass_target target; // all false: nothing that is done for a machine
  int64_t bisect;        // stop rewriting after that many rewrites, -1 = never
  const sd_precision *precision;         // NULL: all floats stay what they are
  sd_precision_report *precision_report; // what became of each node; NULL: not wanted
} sd_pass_options;

typedef struct sd_pass_report { uint32_t rewrites; const char *note; } sd_pass_report;

typedef struct sd_pass {
  const char *name, *what;
  int min_opt;
  sard_status *(*run)(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r);
} sd_pass;

const sd_pass *sd_pass_at(uint32_t index); // NULL past the end
const sd_pass *sd_pass_find(const char *name);
// Called after each pass that ran (for dumps, verification, timing); a status stops the pipeline.
typedef sard_status *(*sd_pass_hook)(void *user, const sd_pass *p, sd_module *m, const sd_pass_report *r, double seconds);
// Takes back where pass `memory` placed values: no pass but that one keeps to it.
sard_status *sd_memory_forget(sd_module *m);
// Forgets placements (a dump behind `memory` has them), then runs the rows whose min_opt <= o->opt, from the row named `from` on (NULL: all) up to and including `until` (NULL: all).
sard_status *sd_passes_run(sd_module *m, const sd_pass_options *o, const char *from, const char *until, sd_pass_hook hook,
                           void *user);
