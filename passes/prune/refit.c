// Weights that make up for those that go.
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "passes/prune/layer.h"
#include "passes/quantize/factor.h"
#include "runtime/base/alloc.h"

#define MOST_WORK 2e10 // multiplications of exact least squares for a weight
enum { BLOCK = 128 };  // columns whose mask is chosen at once

static const double DAMPING = 0.01;

static sard_status *short_of_memory(uint64_t k) {
  return SD_ERR(NOMEM, "out of memory for second moments of %llu inputs", (unsigned long long)k);
}

// ---- SparseGPT ----

// The mask of the columns [j0, j1) of rows [r0, r1) by what their removal would cost now.
static sard_status *choose_block(sd_layer *l, const sd_pattern *p, double share, uint64_t r0, uint64_t r1,
                                 uint64_t j0, uint64_t j1, const double *u) {
  uint64_t rows = r1 - r0, n = j1 - j0, k = l->k;
  sd_layer part = {.rows = rows, .k = n, .groups = 1, .mask = sd_malloc(rows * n + 1)};
  double *score = sd_malloc(rows * n * sizeof *score + 1);
  sard_status *st = part.mask && score ? NULL : short_of_memory(k);
  for (uint64_t r = 0; !st && r < rows; r++)
    for (uint64_t j = 0; j < n; j++) {
      double d = l->w[(r0 + r) * k + j0 + j] / u[(j0 + j) * k + j0 + j];
      score[r * n + j] = d * d;
    }
  if (!st) st = sd_layer_mask(&part, p, share, false, score);
  for (uint64_t r = 0; !st && r < rows; r++) memcpy(l->mask + (r0 + r) * k + j0, part.mask + r * n, n);
  sd_free(part.mask), sd_free(score);
  return st;
}

// Processors take a hundred times as long for products with denormal numbers, which are 0 beside any other weight.
static float weight(double x) { return fabs(x) < FLT_MIN ? 0 : (float)x; }

static void push_errors(sd_layer *l, uint64_t r0, uint64_t r1, uint64_t j0, uint64_t j1, const double *u) {
  uint64_t k = l->k;
  for (uint64_t r = r0; r < r1; r++)
    for (uint64_t j = j0; j < j1; j++) {
      float *w = l->w + r * k;
      if (l->mask[r * k + j]) continue;
      double e = w[j] / u[j * k + j];
      for (uint64_t i = j; i < k; i++) w[i] = weight(w[i] - (float)(e * u[j * k + i]));
      w[j] = 0;
    }
}

sard_status *sd_layer_sparsegpt(sd_layer *l, const sd_pattern *p, double share, bool choose) {
  uint64_t k = l->k, per = l->rows / l->groups, step = BLOCK;
  double *u = sd_malloc(k * k * sizeof *u + 1), *work = sd_malloc(k * k * sizeof *work + 1);
  sard_status *st = u && work ? NULL : short_of_memory(k);
  if (p->kind != SD_PATTERN_FREE) step = (BLOCK + p->cols - 1) / p->cols * p->cols; // whole groups and blocks
  for (uint64_t g = 0; !st && g < l->groups; g++) {
    bool good = false;
    st = sd_factor_damped(l->h + g * k * k, k, u, work, l->check, &good);
    for (uint64_t i = 0; !st && !good && i < k * k; i++) u[i] = i % (k + 1) == 0; // inputs are all 0
    for (uint64_t j = 0; !st && j < k; j += step) {
      uint64_t end = j + step < k ? j + step : k;
      if (l->check) st = l->check();
      if (choose && !st) st = choose_block(l, p, share, g * per, (g + 1) * per, j, end, u);
      if (!st) push_errors(l, g * per, (g + 1) * per, j, end, u);
    }
  }
  sd_free(u), sd_free(work);
  return st;
}

// ---- least squares ----

typedef struct fitting {
  sd_layer *l;
  const uint8_t *mask;
  uint64_t chunk; // rows of a tile
  atomic_int failed;
  _Atomic(sard_status *) stopped; // what check said
} fitting;

// Of several errors one is kept.
static bool goes_on(fitting *f, sard_status *st) {
  if (st) sard_status_free(atomic_exchange(&f->stopped, st));
  return !atomic_load(&f->stopped);
}

// x of l l' x = x, in place.
static void solve(const double *l, uint64_t n, double *x) {
  for (uint64_t i = 0; i < n; i++) {
    double s = x[i];
    for (uint64_t j = 0; j < i; j++) s -= l[i * n + j] * x[j];
    x[i] = s / l[i * n + i];
  }
  for (uint64_t i = n; i-- > 0;) {
    x[i] /= l[i * n + i];
    for (uint64_t j = 0; j < i; j++) x[j] -= l[i * n + j] * x[i];
  }
}

