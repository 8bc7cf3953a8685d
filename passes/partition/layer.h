// Where to cut a model for several devices in a row: ranges of its nodes, such that the one that takes
// longest takes as little as possible, and none holds more than its device has room for.
//
// F[k][j], the best time of the slowest of k devices for the first j nodes, is the least over i of
// max(F[k-1][i], T_k(i+1..j) + X(i)/bandwidth + latency): T are the seconds of the nodes, X(i) the bytes that
// are made up to node i and read behind it. With m pieces of a batch a run takes the sum of the devices'
// times and m-1 times the largest.
#pragma once
#include "ir/graph.h"

typedef struct sd_layer_device {
  const double *seconds; // of each node on it; NULL: those of the costs
  uint64_t memory; // bytes for weights and activations, 0: no limit
} sd_layer_device;

// What the nodes of the main graph take, in their order. `bytes`: of a value, 0 where nothing is known.
typedef struct sd_layer_costs {
  const double *seconds;
  uint64_t (*bytes)(void *user, const sd_value *v);
  void *user;
  double link_bytes,
      link_seconds; // from one device to the next: bytes a second, and seconds before the first one
} sd_layer_costs;

typedef struct sd_layer_part {
  uint32_t first, n;        // nodes
  double seconds, link;     // of its nodes; until what it reads is there
  uint64_t weights, values; // bytes of its constants; most bytes of values at a time
  uint64_t bytes_in;        // X in front of it
} sd_layer_part;
typedef struct sd_layer_plan {
  uint32_t n, nodes;
  sd_layer_part *at;
  uint32_t *part_of;   // per node
  double slowest, sum; // seconds of the slowest part, and of all
} sd_layer_plan;

// Chooses the cuts; the plan is in `a`. Nothing of m changes. SARD_E_USAGE: more devices than parts that it
// can be cut in; SARD_E_NOMEM: no cut fits into the memory: says the node that needs most, and what would
// fit.
sard_status *sd_layer_cut(sd_module *m, const sd_layer_costs *c, const sd_layer_device *devices, uint32_t n,
                          sd_arena *a, sd_layer_plan *out);
// The same with n - 1 cuts that are given: the nodes at which the parts behind the first begin. SARD_E_USAGE:
// the model cannot be cut there; SARD_E_NOMEM: a part does not fit.
sard_status *sd_layer_cut_at(sd_module *m, const sd_layer_costs *c, const sd_layer_device *devices,
                             uint32_t n, const uint32_t *cuts, sd_arena *a, sd_layer_plan *out);
// The node that needs most memory, with its operands and results: *bytes. NULL: there is none.
const sd_node *sd_layer_largest(sd_module *m, const sd_layer_costs *c, sd_arena *a, uint64_t *bytes);
// Seconds of a run in `pieces` pieces, where each takes an even share of the time.
double sd_layer_seconds(const sd_layer_plan *p, uint32_t pieces);
