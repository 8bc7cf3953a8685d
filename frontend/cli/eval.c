// sard eval: how good a model is on data, and whether it is worse than another one.
#include <math.h>
#include <string.h>

#include "frontend/cli/judge.h"
#include "frontend/cli/tools.h"

static sard_status *open_all(sd_judge *j) {
  const char *baseline = sd_args_get(j->c, "baseline");
  sd_judged *model = baseline ? &j->b : &j->a;
  j->two = baseline != NULL;
  SD_TRY(sd_model_load_in(j->c, j->ctx, j->c->operands[0], &model->m));
  SD_TRY(sd_judge_data(j, &model->m));
  if (baseline) {
    SD_TRY(sd_model_load_in(j->c, j->ctx, baseline, &j->a.m));
    SD_TRY(sd_judge_begin(j, &j->a));
  }
  SD_TRY(sd_judge_begin(j, model));
  SD_TRY(sd_judge_labels(j, model)); // the last one may be wrong: not after hours
  model->seconds = 0;
  return NULL;
}

static void json_interval(sd_cli *c, const char *name, sd_interval v) {
  const double n[3] = {v.value, v.low, v.high};
  const char *const names[3] = {"", "_low", "_high"};
  for (int i = 0; i < 3; i++) {
    sd_strf(&c->json, ",\"%s%s\":", name, names[i]), sd_str_json_number(&c->json, n[i]);
  }
}

static void show_score(sd_judge *j, const char *title, const sd_judged *m) {
  char text[3][48];
  sd_interval v = sd_score_interval(&m->score);
  double rate = m->seconds > 0 ? (double)m->score.samples / m->seconds : 0;
  sd_cli_say(j->c, "%-10s %s %s (95 %%: %s to %s), %lld samples, %.4g samples/s\n", title, j->metric->name,
             sd_metric_text(j->metric, v.value, text[0]), sd_metric_text(j->metric, v.low, text[1]),
             sd_metric_text(j->metric, v.high, text[2]), (long long)m->score.samples, rate);
  json_interval(j->c, "value", v);
  sd_strf(&j->c->json, ",\"samples\":%lld,\"samples_per_s\":%.6g,\"seconds\":%.6g", (long long)m->score.samples, rate,
          m->seconds);
}

// The drop beside what is allowed; without a limit, whether there is one at all.
static sard_status *judge_drop(sd_judge *j) {
  sd_cli *c = j->c;
  const sd_paired *p = &j->paired;
  const char *text = sd_args_get(c, "max-drop");
  double most = 0;
  if (!text) {
    bool proven = p->drop.low > 0 || p->drop.high < 0;
    sd_cli_say(c, "%s\n", proven ? "a difference is proven" : "a difference is not proven with these samples");
    sd_strf(&c->json, ",\"difference_proven\":%s", proven ? "true" : "false");
    return NULL;
  }
  SD_TRY(sd_judge_drop(j->metric, "max-drop", text, j->a.score.metric->value(&j->a.score, -1), &most));
  bool passed = p->drop.value <= most + 1e-12, proven = p->bound <= most;
  sd_cli_say(c, "drop of at most %s: %s%s\n", text, passed ? "PASSED" : "FAILED",
             passed && !proven ? " (not proven: more samples are needed to be 95 % sure)" : "");
  sd_strf(&c->json, ",\"max_drop\":%.9g,\"passed\":%s,\"proven\":%s", most, passed ? "true" : "false",
          proven ? "true" : "false");
  c->failed |= !passed;
  return NULL;
}

static sard_status *show_pair(sd_judge *j) {
  sd_cli *c = j->c;
  const sd_paired *p = &j->paired;
  char text[3][48];
  sd_strf(&c->json, ",\"baseline\":{\"model\":"), sd_str_json(&c->json, sd_args_get(c, "baseline"));
  show_score(j, "baseline", &j->a);
  sd_str_put(&c->json, "}");
  sd_cli_say(c, "%-10s %s (95 %%: %s to %s)", "drop", sd_metric_text(j->metric, p->drop.value, text[0]),
             sd_metric_text(j->metric, p->drop.low, text[1]), sd_metric_text(j->metric, p->drop.high, text[2]));
  json_interval(c, "drop", p->drop);
  sd_strf(&c->json, ",\"drop_bound\":%.9g", isfinite(p->bound) ? p->bound : 1e300);
  if (j->metric->share) {
    sd_cli_say(c, "; right in the baseline only %lld, in the model only %lld, McNemar p = %.3g", (long long)p->worse,
               (long long)p->better, p->p);
    sd_strf(&c->json, ",\"worse\":%lld,\"better\":%lld,\"p\":%.9g", (long long)p->worse, (long long)p->better, p->p);
  }
  sd_cli_say(c, "\n");
  return judge_drop(j);
}

static sard_status *show(sd_judge *j) {
  sd_strf(&j->c->json, ",\"metric\":\"%s\",\"data\":\"%s\",\"peak_rss_mb\":%.3f", j->metric->name,
          sd_data_kind_name(j->data), sd_peak_memory_mb());
  sd_strf(&j->c->json, ",\"wild_inputs\":%lld,\"wild_outputs\":%lld", (long long)j->wild.inputs, (long long)j->wild.outputs);
  show_score(j, "model", j->two ? &j->b : &j->a);
  return j->two ? show_pair(j) : NULL;
}

static sard_status *steps(sd_judge *j) {
  bool automatic = strcmp(sd_args_get(j->c, "precision"), "auto") == 0; // which --max-drop is of, then
  SD_TRY(sd_judge_flags(j));
  if (!j->metric) return SD_ERR(USAGE, "--metric is missing (one of %s)", sd_metric_names(j->c->arena));
  if (sd_args_given(j->c, "max-drop") && !sd_args_given(j->c, "baseline") && !automatic)
    return SD_ERR(USAGE, "--max-drop needs --baseline MODEL");
  SD_TRY(sd_precision_settle(j->c, j->c->operands[0]));
  SD_TRY(sd_model_context(j->c, &j->ctx));
  SD_TRY(open_all(j));
  sard_status *st = sd_judge_all(j, "evaluating");
  bool some = (j->two ? &j->b : &j->a)->score.samples > 0;
  if (st && (sard_status_code(st) != SARD_E_CANCELLED || !some)) return st;
  if (st) sd_cli_note(j->c, "interrupted: the result is that of the samples before");
  sard_status *shown = show(j);
  if (st && shown) sard_status_free(shown);
  return st ? st : shown;
}

sard_status *sd_verb_eval(sd_cli *c) {
  sd_judge j = {.c = c};
  sard_status *st = steps(&j);
  sd_judge_free(&j);
  sard_context_free(j.ctx);
  return st;
}
