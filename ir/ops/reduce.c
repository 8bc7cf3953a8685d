// Reductions along axes, arg reductions and running sums.
#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

sard_status *sd_sh_reduced_axes(const sd_node *n, uint32_t *out) {
  int64_t axes[SD_MAX_RANK];
  int at[SD_MAX_RANK], rank = n->in[0]->rank;
  uint32_t count = 0;
  *out = 0;
  if (sd_sh_in(n, 1)) SD_TRY(sd_sh_ints(n, 1, axes, SD_MAX_RANK, &count));
  SD_TRY(sd_sh_axes(n, axes, count, rank, at));
  for (uint32_t i = 0; i < count; i++) *out |= 1u << at[i];
  if (!count && !sd_node_int(n, "noop_with_empty_axes", 0)) *out = (1u << rank) - 1u;
  return NULL;
}

static sard_status *set_reduced(sd_node *n, sd_dtype t, uint32_t axes) {
  sd_dim dims[SD_MAX_RANK];
  int rank = 0;
  bool keep = sd_node_int(n, "keepdims", 1) != 0;
  for (int i = 0; i < n->in[0]->rank; i++) {
    if (!(axes >> i & 1u)) dims[rank++] = n->in[0]->dims[i];
    else if (keep) dims[rank++] = sd_dim_const(sd_sh_tab(n), 1);
  }
  return sd_sh_set(n, 0, t, rank, dims);
}

// Axes that only the run knows: each dim of x becomes a kept and a reduced one, of which one is 1, and the axes are the reduced
// ones. With keepdims the kept ones are the result; else what remains of the dims is.
static sard_status *reduce_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *in[2] = {n->in[0], n->in[1]}, *rest = NULL;
  bool keep = sd_node_int(n, "keepdims", 1) != 0;
  int64_t noop = sd_node_int(n, "noop_with_empty_axes", 0) != 0, not_one = 0, odd[SD_MAX_RANK], count;
  int rank = n->in[0]->rank;
  if (rank > SD_MAX_RANK / 2) return SD_SH_ERR(n, UNSUPPORTED, "axes that only the run knows with rank %d, at most %d is possible", rank, SD_MAX_RANK / 2);
  if (!keep && !sd_sh_length(n, 1, &count))
    return SD_SH_ERR(n, UNSUPPORTED, "the rank of the output depends on the number of axes, which only the run knows");
  if (!keep && count > rank) return SD_SH_ERR(n, MODEL, "%lld axes for rank %d", (long long)count, rank);
  for (int d = 0; d < rank; d++) odd[d] = 2 * d + 1;
  sd_value *pairs = XG(&g, "Reshape allowzero=1", in[0], sd_xg_sizes(&g, SD_SIZES_PAIRS, in, 2, &noop, 1, 2 * (uint32_t)rank));
  sd_value *axes = sd_xg_ints(&g, odd, rank);
  if (!keep) rest = sd_xg_sizes(&g, SD_SIZES_WITHOUT, in, 2, &not_one, 1, (uint32_t)(rank - count));
  if (g.st) return sd_xg_take(&g);
  sd_node_set_int(n, "keepdims", 0);
  sd_node_set_int(n, "noop_with_empty_axes", 1); // all axes are given
  if (keep) {
    sd_node_set_input(n, 0, pairs), sd_node_set_input(n, 1, axes);
    return n->op->shape(n);
  }
  sd_node *y = sd_xg_again(&g, (sd_value *[]){pairs, axes}, 2);
  return sd_xg_become(&g, "Reshape allowzero=1", (sd_value *[]){y ? y->out[0] : NULL, rest}, 2);
}

sard_status *sd_shape_reduce(sd_node *n) {
  uint32_t axes;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  if (sd_sh_open(n, 1) && n->in[0]->rank) return reduce_open(n);
  SD_TRY(sd_sh_reduced_axes(n, &axes));
  return set_reduced(n, n->in[0]->dtype, axes);
}

