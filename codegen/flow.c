// Graphs to steps: one dispatch for each node, copies and symbols around the bodies of loops and branches.
#include <string.h>

#include "codegen/gen.h"
#include "runtime/host.h"

typedef struct flow {
  sd_gen *g;
  sd_arena *scratch;
  int depth;
  sd_requires checked; // in the bodies around the node at hand
} flow;

static sd_dimtab *tab(const flow *f) { return f->g->m->dims; }
static bool is_op(const sd_node *n, const char *name) { return strcmp(n->op->name, name) == 0; }

// ---- single steps ----

// The step is filled in place: it moves when further ones are added.
static sd_step *add(flow *f, sard_art_stepkind kind, const sd_node *n, sd_value *const *values, uint32_t n_values) {
  sd_step s = {.kind = kind, .node = n, .n_bufs = n_values};
  s.bufs = SD_NEW_ARRAY(f->g->a, sd_binding, n_values + 1);
  for (uint32_t i = 0; i < n_values; i++) s.bufs[i].value = values[i];
  sd_vec_push(f->g->a, &f->g->steps, s);
  return &f->g->steps.at[f->g->steps.len - 1];
}

static void add_copy(flow *f, const sd_node *n, sd_value *from, sd_value *to) {
  if (sd_value_root(from) == sd_value_root(to)) return;
  sd_step *s = add(f, SARD_AS_COPY, n, (sd_value *[]){from, to}, 2);
  s->bufs[1].written = true;
}

// Memory of its own with the type of v.
static sd_value *temporary(flow *f, sd_value *v, sd_graph *graph) {
  sd_value *t = sd_value_new(graph, "");
  sd_value_copy_type(t, v);
  (void)f;
  return t;
}

static bool is_of_input(const sd_graph *main, sd_dim d) {
  for (uint32_t i = 0; i < main->inputs.len; i++)
    for (int k = 0; k < main->inputs.at[i]->rank; k++)
      if (main->inputs.at[i]->dims[k] == d) return true;
  return false;
}

// Symbols that are whole dims of `to` where `from` has something else get the values that `from` has. Those of inputs keep
// theirs: it is required that they are the same.
static void collect_sets(flow *f, const sd_value *to, const sd_value *from, sd_dims *defs, sd_dims *dims) {
  for (int d = 0; d < to->rank && d < from->rank; d++) {
    bool known = to->dims[d] == from->dims[d] || sd_dim_get(tab(f), to->dims[d])->op != SD_DIM_SYM || is_of_input(f->g->m->main, to->dims[d]);
    for (uint32_t i = 0; i < defs->len && !known; i++) known = defs->at[i] == to->dims[d];
    if (known) continue;
    sd_vec_push(f->g->a, defs, to->dims[d]);
    sd_vec_push(f->g->a, dims, from->dims[d]);
  }
}

static void add_set(flow *f, const sd_node *n, sd_dims defs, sd_dims dims) {
  if (!defs.len) return;
  sd_step *s = add(f, SARD_AS_SET, n, NULL, 0);
  s->defs = defs, s->dims = dims;
}

// ---- loops ----

typedef struct loop {
  sd_node *n;
  sd_graph *body;
  uint32_t states, first_in, first_next; // number; first operand and first output of the body that are states
  sd_value *cond;                        // condition, NULL = none
} loop;

static void start_states(flow *f, const loop *l) {
  sd_dims defs = {0}, dims = {0};
  for (uint32_t i = 0; i < l->states; i++) collect_sets(f, l->body->inputs.at[i], l->n->in[l->first_in + i], &defs, &dims);
  add_set(f, l->n, defs, dims);
  for (uint32_t i = 0; i < l->states; i++) add_copy(f, l->n, l->n->in[l->first_in + i], l->n->out[i]);
}

// The next value lies in the memory of another state, which is overwritten as well.
static bool crosses(const loop *l, uint32_t state, const sd_value *next) {
  for (uint32_t i = 0; i < l->states; i++)
    if (i != state && sd_value_root((sd_value *)next) == sd_value_root(l->n->out[i])) return true;
  return false;
}

static void next_states(flow *f, const loop *l) {
  sd_dims defs = {0}, dims = {0};
  sd_value **from = SD_NEW_ARRAY(f->g->a, sd_value *, l->states + 1);
  for (uint32_t i = 0; i < l->states; i++) {
    sd_value *next = from[i] = l->body->outputs.at[l->first_next + i];
    uint32_t before = defs.len;
    collect_sets(f, l->body->inputs.at[i], next, &defs, &dims);
    if (defs.len == before && !crosses(l, i, next)) continue;
    from[i] = temporary(f, next, l->body); // its size is read before the symbols change
    add_copy(f, l->n, next, from[i]);
  }
  add_set(f, l->n, defs, dims);
  for (uint32_t i = 0; i < l->states; i++) add_copy(f, l->n, from[i], l->n->out[i]);
}

