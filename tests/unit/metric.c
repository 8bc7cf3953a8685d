// Metrics against numbers worked out by hand, intervals and McNemar's test against tables.
#include <math.h>

#include "frontend/metric/metric.h"
#include "runtime/base/alloc.h"
#include "tests/unit/check.h"

static bool near(double a, double b, double slack) { return fabs(a - b) <= slack; }

typedef struct row {
  double out[12], want[12];
  int n_out, n_want, rank, last, want_last;
} row; // last: of two dims, the second

static sard_status *add(sd_score *s, const row *r, int64_t index) {
  sd_sample out = {.at = (double *)r->out, .n = (uint64_t)r->n_out, .rank = r->rank, .dims = {r->n_out}},
            want = {.at = (double *)r->want, .n = (uint64_t)r->n_want, .rank = 1, .dims = {r->n_want}};
  if (r->rank == 2) out.dims[0] = r->n_out / r->last, out.dims[1] = r->last;
  if (r->want_last) want.rank = 2, want.dims[0] = r->n_want / r->want_last, want.dims[1] = r->want_last;
  sd_metric_case k = {&out, &want, -1, index};
  return sd_score_add(s, &k);
}

static double value_of(const char *metric, const row *rows, int n) {
  const sd_metric *m = NULL;
  sd_score s;
  CHECK_OK(sd_metric_find(metric, &m));
  sd_score_init(&s, m);
  for (int i = 0; i < n; i++) CHECK_OK(add(&s, &rows[i], i));
  double v = m->value(&s, -1);
  CHECK(s.samples == n);
  sd_score_free(&s);
  return v;
}

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void classes(void) {
  const row rows[] = {{{0, 1, 5}, {2}, 3, 1, 1, 0, 0},
                      {{3, 1, 2}, {2}, 3, 1, 1, 0, 0},
                      {{NAN, 1, 0}, {1}, 3, 1, 1, 0, 0},
                      {{NAN, NAN, NAN}, {0}, 3, 1, 1, 0, 0}};
  CHECK(near(value_of("top1", rows, 4), 0.5, 1e-12));
  CHECK(near(value_of("top5", rows, 3), 1, 1e-12));
  const row labels[] = {{{2}, {2}, 1, 1, 0, 0, 0}, {{2}, {1}, 1, 1, 0, 0, 0}};
  CHECK(near(value_of("label", labels, 2), 0.5, 1e-12));
  // class 1: two are it, two are said to be it, one is both
  const row two[] = {
      {{1}, {1}, 1, 1, 0, 0, 0}, {{0}, {1}, 1, 1, 0, 0, 0}, {{1}, {0}, 1, 1, 0, 0, 0}, {{0}, {0}, 1, 1, 0, 0, 0}};
  CHECK(near(value_of("f1", two, 4), 0.5, 1e-12));
  const row three[] = {{{2}, {2}, 1, 1, 0, 0, 0}, {{2}, {1}, 1, 1, 0, 0, 0}, {{0}, {0}, 1, 1, 0, 0, 0}};
  CHECK(near(value_of("f1", three, 3), (1 + 0 + 2. / 3) / 3, 1e-12));
}

static void curves(void) {
  // scores of class 1: 3 2 2, of class 0: 2 1; pairs won: 2 + 1.5 + 1.5 of 6
  const row rows[] = {{{3}, {1}, 1, 1, 0, 0, 0},
                      {{2}, {1}, 1, 1, 0, 0, 0},
                      {{2}, {0}, 1, 1, 0, 0, 0},
                      {{1}, {0}, 1, 1, 0, 0, 0},
                      {{2}, {1}, 1, 1, 0, 0, 0}};
  CHECK(near(value_of("auc", rows, COUNT(rows)), 5. / 6, 1e-12));
}

