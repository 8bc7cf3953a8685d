// Attention and QAttention of com.microsoft, and what the attention rows share, in terms of ONNX Attention
// and sard.Attention.
#include "ir/ops/ms_attention.h"

#include "ir/ops.h"

sd_value *sd_ms_unsqueeze(xg *g, sd_value *v, int64_t axis, int count) {
  int64_t axes[4] = {axis, axis + 1, axis + 2, axis + 3};
  return XG(g, "Unsqueeze", v, sd_xg_ints(g, axes, count));
}

sd_value *sd_ms_range(xg *g, sd_dim n) {
  sd_dim zero = ms_dim(g, 0), one = ms_dim(g, 1);
  return XG(g, "Range", sd_xg_dims(g, &zero, -1), sd_xg_dims(g, &n, -1), sd_xg_dims(g, &one, -1));
}

sd_value *sd_ms_plus(xg *g, sd_value *a, sd_value *b) { return a && b ? XG(g, "Add", a, b) : a ? a : b; }

sd_value *sd_ms_layer(xg *g, sd_value *v, int64_t at, int64_t axis) {
  return v ? XG(g, sd_xg_fmt(g, "Gather axis=%lld", (long long)axis), v, sd_xg_ints(g, &at, -1)) : NULL;
}

sard_status *sd_ms_heads(const sd_node *n, const char *attr, int64_t *out) {
  *out = sd_node_int(n, attr, 0);
  return *out > 0 && *out < 1 << 20 ? NULL
                                    : SD_SH_ERR(n, MODEL, "attribute '%s' is %lld", attr, (long long)*out);
}

sd_value *sd_ms_by_heads(xg *g, sd_value *v, int64_t heads) {
  if (!v || g->st || v->rank == 4) return v;
  sd_dim dims[4] = {v->dims[0], v->dims[1], ms_dim(g, heads), ms_div(g, v->dims[2], ms_dim(g, heads))};
  return XG(g, "Transpose perm=0,2,1,3", sd_xg_reshape(g, v, dims, 4));
}

// ---- masks ----
// Keys that count, as addend: 0 there, mask_filter_value elsewhere.
static sd_value *addend(xg *g, sd_value *keep, sd_dtype t) {
  return XG(g, "Where", keep, sd_xg_num(g, t, 0),
            sd_xg_num(g, t, sd_node_float(g->at, "mask_filter_value", -10000)));
}

// Entries `part` * B to `part` * B + B of a vector.
static sd_value *piece(xg *g, sd_value *v, sd_dim B, int64_t part) {
  sd_dim start = ms_mul(g, B, ms_dim(g, part)), end = ms_mul(g, B, ms_dim(g, part + 1));
  return XG(g, "Slice", v, sd_xg_dims(g, &start, 1), sd_xg_dims(g, &end, 1));
}

// [B]: ends; [2B]: ends, then starts; [3B+2]: ends, then offsets of packed sequences that say the same.
static sd_value *ranges_of_keys(xg *g, sd_value *mask, sd_dim B, sd_dim T) {
  sd_dimtab *tab = sd_sh_tab(g->at);
  sd_dim count = mask->dims[0], packed = sd_dim_add(tab, ms_mul(g, B, ms_dim(g, 3)), ms_dim(g, 2));
  bool starts = count != B && sd_dim_eq(tab, count, ms_mul(g, B, ms_dim(g, 2))) == 1;
  bool more = starts || (count != B && sd_dim_eq(tab, count, packed) == 1);
  sd_value *at = sd_ms_range(g, T), *v = sd_xg_cast(g, SD_I64, mask);
  sd_value *keep = XG(g, "Less", at, sd_ms_unsqueeze(g, more ? piece(g, v, B, 0) : v, 1, 1));
  if (!starts) return keep;
  return XG(g, "And", keep, XG(g, "GreaterOrEqual", at, sd_ms_unsqueeze(g, piece(g, v, B, 1), 1, 1)));
}

sd_value *sd_ms_mask(xg *g, sd_value *mask, sd_dim B, sd_dim S, sd_dim T, sd_dtype t) {
  if (g->st || !mask) return NULL;
  if (mask->rank == 1) return sd_ms_unsqueeze(g, addend(g, ranges_of_keys(g, mask, B, T), t), 1, 2);
  if (mask->rank < 1 || mask->rank > 4)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "a mask of rank %d", mask->rank)), NULL;
  if (mask->rank == 4) {
    sd_dim start[2] = {sd_dim_sub(sd_sh_tab(g->at), T, S), ms_dim(g, 0)}, end[2] = {T, T};
    int64_t axes[2] = {2, 3};
    mask = XG(g, "Slice", mask, sd_xg_dims(g, start, 2), sd_xg_dims(g, end, 2), sd_xg_ints(g, axes, 2));
  }
  mask = mask ? addend(g, sd_xg_cast(g, SD_BOOL, mask), t) : NULL;
  return !mask || mask->rank == 4 ? mask : sd_ms_unsqueeze(g, mask, 1, mask->rank == 2 ? 2 : 1);
}

