// Products with constants of 2, 4 and 8 bits: on all instruction sets of this machine, for one row and for tiles of several, columns
// that fill vectors and not, blocks of several lengths, with zero points and without. Factors are small whole numbers and
// scales powers of two, so that every sum is exact.
#include <math.h>

#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "tests/unit/isa_run.h"

typedef struct product { int64_t steps, columns, block; sd_dtype type; bool zeros, by_columns; } product;

static const int64_t most_rows = 29;
static double special; // what x has at step 5 of all rows; 0: a number as others

static int64_t count_bytes(int64_t count, sd_dtype t) { return (count * sd_dtype_bits(t) + 7) / 8; }

static uint8_t *codes(uint64_t seed, int64_t count, sd_dtype t) {
  uint8_t *v = sd_alloc_aligned((size_t)count_bytes(count, t) + 64);
  for (int64_t i = 0; i < count_bytes(count, t); i++) v[i] = (uint8_t)test_random(&seed);
  return v;
}

static double x_of(int64_t row, int64_t step) { return step == 5 && special != 0 ? special : (double)((row * 7 + step * 3) % 11) - 5; }
static bool same(float x, float y) { return x == y || (isnan(x) && isnan(y)); }
static double scale_of(int64_t block, int64_t column) { return 1.0 / (double)(1 << (block + column) % 4); }

static double sum_of(const product *p, const uint8_t *w, const uint8_t *z, int64_t row, int64_t column) {
  double sum = 0;
  for (int64_t k = 0; k < p->steps; k++) {
    int64_t b = k / p->block, at = p->by_columns ? k * p->columns + column : column * p->steps + k;
    double zero = z ? (double)sd_dtype_get_i64(p->type, z, (uint64_t)(b * p->columns + column)) : 1;
    sum += x_of(row, k) * ((double)sd_dtype_get_i64(p->type, w, (uint64_t)at) - zero) * scale_of(b, column);
  }
  return sum;
}

// ---- the graph ----
static void hex(sd_str *s, const void *v, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i++) sd_strf(s, "%02x", ((const uint8_t *)v)[i]);
  sd_strf(s, ">\n");
}

static void graph_text(const product *p, const uint8_t *w, const uint8_t *z, sd_str *s) {
  long long k = p->steps, n = p->columns, b = k / p->block;
  const char *t = sd_dtype_name(p->type);
  sd_strf(s, "module ir=8 opset=22\nsymbol seq\ngraph \"g\" (%%0 \"x\": f32[seq,%lld]) {\n  %%1 = const %s[%lld,%lld] hex<", k, t, p->by_columns ? k : n, p->by_columns ? n : k);
  hex(s, w, count_bytes(k * n, p->type));
  sd_strf(s, "  %%2 = const f32[%lld,%lld] hex<", b, n);
  for (int64_t i = 0; i < b * n; i++) {
    float v = (float)scale_of(i / n, i % n);
    for (int j = 0; j < 4; j++) sd_strf(s, "%02x", ((const uint8_t *)&v)[j]);
  }
  sd_strf(s, ">\n");
  if (z) sd_strf(s, "  %%3 = const %s[%lld,%lld] hex<", t, b, n), hex(s, z, count_bytes(b * n, p->type));
  sd_strf(s, "  %%4 = sard.MatMulBits(%%0, %%1, %%2%s) {block_size=%lld, columns=%d, zero=1}\n  return %%4\n}\n", z ? ", %3" : "", (long long)p->block, p->by_columns);
}

// ---- running ----
static int64_t run(sard_context *ctx, sard_session *s, const product *p, const uint8_t *w, const uint8_t *z, int64_t rows) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SD_F32, .rank = 2, .dims = {rows, p->steps}};
  sard_tensor *in = NULL, *out = NULL;
  int64_t bad = 0;
  CHECK_OK(sard_tensor_new(ctx, &d, &in));
  float *x = sard_tensor_data(in, NULL);
  for (int64_t i = 0; i < rows * p->steps; i++) x[i] = (float)x_of(i / p->steps, i % p->steps);
  CHECK_OK(sard_session_run(s, &in, 1, &out, 1));
  const float *y = out ? sard_tensor_data(out, NULL) : NULL;
  for (int64_t i = 0; y && i < rows * p->columns; i++) bad += !same(y[i], (float)sum_of(p, w, z, i / p->columns, i % p->columns));
  sard_tensor_free(in), sard_tensor_free(out);
  return y ? bad : -1;
}

