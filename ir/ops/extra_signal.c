// Signals: DFT and STFT as products with tables of angles, windows, mel weights.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

static const double turn = 6.283185307179586;

static sd_value *num(xg *g, sd_dtype t, double v) { return sd_xg_num(g, t, v); }

static sd_value *range(xg *g, sd_dim n) {
  sd_dim zero = sd_dim_const(sd_sh_tab(g->at), 0), one = sd_dim_const(sd_sh_tab(g->at), 1);
  return XG(g, "Range", sd_xg_dims(g, &zero, -1), sd_xg_dims(g, &n, -1), sd_xg_dims(g, &one, -1));
}

// ---- DFT ----
typedef struct dft {
  int axis;
  bool inverse, onesided, complex;
  bool open;           // real or complex is known at run time
  sd_dim N, rows, out; // length of the transform, input elements that count, output elements
  sd_dtype type;
} dft;

// An operand that is one size above 0.
static sard_status *positive(const sd_node *n, uint32_t operand, sd_dim *out) {
  sd_dimtab *t = sd_sh_tab(n);
  uint32_t count = 0;
  SD_TRY(sd_sh_elems(n, operand, out, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "operand '%s' must have one element", sd_sh_operand(n, operand));
  const sd_dimnode *d = sd_dim_get(t, *out);
  if (d->max < 1) return SD_SH_ERR(n, MODEL, "%s is %lld", sd_sh_operand(n, operand), (long long)d->max);
  if (d->op == SD_DIM_SYM && d->min < 1) sd_dim_set_range(t, *out, 1, d->max);
  return NULL;
}

// An axis that only the run knows: the dims before and behind it become one each.
static sard_status *dft_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *x = n->in[0], *in[3] = {x, n->in[2], NULL};
  uint32_t count = 0;
  int64_t last = 1, one = 1;
  sd_dim e[4];
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  sd_value *around = sd_xg_sizes(&g, SD_SIZES_AROUND, in, 2, &last, 1, 3);
  if (!around || !sd_value_elems(around, e, 3, &count)) return sd_xg_take(&g);
  e[3] = x->dims[x->rank - 1];
  sd_value *flat = sd_xg_reshape(&g, x, e, 4);
  sd_node *y = sd_xg_again(&g, (sd_value *[]){flat, sd_sh_in(n, 1), sd_xg_ints(&g, &one, -1)}, 3);
  if (!y) return sd_xg_take(&g);
  in[2] = y->out[0];
  return sd_xg_become(&g, "Reshape allowzero=1", (sd_value *[]){in[2], sd_xg_sizes(&g, SD_SIZES_REPLACED, in, 3, &last, 1, (uint32_t)x->rank)}, 2);
}

sard_status *sd_shape_dft(sd_node *n) { return sd_sh_open(n, 2) ? dft_open(n) : sd_shape_expanded(n); }

static sard_status *dft_read(const sd_node *n, dft *d) {
  sd_dimtab *t = sd_sh_tab(n);
  int64_t axis = -2, last = 0;
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  const sd_value *x = n->in[0];
  SD_TRY(sd_sh_int(n, 2, &axis));
  SD_TRY(sd_sh_axis(n, axis, x->rank, &d->axis));
  if (d->axis == x->rank - 1)
    return SD_SH_ERR(n, MODEL, "axis %lld is that of the complex numbers", (long long)axis);
  d->open = !sd_dim_is_const(t, x->dims[x->rank - 1], &last);
  if (!d->open && last != 1 && last != 2)
    return SD_SH_ERR(n, MODEL, "the last dim of the input is %lld, not 1 or 2", (long long)last);
  d->complex = d->open || last == 2;
  d->inverse = sd_node_int(n, "inverse", 0) != 0;
  d->onesided = sd_node_int(n, "onesided", 0) != 0;
  if (d->onesided && !d->inverse && last == 2) return SD_SH_ERR(n, MODEL, "onesided = 1 of complex numbers");
  sd_dim size = x->dims[d->axis], one = sd_dim_const(t, 1), two = sd_dim_const(t, 2);
  d->N = d->onesided && d->inverse ? sd_dim_mul(t, two, sd_dim_sub(t, size, one)) : size;
  if (sd_sh_in(n, 1)) SD_TRY(positive(n, 1, &d->N));
  if (sd_dim_lt(t, d->N, one) == 1) return SD_SH_ERR(n, MODEL, "a transform of length 0");
  sd_dim half = sd_dim_add(t, sd_dim_floordiv(t, d->N, two), one);
  d->rows = sd_dim_min(t, size, d->onesided && d->inverse ? half : d->N);
  d->out = d->onesided && !d->inverse ? half : d->N;
  d->type = SD_F64; // terms cancel: sums in f32 keep 1e-7 of the largest one
  return NULL;
}

