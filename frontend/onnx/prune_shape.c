// Labels through operators that change shapes, and the operands of theirs that say which.
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

enum { MOST_REPEATED = 4096 }; // labels of what is repeated, and of columns of a table

// ---- reshaping ----

// Sizes one behind the other, in the order of the elements: a value is their product. `piece`: labelled, -1:
// not.
typedef struct factor {
  sd_dim size;
  int piece;
} factor;

typedef struct walking {
  sd_following *g;
  const sd_strand *x;
  sd_strand y;
  factor at[2 * SD_PIECES + SD_MAX_RANK]; // what is still to be taken
  int n, next;
} walking;

// a / b; SD_DIM_NONE: it is not known to be whole.
static sd_dim over(const sd_following *g, sd_dim a, sd_dim b) {
  if (sd_dim_is(g->m->dims, b, 0)) return SD_DIM_NONE;
  sd_dim q = sd_dim_floordiv(g->m->dims, a, b);
  return q != SD_DIM_NONE && !sd_dim_is(g->m->dims, q, 0) && sd_dim_mul(g->m->dims, q, b) == a ? q
                                                                                               : SD_DIM_NONE;
}

static bool give(walking *w, sd_dim size, int piece) {
  if (size == SD_DIM_NONE || w->n == sizeof w->at / sizeof *w->at) return false;
  if (!sd_dim_is(w->g->m->dims, size, 1) || piece >= 0) w->at[w->n++] = (factor){size, piece};
  return true;
}

// The factors of an axis of the operand.
static bool take_apart(walking *w, const sd_value *v, int axis) {
  sd_dimtab *t = w->g->m->dims;
  sd_dim rest = v->dims[axis];
  for (int j = 0; j < w->x->k; j++) {
    const sd_strand_piece *p = &w->x->of[j];
    if (p->axis != axis) continue;
    if (!give(w, over(w->g, rest, sd_dim_mul(t, sd_dim_const(t, p->n), p->inner)), -1) ||
        !give(w, sd_dim_const(t, p->n), j))
      return false;
    rest = p->inner;
  }
  return give(w, rest, -1);
}

// The next factors, or a part of the last one, make an axis of the result.
static bool make_axis(walking *w, const sd_value *y, int axis) {
  sd_dimtab *t = w->g->m->dims;
  sd_dim rest = y->dims[axis];
  while (!sd_dim_is(t, rest, 1)) {
    if (w->next == w->n) return false;
    factor *f = &w->at[w->next];
    sd_dim less = over(w->g, rest, f->size),
           part = less == SD_DIM_NONE ? over(w->g, f->size, rest) : SD_DIM_NONE;
    sd_dim taken = less == SD_DIM_NONE ? rest : f->size;
    int64_t n = 0;
    if (less == SD_DIM_NONE && part == SD_DIM_NONE) return false;
    if (f->piece >= 0 && (w->y.k == SD_PIECES || !sd_dim_is_const(t, taken, &n))) return false;
    if (f->piece >= 0)
      w->y.of[w->y.k++] =
          (sd_strand_piece){axis, (uint32_t)n, less == SD_DIM_NONE ? sd_dim_const(t, 1) : less};
    if (less == SD_DIM_NONE) f->size = part, rest = sd_dim_const(t, 1);
    else
      rest = less, w->next++;
  }
  return true;
}

// What is between the axes that stay: from `v` of the operand and `y` of the result on, without `behind` at the end. The first one of
// the result has `outer` times what the operand has there.
typedef struct between {
  int v, y, behind;
  sd_dim outer;
} between;

// Pieces in front of it, and those behind, stay; the others follow what they are made of.
static bool relinear(sd_following *g, const sd_node *n, between b, sd_strand *out) {
  const sd_value *v = n->in[0], *y = n->out[0];
  walking w = {.g = g, .x = sd_strand_of(g, v)};
  for (int j = 0; j < w.x->k && w.x->of[j].axis < b.v; j++) w.y.of[w.y.k++] = w.x->of[j];
  if (sd_strand_on(w.x, b.v, v->rank - 1 - b.behind)) {
    if (!give(&w, b.outer, -1)) return false;
    for (int i = b.v; i < v->rank - b.behind; i++)
      if (!take_apart(&w, v, i)) return false;
    for (int i = b.y; i < y->rank - b.behind; i++)
      if (!make_axis(&w, y, i)) return false;
    for (; w.next < w.n; w.next++) // places of pieces of one
      if (!sd_dim_is(g->m->dims, w.at[w.next].size, 1)) return false;
  }
  for (int j = 0; j < w.x->k; j++) {
    if (w.x->of[j].axis < v->rank - b.behind) continue;
    if (w.y.k == SD_PIECES) return false;
    w.y.of[w.y.k] = w.x->of[j], w.y.of[w.y.k++].axis += y->rank - v->rank;
  }
  w.y.n = 1, w.y.at = w.x->at;
  for (int j = 0; j < w.y.k; j++) w.y.n *= w.y.of[j].n;
  *out = w.y;
  return w.y.k > 0 && w.y.n == w.x->n;
}

