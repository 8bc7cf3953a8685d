// States that are inputs and outputs of the model: initial and last states of recurrent layers, keys and
// values of earlier steps. Where their sizes may change, inputs have labels of no layer, which meet those of
// the layers that read them.
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

enum { MOST_PLACES = 1 << 20 }; // labels of one input

// ---- which they are ----

static bool moves(const sd_node *n) {
  static const char *const also[] = {"Identity", "Split", NULL};
  return sd_prune_moves(n->op->name, also) || (n->n_in == 1 && strcmp(n->op->name, "Concat") == 0);
}

const sd_value *sd_strand_source(const sd_value *v) {
  for (int depth = 0; v && v->def && depth < SD_MAX_DEPTH; depth++) v = moves(v->def) ? v->def->in[0] : NULL;
  return v && !v->data && !v->def && sd_value_is_input(v) && sd_dtype_is_float(v->dtype) ? v : NULL;
}

// Moved, joined with others or written into, it is an output of the model.
static bool comes_out(const sd_value *v, int depth) {
  if (sd_value_is_output(v)) return true;
  for (uint32_t i = 0; i < v->uses.len && depth < SD_MAX_DEPTH; i++) {
    const sd_node *n = v->uses.at[i].node;
    bool into = sd_strand_writes(n) && v->uses.at[i].operand == 0;
    if (!moves(n) && !into && strcmp(n->op->name, "Concat") != 0) continue;
    for (uint32_t k = 0; k < n->n_out; k++)
      if (n->out[k] && comes_out(n->out[k], depth + 1)) return true;
  }
  return false;
}

static bool inside(const sd_following *g, const sd_value *v) { // of the main graph alone
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (v->uses.at[i].node->graph != g->m->main) return false;
  return !sd_value_is_output(v) && v->rank > 0 && !sd_proto_weight(g->p, v->name);
}

// Every axis whose size is known has labels, but for the bits `whole` and those that would be too many.
static void label(sd_following *g, const sd_value *v, unsigned whole) {
  sd_strand f = {.n = 1};
  if (!v || sd_strand_of(g, v) || !inside(g, v)) return;
  g->c->outside |= !g->resize;
  for (int i = 0; i < v->rank; i++) {
    int64_t d = sd_strand_dim(g, v, i);
    if (d < 2 || whole >> i & 1) continue;
    if (f.k == SD_PIECES || d > MOST_PLACES / f.n) continue;
    f.of[f.k++] = (sd_strand_piece){i, (uint32_t)d, sd_dim_const(g->m->dims, 1)}, f.n *= (uint32_t)d;
  }
  if (!g->resize || f.k == 0) return;
  f.at = sd_strand_free(g, f.n);
  for (uint32_t i = 0; i < f.n; i++) g->c->labels.at[f.at[i]].state = true;
  sd_vec_push(g->a, &g->outside, ((sd_outside){v, sd_strand_put(g, v, &f), SD_IS_INPUT}));
}

// Keys or values of before, and those of now behind them, which become an output.
static void label_cache(sd_following *g, const sd_node *n) {
  const sd_value *from = NULL;
  bool more = false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *x = sd_strand_source(n->in[i]);
    if (x) from = from ? from : x;
    else
      more = true;
  }
  if (from && more && comes_out(n->out[0], 0)) label(g, from, 0);
}

// A cache of a fixed length, of which nodes write parts. Its steps stay: they need no labels, of which there
// would be many.
static void label_written(sd_following *g, const sd_node *n) {
  const sd_value *v = n->in[0];
  if (!n->out[0] || !comes_out(n->out[0], 0)) return;
  unsigned whole = sd_strand_whole(g, n);
  for (; v->def && strcmp(v->def->op->name, "Transpose") == 0; v = v->def->in[0]) {
    unsigned was = whole;
    whole = 0;
    for (int i = 0; i < v->rank; i++)
      if (was >> i & 1) whole |= 1U << sd_strand_transposed(v->def, i);
  }
  label(g, sd_strand_source(v), v->def ? 0 : whole);
}

