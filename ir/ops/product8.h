// Products of 8-bit integers whose zero points stand apart:
//
//   sum (x - zx)(w - zw) = sum x*w - zx * sum w - zw * (sum x - K * zx)
//
// so that the sum of products is of the bytes as they are stored. Constant weights become signed and activations unsigned,
// the pair that processors multiply at once; padding adds what the zero point of x is. All results are exact in i32.
#pragma once
#include "ir/ops/xgraph.h"

typedef struct sd_product8 {
  sd_value *x, *w;   // of integers
  sd_value *zx, *zw; // of their types, NULL: 0. zx: one number, or for products one for each row; zw: one, or one for each
                     // column or output channel
  sd_value *bias;    // i32, for convolutions one for each output channel; NULL: none
} sd_product8;

// The product [..., M, K] x [..., K, N] as i32; NULL after an error (kept in g).
sd_value *sd_product8_matmul(xg *g, const sd_product8 *p);
// The convolution with the attributes of `like`, whose operands are x [N, C, spatial...] and w [M, C/group, k...].
sd_value *sd_product8_conv(xg *g, const sd_node *like, const sd_product8 *p);
// Both operands are of 8 bits, the result is i32.
sard_status *sd_shape_product8(sd_node *n);
