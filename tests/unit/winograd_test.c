// Winograd convolutions: exact transforms, and results near those of the direct form for all kinds of sizes.
#include <math.h>

#include "ir/ops/winograd.h"
#include "runtime/base/alloc.h"
#include "sard/sard.h"
#include "sard/sard_compile.h"
#include "tests/unit/test.h"

// For every m: sum over points of At[i][p] * G[p][k] * Bt[p][j] is 1 where j = i + k, else 0; Bt and At are exact in f32.
static void matrices(void) {
  for (int m = 2; m <= 4; m += 2) {
    for (int i = 0; i < m; i++)
      for (int k = 0; k < 3; k++)
        for (int j = 0; j < m + 2; j++) {
          double sum = 0;
          for (int p = 0; p < m + 2; p++) sum += sd_winograd_at(m, i, p) * sd_winograd_g(m, p, k) * sd_winograd_bt(m, p, j);
          CHECK(fabs(sum - (j == i + k)) < 1e-14);
        }
    for (int p = 0; p < m + 2; p++) {
      for (int j = 0; j < m + 2; j++) CHECK(sd_winograd_bt(m, p, j) == (double)(float)sd_winograd_bt(m, p, j));
      for (int i = 0; i < m; i++) CHECK(sd_winograd_at(m, i, p) == (double)(float)sd_winograd_at(m, i, p));
    }
  }
}

static void choice(void) {
  sd_winograd_shape s = {.n = 1, .oh = 56, .ow = 56, .depth = 1, .ic = 64, .oc = 64, .lanes = 16, .registers = 32};
  sd_winograd_plan p = sd_winograd_choose(4, &s);
  CHECK(p.cost > 0 && p.cost < sd_winograd_direct(&s) / 2);
  CHECK(p.block_n == 1 && p.groups >= 1 && 14 % p.block_r == 0 && 14 % p.block_c == 0);
  s = (sd_winograd_shape){.n = 16, .oh = 7, .ow = 7, .depth = 1, .ic = 64, .oc = 64, .lanes = 16, .registers = 32}; // small images together
  CHECK(sd_winograd_choose(4, &s).block_n > 1);
  s = (sd_winograd_shape){.oh = 224, .ow = 224, .depth = 1, .ic = 64, .oc = 64, .any_h = true, .any_w = true, .lanes = 16, .registers = 32};
  p = sd_winograd_choose(4, &s);
  CHECK(p.block_n == 1 && p.block_r == 1);
  s.oh = 1 << 30, s.ow = 1, s.any_h = s.any_w = false; // no overflow, no endless search
  CHECK(sd_winograd_choose(4, &s).cost > 0);
  s = (sd_winograd_shape){.n = 1, .oh = 56, .ow = 56, .depth = 1, .ic = 64, .oc = 64, .lanes = 8, .registers = 16}; // register tiles have 6 rows
  CHECK(sd_winograd_choose(4, &s).cost < sd_winograd_direct(&s) / 2);
}

static double share_of_direct(int64_t size, int64_t ic, int64_t oc, int lanes) {
  sd_winograd_shape s = {.n = 1, .oh = size, .ow = size, .depth = 1, .ic = ic, .oc = oc, .lanes = lanes, .registers = 2 * lanes};
  sd_winograd_plan p = sd_winograd_choose(2, &s);
  return sd_winograd_cost(&p, &s) / sd_winograd_direct(&s);
}

// Images of few pixels, where the weights take most of the time, as they were measured.
static void few_pixels(void) {
  for (int lanes = 8; lanes <= 16; lanes += 8) {
    CHECK(share_of_direct(7, 512, 512, lanes) < 1.05);
    CHECK(share_of_direct(8, 128, 128, lanes) < 1.05);
    CHECK(share_of_direct(8, 2048, 512, lanes) < 0.8); // panels of the direct form are larger than the second cache
  }
  CHECK(share_of_direct(7, 512, 512, 8) < share_of_direct(7, 512, 512, 16)); // less is to be loaded for each multiply-add
  CHECK(share_of_direct(2, 512, 512, 16) > 1.2);
}

