// Tensors made from shapes, positions and attributes: Constant, Shape, Size, ConstantOfShape, Range, EyeLike, OneHot.
#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"

// ---- Constant ----
typedef struct literal { sd_dtype dtype; int rank; int64_t dims[1]; const int64_t *shape; const void *data; } literal;

// The tensor of whichever attribute is given.
static sard_status *read_literal(const sd_node *n, literal *out) {
  sd_arena *a = n->graph->module->arena;
  for (uint32_t i = 0; i < n->n_attr; i++) {
    const sd_attr *at = &n->attrs[i];
    *out = (literal){.dims = {at->n}};
    switch (at->kind) {
    case SD_ATTR_TENSOR:
      *out = (literal){.dtype = at->tensor->dtype, .rank = at->tensor->rank, .shape = at->tensor->dims,
                       .data = at->tensor->data};
      return NULL;
    case SD_ATTR_FLOAT: return out->dtype = SD_F32, out->data = sd_arena_dup(a, &at->f, sizeof at->f), NULL;
    case SD_ATTR_INT: return out->dtype = SD_I64, out->data = sd_arena_dup(a, &at->i, sizeof at->i), NULL;
    case SD_ATTR_FLOATS: return out->dtype = SD_F32, out->rank = 1, out->data = at->floats, NULL;
    case SD_ATTR_INTS: return out->dtype = SD_I64, out->rank = 1, out->data = at->ints, NULL;
    case SD_ATTR_STRING: return out->dtype = SD_STRING, out->data = sd_value_const_texts(n->graph, "", &at->s, -1)->data->data, NULL;
    case SD_ATTR_STRINGS:
      return out->dtype = SD_STRING, out->rank = 1, out->data = sd_value_const_texts(n->graph, "", at->strings, (int)at->n)->data->data, NULL;
    default: break;
    }
  }
  return SD_SH_ERR(n, MODEL, "Constant without a value");
}

sard_status *sd_shape_constant(sd_node *n) {
  literal c;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(read_literal(n, &c));
  if (c.rank > SD_MAX_RANK) return SD_SH_ERR(n, UNSUPPORTED, "rank %d", c.rank);
  for (int i = 0; i < c.rank; i++) dims[i] = sd_dim_const(sd_sh_tab(n), (c.shape ? c.shape : c.dims)[i]);
  return sd_sh_set(n, 0, c.dtype, c.rank, dims);
}

sard_status *sd_rewrite_constant(sd_node *n) {
  literal c;
  SD_TRY(read_literal(n, &c));
  sd_value *v = sd_value_const(n->graph, n->out[0]->name, c.dtype, c.rank, c.shape ? c.shape : c.dims, c.data);
  sd_value_replace(n->out[0], v);
  sd_node_remove(n);
  return NULL;
}

// ---- Shape, Size ----
static sard_status *shape_range(const sd_node *n, int *begin, int *end) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  int64_t rank = n->in[0]->rank, s = sd_node_int(n, "start", 0), e = sd_node_int(n, "end", rank);
  if (s < 0) s += rank;
  if (e < 0) e += rank;
  s = sd_max_i64(0, sd_min_i64(s, rank));
  e = sd_max_i64(s, sd_min_i64(e, rank));
  *begin = (int)s;
  *end = (int)e;
  return NULL;
}

sard_status *sd_shape_shape(sd_node *n) {
  int begin, end;
  SD_TRY(shape_range(n, &begin, &end));
  sd_dim len = sd_dim_const(sd_sh_tab(n), end - begin);
  SD_TRY(sd_sh_set(n, 0, SD_I64, 1, &len));
  sd_sh_set_elems(n, 0, n->in[0]->dims + begin, (uint32_t)(end - begin));
  return NULL;
}

sd_expr *sd_pull_shape(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int begin, end;
  sard_status *st = shape_range(n, &begin, &end);
  if (st) return sd_tb_fail(b, st);
  sd_expr *r = x_int(b, 0);
  for (int i = end; i-- > begin;)
    r = i == end - 1 ? x_dim(b, n->in[0]->dims[i])
                     : x_sel(b, x_bin(b, SD_X_EQ, idx[0], x_int(b, i - begin)), x_dim(b, n->in[0]->dims[i]), r);
  return r;
}

sard_status *sd_shape_size(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  sd_dim count = sd_value_count(n->in[0]);
  SD_TRY(sd_sh_set(n, 0, SD_I64, 0, NULL));
  sd_sh_set_elems(n, 0, &count, 1);
  return NULL;
}

sd_expr *sd_pull_size(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out, (void)idx;
  return x_dim(b, sd_value_count(n->in[0]));
}

// ---- ConstantOfShape ----
static const sd_const *fill_value(const sd_node *n) {
  const sd_attr *a = sd_node_attr(n, "value");
  return a && a->kind == SD_ATTR_TENSOR ? a->tensor : NULL;
}

