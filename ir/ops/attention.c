// Attention as nests: scores of a block of query rows, softmax in place, product with the values.
//
// One grid tile is a block of query rows of one head: the scores of the block live in a local buffer, so
// nothing is computed twice and both contractions are plain matrix products. Keys are first transposed into a
// local buffer, where a row of the score block reads contiguous memory; values are copied to one where their rows lie so far
// apart that they would share few sets of a cache.
#include "ir/ops/attention.h"

#include <string.h>

#include "ir/ops.h"
#include "runtime/base/alloc.h"

#define BLOCK      32  // query rows whose scores are computed at once: with the keys and values they should fit the cache
#define TILE       8   // blocks of a tile at most, for which the keys are transposed once
#define PANEL      64  // transposed keys lie together in panels, so that a product over them reads memory in order
#define LINE       16  // rows of scores begin where vectors do
#define COLUMNS    32  // of values that lie together: two vectors of AVX-512
#define FAR        256 // elements of a row of all heads: 64 such rows have 16 sets of a cache at best
#define LEAST_ROWS 32  // query rows, fewer of which read values where they are

// Where B, H, S stand in each layout; D is the last.
static const int places[3][3] = {{0, 1, 2}, {0, 2, 1}, {1, 2, 0}};

// Dims of operand or output `which` (0..3) in the order B, H, S, D.
static void dims_of(const attn *a, int which, const sd_value *v, sd_dim *out) {
  for (int i = 0; i < 3; i++) out[i] = v->dims[places[a->layout[which]][i]];
  out[3] = v->dims[3];
}

sard_status *sd_attn_read(const sd_node *n, attn *a) {
  const sd_attr *l = sd_node_attr(n, "layout");
  sd_dim q[4], k[4], v[4];
  memset(a, 0, sizeof *a);
  a->n = n;
  if (l && l->kind == SD_ATTR_INTS) {
    if (l->n != 4) return SD_SH_ERR(n, MODEL, "attribute 'layout' has %u entries instead of 4", l->n);
    for (int i = 0; i < 4; i++)
      if (l->ints[i] < 0 || l->ints[i] > 2)
        return SD_SH_ERR(n, MODEL, "attribute 'layout' has the entry %lld", (long long)l->ints[i]);
    memcpy(a->layout, l->ints, sizeof a->layout);
  }
  for (uint32_t i = 0; i < 3; i++) SD_TRY(sd_sh_rank(n, i, 4, 4));
  dims_of(a, 0, n->in[Q], q), dims_of(a, 1, n->in[K], k), dims_of(a, 2, n->in[V], v);
  SD_TRY(sd_sh_same(n, q[0], k[0], "batch of q and k", &a->B));
  SD_TRY(sd_sh_same(n, a->B, v[0], "batch of q and v", &a->B));
  SD_TRY(sd_sh_same(n, k[1], v[1], "heads of k and v", &a->Hk));
  SD_TRY(sd_sh_same(n, k[2], v[2], "lengths of k and v", &a->T));
  SD_TRY(sd_sh_same(n, q[3], k[3], "head sizes of q and k", &a->D));
  a->H = q[1], a->S = q[2], a->Dv = v[3];
  sd_dimtab *t = sd_sh_tab(n);
  if (sd_dim_eq(t, sd_dim_mod(t, a->H, a->Hk), sd_dim_const(t, 0)) == 0)
    return SD_SH_ERR(n, MODEL, "the heads of q are no multiple of those of k");
  if (sd_sh_in(n, KV_LEN)) {
    SD_TRY(sd_sh_rank(n, KV_LEN, 1, 1));
    SD_TRY(sd_sh_same(n, n->in[KV_LEN]->dims[0], a->B, "kv_len and the batch", NULL));
  }
  if (sd_sh_in(n, SINK)) {
    SD_TRY(sd_sh_rank(n, SINK, 1, 1));
    SD_TRY(sd_sh_same(n, n->in[SINK]->dims[0], a->H, "sink and the heads", NULL));
  }
  int64_t offset = sd_node_int(n, "offset", 0);
  if (offset == 2 && !sd_sh_in(n, KV_LEN)) return SD_SH_ERR(n, MODEL, "offset = 2 needs kv_len");
  return offset == 3 ? sd_sh_rank(n, PAST, 4, 4) : NULL;
}

