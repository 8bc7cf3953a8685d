// Nodes: making, linking and removing them, use lists, attributes.
#include "ir/op.h"

// ---- use lists ----

static void use_add(sd_node *n, uint32_t operand, sd_value *v) {
  n->in[operand] = v;
  if (v) sd_vec_push(n->graph->module->arena, &v->uses, ((sd_use){n, operand}));
}

static void use_drop(sd_node *n, uint32_t operand) {
  sd_value *v = n->in[operand];
  n->in[operand] = NULL;
  if (!v) return;
  for (uint32_t i = v->uses.len; i-- > 0;) // new uses are at the end, and these change most
    if (v->uses.at[i].node == n && v->uses.at[i].operand == operand) {
      memmove(&v->uses.at[i], &v->uses.at[i + 1], (v->uses.len - i - 1) * sizeof v->uses.at[0]);
      v->uses.len--;
      return;
    }
}

void sd_node_set_input(sd_node *n, uint32_t operand, sd_value *v) {
  if (operand >= n->n_in || n->in[operand] == v) return;
  use_drop(n, operand);
  use_add(n, operand, v);
}

// ---- list of nodes ----

static void link_before(sd_graph *g, sd_node *n, sd_node *before) {
  n->graph = g;
  n->next = before;
  n->prev = before ? before->prev : g->last;
  *(n->prev ? &n->prev->next : &g->first) = n;
  *(before ? &before->prev : &g->last) = n;
}

static void unlink_node(sd_node *n) {
  *(n->prev ? &n->prev->next : &n->graph->first) = n->next;
  *(n->next ? &n->next->prev : &n->graph->last) = n->prev;
  n->prev = n->next = NULL;
}

static void children_drop(sd_graph *g, const sd_graph *child) {
  for (uint32_t i = 0; i < g->children.len; i++)
    if (g->children.at[i] == child) {
      memmove(&g->children.at[i], &g->children.at[i + 1], (g->children.len - i - 1) * sizeof g->children.at[0]);
      g->children.len--;
      return;
    }
}

sd_node *sd_node_new(sd_graph *g, sd_node *before, const sd_op *op, sd_value *const *in, uint32_t n_in,
                     uint32_t n_out) {
  sd_arena *a = g->module->arena;
  sd_node *n = SD_NEW(a, sd_node);
  n->op = op;
  n->name = "";
  n->onnx_index = -1;
  n->n_in = n_in;
  n->n_out = n_out;
  n->n_attr = op->n_attr;
  n->in = SD_NEW_ARRAY(a, sd_value *, n_in);
  n->out = SD_NEW_ARRAY(a, sd_value *, n_out);
  n->attrs = SD_NEW_ARRAY(a, sd_attr, n->n_attr);
  for (uint32_t i = 0; i < n->n_attr; i++) {
    sd_attr def = op->attrs[i].def; // its kind is the declared one even without a default, see sd_attrdecl
    if (op->attrs[i].has_default) n->attrs[i] = def;
  }
  link_before(g, n, before);
  for (uint32_t i = 0; i < n_in; i++) use_add(n, i, in[i]);
  for (uint32_t i = 0; i < n_out; i++) {
    n->out[i] = sd_value_new(g, "");
    n->out[i]->def = n;
    n->out[i]->out_index = i;
  }
  return n;
}

sd_node *sd_node_like(sd_graph *g, sd_node *before, const sd_node *like, sd_value *const *in, uint32_t n_in,
                      uint32_t n_out) {
  sd_node *n = sd_node_new(g, before, like->op, in, n_in, n_out);
  if (n->n_attr) memcpy(n->attrs, like->attrs, n->n_attr * sizeof *n->attrs);
  n->name = like->name, n->onnx_index = like->onnx_index;
  return n;
}

static void drop_operands(sd_node *n) { // of n and of everything in its bodies
  for (uint32_t i = 0; i < n->n_in; i++) use_drop(n, i);
  for (uint32_t i = 0; i < n->n_body; i++)
    for (sd_node *x = n->bodies[i]->first; x; x = x->next) drop_operands(x);
}

void sd_node_remove(sd_node *n) {
  drop_operands(n);
  for (uint32_t i = 0; i < n->n_body; i++) children_drop(n->graph, n->bodies[i]);
  unlink_node(n);
}

void sd_node_move_to(sd_node *n, sd_graph *g, sd_node *before) {
  if (before == n) return;
  if (g != n->graph) {
    for (uint32_t i = 0; i < n->n_body; i++) {
      children_drop(n->graph, n->bodies[i]);
      sd_vec_push(g->module->arena, &g->children, n->bodies[i]);
    }
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) n->out[i]->graph = g;
  }
  unlink_node(n);
  link_before(g, n, before);
}

void sd_node_move_before(sd_node *n, sd_node *before) { sd_node_move_to(n, before ? before->graph : n->graph, before); }

// ---- attributes ----

sd_attr *sd_node_attr(const sd_node *n, const char *name) {
  for (uint32_t i = 0; i < n->n_attr; i++)
    if (strcmp(n->op->attrs[i].name, name) == 0) return &n->attrs[i];
  return NULL;
}

int64_t sd_node_int(const sd_node *n, const char *name, int64_t absent) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_INT ? a->i : absent;
}

float sd_node_float(const sd_node *n, const char *name, float absent) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_FLOAT ? a->f : absent;
}

const char *sd_node_str(const sd_node *n, const char *name, const char *absent) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_STRING ? a->s : absent;
}

void sd_node_set_int(sd_node *n, const char *name, int64_t v) {
  sd_attr *a = sd_node_attr(n, name);
  if (a) *a = (sd_attr){.kind = SD_ATTR_INT, .i = v};
}

void sd_node_set_ints(sd_node *n, const char *name, const int64_t *v, uint32_t count) {
  sd_attr *a = sd_node_attr(n, name);
  if (!a) return;
  *a = (sd_attr){.kind = SD_ATTR_INTS, .n = count};
  a->ints = sd_arena_dup(n->graph->module->arena, v, count * sizeof *v);
}
