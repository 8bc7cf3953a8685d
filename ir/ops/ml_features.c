// Preprocessing of ai.onnx.ml: scaling, filling in, encoding.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/ml_common.h"

// A vector of one entry or one for each feature.
static sard_status *check_features(const sd_node *n, const char *name, uint32_t count) {
  const sd_value *x = n->in[0];
  if (count <= 1 || x->rank < 1) return NULL;
  return sd_sh_same(n, x->dims[x->rank - 1], sd_dim_const(sd_sh_tab(n), count), name, NULL);
}

sard_status *sd_rewrite_ml_scaler(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_floats offset = ml_floats_of(n, "offset"), scale = ml_floats_of(n, "scale");
  SD_TRY(check_features(n, "offset", offset.n));
  SD_TRY(check_features(n, "scale", scale.n));
  sd_value *y = sd_xg_cast(&g, SD_F32, n->in[0]);
  if (offset.n) y = XG(&g, "Sub", y, sd_ml_vector(&g, offset));
  if (scale.n) y = XG(&g, "Mul", y, sd_ml_vector(&g, scale));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ml_normalizer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  const char *norm = sd_node_str(n, "norm", "MAX");
  int64_t last = -1;
  sd_value *x = sd_xg_cast(&g, SD_F32, n->in[0]), *axis = sd_xg_ints(&g, &last, 1), *size;
  if (!strcmp(norm, "MAX")) size = XG(&g, "ReduceMax", x, axis);
  else if (!strcmp(norm, "L1"))
    size = XG(&g, "ReduceL1", x, axis);
  else if (!strcmp(norm, "L2"))
    size = XG(&g, "ReduceL2", x, axis);
  else
    return SD_SH_ERR(n, MODEL, "unknown norm '%s'", norm);
  size = XG(&g, "Where", XG(&g, "Equal", size, sd_xg_f32(&g, 0)), sd_xg_f32(&g, 1), size);
  sd_value *y = XG(&g, "Div", x, size);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ml_imputer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_floats fs = ml_floats_of(n, "imputed_value_floats");
  ml_ints is = ml_ints_of(n, "imputed_value_int64s");
  sd_value *x = n->in[0], *by, *where;
  SD_TRY(check_features(n, "imputed values", fs.n ? fs.n : is.n));
  if (sd_dtype_is_float(x->dtype)) {
    if (!fs.n) return SD_SH_ERR(n, MODEL, "imputed_value_floats is missing");
    float old = sd_node_float(n, "replaced_value_float", 0);
    by = sd_xg_cast(&g, x->dtype, sd_ml_vector(&g, fs));
    where = isnan(old) ? XG(&g, "IsNaN", x) : XG(&g, "Equal", x, sd_xg_num(&g, x->dtype, old));
  } else {
    if (!is.n) return SD_SH_ERR(n, MODEL, "imputed_value_int64s is missing");
    by = sd_xg_cast(&g, x->dtype, sd_xg_ints(&g, is.v, (int)is.n));
    int64_t old = sd_node_int(n, "replaced_value_int64", 0);
    where = XG(&g, "Equal", x, sd_xg_cast(&g, x->dtype, sd_xg_ints(&g, &old, -1)));
  }
  sd_value *y = XG(&g, "Where", where, by, x);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ml_array_feature(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int64_t minus = -1, zero = 0;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 0, SD_MAX_RANK));
  sd_value *at = XG(&g, "Reshape", n->in[1], sd_xg_ints(&g, &minus, 1));
  sd_value *y = XG(&g, sd_xg_fmt(&g, "Gather axis=%d", n->in[0]->rank - 1), n->in[0], at);
  if (n->in[0]->rank == 1) y = XG(&g, "Unsqueeze", y, sd_xg_ints(&g, &zero, 1));
  return sd_xg_finish(&g, &y, 1);
}

