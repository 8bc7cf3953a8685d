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
  if (!cats.n) return SD_SH_ERR(n, UNSUPPORTED, "categories that are strings");
  sd_value *x = XG(&g, "Unsqueeze", sd_xg_cast(&g, SD_I64, n->in[0]), sd_xg_ints(&g, &last, 1));
  sd_value *y = sd_xg_cast(&g, SD_F32, XG(&g, "Equal", x, sd_xg_ints(&g, cats.v, (int)cats.n)));
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
  if (tensor && t->tensor->dtype == SD_STRING) tensor = false;
  if (tensor && t->tensor->count > INT32_MAX) return SD_SH_ERR(n, MODEL, "%s_tensor is too large", what);
  int64_t count = tensor ? (int64_t)t->tensor->count : 0;
  if (is.n) *out = sd_xg_ints(g, is.v, (int)is.n);
  else if (fs.n)
    *out = sd_ml_vector(g, fs);
  else if (tensor)
    *out = sd_value_const(n->graph, "", t->tensor->dtype, 1, &count, t->tensor->data);
  else
    return SD_SH_ERR(n, UNSUPPORTED, "%s that are strings", what);
  return sd_xg_take(g);
}

static sd_value *label_default(xg *g, sd_dtype t) {
  const sd_attr *a = sd_node_attr(g->at, "default_tensor");
  if (a && a->kind == SD_ATTR_TENSOR && a->tensor->count == 1 && a->tensor->dtype == t)
    return sd_value_const(g->at->graph, "", t, 0, NULL, a->tensor->data);
  if (sd_dtype_is_float(t)) return sd_xg_num(g, t, sd_node_float(g->at, "default_float", 0));
  int64_t v = sd_node_int(g->at, "default_int64", -1);
  return sd_xg_cast(g, t, sd_xg_ints(g, &v, -1));
}

sard_status *sd_rewrite_ml_label_encoder(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *keys = NULL, *values = NULL, *x = n->in[0];
  if (x->dtype == SD_STRING) return SD_SH_ERR(n, UNSUPPORTED, "strings");
  SD_TRY(label_list(&g, "keys", &keys));
  SD_TRY(label_list(&g, "values", &values));
  if (!sd_dim_is(sd_sh_tab(n), keys->dims[0], (int64_t)values->data->count))
    return SD_SH_ERR(n, MODEL, "keys and values differ in number");
  int64_t last = x->rank, minus = -1, zero = 0, one = 1, count = (int64_t)values->data->count;
  keys = sd_xg_cast(&g, x->dtype, keys);
  sd_value *column = XG(&g, "Unsqueeze", x, sd_xg_ints(&g, &last, 1)), *same = XG(&g, "Equal", column, keys);
  if (sd_dtype_is_float(x->dtype))
    same = XG(&g, "Or", same, XG(&g, "And", XG(&g, "IsNaN", column), XG(&g, "IsNaN", keys)));
  sd_value *numbers =
      XG(&g, "Range", sd_xg_ints(&g, &zero, -1), sd_xg_ints(&g, &count, -1), sd_xg_ints(&g, &one, -1));
  sd_value *at = XG(&g, "Where", same, numbers, sd_xg_ints(&g, &minus, -1));
  at = XG(&g, "ReduceMax keepdims=0", at, sd_xg_ints(&g, &minus, 1));
  sd_value *found = XG(&g, "GreaterOrEqual", at, sd_xg_ints(&g, &zero, -1));
  sd_value *y = XG(&g, "Gather axis=0", values, XG(&g, "Max", at, sd_xg_ints(&g, &zero, -1)));
  y = XG(&g, "Where", found, y, label_default(&g, values->dtype));
  return sd_xg_finish(&g, &y, 1);
}
