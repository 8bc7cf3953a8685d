// sard compare: two models, or one compiled in two ways, on the same inputs; values are matched by name.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "runtime/base/dtype.h"

typedef struct comparing {
  sd_cli *c;
  sard_context *ctx;
  sd_observer a, b;
  sd_cli_tensors in;
  const char *path_b;
} comparing;

typedef struct match { const sd_observed *a, *b; sd_diff diff; } match;
typedef SD_VEC(match) matches;

static sard_status *open_side(comparing *k, bool second, sd_observer *out) {
  sd_driver_options o;
  sd_cli *c = k->c;
  const char *flag = second ? "b-opt" : "a-opt", *isa = sd_args_get(c, second ? "b-isa" : "a-isa");
  bool two = c->n_operands > 1 || sd_args_given(c, "a-isa") || sd_args_given(c, "b-isa");
  int64_t opt = second || two ? 3 : 0;
  SD_TRY(sd_tools_options(c, &o));
  SD_TRY(sd_args_int(c, flag, 0, 3, &opt));
  o.opt = (int)opt;
  if (isa) o.target = isa;
  return sd_observe_open(c, k->ctx, second ? k->path_b : c->operands[0], &o, out);
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(const sd_observed *const *)a)->name, (*(const sd_observed *const *)b)->name);
}

static matches find_matches(comparing *k) {
  matches list = {0};
  const sd_observed **sorted = SD_NEW_ARRAY(k->c->arena, const sd_observed *, k->a.n + 1);
  for (int i = 0; i < k->a.n; i++) sorted[i] = &k->a.at[i];
  qsort(sorted, (size_t)k->a.n, sizeof *sorted, by_name);
  for (int i = 0; i < k->b.n; i++) {
    const sd_observed *b = &k->b.at[i];
    if (!*b->name) continue;
    const sd_observed **found = bsearch(&b, sorted, (size_t)k->a.n, sizeof *sorted, by_name);
    if (found && (*found)->tensor && b->tensor) sd_vec_push(k->c->arena, &list, ((match){.a = *found, .b = b}));
  }
  return list;
}

// The largest magnitude, so that elements near zero may differ by a part of it.
static double largest(sard_tensor *t) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(t, &d);
  double most = 0;
  uint64_t n = 1;
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  for (uint64_t i = 0; sd_dtype_is_float((sd_dtype)d.dtype) && i < n; i++) {
    double x = sd_dtype_get_f64((sd_dtype)d.dtype, data, i);
    if (x < 0) x = -x;
    if (x > most && x < 1e300) most = x;
  }
  return most;
}

static void json_row(sd_cli *c, const match *m, bool first) {
  sd_strf(&c->json, "%s{\"name\":", first ? "" : ","), sd_str_json(&c->json, m->b->name);
  sd_str_put(&c->json, ",\"op\":"), sd_str_json(&c->json, m->b->op);
  if (m->diff.reason) sd_str_put(&c->json, ",\"reason\":"), sd_str_json(&c->json, m->diff.reason);
  else
    sd_strf(&c->json, ",\"max_abs\":%.9g,\"rel_rms\":%.9g,\"passed\":%s", m->diff.max_abs < 1e300 ? m->diff.max_abs : 1e300, m->diff.rel_rms,
            m->diff.passed ? "true" : "false");
  sd_str_put(&c->json, "}");
}

static bool same_dims(sard_tensor *a, sard_tensor *b) {
  sard_tensor_desc x, y;
  sard_tensor_data(a, &x), sard_tensor_data(b, &y);
  bool same = x.rank == y.rank && x.dtype == y.dtype;
  for (int i = 0; same && i < x.rank; i++) same = x.dims[i] == y.dims[i];
  return same;
}

static void show_row(sd_cli *c, const match *m, const char *verdict) {
  sd_cli_say(c, "%10.3g %10.3g %10.3g  %-8s %-24.24s %s\n", m->diff.max_abs, m->diff.max_rel, m->diff.rel_rms, verdict, m->b->op, m->b->name);
}