sard_status *sd_shape_sard_attention(sd_node *n) {
  attn a;
  SD_TRY(sd_attn_read(n, &a));
  if (sd_sh_in(n, MASK)) {
    SD_TRY(sd_sh_rank(n, MASK, 0, 4));
    sd_dim dims[SD_MAX_RANK] = {a.B, a.H, a.S, a.T};
    int rank = 4, mask_rank = n->in[MASK]->rank;
    sd_dim m[4];
    memcpy(m, n->in[MASK]->dims, (size_t)mask_rank * sizeof *m);
    if (mask_rank && sd_node_int(n, "pad_mask", 0)) m[mask_rank - 1] = a.T;
    SD_TRY(sd_sh_bcast(n, dims, &rank, m, mask_rank));
  }
  sd_dim y[4] = {[3] = a.Dv};
  y[places[a.layout[3]][0]] = a.B, y[places[a.layout[3]][1]] = a.H, y[places[a.layout[3]][2]] = a.S;
  SD_TRY(sd_sh_set(n, 0, n->in[Q]->dtype, 4, y));
  return sd_sh_set(n, 1, n->in[Q]->dtype, 4, (sd_dim[]){a.B, a.H, a.S, a.T});
}

// ---- nests ----
void sd_attn_index(const attn *a, int which, sd_expr *b, sd_expr *h, sd_expr *s, sd_expr *d, sd_expr **out) {
  const int *at = places[a->layout[which]];
  out[at[0]] = b, out[at[1]] = h, out[at[2]] = s, out[3] = d;
}

sd_axis *sd_attn_grid(sd_tb *b, const char *name, sd_dim extent) {
  sd_axis *x = sd_kernel_axis(b->k, name, extent);
  sd_vec_push(b->arena, &b->k->grid, x);
  return x;
}

static sd_dim d_const(sd_tb *b, int64_t v) { return sd_dim_const(b->dims, v); }
static sd_dim rounded_up(sd_tb *b, sd_dim x, int64_t to) {
  return sd_dim_mul(b->dims, sd_dim_ceildiv(b->dims, x, d_const(b, to)), d_const(b, to));
}

// Rows of a block: a multiple of a good register tile that leaves few rows over at the end.
static int64_t block_rows(int64_t s) {
  int64_t best = s, best_cost = INT64_MAX;
  if (s <= BLOCK + 4) return sd_max_i64(s, 1);
  for (int64_t tile = 8; tile <= 14; tile++)
    for (int64_t rows = tile; rows <= BLOCK + 4; rows += tile) {
      int64_t rest = s % rows, cost = s / rows * (rows / tile * (2 * tile + 3) + 6) + rest / tile * (2 * tile + 3);
      if (rest) cost += 6;
      for (rest %= tile; rest; rest &= rest - 1) cost += sd_max_i64(2 * (rest & -rest), 8) + 3;
      if (cost < best_cost) best = rows, best_cost = cost;
    }
  return best;
}

// Keys below the last row of `rows` rows, or below kv_len, are all that may be attended.
static void set_reach(sd_tb *b, attn *a, int64_t rows) {
  if (a->n->n_out > 1 && a->n->out[1]) return;
  if (sd_node_int(a->n, "causal", 0)) a->reach = x_add(b, x_add(b, a->row0, a->offset), x_int(b, rows));
  else if (sd_tb_has(a->n, KV_LEN))
    a->reach = sd_tb_load(b, a->n, KV_LEN, &a->b);
}

void sd_attn_positions(sd_tb *b, attn *a) {
  int64_t offset = sd_node_int(a->n, "offset", 0);
  a->type = sd_compute_type(a->n->in[Q]->dtype);
  a->offset = x_int(b, 0);
  if (offset == 1) a->offset = x_dim(b, sd_dim_sub(b->dims, a->T, a->S));
  if (offset == 2) a->offset = x_sub(b, sd_tb_load(b, a->n, KV_LEN, &a->b), x_dim(b, a->S));
  if (offset == 3) a->offset = x_dim(b, a->n->in[PAST]->dims[2]);
}

// Keys of a panel: all where they are few whole vectors, so that loops over them have a fixed end.
static int64_t panel_keys(const sd_tb *b, const attn *a) {
  int64_t t;
  return sd_dim_is_const(b->dims, a->T, &t) && t > 0 && t < PANEL && t % LINE == 0 ? t : PANEL;
}

// Columns of values that lie together: where rows of all heads are far apart. Fewer rows than LEAST_ROWS would not pay for copies, nor
// would keys of earlier steps.
static int64_t value_columns(const sd_tb *b, const attn *a) {
  int64_t s, dv, row;
  bool fixed = sd_dim_is_const(b->dims, a->S, &s);
  if (!a->layout[2] || (fixed ? s < LEAST_ROWS : sd_dim_eq(b->dims, a->S, a->T) != 1)) return 0;
  if (!sd_dim_is_const(b->dims, a->Dv, &dv) || dv < LINE || !sd_dim_is_const(b->dims, sd_dim_mul(b->dims, a->Hk, a->Dv), &row)) return 0;
  return row < FAR ? 0 : dv % COLUMNS ? dv : COLUMNS;
}

