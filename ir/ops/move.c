// Views and permutations: transposes, reshapes, broadcasts, tiles, space and depth, triangles.
#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

// Known contents pass through when elements keep their order.
static void pass_elems(sd_node *n) {
  sd_dim e[SD_SH_ELEMS];
  uint32_t count = 0;
  if (sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &count)) sd_sh_set_elems(n, 0, e, count);
}

// ---- Transpose ----
static sard_status *permutation(const sd_node *n, int *perm) {
  int rank = n->in[0]->rank;
  const sd_attr *a = sd_node_attr(n, "perm");
  if (!a || a->kind == SD_ATTR_NONE) {
    for (int i = 0; i < rank; i++) perm[i] = rank - 1 - i;
    return NULL;
  }
  if (a->n != (uint32_t)rank)
    return SD_SH_ERR(n, MODEL, "attribute 'perm' has %u entries for an operand of rank %d", a->n, rank);
  return sd_sh_axes(n, a->ints, a->n, rank, perm);
}

sard_status *sd_shape_transpose(sd_node *n) {
  int perm[SD_MAX_RANK];
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(permutation(n, perm));
  for (int i = 0; i < n->in[0]->rank; i++) dims[i] = n->in[0]->dims[perm[i]];
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims));
  pass_elems(n);
  return NULL;
}

sd_expr *sd_pull_transpose(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int perm[SD_MAX_RANK];
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = permutation(n, perm);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < n->in[0]->rank; i++) at[perm[i]] = idx[i];
  return sd_tb_load(b, n, 0, at);
}

// ---- Reshape, Flatten ----
// total / product of the given dims, after equal factors have gone out of both.
static sd_dim divide_dims(sd_dimtab *t, const sd_value *x, const sd_dim *by, int n_by) {
  bool used[SD_MAX_RANK] = {0};
  sd_dim num = sd_dim_const(t, 1), den = num;
  for (int i = 0; i < n_by; i++) {
    int j = 0;
    while (j < x->rank && (used[j] || x->dims[j] != by[i])) j++;
    if (j < x->rank) used[j] = true;
    else den = sd_dim_mul(t, den, by[i]);
  }
  for (int j = 0; j < x->rank; j++)
    if (!used[j]) num = sd_dim_mul(t, num, x->dims[j]);
  if (sd_dim_is(t, den, 0)) return sd_dim_const(t, 0);
  return sd_dim_floordiv(t, num, den);
}

sard_status *sd_shape_reshape(sd_node *n) {
  sd_dim want[SD_MAX_RANK], rest[SD_MAX_RANK];
  uint32_t rank = 0;
  int infer = -1, n_rest = 0;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, 1));
  SD_TRY(sd_sh_elems(n, 1, want, SD_MAX_RANK, &rank));
  const sd_value *x = n->in[0];
  bool allowzero = sd_node_int(n, "allowzero", 0) != 0;
  for (uint32_t i = 0; i < rank; i++) {
    if (sd_dim_is(t, want[i], -1)) {
      if (infer >= 0) return SD_SH_ERR(n, MODEL, "the shape has more than one -1");
      infer = (int)i;
      continue;
    }
    if (!allowzero && sd_dim_is(t, want[i], 0)) {
      if ((int)i >= x->rank) return SD_SH_ERR(n, MODEL, "the shape copies dim %u of an operand of rank %d", i, x->rank);
      want[i] = x->dims[i];
    }
    rest[n_rest++] = want[i];
  }
  if (infer >= 0) {
    want[infer] = divide_dims(t, x, rest, n_rest);
    rest[n_rest++] = want[infer];
  }
  sd_dim from = sd_value_count(x), to = sd_dim_product(t, rest, n_rest);
  if (sd_dim_eq(t, from, to) == 0) {
    sd_str s = {0};
    sd_type_print(n->graph->module, x, &s);
    sd_str_put(&s, " has not the number of elements of the new shape, ");
    sd_dim_print(t, to, &s);
    sard_status *st = SD_SH_ERR(n, MODEL, "%s", s.p ? s.p : "the number of elements differs");
    sd_str_free(&s);
    return st;
  }
  // Checked when sizes are known: a view of another size would reach outside of its memory. A branch may never be taken.
  sd_node_require(n, from, to, false, *n->name ? n->name : "the elements of a Reshape");
  SD_TRY(sd_sh_set(n, 0, x->dtype, (int)rank, want));
  pass_elems(n);
  return NULL;
}