static int by_error(const void *a, const void *b) {
  double x = ((const match *)a)->diff.rel_rms, y = ((const match *)b)->diff.rel_rms;
  return (x < y) - (x > y);
}

static sard_status *show(comparing *k, matches *list) {
  sd_cli *c = k->c;
  double rtol = 1e-3, atol = 1e-5;
  const match *first = NULL;
  uint32_t shown = 0, other = 0, n = 0;
  SD_TRY(sd_args_number(c, "rtol", 0, 1e30, &rtol));
  SD_TRY(sd_args_number(c, "atol", 0, 1e30, &atol));
  sd_str_put(&c->json, ",\"values\":[");
  for (uint32_t i = 0; i < list->len; i++) {
    match m = list->at[i];
    // Where one side keeps a value in another layout, the shapes differ: nothing to compare.
    if (!same_dims(m.a->tensor, m.b->tensor) && k->a.module && k->b.module && !sd_value_is_output((sd_value *)m.b->value)) {
      other++;
      continue;
    }
    sd_diff_tensors(c, m.b->tensor, m.a->tensor, rtol, atol + 0.1 * rtol * largest(m.a->tensor), &m.diff);
    json_row(c, &m, n == 0);
    list->at[n] = m;
    if (!m.diff.passed && !first) first = &list->at[n];
    n++;
  }
  sd_strf(&c->json, "],\"passed\":%s", first ? "false" : "true");
  if (first) {
    sd_cli_say(c, "first value that differs: '%s' (%s)%s%s\n", first->b->name, first->b->op, first->diff.reason ? ": " : "", first->diff.reason ? first->diff.reason : "");
    sd_str_put(&c->json, ",\"first\":"), sd_str_json(&c->json, first->b->name);
  }
  bool all = sd_args_given(c, "all");
  if (!all) qsort(list->at, n, sizeof *list->at, by_error);
  sd_cli_say(c, "%10s %10s %10s  %-8s %-24s %s\n", "max abs", "max rel", "rel rms", "", "op", "value");
  for (; shown < n && (all || shown < 20); shown++) show_row(c, &list->at[shown], list->at[shown].diff.passed ? "ok" : "DIFFERS");
  if (shown < n) sd_cli_say(c, "... and %u that differ less (--all shows them in order)\n", n - shown);
  sd_cli_say(c, "%u values of the same name compared", n);
  if (other) sd_cli_say(c, ", %u more have another layout in one of the two", other);
  sd_cli_say(c, "\n%s\n", first ? "FAILED" : "PASSED");
  c->failed |= first != NULL;
  return NULL;
}

static sard_status *steps(comparing *k) {
  sd_cli *c = k->c;
  int64_t threads = 0;
  SD_TRY(sd_args_int(c, "threads", 0, 1024, &threads));
  sard_options *o = sard_options_new();
  if (!o) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = sard_options_set(o, "threads", sd_arena_printf(c->arena, "%d", (int)threads));
  if (!st) st = sard_context_new(o, &k->ctx);
  sard_options_free(o);
  SD_TRY(st);
  SD_TRY(open_side(k, false, &k->a));
  SD_TRY(open_side(k, true, &k->b));
  SD_TRY(sd_inputs_make(c, &k->a.loaded, &k->in));
  SD_TRY_MSG(sd_observe_run(c, &k->a, k->in.at, k->in.n), "the first model");
  SD_TRY_MSG(sd_observe_run(c, &k->b, k->in.at, k->in.n), "the second model");
  matches list = find_matches(k);
  if (list.len == 0)
    return sd_status_field(SD_ERR(CHECK, "the two have no value of the same name"), SARD_TEXT_HINT, "values are matched by their ONNX names");
  return show(k, &list);
}

sard_status *sd_verb_compare(sd_cli *c) {
  comparing k = {.c = c, .path_b = c->operands[c->n_operands > 1]};
  sard_status *st = steps(&k);
  sd_inputs_free(&k.in);
  if (k.a.arena) sd_observe_close(&k.a);
  if (k.b.arena) sd_observe_close(&k.b);
  sard_context_free(k.ctx);
  return st;
}
