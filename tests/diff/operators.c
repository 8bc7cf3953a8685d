// Every row of the operator table on random legal nodes: the interpreter against compiled code at -O0 to -O3 for every
// instruction set of this machine, with 1 and 2 threads, all tensors between guards.
//
//   test_operators [N [SEED]]          N nodes of every row (default 2)
//   test_operators --row ROW [N [SEED]] one row alone, with what was refused
//   test_operators --list              rows and whether they have a generator
// Many nodes make one model, as compiling it costs less than many models; a failing one is run again node by node.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "frontend/driver/driver.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "runtime/model.h"
#include "sard/sard_compile.h"
#include "tests/diff/guard.h"
#include "tests/diff/op_gen.h"

enum { PACK = 20, TRIES = 12, MOST_ELEMENTS = 20000 };

typedef struct config { const char *isa; int opt; } config;
static config configs[32];
static int n_configs;
static sard_context *contexts[2]; // of 1 and 2 threads
static bool verbose;

// One node with its inputs and what the interpreter gives.
typedef struct node {
  op_case c; // numbered from 0
  guard in[OP_MOST];
  sd_evalue want[OP_MOST];
} node;

// Rows that no generator is for, with the test that has them.
static const struct { const char *row, *where; } elsewhere[] = {
    {"If", "tests/unit/flow_*.c"}, {"Loop", "tests/unit/flow_*.c"}, {"Scan", "tests/unit/flow_*.c"},
    {"ImageDecoder", "tests/unit/image.c"}, {"ai.onnx.preview.training.Gradient", "tests/unit/grad.c"},
    {"com.microsoft.GreedySearch", "tests/unit/search.c"}, {"com.microsoft.BeamSearch", "tests/unit/search.c"},
    {"OptionalHasElement", "tests/onnx"}, {"OptionalGetElement", "tests/onnx"},
    {"ai.onnx.ml.CategoryMapper", "one side is text: tests/onnx"}};

// Sequences, optionals, maps and strings have no random contents here.
static bool other_values(const sd_operand *o, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (o[i].cls == 'O' || o[i].cls == 'S') return true;
  return false;
}

static const char *where_else(const sd_op *op) {
  for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
    if (!strcmp(elsewhere[i].row, op->name)) return elsewhere[i].where;
  if (other_values(op->ins, op->n_in) || other_values(op->outs, op->n_out)) return "tests/onnx, tests/cli/values.sh";
  return strncmp(op->name, "sard.", 5) == 0 ? "passes make it, no model contains it" : NULL;
}

// ---- text ----

static char *text_of(const op_case *c, uint32_t n) {
  sd_str s = {0};
  bool first = true;
  sd_str_put(&s, "module opset=24\n");
  for (uint32_t i = 0; i < n; i++)
    if (*c[i].symbol) sd_strf(&s, "symbol %s\n", c[i].symbol);
  sd_str_put(&s, "graph \"main\" (");
  for (uint32_t i = 0; i < n; i++)
    if (c[i].n_in) sd_strf(&s, "%s%s", first ? "" : ", ", c[i].inputs.p), first = false;
  sd_str_put(&s, ") {\n");
  for (uint32_t i = 0; i < n; i++) sd_str_put(&s, c[i].body.p ? c[i].body.p : "");
  sd_str_put(&s, "  return ");
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t k = 0; k < c[i].n_out; k++) sd_strf(&s, "%s%%%u", i || k ? ", " : "", c[i].out[k]);
  sd_str_put(&s, "\n}\n");
  return sd_str_take(&s);
}

// The nodes once more, numbered one after another.
static char *pack_text(const node *x, uint32_t n) {
  op_case *c = sd_calloc(n, sizeof *c);
  uint32_t next = 0;
  for (uint32_t i = 0; i < n; i++) {
    (void)op_case_make(&c[i], x[i].c.op, x[i].c.seed, next);
    next = c[i].next;
  }
  char *text = text_of(c, n);
  for (uint32_t i = 0; i < n; i++) op_case_free(&c[i]);
  sd_free(c);
  return text;
}

// ---- the interpreter ----

static sard_status *rewritten(sd_module *m) {
  sd_pass_options o = {.opt = 0, .bisect = -1};
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "no memory");
  sd_arena_set_oom(m->arena, &oom);
  return sd_passes_run(m, &o, "rewrite", "rewrite", NULL, NULL);
}

