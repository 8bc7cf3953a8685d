/* Loads a compiled artifact with the runtime alone, runs it on random numbers and prints each output's largest element.
 *   sard compile model.onnx -o model.sard
 *   cc artifact.c $(pkg-config --cflags --libs sard-rt) -o artifact && ./artifact model.sard [BATCH] */
#include <stdio.h>
#include <stdlib.h>

#include "sard/sard.h"

static int failed(sard_status *st) {
  if (!st) return 0;
  fprintf(stderr, "error %d: %s\n", sard_status_code(st), sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return 1;
}

static size_t count_of(const sard_tensor_desc *d) {
  size_t n = 1;
  for (int i = 0; i < d->rank; i++) n *= (size_t)d->dims[i];
  return n;
}

int main(int argc, char **argv) {
  sard_context *ctx = NULL;
  sard_model *model = NULL;
  sard_session *session = NULL;
  sard_tensor *in = NULL, **out = NULL;
  sard_tensor_desc d = {.size = sizeof d};
  int rc = 1, n_out = 0;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.sard [BATCH]\n", argv[0]);
    return 2;
  }
  sard_source source = {.size = sizeof source, .path = argv[1]};
  if (failed(sard_context_new(NULL, &ctx))) goto end;
  if (failed(sard_model_open(ctx, &source, NULL, &model))) goto end; /* an .onnx here is a clear error */
  if (failed(sard_session_new(model, NULL, &session))) goto end;
  if (sard_model_io_count(model, 0) != 1) {
    fprintf(stderr, "this example takes models of one input\n");
    goto end;
  }
  if (failed(sard_model_io(model, 0, 0, &d))) goto end;
  for (int i = 0; i < d.rank; i++)
    if (d.dims[i] < 0) { /* a symbolic dim: any size may be given, run by run */
      d.dims[i] = argc > 2 ? atoi(argv[2]) : 1;
      printf("%s is %d\n", d.symbols[i], (int)d.dims[i]);
    }
  if (d.dtype != SARD_F32) {
    fprintf(stderr, "this example takes models of f32 input\n");
    goto end;
  }
  if (failed(sard_tensor_new(ctx, &d, &in))) goto end;
  float *x = sard_tensor_data(in, NULL);
  for (size_t i = 0; i < count_of(&d); i++) x[i] = (float)rand() / (float)RAND_MAX;
  n_out = sard_model_io_count(model, 1);
  out = calloc((size_t)n_out, sizeof *out);
  if (!out || failed(sard_session_run(session, &in, 1, out, n_out))) goto end;
  for (int i = 0; i < n_out; i++) {
    const float *y = sard_tensor_data(out[i], &d);
    size_t best = 0;
    if (d.dtype != SARD_F32) continue;
    for (size_t k = 1; k < count_of(&d); k++)
      if (y[k] > y[best]) best = k;
    printf("%s: element %zu is the largest, %g\n", d.name, best, y[best]);
  }
  rc = 0;
end:
  for (int i = 0; out && i < n_out; i++) sard_tensor_free(out[i]);
  free(out);
  sard_tensor_free(in);
  sard_session_free(session);
  sard_model_free(model);
  sard_context_free(ctx);
  return rc;
}
