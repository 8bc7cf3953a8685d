/* Compiles an .onnx in memory and runs it once on inputs of ones.
 *   cc jit.c $(pkg-config --cflags --libs sard) -o jit && ./jit model.onnx */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sard/sard_compile.h"

/* Prints an error and frees it; true when there was one. */
static int failed(sard_status *st) {
  if (!st) return 0;
  fprintf(stderr, "error %d: %s\n", sard_status_code(st), sard_status_text(st, SARD_TEXT_MESSAGE));
  if (*sard_status_text(st, SARD_TEXT_HINT)) fprintf(stderr, "hint: %s\n", sard_status_text(st, SARD_TEXT_HINT));
  sard_status_free(st);
  return 1;
}

/* A tensor for input `i`: ones, with symbolic dims of size 1. Only f32 and i64 here. */
static sard_status *make_input(sard_context *ctx, sard_model *model, int i, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d};
  size_t count = 1;
  sard_status *st = sard_model_io(model, 0, i, &d);
  if (st) return st;
  for (int k = 0; k < d.rank; k++) {
    if (d.dims[k] < 0) d.dims[k] = 1;
    count *= (size_t)d.dims[k];
  }
  st = sard_tensor_new(ctx, &d, out);
  if (st) return st;
  float *f = sard_tensor_data(*out, NULL);
  int64_t *n = sard_tensor_data(*out, NULL);
  for (size_t k = 0; k < count; k++) {
    if (d.dtype == SARD_F32) f[k] = 1;
    if (d.dtype == SARD_I64) n[k] = 1;
  }
  return NULL;
}

int main(int argc, char **argv) {
  sard_context *ctx = NULL;
  sard_model *model = NULL;
  sard_session *session = NULL;
  sard_tensor *in[16] = {NULL}, *out[64] = {NULL};
  int rc = 1, n_in, n_out;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL.onnx\n", argv[0]);
    return 2;
  }
  sard_source source = {.size = sizeof source, .path = argv[1]};
  if (failed(sard_context_new(NULL, &ctx))) goto end;
  sard_compiler_use(ctx); /* from here on this context can open .onnx files */
  if (failed(sard_model_open(ctx, &source, NULL, &model))) goto end;
  if (failed(sard_session_new(model, NULL, &session))) goto end;
  n_in = sard_model_io_count(model, 0), n_out = sard_model_io_count(model, 1);
  if (n_in > 16 || n_out > 64) {
    fprintf(stderr, "this example takes up to 16 inputs and 64 outputs\n");
    goto end;
  }
  for (int i = 0; i < n_in; i++)
    if (failed(make_input(ctx, model, i, &in[i]))) goto end;
  if (failed(sard_session_run(session, in, n_in, out, n_out))) goto end; /* outputs are made by the run */
  for (int i = 0; i < n_out; i++) {
    sard_tensor_desc d;
    const float *data = sard_tensor_data(out[i], &d);
    printf("%s:", d.name);
    for (int k = 0; k < d.rank; k++) printf(" %" PRId64, d.dims[k]);
    if (d.dtype == SARD_F32) printf(", first element %g", data[0]);
    printf("\n");
  }
  rc = 0;
end:
  for (int i = 0; i < 16; i++) sard_tensor_free(in[i]);
  for (int i = 0; i < 64; i++) sard_tensor_free(out[i]);
  sard_session_free(session);
  sard_model_free(model);
  sard_context_free(ctx);
  return rc;
}
