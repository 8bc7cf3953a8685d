// GroupQueryAttention of com.microsoft: the new keys and values are written into a cache behind what each
// batch entry has, and the cache is attended. Caches may be quantized (ms_cache.c) or hold a window of the
// sequence only.
#include "ir/ops.h"
#include "ir/ops/ms_cache.h"

enum {
  QUERY,
  KEY,
  VALUE,
  PAST_K,
  PAST_V,
  SEQLENS_K,
  TOTAL,
  COS,
  SIN,
  POSITIONS,
  BIAS,
  SINK,
  K_SCALE,
  V_SCALE,
  Q_NORM,
  K_NORM,
  QUERY_SEQLENS
};

typedef struct gqa {
  sd_value *q, *k, *v; // flat; k and v NULL where there are no new ones
  int64_t heads, kv_heads;
  sd_dim B, S, D;
  sd_dim T;                      // length of the present cache
  sd_value *length, *past_len;   // i64 [B]: tokens after this step, and before it
  sd_value *row;                 // i64 [B]: row of the cache where the new ones go
  sd_value *attend_k, *attend_v; // [B,kv_heads,rows,D]
  sd_value *present_k, *present_v;
} gqa;

// ---- operands ----
static sard_status *split(xg *g, gqa *a) {
  sd_dim all = ms_dim(g, a->heads + 2 * a->kv_heads);
  a->D = ms_div(g, a->q->dims[2], all);
  sd_dim kv = ms_mul(g, a->D, ms_dim(g, a->kv_heads)),
         sizes[3] = {ms_mul(g, a->D, ms_dim(g, a->heads)), kv, kv};
  sd_value *in[2] = {a->q, sd_xg_dims(g, sizes, 3)};
  sd_node *parts = sd_xg_node(g, "Split axis=2", in, 2, 3);
  if (!parts) return sd_xg_take(g);
  a->q = parts->out[0], a->k = parts->out[1], a->v = parts->out[2];
  return NULL;
}

static sard_status *operands(xg *g, gqa *a) {
  sd_node *n = g->at;
  SD_TRY(sd_ms_heads(n, "num_heads", &a->heads));
  SD_TRY(sd_ms_heads(n, "kv_num_heads", &a->kv_heads));
  SD_TRY(sd_sh_rank(n, QUERY, 3, 3));
  a->q = n->in[QUERY], a->k = sd_xg_in(g, KEY), a->v = sd_xg_in(g, VALUE);
  a->B = a->q->dims[0], a->S = a->q->dims[1];
  if (sd_xg_in(g, PAST_K)) SD_TRY(sd_sh_rank(n, PAST_K, 4, 4));
  if (!sd_xg_in(g, PAST_K) != !sd_xg_in(g, PAST_V))
    return SD_SH_ERR(n, MODEL, "one of past_key and past_value is missing");
  if (!a->k) return split(g, a);
  if (!a->v) return SD_SH_ERR(n, MODEL, "value is missing");
  SD_TRY(sd_sh_rank(n, KEY, 3, 3));
  SD_TRY(sd_sh_rank(n, VALUE, 3, 3));
  a->D = ms_div(g, a->q->dims[2], ms_dim(g, a->heads));
  // a layer that shares the cache of another one has no keys of its own
  if (sd_dim_is(sd_sh_tab(n), a->k->dims[1], 0) && sd_xg_in(g, PAST_K)) a->k = a->v = NULL;
  else
    SD_TRY(sd_sh_same(n, a->k->dims[1], a->S, "lengths of query and key", NULL));
  return NULL;
}

