// ONNX TensorProto files: a small decoder of protobuf's wire format (untrusted bytes), and a writer.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/str.h"
#include "runtime/io/tensor_io.h"

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
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct reader { const uint8_t *p, *end; } reader;
typedef struct field {
  uint64_t number;
  unsigned wire;
  uint64_t value; // of VARINT, 64 and 32
  reader bytes;   // of BYTES
} field;

static bool read_varint(reader *r, uint64_t *out) {
  uint64_t v = 0;
  for (unsigned shift = 0; shift < 70 && r->p < r->end; shift += 7) {
    uint8_t b = *r->p++;
    if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) {
      *out = v;
      return true;
    }
  }
  return false;
}

static bool read_fixed(reader *r, size_t n, uint64_t *out) {
  if ((size_t)(r->end - r->p) < n) return false;
  *out = 0;
  memcpy(out, r->p, n);
  r->p += n;
  return true;
}

// The next field; false at bad bytes. Not called at the end.
static bool read_field(reader *r, field *f) {
  uint64_t key, n;
  if (!read_varint(r, &key)) return false;
  f->number = key >> 3;
  f->wire = key & 7;
  if (f->number == 0 || f->number > 0x1fffffff) return false;
  switch (f->wire) {
  case WIRE_VARINT: return read_varint(r, &f->value);
  case WIRE_64: return read_fixed(r, 8, &f->value);
  case WIRE_32: return read_fixed(r, 4, &f->value);
  case WIRE_BYTES:
    if (!read_varint(r, &n) || n > (uint64_t)(r->end - r->p)) return false;
    f->bytes = (reader){r->p, r->p + n};
    r->p += n;
    return true;
  default: return false; // groups are not part of ONNX
  }
}

// What the fields of the message say, before elements are converted.
typedef struct message {
  sd_dtype dtype;
  int rank;
  int64_t dims[SARD_MAX_RANK];
  reader name, raw;
  bool has_raw, external, segment, too_many_dims;
  bool has_typed; // any element in a typed field
  uint64_t count, bytes;
} message;

static void add_dim(message *m, uint64_t v) {
  if (m->rank == SARD_MAX_RANK)
    m->too_many_dims = true;
  else
    m->dims[m->rank++] = (int64_t)v;
}

static bool take_dims(message *m, field *f) {
  if (f->wire == WIRE_VARINT) {
    add_dim(m, f->value);
    return true;
  }
  if (f->wire != WIRE_BYTES) return false;
  while (f->bytes.p < f->bytes.end) {
    uint64_t v;
    if (!read_varint(&f->bytes, &v)) return false;
    add_dim(m, v);
  }
  return true;
}

static bool take_field(message *m, field *f) {
  bool bytes = f->wire == WIRE_BYTES;
  switch (f->number) {
  case F_DIMS: return take_dims(m, f);
  case F_TYPE:
    m->dtype = f->value < SD_DT_COUNT ? (sd_dtype)f->value : SD_DT_NONE;
    return f->wire == WIRE_VARINT;
  case F_SEGMENT: m->segment = true; return bytes;
  case F_NAME: m->name = f->bytes; return bytes;
  case F_RAW:
    m->raw = f->bytes;
    m->has_raw = true;
    return bytes;
  case F_EXTERNAL: m->external = true; return bytes;
  case F_LOCATION:
    if (f->value == 1) m->external = true;
    return f->wire == WIRE_VARINT;
  case F_FLOATS:
  case F_INTS:
  case F_LONGS:
  case F_DOUBLES:
  case F_ULONGS: m->has_typed |= !bytes || f->bytes.p < f->bytes.end; return true;
  default: return true;
  }
}

