// Products of bytes with weights of which most blocks are 0, and with weights that are taken in pairs: exactly the sums of all, on
// all instruction sets and for any number of threads.
#include "runtime/base/alloc.h"
#include "runtime/cpu.h"
#include "sard/sard.h"
#include "sard/sard_compile.h"
#include "tests/unit/test.h"

typedef struct layer {
  int64_t images, h, w, c, n;            // a product: h = 1, w rows
  int64_t taps, stride, dilation, pad;   // taps 0: a product
  bool open;                           // images are a symbol
  bool dense;                          // no weight is left out, some are as large as can be
  int plain;                           // and few of these are side by side; 2: all are small
} layer;

static uint8_t byte(uint64_t *seed) { return (uint8_t)(test_random(seed) >> 40); }

// w [taps, taps, c, n]: one block of 4 inputs and 16 outputs in five is left; block of outputs 1 has none.
static int8_t *weights(const layer *l) {
  int64_t taps = l->taps ? l->taps * l->taps : 1;
  uint64_t seed = 7;
  int8_t *w = sd_alloc_aligned((size_t)(taps * l->c * l->n) + 64);
  for (int64_t i = 0; i < taps * l->c * l->n; i++) {
    int64_t k = i / l->n, o = i % l->n;
    uint64_t block = (uint64_t)(k / 4 * 7919 + o / 16);
    bool keep = (test_random(&block) >> 20) % 5 == 0 && o / 16 != 1;
    int8_t v = (int8_t)byte(&seed);
    w[i] = keep ? v : 0;
    if (l->plain == 2) w[i] = v / 8;
    else if (l->plain) w[i] = (int8_t)(k / 2 % 17 == 0 && o % 16 == 3 ? o % 32 == 3 ? 127 : -128 : v / 4);
    else if (l->dense) w[i] = (int8_t)(i % 29 == 0 ? 127 : i % 31 == 0 ? -128 : v / 2);
  }
  return w;
}

static int64_t out_size(const layer *l, int64_t in) {
  return l->taps ? (in + 2 * l->pad - (l->taps - 1) * l->dilation - 1) / l->stride + 1 : in;
}

// Images have channels first in the model.
static int64_t x_at(const layer *l, int64_t i, int64_t y, int64_t x, int64_t c) {
  return l->taps ? ((i * l->c + c) * l->h + y) * l->w + x : ((i * l->h + y) * l->w + x) * l->c + c;
}

static int32_t *direct(const layer *l, const uint8_t *x, const int8_t *w) {
  int64_t oh = out_size(l, l->h), ow = out_size(l, l->w), taps = l->taps ? l->taps : 1;
  int32_t *out = sd_alloc_aligned((size_t)(l->images * oh * ow * l->n) * 4 + 64);
  for (int64_t e = 0; e < l->images * oh * ow * l->n; e++) {
    int64_t o = e % l->n, p = e / l->n, i = p / ow / oh, sum = 0;
    for (int64_t t = 0; t < taps * taps; t++) {
      int64_t iy = p / ow % oh * (l->taps ? l->stride : 1) + t / taps * l->dilation - l->pad,
              ix = p % ow * (l->taps ? l->stride : 1) + t % taps * l->dilation - l->pad;
      if (iy < 0 || iy >= l->h || ix < 0 || ix >= l->w) continue;
      for (int64_t c = 0; c < l->c; c++) sum += (int64_t)x[x_at(l, i, iy, ix, c)] * w[(t * l->c + c) * l->n + o];
    }
    out[l->taps ? ((i * l->n + o) * oh + p / ow % oh) * ow + p % ow : e] = (int32_t)sum;
  }
  return out;
}

static void hex(sd_str *s, const int8_t *v, int64_t count) {
  sd_str_put(s, "hex<");
  for (int64_t i = 0; i < count; i++) sd_strf(s, "%02x", (uint8_t)v[i]);
  sd_str_put(s, ">");
}

