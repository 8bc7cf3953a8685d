// SequenceProto, OptionalProto and MapProto: untrusted bytes to values, and back.
#include "runtime/io/pb_value.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/io/pb_wire.h"
#include "runtime/io/tensor_io.h"

// Field numbers. Sequences and optionals hold one kind of element, each kind in a field of its own.
enum { F_NAME = 1, F_ELEM = 2, F_TENSOR = 3, F_SPARSE = 4, F_SEQUENCE = 5, F_MAP = 6, F_OPTIONAL = 7 };
enum { F_KEY_TYPE = 2, F_KEYS = 3, F_STRING_KEYS = 4, F_VALUES = 5 };
enum { ELEM_TENSOR = 1, ELEM_SEQUENCE = 3, ELEM_MAP = 4, ELEM_OPTIONAL = 5 };
enum { MAX_DEPTH = 8 };

typedef struct loader {
  sard_context *ctx;
  const char *what;
  int depth;
} loader;

static sard_status *parse(loader *l, sd_pb_reader r, int32_t kind, sard_tensor **out);

static sard_status *bad(const loader *l, const char *kind) { return SD_ERR(MODEL, "'%s' is not a good %s", l->what, kind); }

// The kind of value that a field of a sequence or optional holds; 0 for a tensor, -1 for other fields.
static int32_t kind_of_field(uint64_t number) {
  switch (number) {
  case F_TENSOR: return 0;
  case F_SEQUENCE: return SARD_SEQUENCE;
  case F_MAP: return SARD_MAP;
  case F_OPTIONAL: return SARD_OPTIONAL;
  default: return -1;
  }
}

typedef struct list { sard_tensor **at; uint64_t n, cap; } list;

static void free_list(list *s) {
  for (uint64_t i = 0; i < s->n; i++) sard_tensor_free(s->at[i]);
  sd_free(s->at);
}

static sard_status *push(list *s, sard_tensor *t) {
  if (s->n == s->cap) {
    uint64_t cap = s->cap ? s->cap * 2 : 8;
    sard_tensor **grown = sd_realloc(s->at, cap * sizeof *grown);
    if (!grown) {
      sard_tensor_free(t);
      return SD_ERR(NOMEM, "out of memory for a sequence");
    }
    s->at = grown, s->cap = cap;
  }
  s->at[s->n++] = t;
  return NULL;
}

static sard_status *read_items(loader *l, sd_pb_reader r, list *s) {
  while (r.p < r.end) {
    sd_pb_field f;
    sard_tensor *t = NULL;
    if (!sd_pb_next(&r, &f)) return bad(l, "SequenceProto or OptionalProto");
    int32_t kind = kind_of_field(f.number);
    if (f.number == F_SPARSE) return SD_ERR(UNSUPPORTED, "'%s' holds sparse tensors", l->what);
    if (kind < 0) continue;
    if (f.wire != SD_PB_BYTES) return bad(l, "SequenceProto or OptionalProto");
    SD_TRY(parse(l, f.bytes, kind, &t));
    SD_TRY(push(s, t));
  }
  return NULL;
}

static sard_status *make(loader *l, int32_t kind, list *s, sard_tensor **out) {
  sard_status *st = sard_value_new(l->ctx, kind, s->at, (int64_t)s->n, out); // takes the items
  sd_free(s->at);
  *s = (list){0};
  return st;
}

static sard_status *parse_list(loader *l, sd_pb_reader r, int32_t kind, sard_tensor **out) {
  list s = {0};
  sard_status *st = read_items(l, r, &s);
  if (!st && kind == SARD_OPTIONAL && s.n > 1) st = bad(l, "OptionalProto");
  if (st) {
    free_list(&s);
    return st;
  }
  return make(l, kind, &s, out);
}

// ---- maps ----

