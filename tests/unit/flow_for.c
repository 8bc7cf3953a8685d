// Counted loops: states, stacked outputs, values of the enclosing graphs, nesting, no passes at all.
#include "tests/unit/flow.h"

static float seq[64];

static flow_data one_input(int64_t n) {
  for (int i = 0; i < 64; i++) seq[i] = (float)(i + 1);
  return (flow_data){{flow_tensor(SD_F32, 2, (int64_t[]){n, 2}, seq)}, 1};
}

// s += x[i]; y[i] = s * 2
static const char running_sum[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N,2], %1 \"s\": f32[2]) {\n"
    "  %2 = const f32[] dense<2.0>\n"
    "  %3, %4 = sard.For(%1) {trip=\"N\", counter=\"i\"}\n"
    "  body \"b\" (%5: f32[2]) {\n"
    "    %6 = sard.At(%0) {index=\"i\"}\n"
    "    %7 = Add(%5, %6)\n"
    "    %8 = Mul(%7, %2)\n"
    "    return %7, %8\n  }\n"
    "  %9 = Neg(%4)\n"
    "  return %3, %9\n}\n";

static void sums(void) {
  flow_result r;
  for (int64_t n = 0; n < 4; n++) {
    flow_data d = one_input(n);
    float s[2] = {10, 20};
    d.in[d.n_in++] = flow_tensor(SD_F32, 1, (int64_t[]){2}, s);
    flow_check(running_sum, &d, 2, &r);
    if (n == 0) flow_expect(&r, 0, (double[]){10, 20}, 2);
    if (n == 3) flow_expect(&r, 0, (double[]){19, 32}, 2);
    if (n == 3) flow_expect(&r, 1, (double[]){-22, -44, -28, -52, -38, -64}, 6);
    flow_free(&r);
  }
}

// (a, b) = (b, a + b): a state whose next value is another state
static const char fibonacci[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N,2], %1 \"a\": f32[1], %2 \"b\": f32[1]) {\n"
    "  %3, %4, %5 = sard.For(%1, %2) {trip=\"N\", counter=\"i\"}\n"
    "  body \"b\" (%6: f32[1], %7: f32[1]) {\n"
    "    %8 = Add(%6, %7)\n"
    "    return %7, %8, %6\n  }\n"
    "  return %3, %4, %5\n}\n";

static void swaps(void) {
  flow_result r;
  flow_data d = one_input(7);
  float a[1] = {0}, b[1] = {1};
  d.in[d.n_in++] = flow_tensor(SD_F32, 1, (int64_t[]){1}, a);
  d.in[d.n_in++] = flow_tensor(SD_F32, 1, (int64_t[]){1}, b);
  flow_check(fibonacci, &d, 3, &r);
  flow_expect(&r, 0, (double[]){13}, 1);
  flow_expect(&r, 1, (double[]){21}, 1);
  flow_expect(&r, 2, (double[]){0, 1, 1, 2, 3, 5, 8}, 7);
  flow_free(&r);
}

// For each row, for each column: t += x[i, j]; stacked twice. The same initial value for two states.
static const char nested[] =
    "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N,2], %1 \"t\": f32[]) {\n"
    "  %2, %3, %4 = sard.For(%1, %1) {trip=\"N\", counter=\"i\"}\n"
    "  body \"outer\" (%5: f32[], %6: f32[]) {\n"
    "    %7 = sard.At(%0) {index=\"N-1-i\"}\n"
    "    %8, %9 = sard.For(%5) {trip=\"2\", counter=\"j\"}\n"
    "    body \"inner\" (%10: f32[]) {\n"
    "      %11 = sard.At(%7) {index=\"j\"}\n"
    "      %12 = Add(%10, %11)\n"
    "      %13 = Mul(%12, %6)\n"
    "      return %12, %13\n    }\n"
    "    %14 = Exp(%9)\n"
    "    %15 = Log(%14)\n"
    "    %16 = Sub(%6, %7)\n"
    "    %17 = ReduceMax(%16) {keepdims=0}\n"
    "    return %8, %17, %15\n  }\n"
    "  return %2, %3, %4\n}\n";

static void nesting(void) {
  flow_result r;
  flow_data d = one_input(2);
  float t[1] = {1};
  d.in[d.n_in++] = flow_tensor(SD_F32, 0, NULL, t);
  flow_check(nested, &d, 3, &r);
  flow_expect(&r, 0, (double[]){11}, 1);
  flow_expect(&r, 1, (double[]){-3}, 1);
  flow_expect(&r, 2, (double[]){4, 8, -18, -22}, 4);
  flow_free(&r);
}

int main(void) {
  RUN(sums);
  RUN(swaps);
  RUN(nesting);
  return check_end();
}
