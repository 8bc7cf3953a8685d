// Follows symbols through the dims, contents and texts of nodes.
#include "passes/partition/symbols.h"

#include <string.h>

#include "ir/op.h"

// Called for each symbol of a node, perhaps several times.
typedef struct visitor {
  const sd_module *m;
  void (*fn)(struct visitor *v, sd_dim symbol);
  const sd_symbols *s; // marking
  bool *set;
  sd_dim *list; // collecting
  uint32_t n, cap;
  sd_arena *a;
} visitor;

static void of_dim(visitor *v, sd_dim d) {
  if (d == SD_DIM_NONE) return;
  const sd_dimnode *x = sd_dim_get(v->m->dims, d);
  if (x->op == SD_DIM_SYM) v->fn(v, d);
  for (uint32_t i = 0; i < x->n; i++) of_dim(v, x->args[i]);
}

static void of_value(visitor *v, const sd_value *x) {
  for (int d = 0; x && d < x->rank; d++) of_dim(v, x->dims[d]);
  for (uint32_t i = 0; x && x->elems && i < x->n_elems; i++) of_dim(v, x->elems[i]);
}

static void of_text(visitor *v, const char *text) {
  const char *p = text;
  sd_dim d = sd_dim_parse(v->m->dims, &p);
  if (!*p) of_dim(v, d);
}

// Nodes that Sard made have sizes as texts, in attributes without a default.
static void of_attrs(visitor *v, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_attr && strncmp(n->op->name, "sard.", 5) == 0; i++) {
    const sd_attr *a = &n->attrs[i];
    if (n->op->attrs[i].has_default) continue;
    if (a->kind == SD_ATTR_STRING) of_text(v, a->s);
    for (uint32_t k = 0; a->kind == SD_ATTR_STRINGS && k < a->n; k++) of_text(v, a->strings[k]);
  }
}

static void of_node(visitor *v, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++) of_value(v, n->in[i]);
  for (uint32_t i = 0; i < n->n_out; i++) of_value(v, n->out[i]);
  of_attrs(v, n);
  for (uint32_t b = 0; b < n->n_body; b++) {
    const sd_graph *g = n->bodies[b];
    for (uint32_t i = 0; i < g->inputs.len; i++) of_value(v, g->inputs.at[i]);
    for (const sd_node *x = g->first; x; x = x->next) of_node(v, x);
  }
}

static void mark(visitor *v, sd_dim symbol) {
  if (symbol < v->s->cap && v->s->index[symbol]) v->set[v->s->index[symbol] - 1] = true;
}

void sd_symbols_of(const sd_symbols *s, const sd_node *n, bool *set) {
  visitor v = {.m = s->m, .fn = mark, .s = s, .set = set};
  of_node(&v, n);
}

void sd_symbols_of_value(const sd_symbols *s, const sd_value *x, bool *set) {
  visitor v = {.m = s->m, .fn = mark, .s = s, .set = set};
  of_value(&v, x);
}

// ---- finding ----

static void collect(visitor *v, sd_dim symbol) {
  for (uint32_t i = v->n; i-- > 0;)
    if (v->list[i] == symbol) return;
  if (v->n == v->cap) {
    sd_dim *more = SD_NEW_ARRAY(v->a, sd_dim, v->cap = v->cap ? 2 * v->cap : 64);
    if (v->n) memcpy(more, v->list, v->n * sizeof *more);
    v->list = more;
  }
  v->list[v->n++] = symbol;
}

static void make_table(sd_symbols *s, const visitor *v, sd_arena *a) {
  for (uint32_t i = 0; i < v->n; i++)
    if (v->list[i] >= s->cap) s->cap = v->list[i] + 1;
  uint32_t *index = SD_NEW_ARRAY(a, uint32_t, s->cap + 1);
  s->at = SD_NEW_ARRAY(a, sd_symbol, v->n + 1), s->n = v->n, s->index = index;
  for (uint32_t i = 0; i < v->n; i++) s->at[i].dim = v->list[i], index[v->list[i]] = i + 1;
}

static void find_shown(sd_symbols *s, const sd_node *n, uint32_t at) {
  for (uint32_t i = 0; i < n->n_out; i++)
    for (int d = 0; n->out[i] && d < n->out[i]->rank; d++) {
      sd_dim symbol = n->out[i]->dims[d];
      sd_symbol *y = symbol < s->cap && s->index[symbol] ? &s->at[s->index[symbol] - 1] : NULL;
      if (y && !y->shown) y->shown = n->out[i], y->shown_at = at;
    }
}

static void find_inputs(sd_symbols *s, const sd_graph *g) {
  for (uint32_t i = 0; i < g->inputs.len; i++)
    for (int d = 0; d < g->inputs.at[i]->rank; d++) {
      sd_dim symbol = g->inputs.at[i]->dims[d];
      if (symbol >= s->cap || !s->index[symbol]) continue;
      sd_symbol *y = &s->at[s->index[symbol] - 1];
      if (!y->input) y->input = g->inputs.at[i];
    }
}

void sd_symbols_find(sd_module *m, sd_arena *a, sd_symbols *out) {
  visitor v = {.m = m, .fn = collect, .a = a};
  uint32_t at = 0;
  *out = (sd_symbols){.m = m};
  for (uint32_t i = 0; i < m->main->inputs.len; i++) of_value(&v, m->main->inputs.at[i]);
  for (const sd_node *n = m->main->first; n; n = n->next) of_node(&v, n);
  make_table(out, &v, a);
  find_inputs(out, m->main);
  bool *set = SD_NEW_ARRAY(a, bool, out->n + 1);
  for (const sd_node *n = m->main->first; n; n = n->next, at++) {
    memset(set, 0, out->n);
    sd_symbols_of(out, n, set);
    for (uint32_t i = 0; i < out->n; i++) {
      sd_symbol *y = &out->at[i];
      if (!set[i]) continue;
      if (!y->known) y->first = at;
      y->known = true, y->last = at;
    }
    find_shown(out, n, at);
  }
}
