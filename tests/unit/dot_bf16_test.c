// Products of bf16: on all instruction sets of this machine sums of whole numbers are exact, for numbers of steps that are even and
// odd, matrices and convolutions; others stay within what f32 sums may be off; what is no number stays in its row; kernels hold
// the instruction that they are made for.
#include <math.h>

#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "tests/unit/emit_run.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

typedef struct product {
  int64_t rows, steps, columns;                  // of a matrix product; rows 0: a convolution
  int64_t channels, size, out, kernel, stride;   // with borders of kernel / 2
  bool fractions;                                // factors are no whole numbers
  bool nan;                                      // at the first step of every second row
} product;

static const char *isas[ISA_MOST];
static int n_isas;

// ---- numbers ----
static float *numbers(uint64_t seed, int64_t count, bool fractions) {
  float *v = sd_alloc_aligned((size_t)count * sizeof *v + 64);
  for (int64_t i = 0; i < count; i++) {
    uint16_t code;
    double x = (double)(test_random(&seed) % 17) - 8;
    if (fractions) x = (double)(test_random(&seed) % 20001) / 10000 - 1;
    sd_dtype_set_f64(SD_BF16, &code, 0, x);
    v[i] = (float)sd_dtype_get_f64(SD_BF16, &code, 0);
  }
  return v;
}

static int64_t out_size(const product *p) { return (p->size + p->kernel / 2 * 2 - p->kernel) / p->stride + 1; }
static int64_t x_count(const product *p) { return p->rows ? p->rows * p->steps : p->channels * p->size * p->size; }
static int64_t w_count(const product *p) { return p->rows ? p->steps * p->columns : p->out * p->channels * p->kernel * p->kernel; }
static int64_t y_count(const product *p) { return p->rows ? p->rows * p->columns : p->out * out_size(p) * out_size(p); }

// The sum of element i, and of the sizes of its products.
static double sum_of(const product *p, const float *x, const float *w, int64_t i, double *sizes) {
  double sum = 0;
  int64_t n = p->rows ? p->steps : p->channels * p->kernel * p->kernel, k = p->kernel, at = out_size(p->rows ? &(product){.stride = 1} : p);
  *sizes = 0;
  for (int64_t t = 0; t < n; t++) {
    double v;
    if (p->rows) {
      v = (double)x[i / p->columns * n + t] * w[t * p->columns + i % p->columns];
    } else {
      int64_t r = i / at % at * p->stride + t / k % k - k / 2, c = i % at * p->stride + t % k - k / 2;
      if (r < 0 || c < 0 || r >= p->size || c >= p->size) continue;
      v = (double)x[(t / k / k * p->size + r) * p->size + c] * w[i / at / at * n + t];
    }
    sum += v, *sizes += fabs(v);
  }
  return sum;
}

// ---- the graph ----
static void graph_text(const product *p, const float *w, sd_str *s) {
  if (p->rows)
    sd_strf(s, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": bf16[%lld,%lld]) {\n  %%1 = const bf16[%lld,%lld] hex<", (long long)p->rows,
            (long long)p->steps, (long long)p->steps, (long long)p->columns);
  else
    sd_strf(s, "module ir=8 opset=22\ngraph \"g\" (%%0 \"x\": bf16[1,%lld,%lld,%lld]) {\n  %%1 = const bf16[%lld,%lld,%lld,%lld] hex<",
            (long long)p->channels, (long long)p->size, (long long)p->size, (long long)p->out, (long long)p->channels,
            (long long)p->kernel, (long long)p->kernel);
  for (int64_t i = 0; i < w_count(p); i++) {
    uint8_t code[2];
    sd_dtype_set_f64(SD_BF16, code, 0, w[i]);
    sd_strf(s, "%02x%02x", code[0], code[1]);
  }
  long long pad = p->kernel / 2, stride = p->stride;
  if (p->rows) sd_strf(s, ">\n  %%2 = MatMul(%%0, %%1)\n  return %%2\n}\n");
  else
    sd_strf(s, ">\n  %%2 = Conv(%%0, %%1) {pads=[%lld, %lld, %lld, %lld], strides=[%lld, %lld]}\n  return %%2\n}\n", pad, pad, pad, pad,
            stride, stride);
}

