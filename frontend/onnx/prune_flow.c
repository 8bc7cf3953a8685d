// Channels that go together: each output of a layer is a label, and labels flow with the values through the
// graph as each operator moves its axes. Where two of them meet in one place they become one; where a product
// sums over them they end; what cannot be followed stays.
#include "frontend/onnx/prune_flow.h"

#include <string.h>

#include "ir/axes.h"
#include "runtime/base/alloc.h"

// ---- layers ----

const sd_prune_unit *sd_strand_unit(const sd_following *g, const sd_node *n, int i, uint32_t *index) {
  for (uint32_t k = 0; k < g->units->len; k++)
    if ((int)g->units->at[k].at == n->onnx_index && g->units->at[k].operand == i)
      return *index = k, &g->units->at[k];
  return NULL;
}

// Each output of the unit is a label of its own.
static void begin(sd_following *g, const sd_node *n, int axis) {
  uint32_t index = 0;
  const sd_prune_unit *u = sd_strand_unit(g, n, 1, &index);
  if (!u || u->keep || sd_strand_dim(g, n->out[0], axis) != (int64_t)u->rows || u->rows > UINT32_MAX) return;
  uint32_t rows = (uint32_t)u->rows, *at = SD_NEW_ARRAY(g->a, uint32_t, rows);
  for (uint32_t i = 0; i < rows; i++) {
    at[i] = g->c->labels.len;
    sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.same = at[i], .unit = index}));
  }
  sd_strand *f = sd_strand_put_axis(g, n->out[0], axis, rows, at);
  bool good = sd_strand_cut(g, n, 1, u->turned ? 1 : 0, at, rows, SD_CUT_OUTPUTS);
  if (n->n_in > 2 && n->in[2] && n->in[2]->rank == 1)
    good = good && sd_strand_cut(g, n, 2, 0, at, rows, SD_CUT_OTHER);
  else if (n->n_in > 2 && n->in[2])
    good = false;
  if (!good) sd_strand_fix(g, f);
}

static void conv(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]);
  int64_t group = sd_node_int(n, "group", 1), outputs = sd_strand_dim(g, n->in[1], 0),
          each = sd_strand_dim(g, n->in[1], 1);
  int64_t inputs = sd_strand_dim(g, n->in[0], 1);
  uint32_t *labels = x ? sd_strand_along(g, x, n->in[0], 1) : NULL, count = (uint32_t)inputs;
  if (!labels || group == 1 || group != inputs || each != 1 || outputs != group) {
    if (!(group == 1 && sd_strand_cut(g, n, 1, 1, labels, count, SD_CUT_INPUTS))) sd_strand_fix(g, x);
    if (group == 1) begin(g, n, 1);
    return;
  }
  // one kernel for each channel
  bool good = sd_strand_cut(g, n, 1, 0, labels, count, SD_CUT_OTHER) &&
              (n->n_in < 3 || !n->in[2] || sd_strand_cut(g, n, 2, 0, labels, count, SD_CUT_OTHER));
  sd_strand_count(g, n, "group", labels, count);
  sd_strand_put_axis(g, n->out[0], 1, count, labels);
  if (!good) sd_strand_fix(g, x);
}

// ---- products ----

// One operand has labels, and the other none: they go on along its rows or columns (`own`), and along axes in
// front that the other has once only.
static void product_with(sd_following *g, const sd_node *n, uint32_t labelled, int own) {
  sd_strand *f = sd_strand_of(g, n->in[labelled]);
  const sd_value *other = n->in[!labelled], *v = n->in[labelled], *y = n->out[0];
  unsigned keep = 0;
  for (int j = 0; j < f->k && y->rank >= v->rank; j++) {
    int axis = f->of[j].axis, there = axis - v->rank + other->rank;
    if (axis == own || (axis < v->rank - 2 && (there < 0 || sd_strand_dim(g, other, there) == 1)))
      keep |= 1U << j;
  }
  f = sd_strand_keep(g, f, keep);
  if (!f) return;
  for (int j = 0; j < f->k; j++) f->of[j].axis += y->rank - v->rank;
  sd_strand_put(g, y, f);
}

