// What sard partition --simulate found, as text and JSON.
#include <math.h>

#include "frontend/cli/partition.h"

enum { ROWS = 12 };

const char *sd_partition_split_text(sd_arena *a, sd_scale_split s) {
  sd_str t = {0};
  if (s.tensor > 1) sd_strf(&t, ",tensor:%u", s.tensor);
  if (s.layer > 1) sd_strf(&t, ",layer:%u", s.layer);
  if (s.batch > 1) sd_strf(&t, ",batch:%u", s.batch);
  const char *text = t.p ? sd_arena_strdup(a, t.p + 1) : "one device";
  sd_str_free(&t);
  return text;
}

static double memory_of(const sd_scale_plan *p) {
  return p->memory.weights + p->memory.cache + p->memory.values;
}

// ---- text ----

static void say_model(sd_simulation *k) {
  const sd_decoder *d = &k->decoder;
  double weights = k->one.memory.weights;
  if (k->is_decoder) {
    sd_cli_say(
        k->c,
        "model      %s: %lld layers, hidden %lld, %lld heads (%lld of keys), ffn %lld, vocabulary %lld\n",
        d->name, (long long)d->layers, (long long)d->hidden, (long long)d->heads, (long long)d->kv_heads,
        (long long)d->ffn, (long long)d->vocabulary);
    sd_cli_say(k->c, "           %.4g G parameters of %s\n", weights * 8 / sd_dtype_bits(d->type) * 1e-9,
               sd_dtype_name(d->type));
    sd_cli_say(k->c, "work       %lld sequence%s with a prompt of %lld tokens, %lld in all\n",
               (long long)d->batch, d->batch == 1 ? "" : "s", (long long)d->prompt, (long long)d->context);
    return;
  }
  const sd_scale_phase *f = &k->job.phases[0];
  sd_cli_say(k->c, "model      %s: %u kernels and views, weights %.4g MB, %.4g GFLOP a run\n",
             k->c->operands[0], k->work.nodes, weights * 1e-6, k->one.phases[0].flops * 1e-9);
  for (uint32_t i = 0; i < f->n_sizes; i++)
    sd_cli_say(k->c, "%s%s=%lld%s", i ? " " : "sizes      ", f->sizes[i].name, (long long)f->sizes[i].value,
               i + 1 == f->n_sizes ? "\n" : "");
  if (k->job.batch == 1 && k->module->batch_why && *k->module->batch_why)
    sd_cli_say(k->c, "           no batch split: %s\n", k->module->batch_why);
}

static void say_machine(sd_simulation *k) {
  const sd_machine *m = &k->machine;
  for (uint32_t i = 0; i < m->n_kinds; i++) {
    char t[24];
    sd_cli_say(k->c, "%s %u x %s of %s", i ? "," : "devices   ", m->kinds[i].count, m->kinds[i].kind,
               sd_cli_bytes(m->kinds[i].memory, t));
  }
  for (uint32_t i = 0; i < m->n_levels; i++)
    sd_cli_say(k->c, "; %s joins %u, %.4g GB/s", m->levels[i].name, m->levels[i].devices,
               m->levels[i].bandwidth * 1e-9);
  sd_cli_say(k->c, "\n\n");
}

static void say_head(sd_simulation *k) {
  sd_cli_say(k->c, "%-30s %7s", "split", "devices");
  for (uint32_t f = 0; f < k->job.n_phases; f++) sd_cli_say(k->c, " %9s ms", k->job.phases[f].name);
  sd_cli_say(k->c, " %10s %10s %10s %10s  %s\n", k->is_decoder ? "tokens/s" : "runs/s", "memory", "sent",
             "efficiency", "fits");
}

static void say_plan(sd_simulation *k, const sd_scale_plan *p) {
  const sd_scale_time *last = &p->phases[k->job.n_phases - 1];
  char t[2][24];
  sd_cli_say(k->c, "%-30s %7u", sd_partition_split_text(k->c->arena, p->split), p->devices);
  for (uint32_t f = 0; f < k->job.n_phases; f++) sd_cli_say(k->c, " %12.4g", p->phases[f].seconds * 1e3);
  sd_cli_say(k->c, " %10.4g %10s %10s %8.1f %%  %s\n",
             (k->is_decoder ? (double)k->job.batch : 1) / last->seconds,
             sd_cli_bytes((uint64_t)memory_of(p), t[0]), sd_cli_bytes((uint64_t)last->sent, t[1]),
             100 * last->efficiency, p->fits ? "yes" : "no");
}

static void say_shares(sd_simulation *k, const sd_scale_plan *p) {
  for (uint32_t f = 0; f < k->job.n_phases; f++) {
    const sd_scale_time *t = &p->phases[f];
    sd_cli_say(k->c,
               "           %s: arithmetic %.0f %%, memory %.0f %%, launches %.0f %%, exchanges %.0f %%, "
               "waiting %.0f %% "
               "of the time (%u piece%s)\n",
               k->job.phases[f].name, 100 * t->compute, 100 * t->memory, 100 * t->launch, 100 * t->exchange,
               100 * t->wait, t->pieces, t->pieces == 1 ? "" : "s");
  }
  if (p->whole >= 5e-4)
    sd_cli_say(k->c, "           %.1f %% of the operations cannot be split and are done by each device\n",
               100 * p->whole);
}