// ---- one attention ----
static const char *scaled(xg *g, const char *spec) {
  float scale = sd_node_float(g->at, "scale", 0);
  return scale != 0 ? sd_xg_fmt(g, "%s scale=%.9g", spec, scale) : spec;
}

// All of the cache is in use: the new keys are appended. Operands of ONNX Attention have one form, flat or by
// heads.
static void attend_appended(xg *g, sd_ms_core *c) {
  bool flat = c->k->rank == 3 && c->v->rank == 3;
  if (!flat) {
    c->q = sd_ms_by_heads(g, c->q, c->heads);
    c->k = sd_ms_by_heads(g, c->k, c->heads), c->v = sd_ms_by_heads(g, c->v, c->heads);
  }
  sd_value *in[6] = {c->q, c->k, c->v, c->mask, c->past_k, c->past_v};
  const char *spec =
      sd_xg_fmt(g, "Attention is_causal=%d q_num_heads=%lld kv_num_heads=%lld qk_matmul_output_mode=2",
                c->causal, (long long)c->heads, (long long)c->heads);
  sd_node *a = sd_xg_node(g, scaled(g, spec), in, 6, c->scores ? 4 : c->present ? 3 : 1);
  if (!a) return;
  c->y = a->out[0];
  if (c->present) c->present_k = a->out[1], c->present_v = a->out[2];
  if (c->scores) c->qk = a->out[3];
  if (flat) return;
  sd_dim dims[3] = {c->y->dims[0], c->y->dims[2], ms_mul(g, c->y->dims[1], c->y->dims[3])};
  c->y = sd_xg_reshape(g, XG(g, "Transpose perm=0,2,1,3", c->y), dims, 3);
}

// Rows of the caches [B,H,M,D] that other beams of the same batch entry wrote: row t of beam j is that of
// beam [j,t].
static sard_status *of_beams(xg *g, const sd_ms_core *c, sd_value *length, sd_value **k, sd_value **v) {
  const sd_node *n = g->at;
  sd_value *at = c->beams, *rows[2] = {*k, *v};
  if (at->rank != 3) return SD_SH_ERR(n, MODEL, "cache_indirection of rank %d", at->rank);
  sd_dim B = (*k)->dims[0], M = (*k)->dims[2], beams = at->dims[1], flat[2] = {B, M}, one = ms_dim(g, 1);
  SD_TRY(sd_sh_same(n, B, ms_mul(g, at->dims[0], beams), "cache_indirection and the batch", NULL));
  SD_TRY(sd_sh_same(n, M, at->dims[2], "cache_indirection and the cache", NULL));
  sd_value *own = sd_ms_unsqueeze(g, sd_ms_range(g, B), 1, 1), *width = sd_xg_dims(g, &beams, -1);
  sd_value *first = XG(g, "Sub", own, XG(g, "Mod", own, width)); // of the batch entry
  at = XG(g, "Add", sd_xg_reshape(g, sd_xg_cast(g, SD_I64, at), flat, 2), first);
  at = XG(g, "Where", XG(g, "Less", sd_ms_range(g, M), sd_ms_unsqueeze(g, length, 1, 1)), at, own);
  for (int i = 0; i < 2 && !g->st; i++) {
    sd_dim all[4] = {B, rows[i]->dims[1], M, rows[i]->dims[3]}, side[4] = {B, one, M, one};
    sd_value *index = sd_xg_expand(g, sd_xg_reshape(g, at, side, 4), all, 4);
    rows[i] = XG(g, "GatherElements axis=0", rows[i], index);
  }
  *k = rows[0], *v = rows[1];
  return sd_xg_take(g);
}

// The caches are buffers: new rows are written behind those in use, and the rows up to there are attended.
static sard_status *attend_buffers(xg *g, sd_ms_core *c) {
  const sd_node *n = g->at;
  sd_dim B = c->q->dims[0], S = c->q->rank == 3 ? c->q->dims[1] : c->q->dims[2];
  if (!c->past_k || !c->past_v || !sd_sh_in(n, c->past_len))
    return SD_SH_ERR(n, MODEL, "a shared buffer needs the past keys and values and past_sequence_length");
  SD_TRY(sd_sh_one(n, c->past_len));
  sd_value *length = sd_xg_reshape(g, sd_xg_cast(g, SD_I64, n->in[c->past_len]), (sd_dim[]){ms_dim(g, 1)}, 1);
  length = sd_xg_expand(g, length, &B, 1);
  c->present_k = XG(g, "TensorScatter axis=2", c->past_k, sd_ms_by_heads(g, c->k, c->heads), length);
  c->present_v = XG(g, "TensorScatter axis=2", c->past_v, sd_ms_by_heads(g, c->v, c->heads), length);
  sd_value *k = c->present_k, *v = c->present_v;
  if (g->st) return sd_xg_take(g);
  if (c->beams) SD_TRY(of_beams(g, c, length, &k, &v));
  const char *spec = sd_xg_fmt(
      g, "sard.Attention causal=%d offset=2 pad_mask=1 scores_mode=2 layout=0,0,0,1 scale=0", c->causal);
  sd_value *in[5] = {sd_ms_by_heads(g, c->q, c->heads), k, v, c->mask,
                     XG(g, "Add", length, sd_xg_dims(g, &S, -1))};
  sd_node *a = sd_xg_node(g, scaled(g, spec), in, 5, c->scores ? 2 : 1);
  if (!a) return sd_xg_take(g);
  sd_value *y = a->out[0];
  c->y = sd_xg_reshape(g, y, (sd_dim[]){B, S, ms_mul(g, y->dims[2], y->dims[3])}, 3);
  if (!c->scores) return sd_xg_take(g);
  sd_dim used, zero = ms_dim(g, 0);
  uint32_t count = 0;
  int64_t axis = 3;
  SD_TRY(sd_sh_elems(n, c->past_len, &used, 1, &count));
  used = sd_dim_add(sd_sh_tab(n), used, S);
  c->qk =
      XG(g, "Slice", a->out[1], sd_xg_dims(g, &zero, 1), sd_xg_dims(g, &used, 1), sd_xg_ints(g, &axis, 1));
  return sd_xg_take(g);
}

