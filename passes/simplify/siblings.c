// Products of one operand with several constant matrices become one product with all their columns, of which
// slices are read: queries, keys and values of attention. Biases and factors between a product and what reads
// it go with it.
#include "passes/edit.h"

#define MOST 16

typedef struct sibling {
  sd_node *n;              // MatMul
  sd_value *end;           // behind bias and factor
  sd_value *bias, *factor; // constants, NULL: there is none
} sibling;

// The other operand of an Add or Mul of v, a constant; NULL: it is no such node.
static sd_value *constant_beside(const sd_node *n, const char *op, const sd_value *v) {
  if (!sd_edit_is(n, op) || n->n_in != 2) return NULL;
  sd_value *c = n->in[n->in[0] == v];
  return c != v && c->data && c->dtype == v->dtype ? c : NULL;
}

static bool is_row(const sd_value *c, const sd_value *y) { // one number for each column
  return c->rank >= 1 && c->rank <= y->rank && c->dims[c->rank - 1] == y->dims[y->rank - 1] &&
         sd_value_count(c) == y->dims[y->rank - 1];
}

// A map of all of v could be the end of its product, alone or behind moves.
static bool has_epilogue(const sd_value *v) {
  for (int steps = 0; steps < SD_MAX_RANK && sd_edit_only_use(v); steps++) {
    const sd_node *c = v->uses.at[0].node;
    if (c->n_out < 1 || !c->out[0] || sd_value_count(c->out[0]) != sd_value_count(v)) return false;
    if (c->op->kind == SD_MAP) return true;
    if (c->op->kind != SD_MOVE || sd_edit_is(c, "Concat")) return false;
    v = c->out[0];
  }
  return false;
}

static bool read_sibling(sd_node *n, const sd_value *x, sibling *s) {
  const sd_value *w = n->n_in == 2 ? n->in[1] : NULL;
  if (!sd_edit_is(n, "MatMul") || n->in[0] != x || !w || !w->data || w->rank != 2 || x->rank < 2)
    return false;
  if (w->dtype != x->dtype || !sd_dtype_is_float(w->dtype)) return false;
  *s = (sibling){.n = n, .end = n->out[0]};
  const sd_node *next = sd_edit_only_use(s->end) ? s->end->uses.at[0].node : NULL;
  sd_value *c = constant_beside(next, "Add", s->end);
  if (c && is_row(c, s->end) && next->graph == n->graph) {
    s->bias = c, s->end = next->out[0];
    next = sd_edit_only_use(s->end) ? s->end->uses.at[0].node : NULL;
  }
  c = constant_beside(next, "Mul", s->end);
  if (c && c->data->count == 1 && c->rank <= 1 && next->graph == n->graph)
    s->factor = c, s->end = next->out[0];
  return !sd_value_is_output(s->end) && s->end->uses.len && !has_epilogue(s->end);
}

// The siblings of the first product in the order of the graph; 0 or 1: there are no others.
static int find(sd_node *n, sibling *all) {
  const sd_value *x = n->n_in ? n->in[0] : NULL;
  int count = 0;
  if (!x || x->data || !sd_edit_is(n, "MatMul")) return 0;
  for (uint32_t i = 0; i < x->uses.len && count < MOST; i++) {
    const sd_use *u = &x->uses.at[i];
    if (u->operand != 0 || u->node->graph != n->graph || !read_sibling(u->node, x, &all[count])) continue;
    bool same = all[count].n->in[1]->dims[0] == n->in[1]->dims[0];
    for (int k = 0; k < count; k++) same &= all[k].n != u->node;
    count += same;
  }
  return count;
}

static bool before_all(const sd_node *n, const sibling *all, int count) {
  for (const sd_node *p = n->prev; p; p = p->prev)
    for (int i = 0; i < count; i++)
      if (all[i].n == p) return false;
  return true;
}

// Weight and bias of a sibling as the common product needs them.
static sard_status *part(sd_node *at, const sibling *s, bool biased, sd_value **w, sd_value **b) {
  sd_graph *g = at->graph;
  int64_t columns = s->n->in[1]->data->dims[1];
  *w = s->n->in[1], *b = s->bias;
  if (s->factor) SD_TRY(sd_edit_apply(g, at, "Mul", (sd_value *[]){*w, s->factor}, 2, w));
  if (s->factor && *b) SD_TRY(sd_edit_apply(g, at, "Mul", (sd_value *[]){*b, s->factor}, 2, b));
  if (*b) return sd_edit_reshape(g, at, *b, &columns, 1, b);
  if (!biased) return NULL;
  uint64_t bytes;
  if (!sd_dtype_bytes((*w)->dtype, (uint64_t)columns, &bytes)) return SD_ERR(NOMEM, "a bias is too large");
  *b = sd_value_const(g, "", (*w)->dtype, 1, &columns, sd_arena_aligned(g->module->arena, bytes, 64));
  memset((void *)(uintptr_t)(*b)->data->data, 0, bytes);
  return NULL;
}

static sard_status *join(sd_node *at, sd_value *const *parts, int count, int64_t axis, sd_value **out) {
  sd_node *c = sd_node_new(at->graph, at, sd_op_find("Concat"), parts, (uint32_t)count, 1);
  sd_node_set_int(c, "axis", axis);
  SD_TRY(sd_node_infer(c));
  return sd_edit_fold(c, out);
}

static sard_status *replace(sd_node *at, const sibling *all, int count) {
  sd_graph *g = at->graph;
  sd_value *w[MOST], *b[MOST], *y, *bias;
  bool biased = false;
  for (int i = 0; i < count; i++) biased |= all[i].bias != NULL;
  for (int i = 0; i < count; i++) SD_TRY(part(at, &all[i], biased, &w[i], &b[i]));
  SD_TRY(join(at, w, count, 1, &w[0]));
  SD_TRY(sd_edit_apply(g, at, "MatMul", (sd_value *[]){at->in[0], w[0]}, 2, &y));
  y->def->name = at->name, y->def->onnx_index = at->onnx_index;
  if (biased) {
    SD_TRY(join(at, b, count, 0, &bias));
    SD_TRY(sd_edit_apply(g, at, "Add", (sd_value *[]){y, bias}, 2, &y));
    y->def->name = at->name;
  }
  int64_t axis = y->rank - 1, from = 0;
  for (int i = 0; i < count; i++) {
    int64_t to = from + all[i].n->in[1]->data->dims[1];
    sd_value *slice;
    SD_TRY(sd_edit_slice(g, at, y, axis, from, to, &slice));
    slice->name = all[i].end->name, slice->def->name = all[i].n->name;
    sd_value_replace(all[i].end, slice);
    from = to;
  }
  return NULL;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  sibling all[MOST];
  int count = find(n, all);
  *done = count > 1 && before_all(n, all, count);
  return *done ? replace(n, all, count) : NULL;
}

sard_status *sd_pass_siblings(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.joint_products ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
