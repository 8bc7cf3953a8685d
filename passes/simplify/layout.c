// Channels last: convolutions run on [N, spatial..., C]; transposes move through everything that allows it.
//
// Forward over the graph with a twin for values: the twin of v is v with channels last. Convolutions make twins; maps,
// pools, concatenations, pads, reductions, resizes and transposes of values with twins are rewritten to work on the
// twins. What still needs the original order gets one transpose from the twin; unused ones are dead code.
#include "passes/edit.h"
#include "passes/simplify/borders.h"

#define FEW_OUTPUTS  8
#define LEAST_RATIO  4  // of inputs to these, which may have to be turned for what follows
#define LEAST_PLACES 64 // several vectors

typedef struct layout {
  sd_module *m;
  sd_graph *g;
  sd_arena *scratch;
  const sd_pass_target *target;
  sd_value **twin; // by value id
  uint32_t cap;
  sd_pass_report *r;
} layout;

static sd_value *twin_of(const layout *l, const sd_value *v) { return v && v->id < l->cap ? l->twin[v->id] : NULL; }

static void set_twin(layout *l, const sd_value *v, sd_value *t) {
  if (v->id >= l->cap) {
    uint32_t cap = l->m->next_id * 2 + 64;
    sd_value **twin = SD_NEW_ARRAY(l->scratch, sd_value *, cap);
    if (l->cap) memcpy(twin, l->twin, l->cap * sizeof *twin);
    l->twin = twin, l->cap = cap;
  }
  l->twin[v->id] = t;
}

// Position of original axis `d` in the channels-last order, and the permutations.
static int moved(int d, int rank) { return d == 0 ? 0 : d == 1 ? rank - 1 : d - 1; }
static void to_last(int rank, int64_t *perm) { // result axis i is original axis perm[i]
  for (int d = 0; d < rank; d++) perm[moved(d, rank)] = d;
}
static void to_first(int rank, int64_t *perm) {
  for (int d = 0; d < rank; d++) perm[d] = moved(d, rank);
}

static sard_status *need_twin(layout *l, sd_node *before, sd_value *v, sd_value **out) {
  int64_t perm[SD_MAX_RANK];
  if ((*out = twin_of(l, v))) return NULL;
  to_last(v->rank, perm);
  SD_TRY(sd_edit_transpose(l->g, before, v, perm, (uint32_t)v->rank, out));
  if (!v->data) set_twin(l, v, *out);
  return NULL;
}

// Replaces output 0 of n by the transposed `t` and records the twin; n goes.
static sard_status *finish(layout *l, sd_node *n, sd_value *t) {
  int64_t perm[SD_MAX_RANK];
  sd_value *back;
  to_first(t->rank, perm);
  SD_TRY(sd_edit_transpose(l->g, n, t, perm, (uint32_t)t->rank, &back));
  back->name = n->out[0]->name;
  if (t->def) t->def->name = n->name, t->def->onnx_index = n->onnx_index;
  set_twin(l, back, t);
  sd_value_replace(n->out[0], back);
  sd_node_remove(n);
  l->r->rewrites++;
  return NULL;
}

static sd_node *copy_node(layout *l, sd_node *n, sd_value *const *in, uint32_t n_in) {
  sd_node *c = sd_node_new(l->g, n, n->op, in, n_in, n->n_out);
  if (n->n_attr) memcpy(c->attrs, n->attrs, n->n_attr * sizeof *n->attrs);
  return c;
}

// ---- rules ----

// Zero borders become a node of their own, so that the inner loops have no conditions; `left`: those that stay pads of the
// convolution n.
static sard_status *explicit_pad(layout *l, sd_node *n, sd_value *x, const sd_attr *pads, int64_t *left, sd_value **out) {
  int64_t p[2 * SD_MAX_RANK] = {0};
  int rank = x->rank, spatial = rank - 2;
  bool any = false;
  for (int i = 0; i < spatial; i++) {
    bool stays = sd_border_left_out(n, i);
    int64_t *begin = stays ? &left[i] : &p[1 + i], *end = stays ? &left[spatial + i] : &p[rank + 1 + i];
    *begin = pads->ints[i], *end = pads->ints[spatial + i];
    any |= !stays && (*begin || *end);
  }
  *out = x;
  if (!any) return NULL;
  return sd_edit_apply(l->g, n, "Pad", (sd_value *[]){x, sd_value_const_i64(l->g, p, 2 * rank)}, 2, out);
}