sard_status *sd_shape_flatten(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  const sd_value *x = n->in[0];
  int64_t axis = sd_node_int(n, "axis", 1);
  if (axis < 0) axis += x->rank;
  if (axis < 0 || axis > x->rank) return SD_SH_ERR(n, MODEL, "axis %lld for rank %d", (long long)axis, x->rank);
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim dims[2] = {sd_dim_product(t, x->dims, (int)axis), sd_dim_product(t, x->dims + axis, x->rank - (int)axis)};
  return sd_sh_set(n, 0, x->dtype, 2, dims);
}

// The element at the same linear position. Where the counts are not provably equal the position is checked.
sd_expr *sd_pull_relinear(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *offset = sd_tb_offset(b, n->out[out], idx);
  sd_dim from = sd_value_count(n->in[0]), to = sd_value_count(n->out[out]);
  if (from != to && sd_dim_eq(b->dims, from, to) != 1) offset = sd_x_index(b->k, offset, from);
  return sd_tb_load_linear(b, n, 0, offset);
}

// ---- Squeeze, Unsqueeze ----
// Bits of the axes of the longer shape that come or go.
static sard_status *unit_axes(const sd_node *n, int rank, uint32_t *out) {
  int64_t axes[SD_MAX_RANK];
  int at[SD_MAX_RANK];
  uint32_t count = 0;
  *out = 0;
  SD_TRY(sd_sh_ints(n, 1, axes, SD_MAX_RANK, &count));
  SD_TRY(sd_sh_axes(n, axes, count, rank, at));
  for (uint32_t i = 0; i < count; i++) *out |= 1u << at[i];
  return NULL;
}

// Without axes all dims of 1 go; a symbolic dim counts as more than 1.
static sard_status *squeezed_axes(const sd_node *n, uint32_t *out) {
  const sd_value *x = n->in[0];
  if (sd_sh_in(n, 1)) return unit_axes(n, x->rank, out);
  *out = 0;
  for (int i = 0; i < x->rank; i++)
    if (sd_dim_eq(sd_sh_tab(n), x->dims[i], sd_dim_const(sd_sh_tab(n), 1)) == 1) *out |= 1u << i; // also a symbol that must be 1
  return NULL;
}

// Axes that only the run knows: a Reshape.
static sard_status *unit_axes_open(sd_node *n, sd_sizes what, int sign) {
  XG_SCOPE xg g = {.at = n};
  sd_value *in[2] = {n->in[0], n->in[1]};
  int64_t must_be_one = 1, count;
  if (!sd_sh_length(n, 1, &count)) return SD_SH_ERR(n, UNSUPPORTED, "the rank of the output depends on the number of axes, which only the run knows");
  if (count > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "%lld axes given, at most %d exist", (long long)count, SD_MAX_RANK);
  int rank = n->in[0]->rank + sign * (int)count;
  if (rank < 0 || rank > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "%lld axes for rank %d", (long long)count, n->in[0]->rank);
  sd_value *dims = sd_xg_sizes(&g, what, in, 2, &must_be_one, 1, (uint32_t)rank);
  return sd_xg_become(&g, "Reshape allowzero=1", (sd_value *[]){in[0], dims}, 2);
}