// Axes that are the same on both sides.
static between same_ends(const sd_following *g, const sd_value *v, const sd_value *y) {
  int least = v->rank < y->rank ? v->rank : y->rank, before = 0, behind = 0;
  while (before < least && v->dims[before] == y->dims[before] && v->dims[before] != SD_DIM_NONE) before++;
  while (behind < least - before && v->dims[v->rank - 1 - behind] == y->dims[y->rank - 1 - behind] &&
         v->dims[v->rank - 1 - behind] != SD_DIM_NONE)
    behind++;
  return (between){before, before, behind, sd_dim_const(g->m->dims, 1)};
}

// Where sizes in front are not known to be the same, as of two batches that are both open: what is from the first piece on is at the end
// of the result in any case. False: it does not divide its sizes.
static bool same_tail(sd_following *g, const sd_strand *x, const sd_value *v, const sd_value *y, between *b) {
  sd_dimtab *t = g->m->dims;
  sd_dim all = sd_dim_const(t, 1), made = all, outer;
  for (int i = x->of[0].axis; i < v->rank; i++) {
    if (v->dims[i] == SD_DIM_NONE) return false;
    all = sd_dim_mul(t, all, v->dims[i]);
  }
  for (int i = y->rank - 1; i >= 0 && y->dims[i] != SD_DIM_NONE; i--) {
    made = sd_dim_mul(t, made, y->dims[i]), outer = over(g, made, all);
    if (outer != SD_DIM_NONE) return *b = (between){x->of[0].axis, i, 0, outer}, true;
  }
  return false;
}

void sd_strand_reshape(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]), y;
  between tail;
  if (!x) return;
  if (!relinear(g, n, same_ends(g, n->in[0], n->out[0]), &y) &&
      !(same_tail(g, x, n->in[0], n->out[0], &tail) && relinear(g, n, tail, &y))) {
    sd_strand_fix(g, x);
    return;
  }
  sd_vec_push(g->a, &g->sized, ((sd_sized){n, sd_strand_put(g, n->out[0], &y), -1}));
}

void sd_strand_squeeze(sd_following *g, const sd_node *n) { // only axes of 1 come and go
  sd_strand *x = sd_strand_of(g, n->in[0]), f;
  const sd_value *v = n->in[0], *y = n->out[0];
  if (!x) return;
  f = *x;
  for (int j = 0; j < f.k; j++) {
    int at = 0, i = 0;
    for (int from = 0; from < x->of[j].axis; from++) at += sd_strand_dim(g, v, from) != 1;
    for (; i < y->rank; i++)
      if (sd_strand_dim(g, y, i) != 1 && at-- == 0) break;
    if (i == y->rank || y->dims[i] != v->dims[x->of[j].axis]) {
      sd_strand_fix(g, x);
      return;
    }
    f.of[j].axis = i;
  }
  sd_strand_put(g, y, &f);
}

// One head that is repeated for each of the queries' has none of its own, which could go.
static bool of_one_head(const sd_following *g, const sd_strand *x, const sd_value *v, const sd_value *out) {
  int shift = out->rank - v->rank;
  if (v->rank < 4 || sd_strand_on(x, 0, v->rank - 3)) return false;
  for (int i = 1; i < out->rank - 2; i++)
    if (sd_strand_dim(g, out, i) > 1 && (i < shift || sd_strand_dim(g, v, i - shift) == 1)) return true;
  return false;
}

