// numpy's .npy files: reads versions 1 to 3 (any byte order, Fortran order is transposed), writes version 1.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/io/tensor_io.h"

enum { MAGIC = 6, MAX_HEADER = SD_NPY_HEAD_BYTES - 12 };

// Letter and size of numpy's type texts.
typedef struct code { char letter; int size; sd_dtype t; } code;
static const code codes[] = {
    {'f', 2, SD_F16}, {'f', 4, SD_F32}, {'f', 8, SD_F64},  {'i', 1, SD_I8},  {'i', 2, SD_I16},  {'i', 4, SD_I32},
    {'i', 8, SD_I64}, {'u', 1, SD_U8},  {'u', 2, SD_U16},  {'u', 4, SD_U32}, {'u', 8, SD_U64},  {'b', 1, SD_BOOL},
    {'c', 8, SD_C64}, {'c', 16, SD_C128},
};

typedef sd_npy_head header;

static const char *skip(const char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') p++;
  return p;
}

// The value behind 'key': in the header's dictionary; NULL when it has none.
static const char *find_key(const char *text, const char *key) {
  char quoted[32];
  for (int q = 0; q < 2; q++) {
    snprintf(quoted, sizeof quoted, q ? "\"%s\"" : "'%s'", key);
    const char *p = strstr(text, quoted);
    if (!p) continue;
    p = skip(p + strlen(quoted));
    if (*p == ':') return skip(p + 1);
  }
  return NULL;
}

static bool parse_descr(const char *p, header *h) {
  if (!p || (*p != '\'' && *p != '"')) return false;
  char order = p[1], letter = 0;
  p++;
  if (strchr("<>=|", order) && order) p++;
  letter = *p;
  if (!letter) return false;
  char *end;
  long size = strtol(p + 1, &end, 10);
  if (*end != '\'' && *end != '"') return false;
  h->swapped = order == '>' && size > 1;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (codes[i].letter == letter && codes[i].size == size) h->dtype = codes[i].t;
  return true;
}

static bool parse_shape(const char *p, header *h) {
  if (!p || *p != '(') return false;
  for (p = skip(p + 1); *p != ')'; p = skip(p)) {
    char *end;
    if (*p < '0' || *p > '9' || h->rank == SARD_MAX_RANK) return false;
    long long v = strtoll(p, &end, 10);
    p = skip(end);
    if (v < 0 || v == INT64_MAX) return false;
    h->dims[h->rank++] = v;
    if (*p == ',') p++;
    else if (*p != ')') return false;
  }
  return true;
}

// The dictionary, as a NUL-terminated text.
static sard_status *parse_text(const char *text, const char *what, header *h) {
  const char *descr = find_key(text, "descr"), *order = find_key(text, "fortran_order"),
             *shape = find_key(text, "shape");
  if (!parse_descr(descr, h)) return SD_ERR(MODEL, "'%s': the .npy header has no plain element type", what);
  if (h->dtype == SD_DT_NONE)
    return SD_ERR(UNSUPPORTED, "'%s': element type %.*s of this .npy file is not supported", what,
                  (int)strcspn(descr, ","), descr);
  if (!order || (strncmp(order, "True", 4) && strncmp(order, "False", 5)))
    return SD_ERR(MODEL, "'%s': the .npy header does not say the order of elements", what);
  h->fortran = order[0] == 'T';
  if (!parse_shape(shape, h)) return SD_ERR(MODEL, "'%s': the .npy header has no good shape", what);
  return NULL;
}

sard_status *sd_npy_parse_head(const void *data, uint64_t size, const char *what, sd_npy_head *h) {
  const uint8_t *p = data;
  *h = (header){0};
  if (size < MAGIC + 4 || memcmp(p, "\x93NUMPY", MAGIC)) return SD_ERR(MODEL, "'%s' is not a .npy file", what);
  unsigned version = p[6];
  if (version < 1 || version > 3)
    return SD_ERR(UNSUPPORTED, "'%s' is a .npy file of unknown version %u", what, version);
  uint64_t at = version == 1 ? 10 : 12, n;
  if (size < at) return SD_ERR(MODEL, "'%s' is cut off", what);
  n = (uint64_t)p[8] | (uint64_t)p[9] << 8;
  if (version > 1) n |= (uint64_t)p[10] << 16 | (uint64_t)p[11] << 24;
  if (n > MAX_HEADER || n > size - at)
    return SD_ERR(MODEL, "'%s' is cut off: its header should have %llu bytes", what, (unsigned long long)n);
  char *text = sd_malloc(n + 1);
  if (!text) return SD_ERR(NOMEM, "out of memory while reading '%s'", what);
  memcpy(text, p + at, n);
  text[n] = 0;
  sard_status *st = parse_text(text, what, h);
  sd_free(text);
  h->data = at + n;
  return st;
}

// Copies elements in Fortran order into row-major order.
static void transpose(uint8_t *to, const uint8_t *from, const header *h, size_t element, uint64_t count) {
  int64_t index[SARD_MAX_RANK] = {0};
  uint64_t stride[SARD_MAX_RANK], step = 1, at = 0;
  for (int i = 0; i < h->rank; i++) {
    stride[i] = step;
    step *= (uint64_t)h->dims[i];
  }
  for (uint64_t k = 0; k < count; k++) {
    memcpy(to + k * element, from + at * element, element);
    for (int i = h->rank - 1; i >= 0; i--) {
      at += stride[i];
      if (++index[i] < h->dims[i]) break;
      at -= stride[i] * (uint64_t)h->dims[i];
      index[i] = 0;
    }
  }
}

