// What branches and loops need of sizes, states of other types, directions of Scan, deep nesting, memory of sizes that data gives.
// Expected numbers are those of onnx.reference, of ONNX Runtime for Scan from behind.
#include "runtime/base/str.h"
#include "sard/sard_compile.h"
#include "tests/unit/flow.h"

static float x12[12] = {1, 0, 2, 0, 0, 3, 4, 0, 5, 6, 0, 7};

static void add(flow_data *d, sd_dtype t, int rank, const int64_t *dims, void *data) { d->in[d->n_in++] = flow_tensor(t, rank, dims, data); }

// ---- requirements of a branch hold where it is taken ----
static const char branch[] =
    "module\nsymbol N\nsymbol M\ngraph \"main\" (%0 \"x\": f32[N], %1 \"y\": f32[M], %2 \"c\": bool[]) {\n"
    "  %3 = If(%2)\n"
    "  body \"then_branch\" () {\n    %4 = Add(%0, %1)\n    %5 = Exp(%4)\n    %6 = Log(%5)\n    return %6\n  }\n"
    "  body \"else_branch\" () {\n    %7 = Neg(%0)\n    return %7\n  }\n"
    "  return %3\n}\n";

static void sizes_of_branches(void) {
  for (int64_t m = 2; m <= 3; m++)
    for (uint8_t yes = 0; yes < 2; yes++) {
      flow_result r = {0};
      flow_data d = {0};
      add(&d, SD_F32, 1, (int64_t[]){3}, x12), add(&d, SD_F32, 1, &m, x12 + 5), add(&d, SD_BOOL, 0, NULL, &yes);
      if (yes && m == 2) {
        for (int opt = 0; opt <= 3; opt += 3) CHECK_ERR(flow_run(branch, opt, &d, 1, &r), MODEL, "do not fit together");
        continue;
      }
      flow_check(branch, &d, 1, &r);
      flow_expect(&r, 0, yes ? (double[]){4, 4, 2} : (double[]){-1, 0, -2}, 3);
      flow_free(&r);
    }
}

// ... and where the loop around it runs: no pass, no requirement.
static const char in_loop[] =
    "module\nsymbol N\nsymbol M\ngraph \"main\" (%0 \"x\": f32[N], %1 \"y\": f32[M], %2 \"m\": i64[]) {\n"
    "  %3 = const f32[] dense<0>\n"
    "  %4 = Loop(%2, _, %3)\n"
    "  body \"body\" (%5: i64[], %6: bool[], %7: f32[]) {\n"
    "    %8 = Mul(%0, %1)\n    %9 = ReduceSum(%8) {keepdims=0}\n    %10 = Add(%7, %9)\n    return %6, %10\n  }\n"
    "  return %4\n}\n";

static void sizes_of_loops(void) {
  for (int64_t passes = 0; passes < 3; passes += 2)
    for (int64_t m = 2; m <= 3; m++) {
      flow_result r = {0};
      flow_data d = {0};
      add(&d, SD_F32, 1, (int64_t[]){3}, x12), add(&d, SD_F32, 1, &m, x12 + 5), add(&d, SD_I64, 0, NULL, &passes);
      if (passes && m == 2) {
        CHECK_ERR(flow_run(in_loop, 3, &d, 1, &r), MODEL, "do not fit together");
        continue;
      }
      flow_check(in_loop, &d, 1, &r);
      flow_expect(&r, 0, passes ? (double[]){6} : (double[]){0}, 1);
      flow_free(&r);
    }
}

// ---- an index into what is empty ----
static const char empty_axis[] =
    "module\nsymbol N\nsymbol K\ngraph \"main\" (%0 \"x\": f32[N,4], %1 \"i\": i64[K]) {\n  %2 = Gather(%0, %1)\n  return %2\n}\n";

