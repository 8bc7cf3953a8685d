// Writes at positions that depend on data or windows: TensorScatter, MaxUnpool, Col2Im.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "ir/ops/xgraph.h"

// ---- TensorScatter ----
static sard_status *scatter_read(const sd_node *n, int *axis, bool *circular) {
  const char *mode = sd_node_str(n, "mode", "linear");
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  const sd_value *x = n->in[0];
  SD_TRY(sd_sh_rank(n, 1, x->rank, x->rank));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -2), x->rank, axis));
  *circular = !strcmp(mode, "circular");
  if (!*circular && strcmp(mode, "linear")) return SD_SH_ERR(n, MODEL, "unknown mode '%s'", mode);
  if (*axis == 0) return SD_SH_ERR(n, MODEL, "axis 0 is the batch");
  for (int i = 0; i < x->rank; i++)
    if (i != *axis) SD_TRY(sd_sh_same(n, x->dims[i], n->in[1]->dims[i], "past_cache and update", NULL));
  sd_dim cache = x->dims[*axis], update = n->in[1]->dims[*axis];
  if (sd_dim_lt(sd_sh_tab(n), cache, update) == 1) return SD_SH_ERR(n, MODEL, "the update is longer than the cache");
  sd_node_require(n, sd_dim_max(sd_sh_tab(n), cache, update), cache, false, *n->name ? n->name : "the cache, at least the update");
  if (!sd_sh_in(n, 2)) return NULL;
  SD_TRY(sd_sh_rank(n, 2, 1, 1));
  return sd_sh_same(n, n->in[2]->dims[0], x->dims[0], "write_indices and the batch", NULL);
}

sard_status *sd_shape_tensor_scatter(sd_node *n) {
  int axis;
  bool circular;
  SD_TRY(scatter_read(n, &axis, &circular));
  return sd_sh_like(n, 0, 0);
}

sd_expr *sd_pull_tensor_scatter(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int axis;
  bool circular;
  sd_expr *at[SD_MAX_RANK], *saved = NULL;
  sard_status *st = scatter_read(n, &axis, &circular);
  if (st) return sd_tb_fail(b, st);
  const sd_value *x = n->in[0];
  sd_expr *start = sd_tb_has(n, 2) ? sd_tb_load(b, n, 2, idx) : x_int(b, 0);
  sd_expr *step = x_sub(b, idx[axis], start);
  if (circular) step = x_bin(b, SD_X_MOD, step, x_dim(b, x->dims[axis]));
  sd_expr *inside = x_bin(b, SD_X_LT, step, x_dim(b, n->in[1]->dims[axis]));
  inside = x_and(b, inside, x_bin(b, SD_X_LE, x_int(b, 0), step));
  if (!inside) return NULL;
  memcpy(at, idx, (size_t)x->rank * sizeof *at);
  at[axis] = step;
  sd_expr *old = sd_tb_load(b, n, 0, idx);
  sd_tb_guard_begin(b, inside, &saved);
  sd_expr *fresh = sd_tb_load(b, n, 1, at);
  return sd_tb_guard_end(b, saved, inside, fresh, old);
}

// ---- MaxUnpool ----
static sard_status *unpool_ints(const sd_node *n, const char *name, uint32_t count, int64_t absent,
                                int64_t *out) {
  const sd_attr *a = sd_node_attr(n, name);
  bool given = a && a->kind == SD_ATTR_INTS && a->n;
  if (given && a->n != count)
    return SD_SH_ERR(n, MODEL, "attribute '%s' has %u entries instead of %u", name, a->n, count);
  for (uint32_t i = 0; i < count; i++) {
    out[i] = given ? a->ints[i] : absent;
    if (out[i] < 0 || out[i] > INT32_MAX)
      return SD_SH_ERR(n, MODEL, "attribute '%s' has %lld", name, (long long)out[i]);
  }
  return NULL;
}

