// The tables of a sard.SparseMatMul (ir/ops/sparse.h) from a dense weight.
#pragma once
#include "ir/ops/sparse.h"

// A weight of k inputs and n outputs, f32, perhaps not aligned: element (i, o) stands at i * by_k + o * by_n.
typedef struct sd_sparse_weight {
  const void *data;
  int64_t k, n, by_k, by_n;
} sd_sparse_weight;

// What is not 0, counted by blocks of inputs.
typedef struct sd_sparse_counts {
  int64_t block, blocks;
  uint16_t *own;    // [blocks][n]: of each output
  uint16_t *shared; // [blocks][ceil(n / SD_SPARSE_SHARE)]: inputs that any of the outputs side by side has
  int64_t nonzeros; // of all
} sd_sparse_counts;
#define SD_SPARSE_OWN   2 // outputs of a group, each with inputs of its own
#define SD_SPARSE_SHARE 4 // the same where they share them

// Are no more than `most` not 0? Looks at some of a dense weight only.
bool sd_sparse_few(const sd_sparse_weight *w, int64_t most);
// Counts, in `a`.
sd_sparse_counts sd_sparse_count(const sd_sparse_weight *w, int64_t block, sd_arena *a);
// Steps that all groups take when the outputs stand in parts of `part`.
int64_t sd_sparse_steps(const sd_sparse_weight *w, const sd_sparse_counts *c, int64_t part, bool shared,
                        sd_arena *a);
// The four tables as constants of g, in the order of the operands; their memory is the module's.
sard_status *sd_sparse_tables(sd_graph *g, const char *name, const sd_sparse_weight *w,
                              const sd_sparse_counts *c, int64_t part, bool shared, sd_arena *scratch,
                              sd_value **out);
