// Labels of the outputs of layers, and values that have them.
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

uint32_t sd_prune_root(const sd_prune_channels *c, uint32_t l) {
  while (c->labels.at[l].same != l) l = c->labels.at[l].same;
  return l;
}

void sd_strand_unite(sd_following *g, uint32_t a, uint32_t b) {
  uint32_t was[2] = {a, b};
  a = sd_prune_root(g->c, a), b = sd_prune_root(g->c, b);
  if (b < a) { // the first stands for both
    uint32_t t = a;
    a = b, b = t;
  }
  sd_prune_label *x = &g->c->labels.at[a], *y = &g->c->labels.at[b];
  if (a != b) y->same = a, x->fixed |= y->fixed, x->state |= y->state, x->head |= y->head;
  if (x->unit == SD_NO_UNIT) x->unit = y->unit;
  for (int i = 0; i < 2; i++) g->c->labels.at[was[i]].same = a; // ways stay short
}

// The first node that needs all outputs of a layer says why nothing can go.
static void stop_at(sd_following *g, const sd_strand *f) {
  for (int runs = 0; runs < 2 && g->at; runs++) {
    const sd_prune_label *l = &g->c->labels.at[sd_prune_root(g->c, f->at[0])];
    if (g->c->stop[runs].node || l->fixed || l->unit == SD_NO_UNIT || (runs && f->k < 2)) continue;
    g->c->stop[runs].unit = l->unit,
    g->c->stop[runs].node = sd_arena_strdup(g->a, g->at->name ? g->at->name : "");
    g->c->stop[runs].op = sd_arena_strdup(g->a, g->at->op->name);
  }
}

void sd_strand_fix(sd_following *g, const sd_strand *f) {
  if (f) stop_at(g, f);
  for (uint32_t i = 0; f && i < f->n; i++) g->c->labels.at[sd_prune_root(g->c, f->at[i])].fixed = true;
}

sd_strand *sd_strand_of(const sd_following *g, const sd_value *v) { return v ? g->of[v->id] : NULL; }

int64_t sd_strand_dim(const sd_following *g, const sd_value *v, int axis) {
  int64_t d = -1;
  return sd_dim_is_const(g->m->dims, v->dims[axis], &d) ? d : -1;
}

uint32_t *sd_strand_free(sd_following *g, uint32_t n) {
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, n);
  for (uint32_t i = 0; i < n; i++) {
    at[i] = g->c->labels.len;
    sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.same = at[i], .unit = SD_NO_UNIT}));
  }
  return at;
}

// ---- pieces ----

// The place of label i among the pieces `keep` alone.
static uint32_t place_of(const sd_strand *f, uint32_t i, unsigned keep) {
  uint32_t place = 0, step = 1;
  for (int j = f->k - 1; j >= 0; j--) {
    if (keep >> j & 1) place += i % f->of[j].n * step, step *= f->of[j].n;
    i /= f->of[j].n;
  }
  return place;
}

// Piece j, and the one behind it, are one piece of as many places.
static bool adjoin(sd_following *g, const sd_strand *f, int j) {
  const sd_strand_piece *x = &f->of[j], *y = &f->of[j + 1];
  return x->axis == y->axis && x->inner == sd_dim_mul(g->m->dims, sd_dim_const(g->m->dims, y->n), y->inner);
}

// Pieces in the order of axes; those of an axis are in order already.
static void in_order(sd_following *g, sd_strand *f) {
  int order[SD_PIECES], steps[SD_PIECES];
  sd_strand was = *f;
  for (int j = 0; j < f->k; j++) {
    int i = j;
    for (; i > 0 && was.of[order[i - 1]].axis > was.of[j].axis; i--) order[i] = order[i - 1];
    order[i] = j;
  }
  for (int j = f->k - 1, step = 1; j >= 0; j--) steps[j] = step, step *= (int)was.of[j].n;
  f->at = SD_NEW_ARRAY(g->a, uint32_t, f->n);
  for (int j = 0; j < f->k; j++) f->of[j] = was.of[order[j]];
  for (uint32_t i = 0; i < f->n; i++) {
    uint32_t rest = i, from = 0;
    for (int j = f->k - 1; j >= 0; j--)
      from += rest % f->of[j].n * (uint32_t)steps[order[j]], rest /= f->of[j].n;
    f->at[i] = was.at[from];
  }
}

