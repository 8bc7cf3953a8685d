// Normalizations: softmax family, layer, group, instance, batch and local response normalization.
//
// Moments are two-pass: the mean first, then the sum of squared differences.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

// The rows of a value: idx with the axes flagged in `over` replaced by new reduction axes.
typedef struct rows {
  x_axes red;
  sd_expr *ix[SD_MAX_RANK];
  sd_dim count; // reduced elements
} rows;

static bool rows_make(sd_tb *b, const sd_value *v, sd_expr *const *idx, const bool *over, rows *r) {
  r->red.n = 0;
  r->count = sd_dim_const(b->dims, 1);
  for (int i = 0; i < v->rank; i++) {
    r->ix[i] = idx[i];
    if (!over[i]) continue;
    r->count = sd_dim_mul(b->dims, r->count, v->dims[i]);
    if (!(r->ix[i] = x_raxis(b, &r->red, "r", v->dims[i]))) return false;
  }
  return true;
}

// The element that is normalized: operand 0, perhaps with more added to it.
typedef sd_expr *(*element_fn)(sd_tb *b, const sd_node *n, sd_expr *const *ix);
static sd_expr *element_x(sd_tb *b, const sd_node *n, sd_expr *const *ix) { return sd_tb_load(b, n, 0, ix); }

static sd_expr *reduce_row(sd_tb *b, const sd_node *n, sd_expr *const *idx, const bool *over, sd_rop op,
                           element_fn at) {
  rows r;
  if (!rows_make(b, n->in[0], idx, over, &r)) return NULL;
  return x_reduce(b, op, &r.red, at(b, n, r.ix));
}

static sd_expr *mean_of(sd_tb *b, const sd_node *n, sd_expr *const *idx, const bool *over, element_fn at) {
  rows r;
  if (!rows_make(b, n->in[0], idx, over, &r)) return NULL;
  return x_div_dim(b, x_reduce(b, SD_R_SUM, &r.red, at(b, n, r.ix)), r.count);
}

// Mean of (x - mean)^2; mean NULL: of x^2.
static sd_expr *variance_of(sd_tb *b, const sd_node *n, sd_expr *const *idx, const bool *over, element_fn at,
                            sd_expr *mean) {
  rows r;
  if (!rows_make(b, n->in[0], idx, over, &r)) return NULL;
  sd_expr *d = at(b, n, r.ix);
  if (mean) d = x_sub(b, d, mean);
  return x_div_dim(b, x_reduce(b, SD_R_SUM, &r.red, x_mul(b, d, d)), r.count);
}

static sd_expr *inverse_root(sd_tb *b, sd_expr *var, double epsilon) {
  return x_div(b, x_num(b, var, 1), x_un(b, SD_X_SQRT, x_addn(b, var, epsilon)));
}

// ---- softmax family: one axis ----
sard_status *sd_shape_softmax(sd_node *n) {
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  if (n->in[0]->rank) SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -1), n->in[0]->rank, &axis));
  return sd_sh_like(n, 0, 0);
}

static int over_axis(const sd_node *n, bool *over) {
  int rank = n->in[0]->rank;
  int64_t axis = sd_node_int(n, "axis", -1);
  memset(over, 0, SD_MAX_RANK * sizeof *over);
  if (axis < 0) axis += rank;
  if (rank) over[axis] = true;
  return (int)axis;
}

// Masks that are large numbers instead of -inf leave weights such as exp(-100), which are denormal in f32: products with
// these take processors 100 times as long, and they are 2^-125 of the largest weight at most. Of f32 exp is shorter where it is
// no smaller than that (codegen/vmath.c).
sd_expr *sd_x_exp_weight(sd_tb *b, sd_expr *x) {
  if (!x || (x->dtype != SD_F32 && x->dtype != SD_F64)) return x_un(b, SD_X_EXP, x);
  sd_expr *low = x_num(b, x, x->dtype == SD_F64 ? -708.39 : -86.98);
  sd_expr *y = x_un(b, SD_X_EXP, x_max(b, x, low));
  return x_sel(b, x_bin(b, SD_X_LT, x, low), x_num(b, x, 0), y);
}

// x - max for the elements of `ix`.
static sd_expr *shifted(sd_tb *b, const sd_node *n, sd_expr *const *ix, sd_expr *max) {
  return x_sub(b, sd_tb_load(b, n, 0, ix), max);
}

