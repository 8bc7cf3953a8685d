// sard.Sizes: numbers for shapes, from the dims of operands and the contents of small ones (families: runtime/host.h).
#include <math.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

#define MOST (INT64_MAX / 4) // the largest value of a symbol

typedef struct sizes {
  const sd_host_call *c;
  const sd_host_tensor *x; // operand 0
  const int64_t *param;    // behind family and count
  uint32_t n_param;
  int64_t *out;
  uint64_t room, n;
} sizes;

// ---- operands and results ----
static sard_status *put(sizes *s, int64_t v) {
  if (s->n == s->room) return SD_ERR(MODEL, "more than %llu sizes", (unsigned long long)s->room);
  if (v < 0 || v > MOST) return SD_ERR(MODEL, "a size of %lld", (long long)v);
  s->out[s->n++] = v;
  return NULL;
}

// A number of any sign, as two of which one is 0.
static sard_status *put_signed(sizes *s, int64_t v) {
  if (v < -MOST) return SD_ERR(MODEL, "a size of %lld", (long long)v);
  SD_TRY(put(s, v > 0 ? v : 0));
  return put(s, v < 0 ? -v : 0);
}

static const sd_host_tensor *operand(const sizes *s, uint32_t i) {
  return i < s->c->n_in && s->c->in[i].dtype ? &s->c->in[i] : NULL;
}

static sard_status *given(const sizes *s, uint32_t i, bool whole, const sd_host_tensor **out) {
  *out = operand(s, i);
  if (!*out) return SD_ERR(MODEL, "operand %u is missing", i);
  if (whole ? sd_dtype_is_int((*out)->dtype) : sd_dtype_is_int((*out)->dtype) || sd_dtype_is_float((*out)->dtype)) return NULL;
  return SD_ERR(MODEL, "operand %u has type %s", i, sd_dtype_name((*out)->dtype));
}

static int64_t whole_at(const sd_host_tensor *t, uint64_t i) {
  int64_t v = sd_dtype_get_i64(t->dtype, t->data, i);
  return t->dtype == SD_U64 && v < 0 ? INT64_MAX : v;
}

static sard_status *one_axis(int64_t axis, int rank, int *out) {
  if (axis < -(int64_t)rank || axis >= rank) return SD_ERR(MODEL, "axis %lld is out of range for rank %d", (long long)axis, rank);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return NULL;
}

// Axes in operand i, all of them when it is omitted. at: in the order given; *bits: which.
static sard_status *axes_in(const sizes *s, uint32_t i, int rank, int *at, uint64_t *count, uint32_t *bits) {
  const sd_host_tensor *t;
  *bits = 0;
  if (!operand(s, i)) {
    for (int d = 0; d < rank; d++) at[d] = d;
    *bits = (1u << rank) - 1u, *count = (uint64_t)rank;
    return NULL;
  }
  SD_TRY(given(s, i, true, &t));
  if (t->count > (uint64_t)rank) return SD_ERR(MODEL, "%llu axes are given for rank %d", (unsigned long long)t->count, rank);
  *count = t->count;
  for (uint64_t k = 0; k < t->count; k++) {
    SD_TRY(one_axis(whole_at(t, k), rank, &at[k]));
    if (*bits >> at[k] & 1u) return SD_ERR(MODEL, "axis %lld is given twice", (long long)whole_at(t, k));
    *bits |= 1u << at[k];
  }
  return NULL;
}

static sard_status *same_count(const char *what, uint64_t n, uint64_t want) {
  return n == want ? NULL : SD_ERR(MODEL, "%llu %s where %llu are needed", (unsigned long long)n, what, (unsigned long long)want);
}

// ---- axes ----
static sard_status *pairs(sizes *s) {
  int at[SD_HOST_RANK];
  uint64_t count;
  uint32_t bits;
  SD_TRY(axes_in(s, 1, s->x->rank, at, &count, &bits));
  if (!count && !s->param[0]) bits = (1u << s->x->rank) - 1u;
  for (int d = 0; d < s->x->rank; d++) {
    bool reduced = bits >> d & 1u;
    SD_TRY(put(s, reduced ? 1 : s->x->dims[d]));
    SD_TRY(put(s, reduced ? s->x->dims[d] : 1));
  }
  return NULL;
}

