// Attention of com.microsoft in its forms, in terms of ONNX Attention and sard.Attention.
#include "ir/ops.h"
#include "ir/ops/xgraph.h"

static sd_dim d_const(const xg *g, int64_t v) { return sd_dim_const(sd_sh_tab(g->at), v); }
static sd_dim d_mul(const xg *g, sd_dim a, sd_dim b) { return sd_dim_mul(sd_sh_tab(g->at), a, b); }
static sd_dim d_div(const xg *g, sd_dim a, sd_dim b) { return sd_dim_floordiv(sd_sh_tab(g->at), a, b); }

static sd_value *unsqueeze(xg *g, sd_value *v, int64_t axis, int count) {
  int64_t axes[4] = {axis, axis + 1, axis + 2, axis + 3};
  return XG(g, "Unsqueeze", v, sd_xg_ints(g, axes, count));
}

static sd_value *range(xg *g, sd_dim n) {
  sd_dim zero = d_const(g, 0), one = d_const(g, 1);
  return XG(g, "Range", sd_xg_dims(g, &zero, -1), sd_xg_dims(g, &n, -1), sd_xg_dims(g, &one, -1));
}

// ---- masks ----
// Keys that count, as addend: 0 there, mask_filter_value elsewhere.
static sd_value *addend(xg *g, sd_value *keep, sd_dtype t) {
  return XG(g, "Where", keep, sd_xg_num(g, t, 0),
            sd_xg_num(g, t, sd_node_float(g->at, "mask_filter_value", -10000)));
}

// A mask operand in one of its forms to an addend that broadcasts to [B,H,S,T].
static sd_value *mask_addend(xg *g, sd_value *mask, sd_dim B, sd_dim T, sd_dtype t) {
  if (g->st || !mask) return NULL;
  sd_dimtab *tab = sd_sh_tab(g->at);
  if (mask->rank == 1) {
    sd_value *at = range(g, T), *lengths = sd_xg_cast(g, SD_I64, mask);
    if (g->st) return NULL;
    bool same = mask->dims[0] == B || sd_dim_eq(tab, mask->dims[0], d_mul(g, B, d_const(g, 2))) != 1;
    if (same) {
      sd_dim three = sd_dim_add(tab, d_mul(g, B, d_const(g, 3)), d_const(g, 2));
      if (sd_dim_eq(tab, mask->dims[0], three) == 1)
        return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "a mask of packed sequence lengths")), NULL;
      return unsqueeze(g, addend(g, XG(g, "Less", at, unsqueeze(g, lengths, 1, 1)), t), 1, 2);
    }
    sd_dim two[2] = {d_const(g, 2), B};
    lengths = sd_xg_reshape(g, lengths, two, 2); // ends, then starts
    int64_t zero = 0, one = 1;
    sd_value *end = unsqueeze(g, XG(g, "Gather axis=0", lengths, sd_xg_ints(g, &zero, -1)), 1, 1);
    sd_value *start = unsqueeze(g, XG(g, "Gather axis=0", lengths, sd_xg_ints(g, &one, -1)), 1, 1);
    sd_value *keep = XG(g, "And", XG(g, "Less", at, end), XG(g, "GreaterOrEqual", at, start));
    return unsqueeze(g, addend(g, keep, t), 1, 2);
  }
  if (mask->rank > 3)
    return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "a mask of rank %d", mask->rank)), NULL;
  mask = addend(g, sd_xg_cast(g, SD_BOOL, mask), t);
  return mask ? unsqueeze(g, mask, 1, mask->rank == 2 ? 2 : 1) : NULL;
}

static sd_value *plus(xg *g, sd_value *a, sd_value *b) { return a && b ? XG(g, "Add", a, b) : a ? a : b; }

// ---- ONNX Attention on [B,S,H*D] or [B,H,S,D] ----
typedef struct core {
  sd_value *q, *k, *v, *mask, *past_k, *past_v;
  int64_t heads;
  bool causal, present;
} core;

static sd_node *attention(xg *g, const core *c) {
  sd_value *in[6] = {c->q, c->k, c->v, c->mask, c->past_k, c->past_v};
  const char *spec = sd_xg_fmt(g, "Attention is_causal=%d q_num_heads=%lld kv_num_heads=%lld", c->causal,
                               (long long)c->heads, (long long)c->heads);
  float scale = sd_node_float(g->at, "scale", 0);
  if (scale != 0) spec = sd_xg_fmt(g, "%s scale=%.9g", spec, scale);
  return sd_xg_node(g, spec, in, 6, c->present ? 3 : 1);
}

