// How a product with a weight that is mostly 0 is computed best: by estimates from measured kernels
// (passes/sparse_rates.def).
#pragma once
#include "passes/simplify/sparse_tables.h"
#include "passes/target.h"

typedef struct sd_sparse_plan {
  sd_sparse_counts counts;
  int64_t tile, part;  // rows of x, outputs
  bool shared, inside; // see ir/ops/sparse.h
} sd_sparse_plan;

// A product, of dense kernels that make `dense` products a cycle.
typedef struct sd_sparse_task {
  sd_sparse_weight w;
  int64_t rows;
  int64_t across, channels; // with windows: outputs of a line, inputs of a place; else 0
  double dense;
} sd_sparse_task;

// The fastest plan; false: none gains enough over the dense kernel. Memory of the counts is of `a`.
bool sd_sparse_choose(const sd_sparse_task *t, const sd_sparse_rates *r, sd_arena *a, sd_sparse_plan *out);
