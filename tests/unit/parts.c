// Models in parts, each on a device of its own: what crosses a cut, pieces of a batch, failures, artifacts.
#include <stdlib.h>
#include <unistd.h>

#include "runtime/artifact_read.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/collective/split.h"
#include "sard/sard_compile.h"
#include "tests/unit/check.h"

enum { N_OUT = 4 };
static sard_context *ctx;

// h and the constant are read in front of and behind cuts; y, t and c are made in different places, p is an
// input as it is.
static const char text[] = "module\n"
                           "symbol batch\n"
                           "graph \"main\" (%0 \"x\": f32[batch,3], %1 \"i\": i64[batch]) {\n"
                           "  %2 = const f32[3,3] dense<1, 2, 3, 4, 5, 6, 7, 8, 9>\n"
                           "  %3 \"h\" = MatMul(%0, %2)\n"
                           "  %4 \"t\" = Transpose(%3) {perm=[1, 0]}\n"
                           "  %5 = Softmax(%3) {axis=-1}\n"
                           "  %6 = MatMul(%5, %2)\n"
                           "  %7 = Gather(%2, %1) {axis=0}\n"
                           "  %8 = Add(%6, %7)\n"
                           "  %9 = MatMul(%8, %2)\n"
                           "  %10 \"y\" = Add(%9, %3)\n"
                           "  return %10, %4, %2, %0\n"
                           "}\n";

typedef struct opening {
  const char *devices, *split;
} opening;

static sard_status *open_source(const sard_source *src, opening how, sard_model **out) {
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "cache", "off"));
  if (how.devices) CHECK_OK(sard_options_set(o, "devices", how.devices));
  if (how.split) CHECK_OK(sard_options_set(o, "split", how.split));
  sard_status *st = sard_model_open(ctx, src, o, out);
  sard_options_free(o);
  return st;
}

static sard_status *open_on(const char *model, const char *devices, sard_model **out) {
  sard_source src = {.size = sizeof src, .data = model, .bytes = strlen(model)};
  return open_source(&src, (opening){devices, devices ? "layer" : NULL}, out);
}

static sard_session *session(sard_model *m, const char *key, const char *value) {
  sard_options *o = sard_options_new();
  sard_session *s = NULL;
  if (key) CHECK_OK(sard_options_set(o, key, value));
  CHECK_OK(sard_session_new(m, o, &s));
  sard_options_free(o);
  return s;
}

static sard_tensor *tensor(int32_t type, int rank, int64_t a, int64_t b) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = type, .rank = rank, .dims = {a, b}};
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  int64_t n = a * (rank > 1 ? b : 1);
  for (int64_t i = 0; i < n; i++) {
    if (type == SARD_F32) ((float *)sard_tensor_data(t, NULL))[i] = (float)(i % 7) * 0.25f - 0.5f;
    else
      ((int64_t *)sard_tensor_data(t, NULL))[i] = i % 3;
  }
  return t;
}

static bool same(sard_tensor *a, sard_tensor *b) {
  sard_tensor_desc x, y;
  const void *p = sard_tensor_data(a, &x), *q = sard_tensor_data(b, &y);
  int64_t n = 4;
  if (x.dtype != y.dtype || x.rank != y.rank) return false;
  for (int d = 0; d < x.rank; d++) {
    if (x.dims[d] != y.dims[d]) return false;
    n *= x.dims[d];
  }
  return memcmp(p, q, (size_t)n) == 0;
}

static void drop(sard_tensor **at, int n) {
  for (int i = 0; i < n; i++) sard_tensor_free(at[i]), at[i] = NULL;
}

// The bits of one device, with outputs that are made and outputs that are given.
static void compare(sard_session *one, sard_session *many, int64_t batch) {
  sard_tensor *in[2] = {tensor(SARD_F32, 2, batch, 3), tensor(SARD_I64, 1, batch, 0)}, *want[N_OUT] = {0},
              *out[N_OUT] = {0};
  CHECK_OK(sard_session_run(one, in, 2, want, N_OUT));
  CHECK_OK(sard_session_run(many, in, 2, out, N_OUT));
  for (int i = 0; i < N_OUT; i++) CHECK(out[i] && same(out[i], want[i]));
  sard_tensor *given[N_OUT];
  memcpy(given, out, sizeof given);
  memset(sard_tensor_data(out[0], NULL), 0, (size_t)batch * 12);
  CHECK_OK(sard_session_run(many, in, 2, out, N_OUT));
  for (int i = 0; i < N_OUT; i++) CHECK(out[i] == given[i] && same(out[i], want[i]));
  drop(in, 2), drop(out, N_OUT), drop(want, N_OUT);
}