sard_status *sd_rewrite_max_unpool(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dimtab *t = sd_sh_tab(n);
  int64_t kernel[SD_MAX_RANK], pads[2 * SD_MAX_RANK], strides[SD_MAX_RANK], minus = -1;
  sd_dim dims[SD_MAX_RANK], given[SD_MAX_RANK], count;
  SD_TRY(sd_sh_rank(n, 0, 3, SD_MAX_RANK));
  const sd_value *x = n->in[0];
  uint32_t spatial = (uint32_t)x->rank - 2;
  SD_TRY(unpool_ints(n, "kernel_shape", spatial, 1, kernel));
  SD_TRY(unpool_ints(n, "strides", spatial, 1, strides));
  SD_TRY(unpool_ints(n, "pads", 2 * spatial, 0, pads));
  memcpy(dims, x->dims, sizeof dims);
  for (uint32_t i = 0; i < spatial; i++) { // (in - 1) * stride + kernel - pads
    sd_dim d = sd_dim_mul(t, sd_dim_sub(t, x->dims[i + 2], sd_dim_const(t, 1)), sd_dim_const(t, strides[i]));
    dims[i + 2] = sd_dim_add(t, d, sd_dim_const(t, kernel[i] - pads[i] - pads[i + spatial]));
  }
  count = sd_dim_product(t, dims, x->rank);
  sd_value *flat = sd_xg_ints(&g, &minus, 1);
  sd_value *zeros = sd_xg_expand(&g, sd_xg_num(&g, x->dtype, 0), &count, 1);
  sd_value *y = XG(&g, "ScatterElements axis=0", zeros, XG(&g, "Reshape", n->in[1], flat),
                   XG(&g, "Reshape", n->in[0], flat));
  y = sd_xg_reshape(&g, y, dims, x->rank);
  if (sd_xg_in(
          &g,
          2)) { // the positions count in the inferred shape, which then lies in the corner of the given one
    uint32_t rank = 0;
    sd_dim ends[2 * SD_MAX_RANK];
    SD_TRY(sd_sh_elems(n, 2, given, SD_MAX_RANK, &rank));
    if ((int)rank != x->rank) return SD_SH_ERR(n, MODEL, "output_shape has %u entries", rank);
    for (uint32_t i = 0; i < rank; i++)
      ends[i] = sd_dim_const(t, 0), ends[rank + i] = sd_dim_sub(t, given[i], dims[i]);
    y = XG(&g, "Pad", y, sd_xg_dims(&g, ends, (int)(2 * rank)));
  }
  return sd_xg_finish(&g, &y, 1);
}

// ---- Col2Im: each pixel is the sum of the block elements that were taken from it ----
typedef struct blocks {
  uint32_t n;
  sd_dim image[SD_MAX_RANK], count[SD_MAX_RANK]; // count: positions of the block
  sd_dim block[SD_MAX_RANK];
  int64_t dilation[SD_MAX_RANK], stride[SD_MAX_RANK], pad[2 * SD_MAX_RANK];
} blocks;