static void numbers(void) {
  const row rows[] = {{{1}, {1}, 1, 1, 0, 0, 0}, {{2}, {3}, 1, 1, 0, 0, 0}, {{5}, {5}, 1, 1, 0, 0, 0}};
  CHECK(near(value_of("mse", rows, 3), 1. / 3, 1e-12));
  CHECK(near(value_of("r2", rows, 3), 1 - 1. / 8, 1e-12)); // mean 3, squares 4 + 0 + 4
  const row pair[] = {{{3, 4}, {4, 3}, 2, 2, 1, 0, 0}};
  CHECK(near(value_of("cosine", pair, 1), 24. / 25, 1e-12));
  CHECK(near(value_of("psnr", pair, 1), 10 * log10(16), 1e-9));
}

static void texts(void) {
  const row ppl[] = {{{0, 0, 0, 0, log(3), 0}, {1, -1, 0}, 6, 3, 2, 2, 0}}; // probabilities 1/2 and 3/4
  CHECK(near(value_of("ppl", ppl, 1), exp(-(log(0.5) + log(0.75)) / 2), 1e-9));
  const row ctc[] = {
      {{0, 9, 0, 0, 9, 0, 9, 0, 0, 0, 9, 0}, {1, 1, 0}, 12, 3, 2, 3, 0}, // 1 1 blank 1: "11"
      {{0, 9, 0, 0, 9, 0, 9, 0, 0, 0, 0, 9}, {1, 1, 0}, 12, 3, 2, 3, 0}, // "12"
      {{0, 9, 0, 9, 0, 0, 9, 0, 0, 9, 0, 0}, {1, 1, 0}, 12, 3, 2, 3, 0}, // "1"
  };
  CHECK(near(value_of("ctc", ctc, 3), 1. / 3, 1e-12));
}

static void boxes(void) {
  // two labels of one class; the best box hits the first, the second box none, the third the second label
  const row hit = {{0, 0, 10, 10, .9, 0, 20, 20, 30, 30, .8, 0}, {0, 0, 10, 10, 0, 20, 20, 30, 30, 0}, 12, 10, 2, 6, 5};
  CHECK(near(value_of("map", &hit, 1), 1, 1e-12));
  const row half = {
      {0, 0, 10, 10, .9, 0, 50, 50, 60, 60, .8, 0}, {0, 0, 10, 10, 0, 20, 20, 30, 30, 0}, 12, 10, 2, 6, 5};
  CHECK(near(value_of("map", &half, 1), 51. / 101, 1e-12)); // precision 1 up to a recall of one half
  const row shifted = {{0, 0, 10, 8, .9, 0}, {0, 0, 10, 10, 0}, 6, 5, 2, 6, 5}; // IoU 0.8: 7 of the 10 levels
  CHECK(near(value_of("map", &shifted, 1), 0.7, 1e-12));
}

static void errors(void) {
  const sd_metric *m = NULL;
  sd_score s;
  CHECK_ERR(sd_metric_find("tpo1", &m), USAGE, "unknown metric");
  CHECK_OK(sd_metric_find("top1", &m));
  sd_score_init(&s, m);
  CHECK_ERR(add(&s, &(row){{1, 2}, {2}, 2, 1, 1, 0, 0}, 7), USAGE, "label 2 of sample 7");
  CHECK_ERR(add(&s, &(row){{1, 2}, {-1}, 2, 1, 1, 0, 0}, 0), USAGE, "label -1");
  CHECK_ERR(add(&s, &(row){{1}, {0}, 1, 1, 1, 0, 0}, 0), USAGE, "no score for each class");
  sd_score_free(&s);
}

// Two models on n samples, of which so many are right only by one of them.
static sd_paired pair_of(const sd_metric *m, int n, int worse, int better) {
  const row right = {{0, 1}, {1}, 2, 1, 1, 0, 0}, wrong = {{1, 0}, {1}, 2, 1, 1, 0, 0};
  sd_score a, b;
  sd_paired p = {0};
  sd_score_init(&a, m), sd_score_init(&b, m);
  for (int i = 0; i < n; i++) {
    CHECK_OK(add(&a, i < better ? &wrong : &right, i));
    CHECK_OK(add(&b, i >= better && i < better + worse ? &wrong : &right, i));
    sd_paired_add(&p, a.right, b.right);
  }
  sd_paired_finish(&p, &a, &b);
  CHECK(p.worse == worse && p.better == better && p.samples == n);
  sd_score_free(&a), sd_score_free(&b);
  return p;
}

