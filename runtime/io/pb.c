// ONNX TensorProto files: a small decoder of protobuf's wire format (untrusted bytes), and a writer.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/str.h"
#include "runtime/io/pb_value.h"
#include "runtime/io/pb_wire.h"
#include "runtime/io/tensor_io.h"
#include "runtime/model.h"

// Field numbers of TensorProto.
enum {
  F_DIMS = 1,
  F_TYPE = 2,
  F_SEGMENT = 3,
  F_FLOATS = 4,
  F_INTS = 5,
  F_STRINGS = 6,
  F_LONGS = 7,
  F_NAME = 8,
  F_RAW = 9,
  F_DOUBLES = 10,
  F_ULONGS = 11,
  F_EXTERNAL = 13,
  F_LOCATION = 14
};

// What the fields of the message say, before elements are converted.
typedef struct message {
  sd_dtype dtype;
  int rank;
  int64_t dims[SARD_MAX_RANK];
  sd_pb_reader name, raw;
  bool has_raw, external, segment, too_many_dims;
  bool has_typed; // any element in a typed field
  uint64_t count, bytes, file_bytes; // bytes: in memory; file_bytes: as raw data
} message;

static void add_dim(message *m, uint64_t v) {
  if (m->rank == SARD_MAX_RANK)
    m->too_many_dims = true;
  else
    m->dims[m->rank++] = (int64_t)v;
}

static bool take_dims(message *m, sd_pb_field *f) {
  if (f->wire == SD_PB_VARINT) {
    add_dim(m, f->value);
    return true;
  }
  if (f->wire != SD_PB_BYTES) return false;
  while (f->bytes.p < f->bytes.end) {
    uint64_t v;
    if (!sd_pb_varint(&f->bytes, &v)) return false;
    add_dim(m, v);
  }
  return true;
}

static bool take_field(message *m, sd_pb_field *f) {
  bool bytes = f->wire == SD_PB_BYTES;
  switch (f->number) {
  case F_DIMS: return take_dims(m, f);
  case F_TYPE:
    m->dtype = sd_dtype_of_tensors((int64_t)f->value) ? (sd_dtype)f->value : SD_DT_NONE;
    return f->wire == SD_PB_VARINT;
  case F_SEGMENT: m->segment = true; return bytes;
  case F_NAME: m->name = f->bytes; return bytes;
  case F_RAW:
    m->raw = f->bytes;
    m->has_raw = true;
    return bytes;
  case F_EXTERNAL: m->external = true; return bytes;
  case F_LOCATION:
    if (f->value == 1) m->external = true;
    return f->wire == SD_PB_VARINT;
  case F_FLOATS:
  case F_INTS:
  case F_LONGS:
  case F_DOUBLES:
  case F_ULONGS: m->has_typed |= !bytes || f->bytes.p < f->bytes.end; return true;
  case F_STRINGS: m->has_typed = true; return bytes; // an empty text is an element
  default: return true;
  }
}

static sard_status *scan(message *m, sd_pb_reader r, const char *what) {
  while (r.p < r.end) {
    const uint8_t *start = r.p;
    sd_pb_field f;
    if (!sd_pb_next(&r, &f) || !take_field(m, &f))
      return SD_ERR(MODEL, "'%s' is not a good TensorProto: bad field %llu bytes before its end", what,
                    (unsigned long long)(r.end - start));
  }
  return NULL;
}

// The typed field that holds elements of a type, and how many entries of it one element takes (2 for complex).
static uint64_t field_of(sd_dtype t) {
  switch (t) {
  case SD_F32:
  case SD_C64: return F_FLOATS;
  case SD_F64:
  case SD_C128: return F_DOUBLES;
  case SD_I64: return F_LONGS;
  case SD_U32:
  case SD_U64: return F_ULONGS;
  default: return F_INTS;
  }
}

// Where typed entries go: each entry has `unit` bytes in memory (its low ones).
typedef struct sink {
  uint8_t *to, *end;
  size_t unit;
  bool overflow;
} sink;

static void put_entry(sink *s, uint64_t v) {
  if ((size_t)(s->end - s->to) < s->unit) {
    s->overflow = true;
    return;
  }
  memcpy(s->to, &v, s->unit);
  s->to += s->unit;
}

// One typed field, packed or not. `fixed` is 4 or 8 for floats and doubles, 0 for varints.
static bool take_typed(sink *s, sd_pb_field *f, size_t fixed) {
  if (f->wire != SD_PB_BYTES) {
    if (f->wire != (fixed == 4 ? SD_PB_32 : fixed == 8 ? SD_PB_64 : SD_PB_VARINT)) return false;
    put_entry(s, f->value);
    return true;
  }
  sd_pb_reader *r = &f->bytes;
  while (r->p < r->end && !s->overflow) {
    uint64_t v;
    if (fixed ? !sd_pb_fixed(r, (unsigned)fixed, &v) : !sd_pb_varint(r, &v)) return false;
    put_entry(s, v);
  }
  return true;
}

