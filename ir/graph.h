// The graph level: modules, graphs, nodes, values, constants. Everything lives in the module's arena.
//
// Invariants (ir/verify.c): nodes of a graph are in topological order; every value has one definition; `uses` of a
// value lists exactly the operand slots that hold it (graph outputs are not uses: see sd_graph.outputs); types agree
// with the shape function of the operator row; a body sees its own inputs and the values of the enclosing graphs.
#pragma once
#include "ir/dim.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/strtab.h"
#include "runtime/objects.h"
#include "runtime/base/status.h"

typedef struct sd_module sd_module;
typedef struct sd_graph sd_graph;
typedef struct sd_node sd_node;
typedef struct sd_value sd_value;
typedef struct sd_op sd_op; // a row of ir/ops.def, see ir/op.h

#define SD_MAX_RANK     16
#define SD_RANK_UNKNOWN (-1)
#define SD_MAX_DEPTH    64 // nesting of bodies

// Constant tensor contents, row-major, packed. `data` may point into a mapped file that the module keeps, and is then
// not aligned.
typedef struct sd_const {
  sd_dtype dtype;
  int rank;
  const int64_t *dims;
  uint64_t count, bytes;
  const void *data;             // SD_STRING: uint64_t numbers of the module's strings
  uint64_t hash;                // of dtype, dims and contents; 0 = not computed yet (sd_const_hash)
} sd_const;

// Type of a value that is no plain tensor (its dtype is SD_OBJECT, its rank 0; see runtime/objects.h). Interned in the
// module: equal types are the same pointer.
typedef struct sd_otype {
  sd_object_kind kind;
  sd_dtype dtype;             // TENSOR: of its elements; MAP: of its keys
  int rank;                   // TENSOR: SD_RANK_UNKNOWN: any; SD_RANK_NONE: there is none yet
  const struct sd_otype *of;  // SEQUENCE, OPTIONAL: of the items; MAP: of the values. NULL: not known
} sd_otype;
#define SD_RANK_NONE (-2)

typedef struct sd_use { sd_node *node; uint32_t operand; } sd_use;

struct sd_value {
  uint32_t id;         // unique in the module, printed as %id
  const char *name;    // ONNX name, "" for values that passes made
  sd_dtype dtype;      // SD_DT_NONE while not inferred
  int rank;            // SD_RANK_UNKNOWN while not inferred
  sd_dim dims[SD_MAX_RANK];
  const sd_otype *object; // with SD_OBJECT: what it is
  sd_node *def;        // NULL: graph input or constant
  uint32_t out_index;
  const sd_const *data; // not NULL: a constant, or an input of a body that is bound to one
  sd_graph *graph;      // where it is defined
  // Symbolic contents of a small integer tensor (rank 0 or 1), e.g. what Shape gives; NULL when not known.
  const sd_dim *elems;
  uint32_t n_elems;
  // Shares the memory of that value (a view, or computed in place); NULL: has its own. May be a value that nothing
  // defines and nothing reads: memory that only holds others.
  sd_value *storage;
  // Its node needs no code: the same elements as `storage` (Reshape), or put together from windows (Concat).
  bool view;
  // With `storage`: the value lies inside of it, element 0 at this position (one entry for each dim of the storage, whose
  // rank may be higher: dims are then aligned at the last one).
  const sd_dim *window;
  SD_VEC(sd_use) uses;
};

typedef enum sd_attr_kind {
  SD_ATTR_NONE, // absent (optional and without default)
  SD_ATTR_INT, SD_ATTR_FLOAT, SD_ATTR_STRING, SD_ATTR_INTS, SD_ATTR_FLOATS, SD_ATTR_STRINGS, SD_ATTR_TENSOR,
  SD_ATTR_GRAPH // one of the node's bodies
} sd_attr_kind;

typedef struct sd_attr {
  sd_attr_kind kind;
  uint32_t n; // length of INTS, FLOATS, STRINGS
  union {
    int64_t i;
    float f;
    const char *s;
    const int64_t *ints;
    const float *floats;
    const char *const *strings;
    const sd_const *tensor;
    sd_graph *graph;
  };
} sd_attr;

struct sd_node {
  const sd_op *op;
  sd_graph *graph;
  sd_node *prev, *next;
  const char *name;     // ONNX node name, "" when it has none
  int onnx_index;       // index in the ONNX graph, -1 for nodes that passes made
  uint32_t n_in, n_out, n_attr, n_body;
  sd_value **in;        // NULL for an omitted optional operand
  sd_value **out;       // NULL for an omitted optional output
  sd_attr *attrs;       // dense, in the order of the row's declaration
  sd_graph **bodies;    // subgraphs: then/else, loop body, fused group
  bool rows_apart;      // in parts of a model: sd_node_rows_apart in the whole
};

