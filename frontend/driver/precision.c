// Reading and writing plans of precision.
//   {"schema":1,"precision":"bf16","nodes":[{"name":"/fc/MatMul","to":"f32","why":"it costs accuracy"}]}
#include "frontend/driver/precision.h"

#include <string.h>

#include "frontend/driver/json.h"
#include "runtime/base/file.h"

static bool is_type(sd_dtype t) { return t == SD_F32 || t == SD_F16 || t == SD_BF16; }

static sard_status *read_node(sd_arena *a, const sd_json *v, const char *file, sd_precision *p) {
  const char *name = sd_json_text(v, "name"), *to = sd_json_text(v, "to");
  if (!name || !to) return SD_ERR(MODEL, "%s: an entry of \"nodes\" has no \"name\" or no \"to\"", file);
  sd_dtype t = sd_dtype_parse(to);
  if (!is_type(t)) return SD_ERR(MODEL, "%s: node '%s': '%s' is none of f32, f16, bf16", file, name, to);
  sd_vec_push(a, &p->choices, ((sd_precision_choice){name, t, sd_json_text(v, "why")}));
  return NULL;
}

static sard_status *read_plan(sd_arena *a, const char *text, const char *file, const sd_precision **out) {
  sd_json *plan;
  sd_precision *p = SD_NEW(a, sd_precision);
  SD_TRY(sd_json_parse(a, text, file, &plan));
  const char *to = sd_json_text(plan, "precision");
  const sd_json *nodes = sd_json_get(plan, "nodes");
  if (!to) return SD_ERR(MODEL, "%s is no plan of precision: it has no \"precision\"", file);
  p->to = sd_dtype_parse(to);
  if (!is_type(p->to)) return SD_ERR(MODEL, "%s: \"precision\": '%s' is none of f32, f16, bf16", file, to);
  if (nodes && nodes->kind != SD_JSON_LIST) return SD_ERR(MODEL, "%s: \"nodes\" is no list", file);
  for (const sd_json *v = nodes ? nodes->first : NULL; v; v = v->next) SD_TRY(read_node(a, v, file, p));
  *out = p;
  return NULL;
}

static sard_status *read_file(sd_arena *a, const char *path, const sd_precision **out) {
  sd_map map;
  SD_TRY(sd_file_map(path, &map));
  const char *text = sd_arena_strndup(a, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  return read_plan(a, text, sd_arena_strdup(a, path), out);
}

sard_status *sd_precision_read(sd_arena *a, const char *text, bool *tf32, const sd_precision **out) {
  *out = NULL, *tf32 = text && strcmp(text, "tf32") == 0;
  if (!text || *tf32 || strcmp(text, "f32") == 0) return NULL;
  if (*text == '@') return read_file(a, text + 1, out);
  if (*text == '{') return read_plan(a, text, "the plan of precision", out);
  if (strcmp(text, "auto") == 0)
    return sd_status_field(SD_ERR(USAGE, "precision: auto measures, which verbs of sard do"),
                           SARD_TEXT_HINT,
                           "sard compile MODEL --precision auto --plan FILE ..., then --precision @FILE");
  sd_precision *p = SD_NEW(a, sd_precision);
  p->to = sd_dtype_parse(text);
  if (!is_type(p->to))
    return SD_ERR(USAGE, "precision: '%s' is none of f32, tf32, bf16, f16, @PLAN.json", text);
  *out = p;
  return NULL;
}

void sd_precision_print(const sd_precision *p, sd_str *out) {
  sd_strf(out, "{\"schema\":1,\"precision\":\"%s\",\"nodes\":[", sd_dtype_name(p->to));
  for (uint32_t i = 0; i < p->choices.len; i++) {
    const sd_precision_choice *c = &p->choices.at[i];
    sd_str_put(out, i ? ",\n{\"name\":" : "\n{\"name\":"), sd_str_json(out, c->name);
    sd_strf(out, ",\"to\":\"%s\"", sd_dtype_name(c->to));
    if (c->why) sd_str_put(out, ",\"why\":"), sd_str_json(out, c->why);
    sd_str_put(out, "}");
  }
  sd_str_put(out, "]}\n");
}
