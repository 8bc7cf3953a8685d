// Histograms that grow, ranges by every method, scales and rounding, GPTQ.
#include <math.h>

#include "passes/quantize/affine.h"
#include "passes/quantize/groups.h"
#include "passes/quantize/range.h"
#include "runtime/base/alloc.h"
#include "tests/unit/check.h"

static bool near(double a, double b, double slack) { return fabs(a - b) <= slack; }

static double noise(uint64_t *state) { // -1 .. 1
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 40) * 0x1p-23 - 1;
}

static uint64_t total(const uint64_t *bins) {
  uint64_t n = 0;
  for (int i = 0; i < SD_RANGE_BINS; i++) n += bins[i];
  return n;
}

// Bins that grew hold what bins of that width would have held from the start.
static void growth(void) {
  static uint64_t grown[SD_RANGE_BINS], direct[SD_RANGE_BINS];
  sd_range a, b;
  uint64_t seed = 1;
  float x[1000], large[2] = {-900.5f, 13};
  for (int i = 0; i < 1000; i++) x[i] = (float)noise(&seed) * (i < 500 ? 1 : 40);
  sd_range_init(&a, grown), sd_range_init(&b, direct);
  for (int i = 0; i < 1000; i += 100) sd_range_add(&a, x + i, 100);
  sd_range_add(&a, large, 2);
  sd_range_add(&b, large, 2);
  sd_range_add(&b, x, 1000);
  CHECK(a.exponent == b.exponent && a.exponent == 10);
  CHECK(memcmp(grown, direct, sizeof grown) == 0);
  CHECK(total(grown) == 1002 && a.count == 1002 && a.bad == 0);
  CHECK(a.min == -900.5 && a.max == b.max);
  float bad[3] = {NAN, INFINITY, 1};
  sd_range_add(&a, bad, 3);
  CHECK(a.bad == 2 && a.count == 1003 && total(grown) == 1003);
  float outlier = 1e30f;
  sd_range_add(&a, &outlier, 1);
  CHECK(total(grown) == 1004 && a.max == 1e30f);
}

static void methods(void) {
  static uint64_t bins[SD_RANGE_BINS];
  const sd_range_method *m = NULL;
  sd_range r;
  double number, lo, hi;
  uint64_t seed = 3;
  sd_range_init(&r, bins);
  for (int k = 0; k < 100; k++) {
    float x[1000];
    for (int i = 0; i < 1000; i++)
      x[i] = (float)(noise(&seed) + noise(&seed) + noise(&seed) + noise(&seed)); // nearly normal, deviation 1.15
    sd_range_add(&r, x, 1000);
  }
  float outlier = 60;
  sd_range_add(&r, &outlier, 1);
  CHECK_OK(sd_range_method_find("minmax", &m, &number));
  m->find(&r, number, &lo, &hi);
  CHECK(near(lo, -3.8, 0.3) && hi == 60);
  CHECK_OK(sd_range_method_find("average", &m, &number));
  m->find(&r, number, &lo, &hi);
  CHECK(near(lo, -2.6, 0.4) && near(hi, 3.8, 0.5)); // of 101 batches one has the outlier alone
  CHECK_OK(sd_range_method_find("percentile:99.9", &m, &number));
  m->find(&r, number, &lo, &hi);
  CHECK(near(lo, -3.37, 0.15) && near(hi, 3.37, 0.15));
  CHECK(near(sd_range_outside(&r, lo, hi), 0.001, 0.0003));
  CHECK_OK(sd_range_method_find("mse", &m, &number));
  m->find(&r, number, &lo, &hi);
  CHECK(hi < 60 && hi >= 12); // it looks at 20 to 100 % of the range
  CHECK_OK(sd_range_method_find("entropy", &m, &number));
  m->find(&r, number, &lo, &hi);
  CHECK(hi < 8 && hi > 2.5 && lo >= r.min);
  CHECK_ERR(sd_range_method_find("minmax:3", &m, &number), USAGE, "percentile only");
  CHECK_ERR(sd_range_method_find("percentile:", &m, &number), USAGE, "percentile only");
  CHECK_ERR(sd_range_method_find("max", &m, &number), USAGE, "known: minmax, average");
}

