// Groups of few bits: rounding, and GPTQ (Frantar et al. 2022) on the second moments of the inputs.
#include "passes/quantize/groups.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "passes/quantize/affine.h"
#include "passes/quantize/factor.h"
#include "runtime/base/alloc.h"

sard_status *sd_groups_new(uint64_t rows, uint64_t k, uint64_t group, int bits, bool symmetric,
                           sd_groups *g) {
  uint64_t count, n;
  *g = (sd_groups){.rows = rows,
                   .k = k,
                   .group = group,
                   .per_row = (k + group - 1) / group,
                   .bits = bits,
                   .symmetric = symmetric};
  if (!sd_ck_mul(rows, k, &count) || !sd_ck_mul(rows * g->per_row, sizeof(float), &n))
    return SD_ERR(UNSUPPORTED, "a weight is too large");
  g->q = sd_malloc(count + 1), g->scales = sd_malloc(n + 1), g->zeros = sd_malloc(rows * g->per_row + 1);
  if (g->q && g->scales && g->zeros) return NULL;
  sd_groups_free(g);
  return SD_ERR(NOMEM, "out of memory for quantized weights");
}

void sd_groups_fix(sd_groups *g, const float *scales, uint64_t step, uint8_t least) {
  for (uint64_t r = 0; r < g->rows; r++)
    g->scales[r] = scales[r * step], g->zeros[r] = (uint8_t)(1 << (g->bits - 1));
  g->fixed = true, g->least = least;
}

void sd_groups_free(sd_groups *g) {
  sd_free(g->q), sd_free(g->scales), sd_free(g->zeros);
  g->q = g->zeros = NULL, g->scales = NULL;
}

// Scale and zero point of weights w[0], w[1], ..., n of them.
static void fit(const sd_groups *g, const float *w, uint64_t n, float *scale, uint8_t *zero) {
  int most = (1 << g->bits) - 1, middle = 1 << (g->bits - 1);
  float lo = 0, hi = 0;
  if (g->fixed) return;
  for (uint64_t i = 0; i < n; i++) lo = fminf(lo, w[i]), hi = fmaxf(hi, w[i]);
  if (g->symmetric) {
    *scale = fmaxf(-lo / (float)middle,
                   hi / (float)(middle - 1 > 0 ? middle - 1 : 1)); // from -2^(bits-1) to 2^(bits-1) - 1
    *zero = (uint8_t)middle;
    if (!(*scale >= FLT_MIN)) *scale = 1;
    return;
  }
  sd_affine a = sd_affine_of(lo, hi, 0, most, false);
  *scale = a.scale, *zero = (uint8_t)a.zero;
}

static uint8_t nearest(const sd_groups *g, float w, float scale, uint8_t zero) {
  float q = nearbyintf(w / scale) + (float)zero, most = (float)((1 << g->bits) - 1);
  return (uint8_t)fminf(fmaxf(q, (float)g->least), most);
}

void sd_groups_round(sd_groups *g, const float *w) {
  for (uint64_t r = 0; r < g->rows; r++)
    for (uint64_t b = 0; b < g->per_row; b++) {
      uint64_t from = b * g->group, n = g->k - from < g->group ? g->k - from : g->group,
               at = r * g->per_row + b;
      const float *row = w + r * g->k + from;
      fit(g, row, n, &g->scales[at], &g->zeros[at]);
      for (uint64_t i = 0; i < n; i++)
        g->q[r * g->k + from + i] = nearest(g, row[i], g->scales[at], g->zeros[at]);
    }
}

double sd_groups_snr(const sd_groups *g, const float *w) {
  double signal = 0, noise = 0;
  for (uint64_t r = 0; r < g->rows; r++)
    for (uint64_t i = 0; i < g->k; i++) {
      uint64_t at = r * g->per_row + i / g->group, j = r * g->k + i;
      double e = w[j] - (double)((int)g->q[j] - (int)g->zeros[at]) * g->scales[at];
      signal += (double)w[j] * w[j], noise += e * e;
    }
  return sd_decibels(signal, noise);
}

// ---- GPTQ ----

static void gptq_row(sd_groups *g, uint64_t r, float *row, const double *u) {
  for (uint64_t j = 0; j < g->k; j++) {
    uint64_t at = r * g->per_row + j / g->group;
    if (j % g->group == 0)
      fit(g, row + j, g->k - j < g->group ? g->k - j : g->group, &g->scales[at], &g->zeros[at]);
    uint8_t q = g->q[r * g->k + j] = nearest(g, row[j], g->scales[at], g->zeros[at]);
    double e = (row[j] - (double)((int)q - (int)g->zeros[at]) * g->scales[at]) / u[j * g->k + j];
    for (uint64_t i = j + 1; i < g->k; i++) row[i] -= (float)(e * u[j * g->k + i]);
  }
}

sard_status *sd_groups_gptq(sd_groups *g, const float *w, const double *h, sd_check check) {
  uint64_t bytes;
  if (!sd_ck_mul(g->k, g->k, &bytes) || !sd_ck_mul(bytes, sizeof(double), &bytes))
    return SD_ERR(UNSUPPORTED, "a weight is too large");
  double *u = sd_malloc(bytes + 1), *work = sd_malloc(bytes + 1);
  float *row = sd_malloc(g->k * sizeof *row + 1);
  bool room = u && work && row, good = false;
  sard_status *st = room ? sd_factor_damped(h, g->k, u, work, check, &good) : NULL;
  if (room && !st && !good) sd_groups_round(g, w); // inputs are all 0
  for (uint64_t r = 0; good && !st && r < g->rows; r++) {
    memcpy(row, w + r * g->k, g->k * sizeof *row);
    gptq_row(g, r, row, u);
    if (check) st = check();
  }
  sd_free(u), sd_free(work), sd_free(row);
  return room ? st
              : SD_ERR(NOMEM, "out of memory for second moments of %llu inputs", (unsigned long long)g->k);
}

