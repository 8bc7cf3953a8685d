// Bodies of the conversions Cast, CastLike, BitCast, sard.Bits, with the rules for eight-bit and smaller floats.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

// Narrow floats: largest value, and the value from which on rounding leaves the format.
typedef struct narrow { sd_dtype dtype; double max, over; bool finite; } narrow; // finite: it has no NaN and no infinity
static const narrow narrow_floats[] = {
    {SD_F8E4M3FN, 448, 464, false},       {SD_F8E4M3FNUZ, 240, 248, false}, {SD_F8E5M2, 57344, 61440, false},
    {SD_F8E5M2FNUZ, 57344, 61440, false}, {SD_F4E2M1, 6, 7, true},          {SD_F6E2M3, 7.5, 7.75, true},
    {SD_F6E3M2, 28, 30, true},
};

static const narrow *narrow_of(sd_dtype t) {
  for (size_t i = 0; i < sizeof narrow_floats / sizeof *narrow_floats; i++)
    if (narrow_floats[i].dtype == t) return &narrow_floats[i];
  return NULL;
}

// What lies outside becomes the largest value; where the cast does not saturate infinity, or NaN where there is none.
static sd_expr *to_narrow(sd_tb *b, const narrow *f, sd_expr *x, bool saturate) {
  if (f->finite) x = x_sel(b, x_un(b, SD_X_ISNAN, x), x_num(b, x, -0.0), x);
  if (!x) return NULL;
  if (saturate || f->finite) return x_max(b, x_min(b, x, x_num(b, x, f->max)), x_num(b, x, -f->max));
  sd_expr *size = x_un(b, SD_X_ABS, x), *limit = x_num(b, x, f->over);
  // a tie goes to the even mantissa: only E4M3FN's largest one is even
  sd_expr *over = f->dtype == SD_F8E4M3FN ? x_bin(b, SD_X_LT, limit, size) : x_bin(b, SD_X_LE, limit, size);
  sd_expr *beyond = x_num(b, x, NAN);
  if (f->dtype == SD_F8E5M2) {
    sd_expr *below = x_bin(b, SD_X_LT, x, x_num(b, x, 0));
    beyond = x_sel(b, below, x_num(b, x, -INFINITY), x_num(b, x, INFINITY));
  }
  return x_sel(b, over, beyond, x);
}

// Registers hold f32 where the type is narrower, so that a conversion which is not stored has to round there.
sd_expr *sd_x_round_to(sd_tb *b, sd_dtype t, sd_expr *x) {
  static const struct { sd_dtype dtype; int mantissa, least; } formats[] = {
      {SD_F16, 10, -14},      {SD_BF16, 7, -126},        {SD_F8E4M3FN, 3, -6}, {SD_F8E4M3FNUZ, 3, -7},
      {SD_F8E5M2, 2, -14},    {SD_F8E5M2FNUZ, 2, -15},   {SD_F4E2M1, 1, 0},
      {SD_F6E2M3, 3, 0},      {SD_F6E3M2, 2, -2},
  };
  size_t i = 0, n = sizeof formats / sizeof *formats;
  while (i < n && formats[i].dtype != t) i++;
  if (!x || i == n || x->dtype != SD_F32) return x;
  int drop = 23 - formats[i].mantissa, least = formats[i].least;
  sd_expr *bits = sd_x_bits(b->k, SD_U32, x), *one = sd_x_i(b->k, SD_U32, 1);
  sd_expr *odd = x_bin(b, SD_X_AND, x_bin(b, SD_X_SHR, bits, sd_x_i(b->k, SD_U32, drop)), one);
  sd_expr *up = x_add(b, x_add(b, bits, sd_x_i(b->k, SD_U32, (1 << (drop - 1)) - 1)), odd);
  sd_expr *r = sd_x_bits(b->k, SD_F32, x_bin(b, SD_X_AND, up, sd_x_i(b->k, SD_U32, 0xffffffff << drop & 0xffffffff)));
  if (t == SD_F16) { // the others saturate, or overflow as f32 does
    r = x_sel(b, x_bin(b, SD_X_LT, x_num(b, r, 65504), r), x_num(b, r, INFINITY), r);
    r = x_sel(b, x_bin(b, SD_X_LT, r, x_num(b, r, -65504)), x_num(b, r, -INFINITY), r);
  }
  if (t != SD_BF16) { // below the least exponent all steps are of one size: that of the last place of `grid`
    sd_expr *grid = x_num(b, x, ldexp(1.5, drop + least));
    sd_expr *small = x_sub(b, x_add(b, x, grid), grid);
    r = x_sel(b, x_bin(b, SD_X_LT, x_un(b, SD_X_ABS, x), x_num(b, x, ldexp(1, least))), small, r);
  }
  return x_sel(b, x_un(b, SD_X_ISNAN, x), x, r);
}

