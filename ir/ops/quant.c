// Quantization: QuantizeLinear and its inverse in all layouts of scales, dynamic quantization.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

// ---- layouts of scales ----
// Scale or zero point s for element idx of x: one for all, one per index of an axis, or one per block along the axis.
static sard_status *scale_layout(const sd_node *n, int *out_axis, int64_t *out_block) {
  const sd_value *x = n->in[0], *s = n->in[1];
  *out_axis = -1;
  *out_block = sd_node_int(n, "block_size", 0);
  if (s->rank == 0 || (s->rank == 1 && sd_dim_is(sd_sh_tab(n), s->dims[0], 1) && !*out_block)) return NULL;
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", 1), x->rank, out_axis));
  if (*out_block < 0 || (*out_block ? s->rank != x->rank : s->rank != 1))
    return SD_SH_ERR(n, MODEL, "operand '%s' has rank %d with block_size %lld", sd_sh_operand(n, 1), s->rank,
                     (long long)*out_block);
  return NULL;
}

static sard_status *check_layout(const sd_node *n) {
  int axis;
  int64_t block;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 0, SD_MAX_RANK));
  SD_TRY(scale_layout(n, &axis, &block));
  const sd_value *x = n->in[0], *s = n->in[1], *z = sd_sh_in(n, 2);
  for (int i = 0; axis >= 0 && i < s->rank; i++) {
    int of = block ? i : axis;
    sd_dim want = x->dims[of];
    if (block && i == axis) want = sd_dim_ceildiv(sd_sh_tab(n), want, sd_dim_const(sd_sh_tab(n), block));
    // a length that only the run knows may turn out to be 1: one scale for all
    if (block || sd_dim_is_const(sd_sh_tab(n), s->dims[i], NULL)) SD_TRY(sd_sh_same(n, s->dims[i], want, "scale and data", NULL));
    else SD_TRY(sd_sh_bcast_dim(n, want, s->dims[i], &want));
  }
  if (z && z->rank != s->rank && axis >= 0)
    return SD_SH_ERR(n, MODEL, "scale of rank %d but zero point of rank %d", s->rank, z->rank);
  for (int i = 0; axis >= 0 && z && i < z->rank; i++)
    SD_TRY(sd_sh_same(n, s->dims[i], z->dims[i], "scale and zero point", NULL));
  if (z && axis < 0) SD_TRY(sd_sh_one(n, 2));
  return NULL;
}

static sd_expr *load_scale(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx) {
  int axis;
  int64_t block;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = scale_layout(n, &axis, &block);
  if (st) return sd_tb_fail(b, st);
  const sd_value *s = n->in[operand], *x = n->in[0];
  for (int i = 0; i < s->rank; i++) {
    int of = block ? i : axis;
    bool blocked = block && i == axis;
    if (axis < 0) at[i] = x_int(b, 0);
    else if (blocked) at[i] = x_bin(b, SD_X_FLOORDIV, idx[i], x_int(b, block));
    else at[i] = sd_sh_bcast_index(b->k, idx[of], s->dims[i], x->dims[of]); // a symbolic length may turn out to be 1
  }
  return sd_tb_load(b, n, operand, at);
}

// ---- ranges of element types ----
typedef struct range { sd_dtype dtype; double low, high; } range;

// Largest finite values of the narrow float types; integers follow from their bits.
static bool limits_of(sd_dtype t, range *out) {
  static const range floats[] = {{SD_F8E4M3FN, -448, 448},     {SD_F8E4M3FNUZ, -240, 240}, {SD_F8E5M2, -57344, 57344},
                                 {SD_F8E5M2FNUZ, -57344, 57344}, {SD_F4E2M1, -6, 6},
                                 {SD_F6E2M3, -7.5, 7.5},        {SD_F6E3M2, -28, 28}};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
    if (floats[i].dtype == t) return *out = floats[i], true;
  int bits = sd_dtype_bits(t);
  if (!sd_dtype_is_int(t) || bits > 32) return false;
  bool sign = sd_dtype_kind_of(t) == SD_DK_I;
  *out = (range){t, sign ? -ldexp(1, bits - 1) : 0, ldexp(1, sign ? bits - 1 : bits) - 1};
  return true;
}

// ---- QuantizeLinear ----
static sard_status *quantized_type(const sd_node *n, sd_dtype *out) {
  int64_t asked = sd_node_int(n, "output_dtype", 0);
  range r;
  const sd_value *z = sd_sh_in(n, 2);
  *out = z ? z->dtype : asked ? (sd_dtype)asked : SD_U8;
  if (z && asked && asked != (int64_t)z->dtype)
    return SD_SH_ERR(n, MODEL, "output_dtype is %lld, the zero point %s", (long long)asked, sd_dtype_name(z->dtype));
  if (!limits_of(*out, &r)) return SD_SH_ERR(n, UNSUPPORTED, "quantization to %s", sd_dtype_name(*out));
  return NULL;
}