// Which order of the weights suits the target: see Conv in ir/ops/contract.def. Depthwise ones have one input channel, and
// neighbours are output channels.
static int64_t weight_order(const layout *l, const sd_value *w, bool transposed) {
  return l->target->output_rows && (transposed || !sd_dim_is(l->m->dims, w->dims[1], 1)) ? 2 : 1;
}

// [M, C/g, k...] -> [k..., C/g, M];  ConvTranspose [C, M/g, k...] -> [k..., C, M/g]. Order 2: [M, k..., C/g], [M/g, k..., C].
static sard_status *turn_weight(layout *l, sd_node *n, sd_value *w, int64_t order, bool transposed, sd_value **out) {
  int64_t perm[SD_MAX_RANK];
  int rank = w->rank, taps = order == 2 ? 1 : 0, in = transposed ? 0 : 1;
  for (int d = 0; d < rank - 2; d++) perm[taps + d] = d + 2;
  perm[order == 2 ? 0 : rank - 1] = 1 - in;
  perm[order == 2 ? rank - 1 : rank - 2] = in;
  return sd_edit_transpose(l->g, n, w, perm, (uint32_t)rank, out);
}

// Channels by which images have fewer than a vector of `channel_vector`, where a copy of them is made anyway and a third
// more of them at most pays.
static int64_t missing_channels(const layout *l, const sd_node *n, const sd_value *x, const sd_value *w, bool transposed) {
  int64_t c, v = l->target->channel_vector;
  if (v < 2 || transposed || twin_of(l, x) || x->data || !sd_dim_is_const(l->m->dims, x->dims[1], &c)) return 0;
  if (sd_node_int(n, "group", 1) != 1 || !sd_dim_is(l->m->dims, w->dims[1], c) || sd_dtype_bits(x->dtype) < 8) return 0;
  int64_t more = (v - c % v) % v;
  return 3 * more <= c ? more : 0;
}

// v with `more` zeros at the end of axis 1.
static sard_status *widen(layout *l, sd_node *before, sd_value *v, int64_t more, sd_value **out) {
  int64_t p[2 * SD_MAX_RANK] = {0};
  p[v->rank + 1] = more;
  return sd_edit_apply(l->g, before, "Pad", (sd_value *[]){v, sd_value_const_i64(l->g, p, 2 * v->rank)}, 2, out);
}

// A product of each place alone with few outputs, whose input stands channels first: vectors of places read it as it is, and turning
// it would take longer than the product.
static bool stays_first(const layout *l, const sd_node *n, const sd_value *x, const sd_value *w) {
  int64_t in, out, places = 1, entry;
  if (!sd_edit_is(n, "Conv") || twin_of(l, x) || sd_node_int(n, "group", 1) != 1) return false;
  if (!l->target->padded_copies || !sd_dim_is_const(l->m->dims, w->dims[0], &out) || out > FEW_OUTPUTS) return false;
  if (!sd_dim_is_const(l->m->dims, w->dims[1], &in) || in < LEAST_RATIO * out) return false;
  for (int i = 0; i < x->rank - 2; i++) {
    if (!sd_dim_is(l->m->dims, w->dims[2 + i], 1) || sd_edit_entry(n, "strides", i, 1) != 1) return false;
    if (sd_edit_entry(n, "pads", i, 0) || sd_edit_entry(n, "pads", x->rank - 2 + i, 0)) return false;
    if (!sd_dim_is_const(l->m->dims, x->dims[2 + i], &entry)) return false;
    places *= entry;
  }
  return places >= LEAST_PLACES;
}

