// Changes to models on the level of the file: lookups, new nodes and tensors, writing.
#include "frontend/onnx/proto.h"

#include "runtime/base/alloc.h"

#define DENSE_BUDGET ((uint64_t)1 << 30) // bytes that sparse tensors may expand to

bool sd_proto_is(const Onnx__NodeProto *n, const char *domain, const char *op) {
  const char *d = strcmp(n->domain, "ai.onnx") == 0 ? "" : n->domain;
  return strcmp(d, domain) == 0 && strcmp(n->op_type, op) == 0;
}

static Onnx__AttributeProto *find_attr(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
  return NULL;
}

int64_t sd_proto_get_int(const Onnx__NodeProto *n, const char *name, int64_t absent) {
  const Onnx__AttributeProto *a = find_attr(n, name);
  return a ? a->i : absent;
}

float sd_proto_get_float(const Onnx__NodeProto *n, const char *name, float absent) {
  const Onnx__AttributeProto *a = find_attr(n, name);
  return a ? a->f : absent;
}

// ---- opening ----

static void take_name(sd_proto *e, const char *name) {
  if (*name) sd_names_add(&e->taken, name, e);
}

// Bodies see the names of the main graph: theirs are taken, too.
static void take_names(sd_proto *e, const Onnx__GraphProto *g, int depth) {
  for (size_t i = 0; i < g->n_initializer; i++) take_name(e, g->initializer[i]->name);
  for (size_t i = 0; i < g->n_input; i++) take_name(e, g->input[i]->name);
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    take_name(e, n->name);
    for (size_t k = 0; k < n->n_output; k++) take_name(e, n->output[k]);
    for (size_t k = 0; k < n->n_attribute && depth < SD_MAX_DEPTH; k++)
      if (n->attribute[k]->g) take_names(e, n->attribute[k]->g, depth + 1);
  }
}

static void list_weights(sd_proto *e) {
  for (size_t i = 0; i < e->graph->n_initializer; i++) {
    sd_vec_push(e->a, &e->initializers, e->graph->initializer[i]);
    sd_names_add(&e->weights, e->graph->initializer[i]->name, e->graph->initializer[i]);
  }
  for (size_t i = 0; i < e->graph->n_node; i++) {
    Onnx__NodeProto *n = e->graph->node[i];
    Onnx__AttributeProto *value = sd_proto_is(n, "", "Constant") ? find_attr(n, "value") : NULL;
    void *from = sd_proto_is(n, "", "Identity") && n->n_input == 1 ? sd_names_get(&e->weights, n->input[0]) : NULL;
    sd_vec_push(e->a, &e->nodes, n);
    if (n->n_output == 1 && value && value->t) sd_names_add(&e->weights, n->output[0], value->t);
    else if (n->n_output == 1 && from)
      sd_names_add(&e->weights, n->output[0], from);
  }
  for (size_t i = 0; i < e->graph->n_output; i++) sd_vec_push(e->a, &e->outputs, e->graph->output[i]);
}

sard_status *sd_proto_open(sd_arena *a, const sard_source *src, sd_proto *e) {
  *e = (sd_proto){.a = a};
  SD_TRY(sd_import_open(src, a, a, &e->o));
  e->model = (Onnx__ModelProto *)e->o.model;
  e->graph = e->model->graph;
  sd_external_init(&e->external, a, &e->o.source);
  e->tensors = (sd_tensors){a, e->o.spans, &e->external, DENSE_BUDGET, NULL};
  for (size_t i = 0; i < e->model->n_opset_import; i++) {
    const char *domain = e->model->opset_import[i]->domain;
    if ((!*domain || strcmp(domain, "ai.onnx") == 0) && e->model->opset_import[i]->version > e->opset)
      e->opset = e->model->opset_import[i]->version;
  }
  sd_names_init(&e->weights, a), sd_names_init(&e->taken, a), sd_names_init(&e->spare, a);
  take_names(e, e->graph, 0);
  list_weights(e);
  return NULL;
}

const Onnx__TensorProto *sd_proto_weight(const sd_proto *e, const char *name) {
  return *name ? sd_names_get(&e->weights, name) : NULL;
}

sard_status *sd_proto_const(sd_proto *e, const Onnx__TensorProto *p, sd_const **out) {
  return sd_tensor_proto_const(&e->tensors, p, "weight", out);
}

