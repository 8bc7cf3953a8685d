// What pruning did: for people, as JSON, as a page.
#include <math.h>
#include <string.h>

#include "frontend/cli/prune.h"
#include "runtime/model.h"

enum { SHOWN = 30 };

static uint64_t weights_of(const sd_prune_unit *u) { return u->rows * u->k; }

// Sums over the layers that were pruned.
typedef struct totals {
  uint32_t layers, sparse;         // sparse: those that go through what is not 0 only
  uint64_t weights, zeros, packed; // packed: bytes of what is not zero and a bit for each weight
  bool holds;                      // the pattern
  double ms_before, ms_after, ms_predicted;
} totals;

static const sd_pair_step *step_named(const sd_prune *q, const char *name) {
  for (uint32_t i = 0; i < q->profile.n; i++)
    if (strcmp(q->profile.at[i].name, name) == 0) return &q->profile.at[i];
  return NULL;
}

// The step that the layer is: it bears its name, or that of the last node that is part of it.
static const sd_pair_step *step_of(const sd_prune *q, const sd_prune_unit *u) {
  const sd_pair_step *s = step_named(q, u->name);
  for (int i = 0; i < SD_PRUNE_BEHIND && u->behind[i] && !s; i++) s = step_named(q, u->behind[i]);
  return s;
}

// Does it go through what is not 0 only?
static bool runs_sparse(const sd_pair_step *s) { return s && s->schedule && strstr(s->schedule, "sparse"); }

static double ratio(uint64_t part, uint64_t of) { return of ? (double)part / (double)of : 0; }
static uint64_t packed_bytes(uint64_t n, uint64_t zeros) { return (n - zeros) * sizeof(float) + (n + 7) / 8; }

// Whether the zeros of a layer are as the pattern wants them.
static bool holds(const sd_prune *q, uint32_t i) {
  const sd_prune_unit *u = &q->units.at[i];
  if (q->pattern.kind != SD_PATTERN_NM && q->pattern.kind != SD_PATTERN_BLOCK) return true;
  sd_arena *a = sd_arena_scratch(q->c->arena);
  float *w = SD_NEW_ARRAY(a, float, weights_of(u));
  sd_prune_load(u, w);
  bool good = sd_pattern_holds(&q->pattern, w, u->rows, u->k);
  sd_arena_free(a);
  return good;
}

// The part of its node's weights: recurrent layers have two, and one step.
static double part_of(const sd_prune *q, const sd_prune_unit *u) {
  uint64_t all = 0;
  for (uint32_t i = 0; i < q->units.len; i++)
    if (!q->units.at[i].keep && q->units.at[i].at == u->at) all += weights_of(&q->units.at[i]);
  return ratio(weights_of(u), all);
}

static totals add_up(const sd_prune *q) {
  totals t = {.holds = true};
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    if (u->keep) continue;
    const sd_prune_layer *l = &q->layers[i];
    const sd_pair_step *s = step_of(q, u);
    t.layers++, t.weights += weights_of(u), t.zeros += l->zeros;
    t.packed += packed_bytes(weights_of(u), l->zeros);
    t.holds &= l->zeros == l->zeros_before || holds(q, i);
    t.sparse += runs_sparse(s);
    double part = part_of(q, u);
    if (s) t.ms_before += part * s->ms_before, t.ms_after += part * s->ms_after;
    if (s) t.ms_predicted += part * s->ms_before * (1 - ratio(l->zeros, weights_of(u)));
  }
  return t;
}

// The whole run, were products as much faster as there are fewer weights to multiply.
static double predicted(const sd_prune *q, const totals *t) {
  double all = 0;
  for (uint32_t i = 0; i < q->profile.n; i++) all += q->profile.at[i].ms_before;
  return all > 0 ? q->ms_before * (1 - (t->ms_before - t->ms_predicted) / all) : q->ms_before;
}

static const char *criterion(const sd_prune *q) {
  static const char *const names[] = {"magnitude", "wanda", "sparsegpt", "taylor"};
  return names[q->criterion];
}

// ---- for people ----

