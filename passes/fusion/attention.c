// Finds scaled dot product attention written out as MatMul, scale, masks, Softmax, MatMul and makes it sard.Attention.
//
// Scalings by constants are collected from the scores and from q and k; transposes between [B,S,H,D] and [B,H,S,D]
// become layouts of the operands, and of the result those to [S,B,H,D], too. Only forms that compute the same are taken: masks that
// are added or that select (Where), softmax over the last axis, ranks of 4 with equal batch and head dims. Several masks become one
// that is added. Heads of keys and values that were copied for the heads of q that share them are read where they are.
// A row of which nothing is left is 0 in sard.Attention, so that a Where behind the Softmax that makes NaN 0 goes; rows that are NaN
// for other reasons, which it would hide, are NaN then.
#include <string.h>

#include "passes/edit.h"

#define ADDED  3     // masks that are added, at most
#define HIDING -1e30 // a score of f32 is nothing beside such a number

typedef struct match {
  sd_value *q, *k, *v;
  sd_value *added[ADDED]; // masks that are added
  int n_added;
  int64_t split[2];  // batch and windows of one of them that has 5 dims: one axis of the scores
  sd_value *select;  // a mask of truth values, NULL: none
  bool inverse;      // it leaves out keys where it is true
  double masked;     // their score
  double scale, softcap;
  int64_t layout[4];
  sd_node *root; // node whose output 0 becomes the attention's
} match;

static bool scalar(const sd_value *v, double *out) {
  if (!v || !v->data || v->data->count != 1 || !sd_dtype_is_float(v->data->dtype)) return false;
  *out = sd_dtype_get_f64(v->data->dtype, v->data->data, 0);
  return true;
}

// v = w * c or w / c for a number c: returns w and multiplies the scale; v itself otherwise.
static sd_value *strip_scale(sd_value *v, double *scale) {
  double c;
  for (sd_node *n = v->def; n; n = v->def) {
    if (sd_edit_is(n, "Mul") && scalar(n->in[1], &c)) *scale *= c, v = n->in[0];
    else if (sd_edit_is(n, "Mul") && scalar(n->in[0], &c)) *scale *= c, v = n->in[1];
    else if (sd_edit_is(n, "Div") && scalar(n->in[1], &c) && c != 0) *scale /= c, v = n->in[0];
    else break;
    if (v->rank != 4) return v;
  }
  return v;
}

static bool permutes(const sd_node *n, int64_t a, int64_t b, int64_t c, int64_t d) {
  const sd_attr *p = n && sd_edit_is(n, "Transpose") ? sd_node_attr(n, "perm") : NULL;
  return p && p->kind == SD_ATTR_INTS && p->n == 4 && p->ints[0] == a && p->ints[1] == b && p->ints[2] == c && p->ints[3] == d;
}

// An operand that is the transpose of [B,S,H,D] is read in that layout.
static sd_value *heads_layout(sd_value *v, int64_t *layout) {
  *layout = permutes(v->def, 0, 2, 1, 3);
  return *layout ? v->def->in[0] : v;
}

static bool keys(match *m, sd_value *kt) {
  kt = strip_scale(kt, &m->scale);
  if (permutes(kt->def, 0, 1, 3, 2)) { // [B,H,T,D], perhaps itself a transpose of [B,T,H,D]
    sd_value *k = strip_scale(kt->def->in[0], &m->scale);
    m->k = heads_layout(k, &m->layout[1]);
    return true;
  }
  if (permutes(kt->def, 0, 2, 3, 1)) {
    m->k = kt->def->in[0], m->layout[1] = 1;
    return true;
  }
  return false;
}

static sd_dim head_dim(const sd_value *v, int64_t layout, int axis) { // axis 0 batch, 1 heads
  return v->dims[axis == 0 ? 0 : layout ? 2 : 1];
}

