// Gradient: each rule of ir/ops/grad.def against central differences in f64, interpreted and compiled; values in place of
// the named tensors; second derivatives; sizes known at run time; what is refused.
#include "tests/unit/flow.h"

typedef struct rule_case {
  const char *name;
  const char *a, *b;    // types of the inputs
  double low, high;     // of their elements
  const char *body;     // nodes that make %50 of %0 and %1
} rule_case;

#define UNARY(op, low, high) {op, "2,3", "1", low, high, "%50 = " op "(%0)"}
static const rule_case cases[] = {
    {"Add", "2,3", "3", -2, 2, "%50 = Add(%0, %1)"},
    {"Sub", "2,1", "1,3", -2, 2, "%50 = Sub(%0, %1)"},
    {"Mul", "2,3", "2,1", -2, 2, "%50 = Mul(%0, %1)"},
    {"Div", "3", "2,3", 1, 2, "%50 = Div(%0, %1)"},
    {"Pow", "2,3", "3", 0.5, 2, "%50 = Pow(%0, %1)"},
    {"Pow integer", "2,3", "1", -2, 2, "%2 = const i64[3] dense<0, 1, 3> %50 = Pow(%0, %2)"},
    UNARY("Neg", -2, 2), UNARY("Abs", -2, 2), UNARY("Sign", -2, 2), UNARY("Floor", -2, 2), UNARY("Ceil", -2, 2), UNARY("Round", -2, 2),
    {"Clip", "2,3", "", -2, 2, "%50 = Clip(%0, %1, _)"},
    {"Clip both", "2,3", "", -2, 2, "%2 = const f64[] dense<0.5> %50 = Clip(%0, %1, %2)"},
    {"Min", "2,3", "3", -2, 2, "%50 = Min(%0, %1)"},
    {"Max", "2,3", "2,1", -2, 2, "%50 = Max(%0, %1)"},
    {"Sum", "2,3", "3", -2, 2, "%50 = Sum(%0, %1, %0)"},
    {"Mean", "2,3", "3", -2, 2, "%50 = Mean(%0, %1)"},
    UNARY("Reciprocal", 0.5, 2), UNARY("Sqrt", 0.5, 2), UNARY("Exp", -2, 2), UNARY("Log", 0.5, 2), UNARY("Sin", -2, 2), UNARY("Cos", -2, 2),
    UNARY("Tan", -1, 1), UNARY("Asin", -0.9, 0.9), UNARY("Acos", -0.9, 0.9), UNARY("Atan", -2, 2), UNARY("Sinh", -2, 2), UNARY("Cosh", -2, 2),
    UNARY("Tanh", -2, 2), UNARY("Asinh", -2, 2), UNARY("Acosh", 1.5, 3), UNARY("Atanh", -0.9, 0.9), UNARY("Erf", -2, 2),
    UNARY("Relu", -2, 2), UNARY("LeakyRelu", -2, 2), UNARY("Elu", -2, 2), UNARY("Selu", -2, 2), UNARY("HardSigmoid", -4, 4),
    UNARY("HardSwish", -4, 4), UNARY("Sigmoid", -2, 2), UNARY("Softplus", -2, 2), UNARY("Softsign", -2, 2), UNARY("Mish", -2, 2),
    {"Celu", "2,3", "1", -2, 2, "%50 = Celu(%0) {alpha=2}"},
    {"ThresholdedRelu", "2,3", "1", -2, 2, "%50 = ThresholdedRelu(%0) {alpha=0.5}"},
    {"PRelu", "2,3", "3", -2, 2, "%50 = PRelu(%0, %1)"},
    {"Swish", "2,3", "1", -2, 2, "%50 = Swish(%0) {alpha=1.5}"},
    {"QuickGelu", "2,3", "1", -2, 2, "%50 = com.microsoft.QuickGelu(%0)"},
    {"Gelu", "2,3", "1", -2, 2, "%50 = Gelu(%0)"},
    {"Gelu of com.microsoft", "2,3", "1", -2, 2, "%50 = com.microsoft.Gelu(%0)"},
    {"Gelu tanh", "2,3", "1", -2, 2, "%50 = Gelu(%0) {approximate=\"tanh\"}"},
    {"Softmax", "2,3,4", "1", -2, 2, "%50 = Softmax(%0) {axis=1}"},
    {"LogSoftmax", "2,3", "1", -2, 2, "%50 = LogSoftmax(%0)"},
    {"Identity", "2,3", "1", -2, 2, "%50 = Identity(%0)"},
    {"CastLike", "2,3", "1", -2, 2, "%50 = CastLike(%0, %1)"},
    {"Where", "2,3", "3", -2, 2, "%2 = Greater(%0, %1) %50 = Where(%2, %0, %1)"},
    {"MatMul", "2,3", "3,4", -2, 2, "%50 = MatMul(%0, %1)"},
    {"MatMul batches", "2,1,2,3", "4,3,2", -2, 2, "%50 = MatMul(%0, %1)"},
    {"MatMul row", "3", "2,3,4", -2, 2, "%50 = MatMul(%0, %1)"},
    {"MatMul column", "2,4,3", "3", -2, 2, "%50 = MatMul(%0, %1)"},
    {"MatMul dot", "3", "3", -2, 2, "%50 = MatMul(%0, %1)"},
    {"Gemm", "2,3", "3,4", -2, 2, "%50 = Gemm(%0, %1) {alpha=0.5}"},
    {"Gemm left", "3,2", "3,4", -2, 2, "%50 = Gemm(%0, %1) {transA=1, alpha=0.5}"},
    {"Gemm right", "2,3", "4,3", -2, 2, "%50 = Gemm(%0, %1) {transB=1}"},
    {"Gemm both", "3,2", "4,3", -2, 2, "%50 = Gemm(%0, %1) {transA=1, transB=1}"},
    {"Gemm bias", "3,3", "3", -2, 2, "%50 = Gemm(%0, %0, %1) {beta=2}"},
    {"ReduceSum", "2,3,4", "1", -2, 2, "%2 = const i64[2] dense<0, -1> %50 = ReduceSum(%0, %2) {keepdims=0}"},
    {"ReduceSum none", "2,3", "1", -2, 2, "%50 = ReduceSum(%0) {noop_with_empty_axes=1}"},
    {"ReduceMean", "2,3,4", "1", -2, 2, "%2 = const i64[1] dense<1> %50 = ReduceMean(%0, %2)"},
    {"ReduceL1", "2,3", "1", -2, 2, "%2 = const i64[1] dense<1> %50 = ReduceL1(%0, %2)"},
    {"ReduceL2", "2,3", "1", -2, 2, "%2 = const i64[1] dense<0> %50 = ReduceL2(%0, %2) {keepdims=0}"},
    {"ReduceSumSquare", "2,3", "1", -2, 2, "%50 = ReduceSumSquare(%0) {keepdims=0}"},
    {"ReduceLogSum", "2,3", "1", 0.5, 2, "%2 = const i64[1] dense<1> %50 = ReduceLogSum(%0, %2)"},
    {"ReduceLogSumExp", "2,3", "1", -2, 2, "%2 = const i64[1] dense<1> %50 = ReduceLogSumExp(%0, %2)"},
    {"ReduceMax", "2,3", "1", -2, 2, "%2 = const i64[1] dense<1> %50 = ReduceMax(%0, %2) {keepdims=0}"},
    {"ReduceMin", "2,3", "1", -2, 2, "%50 = ReduceMin(%0)"},
    {"Reshape", "2,6", "1", -2, 2, "%2 = const i64[2] dense<3, -1> %50 = Reshape(%0, %2)"},
    {"Flatten", "2,3,2", "1", -2, 2, "%50 = Flatten(%0)"},
    {"Squeeze", "2,1,3", "1", -2, 2, "%50 = Squeeze(%0)"},
    {"Unsqueeze", "2,3", "1", -2, 2, "%2 = const i64[1] dense<1> %50 = Unsqueeze(%0, %2)"},
    {"Transpose", "2,3,4", "1", -2, 2, "%50 = Transpose(%0) {perm=[1,2,0]}"},
    {"Transpose reversed", "2,3,4", "1", -2, 2, "%50 = Transpose(%0)"},
    {"Expand", "3,1", "1", -2, 2, "%2 = const i64[3] dense<2, 3, 4> %50 = Expand(%0, %2)"},
    {"Concat", "2,3", "2,2", -2, 2, "%50 = Concat(%0, %1, %0) {axis=-1}"},
    {"Split", "2,5", "1", -2, 2, "%2 = const i64[2] dense<2, 3> %3, %50 = Split(%0, %2) {axis=1}"},
    {"Slice", "4,5", "1", -2, 2, "%2 = const i64[2] dense<1, -1> %3 = const i64[2] dense<3, 0> %4 = const i64[2] dense<0, 1> "
                                "%5 = const i64[2] dense<1, -2> %50 = Slice(%0, %2, %3, %4, %5)"},
    {"Slice plain", "4,5", "1", -2, 2, "%2 = const i64[1] dense<1> %3 = const i64[1] dense<4> %4 = const i64[1] dense<1> %50 = Slice(%0, %2, %3, %4)"},
    {"Gather", "3,4", "1", -2, 2, "%2 = const i64[2,2] dense<0, 2, -1, 1> %50 = Gather(%0, %2) {axis=1}"},
    {"GatherElements", "3,2", "1", -2, 2, "%2 = const i64[2,2] dense<0, 2, -1, 1> %50 = GatherElements(%0, %2)"},
    {"Conv", "2,2,5", "3,2,3", -1, 1, "%50 = Conv(%0, %1)"},
    {"Conv steps", "1,2,4,5", "2,2,2,3", -1, 1, "%50 = Conv(%0, %1) {pads=[1, 0, 0, 2], strides=[2, 3], dilations=[1, 2]}"},
    {"Conv rest", "1,1,6,6", "2,1,2,2", -1, 1, "%50 = Conv(%0, %1) {strides=[3, 4]}"},
    {"Conv groups", "2,4,4", "6,2,3", -1, 1, "%50 = Conv(%0, %1) {group=2, pads=[1, 1]}"},
    {"Conv depthwise", "1,3,4,3", "3,1,2,2", -1, 1, "%50 = Conv(%0, %1) {group=3, auto_pad=\"SAME_UPPER\", strides=[2, 1]}"},
    {"Conv bias", "1,2,4", "3", -1, 1, "%2 = const f64[3,2,1] dense<1, 0.5, -1, 2, 0.25, -0.5> %50 = Conv(%0, %2, %1)"},
    {"AveragePool", "1,2,5,4", "1", -1, 1, "%50 = AveragePool(%0) {kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1]}"},
    {"AveragePool with pads", "1,2,5,4", "1", -1, 1, "%50 = AveragePool(%0) {kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1], count_include_pad=1}"},
    {"AveragePool ceil", "2,1,6", "1", -1, 1, "%50 = AveragePool(%0) {kernel_shape=[3], strides=[2], ceil_mode=1, count_include_pad=1, pads=[1, 0]}"},
    {"AveragePool dilated", "1,1,7", "1", -1, 1, "%50 = AveragePool(%0) {kernel_shape=[2], dilations=[3]}"},
    {"MaxPool", "2,2,4,4", "1", -1, 1, "%50 = MaxPool(%0) {kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0]}"},
    {"MaxPool ceil", "1,2,7", "1", -1, 1, "%50 = MaxPool(%0) {kernel_shape=[2], strides=[2], dilations=[2], ceil_mode=1, storage_order=1}"},
    {"GlobalAveragePool", "2,2,3,2", "1", -1, 1, "%50 = GlobalAveragePool(%0)"},
    {"GlobalMaxPool", "2,2,3,2", "1", -1, 1, "%50 = GlobalMaxPool(%0)"},
    {"LayerNormalization", "2,3,4", "4", -2, 2, "%50 = LayerNormalization(%0, %1, %1)"},
    {"LayerNormalization axes", "2,3,4", "3,4", -2, 2, "%50 = LayerNormalization(%0, %1) {axis=1, epsilon=0.1}"},
    {"RMSNormalization", "2,3,4", "4", -2, 2, "%50 = RMSNormalization(%0, %1)"},
    {"SimplifiedLayerNormalization", "2,3,4", "3,4", -2, 2, "%50 = SimplifiedLayerNormalization(%0, %1) {axis=1}"},
    {"InstanceNormalization", "2,3,4", "3", -2, 2, "%50 = InstanceNormalization(%0, %1, %1)"},
    {"GroupNormalization", "2,4,3,2", "4", -2, 2, "%50 = GroupNormalization(%0, %1, %1) {num_groups=2}"},
    {"BatchNormalization", "2,3,4", "3", 0.5, 2, "%50 = BatchNormalization(%0, %1, %1, %1, %1)"},
    {"BatchNormalization training", "2,3,2,2", "3", 0.5, 2, "%50 = BatchNormalization(%0, %1, %1, %1, %1) {training_mode=1}"},
    {"chain", "3,3", "3", -1, 1, "%2 = MatMul(%0, %0) %3 = Add(%2, %1) %4 = Tanh(%3) %5 = Mul(%4, %0) %50 = Sub(%5, %2)"},
};

