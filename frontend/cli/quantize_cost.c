// Where a quantized model loses time: its steps beside those of the float model, by name.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/quantize.h"
#include "runtime/session.h"

enum { RUNS = 8 };

typedef SD_VEC(sd_quantize_cost) costs;

static sd_quantize_cost *cost_of(sd_quantize *q, costs *list, const char *name, const char *op) {
  for (uint32_t i = 0; i < list->len; i++)
    if (strcmp(list->at[i].name, name) == 0) return &list->at[i];
  sd_vec_push(q->c->arena, list,
              ((sd_quantize_cost){.name = sd_arena_strdup(q->c->arena, name), .op = sd_arena_strdup(q->c->arena, op)}));
  return &list->at[list->len - 1];
}

// Runs with a session that measures its steps, in place of the model's own.
static sard_status *profile(sd_quantize *q, sd_judged *m, const sd_batch *b, bool after, costs *list) {
  sard_session *own = m->session, *s = NULL;
  sard_status *st = sd_model_session(m->m.model, NULL, true, &s);
  m->session = s;
  for (int i = 0; i < RUNS && !st; i++) st = sd_judge_run(&q->judge, m, b);
  m->session = own;
  const sd_art *a = &m->m.model->art;
  for (uint32_t i = 0; !st && i < a->n_steps; i++) {
    sd_quantize_cost *k = cost_of(q, list, sd_art_text(a, a->steps[i].name), sd_art_text(a, a->steps[i].op));
    *(after ? &k->ms_after : &k->ms_before) +=
        s->times[i].runs ? (double)s->times[i].ns / (double)s->times[i].runs * 1e-6 : 0;
  }
  sard_session_free(s);
  return st;
}

static int by_loss(const void *a, const void *b) {
  const sd_quantize_cost *x = a, *y = b;
  double m = x->ms_after - x->ms_before, n = y->ms_after - y->ms_before;
  return (m < n) - (m > n);
}

sard_status *sd_quantize_costs(sd_quantize *q) {
  costs list = {0};
  sd_batch b;
  SD_TRY(sd_data_rewind(q->judge.data));
  sard_status *st = sd_data_next(q->judge.data, q->judge.batch, &b);
  if (!st) st = profile(q, &q->judge.a, &b, false, &list);
  if (!st) st = profile(q, &q->judge.b, &b, true, &list);
  sd_batch_free(&b);
  if (list.len) qsort(list.at, list.len, sizeof *list.at, by_loss);
  q->costs = list.at, q->n_costs = list.len;
  return st;
}
