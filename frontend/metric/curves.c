// Metrics that sort all samples by score: area under the ROC curve.
#include <math.h>
#include <stdlib.h>

#include "frontend/metric/internal.h"
#include "runtime/base/alloc.h"

sard_status *sd_metric_auc_add(const sd_metric_case *c, sd_score *s) {
  uint64_t label;
  if (c->out->n > 2) return SD_ERR(USAGE, "auc is of two classes, the output has %llu", (unsigned long long)c->out->n);
  SD_TRY(sd_metric_class(c, 2, &label));
  double score = c->out->at[c->out->n - 1];
  if (isnan(score)) return SD_ERR(USAGE, "the output of sample %lld is NaN", (long long)c->index);
  return sd_score_list(s, score, 0, label == 1);
}

static int by_score(const void *a, const void *b) {
  double x = ((const sd_score_entry *)a)->score, y = ((const sd_score_entry *)b)->score;
  return (x > y) - (x < y);
}

// The list is sorted once; sums of ranks, the mean one where scores are equal.
double sd_metric_auc_value(const sd_score *s, int without) {
  double ranks = 0, right = 0, seen = 0;
  qsort(s->list, s->n_list, sizeof *s->list, by_score);
  for (uint64_t i = 0, j; i < s->n_list; i = j) {
    double equal = 0, equal_right = 0;
    for (j = i; j < s->n_list && s->list[j].score == s->list[i].score; j++) {
      if (s->list[j].block == without) continue;
      equal += 1, equal_right += s->list[j].right;
    }
    ranks += equal_right * (seen + (equal + 1) / 2);
    seen += equal, right += equal_right;
  }
  return (ranks - right * (right + 1) / 2) / (right * (seen - right));
}