sard_status *sd_shape_quantize(sd_node *n) {
  sd_dtype t;
  SD_TRY(check_layout(n));
  SD_TRY(quantized_type(n, &t));
  return sd_sh_set(n, 0, t, n->in[0]->rank, n->in[0]->dims);
}

// The same for integers of at most 16 bits, limited before they are rounded, so that rounding gives an integer at once; the
// lowest one for NaN. Limits are integers, which rounding does not move.
static sd_expr *to_small(sd_tb *b, const range *r, sd_expr *q, sd_expr *zero_point) {
  sd_expr *low = x_num(b, q, r->low), *high = x_num(b, q, r->high), *z = NULL;
  int64_t zero;
  if (zero_point && !(sd_x_const_value(zero_point, NULL, &zero) && zero == 0)) z = zero_point;
  if (z) low = x_sub(b, low, x_cast(b, q->dtype, z)), high = x_sub(b, high, x_cast(b, q->dtype, z));
  q = x_min(b, x_sel(b, x_bin(b, SD_X_LT, low, q), q, low), high);
  q = x_cast(b, SD_I32, x_un(b, SD_X_ROUND, q));
  return x_cast(b, r->dtype, z ? x_add(b, q, x_cast(b, SD_I32, z)) : q);
}

// Rounded, shifted and limited to the range of type t. Wide integers need f64 to hold their limits.
static sd_expr *to_range(sd_tb *b, sd_dtype t, sd_expr *q, sd_expr *zero_point) {
  range r;
  if (!q || !limits_of(t, &r)) return NULL;
  bool integer = sd_dtype_is_int(t);
  if (integer && sd_dtype_bits(t) >= 8 && sd_dtype_bits(t) <= 16) return to_small(b, &r, q, zero_point);
  if (integer && sd_dtype_bits(t) > 16) q = x_cast(b, SD_F64, q);
  if (integer) q = x_un(b, SD_X_ROUND, q);
  if (zero_point) q = x_add(b, q, x_cast(b, q->dtype, zero_point));
  q = x_max(b, x_min(b, q, x_num(b, q, r.high)), x_num(b, q, r.low));
  if (integer && sd_dtype_bits(t) < 32) q = x_cast(b, SD_I32, q);
  return sd_x_round_to(b, t, x_cast(b, sd_compute_type(t), q));
}

// x / s, an f32, for one s at all points, before it is limited and rounded: the quotient by the reciprocal r and one step of
// correction, which gives the bits of a division (Markstein: Computation of elementary functions on the IBM RISC System/6000, 1990) where
// nothing overflows or gets lost. So a small s is raised, with x, and what is beyond all limits stays what it is.
static sd_expr *quotient(sd_tb *b, sd_expr *x, sd_expr *s) {
  if (!x || !s || x->dtype != SD_F32 || s->dtype != SD_F32) return x_div(b, x, s);
  sd_expr *raise = x_sel(b, x_bin(b, SD_X_LT, x_un(b, SD_X_ABS, s), x_num(b, s, 0x1p-60)), x_num(b, s, 0x1p66), x_num(b, s, 1));
  s = x_mul(b, s, raise), x = x_mul(b, x, raise);
  sd_expr *r = x_div(b, x_num(b, s, 1), s), *q = x_mul(b, x, r);
  sd_expr *near = sd_x_fma(b->k, sd_x_fma(b->k, x_un(b, SD_X_NEG, q), s, x), r, q);
  return x_sel(b, x_bin(b, SD_X_LT, x_un(b, SD_X_ABS, q), x_num(b, q, 0x1p24)), near, q);
}

sd_expr *sd_pull_quantize(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *x = sd_tb_load(b, n, 0, idx), *s = load_scale(b, n, 1, idx);
  if (!x || !s) return NULL;
  bool wide = x->dtype == SD_F64 || s->dtype == SD_F64 || sd_dtype_is_int(s->dtype);
  sd_dtype ft = wide ? SD_F64 : SD_F32;
  bool single = sd_value_is_single(n->in[1]) && !n->in[1]->data;
  sd_expr *q = (single ? quotient : x_div)(b, x_cast(b, ft, x), x_cast(b, ft, s));
  return to_range(b, n->out[out]->dtype, q, sd_tb_has(n, 2) ? load_scale(b, n, 2, idx) : NULL);
}

// ---- DequantizeLinear ----
sard_status *sd_shape_dequantize(sd_node *n) {
  SD_TRY(check_layout(n));
  int64_t asked = sd_node_int(n, "output_dtype", 0);
  sd_dtype t = asked ? (sd_dtype)asked : n->in[1]->dtype;
  if (!sd_dtype_is_float(t)) return SD_SH_ERR(n, MODEL, "output type %s", sd_dtype_name(t));
  return sd_sh_set(n, 0, t, n->in[0]->rank, n->in[0]->dims);
}