static bool count_key(sd_pb_field *f, uint64_t *n) {
  uint64_t v;
  if (f->wire == SD_PB_VARINT || f->number == F_STRING_KEYS) return ++*n, f->wire == (f->number == F_STRING_KEYS ? SD_PB_BYTES : SD_PB_VARINT);
  if (f->wire != SD_PB_BYTES) return false;
  for (sd_pb_reader r = f->bytes; r.p < r.end; ++*n)
    if (!sd_pb_varint(&r, &v)) return false;
  return true;
}

static sard_status *put_keys(sd_pb_field *f, sard_tensor *keys, int64_t *at) {
  int64_t *to = sard_tensor_data(keys, NULL);
  uint64_t v;
  if (f->number == F_STRING_KEYS) {
    sd_str s = {0};
    sd_str_putn(&s, (const char *)f->bytes.p, (size_t)(f->bytes.end - f->bytes.p));
    sard_status *st = s.failed ? SD_ERR(NOMEM, "out of memory for a key") : sard_tensor_set_string(keys, (*at)++, s.p ? s.p : "");
    sd_str_free(&s);
    return st;
  }
  if (f->wire == SD_PB_VARINT) {
    to[(*at)++] = (int64_t)f->value;
    return NULL;
  }
  for (sd_pb_reader r = f->bytes; r.p < r.end;) {
    if (!sd_pb_varint(&r, &v)) break; // was read before
    to[(*at)++] = (int64_t)v;
  }
  return NULL;
}

static sard_status *fill_keys(sd_pb_reader r, uint64_t number, sard_tensor *keys) {
  int64_t at = 0;
  while (r.p < r.end) {
    sd_pb_field f;
    if (!sd_pb_next(&r, &f)) break; // was read before
    if (f.number == number) SD_TRY(put_keys(&f, keys, &at));
  }
  return NULL;
}

// The values of a map: a sequence of scalars or tensors of one element, as one tensor.
static sard_status *join_values(loader *l, sard_tensor *sequence, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d}, first, item;
  int64_t n = sard_value_count(sequence);
  if (n) sard_tensor_data(sard_value_item(sequence, 0), &first);
  d.dtype = n ? first.dtype : SARD_F32, d.rank = 1, d.dims[0] = n;
  if (d.dtype >= SARD_SEQUENCE) return SD_ERR(UNSUPPORTED, "'%s' is a map whose values are no tensors", l->what);
  SD_TRY(sard_tensor_new(l->ctx, &d, out));
  size_t size = (size_t)sd_dtype_bits((sd_dtype)d.dtype) / 8;
  uint8_t *to = sard_tensor_data(*out, NULL);
  for (int64_t i = 0; i < n; i++) {
    const void *from = sard_tensor_data(sard_value_item(sequence, i), &item);
    int64_t count = 1;
    for (int k = 0; k < item.rank; k++) count *= item.dims[k];
    sard_status *st = item.dtype != d.dtype || count != 1 || !size ? SD_ERR(UNSUPPORTED, "'%s' is a map whose values are no scalars of one type", l->what) : NULL;
    if (!st && d.dtype == SARD_STRING) st = sard_tensor_set_string(*out, i, *(const char *const *)from);
    else if (!st) memcpy(to + (size_t)i * size, from, size);
    if (!st) continue;
    sard_tensor_free(*out);
    *out = NULL;
    return st;
  }
  return NULL;
}

typedef struct map { uint64_t n_keys, number; sd_pb_reader values; bool has_values; } map;

static sard_status *scan_map(loader *l, sd_pb_reader r, map *m) {
  *m = (map){.number = F_KEYS};
  while (r.p < r.end) {
    sd_pb_field f;
    if (!sd_pb_next(&r, &f)) return bad(l, "MapProto");
    if (f.number == F_KEYS || f.number == F_STRING_KEYS) {
      if (m->n_keys && f.number != m->number) return bad(l, "MapProto");
      m->number = f.number;
      if (!count_key(&f, &m->n_keys)) return bad(l, "MapProto");
    }
    if (f.number == F_KEY_TYPE && f.wire == SD_PB_VARINT && f.value == SD_STRING) m->number = F_STRING_KEYS;
    if (f.number == F_VALUES && f.wire == SD_PB_BYTES) m->values = f.bytes, m->has_values = true;
  }
  return NULL;
}