static sard_status *heads_given(const sd_node *n, const char *attr, int64_t *out) {
  *out = sd_node_int(n, attr, 0);
  return *out > 0 && *out < 1 << 20 ? NULL
                                    : SD_SH_ERR(n, MODEL, "attribute '%s' is %lld", attr, (long long)*out);
}

// Element `at` of a value stacked along axis 0.
static sd_value *layer(xg *g, sd_value *v, int64_t at, int64_t axis) {
  return v ? XG(g, sd_xg_fmt(g, "Gather axis=%lld", (long long)axis), v, sd_xg_ints(g, &at, -1)) : NULL;
}

static bool wants(const sd_node *n, uint32_t out) { return out < n->n_out && n->out[out]; }

// From the projected [B,S,q+k+v] to the outputs of Attention and QAttention.
static sard_status *projected(xg *g, sd_value *qkv, sd_value *mask, sd_value *past, sd_value *bias) {
  sd_node *n = g->at;
  core c = {.causal = sd_node_int(n, "unidirectional", 0) != 0, .present = wants(n, 1)};
  SD_TRY(heads_given(n, "num_heads", &c.heads));
  if (sd_node_int(n, "do_rotary", 0)) return SD_SH_ERR(n, UNSUPPORTED, "do_rotary");
  if (sd_node_int(n, "past_present_share_buffer", 0))
    return SD_SH_ERR(n, UNSUPPORTED, "past_present_share_buffer");
  if (g->st) return sd_xg_take(g);
  const sd_attr *sizes = sd_node_attr(n, "qkv_hidden_sizes");
  bool given = sizes && sizes->kind == SD_ATTR_INTS;
  if (given && sizes->n != 3) return SD_SH_ERR(n, MODEL, "qkv_hidden_sizes has %u entries", sizes->n);
  sd_value *split = given ? sd_xg_ints(g, sizes->ints, 3) : NULL, *in[2] = {qkv, split};
  sd_node *parts = sd_xg_node(g, given ? "Split axis=2" : "Split axis=2 num_outputs=3", in, 2, 3);
  if (!parts) return sd_xg_take(g);
  c.q = parts->out[0], c.k = parts->out[1], c.v = parts->out[2];
  sd_dim B = qkv->dims[0], T = qkv->dims[1];
  if (past) {
    SD_TRY(past->rank == 5 ? NULL : SD_SH_ERR(n, MODEL, "past has rank %d", past->rank));
    T = sd_dim_add(sd_sh_tab(n), T, past->dims[3]);
    c.past_k = layer(g, past, 0, 0), c.past_v = layer(g, past, 1, 0);
  }
  c.mask = plus(g, mask_addend(g, mask, B, T, qkv->dtype), bias);
  sd_node *a = attention(g, &c);
  if (!a) return sd_xg_take(g);
  sd_value *outs[2] = {a->out[0], NULL};
  if (c.present)
    outs[1] = XG(g, "Concat axis=0", unsqueeze(g, a->out[1], 0, 1), unsqueeze(g, a->out[2], 0, 1));
  return sd_xg_finish(g, outs, 2);
}

sard_status *sd_rewrite_ms_attention(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  sd_value *qkv = plus(&g, XG(&g, "MatMul", n->in[0], n->in[1]), sd_xg_in(&g, 2));
  return projected(&g, qkv, sd_xg_in(&g, 3), sd_xg_in(&g, 4), sd_xg_in(&g, 5));
}

sard_status *sd_rewrite_ms_qattention(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  sd_value *qkv = XG(&g, "com.microsoft.MatMulIntegerToFloat", n->in[0], n->in[1], n->in[3], n->in[4],
                     sd_xg_in(&g, 6), sd_xg_in(&g, 7), n->in[2]);
  return projected(&g, qkv, sd_xg_in(&g, 5), sd_xg_in(&g, 8), NULL);
}

