// Channels that go together: each output of a layer is a label, and labels flow with the values through the
// graph as each operator moves its axes. Where two of them meet in one place they become one; where a product
// sums over them they end; what cannot be followed stays.
#include <string.h>

#include "frontend/onnx/prune_internal.h"
#include "ir/op.h"
#include "runtime/base/alloc.h"

typedef struct flow {
  int axis;
  uint32_t n;
  uint32_t *at; // labels along the axis
} flow;

typedef struct flowing {
  sd_arena *a;
  sd_proto *p;
  const sd_module *m;
  const sd_prune_units *units;
  sd_prune_channels *c;
  flow **of; // by value id; NULL: no labels
} flowing;

// ---- labels ----

uint32_t sd_prune_root(const sd_prune_channels *c, uint32_t l) {
  while (c->labels.at[l].same != l) l = c->labels.at[l].same;
  return l;
}

static void unite(flowing *g, uint32_t a, uint32_t b) {
  a = sd_prune_root(g->c, a), b = sd_prune_root(g->c, b);
  if (a == b) return;
  if (b < a) { // the first stands for both
    uint32_t t = a;
    a = b, b = t;
  }
  sd_prune_label *x = &g->c->labels.at[a], *y = &g->c->labels.at[b];
  y->same = a;
  x->fixed |= y->fixed, x->head |= y->head;
}

static void fix(flowing *g, const flow *f) {
  for (uint32_t i = 0; f && i < f->n; i++) g->c->labels.at[sd_prune_root(g->c, f->at[i])].fixed = true;
}

static flow *of(const flowing *g, const sd_value *v) { return v ? g->of[v->id] : NULL; }

static flow *put(flowing *g, const sd_value *v, int axis, uint32_t n, uint32_t *at) {
  flow *f = SD_NEW(g->a, flow);
  *f = (flow){axis, n, at};
  return g->of[v->id] = f;
}

static bool meet(flowing *g, const flow *a, const flow *b) {
  if (a->n != b->n) return false;
  for (uint32_t i = 0; i < a->n; i++) unite(g, a->at[i], b->at[i]);
  return true;
}

static int64_t dim(const flowing *g, const sd_value *v, int axis) {
  int64_t d = -1;
  return sd_dim_is_const(g->m->dims, v->dims[axis], &d) ? d : -1;
}

// ---- what changes ----

// Operand i of the node is a constant of the file whose axis loses what the labels lose.
static bool cut(flowing *g, const sd_node *n, uint32_t i, int axis, const flow *f, sd_prune_cut_kind kind) {
  const sd_value *v = n->in[i];
  if (!v || !v->data || !v->name || n->onnx_index < 0 || (uint32_t)n->onnx_index >= g->p->nodes.len)
    return false;
  const Onnx__NodeProto *node = g->p->nodes.at[n->onnx_index];
  if (i >= node->n_input || strcmp(node->input[i], v->name) != 0 || !sd_proto_weight(g->p, v->name))
    return false;
  if (kind != SD_CUT_SIZE && (axis < 0 || axis >= v->rank || dim(g, v, axis) != f->n)) return false;
  sd_vec_push(g->a, &g->c->cuts, ((sd_prune_cut){kind, (uint32_t)n->onnx_index, i, axis, f->at, f->n}));
  return true;
}

// The unit of a node's weight, NULL: it is none that may change.
static const sd_prune_unit *unit_of(const flowing *g, const sd_node *n, uint32_t *index) {
  for (uint32_t i = 0; i < g->units->len; i++)
    if ((int)g->units->at[i].at == n->onnx_index && !g->units->at[i].recurrent)
      return *index = i, &g->units->at[i];
  return NULL;
}

// Each output of the unit is a label of its own.
static void begin(flowing *g, const sd_node *n, int axis) {
  uint32_t index = 0;
  const sd_prune_unit *u = unit_of(g, n, &index);
  if (!u || u->keep || dim(g, n->out[0], axis) != (int64_t)u->rows || u->rows > UINT32_MAX) return;
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, u->rows);
  for (uint64_t i = 0; i < u->rows; i++) {
    at[i] = g->c->labels.len;
    sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.same = at[i], .unit = index}));
  }
  flow *f = put(g, n->out[0], axis, (uint32_t)u->rows, at);
  int weight_axis = u->turned ? 1 : 0;
  bool good = cut(g, n, 1, weight_axis, f, SD_CUT_OUTPUTS);
  if (n->n_in > 2 && n->in[2] && n->in[2]->rank == 1) good = good && cut(g, n, 2, 0, f, SD_CUT_OTHER);
  else if (n->n_in > 2 && n->in[2])
    good = false;
  if (!good) fix(g, f);
}

// ---- operators ----

