// Metrics of numbers: errors of regressions, and how far outputs are from what they should be.
#include <math.h>

#include "frontend/metric/internal.h"

static sard_status *same_size(const sd_metric_case *c) {
  if (c->out->n == c->want->n) return NULL;
  return SD_ERR(USAGE, "sample %lld: the output has %llu numbers, but %llu belong to it", (long long)c->index,
                (unsigned long long)c->out->n, (unsigned long long)c->want->n);
}

// Sums of e*e, 1, y, y*y over all numbers.
static sard_status *add_errors(const sd_metric_case *c, sd_score *s) {
  SD_TRY(same_size(c));
  double *sums = sd_score_sums(s, 4);
  if (!sums) return sd_metric_short_of_memory();
  for (uint64_t i = 0; i < c->out->n; i++) {
    double y = c->want->at[i], e = c->out->at[i] - y;
    sums[0] += e * e, sums[1] += 1, sums[2] += y, sums[3] += y * y;
  }
  return NULL;
}

sard_status *sd_metric_mse_add(const sd_metric_case *c, sd_score *s) { return add_errors(c, s); }
sard_status *sd_metric_r2_add(const sd_metric_case *c, sd_score *s) { return add_errors(c, s); }

double sd_metric_r2_value(const sd_score *s, int without) {
  double n = sd_score_sum(s, 1, without), y = sd_score_sum(s, 2, without);
  return 1 - sd_score_sum(s, 0, without) / (sd_score_sum(s, 3, without) - y * y / n);
}

static sard_status *add_mean(sd_score *s, double v) {
  double *sums = sd_score_sums(s, 2);
  if (!sums) return sd_metric_short_of_memory();
  sums[0] += v, sums[1] += 1;
  return NULL;
}

sard_status *sd_metric_cosine_add(const sd_metric_case *c, sd_score *s) {
  double xy = 0, xx = 0, yy = 0;
  SD_TRY(same_size(c));
  for (uint64_t i = 0; i < c->out->n; i++) {
    double x = c->out->at[i], y = c->want->at[i];
    xy += x * y, xx += x * x, yy += y * y;
  }
  return add_mean(s, xx == 0 && yy == 0 ? 1 : xx == 0 || yy == 0 ? 0 : xy / sqrt(xx * yy));
}

sard_status *sd_metric_psnr_add(const sd_metric_case *c, sd_score *s) {
  const double most = 200; // equal to the last bit
  double peak = 0, e2 = 0;
  SD_TRY(same_size(c));
  for (uint64_t i = 0; i < c->out->n; i++) {
    double e = c->out->at[i] - c->want->at[i];
    peak = fmax(peak, fabs(c->want->at[i])), e2 += e * e;
  }
  double db = e2 == 0 ? most : 10 * log10(peak * peak * (double)c->out->n / e2);
  return add_mean(s, db > most ? most : db);
}
