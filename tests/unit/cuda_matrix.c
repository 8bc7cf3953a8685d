// Kernels that are one product of matrices are found by what they compute, and others are not.
#include "codegen/choose_cuda_matrix.h"
#include "runtime/base/alloc.h"
#include "tests/unit/test.h"

#define X    "b0[{(24)a0 + (1)a2 + (0)}]"
#define Y    "b1[{(24)a1 + (1)a2 + (0)}]"
#define SUM  "sum(a2: (" X " * " Y "))"
#define BIAS "b2[a1]"
#define MORE "b3[{(48)a0 + (1)a1 + (0)}]"
#define OUT  "{(40)a0 + (1)a1 + (0)}"

typedef struct example {
  const char *value; // of the element that is stored
  const char *out;   // its offset
  bool is;
} example;

static const example examples[] = {
    {SUM, OUT, true},
    {"(" SUM " + " BIAS ")", OUT, true},
    {"max((" SUM " + f32:0), f32:0)", OUT, true},
    {"max(((" BIAS " + " SUM ") + " MORE "), f32:0)", OUT, true},
    {"((" SUM " * f32:0.125) + " MORE ")", OUT, true},
    {"sum(a2: (" X " * b1[{(1)a1 + (40)a2 + (0)}]))", OUT, true},
    {SUM, "{(1)a0 + (16)a1 + (7)}", true}, // turned: the other factor's axis is that of the columns
    {"(" SUM " + f32:1)", OUT, false},
    {"(" SUM " + " SUM ")", OUT, false},
    {"(" SUM " * " MORE ")", OUT, false},
    {"erf(" SUM ")", OUT, false},
    {"max(" SUM ", f32:1)", OUT, false},
    {"(max(" SUM ", f32:0) + " MORE ")", OUT, false},
    {"(" SUM " + b2[a0])", OUT, false}, // along the rows
    {"sum(a2: (b0[{(24)a0 + (2)a2 + (0)}] * " Y "))", OUT, false},
    {"sum(a2: (" X " * (" Y " + f32:1)))", OUT, false},
    {"max(a2: (" X " * " Y "))", OUT, false},
    {SUM, "{(40)a0 + (2)a1 + (0)}", false},
};

static sd_kernel *parse(sd_arena *a, const char *type, const example *e) {
  sd_kernel *k = NULL;
  const char *text =
      sd_arena_printf(a,
                      "kernel \"k\" {\n  axis a0 \"i\" (16)\n  axis a1 \"j\" (40)\n  axis a2 \"k\" (24)\n"
                      "  in b0 %s [4096]\n  in b1 %s [4096] invariant\n  in b2 %s [64]\n  in b3 %s [4096]\n  "
                      "out b4 %s [4096]\n"
                      "  nest a0 a1 {\n    b4[%s] = %s\n  }\n}\n",
                      type, type, type, type, type, e->out, e->value);
  CHECK_OK(sd_kernel_parse(a, sd_dimtab_new(a), text, &k));
  return k;
}

static bool found(const char *type, const example *e, bool tf32, sd_cuda_matrix *m) {
  sd_arena *a = sd_arena_new();
  bool is = sd_choose_cuda_matrix(parse(a, type, e), tf32, m);
  sd_arena_free(a);
  return is;
}

static void products(void) {
  sd_cuda_matrix m;
  for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
    const example *e = &examples[i];
    CHECK(found("f16", e, false, &m) == e->is);
    CHECK(found("bf16", e, false, &m) == e->is);
    CHECK(found("f32", e, true, &m) == e->is);
    CHECK(!found("f32", e, false, &m));
  }
}

// Operands by their place among the parameters, and what each is.
static void parts(void) {
  sd_cuda_matrix m;
  CHECK(found("f16", &examples[3], false, &m));
  CHECK(m.relu && m.scale == 1 && m.in == SD_F16 && m.to == SD_F16);
  CHECK(m.x.param == 0 && m.y.param == 1 && m.bias.param == 2 && m.c.param == 3 && m.out.param == 4);
  CHECK(m.x.along_k && m.y.along_k);
  CHECK(found("f16", &examples[4], false, &m));
  CHECK(!m.relu && m.scale == 0.125f && !m.bias.buf && m.c.buf);
  CHECK(found("f16", &examples[5], false, &m));
  CHECK(m.x.along_k && !m.y.along_k);
  CHECK(found("f16", &examples[6], false, &m));
  CHECK(m.x.param == 1 && m.y.param == 0);
}

int main(void) {
  RUN(products);
  RUN(parts);
  return check_end();
}