// The same, with the contents of a small vector of dims reduced as well.
static sard_status *reduce_elems(sd_node *n, sd_dim (*fn)(sd_dimtab *, sd_dim, sd_dim)) {
  sd_dim e[SD_SH_ELEMS];
  uint32_t count = 0;
  SD_TRY(sd_shape_reduce(n));
  if (n->in[0]->rank != 1 || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &count) || !count) return NULL;
  if (n->out[0]->rank == 1 && !sd_dim_is(sd_sh_tab(n), n->out[0]->dims[0], 1)) return NULL;
  for (uint32_t i = 1; i < count; i++) {
    e[0] = fn(sd_sh_tab(n), e[0], e[i]);
    if (e[0] == SD_DIM_NONE) return NULL;
  }
  sd_sh_set_elems(n, 0, e, 1);
  return NULL;
}
sard_status *sd_shape_reduce_sum(sd_node *n) { return reduce_elems(n, sd_dim_add); }
sard_status *sd_shape_reduce_prod(sd_node *n) { return reduce_elems(n, sd_dim_mul); }
sard_status *sd_shape_reduce_max(sd_node *n) { return reduce_elems(n, sd_dim_max); }
sard_status *sd_shape_reduce_min(sd_node *n) { return reduce_elems(n, sd_dim_min); }

sard_status *sd_shape_arg(sd_node *n) {
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", 0), n->in[0]->rank, &axis));
  return set_reduced(n, SD_I64, 1u << axis);
}

// ---- bodies ----
// Input index for output index idx: new reduction axes (pushed onto l) where a bit of `axes` is set.
static bool reduced_index(sd_tb *b, const sd_node *n, uint32_t axes, sd_expr *const *idx, x_axes *l, sd_expr **out) {
  bool keep = sd_node_int(n, "keepdims", 1) != 0;
  int at = 0;
  for (int i = 0; i < n->in[0]->rank; i++) {
    bool reduced = axes >> i & 1u;
    out[i] = reduced ? x_raxis(b, l, "r", n->in[0]->dims[i]) : idx[at];
    if (!out[i]) return false;
    if (!reduced || keep) at++;
  }
  return true;
}

typedef sd_expr *(*elem_fn)(sd_tb *b, sd_expr *x);

static sd_expr *square(sd_tb *b, sd_expr *x) { return x_mul(b, x, x); }
static sd_expr *magnitude(sd_tb *b, sd_expr *x) { return x_un(b, SD_X_ABS, x); }
static sd_expr *as_float(sd_tb *b, sd_expr *x) {
  if (!x || sd_dtype_is_float(x->dtype)) return x;
  return x_cast(b, sd_dtype_bits(x->dtype) > 32 ? SD_F64 : SD_F32, x);
}
static sd_expr *float_square(sd_tb *b, sd_expr *x) { return square(b, as_float(b, x)); }

// rop over the axes of pre(x), in the type that pre gives; *out_axes tells which.
static sd_expr *reduce(sd_tb *b, const sd_node *n, sd_expr *const *idx, sd_rop rop, elem_fn pre, uint32_t *out_axes) {
  sd_expr *at[SD_MAX_RANK];
  x_axes l = {0};
  uint32_t axes;
  sard_status *st = sd_sh_reduced_axes(n, &axes);
  if (st) return sd_tb_fail(b, st);
  if (out_axes) *out_axes = axes;
  if (!reduced_index(b, n, axes, idx, &l, at)) return NULL;
  sd_expr *x = sd_tb_load(b, n, 0, at);
  if (x && pre) x = pre(b, x);
  bool flag = x && x->dtype == SD_BOOL;
  if (flag) x = x_cast(b, SD_U8, x); // max and min of truth values
  x = x_reduce(b, rop, &l, x);
  return flag ? x_cast(b, SD_BOOL, x) : x;
}

static sd_expr *to_output(sd_tb *b, const sd_node *n, sd_expr *x) {
  return x_cast(b, sd_compute_type(n->out[0]->dtype), x);
}

#define REDUCE_PULL(name, rop, pre)                                                                                    \
  sd_expr *sd_pull_##name(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {                             \
    (void)out;                                                                                                         \
    return reduce(b, n, idx, rop, pre, NULL);                                                                          \
  }
REDUCE_PULL(reduce_sum, SD_R_SUM, NULL)
REDUCE_PULL(reduce_max, SD_R_MAX, NULL)
REDUCE_PULL(reduce_min, SD_R_MIN, NULL)
REDUCE_PULL(reduce_prod, SD_R_PROD, NULL)
REDUCE_PULL(reduce_l1, SD_R_SUM, magnitude)
REDUCE_PULL(reduce_sum_square, SD_R_SUM, square)

sd_expr *sd_pull_reduce_l2(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  return to_output(b, n, x_un(b, SD_X_SQRT, reduce(b, n, idx, SD_R_SUM, float_square, NULL)));
}

