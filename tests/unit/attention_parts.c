// Attention over parts of the keys (passes/simplify/spread.c) gives what attention over all of them does.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/base/dtype.h"
#include "tests/unit/check.h"

typedef struct form {
  int S, T, H, Hk, tiles;
  const char *type, *more_inputs, *operands, *attrs;
} form;

static const form forms[] = {
    {1, 300, 4, 4, 64, "f32", "", "_", "scale=0.3"},
    {1, 521, 6, 2, 30, "f32", "", "_", "scale=0.3, causal=1, offset=1"},
    {3, 300, 4, 2, 64, "f32", "", "_", "scale=0.3, causal=1, offset=1, window_left=130, softcap=2"},
    {20, 400, 4, 1, 64, "f32", "", "_", "scale=0.3, causal=1"},
    {70, 256, 2, 2, 64, "f32", "", "_", "scale=0.3, window_left=20, window_right=10"},
    {1, 300, 4, 2, 64, "f16", "", "_", "scale=0"},
    {2, 300, 4, 2, 64, "bf16", "", "_", "scale=0.3"},
    {2, 300, 4, 2, 64, "f32", ", %3 \"m\": f32[2,1,1,300]", "%3", "scale=0.3"},
    {2, 300, 4, 2, 64, "f32", ", %3 \"m\": bool[2,1,2,300]", "%3", "scale=0.3"},
    {1, 300, 4, 2, 64, "f32", ", %3 \"n\": i64[2]", "_, %3", "scale=0.3, causal=1, offset=2"},
};

static sd_module *module_of(const form *f, bool heads_inside) {
  char text[2000], dims[3][60];
  sd_module *m = NULL;
  int sizes[3][2] = {{f->H, f->S}, {f->Hk, f->T}, {f->Hk, f->T}};
  for (int i = 0; i < 3; i++)
    snprintf(dims[i], sizeof dims[i], "%s[2,%d,%d,%d]", f->type, sizes[i][heads_inside], sizes[i][!heads_inside], i == 2 ? 5 : 8);
  snprintf(text, sizeof text,
           "module graph \"main\" (%%0 \"q\": %s, %%1 \"k\": %s, %%2 \"v\": %s%s) {\n"
           "%%9 = sard.Attention(%%0, %%1, %%2, %s) {%s, layout=[%d, %d, %d, %d]}\nreturn %%9 }\n",
           dims[0], dims[1], dims[2], f->more_inputs, f->operands, f->attrs, heads_inside, heads_inside, heads_inside, heads_inside);
  CHECK_OK(sd_module_parse(text, "test", &m));
  return m;
}

// Numbers of inputs: a row that attends nothing is among them where there is a mask of bools.
static void make_inputs(const sd_module *m, const form *f, sd_evalue *in) {
  uint32_t seed = 1;
  for (uint32_t i = 0; i < m->main->inputs.len; i++) {
    const sd_value *v = m->main->inputs.at[i];
    uint64_t count = 1;
    in[i] = (sd_evalue){.dtype = v->dtype, .rank = v->rank};
    CHECK(sd_value_static(v, in[i].dims));
    for (int d = 0; d < v->rank; d++) count *= (uint64_t)in[i].dims[d];
    CHECK(sd_dtype_bytes(v->dtype, count, &in[i].bytes));
    in[i].data = calloc(1, in[i].bytes);
    if (!in[i].data) exit(1);
    for (uint64_t e = 0; e < count; e++) {
      seed = seed * 1664525u + 1013904223u;
      double x = (double)(seed >> 8) / (1 << 24) * 4 - 2;
      if (v->dtype == SD_I64) sd_dtype_set_f64(SD_I64, in[i].data, e, f->T - 7 - (double)e * 150);
      else if (v->dtype == SD_BOOL) ((uint8_t *)in[i].data)[e] = e >= (uint64_t)f->T && x > 0;
      else sd_dtype_set_f64(v->dtype, in[i].data, e, x);
    }
  }
}

static void test_form(const form *f, bool heads_inside) {
  sd_module *whole = module_of(f, heads_inside), *parts = module_of(f, heads_inside);
  sd_evalue in[4], y[2];
  if (!whole || !parts) return;
  sd_pass_options o = {.opt = 3, .target = {.tiles = f->tiles}, .bisect = -1};
  CHECK_OK(sd_passes_run(parts, &o, "spread", "spread", NULL, NULL));
  CHECK(!strcmp(parts->main->last->op->name, "sard.AttentionJoin"));
  make_inputs(whole, f, in);
  uint32_t n = whole->main->inputs.len;
  CHECK_OK(sd_eval_module(whole, in, n, &y[0], 1, NULL, NULL));
  CHECK_OK(sd_eval_module(parts, in, n, &y[1], 1, NULL, NULL));
  CHECK(y[0].bytes == y[1].bytes && y[0].dtype == y[1].dtype && !memcmp(y[0].dims, y[1].dims, 4 * sizeof *y[0].dims));
  double worst = 0, bound = y[0].dtype == SD_F32 ? 2e-6 : y[0].dtype == SD_F16 ? 2e-3 : 2e-2;
  for (uint64_t e = 0; e < y[0].bytes * 8 / (uint64_t)sd_dtype_bits(y[0].dtype); e++)
    worst = fmax(worst, fabs(sd_dtype_get_f64(y[0].dtype, y[0].data, e) - sd_dtype_get_f64(y[1].dtype, y[1].data, e)));
  CHECK(worst < bound);
  for (int i = 0; i < 2; i++) sd_eval_free(&y[i]);
  for (uint32_t i = 0; i < n; i++) free(in[i].data);
  sd_module_free(whole), sd_module_free(parts);
}

// Enough tiles, few keys, scores that are wanted: nothing is split.
static void test_refused(void) {
  static const form few[] = {{1, 300, 4, 4, 4, "f32", "", "_", "scale=1"}, {1, 100, 4, 4, 64, "f32", "", "_", "scale=1"}};
  for (int i = 0; i < 2; i++) {
    sd_module *m = module_of(&few[i], false);
    sd_pass_options o = {.opt = 3, .target = {.tiles = few[i].tiles}, .bisect = -1};
    if (!m) return;
    CHECK_OK(sd_passes_run(m, &o, "spread", "spread", NULL, NULL));
    CHECK(!strcmp(m->main->last->op->name, "sard.Attention"));
    sd_module_free(m);
  }
}

int main(void) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    for (int inside = 0; inside < 2; inside++) test_form(&forms[i], inside);
  test_refused();
  return check_end();
}
