// Models with symbolic dims at many sizes: one artifact and one session for all of them. Results are those of
// the model compiled for that size alone, and once all sizes have been there the memory of the process stays
// what it is.
//
// usage: size_cases DIR [NAME...]   DIR: folders with model.onnx and test_data_set_0, whose numbers fill the
// inputs Each model runs in a process of its own. Last line: N passed, N failed.
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/subject.h"

enum { SIZES = 20, ROUNDS = 4, ALONE = 10 }; // every ALONE-th size is compared with a model of its own
enum { SECONDS = 900 };
// Bytes: which free block malloc takes, and how much of one is too small for others, differs from round to round.
enum { SLACK = 32 << 10 };

// ---- blocks that live: their number is exact ----

static _Atomic long blocks;
void *__libc_malloc(size_t size), *__libc_calloc(size_t n, size_t size),
    *__libc_realloc(void *p, size_t size), *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static void *counted(void *p) {
  if (p) blocks++;
  return p;
}
void *malloc(size_t size) { return counted(__libc_malloc(size)); }
void *calloc(size_t n, size_t size) { return counted(__libc_calloc(n, size)); }
void *memalign(size_t align, size_t size) { return counted(__libc_memalign(align, size)); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **at, size_t align, size_t size) {
  return (*at = memalign(align, size)) ? 0 : ENOMEM;
}
void free(void *p) {
  if (p) blocks--;
  __libc_free(p);
}
void *realloc(void *p, size_t size) {
  void *q = __libc_realloc(p, size);
  if (!p && q) blocks++;
  if (p && !q && !size) blocks--; // freed
  return q;
}

// ---- the same, compiled for these sizes alone ----

static sard_status *run_alone(subject *s, values *in, values *out) {
  char path[4200], key[300], value[32];
  sard_options *o = sard_options_new();
  sard_model *m = NULL;
  sard_session *session = NULL;
  sard_status *st = sard_options_set(o, "threads", "1");
  for (int i = 0; i < s->n_symbols && !st; i++) {
    snprintf(key, sizeof key, "dim:%s", s->symbols[i].name);
    snprintf(value, sizeof value, "%lld", (long long)s->symbols[i].size);
    st = sard_options_set(o, key, value);
  }
  snprintf(path, sizeof path, "%s/model.onnx", s->folder);
  sard_source src = {.size = sizeof src, .path = path};
  if (!st) st = sard_compile(s->ctx, &src, o, &m, NULL);
  if (!st) st = sard_session_new(m, NULL, &session);
  if (!st) st = sard_session_run(session, in->at, s->n_in, out->at, s->n_out);
  sard_session_free(session), sard_model_free(m), sard_options_free(o);
  return st;
}

// ---- one model ----

static sard_status *open_subject(subject *s, const char *at) {
  char path[4200];
  snprintf(path, sizeof path, "%s/model.onnx", s->folder);
  sard_source from = {.size = sizeof from, .path = path},
              artifact = {.size = sizeof artifact, .path = at};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "1");
  if (!st) st = sard_context_new(o, &s->ctx);
  sard_options_free(o);
  if (!st) st = sard_compile_file(&from, NULL, at, NULL);
  if (!st) st = sard_model_open(s->ctx, &artifact, NULL, &s->model);
  if (!st) st = sard_session_new(s->model, NULL, &s->session);
  return st ? st : subject_read(s);
}

static void tell(const subject *s, int at, const char *what) {
  printf("FAIL %s", s->folder);
  for (int i = 0; i < s->n_symbols && at >= 0; i++)
    printf(" %s=%lld", s->symbols[i].name, (long long)s->symbols[i].size);
  printf(": %s\n", what);
}