static uint64_t count_of(int rank, const int64_t *dims) {
  uint64_t n = 1;
  for (int i = 0; i < rank; i++) n *= (uint64_t)dims[i];
  return n;
}

static bool too_large(const sd_module *m) {
  for (uint32_t i = 0; i < m->main->outputs.len; i++) {
    const sd_value *v = m->main->outputs.at[i];
    int64_t n = 1, d;
    for (int k = 0; k < v->rank; k++) n *= sd_dim_is_const(m->dims, v->dims[k], &d) ? d : 7;
    if (n > MOST_ELEMENTS) return true;
  }
  return false;
}

static uint64_t alignment(sd_dtype t) {
  int bits = sd_dtype_bits(t);
  return bits <= 8 ? 1 : bits >= 64 ? 8 : (uint64_t)bits / 8;
}

static sard_status *make_inputs(node *x) {
  for (uint32_t i = 0; i < x->c.n_in; i++) {
    const op_input *in = &x->c.in[i];
    uint64_t count = count_of(in->rank, in->dims), bytes;
    if (count > MOST_ELEMENTS || !sd_dtype_bytes(in->dtype, count, &bytes)) return SD_ERR(USAGE, "an input is too large");
    x->in[i] = guard_new(bytes, alignment(in->dtype));
    if (!x->in[i].data) return SD_ERR(NOMEM, "no memory");
    op_fill_data(in, count, x->in[i].data);
    guard_lock(&x->in[i]);
  }
  return NULL;
}

static sard_status *interpret(node *x, const char *text) {
  sd_module *m = NULL;
  sd_evalue in[OP_MOST];
  SD_TRY(sd_module_parse(text, x->c.op->name, &m));
  sard_status *st = sd_module_verify(m);
  if (!st && too_large(m)) st = SD_ERR(USAGE, "the outputs are too large");
  if (!st) st = make_inputs(x);
  for (uint32_t i = 0; i < x->c.n_in; i++) {
    in[i] = (sd_evalue){.dtype = x->c.in[i].dtype, .rank = x->c.in[i].rank, .data = x->in[i].data, .bytes = x->in[i].bytes};
    memcpy(in[i].dims, x->c.in[i].dims, sizeof in[i].dims);
  }
  if (!st) st = rewritten(m);
  if (!st) st = sd_eval_module(m, in, x->c.n_in, x->want, x->c.n_out, NULL, NULL);
  sd_module_free(m);
  return st;
}

static void drop(node *x) {
  for (uint32_t i = 0; i < x->c.n_in; i++) guard_free(&x->in[i]);
  for (uint32_t i = 0; i < x->c.n_out; i++) sd_eval_free(&x->want[i]);
  op_case_free(&x->c);
  memset(x, 0, sizeof *x);
}

// ---- compiled ----

static sard_status *wrap(sard_context *ctx, sd_dtype t, int rank, const int64_t *dims, guard *g, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)t, .rank = rank};
  memcpy(d.dims, dims, (size_t)rank * sizeof *dims);
  return sard_tensor_wrap(ctx, &d, g->data, g->bytes, NULL, NULL, out);
}

typedef struct run { // what one run is given and gives
  sard_tensor *in[PACK * OP_MOST], *out[PACK * OP_MOST];
  guard got[PACK * OP_MOST];
  int n_in, n_out;
} run;

static sard_status *bind(run *r, sard_context *ctx, node *x, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < x[i].c.n_in; k++)
      SD_TRY(wrap(ctx, x[i].c.in[k].dtype, x[i].c.in[k].rank, x[i].c.in[k].dims, &x[i].in[k], &r->in[r->n_in++]));
    for (uint32_t k = 0; k < x[i].c.n_out; k++) {
      const sd_evalue *w = &x[i].want[k];
      guard *g = &r->got[r->n_out];
      *g = guard_new(w->bytes, alignment(w->dtype));
      if (!g->data) return SD_ERR(NOMEM, "no memory");
      SD_TRY(wrap(ctx, w->dtype, w->rank, w->dims, g, &r->out[r->n_out++]));
    }
  }
  return NULL;
}

