// The public API on a hand-made model: runs, errors, ownership, threads, allocation failures.
#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/file.h"
#include "runtime/model.h"
#include "runtime/session.h"
#include "tests/unit/runtime_build.h"

static sard_context *ctx;

static void release_bytes(void *p) { sd_free_aligned(p); }

static sard_model *model_of(const uint8_t *second, size_t n) {
  parts m = make_parts(second, n);
  uint64_t size;
  uint8_t *p = write_parts(&m, &size);
  sard_model *model = NULL;
  CHECK_OK(sd_model_from_bytes(ctx, &(sd_piece){p, size}, 1, release_bytes, p, &model));
  drop_parts(&m);
  return model;
}

static sard_tensor *tensor(int32_t dtype, int64_t n, int64_t c, float first) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = dtype, .rank = 2, .dims = {n, c}};
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  if (t && dtype == SARD_F32)
    for (int64_t i = 0; i < n * c; i++) ((float *)sard_tensor_data(t, NULL))[i] = first + (float)i;
  return t;
}

static bool holds(sard_tensor *t, int64_t n, float first) {
  sard_tensor_desc d;
  const float *p = sard_tensor_data(t, &d);
  bool ok = d.rank == 2 && d.dims[0] == n && d.dims[1] == 4 && (uintptr_t)p % 64 == 0;
  for (int64_t i = 0; i < n * 4; i++) ok = ok && p[i] == first + (float)i;
  return ok;
}

static void runs(void) {
  sard_model *m = model_of(NULL, 0);
  sard_session *s;
  sard_tensor_desc d;
  CHECK(sard_model_io_count(m, 0) == 1 && sard_model_io_count(m, 1) == 2);
  CHECK_OK(sard_model_io(m, 0, 0, &d));
  CHECK(d.rank == 2 && d.dims[0] == -1 && d.dims[1] == 4 && d.dtype == SARD_F32);
  CHECK_TEXT(d.name, "x");
  CHECK_TEXT(d.symbols[0], "N");
  CHECK_ERR(sard_model_io(m, 1, 2, &d), USAGE, "2 outputs");
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_model_free(m); // the session keeps it
  static const int64_t rows[] = {3, 3, 100, 1, 5000, 5000, 2};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    sard_tensor *x = tensor(SARD_F32, rows[i], 4, 5), *y[2] = {NULL, NULL};
    CHECK_OK(sard_session_run(s, &x, 1, y, 2));
    CHECK(y[0] && holds(y[0], rows[i], 7) && holds(y[1], rows[i], 5));
    sard_tensor *again[2] = {y[0], y[1]}; // in place
    ((float *)sard_tensor_data(x, NULL))[0] = 5;
    CHECK_OK(sard_session_run(s, &x, 1, again, 2));
    CHECK(again[0] == y[0] && holds(y[0], rows[i], 7));
    sard_tensor_free(x);
    sard_tensor_free(y[0]);
    sard_tensor_free(y[1]);
    if (i == 3) CHECK_OK(sard_session_reset(s));
  }
  char *json;
  CHECK_OK(sard_session_stats(s, &json));
  CHECK(strstr(json, "\"runs\":14,\"plans\":5,"));
  sard_free(json);
  sard_session_free(s);
}

