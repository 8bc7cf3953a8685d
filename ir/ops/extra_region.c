// Regions and moved samples: RoiAlign, MaxRoiPool, DeformConv.
#include <math.h>
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/interp.h"
#include "ir/ops/xgraph.h"

#define MAX_GRID (1 << 20) // adaptive sample points of a bin along one dim

// ---- RoiAlign ----
static sard_status *regions(const sd_node *n, int64_t columns, int64_t ph, int64_t pw, sd_dim *dims) {
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 4, 4));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  SD_TRY(sd_sh_same(n, n->in[1]->dims[1], sd_dim_const(t, columns), "columns of rois", NULL));
  if (ph < 1 || pw < 1 || ph > 1 << 20 || pw > 1 << 20)
    return SD_SH_ERR(n, MODEL, "an output of %lld x %lld", (long long)ph, (long long)pw);
  dims[0] = n->in[1]->dims[0], dims[1] = n->in[0]->dims[1], dims[2] = sd_dim_const(t, ph),
  dims[3] = sd_dim_const(t, pw);
  return NULL;
}

sard_status *sd_shape_roi_align(sd_node *n) {
  sd_dim dims[4];
  const char *mode = sd_node_str(n, "mode", "avg");
  SD_TRY(regions(n, 4, sd_node_int(n, "output_height", 1), sd_node_int(n, "output_width", 1), dims));
  SD_TRY(sd_sh_rank(n, 2, 1, 1));
  SD_TRY(sd_sh_same(n, n->in[2]->dims[0], dims[0], "batch_indices and rois", NULL));
  if (strcmp(mode, "avg") && strcmp(mode, "max")) return SD_SH_ERR(n, MODEL, "unknown mode '%s'", mode);
  int64_t ratio = sd_node_int(n, "sampling_ratio", 0);
  if (ratio < 0 || ratio > MAX_GRID) return SD_SH_ERR(n, MODEL, "sampling_ratio is %lld", (long long)ratio);
  return sd_sh_set(n, 0, n->in[0]->dtype, 4, dims);
}

typedef struct line { // samples of a bin along one dim
  sd_expr *at, *count, *inside;
  sd_expr *low, *high, *w_low, *w_high; // neighbours and their weights
} line;

static sd_expr *roi_at(sd_tb *b, const sd_node *n, sd_expr *r, int column, double offset) {
  sd_expr *x = sd_tb_load(b, n, 1, (sd_expr *[]){r, x_int(b, column)});
  return x_addn(b, x_muln(b, x, sd_node_float(n, "spatial_scale", 1)), -offset);
}

// dim 0: y, 1: x
static bool roi_line(sd_tb *b, const sd_node *n, int dim, sd_expr *const *idx, x_axes *red, line *l) {
  bool half =
      strcmp(sd_node_str(n, "coordinate_transformation_mode", "half_pixel"), "output_half_pixel") != 0;
  sd_expr *start = roi_at(b, n, idx[0], 1 - dim, half ? 0.5 : 0),
          *end = roi_at(b, n, idx[0], 3 - dim, half ? 0.5 : 0);
  sd_expr *size = x_sub(b, end, start);
  if (!size) return false;
  if (!half) size = x_max(b, size, x_num(b, size, 1));
  int64_t pooled = sd_node_int(n, dim ? "output_width" : "output_height", 1),
          ratio = sd_node_int(n, "sampling_ratio", 0);
  sd_expr *bin = x_muln(b, size, 1.0 / (double)pooled), *i;
  bin = x_div(b, size, x_num(b, size, (double)pooled));
  if (ratio > 0) {
    l->count = x_num(b, bin, (double)ratio);
    i = x_raxis(b, red, "s", sd_dim_const(b->dims, ratio));
  } else {
    l->count = x_min(b, x_un(b, SD_X_CEIL, bin), x_num(b, bin, MAX_GRID));
    sd_axis *a = sd_tb_raxis(b, "s", sd_dim_const(b->dims, MAX_GRID));
    a->limit = x_max(b, x_cast(b, SD_I64, l->count), x_int(b, 0));
    red->at[red->n++] = a;
    i = x_axis(b, a);
  }
  sd_expr *step = x_div(b, x_mul(b, x_addn(b, x_cast(b, bin->dtype, i), 0.5), bin), l->count);
  sd_expr *at = x_add(b, x_add(b, start, x_mul(b, x_cast(b, bin->dtype, idx[2 + dim]), bin)), step);
  sd_dim extent = n->in[0]->dims[2 + dim];
  sd_expr *limit = x_float_dim(b, bin->dtype, extent);
  l->inside = x_and(b, x_bin(b, SD_X_LE, x_num(b, at, -1), at), x_bin(b, SD_X_LE, at, limit));
  at = x_min(b, x_max(b, at, x_num(b, at, 0)), x_addn(b, limit, -1));
  sd_expr *floor = x_un(b, SD_X_FLOOR, at);
  l->low = x_clamp_index(b, x_cast(b, SD_I64, floor), extent);
  l->high = x_clamp_index(b, x_add(b, l->low, x_int(b, 1)), extent);
  l->w_high = x_sub(b, at, floor);
  l->w_low = x_sub(b, x_num(b, at, 1), l->w_high);
  return l->low && l->high && l->w_low;
}