sd_expr *sd_pull_reduce_log_sum(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  return to_output(b, n, x_un(b, SD_X_LOG, reduce(b, n, idx, SD_R_SUM, as_float, NULL)));
}

sd_expr *sd_pull_reduce_mean(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  uint32_t axes = 0;
  sd_dim count = sd_dim_const(b->dims, 1);
  sd_expr *sum = reduce(b, n, idx, SD_R_SUM, NULL, &axes);
  for (int i = 0; i < n->in[0]->rank; i++)
    if (axes >> i & 1u) count = sd_dim_mul(b->dims, count, n->in[0]->dims[i]);
  return x_div_dim(b, sum, count);
}

// log(sum(exp(x - m))) + m with m the maximum: no overflow; m infinite is left out of the differences.
sd_expr *sd_pull_reduce_log_sum_exp(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_expr *at[SD_MAX_RANK];
  x_axes l = {0};
  uint32_t axes = 0;
  sd_expr *m = reduce(b, n, idx, SD_R_MAX, as_float, &axes);
  if (!m || !reduced_index(b, n, axes, idx, &l, at)) return NULL;
  m = x_sel(b, x_un(b, SD_X_ISINF, m), x_num(b, m, 0), m);
  sd_expr *x = as_float(b, sd_tb_load(b, n, 0, at));
  sd_expr *sum = x_reduce(b, SD_R_SUM, &l, x_un(b, SD_X_EXP, x_sub(b, x, m)));
  return to_output(b, n, x_add(b, x_un(b, SD_X_LOG, sum), m));
}

// The best value first, then the first (or last) index that has it. A NaN wins: it is what max and min give then.
static sd_expr *arg(sd_tb *b, const sd_node *n, sd_expr *const *idx, sd_rop rop) {
  sd_expr *at[SD_MAX_RANK];
  int axis = 0;
  bool last = sd_node_int(n, "select_last_index", 0) != 0;
  sard_status *st = sd_sh_axis(n, sd_node_int(n, "axis", 0), n->in[0]->rank, &axis);
  if (st) return sd_tb_fail(b, st);
  x_axes l = {0}, l2 = {0};
  if (!reduced_index(b, n, 1u << axis, idx, &l, at)) return NULL;
  sd_expr *best = x_reduce(b, rop, &l, sd_tb_load(b, n, 0, at));
  if (!best || !reduced_index(b, n, 1u << axis, idx, &l2, at)) return NULL;
  sd_expr *x = sd_tb_load(b, n, 0, at);
  sd_expr *hit = x_bin(b, SD_X_EQ, x, best);
  if (hit && sd_dtype_is_float(x->dtype)) hit = x_bin(b, SD_X_OR, hit, x_un(b, SD_X_ISNAN, x));
  sd_expr *none = last ? x_int(b, -1) : x_dim(b, n->in[0]->dims[axis]);
  sd_expr *i = x_reduce(b, last ? SD_R_MAX : SD_R_MIN, &l2, x_sel(b, hit, at[axis], none));
  return i;
}

sd_expr *sd_pull_arg_max(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  return arg(b, n, idx, SD_R_MAX);
}
sd_expr *sd_pull_arg_min(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  return arg(b, n, idx, SD_R_MIN);
}

// ---- running sums ----
static sard_status *cumulate_axis(const sd_node *n, int *out) {
  int64_t axis = 0;
  SD_TRY(sd_sh_int(n, 1, &axis));
  return sd_sh_axis(n, axis, n->in[0]->rank, out);
}

// An axis that only the run knows: the dims before and behind it become one each.
static sard_status *cumulate_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *x = n->in[0], *in[2] = {x, n->in[1]};
  int64_t none = 0, one = 1;
  sd_value *flat = XG(&g, "Reshape allowzero=1", x, sd_xg_sizes(&g, SD_SIZES_AROUND, in, 2, &none, 1, 3));
  sd_node *y = sd_xg_again(&g, (sd_value *[]){flat, sd_xg_ints(&g, &one, -1)}, 2);
  return sd_xg_become(&g, "Reshape allowzero=1", (sd_value *[]){y ? y->out[0] : NULL, XG(&g, "Shape", x)}, 2);
}

sard_status *sd_shape_cumulate(sd_node *n) {
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  if (sd_sh_open(n, 1)) return cumulate_open(n);
  SD_TRY(cumulate_axis(n, &axis));
  return sd_sh_like(n, 0, 0);
}