sard_status *sd_shape_squeeze(sd_node *n) {
  uint32_t axes;
  sd_dim dims[SD_MAX_RANK], one = sd_dim_const(sd_sh_tab(n), 1);
  int rank = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  if (sd_sh_open(n, 1)) return unit_axes_open(n, SD_SIZES_WITHOUT, -1);
  SD_TRY(squeezed_axes(n, &axes));
  for (int i = 0; i < n->in[0]->rank; i++) {
    if (axes >> i & 1u) SD_TRY(sd_sh_same(n, n->in[0]->dims[i], one, "a squeezed dim", NULL));
    else dims[rank++] = n->in[0]->dims[i];
  }
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, rank, dims));
  pass_elems(n);
  return NULL;
}

sard_status *sd_shape_unsqueeze(sd_node *n) {
  uint32_t axes, count = 0;
  int64_t list[SD_MAX_RANK];
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  if (sd_sh_open(n, 1)) return unit_axes_open(n, SD_SIZES_WITH_ONES, 1);
  SD_TRY(sd_sh_ints(n, 1, list, SD_MAX_RANK, &count));
  int rank = n->in[0]->rank + (int)count, from = 0;
  if (rank > SD_MAX_RANK) return SD_SH_ERR(n, UNSUPPORTED, "rank %d, at most %d is supported", rank, SD_MAX_RANK);
  SD_TRY(unit_axes(n, rank, &axes));
  for (int i = 0; i < rank; i++) dims[i] = axes >> i & 1u ? sd_dim_const(sd_sh_tab(n), 1) : n->in[0]->dims[from++];
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, rank, dims));
  pass_elems(n);
  return NULL;
}

sd_expr *sd_pull_squeeze(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_expr *at[SD_MAX_RANK];
  uint32_t axes;
  int from = 0;
  sard_status *st = squeezed_axes(n, &axes);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < n->in[0]->rank; i++) at[i] = axes >> i & 1u ? x_int(b, 0) : idx[from++];
  return sd_tb_load(b, n, 0, at);
}

sd_expr *sd_pull_unsqueeze(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *at[SD_MAX_RANK];
  uint32_t axes;
  int to = 0;
  sard_status *st = unit_axes(n, n->out[out]->rank, &axes);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < n->out[out]->rank; i++)
    if (!(axes >> i & 1u)) at[to++] = idx[i];
  return sd_tb_load(b, n, 0, at);
}

// ---- Expand, Tile ----
sard_status *sd_shape_expand(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], e[SD_SH_ELEMS];
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_elems(n, 1, dims, SD_MAX_RANK, &count));
  int rank = (int)count;
  SD_TRY(sd_sh_bcast(n, dims, &rank, n->in[0]->dims, n->in[0]->rank));
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, rank, dims));
  int64_t len = 1;
  if (rank > 1 || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &count) || !count) return NULL;
  if (rank == 1 && (!sd_dim_is_const(sd_sh_tab(n), dims[0], &len) || len > SD_SH_ELEMS)) return NULL;
  if (count == 1)
    for (int64_t i = 1; i < len; i++) e[i] = e[0];
  if (count == 1 || count == (uint32_t)len) sd_sh_set_elems(n, 0, e, (uint32_t)len);
  return NULL;
}

sd_expr *sd_pull_expand(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  return sd_tb_load_bcast(b, n, 0, idx, n->out[out]->rank);
}

sard_status *sd_shape_tile(sd_node *n) {
  sd_dim rep[SD_MAX_RANK], dims[SD_MAX_RANK];
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_elems(n, 1, rep, SD_MAX_RANK, &count));
  if ((int)count != n->in[0]->rank)
    return SD_SH_ERR(n, MODEL, "%u repeats for an operand of rank %d", count, n->in[0]->rank);
  for (uint32_t i = 0; i < count; i++) dims[i] = sd_dim_mul(sd_sh_tab(n), n->in[0]->dims[i], rep[i]);
  return sd_sh_set(n, 0, n->in[0]->dtype, (int)count, dims);
}

