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

typedef struct match {
  const sd_observed *a, *b;
  sd_diff diff;
} match;
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

static const char *key_of(const sd_observed *o, bool by_node) { return by_node ? o->node : o->name; }
static int by_name(const void *a, const void *b) {
  return strcmp((*(const sd_observed *const *)a)->name, (*(const sd_observed *const *)b)->name);
}
static int by_node(const void *a, const void *b) {
  return strcmp((*(const sd_observed *const *)a)->node, (*(const sd_observed *const *)b)->node);
}

// Values of the same name; where a pass took the name of a value, those of nodes of the same name.
static matches find_matches(comparing *k) {
  matches list = {0};
  const sd_observed **sorted[2];
  for (int s = 0; s < 2; s++) {
    sorted[s] = SD_NEW_ARRAY(k->c->arena, const sd_observed *, k->a.n + 1);
    for (int i = 0; i < k->a.n; i++) sorted[s][i] = &k->a.at[i];
    qsort(sorted[s], (size_t)k->a.n, sizeof *sorted[s], s ? by_node : by_name);
  }
  for (int i = 0; i < k->b.n; i++) {
    const sd_observed *b = &k->b.at[i], **found = NULL;
    for (int s = 0; s < 2 && !found; s++)
      if (*key_of(b, s)) found = bsearch(&b, sorted[s], (size_t)k->a.n, sizeof b, s ? by_node : by_name);
    if (found && (*found)->tensor && b->tensor) sd_vec_push(k->c->arena, &list, ((match){.a = *found, .b = b}));
  }
  return list;
}

// The largest magnitude, so that elements near zero may differ by a part of it.
static double largest(sard_tensor *tensor) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(tensor, &d);
  double most = 0;
  sd_dtype t = sd_dtype_part((sd_dtype)d.dtype);
  uint64_t n = sd_dtype_parts((sd_dtype)d.dtype);
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  for (uint64_t i = 0; sd_dtype_is_float(t) && i < n; i++) {
    double x = sd_dtype_get_f64(t, data, i);
    if (x < 0) x = -x;
    if (x > most && x < 1e300) most = x;
  }
  return most;
}

static const char *shown_name(const sd_observed *o) { return *o->name ? o->name : o->node; }

static void json_row(sd_cli *c, const match *m, bool first) {
  sd_strf(&c->json, "%s{\"name\":", first ? "" : ","), sd_str_json(&c->json, shown_name(m->b));
  sd_str_put(&c->json, ",\"op\":"), sd_str_json(&c->json, m->b->op);
  if (m->diff.reason) sd_str_put(&c->json, ",\"reason\":"), sd_str_json(&c->json, m->diff.reason);
  else
    sd_strf(&c->json, ",\"max_abs\":%.9g,\"rel_rms\":%.9g,\"passed\":%s",
            m->diff.max_abs < 1e300 ? m->diff.max_abs : 1e300, m->diff.rel_rms, m->diff.passed ? "true" : "false");
  sd_str_put(&c->json, "}");
}

static bool same_dims(const sard_tensor_desc *x, const sard_tensor_desc *y, bool channels_last) {
  bool same = x->rank == y->rank && x->dtype == y->dtype;
  for (int i = 0; same && i < x->rank; i++) {
    int at = !channels_last || i == 0 ? i : i == x->rank - 1 ? 1 : i + 1;
    same = x->dims[at] == y->dims[i];
  }
  return same;
}

// [N,C,...] to [N,...,C]: the layout that the passes give to convolutions.
static sard_status *to_channels_last(sard_context *ctx, sard_tensor *t, sard_tensor **out) {
  sard_tensor_desc d, e;
  const char *from = sard_tensor_data(t, &d);
  size_t size = (size_t)sd_dtype_bits((sd_dtype)d.dtype) / 8;
  uint64_t space = 1, n = (uint64_t)d.dims[0], channels = (uint64_t)d.dims[1];
  e = d;
  for (int i = 2; i < d.rank; i++) e.dims[i - 1] = d.dims[i], space *= (uint64_t)d.dims[i];
  e.dims[d.rank - 1] = d.dims[1];
  SD_TRY(sard_tensor_new(ctx, &e, out));
  char *to = sard_tensor_data(*out, NULL);
  for (uint64_t i = 0; i < n; i++)
    for (uint64_t s = 0; s < space; s++)
      for (uint64_t ch = 0; ch < channels; ch++, to += size)
        memcpy(to, from + ((i * channels + ch) * space + s) * size, size);
  return NULL;
}

