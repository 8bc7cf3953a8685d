// Channels of an activation scaled against the weights that read them: the activation is divided by t, the
// weights multiplied, and the product stays what it was. What is hard to round becomes smaller, what is easy
// larger.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

// A weight as outputs x inputs x places, wherever they lie.
typedef struct sd_matrix {
  float *at;
  uint64_t outputs, inputs, places; // inputs: of each group of outputs; places are neighbours
  uint64_t next_output, next_input; // elements from one to the next
  uint64_t groups;
} sd_matrix;

// Raises most[groups * inputs] to the largest magnitude of the weights behind each input.
void sd_matrix_input_max(const sd_matrix *w, float *most);
// Raises most[outputs] to that of the weights of each output.
void sd_matrix_output_max(const sd_matrix *w, float *most);
void sd_matrix_scale_inputs(sd_matrix *w, const float *t);   // times t[groups * inputs]
void sd_matrix_divide_outputs(sd_matrix *w, const float *t); // by t[outputs]
void sd_matrix_rows(const sd_matrix *w, float *rows);        // as [outputs][inputs * places]

// SmoothQuant (Xiao et al. 2022): t = x^alpha / w^(1 - alpha), x and w the largest magnitudes of each channel
// and of the weights behind it. Channels without either have 1.
void sd_balance_smooth(const float *x, const float *w, uint64_t k, double alpha, float *t);
// Cross-layer equalization (Nagel et al. 2019): t = sqrt(out / in), the largest magnitudes of the weights
// before and behind each channel, which are the same then. Returns how far t is from 1 at most.
double sd_balance_equalize(const float *out, const float *in, uint64_t k, float *t);

typedef struct sd_awq {
  uint64_t k;
  const float *x;        // [k], mean magnitude of each channel
  const double *moments; // [k][k] of rows of inputs
  const sd_matrix *of;   // weights that read them, places 1 and groups 1
  uint32_t n_of;
  uint64_t group;
  int bits;
  bool symmetric;
} sd_awq;
// AWQ (Lin et al. 2023): of t = x^r, r = 0, 0.05 .. 0.95, normalized around 1, that with which rounding the
// weights changes the outputs least; of large weights by 256 outputs. gain: error that is left, of that with
// t = 1. SARD_E_NOMEM.
sard_status *sd_balance_awq(const sd_awq *p, float *t, double *gain);