// ---- making ----

const char *sd_proto_name(sd_proto *e, const char *base) {
  const char *name = sd_arena_strdup(e->a, base);
  for (int i = 1; sd_names_get(&e->taken, name); i++) name = sd_arena_printf(e->a, "%s_%d", base, i);
  sd_names_add(&e->taken, name, e);
  return name;
}

const char *sd_proto_tensor(sd_proto *e, const char *base, sd_dtype t, int rank, const int64_t *dims,
                            const void *data) {
  Onnx__TensorProto *p = SD_NEW(e->a, Onnx__TensorProto);
  uint64_t count = 1, bytes = 0;
  onnx__tensor_proto__init(p);
  for (int i = 0; i < rank; i++) count *= (uint64_t)dims[i];
  sd_dtype_bytes(t, count, &bytes); // made from sizes of tensors that exist
  p->name = (char *)sd_proto_name(e, base), p->data_type = (int32_t)t;
  p->n_dims = (size_t)rank, p->dims = sd_arena_dup(e->a, dims, (size_t)rank * sizeof *dims);
  p->raw_data = (ProtobufCBinaryData){bytes, (uint8_t *)data};
  sd_vec_push(e->a, &e->initializers, p);
  sd_names_add(&e->weights, p->name, p);
  return p->name;
}

const char *sd_proto_scalar(sd_proto *e, const char *base, sd_dtype t, const void *element) {
  return sd_proto_tensor(e, base, t, 0, NULL, sd_arena_dup(e->a, element, (size_t)sd_dtype_bits(t) / 8));
}

Onnx__NodeProto *sd_proto_node(sd_proto *e, const char *base, const char *domain, const char *op, const char *const *in,
                               size_t n_in, const char *out) {
  Onnx__NodeProto *n = SD_NEW(e->a, Onnx__NodeProto);
  onnx__node_proto__init(n);
  n->name = (char *)sd_proto_name(e, base), n->op_type = (char *)op, n->domain = (char *)domain;
  n->input = sd_arena_dup(e->a, in, n_in * sizeof *in), n->n_input = n_in;
  n->output = SD_NEW_ARRAY(e->a, char *, 1), n->n_output = 1;
  n->output[0] = (char *)out;
  return n;
}

// The attribute of that name, which is made where there is none. A list that another node may share is not changed.
static Onnx__AttributeProto *set_attr(sd_proto *e, Onnx__NodeProto *n, const char *name) {
  Onnx__AttributeProto *a = SD_NEW(e->a, Onnx__AttributeProto), **all;
  size_t at = 0;
  onnx__attribute_proto__init(a);
  a->name = (char *)name;
  while (at < n->n_attribute && strcmp(n->attribute[at]->name, name) != 0) at++;
  all = SD_NEW_ARRAY(e->a, Onnx__AttributeProto *, n->n_attribute + 1);
  for (size_t i = 0; i < n->n_attribute; i++) all[i] = n->attribute[i];
  if (at == n->n_attribute) n->n_attribute++;
  all[at] = a, n->attribute = all;
  return a;
}

void sd_proto_drop(sd_proto *e, Onnx__NodeProto *n, const char *name) {
  Onnx__AttributeProto **kept = SD_NEW_ARRAY(e->a, Onnx__AttributeProto *, n->n_attribute + 1);
  size_t count = 0;
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, name) != 0) kept[count++] = n->attribute[i];
  n->attribute = kept, n->n_attribute = count;
}

void sd_proto_int(sd_proto *e, Onnx__NodeProto *n, const char *name, int64_t v) {
  Onnx__AttributeProto *a = set_attr(e, n, name);
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, a->i = v;
}

void sd_proto_ints(sd_proto *e, Onnx__NodeProto *n, const char *name, const int64_t *v, size_t count) {
  Onnx__AttributeProto *a = set_attr(e, n, name);
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
  a->ints = sd_arena_dup(e->a, v, count * sizeof *v), a->n_ints = count;
}

Onnx__NodeProto *sd_proto_copy(sd_proto *e, const Onnx__NodeProto *n, const char *base) {
  Onnx__NodeProto *c = sd_arena_dup(e->a, n, sizeof *n);
  c->name = (char *)sd_proto_name(e, base);
  c->input = sd_arena_dup(e->a, n->input, n->n_input * sizeof *n->input);
  c->output = sd_arena_dup(e->a, n->output, n->n_output * sizeof *n->output);
  return c;
}

