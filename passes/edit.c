// Building nodes on constants folds them at once, so that passes can compute weights by writing graphs.
#include "passes/edit.h"

#include "ir/eval.h"

bool sd_edit_is(const sd_node *n, const char *op) { return n && strcmp(n->op->name, op) == 0; }

bool sd_edit_one_of(const sd_node *n, const char *const *ops) {
  for (; *ops; ops++)
    if (sd_edit_is(n, *ops)) return true;
  return false;
}

bool sd_edit_all_are(const sd_node *n, const char *attr, int64_t v) {
  const sd_attr *a = sd_node_attr(n, attr);
  for (uint32_t i = 0; a && a->kind == SD_ATTR_INTS && i < a->n; i++)
    if (a->ints[i] != v) return false;
  return true;
}

bool sd_edit_same_type(const sd_value *a, const sd_value *b) {
  return a->dtype == b->dtype && a->rank == b->rank && a->rank >= 0 &&
         (a->rank == 0 || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0);
}

bool sd_edit_of_bytes(const sd_value *v) { return v->dtype == SD_U8 || v->dtype == SD_I8; }

const sd_node *sd_edit_dequantized(const sd_node *n, uint32_t at) {
  const sd_node *d = at < n->n_in && n->in[at] ? n->in[at]->def : NULL;
  if (!sd_edit_is(d, "DequantizeLinear") || sd_node_int(d, "block_size", 0)) return NULL;
  return d->out[0]->dtype == SD_F32 && d->in[1]->dtype == SD_F32 ? d : NULL;
}

int64_t sd_edit_entry(const sd_node *n, const char *attr, int i, int64_t absent) {
  const sd_attr *a = sd_node_attr(n, attr);
  return a && a->kind == SD_ATTR_INTS && (uint32_t)i < a->n ? a->ints[i] : absent;
}

int64_t sd_edit_rows(const sd_node *n) {
  sd_dimtab *t = n->graph->module->dims;
  const sd_value *y = n->out[0];
  int64_t rows;
  return sd_dim_eval(t, sd_dim_product(t, y->dims, y->rank - 1), sd_dim_usual, t, &rows) ? rows : 0;
}

bool sd_edit_read_elsewhere(const sd_value *v, const sd_node *n) {
  if (sd_value_is_output(v)) return true;
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (v->uses.at[i].node != n) return true;
  return false;
}

sard_status *sd_edit_fold(sd_node *n, sd_value **out) {
  sd_module *m = n->graph->module;
  const sd_const *c = NULL;
  *out = n->out[0];
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && !n->in[i]->data) return NULL;
  if (n->n_out != 1) return NULL;
  SD_TRY(sd_eval_node_consts(n, m->arena, &c));
  sd_value *v = sd_value_const(n->graph, n->out[0]->name, c->dtype, c->rank, c->dims, c->data);
  if (!v) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) sd_const_release(m, n->in[i]->data, false);
  sd_node_remove(n);
  *out = v;
  return NULL;
}

sard_status *sd_edit_apply(sd_graph *g, sd_node *before, const char *op, sd_value *const *in, uint32_t n_in, sd_value **out) {
  sd_node *n;
  SD_TRY(sd_build(g, before, op, in, n_in, &n));
  return sd_edit_fold(n, out);
}

sard_status *sd_edit_transpose(sd_graph *g, sd_node *before, sd_value *x, const int64_t *perm, uint32_t rank, sd_value **out) {
  const sd_op *op = sd_op_find("Transpose");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no Transpose");
  sd_node *n = sd_node_new(g, before, op, &x, 1, 1);
  sd_node_set_ints(n, "perm", perm, rank);
  SD_TRY(sd_node_infer(n));
  return sd_edit_fold(n, out);
}

sard_status *sd_edit_reshape(sd_graph *g, sd_node *before, sd_value *x, const int64_t *dims, int rank, sd_value **out) {
  return sd_edit_apply(g, before, "Reshape", (sd_value *[]){x, sd_value_const_i64(g, dims, rank)}, 2, out);
}

sard_status *sd_edit_drop_axis(sd_graph *g, sd_node *before, sd_value *x, int64_t axis, sd_value **out) {
  return sd_edit_apply(g, before, "Squeeze", (sd_value *[]){x, sd_value_const_i64(g, &axis, 1)}, 2, out);
}

sard_status *sd_edit_slice(sd_graph *g, sd_node *before, sd_value *x, int64_t axis, int64_t from, int64_t to, sd_value **out) {
  sd_value *in[4] = {x, sd_value_const_i64(g, &from, 1), sd_value_const_i64(g, &to, 1), sd_value_const_i64(g, &axis, 1)};
  return sd_edit_apply(g, before, "Slice", in, 4, out);
}

// Products of few rows take as long as to read their weights.
bool sd_edit_widens(const sd_node *product, const sd_value *w, const sd_pass_target *t) {
  const sd_value *x = product->in[0];
  sd_dimtab *d = product->graph->module->dims;
  int64_t rows;
  if (x->rank < 2 || !t->wide_rows) return false;
  if (w->data->count > SD_MAX_GROWTH / 3) return true;
  return sd_dim_is_const(d, sd_dim_product(d, x->dims, x->rank - 1), &rows) && rows <= t->wide_rows;
}