sard_status *sd_ms_attend(xg *g, sd_ms_core *c) {
  if (g->st) return sd_xg_take(g);
  if (c->past_len) return attend_buffers(g, c);
  if (c->beams) return SD_SH_ERR(g->at, MODEL, "cache_indirection without past_sequence_length");
  attend_appended(g, c);
  return sd_xg_take(g);
}

// ---- Attention and QAttention ----
// Queries, keys and values of the projected [B,S,q+k+v].
static sard_status *split(xg *g, sd_value *qkv, sd_ms_core *c) {
  const sd_node *n = g->at;
  const sd_attr *sizes = sd_node_attr(n, "qkv_hidden_sizes");
  bool given = sizes && sizes->kind == SD_ATTR_INTS;
  if (given && sizes->n != 3) return SD_SH_ERR(n, MODEL, "qkv_hidden_sizes has %u entries", sizes->n);
  sd_value *in[2] = {qkv, given ? sd_xg_ints(g, sizes->ints, 3) : NULL};
  sd_node *parts = sd_xg_node(g, given ? "Split axis=2" : "Split axis=2 num_outputs=3", in, 2, 3);
  if (!parts) return sd_xg_take(g);
  c->q = parts->out[0], c->k = parts->out[1], c->v = parts->out[2];
  return NULL;
}

static sard_status *projected(xg *g, sd_value *qkv, uint32_t mask, uint32_t past, uint32_t bias,
                              uint32_t length) {
  sd_node *n = g->at;
  sd_ms_core c = {.causal = sd_node_int(n, "unidirectional", 0) != 0, .present = ms_wants(n, 1)};
  sd_value *old = sd_xg_in(g, past), *given = sd_xg_in(g, mask);
  bool share = sd_node_int(n, "past_present_share_buffer", 0) != 0;
  SD_TRY(sd_ms_heads(n, "num_heads", &c.heads));
  if (sd_node_int(n, "do_rotary", 0)) return SD_SH_ERR(n, UNSUPPORTED, "do_rotary");
  if (share && (!length || !sd_xg_in(g, length)))
    return SD_SH_ERR(n, MODEL, "past_present_share_buffer without past_sequence_length");
  if (share && given && given->rank == 4)
    return SD_SH_ERR(n, UNSUPPORTED, "a mask of rank 4 with a shared buffer");
  if (g->st) return sd_xg_take(g);
  SD_TRY(split(g, qkv, &c));
  sd_dim T = qkv->dims[1];
  if (old) {
    SD_TRY(sd_sh_rank(n, past, 5, 5));
    T = share ? old->dims[3] : sd_dim_add(sd_sh_tab(n), T, old->dims[3]);
    c.past_k = sd_ms_layer(g, old, 0, 0), c.past_v = sd_ms_layer(g, old, 1, 0);
  }
  c.past_len = share ? length : 0;
  given = sd_ms_mask(g, given, qkv->dims[0], qkv->dims[1], T, qkv->dtype);
  c.mask = sd_ms_plus(g, given, bias ? sd_xg_in(g, bias) : NULL);
  SD_TRY(sd_ms_attend(g, &c));
  sd_value *outs[2] = {c.y, NULL};
  if (c.present)
    outs[1] =
        XG(g, "Concat axis=0", sd_ms_unsqueeze(g, c.present_k, 0, 1), sd_ms_unsqueeze(g, c.present_v, 0, 1));
  return sd_xg_finish(g, outs, 2);
}

sard_status *sd_rewrite_ms_attention(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  sd_value *qkv = sd_ms_plus(&g, XG(&g, "MatMul", n->in[0], n->in[1]), sd_xg_in(&g, 2));
  return projected(&g, qkv, 3, 4, 5, 6);
}

sard_status *sd_rewrite_ms_qattention(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  sd_value *qkv = XG(&g, "com.microsoft.MatMulIntegerToFloat", n->in[0], n->in[1], n->in[3], n->in[4],
                     sd_xg_in(&g, 6), sd_xg_in(&g, 7), n->in[2]);
  return projected(&g, qkv, 5, 8, 0, 0);
}
