// Axes, steps, pads, scales and sizes that are operands: one artifact for all of their values; wrong values are errors.
#include "tests/unit/flow.h"

enum { MOST_OPERANDS = 5 };

typedef struct compiled { sard_context *ctx; sard_model *m; } compiled;

static void compile(const char *text, int opt, compiled *c) {
  sard_source src = flow_source(text);
  sd_driver_options o;
  sd_compiled *made = NULL;
  sd_driver_defaults(&o);
  o.opt = opt, o.verify = true;
  *c = (compiled){0};
  sard_status *st = sard_context_new(NULL, &c->ctx);
  if (!st) st = sd_driver_compile(&src, &o, &made);
  if (!st) st = sd_model_from_bytes(c->ctx, made->pieces, made->n_pieces, sd_compiled_free, made, &c->m);
  if (st) printf("%s\n", text);
  CHECK_OK(st);
}

static void drop(compiled *c) {
  sard_model_free(c->m);
  sard_context_free(c->ctx);
}

static sard_status *interpret(const char *text, const flow_data *d, flow_result *r) {
  sard_source src = flow_source(text);
  sd_driver_options o;
  sd_module *m = NULL;
  sd_pass_options po = {.bisect = -1};
  sd_driver_defaults(&o);
  r->n_out = 0;
  sard_status *st = sd_driver_load(&src, &o, &m);
  if (!st) st = sd_passes_run(m, &po, NULL, "rewrite", NULL, NULL);
  if (!st) st = sd_eval_module(m, d->in, d->n_in, r->out, 1, NULL, NULL);
  if (!st) r->n_out = 1;
  if (m) sd_module_free(m);
  return st;
}

