// A chain's files, made by the verbs it consists of, and how good, fast and small what comes out is, beside
// the model as it is.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/optimize.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/base/thread.h"
#include "runtime/collective/split.h"
#include "runtime/model.h"
#include "runtime/session.h"

enum { ROUNDS = 15, LEAST_RUNS = 4, MOST_RUNS = 4000, LEAST_SAMPLES = 2 };
static const double BURST_MS = 15, LONG_MS = 100;

double sd_optimize_left(const sd_optimize *q) {
  return q->budget_s - q->used_s - (double)(sd_now_ns() - q->start_ns) * 1e-9;
}

// Of the kind of file that OUT is.
static uint64_t size_of(const sd_optimize *q, const sd_trial *t) {
  struct stat st;
  uint64_t more = !q->artifact && t->onnx == q->c->operands[0] ? q->external : 0;
  return stat(q->artifact ? t->artifact : t->onnx, &st) == 0 ? (uint64_t)st.st_size + more : 0;
}

// ---- files ----

static const char *title(sd_optimize *q, const char *name) {
  double left = sd_optimize_left(q);
  uint32_t done = 0, all = 0;
  for (uint32_t i = 0; i < q->trials.len; i++) done += q->trials.at[i].state != SD_TRIAL_WAITS, all++;
  return sd_arena_printf(q->c->arena, "[%u/%u] %s, %d:%02d left", done + 1, all, name,
                         (int)(left > 0 ? left / 60 : 0), (int)(left > 0 ? fmod(left, 60) : 0));
}

static sard_status *make(sd_optimize *q, sd_trial *t) {
  sd_command *k;
  int n;
  SD_TRY(sd_optimize_commands(q, t, false, true, &k, &n));
  t->onnx = q->c->operands[0];
  for (int i = 0; i < n; i++) {
    sd_cli inner;
    const char *to = k[i].at[4];
    if (i < n - 1) t->onnx = to;
    else
      t->artifact = to;
    if (sd_files_exists(to)) continue; // two chains begin alike
    sard_status *st = sd_cli_call(q->c, title(q, t->name), k[i].n, k[i].at, &inner);
    sd_str_free(&inner.json);
    if (st) return sd_status_field(st, SARD_TEXT_PASS, "%s", k[i].at[1]);
  }
  return NULL;
}

// As quantize and prune do: the samples of the calibration do not count where enough others are there.
static sard_status *open_data(sd_optimize *q, const sd_cli_model *m) {
  SD_TRY(sd_judge_data(&q->judge, m));
  int64_t all = sd_data_count(q->judge.data), used = sd_max_i64(1, sd_min_i64(256, all / 5));
  q->judge.skip = all - used >= used ? used : 0;
  if (all - q->judge.skip < LEAST_SAMPLES)
    return SD_ERR(USAGE,
                  "'%s' has %lld samples besides those for calibration: at least %d are needed to tell how "
                  "sure a drop is",
                  sd_args_get(q->c, "data"), (long long)(all - q->judge.skip), LEAST_SAMPLES);
  return sd_judge_finite(&q->judge, used);
}

// A trial's artifact in place of j's model.
static sard_status *load(sd_optimize *q, const sd_trial *t, sd_judged *m) {
  const char *path = t->artifact;
  sd_command k = {{(char *)(uintptr_t)q->c->program->name, "bench", (char *)(uintptr_t)path}, 3};
  sd_cli inner;
  const char *device = sd_args_get(q->c, "device"), *given = sd_args_get(q->c, "threads");
  sd_judged_free(m);
  if (t->devices) {
    k.at[k.n++] = "--devices", k.at[k.n++] = sd_arena_strdup(q->c->arena, t->devices);
    k.at[k.n++] = "--split", k.at[k.n++] = sd_arena_strdup(q->c->arena, t->split);
  } else {
    k.at[k.n++] = "--device", k.at[k.n++] = sd_arena_strdup(q->c->arena, device);
  }
  k.at[k.n++] = "--threads";
  k.at[k.n++] = t->threads ? sd_arena_printf(q->c->arena, "%d", (int)t->threads) : sd_arena_strdup(q->c->arena, given);
  SD_TRY(sd_cli_parse_within(q->c, "loading", k.n, k.at, &inner));
  SD_TRY(sd_model_load_in(&inner, q->judge.ctx, path, &m->m));
  if (!q->judge.data) SD_TRY(open_data(q, &m->m));
  return sd_judge_begin(&q->judge, m);
}

// ---- time ----

