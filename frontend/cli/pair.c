// Two models side by side: times, steps, differences, metrics.
#include "frontend/cli/pair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "passes/quantize/affine.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/session.h"

enum { ROUNDS = 9, RUNS = 8, SAMPLES = 32 };

// ---- time ----

static sard_status *one(sd_judge *j, sd_judged *m, const sd_batch *b, int64_t times, double *ms) {
  int64_t t0 = sd_now_ns();
  for (int64_t i = 0; i < times; i++) SD_TRY(sd_judge_run(j, m, b));
  *ms = (double)(sd_now_ns() - t0) * 1e-6 / (double)times;
  return NULL;
}

static sard_status *rounds(sd_judge *j, const sd_batch *b, double *before, double *after) {
  double ms;
  SD_TRY(one(j, &j->b, b, 1, &ms));
  SD_TRY(one(j, &j->a, b, 1, &ms));
  SD_TRY(one(j, &j->a, b, 1, &ms));
  int64_t times = ms < 20 ? (int64_t)(20 / (ms > 0.001 ? ms : 0.001)) + 1 : 1;
  *before = *after = INFINITY;
  for (int i = 0; i < ROUNDS; i++) { // the least is what others on the machine disturb least
    SD_TRY(one(j, &j->a, b, times, &ms));
    *before = fmin(*before, ms);
    SD_TRY(one(j, &j->b, b, times, &ms));
    *after = fmin(*after, ms);
  }
  return NULL;
}

sard_status *sd_pair_time(sd_judge *j, double *ms_before, double *ms_after) {
  sd_batch b;
  SD_TRY(sd_data_rewind(j->data));
  sd_cli_progress(j->c, "timing ...");
  sard_status *st = sd_data_next(j->data, j->batch, &b);
  if (!st) st = rounds(j, &b, ms_before, ms_after);
  sd_batch_free(&b);
  sd_cli_progress(j->c, NULL);
  return st;
}

// ---- steps ----

typedef SD_VEC(sd_pair_step) steps;

static sd_pair_step *step_of(sd_judge *j, steps *list, const char *name, const char *op) {
  sd_arena *a = j->c->arena;
  for (uint32_t i = 0; i < list->len; i++)
    if (strcmp(list->at[i].name, name) == 0) return &list->at[i];
  sd_vec_push(a, list, ((sd_pair_step){.name = sd_arena_strdup(a, name), .op = sd_arena_strdup(a, op)}));
  return &list->at[list->len - 1];
}

static uint64_t constant_bytes(const sd_art *a, const sard_art_step *t) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < t->n_buf; i++) {
    const sard_art_buf *b = &a->bufs[a->lists[t->bufs + i]];
    if (b->kind == SARD_AB_CONST) bytes += (uint64_t)a->dims[b->bytes].value;
  }
  return bytes;
}

// Runs with a session that measures its steps, in place of the model's own.
static sard_status *profile(sd_judge *j, sd_judged *m, const sd_batch *b, bool after, steps *list) {
  sard_session *own = m->session, *s = NULL;
  sard_status *st = sd_model_session(j->c, m->m.model, true, &s);
  m->session = s;
  for (int i = 0; i < RUNS && !st; i++) st = sd_judge_run(j, m, b);
  m->session = own;
  const sd_art *a = &m->m.model->art;
  for (uint32_t i = 0; !st && i < a->n_steps; i++) {
    sd_pair_step *k = step_of(j, list, sd_art_text(a, a->steps[i].name), sd_art_text(a, a->steps[i].op));
    *(after ? &k->ms_after : &k->ms_before) +=
        s->times[i].runs ? (double)s->times[i].ns / (double)s->times[i].runs * 1e-6 : 0;
    uint64_t bytes = constant_bytes(a, &a->steps[i]);
    *(after ? &k->bytes_after : &k->bytes_before) += bytes;
    if (after && a->steps[i].kind == SARD_AS_DISPATCH && (!k->schedule || bytes > k->most))
      k->most = bytes, k->schedule = sd_arena_strdup(j->c->arena, sd_art_text(a, a->kernels[a->steps[i].kernel].schedule));
  }
  sard_session_free(s);
  return st;
}

static int by_loss(const void *a, const void *b) {
  const sd_pair_step *x = a, *y = b;
  double m = x->ms_after - x->ms_before, n = y->ms_after - y->ms_before;
  return (m < n) - (m > n);
}