// ---- MultiHeadAttention ----
// One of q, k, v of a packed operand [B,S,H,parts,D], as [B,S,H*D].
static sd_value *unpacked(xg *g, sd_value *v, int64_t part) {
  sd_dim dims[3] = {v->dims[0], v->dims[1], d_mul(g, v->dims[2], v->dims[4])};
  return sd_xg_reshape(g, layer(g, v, part, 3), dims, 3);
}

// Part [start, start + size) of the bias, added to a flat operand.
static sd_value *with_bias(xg *g, sd_value *v, sd_value *bias, sd_dim start) {
  if (!bias || g->st || v->rank != 3) return v;
  sd_dim ends[2] = {start, sd_dim_add(sd_sh_tab(g->at), start, v->dims[2])};
  int64_t zero = 0;
  sd_value *part =
      XG(g, "Slice", bias, sd_xg_dims(g, &ends[0], 1), sd_xg_dims(g, &ends[1], 1), sd_xg_ints(g, &zero, 1));
  return XG(g, "Add", v, part);
}

// Keys of rank 4 [B,H,L,D] (of an encoder) or flat: all operands of Attention must have one form.
static sd_value *to_heads(xg *g, sd_value *v, int64_t heads) {
  if (!v || g->st || v->rank == 4) return v;
  sd_dim dims[4] = {v->dims[0], v->dims[1], d_const(g, heads), d_div(g, v->dims[2], d_const(g, heads))};
  return XG(g, "Transpose perm=0,2,1,3", sd_xg_reshape(g, v, dims, 4));
}

static sard_status *mha_operands(xg *g, core *c) {
  sd_node *n = g->at;
  sd_value *q = n->in[0], *k = sd_xg_in(g, 1), *v = sd_xg_in(g, 2), *bias = sd_xg_in(g, 3);
  SD_TRY(sd_sh_rank(n, 0, 3, 5));
  if (q->rank == 5) {
    c->q = unpacked(g, q, 0), c->k = unpacked(g, q, 1), c->v = unpacked(g, q, 2);
  } else if (k && k->rank == 5) {
    c->q = q, c->k = unpacked(g, k, 0), c->v = unpacked(g, k, 1);
  } else {
    if (!k || !v) return SD_SH_ERR(n, MODEL, "key or value is missing");
    c->q = q, c->k = k, c->v = v;
  }
  if (g->st) return sd_xg_take(g);
  if (c->q->rank != 3) return SD_SH_ERR(n, MODEL, "query of rank %d", q->rank);
  if (!bias) return NULL;
  sd_dim h = c->q->dims[2];
  c->q = with_bias(g, c->q, bias, d_const(g, 0));
  c->k = with_bias(g, c->k, bias, h);
  c->v = with_bias(g, c->v, bias, d_mul(g, h, d_const(g, 2)));
  return sd_xg_take(g);
}

sard_status *sd_rewrite_ms_multi_head(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  core c = {.causal = sd_node_int(n, "unidirectional", 0) != 0, .present = wants(n, 1) || wants(n, 2)};
  SD_TRY(heads_given(n, "num_heads", &c.heads));
  SD_TRY(mha_operands(&g, &c));
  if (sd_xg_in(&g, 8) || sd_xg_in(&g, 9))
    return SD_SH_ERR(n, UNSUPPORTED, "a shared cache (past_sequence_length)");
  c.past_k = sd_xg_in(&g, 6), c.past_v = sd_xg_in(&g, 7);
  sd_dim B = c.q->dims[0], T = c.k->dims[c.k->rank == 4 ? 2 : 1];
  bool flat = c.k->rank == 3 && c.v->rank == 3;
  if (c.past_k) {
    SD_TRY(sd_sh_rank(n, 6, 4, 4));
    T = sd_dim_add(sd_sh_tab(n), T, c.past_k->dims[2]);
  }
  c.mask = plus(&g, mask_addend(&g, sd_xg_in(&g, 4), B, T, c.q->dtype), sd_xg_in(&g, 5));
  if (!flat)
    c.q = to_heads(&g, c.q, c.heads), c.k = to_heads(&g, c.k, c.heads), c.v = to_heads(&g, c.v, c.heads);
  sd_node *a = attention(&g, &c);
  if (!a) return sd_xg_take(&g);
  sd_value *y = a->out[0];
  if (!flat) {
    sd_dim dims[3] = {y->dims[0], y->dims[2], d_mul(&g, y->dims[1], y->dims[3])};
    y = sd_xg_reshape(&g, XG(&g, "Transpose perm=0,2,1,3", y), dims, 3);
  }
  sd_value *outs[3] = {y, c.present ? a->out[1] : NULL, c.present ? a->out[2] : NULL};
  return sd_xg_finish(&g, outs, 3);
}

