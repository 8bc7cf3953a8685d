// What was tried and chosen: for people, as JSON, as a page.
#include <math.h>
#include <string.h>

#include "frontend/cli/optimize.h"
#include "runtime/base/thread.h"

static const char *const goals[] = {
    [SD_LATENCY] = "latency", [SD_THROUGHPUT] = "throughput", [SD_SIZE] = "size", [SD_MEMORY] = "memory"};

static uint32_t count(const sd_optimize *q, sd_trial_state s) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < q->trials.len; i++) n += q->trials.at[i].state == s;
  return n;
}

static double ratio(uint64_t a, uint64_t b) { return (double)a / (double)(b ? b : 1); }

static const char *drop_text(const sd_optimize *q, const sd_trial *t, char out[112]) {
  char x[2][48];
  const sd_metric *m = q->judge.metric;
  snprintf(out, 112, "%s (%s)", sd_metric_text(m, t->drop, x[0]), sd_metric_text(m, t->bound, x[1]));
  return out;
}

// Why a chain was not tried.
static const char *waits(const sd_optimize *q, const sd_trial *t) {
  const sd_chain *k = &t->chain;
  for (uint32_t i = 0; k->after && i < q->trials.len; i++) {
    const sd_trial *x = &q->trials.at[i];
    if (strcmp(x->name, k->after) != 0) continue;
    bool due = x->state == SD_TRIAL_MEASURED && x->kept == (k->when == SD_CHAIN_KEPT);
    if (!due)
      return sd_arena_printf(q->c->arena, "not tried: it is for models where '%s' %s", k->after,
                             k->when == SD_CHAIN_KEPT ? "keeps the drop" : "loses too much");
  }
  return q->partial ? "not tried: interrupted" : "not tried: the budget was over";
}

static const char *reason(const sd_optimize *q, const sd_trial *t) {
  if (t == q->chosen) return "chosen";
  if (t->state == SD_TRIAL_WAITS) return waits(q, t);
  return t->why ? t->why : "not chosen";
}

// ---- commands ----

// One a line.
static void list_commands(sd_optimize *q, const sd_trial *t, sd_str *s) {
  sd_command *k, check;
  int n = 0;
  sard_status *st = sd_optimize_commands(q, t, true, q->artifact || *t->chain.settings, &k, &n);
  if (!st && !*t->chain.steps && !q->artifact) {
    const sd_command as_it_is = {{"cp", (char *)(uintptr_t)q->c->operands[0], (char *)(uintptr_t)q->out}, 3};
    sd_strf(s, "%s\n", sd_optimize_shell(q, &as_it_is));
  }
  for (int i = 0; !st && i < n; i++) sd_strf(s, "%s\n", sd_optimize_shell(q, &k[i]));
  if (!st) st = sd_optimize_check(q, t, &check);
  if (!st) sd_strf(s, "%s\n", sd_optimize_shell(q, &check));
  sard_status_free(st);
}

// ---- for people ----

static void show_table(sd_optimize *q) {
  sd_cli *c = q->c;
  char drop[112], b[2][24];
  sd_cli_say(c, "  %-32s %-20s %9s %9s %11s %7s %9s %9s %9s\n", "chain", "drop (95 %: up to)", "p50 ms",
             "p99 ms", "samples/s", "speed", "size", "memory", "peak MB");
  for (uint32_t i = 0; i < q->trials.len; i++) {
    const sd_trial *t = &q->trials.at[i];
    if (t->state != SD_TRIAL_MEASURED) continue;
    sd_cli_say(c, "%c %-32s %-20s %9.4g %9.4g %11.5g %6.2fx %9s %9s %9.4g\n",
               t == q->chosen ? '>'
               : t->front     ? '*'
                              : ' ',
               t->name, drop_text(q, t, drop), t->ms50, t->ms99, t->rate, t->speed,
               sd_cli_bytes(t->bytes, b[0]), sd_cli_bytes(t->memory, b[1]), t->peak_mb);
  }
  sd_cli_say(c, "(> chosen, * no other one is better in all of them)\n");
}

