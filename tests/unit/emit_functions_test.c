// Functions as the LLVM emitter makes them: units in the last place against the C library in a wider type.
#include "tests/unit/emit_check.h"

typedef struct fn { const char *name; long double (*f)(long double); double lo, hi, ulp32, rel64; } fn;
static long double sigmoid_ref(long double x) { return 1 / (1 + expl(-x)); }
static long double falling_ref(long double x) { return 1 / (1 + expl(x)); }
static long double weight_ref(long double x) { return expl(x < -86.5L ? -86.5L : x); }
static long double power_ref(long double x) { return powl(x, 1.75L); }
static long double less_ref(long double x) { return powl(x, -0.75L); }
static const fn functions[] = {
    {"exp", expl, -110, 95, 1.5, 1e-15},      {"exp", expl, -1, 1, 1.5, 1e-15},         {"log", logl, 0, 3, 1.5, 1e-15},
    {"log", logl, 0, 1e30, 1.5, 1e-15},       {"tanh", tanhl, -10, 10, 5, 1e-14},       {"tanh", tanhl, -0.1, 0.1, 3, 1e-15},
    {"erf", erfl, -4.5, 4.5, 5, 1e-14},       {"erf", erfl, -0.1, 0.1, 5, 1e-15},       {"sin", sinl, -1e5, 1e5, 2, 1e-9},
    {"sin", sinl, -4, 4, 2, 1e-13},           {"cos", cosl, -1e5, 1e5, 2, 1e-9},        {"cos", cosl, -4, 4, 2, 1e-13},
    {"tan", tanl, -1.5, 1.5, 4, 1e-14},       {"asin", asinl, -1, 1, 4, 1e-14},         {"acos", acosl, -1, 1, 4, 1e-13},
    {"atan", atanl, -20, 20, 4, 1e-14},       {"sinh", sinhl, -80, 80, 4, 1e-14},       {"sinh", sinhl, -1, 1, 3, 1e-14},
    {"cosh", coshl, -80, 80, 4, 1e-14},       {"asinh", asinhl, -50, 50, 5, 1e-14},     {"acosh", acoshl, 1, 50, 5, 1e-14},
    {"atanh", atanhl, -1, 1, 5, 1e-14},       {"sqrt", sqrtl, 0, 1e6, 0.5, 1e-15},
};
// With the type of constants left open; f32 below the smallest normal number may be 0.
static const struct { fn f; const char *text; } formulas[] = {
    {{"sigmoid", sigmoid_ref, -95, 95, 3, 1e-14}, "(%s:1 / (%s:1 + exp(neg(b0[a0]))))"},
    {{"sigmoid", sigmoid_ref, -1, 1, 3, 1e-15}, "(%s:1 / (%s:1 + exp(neg(b0[a0]))))"},
    {{"sigmoid", sigmoid_ref, -87.4, -87.3, 3, 1e-14}, "(%s:1 / (%s:1 + exp(neg(b0[a0]))))"},
    {{"falling", falling_ref, -95, 95, 3, 1e-14}, "(%s:1 / (exp(b0[a0]) + %s:1))"},
    {{"weight", weight_ref, -100, 95, 1.5, 1e-15}, "exp(max(b0[a0], %s:-86.5))"},
    {{"power", power_ref, -1, 30, 3.5, 1e-15}, "pow(b0[a0], %s:1.75)"},
    {{"less", less_ref, -1, 30, 4.5, 1e-15}, "pow(b0[a0], %s:-0.75)"},
};
static const double special[] = {0.0, -0.0, 1, -1, INFINITY, -INFINITY, NAN, 1e-40, -1e-40, 1e30, -1e30, 88.7, -87.5, -103.9, 0.5, 2, 1e-8};
#define N_SPECIAL (int)(sizeof special / sizeof *special)
#define N_POINTS 4000

static double ulp_of(double x) { // of f32 at x
  double a = fabs(x);
  if (a < 0x1p-126) return 0x1p-149;
  int e;
  frexp(a, &e);
  return ldexp(1, e - 24);
}

static double domain(const fn *f, int i) {
  if (i < N_SPECIAL && f->lo < 0) return special[i];
  return f->lo + (f->hi - f->lo) * er_uniform(&seed);
}

