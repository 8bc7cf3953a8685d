// Hostile nodes of every operator: attributes, contents of operands, shapes and types that a model may not have. Each has to
// give a result or an error: no crash, no bug report, no endless loop, nothing read or written beside the tensors.
//
//   test_op_fuzz [N [SEED [ROW]]]     N changes of nodes of every row (default 8), 0: every attribute with every value too
// A legal node (tests/diff/op_gen.h) is changed as text, typed, interpreted, compiled and run, all inputs end at a page that
// cannot be touched. The nodes of a row run in a child, which is started again behind a change that ended it.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/driver/driver.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "runtime/model.h"
#include "sard/sard_compile.h"
#include "tests/diff/guard.h"
#include "tests/diff/op_gen.h"
#include "tests/support/warm.h"

enum { CPU_SECONDS = 8, MOST_ELEMENTS = 100000 };

typedef struct shared { volatile long at, bugs; char text[6000]; } shared; // with the child
static shared *now;
static uint64_t rng;

static uint64_t rnd(uint64_t n) { return op_random(&rng, n); }

// ---- values ----

static const char *const ints[] = {"-9223372036854775808", "-1", "0", "1", "2147483648", "9223372036854775807"};
static const char *const floats[] = {"nan", "inf", "-inf", "-0", "1e-45"};
static const int64_t numbers[] = {INT64_MIN, -1, 0, 1, INT64_C(2147483648), INT64_MAX, -2, 2, 1000000, -1000000, INT32_MIN};
enum { N_INTS = 6, N_FLOATS = 5, N_LISTS = 4 };
#define PICK(list) list[rnd(sizeof list / sizeof *list)]

// Number of values for an attribute of that kind.
static uint32_t value_count(sd_attr_kind k) {
  switch (k) {
  case SD_ATTR_INT: return N_INTS;
  case SD_ATTR_FLOAT: return N_FLOATS;
  case SD_ATTR_INTS: return N_INTS * N_LISTS + 1;
  case SD_ATTR_FLOATS: return N_FLOATS * N_LISTS + 1;
  case SD_ATTR_STRING: return 2;
  case SD_ATTR_STRINGS: return 3;
  case SD_ATTR_TENSOR: return 4;
  default: return 0;
  }
}

// Lists are as long as `length`, one, one longer, or much longer.
static void put_value(sd_str *s, sd_attr_kind k, uint32_t v, uint32_t length) {
  static const char *const words[] = {"", "bogus"}, *const lists[] = {"[]", "[\"\"]", "[\"bogus\", \"LEAF\", \"x\"]"};
  static const char *const tensors[] = {"f32[0]dense<>", "i64[]dense<-1>", "f64[3]dense<nan, inf, 0>", "u8[1]dense<255>"};
  bool is_list = k == SD_ATTR_INTS || k == SD_ATTR_FLOATS, is_int = k == SD_ATTR_INT || k == SD_ATTR_INTS;
  uint32_t n = is_int ? N_INTS : N_FLOATS, sizes[N_LISTS] = {length, 1, length + 1, 40};
  if (k == SD_ATTR_STRING) sd_strf(s, "\"%s\"", words[v]);
  else if (k == SD_ATTR_STRINGS) sd_str_put(s, lists[v]);
  else if (k == SD_ATTR_TENSOR) sd_str_put(s, tensors[v]);
  else if (!is_list) sd_str_put(s, is_int ? ints[v] : floats[v]);
  else {
    sd_str_put(s, "[");
    for (uint32_t i = 0; v && i < sizes[(v - 1) / n]; i++) sd_strf(s, "%s%s", i ? ", " : "", (is_int ? ints : floats)[(v - 1) % n]);
    sd_str_put(s, "]");
  }
}

// ---- changes of the text ----

// End of the attribute value at p: a comma or brace that is in no list or text.
static const char *value_end(const char *p) {
  int depth = 0;
  bool text = false;
  for (; *p; p++) {
    if (*p == '"') text = !text;
    if (text) continue;
    if (depth == 0 && (*p == ',' || *p == '}')) return p;
    depth += (*p == '[' || *p == '<') - (*p == ']' || *p == '>');
  }
  return p;
}

