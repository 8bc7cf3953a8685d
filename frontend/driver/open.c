// Models compiled in memory, or taken from the cache, for the device that they run on.
#include <stdio.h>
#include <string.h>

#include "frontend/driver/cache.h"
#include "runtime/cuda/device.h"

enum { TEXT = 1024 };

// Adds the architecture of a device to the list in out, unless it has it.
static sard_status *add_arch(sard_context *ctx, int ordinal, char *out) {
  const sd_cu_device *d;
  char arch[32];
  size_t n = strlen(out);
  SD_TRY(sd_context_cuda(ctx, ordinal, &d));
  snprintf(arch, sizeof arch, "sm_%d%d", d->major, d->minor);
  if (!n) snprintf(out, TEXT, "cuda:upto_%s", arch);
  else if (!strstr(out, arch))
    snprintf(out + n, TEXT - n, ",%s", arch);
  return NULL;
}

// The architectures of the devices that the options name, as codegen wants them; "" for processors. Where NVRTC is
// older than a device its PTX serves.
static sard_status *device_text(sard_context *ctx, const sard_options *options, const sd_driver_options *o, char *out) {
  int ordinal;
  *out = 0;
  for (int i = 0; i < o->devices.n; i++)
    if (o->devices.at[i].cuda) SD_TRY(add_arch(ctx, o->devices.at[i].number, out));
  if (o->devices.n || o->devices.mpi) return NULL;
  SD_TRY(sd_cu_parse(sd_options_get(options, "device"), &ordinal));
  return ordinal < 0 ? NULL : add_arch(ctx, ordinal, out);
}

static sard_status *compile(sd_cache *cache, sard_context *ctx, const sard_source *src, sd_driver_options *o, char **json,
                            double *seconds, sard_model **out) {
  sd_compiled *c;
  SD_TRY(sd_driver_compile(src, o, &c));
  if (seconds) *seconds = c->report.total_s;
  if (json && !(*json = sd_driver_report_json(&c->report))) {
    sd_compiled_free(c);
    return SD_ERR(NOMEM, "out of memory for the report");
  }
  sd_cache_store(cache, c);
  return sd_model_from_bytes(ctx, c->pieces, c->n_pieces, sd_compiled_free, c, out);
}

static sard_status *find_or_compile(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                                    char **json, double *seconds, sard_model **out) {
  sd_cache *cache;
  SD_TRY(sd_cache_open(src, options, o, &cache));
  sard_status *st = sd_cache_find(cache, ctx, json, out);
  if (!st && !*out) st = compile(cache, ctx, src, o, json, seconds, out);
  if (!st) st = sd_cache_tell(cache, *out);
  sd_cache_free(cache);
  return st;
}

// Where the device cannot be used and the options allow it, *why tells the reason and the code is for the processor.
static sard_status *open_for_device(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                                    char **json, double *seconds, sard_model **out, sard_status **why) {
  char text[TEXT];
  sard_status *st = device_text(ctx, options, o, text);
  if (!st) {
    o->device = *text ? text : NULL;
    st = find_or_compile(ctx, src, options, o, json, seconds, out);
  }
  o->device = NULL;
  if (sard_status_code(st) != SARD_E_DEVICE || !sd_options_get(options, "fallback")) return st;
  *why = st, o->two_of_four = false;
  return find_or_compile(ctx, src, options, o, json, seconds, out);
}

sard_status *sd_driver_open(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                            char **json, double *seconds, sard_model **out) {
  sard_status *why = NULL;
  *out = NULL;
  if (seconds) *seconds = 0;
  SD_TRY(sd_place_check(options));
  sard_status *st = open_for_device(ctx, src, options, o, json, seconds, out, &why);
  if (!st && why) st = sd_model_fall_back(*out, why);
  else if (!st) st = sd_model_place(*out, options);
  else sard_status_free(why);
  if (st) sard_model_free(*out), *out = NULL;
  return st;
}
