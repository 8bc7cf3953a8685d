// Random legal nodes of a row of the operator table, as graph text.
//
// What the classes of the row do not say stands in tests/diff/op_gen.def, in a small language: see there.
#pragma once
#include "ir/op.h"
#include "runtime/base/str.h"

#define OP_MOST 40 // operands, outputs

// How the data of a tensor is made: numbers of [lo, hi], or one of a list.
typedef struct op_fill {
  double lo, hi, list[8];
  int n_list;
  bool given;   // else: any number of the type
  bool special; // NaN, infinities, extremes among them
} op_fill;

typedef struct op_input {
  uint32_t id; // value number
  sd_dtype dtype;
  int rank;
  int64_t dims[SD_MAX_RANK];
  op_fill fill;
  uint64_t seed;
} op_input;

typedef struct op_case {
  const sd_op *op;
  uint64_t seed;
  sd_str inputs, body;  // "%3: f32[2,N0]" with commas between; statements
  op_input in[OP_MOST]; // the graph inputs
  uint32_t n_in;
  uint32_t out[OP_MOST], n_out; // value numbers of the results
  uint32_t next;        // first value number that is free
  char symbol[16];      // name of its symbolic size, "" when it has none
} op_case;

// A case of the row: the same seed gives the same one, with value numbers from `first` on and the symbol N<first>. NULL, or
// what is wrong with the row's entry in op_gen.def.
const char *op_case_make(op_case *c, const sd_op *op, uint64_t seed, uint32_t first);
void op_case_free(op_case *c);
bool op_case_known(const sd_op *op);                  // a row of op_gen.def, or a formula whose classes say all
uint64_t op_random(uint64_t *state, uint64_t below);
// Fills `count` elements of the packed array `data`.
void op_fill_data(const op_input *in, uint64_t count, void *data);
