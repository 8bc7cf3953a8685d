// Products with sparse weights: the sums of dense ones, for shares, patterns and sizes of all kinds, on all
// instruction sets; threads change nothing.
#include <math.h>

#include "runtime/base/alloc.h"
#include "runtime/cpu.h"
#include "sard/sard.h"
#include "sard/sard_compile.h"
#include "tests/unit/test.h"

typedef enum kind { MATMUL, GEMM, CONV } kind;
typedef enum pattern { ANYWHERE, OF_FOUR, BLOCKS, EMPTY } pattern;

typedef struct layer {
  kind kind;
  int64_t images, rows, k,
      n; // x is [images, rows, k] of MatMul, [rows, k] of Gemm, [images, k, rows, 1] of Conv
  pattern pattern;
  double density;
  bool residual, dynamic; // images are a symbol
  const char *after;      // operator applied last, NULL = none
} layer;

static float *numbers(uint64_t seed, int64_t count, float scale) {
  float *v = sd_alloc_aligned((size_t)count * sizeof *v + 64);
  for (int64_t i = 0; i < count; i++)
    v[i] = (float)((double)(test_random(&seed) >> 11) * 0x1p-52 - 1) * scale;
  return v;
}

static double unit(uint64_t *seed) { return (double)(test_random(seed) >> 11) * 0x1p-53; }

// w [k, n]: input 3 of 8 and output 5 of 16 have nothing but 0.
static float *weights(const layer *l) {
  uint64_t seed = 11;
  float *w = numbers(2, l->k * l->n, 1.0f / sqrtf((float)l->k));
  for (int64_t o = 0; o < l->n; o++)
    for (int64_t k = 0; k < l->k; k++) {
      uint64_t quad = (uint64_t)(o / 4 * 7919 + k);
      bool keep = l->pattern == ANYWHERE  ? unit(&seed) < l->density
                  : l->pattern == OF_FOUR ? k % 4 == (o + k / 4 * 3) % 4
                                          : l->pattern == BLOCKS && unit(&quad) < l->density;
      if (!keep || k % 8 == 3 || (l->pattern != BLOCKS && o % 16 == 5)) w[k * l->n + o] = 0;
    }
  return w;
}

static void hex(sd_str *s, const float *v, int64_t count) {
  const uint8_t *b = (const uint8_t *)v;
  sd_str_put(s, "hex<");
  for (int64_t i = 0; i < count * 4; i++) sd_strf(s, "%02x", b[i]);
  sd_str_put(s, ">");
}

static void graph_text(const layer *l, const float *w, const float *bias, sd_str *s) {
  char images[24];
  long long rows = l->rows, k = l->k, n = l->n;
  snprintf(images, sizeof images, l->dynamic ? "N" : "%lld", (long long)l->images);
  sd_strf(s, "module ir=8 opset=17\n%sgraph \"g\" (%%0 \"x\": f32[",
          l->dynamic ? "symbol N in [2, 64]\n" : "");
  const char *x = l->kind == CONV ? "%s,%lld,%lld,1" : "%s,%lld,%lld";
  long long a = l->kind == CONV ? k : rows, b = l->kind == CONV ? rows : k, c = l->kind == CONV ? n : rows,
            d = l->kind == CONV ? rows : n;
  if (l->kind == GEMM) sd_strf(s, "%lld,%lld", rows, k);
  else
    sd_strf(s, x, images, a, b);
  if (l->residual)
    sd_strf(s, "], %%1 \"r\": f32["),
        l->kind == GEMM ? sd_strf(s, "%lld,%lld", rows, n) : sd_strf(s, x, images, c, d);
  sd_strf(s, "]) {\n  %%2 = const f32[%lld,%lld] ", k, n);
  hex(s, w, k * n);
  sd_strf(s, "\n  %%3 = const f32[%lld] ", n);
  hex(s, bias, n);
  if (l->kind == MATMUL) sd_strf(s, "\n  %%9 = MatMul(%%0, %%2)\n  %%4 = Add(%%9, %%3)\n");
  else if (l->kind == GEMM)
    sd_strf(s, "\n  %%9 = Transpose(%%2)\n  %%4 = Gemm(%%0, %%9, %%3) {transB=1}\n");
  else
    sd_strf(s,
            "\n  %%8 = Transpose(%%2)\n  %%10 = const i64[4] dense<%lld, %lld, 1, 1>\n  %%9 = Reshape(%%8, "
            "%%10)\n  %%4 = Conv(%%0, %%9, %%3)\n",
            n, k);
  int at = 4;
  if (l->residual) sd_strf(s, "  %%5 = Add(%%4, %%1)\n"), at = 5;
  if (l->after) sd_strf(s, "  %%6 = %s(%%%d)\n", l->after, at), at = 6;
  sd_strf(s, "  return %%%d\n}\n", at);
}

