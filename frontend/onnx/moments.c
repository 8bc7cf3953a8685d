// Sums over the rows of inputs of products, as nodes beside those of the model.
#include "frontend/onnx/moments.h"

#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

sd_moments sd_moments_of(sd_proto *p, const Onnx__NodeProto *n, int rank, const int64_t *dims, uint64_t rows, uint64_t k,
                         uint64_t groups, bool channels_last) {
  const sd_quant_op *op = sd_quant_op_of(n);
  return (sd_moments){.p = p, .n = n, .x = op->x, .weight = op->weight, .rank = rank, .dims = dims, .rows = rows, .k = k,
                      .groups = groups, .channels_last = channels_last};
}

static const char *emit(sd_moments *m, const char *op, const char *a, const char *b, const int64_t *perm,
                        size_t rank) {
  const char *name = sd_proto_name(m->p, "sard_sums");
  Onnx__NodeProto *n = sd_proto_node(m->p, name, "", op, (const char *[]){a, b}, b ? 2 : 1, name);
  if (perm) sd_proto_ints(m->p, n, "perm", perm, rank);
  sd_vec_push(m->p->a, &m->nodes, n);
  return name;
}

const char *sd_moments_turned(sd_moments *m, const char *x, const int64_t *perm, size_t rank) {
  return emit(m, "Transpose", x, NULL, perm, rank);
}

const char *sd_moments_reshaped(sd_moments *m, const char *x, const int64_t *dims, int64_t rank) {
  const int64_t *kept = sd_arena_dup(m->p->a, dims, (size_t)rank * sizeof *dims);
  return emit(m, "Reshape", x, sd_proto_tensor(m->p, "sard_shape", SD_I64, 1, &rank, kept), NULL, 0);
}

// The node without its bias on `x` and `weight`.
static const char *product(sd_moments *m, const char *x, const char *weight) {
  Onnx__NodeProto *c = sd_proto_copy(m->p, m->n, "sard_sums");
  c->n_input = 2;
  c->input[m->x] = (char *)x, c->input[m->weight] = (char *)weight;
  c->output[0] = (char *)sd_proto_name(m->p, "sard_sums");
  if (sd_proto_is(m->n, "", "Gemm"))
    for (size_t i = 0; i < c->n_attribute; i++)
      if (strcmp(c->attribute[i]->name, "alpha") == 0) {
        Onnx__AttributeProto *one = sd_arena_dup(m->p->a, c->attribute[i], sizeof *one);
        one->f = 1;
        c->attribute = sd_arena_dup(m->p->a, c->attribute, c->n_attribute * sizeof *c->attribute);
        c->attribute[i] = one;
      }
  sd_vec_push(m->p->a, &m->nodes, c);
  return c->output[0];
}

static bool pointwise(const sd_moments *m) {
  for (int i = 2; i < m->rank; i++)
    if (m->dims[i] != 1) return false;
  for (size_t i = 0; i < m->n->n_attribute; i++) {
    const Onnx__AttributeProto *a = m->n->attribute[i];
    for (size_t k = 0; k < a->n_ints; k++)
      if (a->ints[k] != (strcmp(a->name, "pads") != 0)) return false;
  }
  return true;
}

// [batch, groups * each, places...] as [groups, each, batch * places].
static const char *by_group(sd_moments *m, const char *x, int64_t each) {
  int64_t groups = (int64_t)m->groups;
  x = sd_moments_reshaped(m, x, (int64_t[]){0, groups * each, -1}, 3);
  x = sd_moments_turned(m, x, (int64_t[]){1, 0, 2}, 3);
  return sd_moments_reshaped(m, x, (int64_t[]){groups, each, -1}, 3);
}

// What each output of a convolution multiplies, as channels: the convolution with a weight that is 1 in one
// place of each output.
static const char *windows(sd_moments *m, const char *x) {
  uint64_t channels = (uint64_t)m->dims[1], spots = m->k / channels, all = m->groups * m->k;
  if (pointwise(m)) return x;
  int64_t *dims = sd_arena_dup(m->p->a, m->dims, (size_t)m->rank * sizeof *dims);
  float *one = SD_NEW_ARRAY(m->p->a, float, all * m->k);
  dims[0] = (int64_t)all;
  for (uint64_t i = 0; i < all; i++) {
    uint64_t j = i % m->k;
    one[i * m->k + (m->channels_last ? j % channels * spots + j / channels : j)] = 1;
  }
  return product(m, x, sd_proto_tensor(m->p, "sard_windows", SD_F32, m->rank, dims, one));
}

void sd_moments_inputs(sd_moments *m, const char *x, const char **left, const char **right) {
  if (m->rank > 2) {
    *left = by_group(m, windows(m, x), (int64_t)m->k);
    *right = sd_moments_turned(m, *left, (int64_t[]){0, 2, 1}, 3);
    return;
  }
  *right = sd_moments_reshaped(m, x, (int64_t[]){-1, (int64_t)m->k}, 2);
  *left = sd_moments_turned(m, *right, (int64_t[]){1, 0}, 2);
}

const char *sd_moments_outputs(sd_moments *m, const char *x) {
  const char *y = product(m, x, m->n->input[m->weight]);
  if (m->rank > 2) return by_group(m, y, (int64_t)(m->rows / m->groups));
  return sd_moments_turned(m, sd_moments_reshaped(m, y, (int64_t[]){-1, (int64_t)m->rows}, 2), (int64_t[]){1, 0}, 2);
}

const char *sd_moments_product(sd_moments *m, const char *left, const char *right) {
  return emit(m, "MatMul", left, right, NULL, 0);
}
