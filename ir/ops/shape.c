// Tools for shape functions: operands and their contents as dims, axes, broadcasting, setting outputs with errors.
#include "ir/ops/shape.h"

sd_dimtab *sd_sh_tab(const sd_node *n) { return n->graph->module->dims; }

sd_value *sd_sh_in(const sd_node *n, uint32_t operand) { return operand < n->n_in ? n->in[operand] : NULL; }

const char *sd_sh_operand(const sd_node *n, uint32_t operand) {
  const sd_op *op = n->op;
  if (!op->n_in) return "?";
  return op->ins[operand < op->n_in ? operand : op->n_in - 1u].name;
}

static const char *attribute_help(void) { return "give the dims as constants, or export the model with static shapes"; }

// ---- checks ----
sard_status *sd_sh_ranks(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank == SD_RANK_UNKNOWN)
      return SD_SH_ERR(n, UNSUPPORTED, "the rank of operand '%s' is not known", sd_sh_operand(n, i));
  return NULL;
}

sard_status *sd_sh_rank(const sd_node *n, uint32_t operand, int min, int max) {
  const sd_value *v = sd_sh_in(n, operand);
  if (!v) return SD_SH_ERR(n, MODEL, "operand '%s' is missing", sd_sh_operand(n, operand));
  if (v->rank == SD_RANK_UNKNOWN)
    return SD_SH_ERR(n, UNSUPPORTED, "the rank of operand '%s' is not known", sd_sh_operand(n, operand));
  if (v->rank >= min && v->rank <= max) return NULL;
  if (min == max)
    return SD_SH_ERR(n, MODEL, "operand '%s' has rank %d, expected %d", sd_sh_operand(n, operand), v->rank, min);
  return SD_SH_ERR(n, MODEL, "operand '%s' has rank %d, expected %d to %d", sd_sh_operand(n, operand), v->rank, min,
                   max);
}

sard_status *sd_sh_outs(const sd_node *n, uint32_t min) {
  if (n->n_out >= min) return NULL;
  return SD_SH_ERR(n, MODEL, "the node has %u outputs, %u are needed", n->n_out, min);
}

static sard_status *mismatch(const sd_node *n, const char *what, sd_dim a, sd_dim b) {
  sd_str s = {0};
  sd_dim_print(sd_sh_tab(n), a, &s);
  sd_str_put(&s, " and ");
  sd_dim_print(sd_sh_tab(n), b, &s);
  sard_status *st = SD_SH_ERR(n, MODEL, "%s: dims %s do not agree", what, s.p ? s.p : "?");
  sd_str_free(&s);
  return st;
}

sard_status *sd_sh_same(const sd_node *n, sd_dim a, sd_dim b, const char *what, sd_dim *out) {
  const sd_dimtab *t = sd_sh_tab(n);
  if (a == SD_DIM_NONE || b == SD_DIM_NONE) return SD_SH_ERR(n, MODEL, "%s: a dim is too large", what);
  if (a != b && sd_dim_eq(t, a, b) == 0) return mismatch(n, what, a, b);
  sd_node_require(n, a, b, false, *n->name ? n->name : what);
  int64_t v;
  if (!n->graph->owner && sd_dim_is_const(t, b, &v)) sd_dim_set_range(sd_sh_tab(n), a, v, v); // holds for every run
  else if (!n->graph->owner && sd_dim_is_const(t, a, &v)) sd_dim_set_range(sd_sh_tab(n), b, v, v);
  if (out) *out = sd_dim_is_const(t, b, NULL) ? b : a;
  return NULL;
}

// ---- axes ----
sard_status *sd_sh_axis(const sd_node *n, int64_t axis, int rank, int *out) {
  if (axis < -(int64_t)rank || axis >= rank)
    return SD_SH_ERR(n, MODEL, "axis %lld is out of range for rank %d", (long long)axis, rank);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return NULL;
}

sard_status *sd_sh_axes(const sd_node *n, const int64_t *axes, uint32_t count, int rank, int *out) {
  uint32_t seen = 0;
  if (count > (uint32_t)SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "%u axes given, at most %d exist", count, SD_MAX_RANK);
  for (uint32_t i = 0; i < count; i++) {
    SD_TRY(sd_sh_axis(n, axes[i], rank, &out[i]));
    if (seen >> out[i] & 1u) return SD_SH_ERR(n, MODEL, "axis %lld is given twice", (long long)axes[i]);
    seen |= 1u << out[i];
  }
  return NULL;
}

// ---- contents of small operands ----
static bool bool_elems(const sd_node *n, const sd_value *v, sd_dim *out, uint32_t cap, uint32_t *out_n) {
  if (v->data->rank > 1 || v->data->count > cap) return false;
  *out_n = (uint32_t)v->data->count;
  for (uint32_t i = 0; i < *out_n; i++)
    out[i] = sd_dim_const(sd_sh_tab(n), sd_dtype_get_i64(SD_BOOL, v->data->data, i) != 0);
  return true;
}

