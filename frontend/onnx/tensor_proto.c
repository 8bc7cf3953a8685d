// TensorProto to sd_const: one check of type, shape and size, then one of the encodings.
#include "frontend/onnx/tensor_proto.h"

#include <limits.h>

#include "frontend/onnx/packed.h"
#include "runtime/base/alloc.h"

#define COPY_BYTES (64u << 10) // smaller data is copied and thereby aligned; larger stays where it is

enum { LOCATION_EXTERNAL = 1 };

static const char *name_of(const Onnx__TensorProto *p) { return p->name && *p->name ? p->name : "(unnamed)"; }

#define TENSOR_ERR(code, fmt, ...)                                                                                     \
  SD_ERR(code, "%s '%.200s': " fmt, what, name_of(p), __VA_ARGS__)

// Type, dims, count and bytes; no data yet.
static sard_status *read_type(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c) {
  if (!sd_dtype_of_tensors(p->data_type))
    return TENSOR_ERR(MODEL, "unknown element type %d", (int)p->data_type);
  if (p->n_dims > SD_MAX_RANK)
    return TENSOR_ERR(UNSUPPORTED, "rank %zu, at most %d are supported", p->n_dims, SD_MAX_RANK);
  if (p->segment) return TENSOR_ERR(UNSUPPORTED, "%s", "it is one segment of a split tensor");
  c->dtype = (sd_dtype)p->data_type;
  c->rank = (int)p->n_dims;
  c->dims = sd_arena_dup(t->arena, p->dims, p->n_dims * sizeof *p->dims);
  c->count = 1;
  // Zero dims are looked for first: a huge dim beside one is legal.
  for (int i = 0; i < c->rank; i++) {
    if (c->dims[i] < 0) return TENSOR_ERR(MODEL, "dim %d is %lld", i, (long long)c->dims[i]);
    if (c->dims[i] == 0) c->count = 0;
  }
  for (int i = 0; i < c->rank; i++)
    if (!sd_ck_mul(c->count, (uint64_t)c->dims[i], &c->count) || c->count > INT64_MAX)
      return TENSOR_ERR(MODEL, "%s", "the product of its dims overflows");
  if (!sd_dtype_bytes(c->dtype, c->count, &c->bytes) || c->bytes > INT64_MAX)
    return TENSOR_ERR(MODEL, "%s", "its size in bytes overflows");
  return NULL;
}

// Points to the bytes, or copies them where they are small; bools become 0 or 1.
static void take_bytes(sd_tensors *t, sd_const *c, const void *data) {
  bool copy = c->bytes <= COPY_BYTES;
  if (c->dtype == SD_BOOL) {
    const uint8_t *b = data;
    for (uint64_t i = 0; i < c->count && !copy; i++) copy = b[i] > 1;
  }
  c->data = data;
  if (!copy) return;
  uint8_t *to = sd_arena_aligned(t->arena, c->bytes, 64);
  if (c->bytes) memcpy(to, data, c->bytes);
  for (uint64_t i = 0; c->dtype == SD_BOOL && i < c->count; i++) to[i] = to[i] != 0;
  c->data = to;
}

// The same with the bytes of a file, of which there are file_bytes(c).
static void take_file_bytes(sd_tensors *t, sd_const *c, const void *data) {
  if (!sd_dtype_repacked(c->dtype)) {
    take_bytes(t, c, data);
    return;
  }
  uint8_t *to = sd_arena_aligned(t->arena, c->bytes, 64);
  sd_dtype_from_file(c->dtype, data, c->count, to);
  c->data = to;
}

static uint64_t file_bytes(const sd_const *c) {
  uint64_t bytes;
  return sd_dtype_file_bytes(c->dtype, c->count, &bytes) ? bytes : c->bytes;
}

// The typed list that holds elements of a dtype, by ONNX's rule, and how many entries an element takes.
typedef enum list { LIST_FLOAT, LIST_INT32, LIST_STRING, LIST_INT64, LIST_DOUBLE, LIST_UINT64, LIST_COUNT } list;

static list list_of(sd_dtype t) {
  switch (t) {
  case SD_F32:
  case SD_C64: return LIST_FLOAT;
  case SD_F64:
  case SD_C128: return LIST_DOUBLE;
  case SD_I64: return LIST_INT64;
  case SD_U32:
  case SD_U64: return LIST_UINT64;
  case SD_STRING: return LIST_STRING;
  default: return LIST_INT32;
  }
}

