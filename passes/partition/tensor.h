// Takes tensors of a module apart for several devices, its ranks: products, heads of attention and large
// tables, wherever letters of iteration spaces (ir/axes.h) say that a part of a result needs a part of an
// operand. Each rank has a module with all nodes, and of weights the parts that its nodes read; exchanges
// stand where a node needs more than the rank has.
//
// A value is whole on all ranks, cut along an axis (in units: heads, or elements), or partial: its sum over
// all ranks is meant. In the order of the graph each node takes the way that is least of
//   bytes that a rank reads from others / SD_TENSOR_BYTES_A_SECOND + operations of a rank /
//   OPERATIONS_A_SECOND,
// where bytes of n ranks are 2 (n-1)/n of a sum for all, (n-1)/n of parts put together or a part of a sum. A
// cut that begins has the bytes in it that put its result together again, so that it pays for itself; what
// follows can only gain. Constants of TABLE_BYTES and more are cut for their memory. A node that takes
// windows out of what a product makes (q, k and v) has them computed by themselves where the parts that
// readers want lie across its own.
#pragma once
#include "ir/parts.h"

#define SD_TENSOR_BYTES_A_SECOND 1.2e10

typedef struct sd_tensor_node {
  const sd_node *node; // of the module that was cut
  const char *name, *op;
  const char *how; // what of it a rank computes, or why all of it
  bool cut;
} sd_tensor_node;
typedef struct sd_tensor_report {
  SD_VEC(sd_tensor_node) nodes; // products, and others that are cut by themselves
  uint32_t cut, exchanges;      // nodes that are cut, of any kind
  double bytes;                 // that a rank reads from others in a run of usual sizes
} sd_tensor_report;

// A part for each rank; afterwards m is for names and types of inputs and outputs only. Parts share m's arena
// and tables and live as long as m; all have the inputs and outputs of m, and its outputs are those of the
// first part.
sard_status *sd_tensor_cut(sd_module *m, uint32_t ranks, sd_parts *out, sd_tensor_report *r);
