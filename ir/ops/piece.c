// Pieces along axes: Concat, Split, Slice, Pad, CenterCropPad.
#include "ir/ops.h"
#include "ir/ops/sizes.h"
#include "ir/ops/xbuild.h"

static sard_status *axis_of(const sd_node *n, int64_t absent, int *out) {
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  return sd_sh_axis(n, sd_node_int(n, "axis", absent), n->in[0]->rank, out);
}

// ---- Concat ----
static void concat_elems(sd_node *n) {
  sd_dim e[SD_SH_ELEMS];
  uint32_t len = 0, more = 0;
  if (n->out[0]->rank != 1) return;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!sd_sh_try_elems(n, i, e + len, SD_SH_ELEMS - len, &more)) return;
    len += more;
  }
  sd_sh_set_elems(n, 0, e, len);
}

sard_status *sd_shape_concat(sd_node *n) {
  int axis;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(axis_of(n, 0, &axis));
  int rank = n->in[0]->rank;
  memcpy(dims, n->in[0]->dims, (size_t)rank * sizeof *dims);
  for (uint32_t i = 1; i < n->n_in; i++) {
    SD_TRY(sd_sh_rank(n, i, rank, rank));
    if (n->in[i]->dtype != n->in[0]->dtype)
      return SD_SH_ERR(n, MODEL, "operand %u has dtype %s, operand 0 %s", i, sd_dtype_name(n->in[i]->dtype),
                       sd_dtype_name(n->in[0]->dtype));
    for (int d = 0; d < rank; d++) {
      if (d == axis) dims[d] = sd_dim_add(sd_sh_tab(n), dims[d], n->in[i]->dims[d]);
      else SD_TRY(sd_sh_same(n, dims[d], n->in[i]->dims[d], "concatenated operands", &dims[d]));
    }
  }
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, rank, dims));
  concat_elems(n);
  return NULL;
}

// From the last operand to the first: the one whose range holds the position, each loaded under its guard.
sd_expr *sd_pull_concat(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  int axis;
  sd_expr *at[SD_MAX_RANK], *r = NULL;
  sard_status *st = axis_of(n, 0, &axis);
  if (st) return sd_tb_fail(b, st);
  memcpy(at, idx, (size_t)n->in[0]->rank * sizeof *at);
  sd_dim end = n->out[out]->dims[axis];
  for (uint32_t i = n->n_in; i-- > 0;) {
    sd_dim begin = sd_dim_sub(b->dims, end, n->in[i]->dims[axis]);
    if (begin == end) continue; // an empty piece
    sd_expr *after = x_bin(b, SD_X_LE, x_dim(b, begin), idx[axis]), *before = x_bin(b, SD_X_LT, idx[axis], x_dim(b, end));
    sd_expr *inside = x_and(b, i ? after : NULL, i + 1 < n->n_in ? before : NULL), *saved;
    at[axis] = x_sub(b, idx[axis], x_dim(b, begin));
    if (inside) sd_tb_guard_begin(b, inside, &saved);
    sd_expr *x = sd_tb_load(b, n, i, at);
    if (!x) return NULL;
    if (inside) x = sd_tb_guard_end(b, saved, inside, x, r ? r : x_num(b, x, 0));
    r = x;
    end = begin;
  }
  return r ? r : sd_x_f(b->k, sd_compute_type(n->out[out]->dtype), 0);
}