// ---- results ----
typedef struct layer {
  int64_t n, ic, oc, h, w, pad;
  int64_t depth, taps; // of volumes, which have no border there; 0: images
  bool bias, residual, dynamic;
  const char *after; // operator applied last, NULL = none
} layer;

static float number(uint64_t *state) { // roughly normal
  double s = 0;
  for (int i = 0; i < 4; i++) s += (double)(test_random(state) >> 11) * 0x1p-53 - 0.5;
  return (float)(s * 1.7);
}

static float *numbers(uint64_t seed, int64_t count, float scale) {
  float *v = sd_alloc_aligned((size_t)count * sizeof *v + 64);
  for (int64_t i = 0; i < count; i++) v[i] = number(&seed) * scale;
  return v;
}

static void hex(sd_str *s, const float *v, int64_t count) {
  const uint8_t *b = (const uint8_t *)v;
  sd_str_put(s, "hex<");
  for (int64_t i = 0; i < count * 4; i++) sd_strf(s, "%02x", b[i]);
  sd_str_put(s, ">");
}

static int64_t images(const layer *l) { return l->depth ? l->depth - l->taps + 1 : 1; } // of the result
static int64_t weights(const layer *l) { return l->ic * 9 * (l->taps ? l->taps : 1); }   // of an output
static int64_t results(const layer *l) { return l->n * l->oc * images(l) * (l->h + 2 * l->pad - 2) * (l->w + 2 * l->pad - 2); }
static int64_t inputs(const layer *l) { return l->n * l->ic * (l->depth ? l->depth : 1) * l->h * l->w; }

static void volume_text(const layer *l, const float *w, sd_str *s) {
  long long n = l->n, ic = l->ic, oc = l->oc, d = l->depth, k = l->taps, h = l->h, x = l->w, p = l->pad;
  sd_strf(s, "module ir=8 opset=17\ngraph \"g\" (%%0 \"x\": f32[%lld,%lld,%lld,%lld,%lld]) {\n", n, ic, d, h, x);
  sd_strf(s, "  %%2 = const f32[%lld,%lld,%lld,3,3] ", oc, ic, k);
  hex(s, w, oc * weights(l));
  sd_strf(s, "\n  %%4 = Conv(%%0, %%2) {pads=[0, %lld, %lld, 0, %lld, %lld]}\n  return %%4\n}\n", p, p, p, p);
}

static void graph_text(const layer *l, const float *w, const float *bias, sd_str *s) {
  long long n = l->n, ic = l->ic, oc = l->oc, h = l->h, x = l->w, oh = h + 2 * l->pad - 2, ow = x + 2 * l->pad - 2, p = l->pad;
  sd_strf(s, "module ir=8 opset=17\n");
  if (l->dynamic) sd_strf(s, "symbol N\nsymbol H in [8, 512]\nsymbol W in [8, 512]\n");
  if (l->dynamic) sd_strf(s, "graph \"g\" (%%0 \"x\": f32[N,%lld,H,W]", ic);
  else sd_strf(s, "graph \"g\" (%%0 \"x\": f32[%lld,%lld,%lld,%lld]", n, ic, h, x);
  if (l->residual) sd_strf(s, ", %%1 \"r\": f32[%lld,%lld,%lld,%lld]", n, oc, oh, ow);
  sd_strf(s, ") {\n  %%2 = const f32[%lld,%lld,3,3] ", oc, ic);
  hex(s, w, oc * ic * 9);
  sd_strf(s, "\n  %%3 = const f32[%lld] ", oc);
  hex(s, bias, oc);
  sd_strf(s, "\n  %%4 = Conv(%%0, %%2%s) {pads=[%lld, %lld, %lld, %lld]}\n", l->bias ? ", %3" : "", p, p, p, p);
  int at = 4;
  if (l->residual) sd_strf(s, "  %%5 = Add(%%4, %%1)\n"), at = 5;
  if (l->after) sd_strf(s, "  %%6 = %s(%%%d)\n", l->after, at), at = 6;
  sd_strf(s, "  return %%%d\n}\n", at);
}

