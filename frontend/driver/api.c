// The public compile functions (sard_compile.h) over the driver.
#include "sard/sard_compile.h"

#include "frontend/driver/driver.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/model.h"

static sard_status *compile_options(const sard_source *src, const sard_options *options, const char *isa, sd_compiled **out) {
  sd_driver_options o;
  sard_status *st;
  jmp_buf oom;
  sd_arena *volatile a = sd_arena_new();
  if (!a || setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory");
  }
  sd_arena_set_oom(a, &oom);
  sd_driver_defaults(&o);
  st = sd_options_check(options, SD_OPT_MODEL);
  if (!st) st = sd_driver_options_read(options, a, &o);
  if (!st && !o.target) o.target = isa;
  if (!st) st = sd_driver_compile(src, &o, out);
  sd_arena_free(a);
  return st;
}

sard_status *sard_compile(sard_context *ctx, const sard_source *src, const sard_options *options, sard_model **out, char **json) {
  sd_compiled *c;
  *out = NULL;
  if (json) *json = NULL;
  SD_TRY(compile_options(src, options, sd_context_isa(ctx), &c));
  if (json && !(*json = sd_driver_report_json(&c->report))) {
    sd_compiled_free(c);
    return SD_ERR(NOMEM, "out of memory for the report");
  }
  sard_status *st = sd_model_from_bytes(ctx, c->pieces, c->n_pieces, sd_compiled_free, c, out);
  if (st && json) sard_free(*json), *json = NULL;
  return st;
}

static sard_status *compile_hook(sard_context *ctx, const sard_source *src, const sard_options *options, sard_model **out) {
  return sard_compile(ctx, src, options, out, NULL);
}

void sard_compiler_use(sard_context *ctx) { sd_context_set_compiler(ctx, compile_hook); }

sard_status *sard_compile_file(const sard_source *src, const sard_options *options, const char *path, char **json) {
  sd_compiled *c;
  if (json) *json = NULL;
  SD_TRY(compile_options(src, options, NULL, &c));
  sard_status *st = sd_file_write(path, c->pieces, c->n_pieces);
  if (!st && json && !(*json = sd_driver_report_json(&c->report))) st = SD_ERR(NOMEM, "out of memory for the report");
  sd_compiled_free(c);
  return st;
}