typedef struct clock_of {
  double ms[MOST_RUNS];
  int n;
} clock_of; // of single runs

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Runs for a burst, at least a few unless they are long; `to` NULL: to warm up.
static sard_status *burst(sd_optimize *q, sd_judged *m, const sd_batch *b, clock_of *to) {
  int64_t t0 = sd_now_ns(), at = t0;
  for (int i = 1; !to || to->n < MOST_RUNS; i++) {
    SD_TRY(sd_judge_run(&q->judge, m, b));
    int64_t now = sd_now_ns();
    double passed = (double)(now - t0) * 1e-6;
    if (to) to->ms[to->n++] = (double)(now - at) * 1e-6;
    at = now;
    if (passed > LONG_MS || (passed > BURST_MS && (!to || i >= LEAST_RUNS))) break;
  }
  return NULL;
}

// Both in turn, so that what others do on the machine meets both alike.
static sard_status *race(sd_optimize *q, const sd_batch *b, sd_judged *other, clock_of *x, clock_of *y) {
  int64_t t0 = sd_now_ns();
  double most = fmax(0.1, fmin(10, sd_optimize_left(q) / 40));
  SD_TRY(burst(q, &q->judge.a, b, NULL));
  if (other) SD_TRY(burst(q, other, b, NULL));
  for (int i = 0; i < ROUNDS && (i < 2 || (double)(sd_now_ns() - t0) * 1e-9 < most); i++) {
    SD_TRY(burst(q, &q->judge.a, b, x));
    if (other) SD_TRY(burst(q, other, b, y));
  }
  return NULL;
}

static double percentile(const clock_of *k, double p) {
  int i = (int)ceil(p * k->n);
  return k->ms[i ? i - 1 : 0];
}

static uint64_t memory_of(const sd_judged *m) {
  uint64_t bytes = m->m.weight_bytes + m->session->memory_size;
  for (int i = 0; i < sd_split_devices(m->session); i++) bytes += sd_split_report_of(m->session, i).memory_bytes;
  return bytes;
}

// `t` is a, the model as it is, or b.
static sard_status *time_it(sd_optimize *q, sd_trial *t, bool itself) {
  sd_judge *j = &q->judge;
  sd_batch b;
  clock_of *x = SD_NEW(q->c->arena, clock_of), *y = SD_NEW(q->c->arena, clock_of);
  SD_TRY(sd_data_rewind(j->data));
  sd_cli_progress(q->c, title(q, sd_arena_printf(q->c->arena, "%s: timing", t->name)));
  sard_status *st = sd_data_next(j->data, t->batch, &b);
  int64_t count = b.count;
  if (!st) st = race(q, &b, itself ? NULL : &j->b, x, y);
  sd_batch_free(&b);
  sd_cli_progress(q->c, NULL);
  SD_TRY(st);
  const clock_of *of = itself ? x : y;
  qsort(x->ms, (size_t)x->n, sizeof *x->ms, by_value), qsort(y->ms, (size_t)y->n, sizeof *y->ms, by_value);
  t->ms50 = percentile(of, 0.5), t->ms99 = percentile(of, 0.99);
  t->batch = count;
  t->speed =
      percentile(x, 0.1) / percentile(of, 0.1); // fast runs are what others on the machine disturb least
  t->rate = (double)count / t->ms50 * 1e3;
  t->memory = memory_of(itself ? &j->a : &j->b);
  return NULL;
}

// ---- all of it ----

static void take_score(sd_optimize *q, sd_trial *t) {
  const sd_judge *j = &q->judge;
  const sd_metric *m = j->metric;
  t->value = m->value(&j->b.score, -1), t->drop = j->paired.drop.value, t->bound = j->paired.bound;
  t->worse = j->paired.worse, t->better = j->paired.better;
  t->samples = j->b.score.samples < sd_data_count(j->data) - j->skip ? j->b.score.samples : 0;
  t->kept = sd_optimize_keeps(q, t);
}

// Settings that find nothing to change give the artifact that the model as it is gives.
static sard_status *check_changed(sd_optimize *q, const sd_trial *t) {
  sd_map x, y;
  if (*t->chain.steps || t->devices) return NULL;
  SD_TRY(sd_file_map(q->trials.at[0].artifact, &x));
  sard_status *st = sd_file_map(t->artifact, &y);
  if (!st) {
    if (x.size == y.size && memcmp(x.data, y.data, x.size) == 0)
      st = SD_ERR(UNSUPPORTED, "it changes nothing in this model");
    sd_file_unmap(&y);
  }
  sd_file_unmap(&x);
  return st;
}