static double *direct(const layer *l, const float *x, const float *w, const float *bias, const float *r) {
  int64_t oh = l->h + 2 * l->pad - 2, ow = l->w + 2 * l->pad - 2, od = images(l), taps = l->taps ? l->taps : 1, depth = od + taps - 1;
  double *y = sd_alloc_aligned((size_t)results(l) * sizeof *y);
  for (int64_t i = 0; i < results(l); i++) {
    int64_t c = i % ow, row = i / ow % oh, d = i / ow / oh % od, o = i / ow / oh / od % l->oc, n = i / ow / oh / od / l->oc;
    double sum = l->bias ? bias[o] : 0;
    for (int64_t k = 0; k < weights(l); k++) {
      int64_t at_y = row + k / 3 % 3 - l->pad, at_x = c + k % 3 - l->pad, at_d = d + k / 9 % taps, ic = k / 9 / taps;
      if (at_y < 0 || at_x < 0 || at_y >= l->h || at_x >= l->w) continue;
      sum += (double)x[(((n * l->ic + ic) * depth + at_d) * l->h + at_y) * l->w + at_x] * w[o * weights(l) + k];
    }
    if (r) sum += r[i];
    if (l->after && !strcmp(l->after, "Relu")) sum = sum > 0 ? sum : 0;
    if (l->after && !strcmp(l->after, "Sigmoid")) sum = 1 / (1 + exp(-sum));
    y[i] = sum;
  }
  return y;
}

static sard_tensor *tensor(sard_context *ctx, int rank, const int64_t *dims, const float *data) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SD_F32, .rank = rank};
  sard_tensor *t = NULL;
  int64_t count = 1;
  for (int i = 0; i < rank; i++) d.dims[i] = dims[i], count *= dims[i];
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  if (t) memcpy(sard_tensor_data(t, NULL), data, (size_t)count * sizeof *data);
  return t;
}

// Runs the text at that level with so many threads; the result is copied to y.
static void run_text(const layer *l, const char *text, const char *opt, const char *threads, const float *x, const float *r, float *y) {
  int64_t oh = l->h + 2 * l->pad - 2, ow = l->w + 2 * l->pad - 2;
  sard_options *co = sard_options_new(), *mo = sard_options_new();
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  CHECK_OK(sard_options_set(co, "threads", threads));
  CHECK_OK(sard_options_set(mo, "opt", opt));
  CHECK_OK(sard_context_new(co, &ctx));
  sard_compiler_use(ctx);
  char *report = NULL;
  sard_status *st = sard_compile(ctx, &src, mo, &m, &report);
  if (!st) st = sard_session_new(m, NULL, &s);
  CHECK(!st);
  if (st) printf("%s\n", sard_status_text(st, 0));
  sard_status_free(st);
  if (s) {
    int64_t image[4] = {l->n, l->ic, l->h, l->w}, volume[5] = {l->n, l->ic, l->depth, l->h, l->w};
    sard_tensor *in[2] = {l->depth ? tensor(ctx, 5, volume, x) : tensor(ctx, 4, image, x), NULL}, *out = NULL;
    if (r) in[1] = tensor(ctx, 4, (int64_t[]){l->n, l->oc, oh, ow}, r);
    CHECK_OK(sard_session_run(s, in, r ? 2 : 1, &out, 1));
    if (out) memcpy(y, sard_tensor_data(out, NULL), (size_t)results(l) * sizeof *y);
    sard_tensor_free(in[0]), sard_tensor_free(in[1]), sard_tensor_free(out);
  }
  sard_session_free(s), sard_model_free(m), sard_context_free(ctx);
  sard_options_free(co), sard_options_free(mo), sard_free(report);
}

static double rms(const float *y, const double *want, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += ((double)y[i] - want[i]) * ((double)y[i] - want[i]);
  return sqrt(sum / (double)count);
}