static double *direct(const layer *l, const float *x, const float *w, const float *bias, const float *r) {
  int64_t count = l->images * l->rows * l->n;
  double *y = sd_alloc_aligned((size_t)count * sizeof *y);
  for (int64_t i = 0; i < count; i++) {
    int64_t image = i / (l->rows * l->n), at = i % (l->rows * l->n);
    int64_t row = l->kind == CONV ? at % l->rows : at / l->n, o = l->kind == CONV ? at / l->rows : at % l->n;
    double sum = bias[o];
    for (int64_t k = 0; k < l->k; k++)
      sum += (double)w[k * l->n + o] *
             x[image * l->rows * l->k + (l->kind == CONV ? k * l->rows + row : row * l->k + k)];
    if (r) sum += r[i];
    if (l->after && !strcmp(l->after, "Relu")) sum = sum > 0 ? sum : 0;
    if (l->after && !strcmp(l->after, "Sigmoid")) sum = 1 / (1 + exp(-sum));
    y[i] = sum;
  }
  return y;
}

static sard_tensor_desc desc(const layer *l, int64_t columns) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = l->kind == CONV ? 4 : l->kind == GEMM ? 2 : 3};
  int64_t mat[3] = {l->images, l->rows, columns}, conv[4] = {l->images, columns, l->rows, 1},
          gemm[2] = {l->rows, columns};
  memcpy(d.dims, l->kind == CONV ? conv : l->kind == GEMM ? gemm : mat, (size_t)d.rank * sizeof *d.dims);
  return d;
}

static sard_tensor *tensor(sard_context *ctx, const sard_tensor_desc *d, const float *data) {
  sard_tensor *t = NULL;
  size_t count = 1;
  for (int i = 0; i < d->rank; i++) count *= (size_t)d->dims[i];
  CHECK_OK(sard_tensor_new(ctx, d, &t));
  if (t) memcpy(sard_tensor_data(t, NULL), data, count * sizeof *data);
  return t;
}

// y: `count` elements of the output; inputs are one or two.
static void run_text(const char *text, const char *opt, const char *isa, const char *threads, uint32_t inputs,
                     const sard_tensor_desc *d, float *const *data, float *y, int64_t count) {
  sard_options *co = sard_options_new(), *mo = sard_options_new();
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  CHECK_OK(sard_options_set(co, "threads", threads));
  CHECK_OK(sard_options_set(co, "isa", isa));
  CHECK_OK(sard_options_set(mo, "opt", opt));
  CHECK_OK(sard_context_new(co, &ctx));
  sard_compiler_use(ctx);
  char *report = NULL;
  sard_status *st = sard_compile(ctx, &src, mo, &m, &report);
  if (!st) st = sard_session_new(m, NULL, &s);
  CHECK(!st);
  if (st) printf("%s\n", sard_status_text(st, 0));
  sard_status_free(st);
  memset(y, 0xff, (size_t)count * sizeof *y);
  if (s) {
    sard_tensor *in[2] = {NULL}, *out = NULL;
    for (uint32_t i = 0; i < inputs; i++) in[i] = tensor(ctx, &d[i], data[i]);
    CHECK_OK(sard_session_run(s, in, inputs, &out, 1));
    if (out) memcpy(y, sard_tensor_data(out, NULL), (size_t)count * sizeof *y);
    sard_tensor_free(in[0]), sard_tensor_free(in[1]), sard_tensor_free(out);
  }
  sard_session_free(s), sard_model_free(m), sard_context_free(ctx);
  sard_options_free(co), sard_options_free(mo), sard_free(report);
}

static double farthest(const float *y, const double *want, int64_t count) {
  double most = 0;
  for (int64_t i = 0; i < count; i++)
    if (!(fabs(y[i] - want[i]) <= most)) most = fabs(y[i] - want[i]);
  return most;
}

// Short tests take one instruction set: the others differ in what LLVM does.
static bool used(const char *const *isas, int i) {
  return sd_cpu_has_isa(isas[i], NULL) && !(check_short() && i == 0 && sd_cpu_has_isa(isas[1], NULL));
}