// Each input becomes rows of inputdimensions[i] columns: cut, or filled up with 0.
sard_status *sd_rewrite_ml_feature_vectorizer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_ints sizes = ml_ints_of(n, "inputdimensions");
  sd_value **parts = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n->n_in);
  if (sizes.n && sizes.n != n->n_in)
    return SD_SH_ERR(n, MODEL, "inputdimensions has %u entries for %u inputs", sizes.n, n->n_in);
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_dimtab *t = sd_sh_tab(n);
    SD_TRY(sd_sh_rank(n, i, 1, SD_MAX_RANK));
    const sd_value *x = n->in[i];
    sd_dim dims[2] = {x->rank > 1 ? x->dims[0] : sd_dim_const(t, 1),
                      sd_dim_product(t, x->dims + (x->rank > 1), x->rank - (x->rank > 1))};
    parts[i] = sd_xg_cast(&g, SD_F32, sd_xg_reshape(&g, n->in[i], dims, 2));
    if (!sizes.n || sd_dim_is(t, dims[1], sizes.v[i])) continue;
    sd_dim zero = sd_dim_const(t, 0),
           pads[4] = {zero, zero, zero, sd_dim_sub(t, sd_dim_const(t, sizes.v[i]), dims[1])};
    if (sizes.v[i] < 0) return SD_SH_ERR(n, MODEL, "inputdimensions has %lld", (long long)sizes.v[i]);
    parts[i] = XG(&g, "Pad", parts[i], sd_xg_dims(&g, pads, 4));
  }
  sd_value *y = sd_xg_op(&g, "Concat axis=1", parts, n->n_in);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ml_one_hot(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_ints cats = ml_ints_of(n, "cats_int64s");
  int64_t last = n->in[0]->rank;
  const sd_attr *texts = sd_node_attr(n, "cats_strings");
  bool strings = n->in[0]->dtype == SD_STRING;
  if (strings ? texts->kind != SD_ATTR_STRINGS : !cats.n) return SD_SH_ERR(n, MODEL, "there are no categories of the type of the operand");
  sd_value *x = XG(&g, "Unsqueeze", strings ? n->in[0] : sd_xg_cast(&g, SD_I64, n->in[0]), sd_xg_ints(&g, &last, 1));
  sd_value *all = strings ? sd_value_const_texts(n->graph, "", texts->strings, (int)texts->n) : sd_xg_ints(&g, cats.v, (int)cats.n);
  sd_value *y = sd_xg_cast(&g, SD_F32, XG(&g, "Equal", x, all));
  return sd_xg_finish(&g, &y, 1);
}

// ---- LabelEncoder ----
// The given one of the attributes <what>_int64s, _floats, _tensor as a vector.
static sard_status *label_list(xg *g, const char *what, sd_value **out) {
  sd_node *n = g->at;
  ml_ints is = ml_ints_of(n, sd_xg_fmt(g, "%s_int64s", what));
  ml_floats fs = ml_floats_of(n, sd_xg_fmt(g, "%s_floats", what));
  const sd_attr *t = sd_node_attr(n, sd_xg_fmt(g, "%s_tensor", what));
  bool tensor = t && t->kind == SD_ATTR_TENSOR;
  const sd_attr *texts = sd_node_attr(n, sd_xg_fmt(g, "%s_strings", what));
  if (tensor && t->tensor->count > INT32_MAX) return SD_SH_ERR(n, MODEL, "%s_tensor is too large", what);
  int64_t count = tensor ? (int64_t)t->tensor->count : 0;
  if (is.n) *out = sd_xg_ints(g, is.v, (int)is.n);
  else if (fs.n)
    *out = sd_ml_vector(g, fs);
  else if (tensor)
    *out = sd_value_const(n->graph, "", t->tensor->dtype, 1, &count, t->tensor->data);
  else if (texts && texts->kind == SD_ATTR_STRINGS)
    *out = sd_value_const_texts(n->graph, "", texts->strings, (int)texts->n);
  else
    return SD_SH_ERR(n, MODEL, "there are no %s", what);
  return sd_xg_take(g);
}

