// Matrix products with constant weights below a byte that are dequantized in blocks become one operator,
// sard.MatMulBits, which widens them inside of the product and reads a block's scale once.
//
//   MatMul(x, DequantizeLinear(w [K,N], scales [K/block,N], zeros, axis=0))
//   MatMul(x, Transpose(DequantizeLinear(w [N,K], scales [N,K/block], zeros, axis=1)))
#include "passes/edit.h"

static bool fits(const sd_node *n, const sd_node *d, bool rows) {
  const sd_value *w = d->in[0], *s = d->in[1], *z = d->n_in > 2 ? d->in[2] : NULL;
  int64_t block = sd_node_int(d, "block_size", 0), axis = sd_node_int(d, "axis", 1);
  if (!w->data || !s->data || (z && !z->data) || w->rank != 2 || s->rank != 2 || (z && z->rank != 2) ||
      block < 2)
    return false;
  if (sd_dtype_bits(w->dtype) >= 8 || sd_dtype_is_float(w->dtype) || w->data->count < SD_SMALL_WEIGHT) return false;
  if ((axis < 0 ? axis + 2 : axis) != rows || w->data->dims[rows] % block) return false;
  return n->in[0]->rank >= 1 && n->in[0]->dtype == d->out[0]->dtype && sd_dtype_is_float(n->in[0]->dtype);
}

static sard_status *turned(sd_node *n, sd_value *v, bool rows, sd_value **out) {
  *out = v;
  return v && rows ? sd_edit_transpose(n->graph, n, v, (int64_t[]){1, 0}, 2, out) : NULL;
}

static sard_status *replace(sd_node *n, const sd_node *d, bool rows) {
  sd_value *in[4] = {n->in[0], d->in[0]};
  SD_TRY(turned(n, d->in[1], rows, &in[2]));
  SD_TRY(turned(n, d->n_in > 2 ? d->in[2] : NULL, rows, &in[3]));
  sd_node *x = sd_node_new(n->graph, n, sd_op_find("sard.MatMulBits"), in, in[3] ? 4 : 3, 1);
  x->name = n->name, x->onnx_index = n->onnx_index;
  sd_node_set_int(x, "block_size", sd_node_int(d, "block_size", 0));
  sd_node_set_int(x, "columns", !rows);
  SD_TRY(sd_node_infer(x));
  x->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], x->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  bool rows;
  const sd_node *d = sd_edit_is(n, "MatMul") ? sd_edit_matrix_source(n, &rows) : NULL;
  *done = sd_edit_is(d, "DequantizeLinear") && fits(n, d, rows);
  return *done ? replace(n, d, rows) : NULL;
}

sard_status *sd_pass_packed(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes(m, o, r, rewrite);
}