static void compare(const layer *l) {
  static const char *const isas[] = {"avx2", "avx512"};
  int64_t count = l->images * l->rows * l->n;
  float *x = numbers(1, l->images * l->rows * l->k, 1), *w = weights(l), *bias = numbers(3, l->n, 1);
  float *r = l->residual ? numbers(4, count, 1) : NULL, *y = numbers(5, count, 1), *z = numbers(6, count, 1);
  double *want = direct(l, x, w, bias, r);
  float *in[2] = {x, r};
  sard_tensor_desc d[2] = {desc(l, l->k), desc(l, l->n)};
  sd_str text = {0};
  graph_text(l, w, bias, &text);
  for (int i = 0; i < 2; i++) {
    if (!used(isas, i)) continue;
    run_text(text.p, "3", isas[i], "1", r ? 2 : 1, d, in, y, count);
    CHECK(farthest(y, want, count) < 5e-6);
    if (!(farthest(y, want, count) < 5e-6)) printf("%s: off by %g\n", isas[i], farthest(y, want, count));
    run_text(text.p, "3", isas[i], "3", r ? 2 : 1, d, in, z, count);
    CHECK(memcmp(y, z, (size_t)count * sizeof *y) == 0);
  }
  sd_str_free(&text);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(bias), sd_free_aligned(r);
  sd_free_aligned(y), sd_free_aligned(z), sd_free_aligned(want);
}

static void whole(void) {
  compare(&(layer){.images = 1, .rows = 128, .k = 256, .n = 256, .density = 0.2, .after = "Relu"});
}
static void rests(void) {
  compare(&(layer){.images = 3, .rows = 67, .k = 301, .n = 75, .density = 0.1, .residual = true});
}
static void four(void) {
  compare(&(layer){.images = 1, .rows = 120, .k = 150, .n = 260, .pattern = OF_FOUR, .after = "Sigmoid"});
}
static void blocks(void) {
  compare(&(layer){.images = 1,
                   .rows = 97,
                   .k = 300,
                   .n = 150,
                   .pattern = BLOCKS,
                   .density = 0.2,
                   .residual = true,
                   .after = "Relu"});
}
static void empty(void) { compare(&(layer){.images = 1, .rows = 64, .k = 64, .n = 32, .pattern = EMPTY}); }
static void gemm(void) {
  compare(
      &(layer){.kind = GEMM, .images = 1, .rows = 190, .k = 290, .n = 66, .density = 0.1, .after = "Relu"});
}
static void conv(void) {
  compare(&(layer){.kind = CONV,
                   .images = 2,
                   .rows = 99, .k = 300, .n = 70, .density = 0.1,
                   .residual = true,
                   .after = "Relu"});
}
static void conv_blocks(void) {
  compare(
      &(layer){.kind = CONV, .images = 1, .rows = 49, .k = 256, .n = 300, .pattern = BLOCKS, .density = 0.2});
}
static void any_rows(void) {
  compare(&(layer){
      .images = 3, .rows = 45, .k = 300, .n = 90, .density = 0.1, .dynamic = true, .residual = true});
}
static void any_images(void) {
  compare(&(layer){.kind = CONV, .images = 3, .rows = 85, .k = 300, .n = 64, .density = 0.1, .dynamic = true});
}

static void many_rows(void) { // tiles go through all parts
  compare(&(layer){.images = 1, .rows = 1100, .k = 64, .n = 90, .density = 0.2, .residual = true});
}
static void seven_vectors(void) { // 7 vectors of 16 and of 8 rows divide them
  compare(&(layer){.kind = CONV, .images = 1, .rows = 224, .k = 256, .n = 200, .density = 0.2, .after = "Relu"});
}
static void few_rows(void) { // a symbol, of which one vector is left
  compare(&(layer){.images = 3, .rows = 1, .k = 300, .n = 90, .density = 0.1, .dynamic = true});
  compare(&(layer){.images = 3, .rows = 23, .k = 300, .n = 90, .density = 0.1, .dynamic = true});
}

// ---- windows ----
// x [images, c, height, width], w [n, c, window[0], window[1]].
typedef struct picture {
  int64_t images, c, height, width, n, window[2], stride, dilation, pads;
  double density;
  bool twice, dynamic; // a second convolution reads the weight, too; images are a symbol
} picture;

static void picture_text(const picture *p, const float *w, const float *bias, sd_str *s) {
  char images[24], attrs[200];
  long long c = p->c, n = p->n, st = p->stride, d = p->dilation, pad = p->pads;
  snprintf(images, sizeof images, p->dynamic ? "N" : "%lld", (long long)p->images);
  snprintf(attrs, sizeof attrs, "{pads=[%lld, %lld, %lld, %lld], strides=[%lld, %lld], dilations=[%lld, %lld]}", pad, pad, pad, pad, st, st, d, d);
  sd_strf(s, "module ir=8 opset=17\n%sgraph \"g\" (%%0 \"x\": f32[%s,%lld,%lld,%lld]) {\n", p->dynamic ? "symbol N in [2, 64]\n" : "", images, c,
          (long long)p->height, (long long)p->width);
  sd_strf(s, "  %%1 = const f32[%lld,%lld,%lld,%lld] ", n, c, (long long)p->window[0], (long long)p->window[1]);
  hex(s, w, n * c * p->window[0] * p->window[1]);
  sd_strf(s, "\n  %%2 = const f32[%lld] ", n);
  hex(s, bias, n);
  sd_strf(s, "\n  %%3 = Conv(%%0, %%1, %%2) %s\n", attrs);
  if (p->twice) sd_strf(s, "  %%4 = Neg(%%0)\n  %%5 = Conv(%%4, %%1) %s\n  %%6 = Mul(%%3, %%5)\n", attrs);
  sd_strf(s, "  return %%%d\n}\n", p->twice ? 6 : 3);
}

