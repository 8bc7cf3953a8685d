// Products of f32 in three bf16 each (codegen/triple.h), where this machine has matrix registers: errors
// against sums in f64 that are no larger than those of vectors, over wide ranges of exponents and where terms
// cancel, and by constants that are bf16; the same infinities and NaNs; equal bits for any number of threads; rows and columns over, and sums
// in chunks. What is not taken apart gives the bits of vectors.
#include <float.h>
#include <math.h>

#include "codegen/codegen.h"
#include "codegen/triple.h"
#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

typedef struct product {
  int64_t rows, steps, columns;
} product;
typedef float (*number_fn)(uint64_t *seed, int64_t i);

static float uniform(uint64_t *seed, int64_t i) {
  (void)i;
  return (float)(test_random(seed) % 2000001) / 1000000 - 1;
}
static float wide(uint64_t *seed, int64_t i) {
  return ldexpf(uniform(seed, i), (int)(test_random(seed) % 61) - 30);
}
static float bytes(uint64_t *seed, int64_t i) { // bf16 themselves: one part
  (void)i;
  return (float)((int)(test_random(seed) % 511) - 255);
}
static float tiny(uint64_t *seed, int64_t i) { return uniform(seed, i) * 0x1p-101f; }
static float cancels(uint64_t *seed, int64_t i) {
  return (i % 2 ? -1 : 1) * (1 + uniform(seed, i) * 0x1p-12f);
}
static float ones(uint64_t *seed, int64_t i) {
  (void)seed, (void)i;
  return 1;
}

static float *numbers(int64_t count, uint64_t seed, number_fn fn) {
  float *v = sd_alloc_aligned((size_t)count * sizeof *v + 64);
  for (int64_t i = 0; i < count; i++) v[i] = fn(&seed, i);
  return v;
}

static void graph_text(const product *p, const float *w, sd_str *s) {
  sd_strf(
      s, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": f32[%lld,%lld]) {\n  %%1 = const f32[%lld,%lld] hex<",
      (long long)p->rows, (long long)p->steps, (long long)p->steps, (long long)p->columns);
  isa_put_hex(s, w, p->steps * p->columns * 4);
  sd_strf(s, ">\n  %%2 = MatMul(%%0, %%1)\n  return %%2\n}\n");
}

// x * w, to be freed; NULL where it could not run.
static float *multiply(const product *p, const float *x, const float *w, const char *isa,
                       const char *threads) {
  sd_str text = {0};
  graph_text(p, w, &text);
  float *y = isa_run_matrix(text.p, isa, threads, x, p->rows, p->steps, 1, p->rows * p->columns * (int64_t)sizeof *y);
  sd_str_free(&text);
  return y;
}

// Errors relative to the sums of sizes: root of the mean square, and the largest.
typedef struct errors {
  double rms, most;
} errors;
static errors errors_of(const product *p, const float *x, const float *w, const float *y) {
  errors e = {0, 0};
  int64_t n = 0;
  for (int64_t i = 0; y && i < p->rows * p->columns; i += 17, n++) {
    double sum = 0, sizes = 0;
    for (int64_t k = 0; k < p->steps; k++) {
      double t = (double)x[i / p->columns * p->steps + k] * w[k * p->columns + i % p->columns];
      sum += t, sizes += fabs(t);
    }
    double error = fabs(y[i] - sum) / sizes;
    e.rms += error * error, e.most = error > e.most || isnan(error) ? error : e.most;
  }
  e.rms = sqrt(e.rms / (double)n);
  return e;
}

static int64_t differ(const product *p, const float *x, const float *y) {
  int64_t n = 0;
  for (int64_t i = 0; x && y && i < p->rows * p->columns; i++) n += memcmp(&x[i], &y[i], 4) != 0;
  return x && y ? n : -1;
}

static void closer(product p, number_fn fx, number_fn fw) {
  float *x = numbers(p.rows * p.steps, 1, fx), *w = numbers(p.steps * p.columns, 2, fw);
  float *y = multiply(&p, x, w, "amx", "1"), *v = multiply(&p, x, w, "avx512bf16", "1");
  errors a = errors_of(&p, x, w, y), b = errors_of(&p, x, w, v);
  // Where terms cancel in turns, sums of even and of odd steps grow before they meet: no better than vectors
  // then.
  bool ok = a.rms <= 1.05 * b.rms && a.most <= 1.25 * b.most && a.most < 0x1p-20 && differ(&p, y, v) > 0;
  CHECK(ok);
  if (!ok)
    printf("%lld x %lld x %lld: rms %g, most %g; by vectors %g, %g\n", (long long)p.rows, (long long)p.steps,
           (long long)p.columns, a.rms, a.most, b.rms, b.most);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free_aligned(v);
}