static sd_expr *sum_exp(sd_tb *b, const sd_node *n, sd_expr *const *idx, const bool *over, sd_expr *max) {
  rows r;
  if (!rows_make(b, n->in[0], idx, over, &r)) return NULL;
  return x_reduce(b, SD_R_SUM, &r.red, sd_x_exp_weight(b, shifted(b, n, r.ix, max)));
}

sd_expr *sd_pull_softmax(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK];
  over_axis(n, over);
  sd_expr *max = reduce_row(b, n, idx, over, SD_R_MAX, element_x), *sum = sum_exp(b, n, idx, over, max);
  sd_expr *scale = x_div(b, x_num(b, sum, 1), sum); // once per row
  return x_mul(b, sd_x_exp_weight(b, shifted(b, n, idx, max)), scale);
}

sd_expr *sd_pull_logsoftmax(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK];
  over_axis(n, over);
  sd_expr *max = reduce_row(b, n, idx, over, SD_R_MAX, element_x), *sum = sum_exp(b, n, idx, over, max);
  return x_sub(b, shifted(b, n, idx, max), x_un(b, SD_X_LOG, sum));
}

sd_expr *sd_pull_hardmax(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK];
  rows r;
  int axis = over_axis(n, over);
  sd_expr *max = reduce_row(b, n, idx, over, SD_R_MAX, element_x);
  if (!max || !rows_make(b, n->in[0], idx, over, &r)) return NULL;
  if (!n->in[0]->rank) return x_num(b, max, 1);
  sd_expr *hit = x_bin(b, SD_X_EQ, sd_tb_load(b, n, 0, r.ix), max);
  sd_expr *first = x_reduce(b, SD_R_MIN, &r.red, x_sel(b, hit, r.ix[axis], x_int(b, INT64_MAX)));
  return x_sel(b, x_bin(b, SD_X_EQ, idx[axis], first), x_num(b, max, 1), x_num(b, max, 0));
}

sd_expr *sd_pull_lpnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK];
  rows r;
  int64_t p = sd_node_int(n, "p", 2);
  over_axis(n, over);
  if (p != 1 && p != 2)
    return sd_tb_fail(b, SD_SH_ERR(n, MODEL, "attribute 'p' is %lld, 1 and 2 are known", (long long)p));
  if (!rows_make(b, n->in[0], idx, over, &r)) return NULL;
  sd_expr *x = sd_tb_load(b, n, 0, r.ix);
  sd_expr *norm = x_reduce(b, SD_R_SUM, &r.red, p == 1 ? x_un(b, SD_X_ABS, x) : x_mul(b, x, x));
  if (p == 2) norm = x_un(b, SD_X_SQRT, norm);
  if (!norm) return NULL;
  sd_expr *safe =
      x_sel(b, x_bin(b, SD_X_EQ, norm, x_num(b, norm, 0)), x_num(b, norm, 1), norm); // 0/0 gives 0
  return x_div(b, sd_tb_load(b, n, 0, idx), safe);
}

// ---- layer normalization: the axes from `axis` on ----
static sd_dtype stash_type(const sd_node *n) {
  sd_dtype t = (sd_dtype)sd_node_int(n, "stash_type", 1);
  return sd_dtype_is_float(t) ? t : SD_F32;
}

static sard_status *stat_outputs(sd_node *n, uint32_t first, uint32_t last, int axis, sd_dtype t) {
  sd_dim dims[SD_MAX_RANK];
  for (int i = 0; i < n->in[0]->rank; i++)
    dims[i] = i < axis ? n->in[0]->dims[i] : sd_dim_const(sd_sh_tab(n), 1);
  for (uint32_t o = first; o <= last; o++) SD_TRY(sd_sh_set(n, o, t, n->in[0]->rank, dims));
  return NULL;
}

sard_status *sd_shape_layernorm(sd_node *n) {
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -1), n->in[0]->rank, &axis));
  for (uint32_t i = 1; i < n->n_in; i++) {
    sd_dim dims[SD_MAX_RANK];
    int rank = n->in[0]->rank;
    if (!sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_rank(n, i, 0, rank));
    memcpy(dims, n->in[0]->dims, (size_t)rank * sizeof *dims);
    SD_TRY(sd_sh_bcast(n, dims, &rank, n->in[i]->dims, n->in[i]->rank));
  }
  bool rms = strstr(n->op->name, "RMS") || strstr(n->op->name, "Simplified");
  SD_TRY(sd_sh_set(n, 0, n->in[rms ? 1 : 0]->dtype, n->in[0]->rank, n->in[0]->dims));
  return stat_outputs(n, 1, 2, axis, stash_type(n));
}