// ---- Split ----
// Sizes of the n_out pieces.
static sard_status *split_sizes(const sd_node *n, int axis, sd_dim *sizes) {
  sd_dimtab *t = sd_sh_tab(n);
  uint32_t count = 0;
  sd_dim d = n->in[0]->dims[axis];
  if (n->n_out > SD_SH_ELEMS && sd_sh_in(n, 1))
    return SD_SH_ERR(n, UNSUPPORTED, "%u pieces, at most %d are supported", n->n_out, SD_SH_ELEMS);
  if (sd_sh_in(n, 1)) {
    SD_TRY(sd_sh_elems(n, 1, sizes, SD_SH_ELEMS, &count));
    if (count != n->n_out) return SD_SH_ERR(n, MODEL, "%u sizes for %u pieces", count, n->n_out);
    sd_dim sum = sd_dim_const(t, 0);
    for (uint32_t i = 0; i < count; i++) sum = sd_dim_add(t, sum, sizes[i]);
    return sd_sh_same(n, sum, d, "sum of the pieces and the split dim", NULL);
  }
  int64_t pieces = sd_node_int(n, "num_outputs", n->n_out);
  if (pieces != n->n_out)
    return SD_SH_ERR(n, MODEL, "num_outputs is %lld, the node has %u outputs", (long long)pieces, n->n_out);
  sd_dim each = sd_dim_ceildiv(t, d, sd_dim_const(t, pieces)), left = d;
  bool even = sd_dim_multiple_of(t, d, pieces);
  for (uint32_t i = 0; i < n->n_out; i++) { // the last ones get what is left, perhaps nothing
    sizes[i] = even ? each : sd_dim_max(t, sd_dim_min(t, each, left), sd_dim_const(t, 0));
    left = sd_dim_sub(t, left, each);
  }
  return NULL;
}

static sard_status *split_room(const sd_node *n, sd_dim **out) {
  if (!n->n_out) return SD_SH_ERR(n, MODEL, "Split without outputs");
  uint32_t room = n->n_out > SD_SH_ELEMS ? n->n_out : SD_SH_ELEMS;
  *out = SD_NEW_ARRAY(n->graph->module->arena, sd_dim, room);
  return NULL;
}

sard_status *sd_shape_split(sd_node *n) {
  int axis;
  uint32_t known = 0;
  int64_t begin = 0, size;
  sd_dim dims[SD_MAX_RANK], e[SD_SH_ELEMS], *sizes;
  SD_TRY(axis_of(n, 0, &axis));
  SD_TRY(split_room(n, &sizes));
  SD_TRY(split_sizes(n, axis, sizes));
  memcpy(dims, n->in[0]->dims, (size_t)n->in[0]->rank * sizeof *dims);
  bool elems = n->in[0]->rank == 1 && sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &known);
  for (uint32_t i = 0; i < n->n_out; i++) {
    dims[axis] = sizes[i];
    SD_TRY(sd_sh_set(n, i, n->in[0]->dtype, n->in[0]->rank, dims));
    elems = elems && sd_dim_is_const(sd_sh_tab(n), sizes[i], &size) && begin + size <= (int64_t)known;
    if (elems) sd_sh_set_elems(n, i, e + begin, (uint32_t)size);
    if (elems) begin += size;
  }
  return NULL;
}

sd_expr *sd_pull_split(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  int axis;
  sd_dim *sizes, begin = sd_dim_const(b->dims, 0);
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = axis_of(n, 0, &axis);
  if (!st) st = split_room(n, &sizes);
  if (!st) st = split_sizes(n, axis, sizes);
  if (st) return sd_tb_fail(b, st);
  for (uint32_t i = 0; i < out; i++) begin = sd_dim_add(b->dims, begin, sizes[i]);
  memcpy(at, idx, (size_t)n->in[0]->rank * sizeof *at);
  at[axis] = x_add(b, idx[axis], x_dim(b, begin));
  return sd_tb_load(b, n, 0, at);
}

// ---- Slice ----
typedef struct slice_plan {
  sd_dim start[SD_MAX_RANK], count[SD_MAX_RANK];
  int64_t step[SD_MAX_RANK];
} slice_plan;

// v + d where v is negative, when its sign is not known: v + d * min(1, max(0, -v)).
static sd_dim from_end(sd_dimtab *t, sd_dim v, sd_dim d) {
  sd_dim zero = sd_dim_const(t, 0), negative = sd_dim_max(t, zero, sd_dim_sub(t, zero, v));
  return sd_dim_add(t, v, sd_dim_mul(t, d, sd_dim_min(t, negative, sd_dim_const(t, 1))));
}

