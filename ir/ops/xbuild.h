// Short spellings for expression building in the bodies of rows. NULL operands (after a recorded error) pass
// through.
#pragma once
#include <math.h>

#include "ir/lower.h"
#include "ir/ops/shape.h"

static inline sd_expr *x_bin(sd_tb *b, sd_xop op, sd_expr *x, sd_expr *y) {
  return x && y ? sd_x_bin(b->k, op, x, y) : NULL;
}
static inline sd_expr *x_un(sd_tb *b, sd_xop op, sd_expr *x) { return x ? sd_x_un(b->k, op, x) : NULL; }
static inline sd_expr *x_add(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_ADD, x, y); }
static inline sd_expr *x_sub(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_SUB, x, y); }
static inline sd_expr *x_mul(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_MUL, x, y); }
static inline sd_expr *x_div(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_DIV, x, y); }
static inline sd_expr *x_max(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_MAX, x, y); }
static inline sd_expr *x_min(sd_tb *b, sd_expr *x, sd_expr *y) { return x_bin(b, SD_X_MIN, x, y); }
static inline sd_expr *x_and(sd_tb *b, sd_expr *x, sd_expr *y) {
  return x && y ? x_bin(b, SD_X_AND, x, y) : x ? x : y;
}
static inline sd_expr *x_sel(sd_tb *b, sd_expr *c, sd_expr *x, sd_expr *y) {
  return c && x && y ? sd_x_sel(b->k, c, x, y) : NULL;
}
static inline sd_expr *x_cast(sd_tb *b, sd_dtype t, sd_expr *x) { return x ? sd_x_cast(b->k, t, x) : NULL; }

// Numbers: a constant of the type of `like`; I64 constants; dims.
static inline sd_expr *x_num(sd_tb *b, const sd_expr *like, double v) {
  return like ? sd_x_f(b->k, like->dtype, v) : NULL;
}
static inline sd_expr *x_int(sd_tb *b, int64_t v) { return sd_x_i(b->k, SD_I64, v); }
static inline sd_expr *x_dim(sd_tb *b, sd_dim d) { return sd_x_dim(b->k, d); }
static inline sd_expr *x_axis(sd_tb *b, sd_axis *a) { return sd_x_axis(b->k, a); }
static inline sd_expr *x_addn(sd_tb *b, sd_expr *x, double v) { return x_add(b, x, x_num(b, x, v)); }
static inline sd_expr *x_muln(sd_tb *b, sd_expr *x, double v) {
  return v == 1 ? x : x_mul(b, x, x_num(b, x, v));
}

// The lowest value of a compute type: -inf for floats.
static inline sd_expr *x_lowest(sd_tb *b, sd_dtype t) {
  if (sd_dtype_is_float(t)) return sd_x_f(b->k, t, -INFINITY);
  if (sd_dtype_kind_of(t) != SD_DK_I) return sd_x_i(b->k, t, 0);
  return sd_x_i(b->k, t, INT64_MIN >> (64 - sd_dtype_bits(t)));
}

// x, an f32, with the precision of the narrower float type t (any other type: x as it is). ir/ops/cast.c.
sd_expr *sd_x_round_to(sd_tb *b, sd_dtype t, sd_expr *x);

// exp(x), for weights whose largest is 1: below the smallest normal number it is 0. ir/ops/norm.c.
sd_expr *sd_x_exp_weight(sd_tb *b, sd_expr *x);

// A new reduction axis of that extent pushed onto a list, as index expression; extent 1 needs no axis.
typedef struct x_axes {
  sd_axis *at[SD_MAX_AXES];
  uint32_t n;
} x_axes;
static inline sd_expr *x_raxis(sd_tb *b, x_axes *l, const char *name, sd_dim extent) {
  if (sd_dim_is(b->dims, extent, 1)) return x_int(b, 0);
  if (l->n >= SD_MAX_AXES)
    return sd_tb_fail(b,
                      sd_node_error(b->node, SD_ERR(UNSUPPORTED, "more than %d reduced axes", SD_MAX_AXES)));
  l->at[l->n] = sd_tb_raxis(b, name, extent);
  return x_axis(b, l->at[l->n++]);
}
static inline sd_expr *x_reduce(sd_tb *b, sd_rop r, const x_axes *l, sd_expr *body) {
  return body && l->n ? sd_x_reduce(b->k, r, l->at, l->n, body) : body;
}
// x / count, count a dim; the division by a number is exact where the product with its reciprocal would not
// be.
static inline sd_expr *x_div_dim(sd_tb *b, sd_expr *x, sd_dim count) {
  int64_t v;
  if (!x) return NULL;
  if (sd_dim_is_const(b->dims, count, &v)) return x_div(b, x, x_num(b, x, (double)v));
  return x_div(b, x, x_cast(b, x->dtype, x_dim(b, count)));
}
// Element of an operand broadcast by numpy's rule to the shape `over` of rank `rank`, over which idx runs.
// Also right where a symbolic dim of the operand is 1 only at run time.
static inline sd_expr *x_load_over(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx,
                                   int rank, const sd_dim *over) {
  const sd_value *v = n->in[operand];
  sd_expr *at[SD_MAX_RANK];
  for (int i = 0; i < v->rank; i++) {
    int o = rank - v->rank + i;
    if (o < 0 || !idx[o]) return NULL;
    at[i] = sd_sh_bcast_index(b->k, idx[o], v->dims[i], over[o]);
  }
  return sd_tb_load(b, n, operand, at);
}
