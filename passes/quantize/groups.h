// Weights in groups of a few bits: [rows][k] floats, each group of `group` neighbours in a row with a scale and a zero
// point.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "passes/quantize/factor.h"
#include "runtime/base/status.h"

typedef struct sd_groups {
  uint64_t rows, k, group, per_row; // per_row: groups in a row, the last one may be shorter
  int bits;
  bool symmetric; // zero is 2^(bits-1)
  bool fixed;     // scales and zero points are given: nothing changes them
  uint8_t least;  // no integer is below it
  uint8_t *q;     // [rows][k], one in a byte
  float *scales;  // [rows][per_row]
  uint8_t *zeros; // [rows][per_row]
} sd_groups;
sard_status *sd_groups_new(uint64_t rows, uint64_t k, uint64_t group, int bits, bool symmetric, sd_groups *out);
void sd_groups_free(sd_groups *g);
// Rows of one symmetric group each whose scales are given: scales[row * step].
void sd_groups_fix(sd_groups *g, const float *scales, uint64_t step, uint8_t least);
// Each weight to the nearest.
void sd_groups_round(sd_groups *g, const float *w);
// GPTQ: columns in order, the error of each is made up for by those behind it as far as inputs with the second moments
// `h` ([k][k], sum of x x' over inputs, only read) let them. SARD_E_NOMEM, and what `check` says. Where h is singular it is damped until it
// is not.
sard_status *sd_groups_gptq(sd_groups *g, const float *w, const double *h, sd_check check);
// Each weight to the nearest, the range of each group in turn made smaller, down to half, where that lowers the error
// of outputs (AWQ's clipping).
sard_status *sd_groups_clip(sd_groups *g, const float *w, const double *h);
// AdaRound's problem (Nagel et al. 2020), which weights go up and which down, by descent: from what `g` holds, each
// weight in turn moves by one step where that makes the error of outputs less; `rounds` times over each row at most.
sard_status *sd_groups_adapt(sd_groups *g, const float *w, const double *h, int rounds, uint64_t *steps);
// The weight that its integer stands for.
static inline float sd_groups_value(const sd_groups *g, uint64_t row, uint64_t i) {
  uint64_t at = row * g->per_row + i / g->group;
  return (float)((int)g->q[row * g->k + i] - (int)g->zeros[at]) * g->scales[at];
}
double sd_groups_snr(const sd_groups *g, const float *w);
