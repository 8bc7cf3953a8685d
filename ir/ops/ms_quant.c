// Quantized operators of com.microsoft: integer products with i32 sums, the rest through their float meaning.
#include "ir/ops.h"
#include "ir/ops/product8.h"
#include "ir/ops/xgraph.h"

sard_status *sd_rewrite_ms_quantize(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = XG(&g, sd_xg_fmt(&g, "QuantizeLinear axis=%lld", (long long)sd_node_int(n, "axis", 1)),
                   n->in[0], n->in[1], sd_xg_in(&g, 2));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ms_dequantize(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = XG(&g, sd_xg_fmt(&g, "DequantizeLinear axis=%lld", (long long)sd_node_int(n, "axis", 1)),
                   n->in[0], n->in[1], sd_xg_in(&g, 2));
  return sd_xg_finish(&g, &y, 1);
}

// ---- building blocks ----
static sd_value *dequantized(xg *g, uint32_t x) { // operands x, scale, zero point in a row
  return XG(g, "DequantizeLinear", sd_xg_in(g, x), sd_xg_in(g, x + 1), sd_xg_in(g, x + 2));
}

// Quantized to the type of operand `like`; without a zero point it is 0.
static sd_value *quantized(xg *g, sd_value *v, uint32_t scale, sd_dtype t) {
  sd_value *z = sd_xg_in(g, scale + 1);
  if (!z) z = sd_xg_num(g, t, 0);
  return XG(g, "QuantizeLinear", v, sd_xg_in(g, scale), z);
}

static sard_status *finish_quantized(xg *g, sd_value *v, uint32_t scale) {
  sd_value *y = quantized(g, v, scale, g->at->in[0]->dtype);
  return sd_xg_finish(g, &y, 1);
}

// x - zero point in i32.
static sd_value *centered(xg *g, sd_value *x, sd_value *zero) {
  x = sd_xg_cast(g, SD_I32, x);
  return zero ? XG(g, "Sub", x, sd_xg_cast(g, SD_I32, zero)) : x;
}

// ---- elementwise, pools, movement ----
sard_status *sd_rewrite_ms_qlinear_add(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  return finish_quantized(&g, XG(&g, "Add", dequantized(&g, 0), dequantized(&g, 3)), 6);
}

sard_status *sd_rewrite_ms_qlinear_mul(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  return finish_quantized(&g, XG(&g, "Mul", dequantized(&g, 0), dequantized(&g, 3)), 6);
}

sard_status *sd_rewrite_ms_qlinear_sigmoid(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  return finish_quantized(&g, XG(&g, "Sigmoid", dequantized(&g, 0)), 3);
}

sard_status *sd_rewrite_ms_qlinear_leaky(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  const char *spec = sd_xg_fmt(&g, "LeakyRelu alpha=%.9g", sd_node_float(n, "alpha", 0.01f));
  return finish_quantized(&g, XG(&g, spec, dequantized(&g, 0)), 3);
}

// Before opset 13 the dims from `axis` on are one.
sard_status *sd_rewrite_ms_qlinear_softmax(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int axis;
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -1), n->in[0]->rank, &axis));
  sd_value *x = dequantized(&g, 0);
  if (sd_node_int(n, "opset", 13) < 13) {
    x = XG(&g, "Softmax axis=1", XG(&g, sd_xg_fmt(&g, "Flatten axis=%d", axis), x));
    x = sd_xg_reshape(&g, x, n->in[0]->dims, n->in[0]->rank);
  } else {
    x = XG(&g, sd_xg_fmt(&g, "Softmax axis=%d", axis), x);
  }
  return finish_quantized(&g, x, 3);
}

sard_status *sd_rewrite_ms_qlinear_concat(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  uint32_t count = (n->n_in - 2) / 3;
  if (n->n_in < 5 || (n->n_in - 2) % 3)
    return SD_SH_ERR(n, MODEL, "%u operands, not 2 and 3 for each input", n->n_in);
  sd_value **xs = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, count);
  for (uint32_t i = 0; i < count; i++) {
    if (!n->in[2 + 3 * i] || !n->in[3 + 3 * i])
      return SD_SH_ERR(n, MODEL, "input %u or its scale is missing", i);
    xs[i] = dequantized(&g, 2 + 3 * i);
  }
  sd_value *y =
      sd_xg_op(&g, sd_xg_fmt(&g, "Concat axis=%lld", (long long)sd_node_int(n, "axis", 0)), xs, count);
  y = quantized(&g, y, 0, SD_U8);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ms_qlinear_where(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = XG(&g, "Where", n->in[0], dequantized(&g, 1), dequantized(&g, 4));
  y = quantized(&g, y, 7, n->in[1]->dtype);
  return sd_xg_finish(&g, &y, 1);
}