static sard_status *run_once(run *r, sard_context *ctx, const sd_piece *pieces, size_t n_pieces, node *x, uint32_t n) {
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_status *st = sd_model_from_bytes(ctx, pieces, n_pieces, NULL, NULL, &m);
  if (!st) st = bind(r, ctx, x, n);
  if (!st) st = sard_session_new(m, NULL, &s);
  if (!st) st = sard_session_run(s, r->in, r->n_in, r->out, r->n_out);
  sard_session_free(s);
  sard_model_free(m);
  return st;
}

static void drop_run(run *r) {
  if (!r) return;
  for (int i = 0; i < r->n_in; i++) sard_tensor_free(r->in[i]);
  for (int i = 0; i < r->n_out; i++) sard_tensor_free(r->out[i]), guard_free(&r->got[i]);
  sd_free(r);
}

// ---- comparison ----

// An f64 result of narrower operands is computed as f32.
static bool has_f64(const op_case *c) {
  bool found = strstr(c->body.p, "f64") != NULL;
  for (uint32_t i = 0; i < c->n_in; i++) found |= c->in[i].dtype == SD_F64;
  return found;
}

static double tolerance(const op_case *c, sd_dtype t, double want, double scale) {
  if (c->op->kind == SD_MOVE || !sd_dtype_is_float(t)) return 0;
  if (t == SD_F64 && !has_f64(c)) t = SD_F32;
  switch (t) {
  case SD_F64: return 1e-12 + 1e-11 * fabs(want) + 1e-11 * scale;
  case SD_F16: return 1e-6 + 1.0 / 512 * fabs(want) + 1e-4 * scale;
  case SD_BF16: return 1e-6 + 1.0 / 64 * fabs(want) + 1e-4 * scale;
  default: return 1e-6 + 2e-5 * fabs(want) + 2e-5 * scale;
  }
}

static const char *compare(const op_case *c, const sd_evalue *want, const guard *got, char *why, size_t room) {
  sd_dtype t = sd_dtype_part(want->dtype);
  uint64_t count = count_of(want->rank, want->dims) * sd_dtype_parts(want->dtype), wrong = 0, at = 0;
  double scale = 0;
  if (guard_broken(got)) return "memory beside the output is written";
  if (!memcmp(want->data ? want->data : got->data, got->data, got->bytes)) return NULL;
  if (!sd_dtype_is_float(t)) {
    for (uint64_t i = 0; i < count; i++)
      if (sd_dtype_get_i64(t, want->data, i) != sd_dtype_get_i64(t, got->data, i) && !wrong++) at = i;
    if (!wrong) return "bits beside the elements differ";
    snprintf(why, room, "%llu of %llu elements, first at %llu: %lld instead of %lld", (unsigned long long)wrong, (unsigned long long)count, (unsigned long long)at,
             (long long)sd_dtype_get_i64(t, got->data, at), (long long)sd_dtype_get_i64(t, want->data, at));
    return why;
  }
  for (uint64_t i = 0; i < count; i++) {
    double w = sd_dtype_get_f64(t, want->data, i);
    if (isfinite(w) && fabs(w) < 1e30) scale += w * w;
  }
  scale = sqrt(scale / (double)(count ? count : 1));
  for (uint64_t i = 0; i < count; i++) {
    double w = sd_dtype_get_f64(t, want->data, i), g = sd_dtype_get_f64(t, got->data, i);
    bool same = w == g || (isnan(w) && isnan(g)) || (isfinite(w) && fabs(w - g) <= tolerance(c, t, w, scale));
    if (!same && !wrong++) at = i;
  }
  if (!wrong) return NULL;
  snprintf(why, room, "%llu of %llu elements, first at %llu: %.9g instead of %.9g", (unsigned long long)wrong, (unsigned long long)count, (unsigned long long)at,
           sd_dtype_get_f64(t, got->data, at), sd_dtype_get_f64(t, want->data, at));
  return why;
}

static bool compare_all(const run *r, node *x, uint32_t n, char *why, size_t room) {
  char text[300];
  for (uint32_t i = 0, o = 0; i < n; i++)
    for (uint32_t k = 0; k < x[i].c.n_out; k++, o++) {
      const char *what = compare(&x[i].c, &x[i].want[k], &r->got[o], text, sizeof text);
      if (what) return snprintf(why, room, "%s, output %u: %s", x[i].c.op->name, k, what), false;
    }
  return true;
}

