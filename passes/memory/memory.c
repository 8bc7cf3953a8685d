// Storage: views share the memory of their operand, maps overwrite an operand that nothing needs any more.
#include "passes/edit.h"

// ---- windows: parts of a concatenation and the inside of a padded value are computed where they will lie ----

static bool reads_by_offset(const sd_node *n) {
  return n->op->kind <= SD_COMPOSITE || sd_edit_is(n, "sard.Fused") || sd_op_has(n->op, SD_WINDOWS);
}

typedef struct viewed { bool *at; } viewed; // by value id: has a view

static bool can_move(const sd_value *v, const viewed *w) {
  if (!v->def || v->data || v->storage || v->view || w->at[v->id] || v->rank < 1 || sd_value_is_output(v) || !reads_by_offset(v->def)) return false;
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (!reads_by_offset(v->uses.at[i].node)) return false;
  return true;
}

static void set_window(sd_module *m, sd_value *v, sd_value *in, const sd_dim *at) {
  v->storage = in;
  v->window = sd_arena_dup(m->arena, at, (size_t)in->rank * sizeof *at);
}

// Contains a symbol that no input binds: its value, and with it a size that it is part of, may come later than a part.
static bool is_late(const sd_module *m, sd_dim d) {
  const sd_dimnode *x = sd_dim_get(m->dims, d);
  if (!x) return true;
  if (x->op == SD_DIM_SYM) {
    for (uint32_t i = 0; i < m->main->inputs.len; i++)
      for (int k = 0; k < m->main->inputs.at[i]->rank; k++)
        if (m->main->inputs.at[i]->dims[k] == d) return false;
    return true;
  }
  for (uint32_t i = 0; i < x->n; i++)
    if (is_late(m, x->args[i])) return true;
  return false;
}

static sard_status *place_concat(sd_node *n, viewed *w, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_value *y = n->out[0];
  int64_t axis = sd_node_int(n, "axis", 0), count;
  sd_dim at[SD_MAX_RANK];
  if (y->rank < 1 || y->storage || y->view || w->at[y->id] || (sd_dim_is_const(m->dims, sd_value_count(y), &count) && count <= 256)) return NULL;
  for (uint32_t i = 0; i < y->uses.len; i++)
    if (!reads_by_offset(y->uses.at[i].node)) return NULL;
  for (int d = 0; d < y->rank; d++)
    if (is_late(m, y->dims[d])) return NULL;
  if (axis < 0) axis += y->rank;
  for (int d = 0; d < y->rank; d++) at[d] = sd_dim_const(m->dims, 0);
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i];
    if (!can_move(v, w)) { // it stays where it is: a copy goes into the window
      sd_node *copy;
      SD_TRY(sd_build(n->graph, n, "Identity", &v, 1, &copy));
      copy->name = n->name;
      sd_node_set_input(n, i, copy->out[0]);
      v = copy->out[0];
    }
    set_window(m, v, y, at);
    at[axis] = sd_dim_add(m->dims, at[axis], v->dims[axis]);
  }
  y->view = true;
  r->rewrites++;
  return NULL;
}

// A concatenation of the first operands of a later one (dense blocks) is the beginning of it.
static bool begins(const sd_node *c, const sd_node *whole, const viewed *w) {
  const sd_value *y = c->out[0];
  if (c == whole || !sd_edit_is(c, "Concat") || c->graph != whole->graph || c->n_in >= whole->n_in || c->n_in < 2) return false;
  if (sd_node_int(c, "axis", 0) != sd_node_int(whole, "axis", 0) || y->storage || y->view || w->at[y->id] || sd_value_is_output(y)) return false;
  for (uint32_t i = 0; i < y->uses.len; i++)
    if (!reads_by_offset(y->uses.at[i].node)) return false;
  for (uint32_t i = 0; i < c->n_in; i++)
    if (c->in[i] != whole->in[i] || !can_move(c->in[i], w)) return false;
  return true;
}

static sard_status *place_nested(sd_node *whole, viewed *w, sd_pass_report *r) {
  sd_node *parts[256];
  uint32_t n = 0;
  sd_dim zero[SD_MAX_RANK];
  sd_value *y = whole->out[0], *first = whole->in[0];
  for (uint32_t i = 0; first && i < first->uses.len && n < 256; i++) {
    const sd_use *u = &first->uses.at[i];
    if (u->operand == 0 && begins(u->node, whole, w)) parts[n++] = u->node;
  }
  if (!n) return NULL;
  SD_TRY(place_concat(whole, w, r));
  for (int d = 0; d < SD_MAX_RANK; d++) zero[d] = sd_dim_const(y->graph->module->dims, 0);
  for (uint32_t i = 0; i < n && y->view; i++) {
    bool inside = true;
    for (uint32_t q = 0; q < parts[i]->n_in; q++) inside &= parts[i]->in[q]->storage == y && whole->in[q] == parts[i]->in[q];
    if (!inside) continue;
    set_window(y->graph->module, parts[i]->out[0], y, zero);
    parts[i]->out[0]->view = true;
    r->rewrites++;
  }
  return NULL;
}