void sd_strand_inputs(sd_following *g) {
  static const struct {
    const char *op;
    uint32_t from, to; // operands that are states
  } given[] = {{"LSTM", 5, 6},
               {"GRU", 5, 5},
               {"RNN", 5, 5},
               {"Attention", 4, 5},
               {"com.microsoft.GroupQueryAttention", 3, 4}};
  for (const sd_node *n = g->m->main->first; n; n = n->next) {
    if (strcmp(n->op->name, "Concat") == 0) label_cache(g, n);
    if (sd_strand_writes(n)) label_written(g, n);
    for (size_t k = 0; k < sizeof given / sizeof *given; k++)
      for (uint32_t i = given[k].from;
           strcmp(n->op->name, given[k].op) == 0 && i <= given[k].to && i < n->n_in; i++)
        label(g, sd_strand_source(n->in[i]), 0);
  }
}

bool sd_strand_is_state(const sd_following *g, const sd_strand *f) {
  for (uint32_t i = 0; i < f->n; i++)
    if (!g->c->labels.at[sd_prune_root(g->c, f->at[i])].state) return false;
  return true;
}

bool sd_strand_output(sd_following *g, const sd_value *v) {
  const sd_strand *f = sd_strand_of(g, v);
  for (uint32_t k = 0; k < v->uses.len; k++)
    if (v->uses.at[k].node->graph != g->m->main) return false;
  if (!f || !sd_strand_is_state(g, f)) return false;
  g->c->outside |= !g->resize;
  if (g->resize) sd_vec_push(g->a, &g->outside, ((sd_outside){v, f, SD_IS_OUTPUT}));
  return g->resize;
}

// ---- of several layers ----

// The piece that is axis `axis`, element by element; -1: none is, or there are no others.
static int piece_of(const sd_following *g, const sd_strand *f, const sd_value *v, int axis) {
  unsigned on = sd_strand_on(f, axis, axis);
  for (int j = 0; j < f->k && f->k > 1; j++)
    if (on == 1U << j && sd_dim_is(g->m->dims, f->of[j].inner, 1) && sd_strand_dim(g, v, axis) == f->of[j].n)
      return j;
  return -1;
}

// f with `count` places of piece j, the first of which is places[0]. One place is no piece.
static sd_strand *places_of(sd_following *g, const sd_strand *f, int j, const int64_t *places,
                            uint32_t count) {
  sd_strand *y = sd_arena_dup(g->a, f, sizeof *f);
  uint32_t inner = 1, all = f->of[j].n, to = 0;
  for (int i = f->k - 1; i > j; i--) inner *= f->of[i].n;
  y->n = f->n / all * count, y->at = SD_NEW_ARRAY(g->a, uint32_t, y->n + 1);
  for (uint32_t o = 0; o < f->n / all / inner; o++)
    for (uint32_t p = 0; p < count; p++)
      for (uint32_t i = 0; i < inner; i++) y->at[to++] = f->at[(o * all + (uint32_t)places[p]) * inner + i];
  y->of[j].n = count;
  if (count == 1) memmove(&y->of[j], &y->of[j + 1], (size_t)(--y->k - j) * sizeof *y->of);
  return y;
}

static int64_t *row_of(sd_following *g, int64_t from, uint32_t count) {
  int64_t *at = SD_NEW_ARRAY(g->a, int64_t, count + 1);
  for (uint32_t i = 0; i < count; i++) at[i] = from + i;
  return at;
}

static bool one_number(const sd_value *v, int64_t *out) {
  if (!v || !v->data || v->data->count != 1 || (v->data->dtype != SD_I64 && v->data->dtype != SD_I32))
    return false;
  *out = sd_dtype_get_i64(v->data->dtype, v->data->data, 0);
  return true;
}

