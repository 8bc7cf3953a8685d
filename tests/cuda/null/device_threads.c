// Two devices and many threads: sessions of one model on each device, made, run and freed by threads at once, and one thread
// that goes from device to device. Needs the runtime alone, and is run under ThreadSanitizer too.
//
// usage: SARD_CUDA=DRIVER device_threads ARTIFACT   an artifact with code for GPUs; last line: N passed, N failed, of runs
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sard/sard.h"
#include "tests/cuda/null/ask.h"

enum { DEVICES = 2, THREADS = 4, ROUNDS = 5, RUNS = 3, BATCHES = 3, MOST_IO = 8 };

static sard_context *ctx;
static sard_model *models[DEVICES + 1]; // the last one: on the processor
static sard_tensor *in[BATCHES][MOST_IO], *want[BATCHES][MOST_IO];
static int n_in, n_out;

typedef struct worker {
  pthread_t thread;
  int number, passed, failed;
} worker;

static int taken(sard_status *st, const char *what) {
  if (st) printf("FAIL %s: %s\n", what, sard_status_text(st, SARD_TEXT_MESSAGE));
  int failed = st != NULL;
  sard_status_free(st);
  return failed;
}

static size_t count_of(sard_tensor *t) {
  sard_tensor_desc d = {.size = sizeof d};
  size_t n = 1;
  sard_tensor_data(t, &d);
  for (int k = 0; k < d.rank; k++) n *= (size_t)d.dims[k];
  return n;
}

static sard_status *make_inputs(int batch) {
  for (int i = 0; i < n_in; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    sard_status *st = sard_model_io(models[DEVICES], 0, i, &d);
    for (int k = 0; k < d.rank; k++) d.dims[k] = d.dims[k] < 0 ? batch + 1 : d.dims[k];
    if (!st) st = sard_tensor_new(ctx, &d, &in[batch][i]);
    if (st) return st;
    float *p = sard_tensor_data(in[batch][i], NULL);
    for (size_t k = 0, n = count_of(in[batch][i]); k < n; k++) p[k] = (float)((k + (size_t)batch) % 7) * 0.25f;
  }
  return NULL;
}

static int is_close(sard_tensor *a, sard_tensor *b) {
  const float *p = sard_tensor_data(a, NULL), *q = sard_tensor_data(b, NULL);
  if (count_of(a) != count_of(b)) return 0;
  for (size_t k = 0, n = count_of(a); k < n; k++)
    if (!(p[k] - q[k] < 1e-3f && q[k] - p[k] < 1e-3f)) return 0;
  return 1;
}

static void run(worker *w, sard_session *s, int batch) {
  sard_tensor *out[MOST_IO] = {0};
  int failed = taken(sard_session_run(s, in[batch], n_in, out, n_out), "run");
  for (int i = 0; i < n_out; i++) {
    if (!failed && !is_close(out[i], want[batch][i])) printf("FAIL thread %d: output %d is wrong\n", w->number, i), failed = 1;
    sard_tensor_free(out[i]);
  }
  *(failed ? &w->failed : &w->passed) += 1;
}

// Thread 0 has a session on each device at once; the others make theirs anew in each round.
static void *work(void *user) {
  worker *w = user;
  sard_session *s[DEVICES] = {0};
  for (int r = 0; r < ROUNDS; r++) {
    for (int d = 0; d < DEVICES; d++) {
      int mine = w->number ? (w->number + r) % DEVICES : d;
      if (!s[d] && taken(sard_session_new(models[mine], NULL, &s[d]), "session")) w->failed++;
    }
    for (int k = 0; k < RUNS * DEVICES; k++)
      if (s[k % DEVICES]) run(w, s[k % DEVICES], (r + w->number) % BATCHES);
    for (int d = 0; d < DEVICES && (w->number || r == ROUNDS - 1); d++) sard_session_free(s[d]), s[d] = NULL;
  }
  return NULL;
}

static int open_all(const char *path) {
  static const char *const devices[] = {"cuda:0", "cuda:1", "cpu"};
  sard_source src = {.size = sizeof src, .path = path};
  int failed = taken(sard_context_new(NULL, &ctx), "context");
  for (int i = 0; i <= DEVICES && !failed; i++) {
    sard_options *o = sard_options_new();
    failed = taken(sard_options_set(o, "device", devices[i]), "option") || taken(sard_model_open(ctx, &src, o, &models[i]), devices[i]);
    sard_options_free(o);
  }
  return failed;
}

static int expect_all(void) {
  sard_session *s = NULL;
  n_in = sard_model_io_count(models[DEVICES], 0), n_out = sard_model_io_count(models[DEVICES], 1);
  int failed = n_in > MOST_IO || n_out > MOST_IO || taken(sard_session_new(models[DEVICES], NULL, &s), "session");
  for (int b = 0; b < BATCHES && !failed; b++)
    failed = taken(make_inputs(b), "inputs") || taken(sard_session_run(s, in[b], n_in, want[b], n_out), "run");
  sard_session_free(s);
  return failed;
}

int main(int argc, char **argv) {
  static worker w[THREADS];
  int passed = 0, failed = 0;
  if (argc != 2 || !getenv("SARD_CUDA")) return fprintf(stderr, "usage: SARD_CUDA=DRIVER device_threads ARTIFACT\n"), 2;
  setenv("SARD_NULL_DEVICES", "2", 1);
  if (ask("reset") || open_all(argv[1]) || expect_all()) return printf("0 passed, 1 failed\n"), 1;
  for (int i = 0; i < THREADS; i++) {
    w[i].number = i;
    if (pthread_create(&w[i].thread, NULL, work, &w[i])) return printf("0 passed, 1 failed\n"), 1;
  }
  for (int i = 0; i < THREADS; i++) pthread_join(w[i].thread, NULL), passed += w[i].passed, failed += w[i].failed;
  for (int b = 0; b < BATCHES; b++)
    for (int i = 0; i < MOST_IO; i++) sard_tensor_free(in[b][i]), sard_tensor_free(want[b][i]);
  for (int i = 0; i <= DEVICES; i++) sard_model_free(models[i]);
  sard_context_free(ctx);
  if (ask("live") || ask("findings")) printf("FAIL something is left on a device, or a rule was broken\n"), failed++;
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