// A bound counted from the end when negative, clamped to [low, high].
static sd_dim slice_bound(sd_dimtab *t, sd_dim v, sd_dim d, sd_dim low, sd_dim high) {
  int64_t c;
  if (sd_dim_is_const(t, v, &c)) {
    if (c > INT32_MAX - 1) return high; // "to the end" in exported models: INT32_MAX or INT64_MAX
    if (c < INT32_MIN + 2) return low;
    if (c < 0) v = sd_dim_add(t, d, v);
  } else if (sd_dim_get(t, v)->max < 0) {
    v = sd_dim_add(t, d, v);
  } else if (sd_dim_get(t, v)->min < 0) {
    v = from_end(t, v, d);
  }
  return sd_dim_max(t, low, sd_dim_min(t, v, high));
}

static sard_status *plan_axis(const sd_node *n, int axis, sd_dim start, sd_dim end, int64_t step, slice_plan *p) {
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim d = n->in[0]->dims[axis], zero = sd_dim_const(t, 0), minus = sd_dim_const(t, -1), last = sd_dim_add(t, d, minus);
  if (step == 0) return SD_SH_ERR(n, MODEL, "step 0 for axis %d", axis);
  if (step == INT64_MIN) step++; // the same meaning, and it can be negated
  bool up = step > 0;
  p->step[axis] = step;
  p->start[axis] = slice_bound(t, start, d, up ? zero : minus, up ? d : last);
  end = slice_bound(t, end, d, up ? zero : minus, up ? d : last);
  if (p->start[axis] == SD_DIM_NONE || end == SD_DIM_NONE)
    return SD_SH_ERR(n, MODEL, "start or end of axis %d is too large", axis);
  p->count[axis] = sd_sh_range(t, p->start[axis], end, step);
  return NULL;
}

static sard_status *plan_slice(const sd_node *n, slice_plan *p) {
  sd_dim starts[SD_MAX_RANK], ends[SD_MAX_RANK];
  int64_t axes[SD_MAX_RANK], steps[SD_MAX_RANK];
  int at[SD_MAX_RANK];
  uint32_t count = 0, c2 = 0;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  int rank = n->in[0]->rank;
  for (int i = 0; i < rank; i++) {
    p->start[i] = sd_dim_const(sd_sh_tab(n), 0);
    p->count[i] = n->in[0]->dims[i];
    p->step[i] = 1;
  }
  SD_TRY(sd_sh_elems(n, 1, starts, SD_MAX_RANK, &count));
  SD_TRY(sd_sh_elems(n, 2, ends, SD_MAX_RANK, &c2));
  if (c2 != count) return SD_SH_ERR(n, MODEL, "%u starts but %u ends", count, c2);
  for (uint32_t i = 0; i < count; i++) axes[i] = i, steps[i] = 1;
  if (sd_sh_in(n, 3)) SD_TRY(sd_sh_ints(n, 3, axes, SD_MAX_RANK, &c2));
  if (c2 != count) return SD_SH_ERR(n, MODEL, "%u starts but %u axes", count, c2);
  if (sd_sh_in(n, 4)) SD_TRY(sd_sh_ints(n, 4, steps, SD_MAX_RANK, &c2));
  if (c2 != count) return SD_SH_ERR(n, MODEL, "%u starts but %u steps", count, c2);
  SD_TRY(sd_sh_axes(n, axes, count, rank, at));
  for (uint32_t i = 0; i < count; i++) SD_TRY(plan_axis(n, at[i], starts[i], ends[i], steps[i], p));
  return NULL;
}

// Axes or steps that only the run knows, or how many they are: all is planned then.
static bool slice_is_open(const sd_node *n) {
  sd_dim e[SD_SH_ELEMS];
  uint32_t count;
  int64_t len;
  if (sd_sh_open(n, 3) || sd_sh_open(n, 4)) return true;
  for (uint32_t i = 1; i < 3; i++)
    if (!sd_sh_try_elems(n, i, e, SD_SH_ELEMS, &count) && !sd_sh_length(n, i, &len)) return true;
  return false;
}

static sard_status *slice_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  sd_value *plan = sd_xg_sizes(&g, SD_SIZES_SLICE, n->in, n->n_in, NULL, 0, 4 * (uint32_t)n->in[0]->rank);
  return sd_xg_become(&g, "sard.Strided", (sd_value *[]){n->in[0], plan}, 2);
}

