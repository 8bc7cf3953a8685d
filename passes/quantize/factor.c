// Factors of symmetric matrices.
#include "passes/quantize/factor.h"

#include <math.h>
#include <string.h>

bool sd_factor_cholesky(double *a, uint64_t n) {
  for (uint64_t j = 0; j < n; j++) {
    double *row = a + j * n, d = row[j];
    for (uint64_t k = 0; k < j; k++) d -= row[k] * row[k];
    if (!(d > 0)) return false;
    row[j] = sqrt(d);
    for (uint64_t i = j + 1; i < n; i++) {
      double *other = a + i * n, s = other[j];
      for (uint64_t k = 0; k < j; k++) s -= other[k] * row[k];
      other[j] = s / row[j];
    }
  }
  return true;
}

// The inverse of a from its factor l, into the lower triangle and mirrored: first that of l, in place.
static void invert(double *l, uint64_t n, double *out) {
  for (uint64_t j = 0; j < n; j++) {
    l[j * n + j] = 1 / l[j * n + j];
    for (uint64_t i = j + 1; i < n; i++) {
      double s = 0;
      for (uint64_t k = j; k < i; k++) s -= l[i * n + k] * l[k * n + j];
      l[i * n + j] = s / l[i * n + i];
    }
  }
  for (uint64_t i = 0; i < n; i++)
    for (uint64_t j = 0; j <= i; j++) {
      double s = 0;
      for (uint64_t k = i; k < n; k++) s += l[k * n + i] * l[k * n + j];
      out[i * n + j] = out[j * n + i] = s;
    }
}

bool sd_factor_inverse(const double *h, uint64_t n, double damping, double *u, double *work) {
  double mean = 0;
  for (uint64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
  if (!(mean > 0)) return false;
  memcpy(work, h, n * n * sizeof *h);
  for (uint64_t i = 0; i < n; i++)
    work[i * n + i] = (h[i * n + i] > 0 ? h[i * n + i] : mean) + damping * mean;
  if (!sd_factor_cholesky(work, n)) return false;
  invert(work, n, u);
  if (!sd_factor_cholesky(u, n)) return false;
  for (uint64_t i = 0; i < n; i++) // lower l with l l' = inverse: u = l'
    for (uint64_t j = 0; j < i; j++) u[j * n + i] = u[i * n + j];
  return true;
}