static void runs(const char *devices, int n, const char *pieces) {
  static const int64_t sizes[] = {7, 1, 2, 16, 3};
  sard_model *m = NULL, *w = NULL;
  CHECK_OK(open_on(text, NULL, &w));
  CHECK_OK(open_on(text, devices, &m));
  sard_session *one = session(w, NULL, NULL), *many = session(m, pieces ? "micro-batches" : NULL, pieces);
  CHECK(sard_model_io_count(m, 0) == 2 && sard_model_io_count(m, 1) == N_OUT && sd_split_devices(many) == n);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) compare(one, many, sizes[i]);
  sd_split_forget(many);
  compare(one, many, 5);
  for (int i = 0; i < n; i++) {
    sd_split_report r = sd_split_report_of(many, i);
    CHECK(r.runs == 2 * (pieces && atoi(pieces) < 5 ? (uint64_t)atoi(pieces) : 5) && r.bytes_in > 0 &&
          r.bytes_out > 0 && r.busy_ns > 0);
  }
  CHECK_OK(sard_session_reset(many));
  compare(one, many, 4);
  char *json = NULL;
  CHECK_OK(sard_session_stats(many, &json));
  CHECK(json && strstr(json, "\"device\":\"cpu:1\""));
  sard_free(json);
  CHECK_OK(sard_model_report(m, &json));
  CHECK(json && strstr(json, "\"parts\":["));
  sard_free(json);
  sard_model_free(m), sard_model_free(w);
  sard_session_free(one), sard_session_free(many);
}

// Runs that overlap: the last one gives the outputs.
static void overlapping(void) {
  sard_model *m = NULL, *w = NULL;
  CHECK_OK(open_on(text, NULL, &w));
  CHECK_OK(open_on(text, "cpu:0,cpu:1,cpu:2", &m));
  sard_session *one = session(w, NULL, NULL), *many = session(m, NULL, NULL);
  sard_tensor *in[2] = {tensor(SARD_F32, 2, 4, 3), tensor(SARD_I64, 1, 4, 0)}, *want[N_OUT] = {0},
              *out[N_OUT] = {0};
  CHECK_OK(sard_session_run(one, in, 2, want, N_OUT));
  CHECK(!sd_split_overlaps(many));             // its batch can be cut
  for (int times = 1; times < 9; times += 3) { // outputs are made, then given
    CHECK_OK(sd_split_repeat(many, in, 2, out, N_OUT, times));
    for (int i = 0; i < N_OUT; i++) CHECK(out[i] && same(out[i], want[i]));
  }
  ((int64_t *)sard_tensor_data(in[1], NULL))[0] = 77;
  CHECK_ERR(sd_split_repeat(many, in, 2, out, N_OUT, 5), MODEL, "index out of range");
  drop(in, 2), drop(out, N_OUT), drop(want, N_OUT);
  sard_session_free(one), sard_session_free(many);
  sard_model_free(m), sard_model_free(w);
}

// A part that fails ends the run with its error, whichever it is, and the next run works.
static void failures(void) {
  sard_model *m = NULL, *w = NULL;
  CHECK_OK(open_on(text, NULL, &w));
  CHECK_OK(open_on(text, "cpu:0,cpu:1,cpu:2", &m));
  sard_session *one = session(w, NULL, NULL), *many = session(m, NULL, NULL);
  sard_tensor *in[2] = {tensor(SARD_F32, 2, 9, 3), tensor(SARD_I64, 1, 9, 0)}, *out[N_OUT] = {0};
  for (int64_t bad = 0; bad < 9; bad++) {
    ((int64_t *)sard_tensor_data(in[1], NULL))[bad] = 77;
    CHECK_ERR(sard_session_run(many, in, 2, out, N_OUT), MODEL, "index out of range");
    for (int i = 0; i < N_OUT; i++) CHECK(!out[i]);
    ((int64_t *)sard_tensor_data(in[1], NULL))[bad] = 0;
  }
  compare(one, many, 9);
  CHECK_ERR(sard_session_run(many, in, 1, out, N_OUT), USAGE, "1 inputs are given");
  CHECK_ERR(sard_session_run(many, in, 2, out, 1), USAGE, "1 outputs are given");
  sard_tensor *none[2] = {in[0], NULL}, *swapped[2] = {in[1], in[0]}, *shared[N_OUT] = {in[0]},
              *short_[2] = {in[0], tensor(SARD_I64, 1, 4, 0)};
  CHECK_ERR(sard_session_run(many, none, 2, out, N_OUT), USAGE, "input 'i' (1) is NULL");
  CHECK_ERR(sard_session_run(many, swapped, 2, out, N_OUT), USAGE, "input 'x'");
  CHECK_ERR(sard_session_run(many, short_, 2, out, N_OUT), USAGE, "input 'i'");
  CHECK_ERR(sard_session_run(many, in, 2, shared, N_OUT), USAGE, "shares memory");
  sard_session_free(many);
  many = session(m, "memory-limit", "64");
  CHECK_ERR(sard_session_run(many, in, 2, out, N_OUT), NOMEM, "device cpu:");
  drop(in, 2), drop(&short_[1], 1);
  sard_session_free(one), sard_session_free(many);
  sard_model_free(m), sard_model_free(w);
}

