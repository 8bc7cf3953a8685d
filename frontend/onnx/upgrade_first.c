// Actions of upgrade.def for opsets 1 to 6: what was broadcast by attributes, and operators that went away.
#include <math.h>
#include <stdlib.h>

#include "frontend/onnx/upgrade.h"

sard_status *sd_upgrade_emit(sd_import *im, sd_onnx_node *n, const char *op, sd_value *const *in,
                             uint32_t n_in, sd_value **out) {
  sd_node *node = NULL;
  SD_TRY(sd_import_emit(im, n->scope, op, in, n_in, &node));
  *out = node->out[0];
  SD_TRY(sd_node_infer(node));
  return sd_import_fold(im, node);
}

// An operand as i64 of rank `rank` (0 or 1, one element): opset 1 had sizes and axes as tensors of the data's
// type.
static sard_status *as_i64(sd_import *im, sd_onnx_node *n, uint32_t at, sd_value **out) {
  SD_TRY(sd_upgrade_operand(n, at, out));
  if ((*out)->dtype == SD_I64) return NULL;
  sd_node *cast = NULL;
  SD_TRY(sd_import_emit(im, n->scope, "Cast", out, 1, &cast));
  sd_node_set_int(cast, "to", SD_I64);
  *out = cast->out[0];
  SD_TRY(sd_node_infer(cast));
  return sd_import_fold(im, cast);
}

// Operand `at` gets `count` axes of size 1 behind its last one.
static sard_status *trailing_axes(sd_import *im, sd_onnx_node *n, uint32_t at, int count) {
  int64_t axes[SD_MAX_RANK];
  sd_value *v = n->in.at[at];
  if (count <= 0) return NULL;
  for (int i = 0; i < count; i++) axes[i] = v->rank + i;
  sd_value *in[] = {v, sd_value_const_i64(n->scope->graph, axes, count)};
  return sd_upgrade_emit(im, n, "Unsqueeze", in, 2, &n->in.at[at]);
}

sard_status *sd_upgrade_axis_broadcast(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t broadcast, axis;
  sd_value *a = NULL, *b = NULL;
  bool aligned = sd_import_find_attr(n, text) != NULL;
  SD_TRY(sd_upgrade_int(n, "broadcast", 0, &broadcast));
  SD_TRY(sd_upgrade_int(n, text, 0, &axis));
  sd_import_drop_attr(n, "broadcast");
  sd_import_drop_attr(n, text);
  if (!broadcast || !aligned) return NULL; // equal shapes, or the last axes agree as in numpy's rule
  SD_TRY(sd_upgrade_operand(n, 0, &a));
  SD_TRY(sd_upgrade_operand(n, 1, &b));
  int64_t first = axis < 0 ? axis + a->rank : axis;
  if (first < 0 || first > a->rank || b->rank > a->rank - first)
    return SD_ERR(MODEL, "axis %lld: a tensor of rank %d cannot be broadcast there to rank %d",
                  (long long)axis, b->rank, a->rank);
  return trailing_axes(im, n, 1, a->rank - (int)first - b->rank);
}

sard_status *sd_upgrade_channel_slope(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text, (void)number;
  sd_value *x = NULL, *slope = NULL;
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  SD_TRY(sd_upgrade_operand(n, 1, &slope));
  return slope->rank == 1 ? trailing_axes(im, n, 1, x->rank - 2) : NULL;
}

sard_status *sd_upgrade_type_name(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a || a->value.kind != SD_ATTR_STRING) return NULL;
  sd_dtype t = sd_dtype_parse(a->value.s);
  if (t == SD_DT_NONE) return SD_ERR(MODEL, "attribute '%s' is '%.40s', no element type", text, a->value.s);
  sd_import_set_int(im, n, text, t);
  return NULL;
}

sard_status *sd_upgrade_absent(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  size_t len = strcspn(text, "=");
  const char *name = sd_arena_strndup(im->tmp, text, len), *value = text + len + (text[len] == '=');
  if (sd_import_find_attr(n, name)) return NULL;
  char *end;
  long long i = strtoll(value, &end, 10);
  if (!*end) {
    sd_import_set_int(im, n, name, i);
    return NULL;
  }
  float f = strtof(value, &end);
  if (*end) sd_import_set_str(im, n, name, value);
  else
    sd_import_set_float(im, n, name, f);
  return NULL;
}

