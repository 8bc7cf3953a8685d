// Determinants and inverses by elimination with row exchanges; one grid tile is one matrix.
#include "ir/ops.h"
#include "ir/ops/xbuild.h"

sard_status *sd_shape_det(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_AXES));
  const sd_value *x = n->in[0];
  SD_TRY(sd_sh_same(n, x->dims[x->rank - 1], x->dims[x->rank - 2], "the last two dims", NULL));
  return sd_sh_set(n, 0, x->dtype, x->rank - 2, x->dims);
}

sard_status *sd_shape_inverse(sd_node *n) {
  SD_TRY(sd_shape_det(n));
  return sd_sh_like(n, 0, 0);
}

typedef struct elim {
  sd_tb *b;
  const sd_node *n;
  sd_dim size, width; // width 2 * size: the unit matrix stands to the right
  sd_buf *a, *row, *factor, *best, *pivot, *det;
  sd_expr *batch[SD_MAX_RANK];
} elim;

static sd_expr *axis_of(elim *e, sd_nest *nest, sd_dim extent) {
  sd_axis *a = sd_kernel_axis(e->b->k, "i", extent);
  sd_nest_axis(nest, a);
  return x_axis(e->b, a);
}
static sd_expr *at(elim *e, sd_expr *i, sd_expr *j) {
  return x_add(e->b, sd_x_mul_dim(e->b->k, i, e->width), j);
}
static sd_expr *get(elim *e, sd_buf *buf, sd_expr *i) { return sd_x_load(e->b->k, buf, i, NULL); }
static void put(elim *e, sd_nest *nest, sd_buf *buf, sd_expr *i, sd_expr *x) {
  if (i && x) sd_nest_store(e->b->k, nest, buf, i, x, NULL);
}
static sd_nest *nest_in(elim *e, sd_items *into) { return sd_kernel_nest(e->b->k, into); }

static void load_matrix(elim *e) {
  sd_expr *ix[SD_MAX_RANK];
  int rank = e->n->in[0]->rank;
  sd_nest *nest = nest_in(e, NULL);
  sd_expr *i = axis_of(e, nest, e->size), *j = axis_of(e, nest, e->size);
  for (int d = 0; d < rank - 2; d++) ix[d] = e->batch[d];
  ix[rank - 2] = i, ix[rank - 1] = j;
  put(e, nest, e->a, at(e, i, j), sd_tb_load(e->b, e->n, 0, ix));
  if (e->width == e->size) return;
  nest = nest_in(e, NULL);
  i = axis_of(e, nest, e->size), j = axis_of(e, nest, e->size);
  sd_dtype t = e->a->dtype;
  put(e, nest, e->a, at(e, i, x_add(e->b, j, x_dim(e->b, e->size))),
      x_sel(e->b, x_bin(e->b, SD_X_EQ, i, j), sd_x_f(e->b->k, t, 1), sd_x_f(e->b->k, t, 0)));
}

// Finds the row of the largest element of column k at or below k.
static void find_pivot(elim *e, sd_items *body, sd_expr *k) {
  sd_tb *b = e->b;
  for (int pass = 0; pass < 2; pass++) {
    sd_nest *nest = nest_in(e, body);
    sd_expr *zero = axis_of(e, nest, sd_dim_const(b->dims, 1));
    x_axes red = {.n = 0};
    sd_expr *r = x_raxis(b, &red, "r", e->size), *x = x_un(b, SD_X_ABS, get(e, e->a, at(e, r, k)));
    sd_expr *below = x_bin(b, SD_X_LE, k, r);
    if (!pass) {
      put(e, nest, e->best, zero, x_reduce(b, SD_R_MAX, &red, x_sel(b, below, x, x_num(b, x, -1))));
    } else {
      sd_expr *is = x_and(b, below, x_bin(b, SD_X_EQ, x, get(e, e->best, x_int(b, 0))));
      sd_expr *first = x_reduce(b, SD_R_MIN, &red, x_sel(b, is, r, x_dim(b, e->size)));
      put(e, nest, e->pivot, zero, x_sel(b, x_bin(b, SD_X_LT, first, x_dim(b, e->size)), first, k));
    }
  }
}

static void exchange_rows(elim *e, sd_items *body, sd_expr *k) {
  sd_expr *p = sd_x_index(e->b->k, get(e, e->pivot, x_int(e->b, 0)), e->size);
  for (int step = 0; step < 3; step++) {
    sd_nest *nest = nest_in(e, body);
    sd_expr *j = axis_of(e, nest, e->width);
    if (step == 0) put(e, nest, e->row, j, get(e, e->a, at(e, k, j)));
    if (step == 1) put(e, nest, e->a, at(e, k, j), get(e, e->a, at(e, p, j)));
    if (step == 2) put(e, nest, e->a, at(e, p, j), get(e, e->row, j));
  }
}