static void show_chosen(sd_optimize *q) {
  sd_cli *c = q->c;
  const sd_trial *t = q->chosen, *first = &q->trials.at[0];
  char x[2][48];
  sd_str s = {0};
  sd_cli_say(c, "chosen     %s: of those that drop by at most %s%s the best by %s\n", t->name, q->drop_text,
             q->limits.len ? " and keep the limits" : "", goals[q->goal]);
  sd_cli_say(c, "           %s %s to %s, %.2fx as fast, size %.2f, memory %.2f of what it was\n",
             q->judge.metric->name, sd_metric_text(q->judge.metric, first->value, x[0]),
             sd_metric_text(q->judge.metric, t->value, x[1]), t->speed, ratio(t->bytes, first->bytes),
             ratio(t->memory, first->memory));
  if (!sd_optimize_proven(q, t))
    sd_cli_say(c, "           not proven: on %lld samples the drop is %s, and may be %s\n",
               (long long)q->judge.a.score.samples, sd_metric_text(q->judge.metric, t->drop, x[0]),
               sd_metric_text(q->judge.metric, t->bound, x[1]));
  if (t->threads) sd_cli_say(c, "run with   --threads %lld\n", (long long)t->threads);
  if (t->devices) sd_cli_say(c, "run with   --devices %s --split %s\n", t->devices, t->split);
  if (t->batch != first->batch) sd_cli_say(c, "run with   %lld samples in a run\n", (long long)t->batch);
  list_commands(q, t, &s);
  sd_cli_say(c, "the same again:\n%s", s.p ? s.p : "");
  sd_str_free(&s);
}

static void show_others(sd_optimize *q) {
  bool first = true;
  for (uint32_t i = 0; i < q->trials.len; i++) {
    const sd_trial *t = &q->trials.at[i];
    if (t == q->chosen) continue;
    sd_cli_say(q->c, "%-10s %s: %s\n", first ? "others" : "", t->name, reason(q, t));
    first = false;
  }
}

// ---- JSON ----

static void number(sd_str *s, const char *name, double v) {
  sd_strf(s, ",\"%s\":", name), sd_str_json_number(s, v);
}

static void json_trial(sd_optimize *q, sd_str *s, const sd_trial *t) {
  static const char *const states[] = {"not tried", "measured", "failed"};
  sd_str_put(s, "{\"name\":"), sd_str_json(s, t->name);
  sd_strf(s, ",\"state\":\"%s\",\"reason\":", states[t->state]), sd_str_json(s, reason(q, t));
  if (t->state == SD_TRIAL_MEASURED) {
    sd_strf(s, ",\"kept\":%s,\"allowed\":%s,\"front\":%s,\"batch\":%lld", t->kept ? "true" : "false",
            t->allowed ? "true" : "false", t->front ? "true" : "false", (long long)t->batch);
    if (t->devices) sd_strf(s, ",\"devices\":\"%s\",\"split\":\"%s\"", t->devices, t->split);
    if (t->threads) sd_strf(s, ",\"threads\":%lld", (long long)t->threads);
    number(s, "value", t->value), number(s, "drop", t->drop), number(s, "drop_bound", fmin(t->bound, 1e300));
    sd_strf(s, ",\"worse\":%lld,\"better\":%lld", (long long)t->worse, (long long)t->better);
    number(s, "p50_ms", t->ms50), number(s, "p99_ms", t->ms99), number(s, "speed", t->speed);
    number(s, "samples_per_s", t->rate);
    sd_strf(s, ",\"bytes\":%llu,\"memory_bytes\":%llu", (unsigned long long)t->bytes,
            (unsigned long long)t->memory);
    number(s, "peak_mb", t->peak_mb);
    if (t->samples) sd_strf(s, ",\"given_up_after\":%lld", (long long)t->samples);
  }
  sd_str_put(s, "}");
}

static void json_all(sd_optimize *q) {
  sd_str *s = &q->c->json, list = {0};
  sd_strf(s,
          ",\"goal\":\"%s\",\"metric\":\"%s\",\"judged_samples\":%lld,\"partial\":%s,\"budget_spent\":%s,"
          "\"resumed\":%u",
          goals[q->goal], q->judge.metric->name, (long long)q->judge.a.score.samples,
          q->partial ? "true" : "false", q->spent ? "true" : "false", q->resumed);
  number(s, "max_drop", q->max_drop),
      number(s, "seconds", q->used_s + (double)(sd_now_ns() - q->start_ns) * 1e-9);
  sd_strf(s, ",\"peak_rss_mb\":%.3f,\"chosen\":", sd_peak_memory_mb());
  sd_str_json(s, q->chosen ? q->chosen->name : NULL);
  if (q->chosen) sd_strf(s, ",\"proven\":%s", sd_optimize_proven(q, q->chosen) ? "true" : "false");
  if (q->so_far) sd_str_put(s, ",\"best_so_far\":"), sd_str_json(s, q->so_far->name);
  sd_str_put(s, ",\"commands\":[");
  if (q->chosen || q->so_far) list_commands(q, q->chosen ? q->chosen : q->so_far, &list);
  char *rest = NULL, *line = list.p ? strtok_r(list.p, "\n", &rest) : NULL;
  for (int i = 0; line; line = strtok_r(NULL, "\n", &rest), i++)
    sd_str_put(s, i ? "," : ""), sd_str_json(s, line);
  sd_str_free(&list);
  sd_str_put(s, "],\"trials\":[");
  for (uint32_t i = 0; i < q->trials.len; i++)
    sd_str_put(s, i ? "," : ""), json_trial(q, s, &q->trials.at[i]);
  sd_str_put(s, "]");
}

