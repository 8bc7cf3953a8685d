// --precision with --data: nodes that overflow are found on samples, and auto takes the fastest
// assignment of types that is measured here and is no worse than allowed.
#include "frontend/driver/precision.h"

#include <math.h>
#include <string.h>

#include "frontend/cli/pair.h"
#include "frontend/cli/tools.h"
#include "runtime/base/alloc.h"

#define GAIN 0.98 // of the time of f32: what is not faster than that is noise

enum { SAMPLES = 64 };

typedef struct trial {
  sd_precision plan;
  const char *text; // of the plan
  double ms, value;
  sd_interval drop;
  bool allowed;
} trial;

typedef struct settling {
  sd_cli *c;
  const char *model;
  sd_judge judge;   // a: the float model, b: a trial
  sd_module *named; // as imported: what nodes there are
  sd_precision calibrated;
  double max_drop;
  double ms; // of f32
  SD_VEC(trial) trials;
} settling;

// ---- ranges ----

static void note_range(sd_arena *a, sd_precision *p, const char *name, sard_tensor *t) {
  sard_tensor_desc d;
  const float *x = sard_tensor_data(t, &d);
  uint64_t n = 1;
  double most, tiny;
  if (d.dtype != SARD_F32 || !name) return;
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  sd_precision_measure(x, n, &most, &tiny);
  for (uint32_t i = 0; i < p->ranges.len; i++) {
    sd_precision_range *r = &p->ranges.at[i];
    if (strcmp(r->name, name) != 0) continue;
    r->most = fmax(r->most, most), r->tiny = fmax(r->tiny, tiny);
    return;
  }
  sd_vec_push(a, &p->ranges, ((sd_precision_range){sd_arena_strdup(a, name), most, tiny}));
}

static sard_status *note_all(sd_judge *j, const sd_judged *m, sd_precision *p) {
  for (int out = 0; out < 2; out++)
    for (int i = 0; i < sard_model_io_count(m->m.model, out); i++) {
      sard_tensor_desc d = {.size = sizeof d};
      SD_TRY(sard_model_io(m->m.model, out, i, &d));
      note_range(j->c->arena, p, d.name, out ? m->out[i] : m->in[i]);
    }
  return NULL;
}

sard_status *sd_precision_calibrate(sd_judge *j, const char *model, sd_precision *out) {
  sd_judged m = {0};
  int64_t want = sd_min_i64(SAMPLES, sd_data_count(j->data));
  j->c->watch = true;
  sard_status *st = sd_model_load_in(j->c, j->ctx, model, &m.m);
  j->c->watch = false;
  if (!st) st = sd_judge_begin(j, &m);
  if (!st) st = sd_data_rewind(j->data);
  for (int64_t done = 0; !st && done < want;) {
    sd_batch b;
    st = sd_data_next(j->data, sd_min_i64(j->batch, want - done), &b);
    if (!st) st = sd_judge_run(j, &m, &b);
    if (!st) st = note_all(j, &m, out);
    done += b.count ? b.count : want;
    sd_batch_free(&b);
  }
  sd_judged_free(&m);
  return st;
}

// The plan with each node that overflows named, so that it needs no samples any more.
static sard_status *fix_plan(settling *w, sd_precision *p) {
  sd_arena *a = w->c->arena;
  sd_driver_options o;
  sd_compiled *done = NULL;
  sard_source src = {.size = sizeof src, .path = w->model};
  w->c->precision = "f32";
  SD_TRY(sd_tools_options(w->c, &o));
  o.precision = p, o.stop_after = "precision";
  SD_TRY(sd_driver_compile(&src, &o, &done));
  const sd_precision_report *r = &done->report.precision;
  for (uint32_t i = 0; i < r->nodes.len; i++) {
    const sd_precision_node *n = &r->nodes.at[i];
    bool known = n->to != SD_F32 || n->by_rule || !*n->name;
    for (uint32_t k = 0; k < p->choices.len; k++) known |= strcmp(p->choices.at[k].name, n->name) == 0;
    if (!known)
      sd_vec_push(a, &p->choices,
                  ((sd_precision_choice){sd_arena_strdup(a, n->name), SD_F32, sd_arena_strdup(a, n->why)}));
  }
  sd_compiled_free(done);
  p->ranges.len = 0;
  return NULL;
}

