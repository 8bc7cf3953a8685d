// Sessions over several devices for ThreadSanitizer: batches of different sizes, runs that are cancelled and
// runs that fail. The model has inputs of f32, which are zeros; symbolic dims have the size of the batch.
//
//   devices_cases ARTIFACT [DEVICES SPLIT]
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "sard/sard.h"

enum { MOST = 16 };
typedef enum how { PLAIN, CANCELLED, FAILING } how;
static long bad;

static void expect(sard_status *st, int other, const char *what) {
  int code = sard_status_code(st);
  if (code != SARD_OK && code != other)
    bad++, printf("%s: %s\n", what, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
}

static sard_tensor *input(sard_context *ctx, sard_model *m, int i, int64_t batch, how h) {
  sard_tensor_desc d = {.size = sizeof d};
  sard_tensor *t = NULL;
  size_t count = sizeof(float);
  expect(sard_model_io(m, 0, i, &d), SARD_OK, "io");
  for (int k = 0; k < d.rank; k++) {
    if (d.dims[k] < 0) d.dims[k] = batch;
    if (h == FAILING && k + 1 == d.rank) d.dims[k]++; // does not fit the model
    count *= (size_t)d.dims[k];
  }
  expect(sard_tensor_new(ctx, &d, &t), SARD_OK, "input");
  if (t) memset(sard_tensor_data(t, NULL), 0, count);
  return t;
}

static void *cancel(void *session) {
  for (volatile int i = 0; i < 20000; i++) {
  }
  sard_session_cancel(session);
  return NULL;
}

static void run(sard_context *ctx, sard_model *m, sard_session *s, int64_t batch, how h) {
  sard_tensor *in[MOST] = {0}, *out[MOST] = {0};
  int n = sard_model_io_count(m, 0), n_out = sard_model_io_count(m, 1);
  pthread_t t;
  for (int i = 0; i < n; i++) in[i] = input(ctx, m, i, batch, h);
  if (h == CANCELLED && pthread_create(&t, NULL, cancel, s) != 0) h = PLAIN;
  sard_status *st = sard_session_run(s, in, n, out, n_out);
  if (h == CANCELLED) pthread_join(t, NULL);
  if (h == FAILING && !st) bad++, printf("an input that does not fit was taken\n");
  expect(st, h == CANCELLED ? SARD_E_CANCELLED : h == FAILING ? SARD_E_USAGE : SARD_OK, "run");
  for (int i = 0; i < MOST; i++) sard_tensor_free(in[i]), sard_tensor_free(out[i]);
}

int main(int argc, char **argv) {
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_options *o = sard_options_new(), *threads = sard_options_new();
  if (argc != 2 && argc != 4) return 2;
  sard_source src = {.size = sizeof src, .path = argv[1]};
  expect(sard_options_set(threads, "threads", "2"), SARD_OK, "options");
  if (argc > 2) expect(sard_options_set(o, "devices", argv[2]), SARD_OK, "options");
  if (argc > 2) expect(sard_options_set(o, "split", argv[3]), SARD_OK, "options");
  expect(sard_context_new(threads, &ctx), SARD_OK, "context");
  if (ctx) expect(sard_model_open(ctx, &src, o, &m), SARD_OK, "model");
  if (m) expect(sard_session_new(m, NULL, &s), SARD_OK, "session");
  for (int i = 0; s && i < 12; i++) run(ctx, m, s, 1 + i * 5 % 7, (how)(i % 3));
  printf("%s: %ld bad\n", argv[1], bad);
  bad += !s;
  sard_session_free(s), sard_model_free(m), sard_context_free(ctx);
  sard_options_free(o), sard_options_free(threads);
  return bad != 0;
}
