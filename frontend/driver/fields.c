// Checked members of JSON objects.
#include "frontend/driver/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/file.h"
#include "runtime/base/str.h"

enum { MOST_BYTES = 1 << 20, MOST_NAMES = 64 };

sard_status *sd_fields_wrong(const sd_fields *f, const char *name, const char *fmt, ...) {
  const sd_json *v = sd_json_get(f->object, name);
  char what[256];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof what, fmt, ap);
  va_end(ap);
  return SD_ERR(MODEL, "%s, line %d: %s%s: %s", f->file, v ? v->line : f->object->line, f->place, name, what);
}

static sard_status *unknown(const sd_fields *f, const sd_json *v, const char *const *names) {
  size_t n = 0;
  while (names[n] && n < MOST_NAMES) n++;
  const char *near = sd_str_nearest(v->key, names, n);
  return SD_ERR(MODEL, "%s, line %d: there is no '%s%.60s'%s%s%s", f->file, v->line, f->place, v->key,
                near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

sard_status *sd_fields_of(const sd_json *v, const char *file, const char *place, const char *const *names,
                          sd_fields *out) {
  *out = (sd_fields){file, place, v};
  if (v->kind != SD_JSON_OBJECT)
    return SD_ERR(MODEL, "%s, line %d: %s an object { } is expected", file, v->line,
                  *place ? place : "the file:");
  for (const sd_json *x = v->first; x; x = x->next) {
    size_t k = 0;
    while (names[k] && strcmp(names[k], x->key) != 0) k++;
    if (!names[k]) return unknown(out, x, names);
    if (sd_json_get(v, x->key) != x)
      return SD_ERR(MODEL, "%s, line %d: '%s%s' is there twice", file, x->line, place, x->key);
  }
  return NULL;
}

sard_status *sd_fields_number(const sd_fields *f, const char *name, double least, double most, double *out) {
  const sd_json *v = sd_json_get(f->object, name);
  if (!v) return isnan(*out) ? sd_fields_wrong(f, name, "it is missing") : NULL;
  if (v->kind != SD_JSON_NUMBER || !(v->number >= least && v->number <= most))
    return sd_fields_wrong(f, name, "a number from %g to %g is expected", least, most);
  *out = v->number;
  return NULL;
}

sard_status *sd_fields_int(const sd_fields *f, const char *name, int64_t least, int64_t most, int64_t *out) {
  const sd_json *v = sd_json_get(f->object, name);
  if (!v) return *out < least ? sd_fields_wrong(f, name, "it is missing") : NULL;
  if (v->kind != SD_JSON_NUMBER || !(v->number >= (double)least && v->number <= (double)most) ||
      v->number != floor(v->number))
    return sd_fields_wrong(f, name, "a whole number from %lld to %lld is expected", (long long)least,
                           (long long)most);
  *out = (int64_t)v->number;
  return NULL;
}

sard_status *sd_fields_text(const sd_fields *f, const char *name, const char **out) {
  const sd_json *v = sd_json_get(f->object, name);
  if (!v) return NULL;
  if (v->kind != SD_JSON_TEXT || !*v->text || strlen(v->text) > 100)
    return sd_fields_wrong(f, name, "a text of 1 to 100 bytes is expected");
  *out = v->text;
  return NULL;
}

sard_status *sd_fields_bool(const sd_fields *f, const char *name, bool *out) {
  const sd_json *v = sd_json_get(f->object, name);
  if (!v) return NULL;
  if (v->kind != SD_JSON_BOOL) return sd_fields_wrong(f, name, "true or false is expected");
  *out = v->number != 0;
  return NULL;
}

sard_status *sd_fields_list(const sd_fields *f, const char *name, uint32_t most, const sd_json **first,
                            uint32_t *n) {
  const sd_json *v = sd_json_get(f->object, name);
  *n = 0;
  if (!v) return sd_fields_wrong(f, name, "it is missing");
  for (const sd_json *x = v->kind == SD_JSON_LIST ? v->first : NULL; x && *n <= most; x = x->next) ++*n;
  if (*n == 0 || *n > most) return sd_fields_wrong(f, name, "a list of 1 to %u items is expected", most);
  *first = v->first;
  return NULL;
}

sard_status *sd_fields_read(sd_arena *a, const char *path, sd_json **out) {
  sd_map map;
  SD_TRY(sd_file_map(path, &map));
  bool large = map.size > MOST_BYTES, text = !large && (!map.size || !memchr(map.data, 0, map.size));
  const char *copy = text ? sd_arena_strndup(a, map.data ? (const char *)map.data : "", map.size) : NULL;
  sd_file_unmap(&map);
  if (large) return SD_ERR(MODEL, "%s has more than %d bytes, too many for a description", path, MOST_BYTES);
  if (!text) return SD_ERR(MODEL, "%s is no text", path);
  return sd_json_parse(a, copy, sd_arena_strdup(a, path), out);
}