static sard_status *scan(message *m, reader r, const char *what) {
  while (r.p < r.end) {
    const uint8_t *start = r.p;
    field f;
    if (!read_field(&r, &f) || !take_field(m, &f))
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
static bool take_typed(sink *s, field *f, size_t fixed) {
  if (f->wire != WIRE_BYTES) {
    if (f->wire != (fixed == 4 ? WIRE_32 : fixed == 8 ? WIRE_64 : WIRE_VARINT)) return false;
    put_entry(s, f->value);
    return true;
  }
  reader *r = &f->bytes;
  while (r->p < r->end && !s->overflow) {
    uint64_t v;
    if (fixed ? !read_fixed(r, fixed, &v) : !read_varint(r, &v)) return false;
    put_entry(s, v);
  }
  return true;
}

static sard_status *read_typed(const message *m, reader r, const char *what, uint8_t *to) {
  uint64_t number = field_of(m->dtype);
  size_t fixed = number == F_FLOATS ? 4 : number == F_DOUBLES ? 8 : 0, bits = (size_t)sd_dtype_bits(m->dtype);
  sink s = {to, to + m->bytes, fixed ? fixed : bits < 8 ? 1 : bits / 8, false};
  while (r.p < r.end) {
    field f;
    if (!read_field(&r, &f)) break; // was read before
    if (f.number != number) continue;
    if (!take_typed(&s, &f, fixed)) return SD_ERR(MODEL, "'%s' has a damaged list of elements", what);
  }
  if (s.overflow || s.to != s.end)
    return SD_ERR(MODEL, "'%s' has %s elements than its dims say (%llu)", what, s.overflow ? "more" : "fewer",
                  (unsigned long long)m->count);
  return NULL;
}

static sard_status *check_message(message *m, const char *what) {
  if (m->segment)
    return SD_ERR(UNSUPPORTED, "'%s' is a SequenceProto, an OptionalProto or a tensor in segments: not supported yet",
                  what);
  if (m->dtype == SD_STRING) return SD_ERR(UNSUPPORTED, "'%s': tensors of strings are not supported yet", what);
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
  if (!ok || !sd_dtype_bytes(m->dtype, m->count, &m->bytes)) return SD_ERR(MODEL, "'%s' is too large", what);
  return NULL;
}

// Elements must be there before memory is taken for them.
static sard_status *check_contents(const message *m, uint64_t size, const char *what) {
  uint64_t have = (uint64_t)(m->raw.end - m->raw.p);
  if (m->has_raw && have != m->bytes && !(have == 0 && m->has_typed))
    return SD_ERR(MODEL, "'%s' has %llu bytes of elements, its dims need %llu", what, (unsigned long long)have,
                  (unsigned long long)m->bytes);
  if (!m->has_raw && m->count && !m->has_typed)
    return SD_ERR(MODEL, "'%s' has no elements (or it is an empty sequence, which is not supported yet)", what);
  // A typed entry takes at least one byte of the file and gives at most eight.
  if (!m->has_raw && m->bytes / 8 > size)
    return SD_ERR(MODEL, "'%s' has fewer elements than its dims say (%llu)", what, (unsigned long long)m->count);
  return NULL;
}

sard_status *sd_pb_parse(sard_context *ctx, const void *data, uint64_t size, const char *what, sard_tensor **out) {
  static const uint8_t nothing[1];
  reader r = {data ? data : nothing, (data ? (const uint8_t *)data : nothing) + size};
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
  if (raw && m.bytes) memcpy(to, m.raw.p, m.bytes);
  if (!raw) st = read_typed(&m, r, what, to);
  if (st)
    sard_tensor_free(t);
  else
    *out = t;
  return st;
}

sard_status *sd_tensor_read(sard_context *ctx, const char *path, sard_tensor **out) {
  sd_map map;
  *out = NULL;
  SD_TRY(sd_file_map(path, &map));
  bool npy = map.size >= 6 && !memcmp(map.data, "\x93NUMPY", 6);
  sard_status *st =
      npy ? sd_npy_parse(ctx, map.data, map.size, path, out) : sd_pb_parse(ctx, map.data, map.size, path, out);
  sd_file_unmap(&map);
  return sd_status_field(st, SARD_TEXT_FILE, "%s", path);
}

// ---- writing ----

static void put_varint(sd_str *s, uint64_t v) {
  char b[10];
  size_t n = 0;
  for (; v >= 0x80; v >>= 7) b[n++] = (char)(v | 0x80);
  b[n++] = (char)v;
  sd_str_putn(s, b, n);
}

static void put_key(sd_str *s, unsigned number, unsigned wire) { put_varint(s, number << 3 | wire); }

sard_status *sd_pb_write(const char *path, sard_tensor *t, const char *name) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(t, &d);
  uint64_t count = 1, bytes;
  sd_str head = {0}, dims = {0};
  for (int32_t i = 0; i < d.rank; i++) {
    count *= (uint64_t)d.dims[i];
    put_varint(&dims, (uint64_t)d.dims[i]);
  }
  if (!sd_dtype_bytes((sd_dtype)d.dtype, count, &bytes)) bytes = 0;
  if (!name) name = d.name ? d.name : "";
  if (d.rank) {
    put_key(&head, F_DIMS, WIRE_BYTES);
    put_varint(&head, dims.len);
    sd_str_putn(&head, dims.p ? dims.p : "", dims.len);
  }
  put_key(&head, F_TYPE, WIRE_VARINT);
  put_varint(&head, (uint64_t)d.dtype);
  if (*name) {
    put_key(&head, F_NAME, WIRE_BYTES);
    put_varint(&head, strlen(name));
    sd_str_put(&head, name);
  }
  put_key(&head, F_RAW, WIRE_BYTES);
  put_varint(&head, bytes);
  sard_status *st = head.failed || dims.failed
                        ? SD_ERR(NOMEM, "out of memory while writing '%s'", path)
                        : sd_file_write(path, (sd_piece[]){{head.p, head.len}, {data, bytes}}, 2);
  sd_str_free(&head);
  sd_str_free(&dims);
  return st;
}