sd_strand *sd_strand_put(sd_following *g, const sd_value *v, const sd_strand *from) {
  sd_strand *f = sd_arena_dup(g->a, from, sizeof *from);
  bool turned = false;
  for (int j = 0; j + 1 < f->k; j++) turned |= f->of[j].axis > f->of[j + 1].axis;
  if (turned) in_order(g, f);
  for (int j = 0; j + 1 < f->k;) {
    if (!adjoin(g, f, j)) {
      j++;
      continue;
    }
    f->of[j].n *= f->of[j + 1].n, f->of[j].inner = f->of[j + 1].inner;
    memmove(&f->of[j + 1], &f->of[j + 2], (size_t)(f->k - j - 2) * sizeof *f->of);
    f->k--;
  }
  if (*v->name) sd_names_set(&g->values, v->name, (sd_value *)v);
  return g->of[v->id] = f;
}

sd_strand *sd_strand_put_axis(sd_following *g, const sd_value *v, int axis, uint32_t n, uint32_t *at) {
  return sd_strand_put(g, v, &(sd_strand){1, {{axis, n, sd_dim_const(g->m->dims, 1)}}, n, at});
}

sd_strand *sd_strand_keep(sd_following *g, const sd_strand *f, unsigned keep) {
  sd_strand *y = SD_NEW(g->a, sd_strand);
  y->n = 1;
  for (int j = 0; j < f->k; j++)
    if (keep >> j & 1) y->of[y->k++] = f->of[j], y->n *= f->of[j].n;
  if (y->k == f->k) return sd_arena_dup(g->a, f, sizeof *f);
  if (y->k == 0) {
    sd_strand_fix(g, f);
    return NULL;
  }
  y->at = SD_NEW_ARRAY(g->a, uint32_t, y->n);
  for (uint32_t i = f->n; i-- > 0;) y->at[place_of(f, i, keep)] = f->at[i]; // the first of each place
  for (uint32_t i = 0; i < f->n; i++) sd_strand_unite(g, y->at[place_of(f, i, keep)], f->at[i]);
  return y;
}

unsigned sd_strand_on(const sd_strand *f, int from, int to) {
  unsigned on = 0;
  for (int j = 0; j < f->k; j++)
    if (f->of[j].axis >= from && f->of[j].axis <= to) on |= 1U << j;
  return on;
}

bool sd_strand_alike(const sd_strand *a, const sd_strand *b, int shift) {
  if (a->k != b->k) return false;
  for (int j = 0; j < a->k; j++)
    if (a->of[j].axis != b->of[j].axis + shift || a->of[j].n != b->of[j].n ||
        a->of[j].inner != b->of[j].inner)
      return false;
  return true;
}

bool sd_strand_meet(sd_following *g, const sd_strand *a, const sd_strand *b, int shift) {
  if (!sd_strand_alike(a, b, shift)) return false;
  for (uint32_t i = 0; i < a->n; i++) sd_strand_unite(g, a->at[i], b->at[i]);
  return true;
}

void sd_strand_part(sd_following *g, sd_strand *f, int axis, int64_t at) {
  for (int j = 0; j < f->k && f->k < SD_PIECES; j++) {
    sd_strand_piece *p = &f->of[j];
    int64_t inner = 0;
    if (p->axis != axis || !sd_dim_is_const(g->m->dims, p->inner, &inner) || inner < 1 || at <= inner ||
        at % inner)
      continue;
    if (at / inner >= p->n || p->n % (at / inner)) continue;
    memmove(p + 1, p, (size_t)(f->k++ - j) * sizeof *p);
    p[1].n = (uint32_t)(at / inner), p[0].n /= p[1].n, p[0].inner = sd_dim_const(g->m->dims, at);
    return;
  }
}

// Where pieces of b begin and end, those of f are taken apart.
static sd_strand *parted(sd_following *g, const sd_strand *f, const sd_strand *b, int shift) {
  sd_strand *y = sd_arena_dup(g->a, f, sizeof *f);
  for (int j = 0; j < b->k; j++) {
    int64_t inner = 0;
    if (!sd_dim_is_const(g->m->dims, b->of[j].inner, &inner)) continue;
    sd_strand_part(g, y, b->of[j].axis + shift, inner);
    if (inner <= INT64_MAX / b->of[j].n) sd_strand_part(g, y, b->of[j].axis + shift, inner * b->of[j].n);
  }
  return y;
}

