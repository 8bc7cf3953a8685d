// Nodes that are left as they are, by demand: operators, names, patterns, the worst ones of a report.
#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/pick.h"
#include "runtime/base/file.h"

typedef struct picking {
  sd_cli *c;
  const char *flag; // "keep-float"
  sd_pick *at;
  uint32_t n;
} picking;

static bool in_list(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
    if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
  return false;
}

static uint32_t keep_matching(picking *k, const char *pattern) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < k->n; i++) {
    sd_pick *u = &k->at[i];
    if (strcmp(u->name, pattern) != 0 && fnmatch(pattern, u->name, 0) != 0) continue;
    found++;
    if (!u->keep) u->keep = true, u->why = sd_arena_printf(k->c->arena, "--%s", k->flag);
  }
  return found;
}

static sard_status *unknown(picking *k, const char *name) {
  const char **names = SD_NEW_ARRAY(k->c->arena, const char *, k->n + 1);
  for (uint32_t i = 0; i < k->n; i++) names[i] = k->at[i].name;
  const char *near = sd_str_nearest(name, names, k->n);
  sard_status *st = SD_ERR(USAGE, "--%s: the model has no node '%s' with a weight", k->flag, name);
  return near ? sd_status_field(st, SARD_TEXT_HINT, "did you mean '%s'?", near) : st;
}

// The text of a JSON string, up to its end quote; NULL where it is cut off.
static const char *unquote(sd_arena *a, const char *p, const char **end) {
  char *to = sd_arena_strdup(a, p), *out = to;
  for (; *p && *p != '"'; p++) {
    if (*p != '\\') *to++ = *p;
    else if (p[1] == 'u' && isxdigit((unsigned char)p[2]) && strlen(p) > 5)
      *to++ = (char)strtol((char[5]){p[2], p[3], p[4], p[5], 0}, NULL, 16), p += 5;
    else if (*++p)
      *to++ = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
    else
      break;
  }
  *to = 0, *end = p;
  return *p ? out : NULL;
}

// The list "sensitivity" of a report that the verb wrote, worst first.
static sard_status *keep_worst(picking *k, const char *path, long top) {
  sd_map map;
  SD_TRY(sd_file_map(path, &map));
  const char *text = sd_arena_strndup(k->c->arena, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  const char *p = strstr(text, "\"sensitivity\":["), *key = "{\"name\":\"";
  if (!p) return SD_ERR(USAGE, "'%s' is no report with a list of sensitivities", path);
  for (long i = 0; i < top && (p = strpbrk(p, "{]")) != NULL && *p == '{'; i++) {
    if (strncmp(p, key, strlen(key)) != 0)
      return SD_ERR(USAGE, "'%s' is no report of sard %s", path, k->c->verb->name);
    const char *name = unquote(k->c->arena, p + strlen(key), &p);
    if (!name) return SD_ERR(MODEL, "'%s' is cut off", path);
    if (!keep_matching(k, name)) return unknown(k, name);
    p = strchr(p, '}');
    if (!p) return SD_ERR(MODEL, "'%s' is cut off", path);
  }
  return NULL;
}

static sard_status *keep_one(picking *k, const char *given) {
  if (*given != '@') {
    char *list = sd_arena_strdup(k->c->arena, given), *rest = NULL;
    if (keep_matching(k, given)) return NULL; // a name may hold a comma
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
      if (!keep_matching(k, name)) return unknown(k, name);
    return NULL;
  }
  const char *at = strstr(given, ":top=");
  char *end = NULL;
  long top = at ? strtol(at + 5, &end, 10) : 0;
  if (!at || *end || top < 1)
    return SD_ERR(USAGE, "--%s: '%s' is not of the form @REPORT.json:top=N", k->flag, given);
  return keep_worst(k, sd_arena_strndup(k->c->arena, given + 1, (size_t)(at - given - 1)), top);
}

sard_status *sd_pick_keep(sd_cli *c, const char *flag, sd_pick *at, uint32_t n) {
  picking k = {c, flag, at, n};
  const char *ops = sd_args_get(c, "ops"), *given;
  uint32_t next = 0;
  for (uint32_t i = 0; ops && i < n; i++)
    if (!at[i].keep && !in_list(ops, at[i].op)) at[i].keep = true, at[i].why = "--ops";
  while ((given = sd_args_next(c, flag, &next)) != NULL) SD_TRY(keep_one(&k, given));
  return NULL;
}
