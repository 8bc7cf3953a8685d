// sard tune: searches register tiles and splits of the grid for the products of a model, on this machine. A trial gives
// every product its next candidate at once and compiles the model; runs of it and of the estimated schedules alternate,
// and each kernel is judged by its own time. What is found at the end has to win as a whole, or is not used.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "frontend/driver/cache.h"
#include "runtime/base/thread.h"
#include "runtime/session.h"

// A compiled form of the model.
typedef struct variant {
  sard_model *model;
  sard_session *session;
  sd_tuning tuning; // its choices, and the kernels of its steps
  double *ns;       // least time of each step
} variant;

typedef struct tuning {
  sd_cli *c;
  sd_cli_model m; // as it is now: with what was tuned before
  sd_cli_tensors in;
  sard_source src;
  sd_driver_options o;
  sd_cache *cache; // NULL: nothing is kept
  const sd_isa *isa;
  sd_tune_state state;
  variant base; // estimated schedules
  SD_VEC(sd_tuned) candidates;
  uint32_t tiles_from; // the candidates from here on split the grid of the best tile so far
  double seconds, before_ms, after_ms;
  uint32_t trials;
  bool used;
  int64_t start;
} tuning;

// ---- variants ----

static void drop(variant *v) {
  sard_session_free(v->session);
  sard_model_free(v->model);
  *v = (variant){0};
}

static sard_status *build(tuning *t, const sd_tuned *at, uint32_t n, variant *v) {
  sd_compiled *k;
  sd_driver_options o = t->o;
  *v = (variant){.tuning = {.at = at, .n = n}};
  o.tuning = &v->tuning;
  SD_TRY(sd_driver_compile(&t->src, &o, &k));
  SD_TRY(sd_model_from_bytes(t->m.ctx, k->pieces, k->n_pieces, sd_compiled_free, k, &v->model));
  sard_status *st = sd_model_session(t->c, v->model, true, &v->session);
  v->ns = SD_NEW_ARRAY(t->c->arena, double, v->model->art.n_steps + 1);
  if (st) drop(v);
  return st;
}

static sard_status *run_once(tuning *t, sard_session *s, double *ms) {
  int n = sard_model_io_count(s->model, 1);
  sard_tensor **out = SD_NEW_ARRAY(t->c->arena, sard_tensor *, n + 1);
  if (s->profile) memset(s->times, 0, sizeof *s->times * s->model->art.n_steps);
  sd_stop_session(s);
  int64_t t0 = sd_now_ns();
  sard_status *st = sard_session_run(s, t->in.at, t->in.n, out, n);
  *ms = (double)(sd_now_ns() - t0) * 1e-6;
  sd_stop_session(NULL);
  for (int i = 0; i < n; i++) sard_tensor_free(out[i]);
  return st;
}

static sard_status *take_times(tuning *t, variant *v, bool first) {
  double ms;
  SD_TRY(run_once(t, v->session, &ms));
  for (uint32_t i = 0; i < v->model->art.n_steps; i++) {
    double ns = (double)v->session->times[i].ns;
    if (first || ns < v->ns[i]) v->ns[i] = ns;
  }
  return NULL;
}

enum { LEAST_ROUNDS = 4, MOST_ROUNDS = 30 };
static const double ROUNDS_MS = 500;

// The two in alternation: least times of their steps.
static sard_status *race(tuning *t, variant *a, variant *b) {
  double ms, other;
  SD_TRY(run_once(t, a->session, &ms)); // memory and code are touched
  SD_TRY(run_once(t, b->session, &other));
  int rounds = (int)fmin(MOST_ROUNDS, fmax(LEAST_ROUNDS, ROUNDS_MS / (ms + other)));
  for (int i = 0; i < rounds; i++) {
    SD_TRY(take_times(t, i % 2 ? b : a, i < 1));
    SD_TRY(take_times(t, i % 2 ? a : b, i < 1));
  }
  return NULL;
}

// ---- kernels ----

static double time_of(const variant *v, uint64_t kernel) {
  double ns = 0;
  for (uint32_t i = 0; i < v->tuning.steps.len; i++)
    if (v->tuning.steps.at[i] == kernel) ns += v->ns[i];
  return ns;
}

static sd_tune_entry *entry_of(tuning *t, uint64_t kernel) {
  for (uint32_t i = 0; i < t->state.entries.len; i++)
    if (t->state.entries.at[i].best.kernel == kernel) return &t->state.entries.at[i];
  return NULL;
}