// The operand, computed or not, becomes how many of the labels are left.
static bool cut_place(sd_following *g, const sd_node *n, uint32_t i, const uint32_t *labels, uint32_t count) {
  const Onnx__NodeProto *node = sd_strand_node(g, n);
  if (!node || i >= node->n_input || n->in[i]->data->dtype != SD_I64 || n->in[i]->rank != 1) return false;
  sd_vec_push(g->a, &g->c->cuts,
              ((sd_prune_cut){.kind = SD_CUT_PLACE,
                              .node = (uint32_t)n->onnx_index,
                              .operand = i,
                              .labels = labels,
                              .n = count,
                              .parts = 1}));
  return true;
}

// Along the only axis that has labels: where the part begins and ends changes.
static bool slice_axis(sd_following *g, const sd_node *n, const sd_strand *x, int axis, uint32_t from,
                       uint32_t to) {
  uint32_t *labels = sd_strand_along(g, x, n->in[0], axis), d = (uint32_t)sd_strand_dim(g, n->in[0], axis);
  if (!labels || (from && !cut_place(g, n, 1, labels, from)) || (to < d && !cut_place(g, n, 2, labels, to)))
    return false;
  sd_strand_put_axis(g, n->out[0], axis, to - from, labels + from);
  return true;
}

bool sd_strand_slice(sd_following *g, const sd_node *n) {
  const sd_strand *x = sd_strand_of(g, n->in[0]);
  int64_t from = 0, to = 0, axis = 0, step = 1;
  if (!x || n->n_in < 3 || !one_number(n->in[1], &from) ||
      !one_number(n->in[2], &to) || (n->n_in > 3 && n->in[3] && !one_number(n->in[3], &axis)) ||
      (n->n_in > 4 && n->in[4] && !one_number(n->in[4], &step)))
    return false;
  axis += axis < 0 ? n->in[0]->rank : 0;
  int64_t d = axis >= 0 && axis < n->in[0]->rank ? sd_strand_dim(g, n->in[0], (int)axis) : -1;
  if (d < 1 || step != 1 || !sd_strand_on(x, (int)axis, (int)axis)) return false;
  from = from < -d ? 0 : from < 0 ? from + d : from, to = to < 0 ? to + d : to > d ? d : to;
  if (from >= to) return false;
  int j = piece_of(g, x, n->in[0], (int)axis);
  if (j >= 0 && !sd_strand_is_state(g, x)) return false;
  if (j < 0) return slice_axis(g, n, x, (int)axis, (uint32_t)from, (uint32_t)to);
  sd_strand_put(g, n->out[0],
                places_of(g, x, j, row_of(g, from, (uint32_t)(to - from)), (uint32_t)(to - from)));
  return true;
}

bool sd_strand_pick(sd_following *g, const sd_node *n, int axis) {
  const sd_strand *x = sd_strand_of(g, n->in[0]);
  const sd_const *c = n->in[1]->data;
  int j = c && n->in[1]->rank < 2 && sd_strand_is_state(g, x) ? piece_of(g, x, n->in[0], axis) : -1;
  if (j < 0 || c->count < 1 || c->count > x->of[j].n) return false;
  int64_t *at = row_of(g, 0, (uint32_t)c->count);
  for (uint32_t i = 0; i < c->count; i++) {
    at[i] = sd_dtype_get_i64(c->dtype, c->data, i), at[i] += at[i] < 0 ? x->of[j].n : 0;
    if (at[i] < 0 || at[i] >= x->of[j].n) return false;
  }
  sd_strand *y = places_of(g, x, j, at, (uint32_t)c->count);
  for (int i = 0; i < y->k; i++) y->of[i].axis += y->of[i].axis > axis ? n->in[1]->rank - 1 : 0;
  sd_strand_put(g, n->out[0], y);
  return true;
}

bool sd_strand_parts(sd_following *g, const sd_node *n, int axis) {
  const sd_strand *x = sd_strand_of(g, n->in[0]);
  int j = sd_strand_is_state(g, x) ? piece_of(g, x, n->in[0], axis) : -1;
  int64_t next = 0;
  for (uint32_t i = 0; j >= 0 && i < n->n_out; i++) {
    int64_t d = n->out[i] ? sd_strand_dim(g, n->out[i], axis) : -1;
    if (d < 1 || d > x->of[j].n - next) return false;
    sd_strand_put(g, n->out[i], places_of(g, x, j, row_of(g, next, (uint32_t)d), (uint32_t)d));
    next += d;
  }
  return j >= 0;
}