static void attn_tile(sd_tb *b, attn *a) {
  int64_t s = 0, blocks = 2;
  bool fixed = sd_dim_is_const(b->dims, a->S, &s);
  a->rows = BLOCK;
  if (fixed) {
    a->rows = block_rows(s);
    blocks = sd_max_i64(sd_min_i64((s + a->rows - 1) / a->rows / 2, TILE), 1);
  }
  a->pack = !fixed || s >= 8;
  a->b = x_axis(b, sd_attn_grid(b, "b", a->B));
  a->h = x_axis(b, sd_attn_grid(b, "h", a->H));
  sd_expr *block = x_axis(b, sd_attn_grid(b, "sb", sd_dim_ceildiv(b->dims, a->S, d_const(b, a->rows * blocks))));
  a->row0 = sd_x_mul_dim(b->k, block, d_const(b, a->rows * blocks));
  a->hk = a->H == a->Hk ? a->h : x_bin(b, SD_X_FLOORDIV, a->h, x_dim(b, sd_dim_floordiv(b->dims, a->H, a->Hk)));
  sd_attn_positions(b, a);
  a->blocks = blocks;
  set_reach(b, a, a->rows * blocks);
  sd_dim rows = d_const(b, a->rows);
  a->pitch = rounded_up(b, a->T, LINE);
  a->scores = sd_tb_local(b, a->type, sd_dim_mul(b->dims, rows, a->pitch));
  a->max = sd_tb_local(b, a->type, rows);
  a->sum = sd_tb_local(b, a->type, rows);
  a->panel = panel_keys(b, a);
  if (a->pack) a->keys = sd_tb_local(b, a->type, sd_dim_mul(b->dims, a->D, rounded_up(b, a->T, a->panel)));
  a->columns = value_columns(b, a);
  if (a->columns) a->values = sd_tb_local(b, a->type, sd_dim_mul(b->dims, a->Dv, a->T));
}

// Axis over the rows of the block: fewer in the last block.
static sd_expr *rows_axis(sd_tb *b, const attn *a, sd_nest *nest) {
  sd_axis *r = sd_kernel_axis(b->k, "r", d_const(b, a->rows));
  if (!sd_dim_multiple_of(b->dims, a->S, a->rows * a->blocks)) r->limit = x_sub(b, x_dim(b, a->S), a->row0);
  sd_nest_axis(nest, r);
  return x_axis(b, r);
}
static sd_axis *keys_axis(sd_tb *b, const attn *a) {
  sd_axis *t = sd_kernel_axis(b->k, "t", a->T);
  t->limit = a->reach;
  return t;
}
static sd_expr *keys_nest_axis(sd_tb *b, const attn *a, sd_nest *nest) {
  sd_axis *t = keys_axis(b, a);
  sd_nest_axis(nest, t);
  return x_axis(b, t);
}
static sd_expr *score_at(sd_tb *b, const attn *a, sd_expr *r, sd_expr *t) {
  return x_add(b, sd_x_mul_dim(b->k, r, a->pitch), t);
}

// ---- panels of transposed keys ----
static sd_expr *panel_axis(sd_tb *b, const attn *a, sd_nest *nest) {
  sd_axis *p = sd_kernel_axis(b->k, "panel", sd_dim_ceildiv(b->dims, a->T, d_const(b, a->panel)));
  if (a->reach) p->limit = x_bin(b, SD_X_FLOORDIV, x_add(b, a->reach, x_int(b, a->panel - 1)), x_int(b, a->panel));
  sd_nest_axis(nest, p);
  return x_axis(b, p);
}
static sd_expr *panel_start(sd_tb *b, const attn *a, sd_expr *panel) { return sd_x_mul_dim(b->k, panel, d_const(b, a->panel)); }