// For a product alone.
static bool unpacks(const sd_node *n) {
  const sd_value *y = sd_op_has(n->op, SD_UNPACKS) ? sd_edit_only_use(n->out[0]) : NULL;
  if (!y || y->uses.at[0].operand != 1 || y->uses.at[0].node->op->kind != SD_CONTRACT) return false;
  return y->uses.at[0].node->graph == n->graph;
}

bool sd_edit_packed_weight(const sd_node *n, const sd_pass_target *t) {
  if (unpacks(n)) return true;
  const sd_value *w = n->n_in ? n->in[0] : NULL, *y = n->n_out == 1 ? n->out[0] : NULL;
  if (n->op->kind != SD_MAP || !w || !w->data || sd_dtype_bits(w->dtype) > 8 || w->data->count < SD_SMALL_WEIGHT) return false;
  for (uint32_t i = 1; i < n->n_in; i++)
    if (n->in[i] && !n->in[i]->data) return false;
  if (!y || y->rank != 2 || sd_value_count(y) != sd_value_count(w) || !sd_edit_only_use(y)) return false;
  const sd_use *u = &y->uses.at[0];
  bool product = sd_edit_is(u->node, "MatMul") || sd_edit_is(u->node, "Gemm");
  if (!product || u->operand != 1 || u->node->graph != n->graph || u->node->in[0]->rank < 1) return false;
  return sd_dtype_bits(w->dtype) < 8 || (sd_dtype_is_int(w->dtype) && y->dtype == SD_F32 && sd_edit_widens(u->node, w, t));
}

static bool swaps_two(const sd_node *n) {
  const sd_attr *p = sd_node_attr(n, "perm");
  bool given = p && p->kind == SD_ATTR_INTS;
  return n->in[0]->rank == 2 && (!given || (p->n == 2 && p->ints[0] == 1 && p->ints[1] == 0));
}

sd_node *sd_edit_matrix_source(const sd_node *n, bool *turned) {
  sd_node *d = sd_edit_only_use(n->in[1]) ? n->in[1]->def : NULL;
  *turned = sd_edit_is(d, "Transpose") && swaps_two(d);
  if (*turned) d = sd_edit_only_use(d->in[0]) ? d->in[0]->def : NULL;
  return d && d->graph == n->graph ? d : NULL;
}

sd_value *sd_edit_only_use(const sd_value *v) {
  return v && v->uses.len == 1 && !sd_value_is_output(v) ? (sd_value *)v : NULL;
}

bool sd_edit_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n) {
  sd_dim d[64];
  if (operand >= n->n_in || !n->in[operand] || cap > 64 || !sd_value_elems(n->in[operand], d, cap, out_n)) return false;
  for (uint32_t i = 0; i < *out_n; i++)
    if (!sd_dim_is_const(n->graph->module->dims, d[i], &out[i])) return false;
  return true;
}

typedef struct visit { sard_status *(*fn)(sd_graph *g, void *user); void *user; } visit;
static sard_status *each_graph(sd_graph *g, const visit *v, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "graphs are nested more than %d deep", SD_MAX_DEPTH);
  for (sd_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (sd_edit_is(n, "sard.Fused")) continue;
    for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(each_graph(n->bodies[i], v, depth + 1));
  }
  return v->fn(g, v->user);
}

sard_status *sd_edit_graphs(sd_module *m, sard_status *(*fn)(sd_graph *g, void *user), void *user) {
  visit v = {fn, user};
  return each_graph(m->main, &v, 0);
}

typedef struct nodes {
  const sd_pass_options *o;
  sd_pass_report *r;
  sard_status *(*fn)(sd_node *n, bool *done);
  sard_status *(*of_target)(sd_node *n, const sd_pass_target *t, bool *done); // instead
} nodes;

static sard_status *each_node(sd_graph *g, void *user) {
  const nodes *x = user;
  for (sd_node *n = g->first, *next; n; n = next) {
    bool done = false;
    next = n->next;
    if (x->o->bisect >= 0 && x->r->rewrites >= x->o->bisect) return NULL;
    sard_status *st = x->fn ? x->fn(n, &done) : x->of_target(n, &x->o->target, &done);
    if (st) return sd_node_error(n, st);
    x->r->rewrites += done;
  }
  return NULL;
}

sard_status *sd_edit_nodes(sd_module *m, const sd_pass_options *o, sd_pass_report *r, sard_status *(*fn)(sd_node *n, bool *done)) {
  nodes x = {o, r, fn, NULL};
  return sd_edit_graphs(m, each_node, &x);
}

sard_status *sd_edit_nodes_for(sd_module *m, const sd_pass_options *o, sd_pass_report *r,
                               sard_status *(*fn)(sd_node *n, const sd_pass_target *t, bool *done)) {
  nodes x = {o, r, NULL, fn};
  return sd_edit_graphs(m, each_node, &x);
}