// Heads of queries whose keys and values are those of one head: b has no labels in front, and one element
// only where a has some.
static bool shares(const sd_following *g, const sd_strand *a, const sd_value *va, const sd_strand *b,
                   const sd_value *vb) {
  unsigned in_front = sd_strand_on(a, 0, va->rank - 3);
  bool all = in_front && !sd_strand_on(b, 0, vb->rank - 3);
  for (int j = 0; j < a->k && all; j++) {
    int there = a->of[j].axis - va->rank + vb->rank;
    if (in_front >> j & 1) all = there < 0 || sd_strand_dim(g, vb, there) == 1;
  }
  return all;
}

// What is summed over ends there; of heads there is one product each.
static void product_of_values(sd_following *g, const sd_node *n) {
  const sd_value *va = n->in[0], *vb = n->in[1];
  sd_strand *a = sd_strand_of(g, va), *b = sd_strand_of(g, vb), *heads;
  int r = va->rank;
  if (!a && !b) return;
  if (r < 2 || vb->rank < 2) {
    sd_strand_fix(g, a), sd_strand_fix(g, b);
    return;
  }
  for (int i = 0; i < 2 && a && b; i++)
    if (i ? shares(g, b, vb, a, va) : shares(g, a, va, b, vb)) {
      sd_strand_fix(g, i ? a : b);
      *(i ? &a : &b) = NULL;
    }
  if (!a || !b) {
    product_with(g, n, a ? 0 : 1, a ? r - 2 : vb->rank - 1);
    return;
  }
  a = sd_strand_keep(g, a, sd_strand_on(a, 0, r - 3) | sd_strand_on(a, r - 1, r - 1));
  b = sd_strand_keep(g, b, sd_strand_on(b, 0, vb->rank - 2));
  if (b && sd_strand_on(b, vb->rank - 2, vb->rank - 2))
    b->of[b->k - 1].axis++; // the sum runs over it, as over the last of a
  sd_strand *both = a && b && r == vb->rank && r == n->out[0]->rank ? sd_strand_agree(g, a, b) : NULL;
  if (!both) {
    sd_strand_fix(g, a), sd_strand_fix(g, b);
    return;
  }
  a = both;
  unsigned in_front = sd_strand_on(a, 0, r - 3);
  heads = in_front ? sd_strand_keep(g, a, in_front) : NULL;
  if (heads) sd_strand_put(g, n->out[0], heads);
}

static void matmul(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]);
  int rank = n->in[0]->rank, transposed = (int)sd_node_int(n, "transB", 0);
  bool gemm = strcmp(n->op->name, "Gemm") == 0;
  if (gemm && n->n_in > 2) sd_strand_fix(g, sd_strand_of(g, n->in[2]));
  uint32_t unit = 0;
  if (n->in[1]->rank != 2 ||
      (!n->in[1]->data && !sd_strand_unit(g, n, 1, &unit))) { // a unit's may come through Identity
    if (gemm) sd_strand_fix(g, x), sd_strand_fix(g, sd_strand_of(g, n->in[1]));
    else
      product_of_values(g, n);
    return;
  }
  uint32_t *labels = x && !sd_node_int(n, "transA", 0) ? sd_strand_along(g, x, n->in[0], rank - 1) : NULL;
  if (x && !sd_strand_cut(g, n, 1, transposed ? 1 : 0, labels, (uint32_t)sd_strand_dim(g, n->in[0], rank - 1),
                          SD_CUT_INPUTS))
    sd_strand_fix(g, x);
  begin(g, n, n->out[0]->rank - 1);
}

// ---- elements ----

// The pieces of f that operand v, which has no labels, has one element along; its axes lie `shift` in front
// of those of f.
static unsigned once(const sd_following *g, const sd_strand *f, const sd_value *v, int shift) {
  unsigned bits = 0;
  for (int j = 0; j < f->k; j++) {
    int axis = f->of[j].axis - shift;
    if (axis < 0 || sd_strand_dim(g, v, axis) == 1) bits |= 1U << j;
  }
  return bits;
}

static int only_axis(const sd_strand *f) {
  for (int j = 1; j < f->k; j++)
    if (f->of[j].axis != f->of[0].axis) return -1;
  return f->of[0].axis;
}

