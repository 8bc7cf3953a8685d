// Products of 8-bit integers: zero points leave the sum, see product8.h.
#include "ir/ops/product8.h"

#include "ir/ops.h"
#include "ir/ops/window.h"

sard_status *sd_shape_product8(sd_node *n) {
  for (uint32_t i = 0; i < 2; i++) SD_TRY(sd_sh_bytes(n, i));
  return sd_sh_set(n, 0, SD_I32, n->out[0]->rank, n->out[0]->dims);
}

// x + 128 of an i8, as u8.
sard_status *sd_shape_unsigned(sd_node *n) {
  if (n->in[0]->dtype != SD_I8) return SD_SH_ERR(n, MODEL, "operand of type %s, not i8", sd_dtype_name(n->in[0]->dtype));
  return sd_sh_set(n, 0, SD_U8, n->in[0]->rank, n->in[0]->dims);
}

// ---- small values ----

// A vector along an axis that has `after` dims behind it.
static sd_value *along(xg *g, sd_value *v, int after) {
  int64_t axes[SD_MAX_RANK];
  if (g->st || !v || v->rank != 1 || after <= 0 || sd_value_is_single(v)) return v;
  for (int i = 0; i < after; i++) axes[i] = i + 1;
  return XG(g, "Unsqueeze", v, sd_xg_ints(g, axes, after));
}

// x - zero point in i32: what products of other types, and of vectors, are made of.
static sd_value *centered(xg *g, sd_value *x, sd_value *zero, int after) {
  x = sd_xg_cast(g, SD_I32, x);
  return zero ? XG(g, "Sub", x, along(g, sd_xg_cast(g, SD_I32, zero), after)) : x;
}

static sd_value *plus(xg *g, sd_value *x, sd_value *y) { return x && y ? XG(g, "Add", x, y) : x ? x : y; }

// ---- operands: x unsigned, w signed where it is constant ----

typedef struct factors {
  sd_value *x, *w, *zx, *zw; // zero points in i32 with the shapes that they broadcast from, NULL: 0
} factors;

static int byte_at(const sd_const *c, uint64_t i) {
  return c->dtype == SD_I8 ? ((const int8_t *)c->data)[i] : ((const uint8_t *)c->data)[i];
}

static int64_t zero_at(const sd_value *z, uint64_t i) {
  return z ? sd_dtype_get_i64(z->dtype, z->data->data, z->data->count == 1 ? 0 : i) : 0;
}

// Constant w less its zero points (`shift` more), `inner` elements for each of `outer` zero points in turn; NULL where the
// differences are no i8.
static sd_value *signed_constant(xg *g, const sd_value *w, const sd_value *z, int64_t shift, uint64_t outer, uint64_t inner) {
  const sd_const *c = w->data;
  int8_t *to = SD_NEW_ARRAY(g->at->graph->module->arena, int8_t, c->count + 64);
  for (uint64_t i = 0, at = 0; i < c->count; i += inner, at = at + 1 == outer ? 0 : at + 1) {
    int64_t less = shift + zero_at(z, at);
    for (uint64_t j = 0; j < inner; j++) {
      int64_t v = byte_at(c, i + j) - less;
      if (v < -128 || v > 127) return NULL;
      to[i + j] = (int8_t)v;
    }
  }
  return sd_value_const(g->at->graph, w->name, SD_I8, c->rank, c->dims, to);
}

// zero points of w: one for each index of dim `axis`.
static void sign_weights(xg *g, factors *f, const sd_product8 *p, int axis) {
  const sd_const *c = p->w->data;
  const sd_value *z = p->zw;
  uint64_t outer = 1, inner = 1;
  if (!c || c->count == 0) return;
  for (int i = axis + 1; i < c->rank; i++) inner *= (uint64_t)c->dims[i];
  if (z && (!z->data || (z->data->count != 1 && z->data->count != (uint64_t)c->dims[axis]))) z = NULL;
  else outer = (uint64_t)c->dims[axis];
  if (c->dtype == SD_I8 && sd_value_is_zero(p->zw)) return;
  sd_value *w = p->zw && !z ? NULL : signed_constant(g, p->w, z, 0, outer, inner);
  if (w) {
    f->w = w, f->zw = NULL;
  } else if (c->dtype == SD_U8) {
    f->w = signed_constant(g, p->w, NULL, 128, 1, 1);
    f->zw = XG(g, "Sub", f->zw ? f->zw : sd_xg_num(g, SD_I32, 0), sd_xg_num(g, SD_I32, 128));
  }
}

static factors factors_of(xg *g, const sd_product8 *p, int axis, int after_x, int after_w) {
  factors f = {p->x, p->w, NULL, NULL};
  if (!sd_value_is_zero(p->zx)) f.zx = along(g, sd_xg_cast(g, SD_I32, p->zx), after_x);
  if (!sd_value_is_zero(p->zw)) f.zw = along(g, sd_xg_cast(g, SD_I32, p->zw), after_w);
  if (p->x->dtype == SD_I8) {
    f.x = XG(g, "sard.Unsigned", p->x);
    f.zx = plus(g, sd_xg_num(g, SD_I32, 128), f.zx);
  }
  sign_weights(g, &f, p, axis);
  return f;
}

