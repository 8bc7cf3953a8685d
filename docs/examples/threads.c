/* Eight threads share one model; each has a session of its own and checks that it always gets the same numbers.
 *   sard compile model.onnx -o model.sard
 *   cc threads.c $(pkg-config --cflags --libs sard-rt) -pthread -o threads && ./threads model.sard */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sard/sard.h"

enum { THREADS = 8, RUNS = 20, MOST = 16 };

typedef struct worker {
  pthread_t thread;
  sard_context *ctx;
  sard_model *model;
  int ok, runs;
  float first; /* first element of the first output */
} worker;

static int failed(sard_status *st) {
  if (!st) return 0;
  fprintf(stderr, "error %d: %s\n", sard_status_code(st), sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return 1;
}

/* Zeros, with symbolic dims of size 1. */
static int make_input(worker *w, int i, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d};
  if (failed(sard_model_io(w->model, 0, i, &d))) return 0;
  for (int k = 0; k < d.rank; k++)
    if (d.dims[k] < 0) d.dims[k] = 1;
  if (failed(sard_tensor_new(w->ctx, &d, out))) return 0;
  size_t count = 1;
  for (int k = 0; k < d.rank; k++) count *= (size_t)d.dims[k];
  if (d.dtype == SARD_F32) memset(sard_tensor_data(*out, NULL), 0, count * sizeof(float));
  if (d.dtype == SARD_I64) memset(sard_tensor_data(*out, NULL), 0, count * sizeof(int64_t));
  return 1;
}

static void *work(void *arg) {
  worker *w = arg;
  sard_session *session = NULL;
  sard_tensor *in[MOST] = {NULL}, *out[MOST] = {NULL};
  int n_in = sard_model_io_count(w->model, 0), n_out = sard_model_io_count(w->model, 1);
  if (n_in > MOST || n_out > MOST || n_out < 1) {
    fprintf(stderr, "this example takes up to %d inputs and outputs\n", MOST);
    return NULL;
  }
  w->ok = !failed(sard_session_new(w->model, NULL, &session));
  for (int i = 0; w->ok && i < n_in; i++) w->ok = make_input(w, i, &in[i]);
  for (int r = 0; w->ok && r < RUNS; r++) {
    w->ok = !failed(sard_session_run(session, in, n_in, out, n_out)); /* after the first run: into the same outputs */
    float first = 0;
    if (w->ok) memcpy(&first, sard_tensor_data(out[0], NULL), sizeof first);
    if (r == 0) w->first = first;
    else if (w->ok && memcmp(&first, &w->first, sizeof first) != 0) w->ok = 0;
    w->runs += w->ok;
  }
  for (int i = 0; i < MOST; i++) sard_tensor_free(in[i]), sard_tensor_free(out[i]);
  sard_session_free(session);
  return NULL;
}

int main(int argc, char **argv) {
  sard_options *options = sard_options_new();
  sard_context *ctx = NULL;
  sard_model *model = NULL;
  worker w[THREADS] = {{0}};
  int rc = 1, started = 0, runs = 0, good = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL.sard\n", argv[0]);
    return 2;
  }
  sard_source source = {.size = sizeof source, .path = argv[1]};
  /* The parallelism is in the threads here: each run stays on its own. */
  if (!options || failed(sard_options_set(options, "threads", "1"))) goto end;
  if (failed(sard_context_new(options, &ctx))) goto end;
  if (failed(sard_model_open(ctx, &source, NULL, &model))) goto end;
  for (; started < THREADS; started++) {
    w[started].ctx = ctx, w[started].model = model;
    if (pthread_create(&w[started].thread, NULL, work, &w[started]) != 0) break;
  }
  for (int i = 0; i < started; i++) {
    pthread_join(w[i].thread, NULL);
    good += w[i].ok && memcmp(&w[i].first, &w[0].first, sizeof(float)) == 0;
    runs += w[i].runs;
  }
  printf("%d of %d threads agree, %d runs\n", good, THREADS, runs);
  rc = good == THREADS ? 0 : 1;
end:
  sard_model_free(model);
  sard_context_free(ctx);
  sard_options_free(options);
  return rc;
}
