// Products that may round their input to 8 bits (codegen/blocks.h) on each instruction set of this machine:
// sums of integers are exact, so results differ from those in f64 by the rounding of what is scaled; equal
// bits for any number of threads; rows and columns over, one row, all numbers of bits, with and without zero
// points; and what is not finite stays so.
#include <math.h>

#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

enum { COLUMNS = 72 };

typedef struct product {
  int64_t rows, steps, block;
  int bits;
  bool zeros;
} product;

typedef struct data {
  float *a, *scale;
  uint8_t *w, *zero; // a code in each byte
} data;

// Rows of n codes, each beginning with a byte.
static void put_codes(sd_str *s, const uint8_t *codes, int64_t rows, int64_t n, int bits) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < n; i += 8 / bits) {
      uint8_t b = 0;
      for (int64_t j = 0; j < 8 / bits && i + j < n; j++) b |= (uint8_t)(codes[r * n + i + j] << j * bits);
      isa_put_hex(s, &b, 1);
    }
}

static void graph_text(const product *p, const data *d, sd_str *s) {
  long long n = COLUMNS, blocks = p->steps / p->block, row = (blocks * p->bits + 7) / 8;
  sd_strf(s,
          "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": f32[%lld,%lld]) {\n  %%1 = const u8[%lld,%lld,%lld] "
          "hex<",
          (long long)p->rows, (long long)p->steps, n, blocks, (long long)p->block * p->bits / 8);
  put_codes(s, d->w, n, p->steps, p->bits);
  sd_strf(s, ">\n  %%2 = const f32[%lld,%lld] hex<", n, blocks);
  isa_put_hex(s, d->scale, n * blocks * 4);
  if (p->zeros) sd_strf(s, ">\n  %%3 = const u8[%lld,%lld] hex<", n, row);
  if (p->zeros) put_codes(s, d->zero, n, blocks, p->bits);
  sd_strf(s,
          ">\n  %%4 = com.microsoft.MatMulNBits(%%0, %%1, %%2%s) {K=%lld, N=%lld, accuracy_level=4, bits=%d, "
          "block_size=%lld}\n  return %%4\n}\n",
          p->zeros ? ", %3" : "", (long long)p->steps, n, p->bits, (long long)p->block);
}

// To be freed; NULL where it could not run.
static float *multiply(const product *p, const data *d, const char *isa, const char *threads) {
  sd_str text = {0};
  graph_text(p, d, &text);
  float *y = isa_run_matrix(text.p, isa, threads, d->a, p->rows, p->steps, 1, p->rows * COLUMNS * (int64_t)sizeof *y);
  sd_str_free(&text);
  return y;
}

static data make(const product *p) {
  uint64_t seed = 3;
  int64_t blocks = p->steps / p->block;
  data d = {sd_alloc_aligned((size_t)(p->rows * p->steps) * 4),
            sd_alloc_aligned((size_t)(COLUMNS * blocks) * 4), sd_alloc_aligned((size_t)(COLUMNS * p->steps)),
            sd_alloc_aligned((size_t)(COLUMNS * blocks))};
  for (int64_t i = 0; i < p->rows * p->steps; i++)
    d.a[i] = ldexpf((float)(test_random(&seed) % 2001) / 1000 - 1, (int)(i / p->block % 5));
  for (int64_t i = 0; i < COLUMNS * blocks; i++)
    d.scale[i] = (float)(test_random(&seed) % 1000 + 1) / 1000,
    d.zero[i] = (uint8_t)(test_random(&seed) % (1u << p->bits));
  for (int64_t i = 0; i < COLUMNS * p->steps; i++)
    d.w[i] = (uint8_t)(i % 7 ? test_random(&seed) % (1u << p->bits) : (1u << p->bits) - 1);
  for (int64_t i = 0; i < p->block; i++) d.a[i] = i % 2 ? 1 : -1; // all as large as the largest
  for (int64_t i = p->block; i < 2 * p->block && i < p->steps; i++) d.a[i] = 0;
  return d;
}