struct sd_graph {
  sd_module *module;
  sd_node *owner;       // node whose body this is, NULL for the main graph
  const char *name;
  sd_node *first, *last;
  SD_VEC(sd_value *) inputs;
  SD_VEC(sd_value *) outputs; // may repeat, may be inputs, constants or (in a body) values of enclosing graphs
  SD_VEC(sd_graph *) children; // bodies of the nodes of this graph, kept by the functions below
};

typedef struct sd_meta { const char *key, *value; } sd_meta;

// Two dims that must agree when the symbols have values: equal, or with `broadcast` also one of them 1. What shape
// inference could not prove; checked when inputs are bound.
typedef struct sd_require { sd_dim a, b; bool broadcast; const char *what; } sd_require;
typedef SD_VEC(sd_require) sd_requires;

struct sd_module {
  sd_arena *arena;
  sd_dimtab *dims;
  sd_graph *main;
  const char *file; // for messages
  const char *producer;
  int64_t ir_version, opset;
  uint32_t next_id;
  SD_VEC(sd_meta) metadata;
  sd_requires requires;   // of nodes of the main graph: those of bodies hold when the body runs, see sd_node_requires
  sd_requires *collect;   // sd_node_requires: where requirements go meanwhile
  bool has_bodies;        // branches or loops; nodes may have moved out of them
  SD_VEC(const char *) externals; // locations of external data that were read
  SD_VEC(sd_map) maps;  // files that constants may point into; unmapped by whoever mapped them
  SD_VEC(sd_map) lent;  // memory of the caller that constants may point into: only read
  sd_strtab *strings;   // what string constants hold numbers of
  sd_objects *objects;  // of runs of the interpreter
  struct sd_group *group; // of runs of the interpreter: the devices that it exchanges tensors with, NULL: it is alone
  SD_VEC(const sd_otype *) otypes;
  // How a batch goes through the model (passes/partition/batch.c): NULL, or for each input and output of main the axis that the
  // batch lies along, -1 where it has none. batch_why: why it cannot be split, "" where it can; NULL: nobody looked.
  const int *batch_axes;
  uint32_t batch_n; // of inputs and outputs when the pass looked
  const char *batch_why;
  sd_dim batch; // its symbol; SD_DIM_NONE where it cannot be split
};

// ---- module ----
sard_status *sd_module_new(const char *file, sd_module **out); // with an empty main graph and its own arena
// Records a requirement (once); nothing happens where it is proven. `what` is copied.
void sd_module_require(sd_module *m, sd_dim a, sd_dim b, bool broadcast, const char *what);
// The same for node n, in whose shape function this is: where n lies in the body of a branch or loop, nothing is recorded
// for the module, as the body may never run.
void sd_node_require(const sd_node *n, sd_dim a, sd_dim b, bool broadcast, const char *what);
// Appends what n and, where it is a fused group, its members need to *out, by another run of the shape functions.
sard_status *sd_node_requires(sd_node *n, sd_requires *out);
void sd_module_free(sd_module *m);                             // NULL ok
// A module with an empty main graph that lives in m's arena, with its tables and files. It goes with m.
sd_module *sd_module_share(const sd_module *m);

// The number of a string of n bytes in m->strings.
uint64_t sd_module_string(sd_module *m, const char *text, size_t n);