// [rows, out] of 2 pi n k / N; n k is reduced modulo N as integers, so that long transforms stay exact.
static sd_value *angles(xg *g, const dft *d) {
  int64_t one = 1;
  sd_value *n = XG(g, "Unsqueeze", range(g, d->rows), sd_xg_ints(g, &one, 1)),
           *size = sd_xg_dims(g, &d->N, -1);
  sd_value *k = XG(g, "Mod", XG(g, "Mul", n, range(g, d->out)), size);
  return XG(g, "Mul", sd_xg_cast(g, d->type, k),
            XG(g, "Div", num(g, d->type, turn), sd_xg_cast(g, d->type, size)));
}

// Factors of the tables: 1/N of an inverse; of a one-sided one, all but the first and the middle frequency
// count twice.
static sd_value *factors(xg *g, const dft *d) {
  sd_value *by = XG(g, "Div", num(g, d->type, 1), sd_xg_cast(g, d->type, sd_xg_dims(g, &d->N, -1)));
  if (!d->onesided) return by;
  int64_t one = 1;
  sd_value *k = XG(g, "Unsqueeze", range(g, d->rows), sd_xg_ints(g, &one, 1));
  sd_value *first = XG(g, "Equal", k, num(g, SD_I64, 0));
  sd_value *middle = XG(g, "Equal", XG(g, "Mul", k, num(g, SD_I64, 2)), sd_xg_dims(g, &d->N, -1));
  return XG(g, "Mul", by, XG(g, "Where", XG(g, "Or", first, middle), num(g, d->type, 1), num(g, d->type, 2)));
}

// Component 0 or 1 of the signal with the transformed axis last.
static sd_value *component(xg *g, const dft *d, int64_t which, const char *perm) {
  const sd_value *x = g->at->in[0];
  sd_dim zero = sd_dim_const(sd_sh_tab(g->at), 0);
  int64_t axis = d->axis;
  sd_value *number = sd_xg_ints(g, &which, -1), *there = NULL;
  if (which && d->open) { // component 1, or 0 times component 0
    sd_dim more = sd_dim_sub(sd_sh_tab(g->at), x->dims[x->rank - 1], sd_dim_const(sd_sh_tab(g->at), 1));
    there = sd_xg_dims(g, &more, -1);
    number = XG(g, "Min", number, there);
  }
  sd_value *v = XG(g, sd_xg_fmt(g, "Gather axis=%d", x->rank - 1), g->at->in[0], number);
  if (d->rows != x->dims[d->axis])
    v = XG(g, "Slice", v, sd_xg_dims(g, &zero, 1), sd_xg_dims(g, &d->rows, 1), sd_xg_ints(g, &axis, 1));
  v = sd_xg_cast(g, d->type, v);
  if (there) v = XG(g, "Mul", v, sd_xg_cast(g, d->type, there));
  return *perm ? XG(g, sd_xg_fmt(g, "Transpose perm=%s", perm), v) : v;
}

// Permutation that exchanges `axis` with the last of `rank` dims; "" for none.
static const char *exchange(xg *g, int axis, int rank) {
  const char *p = "";
  if (axis == rank - 1) return p;
  for (int i = 0; i < rank; i++)
    p = sd_xg_fmt(g, "%s%s%d", p, i ? "," : "", i == axis ? rank - 1 : i == rank - 1 ? axis : i);
  return p;
}

static sd_value *times(xg *g, sd_value *x, sd_value *table) { return XG(g, "MatMul", x, table); }

