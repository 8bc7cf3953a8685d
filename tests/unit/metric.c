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

// Numbers of the notes: 1,000 samples, 8 worse and 3 better are 0.5 points, p = 0.23, at most 1.04 points; 5 and 0 have
// p 0.06.
static void pairs(void) {
  const sd_metric *m = NULL;
  CHECK_OK(sd_metric_find("top1", &m));
  const struct {
    int worse, better;
    double p, bound;
  } cases[] = {{8, 3, 0.2266, 0.0104}, {5, 0, 0.0625, 0.00867}, {0, 0, 1, 0}};
  for (int k = 0; k < COUNT(cases); k++) {
    sd_score a, b;
    sd_paired p = {0};
    sd_score_init(&a, m), sd_score_init(&b, m);
    for (int i = 0; i < 1000; i++) {
      const row right = {{0, 1}, {1}, 2, 1, 1, 0, 0}, wrong = {{1, 0}, {1}, 2, 1, 1, 0, 0};
      bool first = !(i < cases[k].better), second = !(i >= cases[k].better && i < cases[k].better + cases[k].worse);
      CHECK_OK(add(&a, first ? &right : &wrong, i));
      CHECK_OK(add(&b, second ? &right : &wrong, i));
      sd_paired_add(&p, a.right, b.right);
    }
    sd_paired_finish(&p, &a, &b);
    CHECK(p.worse == cases[k].worse && p.better == cases[k].better);
    CHECK(near(p.p, cases[k].p, 1e-3));
    CHECK(near(p.bound, cases[k].bound, 1e-4));
    sd_interval v = sd_score_interval(&b);
    CHECK(v.low < v.value && v.value <= v.high);
    sd_score_free(&a), sd_score_free(&b);
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
  classes(), curves(), numbers(), texts(), boxes(), errors(), pairs(), intervals();
  return check_end();
}