static sard_status *without(sizes *s) {
  int at[SD_HOST_RANK];
  uint64_t count;
  uint32_t bits;
  SD_TRY(axes_in(s, 1, s->x->rank, at, &count, &bits));
  for (int d = 0; d < s->x->rank; d++) {
    if (!(bits >> d & 1u)) SD_TRY(put(s, s->x->dims[d]));
    else if (s->param[0] && s->x->dims[d] != 1) return SD_ERR(MODEL, "dim %d is %lld: only dims of 1 can be taken away", d, (long long)s->x->dims[d]);
  }
  return NULL;
}

static sard_status *with_ones(sizes *s) {
  const sd_host_tensor *t;
  int at[SD_HOST_RANK], from = 0;
  uint64_t count;
  uint32_t bits;
  SD_TRY(given(s, 1, true, &t));
  if (t->count > (uint64_t)(SD_HOST_RANK - s->x->rank)) return SD_ERR(MODEL, "the result would have rank %llu", (unsigned long long)t->count + (unsigned)s->x->rank);
  int rank = s->x->rank + (int)t->count;
  SD_TRY(axes_in(s, 1, rank, at, &count, &bits));
  for (int d = 0; d < rank; d++) SD_TRY(put(s, bits >> d & 1u ? 1 : s->x->dims[from++]));
  return NULL;
}

static sard_status *axis_in(const sizes *s, int rank, int *out) {
  const sd_host_tensor *t;
  SD_TRY(given(s, 1, true, &t));
  SD_TRY(same_count("axes", t->count, 1));
  return one_axis(whole_at(t, 0), rank, out);
}

// Dims before the axis, it, and those behind it, but for the last param[0] ones.
static sard_status *around(sizes *s) {
  int axis, end = s->x->rank - (int)s->param[0];
  int64_t part[3] = {1, 1, 1};
  if (s->param[0] < 0 || s->param[0] > s->x->rank) return SD_ERR(MODEL, "the last %lld dims", (long long)s->param[0]);
  SD_TRY(axis_in(s, s->x->rank, &axis));
  if (axis >= end) return SD_ERR(MODEL, "axis %d is that of the components", axis);
  for (int d = 0; d < end; d++)
    if (!sd_ck_mul_i64(part[d < axis ? 0 : d > axis ? 2 : 1], s->x->dims[d], &part[d < axis ? 0 : d > axis ? 2 : 1])) return SD_ERR(MODEL, "sizes overflow");
  for (int i = 0; i < 3; i++) SD_TRY(put(s, part[i]));
  return NULL;
}

// The dims of x again, with that of the axis and the last param[0] ones from the tensor that `around` led to.
static sard_status *replaced(sizes *s) {
  const sd_host_tensor *y = operand(s, 2);
  int axis, last = (int)s->param[0];
  SD_TRY(axis_in(s, s->x->rank, &axis));
  if (!y || y->rank != 3 + s->param[0] || last > s->x->rank) return SD_ERR(MODEL, "operand 2 does not fit");
  for (int d = 0; d < s->x->rank; d++) {
    int from_end = s->x->rank - 1 - d;
    SD_TRY(put(s, d == axis ? y->dims[1] : from_end < last ? y->dims[y->rank - 1 - from_end] : s->x->dims[d]));
  }
  return NULL;
}

// ---- pieces ----
// A bound counted from the end when negative, limited to [low, high].
static int64_t bound(int64_t v, int64_t d, int64_t low, int64_t high) {
  if (v < 0) v += d;
  return v < low ? low : v > high ? high : v;
}

static sard_status *slice_axis(const sd_host_tensor *const *t, uint64_t i, int64_t d, int64_t *out) {
  int64_t step = t[3] ? whole_at(t[3], i) : 1, count = 0;
  if (step == 0) return SD_ERR(MODEL, "step 0 for axis number %llu", (unsigned long long)i);
  if (step == INT64_MIN) step++;
  bool up = step > 0;
  int64_t start = bound(whole_at(t[0], i), d, up ? 0 : -1, up ? d : d - 1), end = bound(whole_at(t[1], i), d, up ? 0 : -1, up ? d : d - 1);
  int64_t span = up ? end - start : start - end;
  if (span > 0) count = (span - 1) / (up ? step : -step) + 1;
  out[0] = count ? start : 0, out[1] = count > 1 ? step : 1, out[2] = count;
  return NULL;
}

