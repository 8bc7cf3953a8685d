// Tensors in files: round trips, every encoding, every prefix, random damage.
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/io/tensor_io.h"
#include "tests/unit/test.h"

static sard_tensor *make(int32_t dtype, int rank, const int64_t *dims) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = dtype, .rank = rank, .name = "weights/a"};
  uint64_t count = 1, bytes;
  for (int i = 0; i < rank; i++) count *= (uint64_t)(d.dims[i] = dims[i]);
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(NULL, &d, &t));
  uint8_t *p = sard_tensor_data(t, NULL);
  uint64_t seed = (uint64_t)dtype;
  if (!sd_dtype_bytes((sd_dtype)dtype, count, &bytes)) bytes = 0;
  for (uint64_t i = 0; i < bytes; i++) p[i] = (uint8_t)test_random(&seed) & (dtype == SARD_BOOL ? 1 : sd_dtype_repacked((sd_dtype)dtype) ? 63 : 255);
  return t;
}

static bool same(sard_tensor *x, sard_tensor *y) {
  sard_tensor_desc a, b;
  const void *p = sard_tensor_data(x, &a), *q = sard_tensor_data(y, &b);
  uint64_t count = 1, bytes;
  bool ok = a.dtype == b.dtype && a.rank == b.rank;
  for (int i = 0; ok && i < a.rank; i++) {
    ok = a.dims[i] == b.dims[i];
    count *= (uint64_t)a.dims[i];
  }
  return ok && sd_dtype_bytes((sd_dtype)a.dtype, count, &bytes) && (bytes == 0 || !memcmp(p, q, bytes));
}

