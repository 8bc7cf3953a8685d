// Runs ONNX's own backend cases (folders made by make_cases.py) as an application would: open the .onnx, make a session,
// run it, compare. Other processes than this one run them: a crash or a hang is one failed case.
//
// usage: backend_cases [-j JOBS] [-o FILE] [-f FORM]... DIR [PREFIX...]
// -f: a row of `forms` (the usual ones when none is named). -o: a table of case, form, result, seconds of processor time and
// message, one line for each.
// Prints the numbers for each form; the results are judged by judge.py.
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frontend/onnx/import.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/io/tensor_io.h"
#include "sard/sard_compile.h"
#include "tests/onnx/compare.h"
#include "tests/onnx/prefixes.h"
#include "tests/support/warm.h"

enum { MAX_TENSORS = 64, MAX_JOBS = 64, CASES_OF_A_PROCESS = 24 };
enum { CPU_SECONDS = 60, CASE_SECONDS = 300 }; // of a case: more of the first is too slow, of the second a hang
enum outcome { PASSED, FAILED, UNSUPPORTED, CRASHED, SKIPPED, N_OUTCOMES };
static const char *const outcome_names[N_OUTCOMES] = {"pass", "fail", "unsupported", "crash", "skip"};

typedef struct form {
  const char *name, *file;
  const char *opt; // level of the compiler; NULL: the interpreter
  const char *device;
} form;
static const form forms[] = {
    {"plain", "model.onnx", "3", "cpu"},
    {"symbolic", "model_symbolic.onnx", "3", "cpu"},
    {"unique", "model_unique.onnx", "3", "cpu"},
    {"open", "model_open.onnx", "2", "cpu"},
    {"const", "model_const.onnx", "3", "cpu"},
    {"folded", "model_folded.onnx", "3", "cpu"},
    {"O0", "model.onnx", "0", "cpu"},
    {"interpreter", "model.onnx", NULL, "cpu"},
    {"cuda", "model.onnx", "3", "cuda"}, // from here on when named only
    {"cuda-symbolic", "model_symbolic.onnx", "3", "cuda"},
};
enum { N_FORMS = sizeof forms / sizeof *forms, N_USUAL = 8 };

typedef struct result {
  int outcome;
  double seconds; // of processor time
  char text[TEXT];
} result;

// ---- the data of a case ----
typedef struct names {
  int n;
  char *at[MAX_TENSORS];
} names;
typedef struct given {
  sard_context *ctx;
  const char *folder, *set;
  tolerance tol;
  bool large;
  names inputs; // of model.onnx: the order of the input files
  sard_tensor *in[MAX_TENSORS], *out[MAX_TENSORS], *want[MAX_TENSORS];
  int n_in, n_want;
} given;

