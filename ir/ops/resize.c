// Resize: nearest, linear and cubic in every coordinate mode, with antialiasing.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/interp.h"
#include "ir/ops/sizes.h"

enum { SD_MAX_POINTS = 256 }; // unrolled neighbours of one output element

// What the scale of an axis is: a number, the ratio of its dims, an element of operand 'scales', or the least or largest ratio
// of the wanted sizes.
typedef enum scale_kind { NUMBER, RATIO, LOADED, ASPECT } scale_kind;
typedef struct resize_axis {
  bool resized;  // false: output index = input index
  scale_kind kind;
  double scale;  // of kind NUMBER
  sd_dim in, out;
  int roi;       // index of this axis in the operands
} resize_axis;

typedef struct resize_plan {
  int rank, n_axes;
  resize_axis axis[SD_MAX_RANK];
  bool nearest, cubic, antialias, exclude;
  const char *coord, *round;
  sd_dim ratio[SD_MAX_RANK][2]; // of kind ASPECT: wanted size and dim of each resized axis
  bool smallest;
} resize_plan;

static bool given(const sd_node *n, uint32_t operand) {
  const sd_value *v = sd_sh_in(n, operand);
  return v && !(v->rank == 1 && sd_dim_is(sd_sh_tab(n), v->dims[0], 0));
}

static bool listed(const char *word, const char *const *list) {
  for (; *list; list++)
    if (!strcmp(word, *list)) return true;
  return false;
}

static sard_status *read_modes(const sd_node *n, resize_plan *p) {
  static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
  static const char *const coords[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                       "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn", NULL};
  static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "before_11", NULL};
  const char *mode = sd_node_str(n, "mode", "nearest");
  p->coord = sd_node_str(n, "coordinate_transformation_mode", "half_pixel");
  p->round = sd_node_str(n, "nearest_mode", "round_prefer_floor");
  if (!listed(mode, modes)) return SD_SH_ERR(n, MODEL, "unknown mode '%s'", mode);
  if (!listed(p->coord, coords)) return SD_SH_ERR(n, MODEL, "unknown coordinate_transformation_mode '%s'", p->coord);
  if (!listed(p->round, rounds)) return SD_SH_ERR(n, MODEL, "unknown nearest_mode '%s'", p->round);
  p->nearest = !strcmp(mode, "nearest");
  p->cubic = !strcmp(mode, "cubic");
  p->antialias = sd_node_int(n, "antialias", 0) && !p->nearest;
  p->exclude = sd_node_int(n, "exclude_outside", 0) && !p->nearest;
  return NULL;
}

// floor(in * scale), with the scale read as the simple fraction that it was before it became a float.
static sard_status *scaled_dim(const sd_node *n, sd_dim in, double scale, sd_dim *out) {
  int64_t num, den, v;
  sd_dimtab *t = sd_sh_tab(n);
  if (!(scale > 0 && scale < 1e9)) return SD_SH_ERR(n, MODEL, "scale %g", scale);
  if (sd_host_fraction(scale, &num, &den))
    *out = sd_dim_floordiv(t, sd_dim_mul(t, in, sd_dim_const(t, num)), sd_dim_const(t, den));
  else if (sd_dim_is_const(t, in, &v))
    *out = sd_dim_const(t, (int64_t)floorf((float)v * (float)scale));
  else
    return SD_SH_ERR(n, UNSUPPORTED, "scale %.9g of a symbolic dim", scale);
  return NULL;
}

static sard_status *plan_scales(const sd_node *n, const int *axes, resize_plan *p) {
  double s[SD_MAX_RANK];
  uint32_t count = 0;
  sd_dim sizes[SD_MAX_RANK];
  bool sized = sd_node_int(n, "sized", 0) != 0, known = sd_sh_floats(n, 2, s, SD_MAX_RANK, &count);
  if (known && (int)count != p->n_axes) return SD_SH_ERR(n, MODEL, "%u scales for %d axes", count, p->n_axes);
  if (sized) SD_TRY(sd_sh_elems(n, 3, sizes, SD_MAX_RANK, &count));
  else if (!known) return SD_SH_ERR(n, UNSUPPORTED, "operand '%s' must be constant", sd_sh_operand(n, 2));
  if ((int)count != p->n_axes) return SD_SH_ERR(n, MODEL, "%u sizes for %d axes", count, p->n_axes);
  for (int i = 0; i < p->n_axes; i++) {
    resize_axis *a = &p->axis[axes[i]];
    a->kind = known ? NUMBER : LOADED;
    a->scale = known ? s[i] : 0;
    if (sized) a->out = sizes[i];
    else SD_TRY(scaled_dim(n, a->in, s[i], &a->out));
  }
  return NULL;
}

