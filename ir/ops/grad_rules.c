// Derivatives that are more than a formula: products, moves, and operators whose attributes matter.
#include <string.h>

#include "ir/ops/grad.h"
#include "ir/ops/grad_rules.h"

static sd_dimtab *table(const sd_grad *r) { return r->g->at->graph->module->dims; }
static int64_t axis_of(const sd_grad *r, int64_t absent) {
  int64_t a = sd_node_int(r->n, "axis", absent);
  return a < 0 ? a + r->n->in[0]->rank : a;
}
static void for_all(sd_grad *r, sd_value *v) {
  for (uint32_t i = 0; i < r->n->n_in; i++)
    if (r->wants[i]) r->dx[i] = v;
}

// ---- several operands ----
void sd_grad_sum(sd_grad *r) { for_all(r, r->dy[0]); }
void sd_grad_mean(sd_grad *r) {
  for_all(r, XG(r->g, "Div", r->dy[0], sd_xg_num(r->g, r->dy[0]->dtype, r->n->n_in)));
}

// dy is shared by the elements that equal the result.
static sd_value *is_result(sd_grad *r, sd_value *x, sd_value *y) { return sd_xg_cast(r->g, r->dy[0]->dtype, XG(r->g, "Equal", x, y)); }
void sd_grad_extreme(sd_grad *r) {
  sd_value *ties = NULL;
  for (uint32_t i = 0; i < r->n->n_in; i++) {
    sd_value *hit = is_result(r, r->n->in[i], r->n->out[0]);
    ties = ties ? XG(r->g, "Add", ties, hit) : hit;
    r->dx[i] = hit;
  }
  sd_value *share = XG(r->g, "Div", r->dy[0], ties);
  for (uint32_t i = 0; i < r->n->n_in; i++) r->dx[i] = r->wants[i] ? XG(r->g, "Mul", r->dx[i], share) : NULL;
}

void sd_grad_reduced_extreme(sd_grad *r) {
  sd_value *hit = NULL;
  bool wants = r->wants[0];
  if (!wants) return;
  sd_grad_reduced(r, "Where(Equal(a, y), 1, 0)");
  hit = r->dx[0];
  uint32_t axes;
  int64_t list[SD_MAX_RANK];
  int n = 0;
  sd_xg_fail(r->g, sd_sh_reduced_axes(r->n, &axes));
  if (!hit || r->g->st) return;
  for (int d = 0; d < r->n->in[0]->rank; d++)
    if (axes >> d & 1) list[n++] = d;
  sd_value *ties = n ? XG(r->g, "ReduceSum keepdims=1", hit, sd_xg_ints(r->g, list, n)) : hit;
  sd_grad_reduced(r, "dy");
  r->dx[0] = XG(r->g, "Div", XG(r->g, "Mul", r->dx[0], hit), ties);
}

// ---- activations ----
void sd_grad_gelu(sd_grad *r) {
  bool tanh = strcmp(sd_node_str(r->n, "approximate", "none"), "tanh") == 0;
  if (!tanh) { // phi(x) + x * density(x)
    sd_grad_text(r, "Mul(dy, Add(Mul(0.5, Add(1, Erf(Mul(0.7071067811865476, a)))), "
                    "Mul(a, Mul(0.3989422804014327, Exp(Mul(-0.5, Mul(a, a)))))))");
    return;
  }
  sd_value *x = r->n->in[0];
  sd_dtype t = x->dtype;
  sd_value *square = XG(r->g, "Mul", x, x), *one = sd_xg_num(r->g, t, 1), *half = sd_xg_num(r->g, t, 0.5);
  sd_value *inner = XG(r->g, "Mul", XG(r->g, "Mul", sd_xg_num(r->g, t, 0.7978845608028654), x),
                       XG(r->g, "Add", one, XG(r->g, "Mul", sd_xg_num(r->g, t, 0.044715), square)));
  sd_value *slope = XG(r->g, "Mul", sd_xg_num(r->g, t, 0.7978845608028654),
                       XG(r->g, "Add", one, XG(r->g, "Mul", sd_xg_num(r->g, t, 3 * 0.044715), square)));
  sd_value *th = XG(r->g, "Tanh", inner);
  sd_value *left = XG(r->g, "Mul", half, XG(r->g, "Add", one, th));
  sd_value *right = XG(r->g, "Mul", XG(r->g, "Mul", XG(r->g, "Mul", half, x), slope), XG(r->g, "Sub", one, XG(r->g, "Mul", th, th)));
  r->dx[0] = XG(r->g, "Mul", r->dy[0], XG(r->g, "Add", left, right));
}

static sd_value *sum_over(sd_grad *r, sd_value *v, int64_t axis) { return XG(r->g, "ReduceSum keepdims=1", v, sd_xg_ints(r->g, &axis, 1)); }