// f32 x [3,4] of 0 ... 11, then the operands, rank 0 where dims is -1.
typedef struct operand { sd_dtype dtype; int64_t dim; int64_t v[8]; } operand;
static float numbers[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static uint64_t room[MOST_OPERANDS][8];

static flow_data data_of(const operand *ops, uint32_t n) {
  flow_data d = {{flow_tensor(SD_F32, 2, (int64_t[]){3, 4}, numbers)}, 1};
  for (uint32_t i = 0; i < n; i++) {
    uint64_t count = ops[i].dim < 0 ? 1 : (uint64_t)ops[i].dim;
    for (uint64_t k = 0; k < count; k++)
      if (sd_dtype_is_float(ops[i].dtype)) sd_dtype_set_f64(ops[i].dtype, room[i], k, (double)ops[i].v[k] / 4);
      else sd_dtype_set_i64(ops[i].dtype, room[i], k, ops[i].v[k]);
    d.in[d.n_in++] = flow_tensor(ops[i].dtype, ops[i].dim >= 0, &ops[i].dim, room[i]);
  }
  return d;
}

static const char *text_of(char *to, size_t cap, const char *body, const operand *ops, uint32_t n) {
  sd_str s = {0};
  sd_strf(&s, "module\nsymbol N\nsymbol M\ngraph \"main\" (%%0 \"x\": f32[N,M]");
  for (uint32_t i = 0; i < n; i++) {
    sd_strf(&s, ", %%%u \"o%u\": %s[", i + 1, i + 1, sd_dtype_name(ops[i].dtype));
    if (ops[i].dim >= 0) sd_strf(&s, "%lld", (long long)ops[i].dim);
    sd_strf(&s, "]");
  }
  sd_strf(&s, ") {\n%s\n  return %%99\n}\n", body);
  snprintf(to, cap, "%s", s.p);
  sd_str_free(&s);
  return to;
}

typedef struct run { operand ops[MOST_OPERANDS]; const char *dims, *error; double want[12]; } run;

static void expect(const run *r, const flow_result *got) {
  char dims[64] = "";
  const sd_evalue *e = &got->out[0];
  uint64_t count = 1;
  for (int i = 0; i < e->rank; i++) {
    snprintf(dims + strlen(dims), sizeof dims - strlen(dims), i ? ",%lld" : "%lld", (long long)e->dims[i]);
    count *= (uint64_t)e->dims[i];
  }
  bool ok = strcmp(dims, r->dims) == 0;
  for (uint64_t i = 0; i < count && i < 12 && ok; i++) ok = fabs(sd_dtype_get_f64(e->dtype, e->data, i) - r->want[i]) < 1e-4;
  CHECK(ok);
  if (!ok) flow_show(r->dims, e);
}

// All runs of one text, interpreted and by one artifact at each level.
static void check_runs(const char *body, uint32_t n_ops, const run *runs, uint32_t n) {
  char text[2048];
  text_of(text, sizeof text, body, runs[0].ops, n_ops);
  for (int opt = 0; opt <= 3; opt += 3) {
    compiled c;
    compile(text, opt, &c);
    for (uint32_t i = 0; i < n && c.m; i++) {
      flow_data d = data_of(runs[i].ops, n_ops);
      flow_result a = {0}, b = {0};
      sard_status *got = flow_session(c.ctx, c.m, &d, 1, runs[i].error ? 1 : 3, &a), *want = interpret(text, &d, &b);
      if ((got != NULL) != (runs[i].error != NULL)) printf("run %u of %s\n", i, body);
      if (runs[i].error) {
        CHECK_ERR(got, MODEL, runs[i].error);
        CHECK_ERR(want, MODEL, runs[i].error);
      } else {
        CHECK_OK(got);
        CHECK_OK(want);
        CHECK(a.n_out && b.n_out && flow_same(&a.out[0], &b.out[0]));
        if (a.n_out) expect(&runs[i], &a);
      }
      flow_free(&a), flow_free(&b);
    }
    drop(&c);
  }
}
#define RUNS(body, n_ops, ...)                                                                                         \
  do {                                                                                                                 \
    const run runs_[] = {__VA_ARGS__};                                                                                 \
    check_runs(body, n_ops, runs_, sizeof runs_ / sizeof *runs_);                                                      \
  } while (0)
#define I64(n, ...) {SD_I64, n, {__VA_ARGS__}}
#define I32(n, ...) {SD_I32, n, {__VA_ARGS__}}
#define F32(n, ...) {SD_F32, n, {__VA_ARGS__}} /* quarters */

static void reductions(void) {
  RUNS("  %99 = ReduceSum(%0, %1)", 1, {{I64(1, 0)}, "1,4", NULL, {12, 15, 18, 21}}, {{I64(1, -1)}, "3,1", NULL, {6, 22, 38}},
       {{I64(1, 2)}, "", "axis 2 is out of range", {0}}, {{I64(1, INT64_MIN)}, "", "out of range", {0}});
  RUNS("  %99 = ReduceMean(%0, %1) {keepdims=0}", 1, {{I64(1, 0)}, "4", NULL, {4, 5, 6, 7}}, {{I64(1, 1)}, "3", NULL, {1.5, 5.5, 9.5}});
  RUNS("  %99 = ReduceMax(%0, %1) {keepdims=0}", 1, {{I64(2, 0, 1)}, "", NULL, {11}}, {{I64(2, 1, -1)}, "", "given twice", {0}});
  RUNS("  %99 = ReduceLogSumExp(%0, %1)", 1, {{I64(1, 1)}, "3,1", NULL, {3.44019, 7.44019, 11.44019}});
  RUNS("  %99 = CumSum(%0, %1) {reverse=1}", 1, {{I32(-1, 0)}, "3,4", NULL, {12, 15, 18, 21, 12, 14, 16, 18, 8, 9, 10, 11}},
       {{I32(-1, -1)}, "3,4", NULL, {6, 6, 5, 3, 22, 18, 13, 7, 38, 30, 21, 11}}, {{I32(-1, 5)}, "", "out of range", {0}});
}

static void units(void) {
  RUNS("  %2 = const i64[2] dense<0, 3>\n  %3 = Unsqueeze(%0, %2)\n  %99 = Squeeze(%3, %1)", 1, {{I64(1, 0)}, "3,4,1", NULL, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
       {{I64(1, -1)}, "1,3,4", NULL, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, {{I64(1, 1)}, "", "only dims of 1", {0}}, {{I64(1, 4)}, "", "out of range", {0}});
  RUNS("  %99 = Unsqueeze(%0, %1)", 1, {{I64(2, -1, 0)}, "1,3,4,1", NULL, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
       {{I64(2, 1, 1)}, "", "given twice", {0}}, {{I64(2, 0, INT64_MAX)}, "", "out of range", {0}});
}

static void slices(void) {
  RUNS("  %99 = Slice(%0, %1, %2, %3, %4)", 4, {{I64(1, 1), I64(1, INT64_MAX), I64(1, 1), I64(1, 2)}, "3,2", NULL, {1, 3, 5, 7, 9, 11}},
       {{I64(1, -1), I64(1, INT64_MIN), I64(1, 0), I64(1, -2)}, "2,4", NULL, {8, 9, 10, 11, 0, 1, 2, 3}},
       {{I64(1, 9), I64(1, -9), I64(1, -1), I64(1, INT64_MIN)}, "3,1", NULL, {3, 7, 11}},
       {{I64(1, 3), I64(1, 1), I64(1, 0), I64(1, 1)}, "0,4", NULL, {0}}, {{I64(1, 0), I64(1, 1), I64(1, 0), I64(1, 0)}, "", "step 0", {0}},
       {{I64(1, 0), I64(1, 1), I64(1, 2), I64(1, 1)}, "", "out of range", {0}});
  RUNS("  %99 = Slice(%0, %1, %2)", 2, {{I64(1, -2), I64(1, INT64_MAX)}, "2,4", NULL, {4, 5, 6, 7, 8, 9, 10, 11}},
       {{I64(1, INT64_MIN), I64(1, -2)}, "1,4", NULL, {0, 1, 2, 3}});
}

static void pads(void) {
  RUNS("  %99 = Pad(%0, %1)", 1, {{I64(4, -1, 1, -1, -3)}, "1,2", NULL, {0, 4}}, {{I64(4, 0, 0, -3, 0)}, "0,4", NULL, {0}},
       {{I64(4, -2, 0, -2, 0)}, "", "of a dim of 3", {0}}, {{I64(4, INT64_MAX, 0, INT64_MAX, 0)}, "", "pads", {0}},
       {{I64(4, INT64_MIN, 0, 0, 0)}, "", "pads", {0}});
  RUNS("  %99 = Pad(%0, %1, _, %2) {mode=\"reflect\"}", 2, {{I64(2, 1, -1), I64(1, 0)}, "3,4", NULL, {4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7}},
       {{I64(2, -2, 1), I64(1, -1)}, "3,3", NULL, {2, 3, 2, 6, 7, 6, 10, 11, 10}}, {{I64(2, 0, 0), I64(1, 7)}, "", "out of range", {0}});
  RUNS("  %99 = Pad(%0, %1) {mode=\"wrap\"}", 1, {{I64(4, -1, -2, -1, 1)}, "1,3", NULL, {6, 7, 4}});
  RUNS("  %99 = Pad(%0, %1) {mode=\"edge\"}", 1, {{I64(4, -2, -2, 1, 1)}, "2,3", NULL, {10, 11, 11, 10, 11, 11}});
}

static void resizes(void) {
  RUNS("  %99 = Resize(%0, _, %1) {coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"}", 1, {{F32(2, 4, 2)}, "3,2", NULL, {0, 2, 4, 6, 8, 10}},
       {{F32(2, 2, 8)}, "1,8", NULL, {0, 0, 1, 1, 2, 2, 3, 3}}, {{F32(2, 4, 0)}, "", "scale 0", {0}}, {{F32(2, -4, 4)}, "", "scale -1", {0}});
  RUNS("  %99 = Resize(%0, _, %1) {mode=\"linear\", antialias=1, axes=[1]}", 1, {{F32(1, 2)}, "3,2", NULL, {0.625, 2.375, 4.625, 6.375, 8.625, 10.375}},
       {{F32(1, 4)}, "3,4", NULL, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}});
  RUNS("  %99 = Resize(%0, _, _, %1) {keep_aspect_ratio_policy=\"not_larger\"}", 1, {{I64(2, 6, 8)}, "6,8", NULL, {0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1}},
       {{I64(2, 9, 2)}, "2,2", NULL, {0, 2, 8, 10}}, {{I64(2, -9, 2)}, "", "must be 0 to", {0}});
}

static void ranges(void) {
  RUNS("  %99 = Range(%1, %2, %3)", 3, {{I64(-1, 10), I64(-1, 3), I64(-1, -3)}, "3", NULL, {10, 7, 4}}, {{I64(-1, 1), I64(-1, 3), I64(-1, -3)}, "0", NULL, {0}},
       {{I64(-1, INT64_MIN), I64(-1, INT64_MAX), I64(-1, INT64_MAX)}, "3", NULL, {-9223372036854775808.0, -1, 9223372036854775806.0}},
       {{I64(-1, 0), I64(-1, 3), I64(-1, 0)}, "", "steps of 0", {0}}, {{I64(-1, INT64_MIN), I64(-1, INT64_MAX), I64(-1, 1)}, "", "size", {0}});
  RUNS("  %99 = Range(%1, %2, %3)", 3, {{F32(-1, 4), F32(-1, 8), F32(-1, 1)}, "4", NULL, {1, 1.25, 1.5, 1.75}}, {{F32(-1, 4), F32(-1, 0), F32(-1, -3)}, "2", NULL, {1, 0.25}},
       {{F32(-1, 4), F32(-1, 0), F32(-1, 0)}, "", "range", {0}});
  RUNS("  %3 = const f32[2] dense<0, 1>\n  %4 = const i64[2] dense<1, -1>\n  %99 = OneHot(%4, %1, %3)", 1, {{F32(-1, 12)}, "2,3", NULL, {0, 1, 0, 0, 0, 1}},
       {{F32(-1, 8)}, "2,2", NULL, {0, 1, 0, 1}}, {{F32(-1, -8)}, "", "a size of -2", {0}});
}

// Operands that only the run knows, in a loop: what a pass defines does not meet what another one defined.
static void in_a_loop(void) {
  RUNS("  %3 = const bool[] dense<1>\n  %2 = const i64[] dense<2>\n  %99 = Loop(%2, %3, %1)\n  body \"body\" (%5: i64[], %6: bool[], %7: f32[1]) {\n"
       "    %8 = const i64[1] dense<1>\n    %9 = Reshape(%5, %8)\n    %10 = ReduceSum(%0, %9) {keepdims=0}\n    %11 = Mul(%10, %10)\n    %12 = Add(%11, %10)\n"
       "    %13 = ReduceSum(%12)\n    %15 = Reshape(%13, %8)\n    %14 = Add(%7, %15)\n    return %6, %14\n  }", 1,
       {{F32(1, 4)}, "1", NULL, {1 + 1134 + 66 + 1964 + 66 + 0}});
}

// Two sizes of a pass that agree, and differ from those of the pass before.
static void passes_of_a_loop(void) {
  RUNS("  %3 = const bool[] dense<1>\n  %2 = const i64[] dense<3>\n  %7 = const i64[1] dense<-1>\n  %70 = Reshape(%0, %7)\n  %99 = Loop(%2, %3, %1)\n  body \"body\" (%5: i64[], %6: bool[], %8: f32[1]) {\n"
       "    %9 = Cast(%5) {to=1}\n    %10 = Less(%9, %70)\n    %11 = Compress(%70, %10)\n    %12 = Neg(%70)\n    %13 = Compress(%12, %10)\n    %14 = Mul(%11, %13)\n"
       "    %15 = ReduceSum(%14)\n    %16 = Add(%8, %15)\n    return %6, %16\n  }", 1,
       {{F32(1, 4)}, "1", NULL, {1 - 506 - 505 - 501}});
}

// Every operand at extreme values: an error or a result, the same for both.
static void extremes(void) {
  static const struct { const char *body; uint32_t n; operand ops[MOST_OPERANDS]; } rows[] = {
      {"  %99 = ReduceL2(%0, %1)", 1, {I64(1, 0)}},
      {"  %99 = CumProd(%0, %1) {exclusive=1}", 1, {I32(-1, 1)}},
      {"  %99 = Unsqueeze(%0, %1)", 1, {I64(1, 0)}},
      {"  %99 = Slice(%0, %1, %2, %3, %4)", 4, {I64(1, 1), I64(1, 3), I64(1, 0), I64(1, 1)}},
      {"  %99 = Slice(%0, %1, %2)", 2, {I32(1, 1), I32(1, 3)}},
      {"  %99 = Pad(%0, %1, _, %2) {mode=\"edge\"}", 2, {I64(2, 1, 1), I64(1, 0)}},
      {"  %99 = Resize(%0, _, _, %1) {mode=\"cubic\"}", 1, {I64(2, 2, 2)}},
      {"  %99 = Range(%1, %2, %3)", 3, {I64(-1, 0), I64(-1, 3), I64(-1, 1)}},
      {"  %99 = Trilu(%0, %1)", 1, {I64(-1, 0)}},
      {"  %99 = Expand(%0, %1)", 1, {I64(3, 1, 3, 4)}},
      {"  %99 = Tile(%0, %1)", 1, {I64(2, 1, 1)}},
      {"  %99 = Reshape(%0, %1)", 1, {I64(2, 2, 6)}},
      {"  %99 = ConstantOfShape(%1)", 1, {I64(2, 2, 2)}},
      {"  %99, %98 = TopK(%0, %1)", 1, {I64(1, 2)}},
      {"  %98, %99 = Split(%0, %1)", 1, {I64(2, 1, 2)}},
      {"  %99 = CenterCropPad(%0, %1)", 1, {I64(2, 2, 2)}},
      {"  %99 = HannWindow(%1)", 1, {I64(-1, 4)}},
      {"  %3 = const i64[1] dense<2>\n  %4 = Unsqueeze(%0, %3)\n  %99 = DFT(%4, %1, %2)", 2, {I64(-1, 4), I64(-1, 1)}},
      {"  %99 = STFT(%0, %1, _, %2)", 2, {I64(-1, 1), I64(-1, 2)}},
      {"  %3 = const i64[1] dense<0>\n  %4 = Unsqueeze(%0, %3)\n  %99 = Col2Im(%4, %1, %2)", 2, {I64(2, 2, 2), I64(2, 1, 1)}},
  };
  static const int64_t values[] = {0, -1, 1, 2, 5, -5, INT64_C(1) << 44, -(INT64_C(1) << 44), INT64_MAX / 4, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[1024];
    compiled c;
    text_of(text, sizeof text, rows[i].body, rows[i].ops, rows[i].n);
    compile(text, 3, &c);
    for (uint32_t k = 0; k < rows[i].n && c.m; k++)
      for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        operand ops[MOST_OPERANDS];
        flow_result a = {0}, b = {0};
        memcpy(ops, rows[i].ops, sizeof ops);
        ops[k].v[0] = values[v];
        flow_data d = data_of(ops, rows[i].n);
        sard_status *got = flow_session(c.ctx, c.m, &d, 1, 1, &a), *want = interpret(text, &d, &b);
        bool same = (got == NULL) == (want == NULL) && (got || flow_same(&a.out[0], &b.out[0]));
        if (!same) printf("%s: operand %u is %lld: '%s', interpreted '%s'\n", rows[i].body, k, (long long)values[v], sard_status_text(got, SARD_TEXT_MESSAGE), sard_status_text(want, SARD_TEXT_MESSAGE));
        CHECK(same);
        CHECK(!got || sard_status_code(got) != SARD_E_INTERNAL);
        sard_status_free(got), sard_status_free(want);
        flow_free(&a), flow_free(&b);
      }
    drop(&c);
  }
}

int main(void) {
  RUN(reductions);
  RUN(units);
  RUN(slices);
  RUN(pads);
  RUN(resizes);
  RUN(ranges);
  RUN(in_a_loop);
  RUN(passes_of_a_loop);
  RUN(extremes);
  return check_end();
}
