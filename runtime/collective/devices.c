// Reads "cpu:0,cpu:1" and the way to split.
#include "runtime/collective/devices.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/collective/mpi.h"

enum { TEXT = 64 };

static sard_status *add(const char *name, sd_devices *d) {
  char *end;
  if (strncmp(name, "cuda", 4) == 0)
    return SD_ERR(UNSUPPORTED, "devices: '%s': models are split over processors' devices (cpu:K) only", name);
  bool number = strncmp(name, "cpu:", 4) == 0 && isdigit((unsigned char)name[4]);
  long k = number ? strtol(name + 4, &end, 10) : 0;
  if (!number || *end)
    return SD_ERR(USAGE, "devices: '%s' is no device; they are written cpu:0,cpu:1,...", name);
  if (k >= SD_DEVICES_MOST)
    return SD_ERR(DEVICE, "devices: there is no device %s, they are cpu:0 to cpu:%d", name,
                  SD_DEVICES_MOST - 1);
  for (int i = 0; i < d->n; i++)
    if (d->cpu[i] == k) return SD_ERR(USAGE, "devices: %s is named twice", name);
  d->cpu[d->n++] = (int)k;
  return NULL;
}

static const char *const ways[] = {
    [SD_SPLIT_BATCH] = "batch", [SD_SPLIT_LAYER] = "layer", [SD_SPLIT_TENSOR] = "tensor",
    [SD_SPLIT_AUTO] = "auto"};
enum { WAYS = sizeof ways / sizeof *ways };

const char *sd_split_name(sd_split_kind k) { return (unsigned)k < WAYS ? ways[k] : NULL; }
bool sd_split_in_parts(sd_split_kind k) { return k > SD_SPLIT_BATCH; }

static sard_status *read_split(const char *text, sd_devices *d) {
  for (int i = 1; i < WAYS; i++)
    if (text && ways[i] && strcmp(text, ways[i]) == 0) d->split = (sd_split_kind)i;
  if (!text || d->split) return NULL;
  return SD_ERR(USAGE, "split: '%s' is no way to split a model; there are: batch, layer, tensor, auto", text);
}

static sard_status *read_processes(const char *split, sd_devices *out) {
  SD_TRY(read_split(split, out));
  if (out->split && out->split != SD_SPLIT_TENSOR)
    return SD_ERR(USAGE, "devices: processes (mpi) share a model by split=tensor");
  out->split = SD_SPLIT_TENSOR, out->mpi = true;
  return sd_mpi_join(&out->rank, &out->ranks);
}

sard_status *sd_devices_read(const sard_options *o, sd_devices *out) {
  const char *p = sd_options_get(o, "devices"), *split = sd_options_get(o, "split");
  *out = (sd_devices){0};
  SD_TRY(sd_options_bytes(o, "device-memory", &out->memory));
  if (!p) return split ? SD_ERR(USAGE, "split: name the devices, too: devices=cpu:0,cpu:1") : NULL;
  if (sd_options_get(o, "device") && strcmp(sd_options_get(o, "device"), "cpu") != 0)
    return SD_ERR(USAGE, "give either device or devices");
  if (strcmp(p, "mpi") == 0) return read_processes(split, out);
  for (;;) {
    char name[TEXT];
    size_t n = strcspn(p, ",");
    if (n >= sizeof name)
      return SD_ERR(USAGE, "devices: '%.40s...' is no device; they are written cpu:0,cpu:1,...", p);
    memcpy(name, p, n), name[n] = 0;
    SD_TRY(add(name, out));
    if (!p[n]) break;
    p += n + 1;
  }
  return read_split(split, out);
}
