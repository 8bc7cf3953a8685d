// Models on the null driver beside the same models on the processor: repeated runs, other sizes, outputs in place, tensors
// on the device, several sessions in threads, cancelling, limits of memory.
//
// usage: device_cases DIR [NAME...]   DIR: folders with model.onnx and test_data_set_0; SARD_CUDA names the null driver
// Each model runs in a process of its own. Last line: N passed, N failed, of models.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/dtype.h"
#include "tests/cuda/null/pair.h"

enum { RUNS = 3, SIZES = 6, THREADS = 3, CANCELS = 5 };

// ---- what is tried ----
static uint64_t count_of(const sard_tensor_desc *d) {
  uint64_t n = 1;
  for (int k = 0; k < d->rank; k++) n *= (uint64_t)d->dims[k];
  return n;
}

static bool equal_bits(sard_tensor *a, sard_tensor *b) {
  sard_tensor_desc x = {.size = sizeof x}, y = {.size = sizeof y};
  const void *p = sard_tensor_data(a, &x), *q = sard_tensor_data(b, &y);
  uint64_t bytes;
  return sd_dtype_bytes((sd_dtype)x.dtype, count_of(&x), &bytes) && count_of(&x) == count_of(&y) && !memcmp(p, q, bytes);
}

// The same again: graphs are made at the second run and replayed at the third.
static bool repeats(pair *p) {
  values first = {0}, out = {0};
  bool ok = !fails(p, "first run", run(p, p->session, &first)) && agree(p, &first, "first run");
  for (int r = 1; r < RUNS && ok; r++) {
    ok = !fails(p, "run again", run(p, p->session, &out)) && agree(p, &out, "run again");
    for (int i = 0; i < p->cpu.n_out && ok; i++)
      if (!equal_bits(first.at[i], out.at[i])) ok = wrong(p, "a repeated run gives other bits");
    values_forget(&out);
  }
  values_forget(&first);
  return ok;
}

static bool other_sizes(pair *p) {
  for (int at = 0; at < SIZES && p->cpu.n_symbols; at++) {
    char what[40];
    subject_choose(&p->cpu, at);
    snprintf(what, sizeof what, "sizes %d", at);
    if (!expect(p)) continue;
    for (int r = 0; r < RUNS; r++)
      if (!runs_well(p, p->session, what)) return false;
  }
  subject_choose_recorded(&p->cpu);
  return expect(p) ? runs_well(p, p->session, "the recorded sizes again") : wrong(p, "the processor fails");
}

static bool resets(pair *p) {
  return !fails(p, "reset", sard_session_reset(p->session)) && runs_well(p, p->session, "after a reset") &&
         runs_well(p, p->session, "after a reset");
}

static bool in_place(pair *p) {
  values out = {0};
  bool ok = !fails(p, "outputs", run(p, p->session, &out));
  for (int r = 0; r < RUNS && ok; r++) {
    for (int i = 0; i < p->cpu.n_out; i++) {
      sard_tensor_desc d = {.size = sizeof d};
      uint64_t bytes = 0;
      void *data = sard_tensor_data(out.at[i], &d);
      if (sd_dtype_bytes((sd_dtype)d.dtype, count_of(&d), &bytes) && bytes) memset(data, 0xa5, bytes);
    }
    ok = !fails(p, "outputs in place", run(p, p->session, &out)) && agree(p, &out, "outputs in place");
  }
  values_forget(&out);
  return ok;
}

static sard_status *on_device(pair *p, sard_tensor *from, bool copy, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d};
  sard_tensor_data(from, &d);
  d.device = SARD_CUDA, d.device_id = 0;
  SD_TRY(sard_tensor_new(p->cpu.ctx, &d, out));
  return copy ? sard_tensor_copy(*out, from) : NULL;
}

// Inputs and outputs stay on the device, at other addresses each time that this is called.
static sard_status *run_there(pair *p, values *back) {
  values in = {0}, out = {0};
  sard_status *st = NULL;
  for (int i = 0; i < p->cpu.n_in && !st; i++) st = on_device(p, p->in.at[i], true, &in.at[i]);
  for (int i = 0; i < p->cpu.n_out && !st; i++) st = on_device(p, p->want.at[i], false, &out.at[i]);
  for (int r = 0; r < RUNS && !st; r++) st = sard_session_run(p->session, in.at, p->cpu.n_in, out.at, p->cpu.n_out);
  for (int i = 0; i < p->cpu.n_out && !st; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    sard_tensor_data(p->want.at[i], &d);
    st = sard_tensor_new(p->cpu.ctx, &d, &back->at[i]);
    if (!st) st = sard_tensor_copy(back->at[i], out.at[i]);
  }
  values_forget(&in), values_forget(&out);
  return st;
}

static bool stays_there(pair *p) {
  for (int again = 0; again < 2; again++) {
    values back = {0};
    sard_status *st = run_there(p, &back);
    bool open = sard_status_code(st) == SARD_E_UNSUPPORTED && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), "shape that the run decides");
    if (open) sard_status_free(st);
    bool ok = open || (!fails(p, "tensors on the device", st) && agree(p, &back, "tensors on the device"));
    values_forget(&back);
    if (!ok) return false;
  }
  return runs_well(p, p->session, "tensors of the host again");
}