static int tell(sard_status *st, char *text) {
  int code = sard_status_code(st);
  snprintf(text, TEXT, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return code == SARD_E_UNSUPPORTED ? UNSUPPORTED : FAILED;
}

static bool read_case(given *g, char *text) {
  char path[4200], line[4096], *end;
  snprintf(path, sizeof path, "%s/case.txt", g->folder);
  FILE *f = fopen(path, "r");
  if (!f || !fgets(line, sizeof line, f)) return snprintf(text, TEXT, "case.txt cannot be read"), false;
  g->tol.rtol = strtod(line, &end), g->tol.atol = strtod(end, &end);
  g->large = strstr(end, "large") != NULL;
  while (g->inputs.n < MAX_TENSORS && fgets(line, sizeof line, f)) {
    line[strcspn(line, "\n")] = 0;
    g->inputs.at[g->inputs.n++] = strdup(line);
  }
  fclose(f);
  return true;
}

// kind: SARD_SEQUENCE and so on, or any element type.
static sard_status *read_value(given *g, const char *what, int i, int32_t kind, sard_tensor **out) {
  char path[4300];
  snprintf(path, sizeof path, "%s/%s_%d.pb", g->set, what, i);
  return sd_value_read(g->ctx, path, kind, out);
}

static int position_of(const given *g, const char *name) {
  for (int i = 0; i < g->inputs.n; i++)
    if (!strcmp(g->inputs.at[i], name)) return i;
  return -1;
}

static void forget(given *g) {
  for (int i = 0; i < g->n_in; i++) sard_tensor_free(g->in[i]);
  for (int i = 0; i < g->n_want; i++) sard_tensor_free(g->out[i]), sard_tensor_free(g->want[i]);
  memset(g->in, 0, sizeof g->in), memset(g->out, 0, sizeof g->out), memset(g->want, 0, sizeof g->want);
}

static int compare_all(given *g, char *text) {
  for (int i = 0; i < g->n_want; i++)
    if (!same_value(g->out[i], g->want[i], g->tol, i, text)) return FAILED;
  return PASSED;
}

// What runs the model: `run` fills g->out; `port` gives name and kind of an input or output.
typedef struct port {
  const char *name;
  int32_t kind;
} port;
typedef struct engine {
  sard_status *(*run)(void *user, given *g);
  port (*port)(void *user, bool output, int i);
  void *user;
} engine;

// Runs each data set, its values in g.
static int each_set(given *g, const engine *e, char *text) {
  char set[4200];
  struct stat s;
  for (int k = 0;; k++) {
    snprintf(set, sizeof set, "%s/test_data_set_%d", g->folder, k);
    if (stat(set, &s)) return k ? PASSED : (snprintf(text, TEXT, "no test data"), FAILED);
    g->set = set;
    sard_status *st = NULL;
    for (int i = 0; i < g->n_in && !st; i++) {
      port p = e->port(e->user, false, i);
      int at = position_of(g, p.name);
      if (at < 0) return snprintf(text, TEXT, "no data for input '%s'", p.name), FAILED;
      st = read_value(g, "input", at, p.kind, &g->in[i]);
    }
    for (int i = 0; i < g->n_want && !st; i++) st = read_value(g, "output", i, e->port(e->user, true, i).kind, &g->want[i]);
    if (!st) st = e->run(e->user, g);
    int r = st ? tell(st, text) : compare_all(g, text);
    forget(g);
    if (r != PASSED) return r;
  }
}

// ---- compiled: the public interface ----
typedef struct opened {
  sard_model *model;
  sard_session *session;
} opened;

static port model_port(void *user, bool output, int i) {
  sard_tensor_desc d = {.size = sizeof d};
  sard_status_free(sard_model_io(((opened *)user)->model, output, i, &d));
  return (port){d.name ? d.name : "", d.dtype};
}

static sard_status *run_session(void *user, given *g) {
  return sard_session_run(((opened *)user)->session, g->in, g->n_in, g->out, g->n_want);
}

static sard_status *open_model(given *g, const char *path, const form *f, opened *o) {
  sard_source src = {.size = sizeof src, .path = path};
  sard_options *options = sard_options_new();
  sard_status *st = sard_options_set(options, "opt", f->opt);
  if (!st) st = sard_options_set(options, "device", f->device);
  if (!st) st = sard_options_set(options, "threads", "1");
  if (!st) st = sard_model_open(g->ctx, &src, options, &o->model);
  if (!st) st = sard_session_new(o->model, NULL, &o->session);
  sard_options_free(options);
  return st;
}

static int run_compiled(given *g, const char *path, const form *f, char *text) {
  opened o = {0};
  sard_status *st = open_model(g, path, f, &o);
  if (st) return tell(st, text);
  g->n_in = sard_model_io_count(o.model, 0), g->n_want = sard_model_io_count(o.model, 1);
  int r = g->n_in > MAX_TENSORS || g->n_want > MAX_TENSORS ? (snprintf(text, TEXT, "too many inputs or outputs"), FAILED)
                                                           : each_set(g, &(engine){run_session, model_port, &o}, text);
  sard_session_free(o.session);
  sard_model_free(o.model);
  return r;
}

// ---- interpreted ----
static port graph_port(void *user, bool output, int i) {
  const sd_graph *g = ((sd_module *)user)->main;
  const sd_value *v = output ? g->outputs.at[i] : g->inputs.at[i];
  return (port){v->name, (int32_t)v->dtype};
}

// It computes with numbers only: texts and objects are tables of a session.
static bool has_numbers(const sd_module *m) {
  for (uint32_t i = 0; i < m->main->inputs.len + m->main->outputs.len; i++) {
    const sd_value *v = i < m->main->inputs.len ? m->main->inputs.at[i] : m->main->outputs.at[i - m->main->inputs.len];
    if (v->dtype == SD_STRING || v->dtype == SD_OBJECT) return false;
  }
  return true;
}

static sard_status *to_tensor(given *g, const sd_evalue *e, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)e->dtype, .rank = e->rank};
  memcpy(d.dims, e->dims, sizeof d.dims);
  SD_TRY(sard_tensor_new(g->ctx, &d, out));
  if (e->bytes) memcpy(sard_tensor_data(*out, NULL), e->data, e->bytes);
  return NULL;
}

