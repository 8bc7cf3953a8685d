// Second moments of what the product of a node reads, computed by the model itself.
#pragma once
#include "frontend/onnx/proto.h"

typedef struct sd_moments {
  sd_proto *p;
  const Onnx__NodeProto *n; // Conv, Gemm or MatMul
  int x, weight;            // its operands
  int rank;
  const int64_t *dims;      // of the weight
  uint64_t rows, k, groups; // outputs, inputs of each; groups of outputs that share their inputs
  bool channels_last;       // inputs of a convolution in the order place of the kernel, channel; else as the weight has them
  SD_VEC(Onnx__NodeProto *) nodes; // that were made so far
} sd_moments;

// Of the product `n`, nothing made yet; `dims` are borrowed.
sd_moments sd_moments_of(sd_proto *p, const Onnx__NodeProto *n, int rank, const int64_t *dims, uint64_t rows, uint64_t k,
                         uint64_t groups, bool channels_last);
// The inputs as a matrix, f32[groups, k, n] with n rows of them (of the whole batch), and transposed; without groups for Gemm and
// MatMul. `x` takes the place of the node's operand.
void sd_moments_inputs(sd_moments *m, const char *x, const char **left, const char **right);
// What the node makes of operand `x`, without its bias, as [groups, rows / groups, n].
const char *sd_moments_outputs(sd_moments *m, const char *x);
const char *sd_moments_product(sd_moments *m, const char *left, const char *right);
// `x` with its axes in another order; in another shape, which is copied.
const char *sd_moments_turned(sd_moments *m, const char *x, const int64_t *perm, size_t rank);
const char *sd_moments_reshaped(sd_moments *m, const char *x, const int64_t *dims, int64_t rank);