// ---- data ----
typedef struct input { double v[64]; int64_t dims[4]; int rank; uint64_t count; } input;

static input make_input(const char *type, double low, double high, uint64_t seed) {
  input x = {.count = 1};
  for (const char *p = type; *p; p += strcspn(p, ",") + (strchr(p, ',') != NULL)) x.dims[x.rank++] = strtol(p, NULL, 10), x.count *= (uint64_t)x.dims[x.rank - 1];
  for (uint64_t i = 0; i < x.count; i++) x.v[i] = low + (high - low) * (double)(test_random(&seed) >> 11) / 9007199254740992.0;
  return x;
}

static flow_data bind(input *a, input *b) {
  flow_data d = {.n_in = 2};
  d.in[0] = flow_tensor(SD_F64, a->rank, a->dims, a->v);
  d.in[1] = flow_tensor(SD_F64, b->rank, b->dims, b->v);
  return d;
}

// ---- rules ----
static double value_at(const char *text, const flow_data *d) {
  flow_result r;
  flow_interpret(text, d, 3, &r);
  double v = r.n_out ? *(double *)r.out[0].data : NAN;
  flow_free(&r);
  return v;
}

static void check_differences(const rule_case *c, const char *text, input *a, input *b) {
  flow_data d = bind(a, b);
  flow_result r;
  flow_check(text, &d, 3, &r);
  for (int k = 0; k < 2 && r.n_out; k++) {
    input *x = k ? b : a;
    const double *got = r.out[1 + k].data;
    CHECK(r.out[1 + k].bytes == x->count * sizeof(double));
    for (uint64_t i = 0; i < x->count; i += check_short() ? 4 : 1) {
      double keep = x->v[i], h = 1e-5;
      x->v[i] = keep + h;
      double up = value_at(text, &d);
      x->v[i] = keep - h;
      double want = (up - value_at(text, &d)) / (2 * h);
      x->v[i] = keep;
      bool near = fabs(got[i] - want) <= 1e-6 * (1 + fabs(want));
      CHECK(near);
      if (!near) printf("  %s: d/d%c[%lu] is %.9g, differences give %.9g\n", c->name, "ab"[k], (unsigned long)i, got[i], want);
    }
  }
  flow_free(&r);
}

