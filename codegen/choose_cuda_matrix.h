// Kernels that are one product of matrices, as libraries of matrix products know them: out[b, m, n] =
// relu(scale * the sum over k of x[b, m, k] * y[b, n, k] + c[b, m, n] + bias[b, n]), where relu, scale, c and
// bias may be missing, and an operand may be the same for all b.
#pragma once
#include "ir/tile.h"

// Elements of a buffer that is a parameter of the kernel: element (row, i) of matrix b is `first` + b * batch
// + row * step + i.
typedef struct sd_cuda_place {
  const sd_buf *buf; // NULL: there is none
  uint32_t param;    // its position among the kernel's parameters
  sd_dim first, step, batch;
  bool along_k; // of a factor: i runs along the sum, else along the rows (columns) of the product
} sd_cuda_place;

typedef struct sd_cuda_matrix {
  sd_dim m, n, k, batch; // batch: how many products there are
  sd_cuda_place x, y, c, bias, out;
  sd_dtype in, to,
      of_bias; // of the factors; of out and c; of bias, which is that of the factors where it is weights
  float scale;
  bool relu;
} sd_cuda_matrix;

// False: it is no such product, or of types that are not multiplied so: f16, bf16, and f32 where `tf32`. c is
// of out's type.
bool sd_choose_cuda_matrix(sd_kernel *k, bool tf32, sd_cuda_matrix *out);