sard_status *sd_shape_slice(sd_node *n) {
  slice_plan p;
  sd_dim e[SD_SH_ELEMS], r[SD_SH_ELEMS];
  uint32_t known = 0;
  int64_t start, count;
  if (slice_is_open(n)) return slice_open(n);
  SD_TRY(plan_slice(n, &p));
  SD_TRY(sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, p.count));
  if (n->in[0]->rank != 1 || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &known)) return NULL;
  if (!sd_dim_is_const(sd_sh_tab(n), p.start[0], &start) || !sd_dim_is_const(sd_sh_tab(n), p.count[0], &count))
    return NULL;
  for (int64_t i = 0; i < count; i++) {
    int64_t from = start + i * p.step[0];
    if (from < 0 || from >= (int64_t)known) return NULL;
    r[i] = e[from];
  }
  sd_sh_set_elems(n, 0, r, (uint32_t)count);
  return NULL;
}

sd_expr *sd_pull_slice(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  slice_plan p;
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = plan_slice(n, &p);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < n->in[0]->rank; i++)
    at[i] = x_add(b, sd_x_mul_dim(b->k, idx[i], sd_dim_const(b->dims, p.step[i])), x_dim(b, p.start[i]));
  return sd_tb_load(b, n, 0, at);
}

// ---- Pad ----
typedef struct pad_plan { sd_dim before[SD_MAX_RANK], after[SD_MAX_RANK]; } pad_plan;

static sard_status *plan_pad(const sd_node *n, pad_plan *p) {
  sd_dim pads[2 * SD_MAX_RANK];
  int64_t axes[SD_MAX_RANK];
  int at[SD_MAX_RANK];
  uint32_t count = 0, n_axes;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  n_axes = (uint32_t)n->in[0]->rank;
  for (uint32_t i = 0; i < n_axes; i++) {
    axes[i] = i;
    p->before[i] = p->after[i] = sd_dim_const(sd_sh_tab(n), 0);
  }
  if (sd_sh_in(n, 3)) SD_TRY(sd_sh_ints(n, 3, axes, SD_MAX_RANK, &n_axes));
  SD_TRY(sd_sh_axes(n, axes, n_axes, n->in[0]->rank, at));
  SD_TRY(sd_sh_elems(n, 1, pads, 2 * SD_MAX_RANK, &count));
  if (count != 2 * n_axes) return SD_SH_ERR(n, MODEL, "%u pads for %u axes", count, n_axes);
  for (uint32_t i = 0; i < n_axes; i++) {
    p->before[at[i]] = pads[i];
    p->after[at[i]] = pads[n_axes + i];
  }
  return NULL;
}

static bool pad_is_open(const sd_node *n) {
  sd_dim e[2 * SD_MAX_RANK];
  uint32_t count;
  return sd_sh_open(n, 3) || !sd_sh_try_elems(n, 1, e, 2 * SD_MAX_RANK, &count);
}

// Pads or axes that only the run knows: pads of all dims, the latter ones such that the dims of the result are symbols.
static sard_status *pad_open(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dimtab *t = sd_sh_tab(n);
  sd_value *x = n->in[0];
  sd_dim e[3 * SD_MAX_RANK], pads[2 * SD_MAX_RANK];
  uint32_t rank = (uint32_t)x->rank, count;
  sd_value *plan = sd_xg_sizes(&g, SD_SIZES_PAD, (sd_value *[]){x, n->in[1], sd_sh_in(n, 3)}, 3, NULL, 0, 3 * rank);
  if (!plan || !sd_value_elems(plan, e, 3 * SD_MAX_RANK, &count)) return g.st ? sd_xg_take(&g) : SD_SH_ERR(n, INTERNAL, "pads of rank %u", rank);
  for (uint32_t d = 0; d < rank; d++) {
    pads[d] = sd_dim_sub(t, e[2 * d], e[2 * d + 1]);
    pads[rank + d] = sd_dim_sub(t, sd_dim_sub(t, e[2 * rank + d], x->dims[d]), pads[d]);
  }
  sd_value *all = sd_xg_dims(&g, pads, 2 * (int)rank);
  if (g.st) return sd_xg_take(&g);
  sd_node_set_input(n, 1, all), sd_node_set_input(n, 3, NULL);
  return n->op->shape(n);
}