// One scale for all axes: the smallest (not_larger) or largest ratio of the wanted sizes. round(in * scale) grows with the
// scale, so that the result's dim is the least or largest of those that the ratios would give.
static sard_status *keep_aspect(const sd_node *n, const int *axes, resize_plan *p) {
  sd_dimtab *t = sd_sh_tab(n);
  double scale = 0;
  bool known = true;
  for (int i = 0; i < p->n_axes; i++) {
    const resize_axis *a = &p->axis[axes[i]];
    p->ratio[i][0] = a->out, p->ratio[i][1] = a->in;
    known = known && a->kind == NUMBER;
    if (!i || (p->smallest ? a->scale < scale : a->scale > scale)) scale = a->scale;
  }
  for (int i = 0; i < p->n_axes; i++) {
    resize_axis *a = &p->axis[axes[i]];
    int64_t in = 0;
    a->kind = known ? NUMBER : ASPECT, a->scale = scale;
    if (known && sd_dim_is_const(t, a->in, &in)) {
      a->out = sd_dim_const(t, (int64_t)floor((double)in * scale + 0.5));
      continue;
    }
    for (int k = 0; k < p->n_axes; k++) { // floor((2 in size + dim) / (2 dim))
      sd_dim twice = sd_dim_mul(t, sd_dim_const(t, 2), p->ratio[k][1]), up = sd_dim_mul(t, sd_dim_mul(t, sd_dim_const(t, 2), a->in), p->ratio[k][0]);
      sd_dim d = sd_dim_floordiv(t, sd_dim_add(t, up, p->ratio[k][1]), twice);
      a->out = !k ? d : p->smallest ? sd_dim_min(t, a->out, d) : sd_dim_max(t, a->out, d);
    }
  }
  return NULL;
}

static sard_status *plan_sizes(const sd_node *n, const int *axes, resize_plan *p) {
  sd_dim sizes[SD_MAX_RANK];
  uint32_t count = 0;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_elems(n, 3, sizes, SD_MAX_RANK, &count));
  if ((int)count != p->n_axes) return SD_SH_ERR(n, MODEL, "%u sizes for %d axes", count, p->n_axes);
  for (int i = 0; i < p->n_axes; i++) {
    resize_axis *a = &p->axis[axes[i]];
    int64_t from, to;
    a->out = sizes[i];
    sd_dim ratio = sd_dim_is(t, a->in, 0) ? SD_DIM_NONE : sd_dim_floordiv(t, a->out, a->in);
    a->kind = NUMBER;
    if (sd_dim_is_const(t, a->in, &from) && sd_dim_is_const(t, a->out, &to) && from > 0)
      a->scale = (double)to / (double)from;
    else if (sd_dim_is_const(t, ratio, &to) && sd_dim_mul(t, a->in, ratio) == a->out)
      a->scale = (double)to; // a symbolic dim times a number
    else
      a->kind = RATIO;
  }
  const char *policy = sd_node_str(n, "keep_aspect_ratio_policy", "stretch");
  p->smallest = !strcmp(policy, "not_larger");
  if (strcmp(policy, "stretch") && strcmp(policy, "not_larger") && strcmp(policy, "not_smaller")) return SD_SH_ERR(n, MODEL, "unknown keep_aspect_ratio_policy '%s'", policy);
  return strcmp(policy, "stretch") ? keep_aspect(n, axes, p) : NULL;
}

// Axes that are resized, in the order of the operands.
static sard_status *resized_axes(const sd_node *n, resize_plan *p, int *axes) {
  const sd_attr *a = sd_node_attr(n, "axes");
  for (int i = 0; i < p->rank; i++) axes[i] = i;
  p->n_axes = p->rank;
  if (!a || a->kind != SD_ATTR_INTS || !a->n) return NULL;
  p->n_axes = (int)a->n;
  return sd_sh_axes(n, a->ints, a->n, p->rank, axes);
}

