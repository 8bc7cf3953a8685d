// Movement by index tensors: Gather and Scatter in their forms.
#include "ir/ops.h"
#include "ir/ops/xbuild.h"

// An element of an index tensor as checked position in [0, d): negative ones count from the end.
static sd_expr *wrapped(sd_tb *b, sd_expr *i, sd_dim d) {
  int64_t c, v;
  double f;
  i = x_cast(b, SD_I64, i);
  if (!i) return NULL;
  if (sd_x_const_value(i, &f, &c) && sd_dim_is_const(b->dims, d, &v) && c >= -v && c < v)
    return x_int(b, c < 0 ? c + v : c);
  i = x_sel(b, x_bin(b, SD_X_LT, i, x_int(b, 0)), x_add(b, i, x_dim(b, d)), i);
  return i ? sd_x_index(b->k, i, d) : NULL;
}

// Index operand at `at`: a number where the operand is one known element, else its load.
static sd_expr *load_index(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *at) {
  int64_t v[1];
  uint32_t count = 0;
  if (sd_sh_try_ints(n, operand, v, 1, &count) && count == 1) return x_int(b, v[0]);
  return sd_tb_load(b, n, operand, at);
}

// ---- Gather ----
static sard_status *axis_of(const sd_node *n, int *out) {
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 0, SD_MAX_RANK));
  return sd_sh_axis(n, sd_node_int(n, "axis", 0), n->in[0]->rank, out);
}

static void gather_elems(sd_node *n) {
  sd_dim e[SD_SH_ELEMS], r[SD_SH_ELEMS];
  int64_t i[SD_SH_ELEMS];
  uint32_t known = 0, count = 0;
  if (n->in[0]->rank != 1 || n->in[1]->rank > 1 || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &known) ||
      !sd_sh_try_ints(n, 1, i, SD_SH_ELEMS, &count))
    return;
  for (uint32_t k = 0; k < count; k++) {
    int64_t at = i[k] < 0 ? i[k] + known : i[k];
    if (at < 0 || at >= (int64_t)known) return;
    r[k] = e[at];
  }
  sd_sh_set_elems(n, 0, r, count);
}

sard_status *sd_shape_gather(sd_node *n) {
  int axis;
  sd_dim dims[2 * SD_MAX_RANK];
  SD_TRY(axis_of(n, &axis));
  const sd_value *x = n->in[0], *i = n->in[1];
  int rank = x->rank + i->rank - 1, at = 0;
  for (int d = 0; d < axis; d++) dims[at++] = x->dims[d];
  for (int d = 0; d < i->rank; d++) dims[at++] = i->dims[d];
  for (int d = axis + 1; d < x->rank; d++) dims[at++] = x->dims[d];
  SD_TRY(sd_sh_set(n, 0, x->dtype, rank, dims));
  gather_elems(n);
  return NULL;
}

sd_expr *sd_pull_gather(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int axis;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = axis_of(n, &axis);
  if (st) return sd_tb_fail(b, st);
  const sd_value *x = n->in[0];
  for (int d = 0; d < axis; d++) at[d] = idx[d];
  at[axis] = wrapped(b, load_index(b, n, 1, idx + axis), x->dims[axis]);
  for (int d = axis + 1; d < x->rank; d++) at[d] = idx[d - 1 + n->in[1]->rank];
  return at[axis] ? sd_tb_load(b, n, 0, at) : NULL;
}

// ---- GatherElements ----
sard_status *sd_shape_gather_elements(sd_node *n) {
  int axis;
  SD_TRY(axis_of(n, &axis));
  SD_TRY(sd_sh_rank(n, 1, n->in[0]->rank, n->in[0]->rank));
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[1]->rank, n->in[1]->dims);
}

// The other positions are checked as well where the operand may be smaller than the indices.
static void checked_others(sd_tb *b, const sd_value *x, const sd_value *like, int axis, sd_expr **at) {
  for (int d = 0; d < x->rank; d++)
    if (d != axis && x->dims[d] != like->dims[d] && sd_dim_lt(b->dims, x->dims[d], like->dims[d]) != 0)
      at[d] = sd_x_index(b->k, at[d], x->dims[d]);
}

