// DynamicQuantizeLinear of large tensors, whose range is found row by row, and of small ones: the bits of
// divisions by the scale, also where this is very small or very large and where quotients lie in the middle
// between two integers, on each instruction set.
#include <math.h>

#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

enum { ROWS = 64, COLUMNS = 256, COUNT = ROWS * COLUMNS };

// What ONNX says, with divisions.
static void reference(const float *x, int64_t n, uint8_t *y) {
  float low = 0, high = 0;
  for (int64_t i = 0; i < n; i++) low = fminf(low, x[i]), high = fmaxf(high, x[i]);
  float scale = (high - low) / 255;
  if (scale == 0) scale = 1;
  float zero = rintf(fminf(fmaxf(-low / scale, 0), 255));
  for (int64_t i = 0; i < n; i++)
    y[i] = (uint8_t)fminf(fmaxf(rintf(fminf(fmaxf(x[i] / scale, -zero), 255 - zero)) + zero, 0), 255);
}

static void same(const char *isa, const char *threads, const float *x, int64_t rows) {
  static const char graph[] = "module ir=8 opset=22\nsymbol N\ngraph \"g\" (%0 \"x\": f32[N,256]) {\n  %1, "
                              "%2, %3 = DynamicQuantizeLinear(%0)\n  return %1, %2, %3\n}\n";
  static const char large[] = "module ir=8 opset=22\ngraph \"g\" (%0 \"x\": f32[64,256]) {\n  %1, %2, %3 = "
                              "DynamicQuantizeLinear(%0)\n  return %1, %2, %3\n}\n";
  const char *text = rows == ROWS ? large : graph;
  int64_t count = rows * COLUMNS;
  uint8_t *want = sd_alloc_aligned(COUNT), *got = isa_run_matrix(text, isa, threads, x, rows, COLUMNS, 3, count);
  reference(x, count, want);
  CHECK(got && memcmp(got, want, (size_t)count) == 0);
  sd_free_aligned(want), sd_free_aligned(got);
}

static void numbers(float *x, float size, int kind) {
  uint64_t seed = 7;
  for (int64_t i = 0; i < COUNT; i++) {
    float v = (float)(test_random(&seed) % 510001) / 2000 - (kind ? 0 : 127.5f);
    x[i] = (kind == 2 ? rintf(2 * v) / 2 : v) * size; // 2: middles
  }
  if (kind == 2) x[0] = 0, x[1] = 255 * size;
}

static void on(const char *isa) {
  static const float sizes[] = {1, 0.013f, 3e10f, 1e-20f, 1e-37f, 1e-42f};
  const sd_isa *set = NULL;
  sard_status *st = sd_isa_host(isa, &set);
  bool here = !st;
  sard_status_free(st);
  float *x = sd_alloc_aligned(COUNT * sizeof *x);
  for (size_t i = 0; here && i < sizeof sizes / sizeof *sizes; i++)
    for (int kind = 0; kind < 3; kind++) {
      numbers(x, sizes[i], kind);
      same(isa, "1", x, ROWS);
      same(isa, "3", x, ROWS);
      same(isa, "1", x, 3);
    }
  sd_free_aligned(x);
}

static void quotients(void) {
  on("avx2");
  on("avx512");
}

int main(void) {
  RUN(quotients);
  return check_end();
}
