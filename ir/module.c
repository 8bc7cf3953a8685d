// Modules, graphs and values: making them, types, replacing.
#include "ir/op.h"
#include "runtime/base/alloc.h"

static sd_graph *graph_new(sd_module *m, sd_node *owner, const char *name) {
  sd_graph *g = SD_NEW(m->arena, sd_graph);
  g->module = m;
  g->owner = owner;
  g->name = sd_arena_strdup(m->arena, name ? name : "");
  return g;
}

static void free_strings(void *t) { sd_strtab_free(t); }
static void free_objects(void *o) { sd_objects_free(o); }

sard_status *sd_module_new(const char *file, sd_module **out) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  *out = NULL;
  if (!a) return SD_ERR(NOMEM, "out of memory for a module");
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory for a module");
  }
  sd_module *m = SD_NEW(a, sd_module);
  m->arena = a;
  m->dims = sd_dimtab_new(a);
  m->strings = sd_strtab_new(NULL);
  if (!m->strings) sd_arena_oom(a);
  sd_arena_defer(a, free_strings, m->strings);
  m->objects = sd_objects_new();
  if (!m->objects) sd_arena_oom(a);
  sd_arena_defer(a, free_objects, m->objects);
  m->file = sd_arena_strdup(a, file ? file : "");
  m->producer = "";
  m->main = graph_new(m, NULL, "main");
  sd_arena_set_oom(a, NULL); // the frame of `oom` ends here: the caller sets its own
  *out = m;
  return NULL;
}

sd_module *sd_module_share(const sd_module *m) {
  sd_module *s = sd_arena_dup(m->arena, m, sizeof *m);
  s->main = graph_new(s, NULL, "main");
  s->batch_axes = NULL, s->batch_n = 0, s->batch_why = NULL, s->batch = SD_DIM_NONE;
  // What either adds to a list the other does not see.
  s->metadata.cap = s->metadata.len, s->requires.cap = s->requires.len, s->externals.cap = s->externals.len;
  s->maps.cap = s->maps.len, s->lent.cap = s->lent.len, s->otypes.cap = s->otypes.len;
  return s;
}

uint64_t sd_module_string(sd_module *m, const char *text, size_t n) {
  uint64_t number;
  if (!sd_strtab_add(m->strings, text, n, &number)) sd_arena_oom(m->arena);
  return number;
}

void sd_module_free(sd_module *m) {
  if (m) sd_arena_free(m->arena);
}

sd_graph *sd_node_add_body(sd_node *n, const char *name) {
  sd_module *m = n->graph->module;
  sd_graph *g = graph_new(m, n, name);
  sd_graph **bodies = SD_NEW_ARRAY(m->arena, sd_graph *, n->n_body + 1);
  if (n->n_body) memcpy(bodies, n->bodies, n->n_body * sizeof *bodies);
  bodies[n->n_body++] = g;
  m->has_bodies |= strcmp(n->op->name, "sard.Fused") != 0;
  n->bodies = bodies;
  sd_vec_push(m->arena, &n->graph->children, g);
  for (uint32_t i = 0; i < n->n_attr; i++)
    if (n->op->attrs[i].def.kind == SD_ATTR_GRAPH && strcmp(n->op->attrs[i].name, g->name) == 0)
      n->attrs[i] = (sd_attr){.kind = SD_ATTR_GRAPH, .graph = g};
  return g;
}

// ---- values ----

sd_value *sd_value_new(sd_graph *g, const char *name) {
  sd_value *v = SD_NEW(g->module->arena, sd_value);
  v->id = g->module->next_id++;
  v->name = name && *name ? sd_arena_strdup(g->module->arena, name) : "";
  v->rank = SD_RANK_UNKNOWN;
  v->graph = g;
  return v;
}

sd_value *sd_graph_input(sd_graph *g, const char *name, sd_dtype t, int rank, const sd_dim *dims) {
  sd_value *v = sd_value_new(g, name);
  sd_value_set_type(v, t, rank, dims);
  v->out_index = g->inputs.len;
  sd_vec_push(g->module->arena, &g->inputs, v);
  return v;
}

void sd_graph_output(sd_graph *g, sd_value *v) { sd_vec_push(g->module->arena, &g->outputs, v); }

void sd_value_set_type(sd_value *v, sd_dtype t, int rank, const sd_dim *dims) {
  v->dtype = t;
  if (t != SD_OBJECT) v->object = NULL;
  v->rank = rank < 0 || rank > SD_MAX_RANK ? SD_RANK_UNKNOWN : rank;
  if (v->rank > 0 && dims != v->dims) memcpy(v->dims, dims, (size_t)v->rank * sizeof *dims);
}

void sd_value_copy_type(sd_value *dst, const sd_value *src) {
  sd_value_set_type(dst, src->dtype, src->rank, src->dims);
  dst->object = src->object;
}

bool sd_value_static(const sd_value *v, int64_t *out_dims) {
  if (v->rank < 0) return false;
  for (int i = 0; i < v->rank; i++) {
    int64_t d;
    if (!sd_dim_is_const(v->graph->module->dims, v->dims[i], &d)) return false;
    if (out_dims) out_dims[i] = d;
  }
  return true;
}

sd_dim sd_value_count(const sd_value *v) {
  return v->rank < 0 ? SD_DIM_NONE : sd_dim_product(v->graph->module->dims, v->dims, v->rank);
}