bool sd_sh_try_elems(const sd_node *n, uint32_t operand, sd_dim *out, uint32_t cap, uint32_t *out_n) {
  const sd_value *v = sd_sh_in(n, operand);
  if (!v) return false;
  if (v->data && v->dtype == SD_BOOL) return bool_elems(n, v, out, cap, out_n);
  if (!v->data && sd_dtype_is_int(v->dtype) && v->rank == 1 && sd_dim_is(sd_sh_tab(n), v->dims[0], 0)) return *out_n = 0, true;
  if (!v->data && v->elems) {
    if (v->n_elems > cap) return false;
    *out_n = v->n_elems;
    memcpy(out, v->elems, v->n_elems * sizeof *out);
  } else if (!sd_value_elems(v, out, cap, out_n)) {
    return false;
  }
  for (uint32_t i = 0; i < *out_n; i++)
    if (out[i] == SD_DIM_NONE) return false;
  return true;
}

// Contents that only the run knows become symbols. Shape functions of rows in this list take negative ones as well.
static bool define_contents(sd_node *n, uint32_t operand) {
  if (strcmp(n->op->name, "Reshape") == 0) return sd_sh_define_reshape(n);
  if (strcmp(n->op->name, "Slice") == 0) return sd_sh_define(n, operand, SD_DEFINE_BOUNDS);
  return sd_sh_define(n, operand, strcmp(n->op->name, "Range") == 0 ? SD_DEFINE_SIGNED : SD_DEFINE_SIZES);
}

sard_status *sd_sh_elems(const sd_node *n, uint32_t operand, sd_dim *out, uint32_t cap, uint32_t *out_n) {
  const sd_value *v = sd_sh_in(n, operand);
  if (!v) return SD_SH_ERR(n, MODEL, "operand '%s' is missing", sd_sh_operand(n, operand));
  if (sd_sh_try_elems(n, operand, out, cap, out_n)) return NULL;
  if (define_contents((sd_node *)n, operand) && sd_sh_try_elems(n, operand, out, cap, out_n)) return NULL;
  sard_status *st = SD_SH_ERR(n, UNSUPPORTED, "the shape depends on the contents of '%s'%s%s", sd_sh_operand(n, operand),
                              v->name && v->name[0] ? ", value " : "", v->name ? v->name : "");
  return sd_status_field(st, SARD_TEXT_HINT, "%s", attribute_help());
}

static bool all_numbers(const sd_node *n, const sd_dim *e, uint32_t count, int64_t *out) {
  for (uint32_t i = 0; i < count; i++)
    if (!sd_dim_is_const(sd_sh_tab(n), e[i], &out[i])) return false;
  return true;
}

bool sd_sh_try_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n) {
  sd_dim e[SD_SH_ELEMS];
  if (cap > SD_SH_ELEMS) cap = SD_SH_ELEMS;
  return sd_sh_try_elems(n, operand, e, cap, out_n) && all_numbers(n, e, *out_n, out);
}

sard_status *sd_sh_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n) {
  sd_dim e[SD_SH_ELEMS];
  if (cap > SD_SH_ELEMS) cap = SD_SH_ELEMS;
  SD_TRY(sd_sh_elems(n, operand, e, cap, out_n));
  if (all_numbers(n, e, *out_n, out)) return NULL;
  sard_status *st = SD_SH_ERR(n, UNSUPPORTED, "operand '%s' must be constant", sd_sh_operand(n, operand));
  return sd_status_field(st, SARD_TEXT_HINT, "%s", attribute_help());
}