static const struct {
  int rank;
  int64_t dims[4];
} shapes[] = {{0, {0}}, {1, {7}}, {2, {3, 5}}, {4, {2, 1, 3, 2}}, {2, {0, 4}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void round_trips(void) {
  for (int t = 1; t < SD_DT_COUNT; t++) {
    if (!sd_dtype_of_tensors(t) || t == SD_STRING) continue;
    bool numpy = !(sd_dtype_bits((sd_dtype)t) < 8 || t == SD_BF16 || (t >= SD_F8E4M3FN && t <= SD_F8E5M2FNUZ) ||
                   t == SD_F8E8M0 || sd_dtype_repacked((sd_dtype)t));
    for (int i = 0; i < SHAPES; i++) {
      sard_tensor *x = make(t, shapes[i].rank, shapes[i].dims), *y = NULL;
      sard_tensor_desc d;
      const char *path = test_path("t");
      CHECK_OK(sd_pb_write(path, x, NULL));
      CHECK_OK(sd_tensor_read(NULL, path, &y));
      CHECK(y && same(x, y));
      sard_tensor_data(y, &d);
      CHECK_TEXT(d.name, "weights/a");
      sard_tensor_free(y);
      CHECK_OK(sd_npy_write(path, x));
      CHECK_OK(sd_tensor_read(NULL, path, &y));
      CHECK(y && (!numpy || same(x, y)));
      sard_tensor_data(y, &d);
      CHECK(numpy || d.dtype == SARD_F32 || d.dtype == SARD_I8 || d.dtype == SARD_U8);
      sard_tensor_free(y);
      sard_tensor_free(x);
      unlink(path);
    }
  }
}

// Parses bytes held exactly, so that reading past their end shows.
static sard_status *parse(bool npy, const void *data, size_t n, sard_tensor **out) {
  uint8_t *p = malloc(n ? n : 1);
  if (n) memcpy(p, data, n);
  sard_status *st = npy ? sd_npy_parse(NULL, p, n, "file", out) : sd_pb_parse(NULL, p, n, "file", out);
  free(p);
  return st;
}

// Checks that a TensorProto gives these elements.
#define PB(text, type, n, ...)                                                                                         \
  do {                                                                                                                 \
    sard_tensor *t = NULL;                                                                                             \
    sard_tensor_desc d = {0};                                                                                          \
    int64_t want[] = {__VA_ARGS__};                                                                                    \
    CHECK_OK(parse(false, text, sizeof text - 1, &t));                                                                 \
    void *p = t ? sard_tensor_data(t, &d) : NULL;                                                                      \
    CHECK(p && d.dtype == (int)type && d.rank == 1 && d.dims[0] == n);                                                 \
    for (int i = 0; p && i < n; i++) CHECK(sd_dtype_get_i64(type, p, (uint64_t)i) == want[i]);                         \
    sard_tensor_free(t);                                                                                               \
  } while (0)
#define PB_BAD(text, code, part)                                                                                       \
  do {                                                                                                                 \
    sard_tensor *t = NULL;                                                                                             \
    CHECK_ERR(parse(false, text, sizeof text - 1, &t), code, part);                                                    \
    CHECK(t == NULL);                                                                                                  \
  } while (0)

static void typed_fields(void) {
  PB("\x08\x02\x10\x01\x22\x08\0\0\x80\x3f\0\0\0\x40", SD_F32, 2, 1, 2);                  // packed floats
  PB("\x08\x02\x10\x01\x25\0\0\x80\x3f\x25\0\0\0\x40", SD_F32, 2, 1, 2);                  // unpacked
  PB("\x0a\x01\x02\x10\x01\x25\0\0\x80\x3f\x22\x04\0\0\0\x40", SD_F32, 2, 1, 2);          // both, packed dims
  PB("\x08\x02\x10\x07\x3a\x0b\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", SD_I64, 2, 5, -1);
  PB("\x08\x02\x10\x07\x38\x05\x38\x06", SD_I64, 2, 5, 6);
  PB("\x08\x02\x10\x06\x2a\x0b\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", SD_I32, 2, 5, -1);
  PB("\x08\x02\x10\x03\x2a\x0b\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", SD_I8, 2, 5, -1);
  PB("\x08\x02\x10\x09\x2a\x02\x01\x00", SD_BOOL, 2, 1, 0);
  PB("\x08\x02\x10\x0a\x2a\x03\x80\x78\x00", SD_F16, 2, 1, 0);
  PB("\x08\x01\x10\x0b\x52\x08\0\0\0\0\0\0\xf0\x3f", SD_F64, 1, 1);
  PB("\x08\x01\x10\x0c\x5a\x01\x09", SD_U32, 1, 9);
  PB("\x08\x03\x10\x16\x2a\x02\x21\x03", SD_I4, 3, 1, 2, 3);                               // two in each entry
  PB("\x08\x01\x10\x02\x4a\x01\xfe", SD_U8, 1, 254);                                      // raw
  PB("\x4a\x01\xfe\x10\x02\x08\x01\x62\x00", SD_U8, 1, 254);                              // any order
  PB_BAD("\x08\x02\x10\x01\x25\0\0\x80\x3f", MODEL, "fewer elements");
  PB_BAD("\x08\x01\x10\x01\x22\x08\0\0\x80\x3f\0\0\0\x40", MODEL, "more elements");
  PB_BAD("\x08\x02\x10\x01\x4a\x04\0\0\0\0", MODEL, "has 4 bytes of elements, its dims need 8");
  PB_BAD("\x08\x01\x10\x01", MODEL, "no elements");
  PB_BAD("\x08\x01\x10\x63\x4a\x00", MODEL, "element type");
  PB_BAD("\x08\x01\x10\x08\x32\x02\x61\x00", UNSUPPORTED, "contains a NUL");
  PB_BAD("\x08\x01\x10\x01\x70\x01", UNSUPPORTED, "another file");
  PB_BAD("\x10\x01\x1a\x02\x08\x01", UNSUPPORTED, "SequenceProto");
  PB_BAD("\x0a\x01\x73\x10\x01\x1a\x00", UNSUPPORTED, "SequenceProto");
  PB_BAD("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01\x4a\x00", MODEL, "dim -1");
  PB_BAD("\x08\x80\x80\x80\x80\x80\x80\x80\x40\x08\x80\x80\x80\x80\x80\x80\x80\x40\x10\x01\x4a\x00", MODEL,
         "too large");
  PB_BAD("\x08\x80\x80\x80\x80\x80\x40\x10\x01\x25\0\0\0\0", MODEL, "fewer elements");     // no memory is taken
  PB_BAD("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", MODEL, "bad field");
  PB_BAD("\x4a\xff\xff\xff\xff\x0f", MODEL, "bad field");
  PB_BAD("\x0b", MODEL, "bad field");
  PB_BAD("", MODEL, "element type");
}

static void npy_texts(void) {
  static const struct { const char *text; int code; const char *part; } cases[] = {
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 0, ""},
      {"{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"<f4\"}", 0, ""},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 0, ""},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", SARD_E_MODEL, "cut off"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", SARD_E_MODEL, "shape"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,8), }", SARD_E_MODEL, "cut off"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", SARD_E_MODEL, "shape"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", SARD_E_MODEL, "shape"},
      {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,), }", SARD_E_MODEL, "order"},
      {"{'descr': '<U4', 'fortran_order': False, 'shape': (2,), }", SARD_E_UNSUPPORTED, "'<U4'"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", SARD_E_MODEL, "plain element type"},
      {"{'descr': '", SARD_E_MODEL, "plain element type"},
      {"", SARD_E_MODEL, "plain element type"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t b[256] = "\x93NUMPY\x01\x00";
    size_t n = strlen(cases[i].text);
    b[8] = (uint8_t)n;
    memcpy(b + 10, cases[i].text, n);
    memcpy(b + 10 + n, "\0\0\x80\x3f\0\0\0\x40", 8);
    sard_tensor *t = NULL;
    sard_status *st = parse(true, b, 10 + n + 8, &t);
    CHECK(sard_status_code(st) == cases[i].code && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), cases[i].part));
    CHECK(!t == (cases[i].code != 0));
    sard_status_free(st);
    sard_tensor_free(t);
  }
}