static sard_status *parse_map(loader *l, sd_pb_reader r, sard_tensor **out) {
  map m;
  list s = {0};
  sard_tensor *t = NULL, *sequence = NULL;
  SD_TRY(scan_map(l, r, &m));
  sard_tensor_desc d = {.size = sizeof d, .dtype = m.number == F_STRING_KEYS ? SARD_STRING : SARD_I64, .rank = 1, .dims = {(int64_t)m.n_keys}};
  sard_status *st = sard_tensor_new(l->ctx, &d, &t);
  if (!st) st = push(&s, t);
  if (!st) st = fill_keys(r, m.number, s.at[0]);
  if (!st) st = m.has_values ? parse(l, m.values, SARD_SEQUENCE, &sequence) : sard_value_new(l->ctx, SARD_SEQUENCE, NULL, 0, &sequence);
  if (!st && (uint64_t)sard_value_count(sequence) != m.n_keys) st = bad(l, "MapProto: it has other numbers of keys and values");
  t = NULL;
  if (!st) st = join_values(l, sequence, &t);
  if (!st) st = push(&s, t);
  sard_tensor_free(sequence);
  if (!st) return make(l, SARD_MAP, &s, out);
  free_list(&s);
  return st;
}

static sard_status *parse(loader *l, sd_pb_reader r, int32_t kind, sard_tensor **out) {
  sard_status *st;
  if (++l->depth > MAX_DEPTH) return SD_ERR(UNSUPPORTED, "'%s' is nested more than %d deep", l->what, MAX_DEPTH);
  if (kind == SARD_MAP) st = parse_map(l, r, out);
  else if (kind == SARD_SEQUENCE || kind == SARD_OPTIONAL) st = parse_list(l, r, kind, out);
  else st = sd_pb_parse(l->ctx, r.p, (uint64_t)(r.end - r.p), l->what, out);
  l->depth--;
  return st;
}

// A tensor begins with dims, or with a type beside its data: then it is no OptionalProto.
static bool looks_like_tensor(sd_pb_reader r) {
  while (r.p < r.end) {
    sd_pb_field f;
    if (!sd_pb_next(&r, &f)) return false;
    if ((f.number == 1 && f.wire == SD_PB_VARINT) || f.number > F_OPTIONAL) return true;
  }
  return false;
}

sard_status *sd_pb_parse_value(sard_context *ctx, const void *data, uint64_t size, int32_t kind, const char *what,
                               sard_tensor **out) {
  static const uint8_t nothing[1];
  const uint8_t *p = data ? data : nothing;
  sd_pb_reader r = {p, p + size};
  loader l = {.ctx = ctx, .what = what};
  *out = NULL;
  if (kind != SARD_OPTIONAL || !looks_like_tensor(r)) return parse(&l, r, kind, out);
  list s = {0};
  sard_tensor *t = NULL;
  SD_TRY(parse(&l, r, 0, &t));
  SD_TRY(push(&s, t));
  return make(&l, SARD_OPTIONAL, &s, out);
}

sard_status *sd_value_read(sard_context *ctx, const char *path, int32_t kind, sard_tensor **out) {
  sd_map m;
  *out = NULL;
  SD_TRY(sd_file_map(path, &m));
  bool npy = m.size >= 6 && !memcmp(m.data, "\x93NUMPY", 6);
  sard_status *st = npy ? sd_npy_parse(ctx, m.data, m.size, path, out)
                        : sd_pb_parse_value(ctx, m.data, m.size, kind, path, out);
  sd_file_unmap(&m);
  return sd_status_field(st, SARD_TEXT_FILE, "%s", path);
}

sard_status *sd_tensor_read(sard_context *ctx, const char *path, sard_tensor **out) { return sd_value_read(ctx, path, 0, out); }

// ---- writing ----

static uint64_t elem_of(const sard_tensor_desc *d) {
  return d->dtype == SARD_SEQUENCE ? ELEM_SEQUENCE : d->dtype == SARD_MAP ? ELEM_MAP : d->dtype == SARD_OPTIONAL ? ELEM_OPTIONAL : ELEM_TENSOR;
}

