// Tools for shape functions: operands and their contents as dims, axes, broadcasting, setting outputs with errors.
//
// Shape functions run when the types of all given operands are known (sd_node_infer sees to it); dims may be symbolic.
// Names: sd_sh_* are these tools; sd_shape_<column> are the shape functions of rows.
// Every function that can fail returns a status that already carries the node's context.
#pragma once
#include "ir/graph.h"
#include "ir/op.h"

#define SD_SH_ELEMS 64 // small tensors up to that many elements have their contents tracked

// An error of node n with its context: return SD_SH_ERR(n, MODEL, "axis %d ...", a).
#define SD_SH_ERR(n, code, ...) sd_node_error((n), SD_ERR(code, __VA_ARGS__))

sd_dimtab *sd_sh_tab(const sd_node *n);                       // dims of the module
sd_value *sd_sh_in(const sd_node *n, uint32_t operand);       // NULL when omitted
const char *sd_sh_operand(const sd_node *n, uint32_t operand); // its name in the row, for messages

// ---- checks ----
sard_status *sd_sh_ranks(const sd_node *n);                   // all given operands have a known rank
sard_status *sd_sh_rank(const sd_node *n, uint32_t operand, int min, int max); // given, with min <= rank <= max
sard_status *sd_sh_bytes(const sd_node *n, uint32_t operand); // given, of a type of 8 bits
sard_status *sd_sh_one(const sd_node *n, uint32_t operand);   // where given it has one element
// Elements of extent `to` are read from extent `from`, whatever its size: it is not 0 where `to` is not.
sard_status *sd_sh_fed(const sd_node *n, sd_dim from, sd_dim to);
sard_status *sd_sh_outs(const sd_node *n, uint32_t min);      // at least `min` outputs exist (slots may be NULL)
// Two dims that must agree: error when they provably differ; *out (may be NULL) is the better known one.
sard_status *sd_sh_same(const sd_node *n, sd_dim a, sd_dim b, const char *what, sd_dim *out);

// ---- axes ----
// Axis attribute or operand value: -rank <= axis < rank is normalized into [0, rank).
sard_status *sd_sh_axis(const sd_node *n, int64_t axis, int rank, int *out);
// The same for a list, which may not repeat an axis; out has room for SD_MAX_RANK.
sard_status *sd_sh_axes(const sd_node *n, const int64_t *axes, uint32_t count, int rank, int *out);

// The reduced axes of a reduction as bits: its axes operand, or all of them.
sard_status *sd_sh_reduced_axes(const sd_node *n, uint32_t *out);

// ---- contents of small integer operands ----
// Contents of an integer operand as dims. false when not known (or the operand is omitted).
bool sd_sh_try_elems(const sd_node *n, uint32_t operand, sd_dim *out, uint32_t cap, uint32_t *out_n);
// The same; contents that only the run knows become symbols (sd_sh_define); where they cannot, SARD_E_UNSUPPORTED.
sard_status *sd_sh_elems(const sd_node *n, uint32_t operand, sd_dim *out, uint32_t cap, uint32_t *out_n);
// The same, and each must be a number.
sard_status *sd_sh_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n);
bool sd_sh_try_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n);
// One number, from a scalar or a tensor of one element; *out keeps its value when the operand is omitted.
sard_status *sd_sh_int(const sd_node *n, uint32_t operand, int64_t *out);
// Contents of a constant floating-point operand; false when it is no constant or has more than cap elements.
bool sd_sh_floats(const sd_node *n, uint32_t operand, double *out, uint32_t cap, uint32_t *out_n);

// ---- nodes ----
// A node in front of `at`, with its name and place in the file; types are not inferred. UNSUPPORTED where no
// row has the name.
sard_status *sd_sh_node(sd_node *at, const char *name, sd_value *const *in, uint32_t n_in, uint32_t n_out,
                        sd_node **out);

// ---- outputs ----
// Sets type and shape of an output (a missing output is fine). Dims must not be SD_DIM_NONE (reported as overflow).
sard_status *sd_sh_set(sd_node *n, uint32_t out, sd_dtype t, int rank, const sd_dim *dims);
// The type and shape of a value, objects included; a type of objects.
sard_status *sd_sh_set_value(sd_node *n, uint32_t out, const sd_value *v);
sard_status *sd_sh_set_object(sd_node *n, uint32_t out, const sd_otype *t);
// Same type and shape as an operand.
sard_status *sd_sh_like(sd_node *n, uint32_t out, uint32_t operand);
// Records known contents of an output of rank 0 or 1 (copied); ignored when there are more than SD_SH_ELEMS.
void sd_sh_set_elems(sd_node *n, uint32_t out, const sd_dim *elems, uint32_t count);

// A size that only the run knows, as dim `axis` of an output: its own symbol, the same one each time that it is asked for.
sd_dim sd_sh_late(const sd_node *n, uint32_t out, int axis, const char *hint);
// Makes the contents of an integer operand of known, small size known as symbols: a sard.Define in front of n, or one that
// is there already. Symbols are never negative: with a sign an element is the difference of two. False when the size is
// not known.
typedef enum sd_define {
  SD_DEFINE_SIZES,  // no signs
  SD_DEFINE_SIGNED,
  SD_DEFINE_BOUNDS, // with signs; numbers beyond all sizes become the largest ones
} sd_define;
bool sd_sh_define(sd_node *n, uint32_t operand, sd_define how);
// The same for any vector or scalar of integers; NULL when its size is not known.
sd_value *sd_sh_defined(sd_node *n, sd_value *v, sd_define how);
// The same for the shape operand of a Reshape, after its 0 and -1 are replaced.
bool sd_sh_define_reshape(sd_node *n);

// ---- broadcasting ----
// The dim that a and b broadcast to. Unknown pairs give broadcast(a, b): legal when both are equal or one is 1 at run time.
sard_status *sd_sh_bcast_dim(const sd_node *n, sd_dim a, sd_dim b, sd_dim *out);
// Broadcasts `dims` (rank *io_rank) with b in place; room for SD_MAX_RANK.
sard_status *sd_sh_bcast(const sd_node *n, sd_dim *dims, int *io_rank, const sd_dim *b, int rank_b);
// Broadcast shape of operands [first, last).
sard_status *sd_sh_bcast_operands(const sd_node *n, uint32_t first, uint32_t last, sd_dim *dims, int *out_rank);
// extent of a strided range: max(0, ceildiv(limit - start, step)), step != 0.
sd_dim sd_sh_range(sd_dimtab *t, sd_dim start, sd_dim limit, int64_t step);

// ---- index expressions for bodies ----
// Dim d of `v` as I64 expression, and constants.
sd_expr *sd_sh_x(sd_kernel *k, int64_t v);
// Index into an extent that may be 1 at run time where idx runs over a broadcast extent: idx, 0, or sel(extent==1,0,idx).
sd_expr *sd_sh_bcast_index(sd_kernel *k, sd_expr *idx, sd_dim extent, sd_dim over);

// ---- shape functions of rows that several files use (column `shape` of the .def files) ----
sard_status *sd_shape_same(sd_node *n);      // output 0 (and further ones) like operand 0
sard_status *sd_shape_broadcast(sd_node *n); // broadcast of all operands, dtype of operand 0
sard_status *sd_shape_unsupported(sd_node *n); // data-dependent output shape
