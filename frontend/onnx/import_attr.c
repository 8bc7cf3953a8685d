// Attributes: ONNX's to sd_attr, references of functions resolved, matched to the dense array of the row.
#include "frontend/onnx/internal.h"

const char *sd_import_attr_kind(sd_attr_kind k) {
  static const char *const names[] = {"none",   "int",     "float",  "string", "list of ints", "list of floats",
                                      "list of strings", "tensor", "graph"};
  return (unsigned)k < sizeof names / sizeof *names ? names[k] : "?";
}

static sard_status *text_of(sd_import *im, const ProtobufCBinaryData *s, const char *name, const char **out) {
  if (s->len && memchr(s->data, 0, s->len))
    return SD_ERR(UNSUPPORTED, "attribute '%s': a text that contains a NUL", name);
  *out = s->len ? sd_arena_strndup(im->m->arena, (const char *)s->data, s->len) : "";
  return NULL;
}

static sard_status *texts_of(sd_import *im, const Onnx__AttributeProto *p, sd_attr *out) {
  const char **list = SD_NEW_ARRAY(im->m->arena, const char *, p->n_strings);
  for (size_t i = 0; i < p->n_strings; i++) SD_TRY(text_of(im, &p->strings[i], p->name, &list[i]));
  *out = (sd_attr){.kind = SD_ATTR_STRINGS, .n = (uint32_t)p->n_strings, .strings = list};
  return NULL;
}

// Resolves a reference to an attribute of the function's call.
static sard_status *from_call(const sd_scope *scope, const Onnx__AttributeProto *p, sd_onnx_attr *out, bool *absent) {
  const sd_call *c = scope->call;
  if (!c)
    return SD_ERR(MODEL, "attribute '%s' refers to '%s', but the node is in no function", p->name, p->ref_attr_name);
  for (uint32_t i = 0; i < c->n_attrs; i++)
    if (strcmp(c->attrs[i].name, p->ref_attr_name) == 0) {
      const char *name = out->name;
      *out = c->attrs[i];
      out->name = name;
      return NULL;
    }
  *absent = true;
  return NULL;
}

static const char *unsupported_kind(const Onnx__AttributeProto *p) {
  switch ((int)p->type) {
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS: return "a list of tensors";
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS: return "a list of graphs";
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS: return "a list of sparse tensors";
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS: return "a list of types";
  default: return NULL;
  }
}

static sard_status *tensor_attr(sd_import *im, const Onnx__AttributeProto *p, sd_attr *out) {
  sd_const *c = NULL;
  bool sparse = p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR;
  if (sparse ? !p->sparse_tensor : !p->t) return SD_ERR(MODEL, "attribute '%s' has no tensor", p->name);
  const char *what = sd_arena_printf(im->tmp, "attribute '%s', tensor", p->name);
  if (sparse)
    SD_TRY(sd_tensor_proto_sparse(&im->tensors, p->sparse_tensor, what, &c));
  else
    SD_TRY(sd_tensor_proto_const(&im->tensors, p->t, what, &c));
  *out = (sd_attr){.kind = SD_ATTR_TENSOR, .tensor = c};
  return NULL;
}

// A type as text.
static sard_status *type_attr(sd_import *im, const Onnx__AttributeProto *p, sd_attr *out) {
  const sd_otype *t = sd_import_otype(im, p->tp, 0);
  sd_str s = {0};
  if (!t) return SD_ERR(UNSUPPORTED, "attribute '%s' is a type that Sard has no value for", p->name);
  sd_otype_print(t, &s);
  *out = (sd_attr){.kind = SD_ATTR_STRING, .s = sd_arena_keep(im->m->arena, sd_str_take(&s))};
  return NULL;
}

static sard_status *value_of(sd_import *im, const Onnx__AttributeProto *p, sd_onnx_attr *out) {
  sd_arena *a = im->m->arena;
  sd_attr *v = &out->value;
  switch ((int)p->type) {
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT: *v = (sd_attr){.kind = SD_ATTR_FLOAT, .f = p->f}; break;
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT: *v = (sd_attr){.kind = SD_ATTR_INT, .i = p->i}; break;
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
    v->kind = SD_ATTR_STRING;
    return text_of(im, &p->s, p->name, &v->s);
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
    *v = (sd_attr){.kind = SD_ATTR_FLOATS,
                   .n = (uint32_t)p->n_floats,
                   .floats = sd_arena_dup(a, p->floats, p->n_floats * sizeof *p->floats)};
    break;
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
    *v = (sd_attr){.kind = SD_ATTR_INTS,
                   .n = (uint32_t)p->n_ints,
                   .ints = sd_arena_dup(a, p->ints, p->n_ints * sizeof *p->ints)};
    break;
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS: return texts_of(im, p, v);
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR: return tensor_attr(im, p, v);
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH:
    if (!p->g) return SD_ERR(MODEL, "attribute '%s' has no graph", p->name);
    v->kind = SD_ATTR_GRAPH;
    out->body = p->g;
    break;
  case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO: return type_attr(im, p, v);
  default: return SD_ERR(MODEL, "attribute '%s' has the unknown type %d", p->name, (int)p->type);
  }
  return NULL;
}