static void run_function(const fn *f, const char *formula, const sd_isa *isa, bool wide) {
  const char *t = wide ? "f64" : "f32";
  char form[64];
  if (formula) snprintf(form, sizeof form, formula, t, t);
  else snprintf(form, sizeof form, "%s(b0[a0])", f->name);
  sd_arena_reset(arena);
  sd_kernel *k = parse(text("kernel \"f\" { axis a0 \"i\" (%d) vec 2 in b0 %s [%d] out b1 %s [%d] nest a0 { b1[a0] = %s } }\n", N_POINTS, t, N_POINTS, t, N_POINTS, form));
  er_code c;
  sard_status *st = k ? er_compile(k, isa, 1, &c) : NULL;
  CHECK_OK(st);
  if (st || !k) return;
  static double in[N_POINTS], out[N_POINTS];
  static float in32[N_POINTS], out32[N_POINTS];
  for (int i = 0; i < N_POINTS; i++) in[i] = domain(f, i), in32[i] = (float)in[i];
  er_run(&c, wide ? (void *[]){in, out} : (void *[]){in32, out32}, NULL, 1);
  double worst = 0, at = 0;
  bool special_ok = true;
  for (int i = 0; i < N_POINTS; i++) {
    double x = wide ? in[i] : in32[i], got = wide ? out[i] : out32[i];
    long double want = f->f((long double)x);
    if (!wide && fabsl(want) > 3.4028235e38L && isfinite(want)) want = want > 0 ? INFINITY : -INFINITY;
    if (fabsl(want) > 1.79e308L && isfinite(want)) want = want > 0 ? INFINITY : -INFINITY;
    if (isnan(want) || isinf(want)) {
      bool ok = isnan(want) ? isnan(got) : got == (double)want;
      if (!ok) special_ok = false, printf("%s %s(%g) is %g on %s\n", t, f->name, x, got, isa->name);
      continue;
    }
    if (formula && !wide && fabsl(want) < 0x1p-126L && got >= 0 && got < 0x1p-126) continue;
    if (i < N_SPECIAL && fabs(x) > 1e9) continue; // sin and friends far out
    double e = wide ? (double)(fabsl(got - want) / fmaxl(fabsl(want), 1e-290L)) : (double)(fabsl(got - want) / ulp_of((double)want));
    if (!(e <= worst)) worst = e, at = x;
  }
  CHECK(special_ok);
  double limit = wide ? f->rel64 : f->ulp32;
  if (getenv("EMIT_ULP") || !(worst <= limit)) printf("%-8s %s %-6s [%g, %g]: worst %.3g at %.17g (limit %g)\n", isa->name, t, f->name, f->lo, f->hi, worst, at, limit);
  CHECK(worst <= limit);
  sd_code_unload(&c.code);
}

static void function_errors(void) {
  for (int i = 0; i < n_isas; i++)
    for (unsigned f = 0; f < sizeof functions / sizeof *functions; f++)
      for (int wide = 0; wide <= 1; wide++) run_function(&functions[f], NULL, isas[i], wide);
  for (int i = 0; i < n_isas; i++)
    for (unsigned f = 0; f < sizeof formulas / sizeof *formulas; f++)
      for (int wide = 0; wide <= 1; wide++) run_function(&formulas[f].f, formulas[f].text, isas[i], wide);
}

static double pow_ref(double x, double y) { return pow(x, y); }
static double fmod_ref(double x, double y) { return fmod(x, y); }
static void binary_functions(void) {
  static const struct { const char *name; double (*f)(double, double); } fs[] = {{"pow", pow_ref}, {"fmod", fmod_ref}};
  for (int i = 0; i < n_isas; i++)
    for (int f = 0; f < 2; f++)
      for (int wide = 0; wide <= 1; wide++) {
        static double in[2][N_POINTS], out[N_POINTS];
        static float in32[2][N_POINTS], out32[N_POINTS];
        const char *t = wide ? "f64" : "f32";
        sd_arena_reset(arena);
        sd_kernel *k = parse(text("kernel \"f\" { axis a0 \"i\" (%d) vec 1 in b0 %s [%d] in b1 %s [%d] out b2 %s [%d] nest a0 { b2[a0] = %s(b0[a0], b1[a0]) } }\n",
                                  N_POINTS, t, N_POINTS, t, N_POINTS, t, N_POINTS, fs[f].name));
        er_code c;
        if (!k || er_compile(k, isas[i], 1, &c)) { CHECK(false); continue; }
        for (int j = 0; j < N_POINTS; j++) {
          bool grid = j < N_SPECIAL * N_SPECIAL;
          in[0][j] = grid ? special[j / N_SPECIAL] : f ? er_uniform(&seed) * 1e6 - 5e5 : er_uniform(&seed) * 20;
          in[1][j] = grid ? special[j % N_SPECIAL] : f ? er_uniform(&seed) * 20 - 10 : er_uniform(&seed) * 8 - 4;
          if (!f && j % 3 == 0 && !grid) in[0][j] = -in[0][j], in[1][j] = floor(in[1][j]);
          in32[0][j] = (float)in[0][j], in32[1][j] = (float)in[1][j];
        }
        er_run(&c, wide ? (void *[]){in[0], in[1], out} : (void *[]){in32[0], in32[1], out32}, NULL, 1);
        double worst = 0;
        int bad = 0;
        for (int j = 0; j < N_POINTS; j++) {
          double x = wide ? in[0][j] : in32[0][j], y = wide ? in[1][j] : in32[1][j], got = wide ? out[j] : out32[j], want = fs[f].f(x, y);
          if (!wide) want = (float)want;
          if (f == 1 && fabs(x / y) > 1e6) continue;
          if (isnan(want) || isinf(want) || want == 0) {
            if (isnan(want) ? !isnan(got) : got != want) bad++, printf("%s %s %s(%g, %g) is %g, not %g\n", isas[i]->name, t, fs[f].name, x, y, got, want);
            continue;
          }
          double e = wide ? fabs(got - want) / fabs(want) : fabs(got - want) / ulp_of(want);
          if (!(e <= worst)) worst = e;
        }
        if (getenv("EMIT_ULP")) printf("%-8s %s %s: worst %.3g\n", isas[i]->name, t, fs[f].name, worst);
        CHECK(bad == 0);
        CHECK(worst <= (wide ? 1e-12 : 1));
        sd_code_unload(&c.code);
      }
}

int main(void) {
  if (!emit_check_open()) return 1;
  RUN(function_errors);
  RUN(binary_functions);
  return emit_check_close();
}
