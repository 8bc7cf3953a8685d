// Gradient: reverse-mode differentiation of the graph in front of the node. The nodes between the named tensors and y are
// used again where the operands are these tensors themselves, and copied where other values take their places.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/grad.h"
#include "ir/ops/grad_rules.h"

typedef struct rule { const char *op, *text, *reduced; sd_grad_fn fn; } rule;
static const rule rules[] = {
#define SD_GRAD(op, text)         {op, text, NULL, NULL},
#define SD_GRAD_REDUCED(op, text) {op, NULL, text, NULL},
#define SD_GRAD_FN(op, fn)        {op, NULL, NULL, sd_grad_##fn},
#include "ir/ops/grad.def"
#undef SD_GRAD
#undef SD_GRAD_REDUCED
#undef SD_GRAD_FN
};

static const rule *find_rule(const char *op) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (strcmp(rules[i].op, op) == 0) return &rules[i];
  return NULL;
}

// ---- the node ----
static uint32_t list_len(const sd_node *n, const char *name) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_STRINGS ? a->n : 0;
}

// Numbers of xs and of all named tensors; operands: that many values, that many named tensors, y.
static sard_status *count_operands(const sd_node *n, uint32_t *xs, uint32_t *all) {
  *xs = list_len(n, "xs"), *all = *xs + list_len(n, "zs");
  if (!*xs) return SD_SH_ERR(n, MODEL, "it names no tensor in 'xs'");
  if (n->n_in != 2 * *all + 1) return SD_SH_ERR(n, MODEL, "%u operands do not fit %u names", n->n_in, *all);
  if (n->n_out > *xs) return SD_SH_ERR(n, MODEL, "%u outputs for %u names in 'xs'", n->n_out, *xs);
  for (uint32_t i = 0; i < n->n_in; i++)
    if (!n->in[i]) return SD_SH_ERR(n, MODEL, "operand %u is missing", i);
  return NULL;
}

sard_status *sd_shape_gradient(sd_node *n) {
  uint32_t xs, all;
  SD_TRY(count_operands(n, &xs, &all));
  SD_TRY(sd_sh_ranks(n));
  for (uint32_t i = 0; i < all; i++) {
    const sd_value *v = n->in[i], *named = n->in[all + i];
    if (v->dtype != named->dtype || v->rank != named->rank) return SD_SH_ERR(n, MODEL, "operand %u has another type than the tensor that it stands for", i);
    if (i < xs && !sd_dtype_is_float(v->dtype)) return SD_SH_ERR(n, MODEL, "tensors of type %s have no gradient", sd_dtype_name(v->dtype));
    if (i < xs && i < n->n_out) SD_TRY(sd_sh_like(n, i, i));
  }
  if (!sd_dtype_is_float(n->in[2 * all]->dtype)) return SD_SH_ERR(n, MODEL, "y is of type %s", sd_dtype_name(n->in[2 * all]->dtype));
  return NULL;
}

// ---- the part of the graph that is differentiated ----
enum { ON_X = 1, REPLACED = 2, NEEDED = 4, NAMED = 8 }; // depends on a tensor of xs; on a replaced one; y needs it

typedef struct tape {
  sd_node *at;
  uint32_t xs, all, n_values;
  uint8_t *mark;     // by value id
  sd_value **map;    // by value id: what takes its place
  SD_VEC(sd_node *) nodes; // in order
  sd_value **grad;   // by value id, of n_grads values
  uint32_t n_grads;
  bool *active;      // by value id: a float that depends on xs
} tape;

static void mark_dependents(tape *t) {
  for (sd_node *x = t->at->graph->first; x != t->at; x = x->next) {
    uint8_t bits = 0;
    for (uint32_t i = 0; i < x->n_in; i++)
      if (x->in[i]) bits |= t->mark[x->in[i]->id];
    for (uint32_t i = 0; i < x->n_out; i++)
      if (x->out[i] && !(t->mark[x->out[i]->id] & NAMED)) t->mark[x->out[i]->id] |= bits & (ON_X | REPLACED);
  }
}

static bool is_needed(const tape *t, const sd_node *x) {
  for (uint32_t i = 0; i < x->n_out; i++)
    if (x->out[i] && (t->mark[x->out[i]->id] & (NEEDED | NAMED)) == NEEDED) return true;
  return false;
}

static bool has_mark(const tape *t, const sd_node *x, uint8_t bits) {
  for (uint32_t i = 0; i < x->n_out; i++)
    if (x->out[i] && !(t->mark[x->out[i]->id] & NAMED) && t->mark[x->out[i]->id] & bits) return true;
  return false;
}