// The error is at most 2.5 times that of the direct form (-O1 has no Winograd); threads change nothing.
static void compare(const layer *l) {
  int64_t count = results(l);
  float *x = numbers(1, inputs(l), 1), *w = numbers(2, l->oc * weights(l), 1.0f / sqrtf((float)weights(l)));
  float *bias = numbers(3, l->oc, 1), *r = l->residual ? numbers(4, count, 1) : NULL;
  float *y1 = numbers(5, count, 1), *y3 = numbers(6, count, 1), *y4 = numbers(7, count, 1);
  double *want = direct(l, x, w, bias, r);
  sd_str text = {0};
  if (l->depth) volume_text(l, w, &text);
  else graph_text(l, w, bias, &text);
  run_text(l, text.p, "1", "1", x, r, y1);
  run_text(l, text.p, "3", "1", x, r, y3);
  run_text(l, text.p, "3", "2", x, r, y4);
  double plain = rms(y1, want, count), fast = rms(y3, want, count);
  CHECK(fast <= 2.5 * plain + 1e-8);
  CHECK(fast != plain); // it was used
  CHECK(memcmp(y3, y4, (size_t)count * sizeof *y3) == 0);
  if (!(fast <= 2.5 * plain + 1e-8) || fast == plain) printf("rms %g, direct %g\n", fast, plain);
  sd_str_free(&text);
  sd_free_aligned(x), sd_free_aligned(w), sd_free_aligned(bias), sd_free_aligned(y1), sd_free_aligned(y3), sd_free_aligned(y4);
  sd_free_aligned(want), sd_free_aligned(r);
}

static void whole_tiles(void) { compare(&(layer){.n = 1, .ic = 32, .oc = 32, .h = 24, .w = 24, .pad = 1, .bias = true, .after = "Relu"}); }
static void odd_sizes(void) { compare(&(layer){.n = 1, .ic = 32, .oc = 48, .h = 21, .w = 30, .pad = 1, .bias = true}); }
static void odd_channels(void) { compare(&(layer){.n = 1, .ic = 37, .oc = 43, .h = 19, .w = 23, .pad = 1}); }
static void no_border(void) { compare(&(layer){.n = 1, .ic = 32, .oc = 32, .h = 20, .w = 27, .pad = 0, .bias = true}); }
static void wide_border(void) { compare(&(layer){.n = 1, .ic = 32, .oc = 32, .h = 18, .w = 17, .pad = 2, .after = "Sigmoid"}); }
static void batch(void) { compare(&(layer){.n = 4, .ic = 64, .oc = 64, .h = 7, .w = 7, .pad = 1, .bias = true, .after = "Relu"}); }
static void residual(void) {
  compare(&(layer){.n = 2, .ic = 32, .oc = 40, .h = 17, .w = 22, .pad = 1, .bias = true, .residual = true, .after = "Relu"});
}
static void parts(void) { compare(&(layer){.n = 1, .ic = 64, .oc = 256, .h = 14, .w = 14, .pad = 1, .bias = true, .after = "Relu"}); }
static void volume(void) { compare(&(layer){.n = 2, .ic = 32, .oc = 32, .h = 18, .w = 21, .pad = 1, .depth = 6, .taps = 3}); }
static void images_of_volume(void) { compare(&(layer){.n = 1, .ic = 48, .oc = 64, .h = 7, .w = 7, .pad = 1, .depth = 8, .taps = 1}); }
static void dynamic_sizes(void) { compare(&(layer){.n = 2, .ic = 32, .oc = 32, .h = 45, .w = 38, .pad = 1, .bias = true, .dynamic = true, .after = "Relu"}); }
static void dynamic_small(void) { compare(&(layer){.n = 1, .ic = 32, .oc = 32, .h = 8, .w = 9, .pad = 1, .dynamic = true}); }

int main(void) {
  RUN(matrices);
  RUN(choice);
  RUN(few_pixels);
  RUN(whole_tiles);
  RUN(odd_sizes);
  RUN(odd_channels);
  RUN(no_border);
  RUN(wide_border);
  RUN(batch);
  RUN(residual);
  RUN(parts);
  RUN(volume);
  RUN(images_of_volume);
  RUN(dynamic_sizes);
  RUN(dynamic_small);
  return check_end();
}
