// The pruned model beside the original: written, scored; and where the drop is too large, which layers lose
// less.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/prune.h"

enum { RAMP = 4 }; // layers between one that loses all it should and one that loses nothing

sard_status *sd_prune_make(sd_prune *q) {
  sd_judged_free(&q->judge.b);
  sd_arena_free(q->made);
  q->made = sd_arena_scratch(q->c->arena);
  q->packed = NULL;
  q->parameters_after = q->parameters;
  if (!sd_pattern_removes(q->pattern.kind))
    SD_TRY(sd_prune_write(q->made, &q->src, &q->units, &q->packed));
  else
    SD_TRY(sd_prune_write_less(q->made, &q->src, &q->units, &q->channels, &q->packed, &q->parameters_after));
  if (!q->judge.data) return NULL;
  SD_TRY_MSG(sd_model_load_packed(q->c, q->judge.ctx, &q->packed->src, &q->judge.b.m), "the pruned model");
  SD_TRY(sd_judge_begin(&q->judge, &q->judge.b));
  if (q->channels.io.len) q->judge.b.fit = sd_prune_states_fit, q->judge.b.by = q;
  return NULL;
}

// Samples that served for calibration count only where too few others are there.
sard_status *sd_prune_judge(sd_prune *q) {
  int64_t all = sd_data_count(q->judge.data);
  q->judge.skip = all - q->samples >= q->samples ? q->samples : 0;
  SD_TRY(sd_judge_all(&q->judge, "evaluating"));
  q->judged = true;
  return NULL;
}

// ---- sensitivity ----

static const sd_prune_layer *compared; // by worst_first
static int worst_first(const void *a, const void *b) {
  double x = compared[*(const uint32_t *)a].snr, y = compared[*(const uint32_t *)b].snr;
  return (x > y) - (x < y);
}

// One layer pruned, all others as they were.
static sard_status *alone(sd_prune *q, uint32_t i) {
  if (sd_pattern_removes(q->pattern.kind)) {
    double *factor = SD_NEW_ARRAY(q->c->arena, double, q->units.len + 1);
    factor[i] = 1;
    return sd_prune_all(q, factor);
  }
  for (uint32_t k = 0; k < q->units.len; k++) q->units.at[k].keep = k != i;
  return NULL;
}

sard_status *sd_prune_rank(sd_prune *q) {
  if (q->worst) return NULL;
  bool *kept = SD_NEW_ARRAY(q->c->arena, bool, q->units.len + 1);
  q->worst = SD_NEW_ARRAY(q->c->arena, uint32_t, q->units.len + 1);
  sard_status *st = NULL;
  for (uint32_t i = 0; i < q->units.len; i++) kept[i] = q->units.at[i].keep;
  for (uint32_t i = 0; i < q->units.len && !st; i++) {
    if (kept[i]) continue;
    st = alone(q, i);
    sd_judge_progress(q->c, "sensitivity", i, q->units.len, 0);
    if (!st) st = sd_prune_make(q);
    if (!st) st = sd_pair_snr(&q->judge, &q->layers[i].snr);
    if (!st) q->worst[q->n_worst++] = i;
  }
  sd_cli_progress(q->c, NULL);
  for (uint32_t i = 0; i < q->units.len; i++) q->units.at[i].keep = kept[i];
  if (!st && sd_pattern_removes(q->pattern.kind)) st = sd_prune_all(q, NULL);
  compared = q->layers;
  qsort(q->worst, q->n_worst, sizeof *q->worst, worst_first);
  return st;
}

// ---- search ----

// The worst layers lose less: at `level` the r-th one loses 1 - (level - r) / RAMP of what it should.
static sard_status *try_level(sd_prune *q, uint32_t level, bool *good) {
  double *factor = SD_NEW_ARRAY(q->c->arena, double, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) factor[i] = 1;
  for (uint32_t r = 0; r < q->n_worst; r++)
    factor[q->worst[r]] = fmin(1, fmax(0, 1 - ((double)level - r) / RAMP));
  SD_TRY(sd_prune_all(q, factor));
  SD_TRY(sd_prune_make(q));
  SD_TRY(sd_prune_judge(q));
  *good = q->judge.paired.drop.value <= q->max_drop + 1e-12;
  sd_cli_detail(q->c, "level %u of %u: drop %.5g", level, q->n_worst + RAMP, q->judge.paired.drop.value);
  return NULL;
}

// Less pruning is taken to be better: the least level by halving. At the last one nothing is pruned: that is
// no result.
sard_status *sd_prune_search(sd_prune *q) {
  SD_TRY(sd_prune_rank(q));
  uint32_t bad = 0, good = q->n_worst - 1 + RAMP, last = UINT32_MAX, end = good;
  bool passed = false;
  while (good - bad > 1) {
    uint32_t mid = bad + (good - bad) / 2;
    SD_TRY(try_level(q, mid, &passed));
    last = mid;
    if (passed) good = mid;
    else
      bad = mid;
  }
  if (good == end) good = bad; // nothing passes: shown as it is, and refused
  return last == good ? NULL : try_level(q, good, &passed);
}