static sard_status *graph_steps(flow *f, sd_graph *graph);

static sard_status *add_for(flow *f, sd_node *n) {
  loop l = {n, n->bodies[0], n->n_in, 0, 0, NULL};
  sd_dim trip, counter;
  SD_TRY(sd_for_dims(n, &trip, &counter));
  start_states(f, &l);
  uint32_t at = f->g->steps.len;
  sd_step *s = add(f, SARD_AS_LOOP, n, NULL, 0);
  s->trip = trip, s->held = n->out, s->n_held = n->n_out;
  sd_vec_push(f->g->a, &s->defs, counter);
  SD_TRY(graph_steps(f, l.body));
  next_states(f, &l); // stacked outputs are windows: see passes/memory
  f->g->steps.at[at].body = f->g->steps.len - at - 1;
  return NULL;
}

static sard_status *add_while(flow *f, sd_node *n) {
  sd_graph *body = n->bodies[0];
  uint32_t states = n->n_in - 1, cond = n->in[0] ? 1 : 0, stacked = n->n_out - states;
  loop l = {n, body, states, 1, cond, NULL};
  sd_dim trip, counter, count;
  SD_TRY(sd_while_dims(n, &trip, &counter, &count));
  start_states(f, &l);
  sd_value **bufs = SD_NEW_ARRAY(f->g->a, sd_value *, stacked + 1), *yes;
  static const uint8_t always[64] = {1};
  if (cond) {
    bufs[0] = temporary(f, n->in[0], n->graph);
    add_copy(f, n, n->in[0], bufs[0]);
  } else {
    bufs[0] = yes = sd_value_const(n->graph, "", SD_BOOL, 0, NULL, always);
    if (!yes) return SD_ERR(INTERNAL, "a constant cannot be made");
  }
  memcpy(bufs + 1, n->out + states, stacked * sizeof *bufs);
  uint32_t at = f->g->steps.len;
  sd_step *s = add(f, SARD_AS_LOOP, n, bufs, stacked + 1);
  s->trip = trip, s->held = n->out, s->n_held = n->n_out;
  sd_vec_push(f->g->a, &s->defs, counter);
  sd_vec_push(f->g->a, &s->defs, count);
  SD_TRY(graph_steps(f, body));
  for (uint32_t i = 0; i < stacked; i++) {
    sd_step *a = add(f, SARD_AS_APPEND, n, (sd_value *[]){body->outputs.at[cond + states + i], n->out[states + i]}, 2);
    a->bufs[1].written = true;
    const sd_value *part = body->outputs.at[cond + states + i];
    if (sd_dtype_bits(part->dtype) >= 8) continue;
    sd_vec_push(f->g->a, &a->dims, sd_dim_const(tab(f), part->dtype));
    sd_vec_push(f->g->a, &a->dims, sd_value_count(part));
  }
  if (cond) add_copy(f, n, body->outputs.at[0], bufs[0]); // before the states change what it may lie in
  next_states(f, &l);
  f->g->steps.at[at].body = f->g->steps.len - at - 1;
  return NULL;
}

// ---- branches ----

static sard_status *add_branch(flow *f, sd_node *n, sd_graph *body, uint32_t *out_steps) {
  uint32_t at = f->g->steps.len;
  sd_dims defs = {0}, dims = {0};
  SD_TRY(graph_steps(f, body));
  for (uint32_t i = 0; i < n->n_out; i++) collect_sets(f, n->out[i], body->outputs.at[i], &defs, &dims);
  add_set(f, n, defs, dims);
  for (uint32_t i = 0; i < n->n_out; i++) add_copy(f, n, body->outputs.at[i], n->out[i]);
  *out_steps = f->g->steps.len - at;
  return NULL;
}

static sard_status *add_if(flow *f, sd_node *n) {
  uint32_t at = f->g->steps.len, then, other;
  add(f, SARD_AS_BRANCH, n, n->in, 1);
  SD_TRY(add_branch(f, n, n->bodies[0], &then));
  SD_TRY(add_branch(f, n, n->bodies[1], &other));
  f->g->steps.at[at].body = then, f->g->steps.at[at].other = other;
  return NULL;
}

