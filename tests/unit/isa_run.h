// A graph as text, compiled for one instruction set, with a session for it: for tests that compare instruction sets.
#pragma once
#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "sard/sard.h"
#include "sard/sard_compile.h"
#include "tests/unit/test.h"

enum { ISA_MOST = 8 };
// The instruction sets that this machine has, those with matrix registers only where asked for; in short tests the last one, as the others differ
// in what LLVM does.
static inline int isa_here(bool matrix, const char *out[ISA_MOST]) {
  const sd_isa *r;
  int n = 0;
  for (int i = 0; (r = sd_isa_at(i)) && n < ISA_MOST; i++) {
    const sd_isa *mine = NULL;
    sard_status *st = sd_isa_host(r->name, &mine);
    if (!st && (matrix || !r->matrix)) out[n++] = r->name;
    sard_status_free(st);
  }
  if (check_short() && n > 1) out[0] = out[n - 1], n = 1;
  return n;
}

// Bytes as constants have them in the text of a graph.
static inline void isa_put_hex(sd_str *s, const void *p, int64_t bytes) {
  static const char digits[] = "0123456789abcdef";
  for (int64_t i = 0; i < bytes; i++) {
    uint8_t b = ((const uint8_t *)p)[i];
    sd_str_put(s, (char[]){digits[b >> 4], digits[b & 15], 0});
  }
}

typedef struct isa_run { sard_context *ctx; sard_model *m; sard_session *s; } isa_run;

// isa NULL: that of the machine.
static inline sard_status *isa_open(isa_run *r, const char *text, const char *isa, const char *threads, const char *opt) {
  sard_options *co = sard_options_new(), *mo = sard_options_new();
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  *r = (isa_run){0};
  CHECK_OK(sard_options_set(co, "threads", threads));
  if (isa) CHECK_OK(sard_options_set(co, "isa", isa));
  CHECK_OK(sard_options_set(mo, "opt", opt));
  CHECK_OK(sard_context_new(co, &r->ctx));
  sard_compiler_use(r->ctx);
  sard_status *st = sard_compile(r->ctx, &src, mo, &r->m, NULL);
  if (!st) st = sard_session_new(r->m, NULL, &r->s);
  sard_options_free(co), sard_options_free(mo);
  return st;
}

static inline void isa_close(isa_run *r) { sard_session_free(r->s), sard_model_free(r->m), sard_context_free(r->ctx); }

enum { ISA_OUTPUTS = 3 };
// Runs a graph of up to ISA_OUTPUTS outputs on one matrix, f32[rows, columns]. Its first output, `bytes` of it, to be freed by
// sd_free_aligned; NULL where it could not run.
static inline void *isa_run_matrix(const char *text, const char *isa, const char *threads, const float *x, int64_t rows,
                                   int64_t columns, int n_out, int64_t bytes) {
  isa_run r;
  sard_tensor *in = NULL, *out[ISA_OUTPUTS] = {NULL};
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 2, .dims = {rows, columns}};
  void *y = NULL;
  sard_status *st = isa_open(&r, text, isa, threads, "3");
  if (!st) st = sard_tensor_new(r.ctx, &d, &in);
  if (!st) {
    memcpy(sard_tensor_data(in, NULL), x, (size_t)(rows * columns) * sizeof *x);
    st = sard_session_run(r.s, &in, 1, out, n_out);
  }
  CHECK_OK(st);
  if (out[0]) y = memcpy(sd_alloc_aligned((size_t)bytes), sard_tensor_data(out[0], NULL), (size_t)bytes);
  for (int i = 0; i < n_out; i++) sard_tensor_free(out[i]);
  sard_tensor_free(in), isa_close(&r);
  return y;
}