static sard_status *interpret(void *user, given *g) {
  sd_module *m = user;
  sd_evalue in[MAX_TENSORS], out[MAX_TENSORS];
  for (int i = 0; i < g->n_in; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    void *data = sard_tensor_data(g->in[i], &d);
    uint64_t count = 1;
    in[i] = (sd_evalue){.dtype = (sd_dtype)d.dtype, .rank = d.rank, .data = data};
    for (int k = 0; k < d.rank; k++) in[i].dims[k] = d.dims[k], count *= (uint64_t)d.dims[k];
    sd_dtype_bytes(in[i].dtype, count, &in[i].bytes);
  }
  SD_TRY(sd_eval_module(m, in, (uint32_t)g->n_in, out, (uint32_t)g->n_want, NULL, NULL));
  sard_status *st = NULL;
  for (int i = 0; i < g->n_want; i++) {
    if (!st) st = to_tensor(g, &out[i], &g->out[i]);
    sd_eval_free(&out[i]);
  }
  return st;
}

// The interpreter knows no rows that only stand for others: they are rewritten first.
static int run_interpreted(given *g, const char *path, char *text) {
  sard_source src = {.size = sizeof src, .path = path};
  sd_pass_options o = {.bisect = -1};
  sd_module *m = NULL;
  sard_status *st = sd_import_onnx(&src, &m);
  if (!st) st = sd_passes_run(m, &o, NULL, "rewrite", NULL, NULL);
  if (st) return tell(st, text);
  if (!has_numbers(m)) return sd_module_free(m), SKIPPED;
  g->n_in = (int)m->main->inputs.len, g->n_want = (int)m->main->outputs.len;
  int r = g->n_in > MAX_TENSORS || g->n_want > MAX_TENSORS ? (snprintf(text, TEXT, "too many inputs or outputs"), FAILED)
                                                           : each_set(g, &(engine){interpret, graph_port, m}, text);
  sd_module_free(m);
  return r;
}

static int run_case(sard_context *ctx, const char *folder, const form *f, char *text) {
  given g = {.ctx = ctx, .folder = folder};
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", folder, f->file);
  if (access(path, R_OK)) return SKIPPED;
  if (!read_case(&g, text)) return FAILED;
  if (g.large && (!f->opt || !strcmp(f->opt, "0"))) return SKIPPED; // minutes
  int r = f->opt ? run_compiled(&g, path, f, text) : run_interpreted(&g, path, text);
  for (int i = 0; i < g.inputs.n; i++) free(g.inputs.at[i]);
  return r;
}

// ---- jobs ----
// A process runs some cases after each other, so that what it makes once and the pages it touches are not paid for by each.
// Where one of them ends the process, the next one goes on behind it.
typedef struct job {
  pid_t pid;
  int next, end; // in results: the case that runs, behind the last one
} job;
typedef struct plan {
  const char *dir;
  struct dirent **cases;
  int n_cases, n_forms, jobs;
  const form *forms[N_FORMS];
  result *results; // [form][case], shared with the children
  job *running;    // [jobs], shared too
  double seconds[N_FORMS];
  sard_context *ctx;
} plan;

static double seconds_of(struct timeval t) { return (double)t.tv_sec + 1e-6 * (double)t.tv_usec; }

static double used_by(const struct rusage *u) { return seconds_of(u->ru_utime) + seconds_of(u->ru_stime); }

static double used_seconds(void) {
  struct rusage u;
  return getrusage(RUSAGE_SELF, &u) ? 0 : used_by(&u);
}

static void run_next(plan *p, int at) {
  result *r = &p->results[at];
  char folder[4096];
  double before = used_seconds();
  snprintf(folder, sizeof folder, "%s/%s", p->dir, p->cases[at % p->n_cases]->d_name);
  setrlimit(RLIMIT_CPU, &(struct rlimit){(rlim_t)before + CPU_SECONDS, RLIM_INFINITY});
  alarm(CASE_SECONDS);
  r->outcome = run_case(p->ctx, folder, p->forms[at / p->n_cases], r->text);
  r->seconds = used_seconds() - before;
}

static bool on_cpu(const plan *p, int at) { return !strcmp(p->forms[at / p->n_cases]->device, "cpu"); }

// The job's cases from `next` on.
static void start(plan *p, job *j) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid != 0) {
    j->pid = pid; // of the parent only: children share the job
    return;
  }
  for (int at = j->next; at < j->end; j->next = ++at) run_next(p, at);
  if (on_cpu(p, j->end - 1)) _exit(0);
  sard_context_free(p->ctx);
  exit(0); // the driver may have something to say
}

// The case that ended its process; of a process that was done, the last one.
static void crashed(plan *p, job *j, int status, const struct rusage *used) {
  if (j->next == j->end) j->next--;
  result *r = &p->results[j->next++];
  int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (sig == SIGALRM) snprintf(r->text, TEXT, "not done in %d seconds", CASE_SECONDS);
  else if (sig == SIGXCPU) snprintf(r->text, TEXT, "takes more than %d seconds of CPU time", CPU_SECONDS);
  else snprintf(r->text, TEXT, "%s %d", sig ? "signal" : "exit", sig ? sig : WEXITSTATUS(status));
  r->outcome = CRASHED;
  r->seconds = used_by(used); // with those before it
}

