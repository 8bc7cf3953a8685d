// Products of 8-bit integers: every sum is exact, for all instruction sets of this machine, all pairs of signs, zero points at
// both ends, borders, numbers of steps that are a multiple of four and not, and the largest sums; kernels hold the instruction that
// they are made for.
#include "codegen/codegen.h"
#include "runtime/base/alloc.h"
#include "tests/unit/emit_run.h"
#include "tests/unit/isa_run.h"
#include "tests/unit/test.h"

enum { NONE = -1000 };

typedef struct product {
  int64_t rows, steps, columns;                      // of a matrix product; steps 0: a convolution
  int64_t channels, height, width, out, kernel, stride, pad, group;
  bool x_signed, w_signed;
  int zx, zw;                                        // NONE: no zero point
  bool extreme, small;                               // all factors at their ends; weights at most a fourth of what they can be
} product;

static const char *isas[ISA_MOST];
static int n_isas;

// ---- numbers ----
static int low_of(bool is_signed) { return is_signed ? -128 : 0; }

static int *numbers(uint64_t seed, int64_t count, bool is_signed, bool extreme) {
  int *v = sd_alloc_aligned((size_t)count * sizeof *v + 64);
  for (int64_t i = 0; i < count; i++) {
    uint64_t r = test_random(&seed);
    v[i] = low_of(is_signed) + (int)(extreme ? (r % 8 ? 255 : 0) : r % 256);
  }
  return v;
}

static int64_t out_size(int64_t in, const product *p) { return (in + 2 * p->pad - p->kernel) / p->stride + 1; }
static int64_t x_count(const product *p) { return p->steps ? p->rows * p->steps : p->channels * p->height * p->width; }
static int64_t w_count(const product *p) {
  return p->steps ? p->steps * p->columns : p->out * (p->channels / p->group) * p->kernel * p->kernel;
}
static int64_t y_count(const product *p) {
  return p->steps ? p->rows * p->columns : p->out * out_size(p->height, p) * out_size(p->width, p);
}

// ---- the sums as they are defined ----
static int64_t conv_sum(const product *p, const int *x, const int *w, int64_t i, int zx, int zw) {
  int64_t ow = out_size(p->width, p), oh = out_size(p->height, p), col = i % ow, row = i / ow % oh, o = i / ow / oh, sum = 0;
  int64_t in = p->channels / p->group, k = p->kernel, first = o / (p->out / p->group) * in;
  for (int64_t t = 0; t < in * k * k; t++) {
    int64_t r = row * p->stride + t / k % k - p->pad, c = col * p->stride + t % k - p->pad;
    if (r < 0 || c < 0 || r >= p->height || c >= p->width) continue;
    sum += (int64_t)(x[((first + t / k / k) * p->height + r) * p->width + c] - zx) * (w[o * in * k * k + t] - zw);
  }
  return sum;
}

static int64_t sum_of(const product *p, const int *x, const int *w, int64_t i) {
  int zx = p->zx == NONE ? 0 : p->zx, zw = p->zw == NONE ? 0 : p->zw;
  if (!p->steps) return conv_sum(p, x, w, i, zx, zw);
  int64_t row = i / p->columns, col = i % p->columns, sum = 0;
  for (int64_t k = 0; k < p->steps; k++) sum += (int64_t)(x[row * p->steps + k] - zx) * (w[k * p->columns + col] - zw);
  return sum;
}

// ---- the graph ----
static const char *type_of(bool is_signed) { return is_signed ? "i8" : "u8"; }