static void place_pad(sd_node *n, const viewed *w, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_value *x = n->in[0], *y = n->out[0];
  sd_dim pads[2 * SD_MAX_RANK];
  uint32_t count;
  if (strcmp(sd_node_str(n, "mode", "constant"), "constant") != 0 || (n->n_in > 3 && n->in[3]) || n->n_out != 1) return;
  if (!n->in[1] || !sd_value_elems(n->in[1], pads, 2 * SD_MAX_RANK, &count) || count != 2 * (uint32_t)x->rank) return;
  for (uint32_t i = 0; i < count; i++)
    if (sd_dim_lt(m->dims, pads[i], sd_dim_const(m->dims, 0)) != 0) return;
  bool joined = x->view && !x->storage && !x->data && x->def && sd_edit_is(x->def, "Concat") && !w->at[x->id] && !sd_value_is_output(x);
  if (!joined && !can_move(x, w)) return;
  set_window(m, x, y, pads);
  r->rewrites++;
}

// Rows whose distance is a multiple of 4 KiB fall into one set of the first-level cache; a contraction reads many rows
// side by side. Such values get rows that are one cache line longer.
#define ROW_ALIAS (2048 * 8) // bits; rows are often read two apart
#define ROW_SLACK 16         // elements

static bool feeds_contraction(const sd_value *v) {
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_node *n = v->uses.at[i].node;
    if (n->op->kind == SD_CONTRACT) return true;
    for (const sd_node *x = n->n_body ? n->bodies[0]->first : NULL; x; x = x->next)
      if (x->op->kind == SD_CONTRACT && x->in[0] && !x->in[0]->def && x->in[0]->graph == n->bodies[0] &&
          n->bodies[0]->inputs.at[v->uses.at[i].operand] == x->in[0])
        return true;
  }
  return false;
}

static void place_rows(sd_module *m, sd_value *v, const viewed *w, sd_pass_report *r) {
  int64_t last;
  sd_dim dims[SD_MAX_RANK], at[SD_MAX_RANK];
  if (!v || v->rank < 2 || !can_move(v, w) || !sd_dim_is_const(m->dims, v->dims[v->rank - 1], &last)) return;
  if (last == 0 || last * sd_dtype_bits(v->dtype) % ROW_ALIAS || !feeds_contraction(v)) return;
  for (int d = 0; d < v->rank; d++) dims[d] = v->dims[d], at[d] = sd_dim_const(m->dims, 0);
  dims[v->rank - 1] = sd_dim_const(m->dims, last + ROW_SLACK);
  sd_value *holder = sd_value_new(v->graph, "");
  sd_value_set_type(holder, v->dtype, v->rank, dims);
  set_window(m, v, holder, at);
  r->rewrites++;
}

// Outputs of loop bodies that are stacked: each pass writes its part where it will lie.
static uint32_t times_output(const sd_graph *g, const sd_value *v) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < g->outputs.len; i++) n += g->outputs.at[i] == v;
  return n;
}

static bool movable_output(const sd_graph *body, const sd_value *v, const viewed *w) {
  if (!v->def || v->graph != body || v->data || v->storage || v->view || w->at[v->id]) return false;
  if (!reads_by_offset(v->def) || times_output(body, v) != 1) return false;
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (!reads_by_offset(v->uses.at[i].node)) return false;
  return true;
}

static sard_status *place_stacked(sd_node *n, const viewed *w, int opt, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_graph *body = n->bodies[0];
  sd_dim at[SD_MAX_RANK];
  for (int d = 1; d < SD_MAX_RANK; d++) at[d] = sd_dim_const(m->dims, 0);
  for (uint32_t i = n->n_in; i < n->n_out; i++) {
    sd_value *v = body->outputs.at[i];
    SD_TRY(sd_for_position(n, i, &at[0]));
    if (opt < 1 || !movable_output(body, v, w)) {
      sd_node *copy;
      SD_TRY(sd_build(body, NULL, "Identity", &v, 1, &copy));
      copy->name = n->name;
      body->outputs.at[i] = v = copy->out[0];
    }
    set_window(m, v, n->out[i], at);
    r->rewrites++;
  }
  return NULL;
}

typedef struct memory {
  const sd_pass_options *o;
  sd_arena *scratch;
  sd_pass_report *r;
  viewed views;
  uint32_t limit; // room for ids in `views`
} memory;

