// Products of dequantized integers become products of the integers, whose i32 sums are scaled:
//
//   Conv(DQ(x, sx, zx), DQ(w, sw, zw), DQ(b, sx*sw)) = (sum (x - zx)(w - zw) + b) * (sx*sw)
//
// and the same for MatMul and Gemm, where x has one scale, and the constant w one or one for each output channel or column.
#include <math.h>

#include "ir/ops/product8.h"
#include "passes/edit.h"

typedef struct integers {
  xg *g;
  sd_node *n;
  const sd_node *x, *w, *b; // DequantizeLinear; b NULL: none, or a bias that is no such sum
  int axis;                 // of w: output channels
  sd_value *scale;          // sx * sw, one or one for each output channel
} integers;

// One scale and zero point, or constant ones along the axis.
static bool along_axis(const sd_node *d, int axis) {
  const sd_value *x = d->in[0], *s = d->in[1], *z = d->n_in > 2 ? d->in[2] : NULL;
  if (sd_value_is_single(s)) return !z || sd_value_is_single(z);
  int64_t a = sd_node_int(d, "axis", 1);
  if (s->rank != 1 || !s->data || (z && !z->data)) return false;
  return (a < 0 ? a + x->rank : a) == axis;
}

static bool fits(integers *p) {
  sd_node *n = p->n;
  bool conv = sd_edit_is(n, "Conv"), gemm = sd_edit_is(n, "Gemm");
  if (!conv && !gemm && !sd_edit_is(n, "MatMul")) return false;
  p->x = sd_edit_dequantized(n, 0), p->w = sd_edit_dequantized(n, 1);
  if (!p->x || !p->w || !sd_edit_of_bytes(p->x->in[0]) || !sd_edit_of_bytes(p->w->in[0]) || !p->w->in[0]->data) return false;
  int rank = p->w->in[0]->rank;
  if (conv ? sd_node_int(n, "channels_last", 0) != 0 : rank != 2 || p->x->in[0]->rank < 2) return false;
  if (gemm && (sd_node_int(n, "transA", 0) || sd_node_float(n, "beta", 1) != 1)) return false;
  p->axis = conv || (gemm && sd_node_int(n, "transB", 0)) ? 0 : rank - 1;
  return sd_value_is_single(p->x->in[1]) && along_axis(p->x, 0) && along_axis(p->w, p->axis);
}

static float number_at(const sd_value *v, uint64_t i) {
  return (float)sd_dtype_get_f64(v->dtype, v->data->data, v->data->count == 1 ? 0 : i);
}

// A bias in the unit of the sums, so that it can be added before they are scaled.
static sd_value *integer_bias(integers *p) {
  const sd_node *b = sd_edit_dequantized(p->n, 2);
  const sd_value *s = p->scale;
  if (!b || !s->data || b->in[0]->dtype != SD_I32 || b->in[0]->rank != 1 || !b->in[0]->data || !b->in[1]->data) return NULL;
  if (b->n_in > 2 && !sd_value_is_zero(b->in[2])) return NULL;
  uint64_t count = b->in[0]->data->count;
  if (s->data->count != 1 && s->data->count != count) return NULL;
  if (b->in[1]->data->count != 1 && b->in[1]->data->count != count) return NULL;
  for (uint64_t i = 0; i < count; i++)
    if (!(fabsf(number_at(b->in[1], i) - number_at(s, i)) <= 1e-6f * number_at(s, i))) return NULL;
  p->b = b;
  return b->in[0];
}

// v, a vector over the output channels, where these have `after` dims behind them.
static sd_value *over_channels(integers *p, sd_value *v, int after) {
  int64_t dims[SD_MAX_RANK], count;
  if (p->g->st || !v || after <= 0 || v->rank != 1 || !sd_dim_is_const(sd_sh_tab(p->n), v->dims[0], &count)) return v;
  for (int i = 0; i <= after; i++) dims[i] = i ? 1 : count;
  sd_xg_fail(p->g, sd_edit_reshape(p->n->graph, p->n, v, dims, after + 1, &v));
  return v;
}

// sx * sw, times alpha.
static sard_status *scale_of(integers *p) {
  sd_graph *graph = p->n->graph;
  float alpha = sd_node_attr(p->n, "alpha") ? sd_node_float(p->n, "alpha", 1) : 1;
  sd_value *in[2] = {p->x->in[1], p->w->in[1]};
  for (int i = 0; i < 2; i++)
    if (in[i]->rank > 0 && sd_value_is_single(in[i])) SD_TRY(sd_edit_reshape(graph, p->n, in[i], NULL, 0, &in[i]));
  SD_TRY(sd_edit_apply(graph, p->n, "Mul", in, 2, &p->scale));
  if (alpha == 1) return NULL;
  return sd_edit_apply(graph, p->n, "Mul", (sd_value *[]){p->scale, sd_value_const_f32(graph, alpha)}, 2, &p->scale);
}

static sard_status *replace(integers *p) {
  sd_node *n = p->n;
  bool conv = sd_edit_is(n, "Conv");
  SD_TRY(scale_of(p));
  sd_product8 f = {p->x->in[0], p->w->in[0], p->x->n_in > 2 ? p->x->in[2] : NULL, p->w->n_in > 2 ? p->w->in[2] : NULL,
                   integer_bias(p)};
  if (f.zx && f.zx->rank > 0) SD_TRY(sd_edit_reshape(n->graph, n, f.zx, NULL, 0, &f.zx));
  if (!conv && p->axis == 0) SD_TRY(sd_edit_transpose(n->graph, n, f.w, (int64_t[]){1, 0}, 2, &f.w));
  sd_value *acc = conv ? sd_product8_conv(p->g, n, &f) : sd_product8_matmul(p->g, &f);
  int after = conv ? n->out[0]->rank - 2 : 0;
  sd_value *y = XG(p->g, "Mul", sd_xg_cast(p->g, SD_F32, acc), over_channels(p, p->scale, after));
  if (n->n_in > 2 && n->in[2] && !p->b) y = XG(p->g, "Add", y, over_channels(p, n->in[2], after));
  return sd_xg_finish(p->g, &y, 1);
}

static sard_status *rewrite(sd_node *n, bool *done) {
  XG_SCOPE xg g = {.at = n};
  integers p = {.g = &g, .n = n};
  *done = fits(&p);
  return *done ? replace(&p) : NULL;
}

sard_status *sd_pass_integers(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.byte_products ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