static void graph_text(const product *p, const int *w, sd_str *s) {
  sd_strf(s, "module ir=8 opset=17\ngraph \"g\" (%%0 \"x\": %s", type_of(p->x_signed));
  if (p->steps) sd_strf(s, "[%lld,%lld]", (long long)p->rows, (long long)p->steps);
  else sd_strf(s, "[1,%lld,%lld,%lld]", (long long)p->channels, (long long)p->height, (long long)p->width);
  sd_strf(s, ") {\n  %%1 = const %s", type_of(p->w_signed));
  if (p->steps) sd_strf(s, "[%lld,%lld] hex<", (long long)p->steps, (long long)p->columns);
  else sd_strf(s, "[%lld,%lld,%lld,%lld] hex<", (long long)p->out, (long long)(p->channels / p->group), (long long)p->kernel, (long long)p->kernel);
  for (int64_t i = 0; i < w_count(p); i++) sd_strf(s, "%02x", (unsigned)w[i] & 255);
  sd_strf(s, ">\n");
  if (p->zx != NONE) sd_strf(s, "  %%2 = const %s[] dense<%d>\n", type_of(p->x_signed), p->zx);
  if (p->zw != NONE) sd_strf(s, "  %%3 = const %s[] dense<%d>\n", type_of(p->w_signed), p->zw);
  sd_strf(s, "  %%4 = %sInteger(%%0, %%1, %s, %s)", p->steps ? "MatMul" : "Conv", p->zx == NONE ? "_" : "%2", p->zw == NONE ? "_" : "%3");
  if (!p->steps)
    sd_strf(s, " {group=%lld, pads=[%lld, %lld, %lld, %lld], strides=[%lld, %lld]}", (long long)p->group, (long long)p->pad,
            (long long)p->pad, (long long)p->pad, (long long)p->pad, (long long)p->stride, (long long)p->stride);
  sd_strf(s, "\n  return %%4\n}\n");
}

static sard_tensor *tensor(sard_context *ctx, const product *p, const int *x) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = p->x_signed ? SD_I8 : SD_U8, .rank = p->steps ? 2 : 4};
  sard_tensor *t = NULL;
  const int64_t matrix[2] = {p->rows, p->steps}, image[4] = {1, p->channels, p->height, p->width};
  memcpy(d.dims, p->steps ? matrix : image, (size_t)d.rank * sizeof *d.dims);
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  for (int64_t i = 0; t && i < x_count(p); i++) ((uint8_t *)sard_tensor_data(t, NULL))[i] = (uint8_t)x[i];
  return t;
}

// Numbers of the result that are not as defined; -1 where it could not run.
static int64_t wrong(const product *p, const char *isa, const char *opt) {
  int *x = numbers(1, x_count(p), p->x_signed, p->extreme), *w = numbers(2, w_count(p), p->w_signed, p->extreme);
  for (int64_t i = 0; p->small && i < w_count(p); i++) w[i] /= 4;
  isa_run r;
  sard_tensor *in = NULL, *out = NULL;
  sd_str text = {0};
  int64_t bad = -1;
  graph_text(p, w, &text);
  sard_status *st = isa_open(&r, text.p, isa, "1", opt);
  if (!st) in = tensor(r.ctx, p, x), st = sard_session_run(r.s, &in, 1, &out, 1);
  if (st) printf("%s\n", sard_status_text(st, 0));
  else bad = 0;
  sard_status_free(st);
  const int32_t *y = out ? sard_tensor_data(out, NULL) : NULL;
  for (int64_t i = 0; y && i < y_count(p); i++) bad += y[i] != (int32_t)sum_of(p, x, w, i);
  sard_tensor_free(in), sard_tensor_free(out), isa_close(&r);
  sd_str_free(&text), sd_free_aligned(x), sd_free_aligned(w);
  return bad;
}

static void all_isas(product p) {
  for (int i = 0; i < n_isas; i++) {
    int64_t bad = wrong(&p, isas[i], "3");
    CHECK(bad == 0);
    if (bad)
      printf("%s: %lld of %lld wrong: %lld x %lld x %lld, %d channels, %s by %s, zero points %d and %d\n", isas[i], (long long)bad,
             (long long)y_count(&p), (long long)p.rows, (long long)p.steps, (long long)p.columns, (int)p.channels,
             type_of(p.x_signed), type_of(p.w_signed), p.zx, p.zw);
  }
  CHECK(wrong(&p, "baseline", "0") == 0);
}

// ---- cases ----
static void sizes(void) {
  for (int64_t k = 1; k <= 9; k++) all_isas((product){.rows = 3, .steps = k, .columns = 21, .w_signed = true, .zx = NONE, .zw = NONE});
  all_isas((product){.rows = 1, .steps = 67, .columns = 100, .w_signed = true, .zx = NONE, .zw = NONE});
  all_isas((product){.rows = 37, .steps = 130, .columns = 67, .w_signed = true, .zx = NONE, .zw = NONE});
  all_isas((product){.rows = 29, .steps = 64, .columns = 3, .w_signed = true, .zx = NONE, .zw = NONE});
  for (int64_t rows = 7; rows <= 28; rows *= 2) // rows and lanes over
    all_isas((product){.rows = rows, .steps = 35, .columns = 18 + rows, .w_signed = true, .zx = NONE, .zw = NONE, .extreme = rows == 14});
}