// Attributes of n that the row of `x` knows too.
static void copy_attrs(sd_node *x, const sd_node *n) {
  for (uint32_t i = 0; i < x->n_attr; i++) {
    const sd_attr *a = sd_node_attr(n, x->op->attrs[i].name);
    if (a && a->kind != SD_ATTR_NONE) x->attrs[i] = *a;
  }
}

static sd_value *node_like(xg *g, const char *op, sd_value *const *in, uint32_t n_in) {
  if (g->st) return NULL;
  sd_node *x = sd_node_new(g->at->graph, g->at, sd_op_find(op), in, n_in, 1);
  x->name = g->at->name;
  x->onnx_index = g->at->onnx_index;
  copy_attrs(x, g->at);
  sd_xg_fail(g, sd_node_infer(x));
  return g->st ? NULL : x->out[0];
}

sard_status *sd_rewrite_ms_qlinear_pool(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *x = dequantized(&g, 0);
  return finish_quantized(&g, node_like(&g, "AveragePool", &x, 1), 3);
}

// The mean of integers: their sum is exact, then one scale.
static sd_value *mean_of(xg *g, const int64_t *axes, int count, bool keep) {
  const sd_node *n = g->at;
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim size = sd_dim_const(t, 1);
  int at[SD_MAX_RANK];
  sard_status *st = sd_sh_axes(n, axes, (uint32_t)count, n->in[0]->rank, at);
  if (st) return sd_xg_fail(g, st), NULL;
  for (int i = 0; i < count; i++) size = sd_dim_mul(t, size, n->in[0]->dims[at[i]]);
  sd_value *sum = XG(g, keep ? "ReduceSum keepdims=1" : "ReduceSum keepdims=0",
                     centered(g, n->in[0], sd_xg_in(g, 2)), sd_xg_ints(g, axes, count));
  sd_value *scale =
      XG(g, "Div", sd_xg_cast(g, SD_F32, n->in[1]), sd_xg_cast(g, SD_F32, sd_xg_dims(g, &size, -1)));
  return XG(g, "Mul", sd_xg_cast(g, SD_F32, sum), scale);
}

sard_status *sd_rewrite_ms_qlinear_global_pool(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int64_t axes[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 3, SD_MAX_RANK));
  int count = n->in[0]->rank - 2, first = sd_node_int(n, "channels_last", 0) ? 1 : 2;
  for (int i = 0; i < count; i++) axes[i] = first + i;
  return finish_quantized(&g, mean_of(&g, axes, count, true), 3);
}

sard_status *sd_rewrite_ms_qlinear_reduce_mean(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int64_t all[SD_MAX_RANK];
  const sd_attr *a = sd_node_attr(n, "axes");
  int count = n->in[0]->rank;
  for (int i = 0; i < count; i++) all[i] = i;
  bool given = a && a->kind == SD_ATTR_INTS && a->n;
  if (given && a->n > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "%u axes", a->n);
  sd_value *y =
      mean_of(&g, given ? a->ints : all, given ? (int)a->n : count, sd_node_int(n, "keepdims", 1) != 0);
  return finish_quantized(&g, y, 3);
}

// ---- products ----
sard_status *sd_rewrite_ms_matmul_integer_float(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *za = sd_xg_in(&g, 4), *sa = n->in[2];
  SD_TRY(sd_sh_bytes(n, 0));
  SD_TRY(sd_sh_bytes(n, 1));
  if (za && za->rank == 1 && !sd_dim_is(sd_sh_tab(n), za->dims[0], 1))
    return SD_SH_ERR(n, UNSUPPORTED, "a zero point for each row of A");
  sd_value *acc = sd_product8_matmul(&g, &(sd_product8){n->in[0], n->in[1], za, sd_xg_in(&g, 5), NULL});
  sd_value *y = XG(&g, "Mul", sd_xg_cast(&g, sa->dtype, acc), XG(&g, "Mul", sa, n->in[3]));
  if (sd_xg_in(&g, 6)) y = XG(&g, "Add", y, n->in[6]);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ms_dynamic_matmul(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_bytes(n, 1));
  sd_node *q = sd_xg_node(&g, "DynamicQuantizeLinear", n->in, 1, 3);
  if (!q) return sd_xg_take(&g);
  sd_value *y = XG(&g, "com.microsoft.MatMulIntegerToFloat", q->out[0], n->in[1], q->out[1], n->in[2],
                   q->out[2], sd_xg_in(&g, 3), sd_xg_in(&g, 4));
  return sd_xg_finish(&g, &y, 1);
}