sd_expr *sd_pull_roi_align(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  x_axes red = {.n = 0};
  line y, x;
  bool max = !strcmp(sd_node_str(n, "mode", "avg"), "max");
  if (!roi_line(b, n, 0, idx, &red, &y) || !roi_line(b, n, 1, idx, &red, &x)) return NULL;
  sd_expr *image = x_cast(b, SD_I64, sd_tb_load(b, n, 2, idx)), *sum = NULL, *saved = NULL;
  sd_expr *inside = x_and(b, y.inside, x.inside);
  if (!image || !inside) return NULL;
  image = sd_x_index(b->k, image, n->in[0]->dims[0]);
  sd_tb_guard_begin(b, inside, &saved);
  for (int i = 0; i < 4; i++) {
    sd_expr *v =
        sd_tb_load(b, n, 0, (sd_expr *[]){image, idx[1], i & 2 ? y.high : y.low, i & 1 ? x.high : x.low});
    v = x_mul(b, v, x_mul(b, i & 2 ? y.w_high : y.w_low, i & 1 ? x.w_high : x.w_low));
    sum = !sum  ? v
          : max ? x_max(b, sum, v)
                : x_add(b, sum, v); // the largest weighted corner, as ONNX defines it
  }
  sum = sd_tb_guard_end(b, saved, inside, sum, sum ? x_num(b, sum, 0) : NULL);
  sum = x_reduce(b, max ? SD_R_MAX : SD_R_SUM, &red, sum);
  sd_expr *count = x_mul(b, y.count, x.count);
  if (!sum || !count) return NULL;
  if (max) return x_sel(b, x_bin(b, SD_X_LE, count, x_num(b, count, 0)), x_num(b, sum, 0), sum);
  return x_div(b, sum, x_max(b, count, x_num(b, count, 1)));
}

// ---- MaxRoiPool ----
static sard_status *pooled_of(const sd_node *n, int64_t *out) {
  const sd_attr *a = sd_node_attr(n, "pooled_shape");
  if (a->n != 2) return SD_SH_ERR(n, MODEL, "pooled_shape has %u entries", a->n);
  out[0] = a->ints[0], out[1] = a->ints[1];
  return NULL;
}

sard_status *sd_shape_max_roi(sd_node *n) {
  sd_dim dims[4];
  int64_t p[2];
  SD_TRY(pooled_of(n, p));
  SD_TRY(regions(n, 5, p[0], p[1], dims));
  return sd_sh_set(n, 0, n->in[0]->dtype, 4, dims);
}