// c * tanh(v / c), what limits scores: v, and c as softcap; s itself otherwise.
static sd_value *uncapped(match *m, sd_value *s) {
  double c, d;
  const sd_node *n = s->def;
  m->softcap = 0;
  if (!sd_edit_is(n, "Mul")) return s;
  for (int side = 0; side < 2; side++) {
    const sd_node *t = n->in[side]->def, *div = sd_edit_is(t, "Tanh") ? t->in[0]->def : NULL;
    if (!sd_edit_is(div, "Div") || !scalar(div->in[1], &d) || !scalar(n->in[1 - side], &c) || c != d || c <= 0) continue;
    m->softcap = c;
    return div->in[0];
  }
  return s;
}

static bool product(match *m, sd_value *s) {
  m->scale = 1;
  s = strip_scale(uncapped(m, s), &m->scale);
  if (!s->def || !sd_edit_is(s->def, "MatMul") || !sd_edit_only_use(s) || s->rank != 4) return false;
  sd_value *q = strip_scale(s->def->in[0], &m->scale);
  if (q->rank != 4 || s->def->in[1]->rank != 4) return false;
  m->q = heads_layout(q, &m->layout[0]);
  return keys(m, s->def->in[1]);
}

static bool scores(match *m, sd_value *s);

// Where(mask, scores, number) or the other way round.
static bool selected(match *m, const sd_node *n) {
  for (uint32_t side = 1; side < 3; side++) {
    double masked;
    if (n->in[0]->rank > 4 || !scalar(n->in[3 - side], &masked) || sd_value_count(n->in[side]) != sd_value_count(n->out[0])) continue;
    m->select = n->in[0], m->inverse = side == 2, m->masked = masked;
    if (scores(m, n->in[side])) return true;
    m->select = NULL;
  }
  return false;
}

// Scores + mask or the other way round.
static bool added(match *m, const sd_node *n) {
  const sd_dimtab *t = n->graph->module->dims;
  for (uint32_t side = 0; side < 2; side++) {
    sd_value *mask = n->in[1 - side];
    if (mask->rank > 4 || sd_dim_eq(t, sd_value_count(n->in[side]), sd_value_count(n->out[0])) == 0) continue;
    m->added[m->n_added++] = mask;
    if (scores(m, n->in[side])) return true;
    m->n_added--;
  }
  return false;
}

// The first axis of x is the first two of y, of known sizes, and the others are the same.
static bool splits_first(const sd_value *x, const sd_value *y, int64_t *split) {
  const sd_dimtab *t = y->graph->module->dims;
  if (x->rank != 4 || y->rank != 5 || !sd_dim_is_const(t, y->dims[0], &split[0]) || !sd_dim_is_const(t, y->dims[1], &split[1])) return false;
  return memcmp(x->dims + 1, y->dims + 2, 3 * sizeof *x->dims) == 0;
}

static bool windows_mask(const sd_value *mask) {
  for (int i = 2; i < 5; i++)
    if (mask->rank != 5 || !sd_dim_is_const(mask->graph->module->dims, mask->dims[i], NULL)) return false;
  return true;
}

// Reshape(Reshape(scores) + mask), where the first axis is two for the sum, as Swin masks its windows.
static bool masked_windows(match *m, const sd_node *n) {
  const sd_node *sum = n->in[0]->def;
  for (uint32_t side = 0; sd_edit_is(sum, "Add") && side < 2; side++) {
    const sd_value *y = sum->in[side];
    const sd_node *apart = y->def;
    sd_value *mask = sum->in[1 - side];
    if (!sd_edit_is(apart, "Reshape") || !splits_first(apart->in[0], y, m->split) || !windows_mask(mask)) continue;
    if (!sd_edit_same_type(apart->in[0], n->out[0]) || !sd_edit_same_type(y, sum->out[0])) continue;
    m->added[m->n_added++] = mask;
    if (scores(m, apart->in[0])) return true;
    m->n_added--;
  }
  return false;
}

