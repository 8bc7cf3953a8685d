// Mixture of experts: the gates of the chosen experts, and the experts as batched matrix products over all
// tokens.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "ir/ops/xgraph.h"

// ---- sard.UnpackBits: [..., bytes] of 2, 4 or 8 bits, low ones first, to i32 [..., bytes * 8 / bits] ----
static sard_status *bits_of(const sd_node *n, int64_t *out) {
  *out = sd_node_int(n, "bits", 4);
  if (*out != 2 && *out != 4 && *out != 8)
    return SD_SH_ERR(n, UNSUPPORTED, "%lld bits; 2, 4 and 8 are", (long long)*out);
  return NULL;
}

sard_status *sd_shape_unpack_bits(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  int64_t bits;
  SD_TRY(bits_of(n, &bits));
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  const sd_value *x = n->in[0];
  if (x->dtype != SD_U8)
    return SD_SH_ERR(n, UNSUPPORTED, "packed numbers of type %s", sd_dtype_name(x->dtype));
  memcpy(dims, x->dims, sizeof dims);
  dims[x->rank - 1] = sd_dim_mul(sd_sh_tab(n), dims[x->rank - 1], sd_dim_const(sd_sh_tab(n), 8 / bits));
  return sd_sh_set(n, 0, SD_I32, x->rank, dims);
}

sd_expr *sd_pull_unpack_bits(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int64_t bits = sd_node_int(n, "bits", 4), per = 8 / bits;
  int last = n->in[0]->rank - 1;
  sd_expr *at[SD_MAX_RANK];
  memcpy(at, idx, (size_t)(last + 1) * sizeof *at);
  at[last] = x_bin(b, SD_X_FLOORDIV, idx[last], x_int(b, per));
  sd_expr *q = x_cast(b, SD_I32, sd_tb_load(b, n, 0, at));
  if (per == 1) return q;
  sd_expr *shift = x_cast(b, SD_I32, x_mul(b, x_bin(b, SD_X_MOD, idx[last], x_int(b, per)), x_int(b, bits)));
  return x_bin(b, SD_X_AND, x_bin(b, SD_X_SHR, q, shift), sd_x_i(b->k, SD_I32, (1 << bits) - 1));
}

// ---- gates: [tokens, experts], 0 for experts that are not among the k best ----
static sd_value *gates(xg *g, sd_value *logits, sd_value *weights, bool normalize) {
  sd_node *n = g->at;
  int64_t k = sd_node_int(n, "k", 1), one = 1, experts = 0;
  if (g->st) return NULL;
  if (!sd_dim_is_const(sd_sh_tab(n), n->in[2]->dims[0], &experts) || k < 1 || k > experts || k > 64)
    return sd_xg_fail(g, SD_SH_ERR(n, UNSUPPORTED, "%lld of %lld experts", (long long)k, (long long)experts)),
           NULL;
  sd_value *numbers =
      XG(g, "Range", sd_xg_num(g, SD_I64, 0), sd_xg_ints(g, &experts, -1), sd_xg_ints(g, &one, -1));
  sd_value *left = logits, *chosen = NULL, *axis = sd_xg_ints(g, &one, 1);
  for (int64_t i = 0; i < k && !g->st; i++) {
    sd_value *hit = XG(g, "Equal", XG(g, "ArgMax axis=1 keepdims=1", left), numbers);
    chosen = chosen ? XG(g, "Or", chosen, hit) : hit;
    left = XG(g, "Where", hit, sd_xg_num(g, logits->dtype, -INFINITY), left);
  }
  sd_value *p = weights ? weights : XG(g, "Softmax axis=1", logits);
  p = p ? XG(g, "Where", chosen, p, sd_xg_num(g, p->dtype, 0)) : NULL;
  if (normalize || sd_node_int(n, "normalize_routing_weights", 0))
    p = XG(g, "Div", p, XG(g, "ReduceSum keepdims=1", p, axis));
  return p;
}

// Two experts, each weighted by a softmax over the logits that are near the largest one left: within 2 % of its size,
// or of their own where that is larger.
static sd_value *sparse_gates(xg *g, sd_value *logits) {
  const sd_node *n = g->at;
  int64_t experts = 0, one = 1;
  if (sd_node_int(n, "k", 1) != 2 || !sd_dim_is_const(sd_sh_tab(n), n->in[2]->dims[0], &experts))
    return sd_xg_fail(g, SD_SH_ERR(n, MODEL, "use_sparse_mixer with k = %lld",
                                   (long long)sd_node_int(n, "k", 1))),
           NULL;
  sd_value *numbers = XG(g, "Range", sd_xg_num(g, SD_I64, 0), sd_xg_ints(g, &experts, -1), sd_xg_ints(g, &one, -1));
  sd_value *left = logits, *gate = NULL, *low = sd_xg_num(g, logits->dtype, -INFINITY), *axis = sd_xg_ints(g, &one, 1);
  for (int i = 0; i < 2 && !g->st; i++) {
    sd_value *most = XG(g, "ReduceMax keepdims=1", left, axis);
    sd_value *hit = XG(g, "Equal", XG(g, "ArgMax axis=1 keepdims=1", left), numbers);
    sd_value *far = XG(g, "Div", XG(g, "Sub", most, logits), XG(g, "Max", XG(g, "Abs", logits), most));
    far = XG(g, "Greater", far, sd_xg_num(g, logits->dtype, 0.02));
    sd_value *p = XG(g, "Softmax axis=1", XG(g, "Where", far, low, left));
    p = XG(g, "Where", hit, p, sd_xg_num(g, logits->dtype, 0));
    gate = gate ? XG(g, "Add", gate, p) : p;
    left = XG(g, "Where", hit, low, left);
  }
  return gate;
}