static bool same_bits(const run *a, const run *b, char *why, size_t room) {
  for (int i = 0; i < a->n_out; i++)
    if (memcmp(a->got[i].data, b->got[i].data, a->got[i].bytes)) return snprintf(why, room, "output %d depends on the number of threads", i), false;
  return true;
}

// ---- one model ----

static char current[4000]; // what runs, for the message of a crash

static sard_status *compile(const char *text, const config *c, sd_compiled **out) {
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  sd_driver_options o;
  sd_driver_defaults(&o);
  o.opt = c->opt, o.target = c->isa, o.threads = 2, o.verify = true;
  return sd_driver_compile(&src, &o, out);
}

static bool agrees(node *x, uint32_t n, const config *c, char *why, size_t room) {
  char *text = pack_text(x, n);
  sd_compiled *made = NULL;
  run *r[2] = {sd_calloc(1, sizeof **r), sd_calloc(1, sizeof **r)};
  bool ok = text && r[0] && r[1];
  if (!ok) snprintf(why, room, "no memory");
  snprintf(current, sizeof current, "-O%d %s\n%s", c->opt, c->isa, text ? text : "");
  sard_status *st = ok ? compile(text, c, &made) : NULL;
  for (int t = 0; t < 2 && ok && !st; t++) {
    st = run_once(r[t], contexts[t], made->pieces, made->n_pieces, x, n);
    if (!st) ok = compare_all(r[t], x, n, why, room);
  }
  if (ok && !st) ok = same_bits(r[0], r[1], why, room);
  if (st) ok = false, snprintf(why, room, "compiled: %s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  sd_compiled_free(made);
  drop_run(r[0]), drop_run(r[1]);
  sd_free(text);
  *current = 0;
  return ok;
}

static void show(const node *x, const config *c, const char *why) {
  char *text = text_of(&x->c, 1);
  printf("FAIL %s at -O%d for %s, seed %llu: %s\n", x->c.op->name, c->opt, c->isa, (unsigned long long)x->c.seed, why);
  if (*x->c.symbol) {
    printf("// inputs");
    for (uint32_t i = 0; i < x->c.n_in; i++)
      for (int d = 0; d < x->c.in[i].rank; d++) printf("%s%lld%s", d ? "," : " [", (long long)x->c.in[i].dims[d], d + 1 == x->c.in[i].rank ? "]" : "");
    printf("\n");
  }
  printf("%s", text ? text : "");
  sd_free(text);
}

// Runs the nodes as one model; marks the rows that fail.
static void check_pack(node *x, uint32_t n, const config *c, bool *failed) {
  char why[1000];
  bool found = false;
  if (n == 0 || agrees(x, n, c, why, sizeof why)) return;
  for (uint32_t i = 0; i < n; i++) {
    if (failed[x[i].c.op->index] && !verbose) {
      found = true;
      continue;
    }
    if (agrees(&x[i], 1, c, why, sizeof why)) continue;
    show(&x[i], c, why);
    found = failed[x[i].c.op->index] = true;
  }
  if (found) return;
  printf("FAIL %u nodes at -O%d for %s, none of which fails alone: %s\n", n, c->opt, c->isa, why);
  failed[x[0].c.op->index] = true;
}

// ---- rows ----

typedef struct counts { uint32_t made, refused; char reason[300]; } counts;

// A node that the interpreter takes; false when no try gave one.
static bool make_node(node *x, const sd_op *op, uint64_t *seed, counts *k) {
  for (int tries = 0; tries < TRIES; tries++) {
    uint64_t s = (*seed)++;
    const char *wrong = op_case_make(&x->c, op, s * 1000003 + op->index, 0);
    char *text = wrong ? NULL : text_of(&x->c, 1);
    sard_status *st = wrong ? SD_ERR(USAGE, "generator: %s", wrong) : !text ? SD_ERR(NOMEM, "no memory") : interpret(x, text);
    sd_free(text);
    if (!st) return k->made++, true;
    k->refused++;
    snprintf(k->reason, sizeof k->reason, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
    if (verbose || sard_status_code(st) == SARD_E_INTERNAL) {
      char *again = text_of(&x->c, 1);
      printf("%s: refused: %s\n%s", op->name, k->reason, wrong || !again ? "" : again);
      sd_free(again);
    }
    if (sard_status_code(st) == SARD_E_INTERNAL) k->reason[0] = '!';
    sard_status_free(st);
    drop(x);
  }
  return false;
}

static void find_configs(void) {
  const sd_isa *isa, *best = NULL;
  if (sd_isa_host(NULL, &best)) exit(1);
  for (int i = 0; sd_isa_at(i); i++) {
    if (sd_isa_at(i)->dot == 4) continue; // differs in products only, which are dot_test's and dot_bf16_test's
    sard_status *st = sd_isa_host(sd_isa_at(i)->name, &isa);
    if (!st) configs[n_configs++] = (config){isa->name, 3};
    sard_status_free(st);
  }
  // Under sanitizers the first and the last: between them it is LLVM that differs most.
  if (getenv("SARD_TEST_SHORT") && n_configs > 2) configs[1] = configs[n_configs - 1], n_configs = 2;
  static const int levels[] = {0, 1, 3}; // -O2 has the passes of -O3
  for (int i = 0; i < (best->dot == 4 ? 3 : 2); i++) configs[n_configs++] = (config){best->name, levels[i]};
}

static void crashed(int signal) {
  static const char head[] = "FAIL a crash, in ";
  (void)!write(1, head, sizeof head - 1);
  (void)!write(1, current, strlen(current));
  _exit(100 + signal);
}

static sard_context *context(const char *threads) {
  sard_options *o = sard_options_new();
  sard_context *c = NULL;
  sard_status *st = sard_options_set(o, "threads", threads);
  if (!st) st = sard_context_new(o, &c);
  sard_options_free(o);
  if (st) printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE)), exit(1);
  return c;
}

