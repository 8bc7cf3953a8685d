// What the nodes of a module compute, read and exchange when each one is taken apart over n devices (tensor
// split).
//
// A value is whole on every device or split along one dim. States flow along the letters of iteration spaces
// (ir/axes.h), by one rule for all operators: a node whose operand is split works on its share. Where the
// letter is summed over, the results are added up over the devices; where it is worked across, the operand is
// gathered before. A node whose operands are whole is split along a letter that its weight alone brings into
// the result. Products that follow each other are so split by columns and rows in turns, with one exchange
// for two (arXiv 1909.08053), and attention by its heads.
#pragma once
#include "ir/graph.h"
#include "passes/partition/machine.h"

typedef enum sd_role {
  SD_ROLE_VALUE,
  SD_ROLE_WEIGHT, // an input that stands for a constant
  SD_ROLE_CACHE,  // an input or output that stays where it is from run to run
} sd_role;

typedef struct sd_work_sizes {
  bool (*size)(void *user, const char *symbol, int64_t *out);
  void *user;
} sd_work_sizes;

typedef struct sd_work {
  sd_module *m;         // all passes have run
  const sd_dim *flops;  // of each node of the main graph, in their order
  const uint8_t *roles; // sd_role of inputs and outputs by id
  sd_arena *a;
  uint32_t nodes;
} sd_work;

typedef struct sd_work_use {
  const sd_value *v;
  double share; // of its bytes, on each device
  bool no_more; // no more of it is read than is written
} sd_work_use;
typedef struct sd_work_exchange {
  sd_exchange what;
  const sd_value *v;
} sd_work_exchange;
typedef struct sd_work_node {
  const sd_node *node;
  bool free; // a view
  sd_dtype type;
  double share; // of its operations, on each device
  sd_work_use *in, *out;
  uint32_t n_in, n_out;
  SD_VEC(sd_work_exchange) exchanges;
} sd_work_node;
typedef struct sd_work_split {
  uint32_t n;
  sd_work_node *at;
  double *weight; // share of each constant and input that a device keeps, by id
} sd_work_split;

// In w->a; `sizes` decide where a size divides.
sd_work_split *sd_work_take_apart(const sd_work *w, const sd_work_sizes *sizes, uint32_t n);

// The numbers behind the dims for one set of sizes: bytes of values by id, operations of nodes.
typedef struct sd_work_load {
  double *bytes, *flops;
} sd_work_load;
sd_work_load sd_work_load_of(const sd_work *w, const sd_work_sizes *sizes);

// Bytes of a constant or of an input that is a weight or a cache; of others 0.
bool sd_work_stays(const sd_work *w, const sd_value *v);
// Most bytes of values at a time while nodes first..first+n-1 run, each value counted where its memory is.
double sd_work_live(const sd_work *w, const sd_work_split *s, const sd_work_load *l, uint32_t first,
                    uint32_t n);
