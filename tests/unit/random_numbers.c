// Random operators: their distributions (mean, variance, Kolmogorov-Smirnov, chi-square; far bounds, and the numbers are
// the same in every run), seeds, nodes without one, every type.
#include "tests/unit/flow.h"

enum { N = 20000 };

typedef struct sample {
  double *x;
  uint64_t n;
} sample;

// Output 0 of the text at -O3, which the interpreter and -O0 have to give as well. With `p` operand x is f32[N] full of it.
static sample draw(const char *text, float p) {
  flow_result r;
  static float x[N];
  int64_t n = N;
  flow_data d = {{flow_tensor(SD_F32, 1, &n, x)}, 1};
  for (int i = 0; i < N; i++) x[i] = p;
  flow_check(text, &d, 1, &r);
  sample s = {0};
  if (!r.n_out) return s;
  s.n = 1;
  for (int i = 0; i < r.out[0].rank; i++) s.n *= (uint64_t)r.out[0].dims[i];
  s.x = malloc((s.n + 1) * sizeof *s.x);
  for (uint64_t i = 0; i < s.n; i++) s.x[i] = sd_dtype_get_f64(r.out[0].dtype, r.out[0].data, i);
  flow_free(&r);
  return s;
}

// The text of a graph whose output is the node `node`, of operand %0 where it reads it.
static const char *graph_of(const char *node) {
  static char text[600];
  snprintf(text, sizeof text, "module\nsymbol N\ngraph \"main\" (%%0 \"x\": f32[N]) {\n  %%1 \"y\" = %s\n  return %%1\n}\n", node);
  return text;
}

static double mean(const sample *s) {
  double sum = 0;
  for (uint64_t i = 0; i < s->n; i++) sum += s->x[i];
  return sum / (double)s->n;
}