// ---- experts ----
typedef struct moe {
  sd_value *x, *w[3], *b[3]; // x [1,tokens,hidden]; weights [experts, out, in], biases [experts, out]
} moe;

static sd_value *layer(xg *g, const moe *m, sd_value *x, int i) {
  int64_t one = 1;
  sd_value *y = XG(g, "com.microsoft.FusedMatMul transB=1", x, m->w[i]);
  return m->b[i] ? XG(g, "Add", y, XG(g, "Unsqueeze", m->b[i], sd_xg_ints(g, &one, 1))) : y;
}

static sd_value *half(xg *g, sd_value *v, int which, bool interleaved) {
  int64_t axis = 2, start = which, step = 2, end = INT64_MAX;
  sd_dimtab *t = sd_sh_tab(g->at);
  if (g->st) return NULL;
  if (interleaved)
    return XG(g, "Slice", v, sd_xg_ints(g, &start, 1), sd_xg_ints(g, &end, 1), sd_xg_ints(g, &axis, 1),
              sd_xg_ints(g, &step, 1));
  sd_dim size = sd_dim_floordiv(t, v->dims[2], sd_dim_const(t, 2)), from = which ? size : sd_dim_const(t, 0),
         to = which ? v->dims[2] : size;
  return XG(g, "Slice", v, sd_xg_dims(g, &from, 1), sd_xg_dims(g, &to, 1), sd_xg_ints(g, &axis, 1));
}

// The two halves that the first layer gives side by side or in turn, or a layer each.
static bool gated(xg *g, const moe *m, sd_value **gate, sd_value **up) {
  int64_t fusion = sd_node_int(g->at, "swiglu_fusion", 0);
  sd_value *h = layer(g, m, m->x, 0);
  if (!fusion && !m->w[2]) sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "two halves without swiglu_fusion and fc3"));
  if (g->st) return false;
  *gate = fusion ? half(g, h, 0, fusion == 1) : h;
  *up = fusion ? half(g, h, 1, fusion == 1) : layer(g, m, m->x, 2);
  return !g->st;
}

static sd_value *swiglu(xg *g, const moe *m) {
  sd_node *n = g->at;
  sd_value *gate, *up, *high = NULL;
  if (!gated(g, m, &gate, &up)) return NULL;
  const sd_attr *limit = sd_node_attr(n, "swiglu_limit");
  sd_dtype t = m->x->dtype;
  bool after = sd_node_int(n, "swiglu_limit_after_activation", 0) != 0;
  if (limit && limit->kind == SD_ATTR_FLOAT) {
    high = sd_xg_num(g, t, limit->f);
    up = XG(g, "Clip", up, sd_xg_num(g, t, -(double)limit->f), high);
  }
  if (high && !after) gate = XG(g, "Min", gate, high);
  gate = XG(g, sd_xg_fmt(g, "Swish alpha=%.9g", sd_node_float(n, "activation_alpha", 1)), gate);
  if (high && after) gate = XG(g, "Min", gate, high);
  return XG(g, "Mul", gate, XG(g, "Add", up, sd_xg_num(g, t, sd_node_float(n, "activation_beta", 0))));
}

static sd_value *geglu(xg *g, const moe *m) {
  sd_value *gate, *up;
  return gated(g, m, &gate, &up) ? XG(g, "Mul", XG(g, "Gelu approximate=tanh", gate), up) : NULL;
}

static sd_value *hidden(xg *g, const moe *m) {
  static const struct {
    const char *name, *spec;
  } acts[] = {
      {"relu", "Relu"}, {"relu2", "Relu"}, {"gelu", "Gelu approximate=tanh"},
      {"silu", "Swish"}, {"identity", "Identity"}};
  const char *act = sd_node_str(g->at, "activation_type", "relu");
  if (!strcmp(act, "swiglu")) return swiglu(g, m);
  if (!strcmp(act, "geglu")) return geglu(g, m);
  for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
    if (strcmp(act, acts[i].name)) continue;
    sd_value *h = XG(g, acts[i].spec, layer(g, m, m->x, 0));
    if (!strcmp(act, "relu2")) h = XG(g, "Mul", h, h);
    return m->w[2] ? XG(g, "Mul", h, layer(g, m, m->x, 2)) : h;
  }
  return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "activation_type '%s'", act)), NULL;
}