void sd_proto_show(sd_proto *e, const char *name) {
  Onnx__ValueInfoProto *v = SD_NEW(e->a, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(v);
  v->name = (char *)name;
  sd_vec_push(e->a, &e->outputs, v);
}

void sd_proto_opset(sd_proto *e, const char *domain, int64_t version) {
  Onnx__ModelProto *m = e->model;
  if (!*domain && version > e->opset) e->opset = version;
  for (size_t i = 0; i < m->n_opset_import; i++) {
    const char *d = m->opset_import[i]->domain;
    if (strcmp(strcmp(d, "ai.onnx") == 0 ? "" : d, domain) != 0) continue;
    if (m->opset_import[i]->version < version) m->opset_import[i]->version = version;
    return;
  }
  Onnx__OperatorSetIdProto *add = SD_NEW(e->a, Onnx__OperatorSetIdProto),
                           **all = SD_NEW_ARRAY(e->a, Onnx__OperatorSetIdProto *, m->n_opset_import + 1);
  onnx__operator_set_id_proto__init(add);
  add->domain = (char *)domain, add->version = version;
  for (size_t i = 0; i < m->n_opset_import; i++) all[i] = m->opset_import[i];
  all[m->n_opset_import++] = add;
  m->opset_import = all;
}

// ---- sweeping ----

static void mark_graph(sd_names *used, const Onnx__GraphProto *g, int depth);
static void mark_node(sd_names *used, const Onnx__NodeProto *n, int depth) {
  for (size_t i = 0; i < n->n_input; i++)
    if (*n->input[i]) sd_names_add(used, n->input[i], used);
  for (size_t i = 0; i < n->n_attribute && depth < SD_MAX_DEPTH; i++) {
    if (n->attribute[i]->g) mark_graph(used, n->attribute[i]->g, depth + 1);
    for (size_t k = 0; k < n->attribute[i]->n_graphs; k++) mark_graph(used, n->attribute[i]->graphs[k], depth + 1);
  }
}
static void mark_graph(sd_names *used, const Onnx__GraphProto *g, int depth) {
  for (size_t i = 0; i < g->n_node; i++) mark_node(used, g->node[i], depth);
  for (size_t i = 0; i < g->n_output; i++) sd_names_add(used, g->output[i]->name, used);
}

// Old models list their initializers as inputs, too: those would have to be given from now on.
static void drop_input(sd_proto *e, const char *name) {
  size_t kept = 0;
  for (size_t i = 0; i < e->graph->n_input; i++)
    if (strcmp(e->graph->input[i]->name, name) != 0) e->graph->input[kept++] = e->graph->input[i];
  e->graph->n_input = kept;
}

void sd_proto_sweep(sd_proto *e) {
  for (bool again = true; again;) {
    sd_names used;
    uint32_t kept = 0, before = e->nodes.len;
    sd_names_init(&used, e->a);
    for (uint32_t i = 0; i < e->nodes.len; i++) mark_node(&used, e->nodes.at[i], 0);
    for (uint32_t i = 0; i < e->outputs.len; i++) sd_names_add(&used, e->outputs.at[i]->name, &used);
    for (uint32_t i = 0; i < e->nodes.len; i++) {
      const Onnx__NodeProto *n = e->nodes.at[i];
      bool constant = (sd_proto_is(n, "", "Constant") || sd_proto_is(n, "", "Identity")) && n->n_output == 1 &&
                      sd_names_get(&e->weights, n->output[0]);
      bool spare = n->n_output > 0, read = false;
      for (size_t k = 0; k < n->n_output; k++) {
        spare &= sd_names_get(&e->spare, n->output[k]) != NULL;
        read |= sd_names_get(&used, n->output[k]) != NULL;
      }
      if ((!constant && !spare) || read) e->nodes.at[kept++] = e->nodes.at[i];
    }
    e->nodes.len = kept, again = kept < before;
    kept = 0;
    for (uint32_t i = 0; i < e->initializers.len; i++) {
      if (sd_names_get(&used, e->initializers.at[i]->name)) e->initializers.at[kept++] = e->initializers.at[i];
      else
        drop_input(e, e->initializers.at[i]->name);
    }
    e->initializers.len = kept;
  }
}
