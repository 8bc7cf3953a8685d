// sard optimize: tries chains of what the other verbs do to a model, and keeps the best that is allowed.
#include "frontend/cli/optimize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/file.h"
#include "runtime/base/thread.h"
#include "runtime/session.h"

// ---- flags ----

static sard_status *read_budget(sd_optimize *q) {
  const char *text = sd_args_get(q->c, "budget");
  char *end;
  double v = strtod(text, &end), unit = !*end || strcmp(end, "s") == 0 ? 1
                                        : strcmp(end, "m") == 0        ? 60
                                                                       : 3600;
  if (end == text || !(v > 0 && v < 1e6) || (unit == 3600 && strcmp(end, "h") != 0))
    return SD_ERR(USAGE, "--budget: '%s' is no time such as 30s, 10m or 2h", text);
  q->budget_s = v * unit;
  return NULL;
}

static sard_status *read_metric(sd_optimize *q) {
  sd_judge *j = &q->judge;
  const char *given = sd_args_get(q->c, "metric");
  j->limit = INT64_MAX, j->batch = 16, j->ignore = -1;
  SD_TRY(sd_metric_find(given ? given : "cosine", &j->metric));
  return sd_args_int(q->c, "ignore", 0, INT32_MAX, &j->ignore);
}

static sard_status *read_judge(sd_optimize *q) {
  sd_judge *j = &q->judge;
  q->batch = q->goal == SD_THROUGHPUT ? 16 : 1;
  SD_TRY(sd_args_int(q->c, "batch", 1, 1 << 20, &q->batch));
  if (!sd_args_given(q->c, "data"))
    return sd_status_field(SD_ERR(USAGE, "--data is missing: what a chain costs is measured on samples"),
                           SARD_TEXT_HINT, "an .npz, a folder of .npy, of test data sets or of images");
  double unused;
  return sd_judge_drop(j->metric, "max-drop", q->drop_text, 1, &unused);
}

// OUT is made anew by commands that read MODEL.
static sard_status *read_out(sd_optimize *q) {
  SD_TRY(sd_change_flags(q->c, "model", &q->out));
  if (strcmp(q->out, "-") == 0) return SD_ERR(USAGE, "-o -: the model goes to a file, an .onnx or a .sard");
  size_t n = strlen(q->out);
  q->artifact = n > 5 && strcmp(q->out + n - 5, ".sard") == 0;
  return NULL;
}

static sard_status *read_flags(sd_optimize *q) {
  sd_cli *c = q->c;
  const char *config = sd_args_get(c, "config");
  if (config) SD_TRY(sd_args_config(c, config));
  SD_TRY(read_out(q));
  q->drop_text = sd_args_get(c, "max-drop");
  SD_TRY(read_metric(q));
  SD_TRY(sd_optimize_read_goal(q));
  SD_TRY(read_budget(q));
  SD_TRY(read_judge(q));
  if (sd_args_given(c, "devices") && sd_args_given(c, "device"))
    return SD_ERR(USAGE, "--device and --devices: give one of them");
  q->folder = sd_arena_printf(c->arena, "%s.optimize", q->out);
  return sd_files_make_dir(q->folder);
}

// ---- steps ----

static const char *const splits[] = {"batch", "layer", "tensor"};
enum { SPLITS = sizeof splits / sizeof *splits };

static sard_status *try_all(sd_optimize *q) {
  sd_trial *t;
  double later = sd_args_given(q->c, "devices") ? fmin(1.5 * SPLITS * q->least_s, q->budget_s / 3) : 0; // for those
  while ((t = sd_optimize_next(q)) != NULL) {
    if (sd_optimize_left(q) <= q->least_s / 2 + later) return q->spent = true, NULL; // no other one takes much less
    SD_TRY(sd_optimize_try(q, t));
    if (t->state == SD_TRIAL_MEASURED)
      sd_cli_detail(q->c, "%s: %.2fx as fast, drop %.5g (up to %.5g)", t->name, t->speed, t->drop, t->bound);
    else
      sd_cli_detail(q->c, "%s: %s", t->name, t->why);
    SD_TRY(sd_optimize_save(q));
  }
  return NULL;
}

// How the best one runs best: with one thread, which small models like; with more samples in a run.
static sard_status *try_settings(sd_optimize *q) {
  static const int64_t batches[] = {1, 4, 64, 256};
  const sd_trial *best = sd_optimize_choose(q);
  bool speed = q->goal == SD_LATENCY || q->goal == SD_THROUGHPUT,
       fixed = sd_data_fixed_batch(q->judge.data) > 0;
  if (!best || !speed) return NULL;
  sd_trial of = *best; // the list grows
  sd_trial as_it_is = q->trials.at[0];
  for (int i = 0; i < SPLITS && sd_args_given(q->c, "devices") && sd_optimize_left(q) > 0; i++)
    SD_TRY(sd_optimize_share(q, &of, splits[i]));
  if (!sd_args_given(q->c, "threads") && q->judge.a.session->workers > 1 && sd_optimize_left(q) > 0) {
    SD_TRY(sd_optimize_retime(q, &as_it_is, 1, as_it_is.batch)); // so that both are known
    if (*of.chain.steps || *of.chain.settings) SD_TRY(sd_optimize_retime(q, &of, 1, of.batch));
  }
  for (int i = 0; i < 4 && q->goal == SD_THROUGHPUT && !fixed && !sd_args_given(q->c, "batch"); i++)
    if (batches[i] <= sd_data_count(q->judge.data) && sd_optimize_left(q) > 0)
      SD_TRY(sd_optimize_retime(q, &of, 0, batches[i]));
  return NULL;
}

