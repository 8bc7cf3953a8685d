// The quantized model in memory, beside the float one: made, scored, timed.
#include <math.h>

#include "frontend/cli/quantize.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"

sard_status *sd_quantize_load_float(sd_quantize *q) {
  if (q->judge.a.m.model || !q->judge.data) return NULL;
  SD_TRY(sd_model_load_in(q->c, q->judge.ctx, q->c->operands[0], &q->judge.a.m));
  q->judge.two = true;
  return sd_judge_begin(&q->judge, &q->judge.a);
}

sard_status *sd_quantize_make(sd_quantize *q) {
  sd_judged_free(&q->judge.b);
  sd_arena_free(q->made);
  q->made = sd_arena_scratch(q->c->arena);
  q->bytes = NULL;
  SD_TRY(sd_quant_write(q->made, &q->src, &q->o, &q->units, &q->tensors, &q->bytes, &q->size));
  if (!q->judge.data) return NULL;
  SD_TRY_MSG(sd_model_load_bytes(q->c, q->judge.ctx, q->bytes, q->size, &q->judge.b.m), "the quantized model");
  return sd_judge_begin(&q->judge, &q->judge.b);
}

// Samples that served for calibration count only where too few others are there.
sard_status *sd_quantize_judge(sd_quantize *q) {
  int64_t all = sd_data_count(q->judge.data);
  q->judge.skip = all - q->samples >= q->samples ? q->samples : 0;
  SD_TRY(sd_judge_all(&q->judge, "evaluating"));
  q->judged = true;
  return NULL;
}

// ---- time ----

enum { ROUNDS = 9 };

static sard_status *one(sd_quantize *q, sd_judged *m, const sd_batch *b, int64_t times, double *ms) {
  int64_t t0 = sd_now_ns();
  for (int64_t i = 0; i < times; i++) SD_TRY(sd_judge_run(&q->judge, m, b));
  *ms = (double)(sd_now_ns() - t0) * 1e-6 / (double)times;
  return NULL;
}

static sard_status *rounds(sd_quantize *q, const sd_batch *b) {
  double ms;
  SD_TRY(one(q, &q->judge.b, b, 1, &ms));
  SD_TRY(one(q, &q->judge.a, b, 1, &ms));
  SD_TRY(one(q, &q->judge.a, b, 1, &ms));
  int64_t times = ms < 20 ? (int64_t)(20 / (ms > 0.001 ? ms : 0.001)) + 1 : 1;
  q->ms_before = q->ms_after = INFINITY;
  for (int i = 0; i < ROUNDS; i++) { // the least is what others on the machine disturb least
    SD_TRY(one(q, &q->judge.a, b, times, &ms));
    q->ms_before = fmin(q->ms_before, ms);
    SD_TRY(one(q, &q->judge.b, b, times, &ms));
    q->ms_after = fmin(q->ms_after, ms);
  }
  q->timed = true;
  return NULL;
}

sard_status *sd_quantize_time(sd_quantize *q) {
  sd_batch b;
  SD_TRY(sd_data_rewind(q->judge.data));
  sd_cli_progress(q->c, "timing ...");
  sard_status *st = sd_data_next(q->judge.data, q->judge.batch, &b);
  if (!st) st = rounds(q, &b);
  sd_batch_free(&b);
  sd_cli_progress(q->c, NULL);
  return st;
}