// Powers of two: the exponent of an f32, raised where the mantissa asks for it. What lies outside of 2^-127 to 2^127
// becomes the nearer of them, or NaN where the cast does not saturate.
static sd_expr *to_e8m0(sd_tb *b, sd_expr *x, const char *mode, bool saturate) {
  x = x_cast(b, SD_F32, x);
  if (!x) return NULL;
  sd_expr *bits = sd_x_bits(b->k, SD_U32, x);
  sd_expr *exponent = x_bin(b, SD_X_SHR, bits, sd_x_i(b->k, SD_U32, 23));
  sd_expr *mantissa = x_bin(b, SD_X_AND, bits, sd_x_i(b->k, SD_U32, 0x7fffff));
  int64_t from = !strcmp(mode, "up") ? 1 : !strcmp(mode, "nearest") ? 0x400000 : 0x800000;
  int64_t least = !strcmp(mode, "up") ? 0x400001 : !strcmp(mode, "nearest") ? 0x600000 : 0x800000; // below 2^-126: on from 2^-127
  sd_expr *denormal = x_bin(b, SD_X_EQ, exponent, sd_x_i(b->k, SD_U32, 0));
  sd_expr *up = x_bin(b, SD_X_LE, x_sel(b, denormal, sd_x_i(b->k, SD_U32, least), sd_x_i(b->k, SD_U32, from)), mantissa);
  exponent = x_add(b, exponent, x_cast(b, SD_U32, up));
  sd_expr *finite = x_bin(b, SD_X_LT, exponent, sd_x_i(b->k, SD_U32, 255));
  sd_expr *power = sd_x_bits(b->k, SD_F32, x_bin(b, SD_X_SHL, exponent, sd_x_i(b->k, SD_U32, 23)));
  if (saturate) return x_sel(b, finite, power, x);
  sd_expr *inside = x_and(b, finite, x_bin(b, SD_X_LE, x_num(b, x, 0x1p-127), x));
  return x_sel(b, inside, power, x_num(b, x, NAN));
}

sd_expr *sd_pull_cast(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *x = sd_tb_load(b, n, 0, idx);
  sd_dtype to = n->out[out]->dtype, from = n->in[0]->dtype, ct = sd_compute_type(to);
  const narrow *f = narrow_of(to);
  if (!x) return NULL;
  // a float goes to a narrow integer by way of i32: what is out of range wraps as in C
  if (sd_dtype_is_float(from) && sd_dtype_is_int(to) && sd_dtype_bits(to) < 32) x = x_cast(b, SD_I32, x);
  x = x_cast(b, ct, x);
  if (from != to && f) x = to_narrow(b, f, x, sd_node_int(n, "saturate", 1) != 0);
  if (from != to && to == SD_F8E8M0) return to_e8m0(b, x, sd_node_str(n, "round_mode", "up"),
                                                     sd_node_int(n, "saturate", 1) != 0);
  return from != to ? sd_x_round_to(b, to, x) : x;
}

// ---- BitCast ----
static bool has_bits(sd_dtype t) { return sd_dtype_of_tensors(t) && t != SD_STRING && !sd_dtype_repacked(t); }

