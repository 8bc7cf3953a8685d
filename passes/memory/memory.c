// Storage: views share the memory of their operand, maps overwrite an operand that nothing needs any more.
#include "passes/pass.h"

static bool is_view_row(const sd_node *n) {
  static const char *const names[] = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", NULL};
  for (int i = 0; names[i]; i++)
    if (strcmp(n->op->name, names[i]) == 0) return true;
  return false;
}

static sd_value *root(sd_value *v) {
  while (v->storage) v = v->storage;
  return v;
}

// ---- in place ----

typedef struct positions { uint32_t *last; sd_arena *a; } positions; // last step that reads a storage root, by value id

static uint32_t number_steps(sd_graph *g, positions *p) {
  uint32_t step = 0;
  for (sd_node *n = g->first; n; n = n->next, step++)
    for (uint32_t i = 0; i < n->n_in; i++)
      if (n->in[i]) p->last[root(n->in[i])->id] = step;
  for (uint32_t i = 0; i < g->outputs.len; i++) p->last[root(g->outputs.at[i])->id] = UINT32_MAX;
  return step;
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

static sard_status *try_in_place(sd_node *n, uint32_t step, const positions *p, sd_arena *scratch, sd_pass_report *r) {
  sd_value *out = n->out[0];
  sd_kernel *k = NULL;
  if (n->n_out != 1 || !out || sd_value_is_output(out) || n->op->kind == SD_NESTS || n->op->kind == SD_HOST) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i], *s;
    if (!v) continue;
    s = root(v);
    if (s->data || !s->def || p->last[s->id] != step || sd_dtype_bits(v->dtype) != sd_dtype_bits(out->dtype)) continue;
    if (sd_value_count(v) != sd_value_count(out)) continue;
    bool again = false; // another operand of this node lives in the same memory
    for (uint32_t q = 0; q < n->n_in; q++) again |= q != i && n->in[q] && root(n->in[q]) == s && n->in[q] != v;
    if (again) continue;
    if (!k) SD_TRY(sd_lower_node(scratch, n->graph->module, n, &k));
    if (!overwrites(k, v, out)) continue;
    out->storage = v;
    p->last[s->id] = p->last[out->id];
    r->rewrites++;
    return NULL;
  }
  return NULL;
}

sard_status *sd_pass_memory(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  sd_graph *g = m->main;
  for (sd_node *n = g->first; n; n = n->next)
    if (is_view_row(n) && n->out[0] && n->in[0] && n->in[0]->dtype == n->out[0]->dtype) {
      n->out[0]->storage = n->in[0], n->out[0]->view = true;
      r->rewrites++;
    }
  if (o->opt < 1) return NULL;
  positions p = {SD_NEW_ARRAY(scratch, uint32_t, m->next_id + 1), scratch};
  number_steps(g, &p);
  uint32_t step = 0;
  for (sd_node *n = g->first; n; n = n->next, step++)
    if (n->out[0] && !n->out[0]->view) SD_TRY(try_in_place(n, step, &p, scratch, r));
  return NULL;
}
