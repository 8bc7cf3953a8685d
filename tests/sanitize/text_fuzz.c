// Damaged text of graphs and kernels: parsing, checks, passes, interpreter. Meant for ASan and UBSan builds.
//
//   text_fuzz graph|kernel N SEED FILE...
// N variants of each file (a golden test: its input and its output are used; or a dump). A variant may be refused with a
// status; a crash, a hang or an internal error is a failure. What is accepted must verify again after printing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/base/thread.h"

static long runs, accepted, bad;

static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

static void report(const char *file, long variant, const char *text, const sard_status *st) {
  bad++;
  printf("%s: variant %ld: %s\n--\n%s--\n", file, variant, sard_status_text(st, SARD_TEXT_MESSAGE), text);
}

// ---- damage ----

static const char *const words[] = {"0", "-1", "1", "9223372036854775807", "-9223372036854775808", "4294967296", "65536", "nan", "%0", "%99",
                                    "[]", "N", "floordiv(N,0)", "mod(N,-1)", "f32", "i64", "bool", "string", "*", "?", "_", "{", "}", "\"", "in %1"};

// Replaces the token at `at` (letters and digits, or one sign) by `by`.
static void replace_token(char *text, size_t room, size_t at, const char *by) {
  size_t n = strlen(text), len = strspn(text + at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"), add = strlen(by);
  if (len == 0) len = 1;
  if (n - len + add + 1 > room) return;
  memmove(text + at + add, text + at + len, n - at - len + 1);
  memcpy(text + at, by, add);
}

static void copy_line(char *text, size_t room, size_t from, size_t to) { // the line that holds `from` goes before the one that holds `to`
  while (from > 0 && text[from - 1] != '\n') from--;
  while (to > 0 && text[to - 1] != '\n') to--;
  char line[512];
  size_t len = strcspn(text + from, "\n") + 1, n = strlen(text);
  if (len > sizeof line || from + len > n || n + len + 1 > room) return;
  memcpy(line, text + from, len);
  memmove(text + to + len, text + to, n - to + 1);
  memcpy(text + to, line, len);
}

static void damage(char *text, size_t room, uint64_t *seed) {
  for (uint64_t k = 1 + next_random(seed) % 3; k--;) {
    size_t n = strlen(text);
    if (n == 0) return;
    uint64_t r = next_random(seed);
    size_t at = (size_t)(next_random(seed) % n);
    switch (r % 8) {
    case 0: text[at] = (char)(32 + (r >> 8) % 95); break;
    case 1: text[at] ^= (char)(1 << (r >> 8) % 7); break;
    case 2: memmove(text + at, text + at + 1, n - at); break;
    case 3: copy_line(text, room, (size_t)(next_random(seed) % n), at); break;
    case 4: if ((r >> 8) % 8 == 0) text[at] = 0; break;
    default: replace_token(text, room, at, words[(r >> 8) % (sizeof words / sizeof *words)]); break;
    }
  }
}

// ---- graphs ----

// Elements of all types of the graph are few enough to be worth running.
static bool small(const sd_graph *g) {
  for (const sd_node *n = g->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) {
      int64_t count;
      if (!n->out[i]) continue;
      if (n->out[i]->rank < 0) return false;
      if (sd_dim_is_const(g->module->dims, sd_value_count(n->out[i]), &count) && count > 100000) return false;
    }
  return true;
}

static sard_status *after_pass(void *user, const sd_pass *p, sd_module *m, const sd_pass_report *r, double seconds) {
  (void)user, (void)r, (void)seconds;
  sard_status *st = sd_module_verify(m);
  return st ? sd_status_make(SARD_E_INTERNAL, __FILE__, __LINE__, "after pass %s: %s", p->name, sard_status_text(st, SARD_TEXT_MESSAGE)) : NULL;
}

static sard_status *print_again(sd_module *m, const char *file) {
  sd_str a = {0}, b = {0};
  sd_module *again = NULL;
  sard_status *st = sd_module_print(m, true, &a);
  if (!st) st = sd_module_parse(a.p, file, &again);
  if (!st) st = sd_module_verify(again);
  if (!st) st = sd_module_print(again, true, &b);
  if (!st && strcmp(a.p, b.p)) st = SD_ERR(INTERNAL, "the print of a print is another one:\n%s\n%s", a.p, b.p);
  else if (st && sard_status_code(st) != SARD_E_NOMEM) {
    sard_status *why = st;
    st = SD_ERR(INTERNAL, "the print of an accepted graph is refused: %s\n%s", sard_status_text(why, SARD_TEXT_MESSAGE), a.p ? a.p : "");
    sard_status_free(why);
  }
  sd_str_free(&a), sd_str_free(&b);
  sd_module_free(again);
  return st;
}

static sard_status *use_module(sd_module *m, const char *file) {
  sd_pass_options o = {.opt = 3, .target = sd_pass_target_cpu(), .bisect = -1};
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(m->arena, &oom);
  sard_status *st = sd_module_verify(m);
  if (st) { // broken text
    sard_status_free(st);
    return NULL;
  }
  accepted++;
  st = print_again(m, file);
  if (!st && small(m->main)) st = sd_passes_run(m, &o, NULL, NULL, after_pass, NULL);
  sd_arena_set_oom(m->arena, NULL);
  return st;
}

static sard_status *try_graph(const char *file, const char *text) {
  sd_module *m = NULL;
  sard_status *st = sd_module_parse(text, file, &m);
  if (st) { // broken text
    sard_status_free(st);
    return NULL;
  }
  st = use_module(m, file);
  sd_module_free(m);
  return st;
}

// ---- kernels ----

static bool symbol(void *user, const char *name, int64_t *v) {
  (void)user, (void)name;
  *v = 3;
  return true;
}

static sard_status *run_kernel(const sd_kernel *k) {
  void *data[64] = {0};
  sard_status *st = NULL;
  uint64_t total = 0, steps = 1;
  for (uint32_t i = 0; i < k->n_axis && i < 64; i++) steps *= 2;
  if (k->bufs.len > 64) return NULL;
  for (uint32_t i = 0; i < k->bufs.len && !st; i++) {
    int64_t count;
    uint64_t bytes;
    if (!sd_dim_eval(k->dims, k->bufs.at[i]->count, symbol, NULL, &count) || count < 0 || count > 100000 ||
        !sd_dtype_bytes(k->bufs.at[i]->dtype, (uint64_t)count, &bytes) || (total += bytes) > 1 << 20)
      st = SD_ERR(UNSUPPORTED, "large");
    else if (k->bufs.at[i]->kind != SD_BUF_LOCAL) data[i] = calloc(bytes ? bytes : 1, 1);
  }
  if (!st) st = sd_kernel_eval(k, data, symbol, NULL);
  for (int i = 0; i < 64; i++) free(data[i]);
  return st;
}

// Points of all nests and reductions, to leave out what would take long.
static bool quick(const sd_kernel *k) {
  double points = 1;
  for (uint32_t i = 0; i < k->grid.len; i++) points *= 40;
  return points < 1e4 && k->n_axis < 24;
}

static bool axes_small(const char *text) { // every "(number)" of an axis line
  for (const char *p = text; (p = strstr(p, "axis ")); p++) {
    const char *q = strchr(p, '(');
    if (q && strtoll(q + 1, NULL, 10) > 512) return false;
  }
  return true;
}

typedef struct kernel_task { const char *text; bool use, emit; } kernel_task;

static sard_status *in_arena(sard_status *(*fn)(sd_arena *a, const kernel_task *t), const kernel_task *t) {
  jmp_buf oom;
  sd_arena *volatile a = sd_arena_new();
  if (!a || setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory");
  }
  sd_arena_set_oom(a, &oom);
  sard_status *st = fn(a, t);
  sd_arena_free(a);
  return st;
}

static sard_status *use_kernel(sd_arena *a, const kernel_task *t);

// The print of an accepted kernel is accepted.
static sard_status *print_kernel_again(const sd_kernel *k) {
  sd_str s = {0};
  sard_status *st = sd_kernel_print(k, &s);
  if (!st) {
    sard_status *why = in_arena(use_kernel, &(kernel_task){.text = s.p});
    if (why) st = SD_ERR(INTERNAL, "the print of an accepted kernel is refused: %s\n%s", sard_status_text(why, SARD_TEXT_MESSAGE), s.p);
    sard_status_free(why);
  }
  sd_str_free(&s);
  return st;
}

static sard_status *use_kernel(sd_arena *a, const kernel_task *t) {
  const sd_isa *isa = sd_isa_find("avx2");
  sd_kernel *k;
  sd_machine_code o;
  sard_status *st = sd_kernel_parse(a, sd_dimtab_new(a), t->text, &k);
  if (!st) st = sd_kernel_verify(k);
  if (!t->use) return st;
  if (st) { // broken text
    sard_status_free(st);
    return NULL;
  }
  accepted++;
  SD_TRY(print_kernel_again(k));
  if (!quick(k) || !axes_small(t->text)) return NULL;
  st = run_kernel(k);
  // An access outside of a buffer: the interpreter is there to find it. Or buffers too large to run here.
  bool outside = sard_status_code(st) == SARD_E_INTERNAL || sard_status_code(st) == SARD_E_UNSUPPORTED;
  if (!outside) SD_TRY(st);
  sard_status_free(st);
  return t->emit && isa ? sd_emit_llvm(k, isa, "k", 0, a, &o) : NULL;
}

static sard_status *try_kernel(const char *text, bool emit) { return in_arena(use_kernel, &(kernel_task){text, true, emit}); }

// ---- files ----

static void variants(const char *file, const char *text, bool graph, long count, uint64_t seed) {
  size_t room = strlen(text) + 4096;
  char *copy = malloc(room);
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  for (long i = 0; i <= count && copy; i++) { // variant 0 is the text itself
    snprintf(copy, room, "%s", text);
    if (i) damage(copy, room, &s);
    char *exact = strdup(copy); // reading past the end is seen
    int64_t t0 = sd_now_ns();
    if (!exact) break;
    sard_status *st = graph ? try_graph(file, exact) : try_kernel(exact, i % 16 == 0);
    double ms = (double)(sd_now_ns() - t0) * 1e-6;
    runs++;
    if (sard_status_code(st) == SARD_E_INTERNAL || (i == 0 && sard_status_code(st) > 0 && !graph)) report(file, i, exact, st);
    if (ms > 20000) report(file, i, exact, NULL), printf("took %.0f ms\n", ms);
    sard_status_free(st);
    free(exact);
  }
  free(copy);
}

static char *read_text(const char *path) {
  sd_map m;
  sard_status *st = sd_file_map(path, &m);
  if (st) {
    printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
    return NULL;
  }
  char *text = malloc(m.size + 1);
  if (text) memcpy(text, m.data, m.size), text[m.size] = 0;
  sd_file_unmap(&m);
  return text;
}

static void one_file(const char *path, bool graph, long count, uint64_t seed) {
  char *all = read_text(path);
  if (!all) {
    bad++;
    return;
  }
  char *in = strstr(all, "---- input\n"), *out = strstr(all, "---- output\n");
  if (in && out) {
    *out = 0, in += 11, out += 12;
    if (graph) variants(path, in, true, count, seed);
    if (graph && strncmp(out, "// after", 8) == 0 && strstr(out, "\nmodule ")) variants(path, out, true, count, seed);
    for (char *k = graph ? NULL : strstr(out, "kernel \""); k;) {
      char *next = strstr(k + 1, "\n#");
      if (next) *next++ = 0;
      variants(path, k, false, count, seed);
      k = next ? strstr(next, "kernel \"") : NULL;
    }
  } else {
    variants(path, all, graph, count, seed);
  }
  free(all);
}

int main(int argc, char **argv) {
  if (argc < 5 || (strcmp(argv[1], "graph") && strcmp(argv[1], "kernel"))) {
    fprintf(stderr, "usage: text_fuzz graph|kernel N SEED FILE...\n");
    return 2;
  }
  for (int i = 4; i < argc; i++) one_file(argv[i], strcmp(argv[1], "graph") == 0, strtol(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
  printf("text_fuzz %s: %ld runs, %ld accepted, %ld bad\n", argv[1], runs, accepted, bad);
  return bad != 0;
}