// Key of the panel: fewer in the last one.
static sd_expr *panel_key_axis(sd_tb *b, const attn *a, sd_nest *nest, sd_expr *panel) {
  sd_axis *t = sd_kernel_axis(b->k, "t", d_const(b, a->panel));
  sd_expr *end = a->reach, *all = x_dim(b, a->T);
  if (!sd_dim_multiple_of(b->dims, a->T, a->panel)) end = end ? x_min(b, end, all) : all;
  if (end) t->limit = x_sub(b, end, panel_start(b, a, panel));
  sd_nest_axis(nest, t);
  return x_axis(b, t);
}
// Where panels of `rows` rows of `width` elements lie one behind the other.
static sd_expr *panel_at(sd_tb *b, sd_expr *panel, sd_dim rows, sd_expr *row, int64_t width, sd_expr *column) {
  row = x_add(b, sd_x_mul_dim(b->k, panel, rows), row);
  return x_add(b, sd_x_mul_dim(b->k, row, d_const(b, width)), column);
}
static sd_expr *key_at(sd_tb *b, const attn *a, sd_expr *panel, sd_expr *d, sd_expr *t) {
  return panel_at(b, panel, a->D, d, a->panel, t);
}

static void pack_keys(sd_tb *b, const attn *a) {
  sd_expr *ix[4];
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *panel = panel_axis(b, a, nest), *t = panel_key_axis(b, a, nest, panel);
  sd_axis *d_axis = sd_kernel_axis(b->k, "d", a->D);
  sd_nest_axis(nest, d_axis);
  sd_expr *d = x_axis(b, d_axis);
  sd_attn_index(a, 1, a->b, a->hk, x_add(b, panel_start(b, a, panel), t), d, ix);
  sd_expr *x = sd_tb_load(b, a->n, K, ix);
  if (x) sd_nest_store(b->k, nest, a->keys, key_at(b, a, panel, d, t), x, NULL);
}

// ---- panels of values ----
static sd_expr *value_panel_axis(sd_tb *b, const attn *a, sd_nest *nest) {
  sd_axis *p = sd_kernel_axis(b->k, "panel", sd_dim_floordiv(b->dims, a->Dv, d_const(b, a->columns)));
  sd_nest_axis(nest, p);
  return x_axis(b, p);
}
static sd_expr *value_at(sd_tb *b, const attn *a, sd_expr *panel, sd_expr *t, sd_expr *column) {
  return panel_at(b, panel, a->T, t, a->columns, column);
}
// The column of them all that is `column` of a panel; panel NULL: there are none.
static sd_expr *all_columns(sd_tb *b, const attn *a, sd_expr *panel, sd_expr *column) {
  return panel ? x_add(b, sd_x_mul_dim(b->k, panel, d_const(b, a->columns)), column) : column;
}
static sd_expr *value_of(sd_tb *b, const attn *a, sd_expr *t, sd_expr *dv) {
  sd_expr *ix[4];
  sd_attn_index(a, 2, a->b, a->hk, t, dv, ix);
  return x_cast(b, a->type, sd_tb_load(b, a->n, V, ix));
}

static void pack_values(sd_tb *b, const attn *a) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *panel = value_panel_axis(b, a, nest), *t = keys_nest_axis(b, a, nest);
  sd_axis *columns = sd_kernel_axis(b->k, "dv", d_const(b, a->columns));
  sd_nest_axis(nest, columns);
  sd_expr *c = x_axis(b, columns), *x = value_of(b, a, t, all_columns(b, a, panel, c));
  if (x) sd_nest_store(b->k, nest, a->values, value_at(b, a, panel, t, c), x, NULL);
}

// Condition under which row s attends key t; NULL = always. bias: what is added to the score, NULL = nothing.
static sd_expr *attended(sd_tb *b, const attn *a, sd_expr *s, sd_expr *t, sd_expr **bias) {
  const sd_node *n = a->n;
  int64_t left = sd_node_int(n, "window_left", -1), right = sd_node_int(n, "window_right", -1);
  sd_expr *cond = NULL, *pos = x_add(b, s, a->offset), *saved = NULL, *inside = NULL;
  *bias = NULL;
  if (sd_node_int(n, "causal", 0)) cond = x_bin(b, SD_X_LE, t, pos);
  if (left >= 0) cond = x_and(b, cond, x_bin(b, SD_X_LE, x_sub(b, pos, x_int(b, left)), t));
  if (right >= 0) cond = x_and(b, cond, x_bin(b, SD_X_LE, t, x_add(b, pos, x_int(b, right))));
  if (sd_tb_has(n, KV_LEN))
    cond = x_and(b, cond, x_bin(b, SD_X_LT, t, sd_tb_load(b, n, KV_LEN, (sd_expr *[]){a->b})));
  if (!sd_tb_has(n, MASK)) return cond;
  const sd_value *m = n->in[MASK];
  sd_expr *ix[4] = {a->b, a->h, s, t};
  sd_dim over_t = a->T;
  if (sd_node_int(n, "pad_mask", 0) && m->rank && sd_dim_eq(b->dims, m->dims[m->rank - 1], a->T) != 1 &&
      !sd_dim_is(b->dims, m->dims[m->rank - 1], 1)) {
    over_t = m->dims[m->rank - 1];
    inside = x_bin(b, SD_X_LT, t, x_dim(b, m->dims[m->rank - 1]));
    sd_tb_guard_begin(b, inside, &saved);
  }
  sd_expr *x = x_load_over(b, n, MASK, ix, 4, (sd_dim[]){a->B, a->H, a->S, over_t});
  if (x && m->dtype != SD_BOOL) x = x_cast(b, a->type, x);
  sd_expr *none = !x ? NULL : m->dtype == SD_BOOL ? sd_x_i(b->k, SD_BOOL, 0) : x_lowest(b, a->type);
  if (inside) x = sd_tb_guard_end(b, saved, inside, x, none);
  if (m->dtype == SD_BOOL) return x_and(b, cond, x);
  *bias = x;
  return cond;
}

