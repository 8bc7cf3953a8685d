// Ranges of nodes become modules: nodes move, and what crosses becomes outputs and inputs.
#include "passes/partition/parts.h"

#include <string.h>

#include "passes/partition/symbols.h"

typedef struct cut {
  sd_module *m;
  sd_parts *parts;
  sd_arena *a;      // scratch
  uint32_t ids;     // of values when the cut began
  sd_value ***here; // per part, by id: what stands for the value there
  uint32_t *out_at; // by id: output + 1 of the part that defines it
} cut;

// ---- values across ----

static uint32_t home_of(const cut *c, const sd_value *v) {
  uint32_t p = 0;
  while (c->parts->at[p].module != v->graph->module) p++;
  return p;
}

static sd_wire wire_from(cut *c, sd_value *v) {
  if (!v->def) return (sd_wire){0, v->out_index, false}; // of an input its position
  uint32_t p = home_of(c, v);
  sd_graph *g = c->parts->at[p].module->main;
  if (!c->out_at[v->id]) sd_graph_output(g, v), c->out_at[v->id] = g->outputs.len;
  return (sd_wire){p + 1, c->out_at[v->id] - 1, false};
}

static sd_value *new_value(cut *c, sd_value *v, uint32_t p) {
  sd_part *part = &c->parts->at[p];
  sd_graph *g = part->module->main;
  sd_value *x;
  if (v->data) {
    x = sd_value_new(g, v->name);
    sd_value_copy_type(x, v);
    x->data = v->data;
  } else {
    sd_vec_push(c->m->arena, &part->in, wire_from(c, v));
    const char *name = *v->name ? v->name : sd_arena_printf(c->m->arena, "%%%u", v->id);
    x = sd_graph_input(g, name, v->dtype, v->rank, v->dims);
    x->object = v->object;
  }
  x->elems = v->elems, x->n_elems = v->n_elems;
  return x;
}

// What part p has for a value of the main graph.
static sd_value *brought(cut *c, sd_value *v, uint32_t p) {
  bool theirs = !v->def || v->graph->module != c->parts->at[p].module;
  if (v->graph->owner || v->id >= c->ids || !theirs) return v; // of a body, of the part
  sd_value **x = &c->here[p][v->id];
  if (!*x) *x = new_value(c, v, p);
  return *x;
}

// ---- nodes ----

static void adopt(sd_graph *g, sd_module *m) {
  g->module = m;
  for (uint32_t i = 0; i < g->children.len; i++) adopt(g->children.at[i], m);
}

static void bring_operands(cut *c, sd_graph *g, uint32_t p) {
  for (sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++)
      if (n->in[i]) sd_node_set_input(n, i, brought(c, n->in[i], p));
    for (uint32_t b = 0; b < n->n_body; b++) {
      bring_operands(c, n->bodies[b], p);
      for (uint32_t i = 0; i < n->bodies[b]->outputs.len; i++)
        n->bodies[b]->outputs.at[i] = brought(c, n->bodies[b]->outputs.at[i], p);
    }
  }
}

static void move_nodes(cut *c, const uint32_t *part_of) {
  uint32_t i = 0;
  for (sd_node *n = c->m->main->first, *next; n; n = next, i++) {
    sd_module *to = c->parts->at[part_of[i]].module;
    next = n->next;
    sd_node_move_to(n, to->main, NULL);
    for (uint32_t b = 0; b < n->n_body; b++) adopt(n->bodies[b], to);
  }
}

// Each output of the model is one of its part, also where the part has the same value for others.
static void make_outputs(cut *c) {
  sd_graph *main = c->m->main;
  for (uint32_t i = 0; i < main->outputs.len; i++) {
    sd_value *v = main->outputs.at[i];
    uint32_t p = v->def ? home_of(c, v) : 0; // what no node makes the first part copies
    sd_graph *g = c->parts->at[p].module->main;
    sd_graph_output(g, brought(c, v, p));
    if (v->def) c->out_at[v->id] = g->outputs.len;
    c->parts->out[i] = (sd_wire){p + 1, g->outputs.len - 1, false};
  }
}

// ---- sizes ----

static bool binds(const sd_graph *g, sd_dim symbol) {
  for (uint32_t i = 0; i < g->inputs.len; i++)
    for (int d = 0; d < g->inputs.at[i]->rank; d++)
      if (g->inputs.at[i]->dims[d] == symbol) return true;
  return false;
}