static bool scores(match *m, sd_value *s) {
  const sd_node *n = s->def;
  if (product(m, s)) return true;
  if (!m->n_added && !m->select && sd_edit_is(n, "Reshape")) return masked_windows(m, n);
  if (!m->select && sd_edit_is(n, "Where")) return selected(m, n);
  return m->n_added < ADDED && sd_edit_is(n, "Add") && added(m, n);
}

// Where(IsNaN(p), 0, p), as torch writes it: p.
static sd_value *unguarded(sd_value *v) {
  const sd_node *n = v->def, *test = sd_edit_is(n, "Where") ? n->in[0]->def : NULL;
  double zero;
  if (!sd_edit_is(test, "IsNaN") || test->in[0] != n->in[2] || !scalar(n->in[1], &zero) || zero != 0) return v;
  return sd_edit_only_use(v) && sd_edit_only_use(n->in[0]) && n->in[2]->uses.len == 2 ? n->in[2] : v;
}

// Batches are equal, and so are heads, or there is one of keys and values for all.
static bool same_heads(const match *m) {
  const sd_dimtab *t = m->q->graph->module->dims;
  for (int a = 0; a < 2; a++) {
    sd_dim q = head_dim(m->q, m->layout[0], a), k = head_dim(m->k, m->layout[1], a);
    if (head_dim(m->v, m->layout[2], a) != k || (q != k && !(a == 1 && sd_dim_is(t, k, 1)))) return false;
  }
  return true;
}

static bool find(sd_node *n, match *m) {
  if (!sd_edit_is(n, "MatMul")) return false;
  sd_value *p = unguarded(n->in[0]);
  if (!sd_edit_is(p->def, "Softmax") || (p == n->in[0] && !sd_edit_only_use(p)) || p->rank != 4) return false;
  int64_t axis = sd_node_int(p->def, "axis", -1);
  if ((axis != -1 && axis != 3) || n->in[1]->rank != 4 || !scores(m, p->def->in[0])) return false;
  if (m->select && m->n_added && (m->masked > HIDING || n->in[1]->dtype != SD_F32)) return false;
  m->v = heads_layout(n->in[1], &m->layout[2]);
  if (!same_heads(m)) return false;
  if (!sd_dim_is_const(n->graph->module->dims, m->q->dims[3], NULL) || m->q->dtype != m->k->dtype || m->q->dtype != m->v->dtype) return false;
  m->root = n, m->layout[3] = 0;
  const sd_value *y = sd_edit_only_use(n->out[0]);
  sd_node *turn = y ? y->uses.at[0].node : NULL;
  if (permutes(turn, 0, 2, 1, 3)) m->root = turn, m->layout[3] = 1;
  if (permutes(turn, 2, 0, 1, 3)) m->root = turn, m->layout[3] = 2;
  return true;
}

// v [B,H,T,D] as Reshape(Expand(u [B,Hk,1,T,D])), where each head of u stands H/Hk times in a row: u; NULL: it is none.
static sd_value *shared_heads(const sd_value *v) {
  sd_dimtab *t = v->graph->module->dims;
  const sd_node *r = v->def, *e = sd_edit_is(r, "Reshape") ? r->in[0]->def : NULL;
  if (!sd_edit_is(e, "Expand") || e->in[0]->rank != 5 || e->out[0]->rank != 5) return NULL;
  const sd_dim *from = e->in[0]->dims, *all = e->out[0]->dims;
  for (int i = 0; i < 5; i++)
    if (i == 2 ? !sd_dim_is(t, from[i], 1) : sd_dim_eq(t, from[i], all[i]) != 1) return NULL;
  bool joined = sd_dim_eq(t, v->dims[0], all[0]) == 1 && sd_dim_eq(t, v->dims[1], sd_dim_mul(t, all[1], all[2])) == 1;
  return joined && sd_dim_eq(t, v->dims[2], all[3]) == 1 && sd_dim_eq(t, v->dims[3], all[4]) == 1 ? e->in[0] : NULL;
}