// ---- sums ----

// Sums over all dims of constant w but `axis`, as constant.
static sd_value *constant_sums(xg *g, const sd_value *w, int axis) {
  const sd_const *c = w->data;
  uint64_t inner = 1, n = (uint64_t)c->dims[axis];
  for (int i = axis + 1; i < c->rank; i++) inner *= (uint64_t)c->dims[i];
  uint32_t *sum = SD_NEW_ARRAY(g->at->graph->module->arena, uint32_t, n + 16); // wraps as the products' own sums do
  for (uint64_t i = 0, at = 0; i < c->count; i += inner, at = at + 1 == n ? 0 : at + 1) {
    uint32_t part = 0;
    for (uint64_t j = 0; j < inner; j++) part += (uint32_t)byte_at(c, i + j);
    sum[at] += part;
  }
  return sd_value_const(g->at->graph, "", SD_I32, 1, &c->dims[axis], sum);
}

static sd_value *sums(xg *g, sd_value *x, const int64_t *axes, int n, bool keep) {
  return XG(g, keep ? "ReduceSum keepdims=1" : "ReduceSum keepdims=0", sd_xg_cast(g, SD_I32, x), sd_xg_ints(g, axes, n));
}

// acc + bias - zx * columns - zw * (rows - K * zx): what is constant in it becomes one number for each column.
static sd_value *corrected(xg *g, sd_value *acc, const factors *f, sd_value *bias, sd_value *columns, sd_value *rows, sd_value *k) {
  sd_value *off = f->zx ? XG(g, "Mul", f->zx, columns) : NULL;
  if (bias && off) acc = XG(g, "Add", acc, XG(g, "Sub", bias, off));
  else if (bias) acc = XG(g, "Add", acc, bias);
  else if (off) acc = XG(g, "Sub", acc, off);
  if (!f->zw) return acc;
  if (f->zx) rows = XG(g, "Sub", rows, XG(g, "Mul", f->zx, k));
  return XG(g, "Sub", acc, XG(g, "Mul", f->zw, rows));
}

static bool of_bytes(const sd_product8 *p) { return sd_dtype_bits(p->x->dtype) == 8 && sd_dtype_bits(p->w->dtype) == 8; }

// ---- matrix products ----

sd_value *sd_product8_matmul(xg *g, const sd_product8 *p) {
  static const int64_t last = -1, before = -2;
  if (g->st) return NULL;
  if (!of_bytes(p) || p->x->rank < 2 || p->w->rank < 2)
    return plus(g, XG(g, "MatMul", centered(g, p->x, p->zx, 1), centered(g, p->w, p->zw, 0)), p->bias);
  factors f = factors_of(g, p, p->w->rank - 1, 1, 0);
  if (g->st) return NULL;
  sd_value *acc = XG(g, "sard.MatMul8", f.x, f.w), *columns = NULL, *rows = NULL, *k = NULL;
  if (g->st) return NULL;
  if (f.zx) columns = f.w->data && f.w->rank == 2 ? constant_sums(g, f.w, 1) : sums(g, f.w, &before, 1, true);
  if (f.zw) rows = sums(g, f.x, &last, 1, true);
  if (f.zw && f.zx) k = sd_xg_cast(g, SD_I32, sd_xg_dims(g, &f.x->dims[f.x->rank - 1], -1));
  return corrected(g, acc, &f, p->bias, columns, rows, k);
}

// ---- convolutions ----

static sd_value *node_like(xg *g, const char *op, const sd_node *like, sd_value *x, sd_value *w, bool no_pads) {
  if (g->st) return NULL;
  sd_node *c = sd_node_new(g->at->graph, g->at, sd_op_find(op), (sd_value *[]){x, w}, 2, 1);
  c->name = g->at->name, c->onnx_index = g->at->onnx_index;
  for (uint32_t i = 0; i < c->n_attr; i++) {
    const sd_attr *given = sd_node_attr(like, c->op->attrs[i].name);
    if (given && given->kind != SD_ATTR_NONE) c->attrs[i] = *given;
  }
  if (no_pads) {
    int64_t none[2 * SD_MAX_RANK] = {0};
    sd_node_attr(c, "auto_pad")->s = "NOTSET";
    sd_node_set_ints(c, "pads", none, 2 * (uint32_t)(x->rank - 2));
  }
  sd_xg_fail(g, sd_node_infer(c));
  return g->st ? NULL : c->out[0];
}