// Inputs that show the sizes that part p needs and does not make itself.
static sard_status *bring_sizes(cut *c, const sd_symbols *s, uint32_t p, const uint32_t *part_of) {
  sd_graph *g = c->parts->at[p].module->main;
  bool *needed = SD_NEW_ARRAY(c->a, bool, s->n + 1);
  for (const sd_node *n = g->first; n; n = n->next) sd_symbols_of(s, n, needed);
  for (uint32_t i = 0; i < g->inputs.len; i++) sd_symbols_of_value(s, g->inputs.at[i], needed);
  for (bool again = true; again;) {
    again = false;
    for (uint32_t i = 0; i < s->n; i++) {
      const sd_symbol *y = &s->at[i];
      bool own = !y->input && (!y->known || part_of[y->first] == p);
      if (!needed[i] || own || binds(g, y->dim)) continue;
      sd_value *show = y->input ? y->input : y->shown && part_of[y->shown_at] < p ? y->shown : NULL;
      if (!show)
        return SD_ERR(
            UNSUPPORTED,
            "the model cannot be cut in front of a node that needs the size '%s', which no value shows",
            sd_dim_get(c->m->dims, y->dim)->name);
      sd_symbols_of_value(s, brought(c, show, p), needed);
      again = true;
    }
  }
  return NULL;
}

static void mark_sizes(sd_part *p) {
  sd_graph *g = p->module->main;
  for (uint32_t i = 0; i < g->inputs.len; i++)
    p->in.at[i].sizes = !g->inputs.at[i]->uses.len && !sd_value_is_output(g->inputs.at[i]);
}

sard_status *sd_parts_cut(sd_module *m, const uint32_t *part_of, uint32_t n, sd_parts *out) {
  sd_arena *a = sd_arena_scratch(m->arena);
  sd_symbols symbols;
  cut c = {.m = m, .parts = out, .a = a, .ids = m->next_id};
  sard_status *st = NULL;
  sd_symbols_find(m, a, &symbols);
  *out = (sd_parts){.n = n, .at = SD_NEW_ARRAY(m->arena, sd_part, n)};
  out->out = SD_NEW_ARRAY(m->arena, sd_wire, m->main->outputs.len + 1);
  c.here = SD_NEW_ARRAY(a, sd_value **, n);
  c.out_at = SD_NEW_ARRAY(a, uint32_t, m->next_id + 1);
  for (uint32_t p = 0; p < n; p++) {
    out->at[p].module = sd_module_share(m);
    c.here[p] = SD_NEW_ARRAY(a, sd_value *, m->next_id + 1);
  }
  for (sd_node *x = m->main->first; x; x = x->next) x->rows_apart = sd_node_rows_apart(x);
  move_nodes(&c, part_of);
  for (uint32_t i = 0; i < m->main->inputs.len; i++) brought(&c, m->main->inputs.at[i], 0);
  make_outputs(&c);
  for (uint32_t p = 0; p < n; p++) bring_operands(&c, out->at[p].module->main, p);
  for (uint32_t p = 1; p < n && !st; p++) st = bring_sizes(&c, &symbols, p, part_of);
  for (uint32_t p = 0; p < n; p++) mark_sizes(&out->at[p]);
  sd_arena_free(a);
  return st;
}

void sd_parts_take(sd_module *m, sd_parts *parts, uint32_t index) {
  const sd_module *part = parts->at[index].module;
  m->main = part->main, m->next_id = part->next_id;
  m->requires = part->requires, m->otypes = part->otypes;
  m->batch_axes = NULL, m->batch_n = 0, m->batch_why = NULL, m->batch = SD_DIM_NONE;
  adopt(m->main, m);
  parts->n = 0;
}

void sd_parts_bound(sd_module *m, bool *whole, sd_arena *a) {
  sd_symbols s;
  sd_symbols_find(m, a, &s);
  for (uint32_t i = 0; i < s.n; i++) {
    const sd_symbol *y = &s.at[i];
    if (y->input || !y->known) continue;
    for (uint32_t k = y->first; k < y->last && !(y->shown && y->shown_at <= k); k++) whole[k] = true;
  }
}
