// Histograms whose bins are powers of two wide, and the table of methods that choose a range.
#include "passes/quantize/range.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"

#define MOST_CUT 0.001 // share of the values that the method entropy may cut

enum { BINS = SD_RANGE_BINS, HALF = BINS / 2, LEAST_EXPONENT = -120 };

void sd_range_init(sd_range *r, uint64_t *bins) {
  *r = (sd_range){.min = INFINITY, .max = -INFINITY, .exponent = LEAST_EXPONENT, .bins = bins};
}

static void widen(sd_range *r, double most) {
  int e = 0;
  frexp(most, &e); // most < 2^e
  if (r->count == 0) r->exponent = e > LEAST_EXPONENT ? e : LEAST_EXPONENT;
  for (; r->exponent < e; r->exponent++) {
    for (int i = HALF - 1; i >= HALF / 2; i--) { // from the middle on: what is merged was read before
      int k = HALF - 1 - i;                      // 0 next to the middle
      r->bins[HALF + k] = r->bins[HALF + 2 * k] + r->bins[HALF + 2 * k + 1];
      r->bins[HALF - 1 - k] = r->bins[HALF - 1 - 2 * k] + r->bins[HALF - 2 - 2 * k];
    }
    memset(r->bins, 0, HALF / 2 * sizeof *r->bins);
    memset(r->bins + HALF + HALF / 2, 0, HALF / 2 * sizeof *r->bins);
  }
}

static void count(sd_range *r, const float *x, uint64_t n) {
  float scale = (float)ldexp(HALF, -r->exponent);
  for (uint64_t i = 0; i < n; i++) {
    if (!isfinite(x[i])) continue;
    int k = HALF + (int)floorf(x[i] * scale);
    r->bins[k < 0 ? 0 : k >= BINS ? BINS - 1 : k]++;
  }
}

void sd_range_add(sd_range *r, const float *x, uint64_t n) {
  double lo = INFINITY, hi = -INFINITY;
  uint64_t good = 0;
  for (uint64_t i = 0; i < n; i++) {
    if (!isfinite(x[i])) continue;
    good++;
    if (x[i] < lo) lo = x[i];
    if (x[i] > hi) hi = x[i];
  }
  r->bad += n - good;
  if (!good) return;
  if (r->bins) {
    widen(r, fmax(fabs(lo), fabs(hi)));
    count(r, x, n);
  }
  r->count += good, r->batches++;
  double part = r->batches < 100 ? 1. / (double)r->batches : 0.01;
  r->mean_min = r->batches == 1 ? lo : r->mean_min + part * (lo - r->mean_min);
  r->mean_max = r->batches == 1 ? hi : r->mean_max + part * (hi - r->mean_max);
  r->min = fmin(r->min, lo), r->max = fmax(r->max, hi);
}

// ---- bins ----

static double edge(const sd_range *r, int i) { return ldexp(i - HALF, r->exponent) / HALF; }

double sd_range_outside(const sd_range *r, double lo, double hi) {
  uint64_t out = 0;
  if (!r->bins || !r->count) return 0;
  for (int i = 0; i < BINS; i++) {
    if (edge(r, i + 1) <= lo || edge(r, i) > hi) out += r->bins[i];
  }
  return (double)out / (double)r->count;
}

static void clip(const sd_range *r, double *lo, double *hi) { *lo = fmax(*lo, r->min), *hi = fmin(*hi, r->max); }

// ---- methods ----

static void find_minmax(const sd_range *r, double number, double *lo, double *hi) {
  (void)number, *lo = r->min, *hi = r->max;
}
static void find_average(const sd_range *r, double number, double *lo, double *hi) {
  (void)number, *lo = r->mean_min, *hi = r->mean_max;
}

// Half of what is cut lies on each side.
static void find_percentile(const sd_range *r, double number, double *lo, double *hi) {
  double cut = (100 - number) / 200 * (double)r->count, sum = 0;
  int a = 0, b = BINS;
  while (a < BINS && sum + (double)r->bins[a] <= cut) sum += (double)r->bins[a++];
  for (sum = 0; b > a + 1 && sum + (double)r->bins[b - 1] <= cut;) sum += (double)r->bins[--b];
  *lo = edge(r, a), *hi = edge(r, b);
  clip(r, lo, hi);
}

// Divergence of the magnitudes below bin i, with those above put into the last one, from themselves in `levels` equal
// steps.
static double divergence(const double *mass, int i, int levels, double above, double total) {
  double d = 0;
  for (int k = 0; k < levels; k++) {
    int from = (int)((int64_t)k * i / levels), to = (int)((int64_t)(k + 1) * i / levels), some = 0;
    double sum = 0;
    for (int j = from; j < to; j++) sum += mass[j], some += mass[j] > 0;
    for (int j = from; j < to; j++) {
      double p = mass[j] + (j == i - 1 ? above : 0), q = mass[j] > 0 ? sum / some : 0;
      if (p > 0) d += p / total * log(p / total / fmax(q / (total - above), 1e-4 / i));
    }
  }
  return d;
}