// ---- values ----
sd_value *sd_value_new(sd_graph *g, const char *name); // not attached to a node; type unknown
sd_value *sd_graph_input(sd_graph *g, const char *name, sd_dtype t, int rank, const sd_dim *dims);
void sd_graph_output(sd_graph *g, sd_value *v);
// A constant value; copies nothing, `data` must live as long as the module (use the arena). hash is computed lazily.
// NULL when rank or dims are out of range or the size overflows.
sd_value *sd_value_const(sd_graph *g, const char *name, sd_dtype t, int rank, const int64_t *dims, const void *data);
sd_value *sd_value_const_i64(sd_graph *g, const int64_t *v, int n); // copied; n < 0: a scalar v[0], else rank 1
sd_value *sd_value_const_f32(sd_graph *g, float v);                 // scalar
sd_value *sd_value_const_texts(sd_graph *g, const char *name, const char *const *v, int n); // as sd_value_const_i64
void sd_value_set_type(sd_value *v, sd_dtype t, int rank, const sd_dim *dims);
void sd_value_copy_type(sd_value *dst, const sd_value *src);
void sd_value_set_object(sd_value *v, const sd_otype *t);
const sd_otype *sd_otype_new(sd_module *m, sd_object_kind kind, sd_dtype t, int rank, const sd_otype *of);
// The type of the elements in tensors of rank `rank` of v, as a type of objects.
const sd_otype *sd_otype_of(sd_module *m, const sd_value *v);
// The narrowest type that both are; NULL where there is none (other kinds, other element types).
const sd_otype *sd_otype_join(sd_module *m, const sd_otype *a, const sd_otype *b);
// Reads what sd_otype_print wrote (also any(...) around a tensor, and ?, which gives NULL) from *p on; false: it is none.
#define SD_OTYPE_DEPTH 8
bool sd_otype_parse(sd_module *m, const char **p, const sd_otype **out);
void sd_otype_print(const sd_otype *t, sd_str *out); // "seq(f32[2])", the rank in brackets; * any, - none yet
bool sd_value_static(const sd_value *v, int64_t *out_dims);         // all dims constant; out_dims may be NULL
sd_dim sd_value_count(const sd_value *v);                           // number of elements
bool sd_value_is_single(const sd_value *v);                         // one element
bool sd_value_is_zero(const sd_value *v);                           // NULL, or constant and 0 everywhere
sd_dim sd_dim_bytes(sd_dimtab *t, sd_dtype type, sd_dim count);     // that many elements take, packed below a byte
void sd_value_replace(sd_value *old, sd_value *new_);               // all uses and graph outputs of old become new_
bool sd_value_is_input(const sd_value *v);                          // of its graph
sd_value *sd_value_root(sd_value *v);                                  // whose memory it shares; itself
bool sd_value_is_output(const sd_value *v);                         // of its graph, or of a body below it
// Gives memory of a large constant back to the system. In a mapped file: its pages, which come again when they are read.
// Elsewhere, and only with `last` (nothing reads it any more): its contents, unless the memory is the caller's.
void sd_const_release(const sd_module *m, const sd_const *c, bool last);
uint64_t sd_const_hash(const sd_const *c);                          // cached in *c
// Content of an integer constant or symbolic content as dims; false when not known. n elements, caller gives the room.
bool sd_value_elems(const sd_value *v, sd_dim *out, uint32_t cap, uint32_t *out_n);

// ---- nodes ----
// Makes a node with `n_in` operands (array copied; NULL entries = omitted) and n_out new outputs of unknown type, all
// attributes at their defaults, inserted before `before` (NULL: at the end of g).
sd_node *sd_node_new(sd_graph *g, sd_node *before, const sd_op *op, sd_value *const *in, uint32_t n_in, uint32_t n_out);
// The same with operator, attributes and ONNX name of `like`, which may be of another graph.
sd_node *sd_node_like(sd_graph *g, sd_node *before, const sd_node *like, sd_value *const *in, uint32_t n_in, uint32_t n_out);
// The same for an op by name ("Add"; "sard.Fused") with its required outputs (at least one) and types inferred;
// *out (NULL ok) is the node. Nothing is left in g on an error.
sard_status *sd_build(sd_graph *g, sd_node *before, const char *op, sd_value *const *in, uint32_t n_in, sd_node **out);
void sd_node_set_input(sd_node *n, uint32_t operand, sd_value *v); // keeps use lists right
void sd_node_remove(sd_node *n);                                   // outputs must have no uses
void sd_node_move_before(sd_node *n, sd_node *before);          // also into another graph; NULL: to the end of its own
void sd_node_move_to(sd_node *n, sd_graph *g, sd_node *before); // into g, with outputs and bodies; NULL: at the end
// A new empty body. A graph attribute of that name in the row is set to it: bodies are where graph attributes live.
sd_graph *sd_node_add_body(sd_node *n, const char *name);
// Attribute by name; NULL when the row has none of that name. Setting an undeclared one is an internal error.
sd_attr *sd_node_attr(const sd_node *n, const char *name);
int64_t sd_node_int(const sd_node *n, const char *name, int64_t absent);
float sd_node_float(const sd_node *n, const char *name, float absent);
const char *sd_node_str(const sd_node *n, const char *name, const char *absent);
void sd_node_set_int(sd_node *n, const char *name, int64_t v);
void sd_node_set_ints(sd_node *n, const char *name, const int64_t *v, uint32_t count); // copied
// Fills *st with node context: "node 12 'layer1/conv' (Conv)", operand types; returns it.
sard_status *sd_node_error(const sd_node *n, sard_status *st);
// "f32[N,3,224,224]"
void sd_type_print(const sd_module *m, const sd_value *v, sd_str *out);

// ---- text, checks ----
sard_status *sd_module_print(const sd_module *m, bool weights, sd_str *out); // weights: full contents of constants
sard_status *sd_module_parse(const char *text, const char *file, sd_module **out);
sard_status *sd_module_verify(sd_module *m);
// Checks number, presence and classes of the operands and attributes against the row.
sard_status *sd_node_check(const sd_node *n);
// Checks the node, then runs its shape function: types (and elems) of the outputs from the operands. Checks these too.
sard_status *sd_node_infer(sd_node *n);