static void set_attribute(op_case *c, const sd_attrdecl *d, uint32_t v) {
  char *node = c->body.p, key[80];
  for (char *p = node; (p = strchr(p, '\n')) && p[1]; p++) node = p + 1; // the last line
  char *brace = strstr(node, " {"), *end = node + strlen(node) - 1;
  sd_str s = {0};
  uint32_t length = 2;
  snprintf(key, sizeof key, "%s=", d->name);
  sd_str_putn(&s, c->body.p, (size_t)((brace ? brace : end) - c->body.p));
  sd_strf(&s, " {%s", key);
  const char *old = NULL;
  for (const char *p = brace; p && (p = strstr(p, key)); p++)
    if (p[-1] == '{' || p[-1] == ' ') old = p;
  if (old) { // as long as it was
    length = 1;
    for (const char *p = old; p < value_end(old); p++) length += *p == ',';
  }
  put_value(&s, d->def.kind, v, length);
  for (const char *p = brace ? brace + 2 : NULL; p && *p && *p != '}';) {
    const char *e = value_end(p);
    if (p != old) sd_strf(&s, ", %.*s", (int)(e - p), p);
    p = *e == ',' ? e + 2 : e;
  }
  sd_str_put(&s, "}\n");
  sd_str_free(&c->body);
  c->body = s;
}

// One number of a constant, or one byte of its hex digits.
static void change_constant(op_case *c) {
  uint32_t n = 0;
  char *pick = NULL;
  for (char *p = c->body.p; p && (p = strstr(p, "<")); p++)
    if (p[-1] == 'e' || p[-1] == 'x')
      if (rnd(++n) == 0) pick = p;
  if (!pick || pick[1] == '>') return;
  if (pick[-1] == 'x') {
    size_t len = strcspn(pick + 1, ">");
    pick[1 + rnd(len)] = "0f78"[rnd(4)];
    return;
  }
  sd_str s = {0};
  char *at = pick + 1, *close = strchr(pick, '>');
  for (char *p = at; p < close; p++)
    if (*p == ' ' && rnd(2) == 0) at = p + 1;
  sd_str_putn(&s, c->body.p, (size_t)(at - c->body.p));
  sd_strf(&s, "%lld%s", (long long)PICK(numbers), at + strcspn(at, ",>"));
  sd_str_free(&c->body);
  c->body = s;
}

// Another rank, size or type for an input.
static void change_type(op_case *c) {
  if (!c->n_in) return;
  op_input *in = &c->in[rnd(c->n_in)];
  static const sd_dtype types[] = {SD_F32, SD_I64, SD_BOOL, SD_U8, SD_I8, SD_F16, SD_F64, SD_I32, SD_U64, SD_C64, SD_I4, SD_U4, SD_F8E5M2};
  switch (rnd(5)) {
  case 0: in->dtype = PICK(types); break;
  case 1: if (in->rank) in->rank--; break;
  case 2: if (in->rank < 6) in->dims[in->rank++] = (int64_t)rnd(4); break;
  case 3: if (in->rank) in->dims[rnd((uint64_t)in->rank)] = (int64_t)rnd(9); break;
  default:
    in->rank = (int)rnd(6);
    for (int i = 0; i < in->rank; i++) in->dims[i] = (int64_t)rnd(5);
  }
}

static void rewrite_inputs(op_case *c) { // sizes as numbers
  sd_str_free(&c->inputs);
  for (uint32_t i = 0; i < c->n_in; i++) {
    sd_strf(&c->inputs, "%s%%%u: %s[", i ? ", " : "", c->in[i].id, sd_dtype_name(c->in[i].dtype));
    for (int d = 0; d < c->in[i].rank; d++) sd_strf(&c->inputs, d ? ",%lld" : "%lld", (long long)c->in[i].dims[d]);
    sd_str_put(&c->inputs, "]");
  }
  *c->symbol = 0;
}

static void hostile_data(op_case *c) {
  if (!c->n_in) return;
  op_fill *f = &c->in[rnd(c->n_in)].fill;
  *f = (op_fill){.given = true, .n_list = 1 + (int)rnd(3)};
  for (int i = 0; i < f->n_list; i++) f->list[i] = (double)PICK(numbers);
  if (rnd(3) == 0) f->list[0] = __builtin_nan("");
  if (rnd(4) == 0) f->list[0] = __builtin_inf();
}

// An operand less, or another one in its place.
static void change_operand(op_case *c) {
  char *node = c->body.p;
  for (char *p = node; (p = strchr(p, '\n')) && p[1]; p++) node = p + 1;
  char *open = strchr(strchr(node, '=') ? strchr(node, '=') : node, '('), *pick = NULL;
  uint32_t n = 0;
  for (char *p = open; p && *p && *p != ')'; p++)
    if (*p == '%' && rnd(++n) == 0) pick = p;
  if (!pick) return;
  size_t len = 1 + strspn(pick + 1, "0123456789");
  sd_str s = {0};
  sd_str_putn(&s, c->body.p, (size_t)(pick - c->body.p));
  if (rnd(2) || !c->n_in) sd_str_put(&s, "_");
  else sd_strf(&s, "%%%u", c->in[rnd(c->n_in)].id);
  sd_str_put(&s, pick + len);
  sd_str_free(&c->body);
  c->body = s;
}

