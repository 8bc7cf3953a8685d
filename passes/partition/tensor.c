// Builds the graphs of all ranks, node by node.
#include "passes/partition/tensor.h"

#include <string.h>

#include "ir/ops/xgraph.h"
#include "passes/edit.h"
#include "passes/partition/tensor_inside.h"

// ---- nodes of ranks ----

// Elements of an axis of y that the rank has.
static bool share_of(const sd_tensors *t, const sd_value *y, sd_hold h, int rank, int64_t *out) {
  int64_t size;
  if (!sd_dim_is_const(t->m->dims, y->dims[h.axis], &size)) return false;
  *out = sd_tensors_begin(t, size, h.units, rank + 1) - sd_tensors_begin(t, size, h.units, rank);
  return true;
}

// Whether each result is a part of that of the whole node.
static bool right_dims(const sd_tensors *t, const sd_node *n, const sd_node *like, const sd_axes *x,
                       const sd_cutting *w, int rank) {
  for (uint32_t i = 0; i < like->n_out; i++) {
    const sd_value *v = n->out[i], *y = like->out[i];
    if (!y) continue;
    if (v->dtype != y->dtype || v->rank != y->rank) return false;
    sd_hold h = sd_cutting_result(like, x, i, w);
    for (int d = 0; d < y->rank; d++) {
      int64_t share, got;
      if (d != h.axis && sd_dim_eq(t->m->dims, v->dims[d], y->dims[d]) != 1) return false;
      if (d != h.axis) continue;
      if (!share_of(t, y, h, rank, &share) || !sd_dim_is_const(t->m->dims, v->dims[d], &got) || got != share)
        return false;
    }
  }
  return true;
}

// Sizes of the part of the result in the place of operand i.
static sard_status *give_shape(const sd_tensors *t, sd_node *n, const sd_node *like, uint32_t i,
                               const sd_box *part) {
  const sd_value *y = like->out[0];
  sd_dim dims[SD_MAX_RANK];
  XG_SCOPE xg g = {.at = n};
  memcpy(dims, y->dims, sizeof dims);
  for (int d = 0; d < y->rank; d++)
    if (part->cut[d]) dims[d] = sd_dim_const(t->m->dims, part->to[d] - part->from[d]);
  sd_value *shape = sd_xg_dims(&g, dims, y->rank);
  if (g.st) return sd_xg_take(&g);
  sd_node_set_input(n, i, shape);
  return NULL;
}

sard_status *sd_tensors_fit(const sd_tensors *t, sd_node *n, const sd_node *like, const sd_axes *x,
                            const sd_box *part) {
  int64_t all;
  for (uint32_t i = 0; i < like->n_in && i < 32; i++)
    if (like->in[i] && x->shape >> i & 1) SD_TRY(give_shape(t, n, like, i, part));
  for (int d = 0; x->counted.attr && d < like->out[0]->rank; d++)
    if (part->cut[d] && x->out[0][d] == x->counted.letter &&
        sd_dim_is_const(t->m->dims, like->out[0]->dims[d], &all))
      sd_node_set_int(n, x->counted.attr,
                      sd_node_int(like, x->counted.attr, 1) * (part->to[d] - part->from[d]) / all);
  return NULL;
}

static sard_status *build_part(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_cutting *w,
                               sd_value *const *const *in, int rank, sd_node **out) {
  sd_graph *g = sd_tensors_graph(t, rank);
  sd_value **v = SD_NEW_ARRAY(t->a, sd_value *, n->n_in + 1);
  bool partial = sd_cutting_result(n, x, 0, w).partial;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && !(partial && rank > 0 && i < 32 && x->added >> i & 1)) v[i] = in[i][rank];
  *out = sd_node_like(g, NULL, n, v, n->n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) (*out)->out[i]->name = n->out[i]->name;
    else
      (*out)->out[i] = NULL;
  sd_hold h = sd_cutting_result(n, x, 0, w);
  sd_box part = {0};
  if (h.axis >= 0 && share_of(t, n->out[0], h, rank, &part.to[h.axis])) part.cut[h.axis] = true;
  SD_TRY(sd_tensors_fit(t, *out, n, x, &part));
  return sd_node_infer(*out);
}

// What each rank has of the operands.
static sard_status *get_operands(sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_cutting *w,
                                 sd_value *const ***out) {
  *out = SD_NEW_ARRAY(t->a, sd_value *const *, n->n_in + 1);
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_hold h = x && n->in[i] ? sd_cutting_operand(n, x, i, w) : SD_HOLD_WHOLE;
    if (n->in[i]) SD_TRY(sd_tensors_get(t, n->in[i], h, &(*out)[i]));
  }
  return NULL;
}

