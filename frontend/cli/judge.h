// A model that is run over a data set and scored: what eval and quantize share.
#pragma once
#include "frontend/cli/cli.h"
#include "frontend/metric/metric.h"
#include "passes/precision/precision.h"

typedef struct sd_judged {
  sd_cli_model m; // ctx is the caller's
  sard_session *session;
  sard_tensor **out;
  int n_out, n_in;
  int *order; // of the data's inputs: for each of the model's
  sard_tensor **in;
  // Where an input of the model is smaller than that of the data: *out is what is left of it, NULL: it is the same. NULL: all are.
  sard_status *(*fit)(const void *by, const struct sd_judged *m, int input, sard_tensor *from, sard_tensor **out);
  const void *by;
  sard_tensor **fitted;
  sd_score score;
  sd_sample sample;
  double seconds; // of runs
  bool aside;     // its outputs are other ones than those that are judged
} sd_judged;

// What is judged, by the flags --metric, --data, --label, --ignore, --judged, --batch, --limit.
typedef struct sd_judge {
  sd_cli *c;
  sard_context *ctx;
  const sd_metric *metric;
  sd_data *data;
  sd_judged a, b; // b is compared with a, where there is one: a the baseline
  bool two;
  sd_sample want, seen;
  sd_paired paired;
  int64_t limit, batch, ignore, skip; // skip: samples before the first that counts
  int output;
  bool fits; // labels were looked at
  // Of a: right samples. Once all are scored, and labels serve, it does not run again.
  uint8_t *right;
  int64_t n_right, room;
  double give_up; // a drop: where b's is larger for sure, it is scored no further; 0: all samples count
  SD_VEC(sd_score) marks; // of a, after as many samples as that is asked for
  struct { int64_t first, inputs, outputs; } wild; // samples whose inputs or outputs are NaN or infinite in places; the first with such inputs
} sd_judge;

sard_status *sd_judge_flags(sd_judge *j); // metric, limits; before models are loaded
// A session of j's model, whose inputs are those of the data. The model stays the judge's.
sard_status *sd_judge_begin(sd_judge *j, sd_judged *m);
// Opens the data for the inputs of a model.
sard_status *sd_judge_data(sd_judge *j, const sd_cli_model *m);
// Labels that no output of `m`, j's model on the data, fits are an error, before hours are spent: all of them beside
// the outputs of the first batch. Once; nothing where the metric needs none.
sard_status *sd_judge_labels(sd_judge *j, sd_judged *m);
// Samples that serve for calibration, the first n, are numbers; else SARD_E_USAGE, before hours are spent.
sard_status *sd_judge_finite(sd_judge *j, int64_t n);
// Runs a model on a batch; its outputs are in m->out until the next run.
sard_status *sd_judge_run(sd_judge *j, sd_judged *m, const sd_batch *b);
// All samples through one model, or both: their scores begin anew. After SARD_E_CANCELLED, and where b was
// given up, the scores are those of the samples before.
sard_status *sd_judge_all(sd_judge *j, const char *doing);
sard_status *sd_judge_leave(sd_judge *j, int64_t n); // goes on behind the next n samples
void sd_judged_free(sd_judged *m);
void sd_judge_free(sd_judge *j); // models, sessions, data; not the context
// A drop as users write it: "0.5%" are points of a share, else a part of the baseline's value; "0.005" is the metric's
// own unit.
sard_status *sd_judge_drop(const sd_metric *m, const char *flag, const char *text, double baseline, double *out);
// A line that shows how far it is, on terminals.
void sd_judge_progress(sd_cli *c, const char *doing, int64_t done, int64_t of, double seconds);
// Adds the range of every f32 value of the model of that path on some samples. precision.c
sard_status *sd_precision_calibrate(sd_judge *j, const char *model, sd_precision *out);