// Whole turns in steps of one instruction on matrix registers, of one register of rows to five, heights that differ, rows over.
static void matrices(void) {
  static const int64_t rows[] = {4, 5, 16, 17, 33, 49, 63, 64, 70, 100}, products = 400000; // fewer are left to vectors
  for (int i = 0; i < 10; i++)
    all_isas((product){.rows = rows[i], .steps = i % 2 ? 64 : 144, .columns = products / rows[i] / (i % 2 ? 64 : 144) + 1 + i, .x_signed = i % 3 == 0, .w_signed = i % 4 > 0, .zx = NONE, .zw = NONE, .extreme = i == 3});
  product p = {.channels = 32, .height = 7, .width = 7, .out = 33, .kernel = 3, .stride = 1, .pad = 1, .group = 1, .w_signed = true, .zx = 9, .zw = NONE};
  all_isas(p); // rows of several lines of an image
  p.height = 15, p.width = 14, p.out = 96;
  all_isas(p);
  p.stride = 2, p.height = 9, p.width = 57;
  all_isas(p);
  p.channels = 3, p.kernel = 7, p.pad = 3, p.height = 34, p.width = 34;
  all_isas(p); // 21 steps of 24 in a row of the window, of which the last ones are read in the image
  p.height = 35, p.width = 35;
  all_isas(p); // and behind it
}

static void signs_and_zero_points(void) {
  static const int zeros[] = {NONE, 0, 5, 255};
  for (int t = 0; t < 4; t++)
    for (int zx = 0; zx < 4; zx++)
      for (int zw = 0; zw < 4; zw++) {
        if (zx == 1 || (zw == 2 && zx == 2)) continue;
        product p = {.rows = 5, .steps = 18, .columns = 19, .x_signed = t & 1, .w_signed = t >> 1, .zx = zeros[zx], .zw = zeros[zw]};
        if (p.zx != NONE) p.zx += low_of(p.x_signed);
        if (p.zw != NONE) p.zw += low_of(p.w_signed);
        int64_t bad = wrong(&p, isas[n_isas - 1], "3");
        CHECK(bad == 0);
        if (bad) printf("%s by %s, zero points %d and %d: %lld wrong\n", type_of(p.x_signed), type_of(p.w_signed), p.zx, p.zw, (long long)bad);
      }
}

// 255 * 127 and -128 in every place: what a product of pairs that saturates would lose.
static void extremes(void) {
  for (int t = 0; t < 4; t++)
    all_isas((product){.rows = 4, .steps = 1030, .columns = 33, .x_signed = t & 1, .w_signed = t >> 1, .zx = NONE, .zw = NONE, .extreme = true});
}

static void convolutions(void) {
  product p = {.channels = 5, .height = 9, .width = 11, .out = 19, .kernel = 3, .stride = 1, .pad = 1, .group = 1, .w_signed = true, .zx = 9, .zw = NONE};
  all_isas(p);
  p.x_signed = true, p.zx = 127, p.stride = 2;
  all_isas(p);
  p.channels = 64, p.kernel = 1, p.pad = 0, p.stride = 1, p.zx = -128, p.extreme = true;
  all_isas(p);
  p = (product){.channels = 3, .height = 12, .width = 12, .out = 16, .kernel = 5, .stride = 2, .pad = 2, .group = 1, .zx = 255, .zw = 3};
  all_isas(p); // unsigned weights with a zero point: sums of windows
  p = (product){.channels = 20, .height = 8, .width = 8, .out = 20, .kernel = 3, .stride = 1, .pad = 1, .group = 20, .w_signed = true, .zx = 200, .zw = NONE, .extreme = true};
  all_isas(p); // depthwise
  p.channels = 8, p.out = 12, p.group = 2, p.extreme = false;
  all_isas(p);
  p.w_signed = false, p.zw = 17; // groups with a zero point of the weights
  all_isas(p);
  p = (product){.channels = 3, .height = 31, .width = 34, .out = 32, .kernel = 7, .stride = 2, .pad = 3, .group = 1, .w_signed = true, .zx = 114, .zw = NONE, .small = true};
  all_isas(p); // a row of a window is one place
  p.channels = 6, p.kernel = 3, p.stride = 1, p.pad = 0, p.extreme = true;
  all_isas(p);
}