static void check_on(const product *p, const char *isa, const char *opt) {
  uint8_t *w = codes(1, p->steps * p->columns, p->type), *z = p->zeros ? codes(2, p->steps / p->block * p->columns, p->type) : NULL;
  isa_run r;
  sd_str text = {0};
  graph_text(p, w, z, &text);
  CHECK_OK(isa_open(&r, text.p, isa, "1", opt));
  for (int64_t rows = 1; rows <= most_rows; rows = rows * 3 + 2) {
    int64_t bad = run(r.ctx, r.s, p, w, z, rows);
    CHECK(bad == 0);
    if (bad) printf("%s: %lld wrong: %lld rows, %lld x %lld %s\n", isa, (long long)bad, (long long)rows, (long long)p->steps, (long long)p->columns, sd_dtype_name(p->type));
  }
  isa_close(&r);
  sd_str_free(&text), sd_free_aligned(w), sd_free_aligned(z);
}

static void all_isas(product p) {
  const sd_isa *r, *mine;
  for (int i = 0; (r = sd_isa_at(i)); i++) {
    if (check_short() && i != 1) continue; // the others differ in what LLVM does
    sard_status *st = sd_isa_host(r->name, &mine);
    if (!st) check_on(&p, r->name, "3");
    sard_status_free(st);
  }
  check_on(&p, "baseline", "0");
}

static void types(void) {
  static const sd_dtype all[] = {SD_U4, SD_I4, SD_U2, SD_I2};
  for (int i = 0; i < 4; i++)
    for (int zeros = 0; zeros < 2; zeros++) all_isas((product){64, 48, 32, all[i], zeros, false});
}

// MatMulNBits whose columns are in groups of their own: those of equal size are put in order, others are taken one by one.
static void check_groups(int64_t shift, bool equal) {
  enum { K = 64, N = 20, ROWS = 2 };
  uint8_t *w = codes(3, K * N, SD_U4);
  sd_str text = {0};
  const sd_isa *host;
  isa_run r;
  sd_strf(&text, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": f32[2,64]) {\n  %%1 = const u8[20,2,16] hex<");
  hex(&text, w, K * N / 2);
  sd_strf(&text, "  %%2 = const f32[40] dense<1");
  for (int i = 1; i < 2 * N; i++) sd_strf(&text, ", %g", i % 3 ? 0.5 : 2.0);
  sd_strf(&text, ">\n  %%3 = const i32[64] dense<%d", 0);
  for (int64_t k = 1; k < K; k++) sd_strf(&text, ", %d", equal ? (int)(k * shift % K / 32) : k % 3 == 1);
  sd_strf(&text, ">\n  %%4 = com.microsoft.MatMulNBits(%%0, %%1, %%2, _, %%3) {K=64, N=20}\n  return %%4\n}\n");
  CHECK_OK(sd_isa_host(NULL, &host));
  CHECK_OK(isa_open(&r, text.p, host->name, "1", "3"));
  sard_tensor_desc d = {.size = sizeof d, .dtype = SD_F32, .rank = 2, .dims = {ROWS, K}};
  sard_tensor *in = NULL, *out = NULL;
  CHECK_OK(sard_tensor_new(r.ctx, &d, &in));
  for (int i = 0; i < ROWS * K; i++) ((float *)sard_tensor_data(in, NULL))[i] = (float)x_of(i / K, i % K);
  CHECK_OK(sard_session_run(r.s, &in, 1, &out, 1));
  const float *y = out ? sard_tensor_data(out, NULL) : NULL;
  for (int i = 0; y && i < ROWS * N; i++) {
    double sum = 0;
    for (int64_t k = 0; k < K; k++) {
      int64_t at = i % N * 2 + (equal ? k * shift % K / 32 : k % 3 == 1);
      sum += x_of(i / N, k) * ((double)sd_dtype_get_i64(SD_U4, w, (uint64_t)(i % N * K + k)) - 8) * (at == 0 ? 1 : at % 3 ? 0.5 : 2);
    }
    CHECK(y[i] == (float)sum);
  }
  sard_tensor_free(in), sard_tensor_free(out), isa_close(&r), sd_str_free(&text), sd_free_aligned(w);
}

static void groups(void) {
  check_groups(1, true);
  check_groups(5, true);
  check_groups(0, false);
}

static void sizes(void) {
  all_isas((product){96, 21, 16, SD_U4, true, false});
  all_isas((product){64, 100, 64, SD_U4, false, true});
  all_isas((product){24, 33, 8, SD_U4, true, true});  // a word each
  all_isas((product){48, 17, 12, SD_U4, true, false}); // blocks that are no whole words
  all_isas((product){64, 80, 32, SD_U8, true, false});
}

static void infinite(void) {
  special = INFINITY;
  all_isas((product){64, 48, 32, SD_U4, true, false});
  special = 0;
}

int main(void) {
  RUN(types);
  RUN(sizes);
  RUN(groups);
  RUN(infinite);
  return check_end();
}