static void eliminate(elim *e, sd_items *body, sd_expr *k) {
  sd_tb *b = e->b;
  bool inverse = e->width != e->size;
  sd_nest *nest = nest_in(e, body);
  sd_expr *i = axis_of(e, nest, e->size), *pivot = get(e, e->a, at(e, k, k));
  sd_expr *f = x_div(b, get(e, e->a, at(e, i, k)), pivot),
          *others = x_bin(b, inverse ? SD_X_NE : SD_X_LT, k, i);
  sd_expr *zero = x_num(b, pivot, 0);
  if (!inverse)
    others = x_and(b, others, x_bin(b, SD_X_NE, pivot, zero)); // a singular matrix has determinant 0
  else
    f = x_sel(b, others, f, x_sub(b, x_num(b, pivot, 1), x_div(b, x_num(b, pivot, 1), pivot)));
  put(e, nest, e->factor, i,
      inverse ? f : x_sel(b, others, f, zero)); // row k of an inverse: x - (1 - 1/p) x = x / p
  nest = nest_in(e, body);
  sd_expr *j = axis_of(e, nest, e->width);
  put(e, nest, e->row, j, get(e, e->a, at(e, k, j)));
  nest = nest_in(e, body);
  i = axis_of(e, nest, e->size), j = axis_of(e, nest, e->width);
  put(e, nest, e->a, at(e, i, j),
      x_sub(b, get(e, e->a, at(e, i, j)), x_mul(b, get(e, e->factor, i), get(e, e->row, j))));
}

static sard_status *run(sd_tb *b, const sd_node *n, bool inverse) {
  elim e = {.b = b, .n = n, .size = n->in[0]->dims[n->in[0]->rank - 1]};
  sd_dtype t = sd_compute_type(n->in[0]->dtype);
  sd_dim one = sd_dim_const(b->dims, 1);
  e.width = inverse ? sd_dim_mul(b->dims, e.size, sd_dim_const(b->dims, 2)) : e.size;
  for (int d = 0; d < n->in[0]->rank - 2 || !d; d++) {
    sd_axis *a = sd_kernel_axis(b->k, "m", n->in[0]->rank > 2 ? n->in[0]->dims[d] : one);
    sd_vec_push(b->k->arena, &b->k->grid, a);
    e.batch[d] = x_axis(b, a);
  }
  e.a = sd_tb_local(b, t, sd_dim_mul(b->dims, e.size, e.width));
  e.row = sd_tb_local(b, t, e.width), e.factor = sd_tb_local(b, t, e.size), e.best = sd_tb_local(b, t, one);
  e.pivot = sd_tb_local(b, SD_I64, one), e.det = sd_tb_local(b, t, one);
  load_matrix(&e);
  sd_nest *nest = nest_in(&e, NULL);
  put(&e, nest, e.det, axis_of(&e, nest, one), sd_x_f(b->k, t, 1));
  sd_axis *step = sd_kernel_axis(b->k, "k", e.size);
  sd_items *body = sd_kernel_loop(b->k, NULL, step);
  sd_expr *k = x_axis(b, step), *zero = x_int(b, 0);
  find_pivot(&e, body, k);
  exchange_rows(&e, body, k);
  nest = nest_in(&e, body);
  sd_expr *d = x_mul(b, get(&e, e.det, zero), get(&e, e.a, at(&e, k, k)));
  put(&e, nest, e.det, axis_of(&e, nest, one),
      x_sel(b, x_bin(b, SD_X_EQ, get(&e, e.pivot, zero), k), d, x_un(b, SD_X_NEG, d)));
  eliminate(&e, body, k);
  nest = nest_in(&e, NULL);
  sd_buf *y = sd_tb_out(b, n, 0);
  if (!inverse) {
    sd_expr *i = axis_of(&e, nest, one);
    put(&e, nest, y, x_add(b, sd_tb_offset(b, n->out[0], e.batch), i), get(&e, e.det, zero));
    return NULL;
  }
  int rank = n->in[0]->rank;
  e.batch[rank - 2] = axis_of(&e, nest, e.size), e.batch[rank - 1] = axis_of(&e, nest, e.size);
  put(&e, nest, y, sd_tb_offset(b, n->out[0], e.batch),
      get(&e, e.a, at(&e, e.batch[rank - 2], x_add(b, e.batch[rank - 1], x_dim(b, e.size)))));
  return NULL;
}

sard_status *sd_nests_det(sd_tb *b, const sd_node *n) { return run(b, n, false); }
sard_status *sd_nests_inverse(sd_tb *b, const sd_node *n) { return run(b, n, true); }