static void judge_row(const sd_op *op, const counts *k, bool *failed) {
  if (k->made && k->reason[0] != '!') return;
  if (k->made) printf("FAIL %s: %s\n", op->name, k->reason);
  else printf("FAIL %s: no node was made, last: %s\n", op->name, k->reason);
  failed[op->index] = true;
}

// N nodes of every row, a row after another, in packs.
static int all_rows(const char *only, long n, uint64_t seed) {
  static node pack[PACK];
  static bool failed[4096];
  uint32_t len = 0, rows = 0, bad = 0, nodes = 0;
  const sd_op *op;
  for (uint32_t i = 0; (op = sd_op_at(i)); i++) {
    if (only ? strcmp(op->name, only) : where_else(op) != NULL) continue;
    counts k = {0};
    uint64_t s = seed * 1000;
    rows++;
    for (long j = 0; j < n; j++) {
      if (!make_node(&pack[len], op, &s, &k)) break;
      if (++len < PACK) continue;
      for (int c = 0; c < n_configs; c++) check_pack(pack, len, &configs[c], failed);
      for (nodes += len; len; len--) drop(&pack[len - 1]);
    }
    judge_row(op, &k, failed);
    if (verbose) printf("%s: %u made, %u refused\n", op->name, k.made, k.refused);
  }
  for (int c = 0; c < n_configs; c++) check_pack(pack, len, &configs[c], failed);
  for (nodes += len; len; len--) drop(&pack[len - 1]);
  for (uint32_t i = 0; sd_op_at(i); i++) bad += failed[i];
  printf("%u nodes, %d configurations; rows: %u passed, %u failed\n", nodes, n_configs, rows - bad, bad);
  return bad != 0;
}

static int list_rows(void) {
  const sd_op *op;
  for (uint32_t i = 0; (op = sd_op_at(i)); i++)
    printf("%s: %s\n", op->name, op_case_known(op) ? "generated" : where_else(op) ? where_else(op) : "NO GENERATOR");
  return 0;
}

int main(int argc, char **argv) {
  int at = 1;
  const char *only = NULL;
  if (argc == 2 && !strcmp(argv[1], "--list")) return list_rows();
  if (argc > 2 && !strcmp(argv[1], "--row")) only = argv[2], at = 3, verbose = true;
  long n = argc > at ? strtol(argv[at], NULL, 10) : 2;
  uint64_t seed = argc > at + 1 ? strtoull(argv[at + 1], NULL, 10) : 1;
  signal(SIGSEGV, crashed), signal(SIGBUS, crashed), signal(SIGFPE, crashed), signal(SIGILL, crashed);
  contexts[0] = context("1"), contexts[1] = context("2");
  find_configs();
  int bad = all_rows(only, n, seed);
  sard_context_free(contexts[0]), sard_context_free(contexts[1]);
  return bad;
}