// x with the borders of the convolution, which hold zero point zx (NULL: 0 everywhere, so that the convolution can add them);
// *padded: it has them.
static sd_value *with_borders(xg *g, const sd_node *like, const factors *f, bool *padded) {
  sd_window w;
  sd_value *in[2] = {f->x, f->w};
  sd_node as = *like;
  sd_dim kernel[SD_MAX_RANK], pads[2 * SD_MAX_RANK];
  int rank = f->x->rank;
  sd_dimtab *t = sd_sh_tab(like);
  *padded = false;
  if (g->st || !f->zx) return f->x;
  for (int i = 0; i < rank - 2; i++) kernel[i] = f->w->dims[2 + i];
  as.in = in, as.n_in = 2;
  sd_xg_fail(g, sd_window_read(&as, kernel, false, &w));
  if (g->st) return NULL;
  for (int i = 0; i < 2 * rank; i++) pads[i] = sd_dim_const(t, 0);
  for (int i = 0; i < w.n; i++) {
    pads[2 + i] = w.pad[i], pads[rank + 2 + i] = w.pad_end[i];
    *padded = *padded || !sd_dim_is(t, w.pad[i], 0) || !sd_dim_is(t, w.pad_end[i], 0);
  }
  if (!*padded) return f->x;
  sd_value *zero = sd_xg_reshape(g, sd_xg_cast(g, SD_U8, f->zx), NULL, 0);
  return XG(g, "Pad", f->x, sd_xg_dims(g, pads, 2 * rank), zero);
}

// One input channel for each output: few products a sum, which f32 holds exactly and adds faster.
static bool exact_as_f32(const sd_value *w) {
  sd_dimtab *t = w->graph->module->dims;
  int64_t taps;
  if (!w->data || w->dtype != SD_I8 || !sd_dim_is(t, w->dims[1], 1) || sd_dim_is(t, w->dims[0], 1)) return false;
  sd_dim n = sd_dim_const(t, 1);
  for (int i = 2; i < w->rank; i++) n = sd_dim_mul(t, n, w->dims[i]);
  return sd_dim_is_const(t, n, &taps) && taps * 255 * 128 < 1 << 24;
}

static sd_value *constant_f32(xg *g, const sd_value *w) {
  const sd_const *c = w->data;
  float *v = SD_NEW_ARRAY(g->at->graph->module->arena, float, c->count + 16);
  for (uint64_t i = 0; i < c->count; i++) v[i] = (float)sd_dtype_get_i64(c->dtype, c->data, i);
  return sd_value_const(g->at->graph, w->name, SD_F32, c->rank, c->dims, v);
}

// For each output the sum of what its window reads: one convolution with ones serves all output channels.
static sd_value *window_sums(xg *g, const sd_node *like, sd_value *x, const sd_value *w, bool padded, sd_dim *out_k) {
  sd_dimtab *t = sd_sh_tab(like);
  sd_dim dims[SD_MAX_RANK];
  *out_k = dims[0] = sd_dim_const(t, 1);
  for (int i = 1; i < w->rank; i++) dims[i] = w->dims[i], *out_k = sd_dim_mul(t, *out_k, w->dims[i]);
  sd_value *ones = sd_xg_expand(g, sd_xg_num(g, SD_I8, 1), dims, w->rank);
  return node_like(g, "sard.Conv8", like, x, ones, padded);
}

sd_value *sd_product8_conv(xg *g, const sd_node *like, const sd_product8 *p) {
  int64_t axes[SD_MAX_RANK];
  int rank = p->w->rank, after = rank - 2;
  bool padded;
  if (g->st) return NULL;
  sd_value *bias = along(g, p->bias, after);
  factors f = {0};
  if (of_bytes(p) && p->x->rank >= 3 && rank == p->x->rank && (!p->zx || sd_value_is_single(p->zx))) f = factors_of(g, p, 0, 0, after);
  if (!f.x || (f.zw && sd_node_int(like, "group", 1) != 1)) // sums for each group
    return plus(g, node_like(g, "Conv", like, centered(g, p->x, p->zx, 0), centered(g, p->w, p->zw, rank - 1), false), bias);
  sd_value *x = with_borders(g, like, &f, &padded), *acc, *columns = NULL, *rows = NULL, *k = NULL;
  if (g->st) return NULL;
  if (!f.zw && exact_as_f32(f.w))
    acc = sd_xg_cast(g, SD_I32, XG(g, "Round", node_like(g, "Conv", like, sd_xg_cast(g, SD_F32, x), constant_f32(g, f.w), padded)));
  else acc = node_like(g, "sard.Conv8", like, x, f.w, padded);
  for (int i = 1; i < rank; i++) axes[i - 1] = i;
  if (f.zx) columns = along(g, f.w->data ? constant_sums(g, f.w, 0) : sums(g, f.w, axes, rank - 1, false), after);
  if (f.zw) {
    sd_dim count;
    rows = window_sums(g, like, x, f.w, padded, &count);
    if (f.zx) k = sd_xg_cast(g, SD_I32, sd_xg_dims(g, &count, -1));
  }
  return corrected(g, acc, &f, bias, columns, rows, k);
}
