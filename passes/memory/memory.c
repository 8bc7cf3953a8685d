// Storage: views share the memory of their operand, maps overwrite an operand that nothing needs any more.
#include "passes/pass.h"

// The value whose memory v shares.
static sd_value *root(sd_value *v) {
  while (v->storage) v = v->storage;
  return v;
}

static bool is_view_row(const sd_node *n) {
  static const char *const names[] = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", NULL};
  for (int i = 0; names[i]; i++)
    if (strcmp(n->op->name, names[i]) == 0) return true;
  return false;
}

// ---- windows: parts of a concatenation and the inside of a padded value are computed where they will lie ----

static bool reads_by_offset(const sd_node *n) {
  return n->op->kind <= SD_COMPOSITE || strcmp(n->op->name, "sard.Fused") == 0 || strcmp(n->op->name, "sard.Attention") == 0;
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
  v->window = sd_arena_dup(m->arena, at, (size_t)v->rank * sizeof *at);
}

static sard_status *place_concat(sd_node *n, viewed *w, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_value *y = n->out[0];
  int64_t axis = sd_node_int(n, "axis", 0), count;
  sd_dim at[SD_MAX_RANK];
  if (y->rank < 1 || y->storage || w->at[y->id] || (sd_dim_is_const(m->dims, sd_value_count(y), &count) && count <= 256)) return NULL;
  for (uint32_t i = 0; i < y->uses.len; i++)
    if (!reads_by_offset(y->uses.at[i].node)) return NULL;
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

static void place_pad(sd_node *n, const viewed *w, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_value *x = n->in[0], *y = n->out[0];
  sd_dim pads[2 * SD_MAX_RANK];
  uint32_t count;
  if (strcmp(sd_node_str(n, "mode", "constant"), "constant") != 0 || (n->n_in > 3 && n->in[3]) || n->n_out != 1) return;
  if (!n->in[1] || !sd_value_elems(n->in[1], pads, 2 * SD_MAX_RANK, &count) || count != 2 * (uint32_t)x->rank) return;
  for (uint32_t i = 0; i < count; i++)
    if (!sd_dim_is_const(m->dims, pads[i], NULL) || sd_dim_lt(m->dims, pads[i], sd_dim_const(m->dims, 0)) != 0) return;
  if (!can_move(x, w)) return;
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

static sard_status *place_windows(sd_module *m, sd_arena *scratch, sd_pass_report *r) {
  viewed w = {SD_NEW_ARRAY(scratch, bool, m->next_id * 4 + 4096)}; // room for the copies made here
  uint32_t limit = m->next_id * 4 + 4096;
  for (sd_node *n = m->main->first; n; n = n->next)
    if (n->out[0] && n->out[0]->view && n->out[0]->storage) w.at[n->out[0]->storage->id] = true;
  for (sd_node *n = m->main->first; n && m->next_id < limit - 512; n = n->next) {
    if (strcmp(n->op->name, "Concat") == 0) SD_TRY(place_concat(n, &w, r));
    else if (strcmp(n->op->name, "Pad") == 0) place_pad(n, &w, r);
  }
  for (sd_node *n = m->main->first; n && m->next_id < limit - 512; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) place_rows(m, n->out[i], &w, r);
  return NULL;
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
    if (s->data || !s->def || v->window || out->storage || p->last[s->id] != step || sd_dtype_bits(v->dtype) != sd_dtype_bits(out->dtype)) continue;
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
  SD_TRY(place_windows(m, scratch, r));
  positions p = {SD_NEW_ARRAY(scratch, uint32_t, m->next_id + 1), scratch};
  number_steps(g, &p);
  uint32_t step = 0;
  for (sd_node *n = g->first; n; n = n->next, step++)
    if (n->out[0] && !n->out[0]->view) SD_TRY(try_in_place(n, step, &p, scratch, r));
  return NULL;
}
