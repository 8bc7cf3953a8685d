// Which nodes cost accuracy: each is quantized alone and the model's output compared with that of the float model; then
// the fewest of them are kept in float such that the drop is what is allowed.
#include <stdlib.h>

#include "frontend/cli/quantize.h"

// ---- sensitivity ----

static int worst_first(const void *a, const void *b) {
  double x = ((const sd_quantize_layer *)a)->snr, y = ((const sd_quantize_layer *)b)->snr;
  return (x > y) - (x < y);
}

static bool is_known(const sd_quantize *q, uint32_t unit) {
  for (uint32_t i = 0; i < q->layers.len; i++)
    if (q->layers.at[i].unit == unit) return true;
  return false;
}

sard_status *sd_quantize_rank(sd_quantize *q) {
  if (q->layers.len) return NULL;
  bool *kept = SD_NEW_ARRAY(q->c->arena, bool, q->units.len + 1);
  uint32_t all = 0, done = 0;
  sard_status *st = NULL;
  SD_TRY(sd_quantize_recall(q));
  for (uint32_t i = 0; i < q->units.len; i++) kept[i] = q->units.at[i].keep, all += !kept[i];
  for (uint32_t i = 0; i < q->units.len && !st; i++) {
    if (kept[i] || is_known(q, i)) continue;
    for (uint32_t k = 0; k < q->units.len; k++) q->units.at[k].keep = k != i;
    sd_judge_progress(q->c, "sensitivity", q->recalled + done++, all, 0);
    double snr = 0;
    st = sd_quantize_make(q);
    if (!st) st = sd_pair_snr(&q->judge, &snr);
    if (!st) sd_vec_push(q->c->arena, &q->layers, ((sd_quantize_layer){i, snr}));
    if (!st) st = sd_quantize_remember(q);
  }
  sd_cli_progress(q->c, NULL);
  for (uint32_t i = 0; i < q->units.len; i++) q->units.at[i].keep = kept[i];
  if (q->layers.len) qsort(q->layers.at, q->layers.len, sizeof *q->layers.at, worst_first);
  return st;
}

// ---- search ----

static sard_status *try_worst(sd_quantize *q, uint32_t n, bool *good) {
  for (uint32_t i = 0; i < q->layers.len; i++) {
    sd_quant_unit *u = &q->units.at[q->layers.at[i].unit];
    u->keep = i < n, u->why = i < n ? "it costs accuracy" : NULL;
  }
  SD_TRY(sd_quantize_make(q));
  SD_TRY(sd_quantize_judge(q));
  *good = q->judge.paired.drop.value <= q->max_drop + 1e-12;
  sd_cli_detail(q->c, "%u of %u nodes float: drop %.5g", n, q->layers.len, q->judge.paired.drop.value);
  return NULL;
}

// More nodes in float are taken to be better: the least number by halving. All in float is the float model: that is no
// result.
sard_status *sd_quantize_search(sd_quantize *q) {
  SD_TRY(sd_quantize_rank(q));
  uint32_t bad = 0, good = q->layers.len;
  bool passed = false;
  while (good - bad > 1) {
    uint32_t mid = bad + (good - bad) / 2;
    SD_TRY(try_worst(q, mid, &passed));
    if (passed) good = mid;
    else
      bad = mid;
  }
  if (good == q->layers.len) return try_worst(q, bad, &passed); // nothing passes: shown as it is, and refused
  return passed && bad + 1 == good && q->units.at[q->layers.at[good - 1].unit].keep &&
                 (good == q->layers.len || !q->units.at[q->layers.at[good].unit].keep)
             ? NULL
             : try_worst(q, good, &passed);
}