// ---- GroupQueryAttention ----
// Past length of each batch entry: 0 for a prompt (all of the sequence is new), else seqlens_k + 1 - S.
typedef struct gqa {
  sd_value *q, *k, *v, *past_len, *present_k, *present_v;
  int64_t heads, kv_heads;
  sd_dim B, S, D, T; // T: length of the present cache
} gqa;

static sard_status *gqa_operands(xg *g, gqa *a) {
  sd_node *n = g->at;
  SD_TRY(heads_given(n, "num_heads", &a->heads));
  SD_TRY(heads_given(n, "kv_num_heads", &a->kv_heads));
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  a->q = n->in[0], a->k = sd_xg_in(g, 1), a->v = sd_xg_in(g, 2);
  a->B = a->q->dims[0], a->S = a->q->dims[1];
  if (!a->k) { // packed
    sd_dim all = d_const(g, a->heads + 2 * a->kv_heads);
    a->D = d_div(g, a->q->dims[2], all);
    sd_dim sizes[3] = {d_mul(g, a->D, d_const(g, a->heads)), d_mul(g, a->D, d_const(g, a->kv_heads)),
                       SD_DIM_NONE};
    sizes[2] = sizes[1];
    sd_value *in[2] = {a->q, sd_xg_dims(g, sizes, 3)};
    sd_node *parts = sd_xg_node(g, "Split axis=2", in, 2, 3);
    if (!parts) return sd_xg_take(g);
    a->q = parts->out[0], a->k = parts->out[1], a->v = parts->out[2];
    return NULL;
  }
  if (!a->v) return SD_SH_ERR(n, MODEL, "value is missing");
  SD_TRY(sd_sh_rank(n, 1, 3, 3));
  SD_TRY(sd_sh_rank(n, 2, 3, 3));
  a->D = d_div(g, a->q->dims[2], d_const(g, a->heads));
  return NULL;
}

static sard_status *gqa_lengths(xg *g, gqa *a) {
  sd_node *n = g->at;
  sd_dim total[1] = {SD_DIM_NONE}, minus;
  uint32_t count = 0;
  sd_dimtab *t = sd_sh_tab(n);
  sd_value *past = sd_xg_in(g, 3);
  if (past) SD_TRY(sd_sh_rank(n, 3, 4, 4));
  a->T = past ? sd_dim_add(t, past->dims[2], a->S) : a->S;
  // where the total length is not known when compiling, the cache grows by the new keys
  if (past && sd_sh_try_elems(n, 6, total, 1, &count) && count == 1)
    a->T = sd_dim_max(t, past->dims[2], total[0]);
  minus = sd_dim_sub(t, d_const(g, 1), a->S);
  sd_value *len = sd_xg_cast(g, SD_I64, n->in[5]), *zero = sd_xg_num(g, SD_I64, 0);
  len = sd_xg_reshape(g, XG(g, "Max", XG(g, "Add", len, sd_xg_dims(g, &minus, -1)), zero), &a->B, 1);
  sd_value *prompt = XG(g, "Equal", sd_xg_cast(g, SD_I64, n->in[6]), sd_xg_dims(g, &a->S, -1));
  a->past_len = XG(g, "Where", prompt, zero, len);
  return sd_xg_take(g);
}

static sd_value *rotated(xg *g, const gqa *a, sd_value *v, int64_t heads) {
  sd_node *n = g->at;
  if (!sd_node_int(n, "do_rotary", 0)) return v;
  sd_value *cos = sd_xg_in(g, 7), *sin = sd_xg_in(g, 8), *pos = sd_xg_in(g, 9);
  int64_t half = 0;
  if (!cos || !sin || cos->rank != 2 || !sd_dim_is_const(sd_sh_tab(n), cos->dims[1], &half))
    return sd_xg_fail(g, SD_SH_ERR(n, MODEL, "do_rotary needs cos_cache and sin_cache of rank 2")), NULL;
  if (!pos) pos = XG(g, "Add", unsqueeze(g, a->past_len, 1, 1), range(g, a->S));
  const char *spec =
      sd_xg_fmt(g, "RotaryEmbedding num_heads=%lld interleaved=%d rotary_embedding_dim=%lld",
                (long long)heads, sd_node_int(n, "rotary_interleaved", 0) != 0, (long long)(2 * half));
  return XG(g, spec, v, cos, sin, sd_xg_cast(g, SD_I64, pos));
}