// First position and end of a bin along a dim, within the image.
static void roi_bin(sd_tb *b, const sd_node *n, int dim, int64_t pooled, sd_expr *const *idx, sd_expr **start,
                    sd_expr **end) {
  sd_expr *edge[2], *limit = x_dim(b, n->in[0]->dims[2 + dim]);
  for (int i = 0; i < 2; i++) {
    sd_expr *x = x_muln(b, sd_tb_load(b, n, 1, (sd_expr *[]){idx[0], x_int(b, 2 - dim + 2 * i)}),
                        sd_node_float(n, "spatial_scale", 1));
    edge[i] = x_un(b, SD_X_FLOOR, x_addn(b, x, 0.5));
  }
  sd_expr *size = x_addn(b, x_sub(b, edge[1], edge[0]), 1);
  if (!size) return (void)(*start = *end = NULL);
  size = x_div(b, x_max(b, size, x_num(b, size, 1)), x_num(b, size, (double)pooled));
  sd_expr *p = x_cast(b, size->dtype, idx[2 + dim]);
  sd_expr *from = x_add(b, x_un(b, SD_X_FLOOR, x_mul(b, p, size)), edge[0]);
  sd_expr *to = x_add(b, x_un(b, SD_X_CEIL, x_mul(b, x_addn(b, p, 1), size)), edge[0]);
  *start = x_min(b, x_max(b, x_cast(b, SD_I64, from), x_int(b, 0)), limit);
  *end = x_min(b, x_max(b, x_cast(b, SD_I64, to), x_int(b, 0)), limit);
}

sd_expr *sd_pull_max_roi(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  int64_t p[2];
  x_axes red = {.n = 0};
  sd_expr *at[4], *start[2], *end[2], *inside = NULL, *saved = NULL, *some = NULL;
  sard_status *st = pooled_of(n, p);
  if (st) return sd_tb_fail(b, st);
  sd_expr *image = x_cast(b, SD_I64, sd_tb_load(b, n, 1, (sd_expr *[]){idx[0], x_int(b, 0)}));
  for (int d = 0; d < 2; d++) {
    roi_bin(b, n, d, p[d], idx, &start[d], &end[d]);
    at[2 + d] = x_raxis(b, &red, "p", n->in[0]->dims[2 + d]);
    inside = x_and(b, inside,
                   x_and(b, x_bin(b, SD_X_LE, start[d], at[2 + d]), x_bin(b, SD_X_LT, at[2 + d], end[d])));
    some = x_and(b, some, x_bin(b, SD_X_LT, start[d], end[d]));
  }
  if (!image || !inside || !some) return NULL;
  at[0] = sd_x_index(b->k, image, n->in[0]->dims[0]), at[1] = idx[1];
  sd_tb_guard_begin(b, inside, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, at);
  x = sd_tb_guard_end(b, saved, inside, x, x ? x_lowest(b, x->dtype) : NULL);
  x = x_reduce(b, SD_R_MAX, &red, x);
  return x ? x_sel(b, some, x, x_num(b, x, 0)) : NULL;
}

// ---- DeformConv: samples at moved positions, then a matrix product ----
typedef struct deform {
  int64_t stride[2], dilation[2], pad[4], group, offsets;
  sd_dim kernel[2], taps, out[2];
} deform;

static sard_status *deform_ints(const sd_node *n, const char *name, uint32_t count, int64_t low,
                                int64_t *io) {
  const sd_attr *a = sd_node_attr(n, name);
  bool given = a && a->kind == SD_ATTR_INTS && a->n;
  if (given && a->n != count) return SD_SH_ERR(n, MODEL, "attribute '%s' has %u entries", name, a->n);
  for (uint32_t i = 0; i < count; i++) {
    if (given) io[i] = a->ints[i];
    if (io[i] < low || io[i] > INT32_MAX)
      return SD_SH_ERR(n, MODEL, "attribute '%s' has %lld", name, (long long)io[i]);
  }
  return NULL;
}

