// Pruning of ONNX models: the weights that can lose elements, and the model written without them. Names,
// nodes and shapes stay those of the original. Nothing here runs a model.
#pragma once
#include "frontend/onnx/packed.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

// A weight of a node, as a matrix of outputs x inputs.
enum { SD_PRUNE_BEHIND = 6 };

typedef struct sd_prune_unit {
  const char *name, *op; // of the node; "Conv_12" where it has no name
  const char *behind[SD_PRUNE_BEHIND]; // names of the nodes that follow it one by one, whose kernel may be its own; NULL: no more
  const char *x, *weight;
  int rank;
  const int64_t *dims; // of the weight
  uint64_t rows, k,
      groups;      // outputs; inputs of each, channels innermost; the outputs of a group share their inputs
  uint64_t at;     // of the node in the file
  int operand;     // of the node, that the weight is
  bool turned;     // the weight is [inputs][outputs]
  bool recurrent;  // of a layer that reads what it gave, or its inputs are indices: chosen by magnitude
  bool states;     // of the former: it is fitted, too
  bool keep;       // stays as it is
  const char *why; // the reason
  const void *was; // its elements where they lie, in the order of the file; NULL: it cannot be pruned
  float *w;        // those that will be written, in the same order; NULL: there is no room for others yet
  bool changed;    // they are other ones
} sd_prune_unit;
typedef SD_VEC(sd_prune_unit) sd_prune_units;

// The model with weights that nodes move out of constants as constants of their own; *out NULL: it has none. The source has to live as long.
sard_status *sd_prune_fold(sd_arena *a, const sard_source *src, const sd_packed **out);

// What is pruned only where it is asked for: rows that Gather takes, and kernels of single channels, which cost more than others.
typedef enum sd_prune_also { SD_PRUNE_TABLES = 1, SD_PRUNE_DEPTHWISE = 2 } sd_prune_also;
// The weights of the model, in order; those that cannot be pruned say why. They point into the model, which has to
// live as long. Weights that are NaN or infinite are SARD_E_MODEL. `also`: bits. *parameters: elements of all constants of floats.
sard_status *sd_prune_find(sd_arena *a, const sard_source *src, unsigned also, sd_prune_units *out, uint64_t *parameters);
// A model with the inputs of the original whose outputs are, over a batch of samples, sums for unit `u`: the
// second moments of its inputs, f32[groups, k, k], and what its weight makes of them in the original model
// times its inputs, f32[groups, rows / groups, k]. Its inputs are those with the weights `w` of all units
// before.
sard_status *sd_prune_watch(sd_arena *a, const sard_source *src, const sd_prune_units *units, uint32_t u,
                            const sd_packed **out);
// A model whose outputs are, for each unit that is neither kept nor recurrent, the gradient of a random sum
// of output `output` with respect to its weight, in the order of the file.
sard_status *sd_prune_slopes(sd_arena *a, const sard_source *src, const sd_prune_units *units, int output,
                             const sd_packed **out);
// Element of the file for input j of output r, and what it was.
uint64_t sd_prune_place(const sd_prune_unit *u, uint64_t r, uint64_t j);
float sd_prune_was(const sd_prune_unit *u, uint64_t r, uint64_t j);
// The weight as it will be written, as [rows][k].
void sd_prune_load(const sd_prune_unit *u, float *out);
// Other numbers for it. Room for them, `w`, is in the arena.
void sd_prune_room(sd_arena *a, sd_prune_unit *u);
void sd_prune_store(sd_prune_unit *u, const float *rows);
// `w` was written to, or not: whether it is what the file has.
void sd_prune_compare(sd_prune_unit *u);
// The model with the weights `w` of all units that are not kept. They are lent to it, not copied.
sard_status *sd_prune_write(sd_arena *a, const sard_source *src, const sd_prune_units *units, const sd_packed **out);

