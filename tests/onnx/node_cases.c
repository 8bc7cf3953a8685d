// Runs ONNX's node tests (folders with model.onnx and test_data_set_*/input_*.pb, output_*.pb) on the interpreter.
//
// usage: node_cases [-v] [-s | -u] [DIR [PREFIX...]]   each case runs in its own process: a crash or a hang is one
// failed case. -s, -u: the forms of the models with symbolic dims (make_cases.py) instead of the static ones.
// DIR: by default $SARD_ONNX_CASES, else a temporary folder that make_cases.py fills from the Python package onnx.
// Where a case is refused because shapes depend on an input, its model_const.onnx (small inputs as constants) is run.
// Exit status 1 when a case fails; "unsupported" (a clear refusal) is counted apart.
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/onnx/import.h"
#include "frontend/onnx/tensor_proto.h"
#include "ir/eval.h"
#include "runtime/base/file.h"

#ifndef SARD_TEST_DIR
#define SARD_TEST_DIR "tests/onnx" // from the top of the project
#endif

enum { MAX_TENSORS = 64, CASE_SECONDS = 20 };
enum outcome { PASSED, FAILED, UNSUPPORTED, BROKEN, N_OUTCOMES };
static const char *const outcome_names[N_OUTCOMES] = {"pass", "FAIL", "unsupported", "CRASH"};

// ---- comparison ----
typedef struct tolerance { double rtol, atol; } tolerance;

// One unit in the last place for the narrow types, else what ONNX's own runner allows.
static tolerance tolerance_of(sd_dtype t) {
  switch (sd_dtype_bits(t)) {
  case 16: return t == SD_BF16 ? (tolerance){1.6e-2, 1e-6} : (tolerance){2e-3, 1e-6};
  case 8: return (tolerance){0.13, 1e-6};
  default: return (tolerance){1e-3, 1e-7};
  }
}

static bool close_enough(double got, double want, tolerance t) {
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
  if (isinf(want) || isinf(got)) return got == want;
  return fabs(got - want) <= t.atol + t.rtol * fabs(want);
}

static bool compare(const sd_evalue *got, const sd_const *want, int index) {
  bool shape = got->rank == want->rank && got->dtype == want->dtype;
  for (int i = 0; shape && i < got->rank; i++) shape = got->dims[i] == want->dims[i];
  if (!shape) {
    printf("output %d: got %s[", index, sd_dtype_name(got->dtype));
    for (int i = 0; i < got->rank; i++) printf("%s%lld", i ? "," : "", (long long)got->dims[i]);
    printf("], expected %s[", sd_dtype_name(want->dtype));
    for (int i = 0; i < want->rank; i++) printf("%s%lld", i ? "," : "", (long long)want->dims[i]);
    printf("]");
    return false;
  }
  tolerance t = tolerance_of(got->dtype);
  for (uint64_t i = 0; i < want->count; i++) {
    if (sd_dtype_is_float(want->dtype)) {
      double g = sd_dtype_get_f64(got->dtype, got->data, i), w = sd_dtype_get_f64(want->dtype, want->data, i);
      if (close_enough(g, w, t)) continue;
      printf("output %d[%llu] is %.9g, expected %.9g", index, (unsigned long long)i, g, w);
    } else {
      int64_t g = sd_dtype_get_i64(got->dtype, got->data, i), w = sd_dtype_get_i64(want->dtype, want->data, i);
      if (g == w) continue;
      printf("output %d[%llu] is %lld, expected %lld", index, (unsigned long long)i, (long long)g, (long long)w);
    }
    return false;
  }
  return true;
}