static void change(op_case *c, const sd_op *op) {
  uint32_t k = op->n_attr ? (uint32_t)rnd(op->n_attr) : 0, n = op->n_attr ? value_count(op->attrs[k].def.kind) : 0;
  switch (rnd(8)) {
  case 0: case 1: if (n) set_attribute(c, &op->attrs[k], (uint32_t)rnd(n)); else change_type(c); break;
  case 2: case 3: hostile_data(c); break;
  case 4: change_constant(c); break;
  case 5: change_operand(c); break;
  default: change_type(c);
  }
}

// ---- one node ----

static char *text_of(const op_case *c) {
  sd_str s = {0};
  sd_str_put(&s, "module opset=24\n");
  if (*c->symbol) sd_strf(&s, "symbol %s\n", c->symbol);
  sd_strf(&s, "graph \"main\" (%s) {\n%s  return ", c->inputs.p ? c->inputs.p : "", c->body.p);
  for (uint32_t k = 0; k < c->n_out; k++) sd_strf(&s, "%s%%%u", k ? ", " : "", c->out[k]);
  sd_str_put(&s, "\n}\n");
  return sd_str_take(&s);
}

typedef struct data { guard at[OP_MOST]; uint32_t n; } data;

static bool make_data(const op_case *c, data *d) {
  for (uint32_t i = 0; i < c->n_in; i++) {
    const op_input *in = &c->in[i];
    uint64_t count = 1, bytes;
    int bits = sd_dtype_bits(in->dtype);
    for (int k = 0; k < in->rank; k++) count *= (uint64_t)in->dims[k];
    if (count > MOST_ELEMENTS || !sd_dtype_bytes(in->dtype, count, &bytes)) return false;
    d->at[d->n] = guard_new(bytes, bits <= 8 ? 1 : bits >= 64 ? 8 : (uint64_t)bits / 8);
    if (!d->at[d->n].data) return false;
    op_fill_data(in, count, d->at[d->n].data);
    guard_lock(&d->at[d->n++]);
  }
  return true;
}

static void drop_data(data *d) {
  for (uint32_t i = 0; i < d->n; i++) guard_free(&d->at[i]);
}

static sard_status *rewritten(sd_module *m) {
  sd_pass_options o = {.opt = 0, .bisect = -1};
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "no memory");
  sd_arena_set_oom(m->arena, &oom);
  sard_status *st = sd_passes_run(m, &o, "rewrite", "rewrite", NULL, NULL);
  sd_arena_set_oom(m->arena, NULL);
  return st;
}

// Results so large that the interpreter would take long are no fault.
static bool too_large(const sd_module *m) {
  for (const sd_node *n = m->main->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) {
      const sd_value *v = n->out[i];
      double count = 1;
      for (int k = 0; v && k < v->rank; k++) {
        const sd_dimnode *d = v->dims[k] ? sd_dim_get(m->dims, v->dims[k]) : NULL;
        count *= d && d->op == SD_DIM_CONST ? (double)d->value : 1;
      }
      if (count > MOST_ELEMENTS) return true;
    }
  return false;
}

static sard_status *interpret(const op_case *c, const char *text, const data *d, bool *large) {
  sd_module *m = NULL;
  sd_evalue in[OP_MOST], out[OP_MOST];
  SD_TRY(sd_module_parse(text, c->op->name, &m));
  sard_status *st = sd_module_verify(m);
  if (!st) st = rewritten(m);
  *large = !st && too_large(m);
  for (uint32_t i = 0; i < c->n_in; i++) {
    in[i] = (sd_evalue){.dtype = c->in[i].dtype, .rank = c->in[i].rank, .data = d->at[i].data, .bytes = d->at[i].bytes};
    memcpy(in[i].dims, c->in[i].dims, sizeof in[i].dims);
  }
  if (!st && !*large) {
    st = sd_eval_module(m, in, c->n_in, out, c->n_out, NULL, NULL);
    for (uint32_t i = 0; !st && i < c->n_out; i++) sd_eval_free(&out[i]);
  }
  sd_module_free(m);
  return st;
}

static sard_context *ctx;

static sard_status *run(const op_case *c, const sd_compiled *made, data *d) {
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_options *o = sard_options_new();
  sard_tensor *in[OP_MOST] = {0}, *out[OP_MOST] = {0};
  sard_status *st = sard_options_set(o, "memory-limit", "16M");
  if (!st) st = sd_model_from_bytes(ctx, made->pieces, made->n_pieces, NULL, NULL, &m);
  if (!st) st = sard_session_new(m, o, &s);
  for (uint32_t i = 0; i < c->n_in && !st; i++) {
    sard_tensor_desc t = {.size = sizeof t, .dtype = (int32_t)c->in[i].dtype, .rank = c->in[i].rank};
    memcpy(t.dims, c->in[i].dims, sizeof t.dims);
    st = sard_tensor_wrap(ctx, &t, d->at[i].data, d->at[i].bytes, NULL, NULL, &in[i]);
  }
  if (!st) st = sard_session_run(s, in, (int)c->n_in, out, (int)c->n_out);
  for (int i = 0; i < OP_MOST; i++) sard_tensor_free(in[i]), sard_tensor_free(out[i]);
  sard_session_free(s);
  sard_model_free(m);
  sard_options_free(o);
  return st;
}

