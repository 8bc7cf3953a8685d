// Sparse products in blocks as one nest: rows of a register tile, blocks of outputs, lanes; see sparse_blocks.h.
#include "ir/ops/sparse_blocks.h"

#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"

#define LENGTHS 8 // bounds of sums are multiples of it, so that layers alike share code

static sard_status *table(const sd_node *n, uint32_t operand, sd_dtype t, int rank) {
  const sd_value *v = sd_sh_in(n, operand);
  if (v && v->data && v->dtype == t && v->rank == rank) return NULL;
  return SD_SH_ERR(n, MODEL, "operand '%s' must be a constant %s of rank %d", sd_sh_operand(n, operand),
                   sd_dtype_name(t), rank);
}

// The inputs of each step lie side by side in one place of the window.
static sard_status *check_index(const sd_node *n, const sd_sparse_blocks *s) {
  const sd_const *index = n->in[s->index]->data;
  int64_t reads = s->ordered ? SD_SPARSE_GROUP : SD_SPARSE_SIDE;
  for (int64_t t = 0; t < s->steps; t++) {
    int64_t at = sd_dtype_get_i64(SD_I32, index->data, (uint64_t)t);
    if (!sd_sparse_windows_inside(n, &s->windows, at, reads))
      return SD_SH_ERR(n, MODEL, "step %lld reads at %lld, outside of what an output reads", (long long)t, (long long)at);
  }
  return NULL;
}

static sard_status *check_order(const sd_node *n, sd_sparse_blocks *s) {
  if (!sd_sh_in(n, s->order)) return NULL;
  SD_TRY(table(n, s->order, SD_U8, 2));
  const sd_const *order = n->in[s->order]->data;
  const uint8_t *at = order->data;
  s->ordered = true, s->pairs = 1;
  if (order->dims[0] != s->steps || order->dims[1] != SD_SPARSE_SIDE) return SD_SH_ERR(n, MODEL, "the table 'order' does not fit the others");
  for (int64_t i = 0; i < s->steps * SD_SPARSE_SIDE; i++)
    if (at[i] >= SD_SPARSE_GROUP) return SD_SH_ERR(n, MODEL, "place %d of %d", at[i], SD_SPARSE_GROUP);
  return NULL;
}

sard_status *sd_sparse_blocks_fit(const sd_node *n, const sd_sparse_blocks *s) {
  const int8_t *w = n->in[s->value]->data->data;
  int64_t each = s->wide * SD_SPARSE_SIDE, together = s->pairs * each;
  for (int64_t step = 0; s->pairs && step < s->steps * each; step += together)
    for (int64_t i = step; i < step + each; i += 8) {
      sd_pair_sums sums = sd_sums_of_pairs(w + i), next = {0};
      if (s->pairs == 2) next = sd_sums_of_pairs(w + i + each);
      sums.high += next.high, sums.low += next.low;
      if (sd_sums_over(sums)) return SD_SH_ERR(n, MODEL, "products of step %lld do not fit 16 bits together", (long long)(i / each));
    }
  return NULL;
}

static sard_status *check_start(const sd_node *n, sd_sparse_blocks *s) {
  const sd_const *start = n->in[s->start]->data;
  int64_t from = sd_dtype_get_i64(SD_I32, start->data, 0), all = s->pairs == 2 ? s->steps / 2 : s->steps;
  if (from < 0) return SD_SH_ERR(n, MODEL, "the table 'start' begins with %lld", (long long)from);
  for (uint64_t i = 1; i < start->count; i++) {
    int64_t to = sd_dtype_get_i64(SD_I32, start->data, i);
    if (to < from || to > all) return SD_SH_ERR(n, MODEL, "steps %lld to %lld of %lld", (long long)from, (long long)to, (long long)all);
    if (to - from > s->longest) s->longest = to - from;
    from = to;
  }
  return NULL;
}

sard_status *sd_sparse_blocks_tables(const sd_node *n, sd_sparse_blocks *s) {
  SD_TRY(table(n, s->value, SD_I8, 3));
  SD_TRY(table(n, s->index, SD_I32, 1));
  SD_TRY(table(n, s->start, SD_I32, 1));
  const int64_t *value = n->in[s->value]->data->dims, blocks = n->in[s->start]->data->dims[0] - 1;
  s->steps = value[0], s->wide = value[1];
  if (blocks < 1 || blocks > INT32_MAX / SD_SPARSE_WIDEST || s->steps < 1 || s->wide < SD_SPARSE_WIDE / 2 || s->wide > SD_SPARSE_WIDEST || s->wide & (s->wide - 1) ||
      value[2] != SD_SPARSE_SIDE || n->in[s->index]->data->dims[0] != s->steps || s->pairs < 0 || s->pairs > 2 || (s->pairs == 2 && s->steps % 2))
    return SD_SH_ERR(n, MODEL, "the tables 'value', 'index' and 'start' do not fit together");
  s->n = blocks * s->wide;
  SD_TRY(check_order(n, s));
  return check_start(n, s);
}

sard_status *sd_sparse_blocks_read(const sd_node *n, sd_sparse_blocks *s) {
  *s = (sd_sparse_blocks){SD_BLOCKS_VALUE, SD_BLOCKS_INDEX, SD_BLOCKS_START, SD_BLOCKS_ORDER, .pairs = sd_node_int(n, "pairs", 0)};
  SD_TRY(sd_sh_rank(n, SD_BLOCKS_X, 1, SD_MAX_RANK - 1));
  if (n->in[SD_BLOCKS_X]->dtype != SD_U8) return SD_SH_ERR(n, MODEL, "x must be u8");
  SD_TRY(sd_sparse_blocks_tables(n, s));
  int64_t outputs = sd_node_int(n, "n", 0);
  if (outputs < 0 || outputs > s->n || (outputs > 0 && outputs <= s->n - s->wide))
    return SD_SH_ERR(n, MODEL, "%lld outputs do not end in the last of %lld blocks of %lld", (long long)outputs, (long long)(s->n / s->wide), (long long)s->wide);
  if (outputs) s->n = outputs;
  SD_TRY(sd_sparse_windows_read(n, &s->windows));
  return check_index(n, s);
}