static sd_expr *mod_dim(sd_tb *b, sd_expr *x, sd_dim d) { return x_bin(b, SD_X_MOD, x, x_dim(b, d)); }
static sd_expr *div_dim(sd_tb *b, sd_expr *x, sd_dim d) { return x_bin(b, SD_X_FLOORDIV, x, x_dim(b, d)); }

sd_expr *sd_pull_tile(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *at[SD_MAX_RANK];
  const sd_value *x = n->in[0], *y = n->out[out];
  for (int i = 0; i < x->rank; i++) at[i] = x->dims[i] == y->dims[i] ? idx[i] : mod_dim(b, idx[i], x->dims[i]);
  return sd_tb_load(b, n, 0, at);
}

// ---- DepthToSpace, SpaceToDepth ----
static sard_status *block_size(const sd_node *n, int64_t *bs) {
  SD_TRY(sd_sh_rank(n, 0, 4, 4));
  *bs = sd_node_int(n, "blocksize", 0);
  if (*bs < 1 || *bs > (1 << 20)) return SD_SH_ERR(n, MODEL, "blocksize %lld", (long long)*bs);
  return NULL;
}

static sard_status *divisible(const sd_node *n, int axis, int64_t by) {
  int64_t v;
  sd_dim d = n->in[0]->dims[axis];
  if (sd_dim_is_const(sd_sh_tab(n), d, &v) && v % by)
    return SD_SH_ERR(n, MODEL, "dim %d is %lld, no multiple of %lld", axis, (long long)v, (long long)by);
  return NULL;
}

sard_status *sd_shape_depth_to_space(sd_node *n) {
  int64_t bs;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(block_size(n, &bs));
  SD_TRY(divisible(n, 1, bs * bs));
  const sd_dim *d = n->in[0]->dims;
  sd_dim c = sd_dim_const(t, bs);
  sd_dim dims[4] = {d[0], sd_dim_floordiv(t, d[1], sd_dim_const(t, bs * bs)), sd_dim_mul(t, d[2], c),
                    sd_dim_mul(t, d[3], c)};
  return sd_sh_set(n, 0, n->in[0]->dtype, 4, dims);
}

sard_status *sd_shape_space_to_depth(sd_node *n) {
  int64_t bs;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(block_size(n, &bs));
  SD_TRY(divisible(n, 2, bs));
  SD_TRY(divisible(n, 3, bs));
  const sd_dim *d = n->in[0]->dims;
  sd_dim c = sd_dim_const(t, bs);
  sd_dim dims[4] = {d[0], sd_dim_mul(t, d[1], sd_dim_const(t, bs * bs)), sd_dim_floordiv(t, d[2], c),
                    sd_dim_floordiv(t, d[3], c)};
  return sd_sh_set(n, 0, n->in[0]->dtype, 4, dims);
}

static bool mode_is(const sd_node *n, const char *mode) { return !strcmp(sd_node_str(n, "mode", ""), mode); }

sd_expr *sd_pull_depth_to_space(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_dim bs = sd_dim_const(b->dims, sd_node_int(n, "blocksize", 1));
  sd_expr *i = mod_dim(b, idx[2], bs), *j = mod_dim(b, idx[3], bs), *c;
  sd_expr *block = x_add(b, sd_x_mul_dim(b->k, i, bs), j);
  if (mode_is(n, "CRD")) c = x_add(b, sd_x_mul_dim(b->k, idx[1], sd_dim_mul(b->dims, bs, bs)), block);
  else c = x_add(b, sd_x_mul_dim(b->k, block, n->out[out]->dims[1]), idx[1]);
  sd_expr *at[4] = {idx[0], c, div_dim(b, idx[2], bs), div_dim(b, idx[3], bs)};
  return sd_tb_load(b, n, 0, at);
}