static uint64_t list_length(const Onnx__TensorProto *p, list l) {
  const size_t n[LIST_COUNT] = {p->n_float_data, p->n_int32_data,  p->n_string_data,
                                p->n_int64_data, p->n_double_data, p->n_uint64_data};
  return n[l];
}

static const char *const list_names[LIST_COUNT] = {"float_data", "int32_data",  "string_data",
                                                   "int64_data", "double_data", "uint64_data"};

// Entries that a dtype's list needs: complex take two an element, sub-byte types are packed into bytes.
static bool list_need(const sd_const *c, uint64_t *out) {
  int bits = sd_dtype_bits(c->dtype);
  if (bits < 8) return *out = c->bytes, true;
  return sd_ck_mul(c->count, c->dtype == SD_C64 || c->dtype == SD_C128 ? 2 : 1, out);
}

// Integers and bit patterns out of int32_data: each must fit its type.
static sard_status *take_int32(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c, uint64_t n) {
  int bits = sd_dtype_bits(c->dtype);
  if (bits < 8) bits = 8;
  int64_t end = sd_dtype_repacked(c->dtype) ? 64 : 1ll << bits;
  uint8_t *to = sd_arena_aligned(t->arena, c->bytes, 64);
  for (uint64_t i = 0; i < n; i++) {
    int64_t v = p->int32_data[i];
    if (c->dtype == SD_BOOL) v = v != 0;
    // Both readings of the bits are in use (240 and -16 for a byte).
    if (bits < 32 && (v < -(1ll << (bits - 1)) || v >= end))
      return TENSOR_ERR(MODEL, "int32_data[%llu] = %lld does not fit %s", (unsigned long long)i, (long long)v,
                        sd_dtype_name(c->dtype));
    memcpy(to + i * (uint64_t)(bits / 8), &v, (size_t)bits / 8);
  }
  c->data = to;
  return NULL;
}

static sard_status *take_uint64(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c, uint64_t n) {
  if (c->dtype == SD_U64) return take_bytes(t, c, p->uint64_data), (sard_status *)NULL;
  uint32_t *to = sd_arena_aligned(t->arena, c->bytes, 64);
  for (uint64_t i = 0; i < n; i++) {
    if (p->uint64_data[i] > UINT32_MAX)
      return TENSOR_ERR(MODEL, "uint64_data[%llu] does not fit u32", (unsigned long long)i);
    to[i] = (uint32_t)p->uint64_data[i];
  }
  c->data = to;
  return NULL;
}

static sard_status *take_strings(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c) {
  if (!t->module) return TENSOR_ERR(UNSUPPORTED, "%s", "a tensor of strings");
  uint64_t *to = sd_arena_aligned(t->arena, c->bytes, 64);
  for (uint64_t i = 0; i < c->count; i++) {
    const ProtobufCBinaryData *s = &p->string_data[i];
    if (s->len && memchr(s->data, 0, s->len))
      return TENSOR_ERR(UNSUPPORTED, "string %llu contains a NUL", (unsigned long long)i);
    to[i] = sd_module_string(t->module, s->len ? (const char *)s->data : "", s->len);
  }
  c->data = to;
  return NULL;
}

static sard_status *take_list(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c) {
  list l = list_of(c->dtype);
  uint64_t need, have = list_length(p, l);
  if (!list_need(c, &need) || need != have)
    return TENSOR_ERR(MODEL, "its type and shape need %llu entries of %s, it has %llu", (unsigned long long)need,
                      list_names[l], (unsigned long long)have);
  switch (l) {
  case LIST_FLOAT: take_bytes(t, c, p->float_data); break;
  case LIST_DOUBLE: take_bytes(t, c, p->double_data); break;
  case LIST_INT64: take_bytes(t, c, p->int64_data); break;
  case LIST_UINT64: return take_uint64(t, p, what, c, need);
  case LIST_STRING: return take_strings(t, p, what, c);
  default: return take_int32(t, p, what, c, need);
  }
  // The lists above live in scratch memory of the import: larger ones were not copied by take_bytes.
  if (c->bytes > COPY_BYTES) c->data = memcpy(sd_arena_aligned(t->arena, c->bytes, 64), c->data, c->bytes);
  return NULL;
}