static void nothing_to_index(void) {
  int64_t index[2] = {0, 0};
  flow_result r = {0};
  flow_data d = {0}, none = {0};
  add(&d, SD_F32, 2, (int64_t[]){0, 4}, x12), add(&d, SD_I64, 1, (int64_t[]){2}, index);
  CHECK_ERR(flow_run(empty_axis, 3, &d, 1, &r), USAGE, "an index of");
  add(&none, SD_F32, 2, (int64_t[]){0, 4}, x12), add(&none, SD_I64, 1, (int64_t[]){0}, index);
  flow_check(empty_axis, &none, 1, &r);
  flow_free(&r);
}

// ---- states of other types; the condition ends the loop ----
static const char types[] =
    "module\ngraph \"main\" (%0 \"m\": i64[], %1 \"a\": i64[], %2 \"b\": bool[], %3 \"h\": f16[2]) {\n"
    "  %20 = const bool[] dense<1>\n  %4, %5, %6, %7 = Loop(%0, %20, %1, %2, %3)\n"
    "  body \"body\" (%8: i64[], %9: bool[], %10: i64[], %11: bool[], %12: f16[2]) {\n"
    "    %13 = const i64[] dense<2>\n    %14 = Mul(%10, %13)\n    %15 = Add(%14, %8)\n"
    "    %16 = Not(%11)\n    %17 = Add(%12, %12)\n"
    "    %18 = const i64[] dense<50>\n    %19 = Less(%15, %18)\n"
    "    return %19, %15, %16, %17, %16\n  }\n"
    "  return %4, %5, %6, %7\n}\n";

static void state_types(void) {
  int64_t m = 10, a = 1;
  uint8_t b = 1, h[4];
  flow_result r;
  flow_data d = {0};
  sd_dtype_set_f64(SD_F16, h, 0, 1), sd_dtype_set_f64(SD_F16, h, 1, 0.5);
  add(&d, SD_I64, 0, NULL, &m), add(&d, SD_I64, 0, NULL, &a), add(&d, SD_BOOL, 0, NULL, &b), add(&d, SD_F16, 1, (int64_t[]){2}, h);
  flow_check(types, &d, 4, &r);
  flow_expect(&r, 0, (double[]){58}, 1);
  flow_expect(&r, 1, (double[]){0}, 1);
  flow_expect(&r, 2, (double[]){32, 16}, 2);
  flow_expect(&r, 3, (double[]){0, 1, 0, 1, 0}, 5);
  flow_free(&r);
}

