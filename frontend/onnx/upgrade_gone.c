// Actions of upgrade.def for experimental operators of opset 1 that later opsets do not have, in terms of
// those they do.
#include "frontend/onnx/upgrade.h"

// From here on the node is another name of v.
static sard_status *becomes(sd_import *im, sd_onnx_node *n, sd_value *v) {
  n->op = "Identity";
  n->attrs.len = 0;
  n->in.len = 0;
  sd_vec_push(im->tmp, &n->in, v);
  return NULL;
}

// A list of `count` integers (any number when count < 0) that has to be there, or with `optional` may be
// absent.
static sard_status *int_list(sd_onnx_node *n, const char *name, int count, bool optional, const int64_t **out,
                             uint32_t *out_n) {
  const sd_onnx_attr *a = sd_import_find_attr(n, name);
  *out = NULL, *out_n = 0;
  if (!a && optional) return NULL;
  if (!a || a->value.kind != SD_ATTR_INTS || a->value.n > SD_MAX_RANK ||
      (count >= 0 && a->value.n != (uint32_t)count))
    return SD_ERR(MODEL, "it needs the attribute '%s', a list of %d integers", name,
                  count < 0 ? SD_MAX_RANK : count);
  *out = a->value.ints, *out_n = a->value.n;
  return NULL;
}

// Crop(x[N,C,H,W]): border is left, top, right, bottom; with scale (height, width) that much from left and
// top on.
sard_status *sd_upgrade_crop(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const int64_t *border, *scale, axes[] = {2, 3};
  uint32_t n_border, n_scale;
  int64_t ends[2];
  SD_TRY(int_list(n, "border", 4, false, &border, &n_border));
  SD_TRY(int_list(n, "scale", 2, true, &scale, &n_scale));
  const int64_t starts[] = {border[1], border[0]};
  for (int i = 0; i < 2; i++) {
    int64_t far = border[3 - i];
    if (starts[i] < 0 || starts[i] > INT32_MAX || far < 0 || far > INT32_MAX)
      return SD_ERR(MODEL, "%s", "attribute 'border' has a negative or huge element");
    if (scale && (scale[i] < 0 || scale[i] > INT32_MAX))
      return SD_ERR(MODEL, "scale is %lld", (long long)scale[i]);
    ends[i] = scale ? starts[i] + scale[i] : far ? -far : INT64_MAX;
  }
  sd_graph *g = n->scope->graph;
  n->op = text;
  n->attrs.len = 0;
  SD_TRY(sd_upgrade_set_operand(im, n, "", 1, sd_value_const_i64(g, starts, 2)));
  SD_TRY(sd_upgrade_set_operand(im, n, "", 2, sd_value_const_i64(g, ends, 2)));
  return sd_upgrade_set_operand(im, n, "", 3, sd_value_const_i64(g, axes, 2));
}

// ImageScaler(x[N,C,H,W]): x * scale + bias[c].
sard_status *sd_upgrade_image_scaler(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *scale = sd_import_find_attr(n, "scale"), *bias = sd_import_find_attr(n, text);
  sd_value *x = NULL, *by = NULL;
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  if (x->dtype != SD_F32) return SD_ERR(UNSUPPORTED, "an image of type %s", sd_dtype_name(x->dtype));
  float s = scale && scale->value.kind == SD_ATTR_FLOAT ? scale->value.f : 1;
  SD_TRY(sd_upgrade_emit(im, n, "Mul", (sd_value *[]){x, sd_value_const_f32(n->scope->graph, s)}, 2, &x));
  if (!bias) return becomes(im, n, x);
  if (bias->value.kind != SD_ATTR_FLOATS)
    return SD_ERR(MODEL, "attribute '%s' must be a list of floats", text);
  const int64_t dims[] = {bias->value.n, 1, 1};
  by = sd_value_const(n->scope->graph, "", SD_F32, 3, dims, bias->value.floats);
  SD_TRY(sd_upgrade_emit(im, n, "Add", (sd_value *[]){x, by}, 2, &x));
  return becomes(im, n, x);
}

