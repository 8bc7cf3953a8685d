// The graph verifier: the invariants stated at the head of ir/graph.h, and agreement of types with shape functions.
#include "ir/op.h"

#define STORAGE_MAX 1000000 // longer chains of storage are a cycle

typedef enum state { UNSEEN, VISIBLE, CLOSED } state; // CLOSED: defined in a body that has ended

typedef struct entry { const void *key; uint32_t count; state state; } entry;

typedef struct verifier {
  sd_module *m;
  sd_arena *arena;
  entry *at; // by value: state, number of operand slots; by node and by slot: seen
  uint32_t len, cap;
} verifier;

static entry *look(verifier *v, const void *key) {
  if (v->len * 2 >= v->cap) {
    entry *old = v->at;
    uint32_t cap = v->cap;
    v->cap = cap ? cap * 2 : 1024;
    v->len = 0;
    v->at = SD_NEW_ARRAY(v->arena, entry, v->cap);
    for (uint32_t i = 0; i < cap; i++)
      if (old[i].key) *look(v, old[i].key) = old[i];
  }
  uint32_t i = (uint32_t)(((uintptr_t)key * 0x9e3779b97f4a7c15ull) >> 32) & (v->cap - 1);
  while (v->at[i].key && v->at[i].key != key) i = (i + 1) & (v->cap - 1);
  if (!v->at[i].key) v->len++;
  v->at[i].key = key;
  return &v->at[i];
}

#define BROKEN(...) SD_ERR(INTERNAL, __VA_ARGS__)

// ---- values ----

static sard_status *check_type(const verifier *v, const sd_value *x) {
  if (x->rank < SD_RANK_UNKNOWN || x->rank > SD_MAX_RANK) return BROKEN("%%%u has rank %d", x->id, x->rank);
  if (x->dtype && sd_dtype_bits(x->dtype) == 0) return BROKEN("%%%u has the unknown type %d", x->id, (int)x->dtype);
  for (int i = 0; i < x->rank; i++) {
    const sd_dimnode *d = sd_dim_get(v->m->dims, x->dims[i]);
    if (d && d->max < 0) return SD_ERR(MODEL, "dim %d of %%%u '%s' is negative", i, x->id, x->name);
  }
  return NULL;
}

static sard_status *check_const(const verifier *v, const sd_value *x) {
  const sd_const *c = x->data;
  uint64_t bytes;
  if (x->def) return BROKEN("%%%u is a constant and has a defining node", x->id);
  if (c->dtype != x->dtype || c->rank != x->rank)
    return BROKEN("the type of constant %%%u is not that of its contents", x->id);
  for (int i = 0; i < c->rank; i++)
    if (!sd_dim_is(v->m->dims, x->dims[i], c->dims[i]))
      return BROKEN("dim %d of constant %%%u differs from its contents", i, x->id);
  if (!sd_dtype_bytes(c->dtype, c->count, &bytes) || bytes != c->bytes || (bytes && !c->data))
    return BROKEN("constant %%%u has no contents, or contents of the wrong size", x->id);
  return NULL;
}

// Inside of its storage, as far as the dims tell.
static sard_status *check_window(const sd_value *x) {
  const sd_value *s = x->storage;
  sd_dimtab *t = x->graph->module->dims;
  if (!s || x->rank < 0 || s->rank < x->rank || s->dtype != x->dtype)
    return BROKEN("the window of %%%u needs a storage of the same type and at least its rank", x->id);
  for (int i = 0, first = s->rank - x->rank; i < s->rank; i++) {
    sd_dim extent = i < first ? sd_dim_const(t, 1) : x->dims[i - first];
    if (!x->window[i] || sd_dim_lt(t, s->dims[i], sd_dim_add(t, x->window[i], extent)) == 1 ||
        sd_dim_lt(t, x->window[i], sd_dim_const(t, 0)) == 1)
      return BROKEN("the window of %%%u lies outside of its storage in dim %d", x->id, i);
  }
  return NULL;
}

static sard_status *check_storage(const sd_value *x) {
  uint32_t steps = 0;
  for (const sd_value *s = x->storage; s; s = s->storage)
    if (s == x || ++steps > STORAGE_MAX) return BROKEN("the storage of %%%u leads back to itself", x->id);
  if (x->storage && x->data) return BROKEN("constant %%%u has its storage elsewhere", x->id);
  return x->window ? check_window(x) : NULL;
}

