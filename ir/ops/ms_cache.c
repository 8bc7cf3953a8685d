// Caches of GroupQueryAttention: new rows are encoded as the cache is, written, and all rows decoded to be
// attended.
#include "ir/ops/ms_cache.h"

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

// ---- sard.CacheWrite ----
enum { PAST, FRESH, AT, ROWS };

sard_status *sd_shape_cache_write(sd_node *n) {
  sd_dim rows[1], dims[4];
  uint32_t count;
  for (uint32_t i = PAST; i <= FRESH; i++) SD_TRY(sd_sh_rank(n, i, 4, 4));
  SD_TRY(sd_sh_rank(n, AT, 1, 1));
  SD_TRY(sd_sh_elems(n, ROWS, rows, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "rows has %u elements", count);
  const sd_value *x = n->in[PAST];
  for (int d = 0; d < 4; d++)
    if (d != 2) SD_TRY(sd_sh_same(n, x->dims[d], n->in[FRESH]->dims[d], "past and fresh rows", NULL));
  SD_TRY(sd_sh_same(n, n->in[AT]->dims[0], x->dims[0], "positions and the batch", NULL));
  memcpy(dims, x->dims, sizeof dims);
  dims[2] = rows[0];
  return sd_sh_set(n, 0, x->dtype, 4, dims);
}

// Element `at` of an operand where `cond` holds, else another value.
static sd_expr *guarded(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *cond, sd_expr *const *at,
                        sd_expr *other) {
  sd_expr *saved = NULL;
  if (!cond) return NULL;
  sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, operand, at);
  if (!other) other = x ? sd_x_i(b->k, x->dtype, 0) : NULL;
  return sd_tb_guard_end(b, saved, cond, x, other);
}

sd_expr *sd_pull_cache_write(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_expr *row = x_sub(b, idx[2], sd_tb_load(b, n, AT, idx)), *at[4] = {idx[0], idx[1], row, idx[3]};
  sd_expr *old = guarded(b, n, PAST, x_bin(b, SD_X_LT, idx[2], x_dim(b, n->in[PAST]->dims[2])), idx, NULL);
  sd_expr *fresh = x_bin(b, SD_X_LT, row, x_dim(b, n->in[FRESH]->dims[2]));
  return guarded(b, n, FRESH, x_and(b, fresh, x_bin(b, SD_X_LE, x_int(b, 0), row)), at, old);
}

// ---- quantization ----
// stored = round(x / scale), in the range of its bits; 4 bits are stored as 8 more, two a byte.

// Scales that broadcast to [B,kv_heads,rows,D]; NULL where the cache is plain.
static sd_value *scales(xg *g, const sd_ms_cache *c) {
  const sd_node *n = g->at;
  sd_value *past = sd_xg_in(g, c->past), *s = sd_xg_in(g, c->scale);
  const char *how = sd_node_str(n, c->type, "NONE");
  if (!past || past->dtype == n->in[0]->dtype) return NULL;
  bool half_bytes = past->dtype == SD_U8 && sd_node_int(n, "kv_cache_bit_width", 0) == 4;
  if (past->dtype != SD_I8 && past->dtype != SD_F8E4M3FN && !half_bytes)
    return sd_xg_fail(g, SD_SH_ERR(n, UNSUPPORTED, "'%s' of type %s with kv_cache_bit_width = %lld",
                                   sd_sh_operand(n, c->past), sd_dtype_name(past->dtype),
                                   (long long)sd_node_int(n, "kv_cache_bit_width", 0))),
           NULL;
  if (!s || (strcmp(how, "PER_TENSOR") && strcmp(how, "PER_CHANNEL")))
    return sd_xg_fail(g, SD_SH_ERR(n, MODEL, "a quantized '%s' with%s scale and %s '%s'",
                                   sd_sh_operand(n, c->past), s ? "" : "out", c->type, how)),
           NULL;
  sd_dim one = ms_dim(g, 1), side[4] = {one, ms_dim(g, c->heads), one, past->dims[3]};
  if (half_bytes) side[3] = ms_mul(g, side[3], ms_dim(g, 2));
  return sd_xg_reshape(g, sd_xg_cast(g, SD_F32, s), side, strcmp(how, "PER_TENSOR") ? 4 : 0);
}

static sd_value *every_other(xg *g, sd_value *v, int64_t start) {
  int64_t end = INT64_MAX, axis = 3, step = 2;
  return XG(g, "Slice", v, sd_xg_ints(g, &start, 1), sd_xg_ints(g, &end, 1), sd_xg_ints(g, &axis, 1),
            sd_xg_ints(g, &step, 1));
}

static sd_value *encoded(xg *g, sd_value *v, sd_value *scale, sd_dtype as) {
  if (!scale || !v) return v;
  double most = as == SD_F8E4M3FN ? 448 : as == SD_I8 ? 127 : 7, least = as == SD_F8E4M3FN ? -448 : -most - 1;
  v = XG(g, "Div", sd_xg_cast(g, SD_F32, v), scale);
  if (as != SD_F8E4M3FN) v = XG(g, "Round", v);
  v = XG(g, "Clip", v, sd_xg_f32(g, least), sd_xg_f32(g, most));
  if (as != SD_U8) return sd_xg_cast(g, as, v);
  v = sd_xg_cast(g, SD_I32, XG(g, "Add", v, sd_xg_f32(g, 8)));
  sd_value *high = XG(g, "Mul", every_other(g, v, 1), sd_xg_num(g, SD_I32, 16));
  return sd_xg_cast(g, SD_U8, XG(g, "Add", every_other(g, v, 0), high));
}