sard_status *sd_sh_int(const sd_node *n, uint32_t operand, int64_t *out) {
  int64_t v[1];
  uint32_t count = 0;
  if (!sd_sh_in(n, operand)) return NULL;
  SD_TRY(sd_sh_ints(n, operand, v, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "operand '%s' must have one element", sd_sh_operand(n, operand));
  *out = v[0];
  return NULL;
}

bool sd_sh_floats(const sd_node *n, uint32_t operand, double *out, uint32_t cap, uint32_t *out_n) {
  const sd_value *v = sd_sh_in(n, operand);
  if (!v || !v->data || !sd_dtype_is_float(v->data->dtype) || v->data->count > cap) return false;
  *out_n = (uint32_t)v->data->count;
  for (uint32_t i = 0; i < *out_n; i++) out[i] = sd_dtype_get_f64(v->data->dtype, v->data->data, i);
  return true;
}

sard_status *sd_sh_node(sd_node *at, const char *name, sd_value *const *in, uint32_t n_in, uint32_t n_out,
                        sd_node **out) {
  const sd_op *op = sd_op_find(name);
  if (!op) return SD_SH_ERR(at, UNSUPPORTED, "the operator %s, which it needs, is not known", name);
  *out = sd_node_new(at->graph, at, op, in, n_in, n_out);
  (*out)->name = at->name, (*out)->onnx_index = at->onnx_index;
  return NULL;
}

// ---- outputs ----
sard_status *sd_sh_set(sd_node *n, uint32_t out, sd_dtype t, int rank, const sd_dim *dims) {
  if (out >= n->n_out || !n->out[out]) return NULL;
  const sd_dimtab *tab = sd_sh_tab(n);
  if (rank < 0 || rank > SD_MAX_RANK)
    return SD_SH_ERR(n, UNSUPPORTED, "the output has rank %d, at most %d is supported", rank, SD_MAX_RANK);
  for (int i = 0; i < rank; i++) {
    int64_t v = 0;
    if (dims[i] == SD_DIM_NONE) return SD_SH_ERR(n, MODEL, "dim %d of the output is too large", i);
    if (sd_dim_is_const(tab, dims[i], &v) && v < 0)
      return SD_SH_ERR(n, MODEL, "dim %d of the output would be %lld", i, (long long)v);
  }
  if (rank && sd_dim_product(sd_sh_tab(n), dims, rank) == SD_DIM_NONE)
    return SD_SH_ERR(n, MODEL, "the output has too many elements");
  sd_value_set_type(n->out[out], t, rank, dims);
  n->out[out]->elems = NULL;
  n->out[out]->n_elems = 0;
  return NULL;
}

sard_status *sd_sh_set_value(sd_node *n, uint32_t out, const sd_value *v) {
  SD_TRY(sd_sh_set(n, out, v->dtype, v->rank, v->dims));
  if (out < n->n_out && n->out[out]) n->out[out]->object = v->object;
  return NULL;
}

sard_status *sd_sh_set_object(sd_node *n, uint32_t out, const sd_otype *t) {
  if (!t) return SD_SH_ERR(n, MODEL, "the types of the values do not fit together");
  if (out < n->n_out && n->out[out]) sd_value_set_object(n->out[out], t);
  return NULL;
}

sard_status *sd_sh_like(sd_node *n, uint32_t out, uint32_t operand) {
  SD_TRY(sd_sh_rank(n, operand, 0, SD_MAX_RANK));
  return sd_sh_set_value(n, out, n->in[operand]);
}

void sd_sh_set_elems(sd_node *n, uint32_t out, const sd_dim *elems, uint32_t count) {
  if (out >= n->n_out || !n->out[out] || n->out[out]->rank > 1 || count > SD_SH_ELEMS) return;
  for (uint32_t i = 0; i < count; i++)
    if (elems[i] == SD_DIM_NONE) return;
  sd_arena *a = n->graph->module->arena;
  sd_dim *copy = SD_NEW_ARRAY(a, sd_dim, count ? count : 1);
  if (count) memcpy(copy, elems, count * sizeof *copy);
  n->out[out]->elems = copy;
  n->out[out]->n_elems = count;
}

sard_status *sd_sh_bytes(const sd_node *n, uint32_t operand) {
  sd_dtype t = n->in[operand]->dtype;
  return sd_dtype_bits(t) == 8 ? NULL : SD_SH_ERR(n, MODEL, "operand '%s' is %s, expected a type of 8 bits", sd_sh_operand(n, operand), sd_dtype_name(t));
}

sard_status *sd_sh_one(const sd_node *n, uint32_t operand) {
  const sd_value *v = sd_sh_in(n, operand);
  for (int i = 0; v && i < v->rank; i++)
    SD_TRY(sd_sh_same(n, v->dims[i], sd_dim_const(sd_sh_tab(n), 1), sd_sh_operand(n, operand), NULL));
  return NULL;
}

sard_status *sd_sh_fed(const sd_node *n, sd_dim from, sd_dim to) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_dimnode *f = from ? sd_dim_get(t, from) : NULL;
  if (!f || !to || f->min >= 1) return NULL; // a dim that overflows is reported elsewhere
  sd_dim one = sd_dim_const(t, 1), some = sd_dim_min(t, one, to), both = sd_dim_mul(t, some, sd_dim_min(t, one, from));
  if (some != both && sd_dim_eq(t, some, both) == 0) return SD_SH_ERR(n, MODEL, "elements are made of a dim of size 0");
  sd_node_require(n, both, some, false, *n->name ? n->name : n->op->name);
  return NULL;
}

