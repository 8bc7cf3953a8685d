// Memory of loops whose states and results grow with the data: held to the memory-limit, given back by a
// reset. Loops inside of each other, with values from outside of all of them, down to the limit of nesting.
#include "runtime/base/str.h"
#include "sard/sard_compile.h"
#include "tests/unit/flow.h"

// ---- growing ----

// The state doubles from pass to pass.
static const char doubled[] = "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"m\": i64[]) {\n"
                              "  %2 = Loop(%1, _, %0)\n"
                              "  body \"body\" (%3: i64[], %4: bool[], %5: f32[P]) {\n    %6 = Concat(%5, "
                              "%5) {axis=0}\n    return %4, %6\n  }\n"
                              "  return %2\n}\n";
// Each pass adds a row to the stacked result.
static const char stacked[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"m\": i64[]) {\n"
    "  %2 = const f32[] dense<0>\n"
    "  %3, %4 = Loop(%1, _, %2)\n"
    "  body \"body\" (%5: i64[], %6: bool[], %7: f32[]) {\n"
    "    %8 = Add(%0, %7)\n    %9 = ReduceMax(%8) {keepdims=0}\n    return %6, %9, %8\n  }\n"
    "  return %4\n}\n";
// Each pass adds an item to a sequence.
static const char collected[] = "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"m\": i64[]) {\n"
                                "  %2 = SequenceConstruct(%0)\n"
                                "  %3 = Loop(%1, _, %2)\n"
                                "  body \"body\" (%4: i64[], %5: bool[], %6: seq(f32[1])) {\n    %7 = "
                                "SequenceInsert(%6, %0)\n    return %5, %7\n  }\n"
                                "  %8 = SequenceLength(%3)\n  return %8\n}\n";
// A pass looks at data; what it keeps is stacked by a scan.
static const char scanned[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"m\": i64[]) {\n"
    "  %2 = const i64[] dense<0>\n  %3 = const i64[] dense<1>\n  %4 = Range(%2, %1, %3)\n"
    "  %5 = NonZero(%0)\n  %6 = Squeeze(%5)\n  %7 = Gather(%0, %6)\n  %8 = ReduceSum(%7) {keepdims=0}\n"
    "  %9, %10 = Scan(%8, %4) {num_scan_inputs=1}\n"
    "  body \"body\" (%11: f32[], %12: i64[]) {\n    %13 = Neg(%11)\n    %14 = Add(%0, %13)\n    return %13, "
    "%14\n  }\n"
    "  return %10\n}\n";

typedef struct running {
  sard_context *ctx;
  sard_model *m;
  sard_session *s;
} running;

static running start(const char *text, const char *limit) {
  running r = {0};
  sard_source src = flow_source(text);
  sard_options *o = sard_options_new();
  sard_status *st = sard_context_new(NULL, &r.ctx);
  if (!st) st = sard_options_set(o, "memory-limit", limit);
  if (!st) st = sard_compile(r.ctx, &src, NULL, &r.m, NULL);
  if (!st) st = sard_session_new(r.m, o, &r.s);
  CHECK_OK(st);
  sard_options_free(o);
  return r;
}

static void stop(running *r) { sard_session_free(r->s), sard_model_free(r->m), sard_context_free(r->ctx); }

static long long held(sard_session *s) {
  char *json = NULL;
  CHECK_OK(sard_session_stats(s, &json));
  const char *at = json ? strstr(json, "\"memory_bytes\":") : NULL;
  long long n = at ? strtoll(at + 15, NULL, 10) : -1;
  sard_free(json);
  return n;
}

// n ones, and that many passes.
static sard_status *run(sard_session *s, int64_t n, int64_t passes) {
  sard_tensor_desc x = {.size = sizeof x, .dtype = SARD_F32, .rank = 1, .dims = {n}},
                   m = {.size = sizeof m, .dtype = SARD_I64};
  sard_tensor *in[2] = {0}, *out = NULL;
  sard_status *st = sard_tensor_new(NULL, &x, &in[0]);
  if (!st) st = sard_tensor_new(NULL, &m, &in[1]);
  for (int64_t i = 0; i < n && !st; i++) ((float *)sard_tensor_data(in[0], NULL))[i] = 1;
  if (!st) *(int64_t *)sard_tensor_data(in[1], NULL) = passes;
  if (!st) st = sard_session_run(s, in, 2, &out, 1);
  sard_tensor_free(in[0]), sard_tensor_free(in[1]), sard_tensor_free(out);
  return st;
}

static void grow(void) {
  static const struct {
    const char *text;
    int64_t few, many;
  } cases[] = {{doubled, 8, 24}, {stacked, 100, 100000}, {collected, 100, 100000}, {scanned, 100, 100000}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    running r = start(cases[i].text, "256K");
    for (int k = 0; r.s && k < 20; k++) {
      CHECK_OK(run(r.s, 3 + k % 5, cases[i].few));
      CHECK(held(r.s) <= 256 << 10);
      CHECK_ERR(run(r.s, 7, cases[i].many), NOMEM, "memory-limit");
      CHECK(held(r.s) <= 256 << 10);
      if (k % 7 != 6) continue;
      CHECK_OK(sard_session_reset(r.s));
      CHECK(held(r.s) == 0);
    }
    stop(&r);
  }
}

// ---- nesting ----

// `depth` loops inside of each other, each second a scan over y; the state of each gets x and the counter of
// the outermost added in the innermost.
static char *nested(int depth) {
  sd_str s = {0};
  sd_str_put(&s, "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"y\": f32[1,N]) {\n  %2 = const "
                 "i64[] dense<1>\n");
  for (int i = 0; i < depth; i++) {
    int v = 10 + 10 * i, state = i ? v - 5 : 0; // the state of the body around it
    if (i % 2)
      sd_strf(
          &s,
          "  %%%d = Scan(%%%d, %%1) {num_scan_inputs=1}\n  body \"body\" (%%%d: f32[N], %%%d: f32[N]) {\n", v,
          state, v + 5, v + 6);
    else
      sd_strf(&s,
              "  %%%d = Loop(%%2, _, %%%d)\n  body \"body\" (%%%d: i64[], %%%d: bool[], %%%d: f32[N]) {\n", v,
              state, v + 3, v + 4, v + 5);
  }
  int last = 10 * depth;
  sd_strf(&s, "  %%%d = Add(%%%d, %%0)\n", last + 7, last + 5);
  for (int i = depth; i-- > 0;) {
    int v = 10 + 10 * i, result = i == depth - 1 ? v + 7 : v + 10;
    if (i % 2) sd_strf(&s, "  return %%%d\n  }\n", result);
    else
      sd_strf(&s, "  return %%%d, %%%d\n  }\n", v + 4, result);
  }
  sd_str_put(&s, "  return %10\n}\n");
  return sd_str_take(&s);
}

static void nest(void) {
  float x[3] = {1, 2, 3}, y[3] = {0, 0, 0};
  flow_result r;
  flow_data d = {.n_in = 2};
  char *deep = nested(SD_MAX_DEPTH), *too_deep = nested(SD_MAX_DEPTH + 1);
  d.in[0] = flow_tensor(SD_F32, 1, (int64_t[]){3}, x), d.in[1] = flow_tensor(SD_F32, 2, (int64_t[]){1, 3}, y);
  flow_check(deep, &d, 1, &r);
  flow_expect(&r, 0, (double[]){2, 4, 6}, 3);
  flow_free(&r);
  CHECK_ERR(flow_run(too_deep, 3, &d, 1, &r), MODEL, "nested");
  sd_free(deep), sd_free(too_deep);
}

int main(void) {
  RUN(grow);
  RUN(nest);
  return check_end();
}
