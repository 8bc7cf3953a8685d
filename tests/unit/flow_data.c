// Branches, loops with a condition, and shapes that the data decides.
#include "tests/unit/flow.h"

static float x12[12] = {1, 0, 2, 0, 0, 3, 4, 0, 5, 6, 0, 7};

static flow_data values(int64_t n) { return (flow_data){{flow_tensor(SD_F32, 1, &n, x12)}, 1}; }
static void add_bool(flow_data *d, uint8_t *b) { d->in[d->n_in++] = flow_tensor(SD_BOOL, 0, NULL, b); }

// ---- If ----
static const char branches[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"c\": bool[]) {\n"
    "  %2 = Neg(%0)\n"
    "  %3, %4 = If(%1)\n"
    "  body \"then_branch\" () {\n    %5 = Add(%0, %2)\n    %6 = Exp(%5)\n    return %6, %0\n  }\n"
    "  body \"else_branch\" () {\n    %7 = Mul(%0, %2)\n    return %7, %2\n  }\n"
    "  %8 = Add(%3, %4)\n"
    "  return %8, %3\n}\n";

static void both_ways(void) {
  for (uint8_t yes = 0; yes < 2; yes++) {
    flow_result r;
    flow_data d = values(3);
    add_bool(&d, &yes);
    flow_check(branches, &d, 2, &r);
    flow_expect(&r, 0, yes ? (double[]){2, 1, 3} : (double[]){-2, 0, -6}, 3);
    flow_free(&r);
  }
}

// Outputs of different shapes.
static const char shapes[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"c\": bool[]) {\n"
    "  %2 = If(%1)\n"
    "  body \"then_branch\" () {\n    %3 = Concat(%0, %0) {axis=0}\n    return %3\n  }\n"
    "  body \"else_branch\" () {\n    %4 = Neg(%0)\n    return %4\n  }\n"
    "  %5 = Exp(%2)\n"
    "  %6 = Log(%5)\n"
    "  %7 = ReduceSum(%6) {keepdims=0}\n"
    "  return %6, %7\n}\n";

static void other_shapes(void) {
  for (uint8_t yes = 0; yes < 2; yes++) {
    flow_result r;
    flow_data d = values(3);
    add_bool(&d, &yes);
    flow_check(shapes, &d, 2, &r);
    flow_expect(&r, 0, yes ? (double[]){1, 0, 2, 1, 0, 2} : (double[]){-1, 0, -2}, yes ? 6 : 3);
    flow_expect(&r, 1, yes ? (double[]){6} : (double[]){-3}, 1);
    flow_free(&r);
  }
}

// ---- loops ----
// s doubles until it reaches 100; each value is stacked.
static const char until[] =
    "module\ngraph \"main\" (%0 \"s\": f32[1], %1 \"m\": i64[], %2 \"c\": bool[]) {\n"
    "  %3, %4 = Loop(%1, %2, %0)\n"
    "  body \"body\" (%5: i64[], %6: bool[], %7: f32[1]) {\n"
    "    %8 = Add(%7, %7)\n"
    "    %9 = const f32[1] dense<100.0>\n"
    "    %10 = Less(%8, %9)\n"
    "    %11 = Squeeze(%10)\n"
    "    %12 = Cast(%5) {to=1}\n"
    "    %13 = Add(%8, %12)\n"
    "    return %11, %8, %13\n  }\n"
    "  return %3, %4\n}\n";

static void breaks(void) {
  int64_t passes[] = {1000, 3, 0, -5};
  double last[] = {192, 48, 6, 6}, count[] = {5, 3, 0, 0};
  for (int i = 0; i < 4; i++) {
    flow_result r;
    float s[1] = {6};
    uint8_t yes = 1;
    flow_data d = {{flow_tensor(SD_F32, 1, (int64_t[]){1}, s), flow_tensor(SD_I64, 0, NULL, &passes[i])}, 2};
    add_bool(&d, &yes);
    flow_check(until, &d, 2, &r);
    flow_expect(&r, 0, &last[i], 1);
    CHECK(r.n_out == 2 && r.out[1].rank == 2 && r.out[1].dims[0] == (int64_t)count[i]);
    flow_free(&r);
  }
}

// A state that grows: s = concat(s, [i]).
static const char grows[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"s\": f32[N], %1 \"m\": i64[]) {\n"
    "  %2, %3 = sard.While(_, %0) {trip=\"7\", counter=\"i\", count=\"made\"} : f32[S], f32[made,1]\n"
    "  body \"body\" (%4: f32[S]) {\n"
    "    %5 = sard.Dims() {dims=[\"i\"]}\n"
    "    %6 = Cast(%5) {to=1}\n"
    "    %7 = Concat(%4, %6) {axis=0}\n"
    "    %8 = ReduceSum(%7)\n"
    "    return %7, %8\n  }\n"
    "  %9 = Neg(%2)\n"
    "  return %9, %3\n}\n";

static void growing_state(void) {
  flow_result r;
  int64_t m = 0;
  flow_data d = values(2);
  d.in[d.n_in++] = flow_tensor(SD_I64, 0, NULL, &m);
  flow_check(grows, &d, 2, &r);
  flow_expect(&r, 0, (double[]){-1, 0, 0, -1, -2, -3, -4, -5, -6}, 9);
  flow_expect(&r, 1, (double[]){1, 2, 4, 7, 11, 16, 22}, 7);
  flow_free(&r);
}

// ---- sizes that the data gives ----
static const char nonzero[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N]) {\n"
    "  %1 = NonZero(%0)\n"
    "  %2 = Squeeze(%1)\n"
    "  %3 = Transpose(%1)\n"
    "  %4 = Gather(%0, %2)\n"
    "  %5 = Softmax(%4)\n"
    "  %6 = Mul(%4, %4)\n"
    "  %7 = Shape(%4)\n"
    "  return %3, %6, %5, %7\n}\n";

static void nonzero_chain(void) {
  for (int64_t n = 0; n <= 12; n += 4) {
    flow_result r;
    flow_data d = values(n);
    flow_check(nonzero, &d, 4, &r);
    if (n == 12) flow_expect(&r, 0, (double[]){0, 2, 5, 6, 8, 9, 11}, 7);
    if (n == 12) flow_expect(&r, 1, (double[]){1, 4, 9, 16, 25, 36, 49}, 7);
    if (n == 0) flow_expect(&r, 3, (double[]){0}, 1);
    flow_free(&r);
  }
}

static const char computed[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"k\": i64[1], %2 \"shape\": i64[2]) {\n"
    "  %3, %4 = TopK(%0, %1)\n"
    "  %5 = Reshape(%0, %2)\n"
    "  %6 = ReduceSum(%5) {keepdims=0}\n"
    "  %7 = const i64[1] dense<-1>\n"
    "  %8 = Mul(%1, %7)\n"
    "  %9 = const i64[1] dense<9223372036854775807>\n"
    "  %10 = Slice(%0, %8, %9)\n"
    "  %11 = Expand(%6, %1)\n"
    "  return %3, %4, %5, %10, %11\n}\n";

static void computed_sizes(void) {
  flow_result r;
  int64_t k = 3, shape[2] = {2, -1};
  flow_data d = values(12);
  d.in[d.n_in++] = flow_tensor(SD_I64, 1, (int64_t[]){1}, &k);
  d.in[d.n_in++] = flow_tensor(SD_I64, 1, (int64_t[]){2}, shape);
  flow_check(computed, &d, 5, &r);
  flow_expect(&r, 0, (double[]){7, 6, 5}, 3);
  flow_expect(&r, 1, (double[]){11, 9, 8}, 3);
  flow_expect(&r, 3, (double[]){6, 0, 7}, 3);
  flow_expect(&r, 4, (double[]){28, 28, 28}, 3);
  CHECK(r.n_out == 5 && r.out[2].dims[0] == 2 && r.out[2].dims[1] == 6);
  flow_free(&r);
  shape[0] = 5; // 12 elements do not fit
  CHECK_ERR(flow_run(computed, 3, &d, 5, &r), MODEL, "cannot take a shape");
  shape[0] = 2, k = 13;
  CHECK_ERR(flow_run(computed, 3, &d, 5, &r), MODEL, "");
  k = -1;
  CHECK_ERR(flow_run(computed, 3, &d, 5, &r), MODEL, "");
}

static const char unique[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"m\": bool[N]) {\n"
    "  %2, %3, %4, %5 = Unique(%0)\n"
    "  %6 = Compress(%0, %1) {axis=0}\n"
    "  %7 = Add(%2, %2)\n"
    "  return %7, %3, %4, %5, %6\n}\n";

static void unique_values(void) {
  flow_result r;
  uint8_t mask[12] = {0, 1, 1, 0, 0, 1};
  flow_data d = values(6);
  d.in[d.n_in++] = flow_tensor(SD_BOOL, 1, (int64_t[]){6}, mask);
  flow_check(unique, &d, 5, &r);
  flow_expect(&r, 0, (double[]){0, 2, 4, 6}, 4);
  flow_expect(&r, 1, (double[]){1, 0, 2, 5}, 4);
  flow_expect(&r, 2, (double[]){1, 0, 2, 0, 0, 3}, 6);
  flow_expect(&r, 3, (double[]){3, 1, 1, 1}, 4);
  flow_expect(&r, 4, (double[]){0, 2, 3}, 3);
  flow_free(&r);
}

// ---- complex numbers: through a loop and branches, host functions, bits, in the memory of a whole ----
static const char complex_numbers[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": c128[N,2], %1 \"z\": c64[2], %2 \"m\": i64[]) {\n"
    "  %3, %4 = Loop(%2, _, %0)\n"
    "  body \"body\" (%5: i64[], %6: bool[], %7: c128[N,2]) {\n"
    "    %8 = const i64[1] dense<0>\n"
    "    %9 = Gather(%7, %8)\n"
    "    %10 = Transpose(%7) {perm=[1,0]}\n"
    "    %11 = Concat(%7, %9) {axis=0}\n"
    "    %12 = const i64[1] dense<1>\n"
    "    %13 = const i64[1] dense<100>\n"
    "    %14 = Slice(%11, %12, %13, %8)\n"
    "    return %6, %14, %10\n  }\n"
    "  %15 = BitCast(%1) {to=7}\n"
    "  %16 = BitCast(%15) {to=14}\n"
    "  %17 = const c64[] hex<0000803f000000c0>\n"
    "  %18 = const i64[2] dense<1, 0>\n"
    "  %19 = Pad(%16, %18, %17)\n"
    "  %20 = NonZero(%19)\n"
    "  return %3, %4, %19, %20\n}\n";

static void complex_values(void) {
  flow_result r;
  int64_t passes = 2, n[2] = {3, 2}, two = 2;
  double x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  float z[4] = {0, -0.0f, 0, 7};
  flow_data d = {{flow_tensor(SD_C128, 2, n, x), flow_tensor(SD_C64, 1, &two, z), flow_tensor(SD_I64, 0, NULL, &passes)}, 3};
  flow_check(complex_numbers, &d, 4, &r);
  flow_expect(&r, 0, (double[]){9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8}, 12);
  flow_expect(&r, 1, (double[]){1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12, 5, 6, 9, 10, 1, 2, 7, 8, 11, 12, 3, 4}, 24);
  flow_expect(&r, 2, (double[]){1, -2, 0, 0, 0, 7}, 6);
  flow_expect(&r, 3, (double[]){0, 2}, 2);
  flow_free(&r);
}

static void complex_arithmetic(void) {
  flow_result r;
  float z[4] = {1, 2, 3, 4};
  flow_data d = {{flow_tensor(SD_C64, 1, (int64_t[]){2}, z)}, 1};
  CHECK_ERR(flow_run("module\ngraph \"main\" (%0: c64[2]) {\n  %1 = Equal(%0, %0)\n  return %1\n}\n", 3, &d, 1, &r), UNSUPPORTED, "no arithmetic with numbers of type c64");
  CHECK_ERR(flow_run("module\ngraph \"main\" (%0: c64[2]) {\n  %1 = Add(%0, %0)\n  return %1\n}\n", 3, &d, 1, &r), MODEL, "expected a number type");
  CHECK_ERR(flow_run("module\ngraph \"main\" (%0: c64[2]) {\n  %1 = ReduceMax(%0)\n  return %1\n}\n", 3, &d, 1, &r), MODEL, "expected a type with an order");
}

int main(void) {
  RUN(both_ways);
  RUN(other_shapes);
  RUN(breaks);
  RUN(growing_state);
  RUN(nonzero_chain);
  RUN(computed_sizes);
  RUN(unique_values);
  RUN(complex_values);
  RUN(complex_arithmetic);
  return check_end();
}