// 3x3, in Winograd's form where bytes are multiplied by two instructions: whole tiles and not, the largest sums, images of a batch alike.
static void fewer_products(void) {
  product p = {.channels = 64, .height = 14, .width = 17, .out = 48, .kernel = 3, .stride = 1, .pad = 1, .group = 1, .w_signed = true, .zx = 3, .zw = NONE};
  all_isas(p);
  p.extreme = true, p.pad = 0, p.zx = NONE, p.channels = 300, p.height = 9, p.width = 8;
  all_isas(p);
  p.x_signed = true, p.zx = 127, p.pad = 1, p.channels = 37, p.out = 43;
  all_isas(p);
}

// ---- code ----
// vpdpbusd: opcode 50 of map 2 behind an EVEX prefix, or behind a VEX prefix of three bytes. tdpbusd: opcode 5e of map 2 behind
// a VEX prefix of 128 bits with 66.
static bool has_dot(const er_code *c, bool matrix) {
  const uint8_t *b = c->o.data;
  for (uint64_t i = 0; i + 6 < c->o.size; i++) {
    if (matrix && b[i] == 0xc4 && (b[i + 1] & 31) == 2 && (b[i + 2] & 7) == 1 && b[i + 3] == 0x5e) return true;
    if (matrix) continue;
    if (b[i] == 0x62 && (b[i + 1] & 7) == 2 && (b[i + 2] & 3) == 1 && b[i + 4] == 0x50) return true;
    if (b[i] == 0xc4 && (b[i + 1] & 31) == 2 && (b[i + 2] & 3) == 1 && b[i + 3] == 0x50) return true;
  }
  return false;
}

static void instruction(void) {
  static const char text[] =
      "kernel \"k\" {\n axis a0 \"i\" (630) unroll 7\n axis a1 \"j\" (32) vec 2\n axis a2 \"k_o\" (5)\n axis a3 \"k_i\" (4) unroll 0\n"
      " in b0 u8 [12600]\n in b1 i8 [640]\n out b2 i32 [20160]\n"
      " nest a0 a1 {\n  b2[{(32)a0 + (1)a1 + (0)}] = sum(a2 a3: (cast.i32(b0[{(20)a0 + (4)a2 + (1)a3 + (0)}]) * "
      "cast.i32(b1[{(128)a2 + (4)a1 + (1)a3 + (0)}])))\n }\n}\n";
  for (int i = 0; i < n_isas; i++) {
    sd_arena *a = sd_arena_new();
    sd_kernel *k = NULL;
    er_code c;
    const sd_isa *isa = sd_isa_find(isas[i]);
    CHECK_OK(sd_kernel_parse(a, sd_dimtab_new(a), text, &k));
    CHECK_OK(er_compile(k, isa, 3, &c));
    CHECK(has_dot(&c, isa->matrix) == (isa->dot == 4));
    er_mem x = er_alloc(12600), w = er_alloc(640), y = er_alloc(20160 * 4), want = er_alloc(20160 * 4);
    uint64_t seed = 3;
    for (int j = 0; j < 12600; j++) x.data[j] = (uint8_t)test_random(&seed);
    for (int j = 0; j < 640; j++) w.data[j] = (uint8_t)test_random(&seed);
    er_run(&c, (void *[]){x.data, w.data, y.data}, NULL, 1);
    CHECK_OK(sd_kernel_eval(k, (void *[]){x.data, w.data, want.data}, er_symbol, NULL));
    CHECK(memcmp(y.data, want.data, 20160 * 4) == 0);
    er_release(&x), er_release(&w), er_release(&y), er_release(&want);
    sd_arena_free(a);
  }
}

int main(void) {
  n_isas = isa_here(true, isas);
  RUN(sizes);
  RUN(matrices);
  RUN(signs_and_zero_points);
  RUN(extremes);
  RUN(convolutions);
  RUN(fewer_products);
  RUN(instruction);
  return check_end();
}