sard_status *sd_rewrite_dft(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  dft d;
  SD_TRY(dft_read(n, &d));
  int rank = n->in[0]->rank - 1;
  const char *perm = exchange(&g, d.axis, rank);
  sd_value *a = angles(&g, &d), *cos = XG(&g, "Cos", a), *sin = XG(&g, "Sin", a);
  if (d.inverse) {
    sd_value *by = factors(&g, &d);
    cos = XG(&g, "Mul", cos, by), sin = XG(&g, "Mul", sin, by);
  }
  sd_value *re = component(&g, &d, 0, perm), *im = d.complex ? component(&g, &d, 1, perm) : NULL;
  sd_value *y[2] = {times(&g, re, cos), times(&g, re, sin)};
  if (!d.inverse) y[1] = XG(&g, "Neg", y[1]);
  if (im) {
    sd_value *s = times(&g, im, sin);
    y[0] = XG(&g, d.inverse ? "Sub" : "Add", y[0], s);
    y[1] = XG(&g, "Add", y[1], times(&g, im, cos));
  }
  int64_t last = rank;
  for (int i = 0; i < 2; i++) {
    if (*perm) y[i] = XG(&g, sd_xg_fmt(&g, "Transpose perm=%s", perm), y[i]);
    y[i] = XG(&g, "Unsqueeze", y[i], sd_xg_ints(&g, &last, 1));
  }
  sd_value *out = d.inverse && d.onesided ? y[0] : XG(&g, "Concat axis=-1", y[0], y[1]);
  out = sd_xg_cast(&g, n->in[0]->dtype, out);
  return sd_xg_finish(&g, &out, 1);
}

// ---- STFT: frames by a gather, then DFT ----
sard_status *sd_rewrite_stft(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dimtab *t = sd_sh_tab(n);
  int64_t one = 1, two = 2;
  sd_dim step;
  SD_TRY(sd_sh_rank(n, 0, 2, 3));
  SD_TRY(positive(n, 1, &step));
  sd_dim length = n->in[0]->dims[1];
  if (sd_xg_in(&g, 2)) {
    SD_TRY(sd_sh_rank(n, 2, 1, 1));
    length = n->in[2]->dims[0];
  } else if (sd_xg_in(&g, 3)) {
    SD_TRY(positive(n, 3, &length));
  }
  sd_dim frames = sd_dim_floordiv(t, sd_dim_sub(t, n->in[0]->dims[1], length), step);
  frames = sd_dim_max(t, sd_dim_add(t, frames, sd_dim_const(t, 1)), sd_dim_const(t, 0));
  sd_value *x = n->in[0]->rank == 2 ? XG(&g, "Unsqueeze", n->in[0], sd_xg_ints(&g, &two, 1)) : n->in[0];
  sd_value *start = XG(&g, "Mul", range(&g, frames), sd_xg_dims(&g, &step, -1));
  sd_value *at = XG(&g, "Add", XG(&g, "Unsqueeze", start, sd_xg_ints(&g, &one, 1)), range(&g, length));
  x = XG(&g, "Gather axis=1", x, at);
  if (sd_xg_in(&g, 2)) x = XG(&g, "Mul", x, XG(&g, "Unsqueeze", n->in[2], sd_xg_ints(&g, &one, 1)));
  int64_t components = 1;
  if (x && !sd_dim_is_const(t, x->dims[3], &components))
    components = 1; // a complex signal cannot be one-sided
  bool onesided = sd_node_int(n, "onesided", 1) && components == 1;
  sd_value *y = XG(&g, onesided ? "DFT onesided=1" : "DFT onesided=0", x);
  return sd_xg_finish(&g, &y, 1);
}