// *done: false where a rank's part would not be a part of the whole, which then no rank takes.
static sard_status *build_cut(sd_tensors *t, sd_node *n, const sd_axes *x, const sd_cutting *w, bool *done) {
  sd_value *const **in;
  int built = 0;
  sd_node **nodes = SD_NEW_ARRAY(t->a, sd_node *, t->ranks);
  SD_TRY(get_operands(t, n, x, w, &in));
  *done = true;
  for (int r = 0; r < t->ranks && *done; r++, built++) {
    sard_status *st = build_part(t, n, x, w, in, r, &nodes[r]);
    *done = !st && right_dims(t, nodes[r], n, x, w, r);
    sard_status_free(st);
  }
  for (int r = 0; !*done && r < built; r++) sd_node_remove(nodes[r]);
  for (uint32_t i = 0; *done && i < n->n_out; i++) {
    if (!n->out[i]) continue;
    sd_value **at = SD_NEW_ARRAY(t->a, sd_value *, t->ranks);
    for (int r = 0; r < t->ranks; r++) at[r] = nodes[r]->out[i];
    sd_tensors_set(t, n->out[i], sd_cutting_result(n, x, i, w), at);
  }
  return NULL;
}

// ---- whole nodes ----

static sard_status *copy_graph(sd_tensors *t, const sd_graph *from, sd_graph *to, int rank);

// What one rank has of a value of any graph.
static sard_status *whole_value(sd_tensors *t, sd_value *v, int rank, sd_value **out) {
  sd_value *const *at;
  SD_TRY(sd_tensors_get(t, v, SD_HOLD_WHOLE, &at));
  *out = at[rank];
  return NULL;
}

static void set_one(sd_tensors *t, const sd_value *v, sd_value *x, int rank) {
  if (!t->held[v->id]) sd_tensors_set(t, v, SD_HOLD_WHOLE, SD_NEW_ARRAY(t->a, sd_value *, t->ranks));
  sd_value_copy_type(x, v);
  x->name = v->name, x->elems = v->elems, x->n_elems = v->n_elems;
  t->held[v->id]->at[rank] = x;
}

static sard_status *copy_node(sd_tensors *t, const sd_node *n, sd_graph *g, int rank) {
  sd_value **in = SD_NEW_ARRAY(t->a, sd_value *, n->n_in + 1);
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) SD_TRY(whole_value(t, n->in[i], rank, &in[i]));
  sd_node *x = sd_node_like(g, NULL, n, in, n->n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) set_one(t, n->out[i], x->out[i], rank);
    else
      x->out[i] = NULL;
  for (uint32_t b = 0; b < n->n_body; b++)
    SD_TRY(copy_graph(t, n->bodies[b], sd_node_add_body(x, n->bodies[b]->name), rank));
  return NULL;
}

static sard_status *copy_graph(sd_tensors *t, const sd_graph *from, sd_graph *to, int rank) {
  for (uint32_t i = 0; i < from->inputs.len; i++) {
    const sd_value *v = from->inputs.at[i];
    sd_value *x = sd_graph_input(to, v->name, v->dtype, v->rank, v->dims);
    x->data = v->data;
    set_one(t, v, x, rank);
  }
  for (const sd_node *n = from->first; n; n = n->next) SD_TRY(copy_node(t, n, to, rank));
  for (uint32_t i = 0; i < from->outputs.len; i++) {
    sd_value *x;
    SD_TRY(whole_value(t, from->outputs.at[i], rank, &x));
    sd_graph_output(to, x);
  }
  return NULL;
}

// Bodies read values around them: exchanges stand in front of the node, in all ranks alike.
static sard_status *get_captured(sd_tensors *t, const sd_graph *body) {
  sd_value *const *at;
  for (uint32_t i = 0; i < body->outputs.len; i++)
    if (body->outputs.at[i]->graph == t->m->main)
      SD_TRY(sd_tensors_get(t, body->outputs.at[i], SD_HOLD_WHOLE, &at));
  for (const sd_node *n = body->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++)
      if (n->in[i] && n->in[i]->graph == t->m->main) SD_TRY(sd_tensors_get(t, n->in[i], SD_HOLD_WHOLE, &at));
    for (uint32_t b = 0; b < n->n_body; b++) SD_TRY(get_captured(t, n->bodies[b]));
  }
  return NULL;
}