// Runs size `at`; with `alone` it is compared. False after a failure. *ran: sizes that the model takes.
static bool run_size(subject *s, int at, bool alone, int *ran) {
  values in = {0}, out = {0}, want = {0};
  char text[400] = "";
  subject_choose(s, at);
  sard_status *st = subject_inputs(s, &in), *other = NULL;
  if (!st) st = sard_session_run(s->session, in.at, s->n_in, out.at, s->n_out);
  if (alone || st) other = run_alone(s, &in, &want);
  bool index = st && strstr(sard_status_text(st, SARD_TEXT_MESSAGE),
                            "index"); // recorded ones may lie outside of these sizes
  if (st && !other && !index) snprintf(text, sizeof text, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  if (!st && other) snprintf(text, sizeof text, "alone: %s", sard_status_text(other, SARD_TEXT_MESSAGE));
  for (int i = 0; i < s->n_out && alone && !st && !other && !*text; i++)
    if (!subject_same(out.at[i], want.at[i], 2e-2))
      snprintf(text, sizeof text, "output %d differs from that of the model compiled for this size", i);
  *ran += !st;
  if (*text) tell(s, at, text);
  values_forget(&in), values_forget(&out), values_forget(&want);
  sard_status_free(st), sard_status_free(other);
  return !*text;
}

static size_t used(void) {
  struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

// LEFT_OUT: no symbols, or other sizes than the recorded ones do not fit together.
static int run_model(subject *s, const char *artifact) {
  int ran = 0;
  size_t before = SIZE_MAX - SLACK; // where there is no time for rounds
  long lived = LONG_MAX;
  time_t enough = time(NULL) + 60;
  sard_status *st = open_subject(s, artifact);
  if (st) return tell(s, -1, sard_status_text(st, SARD_TEXT_MESSAGE)), sard_status_free(st), BAD;
  if (!s->n_symbols) return subject_close(s), LEFT_OUT;
  for (int at = 0; at < SIZES; at++)
    if (!run_size(s, at, at % ALONE == 1, &ran)) return BAD;
  printf("%s: %d of %d sizes%s\n", s->folder, ran, SIZES, ran < SIZES / 4 ? ", left out" : "");
  if (ran < SIZES / 4) return subject_close(s), LEFT_OUT;
  for (int round = 1; round < ROUNDS && time(NULL) < enough; round++) {
    if (round == 1) before = used(), lived = blocks;
    for (int at = 0; at < SIZES; at++) {
      values in = {0}, out = {0};
      subject_choose(s, at);
      st = subject_inputs(s, &in);
      if (!st) st = sard_session_run(s->session, in.at, s->n_in, out.at, s->n_out);
      sard_status_free(st);
      values_forget(&in), values_forget(&out);
    }
  }
  if (blocks > lived || used() > before + SLACK) {
    printf("%ld blocks and %zu bytes, then %ld and %zu\n", lived, before, (long)blocks, used());
    return tell(s, -1, "memory grows from round to round"), BAD;
  }
  subject_close(s);
  return GOOD;
}

static int in_process(const char *dir, const char *name) {
  char folder[4096], artifact[] = "/tmp/sard-sizes-XXXXXX";
  int status, file = mkstemp(artifact);
  if (file < 0) return perror(artifact), BAD;
  close(file);
  snprintf(folder, sizeof folder, "%s/%s", dir, name);
  fflush(stdout);
  pid_t pid = fork();
  if (!pid) {
    subject s = {.folder = folder};
    alarm(SECONDS);
    int r = run_model(&s, artifact);
    fflush(stdout);
    _exit(r);
  }
  if (pid < 0 || waitpid(pid, &status, 0) < 0) status = BAD << 8;
  unlink(artifact);
  if (WIFEXITED(status) && WEXITSTATUS(status) <= LEFT_OUT) return WEXITSTATUS(status);
  printf("FAIL %s: ended by signal %d, exit %d\n", folder, WTERMSIG(status), WEXITSTATUS(status));
  return BAD;
}

// What malloc keeps for a thread counts as used and hides what grows: once more without that.
static void keep_nothing(char **argv) {
  const char *name = "GLIBC_TUNABLES", *wanted = "glibc.malloc.tcache_count=0";
  if (getenv(name) && !strcmp(getenv(name), wanted)) return;
  setenv(name, wanted, 1);
  execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: size_cases DIR [NAME...]\n"), 2;
  keep_nothing(argv);
  return subject_each(argv[1], argv + 2, in_process);
}
