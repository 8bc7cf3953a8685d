// Types of inputs: element types, and dims as numbers, symbols or expressions over symbols.
#include "frontend/onnx/internal.h"

#include <ctype.h>

#include "runtime/base/alloc.h"

// Names without a letter ("?", "*", "-1") stand for "not known" in what exporters write.
static bool names_something(const char *s) {
  if (!s || !*s || strcmp(s, "None") == 0) return false;
  for (; *s; s++)
    if (isalpha((unsigned char)*s) || *s == '_' || (unsigned char)*s >= 0x80) return true;
  return false;
}

static bool is_plain(const char *s) {
  for (; *s; s++)
    if (!isalnum((unsigned char)*s) && *s != '_' && *s != '.' && (unsigned char)*s < 0x80) return false;
  return true;
}

static const Onnx__TensorShapeProto *shape_of(const Onnx__ValueInfoProto *p) {
  if (!p->type || p->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) return NULL;
  return p->type->tensor_type->shape;
}

void sd_import_collect_symbols(sd_import *im, const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_input; i++) {
    const Onnx__TensorShapeProto *s = shape_of(g->input[i]);
    for (size_t d = 0; s && d < s->n_dim; d++) {
      if (s->dim[d]->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM) continue;
      const char *name = s->dim[d]->dim_param;
      if (names_something(name) && is_plain(name)) sd_names_add(&im->symbols, name, (void *)name);
    }
  }
}

static bool known_symbol(void *user, const char *name, int64_t *v) {
  *v = 1;
  return sd_names_get(&((sd_import *)user)->symbols, name) != NULL;
}

// "past + 1" means a sum when all its names are dims of other inputs; SD_DIM_NONE when it is just a name.
static sd_dim parse_expression(sd_import *im, const char *text) {
  char *s = sd_arena_alloc(im->tmp, strlen(text) + 1), *to = s;
  if (strlen(text) > 256) return SD_DIM_NONE;
  for (const char *p = text; *p; p++)
    if (*p != ' ') *to++ = *p;
  const char *at = s;
  int64_t v;
  sd_dim d = sd_dim_parse(im->m->dims, &at);
  if (d == SD_DIM_NONE || *at || sd_dim_is_const(im->m->dims, d, NULL)) return SD_DIM_NONE;
  return sd_dim_eval(im->m->dims, d, known_symbol, im, &v) ? d : SD_DIM_NONE;
}

// A new symbol; in the main graph exactly "<input>_d<axis>" where that is free, since users name it.
static sd_dim new_dim(sd_import *im, const char *name, bool body) {
  bool exact = !body && sd_names_add(&im->symbols, name, (void *)name);
  return exact ? sd_dim_sym(im->m->dims, name) : sd_dim_fresh(im->m->dims, name);
}

static sd_dim named_dim(sd_import *im, const char *name, bool body, const char *fresh) {
  if (!names_something(name)) return new_dim(im, fresh, body);
  if (is_plain(name)) {
    bool known = sd_names_get(&im->symbols, name) != NULL;
    return known || !body ? sd_dim_sym(im->m->dims, name) : new_dim(im, fresh, body);
  }
  sd_dim d = parse_expression(im, name);
  if (d != SD_DIM_NONE) return d;
  return body ? new_dim(im, fresh, body) : sd_dim_sym(im->m->dims, name);
}

static sard_status *read_dims(sd_import *im, const Onnx__ValueInfoProto *p, const Onnx__TensorShapeProto *s, bool body,
                              sd_onnx_type *out) {
  if (s->n_dim > SD_MAX_RANK)
    return SD_ERR(UNSUPPORTED, "input '%s' has rank %zu, at most %d are supported", p->name, s->n_dim, SD_MAX_RANK);
  bool named = !im->shapes || !im->shapes->free_dims;
  out->rank = (int)s->n_dim;
  for (int i = 0; i < out->rank; i++) {
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
    const char *fresh = sd_arena_printf(im->tmp, "%.200s_d%d", p->name, i);
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value >= 0)
      out->dims[i] = sd_dim_const(im->m->dims, d->dim_value);
    else if (named && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
      out->dims[i] = named_dim(im, d->dim_param, body, fresh);
    else
      out->dims[i] = new_dim(im, fresh, body);
  }
  return NULL;
}