static sard_status *build_whole(sd_tensors *t, sd_node *n) {
  sd_value *const **in;
  SD_TRY(get_operands(t, n, NULL, NULL, &in));
  for (uint32_t b = 0; b < n->n_body; b++) SD_TRY(get_captured(t, n->bodies[b]));
  for (int r = 0; r < t->ranks; r++) SD_TRY(copy_node(t, n, sd_tensors_graph(t, r), r));
  return NULL;
}

// ---- all of it ----

static const char *how_text(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_cutting *w) {
  sd_hold h = sd_cutting_result(n, x, 0, w);
  if (h.partial) return "sums of parts";
  return sd_arena_printf(t->m->arena, "axis %d of its result in %d parts of %llu units", h.axis, t->ranks,
                         (unsigned long long)h.units);
}

// ---- windows ----

// How a window is computed by itself: cut along an axis of the result, which is `in` of the operand.
typedef struct apart {
  int axis, in;
  uint64_t units;
} apart;

// The part of the operand that is rank r's part of window i.
static sd_box window_part(const sd_tensors *t, const sd_node *n, const sd_axes *x, uint32_t i, const apart *a,
                          int r) {
  const sd_value *y = n->out[i];
  int window = x->windows - 1;
  int64_t size = 1;
  sd_box b = {0};
  if (!x->dropped) sd_dim_is_const(t->m->dims, y->dims[window], &size);
  b.cut[window] = true, b.from[window] = x->from[i], b.to[window] = x->from[i] + size;
  sd_dim_is_const(t->m->dims, y->dims[a->axis], &size);
  b.cut[a->in] = true;
  int64_t from = a->in == window ? x->from[i] : 0;
  b.from[a->in] = from + sd_tensors_begin(t, size, a->units, r);
  b.to[a->in] = from + sd_tensors_begin(t, size, a->units, r + 1);
  return b;
}

// Whether the parts that readers want of a window along that axis lie across those of the operand (heads of
// q, k and v, which one product makes), and can be computed by themselves.
static bool is_apart(const sd_tensors *t, const sd_node *n, const sd_axes *x, uint32_t i, apart *a,
                     const sd_node **product) {
  int64_t size;
  int window = x->windows - 1;
  const sd_value *y = n->out[i];
  a->in = a->axis + (x->dropped && a->axis >= window), a->units = t->wanted[y->id][a->axis];
  if (a->units < (uint64_t)t->ranks || !sd_dim_is_const(t->m->dims, y->dims[a->axis], &size) ||
      (uint64_t)size % a->units)
    return false;
  if (a->in != window && sd_tensors_hold(t, n->in[0]).axis == a->in) return false; // they are its parts
  for (int r = 0; r < t->ranks; r++) {
    sd_box b = window_part(t, n, x, i, a, r);
    if (!sd_tensors_can_take(t, n->in[0], &b, product)) return false;
  }
  return true;
}

// The product behind a node that takes windows out of its operand, where each is better made by itself; NULL:
// it is not.
static const sd_node *windows_apart(const sd_tensors *t, const sd_node *n, const sd_axes *x, apart *a) {
  const sd_node *product = NULL;
  for (uint32_t i = 0; i < n->n_out; i++) {
    int window = x->windows - 1;
    bool found = false;
    if (!n->out[i]) return NULL;
    a[i].axis = window;
    if (!x->dropped) found = is_apart(t, n, x, i, &a[i], &product);
    for (int d = 0; d < n->out[i]->rank && !found; d++) {
      a[i].axis = d;
      if (x->dropped || d != window) found = is_apart(t, n, x, i, &a[i], &product);
    }
    if (!found) return NULL;
  }
  return product;
}

static sard_status *build_window(sd_tensors *t, sd_node *n, const sd_axes *x, uint32_t i, const apart *a) {
  sd_value **at = SD_NEW_ARRAY(t->a, sd_value *, t->ranks);
  for (int r = 0; r < t->ranks; r++) {
    sd_box b = window_part(t, n, x, i, a, r);
    SD_TRY(sd_tensors_take(t, n->in[0], &b, r, &at[r]));
    if (x->dropped) SD_TRY(sd_edit_drop_axis(sd_tensors_graph(t, r), NULL, at[r], x->windows - 1, &at[r]));
  }
  sd_tensors_set(t, n->out[i], (sd_hold){.axis = a->axis, .units = a->units}, at);
  return NULL;
}

