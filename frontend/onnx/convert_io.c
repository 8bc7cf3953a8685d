// Inputs and outputs that become narrow, too: the public name takes the place of the narrow value behind or
// before it, and what still reads f32 reads a cast of it.
#include "frontend/onnx/convert_io.h"

#include <string.h>

typedef struct moving {
  sd_proto *e;
  const char *name, *low, *wide; // of the model; the narrow value, "": there is none; f32 again, where somebody wants it
  bool wanted;
} moving;

static void rename_in(moving *m, char ***list, size_t n, bool widens) {
  char **own = NULL;
  for (size_t i = 0; i < n; i++) {
    bool low = *m->low && strcmp((*list)[i], m->low) == 0, wide = widens && strcmp((*list)[i], m->name) == 0;
    if (!low && !wide) continue;
    if (!own) own = SD_NEW_ARRAY(m->e->a, char *, n), memcpy(own, *list, n * sizeof *own), *list = own;
    own[i] = (char *)(uintptr_t)(low ? m->name : m->wide);
    m->wanted |= wide;
  }
}

static bool defines(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_input; i++)
    if (strcmp(g->input[i]->name, name) == 0) return true;
  for (size_t i = 0; i < g->n_initializer; i++)
    if (strcmp(g->initializer[i]->name, name) == 0) return true;
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++)
      if (strcmp(g->node[i]->output[k], name) == 0) return true;
  return false;
}

// Bodies see values of the graph by name, and read f32.
static void rename_bodies(moving *m, Onnx__NodeProto *n, int depth);
static void rename_body(moving *m, Onnx__GraphProto *g, int depth) {
  if (depth > SD_MAX_DEPTH || defines(g, m->name)) return;
  for (size_t i = 0; i < g->n_node; i++) {
    rename_in(m, &g->node[i]->input, g->node[i]->n_input, true);
    rename_bodies(m, g->node[i], depth);
  }
  for (size_t i = 0; i < g->n_output; i++)
    if (strcmp(g->output[i]->name, m->name) == 0) g->output[i]->name = (char *)(uintptr_t)m->wide, m->wanted = true;
}
static void rename_bodies(moving *m, Onnx__NodeProto *n, int depth) {
  for (size_t i = 0; i < n->n_attribute; i++) {
    if (n->attribute[i]->g) rename_body(m, n->attribute[i]->g, depth + 1);
    for (size_t k = 0; k < n->attribute[i]->n_graphs; k++) rename_body(m, n->attribute[i]->graphs[k], depth + 1);
  }
}

static void insert_cast(sd_proto *e, uint32_t at, const char *from, sd_dtype to, const char *name) {
  Onnx__NodeProto *n = sd_proto_node(e, sd_arena_printf(e->a, "%s_Cast", name), "", "Cast", &from, 1, name);
  sd_proto_int(e, n, "to", to);
  sd_vec_push(e->a, &e->nodes, n);
  memmove(e->nodes.at + at + 1, e->nodes.at + at, (e->nodes.len - 1 - at) * sizeof *e->nodes.at);
  e->nodes.at[at] = n;
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
    rename_bodies(&m, n, 0);
    e->nodes.at[to++] = n;
  }
  e->nodes.len = to;
  if (m.wanted) insert_cast(e, output ? cast : 0, name, SD_F32, m.wide);
}

// All stays f32 but the name of the model, which a cast stands beside.
static void widen(sd_proto *e, const char *name, bool output, sd_dtype to) {
  moving m = {e, name, "", sd_proto_name(e, sd_arena_printf(e->a, "%s_f32", name)), false};
  for (uint32_t i = 0; i < e->nodes.len; i++) {
    Onnx__NodeProto *n = e->nodes.at[i];
    rename_in(&m, &n->input, n->n_input, true), rename_in(&m, &n->output, n->n_output, true);
    rename_bodies(&m, n, 0);
  }
  if (output) insert_cast(e, e->nodes.len, m.wide, to, name);
  else
    insert_cast(e, 0, name, SD_F32, m.wide);
}

static bool is_one_of(Onnx__ValueInfoProto *const *list, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i]->name, name) == 0) return true;
  return false;
}

uint32_t sd_convert_io(sd_proto *e, const sd_names *narrow, sd_dtype to) {
  uint32_t moved = 0;
  for (int out = 0; out < 2; out++) {
    Onnx__ValueInfoProto **list = out ? e->outputs.at : e->graph->input,
                         **others = out ? e->graph->input : e->outputs.at;
    size_t n = out ? e->outputs.len : e->graph->n_input, n_others = out ? e->graph->n_input : e->outputs.len;
    for (size_t i = 0; i < n; i++) {
      const char *low = narrow ? sd_names_get(narrow, list[i]->name) : "";
      const Onnx__TypeProto *type = list[i]->type;
      if (!type || !type->tensor_type || type->tensor_type->elem_type != SD_F32) continue;
      if (!low || sd_proto_weight(e, list[i]->name) || is_one_of(others, n_others, list[i]->name)) continue;
      if (narrow) move(e, list[i]->name, low, out);
      else
        widen(e, list[i]->name, out, to);
      list[i]->type->tensor_type->elem_type = (int32_t)to;
      moved++;
    }
  }
  return moved;
}
