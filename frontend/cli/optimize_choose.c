// What is asked for, which trials keep it, and which of those is the best.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/optimize.h"

#define NOISE 0.02 // of measured times

static const struct {
  const char *name, *unit; // unit: as limits are written
  bool more;               // is better
} measures[SD_MEASURES] = {[SD_LATENCY] = {"latency", "10ms", false},       [SD_P99] = {"p99", "10ms", false},
                           [SD_THROUGHPUT] = {"throughput", "1000/s", true}, [SD_SIZE] = {"size", "2MB", false},
                           [SD_MEMORY] = {"memory", "2MB", false},          [SD_DROP] = {"drop", "1%", false}};

// ---- words ----

static sard_status *read_number(sd_optimize *q, const char *text, sd_measure m, double *out) {
  static const struct {
    const char *word;
    double factor;
    bool time, bytes;
  } units[] = {{"us", 1e-3, true, false}, {"ms", 1, true, false},         {"s", 1e3, true, false},
               {"B", 1, false, true},     {"kB", 1e3, false, true},       {"KB", 1e3, false, true},
               {"K", 1024, false, true},  {"MB", 1e6, false, true},       {"M", 1048576, false, true},
               {"GB", 1e9, false, true},  {"G", 1073741824, false, true}, {"/s", 1, false, false}};
  char *end;
  double v = strtod(text, &end);
  bool time = m == SD_LATENCY || m == SD_P99, bytes = m == SD_SIZE || m == SD_MEMORY;
  if (m == SD_DROP) {
    *out = NAN; // known once the baseline is
    return sd_judge_drop(q->judge.metric, "limit", text, 1, &v);
  }
  for (size_t i = 0; i < sizeof units / sizeof *units && end != text && v > 0 && v < 1e300; i++)
    if (strcmp(end, units[i].word) == 0 && units[i].time == time && units[i].bytes == bytes)
      return *out = v * units[i].factor, NULL;
  return SD_ERR(USAGE, "--limit: '%s' is no %s such as %s", text, measures[m].name, measures[m].unit);
}

static sard_status *add_limit(sd_optimize *q, const char *text) {
  static const char *const names[] = {"latency", "p99", "throughput", "size", "memory", "drop"};
  sd_limit l = {.text = text};
  size_t n = strcspn(text, "<>");
  for (l.what = 0; l.what < SD_MEASURES; l.what++)
    if (strlen(measures[l.what].name) == n && strncmp(text, measures[l.what].name, n) == 0) break;
  if (n == 3 && strncmp(text, "p50", 3) == 0) l.what = SD_LATENCY;
  if (l.what == SD_MEASURES) {
    const char *word = sd_arena_strndup(q->c->arena, text, n),
               *near = sd_str_nearest(word, names, SD_MEASURES);
    sard_status *st = SD_ERR(
        USAGE, "--limit: '%s' begins with none of latency, p50, p99, throughput, size, memory, drop", text);
    return near ? sd_status_field(st, SARD_TEXT_HINT, "did you mean %s%s?", near, text + n) : st;
  }
  char sign = measures[l.what].more ? '>' : '<';
  if (text[n] != sign)
    return SD_ERR(USAGE, "--limit: '%s' is not of the form %s%c%s", text, measures[l.what].name, sign,
                  measures[l.what].unit);
  SD_TRY(read_number(q, text + n + 1, l.what, &l.most));
  if (l.what == SD_DROP) {
    if (sd_args_given(q->c, "max-drop"))
      return SD_ERR(USAGE, "--limit: '%s' and --max-drop are the same, give one", text);
    q->drop_text = text + n + 1;
    return NULL;
  }
  sd_vec_push(q->c->arena, &q->limits, l);
  return NULL;
}

sard_status *sd_optimize_read_goal(sd_optimize *q) {
  const char *given;
  uint32_t at = 0;
  int by = 0, unused = 0;
  SD_TRY(sd_args_choice(q->c, "goal", &unused));
  SD_TRY(sd_args_choice(q->c, "drop-by", &by));
  q->by_estimate = by == 1;
  for (q->goal = 0; strcmp(sd_args_get(q->c, "goal"), measures[q->goal].name) != 0;) q->goal++;
  while ((given = sd_args_next(q->c, "limit", &at)) != NULL) {
    char *list = sd_arena_strdup(q->c->arena, given), *rest = NULL;
    if (!*list) return SD_ERR(USAGE, "--limit is empty");
    for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
      SD_TRY(add_limit(q, one));
  }
  return NULL;
}

// ---- numbers ----

// The model as it is ran beside each trial: the ratio is surer than times of different minutes.
static double latency(const sd_optimize *q, const sd_trial *t) {
  const sd_trial *first = &q->trials.at[0];
  return t->batch == first->batch ? first->ms50 / t->speed : t->ms50;
}

double sd_optimize_value(const sd_optimize *q, const sd_trial *t, sd_measure m) {
  switch (m) {
  case SD_LATENCY:
    return latency(q, t);
  case SD_P99:
    return t->ms99;
  case SD_THROUGHPUT:
    return latency(q, t) / (double)t->batch;
  case SD_SIZE:
    return (double)t->bytes;
  case SD_MEMORY:
    return (double)t->memory;
  default:
    return t->drop;
  }
}

// How far beyond a limit, as a factor: 1 and less keeps it.
static double excess(const sd_optimize *q, const sd_trial *t, const sd_limit *l) {
  if (l->what == SD_THROUGHPUT) return l->most / t->rate;
  return (l->what == SD_LATENCY ? t->ms50 : sd_optimize_value(q, t, l->what)) / l->most;
}