// Elements that are repeated, as a mask is for each head, have labels of no layer there: they go with what
// they meet.
void sd_strand_expand(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]), y = {.n = 1};
  const sd_value *v = n->in[0], *out = n->out[0];
  int shift = out->rank - v->rank;
  sd_strand_fix(g, sd_strand_of(g, n->in[1]));
  if (x && of_one_head(g, x, v, out)) sd_strand_fix(g, x), x = NULL;
  if (x) {
    y = *x;
    for (int j = 0; j < y.k; j++) {
      y.of[j].axis += shift;
      if (out->dims[y.of[j].axis] == v->dims[x->of[j].axis]) continue;
      sd_strand_fix(g, x);
      return;
    }
  }
  for (int i = 0; !x && i < out->rank; i++) {
    int64_t d = sd_strand_dim(g, out, i);
    if (d < 2 || d > MOST_REPEATED / y.n || y.k == SD_PIECES ||
        (i >= shift && sd_strand_dim(g, v, i - shift) != 1))
      continue;
    y.of[y.k++] = (sd_strand_piece){i, (uint32_t)d, sd_dim_const(g->m->dims, 1)}, y.n *= (uint32_t)d;
  }
  if (!x && y.k) y.at = sd_strand_free(g, y.n);
  if (y.k) sd_vec_push(g->a, &g->sized, ((sd_sized){n, sd_strand_put(g, out, &y), 1}));
}

// ---- parts ----

// Sizes that the file does not give, as parts are equal.
static bool cut_part(sd_following *g, const sd_node *n, int axis, int part, const uint32_t *labels) {
  int64_t *sizes = SD_NEW_ARRAY(g->a, int64_t, n->n_out + 1);
  bool good = sd_strand_node(g, n) != NULL;
  for (uint32_t i = 0; i < n->n_out && good; i++)
    sizes[i] = n->out[i] ? sd_strand_dim(g, n->out[i], axis) : -1, good = sizes[i] > 0;
  if (good)
    sd_vec_push(g->a, &g->c->cuts,
                ((sd_prune_cut){.kind = SD_CUT_PART,
                                .node = (uint32_t)n->onnx_index,
                                .operand = 1,
                                .axis = part,
                                .labels = labels,
                                .n = (uint32_t)sizes[part],
                                .rank = (int)n->n_out,
                                .parts = 1,
                                .sizes = sizes}));
  return good;
}

// Pieces keep their labels, where the sizes are a constant or equal; an axis that only some of the pieces are on stays
// whole.
void sd_strand_split(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]);
  int axis = (int)sd_node_int(n, "axis", 0);
  uint32_t next = 0;
  if (!x) return;
  if (axis < 0) axis += n->in[0]->rank;
  uint32_t *labels = sd_strand_along(g, x, n->in[0], axis);
  if (!labels && sd_strand_parts(g, n, axis)) return;
  if (!labels) {
    x = sd_strand_keep(g, x, (1U << x->k) - 1 - sd_strand_on(x, axis, axis));
    for (uint32_t i = 0; x && i < n->n_out; i++)
      if (n->out[i]) sd_strand_put(g, n->out[i], x);
    return;
  }
  bool sizes = n->n_in > 1 && n->in[1], good = sizes || g->p->opset >= 13;
  int64_t all = sd_strand_dim(g, n->in[0], axis);
  for (uint32_t i = 0; i < n->n_out && good; i++) {
    int64_t d = n->out[i] ? sd_strand_dim(g, n->out[i], axis) : -1;
    good = d > 0 && d <= all - next;
    if (good) sd_strand_put_axis(g, n->out[i], axis, (uint32_t)d, labels + next);
    good = good && (sizes ? sd_strand_cut(g, n, 1, (int)i, labels + next, (uint32_t)d, SD_CUT_SIZE)
                          : cut_part(g, n, axis, (int)i, labels + next));
    next += good ? (uint32_t)d : 0;
  }
  if (!good) sd_strand_fix(g, x);
}

// Columns of a constant table have labels of no layer: they go with what they meet, as position biases do with heads.
static void table(sd_following *g, const sd_node *n) {
  const sd_value *v = n->in[0], *y = n->out[0];
  int64_t d = v->data && v->rank == 2 && sd_dtype_is_float(v->dtype) ? sd_strand_dim(g, v, 1) : 0;
  if (d < 2 || d > MOST_REPEATED || sd_node_int(n, "axis", 0) != 0) return;
  uint32_t *at = sd_strand_free(g, (uint32_t)d);
  if (sd_strand_cut(g, n, 0, 1, at, (uint32_t)d, SD_CUT_OTHER))
    sd_strand_put_axis(g, y, y->rank - 1, (uint32_t)d, at);
}