static sard_status *plan_resize(const sd_node *n, resize_plan *p) {
  int axes[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  *p = (resize_plan){.rank = n->in[0]->rank};
  SD_TRY(read_modes(n, p));
  SD_TRY(resized_axes(n, p, axes));
  for (int i = 0; i < p->rank; i++) p->axis[i] = (resize_axis){.scale = 1, .in = n->in[0]->dims[i], .out = n->in[0]->dims[i]};
  bool scales = given(n, 2), sized = sd_node_int(n, "sized", 0) != 0;
  if ((scales == given(n, 3)) != sized) return SD_SH_ERR(n, MODEL, "exactly one of 'scales' and 'sizes' must be given");
  SD_TRY(scales ? plan_scales(n, axes, p) : plan_sizes(n, axes, p));
  bool crop = !strcmp(p->coord, "tf_crop_and_resize");
  if (crop && !given(n, 1)) return SD_SH_ERR(n, MODEL, "tf_crop_and_resize needs operand '%s'", sd_sh_operand(n, 1));
  for (int i = 0; i < p->n_axes; i++) {
    resize_axis *x = &p->axis[axes[i]];
    x->roi = i;
    x->resized = crop || x->in != x->out || x->kind != NUMBER || x->scale != 1;
  }
  return NULL;
}

// Scales that only the run knows, or that are no fractions of symbolic dims: operand 'sizes' becomes the dims that follow.
static bool scales_are_open(const sd_node *n) {
  double s[SD_MAX_RANK];
  uint32_t count;
  int64_t p, q;
  if (!given(n, 2) || given(n, 3)) return false;
  if (!sd_sh_floats(n, 2, s, SD_MAX_RANK, &count)) return true;
  for (uint32_t i = 0; i < count; i++)
    if (s[i] > 0 && s[i] < 1e9 && !sd_host_fraction(s[i], &p, &q) && !sd_value_static(n->in[0], NULL)) return true;
  return false;
}

static sard_status *size_scales(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  resize_plan p = {.rank = n->in[0]->rank};
  int axes[SD_MAX_RANK];
  int64_t list[SD_MAX_RANK];
  SD_TRY(resized_axes(n, &p, axes));
  for (int i = 0; i < p.n_axes; i++) list[i] = axes[i];
  sd_value *sizes = sd_xg_sizes(&g, SD_SIZES_SCALED, (sd_value *[]){n->in[0], n->in[2]}, 2, list, (uint32_t)p.n_axes, (uint32_t)p.n_axes);
  sd_value *in[4] = {n->in[0], n->in[1], n->in[2], sizes};
  if (g.st) return sd_xg_take(&g);
  for (uint32_t i = 0; i < n->n_in; i++) sd_node_set_input(n, i, NULL);
  n->in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, 4), n->n_in = 4;
  for (uint32_t i = 0; i < 4; i++) sd_node_set_input(n, i, in[i]);
  sd_node_set_int(n, "sized", 1);
  return NULL;
}

sard_status *sd_shape_resize(sd_node *n) {
  resize_plan p;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  if (scales_are_open(n)) SD_TRY(size_scales(n));
  SD_TRY(plan_resize(n, &p));
  for (int i = 0; i < p.rank; i++) {
    dims[i] = p.axis[i].out;
    if (dims[i] != n->in[0]->dims[i]) SD_TRY(sd_sh_fed(n, n->in[0]->dims[i], dims[i]));
  }
  return sd_sh_set(n, 0, n->in[0]->dtype, p.rank, dims);
}

// ---- coordinates ----
static sd_expr *load_roi(sd_tb *b, const sd_node *n, int at, sd_dtype t) {
  sd_expr *idx[1] = {x_int(b, at)};
  return x_cast(b, t, sd_tb_load(b, n, 1, idx));
}

// The scale of an axis whose scale is no number, but not of kind RATIO.
static sd_expr *open_scale(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_dtype t) {
  sd_expr *idx[1] = {x_int(b, a->roi)}, *scale = NULL;
  if (a->kind == LOADED) return x_cast(b, t, sd_tb_load(b, n, 2, idx));
  for (int i = 0; i < p->n_axes; i++) {
    sd_expr *x = x_div(b, x_float_dim(b, t, p->ratio[i][0]), x_float_dim(b, t, p->ratio[i][1]));
    scale = !i ? x : p->smallest ? x_min(b, scale, x) : x_max(b, scale, x);
  }
  return scale;
}

