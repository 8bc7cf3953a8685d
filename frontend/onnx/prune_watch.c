// Sums over a batch, computed by the model itself: the original and, beside it, what the weights before make
// of it, share one graph, so that what both need is computed once.
#include <string.h>

#include "frontend/onnx/moments.h"
#include "frontend/onnx/prune_internal.h"
#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

enum { LEAST_OPSET = 5 }; // Reshape with an operand

typedef struct watching {
  sd_proto *p;
  const sd_prune_unit *u;
  sd_names beside; // name of a value -> that of the one which the weights before give
  SD_VEC(Onnx__NodeProto *) nodes;
} watching;

static const char *beside(const watching *w, const char *name) {
  const char *other = *name ? sd_names_get(&w->beside, name) : NULL;
  return other ? other : name;
}

// What was made is computed with the model, whose outputs are the two sums.
static void show(watching *w, const sd_moments *m, const char *moments, const char *products) {
  w->p->outputs.len = 0;
  sd_proto_show(w->p, moments);
  sd_proto_show(w->p, products);
  for (uint32_t i = 0; i < m->nodes.len; i++) sd_vec_push(w->p->a, &w->nodes, m->nodes.at[i]);
}

static void sums(watching *w, const Onnx__NodeProto *n) {
  const sd_prune_unit *u = w->u;
  sd_moments m = sd_moments_of(w->p, n, u->rank, u->dims, u->rows, u->k, u->groups, true);
  const char *y = sd_moments_outputs(&m, u->x), *left, *right;
  sd_moments_inputs(&m, beside(w, u->x), &left, &right);
  const char *moments = sd_moments_product(&m, left, right);
  show(w, &m, moments, sd_moments_product(&m, y, right));
}

// ---- recurrent layers ----

// As [groups][all else][k], the axis of groups being axis `at` of four, -1: there is none.
static const char *by_group(const watching *w, sd_moments *m, const char *x, int at) {
  const int64_t perms[][4] = {{0, 1, 2, 3}, {1, 0, 2, 3}, {2, 0, 1, 3}};
  if (at >= 0) x = sd_moments_turned(m, x, perms[at], 4);
  return sd_moments_reshaped(m, x, (int64_t[]){(int64_t)w->u->groups, -1, (int64_t)w->u->k}, 3);
}

// The weight of inputs has those of the model beside; that of states those of the original, which the states
// that stay are to be near to. Each is fitted by itself: both at once, as gates add them, are hardly better
// (perplexity 5.40 instead of 5.43 with half of the hidden units, 7.87 without), and a GRU does not add all
// of them.
static void sums_of_states(watching *w, Onnx__NodeProto *n) {
  static const int64_t turn[] = {0, 2, 1};
  sd_moments m = {.p = w->p};
  bool states = w->u->operand > 1, batch_first = sd_proto_get_int(n, "layout", 0) == 1;
  if (states && !*n->output[0]) n->output[0] = (char *)sd_proto_name(w->p, "sard_states");
  int at = states ? (batch_first ? 2 : 1) : -1;
  const char *was = by_group(w, &m, states ? n->output[0] : w->u->x, at);
  const char *right = states ? was : by_group(w, &m, beside(w, w->u->x), at),
             *weight = by_group(w, &m, w->u->weight, -1);
  const char *moments = sd_moments_product(&m, sd_moments_turned(&m, right, turn, 3), right);
  const char *both = sd_moments_product(&m, sd_moments_turned(&m, was, turn, 3), right);
  show(w, &m, moments, sd_moments_product(&m, weight, both));
}

// The node once more, on the values beside; nodes with bodies stay one.
static void copy_beside(watching *w, const Onnx__NodeProto *n, const sd_prune_unit *changed) {
  bool other = changed != NULL;
  for (size_t i = 0; i < n->n_input; i++) other |= beside(w, n->input[i]) != n->input[i];
  for (size_t i = 0; i < n->n_attribute; i++)
    if (n->attribute[i]->g) return;
  if (!other) return;
  Onnx__NodeProto *c = sd_proto_copy(w->p, n, "sard_beside");
  for (size_t i = 0; i < n->n_input; i++) c->input[i] = (char *)beside(w, n->input[i]);
  for (size_t i = 0; i < n->n_output; i++)
    if (*n->output[i]) {
      c->output[i] = (char *)sd_proto_name(w->p, "sard_beside");
      sd_names_set(&w->beside, n->output[i], c->output[i]);
    }
  sd_vec_push(w->p->a, &w->nodes, c);
}

// The weights before stand beside those of the original by name.
static bool put_weight(watching *w, const sd_prune_unit *u) {
  if (u->keep || !u->changed) return false;
  sd_names_set(&w->beside, u->weight,
               (void *)sd_proto_tensor(w->p, "sard_weight", SD_F32, u->rank, u->dims, u->w));
  return true;
}

sard_status *sd_prune_watch(sd_arena *a, const sard_source *src, const sd_prune_units *units, uint32_t at,
                            const sd_packed **out) {
  sd_proto p;
  SD_TRY(sd_proto_open(a, src, &p));
  if (p.opset < LEAST_OPSET)
    return SD_ERR(UNSUPPORTED,
                  "the model is of opset %lld, what its layers get is only to be seen from %d on",
                  (long long)p.opset, LEAST_OPSET);
  watching w = {.p = &p, .u = &units->at[at]};
  uint32_t next = 0;
  sd_names_init(&w.beside, a);
  for (uint32_t i = 0; i < p.nodes.len; i++) {
    const sd_prune_unit *changed = NULL;
    sd_vec_push(a, &w.nodes, p.nodes.at[i]);
    if (i == w.u->at && w.u->states) sums_of_states(&w, p.nodes.at[i]);
    else if (i == w.u->at)
      sums(&w, p.nodes.at[i]);
    if (i >= w.u->at) continue;
    for (; next < units->len && units->at[next].at == i; next++)
      if (put_weight(&w, &units->at[next])) changed = &units->at[next];
    copy_beside(&w, p.nodes.at[i], changed);
  }
  p.nodes.at = w.nodes.at, p.nodes.len = w.nodes.len, p.nodes.cap = w.nodes.cap;
  return sd_proto_pack(&p, out);
}
