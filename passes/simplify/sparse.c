// Products with constant weights that are mostly 0 (sard prune) become sard.SparseMatMul where an estimate
// from measured kernels says that it is faster by a margin: MatMul, Gemm, and convolutions with channels last.
// What is not sure stays dense. Those that keep two of four may do so for tensor cores (two_of_four.h).
#include "passes/edit.h"
#include "passes/simplify/sparse_bytes.h"
#include "passes/simplify/sparse_choose.h"
#include "passes/simplify/sparse_windows.h"
#include "passes/simplify/two_of_four.h"
#include "passes/simplify/winograd.h"
#include "runtime/base/alloc.h"

#define LEAST 16  // inputs, outputs
#define MOST  0.6 // share of weights that are not 0: more never gained
#define WINOGRAD 1.25 // its estimates think of weights that come from memory: so much faster it is
#define MATRIX_ROWS 64 // fewer stay with vectors

typedef struct product {
  sd_sparse_task t;
  sd_value *x, *weight, *bias;
  bool windows;
} product;

// ---- what is one ----
static bool matmul(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "MatMul") || !w->data || w->rank != 2 || n->in[0]->rank < 2) return false;
  p->t.w = (sd_sparse_weight){w->data->data, w->data->dims[0], w->data->dims[1], w->data->dims[1], 1};
  return true;
}

static bool gemm(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "Gemm") || !w->data || w->rank != 2 || sd_node_int(n, "transA", 0)) return false;
  const sd_attr *alpha = sd_node_attr(n, "alpha"), *beta = sd_node_attr(n, "beta");
  if (alpha->f != 1 || beta->f != 1) return false;
  int64_t r = w->data->dims[0], c = w->data->dims[1];
  p->t.w = sd_node_int(n, "transB", 0) ? (sd_sparse_weight){w->data->data, c, r, 1, c}
                                     : (sd_sparse_weight){w->data->data, r, c, c, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  return true;
}

// 1x1 and stride 1: rows are all places of all images.
static bool is_plain(const sd_node *n) {
  for (int i = 0; i + 2 < n->in[1]->rank; i++)
    if (n->in[1]->data->dims[i] != 1) return false;
  return sd_edit_all_are(n, "strides", 1) && sd_edit_all_are(n, "pads", 0);
}

