// Old forms of operators to the newest one: the rows of upgrade.def and the general actions.
#include "frontend/onnx/upgrade.h"

// A constant operand that an attribute becomes; gaps before it are omitted operands.
sard_status *sd_upgrade_set_operand(sd_import *im, sd_onnx_node *n, const char *attr, uint32_t operand, sd_value *v) {
  if (operand < n->in.len && n->in.at[operand])
    return SD_ERR(MODEL, "it has both the attribute '%s' of old opsets and operand %u, which replaced it", attr,
                  operand);
  while (n->in.len <= operand) sd_vec_push(im->tmp, &n->in, NULL);
  n->in.at[operand] = v;
  sd_import_drop_attr(n, attr);
  return NULL;
}

static sard_status *kind_is(const sd_onnx_attr *a, sd_attr_kind kind) {
  if (a->value.kind == kind && !a->unsupported) return NULL;
  return SD_ERR(MODEL, "attribute '%s' is a %s, it must be a %s", a->name, sd_import_attr_kind(a->value.kind),
                sd_import_attr_kind(kind));
}

sard_status *sd_upgrade_int(sd_onnx_node *n, const char *name, int64_t absent, int64_t *out) {
  const sd_onnx_attr *a = sd_import_find_attr(n, name);
  *out = absent;
  if (!a) return NULL;
  SD_TRY(kind_is(a, SD_ATTR_INT));
  *out = a->value.i;
  return NULL;
}

static sard_status *ints_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a) return NULL;
  SD_TRY(kind_is(a, SD_ATTR_INTS));
  if (a->value.n > INT32_MAX) return SD_ERR(MODEL, "attribute '%s' has %u elements", text, a->value.n);
  sd_value *v = sd_value_const_i64(n->scope->graph, a->value.ints, (int)a->value.n);
  return sd_upgrade_set_operand(im, n, text, (uint32_t)number, v);
}

static sard_status *int_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  int64_t v;
  if (!sd_import_find_attr(n, text)) return NULL;
  SD_TRY(sd_upgrade_int(n, text, 0, &v));
  return sd_upgrade_set_operand(im, n, text, (uint32_t)number, sd_value_const_i64(n->scope->graph, &v, 1));
}

static sard_status *axis_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  int64_t v;
  SD_TRY(sd_upgrade_int(n, text, 1, &v));
  return sd_upgrade_set_operand(im, n, text, (uint32_t)number, sd_value_const_i64(n->scope->graph, &v, -1));
}

static sard_status *scalar_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a) return NULL;
  SD_TRY(kind_is(a, SD_ATTR_FLOAT));
  sd_dtype t = n->in.len && n->in.at[0] ? n->in.at[0]->dtype : SD_F32;
  if (!sd_dtype_is_float(t) && !sd_dtype_is_int(t)) return SD_ERR(MODEL, "operand 0 is no number type");
  void *data = sd_arena_alloc(im->m->arena, 16);
  // Integers of old opsets: bounds outside of the type (the default of Clip is the float's range) are no bounds.
  if (sd_dtype_is_float(t)) {
    sd_dtype_set_f64(t, data, 0, a->value.f);
  } else if (a->value.f >= -9e15f && a->value.f <= 9e15f) {
    sd_dtype_set_i64(t, data, 0, (int64_t)a->value.f);
  } else {
    sd_import_drop_attr(n, text);
    return NULL;
  }
  sd_value *v = sd_value_const(n->scope->graph, "", t, 0, NULL, data);
  return sd_upgrade_set_operand(im, n, text, (uint32_t)number, v);
}

static sard_status *drop(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)im, (void)number;
  sd_import_drop_attr(n, text);
  return NULL;
}

static sard_status *rename(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)im, (void)number;
  n->op = text;
  return NULL;
}

static sard_status *rename_attr(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  size_t len = strcspn(text, "=");
  sd_onnx_attr *a = sd_import_find_attr(n, sd_arena_strndup(im->tmp, text, len));
  if (a) a->name = text + len + 1;
  return NULL;
}

// Other outputs than those before `number` are computed in training only.
static sard_status *test_outputs(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)im;
  int64_t is_test;
  SD_TRY(sd_upgrade_int(n, text, 0, &is_test));
  sd_import_drop_attr(n, text);
  if (is_test && n->out.len > number) n->out.len = (uint32_t)number;
  return NULL;
}

typedef struct row {
  const char *op;
  int64_t below;
  sd_upgrade_fn action;
  const char *text;
  int64_t number;
} row;

static const row rows[] = {
#define SD_UPGRADE(op, below, action, text, number) {op, below, action, text, number},
#define split_outputs  sd_upgrade_split_outputs
#define spatial        sd_upgrade_spatial
#define flat_softmax   sd_upgrade_flat_softmax
#define scales_operand sd_upgrade_scales_operand
#define old_resize     sd_upgrade_old_resize
#define drop_empty     sd_upgrade_drop_empty
#define grid_modes     sd_upgrade_grid_modes
#define text_cast      sd_upgrade_text_cast
#define open_squeeze   sd_upgrade_open_squeeze
#define group_channels sd_upgrade_group_channels
#define axis_broadcast  sd_upgrade_axis_broadcast
#define channel_slope   sd_upgrade_channel_slope
#define type_name       sd_upgrade_type_name
#define absent          sd_upgrade_absent
#define whole_number    sd_upgrade_whole_number
#define int_type        sd_upgrade_int_type
#define tile            sd_upgrade_tile
#define image_scales    sd_upgrade_image_scales
#define training_switch sd_upgrade_training_switch
#define number_mask     sd_upgrade_number_mask
#define batch_training  sd_upgrade_batch_training
#define crop            sd_upgrade_crop
#define image_scaler    sd_upgrade_image_scaler
#define constant_fill   sd_upgrade_constant_fill
#define given_fill      sd_upgrade_given_fill
#define across_channels sd_upgrade_across_channels
#define batched_scan    sd_upgrade_batched_scan
#define type_of_scale   sd_upgrade_type_of_scale
#define named_operands sd_upgrade_named_operands
#include "frontend/onnx/upgrade.def"
#undef SD_UPGRADE
};

bool sd_upgrade_has(const char *op) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(rows[i].op, op) == 0) return true;
  return false;
}

// Attributes that are operands now are taken at any opset: in files whose opset was raised by hand they stand as before.
static bool applies(const row *r, const sd_onnx_node *n) {
  return n->opset < r->below || r->action == ints_operand || r->action == int_operand || r->action == scalar_operand;
}

sard_status *sd_upgrade_node(sd_import *im, sd_onnx_node *n) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (applies(&rows[i], n) && (sd_import_is_op(n, rows[i].op) || (*rows[i].op == '*' && !*n->domain)))
      SD_TRY(rows[i].action(im, n, rows[i].text, rows[i].number));
  return NULL;
}
