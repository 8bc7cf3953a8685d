// Operators whose attributes name tensors.
#include "frontend/onnx/upgrade.h"

static sard_status *add_operand(sd_import *im, sd_onnx_node *n, const char *attr, const char *name) {
  sd_value *v = NULL;
  SD_TRY(sd_import_lookup(im, n->scope, name, &v));
  if (!v || v == &sd_import_absent) return SD_ERR(MODEL, "attribute '%s' names '%.200s', which nothing before this node defines", attr, name);
  sd_vec_push(im->tmp, &n->in, v);
  return NULL;
}

static sard_status *add_all(sd_import *im, sd_onnx_node *n, const char *attr) {
  const sd_onnx_attr *a = sd_import_find_attr(n, attr);
  if (!a) return NULL;
  if (a->value.kind == SD_ATTR_STRING) return add_operand(im, n, attr, a->value.s);
  if (a->value.kind != SD_ATTR_STRINGS) return SD_ERR(MODEL, "attribute '%s' is a %s", attr, sd_import_attr_kind(a->value.kind));
  for (uint32_t i = 0; i < a->value.n; i++) SD_TRY(add_operand(im, n, attr, a->value.strings[i]));
  return NULL;
}

sard_status *sd_upgrade_named_operands(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text, (void)number;
  SD_TRY(add_all(im, n, "xs"));
  SD_TRY(add_all(im, n, "zs"));
  return add_all(im, n, "y");
}
