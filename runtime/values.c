// Conversions of strings and of objects at the border of a session.
#include "runtime/values.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/memo.h"

_Static_assert(sizeof(char *) == sizeof(uint64_t), "texts and their numbers share memory");

enum { MAX_DEPTH = 8 };

// ---- strings ----

static sard_status *no_room(void) { return SD_ERR(NOMEM, "out of memory for the strings of a tensor"); }

// The strings of one tensor are often the same pointers again and again: those that it owns are where they are equal.
sard_status *sd_values_take_strings(const sd_values *v, const sard_tensor *t, uint64_t count, uint64_t *out) {
  const char *const *text = t->data;
  sd_memo memo = sd_memo_make(count);
  bool ok = true;
  for (uint64_t i = 0; i < count && ok; i++) {
    const char *s = text[i] ? text[i] : "";
    if (sd_memo_get(&memo, (uintptr_t)s, &out[i])) continue;
    ok = sd_strtab_add(v->strings, s, strlen(s), &out[i]);
    sd_memo_put(&memo, (uintptr_t)s, out[i]);
  }
  sd_memo_free(&memo);
  return ok ? NULL : no_room();
}

void sd_values_clear_strings(sard_tensor *t) {
  if (t->data) memset(t->data, 0, t->bytes);
}

// What the tensor had before is no longer of use: a tensor that is given to one run after another does not grow.
static bool own_texts(sard_tensor *t) {
  if (t->texts) sd_strtab_reset(t->texts);
  else t->texts = sd_strtab_new(NULL);
  return t->texts != NULL;
}

sard_status *sd_values_give_strings(const sd_values *v, sard_tensor *t) {
  uint64_t *number = t->data, n = t->bytes / sizeof *number, own;
  const char **text = t->data;
  sd_memo memo = sd_memo_make(n); // from a number to the tensor's own
  bool ok = own_texts(t);
  for (uint64_t i = 0; i < n && ok; i++) {
    uint64_t key = number[i] + 1;
    if (!key || !sd_memo_get(&memo, key, &own)) {
      size_t bytes;
      const char *from = sd_strtab_get(v->strings, number[i], &bytes);
      ok = sd_strtab_add(t->texts, from, bytes, &own);
      if (key && ok) sd_memo_put(&memo, key, own);
    }
    text[i] = sd_strtab_text(t->texts, own);
  }
  sd_memo_free(&memo);
  if (!ok) sd_values_clear_strings(t);
  return ok ? NULL : no_room();
}

// ---- objects ----

static sard_status *take_tensor(const sd_values *v, const sard_tensor *t, sd_dtype item, uint64_t *out) {
  void *data;
  sd_dtype type = (sd_dtype)t->desc.dtype;
  if (item && type != item) return SD_ERR(USAGE, "it holds a tensor of type %s, the model takes %s", sd_dtype_name(type), sd_dtype_name(item));
  SD_TRY(sd_objects_tensor(v->objects, type, t->desc.rank, t->desc.dims, out, &data));
  if (type == SD_STRING) return sd_values_take_strings(v, t, t->bytes / sizeof(uint64_t), data);
  if (t->bytes) memcpy(data, t->data, t->bytes);
  return NULL;
}

static sd_object_kind kind_of(int32_t dtype) {
  return dtype == SARD_SEQUENCE ? SD_OBJ_SEQUENCE : dtype == SARD_OPTIONAL ? SD_OBJ_OPTIONAL : dtype == SARD_MAP ? SD_OBJ_MAP : SD_OBJ_TENSOR;
}