sard_status *sd_shape_sparse_blocks(sd_node *n) {
  sd_sparse_blocks s;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sparse_blocks_read(n, &s));
  SD_TRY(sd_sparse_blocks_fit(n, &s));
  const sd_value *x = n->in[SD_BLOCKS_X];
  sd_dimtab *t = sd_sh_tab(n);
  memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  sd_sparse_windows_dims(t, &s.windows, dims);
  int rank = s.windows.spatial ? s.windows.spatial + 2 : x->rank;
  dims[rank - 1] = sd_dim_const(t, s.n);
  return sd_sh_set(n, 0, SD_I32, rank, dims);
}

static sd_expr *axis(sd_tb *b, sd_nest *nest, const char *name, sd_dim extent) {
  if (sd_dim_is(b->dims, extent, 1)) return x_int(b, 0);
  sd_axis *a = sd_kernel_axis(b->k, name, extent);
  sd_nest_axis(nest, a);
  return x_axis(b, a);
}

static sd_expr *times(sd_tb *b, sd_expr *x, int64_t v) { return sd_x_mul_dim(b->k, x, sd_dim_const(b->dims, v)); }

sd_expr *sd_sparse_blocks_sum(sd_tb *b, const sd_node *n, const sd_sparse_blocks *s, sd_expr *block, sd_expr *lane, sd_blocks_x *x_at, void *user) {
  sd_expr *from = x_cast(b, SD_I64, sd_tb_load_linear(b, n, s->start, block));
  sd_expr *to = x_cast(b, SD_I64, sd_tb_load_linear(b, n, s->start, x_add(b, block, x_int(b, 1))));
  if (!from || !to) return NULL;
  int64_t most = (s->longest + LENGTHS) / LENGTHS * LENGTHS;
  sd_axis *axes[3] = {sd_tb_raxis(b, "t", sd_dim_const(b->dims, most))};
  uint32_t n_axes = 1;
  axes[0]->limit = x_sub(b, to, from);
  sd_expr *t = x_add(b, from, x_axis(b, axes[0])), *side;
  if (s->pairs == 2) {
    sd_axis *both = axes[n_axes++] = sd_tb_raxis(b, "both", sd_dim_const(b->dims, 2));
    both->unroll = 0, t = x_add(b, times(b, t, 2), x_axis(b, both));
  }
  sd_axis *last = axes[n_axes++] = sd_tb_raxis(b, "s", sd_dim_const(b->dims, SD_SPARSE_SIDE));
  last->unroll = 0, side = x_axis(b, last);
  sd_expr *place = x_cast(b, SD_I64, sd_tb_load_linear(b, n, s->index, t));
  sd_expr *w = x_add(b, times(b, x_add(b, times(b, t, s->wide), lane), SD_SPARSE_SIDE), side), *at = side;
  if (s->ordered) at = sd_tb_load_linear(b, n, s->order, x_add(b, times(b, t, SD_SPARSE_SIDE), side));
  sd_expr *x = at ? x_at(b, place, x_cast(b, SD_I64, at), user) : NULL;
  sd_expr *value = sd_tb_load_linear(b, n, s->value, w);
  if (!x || !value) return NULL;
  sd_dtype product = s->pairs ? SD_I16 : SD_I32;
  return sd_x_reduce(b->k, SD_R_SUM, axes, n_axes, x_cast(b, SD_I32, x_mul(b, x_cast(b, product, x), x_cast(b, product, value))));
}

// What a point of a sard.SparseBlocks reads.
typedef struct point {
  const sd_node *n;
  const sd_sparse_windows *windows;
  sd_expr *const *idx;
} point;

static sd_expr *in_window(sd_tb *b, sd_expr *place, sd_expr *behind, void *user) {
  const point *p = user;
  return sd_sparse_windows_load(b, p->n, p->windows, p->idx, place, behind);
}

sard_status *sd_nests_sparse_blocks(sd_tb *b, const sd_node *n) {
  sd_sparse_blocks s;
  SD_TRY(sd_sparse_blocks_read(n, &s));
  const sd_value *y = n->out[0];
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *idx[SD_MAX_RANK];
  for (int i = 0; i + 1 < y->rank; i++) idx[i] = axis(b, nest, "m", y->dims[i]);
  sd_axis *blocks = sd_kernel_axis(b->k, "block", sd_dim_const(b->dims, sd_ceil_div(s.n, s.wide))); // of one block, too: sums are of any length
  sd_nest_axis(nest, blocks);
  sd_axis *lanes = sd_kernel_axis(b->k, "n", sd_dim_const(b->dims, sd_min_i64(s.wide, s.n)));
  sd_nest_axis(nest, lanes);
  sd_expr *block = x_axis(b, blocks), *lane = x_axis(b, lanes), *first = times(b, block, s.wide);
  if (s.n > s.wide && s.n % s.wide) lanes->limit = x_sub(b, x_int(b, s.n), first);
  idx[y->rank - 1] = x_add(b, first, lane);
  point p = {n, &s.windows, idx};
  sd_expr *sum = sd_sparse_blocks_sum(b, n, &s, block, lane, in_window, &p);
  if (sum) sd_tb_store(b, nest, n, 0, idx, sum, NULL);
  return NULL; // errors of the expressions are in b->error
}
