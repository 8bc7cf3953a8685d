// Strings, sequences, optionals, maps: tables of numbers, conversions, files.
#include "runtime/io/tensor_io.h"
#include "runtime/values.h"
#include "tests/unit/test.h"

static void strings(void) {
  sd_strtab *base = sd_strtab_new(NULL), *t;
  uint64_t a, b, c;
  CHECK(sd_strtab_count(base) == 1);
  CHECK(sd_strtab_add(base, "", 0, &a) && a == 0);
  CHECK(sd_strtab_add(base, "abc", 3, &a) && a == 1);
  CHECK(sd_strtab_add(base, "abcd", 3, &b) && b == a); // three bytes of it
  t = sd_strtab_new(base);
  CHECK(sd_strtab_add(t, "abc", 3, &c) && c == 1);
  for (int i = 0; i < 5000; i++) {
    char text[16];
    size_t n = (size_t)snprintf(text, sizeof text, "s%d", i);
    CHECK(sd_strtab_add(t, text, n, &c) && c == 2 + (uint64_t)i);
  }
  CHECK_TEXT(sd_strtab_text(t, 2 + 4321), "s4321");
  CHECK_TEXT(sd_strtab_text(t, 1), "abc");
  CHECK_TEXT(sd_strtab_text(t, 1 << 20), "");
  sd_strtab_reset(t);
  CHECK(sd_strtab_count(t) == 2 && sd_strtab_add(t, "s7", 2, &c) && c == 2);
  char big[100000];
  memset(big, 'x', sizeof big);
  CHECK(sd_strtab_add(t, big, sizeof big, &c) && strlen(sd_strtab_text(t, c)) == sizeof big);
  sd_strtab_free(t);
  sd_strtab_free(base);
}

static void sequences(void) {
  sd_objects *o = sd_objects_new();
  const sd_object *s;
  uint64_t item, seq = 0, branch, first;
  CHECK_OK(sd_objects_tensor(o, SD_F32, 1, (int64_t[]){3}, &item, NULL));
  CHECK_OK(sd_objects_append(o, 0, item, &first));
  seq = first;
  for (int i = 1; i < 100; i++) CHECK_OK(sd_objects_append(o, seq, item, &seq));
  CHECK_OK(sd_objects_append(o, first, 77, &branch)); // does not disturb what grew from `first`
  CHECK(sd_objects_get(o, seq)->n == 100 && sd_objects_get(o, seq)->items[1] == item);
  CHECK(sd_objects_get(o, branch)->n == 2 && sd_objects_get(o, branch)->items[1] == 77);
  CHECK(sd_objects_get(o, first)->n == 1);
  CHECK_OK(sd_objects_need(o, 0, SD_OBJ_SEQUENCE, &s));
  CHECK(s->n == 0);
  CHECK_ERR(sd_objects_need(o, item, SD_OBJ_SEQUENCE, &s), MODEL, "a sequence is expected, the value is a tensor");
  CHECK_ERR(sd_objects_need(o, 0, SD_OBJ_TENSOR, &s), MODEL, "a tensor is expected");
  CHECK_ERR(sd_objects_tensor(o, SD_F32, 1, (int64_t[]){-1}, &item, NULL), MODEL, "dim 0 of a tensor is -1");
  sd_objects_limit(o, sd_objects_bytes(o) + 1000);
  CHECK_ERR(sd_objects_tensor(o, SD_F32, 1, (int64_t[]){1000}, &item, NULL), NOMEM, "memory-limit");
  sd_objects_reset(o);
  CHECK(sd_objects_bytes(o) == 0 && sd_objects_get(o, seq)->kind == SD_OBJ_NONE);
  sd_objects_free(o);
}

static sard_tensor *texts(int n, const char *const *text) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_STRING, .rank = 1, .dims = {n}};
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(NULL, &d, &t));
  for (int i = 0; i < n; i++) CHECK_OK(sard_tensor_set_string(t, i, text[i]));
  return t;
}