void sd_npy_swap(sd_dtype t, void *data, uint64_t bytes) {
  size_t unit = (size_t)sd_dtype_bits(sd_dtype_part(t)) / 8;
  uint8_t *p = data;
  for (uint64_t i = 0; i + unit <= bytes; i += unit)
    for (size_t k = 0; k < unit / 2; k++) {
      uint8_t x = p[i + k];
      p[i + k] = p[i + unit - 1 - k];
      p[i + unit - 1 - k] = x;
    }
}

sard_status *sd_npy_parse(sard_context *ctx, const void *data, uint64_t size, const char *what, sard_tensor **out) {
  header h;
  *out = NULL;
  SD_TRY(sd_npy_parse_head(data, size, what, &h));
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)h.dtype, .rank = h.rank};
  uint64_t count = 1, bytes;
  bool ok = true, empty = false;
  for (int i = 0; i < h.rank; i++) empty |= h.dims[i] == 0;
  for (int i = 0; i < h.rank; i++) {
    d.dims[i] = h.dims[i];
    ok = ok && (empty || sd_ck_mul(count, (uint64_t)h.dims[i], &count));
  }
  if (empty) count = 0;
  // The contents must be there before memory is taken for them: a header alone can claim any size.
  if (!ok || !sd_dtype_bytes(h.dtype, count, &bytes) || bytes > size - h.data)
    return SD_ERR(MODEL, "'%s' is cut off: %llu bytes of elements are less than its shape needs", what,
                  (unsigned long long)(size - h.data));
  SD_TRY_MSG(sard_tensor_new(ctx, &d, out), "'%s'", what);
  uint8_t *to = sard_tensor_data(*out, NULL);
  const uint8_t *from = (const uint8_t *)data + h.data;
  size_t element = (size_t)sd_dtype_bits(h.dtype) / 8;
  if (h.fortran && h.rank > 1)
    transpose(to, from, &h, element, count);
  else if (bytes)
    memcpy(to, from, bytes);
  if (h.swapped) sd_npy_swap(h.dtype, to, bytes);
  return NULL;
}

// ---- writing ----

// The type that numpy has for t.
static sd_dtype numpy_type(sd_dtype t) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (codes[i].t == t) return t;
  return sd_dtype_is_float(t) ? SD_F32 : sd_dtype_kind_of(t) == SD_DK_I ? SD_I8 : SD_U8;
}

static size_t make_header(char *out, size_t room, sd_dtype t, const sard_tensor_desc *d) {
  const code *c = codes;
  while (c->t != t) c++;
  char text[512];
  int n = snprintf(text, sizeof text, "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (",
                   c->size == 1 ? '|' : '<', c->letter, c->size);
  for (int32_t i = 0; i < d->rank; i++)
    n += snprintf(text + n, sizeof text - (size_t)n, "%lld%s", (long long)d->dims[i],
                  d->rank == 1 || i + 1 < d->rank ? "," : "");
  n += snprintf(text + n, sizeof text - (size_t)n, "), }");
  size_t whole = sd_align_up(10 + (size_t)n + 1, 64); // elements begin at a multiple of 64
  if (whole > room) return 0;
  memset(out, ' ', whole);
  memcpy(out, "\x93NUMPY\x01\x00", 8);
  out[8] = (char)((whole - 10) & 0xff);
  out[9] = (char)((whole - 10) >> 8);
  memcpy(out + 10, text, (size_t)n);
  out[whole - 1] = '\n';
  return whole;
}

static sard_status *write_converted(const char *path, sd_piece *pieces, sd_dtype to, sd_dtype from, uint64_t count) {
  uint64_t bytes;
  void *copy = sd_dtype_bytes(to, count, &bytes) ? sd_malloc(bytes) : NULL;
  if (!copy) return SD_ERR(NOMEM, "out of memory while writing '%s'", path);
  for (uint64_t i = 0; i < count; i++) sd_dtype_set_f64(to, copy, i, sd_dtype_get_f64(from, pieces[1].data, i));
  pieces[1] = (sd_piece){copy, bytes};
  sard_status *st = sd_file_write(path, pieces, 2);
  sd_free(copy);
  return st;
}

sard_status *sd_npy_write(const char *path, sard_tensor *t) {
  sard_tensor_desc d;
  char head[1024];
  const void *data = sard_tensor_data(t, &d);
  sd_dtype from = (sd_dtype)d.dtype, to = numpy_type(from);
  uint64_t count = 1, bytes;
  for (int32_t i = 0; i < d.rank; i++) count *= (uint64_t)d.dims[i];
  size_t n = make_header(head, sizeof head, to, &d);
  if (!n || !sd_dtype_bytes(from, count, &bytes)) return SD_ERR(INTERNAL, "cannot describe the tensor for '%s'", path);
  sd_piece pieces[2] = {{head, n}, {data, bytes}};
  return to == from ? sd_file_write(path, pieces, 2) : write_converted(path, pieces, to, from, count);
}