static int64_t outputs_along(const picture *p, int64_t size, int i) {
  return (size + 2 * p->pads - (p->window[i] - 1) * p->dilation - 1) / p->stride + 1;
}

// What -O0 gives, where every weight is multiplied.
static void compare_pictures(const picture *p) {
  static const char *const isas[] = {"avx2", "avx512"};
  layer shape = {.kind = CONV, .images = p->images, .rows = p->height * p->width, .k = p->c, .n = p->n};
  int64_t taps = p->window[0] * p->window[1], count = p->images * p->n * outputs_along(p, p->height, 0) * outputs_along(p, p->width, 1);
  float *x = numbers(1, shape.images * shape.rows * shape.k, 1), *w = numbers(2, p->n * p->c * taps, 1.0f / sqrtf((float)(p->c * taps)));
  float *bias = numbers(3, p->n, 1), *y = numbers(4, count, 1), *z = numbers(5, count, 1);
  uint64_t seed = 17;
  sd_str text = {0};
  for (int64_t i = 0; i < p->n * p->c * taps; i++)
    if (unit(&seed) >= p->density) w[i] = 0;
  picture_text(p, w, bias, &text);
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 4, .dims = {p->images, p->c, p->height, p->width}};
  for (int i = 0; i < 2; i++) {
    double most = 0;
    if (!used(isas, i)) continue;
    run_text(text.p, "0", isas[i], "1", 1, &d, &x, y, count);
    run_text(text.p, "3", isas[i], "1", 1, &d, &x, z, count);
    for (int64_t j = 0; j < count; j++)
      if (!(fabs((double)y[j] - z[j]) <= most)) most = fabs((double)y[j] - z[j]);
    CHECK(most < 5e-6);
    if (!(most < 5e-6)) printf("%s: off by %g\n", isas[i], most);
    run_text(text.p, "3", isas[i], "3", 1, &d, &x, y, count);
    CHECK(memcmp(y, z, (size_t)count * sizeof *y) == 0);
  }
  sd_str_free(&text);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(bias), sd_free_aligned(y), sd_free_aligned(z);
}

static void windows(void) {
  compare_pictures(&(picture){.images = 1, .c = 64, .height = 14, .width = 14, .n = 128, .window = {3, 3}, .stride = 1, .dilation = 1, .pads = 1, .density = 0.1});
  compare_pictures(&(picture){.images = 1, .c = 96, .height = 7, .width = 7, .n = 96, .window = {3, 3}, .stride = 1, .dilation = 1, .pads = 1, .density = 0.1});
}
static void windows_strides(void) {
  compare_pictures(&(picture){.images = 3, .c = 64, .height = 19, .width = 25, .n = 70, .window = {3, 2}, .stride = 2, .dilation = 1, .pads = 1, .density = 0.15});
  compare_pictures(&(picture){.images = 2, .c = 192, .height = 28, .width = 28, .n = 150, .window = {1, 1}, .stride = 2, .dilation = 1, .density = 0.15});
}
static void windows_dilations(void) {
  compare_pictures(&(picture){.images = 2, .c = 32, .height = 20, .width = 33, .n = 64, .window = {3, 3}, .stride = 1, .dilation = 2, .pads = 2, .density = 0.1, .dynamic = true});
}
static void windows_twice(void) {
  compare_pictures(&(picture){.images = 1, .c = 64, .height = 16, .width = 16, .n = 64, .window = {3, 3}, .stride = 2, .dilation = 1, .pads = 1, .density = 0.1, .twice = true});
}

int main(void) {
  RUN(windows);
  RUN(windows_strides);
  RUN(windows_dilations);
  RUN(windows_twice);
  RUN(whole);
  RUN(rests);
  RUN(four);
  RUN(blocks);
  RUN(empty);
  RUN(gemm);
  RUN(conv);
  RUN(conv_blocks);
  RUN(any_rows);
  RUN(any_images);
  RUN(many_rows);
  RUN(seven_vectors);
  RUN(few_rows);
  return check_end();
}
