// Embeddings with normalization, and small operators of com.microsoft.
#include "ir/ops.h"
#include "ir/ops/xgraph.h"

typedef struct table {
  sd_value *rows, *scale, *zero;
} table; // scale NULL: a float table

static sd_value *dequantized(xg *g, sd_value *v, const table *t) {
  return t->scale ? XG(g, "DequantizeLinear", v, t->scale, t->zero) : v;
}

static sd_value *looked_up(xg *g, const table *t, sd_value *ids) {
  return dequantized(g, XG(g, "Gather axis=0", t->rows, ids), t);
}

// Rows 0 to S of the position table for all batch entries, or those that position_ids name.
static sd_value *positions(xg *g, const table *t, sd_value *ids) {
  if (ids) return looked_up(g, t, ids);
  sd_dim start = sd_dim_const(sd_sh_tab(g->at), 0), end = g->at->in[0]->dims[1];
  return dequantized(g, XG(g, "Slice", t->rows, sd_xg_dims(g, &start, 1), sd_xg_dims(g, &end, 1)), t);
}

static sard_status *embed(xg *g, const table *word, const table *position, const table *segment,
                          const table *gamma, const table *beta, sd_value *mask, sd_value *position_ids) {
  sd_node *n = g->at;
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  sd_value *sum = XG(g, "Add", looked_up(g, word, n->in[0]), positions(g, position, position_ids));
  if (sd_xg_in(g, 1) && segment->rows) sum = XG(g, "Add", sum, looked_up(g, segment, n->in[1]));
  const char *spec =
      sd_xg_fmt(g, "LayerNormalization axis=-1 epsilon=%.9g", sd_node_float(n, "epsilon", 1e-12f));
  sd_value *y = XG(g, spec, sum, dequantized(g, gamma->rows, gamma), dequantized(g, beta->rows, beta));
  sd_value *count = NULL;
  int64_t one = 1;
  if (mask) count = XG(g, "ReduceSum keepdims=0", sd_xg_cast(g, SD_I32, mask), sd_xg_ints(g, &one, 1));
  else
    count = sd_xg_expand(g, sd_xg_num(g, SD_I32, 0), n->in[0]->dims, 1);
  sd_value *outs[3] = {y, count, sum};
  return sd_xg_finish(g, outs, 3);
}

sard_status *sd_rewrite_ms_embed(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  table t[5] = {
      {.rows = n->in[2]}, {.rows = n->in[3]}, {.rows = n->in[4]}, {.rows = n->in[5]}, {.rows = n->in[6]}};
  return embed(&g, &t[0], &t[1], &t[2], &t[3], &t[4], sd_xg_in(&g, 7), sd_xg_in(&g, 8));
}

sard_status *sd_rewrite_ms_qembed(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  table t[5];
  for (uint32_t i = 0; i < 5; i++) {
    t[i] = (table){n->in[2 + i], sd_xg_in(&g, 8 + i), sd_xg_in(&g, 13 + i)};
    if (t[i].rows && !t[i].scale)
      return SD_SH_ERR(n, MODEL, "the scale of '%s' is missing", sd_sh_operand(n, 2 + i));
  }
  return embed(&g, &t[0], &t[1], &t[2], &t[3], &t[4], sd_xg_in(&g, 7), NULL);
}

sard_status *sd_rewrite_ms_trilu(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y =
      XG(&g, sd_node_int(n, "upper", 1) ? "Trilu upper=1" : "Trilu upper=0", n->in[0], sd_xg_in(&g, 1));
  return sd_xg_finish(&g, &y, 1);
}

// A token that would repeat an n-gram gets -inf: where the last n-1 tokens occurred before, the one that
// followed.
sard_status *sd_rewrite_ms_ngram(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int64_t size = sd_node_int(n, "ngram_size", 0);
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  if (size < 1 || size > 256) return SD_SH_ERR(n, MODEL, "ngram_size is %lld", (long long)size);
  sd_dim length = n->in[0]->dims[1];
  sd_dim starts =
      sd_dim_add(sd_sh_tab(n), length, sd_dim_const(sd_sh_tab(n), 1 - size)); // n-grams in the sequence
  starts = sd_dim_max(sd_sh_tab(n), starts, sd_dim_const(sd_sh_tab(n), 0));
  sd_value *match = NULL;
  int64_t axis = 1;
  for (int64_t i = 0; i < size; i++) {
    sd_dim from = sd_dim_const(sd_sh_tab(n), i), to = sd_dim_add(sd_sh_tab(n), starts, from);
    sd_value *part =
        XG(&g, "Slice", n->in[0], sd_xg_dims(&g, &from, 1), sd_xg_dims(&g, &to, 1), sd_xg_ints(&g, &axis, 1));
    if (i == size - 1) { // the tokens that followed
      float inf = __builtin_inff();
      sd_value *low = sd_xg_f32(&g, -(double)inf), *high = sd_xg_f32(&g, (double)inf);
      if (!match) match = XG(&g, "Equal", part, part);
      sd_value *bans = sd_xg_cast(&g, n->in[1]->dtype, XG(&g, "Where", match, low, high));
      sd_value *y = XG(&g, "ScatterElements axis=1 reduction=min", n->in[1], part, bans);
      return sd_xg_finish(&g, &y, 1);
    }
    // token i of the last n-gram; any one where the sequence is shorter, which has no n-grams to compare with
    sd_dim at = sd_dim_add(sd_sh_tab(n), length, sd_dim_const(sd_sh_tab(n), i + 1 - size));
    at = sd_dim_max(sd_sh_tab(n), at, sd_dim_const(sd_sh_tab(n), 0));
    sd_value *last = XG(&g, "Gather axis=1", n->in[0], sd_xg_dims(&g, &at, 1));
    sd_value *same = XG(&g, "Equal", part, last);
    match = match ? XG(&g, "And", match, same) : same;
  }
  return sd_xg_take(&g);
}