// An extra store of the scores into the second output, when it is wanted at this stage.
static void store_scores(sd_tb *b, const attn *a, sd_nest *nest, int64_t mode, sd_expr *r, sd_expr *t,
                         sd_expr *x) {
  if (a->n->n_out < 2 || !a->n->out[1] || sd_node_int(a->n, "scores_mode", 0) != mode || !x) return;
  sd_expr *ix[4] = {a->b, a->h, x_add(b, a->row0, r), t};
  sd_nest_store(b->k, nest, sd_tb_out(b, a->n, 1), sd_tb_offset(b, a->n->out[1], ix), x, NULL);
}

// Times the attribute `scale`; 0 stands for 1 / sqrt(D).
static sd_expr *scaled(sd_tb *b, const attn *a, sd_expr *x) {
  double scale = sd_node_float(a->n, "scale", 1);
  int64_t d;
  if (scale == 0 && sd_dim_is_const(b->dims, a->D, &d) && d > 0) scale = 1 / sqrt((double)d);
  if (scale != 0 || !x) return x_muln(b, x, scale);
  return x_div(b, x, x_un(b, SD_X_SQRT, x_cast(b, x->dtype, x_dim(b, a->D))));
}

sd_expr *sd_attn_score(sd_tb *b, const attn *a, sd_expr *x, sd_expr *s, sd_expr *t, sd_expr **stages) {
  sd_expr *bias = NULL;
  stages[0] = x = scaled(b, a, x);
  double cap = sd_node_float(a->n, "softcap", 0);
  if (cap > 0) x = x_muln(b, x_un(b, SD_X_TANH, x_muln(b, x, 1.0 / cap)), cap);
  stages[1] = x;
  sd_expr *cond = attended(b, a, s, t, &bias);
  if (bias) x = x_add(b, x, bias);
  if (cond && x) x = x_sel(b, cond, x, x_num(b, x, sd_node_float(a->n, "masked", -INFINITY)));
  return stages[2] = x;
}

static void score_nest(sd_tb *b, const attn *a) {
  sd_expr *iq[4], *ik[4], *stages[3];
  sd_nest *nest = sd_kernel_nest(b->k, a->items);
  sd_expr *panel = a->pack ? panel_axis(b, a, nest) : NULL, *r = rows_axis(b, a, nest);
  sd_expr *in = a->pack ? panel_key_axis(b, a, nest, panel) : NULL, *t = in ? x_add(b, panel_start(b, a, panel), in) : keys_nest_axis(b, a, nest);
  x_axes red = {.n = 0};
  sd_expr *d = x_raxis(b, &red, "d", a->D), *s = x_add(b, a->row0, r);
  sd_attn_index(a, 0, a->b, a->h, s, d, iq);
  sd_attn_index(a, 1, a->b, a->hk, t, d, ik);
  sd_expr *key = a->pack ? sd_x_load(b->k, a->keys, key_at(b, a, panel, d, in), NULL)
                         : sd_tb_load(b, a->n, K, ik);
  sd_expr *x = x_reduce(b, SD_R_SUM, &red, x_mul(b, sd_tb_load(b, a->n, Q, iq), key));
  x = sd_attn_score(b, a, x, s, t, stages);
  for (int mode = 0; mode < 3; mode++) store_scores(b, a, nest, mode, r, t, stages[mode]);
  if (x) sd_nest_store(b->k, nest, a->scores, score_at(b, a, r, t), x, NULL);
}