static void free_data(data *d) {
  sd_free_aligned(d->a), sd_free_aligned(d->scale), sd_free_aligned(d->w), sd_free_aligned(d->zero);
}

// The largest error, relative to the sum of sizes.
static double error_of(const product *p, const data *d, const float *y) {
  double most = 0;
  int64_t blocks = p->steps / p->block;
  for (int64_t i = 0; y && i < p->rows * COLUMNS; i++) {
    double sum = 0, sizes = 0;
    for (int64_t b = 0; b < blocks; b++) {
      const float *a = d->a + i / COLUMNS * p->steps + b * p->block;
      const uint8_t *w = d->w + i % COLUMNS * p->steps + b * p->block;
      int64_t at = i % COLUMNS * blocks + b, zero = p->zeros ? d->zero[at] : 1 << (p->bits - 1);
      float largest = 0;
      for (int64_t k = 0; k < p->block; k++) largest = fmaxf(largest, fabsf(a[k]));
      for (int64_t k = 0; k < p->block; k++) {
        double q = largest > 0 ? rintf(a[k] * (127 / largest)) : 0,
               t = q * (float)(largest / 127) * d->scale[at];
        sum += t * (double)(w[k] - zero), sizes += fabs(t) * (double)(w[k] + zero);
      }
    }
    double error = fabs(y[i] - sum) / (sizes + 1e-30);
    most = error > most || isnan(error) ? error : most;
  }
  return y ? most : 1;
}

static void one(product p, const char *isa) {
  data d = make(&p);
  float *y = multiply(&p, &d, isa, "1");
  bool rounds = p.bits <= 4 || strstr(isa, "vnni") || !strcmp(isa, "amx"); // other sets multiply f32 there
  double error = error_of(&p, &d, y);
  bool ok = rounds ? error < 1e-6 : error < 1e-2;
  CHECK(ok);
  if (!ok)
    printf("%s, %lld x %lld in %lld, %d bits: error %g\n", isa, (long long)p.rows, (long long)p.steps,
           (long long)p.block, p.bits, error);
  for (int i = 2; i <= 4 && p.rows == 17; i++) {
    float *v = multiply(&p, &d, isa, (char[]){(char)('0' + i), 0});
    CHECK(y && v && memcmp(y, v, (size_t)(p.rows * COLUMNS) * 4) == 0);
    sd_free_aligned(v);
  }
  sd_free_aligned(y);
  free_data(&d);
}

static void all_on(const char *isa) {
  static const product all[] = {{1, 256, 32, 4, false},  {17, 256, 32, 4, true}, {3, 512, 128, 4, false},
                                {17, 128, 16, 4, false}, {1, 256, 32, 8, true},  {17, 256, 32, 8, false},
                                {5, 256, 64, 2, true},   {1, 128, 128, 4, true}};
  const sd_isa *set = NULL;
  sard_status *st = sd_isa_host(isa, &set);
  bool here = !st;
  sard_status_free(st);
  for (size_t i = 0; here && i < sizeof all / sizeof *all; i++) one(all[i], isa);
}

static void sums(void) {
  static const char *const sets[] = {"avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) all_on(sets[i]);
}

static void not_finite(void) {
  const product p = {3, 256, 32, 4, false};
  data d = make(&p);
  d.a[40] = INFINITY, d.a[256 + 3] = NAN;
  float *y = multiply(&p, &d, NULL, "1");
  for (int64_t i = 0; y && i < 2 * COLUMNS; i++) CHECK(!isfinite(y[i]));
  for (int64_t i = 2 * COLUMNS; y && i < 3 * COLUMNS; i++) CHECK(isfinite(y[i]));
  sd_free_aligned(y);
  free_data(&d);
}

int main(void) {
  RUN(sums);
  RUN(not_finite);
  return check_end();
}
