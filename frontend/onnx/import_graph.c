// Graphs: inputs, initializers, nodes in order, outputs; the main one and bodies.
#include "frontend/onnx/internal.h"

static sard_status *initializers(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  for (size_t i = 0; i < p->n_initializer; i++) {
    sd_const *c = NULL;
    if (!*p->initializer[i]->name) return SD_ERR(MODEL, "initializer %zu has no name", i);
    SD_TRY(sd_tensor_proto_const(&im->tensors, p->initializer[i], "initializer", &c));
    sd_value *v = sd_import_const_value(scope, p->initializer[i]->name, c);
    SD_TRY_MSG(sd_import_define(im, scope, p->initializer[i]->name, v), "initializer %zu", i);
  }
  for (size_t i = 0; i < p->n_sparse_initializer; i++) {
    const Onnx__SparseTensorProto *s = p->sparse_initializer[i];
    const char *name = s->values ? s->values->name : "";
    if (!*name) return SD_ERR(MODEL, "sparse initializer %zu has no name", i);
    SD_TRY(sd_tensor_proto_sparse_check(&im->tensors, s, "sparse initializer"));
    if (sd_names_get(&scope->names, name) || !sd_names_add(&scope->sparse, name, (void *)s))
      return SD_ERR(MODEL, "the value '%.200s' is defined twice (sparse initializer %zu)", name, i);
  }
  return NULL;
}

static bool is_initializer(const sd_scope *scope, const char *name) {
  return sd_names_get(&scope->names, name) || sd_names_get(&scope->sparse, name);
}

static sard_status *missing_rank(sd_import *im, const char *name, uint32_t index, sd_onnx_type *t) {
  int rank = -1;
  if (t->unsupported || t->object || t->dtype == SD_DT_NONE || t->rank != SD_RANK_UNKNOWN || !im->shapes) return NULL;
  SD_TRY(im->shapes->rank(im->shapes->user, index, name, &rank));
  return rank < 0 ? NULL : sd_import_set_rank(im, name, rank, t);
}

static sard_status *main_inputs(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  sd_names seen;
  uint32_t index = 0;
  sd_names_init(&seen, im->tmp);
  for (size_t i = 0; i < p->n_input; i++) {
    const char *name = p->input[i]->name;
    sd_onnx_type t;
    if (!*name) return SD_ERR(MODEL, "input %zu has no name", i);
    if (!sd_names_add(&seen, name, p->input[i])) return SD_ERR(MODEL, "the input '%.200s' is declared twice", name);
    if (is_initializer(scope, name)) continue; // a constant with a default: the default is taken
    SD_TRY(sd_import_type(im, p->input[i], false, &t));
    SD_TRY(missing_rank(im, name, index++, &t));
    if (t.unsupported)
      sd_import_problem_line(im, sd_arena_printf(im->tmp, "input '%.200s' is %s", name, t.unsupported));
    else if (t.dtype == SD_DT_NONE)
      sd_import_problem_line(im, sd_arena_printf(im->tmp, "input '%.200s' has no element type", name));
    else if (t.rank == SD_RANK_UNKNOWN) {
      t.object = sd_otype_new(im->m, SD_OBJ_TENSOR, t.dtype, SD_RANK_UNKNOWN, NULL);
      t.dtype = SD_OBJECT, t.rank = 0;
    }
    bool known = !t.unsupported && t.rank != SD_RANK_UNKNOWN;
    sd_value *v =
        known ? sd_graph_input(scope->graph, name, t.dtype, t.rank, t.dims) : sd_value_new(scope->graph, name);
    v->object = t.object;
    SD_TRY(sd_import_define(im, scope, name, v));
  }
  return NULL;
}

static sard_status *nodes(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  uint32_t *order = NULL, n = 0;
  SD_TRY(sd_import_order(im, p->node, p->n_node, &order, &n));
  for (uint32_t i = 0; i < n; i++) SD_TRY(sd_import_node(im, scope, p->node[order[i]], (int)order[i]));
  return NULL;
}

// The caller sees outputs by name: a value that has another name already (an alias through a function, an output that
// is listed under two names) gets an Identity.
static sard_status *named_output(sd_import *im, sd_scope *scope, const char *name, sd_value **v) {
  if (strcmp((*v)->name, name) == 0 || (*v)->dtype == SD_DT_NONE) return NULL;
  sd_node *n = NULL;
  SD_TRY(sd_import_emit(im, scope, "Identity", v, 1, &n));
  SD_TRY(sd_node_infer(n));
  *v = n->out[0];
  (*v)->name = sd_arena_strdup(im->m->arena, name);
  return NULL;
}

