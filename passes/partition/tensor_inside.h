// Inside of cutting tensors: what each rank has of a value of the model and the exchanges that make it
// something else (tensor_values.c), and how a node is best computed (tensor_choose.c).
#pragma once
#include "ir/axes.h"
#include "passes/partition/tensor.h"

typedef struct sd_hold {
  int axis;       // the value is cut along it, -1: it is not
  uint64_t units; // into which the axis is cut, each of as many elements
  bool partial;
} sd_hold;
#define SD_HOLD_WHOLE ((sd_hold){.axis = -1})

// What ranks have of a value: one for each way in which somebody needs it.
typedef struct sd_held {
  sd_hold hold;
  sd_value **at; // per rank
  struct sd_held *next;
} sd_held;

typedef struct sd_tensors {
  sd_module *m;
  sd_parts *parts;
  sd_arena *a; // scratch
  int ranks;
  int64_t tag;                     // of the next exchange
  sd_held **held;                  // by id of values: the first is how it was made
  uint64_t (*offered)[SD_MAX_RANK]; // by id and axis: units in which the value can be made; 0: any
  uint64_t (*wanted)[SD_MAX_RANK];  // and in which those that read it can take it
  sd_tensor_report *r;
} sd_tensors;

sd_graph *sd_tensors_graph(const sd_tensors *t, int rank);
// How the ranks have v to begin with: constants are whole.
sd_hold sd_tensors_hold(const sd_tensors *t, const sd_value *v);
// A part of a value: ranges of its elements along the axes that are cut.
typedef struct sd_box {
  bool cut[SD_MAX_RANK];
  int64_t from[SD_MAX_RANK], to[SD_MAX_RANK];
} sd_box;

// Of a node of one rank, made like `like`: where that has shapes as operands, and attributes that count
// elements, those of the part of result 0.
sard_status *sd_tensors_fit(const sd_tensors *t, sd_node *n, const sd_node *like, const sd_axes *x,
                            const sd_box *part);

// A part of a value that a rank computes from parts of constants, instead of taking it out of the whole:
// products, and maps and moves behind them. Whether that can be, and which product is part of it (NULL: it is
// no matter); the part, at the end of the rank's graph. Operands that it needs as a whole are brought.
bool sd_tensors_can_take(const sd_tensors *t, const sd_value *v, const sd_box *part, const sd_node **product);
sard_status *sd_tensors_take(sd_tensors *t, sd_value *v, const sd_box *part, int rank, sd_value **out);

// It is computed from constants alone, by one node.
bool sd_tensors_is_weight(const sd_value *v);

// Says what the ranks have of v; `at` is kept.
void sd_tensors_set(sd_tensors *t, const sd_value *v, sd_hold h, sd_value **at);
// What each rank has of v in that way, by exchanges where it has to be.
sard_status *sd_tensors_get(sd_tensors *t, sd_value *v, sd_hold h, sd_value *const **out);
// Brings all of v to each rank; what is held of it otherwise is taken out of that from then on.
sard_status *sd_tensors_settle(sd_tensors *t, sd_value *v);
// Elements of an axis of `size` that a rank has: from `begin` on.
int64_t sd_tensors_begin(const sd_tensors *t, int64_t size, uint64_t units, int rank);
// Bytes that a rank reads from others until what is held as `from` is held as `to`, of a tensor of `bytes`.
double sd_tensors_moved(const sd_tensors *t, sd_hold from, sd_hold to, double bytes);
// Of a tensor of usual sizes.
double sd_tensors_bytes(const sd_tensors *t, const sd_value *v);
double sd_tensors_count(const sd_tensors *t, const sd_value *v);

// How a node is computed: along a letter of its iteration space, whose axes all have that many units.
typedef struct sd_cutting {
  sd_letter letter; // 0: all of it by each rank
  uint64_t units;
  double seconds;
  bool table; // for the memory of a constant: what follows is not to be cut like that
} sd_cutting;

// The only axis of a value with that letter, -1: none has it; -2: two have.
int sd_letter_axis(const sd_letter *letters, const sd_value *v, sd_letter l);

void sd_tensors_want(sd_tensors *t); // fills t->offered and t->wanted, which are there
// The best way for n, of whose letters nothing is known where x is NULL.
sd_cutting sd_tensors_choose(const sd_tensors *t, const sd_node *n, const sd_axes *x);
// How the way has operand and result i.
sd_hold sd_cutting_operand(const sd_node *n, const sd_axes *x, uint32_t i, const sd_cutting *w);
sd_hold sd_cutting_result(const sd_node *n, const sd_axes *x, uint32_t i, const sd_cutting *w);