// Waits for a process; true when the cases of its job are done.
static bool finish(plan *p) {
  int status;
  struct rusage used;
  pid_t pid = wait4(-1, &status, 0, &used);
  job *j = p->running;
  while (j < p->running + p->jobs && j->pid != pid) j++;
  if (j == p->running + p->jobs) return false;
  j->pid = 0;
  if (!WIFEXITED(status) || WEXITSTATUS(status)) crashed(p, j, status, &used);
  if (j->next < j->end) start(p, j);
  return !j->pid;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_form(plan *p, int form_at) {
  int at = form_at * p->n_cases, end = at + p->n_cases, running = 0;
  int some = on_cpu(p, at) ? CASES_OF_A_PROCESS : 1; // what a driver says at the end is about one case
  double t0 = now();
  while (at < end || running) {
    if (at < end && running < p->jobs) {
      job *j = p->running;
      while (j->pid) j++;
      j->next = at, j->end = at = at + some < end ? at + some : end;
      start(p, j);
      running++;
      continue;
    }
    if (finish(p)) running--;
  }
  p->seconds[form_at] = now() - t0;
}

// ---- reports ----
static void report_form(const plan *p, int f) {
  int count[N_OUTCOMES] = {0};
  for (int i = 0; i < p->n_cases; i++) count[p->results[f * p->n_cases + i].outcome]++;
  printf("%-12s", p->forms[f]->name);
  for (int o = 0; o < N_OUTCOMES; o++) printf(" %5d %s%s", count[o], outcome_names[o], o == N_OUTCOMES - 1 ? "" : ",");
  printf("  (%.0f s)\n", p->seconds[f]);
  fflush(stdout);
}

static bool write_table(const plan *p, const char *path) {
  FILE *f = fopen(path, "w");
  if (!f) return false;
  for (int i = 0; i < p->n_forms * p->n_cases; i++) {
    result *r = &p->results[i];
    if (r->outcome == SKIPPED) continue;
    for (char *c = r->text; *c; c++)
      if ((unsigned char)*c < ' ') *c = ' ';
    fprintf(f, "%s\t%s\t%s\t%.3f\t%s\n", p->cases[i % p->n_cases]->d_name, p->forms[i / p->n_cases]->name,
            outcome_names[r->outcome], r->seconds, r->text);
  }
  return fclose(f) == 0;
}

// ---- arguments ----
static const form *form_of(const char *name) {
  for (int i = 0; i < N_FORMS; i++)
    if (!strcmp(forms[i].name, name)) return &forms[i];
  return NULL;
}

static int usage(void) {
  fprintf(stderr, "usage: backend_cases [-j JOBS] [-o FILE] [-f FORM]... DIR [PREFIX...]\nforms:");
  for (int i = 0; i < N_FORMS; i++) fprintf(stderr, " %s", forms[i].name);
  fprintf(stderr, "\n");
  return 2;
}

static void *shared_zeros(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv) {
  plan p = {.jobs = 2};
  const char *table = NULL;
  for (int c; (c = getopt(argc, argv, "j:o:f:")) != -1;) {
    if (c == 'j') p.jobs = atoi(optarg);
    else if (c == 'o') table = optarg;
    else if (c == 'f' && p.n_forms < N_FORMS && form_of(optarg)) p.forms[p.n_forms++] = form_of(optarg);
    else return usage();
  }
  if (optind >= argc || p.jobs < 1 || p.jobs > MAX_JOBS) return usage();
  if (!p.n_forms)
    for (; p.n_forms < N_USUAL; p.n_forms++) p.forms[p.n_forms] = &forms[p.n_forms];
  p.dir = argv[optind], prefixes = argv + optind + 1;
  p.n_cases = scandir(p.dir, &p.cases, is_wanted, alphasort);
  if (p.n_cases <= 0 || !(p.ctx = warm_up())) return fprintf(stderr, "backend_cases: no cases in %s\n", p.dir), 2;
  p.results = shared_zeros((size_t)p.n_forms * (size_t)p.n_cases * sizeof *p.results);
  p.running = shared_zeros((size_t)p.jobs * sizeof *p.running);
  if (!p.results || !p.running) return perror("backend_cases"), 2;
  for (int f = 0; f < p.n_forms; f++) {
    run_form(&p, f);
    report_form(&p, f);
  }
  if (table && !write_table(&p, table)) return perror(table), 2;
  return 0;
}
