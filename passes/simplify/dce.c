// Removes nodes none of whose outputs is used.
#include "passes/pass.h"

// ---- symbols that a node defines: its own output may be unused while sizes depend on it ----

static bool dim_uses(const sd_dimtab *t, sd_dim d, sd_dim symbol) {
  const sd_dimnode *x = sd_dim_get(t, d);
  if (!x || d == symbol) return x != NULL;
  for (uint32_t i = 0; i < x->n; i++)
    if (dim_uses(t, x->args[i], symbol)) return true;
  return false;
}

static bool value_uses(const sd_dimtab *t, const sd_value *v, sd_dim symbol) {
  for (int d = 0; v && d < v->rank; d++)
    if (dim_uses(t, v->dims[d], symbol)) return true;
  for (uint32_t i = 0; v && i < v->n_elems && v->elems; i++)
    if (dim_uses(t, v->elems[i], symbol)) return true;
  return false;
}

// In texts (numbers of passes, positions, sizes) a symbol shows as its name: a name that only contains it counts too.
static bool text_uses(const sd_node *n, const char *name) {
  for (uint32_t i = 0; i < n->n_attr; i++) {
    const sd_attr *a = &n->attrs[i];
    if (a->kind == SD_ATTR_STRING && strstr(a->s, name)) return true;
    for (uint32_t k = 0; a->kind == SD_ATTR_STRINGS && k < a->n; k++)
      if (strstr(a->strings[k], name)) return true;
  }
  return false;
}

static bool graph_uses(const sd_graph *g, const sd_node *but, sd_dim symbol, const char *name) {
  const sd_dimtab *t = g->module->dims;
  for (const sd_node *n = g->first; n; n = n->next) {
    if (n == but) continue;
    if (text_uses(n, name)) return true;
    for (uint32_t i = 0; i < n->n_out; i++)
      if (value_uses(t, n->out[i], symbol)) return true;
    for (uint32_t i = 0; i < n->n_body; i++)
      if (graph_uses(n->bodies[i], but, symbol, name)) return true;
  }
  return false;
}

static bool symbol_needed(const sd_node *n, sd_dim d) {
  const sd_dimnode *s = sd_dim_get(n->graph->module->dims, d);
  return s && s->op == SD_DIM_SYM && graph_uses(n->graph->module->main, n, d, s->name);
}

static bool gives_sizes(const sd_node *n) {
  if (n->op->kind != SD_HOST && (n->op->kind != SD_CONTROL || strcmp(n->op->name, "sard.Fused") == 0)) return false;
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *v = n->out[i];
    for (int d = 0; v && d < v->rank; d++)
      if (symbol_needed(n, v->dims[d])) return true;
  }
  const sd_attr *a = sd_node_attr(n, "symbols"); // of sard.Define
  for (uint32_t i = 0; a && i < a->n; i++) {
    const char *p = a->strings[i];
    if (symbol_needed(n, sd_dim_parse(n->graph->module->dims, &p))) return true;
  }
  return false;
}

static bool dead(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && (n->out[i]->uses.len || sd_value_is_output(n->out[i]))) return false;
  return !gives_sizes(n);
}

// Stacked outputs of a loop that nobody reads.
static void drop_stacked(sd_node *n, sd_pass_report *r) {
  if (strcmp(n->op->name, "sard.For") != 0) return;
  sd_graph *body = n->bodies[0];
  sd_attr *at = sd_node_attr(n, "at");
  const char **texts = SD_NEW_ARRAY(n->graph->module->arena, const char *, n->n_out + 1);
  uint32_t to = n->n_in;
  for (uint32_t i = n->n_in; i < n->n_out; i++) {
    if (!n->out[i]->uses.len && !sd_value_is_output(n->out[i])) continue;
    if (at->kind == SD_ATTR_STRINGS) texts[to - n->n_in] = at->strings[i - n->n_in];
    body->outputs.at[to] = body->outputs.at[i];
    n->out[to] = n->out[i], n->out[to]->out_index = to;
    to++;
  }
  if (to == n->n_out) return;
  n->n_out = to, body->outputs.len = to;
  if (at->kind == SD_ATTR_STRINGS) *at = (sd_attr){.kind = SD_ATTR_STRINGS, .n = to - n->n_in, .strings = texts};
  r->rewrites++;
}

static void sweep(sd_graph *g, sd_pass_report *r) {
  for (sd_node *n = g->last, *prev; n; n = prev) {
    prev = n->prev;
    drop_stacked(n, r);
    for (uint32_t i = 0; i < n->n_body; i++) sweep(n->bodies[i], r);
    if (dead(n)) sd_node_remove(n), r->rewrites++;
  }
}

sard_status *sd_pass_dce(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)o, (void)scratch;
  sweep(m->main, r);
  return NULL;
}
