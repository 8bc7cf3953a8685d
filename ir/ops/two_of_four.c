// sard.TwoOfFour: a factor kept without zeros, as a tensor (ir/two_of_four.h).
#include "ir/two_of_four.h"

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

enum { VALUE, PLACES };

// Words of a row of places that count.
static sd_dim words(const sd_node *n) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_value *v = n->in[VALUE];
  sd_dim steps = sd_dim_const(t, 2);
  for (int i = 1; i < v->rank; i++) steps = sd_dim_mul(t, steps, v->dims[i]);
  return sd_dim_floordiv(t, steps, sd_dim_const(t, SD_PLACES_STEPS));
}

sard_status *sd_shape_two_of_four(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, VALUE, 2, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, PLACES, 2, 2));
  const sd_value *v = n->in[VALUE], *p = n->in[PLACES];
  if (p->dtype != SD_U16) return SD_SH_ERR(n, MODEL, "places are %s, not u16", sd_dtype_name(p->dtype));
  memcpy(dims, v->dims, sizeof dims);
  dims[v->rank - 1] = sd_dim_mul(t, v->dims[v->rank - 1], sd_dim_const(t, 2));
  if (!sd_dim_multiple_of(t, dims[v->rank - 1], SD_PLACES_STEPS))
    return SD_SH_ERR(n, MODEL, "the steps of a row are no multiple of %d", SD_PLACES_STEPS);
  sd_dim row = sd_dim_mul(t, sd_dim_ceildiv(t, words(n), sd_dim_const(t, SD_PLACES_ROW)), sd_dim_const(t, SD_PLACES_ROW));
  SD_TRY(sd_sh_same(n, p->dims[0], v->dims[0], "rows of values and of places", NULL));
  SD_TRY(sd_sh_same(n, p->dims[1], row, "words of a row", NULL));
  return sd_sh_set(n, 0, v->dtype, v->rank, dims);
}

static sd_expr *divided(sd_tb *b, sd_expr *x, int64_t by) { return x_bin(b, SD_X_FLOORDIV, x, x_int(b, by)); }

sd_expr *sd_pull_two_of_four(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  const sd_value *v = n->in[VALUE];
  sd_expr *at[SD_MAX_RANK], *k = idx[v->rank - 1], *row = x_int(b, 0);
  if (!k) return NULL;
  memcpy(at, idx, sizeof *at * (size_t)v->rank);
  for (int i = 1; i + 1 < v->rank; i++) row = x_add(b, row && idx[i] ? sd_x_mul_dim(b->k, row, v->dims[i]) : NULL, idx[i]);
  if (!row) return NULL;
  sd_dim each = sd_dim_floordiv(b->dims, n->out[0]->dims[v->rank - 1], sd_dim_const(b->dims, SD_PLACES_STEPS));
  sd_expr *word = x_add(b, sd_x_mul_dim(b->k, row, each), divided(b, k, SD_PLACES_STEPS));
  sd_expr *two = x_mul(b, divided(b, k, 4), x_int(b, 2));
  at[v->rank - 1] = two;
  sd_expr *first = sd_tb_load(b, n, VALUE, at);
  at[v->rank - 1] = x_add(b, two, x_int(b, 1));
  sd_expr *second = sd_tb_load(b, n, VALUE, at), *places = sd_tb_load(b, n, PLACES, (sd_expr *[]){idx[0], word});
  return first && second && places ? sd_x_two_of_four(b->k, k, places, first, second) : NULL;
}

static sd_expr *i32(sd_kernel *k, sd_expr *x) { return sd_x_cast(k, SD_I32, x); }

static sd_expr *is_at(sd_kernel *k, sd_expr *bits, int shift, sd_expr *place) {
  sd_expr *mine = shift ? sd_x_bin(k, SD_X_SHR, bits, sd_x_i(k, SD_I32, shift)) : bits;
  return sd_x_bin(k, SD_X_EQ, sd_x_bin(k, SD_X_AND, mine, sd_x_i(k, SD_I32, 3)), place);
}

sd_expr *sd_x_two_of_four(sd_kernel *k, sd_expr *at, sd_expr *word, sd_expr *first, sd_expr *second) {
  sd_expr *four = sd_x_i(k, SD_I64, 4);
  sd_expr *group = sd_x_bin(k, SD_X_MOD, sd_x_bin(k, SD_X_FLOORDIV, at, four), four);
  sd_expr *bits = sd_x_bin(k, SD_X_SHR, i32(k, word), i32(k, sd_x_bin(k, SD_X_MUL, group, four)));
  sd_expr *place = i32(k, sd_x_bin(k, SD_X_MOD, at, four));
  sd_expr *zero = sd_dtype_is_float(first->dtype) ? sd_x_f(k, first->dtype, 0) : sd_x_i(k, first->dtype, 0);
  return sd_x_sel(k, is_at(k, bits, 0, place), first, sd_x_sel(k, is_at(k, bits, 2, place), second, zero));
}
