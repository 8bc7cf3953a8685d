// Factors of symmetric matrices.
#include "passes/quantize/factor.h"

#include <math.h>
#include <string.h>

// Rows that go through a matrix together, elements of them that stay near, and sums of a product at once.
enum { ROWS = 4, CHUNK = 512, LANES = 4 };

// Of `rows` rows of a, each with b.
static void dots(const double *a, uint64_t stride, int rows, const double *b, uint64_t n, double out[ROWS]) {
  double s[ROWS][LANES] = {{0}};
  uint64_t k = 0;
  for (; rows == ROWS && k + LANES <= n; k += LANES)
    for (int r = 0; r < ROWS; r++)
      for (int l = 0; l < LANES; l++) s[r][l] += a[(uint64_t)r * stride + k + l] * b[k + l];
  for (; k < n; k++)
    for (int r = 0; r < rows; r++) s[r][0] += a[(uint64_t)r * stride + k] * b[k];
  for (int r = 0; r < rows; r++) out[r] = s[r][0] + s[r][1] + (s[r][2] + s[r][3]);
}

// Row r of the factor beyond column j0, where what is in front is done.
static bool corner(double *a, uint64_t n, uint64_t r, uint64_t j0) {
  for (uint64_t j = j0; j <= r; j++) {
    double s[ROWS], *x = &a[r * n + j];
    dots(a + r * n, n, 1, a + j * n, j, s);
    *x -= s[0];
    if (j == r && !(*x > 0)) return false;
    *x = j == r ? sqrt(*x) : *x / a[j * n + j];
  }
  return true;
}

sard_status *sd_factor_cholesky(double *a, uint64_t n, sd_check check, bool *good) {
  *good = false;
  for (uint64_t i = 0; i < n; i += ROWS) {
    if (check) SD_TRY(check());
    int rows = n - i < ROWS ? (int)(n - i) : ROWS;
    for (uint64_t j = 0; j < i; j++) {
      double s[ROWS];
      dots(a + i * n, n, rows, a + j * n, j, s);
      for (int r = 0; r < rows; r++) {
        double *x = &a[(i + (uint64_t)r) * n + j];
        *x = (*x - s[r]) / a[j * n + j];
      }
    }
    for (int r = 0; r < rows; r++)
      if (!corner(a, n, i + (uint64_t)r, i)) return NULL;
  }
  *good = true;
  return NULL;
}

static void take(double *y, const double *x, double c, uint64_t n) {
  for (uint64_t j = 0; j < n; j++) y[j] -= c * x[j];
}

// The inverse of the lower triangle l: each row is made of those above.
static sard_status *invert(const double *l, uint64_t n, double *x, sd_check check) {
  memset(x, 0, n * n * sizeof *x);
  for (uint64_t i = 0; i < n; i += ROWS) {
    if (check) SD_TRY(check());
    uint64_t end = i + ROWS < n ? i + ROWS : n;
    for (uint64_t j = 0; j < i; j += CHUNK)
      for (uint64_t k = j; k < i; k++)
        for (uint64_t r = i; r < end; r++)
          take(x + r * n + j, x + k * n + j, l[r * n + k], k + 1 - j < CHUNK ? k + 1 - j : CHUNK);
    for (uint64_t r = i; r < end; r++) {
      for (uint64_t k = i; k < r; k++) take(x + r * n, x + k * n, l[r * n + k], k + 1);
      x[r * n + r] = 1;
      for (uint64_t j = 0; j <= r; j++) x[r * n + j] /= l[r * n + r];
    }
  }
  return NULL;
}

// With the order of inputs turned around, h = l l' is r r' with an upper r, and the factor of the inverse is
// that of r.
sard_status *sd_factor_inverse(const double *h, uint64_t n, double damping, double *u, double *work,
                               sd_check check, bool *good) {
  double mean = 0;
  *good = false;
  for (uint64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
  if (!(mean > 0)) return NULL;
  for (uint64_t i = 0; i < n * n; i++) work[i] = h[n * n - 1 - i];
  for (uint64_t i = 0; i < n; i++) {
    double *d = &work[i * n + i];
    *d = (*d > 0 ? *d : mean) + damping * mean;
  }
  SD_TRY(sd_factor_cholesky(work, n, check, good));
  if (*good) SD_TRY(invert(work, n, u, check));
  for (uint64_t i = 0; *good && i < n * n / 2; i++) {
    double t = u[i];
    u[i] = u[n * n - 1 - i], u[n * n - 1 - i] = t;
  }
  return NULL;
}

sard_status *sd_factor_damped(const double *h, uint64_t n, double *u, double *work, sd_check check, bool *good) {
  *good = false;
  for (double damping = 0.01; !*good && damping < 1e4; damping *= 10)
    SD_TRY(sd_factor_inverse(h, n, damping, u, work, check, good));
  return NULL;
}
