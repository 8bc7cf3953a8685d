// Labels through recurrent layers: a hidden unit of a direction is one label, which has a row of each gate, a
// column of the recurrent weight, biases, a place in initial states, and whatever reads it.
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

enum { X, W, R, B, LENGTHS, H0, C0, P }; // operands

// ---- initial states ----

static bool all_zero(const sd_const *c) {
  for (uint64_t i = 0; i < c->bytes; i++)
    if (((const uint8_t *)c->data)[i]) return false;
  return true;
}

// Whatever the sizes are, every element is 0.
static bool zeros(const sd_value *v, int depth) {
  static const char *const also[] = {"Expand", "Identity", NULL};
  if (v->data || !v->def || depth > SD_MAX_DEPTH) return v->data && all_zero(v->data);
  if (strcmp(v->def->op->name, "ConstantOfShape") == 0) {
    const sd_attr *value = sd_node_attr(v->def, "value");
    return !value || value->kind != SD_ATTR_TENSOR || all_zero(value->tensor);
  }
  return sd_prune_moves(v->def->op->name, also) && zeros(v->def->in[0], depth + 1);
}

// The hidden units along `axis`, the directions along `parts`.
static sd_strand *laid_out(sd_following *g, const sd_hidden *h, int parts, int axis) {
  sd_strand *f = SD_NEW(g->a, sd_strand);
  f->n = h->parts * h->n, f->at = h->at;
  if (h->parts > 1) f->of[f->k++] = (sd_strand_piece){parts, h->parts, sd_dim_const(g->m->dims, 1)};
  f->of[f->k++] = (sd_strand_piece){axis, h->n, sd_dim_const(g->m->dims, 1)};
  return f;
}

// Zeros are left out, whatever made them follows.
static bool starts(sd_following *g, const sd_node *n, uint32_t i, const sd_hidden *h, bool batch_first) {
  const sd_value *v = i < n->n_in ? n->in[i] : NULL;
  if (!v) return true;
  if (zeros(v, 0)) {
    sd_vec_push(g->a, &g->c->cuts,
                ((sd_prune_cut){.kind = SD_CUT_START,
                                .node = (uint32_t)n->onnx_index,
                                .operand = i,
                                .labels = h->at,
                                .n = h->parts * h->n,
                                .parts = 1}));
    return true;
  }
  const sd_strand *f = sd_strand_of(g, v);
  if (!f) return !batch_first && sd_strand_cut_parts(g, n, i, 2, h->at, h->n, h->parts, SD_CUT_OTHER);
  unsigned on = sd_strand_on(f, 2, 2) | (h->parts > 1 ? sd_strand_on(f, batch_first, batch_first) : 0);
  f = sd_strand_keep(g, f, on); // of a batch that is not open all samples lose the same
  return f && sd_strand_meet(g, f, laid_out(g, h, batch_first, 2), 0);
}

// ---- layers ----

// The labels of each part as often as it has gates.
static uint32_t *repeated(sd_following *g, const sd_hidden *h, uint32_t times) {
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, h->parts * times * h->n);
  for (uint32_t p = 0; p < h->parts; p++)
    for (uint32_t i = 0; i < times * h->n; i++) at[p * times * h->n + i] = h->at[p * h->n + i % h->n];
  return at;
}

static bool cut_rows(sd_following *g, const sd_node *n, uint32_t i, const sd_hidden *h, uint32_t times,
                     sd_prune_cut_kind kind) {
  if (i >= n->n_in || !n->in[i]) return true;
  return sd_strand_cut_parts(g, n, i, 1, repeated(g, h, times), times * h->n, h->parts, kind);
}

// Each hidden unit is a label of its own.
static bool begin(sd_following *g, const sd_node *n) {
  uint32_t index = 0, other = 0;
  const sd_prune_unit *w = sd_strand_unit(g, n, W, &index), *r = sd_strand_unit(g, n, R, &other);
  int64_t parts = sd_strand_dim(g, n->in[R], 0), rows = sd_strand_dim(g, n->in[R], 1),
          units = sd_strand_dim(g, n->in[R], 2);
  bool batch_first = sd_node_int(n, "layout", 0) == 1;
  if (!w || !r || w->keep || r->keep || parts < 1 || units < 1 || rows % units || rows > UINT32_MAX / parts)
    return false;
  sd_hidden h = {.parts = (uint32_t)parts, .n = (uint32_t)units};
  uint32_t gates = (uint32_t)(rows / units);
  h.at = SD_NEW_ARRAY(g->a, uint32_t, h.parts * h.n);
  for (uint32_t i = 0; i < h.parts * h.n; i++) {
    h.at[i] = g->c->labels.len;
    sd_vec_push(g->a, &g->c->labels, ((sd_prune_label){.same = h.at[i], .unit = index, .state = true}));
  }
  bool good = cut_rows(g, n, W, &h, gates, SD_CUT_OUTPUTS) && cut_rows(g, n, R, &h, gates, SD_CUT_OUTPUTS) &&
              sd_strand_cut_parts(g, n, R, 2, h.at, h.n, h.parts, SD_CUT_INPUTS) &&
              cut_rows(g, n, B, &h, 2 * gates, SD_CUT_OTHER) && cut_rows(g, n, P, &h, 3, SD_CUT_OTHER);
  good = starts(g, n, H0, &h, batch_first) && good;
  good = starts(g, n, C0, &h, batch_first) && good;
  sd_strand_count(g, n, "hidden_size", h.at, h.n);
  for (uint32_t i = 0; i < n->n_out; i++) // all steps, the last one, and the cells of it
    if (n->out[i])
      sd_strand_put(g, n->out[i], laid_out(g, &h, batch_first ? (i ? 1 : 2) : (i ? 0 : 1), i ? 2 : 3));
  if (good) sd_vec_push(g->a, &g->hidden, h);
  else
    sd_strand_fix(g, laid_out(g, &h, 0, 1));
  return good;
}

void sd_strand_states(sd_following *g, const sd_node *n) {
  sd_strand *x = sd_strand_of(g, n->in[X]);
  uint32_t *labels = x && n->in[X]->rank == 3 ? sd_strand_along(g, x, n->in[X], 2) : NULL;
  if (x && !sd_strand_cut(g, n, W, 2, labels, (uint32_t)sd_strand_dim(g, n->in[X], 2), SD_CUT_INPUTS))
    sd_strand_fix(g, x);
  bool good = n->n_in > R && n->in[W]->rank == 3 && n->in[R]->rank == 3 && begin(g, n);
  for (uint32_t i = R; i < n->n_in && !good; i++) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
}
