// Building graphs in the bodies of REWRITE rows: one call for one node, the first error is kept.
//
//   XG_SCOPE xg g = {.at = n};
//   sd_value *y = XG(&g, "Softmax axis=-1", XG(&g, "Mul", x, scale));
//   return sd_xg_finish(&g, &y, 1);
#pragma once
#include "ir/ops/shape.h"

typedef struct xg {
  sd_node *at;     // node that is replaced: new nodes stand before it and carry its name
  sard_status *st; // first error; everything gives NULL from then on
} xg;

// The error kept, which then belongs to the caller.
static inline sard_status *sd_xg_take(xg *g) {
  sard_status *st = g->st;
  g->st = NULL;
  return st;
}
static inline void sd_xg_drop(xg *g) { sard_status_free(sd_xg_take(g)); }
// Frees an error that a return on the way leaves behind.
#define XG_SCOPE __attribute__((cleanup(sd_xg_drop)))

// A node of operator and attributes `spec` ("Concat axis=1", "Transpose perm=0,2,1"), typed. NULL operands
// are omitted ones. Its first output; NULL after an error.
sd_value *sd_xg_op(xg *g, const char *spec, sd_value *const *in, uint32_t n_in);
#define XG(g, spec, ...)                                                                                     \
  sd_xg_op((g), (spec), (sd_value *[]){__VA_ARGS__},                                                         \
           (uint32_t)(sizeof(sd_value *[]){__VA_ARGS__} / sizeof(sd_value *)))
// The same with n_out outputs; the node, NULL after an error.
sd_node *sd_xg_node(xg *g, const char *spec, sd_value *const *in, uint32_t n_in, uint32_t n_out);
// Attribute text made by printf.
__attribute__((format(printf, 2, 3))) const char *sd_xg_fmt(xg *g, const char *fmt, ...);
void sd_xg_fail(xg *g, sard_status *st); // keeps the first one, frees later ones

// ---- constants, sizes, casts ----
sd_value *sd_xg_num(xg *g, sd_dtype t, double v);                             // scalar of any numeric type
sd_value *sd_xg_ints(xg *g, const int64_t *v, int n);                         // i64; n < 0: scalar v[0]
sd_value *sd_xg_floats(xg *g, const float *v, int rank, const int64_t *dims); // f32, copied
sd_value *sd_xg_dims(xg *g, const sd_dim *dims, int n); // i64 of sizes; n < 0: scalar dims[0]
sd_value *sd_xg_cast(xg *g, sd_dtype t, sd_value *v);
sd_value *sd_xg_reshape(xg *g, sd_value *v, const sd_dim *dims, int rank);
sd_value *sd_xg_expand(xg *g, sd_value *v, const sd_dim *dims, int rank);
// Part [start, end) along an axis; end INT64_MAX: to its end.
sd_value *sd_xg_slice(xg *g, sd_value *v, int64_t axis, int64_t start, int64_t end);
sd_value *sd_xg_in(const xg *g, uint32_t operand); // of the replaced node, NULL when omitted
static inline sd_value *sd_xg_f32(xg *g, double v) { return sd_xg_num(g, SD_F32, v); }

// Outputs of the replaced node become `outs` (NULL: not wanted by the caller, must be unused), and it is
// removed.
sard_status *sd_xg_finish(xg *g, sd_value *const *outs, uint32_t n_outs);

// Type of the outputs by a trial of the row's rewrite in a graph that is thrown away.
sard_status *sd_shape_expanded(sd_node *n);
