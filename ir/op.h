// The operator table: one row per operator (ir/ops.def) is schema, shape function, reference semantics and lowering.
//
// Rows are read once at start from the strings of ops.def. See docs/add-an-op.md.
#pragma once
#include "ir/graph.h"
#include "ir/tile.h"

typedef enum sd_kind {
  SD_MAP,       // element of the output from the same (broadcast) element of the inputs
  SD_REDUCE,    // reduction over axes of one input
  SD_CONTRACT,  // sum of products (MatMul, Conv): fuses epilogues, gets register tiles
  SD_MOVE,      // each output element is one input element (or a fill value)
  SD_COMPOSITE, // several reductions and maps in one expression (Softmax, LayerNormalization)
  SD_NESTS,     // builds its nests itself: scatter, recurrences, attention
  SD_CONTROL,   // has bodies: If, Loop, Scan, Fused
  SD_HOST,      // a C function of the runtime (data-dependent)
  SD_COMM,      // a C function of the runtime, between devices
  SD_REWRITE,   // expands into other rows before anything else looks at it
} sd_kind;

// A function of the runtime computes it.
static inline bool sd_kind_is_host(sd_kind k) { return k == SD_HOST || k == SD_COMM; }

// What passes may count on, beside the kind; words of the column KIND.
typedef enum sd_trait {
  // MOVE: how the elements of the output lie in the first operand
  SD_RENAMES = 1,    // in the same order
  SD_PERMUTES = 2,   // each once, axes in another order
  SD_REGROUPS = 4,   // each once, axes split, in another order, and merged
  SD_CUTS = 8,       // a part of them, at fixed distances
  SD_REPEATS = 16,   // at fixed distances, some of them 0
  SD_JOINS = 32,     // several operands, or one and its border: an operand may be computed where it will lie
  SD_LOOKS_UP = 64,  // where the second operand says
  SD_BORDERS = 128,  // the first operand, and elements around it
  SD_UNPACKS = 2048, // in constants, packed for the product that reads it
  // NESTS
  SD_TAKES_ANY = 256, // reads operands one element at a time: they may be expressions
  SD_FOLLOWED = 512,  // stores by sd_tb_store: maps of the same shape may be in its kernel
  SD_WINDOWS = 1024,  // operands and results may lie in a part of another value's memory
} sd_trait;

// What becomes of a node of f32 where floats may be narrower (passes/precision).
typedef enum sd_narrow {
  SD_NARROW_NO,     // it stays: sums, norms, functions that make errors larger, what has no narrow form
  SD_NARROW_FOLLOW, // it is narrow where all that it reads is
  SD_NARROW_YES,    // products
} sd_narrow;

// Class letters of operands and outputs: V any value, * any tensor, O object, R real (numeric or bool), N numeric, F float, I integer, B bool, L i64, S string,
// T same as the first R/N/F/*/V operand. Suffix # list, ? optional, + variadic (last).
typedef struct sd_operand { const char *name; char cls; bool list, optional, variadic; } sd_operand;
// def.kind is the declared kind, always; def has a value only when has_default.
typedef struct sd_attrdecl { const char *name; sd_attr def; bool has_default, required; } sd_attrdecl;

typedef struct sd_tb sd_tb; // see ir/lower.h

// Element `idx` (rank-of-output I64 expressions) of output `out`. Returns NULL after recording an error with sd_tb_fail.
typedef sd_expr *(*sd_pull_fn)(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx);
typedef sard_status *(*sd_nests_fn)(sd_tb *b, const sd_node *n);
typedef sard_status *(*sd_shape_fn)(sd_node *n);             // sets the types (and elems) of the outputs
typedef sard_status *(*sd_rewrite_fn)(sd_node *n);            // replaces n by other nodes

struct sd_op {
  const char *name; // "Add"; other domains with prefix: "com.microsoft.FusedMatMul", "sard.Fused"
  uint16_t index;   // position in the table
  sd_kind kind;
  sd_narrow narrow;
  uint16_t traits; // sd_trait, or-ed
  bool commutative;     // in its first two operands
  bool infers;          // the shape function sets the types of the outputs (false: shape `none`)
  uint8_t n_in, n_out, n_attr; // declared
  const sd_operand *ins, *outs;
  const sd_attrdecl *attrs;
  sd_shape_fn shape;
  sd_pull_fn pull;       // MAP, REDUCE, CONTRACT, MOVE, COMPOSITE
  sd_nests_fn nests;     // NESTS
  sd_rewrite_fn rewrite; // REWRITE
  const char *text;      // MAP with TEXT body: expression over operand and attribute names
  const void *map;       // parsed form of `text`
};

static inline bool sd_op_has(const sd_op *op, unsigned any) { return (op->traits & any) != 0; }

// The rows, read from ops.def at the first call (thread-safe). A malformed row is reported by sd_ops_check.
const sd_op *sd_op_find(const char *name); // NULL when there is none
const sd_op *sd_op_at(uint32_t index);     // NULL past the end
sard_status *sd_ops_check(void);           // parses every row for every allowed dtype; for tests
const char *sd_op_nearest(const char *name); // NULL when no name is near

bool sd_op_class_has(char cls, sd_dtype t);       // false for class T
sd_dtype sd_node_class_type(const sd_node *n);    // what T stands for; SD_DT_NONE when there is no such operand
// Number of passes and counter symbol of a sard.For.
sard_status *sd_for_dims(const sd_node *n, sd_dim *trip, sd_dim *counter);
// Where the pass at hand puts its part of output `out`, a stacked one.
sard_status *sd_for_position(const sd_node *n, uint32_t out, sd_dim *position);
// Number of passes (SD_DIM_NONE: no bound), counter and count of a sard.While.
sard_status *sd_while_dims(const sd_node *n, sd_dim *trip, sd_dim *counter, sd_dim *count);
// Parameters of a host function: the attributes of the node in the order of its row, as dims. Lists of texts are dims, one
// parameter each; an absent attribute is SD_HOST_ABSENT (runtime/host.h). Floats are the bits of a double.
#define SD_HOST_PARAMS 256
sard_status *sd_host_params(const sd_node *n, sd_dim *out, uint32_t *out_n);