static void show_summary(sd_prune *q, const totals *t) {
  sd_cli *c = q->c;
  char a[24], b[24];
  sd_cli_say(c, "pruned     %s by %s, %u of %u weights of products%s", q->pattern_text, criterion(q),
             t->layers, q->units.len, q->refit ? ", fitted by least squares" : "");
  if (q->samples && (q->refit || q->criterion != SD_MAGNITUDE))
    sd_cli_say(c, " over %lld samples", (long long)q->samples);
  sd_cli_say(c, "\nparameters %llu, of them %llu in these weights, %llu zero (%.1f %%; %.1f %% of all)%s\n",
             (unsigned long long)q->parameters, (unsigned long long)t->weights, (unsigned long long)t->zeros,
             100 * ratio(t->zeros, t->weights), 100 * ratio(t->zeros, q->parameters),
             t->holds ? "" : "; THE PATTERN IS NOT KEPT");
  if (sd_pattern_removes(q->pattern.kind) && q->packed)
    sd_cli_say(c, "left       %llu parameters\n", (unsigned long long)q->parameters_after);
  sd_prune_states_say(q);
  sd_cli_say(c, "weights    %s, packed %s (what is not zero, and a bit for each)\n",
             sd_cli_bytes(t->weights * sizeof(float), a), sd_cli_bytes(t->packed, b));
  if (q->packed)
    sd_cli_say(c, "file       %s to %s\n", sd_cli_bytes(q->size_before, a), sd_cli_bytes(q->packed->size, b));
  if (!q->timed) return;
  sd_cli_say(c, "memory     constants of %s to %s\n", sd_cli_bytes(q->judge.a.m.model->art.const_size, a),
             sd_cli_bytes(q->judge.b.m.model->art.const_size, b));
  sd_cli_say(c, "time       %.4g ms to %.4g ms a run of %lld samples; %.4g ms if zeros cost nothing\n",
             q->ms_before, q->ms_after, (long long)q->judge.batch, predicted(q, t));
  if (!sd_pattern_removes(q->pattern.kind))
    sd_cli_say(c, "kernels    %u of %u layers go through what is not zero only, where that was estimated to be faster\n", t->sparse, t->layers);
}

static void show_layers(sd_prune *q) {
  uint32_t shown = 0;
  for (uint32_t i = 0; i < q->units.len && shown < SHOWN; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    const sd_prune_layer *l = &q->layers[i];
    const char *lead = shown++ ? "          " : "layers    ";
    if (u->keep) {
      sd_cli_say(q->c, "%s   as it was  %s (%s): %s\n", lead, u->name, u->op, u->why ? u->why : "asked for");
      continue;
    }
    sd_cli_say(q->c, "%s %5.1f %% of %8llu  %s (%s)", lead, 100 * ratio(l->zeros, weights_of(u)),
               (unsigned long long)weights_of(u), u->name, u->op);
    if (!isnan(l->snr)) sd_cli_say(q->c, ", alone %.1f dB", l->snr);
    const sd_pair_step *s = step_of(q, u);
    char a[24], b[24];
    if (s) sd_cli_say(q->c, ", %.3g to %.3g ms, %s to %s%s%s", s->ms_before, s->ms_after, sd_cli_bytes(s->bytes_before, a), sd_cli_bytes(s->bytes_after, b),
                      runs_sparse(s) ? ", " : "", runs_sparse(s) ? s->schedule : "");
    sd_cli_say(q->c, "\n");
  }
  if (q->units.len > shown) sd_cli_say(q->c, "           ... and %u more\n", q->units.len - shown);
}

// ---- JSON ----

static void number(sd_str *s, const char *name, double v) {
  sd_strf(s, ",\"%s\":", name), sd_str_json_number(s, v);
}