static void refusals(void) {
  sard_model *m = model_of(NULL, 0);
  sard_session *s;
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_tensor *x = tensor(SARD_F32, 2, 4, 0), *wide = tensor(SARD_F32, 2, 5, 0), *ints = tensor(SARD_I32, 2, 4, 0);
  sard_tensor *none = tensor(SARD_F32, 0, 4, 0), *y[2] = {NULL, NULL};
  CHECK_ERR(sard_session_run(s, &x, 0, y, 2), USAGE, "0 inputs are given, the model has 1");
  CHECK_ERR(sard_session_run(s, &x, 1, y, 1), USAGE, "1 outputs are given, the model has 2");
  CHECK_ERR(sard_session_run(s, &wide, 1, y, 2), USAGE,
            "input 'x' (0) is f32[2,5], but the model takes f32[N,4]: dim 1 is 5, not 4");
  CHECK_ERR(sard_session_run(s, &ints, 1, y, 2), USAGE, "input 'x' (0) is i32[2,4], but the model takes f32[N,4]");
  CHECK_ERR(sard_session_run(s, &none, 1, y, 2), USAGE, "dim 0 ('N') is 0, the model takes 1 to 1000000");
  CHECK_ERR(sard_session_run(s, (sard_tensor *[]){NULL}, 1, y, 2), USAGE, "input 'x' (0) is NULL");
  sard_tensor *given[2] = {wide, NULL};
  CHECK_ERR(sard_session_run(s, &x, 1, given, 2), USAGE, "output 'y' (0) is f32[2,5]");
  given[0] = x;
  CHECK_ERR(sard_session_run(s, &x, 1, given, 2), USAGE, "output 'y' shares memory with input 'x'");
  sard_tensor *out = tensor(SARD_F32, 2, 4, 0);
  given[0] = given[1] = out;
  CHECK_ERR(sard_session_run(s, &x, 1, given, 2), USAGE, "output 'z' shares memory with output 'y'");
  CHECK(y[0] == NULL && y[1] == NULL);
  CHECK_OK(sard_session_run(s, &x, 1, y, 2)); // still works
  CHECK(holds(y[0], 2, 2));
  sard_tensor_free(y[0]), sard_tensor_free(y[1]), sard_tensor_free(out);
  sard_tensor_free(x), sard_tensor_free(wide), sard_tensor_free(ints), sard_tensor_free(none);
  sard_session_free(s);
  sard_model_free(m);
}

static void kernel_errors(void) {
  static const struct { const uint8_t *code; size_t n; int want; const char *text; } cases[] = {
      {code_index, sizeof code_index, SARD_E_MODEL, "index out of range in node 'second' (Add)"},
      {code_fails, sizeof code_fails, SARD_E_INTERNAL, "kernel 'two' of node 'second' failed (7"}};
  for (int i = 0; i < 2; i++) {
    sard_model *m = model_of(cases[i].code, cases[i].n);
    sard_session *s;
    sard_tensor *x = tensor(SARD_F32, 2, 4, 0), *y[2] = {NULL, NULL};
    CHECK_OK(sard_session_new(m, NULL, &s));
    sard_status *st = sard_session_run(s, &x, 1, y, 2);
    CHECK(sard_status_code(st) == cases[i].want && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), cases[i].text));
    CHECK_TEXT(sard_status_text(st, SARD_TEXT_NODE), "second");
    sard_status_free(st);
    CHECK(!y[0] && !y[1]);
    sard_tensor_free(x);
    sard_session_free(s);
    sard_model_free(m);
  }
}

static void options_and_reports(void) {
  sard_model *m = model_of(NULL, 0);
  sard_options *o = sard_options_new();
  sard_session *s;
  char *json;
  CHECK_OK(sard_options_set(o, "memory-limit", "4K"));
  CHECK_OK(sard_options_set(o, "profile", "1"));
  CHECK_OK(sard_session_new(m, o, &s));
  sard_tensor *x = tensor(SARD_F32, 20, 4, 0), *big = tensor(SARD_F32, 300, 4, 0), *y[2] = {NULL, NULL};
  CHECK_ERR(sard_session_run(s, &big, 1, y, 2), NOMEM, "the memory-limit is 4096");
  CHECK_OK(sard_session_run(s, &x, 1, y, 2));
  CHECK_OK(sard_session_stats(s, &json));
  CHECK(strstr(json, "{\"name\":\"first\",\"op\":\"Add\",\"kernel\":\"add\",\"ns_total\":"));
  CHECK(strstr(json, "\"flops\":80,\"bytes\":320,\"tiles\":5}") && strstr(json, "\"count\":1"));
  sard_free(json);
  CHECK_OK(sard_model_report(m, &json));
  CHECK(strstr(json, "\"isa\":\"baseline\"") && strstr(json, "\"arena_bytes\":null") && strstr(json, "\"steps\":3"));
  CHECK(strstr(json, "\"dims\":[\"N\",4]"));
  sard_free(json);
  CHECK_OK(sard_options_set(o, "threads", "2"));
  sard_session *bad;
  CHECK_ERR(sard_session_new(m, o, &bad), USAGE, "'threads' of a session");
  sard_options_free(o);
  sard_tensor_free(x), sard_tensor_free(big), sard_tensor_free(y[0]), sard_tensor_free(y[1]);
  sard_session_free(s);
  sard_model_free(m);
}