// Operand i as the result has it: f (axes of the result) with what both have. NULL: it cannot be followed.
static sd_strand *with_operand(sd_following *g, const sd_node *n, uint32_t i, sd_strand *f) {
  const sd_value *v = n->in[i], *y = n->out[0];
  sd_strand *x = sd_strand_of(g, v), *less;
  int shift = y->rank - v->rank;
  if (x) {
    sd_strand_align(g, &f, &x, shift);
    f = sd_strand_keep(g, f, sd_strand_common(f, x, shift) | once(g, f, v, shift));
    x = f ? sd_strand_keep(g, x, sd_strand_common(x, f, -shift)) : NULL;
    less = x ? sd_strand_keep(g, f, sd_strand_common(f, x, shift)) : NULL;
    return less && sd_strand_meet(g, less, x, shift) ? less : NULL;
  }
  unsigned bits = once(g, f, v, shift);
  if (bits) return sd_strand_keep(g, f, bits);
  if (only_axis(f) < 0) f = sd_strand_keep(g, f, sd_strand_on(f, f->of[0].axis, f->of[0].axis));
  int axis = f->of[0].axis;
  uint32_t *labels = sd_strand_along(g, f, y, axis);
  return sd_strand_cut(g, n, i, axis - shift, labels, (uint32_t)sd_strand_dim(g, y, axis), SD_CUT_OTHER)
             ? f
             : NULL;
}

// Elements in the same place of all operands.
static void elementwise(sd_following *g, const sd_node *n) {
  const sd_value *y = n->out[0];
  sd_strand *f = NULL;
  uint32_t first = 0;
  for (uint32_t i = 0; i < n->n_in && !f; i++)
    if (sd_strand_of(g, n->in[i])) first = i, f = sd_arena_dup(g->a, sd_strand_of(g, n->in[i]), sizeof *f);
  if (!f) return;
  for (int j = 0; j < f->k; j++) f->of[j].axis += y->rank - n->in[first]->rank;
  for (uint32_t i = 0; i < n->n_in && f; i++)
    if (i != first && n->in[i]) f = with_operand(g, n, i, f);
  for (uint32_t i = 0; !f && i < n->n_in; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
  if (f) sd_strand_put(g, y, f);
}

static void channels(sd_following *g, const sd_node *n) { // a scale and shift for each
  sd_strand *x = sd_strand_of(g, n->in[0]);
  if (x) x = sd_strand_keep(g, x, sd_strand_on(x, 1, 1));
  if (!x) return;
  uint32_t *labels = sd_strand_along(g, x, n->in[0], 1), count = (uint32_t)sd_strand_dim(g, n->in[0], 1);
  bool good = labels != NULL;
  for (uint32_t i = 1; good && i < n->n_in; i++)
    good = sd_strand_cut(g, n, i, 0, labels, count, SD_CUT_OTHER);
  sd_strand_put(g, n->out[0], x);
  if (!good) sd_strand_fix(g, x);
}

// Operators that leave the axis as it is: it is as long behind, and nothing is computed along it.
static void along(sd_following *g, const sd_node *n, const sd_strand *x) {
  const sd_value *y = n->out[0];
  bool good = y->rank == n->in[0]->rank;
  for (int j = 0; j < x->k; j++) good = good && y->dims[x->of[j].axis] == n->in[0]->dims[x->of[j].axis];
  for (uint32_t i = 1; i < n->n_in; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
  for (uint32_t i = 1; i < n->n_out; i++) good = good && (!n->out[i] || n->out[i]->uses.len == 0);
  if (good) sd_strand_put(g, y, x);
  else
    sd_strand_fix(g, x);
}

static void normalized(sd_following *g, const sd_node *n) { // along one axis
  sd_strand *x = sd_strand_of(g, n->in[0]);
  int axis = (int)sd_node_int(n, "axis", -1);
  if (axis < 0) axis += n->in[0]->rank;
  if (x) x = sd_strand_keep(g, x, (1U << x->k) - 1 - sd_strand_on(x, axis, axis));
  if (x) along(g, n, x);
}

static void reduce(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]), f;
  const sd_value *axes = n->n_in > 1 ? n->in[1] : NULL;
  int rank = n->in[0]->rank;
  bool gone[SD_MAX_RANK] = {false};
  if (!x) return;
  if (n->out[0]->rank == rank) {
    unsigned keep = 0; // of heads whose elements are summed, those are left
    for (int j = 0; j < x->k; j++)
      keep |= n->out[0]->dims[x->of[j].axis] == n->in[0]->dims[x->of[j].axis] ? 1U << j : 0;
    x = sd_strand_keep(g, x, keep);
    if (x) along(g, n, x);
    return;
  }
  if (!axes || !axes->data || axes->data->dtype != SD_I64) {
    sd_strand_fix(g, x);
    return;
  }
  for (uint64_t i = 0; i < axes->data->count; i++) {
    int64_t at;
    memcpy(&at, (const int64_t *)axes->data->data + i, sizeof at);
    at += at < 0 ? rank : 0;
    if (at >= 0 && at < rank) gone[at] = true;
  }
  for (int i = 0; i < rank && x; i++)
    if (gone[i]) x = sd_strand_keep(g, x, (1U << x->k) - 1 - sd_strand_on(x, i, i));
  if (!x) return;
  f = *x;
  for (int j = 0; j < f.k; j++)
    for (int i = 0; i < x->of[j].axis; i++) f.of[j].axis -= gone[i];
  sd_strand_put(g, n->out[0], &f);
}

