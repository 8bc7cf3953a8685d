// Random graphs as text: statements are made from templates over the values so far and kept when the types infer.
//
// Values are exact (small multiples of 1/8 that only exact operations touched) or not: what jumps (comparisons, rounding,
// arg reductions) is applied to exact ones only, so that all compilations have to agree.
#pragma once
#include "ir/graph.h"
#include "runtime/base/str.h"

typedef struct gen_value { uint32_t id; bool exact, constant; } gen_value;

typedef struct gen_graph {
  uint64_t seed;      // state of the random numbers
  int64_t batch;      // value of the symbol N when it runs
  sd_str head, body;  // up to the inputs; statements
  uint32_t next;      // value number
  gen_value at[64];
  uint32_t n;
  sd_module *m;       // of the statements so far, every value is an output; NULL before the first
  char *text;         // of m
} gen_graph;

void gen_begin(gen_graph *g, uint64_t seed);
void gen_grow(gen_graph *g, int nodes);
void gen_end(gen_graph *g);
// The text with the last value (or `only`) as the one output; owned by the caller (sd_free).
char *gen_text(const gen_graph *g, uint32_t only);
uint64_t gen_random(gen_graph *g, uint64_t below);
