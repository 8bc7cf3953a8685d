// Products with constant weights that are mostly 0 (sard prune) become sard.SparseMatMul where an estimate
// from measured kernels says that it is faster by a margin: MatMul, Gemm, and convolutions of 1x1 with
// channels last. What is not sure stays dense.
#include "passes/edit.h"
#include "passes/simplify/sparse_bytes.h"
#include "passes/simplify/sparse_choose.h"
#include "runtime/base/alloc.h"

#define LEAST 16  // inputs, outputs
#define MOST  0.6 // share of weights that are not 0: more never gained

typedef struct product {
  sd_sparse_weight w;
  sd_value *x, *weight, *bias;
  int64_t rows;
} product;

// ---- what is one ----
static bool matmul(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "MatMul") || !w->data || w->rank != 2 || n->in[0]->rank < 2) return false;
  p->w = (sd_sparse_weight){w->data->data, w->data->dims[0], w->data->dims[1], w->data->dims[1], 1};
  return true;
}

static bool gemm(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "Gemm") || !w->data || w->rank != 2 || sd_node_int(n, "transA", 0)) return false;
  const sd_attr *alpha = sd_node_attr(n, "alpha"), *beta = sd_node_attr(n, "beta");
  if (alpha->f != 1 || beta->f != 1) return false;
  int64_t r = w->data->dims[0], c = w->data->dims[1];
  p->w = sd_node_int(n, "transB", 0) ? (sd_sparse_weight){w->data->data, c, r, 1, c}
                                     : (sd_sparse_weight){w->data->data, r, c, c, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  return true;
}

static bool conv(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "Conv") || !sd_node_int(n, "channels_last", 0) || sd_node_int(n, "group", 1) != 1 ||
      !w->data)
    return false;
  for (int i = 0; i + 2 < w->rank; i++)
    if (w->data->dims[i] != 1) return false;
  if (!sd_edit_all_are(n, "strides", 1) || !sd_edit_all_are(n, "pads", 0)) return false;
  int64_t ic = w->data->dims[w->rank - 2], oc = w->data->dims[w->rank - 1];
  p->w = (sd_sparse_weight){w->data->data, ic, oc, oc, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  return true;
}

static bool read_elsewhere(const sd_value *w, const sd_node *n) {
  if (sd_value_is_output(w)) return true;
  for (uint32_t i = 0; i < w->uses.len; i++)
    if (w->uses.at[i].node != n) return true;
  return false;
}

static bool fits(const sd_node *n, product *p) {
  sd_dimtab *t = n->graph->module->dims;
  *p = (product){.rows = 0};
  if (n->n_in < 2 || !n->in[0] || !n->in[1] || n->n_out != 1) return false;
  if (!matmul(n, p) && !gemm(n, p) && !conv(n, p)) return false;
  p->x = n->in[0], p->weight = n->in[1];
  if (p->weight->dtype != SD_F32 || p->x->dtype != SD_F32 || p->x->data || read_elsewhere(p->weight, n))
    return false;
  if (p->w.k < LEAST || p->w.n < LEAST || !sd_dim_is(t, p->x->dims[p->x->rank - 1], p->w.k)) return false;
  if (p->bias && (p->bias->rank != 1 || !sd_dim_is(t, p->bias->dims[0], p->w.n))) return false;
  if (!sd_dim_eval(t, sd_dim_product(t, p->x->dims, p->x->rank - 1), sd_dim_usual, t, &p->rows)) return false;
  return p->rows >= 1;
}

static sard_status *replace(sd_node *n, const product *p, const sd_sparse_plan *s, sd_arena *scratch) {
  sd_value *in[6] = {p->x};
  sd_module *m = n->graph->module;
  const sd_op *op = sd_op_find("sard.SparseMatMul");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseMatMul");
  SD_TRY(sd_sparse_tables(n->graph, p->weight->name, &p->w, &s->counts, s->part, s->shared, scratch, in + 1));
  sd_const_release(m, p->weight->data, true);
  in[5] = p->bias;
  sd_node *y = sd_node_new(n->graph, n, op, in, p->bias ? 6 : 5, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  sd_node_set_int(y, "n", p->w.n), sd_node_set_int(y, "block", s->counts.block);
  sd_node_set_int(y, "rows", s->tile), sd_node_set_int(y, "inside", s->inside);
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, const sd_sparse_rates *r, sd_arena *scratch, bool *done) {
  product p;
  sd_sparse_plan s;
  *done = fits(n, &p) && sd_sparse_few(&p.w, (int64_t)((double)(p.w.k * p.w.n) * MOST)) &&
          sd_sparse_choose(&p.w, p.rows, r, scratch, &s);
  return *done ? replace(n, &p, &s, scratch) : NULL;
}

typedef struct sparse {
  const sd_pass_options *o;
  sd_pass_report *r;
  sd_arena *scratch;
} sparse;

static sard_status *in_graph(sd_graph *g, void *user) {
  const sparse *s = user;
  for (sd_node *n = g->first, *next; n; n = next) {
    bool done = false;
    next = n->next;
    if (s->o->bisect >= 0 && s->r->rewrites >= s->o->bisect) return NULL;
    sard_status *st = sd_sparse_bytes(n, s->o->target.sparse, &done);
    if (!st && !done) st = rewrite(n, s->o->target.sparse, s->scratch, &done);
    if (st) return sd_node_error(n, st);
    s->r->rewrites += done;
  }
  return NULL;
}

sard_status *sd_pass_sparse(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  sparse s = {o, r, scratch};
  return o->target.sparse ? sd_edit_graphs(m, in_graph, &s) : NULL;
}
