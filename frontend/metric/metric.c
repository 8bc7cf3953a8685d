// The table of metrics, and sums over samples.
#include "frontend/metric/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"

static const sd_metric metrics[] = {
#define SD_METRIC(name, labels, share, higher, unit, add, value, what)                                                 \
  {#name, what, labels, share, higher, SD_METRIC_##unit, sd_metric_##add, sd_metric_##value},
#include "frontend/metric/metric.def"
#undef SD_METRIC
};
enum { METRICS = sizeof metrics / sizeof *metrics };

static void list_names(sd_str *s) {
  for (uint32_t i = 0; i < METRICS; i++) sd_strf(s, "%s%s", i ? ", " : "", metrics[i].name);
}

const char *sd_metric_names(sd_arena *a) {
  sd_str s = {0};
  list_names(&s);
  return sd_arena_keep(a, sd_str_take(&s));
}

sard_status *sd_metric_find(const char *name, const sd_metric **out) {
  sd_str known = {0};
  const char *names[METRICS];
  for (uint32_t i = 0; i < METRICS; i++) {
    if (strcmp(metrics[i].name, name) == 0) return *out = &metrics[i], NULL;
    names[i] = metrics[i].name;
  }
  list_names(&known);
  const char *near = sd_str_nearest(name, names, METRICS);
  sard_status *st = SD_ERR(USAGE, "unknown metric '%s' (known: %s)", name, known.p ? known.p : "");
  sd_str_free(&known);
  return near ? sd_status_field(st, SARD_TEXT_HINT, "did you mean %s?", near) : st;
}

const char *sd_metric_text(const sd_metric *m, double v, char out[48]) {
  if (m->unit == SD_METRIC_PERCENT) snprintf(out, 48, "%.2f %%", v * 100);
  else
    snprintf(out, 48, "%.5g%s", v, m->unit == SD_METRIC_DECIBEL ? " dB" : "");
  return out;
}

// ---- sums ----

sard_status *sd_metric_short_of_memory(void) { return SD_ERR(NOMEM, "out of memory for the metric"); }

void sd_score_init(sd_score *s, const sd_metric *m) { *s = (sd_score){.metric = m}; }

double *sd_score_sums(sd_score *s, uint32_t n) {
  for (int b = 0; n > s->n_sums && b < SD_SCORE_BLOCKS; b++) {
    double *more = sd_realloc(s->sums[b], n * sizeof *more);
    if (!more) return NULL; // the blocks before have more room than n_sums says
    memset(more + s->n_sums, 0, (n - s->n_sums) * sizeof *more);
    s->sums[b] = more;
  }
  if (n > s->n_sums) s->n_sums = n;
  return s->sums[s->block];
}

double sd_score_sum(const sd_score *s, uint32_t k, int without) {
  double sum = 0;
  for (int b = 0; k < s->n_sums && b < SD_SCORE_BLOCKS; b++)
    if (b != without) sum += s->sums[b][k];
  return sum;
}

sard_status *sd_score_list(sd_score *s, double score, int32_t group, bool right) {
  if (s->n_list == s->room) {
    uint64_t room = s->room ? s->room * 2 : 1024;
    sd_score_entry *more = sd_realloc(s->list, room * sizeof *more);
    if (!more) return sd_metric_short_of_memory();
    s->list = more, s->room = room;
  }
  s->list[s->n_list++] = (sd_score_entry){score, group, right, s->block};
  return NULL;
}

sard_status *sd_score_add(sd_score *s, const sd_metric_case *c) {
  s->block = (int)(s->samples % SD_SCORE_BLOCKS), s->right = false;
  SD_TRY(s->metric->add(c, s));
  s->samples++;
  if (!s->metric->share) return NULL;
  double *sums = sd_score_sums(s, 2);
  if (!sums) return sd_metric_short_of_memory();
  sums[0] += s->right, sums[1] += 1;
  return NULL;
}

sard_status *sd_score_copy(const sd_score *from, sd_score *out) {
  *out = *from;
  memset(out->sums, 0, sizeof out->sums), out->list = NULL, out->room = from->n_list;
  bool good = true;
  for (int b = 0; good && from->n_sums && b < SD_SCORE_BLOCKS; b++) {
    good = (out->sums[b] = sd_malloc(from->n_sums * sizeof *out->sums[b])) != NULL;
    if (good) memcpy(out->sums[b], from->sums[b], from->n_sums * sizeof *out->sums[b]);
  }
  if (good && from->n_list) good = (out->list = sd_malloc(from->n_list * sizeof *out->list)) != NULL;
  if (good && from->n_list) memcpy(out->list, from->list, from->n_list * sizeof *out->list);
  if (good) return NULL;
  sd_score_free(out);
  return sd_metric_short_of_memory();
}

void sd_score_free(sd_score *s) {
  for (int b = 0; b < SD_SCORE_BLOCKS; b++) sd_free(s->sums[b]);
  sd_free(s->list);
  *s = (sd_score){0};
}