// What ConstantFill and GivenTensorFill fill: the shape attribute, or operand 0 or its shape; then
// extra_shape.
static sard_status *filled_shape(sd_import *im, sd_onnx_node *n, sd_value **out) {
  const int64_t *ints;
  uint32_t count;
  int64_t as_shape;
  SD_TRY(sd_upgrade_int(n, "input_as_shape", 0, &as_shape));
  if (n->in.len && n->in.at[0]) {
    if (as_shape) SD_TRY(sd_upgrade_int_type(im, n, "", 0));
    *out = n->in.at[0];
    if (!as_shape) SD_TRY(sd_upgrade_emit(im, n, "Shape", &n->in.at[0], 1, out));
  } else {
    SD_TRY(int_list(n, "shape", -1, false, &ints, &count));
    *out = sd_value_const_i64(n->scope->graph, ints, (int)count);
  }
  SD_TRY(int_list(n, "extra_shape", -1, true, &ints, &count));
  if (!count) return NULL;
  sd_value *in[] = {*out, sd_value_const_i64(n->scope->graph, ints, (int)count)};
  sd_node *join = NULL;
  SD_TRY(sd_import_emit(im, n->scope, "Concat", in, 2, &join));
  sd_node_set_int(join, "axis", 0);
  *out = join->out[0];
  SD_TRY(sd_node_infer(join));
  return sd_import_fold(im, join);
}

sard_status *sd_upgrade_constant_fill(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *value = sd_import_find_attr(n, text);
  int64_t type;
  sd_value *shape = NULL;
  sd_node *fill = NULL;
  SD_TRY(sd_upgrade_int(n, "dtype", SD_F32, &type));
  sd_dtype t = type > 0 && type < SD_DT_COUNT ? (sd_dtype)type : SD_DT_NONE;
  if (!sd_dtype_is_float(t) && !sd_dtype_is_int(t) && t != SD_BOOL)
    return SD_ERR(MODEL, "dtype is %lld, no number type", (long long)type);
  double v = value && value->value.kind == SD_ATTR_FLOAT ? (double)value->value.f : 0;
  if (!(v >= -9e15 && v <= 9e15) && !sd_dtype_is_float(t)) return SD_ERR(MODEL, "%s is %g", text, v);
  SD_TRY(filled_shape(im, n, &shape));
  void *data = sd_arena_alloc(im->m->arena, 16);
  if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, data, 0, v);
  else
    sd_dtype_set_i64(t, data, 0, (int64_t)v);
  SD_TRY(sd_import_emit(im, n->scope, "ConstantOfShape", &shape, 1, &fill));
  sd_attr *a = sd_node_attr(fill, "value");
  if (a)
    *a = (sd_attr){.kind = SD_ATTR_TENSOR,
                   .tensor = sd_value_const(n->scope->graph, "", t, 1, &(int64_t){1}, data)->data};
  SD_TRY(sd_node_infer(fill));
  return becomes(im, n, fill->out[0]);
}

sard_status *sd_upgrade_given_fill(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a || a->value.kind != SD_ATTR_FLOATS)
    return SD_ERR(MODEL, "it needs the attribute '%s', a list of floats", text);
  int64_t count = a->value.n;
  sd_value *in[] = {sd_value_const(n->scope->graph, "", SD_F32, 1, &count, a->value.floats), NULL}, *y = NULL;
  SD_TRY(filled_shape(im, n, &in[1]));
  SD_TRY(sd_upgrade_emit(im, n, "Reshape", in, 2, &y));
  return becomes(im, n, y);
}

// MeanVarianceNormalization before opset 9: over the axes behind the channel and the batch, or all of them;
// perhaps of the mean only.
sard_status *sd_upgrade_across_channels(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  static const int64_t axes[] = {0, 2, 3, 1};
  int64_t across, variance;
  SD_TRY(sd_upgrade_int(n, text, 0, &across));
  SD_TRY(sd_upgrade_int(n, "normalize_variance", 1, &variance));
  n->attrs.len = 0;
  if (variance) {
    sd_import_set_ints(im, n, "axes", axes, across ? 4 : 3);
    return NULL;
  }
  sd_value *x = NULL, *mean = NULL;
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  sd_value *list = sd_value_const_i64(n->scope->graph, axes, across ? 4 : 3);
  SD_TRY(sd_upgrade_emit(im, n, "ReduceMean", (sd_value *[]){x, list}, 2, &mean));
  n->op = "Sub";
  return sd_upgrade_set_operand(im, n, "", 1, mean);
}