// Every product of the model gets an entry.
static void add_entries(tuning *t) {
  const sd_art *a = &t->base.model->art;
  for (uint32_t i = 0; i < t->base.tuning.steps.len; i++) {
    uint64_t kernel = t->base.tuning.steps.at[i];
    if (!kernel || entry_of(t, kernel)) continue;
    if (!strstr(sd_art_text(a, a->kernels[a->steps[i].kernel].schedule), "product")) continue;
    sd_vec_push(t->c->arena, &t->state.entries,
                ((sd_tune_entry){.best = {.kernel = kernel}, .used = {.kernel = kernel}, .ratio = 1}));
  }
}

static void add_candidate(tuning *t, int rows, int vectors, int tiles) {
  sd_vec_push(t->c->arena, &t->candidates, ((sd_tuned){0, rows, vectors, tiles}));
}

// Register tiles that fill the registers, the largest of each width first; then splits.
static void add_candidates(tuning *t) {
  enum { LARGEST_ROWS = 14, WIDEST = 6 };
  static const int less[] = {0, 1, 2, 4}, tiles[] = {4, 8, 16, 32, 64};
  for (size_t k = 0; k < sizeof less / sizeof *less; k++)
    for (int v = 1; v <= WIDEST; v++) {
      int most = (t->isa->registers - v - 1) / v, rows = (most < LARGEST_ROWS ? most : LARGEST_ROWS) - less[k];
      if (rows >= 2 || (rows == 1 && k == 0)) add_candidate(t, rows, v, 0);
    }
  t->tiles_from = t->candidates.len;
  for (size_t k = 0; k < sizeof tiles / sizeof *tiles; k++) add_candidate(t, 0, 0, tiles[k]);
}

static const sd_tuned *choices(tuning *t, uint32_t trial, uint32_t *n) {
  sd_tuned *at = SD_NEW_ARRAY(t->c->arena, sd_tuned, t->state.entries.len + 1);
  *n = t->state.entries.len;
  for (uint32_t i = 0; i < *n; i++) {
    const sd_tuned *best = &t->state.entries.at[i].best;
    at[i] = t->candidates.at[trial];
    if (trial >= t->tiles_from) at[i].rows = best->rows, at[i].vectors = best->vectors;
    at[i].kernel = best->kernel;
  }
  return at;
}

// ---- the search ----

static double elapsed(const tuning *t) { return (double)(sd_now_ns() - t->start) * 1e-9; }

static void show_trial(tuning *t) {
  double saved = 0, all = 0;
  for (uint32_t i = 0; i < t->base.model->art.n_steps; i++) all += t->base.ns[i];
  for (uint32_t i = 0; i < t->state.entries.len; i++)
    saved += time_of(&t->base, t->state.entries.at[i].best.kernel) * (1 - t->state.entries.at[i].ratio);
  sd_cli_progress(t->c, sd_arena_printf(t->c->arena, "[%u/%u] %.0f s, estimated gain so far %.1f %% ...", t->state.next,
                                        t->candidates.len, elapsed(t), all > 0 ? 100 * saved / all : 0));
}

static sard_status *try_next(tuning *t) {
  const double WORTH = 0.98; // less is noise
  uint32_t n;
  variant v;
  const sd_tuned *at = choices(t, t->state.next, &n);
  SD_TRY(build(t, at, n, &v));
  sard_status *st = race(t, &t->base, &v);
  for (uint32_t i = 0; !st && i < n; i++) {
    sd_tune_entry *e = &t->state.entries.at[i];
    double base = time_of(&t->base, e->best.kernel), ratio = base > 0 ? time_of(&v, e->best.kernel) / base : 1;
    if (ratio < WORTH * e->ratio) e->best = at[i], e->ratio = ratio;
  }
  drop(&v);
  SD_TRY(st);
  t->state.next++, t->trials++;
  if (t->cache) sd_cache_tuning_write(t->cache, &t->state);
  show_trial(t);
  return NULL;
}

static sard_status *search(tuning *t) {
  SD_TRY(build(t, NULL, 0, &t->base));
  add_entries(t);
  add_candidates(t);
  if (!t->state.entries.len) return SD_ERR(UNSUPPORTED, "the model has no matrix products or convolutions to tune");
  while (t->state.next < t->candidates.len && elapsed(t) < 0.8 * t->seconds) SD_TRY(try_next(t));
  return NULL;
}

// ---- the end: all of it against what there was ----

