// Affine integers: value = (q - zero) * scale, as ONNX has them.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/dtype.h"

typedef struct sd_affine {
  float scale;
  int32_t zero;
} sd_affine;

// Of a range, which is made to hold 0, for integers from least to most. Symmetric: zero is their middle (0 of signed
// ones).
sd_affine sd_affine_of(double lo, double hi, int32_t least, int32_t most, bool symmetric);

// A weight as [outer][channels][inner]; one channel where the scale is that of the whole.
typedef struct sd_weight {
  const float *at;
  uint64_t outer, channels, inner;
} sd_weight;

// Scales of symmetric integers from -most to most: the largest magnitude of each channel. `least`: a lower bound of
// each scale, or NULL.
void sd_weight_scales(const sd_weight *w, int32_t most, const float *least, float *scales);
// Rounds to the nearest; q has the order of w.
void sd_weight_round(const sd_weight *w, const float *scales, int32_t least, int32_t most, int8_t *q);
// The same to the nearest float8 of type t.
void sd_weight_round_float(const sd_weight *w, const float *scales, sd_dtype t, void *q);
// The largest number that weights of the type reach: 127 of s8, 448 and 57344 of float8.
int32_t sd_affine_most(sd_dtype t);
// Signal to noise in decibels of w against q * scale, q of type t.
double sd_weight_snr(const sd_weight *w, const float *scales, sd_dtype t, const void *q);
// 10 log10 of the two, at most 200.
double sd_decibels(double signal, double noise);