// ---- Scan from behind, along the last axis ----
static const char backwards[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[2,N]) {\n"
    "  %1 = const f32[2] dense<0, 0>\n"
    "  %2, %3 = Scan(%1, %0) {num_scan_inputs=1, scan_input_axes=[-1], scan_input_directions=[1], scan_output_axes=[-1], scan_output_directions=[1]}\n"
    "  body \"body\" (%4: f32[2], %5: f32[2]) {\n    %6 = Add(%4, %5)\n    %7 = Identity(%6)\n    return %6, %7\n  }\n"
    "  return %2, %3\n}\n";

static void scan_backwards(void) {
  for (int64_t n = 0; n <= 3; n += 3) {
    flow_result r;
    flow_data d = {0};
    add(&d, SD_F32, 2, (int64_t[]){2, n}, x12);
    flow_check(backwards, &d, 2, &r);
    flow_expect(&r, 0, n ? (double[]){3, 3} : (double[]){0, 0}, 2);
    if (n) flow_expect(&r, 1, (double[]){3, 2, 2, 3, 3, 3}, 6);
    CHECK(r.n_out == 2 && r.out[1].rank == 2 && r.out[1].dims[0] == 2 && r.out[1].dims[1] == n);
    flow_free(&r);
  }
}

// ---- nesting ----

// `depth` branches inside of each other; each adds x, which lies outside of all.
static char *nested(int depth) {
  sd_str s = {0};
  sd_str_put(&s, "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"c\": bool[]) {\n  %2 = Neg(%0)\n");
  for (int i = 0; i < depth; i++) sd_strf(&s, "  %%%d = If(%%1)\n  body \"then_branch\" () {\n", 10 + i);
  sd_str_put(&s, "  %3 = Add(%0, %2)\n  return %3\n  }\n");
  for (int i = depth; i-- > 0;) {
    sd_strf(&s, "  body \"else_branch\" () {\n  %%%d = Identity(%%2)\n  return %%%d\n  }\n", 1000 + i, 1000 + i);
    if (i) sd_strf(&s, "  %%%d = Add(%%%d, %%0)\n  return %%%d\n  }\n", 2000 + i, 10 + i, 2000 + i);
  }
  sd_str_put(&s, "  return %10\n}\n");
  return sd_str_take(&s);
}

static void deep(void) {
  for (uint8_t yes = 0; yes < 2; yes++) {
    flow_result r;
    flow_data d = {0};
    char *text = nested(40), *too_deep = nested(SD_MAX_DEPTH + 1);
    add(&d, SD_F32, 1, (int64_t[]){3}, x12), add(&d, SD_BOOL, 0, NULL, &yes);
    flow_check(text, &d, 1, &r);
    flow_expect(&r, 0, yes ? (double[]){39, 0, 78} : (double[]){-1, 0, -2}, 3);
    flow_free(&r);
    CHECK_ERR(flow_run(too_deep, 3, &d, 1, &r), MODEL, "nested");
    sd_free(text), sd_free(too_deep);
  }
}

// ---- memory of sizes that data gives ----
static const char picked[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N]) {\n"
    "  %1 = NonZero(%0)\n  %2 = Squeeze(%1)\n  %3 = Gather(%0, %2)\n  %4 = Softmax(%3)\n  %5 = Tile(%4, %6)\n  return %5\n}\n";

static long long memory_bytes(sard_session *s) {
  char *json = NULL;
  long long n = -1;
  CHECK_OK(sard_session_stats(s, &json));
  const char *at = json ? strstr(json, "\"memory_bytes\":") : NULL;
  if (at) n = strtoll(at + 15, NULL, 10);
  sard_free(json);
  return n;
}

// Runs with `n` ones; the status of the run.
static sard_status *run_ones(sard_session *s, int64_t n) {
  sard_tensor_desc t = {.size = sizeof t, .dtype = SARD_F32, .rank = 1, .dims = {n}};
  sard_tensor *in = NULL, *out = NULL;
  SD_TRY(sard_tensor_new(NULL, &t, &in));
  for (int64_t i = 0; i < n; i++) ((float *)sard_tensor_data(in, NULL))[i] = 1;
  sard_status *st = sard_session_run(s, &in, 1, &out, 1);
  sard_tensor_free(in), sard_tensor_free(out);
  return st;
}

static void memory_of_data(void) {
  sd_str text = {0};
  const char *use = strstr(picked, "  %5");
  sd_str_putn(&text, picked, (size_t)(use - picked));
  sd_strf(&text, "  %%6 = const i64[1] dense<1>\n%s", use);
  sard_source src = flow_source(text.p);
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_session *s = NULL;
  sard_options *limit = sard_options_new();
  CHECK_OK(sard_context_new(NULL, &ctx));
  sard_status *st = sard_options_set(limit, "memory-limit", "64K");
  if (!st) st = sard_compile(ctx, &src, NULL, &m, NULL);
  if (!st) st = sard_session_new(m, limit, &s);
  CHECK_OK(st);
  for (int i = 0; s && i < 200; i++) {
    int64_t n = (i * 37) % 301;
    CHECK_OK(run_ones(s, n));
    CHECK(memory_bytes(s) <= 65536);
    if (i % 50 != 49) continue;
    CHECK_OK(sard_session_reset(s));
    CHECK(memory_bytes(s) == 0);
  }
  if (s) CHECK_ERR(run_ones(s, 100000), NOMEM, "memory-limit");
  if (s) CHECK_OK(run_ones(s, 100));
  sard_session_free(s), sard_model_free(m), sard_context_free(ctx), sard_options_free(limit);
  sd_str_free(&text);
}

int main(void) {
  RUN(sizes_of_branches);
  RUN(sizes_of_loops);
  RUN(nothing_to_index);
  RUN(state_types);
  RUN(scan_backwards);
  RUN(deep);
  RUN(memory_of_data);
  return check_end();
}