static double variance(const sample *s) {
  double m = mean(s), sum = 0;
  for (uint64_t i = 0; i < s->n; i++) sum += (s->x[i] - m) * (s->x[i] - m);
  return sum / (double)s->n;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// The largest distance to a distribution times sqrt(n): above 2.2 once in 8000 true samples. Sorts.
static double distance(sample *s, double (*below)(double, double, double), double a, double b) {
  double d = 0;
  qsort(s->x, s->n, sizeof *s->x, ascending);
  for (uint64_t i = 0; i < s->n; i++) {
    double f = below(s->x[i], a, b);
    d = fmax(d, fmax(f - (double)i / (double)s->n, (double)(i + 1) / (double)s->n - f));
  }
  return d * sqrt((double)s->n);
}

static double uniform_below(double x, double low, double high) { return fmin(1, fmax(0, (x - low) / (high - low))); }
static double normal_below(double x, double m, double s) { return 0.5 * erfc((m - x) / (s * 1.4142135623730951)); }

// Neighbours, and elements one row apart, have nothing to do with each other.
static void independent(const sample *s) {
  double m = mean(s), v = variance(s);
  for (uint64_t lag = 1; lag <= 256; lag *= 16) {
    double sum = 0;
    for (uint64_t i = lag; i < s->n; i++) sum += (s->x[i] - m) * (s->x[i - lag] - m);
    CHECK(fabs(sum / ((double)s->n * v)) < 5 / sqrt((double)s->n));
  }
}

static void drop(sample *s) { free(s->x); }

// ---- distributions ----
// Types by their ONNX number, with what rounding to them adds to a distance.
static const struct {
  int type;
  double more;
} float_types[] = {{SD_F32, 0}, {SD_F64, 0}, {SD_F16, 0.3}, {SD_BF16, 1.5}};

static void check_uniform(const char *node, double low, double high, double more) {
  sample s = draw(graph_of(node), 0);
  CHECK(s.n == N);
  double wide = high - low;
  CHECK(fabs(mean(&s) - (low + high) / 2) < 5 * wide / sqrt(12.0 * N) + more * wide * 1e-3);
  CHECK(fabs(variance(&s) / (wide * wide / 12) - 1) < 0.05);
  independent(&s);
  CHECK(distance(&s, uniform_below, low, high) < 2.2 + more);
  CHECK(s.x[0] >= low && s.x[s.n - 1] <= high);
  drop(&s);
}

static void check_normal(const char *node, double m, double deviation, double more) {
  sample s = draw(graph_of(node), 0);
  CHECK(s.n == N);
  CHECK(fabs(mean(&s) - m) < 5 * deviation / sqrt(N) + more * deviation * 1e-3);
  CHECK(fabs(variance(&s) / (deviation * deviation) - 1) < 0.06);
  independent(&s);
  CHECK(distance(&s, normal_below, m, deviation) < 2.2 + more);
  drop(&s);
}

static void uniform(void) {
  char node[200];
  check_uniform("RandomUniform() {shape=[100, 200], seed=3.5}", 0, 1, 0);
  check_uniform("RandomUniform() {shape=[20000], low=-3, high=5}", -3, 5, 0);
  for (size_t i = 0; i < sizeof float_types / sizeof *float_types; i++) {
    snprintf(node, sizeof node, "RandomUniformLike(%%0) {dtype=%d, seed=%zu, low=-1}", float_types[i].type, i);
    check_uniform(node, -1, 1, float_types[i].more);
  }
}

static void normal(void) {
  char node[200];
  check_normal("RandomNormal() {shape=[20, 1000], seed=3.5}", 0, 1, 0);
  check_normal("RandomNormal() {shape=[20000], mean=4, scale=0.5}", 4, 0.5, 0);
  for (size_t i = 0; i < sizeof float_types / sizeof *float_types; i++) {
    snprintf(node, sizeof node, "RandomNormalLike(%%0) {dtype=%d, seed=%zu, scale=2}", float_types[i].type, i);
    check_normal(node, 0, 2, float_types[i].more);
  }
}

static void bernoulli(void) {
  static const int types[] = {SD_F32, SD_F64, SD_F16, SD_BF16, SD_BOOL, SD_I8, SD_U8, SD_I16, SD_U16, SD_I32, SD_U32, SD_I64, SD_U64};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    char node[200];
    double p = 0.05 + 0.07 * (double)i;
    snprintf(node, sizeof node, "Bernoulli(%%0) {dtype=%d, seed=%zu}", types[i], i);
    sample s = draw(graph_of(node), (float)p);
    uint64_t other = 0;
    for (uint64_t k = 0; k < s.n; k++) other += s.x[k] != 0 && s.x[k] != 1;
    CHECK(other == 0);
    CHECK(fabs(mean(&s) - p) < 5 * sqrt(p * (1 - p) / N));
    independent(&s);
    drop(&s);
  }
  for (int p = 0; p < 2; p++) {
    sample s = draw(graph_of("Bernoulli(%0)"), (float)p);
    CHECK(mean(&s) == p);
    drop(&s);
  }
}

// Classes with probabilities 1 : 2 : 3 : 0 : 4, by their logarithms.
static void multinomial(void) {
  static const double share[] = {0.1, 0.2, 0.3, 0, 0.4};
  for (int type = SD_I32; type <= SD_I64; type++) {
    char text[600];
    snprintf(text, sizeof text,
             "module\nsymbol N\ngraph \"main\" (%%0 \"x\": f32[N]) {\n"
             "  %%1 = const f32[1,5] dense<0, 0.6931472, 1.0986123, -200, 1.3862944>\n"
             "  %%2 = Multinomial(%%1) {sample_size=20000, seed=9, dtype=%d}\n  return %%2\n}\n", type);
    sample s = draw(text, 0);
    double count[5] = {0}, chi = 0;
    for (uint64_t i = 0; i < s.n; i++)
      if (s.x[i] >= 0 && s.x[i] < 5) count[(int)s.x[i]]++;
    CHECK(s.n == N && count[0] + count[1] + count[2] + count[4] == N);
    for (int i = 0; i < 5; i++)
      if (share[i] > 0) chi += (count[i] - share[i] * N) * (count[i] - share[i] * N) / (share[i] * N);
    CHECK(chi < 21); // 3 degrees of freedom: once in 10000
    independent(&s);
    drop(&s);
  }
}

// ---- dropout in training ----
static sample dropped(const char *attrs, float ratio) {
  char text[700];
  snprintf(text, sizeof text,
           "module\nsymbol N\ngraph \"main\" (%%0 \"x\": f32[N]) {\n"
           "  %%1 = const f32[] dense<%g>\n  %%2 = const bool[] dense<1>\n"
           "  %%3 \"y\", %%4 \"mask\" = Dropout(%%0, %%1, %%2)%s\n  %%5 = Cast(%%4) {to=1}\n  %%6 = Mul(%%3, %%5)\n"
           "  return %%6\n}\n", (double)ratio, attrs);
  return draw(text, 3);
}

