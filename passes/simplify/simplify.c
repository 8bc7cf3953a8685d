// Local rewrites on whole graphs: identities go, transposes merge, normalization and scaling move into convolutions.
#include "passes/edit.h"

// ---- nodes that give their operand ----

static bool is_identity(const sd_node *n) {
  if (n->n_in == 0 || !n->in[0] || !n->out[0]) return false;
  for (uint32_t i = 1; i < n->n_out; i++)
    if (n->out[i] && (n->out[i]->uses.len || sd_value_is_output(n->out[i]))) return false;
  bool noise = sd_edit_is(n, "Dropout") && n->n_in > 3 && n->in[3]; // it may train
  if (sd_edit_is(n, "Identity") || (sd_edit_is(n, "Dropout") && !noise)) return n->in[0]->dtype == n->out[0]->dtype;
  if (sd_edit_is(n, "Transpose")) {
    const sd_attr *p = sd_node_attr(n, "perm");
    if (!p || p->kind != SD_ATTR_INTS) return n->out[0]->rank <= 1;
    for (uint32_t i = 0; i < p->n; i++)
      if (p->ints[i] != i) return false;
    return true;
  }
  bool shape_only = sd_op_has(n->op, SD_RENAMES | SD_REPEATS) || sd_edit_is(n, "Cast") || sd_edit_is(n, "Tile");
  return shape_only && sd_edit_same_type(n->in[0], n->out[0]);
}

static bool drop_identity(sd_node *n) {
  if (!is_identity(n)) return false;
  if (sd_value_is_output(n->out[0]) && (!n->in[0]->def || sd_value_is_output(n->in[0]))) return false; // keeps the output's name
  if (sd_value_is_output(n->out[0])) n->in[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], n->in[0]);
  sd_node_remove(n);
  return true;
}

static sard_status *merge_transposes(sd_node *n, bool *changed) {
  const sd_node *p = n->in[0]->def;
  const sd_attr *a = sd_node_attr(n, "perm"), *b;
  int64_t perm[SD_MAX_RANK];
  if (!sd_edit_is(p, "Transpose")) return NULL;
  b = sd_node_attr(p, "perm");
  if (a->kind != SD_ATTR_INTS || b->kind != SD_ATTR_INTS || a->n != b->n) return NULL;
  for (uint32_t i = 0; i < a->n; i++) perm[i] = b->ints[a->ints[i]];
  sd_node_set_ints(n, "perm", perm, a->n);
  sd_node_set_input(n, 0, p->in[0]);
  *changed = true;
  return NULL;
}

// The axis of `joined` that is axes a and a + 1 of x; -1: they do not differ in that alone.
static int joined_axis(const sd_value *x, const sd_value *joined) {
  sd_dimtab *t = x->graph->module->dims;
  int a = 0;
  if (x->rank != joined->rank + 1) return -1;
  while (a < joined->rank - 1 && x->dims[a] == joined->dims[a]) a++;
  for (int i = a + 1; i < joined->rank; i++)
    if (joined->dims[i] != x->dims[i + 1]) return -1;
  return sd_dim_eq(t, joined->dims[a], sd_dim_mul(t, x->dims[a], x->dims[a + 1])) == 1 ? a : -1;
}

// Two axes that one Reshape joins for a Transpose and another one takes apart again stay two: torch turns keys so.
static sard_status *transpose_apart(sd_node *n, bool *changed) {
  const sd_node *t = n->in[0]->def, *join = sd_edit_is(t, "Transpose") ? t->in[0]->def : NULL;
  const sd_attr *p = join ? sd_node_attr(t, "perm") : NULL;
  if (!sd_edit_is(join, "Reshape") || p->kind != SD_ATTR_INTS) return NULL;
  sd_value *x = join->in[0], *y = n->out[0];
  int axis = joined_axis(x, join->out[0]);
  int64_t perm[SD_MAX_RANK];
  if (axis < 0 || y->rank != x->rank || !sd_edit_only_use(n->in[0])) return NULL; // else there would be two transposes
  for (uint32_t i = 0, k = 0; i < p->n; i++) {
    perm[k++] = p->ints[i] + (p->ints[i] > axis);
    if (p->ints[i] == axis) perm[k++] = axis + 1;
  }
  for (int i = 0; i < y->rank; i++)
    if (y->dims[i] != x->dims[perm[i]]) return NULL;
  sd_value *turned;
  SD_TRY(sd_edit_transpose(n->graph, n, x, perm, (uint32_t)y->rank, &turned));
  turned->name = y->name;
  sd_value_replace(y, turned);
  sd_node_remove(n);
  *changed = true;
  return NULL;
}

// ---- normalization and scaling in front of and behind convolutions ----