sard_status *sd_shape_pad(sd_node *n) {
  pad_plan p;
  sd_dim dims[SD_MAX_RANK];
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_one(n, 2));
  if (pad_is_open(n) && n->in[0]->rank) return pad_open(n);
  SD_TRY(plan_pad(n, &p));
  const char *mode = sd_node_str(n, "mode", "constant");
  if (strcmp(mode, "constant") && strcmp(mode, "reflect") && strcmp(mode, "edge") && strcmp(mode, "wrap"))
    return SD_SH_ERR(n, MODEL, "unknown mode '%s'", mode);
  for (int i = 0; i < n->in[0]->rank; i++)
    dims[i] = sd_dim_add(t, sd_dim_add(t, p.before[i], n->in[0]->dims[i]), p.after[i]);
  for (int i = 0; i < n->in[0]->rank && strcmp(mode, "constant"); i++)
    if (dims[i] != n->in[0]->dims[i]) SD_TRY(sd_sh_fed(n, n->in[0]->dims[i], dims[i]));
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims);
}

static bool not_padded(const sd_dimtab *t, sd_dim pad) { return sd_dim_get(t, pad)->max <= 0; }

// Position i (may lie outside) mirrored at the borders, which are not repeated; any distance.
static sd_expr *reflect(sd_tb *b, sd_expr *i, sd_dim d) {
  sd_dim last = sd_dim_sub(b->dims, d, sd_dim_const(b->dims, 1));
  sd_dim period = sd_dim_mul(b->dims, last, sd_dim_const(b->dims, 2));
  i = x_bin(b, SD_X_MOD, i, x_dim(b, period)); // d = 1: period 0, gives 0
  return x_min(b, i, x_sub(b, x_dim(b, period), i));
}

static sd_expr *clamp_index(sd_tb *b, sd_expr *i, sd_dim d) {
  sd_dim last = sd_dim_sub(b->dims, d, sd_dim_const(b->dims, 1));
  return x_min(b, x_max(b, i, x_int(b, 0)), x_dim(b, last));
}

static sd_expr *load_scalar(sd_tb *b, const sd_node *n, uint32_t operand) {
  sd_expr *zero[SD_MAX_RANK];
  for (int i = 0; i < n->in[operand]->rank; i++) zero[i] = x_int(b, 0);
  return sd_tb_load(b, n, operand, zero);
}

// x where every padded position is inside, else the fill value.
static sd_expr *pad_constant(sd_tb *b, const sd_node *n, const pad_plan *p, sd_expr *const *at) {
  sd_expr *inside = NULL, *saved;
  for (int i = 0; i < n->in[0]->rank; i++) {
    if (!not_padded(b->dims, p->before[i])) inside = x_and(b, inside, x_bin(b, SD_X_LE, x_int(b, 0), at[i]));
    if (!not_padded(b->dims, p->after[i]))
      inside = x_and(b, inside, x_bin(b, SD_X_LT, at[i], x_dim(b, n->in[0]->dims[i])));
  }
  if (!inside) return sd_tb_load(b, n, 0, at);
  sd_tb_guard_begin(b, inside, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, at);
  b->guard = saved; // the fill value is read outside of the guard
  sd_expr *fill = sd_tb_has(n, 2) ? load_scalar(b, n, 2) : x_num(b, x, 0);
  return x && fill ? sd_tb_guard_end(b, saved, inside, x, fill) : NULL;
}

