// Scales of channels.
#include "passes/quantize/balance.h"

#include <math.h>
#include <string.h>

#include "passes/quantize/groups.h"
#include "runtime/base/alloc.h"

#define LEAST 1e-5f // of magnitudes
#define MOST  1e5f  // of a scale, and its inverse

// ---- weights ----

static float *place_of(const sd_matrix *w, uint64_t o, uint64_t i) {
  return w->at + o * w->next_output + i * w->next_input;
}

// The input of the whole that input i of output o's group is.
static uint64_t input_of(const sd_matrix *w, uint64_t o, uint64_t i) {
  return o / (w->outputs / w->groups) * w->inputs + i;
}

static float largest(const float *x, uint64_t n, float most) {
  for (uint64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
  return most;
}

void sd_matrix_input_max(const sd_matrix *w, float *most) {
  for (uint64_t o = 0; o < w->outputs; o++)
    for (uint64_t i = 0; i < w->inputs; i++) {
      float *m = &most[input_of(w, o, i)];
      *m = largest(place_of(w, o, i), w->places, *m);
    }
}

void sd_matrix_output_max(const sd_matrix *w, float *most) {
  for (uint64_t o = 0; o < w->outputs; o++)
    for (uint64_t i = 0; i < w->inputs; i++) most[o] = largest(place_of(w, o, i), w->places, most[o]);
}

void sd_matrix_scale_inputs(sd_matrix *w, const float *t) {
  for (uint64_t o = 0; o < w->outputs; o++)
    for (uint64_t i = 0; i < w->inputs; i++)
      for (uint64_t k = 0; k < w->places; k++) place_of(w, o, i)[k] *= t[input_of(w, o, i)];
}

void sd_matrix_divide_outputs(sd_matrix *w, const float *t) {
  for (uint64_t o = 0; o < w->outputs; o++)
    for (uint64_t i = 0; i < w->inputs; i++)
      for (uint64_t k = 0; k < w->places; k++) place_of(w, o, i)[k] /= t[o];
}

void sd_matrix_rows(const sd_matrix *w, float *rows) {
  for (uint64_t o = 0; o < w->outputs; o++)
    for (uint64_t i = 0; i < w->inputs; i++, rows += w->places)
      memcpy(rows, place_of(w, o, i), w->places * sizeof *rows);
}

// ---- by magnitudes ----

static float bounded(double t) { return (float)fmin(fmax(t, 1 / MOST), MOST); }

void sd_balance_smooth(const float *x, const float *w, uint64_t k, double alpha, float *t) {
  for (uint64_t i = 0; i < k; i++)
    t[i] = x[i] > 0 && w[i] > 0 ? bounded(pow(fmaxf(x[i], LEAST), alpha) / pow(fmaxf(w[i], LEAST), 1 - alpha))
                                : 1;
}

double sd_balance_equalize(const float *out, const float *in, uint64_t k, float *t) {
  double far = 0;
  for (uint64_t i = 0; i < k; i++) {
    t[i] = out[i] > 0 && in[i] > 0 ? bounded(sqrt((double)out[i] / in[i])) : 1;
    far = fmax(far, fabs(t[i] - 1.));
  }
  return far;
}

// ---- by the error of outputs ----

enum { STEPS = 20, SAMPLED = 256 }; // powers that are tried; outputs that serve

// e h e' of one output, e: what rounding changes.
static double error_of(const float *e, const double *h, uint64_t k) {
  double sum = 0;
  for (uint64_t i = 0; i < k; i++) {
    const double *row = h + i * k;
    double s = 0;
    for (uint64_t j = 0; j < i; j++) s += row[j] * e[j];
    sum += e[i] * (2 * s + row[i] * e[i]);
  }
  return sum;
}

// Some of a weight's outputs, evenly chosen.
static uint64_t sample(const sd_matrix *w, float *rows) {
  uint64_t n = w->outputs < SAMPLED ? w->outputs : SAMPLED;
  for (uint64_t r = 0; r < n; r++)
    for (uint64_t i = 0; i < w->inputs; i++) rows[r * w->inputs + i] = *place_of(w, r * w->outputs / n, i);
  return n;
}

static sard_status *error_with(const sd_awq *p, const float *t, float *rows, float *scaled, double *error) {
  *error = 0;
  for (uint32_t m = 0; m < p->n_of; m++) {
    sd_groups g;
    uint64_t n = sample(&p->of[m], rows);
    SD_TRY(sd_groups_new(n, p->k, p->group, p->bits, p->symmetric, &g));
    for (uint64_t i = 0; i < n * p->k; i++) scaled[i] = rows[i] * t[i % p->k];
    sd_groups_round(&g, scaled);
    for (uint64_t r = 0; r < n; r++) {
      float *e = scaled + r * p->k;
      for (uint64_t i = 0; i < p->k; i++) e[i] = sd_groups_value(&g, r, i) / t[i] - rows[r * p->k + i];
      *error += error_of(e, p->moments, p->k);
    }
    sd_groups_free(&g);
  }
  return NULL;
}

static void power(const sd_awq *p, double r, float *t) {
  double lo = INFINITY, hi = 0;
  for (uint64_t i = 0; i < p->k; i++) {
    t[i] = (float)pow(fmax(p->x[i], 1e-4), r);
    lo = fmin(lo, t[i]), hi = fmax(hi, t[i]);
  }
  for (uint64_t i = 0; i < p->k; i++) t[i] = bounded(t[i] / sqrt(lo * hi));
}

sard_status *sd_balance_awq(const sd_awq *p, float *t, double *gain) {
  uint64_t n = SAMPLED * p->k;
  float *rows = sd_malloc(n * sizeof *rows + 1), *scaled = sd_malloc(n * sizeof *rows + 1),
        *now = sd_malloc(p->k * sizeof *now + 1);
  double least = INFINITY, before = 0, error = 0;
  sard_status *st = rows && scaled && now ? NULL
                                          : SD_ERR(NOMEM, "out of memory for scales of %llu channels",
                                                   (unsigned long long)p->k);
  for (int s = 0; s < STEPS && !st; s++) {
    power(p, s / (double)STEPS, now);
    st = error_with(p, now, rows, scaled, &error);
    if (s == 0) before = error;
    if (st || !(error < least)) continue;
    least = error;
    memcpy(t, now, p->k * sizeof *t);
  }
  *gain = before > 0 ? least / before : 1;
  sd_free(rows), sd_free(scaled), sd_free(now);
  return st;
}