bool sd_value_is_single(const sd_value *v) { return sd_dim_is(v->graph->module->dims, sd_value_count(v), 1); }

bool sd_value_is_zero(const sd_value *v) {
  for (uint64_t i = 0; v && v->data && i < v->data->count; i++)
    if (sd_dtype_get_i64(v->dtype, v->data->data, i)) return false;
  return !v || v->data;
}

sd_dim sd_dim_bytes(sd_dimtab *t, sd_dtype type, sd_dim count) {
  int bits = sd_dtype_bits(type);
  if (bits >= 8) return sd_dim_mul(t, count, sd_dim_const(t, bits / 8));
  return bits ? sd_dim_ceildiv(t, count, sd_dim_const(t, 8 / bits)) : SD_DIM_NONE;
}

// ---- replacing ----

static void replace_outputs(sd_graph *g, sd_value *old, sd_value *new_) {
  for (uint32_t i = 0; i < g->outputs.len; i++)
    if (g->outputs.at[i] == old) g->outputs.at[i] = new_;
  for (uint32_t i = 0; i < g->children.len; i++) replace_outputs(g->children.at[i], old, new_);
}

void sd_value_replace(sd_value *old, sd_value *new_) {
  if (old == new_) return;
  while (old->uses.len) {
    sd_use u = old->uses.at[old->uses.len - 1];
    sd_node_set_input(u.node, u.operand, new_);
  }
  // Outputs are known by name: it passes on to a value that has no name of its own to keep.
  if (*old->name && new_->def && sd_value_is_output(old) && !sd_value_is_output(new_)) new_->name = old->name;
  replace_outputs(old->graph, old, new_);
}

bool sd_value_is_input(const sd_value *v) {
  if (v->def) return false;
  for (uint32_t i = 0; i < v->graph->inputs.len; i++)
    if (v->graph->inputs.at[i] == v) return true;
  return false;
}

static bool outputs_have(const sd_graph *g, const sd_value *v) {
  for (uint32_t i = 0; i < g->outputs.len; i++)
    if (g->outputs.at[i] == v) return true;
  for (uint32_t i = 0; i < g->children.len; i++)
    if (outputs_have(g->children.at[i], v)) return true;
  return false;
}

sd_value *sd_value_root(sd_value *v) {
  while (v->storage) v = v->storage;
  return v;
}

bool sd_value_is_output(const sd_value *v) { return outputs_have(v->graph, v); }

void sd_type_print(const sd_module *m, const sd_value *v, sd_str *out) {
  if (v->dtype == SD_OBJECT) {
    bool tensor = v->object && v->object->kind == SD_OBJ_TENSOR;
    if (tensor) sd_str_put(out, "any(");
    sd_otype_print(v->object, out);
    if (tensor) sd_str_put(out, ")");
    return;
  }
  sd_strf(out, "%s[", sd_dtype_name(v->dtype));
  if (v->rank < 0) sd_str_put(out, "*");
  for (int i = 0; i < v->rank; i++) {
    if (i) sd_str_put(out, ",");
    sd_dim_print(m->dims, v->dims[i], out);
  }
  sd_str_put(out, "]");
}

static void require(sd_module *m, sd_requires *list, sd_dim a, sd_dim b, bool broadcast, const char *what) {
  if (a == b || a == SD_DIM_NONE || b == SD_DIM_NONE) return;
  if (broadcast && (sd_dim_is(m->dims, a, 1) || sd_dim_is(m->dims, b, 1))) return;
  for (uint32_t i = 0; i < list->len; i++) {
    const sd_require *r = &list->at[i];
    bool same = (r->a == a && r->b == b) || (r->a == b && r->b == a);
    if (same && (!r->broadcast || broadcast)) return;
  }
  sd_vec_push(m->arena, list, ((sd_require){a, b, broadcast, sd_arena_strdup(m->arena, what)}));
}

void sd_module_require(sd_module *m, sd_dim a, sd_dim b, bool broadcast, const char *what) {
  require(m, m->collect ? m->collect : &m->requires, a, b, broadcast, what);
}

// In the body of a branch or loop; fused groups run where they stand.
static bool in_body(const sd_graph *g) {
  while (g->owner && strcmp(g->owner->op->name, "sard.Fused") == 0) g = g->owner->graph;
  return g->owner != NULL;
}

void sd_node_require(const sd_node *n, sd_dim a, sd_dim b, bool broadcast, const char *what) {
  sd_module *m = n->graph->module;
  if (m->collect || !in_body(n->graph)) sd_module_require(m, a, b, broadcast, what);
}

static sard_status *collect(sd_node *n) {
  sd_value *saved = SD_NEW_ARRAY(n->graph->module->arena, sd_value, n->n_out + 1);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) saved[i] = *n->out[i];
  sard_status *st = n->op->infers && n->op->kind != SD_CONTROL ? sd_node_infer(n) : NULL;
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) *n->out[i] = saved[i];
  bool fused = n->op->kind == SD_CONTROL && strcmp(n->op->name, "sard.Fused") == 0;
  for (sd_node *x = fused ? n->bodies[0]->first : NULL; x && !st; x = x->next) st = collect(x);
  return st;
}

sard_status *sd_node_requires(sd_node *n, sd_requires *out) {
  n->graph->module->collect = out;
  sard_status *st = collect(n);
  n->graph->module->collect = NULL;
  return st;
}
