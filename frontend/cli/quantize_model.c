// The quantized model in memory, beside the float one: made, scored, timed.
#include "frontend/cli/quantize.h"

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
  q->packed = NULL;
  SD_TRY(sd_quant_write(q->made, &q->src, &q->o, &q->units, &q->tensors, &q->packed));
  if (!q->judge.data) return NULL;
  SD_TRY_MSG(sd_model_load_packed(q->c, q->judge.ctx, &q->packed->src, &q->judge.b.m), "the quantized model");
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

sard_status *sd_quantize_time(sd_quantize *q) {
  SD_TRY(sd_pair_time(&q->judge, &q->ms_before, &q->ms_after));
  q->timed = true;
  return NULL;
}