sd_expr *sd_pull_space_to_depth(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_dim bs = sd_dim_const(b->dims, sd_node_int(n, "blocksize", 1)), c = n->in[0]->dims[1];
  sd_dim bs2 = sd_dim_mul(b->dims, bs, bs);
  bool crd = mode_is(n, "CRD");
  sd_expr *block = crd ? mod_dim(b, idx[1], bs2) : div_dim(b, idx[1], c);
  sd_expr *channel = crd ? div_dim(b, idx[1], bs2) : mod_dim(b, idx[1], c);
  sd_expr *at[4] = {idx[0], channel, x_add(b, sd_x_mul_dim(b->k, idx[2], bs), div_dim(b, block, bs)),
                    x_add(b, sd_x_mul_dim(b->k, idx[3], bs), mod_dim(b, block, bs))};
  return sd_tb_load(b, n, 0, at);
}

// ---- Trilu, ReverseSequence ----
// Operand `operand` of one element as I64: the number where it is known, else its load.
static sd_expr *load_int(sd_tb *b, const sd_node *n, uint32_t operand, int64_t absent) {
  sd_dim e[1];
  uint32_t count = 0;
  if (!sd_tb_has(n, operand)) return x_int(b, absent);
  if (sd_sh_try_elems(n, operand, e, 1, &count) && count == 1) return x_dim(b, e[0]);
  sd_expr *zero[1] = {x_int(b, 0)}, *v = x_cast(b, SD_I64, sd_tb_load(b, n, operand, zero));
  return x_max(b, x_min(b, v, x_int(b, INT64_MAX / 4)), x_int(b, -(INT64_MAX / 4))); // positions are added
}

sd_expr *sd_pull_trilu(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  int rank = n->out[out]->rank;
  if (rank < 2) return sd_tb_fail(b, SD_SH_ERR(n, MODEL, "operand '%s' has rank %d", sd_sh_operand(n, 0), rank));
  sd_expr *diagonal = x_add(b, idx[rank - 2], load_int(b, n, 1, 0)), *column = idx[rank - 1], *saved;
  bool upper = sd_node_int(n, "upper", 1) != 0;
  sd_expr *cond = upper ? x_bin(b, SD_X_LE, diagonal, column) : x_bin(b, SD_X_LE, column, diagonal);
  if (!cond) return NULL;
  sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, idx);
  return sd_tb_guard_end(b, saved, cond, x, x_num(b, x, 0));
}

static sard_status *sequence_axes(const sd_node *n, int *batch, int *time) {
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "batch_axis", 1), n->in[0]->rank, batch));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "time_axis", 0), n->in[0]->rank, time));
  if (*batch == *time) return SD_SH_ERR(n, MODEL, "batch_axis and time_axis are both %d", *batch);
  return NULL;
}

sard_status *sd_shape_reverse_sequence(sd_node *n) {
  int batch, time;
  SD_TRY(sequence_axes(n, &batch, &time));
  SD_TRY(sd_sh_rank(n, 1, 1, 1));
  SD_TRY(sd_sh_same(n, n->in[0]->dims[batch], n->in[1]->dims[0], "batch", NULL));
  return sd_sh_like(n, 0, 0);
}

sd_expr *sd_pull_reverse_sequence(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int batch, time;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = sequence_axes(n, &batch, &time);
  if (st) return sd_tb_fail(b, st);
  memcpy(at, idx, (size_t)n->in[0]->rank * sizeof *at);
  sd_expr *t = idx[time], *len = x_cast(b, SD_I64, sd_tb_load(b, n, 1, &idx[batch]));
  sd_expr *back = x_sub(b, x_sub(b, len, x_int(b, 1)), t);
  at[time] = x_sel(b, x_bin(b, SD_X_LT, t, len), back, t);
  if (!at[time]) return NULL;
  at[time] = sd_x_index(b->k, at[time], n->in[0]->dims[time]);
  return sd_tb_load(b, n, 0, at);
}