sard_status *sd_shape_bits(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  sd_dtype from = n->in[0]->dtype;
  int64_t type = sd_node_int(n, "to", 0);
  if (!sd_dtype_of_tensors(type)) return SD_SH_ERR(n, MODEL, "attribute 'to' is %lld, which is no element type", (long long)type);
  sd_dtype to = (sd_dtype)type;
  if (!has_bits(from) || !has_bits(to) || sd_dtype_bits(from) != sd_dtype_bits(to))
    return SD_SH_ERR(n, MODEL, "bits of %s cannot be read as %s", sd_dtype_name(from), sd_dtype_name(to));
  return sd_sh_set(n, 0, to, n->in[0]->rank, n->in[0]->dims);
}

static bool computed(sd_dtype t) { return sd_compute_type(t) == sd_dtype_part(t); }

// Types that registers do not hold as they are stored: from memory to memory.
sard_status *sd_shape_bitcast(sd_node *n) {
  SD_TRY(sd_shape_bits(n));
  sd_dtype to = n->out[0] ? n->out[0]->dtype : SD_DT_NONE;
  if (computed(n->in[0]->dtype) && computed(to)) return NULL;
  XG_SCOPE xg g = {.at = n};
  return sd_xg_become(&g, sd_xg_fmt(&g, "sard.Bits to=%d", (int)to), n->in, 1);
}

// The parts of a C64, as the bits of a U64 and back: the real part is in the low ones.
static sd_expr *bits_of_parts(sd_tb *b, const sd_node *n, sd_expr *const *idx) {
  sd_expr *half[2], *part = b->part;
  for (int i = 0; i < 2; i++) {
    b->part = x_int(b, i);
    sd_expr *x = sd_tb_load(b, n, 0, idx);
    half[i] = x ? x_cast(b, SD_U64, sd_x_bits(b->k, SD_U32, x)) : NULL;
  }
  b->part = part;
  return x_bin(b, SD_X_OR, half[0], x_bin(b, SD_X_SHL, half[1], sd_x_i(b->k, SD_U64, 32)));
}

static sd_expr *part_of_bits(sd_tb *b, sd_expr *x) {
  sd_expr *shift = x_cast(b, SD_U64, x_mul(b, b->part, x_int(b, 32)));
  return x_cast(b, SD_U32, x_bin(b, SD_X_SHR, sd_x_bits(b->k, SD_U64, x), shift));
}

sd_expr *sd_pull_bitcast(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_dtype from = n->in[0]->dtype, to = n->out[out]->dtype;
  bool joins = sd_dtype_parts(from) > sd_dtype_parts(to), splits = sd_dtype_parts(to) > sd_dtype_parts(from);
  sd_expr *x = joins ? bits_of_parts(b, n, idx) : sd_tb_load(b, n, 0, idx);
  if (splits && x) x = part_of_bits(b, x);
  return x ? sd_x_bits(b->k, sd_dtype_part(to), x) : NULL;
}

// ---- sard.Bits ----
static sd_dtype raw_type(int bits) { return bits == 2 ? SD_U2 : bits == 4 ? SD_U4 : bits == 8 ? SD_U8 : SD_U16; }

sard_status *sd_nests_bits(sd_tb *b, const sd_node *n) {
  const sd_value *x = n->in[0], *y = n->out[0];
  sd_dtype raw = raw_type(sd_dtype_bits(x->dtype));
  if (sd_dtype_bits(x->dtype) > 16) return SD_SH_ERR(n, UNSUPPORTED, "bits of %s", sd_dtype_name(x->dtype));
  sd_buf *from = sd_tb_in(b, n, 0, raw), *to = sd_tb_out(b, n, 0);
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *at[SD_MAX_RANK];
  to->dtype = raw;
  for (int d = 0; d < x->rank; d++) {
    bool one = sd_dim_is(b->dims, x->dims[d], 1);
    sd_axis *a = one ? NULL : sd_kernel_axis(b->k, "i", x->dims[d]);
    if (a) sd_nest_axis(nest, a);
    at[d] = a ? x_axis(b, a) : x_int(b, 0);
  }
  sd_nest_store(b->k, nest, to, sd_tb_offset(b, y, at), sd_x_load(b->k, from, sd_tb_offset(b, x, at), NULL), NULL);
  return NULL;
}
