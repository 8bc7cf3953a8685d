// Matrix products by integers of 8 bits times a scale, or one for each column, are scaled behind the product: on
// machines that multiply such integers by f32 with half the work (codegen/triple.h), and where products widen the
// integers as they read them: those of few rows, and of constants that are too large to become f32:
//
//   MatMul(x, Mul(Cast(w), scales))               = Mul(MatMul(x, Cast(w)), scales)
//   MatMul(x, DequantizeLinear(w, scales, zeros)) = Mul(MatMul(x, Cast(w) - zeros), scales)
//
// and the same where the dequantized weights are turned.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { LEAST_ROWS = 24 }; // fewer rows are multiplied by vectors

typedef struct weights {
  sd_value *w, *scales, *zeros; // constants, w [K,N], turned [N,K]; zeros NULL: there are none
  bool turned;
} weights;

static bool small_integers(const sd_value *v) {
  return v->data && v->rank == 2 && sd_dtype_is_int(v->dtype) && sd_dtype_bits(v->dtype) <= 8 &&
         v->data->count >= SD_SMALL_WEIGHT;
}

// One number, or one for each column of w.
static bool for_columns(const weights *p, const sd_value *v) {
  uint64_t n = (uint64_t)p->w->data->dims[!p->turned];
  return v->data && (v->data->count == 1 || v->data->count == n);
}

// The same of an operand that is broadcast.
static bool beside_columns(const weights *p, const sd_value *v) {
  if (!for_columns(p, v) || v->rank > 2) return false;
  return v->data->count == 1 ||
         (p->turned ? v->rank == 2 && v->data->dims[1] == 1 : v->data->dims[v->rank - 1] != 1);
}

static bool dequantized(const sd_node *d, weights *p) {
  int64_t axis = sd_node_int(d, "axis", 1);
  p->w = d->in[0], p->scales = d->in[1], p->zeros = d->n_in > 2 ? d->in[2] : NULL;
  if (!small_integers(p->w) || sd_node_int(d, "block_size", 0) || !for_columns(p, p->scales)) return false;
  if (p->zeros && sd_value_is_zero(p->zeros)) p->zeros = NULL;
  if (p->zeros && !for_columns(p, p->zeros)) return false;
  return p->scales->data->count == 1 || (axis < 0 ? axis + 2 : axis) == !p->turned;
}

static bool scaled(const sd_node *m, weights *p) {
  for (int i = 0; i < 2; i++) {
    const sd_node *c = m->in[i]->def;
    if (!sd_edit_is(c, "Cast") || !sd_edit_only_use(c->out[0])) continue;
    p->w = c->in[0], p->scales = m->in[1 - i];
    return small_integers(p->w) && beside_columns(p, p->scales);
  }
  return false;
}

static bool fits(const sd_node *n, const sd_pass_target *g, weights *p) {
  sd_dimtab *t = n->graph->module->dims;
  int64_t rows;
  *p = (weights){0};
  if (!sd_edit_is(n, "MatMul") || sd_node_int(n, "transB", 0) || n->in[0]->rank < 2 ||
      n->out[0]->dtype != SD_F32)
    return false;
  if (!sd_dim_is_const(t, sd_dim_product(t, n->in[0]->dims, n->in[0]->rank - 1), &rows)) rows = 0;
  const sd_node *d = sd_edit_matrix_source(n, &p->turned);
  if (!d || d->out[0]->dtype != SD_F32) return false;
  if (!(sd_edit_is(d, "DequantizeLinear") ? dequantized(d, p) : sd_edit_is(d, "Mul") && scaled(d, p)))
    return false;
  return (!p->zeros && sd_edit_widens(n, p->w, g)) || (rows >= LEAST_ROWS && g->bf16_parts);
}

// Numbers for the columns as a vector of f32.
static sd_value *numbers(xg *g, sd_value *v) {
  sd_dim count = sd_dim_const(sd_sh_tab(g->at), (int64_t)v->data->count);
  return sd_xg_cast(g, SD_F32, sd_xg_reshape(g, v, &count, 1));
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *t, bool *done) {
  XG_SCOPE xg g = {.at = n};
  weights p;
  *done = fits(n, t, &p);
  if (!*done) return NULL;
  sd_value *w = sd_xg_cast(&g, SD_F32, p.turned ? XG(&g, "Transpose perm=1,0", p.w) : p.w);
  if (p.zeros) w = XG(&g, "Sub", w, numbers(&g, p.zeros));
  sd_value *y = XG(&g, "Mul", XG(&g, "MatMul", n->in[0], w), numbers(&g, p.scales));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_pass_scales(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.bf16_parts || o->target.wide_rows ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