static sd_value *label_default(xg *g, sd_dtype t) {
  const sd_attr *a = sd_node_attr(g->at, "default_tensor");
  if (a && a->kind == SD_ATTR_TENSOR && a->tensor->count == 1 && a->tensor->dtype == t)
    return sd_value_const(g->at->graph, "", t, 0, NULL, a->tensor->data);
  if (t == SD_STRING) {
    const char *text = sd_node_str(g->at, "default_string", "_Unused");
    return sd_value_const_texts(g->at->graph, "", &text, -1);
  }
  if (sd_dtype_is_float(t)) return sd_xg_num(g, t, sd_node_float(g->at, "default_float", 0));
  int64_t v = sd_node_int(g->at, "default_int64", -1);
  return sd_xg_cast(g, t, sd_xg_ints(g, &v, -1));
}

// The value at the place of the key that equals x; `other` where none does.
static sard_status *look_up(xg *g, sd_value *keys, sd_value *values, sd_value *other) {
  sd_node *n = g->at;
  sd_value *x = n->in[0];
  if (!keys || !values || !other) return sd_xg_take(g);
  if (!sd_dim_is(sd_sh_tab(n), keys->dims[0], (int64_t)values->data->count))
    return SD_SH_ERR(n, MODEL, "keys and values differ in number");
  int64_t zero = 0;
  if ((x->dtype == SD_STRING) != (keys->dtype == SD_STRING)) return SD_SH_ERR(n, MODEL, "the keys are no %s", sd_dtype_name(x->dtype));
  if (x->dtype != SD_STRING) keys = sd_xg_cast(g, x->dtype, keys);
  sd_value *at = XG(g, "sard.Find", x, keys);
  sd_value *found = XG(g, "GreaterOrEqual", at, sd_xg_ints(g, &zero, -1));
  sd_value *y = XG(g, "Gather axis=0", values, XG(g, "Max", at, sd_xg_ints(g, &zero, -1)));
  y = XG(g, "Where", found, y, other);
  return sd_xg_finish(g, &y, 1);
}

// classes_strings: the form of opset 1, between texts and their positions.
static sard_status *label_classes(xg *g, const sd_attr *classes) {
  sd_node *n = g->at;
  int64_t count = classes->n;
  sd_value *texts = sd_value_const_texts(n->graph, "", classes->strings, (int)classes->n);
  bool from_text = n->in[0]->dtype == SD_STRING;
  int64_t *all = SD_NEW_ARRAY(n->graph->module->arena, int64_t, count + 1);
  for (int64_t i = 0; i < count; i++) all[i] = i;
  sd_value *numbers = sd_xg_ints(g, all, (int)count);
  return from_text ? look_up(g, texts, numbers, label_default(g, SD_I64)) : look_up(g, numbers, texts, label_default(g, SD_STRING));
}

sard_status *sd_rewrite_ml_label_encoder(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *keys = NULL, *values = NULL;
  const sd_attr *classes = sd_node_attr(n, "classes_strings");
  if (classes->kind == SD_ATTR_STRINGS) return label_classes(&g, classes);
  SD_TRY(label_list(&g, "keys", &keys));
  SD_TRY(label_list(&g, "values", &values));
  return look_up(&g, keys, values, label_default(&g, values->dtype));
}

// Between texts and numbers, in the direction that the operand asks for.
sard_status *sd_rewrite_ml_category_mapper(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_ints ints = ml_ints_of(n, "cats_int64s");
  const sd_attr *texts = sd_node_attr(n, "cats_strings");
  if (texts->kind != SD_ATTR_STRINGS || texts->n != ints.n) return SD_SH_ERR(n, MODEL, "cats_strings and cats_int64s differ in number");
  sd_value *words = sd_value_const_texts(n->graph, "", texts->strings, (int)texts->n), *numbers = sd_xg_ints(&g, ints.v, (int)ints.n);
  bool from_text = n->in[0]->dtype == SD_STRING;
  return from_text ? look_up(&g, words, numbers, label_default(&g, SD_I64)) : look_up(&g, numbers, words, label_default(&g, SD_STRING));
}