static sard_status *conv(layout *l, sd_node *n) {
  sd_value *x = n->in[0], *w = n->in[1], *in[3], *t;
  bool transposed = sd_edit_is(n, "ConvTranspose");
  const sd_attr *pads = sd_node_attr(n, "pads");
  int64_t left[2 * SD_MAX_RANK] = {0};
  if (x->rank < 3 || !w->data || w->rank != x->rank || sd_node_int(n, "channels_last", 0)) return NULL;
  if (stays_first(l, n, x, w)) return NULL;
  int64_t more = missing_channels(l, n, x, w, transposed);
  if (more) {
    SD_TRY(widen(l, n, x, more, &x));
    SD_TRY(widen(l, n, w, more, &w));
  }
  SD_TRY(need_twin(l, n, x, &in[0]));
  int64_t order = weight_order(l, w, transposed);
  SD_TRY(turn_weight(l, n, w, order, transposed, &in[1]));
  in[2] = n->n_in > 2 ? n->in[2] : NULL;
  bool explicit_pads = l->target->padded_copies && !transposed && pads->kind == SD_ATTR_INTS;
  explicit_pads = explicit_pads && strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") == 0;
  if (explicit_pads && (int)pads->n == 2 * (x->rank - 2)) SD_TRY(explicit_pad(l, n, in[0], pads, left, &in[0]));
  else explicit_pads = false;
  sd_node *c = copy_node(l, n, in, in[2] ? 3 : 2);
  sd_node_set_int(c, "channels_last", order);
  if (explicit_pads) sd_node_set_ints(c, "pads", left, pads->n);
  SD_TRY(sd_node_infer(c));
  t = c->out[0];
  return finish(l, n, t);
}

static sard_status *pool(layout *l, sd_node *n) {
  sd_value *t = twin_of(l, n->in[0]);
  if (!t || sd_node_int(n, "channels_last", 0) || (n->n_out > 1 && n->out[1])) return NULL;
  sd_node *c = copy_node(l, n, &t, 1);
  sd_node_set_int(c, "channels_last", 1);
  SD_TRY(sd_node_infer(c));
  return finish(l, n, c->out[0]);
}

// A map works on the twins when an operand of full size has one; operands that broadcast are moved along.
static sard_status *map(layout *l, sd_node *n) {
  sd_value *in[16], *y = n->out[0];
  int rank = y->rank, full = 0, other = 0;
  if (n->n_in > 16 || n->n_in == 0 || n->n_out != 1 || rank < 3) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i];
    if (!v || v->rank != rank || v->data || sd_value_count(v) != sd_value_count(y)) continue;
    if (twin_of(l, v)) full++;
    else other++;
  }
  if (full == 0 || other > full) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i];
    in[i] = v;
    if (!v || v->rank == 0 || (v->data && v->data->count == 1 && v->rank <= 1)) continue;
    if (v->rank < rank) {
      int64_t axes[SD_MAX_RANK];
      for (int d = 0; d < rank - v->rank; d++) axes[d] = d;
      SD_TRY(sd_edit_apply(l->g, n, "Unsqueeze", (sd_value *[]){v, sd_value_const_i64(l->g, axes, rank - v->rank)}, 2, &v));
    }
    SD_TRY(need_twin(l, n, v, &in[i]));
  }
  sd_node *c = copy_node(l, n, in, n->n_in);
  SD_TRY(sd_node_infer(c));
  return finish(l, n, c->out[0]);
}

static sard_status *concat(layout *l, sd_node *n) {
  sd_value *in[256];
  int have = 0, rank = n->out[0]->rank;
  int64_t axis = sd_node_int(n, "axis", 0);
  if (n->n_in > 256 || rank < 3) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) have += twin_of(l, n->in[i]) != NULL;
  if (2 * have < (int)n->n_in || have == 0) return NULL;
  for (uint32_t i = 0; i < n->n_in; i++) SD_TRY(need_twin(l, n, n->in[i], &in[i]));
  sd_node *c = copy_node(l, n, in, n->n_in);
  sd_node_set_int(c, "axis", moved((int)(axis < 0 ? axis + rank : axis), rank));
  SD_TRY(sd_node_infer(c));
  return finish(l, n, c->out[0]);
}

static sard_status *split(layout *l, sd_node *n) {
  sd_value *in[2], *t = twin_of(l, n->in[0]);
  int rank = n->in[0]->rank;
  int64_t axis = sd_node_int(n, "axis", 0), perm[SD_MAX_RANK];
  if (!t || rank < 3) return NULL;
  in[0] = t, in[1] = n->n_in > 1 ? n->in[1] : NULL;
  sd_node *c = copy_node(l, n, in, n->n_in);
  sd_node_set_int(c, "axis", moved((int)(axis < 0 ? axis + rank : axis), rank));
  SD_TRY(sd_node_infer(c));
  to_first(rank, perm);
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *back;
    if (!n->out[i]) continue;
    SD_TRY(sd_edit_transpose(l->g, n, c->out[i], perm, (uint32_t)rank, &back));
    back->name = n->out[i]->name;
    set_twin(l, back, c->out[i]);
    sd_value_replace(n->out[i], back);
  }
  c->name = n->name;
  sd_node_remove(n);
  l->r->rewrites++;
  return NULL;
}