// Position p of the walk along an axis of that extent; p < extent.
static sd_expr *walk_position(sd_tb *b, sd_expr *p, sd_dim extent, bool reverse) {
  return reverse ? x_sub(b, x_dim(b, sd_dim_sub(b->dims, extent, sd_dim_const(b->dims, 1))), p) : p;
}

// Where the walk runs: a grid over the other axes, but for the last of them, of which a tile has a block that walks side by
// side: columns in vectors, or rows, which do not wait for each other. Sets the index of each axis but `axis`; returns the
// nest of a position of the walk.
#define WALK_COLUMNS 512
#define WALK_ROWS    8
static sd_nest *walk_nest(sd_tb *b, const sd_value *y, int axis, sd_axis *run, sd_expr **at) {
  sd_kernel *k = b->k;
  int last = axis == y->rank - 1 ? y->rank - 2 : y->rank - 1;
  sd_dim columns = sd_dim_const(b->dims, last < axis ? WALK_ROWS : WALK_COLUMNS);
  for (int i = 0; i < y->rank; i++) {
    if (i == axis) continue;
    sd_axis *a = sd_kernel_axis(k, "g", i == last ? sd_dim_ceildiv(b->dims, y->dims[i], columns) : y->dims[i]);
    sd_vec_push(k->arena, &k->grid, a);
    at[i] = x_axis(b, a);
  }
  if (last < 0) { // one point at a time
    sd_nest *nest = sd_kernel_nest(k, NULL);
    nest->sequential = true;
    sd_nest_axis(nest, run);
    return nest;
  }
  sd_nest *nest = sd_kernel_nest(k, sd_kernel_loop(k, NULL, run));
  sd_axis *column = sd_kernel_axis(k, "j", sd_dim_min(b->dims, y->dims[last], columns));
  sd_expr *first = sd_x_mul_dim(k, at[last], columns);
  column->limit = x_sub(b, x_dim(b, y->dims[last]), first);
  sd_nest_axis(nest, column);
  at[last] = x_add(b, first, x_axis(b, column));
  return nest;
}

// y[p] = y[p - 1] op x[p] (exclusive: x[p - 1]), position by position.
static sard_status *cumulate(sd_tb *b, const sd_node *n, sd_xop op, int64_t identity) {
  int axis = 0;
  SD_TRY(cumulate_axis(n, &axis));
  const sd_value *y = n->out[0];
  bool reverse = sd_node_int(n, "reverse", 0) != 0, exclusive = sd_node_int(n, "exclusive", 0) != 0;
  sd_kernel *k = b->k;
  sd_expr *at[SD_MAX_RANK], *before[SD_MAX_RANK];
  sd_axis *run = sd_kernel_axis(k, "k", y->dims[axis]);
  sd_nest *nest = walk_nest(b, y, axis, run, at);
  memcpy(before, at, sizeof before);
  sd_expr *p = x_axis(b, run), *started = x_bin(b, SD_X_LT, x_int(b, 0), p);
  at[axis] = walk_position(b, p, y->dims[axis], reverse);
  before[axis] = walk_position(b, x_sub(b, p, x_int(b, 1)), y->dims[axis], reverse);
  sd_buf *buf = sd_tb_out(b, n, 0);
  if (!buf) return NULL;
  buf->readwrite = true;
  sd_expr *acc = sd_x_load(k, buf, sd_tb_offset(b, y, before), started);
  sd_expr *unit = sd_x_i(k, acc->dtype, identity);
  acc = x_sel(b, started, acc, unit);
  sd_expr *saved, *x;
  if (exclusive) {
    sd_tb_guard_begin(b, started, &saved);
    x = sd_tb_load(b, n, 0, before);
    x = sd_tb_guard_end(b, saved, started, x, unit);
  } else {
    x = sd_tb_load(b, n, 0, at);
  }
  sd_expr *v = x_bin(b, op, acc, x);
  if (v) sd_nest_store(k, nest, buf, sd_tb_offset(b, y, at), v, NULL);
  return NULL;
}

sard_status *sd_nests_cum_sum(sd_tb *b, const sd_node *n) { return cumulate(b, n, SD_X_ADD, 0); }
sard_status *sd_nests_cum_prod(sd_tb *b, const sd_node *n) { return cumulate(b, n, SD_X_MUL, 1); }