sd_expr *sd_pull_gather_elements(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int axis;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = axis_of(n, &axis);
  if (st) return sd_tb_fail(b, st);
  memcpy(at, idx, (size_t)n->in[0]->rank * sizeof *at);
  at[axis] = wrapped(b, sd_tb_load(b, n, 1, idx), n->in[0]->dims[axis]);
  if (!at[axis]) return NULL;
  checked_others(b, n->in[0], n->in[1], axis, at);
  return sd_tb_load(b, n, 0, at);
}

// ---- GatherND ----
// Length of the index tuples, and batch_dims.
static sard_status *tuple_length(const sd_node *n, int *out_k, int *out_batch) {
  int64_t k, batch = sd_node_int(n, "batch_dims", 0);
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, SD_MAX_RANK));
  const sd_value *x = n->in[0], *i = n->in[1];
  if (batch < 0 || batch >= i->rank || batch >= x->rank)
    return SD_SH_ERR(n, MODEL, "batch_dims %lld for ranks %d and %d", (long long)batch, x->rank, i->rank);
  if (!sd_dim_is_const(sd_sh_tab(n), i->dims[i->rank - 1], &k))
    return SD_SH_ERR(n, UNSUPPORTED, "the rank of the output depends on the last dim of '%s', which only the run knows", sd_sh_operand(n, 1));
  if (k < 0 || k > x->rank - batch)
    return SD_SH_ERR(n, MODEL, "index tuples of %lld into an operand of rank %d", (long long)k, x->rank);
  *out_k = (int)k;
  *out_batch = (int)batch;
  return NULL;
}

sard_status *sd_shape_gather_nd(sd_node *n) {
  int k, batch, at = 0;
  sd_dim dims[2 * SD_MAX_RANK];
  SD_TRY(tuple_length(n, &k, &batch));
  const sd_value *x = n->in[0], *i = n->in[1];
  for (int d = 0; d < batch; d++) SD_TRY(sd_sh_same(n, x->dims[d], i->dims[d], "batch dims", NULL));
  for (int d = 0; d < i->rank - 1; d++) dims[at++] = i->dims[d];
  for (int d = batch + k; d < x->rank; d++) dims[at++] = x->dims[d];
  return sd_sh_set(n, 0, x->dtype, at, dims);
}

sd_expr *sd_pull_gather_nd(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int k, batch;
  sd_expr *at[SD_MAX_RANK], *where[SD_MAX_RANK];
  sard_status *st = tuple_length(n, &k, &batch);
  if (st) return sd_tb_fail(b, st);
  const sd_value *x = n->in[0];
  int ri = n->in[1]->rank;
  memcpy(where, idx, (size_t)(ri - 1) * sizeof *where);
  for (int d = 0; d < batch; d++) at[d] = idx[d];
  for (int j = 0; j < k; j++) {
    where[ri - 1] = x_int(b, j);
    at[batch + j] = wrapped(b, sd_tb_load(b, n, 1, where), x->dims[batch + j]);
    if (!at[batch + j]) return NULL;
  }
  for (int d = batch + k; d < x->rank; d++) at[d] = idx[ri - 1 + d - batch - k];
  return sd_tb_load(b, n, 0, at);
}

// ---- Scatter ----
typedef struct reduction { const char *name; bool combine; sd_xop op; } reduction;

static sard_status *reduction_of(const sd_node *n, reduction *out) {
  static const reduction table[] = {{"none", false, SD_X_ADD}, {"add", true, SD_X_ADD}, {"mul", true, SD_X_MUL},
                                    {"min", true, SD_X_MIN},   {"max", true, SD_X_MAX}};
  const char *name = sd_node_str(n, "reduction", "none");
  size_t i = 0;
  while (i < sizeof table / sizeof *table && strcmp(table[i].name, name)) i++;
  if (i == sizeof table / sizeof *table) return SD_SH_ERR(n, MODEL, "unknown reduction '%s'", name);
  *out = table[i];
  sd_dtype t = n->in[0]->dtype;
  bool sum = out->op == SD_X_ADD && sd_dtype_kind_of(t) == SD_DK_C; // of each part
  if (out->combine && !sum && !sd_op_class_has('R', t))
    return SD_SH_ERR(n, UNSUPPORTED, "reduction '%s' of elements of type %s", name, sd_dtype_name(t));
  return NULL;
}