// A matrix turned, at once where it is constant: then its sums are constants too.
static sd_value *turned(xg *g, const sd_value *w) {
  const sd_const *c = w->data;
  if (!c || sd_dtype_bits(w->dtype) != 8) return XG(g, "Transpose perm=1,0", (sd_value *)w);
  int64_t dims[2] = {c->dims[1], c->dims[0]};
  uint8_t *to = SD_NEW_ARRAY(g->at->graph->module->arena, uint8_t, c->count + 64);
  for (int64_t i = 0; i < dims[1]; i++)
    for (int64_t j = 0; j < dims[0]; j++) to[j * dims[1] + i] = ((const uint8_t *)c->data)[i * dims[0] + j];
  return sd_value_const(g->at->graph, w->name, w->dtype, 2, dims, to);
}

sard_status *sd_rewrite_ms_qgemm(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  SD_TRY(sd_sh_rank(n, 3, 2, 2));
  sd_product8 p = {n->in[0], n->in[3], n->in[2], n->in[5], sd_xg_in(&g, 6)};
  if (sd_node_int(n, "transA", 0)) p.x = XG(&g, "Transpose perm=1,0", p.x);
  if (sd_node_int(n, "transB", 0)) p.w = turned(&g, p.w);
  if (g.st) return sd_xg_take(&g);
  sd_value *acc = sd_product8_matmul(&g, &p);
  sd_value *scale = XG(&g, "Mul", n->in[1], n->in[4]);
  float alpha = sd_node_float(n, "alpha", 1);
  if (alpha != 1) scale = XG(&g, "Mul", scale, sd_xg_f32(&g, alpha));
  sd_value *y = XG(&g, "Mul", sd_xg_cast(&g, SD_F32, acc), scale);
  if (sd_xg_in(&g, 7)) y = quantized(&g, y, 7, n->in[0]->dtype);
  return sd_xg_finish(&g, &y, 1);
}

// ---- DynamicQuantizeLSTM: weights transposed against LSTM's, inputs and states rounded to 8 bits on the way
// ---- Scales of a direction, or of each of its columns, to the shape [directions, 1 or columns, 1] of
// transposed weights.
static sd_value *lstm_weight(xg *g, uint32_t w, uint32_t scale) {
  sd_value *x = sd_xg_cast(g, SD_I32, XG(g, "Transpose perm=0,2,1", g->at->in[w]));
  sd_value *side[2] = {sd_xg_in(g, scale), sd_xg_cast(g, SD_I32, sd_xg_in(g, scale + 1))};
  for (int i = 0; i < 2 && !g->st; i++) {
    int64_t axes[2] = {1, 2};
    sard_status *st = sd_sh_rank(g->at, scale + (uint32_t)i, 0, 2);
    if (st) return sd_xg_fail(g, st), NULL;
    if (side[i]->rank == 1) side[i] = XG(g, "Unsqueeze", side[i], sd_xg_ints(g, axes, 2));
    else if (side[i]->rank == 2)
      side[i] = XG(g, "Unsqueeze", side[i], sd_xg_ints(g, axes + 1, 1));
  }
  return XG(g, "Mul", sd_xg_cast(g, SD_F32, XG(g, "Sub", x, side[1])), side[0]);
}

// Weights less their zero points, with scales and sums [directions, columns].
typedef struct lstm_weights {
  int64_t dirs, k, n; // n: columns of a direction
  sd_value *w, *scales, *sums;
} lstm_weights;

// Constant weights [directions, K, columns] of bytes, with the scales of a direction or of each of its columns, as [directions, columns, K], or
// with all columns side by side [K, directions * columns]. False: they are no such constants.
static bool lstm_bytes(xg *g, uint32_t w, uint32_t scale, bool side_by_side, lstm_weights *out) {
  const sd_value *v = g->at->in[w], *s = sd_xg_in(g, scale), *z = sd_xg_in(g, scale + 1);
  if (!v->data || sd_dtype_bits(v->dtype) != 8 || !s || !s->data || s->dtype != SD_F32 || (z && !z->data)) return false;
  const int64_t *d = v->data->dims;
  uint64_t dirs = (uint64_t)d[0], k = (uint64_t)d[1], n = (uint64_t)d[2], per_s = s->data->count / (dirs ? dirs : 1);
  uint64_t per_z = z ? z->data->count / (dirs ? dirs : 1) : 1;
  if (v->data->count == 0 || s->data->count != dirs * per_s || (per_s != 1 && per_s != n)) return false;
  if (z && (z->data->count != dirs * per_z || (per_z != 1 && per_z != n))) return false;
  sd_arena *a = g->at->graph->module->arena;
  int8_t *to = SD_NEW_ARRAY(a, int8_t, v->data->count + 64);
  float *fs = SD_NEW_ARRAY(a, float, dirs * n + 16);
  int32_t *sum = SD_NEW_ARRAY(a, int32_t, dirs * n + 16);
  for (uint64_t i = 0; i < v->data->count; i++) {
    uint64_t dir = i / n / k, at = i / n % k, col = i % n, row = dir * n + col;
    int64_t x = sd_dtype_get_i64(v->dtype, v->data->data, i);
    if (z) x -= sd_dtype_get_i64(z->dtype, z->data->data, dir * per_z + (per_z == 1 ? 0 : col));
    if (x < -128 || x > 127) return false;
    to[side_by_side ? at * dirs * n + row : row * k + at] = (int8_t)x, sum[row] += (int32_t)x;
    fs[row] = (float)sd_dtype_get_f64(SD_F32, s->data->data, dir * per_s + (per_s == 1 ? 0 : col));
  }
  sd_graph *graph = g->at->graph;
  const int64_t flat[2] = {d[1], d[0] * d[2]}, rows[3] = {d[0], d[2], d[1]}, columns[2] = {d[0], d[2]};
  *out = (lstm_weights){d[0], d[1], d[2], NULL, sd_value_const(graph, "", SD_F32, 2, columns, fs), sd_value_const(graph, "", SD_I32, 2, columns, sum)};
  out->w = side_by_side ? sd_value_const(graph, v->name, SD_I8, 2, flat, to) : sd_value_const(graph, v->name, SD_I8, 3, rows, to);
  return out->w && out->scales && out->sums;
}

