// Device sets from JSON.
#include <math.h>
#include <string.h>

#include "frontend/driver/fields.h"
#include "frontend/driver/simulate.h"

// Bounds of what a device can be: wide, but such that products of them stay finite.
static const double LEAST_RATE = 1e3, MOST_RATE = 1e21, MOST_SECONDS = 10, MOST_MEMORY = 1e15;

static sard_status *read_flops(const sd_fields *f, sd_arena *a, sd_machine_device *d) {
  const sd_json *v = sd_json_get(f->object, "flops");
  const char *names[SD_DT_COUNT + 1];
  const char *place = sd_arena_printf(a, "%sflops.", f->place);
  uint32_t n = 0;
  sd_fields each;
  if (!v) return sd_fields_wrong(f, "flops", "it is missing");
  for (int t = SD_DT_NONE + 1; t < SD_DT_COUNT; t++)
    if (sd_dtype_is_float((sd_dtype)t) || sd_dtype_is_int((sd_dtype)t))
      names[n++] = sd_dtype_name((sd_dtype)t);
  names[n] = NULL;
  SD_TRY(sd_fields_of(v, f->file, place, names, &each));
  if (!v->first)
    return sd_fields_wrong(f, "flops", "an element type and its operations a second are expected");
  for (const sd_json *x = v->first; x; x = x->next)
    SD_TRY(sd_fields_number(&each, x->key, LEAST_RATE, MOST_RATE, &d->flops[sd_dtype_parse(x->key)]));
  return NULL;
}

static sard_status *read_device(const sd_json *v, const char *file, uint32_t i, sd_arena *a, sd_machine *m) {
  static const char *const names[] = {"kind",   "count",  "memory",          "flops",          "bandwidth",
                                      "launch", "source", "compute_reached", "memory_reached", NULL};
  sd_machine_device *d = &m->kinds[i];
  double memory = NAN;
  int64_t count = 0;
  const char *source = NULL;
  sd_fields f;
  SD_TRY(sd_fields_of(v, file, sd_arena_printf(a, "devices[%u].", i), names, &f));
  *d = (sd_machine_device){.bandwidth = NAN, .launch = NAN, .compute = 0.6, .moving = 0.85};
  SD_TRY(sd_fields_text(&f, "kind", &d->kind));
  SD_TRY(sd_fields_text(&f, "source", &source));
  if (!d->kind) return sd_fields_wrong(&f, "kind", "it is missing");
  SD_TRY(sd_fields_int(&f, "count", 1, SD_MACHINE_MOST, &count));
  SD_TRY(sd_fields_number(&f, "memory", 1, MOST_MEMORY, &memory));
  SD_TRY(sd_fields_number(&f, "bandwidth", LEAST_RATE, MOST_RATE, &d->bandwidth));
  SD_TRY(sd_fields_number(&f, "launch", 0, MOST_SECONDS, &d->launch));
  SD_TRY(sd_fields_number(&f, "compute_reached", 1e-6, 1, &d->compute));
  SD_TRY(sd_fields_number(&f, "memory_reached", 1e-6, 1, &d->moving));
  SD_TRY(read_flops(&f, a, d));
  d->memory = (uint64_t)memory, d->count = (uint32_t)count;
  if (m->count + d->count > SD_MACHINE_MOST)
    return sd_fields_wrong(&f, "count", "there are more than %d devices", SD_MACHINE_MOST);
  m->count += d->count;
  return NULL;
}

static sard_status *read_level(const sd_json *v, const char *file, uint32_t i, sd_arena *a, sd_machine *m) {
  static const char *const names[] = {"name", "devices", "bandwidth", "latency", "start", "source", NULL};
  sd_machine_level *l = &m->levels[i];
  int64_t devices = 0;
  const char *source = NULL;
  uint32_t inside = i ? m->levels[i - 1].devices : 1;
  sd_fields f;
  SD_TRY(sd_fields_of(v, file, sd_arena_printf(a, "links[%u].", i), names, &f));
  *l = (sd_machine_level){.bandwidth = NAN, .latency = NAN};
  SD_TRY(sd_fields_text(&f, "name", &l->name));
  SD_TRY(sd_fields_text(&f, "source", &source));
  if (!l->name) return sd_fields_wrong(&f, "name", "it is missing");
  SD_TRY(sd_fields_int(&f, "devices", 1, SD_MACHINE_MOST, &devices));
  SD_TRY(sd_fields_number(&f, "bandwidth", LEAST_RATE, MOST_RATE, &l->bandwidth));
  SD_TRY(sd_fields_number(&f, "latency", 0, MOST_SECONDS, &l->latency));
  SD_TRY(sd_fields_number(&f, "start", 0, MOST_SECONDS, &l->start));
  if (devices % inside || (i && devices == inside))
    return sd_fields_wrong(&f, "devices", "a multiple of %u, the devices of the level before, is expected",
                           inside);
  l->devices = (uint32_t)devices;
  return NULL;
}

sard_status *sd_simulate_machine(sd_arena *a, const char *path, sd_machine *out) {
  static const char *const names[] = {"devices", "links", NULL};
  sd_json *root;
  const sd_json *item;
  sd_fields f;
  *out = (sd_machine){0};
  SD_TRY(sd_fields_read(a, path, &root));
  SD_TRY(sd_fields_of(root, path, "", names, &f));
  SD_TRY(sd_fields_list(&f, "devices", SD_MACHINE_KINDS, &item, &out->n_kinds));
  for (uint32_t i = 0; i < out->n_kinds; i++, item = item->next) SD_TRY(read_device(item, path, i, a, out));
  if (out->count == 1 && !sd_json_get(root, "links")) return NULL;
  SD_TRY(sd_fields_list(&f, "links", SD_MACHINE_LEVELS, &item, &out->n_levels));
  for (uint32_t i = 0; i < out->n_levels; i++, item = item->next) SD_TRY(read_level(item, path, i, a, out));
  if (out->levels[out->n_levels - 1].devices < out->count)
    return sd_fields_wrong(&f, "links", "the last level joins %u devices, but there are %u",
                           out->levels[out->n_levels - 1].devices, out->count);
  return NULL;
}
