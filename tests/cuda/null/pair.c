#include "tests/cuda/null/pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CPU_SECONDS = 200, SECONDS = 1200 };

static bool (*each)(pair *p);

bool fails(pair *p, const char *what, sard_status *st) {
  if (!st) return false;
  snprintf(p->text, sizeof p->text, "%s: %s", what, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return true;
}

bool wrong(pair *p, const char *what) {
  if (!*p->text) snprintf(p->text, sizeof p->text, "%s", what);
  return false;
}

sard_status *open_with(const pair *p, const option *options, sard_model **out) {
  char path[4200];
  snprintf(path, sizeof path, "%s/model.onnx", p->cpu.folder);
  sard_source src = {.size = sizeof src, .path = path};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "1");
  for (; !st && options->key; options++) st = sard_options_set(o, options->key, options->value);
  if (!st) st = sard_model_open(p->cpu.ctx, &src, o, out);
  sard_options_free(o);
  return st;
}

static sard_status *open_processor(pair *p) {
  const option none[] = {{NULL, NULL}};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "1");
  if (!st) st = sard_context_new(o, &p->cpu.ctx);
  sard_options_free(o);
  if (st) return st;
  sard_compiler_use(p->cpu.ctx);
  SD_TRY(open_with(p, none, &p->cpu.model));
  SD_TRY(sard_session_new(p->cpu.model, NULL, &p->cpu.session));
  return subject_read(&p->cpu);
}

static void close_pair(pair *p) {
  values_forget(&p->in), values_forget(&p->want);
  sard_session_free(p->session), sard_model_free(p->model);
  subject_close(&p->cpu);
}

bool expect(pair *p) {
  values_forget(&p->in), values_forget(&p->want);
  sard_status *st = subject_inputs(&p->cpu, &p->in);
  if (!st) st = sard_session_run(p->cpu.session, p->in.at, p->cpu.n_in, p->want.at, p->cpu.n_out);
  bool ok = !st;
  sard_status_free(st);
  return ok;
}

sard_status *run(pair *p, sard_session *s, values *out) {
  return sard_session_run(s, p->in.at, p->cpu.n_in, out->at, p->cpu.n_out);
}

bool agree(pair *p, const values *out, const char *what) {
  for (int i = 0; i < p->cpu.n_out; i++) {
    if (subject_same(out->at[i], p->want.at[i], CLOSE)) continue;
    snprintf(p->text, sizeof p->text, "%s: output %d differs from that of the processor", what, i);
    return false;
  }
  return true;
}

bool runs_well(pair *p, sard_session *s, const char *what) {
  values out = {0};
  bool ok = !fails(p, what, run(p, s, &out)) && agree(p, &out, what);
  values_forget(&out);
  return ok;
}

static int in_process(const char *dir, const char *name) {
  char folder[4096];
  int status = 0;
  snprintf(folder, sizeof folder, "%s/%s", dir, name);
  fflush(stdout);
  pid_t pid = fork();
  if (!pid) {
    static pair p;
    p.cpu.folder = folder;
    setrlimit(RLIMIT_CPU, &(struct rlimit){CPU_SECONDS, CPU_SECONDS + 1});
    alarm(SECONDS);
    bool ok = !fails(&p, "opening", open_processor(&p)) && each(&p);
    if (!ok && !p.session) printf("FAIL %s: %s\n", folder, p.text);
    close_pair(&p);
    if (ok && (ask("live") != 0 || ask("findings") != 0))
      printf("FAIL %s: something is left on a device\n", folder), ok = false;
    fflush(stdout);
    exit(!ok); // what looks for leaks does so now
  }
  if (pid < 0 || waitpid(pid, &status, 0) < 0) return BAD;
  if (WIFSIGNALED(status)) printf("FAIL %s: signal %d\n", folder, WTERMSIG(status));
  return WIFEXITED(status) && !WEXITSTATUS(status) ? GOOD : BAD;
}

int pair_main(int argc, char **argv, bool (*try_all)(pair *p)) {
  if (argc < 2 || !getenv("SARD_CUDA"))
    return fprintf(stderr, "usage: SARD_CUDA=DRIVER %s DIR [NAME...]\n", argv[0]), 2;
  each = try_all;
  return subject_each(argv[1], argv + 2, in_process);
}