static void graph_text(const layer *l, const int8_t *w, sd_str *s) {
  long long h = l->h, wide = l->w, c = l->c, n = l->n, k = l->taps, pad = l->pad;
  char images[24];
  snprintf(images, sizeof images, l->open ? "N" : "%lld", (long long)l->images);
  sd_strf(s, "module ir=8 opset=17\n%sgraph \"g\" (%%0 \"x\": u8[%s,", l->open ? "symbol N in [1, 64]\n" : "", images);
  if (k) sd_strf(s, "%lld,%lld,%lld]) {\n  %%2 = const i8[%lld,%lld,%lld,%lld] ", c, h, wide, k, k, c, n);
  else sd_strf(s, "%lld,%lld]) {\n  %%2 = const i8[%lld,%lld] ", wide, c, c, n);
  hex(s, w, (k ? k * k : 1) * c * n);
  if (k)
    sd_strf(s,
            "\n  %%3 = Transpose(%%2) {perm=[3, 2, 0, 1]}\n  %%4 = ConvInteger(%%0, %%3) {pads=[%lld, %lld, %lld, "
            "%lld], strides=[%lld, %lld], dilations=[%lld, %lld]}\n  return %%4\n}\n",
            pad, pad, pad, pad, (long long)l->stride, (long long)l->stride, (long long)l->dilation,
            (long long)l->dilation);
  else sd_str_put(s, "\n  %4 = MatMulInteger(%0, %2)\n  return %4\n}\n");
}

static sard_tensor *input(sard_context *ctx, const sard_tensor_desc *d, const void *x) {
  sard_tensor *t = NULL;
  int64_t bytes = d->dtype == SARD_U8 ? 1 : 4;
  for (int i = 0; i < d->rank; i++) bytes *= d->dims[i];
  CHECK_OK(sard_tensor_new(ctx, d, &t));
  if (t) memcpy(sard_tensor_data(t, NULL), x, (size_t)bytes);
  return t;
}

// level: of optimization.
static void run_text(const char *text, const char *isa, const char *threads, const char *level, const sard_tensor_desc *d, const void *x, void *y, int64_t bytes) {
  sard_options *co = sard_options_new(), *mo = sard_options_new();
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_tensor *in = NULL, *out = NULL;
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  CHECK_OK(sard_options_set(co, "threads", threads));
  CHECK_OK(sard_options_set(co, "isa", isa));
  CHECK_OK(sard_options_set(mo, "opt", level));
  CHECK_OK(sard_context_new(co, &ctx));
  sard_compiler_use(ctx);
  CHECK_OK(sard_compile(ctx, &src, mo, &m, NULL));
  if (m) CHECK_OK(sard_session_new(m, NULL, &s));
  memset(y, 0xff, (size_t)bytes);
  if (s) {
    in = input(ctx, d, x);
    CHECK_OK(sard_session_run(s, &in, 1, &out, 1));
    if (out) memcpy(y, sard_tensor_data(out, NULL), (size_t)bytes);
  }
  sard_tensor_free(in), sard_tensor_free(out);
  sard_session_free(s), sard_model_free(m), sard_context_free(ctx);
  sard_options_free(co), sard_options_free(mo);
}

static const char *const isas[] = {"avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
enum { N_ISAS = sizeof isas / sizeof *isas };

// Short tests take the first instruction set, whose products of bytes go in pairs: the others differ in what LLVM does.
static bool used(int i) { return sd_cpu_has_isa(isas[i], NULL) && (i == 0 || !check_short()); }

static void compare(const layer *l) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_U8, .rank = l->taps ? 4 : 3};
  int64_t image[4] = {l->images, l->c, l->h, l->w}, rows[3] = {l->images, l->w, l->c};
  memcpy(d.dims, l->taps ? image : rows, (size_t)d.rank * sizeof *d.dims);
  int64_t count = l->images * l->h * l->w * l->c, bytes = l->images * out_size(l, l->h) * out_size(l, l->w) * l->n * 4;
  uint64_t seed = 3;
  uint8_t *x = sd_alloc_aligned((size_t)count + 64);
  for (int64_t i = 0; i < count; i++) x[i] = l->dense && i % 3 ? 255 : byte(&seed);
  int8_t *w = weights(l);
  int32_t *want = direct(l, x, w), *y = sd_alloc_aligned((size_t)bytes + 64);
  sd_str text = {0};
  graph_text(l, w, &text);
  for (int i = 0; i < N_ISAS; i++) {
    if (!used(i)) continue;
    for (int t = 1; t <= 3; t += 2) {
      run_text(text.p, isas[i], t == 1 ? "1" : "3", "3", &d, x, y, bytes);
      CHECK(memcmp(y, want, (size_t)bytes) == 0);
      if (memcmp(y, want, (size_t)bytes) != 0) printf("%s differs\n", isas[i]);
    }
  }
  sd_str_free(&text);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(want), sd_free_aligned(y);
}