sard_status *sd_upgrade_whole_number(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a || a->value.kind != SD_ATTR_FLOAT) return NULL;
  float v = a->value.f;
  if (!(v >= 1 && v <= 1e6f) || v != floorf(v))
    return SD_ERR(UNSUPPORTED, "%s is %g, no whole number", text, (double)v);
  sd_import_set_int(im, n, text, (int64_t)v);
  return NULL;
}

sard_status *sd_upgrade_int_type(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text;
  if (n->in.len <= number || !n->in.at[number]) return NULL;
  return as_i64(im, n, (uint32_t)number, &n->in.at[number]);
}

// Tile(x, tiles, axis): repeats is `tiles` at that axis and 1 elsewhere.
sard_status *sd_upgrade_tile(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text, (void)number;
  int64_t at[SD_MAX_RANK], one = 1;
  sd_value *x = NULL, *tiles = NULL, *axis = NULL, *here = NULL;
  if (n->in.len != 3) return SD_ERR(MODEL, "it has %u operands instead of 3", n->in.len);
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  SD_TRY(as_i64(im, n, 1, &tiles));
  SD_TRY(as_i64(im, n, 2, &axis));
  if (tiles->rank > 1 || axis->rank > 1)
    return SD_ERR(MODEL, "%s", "operands 'tiles' and 'axis' must have one element");
  for (int i = 0; i < x->rank; i++) at[i] = i;
  sd_graph *g = n->scope->graph;
  SD_TRY(sd_upgrade_emit(im, n, "Equal", (sd_value *[]){sd_value_const_i64(g, at, x->rank), axis}, 2, &here));
  SD_TRY(sd_upgrade_emit(im, n, "Where", (sd_value *[]){here, tiles, sd_value_const_i64(g, &one, -1)}, 3,
                         &n->in.at[1]));
  n->in.len = 2;
  return NULL;
}

sard_status *sd_upgrade_image_scales(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text;
  float *scales = sd_arena_alloc(im->m->arena, 4 * sizeof *scales);
  static const char *const names[] = {"height_scale", "width_scale"};
  scales[0] = scales[1] = 1;
  for (int i = 0; i < 2; i++) {
    const sd_onnx_attr *a = sd_import_find_attr(n, names[i]);
    if (!a || a->value.kind != SD_ATTR_FLOAT)
      return SD_ERR(MODEL, "it needs the attribute '%s', a float", names[i]);
    scales[2 + i] = a->value.f;
    sd_import_drop_attr(n, names[i]);
  }
  n->opset = 9; // the attributes of opset 7 and 8 are no longer looked for
  sd_value *v = sd_value_const(n->scope->graph, "", SD_F32, 1, &(int64_t){4}, scales);
  return sd_upgrade_set_operand(im, n, "", (uint32_t)number, v);
}

sard_status *sd_upgrade_training_switch(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t is_test;
  SD_TRY(sd_upgrade_int(n, text, 0, &is_test));
  sd_import_drop_attr(n, text);
  if (is_test) return NULL;
  static const uint8_t yes[64] = {1};
  const sd_onnx_attr *ratio = sd_import_find_attr(n, "ratio");
  float r = ratio && ratio->value.kind == SD_ATTR_FLOAT ? ratio->value.f : 0.5f;
  if (r == 0) return NULL;
  SD_TRY(sd_upgrade_set_operand(im, n, "ratio", 1, sd_value_const_f32(n->scope->graph, r)));
  return sd_upgrade_set_operand(im, n, "", 2, sd_value_const(n->scope->graph, "", SD_BOOL, 0, NULL, yes));
}

// Dropout with a mask of the data's type: the node becomes an Identity of its first output.
sard_status *sd_upgrade_number_mask(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text, (void)number;
  if (n->out.len < 2 || !*n->out.at[1]) return NULL;
  sd_value *x = NULL;
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  sd_import_drop_attr(n, "ratio");
  sd_node *drop = sd_node_new(n->scope->graph, NULL, sd_op_find(n->op), n->in.at, n->in.len, 2), *cast = NULL;
  SD_TRY(sd_node_infer(drop));
  SD_TRY(sd_import_emit(im, n->scope, "Cast", &drop->out[1], 1, &cast));
  sd_node_set_int(cast, "to", x->dtype);
  SD_TRY(sd_node_infer(cast));
  SD_TRY(sd_import_define(im, n->scope, n->out.at[1], cast->out[0]));
  n->out.len = 1;
  n->op = "Identity";
  n->in.len = 1;
  n->in.at[0] = drop->out[0];
  return NULL;
}