// The cache with the new keys (flat) written behind what each batch entry has.
static sd_value *cached(xg *g, const gqa *a, sd_value *v, uint32_t past) {
  sd_dim dims[4] = {a->B, a->S, d_const(g, a->kv_heads), a->D}, full[4] = {a->B, dims[2], a->T, a->D};
  v = XG(g, "Transpose perm=0,2,1,3", sd_xg_reshape(g, v, dims, 4));
  sd_value *before = sd_xg_in(g, past);
  if (g->st) return NULL;
  if (!before && a->T == a->S) return v;
  if (!before) {
    before = sd_xg_expand(g, sd_xg_num(g, v->dtype, 0), full, 4);
  } else if (before->dims[2] != a->T) {
    sd_dim zero = d_const(g, 0), more = sd_dim_sub(sd_sh_tab(g->at), a->T, before->dims[2]);
    sd_dim pads[8] = {zero, zero, zero, zero, zero, zero, more, zero};
    before = XG(g, "Pad", before, sd_xg_dims(g, pads, 8));
  }
  return XG(g, "TensorScatter axis=2", before, v, a->past_len);
}

static sard_status *gqa_supported(const sd_node *n) {
  for (uint32_t i = 12; i < 17; i++)
    if (sd_sh_in(n, i)) return SD_SH_ERR(n, UNSUPPORTED, "operand '%s'", sd_sh_operand(n, i));
  if (!sd_node_int(n, "causal", 1) || sd_node_int(n, "sliding_window_cache", 0))
    return SD_SH_ERR(n, UNSUPPORTED, "causal = 0 and sliding_window_cache");
  if (sd_node_int(n, "qk_output", 0) || wants(n, 3))
    return SD_SH_ERR(n, UNSUPPORTED, "an output of the scores");
  return NULL;
}

// The score of each head that only takes from the others: 0 for a smooth softmax.
static sd_value *gqa_sink(xg *g, const gqa *a) {
  sd_value *sink = sd_xg_in(g, 11);
  sd_dim heads = d_const(g, a->heads);
  if (sink || sd_node_int(g->at, "smooth_softmax", 0) <= 0) return sink;
  return sd_xg_expand(g, sd_xg_num(g, a->q->dtype, 0), &heads, 1);
}

sard_status *sd_rewrite_ms_group_query(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  gqa a = {0};
  SD_TRY(gqa_supported(n));
  SD_TRY(gqa_operands(&g, &a));
  SD_TRY(gqa_lengths(&g, &a));
  a.q = rotated(&g, &a, a.q, a.heads);
  a.present_k = cached(&g, &a, rotated(&g, &a, a.k, a.kv_heads), 3);
  a.present_v = cached(&g, &a, a.v, 4);
  sd_dim q[4] = {a.B, a.S, d_const(&g, a.heads), a.D}, y[3] = {a.B, a.S, d_mul(&g, q[2], a.D)};
  sd_value *kv_len = XG(&g, "Add", a.past_len, sd_xg_dims(&g, &a.S, -1));
  int64_t window = sd_node_int(n, "local_window_size", -1);
  const char *spec = sd_xg_fmt(
      &g, "sard.Attention scale=%.9g softcap=%.9g causal=1 offset=2 window_left=%lld layout=1,0,0,1",
      sd_node_float(n, "scale", 0), sd_node_float(n, "softcap", 0),
      (long long)(window > 0 ? window - 1 : -1));
  sd_value *out = XG(&g, spec, sd_xg_reshape(&g, a.q, q, 4), a.present_k, a.present_v, sd_xg_in(&g, 10), kv_len, NULL,
                     gqa_sink(&g, &a));
  sd_value *outs[3] = {sd_xg_reshape(&g, out, y, 3), a.present_k, a.present_v};
  return sd_xg_finish(&g, outs, 3);
}