static void files(void) {
  sard_model *m = model_of(NULL, 0), *n = NULL;
  const char *path = test_path("m.sard"), *onnx = test_path("m.onnx");
  CHECK_OK(sard_model_save(m, path));
  CHECK_OK(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .path = path}, NULL, &n));
  sard_model_free(m);
  sard_session *s;
  CHECK_OK(sard_session_new(n, NULL, &s));
  sard_tensor *x = tensor(SARD_F32, 2, 4, 1), *y[2] = {NULL, NULL};
  CHECK_OK(sard_session_run(s, &x, 1, y, 2));
  CHECK(holds(y[0], 2, 3));
  sard_tensor_free(x), sard_tensor_free(y[0]), sard_tensor_free(y[1]);
  sard_session_free(s);
  CHECK_OK(sard_model_save(n, path)); // over the file that is mapped
  sard_model_free(n);
  sd_map map;
  CHECK_OK(sd_file_map(path, &map));
  uint8_t *odd = malloc(map.size + 1); // bytes at an odd address are copied
  memcpy(odd + 1, map.data, map.size);
  CHECK_OK(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .data = odd + 1, .bytes = map.size}, NULL,
                           &n));
  sard_model_free(n);
  free(odd);
  CHECK_OK(sd_file_write(path, &(sd_piece){map.data, map.size - 1}, 1));
  sd_file_unmap(&map);
  CHECK_ERR(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .path = path}, NULL, &n), MODEL,
            "should have");
  CHECK_OK(sd_file_write(onnx, &(sd_piece){"\x08\x08", 2}, 1));
  CHECK_ERR(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .path = onnx}, NULL, &n), UNSUPPORTED,
            "links the runtime only");
  CHECK_OK(sd_file_write(onnx, NULL, 0));
  CHECK_ERR(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .path = onnx}, NULL, &n), MODEL,
            "is empty");
  CHECK_ERR(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source)}, NULL, &n), USAGE,
            "either a path or data");
  unlink(onnx);
  CHECK_ERR(sard_model_open(ctx, &(sard_source){.size = sizeof(sard_source), .path = onnx}, NULL, &n), IO,
            "No such file");
  unlink(path);
}

// The same bytes in pieces: cut in front, and a weight of its own.
static void pieces(void) {
  parts p = make_parts(NULL, 0);
  uint64_t size;
  uint8_t *b = write_parts(&p, &size);
  uint64_t at = size - sizeof p.weights;
  sard_model *m = NULL;
  sd_piece cut[5] = {{b, 100}, {b + 100, at - 100}, {b + at, 64}, {b + at + 64, 64}, {b + at + 128, 64}};
  CHECK_OK(sd_model_from_bytes(ctx, cut, 5, NULL, NULL, &m));
  CHECK(m->consts[4] == b + at + 64 && m->head != NULL);
  const char *path = test_path("p.sard");
  CHECK_OK(sard_model_save(m, path));
  sard_model_free(m);
  sd_map map;
  CHECK_OK(sd_file_map(path, &map));
  CHECK(map.size == size && !memcmp(map.data, b, size));
  sd_file_unmap(&map);
  unlink(path);
  sd_piece whole_head[2] = {{b, at}, {b + at, sizeof p.weights}};
  CHECK_OK(sd_model_from_bytes(ctx, whole_head, 2, NULL, NULL, &m));
  CHECK(m->head == NULL);
  sard_model_free(m);
  sd_piece split[3] = {{b, at}, {b + at, 100}, {b + at + 100, sizeof p.weights - 100}};
  CHECK_ERR(sd_model_from_bytes(ctx, split, 3, NULL, NULL, &m), INTERNAL, "several pieces");
  CHECK_ERR(sd_model_from_bytes(ctx, split, 2, NULL, NULL, &m), MODEL, "should have");
  CHECK_ERR(sd_model_from_bytes(ctx, NULL, 0, NULL, NULL, &m), MODEL, "not a Sard artifact");
  sd_free_aligned(b);
  drop_parts(&p);
}

