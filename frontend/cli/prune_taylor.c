// What each weight is worth by Taylor expansion: the squared change of the outputs, were it gone.
#include <math.h>
#include <string.h>

#include "frontend/cli/prune.h"
#include "runtime/base/alloc.h"

static sard_status *add(sd_prune *q, const sd_prune_unit *u, sard_tensor *t, const sd_batch *b,
                        double *gain) {
  sard_tensor_desc d;
  const float *g = sard_tensor_data(t, &d);
  uint64_t n = 1;
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  if (d.dtype != SARD_F32 || n != u->rows * u->k)
    return SD_ERR(INTERNAL, "slopes of '%s' are of another size", u->name);
  for (uint64_t r = 0; r < u->rows; r++)
    for (uint64_t j = 0; j < u->k; j++) {
      double change = (double)g[sd_prune_place(u, r, j)] * sd_prune_was(u, r, j);
      if (!isfinite(change))
        return SD_ERR(
            USAGE,
            "the slope of '%s' is NaN or infinite in samples %lld to %lld: the data, or the model, are "
            "not fit for --criterion taylor",
            u->name, (long long)b->first, (long long)(b->first + b->count - 1));
      gain[r * u->k + j] += change * change;
    }
  (void)q;
  return NULL;
}

static sard_status *run(sd_prune *q, sd_judged *m) {
  SD_TRY(sd_data_rewind(q->judge.data));
  for (int64_t done = 0; done < q->samples;) {
    sd_batch b;
    int out = 0;
    sard_status *st = sd_data_next(q->judge.data, sd_min_i64(q->judge.batch, q->samples - done), &b);
    if (!st) st = sd_judge_run(&q->judge, m, &b);
    for (uint32_t i = 0; i < q->units.len && !st; i++)
      if (q->gain[i]) st = add(q, &q->units.at[i], m->out[out++], &b, q->gain[i]);
    done += b.count ? b.count : 1;
    sd_batch_free(&b);
    SD_TRY(st);
    sd_judge_progress(q->c, "slopes", done, q->samples, 0);
  }
  sd_cli_progress(q->c, NULL);
  return NULL;
}

sard_status *sd_prune_taylor(sd_prune *q) {
  sd_judged m = {.aside = true};
  sd_arena *a = sd_arena_scratch(q->c->arena);
  const sd_packed *packed;
  q->gain = SD_NEW_ARRAY(q->c->arena, double *, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    if (!u->keep && !u->recurrent) q->gain[i] = SD_NEW_ARRAY(q->c->arena, double, u->rows * u->k);
  }
  sard_status *st = sd_prune_slopes(a, &q->src, &q->units, q->judge.output, &packed);
  if (!st) st = sd_model_load_packed(q->c, q->judge.ctx, &packed->src, &m.m);
  if (sard_status_code(st) == SARD_E_UNSUPPORTED)
    st = sd_status_field(st, SARD_TEXT_HINT,
                         "--criterion taylor differentiates the model: take wanda or sparsegpt");
  if (!st) st = sd_judge_begin(&q->judge, &m);
  if (!st) st = run(q, &m);
  sd_judged_free(&m);
  sd_arena_free(a);
  return st;
}