// The product of all inputs, which q quantizes, with the biases: [.., directions * columns].
static sd_value *lstm_inputs(xg *g, const sd_node *q, const lstm_weights *w) {
  int64_t all = w->dirs * w->n;
  sd_value *flat = sd_xg_ints(g, &all, 1), *b = sd_xg_in(g, 3);
  sd_value *sum = sd_product8_matmul(g, &(sd_product8){q->out[0], w->w, q->out[2], NULL, NULL});
  sd_value *y = XG(g, "Mul", sd_xg_cast(g, SD_F32, sum), XG(g, "Mul", q->out[1], XG(g, "Reshape", w->scales, flat)));
  if (!b || g->st) return y;
  sd_xg_fail(g, sd_sh_rank(g->at, 3, 2, 2));
  if (!g->st) sd_xg_fail(g, sd_sh_same(g->at, b->dims[1], sd_dim_const(sd_sh_tab(g->at), 2 * w->n), "the last dim of B", NULL));
  b = XG(g, "Add", sd_xg_slice(g, b, 1, 0, w->n), sd_xg_slice(g, b, 1, w->n, 2 * w->n));
  return XG(g, "Add", y, XG(g, "Reshape", b, flat));
}

static sard_status *finish_lstm(xg *g, const char *op, sd_value *const *in, uint32_t n_in) {
  sd_node *n = g->at, *x = sd_node_new(n->graph, n, sd_op_find(op), in, n_in, n->n_out);
  x->name = n->name;
  x->onnx_index = n->onnx_index;
  copy_attrs(x, n);
  if (sd_node_attr(x, "quantized_state")) sd_node_set_int(x, "quantized_state", 1);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (!n->out[i]) x->out[i] = NULL;
  SD_TRY(sd_node_infer(x));
  return sd_xg_finish(g, x->out, x->n_out);
}

sard_status *sd_rewrite_ms_dynamic_lstm(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  for (uint32_t i = 0; i < 3; i++) SD_TRY(sd_sh_rank(n, i, 3, 3));
  if (n->in[0]->dtype != SD_F32)
    return SD_SH_ERR(n, UNSUPPORTED, "X of type %s", sd_dtype_name(n->in[0]->dtype));
  sd_node *q = sd_xg_node(&g, "DynamicQuantizeLinear", n->in, 1, 3);
  if (!q) return sd_xg_take(&g);
  lstm_weights w, r;
  if (lstm_bytes(&g, 1, 8, true, &w) && lstm_bytes(&g, 2, 10, false, &r)) {
    sd_value *bytes[8] = {lstm_inputs(&g, q, &w), r.w, sd_xg_in(&g, 4), sd_xg_in(&g, 5), sd_xg_in(&g, 6), sd_xg_in(&g, 7), r.scales, r.sums};
    return g.st ? sd_xg_take(&g) : finish_lstm(&g, "sard.LSTM8", bytes, 8);
  }
  sd_value *in[8] = {NULL};
  for (uint32_t i = 3; i < 8; i++) in[i] = sd_xg_in(&g, i);
  in[0] = XG(&g, "DequantizeLinear", q->out[0], q->out[1], q->out[2]);
  in[1] = lstm_weight(&g, 1, 8), in[2] = lstm_weight(&g, 2, 10);
  return g.st ? sd_xg_take(&g) : finish_lstm(&g, "LSTM", in, 8);
}