static sard_status *share_heads(const match *m, sd_value **in) {
  sd_value *k = m->layout[1] ? NULL : shared_heads(m->k), *v = m->layout[2] ? NULL : shared_heads(m->v);
  if (!k || !v || sd_dim_eq(k->graph->module->dims, k->dims[1], v->dims[1]) != 1) return NULL;
  SD_TRY(sd_edit_drop_axis(k->graph, m->root, k, 2, &in[1]));
  return sd_edit_drop_axis(v->graph, m->root, v, 2, &in[2]);
}

// A mask that is added, of at most 4 dims: one of windows for each element of the batch.
static sard_status *added_mask(const match *m, sd_value *mask, sd_value **out) {
  sd_graph *g = m->root->graph;
  *out = mask;
  if (mask->rank < 5) return NULL;
  SD_TRY(sd_edit_apply(g, m->root, "Expand", (sd_value *[]){mask, sd_value_const_i64(g, (int64_t[]){m->split[0], m->split[1], 1, 1, 1}, 5)}, 2, out));
  sd_value *apart = *out;
  int64_t dims[4] = {-1};
  for (int i = 1; i < 4; i++) sd_dim_is_const(g->module->dims, apart->dims[i + 1], &dims[i]);
  return sd_edit_reshape(g, m->root, apart, dims, 4, out);
}

// The mask of m, NULL where there is none. One that selects beside others that are added becomes 0 or a number that hides.
static sard_status *mask_of(sd_node *n, const match *m, sd_value **out) {
  sd_graph *g = n->graph;
  sd_value *selects = m->select;
  if (selects && m->n_added) {
    sd_value *zero = sd_value_const_f32(g, 0), *hides = sd_value_const_f32(g, (float)m->masked);
    SD_TRY(sd_edit_apply(g, m->root, "Where", (sd_value *[]){selects, m->inverse ? hides : zero, m->inverse ? zero : hides}, 3, out));
  } else if (selects && m->inverse) SD_TRY(sd_edit_apply(g, m->root, "Not", &selects, 1, out));
  else *out = selects;
  for (int i = 0; i < m->n_added; i++) {
    sd_value *mask;
    SD_TRY(added_mask(m, m->added[i], &mask));
    if (!*out) *out = mask;
    else SD_TRY(sd_edit_apply(g, m->root, "Add", (sd_value *[]){*out, mask}, 2, out));
  }
  return NULL;
}

static sard_status *replace(sd_node *n, const match *m) {
  sd_value *in[4] = {m->q, m->k, m->v};
  const sd_op *op = sd_op_find("sard.Attention");
  if (!op) return NULL;
  SD_TRY(share_heads(m, in));
  SD_TRY(mask_of(n, m, &in[3]));
  sd_node *x = sd_node_new(n->graph, m->root, op, in, in[3] ? 4 : 3, 1);
  *sd_node_attr(x, "scale") = (sd_attr){.kind = SD_ATTR_FLOAT, .f = (float)m->scale};
  if (m->softcap) *sd_node_attr(x, "softcap") = (sd_attr){.kind = SD_ATTR_FLOAT, .f = (float)m->softcap};
  sd_node_set_ints(x, "layout", m->layout, 4);
  if (m->select && !m->n_added) *sd_node_attr(x, "masked") = (sd_attr){.kind = SD_ATTR_FLOAT, .f = (float)m->masked};
  x->name = n->name, x->onnx_index = n->onnx_index;
  SD_TRY(sd_node_infer(x));
  x->out[0]->name = m->root->out[0]->name;
  sd_value_replace(m->root->out[0], x->out[0]);
  return NULL;
}

sard_status *sd_pass_attention(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  for (sd_node *n = m->main->first; n; n = n->next) {
    match x = {0};
    if (o->bisect >= 0 && r->rewrites >= o->bisect) break;
    if (!find(n, &x)) continue;
    sard_status *st = replace(n, &x); // what it replaced is dead now
    if (st) return sd_node_error(n, st);
    r->rewrites++;
  }
  return NULL;
}