// Of 1,000 samples: 8 worse and 3 better are 0.5 points, p = 0.23; 5 and 0 have p 0.06. Limits of Clopper and
// Pearson: 0 of 1,000 may be 0.299 %, 5 1.048 %, 8 1.438 %; with many of both it is the normal
// distribution's.
static void pairs(void) {
  const sd_metric *m = NULL;
  CHECK_OK(sd_metric_find("top1", &m));
  const struct {
    int worse, better;
    double p, bound;
  } cases[] = {{8, 3, 0.2266, 0.01139},   {5, 0, 0.0625, 0.01048},     {0, 0, 1, 0.002991},
               {0, 5, 0.0625, -0.000831}, {300, 200, 8.7e-6, 0.13691}, {1000, 0, 0, 1}};
  for (int k = 0; k < COUNT(cases); k++) {
    sd_paired p = pair_of(m, 1000, cases[k].worse, cases[k].better);
    CHECK(near(p.p, cases[k].p, 1e-3));
    CHECK(near(p.bound, cases[k].bound, 1e-5));
    CHECK(p.least <= p.drop.low && p.drop.low <= p.drop.value && p.drop.value <= p.bound &&
          p.bound <= p.drop.high);
  }
  CHECK(near(sd_paired_provable(59), 0.0495, 1e-3)); // fewer prove no 5 %
}

static double choose(int n, int worse, int better) {
  return lgamma(n + 1) - lgamma(worse + 1) - lgamma(better + 1) - lgamma(n - worse - better + 1);
}

// How often the true drop is not below the bound, counted over all outcomes of 40 samples: one time in
// twenty.
static void coverage(void) {
  enum { N = 40 };
  static double bound[N + 1][N + 1];
  const sd_metric *m = NULL;
  CHECK_OK(sd_metric_find("top1", &m));
  for (int b = 0; b <= N; b++)
    for (int c = 0; b + c <= N; c++) bound[b][c] = pair_of(m, N, b, c).bound;
  for (double worse = 0.0125; worse < 0.5; worse *= 1.4)
    for (double better = 0.0125; better < 0.5; better *= 1.4) {
      double missed = 0;
      for (int b = 0; b <= N; b++)
        for (int c = 0; b + c <= N; c++)
          if (bound[b][c] < worse - better)
            missed += exp(choose(N, b, c) + b * log(worse) + c * log(better) +
                          (N - b - c) * log(1 - worse - better));
      CHECK(missed < 0.054);
    }
}

// Wilson's interval for 984 of 1,000, and a jackknife that must agree with the error of a mean.
static void intervals(void) {
  const sd_metric *m = NULL;
  sd_score s;
  CHECK_OK(sd_metric_find("top1", &m));
  sd_score_init(&s, m);
  for (int i = 0; i < 1000; i++) CHECK_OK(add(&s, &(row){{i < 984, 0.5}, {0}, 2, 1, 1, 0, 0}, i));
  sd_interval v = sd_score_interval(&s);
  CHECK(near(v.low, 0.97416, 1e-4) && near(v.high, 0.99013, 1e-4));
  sd_score_free(&s);
  CHECK_OK(sd_metric_find("mse", &m));
  sd_score_init(&s, m);
  for (int i = 0; i < 3200; i++) CHECK_OK(add(&s, &(row){{(i * 7919) % 3200 < 1600}, {0}, 1, 1, 0, 0, 0}, i));
  v = sd_score_interval(&s);
  CHECK(near(v.value, 0.5, 1e-9) && v.high - v.low < 0.06);
  sd_score_free(&s);
}

int main(void) {
  classes(), curves(), numbers(), texts(), boxes(), errors(), pairs(), coverage(), intervals();
  return check_end();
}