// The factor of h + damping over the inputs at[0], ..., at[n - 1].
static sard_status *factor_kept(const double *h, uint64_t k, const uint64_t *at, uint64_t n, double damping,
                                double *a, sd_check check, bool *good) {
  for (uint64_t i = 0; i < n; i++) {
    for (uint64_t j = 0; j <= i; j++) a[i * n + j] = h[at[i] * k + at[j]];
    a[i * n + i] += damping;
  }
  return sd_factor_cholesky(a, n, check, good);
}

static double damping_of(const double *h, uint64_t k) {
  double mean = 0;
  for (uint64_t i = 0; i < k; i++) mean += h[i * k + i] / (double)k;
  return DAMPING * mean;
}

// One row; the factor in `a` is that of the row before where `same`.
static void fit_row(fitting *f, uint64_t r, bool same, double *a, double *x, uint64_t *at) {
  sd_layer *l = f->l;
  uint64_t k = l->k, n = 0;
  const double *h = l->h + r / (l->rows / l->groups) * k * k;
  double damping = damping_of(h, k);
  for (uint64_t j = 0; j < k; j++)
    if (f->mask[r * k + j]) at[n++] = j;
  if (!(damping > 0) || n == 0) return;
  bool good = same;
  for (double d = damping; !good && d < damping * 1e5; d *= 10)
    if (!goes_on(f, factor_kept(h, k, at, n, d, a, l->check, &good))) return;
  if (!good) return;
  for (uint64_t i = 0; i < n; i++) x[i] = l->b[r * k + at[i]] + damping * l->w[r * k + at[i]];
  solve(a, n, x);
  for (uint64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return;
  for (uint64_t i = 0; i < n; i++) l->w[r * k + at[i]] = weight(x[i]);
}

static void fit_rows(void *user, int worker, uint32_t begin, uint32_t end) {
  fitting *f = user;
  uint64_t k = f->l->k, per = f->l->rows / f->l->groups;
  double *a = sd_malloc(k * k * sizeof *a + 1), *x = sd_malloc(k * sizeof *x + 1);
  uint64_t *at = sd_malloc(k * sizeof *at + 1);
  (void)worker;
  if (!a || !x || !at) atomic_store(&f->failed, 1);
  uint64_t first = begin * f->chunk, last = end * f->chunk < f->l->rows ? end * f->chunk : f->l->rows;
  for (uint64_t r = first; r < last && a && x && at && !atomic_load(&f->stopped); r++) {
    if (f->l->check && !goes_on(f, f->l->check())) break;
    fit_row(f, r, r > first && r % per && memcmp(f->mask + r * k, f->mask + (r - 1) * k, k) == 0, a, x, at);
  }
  sd_free(a), sd_free(x), sd_free(at);
}

// `alike`: rows have the same mask, so that a tile needs one factor.
static sard_status *fit(sd_layer *l, const uint8_t *mask, bool alike, sd_pool *pool) {
  uint64_t threads = pool ? (uint64_t)sd_pool_threads(pool) : 1,
           chunk = alike ? (l->rows + threads - 1) / threads : 1;
  fitting f = {.l = l, .mask = mask, .chunk = chunk};
  uint32_t tiles = (uint32_t)((l->rows + chunk - 1) / chunk);
  if (pool && sd_pool_enter(pool)) {
    sd_pool_run(pool, fit_rows, &f, tiles, false);
    sd_pool_leave(pool);
  } else {
    fit_rows(&f, 0, 0, tiles);
  }
  sard_status *st = atomic_load(&f.stopped);
  if (!atomic_load(&f.failed)) return st;
  sard_status_free(st);
  return short_of_memory(l->k);
}

sard_status *sd_layer_refit(sd_layer *l, const sd_pattern *p, sd_pool *pool) {
  double work = 0;
  bool alike = true;
  for (uint64_t r = 0; r < l->rows; r++) {
    double n = 0;
    if (r && memcmp(l->mask + r * l->k, l->mask + (r - 1) * l->k, l->k) == 0) continue;
    for (uint64_t j = 0; j < l->k; j++) n += l->mask[r * l->k + j];
    work += n * n * n / 6, alike &= r == 0;
  }
  if (work <= MOST_WORK) return fit(l, l->mask, alike, pool);
  uint8_t *all = sd_malloc(l->rows * l->k + 1);
  if (!all) return short_of_memory(l->k);
  memset(all, 1, l->rows * l->k);
  sard_status *st = fit(l, all, true, pool);
  sd_free(all);
  return st ? st : sd_layer_sparsegpt(l, p, 0, false);
}