// The sum of the squares of what the rule gives, so that the incoming gradient differs from element to element.
static void test_rules(void) {
  static char text[2048];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const rule_case *c = &cases[i];
    input a = make_input(c->a, c->low, c->high, 10 + i), b = make_input(c->b, c->low, c->high, 500 + i);
    snprintf(text, sizeof text,
             "module graph \"main\" (%%0 \"a\": f64[%s], %%1 \"b\": f64[%s]) { %s %%60 = Mul(%%50, %%50) %%61 = ReduceSum(%%60) {keepdims=0}"
             " %%70, %%71 = ai.onnx.preview.training.Gradient(%%0, %%1, %%0, %%1, %%61) {xs=[\"a\", \"b\"], y=\"y\"} return %%61, %%70, %%71 }",
             c->a, c->b, c->body);
    check_differences(c, text, &a, &b);
  }
}

// ---- the operator ----
static void test_replaced(void) { // y = a * b at a = 10, b as it is; the graph's own y stays
  double a[] = {2, 3}, b[] = {5, 7}, c[] = {10, 20};
  int64_t two = 2;
  flow_data d = {.n_in = 3, .in = {flow_tensor(SD_F64, 1, &two, a), flow_tensor(SD_F64, 1, &two, b), flow_tensor(SD_F64, 1, &two, c)}};
  flow_result r;
  flow_check("module graph \"main\" (%0 \"a\": f64[2], %1 \"b\": f64[2], %2 \"c\": f64[2]) { %3 = Mul(%0, %0) %4 = Mul(%3, %1)"
             " %5 = ai.onnx.preview.training.Gradient(%2, %1, %0, %1, %4) {xs=[\"a\"], zs=[\"b\"], y=\"y\"} return %4, %5 }", &d, 2, &r);
  flow_expect(&r, 0, (double[]){20, 63}, 2);
  flow_expect(&r, 1, (double[]){100, 280}, 2);
  flow_free(&r);
}