void sd_grad_softmax(sd_grad *r) {
  sd_value *y = r->n->out[0], *dy = r->dy[0];
  r->dx[0] = XG(r->g, "Mul", y, XG(r->g, "Sub", dy, sum_over(r, XG(r->g, "Mul", dy, y), axis_of(r, -1))));
}
void sd_grad_logsoftmax(sd_grad *r) {
  sd_value *dy = r->dy[0];
  r->dx[0] = XG(r->g, "Sub", dy, XG(r->g, "Mul", XG(r->g, "Exp", r->n->out[0]), sum_over(r, dy, axis_of(r, -1))));
}

// ---- products ----
static sd_value *swapped(xg *g, sd_value *v) { // the last two axes
  sd_str s = {0};
  if (!v) return NULL;
  for (int d = 0; d < v->rank; d++) {
    int from = d < v->rank - 2 ? d : 2 * v->rank - 3 - d;
    sd_strf(&s, d ? ",%d" : "%d", from);
  }
  const char *spec = sd_xg_fmt(g, "Transpose perm=%s", s.p ? s.p : "");
  sd_str_free(&s);
  return XG(g, spec, v);
}

static sd_value *unsqueeze(xg *g, sd_value *v, int64_t axis) { return XG(g, "Unsqueeze", v, sd_xg_ints(g, &axis, 1)); }

// Vectors become matrices of one row (left) or one column (right), and their gradients vectors again.
void sd_grad_matmul(sd_grad *r) {
  xg *g = r->g;
  sd_value *a = r->n->in[0], *b = r->n->in[1], *dy = r->dy[0];
  bool row = a->rank == 1, column = b->rank == 1;
  if (column) dy = unsqueeze(g, dy, -1), b = unsqueeze(g, b, 1);
  if (row && dy) dy = unsqueeze(g, dy, -2), a = unsqueeze(g, a, 0);
  if (r->wants[0]) r->dx[0] = XG(g, "MatMul", dy, swapped(g, b));
  if (r->wants[1]) r->dx[1] = XG(g, "MatMul", swapped(g, a), dy);
  if (row && r->dx[0] && !g->st) r->dx[0] = sd_grad_fit(g, r->dx[0], a);
  if (column && r->dx[1] && !g->st) r->dx[1] = sd_grad_fit(g, r->dx[1], b);
  if (row && r->dx[0] && !g->st) r->dx[0] = sd_xg_reshape(g, r->dx[0], r->n->in[0]->dims, 1);
  if (column && r->dx[1] && !g->st) r->dx[1] = sd_xg_reshape(g, r->dx[1], r->n->in[1]->dims, 1);
}

static sd_value *gemm(sd_grad *r, sd_value *a, sd_value *b, int ta, int tb) {
  return XG(r->g, sd_xg_fmt(r->g, "Gemm alpha=%.9g transA=%d transB=%d", (double)sd_node_float(r->n, "alpha", 1), ta, tb), a, b);
}
void sd_grad_gemm(sd_grad *r) {
  sd_value *a = r->n->in[0], *b = r->n->in[1], *dy = r->dy[0];
  int ta = sd_node_int(r->n, "transA", 0) != 0, tb = sd_node_int(r->n, "transB", 0) != 0;
  if (r->wants[0]) r->dx[0] = ta ? gemm(r, b, dy, tb, 1) : gemm(r, dy, b, 0, !tb);
  if (r->wants[1]) r->dx[1] = tb ? gemm(r, dy, a, 1, ta) : gemm(r, a, dy, !ta, 0);
  if (r->n->n_in > 2 && r->wants[2]) r->dx[2] = XG(r->g, "Mul", dy, sd_xg_num(r->g, dy->dtype, sd_node_float(r->n, "beta", 1)));
}

// ---- moves ----
void sd_grad_reshape(sd_grad *r) {
  if (r->wants[0]) r->dx[0] = sd_xg_reshape(r->g, r->dy[0], r->n->in[0]->dims, r->n->in[0]->rank);
}

void sd_grad_transpose(sd_grad *r) {
  const sd_attr *perm = sd_node_attr(r->n, "perm");
  int rank = r->n->in[0]->rank, back[SD_MAX_RANK];
  sd_str s = {0};
  for (int d = 0; d < rank; d++) {
    int64_t from = perm && perm->kind == SD_ATTR_INTS ? perm->ints[d] : rank - 1 - d;
    back[from < 0 ? from + rank : from] = d;
  }
  for (int d = 0; d < rank; d++) sd_strf(&s, d ? ",%d" : "%d", back[d]);
  r->dx[0] = rank ? XG(r->g, sd_xg_fmt(r->g, "Transpose perm=%s", s.p ? s.p : ""), r->dy[0]) : r->dy[0];
  sd_str_free(&s);
}

