// Key/value options and their checks.
#include "runtime/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"

typedef struct entry { char *key, *value; } entry;
struct sard_options {
  entry *at;
  size_t n, cap;
};

typedef struct known { sd_option_object object; const char *key; } known;
static const known table[] = {
#define SD_OPTION(object, key, what) {SD_OPT_##object, key},
#include "runtime/options.def"
#undef SD_OPTION
};
enum { KNOWN = sizeof table / sizeof *table };

static bool matches(const char *pattern, const char *key) {
  size_t n = strlen(pattern);
  return pattern[n - 1] == ':' ? !strncmp(pattern, key, n) && key[n] : !strcmp(pattern, key);
}

// The objects that take this key, as a bit set.
static unsigned objects_of(const char *key) {
  unsigned found = 0;
  for (int i = 0; i < KNOWN; i++)
    if (matches(table[i].key, key)) found |= (unsigned)table[i].object;
  return found;
}

static sard_status *unknown_key(const char *key, unsigned objects, const char *whose) {
  const char *names[KNOWN];
  size_t n = 0;
  for (int i = 0; i < KNOWN; i++)
    if ((unsigned)table[i].object & objects) names[n++] = table[i].key;
  const char *near = sd_str_nearest(key, names, n);
  sard_status *st = near ? SD_ERR(USAGE, "unknown option '%s'%s; did you mean '%s'?", key, whose, near)
                         : SD_ERR(USAGE, "unknown option '%s'%s", key, whose);
  sd_str all = {0};
  for (size_t i = 0; i < n; i++) sd_strf(&all, "%s%s", i ? ", " : "", names[i]);
  char *list = sd_str_take(&all);
  st = sd_status_field(st, SARD_TEXT_HINT, "known options: %s", list ? list : "");
  sd_free(list);
  return st;
}

sard_options *sard_options_new(void) { return sd_calloc(1, sizeof(sard_options)); }

void sard_options_free(sard_options *o) {
  if (!o) return;
  for (size_t i = 0; i < o->n; i++) {
    sd_free(o->at[i].key);
    sd_free(o->at[i].value);
  }
  sd_free(o->at);
  sd_free(o);
}

static bool put(sard_options *o, const char *key, const char *value) {
  char *copy = sd_strdup(value);
  if (!copy) return false;
  for (size_t i = 0; i < o->n; i++)
    if (!strcmp(o->at[i].key, key)) { // the last value counts
      sd_free(o->at[i].value);
      o->at[i].value = copy;
      return true;
    }
  if (o->n == o->cap) {
    size_t cap = o->cap ? 2 * o->cap : 8;
    entry *at = sd_realloc(o->at, cap * sizeof *at);
    if (at) o->at = at, o->cap = cap;
  }
  char *name = o->n < o->cap ? sd_strdup(key) : NULL;
  if (!name) {
    sd_free(copy);
    return false;
  }
  o->at[o->n++] = (entry){name, copy};
  return true;
}

sard_status *sard_options_set(sard_options *o, const char *key, const char *value) {
  if (!o || !key || !value) return SD_ERR(USAGE, "sard_options_set: options, key and value must not be NULL");
  if (!objects_of(key)) return unknown_key(key, ~0u, "");
  return put(o, key, value) ? NULL : SD_ERR(NOMEM, "out of memory while setting option '%s'", key);
}

sard_options *sd_options_clone(const sard_options *o) {
  sard_options *c = o ? sard_options_new() : NULL;
  for (size_t i = 0; c && i < o->n; i++)
    if (!put(c, o->at[i].key, o->at[i].value)) {
      sard_options_free(c);
      return NULL;
    }
  return c;
}

sard_status *sd_options_check(const sard_options *o, sd_option_object object) {
  const char *name = object == SD_OPT_CONTEXT ? " of a context"
                     : object == SD_OPT_MODEL ? " of a model"
                                              : " of a session";
  for (size_t i = 0; o && i < o->n; i++)
    if (!(objects_of(o->at[i].key) & (unsigned)object)) return unknown_key(o->at[i].key, (unsigned)object, name);
  return NULL;
}

const char *sd_options_get(const sard_options *o, const char *key) {
  for (size_t i = 0; o && i < o->n; i++)
    if (!strcmp(o->at[i].key, key)) return o->at[i].value;
  return NULL;
}

bool sd_options_at(const sard_options *o, size_t index, const char **key, const char **value) {
  if (!o || index >= o->n) return false;
  *key = o->at[index].key;
  *value = o->at[index].value;
  return true;
}

sard_status *sd_options_int(const sard_options *o, const char *key, int64_t min, int64_t max, int64_t absent,
                            int64_t *out) {
  const char *text = sd_options_get(o, key);
  *out = absent;
  if (!text) return NULL;
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (end == text || *end || errno || v < min || v > max)
    return SD_ERR(USAGE, "option '%s' is '%s', it must be a whole number from %lld to %lld", key, text, (long long)min,
                  (long long)max);
  *out = v;
  return NULL;
}

sard_status *sd_options_read_bytes(const char *key, const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  bool ok = end != text && text[0] >= '0' && text[0] <= '9' && !errno;
  static const char units[] = "KMGT";
  const char *unit = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
  if (unit) {
    end++;
    ok = ok && sd_ck_mul(v, UINT64_C(1) << (10 * (unit - units + 1)), out);
  } else {
    *out = v;
  }
  if (!ok || *end) return SD_ERR(USAGE, "option '%s' is '%s', it must be bytes such as 500000, 64M or 2G", key, text);
  return NULL;
}

sard_status *sd_options_bytes(const sard_options *o, const char *key, uint64_t *out) {
  const char *text = sd_options_get(o, key);
  *out = 0;
  return text ? sd_options_read_bytes(key, text, out) : NULL;
}