static sard_status *deform_read(const sd_node *n, deform *d) {
  sd_dimtab *t = sd_sh_tab(n);
  *d = (deform){.stride = {1, 1},
                .dilation = {1, 1},
                .group = sd_node_int(n, "group", 1),
                .offsets = sd_node_int(n, "offset_group", 1)};
  SD_TRY(sd_sh_rank(n, 0, 4, 4));
  SD_TRY(sd_sh_rank(n, 1, 4, 4));
  if (d->group < 1 || d->offsets < 1 || d->group > 1 << 24 || d->offsets > 1 << 24)
    return SD_SH_ERR(n, MODEL, "group %lld, offset_group %lld", (long long)d->group, (long long)d->offsets);
  int64_t given[2] = {0, 0};
  SD_TRY(deform_ints(n, "kernel_shape", 2, 0, given));
  for (int i = 0; i < 2; i++) {
    d->kernel[i] = n->in[1]->dims[2 + i];
    if (given[i])
      SD_TRY(sd_sh_same(n, d->kernel[i], sd_dim_const(t, given[i]), "kernel_shape and W", &d->kernel[i]));
  }
  d->taps = sd_dim_mul(t, d->kernel[0], d->kernel[1]);
  SD_TRY(deform_ints(n, "strides", 2, 1, d->stride));
  SD_TRY(deform_ints(n, "dilations", 2, 1, d->dilation));
  SD_TRY(deform_ints(n, "pads", 4, 0, d->pad));
  for (int i = 0; i < 2; i++) {
    sd_dim reach =
        sd_dim_mul(t, sd_dim_const(t, d->dilation[i]), sd_dim_sub(t, d->kernel[i], sd_dim_const(t, 1)));
    sd_dim span = sd_dim_sub(
        t, sd_dim_add(t, n->in[0]->dims[2 + i], sd_dim_const(t, d->pad[i] + d->pad[2 + i] - 1)), reach);
    d->out[i] = sd_dim_add(t, sd_dim_floordiv(t, span, sd_dim_const(t, d->stride[i])), sd_dim_const(t, 1));
  }
  for (uint32_t i = 2; i < 5; i += 2) {
    if (!sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_rank(n, i, 4, 4));
    sd_dim channels = sd_dim_mul(t, d->taps, sd_dim_const(t, d->offsets * (i == 2 ? 2 : 1)));
    SD_TRY(sd_sh_same(n, n->in[i]->dims[0], n->in[0]->dims[0], sd_sh_operand(n, i), NULL));
    SD_TRY(sd_sh_same(n, n->in[i]->dims[1], channels, sd_sh_operand(n, i), NULL));
    for (int k = 0; k < 2; k++)
      SD_TRY(sd_sh_same(n, n->in[i]->dims[2 + k], d->out[k], "offset and output", NULL));
  }
  return NULL;
}

// Samples [N, C * kh * kw, oh * ow].
sard_status *sd_shape_deform_samples(sd_node *n) {
  deform d;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(deform_read(n, &d));
  sd_dim dims[3] = {n->in[0]->dims[0], sd_dim_mul(t, n->in[0]->dims[1], d.taps),
                    sd_dim_mul(t, d.out[0], d.out[1])};
  return sd_sh_set(n, 0, n->in[0]->dtype, 3, dims);
}

