// A model in parts that run on different devices: a module for each, and which output feeds which input.
#pragma once
#include "ir/graph.h"

// Where an input of a part or an output of the model comes from: output `at` of part `part`, counted from 1,
// or input `at` of the model, which is part 0. sizes: only the shape is read, for the symbols in it.
typedef struct sd_wire {
  uint32_t part, at;
  bool sizes;
} sd_wire;
// A way to use several devices, as it was predicted for a batch of so many pieces as the ways agree on.
typedef struct sd_way {
  uint32_t how;   // sd_split_kind; 0: the first device alone
  bool fits;      // into the memory of the devices
  double seconds; // a run takes
  uint64_t bytes; // weights and values of the device that holds most
  double speed;   // of a GPU beside a processor, where the batch is split over both; else 0
} sd_way;
typedef struct sd_ways {
  sd_way at[8];
  uint32_t n, pieces;
} sd_ways;

typedef struct sd_part {
  sd_module *module;
  SD_VEC(sd_wire) in; // per input of its main graph; from parts that stand before it
} sd_part;
typedef struct sd_parts {
  uint32_t n, how; // how: sd_split_kind, as artifacts have it
  sd_part *at;
  sd_wire *out; // per output of the model; each has a source of its own
} sd_parts;

// Does a result or an operand of n lie inside of a border (Pad), where there may be one around it in memory? The rows of an
// image are at another distance than its columns then, and one axis is not made of both. A part of a model may not
// see the border, but what decides over bits has to go by it.
bool sd_node_rows_apart(const sd_node *n);
