// Patterns, masks, and least squares over what is kept.
#include <float.h>
#include <math.h>
#include <string.h>

#include "passes/prune/layer.h"
#include "passes/prune/select.h"
#include "passes/quantize/factor.h"
#include "passes/quantize/groups.h"
#include "tests/unit/check.h"

enum { ROWS = 4, K = 8 };

static double noise(uint64_t *state) { // -1 .. 1
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 40) * 0x1p-23 - 1;
}

static void reading(void) {
  sd_pattern p;
  const char *bad[] = {"", "2", "2:2", "0:4", "unstructured:", "unstructured:1", "block4x:0.5", "2:4:6"};
  CHECK(!sd_pattern_read("unstructured:0.25", &p) && p.kind == SD_PATTERN_FREE && p.share == 0.25);
  CHECK(!sd_pattern_read("2:4", &p) && p.kind == SD_PATTERN_NM && p.rows == 2 && p.cols == 4 &&
        p.share == 0.5);
  CHECK(!sd_pattern_misfit(&p, 3, 8) && sd_pattern_misfit(&p, 3, 6));
  CHECK(!sd_pattern_read("block16x1:0.5", &p) && p.kind == SD_PATTERN_BLOCK && p.rows == 16 && p.cols == 1);
  CHECK(!sd_pattern_misfit(&p, 32, 7) && sd_pattern_misfit(&p, 24, 7));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    sard_status *st = sd_pattern_read(bad[i], &p);
    CHECK(sard_status_code(st) == SARD_E_USAGE);
    sard_status_free(st);
  }
}

static void masks(void) {
  static const char *const patterns[] = {"unstructured:0.25", "2:4", "block2x4:0.5"};
  float w[ROWS * K];
  uint8_t mask[ROWS * K];
  double score[ROWS * K];
  uint64_t seed = 3;
  for (int i = 0; i < 3; i++) {
    sd_pattern p;
    sd_layer l = {.rows = ROWS, .k = K, .groups = 1, .w = w, .mask = mask};
    for (int j = 0; j < ROWS * K; j++) w[j] = (float)noise(&seed);
    CHECK(!sd_pattern_read(patterns[i], &p));
    CHECK(!sd_layer_score(&l, SD_MAGNITUDE, score));
    CHECK(!sd_layer_mask(&l, &p, p.share, false, score));
    double least_kept = 9, most_gone = 0;
    for (int j = 0; j < ROWS * K; j++)
      if (mask[j]) least_kept = fmin(least_kept, score[j]);
      else
        most_gone = fmax(most_gone, score[j]);
    CHECK(sd_layer_apply(&l) == (uint64_t)lround(p.share * ROWS * K));
    CHECK(sd_pattern_holds(&p, w, ROWS, K));
    CHECK(i || least_kept >= most_gone);
  }
}