// Reduces the score rows into `out`.
static sd_expr *reduced_scores(sd_tb *b, const attn *a, sd_expr *r, sd_rop op) {
  sd_axis *t = keys_axis(b, a);
  sd_expr *x = sd_x_load(b->k, a->scores, score_at(b, a, r, x_axis(b, t)), NULL);
  return x ? sd_x_reduce(b->k, op, &t, 1, x) : NULL;
}

sd_expr *sd_attn_sink(sd_tb *b, const attn *a) {
  return sd_tb_has(a->n, SINK) ? x_cast(b, a->type, sd_tb_load(b, a->n, SINK, (sd_expr *[]){a->h})) : NULL;
}

static void softmax_nests(sd_tb *b, const attn *a) {
  sd_nest *nest = sd_kernel_nest(b->k, a->items);
  sd_expr *r = rows_axis(b, a, nest), *low = x_lowest(b, a->type);
  sd_expr *max = reduced_scores(b, a, r, SD_R_MAX), *sink = sd_attn_sink(b, a);
  if (!max) return;
  if (sink) max = x_max(b, max, sink);
  // a row that attends nothing has only -inf: subtract 0 there, so that its probabilities become 0
  max = x_sel(b, x_bin(b, SD_X_EQ, max, low), x_num(b, max, 0), max);
  sd_nest_store(b->k, nest, a->max, r, max, NULL);

  nest = sd_kernel_nest(b->k, a->items);
  r = rows_axis(b, a, nest);
  sd_expr *t = keys_nest_axis(b, a, nest), *at = score_at(b, a, r, t);
  sd_expr *x = x_sub(b, sd_x_load(b->k, a->scores, at, NULL), sd_x_load(b->k, a->max, r, NULL));
  sd_nest_store(b->k, nest, a->scores, at, sd_x_exp_weight(b, x), NULL);

  nest = sd_kernel_nest(b->k, a->items);
  r = rows_axis(b, a, nest);
  sd_expr *sum = reduced_scores(b, a, r, SD_R_SUM), *one = x_num(b, sum, 1);
  sink = sd_attn_sink(b, a);
  if (sink) sum = x_add(b, sum, sd_x_exp_weight(b, x_sub(b, sink, sd_x_load(b->k, a->max, r, NULL))));
  sum = x_sel(b, x_bin(b, SD_X_EQ, sum, x_num(b, sum, 0)), one, sum);
  sd_nest_store(b->k, nest, a->sum, r, x_div(b, one, sum), NULL);
}

static void value_nest(sd_tb *b, const attn *a) {
  sd_expr *iy[4];
  sd_nest *nest = sd_kernel_nest(b->k, a->items);
  sd_expr *panel = a->columns ? value_panel_axis(b, a, nest) : NULL, *r = rows_axis(b, a, nest);
  sd_axis *dv = sd_kernel_axis(b->k, "dv", panel ? d_const(b, a->columns) : a->Dv), *t = keys_axis(b, a);
  sd_nest_axis(nest, dv);
  sd_expr *c = x_axis(b, dv), *d = all_columns(b, a, panel, c);
  sd_attn_index(a, 3, a->b, a->h, x_add(b, a->row0, r), d, iy);
  sd_expr *p = sd_x_load(b->k, a->scores, score_at(b, a, r, x_axis(b, t)), NULL);
  sd_expr *v = panel ? sd_x_load(b->k, a->values, value_at(b, a, panel, x_axis(b, t), c), NULL) : value_of(b, a, x_axis(b, t), d);
  sd_expr *x = x_mul(b, p, v);
  if (!x) return;
  x = x_mul(b, sd_x_reduce(b->k, SD_R_SUM, &t, 1, x), sd_x_load(b->k, a->sum, r, NULL));
  sd_nest_store(b->k, nest, sd_tb_out(b, a->n, 0), sd_tb_offset(b, a->n->out[0], iy), x, NULL);
}

static void probability_nest(sd_tb *b, const attn *a) {
  if (a->n->n_out < 2 || !a->n->out[1] || sd_node_int(a->n, "scores_mode", 0) != 3) return;
  sd_nest *nest = sd_kernel_nest(b->k, a->items);
  sd_expr *r = rows_axis(b, a, nest), *t = keys_nest_axis(b, a, nest);
  sd_expr *p = sd_x_load(b->k, a->scores, score_at(b, a, r, t), NULL);
  store_scores(b, a, nest, 3, r, t, x_mul(b, p, sd_x_load(b->k, a->sum, r, NULL)));
}