static sard_status *copy(const char *from, const char *to) {
  sd_map map;
  SD_TRY(sd_file_map(from, &map));
  sard_status *st = sd_files_write(to, (const char *)map.data, map.size);
  sd_file_unmap(&map);
  return st;
}

static sard_status *write_out(sd_optimize *q) {
  const sd_trial *t = q->chosen;
  sd_command *k;
  int n;
  if (q->external && !q->artifact && !*t->chain.steps)
    return sd_status_field(SD_ERR(CHECK,
                                  "not written: the best is '%s' as it is, whose weights are in other files",
                                  q->c->operands[0]),
                           SARD_TEXT_HINT, "-o FILE.sard writes an artifact");
  SD_TRY(sd_optimize_commands(q, t, false, true, &k, &n));
  for (int i = 0; i < k[n - 1].n; i++) // the plan that --precision auto came to
    if (strcmp(k[n - 1].at[i], "--plan") == 0) {
      sd_command *shown;
      int m;
      SD_TRY(sd_optimize_commands(q, t, true, true, &shown, &m));
      for (int p = 0; p < shown[m - 1].n; p++)
        if (shown[m - 1].at[p][0] == '@') SD_TRY(copy(k[n - 1].at[i + 1], shown[m - 1].at[p] + 1));
    }
  if (!q->artifact && sd_files_exists(sd_arena_printf(q->c->arena, "%s.data", t->onnx)))
    return sd_status_field(SD_ERR(UNSUPPORTED, "not written: the best is larger than 2 GB"), SARD_TEXT_HINT,
                           "its command lines make it, with the weights in another file; or -o FILE.sard");
  return copy(q->artifact ? t->artifact : t->onnx, q->out);
}

// Shares of few samples: even a chain that changes none of them may drop by more.
static void note_few(sd_optimize *q) {
  int64_t n = q->judge.a.score.samples;
  char text[48];
  if (!q->judge.metric->share || q->by_estimate || sd_paired_provable(n) <= q->max_drop) return;
  sd_cli_note(q->c,
              "%lld samples prove no drop below %s, even where none of them differs: chains that change the "
              "model will hardly "
              "be chosen; more samples, a larger --max-drop, or --drop-by estimate",
              (long long)n, sd_metric_text(q->judge.metric, sd_paired_provable(n), text));
}

static sard_status *search(sd_optimize *q) {
  sd_optimize_list(q);
  SD_TRY(sd_model_context(q->c, &q->judge.ctx));
  SD_TRY(sd_optimize_resume(q)); // first: it may empty the folder
  SD_TRY(sd_optimize_begin(q));
  SD_TRY(sd_judge_drop(q->judge.metric, "max-drop", q->drop_text, q->trials.at[0].value, &q->max_drop));
  q->judge.give_up = q->max_drop;
  note_few(q);
  for (uint32_t i = 1; i < q->trials.len; i++) {
    sd_trial *t = &q->trials.at[i];
    t->kept = t->state == SD_TRIAL_MEASURED && sd_optimize_keeps(q, t);
  }
  SD_TRY(try_all(q));
  return try_settings(q);
}

static sard_status *report(sd_optimize *q) {
  const char *html = sd_args_get(q->c, "html"), *svg = sd_args_get(q->c, "svg");
  sd_optimize_report(q);
  if (html) SD_TRY(sd_optimize_html(q, html));
  if (!svg) return NULL;
  sd_str s = {0};
  sd_optimize_svg(q, &s);
  sard_status *st =
      s.failed ? SD_ERR(NOMEM, "out of memory for the picture") : sd_files_write(svg, s.p, s.len);
  sd_str_free(&s);
  return st;
}

// The report comes in any case where something was measured.
static sard_status *finish(sd_optimize *q, sard_status *st) {
  bool measured = q->trials.len && q->trials.at[0].state == SD_TRIAL_MEASURED;
  q->partial = st != NULL;
  if (measured) {
    sd_trial *best = sd_optimize_choose(q);
    *(st ? &q->so_far : &q->chosen) = best;
    if (!st) st = best ? write_out(q) : sd_optimize_nearest(q);
    sard_status *bad = report(q);
    if (!st) st = bad;
    else
      sard_status_free(bad);
  }
  if (measured &&
      ((q->partial && sd_stop_asked()) || sard_status_code(st) == SARD_E_IO)) // not lost with a full disk
    sd_cli_note(q->c, "the same command goes on where this one ended; results so far are in '%s'", q->folder);
  else
    sd_optimize_clean(q);
  return st;
}

sard_status *sd_verb_optimize(sd_cli *c) {
  sd_optimize q = {.c = c, .judge = {.c = c}, .max_drop = NAN, .start_ns = sd_now_ns()};
  sd_stop_hold(); // for good: an interrupt ends the work, what was found is reported all the same
  sard_status *st = read_flags(&q);
  if (!st) st = finish(&q, search(&q));
  sd_judge_free(&q.judge);
  sard_context_free(q.judge.ctx);
  return st;
}