// An index along an axis: that axis stays whole, the others go on.
void sd_strand_gather(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[0]), f;
  int axis = (int)sd_node_int(n, "axis", 0);
  sd_strand_fix(g, sd_strand_of(g, n->in[1]));
  if (!x) {
    table(g, n);
    return;
  }
  if (axis < 0) axis += n->in[0]->rank;
  if (sd_strand_pick(g, n, axis)) return;
  x = sd_strand_keep(g, x, (1U << x->k) - 1 - sd_strand_on(x, axis, axis));
  if (!x) return;
  f = *x;
  for (int j = 0; j < f.k; j++)
    if (f.of[j].axis > axis) f.of[j].axis += n->in[1]->rank - 1;
  sd_strand_put(g, n->out[0], &f);
}

// ---- sizes ----

// Whether the labels depend on piece m alone.
static bool depends_on(const sd_following *g, const sd_strand *f, int m) {
  uint32_t step = 1;
  for (int j = f->k - 1; j > m; j--) step *= f->of[j].n;
  for (uint32_t i = 0; i < f->n; i++)
    if (sd_prune_root(g->c, f->at[i]) != sd_prune_root(g->c, f->at[i / step % f->of[m].n * step]))
      return false;
  return true;
}

// The piece that loses places, so that what is left is a box. Where nothing has decided yet it is the one
// with most of them.
static int loser(sd_following *g, const sd_strand *f) {
  int most = 0;
  for (int m = 0; m < f->k; m++)
    if (depends_on(g, f, m)) return m;
  for (int m = 1; m < f->k; m++)
    if (f->of[m].n > f->of[most].n) most = m;
  sd_strand_keep(g, f, 1U << most);
  return most;
}

static bool never_goes(const sd_following *g, const sd_strand *f) {
  bool all = true;
  for (uint32_t i = 0; i < f->n; i++) all &= g->c->labels.at[sd_prune_root(g->c, f->at[i])].fixed;
  return all;
}

static bool stays(const sd_following *g, const sd_value *v, int64_t i, int depth);

static int64_t elements(const sd_following *g, const sd_value *v) {
  return !v ? -1 : v->rank == 0 ? 1 : v->rank == 1 ? sd_strand_dim(g, v, 0) : -1;
}

static bool stays_joined(const sd_following *g, const sd_node *d, int64_t i, int depth) {
  for (uint32_t k = 0; k < d->n_in; k++) {
    int64_t n = elements(g, d->in[k]);
    if (n < 0 || i < n) return n >= 0 && stays(g, d->in[k], i, depth);
    i -= n;
  }
  return false;
}

// Of Gather, and of Slice with a step of 1.
static bool stays_picked(const sd_following *g, const sd_node *d, bool slice, int64_t i, int depth) {
  const sd_const *c = d->n_in > 1 && d->in[1] ? d->in[1]->data : NULL;
  int64_t at = 0, n = elements(g, d->in[0]);
  if (!c || c->dtype != SD_I64 || (int64_t)c->count <= (slice ? 0 : i) || (slice && d->n_in > 4))
    return false;
  memcpy(&at, (const int64_t *)c->data + (slice ? 0 : i), sizeof at);
  at = (at < 0 ? at + n : at) + (slice ? i : 0);
  return n > 0 && stays(g, d->in[0], at < 0 ? 0 : at, depth);
}

