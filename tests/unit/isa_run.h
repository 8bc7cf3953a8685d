// A graph as text, compiled for one instruction set, with a session for it: for tests that compare instruction sets.
#pragma once
#include "runtime/base/alloc.h"
#include "sard/sard.h"
#include "sard/sard_compile.h"
#include "tests/unit/test.h"

typedef struct isa_run { sard_context *ctx; sard_model *m; sard_session *s; } isa_run;

static inline sard_status *isa_open(isa_run *r, const char *text, const char *isa, const char *opt) {
  sard_options *co = sard_options_new(), *mo = sard_options_new();
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  *r = (isa_run){0};
  CHECK_OK(sard_options_set(co, "threads", "1"));
  CHECK_OK(sard_options_set(co, "isa", isa));
  CHECK_OK(sard_options_set(mo, "opt", opt));
  CHECK_OK(sard_context_new(co, &r->ctx));
  sard_compiler_use(r->ctx);
  sard_status *st = sard_compile(r->ctx, &src, mo, &r->m, NULL);
  if (!st) st = sard_session_new(r->m, NULL, &r->s);
  sard_options_free(co), sard_options_free(mo);
  return st;
}

static inline void isa_close(isa_run *r) { sard_session_free(r->s), sard_model_free(r->m), sard_context_free(r->ctx); }
