// Sums over a batch, computed by the model itself: the original and, beside it, what the weights before make
// of it, share one graph, so that what both need is computed once.
#include <string.h>

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

static const char *emit(watching *w, const char *op, const char *a, const char *b, const int64_t *perm,
                        size_t rank) {
  const char *name = sd_proto_name(w->p, "sard_sums");
  Onnx__NodeProto *n = sd_proto_node(w->p, name, "", op, (const char *[]){a, b}, b ? 2 : 1, name);
  if (perm) sd_proto_ints(w->p, n, "perm", perm, rank);
  sd_vec_push(w->p->a, &w->nodes, n);
  return name;
}

static const char *reshaped(watching *w, const char *x, const int64_t *dims, int64_t rank) {
  const int64_t *kept = sd_arena_dup(w->p->a, dims, (size_t)rank * sizeof *dims);
  return emit(w, "Reshape", x, sd_proto_tensor(w->p, "sard_shape", SD_I64, 1, &rank, kept), NULL, 0);
}

// A node that has a bias, scales or more operands without them, on `x` and `weight`.
static const char *product(watching *w, const Onnx__NodeProto *n, const char *x, const char *weight) {
  const sd_quant_op *op = sd_quant_op_of(n);
  Onnx__NodeProto *c = sd_proto_copy(w->p, n, "sard_sums");
  c->n_input = 2;
  c->input[op->x] = (char *)x, c->input[op->weight] = (char *)weight;
  c->output[0] = (char *)sd_proto_name(w->p, "sard_sums");
  if (sd_proto_is(n, "", "Gemm"))
    for (size_t i = 0; i < c->n_attribute; i++)
      if (strcmp(c->attribute[i]->name, "alpha") == 0) {
        Onnx__AttributeProto *one = sd_arena_dup(w->p->a, c->attribute[i], sizeof *one);
        one->f = 1;
        c->attribute = sd_arena_dup(w->p->a, c->attribute, c->n_attribute * sizeof *c->attribute);
        c->attribute[i] = one;
      }
  sd_vec_push(w->p->a, &w->nodes, c);
  return c->output[0];
}

static bool pointwise(const sd_prune_unit *u, const Onnx__NodeProto *n) {
  for (int i = 2; i < u->rank; i++)
    if (u->dims[i] != 1) return false;
  for (size_t i = 0; i < n->n_attribute; i++) {
    const Onnx__AttributeProto *a = n->attribute[i];
    for (size_t k = 0; k < a->n_ints; k++)
      if (a->ints[k] != (strcmp(a->name, "pads") != 0)) return false;
  }
  return true;
}

// [batch, groups * each, places...] as [groups, each, batch * places].
static const char *by_group(watching *w, const char *x, int64_t each) {
  int64_t groups = (int64_t)w->u->groups;
  x = reshaped(w, x, (int64_t[]){0, groups * each, -1}, 3);
  x = emit(w, "Transpose", x, NULL, (int64_t[]){1, 0, 2}, 3);
  return reshaped(w, x, (int64_t[]){groups, each, -1}, 3);
}

// What each output of a convolution multiplies, as channels: the convolution with a weight that is 1 in one
// place of each output.
static const char *windows(watching *w, const Onnx__NodeProto *n, const char *x) {
  const sd_prune_unit *u = w->u;
  uint64_t channels = (uint64_t)u->dims[1], spots = u->k / channels, all = u->groups * u->k;
  if (pointwise(u, n)) return x;
  int64_t *dims = sd_arena_dup(w->p->a, u->dims, (size_t)u->rank * sizeof *dims);
  float *one = SD_NEW_ARRAY(w->p->a, float, all * u->k);
  dims[0] = (int64_t)all;
  for (uint64_t i = 0; i < all; i++) one[i * u->k + i % u->k % channels * spots + i % u->k / channels] = 1;
  return product(w, n, x, sd_proto_tensor(w->p, "sard_windows", SD_F32, u->rank, dims, one));
}

static void add_output(watching *w, const char *name) {
  Onnx__ValueInfoProto *v = SD_NEW(w->p->a, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(v);
  v->name = (char *)name;
  sd_vec_push(w->p->a, &w->p->outputs, v);
}

static void sums(watching *w, const Onnx__NodeProto *n) {
  const sd_prune_unit *u = w->u;
  const char *x = beside(w, u->x), *y = product(w, n, u->x, u->weight), *left, *right;
  int64_t k = (int64_t)u->k, rows = (int64_t)u->rows, groups = (int64_t)u->groups;
  if (u->rank > 2) {
    left = by_group(w, windows(w, n, x), k);
    right = emit(w, "Transpose", left, NULL, (int64_t[]){0, 2, 1}, 3);
    y = by_group(w, y, rows / groups);
  } else {
    right = reshaped(w, x, (int64_t[]){-1, k}, 2);
    left = emit(w, "Transpose", right, NULL, (int64_t[]){1, 0}, 2);
    y = emit(w, "Transpose", reshaped(w, y, (int64_t[]){-1, rows}, 2), NULL, (int64_t[]){1, 0}, 2);
  }
  w->p->outputs.len = 0;
  add_output(w, emit(w, "MatMul", left, right, NULL, 0));
  add_output(w, emit(w, "MatMul", y, right, NULL, 0));
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
  uint64_t n = u->rows * u->k;
  if (u->keep || memcmp(u->w, u->was, n * sizeof *u->w) == 0) return false;
  float *values = SD_NEW_ARRAY(w->p->a, float, n);
  sd_prune_to_file(u, u->w, values);
  sd_names_set(&w->beside, u->weight,
               (void *)sd_proto_tensor(w->p, "sard_weight", SD_F32, u->rank, u->dims, values));
  return true;
}

sard_status *sd_prune_watch(sd_arena *a, const sard_source *src, const sd_prune_units *units, uint32_t at,
                            uint8_t **out, uint64_t *size) {
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
    if (i == w.u->at) sums(&w, p.nodes.at[i]);
    if (i >= w.u->at) continue;
    for (; next < units->len && units->at[next].at == i; next++)
      if (put_weight(&w, &units->at[next])) changed = &units->at[next];
    copy_beside(&w, p.nodes.at[i], changed);
  }
  p.nodes.at = w.nodes.at, p.nodes.len = w.nodes.len, p.nodes.cap = w.nodes.cap;
  return sd_proto_pack(&p, out, size);
}
