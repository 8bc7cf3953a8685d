// Inputs and outputs that become narrow, too: the public name takes the place of the narrow value behind or
// before it, and what still reads f32 reads a cast of it.
#include "frontend/onnx/convert_io.h"

#include <string.h>

typedef struct moving {
  sd_proto *e;
  const char *name, *low, *wide; // of the model; the narrow value; f32 again, where somebody wants it
  bool wanted;
} moving;

static void rename_in(moving *m, char ***list, size_t n, bool reads) {
  char **own = NULL;
  for (size_t i = 0; i < n; i++) {
    bool low = strcmp((*list)[i], m->low) == 0, wide = reads && strcmp((*list)[i], m->name) == 0;
    if (!low && !wide) continue;
    if (!own) own = SD_NEW_ARRAY(m->e->a, char *, n), memcpy(own, *list, n * sizeof *own), *list = own;
    own[i] = (char *)(uintptr_t)(low ? m->name : m->wide);
    m->wanted |= wide;
  }
}

// The cast between both.
static bool is_between(const moving *m, const Onnx__NodeProto *n) {
  if (!sd_proto_is(n, "", "Cast")) return false;
  const char *from = n->input[0], *to = n->output[0];
  return (strcmp(from, m->name) == 0 && strcmp(to, m->low) == 0) ||
         (strcmp(from, m->low) == 0 && strcmp(to, m->name) == 0);
}

static void move(sd_proto *e, const char *name, const char *low, bool output) {
  moving m = {e, name, low, sd_proto_name(e, sd_arena_printf(e->a, "%s_f32", name)), false};
  uint32_t to = 0, cast = 0;
  for (uint32_t i = 0; i < e->nodes.len; i++) {
    Onnx__NodeProto *n = e->nodes.at[i];
    if (is_between(&m, n)) {
      cast = to;
      continue;
    }
    rename_in(&m, &n->input, n->n_input, true), rename_in(&m, &n->output, n->n_output, false);
    e->nodes.at[to++] = n;
  }
  e->nodes.len = to;
  if (!m.wanted) return;
  Onnx__NodeProto *n =
      sd_proto_node(e, sd_arena_printf(e->a, "%s_Cast", m.wide), "", "Cast", &name, 1, m.wide);
  uint32_t at = output ? cast : 0;
  sd_proto_int(e, n, "to", SD_F32);
  sd_vec_push(e->a, &e->nodes, n);
  memmove(e->nodes.at + at + 1, e->nodes.at + at, (e->nodes.len - 1 - at) * sizeof *e->nodes.at);
  e->nodes.at[at] = n;
}

static bool has_body(const sd_proto *e) {
  for (uint32_t i = 0; i < e->nodes.len; i++)
    for (size_t k = 0; k < e->nodes.at[i]->n_attribute; k++)
      if (e->nodes.at[i]->attribute[k]->g || e->nodes.at[i]->attribute[k]->n_graphs) return true;
  return false;
}

static bool is_one_of(Onnx__ValueInfoProto *const *list, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i]->name, name) == 0) return true;
  return false;
}

uint32_t sd_convert_io(sd_proto *e, const sd_names *narrow, sd_dtype to) {
  uint32_t moved = 0;
  if (has_body(e)) return 0; // bodies read values of the graph by name
  for (int out = 0; out < 2; out++) {
    Onnx__ValueInfoProto **list = out ? e->outputs.at : e->graph->input,
                         **others = out ? e->graph->input : e->outputs.at;
    size_t n = out ? e->outputs.len : e->graph->n_input, n_others = out ? e->graph->n_input : e->outputs.len;
    for (size_t i = 0; i < n; i++) {
      const char *low = sd_names_get(narrow, list[i]->name);
      if (!low || sd_proto_weight(e, list[i]->name) || is_one_of(others, n_others, list[i]->name)) continue;
      move(e, list[i]->name, low, out);
      list[i]->type->tensor_type->elem_type = (int32_t)to;
      moved++;
    }
  }
  return moved;
}