static sard_status *mark_needed(tape *t, const sd_value *y) {
  if (y->def && y->graph != t->at->graph) return SD_SH_ERR(t->at, UNSUPPORTED, "y is computed in an enclosing graph");
  t->mark[y->id] |= NEEDED;
  for (sd_node *x = t->at->prev; x; x = x->prev) {
    if (!is_needed(t, x)) continue;
    if (x->n_body) return SD_SH_ERR(t->at, UNSUPPORTED, "y is computed by %s (node '%s'), which has bodies", x->op->name, x->name);
    for (uint32_t i = 0; i < x->n_in; i++)
      if (x->in[i]) t->mark[x->in[i]->id] |= NEEDED;
  }
  return NULL;
}

static sard_status *copy_node(tape *t, const sd_node *x, sd_node **out) {
  sd_value **in = SD_NEW_ARRAY(t->at->graph->module->arena, sd_value *, x->n_in + 1);
  for (uint32_t i = 0; i < x->n_in; i++) in[i] = x->in[i] && t->map[x->in[i]->id] ? t->map[x->in[i]->id] : x->in[i];
  sd_node *c = sd_node_like(t->at->graph, t->at, x, in, x->n_in, x->n_out);
  for (uint32_t i = 0; i < x->n_out; i++) {
    if (x->out[i]) t->map[x->out[i]->id] = c->out[i];
    else c->out[i] = NULL;
  }
  *out = c;
  return sd_node_infer(c);
}

static sard_status *record(tape *t) {
  sd_arena *a = t->at->graph->module->arena;
  for (sd_node *x = t->at->graph->first; x != t->at; x = x->next) {
    if (x->out && x->n_out && x->out[0] && x->out[0]->id >= t->n_values) break; // the copies
    if (!is_needed(t, x) || !has_mark(t, x, ON_X | REPLACED)) continue;
    sd_node *use = x;
    if (has_mark(t, x, REPLACED)) SD_TRY(copy_node(t, x, &use));
    if (has_mark(t, x, ON_X)) sd_vec_push(a, &t->nodes, use);
  }
  return NULL;
}

static sard_status *make_tape(tape *t, sd_node *n) {
  sd_module *m = n->graph->module;
  *t = (tape){.at = n, .n_values = m->next_id};
  SD_TRY(count_operands(n, &t->xs, &t->all));
  t->mark = SD_NEW_ARRAY(m->arena, uint8_t, t->n_values);
  t->map = SD_NEW_ARRAY(m->arena, sd_value *, t->n_values);
  for (uint32_t i = 0; i < t->all; i++) {
    sd_value *v = n->in[i], *named = n->in[t->all + i];
    t->mark[named->id] |= (uint8_t)(NAMED | (i < t->xs ? ON_X : 0) | (v != named ? REPLACED : 0));
    t->map[named->id] = v;
  }
  mark_dependents(t);
  SD_TRY(mark_needed(t, n->in[2 * t->all]));
  return record(t);
}

// ---- backwards ----
static void mark_active(tape *t) {
  sd_module *m = t->at->graph->module;
  t->n_grads = m->next_id;
  t->grad = SD_NEW_ARRAY(m->arena, sd_value *, t->n_grads);
  t->active = SD_NEW_ARRAY(m->arena, bool, t->n_grads);
  for (uint32_t i = 0; i < t->xs; i++) t->active[t->at->in[i]->id] = true;
  for (uint32_t k = 0; k < t->nodes.len; k++)
    for (uint32_t i = 0; i < t->nodes.at[k]->n_out; i++) {
      const sd_value *v = t->nodes.at[k]->out[i];
      if (v) t->active[v->id] = sd_dtype_is_float(v->dtype);
    }
}

static void add_gradient(tape *t, xg *g, const sd_value *v, sd_value *d) {
  d = sd_grad_fit(g, d, v);
  sd_value **to = &t->grad[v->id];
  *to = *to && d ? XG(g, "Add", *to, d) : d;
}

