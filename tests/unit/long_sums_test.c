// Products of long rows (codegen/long_sums.h) on every instruction set that this machine has: which sums go in chunks shows in how they
// round; errors against sums in f64; rows and columns over, numbers of rows that only the run knows, stores that follow; equal bits for
// any number of threads.
#include <math.h>

#include "runtime/base/alloc.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

typedef struct product {
  int64_t rows, steps, columns;
  bool open; // the model does not say how many rows
} product;

static float uniform(uint64_t *seed) { return (float)(test_random(seed) % 2000001) / 1000000 - 1; }

// Relu(x * w) - 0.5
static char *graph_text(const product *p, const float *w) {
  sd_str s = {0};
  sd_strf(&s, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": f32[");
  if (p->open) sd_str_put(&s, "rows");
  else sd_strf(&s, "%lld", (long long)p->rows);
  sd_strf(&s, ",%lld]) {\n  %%1 = const f32[%lld,%lld] hex<", (long long)p->steps, (long long)p->steps, (long long)p->columns);
  isa_put_hex(&s, w, p->steps * p->columns * 4);
  sd_strf(&s, ">\n  %%2 = MatMul(%%0, %%1)\n  %%3 = const f32[] hex<0000003f>\n  %%4 = Relu(%%2)\n  %%5 = Sub(%%4, %%3)\n  return %%5\n}\n");
  return sd_str_take(&s);
}

static float *multiply(const product *p, const char *text, const float *x, const char *isa, const char *threads) {
  return isa_run_matrix(text, isa, threads, x, p->rows, p->steps, 1, p->rows * p->columns * (int64_t)sizeof *x);
}

static void for_each_isa(void (*fn)(const char *isa)) {
  const char *isas[ISA_MOST];
  int n = isa_here(false, isas); // of matrix registers: triple_test.c
  for (int i = 0; i < n; i++) fn(isas[i]);
}

// 2^24 takes no 1 more: what is added to it is lost, but for sums of other chunks.
static void chunk_is(product p, int64_t chunk, const char *isa) {
  float *x = sd_alloc_aligned((size_t)(p.rows * p.steps) * 4), *w = sd_alloc_aligned((size_t)(p.steps * p.columns) * 4);
  for (int64_t i = 0; i < p.rows * p.steps; i++) x[i] = i % p.steps ? 1 : 0x1p24f;
  for (int64_t i = 0; i < p.steps * p.columns; i++) w[i] = 1;
  char *text = graph_text(&p, w);
  float *y = multiply(&p, text, x, isa, "2");
  for (int64_t i = 0; y && i < p.rows * p.columns; i++)
    if (y[i] != 0x1p24f + (float)(p.steps - chunk)) {
      printf("%s: %lld x %lld x %lld at %lld: %g over 2^24\n", isa, (long long)p.rows, (long long)p.steps, (long long)p.columns, (long long)i, y[i] - 0x1p24f);
      CHECK(false);
      break;
    }
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free(text);
}

static void chunks(const char *isa) {
  chunk_is((product){128, 1536, 48, false}, 512, isa);
  chunk_is((product){261, 1536, 32, false}, 512, isa);
  chunk_is((product){1, 2000, 16, false}, 400, isa);
  chunk_is((product){150, 3072, 16, true}, 512, isa);
  chunk_is((product){128, 1537, 32, false}, 1537, isa); // no equal chunks
  chunk_is((product){128, 768, 32, false}, 768, isa);   // short
}

// Windows that do not overlap, each with 2^24 in its first place: what is lost is the rest of its first row of taps.
static void windows(const char *isa) {
  enum { CHANNELS = 192, SIDE = 9, TAPS = 3, OUTPUTS = 32, STEPS = CHANNELS * TAPS * TAPS, PIXELS = SIDE * SIDE / 9 };
  float *x = sd_alloc_aligned(CHANNELS * SIDE * SIDE * sizeof *x);
  for (int i = 0; i < CHANNELS * SIDE * SIDE; i++) x[i] = i < SIDE * SIDE && i % TAPS == 0 && i / SIDE % TAPS == 0 ? 0x1p24f : 1;
  sd_str s = {0};
  sd_strf(&s, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": f32[%d,%d]) {\n  %%1 = const f32[%d,%d,3,3] hex<", CHANNELS, SIDE * SIDE, OUTPUTS, CHANNELS);
  for (int i = 0; i < OUTPUTS * STEPS; i++) sd_str_put(&s, "0000803f");
  sd_strf(&s, ">\n  %%2 = const i64[4] dense<1, %d, %d, %d>\n  %%3 = Reshape(%%0, %%2)\n  %%4 = Conv(%%3, %%1) {strides=[3,3]}\n  return %%4\n}\n", CHANNELS, SIDE, SIDE);
  char *text = sd_str_take(&s);
  float *y = isa_run_matrix(text, isa, "2", x, CHANNELS, SIDE * SIDE, 1, OUTPUTS * PIXELS * (int64_t)sizeof *y);
  int bad = 0;
  for (int i = 0; y && i < OUTPUTS * PIXELS; i++) bad += y[i] != 0x1p24f + STEPS - STEPS / TAPS;
  CHECK(y && !bad);
  if (bad) printf("%s: %g over 2^24\n", isa, y[0] - 0x1p24f);
  sd_free_aligned(x), sd_free_aligned(y), sd_free(text);
}

static double error_of(const product *p, const float *x, const float *w, const float *y, int64_t i) {
  double sum = 0, sizes = 0;
  for (int64_t k = 0; k < p->steps; k++) {
    double t = (double)x[i / p->columns * p->steps + k] * w[k * p->columns + i % p->columns];
    sum += t, sizes += fabs(t);
  }
  return fabs(y[i] + 0.5 - (sum > 0 ? sum : 0)) / sizes;
}

static void numbers(product p, const char *isa) {
  uint64_t seed = 7;
  float *x = sd_alloc_aligned((size_t)(p.rows * p.steps) * 4), *w = sd_alloc_aligned((size_t)(p.steps * p.columns) * 4);
  for (int64_t i = 0; i < p.rows * p.steps; i++) x[i] = uniform(&seed);
  for (int64_t i = 0; i < p.steps * p.columns; i++) w[i] = uniform(&seed);
  char *text = graph_text(&p, w);
  float *y = multiply(&p, text, x, isa, "1");
  double most = 0;
  for (int64_t i = 0; y && i < p.rows * p.columns; i += 11) most = fmax(most, error_of(&p, x, w, y, i));
  CHECK(y && most < 0x1p-21);
  for (int t = 2; y && t <= 4; t += 2) {
    float *v = multiply(&p, text, x, isa, (char[]){(char)('0' + t), 0});
    CHECK(v && !memcmp(v, y, (size_t)(p.rows * p.columns) * 4));
    sd_free_aligned(v);
  }
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free(text);
}

static void sums(const char *isa) {
  numbers((product){131, 1536, 112, false}, isa);
  numbers((product){3, 1536, 48, true}, isa);
  numbers((product){300, 3072, 16, true}, isa);
}

static void chunks_everywhere(void) { for_each_isa(chunks); }
static void windows_everywhere(void) { for_each_isa(windows); }
static void sums_everywhere(void) { for_each_isa(sums); }

int main(void) {
  RUN(chunks_everywhere);
  RUN(windows_everywhere);
  RUN(sums_everywhere);
  return check_end();
}
