// Narrower floats for parts of a model: which nodes of a module of f32 compute on f16 or bf16. The rules are
// a column of the operator table (sd_op.narrow); a plan overrules them node by node, calibration takes out
// what overflows.
#pragma once
#include "ir/op.h"

// What the user, a search or a plan in a file says of a node, by name.
typedef struct sd_precision_choice {
  const char *name;
  sd_dtype to;     // F32, F16, BF16
  const char *why; // of F32; NULL: none was given
} sd_precision_choice;

// What a value was on samples, by name.
typedef struct sd_precision_range {
  const char *name;
  double most,
      tiny; // largest size of its numbers; share of those that f16 has with fewer digits, or not at all
} sd_precision_range;

typedef struct sd_precision {
  sd_dtype to; // of nodes that no choice names: F16, BF16, F32
  SD_VEC(sd_precision_choice) choices;
  SD_VEC(sd_precision_range) ranges;
} sd_precision;

// What became of a node that has an f32 operand or result.
typedef struct sd_precision_node {
  const char *name, *op, *value; // value: its first result
  sd_dtype to;
  const char *why; // of F32
  bool by_rule;    // it is F32 for what it is, or because its operands are
} sd_precision_node;
typedef struct sd_precision_report {
  sd_arena *arena; // of the entries and their texts
  SD_VEC(sd_precision_node) nodes;
  uint32_t casts;   // that were added
  uint32_t weights; // nodes of F32 whose weights alone are narrow (sard convert)
} sd_precision_report;

// The name by which choices find a node: its own, else that of its first result; "" when it has neither.
const char *sd_precision_name(const sd_node *n);
// SARD_E_USAGE where the module has no node of a choice's name.
sard_status *sd_precision_check(const sd_precision *p, const sd_module *m);

// Why numbers do not fit f16; NULL: they do. `margin`: how far from its limit they have to stay.
const char *sd_precision_misfit(sd_arena *a, const char *what, double most, double tiny, double margin);
// The same facts of a constant of f32. Infinities do not count, as f16 has them.
void sd_precision_measure(const float *at, uint64_t n, double *most, double *tiny);

// ---- rules.c, for the pass ----
bool sd_precision_operand(const sd_op *op, uint32_t operand); // its type changes with that of the node
bool sd_precision_takes(const sd_node *n,
                        uint32_t operand); // it is an f32 whose type changes with the node's
bool sd_precision_of_integers(
    const sd_value *v); // made of integers, which narrow floats have up to 256 or 2048