static void conv(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  int64_t group = sd_node_int(n, "group", 1), outputs = dim(g, n->in[1], 0), each = dim(g, n->in[1], 1);
  if (!x || x->axis != 1 || group == 1 || group != x->n || each != 1 || outputs != group) {
    if (x && !(x->axis == 1 && group == 1 && cut(g, n, 1, 1, x, SD_CUT_INPUTS))) fix(g, x);
    if (group == 1) begin(g, n, 1);
    return;
  }
  // one kernel for each channel
  bool good =
      cut(g, n, 1, 0, x, SD_CUT_OTHER) && (n->n_in < 3 || !n->in[2] || cut(g, n, 2, 0, x, SD_CUT_OTHER));
  sd_vec_push(g->a, &g->c->cuts, ((sd_prune_cut){SD_CUT_GROUP, (uint32_t)n->onnx_index, 0, 0, x->at, x->n}));
  put(g, n->out[0], 1, x->n, x->at);
  if (!good) fix(g, x);
}

static void product_of_values(flowing *g, const sd_node *n) {
  flow *a = of(g, n->in[0]), *b = of(g, n->in[1]);
  const sd_value *va = n->in[0], *vb = n->in[1], *y = n->out[0];
  bool whole = a && b && va->rank == vb->rank && va->rank == y->rank;
  if (whole && a->axis == b->axis && a->axis < va->rank - 2 && meet(g, a, b)) {
    put(g, y, a->axis, a->n, a->at); // one product each
  } else if (!(whole && a->axis == va->rank - 1 && b->axis == vb->rank - 2 && meet(g, a, b))) {
    fix(g, a), fix(g, b);
  }
}

static void matmul(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  bool constant = n->in[1]->data && n->in[1]->rank == 2;
  int transposed = (int)sd_node_int(n, "transB", 0);
  if (!constant) {
    product_of_values(g, n);
    return;
  }
  if (x && !(x->axis == n->in[0]->rank - 1 && !sd_node_int(n, "transA", 0) &&
             cut(g, n, 1, transposed ? 1 : 0, x, SD_CUT_INPUTS)))
    fix(g, x);
  begin(g, n, n->out[0]->rank - 1);
}

// Elements in the same place of all operands.
static void elementwise(flowing *g, const sd_node *n) {
  const sd_value *y = n->out[0];
  flow *first = NULL, out = {0};
  bool good = true;
  for (uint32_t i = 0; i < n->n_in; i++) {
    flow *f = of(g, n->in[i]);
    if (f && !first) first = f, out = (flow){f->axis + y->rank - n->in[i]->rank, f->n, f->at};
  }
  for (uint32_t i = 0; first && i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    flow *f = of(g, v);
    int axis = v ? out.axis - (y->rank - v->rank) : -1;
    if (!v || (axis < 0 && !f) || (!f && dim(g, v, axis) == 1)) continue;
    if (f) good = good && f->axis == axis && meet(g, f, first);
    else
      good = good && cut(g, n, i, axis, first, SD_CUT_OTHER);
  }
  for (uint32_t i = 0; !good && i < n->n_in; i++) fix(g, of(g, n->in[i]));
  if (first) put(g, y, out.axis, out.n, out.at);
}

static void channels(flowing *g, const sd_node *n) { // a scale and shift for each
  flow *x = of(g, n->in[0]);
  bool good = x && x->axis == 1;
  for (uint32_t i = 1; good && i < n->n_in; i++) good = cut(g, n, i, 0, x, SD_CUT_OTHER);
  if (x) put(g, n->out[0], x->axis, x->n, x->at);
  if (!good) fix(g, x);
}

// Operators that leave the axis as it is: it is as long behind, and nothing is computed along it.
static void along(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  const sd_value *y = n->out[0];
  if (!x) return;
  bool good = y->rank == n->in[0]->rank && dim(g, y, x->axis) == x->n;
  for (uint32_t i = 1; i < n->n_in; i++) fix(g, of(g, n->in[i]));
  for (uint32_t i = 1; i < n->n_out; i++) good = good && (!n->out[i] || n->out[i]->uses.len == 0);
  if (good) put(g, y, x->axis, x->n, x->at);
  else
    fix(g, x);
}

static void normalized(flowing *g, const sd_node *n) { // along one axis
  flow *x = of(g, n->in[0]);
  int64_t axis = sd_node_int(n, "axis", -1);
  if (axis < 0) axis += n->in[0]->rank;
  if (x && axis == x->axis) fix(g, x);
  else
    along(g, n);
}

