// Quantized products (MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv) in terms of products of 8-bit integers
// (product8.h), or of f32 where an operand is of an 8-bit float.
#include "ir/ops.h"
#include "ir/ops/product8.h"
#include "ir/ops/shape.h"

// ---- building ----
static sard_status *make(sd_node *at, const char *op, sd_value *x, sd_value *y, sd_value **out) {
  sd_value *in[2] = {x, y};
  sd_node *n = NULL;
  SD_TRY(sd_build(at->graph, at, op, in, y ? 2 : 1, &n));
  *out = n->out[0];
  return NULL;
}

static sard_status *convert(sd_node *at, sd_value *x, sd_dtype t, sd_value **out) {
  if (x->dtype == t) return *out = x, NULL;
  sd_node *n = sd_node_new(at->graph, at, sd_op_find("Cast"), &x, 1, 1);
  sd_node_set_int(n, "to", t);
  *out = n->out[0];
  return sd_node_infer(n);
}

// A vector seen along an axis that has `after` dims behind it.
static sard_status *along(sd_node *at, sd_value *v, int after, sd_value **out) {
  int64_t axes[SD_MAX_RANK];
  *out = v;
  if (v->rank != 1 || after <= 0 || sd_dim_is(sd_sh_tab(at), v->dims[0], 1)) return NULL;
  if (after >= SD_MAX_RANK) return SD_SH_ERR(at, UNSUPPORTED, "rank above %d", SD_MAX_RANK);
  for (int i = 0; i < after; i++) axes[i] = i + 1;
  return make(at, "Unsqueeze", v, sd_value_const_i64(at->graph, axes, after), out);
}

// x - zero point in f32; a zero point vector goes along the axis with `after` dims behind it.
static sard_status *centered(sd_node *at, sd_value *x, sd_value *zero, int after, sd_value **out) {
  SD_TRY(convert(at, x, SD_F32, out));
  if (!zero) return NULL;
  SD_TRY(convert(at, zero, SD_F32, &zero));
  SD_TRY(along(at, zero, after, &zero));
  return make(at, "Sub", *out, zero, out);
}

static sard_status *finish(sd_node *n, sd_value *v) {
  sd_value_replace(n->out[0], v);
  sd_node_remove(n);
  return NULL;
}

// y = quantized(acc * scale_a * scale_b), vectors of scales along their axes.
static sard_status *requantize(sd_node *n, sd_value *acc, sd_value *sa, int after_a, sd_value *sb, int after_b,
                               sd_value *sy, sd_value *zy) {
  SD_TRY(convert(n, sa, SD_F32, &sa));
  SD_TRY(convert(n, sb, SD_F32, &sb));
  SD_TRY(convert(n, sy, SD_F32, &sy));
  SD_TRY(along(n, sa, after_a, &sa));
  SD_TRY(along(n, sb, after_b, &sb));
  SD_TRY(convert(n, acc, SD_F32, &acc));
  SD_TRY(make(n, "Mul", acc, sa, &acc));
  SD_TRY(make(n, "Mul", acc, sb, &acc));
  sd_value *in[3] = {acc, sy, zy};
  sd_node *q = NULL;
  SD_TRY(sd_build(n->graph, n, "QuantizeLinear", in, 3, &q));
  return finish(n, q->out[0]);
}

// ---- shapes: those of the float operator on operands x and w, with another element type ----
static sard_status *shape_as(sd_node *n, const char *op, uint32_t x, uint32_t w, sd_dtype t) {
  sd_attr attrs[16] = {0};
  sd_node as = *n;
  SD_TRY(sd_sh_rank(n, x, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, w, 1, SD_MAX_RANK));
  sd_value *in[2] = {n->in[x], n->in[w]};
  as.op = sd_op_find(op);
  as.in = in;
  as.n_in = 2;
  as.attrs = attrs;
  as.n_attr = as.op->n_attr;
  if (as.n_attr > 16) return SD_SH_ERR(n, INTERNAL, "too many attributes");
  for (uint32_t i = 0; i < as.n_attr; i++) {
    const sd_attr *given = sd_node_attr(n, as.op->attrs[i].name);
    attrs[i] = given ? *given : as.op->attrs[i].def;
  }
  SD_TRY(as.op->shape(&as));
  return sd_sh_set(n, 0, t, n->out[0]->rank, n->out[0]->dims);
}

sard_status *sd_shape_matmul_integer(sd_node *n) { return shape_as(n, "MatMul", 0, 1, SD_I32); }
sard_status *sd_shape_conv_integer(sd_node *n) { return shape_as(n, "Conv", 0, 1, SD_I32); }

static sard_status *output_zero(sd_node *n, uint32_t operand) { return sd_sh_rank(n, operand, 0, SD_MAX_RANK); }
sard_status *sd_shape_qlinear_matmul(sd_node *n) {
  SD_TRY(output_zero(n, 7));
  for (uint32_t i = 0; i < 8; i++)
    if (i % 3 != 1 && i != 6) SD_TRY(sd_sh_bytes(n, i));
  return shape_as(n, "MatMul", 0, 3, n->in[7]->dtype);
}
sard_status *sd_shape_qlinear_conv(sd_node *n) {
  SD_TRY(output_zero(n, 7));
  return shape_as(n, "Conv", 0, 3, n->in[7]->dtype);
}

// ---- rewrites ----
sard_status *sd_rewrite_matmul_integer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_product8 p = {n->in[0], n->in[1], sd_sh_in(n, 2), sd_sh_in(n, 3), NULL};
  sd_value *y = sd_product8_matmul(&g, &p);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_conv_integer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_product8 p = {n->in[0], n->in[1], sd_sh_in(n, 2), sd_sh_in(n, 3), NULL};
  sd_value *y = sd_product8_conv(&g, n, &p);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_qlinear_matmul(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_product8 p = {n->in[0], n->in[3], n->in[2], n->in[5], NULL};
  sd_value *a, *b, *acc;
  if (sd_dtype_is_float(n->in[0]->dtype) || sd_dtype_is_float(n->in[3]->dtype)) {
    SD_TRY(centered(n, n->in[0], n->in[2], 1, &a));
    SD_TRY(centered(n, n->in[3], n->in[5], 0, &b));
    SD_TRY(make(n, "MatMul", a, b, &acc));
  } else {
    acc = sd_product8_matmul(&g, &p);
  }
  if (g.st) return sd_xg_take(&g);
  return requantize(n, acc, n->in[1], 1, n->in[4], 0, n->in[6], n->in[7]);
}

sard_status *sd_rewrite_qlinear_conv(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_product8 p = {n->in[0], n->in[3], n->in[2], n->in[5], sd_sh_in(n, 8)};
  sd_value *acc = sd_product8_conv(&g, n, &p);
  if (g.st) return sd_xg_take(&g);
  return requantize(n, acc, n->in[1], 0, n->in[4], acc->rank - 2, n->in[6], n->in[7]);
}
