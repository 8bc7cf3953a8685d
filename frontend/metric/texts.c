// Metrics of texts: perplexity of language models, exact matches of recognized lines.
#include <math.h>

#include "frontend/metric/internal.h"

sard_status *sd_metric_ppl_add(const sd_metric_case *c, sd_score *s) {
  const sd_sample *out = c->out;
  uint64_t steps = c->want->n, classes = out->rank > 0 ? (uint64_t)out->dims[out->rank - 1] : 0;
  if (!classes || steps * classes != out->n)
    return SD_ERR(
        USAGE, "sample %lld has %llu labels, but its output %llu numbers: one row of scores for each label is wanted",
        (long long)c->index, (unsigned long long)steps, (unsigned long long)out->n);
  double *sums = sd_score_sums(s, 2);
  if (!sums) return sd_metric_short_of_memory();
  for (uint64_t t = 0; t < steps; t++) {
    const double *row = out->at + t * classes;
    double label = c->want->at[t], sum = 0;
    if (label < 0 || label == (double)c->ignore) continue;
    if (label != floor(label) || label >= (double)classes)
      return SD_ERR(USAGE, "label %g of sample %lld is no class from 0 to %llu", label, (long long)c->index,
                    (unsigned long long)classes - 1);
    uint64_t most = sd_metric_largest(row, classes);
    for (uint64_t k = 0; k < classes; k++) sum += exp(row[k] - row[most < classes ? most : 0]);
    sums[0] += log(sum) + row[most < classes ? most : 0] - row[(uint64_t)label], sums[1] += 1;
  }
  return NULL;
}

double sd_metric_ppl_value(const sd_score *s, int without) {
  return exp(sd_score_sum(s, 0, without) / sd_score_sum(s, 1, without));
}

// Greedy decoding: a class counts when it differs from the one before it, blank and the ignored class never.
sard_status *sd_metric_ctc_add(const sd_metric_case *c, sd_score *s) {
  const sd_sample *out = c->out;
  if (out->rank != 2)
    return SD_ERR(USAGE, "ctc needs an output [steps, classes] for each sample, not one of rank %d", out->rank);
  uint64_t steps = (uint64_t)out->dims[0], classes = (uint64_t)out->dims[1], at = 0, before = classes;
  s->right = true;
  for (uint64_t t = 0; t < steps; t++) {
    uint64_t k = sd_metric_largest(out->at + t * classes, classes);
    bool counts = k != before && k != 0 && k < classes && k != (uint64_t)c->ignore;
    before = k;
    while (counts && at < c->want->n && c->want->at[at] == 0) at++;
    if (counts) s->right &= at < c->want->n && c->want->at[at] == (double)k, at += at < c->want->n;
  }
  for (; at < c->want->n; at++) s->right &= c->want->at[at] == 0;
  return NULL;
}