static void refused(void) {
  static const char all[] = "module\ngraph \"main\" (%0 \"x\": f32[2,3]) {\n  %1 = Softmax(%0) {axis=0}\n  "
                            "%2 \"y\" = Softmax(%1) {axis=1}\n  return %2\n}\n";
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_options *o = sard_options_new();
  CHECK_ERR(open_on(all, "cpu:0,cpu:1,cpu:2", &m), USAGE, "cut into 2 parts at most");
  CHECK_OK(open_on(all, "cpu:3,cpu:1", &m));
  CHECK_OK(sard_options_set(o, "micro-batches", "2"));
  CHECK_ERR(sard_session_new(m, o, &s), UNSUPPORTED, "cannot be split by its batch");
  sard_options_free(o);
  sard_model_free(m);
}

// ---- artifacts ----

static uint8_t *saved(sard_model *m, uint64_t *size) {
  char path[] = "/tmp/sard-parts-XXXXXX";
  sd_map map;
  int fd = mkstemp(path);
  CHECK_OK(sard_model_save(m, path));
  CHECK_OK(sd_file_map(path, &map));
  uint8_t *p = sd_alloc_aligned(map.size + 64);
  memcpy(p, map.data, *size = map.size);
  sd_file_unmap(&map);
  close(fd), remove(path);
  return p;
}

static sard_art_section *section(uint8_t *p, uint32_t kind) {
  sard_art_header *h = (sard_art_header *)p;
  sard_art_section *s = (sard_art_section *)(h + 1);
  while (s->kind != kind) s++;
  return s;
}

static void artifacts(void) {
  uint64_t size;
  sard_model *m = NULL, *w = NULL, *again = NULL;
  CHECK_OK(open_on(text, NULL, &w));
  CHECK_OK(open_on(text, "cpu:0,cpu:1", &m));
  uint8_t *p = saved(m, &size);
  sard_source src = {.size = sizeof src, .data = p, .bytes = size};
  CHECK_ERR(open_source(&src, (opening){"cpu:0,cpu:1", "batch"}, &again), USAGE, "in parts by split=layer");
  CHECK_ERR(open_source(&src, (opening){"cpu:0,cpu:1,cpu:2", NULL}, &again), USAGE, "2 parts, and 3 devices");
  for (int i = 0; i < 3; i++) {
    CHECK_OK(open_source(&src, (opening){i ? "cpu:5,cpu:4" : NULL, i == 2 ? "layer" : NULL}, &again));
    sard_session *one = session(w, NULL, NULL), *many = session(again, NULL, NULL);
    compare(one, many, 6);
    sard_session_free(one), sard_session_free(many), sard_model_free(again);
  }
  uint32_t *words = (uint32_t *)(p + section(p, SARD_ART_PARTS)->offset),
           n = section(p, SARD_ART_PARTS)->count;
  const sard_art_section *c = section(p, SARD_ART_CONST);
  for (uint32_t i = 0; i < n; i++) { // no wire may lead anywhere else
    static const uint32_t other[] = {3, 64, 65, 255, UINT32_MAX};
    uint32_t was = words[i];
    for (size_t k = 0; i != 1 && k < sizeof other / sizeof *other; k++) {
      words[i] = other[k];
      ((sard_art_header *)p)->hash = sd_artifact_hash(p, size, c->offset, c->size);
      sard_status *st = open_source(&src, (opening){NULL, NULL}, &again);
      if (!st) sard_model_free(again);
      CHECK(sard_status_code(st) == SARD_E_MODEL || (!st && was == other[k]) || (!st && words[i] == 3));
      sard_status_free(st);
    }
    words[i] = was;
  }
  sd_free_aligned(p);
  p = saved(w, &size);
  src.data = p, src.bytes = size;
  CHECK_ERR(open_source(&src, (opening){"cpu:0,cpu:1", "layer"}, &again), UNSUPPORTED, "as one piece");
  CHECK_ERR(open_source(&src, (opening){"cpu:0,cpu:1", NULL}, &again), USAGE, "need a way to split");
  sd_free_aligned(p);
  sard_model_free(m), sard_model_free(w);
}

int main(void) {
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "threads", "1"));
  CHECK_OK(sard_context_new(o, &ctx));
  sard_options_free(o);
  sard_compiler_use(ctx);
  runs("cpu:0,cpu:1", 2, NULL), runs("cpu:0,cpu:1,cpu:2", 3, NULL), runs("cpu:1,cpu:0,cpu:7,cpu:3", 4, NULL);
  runs("cpu:0,cpu:1,cpu:2", 3, "3");
  overlapping(), failures(), refused(), artifacts();
  sard_context_free(ctx);
  return check_end();
}