// x / scale.
static sd_expr *unscale(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x) {
  if (!x) return NULL;
  if (a->kind == NUMBER) return x_div(b, x, x_num(b, x, a->scale));
  if (a->kind != RATIO) return x_div(b, x, open_scale(b, n, p, a, x->dtype));
  return x_div(b, x_mul(b, x, x_float_dim(b, x->dtype, a->in)), x_float_dim(b, x->dtype, a->out));
}

// min(scale, 1), NULL for a number.
static sd_expr *narrow_scale(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_dtype t) {
  if (a->kind == NUMBER) return NULL;
  sd_expr *scale = a->kind == RATIO ? x_div(b, x_float_dim(b, t, a->out), x_float_dim(b, t, a->in)) : open_scale(b, n, p, a, t);
  return scale ? x_min(b, scale, x_num(b, scale, 1)) : NULL;
}

// Length of the output before it was rounded to a whole number.
static sd_expr *exact_length(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_dtype t) {
  if (a->kind == RATIO) return x_float_dim(b, t, a->out);
  sd_expr *in = x_float_dim(b, t, a->in);
  return a->kind == NUMBER ? x_muln(b, in, a->scale) : x_mul(b, in, open_scale(b, n, p, a, t));
}

static sd_expr *half_pixel(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x) {
  return x_addn(b, unscale(b, n, p, a, x_addn(b, x, 0.5)), -0.5);
}

// x * span / (length - 1), and `single` where length is 1.
static sd_expr *corners(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x, sd_expr *span, sd_expr *single) {
  sd_expr *len = exact_length(b, n, p, a, x->dtype);
  sd_expr *r = x_div(b, x_mul(b, x, span), x_addn(b, len, -1));
  return x_sel(b, x_bin(b, SD_X_EQ, len, x_num(b, x, 1)), single, r);
}

// Input coordinate of output index i along an axis; *outside grows by "not in the input" for tf_crop_and_resize.
static sd_expr *coordinate(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *i,
                           sd_dtype t, sd_expr **outside) {
  sd_expr *x = x_cast(b, t, i), *last = x_addn(b, x_float_dim(b, t, a->in), -1);
  if (!strcmp(p->coord, "half_pixel")) return half_pixel(b, n, p, a, x);
  if (!strcmp(p->coord, "asymmetric")) return unscale(b, n, p, a, x);
  if (!strcmp(p->coord, "tf_half_pixel_for_nn")) return unscale(b, n, p, a, x_addn(b, x, 0.5));
  if (!strcmp(p->coord, "align_corners")) return corners(b, n, p, a, x, last, x_num(b, x, 0));
  if (!strcmp(p->coord, "pytorch_half_pixel"))
    return x_sel(b, x_bin(b, SD_X_EQ, exact_length(b, n, p, a, t), x_num(b, x, 1)), x_num(b, x, p->nearest ? 0 : -0.5),
                 half_pixel(b, n, p, a, x));
  if (!strcmp(p->coord, "half_pixel_symmetric")) {
    sd_expr *ratio = x_div(b, x_float_dim(b, t, a->out), exact_length(b, n, p, a, t));
    sd_expr *center = x_muln(b, x_float_dim(b, t, a->in), 0.5);
    return x_add(b, x_sub(b, center, x_mul(b, center, ratio)), half_pixel(b, n, p, a, x));
  }
  sd_expr *begin = load_roi(b, n, a->roi, t), *end = load_roi(b, n, p->n_axes + a->roi, t);
  sd_expr *span = x_mul(b, x_sub(b, end, begin), last);
  if (!span) return NULL;
  x = x_add(b, corners(b, n, p, a, x, span, x_muln(b, span, 0.5)), x_mul(b, begin, last));
  sd_expr *low = x_bin(b, SD_X_LT, x, x_num(b, x, 0)), *high = x_bin(b, SD_X_LT, last, x);
  if (low && high) *outside = *outside ? x_bin(b, SD_X_OR, *outside, x_bin(b, SD_X_OR, low, high))
                                       : x_bin(b, SD_X_OR, low, high);
  return x;
}

// A coordinate may be anything when a roi is wild: limited before it becomes an integer.
static sd_expr *to_index(sd_tb *b, const resize_axis *a, sd_expr *x) {
  if (!x) return NULL;
  x = x_max(b, x_min(b, x, x_addn(b, x_float_dim(b, x->dtype, a->in), 4)), x_num(b, x, -4));
  return x_cast(b, SD_I64, x);
}