typedef struct worker {
  pair *p;
  pthread_t thread;
  bool ok;
} worker;
static void *work(void *user) {
  worker *w = user;
  pair *p = w->p, mine = {.cpu = p->cpu, .in = p->in, .want = p->want};
  sard_session *s = NULL;
  w->ok = !fails(&mine, "session in a thread", sard_session_new(p->model, NULL, &s));
  for (int r = 0; r < RUNS && w->ok; r++) w->ok = runs_well(&mine, s, "run in a thread");
  sard_session_free(s);
  if (!w->ok) memcpy(p->text, mine.text, sizeof p->text);
  return NULL;
}
static bool in_threads(pair *p) {
  worker w[THREADS];
  bool ok = true;
  for (int i = 0; i < THREADS; i++) {
    w[i] = (worker){p, 0, false};
    if (pthread_create(&w[i].thread, NULL, work, &w[i])) return wrong(p, "no thread");
  }
  for (int i = 0; i < THREADS; i++) pthread_join(w[i].thread, NULL), ok &= w[i].ok;
  return ok;
}

typedef struct canceller {
  sard_session *session;
  atomic_bool stop;
} canceller;
static void *cancel(void *user) {
  canceller *c = user;
  while (!atomic_load(&c->stop)) sard_session_cancel(c->session), usleep(200);
  return NULL;
}
static bool cancels(pair *p) {
  canceller c = {p->session, false};
  pthread_t thread;
  bool ok = pthread_create(&thread, NULL, cancel, &c) == 0;
  for (int i = 0; i < CANCELS && ok; i++) {
    values out = {0};
    sard_status *st = run(p, p->session, &out);
    if (sard_status_code(st) == SARD_E_CANCELLED) sard_status_free(st);
    else ok = !fails(p, "cancelled run", st) && agree(p, &out, "a run that is cancelled too late");
    values_forget(&out);
  }
  atomic_store(&c.stop, true);
  pthread_join(thread, NULL);
  return ok && runs_well(p, p->session, "after cancelled runs");
}

static bool limited(pair *p) {
  sard_options *o = sard_options_new();
  sard_session *s = NULL;
  values out = {0};
  sard_status *st = sard_options_set(o, "memory-limit", "64");
  if (!st) st = sard_session_new(p->model, o, &s);
  if (!st) st = run(p, s, &out);
  int code = sard_status_code(st);
  sard_status_free(st);
  values_forget(&out);
  sard_session_free(s), sard_options_free(o);
  return code == SARD_E_NOMEM || wrong(p, "a limit of 64 bytes is no limit");
}

static bool profiled(pair *p) {
  sard_options *o = sard_options_new();
  sard_session *s = NULL;
  char *json = NULL;
  bool ok = !fails(p, "profile", sard_options_set(o, "profile", "1")) && !fails(p, "profile", sard_session_new(p->model, o, &s));
  for (int r = 0; r < RUNS && ok; r++) ok = runs_well(p, s, "with a profile");
  ok = ok && !fails(p, "statistics", sard_session_stats(s, &json)) && *json;
  sard_free(json);
  sard_session_free(s), sard_options_free(o);
  return ok;
}

// Somebody else's products are in the runs of this model.
static bool multiplies(pair *p) {
  char *json = NULL;
  bool ok = runs_well(p, p->session, "first run") && !fails(p, "statistics", sard_session_stats(p->session, &json));
  const char *at = ok ? strstr(json, "\"library_launches\":") : NULL;
  ok = ok && ((at && atoi(at + 19) > 0) || wrong(p, "cuBLASLt launches nothing"));
  sard_free(json);
  return ok;
}

// ---- one model ----
static bool try_all(pair *p) {
  static const struct {
    const char *name;
    bool (*fn)(pair *p);
  } tries[] = {{"repeats", repeats}, {"sizes", other_sizes}, {"reset", resets}, {"in place", in_place}, {"on the device", stays_there},
               {"threads", in_threads}, {"cancel", cancels}, {"memory limit", limited}, {"profile", profiled}, {"repeats", repeats}};
  const char *library = getenv("SARD_TEST_LIBRARY"); // option "library", and that it is used
  const char *sparsity = getenv("SARD_TEST_SPARSITY"); // option "sparsity"
  const option device[] = {{"device", "cuda"}, {library ? "library" : sparsity ? "sparsity" : NULL, library ? library : sparsity}, {NULL, NULL}};
  if (fails(p, "opening", open_with(p, device, &p->model)) ||
      fails(p, "opening", sard_session_new(p->model, NULL, &p->session)))
    return false;
  subject_choose_recorded(&p->cpu);
  if (!expect(p)) return wrong(p, "the processor fails");
  if (library && !multiplies(p)) return printf("FAIL %s: %s\n", p->cpu.folder, p->text), false;
  for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
    bool ok = tries[i].fn(p);
    if (ask("findings") && ok) ok = wrong(p, "a finding of the driver");
    if (!ok) return printf("FAIL %s, %s: %s\n", p->cpu.folder, tries[i].name, p->text), false;
  }
  return true;
}

int main(int argc, char **argv) { return pair_main(argc, argv, try_all); }
