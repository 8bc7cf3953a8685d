// Quotients by constants that end in integers: the same integers as by division, for dividends around the middles between two
// integers and at the ends of f32, for all instruction sets of this machine; and hardly any divisions are left.
#include "codegen/codegen.h"
#include "tests/unit/emit_run.h"
#include "tests/unit/test.h"

enum { COUNT = 8192 };

// Dividends around each middle, then the special ones.
static void fill(float *x, float divisor, int low, int high) {
  static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 3.4e38f, -3.4e38f, 1e-45f, -1e-45f, 1e-38f};
  int n = 0;
  for (int k = low; k < high; k++) {
    float v = (float)((k + 0.5) * (double)divisor);
    for (int i = 0; i < 12; i++) v = nextafterf(v, -INFINITY);
    for (int i = 0; i < 25 && n < COUNT; i++, v = nextafterf(v, INFINITY)) x[n++] = v;
  }
  for (int i = 0; n < COUNT; i++) x[n++] = i < 10 ? special[i] : (float)(i - 400) * divisor * 0.77f;
}

// vdivps behind a VEX or EVEX prefix, divps: opcode 5e.
static bool divides(const er_code *c) {
  const uint8_t *b = c->o.data;
  for (uint64_t i = 0; i + 6 < c->o.size; i++) {
    if (b[i] == 0xc5 && (b[i + 1] & 3) == 0 && b[i + 2] == 0x5e) return true;
    if (b[i] == 0xc4 && (b[i + 1] & 31) == 1 && (b[i + 2] & 3) == 0 && b[i + 3] == 0x5e) return true;
    if (b[i] == 0x62 && (b[i + 1] & 7) == 1 && (b[i + 2] & 0x83) == 0 && b[i + 4] == 0x5e) return true;
  }
  return false;
}

// And of a quotient of what another one has ended in.
static int quotients(const sd_isa *isa, float divisor, int low, int high, int *divisions) {
  char text[1024];
  sd_arena *a = sd_arena_new();
  sd_kernel *k = NULL;
  er_code c;
  snprintf(text, sizeof text,
           "kernel \"k\" {\n axis a0 \"i\" (%d) vec 1\n in b0 f32 [%d]\n out b1 i32 [%d]\n t0 = (b0[{(1)a0 + (0)}] / f32:%.9g)\n"
           " t1 = ((b0[{(1)a0 + (0)}] - cast.f32(cast.i32(round(min(sel((f32:-9 < t0), t0, f32:-9), f32:7))))) / f32:0.037)\n"
           " nest a0 {\n  b1[{(1)a0 + (0)}] = (cast.i32(round(min(sel((f32:%d < t0), t0, f32:%d), f32:%d))) + cast.i32(round(min(sel((f32:0 < t1), t1, f32:0), f32:99))))\n }\n}\n",
           COUNT, COUNT, COUNT, (double)divisor, low, low, high);
  CHECK_OK(sd_kernel_parse(a, sd_dimtab_new(a), text, &k));
  CHECK_OK(er_compile(k, isa, 3, &c));
  *divisions += divides(&c);
  er_mem x = er_alloc(COUNT * 4), y = er_alloc(COUNT * 4), want = er_alloc(COUNT * 4);
  fill((float *)x.data, divisor, low, high);
  er_run(&c, (void *[]){x.data, y.data}, NULL, 1);
  CHECK_OK(sd_kernel_eval(k, (void *[]){x.data, want.data}, er_symbol, NULL));
  int bad = 0;
  for (int i = 0; i < COUNT; i++) bad += ((int32_t *)y.data)[i] != ((int32_t *)want.data)[i];
  er_release(&x), er_release(&y), er_release(&want);
  sd_arena_free(a);
  return bad;
}

static void integers(void) {
  const sd_isa *r, *mine;
  for (int i = 0; (r = sd_isa_at(i)); i++) {
    sard_status *st = sd_isa_host(r->name, &mine);
    bool has = !st;
    int divisions = 0;
    uint64_t seed = 7;
    sard_status_free(st);
    if (!has) continue;
    for (int n = 0; n < 24; n++) {
      float divisor = n == 0 ? 1.0f : n == 1 ? 0.0625f : (float)(1 + test_random(&seed) % 1000003) * (n % 2 ? 1.3e-6f : 3.1e-3f);
      CHECK(quotients(r, divisor, n % 3 ? 0 : -121, n % 3 ? 255 : 134, &divisions) == 0);
    }
    CHECK(divisions < 4);
    divisions = 0;
    CHECK(quotients(r, 1.3e-30f, 0, 255, &divisions) == 0); // whose reciprocal is near the end of f32
    CHECK(divisions == (strcmp(r->name, "baseline") != 0));   // which has no prefixes to look for
  }
}

int main(void) {
  RUN(integers);
  return check_end();
}