// At most one list, and none beside raw data.
static sard_status *one_encoding(const sd_tensors *t, const Onnx__TensorProto *p, const char *what) {
  const char *first = NULL;
  if (p->lifted > t->spans.len) return TENSOR_ERR(INTERNAL, "lifted data %u", (unsigned)p->lifted);
  if (p->lifted) first = t->spans.at[p->lifted - 1].field == 9 ? "raw_data" : "typed data";
  if (p->raw_data.len) first = "raw_data";
  if (p->data_location == LOCATION_EXTERNAL) {
    if (first) return TENSOR_ERR(MODEL, "it has both external data and %s", first);
    first = "external data";
  } else if (p->data_location != 0) {
    return TENSOR_ERR(MODEL, "unknown data location %d", (int)p->data_location);
  } else if (p->n_external_data) {
    return TENSOR_ERR(MODEL, "%s", "it has external data entries but its data location says otherwise");
  }
  for (int l = 0; l < LIST_COUNT; l++) {
    if (!list_length(p, (list)l)) continue;
    if (first) return TENSOR_ERR(MODEL, "it has both %s and %s", first, list_names[l]);
    first = list_names[l];
  }
  return NULL;
}

static sard_status *take_lifted(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c) {
  const sd_span *s = &t->spans.at[p->lifted - 1];
  list l = list_of(c->dtype);
  if (s->field != 9 && s->field != (l == LIST_FLOAT ? 4u : l == LIST_DOUBLE ? 10u : 0u))
    return TENSOR_ERR(MODEL, "its data of type %s is in the wrong list", sd_dtype_name(c->dtype));
  uint64_t need = s->field == 9 ? file_bytes(c) : c->bytes;
  if (s->size != need)
    return TENSOR_ERR(MODEL, "its type and shape need %llu bytes, it has %llu", (unsigned long long)need,
                      (unsigned long long)s->size);
  take_file_bytes(t, c, s->data);
  return NULL;
}

static sard_status *take_external(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const *c) {
  if (!t->external) return TENSOR_ERR(MODEL, "%s", "external data is not allowed here");
  if (c->dtype == SD_STRING) return TENSOR_ERR(MODEL, "%s", "strings cannot be external data");
  const void *data = NULL;
  SD_TRY_MSG(sd_external_get(t->external, p->external_data, p->n_external_data, file_bytes(c), &data), "%s '%.200s'", what,
             name_of(p));
  // A caller's read_external promises the bytes for the open call only, so those are copied.
  take_file_bytes(t, c, data);
  bool stays = !t->external->source->read_external || t->external->source->read_external == sd_packed_read;
  if (!stays && c->data == data && c->bytes)
    c->data = memcpy(sd_arena_aligned(t->arena, c->bytes, 64), data, c->bytes);
  return NULL;
}

sard_status *sd_tensor_proto_outside(sd_tensors *t, const Onnx__TensorProto *p, const char *what, const void **data,
                                     uint64_t *bytes) {
  sd_const c = {0};
  SD_TRY(read_type(t, p, what, &c));
  *bytes = file_bytes(&c);
  SD_TRY_MSG(sd_external_get(t->external, p->external_data, p->n_external_data, *bytes, data), "%s '%.200s'", what,
             name_of(p));
  return NULL;
}

sard_status *sd_tensor_proto_const(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const **out) {
  sd_const *c = SD_NEW(t->arena, sd_const);
  SD_TRY(read_type(t, p, what, c));
  SD_TRY(one_encoding(t, p, what));
  if (p->data_location == LOCATION_EXTERNAL) {
    SD_TRY(take_external(t, p, what, c));
  } else if (p->lifted && c->dtype != SD_STRING) {
    SD_TRY(take_lifted(t, p, what, c));
  } else if (p->raw_data.len && c->dtype != SD_STRING) {
    if (p->raw_data.len != file_bytes(c))
      return TENSOR_ERR(MODEL, "its type and shape need %llu bytes, it has %zu", (unsigned long long)file_bytes(c),
                        p->raw_data.len);
    take_file_bytes(t, c, p->raw_data.data);
  } else {
    SD_TRY(take_list(t, p, what, c));
  }
  *out = c;
  return NULL;
}