// ---- channels ----
// Outputs of layers that go together or stay. A label stands for one output of one layer; those that have the
// same root are one.
#define SD_NO_UNIT UINT32_MAX
typedef struct sd_prune_label {
  uint32_t same;    // the root is its own
  uint32_t unit;    // the layer whose output it is; SD_NO_UNIT: none
  bool fixed, head; // of roots: cannot go; is a run of outputs, as heads of attention are
  bool state;       // of roots: a hidden unit, or a place of a state that comes from an input
  bool gone;        // of roots: set by the caller
} sd_prune_label;

typedef enum sd_prune_cut_kind {
  SD_CUT_OUTPUTS, // the weight of a unit, its outputs
  SD_CUT_INPUTS,  // the weight of a unit, its inputs
  SD_CUT_OTHER,   // biases, scales, kernels of single channels
  SD_CUT_SIZE,    // an element of a constant shape
  SD_CUT_PART,    // one of the sizes that a Split without a second operand makes
  SD_CUT_PLACE,   // where a part begins or ends; it may become 0
  SD_CUT_SHAPE,   // an element of a shape that nodes compute
  SD_CUT_ASKED,   // what a Shape says, which stays as it was: sizes that change are all known
  SD_CUT_ATTRIBUTE, // how many they are, as `group` says
  SD_CUT_START,     // an initial state, all zeros: without it it is that anyway
} sd_prune_cut_kind;
enum { SD_SIZE_AS_COMPUTED = -2, SD_SIZE_SCALED = -3 }; // the latter times what is left of the labels, by their number

// What depends on labels.
typedef struct sd_prune_cut {
  sd_prune_cut_kind kind;
  uint32_t node, operand; // in the file
  int axis;               // of shapes: the element
  const uint32_t *labels; // along the axis, [parts][its elements]
  uint32_t n;
  int rank;               // SD_CUT_SHAPE, SD_CUT_ASKED: elements
  uint32_t parts;         // of axis 0, as many elements of each go; of shapes: 0
  const char *attribute;  // SD_CUT_ATTRIBUTE
  const int64_t *sizes;   // those of before; -1: what is left of a tensor, where nothing is known
} sd_prune_cut;

// A state that is an input or output of the model and has labels. Its axis is `each` places, or as often so many; what stays of them
// may be other ones for each combination of places on the axes `of`, as states of stacked layers have it, but as many.
enum { SD_IO_AXES = 4 };
typedef struct sd_prune_io {
  const char *name;
  bool input;
  int axis, n_of, of[SD_IO_AXES]; // outermost first
  uint32_t sizes[SD_IO_AXES];     // of `of`
  int64_t dim;                    // of `axis`, -1: open
  const uint32_t *labels;         // [parts][each]
  uint32_t parts, each;
} sd_prune_io;

typedef struct sd_prune_channels {
  SD_VEC(sd_prune_label) labels; // the first one always stays
  SD_VEC(sd_prune_cut) cuts;
  SD_VEC(sd_prune_io) io; // inputs and outputs that lose what their labels lose
  bool outside; // some stay because inputs and outputs keep their sizes
  bool runs; // outputs of layers are taken apart into runs, whether they can go or not
  struct {
    uint32_t unit;
    const char *node, *op; // NULL: none; "" for a node without a name
  } stop[2]; // a layer, and the node that needs all of its outputs: the first one, and the first one of outputs in runs
} sd_prune_channels;

// Follows the outputs of all units that are not kept. `resize`: states that are inputs and outputs of the model may get other sizes.
sard_status *sd_prune_follow(sd_arena *a, const sard_source *src, const sd_prune_units *units, bool resize,
                             sd_prune_channels *out);
// Places of each part that stay; UINT32_MAX: not as many of each.
uint32_t sd_prune_io_left(const sd_prune_channels *c, const sd_prune_io *io);
uint32_t sd_prune_root(const sd_prune_channels *c, uint32_t label);
// As sd_prune_write, without what is gone. *parameters: those that are left.
sard_status *sd_prune_write_less(sd_arena *a, const sard_source *src, const sd_prune_units *units,
                                 const sd_prune_channels *c, const sd_packed **out, uint64_t *parameters);