static const char *beyond(sd_optimize *q, const sd_trial *t, const sd_limit *l) {
  char text[24];
  sd_arena *a = q->c->arena;
  if (l->what == SD_THROUGHPUT) return sd_arena_printf(a, "%.4g/s, not %s", t->rate, l->text);
  if (l->what == SD_SIZE || l->what == SD_MEMORY)
    return sd_arena_printf(a, "%s, not %s", sd_cli_bytes((uint64_t)sd_optimize_value(q, t, l->what), text),
                           l->text);
  return sd_arena_printf(a, "%.4g ms, not %s", l->what == SD_P99 ? t->ms99 : t->ms50, l->text);
}

static const char *too_bad(sd_optimize *q, const sd_trial *t) {
  char x[2][48];
  const sd_metric *m = q->judge.metric;
  sd_metric_text(m, t->drop, x[0]), sd_metric_text(m, t->bound, x[1]);
  if (t->samples)
    return sd_arena_printf(
        q->c->arena, "%s drops by %s over the first %lld samples, too much for the others to make up for",
        m->name, x[0], (long long)t->samples);
  if (t->drop > q->max_drop)
    return sd_arena_printf(q->c->arena, "%s drops by %s, more than %s", m->name, x[0], q->drop_text);
  return sd_arena_printf(q->c->arena, "%s drops by %s, which may be %s: that it is at most %s is not proven",
                         m->name, x[0], x[1], q->drop_text);
}

// ---- the choice ----

static bool within(const sd_optimize *q, double drop) { return drop <= q->max_drop + 1e-12; }

bool sd_optimize_proven(const sd_optimize *q, const sd_trial *t) { return within(q, t->bound); }

bool sd_optimize_keeps(const sd_optimize *q, const sd_trial *t) {
  return !t->samples && within(q, q->by_estimate ? t->drop : t->bound);
}

static bool judge_one(sd_optimize *q, sd_trial *t) {
  if (t->state != SD_TRIAL_MEASURED) return false;
  t->why = t->kept ? NULL : too_bad(q, t);
  for (uint32_t k = 0; k < q->limits.len && !t->why; k++)
    if (excess(q, t, &q->limits.at[k]) > 1) t->why = beyond(q, t, &q->limits.at[k]);
  return t->why == NULL;
}

// x is better in what counts and nowhere worse, beyond noise.
static bool dominates(const sd_optimize *q, const sd_trial *x, const sd_trial *t) {
  static const sd_measure all[] = {SD_LATENCY, SD_THROUGHPUT, SD_SIZE, SD_MEMORY};
  bool better = x->drop < t->drop - 1e-12;
  if (x->drop > t->drop + 1e-12) return false;
  for (int i = 0; i < 4; i++) {
    double a = sd_optimize_value(q, x, all[i]), b = sd_optimize_value(q, t, all[i]);
    if (a > b * (1 + NOISE)) return false;
    better |= a < b * (1 - NOISE);
  }
  return better;
}

// Beyond noise by the goal; within it the one that loses less, then the smaller one. Of equals the first
// stays, which the model as it is is.
static bool is_better(const sd_optimize *q, const sd_trial *x, const sd_trial *t) {
  double a = sd_optimize_value(q, x, q->goal), b = sd_optimize_value(q, t, q->goal);
  if (a < b * (1 - NOISE) || b < a * (1 - NOISE)) return a < b;
  if (fabs(x->drop - t->drop) > 1e-12) return x->drop < t->drop;
  return x->bytes != t->bytes ? x->bytes < t->bytes : x->memory < t->memory;
}

sd_trial *sd_optimize_choose(sd_optimize *q) {
  sd_trial *best = NULL;
  for (uint32_t i = 0; i < q->trials.len; i++) {
    sd_trial *t = &q->trials.at[i];
    t->allowed = judge_one(q, t);
    if (t->allowed && (!best || is_better(q, t, best))) best = t;
    t->front = t->state == SD_TRIAL_MEASURED;
    for (uint32_t k = 0; t->front && k < q->trials.len; k++)
      t->front = q->trials.at[k].state != SD_TRIAL_MEASURED || !dominates(q, &q->trials.at[k], t);
  }
  for (uint32_t i = 0; best && i < q->trials.len; i++) {
    sd_trial *t = &q->trials.at[i];
    double ratio = sd_optimize_value(q, t, q->goal) / sd_optimize_value(q, best, q->goal);
    if (!t->allowed || t == best) continue;
    t->why =
        ratio > 1 + NOISE
            ? sd_arena_printf(q->c->arena, "%s is %.2fx that of the chosen one",
                              q->goal == SD_THROUGHPUT ? "time for a sample" : measures[q->goal].name, ratio)
            : "no better than the chosen one beyond noise, and loses more or is larger";
  }
  return best;
}

sard_status *sd_optimize_nearest(sd_optimize *q) {
  const sd_trial *near = NULL;
  double least = INFINITY;
  for (uint32_t i = 0; i < q->trials.len; i++) {
    const sd_trial *t = &q->trials.at[i];
    double far = 0;
    if (t->state != SD_TRIAL_MEASURED || !t->kept) continue;
    for (uint32_t k = 0; k < q->limits.len; k++) far = fmax(far, excess(q, t, &q->limits.at[k]));
    if (far < least) least = far, near = t;
  }
  sard_status *st =
      SD_ERR(CHECK, "not written: no chain keeps the limits with a drop of at most %s", q->drop_text);
  return near ? sd_status_field(st, SARD_TEXT_HINT, "nearest is '%s': %s", near->name, near->why) : st;
}
