// Flags from a JSON file, with the words of the command line: {"max-drop": "1%", "threads": 2, "limit":
// ["p99<10ms"]}.
#include <math.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "frontend/driver/json.h"
#include "runtime/base/file.h"

static bool repeats(const sd_cli_flag *f) {
  size_t n = strlen(f->arg);
  return n > 3 && strcmp(f->arg + n - 3, "...") == 0;
}

static const sd_cli_flag *flag_of(const sd_cli *c, const char *name) {
  for (size_t i = 0; sd_args_flag_at(i); i++) {
    const sd_cli_flag *f = sd_args_flag_at(i);
    bool same = *f->name ? strcmp(f->name, name) == 0 : name[0] == f->letter && !name[1];
    if (same && sd_args_flag_of(f, c->verb->name)) return f;
  }
  return NULL;
}

static sard_status *unknown(const sd_cli *c, const char *path, const char *name) {
  SD_VEC(const char *) names = {0};
  for (size_t i = 0; sd_args_flag_at(i); i++) {
    const sd_cli_flag *f = sd_args_flag_at(i);
    if (*f->name && sd_args_flag_of(f, c->verb->name)) sd_vec_push(c->arena, &names, f->name);
  }
  const char *near = sd_str_nearest(name, names.at, names.len);
  sard_status *st = SD_ERR(USAGE, "'%s': \"%.60s\" is no flag of %s", path, name, c->verb->name);
  if (near) return sd_status_field(st, SARD_TEXT_HINT, "did you mean \"%s\"?", near);
  return sd_status_field(st, SARD_TEXT_HINT, "its words are those of '%s %s --help'", c->program->name,
                         c->verb->name);
}

// The value as it would stand on the command line; NULL: the switch is off.
static sard_status *text_of(sd_cli *c, const char *path, const sd_cli_flag *f, const sd_json *v,
                            const char **out) {
  const char *name = *f->name ? f->name : sd_arena_strndup(c->arena, &f->letter, 1);
  *out = v->text;
  if (!*f->arg) {
    *out = v->kind == SD_JSON_BOOL && v->number != 0 ? "1" : NULL;
    return v->kind == SD_JSON_BOOL ? NULL : SD_ERR(USAGE, "'%s': \"%s\" is true or false", path, name);
  }
  if (v->kind == SD_JSON_TEXT) return NULL;
  if (v->kind != SD_JSON_NUMBER)
    return SD_ERR(USAGE, "'%s': \"%s\" needs a text or a number, as --%s %s", path, name, name, f->arg);
  bool whole = floor(v->number) == v->number && fabs(v->number) < 1e15;
  *out = sd_arena_printf(c->arena, whole ? "%.0f" : "%.17g", v->number);
  return NULL;
}

sard_status *sd_args_add(sd_cli *c, const char *flag, const char *value, bool in_front) {
  const sd_cli_flag *f = flag_of(c, flag);
  if (!f) return SD_ERR(USAGE, "%s: unknown flag '%s'", c->verb->name, flag);
  sd_vec_push(c->arena, &c->given, ((sd_cli_given){f, value}));
  if (!in_front) return NULL;
  memmove(c->given.at + 1, c->given.at, (c->given.len - 1) * sizeof *c->given.at);
  c->given.at[0] = (sd_cli_given){f, value};
  return NULL;
}

static sard_status *add_member(sd_cli *c, const char *path, const sd_json *v) {
  const sd_cli_flag *f = flag_of(c, v->key);
  const char *text;
  if (!f) return unknown(c, path, v->key);
  const char *key = sd_arena_strdup(c->arena, v->key);
  bool list = v->kind == SD_JSON_LIST;
  if (list && !repeats(f)) return SD_ERR(USAGE, "'%s': \"%s\" takes one value, not a list", path, key);
  for (const sd_json *e = list ? v->first : v; e; e = list ? e->next : NULL) {
    SD_TRY(text_of(c, path, f, e, &text));
    if (text) SD_TRY(sd_args_add(c, key, text, true));
  }
  return NULL;
}

sard_status *sd_args_config(sd_cli *c, const char *path) {
  sd_map map;
  sd_json *all;
  sd_cli given = *c; // what the command line says
  SD_TRY(sd_file_map(path, &map));
  const char *text = sd_arena_strndup(c->arena, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  sard_status *bad = sd_json_parse(c->arena, text, path, &all);
  if (bad) return bad;
  if (all->kind != SD_JSON_OBJECT)
    return SD_ERR(USAGE, "'%s' is no JSON object such as {\"goal\": \"latency\", \"max-drop\": \"1%%\"}",
                  path);
  c->given.at = NULL, c->given.len = c->given.cap = 0;
  for (const sd_json *v = all->first; v; v = v->next) {
    uint32_t at = 0;
    if (strcmp(v->key, "config") == 0) return SD_ERR(USAGE, "'%s': \"config\" cannot name another one", path);
    bool over = false; // the command line gives the flag
    for (const sd_cli_flag *f = flag_of(c, v->key); f && at < given.given.len; at++)
      over |= given.given.at[at].flag == f;
    if (!over || !flag_of(c, v->key)) SD_TRY(add_member(c, path, v));
  }
  for (uint32_t i = 0; i < given.given.len; i++) sd_vec_push(c->arena, &c->given, given.given.at[i]);
  c->quiet |= sd_args_given(c, "quiet"), c->verbose += sd_args_given(c, "verbose");
  return NULL;
}
