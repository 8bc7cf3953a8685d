// Host functions of maps (rows of ir/ops/ml.def): keys and values are two tensors of rank 1.
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

static sard_status *make_map(sd_host_call *c, uint64_t keys, uint64_t row, uint64_t n, uint64_t *out) {
  const sd_host_tensor *x = &c->in[0];
  uint64_t both[2] = {keys, 0};
  int64_t dim = (int64_t)n;
  size_t size = (size_t)sd_dtype_bits(x->dtype) / 8;
  void *data;
  SD_TRY(sd_objects_tensor(c->objects, x->dtype, 1, &dim, &both[1], &data));
  if (n) memcpy(data, (const char *)x->data + row * n * size, n * size);
  return sd_objects_list(c->objects, SD_OBJ_MAP, both, 2, out);
}

sard_status *sd_host_zip_map(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *k = &c->in[1];
  uint64_t s = 0, keys, map, width = (uint64_t)x->dims[x->rank - 1], rows = x->rank == 2 ? (uint64_t)x->dims[0] : 1;
  void *data;
  if (x->rank < 1 || x->rank > 2 || width != k->count) return SD_ERR(MODEL, "%llu columns for %llu class labels", (unsigned long long)width, (unsigned long long)k->count);
  SD_TRY(sd_objects_tensor(c->objects, k->dtype, 1, k->dims, &keys, &data));
  if (k->count) memcpy(data, k->data, k->count * 8);
  for (uint64_t r = 0; r < rows; r++) {
    SD_TRY(make_map(c, keys, r, width, &map));
    SD_TRY(sd_objects_append(c->objects, s, map, &s));
  }
  return sd_host_give_object(c, 0, s);
}

static sard_status *read_map(sd_host_call *c, sd_dtype key_type, const sd_object **keys, const sd_object **values) {
  const sd_object *map;
  static const sd_object none;
  *keys = *values = &none;
  SD_TRY(sd_objects_need(c->objects, *(const uint64_t *)c->in[0].data, SD_OBJ_MAP, &map));
  if (!map->n) return NULL;
  SD_TRY(sd_objects_need(c->objects, map->items[0], SD_OBJ_TENSOR, keys));
  SD_TRY(sd_objects_need(c->objects, map->items[1], SD_OBJ_TENSOR, values));
  if ((*keys)->dtype != key_type || (*keys)->count != (*values)->count) return SD_ERR(MODEL, "the map has keys of type %s, %s is expected", sd_dtype_name((*keys)->dtype), sd_dtype_name(key_type));
  return NULL;
}

sard_status *sd_host_dict_vectorizer(sd_host_call *c) {
  const sd_host_tensor *k = &c->in[1];
  const sd_object *keys, *values;
  int64_t dims[2] = {1, (int64_t)k->count};
  SD_TRY(read_map(c, k->dtype, &keys, &values));
  SD_TRY(c->make(c, 0, dims));
  size_t size = (size_t)sd_dtype_bits(c->out[0].dtype) / 8;
  const uint64_t *want = k->data, *have = keys->data;
  if (keys->count && values->dtype != c->out[0].dtype) return SD_ERR(MODEL, "the map has values of type %s", sd_dtype_name(values->dtype));
  memset(c->out[0].data, 0, k->count * size);
  for (uint64_t i = 0; i < k->count; i++)
    for (uint64_t j = 0; j < keys->count; j++)
      if (want[i] == have[j]) memcpy((char *)c->out[0].data + i * size, (const char *)values->data + j * size, size);
  return NULL;
}

// ---- CastMap ----

typedef struct pair { int64_t key; uint64_t at; } pair;

static int by_key(const void *a, const void *b) {
  const pair *x = a, *y = b;
  return x->key < y->key ? -1 : x->key > y->key;
}

static void set_value(sd_host_call *c, uint64_t to, const sd_object *values, uint64_t from) {
  sd_host_tensor *y = &c->out[0];
  if (sd_dtype_is_float(y->dtype)) sd_dtype_set_f64(y->dtype, y->data, to, sd_dtype_is_float(values->dtype) ? sd_dtype_get_f64(values->dtype, values->data, from) : (double)sd_dtype_get_i64(values->dtype, values->data, from));
  else sd_dtype_set_i64(y->dtype, y->data, to, sd_dtype_get_i64(values->dtype, values->data, from));
}

// In the order of the keys; a fixed width where the output has one: keys are places then, others hold 0.
sard_status *sd_host_cast_map(sd_host_call *c) {
  const sd_object *keys, *values;
  bool dense = !c->param[3];
  SD_TRY(read_map(c, SD_I64, &keys, &values));
  int64_t dims[2] = {1, dense ? (int64_t)keys->count : c->param[2]};
  pair *order = sd_calloc(keys->count + 1, sizeof *order);
  if (!order) return SD_ERR(NOMEM, "out of memory for a map");
  for (uint64_t i = 0; i < keys->count; i++) order[i] = (pair){((const int64_t *)keys->data)[i], i};
  qsort(order, keys->count, sizeof *order, by_key);
  sard_status *st = c->make(c, 0, dims);
  if (!st && !dense) memset(c->out[0].data, 0, c->out[0].count * (size_t)sd_dtype_bits(c->out[0].dtype) / 8);
  for (uint64_t i = 0; i < keys->count && !st; i++) {
    if (!dense && (order[i].key < 0 || order[i].key >= dims[1])) st = SD_ERR(MODEL, "key %lld of a map of %lld places", (long long)order[i].key, (long long)dims[1]);
    else set_value(c, dense ? i : (uint64_t)order[i].key, values, order[i].at);
  }
  sd_free(order);
  return st;
}
