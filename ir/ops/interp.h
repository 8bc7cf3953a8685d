// Interpolation between neighbours, shared by Resize and GridSample.
#pragma once
#include "ir/ops/xbuild.h"

#define SD_MAX_TAPS 4

// Weights of the four neighbours floor(x) - 1 ... floor(x) + 2 at fraction r, by Keys' cubic convolution.
static inline void x_cubic_weights(sd_tb *b, sd_expr *r, double a, sd_expr **w) {
  sd_expr *one = x_num(b, r, 1), *s = x_sub(b, one, r), *far[2] = {x_add(b, r, one), x_add(b, s, one)}, *near[2] = {r, s};
  for (int i = 0; i < 2; i++) {
    sd_expr *d = far[i], *e = near[i];
    sd_expr *outer = x_muln(b, d, a);                           // a d^3 - 5a d^2 + 8a d - 4a
    outer = x_addn(b, x_mul(b, x_addn(b, outer, -5 * a), d), 8 * a);
    w[i ? 3 : 0] = x_addn(b, x_mul(b, outer, d), -4 * a);
    sd_expr *inner = x_addn(b, x_muln(b, e, a + 2), -(a + 3)); // (a+2) e^3 - (a+3) e^2 + 1
    w[i ? 2 : 1] = x_addn(b, x_mul(b, x_mul(b, inner, e), e), 1);
  }
}

// I64 index limited to [0, d).
static inline sd_expr *x_clamp_index(sd_tb *b, sd_expr *i, sd_dim d) {
  return x_max(b, x_min(b, i, x_dim(b, sd_dim_sub(b->dims, d, sd_dim_const(b->dims, 1)))), x_int(b, 0));
}

// A dim as float.
static inline sd_expr *x_float_dim(sd_tb *b, sd_dtype t, sd_dim d) {
  int64_t v;
  if (sd_dim_is_const(b->dims, d, &v)) return sd_x_f(b->k, t, (double)v);
  return x_cast(b, t, x_dim(b, d));
}