static bool is_pure(const sd_scale_split *s) {
  return (s->tensor > 1) + (s->layer > 1) + (s->batch > 1) <= 1;
}

// Why others are not the best: splits of one kind over as many devices as there are, and one device.
static void say_others(sd_simulation *k, const sd_scale_plan *best) {
  for (uint32_t i = 1; i < k->plans.len; i++) {
    const sd_scale_plan *p = &k->plans.at[i];
    const sd_scale_time *t = &p->phases[k->job.n_phases - 1];
    const char *name = sd_partition_split_text(k->c->arena, p->split);
    char need[24];
    if (!is_pure(&p->split) || (p->devices != 1 && p->devices != k->machine.count)) continue;
    if (!p->fits) {
      sd_cli_say(k->c, "           %s does not fit: it needs %s\n", name,
                 sd_cli_bytes((uint64_t)memory_of(p), need));
      continue;
    }
    double worst = fmax(fmax(t->exchange, t->wait), fmax(t->launch, fmax(t->memory, t->compute)));
    const char *what = worst == t->exchange ? "exchanges"
                       : worst == t->wait   ? "devices that wait"
                       : worst == t->launch ? "launches"
                       : worst == t->memory ? "memory"
                                            : "arithmetic";
    sd_cli_say(k->c, "           %s takes %.2f times as long, %.0f %% of it %s\n", name,
               p->seconds / best->seconds, 100 * worst, what);
  }
}

// ---- JSON ----

static void put_time(sd_str *j, const sd_scale_phase *f, const sd_scale_time *t) {
  sd_str_put(j, "{\"name\":"), sd_str_json(j, f->name);
  sd_strf(
      j,
      ",\"seconds\":%.9g,\"pieces\":%u,\"compute\":%.6g,\"memory\":%.6g,\"launch\":%.6g,\"exchange\":%.6g,"
      "\"wait\":%.6g,\"flops\":%.9g,\"bytes\":%.9g,\"sent_bytes\":%.9g,\"efficiency\":%.6g}",
      t->seconds, t->pieces, t->compute, t->memory, t->launch, t->exchange, t->wait, t->flops, t->bytes,
      t->sent, t->efficiency);
}

static void put_plan(sd_simulation *k, const sd_scale_plan *p) {
  sd_str *j = &k->c->json;
  const sd_scale_memory *m = &p->memory;
  sd_strf(
      j,
      "\n{\"tensor\":%u,\"layer\":%u,\"batch\":%u,\"devices\":%u,\"fits\":%s,\"seconds\":%.9g,\"whole\":%.6g",
      p->split.tensor, p->split.layer, p->split.batch, p->devices, p->fits ? "true" : "false", p->seconds,
      p->whole);
  sd_strf(
      j,
      ",\"memory\":{\"stage\":%u,\"weights\":%.0f,\"cache\":%.0f,\"values\":%.0f,\"room\":%llu},\"phases\":[",
      m->stage, m->weights, m->cache, m->values, (unsigned long long)m->room);
  for (uint32_t f = 0; f < k->job.n_phases; f++) {
    if (f) sd_str_put(j, ",");
    put_time(j, &k->job.phases[f], &p->phases[f]);
  }
  sd_str_put(j, "]}");
}

static void put_json(sd_simulation *k) {
  sd_str *j = &k->c->json;
  sd_str_put(j, ",\"model\":"), sd_str_json(j, k->is_decoder ? k->decoder.name : k->c->operands[0]);
  sd_strf(j, ",\"nodes\":%u,\"devices\":%u,\"batch\":%lld,\"sizes\":{", k->work.nodes, k->machine.count,
          (long long)k->job.batch);
  const sd_scale_phase *f = &k->job.phases[k->job.n_phases - 1];
  for (uint32_t i = 0; i < f->n_sizes; i++) {
    if (i) sd_str_put(j, ",");
    sd_str_json(j, f->sizes[i].name), sd_strf(j, ":%lld", (long long)f->sizes[i].value);
  }
  sd_str_put(j, "},\"splits\":[");
  for (uint32_t i = 0; i < k->plans.len; i++) {
    if (i) sd_str_put(j, ",");
    put_plan(k, &k->plans.at[i]);
  }
  sd_str_put(j, "]");
}

sard_status *sd_partition_report(sd_simulation *k) {
  say_model(k);
  say_machine(k);
  say_head(k);
  uint32_t shown = k->c->verbose || k->plans.len < ROWS ? k->plans.len : ROWS;
  for (uint32_t i = 0; i < shown; i++) say_plan(k, &k->plans.at[i]);
  if (shown < k->plans.len) sd_cli_say(k->c, "... %u more (-v shows them)\n", k->plans.len - shown);
  const sd_scale_plan *best = &k->plans.at[0];
  if (best->fits) {
    sd_cli_say(k->c, "\n%-10s %s\n", k->plans.len > 1 ? "fastest" : "split",
               sd_partition_split_text(k->c->arena, best->split));
    say_shares(k, best);
    say_others(k, best);
  }
  put_json(k);
  return NULL;
}