sard_status *sd_upgrade_type_of_scale(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text;
  const sd_value *scale = n->in.len > number ? n->in.at[number] : NULL;
  sd_node *cast = NULL;
  if (!scale || !n->in.at[0] || n->in.at[0]->dtype == scale->dtype || !sd_dtype_is_float(scale->dtype)) return NULL;
  SD_TRY(sd_import_emit(im, n->scope, "Cast", &n->in.at[0], 1, &cast));
  sd_node_set_int(cast, "to", scale->dtype);
  n->in.at[0] = cast->out[0];
  return sd_node_infer(cast);
}

static bool reads(const Onnx__NodeProto *p, const char *name) {
  for (size_t i = 0; i < p->n_input; i++)
    if (strcmp(p->input[i], name) == 0) return true;
  for (size_t i = 0; i < p->n_attribute; i++)
    if (p->attribute[i]->g || p->attribute[i]->n_graphs) return true; // a body may
  return false;
}

// Converters name all outputs, also for inference, where nothing reads them.
static bool all_unread(const sd_import *im, const sd_onnx_node *n) {
  const Onnx__GraphProto *g = im->o.model->graph;
  if (n->scope->parent || n->scope->call) return false;
  for (uint32_t k = 1; k < n->out.len; k++) {
    const char *name = n->out.at[k];
    for (size_t i = 0; *name && i < g->n_node; i++)
      if (reads(g->node[i], name)) return false;
    for (size_t i = 0; *name && i < g->n_output; i++)
      if (strcmp(g->output[i]->name, name) == 0) return false;
  }
  return true;
}

sard_status *sd_upgrade_batch_training(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)text;
  if (n->out.len > 1 && all_unread(im, n)) n->out.len = 1;
  for (uint32_t i = (uint32_t)number; i < n->out.len; i++)
    if (*n->out.at[i])
      return SD_ERR(UNSUPPORTED,
                    "its output %u '%.200s' exists in training only; export the model for inference", i,
                    n->out.at[i]);
  if (n->out.len > number) n->out.len = (uint32_t)number;
  if (n->out.len > 1) sd_import_set_int(im, n, "training_mode", 1);
  return NULL;
}

// y = (x - mean) / sqrt(variance + epsilon) for statistics [C, D1, ...]: one channel for each element.
sard_status *sd_upgrade_spatial(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t spatial, all = -1;
  SD_TRY(sd_upgrade_int(n, text, 1, &spatial));
  sd_import_drop_attr(n, text);
  if (spatial || n->in.len != 5) return NULL;
  if (n->out.len > 1) return SD_ERR(UNSUPPORTED, "%s", "training with statistics by element (spatial=0)");
  sd_value *in[5], *shape = NULL;
  SD_TRY(sd_upgrade_operand(n, 0, &in[0]));
  SD_TRY(sd_upgrade_emit(im, n, "Shape", in, 1, &shape));
  SD_TRY(sd_upgrade_emit(im, n, "Flatten", in, 1, &in[0]));
  for (uint32_t i = 1; i < 5; i++) {
    SD_TRY(sd_upgrade_operand(n, i, &in[i]));
    sd_value *flat[] = {in[i], sd_value_const_i64(n->scope->graph, &all, 1)};
    SD_TRY(sd_upgrade_emit(im, n, "Reshape", flat, 2, &in[i]));
  }
  sd_node *norm = NULL;
  SD_TRY(sd_import_emit(im, n->scope, n->op, in, 5, &norm));
  const sd_onnx_attr *epsilon = sd_import_find_attr(n, "epsilon");
  sd_attr *to = sd_node_attr(norm, "epsilon");
  if (epsilon && epsilon->value.kind == SD_ATTR_FLOAT && to) *to = epsilon->value;
  SD_TRY(sd_node_infer(norm));
  n->op = "Reshape";
  n->attrs.len = 0;
  n->in.at[0] = norm->out[0];
  n->in.at[1] = shape;
  n->in.len = 2;
  return NULL;
}