// BatchNormalization with constant statistics is a multiplication and an addition per channel.
static sard_status *split_batchnorm(sd_node *n, bool *changed) {
  sd_graph *g = n->graph;
  sd_value *scale, *shift, *t, *eps, *x = n->in[0];
  int64_t dims[SD_MAX_RANK], channels;
  for (uint32_t i = 1; i < 5; i++)
    if (n->n_in < 5 || !n->in[i] || !n->in[i]->data || n->in[i]->dtype != x->dtype) return NULL;
  if (sd_node_int(n, "training_mode", 0) || x->rank < 2 || !sd_dim_is_const(g->module->dims, n->in[1]->dims[0], &channels)) return NULL;
  if (x->dtype != SD_F32) return NULL;
  eps = sd_value_const_f32(g, sd_node_float(n, "epsilon", 1e-5f));
  SD_TRY(sd_edit_apply(g, n, "Add", (sd_value *[]){n->in[4], eps}, 2, &t));
  SD_TRY(sd_edit_apply(g, n, "Sqrt", &t, 1, &t));
  SD_TRY(sd_edit_apply(g, n, "Div", (sd_value *[]){n->in[1], t}, 2, &scale));
  SD_TRY(sd_edit_apply(g, n, "Mul", (sd_value *[]){n->in[3], scale}, 2, &t));
  SD_TRY(sd_edit_apply(g, n, "Sub", (sd_value *[]){n->in[2], t}, 2, &shift));
  dims[0] = channels;
  for (int i = 1; i < x->rank - 1; i++) dims[i] = 1;
  SD_TRY(sd_edit_reshape(g, n, scale, dims, x->rank - 1, &scale));
  SD_TRY(sd_edit_reshape(g, n, shift, dims, x->rank - 1, &shift));
  SD_TRY(sd_edit_apply(g, n, "Mul", (sd_value *[]){x, scale}, 2, &t));
  SD_TRY(sd_edit_apply(g, n, "Add", (sd_value *[]){t, shift}, 2, &t));
  t->name = n->out[0]->name;
  t->def->name = n->name;
  sd_value_replace(n->out[0], t);
  sd_node_remove(n);
  *changed = true;
  return NULL;
}

// A constant that is one number or one number per channel (axis 1) of y.
static bool per_channel(const sd_value *c, const sd_value *y, int64_t channels) {
  const sd_const *k = c->data;
  if (!k || k->dtype != y->dtype || k->rank > y->rank) return false;
  if (k->count == 1) return true;
  for (int d = 0; d < k->rank; d++) {
    int axis = d + y->rank - k->rank;
    if (k->dims[d] != (axis == 1 ? channels : 1)) return false;
  }
  return (int64_t)k->count == channels;
}

// Mul or Add by a constant per channel behind a convolution moves into its weights and bias.
static sard_status *absorb_scaling(sd_node *n, bool *changed) {
  sd_graph *g = n->graph;
  bool mul = sd_edit_is(n, "Mul");
  for (uint32_t side = 0; side < 2; side++) {
    sd_node *conv = n->in[side]->def;
    sd_value *c = n->in[1 - side], *w, *bias, *y = n->in[side];
    bool transposed = sd_edit_is(conv, "ConvTranspose");
    int64_t channels, ones[SD_MAX_RANK];
    if (!conv || conv->graph != g || (!transposed && !sd_edit_is(conv, "Conv")) || !sd_edit_only_use(y) || !conv->in[1]->data) continue;
    if (sd_node_int(conv, "channels_last", 0) || (transposed && sd_node_int(conv, "group", 1) != 1)) continue;
    if (conv->n_in > 2 && conv->in[2] && !conv->in[2]->data) continue;
    if (!sd_dim_is_const(g->module->dims, y->dims[1], &channels) || !per_channel(c, y, channels) || y->dtype != SD_F32) continue;
    w = conv->in[1], bias = conv->n_in > 2 ? conv->in[2] : NULL;
    if (c->data->count == 1 && channels != 1) { // one number for all channels
      SD_TRY(sd_edit_reshape(g, conv, c, (int64_t[]){1}, 1, &c));
      SD_TRY(sd_edit_apply(g, conv, "Expand", (sd_value *[]){c, sd_value_const_i64(g, &channels, 1)}, 2, &c));
    }
    SD_TRY(sd_edit_reshape(g, conv, c, &channels, 1, &c));
    if (mul) {
      for (int d = 0; d < w->rank; d++) ones[d] = 1;
      sd_value *f;
      ones[transposed ? 1 : 0] = channels;
      SD_TRY(sd_edit_reshape(g, conv, c, ones, w->rank, &f));
      SD_TRY(sd_edit_apply(g, conv, "Mul", (sd_value *[]){w, f}, 2, &w));
      if (bias) SD_TRY(sd_edit_apply(g, conv, "Mul", (sd_value *[]){bias, c}, 2, &bias));
    } else if (bias) {
      SD_TRY(sd_edit_apply(g, conv, "Add", (sd_value *[]){bias, c}, 2, &bias));
    } else {
      bias = c;
    }
    sd_value *in[3] = {conv->in[0], w, bias};
    sd_node *made = sd_node_like(g, conv, conv, in, bias ? 3 : 2, 1);
    SD_TRY(sd_node_infer(made));
    made->out[0]->name = n->out[0]->name;
    sd_value_replace(n->out[0], made->out[0]);
    sd_node_remove(n);
    sd_node_remove(conv);
    *changed = true;
    return NULL;
  }
  return NULL;
}