// ---- other nodes ----

static sard_status *add_define(flow *f, sd_node *n) {
  sd_step *s = add(f, SARD_AS_DEFINE, n, n->in, 1);
  const sd_attr *symbols = sd_node_attr(n, "symbols");
  for (uint32_t i = 0; i < symbols->n; i++) {
    const char *p = symbols->strings[i];
    sd_vec_push(f->g->a, &s->defs, sd_dim_parse(tab(f), &p));
  }
  sd_vec_push(f->g->a, &s->dims, sd_dim_const(tab(f), n->out[0]->dtype));
  sd_vec_push(f->g->a, &s->dims, sd_dim_const(tab(f), sd_node_int(n, "sign", 0)));
  n->out[0]->storage = n->in[0]; // the same numbers
  return NULL;
}

// Describes a tensor in the dims list of a HOST step: type, rank, dims.
static void describe(flow *f, sd_dims *to, const sd_value *v) {
  sd_arena *a = f->g->a;
  sd_vec_push(a, to, sd_dim_const(tab(f), v ? (int64_t)v->dtype : 0));
  sd_vec_push(a, to, sd_dim_const(tab(f), v ? v->rank : 0));
  for (int d = 0; v && d < v->rank; d++) sd_vec_push(a, to, v->dims[d]);
}

static sard_status *add_host(flow *f, sd_node *n) {
  sd_dim param[SD_HOST_PARAMS];
  uint32_t n_param, n_bufs = 0, n_read = 0;
  sd_arena *a = f->g->a;
  sd_value **bufs = SD_NEW_ARRAY(a, sd_value *, n->n_in + n->n_out + 1);
  sd_dims dims = {0};
  if (!sd_host_find(n->op->name)) return SD_ERR(UNSUPPORTED, "%s has no host function", n->op->name);
  SD_TRY(sd_host_params(n, param, &n_param));
  sd_vec_push(a, &dims, sd_dim_const(tab(f), n->n_in));
  sd_vec_push(a, &dims, sd_dim_const(tab(f), n->n_out));
  for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
    sd_value *v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
    if (v && i >= n->n_in && !v->uses.len && !sd_value_is_output(v) && n->op->kind == SD_HOST && i > n->n_in) v = NULL; // nobody reads it
    if (v && (v->rank < 0 || v->dtype == SD_DT_NONE)) return SD_ERR(UNSUPPORTED, "the type of operand or output %u is not known", i);
    describe(f, &dims, v);
    if (v) bufs[n_bufs++] = v;
    if (i < n->n_in) n_read = n_bufs;
  }
  for (uint32_t i = 0; i < n_param; i++) sd_vec_push(a, &dims, param[i]);
  sd_step *s = add(f, SARD_AS_HOST, n, bufs, n_bufs);
  for (uint32_t i = n_read; i < n_bufs; i++) s->bufs[i].written = true;
  s->dims = dims;
  return NULL;
}

static bool needs_code(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && !n->out[i]->view) return true;
  return false;
}

// ---- sizes that must agree ----

static bool is_checked(const sd_requires *list, const sd_require *r) {
  for (uint32_t i = 0; i < list->len; i++)
    if (list->at[i].a == r->a && list->at[i].b == r->b && list->at[i].broadcast <= r->broadcast) return true;
  return false;
}

// What the shapes of n need: in the main graph it joins the requirements of the module, in a body steps in front of those of
// n check it, as the body may never run. Host functions check their operands themselves.
static sard_status *add_checks(flow *f, sd_node *n) {
  sd_module *m = f->g->m;
  sd_requires list = {0};
  if (!m->has_bodies || sd_kind_is_host(n->op->kind)) return NULL;
  SD_TRY(sd_node_requires(n, &list));
  for (uint32_t i = 0; i < list.len; i++) {
    const sd_require *r = &list.at[i];
    if (f->depth == 1) sd_module_require(m, r->a, r->b, r->broadcast, r->what);
    if (f->depth == 1 || is_checked(&m->requires, r) || is_checked(&f->checked, r)) continue;
    sd_vec_push(f->g->a, &f->checked, *r);
    sd_step *s = add(f, SARD_AS_CHECK, n, NULL, 0);
    sd_vec_push(f->g->a, &s->dims, r->a);
    sd_vec_push(f->g->a, &s->dims, r->b);
    sd_vec_push(f->g->a, &s->dims, sd_dim_const(tab(f), r->broadcast));
  }
  return NULL;
}