static sard_tensor *tensor(sard_context *ctx, const product *p, const float *x) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SD_BF16, .rank = p->rows ? 2 : 4};
  sard_tensor *t = NULL;
  const int64_t matrix[2] = {p->rows, p->steps}, image[4] = {1, p->channels, p->size, p->size};
  memcpy(d.dims, p->rows ? matrix : image, (size_t)d.rank * sizeof *d.dims);
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  for (int64_t i = 0; t && i < x_count(p); i++) sd_dtype_set_f64(SD_BF16, sard_tensor_data(t, NULL), (uint64_t)i, x[i]);
  return t;
}

// Results that are not what they should be: rounded sums; where these are no whole numbers, within their error before they are rounded.
static int64_t count_wrong(const product *p, const float *x, const float *w, const void *y) {
  int64_t bad = 0, steps = p->rows ? p->steps : p->channels * p->kernel * p->kernel;
  for (int64_t i = 0; i < y_count(p); i++) {
    double sizes, want = sum_of(p, x, w, i, &sizes), got = sd_dtype_get_f64(SD_BF16, y, (uint64_t)i);
    uint16_t code;
    if (isnan(want)) {
      bad += !isnan(got);
    } else if (p->fractions) {
      bad += !(fabs(got - want) <= fabs(want) / 256 + (double)steps * 0x1p-23 * sizes);
    } else {
      sd_dtype_set_f64(SD_BF16, &code, 0, want);
      bad += got != sd_dtype_get_f64(SD_BF16, &code, 0);
    }
  }
  return bad;
}

// -1 where it could not run.
static int64_t wrong(const product *p, const char *isa, const char *opt) {
  float *x = numbers(1, x_count(p), p->fractions), *w = numbers(2, w_count(p), p->fractions);
  isa_run r;
  sard_tensor *in = NULL, *out = NULL;
  sd_str text = {0};
  for (int64_t r = 0; p->nan && r < p->rows; r += 2) x[r * p->steps] = NAN;
  graph_text(p, w, &text);
  sard_status *st = isa_open(&r, text.p, isa, "1", opt);
  if (!st) in = tensor(r.ctx, p, x), st = sard_session_run(r.s, &in, 1, &out, 1);
  if (st) printf("%s\n", sard_status_text(st, 0));
  int64_t bad = st ? -1 : count_wrong(p, x, w, sard_tensor_data(out, NULL));
  sard_status_free(st);
  sard_tensor_free(in), sard_tensor_free(out), isa_close(&r);
  sd_str_free(&text), sd_free_aligned(x), sd_free_aligned(w);
  return bad;
}

static void all_isas(product p) {
  for (int i = 0; i < n_isas; i++) {
    int64_t bad = wrong(&p, isas[i], "3");
    CHECK(bad == 0);
    if (bad)
      printf("%s: %lld of %lld wrong: %lld x %lld x %lld, %lld channels\n", isas[i], (long long)bad, (long long)y_count(&p), (long long)p.rows,
             (long long)p.steps, (long long)p.columns, (long long)p.channels);
  }
  CHECK(wrong(&p, "baseline", "0") == 0);
}

// ---- cases ----
static void sizes(void) {
  for (int64_t k = 1; k <= 6; k++) all_isas((product){.rows = 3, .steps = k, .columns = 21});
  all_isas((product){.rows = 1, .steps = 67, .columns = 100});
  all_isas((product){.rows = 29, .steps = 64, .columns = 3});
}

// Enough products for matrix registers: one register of rows to five, heights that differ, rows over, odd numbers of steps.
static void matrices(void) {
  static const int64_t rows[] = {4, 17, 33, 64, 70}, steps[] = {128, 80, 72, 65, 64};
  for (int i = 0; i < 5; i++) all_isas((product){.rows = rows[i], .steps = steps[i], .columns = 400000 / rows[i] / steps[i] + 1 + i});
}

