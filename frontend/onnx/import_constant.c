// Constant nodes become constants directly.
#include "frontend/onnx/internal.h"

sd_value *sd_import_const_value(sd_scope *scope, const char *name, const sd_const *c) {
  return sd_value_const(scope->graph, name, c->dtype, c->rank, c->dims, c->data);
}

// A scalar, or with `list` a rank-1 tensor of n elements.
static sd_value *simple(sd_onnx_node *n, const char *name, sd_dtype t, bool list, uint32_t count, const void *data) {
  int64_t dim = count;
  return sd_value_const(n->scope->graph, name, t, list ? 1 : 0, list ? &dim : NULL, data);
}

typedef struct form {
  const char *attr;
  sd_attr_kind kind;
  sd_dtype dtype;
  bool list;
} form;
static const form forms[] = {
    {"value", SD_ATTR_TENSOR, SD_DT_NONE, false},       {"sparse_value", SD_ATTR_TENSOR, SD_DT_NONE, false},
    {"value_int", SD_ATTR_INT, SD_I64, false},          {"value_float", SD_ATTR_FLOAT, SD_F32, false},
    {"value_string", SD_ATTR_STRING, SD_STRING, false}, {"value_ints", SD_ATTR_INTS, SD_I64, true},
    {"value_floats", SD_ATTR_FLOATS, SD_F32, true},     {"value_strings", SD_ATTR_STRINGS, SD_STRING, true},
};

static const form *find_form(const char *attr) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    if (strcmp(forms[i].attr, attr) == 0) return &forms[i];
  return NULL;
}

sard_status *sd_import_constant(sd_import *im, sd_onnx_node *n, sd_value **out) {
  if (n->in.len || n->out.len != 1) return SD_ERR(MODEL, "%s", "a Constant has no operands and one output");
  if (n->attrs.len != 1) return SD_ERR(MODEL, "a Constant has one attribute, this one has %u", n->attrs.len);
  const sd_onnx_attr *a = &n->attrs.at[0];
  const form *f = find_form(a->name);
  if (!f || a->value.kind != f->kind)
    return SD_ERR(MODEL, "a Constant cannot have the attribute '%s' (%s)", a->name,
                  a->unsupported ? a->unsupported : sd_import_attr_kind(a->value.kind));
  const sd_attr *v = &a->value;
  const char *name = n->out.at[0];
  sd_arena *keep = im->m->arena;
  switch (v->kind) {
  case SD_ATTR_TENSOR: *out = sd_import_const_value(n->scope, name, v->tensor); break;
  case SD_ATTR_INT: *out = simple(n, name, f->dtype, false, 1, sd_arena_dup(keep, &v->i, sizeof v->i)); break;
  case SD_ATTR_FLOAT: *out = simple(n, name, f->dtype, false, 1, sd_arena_dup(keep, &v->f, sizeof v->f)); break;
  case SD_ATTR_STRING: *out = sd_value_const_texts(n->scope->graph, name, &v->s, -1); break;
  case SD_ATTR_INTS: *out = simple(n, name, f->dtype, true, v->n, v->ints); break;
  case SD_ATTR_FLOATS: *out = simple(n, name, f->dtype, true, v->n, v->floats); break;
  default: *out = sd_value_const_texts(n->scope->graph, name, v->strings, (int)v->n); break;
  }
  return NULL;
}
