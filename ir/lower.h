// From graph nodes to kernels: pulls the expression of each output element through the bodies of the rows.
//
// Inside a fused group the operand of a member that another member defines is not loaded but substituted by that
// member's expression: this is operator fusion. Everything that Sard runs (interpreter, constant folding, CPU, CUDA)
// goes through here.
#pragma once
#include "ir/op.h"

// Tiles that bodies with partial results make (attention): what a target has room for.
typedef struct sd_lower_tile {
  int64_t rows, columns; // at most, of the partial results: powers of two
  int64_t grain;         // of their numbers: a power of two
  int64_t most;          // longest row of an operand or result
  int64_t bytes;         // of the operands of a tile, at most
} sd_lower_tile;

struct sd_tb {
  sd_kernel *k;
  sd_arena *arena; // = k->arena
  sd_dimtab *dims;
  const sd_node *node;      // node being lowered (for messages): the group when in a group
  const sd_graph *inlined;  // body whose nodes are substituted, NULL for a plain node
  sard_status *error;       // first error recorded
  sd_expr *guard;           // current guard of loads, NULL = none
  sd_expr *part;            // which part of complex numbers is asked for (I64, 0 or 1), NULL where none may be read
  const sd_lower_tile *tile; // NULL: as suits the caches of processors
  // bindings of body inputs to operands and memo: private to lower.c
  struct sd_tb_private *priv;
};

// Lowers one node (plain, or sard.Fused) to one kernel whose parameters are bound to values (sd_buf.value): first the
// operands that are read, in order of first use, then the outputs.
sard_status *sd_lower_node(sd_arena *a, sd_module *m, const sd_node *n, sd_kernel **out);
// The same with other tiles; `tile` NULL: as above.
sard_status *sd_lower_tiled(sd_arena *a, sd_module *m, const sd_node *n, const sd_lower_tile *tile, sd_kernel **out);

// A complex number is two numbers in memory, and kernels that give complex values have one more axis for the two: a body
// gives the part `b->part` of the element, and what it loads from complex operands is that part of theirs. Moves and sums
// with real weights need to know nothing of it; operands that are not complex are loaded as ever.

// ---- for the bodies of rows ----
// Element `idx` of operand `operand` of n, in its compute type. idx has the operand's rank.
sd_expr *sd_tb_load(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx);
// The same for an output index by numpy broadcasting: idx of rank `rank` against the operand's shape.
sd_expr *sd_tb_load_bcast(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx, int rank);
// Element at a linear row-major offset of the operand (Reshape and friends).
sd_expr *sd_tb_load_linear(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *offset);
bool sd_tb_has(const sd_node *n, uint32_t operand); // operand given
// Loads made between begin and end are guarded by `cond`; end returns sel(cond, x, other). Nests.
void sd_tb_guard_begin(sd_tb *b, sd_expr *cond, sd_expr **saved);
sd_expr *sd_tb_guard_end(sd_tb *b, sd_expr *saved, sd_expr *cond, sd_expr *x, sd_expr *other);
// A new reduction axis of that extent.
sd_axis *sd_tb_raxis(sd_tb *b, const char *name, sd_dim extent);
// x, a real number in the compute type of t, as element of type t: the imaginary part of a complex one is 0.
sd_expr *sd_tb_real(sd_tb *b, sd_dtype t, sd_expr *x);
// Row-major offset of idx in a shape, and the inverse.
sd_expr *sd_tb_offset(sd_tb *b, const sd_value *v, sd_expr *const *idx);
// Where element `offset` of v, or its part at hand, stands in the buffer of v.
sd_expr *sd_tb_place(sd_tb *b, const sd_value *v, sd_expr *offset);
void sd_tb_unravel(sd_tb *b, const sd_value *v, sd_expr *offset, sd_expr **out_idx);
// For SD_NESTS rows: buffer of an output or operand (operands inside a group are materialized before), a local buffer,
// nests over the dims of a value.
sd_buf *sd_tb_out(sd_tb *b, const sd_node *n, uint32_t out);
// A buffer of operand `operand`, read as elements of type t with as many bits.
sd_buf *sd_tb_in(sd_tb *b, const sd_node *n, uint32_t operand, sd_dtype t);
// Stores element idx of an output, under `guard` (NULL: always). Where n is a member of a group and not its root, what
// follows it in the group is computed from `value` and the element of the root is stored instead: epilogues of NESTS rows.
void sd_tb_store(sd_tb *b, sd_nest *nest, const sd_node *n, uint32_t out, sd_expr *const *idx, sd_expr *value, sd_expr *guard);
sd_buf *sd_tb_local(sd_tb *b, sd_dtype t, sd_dim count);
sd_expr *sd_tb_fail(sd_tb *b, sard_status *st); // records the first error, frees later ones; returns NULL