static sard_status *print_plan(settling *w, const sd_precision *p, const char **out) {
  sd_str s = {0};
  sd_precision_print(p, &s);
  *out = s.failed ? NULL : sd_arena_strdup(w->c->arena, s.p);
  sd_str_free(&s);
  return *out ? NULL : SD_ERR(NOMEM, "out of memory for the plan");
}

// ---- trials ----

static sard_status *load(settling *w, const char *precision, sd_judged *m) {
  w->c->precision = precision;
  SD_TRY(sd_model_load_in(w->c, w->judge.ctx, w->model, &m->m));
  return sd_judge_begin(&w->judge, m);
}

static sard_status *try_plan(settling *w, const sd_precision *p) {
  trial t = {.plan = *p};
  sd_judge *j = &w->judge;
  sd_judged_free(&j->b);
  SD_TRY(print_plan(w, p, &t.text));
  SD_TRY(load(w, t.text, &j->b));
  SD_TRY(sd_judge_all(j, sd_dtype_name(p->to)));
  double ms;
  SD_TRY(sd_pair_time(j, &ms, &t.ms));
  w->ms = w->ms > 0 ? fmin(w->ms, ms) : ms;
  t.value = j->metric->value(&j->b.score, -1), t.drop = j->paired.drop;
  if (w->trials.len == 0)
    SD_TRY(sd_judge_drop(j->metric, "max-drop",
                         sd_args_get(w->c, "max-drop") ? sd_args_get(w->c, "max-drop") : "0.5%",
                         j->metric->value(&j->a.score, -1), &w->max_drop));
  t.allowed = t.drop.value <= w->max_drop + 1e-12;
  sd_vec_push(w->c->arena, &w->trials, t);
  return NULL;
}

// The same without the nodes whose kernels are slower than those of f32. *some: there are such and others.
static sard_status *without_slow(settling *w, sd_precision *p, bool *some) {
  uint32_t slow = 0;
  sd_pair_steps steps;
  SD_TRY(sd_pair_profile(&w->judge, &steps));
  for (uint32_t i = 0; i < steps.n; i++) {
    const sd_pair_step *k = &steps.at[i];
    if (!*k->name || !(k->ms_after > k->ms_before) || k->ms_before == 0) continue;
    const char *why = sd_arena_printf(w->c->arena, "its kernel takes %.4g ms instead of %.4g ms", k->ms_after,
                                      k->ms_before);
    sd_precision alone = {.to = p->to};
    sd_vec_push(w->c->arena, &alone.choices, ((sd_precision_choice){k->name, SD_F32, why}));
    sard_status *st = sd_precision_check(&alone, w->named);
    if (!st) sd_vec_push(w->c->arena, &p->choices, alone.choices.at[0]), slow++;
    sard_status_free(st); // a step that is no node of the model
  }
  *some = slow > 0;
  return NULL;
}

static sard_status *search(settling *w) {
  static const sd_dtype types[] = {SD_BF16, SD_F16};
  SD_TRY(load(w, "f32", &w->judge.a));
  w->judge.two = true;
  for (int i = 0; i < 2; i++) {
    sd_precision p = {.to = types[i]};
    bool some = false;
    for (uint32_t k = 0; types[i] == SD_F16 && k < w->calibrated.ranges.len; k++)
      sd_vec_push(w->c->arena, &p.ranges, w->calibrated.ranges.at[k]);
    SD_TRY(fix_plan(w, &p));
    SD_TRY(try_plan(w, &p));
    SD_TRY(without_slow(w, &p, &some));
    if (some) SD_TRY(try_plan(w, &p));
  }
  return NULL;
}

static const trial *best(const settling *w) {
  const trial *t = NULL;
  for (uint32_t i = 0; i < w->trials.len; i++) {
    const trial *x = &w->trials.at[i];
    if (x->allowed && x->ms < w->ms * GAIN && (!t || x->ms < t->ms)) t = x;
  }
  return t;
}

// ---- results ----

