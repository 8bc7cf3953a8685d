// Nodes that stay float by demand: names, patterns, the worst ones of a report.
#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/quantize.h"
#include "runtime/base/file.h"

static bool in_list(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
    if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
  return false;
}

static uint32_t keep_matching(sd_quantize *q, const char *pattern) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < q->units.len; i++) {
    sd_quant_unit *u = &q->units.at[i];
    if (strcmp(u->name, pattern) != 0 && fnmatch(pattern, u->name, 0) != 0) continue;
    found++;
    if (!u->keep) u->keep = true, u->why = "--keep-float";
  }
  return found;
}

static sard_status *unknown(sd_quantize *q, const char *name) {
  const char **names = SD_NEW_ARRAY(q->c->arena, const char *, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) names[i] = q->units.at[i].name;
  const char *near = sd_str_nearest(name, names, q->units.len);
  sard_status *st = SD_ERR(USAGE, "--keep-float: the model has no node '%s' with a weight", name);
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

// The list "sensitivity" of a report that this verb wrote, worst first.
static sard_status *keep_worst(sd_quantize *q, const char *path, long top) {
  sd_map map;
  SD_TRY(sd_file_map(path, &map));
  const char *text = sd_arena_strndup(q->c->arena, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  const char *p = strstr(text, "\"sensitivity\":["), *key = "{\"name\":\"";
  if (!p) return SD_ERR(USAGE, "'%s' is no report with a list of sensitivities", path);
  for (long i = 0; i < top && (p = strpbrk(p, "{]")) != NULL && *p == '{'; i++) {
    if (strncmp(p, key, strlen(key)) != 0) return SD_ERR(USAGE, "'%s' is no report of sard quantize", path);
    const char *name = unquote(q->c->arena, p + strlen(key), &p);
    if (!name) return SD_ERR(MODEL, "'%s' is cut off", path);
    if (!keep_matching(q, name)) return unknown(q, name);
    p = strchr(p, '}');
    if (!p) return SD_ERR(MODEL, "'%s' is cut off", path);
  }
  return NULL;
}

static sard_status *keep_one(sd_quantize *q, const char *given) {
  if (*given != '@') {
    char *list = sd_arena_strdup(q->c->arena, given), *rest = NULL;
    if (keep_matching(q, given)) return NULL; // a name may hold a comma
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
      if (!keep_matching(q, name)) return unknown(q, name);
    return NULL;
  }
  const char *at = strstr(given, ":top=");
  char *end = NULL;
  long top = at ? strtol(at + 5, &end, 10) : 0;
  if (!at || *end || top < 1) return SD_ERR(USAGE, "--keep-float: '%s' is not of the form @REPORT.json:top=N", given);
  return keep_worst(q, sd_arena_strndup(q->c->arena, given + 1, (size_t)(at - given - 1)), top);
}

sard_status *sd_quantize_keep(sd_quantize *q) {
  const char *ops = sd_args_get(q->c, "ops"), *given;
  uint32_t at = 0;
  for (uint32_t i = 0; ops && i < q->units.len; i++)
    if (!q->units.at[i].keep && !in_list(ops, q->units.at[i].op))
      q->units.at[i].keep = true, q->units.at[i].why = "--ops";
  while ((given = sd_args_next(q->c, "keep-float", &at)) != NULL) SD_TRY(keep_one(q, given));
  return NULL;
}