static void product(void) { compare(&(layer){.images = 1, .h = 1, .w = 67, .c = 128, .n = 96, .dilation = 1}); }
static void one_row(void) { compare(&(layer){.images = 1, .h = 1, .w = 1, .c = 260, .n = 64, .dilation = 1}); }
static void any_rows(void) { compare(&(layer){.images = 3, .h = 1, .w = 9, .c = 64, .n = 48, .dilation = 1, .open = true}); }
static void image(void) {
  compare(&(layer){.images = 2, .h = 14, .w = 14, .c = 64, .n = 64, .taps = 3, .stride = 1, .dilation = 1, .pad = 1});
}
static void small_image(void) {
  compare(&(layer){.images = 1, .h = 7, .w = 7, .c = 128, .n = 80, .taps = 3, .stride = 1, .dilation = 1, .pad = 1});
}
static void strided(void) {
  compare(&(layer){.images = 1, .h = 19, .w = 23, .c = 64, .n = 64, .taps = 3, .stride = 2, .dilation = 1, .pad = 1});
}
static void dilated(void) {
  compare(&(layer){.images = 3, .h = 17, .w = 12, .c = 32, .n = 64, .taps = 3, .stride = 1, .dilation = 2, .pad = 2, .open = true});
}
static void narrow(void) { // taps of one pixel, every other one
  compare(&(layer){.images = 1, .h = 28, .w = 28, .c = 128, .n = 64, .taps = 1, .stride = 2, .dilation = 1});
}

// The last inputs are read with some before them; a block of outputs alone.
static void pairs(void) {
  compare(&(layer){.images = 1, .h = 1, .w = 67, .c = 136, .n = 96, .dilation = 1, .dense = true});
  compare(&(layer){.images = 1, .h = 1, .w = 40, .c = 64, .n = 16, .dilation = 1, .dense = true});
  compare(&(layer){.images = 3, .h = 1, .w = 9, .c = 64, .n = 48, .dilation = 1, .open = true, .dense = true});
  compare(&(layer){.images = 2, .h = 14, .w = 14, .c = 32, .n = 64, .taps = 3, .stride = 1, .dilation = 1, .pad = 1, .dense = true});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 20, .n = 32, .taps = 3, .stride = 2, .dilation = 1, .pad = 1, .dense = true});
}

// Few weights do not fit beside their neighbours: the inputs as they stand.
static void plain(void) {
  compare(&(layer){.images = 1, .h = 1, .w = 67, .c = 136, .n = 96, .dilation = 1, .dense = true, .plain = 1});
  compare(&(layer){.images = 3, .h = 1, .w = 9, .c = 12, .n = 48, .dilation = 1, .open = true, .dense = true, .plain = 1});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 20, .n = 32, .taps = 3, .stride = 2, .dilation = 1, .pad = 1, .dense = true, .plain = 1});
  compare(&(layer){.images = 1, .h = 1, .w = 67, .c = 136, .n = 96, .dilation = 1, .dense = true, .plain = 2});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 20, .n = 32, .taps = 3, .stride = 2, .dilation = 1, .pad = 1, .dense = true, .plain = 2});
}

