// Derivatives of rows, for Gradient: ir/ops/grad.def says for each operator what its operands get from the gradient of its
// outputs; grad.c goes through the graph backwards.
#pragma once
#include "ir/ops/xgraph.h"

// One node at work. A gradient has the type of its output (rules may leave broadcast dims to the caller, which sums them).
typedef struct sd_grad {
  xg *g;
  const sd_node *n;
  sd_value *const *dy; // by output; NULL: y does not depend on it
  const bool *wants;   // by operand
  sd_value **dx;       // by operand, set by the rule; NULL: zero
} sd_grad;

typedef void (*sd_grad_fn)(sd_grad *r);

// Formula of operators, a text for each operand, separated by ';':
//   a b c (operands), y, dy (of output 0), numbers, @name (float attribute), count; Op(x, ...) a node of one output;
//   _ zero. Numbers have the type of dy.
void sd_grad_text(sd_grad *r, const char *text);
// The same for a reduction of operand 0: dy and y are spread over the shape of the operand, count is the number of
// elements that one result is made of.
void sd_grad_reduced(sd_grad *r, const char *text);
// v summed to the shape of `like`, over which it was broadcast, in the type of `like`.
sd_value *sd_grad_fit(xg *g, sd_value *v, const sd_value *like);
sd_value *sd_grad_zeros(xg *g, const sd_value *like);
