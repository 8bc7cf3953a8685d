// Attention whose keys are worked on in parts, for machines that a few rows and heads do not fill: types of the parts, and
// what they add up to.
#include "ir/ops.h"
#include "ir/ops/attention.h"

enum { ACC, MAX, SUM };
#define MOST_PARTS 1024

sard_status *sd_shape_attention_part(sd_node *n) {
  attn a;
  int64_t parts = sd_node_int(n, "parts", 0);
  SD_TRY(sd_attn_read(n, &a));
  if (parts < 1 || parts > MOST_PARTS)
    return SD_SH_ERR(n, MODEL, "attribute 'parts' is %lld, not 1..%d", (long long)parts, MOST_PARTS);
  sd_dtype t = sd_compute_type(n->in[Q]->dtype);
  sd_dim d[5] = {sd_dim_const(sd_sh_tab(n), parts), a.B, a.H, a.S, a.Dv};
  SD_TRY(sd_sh_set(n, 0, t, 5, d));
  SD_TRY(sd_sh_set(n, 1, t, 4, d));
  return sd_sh_set(n, 2, t, 4, d);
}

sard_status *sd_shape_attention_join(sd_node *n) {
  int64_t to = sd_node_int(n, "to", 0);
  SD_TRY(sd_sh_rank(n, ACC, 5, 5));
  if (to <= 0 || to >= SD_DT_COUNT || !sd_dtype_is_float((sd_dtype)to))
    return SD_SH_ERR(n, MODEL, "attribute 'to' is %lld, no float type", (long long)to);
  const sd_dim *d = n->in[ACC]->dims;
  for (uint32_t i = MAX; i <= SUM; i++) {
    SD_TRY(sd_sh_rank(n, i, 4, 4));
    for (int k = 0; k < 4; k++) SD_TRY(sd_sh_same(n, n->in[i]->dims[k], d[k], "dims of the parts", NULL));
  }
  bool inside = sd_node_int(n, "heads_inside", 0) != 0;
  return sd_sh_set(n, 0, (sd_dtype)to, 4, (sd_dim[]){d[1], d[inside ? 3 : 2], d[inside ? 2 : 3], d[4]});
}

static sd_expr *part(sd_tb *b, const sd_node *n, uint32_t operand, sd_axis *p, sd_expr *const *at) {
  sd_expr *ix[5] = {x_axis(b, p), at[0], at[1], at[2], at[3]};
  return sd_tb_load(b, n, operand, ix);
}

// The sum over the parts of an operand, each scaled to the maximum of all.
static sd_expr *weighted(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *at, sd_expr *shift) {
  sd_axis *p = sd_tb_raxis(b, "part", n->in[ACC]->dims[0]);
  sd_expr *m = part(b, n, MAX, p, at), *x = part(b, n, operand, p, at);
  x = x_mul(b, x, sd_x_exp_weight(b, x_sub(b, m, shift)));
  return x ? sd_x_reduce(b->k, SD_R_SUM, &p, 1, x) : NULL;
}

sd_expr *sd_pull_attention_join(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  bool inside = sd_node_int(n, "heads_inside", 0) != 0;
  sd_expr *at[4] = {idx[0], idx[inside ? 2 : 1], idx[inside ? 1 : 2], idx[3]};
  sd_axis *p = sd_tb_raxis(b, "part", n->in[ACC]->dims[0]);
  sd_expr *max = part(b, n, MAX, p, at);
  (void)out;
  if (!max) return NULL;
  max = sd_x_reduce(b->k, SD_R_MAX, &p, 1, max);
  // a row that attends nothing has only -inf: subtract 0 there
  sd_expr *shift = x_sel(b, x_bin(b, SD_X_EQ, max, x_lowest(b, max->dtype)), x_num(b, max, 0), max);
  sd_expr *y = weighted(b, n, ACC, at, shift), *sum = weighted(b, n, SUM, at, shift);
  if (!sum) return NULL;
  sum = x_sel(b, x_bin(b, SD_X_EQ, sum, x_num(b, sum, 0)), x_num(b, sum, 1), sum);
  return x_cast(b, sd_compute_type(n->out[0]->dtype), x_mul(b, y, x_div(b, x_num(b, sum, 1), sum)));
}