static sard_status *node_steps(flow *f, sd_node *n) {
  SD_TRY(add_checks(f, n));
  if (is_op(n, "sard.For")) return add_for(f, n);
  if (is_op(n, "sard.While")) return add_while(f, n);
  if (is_op(n, "If")) return add_if(f, n);
  if (is_op(n, "sard.Define")) return add_define(f, n);
  if (sd_kind_is_host(n->op->kind)) return add_host(f, n);
  if (!needs_code(n)) return NULL;
  sard_status *st = sd_gen_kernel(f->g, n, f->scratch);
  sd_arena_reset(f->scratch);
  return st;
}

static sard_status *graph_steps(flow *f, sd_graph *graph) {
  uint32_t outer = f->checked.len;
  if (f->depth++ > SD_MAX_DEPTH) return SD_ERR(UNSUPPORTED, "bodies are nested more than %d deep", SD_MAX_DEPTH);
  for (sd_node *n = graph->first; n; n = n->next) {
    sard_status *st = node_steps(f, n);
    if (st) return sd_node_error(n, st);
  }
  f->checked.len = outer;
  f->depth--;
  return NULL;
}

sard_status *sd_gen_graph(sd_gen *g, sd_graph *graph, sd_arena *scratch, int depth) {
  flow f = {g, scratch, depth, {0}};
  return graph_steps(&f, graph);
}

// ---- dead steps ----

static bool writes_live(const sd_step *s, const bool *live) {
  for (uint32_t i = 0; i < s->n_bufs; i++)
    if (s->bufs[i].written && live[sd_value_root(s->bufs[i].value)->id]) return true;
  return false;
}

static bool is_needed(const sd_gen *g, uint32_t at, const bool *live) {
  const sd_step *s = &g->steps.at[at];
  if (s->kind == SARD_AS_DISPATCH || s->kind == SARD_AS_COPY || s->kind == SARD_AS_APPEND) return writes_live(s, live);
  if (s->kind == SARD_AS_DEFINE || s->kind == SARD_AS_SET || s->kind == SARD_AS_HOST || s->kind == SARD_AS_CHECK || s->defs.len > 1) return true;
  for (uint32_t i = at + 1; i <= at + s->body + s->other; i++)
    if (g->steps.at[i].live) return true;
  return false;
}

// Steps of a dead loop are dead; those of symbols inside of a loop keep it.
static void mark_live(sd_gen *g, bool *live) {
  for (uint32_t i = 0; i < g->m->main->outputs.len; i++) live[sd_value_root(g->m->main->outputs.at[i])->id] = true;
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = g->steps.len; i-- > 0;) {
      sd_step *s = &g->steps.at[i];
      if (s->live || !is_needed(g, i, live)) continue;
      s->live = changed = true;
      for (uint32_t b = 0; b < s->n_bufs; b++) live[sd_value_root(s->bufs[b].value)->id] = true;
    }
  }
}

// Numbers of live steps in a body.
static uint32_t live_in(const sd_gen *g, uint32_t from, uint32_t n) {
  uint32_t count = 0;
  for (uint32_t i = from; i < from + n; i++) count += g->steps.at[i].live;
  return count;
}

static void drop_units(sd_gen *g) {
  uint32_t *to = SD_NEW_ARRAY(g->a, uint32_t, g->units.len + 1), n = 0;
  for (uint32_t i = 0; i < g->steps.len; i++)
    if (g->steps.at[i].kind == SARD_AS_DISPATCH) to[g->steps.at[i].unit] = 1;
  for (uint32_t i = 0; i < g->units.len; i++) {
    if (!to[i]) continue;
    to[i] = n;
    g->units.at[n++] = g->units.at[i];
  }
  g->units.len = n;
  for (uint32_t i = 0; i < g->steps.len; i++) g->steps.at[i].unit = to[g->steps.at[i].unit];
}

void sd_gen_sweep(sd_gen *g) {
  bool *live = SD_NEW_ARRAY(g->a, bool, g->m->next_id + 1);
  uint32_t n = 0;
  mark_live(g, live);
  for (uint32_t i = 0; i < g->steps.len; i++) { // counts first: they look at steps that stand behind
    sd_step *s = &g->steps.at[i];
    uint32_t body = s->body;
    s->body = live_in(g, i + 1, body);
    s->other = live_in(g, i + 1 + body, s->other);
  }
  for (uint32_t i = 0; i < g->steps.len; i++)
    if (g->steps.at[i].live) g->steps.at[n++] = g->steps.at[i];
  g->steps.len = n;
  if (g->units.len) drop_units(g);
}
