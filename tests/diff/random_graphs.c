// Random graphs: the interpreter against compiled code of -O0 and -O3 for every instruction set of this machine.
//
//   test_random_graphs [N [SEED]]     N graphs (default 40), the first of that seed
//   test_random_graphs --show SEED    prints the graph of one seed
// A difference is narrowed to the first value of the graph that differs when it is the only output; the graph is printed.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/codegen.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "sard/sard_compile.h"
#include "tests/diff/graph_gen.h"

#define MOST 64 // inputs, outputs

typedef struct config { const char *isa; int opt; } config;
static config configs[16];
static int n_configs;
static sard_context *ctx;

// ---- inputs ----

typedef struct inputs { sd_evalue at[MOST]; uint32_t n; } inputs;

static void make_inputs(inputs *in, const sd_module *m, int64_t batch, uint64_t seed) {
  gen_graph r = {.seed = seed};
  in->n = m->main->inputs.len;
  for (uint32_t i = 0; i < in->n; i++) {
    const sd_value *v = m->main->inputs.at[i];
    sd_evalue *e = &in->at[i];
    int64_t count = 1;
    *e = (sd_evalue){.dtype = SD_F32, .rank = v->rank};
    for (int d = 0; d < v->rank; d++) {
      if (!sd_dim_is_const(m->dims, v->dims[d], &e->dims[d])) e->dims[d] = batch;
      count *= e->dims[d];
    }
    e->bytes = (uint64_t)count * 4;
    float *p = e->data = sd_alloc_aligned(e->bytes + 64);
    for (int64_t k = 0; k < count; k++) p[k] = (float)((int)gen_random(&r, 33) - 16) * 0.125f;
  }
}

static void drop_inputs(inputs *in) {
  for (uint32_t i = 0; i < in->n; i++) sd_free_aligned(in->at[i].data);
}

// ---- compiled ----

typedef struct outputs { sard_tensor *at[MOST]; int n; } outputs;
static void drop_outputs(outputs *o) {
  for (int i = 0; i < MOST; i++) sard_tensor_free(o->at[i]);
  *o = (outputs){0};
}

static sard_status *wrap_inputs(const inputs *in, sard_tensor **t) {
  for (uint32_t i = 0; i < in->n; i++) {
    sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = in->at[i].rank};
    memcpy(d.dims, in->at[i].dims, sizeof d.dims);
    SD_TRY(sard_tensor_wrap(ctx, &d, in->at[i].data, in->at[i].bytes, NULL, NULL, &t[i]));
  }
  return NULL;
}

static sard_status *run_model(sard_model *m, const inputs *in, outputs *out) {
  sard_session *s = NULL;
  sard_tensor *t[MOST] = {0};
  out->n = sard_model_io_count(m, 1);
  sard_status *st = sard_session_new(m, NULL, &s);
  if (!st) st = wrap_inputs(in, t);
  if (!st) st = sard_session_run(s, t, (int)in->n, out->at, out->n);
  for (int i = 0; i < MOST; i++) sard_tensor_free(t[i]);
  sard_session_free(s);
  return st;
}

static sard_status *compiled(const char *text, const config *c, const inputs *in, outputs *out) {
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  sard_model *m = NULL;
  char level[] = {(char)('0' + c->opt), 0};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "opt", level);
  if (!st) st = sard_options_set(o, "target", c->isa);
  if (!st) st = sard_compile(ctx, &src, o, &m, NULL);
  if (!st) st = run_model(m, in, out);
  sard_options_free(o);
  sard_model_free(m);
  return st;
}

// ---- comparison ----

// What is wrong with output i, NULL when it is right.
static const char *compare(const sd_evalue *want, sard_tensor *got, char *why, size_t room) {
  sard_tensor_desc d = {.size = sizeof d};
  const void *data = sard_tensor_data(got, &d);
  uint64_t count = 1, wrong = 0, at = 0;
  double scale = 0, error = 0;
  if (d.dtype != (int)want->dtype || d.rank != want->rank) return snprintf(why, room, "type or rank"), why;
  for (int k = 0; k < d.rank; k++) {
    if (d.dims[k] != want->dims[k]) return snprintf(why, room, "dim %d is %lld, not %lld", k, (long long)d.dims[k], (long long)want->dims[k]), why;
    count *= (uint64_t)d.dims[k];
  }
  for (uint64_t i = 0; i < count; i++) {
    double w = sd_dtype_get_f64(want->dtype, want->data, i);
    if (isfinite(w)) scale += w * w;
  }
  scale = count ? sqrt(scale / (double)count) : 0;
  for (uint64_t i = 0; i < count; i++) {
    double w = sd_dtype_get_f64(want->dtype, want->data, i), g = sd_dtype_get_f64(want->dtype, data, i);
    if (w == g || (isnan(w) && isnan(g))) continue;
    double tolerance = sd_dtype_is_float(want->dtype) ? 1e-5 + 2e-4 * fabs(w) + 5e-5 * scale : 0;
    if (fabs(w - g) <= tolerance) continue;
    if (!wrong++) at = i, error = fabs(w - g);
  }
  if (!wrong) return NULL;
  snprintf(why, room, "%llu of %llu elements, first at %llu: %.9g instead of %.9g (by %g)", (unsigned long long)wrong, (unsigned long long)count, (unsigned long long)at,
           sd_dtype_get_f64(want->dtype, data, at), sd_dtype_get_f64(want->dtype, want->data, at), error);
  return why;
}

