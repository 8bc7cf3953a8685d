// What is in a model, whether or not it can be compiled.
#include "frontend/onnx/internal.h"

#include "runtime/base/alloc.h"

typedef struct scan {
  sd_import *im; // opened model and functions only
  sd_arena *a;
  sd_import_info *out;
  const Onnx__FunctionProto *fn; // function being scanned
} scan;

static bool is_known(scan *s, const Onnx__NodeProto *p, const char *domain) {
  if (sd_import_find_function(s->im, domain, p->op_type, p->overload)) return true;
  if (!*domain)
    return strcmp(p->op_type, "Constant") == 0 || sd_upgrade_has(p->op_type) || sd_op_find(p->op_type) != NULL;
  return sd_op_find(sd_arena_printf(s->a, "%s.%s", domain, p->op_type)) != NULL;
}

static void weight(scan *s, const Onnx__TensorProto *p, const int64_t *dims, size_t rank, bool sparse) {
  sd_scan_weight w = {.name = p->name, .dims = dims, .sparse = sparse};
  uint64_t count = 1;
  bool ok = rank <= SD_MAX_RANK && p->data_type > 0 && p->data_type < SD_DT_COUNT;
  w.rank = ok ? (int)rank : 0;
  w.dtype = ok ? (sd_dtype)p->data_type : SD_DT_NONE;
  for (size_t i = 0; ok && i < rank; i++) ok = dims[i] >= 0 && sd_ck_mul(count, (uint64_t)dims[i], &count);
  if (!ok || !sd_dtype_bytes(w.dtype, count, &w.bytes)) w.bytes = 0;
  for (size_t i = 0; i < p->n_external_data; i++)
    if (strcmp(p->external_data[i]->key, "location") == 0) w.external = p->external_data[i]->value;
  sd_vec_push(s->a, &s->out->weights, w);
  if (!sd_ck_add(s->out->weight_bytes, w.bytes, &s->out->weight_bytes)) s->out->weight_bytes = UINT64_MAX;
}

static void graph(scan *s, const Onnx__GraphProto *g, const char *owner, int depth);

static void node(scan *s, const Onnx__NodeProto *p, size_t index, const char *owner, int depth) {
  sd_scope scope = {.call = s->fn ? &(sd_call){.fn = s->fn} : NULL};
  const char *domain = strcmp(p->domain, "ai.onnx") == 0 ? "" : p->domain;
  sd_scan_node n = {.name = p->name, .op = p->op_type, .domain = domain, .index = (int)index, .depth = depth};
  n.graph = owner;
  n.opset = sd_import_opset(s->im, &scope, domain);
  n.n_in = (uint32_t)p->n_input;
  n.n_out = (uint32_t)p->n_output;
  n.in = (const char *const *)p->input;
  n.out = (const char *const *)p->output;
  n.known = is_known(s, p, domain);
  sd_vec_push(s->a, &s->out->nodes, n);
  for (size_t i = 0; i < p->n_attribute; i++) {
    const char *inner = *p->name ? p->name : p->op_type;
    if (p->attribute[i]->g) graph(s, p->attribute[i]->g, inner, depth + 1);
    for (size_t k = 0; k < p->attribute[i]->n_graphs; k++) graph(s, p->attribute[i]->graphs[k], inner, depth + 1);
  }
}

static void graph(scan *s, const Onnx__GraphProto *g, const char *owner, int depth) {
  for (size_t i = 0; i < g->n_initializer; i++)
    weight(s, g->initializer[i], g->initializer[i]->dims, g->initializer[i]->n_dims, false);
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    if (g->sparse_initializer[i]->values)
      weight(s, g->sparse_initializer[i]->values, g->sparse_initializer[i]->dims, g->sparse_initializer[i]->n_dims,
             true);
  for (size_t i = 0; i < g->n_node; i++) node(s, g->node[i], i, owner, depth);
}

static sd_scan_io io(scan *s, const Onnx__ValueInfoProto *p) {
  sd_str text = {0};
  sd_import_type_text(p->type, &text, 0);
  sd_scan_io r = {p->name, sd_arena_strdup(s->a, text.p ? text.p : "?")};
  sd_str_free(&text);
  return r;
}

static void ends(scan *s, const Onnx__GraphProto *g) {
  sd_names weights;
  sd_names_init(&weights, s->a);
  for (size_t i = 0; i < g->n_initializer; i++) sd_names_add(&weights, g->initializer[i]->name, g->initializer[i]);
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    if (g->sparse_initializer[i]->values)
      sd_names_add(&weights, g->sparse_initializer[i]->values->name, g->sparse_initializer[i]);
  for (size_t i = 0; i < g->n_input; i++)
    if (!sd_names_get(&weights, g->input[i]->name)) sd_vec_push(s->a, &s->out->inputs, io(s, g->input[i]));
  for (size_t i = 0; i < g->n_output; i++) sd_vec_push(s->a, &s->out->outputs, io(s, g->output[i]));
}

static void header(scan *s, const Onnx__ModelProto *p) {
  sd_import_info *o = s->out;
  o->ir_version = p->ir_version;
  o->model_version = p->model_version;
  o->producer = p->producer_name;
  o->producer_version = p->producer_version;
  o->domain = p->domain;
  o->graph = p->graph->name;
  for (size_t i = 0; i < p->n_opset_import; i++)
    sd_vec_push(s->a, &o->opsets, ((sd_scan_opset){p->opset_import[i]->domain, p->opset_import[i]->version}));
  for (size_t i = 0; i < p->n_metadata_props; i++)
    sd_vec_push(s->a, &o->metadata, ((sd_meta){p->metadata_props[i]->key, p->metadata_props[i]->value}));
}

sard_status *sd_import_scan(const sard_source *src, sd_arena *a, sd_import_info *out) {
  *out = (sd_import_info){0};
  sd_import *im = SD_NEW(a, sd_import);
  im->tmp = a;
  SD_TRY_MSG(sd_import_open(src, a, a, &im->o), "%s", src->path ? src->path : "(model in memory)");
  scan s = {im, a, out, NULL};
  out->file_bytes = im->o.size;
  header(&s, im->o.model);
  SD_TRY(sd_import_functions(im));
  ends(&s, im->o.model->graph);
  graph(&s, im->o.model->graph, "", 0);
  for (size_t i = 0; i < im->o.model->n_functions; i++) {
    s.fn = im->o.model->functions[i];
    for (size_t k = 0; k < s.fn->n_node; k++) node(&s, s.fn->node[k], k, s.fn->name, 1);
  }
  return NULL;
}