static void reduce(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  const sd_value *axes = n->n_in > 1 ? n->in[1] : NULL;
  if (!x || n->out[0]->rank == n->in[0]->rank) {
    along(g, n);
    return;
  }
  int before = 0, rank = n->in[0]->rank;
  bool good = axes && axes->data && axes->data->dtype == SD_I64;
  for (uint64_t i = 0; good && i < axes->data->count; i++) {
    int64_t at;
    memcpy(&at, (const int64_t *)axes->data->data + i, sizeof at);
    if (at < 0) at += rank;
    before += at < x->axis, good = at != x->axis;
  }
  if (good) put(g, n->out[0], x->axis - before, x->n, x->at);
  else
    fix(g, x);
}

static void transpose(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  const sd_attr *perm = sd_node_attr(n, "perm");
  int rank = n->in[0]->rank;
  if (!x) return;
  for (int i = 0; i < rank; i++) {
    int from = perm && perm->kind == SD_ATTR_INTS && (int)perm->n == rank ? (int)perm->ints[i] : rank - 1 - i;
    if (from == x->axis) put(g, n->out[0], i, x->n, x->at);
  }
}

static void concat(flowing *g, const sd_node *n) {
  const sd_value *y = n->out[0];
  int axis = (int)sd_node_int(n, "axis", 0);
  if (axis < 0) axis += y->rank;
  int64_t all = dim(g, y, axis);
  bool some = false, good = all > 0 && all < UINT32_MAX;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (of(g, n->in[i])) some = true, good = good && of(g, n->in[i])->axis == axis;
  if (!some) return;
  for (uint32_t i = 0; !good && i < n->n_in; i++) fix(g, of(g, n->in[i]));
  if (!good) return;
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, all), next = 0; // label 0 stays
  for (uint32_t i = 0; i < n->n_in; i++) {
    const flow *f = of(g, n->in[i]);
    int64_t d = dim(g, n->in[i], axis);
    for (int64_t k = 0; k < d && next < all; k++) at[next++] = f ? f->at[k] : 0;
  }
  put(g, y, axis, (uint32_t)all, at);
}

// ---- shapes ----

// Element `i` of the shape operand becomes the number of labels that stay. A size that is taken from the
// value itself, -1 or 0 needs no change; one that is computed otherwise cannot be followed.
static bool resize(flowing *g, const sd_node *n, int i, const flow *f) {
  const sd_value *s = n->n_in > 1 ? n->in[1] : NULL;
  if (!s) return true; // Flatten
  if (s->data) {
    int64_t v = 0;
    if (s->data->dtype != SD_I64 || (uint64_t)i >= s->data->count) return false;
    memcpy(&v, (const int64_t *)s->data->data + i, sizeof v);
    return v < 1 || cut(g, n, 1, i, f, SD_CUT_SIZE);
  }
  const sd_node *def = s->def;
  if (def && strcmp(def->op->name, "Concat") == 0) {
    for (uint32_t k = 0; k < def->n_in; k++) {
      int64_t len = def->in[k]->rank == 1 ? dim(g, def->in[k], 0) : -1, v = 0;
      if (len < 0) return false;
      if (i >= len) {
        i -= (int)len;
        continue;
      }
      if (!def->in[k]->data) break;
      if (def->in[k]->data->dtype != SD_I64) return false;
      memcpy(&v, (const int64_t *)def->in[k]->data->data + i, sizeof v);
      return v < 1 || cut(g, def, k, i, f, SD_CUT_SIZE);
    }
  }
  return false;
}

static uint32_t *repeated(flowing *g, const flow *x, uint32_t times) {
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, (uint64_t)x->n * times);
  for (uint32_t i = 0; i < x->n * times; i++) at[i] = x->at[i / times];
  return at;
}

// The axis in runs of `each`: what is in a run goes together.
static uint32_t *in_runs(flowing *g, const flow *x, uint32_t each) {
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, x->n / each);
  for (uint32_t i = 0; i < x->n; i++) {
    if (i % each) unite(g, at[i / each], x->at[i]);
    else
      at[i / each] = x->at[i];
  }
  for (uint32_t i = 0; i < x->n / each; i++) g->c->labels.at[sd_prune_root(g->c, at[i])].head = true;
  return at;
}

// Axes before the labelled one are the same on both sides, or those behind.
static void reshape(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]), *f = NULL;
  const sd_value *v = n->in[0], *y = n->out[0];
  int before = 0, behind = 0, at;
  if (!x) return;
  while (before < x->axis && before < y->rank && v->dims[before] == y->dims[before]) before++;
  while (behind < v->rank - 1 - x->axis && behind < y->rank &&
         v->dims[v->rank - 1 - behind] == y->dims[y->rank - 1 - behind])
    behind++;
  at = before == x->axis ? x->axis : behind == v->rank - 1 - x->axis ? y->rank - 1 - behind : -1;
  int64_t d = at >= 0 && at < y->rank ? dim(g, y, at) : -1;
  if (d == x->n) {
    f = put(g, y, at, x->n, x->at);
  } else if (d > x->n && d % x->n == 0 && before == x->axis && d < UINT32_MAX) {
    f = put(g, y, at, (uint32_t)d, repeated(g, x, (uint32_t)(d / x->n)));
  } else if (d > 1 && x->n % d == 0 && before == x->axis && at + 1 < y->rank &&
             dim(g, y, at + 1) == x->n / d) {
    f = put(g, y, at, (uint32_t)d, in_runs(g, x, x->n / (uint32_t)d));
  }
  if (!f || !resize(g, n, at, f)) fix(g, x), fix(g, f);
}

