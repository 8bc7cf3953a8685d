// Calibration: the float model with what will become integers as outputs, run on samples.
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "frontend/cli/quantize.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"

enum { MOST_MOMENTS = 1 << 14, STILL = 50, LEAST = 64 }; // inputs of a weight; samples without news, samples at least
static const int64_t SAVE_NS = 30000000000;              // between two writes of what --resume goes on from

// What is summed beside the range of a tensor.
typedef struct sums {
  double *moments, *mean;   // NULL: not wanted
  uint64_t count;           // of moments
  float *largest, *typical; // magnitudes by channel
  double *sizes;            // their sums
  uint64_t k, rows;         // inputs, along the last axis, or axis 1 of convolutions
  bool conv;
} sums;

typedef struct reached { // how far it is
  int64_t samples, still;
} reached;

typedef struct observing {
  sd_quantize *q;
  sd_quantize_pass pass;
  int64_t saved_ns;
  sd_quant_tensors *t;
  sd_range *ranges; // of each
  sd_judged m;
  sums *s;
  int first;     // output of the first tensor
  int64_t still; // samples since a range grew by a hundredth
} observing;

// Sizes of the sums, at the first batch.
static sard_status *size_sums(observing *w, uint32_t i, const sard_tensor_desc *d) {
  sd_quantize *q = w->q;
  sums *s = &w->s[i];
  const sd_quant_tensor *t = &w->t->at[i];
  for (uint32_t k = 0; k < q->units.len && d->rank > 2; k++)
    if (strcmp(q->units.at[k].x, t->name) == 0) s->conv = strcmp(q->units.at[k].op, "Conv") == 0;
  s->k = d->rank ? (uint64_t)d->dims[s->conv ? 1 : d->rank - 1] : 1;
  if (q->correct && t->integer) s->mean = SD_NEW_ARRAY(q->c->arena, double, s->k + 1);
  if (t->by_channel) {
    s->largest = SD_NEW_ARRAY(q->c->arena, float, s->k + 1), s->typical = SD_NEW_ARRAY(q->c->arena, float, s->k + 1);
    s->sizes = SD_NEW_ARRAY(q->c->arena, double, s->k + 1);
  }
  return NULL;
}

// Values that cannot be used, in a batch.
static sard_status *unfit(const char *name, uint64_t bad, const sd_batch *b) {
  return SD_ERR(USAGE,
                "'%s' has %llu values that are NaN or infinite in samples %lld to %lld: the data, or the model, are "
                "not fit for calibration",
                name, (unsigned long long)bad, (long long)b->first, (long long)(b->first + b->count - 1));
}

// Those of the batch, which the model has summed.
static sard_status *add_moments(observing *w, uint32_t i, const float *x, uint64_t n, const sd_batch *b) {
  const sd_quant_tensor *t = &w->t->at[i];
  sums *s = &w->s[i];
  uint64_t bad = 0;
  if (!s->moments) {
    s->count = t->groups * t->k * t->k;
    s->moments = SD_NEW_ARRAY(w->q->c->arena, double, s->count);
  }
  if (n != s->count) return SD_ERR(INTERNAL, "second moments of '%s' are of another size", t->name);
  for (uint64_t j = 0; j < n; j++) bad += !isfinite(x[j]), s->moments[j] += x[j];
  return bad ? unfit(t->name, bad, b) : NULL;
}

static void add_channels(sums *s, const float *x, const sard_tensor_desc *d, uint64_t n) {
  uint64_t inner = 1;
  for (int i = 2; i < d->rank && s->conv; i++) inner *= (uint64_t)d->dims[i];
  for (uint64_t i = 0; i < n && s->mean; i++) s->mean[i / inner % s->k] += x[i];
  for (uint64_t i = 0; i < n && s->sizes; i++) {
    uint64_t c = i / inner % s->k;
    float most = fabsf(x[i]);
    s->sizes[c] += most;
    if (most > s->largest[c]) s->largest[c] = most;
  }
}