// Element i of a shape, as nodes compute it, is the same whatever goes: a size, or -1 for what is left.
static bool stays(const sd_following *g, const sd_value *v, int64_t i, int depth) {
  const sd_node *d = v ? v->def : NULL;
  int64_t at = 0;
  if (!v || depth > SD_MAX_DEPTH || i < 0) return false;
  if (v->data) {
    if (v->data->dtype != SD_I64 || i >= (int64_t)v->data->count) return false;
    memcpy(&at, (const int64_t *)v->data->data + i, sizeof at);
    return at > 0 || at == -1;
  }
  if (!d) return true;
  if (strcmp(d->op->name, "Shape") == 0) {
    const sd_strand *f = sd_strand_of(g, d->in[0]);
    int64_t start = sd_node_int(d, "start", 0);
    int axis = (int)(i + (start < 0 ? start + d->in[0]->rank : start));
    return !f || sd_strand_dim(g, d->in[0], axis) >= 0 || !sd_strand_on(f, axis, axis); // see asked()
  }
  if (strcmp(d->op->name, "Concat") == 0) return stays_joined(g, d, i, depth + 1);
  if (strcmp(d->op->name, "Gather") == 0) return stays_picked(g, d, false, i, depth + 1);
  if (strcmp(d->op->name, "Slice") == 0) return stays_picked(g, d, true, i, depth + 1);
  if (strcmp(d->op->name, "ScatterElements") == 0) // either of them
    return elements(g, d->in[2]) == 1 && stays(g, d->in[0], i, depth + 1) && stays(g, d->in[2], 0, depth + 1);
  bool map = d->op->kind == SD_MAP,
       all = map || sd_prune_moves(d->op->name, (const char *const[]){NULL}); // but for Gather and Slice, all keep the order
  for (uint32_t k = 0; k < (map ? d->n_in : 1) && all; k++) {
    int64_t n = elements(g, d->in[k]);
    all = n > 0 && stays(g, d->in[k], n == 1 ? 0 : i, depth + 1);
  }
  return all;
}

// Known not to be -1.
static bool is_size(const sd_following *g, const sd_value *shape, int i) {
  return shape->elems && (uint32_t)i < shape->n_elems && !sd_dim_is(g->m->dims, shape->elems[i], -1);
}

// What a shape that nodes compute becomes where `axis` of the result loses labels: known sizes are constants,
// one that is not is -1, and others are those that are computed, if what is lost does not change them. NULL:
// it cannot be.
static int64_t *computed(sd_following *g, const sd_sized *s, int axis) {
  const sd_node *n = s->n;
  const sd_value *y = n->out[0];
  const sd_value *shape = n->in[1];
  int64_t *sizes = SD_NEW_ARRAY(g->a, int64_t, y->rank + 1);
  bool rest = sd_strand_dim(g, y, axis) < 0; // which is -1, or what is computed, less the share that goes
  int open = s->rest == 1;                   // -1 is no size then
  if ((rest && open) || (shape->rank == 1 && sd_strand_dim(g, shape, 0) != y->rank)) return NULL;
  for (int i = 0; i < y->rank; i++) {
    sizes[i] = sd_strand_dim(g, y, i), open += sizes[i] < 0;
    if (sizes[i] == 0) return NULL;
  }
  for (int i = 0; i < y->rank && open > 1; i++) {
    if (sizes[i] >= 0 || i == axis) continue;
    if (g->p->opset < 9 || !stays(g, shape, i, 0)) return NULL;
    if (rest && !is_size(g, shape, i)) {
      if (!is_size(g, shape, axis) || !stays(g, shape, axis, 0)) return NULL;
      sizes[axis] = SD_SIZE_SCALED;
    }
    sizes[i] = SD_SIZE_AS_COMPUTED;
  }
  return sizes;
}

// The shape operand, if there is one, says what is left along the axis of piece m.
static bool resize(sd_following *g, const sd_sized *s, int m) {
  const sd_node *n = s->n;
  const sd_value *shape = n->n_in > 1 ? n->in[1] : NULL, *y = n->out[0];
  sd_strand *f = sd_strand_keep(g, s->f, 1U << m);
  int axis = s->f->of[m].axis;
  uint32_t *labels = f ? sd_strand_along(g, f, y, axis) : NULL;
  int64_t d = sd_strand_dim(g, y, axis), v = 0;
  if (!f) return false;
  if (!shape) return true; // Flatten
  const Onnx__NodeProto *node = sd_strand_node(g, n);
  if (!node || node->n_input < 2) return false;
  if (shape->data && sd_proto_weight(g->p, node->input[1])) {
    int at = axis - y->rank + (int)shape->data->count; // of Expand it may have fewer
    if (shape->data->dtype != SD_I64 || at >= (int)shape->data->count) return false;
    if (at < 0) return true;
    memcpy(&v, (const int64_t *)shape->data->data + at, sizeof v);
    return v <= 1 || (d == v && sd_strand_cut(g, n, 1, at, labels, (uint32_t)d, SD_CUT_SIZE));
  }
  int64_t *sizes = computed(g, s, axis);
  if (!sizes || (d >= 0 && !labels)) return false;
  sd_vec_push(g->a, &g->c->cuts,
              ((sd_prune_cut){.kind = SD_CUT_SHAPE,
                              .node = (uint32_t)n->onnx_index,
                              .operand = 1,
                              .axis = axis,
                              .labels = labels ? labels : f->at,
                              .n = labels ? (uint32_t)d : f->n,
                              .rank = y->rank,
                              .sizes = sizes}));
  return true;
}