static void json_layer(sd_prune *q, sd_str *s, uint32_t i) {
  const sd_prune_unit *u = &q->units.at[i];
  const sd_prune_layer *l = &q->layers[i];
  sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, u->name);
  sd_str_put(s, ",\"op\":"), sd_str_json(s, u->op);
  sd_str_put(s, ",\"weight\":"), sd_str_json(s, u->weight);
  if (u->keep) {
    sd_str_put(s, ",\"kept\":"), sd_str_json(s, u->why ? u->why : "asked for"), sd_str_put(s, "}");
    return;
  }
  const sd_pair_step *step = step_of(q, u);
  uint64_t n = weights_of(u);
  sd_strf(s, ",\"outputs\":%llu,\"inputs\":%llu,\"weights\":%llu,\"zeros\":%llu,\"zeros_before\":%llu",
          (unsigned long long)u->rows, (unsigned long long)u->k, (unsigned long long)n,
          (unsigned long long)l->zeros, (unsigned long long)l->zeros_before);
  number(s, "ratio", ratio(l->zeros, n));
  sd_strf(s, ",\"pattern_kept\":%s,\"bytes\":%llu,\"packed_bytes\":%llu",
          holds(q, i) ? "true" : "false",
          (unsigned long long)(n * sizeof(float)), (unsigned long long)packed_bytes(n, l->zeros));
  if (!isnan(l->snr)) number(s, "alone_snr", l->snr);
  if (step) number(s, "ms_before", step->ms_before), number(s, "ms_after", step->ms_after);
  if (step) {
    number(s, "ms_predicted", step->ms_before * (1 - ratio(l->zeros, n)));
    sd_strf(s, ",\"memory_before\":%llu,\"memory_after\":%llu,\"sparse\":%s,\"schedule\":", (unsigned long long)step->bytes_before,
            (unsigned long long)step->bytes_after, runs_sparse(step) ? "true" : "false");
    sd_str_json(s, step->schedule ? step->schedule : "");
  }
  sd_str_put(s, "}");
}

static void json_all(sd_prune *q, const totals *t) {
  sd_str *s = &q->c->json;
  sd_str_put(s, ",\"pattern\":"), sd_str_json(s, q->pattern_text);
  sd_strf(s,
          ",\"criterion\":\"%s\",\"scope\":\"%s\",\"reconstruct\":\"%s\",\"schedule\":%lld,\"samples\":%lld,"
          "\"parameters\":%llu,\"parameters_after\":%llu,\"weights\":%llu,\"zeros\":%llu",
          criterion(q), q->global ? "global" : "layer", q->refit ? "lsq" : "none", (long long)q->steps,
          (long long)q->samples, (unsigned long long)q->parameters,
          (unsigned long long)(q->packed ? q->parameters_after : 0), (unsigned long long)t->weights,
          (unsigned long long)t->zeros);
  number(s, "ratio", ratio(t->zeros, t->weights)), number(s, "ratio_of_all", ratio(t->zeros, q->parameters));
  sd_strf(s,
          ",\"pattern_kept\":%s,\"size_before\":%llu,\"size_after\":%llu,\"weight_bytes\":%llu,\"packed_"
          "bytes\":%llu,"
          "\"partial\":%s",
          t->holds ? "true" : "false", (unsigned long long)q->size_before,
          (unsigned long long)(q->packed ? q->packed->size : 0), (unsigned long long)(t->weights * sizeof(float)),
          (unsigned long long)t->packed, q->interrupted ? "true" : "false");
  number(s, "peak_rss_mb", sd_peak_memory_mb());
  if (sd_args_given(q->c, "resume")) sd_strf(s, ",\"recalled\":%u", q->recalled);
  if (q->verdict) sd_str_put(s, ",\"refused\":"), sd_str_json(s, q->verdict);
  if (q->timed) {
    number(s, "ms_before", q->ms_before), number(s, "ms_after", q->ms_after);
    number(s, "ms_predicted", predicted(q, t));
    sd_strf(s, ",\"memory_before\":%llu,\"memory_after\":%llu,\"sparse_layers\":%u",
            (unsigned long long)q->judge.a.m.model->art.const_size,
            (unsigned long long)q->judge.b.m.model->art.const_size, t->sparse);
  }
  if (q->judged) sd_pair_json(&q->judge, q->max_drop);
  sd_prune_states_json(q, s);
  sd_str_put(s, ",\"sensitivity\":[");
  for (uint32_t i = 0; i < q->n_worst; i++) {
    sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, q->units.at[q->worst[i]].name);
    number(s, "snr", q->layers[q->worst[i]].snr), sd_str_put(s, "}");
  }
  sd_str_put(s, "],\"layers\":[");
  for (uint32_t i = 0; i < q->units.len; i++) json_layer(q, s, i);
  sd_str_put(s, "]");
}