sard_status *sd_shape_constant_of_shape(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], e[SD_SH_ELEMS];
  uint32_t rank = 0;
  int64_t len = 1;
  SD_TRY(sd_sh_elems(n, 0, dims, SD_MAX_RANK, &rank));
  const sd_const *c = fill_value(n);
  if (c && c->count != 1) return SD_SH_ERR(n, MODEL, "attribute 'value' has %llu elements", (unsigned long long)c->count);
  sd_dtype t = c ? c->dtype : SD_F32;
  if (t == SD_STRING || sd_dtype_kind_of(t) == SD_DK_C) return SD_SH_ERR(n, UNSUPPORTED, "a tensor of type %s", sd_dtype_name(t));
  SD_TRY(sd_sh_set(n, 0, t, (int)rank, dims));
  if (rank > 1 || (!sd_dtype_is_int(t) && t != SD_BOOL)) return NULL;
  if (rank == 1 && (!sd_dim_is_const(sd_sh_tab(n), dims[0], &len) || len > SD_SH_ELEMS)) return NULL;
  for (int64_t i = 0; i < len; i++) e[i] = sd_dim_const(sd_sh_tab(n), sd_dtype_get_i64(t, c->data, 0));
  sd_sh_set_elems(n, 0, e, (uint32_t)len);
  return NULL;
}

sd_expr *sd_pull_constant_of_shape(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)idx;
  sd_dtype t = n->out[out]->dtype, ct = sd_compute_type(t);
  const sd_const *c = fill_value(n);
  if (!c) return sd_x_f(b->k, ct, 0);
  if (sd_dtype_is_float(t)) return sd_x_f(b->k, ct, sd_dtype_get_f64(t, c->data, 0));
  return sd_x_i(b->k, ct, sd_dtype_get_i64(t, c->data, 0));
}

// ---- Range ----
// Bounds that only the run knows: start + delta * (0, 1, ... up to a number that is a symbol).
static sard_status *range_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dtype t = n->in[0]->dtype, ct = sd_dtype_is_float(t) ? sd_compute_type(t) : t;
  sd_dim e[1], zero = sd_dim_const(sd_sh_tab(n), 0), one = sd_dim_const(sd_sh_tab(n), 1);
  uint32_t count;
  sd_value *number = sd_xg_sizes(&g, SD_SIZES_RANGE, n->in, 3, NULL, 0, 1);
  if (!number || !sd_value_elems(number, e, 1, &count)) return g.st ? sd_xg_take(&g) : SD_SH_ERR(n, INTERNAL, "a range without a number");
  sd_value *i = XG(&g, "Range", sd_xg_dims(&g, &zero, -1), sd_xg_dims(&g, e, -1), sd_xg_dims(&g, &one, -1));
  sd_value *x = XG(&g, "Mul", sd_xg_cast(&g, ct, i), sd_xg_cast(&g, ct, n->in[2])), *start = sd_xg_cast(&g, ct, n->in[0]);
  if (ct == t) return sd_xg_become(&g, "Add", (sd_value *[]){start, x}, 2);
  return sd_xg_become(&g, sd_xg_fmt(&g, "Cast to=%d", (int)t), (sd_value *[]){XG(&g, "Add", start, x)}, 1);
}

// Number of steps of a range of float constants.
static bool float_steps(const sd_node *n, double *v, double *out) {
  uint32_t count;
  for (uint32_t i = 0; i < 3; i++)
    if (!sd_sh_floats(n, i, &v[i], 1, &count) || count != 1) return false;
  *out = v[2] != 0 ? __builtin_ceil((v[1] - v[0]) / v[2]) : __builtin_nan("");
  return true;
}

static sard_status *range_of_floats(sd_node *n) {
  double v[3], len;
  if (!float_steps(n, v, &len)) return range_open(n);
  if (!(len <= 1e15)) return SD_SH_ERR(n, MODEL, "a range from %g to %g by %g", v[0], v[1], v[2]);
  sd_dim d = sd_dim_const(sd_sh_tab(n), len > 0 ? (int64_t)len : 0);
  return sd_sh_set(n, 0, n->in[0]->dtype, 1, &d);
}

// A bound as dim: known contents, or a float constant that is a whole number.
static bool whole(const sd_node *n, uint32_t operand, sd_dim *out) {
  uint32_t count = 0;
  double f;
  if (sd_sh_try_elems(n, operand, out, 1, &count)) return count == 1;
  if (!sd_sh_floats(n, operand, &f, 1, &count) || count != 1 || !(f > -1e15 && f < 1e15) || f != (double)(int64_t)f)
    return false;
  *out = sd_dim_const(sd_sh_tab(n), (int64_t)f);
  return true;
}