static sard_status *define(verifier *v, const sd_graph *g, const sd_value *x) {
  entry *e = look(v, x);
  if (e->state != UNSEEN) return BROKEN("%%%u '%s' is defined twice", x->id, x->name);
  e->state = VISIBLE;
  if (x->graph != g) return BROKEN("%%%u '%s' names another graph as its own", x->id, x->name);
  if (x->id >= v->m->next_id) return BROKEN("%%%u is not below the next free number", x->id);
  SD_TRY(check_type(v, x));
  if (x->data) SD_TRY(check_const(v, x)); // an input of a body that is bound to a constant
  return check_storage(x);
}

// A value that is read: defined before, here or in an enclosing graph. Constants count as defined in their graph.
static sard_status *check_read(verifier *v, const sd_graph *g, const sd_value *x) {
  entry *e = look(v, x);
  if (x->data && e->state == UNSEEN) {
    while (g && g != x->graph) g = g->owner ? g->owner->graph : NULL;
    if (!g) return BROKEN("constant %%%u '%s' belongs to a graph that does not enclose its use", x->id, x->name);
    e->state = VISIBLE; // not closed with its graph: the walk above is the check
    SD_TRY(check_type(v, x));
    SD_TRY(check_storage(x));
    return check_const(v, x);
  }
  if (x->data) {
    while (g && g != x->graph) g = g->owner ? g->owner->graph : NULL;
    return g ? NULL : BROKEN("constant %%%u '%s' belongs to a graph that does not enclose its use", x->id, x->name);
  }
  if (e->state == UNSEEN) return BROKEN("%%%u '%s' is used before its definition", x->id, x->name);
  if (e->state == CLOSED) return BROKEN("%%%u '%s' is used outside of the body that defines it", x->id, x->name);
  return NULL;
}

// ---- nodes ----

// Compares the types with those that inference gives now. Fresh symbols of data-dependent rows compare as unknown.
static sard_status *compare_types(const sd_node *n, const sd_value *saved) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *now = n->out[i], *was = &saved[i];
    if (!now || was->dtype == SD_DT_NONE || was->rank < 0 || now->dtype == SD_DT_NONE || now->rank < 0) continue;
    bool same = now->dtype == was->dtype && now->rank == was->rank && now->object == was->object;
    for (int k = 0; same && k < now->rank; k++)
      if (now->dims[k] && was->dims[k]) same = sd_dim_eq(n->graph->module->dims, now->dims[k], was->dims[k]) != 0;
    if (same) continue;
    sd_str a = {0}, b = {0};
    sd_type_print(n->graph->module, was, &a);
    sd_type_print(n->graph->module, now, &b);
    sard_status *st = SD_ERR(MODEL, "output %u '%s' has type %s, but the operator gives %s", i, now->name, a.p, b.p);
    sd_str_free(&a);
    sd_str_free(&b);
    return st;
  }
  return NULL;
}

static sard_status *check_inferred(verifier *v, sd_node *n) {
  if (!n->op->infers || n->op->kind == SD_CONTROL) return NULL; // bodies are typed by their own nodes
  sd_value *saved = SD_NEW_ARRAY(v->arena, sd_value, n->n_out);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) saved[i] = *n->out[i];
  sard_status *st = sd_node_infer(n);
  if (!st) st = sd_node_error(n, compare_types(n, saved));
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) *n->out[i] = saved[i];
  return st;
}

static sard_status *verify_graph(verifier *v, sd_graph *g, int depth);

static sard_status *verify_node(verifier *v, sd_graph *g, sd_node *n, int depth) {
  if (n->graph != g) return BROKEN("names another graph as its own");
  if (n->n_attr != n->op->n_attr) return BROKEN("has %u attributes instead of %u", n->n_attr, n->op->n_attr);
  look(v, n)->state = VISIBLE;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i]) continue;
    SD_TRY(check_read(v, g, n->in[i]));
    look(v, n->in[i])->count++;
  }
  SD_TRY(sd_node_check(n));
  for (uint32_t i = 0; i < n->n_body; i++) {
    if (n->bodies[i]->owner != n) return BROKEN("body %u has another owner", i);
    SD_TRY(verify_graph(v, n->bodies[i], depth + 1));
  }
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *x = n->out[i];
    if (!x) continue;
    if (x->def != n || x->out_index != i) return BROKEN("output %u names another definition", i);
    if (x->data) return BROKEN("output %u is a constant", i);
    SD_TRY(define(v, g, x));
  }
  return check_inferred(v, n);
}

// ---- graphs ----