// ---- one case, in its process ----
static int report(sard_status *st) {
  int code = sard_status_code(st);
  printf("%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return code == SARD_E_UNSUPPORTED ? UNSUPPORTED : FAILED;
}

// Reads <set>/<kind>_<i>.pb for i = 0.. ; returns the number, -1 when one is no tensor.
static int read_tensors(sd_arena *a, const char *set, const char *kind, const sd_const **out, const char **names) {
  for (int i = 0; i < MAX_TENSORS; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s_%d.pb", set, kind, i);
    if (access(path, R_OK)) return i;
    sd_map m;
    sd_const *c = NULL;
    sard_status *st = sd_file_map(path, &m);
    if (!st) st = sd_tensor_proto_read(a, m.data, m.size, &c, &names[i]);
    if (st) {
      sard_status_free(st);
      return -1;
    }
    out[i] = c;
  }
  return MAX_TENSORS;
}

// The given tensors in the order of the graph's inputs: by name, or by position where the file has no names.
static bool bind_inputs(const sd_module *m, const sd_const *const *given, const char *const *names, int n,
                        sd_evalue *out) {
  for (uint32_t i = 0; i < m->main->inputs.len; i++) {
    const sd_const *c = NULL;
    for (int j = 0; j < n && !c; j++)
      if (!strcmp(names[j], m->main->inputs.at[i]->name)) c = given[j];
    if (!c && (int)i < n && !names[i][0]) c = given[i];
    if (!c) return printf("no data for input '%s'", m->main->inputs.at[i]->name), false;
    out[i] = (sd_evalue){.dtype = c->dtype, .rank = c->rank, .data = (void *)c->data, .bytes = c->bytes};
    memcpy(out[i].dims, c->dims, (size_t)c->rank * sizeof *c->dims);
  }
  return true;
}

// Rows that only stand for other rows are expanded, as the passes do.
static sard_status *expand(sd_module *m) {
  for (bool again = true; again;) {
    again = false;
    for (sd_node *n = m->main->first, *next; n; n = next) {
      next = n->next;
      if (n->op->kind != SD_REWRITE || !n->op->rewrite) continue;
      SD_TRY(n->op->rewrite(n));
      again = true;
    }
  }
  return NULL;
}

static int run_set(sd_module *m, const char *set) {
  const sd_const *given[MAX_TENSORS], *want[MAX_TENSORS];
  sd_evalue in[MAX_TENSORS], got[MAX_TENSORS];
  const char *names[MAX_TENSORS], *out_names[MAX_TENSORS];
  int n_in = read_tensors(m->arena, set, "input", given, names);
  int n_want = read_tensors(m->arena, set, "output", want, out_names);
  if (n_in < 0 || n_want < 0) return printf("inputs or outputs that are no tensors"), UNSUPPORTED;
  if (m->main->inputs.len > MAX_TENSORS || (uint32_t)n_want != m->main->outputs.len)
    return printf("%d outputs given, the model has %u", n_want, m->main->outputs.len), FAILED;
  if (!bind_inputs(m, given, names, n_in, in)) return FAILED;
  sard_status *st = expand(m);
  if (!st) st = sd_eval_module(m, in, m->main->inputs.len, got, (uint32_t)n_want, NULL, NULL);
  if (st) return report(st);
  int result = PASSED;
  for (int i = 0; i < n_want; i++) {
    if (result == PASSED && !compare(&got[i], want[i], i)) result = FAILED;
    sd_eval_free(&got[i]);
  }
  return result;
}

static int run_model(const char *folder, const char *model) {
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", folder, model);
  sard_source src = {.size = sizeof src, .path = path};
  sd_module *m = NULL;
  sard_status *st = sd_import_onnx(&src, &m);
  if (st) return report(st);
  int result = PASSED;
  for (int i = 0; result == PASSED; i++) {
    snprintf(path, sizeof path, "%s/test_data_set_%d", folder, i);
    struct stat s;
    if (stat(path, &s)) return i ? PASSED : (printf("no test data"), FAILED);
    result = run_set(m, path);
  }
  return result;
}

static int run_case(const char *folder, const char *form) {
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", folder, form);
  if (access(path, R_OK)) return printf("there is no %s", form), UNSUPPORTED;
  if (strcmp(form, "model.onnx")) return run_model(folder, form);
  int r = run_model(folder, "model.onnx");
  snprintf(path, sizeof path, "%s/model_const.onnx", folder);
  if (r != UNSUPPORTED || access(path, R_OK)) return r;
  printf(" | as constants: ");
  return run_model(folder, "model_const.onnx");
}

// Runs the case in a child and reads what it printed into `text`.
static enum outcome isolate(const char *folder, const char *form, char *text, size_t room) {
  int fd[2], status = 0;
  size_t len = 0;
  ssize_t got;
  if (pipe(fd)) return BROKEN;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    dup2(fd[1], 1);
    close(fd[0]);
    alarm(CASE_SECONDS);
    int r = run_case(folder, form);
    fflush(stdout);
    _exit(r);
  }
  close(fd[1]);
  while (len + 1 < room && (got = read(fd[0], text + len, room - 1 - len)) > 0) len += (size_t)got;
  text[len] = 0;
  close(fd[0]);
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) >= N_OUTCOMES) {
    snprintf(text + len, room - len, " (%s %d)", WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return BROKEN;
  }
  return (enum outcome)WEXITSTATUS(status);
}

// ---- the list ----
static bool wanted(const char *name, char **prefixes) {
  if (!*prefixes) return true;
  for (; *prefixes; prefixes++)
    if (!strncmp(name, *prefixes, strlen(*prefixes))) return true;
  return false;
}

static const char *make_cases(void) {
  static char dir[] = "/tmp/sard-onnx-cases-XXXXXX";
  char command[8192];
  if (!mkdtemp(dir)) return NULL;
  snprintf(command, sizeof command, "python3 '%s/make_cases.py' '%s' >&2", SARD_TEST_DIR, dir);
  return system(command) == 0 ? dir : NULL;
}

int main(int argc, char **argv) {
  bool verbose = false;
  const char *form = "model.onnx";
  int arg = 1;
  for (; arg < argc && argv[arg][0] == '-'; arg++) {
    if (!strcmp(argv[arg], "-v")) verbose = true;
    else if (!strcmp(argv[arg], "-s")) form = "model_symbolic.onnx";
    else if (!strcmp(argv[arg], "-u")) form = "model_unique.onnx";
    else return fprintf(stderr, "node_cases: unknown option %s\n", argv[arg]), 2;
  }
  const char *dir = argc > arg ? argv[arg] : getenv("SARD_ONNX_CASES");
  char **prefixes = argc > arg ? argv + arg + 1 : argv + argc;
  struct dirent **names;
  uint32_t count[N_OUTCOMES] = {0};
  if (!dir) dir = make_cases();
  int n = dir ? scandir(dir, &names, NULL, alphasort) : -1;
  if (n < 0) return fprintf(stderr, "node_cases: no cases: set SARD_ONNX_CASES\n"), 77;
  for (int i = 0; i < n; i++) {
    char folder[4096], text[65536];
    if (names[i]->d_name[0] == '.' || !wanted(names[i]->d_name, prefixes)) continue;
    snprintf(folder, sizeof folder, "%s/%s", dir, names[i]->d_name);
    enum outcome r = isolate(folder, form, text, sizeof text);
    count[r]++;
    for (char *p = text; *p; p++)
      if (*p == '\n') *p = ' ';
    if (verbose || r == FAILED || r == BROKEN) printf("%-12s%s: %.3000s\n", outcome_names[r], names[i]->d_name, text);
  }
  printf("%u passed, %u failed, %u unsupported\n", count[PASSED], count[FAILED] + count[BROKEN], count[UNSUPPORTED]);
  return count[FAILED] + count[BROKEN] ? 1 : 0;
}