static unsigned field_of_elem(uint64_t elem) {
  return elem == ELEM_TENSOR ? F_TENSOR : elem == ELEM_SEQUENCE ? F_SEQUENCE : elem == ELEM_MAP ? F_MAP : F_OPTIONAL;
}

static void put_item(sd_str *to, unsigned field, sard_tensor *item) {
  sd_str s = {0};
  sd_pb_put_value(&s, item, "");
  sd_pb_put_bytes(to, field, s.p, s.len);
  to->failed |= s.failed;
  sd_str_free(&s);
}

// A scalar of the values of a map, as a TensorProto.
static void put_scalar(sd_str *to, sard_tensor *values, int64_t i) {
  sard_tensor_desc d, one;
  const uint8_t *from = sard_tensor_data(values, &d);
  size_t size = (size_t)sd_dtype_bits((sd_dtype)d.dtype) / 8;
  sard_tensor *t = NULL;
  sd_str s = {0};
  one = (sard_tensor_desc){.size = sizeof one, .dtype = d.dtype};
  sard_status *st = sard_tensor_wrap(NULL, &one, (void *)(from + (size_t)i * size), size, NULL, NULL, &t);
  if (!st) sd_pb_put_tensor(&s, t, "");
  sd_pb_put_bytes(to, F_TENSOR, s.p, s.len);
  to->failed |= s.failed || st;
  sard_status_free(st);
  sard_tensor_free(t);
  sd_str_free(&s);
}

static void put_map(sd_str *to, sard_tensor *v) {
  sard_tensor *keys = sard_value_item(v, 0), *values = sard_value_item(v, 1);
  sard_tensor_desc d;
  const void *data = keys ? sard_tensor_data(keys, &d) : NULL;
  if (!keys || !values) return;
  bool texts = d.dtype == SARD_STRING;
  sd_str s = {0};
  sd_pb_put_key(to, F_KEY_TYPE, SD_PB_VARINT);
  sd_pb_put_varint(to, (uint64_t)d.dtype);
  for (int64_t i = 0; i < d.dims[0]; i++) {
    const char *text = texts ? ((const char *const *)data)[i] : NULL;
    if (texts) sd_pb_put_bytes(to, F_STRING_KEYS, text ? text : "", text ? strlen(text) : 0);
    else sd_pb_put_key(to, F_KEYS, SD_PB_VARINT), sd_pb_put_varint(to, (uint64_t)((const int64_t *)data)[i]);
  }
  sd_pb_put_key(&s, F_ELEM, SD_PB_VARINT);
  sd_pb_put_varint(&s, ELEM_TENSOR);
  for (int64_t i = 0; i < d.dims[0]; i++) put_scalar(&s, values, i);
  sd_pb_put_bytes(to, F_VALUES, s.p, s.len);
  to->failed |= s.failed;
  sd_str_free(&s);
}

void sd_pb_put_value(sd_str *to, sard_tensor *v, const char *name) {
  sard_tensor_desc d, item = {.dtype = SARD_F32};
  sard_tensor_data(v, &d);
  if (d.dtype < SARD_SEQUENCE) {
    sd_pb_put_tensor(to, v, name);
    return;
  }
  if (*name) sd_pb_put_bytes(to, F_NAME, name, strlen(name));
  if (d.dtype == SARD_MAP) {
    put_map(to, v);
    return;
  }
  int64_t n = sard_value_count(v);
  if (n) sard_tensor_data(sard_value_item(v, 0), &item);
  uint64_t elem = n || d.dtype == SARD_SEQUENCE ? elem_of(&item) : 0; // 0: UNDEFINED, an optional without a value
  sd_pb_put_key(to, F_ELEM, SD_PB_VARINT);
  sd_pb_put_varint(to, elem);
  for (int64_t i = 0; i < n; i++) put_item(to, field_of_elem(elem), sard_value_item(v, i));
}