sard_status *sd_nests_attention(sd_tb *b, const sd_node *n) {
  attn a;
  SD_TRY(sd_attn_read(n, &a));
  if (sd_attn_tiles(b, &a)) return NULL;
  attn_tile(b, &a);
  if (b->error) return NULL;
  if (a.pack) pack_keys(b, &a);
  if (a.columns) pack_values(b, &a);
  if (a.blocks > 1) {
    sd_axis *block = sd_kernel_axis(b->k, "block", d_const(b, a.blocks));
    a.items = sd_kernel_loop(b->k, NULL, block);
    a.row0 = x_add(b, a.row0, sd_x_mul_dim(b->k, x_axis(b, block), d_const(b, a.rows)));
    set_reach(b, &a, a.rows);
  }
  score_nest(b, &a);
  softmax_nests(b, &a);
  probability_nest(b, &a);
  value_nest(b, &a);
  return NULL; // errors of the expressions are in b->error
}

// ---- ONNX Attention: brings the operands into heads and the cache together, then sard.Attention ----
enum { PAST_K = 4, PAST_V = 5, NONPAD = 6 };

typedef struct onnx_attn {
  bool flat;
  sd_dim B, H, Hk, S, Tn, T, D, Dv, hidden;
} onnx_attn;

static sard_status *heads_of(const sd_node *n, uint32_t operand, const char *attr, sd_dim *heads,
                             sd_dim *size) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_value *v = n->in[operand];
  if (v->rank == 4) {
    *heads = v->dims[1], *size = v->dims[3];
    return NULL;
  }
  int64_t count = sd_node_int(n, attr, 0);
  if (count < 1) return SD_SH_ERR(n, MODEL, "operands of rank 3 need the attribute '%s'", attr);
  *heads = sd_dim_const(t, count);
  *size = sd_dim_floordiv(t, v->dims[2], *heads);
  if (sd_dim_eq(t, sd_dim_mod(t, v->dims[2], *heads), sd_dim_const(t, 0)) == 0)
    return SD_SH_ERR(n, MODEL, "the last dim of '%s' is no multiple of %s = %lld", sd_sh_operand(n, operand),
                     attr, (long long)count);
  return NULL;
}

static sard_status *onnx_read(const sd_node *n, onnx_attn *a) {
  sd_dim dk;
  for (uint32_t i = 0; i < 3; i++) SD_TRY(sd_sh_rank(n, i, 3, 4));
  a->flat = n->in[0]->rank == 3;
  for (uint32_t i = 1; i < 3; i++)
    if (n->in[i]->rank != n->in[0]->rank) return SD_SH_ERR(n, MODEL, "Q, K and V have different ranks");
  SD_TRY(heads_of(n, 0, "q_num_heads", &a->H, &a->D));
  SD_TRY(heads_of(n, 1, "kv_num_heads", &a->Hk, &dk));
  SD_TRY(heads_of(n, 2, "kv_num_heads", &a->Hk, &a->Dv));
  SD_TRY(sd_sh_same(n, a->D, dk, "head sizes of Q and K", NULL));
  int s = a->flat ? 1 : 2;
  a->B = n->in[0]->dims[0], a->S = n->in[0]->dims[s], a->Tn = n->in[1]->dims[s], a->T = a->Tn;
  if (!sd_sh_in(n, PAST_K) != !sd_sh_in(n, PAST_V))
    return SD_SH_ERR(n, MODEL, "past_key and past_value belong together");
  if (sd_sh_in(n, PAST_K)) {
    SD_TRY(sd_sh_rank(n, PAST_K, 4, 4));
    a->T = sd_dim_add(sd_sh_tab(n), n->in[PAST_K]->dims[2], a->Tn);
  }
  return NULL;
}

sard_status *sd_shape_attention(sd_node *n) {
  onnx_attn a;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(onnx_read(n, &a));
  sd_dim flat[3] = {a.B, a.S, sd_dim_mul(t, a.H, a.Dv)}, whole[4] = {a.B, a.H, a.S, a.Dv};
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, a.flat ? 3 : 4, a.flat ? flat : whole));
  SD_TRY(sd_sh_set(n, 1, n->in[1]->dtype, 4, (sd_dim[]){a.B, a.Hk, a.T, a.D}));
  SD_TRY(sd_sh_set(n, 2, n->in[2]->dtype, 4, (sd_dim[]){a.B, a.Hk, a.T, a.Dv}));
  return sd_sh_set(n, 3, n->in[0]->dtype, 4, (sd_dim[]){a.B, a.H, a.S, a.T});
}