static sard_status *check_children(const sd_graph *g) {
  uint32_t bodies = 0;
  for (const sd_node *n = g->first; n; n = n->next) bodies += n->n_body;
  if (bodies != g->children.len)
    return BROKEN("graph '%s' lists %u bodies, its nodes have %u", g->name, g->children.len, bodies);
  for (uint32_t i = 0; i < g->children.len; i++)
    if (!g->children.at[i]->owner || g->children.at[i]->owner->graph != g)
      return BROKEN("graph '%s' lists a body that is not below it", g->name);
  return NULL;
}

static void close_graph(verifier *v, const sd_graph *g) {
  for (uint32_t i = 0; i < g->inputs.len; i++) look(v, g->inputs.at[i])->state = CLOSED;
  for (const sd_node *n = g->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) look(v, n->out[i])->state = CLOSED;
}

static sard_status *verify_graph(verifier *v, sd_graph *g, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "bodies are nested more than %d deep", SD_MAX_DEPTH);
  if (g->module != v->m) return BROKEN("graph '%s' belongs to another module", g->name);
  for (uint32_t i = 0; i < g->inputs.len; i++) {
    if (g->inputs.at[i]->def) return BROKEN("input %u of graph '%s' has a defining node", i, g->name);
    SD_TRY(define(v, g, g->inputs.at[i]));
  }
  const sd_node *last = NULL;
  for (sd_node *n = g->first; n; last = n, n = n->next) {
    if (n->prev != last) return sd_node_error(n, BROKEN("the node list is broken"));
    sard_status *st = verify_node(v, g, n, depth);
    if (st) return *sard_status_text(st, SARD_TEXT_OP) ? st : sd_node_error(n, st);
  }
  if (g->last != last) return BROKEN("graph '%s' has a wrong last node", g->name);
  SD_TRY(check_children(g));
  for (uint32_t i = 0; i < g->outputs.len; i++) {
    sard_status *st = check_read(v, g, g->outputs.at[i]);
    if (st) return sd_status_context(st, "output %u of graph '%s'", i, g->name);
  }
  if (depth > 0) close_graph(v, g);
  return NULL;
}

// ---- use lists, once every node has been seen ----

static sard_status *check_uses(verifier *v, const sd_value *x) {
  uint32_t slots = look(v, x)->count;
  if (x->uses.len != slots)
    return BROKEN("%%%u '%s' lists %u uses, but %u operands hold it", x->id, x->name, x->uses.len, slots);
  for (uint32_t i = 0; i < x->uses.len; i++) {
    sd_use u = x->uses.at[i];
    if (look(v, u.node)->state != VISIBLE)
      return BROKEN("%%%u '%s' lists a use by a node that is in no graph", x->id, x->name);
    if (u.operand >= u.node->n_in || u.node->in[u.operand] != x)
      return BROKEN("%%%u '%s' lists a use by an operand that is another value", x->id, x->name);
    if (look(v, &u.node->in[u.operand])->count++) return BROKEN("%%%u '%s' lists a use twice", x->id, x->name);
  }
  return NULL;
}

static sard_status *check_graph_uses(verifier *v, const sd_graph *g) {
  for (uint32_t i = 0; i < g->inputs.len; i++) SD_TRY(check_uses(v, g->inputs.at[i]));
  for (const sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) SD_TRY(check_uses(v, n->out[i]));
    for (uint32_t i = 0; i < n->n_in; i++) { // constants are in no list: check them at their first use
      const sd_value *x = n->in[i];
      if (!x || !x->data || sd_value_is_input(x)) continue;
      if (x->uses.len && x->uses.at[0].node == n && x->uses.at[0].operand == i) SD_TRY(check_uses(v, x));
      if (!x->uses.len) return BROKEN("constant %%%u '%s' lists no use, but is used", x->id, x->name);
    }
    for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(check_graph_uses(v, n->bodies[i]));
  }
  return NULL;
}

sard_status *sd_module_verify(sd_module *m) {
  jmp_buf oom;
  verifier v = {.m = m, .arena = sd_arena_new()};
  if (!v.arena) return SD_ERR(NOMEM, "out of memory for verification");
  sd_arena *const arena = v.arena;
  sd_arena_set_oom(arena, &oom);
  if (setjmp(oom)) {
    sd_arena_free(arena);
    return SD_ERR(NOMEM, "out of memory for verification");
  }
  sard_status *st = verify_graph(&v, m->main, 0);
  if (!st) st = check_graph_uses(&v, m->main);
  sd_arena_free(arena);
  return st;
}