// ---- errors of outputs ----

// slope = h e, e: what rounding row r changes.
static void slope_of(const sd_groups *g, uint64_t r, const float *w, const double *h, double *slope) {
  memset(slope, 0, g->k * sizeof *slope);
  for (uint64_t i = 0; i < g->k; i++) {
    double e = sd_groups_value(g, r, i) - w[i];
    const double *row = h + i * g->k;
    for (uint64_t j = 0; e != 0 && j < g->k; j++) slope[j] += row[j] * e;
  }
}

// ---- clipping ----

// How the error changes when n values from `from` on move by d: 2 d slope + d h d'.
static double change(const sd_groups *g, uint64_t from, uint64_t n, const double *h, const double *slope,
                     const double *d) {
  double sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    const double *row = h + (from + i) * g->k + from;
    double s = slope[from + i];
    for (uint64_t j = 0; j < i; j++) s += row[j] * d[j];
    sum += d[i] * (2 * s + row[i] * d[i]);
  }
  return sum;
}

// Scale and zero of a group with a part of its range.
static void fit_part(const sd_groups *g, const float *w, uint64_t n, int part, float *small, float *scale,
                     uint8_t *zero) {
  float lo = 0, hi = 0;
  for (uint64_t i = 0; i < n; i++) lo = fminf(lo, w[i]), hi = fmaxf(hi, w[i]);
  lo *= (float)part / 20, hi *= (float)part / 20;
  for (uint64_t i = 0; i < n; i++) small[i] = fminf(fmaxf(w[i], lo), hi);
  fit(g, small, n, scale, zero);
}

static void clip_group(sd_groups *g, uint64_t r, uint64_t b, const float *w, const double *h, double *slope,
                       double *d, float *small) {
  uint64_t from = b * g->group, n = g->k - from < g->group ? g->k - from : g->group, at = r * g->per_row + b;
  uint8_t *q = g->q + r * g->k + from, zero, best_zero = g->zeros[at];
  float scale, best = g->scales[at];
  double least = 0;
  for (int part = 19; part >= 10; part--) {
    fit_part(g, w + from, n, part, small, &scale, &zero);
    for (uint64_t i = 0; i < n; i++)
      d[i] = (double)((int)nearest(g, w[from + i], scale, zero) - (int)zero) * scale -
             sd_groups_value(g, r, from + i);
    double error = change(g, from, n, h, slope, d);
    if (error < least) least = error, best = scale, best_zero = zero;
  }
  if (!(least < 0)) return;
  for (uint64_t i = 0; i < n; i++) d[i] = -(double)sd_groups_value(g, r, from + i);
  g->scales[at] = best, g->zeros[at] = best_zero;
  for (uint64_t i = 0; i < n; i++) {
    q[i] = nearest(g, w[from + i], best, best_zero);
    d[i] += sd_groups_value(g, r, from + i);
    for (uint64_t j = 0; j < g->k; j++) slope[j] += h[(from + i) * g->k + j] * d[i];
  }
}

sard_status *sd_groups_clip(sd_groups *g, const float *w, const double *h) {
  float *small = sd_malloc(g->group * sizeof *small + 1);
  double *slope = sd_malloc(g->k * sizeof *slope + 1), *d = sd_malloc(g->group * sizeof *d + 1);
  bool room = small && slope && d;
  if (room) sd_groups_round(g, w);
  for (uint64_t r = 0; room && r < g->rows; r++) {
    slope_of(g, r, w + r * g->k, h, slope);
    for (uint64_t b = 0; b < g->per_row; b++) clip_group(g, r, b, w + r * g->k, h, slope, d, small);
  }
  sd_free(small), sd_free(slope), sd_free(d);
  return room ? NULL : SD_ERR(NOMEM, "out of memory for %llu inputs", (unsigned long long)g->k);
}

// ---- adaptive rounding ----

// Error of a row goes down by -gain when weight i moves by d: gain = 2 d (h e)_i + d d h_ii.
static uint64_t adapt_row(sd_groups *g, uint64_t r, const float *w, const double *h, int rounds,
                          double *slope) {
  uint64_t steps = 0, k = g->k;
  int most = (1 << g->bits) - 1;
  uint8_t *q = g->q + r * k;
  slope_of(g, r, w, h, slope);
  for (int pass = 0; pass < rounds; pass++) {
    uint64_t before = steps;
    for (uint64_t i = 0; i < k; i++) {
      double d = g->scales[r * g->per_row + i / g->group] * (slope[i] > 0 ? -1 : 1), own = h[i * k + i];
      int to = q[i] + (slope[i] > 0 ? -1 : 1);
      if (to < g->least || to > most || !(2 * d * slope[i] + d * d * own < 0)) continue;
      for (uint64_t j = 0; j < k; j++) slope[j] += h[i * k + j] * d;
      q[i] = (uint8_t)to, steps++;
    }
    if (steps == before) break;
  }
  return steps;
}

sard_status *sd_groups_adapt(sd_groups *g, const float *w, const double *h, int rounds, uint64_t *steps) {
  double *slope = sd_malloc(g->k * sizeof *slope + 1);
  *steps = 0;
  for (uint64_t r = 0; slope && r < g->rows; r++) *steps += adapt_row(g, r, w + r * g->k, h, rounds, slope);
  sd_free(slope);
  return slope ? NULL : SD_ERR(NOMEM, "out of memory for %llu inputs", (unsigned long long)g->k);
}