void sd_prune_report(sd_prune *q) {
  totals t = add_up(q);
  if (q->pruned) show_summary(q, &t);
  if (q->judged) sd_pair_say(&q->judge, q->max_drop, !q->judge.skip && q->samples);
  if (q->pruned) show_layers(q);
  json_all(q, &t);
}

// ---- page ----

static void html_row(sd_prune *q, sd_str *s, uint32_t i) {
  const sd_prune_unit *u = &q->units.at[i];
  const sd_prune_layer *l = &q->layers[i];
  sd_str_put(s, "<tr><td>"), sd_cli_markup(s, u->name, 400), sd_strf(s, "</td><td>%s</td>", u->op);
  if (u->keep) {
    sd_str_put(s, "<td colspan='7'>"), sd_cli_markup(s, u->why ? u->why : "asked for", 400);
    sd_str_put(s, "</td></tr>\n");
    return;
  }
  const sd_pair_step *step = step_of(q, u);
  double part = ratio(l->zeros, weights_of(u));
  sd_strf(
      s,
      "<td>%llu x %llu</td><td>%llu</td><td>%.1f %%</td><td><svg width='120' height='12'><rect width='120' "
      "height='12' fill='#47a'/><rect width='%.1f' height='12' fill='#ddd'/></svg></td><td>",
      (unsigned long long)u->rows, (unsigned long long)u->k, (unsigned long long)l->zeros, 100 * part,
      120 * part);
  if (!isnan(l->snr)) sd_strf(s, "%.1f dB", l->snr);
  sd_str_put(s, "</td><td>");
  if (step) sd_strf(s, "%.4g, %.4g", step->ms_before, step->ms_after);
  sd_str_put(s, "</td><td>");
  if (step && step->schedule) sd_cli_markup(s, step->schedule, 100);
  sd_str_put(s, "</td></tr>\n");
}

sard_status *sd_prune_html(sd_prune *q, const char *path) {
  sd_str s = {0};
  char a[24], b[24], t[3][48];
  totals all = add_up(q);
  sd_str_put(&s, "<!doctype html><meta charset='utf-8'><title>sard prune</title><style>body{font:14px "
                 "sans-serif;margin:2em}"
                 "td,th{padding:2px 8px;text-align:left;border-bottom:1px solid "
                 "#ddd}table{border-collapse:collapse}</style><h1>");
  sd_cli_markup(&s, q->c->operands[0], 400);
  sd_str_put(&s, "</h1><p>"), sd_cli_markup(&s, q->pattern_text, 100);
  sd_strf(&s,
          " by %s, %u of %u weights of products, %lld samples<br>%llu of %llu weights are zero (%.1f %%), of "
          "%llu "
          "parameters",
          criterion(q), all.layers, q->units.len, (long long)q->samples, (unsigned long long)all.zeros,
          (unsigned long long)all.weights, 100 * ratio(all.zeros, all.weights),
          (unsigned long long)q->parameters);
  if (q->packed)
    sd_strf(&s, "<br>file %s, weights packed %s", sd_cli_bytes(q->packed->size, a), sd_cli_bytes(all.packed, b));
  if (q->timed)
    sd_strf(&s, "<br>%.4g ms to %.4g ms a run, %.4g ms if zeros cost nothing", q->ms_before, q->ms_after,
            predicted(q, &all));
  if (q->judged)
    sd_strf(&s, "<br>%s %s to %s, drop %s", q->judge.metric->name,
            sd_metric_text(q->judge.metric, q->judge.metric->value(&q->judge.a.score, -1), t[0]),
            sd_metric_text(q->judge.metric, q->judge.metric->value(&q->judge.b.score, -1), t[1]),
            sd_metric_text(q->judge.metric, q->judge.paired.drop.value, t[2]));
  sd_str_put(&s,
             "</p><table><tr><th>node<th>op<th>outputs x inputs<th>zeros<th>share<th><th>alone<th>ms before, "
             "after<th>kernel</tr>\n");
  for (uint32_t i = 0; i < q->units.len; i++) html_row(q, &s, i);
  sd_str_put(&s, "</table>\n");
  sard_status *st =
      s.failed ? SD_ERR(NOMEM, "out of memory for the report") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}