// One size of a shape is replaced, as torch's index_copy makes that of its indices.
static void scatter_elems(sd_node *n) {
  sd_dim e[SD_SH_ELEMS], by;
  int64_t at;
  uint32_t known, count;
  if (n->in[0]->rank != 1 || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &known) || !sd_sh_try_ints(n, 1, &at, 1, &count) ||
      count != 1 || !sd_sh_try_elems(n, 2, &by, 1, &count) || count != 1)
    return;
  at += at < 0 ? known : 0;
  if (at < 0 || at >= known) return; // the run says so
  e[at] = by;
  sd_sh_set_elems(n, 0, e, known);
}

sard_status *sd_shape_scatter_elements(sd_node *n) {
  int axis;
  reduction r;
  SD_TRY(axis_of(n, &axis));
  SD_TRY(reduction_of(n, &r));
  SD_TRY(sd_sh_rank(n, 1, n->in[0]->rank, n->in[0]->rank));
  SD_TRY(sd_sh_rank(n, 2, n->in[0]->rank, n->in[0]->rank));
  for (int d = 0; d < n->in[0]->rank; d++)
    SD_TRY(sd_sh_same(n, n->in[1]->dims[d], n->in[2]->dims[d], "indices and updates", NULL));
  SD_TRY(sd_sh_like(n, 0, 0));
  if (!r.combine) scatter_elems(n);
  return NULL;
}

static sard_status *scatter_tuple(const sd_node *n, int *out_k) {
  int64_t k;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, SD_MAX_RANK));
  const sd_value *x = n->in[0], *i = n->in[1];
  if (!sd_dim_is_const(sd_sh_tab(n), i->dims[i->rank - 1], &k)) { // the ranks tell
    SD_TRY(sd_sh_rank(n, 2, 0, SD_MAX_RANK));
    k = i->rank - 1 + x->rank - n->in[2]->rank;
    SD_TRY(sd_sh_same(n, i->dims[i->rank - 1], sd_dim_const(sd_sh_tab(n), k), "the length of index tuples", NULL));
  }
  if (k < 0 || k > x->rank) return SD_SH_ERR(n, MODEL, "index tuples of %lld for rank %d", (long long)k, x->rank);
  *out_k = (int)k;
  return sd_sh_rank(n, 2, i->rank - 1 + x->rank - *out_k, i->rank - 1 + x->rank - *out_k);
}

sard_status *sd_shape_scatter_nd(sd_node *n) {
  int k;
  reduction r;
  SD_TRY(scatter_tuple(n, &k));
  SD_TRY(reduction_of(n, &r));
  const sd_value *x = n->in[0], *i = n->in[1], *u = n->in[2];
  for (int d = 0; d < u->rank; d++) {
    sd_dim want = d < i->rank - 1 ? i->dims[d] : x->dims[k + d - (i->rank - 1)];
    SD_TRY(sd_sh_same(n, u->dims[d], want, "updates", NULL));
  }
  return sd_sh_like(n, 0, 0);
}

// A nest over all elements of v; at gets the axes.
static sd_nest *nest_over(sd_tb *b, const sd_value *v, sd_expr **at) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  for (int d = 0; d < v->rank; d++) {
    sd_axis *a = sd_kernel_axis(b->k, "i", v->dims[d]);
    sd_nest_axis(nest, a);
    at[d] = x_axis(b, a);
  }
  return nest;
}