static sard_status *build_windows(sd_tensors *t, sd_node *n, const sd_axes *x, const apart *a,
                                  const sd_node *product) {
  for (uint32_t i = 0; i < n->n_out; i++) SD_TRY(build_window(t, n, x, i, &a[i]));
  for (uint32_t i = 0; i < t->r->nodes.len; i++) {
    sd_tensor_node *p = &t->r->nodes.at[i];
    if (p->node != product) continue;
    p->how = sd_arena_printf(t->m->arena, "what '%s' takes of it in %d parts each", n->name ? n->name : "",
                             t->ranks);
    p->cut = true;
  }
  t->r->cut++;
  return NULL;
}

static sard_status *visit(sd_tensors *t, sd_node *n) {
  sd_axes x;
  bool known = !n->n_body && sd_axes_of(n, t->a, &x), done = false, product = n->op->narrow == SD_NARROW_YES;
  apart *a = SD_NEW_ARRAY(t->a, apart, n->n_out + 1);
  const sd_node *of = known && x.windows ? windows_apart(t, n, &x, a) : NULL;
  if (of) return build_windows(t, n, &x, a, of);
  sd_cutting w = sd_tensors_choose(t, n, known ? &x : NULL);
  if (w.letter) SD_TRY(build_cut(t, n, &x, &w, &done));
  for (uint32_t i = 0; done && w.table && i < n->n_out; i++)
    if (n->out[i]) SD_TRY(sd_tensors_settle(t, n->out[i]));
  const char *why = !known     ? "it is not known to work independently along an axis"
                    : w.letter ? "its parts would not be parts of its result"
                               : "nothing is gained by parts of it";
  if (product)
    sd_vec_push(t->m->arena, &t->r->nodes,
                ((sd_tensor_node){n, n->name ? n->name : "", n->op->name, done ? how_text(t, n, &x, &w) : why,
                                  done}));
  t->r->cut += done;
  return done ? NULL : build_whole(t, n);
}

static void begin(sd_tensors *t, sd_parts *out) {
  sd_module *m = t->m;
  *out = (sd_parts){.n = (uint32_t)t->ranks, .at = SD_NEW_ARRAY(m->arena, sd_part, t->ranks)};
  out->out = SD_NEW_ARRAY(m->arena, sd_wire, m->main->outputs.len + 1);
  for (int r = 0; r < t->ranks; r++) out->at[r].module = sd_module_share(m);
  for (uint32_t i = 0; i < m->main->inputs.len; i++) {
    const sd_value *v = m->main->inputs.at[i];
    for (int r = 0; r < t->ranks; r++) {
      set_one(t, v, sd_graph_input(sd_tensors_graph(t, r), v->name, v->dtype, v->rank, v->dims), r);
      sd_vec_push(m->arena, &out->at[r].in, ((sd_wire){0, i, false}));
    }
  }
}

static sard_status *finish(sd_tensors *t, sd_parts *out) {
  sd_module *m = t->m;
  for (uint32_t i = 0; i < m->main->outputs.len; i++) {
    sd_value *const *at;
    SD_TRY(sd_tensors_get(t, m->main->outputs.at[i], SD_HOLD_WHOLE, &at));
    for (int r = 0; r < t->ranks; r++) sd_graph_output(sd_tensors_graph(t, r), at[r]);
    out->out[i] = (sd_wire){1, i, false};
  }
  for (int r = 0; r < t->ranks; r++)
    for (uint32_t i = 0; i < m->main->inputs.len; i++) {
      const sd_value *v = sd_tensors_graph(t, r)->inputs.at[i];
      out->at[r].in.at[i].sizes = !v->uses.len && !sd_value_is_output(v);
    }
  return NULL;
}

sard_status *sd_tensor_cut(sd_module *m, uint32_t ranks, sd_parts *out, sd_tensor_report *r) {
  sd_arena *a = sd_arena_scratch(m->arena);
  sd_tensors t = {.m = m, .parts = out, .a = a, .ranks = (int)ranks, .tag = 1, .r = r};
  sard_status *st = NULL;
  *r = (sd_tensor_report){0};
  t.held = SD_NEW_ARRAY(a, sd_held *, m->next_id + 1);
  t.offered = sd_arena_array(a, m->next_id + 1, sizeof *t.offered);
  t.wanted = sd_arena_array(a, m->next_id + 1, sizeof *t.wanted);
  sd_tensors_want(&t);
  begin(&t, out);
  for (sd_node *n = m->main->first; n && !st; n = n->next) {
    st = visit(&t, n);
    if (st) st = sd_node_error(n, st);
  }
  if (!st) st = finish(&t, out);
  sd_arena_free(a);
  return st;
}