// The pieces of f but that on `axis`, which is the first one or not there; its places, 0: it cannot be
// joined.
static uint32_t others(const sd_following *g, const sd_value *v, int axis, sd_strand *f) {
  const sd_strand *x = sd_strand_of(g, v);
  int64_t d = sd_strand_dim(g, v, axis);
  if (!x || d < 1 || !sd_strand_is_state(g, x) || sd_strand_source(v))
    return 0; // what is put behind an input of before is of the same layer
  *f = *x;
  if (!sd_strand_on(x, axis, axis)) return d == 1 ? 1 : 0;
  if (piece_of(g, x, v, axis) != 0) return 0;
  memmove(f->of, f->of + 1, (size_t)--f->k * sizeof *f->of);
  return (uint32_t)d;
}

bool sd_strand_join(sd_following *g, const sd_node *n, int axis) {
  sd_strand first = {0}, f = {0}, y = {0};
  uint32_t places = 0, rest = 1, to = 0;
  for (uint32_t i = 0; i < n->n_in; i++) {
    uint32_t d = others(g, n->in[i], axis, i ? &f : &first);
    if (d == 0 || (i && !sd_strand_alike(&f, &first, 0))) return false;
    places += d;
  }
  for (int j = 0; j < first.k; j++) rest *= first.of[j].n;
  if (places < 2 || first.k == 0 || first.k == SD_PIECES) return false;
  y.k = first.k + 1, y.n = places * rest, y.at = SD_NEW_ARRAY(g->a, uint32_t, y.n);
  y.of[0] = (sd_strand_piece){axis, places, sd_dim_const(g->m->dims, 1)};
  memcpy(y.of + 1, first.of, (size_t)first.k * sizeof *first.of);
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_strand *x = sd_strand_of(g, n->in[i]);
    memcpy(y.at + to, x->at, x->n * sizeof *x->at), to += x->n;
  }
  sd_vec_push(g->a, &g->outside, ((sd_outside){n->out[0], sd_strand_put(g, n->out[0], &y), SD_IS_JOINED}));
  return true;
}

// ---- what they become ----

static bool describe(const sd_following *g, const sd_outside *o, int m, sd_prune_io *io) {
  const sd_strand *f = o->f;
  int64_t inner = 0;
  *io = (sd_prune_io){.name = sd_arena_strdup(g->a, o->v->name),
                      .input = o->kind == SD_IS_INPUT,
                      .axis = f->of[m].axis,
                      .dim = sd_strand_dim(g, o->v, f->of[m].axis),
                      .parts = 1,
                      .each = f->of[m].n};
  if (io->dim >= 0 && !sd_dim_is_const(g->m->dims, f->of[m].inner, &inner)) return false;
  for (int j = 0; j < m; j++) {
    io->of[io->n_of] = f->of[j].axis, io->sizes[io->n_of++] = f->of[j].n, io->parts *= f->of[j].n;
    if (io->input && piece_of(g, f, o->v, f->of[j].axis) != j) return false;
  }
  uint32_t step = f->n / io->parts / io->each, *at = SD_NEW_ARRAY(g->a, uint32_t, io->parts * io->each);
  for (uint32_t i = 0; i < io->parts * io->each; i++) at[i] = f->at[i * step];
  io->labels = at;
  return true;
}

void sd_strand_resize_outside(sd_following *g) {
  for (uint32_t k = 0; k < g->outside.len; k++) {
    const sd_outside *o = &g->outside.at[k];
    int m = sd_strand_losing(g, o->f);
    sd_prune_io io;
    if (o->kind == SD_IS_JOINED) continue;
    if (m >= 0 && describe(g, o, m, &io)) sd_vec_push(g->a, &g->c->io, io);
    else
      sd_strand_fix(g, o->f);
  }
}