sd_expr *sd_pull_deform_samples(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  deform d;
  sard_status *st = deform_read(n, &d);
  if (st) return sd_tb_fail(b, st);
  sd_expr *c = x_bin(b, SD_X_FLOORDIV, idx[1], x_dim(b, d.taps)),
          *tap = x_bin(b, SD_X_MOD, idx[1], x_dim(b, d.taps));
  sd_expr *o[2] = {x_bin(b, SD_X_FLOORDIV, idx[2], x_dim(b, d.out[1])),
                   x_bin(b, SD_X_MOD, idx[2], x_dim(b, d.out[1]))};
  sd_expr *k[2] = {x_bin(b, SD_X_FLOORDIV, tap, x_dim(b, d.kernel[1])),
                   x_bin(b, SD_X_MOD, tap, x_dim(b, d.kernel[1]))};
  sd_dim per = sd_dim_floordiv(b->dims, n->in[0]->dims[1], sd_dim_const(b->dims, d.offsets));
  sd_expr *at_group = x_add(b, x_mul(b, x_bin(b, SD_X_FLOORDIV, c, x_dim(b, per)), x_dim(b, d.taps)), tap);
  sd_expr *base[2], *part[2], *sum = NULL;
  for (int i = 0; i < 2; i++) {
    sd_expr *row = x_add(b, x_mul(b, at_group, x_int(b, 2)), x_int(b, i));
    sd_expr *move = sd_tb_load(b, n, 2, (sd_expr *[]){idx[0], row, o[0], o[1]});
    sd_expr *p =
        x_sub(b, x_add(b, x_mul(b, o[i], x_int(b, d.stride[i])), x_mul(b, k[i], x_int(b, d.dilation[i]))),
              x_int(b, d.pad[i]));
    sd_expr *x = move ? x_add(b, x_cast(b, move->dtype, p), move) : NULL, *floor = x_un(b, SD_X_FLOOR, x);
    base[i] = x_cast(b, SD_I64, floor), part[i] = x_sub(b, x, floor);
    if (!base[i] || !part[i]) return NULL;
  }
  for (int i = 0; i < 4; i++) {
    sd_expr *at[4] = {idx[0], c, NULL, NULL}, *w = NULL, *cond = NULL, *saved = NULL;
    for (int e = 0; e < 2; e++) {
      bool next = e ? i & 1 : i >> 1;
      at[2 + e] = next ? x_add(b, base[e], x_int(b, 1)) : base[e];
      sd_expr *f = next ? part[e] : x_sub(b, x_num(b, part[e], 1), part[e]);
      w = w ? x_mul(b, w, f) : f;
      cond = x_and(b, cond,
                   x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), at[2 + e]),
                         x_bin(b, SD_X_LT, at[2 + e], x_dim(b, n->in[0]->dims[2 + e]))));
    }
    sd_tb_guard_begin(b, cond, &saved);
    sd_expr *v = sd_tb_load(b, n, 0, at);
    v = x_mul(b, w, sd_tb_guard_end(b, saved, cond, v, v ? x_num(b, v, 0) : NULL));
    sum = sum ? x_add(b, sum, v) : v;
  }
  if (!sd_tb_has(n, 4)) return sum;
  return x_mul(b, sum, sd_tb_load(b, n, 4, (sd_expr *[]){idx[0], at_group, o[0], o[1]}));
}

sard_status *sd_rewrite_deform_conv(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  deform d;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(deform_read(n, &d));
  sd_node *s = sd_node_new(n->graph, n, sd_op_find("sard.DeformSamples"), n->in, n->n_in, 1);
  s->name = n->name, s->onnx_index = n->onnx_index;
  for (uint32_t i = 0; i < s->n_attr; i++) s->attrs[i] = *sd_node_attr(n, s->op->attrs[i].name);
  SD_TRY(sd_node_infer(s));
  sd_dim G = sd_dim_const(t, d.group), M = n->in[1]->dims[0], per = sd_dim_floordiv(t, M, G);
  sd_dim K = sd_dim_floordiv(t, s->out[0]->dims[1], G), N = n->in[0]->dims[0];
  sd_value *x = sd_xg_reshape(&g, s->out[0], (sd_dim[]){N, G, K, s->out[0]->dims[2]}, 4);
  sd_value *w = sd_xg_reshape(&g, n->in[1], (sd_dim[]){G, per, K}, 3);
  sd_value *y = sd_xg_reshape(&g, XG(&g, "MatMul", w, x), (sd_dim[]){N, M, d.out[0], d.out[1]}, 4);
  if (sd_xg_in(&g, 3))
    y = XG(&g, "Add", y, XG(&g, "Unsqueeze", n->in[3], sd_xg_ints(&g, (int64_t[]){1, 2}, 2)));
  return sd_xg_finish(&g, &y, 1);
}
