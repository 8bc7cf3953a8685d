// What run and bench ask of the compiler.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "runtime/base/alloc.h"
#include "runtime/model.h"

static sard_status *show_progress(void *user, int step, int of, const char *name) {
  sd_cli *c = user;
  sd_cli_progress(c, sd_arena_printf(c->arena, "[%d/%d] %s ...", step, of, name));
  return sd_stop_asked() ? SD_ERR(CANCELLED, "interrupted") : NULL;
}

sard_status *sd_tools_compile(sd_cli *c, sard_context *ctx, const sard_source *src, const sard_options *o, sard_model **out,
                              double *out_seconds) {
  sd_driver_options d;
  sd_compiled *compiled;
  sd_driver_defaults(&d);
  SD_TRY(sd_driver_options_read(o, c->arena, &d));
  d.progress = (sd_driver_progress){show_progress, c};
  SD_TRY(sd_driver_compile(src, &d, &compiled));
  *out_seconds = compiled->report.total_s;
  return sd_model_from_bytes(ctx, compiled->pieces, compiled->n_pieces, sd_compiled_free, compiled, out);
}