void sd_grad_concat(sd_grad *r) {
  int64_t axis = axis_of(r, 0);
  sd_dim at = sd_dim_const(table(r), 0);
  for (uint32_t i = 0; i < r->n->n_in; i++) {
    sd_dim end = sd_dim_add(table(r), at, r->n->in[i]->dims[axis]);
    if (r->wants[i])
      r->dx[i] = XG(r->g, "Slice", r->dy[0], sd_xg_dims(r->g, &at, 1), sd_xg_dims(r->g, &end, 1), sd_xg_ints(r->g, &axis, 1));
    at = end;
  }
}

void sd_grad_split(sd_grad *r) {
  sd_value **parts = SD_NEW_ARRAY(r->g->at->graph->module->arena, sd_value *, r->n->n_out);
  for (uint32_t i = 0; i < r->n->n_out; i++) {
    parts[i] = r->dy[i] ? r->dy[i] : r->n->out[i] ? sd_grad_zeros(r->g, r->n->out[i]) : NULL;
    if (!parts[i]) return sd_xg_fail(r->g, SD_SH_ERR(r->g->at, UNSUPPORTED, "the derivative of a Split with an omitted output"));
  }
  r->dx[0] = sd_xg_op(r->g, sd_xg_fmt(r->g, "Concat axis=%lld", (long long)axis_of(r, 0)), parts, r->n->n_out);
}

// dy added at `index` (rank 1) along an axis of zeros like `like`.
static sd_value *put_along(sd_grad *r, sd_value *dy, sd_value *index, const sd_value *like, int axis) {
  xg *g = r->g;
  sd_dim dims[SD_MAX_RANK];
  if (!dy || !index) return NULL;
  for (int d = 0; d < dy->rank; d++) dims[d] = d == axis ? dy->dims[d] : sd_dim_const(table(r), 1);
  sd_value *at = sd_xg_reshape(g, index, dims, dy->rank);
  if (at) at = sd_xg_expand(g, at, dy->dims, dy->rank);
  return XG(g, sd_xg_fmt(g, "ScatterElements axis=%d reduction=add", axis), sd_grad_zeros(g, like), at, dy);
}

// Sliced in the same way, the positions of an axis say where each element came from.
void sd_grad_slice(sd_grad *r) {
  xg *g = r->g;
  const sd_node *n = r->n;
  sd_value *v = r->dy[0];
  const sd_value *x = n->in[0];
  sd_value shape = *x; // of the gradient, with the axes that are put back so far
  memcpy(shape.dims, n->out[0]->dims, sizeof shape.dims);
  for (int d = 0; d < x->rank && !g->st; d++) {
    if (n->out[0]->dims[d] == x->dims[d] && !sd_sh_in(n, 4)) continue; // steps 1 and the same size: all of the axis
    sd_value *zero = sd_xg_num(g, SD_I64, 0), *end = sd_xg_dims(g, &x->dims[d], -1), *one = sd_xg_num(g, SD_I64, 1);
    sd_value *all = XG(g, "Range", zero, end, one);
    if (!all) return;
    sd_dim dims[SD_MAX_RANK];
    for (int k = 0; k < x->rank; k++) dims[k] = k == d ? x->dims[k] : sd_dim_const(table(r), 1);
    sd_value *wide = sd_xg_reshape(g, all, dims, x->rank);
    if (wide) wide = sd_xg_expand(g, wide, x->dims, x->rank);
    sd_value *in[5] = {wide};
    for (uint32_t i = 1; i < n->n_in && i < 5; i++) in[i] = n->in[i];
    sd_value *from = sd_xg_op(g, "Slice", in, n->n_in);
    for (int k = 0; k < x->rank && from; k++)
      if (k != d) from = sd_xg_slice(g, from, k, 0, 1);
    if (from) from = sd_xg_reshape(g, from, &n->out[0]->dims[d], 1);
    shape.dims[d] = x->dims[d];
    v = put_along(r, v, from, &shape, d);
  }
  r->dx[0] = v;
}

void sd_grad_gather(sd_grad *r) {
  xg *g = r->g;
  const sd_value *x = r->n->in[0];
  sd_value *index = r->n->in[1];
  int axis = (int)axis_of(r, 0);
  sd_dim dims[SD_MAX_RANK], count = sd_value_count(index);
  for (int d = 0; d < x->rank; d++) dims[d] = d == axis ? count : x->dims[d];
  sd_value *dy = sd_xg_reshape(g, r->dy[0], dims, x->rank), *flat = sd_xg_reshape(g, index, &count, 1);
  r->dx[0] = put_along(r, dy, flat, x, axis);
}

void sd_grad_gather_elements(sd_grad *r) {
  const char *spec = sd_xg_fmt(r->g, "ScatterElements axis=%lld reduction=add", (long long)axis_of(r, 0));
  r->dx[0] = XG(r->g, spec, sd_grad_zeros(r->g, r->n->in[0]), r->n->in[1], r->dy[0]);
}
