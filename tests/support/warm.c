#include "tests/support/warm.h"

#include <stdio.h>

#include "tests/support/kernels.h"

sard_context *warm_up(void) {
  static const char text[] = "module\ngraph \"main\" (%0 \"x\": f32[4]) { %1 \"y\" = Neg(%0) return %1 }\n";
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_source src = {.size = sizeof src, .data = text, .bytes = sizeof text - 1};
  sard_options *o = sard_options_new();
  share_kernels();
  sard_status *st = sard_options_set(o, "threads", "1");
  if (!st) st = sard_context_new(o, &ctx);
  if (!st) sard_compiler_use(ctx);
  if (!st) st = sard_model_open(ctx, &src, o, &m);
  if (st) fprintf(stderr, "%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  sard_model_free(m);
  sard_options_free(o);
  return ctx;
}