static void over_from(const sd_node *n, bool *over) {
  int rank = n->in[0]->rank;
  int64_t axis = sd_node_attr(n, "axis") ? sd_node_int(n, "axis", -1) : -1;
  if (axis < 0) axis += rank;
  for (int i = 0; i < rank; i++) over[i] = i >= axis;
}

// Operand of the row broadcast to x, in the type of `like`.
static sd_expr *operand_as(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx,
                           const sd_expr *like) {
  return like ? x_cast(b, like->dtype, x_load_over(b, n, operand, idx, n->in[0]->rank, n->in[0]->dims))
              : NULL;
}

// Output 0, 1 (mean) or 2 (inverse deviation) of a layer normalization of `at`; scale and bias are operand
// numbers.
static sd_expr *layernorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx, element_fn at,
                          uint32_t scale, uint32_t bias) {
  bool over[SD_MAX_RANK];
  over_from(n, over);
  sd_expr *mean = mean_of(b, n, idx, over, at);
  if (out == 1) return mean;
  sd_expr *inv = inverse_root(b, variance_of(b, n, idx, over, at, mean), sd_node_float(n, "epsilon", 1e-5f));
  if (out == 2) return inv;
  sd_expr *y = x_mul(b, x_sub(b, at(b, n, idx), mean), inv);
  y = x_mul(b, y, operand_as(b, n, scale, idx, y));
  return bias && sd_tb_has(n, bias) ? x_add(b, y, operand_as(b, n, bias, idx, y)) : y;
}

// Output 0 or the inverse deviation (any other) of a root-mean-square normalization.
static sd_expr *rmsnorm(sd_tb *b, const sd_node *n, bool stat, sd_expr *const *idx, element_fn at,
                        uint32_t scale) {
  bool over[SD_MAX_RANK];
  over_from(n, over);
  sd_expr *inv = inverse_root(b, variance_of(b, n, idx, over, at, NULL), sd_node_float(n, "epsilon", 1e-5f));
  if (stat) return inv;
  sd_expr *y = x_mul(b, at(b, n, idx), inv);
  return x_mul(b, y, operand_as(b, n, scale, idx, y));
}

sd_expr *sd_pull_layernorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  return layernorm(b, n, out, idx, element_x, 1, 2);
}
sd_expr *sd_pull_rmsnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  return rmsnorm(b, n, out != 0, idx, element_x, 1);
}

// ---- ONNX Runtime's: normalization of x + skip (+ bias), last axis; outputs y, mean, inverse deviation, sum
// ----
sard_status *sd_shape_skipnorm(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  int rank = n->in[0]->rank;
  for (uint32_t i = 1; i < n->n_in; i++) {
    sd_dim dims[SD_MAX_RANK];
    if (!sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_rank(n, i, 1, rank));
    memcpy(dims, n->in[0]->dims, (size_t)rank * sizeof *dims);
    SD_TRY(sd_sh_bcast(n, dims, &rank, n->in[i]->dims, n->in[i]->rank));
  }
  SD_TRY(sd_sh_like(n, 0, 0));
  SD_TRY(stat_outputs(n, 1, 2, rank - 1, SD_F32));
  return sd_sh_like(n, 3, 0);
}

static sd_expr *element_skip(sd_tb *b, const sd_node *n, sd_expr *const *ix) {
  uint32_t bias = n->op->n_in == 5 ? 4 : 3; // the simplified row has no beta
  sd_expr *x = x_add(b, sd_tb_load(b, n, 0, ix), x_load_over(b, n, 1, ix, n->in[0]->rank, n->in[0]->dims));
  return sd_tb_has(n, bias) ? x_add(b, x, x_load_over(b, n, bias, ix, n->in[0]->rank, n->in[0]->dims)) : x;
}

sd_expr *sd_pull_skipnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  return out == 3 ? element_skip(b, n, idx) : layernorm(b, n, out, idx, element_skip, 2, 3);
}
sd_expr *sd_pull_skiprmsnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  if (out != 1) return out == 3 ? element_skip(b, n, idx) : rmsnorm(b, n, out == 2, idx, element_skip, 2);
  sd_expr *x = element_skip(b, n, idx); // the mean output is not used by this operator
  return x ? x_num(b, x, 0) : NULL;
}

// ---- per channel ----
static sard_status *channel_operands(const sd_node *n, uint32_t count) {
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  for (uint32_t i = 1; i <= count; i++) {
    SD_TRY(sd_sh_rank(n, i, 1, 1));
    SD_TRY(sd_sh_same(n, n->in[0]->dims[1], n->in[i]->dims[0], sd_sh_operand(n, i), NULL));
  }
  return NULL;
}