// One tile: y = x, then the updates one by one, as indices may repeat.
static sd_buf *scatter_start(sd_tb *b, const sd_node *n) {
  sd_expr *at[SD_MAX_RANK];
  sd_buf *y = sd_tb_out(b, n, 0);
  if (!y) return NULL;
  y->readwrite = true;
  sd_axis *one = sd_kernel_axis(b->k, "once", sd_dim_const(b->dims, 1));
  sd_vec_push(b->k->arena, &b->k->grid, one);
  sd_nest *copy = nest_over(b, n->in[0], at);
  sd_expr *x = sd_tb_load(b, n, 0, at);
  if (!x) return NULL;
  sd_nest_store(b->k, copy, y, sd_tb_place(b, n->out[0], sd_tb_offset(b, n->out[0], at)), x, NULL);
  return y;
}

static void scatter_store(sd_tb *b, const sd_node *n, sd_nest *nest, sd_buf *y, sd_expr *offset, sd_expr *update) {
  reduction r;
  sard_status *st = reduction_of(n, &r);
  if (st) return (void)sd_tb_fail(b, st);
  offset = sd_tb_place(b, n->out[0], offset);
  if (!update || !offset) return;
  if (r.combine) {
    sd_expr *old = sd_x_load(b->k, y, offset, NULL);
    if (old->dtype == SD_BOOL) r.op = r.op == SD_X_ADD || r.op == SD_X_MAX ? SD_X_OR : SD_X_AND;
    update = x_bin(b, r.op, old, update);
  }
  sd_nest_store(b->k, nest, y, offset, update, NULL);
}

static sard_status *scatter_rank(const sd_node *n) {
  for (uint32_t i = 0; i < 3; i++)
    if (n->in[i]->rank > SD_MAX_AXES)
      return SD_SH_ERR(n, UNSUPPORTED, "rank %d, at most %d is supported", n->in[i]->rank, SD_MAX_AXES);
  return NULL;
}

sard_status *sd_nests_scatter_elements(sd_tb *b, const sd_node *n) {
  int axis;
  sd_expr *at[SD_MAX_RANK], *to[SD_MAX_RANK];
  SD_TRY(axis_of(n, &axis));
  SD_TRY(scatter_rank(n));
  sd_buf *y = scatter_start(b, n);
  if (!y) return NULL;
  sd_nest *nest = nest_over(b, n->in[2], at);
  nest->sequential = true;
  memcpy(to, at, (size_t)n->in[0]->rank * sizeof *to);
  to[axis] = wrapped(b, sd_tb_load(b, n, 1, at), n->in[0]->dims[axis]);
  if (!to[axis]) return NULL;
  checked_others(b, n->in[0], n->in[2], axis, to);
  scatter_store(b, n, nest, y, sd_tb_offset(b, n->out[0], to), sd_tb_load(b, n, 2, at));
  return NULL;
}

sard_status *sd_nests_scatter_nd(sd_tb *b, const sd_node *n) {
  int k;
  sd_expr *at[SD_MAX_RANK], *to[SD_MAX_RANK], *where[SD_MAX_RANK];
  SD_TRY(scatter_tuple(n, &k));
  SD_TRY(scatter_rank(n));
  sd_buf *y = scatter_start(b, n);
  if (!y) return NULL;
  int ri = n->in[1]->rank;
  sd_nest *nest = nest_over(b, n->in[2], at);
  nest->sequential = true;
  memcpy(where, at, (size_t)(ri - 1) * sizeof *where);
  for (int j = 0; j < k; j++) {
    where[ri - 1] = x_int(b, j);
    to[j] = wrapped(b, sd_tb_load(b, n, 1, where), n->in[0]->dims[j]);
    if (!to[j]) return NULL;
  }
  for (int d = k; d < n->in[0]->rank; d++) to[d] = at[ri - 1 + d - k];
  scatter_store(b, n, nest, y, sd_tb_offset(b, n->out[0], to), sd_tb_load(b, n, 2, at));
  return NULL;
}

// ---- sard.Find ----
sard_status *sd_shape_find(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, 1));
  if (sd_dtype_kind_of(n->in[0]->dtype) == SD_DK_C) return SD_SH_ERR(n, UNSUPPORTED, "keys of type %s", sd_dtype_name(n->in[0]->dtype));
  return sd_sh_set(n, 0, SD_I64, n->in[0]->rank, n->in[0]->dims);
}
