// Scales and rounding.
#include "passes/quantize/affine.h"

#include <float.h>
#include <math.h>

sd_affine sd_affine_of(double lo, double hi, int32_t least, int32_t most, bool symmetric) {
  lo = fmin(lo, 0), hi = fmax(hi, 0);
  int32_t middle = least < 0 ? 0 : (least + most + 1) / 2;
  double span = symmetric ? fmax(-lo, hi) / (most - middle) : (hi - lo) / (most - least);
  float scale = (float)span;
  if (!(scale >= FLT_MIN) || !isfinite(scale)) return (sd_affine){1, symmetric ? middle : least < 0 ? 0 : least};
  if (symmetric) return (sd_affine){scale, middle};
  double zero = nearbyint(least - lo / scale);
  return (sd_affine){scale, (int32_t)fmin(fmax(zero, least), most)};
}

void sd_weight_scales(const sd_weight *w, int32_t most, const float *least, float *scales) {
  for (uint64_t c = 0; c < w->channels; c++) {
    float largest = 0;
    for (uint64_t o = 0; o < w->outer; o++)
      for (uint64_t i = 0; i < w->inner; i++)
        largest = fmaxf(largest, fabsf(w->at[(o * w->channels + c) * w->inner + i]));
    scales[c] = largest / (float)most;
    if (least && scales[c] < least[c]) scales[c] = least[c];
    if (!(scales[c] >= FLT_MIN)) scales[c] = 1;
  }
}

void sd_weight_round(const sd_weight *w, const float *scales, int32_t least, int32_t most, int8_t *q) {
  for (uint64_t o = 0, k = 0; o < w->outer; o++)
    for (uint64_t c = 0; c < w->channels; c++)
      for (uint64_t i = 0; i < w->inner; i++, k++)
        q[k] = (int8_t)fminf(fmaxf(nearbyintf(w->at[k] / scales[c]), (float)least), (float)most);
}

int32_t sd_affine_most(sd_dtype t) { return t == SD_F8E4M3FN ? 448 : t == SD_F8E5M2 ? 57344 : 127; }

void sd_weight_round_float(const sd_weight *w, const float *scales, sd_dtype t, void *q) {
  float most = (float)sd_affine_most(t);
  for (uint64_t o = 0, k = 0; o < w->outer; o++)
    for (uint64_t c = 0; c < w->channels; c++)
      for (uint64_t i = 0; i < w->inner; i++, k++)
        sd_dtype_set_f64(t, q, k, fminf(fmaxf(w->at[k] / scales[c], -most), most));
}

double sd_decibels(double signal, double noise) {
  if (noise <= 0) return 200;
  if (signal <= 0) return 0;
  return fmin(10 * log10(signal / noise), 200);
}

double sd_weight_snr(const sd_weight *w, const float *scales, sd_dtype t, const void *q) {
  double signal = 0, noise = 0;
  for (uint64_t o = 0, k = 0; o < w->outer; o++)
    for (uint64_t c = 0; c < w->channels; c++)
      for (uint64_t i = 0; i < w->inner; i++, k++) {
        double e = w->at[k] - sd_dtype_get_f64(t, q, k) * scales[c];
        signal += (double)w->at[k] * w->at[k], noise += e * e;
      }
  return sd_decibels(signal, noise);
}
