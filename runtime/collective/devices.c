// Reads "cpu:0,cpu:1" and the way to split.
#include "runtime/collective/devices.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/collective/mpi.h"

enum { TEXT = 64 };

const char *sd_place_text(sd_place p, char out[SD_PLACE_TEXT]) {
  snprintf(out, SD_PLACE_TEXT, "%s:%d", p.cuda ? "cuda" : "cpu", p.number);
  return out;
}

bool sd_devices_cuda(const sd_devices *d) {
  bool any = false;
  for (int i = 0; i < d->n; i++) any |= d->at[i].cuda;
  return any;
}

bool sd_devices_mixed(const sd_devices *d) {
  bool all = true;
  for (int i = 0; i < d->n; i++) all &= d->at[i].cuda;
  return sd_devices_cuda(d) && !all;
}

static sard_status *add(const char *name, sd_devices *d) {
  char *end;
  bool cuda = strncmp(name, "cuda:", 5) == 0;
  const char *digits = cuda ? name + 5 : strncmp(name, "cpu:", 4) == 0 ? name + 4 : "";
  long k = isdigit((unsigned char)*digits) ? strtol(digits, &end, 10) : -1;
  if (k < 0 || *end)
    return SD_ERR(USAGE, "devices: '%s' is no device; they are written cpu:0,cpu:1,... or cuda:0,cuda:1,...", name);
  if (k >= SD_DEVICES_MOST)
    return SD_ERR(DEVICE, "devices: there is no device %s, they are %.*s:0 to %.*s:%d", name, cuda ? 4 : 3, name,
                  cuda ? 4 : 3, name, SD_DEVICES_MOST - 1);
  for (int i = 0; i < d->n; i++)
    if (d->at[i].cuda == cuda && d->at[i].number == k) return SD_ERR(USAGE, "devices: %s is named twice", name);
  if (d->n == SD_DEVICES_MOST) return SD_ERR(USAGE, "devices: more than %d are named", SD_DEVICES_MOST);
  d->at[d->n++] = (sd_place){cuda, (int)k};
  return NULL;
}

static const char *const ways[] = {
    [SD_SPLIT_BATCH] = "batch", [SD_SPLIT_LAYER] = "layer", [SD_SPLIT_TENSOR] = "tensor",
    [SD_SPLIT_AUTO] = "auto"};
enum { WAYS = sizeof ways / sizeof *ways };

uint64_t sd_devices_least_memory(const sd_devices *d) {
  uint64_t least = d->memory[0];
  for (int i = 1; i < d->n; i++)
    if (d->memory[i] < least) least = d->memory[i];
  return least;
}

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

// The next of a list in p, which goes behind it. False: there is none, or a longer one than any that is
// right.
static bool next_of(const char **p, char text[TEXT]) {
  size_t n = strcspn(*p, ",");
  if (!**p || n >= TEXT) return false;
  memcpy(text, *p, n), text[n] = 0;
  *p += n + ((*p)[n] == ',' && (*p)[n + 1]);
  return true;
}

// One number for all devices, or one for each.
static sard_status *read_memory(const char *p, sd_devices *d) {
  char text[TEXT];
  const char *all = p;
  int n = 0;
  for (; n < SD_DEVICES_MOST && next_of(&p, text); n++)
    SD_TRY(sd_options_read_bytes("device-memory", text, &d->memory[n]));
  if (*p || (n != 1 && n != d->n))
    return SD_ERR(USAGE, "device-memory: '%.40s' is neither one number nor one for each of %d devices", all,
                  d->n);
  for (int i = 1; n == 1 && i < SD_DEVICES_MOST; i++) d->memory[i] = d->memory[0];
  return NULL;
}

static sard_status *read_cuts(const char *p, sd_devices *d) {
  char text[TEXT], *end = NULL;
  const char *all = p;
  unsigned long before = 0, v = 0;
  bool ok = true;
  for (; ok && d->n_cuts < SD_DEVICES_MOST && next_of(&p, text); before = v) {
    v = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;
    ok = v > before && v < UINT32_MAX && !*end;
    d->cuts[d->n_cuts++] = (uint32_t)v;
  }
  if (!ok || *p || d->n_cuts != d->n - 1)
    return SD_ERR(USAGE,
                  "cuts: '%.40s' does not say where the parts behind the first of %d begin: numbers of "
                  "nodes, each larger "
                  "than the one before, such as 4,26",
                  all, d->n);
  if (d->split != SD_SPLIT_LAYER) return SD_ERR(USAGE, "cuts: they are of split=layer");
  return NULL;
}

static sard_status *read_costs(const char *text, sd_devices *d) {
  if (strcmp(text, "measured") == 0) d->costs = SD_COSTS_MEASURED;
  else if (strcmp(text, "estimated") == 0)
    d->costs = SD_COSTS_ESTIMATED;
  else
    return SD_ERR(USAGE, "costs: they are 'measured' or 'estimated', not '%s'", text);
  return NULL;
}

static sard_status *read_batch(const char *text, sd_devices *d) {
  char *end;
  unsigned long v = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;
  if (!v || *end || v > SD_BATCH_MOST)
    return SD_ERR(USAGE, "batch: '%.40s' is no number of elements from 1 to %d", text, SD_BATCH_MOST);
  d->batch = (uint32_t)v;
  return NULL;
}

static sard_status *read_more(const sard_options *o, sd_devices *d) {
  const char *memory = sd_options_get(o, "device-memory"), *costs = sd_options_get(o, "costs"),
             *cuts = sd_options_get(o, "cuts"), *batch = sd_options_get(o, "batch");
  if (memory) SD_TRY(read_memory(memory, d));
  if (batch) SD_TRY(read_batch(batch, d));
  if (costs) SD_TRY(read_costs(costs, d));
  return cuts ? read_cuts(cuts, d) : NULL;
}

static sard_status *read_list(const char *p, sd_devices *out) {
  for (;;) {
    char name[TEXT];
    size_t n = strcspn(p, ",");
    if (n >= sizeof name)
      return SD_ERR(USAGE, "devices: '%.40s...' is no device; they are written cpu:0,cpu:1,...", p);
    memcpy(name, p, n), name[n] = 0;
    SD_TRY(add(name, out));
    if (!p[n]) return NULL;
    p += n + 1;
  }
}

sard_status *sd_devices_read(const sard_options *o, sd_devices *out) {
  const char *p = sd_options_get(o, "devices"), *split = sd_options_get(o, "split");
  *out = (sd_devices){0};
  if (!p) return split ? SD_ERR(USAGE, "split: name the devices, too: devices=cpu:0,cpu:1") : NULL;
  const char *device = sd_options_get(o, "device");
  bool archs = device && strncmp(device, "cuda:sm_", 8) == 0; // what code is for, not where it runs
  if (device && !archs && strcmp(device, "cpu") != 0) return SD_ERR(USAGE, "give either device or devices");
  if (sd_options_get(o, "fallback"))
    return SD_ERR(USAGE, "fallback: it is of one device; several devices all work, or the model does not run");
  if (strcmp(p, "mpi") == 0) return read_processes(split, out);
  SD_TRY(read_list(p, out));
  SD_TRY(read_split(split, out));
  return read_more(o, out);
}
