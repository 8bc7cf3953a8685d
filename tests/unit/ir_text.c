// Text form of modules: print(parse(x)) == x, contents survive, damaged text gives errors with a position, never a crash.
#include "ir/op.h"
#include "runtime/base/alloc.h"
#include "tests/unit/check.h"

static const char *const cases[] = {
    "module ir=8 opset=17 producer=\"unit\"\n"
    "meta \"key\" = \"a \\\"quoted\\\" value\\n\"\n"
    "symbol N in [1, 64]\n"
    "symbol \"seq len\"\n"
    "graph \"main\" (%0 \"x\": f32[N,\"seq len\"], %1 \"idx\": i64[]) {\n"
    "  %7 \"w\" = const f32[] dense<0.100000001>\n"
    "  %8 = const i64[3] dense<1, -2, 9223372036854775807>\n"
    "  %9 \"nan\" = const f32[1] hex<0100c07f>\n"
    "  %11 = const f32[32] hash<00112233445566ff>\n"
    "  %10 = const string[2] dense<\"a\", \"b\\\\c\">\n"
    "  %2 \"y\" = Mul(%0, %7) \"layer/mul\" #3 : f32[N,\"seq len\"]\n"
    "  %3 = LeakyRelu(%2) {alpha=0.25} : f32[N,\"seq len\"]\n"
    "  %12 = Add(%8, %1) : i64[3]\n"
    "  %13 in %3 at [0,0] = Neg(%3) : f32[N,\"seq len\"]\n"
    "  %14 = Abs(%9) : f32[1]\n"
    "  %15 = Abs(%11) : f32[32]\n"
    "  return %13, %3, %0, %10, %12\n"
    "}\n",
    "module ir=9 opset=21 producer=\"\"\n"
    "symbol N\n"
    "graph \"main\" (%0 \"c\": bool[], %1 \"x\": f32[N,2]) {\n"
    "  %2 \"one\" = const f32[] dense<1>\n"
    "  %3 \"y\" = If(%0) \"branch\" : f32[N,2]\n"
    "    body \"then_branch\" () {\n"
    "      %4 = Add(%1, %2) : f32[N,2]\n"
    "      return %4\n"
    "    }\n"
    "    body \"else_branch\" () {\n"
    "      %6 = const f32[2] dense<1.5, -inf>\n"
    "      %5 = Mul(%1, %6) : f32[N,2]\n"
    "      return %5\n"
    "    }\n"
    "  return %3\n"
    "}\n",
    "module ir=1 opset=2 producer=\"\"\n"
    "symbol N\n"
    "graph \"main\" (%1 \"x\": f32[N,2]) {\n"
    "  %3 = buffer f32[N,16]\n"
    "  %4 in %3 at [0,4] = Neg(%1) : f32[N,2]\n"
    "  %5 view in %4 = Identity(%4) : f32[N,2]\n"
    "  return %5\n"
    "}\n",
    "module ir=0 opset=0 producer=\"\"\n"
    "graph \"main\" () {\n"
    "  return\n"
    "}\n",
};

static char *print(const sd_module *m, bool weights) {
  sd_str s = {0};
  CHECK_OK(sd_module_print(m, weights, &s));
  return sd_str_take(&s);
}

static void test_round_trip(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    sd_module *m = NULL;
    CHECK_OK(sd_module_parse(cases[i], "case", &m));
    if (!m) continue;
    CHECK_OK(sd_module_verify(m));
    char *text = print(m, false);
    CHECK_TEXT(text, cases[i]);
    sd_free(text);
    sd_module_free(m);
  }
}

// Weights as hex carry every byte.
static void test_weights(void) {
  sd_module *m = NULL, *back = NULL;
  float w[64];
  int64_t dims[2] = {8, 8};
  for (int i = 0; i < 64; i++) w[i] = 0.37f * (float)i - 3;
  CHECK_OK(sd_module_new("unit", &m));
  sd_value *c = sd_value_const(m->main, "w", SD_F32, 2, dims, w);
  sd_graph_output(m->main, c);
  uint64_t hash = sd_const_hash(c->data);
  char *text = print(m, true), *brief = print(m, false);
  CHECK(strstr(text, "hex<") && strstr(brief, "hash<"));
  CHECK_OK(sd_module_parse(text, "weights", &back));
  if (!back) return;
  sd_value *d = back->main->outputs.at[0];
  CHECK(memcmp(d->data->data, w, sizeof w) == 0 && sd_const_hash(d->data) == hash);
  CHECK_TEXT(d->name, "w");
  char *again = print(back, true);
  CHECK_TEXT(again, text);
  sd_module_free(back);
  back = NULL;
  CHECK_OK(sd_module_parse(brief, "brief", &back));
  sd_module_free(back);
  sd_free(text);
  sd_free(brief);
  sd_free(again);
  sd_module_free(m);
}