// What is declared of an output is not looked at: its node decides.
static sard_status *outputs(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  if (p->n_output == 0) return SD_ERR(MODEL, "%s", "it has no outputs");
  for (size_t i = 0; i < p->n_output; i++) {
    sd_value *v = NULL;
    SD_TRY(sd_import_lookup(im, scope, p->output[i]->name, &v));
    if (!v || v == &sd_import_absent)
      return SD_ERR(MODEL, "the output '%.200s' is defined by nothing", p->output[i]->name);
    if (!scope->graph->owner) SD_TRY(named_output(im, scope, p->output[i]->name, &v));
    sd_graph_output(scope->graph, v);
  }
  return NULL;
}

sard_status *sd_import_graph(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  SD_TRY(nodes(im, scope, p));
  sard_status *st = outputs(im, scope, p);
  return im->described ? st : sd_status_context(st, "graph '%.200s'", p->name);
}

sard_status *sd_import_inline_graph(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p) {
  SD_TRY(initializers(im, scope, p));
  return nodes(im, scope, p);
}

static bool names_tensors(const Onnx__GraphProto *p) {
  for (size_t i = 0; i < p->n_node; i++)
    if (strcmp(p->node[i]->op_type, "Gradient") == 0) return true;
  return false;
}

sard_status *sd_import_main(sd_import *im) {
  const Onnx__GraphProto *p = im->o.model->graph;
  im->keep_floats = names_tensors(p);
  sd_scope *scope = SD_NEW(im->tmp, sd_scope);
  scope->graph = im->m->main;
  sd_names_init(&scope->names, im->tmp);
  sd_names_init(&scope->sparse, im->tmp);
  sd_names_init(&im->symbols, im->tmp);
  if (*p->name) im->m->main->name = sd_arena_strdup(im->m->arena, p->name);
  if (!im->shapes || !im->shapes->free_dims) sd_import_collect_symbols(im, p);
  SD_TRY(initializers(im, scope, p));
  SD_TRY(main_inputs(im, scope, p));
  return sd_import_graph(im, scope, p);
}

// A branch has no inputs of its own: what some exporters list as such are names of the graph around it.
static bool is_outer(const sd_scope *scope, const char *name) {
  for (const sd_scope *s = scope->parent; s; s = s->parent)
    if (is_initializer(s, name)) return true;
  return false;
}

// The counter and the condition of a Loop are scalars; a body may declare them as lists of one.
static sard_status *as_list(sd_import *im, sd_scope *scope, sd_value **v) {
  const int64_t first = 0;
  sd_value *in[] = {*v, sd_value_const_i64(scope->graph, &first, 1)};
  sd_node *n = NULL;
  SD_TRY(sd_import_emit(im, scope, "Unsqueeze", in, 2, &n));
  *v = n->out[0];
  SD_TRY(sd_node_infer(n));
  return sd_import_fold(im, n);
}

static sard_status *body_inputs(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p, const sd_node *node) {
  for (size_t i = 0; i < p->n_input; i++) {
    const char *name = p->input[i]->name;
    sd_onnx_type t;
    if (!*name) return SD_ERR(MODEL, "input %zu of the body has no name", i);
    if (strcmp(node->op->name, "If") == 0 && is_outer(scope, name)) continue;
    SD_TRY(sd_import_type(im, p->input[i], true, &t));
    bool list = i < 2 && t.rank == 1 && strcmp(node->op->name, "Loop") == 0;
    sd_import_body_type(im, node, (uint32_t)i, name, &t);
    if (t.unsupported || t.dtype == SD_DT_NONE || t.rank == SD_RANK_UNKNOWN)
      sd_import_problem_line(im, sd_arena_printf(im->tmp, "input '%.200s' of a body of node %d '%.200s' (%s) %s%s",
                                                 name, node->onnx_index, node->name, node->op->name,
                                                 t.unsupported ? "is " : "has no type and shape",
                                                 t.unsupported ? t.unsupported : ""));
    sd_dtype dtype = t.rank == SD_RANK_UNKNOWN ? SD_DT_NONE : t.dtype;
    sd_value *v = sd_graph_input(scope->graph, name, dtype, t.rank, t.dims);
    v->object = t.object;
    sd_import_body_known(im, node, (uint32_t)i, v);
    if (list) SD_TRY(as_list(im, scope, &v));
    SD_TRY(sd_import_define(im, scope, name, v));
  }
  return NULL;
}

sard_status *sd_import_body(sd_import *im, sd_scope *outer, const Onnx__GraphProto *p, sd_node *node,
                            const char *name) {
  if (outer->depth >= SD_MAX_DEPTH) return SD_ERR(MODEL, "bodies nest deeper than %d levels", SD_MAX_DEPTH);
  sd_scope *scope = SD_NEW(im->tmp, sd_scope);
  *scope = (sd_scope){
      .parent = outer, .graph = sd_node_add_body(node, name), .call = outer->call, .depth = outer->depth + 1};
  sd_names_init(&scope->names, im->tmp);
  sd_names_init(&scope->sparse, im->tmp);
  SD_TRY(body_inputs(im, scope, p, node));
  SD_TRY(initializers(im, scope, p));
  return sd_import_graph(im, scope, p);
}