static sard_status *place_windows(sd_graph *g, void *user) {
  memory *x = user;
  sd_module *m = g->module;
  const viewed *w = &x->views;
  for (sd_node *n = g->last; n && x->o->opt >= 1 && m->next_id < x->limit - 512; n = n->prev)
    if (sd_edit_is(n, "Concat")) SD_TRY(place_nested(n, &x->views, x->r));
  for (sd_node *n = g->first; n && m->next_id < x->limit - 512; n = n->next) {
    if (sd_edit_is(n, "sard.For")) SD_TRY(place_stacked(n, w, x->o->opt, x->r));
    if (x->o->opt < 1) continue;
    if (sd_edit_is(n, "Concat")) SD_TRY(place_concat(n, &x->views, x->r));
    else if (sd_edit_is(n, "Pad")) place_pad(n, w, x->r);
  }
  if (x->o->opt < 1 || !x->o->target.apart_rows) return NULL;
  for (sd_node *n = g->first; n && m->next_id < x->limit - 512; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) place_rows(m, n->out[i], w, x->r);
  return NULL;
}

// ---- in place ----

// By value id, of the last value of a chain of storage that lies in the graph at hand: the last step that reads it, and
// the last one that reads it inside of a body.
typedef struct positions { uint32_t *last, *inner; } positions;
#define NEVER UINT32_MAX

static sd_value *local_root(const sd_graph *g, sd_value *v) {
  sd_value *r = NULL;
  for (; v; v = v->storage)
    if (v->graph == g) r = v;
  return r;
}

static void mark_read(const positions *p, const sd_graph *g, sd_value *v, uint32_t step, bool inside) {
  sd_value *r = v ? local_root(g, v) : NULL;
  if (!r) return;
  p->last[r->id] = step;
  if (inside) p->inner[r->id] = step;
}

static void mark_body(const positions *p, const sd_graph *g, const sd_graph *body, uint32_t step) {
  for (const sd_node *n = body->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++) mark_read(p, g, n->in[i], step, true);
    for (uint32_t i = 0; i < n->n_body; i++) mark_body(p, g, n->bodies[i], step);
  }
  for (uint32_t i = 0; i < body->outputs.len; i++) mark_read(p, g, body->outputs.at[i], step, true);
}

static void number_steps(const sd_graph *g, const positions *p) {
  uint32_t step = 1;
  for (sd_node *n = g->first; n; n = n->next, step++) {
    for (uint32_t i = 0; i < n->n_in; i++) mark_read(p, g, n->in[i], step, false);
    for (uint32_t i = 0; i < n->n_body; i++)
      if (!sd_edit_is(n, "sard.Fused")) mark_body(p, g, n->bodies[i], step);
  }
  for (uint32_t i = 0; i < g->outputs.len; i++) mark_read(p, g, g->outputs.at[i], NEVER, false);
}

// May the memory of v be overwritten by step `step` of g, its last reader?
static sd_value *overwritable(const sd_graph *g, sd_value *v, const sd_value *out, uint32_t step, const positions *p) {
  sd_value *s = v ? local_root(g, v) : NULL;
  if (!s || v->window || s->data || s->window || out->storage || p->last[s->id] != step || p->inner[s->id] == step) return NULL;
  if (!s->def && !(g->owner && sd_edit_is(g->owner, "sard.For") && sd_value_is_input(s))) return NULL;
  if (sd_dtype_bits(v->dtype) != sd_dtype_bits(out->dtype) || sd_value_count(v) != sd_value_count(out)) return NULL;
  return s;
}

typedef struct search { const sd_buf *buf; const sd_expr *offset; bool ok; uint8_t *seen; } search;

// Every load of the buffer reads exactly the element that the same point stores, outside of reductions.
static void check_loads(search *s, const sd_expr *e, bool reduced) {
  if (!s->ok || (s->seen[e->id] & (reduced ? 2 : 1))) return;
  s->seen[e->id] |= reduced ? 2 : 1;
  if (e->op == SD_X_LOAD && e->buf == s->buf && (reduced || e->a[0] != s->offset)) s->ok = false;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) check_loads(s, e->a[i], reduced || e->op == SD_X_REDUCE);
}

static bool overwrites(const sd_kernel *k, const sd_value *operand, const sd_value *out) {
  const sd_buf *buf = NULL;
  if (k->items.len != 1 || !k->items.at[0].nest || k->grid.len) return false;
  const sd_nest *n = k->items.at[0].nest;
  if (n->stores.len != 1 || n->sequential || n->stores.at[0].buf->value != out) return false;
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->kind != SD_BUF_IN || k->bufs.at[i]->value != operand) continue;
    if (buf) return false;
    buf = k->bufs.at[i];
  }
  if (!buf) return false;
  search s = {buf, n->stores.at[0].offset, true, SD_NEW_ARRAY(k->arena, uint8_t, k->n_expr + 1)};
  check_loads(&s, n->stores.at[0].value, false);
  if (n->stores.at[0].guard) s.ok = false;
  return s.ok;
}