static sard_status *mixture(xg *g, moe *m, sd_value *weights, bool normalize) {
  sd_node *n = g->at;
  sd_dimtab *t = sd_sh_tab(n);
  int64_t zero = 0, two = 2;
  SD_TRY(sd_sh_rank(n, 0, 2, 3));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  const sd_value *x = n->in[0];
  sd_dim flat[3] = {sd_dim_const(t, 1), sd_dim_product(t, x->dims, x->rank - 1), x->dims[x->rank - 1]};
  m->x = sd_xg_reshape(g, n->in[0], flat, 3);
  sd_value *y = m->x ? layer(g, m, hidden(g, m), 1) : NULL; // [experts, tokens, hidden]
  bool sparse = sd_node_int(n, "use_sparse_mixer", 0) != 0;
  if (sparse && weights) return SD_SH_ERR(n, MODEL, "use_sparse_mixer with router_weights");
  sd_value *gate = sparse ? sparse_gates(g, n->in[1]) : gates(g, n->in[1], weights, normalize);
  gate = XG(g, "Unsqueeze", XG(g, "Transpose perm=1,0", gate), sd_xg_ints(g, &two, 1));
  y = XG(g, "ReduceSum keepdims=0", XG(g, "Mul", y, gate), sd_xg_ints(g, &zero, 1));
  y = sd_xg_reshape(g, y, x->dims, x->rank);
  return sd_xg_finish(g, &y, 1);
}

sard_status *sd_rewrite_ms_moe(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  moe m = {.w = {n->in[2], n->in[4], sd_xg_in(&g, 6)},
           .b = {sd_xg_in(&g, 3), sd_xg_in(&g, 5), sd_xg_in(&g, 7)}};
  return mixture(&g, &m, NULL, false);
}

// ---- QMoE: integer weights, one scale for each row or for each block of it ----
static sd_value *unpacked(xg *g, sd_value *v, int64_t bits, sd_dim count) {
  v = XG(g, sd_xg_fmt(g, "sard.UnpackBits bits=%lld", (long long)bits), v);
  if (!v || v->dims[v->rank - 1] == count) return v;
  sd_dim zero = sd_dim_const(sd_sh_tab(g->at), 0);
  int64_t last = v->rank - 1;
  return XG(g, "Slice", v, sd_xg_dims(g, &zero, 1), sd_xg_dims(g, &count, 1), sd_xg_ints(g, &last, 1));
}

static sd_value *qmoe_weight(xg *g, uint32_t w, uint32_t zeros, const char *own_bits) {
  sd_node *n = g->at;
  sd_dimtab *t = sd_sh_tab(n);
  sd_value *q = sd_xg_in(g, w), *s = sd_xg_in(g, w + 1), *z = sd_xg_in(g, zeros);
  if (!q || g->st) return NULL;
  int64_t bits = sd_node_int(n, own_bits, 0);
  if (bits <= 0) bits = sd_node_int(n, "expert_weight_bits", 4);
  if (!s || q->rank != 3 || s->rank < 2 || s->rank > 3 || (bits != 2 && bits != 4 && bits != 8))
    return sd_xg_fail(g, SD_SH_ERR(n, UNSUPPORTED, "weights of %lld bits, rank %d, with%s scales",
                                   (long long)bits, q->rank, s ? "" : "out")),
           NULL;
  sd_dim K = sd_dim_mul(t, q->dims[2], sd_dim_const(t, 8 / bits)),
         blocks = s->rank == 3 ? s->dims[2] : sd_dim_const(t, 1);
  sd_dim four[4] = {q->dims[0], q->dims[1], blocks, sd_dim_floordiv(t, K, blocks)},
         three[3] = {four[0], four[1], K};
  sd_dim side[4] = {four[0], four[1], blocks, sd_dim_const(t, 1)};
  sd_value *x = sd_xg_reshape(g, unpacked(g, q, bits, K), four, 4);
  if (z) z = sd_xg_reshape(g, unpacked(g, z, bits, s->rank == 3 ? blocks : four[1]), side, 4);
  else
    z = sd_xg_num(g, SD_I32, (double)(1 << (bits - 1)));
  x = XG(g, "Mul", sd_xg_cast(g, s->dtype, XG(g, "Sub", x, z)), sd_xg_reshape(g, s, side, 4));
  return sd_xg_cast(g, n->in[0]->dtype, sd_xg_reshape(g, x, three, 3));
}

sard_status *sd_rewrite_ms_qmoe(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  const char *type = sd_node_str(n, "quant_type", "int");
  if (strcmp(type, "int") || sd_node_int(n, "weights_prepacked", 0) > 0)
    return SD_SH_ERR(n, UNSUPPORTED, "quant_type '%s', or weights packed for another runtime", type);
  moe m = {.w = {qmoe_weight(&g, 2, 11, "fc1_expert_weight_bits"),
                 qmoe_weight(&g, 5, 12, "fc2_expert_weight_bits"),
                 qmoe_weight(&g, 8, 13, "fc3_expert_weight_bits")},
           .b = {sd_xg_in(&g, 4), sd_xg_in(&g, 7), sd_xg_in(&g, 10)}};
  if (g.st) return sd_xg_take(&g);
  return mixture(&g, &m, sd_xg_in(&g, 14),
                 !sd_xg_in(&g, 14)); // as ONNX Runtime: softmax over the chosen ones
}