// Outputs that do not fill the last block, or not even a vector.
static void odd_outputs(void) {
  compare(&(layer){.images = 1, .h = 1, .w = 67, .c = 64, .n = 40, .dilation = 1, .dense = true});
  compare(&(layer){.images = 1, .h = 1, .w = 40, .c = 64, .n = 8, .dilation = 1, .dense = true});
  compare(&(layer){.images = 3, .h = 1, .w = 9, .c = 64, .n = 53, .dilation = 1, .open = true, .dense = true, .plain = 1});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 24, .n = 24, .taps = 3, .stride = 2, .dilation = 1, .pad = 1, .dense = true});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 21, .n = 20, .taps = 3, .stride = 2, .dilation = 1, .pad = 1, .dense = true});
  compare(&(layer){.images = 1, .h = 15, .w = 15, .c = 32, .n = 72, .taps = 1, .stride = 2, .dilation = 1, .dense = true, .plain = 2});
}

static void lstm_text(const layer *l, int64_t inputs, sd_str *s) {
  layer first = {.c = inputs, .n = l->n, .dense = true, .plain = 1};
  int8_t *w = weights(&first), *r = weights(l);
  sd_strf(s, "module ir=8 opset=17\ngraph \"g\" (%%0 \"x\": f32[7,%lld,%lld]) {\n", (long long)l->w, (long long)inputs);
  sd_strf(s, "  %%1 = const i64[3] dense<2, 1, 1>\n  %%2 = const f32[2] dense<0.002, 0.003>\n  %%3 = const i8[2] dense<0, 0>\n  %%4 = const i8[1,%lld,%lld] ",
          (long long)inputs, (long long)l->n);
  hex(s, w, inputs * l->n);
  sd_strf(s, "\n  %%5 = const i8[1,%lld,%lld] ", (long long)l->c, (long long)l->n);
  hex(s, r, l->c * l->n);
  sd_strf(s, "\n  %%6 = Tile(%%4, %%1)\n  %%7 = Tile(%%5, %%1)\n  %%8 = com.microsoft.DynamicQuantizeLSTM(%%0, %%6, %%7, _, _, _, _, _, %%2, %%3, %%2, %%3) "
             "{hidden_size=%lld, direction=\"bidirectional\"}\n  return %%8\n}\n", (long long)l->c);
  sd_free_aligned(w), sd_free_aligned(r);
}

// The bits that dense products give.
static void lstm_with(int64_t batch, int64_t hidden, int64_t inputs, int plain) {
  layer l = {.images = 1, .h = 1, .w = batch, .c = hidden, .n = 4 * hidden, .dense = true, .plain = plain};
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 3, .dims = {7, batch, inputs}};
  int64_t count = 7 * batch * inputs, bytes = 7 * 2 * batch * hidden * 4;
  uint64_t seed = 5;
  float *x = sd_alloc_aligned((size_t)count * 4 + 64), *want = sd_alloc_aligned((size_t)bytes + 64), *y = sd_alloc_aligned((size_t)bytes + 64);
  for (int64_t i = 0; i < count; i++) x[i] = (float)byte(&seed) / 64 - 2;
  sd_str text = {0};
  lstm_text(&l, inputs, &text);
  for (int i = 0; i < N_ISAS; i++) {
    if (!used(i)) continue;
    run_text(text.p, isas[i], "1", "1", &d, x, want, bytes);
    run_text(text.p, isas[i], "2", "3", &d, x, y, bytes);
    CHECK(memcmp(y, want, (size_t)bytes) == 0);
  }
  sd_str_free(&text);
  sd_free_aligned(x), sd_free_aligned(want), sd_free_aligned(y);
}

static void lstm(void) {
  lstm_with(1, 64, 20, 1);
  lstm_with(3, 32, 16, 1);
  lstm_with(1, 32, 16, 0);
  lstm_with(1, 12, 16, 1);
  lstm_with(1, 64, 16, 2);
  lstm_with(3, 32, 16, 2);
}

int main(void) {
  RUN(product);
  RUN(one_row);
  RUN(any_rows);
  RUN(image);
  RUN(small_image);
  RUN(strided);
  RUN(dilated);
  RUN(narrow);
  RUN(pairs);
  RUN(plain);
  RUN(odd_outputs);
  RUN(lstm);
  return check_end();
}