static sd_value *decoded(xg *g, sd_value *v, sd_value *scale) {
  if (!scale || !v) return v;
  if (v->dtype == SD_U8) v = XG(g, "Sub", XG(g, "sard.UnpackBits bits=4", v), sd_xg_num(g, SD_I32, 8));
  return sd_xg_cast(g, g->at->in[0]->dtype, XG(g, "Mul", sd_xg_cast(g, SD_F32, v), scale));
}

// ---- rows ----
// The cache of `rows` rows with the fresh ones.
static sd_value *written(xg *g, const sd_ms_cache *c, sd_value *past, sd_value *fresh, sd_dim rows) {
  sd_dim zero = ms_dim(g, 0);
  if (!past && fresh && fresh->dims[2] == rows) return fresh;
  if (!past && fresh)
    past = sd_xg_expand(g, sd_xg_num(g, fresh->dtype, 0),
                        (sd_dim[]){fresh->dims[0], fresh->dims[1], rows, fresh->dims[3]}, 4);
  if (!past || g->st) return NULL;
  if (fresh && past->dims[2] == rows) return XG(g, "TensorScatter axis=2", past, fresh, c->row);
  if (fresh) return XG(g, "sard.CacheWrite", past, fresh, c->row, sd_xg_dims(g, &rows, 1));
  if (past->dims[2] == rows) return past;
  sd_dim pads[8] = {zero, zero, zero, zero, zero, zero, sd_dim_sub(sd_sh_tab(g->at), rows, past->dims[2]),
                    zero};
  return XG(g, "Pad", past, sd_xg_dims(g, pads, 8));
}

// Rows [first, first + T) of each batch entry.
static sd_value *kept(xg *g, const sd_ms_cache *c, sd_value *v) {
  if (!c->first || !v) return v;
  sd_dim one = ms_dim(g, 1), last = sd_dim_sub(sd_sh_tab(g->at), v->dims[2], one);
  sd_dim side[4] = {v->dims[0], one, c->T, one}, all[4] = {v->dims[0], v->dims[1], c->T, v->dims[3]};
  sd_value *at = XG(g, "Add", sd_ms_unsqueeze(g, c->first, 1, 1), sd_ms_range(g, c->T));
  at = XG(g, "Min", at, sd_xg_dims(g, &last, -1));
  return XG(g, "GatherElements axis=2", v, sd_xg_expand(g, sd_xg_reshape(g, at, side, 4), all, 4));
}

sard_status *sd_ms_cache_write(xg *g, sd_ms_cache *c) {
  sd_value *past = sd_xg_in(g, c->past), *scale = scales(g, c),
           *fresh = sd_ms_by_heads(g, c->fresh, c->heads);
  sd_dim rows = c->T;
  fresh = encoded(g, fresh, scale, past ? past->dtype : SD_F32);
  if (g->st) return sd_xg_take(g);
  if (c->first && fresh) rows = sd_dim_add(sd_sh_tab(g->at), rows, fresh->dims[2]);
  sd_value *all = written(g, c, past, fresh, rows);
  c->attend = decoded(g, all, scale);
  c->present = kept(g, c, all);
  return sd_xg_take(g);
}

// ---- windows ----
sd_value *sd_ms_window_rows(xg *g, sd_value *length, sd_dim C, int64_t window) {
  sd_dimtab *t = sd_sh_tab(g->at);
  sd_dim step = sd_dim_sub(t, C, ms_dim(g, window - 1)), less = sd_dim_sub(t, step, ms_dim(g, 1));
  sd_value *by = sd_xg_dims(g, &step, -1), *over = XG(g, "Sub", length, sd_xg_dims(g, &C, -1));
  over = XG(g, "Add", XG(g, "Max", over, sd_xg_num(g, SD_I64, 0)), sd_xg_dims(g, &less, -1));
  return XG(g, "Sub", length, XG(g, "Mul", XG(g, "Div", over, by), by));
}

sd_value *sd_ms_window_bias(xg *g, sd_value *bias, sd_value *past_len, sd_value *row, sd_value *attend) {
  if (!bias || past_len == row || g->st) return bias;
  sd_dim one = ms_dim(g, 1), B = attend->dims[0], rows = attend->dims[2];
  if (bias->rank != 4)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "attention_bias of rank %d", bias->rank)), NULL;
  sd_dim last = sd_dim_sub(sd_sh_tab(g->at), bias->dims[3], one), side[4] = {B, one, one, rows};
  sd_dim wide[4] = {B, bias->dims[1], bias->dims[2], bias->dims[3]}, all[4] = {B, wide[1], wide[2], rows};
  sd_value *at = XG(g, "Add", sd_ms_unsqueeze(g, XG(g, "Sub", past_len, row), 1, 1), sd_ms_range(g, rows));
  at = XG(g, "Max", XG(g, "Min", at, sd_xg_dims(g, &last, -1)), sd_xg_num(g, SD_I64, 0));
  return XG(g, "GatherElements axis=3", sd_xg_expand(g, bias, wide, 4),
            sd_xg_expand(g, sd_xg_reshape(g, at, side, 4), all, 4));
}