// Before opset 11, which says nothing about it: down where the axis grows, up where it shrinks, as in ONNX's example for opset
// 10 and in ONNX Runtime.
static sd_expr *old_round(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x) {
  sd_expr *narrow = narrow_scale(b, n, p, a, x->dtype), *up = x_un(b, SD_X_CEIL, x), *down = x_un(b, SD_X_FLOOR, x);
  return narrow ? x_sel(b, x_bin(b, SD_X_LT, narrow, x_num(b, x, 1)), up, down) : a->scale < 1 ? up : down;
}

static sd_expr *nearest_index(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x) {
  if (!x) return NULL;
  if (!strcmp(p->round, "before_11")) x = old_round(b, n, p, a, x);
  else if (!strcmp(p->round, "floor")) x = x_un(b, SD_X_FLOOR, x);
  else if (!strcmp(p->round, "ceil")) x = x_un(b, SD_X_CEIL, x);
  else if (!strcmp(p->round, "round_prefer_ceil")) x = x_un(b, SD_X_FLOOR, x_addn(b, x, 0.5));
  else x = x_un(b, SD_X_CEIL, x_addn(b, x, -0.5));
  return x_clamp_index(b, to_index(b, a, x), a->in);
}

// Nearest by a whole factor needs no floats in the two usual forms: both are i // factor.
static bool whole_factor(sd_tb *b, const resize_plan *p, const resize_axis *a) {
  if (a->kind != NUMBER || a->scale < 1 || a->scale > 1e6 || a->scale != floor(a->scale)) return false;
  if (sd_dim_mul(b->dims, a->in, sd_dim_const(b->dims, (int64_t)a->scale)) != a->out) return false;
  return (!strcmp(p->coord, "asymmetric") && (!strcmp(p->round, "floor") || !strcmp(p->round, "before_11"))) ||
         (!strcmp(p->coord, "half_pixel") && !strcmp(p->round, "round_prefer_floor"));
}

static sd_expr *extrapolated(sd_tb *b, const sd_node *n, sd_expr *outside, sd_expr *x) {
  sd_expr *value = x_num(b, x, sd_node_float(n, "extrapolation_value", 0));
  return outside ? x_sel(b, outside, sd_tb_real(b, n->in[0]->dtype, value), x) : x;
}

// f64: a coordinate that falls just short of a half would pick the other neighbour. Where coordinates are rounded up or down
// a whole one must stay it, as 7 / 0.7 does in f32.
static sd_expr *pull_nearest(sd_tb *b, const sd_node *n, const resize_plan *p, sd_expr *const *idx) {
  sd_expr *at[SD_MAX_RANK], *outside = NULL;
  sd_dtype t = strcmp(p->round, "before_11") ? SD_F64 : SD_F32;
  for (int i = 0; i < p->rank; i++) {
    const resize_axis *a = &p->axis[i];
    if (!a->resized) at[i] = idx[i];
    else if (whole_factor(b, p, a)) at[i] = x_bin(b, SD_X_FLOORDIV, idx[i], x_int(b, (int64_t)a->scale));
    else at[i] = nearest_index(b, n, p, a, coordinate(b, n, p, a, idx[i], t, &outside));
    if (!at[i]) return NULL;
  }
  return extrapolated(b, n, outside, sd_tb_load(b, n, 0, at));
}

// ---- linear and cubic: a few unrolled neighbours per axis ----
typedef struct taps { int n; sd_expr *at[SD_MAX_TAPS], *w[SD_MAX_TAPS]; } taps;

// Weights of neighbours outside of the input become 0, and the others sum to 1.
static void exclude_outside(sd_tb *b, const resize_axis *a, taps *t) {
  sd_expr *sum = NULL;
  for (int i = 0; i < t->n; i++) {
    sd_expr *in = x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), t->at[i]), x_bin(b, SD_X_LT, t->at[i], x_dim(b, a->in)));
    t->w[i] = x_sel(b, in, t->w[i], x_num(b, t->w[i], 0));
    sum = i ? x_add(b, sum, t->w[i]) : t->w[i];
  }
  for (int i = 0; i < t->n; i++) t->w[i] = x_div(b, t->w[i], sum);
}