void sd_optimize_report(sd_optimize *q) {
  char x[48];
  sd_cli_say(q->c,
             "measured   %u chains in %.0f s, %u failed, %u not tried%s; %s %s over %lld samples as it is\n",
             count(q, SD_TRIAL_MEASURED) - 1, q->used_s + (double)(sd_now_ns() - q->start_ns) * 1e-9,
             count(q, SD_TRIAL_FAILED), count(q, SD_TRIAL_WAITS), q->partial ? " (interrupted)" : "",
             q->judge.metric->name, sd_metric_text(q->judge.metric, q->trials.at[0].value, x),
             (long long)q->judge.a.score.samples);
  show_table(q);
  if (q->chosen) show_chosen(q);
  if (q->so_far) sd_cli_say(q->c, "best so far %s\n", q->so_far->name);
  show_others(q);
  json_all(q);
}

// ---- page ----

static void html_row(sd_optimize *q, sd_str *s, const sd_trial *t) {
  char drop[112], b[2][24];
  sd_strf(s, "<tr%s><td>", t == q->chosen ? " style='background:#dfd'" : "");
  sd_cli_markup(s, t->name, 400);
  if (t->state == SD_TRIAL_MEASURED) {
    sd_strf(s, "<td>%s<td>%.4g<td>%.4g<td>%.5g<td>%.2f<td>%s<td>%s<td>%.4g<td>%s<td>", drop_text(q, t, drop),
            t->ms50, t->ms99, t->rate, t->speed, sd_cli_bytes(t->bytes, b[0]), sd_cli_bytes(t->memory, b[1]),
            t->peak_mb, t->front ? "yes" : "");
  } else {
    sd_str_put(s, "<td><td><td><td><td><td><td><td><td><td>");
  }
  sd_cli_markup(s, reason(q, t), 400);
  sd_str_put(s, "</tr>\n");
}

sard_status *sd_optimize_html(sd_optimize *q, const char *path) {
  sd_str s = {0}, list = {0};
  sd_str_put(
      &s,
      "<!doctype html><meta charset='utf-8'><title>sard optimize</title><style>body{font:14px sans-serif;"
      "margin:2em}td,th{padding:2px 8px;text-align:left;border-bottom:1px solid #ddd}table{border-collapse:"
      "collapse}pre{background:#eee;padding:1em;white-space:pre-wrap}</style><h1>");
  sd_cli_markup(&s, q->c->operands[0], 400);
  sd_strf(&s, "</h1><p>goal %s, drop of %s at most ", goals[q->goal], q->judge.metric->name);
  sd_cli_markup(&s, q->drop_text, 40);
  sd_strf(&s, ", %lld samples</p>\n", (long long)q->judge.a.score.samples);
  sd_optimize_svg(q, &s);
  sd_str_put(
      &s,
      "<table><tr><th>chain<th>drop (95 %: up to)<th>p50 ms<th>p99 ms<th>samples/s<th>speed<th>size<th>memory"
      "<th>peak MB<th>front<th>why</tr>\n");
  for (uint32_t i = 0; i < q->trials.len; i++) html_row(q, &s, &q->trials.at[i]);
  sd_str_put(&s, "</table>\n");
  if (q->chosen) {
    list_commands(q, q->chosen, &list);
    sd_str_put(&s, "<h2>The same again</h2><pre>"), sd_cli_markup(&s, list.p ? list.p : "", 1 << 20);
    sd_str_put(&s, "</pre>\n");
  }
  sd_str_free(&list);
  sard_status *st =
      s.failed ? SD_ERR(NOMEM, "out of memory for the report") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}