static bool conv(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  sd_dimtab *t = n->graph->module->dims;
  int64_t taps = 1;
  if (!sd_edit_is(n, "Conv") || !sd_node_int(n, "channels_last", 0) || sd_node_int(n, "group", 1) != 1 ||
      !w->data || w->rank < 3)
    return false;
  p->windows = !is_plain(n);
  if (p->windows && !sd_sparse_window_is(n, &taps)) return false;
  int64_t ic = w->data->dims[w->rank - 2], oc = w->data->dims[w->rank - 1];
  p->t.w = (sd_sparse_weight){w->data->data, taps * ic, oc, oc, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  if (!p->windows) return true;
  p->t.channels = ic;
  return sd_dim_is_const(t, n->out[0]->dims[w->rank - 2], &p->t.across) && sd_sparse_window_at(n, taps - 1) <= INT32_MAX - ic;
}

static bool fits(const sd_node *n, const sd_sparse_rates *r, product *p) {
  sd_dimtab *t = n->graph->module->dims;
  *p = (product){.t.dense = r->dense};
  if (n->n_in < 2 || !n->in[0] || !n->in[1] || n->n_out != 1) return false;
  if (!matmul(n, p) && !gemm(n, p) && !conv(n, p)) return false;
  p->x = n->in[0], p->weight = n->in[1];
  if (p->weight->dtype != SD_F32 || p->x->dtype != SD_F32 || p->x->data) return false;
  const sd_value *x = p->x, *y = n->out[0];
  const sd_sparse_weight *w = &p->t.w;
  if (w->k < LEAST || w->n < LEAST || !sd_dim_is(t, x->dims[x->rank - 1], p->windows ? p->t.channels : w->k)) return false;
  if (p->bias && (p->bias->rank != 1 || !sd_dim_is(t, p->bias->dims[0], w->n))) return false;
  sd_dim rows = sd_dim_product(t, y->dims, y->rank - 1);
  if (!sd_dim_eval(t, rows, sd_dim_usual, t, &p->t.rows)) return false;
  if (!p->windows && sd_dim_is_const(t, rows, NULL) && p->t.rows >= MATRIX_ROWS) p->t.dense = r->matrix;
  return p->t.rows >= 1;
}

// Tables of a weight that several nodes read: the next ones take those of the first.
typedef struct made {
  const sd_const *data;
  sd_sparse_plan plan;
  sd_value *tables[4];
} made;

typedef struct sparse {
  const sd_pass_options *o;
  sd_pass_report *r;
  sd_arena *scratch;
  SD_VEC(made) made; // of this graph
} sparse;

static sard_status *tables(sparse *s, sd_node *n, const product *p, const sd_sparse_plan *plan, sd_value **out) {
  for (uint32_t i = 0; i < s->made.len; i++) {
    const made *m = &s->made.at[i];
    if (m->data != p->weight->data || m->plan.counts.block != plan->counts.block || m->plan.part != plan->part ||
        m->plan.shared != plan->shared)
      continue;
    memcpy(out, m->tables, sizeof m->tables);
    return NULL;
  }
  made m = {.data = p->weight->data, .plan = *plan};
  SD_TRY(sd_sparse_tables(n->graph, p->weight->name, &p->t.w, &plan->counts, plan->part, plan->shared, s->scratch, m.tables));
  memcpy(out, m.tables, sizeof m.tables);
  if (sd_edit_read_elsewhere(p->weight, n)) sd_vec_push(s->scratch, &s->made, m);
  else
    sd_const_release(n->graph->module, m.data, true);
  return NULL;
}

// Where blocks of inputs begin in a window.
static sard_status *places(sd_node *n, const product *p, const sd_sparse_plan *s, sd_value **out) {
  sd_graph *g = n->graph;
  int64_t blocks[1] = {s->counts.blocks}, each = p->t.channels / s->counts.block;
  int32_t *at = SD_NEW_ARRAY(g->module->arena, int32_t, (size_t)blocks[0]);
  for (int64_t i = 0; i < blocks[0]; i++)
    at[i] = (int32_t)(sd_sparse_window_at(n, i / each) + i % each * s->counts.block);
  *out = sd_value_const(g, "", SD_I32, 1, blocks, at);
  return *out ? NULL : SD_ERR(NOMEM, "tables of sparse weights are too large");
}

static sard_status *replace(sparse *sp, sd_node *n, const product *p, const sd_sparse_plan *s) {
  sd_value *in[7] = {p->x};
  const sd_op *op = sd_op_find("sard.SparseMatMul");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseMatMul");
  SD_TRY(tables(sp, n, p, s, in + 1));
  in[5] = p->bias;
  if (p->windows) SD_TRY(places(n, p, s, &in[6]));
  sd_node *y = sd_node_new(n->graph, n, op, in, p->windows ? 7 : p->bias ? 6 : 5, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  sd_node_set_int(y, "n", p->t.w.n), sd_node_set_int(y, "block", s->counts.block);
  sd_node_set_int(y, "rows", s->tile), sd_node_set_int(y, "inside", s->inside);
  if (p->windows) sd_sparse_window_set(y, n, false);
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, sparse *sp, bool *done) {
  product p;
  sd_sparse_plan s;
  const sd_pass_target *target = &sp->o->target;
  if (!fits(n, target->sparse, &p) || !sd_sparse_few(&p.t.w, (int64_t)((double)(p.t.w.k * p.t.w.n) * MOST))) return NULL;
  double faster = p.windows ? sd_winograd_speedup(n, target) : 1;
  if (faster > 1) p.t.dense *= faster * WINOGRAD;
  *done = sd_sparse_choose(&p.t, target->sparse, sp->scratch, &s);
  return *done ? replace(sp, n, &p, &s) : NULL;
}

static sard_status *of_node(sd_node *n, sparse *s, bool *done) {
  const sd_pass_target *t = &s->o->target;
  if (t->two_of_four) SD_TRY(sd_two_of_four(n, done));
  if (*done || !t->sparse) return NULL;
  SD_TRY(sd_sparse_bytes(n, t, s->scratch, done));
  return *done ? NULL : rewrite(n, s, done);
}

static sard_status *in_graph(sd_graph *g, void *user) {
  sparse *s = user;
  s->made.len = 0;
  for (sd_node *n = g->first, *next; n; n = next) {
    bool done = false;
    next = n->next;
    if (s->o->bisect >= 0 && s->r->rewrites >= s->o->bisect) return NULL;
    sard_status *st = of_node(n, s, &done);
    if (st) return sd_node_error(n, st);
    s->r->rewrites += done;
  }
  return NULL;
}

sard_status *sd_pass_sparse(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  sparse s = {.o = o, .r = r, .scratch = scratch};
  return o->target.sparse || o->target.two_of_four ? sd_edit_graphs(m, in_graph, &s) : NULL;
}