// Concat(a, b, c) where Concat(a, b) exists becomes Concat(Concat(a, b), c): then all parts share one buffer.
static bool nest_concat(sd_node *n) {
  sd_node *best = NULL;
  sd_value *first = n->in[0];
  for (uint32_t u = 0; u < first->uses.len; u++) {
    sd_node *c = first->uses.at[u].node;
    if (c == n || !sd_edit_is(c, "Concat") || c->n_in < 2 || c->n_in >= n->n_in || (best && best->n_in >= c->n_in)) continue;
    if (sd_node_int(c, "axis", 0) != sd_node_int(n, "axis", 0)) continue;
    bool prefix = true;
    for (uint32_t i = 0; i < c->n_in && prefix; i++) prefix = c->in[i] == n->in[i];
    const sd_node *x = n->prev;
    while (prefix && x && x != c) x = x->prev; // it has to come before
    if (prefix && x) best = c;
  }
  if (!best) return false;
  uint32_t n_in = n->n_in - best->n_in + 1;
  sd_value **in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n_in);
  in[0] = best->out[0];
  for (uint32_t i = 1; i < n_in; i++) in[i] = n->in[best->n_in + i - 1];
  sd_node *c = sd_node_like(n->graph, n, n, in, n_in, 1);
  sd_value_copy_type(c->out[0], n->out[0]);
  c->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], c->out[0]);
  sd_node_remove(n);
  return true;
}

// ---- scatters of whole rows ----
static bool one_per_row(const sd_node *n) {
  const sd_value *x = n->in[0], *u = n->in[2];
  const sd_value *i = sd_edit_is(n->in[1]->def, "Expand") ? n->in[1]->def->in[0] : NULL;
  int64_t axis = sd_node_int(n, "axis", 0);
  if (!i || i->dtype != SD_I64 || x->rank < 2 || i->rank != x->rank || u->rank != x->rank || (axis != 0 && axis != -x->rank)) return false;
  for (int d = 1; d < x->rank; d++)
    if (!sd_dim_is(n->graph->module->dims, i->dims[d], 1) || x->dims[d] != u->dims[d]) return false;
  return i->dims[0] == u->dims[0];
}

// ScatterElements whose indices are spread over rows from one for each becomes ScatterND, which reads that one.
static sard_status *scatter_rows(sd_node *n, bool *changed) {
  if (!one_per_row(n)) return NULL;
  sd_value *at = n->in[1]->def->in[0];
  for (int d = n->in[0]->rank - 1; d > 1; d--) SD_TRY(sd_edit_drop_axis(n->graph, n, at, d, &at));
  sd_node *x = sd_node_new(n->graph, n, sd_op_find("ScatterND"), (sd_value *[]){n->in[0], at, n->in[2]}, 3, 1);
  x->name = n->name, x->onnx_index = n->onnx_index;
  *sd_node_attr(x, "reduction") = *sd_node_attr(n, "reduction");
  SD_TRY(sd_node_infer(x));
  x->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], x->out[0]);
  sd_node_remove(n);
  *changed = true;
  return NULL;
}

typedef struct work { const sd_pass_options *o; sd_pass_report *r; } work;

static sard_status *simplify_graph(sd_graph *g, void *user) {
  const work *w = user;
  sd_pass_report *r = w->r;
  for (int round = 0; round < 3; round++) {
    uint32_t before = r->rewrites;
    for (sd_node *n = g->first, *next; n; n = next) {
      bool changed = false;
      next = n->next;
      if (w->o->bisect >= 0 && r->rewrites >= w->o->bisect) return NULL;
      if (drop_identity(n) || (sd_edit_is(n, "Concat") && nest_concat(n))) {
        r->rewrites++;
        continue;
      }
      if (sd_edit_is(n, "Transpose")) SD_TRY(merge_transposes(n, &changed));
      else if (sd_edit_is(n, "Reshape")) SD_TRY(transpose_apart(n, &changed));
      else if (sd_edit_is(n, "BatchNormalization")) SD_TRY(split_batchnorm(n, &changed));
      else if (sd_edit_is(n, "Mul") || sd_edit_is(n, "Add")) SD_TRY(absorb_scaling(n, &changed));
      else if (sd_edit_is(n, "ScatterElements")) SD_TRY(scatter_rows(n, &changed));
      r->rewrites += changed;
    }
    if (r->rewrites == before) break;
  }
  return NULL;
}

sard_status *sd_pass_simplify(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  work w = {o, r};
  return sd_edit_graphs(m, simplify_graph, &w);
}