// The upper factor u of the inverse: u' u (h + damping) is one. An input that is always 0 stands alone.
static void inverse(void) {
  enum { N = 70 };
  static double h[N * N], u[N * N], work[N * N];
  uint64_t seed = 11;
  for (uint64_t n = 1; n <= N; n += n < 9 ? 1 : 15) {
    double mean = 0, worst = 0;
    bool good = false;
    for (uint64_t i = 0; i < n; i++)
      for (uint64_t j = 0; j <= i; j++)
        h[i * n + j] = h[j * n + i] = (i == 3 || j == 3) ? 0 : (i == j ? (double)n : 0) + noise(&seed);
    for (uint64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
    CHECK(!sd_factor_inverse(h, n, 0.01, u, work, NULL, &good) && good);
    for (uint64_t i = 0; i < n; i++) h[i * n + i] = (h[i * n + i] > 0 ? h[i * n + i] : mean) + 0.01 * mean;
    for (uint64_t c = 0; c < n; c++) {
      double y[N] = {0}, x[N] = {0};
      for (uint64_t i = 0; i < n; i++)
        for (uint64_t k = i; k < n; k++) y[i] += u[i * n + k] * h[k * n + c];
      for (uint64_t i = 0; i < n; i++)
        for (uint64_t k = 0; k <= i; k++) x[i] += u[k * n + i] * y[k];
      for (uint64_t i = 0; i < n; i++) worst = fmax(worst, fabs(x[i] - (i == c)));
    }
    CHECK(worst < 1e-12);
  }
}

static int checks, stop_at; // asked so far; the one that says no, 0: none
static sard_status *stops(void) { return ++checks == stop_at ? SD_ERR(CANCELLED, "stopped") : NULL; }

static int gptq(const float *w, const double *h) {
  sd_groups g;
  CHECK(!sd_groups_new(2, 64, 32, 4, true, &g));
  sard_status *st = sd_groups_gptq(&g, w, h, stops);
  int code = sard_status_code(st);
  sard_status_free(st), sd_groups_free(&g);
  return code;
}

static int sparsegpt(const float *w, const double *h, bool fit) {
  float own[2 * 64];
  uint8_t mask[2 * 64];
  double b[2 * 64] = {0};
  sd_pattern p = {.rows = 1, .cols = 1};
  sd_layer l = {.rows = 2, .k = 64, .groups = 1, .w = own, .mask = mask, .h = h, .b = b, .check = stops};
  memcpy(own, w, sizeof own), memset(mask, 1, sizeof mask);
  sard_status *st = fit ? sd_layer_refit(&l, &p, NULL) : sd_layer_sparsegpt(&l, &p, 0.5, true);
  int code = sard_status_code(st);
  sard_status_free(st);
  return code;
}

static int one_of(int which, const float *w, const double *h) {
  return which == 0 ? gptq(w, h) : sparsegpt(w, h, which == 2);
}

// GPTQ, SparseGPT and least squares end at whichever check says so, and ask between blocks of the inverse: at least every 8 of 64
// columns of each of its two parts, or of the one that least squares have.
static void stopping(void) {
  static double h[64 * 64];
  float w[2 * 64];
  uint64_t seed = 17;
  for (int i = 0; i < 128; i++) w[i] = (float)noise(&seed);
  for (int i = 0; i < 64; i++)
    for (int j = 0; j <= i; j++) h[i * 64 + j] = h[j * 64 + i] = (i == j ? 64 : 0) + noise(&seed);
  for (int which = 0; which < 3; which++) {
    checks = stop_at = 0;
    CHECK(one_of(which, w, h) == SARD_OK);
    int all = checks;
    CHECK(all >= (which == 2 ? 8 : 16));
    for (int at = 1; at <= all; at++) {
      checks = 0, stop_at = at;
      CHECK(one_of(which, w, h) == SARD_E_CANCELLED && checks == at);
    }
  }
}

// Numbers of every rank among many, with equal ones, small and negative ones, are those of the sorted list.
static void selecting(void) {
  enum { N = 300 };
  static sd_select s;
  double x[N];
  float sorted[N], room[N];
  uint64_t seed = 7;
  for (int i = 0; i < N; i++) {
    x[i] = i % 5 ? noise(&seed) * pow(2, i % 60 - 50) : floor(noise(&seed) * 3);
    sorted[i] = (float)fabs(x[i]);
  }
  sd_select_sort(sorted, room, N);
  for (int i = 1; i < N; i++) CHECK(sorted[i - 1] <= sorted[i]);
  for (uint64_t rank = 0; rank < N; rank++) {
    uint64_t below = 0, equal = 0;
    sd_select_begin(&s, rank);
    do
      for (int i = 0; i < N; i++) sd_select_see(&s, x[i]);
    while (sd_select_again(&s));
    for (int i = 0; i < N; i++) below += sd_select_below(&s, x[i]), equal += sd_select_equal(&s, x[i]);
    CHECK(below + s.rank == rank && s.rank < equal);
  }
}

// Inputs whose second moments are those of 64 samples; a weight that gives exactly the wanted outputs on what
// is kept is found again from any start.
static void fitting(void) {
  static double h[K * K], b[ROWS * K];
  float wanted[ROWS * K], w[ROWS * K];
  uint8_t mask[ROWS * K];
  uint64_t seed = 5;
  sd_pattern p = {.rows = 1, .cols = 1};
  sd_layer l = {.rows = ROWS, .k = K, .groups = 1, .w = w, .mask = mask, .h = h, .b = b};
  for (int j = 0; j < ROWS * K; j++) {
    mask[j] = j % 3 != 0, wanted[j] = mask[j] ? (float)noise(&seed) : 0;
    w[j] = wanted[j] + 0.001f * (float)noise(&seed);
  }
  for (int s = 0; s < 64; s++) {
    double x[K];
    for (int j = 0; j < K; j++) x[j] = noise(&seed);
    for (int i = 0; i < K; i++)
      for (int j = 0; j < K; j++) h[i * K + j] += x[i] * x[j];
    for (int r = 0; r < ROWS; r++)
      for (int j = 0; j < K; j++)
        for (int i = 0; i < K; i++) b[r * K + j] += (double)wanted[r * K + i] * x[i] * x[j];
  }
  CHECK(!sd_layer_refit(&l, &p, NULL));
  sd_layer_apply(&l);
  for (int j = 0; j < ROWS * K; j++) CHECK(fabs(w[j] - wanted[j]) < 1e-4);
  memcpy(w, wanted, sizeof w); // what is gone already costs SparseGPT nothing
  CHECK(!sd_layer_sparsegpt(&l, &p, 0, false));
  for (int j = 0; j < ROWS * K; j++) CHECK(fabs(w[j] - wanted[j]) < 1e-5);
  for (int j = 0; j < ROWS * K; j++) b[j] *= 1e-40, w[j] *= 1e-40F; // what is wanted is denormal
  CHECK(!sd_layer_refit(&l, &p, NULL));
  for (int j = 0; j < ROWS * K; j++) CHECK(w[j] == 0 || fabsf(w[j]) >= FLT_MIN);
}

int main(void) {
  reading(), inverse(), stopping(), masks(), selecting(), fitting();
  return check_end();
}