static void npy_orders(void) {
  static const char head[] = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }";
  uint8_t b[256] = "\x93NUMPY\x02\x00";
  size_t n = sizeof head - 1;
  b[8] = (uint8_t)n;
  memcpy(b + 12, head, n);
  for (int i = 0; i < 6; i++) b[12 + n + 2 * (size_t)i + 1] = (uint8_t)i; // columns: 0 1 | 2 3 | 4 5
  sard_tensor *t = NULL;
  CHECK_OK(parse(true, b, 12 + n + 12, &t));
  static const int16_t want[6] = {0, 2, 4, 1, 3, 5};
  CHECK(t && !memcmp(sard_tensor_data(t, NULL), want, sizeof want));
  sard_tensor_free(t);
}

// Every prefix and seeded damage of a file of each kind gives a tensor or an error.
static void damage(void) {
  for (int npy = 0; npy < 2; npy++) {
    sard_tensor *x = make(SARD_F32, 2, (int64_t[]){3, 5}), *y;
    const char *path = test_path("d");
    sd_map map;
    CHECK_OK(npy ? sd_npy_write(path, x) : sd_pb_write(path, x, NULL));
    CHECK_OK(sd_file_map(path, &map));
    for (uint64_t n = 0; n < map.size; n++) {
      y = NULL;
      int code = take_code(parse(npy, map.data, n, &y));
      if (code != SARD_E_MODEL) CHECK(false);
      sard_tensor_free(y);
    }
    uint64_t seed = 11;
    for (int i = 0; i < 20000; i++) {
      uint8_t q[512];
      memcpy(q, map.data, map.size);
      for (int k = 0; k < 2; k++) {
        uint64_t r = test_random(&seed);
        q[(r >> 16) % map.size] = (uint8_t)(r >> 8);
      }
      y = NULL;
      sard_status_free(parse(npy, q, map.size, &y));
      sard_tensor_free(y);
    }
    sd_file_unmap(&map);
    sard_tensor_free(x);
    unlink(path);
  }
}

static void no_memory(void) {
  sard_tensor *x = make(SARD_BF16, 2, (int64_t[]){3, 5});
  const char *path = test_path("n"), *npy = test_path("m");
  int failures = 0;
  for (long n = 1; n < 60; n++) {
    sard_tensor *y = NULL, *z = NULL;
    sd_alloc_fail_after(n);
    sard_status *st = sd_pb_write(path, x, NULL);
    if (!st) st = sd_tensor_read(NULL, path, &y);
    if (!st) st = sd_npy_write(npy, x);
    if (!st) st = sd_tensor_read(NULL, npy, &z);
    sd_alloc_fail_after(0);
    int code = take_code(st);
    if (code && code != SARD_E_NOMEM) CHECK(false);
    failures += code != 0;
    sard_tensor_free(y);
    sard_tensor_free(z);
  }
  CHECK(failures > 5 && failures < 50);
  sard_tensor_free(x);
  unlink(path);
  unlink(npy);
}

int main(void) {
  RUN(round_trips);
  RUN(typed_fields);
  RUN(npy_texts);
  RUN(npy_orders);
  RUN(damage);
  RUN(no_memory);
  return check_end();
}
