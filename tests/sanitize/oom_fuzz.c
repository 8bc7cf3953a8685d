// Failing allocations: import, compile, load and run a model with the n-th allocation failing, n = 1, 2, ... until all
// succeed. Each try ends with SARD_E_NOMEM or success, leaks nothing (LeakSanitizer looks at the end) and leaves the
// program able to go on. Meant for ASan and UBSan builds.
//
//   oom_fuzz import|compile|run MODEL STEP      STEP: percent by which n grows beyond 200 (0: every n)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/compile_units.h"
#include "frontend/onnx/import.h"
#include "runtime/base/alloc.h"
#include "sard/sard_compile.h"

typedef struct task {
  const char *path;
  sard_context *ctx;
  sard_model *model; // run: compiled before
} task;

static sard_status *do_import(const task *t) {
  sard_source src = {.size = sizeof src, .path = t->path};
  sd_module *m = NULL;
  sard_status *st = sd_import_onnx(&src, &m);
  sd_module_free(m);
  return st;
}

static sard_status *do_compile(const task *t) {
  sard_source src = {.size = sizeof src, .path = t->path};
  sard_model *m = NULL;
  sard_options *o = sard_options_new();
  sard_status *st = o ? sard_options_set(o, "threads", "1") : SD_ERR(NOMEM, "options");
  char *json = NULL;
  if (!st) st = sard_compile(t->ctx, &src, o, &m, &json);
  sard_free(json);
  sard_options_free(o);
  sard_model_free(m);
  return st;
}

static sard_status *run_session(const task *t, sard_session *s, sard_tensor **in, int n_in) {
  sard_tensor *out[16] = {0};
  int n_out = sard_model_io_count(t->model, 1);
  sard_status *st = NULL;
  for (int i = 0; i < n_in && !st; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    st = sard_model_io(t->model, 0, i, &d);
    for (int k = 0; !st && k < d.rank; k++)
      if (d.dims[k] < 0) d.dims[k] = 2;
    if (!st) st = sard_tensor_new(t->ctx, &d, &in[i]);
    if (!st) {
      uint64_t n = 1;
      for (int k = 0; k < d.rank; k++) n *= (uint64_t)d.dims[k];
      memset(sard_tensor_data(in[i], NULL), 0, n * (d.dtype == SARD_I64 ? 8 : 4));
    }
  }
  if (!st) st = sard_session_run(s, in, n_in, out, n_out);
  for (int i = 0; i < 16; i++) sard_tensor_free(out[i]);
  return st;
}

static sard_status *do_run(const task *t) {
  sard_session *s = NULL;
  sard_tensor *in[16] = {0};
  int n_in = sard_model_io_count(t->model, 0);
  char *json = NULL;
  if (n_in > 16 || sard_model_io_count(t->model, 1) > 16) return NULL;
  sard_status *st = sard_session_new(t->model, NULL, &s);
  if (!st) st = run_session(t, s, in, n_in);
  if (!st) st = sard_session_stats(s, &json);
  if (!st) st = sard_session_reset(s);
  sard_free(json);
  for (int i = 0; i < 16; i++) sard_tensor_free(in[i]);
  sard_session_free(s);
  return st;
}

static long failures(const char *what, sard_status *(*fn)(const task *), const task *t, long step) {
  long bad = 0, tries = 0;
  for (long n = 1;; n += n < 200 || step == 0 ? 1 : 1 + n * step / 100) {
    sd_alloc_fail_after(n);
    sard_status *st = fn(t);
    sd_alloc_fail_after(0);
    int code = sard_status_code(st);
    tries++;
    if (code && code != SARD_E_NOMEM)
      bad++, printf("%s: allocation %ld: code %d: %s (%s)\n", what, n, code, sard_status_text(st, SARD_TEXT_MESSAGE), sard_status_text(st, SARD_TEXT_WHERE));
    sard_status_free(st);
    if (!code) {
      // No failure was met; a failure that is survived without an error (a cache that stays empty) also ends here.
      sd_alloc_fail_after(0);
      if (n > 1000000 || tries > 20000) break;
      static long calm;
      if (++calm > 30) break;
    }
  }
  printf("%s: %ld tries, %ld bad\n", what, tries, bad);
  return bad;
}

int main(int argc, char **argv) {
  task t = {.path = argc > 2 ? argv[2] : ""};
  const char *what = argc > 1 ? argv[1] : "";
  long step = argc > 3 ? strtol(argv[3], NULL, 10) : 3, bad = 0;
  sd_units_keep(NULL); // each compilation is a whole one
  if (argc < 3) {
    fprintf(stderr, "usage: oom_fuzz import|compile|run MODEL [STEP]\n");
    return 2;
  }
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "2");
  if (!st) st = sard_context_new(o, &t.ctx);
  sard_options_free(o);
  if (!st) sard_compiler_use(t.ctx);
  sard_source src = {.size = sizeof src, .path = t.path};
  if (!st) st = sard_compile(t.ctx, &src, NULL, &t.model, NULL); // all goes well without failures
  if (!st && strcmp(what, "import") == 0) bad = failures(what, do_import, &t, step);
  if (!st && strcmp(what, "compile") == 0) bad = failures(what, do_compile, &t, step);
  if (!st && strcmp(what, "run") == 0) bad = failures(what, do_run, &t, step);
  if (!st) st = do_run(&t); // the context and the model still work
  if (st) bad++, printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  sard_model_free(t.model);
  sard_context_free(t.ctx);
  return bad != 0;
}