// A vector is a batch of one channel.
static sard_status *batchnorm_of_vector(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dim dims[2] = {n->in[0]->dims[0], sd_dim_const(sd_sh_tab(n), 1)};
  sd_value *in[5] = {sd_xg_reshape(&g, n->in[0], dims, 2), n->in[1], n->in[2], n->in[3], n->in[4]};
  sd_node *made = g.st ? NULL : sd_xg_again(&g, in, 5);
  return g.st ? sd_xg_take(&g) : sd_xg_become(&g, "Reshape", (sd_value *[]){made->out[0], sd_xg_dims(&g, dims, 1)}, 2);
}

sard_status *sd_shape_channelnorm(sd_node *n) {
  if (n->in[0]->rank == 1 && n->op->n_in == 5 && n->n_out == 1) return batchnorm_of_vector(n);
  SD_TRY(channel_operands(n, (uint32_t)n->op->n_in - 1));
  for (uint32_t o = 1; o < n->n_out; o++) SD_TRY(sd_sh_like(n, o, o + 2));
  return sd_sh_like(n, 0, 0);
}

static sd_expr *channel_load(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *channel,
                             const sd_expr *like) {
  return like ? x_cast(b, like->dtype, sd_tb_load(b, n, operand, &channel)) : NULL;
}

// In training the statistics are those of the batch, and the running ones move towards them.
static sd_expr *batch_statistic(sd_tb *b, const sd_node *n, bool variance, sd_expr *channel) {
  bool over[SD_MAX_RANK];
  sd_expr *ix[SD_MAX_RANK];
  for (int i = 0; i < n->in[0]->rank; i++) over[i] = i != 1, ix[i] = channel;
  sd_expr *mean = mean_of(b, n, ix, over, element_x);
  return variance ? variance_of(b, n, ix, over, element_x, mean) : mean;
}

sd_expr *sd_pull_batchnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  bool training = sd_node_int(n, "training_mode", 0) != 0;
  if (out > 0) {
    double momentum = sd_node_float(n, "momentum", 0.9f);
    sd_expr *running = sd_tb_load(b, n, out + 2, idx);
    if (!training || !running) return running;
    sd_expr *now = x_cast(b, running->dtype, batch_statistic(b, n, out == 2, idx[0]));
    return x_add(b, x_muln(b, running, momentum), x_muln(b, now, 1 - momentum));
  }
  sd_expr *x = sd_tb_load(b, n, 0, idx), *c = idx[1];
  sd_expr *mean = training ? batch_statistic(b, n, false, c) : channel_load(b, n, 3, c, x);
  sd_expr *var = training ? batch_statistic(b, n, true, c) : channel_load(b, n, 4, c, x);
  sd_expr *inv = inverse_root(b, var, sd_node_float(n, "epsilon", 1e-5f));
  sd_expr *y = x_mul(b, x_sub(b, x, mean), x_mul(b, channel_load(b, n, 1, c, x), inv));
  return x_add(b, y, channel_load(b, n, 2, c, x));
}

static sd_expr *scale_bias(sd_tb *b, const sd_node *n, sd_expr *y, sd_expr *channel) {
  return x_add(b, x_mul(b, y, channel_load(b, n, 1, channel, y)), channel_load(b, n, 2, channel, y));
}

sd_expr *sd_pull_instancenorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK];
  for (int i = 0; i < n->in[0]->rank; i++) over[i] = i >= 2;
  sd_expr *mean = mean_of(b, n, idx, over, element_x);
  sd_expr *inv =
      inverse_root(b, variance_of(b, n, idx, over, element_x, mean), sd_node_float(n, "epsilon", 1e-5f));
  return scale_bias(b, n, x_mul(b, x_sub(b, sd_tb_load(b, n, 0, idx), mean), inv), idx[1]);
}

sard_status *sd_shape_groupnorm(sd_node *n) {
  int64_t groups = sd_node_int(n, "num_groups", 1);
  SD_TRY(channel_operands(n, 2));
  sd_dimtab *t = sd_sh_tab(n);
  if (groups < 1 ||
      sd_dim_eq(t, sd_dim_mod(t, n->in[0]->dims[1], sd_dim_const(t, groups)), sd_dim_const(t, 0)) == 0)
    return SD_SH_ERR(n, MODEL, "the channels are no multiple of num_groups = %lld", (long long)groups);
  return sd_sh_like(n, 0, 0);
}