static void test_second(void) { // d2/da2 of a^3
  double a[] = {2, 3};
  int64_t two = 2;
  flow_data d = {.n_in = 1, .in = {flow_tensor(SD_F64, 1, &two, a)}};
  flow_result r;
  flow_check("module graph \"main\" (%0 \"a\": f64[2]) { %1 = Mul(%0, %0) %2 = Mul(%1, %0)"
             " %3 = ai.onnx.preview.training.Gradient(%0, %0, %2) {xs=[\"a\"], y=\"y\"}"
             " %4 = ai.onnx.preview.training.Gradient(%0, %0, %3) {xs=[\"a\"], y=\"dy\"} return %3, %4 }", &d, 2, &r);
  flow_expect(&r, 0, (double[]){12, 27}, 2);
  flow_expect(&r, 1, (double[]){12, 18}, 2);
  flow_free(&r);
}

// A named tensor that is computed is independent; another one that y does not depend on has the gradient 0.
static void test_between(void) {
  double a[] = {2, 3}, b[] = {4};
  int64_t two = 2, one = 1;
  flow_data d = {.n_in = 2, .in = {flow_tensor(SD_F64, 1, &two, a), flow_tensor(SD_F64, 1, &one, b)}};
  flow_result r;
  flow_check("module graph \"main\" (%0 \"a\": f64[2], %1 \"b\": f64[1]) { %2 = Mul(%0, %0) %3 = Mul(%2, %2)"
             " %4, %5 = ai.onnx.preview.training.Gradient(%2, %1, %2, %1, %3) {xs=[\"h\", \"b\"], y=\"y\"} return %4, %5 }", &d, 2, &r);
  flow_expect(&r, 0, (double[]){8, 18}, 2);
  flow_expect(&r, 1, (double[]){0}, 1);
  flow_free(&r);
}