static void show(settling *w, const trial *chosen) {
  const sd_judge *j = &w->judge;
  sd_cli *c = w->c;
  char t[2][48];
  sd_cli_say(c, "measured     f32  %.4g ms a run, %s %s\n", w->ms, j->metric->name,
             sd_metric_text(j->metric, j->metric->value(&j->a.score, -1), t[0]));
  sd_strf(&c->json, ",\"auto\":{\"f32_ms\":%.6g,\"trials\":[", w->ms);
  for (uint32_t i = 0; i < w->trials.len; i++) {
    const trial *x = &w->trials.at[i];
    sd_cli_say(c, "             %-4s %.4g ms a run, %s %s, drop %s, %u nodes kept f32%s\n",
               sd_dtype_name(x->plan.to), x->ms, j->metric->name, sd_metric_text(j->metric, x->value, t[0]),
               sd_metric_text(j->metric, x->drop.value, t[1]), x->plan.choices.len,
               x->allowed ? "" : ": more than --max-drop");
    sd_strf(&c->json,
            "%s{\"precision\":\"%s\",\"ms\":%.6g,\"nodes_f32\":%u,\"allowed\":%s,\"value\":", i ? "," : "",
            sd_dtype_name(x->plan.to), x->ms, x->plan.choices.len, x->allowed ? "true" : "false");
    sd_str_json_number(&c->json, x->value), sd_str_put(&c->json, ",\"drop\":");
    sd_str_json_number(&c->json, x->drop.value), sd_str_put(&c->json, "}");
  }
  sd_strf(&c->json, "],\"chosen\":\"%s\"}", chosen ? sd_dtype_name(chosen->plan.to) : "f32");
  if (chosen)
    sd_cli_say(c, "chosen       %s: %.2fx as fast as f32\n", sd_dtype_name(chosen->plan.to),
               w->ms / chosen->ms);
  else
    sd_cli_say(c, "chosen       f32: no other type is allowed and faster on this machine\n");
}

static sard_status *settle(settling *w, const char *asked) {
  sd_cli *c = w->c;
  sd_judge *j = &w->judge;
  bool automatic = strcmp(asked, "auto") == 0, tf32;
  const char *plan = sd_args_get(c, "plan");
  const sd_precision *given = NULL;
  SD_TRY(sd_judge_flags(j));
  if (automatic && !j->metric)
    return SD_ERR(USAGE, "--precision auto needs --metric: it has to know what is lost");
  if (!automatic) SD_TRY(sd_precision_read(c->arena, asked, &tf32, &given));
  if (plan) SD_TRY(sd_files_can_write(plan));
  SD_TRY(sd_model_context(c, &j->ctx));
  c->precision = "f32";
  sd_driver_options o;
  sard_source src = {.size = sizeof src, .path = w->model};
  SD_TRY(sd_tools_options(c, &o));
  SD_TRY(sd_driver_load(&src, &o, &w->named));
  sd_cli_model m = {0};
  SD_TRY(sd_model_load_in(c, j->ctx, w->model, &m));
  sard_status *st = sd_judge_data(j, &m);
  sard_model_free(m.model);
  SD_TRY(st);
  SD_TRY(sd_precision_calibrate(j, w->model, &w->calibrated));
  sd_precision p = {.to = SD_F32};
  if (automatic) {
    SD_TRY(search(w));
    const trial *t = best(w);
    show(w, t);
    if (t) p = t->plan;
  } else if (given) {
    p = *given;
    if (p.to == SD_F16) p.ranges.at = w->calibrated.ranges.at, p.ranges.len = w->calibrated.ranges.len;
    SD_TRY(fix_plan(w, &p));
  }
  SD_TRY(print_plan(w, &p, &c->precision));
  return plan ? sd_files_write(plan, c->precision, strlen(c->precision)) : NULL;
}

sard_status *sd_precision_settle(sd_cli *c, const char *model) {
  const char *asked = sd_args_get(c, "precision");
  bool data = sd_args_given(c, "data"), automatic = asked && strcmp(asked, "auto") == 0;
  bool judges = strcmp(c->verb->name, "eval") == 0; // its data are for that, too
  if (!asked || (!automatic && (!data || judges)))
    return sd_args_given(c, "plan") ? SD_ERR(USAGE, "--plan needs --precision and --data") : NULL;
  if (!data) return SD_ERR(USAGE, "--precision auto needs --data and --metric: it measures on samples");
  if (!model || sd_files_is_artifact(model)) return SD_ERR(USAGE, "--precision with --data needs a MODEL");
  settling w = {.c = c, .model = model, .judge = {.c = c}};
  sard_status *st = settle(&w, asked);
  sd_judge_free(&w.judge);
  sd_module_free(w.named);
  sard_context_free(w.judge.ctx);
  return st;
}
