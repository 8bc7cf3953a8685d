// What run and bench ask of the compiler.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "runtime/base/alloc.h"
#include "runtime/model.h"

static sard_status *show_progress(void *user, int step, int of, const char *name) {
  sd_cli *c = user;
  sd_cli_progress(c, sd_arena_printf(c->arena, "[%d/%d] %s ...", step, of, name));
  return sd_stop_check();
}

static void hold_stop(void *user, bool on) {
  (void)user;
  if (on) sd_stop_hold();
  else sd_stop_release();
}

sard_status *sd_tools_options(sd_cli *c, sd_driver_options *o) {
  sard_options *options = sard_options_new();
  int64_t threads = 0;
  if (!options) return SD_ERR(NOMEM, "out of memory");
  sd_driver_defaults(o);
  sard_status *st = sd_model_options(c, options);
  if (!st) st = sd_model_devices(c, options);
  if (!st) st = sd_driver_options_read(options, c->arena, o);
  if (!st) {
    // The driver keeps the texts: they are copied out of the options, which end here.
    o->target = sd_arena_strdup(c->arena, o->target);
    for (uint32_t i = 0; i < o->dims.len; i++) o->dims.at[i].name = sd_arena_strdup(c->arena, o->dims.at[i].name);
    for (uint32_t i = 0; i < o->ranks.len; i++) o->ranks.at[i].name = sd_arena_strdup(c->arena, o->ranks.at[i].name);
    st = sd_args_int(c, "threads", 0, 1024, &threads);
  }
  o->threads = (int)threads;
  o->progress = (sd_driver_progress){.fn = show_progress, .user = c};
  sard_options_free(options);
  return st;
}

typedef struct asking { sd_cli *c; sard_context *ctx; } asking;
static sard_status *rank_of_file(void *user, uint32_t index, const char *name, int *out) {
  const asking *a = user;
  return sd_inputs_rank(a->c, a->ctx, index, name, out);
}

sard_status *sd_tools_compile(sd_cli *c, sard_context *ctx, const sard_source *src, const sard_options *o,
                              sard_model **out, double *out_seconds) {
  sd_driver_options d;
  sd_driver_defaults(&d);
  SD_TRY(sd_driver_options_read(o, c->arena, &d));
  d.progress = (sd_driver_progress){show_progress, hold_stop, c};
  d.watch = c->watch;
  asking a = {c, ctx};
  d.more_ranks = (sd_import_shapes){.rank = rank_of_file, .user = &a};
  return sd_driver_open(ctx, src, o, &d, NULL, out_seconds, out);
}

sard_status *sd_tools_write_model(sd_cli *c, const char *path, const sd_packed *model) {
  bool apart = sd_args_given(c, "external-data");
  if (strcmp(path, "-") == 0) {
    sd_pieces p = {0};
    if (apart || model->size > INT32_MAX)
      return SD_ERR(USAGE, "-o -: a model with its weights in another file goes to a file");
    SD_TRY(sd_packed_pieces(c->arena, model, NULL, &p, NULL));
    for (uint32_t i = 0; i < p.len; i++) SD_TRY(sd_files_write(path, p.at[i].data, p.at[i].size));
    return NULL;
  }
  sd_stop_hold();
  sard_status *st = sd_packed_write(model, path, apart);
  sd_stop_release();
  return st;
}

sard_status *sd_tools_external(sd_cli *c, const char *path, uint64_t *bytes) {
  const sard_source src = {.size = sizeof src, .path = path};
  sd_arena *a = sd_arena_scratch(c->arena);
  sd_import_info info = {0};
  sard_status *st = sd_import_scan(&src, a, &info);
  *bytes = 0;
  for (uint32_t i = 0; !st && i < info.weights.len; i++)
    if (info.weights.at[i].external) *bytes += info.weights.at[i].bytes;
  sd_arena_free(a);
  return st;
}