int sd_strand_transposed(const sd_node *n, int axis) {
  const sd_attr *perm = sd_node_attr(n, "perm");
  int rank = n->in[0]->rank;
  return perm && perm->kind == SD_ATTR_INTS && (int)perm->n == rank ? (int)perm->ints[axis] : rank - 1 - axis;
}

static void transpose(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]), f;
  if (!x) return;
  f = *x;
  for (int i = 0; i < n->in[0]->rank; i++)
    for (int j = 0; j < f.k; j++)
      if (x->of[j].axis == sd_strand_transposed(n, i)) f.of[j].axis = i;
  sd_strand_put(g, n->out[0], &f);
}

// Values that are joined along another axis: what is in the same place of them goes together.
static bool beside(sd_following *g, const sd_node *n, int axis) {
  sd_strand *first = NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_strand *f = sd_strand_of(g, n->in[i]);
    if (!f || sd_strand_on(f, axis, axis) == (1U << f->k) - 1) return false;
  }
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_strand *f = sd_strand_of(g, n->in[i]);
    sd_strand *x = sd_strand_keep(g, f, (1U << f->k) - 1 - sd_strand_on(f, axis, axis));
    first = x && first ? sd_strand_agree(g, first, x) : x;
    if (!first) return false;
  }
  sd_strand_put(g, n->out[0], first);
  return true;
}

static void concat(sd_following *g, const sd_node *n) {
  const sd_value *y = n->out[0];
  int axis = (int)sd_node_int(n, "axis", 0);
  if (axis < 0) axis += y->rank;
  if (sd_strand_join(g, n, axis) || beside(g, n, axis)) return;
  int64_t all = sd_strand_dim(g, y, axis);
  bool some = false, good = all > 0 && all < UINT32_MAX;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_strand *f = sd_strand_of(g, n->in[i]);
    if (f) some = true, good = good && only_axis(f) == axis;
  }
  if (!some) return;
  uint32_t *at = good ? SD_NEW_ARRAY(g->a, uint32_t, all) : NULL, next = 0; // label 0 stays
  for (uint32_t i = 0; i < n->n_in && good; i++) {
    sd_strand *f = sd_strand_of(g, n->in[i]);
    uint32_t *labels = f ? sd_strand_along(g, f, n->in[i], axis) : NULL;
    int64_t d = sd_strand_dim(g, n->in[i], axis);
    good = d >= 0 && d <= all - next && (!f || labels);
    for (int64_t k = 0; k < d && good; k++) at[next++] = labels ? labels[k] : 0;
  }
  for (uint32_t i = 0; !good && i < n->n_in; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
  if (good) sd_strand_put_axis(g, y, axis, (uint32_t)all, at);
}

// Operand i has to do with the letter: it says how long the axis is, or has it itself.
static bool concerns(const sd_node *n, const sd_axes *axes, uint32_t i, sd_letter l) {
  bool does = n->in[i] && (axes->sizes >> i & 1);
  for (int k = 0; n->in[i] && k < n->in[i]->rank; k++) does |= axes->in[i][k] == l;
  return does;
}