static uint32_t best_choices(const tuning *t, sd_tuned *at) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->state.entries.len; i++)
    if (t->state.entries.at[i].best.rows || t->state.entries.at[i].best.tiles) at[n++] = t->state.entries.at[i].best;
  return n;
}

// Choices that do not win beside all the others are given up.
static sard_status *confirm(tuning *t, variant *v, bool *changed) {
  *changed = false;
  SD_TRY(race(t, &t->base, v));
  for (uint32_t i = 0; i < t->state.entries.len; i++) {
    sd_tune_entry *e = &t->state.entries.at[i];
    if (!e->best.rows && !e->best.tiles) continue;
    double base = time_of(&t->base, e->best.kernel), now = time_of(v, e->best.kernel);
    if (now < 0.99 * base) continue;
    e->best = (sd_tuned){.kernel = e->best.kernel}, e->ratio = 1, *changed = true;
  }
  return NULL;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Runs of the model as it was and as it would be, in alternation. Better: by a hundredth in the median of their ratios,
// in three of four pairs, which by chance happens once in eighty times at most, and in the least time.
static sard_status *compare(tuning *t, sard_session *was, sard_session *new, bool *better) {
  enum { LEAST = 21, MOST = 201 };
  double ratio[MOST], sum = 0;
  int n = 0, won = 0;
  t->before_ms = t->after_ms = INFINITY;
  for (int i = -2; n < MOST && (n < LEAST || sum < 2000); i++) {
    double a, b;
    bool first = i % 2 == 0;
    SD_TRY(run_once(t, first ? was : new, first ? &a : &b));
    SD_TRY(run_once(t, first ? new : was, first ? &b : &a));
    if (i < 0) continue;
    ratio[n++] = b / a, sum += a + b, won += b < a;
    t->before_ms = fmin(t->before_ms, a), t->after_ms = fmin(t->after_ms, b);
  }
  qsort(ratio, (size_t)n, sizeof *ratio, by_value);
  *better = ratio[n / 2] < 0.99 && 4 * won >= 3 * n && t->after_ms < t->before_ms;
  return NULL;
}

static sard_status *decide(tuning *t, variant *v) {
  sard_session *was = NULL, *new = NULL;
  sard_status *st = sard_session_new(t->m.model, NULL, &was);
  if (!st) st = sard_session_new(v->model, NULL, &new);
  if (!st) st = compare(t, was, new, &t->used);
  sard_session_free(was);
  sard_session_free(new);
  SD_TRY(st);
  for (uint32_t i = 0; t->used && i < t->state.entries.len; i++)
    t->state.entries.at[i].used = t->state.entries.at[i].best;
  if (!t->used) t->after_ms = t->before_ms;
  return NULL;
}

static sard_status *finish(tuning *t, variant *v) {
  sd_tuned *at = SD_NEW_ARRAY(t->c->arena, sd_tuned, t->state.entries.len + 1);
  bool changed = true;
  for (int turn = 0; turn < 2 && changed; turn++) {
    drop(v);
    sd_cli_progress(t->c, "comparing with what there was ...");
    SD_TRY(build(t, at, best_choices(t, at), v));
    SD_TRY(confirm(t, v, &changed));
  }
  if (changed) {
    drop(v);
    SD_TRY(build(t, at, best_choices(t, at), v));
  }
  SD_TRY(decide(t, v));
  if (t->cache) sd_cache_tuning_write(t->cache, &t->state);
  return NULL;
}

// ---- result ----

static const char *tile_text(tuning *t, const sd_tuned *x) {
  if (!x->rows) return x->tiles ? sd_arena_printf(t->c->arena, "%d tiles", x->tiles) : "";
  const char *tile = sd_arena_printf(t->c->arena, "%dx%d", x->rows, x->vectors * t->isa->vector_bytes / 4);
  return x->tiles ? sd_arena_printf(t->c->arena, "%s, %d tiles", tile, x->tiles) : tile;
}

static void report(tuning *t) {
  const sd_art *a = &t->base.model->art;
  sd_cli *c = t->c;
  sd_strf(&c->json,
          ",\"trials\":%u,\"next\":%u,\"of\":%u,\"used\":%s,\"before_ms\":%.6f,\"after_ms\":%.6f,\"kernels\":[",
          t->trials, t->state.next, t->candidates.len, t->used ? "true" : "false", t->before_ms, t->after_ms);
  for (uint32_t i = 0, first = 1; i < t->state.entries.len; i++) {
    const sd_tune_entry *e = &t->state.entries.at[i];
    if (!e->used.rows && !e->used.tiles) continue;
    uint32_t step = 0;
    while (step < t->base.tuning.steps.len && t->base.tuning.steps.at[step] != e->used.kernel) step++;
    if (step == t->base.tuning.steps.len) continue;
    const char *name = sd_art_text(a, a->steps[step].name),
               *was = sd_art_text(a, a->kernels[a->steps[step].kernel].schedule);
    sd_cli_say(c, "%5.2fx  %-20s instead of %-34s %s\n", 1 / e->ratio, tile_text(t, &e->used), was, name);
    sd_strf(&c->json, "%s{\"name\":", first ? "" : ","), sd_str_json(&c->json, name), first = 0;
    sd_str_put(&c->json, ",\"was\":"), sd_str_json(&c->json, was);
    sd_strf(&c->json, ",\"rows\":%d,\"vectors\":%d,\"tiles\":%d,\"ratio\":%.4f}", e->used.rows, e->used.vectors,
            e->used.tiles, e->ratio);
  }
  sd_str_put(&c->json, "]");
  sd_cli_say(c, "%u of %u trials made; ", t->state.next, t->candidates.len);
  if (t->used) sd_cli_say(c, "%.4g ms a run instead of %.4g\n", t->after_ms, t->before_ms);
  else
    sd_cli_say(c, "nothing is faster as a whole: %.4g ms a run as before\n", t->before_ms);
}

// The tuned form is where later starts look for it, and in the file that was asked for.
static sard_status *keep(tuning *t, const variant *v) {
  const char *output = sd_args_get(t->c, "output");
  sd_cli_model again;
  if (t->used && t->cache) {
    sd_cache_free(t->cache);
    t->cache = NULL;
    SD_TRY(sd_model_load_in(t->c, t->m.ctx, t->c->operands[0], &again));
    sard_model_free(again.model);
  }
  if (!output) return NULL;
  sd_stop_hold();
  sard_status *st = sard_model_save(t->used ? v->model : t->m.model, output);
  sd_stop_release();
  return st;
}

static sard_status *open_cache(tuning *t, sard_options *options) {
  SD_TRY(sd_model_cache_options(t->c, options));
  SD_TRY(sd_cache_open(&t->src, options, &t->o, &t->cache));
  if (sd_cache_tuning_read(t->cache, sd_context_threads(t->m.ctx), t->c->arena, &t->state)) return NULL;
  sard_status *st =
      sd_args_get(t->c, "output")
          ? NULL
          : SD_ERR(IO, "there is no place for what is found, as the cache is not used: %s", sd_cache_why(t->cache));
  if (!st) sd_cli_note(t->c, "nothing is kept but the artifact, as the cache is not used: %s", sd_cache_why(t->cache));
  sd_cache_free(t->cache);
  t->cache = NULL;
  return st;
}

static sard_status *prepare(tuning *t) {
  const char *output = sd_args_get(t->c, "output");
  t->src = (sard_source){.size = sizeof t->src, .path = t->c->operands[0]};
  SD_TRY(sd_args_number(t->c, "time", 1, 86400, &t->seconds));
  if (output) SD_TRY(sd_change_out(t->c, output));
  if (output) SD_TRY(sd_files_can_write(output));
  if (sd_files_is_artifact(t->src.path))
    return SD_ERR(USAGE, "'%s' is compiled already: tune needs the model", t->src.path);
  SD_TRY(sd_model_load(t->c, &t->m));
  SD_TRY(sd_inputs_make(t->c, &t->m, &t->in));
  SD_TRY(sd_tools_options(t->c, &t->o));
  t->o.progress.fn = NULL; // trials are the steps here
  SD_TRY(sd_driver_target(t->o.target, &t->isa));
  sard_options *options = sard_options_new();
  if (!options) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = open_cache(t, options);
  sard_options_free(options);
  return st;
}

static sard_status *steps(tuning *t, variant *v) {
  t->start = sd_now_ns();
  SD_TRY(prepare(t));
  sard_status *st = search(t);
  if (!st) st = finish(t, v);
  sd_cli_progress(t->c, NULL);
  SD_TRY(st);
  report(t);
  return keep(t, v);
}

sard_status *sd_verb_tune(sd_cli *c) {
  tuning t = {.c = c, .seconds = 60};
  variant v = {0};
  sard_status *st = steps(&t, &v);
  drop(&v);
  drop(&t.base);
  sd_cache_free(t.cache);
  sd_inputs_free(&t.in);
  sd_model_unload(&t.m);
  return st;
}