static sard_status *lengths(xg *g, gqa *a) {
  sd_node *n = g->at;
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim total = SD_DIM_NONE;
  uint32_t count = 0;
  sd_value *past = sd_xg_in(g, PAST_K), *chunk = sd_xg_in(g, QUERY_SEQLENS), *zero = sd_xg_num(g, SD_I64, 0);
  SD_TRY(sd_sh_elems(n, TOTAL, &total, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "total_sequence_length has %u elements", count);
  a->T = past ? sd_dim_max(t, past->dims[2], total) : a->S;
  a->length = sd_xg_reshape(g, sd_xg_cast(g, SD_I64, n->in[SEQLENS_K]), &a->B, 1);
  a->length = XG(g, "Add", a->length, sd_xg_num(g, SD_I64, 1));
  if (chunk) {
    if (!past || !sd_node_int(n, "causal", 1))
      return SD_SH_ERR(n, MODEL, "query_seqlens needs a past and causal = 1");
    chunk = sd_xg_reshape(g, sd_xg_cast(g, SD_I64, chunk), &a->B, 1);
    a->past_len = XG(g, "Max", XG(g, "Sub", a->length, chunk), zero);
    return sd_xg_take(g);
  }
  // the whole sequence may be new, some of it being padding
  sd_value *S = sd_xg_dims(g, &a->S, -1), *before = XG(g, "Max", XG(g, "Sub", a->length, S), zero);
  sd_value *prompt = XG(g, "Equal", sd_xg_reshape(g, sd_xg_cast(g, SD_I64, n->in[TOTAL]), NULL, 0), S);
  a->past_len = XG(g, "Where", prompt, zero, before);
  return sd_xg_take(g);
}

// ---- queries and keys ----
// Each head divided by the root of its mean square, times the weight.
static sd_value *normed(xg *g, const gqa *a, sd_value *v, int64_t heads, uint32_t weight,
                        const char *epsilon) {
  const sd_node *n = g->at;
  if (!v || !sd_xg_in(g, weight)) return v;
  sd_dim dims[4] = {a->B, a->S, ms_dim(g, heads), a->D}, flat[3] = {a->B, a->S, ms_mul(g, dims[2], a->D)};
  float eps = sd_node_float(n, epsilon, sd_node_float(n, "qk_norm_epsilon", 1e-6f));
  const char *spec = sd_xg_fmt(g, "SimplifiedLayerNormalization axis=-1 epsilon=%.9g", eps);
  return sd_xg_reshape(g, XG(g, spec, sd_xg_reshape(g, v, dims, 4), n->in[weight]), flat, 3);
}

static sd_value *positions(xg *g, const gqa *a) {
  sd_value *given = sd_xg_in(g, POSITIONS);
  if (given) return sd_xg_cast(g, SD_I64, given);
  sd_value *at = XG(g, "Add", sd_ms_unsqueeze(g, a->past_len, 1, 1), sd_ms_range(g, a->S));
  if (!sd_xg_in(g, QUERY_SEQLENS)) return at;
  sd_value *end = sd_ms_unsqueeze(g, a->length, 1, 1); // rows of padding have no position
  return XG(g, "Where", XG(g, "Less", at, end), at, sd_xg_num(g, SD_I64, 0));
}

static sd_value *rotated(xg *g, sd_value *v, sd_value *at, int64_t heads) {
  sd_node *n = g->at;
  sd_value *cos = sd_xg_in(g, COS), *sin = sd_xg_in(g, SIN);
  int64_t half = 0;
  if (!v || !at) return v;
  if (!cos || !sin || cos->rank != 2 || !sd_dim_is_const(sd_sh_tab(n), cos->dims[1], &half))
    return sd_xg_fail(g, SD_SH_ERR(n, MODEL, "do_rotary needs cos_cache and sin_cache of rank 2")), NULL;
  const char *spec =
      sd_xg_fmt(g, "RotaryEmbedding num_heads=%lld interleaved=%d rotary_embedding_dim=%lld",
                (long long)heads, sd_node_int(n, "rotary_interleaved", 0) != 0, (long long)(2 * half));
  return XG(g, spec, v, cos, sin, at);
}

static sard_status *prepared(xg *g, gqa *a) {
  const sd_node *n = g->at;
  if (!sd_xg_in(g, Q_NORM) != !sd_xg_in(g, K_NORM))
    return SD_SH_ERR(n, MODEL, "one of q_norm_weight and k_norm_weight is missing");
  a->q = normed(g, a, a->q, a->heads, Q_NORM, "q_norm_epsilon");
  a->k = normed(g, a, a->k, a->kv_heads, K_NORM, "k_norm_epsilon");
  sd_value *at = sd_node_int(n, "do_rotary", 0) ? positions(g, a) : NULL;
  a->q = rotated(g, a->q, at, a->heads), a->k = rotated(g, a->k, at, a->kv_heads);
  return sd_xg_take(g);
}

// ---- attention ----
// The score of each head that only takes from the others: 0 for a smooth softmax.
static sd_value *sink(xg *g, const gqa *a) {
  sd_value *given = sd_xg_in(g, SINK);
  sd_dim heads = ms_dim(g, a->heads);
  if (given || sd_node_int(g->at, "smooth_softmax", 0) <= 0) return given;
  return sd_xg_expand(g, sd_xg_num(g, a->q->dtype, 0), &heads, 1);
}

// Scores [B,H,S,total] of the node's last output, 0 where nothing is attended.
static sard_status *scores(xg *g, sd_value *all, bool before, sd_value **out) {
  sd_dim total, zero = ms_dim(g, 0);
  uint32_t count = 0;
  int64_t axis = 3;
  SD_TRY(sd_sh_elems(g->at, TOTAL, &total, 1, &count));
  all = XG(g, "Slice", all, sd_xg_dims(g, &zero, 1), sd_xg_dims(g, &total, 1), sd_xg_ints(g, &axis, 1));
  if (before && all) {
    sd_value *low = sd_xg_num(g, all->dtype, -(double)__builtin_inff()), *none = sd_xg_num(g, all->dtype, 0);
    all = XG(g, "Where", XG(g, "Equal", all, low), none, all);
  }
  *out = all;
  return sd_xg_take(g);
}

static sard_status *attend(xg *g, const gqa *a, sd_value **y, sd_value **qk) {
  const sd_node *n = g->at;
  int64_t window = sd_node_int(n, "local_window_size", -1), mode = sd_node_int(n, "qk_output", 0);
  bool causal = sd_node_int(n, "causal", 1) != 0;
  if (!causal && window > 0)
    return SD_SH_ERR(n, MODEL, "local_window_size is %lld with causal = 0", (long long)window);
  if (mode < 0 || mode > 2 || (!mode && ms_wants(n, 3)))
    return SD_SH_ERR(n, MODEL, "qk_output is %lld", (long long)mode);
  sd_dim q[4] = {a->B, a->S, ms_dim(g, a->heads), a->D}, flat[3] = {a->B, a->S, ms_mul(g, q[2], a->D)};
  // rows of padding attend what they find, behind the sequence
  sd_value *end = causal ? XG(g, "Add", a->row, sd_xg_dims(g, &a->S, -1)) : a->length;
  const char *spec =
      sd_xg_fmt(g,
                "sard.Attention scale=%.9g softcap=%.9g causal=%d offset=2 window_left=%lld layout=1,0,0,1 "
                "pad_mask=1 scores_mode=%d",
                sd_node_float(n, "scale", 0), sd_node_float(n, "softcap", 0), causal,
                (long long)(window > 0 ? window - 1 : -1), mode == 2 ? 3 : 2);
  sd_value *bias = sd_ms_window_bias(g, sd_xg_in(g, BIAS), a->past_len, a->row, a->attend_k);
  sd_value *in[7] = {sd_xg_reshape(g, a->q, q, 4), a->attend_k, a->attend_v, bias, end, NULL, sink(g, a)};
  sd_node *x = sd_xg_node(g, spec, in, 7, ms_wants(n, 3) ? 2 : 1);
  if (!x) return sd_xg_take(g);
  *y = sd_xg_reshape(g, x->out[0], flat, 3);
  return ms_wants(n, 3) ? scores(g, x->out[1], mode == 1, qk) : sd_xg_take(g);
}

// ---- caches ----
static sard_status *cached(xg *g, gqa *a) {
  sd_node *n = g->at;
  sd_ms_cache k = {.past = PAST_K,
                   .scale = K_SCALE,
                   .type = "k_quant_type",
                   .fresh = a->k,
                   .T = a->T,
                   .heads = a->kv_heads};
  int64_t window = sd_node_int(n, "local_window_size", -1);
  a->row = a->past_len;
  if (sd_node_int(n, "sliding_window_cache", 0)) {
    if (window <= 0 || !sd_xg_in(g, PAST_K) || !a->k)
      return SD_SH_ERR(n, MODEL, "sliding_window_cache needs local_window_size, past_key and key");
    if (ms_wants(n, 3)) return SD_SH_ERR(n, UNSUPPORTED, "scores of a window cache");
    k.T = n->in[PAST_K]->dims[2];
    if (sd_dim_lt(sd_sh_tab(n), k.T, ms_dim(g, window)) == 1)
      return SD_SH_ERR(n, MODEL, "a cache shorter than local_window_size = %lld", (long long)window);
    a->row = sd_ms_window_rows(g, a->past_len, k.T, window);
    k.first = XG(g, "Add", a->row, XG(g, "Sub", a->length, a->past_len)); // end of what is valid
    k.first = XG(g, "Sub", k.first, sd_ms_window_rows(g, a->length, k.T, window));
  }
  k.row = a->row;
  sd_ms_cache v = k;
  v.past = PAST_V, v.scale = V_SCALE, v.type = "v_quant_type", v.fresh = a->v;
  SD_TRY(sd_ms_cache_write(g, &k));
  SD_TRY(sd_ms_cache_write(g, &v));
  a->attend_k = k.attend, a->present_k = k.present;
  a->attend_v = v.attend, a->present_v = v.present;
  return NULL;
}

sard_status *sd_rewrite_ms_group_query(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  gqa a = {0};
  sd_value *y = NULL, *qk = NULL;
  SD_TRY(operands(&g, &a));
  SD_TRY(lengths(&g, &a));
  SD_TRY(prepared(&g, &a));
  SD_TRY(cached(&g, &a));
  SD_TRY(attend(&g, &a, &y, &qk));
  return sd_xg_finish(&g, (sd_value *[]){y, a.present_k, a.present_v, qk}, 4);
}
