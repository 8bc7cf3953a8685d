// Pools: reductions over windows and over all spatial dims, in both data layouts.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/window.h"

static sard_status *pool_read(const sd_node *n, sd_window *w) {
  sd_dim kernel[SD_MAX_RANK];
  SD_TRY(sd_window_kernel(n, kernel));
  SD_TRY(sd_window_read(n, kernel, sd_node_int(n, "ceil_mode", 0) != 0, w));
  return sd_window_fits(n, w);
}

static sard_status *pool_dims(const sd_node *n, sd_dim *dims) {
  sd_window w;
  SD_TRY(pool_read(n, &w));
  memcpy(dims, n->in[0]->dims, (size_t)(w.n + 2) * sizeof *dims);
  for (int i = 0; i < w.n; i++) dims[sd_window_axis(&w, i)] = w.out[i];
  return NULL;
}

sard_status *sd_shape_pool(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(pool_dims(n, dims));
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims);
}

sard_status *sd_shape_maxpool(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(pool_dims(n, dims));
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims));
  return sd_sh_set(n, 1, SD_I64, n->in[0]->rank, dims);
}

// One window: index of the element under the taps, and the bounds checks it needs.
typedef struct taps {
  sd_window w;
  x_axes red;
  sd_expr *ix[SD_MAX_RANK], *cond;
} taps;

static bool taps_make(sd_tb *b, const sd_node *n, sd_expr *const *idx, taps *t) {
  memset(t, 0, sizeof *t);
  sard_status *st = pool_read(n, &t->w);
  if (st) return sd_tb_fail(b, st) != NULL;
  t->ix[0] = idx[0];
  t->ix[sd_window_channel(&t->w)] = idx[sd_window_channel(&t->w)];
  for (int i = 0; i < t->w.n; i++) {
    int at = sd_window_axis(&t->w, i);
    t->ix[at] = sd_window_input(b, &t->w, i, idx[at], x_raxis(b, &t->red, "k", t->w.kernel[i]), &t->cond);
    if (!t->ix[at]) return false;
  }
  return true;
}

// The element; outside of the input the lowest value, or 0.
static sd_expr *taps_load(sd_tb *b, const sd_node *n, const taps *t, bool lowest) {
  sd_expr *saved = NULL;
  if (!t->cond) return sd_tb_load(b, n, 0, t->ix);
  sd_tb_guard_begin(b, t->cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, t->ix);
  return sd_tb_guard_end(b, saved, t->cond, x, !x ? NULL : lowest ? x_lowest(b, x->dtype) : x_num(b, x, 0));
}

// Position of the first largest element in the input, flattened; storage_order 1 swaps rows and columns.
static sd_expr *max_position(sd_tb *b, const sd_node *n, const taps *t, sd_expr *x, sd_expr *best) {
  const sd_window *w = &t->w;
  const sd_value *v = n->in[0];
  sd_expr *at =
      x_add(b, sd_x_mul_dim(b->k, t->ix[0], v->dims[sd_window_channel(w)]), t->ix[sd_window_channel(w)]);
  bool columns = sd_node_int(n, "storage_order", 0) != 0;
  for (int i = 0; i < w->n; i++) {
    int d = sd_window_axis(w, columns ? w->n - 1 - i : i);
    at = x_add(b, sd_x_mul_dim(b->k, at, v->dims[d]), t->ix[d]);
  }
  sd_expr *hit = x_bin(b, SD_X_EQ, x, best);
  if (t->cond) hit = x_and(b, hit, t->cond);
  return x_reduce(b, SD_R_MIN, &t->red, x_sel(b, hit, at, x_int(b, INT64_MAX)));
}

sd_expr *sd_pull_maxpool(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  taps t, second;
  if (!taps_make(b, n, idx, &t)) return NULL;
  sd_expr *best = x_reduce(b, SD_R_MAX, &t.red, taps_load(b, n, &t, true));
  if (out == 0) return best;
  if (!best || !taps_make(b, n, idx, &second)) return NULL;
  sd_expr *x = taps_load(b, n, &second, true);
  return x ? max_position(b, n, &second, x, best) : NULL;
}

