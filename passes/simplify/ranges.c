// The range of a large tensor that is quantized by it (DynamicQuantizeLinear) is found row by row, so that
// all of a machine works on it, and once: then its elements are a map like others.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { LEAST = 8192, LEAST_ROW = 64 }; // elements

// Rows [first dims.., the others] of a known length; the number of first dims, 0: there are none.
static int rows_of(const sd_node *n) {
  const sd_value *x = n->in[0];
  sd_dimtab *t = n->graph->module->dims;
  int64_t all, length;
  if (!sd_edit_is(n, "DynamicQuantizeLinear") || x->dtype != SD_F32) return 0;
  if (!sd_dim_eval(t, sd_dim_product(t, x->dims, x->rank), sd_dim_usual, t, &all) || all < LEAST) return 0;
  for (int i = x->rank - 1; i > 0; i--) {
    if (!sd_dim_is_const(t, sd_dim_product(t, x->dims + i, x->rank - i), &length)) return 0;
    if (length >= LEAST_ROW) return length < all ? i : 0;
  }
  return 0;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  XG_SCOPE xg g = {.at = n};
  sd_dim dims[SD_MAX_RANK];
  sd_dimtab *t = n->graph->module->dims;
  sd_value *x = n->in[0];
  int first = rows_of(n);
  *done = first > 0;
  if (!*done) return NULL;
  memcpy(dims, x->dims, (size_t)first * sizeof *dims);
  dims[first] = sd_dim_product(t, x->dims + first, x->rank - first);
  sd_node *range =
      sd_xg_node(&g, "sard.RowRange", (sd_value *[]){sd_xg_reshape(&g, x, dims, first + 1)}, 1, 2);
  sd_node *scale = range ? sd_xg_node(&g, "sard.RangeScale", range->out, 2, 2) : NULL;
  if (!scale) return sd_xg_take(&g);
  sd_value *outs[3] = {XG(&g, "QuantizeLinear", x, scale->out[0], scale->out[1]), scale->out[0],
                       scale->out[1]};
  return sd_xg_finish(&g, outs, 3);
}

sard_status *sd_pass_ranges(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.row_ranges ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