const sd_otype *sd_import_otype(sd_import *im, const Onnx__TypeProto *t, int depth) {
  sd_module *m = im->m;
  const sd_otype *of = NULL;
  if (!t || depth > SD_OTYPE_DEPTH) return NULL;
  switch (t->value_case) {
  case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE: {
    const Onnx__TensorShapeProto *s = t->tensor_type->shape;
    if (!sd_dtype_of_tensors(t->tensor_type->elem_type) || (s && s->n_dim > SD_MAX_RANK)) return NULL;
    return sd_otype_new(m, SD_OBJ_TENSOR, (sd_dtype)t->tensor_type->elem_type, s ? (int)s->n_dim : SD_RANK_UNKNOWN, NULL);
  }
  case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
    of = sd_import_otype(im, t->sequence_type->elem_type, depth + 1);
    return of ? sd_otype_new(m, SD_OBJ_SEQUENCE, SD_DT_NONE, 0, of) : NULL;
  case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
    of = sd_import_otype(im, t->optional_type->elem_type, depth + 1);
    return of ? sd_otype_new(m, SD_OBJ_OPTIONAL, SD_DT_NONE, 0, of) : NULL;
  case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
    of = sd_import_otype(im, t->map_type->value_type, depth + 1);
    if (!of || !sd_dtype_of_tensors(t->map_type->key_type)) return NULL;
    return sd_otype_new(m, SD_OBJ_MAP, (sd_dtype)t->map_type->key_type, 0, of);
  default: return NULL;
  }
}

sard_status *sd_import_set_rank(sd_import *im, const char *name, int rank, sd_onnx_type *t) {
  if (rank < 0 || rank > SD_MAX_RANK)
    return SD_ERR(UNSUPPORTED, "rank %d of the input '%.200s', at most %d are supported", rank, name, SD_MAX_RANK);
  for (int d = 0; d < rank; d++)
    t->dims[d] = new_dim(im, sd_arena_printf(im->tmp, "%.200s_d%d", name, d), false);
  t->rank = rank;
  return NULL;
}

sard_status *sd_import_type(sd_import *im, const Onnx__ValueInfoProto *p, bool body, sd_onnx_type *out) {
  *out = (sd_onnx_type){.rank = SD_RANK_UNKNOWN};
  const Onnx__TypeProto *t = p->type;
  if (!t || t->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET) return NULL;
  if (t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
    out->object = sd_import_otype(im, t, 0);
    if (out->object) {
      out->dtype = SD_OBJECT, out->rank = 0;
      return NULL;
    }
    sd_str text = {0};
    sd_import_type_text(t, &text, 0);
    out->unsupported = sd_arena_printf(im->tmp, "of type %s, which is not supported", text.p ? text.p : "?");
    sd_str_free(&text);
    return NULL;
  }
  int elem = t->tensor_type->elem_type;
  if (elem && !sd_dtype_of_tensors(elem))
    return SD_ERR(MODEL, "input '%s' has the unknown element type %d", p->name, elem);
  out->dtype = (sd_dtype)elem;
  return t->tensor_type->shape ? read_dims(im, p, t->tensor_type->shape, body, out) : NULL;
}

static void tensor_text(int elem, const Onnx__TensorShapeProto *s, sd_str *out) {
  sd_str_put(out, sd_dtype_of_tensors(elem) ? sd_dtype_name((sd_dtype)elem) : "?");
  if (!s) {
    sd_str_put(out, "[...]");
    return;
  }
  sd_str_put(out, "[");
  for (size_t i = 0; i < s->n_dim; i++) {
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
    if (i) sd_str_put(out, ",");
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
      sd_strf(out, "%lld", (long long)d->dim_value);
    else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && *d->dim_param)
      sd_str_put(out, d->dim_param);
    else
      sd_str_put(out, "?");
  }
  sd_str_put(out, "]");
}

void sd_import_type_text(const Onnx__TypeProto *t, sd_str *out, int depth) {
  if (!t || depth > SD_MAX_DEPTH) {
    sd_str_put(out, "?");
    return;
  }
  switch (t->value_case) {
  case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE: tensor_text(t->tensor_type->elem_type, t->tensor_type->shape, out); return;
  case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
    sd_str_put(out, "sparse ");
    tensor_text(t->sparse_tensor_type->elem_type, t->sparse_tensor_type->shape, out);
    return;
  case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
    sd_str_put(out, "seq(");
    sd_import_type_text(t->sequence_type->elem_type, out, depth + 1);
    break;
  case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
    sd_str_put(out, "optional(");
    sd_import_type_text(t->optional_type->elem_type, out, depth + 1);
    break;
  case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
    sd_strf(out, "map(%s, ", sd_dtype_name((sd_dtype)t->map_type->key_type));
    sd_import_type_text(t->map_type->value_type, out, depth + 1);
    break;
  case ONNX__TYPE_PROTO__VALUE_OPAQUE_TYPE: sd_str_put(out, "opaque("); break;
  default: sd_str_put(out, "?"); return;
  }
  sd_str_put(out, ")");
}
