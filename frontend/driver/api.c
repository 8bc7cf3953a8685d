// The public compile functions (sard_compile.h) over the driver.
#include "sard/sard_compile.h"

#include "frontend/driver/driver.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/model.h"

// What is done with the options, read into an arena of their own.
typedef struct task {
  sard_context *ctx; // NULL: to a file
  const sard_source *src;
  const sard_options *options;
  const char *path;
  sard_model **out;
  char **json;
} task;

static sard_status *compile_file(const task *t, sd_driver_options *o) {
  sd_compiled *c;
  sd_driver_archs(o, sd_options_get(t->options, "device"));
  SD_TRY(sd_driver_compile(t->src, o, &c));
  sard_status *st = sd_file_write(t->path, c->pieces, c->n_pieces);
  if (!st && t->json && !(*t->json = sd_driver_report_json(&c->report))) st = SD_ERR(NOMEM, "out of memory for the report");
  sd_compiled_free(c);
  return st;
}

static sard_status *run_task(const task *t) {
  sd_driver_options o;
  jmp_buf oom;
  sd_arena *volatile a = sd_arena_new();
  if (!a || setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory");
  }
  sd_arena_set_oom(a, &oom);
  sd_driver_defaults(&o);
  sard_status *st = sd_options_check(t->options, SD_OPT_MODEL);
  if (!st) st = sd_driver_options_read(t->options, a, &o);
  if (!st && !o.target && t->ctx) o.target = sd_context_isa(t->ctx);
  if (!st) st = t->ctx ? sd_driver_open(t->ctx, t->src, t->options, &o, t->json, NULL, t->out) : compile_file(t, &o);
  sd_arena_free(a);
  return st;
}

sard_status *sard_compile(sard_context *ctx, const sard_source *src, const sard_options *options, sard_model **out, char **json) {
  *out = NULL;
  if (json) *json = NULL;
  sard_status *st = run_task(&(task){.ctx = ctx, .src = src, .options = options, .out = out, .json = json});
  if (st && json) sard_free(*json), *json = NULL;
  return st;
}

static sard_status *compile_hook(sard_context *ctx, const sard_source *src, const sard_options *options, sard_model **out) {
  return sard_compile(ctx, src, options, out, NULL);
}

void sard_compiler_use(sard_context *ctx) { sd_context_set_compiler(ctx, compile_hook); }

sard_status *sard_compile_file(const sard_source *src, const sard_options *options, const char *path, char **json) {
  if (json) *json = NULL;
  return run_task(&(task){.src = src, .options = options, .path = path, .json = json});
}