static bool neighbours(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x, taps *t) {
  if (!x) return false;
  sd_expr *low = x_un(b, SD_X_FLOOR, x), *r = x_sub(b, x, low), *first = to_index(b, a, low);
  t->n = p->cubic ? 4 : 2;
  if (p->cubic) {
    x_cubic_weights(b, r, sd_node_float(n, "cubic_coeff_a", -0.75f), t->w);
    first = x_add(b, first, x_int(b, -1));
  } else {
    t->w[0] = x_sub(b, x_num(b, r, 1), r);
    t->w[1] = r;
  }
  for (int i = 0; i < t->n; i++) t->at[i] = x_add(b, first, x_int(b, i));
  if (p->exclude) exclude_outside(b, a, t);
  for (int i = 0; i < t->n; i++) t->at[i] = x_clamp_index(b, t->at[i], a->in);
  return true;
}

// Weighted sum over the neighbours of axes [axis, rank), axis by axis.
static sd_expr *weigh(sd_tb *b, const sd_node *n, const resize_plan *p, const taps *t, int axis, sd_expr **at,
                      sd_dtype ft) {
  if (axis == p->rank) return x_cast(b, ft, sd_tb_load(b, n, 0, at));
  if (!p->axis[axis].resized) return weigh(b, n, p, t, axis + 1, at, ft);
  sd_expr *sum = NULL;
  for (int i = 0; i < t[axis].n; i++) {
    at[axis] = t[axis].at[i];
    sd_expr *x = x_mul(b, weigh(b, n, p, t, axis + 1, at, ft), t[axis].w[i]);
    sum = i ? x_add(b, sum, x) : x;
  }
  return sum;
}

static sd_expr *pull_smooth(sd_tb *b, const sd_node *n, const resize_plan *p, sd_expr *const *idx, sd_dtype ft) {
  taps t[SD_MAX_RANK];
  sd_expr *at[SD_MAX_RANK], *outside = NULL;
  int points = 1;
  for (int i = 0; i < p->rank; i++) {
    at[i] = idx[i];
    if (!p->axis[i].resized) continue;
    if (!neighbours(b, n, p, &p->axis[i], coordinate(b, n, p, &p->axis[i], idx[i], ft, &outside), &t[i])) return NULL;
    if ((points *= t[i].n) > SD_MAX_POINTS)
      return sd_tb_fail(b, SD_SH_ERR(n, UNSUPPORTED, "more than %d neighbours per element", SD_MAX_POINTS));
  }
  return extrapolated(b, n, outside, weigh(b, n, p, t, 0, at, ft));
}

// ---- antialiasing: the filter is stretched by 1 / scale, a reduction over its taps ----
static sd_expr *filter(sd_tb *b, const sd_node *n, const resize_plan *p, sd_expr *d) {
  d = x_un(b, SD_X_ABS, d);
  sd_expr *zero = x_num(b, d, 0), *one = x_num(b, d, 1);
  if (!p->cubic) return x_max(b, x_sub(b, one, d), zero);
  double a = sd_node_float(n, "cubic_coeff_a", -0.75f);
  sd_expr *near = x_addn(b, x_mul(b, x_mul(b, x_addn(b, x_muln(b, d, a + 2), -(a + 3)), d), d), 1);
  sd_expr *far = x_addn(b, x_muln(b, d, a), -5 * a);
  far = x_addn(b, x_mul(b, x_addn(b, x_mul(b, far, d), 8 * a), d), -4 * a);
  far = x_sel(b, x_bin(b, SD_X_LT, d, x_num(b, d, 2)), far, zero);
  return x_sel(b, x_bin(b, SD_X_LE, d, one), near, far);
}

// Taps to each side of an axis: support of the filter stretched by 1 / scale, which is at most in / out.
static sd_dim half_taps(sd_tb *b, const resize_plan *p, const resize_axis *a) {
  sd_dimtab *t = b->dims;
  int64_t support = p->cubic ? 2 : 1;
  if (sd_dim_is(t, a->out, 0)) return sd_dim_const(t, 0);
  if (a->kind == NUMBER) // at most as many as no dim has
    return sd_dim_const(t, (int64_t)fmin(ceil((double)support / fmin(a->scale, 1)), INT32_MAX));
  sd_dim out = sd_dim_max(t, a->out, sd_dim_const(t, 1));
  return sd_dim_ceildiv(t, sd_dim_mul(t, sd_dim_const(t, support), sd_dim_max(t, a->in, out)), out);
}