static sard_status *slice(sizes *s) {
  const sd_host_tensor *t[4];
  int at[SD_HOST_RANK];
  int64_t plan[SD_HOST_RANK][3];
  uint64_t count;
  uint32_t bits;
  for (uint32_t i = 0; i < 4; i++)
    if (i < 2 || operand(s, i + 1)) SD_TRY(given(s, i + 1, true, &t[i]));
    else t[i] = NULL;
  SD_TRY(axes_in(s, 3, s->x->rank, at, &count, &bits));
  if (!t[2] && t[0]->count <= (uint64_t)s->x->rank) count = t[0]->count;
  SD_TRY(same_count("starts", t[0]->count, count));
  SD_TRY(same_count("ends", t[1]->count, count));
  if (t[3]) SD_TRY(same_count("steps", t[3]->count, count));
  for (int d = 0; d < s->x->rank; d++) plan[d][0] = 0, plan[d][1] = 1, plan[d][2] = s->x->dims[d];
  for (uint64_t i = 0; i < count; i++) SD_TRY(slice_axis(t, i, s->x->dims[at[i]], plan[at[i]]));
  for (int d = 0; d < s->x->rank; d++) {
    SD_TRY(put(s, plan[d][0]));
    SD_TRY(put_signed(s, plan[d][1]));
    SD_TRY(put(s, plan[d][2]));
  }
  return NULL;
}

static sard_status *pad(sizes *s) {
  const sd_host_tensor *t;
  int at[SD_HOST_RANK];
  int64_t before[SD_HOST_RANK] = {0}, out[SD_HOST_RANK];
  uint64_t count;
  uint32_t bits;
  SD_TRY(given(s, 1, true, &t));
  SD_TRY(axes_in(s, 2, s->x->rank, at, &count, &bits));
  SD_TRY(same_count("pads", t->count, 2 * count));
  for (int d = 0; d < s->x->rank; d++) out[d] = s->x->dims[d];
  for (uint64_t i = 0; i < count; i++) {
    int64_t a = whole_at(t, i), b = whole_at(t, count + i), *y = &out[at[i]];
    before[at[i]] = a;
    if (__builtin_add_overflow(*y, a, y) || __builtin_add_overflow(*y, b, y) || *y < 0)
      return SD_ERR(MODEL, "pads %lld and %lld of a dim of %lld", (long long)a, (long long)b, (long long)s->x->dims[at[i]]);
  }
  for (int d = 0; d < s->x->rank; d++) SD_TRY(put_signed(s, before[d]));
  for (int d = 0; d < s->x->rank; d++) SD_TRY(put(s, out[d]));
  return NULL;
}

// ---- numbers ----
int64_t sd_host_defined(sd_dtype t, const void *data, uint64_t i, int64_t sign) {
  int64_t v = sd_dtype_get_i64(t, data, i);
  if (t == SD_U64 && v < 0) v = INT64_MAX; // larger than all that a size can be
  if (sign == 2) return v < -MOST ? -MOST : v > MOST ? MOST : v;
  return sign && v == INT64_MIN ? v + 1 : v;
}

// The simplest p/q within float precision of v, by continued fractions.
bool sd_host_fraction(double v, int64_t *p, int64_t *q) {
  double x = v < 0 ? -v : v;
  int64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0;
  if (!(x <= 1e9)) return false;
  for (int i = 0; i < 32; i++) {
    int64_t a = (int64_t)x, p2 = a * p1 + p0, q2 = a * q1 + q0;
    if (q2 > (1 << 20) || p2 > (INT64_C(1) << 40)) return false;
    double err = (double)p2 / (double)q2 - (v < 0 ? -v : v);
    if ((err < 0 ? -err : err) <= 1e-7 * (v < 0 ? -v : v)) {
      *p = v < 0 ? -p2 : p2;
      *q = q2;
      return true;
    }
    double rest = x - (double)a;
    if (rest < 1e-12) return false;
    p0 = p1, q0 = q1, p1 = p2, q1 = q2, x = 1 / rest;
  }
  return false;
}