// Number of taps of dim i inside of the input (or inside of input and pads), for output position o.
static sd_expr *taps_inside(sd_tb *b, const sd_window *w, int i, sd_expr *o, bool pads) {
  sd_dim dil = sd_dim_const(b->dims, w->dilation[i]), edge = sd_dim_add(b->dims, w->in[i], w->pad[i]);
  sd_expr *zero = x_int(b, 0), *start = sd_x_mul_dim(b->k, o, sd_dim_const(b->dims, w->stride[i]));
  if (pads) edge = sd_dim_add(b->dims, edge, w->pad_end[i]);
  // taps k with pad <= start + k*dil < edge; ceildiv(x, d) = floordiv(x + d - 1, d)
  sd_dim up = sd_dim_const(b->dims, w->dilation[i] - 1);
  sd_expr *hi =
      x_bin(b, SD_X_FLOORDIV, x_sub(b, x_dim(b, sd_dim_add(b->dims, edge, up)), start), x_dim(b, dil));
  hi = x_min(b, hi, x_dim(b, w->kernel[i]));
  if (pads) return hi;
  sd_expr *lo =
      x_bin(b, SD_X_FLOORDIV, x_sub(b, x_dim(b, sd_dim_add(b->dims, w->pad[i], up)), start), x_dim(b, dil));
  return x_sub(b, hi, x_max(b, lo, zero));
}

sd_expr *sd_pull_averagepool(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  taps t;
  if (!taps_make(b, n, idx, &t)) return NULL;
  sd_expr *sum = x_reduce(b, SD_R_SUM, &t.red, taps_load(b, n, &t, false));
  bool pads = sd_node_int(n, "count_include_pad", 0) != 0;
  if (!t.cond || (pads && !t.w.ceil)) return x_div_dim(b, sum, sd_dim_product(b->dims, t.w.kernel, t.w.n));
  sd_expr *count = NULL;
  for (int i = 0; i < t.w.n; i++) {
    sd_expr *c = taps_inside(b, &t.w, i, idx[sd_window_axis(&t.w, i)], pads);
    count = count ? x_mul(b, count, c) : c;
  }
  return sum ? x_div(b, sum, x_cast(b, sum->dtype, count)) : NULL;
}

// |x|^p and its inverse around a sum.
static sd_expr *power(sd_tb *b, sd_expr *x, int64_t p) {
  if (p == 2) return x_mul(b, x, x);
  x = x_un(b, SD_X_ABS, x);
  return p == 1 ? x : x_bin(b, SD_X_POW, x, x_num(b, x, (double)p));
}
static sd_expr *root(sd_tb *b, sd_expr *x, int64_t p) {
  if (p == 2) return x_un(b, SD_X_SQRT, x);
  return p == 1 ? x : x_bin(b, SD_X_POW, x, x_num(b, x, 1.0 / (double)p));
}

static bool bad_power(sd_tb *b, const sd_node *n, int64_t p) {
  if (p >= 1) return false;
  sd_tb_fail(b, SD_SH_ERR(n, MODEL, "attribute 'p' is %lld, it must be at least 1", (long long)p));
  return true;
}

sd_expr *sd_pull_lppool(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  taps t;
  int64_t p = sd_node_int(n, "p", 2);
  if (bad_power(b, n, p) || !taps_make(b, n, idx, &t)) return NULL;
  return root(b, x_reduce(b, SD_R_SUM, &t.red, power(b, taps_load(b, n, &t, false), p)), p);
}

// ---- global pools ----
static int first_spatial(const sd_node *n) { return sd_node_int(n, "channels_last", 0) ? 1 : 2; }

sard_status *sd_shape_globalpool(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  int rank = n->in[0]->rank, first = first_spatial(n);
  memcpy(dims, n->in[0]->dims, (size_t)rank * sizeof *dims);
  for (int i = 0; i < rank - 2; i++) dims[first + i] = sd_dim_const(sd_sh_tab(n), 1);
  return sd_sh_set(n, 0, n->in[0]->dtype, rank, dims);
}

static sd_expr *global_load(sd_tb *b, const sd_node *n, sd_expr *const *idx, x_axes *red) {
  sd_expr *ix[SD_MAX_RANK];
  int rank = n->in[0]->rank, first = first_spatial(n);
  red->n = 0;
  memcpy(ix, idx, (size_t)rank * sizeof *ix);
  for (int i = first; i < first + rank - 2; i++)
    if (!(ix[i] = x_raxis(b, red, "k", n->in[0]->dims[i]))) return NULL;
  return sd_tb_load(b, n, 0, ix);
}

sd_expr *sd_pull_globalaverage(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  x_axes red;
  sd_expr *sum = global_load(b, n, idx, &red);
  return x_div_dim(b, x_reduce(b, SD_R_SUM, &red, sum),
                   sd_dim_product(b->dims, n->in[0]->dims + first_spatial(n), n->in[0]->rank - 2));
}

sd_expr *sd_pull_globalmax(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  x_axes red;
  sd_expr *x = global_load(b, n, idx, &red);
  return x_reduce(b, SD_R_MAX, &red, x);
}

sd_expr *sd_pull_globallp(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  x_axes red;
  int64_t p = sd_node_int(n, "p", 2);
  if (bad_power(b, n, p)) return NULL;
  sd_expr *x = global_load(b, n, idx, &red);
  return root(b, x_reduce(b, SD_R_SUM, &red, power(b, x, p)), p);
}
