// How good a model's outputs are: a metric over samples, its 95 % confidence interval, and two models on the same
// samples.
#pragma once
#include "frontend/data/data.h"

typedef struct sd_score sd_score;

// What a metric looks at: one sample.
typedef struct sd_metric_case {
  const sd_sample *out, *want; // the model's output; the label, or what the output should be
  int64_t ignore;              // label that does not count, class that is no sign; -1: none
  int64_t index;               // of the sample, for messages
} sd_metric_case;

typedef enum sd_metric_unit { SD_METRIC_PERCENT, SD_METRIC_NUMBER, SD_METRIC_DECIBEL } sd_metric_unit;

typedef struct sd_metric { // a row of metric.def
  const char *name, *what;
  bool labels; // it needs labels; others compare with labels, recorded outputs or the baseline's outputs
  bool share;  // each sample is right or wrong; the value is the share of right ones
  bool higher; // is better
  sd_metric_unit unit;
  sard_status *(*add)(const sd_metric_case *c, sd_score *s);
  double (*value)(const sd_score *s, int without); // of all blocks but one (-1: of all); NaN where there is none
} sd_metric;
const char *sd_metric_names(sd_arena *a);                             // all of them, with commas between
sard_status *sd_metric_find(const char *name, const sd_metric **out); // SARD_E_USAGE names the known ones

// Sums over the samples so far, apart for SD_SCORE_BLOCKS blocks of them (sample i belongs to block i mod that), so
// that the spread of the value over the blocks gives its error. Memory depends on the number of classes; auc and map
// alone keep a few numbers for each sample.
#define SD_SCORE_BLOCKS 32
typedef struct sd_score_entry {
  double score;
  int32_t group, right;
  int32_t block;
} sd_score_entry;
struct sd_score {
  const sd_metric *metric;
  int64_t samples;
  int block;  // of the sample that is being added
  bool right; // set by a share metric: the last sample is right
  double *sums[SD_SCORE_BLOCKS];
  uint32_t n_sums; // in each block
  sd_score_entry *list;
  uint64_t n_list, room;
};
void sd_score_init(sd_score *s, const sd_metric *m);
// Adds a sample; SARD_E_USAGE where label and output do not belong together.
sard_status *sd_score_add(sd_score *s, const sd_metric_case *c);
void sd_score_free(sd_score *s);
sard_status *sd_score_copy(const sd_score *from, sd_score *out); // of its own; SARD_E_NOMEM
// For rows: at least n sums a block; NULL when memory is short. Sum k over all blocks but one.
double *sd_score_sums(sd_score *s, uint32_t n);
double sd_score_sum(const sd_score *s, uint32_t k, int without);
sard_status *sd_score_list(sd_score *s, double score, int32_t group, bool right);

// ---- results (result.c) ----
typedef struct sd_interval {
  double value, low, high;
} sd_interval;
sd_interval sd_score_interval(const sd_score *s);

// Two models on the same samples. `drop`: how much worse the second is (positive: worse), in the metric's own unit.
typedef struct sd_paired {
  int64_t samples, worse, better; // share metrics: right only in the first, right only in the second
  double p;                       // exact McNemar test, two-sided; NaN for others
  sd_interval drop;               // with its 95 % interval
  double bound; // the drop is below it with 95 % (one-sided): never 0 for a share, however few differ
  double least; // the drop is above it with 99.9 %
} sd_paired;
// The bound where none of n samples differs: no drop below it can be proven with them.
double sd_paired_provable(int64_t n);
void sd_paired_add(sd_paired *p, bool first_right, bool second_right);
void sd_paired_finish(sd_paired *p, const sd_score *first, const sd_score *second);
// "98.4 %", "4.476", "31 dB".
const char *sd_metric_text(const sd_metric *m, double v, char out[48]);
