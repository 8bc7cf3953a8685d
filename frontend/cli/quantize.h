// sard quantize: its state, shared by the files that calibrate, search and report.
#pragma once
#include "frontend/cli/pair.h"
#include "frontend/cli/tools.h"
#include "frontend/onnx/quant.h"
#include "passes/quantize/range.h"
#include "runtime/base/file.h"

typedef struct sd_quantize_layer { // sensitivity of a unit
  uint32_t unit;
  double snr; // of the model's output when it alone is quantized, in decibels
} sd_quantize_layer;

typedef struct sd_quantize {
  sd_cli *c;
  sd_judge judge; // a: the float model, b: the quantized one
  sard_source src;
  const char *out; // where the model goes
  sd_quant_options o;
  const sd_range_method *method;
  double number; // of the method
  sd_quant_units units;
  // observed once, for all units that may be quantized
  sd_quant_tensors tensors;
  sd_range *ranges;
  int64_t samples; // used for calibration
  bool correct;    // biases are corrected
  bool awq;        // channels are scaled by the error of outputs
  double alpha;    // of SmoothQuant; NaN: none
  uint32_t equalized, balanced, inserted; // pairs of layers; activations that are scaled, those with a Mul of their own
  // the model as it would be written
  sd_arena *made; // owns it
  const sd_packed *packed;
  uint64_t size_before;
  // what was measured
  bool judged, timed, interrupted;
  double max_drop; // in the metric's unit, NaN: none
  double ms_before, ms_after;
  SD_VEC(sd_quantize_layer) layers; // worst first
  uint64_t key;      // of --resume
  uint32_t recalled; // of the layers, those that an earlier run measured
  int passes;        // over samples so far
  int64_t calibrated; // samples of the last one whose sums an earlier run made
  sd_pair_steps steps;              // where it is slower, most first; none: not asked for
  const char *verdict; // why it was refused; NULL: it was written
} sd_quantize;

// ---- quantize_calibrate.c ----
// Runs the float model on samples and takes ranges, means and second moments of what will be integers.
sard_status *sd_quantize_observe(sd_quantize *q);
// Runs the model q->src on samples: sums of `t`, and ranges of each.
sard_status *sd_quantize_look(sd_quantize *q, sd_quant_tensors *t, sd_range *ranges);
// The numbers that activations reach, before their scale.
void sd_quantize_reach(const sd_quantize *q, int32_t *least, int32_t *most);
// Ranges to scales, by the method.
void sd_quantize_scale(sd_quantize *q);

// ---- quantize_balance.c ----
// q->src becomes a model that computes the same with channels scaled: by cross-layer equalization, or as flags say. Its
// units have to be found anew.
sard_status *sd_quantize_balance(sd_quantize *q, bool equalize);

// ---- quantize_model.c ----
// Writes the model in memory, units that are kept in float, and loads it as judge.b.
sard_status *sd_quantize_make(sd_quantize *q);
sard_status *sd_quantize_load_float(sd_quantize *q);
sard_status *sd_quantize_time(sd_quantize *q);
// Scores both on the samples that did not serve for calibration.
sard_status *sd_quantize_judge(sd_quantize *q);

// ---- quantize_search.c ----
sard_status *sd_quantize_rank(sd_quantize *q);   // fills layers
sard_status *sd_quantize_search(sd_quantize *q); // keeps the fewest of them in float such that the drop is allowed

// ---- quantize_resume.c ----
// Layers that an earlier run with --resume measured; and writing all that are known. Nothing without the flag.
sard_status *sd_quantize_recall(sd_quantize *q);
sard_status *sd_quantize_remember(sd_quantize *q);

// The same of a pass over samples, in a file beside that one: its pieces, which are those of the key. *found: they are read.
typedef struct sd_quantize_pass {
  int number; // from 1 on: channels may be looked at before ranges are
  uint64_t key;
} sd_quantize_pass;
void sd_quantize_pass_begin(sd_quantize *q, const sd_packed *model, sd_quantize_pass *p); // of the model that runs
sard_status *sd_quantize_pass_read(sd_quantize *q, const sd_quantize_pass *p, const sd_piece *at, size_t n, bool *found);
sard_status *sd_quantize_pass_write(sd_quantize *q, const sd_quantize_pass *p, const sd_piece *at, size_t n);

// ---- quantize_report.c ----
void sd_quantize_report(sd_quantize *q); // for people, and as members of the JSON result
sard_status *sd_quantize_html(sd_quantize *q, const char *path);