static void test_errors(void) {
  static const struct { const char *text, *message; } bad[] = {
      {"", "bad:1:1: expected 'module'"},
      {"module\ngraph \"g\" () {\n  %1 = Nope()\n  return\n}", "bad:3:"},
      {"module graph \"g\" (%0: f32[2]) { %0 = Neg(%0) return }", "defined twice"},
      {"module graph \"g\" (%0: f32[2]) { %1, %1 = Neg(%0) return }", "defined twice"},
      {"module graph \"g\" () { %1 = Neg(%0) return }", "not defined before"},
      {"module graph \"g\" (%0: q7[2]) { return }", "unknown type"},
      {"module graph \"g\" (%0: f32[2,]) { return }", "expected a dim"},
      {"module graph \"g\" (%0: f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]) { return }", "more than 16"},
      {"module graph \"g\" () { %0 = const f32[2] dense<1> return }", "expected ','"},
      {"module graph \"g\" () { %0 = const f32[99999999999] dense<1> return }", "too few"},
      {"module graph \"g\" () { %0 = const f32[99999999999] hex<00> return }", "too few"},
      {"module graph \"g\" () { %0 = const f32[9999999999999] hash<0000000000000001> return }", "needs contents"},
      {"module graph \"g\" () { %0 = const f32[4294967296,4294967296,8] hash<0000000000000001> return }", "bad constant"},
      {"module graph \"g\" () { %0 = const f32[-1] dense<> return }", "bad constant"},
      {"module graph \"g\" (%0: f32[2]) { %1 = Neg(%0) {alpha=1} return }", "no such attribute"},
      {"module graph \"g\" (%0: f32[2]) { %1 = LeakyRelu(%0) {alpha=x} return }", "expected a number"},
      {"module graph \"g\" (%0: f32[2]) { return %0 } more", "after the end"},
      {"module graph \"g\" (%0: f32[2]) { return %0,", "expected"},
      {"module graph \"g", "not closed"},
      {"module graph \"\\q\" () {}", "bad escape"},
      {"module graph \"g\" (%0 in %5: f32[2]) { return }", "storage"},
      {"module graph \"g\" (%0: f32[2]) { %1 in %0 at [0,0] = Neg(%0) return }", "another rank"},
      {"module graph \"g\" (%0 = %0: f32[2]) { return }", "not defined before"},
      {"module graph \"g\" (%0: f32[2], %1 = %0: f32[2]) { return }", "only inputs of bodies"},
      {"module symbol 3 graph \"g\" () { return }", "symbol name"},
      {"module symbol N in [5, 2] graph \"g\" () { return }", "range"},
      {"module graph \"g\" (%4294967295: f32[2]) { return }", "out of range"},
      {"module graph \"g\" (%0: f32[2], %1: f32[3]) { %2 = Add(%0, %1) return }", "Add"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    sd_module *m = NULL;
    CHECK_ERR(sd_module_parse(bad[i].text, "bad", &m), MODEL, bad[i].message);
    CHECK(m == NULL);
  }
}

static void parse_any(const char *text) {
  sd_module *m;
  sard_status *st = sd_module_parse(text, "damaged", &m);
  if (!st) {
    sard_status_free(sd_module_verify(m));
    char *printed = print(m, true);
    sd_free(printed);
    sd_module_free(m);
  }
  sard_status_free(st);
}

static void test_damage(void) {
  static const char pool[] = "%(){}[]<>\"\\,:=_*-+ 0129anfxhN\n";
  uint64_t seed = 42;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t n = strlen(cases[i]);
    char *copy = malloc(n + 1);
    for (size_t cut = 0; cut < n; cut++) {
      memcpy(copy, cases[i], n + 1);
      copy[cut] = 0;
      parse_any(copy);
    }
    for (int k = 0; k < 3000; k++) {
      memcpy(copy, cases[i], n + 1);
      for (int e = 0; e < 1 + k % 3; e++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        copy[(seed >> 33) % n] = pool[(seed >> 20) % (sizeof pool - 1)];
      }
      parse_any(copy);
    }
    free(copy);
  }
  parse_any("module graph \"g\" (%0 in %1: f32[2], %1 in %0: f32[2]) { %2 in %2 = buffer f32[2] %3 in %2 = Neg(%0) return %3 }");
  sd_str deep = {0};
  sd_str_put(&deep, "module graph \"g\" (%0: bool[]) {\n");
  for (int i = 0; i < 200; i++) sd_strf(&deep, "%%%d = If(%%0) body \"then_branch\" () {\n", i + 1);
  parse_any(deep.p);
  sd_str_free(&deep);
  CHECK(true);
}

int main(void) {
  test_round_trip();
  test_weights();
  test_errors();
  test_damage();
  return check_end();
}