// Index of the channel's group: its first channel plus an axis over the group, and all spatial dims.
static bool group_rows(sd_tb *b, const sd_node *n, sd_expr *const *idx, rows *r) {
  const sd_value *v = n->in[0];
  sd_dim size = sd_dim_floordiv(b->dims, v->dims[1], sd_dim_const(b->dims, sd_node_int(n, "num_groups", 1)));
  bool over[SD_MAX_RANK];
  sd_expr *g = x_bin(b, SD_X_FLOORDIV, idx[1], x_dim(b, size));
  r->red.n = 0;
  sd_expr *c = x_raxis(b, &r->red, "c", size);
  rows rest;
  for (int i = 0; i < v->rank; i++) over[i] = i >= 2;
  if (!g || !c || !rows_make(b, v, idx, over, &rest)) return false;
  for (uint32_t i = 0; i < rest.red.n && r->red.n < SD_MAX_AXES; i++) r->red.at[r->red.n++] = rest.red.at[i];
  memcpy(r->ix, rest.ix, sizeof r->ix);
  r->ix[1] = x_add(b, sd_x_mul_dim(b->k, g, size), c);
  r->count = sd_dim_mul(b->dims, rest.count, size);
  return true;
}

sd_expr *sd_pull_groupnorm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  rows r;
  if (!group_rows(b, n, idx, &r)) return NULL;
  sd_expr *mean = x_div_dim(b, x_reduce(b, SD_R_SUM, &r.red, sd_tb_load(b, n, 0, r.ix)), r.count);
  if (!group_rows(b, n, idx, &r)) return NULL;
  sd_expr *d = x_sub(b, sd_tb_load(b, n, 0, r.ix), mean);
  sd_expr *var = x_div_dim(b, x_reduce(b, SD_R_SUM, &r.red, x_mul(b, d, d)), r.count);
  sd_expr *inv = inverse_root(b, var, sd_node_float(n, "epsilon", 1e-5f));
  return scale_bias(b, n, x_mul(b, x_sub(b, sd_tb_load(b, n, 0, idx), mean), inv), idx[1]);
}

// ---- local response normalization: a window over channels ----
sard_status *sd_shape_lrn(sd_node *n) {
  int64_t size = sd_node_int(n, "size", 1);
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  if (size < 1 || size > INT32_MAX) return SD_SH_ERR(n, MODEL, "attribute 'size' is %lld", (long long)size);
  return sd_sh_like(n, 0, 0);
}

sd_expr *sd_pull_lrn(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int64_t size = sd_node_int(n, "size", 1);
  int c = sd_node_int(n, "channels_last", 0) ? n->in[0]->rank - 1 : 1;
  x_axes red = {.n = 0};
  sd_expr *ix[SD_MAX_RANK], *saved = NULL;
  memcpy(ix, idx, (size_t)n->in[0]->rank * sizeof *ix);
  ix[c] = x_add(b, x_sub(b, idx[c], x_int(b, (size - 1) / 2)),
                x_raxis(b, &red, "c", sd_dim_const(b->dims, size)));
  sd_expr *cond =
      x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), ix[c]), x_bin(b, SD_X_LT, ix[c], x_dim(b, n->in[0]->dims[c])));
  if (!cond) return NULL;
  sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, ix);
  x = sd_tb_guard_end(b, saved, cond, x, x_num(b, x, 0));
  sd_expr *sum = x_reduce(b, SD_R_SUM, &red, x_mul(b, x, x));
  sd_expr *base = x_addn(b, x_muln(b, sum, (double)sd_node_float(n, "alpha", 1e-4f) / (double)size),
                         sd_node_float(n, "bias", 1));
  sd_expr *power = base ? x_bin(b, SD_X_POW, base, x_num(b, base, sd_node_float(n, "beta", 0.75f))) : NULL;
  return x_div(b, sd_tb_load(b, n, 0, idx), power);
}

sd_expr *sd_pull_mvn(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  bool over[SD_MAX_RANK] = {false};
  int axes[SD_MAX_RANK];
  const sd_attr *a = sd_node_attr(n, "axes");
  sard_status *st = a ? sd_sh_axes(n, a->ints, a->n, n->in[0]->rank, axes) : NULL;
  if (st) return sd_tb_fail(b, st);
  for (uint32_t i = 0; a && i < a->n; i++) over[axes[i]] = true;
  sd_expr *mean = mean_of(b, n, idx, over, element_x), *var = variance_of(b, n, idx, over, element_x, mean);
  sd_expr *dev = x_addn(b, x_un(b, SD_X_SQRT, var), 1e-9);
  return x_div(b, x_sub(b, sd_tb_load(b, n, 0, idx), mean), dev);
}