static sard_tensor *floats(int n) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 1, .dims = {n}};
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(NULL, &d, &t));
  for (int i = 0; i < n; i++) ((float *)sard_tensor_data(t, NULL))[i] = (float)i + 0.5f;
  return t;
}

static sard_tensor *value(int kind, sard_tensor *a, sard_tensor *b) {
  sard_tensor *v = NULL;
  CHECK_OK(sard_value_new(NULL, kind, (sard_tensor *[]){a, b}, b ? 2 : a ? 1 : 0, &v));
  return v;
}

static bool same(sard_tensor *x, sard_tensor *y) {
  sard_tensor_desc a, b;
  const void *p = sard_tensor_data(x, &a), *q = sard_tensor_data(y, &b);
  bool ok = a.dtype == b.dtype && a.rank == b.rank && sard_value_count(x) == sard_value_count(y);
  for (int64_t i = 0; ok && i < sard_value_count(x); i++) ok = same(sard_value_item(x, i), sard_value_item(y, i));
  if (!ok || a.dtype >= SARD_SEQUENCE) return ok;
  for (int64_t i = 0; ok && i < a.dims[0]; i++)
    ok = a.dtype == SARD_STRING ? !strcmp(((const char *const *)p)[i], ((const char *const *)q)[i]) : ((const float *)p)[i] == ((const float *)q)[i];
  return ok && a.dims[0] == b.dims[0];
}

// Through a file, and through the tables of a session.
static void round_trip(sard_tensor *v) {
  sard_tensor_desc d;
  sard_tensor *back = NULL;
  const char *path = test_path("value");
  sd_values t = {sd_strtab_new(NULL), sd_objects_new()};
  uint64_t number = 0;
  sard_tensor_data(v, &d);
  CHECK_OK(sd_pb_write(path, v, "v"));
  CHECK_OK(sd_value_read(NULL, path, d.dtype, &back));
  CHECK(back && same(v, back));
  sard_tensor_free(back);
  unlink(path);
  back = NULL;
  CHECK_OK(sd_values_take(&t, v, SD_DT_NONE, &number));
  sd_object_kind kind = d.dtype == SARD_SEQUENCE ? SD_OBJ_SEQUENCE : d.dtype == SARD_MAP ? SD_OBJ_MAP : d.dtype == SARD_OPTIONAL ? SD_OBJ_OPTIONAL : SD_OBJ_TENSOR;
  CHECK_OK(sd_values_give(&t, NULL, number, kind, &back));
  CHECK(back && same(v, back));
  sard_tensor_free(back);
  sard_tensor_free(v);
  sd_strtab_free(t.strings);
  sd_objects_free(t.objects);
}

static void values(void) {
  const char *words[] = {"a", "", "a \"b\""};
  round_trip(texts(3, words));
  round_trip(value(SARD_SEQUENCE, NULL, NULL));
  round_trip(value(SARD_SEQUENCE, floats(3), floats(0)));
  round_trip(value(SARD_SEQUENCE, texts(2, words), texts(1, words)));
  round_trip(value(SARD_OPTIONAL, NULL, NULL));
  round_trip(value(SARD_OPTIONAL, floats(2), NULL));
  round_trip(value(SARD_OPTIONAL, value(SARD_SEQUENCE, floats(2), floats(1)), NULL));
  round_trip(value(SARD_MAP, texts(3, words), floats(3)));
  round_trip(value(SARD_SEQUENCE, value(SARD_MAP, texts(2, words), floats(2)), value(SARD_MAP, texts(3, words), floats(3))));
  sard_tensor *v = NULL;
  CHECK_ERR(sard_value_new(NULL, SARD_MAP, (sard_tensor *[]){floats(2), floats(2)}, 2, &v), USAGE, "a map has keys");
  CHECK_ERR(sard_value_new(NULL, SARD_OPTIONAL, (sard_tensor *[]){floats(1), floats(1)}, 2, &v), USAGE, "an optional of 2 items");
  CHECK_ERR(sard_value_new(NULL, 5, NULL, 0, &v), USAGE, "no kind of value 5");
}

int main(void) {
  RUN(strings);
  RUN(sequences);
  RUN(values);
  return check_end();
}
