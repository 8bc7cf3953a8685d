// Weights without some of their elements: which go, and how the others make up for them. A weight is a matrix
// of outputs x inputs, inputs in the order in which kernels read them (channels innermost).
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "passes/quantize/factor.h"
#include "runtime/base/status.h"
#include "runtime/pool.h"

typedef enum sd_pattern_kind {
  SD_PATTERN_FREE,
  SD_PATTERN_NM,
  SD_PATTERN_BLOCK,
  SD_PATTERN_CHANNELS, // outputs of layers with all that depends on them: no masks
  SD_PATTERN_HEADS,    // runs of them
} sd_pattern_kind;
static inline bool sd_pattern_removes(sd_pattern_kind k) {
  return k == SD_PATTERN_CHANNELS || k == SD_PATTERN_HEADS;
}

typedef struct sd_pattern {
  sd_pattern_kind kind;
  uint64_t rows, cols; // NM: keep `rows` of `cols` neighbours along the inputs; BLOCK: outputs x inputs
  double share;        // that goes; of NM it follows
} sd_pattern;
// "unstructured:0.3", "2:4", "block16x1:0.5", "channels:0.3", "heads:0.25"; SARD_E_USAGE.
sard_status *sd_pattern_read(const char *text, sd_pattern *out);
// Why it does not fit a weight of outputs x inputs in `groups`; NULL: it does.
const char *sd_pattern_misfit(const sd_pattern *p, uint64_t rows, uint64_t k);

// Whether the zeros of w ([rows][k]) are as the pattern wants them: NM has enough of them in each group,
// BLOCK none outside of whole blocks of zeros.
bool sd_pattern_holds(const sd_pattern *p, const float *w, uint64_t rows, uint64_t k);

typedef enum sd_criterion { SD_MAGNITUDE, SD_WANDA, SD_SPARSEGPT, SD_TAYLOR } sd_criterion;

typedef struct sd_layer {
  uint64_t rows, k, groups; // the outputs of each group have inputs of their own
  float *w;                 // [rows][k]
  uint8_t *mask;            // [rows][k], 1: kept
  const double *h;          // [groups][k][k], second moments of the inputs (sums); NULL: no data
  const double *b;          // [rows][k], sums of wanted output times input; NULL: no data
  const double *gain;       // [rows][k], what Taylor expansion says each weight is worth; NULL: not measured
  sd_check check;           // what takes long asks it, and ends with its error; NULL: it goes on
} sd_layer;

// How much each weight is worth, the larger the more; [rows][k]. SD_WANDA and SD_SPARSEGPT need h.
// SARD_E_NOMEM.
sard_status *sd_layer_score(const sd_layer *l, sd_criterion c, double *out);
// The mask that takes `share` of the weights (of NM: what the pattern says), those of least score. `by_row`:
// the same share of each row.
sard_status *sd_layer_mask(sd_layer *l, const sd_pattern *p, double share, bool by_row, const double *score);
// SparseGPT (Frantar and Alistarh 2023): columns in order, each block's mask chosen when the weights behind
// earlier ones have made up for them. `choose` false: the mask stays as it is, only the weights move. Needs
// h.
sard_status *sd_layer_sparsegpt(sd_layer *l, const sd_pattern *p, double share, bool choose);
// Least squares: the kept weights such that outputs are nearest to the wanted ones, rows on all threads of
// `pool` (NULL ok). Where that is too much work, all weights are fitted at once and those that go are made up
// for by SparseGPT's rule. Needs h and b.
sard_status *sd_layer_refit(sd_layer *l, const sd_pattern *p, sd_pool *pool);
// Sets what the mask takes to 0; how many that are in all.
uint64_t sd_layer_apply(sd_layer *l);