static sard_status *interpreted(const char *text, int64_t batch, uint64_t seed, inputs *in, sd_evalue *out, uint32_t *n) {
  sd_module *m = NULL;
  SD_TRY(sd_module_parse(text, "random", &m));
  make_inputs(in, m, batch, seed);
  *n = m->main->outputs.len;
  sard_status *st = sd_eval_module(m, in->at, in->n, out, *n, NULL, NULL);
  sd_module_free(m);
  return st;
}

// Runs the text; true when all agree. `why` says what differs.
static bool agrees(const char *text, int64_t batch, uint64_t seed, const config *c, char *why, size_t room) {
  inputs in = {0};
  sd_evalue want[MOST] = {0};
  outputs got = {0};
  uint32_t n = 0;
  bool ok = true;
  sard_status *st = interpreted(text, batch, seed, &in, want, &n);
  bool refused = st != NULL; // sizes that do not fit this N: compiled code refuses them, too, where it is no dead code
  if (refused) n = 0;
  sard_status_free(st);
  st = compiled(text, c, &in, &got);
  ok = refused || !st;
  if (!ok) snprintf(why, room, "compiled: %s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  for (uint32_t i = 0; ok && i < n; i++) ok = !compare(&want[i], got.at[i], why, room);
  drop_outputs(&got);
  for (uint32_t i = 0; i < n; i++) sd_eval_free(&want[i]);
  drop_inputs(&in);
  return ok;
}

// The graph without what its output does not need.
static void show(const char *text) {
  sd_module *m = NULL;
  sd_str s = {0};
  sd_pass_options o = {.opt = 0, .bisect = -1};
  jmp_buf oom;
  sard_status *st = sd_module_parse(text, "random", &m);
  if (!st && !setjmp(oom)) {
    sd_arena_set_oom(m->arena, &oom);
    st = sd_passes_run(m, &o, "dce", "dce", NULL, NULL);
    if (!st) st = sd_module_print(m, true, &s);
  }
  printf("%s", s.p ? s.p : text);
  sard_status_free(st);
  sd_str_free(&s);
  sd_module_free(m);
}

// The first value that differs when it is the only output.
static void narrow(const gen_graph *g, uint64_t seed, const config *c) {
  char why[512];
  for (uint32_t i = 0; i < g->n; i++) {
    char *text = gen_text(g, g->at[i].id);
    bool ok = !text || g->at[i].constant || agrees(text, g->batch, seed, c, why, sizeof why);
    if (!ok) printf("first value that differs alone, with N = %lld: %s\n", (long long)g->batch, why), show(text);
    sd_free(text);
    if (!ok) return;
  }
  printf("no value differs alone; N = %lld\n%s", (long long)g->batch, g->text);
}

static bool one_graph(uint64_t seed) {
  gen_graph g;
  char why[512];
  bool ok = true;
  gen_begin(&g, seed);
  gen_grow(&g, 12);
  // all values are outputs (nothing fuses), or only the last one and another
  char *last = gen_text(&g, g.at[g.n - 1].id);
  for (int c = 0; c < n_configs && ok; c++) {
    ok = agrees(last, g.batch, seed, &configs[c], why, sizeof why);
    if (ok && c == (int)(seed % (uint64_t)n_configs)) ok = agrees(g.text, g.batch, seed, &configs[c], why, sizeof why);
    if (ok) continue;
    printf("FAIL graph %llu at -O%d for %s: %s\n", (unsigned long long)seed, configs[c].opt, configs[c].isa, why);
    narrow(&g, seed, &configs[c]);
  }
  sd_free(last);
  gen_end(&g);
  return ok;
}

static void find_configs(void) {
  const sd_isa *isa;
  for (int i = 0; sd_isa_at(i); i++) {
    if (sd_isa_at(i)->dot == 4) continue; // differs in products of bytes only, and these graphs have none
    sard_status *st = sd_isa_host(sd_isa_at(i)->name, &isa);
    if (!st) configs[n_configs++] = (config){isa->name, 3};
    sard_status_free(st);
  }
  configs[n_configs++] = (config){configs[0].isa, 0};
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--show") == 0) {
    gen_graph g;
    gen_begin(&g, strtoull(argv[2], NULL, 10));
    gen_grow(&g, 12);
    printf("// N = %lld\n%s", (long long)g.batch, g.text);
    gen_end(&g);
    return 0;
  }
  long n = argc > 1 ? strtol(argv[1], NULL, 10) : 40, failed = 0;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "2");
  if (!st) st = sard_context_new(o, &ctx);
  sard_options_free(o);
  if (st) return printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE)), 1;
  find_configs();
  for (long i = 0; i < n; i++) failed += !one_graph(seed + (uint64_t)i);
  sard_context_free(ctx);
  printf("%ld passed, %ld failed\n", n - failed, failed);
  return failed != 0;
}
