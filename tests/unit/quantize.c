// Histograms that grow, ranges by every method, scales and rounding, GPTQ.
#include <math.h>

#include "passes/quantize/affine.h"
#include "passes/quantize/balance.h"
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
  CHECK(sd_weight_snr(&v, s, SD_I8, q) > 40);
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
    if (t) CHECK_OK(sd_groups_gptq(&g[t], w, h, NULL));
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
  CHECK_OK(sd_groups_gptq(&g[1], w, alone, NULL));
  CHECK(memcmp(g[0].q, g[1].q, ROWS * K) == 0);
  memset(h, 0, sizeof h); // no input at all
  CHECK_OK(sd_groups_gptq(&g[1], w, h, NULL));
  CHECK(memcmp(g[0].q, g[1].q, ROWS * K) == 0);
  sd_groups_free(&g[0]), sd_groups_free(&g[1]);
}

enum { IN = 32, OUT = 8 };
static float loud[OUT * IN];          // weights
static double loud_moments[IN * IN]; // of inputs whose channel 5 is 50 times the others
static float loud_x[IN];

static void make_loud(void) {
  uint64_t seed = 5;
  for (int i = 0; i < OUT * IN; i++) loud[i] = (float)noise(&seed);
  memset(loud_moments, 0, sizeof loud_moments), memset(loud_x, 0, sizeof loud_x);
  for (int n = 0; n < 300; n++) {
    double x[IN], common = noise(&seed);
    for (int k = 0; k < IN; k++) x[k] = (common + noise(&seed)) * (k == 5 ? 50 : 1), loud_x[k] += (float)fabs(x[k]) / 300;
    for (int i = 0; i < IN; i++)
      for (int j = 0; j < IN; j++) loud_moments[i * IN + j] += x[i] * x[j];
  }
}

// Error of outputs of groups whose inputs are divided by t.
static double error_of(const sd_groups *g, const float *t) {
  double sum = 0;
  for (uint64_t r = 0; r < OUT; r++)
    for (uint64_t i = 0; i < IN; i++)
      for (uint64_t j = 0; j < IN; j++)
        sum += (sd_groups_value(g, r, i) / t[i] - loud[r * IN + i]) * loud_moments[i * IN + j] *
               (sd_groups_value(g, r, j) / t[j] - loud[r * IN + j]);
  return sum;
}

// Each step of the way makes the error of outputs less.
static void errors(void) {
  sd_groups g;
  float t[IN], one[IN], scaled[OUT * IN];
  double gain, error[5];
  uint64_t steps, more;
  make_loud();
  for (int i = 0; i < IN; i++) one[i] = 1;
  sd_matrix m = {loud, OUT, IN, 1, IN, 1, 1};
  sd_awq p = {IN, loud_x, loud_moments, &m, 1, 16, 3, false};
  CHECK_OK(sd_groups_new(OUT, IN, 16, 3, false, &g));
  sd_groups_round(&g, loud), error[0] = error_of(&g, one);
  CHECK_OK(sd_groups_clip(&g, loud, loud_moments));
  error[1] = error_of(&g, one);
  CHECK_OK(sd_groups_gptq(&g, loud, loud_moments, NULL));
  error[2] = error_of(&g, one);
  CHECK_OK(sd_groups_adapt(&g, loud, loud_moments, 16, &steps));
  error[3] = error_of(&g, one);
  CHECK_OK(sd_groups_adapt(&g, loud, loud_moments, 16, &more));
  CHECK(error[1] < error[0] && error[3] < error[2] && error[2] < error[0] && steps > 0 && more == 0);
  CHECK_OK(sd_balance_awq(&p, t, &gain));
  for (int i = 0; i < OUT * IN; i++) scaled[i] = loud[i] * t[i % IN];
  sd_groups_round(&g, scaled), error[4] = error_of(&g, t);
  CHECK(gain < 0.7 && near(error[4] / error[0], gain, 1e-3) && t[5] > 2 * t[4]);
  sd_groups_free(&g);
}

// Weights as convolutions and as matrices of either order have them; two groups.
static void matrices(void) {
  float conv[2 * 1 * 3] = {1, -4, 2, 0.5f, 0, -0.25f}, rows[6] = {1, 2, 3, 4, 5, 6}, in[3] = {0}, out[3] = {0};
  sd_matrix c = {conv, 2, 1, 3, 3, 3, 2}, turned = {rows, 3, 2, 1, 1, 3, 1}; // [inputs][outputs]
  sd_matrix_input_max(&c, in), sd_matrix_output_max(&c, out);
  CHECK(in[0] == 4 && in[1] == 0.5f && out[0] == 4 && out[1] == 0.5f);
  sd_matrix_scale_inputs(&c, (float[]){2, 10});
  CHECK(conv[1] == -8 && conv[3] == 5);
  sd_matrix_scale_inputs(&turned, (float[]){1, 10}), sd_matrix_divide_outputs(&turned, (float[]){1, 2, 1});
  CHECK(rows[0] == 1 && rows[1] == 1 && rows[3] == 40 && rows[4] == 25 && rows[5] == 60);
}

static void balance(void) {
  const float x[4] = {16, 4, 0, 1}, w[4] = {4, 1, 3, 0};
  float t[4];
  sd_balance_smooth(x, w, 4, 0.5, t);
  CHECK(near(t[0], 2, 1e-6) && near(t[1], 2, 1e-6) && t[2] == 1 && t[3] == 1); // nothing there: left alone
  sd_balance_smooth(x, w, 4, 1, t);
  CHECK(near(t[0], 16, 1e-5));
  CHECK(near(sd_balance_equalize(x, w, 4, t), 1, 1e-6) && near(t[0], 2, 1e-6) && t[2] == 1);
  sd_balance_equalize((float[]){1e30f}, (float[]){1e-30f}, 1, t);
  CHECK(t[0] <= 1e5f);
}

int main(void) {
  growth(), methods(), scales(), groups(), gptq(), errors(), matrices(), balance();
  return check_end();
}