// ---- broadcasting ----
// Is b the dim a, cut at something above 1 (a table of positions sliced to the length of the text), or not below 0, which no
// size is? Then neither is 1 alone.
static bool cut(const sd_dimtab *t, sd_dim a, sd_dim b) {
  const sd_dimnode *x = sd_dim_get(t, b);
  if (x->n != 2 || (x->args[0] != a && x->args[1] != a)) return false;
  const sd_dimnode *other = sd_dim_get(t, x->args[x->args[0] == a]);
  return (x->op == SD_DIM_MIN && other->min > 1) || (x->op == SD_DIM_MAX && other->max <= 0);
}

sard_status *sd_sh_bcast_dim(const sd_node *n, sd_dim a, sd_dim b, sd_dim *out) {
  sd_dimtab *t = sd_sh_tab(n);
  if (a == SD_DIM_NONE || b == SD_DIM_NONE) return SD_SH_ERR(n, MODEL, "a dim is too large");
  bool ca = sd_dim_is_const(t, a, NULL), cb = sd_dim_is_const(t, b, NULL);
  sd_dim one = sd_dim_const(t, 1);
  bool a_cut = cut(t, b, a), same = a_cut || cut(t, a, b);
  sd_node_require(n, a, b, !same, *n->name ? n->name : n->op->name);
  if (same) {
    *out = a_cut ? b : a;
  } else if (a == b || sd_dim_is(t, b, 1)) {
    *out = a;
  } else if (sd_dim_is(t, a, 1)) {
    *out = b;
  } else if (ca && cb) {
    return mismatch(n, "broadcasting", a, b);
  } else if (ca || sd_dim_lt(t, one, a) == 1) {
    *out = a; // more than 1: b is the same or 1
  } else if (cb || sd_dim_lt(t, one, b) == 1) {
    *out = b;
  } else {
    *out = sd_dim_bcast(t, a, b);
  }
  return NULL;
}

sard_status *sd_sh_bcast(const sd_node *n, sd_dim *dims, int *io_rank, const sd_dim *b, int rank_b) {
  int ra = *io_rank;
  if (rank_b > ra) {
    memmove(dims + (rank_b - ra), dims, (size_t)ra * sizeof *dims);
    memcpy(dims, b, (size_t)(rank_b - ra) * sizeof *dims);
    *io_rank = rank_b;
  }
  int common = ra < rank_b ? ra : rank_b;
  for (int i = 1; i <= common; i++)
    SD_TRY(sd_sh_bcast_dim(n, dims[*io_rank - i], b[rank_b - i], &dims[*io_rank - i]));
  return NULL;
}

sard_status *sd_sh_bcast_operands(const sd_node *n, uint32_t first, uint32_t last, sd_dim *dims, int *out_rank) {
  *out_rank = 0;
  SD_TRY(sd_sh_ranks(n));
  for (uint32_t i = first; i < last && i < n->n_in; i++)
    if (n->in[i]) SD_TRY(sd_sh_bcast(n, dims, out_rank, n->in[i]->dims, n->in[i]->rank));
  return NULL;
}

sd_dim sd_sh_range(sd_dimtab *t, sd_dim start, sd_dim limit, int64_t step) {
  sd_dim len = step > 0 ? sd_dim_sub(t, limit, start) : sd_dim_sub(t, start, limit);
  if (step == INT64_MIN) step++; // any larger range is impossible
  len = sd_dim_ceildiv(t, len, sd_dim_const(t, step > 0 ? step : -step));
  return sd_dim_max(t, len, sd_dim_const(t, 0));
}

// ---- index expressions ----
sd_expr *sd_sh_x(sd_kernel *k, int64_t v) { return sd_x_i(k, SD_I64, v); }

sd_expr *sd_sh_bcast_index(sd_kernel *k, sd_expr *idx, sd_dim extent, sd_dim over) {
  sd_dim one = sd_dim_const(k->dims, 1);
  if (extent == one) return sd_sh_x(k, 0);
  if (extent == over || sd_dim_is_const(k->dims, extent, NULL) || sd_dim_lt(k->dims, one, extent) == 1) return idx;
  sd_expr *is_one = sd_x_bin(k, SD_X_EQ, sd_x_dim(k, extent), sd_sh_x(k, 1));
  return sd_x_sel(k, is_one, sd_sh_x(k, 0), idx);
}

// ---- shape functions of rows ----
sard_status *sd_shape_same(sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++) SD_TRY(sd_sh_like(n, i, 0));
  return NULL;
}

sard_status *sd_shape_broadcast(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  int rank = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_bcast_operands(n, 0, n->n_in, dims, &rank));
  return sd_sh_set(n, 0, n->in[0]->dtype, rank, dims);
}

sard_status *sd_shape_unsupported(sd_node *n) {
  return SD_SH_ERR(n, UNSUPPORTED, "the shape of the output of %s depends on the contents of '%s'", n->op->name,
                   sd_sh_operand(n, 0));
}