static sard_status *take(observing *w, uint32_t i, const sd_batch *b) {
  sd_range *r = &w->ranges[i];
  sums *s = &w->s[i];
  const char *name = w->t->at[i].name;
  sard_tensor_desc d;
  const float *x = sard_tensor_data(w->m.out[w->first + (int)i], &d);
  uint64_t n = 1, bad = r->bad;
  double span = r->max - r->min;
  if (d.dtype != SARD_F32) return SD_ERR(INTERNAL, "'%s' is no f32", name);
  for (int k = 0; k < d.rank; k++) n *= (uint64_t)d.dims[k];
  if (w->t->at[i].by_moments) return add_moments(w, i, x, n, b);
  if (!s->k) SD_TRY(size_sums(w, i, &d));
  sd_range_add(r, x, n);
  if (r->bad > bad) return unfit(name, r->bad - bad, b);
  if (!(r->max - r->min <= span * 1.01)) w->still = 0;
  if (!s->k) return NULL; // no elements
  add_channels(s, x, &d, n);
  s->rows += n / s->k;
  return NULL;
}

// ---- what an earlier run summed ----

typedef SD_VEC(sd_piece) pieces;

static void put(observing *w, pieces *p, const void *at, uint64_t size) {
  if (at) sd_vec_push(w->q->c->arena, p, ((sd_piece){at, size}));
}

static void list_sums(observing *w, reached *r, pieces *p) {
  put(w, p, r, sizeof *r);
  for (uint32_t i = 0; i < w->t->len; i++) {
    sums *s = &w->s[i];
    put(w, p, &w->ranges[i], offsetof(sd_range, bins));
    put(w, p, w->ranges[i].bins, SD_RANGE_BINS * sizeof *w->ranges[i].bins);
    put(w, p, &s->rows, sizeof s->rows);
    put(w, p, s->moments, s->count * sizeof *s->moments), put(w, p, s->mean, s->k * sizeof *s->mean);
    put(w, p, s->largest, s->k * sizeof *s->largest), put(w, p, s->sizes, s->k * sizeof *s->sizes);
  }
}

static sard_status *save(observing *w) {
  reached r = {w->q->samples, w->still};
  pieces p = {0};
  if (!sd_args_given(w->q->c, "resume")) return NULL;
  list_sums(w, &r, &p);
  w->saved_ns = sd_now_ns();
  return sd_quantize_pass_write(w->q, &w->pass, p.at, p.len);
}

// Behind the first batch, which tells the sizes of the sums: theirs take its place, and the samples that they have are left out.
static sard_status *recall(observing *w, int64_t want) {
  sd_quantize *q = w->q;
  reached r = {q->samples, w->still};
  pieces p = {0};
  bool found;
  int64_t first = q->samples;
  if (!sd_args_given(q->c, "resume")) return NULL;
  list_sums(w, &r, &p);
  SD_TRY(sd_quantize_pass_read(q, &w->pass, p.at, p.len, &found));
  if (!found) return NULL;
  if (r.samples > want || r.samples < first)
    return SD_ERR(USAGE, "--resume: what is there is of %lld samples, and %lld are wanted: give another file",
                  (long long)r.samples, (long long)want);
  q->calibrated = r.samples, q->samples = r.samples, w->still = r.still;
  return sd_judge_leave(&q->judge, r.samples - first);
}

static sard_status *batches(observing *w, int64_t want, bool given) {
  sd_quantize *q = w->q;
  int64_t t0 = sd_now_ns();
  q->samples = q->calibrated = 0, w->saved_ns = t0;
  while (q->samples < want && (given || w->still < STILL || q->samples < LEAST)) {
    sd_batch b;
    sard_status *st = sd_data_next(q->judge.data, sd_min_i64(q->judge.batch, want - q->samples), &b);
    if (!st) st = sd_judge_run(&q->judge, &w->m, &b);
    w->still += b.count;
    for (uint32_t i = 0; !st && i < w->t->len; i++) st = take(w, i, &b);
    bool begins = q->samples == 0;
    if (!st) q->samples += b.count;
    sd_batch_free(&b);
    if (!st && begins) st = recall(w, want);
    if (!st && sd_now_ns() - w->saved_ns > SAVE_NS) st = save(w);
    SD_TRY(st);
    sd_judge_progress(q->c, "calibrating", q->samples, want, (double)(sd_now_ns() - t0) * 1e-9);
  }
  return NULL;
}

// Both halves were summed, in another order each.
static void mirror(double *h, uint64_t k) {
  for (uint64_t i = 0; i < k; i++)
    for (uint64_t j = 0; j < i; j++) h[j * k + i] = h[i * k + j];
}