static int released;
static void count_release(void *p) { released += p == &released; }

static void tensors(void) {
  float data[8];
  sard_tensor *t;
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 2, .dims = {2, 4}, .name = "t"};
  CHECK_OK(sard_tensor_wrap(ctx, &d, data, sizeof data, count_release, &released, &t));
  sard_tensor_desc got;
  CHECK(sard_tensor_data(t, &got) == data);
  CHECK_TEXT(got.name, "t");
  sard_tensor_free(t);
  CHECK(released == 1);
  CHECK_ERR(sard_tensor_wrap(ctx, &d, data, 31, count_release, &released, &t), USAGE, "31 bytes, the tensor needs 32");
  CHECK_ERR(sard_tensor_wrap(ctx, &d, (char *)data + 1, 32, NULL, NULL, &t), USAGE, "not aligned");
  CHECK_ERR(sard_tensor_wrap(ctx, &d, NULL, 32, NULL, NULL, &t), USAGE, "NULL");
  CHECK(released == 1 && t == NULL);
  d.strides[0] = 4, d.strides[1] = 1;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  sard_tensor_free(t);
  d.strides[0] = 1, d.strides[1] = 2;
  CHECK_ERR(sard_tensor_new(ctx, &d, &t), UNSUPPORTED, "not dense");
  memset(d.strides, 0, sizeof d.strides);
  d.dims[0] = INT64_C(1) << 40, d.dims[1] = INT64_C(1) << 40;
  CHECK_ERR(sard_tensor_new(ctx, &d, &t), USAGE, "too large");
  d.dims[1] = -1;
  CHECK_ERR(sard_tensor_new(ctx, &d, &t), USAGE, "dim 1 is -1");
  d.dims[1] = 0;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  sard_tensor_free(t);
  d.rank = 17;
  CHECK_ERR(sard_tensor_new(ctx, &d, &t), USAGE, "rank 17");
  d.rank = 1, d.dtype = SARD_STRING;
  d.dims[0] = 2;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  CHECK(((const char **)sard_tensor_data(t, NULL))[1] == NULL);
  CHECK_OK(sard_tensor_set_string(t, 1, "text"));
  CHECK_TEXT(((const char **)sard_tensor_data(t, NULL))[1], "text");
  CHECK_ERR(sard_tensor_set_string(t, 2, "text"), USAGE, "string 2 of 2");
  sard_tensor_free(t);
  d.dtype = 77;
  CHECK_ERR(sard_tensor_new(ctx, &d, &t), USAGE, "unknown element type 77");
  sard_tensor_free(NULL);
}

// Fails the n-th allocation of everything from open to run, until nothing fails; nothing leaks (under ASan).
static sard_status *whole_life(const uint8_t *bytes, uint64_t size) {
  sard_context *c = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_tensor *x = NULL, *y[2] = {NULL, NULL};
  char *json = NULL;
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 2, .dims = {50, 4}, .name = "x"};
  sard_status *st = sard_context_new(NULL, &c);
  if (!st) st = sard_model_open(c, &(sard_source){.size = sizeof(sard_source), .data = bytes, .bytes = size}, NULL, &m);
  if (!st) st = sard_session_new(m, NULL, &s);
  if (!st) st = sard_tensor_new(c, &d, &x);
  if (!st) memset(sard_tensor_data(x, NULL), 0, 800);
  if (!st) st = sard_session_run(s, &x, 1, y, 2);
  if (!st) st = sard_model_report(m, &json);
  sard_free(json);
  sard_tensor_free(y[0]), sard_tensor_free(y[1]), sard_tensor_free(x);
  sard_context_free(c); // in the wrong order on purpose
  sard_model_free(m);
  sard_session_free(s);
  return st;
}

static void no_memory(void) {
  parts p = make_parts(NULL, 0);
  uint64_t size;
  uint8_t *b = write_parts(&p, &size);
  int failures = 0;
  for (long n = 1; n < 1000; n++) {
    sd_alloc_fail_after(n);
    sard_status *st = whole_life(b, size);
    sd_alloc_fail_after(0);
    int code = take_code(st);
    if (code) failures++;
    if (code != 0 && code != SARD_E_NOMEM) CHECK(false);
    if (!code && n > 60) break;
  }
  CHECK(failures > 25);
  CHECK_OK(whole_life(b, size));
  sd_free_aligned(b);
  drop_parts(&p);
}