sard_status *sd_import_attr(sd_import *im, sd_scope *scope, const Onnx__AttributeProto *p, sd_onnx_attr *out,
                            bool *out_absent) {
  *out = (sd_onnx_attr){.name = p->name, .scope = scope};
  *out_absent = false;
  if (!*p->name) return SD_ERR(MODEL, "%s", "an attribute without a name");
  if (*p->ref_attr_name) return from_call(scope, p, out, out_absent);
  out->unsupported = unsupported_kind(p);
  return out->unsupported ? NULL : value_of(im, p, out);
}

sd_onnx_attr *sd_import_find_attr(sd_onnx_node *n, const char *name) {
  for (uint32_t i = 0; i < n->attrs.len; i++)
    if (strcmp(n->attrs.at[i].name, name) == 0) return &n->attrs.at[i];
  return NULL;
}

void sd_import_drop_attr(sd_onnx_node *n, const char *name) {
  sd_onnx_attr *a = sd_import_find_attr(n, name);
  if (a) *a = n->attrs.at[--n->attrs.len];
}

static void set_attr(sd_import *im, sd_onnx_node *n, sd_onnx_attr v) {
  sd_onnx_attr *a = sd_import_find_attr(n, v.name);
  if (a)
    *a = v;
  else
    sd_vec_push(im->tmp, &n->attrs, v);
}

void sd_import_set_int(sd_import *im, sd_onnx_node *n, const char *name, int64_t v) {
  set_attr(im, n, (sd_onnx_attr){.name = name, .value = {.kind = SD_ATTR_INT, .i = v}});
}

void sd_import_set_float(sd_import *im, sd_onnx_node *n, const char *name, float v) {
  set_attr(im, n, (sd_onnx_attr){.name = name, .value = {.kind = SD_ATTR_FLOAT, .f = v}});
}

void sd_import_set_ints(sd_import *im, sd_onnx_node *n, const char *name, const int64_t *v, uint32_t count) {
  set_attr(im, n, (sd_onnx_attr){.name = name, .value = {.kind = SD_ATTR_INTS, .n = count, .ints = v}});
}

void sd_import_set_str(sd_import *im, sd_onnx_node *n, const char *name, const char *v) {
  set_attr(im, n, (sd_onnx_attr){.name = name, .value = {.kind = SD_ATTR_STRING, .s = v}});
}

static int row_attr(const sd_op *op, const char *name) {
  for (int i = 0; i < op->n_attr; i++)
    if (strcmp(op->attrs[i].name, name) == 0) return i;
  return -1;
}

static const char *row_attr_names(sd_import *im, const sd_op *op) {
  const char *s = "";
  for (int i = 0; i < op->n_attr; i++) s = sd_arena_printf(im->tmp, "%s%s%s", s, i ? ", " : "", op->attrs[i].name);
  return *s ? s : "none";
}

// Exporters write 0 for 0.0, and a list of one for a number.
static void fit_kind(sd_attr *v, sd_attr_kind want) {
  if (v->kind == SD_ATTR_INTS && v->n == 1 && want == SD_ATTR_INT) *v = (sd_attr){.kind = SD_ATTR_INT, .i = v->ints[0]};
  else if (v->kind == SD_ATTR_INT && want == SD_ATTR_FLOAT) *v = (sd_attr){.kind = SD_ATTR_FLOAT, .f = (float)v->i};
}

static sard_status *place_attr(sd_import *im, sd_node *node, const sd_onnx_attr *a, const char **missing) {
  int at = row_attr(node->op, a->name);
  if (at < 0) {
    *missing = sd_arena_printf(im->tmp, "attribute '%s' (%s) is not known for %s (known: %s)", a->name,
                               a->unsupported ? a->unsupported : sd_import_attr_kind(a->value.kind), node->op->name,
                               row_attr_names(im, node->op));
    return NULL;
  }
  const sd_attrdecl *d = &node->op->attrs[at];
  if (a->unsupported) {
    *missing = sd_arena_printf(im->tmp, "attribute '%s' is %s", a->name, a->unsupported);
    return NULL;
  }
  sd_attr v = a->value;
  // An empty list may be stored as any kind of list.
  bool lists = v.n == 0 && v.kind >= SD_ATTR_INTS && v.kind <= SD_ATTR_STRINGS && d->def.kind >= SD_ATTR_INTS &&
               d->def.kind <= SD_ATTR_STRINGS;
  if (lists) v.kind = d->def.kind;
  fit_kind(&v, d->def.kind);
  if (v.kind != d->def.kind)
    return SD_ERR(MODEL, "attribute '%s' is a %s, it must be a %s", a->name, sd_import_attr_kind(v.kind),
                  sd_import_attr_kind(d->def.kind));
  if (v.kind != SD_ATTR_GRAPH) node->attrs[at] = v;
  return NULL;
}

sard_status *sd_import_match_attrs(sd_import *im, sd_onnx_node *n, sd_node *node, const char **missing) {
  *missing = NULL;
  for (uint32_t i = 0; i < n->attrs.len && !*missing; i++) {
    for (uint32_t j = 0; j < i; j++)
      if (strcmp(n->attrs.at[i].name, n->attrs.at[j].name) == 0)
        return SD_ERR(MODEL, "attribute '%s' is given twice", n->attrs.at[i].name);
    SD_TRY(place_attr(im, node, &n->attrs.at[i], missing));
  }
  if (*missing) return NULL;
  for (int i = 0; i < node->op->n_attr; i++)
    if (node->op->attrs[i].required && !sd_import_find_attr(n, node->op->attrs[i].name))
      return SD_ERR(MODEL, "the required attribute '%s' is missing", node->op->attrs[i].name);
  return sd_import_bodies(im, n, node);
}