static void finish(observing *w) {
  for (uint32_t i = 0; i < w->t->len; i++) {
    sums *s = &w->s[i];
    sd_quant_tensor *t = &w->t->at[i];
    for (uint64_t g = 0; s->moments && g < t->groups; g++) mirror(s->moments + g * t->k * t->k, t->k);
    for (uint64_t k = 0; s->mean && s->rows && k < s->k; k++) s->mean[k] /= (double)s->rows;
    for (uint64_t k = 0; s->sizes && s->rows && k < s->k; k++) s->typical[k] = (float)(s->sizes[k] / (double)s->rows);
    t->moments = s->moments, t->mean = s->mean, t->largest = s->largest, t->typical = s->typical;
  }
}

static sard_status *run(observing *w) {
  sd_quantize *q = w->q;
  int64_t all = sd_data_count(q->judge.data), want = sd_max_i64(1, sd_min_i64(256, all / 5));
  SD_TRY(sd_args_int(q->c, "samples", 1, INT64_MAX, &want));
  want = sd_min_i64(want, all);
  SD_TRY(sd_data_rewind(q->judge.data));
  w->first = w->m.n_out - (int)w->t->len;
  sard_status *st = batches(w, want, sd_args_given(q->c, "samples"));
  sd_cli_progress(q->c, NULL);
  if ((!st && q->samples > q->calibrated) || (sard_status_code(st) == SARD_E_CANCELLED && q->samples)) {
    sard_status *bad = save(w);
    if (!st) st = bad;
    else
      sard_status_free(bad);
  }
  if (!st) finish(w);
  return st;
}

// The data are opened on the model as it is observed, which has the same inputs.
sard_status *sd_quantize_look(sd_quantize *q, sd_quant_tensors *t, sd_range *ranges) {
  observing w = {.q = q, .t = t, .ranges = ranges};
  sd_arena *a = sd_arena_scratch(q->c->arena);
  const sd_packed *watched;
  for (uint32_t i = 0; i < t->len; i++)
    if (t->at[i].by_moments && t->at[i].k > MOST_MOMENTS)
      return SD_ERR(UNSUPPORTED,
                    "second moments of %llu inputs ('%s') need too much memory: use --rounding nearest without --awq, "
                    "or --keep-float",
                    (unsigned long long)t->at[i].k, t->at[i].name);
  SD_TRY(sd_quant_watch(a, &q->src, &q->o, &q->units, t, &watched));
  sd_quantize_pass_begin(q, watched, &w.pass);
  w.s = SD_NEW_ARRAY(q->c->arena, sums, t->len + 1);
  SD_TRY(sd_model_load_packed(q->c, q->judge.ctx, &watched->src, &w.m.m));
  sard_status *st = q->judge.data ? NULL : sd_judge_data(&q->judge, &w.m.m);
  if (!st) st = sd_judge_begin(&q->judge, &w.m);
  if (!st) st = sd_judge_labels(&q->judge, &w.m);
  if (!st && t->len) st = run(&w);
  sd_judged_free(&w.m);
  sd_arena_free(a);
  return st;
}

sard_status *sd_quantize_observe(sd_quantize *q) {
  if (!sd_args_given(q->c, "data")) return NULL;
  SD_TRY(sd_quant_place(q->c->arena, &q->src, &q->o, &q->units, &q->tensors));
  q->ranges = SD_NEW_ARRAY(q->c->arena, sd_range, q->tensors.len + 1);
  for (uint32_t i = 0; i < q->tensors.len; i++)
    sd_range_init(&q->ranges[i], SD_NEW_ARRAY(q->c->arena, uint64_t, SD_RANGE_BINS));
  SD_TRY(sd_quantize_look(q, &q->tensors, q->ranges));
  sd_quantize_scale(q);
  return NULL;
}

void sd_quantize_reach(const sd_quantize *q, int32_t *least, int32_t *most) {
  *least = q->o.signed_acts ? -128 : 0, *most = q->o.signed_acts ? 127 : 255;
  if (q->o.type != SD_I8) *most = sd_affine_most(q->o.type), *least = -*most;
}

void sd_quantize_scale(sd_quantize *q) {
  for (uint32_t i = 0; i < q->tensors.len; i++) {
    double lo = 0, hi = 0;
    if (!q->tensors.at[i].integer || !q->ranges[i].count) continue;
    q->method->find(&q->ranges[i], q->number, &lo, &hi);
    int32_t least, most;
    sd_quantize_reach(q, &least, &most);
    q->tensors.at[i].affine = sd_affine_of(lo, hi, least, most, least < 0);
  }
}
