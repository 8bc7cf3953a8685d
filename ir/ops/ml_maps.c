// Rows of maps: ZipMap makes them, DictVectorizer and CastMap read them.
#include "ir/ops.h"
#include "ir/ops/ml_common.h"

static sd_module *module(const sd_node *n) { return n->graph->module; }

// The keys of one of two attributes, as a constant vector.
static sard_status *keys_of(sd_node *n, const char *ints, const char *texts, sd_value **out) {
  ml_ints is = ml_ints_of(n, ints);
  const sd_attr *ss = sd_node_attr(n, texts);
  if (is.n) *out = sd_value_const_i64(n->graph, is.v, (int)is.n);
  else if (ss->kind == SD_ATTR_STRINGS) *out = sd_value_const_texts(n->graph, "", ss->strings, (int)ss->n);
  else return SD_SH_ERR(n, MODEL, "neither %s nor %s is given", ints, texts);
  return NULL;
}

// The operator `row` of the operand and the keys, in place of n.
static sard_status *with_keys(sd_node *n, const char *row, const char *ints, const char *texts) {
  XG_SCOPE xg g = {.at = n};
  sd_value *keys = NULL;
  SD_TRY(keys_of(n, ints, texts, &keys));
  sd_value *y = XG(&g, row, n->in[0], keys);
  return sd_xg_finish(&g, &y, 1);
}

// ---- ZipMap: a map for each row ----

static sard_status *maps(sd_node *n, sd_dtype keys) {
  sd_module *m = module(n);
  SD_TRY(sd_sh_rank(n, 0, 1, 2));
  const sd_otype *value = sd_otype_new(m, SD_OBJ_TENSOR, n->in[0]->dtype, 0, NULL), *map = sd_otype_new(m, SD_OBJ_MAP, keys, 0, value);
  return sd_sh_set_object(n, 0, sd_otype_new(m, SD_OBJ_SEQUENCE, SD_DT_NONE, 0, map));
}

sard_status *sd_shape_ml_zip_map(sd_node *n) { return maps(n, ml_ints_of(n, "classlabels_int64s").n ? SD_I64 : SD_STRING); }
sard_status *sd_shape_zip_map(sd_node *n) { return maps(n, n->in[1]->dtype); }

sard_status *sd_rewrite_ml_zip_map(sd_node *n) {
  return with_keys(n, "sard.ZipMap", "classlabels_int64s", "classlabels_strings");
}

// ---- DictVectorizer: the values of a map at the places of their keys ----

static sard_status *need_map(const sd_node *n, const sd_otype **out) {
  *out = n->in[0]->object;
  if (*out && (*out)->kind == SD_OBJ_MAP && (*out)->of && (*out)->of->kind == SD_OBJ_TENSOR) return NULL;
  return SD_SH_ERR(n, MODEL, "the operand is no map of keys to numbers or strings");
}

static sard_status *vector(sd_node *n, sd_dim width) {
  const sd_otype *map;
  SD_TRY(need_map(n, &map));
  return sd_sh_set(n, 0, map->of->dtype, 2, (sd_dim[]){sd_dim_const(sd_sh_tab(n), 1), width});
}

sard_status *sd_shape_ml_dict_vectorizer(sd_node *n) {
  uint32_t count = ml_ints_of(n, "int64_vocabulary").n + ml_strings_of(n, "string_vocabulary");
  return vector(n, sd_dim_const(sd_sh_tab(n), count));
}

sard_status *sd_shape_dict_vectorizer(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 1, 1, 1));
  return vector(n, n->in[1]->dims[0]);
}

sard_status *sd_rewrite_ml_dict_vectorizer(sd_node *n) {
  return with_keys(n, "sard.DictVectorizer", "int64_vocabulary", "string_vocabulary");
}

// ---- CastMap ----

sard_status *sd_shape_ml_cast_map(sd_node *n) {
  const sd_otype *map;
  const char *to = sd_node_str(n, "cast_to", "TO_FLOAT"), *form = sd_node_str(n, "map_form", "DENSE");
  int64_t most = sd_node_int(n, "max_map", 1);
  bool dense = !strcmp(form, "DENSE");
  sd_dtype t = !strcmp(to, "TO_FLOAT") ? SD_F32 : !strcmp(to, "TO_INT64") ? SD_I64 : !strcmp(to, "TO_STRING") ? SD_STRING : SD_DT_NONE;
  SD_TRY(need_map(n, &map));
  if (!t || (!dense && strcmp(form, "SPARSE"))) return SD_SH_ERR(n, MODEL, "cast_to '%s', map_form '%s'", to, form);
  if (map->dtype != SD_I64 || most < 1 || (t == SD_STRING) != (map->of->dtype == SD_STRING))
    return SD_SH_ERR(n, UNSUPPORTED, "this conversion of a map (keys %s, values %s)", sd_dtype_name(map->dtype), sd_dtype_name(map->of->dtype));
  sd_node_set_int(n, "sparse", !dense); // internal: what the host function reads of map_form
  sd_dim width = dense ? sd_sh_late(n, 0, 1, "entries") : sd_dim_const(sd_sh_tab(n), most);
  return sd_sh_set(n, 0, t, 2, (sd_dim[]){sd_dim_const(sd_sh_tab(n), 1), width});
}