static sard_status *softmax(layout *l, sd_node *n) {
  sd_value *t = twin_of(l, n->in[0]);
  int rank = n->in[0]->rank;
  int64_t axis = sd_node_int(n, "axis", -1);
  if (!t || rank < 3) return NULL;
  sd_node *c = copy_node(l, n, &t, 1);
  sd_node_set_int(c, "axis", moved((int)(axis < 0 ? axis + rank : axis), rank));
  SD_TRY(sd_node_infer(c));
  return finish(l, n, c->out[0]);
}

// Operands that hold one number for each axis of the tensor (pads: twice that) are put into the new order.
static sard_status *per_axis_operand(layout *l, sd_node *n, sd_value *v, int rank, int times, sd_value **out) {
  int64_t perm[2 * SD_MAX_RANK], one[SD_MAX_RANK];
  to_last(rank, one);
  for (int t = 0; t < times; t++)
    for (int d = 0; d < rank; d++) perm[t * rank + d] = one[d] + t * rank;
  return sd_edit_apply(l->g, n, "Gather", (sd_value *[]){v, sd_value_const_i64(l->g, perm, times * rank)}, 2, out);
}

static sard_status *pad(layout *l, sd_node *n) {
  sd_value *in[4] = {twin_of(l, n->in[0])};
  int rank = n->in[0]->rank;
  int64_t axes[SD_MAX_RANK];
  uint32_t count = 0;
  if (!in[0] || rank < 3) return NULL;
  in[1] = n->in[1], in[2] = n->n_in > 2 ? n->in[2] : NULL, in[3] = n->n_in > 3 ? n->in[3] : NULL;
  if (in[3]) {
    if (!sd_edit_ints(n, 3, axes, SD_MAX_RANK, &count)) return NULL;
    for (uint32_t i = 0; i < count; i++) axes[i] = moved((int)(axes[i] < 0 ? axes[i] + rank : axes[i]), rank);
    in[3] = sd_value_const_i64(l->g, axes, (int)count);
  } else {
    SD_TRY(per_axis_operand(l, n, n->in[1], rank, 2, &in[1]));
  }
  sd_node *c = copy_node(l, n, in, n->n_in);
  SD_TRY(sd_node_infer(c));
  return finish(l, n, c->out[0]);
}

static sard_status *resize(layout *l, sd_node *n) {
  sd_value *in[4] = {twin_of(l, n->in[0])};
  int rank = n->in[0]->rank;
  const sd_attr *axes = sd_node_attr(n, "axes");
  if (!in[0] || rank < 3 || (axes && axes->kind == SD_ATTR_INTS)) return NULL;
  for (uint32_t i = 1; i < n->n_in && i < 4; i++) {
    const sd_value *v = n->in[i];
    in[i] = NULL;
    if (!v || (v->data && v->data->count == 0)) continue;
    SD_TRY(per_axis_operand(l, n, n->in[i], rank, i == 1 ? 2 : 1, &in[i]));
  }
  sd_node *c = copy_node(l, n, in, n->n_in);
  sard_status *st = sd_node_infer(c);
  if (st) { // sizes that are known only in this order
    sard_status_free(st);
    sd_node_remove(c);
    return NULL;
  }
  return finish(l, n, c->out[0]);
}

static sard_status *reduce(layout *l, sd_node *n) {
  sd_value *in[2] = {twin_of(l, n->in[0])};
  int rank = n->in[0]->rank;
  int64_t axes[SD_MAX_RANK];
  uint32_t count = 0;
  bool keep = sd_node_int(n, "keepdims", 1) != 0, reduced[SD_MAX_RANK] = {0};
  if (!in[0] || rank < 3 || n->n_in < 2 || n->n_out != 1 || !sd_edit_ints(n, 1, axes, SD_MAX_RANK, &count) || count == 0) return NULL;
  for (uint32_t i = 0; i < count; i++) {
    int64_t d = axes[i] < 0 ? axes[i] + rank : axes[i];
    reduced[d] = true;
    axes[i] = moved((int)d, rank);
  }
  if (!keep && !reduced[1]) // the rest must come out in the original order: nothing after the channels may remain
    for (int d = 2; d < rank; d++)
      if (!reduced[d]) return NULL;
  in[1] = sd_value_const_i64(l->g, axes, (int)count);
  sd_node *c = copy_node(l, n, in, 2);
  SD_TRY(sd_node_infer(c));
  if (keep) return finish(l, n, c->out[0]);
  c->out[0]->name = n->out[0]->name, c->name = n->name;
  sd_value_replace(n->out[0], c->out[0]);
  sd_node_remove(n);
  l->r->rewrites++;
  return NULL;
}

