// sard prune: its state, shared by the files that prune, search and report.
#pragma once
#include "frontend/cli/pair.h"
#include "frontend/cli/tools.h"
#include "frontend/onnx/prune.h"
#include "passes/prune/layer.h"
#include "runtime/base/file.h"

typedef struct sd_prune_layer { // beside a unit
  double share;                 // of its weights that is to go
  double snr; // of the model's output when it alone is pruned, in decibels; NaN: not measured
  uint64_t zeros, zeros_before;
} sd_prune_layer;

typedef struct sd_prune {
  sd_cli *c;
  sd_judge judge; // a: the model as it was, b: the pruned one
  sard_source src;
  const char *out; // where the model goes
  const char *pattern_text;
  unsigned also;     // sd_prune_also
  bool resize;      // --keep-io-sizes no
  int64_t multiple; // of channels that are left of a layer
  sd_pattern pattern;
  sd_criterion criterion;
  bool global, refit;
  int64_t steps; // of the schedule
  sd_prune_units units;
  sd_prune_layer *layers;
  uint64_t parameters, parameters_after;
  sd_prune_channels channels; // of the patterns that remove
  double **gain;              // by Taylor expansion, of each unit's weights; NULL: not wanted
  double **squares;           // of each unit's inputs, NULL: not wanted
  uint32_t *worst, n_worst;   // units by sensitivity, worst first
  int64_t samples;            // used for calibration
  const uint8_t *earlier;     // what --resume has found, NULL: nothing, or all of it was taken
  uint64_t earlier_size, earlier_at;
  uint32_t recalled; // records that were taken from it
  bool keeps;        // what is computed now goes there
  // the model as it would be written
  sd_arena *made; // owns it
  const sd_packed *packed;
  uint64_t size_before;
  // what was measured
  bool pruned, judged, timed, interrupted;
  double max_drop; // in the metric's unit, NaN: none
  double ms_before, ms_after;
  sd_pair_steps profile;
  const char *verdict; // why it was refused; NULL: it was written
} sd_prune;

// ---- prune_layers.c ----
// Samples for calibration, by --samples.
sard_status *sd_prune_samples(sd_prune *q);
// All units anew from the weights of the file, each by its share times factor[unit] (NULL: 1).
sard_status *sd_prune_all(sd_prune *q, const double *factor);

// Sums of squares of a unit's inputs in the original model, [groups][k], in the arena.
sard_status *sd_prune_squares(sd_prune *q, uint32_t i, double **out);
// A unit's weights by least squares over what stays ([rows][k], 0: goes). Of tables the others are as they were.
sard_status *sd_prune_fit(sd_prune *q, uint32_t i, const uint8_t *mask);

// ---- prune_resume.c ----
// Opens what an earlier run with --resume left. Nothing without the flag.
sard_status *sd_prune_recall(sd_prune *q);
// Fills the pieces from there, if `what` is the next one.
bool sd_prune_recalled(sd_prune *q, uint64_t what, const sd_piece *at, size_t n);
sard_status *sd_prune_remember(sd_prune *q, uint64_t what, const sd_piece *at, size_t n);

// ---- prune_taylor.c ----
sard_status *sd_prune_taylor(sd_prune *q); // fills gain

// ---- prune_channels.c ----
sard_status *sd_prune_channels_find(sd_prune *q, uint32_t *some); // how many can go
// `part`: of the share, as far as the schedule is.
sard_status *sd_prune_channels_all(sd_prune *q, const double *factor, double part);

// ---- prune_states.c ----
// States that are inputs and outputs of the model and get other sizes: the judged output is none of them, inputs of the data are cut.
sard_status *sd_prune_states_check(sd_prune *q);
sard_status *sd_prune_states_fit(const void *q, const sd_judged *m, int input, sard_tensor *from, sard_tensor **out);
void sd_prune_states_say(sd_prune *q);
void sd_prune_states_json(sd_prune *q, sd_str *s);

// ---- prune_search.c ----
// Writes the model in memory and loads it as judge.b, where there are data.
sard_status *sd_prune_make(sd_prune *q);
sard_status *sd_prune_judge(sd_prune *q);
sard_status *sd_prune_rank(sd_prune *q);   // fills worst
sard_status *sd_prune_search(sd_prune *q); // lets the worst lose less until the drop is allowed

// ---- prune_report.c ----
void sd_prune_report(sd_prune *q); // for people, and as members of the JSON result
sard_status *sd_prune_html(sd_prune *q, const char *path);