static sard_status *step(tape *t, xg *g, const sd_node *x) {
  sd_arena *a = t->at->graph->module->arena;
  sd_value **dy = SD_NEW_ARRAY(a, sd_value *, x->n_out + 1), **dx = SD_NEW_ARRAY(a, sd_value *, x->n_in + 1);
  bool *wants = SD_NEW_ARRAY(a, bool, x->n_in + 1), any = false, reached = false;
  for (uint32_t i = 0; i < x->n_out; i++) {
    dy[i] = x->out[i] ? t->grad[x->out[i]->id] : NULL;
    reached |= dy[i] != NULL;
  }
  for (uint32_t i = 0; i < x->n_in; i++) {
    wants[i] = x->in[i] && x->in[i]->id < t->n_grads && t->active[x->in[i]->id];
    any |= wants[i];
  }
  if (!reached || !any) return NULL;
  const rule *r = find_rule(x->op->name);
  if (!r) return SD_SH_ERR(t->at, UNSUPPORTED, "there is no derivative of %s (node '%s')", x->op->name, x->name);
  sd_grad job = {g, x, dy, wants, dx};
  if (r->text) sd_grad_text(&job, r->text);
  else if (r->reduced) sd_grad_reduced(&job, r->reduced);
  else r->fn(&job);
  for (uint32_t i = 0; i < x->n_in && !g->st; i++)
    if (wants[i] && dx[i]) add_gradient(t, g, x->in[i], dx[i]);
  return sd_xg_take(g);
}

sard_status *sd_rewrite_gradient(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  tape t;
  SD_TRY(make_tape(&t, n));
  mark_active(&t);
  sd_value *y = n->in[2 * t.all];
  if (t.map[y->id]) y = t.map[y->id];
  t.grad[y->id] = sd_xg_expand(&g, sd_xg_num(&g, y->dtype, 1), y->dims, y->rank);
  for (uint32_t i = t.nodes.len; i-- > 0 && !g.st;) SD_TRY(step(&t, &g, t.nodes.at[i]));
  sd_value **outs = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n->n_out + 1);
  for (uint32_t i = 0; i < n->n_out && !g.st; i++) {
    sd_value *d = t.grad[n->in[i]->id];
    outs[i] = d ? d : sd_grad_zeros(&g, n->in[i]);
  }
  return sd_xg_finish(&g, outs, n->n_out);
}

// ---- shapes ----
sd_value *sd_grad_zeros(xg *g, const sd_value *like) { return sd_xg_expand(g, sd_xg_num(g, like->dtype, 0), like->dims, like->rank); }

// Sums axis `d` of v to `want`: its whole, or, where only the run knows whether it was broadcast, in `want` groups.
static sd_value *sum_axis(xg *g, sd_value *v, int d, sd_dim want) {
  sd_dimtab *t = g->at->graph->module->dims;
  int64_t axis = d;
  if (sd_dim_is(t, want, 1)) return XG(g, "ReduceSum keepdims=1", v, sd_xg_ints(g, &axis, 1));
  if (v->rank == SD_MAX_RANK) return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "a broadcast of rank %d", v->rank)), NULL;
  sd_dim dims[SD_MAX_RANK];
  for (int i = 0, to = 0; i < v->rank; i++) {
    if (i != d) dims[to++] = v->dims[i];
    else dims[to++] = want, dims[to++] = sd_dim_floordiv(t, v->dims[i], sd_dim_max(t, want, sd_dim_const(t, 1)));
  }
  v = sd_xg_reshape(g, v, dims, v->rank + 1);
  axis = d + 1;
  return v ? XG(g, "ReduceSum keepdims=0", v, sd_xg_ints(g, &axis, 1)) : NULL;
}

sd_value *sd_grad_fit(xg *g, sd_value *v, const sd_value *like) {
  sd_dimtab *t = g->at->graph->module->dims;
  while (v && v->rank > like->rank) {
    int64_t first = 0;
    v = XG(g, "ReduceSum keepdims=0", v, sd_xg_ints(g, &first, 1));
  }
  int missing = v ? like->rank - v->rank : 0;
  if (missing) {
    sd_dim dims[SD_MAX_RANK];
    for (int d = 0; d < like->rank; d++) dims[d] = d < missing ? sd_dim_const(t, 1) : v->dims[d - missing];
    v = sd_xg_reshape(g, v, dims, like->rank);
  }
  for (int d = 0; d < like->rank && v; d++)
    if (v->dims[d] != like->dims[d] && !sd_dim_is(t, v->dims[d], 1)) v = sum_axis(g, v, d, like->dims[d]);
  if (v && memcmp(v->dims, like->dims, (size_t)like->rank * sizeof *v->dims) != 0) v = sd_xg_expand(g, v, like->dims, like->rank);
  return v ? sd_xg_cast(g, like->dtype, v) : NULL;
}