void sd_strand_align(sd_following *g, sd_strand **a, sd_strand **b, int shift) {
  sd_strand *x = parted(g, *a, *b, shift);
  *b = parted(g, *b, *a, -shift), *a = x;
}

unsigned sd_strand_common(const sd_strand *a, const sd_strand *b, int shift) {
  unsigned bits = 0;
  for (int j = 0; j < a->k; j++)
    for (int i = 0; i < b->k; i++)
      if (a->of[j].axis == b->of[i].axis + shift && a->of[j].n == b->of[i].n &&
          a->of[j].inner == b->of[i].inner)
        bits |= 1U << j;
  return bits;
}

sd_strand *sd_strand_agree(sd_following *g, sd_strand *a, sd_strand *b) {
  sd_strand_align(g, &a, &b, 0);
  unsigned of_a = sd_strand_common(a, b, 0), of_b = sd_strand_common(b, a, 0);
  a = sd_strand_keep(g, a, of_a), b = sd_strand_keep(g, b, of_b);
  return a && b && sd_strand_meet(g, a, b, 0) ? a : NULL;
}

uint32_t *sd_strand_along(sd_following *g, const sd_strand *f, const sd_value *v, int axis) {
  int64_t d = sd_strand_dim(g, v, axis), inner[SD_PIECES];
  if (d < 1 || d > UINT32_MAX || sd_strand_on(f, axis, axis) != (1U << f->k) - 1) return NULL;
  for (int j = 0; j < f->k; j++)
    if (!sd_dim_is_const(g->m->dims, f->of[j].inner, &inner[j]) || inner[j] < 1) return NULL;
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, d);
  for (int64_t e = 0; e < d; e++) {
    uint32_t place = 0;
    for (int j = 0; j < f->k; j++) place = place * f->of[j].n + (uint32_t)(e / inner[j] % f->of[j].n);
    at[e] = f->at[place];
  }
  return at;
}

// ---- what changes ----

const Onnx__NodeProto *sd_strand_node(const sd_following *g, const sd_node *n) {
  return n->onnx_index >= 0 && (uint32_t)n->onnx_index < g->p->nodes.len ? g->p->nodes.at[n->onnx_index]
                                                                         : NULL;
}

bool sd_strand_cut(sd_following *g, const sd_node *n, uint32_t i, int axis, uint32_t *labels, uint32_t count,
                   sd_prune_cut_kind kind) {
  return sd_strand_cut_parts(g, n, i, axis, labels, count, 1, kind);
}

bool sd_strand_cut_parts(sd_following *g, const sd_node *n, uint32_t i, int axis, uint32_t *labels,
                         uint32_t count, uint32_t parts, sd_prune_cut_kind kind) {
  const sd_value *v = n->in[i];
  const Onnx__NodeProto *node = sd_strand_node(g, n);
  if (!labels || !v || !v->name || !node) return false;
  if (i >= node->n_input || strcmp(node->input[i], v->name) != 0 || !sd_proto_weight(g->p, v->name))
    return false;
  if (kind != SD_CUT_SIZE && (axis < 0 || axis >= v->rank || sd_strand_dim(g, v, axis) != count))
    return false;
  sd_vec_push(g->a, &g->c->cuts,
              ((sd_prune_cut){.kind = kind,
                              .node = (uint32_t)n->onnx_index,
                              .operand = i,
                              .axis = axis,
                              .labels = labels,
                              .n = parts * count,
                              .parts = parts}));
  return true;
}

void sd_strand_count(sd_following *g, const sd_node *n, const char *attribute, uint32_t *labels,
                     uint32_t count) {
  sd_vec_push(g->a, &g->c->cuts,
              ((sd_prune_cut){.kind = SD_CUT_ATTRIBUTE,
                              .node = (uint32_t)n->onnx_index,
                              .attribute = attribute,
                              .labels = labels,
                              .n = count,
                              .parts = 1}));
}