static sard_status *transpose(layout *l, sd_node *n) {
  sd_value *t = twin_of(l, n->in[0]), *y;
  const sd_attr *perm = sd_node_attr(n, "perm");
  int64_t composed[SD_MAX_RANK];
  int rank = n->in[0]->rank;
  bool identity = true, first = true;
  if (perm->kind != SD_ATTR_INTS) return NULL;
  to_first(rank, composed);
  for (int i = 0; i < rank; i++) first &= perm->ints[i] == composed[i];
  if (!t && first && rank >= 4 && l->target->model_turns) set_twin(l, n->out[0], n->in[0]);
  if (!t) return NULL;
  for (int i = 0; i < rank; i++) {
    composed[i] = moved((int)perm->ints[i], rank);
    identity &= composed[i] == i;
  }
  y = t;
  if (!identity) SD_TRY(sd_edit_transpose(l->g, n, t, composed, (uint32_t)rank, &y));
  if (identity && sd_value_is_output(n->out[0])) return NULL;
  sd_value_replace(n->out[0], y);
  sd_node_remove(n);
  l->r->rewrites++;
  return NULL;
}

// [N, C, 1, 1] and [N, 1, 1, C] are the same memory: reshapes of them need no transpose.
static sard_status *reshape(layout *l, sd_node *n) {
  sd_value *t = twin_of(l, n->in[0]);
  if (!t) return NULL;
  for (int d = 1; d < t->rank - 1; d++)
    if (!sd_dim_is(l->m->dims, t->dims[d], 1)) return NULL;
  if (sd_edit_is(n, "Flatten") && sd_node_int(n, "axis", 1) != 1) return NULL;
  if (sd_edit_is(n, "Reshape")) { // zeros in the shape would refer to other axes: give the result's dims
    int64_t dims[SD_MAX_RANK];
    if (!sd_value_static(n->out[0], dims)) {
      sd_dim rest = sd_dim_const(l->m->dims, 1);
      if (n->out[0]->rank != 2) return NULL;
      (void)rest;
    }
    uint32_t count;
    int64_t shape[SD_MAX_RANK];
    if (!sd_edit_ints(n, 1, shape, SD_MAX_RANK, &count)) return NULL;
    for (uint32_t i = 1; i < count; i++)
      if (shape[i] == 0) return NULL;
  }
  if (sd_edit_is(n, "Squeeze")) return NULL; // names axes: handled through the transpose
  sd_node_set_input(n, 0, t);
  l->r->rewrites++;
  return NULL;
}

typedef struct rule { const char *op; sard_status *(*fn)(layout *l, sd_node *n); } rule;
static const rule rules[] = {
    {"Conv", conv}, {"sard.Conv8", conv}, {"ConvTranspose", conv}, {"MaxPool", pool}, {"AveragePool", pool}, {"LpPool", pool}, {"GlobalAveragePool", pool},
    {"GlobalMaxPool", pool}, {"GlobalLpPool", pool}, {"LRN", pool}, {"Concat", concat}, {"Split", split}, {"Softmax", softmax}, {"LogSoftmax", softmax},
    {"Pad", pad}, {"Resize", resize}, {"Transpose", transpose}, {"Reshape", reshape}, {"Flatten", reshape}, {"Squeeze", reshape},
    {"ReduceMean", reduce}, {"ReduceSum", reduce}, {"ReduceMax", reduce}, {"ReduceMin", reduce}, {"ReduceL2", reduce},
};

sard_status *sd_pass_layout(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  layout l = {.m = m, .g = m->main, .scratch = scratch, .target = &o->target, .r = r};
  if (!o->target.channels_last) return NULL;
  for (sd_node *n = m->main->first, *next; n; n = next) {
    next = n->next;
    if (o->bisect >= 0 && r->rewrites >= o->bisect) return NULL;
    sard_status *st = NULL;
    if (n->op->kind == SD_MAP) st = map(&l, n);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
      if (sd_edit_is(n, rules[i].op)) {
        st = rules[i].fn(&l, n);
        break;
      }
    if (st) return sd_node_error(n, st);
  }
  return NULL;
}