sard_status *sd_shape_range(sd_node *n) {
  sd_dim e[3], r[SD_SH_ELEMS];
  int64_t step, len;
  sd_dimtab *t = sd_sh_tab(n);
  for (uint32_t i = 0; i < 3; i++) SD_TRY(sd_sh_rank(n, i, 0, 1));
  if (!sd_dtype_is_float(n->in[0]->dtype) && (!whole(n, 2, &e[2]) || !sd_dim_is_const(t, e[2], NULL))) return range_open(n);
  for (uint32_t i = 0; i < 3; i++) {
    if (whole(n, i, &e[i])) continue;
    uint32_t count;
    if (sd_dtype_is_float(n->in[0]->dtype)) return range_of_floats(n);
    SD_TRY(sd_sh_elems(n, i, &e[i], 1, &count));
    if (count != 1) return SD_SH_ERR(n, MODEL, "operand '%s' has no element", sd_sh_operand(n, i));
  }
  if (!sd_dim_is_const(t, e[2], &step)) return range_open(n);
  if (step == 0) return SD_SH_ERR(n, MODEL, "a range by steps of 0");
  sd_dim count = sd_sh_range(t, e[0], e[1], step);
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, 1, &count));
  if (!sd_dim_is_const(t, count, &len) || len > SD_SH_ELEMS) return NULL;
  for (int64_t i = 0; i < len; i++)
    r[i] = sd_dim_add(t, e[0], sd_dim_mul(t, e[2], sd_dim_const(t, i)));
  sd_sh_set_elems(n, 0, r, (uint32_t)len);
  return NULL;
}

static sd_expr *load_first(sd_tb *b, const sd_node *n, uint32_t operand) {
  sd_expr *zero[1] = {x_int(b, 0)};
  return sd_tb_load(b, n, operand, zero);
}

sd_expr *sd_pull_range(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_dtype ct = sd_compute_type(n->out[out]->dtype);
  sd_expr *start = load_first(b, n, 0), *delta = load_first(b, n, 2);
  return x_add(b, start, x_mul(b, x_cast(b, ct, idx[0]), delta));
}

// ---- EyeLike, OneHot ----
sard_status *sd_shape_eye_like(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  int64_t t = sd_node_int(n, "dtype", n->in[0]->dtype);
  if (t <= 0 || t >= SD_DT_COUNT || !sd_dtype_bits((sd_dtype)t)) return SD_SH_ERR(n, MODEL, "dtype %lld", (long long)t);
  return sd_sh_set(n, 0, (sd_dtype)t, 2, n->in[0]->dims);
}

sd_expr *sd_pull_eye_like(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *on = x_bin(b, SD_X_EQ, x_add(b, idx[0], x_int(b, sd_node_int(n, "k", 0))), idx[1]);
  return sd_tb_real(b, n->out[out]->dtype, x_cast(b, sd_compute_type(n->out[out]->dtype), on));
}

// A depth of any type that only the run knows.
static sard_status *open_depth(sd_node *n, sd_dim *out) {
  XG_SCOPE xg g = {.at = n};
  uint32_t count = 0;
  sd_value *depth = sd_xg_sizes(&g, SD_SIZES_NUMBER, &n->in[1], 1, NULL, 0, 1);
  if (depth) sd_node_set_input(n, 1, depth);
  if (depth && sd_value_elems(depth, out, 1, &count)) return NULL;
  return g.st ? sd_xg_take(&g) : SD_SH_ERR(n, INTERNAL, "a depth without a number");
}

sard_status *sd_shape_one_hot(sd_node *n) {
  sd_dim depth, dims[SD_MAX_RANK];
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK - 1));
  SD_TRY(sd_sh_rank(n, 2, 1, 1));
  int rank = n->in[0]->rank + 1;
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -1), rank, &axis));
  if (!whole(n, 1, &depth)) SD_TRY(open_depth(n, &depth));
  for (int i = 0; i < rank; i++) dims[i] = i == axis ? depth : n->in[0]->dims[i < axis ? i : i - 1];
  return sd_sh_set(n, 0, n->in[2]->dtype, rank, dims);
}

sd_expr *sd_pull_one_hot(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  int axis, rank = n->out[out]->rank;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = sd_sh_axis(n, sd_node_int(n, "axis", -1), rank, &axis);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < rank; i++)
    if (i != axis) at[i < axis ? i : i - 1] = idx[i];
  sd_expr *i = x_cast(b, SD_I64, sd_tb_load(b, n, 0, at)), *depth = x_dim(b, n->out[out]->dims[axis]);
  i = x_sel(b, x_bin(b, SD_X_LT, i, x_int(b, 0)), x_add(b, i, depth), i);
  sd_expr *zero[1] = {x_int(b, 0)}, *one[1] = {x_int(b, 1)};
  return x_sel(b, x_bin(b, SD_X_EQ, i, idx[axis]), sd_tb_load(b, n, 2, one), sd_tb_load(b, n, 2, zero));
}