sard_status *sd_pair_profile(sd_judge *j, sd_pair_steps *out) {
  steps list = {0};
  sd_batch b;
  SD_TRY(sd_data_rewind(j->data));
  sard_status *st = sd_data_next(j->data, j->batch, &b);
  if (!st) st = profile(j, &j->a, &b, false, &list);
  if (!st) st = profile(j, &j->b, &b, true, &list);
  sd_batch_free(&b);
  if (list.len) qsort(list.at, list.len, sizeof *list.at, by_loss);
  out->at = list.at, out->n = list.len;
  return st;
}

// ---- difference ----

static sard_status *compare(sd_judge *j, const sd_batch *b, double *signal, double *noise) {
  sd_sample x = {0}, y = {0};
  sard_status *st = sd_judge_run(j, &j->a, b);
  if (!st) st = sd_judge_run(j, &j->b, b);
  if (!st) st = sd_sample_take(j->a.out[j->output], -1, &x);
  if (!st) st = sd_sample_take(j->b.out[j->output], -1, &y);
  if (!st && x.n != y.n) st = SD_ERR(INTERNAL, "outputs of different sizes");
  for (uint64_t i = 0; !st && i < x.n; i++) {
    double e = x.at[i] - y.at[i];
    if (!isfinite(x.at[i])) continue;
    *signal += x.at[i] * x.at[i], *noise += isfinite(e) ? e * e : x.at[i] * x.at[i];
  }
  sd_free(x.at), sd_free(y.at);
  return st;
}

sard_status *sd_pair_snr(sd_judge *j, double *out) {
  double signal = 0, noise = 0;
  int64_t want = sd_min_i64(SAMPLES, sd_data_count(j->data)), done = 0;
  SD_TRY(sd_data_rewind(j->data));
  while (done < want) {
    sd_batch b;
    sard_status *st = sd_data_next(j->data, sd_min_i64(j->batch, want - done), &b);
    if (!st) st = compare(j, &b, &signal, &noise);
    done += b.count ? b.count : 1;
    sd_batch_free(&b);
    SD_TRY(st);
  }
  *out = sd_decibels(signal, noise);
  return NULL;
}

// ---- metrics ----

void sd_pair_say(sd_judge *j, double max_drop, bool calibrated) {
  char t[4][48];
  sd_interval a = sd_score_interval(&j->a.score), b = sd_score_interval(&j->b.score);
  sd_cli_say(j->c, "%-10s %s to %s, drop %s (95 %%: up to %s), %lld samples%s", j->metric->name,
             sd_metric_text(j->metric, a.value, t[0]), sd_metric_text(j->metric, b.value, t[1]),
             sd_metric_text(j->metric, j->paired.drop.value, t[2]),
             sd_metric_text(j->metric, j->paired.bound, t[3]), (long long)j->b.score.samples,
             calibrated ? " (those of the calibration among them)" : "");
  if (j->metric->share)
    sd_cli_say(j->c, "; worse %lld, better %lld, p = %.3g", (long long)j->paired.worse,
               (long long)j->paired.better, j->paired.p);
  if (!isnan(max_drop) && j->paired.drop.value <= max_drop + 1e-12 && j->paired.bound > max_drop)
    sd_cli_say(j->c, "; the limit is kept, but not proven");
  sd_cli_say(j->c, "\n");
}

static void number(sd_str *s, const char *name, double v) {
  sd_strf(s, ",\"%s\":", name), sd_str_json_number(s, v);
}

void sd_pair_json(sd_judge *j, double max_drop) {
  sd_str *s = &j->c->json;
  const sd_paired *p = &j->paired;
  sd_strf(s, ",\"metric\":\"%s\",\"judged_samples\":%lld,\"worse\":%lld,\"better\":%lld", j->metric->name,
          (long long)p->samples, (long long)p->worse, (long long)p->better);
  number(s, "value_before", j->metric->value(&j->a.score, -1));
  number(s, "value_after", j->metric->value(&j->b.score, -1));
  number(s, "drop", p->drop.value), number(s, "drop_low", p->drop.low), number(s, "drop_high", p->drop.high);
  number(s, "drop_bound", p->bound);
  if (!isnan(max_drop)) number(s, "max_drop", max_drop);
}
