// MultiHeadAttention and DecoderMaskedMultiHeadAttention of com.microsoft.
#include "ir/ops.h"
#include "ir/ops/ms_attention.h"

// One of q, k, v of a packed operand [B,S,H,parts,D], as [B,S,H*D].
static sd_value *unpacked(xg *g, sd_value *v, int64_t part) {
  sd_dim dims[3] = {v->dims[0], v->dims[1], ms_mul(g, v->dims[2], v->dims[4])};
  return sd_xg_reshape(g, sd_ms_layer(g, v, part, 3), dims, 3);
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

// Query [B,S,3*H*D], packed side by side.
static sard_status *split_flat(xg *g, sd_ms_core *c) {
  sd_node *parts = sd_xg_node(g, "Split axis=2 num_outputs=3", (sd_value *[]){g->at->in[0]}, 1, 3);
  if (!parts) return sd_xg_take(g);
  c->q = parts->out[0], c->k = parts->out[1], c->v = parts->out[2];
  return NULL;
}

// Queries, keys and values; bias: its operand.
static sard_status *operands(xg *g, uint32_t bias_at, bool flat_packed, sd_ms_core *c) {
  sd_node *n = g->at;
  sd_value *q = n->in[0], *k = sd_xg_in(g, 1), *v = sd_xg_in(g, 2), *bias = sd_xg_in(g, bias_at);
  SD_TRY(sd_sh_rank(n, 0, 3, 5));
  if (q->rank == 5) {
    c->q = unpacked(g, q, 0), c->k = unpacked(g, q, 1), c->v = unpacked(g, q, 2);
  } else if (k && k->rank == 5) {
    c->q = q, c->k = unpacked(g, k, 0), c->v = unpacked(g, k, 1);
  } else if (flat_packed && !k && q->rank == 3) {
    SD_TRY(split_flat(g, c));
  } else {
    if (!k || !v) return SD_SH_ERR(n, MODEL, "key or value is missing");
    SD_TRY(sd_sh_rank(n, 1, 3, 4));
    SD_TRY(sd_sh_rank(n, 2, 3, 4));
    c->q = q, c->k = k, c->v = v;
  }
  if (g->st) return sd_xg_take(g);
  if (c->q->rank != 3) return SD_SH_ERR(n, MODEL, "query of rank %d", q->rank);
  if (!bias) return NULL;
  sd_dim h = c->q->dims[2];
  c->q = with_bias(g, c->q, bias, ms_dim(g, 0));
  c->k = with_bias(g, c->k, bias, h);
  c->v = with_bias(g, c->v, bias, ms_mul(g, h, ms_dim(g, 2)));
  return sd_xg_take(g);
}

// Where the other operands stand.
typedef struct places {
  uint32_t bias, mask, addend, past, length, beams;
} places;

static sard_status *heads(xg *g, const places *at, bool buffers, sd_ms_core *c) {
  sd_node *n = g->at;
  sd_value *mask = sd_xg_in(g, at->mask);
  c->past_k = sd_xg_in(g, at->past), c->past_v = sd_xg_in(g, at->past + 1), c->beams = sd_xg_in(g, at->beams);
  if (buffers) c->past_len = at->length;
  sd_dim S = c->q->dims[1], T = c->k->dims[c->k->rank == 4 ? 2 : 1];
  if (c->past_k) {
    SD_TRY(sd_sh_rank(n, at->past, 4, 4));
    SD_TRY(sd_sh_rank(n, at->past + 1, 4, 4));
    T = buffers ? c->past_k->dims[2] : sd_dim_add(sd_sh_tab(n), T, c->past_k->dims[2]);
  }
  if (mask && mask->rank == 4) return SD_SH_ERR(n, UNSUPPORTED, "a mask of rank 4");
  c->mask = sd_ms_plus(g, sd_ms_mask(g, mask, c->q->dims[0], S, T, c->q->dtype), sd_xg_in(g, at->addend));
  c->present = ms_wants(n, 1) || ms_wants(n, 2), c->scores = ms_wants(n, 3);
  SD_TRY(sd_ms_attend(g, c));
  sd_value *outs[4] = {c->y, c->present ? c->present_k : NULL, c->present ? c->present_v : NULL, c->qk};
  return sd_xg_finish(g, outs, 4);
}

sard_status *sd_rewrite_ms_multi_head(sd_node *n) {
  static const places at = {.bias = 3, .mask = 4, .addend = 5, .past = 6, .length = 8, .beams = 9};
  XG_SCOPE xg g = {.at = n};
  sd_ms_core c = {.causal = sd_node_int(n, "unidirectional", 0) != 0};
  SD_TRY(sd_ms_heads(n, "num_heads", &c.heads));
  SD_TRY(operands(&g, at.bias, false, &c));
  return heads(&g, &at, sd_xg_in(&g, at.length) != NULL, &c);
}

// One query for each sequence: of the decoder itself with its cache, or of an encoder's keys of rank 4.
sard_status *sd_rewrite_ms_decoder_heads(sd_node *n) {
  static const places at = {.bias = 10, .mask = 3, .addend = 4, .past = 5, .length = 7, .beams = 9};
  XG_SCOPE xg g = {.at = n};
  sd_ms_core c = {0};
  SD_TRY(sd_ms_heads(n, "num_heads", &c.heads));
  SD_TRY(operands(&g, at.bias, true, &c));
  return heads(&g, &at, sd_xg_in(&g, at.past) && sd_node_int(n, "past_present_share_buffer", 0), &c);
}