static sard_status *take(const sd_values *v, const sard_tensor *t, sd_dtype item, int depth, uint64_t *out) {
  sd_object_kind kind = kind_of(t->desc.dtype);
  uint64_t number, sequence = 0;
  if (depth > MAX_DEPTH) return SD_ERR(USAGE, "a value is nested more than %d deep", MAX_DEPTH);
  if (kind == SD_OBJ_TENSOR) return take_tensor(v, t, item, out);
  if (kind == SD_OBJ_MAP) {
    uint64_t both[2];
    SD_TRY(take(v, t->items[0], SD_DT_NONE, depth + 1, &both[0]));
    SD_TRY(take(v, t->items[1], item, depth + 1, &both[1]));
    return sd_objects_list(v->objects, kind, both, 2, out);
  }
  if (kind == SD_OBJ_OPTIONAL) {
    *out = 0;
    if (!t->n_items) return NULL;
    SD_TRY(take(v, t->items[0], item, depth + 1, &number));
    return sd_objects_list(v->objects, kind, &number, 1, out);
  }
  for (int64_t i = 0; i < t->n_items; i++) {
    SD_TRY(take(v, t->items[i], item, depth + 1, &number));
    SD_TRY(sd_objects_append(v->objects, sequence, number, &sequence));
  }
  *out = sequence;
  return NULL;
}

sard_status *sd_values_take(const sd_values *v, const sard_tensor *t, sd_dtype item, uint64_t *out) { return take(v, t, item, 0, out); }

static sard_status *give_tensor(const sd_values *v, sard_context *ctx, const sd_object *o, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)o->dtype, .rank = o->rank};
  memcpy(d.dims, o->dims, sizeof d.dims);
  SD_TRY(sard_tensor_new(ctx, &d, out));
  if (o->bytes) memcpy((*out)->data, o->data, o->bytes);
  if (o->dtype != SD_STRING) return NULL;
  sard_status *st = sd_values_give_strings(v, *out);
  if (!st) return NULL;
  sard_tensor_free(*out);
  *out = NULL;
  return st;
}

static sard_status *give(const sd_values *v, sard_context *ctx, uint64_t number, sd_object_kind kind, int depth, sard_tensor **out);

static sard_status *give_items(const sd_values *v, sard_context *ctx, const sd_object *o, sd_object_kind kind, int depth, sard_tensor **out) {
  static const int kinds[] = {0, 0, SARD_SEQUENCE, SARD_OPTIONAL, SARD_MAP};
  sard_tensor **items = sd_calloc(o->n + 1, sizeof *items);
  sard_status *st = items ? NULL : SD_ERR(NOMEM, "out of memory for a value of %llu items", (unsigned long long)o->n);
  uint64_t n = 0;
  for (; n < o->n && !st; n++) st = give(v, ctx, o->items[n], SD_OBJ_TENSOR, depth + 1, &items[n]);
  if (!st) st = sard_value_new(ctx, kinds[kind], items, (int64_t)o->n, out); // takes the items
  else
    for (uint64_t i = 0; items && i < n; i++) sard_tensor_free(items[i]);
  sd_free(items);
  return st;
}

static sard_status *give(const sd_values *v, sard_context *ctx, uint64_t number, sd_object_kind kind, int depth, sard_tensor **out) {
  const sd_object *o = sd_objects_get(v->objects, number);
  if (depth > MAX_DEPTH) return SD_ERR(MODEL, "a value is nested more than %d deep", MAX_DEPTH);
  if (o->kind != SD_OBJ_NONE) kind = o->kind;
  if (kind != SD_OBJ_TENSOR) return give_items(v, ctx, o, kind, depth, out);
  if (o->kind == SD_OBJ_NONE) return SD_ERR(MODEL, "a value is empty where a tensor is expected");
  return give_tensor(v, ctx, o, out);
}

sard_status *sd_values_give(const sd_values *v, sard_context *ctx, uint64_t number, sd_object_kind kind, sard_tensor **out) {
  const sd_object *o = sd_objects_get(v->objects, number);
  if (o->kind != SD_OBJ_NONE && o->kind != kind)
    return SD_ERR(MODEL, "the output is %s, the model promises %s", sd_object_kind_text(o->kind), sd_object_kind_text(kind));
  return give(v, ctx, number, kind, 0, out);
}