static sard_status *blocks_read(const sd_node *n, blocks *w) {
  sd_dimtab *t = sd_sh_tab(n);
  uint32_t rank = 0;
  sd_dim all = sd_dim_const(t, 1), places = all;
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_elems(n, 1, w->image, SD_MAX_RANK - 2, &w->n));
  SD_TRY(sd_sh_elems(n, 2, w->block, SD_MAX_RANK - 2, &rank));
  if (rank != w->n || !rank)
    return SD_SH_ERR(n, MODEL, "image_shape has %u entries, block_shape %u", w->n, rank);
  SD_TRY(unpool_ints(n, "dilations", rank, 1, w->dilation));
  SD_TRY(unpool_ints(n, "strides", rank, 1, w->stride));
  SD_TRY(unpool_ints(n, "pads", 2 * rank, 0, w->pad));
  for (uint32_t i = 0; i < rank; i++) {
    const sd_dimnode *k = sd_dim_get(t, w->block[i]);
    if (k->op == SD_DIM_SYM && k->min < 1) sd_dim_set_range(t, w->block[i], 1, k->max);
    if (k->max < 1 || k->max == INT64_MAX || w->stride[i] < 1) return SD_SH_ERR(n, MODEL, "a block or stride below 1");
    sd_dim reach = sd_dim_mul(t, sd_dim_sub(t, w->block[i], sd_dim_const(t, 1)), sd_dim_const(t, w->dilation[i]));
    if (reach == SD_DIM_NONE) return SD_SH_ERR(n, MODEL, "dilations overflow");
    sd_dim span = sd_dim_sub(t, sd_dim_add(t, w->image[i], sd_dim_const(t, w->pad[i] + w->pad[i + rank] - 1)), reach);
    w->count[i] = sd_dim_add(t, sd_dim_floordiv(t, span, sd_dim_const(t, w->stride[i])), sd_dim_const(t, 1));
    all = sd_dim_mul(t, all, w->block[i]);
    places = sd_dim_mul(t, places, w->count[i]);
  }
  const sd_value *x = n->in[0];
  if (sd_dim_eq(t, sd_dim_mod(t, x->dims[1], all), sd_dim_const(t, 0)) == 0)
    return SD_SH_ERR(n, MODEL, "dim 1 of input is no multiple of the block");
  return sd_sh_same(n, x->dims[2], places, "dim 2 of input and the positions of the block", NULL);
}

static sd_dim block_size(sd_dimtab *t, const blocks *w) {
  sd_dim all = sd_dim_const(t, 1);
  for (uint32_t i = 0; i < w->n; i++) all = sd_dim_mul(t, all, w->block[i]);
  return all;
}

sard_status *sd_shape_col2im(sd_node *n) {
  blocks w;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(blocks_read(n, &w));
  dims[0] = n->in[0]->dims[0];
  dims[1] = sd_dim_floordiv(sd_sh_tab(n), n->in[0]->dims[1], block_size(sd_sh_tab(n), &w));
  memcpy(dims + 2, w.image, w.n * sizeof *dims);
  return sd_sh_set(n, 0, n->in[0]->dtype, (int)w.n + 2, dims);
}

sd_expr *sd_pull_col2im(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  blocks w;
  x_axes red = {.n = 0};
  sard_status *st = blocks_read(n, &w);
  if (st) return sd_tb_fail(b, st);
  sd_expr *element = x_int(b, 0), *place = x_int(b, 0), *cond = NULL, *saved = NULL;
  for (uint32_t i = 0; i < w.n; i++) {
    sd_expr *k = x_raxis(b, &red, "k", w.block[i]);
    // image position = place * stride - pad + k * dilation
    sd_expr *p = x_add(b, idx[2 + i], x_sub(b, x_int(b, w.pad[i]), x_mul(b, k, x_int(b, w.dilation[i]))));
    sd_expr *at = x_bin(b, SD_X_FLOORDIV, p, x_int(b, w.stride[i])), *ok;
    ok = x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), p), x_bin(b, SD_X_LT, at, x_dim(b, w.count[i])));
    if (w.stride[i] > 1)
      ok = x_and(b, ok, x_bin(b, SD_X_EQ, x_bin(b, SD_X_MOD, p, x_int(b, w.stride[i])), x_int(b, 0)));
    cond = x_and(b, cond, ok);
    if (!k || !at || !ok) return NULL;
    element = x_add(b, sd_x_mul_dim(b->k, element, w.block[i]), k);
    place = x_add(b, sd_x_mul_dim(b->k, place, w.count[i]), at);
  }
  sd_expr *row = x_add(b, sd_x_mul_dim(b->k, idx[1], block_size(b->dims, &w)), element);
  sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, (sd_expr *[]){idx[0], row, place});
  x = sd_tb_guard_end(b, saved, cond, x, x ? x_num(b, x, 0) : NULL);
  if (x && x->dtype == SD_BOOL) return x_cast(b, SD_BOOL, x_reduce(b, SD_R_MAX, &red, x_cast(b, SD_I32, x)));
  return x_reduce(b, SD_R_SUM, &red, x);
}