static sard_status *compile_and_run(const op_case *c, const char *text, data *d, int opt) {
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  sd_driver_options o;
  sd_compiled *made = NULL;
  sd_driver_defaults(&o);
  o.opt = opt, o.threads = 1;
  SD_TRY(sd_driver_compile(&src, &o, &made));
  sard_status *st = run(c, made, d);
  sd_compiled_free(made);
  return st;
}

static void judge(sard_status *st, const char *where) {
  if (sard_status_code(st) == SARD_E_INTERNAL) {
    printf("FAIL %s: %s\n%s", where, sard_status_text(st, SARD_TEXT_MESSAGE), now->text);
    fflush(stdout);
    now->bugs++;
  }
  sard_status_free(st);
}

static void try_node(op_case *c, long i) {
  data d = {0};
  bool large = false;
  rewrite_inputs(c);
  char *text = text_of(c);
  snprintf(now->text, sizeof now->text, "%s", text ? text : "");
  struct itimerval limit = {.it_value.tv_sec = CPU_SECONDS}, off = {0};
  setitimer(ITIMER_PROF, &limit, NULL);
  if (text && make_data(c, &d)) {
    sard_status *st = interpret(c, text, &d, &large);
    bool typed = !st || sard_status_code(st) != SARD_E_MODEL || strstr(sard_status_text(st, SARD_TEXT_MESSAGE), "out of range");
    judge(st, "interpreted");
    if (typed && !large) judge(compile_and_run(c, text, &d, i % 2 ? 3 : 0), "compiled");
  }
  setitimer(ITIMER_PROF, &off, NULL);
  drop_data(&d);
  sd_free(text);
}

// ---- rows ----

static long attribute_changes(const sd_op *op) {
  long n = 0;
  for (uint32_t k = 0; k < op->n_attr; k++) n += value_count(op->attrs[k].def.kind);
  return n;
}

static bool one_change(const sd_op *op, long i, long systematic, uint64_t seed) {
  op_case c;
  rng = seed * 7919 + (uint64_t)i * 104729 + op->index;
  if (op_case_make(&c, op, rnd(UINT64_MAX), 0)) return op_case_free(&c), false;
  if (i < systematic) {
    long at = i;
    uint32_t k = 0;
    for (; at >= value_count(op->attrs[k].def.kind); k++) at -= value_count(op->attrs[k].def.kind);
    set_attribute(&c, &op->attrs[k], (uint32_t)at);
  } else {
    change(&c, op);
    if (rnd(4) == 0) change(&c, op);
  }
  try_node(&c, i);
  op_case_free(&c);
  return true;
}

static void child(const sd_op *op, long from, long systematic, long n, uint64_t seed) {
  if (sard_context_new(NULL, &ctx)) _exit(9);
  for (long i = from; i < n; i++) {
    now->at = i;
    one_change(op, i, systematic, seed);
  }
  sard_context_free(ctx);
  fflush(stdout);
  exit(0);
}

// All changes of a row; the number of those that went wrong.
static long fuzz_row(const sd_op *op, long systematic, long n, uint64_t seed) {
  long bad = 0;
  now->bugs = 0;
  for (long from = 0; from < n;) {
    int status = 0;
    fflush(stdout);
    now->at = from;
    pid_t p = fork();
    if (p == 0) child(op, from, systematic, n, seed);
    if (p < 0 || waitpid(p, &status, 0) < 0) return bad + 1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
    const char *how = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF ? "takes too long" : "crashed";
    printf("FAIL %s: change %ld %s (status %d)\n%s\n", op->name, now->at, how, status, now->text);
    from = now->at + 1;
    if (++bad > 20) break;
  }
  return bad + now->bugs;
}

int main(int argc, char **argv) {
  long n = argc > 1 ? strtol(argv[1], NULL, 10) : 8, total = 0, bad = 0;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  const sd_op *op;
  now = mmap(NULL, sizeof *now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (now == MAP_FAILED) return 1;
  sard_context_free(warm_up()); // each row is a process
  for (uint32_t i = 0; (op = sd_op_at(i)); i++) {
    if (!op_case_known(op) || (argc > 3 && strcmp(argv[3], op->name))) continue;
    long systematic = n ? 0 : attribute_changes(op), all = n ? n : systematic + 100, wrong = fuzz_row(op, systematic, all, seed);
    total += all, bad += wrong;
  }
  printf("%ld passed, %ld failed\n", total - bad, bad);
  return bad != 0;
}