static sard_status *measure(sd_optimize *q, sd_trial *t) {
  SD_TRY(make(q, t));
  SD_TRY(check_changed(q, t));
  double before = sd_peak_memory_begin();
  SD_TRY(load(q, t, &q->judge.b));
  t->bytes = size_of(q, t);
  SD_TRY(time_it(q, t, false)); // before other samples in a run take memory
  t->peak_mb = sd_peak_memory_since(before);
  SD_TRY(sd_judge_all(&q->judge, title(q, sd_arena_printf(q->c->arena, "%s: evaluating", t->name))));
  take_score(q, t);
  t->state = SD_TRIAL_MEASURED;
  return NULL;
}

sard_status *sd_optimize_try(sd_optimize *q, sd_trial *t) {
  double left = sd_optimize_left(q), share = fmax(left / 2, fmin(left, fmax(1, 3 * q->least_s)));
  sd_stop_at(sd_now_ns() + (int64_t)(share * 1e9));
  sard_status *st = measure(q, t);
  sd_stop_at(0);
  sd_judged_free(&q->judge.b);
  int code = sard_status_code(st);
  if (!st || code == SARD_E_NOMEM || (code == SARD_E_CANCELLED && sd_stop_asked())) return st;
  t->state = SD_TRIAL_FAILED;
  t->why = code == SARD_E_CANCELLED
               ? sd_arena_printf(q->c->arena, "it took longer than %.3g s, its share of the budget", share)
               : sd_arena_strdup(q->c->arena, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return NULL;
}

sard_status *sd_optimize_share(sd_optimize *q, const sd_trial *of, const char *split) {
  sd_arena *a = q->c->arena;
  sd_trial t = {.chain = of->chain, .batch = q->batch, .split = split, .devices = sd_args_get(q->c, "devices")};
  t.name = sd_arena_printf(a, "%s, shared by %s", of->chain.name, split);
  // Costs that are measured would cut elsewhere the next time.
  t.chain.settings = sd_arena_printf(a, "%s%s--devices %s --split %s%s", of->chain.settings, *of->chain.settings ? " " : "",
                                     t.devices, split, strcmp(split, "batch") == 0 ? "" : " --costs estimated");
  sd_vec_push(a, &q->trials, t);
  return sd_optimize_try(q, &q->trials.at[q->trials.len - 1]);
}

sard_status *sd_optimize_retime(sd_optimize *q, const sd_trial *of, int64_t threads, int64_t batch) {
  sd_trial t = *of;
  sd_judge *j = &q->judge;
  sard_context *own = j->ctx, *other = NULL;
  sd_arena *a = q->c->arena;
  sard_options *o = sard_options_new();
  if (!o) return SD_ERR(NOMEM, "out of memory");
  t.threads = threads, t.batch = batch;
  t.name = threads
               ? sd_arena_printf(a, "%s, %d thread%s", of->chain.name, (int)threads, threads == 1 ? "" : "s")
               : sd_arena_printf(a, "%s, %lld in a run", of->chain.name, (long long)batch);
  sard_status *st = threads ? sard_options_set(o, "threads", sd_arena_printf(a, "%d", (int)threads)) : NULL;
  if (!st && threads) st = sard_context_new(o, &other);
  sard_options_free(o);
  if (other) j->ctx = other;
  if (!st) st = load(q, &t, &j->b);
  if (!st) st = time_it(q, &t, false);
  sd_judged_free(&j->b);
  sard_context_free(other);
  j->ctx = own;
  if (!st) sd_vec_push(a, &q->trials, t);
  return st;
}

sard_status *sd_optimize_begin(sd_optimize *q) {
  sd_judge *j = &q->judge;
  sd_trial *t = &q->trials.at[0];
  SD_TRY(sd_tools_external(q->c, q->c->operands[0], &q->external));
  SD_TRY(make(q, t));
  double before = sd_peak_memory_begin();
  SD_TRY(load(q, t, &j->a));
  t->bytes = size_of(q, t);
  SD_TRY(time_it(q, t, true));
  t->peak_mb = sd_peak_memory_since(before);
  // Labels that do not fit are found before chains are tried. What compares outputs needs two models: twice
  // the same.
  j->two = !j->metric->labels, j->give_up = INFINITY;
  if (j->two) SD_TRY(load(q, t, &j->b));
  SD_TRY(sd_judge_all(j, title(q, "the model as it is: evaluating")));
  sd_judged_free(&j->b);
  j->two = true;
  t->value = j->metric->value(&j->a.score, -1), t->drop = t->bound = 0, t->kept = true;
  if (!isfinite(t->value))
    return SD_ERR(USAGE, "%s of the model as it is is no number on these samples", j->metric->name);
  t->state = SD_TRIAL_MEASURED, t->speed = 1;
  q->least_s = (double)(sd_now_ns() - q->start_ns) * 1e-9;
  return NULL;
}