static void accuracy(void) {
  closer((product){192, 256, 512}, uniform, uniform);
  closer((product){192, 256, 512}, wide, wide);
  closer((product){192, 256, 512}, cancels, ones);
  closer((product){192, 256, 512}, cancels, uniform);
  closer((product){192, 256, 512}, wide, bytes);
}

// Rows and columns over, several tiles of rows, sums in chunks.
static void sizes(void) {
  closer((product){197, 256, 576}, uniform, uniform);
  closer((product){1200, 256, 300}, uniform, uniform);
  closer((product){1200, 384, 192}, uniform, uniform);
  closer((product){256, 1536, 512}, uniform, uniform);
  closer((product){197, 1536, 300}, uniform, bytes);
}

static void threads(void) {
  const product p = {197, 256, 576};
  float *x = numbers(p.rows * p.steps, 1, wide), *w = numbers(p.steps * p.columns, 2, wide),
        *y = multiply(&p, x, w, "amx", "1");
  for (int i = 2; i <= 4; i++) {
    float *v = multiply(&p, x, w, "amx", (char[]){(char)('0' + i), 0});
    CHECK(differ(&p, y, v) == 0);
    sd_free_aligned(v);
  }
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y);
}

// What is not finite is what vectors give; so is all of a tile of rows that has such numbers.
static void odd_numbers(number_fn fw) {
  const product p = {197, 256, 576};
  float *x = numbers(p.rows * p.steps, 1, uniform), *w = numbers(p.steps * p.columns, 2, fw);
  const float odd[] = {INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX};
  for (int i = 0; i < 5; i++) x[(7 + i * 40) * p.steps + 3 * i] = odd[i];
  x[196 * p.steps] = INFINITY, x[196 * p.steps + 1] = -INFINITY, x[5] = FLT_MAX, x[6] = -FLT_MAX;
  float *y = multiply(&p, x, w, "amx", "1"), *v = multiply(&p, x, w, "avx512bf16", "1");
  int64_t bad = 0, odds = 0;
  for (int64_t i = 0; y && v && i < p.rows * p.columns; i++) {
    if (isfinite(v[i])) bad += !isfinite(y[i]);
    else
      odds++, bad += memcmp(&y[i], &v[i], 4) != 0 && !(isnan(y[i]) && isnan(v[i]));
  }
  CHECK(bad == 0 && odds > 1000);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free_aligned(v);
}

static void not_finite(void) {
  odd_numbers(uniform);
  odd_numbers(bytes);
}

// Small weights are not taken apart. Products below 2^-126 are lost: no more than one of them for each step.
static void small(void) {
  const product p = {192, 256, 512};
  float *x = numbers(p.rows * p.steps, 1, uniform), *w = numbers(p.steps * p.columns, 2, tiny);
  float *y = multiply(&p, x, w, "amx", "1"), *v = multiply(&p, x, w, "avx512bf16", "1");
  CHECK(differ(&p, y, v) == 0);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free_aligned(v);
  x = numbers(p.rows * p.steps, 1, tiny), w = numbers(p.steps * p.columns, 2, uniform);
  for (int64_t i = 0; i < p.rows * p.steps; i++) x[i] *= 0x1p-20f;
  y = multiply(&p, x, w, "amx", "1"), v = multiply(&p, x, w, "avx512bf16", "1");
  double most = 0;
  for (int64_t i = 0; y && v && i < p.rows * p.columns; i++) most = fmax(most, fabs((double)y[i] - v[i]));
  CHECK(most <= (double)p.steps * 0x1p-126 * 6);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(y), sd_free_aligned(v);
}

static void parts(void) {
  uint64_t seed = 5;
  for (int i = 0; i < 1000; i++) {
    float x = wide(&seed, i), sum = 0;
    sd_triple_parts p = sd_triple_parts_of(x);
    for (int q = 2; q >= 0; q--) {
      float part;
      memcpy(&part, &p.high[q], 4);
      CHECK((p.high[q] & 0xffff) == 0);
      sum = part + sum;
    }
    CHECK(sum == x);
  }
}

int main(void) {
  const sd_isa *isa = NULL;
  RUN(parts);
  sard_status *st = sd_isa_host("amx", &isa);
  bool here = !st;
  sard_status_free(st);
  if (!here) return check_end();
  RUN(accuracy);
  RUN(sizes);
  RUN(threads);
  RUN(not_finite);
  RUN(small);
  return check_end();
}