// Only elements of the others are read of what a node of the file says of a shape.
static bool reads_others(const sd_following *g, const Onnx__NodeProto *n, int64_t element, int64_t rank) {
  sd_const *c = NULL;
  const Onnx__TensorProto *t = n->n_input > 1 ? sd_proto_weight(g->p, n->input[1]) : NULL;
  bool gather = sd_proto_is(n, "", "Gather");
  if (!t || !gather || sd_proto_const(g->p, t, &c) || c->dtype != SD_I64) return false;
  for (uint64_t i = 0; i < c->count; i++) {
    int64_t at;
    memcpy(&at, (const int64_t *)c->data + i, sizeof at);
    if ((at < 0 ? at + rank : at) == element) return false;
  }
  return true;
}

// What the model asks of a shape stays what it was: constants that are made of it, such as the scale of
// attention, do not change.
static void asked(sd_following *g, uint32_t at) {
  const Onnx__NodeProto *n = g->p->nodes.at[at];
  const sd_value *v = n->n_input ? sd_names_get(&g->values, n->input[0]) : NULL;
  const sd_strand *f = v ? sd_strand_of(g, v) : NULL;
  int64_t start = sd_proto_get_int(n, "start", 0), end = sd_proto_get_int(n, "end", INT64_MAX);
  if (!f || never_goes(g, f)) return;
  start = start < 0 ? start + v->rank : start, end = end < 0 ? end + v->rank : end > v->rank ? v->rank : end;
  int64_t *sizes = SD_NEW_ARRAY(g->a, int64_t, v->rank + 1);
  for (int64_t i = start; i < end && start >= 0; i++)
    sizes[i - start] = sd_strand_dim(g, v, (int)i) < 0 ? SD_SIZE_AS_COMPUTED : sd_strand_dim(g, v, (int)i);
  for (int j = 0; j < f->k; j++) {
    int axis = f->of[j].axis;
    if (axis < start || axis >= end) continue;
    if (sd_strand_dim(g, v, axis) >= 0 && g->p->opset >= 9) {
      sd_vec_push(g->a, &g->c->cuts,
                  ((sd_prune_cut){.kind = SD_CUT_ASKED,
                                  .node = at,
                                  .axis = -1,
                                  .labels = f->at,
                                  .n = f->n,
                                  .rank = (int)(end - start),
                                  .sizes = sizes}));
      continue;
    }
    for (uint32_t i = 0; i < g->p->nodes.len; i++)
      for (size_t k = 0; k < g->p->nodes.at[i]->n_input; k++)
        if (strcmp(g->p->nodes.at[i]->input[k], n->output[0]) == 0 &&
            (k || !reads_others(g, g->p->nodes.at[i], axis - start, end - start)))
          sd_strand_fix(g, f);
  }
}

void sd_strand_sizes(sd_following *g) {
  for (uint32_t i = 0; i < g->sized.len; i++) loser(g, g->sized.at[i].f);
  sd_strand_pair_outside(g);
  for (uint32_t i = 0; i < g->c->labels.len; i++)
    if (g->c->labels.at[i].same == i && g->c->labels.at[i].unit == SD_NO_UNIT)
      g->c->labels.at[i].fixed = true;
  for (uint32_t i = 0; i < g->sized.len; i++) {
    const sd_strand *f = g->sized.at[i].f;
    int m = loser(g, f);
    uint32_t each = 1;
    for (int j = m + 1; j < f->k; j++) each *= f->of[j].n;
    bool never = never_goes(g, f);
    g->c->runs |= each > 1 || (never && f->k > 1); // which of the pieces would go nobody knows then
    if (never) continue;
    for (uint32_t k = 0; each > 1 && k < f->n; k++)
      g->c->labels.at[sd_prune_root(g->c, f->at[k])].head = true;
    if (!resize(g, &g->sized.at[i], m)) sd_strand_fix(g, f);
  }
  for (uint32_t i = 0; i < g->p->nodes.len; i++)
    if (sd_proto_is(g->p->nodes.at[i], "", "Shape") && g->p->nodes.at[i]->n_output) asked(g, i);
}