// Compares one pair; *comparable is false where one side holds the value in a layout that the other does not have.
// Where dims fit both as they are and turned (8x8x8), the better of the two counts: a value that is matched by its
// node may be channels last.
static sard_status *compare_pair(comparing *k, match *m, double rtol, double atol, bool *comparable) {
  sard_tensor_desc a, b;
  sard_tensor *turned = NULL;
  sard_tensor_data(m->a->tensor, &a), sard_tensor_data(m->b->tensor, &b);
  bool same = same_dims(&a, &b, false), named = *m->b->name && strcmp(m->a->name, m->b->name) == 0;
  bool last = !named && a.rank > 2 && sd_dtype_bits((sd_dtype)a.dtype) >= 8 && same_dims(&a, &b, true);
  *comparable = same || last || named;
  if (!*comparable) return NULL;
  double slack = atol + rtol * largest(m->a->tensor);
  if (same || named) sd_diff_tensors(k->c, m->b->tensor, m->a->tensor, rtol, slack, &m->diff);
  if (!last || (same && m->diff.passed)) return NULL;
  sd_diff diff;
  SD_TRY(to_channels_last(k->ctx, m->a->tensor, &turned));
  sd_diff_tensors(k->c, m->b->tensor, turned, rtol, slack, &diff);
  sard_tensor_free(turned);
  if (!same || diff.rel_rms < m->diff.rel_rms) m->diff = diff;
  return NULL;
}

static void show_row(sd_cli *c, const match *m, const char *verdict) {
  sd_cli_say(c, "%10.3g %10.3g %10.3g  %-8s %-24.24s %s\n", m->diff.max_abs, m->diff.max_rel, m->diff.rel_rms,
             verdict, m->b->op, shown_name(m->b));
}

static int by_error(const void *a, const void *b) {
  double x = ((const match *)a)->diff.rel_rms, y = ((const match *)b)->diff.rel_rms;
  return (x < y) - (x > y);
}

static void show_table(sd_cli *c, match *at, uint32_t n) {
  bool all = sd_args_given(c, "all");
  uint32_t shown = 0;
  if (!all) qsort(at, n, sizeof *at, by_error);
  sd_cli_say(c, "%10s %10s %10s  %-8s %-24s %s\n", "max abs", "max rel", "rel rms", "", "op", "value");
  for (; shown < n && (all || shown < 20); shown++) show_row(c, &at[shown], at[shown].diff.passed ? "ok" : "DIFFERS");
  if (shown < n) sd_cli_say(c, "... and %u that differ less (--all shows them in order)\n", n - shown);
}

static sard_status *show(comparing *k, matches *list) {
  sd_cli *c = k->c;
  double rtol = 1e-3, atol = 1e-5;
  const match *first = NULL;
  uint32_t other = 0, n = 0;
  SD_TRY(sd_args_number(c, "rtol", 0, 1e30, &rtol));
  SD_TRY(sd_args_number(c, "atol", 0, 1e30, &atol));
  sd_str_put(&c->json, ",\"values\":[");
  for (uint32_t i = 0; i < list->len; i++) {
    match m = list->at[i];
    bool comparable;
    SD_TRY(compare_pair(k, &m, rtol, atol, &comparable));
    if (!comparable) {
      other++;
      continue;
    }
    json_row(c, &m, n == 0);
    list->at[n] = m;
    if (!m.diff.passed && !first) first = &list->at[n];
    n++;
  }
  sd_strf(&c->json, "],\"passed\":%s", first ? "false" : "true");
  if (first) {
    sd_cli_say(c, "first value that differs: '%s' (%s)%s%s\n", shown_name(first->b), first->b->op,
               first->diff.reason ? ": " : "", first->diff.reason ? first->diff.reason : "");
    sd_str_put(&c->json, ",\"first\":"), sd_str_json(&c->json, shown_name(first->b));
  }
  bool bad = first != NULL; // the table is sorted: `first` ends here
  show_table(c, list->at, n);
  sd_cli_say(c, "%u values of the same name compared", n);
  if (other) sd_cli_say(c, ", %u more have another layout in one of the two", other);
  sd_cli_say(c, "\n%s\n", bad ? "FAILED" : "PASSED");
  c->failed |= bad;
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
  SD_TRY_MSG(sd_observe_run(&k->a, k->in.at, k->in.n), "the first model");
  SD_TRY_MSG(sd_observe_run(&k->b, k->in.at, k->in.n), "the second model");
  matches list = find_matches(k);
  if (list.len == 0)
    return sd_status_field(SD_ERR(CHECK, "the two have no value of the same name"), SARD_TEXT_HINT,
                           "values are matched by their ONNX names");
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