sd_expr *sd_pull_dequantize(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *x = sd_tb_load(b, n, 0, idx), *s = load_scale(b, n, 1, idx);
  if (!x || !s) return NULL;
  sd_dtype ft = sd_compute_type(n->out[out]->dtype);
  if (sd_tb_has(n, 2)) { // the difference of small integers is taken in i32, where it is exact
    sd_dtype wide = sd_dtype_is_float(x->dtype) ? x->dtype : sd_dtype_bits(x->dtype) > 16 ? SD_I64 : SD_I32;
    x = x_sub(b, x_cast(b, wide, x), x_cast(b, wide, load_scale(b, n, 2, idx)));
  }
  return x_mul(b, x_cast(b, ft, x), x_cast(b, ft, s));
}

// ---- QuantizeRows: i8, from the largest size of a row ----
sard_status *sd_shape_quantize_rows(sd_node *n) {
  const sd_value *x = n->in[0];
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  if (x->dtype != SD_F32) return SD_SH_ERR(n, UNSUPPORTED, "rows of %s", sd_dtype_name(x->dtype));
  SD_TRY(sd_sh_set(n, 0, SD_I8, x->rank, x->dims));
  return sd_sh_set(n, 1, SD_F32, x->rank - 1, x->dims);
}

// Rows below 2^-100 become 0: the reciprocal of their scale would not be finite.
sd_expr *sd_pull_quantize_rows(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  x_axes l = {0};
  sd_expr *at[SD_MAX_RANK];
  int last = n->in[0]->rank - 1;
  memcpy(at, idx, sizeof *at * (size_t)last);
  if (!(at[last] = x_raxis(b, &l, "r", n->in[0]->dims[last]))) return NULL;
  sd_expr *most = x_reduce(b, SD_R_MAX, &l, x_un(b, SD_X_ABS, sd_tb_load(b, n, 0, at)));
  if (out == 1 || !most) return most ? x_div(b, most, x_num(b, most, 127)) : NULL;
  sd_expr *small = x_bin(b, SD_X_LT, most, x_num(b, most, 0x1p-100));
  sd_expr *by = x_sel(b, small, x_num(b, most, 0), x_div(b, x_num(b, most, 127), most));
  return x_cast(b, SD_I8, x_cast(b, SD_I32, x_un(b, SD_X_ROUND, x_mul(b, sd_tb_load(b, n, 0, idx), by))));
}

// ---- DynamicQuantizeLinear: u8 with the range of the data, which always holds 0 ----
sard_status *sd_shape_dynamic_quantize(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_set(n, 0, SD_U8, n->in[0]->rank, n->in[0]->dims));
  SD_TRY(sd_sh_set(n, 1, SD_F32, 0, NULL));
  return sd_sh_set(n, 2, SD_U8, 0, NULL);
}

// Of an operand, or of its part at idx[0..from) of the first dims, and of 0.
static sd_expr *extreme(sd_tb *b, const sd_node *n, uint32_t operand, sd_rop rop, sd_expr *const *idx, int from) {
  x_axes l = {0};
  sd_expr *at[SD_MAX_RANK];
  const sd_value *v = n->in[operand];
  for (int i = 0; i < v->rank; i++)
    if (!(at[i] = i < from ? idx[i] : x_raxis(b, &l, "r", v->dims[i]))) return NULL;
  sd_expr *x = x_reduce(b, rop, &l, sd_tb_load(b, n, operand, at));
  if (!x) return NULL;
  return rop == SD_R_MAX ? x_max(b, x, x_num(b, x, 0)) : x_min(b, x, x_num(b, x, 0));
}

sd_expr *sd_pull_dynamic_quantize(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  bool scales = n->n_out == 2; // of the ranges of rows
  if (scales) out++;
  sd_expr *high = extreme(b, n, scales, SD_R_MAX, NULL, 0), *low = extreme(b, n, 0, SD_R_MIN, NULL, 0);
  sd_expr *scale = x_sub(b, high, low);
  if (!scale) return NULL;
  scale = x_div(b, scale, x_num(b, scale, 255));
  sd_expr *flat = x_bin(b, SD_X_EQ, scale, x_num(b, scale, 0)); // all elements are 0
  scale = x_sel(b, flat, x_num(b, scale, 1), scale);
  if (out == 1) return scale;
  sd_expr *zero = to_range(b, SD_U8, x_un(b, SD_X_NEG, x_div(b, low, scale)), NULL);
  if (out == 2) return zero;
  return to_range(b, SD_U8, quotient(b, sd_tb_load(b, n, 0, idx), scale), zero);
}

// ---- the same in steps: the ranges of rows, and what follows from them for all ----
sard_status *sd_shape_row_range(sd_node *n) {
  const sd_value *x = n->in[0];
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  for (uint32_t i = 0; i < 2; i++) SD_TRY(sd_sh_set(n, i, x->dtype, x->rank - 1, x->dims));
  return NULL;
}

sd_expr *sd_pull_row_range(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  return extreme(b, n, 0, out ? SD_R_MAX : SD_R_MIN, idx, n->in[0]->rank - 1);
}

sard_status *sd_shape_range_scale(sd_node *n) {
  for (uint32_t i = 0; i < 2; i++) SD_TRY(sd_sh_rank(n, i, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_set(n, 0, SD_F32, 0, NULL));
  return sd_sh_set(n, 1, SD_U8, 0, NULL);
}