// Pieces keep their labels, where their sizes are a constant.
static void split(flowing *g, const sd_node *n) {
  flow *x = of(g, n->in[0]);
  int axis = (int)sd_node_int(n, "axis", 0);
  uint32_t next = 0;
  if (!x) return;
  if (axis < 0) axis += n->in[0]->rank;
  bool good = axis == x->axis && n->n_in > 1 && n->in[1];
  for (uint32_t i = 0; i < n->n_out && good; i++) {
    int64_t d = n->out[i] ? dim(g, n->out[i], axis) : -1;
    good = d > 0 && d <= x->n - next;
    flow *f = good ? put(g, n->out[i], axis, (uint32_t)d, x->at + next) : NULL;
    good = good && resize(g, n, (int)i, f);
    next += good ? (uint32_t)d : 0;
  }
  if (!good) fix(g, x);
}

static void squeeze(flowing *g, const sd_node *n) { // only axes of 1 come and go
  flow *x = of(g, n->in[0]);
  const sd_value *v = n->in[0], *y = n->out[0];
  int from = 0, at = 0;
  if (!x) return;
  for (; from < x->axis; from++)
    if (dim(g, v, from) != 1) at++;
  for (int i = 0; i < y->rank; i++)
    if (dim(g, y, i) != 1 && at-- == 0) {
      put(g, y, i, x->n, x->at);
      if (dim(g, y, i) != x->n) fix(g, x);
      return;
    }
  fix(g, x);
}

// ---- the graph ----

static const struct {
  const char *op;
  void (*fn)(flowing *g, const sd_node *n);
} rules[] = {{"Conv", conv},           {"MatMul", matmul},
             {"Gemm", matmul},         {"BatchNormalization", channels},
             {"Softmax", normalized},  {"InstanceNormalization", channels},
             {"Transpose", transpose}, {"LogSoftmax", normalized},
             {"Concat", concat},       {"Reshape", reshape},
             {"Split", split},         {"Flatten", reshape},
             {"Squeeze", squeeze},     {"Unsqueeze", squeeze},
             {"Cast", elementwise},    {"Clip", elementwise}};

static void node(flowing *g, const sd_node *n) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (strcmp(n->op->name, rules[i].op) == 0) {
      rules[i].fn(g, n);
      return;
    }
  if (strcmp(n->op->name, "Shape") == 0) return; // sizes that the run asks for
  if (n->op->kind == SD_MAP && n->op->text && n->n_out == 1) elementwise(g, n);
  else if (n->op->kind == SD_REDUCE)
    reduce(g, n);
  else
    for (uint32_t i = 0; i < n->n_in; i++) fix(g, of(g, n->in[i]));
}

static bool ranks_known(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank < 0) return false;
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && n->out[i]->rank < 0) return false;
  return n->n_out > 0 && n->out[0];
}

static void walk(flowing *g) {
  sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.fixed = true}));
  for (const sd_node *n = g->m->main->first; n; n = n->next) {
    if (ranks_known(n)) node(g, n);
    else
      for (uint32_t i = 0; i < n->n_in; i++) fix(g, of(g, n->in[i]));
    for (uint32_t i = 0; i < n->n_out; i++) {
      const sd_value *v = n->out[i];
      bool outside = v && sd_value_is_output(v);
      for (uint32_t k = 0; v && k < v->uses.len; k++) outside |= v->uses.at[k].node->graph != g->m->main;
      if (outside) fix(g, of(g, v));
    }
  }
}

sard_status *sd_prune_follow(sd_arena *a, const sard_source *src, const sd_prune_units *units,
                             sd_prune_channels *out) {
  sd_proto p;
  sd_module *m = NULL;
  *out = (sd_prune_channels){0};
  SD_TRY(sd_proto_open(a, src, &p));
  SD_TRY(sd_import_onnx(src, &m));
  flowing g = {.a = a, .p = &p, .m = m, .units = units, .c = out};
  g.of = SD_NEW_ARRAY(a, flow *, m->next_id + 1);
  walk(&g);
  sd_module_free(m);
  return NULL;
}