static sard_status *read_typed(const message *m, sd_pb_reader r, const char *what, uint8_t *to) {
  uint64_t number = field_of(m->dtype);
  size_t fixed = number == F_FLOATS ? 4 : number == F_DOUBLES ? 8 : 0, bits = (size_t)sd_dtype_bits(m->dtype);
  sink s = {to, to + m->bytes, fixed ? fixed : bits < 8 ? 1 : bits / 8, false};
  while (r.p < r.end) {
    sd_pb_field f;
    if (!sd_pb_next(&r, &f)) break; // was read before
    if (f.number != number) continue;
    if (!take_typed(&s, &f, fixed)) return SD_ERR(MODEL, "'%s' has a damaged list of elements", what);
  }
  if (s.overflow || s.to != s.end)
    return SD_ERR(MODEL, "'%s' has %s elements than its dims say (%llu)", what, s.overflow ? "more" : "fewer",
                  (unsigned long long)m->count);
  return NULL;
}

// Strings: one entry each, without a NUL inside.
static sard_status *read_strings(const message *m, sd_pb_reader r, const char *what, sard_tensor *t) {
  uint64_t i = 0;
  while (r.p < r.end) {
    sd_pb_field f;
    if (!sd_pb_next(&r, &f)) break; // was read before
    if (f.number != F_STRINGS) continue;
    size_t n = (size_t)(f.bytes.end - f.bytes.p);
    if (f.wire != SD_PB_BYTES || i == m->count) break;
    if (memchr(f.bytes.p, 0, n)) return SD_ERR(UNSUPPORTED, "'%s': string %llu contains a NUL", what, (unsigned long long)i);
    SD_TRY(sd_tensor_put_string(t, i++, (const char *)f.bytes.p, n));
  }
  if (i == m->count && r.p >= r.end) return NULL;
  return SD_ERR(MODEL, "'%s' has another number of strings than its dims say (%llu)", what, (unsigned long long)m->count);
}

static sard_status *check_message(message *m, const char *what) {
  if (m->segment)
    return SD_ERR(UNSUPPORTED, "'%s' is a SequenceProto or OptionalProto where a tensor is expected, or in segments", what);
  if (sd_dtype_bits(m->dtype) == 0) return SD_ERR(MODEL, "'%s' has no known element type", what);
  if (m->external)
    return SD_ERR(UNSUPPORTED, "'%s' keeps its elements in another file: not supported for inputs and outputs", what);
  if (m->too_many_dims) return SD_ERR(MODEL, "'%s' has more than %d dims", what, SARD_MAX_RANK);
  bool ok = true, empty = false;
  m->count = 1;
  for (int i = 0; i < m->rank; i++) {
    if (m->dims[i] < 0) return SD_ERR(MODEL, "'%s' has dim %lld", what, (long long)m->dims[i]);
    empty |= m->dims[i] == 0;
  }
  for (int i = 0; i < m->rank && !empty; i++) ok = ok && sd_ck_mul(m->count, (uint64_t)m->dims[i], &m->count);
  if (empty) m->count = 0;
  ok = ok && sd_dtype_file_bytes(m->dtype, m->count, &m->file_bytes);
  if (!ok || !sd_dtype_bytes(m->dtype, m->count, &m->bytes)) return SD_ERR(MODEL, "'%s' is too large", what);
  return NULL;
}

// Elements must be there before memory is taken for them.
static sard_status *check_contents(const message *m, uint64_t size, const char *what) {
  uint64_t have = (uint64_t)(m->raw.end - m->raw.p);
  if (m->has_raw && have != m->file_bytes && !(have == 0 && m->has_typed))
    return SD_ERR(MODEL, "'%s' has %llu bytes of elements, its dims need %llu", what, (unsigned long long)have,
                  (unsigned long long)m->file_bytes);
  if (!m->has_raw && m->count && !m->has_typed)
    return SD_ERR(MODEL, "'%s' has no elements", what);
  // A typed entry takes at least one byte of the file and gives at most eight.
  if (m->dtype == SD_STRING && m->has_raw) return SD_ERR(MODEL, "'%s' has strings as raw data", what);
  if (!m->has_raw && m->bytes / 8 > size)
    return SD_ERR(MODEL, "'%s' has fewer elements than its dims say (%llu)", what, (unsigned long long)m->count);
  return NULL;
}

