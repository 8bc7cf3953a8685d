// Models compiled in memory for the device that they run on.
#include <stdio.h>

#include "frontend/driver/driver.h"
#include "runtime/cuda/device.h"
#include "runtime/model.h"

enum { TEXT = 32 };

// The architecture of the device that the options name, as codegen wants it; "" for the processor. Where NVRTC is
// older than the device its PTX serves.
static sard_status *device_text(sard_context *ctx, const sard_options *options, char *out) {
  const sd_cu_device *d;
  int ordinal;
  *out = 0;
  SD_TRY(sd_cu_parse(sd_options_get(options, "device"), &ordinal));
  if (ordinal < 0) return NULL;
  SD_TRY(sd_context_cuda(ctx, ordinal, &d));
  snprintf(out, TEXT, "cuda:upto_sm_%d%d", d->major, d->minor);
  return NULL;
}

// Where the device cannot be used and the options allow it, *why tells the reason and the code is for the processor.
static sard_status *compile(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                            sd_compiled **out, sard_status **why) {
  char text[TEXT];
  sard_status *st = device_text(ctx, options, text);
  if (!st) {
    o->device = *text ? text : NULL;
    st = sd_driver_compile(src, o, out);
  }
  o->device = NULL;
  if (sard_status_code(st) != SARD_E_DEVICE || !sd_options_get(options, "fallback")) return st;
  *why = st;
  return sd_driver_compile(src, o, out);
}

sard_status *sd_driver_open(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                            char **json, double *seconds, sard_model **out) {
  sard_status *why = NULL;
  sd_compiled *c = NULL;
  sard_model *m = NULL;
  *out = NULL;
  sard_status *st = compile(ctx, src, options, o, &c, &why);
  if (!st && seconds) *seconds = c->report.total_s;
  if (!st && json && !(*json = sd_driver_report_json(&c->report))) {
    sd_compiled_free(c);
    st = SD_ERR(NOMEM, "out of memory for the report");
  } else if (!st) {
    st = sd_model_from_bytes(ctx, c->pieces, c->n_pieces, sd_compiled_free, c, &m);
  }
  if (!st && why) st = sd_model_fall_back(m, why);
  else if (!st) st = sd_model_place(m, options);
  else sard_status_free(why);
  if (st) sard_model_free(m);
  else *out = m;
  return st;
}