static void scales(void) {
  sd_affine a = sd_affine_of(-1, 3, 0, 255, false);
  CHECK(near(a.scale, 4. / 255, 1e-9) && a.zero == 64);
  a = sd_affine_of(2, 3, 0, 255, false); // made to hold 0
  CHECK(near(a.scale, 3. / 255, 1e-9) && a.zero == 0);
  a = sd_affine_of(-3, -2, 0, 255, false);
  CHECK(a.zero == 255);
  a = sd_affine_of(-1, 3, -128, 127, true);
  CHECK(near(a.scale, 3. / 127, 1e-9) && a.zero == 0);
  a = sd_affine_of(0, 0, 0, 255, false);
  CHECK(a.scale == 1 && a.zero == 0);
  const float w[8] = {1, -2, 0.5f, 127, 0, 0, 0.25f, -127.5f}; // [outer 2][channels 2][inner 2]
  float s[2], least[2] = {0.1f, 0};
  int8_t q[8];
  sd_weight v = {w, 2, 2, 2};
  sd_weight_scales(&v, 127, NULL, s);
  CHECK(near(s[0], 2. / 127, 1e-7) && near(s[1], 127.5 / 127, 1e-6));
  sd_weight_scales(&v, 127, least, s);
  CHECK(s[0] == 0.1f);
  sd_weight_round(&v, s, -128, 127, q);
  CHECK(q[0] == 10 && q[1] == -20 && q[3] == 127 && q[7] == -127 && q[2] == 0); // 0.5 of 1.004 rounds to 0
  CHECK(sd_weight_snr(&v, s, q) > 40);
}

// Groups: what a group can hold exactly comes back exactly; zero is a value.
static void groups(void) {
  const float w[2][5] = {{0, 1, 2, 15, 30}, {-8, 0, 7, 3, -3}};
  sd_groups g;
  CHECK_OK(sd_groups_new(2, 5, 16, 4, false, &g));
  CHECK(g.per_row == 1);
  sd_groups_round(&g, &w[0][0]);
  CHECK(g.scales[0] == 2 && g.zeros[0] == 0 && g.q[3] == 8 && g.q[4] == 15);
  CHECK(g.scales[1] == 1 && g.zeros[1] == 8 && g.q[5] == 0 && g.q[6] == 8 && g.q[7] == 15);
  sd_groups_free(&g);
  CHECK_OK(sd_groups_new(1, 5, 16, 4, true, &g));
  sd_groups_round(&g, &w[1][0]);
  CHECK(g.scales[0] == 1 && g.zeros[0] == 8 && g.q[0] == 0);
  sd_groups_free(&g);
}

// Inputs that depend on each other: GPTQ has the smaller error of outputs, and without dependence it is rounding.
static void gptq(void) {
  enum { K = 48, ROWS = 8, N = 400 };
  static float w[ROWS * K], x[N * K];
  static double h[K * K], alone[K * K];
  double error[2] = {0, 0};
  uint64_t seed = 11;
  sd_groups g[2];
  for (int i = 0; i < ROWS * K; i++) w[i] = (float)noise(&seed);
  for (int n = 0; n < N; n++) {
    double common = noise(&seed);
    for (int k = 0; k < K; k++) x[n * K + k] = (float)(common + 0.3 * noise(&seed));
  }
  for (int i = 0; i < K; i++) alone[i * K + i] = 1;
  for (int n = 0; n < N; n++)
    for (int i = 0; i < K; i++)
      for (int j = 0; j < K; j++) h[i * K + j] += (double)x[n * K + i] * x[n * K + j];
  for (int t = 0; t < 2; t++) {
    CHECK_OK(sd_groups_new(ROWS, K, 16, 3, false, &g[t]));
    if (t) CHECK_OK(sd_groups_gptq(&g[t], w, h));
    else
      sd_groups_round(&g[t], w);
    for (int n = 0; n < N; n++)
      for (int r = 0; r < ROWS; r++) {
        double y = 0;
        for (int k = 0; k < K; k++)
          y += x[n * K + k] *
               (w[r * K + k] - (double)(g[t].q[r * K + k] - g[t].zeros[r * 3 + k / 16]) * g[t].scales[r * 3 + k / 16]);
        error[t] += y * y;
      }
  }
  CHECK(error[1] < 0.2 * error[0]);
  CHECK_OK(sd_groups_gptq(&g[1], w, alone));
  CHECK(memcmp(g[0].q, g[1].q, ROWS * K) == 0);
  memset(h, 0, sizeof h); // no input at all
  CHECK_OK(sd_groups_gptq(&g[1], w, h));
  CHECK(memcmp(g[0].q, g[1].q, ROWS * K) == 0);
  sd_groups_free(&g[0]), sd_groups_free(&g[1]);
}

int main(void) {
  growth(), methods(), scales(), groups(), gptq();
  return check_end();
}