sd_expr *sd_pull_pad(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  pad_plan p;
  sd_expr *at[SD_MAX_RANK], *some = NULL, *saved; // some: the padded dims have elements to repeat
  int64_t known;
  sard_status *st = plan_pad(n, &p);
  if (st) return sd_tb_fail(b, st);
  const char *mode = sd_node_str(n, "mode", "constant");
  const sd_dim *d = n->in[0]->dims;
  for (int i = 0; i < n->in[0]->rank; i++) at[i] = x_sub(b, idx[i], x_dim(b, p.before[i]));
  if (!strcmp(mode, "constant")) return pad_constant(b, n, &p, at);
  for (int i = 0; i < n->in[0]->rank; i++) {
    if (not_padded(b->dims, p.before[i]) && not_padded(b->dims, p.after[i])) continue;
    if (!strcmp(mode, "reflect")) at[i] = reflect(b, at[i], d[i]);
    else if (!strcmp(mode, "wrap")) at[i] = x_bin(b, SD_X_MOD, at[i], x_dim(b, d[i]));
    else at[i] = clamp_index(b, at[i], d[i]);
    some = x_and(b, some, x_bin(b, SD_X_LT, x_int(b, 0), x_dim(b, d[i])));
  }
  if (!some || (sd_x_const_value(some, NULL, &known) && known)) return sd_tb_load(b, n, 0, at);
  sd_tb_guard_begin(b, some, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, at);
  return x ? sd_tb_guard_end(b, saved, some, x, x_num(b, x, 0)) : NULL;
}

// ---- CenterCropPad ----
static sard_status *plan_crop(const sd_node *n, sd_dim *dims) {
  sd_dim want[SD_MAX_RANK];
  int at[SD_MAX_RANK];
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_elems(n, 1, want, SD_MAX_RANK, &count));
  const sd_attr *axes = sd_node_attr(n, "axes");
  bool given = axes && axes->kind == SD_ATTR_INTS;
  if (count != (given ? axes->n : (uint32_t)n->in[0]->rank))
    return SD_SH_ERR(n, MODEL, "%u sizes for %u axes", count, given ? axes->n : (uint32_t)n->in[0]->rank);
  if (given) SD_TRY(sd_sh_axes(n, axes->ints, axes->n, n->in[0]->rank, at));
  memcpy(dims, n->in[0]->dims, (size_t)n->in[0]->rank * sizeof *dims);
  for (uint32_t i = 0; i < count; i++) dims[given ? at[i] : (int)i] = want[i];
  return NULL;
}

sard_status *sd_shape_center_crop_pad(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(plan_crop(n, dims));
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims);
}

// Cropping starts at floor((in - out) / 2), padding at floor((out - in) / 2): the input position is idx plus the first
// or minus the second, of which one is 0.
sd_expr *sd_pull_center_crop_pad(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_dim zero = sd_dim_const(b->dims, 0), two = sd_dim_const(b->dims, 2);
  sd_expr *at[SD_MAX_RANK];
  pad_plan p;
  for (int i = 0; i < n->in[0]->rank; i++) {
    sd_dim in = n->in[0]->dims[i], to = n->out[out]->dims[i];
    sd_dim crop = sd_dim_max(b->dims, zero, sd_dim_floordiv(b->dims, sd_dim_sub(b->dims, in, to), two));
    p.before[i] = sd_dim_max(b->dims, zero, sd_dim_floordiv(b->dims, sd_dim_sub(b->dims, to, in), two));
    p.after[i] = sd_dim_sub(b->dims, to, in); // only its sign matters
    at[i] = x_add(b, idx[i], x_dim(b, sd_dim_sub(b->dims, crop, p.before[i])));
  }
  sd_expr *inside = NULL, *saved;
  for (int i = 0; i < n->in[0]->rank; i++) {
    if (!not_padded(b->dims, p.before[i])) inside = x_and(b, inside, x_bin(b, SD_X_LE, x_int(b, 0), at[i]));
    if (!not_padded(b->dims, p.after[i]))
      inside = x_and(b, inside, x_bin(b, SD_X_LT, at[i], x_dim(b, n->in[0]->dims[i])));
  }
  if (!inside) return sd_tb_load(b, n, 0, at);
  sd_tb_guard_begin(b, inside, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, at);
  return sd_tb_guard_end(b, saved, inside, x, x_num(b, x, 0));
}
