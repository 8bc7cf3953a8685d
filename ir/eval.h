// The graph interpreter: runs graphs node by node, each lowered to its kernel and interpreted. The reference that
// compiled runs are checked against, and the engine of constant folding.
#pragma once
#include "ir/lower.h"

// A concrete tensor, row-major and packed.
typedef struct sd_evalue {
  sd_dtype dtype;
  int rank;
  int64_t dims[SD_MAX_RANK];
  void *data;     // not written through for inputs
  uint64_t bytes;
} sd_evalue;

// A node that was just run, of the main graph or of a body.
typedef struct sd_eval_step {
  const sd_node *n;
  const sd_evalue *in, *out; // data NULL: omitted, or an output nobody uses. `in` NULL: of nodes without a kernel
  bool (*symbol)(void *symbols, const char *name, int64_t *v); // values of symbols now, as sd_dim_eval asks for them
  void *symbols;
} sd_eval_step;
// Called after each node; a status stops.
typedef sard_status *(*sd_eval_hook)(void *user, const sd_eval_step *s);

// Runs the main graph. in[i] is input i of the main graph, in order; the number must match. Symbols get their values
// from the inputs (SARD_E_USAGE where shapes or types do not fit). out[i] receives output i: its data is allocated
// with sd_alloc_aligned and owned by the caller (sd_eval_free), also when it equals an input or constant. On failure
// nothing is owned.
sard_status *sd_eval_module(sd_module *m, const sd_evalue *in, uint32_t n_in, sd_evalue *out, uint32_t n_out,
                            sd_eval_hook hook, void *user);
void sd_eval_free(sd_evalue *v); // frees the data; NULL data ok

// Evaluates one node whose operands are all constants (or omitted) and whose output shapes are static. outs has n_out
// entries; contents and constants live in `a`; NULL for omitted and dead outputs.
sard_status *sd_eval_node_consts(sd_node *n, sd_arena *a, const sd_const **outs);