// floor(in * scale), with the scale read as the simple fraction that it was before it became a float.
static sard_status *scaled(sizes *s) {
  const sd_host_tensor *t;
  SD_TRY(given(s, 1, false, &t));
  SD_TRY(same_count("scales", t->count, s->n_param));
  for (uint32_t i = 0; i < s->n_param; i++) {
    double scale = sd_dtype_get_f64(t->dtype, t->data, i);
    int64_t p, q, v;
    if (s->param[i] < 0 || s->param[i] >= s->x->rank) return SD_ERR(MODEL, "axis %lld", (long long)s->param[i]);
    if (!(scale > 0 && scale < 1e9)) return SD_ERR(MODEL, "scale %g", scale);
    int64_t d = s->x->dims[s->param[i]];
    if (sd_host_fraction(scale, &p, &q) && sd_ck_mul_i64(d, p, &v)) SD_TRY(put(s, v / q));
    else SD_TRY(put(s, (int64_t)fmin(floor((double)((float)d * (float)scale)), 9e18)));
  }
  return NULL;
}

static sard_status *whole_range(const sd_host_tensor *const *t, uint64_t *out) {
  int64_t start = whole_at(t[0], 0), limit = whole_at(t[1], 0), delta = whole_at(t[2], 0);
  if (delta == 0) return SD_ERR(MODEL, "a range by steps of 0");
  uint64_t span = delta > 0 ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
  bool some = delta > 0 ? start < limit : start > limit;
  *out = some ? (span - 1) / (delta > 0 ? (uint64_t)delta : -(uint64_t)delta) + 1 : 0;
  return NULL;
}

static sard_status *range(sizes *s) {
  const sd_host_tensor *t[3];
  double v[3];
  uint64_t len = 0;
  for (uint32_t i = 0; i < 3; i++) {
    SD_TRY(given(s, i, false, &t[i]));
    SD_TRY(same_count("numbers", t[i]->count, 1));
    v[i] = sd_dtype_get_f64(t[i]->dtype, t[i]->data, 0);
  }
  if (sd_dtype_is_int(t[0]->dtype) && sd_dtype_is_int(t[1]->dtype) && sd_dtype_is_int(t[2]->dtype)) {
    SD_TRY(whole_range(t, &len));
    return put(s, len > MOST ? -1 : (int64_t)len);
  }
  double steps = v[2] != 0 ? ceil((v[1] - v[0]) / v[2]) : NAN;
  if (!(steps <= 1e15)) return SD_ERR(MODEL, "a range from %g to %g by %g", v[0], v[1], v[2]);
  return put(s, steps > 0 ? (int64_t)steps : 0);
}

static sard_status *number(sizes *s) {
  const sd_host_tensor *t;
  SD_TRY(given(s, 0, false, &t));
  SD_TRY(same_count("numbers", t->count, 1));
  if (sd_dtype_is_int(t->dtype)) return put(s, whole_at(t, 0));
  double v = sd_dtype_get_f64(t->dtype, t->data, 0);
  return v > -1 && v < 1e15 ? put(s, (int64_t)v) : SD_ERR(MODEL, "a size of %g", v);
}

// ---- the function ----
static const struct { sard_status *(*fn)(sizes *s); uint32_t n_param; } families[] = {
    [SD_SIZES_PAIRS] = {pairs, 1},  [SD_SIZES_WITHOUT] = {without, 1}, [SD_SIZES_WITH_ONES] = {with_ones, 0}, [SD_SIZES_AROUND] = {around, 1},
    [SD_SIZES_REPLACED] = {replaced, 1}, [SD_SIZES_SLICE] = {slice, 0}, [SD_SIZES_PAD] = {pad, 0}, [SD_SIZES_SCALED] = {scaled, 0},
    [SD_SIZES_RANGE] = {range, 0},  [SD_SIZES_NUMBER] = {number, 0},
};

sard_status *sd_host_sizes(sd_host_call *c) {
  int64_t family = c->param[0], count = c->param[1];
  if (family < 0 || family >= (int64_t)(sizeof families / sizeof *families) || count < 0 || c->n_param - 2 < families[family].n_param)
    return SD_ERR(MODEL, "there are no sizes of family %lld", (long long)family);
  if (c->n_out != 1 || c->out[0].dtype != SD_I64 || c->out[0].rank != 1) return SD_ERR(MODEL, "sizes are a vector of i64");
  SD_TRY(c->make(c, 0, &count));
  sizes s = {.c = c, .x = &c->in[0], .param = c->param + 2, .n_param = c->n_param - 2, .out = c->out[0].data, .room = (uint64_t)count};
  SD_TRY(families[family].fn(&s));
  return s.n == s.room ? NULL : SD_ERR(MODEL, "%llu sizes where %llu are needed", (unsigned long long)s.n, (unsigned long long)s.room);
}
