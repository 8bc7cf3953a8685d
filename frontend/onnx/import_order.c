// Order of nodes: ONNX wants files sorted; those that are not are sorted here, and cycles found.
#include "frontend/onnx/internal.h"

typedef SD_VEC(uint32_t) indexes;

typedef struct order {
  sd_import *im;
  Onnx__NodeProto *const *nodes;
  size_t n;
  sd_names producers; // value name -> index + 1
  indexes deps;       // of node i: deps.at[start[i] .. start[i + 1])
  uint32_t *start;
  bool sorted, replaced; // replaced: a Constant is defined again
} order;

static void add_dep(order *o, uint32_t node, const char *name) {
  uintptr_t p = (uintptr_t)sd_names_get(&o->producers, name);
  if (!p) return;
  if (p - 1 >= node) o->sorted = false;
  sd_vec_push(o->im->tmp, &o->deps, (uint32_t)(p - 1));
}

// Names that a body makes itself: they hide those of the graphs around it.
typedef struct local {
  const struct local *outer;
  sd_names names;
} local;

static void read_name(order *o, uint32_t node, const local *in, const char *name) {
  if (!*name) return;
  for (; in; in = in->outer)
    if (sd_names_get(&in->names, name)) return;
  add_dep(o, node, name);
}

static void add_graph(order *o, uint32_t node, const local *outer, const Onnx__GraphProto *g);

// What the node reads, with its bodies.
static void add_node(order *o, uint32_t node, const local *in, const Onnx__NodeProto *p) {
  for (size_t i = 0; i < p->n_input; i++) read_name(o, node, in, p->input[i]);
  for (size_t i = 0; i < p->n_attribute; i++) {
    if (p->attribute[i]->g) add_graph(o, node, in, p->attribute[i]->g);
    for (size_t k = 0; k < p->attribute[i]->n_graphs; k++) add_graph(o, node, in, p->attribute[i]->graphs[k]);
  }
}

static void add_graph(order *o, uint32_t node, const local *outer, const Onnx__GraphProto *g) {
  local l = {.outer = outer};
  sd_names_init(&l.names, o->im->tmp);
  for (size_t i = 0; i < g->n_input; i++) sd_names_add(&l.names, g->input[i]->name, o);
  for (size_t i = 0; i < g->n_initializer; i++) sd_names_add(&l.names, g->initializer[i]->name, o);
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++) sd_names_add(&l.names, g->node[i]->output[k], o);
  for (size_t i = 0; i < g->n_node; i++) add_node(o, node, &l, g->node[i]);
  for (size_t i = 0; i < g->n_output; i++) read_name(o, node, &l, g->output[i]->name);
}

static bool is_constant(const Onnx__NodeProto *p) {
  return p->n_output == 1 && *p->output[0] && strcmp(p->op_type, "Constant") == 0 && (!*p->domain || strcmp(p->domain, "ai.onnx") == 0);
}

// Of Constants of one name the last one counts, as in ONNX Runtime, which makes initializers of them.
static void find_producers(order *o) {
  sd_names_init(&o->producers, o->im->tmp);
  for (size_t i = 0; i < o->n; i++)
    for (size_t k = 0; k < o->nodes[i]->n_output; k++) {
      const char *name = o->nodes[i]->output[k];
      if (!*name || sd_names_add(&o->producers, name, (void *)(uintptr_t)(i + 1))) continue;
      uintptr_t first = (uintptr_t)sd_names_get(&o->producers, name);
      if (!is_constant(o->nodes[i]) || !is_constant(o->nodes[first - 1])) continue; // an error when it is defined
      sd_names_set(&o->producers, name, (void *)(uintptr_t)(i + 1));
      o->replaced = true;
    }
}

static bool is_replaced(const order *o, uint32_t i) {
  return o->replaced && is_constant(o->nodes[i]) && (uintptr_t)sd_names_get(&o->producers, o->nodes[i]->output[0]) != i + 1u;
}

enum { NEW, OPEN, DONE };

// Depth first in the order of the file, on an explicit stack: stack entries are nodes, at[] their next dependency.
static sard_status *sort(order *o, uint32_t *out) {
  sd_arena *a = o->im->tmp;
  uint8_t *state = SD_NEW_ARRAY(a, uint8_t, o->n);
  uint32_t *stack = SD_NEW_ARRAY(a, uint32_t, o->n), *at = SD_NEW_ARRAY(a, uint32_t, o->n), n_out = 0;
  for (uint32_t root = 0; root < o->n; root++) {
    if (state[root] != NEW) continue;
    uint32_t depth = 0;
    stack[depth++] = root;
    state[root] = OPEN;
    at[root] = o->start[root];
    while (depth) {
      uint32_t node = stack[depth - 1];
      if (at[node] == o->start[node + 1]) {
        state[node] = DONE;
        out[n_out++] = node;
        depth--;
        continue;
      }
      uint32_t dep = o->deps.at[at[node]++];
      if (state[dep] == OPEN)
        return SD_ERR(MODEL, "node %u '%.200s' (%s) depends on its own output: the graph has a cycle", dep,
                      o->nodes[dep]->name, o->nodes[dep]->op_type);
      if (state[dep] == DONE) continue;
      state[dep] = OPEN;
      at[dep] = o->start[dep];
      stack[depth++] = dep;
    }
  }
  return NULL;
}

sard_status *sd_import_order(sd_import *im, Onnx__NodeProto *const *nodes, size_t n, uint32_t **out_order, uint32_t *out_n) {
  order o = {.im = im, .nodes = nodes, .n = n, .sorted = true};
  if (n > UINT32_MAX / 4) return SD_ERR(UNSUPPORTED, "a graph of %zu nodes", n);
  *out_order = SD_NEW_ARRAY(im->tmp, uint32_t, n);
  find_producers(&o);
  o.start = SD_NEW_ARRAY(im->tmp, uint32_t, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    add_node(&o, i, NULL, nodes[i]);
    o.start[i + 1] = o.deps.len;
    (*out_order)[i] = i;
  }
  if (!o.sorted) SD_TRY(sort(&o, *out_order));
  *out_n = 0;
  for (uint32_t i = 0; i < n; i++)
    if (!is_replaced(&o, (*out_order)[i])) (*out_order)[(*out_n)++] = (*out_order)[i];
  return NULL;
}