// ---- windows: a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N) ----
static sard_status *window(sd_node *n, double a0, double a1, double a2) {
  XG_SCOPE xg g = {.at = n};
  sd_dtype out = (sd_dtype)sd_node_int(n, "output_datatype", SD_F32), t = out == SD_F64 ? SD_F64 : SD_F32;
  sd_value *size = sd_xg_cast(&g, SD_I64, n->in[0]), *N = size;
  sd_value *i = XG(&g, "Range", num(&g, SD_I64, 0), size, num(&g, SD_I64, 1));
  if (!sd_node_int(n, "periodic", 1)) N = XG(&g, "Sub", size, num(&g, SD_I64, 1));
  sd_value *a = XG(&g, "Mul", sd_xg_cast(&g, t, i), XG(&g, "Div", num(&g, t, turn), sd_xg_cast(&g, t, N)));
  sd_value *y = XG(&g, "Sub", num(&g, t, a0), XG(&g, "Mul", XG(&g, "Cos", a), num(&g, t, a1)));
  if (a2 != 0)
    y = XG(&g, "Add", y, XG(&g, "Mul", XG(&g, "Cos", XG(&g, "Mul", a, num(&g, t, 2))), num(&g, t, a2)));
  y = sd_xg_cast(&g, out, y);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_hann_window(sd_node *n) { return window(n, 0.5, 0.5, 0); }
sard_status *sd_rewrite_hamming_window(sd_node *n) { return window(n, 25.0 / 46, 21.0 / 46, 0); }
sard_status *sd_rewrite_blackman_window(sd_node *n) { return window(n, 0.42, 0.5, 0.08); }

// ---- MelWeightMatrix: a triangle over the spectrum for each band ----
sard_status *sd_shape_mel_weights(sd_node *n) {
  sd_dim dims[2], bins;
  uint32_t count = 0;
  sd_dimtab *t = sd_sh_tab(n);
  for (uint32_t i = 0; i < 5; i++) SD_TRY(sd_sh_rank(n, i, 0, 1));
  SD_TRY(sd_sh_elems(n, 0, &dims[1], 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "operand '%s' must have one element", sd_sh_operand(n, 0));
  SD_TRY(sd_sh_elems(n, 1, &bins, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "operand '%s' must have one element", sd_sh_operand(n, 1));
  dims[0] = sd_dim_add(t, sd_dim_floordiv(t, bins, sd_dim_const(t, 2)), sd_dim_const(t, 1));
  sd_dtype type = (sd_dtype)sd_node_int(n, "output_datatype", SD_F32);
  for (uint32_t i = 2; i < 5; i++) SD_TRY(sd_sh_one(n, i));
  if (!sd_dtype_is_float(type) && !sd_dtype_is_int(type)) return SD_SH_ERR(n, MODEL, "output_datatype is %d", (int)type);
  return sd_sh_set(n, 0, type, 2, dims);
}

static sd_expr *scalar(sd_tb *b, const sd_node *n, uint32_t operand) {
  sd_expr *zero = x_int(b, 0);
  return x_cast(b, SD_F64, sd_tb_load(b, n, operand, &zero));
}

static sd_expr *mel_of(sd_tb *b, sd_expr *hertz) {
  return x_muln(b, x_un(b, SD_X_LOG, x_addn(b, x_muln(b, hertz, 1.0 / 700), 1)), 2595 / log(10));
}

// Edge number i of the triangles as bin of the spectrum.
static sd_expr *mel_edge(sd_tb *b, const sd_node *n, sd_expr *i) {
  sd_expr *low = mel_of(b, scalar(b, n, 3)), *high = mel_of(b, scalar(b, n, 4));
  sd_expr *step = x_div(b, x_sub(b, high, low), x_addn(b, scalar(b, n, 0), 2));
  sd_expr *mel = x_add(b, x_mul(b, x_cast(b, SD_F64, i), step), low);
  sd_expr *hertz = x_muln(b, x_addn(b, x_un(b, SD_X_EXP, x_muln(b, mel, log(10) / 2595)), -1), 700);
  return x_un(b, SD_X_FLOOR, x_div(b, x_mul(b, x_addn(b, scalar(b, n, 1), 1), hertz), scalar(b, n, 2)));
}

sd_expr *sd_pull_mel_weights(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *j = x_cast(b, SD_F64, idx[0]), *edge[3];
  for (int i = 0; i < 3; i++)
    if (!(edge[i] = mel_edge(b, n, x_add(b, idx[1], x_int(b, i))))) return NULL;
  sd_expr *zero = x_num(b, j, 0), *one = x_num(b, j, 1);
  sd_expr *rise = x_sub(b, edge[1], edge[0]), *fall = x_sub(b, edge[2], edge[1]);
  sd_expr *up = x_div(b, x_sub(b, j, edge[0]), x_max(b, rise, one));
  up = x_sel(b, x_bin(b, SD_X_EQ, rise, zero), one, up);
  sd_expr *in_up = x_and(b, x_bin(b, SD_X_LE, edge[0], j), x_bin(b, SD_X_LE, j, edge[1]));
  sd_expr *in_down = x_and(b, x_bin(b, SD_X_LE, edge[1], j), x_bin(b, SD_X_LT, j, edge[2]));
  sd_expr *down = x_div(b, x_sub(b, edge[2], j), x_max(b, fall, one));
  return x_cast(b, sd_compute_type(n->out[out]->dtype), x_sel(b, in_down, down, x_sel(b, in_up, up, zero)));
}