// Whatever else works along other axes, by the letters of its row: parts, borders, pictures of other sizes.
// An axis that it takes elements from, or works across, stays whole.
static void by_letters(sd_following *g, const sd_node *n) {
  const sd_strand *x = n->n_in ? sd_strand_of(g, n->in[0]) : NULL;
  const sd_value *v = n->in[0], *y = n->out[0];
  sd_axes axes;
  unsigned keep = 0;
  if (x && y->rank == v->rank && sd_axes_of(n, g->a, &axes)) {
    for (int j = 0; j < x->k; j++) {
      int axis = x->of[j].axis;
      sd_letter l = axes.in[0][axis];
      bool free = l && axes.out[0][axis] == l && y->dims[axis] == v->dims[axis];
      for (uint32_t i = 1; free && i < n->n_in; i++) free = !concerns(n, &axes, i, l);
      keep |= free ? 1U << j : 0;
    }
    x = sd_strand_keep(g, x, keep);
    if (x) along(g, n, x);
  }
  for (uint32_t i = 0; !keep && i < n->n_in; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
}

static void slice(sd_following *g, const sd_node *n) {
  if (!sd_strand_slice(g, n)) by_letters(g, n);
}

// ---- the graph ----

typedef void (*rule)(sd_following *g, const sd_node *n);
static const struct {
  const char *op;
  rule fn;
} rules[] = {{"Conv", conv},
             {"MatMul", matmul},
             {"Gemm", matmul},
             {"BatchNormalization", channels},
             {"Softmax", normalized},
             {"InstanceNormalization", channels},
             {"Transpose", transpose},
             {"LogSoftmax", normalized},
             {"Concat", concat},
             {"ScatterND", sd_strand_written},
             {"ScatterElements", sd_strand_written},
             {"TensorScatter", sd_strand_written},
             {"Reshape", sd_strand_reshape},
             {"Slice", slice},
             {"Split", sd_strand_split},
             {"Flatten", sd_strand_reshape},
             {"Squeeze", sd_strand_squeeze},
             {"Unsqueeze", sd_strand_squeeze},
             {"Gather", sd_strand_gather},
             {"Expand", sd_strand_expand},
             {"Attention", sd_strand_attention},
             {"com.microsoft.GroupQueryAttention", sd_strand_attention},
             {"LSTM", sd_strand_states},
             {"GRU", sd_strand_states},
             {"RNN", sd_strand_states},
             {"Cast", elementwise},
             {"Clip", elementwise}};

static rule rule_of(const sd_node *n) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (strcmp(n->op->name, rules[i].op) == 0) return rules[i].fn;
  return NULL;
}

static void node(sd_following *g, const sd_node *n) {
  rule fn = rule_of(n);
  if (fn) {
    fn(g, n);
    return;
  }
  if (strcmp(n->op->name, "Shape") == 0) return; // see sd_strand_sizes
  if (n->op->kind == SD_MAP && n->op->text && n->n_out == 1) elementwise(g, n);
  else if (n->op->kind == SD_REDUCE)
    reduce(g, n);
  else
    by_letters(g, n);
}

static bool ranks_known(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank < 0) return false;
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && n->out[i]->rank < 0) return false;
  return n->n_out > 0 && (n->out[0] || rule_of(n) == sd_strand_states);
}

static void walk(sd_following *g) {
  sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.fixed = true}));
  sd_strand_inputs(g);
  for (const sd_node *n = g->m->main->first; n; n = n->next) {
    g->at = n;
    if (ranks_known(n)) node(g, n);
    else
      for (uint32_t i = 0; i < n->n_in; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
    g->at = NULL;
    for (uint32_t i = 0; i < n->n_out; i++) {
      const sd_value *v = n->out[i];
      bool outside = v && sd_value_is_output(v);
      for (uint32_t k = 0; v && k < v->uses.len; k++) outside |= v->uses.at[k].node->graph != g->m->main;
      if (outside && !sd_strand_output(g, v)) sd_strand_fix(g, sd_strand_of(g, v));
    }
  }
}

sard_status *sd_prune_follow(sd_arena *a, const sard_source *src, const sd_prune_units *units, bool resize,
                             sd_prune_channels *out) {
  sd_proto p;
  sd_module *m = NULL;
  *out = (sd_prune_channels){0};
  SD_TRY(sd_proto_open(a, src, &p));
  SD_TRY(sd_import_onnx(src, &m));
  sd_following g = {.a = a, .p = &p, .m = m, .units = units, .c = out, .resize = resize};
  g.of = SD_NEW_ARRAY(a, sd_strand *, m->next_id + 1);
  sd_names_init(&g.values, a);
  walk(&g);
  sd_strand_pair(&g);
  sd_strand_sizes(&g);
  sd_strand_resize_outside(&g);
  for (uint32_t i = 0; i < out->labels.len; i++)
    out->labels.at[i].same = sd_prune_root(out, i); // asked of each weight
  sd_module_free(m);
  return NULL;
}