// Magnitudes where there are values of both signs (128 steps a side); all 255 steps where there is one. Values that are
// frequent by themselves, as those of a blank background, make coarse steps look bad: without a limit much would be
// cut.
static void find_entropy(const sd_range *r, double number, double *lo, double *hi) {
  double mass[HALF], total = 0, best = INFINITY;
  bool one_sided = r->min >= 0;
  int levels = one_sided ? 255 : 128, end = 0, at = HALF;
  (void)number;
  for (int i = 0; i < HALF; i++) {
    mass[i] = (double)(r->bins[HALF + i] + (one_sided ? 0 : r->bins[HALF - 1 - i]));
    total += mass[i];
    if (mass[i] > 0) end = i + 1;
  }
  if (HALF > 1 && end > 1)
    mass[0] = fmin(mass[0], mass[1] > 0 ? mass[1] : mass[0]); // exact zeros behind a ReLU say nothing
  total = 0;
  for (int i = 0; i < end; i++) total += mass[i];
  for (int i = levels; i <= end; i += i < 512 ? 1 : 8) {
    double sum = 0;
    for (int k = 0; k < i; k++) sum += mass[k];
    if (total - sum > MOST_CUT * total) continue;
    double d = divergence(mass, i, levels, total - sum, total);
    if (d <= best) best = d, at = i;
  }
  double t = edge(r, HALF + (end < levels ? end : at));
  *lo = one_sided ? 0 : -t, *hi = t;
  clip(r, lo, hi);
}

// Squared error of 255 steps over [lo, hi] by the bins: a bin inside has that of its middle and its width, where the
// step is coarser that of the step.
static double squared_error(const sd_range *r, double lo, double hi) {
  double step = (hi - lo) / 255, width = ldexp(1, r->exponent) / HALF, error = 0;
  for (int i = 0; i < BINS; i++) {
    if (!r->bins[i]) continue;
    double mid = edge(r, i) + width / 2, q = lo + step * nearbyint((fmin(fmax(mid, lo), hi) - lo) / step), e = mid - q;
    error += (double)r->bins[i] * (step > width && mid >= lo && mid <= hi ? fmax(e * e, 0) + width * width / 12
                                                                          : e * e + width * width / 12);
  }
  return error;
}

static void find_mse(const sd_range *r, double number, double *lo, double *hi) {
  double best = INFINITY, min = fmin(r->min, 0), max = fmax(r->max, 0);
  (void)number;
  *lo = r->min, *hi = r->max;
  if (min == max) return;
  for (int k = 100; k >= 20; k--) {
    double e = squared_error(r, min * k / 100, max * k / 100);
    if (e < best) best = e, *lo = min * k / 100, *hi = max * k / 100;
  }
}

static const sd_range_method methods[] = {
    {"minmax", "smallest and largest value", false, 0, find_minmax},
    {"average", "mean of the batches' smallest and largest values", false, 0, find_average},
    {"percentile", "all but a part of the values (percentile:99.99)", true, 99.99, find_percentile},
    {"entropy", "least divergence of the distribution", true, 0, find_entropy},
    {"mse", "least squared error", true, 0, find_mse},
};
enum { METHODS = sizeof methods / sizeof *methods };

const sd_range_method *sd_range_method_at(uint32_t i) { return i < METHODS ? &methods[i] : NULL; }

sard_status *sd_range_method_find(const char *text, const sd_range_method **out, double *number) {
  size_t n = strcspn(text, ":");
  for (size_t i = 0; i < METHODS; i++) {
    if (strlen(methods[i].name) != n || strncmp(methods[i].name, text, n) != 0) continue;
    char *end = NULL;
    *out = &methods[i], *number = methods[i].number;
    if (!text[n]) return NULL;
    *number = strtod(text + n + 1, &end);
    if (methods[i].number == 0 || end == text + n + 1 || *end || !(*number > 50 && *number <= 100))
      return SD_ERR(USAGE, "method '%s': a number above 50 and up to 100 is for percentile only", text);
    return NULL;
  }
  sd_str known = {0};
  for (size_t i = 0; i < METHODS; i++) sd_strf(&known, "%s%s", i ? ", " : "", methods[i].name);
  sard_status *st = SD_ERR(USAGE, "unknown method '%s' (known: %s)", text, known.p ? known.p : "");
  sd_str_free(&known);
  return st;
}
