// Shared by the attention rows of com.microsoft: sizes, masks, heads, and one attention in the forms that
// they ask for.
#pragma once
#include "ir/ops/xgraph.h"

static inline sd_dim ms_dim(const xg *g, int64_t v) { return sd_dim_const(sd_sh_tab(g->at), v); }
static inline sd_dim ms_mul(const xg *g, sd_dim a, sd_dim b) { return sd_dim_mul(sd_sh_tab(g->at), a, b); }
static inline sd_dim ms_div(const xg *g, sd_dim a, sd_dim b) {
  return sd_dim_floordiv(sd_sh_tab(g->at), a, b);
}
static inline bool ms_wants(const sd_node *n, uint32_t out) { return out < n->n_out && n->out[out]; }

sd_value *sd_ms_unsqueeze(xg *g, sd_value *v, int64_t axis, int count); // at most 4 axes
sd_value *sd_ms_range(xg *g, sd_dim n);                                 // i64: 0, 1, ... n - 1
sd_value *sd_ms_plus(xg *g, sd_value *a, sd_value *b);                  // NULL: nothing to add
// Element `at` of a value stacked along an axis; NULL of NULL.
sd_value *sd_ms_layer(xg *g, sd_value *v, int64_t at, int64_t axis);
// A number of heads from an attribute.
sard_status *sd_ms_heads(const sd_node *n, const char *attr, int64_t *out);
// [B,S,H*D] as [B,H,S,D]; a value of rank 4, and NULL, stay.
sd_value *sd_ms_by_heads(xg *g, sd_value *v, int64_t heads);
// A mask operand in one of its forms as addend that broadcasts to [B,H,S,T]; NULL of NULL. The rows of one of
// rank 4 are those of all tokens, the last S of T being the queries.
sd_value *sd_ms_mask(xg *g, sd_value *mask, sd_dim B, sd_dim S, sd_dim T, sd_dtype t);

// One attention. The first part is given, the second what comes out of it.
typedef struct sd_ms_core {
  sd_value *q, *k, *v;       // [B,S,H*D] or [B,H,S,D]
  sd_value *mask;            // addend, NULL: none
  sd_value *past_k, *past_v; // [B,H,P,D], NULL: none
  // Operand with the number of rows of past_k and past_v that are in use, the new ones being written behind
  // them; 0: all are, and the new ones are appended.
  uint32_t past_len;
  sd_value
      *beams; // cache_indirection [batch,beams,P]: the beam that row t of a beam's cache is of; NULL: its own
  int64_t heads;
  bool causal, present, scores; // which results are wanted

  sd_value *y;                     // [B,S,H*D]
  sd_value *present_k, *present_v; // [B,H,T,D]
  sd_value *qk;                    // [B,H,S,T]: scores after the mask
} sd_ms_core;
sard_status *sd_ms_attend(xg *g, sd_ms_core *c);