// Another operand of the node lives in the same memory.
static bool shares_root(const sd_node *n, uint32_t operand) {
  for (uint32_t q = 0; q < n->n_in; q++)
    if (q != operand && n->in[q] && n->in[q] != n->in[operand] && sd_value_root(n->in[q]) == sd_value_root(n->in[operand])) return true;
  return false;
}

static sard_status *try_in_place(sd_node *n, uint32_t step, const positions *p, sd_arena *scratch, sd_pass_report *r) {
  sd_value *out = n->out[0];
  sd_graph *g = n->graph;
  sd_kernel *k = NULL;
  if (n->n_out != 1 || !out || (!g->owner && sd_value_is_output(out)) || n->op->kind == SD_NESTS || sd_kind_is_host(n->op->kind)) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i], *s = overwritable(g, v, out, step, p);
    if (!s || shares_root(n, i)) continue;
    if (!k) SD_TRY(sd_lower_node(scratch, g->module, n, &k));
    if (!overwrites(k, v, out)) continue;
    out->storage = v;
    p->last[s->id] = p->last[out->id];
    p->inner[s->id] = p->inner[out->id];
    r->rewrites++;
    return NULL;
  }
  return NULL;
}

// States of a loop start in the memory of their initial values.
static void start_in_place(sd_node *n, uint32_t step, const positions *p, sd_pass_report *r) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i], *out = n->out[i], *s;
    bool again = false;
    if (!n->graph->owner && sd_value_is_output(out)) continue;
    s = overwritable(n->graph, v, out, step, p);
    for (uint32_t q = 0; q < n->n_in && s; q++) again |= q != i && sd_value_root(n->in[q]) == sd_value_root(v);
    if (!s || again) continue;
    out->storage = v;
    p->last[s->id] = p->last[out->id];
    p->inner[s->id] = p->inner[out->id];
    r->rewrites++;
  }
}

static sard_status *compute_in_place(sd_graph *g, void *user) {
  const memory *x = user;
  uint32_t n_ids = g->module->next_id + 1, step = 1;
  positions p = {SD_NEW_ARRAY(x->scratch, uint32_t, n_ids), SD_NEW_ARRAY(x->scratch, uint32_t, n_ids)};
  number_steps(g, &p);
  for (sd_node *n = g->first; n; n = n->next, step++) {
    if (sd_edit_is(n, "sard.For")) start_in_place(n, step, &p, x->r);
    else if (n->op->kind != SD_CONTROL || sd_edit_is(n, "sard.Fused"))
      if (n->out[0] && !n->out[0]->view) SD_TRY(try_in_place(n, step, &p, x->scratch, x->r));
  }
  return NULL;
}

// Views and the states of loops: what needs no choice.
static sard_status *share(sd_graph *g, void *user) {
  memory *x = user;
  for (sd_node *n = g->first; n; n = n->next) {
    if (sd_op_has(n->op, SD_RENAMES) && n->out[0] && n->in[0] && n->in[0]->dtype == n->out[0]->dtype) {
      n->out[0]->storage = n->in[0], n->out[0]->view = true;
      x->views.at[n->in[0]->id] = true;
      x->r->rewrites++;
    }
    bool loop = sd_edit_is(n, "sard.For") || sd_edit_is(n, "sard.While");
    for (uint32_t i = 0; loop && i < n->bodies[0]->inputs.len; i++) {
      sd_value *state = n->bodies[0]->inputs.at[i];
      state->storage = n->out[i];
      x->r->rewrites++;
    }
  }
  return NULL;
}

static void forget(sd_value *v) {
  if (v) v->storage = NULL, v->window = NULL, v->view = false;
}

static sard_status *forget_graph(sd_graph *g, void *user) {
  (void)user;
  for (uint32_t i = 0; i < g->inputs.len; i++) forget(g->inputs.at[i]);
  for (sd_node *n = g->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) forget(n->out[i]);
  return NULL;
}

sard_status *sd_memory_forget(sd_module *m) { return sd_edit_graphs(m, forget_graph, NULL); }

sard_status *sd_pass_memory(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  uint32_t limit = m->next_id * 4 + 4096; // room for the copies made here
  memory x = {o, scratch, r, {SD_NEW_ARRAY(scratch, bool, limit)}, limit};
  SD_TRY(sd_edit_graphs(m, share, &x));
  SD_TRY(sd_edit_graphs(m, place_windows, &x));
  return o->opt < 1 ? NULL : sd_edit_graphs(m, compute_in_place, &x);
}