static sard_status *reshape(sd_node *at, sd_value *v, const int64_t *shape, int rank, sd_value **out) {
  sd_node *r;
  SD_TRY(sd_sh_node(at, "Reshape", (sd_value *[]){v, sd_value_const_i64(at->graph, shape, rank)}, 2, 1, &r));
  SD_TRY(sd_node_infer(r));
  *out = r->out[0];
  return NULL;
}

// Splits [B,S,H*D] into [B,S,H,D]; a value of rank 4 stays.
static sard_status *split_heads(sd_node *n, uint32_t operand, const char *attr, sd_value **out) {
  *out = n->in[operand];
  if ((*out)->rank == 4) return NULL;
  return reshape(n, *out, (int64_t[]){0, 0, sd_node_int(n, attr, 1), -1}, 4, out);
}

// Keys or values with the cache: [B,H,T,D], needed as an output or to put the past before them.
static sard_status *with_past(sd_node *n, uint32_t operand, uint32_t past, uint32_t present, sd_value **io,
                              int64_t *layout) {
  sd_node *x;
  bool wanted = present < n->n_out && n->out[present];
  if (!sd_sh_in(n, past) && !wanted) return NULL;
  if (*layout) {
    SD_TRY(sd_sh_node(n, "Transpose", io, 1, 1, &x));
    sd_node_set_ints(x, "perm", (int64_t[]){0, 2, 1, 3}, 4);
    SD_TRY(sd_node_infer(x));
    *io = x->out[0], *layout = 0;
  }
  if (sd_sh_in(n, past)) {
    SD_TRY(sd_sh_node(n, "Concat", (sd_value *[]){n->in[past], *io}, 2, 1, &x));
    sd_node_set_int(x, "axis", 2);
    SD_TRY(sd_node_infer(x));
    *io = x->out[0];
  } else if (*io == n->in[operand]) { // an output that is an operand
    SD_TRY(sd_sh_node(n, "Identity", io, 1, 1, &x));
    SD_TRY(sd_node_infer(x));
    *io = x->out[0];
  }
  if (wanted) sd_value_replace(n->out[present], *io);
  return NULL;
}

static void set_float(sd_node *n, const char *name, float v) {
  sd_attr *a = sd_node_attr(n, name);
  if (a) *a = (sd_attr){.kind = SD_ATTR_FLOAT, .f = v};
}

static void attention_attrs(sd_node *x, const sd_node *n, const int64_t *layout) {
  set_float(x, "scale", sd_node_float(n, "scale", 0));
  set_float(x, "softcap", sd_node_float(n, "softcap", 0));
  sd_node_set_int(x, "causal", sd_node_int(n, "is_causal", 0));
  sd_node_set_int(x, "offset", sd_sh_in(n, PAST_K) ? 3 : sd_sh_in(n, NONPAD) ? 2 : 0);
  sd_node_set_int(x, "window_left", sd_node_int(n, "left_window_size", -1));
  sd_node_set_int(x, "window_right", sd_node_int(n, "right_window_size", -1));
  sd_node_set_int(x, "scores_mode", sd_node_int(n, "qk_matmul_output_mode", 0));
  sd_node_set_int(x, "pad_mask", 1);
  sd_node_set_ints(x, "layout", layout, 4);
}

sard_status *sd_rewrite_attention(sd_node *n) {
  onnx_attn a;
  sd_value *q, *k, *v, *y;
  sd_node *x;
  SD_TRY(onnx_read(n, &a));
  int64_t layout[4] = {a.flat, a.flat, a.flat, a.flat};
  SD_TRY(split_heads(n, 0, "q_num_heads", &q));
  SD_TRY(split_heads(n, 1, "kv_num_heads", &k));
  SD_TRY(split_heads(n, 2, "kv_num_heads", &v));
  SD_TRY(with_past(n, 1, PAST_K, 1, &k, &layout[1]));
  SD_TRY(with_past(n, 2, PAST_V, 2, &v, &layout[2]));
  bool scores = n->n_out > 3 && n->out[3];
  sd_value *in[6] = {q, k, v, sd_sh_in(n, MASK), sd_sh_in(n, NONPAD), sd_sh_in(n, PAST_K)};
  SD_TRY(sd_sh_node(n, "sard.Attention", in, 6, scores ? 2 : 1, &x));
  attention_attrs(x, n, layout);
  SD_TRY(sd_node_infer(x));
  y = x->out[0];
  if (a.flat) SD_TRY(reshape(n, y, (int64_t[]){0, 0, -1}, 3, &y));
  sd_value_replace(n->out[0], y);
  if (scores) sd_value_replace(n->out[3], x->out[1]);
  sd_node_remove(n);
  return NULL;
}