sard_status *sd_pb_parse(sard_context *ctx, const void *data, uint64_t size, const char *what, sard_tensor **out) {
  static const uint8_t nothing[1];
  sd_pb_reader r = {data ? data : nothing, (data ? (const uint8_t *)data : nothing) + size};
  message m = {.name = {nothing, nothing}, .raw = {nothing, nothing}};
  *out = NULL;
  SD_TRY(scan(&m, r, what));
  SD_TRY(check_message(&m, what));
  SD_TRY(check_contents(&m, size, what));
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)m.dtype, .rank = m.rank};
  memcpy(d.dims, m.dims, sizeof d.dims);
  sd_str name = {0};
  sd_str_putn(&name, (const char *)m.name.p, (size_t)(m.name.end - m.name.p));
  char *text = sd_str_take(&name);
  d.name = text ? text : "";
  sard_tensor *t = NULL;
  sard_status *st = text ? sd_status_context(sard_tensor_new(ctx, &d, &t), "'%s'", what)
                         : SD_ERR(NOMEM, "out of memory while reading '%s'", what);
  sd_free(text);
  SD_TRY(st);
  uint8_t *to = sard_tensor_data(t, NULL);
  bool raw = m.has_raw && (m.raw.end > m.raw.p || !m.has_typed);
  if (raw && m.dtype != SD_STRING) sd_dtype_from_file(m.dtype, m.raw.p, m.count, to);
  if (!raw) st = m.dtype == SD_STRING ? read_strings(&m, r, what, t) : read_typed(&m, r, what, to);
  if (st)
    sard_tensor_free(t);
  else
    *out = t;
  return st;
}

// ---- writing ----

static void put_head(sd_str *to, const sard_tensor_desc *d, const char *name) {
  sd_str dims = {0};
  for (int32_t i = 0; i < d->rank; i++) sd_pb_put_varint(&dims, (uint64_t)d->dims[i]);
  if (d->rank) sd_pb_put_bytes(to, F_DIMS, dims.p, dims.len);
  to->failed |= dims.failed;
  sd_str_free(&dims);
  sd_pb_put_key(to, F_TYPE, SD_PB_VARINT);
  sd_pb_put_varint(to, (uint64_t)d->dtype);
  if (*name) sd_pb_put_bytes(to, F_NAME, name, strlen(name));
}

static uint64_t count_of(const sard_tensor_desc *d) {
  uint64_t count = 1;
  for (int32_t i = 0; i < d->rank; i++) count *= (uint64_t)d->dims[i];
  return count;
}

// Everything but raw data, whose key and size come last: *out_bytes follow (0 for strings).
static void put_tensor(sd_str *to, sard_tensor *t, const char *name, uint64_t *out_bytes) {
  sard_tensor_desc d;
  const char *const *texts = sard_tensor_data(t, &d);
  uint64_t count = count_of(&d);
  if (!sd_dtype_file_bytes((sd_dtype)d.dtype, count, out_bytes)) *out_bytes = 0;
  put_head(to, &d, name);
  if (d.dtype == SD_STRING) {
    *out_bytes = 0;
    for (uint64_t i = 0; i < count; i++) sd_pb_put_bytes(to, F_STRINGS, texts[i], texts[i] ? strlen(texts[i]) : 0);
    return;
  }
  sd_pb_put_key(to, F_RAW, SD_PB_BYTES);
  sd_pb_put_varint(to, *out_bytes);
}

void sd_pb_put_tensor(sd_str *to, sard_tensor *t, const char *name) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(t, &d);
  uint64_t bytes;
  put_tensor(to, t, name, &bytes);
  if (!bytes) return;
  void *copy = sd_dtype_repacked((sd_dtype)d.dtype) ? sd_malloc(bytes) : NULL;
  if (copy) sd_dtype_to_file((sd_dtype)d.dtype, data, count_of(&d), copy);
  else to->failed |= sd_dtype_repacked((sd_dtype)d.dtype);
  sd_str_putn(to, copy ? copy : data, bytes);
  sd_free(copy);
}

sard_status *sd_pb_write(const char *path, sard_tensor *t, const char *name) {
  sard_tensor_desc d;
  sd_str head = {0};
  uint64_t bytes = 0;
  const void *data = sard_tensor_data(t, &d);
  if (!name) name = d.name ? d.name : "";
  if (d.dtype >= SARD_SEQUENCE || sd_dtype_repacked((sd_dtype)d.dtype)) sd_pb_put_value(&head, t, name);
  else put_tensor(&head, t, name, &bytes);
  sard_status *st = head.failed ? SD_ERR(NOMEM, "out of memory while writing '%s'", path)
                                : sd_file_write(path, (sd_piece[]){{head.p, head.len}, {data, bytes}}, 2);
  sd_str_free(&head);
  return st;
}