// Tap k (an I64 expression) of an axis around coordinate x: its clamped position and weight, not yet normalized.
static sd_expr *wide_tap(sd_tb *b, const sd_node *n, const resize_plan *p, const resize_axis *a, sd_expr *x, sd_expr *k,
                         sd_expr **at) {
  sd_dim back = sd_dim_sub(b->dims, sd_dim_const(b->dims, 1), half_taps(b, p, a));
  sd_expr *first = to_index(b, a, x_un(b, SD_X_FLOOR, x)), *narrow = narrow_scale(b, n, p, a, x->dtype);
  sd_expr *pos = x_add(b, x_add(b, first, k), x_dim(b, back));
  sd_expr *d = x_sub(b, x_cast(b, x->dtype, pos), x);
  sd_expr *w = filter(b, n, p, a->kind == NUMBER ? x_muln(b, d, fmin(a->scale, 1)) : x_mul(b, d, narrow));
  sd_expr *in = x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), pos), x_bin(b, SD_X_LT, pos, x_dim(b, a->in)));
  *at = x_clamp_index(b, pos, a->in);
  return p->exclude ? x_sel(b, in, w, x_num(b, w, 0)) : w;
}

static sd_expr *pull_antialias(sd_tb *b, const sd_node *n, const resize_plan *p, sd_expr *const *idx, sd_dtype ft) {
  sd_expr *at[SD_MAX_RANK], *outside = NULL, *weight = NULL, *total = NULL, *unused;
  x_axes all = {0};
  for (int i = 0; i < p->rank; i++) {
    const resize_axis *a = &p->axis[i];
    at[i] = idx[i];
    if (!a->resized) continue;
    sd_expr *x = coordinate(b, n, p, a, idx[i], ft, &outside);
    sd_dim count = sd_dim_add(b->dims, sd_dim_mul(b->dims, half_taps(b, p, a), sd_dim_const(b->dims, 2)), sd_dim_const(b->dims, 1));
    x_axes own = {0};
    sd_expr *k = x_raxis(b, &all, "t", count), *k2 = x_raxis(b, &own, "s", count);
    if (!x || !k || !k2) return NULL;
    sd_expr *w = wide_tap(b, n, p, a, x, k, &at[i]);
    sd_expr *sum = x_reduce(b, SD_R_SUM, &own, wide_tap(b, n, p, a, x, k2, &unused));
    weight = weight ? x_mul(b, weight, w) : w;
    total = total ? x_mul(b, total, sum) : sum;
  }
  sd_expr *v = x_cast(b, ft, sd_tb_load(b, n, 0, at));
  if (weight) v = x_div(b, x_reduce(b, SD_R_SUM, &all, x_mul(b, v, weight)), total);
  return extrapolated(b, n, outside, v);
}

// Nearest integer in the range of the type: cubic filters leave that of their input.
static sd_expr *to_integer(sd_tb *b, sd_dtype t, sd_expr *x) {
  int bits = sd_dtype_bits(t);
  bool sign = sd_dtype_kind_of(t) == SD_DK_I;
  double high = ldexp(1, sign ? bits - 1 : bits) - 1, low = sign ? -ldexp(1, bits - 1) : 0;
  if (bits == 64) high = nextafter(high, 0); // itself no number of an f64
  if (!x) return NULL;
  x = x_un(b, SD_X_ROUND, x);
  x = x_max(b, x_min(b, x, x_num(b, x, high)), x_num(b, x, low));
  return x_cast(b, t, bits < 32 ? x_cast(b, SD_I32, x) : x);
}

sd_expr *sd_pull_resize(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  resize_plan p;
  sard_status *st = plan_resize(n, &p);
  if (st) return sd_tb_fail(b, st);
  if (p.nearest) return pull_nearest(b, n, &p, idx);
  sd_dtype ct = sd_compute_type(n->out[out]->dtype);
  sd_dtype ft = ct == SD_F64 || (sd_dtype_is_int(ct) && sd_dtype_bits(ct) > 16) ? SD_F64 : SD_F32;
  sd_expr *x = p.antialias ? pull_antialias(b, n, &p, idx, ft) : pull_smooth(b, n, &p, idx, ft);
  return sd_dtype_is_int(ct) ? to_integer(b, ct, x) : x_cast(b, ct, x);
}