static void dropout(void) {
  static const char *const attrs[] = {"", " {seed=7}"};
  for (int a = 0; a < 2; a++)
    for (int k = 0; k < 3; k++) {
      float ratio = (float)k * 0.3f;
      sample s = dropped(attrs[a], ratio);
      uint64_t zero = 0, scaled = 0;
      for (uint64_t i = 0; i < s.n; i++) zero += s.x[i] == 0, scaled += fabs(s.x[i] - 3 / (1 - ratio)) < 1e-5;
      CHECK(zero + scaled == N);
      CHECK(fabs((double)zero / N - ratio) <= 5 * sqrt(ratio * (1 - ratio) / N));
      if (k) independent(&s);
      drop(&s);
    }
}

// Training that only the run knows.
static void dropout_switch(void) {
  for (uint8_t on = 0; on < 2; on++) {
    flow_result r;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int64_t n = 8;
    flow_data d = {{flow_tensor(SD_F32, 1, &n, x), flow_tensor(SD_BOOL, 0, NULL, &on)}, 2};
    flow_check("module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N], %1 \"t\": bool[]) {\n"
               "  %2, %3 = Dropout(%0, _, %1) {seed=0}\n  return %2, %3\n}\n", &d, 2, &r);
    // Uniform numbers of seed 0: 0.549 0.715 0.603 0.545 0.424 0.646 0.438 0.892
    flow_expect(&r, 0, on ? (double[]){2, 4, 6, 8, 0, 12, 0, 16} : (double[]){1, 2, 3, 4, 5, 6, 7, 8}, 8);
    flow_expect(&r, 1, on ? (double[]){1, 1, 1, 1, 0, 1, 0, 1} : (double[]){1, 1, 1, 1, 1, 1, 1, 1}, 8);
    flow_free(&r);
  }
}

// ---- seeds ----
static uint64_t equal_in(const sample *a, const sample *b) {
  uint64_t same = 0;
  for (uint64_t i = 0; i < a->n && i < b->n; i++) same += a->x[i] == b->x[i];
  return same;
}

// Two runs of two texts: equal in all elements, or in hardly any.
static void compare(const char *first, const char *second, bool same) {
  sample a = draw(first, 0.5f), b = draw(second, 0.5f);
  CHECK(a.n == N && b.n == N);
  uint64_t equal = equal_in(&a, &b);
  CHECK(same ? equal == N : equal < N / 100);
  drop(&a), drop(&b);
}

static void seeds(void) {
  static const char *const ops[] = {"RandomUniformLike", "RandomNormalLike"};
  for (int i = 0; i < 2; i++)
    for (int seed = 1; seed < 3; seed++) {
      char node[200], first[600];
      snprintf(node, sizeof node, "%s(%%0) {seed=1}", ops[i]);
      snprintf(first, sizeof first, "%s", graph_of(node));
      snprintf(node, sizeof node, "%s(%%0) {seed=%d}", ops[i], seed);
      compare(first, graph_of(node), seed == 1);
    }
}

// Nodes without a seed: each its own numbers, the same in every run.
static void without_seed(void) {
  char first[600];
  static const char two[] = "module\nsymbol N\ngraph \"main\" (%0 \"x\": f32[N]) {\n"
                            "  %1 \"y\" = RandomUniformLike(%0)\n  %2 \"z\" = RandomUniformLike(%0)\n  return %";
  char y[400], z[400];
  snprintf(y, sizeof y, "%s1\n}\n", two);
  snprintf(z, sizeof z, "%s2\n}\n", two);
  compare(y, z, false);
  snprintf(first, sizeof first, "%s", graph_of("RandomUniformLike(%0)"));
  compare(first, y, true);
  compare(first, graph_of("RandomUniformLike(%0) {seed=0}"), false);
}

int main(void) {
  RUN(uniform);
  RUN(normal);
  RUN(bernoulli);
  RUN(multinomial);
  RUN(dropout);
  RUN(dropout_switch);
  RUN(seeds);
  RUN(without_seed);
  return check_end();
}