// Whether b is broadcast is known at run time only.
static void test_symbols(void) {
  static const char text[] = "module symbol N symbol M graph \"main\" (%0 \"a\": f64[N], %1 \"b\": f64[M]) { %2 = Mul(%0, %1)"
                             " %3, %4 = ai.onnx.preview.training.Gradient(%0, %1, %0, %1, %2) {xs=[\"a\", \"b\"], y=\"y\"} return %3, %4 }";
  double a[] = {2, 3, 4}, b[] = {5, 6, 7};
  for (int k = 0; k < 4; k++) {
    int64_t n = k & 1 ? 3 : 1, m = k & 2 ? 3 : 1;
    flow_data d = {.n_in = 2, .in = {flow_tensor(SD_F64, 1, &n, a), flow_tensor(SD_F64, 1, &m, b)}};
    flow_result r;
    flow_check(text, &d, 2, &r);
    flow_expect(&r, 0, n == 3 ? m == 3 ? (double[]){5, 6, 7} : (double[]){5, 5, 5} : (double[]){m == 3 ? 18 : 5}, (uint64_t)n);
    flow_expect(&r, 1, m == 3 ? n == 3 ? (double[]){2, 3, 4} : (double[]){2, 2, 2} : (double[]){n == 3 ? 9 : 2}, (uint64_t)m);
    flow_free(&r);
  }
}

static void refuse(const char *body, int code, const char *part) {
  static char text[1024];
  flow_data d = {.n_in = 0};
  flow_result r;
  snprintf(text, sizeof text, "module graph \"main\" (%%0 \"a\": f64[4]) { %s return %%9 }", body);
  sard_status *st = flow_run(text, 0, &d, 1, &r);
  CHECK(sard_status_code(st) == code && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), part));
  if (st && !strstr(sard_status_text(st, SARD_TEXT_MESSAGE), part)) printf("  %s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
}

static void test_refused(void) {
  refuse("%1 = const i64[] dense<0> %2 = CumSum(%0, %1) %9 = ai.onnx.preview.training.Gradient(%0, %0, %2) {xs=[\"a\"], y=\"y\"}", SARD_E_UNSUPPORTED,
         "no derivative of CumSum");
  refuse("%9 = ai.onnx.preview.training.Gradient(%0) {xs=[\"a\"], y=\"y\"}", SARD_E_MODEL, "1 operands do not fit 1 names");
  refuse("%9 = ai.onnx.preview.training.Gradient(%0) {xs=[], y=\"y\"}", SARD_E_MODEL, "names no tensor");
  refuse("%1 = const f32[4] dense<0, 1, 2, 3> %9 = ai.onnx.preview.training.Gradient(%1, %0, %0) {xs=[\"a\"], y=\"y\"}", SARD_E_MODEL, "another type");
  refuse("%1 = Shape(%0) %9 = ai.onnx.preview.training.Gradient(%0, %0, %1) {xs=[\"a\"], y=\"y\"}", SARD_E_MODEL, "y is of type i64");
}

int main(void) {
  RUN(test_rules);
  RUN(test_replaced);
  RUN(test_second);
  RUN(test_between);
  RUN(test_symbols);
  RUN(test_refused);
  return check_end();
}
