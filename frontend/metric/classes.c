// Metrics of classes: one label for each sample.
#include <math.h>

#include "frontend/metric/internal.h"

enum { MOST_CLASSES = 1 << 16 };

double sd_metric_ratio_value(const sd_score *s, int without) {
  return sd_score_sum(s, 0, without) / sd_score_sum(s, 1, without);
}
double sd_metric_share_value(const sd_score *s, int without) { return sd_metric_ratio_value(s, without); }

sard_status *sd_metric_class(const sd_metric_case *c, uint64_t classes, uint64_t *out) {
  if (c->want->n != 1)
    return SD_ERR(USAGE, "sample %lld has %llu labels, one class is wanted", (long long)c->index,
                  (unsigned long long)c->want->n);
  double v = c->want->at[0];
  if (!(v >= 0) || v != floor(v) || v >= (double)classes)
    return SD_ERR(USAGE, "label %g of sample %lld is no class from 0 to %llu", v, (long long)c->index,
                  (unsigned long long)classes - 1);
  *out = (uint64_t)v;
  return NULL;
}

uint64_t sd_metric_largest(const double *v, uint64_t n) {
  uint64_t best = n;
  for (uint64_t i = 0; i < n; i++)
    if (!isnan(v[i]) && (best == n || v[i] > v[best])) best = i;
  return best;
}

static sard_status *several(const sd_metric_case *c) {
  if (c->out->n > 1) return NULL;
  return sd_status_field(SD_ERR(USAGE, "the output has %llu numbers for a sample: it gives no score for each class",
                                (unsigned long long)c->out->n),
                         SARD_TEXT_HINT, "--judged names another output; --metric label compares labels themselves");
}

sard_status *sd_metric_top1_add(const sd_metric_case *c, sd_score *s) {
  uint64_t label;
  SD_TRY(several(c));
  SD_TRY(sd_metric_class(c, c->out->n, &label));
  s->right = sd_metric_largest(c->out->at, c->out->n) == label;
  return NULL;
}

sard_status *sd_metric_top5_add(const sd_metric_case *c, sd_score *s) {
  uint64_t label, larger = 0;
  SD_TRY(several(c));
  SD_TRY(sd_metric_class(c, c->out->n, &label));
  double own = c->out->at[label];
  for (uint64_t i = 0; i < c->out->n; i++) larger += c->out->at[i] > own || (c->out->at[i] == own && i < label);
  s->right = !isnan(own) && larger < 5;
  return NULL;
}

sard_status *sd_metric_label_add(const sd_metric_case *c, sd_score *s) {
  if (c->out->n != c->want->n)
    return SD_ERR(USAGE, "sample %lld has %llu labels, the output %llu", (long long)c->index,
                  (unsigned long long)c->want->n, (unsigned long long)c->out->n);
  s->right = true;
  for (uint64_t i = 0; i < c->out->n; i++) s->right &= c->out->at[i] == c->want->at[i];
  return NULL;
}

// ---- F1: for each class the samples that are it, are said to be it, are both ----

sard_status *sd_metric_f1_add(const sd_metric_case *c, sd_score *s) {
  uint64_t label, said = c->out->n > 1 ? sd_metric_largest(c->out->at, c->out->n) : 0;
  uint64_t classes = c->out->n > 1 ? c->out->n : MOST_CLASSES;
  SD_TRY(sd_metric_class(c, classes, &label));
  if (c->out->n == 1) { // a label
    double v = c->out->at[0];
    if (!(v >= 0) || v >= MOST_CLASSES || v != floor(v))
      return SD_ERR(USAGE, "the output %g of sample %lld is no class", v, (long long)c->index);
    said = (uint64_t)v;
  }
  uint64_t most = said < classes && said > label ? said : label;
  double *sums = sd_score_sums(s, 3 * (uint32_t)(most + 1));
  if (!sums) return sd_metric_short_of_memory();
  sums[3 * label] += 1;
  if (said < classes) sums[3 * said + 1] += 1; // not where all outputs are NaN
  if (said == label) sums[3 * label + 2] += 1;
  return NULL;
}

double sd_metric_f1_value(const sd_score *s, int without) {
  double sum = 0;
  int counted = 0;
  uint32_t classes = s->n_sums / 3;
  for (uint32_t k = classes == 2 ? 1 : 0; k < classes; k++) {
    double are = sd_score_sum(s, 3 * k, without), said = sd_score_sum(s, 3 * k + 1, without);
    if (are + said == 0) continue;
    sum += 2 * sd_score_sum(s, 3 * k + 2, without) / (are + said), counted++;
  }
  return sum / counted;
}