// Runs need no memory when dims stay and outputs are given.
static void no_allocation(void) {
  sard_model *m = model_of(NULL, 0);
  sard_session *s;
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_tensor *x = tensor(SARD_F32, 2, 4, 1), *y[2] = {NULL, NULL};
  CHECK_OK(sard_session_run(s, &x, 1, y, 2));
  sd_alloc_fail_after(1);
  CHECK_OK(sard_session_run(s, &x, 1, y, 2));
  CHECK(sd_malloc(1) == NULL); // the injected failure is still to come
  sd_alloc_fail_after(0);
  sard_tensor_free(x), sard_tensor_free(y[0]), sard_tensor_free(y[1]);
  sard_session_free(s);
  sard_model_free(m);
}

static sard_model *shared;

static void *use_shared(void *arg) {
  int64_t rows = 1 + (intptr_t)arg * 37;
  sard_session *s;
  if (take_code(sard_session_new(shared, NULL, &s))) return (void *)1;
  void *bad = NULL;
  for (int i = 0; i < 50; i++) {
    sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 2, .dims = {rows, 4}};
    sard_tensor *x, *y[2] = {NULL, NULL};
    if (take_code(sard_tensor_new(NULL, &d, &x))) return (void *)1;
    float *p = sard_tensor_data(x, NULL);
    for (int64_t k = 0; k < rows * 4; k++) p[k] = (float)(i + k);
    if (take_code(sard_session_run(s, &x, 1, y, 2)) || !holds(y[0], rows, (float)(i + 2))) bad = (void *)1;
    sard_tensor_free(x), sard_tensor_free(y[0]), sard_tensor_free(y[1]);
  }
  sard_session_free(s);
  return bad;
}

static void threads(void) {
  pthread_t t[8];
  shared = model_of(NULL, 0);
  for (intptr_t i = 0; i < 8; i++) CHECK(pthread_create(&t[i], NULL, use_shared, (void *)i) == 0);
  for (int i = 0; i < 8; i++) {
    void *bad;
    pthread_join(t[i], &bad);
    CHECK(!bad);
  }
  sard_model_free(shared);
}

static atomic_int stop_cancelling;
static void *cancel_often(void *s) {
  while (!atomic_load(&stop_cancelling)) sard_session_cancel(s);
  return NULL;
}

static void cancelling(void) {
  sard_model *m = model_of(NULL, 0);
  sard_session *s;
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_tensor *x = tensor(SARD_F32, 3000, 4, 1), *y[2] = {NULL, NULL};
  sard_session_cancel(s); // no run under way: no effect
  CHECK_OK(sard_session_run(s, &x, 1, y, 2));
  pthread_t t;
  CHECK(pthread_create(&t, NULL, cancel_often, s) == 0);
  int cancelled = 0;
  for (int i = 0; i < 2000; i++) {
    int code = take_code(sard_session_run(s, &x, 1, y, 2));
    cancelled += code == SARD_E_CANCELLED;
    if (code && code != SARD_E_CANCELLED) CHECK(false);
    if (cancelled) break;
  }
  CHECK(cancelled > 0);
  atomic_store(&stop_cancelling, 1);
  pthread_join(t, NULL);
  sard_tensor_free(x), sard_tensor_free(y[0]), sard_tensor_free(y[1]);
  sard_session_free(s);
  sard_model_free(m);
}

int main(void) {
  if (strcmp(sd_cpu_arch(), "x86_64")) { // the kernels here are x86-64 code
    printf("0 passed, 0 failed\n");
    return 0;
  }
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "threads", "3"));
  CHECK_OK(sard_context_new(o, &ctx));
  sard_options_free(o);
  RUN(runs);
  RUN(refusals);
  RUN(kernel_errors);
  RUN(options_and_reports);
  RUN(files);
  RUN(pieces);
  RUN(tensors);
  RUN(no_memory);
  RUN(no_allocation);
  RUN(threads);
  RUN(cancelling);
  sard_context_free(ctx);
  return check_end();
}
