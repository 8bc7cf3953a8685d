// Operands whose contents only the run knows, in the shape functions of rows: sizes that follow from them become symbols, and
// the node is expressed by rows over these sizes.
//
// All functions build in front of the node `g->at`; after an error, which g keeps, they give NULL. What they build depends on
// no names of symbols of inputs, so that types may be inferred again.
#pragma once
#include "ir/ops/xgraph.h"
#include "runtime/host.h"

// True when operand `operand` is given and is no list of numbers known now.
bool sd_sh_open(const sd_node *n, uint32_t operand);
// Number of its elements: the length of a vector, 1 for a scalar. False when only the run knows it.
bool sd_sh_length(const sd_node *n, uint32_t operand, int64_t *out);
// A vector of `count` numbers that a sard.Sizes computes from `in` (runtime/host.h), with symbols as contents; the same
// one again where it is there already. Numbers of any sign are two elements.
sd_value *sd_xg_sizes(xg *g, sd_sizes what, sd_value *const *in, uint32_t n_in, const int64_t *param, uint32_t n_param, uint32_t count);
// The row of `g->at` with its attributes, of other operands.
sd_node *sd_xg_again(xg *g, sd_value *const *in, uint32_t n_in);
// Makes `g->at`, which has one output, a node of operator and attributes `spec`, and infers its type. The error kept.
sard_status *sd_xg_become(xg *g, const char *spec, sd_value *const *in, uint32_t n_in);