static void fractions(void) {
  all_isas((product){.rows = 40, .steps = 96, .columns = 120, .fractions = true});
  all_isas((product){.channels = 32, .size = 12, .out = 40, .kernel = 3, .stride = 1, .fractions = true});
}

// A NaN behind the last step of a row is not of that row.
static void no_numbers(void) {
  all_isas((product){.rows = 70, .steps = 65, .columns = 90, .nan = true});
  all_isas((product){.rows = 70, .steps = 64, .columns = 90, .nan = true});
}

static void convolutions(void) {
  all_isas((product){.channels = 32, .size = 7, .out = 33, .kernel = 3, .stride = 1}); // rows of several lines of an image
  all_isas((product){.channels = 64, .size = 15, .out = 48, .kernel = 1, .stride = 1});
  all_isas((product){.channels = 16, .size = 17, .out = 32, .kernel = 3, .stride = 2});
  all_isas((product){.channels = 3, .size = 34, .out = 16, .kernel = 7, .stride = 2}); // 21 steps in a row of the window
}

// ---- code ----
// tdpbf16ps: opcode 5c of map 2 behind a VEX prefix of 128 bits with f3. vdpbf16ps: opcode 52 of map 2 behind an EVEX prefix with f3.
static bool has_dot(const er_code *c, bool matrix) {
  const uint8_t *b = c->o.data;
  for (uint64_t i = 0; i + 6 < c->o.size; i++) {
    if (matrix && b[i] == 0xc4 && (b[i + 1] & 31) == 2 && (b[i + 2] & 7) == 2 && b[i + 3] == 0x5c) return true;
    if (!matrix && b[i] == 0x62 && (b[i + 1] & 7) == 2 && (b[i + 2] & 3) == 2 && b[i + 4] == 0x52) return true;
  }
  return false;
}

static void instruction(void) {
  static const char text[] =
      "kernel \"k\" {\n axis a0 \"i\" (640) unroll 32\n axis a1 \"j\" (32) vec 2\n axis a2 \"k_o\" (16)\n axis a3 \"k_i\" (2) unroll 0\n"
      " in b0 bf16 [20480]\n in b1 bf16 [1024]\n out b2 f32 [20480]\n"
      " nest a0 a1 {\n  b2[{(32)a0 + (1)a1 + (0)}] = sum(a2 a3: (b0[{(32)a0 + (2)a2 + (1)a3 + (0)}] * "
      "b1[{(64)a2 + (2)a1 + (1)a3 + (0)}]))\n }\n}\n";
  for (int i = 0; i < n_isas; i++) {
    sd_arena *a = sd_arena_new();
    sd_kernel *k = NULL;
    er_code c;
    const sd_isa *isa = sd_isa_find(isas[i]);
    CHECK_OK(sd_kernel_parse(a, sd_dimtab_new(a), text, &k));
    CHECK_OK(er_compile(k, isa, 3, &c));
    CHECK(has_dot(&c, isa->matrix) == (isa->pairs == 2));
    er_mem x = er_alloc(40960), w = er_alloc(2048), y = er_alloc(20480 * 4), want = er_alloc(20480 * 4);
    uint64_t seed = 3;
    for (uint64_t j = 0; j < 20480; j++) sd_dtype_set_f64(SD_BF16, x.data, j, (double)(test_random(&seed) % 31) - 15);
    for (uint64_t j = 0; j < 1024; j++) sd_dtype_set_f64(SD_BF16, w.data, j, (double)(test_random(&seed) % 31) - 15);
    er_run(&c, (void *[]){x.data, w.data, y.data}, NULL, 1);
    CHECK_OK(sd_kernel_eval(k, (void *[]){x.data, w.data, want.data}, er_symbol, NULL));
    CHECK(memcmp(y.data, want.data, 20480 * 4) == 0);
    er_release(&x), er_release(&w), er_release(&y), er_release(&want);
    sd_arena_free(a);
  }
}

int main(void) {
  n_isas = isa_here(true, isas);
  RUN(sizes);
  RUN(matrices);
  RUN(fractions);
  RUN(no_numbers);
  RUN(convolutions);
  RUN(instruction);
  return check_end();
}
