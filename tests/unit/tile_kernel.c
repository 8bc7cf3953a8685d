// Kernels as a whole: text round trip, malformed text, verifier, interpreter, split and simplify keep the meaning.
#include <math.h>
#include <time.h>

#include "ir/tile.h"
#include "runtime/base/alloc.h"
#include "tests/unit/test.h"

static sd_arena *arena;
static sd_dimtab *dims;

static bool sym(void *user, const char *name, int64_t *v) {
  (void)user;
  if (strcmp(name, "N")) return false;
  *v = 5;
  return true;
}

static sd_kernel *parsed(const char *text) {
  sd_kernel *k = NULL;
  sard_status *st = sd_kernel_parse(arena, dims, text, &k);
  if (st) printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  CHECK(k);
  return k;
}

// print(parse(print(k))) == print(k) and the hashes agree.
static bool round_trip(const sd_kernel *k) {
  sd_str a = {0}, b = {0};
  sd_kernel *again = NULL;
  bool ok = !take_code(sd_kernel_print(k, &a));
  sard_status *st = ok ? sd_kernel_parse(arena, dims, a.p, &again) : NULL;
  if (st) printf("%s\n%s\n", sard_status_text(st, SARD_TEXT_MESSAGE), a.p);
  sard_status_free(st);
  ok = again && !take_code(sd_kernel_print(again, &b)) && !strcmp(a.p, b.p) &&
      sd_kernel_hash(k) == sd_kernel_hash(again);
  if (!ok) printf("--- first\n%s\n--- again\n%s\n", a.p ? a.p : "", b.p ? b.p : "");
  sd_str_free(&a);
  sd_str_free(&b);
  return ok;
}

static const char matmul[] = "kernel \"mm\" {\n"
  "  axis a0 \"i\" (N) block 2\n  axis a1 \"j\" (3) vec 1\n  axis a2 \"k\" (4) unroll 4\n"
  "  in b0 f32 [4*N]\n  in b1 f32 [12] invariant\n  out b2 f32 [3*N]\n"
  "  nest a0 a1 {\n"
  "    b2[{(3)a0 + (1)a1 + (0)}] = max(sum(a2: (b0[{(4)a0 + (1)a2 + (0)}] * b1[{(1)a1 + (3)a2 + (0)}])), f32:0)\n"
  "  }\n}\n";

static void run_matmul(void) {
  float x[20], w[12], y[15];
  for (int i = 0; i < 20; i++) x[i] = (float)(i % 7) - 3;
  for (int i = 0; i < 12; i++) w[i] = (float)(i % 5) - 2;
  sd_kernel *k = parsed(matmul);
  CHECK(round_trip(k));
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, w, y}, sym, NULL));
  int wrong = 0;
  for (int i = 0; i < 5; i++) {
    for (int j = 0; j < 3; j++) {
      float s = 0;
      for (int l = 0; l < 4; l++) s += x[4 * i + l] * w[3 * l + j];
      wrong += y[3 * i + j] != (s > 0 ? s : 0);
    }
  }
  CHECK(wrong == 0);
}

static void run_loops(void) {
  // A prefix sum by a sequential nest, a recurrence over a loop with a local buffer, scatter, guards.
  sd_kernel *k = parsed("kernel \"p\" {\n  axis a0 (10)\n  in b0 i32 [10]\n  out b1 i32 [10] readwrite\n"
    "  nest a0 sequential {\n"
    "    b1[a0] = (b0[a0] + b1[{(1)a0 + (-1)} | (0 < a0)])\n  }\n}\n");
  int32_t x[10], y[10];
  for (int i = 0; i < 10; i++) x[i] = i + 1;
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL));
  CHECK(y[9] == 55 && y[3] == 10);
  CHECK(round_trip(k));
  k = parsed("kernel \"r\" {\n  axis a0 \"g\" (2)\n  axis a1 \"t\" (4)\n  axis a2 \"i\" (3)\n  in b0 f32 [24]\n  out b1 f32 [6]\n"
    "  local b2 f32 [3]\n  grid a0\n"
    "  nest a2 {\n    b2[a2] = f32:0\n  }\n"
    "  loop a1 {\n    nest a2 {\n      b2[a2] = (b2[a2] + b0[{(12)a0 + (3)a1 + (1)a2 + (0)}])\n    }\n  }\n"
    "  nest a2 {\n    b1[{(3)a0 + (1)a2 + (0)}] = b2[a2]\n  }\n}\n");
  float in[24], out[6];
  for (int i = 0; i < 24; i++) in[i] = (float)i;
  CHECK_OK(sd_kernel_eval(k, (void *[]){in, out, NULL}, sym, NULL));
  CHECK(out[0] == 0 + 3 + 6 + 9 && out[5] == 14 + 17 + 20 + 23);
  CHECK(round_trip(k));
  // Scatter with duplicates: the last one wins.
  k = parsed("kernel \"s\" {\n  axis a0 (4)\n  in b0 i64 [4]\n  out b1 i64 [3]\n"
    "  nest a0 sequential {\n    b1[index(b0[a0], 3)] = a0\n  }\n}\n");
  int64_t at[4] = {2, 0, 2, 1}, got[3];
  CHECK_OK(sd_kernel_eval(k, (void *[]){at, got}, sym, NULL));
  CHECK(got[0] == 1 && got[1] == 3 && got[2] == 2);
  at[1] = 3;
  CHECK_ERR(sd_kernel_eval(k, (void *[]){at, got}, sym, NULL), MODEL, "3 is not in [0, 3)");
}

static void run_edges(void) {
  float x[8] = {1, -2, 3, NAN, 5, -6, 7, 8}, y[8];
  // Reading past the end is found; a reduction over nothing is its identity; limits cut loops.
  sd_kernel *k = parsed("kernel \"o\" {\n  axis a0 (8)\n  in b0 f32 [8]\n  out b1 f32 [8]\n"
    "  nest a0 {\n    b1[a0] = neg(b0[{(1)a0 + (1)}])\n  }\n}\n");
  CHECK_ERR(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL), INTERNAL, "element 8 of buffer 0");
  k = parsed("kernel \"c\" {\n  axis a0 (8)\n  in b0 f32 [8]\n  out b1 f32 [8]\n  nest a0 {\n    b1[a0] = b0[{(2)a0 + (0)}]\n  }\n}\n");
  CHECK_ERR(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL), INTERNAL, "of buffer 0");
  k = parsed("kernel \"e\" {\n  axis a0 (8)\n  axis a1 (0)\n  in b0 f32 [8]\n  out b1 f32 [8]\n"
    "  nest a0 {\n    b1[a0] = max(a1: b0[{(1)a0 + (100)a1 + (50)}])\n  }\n}\n");
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL));
  CHECK(isinf(y[0]) && y[0] < 0);
  k = parsed("kernel \"l\" {\n  axis a0 (8)\n  axis a1 (8)\n  in b0 f32 [8]\n  out b1 f32 [8]\n  limit a1 = {(1)a0 + (1)}\n"
    "  nest a0 {\n    b1[a0] = max(a1: b0[a1])\n  }\n}\n");
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL));
  CHECK(y[0] == 1 && y[2] == 3 && isnan(y[3]) && isnan(y[7]));
  CHECK(round_trip(k));
  k = parsed("kernel \"z\" {\n  in b0 f16 [1]\n  out b1 bf16 [1]\n  nest {\n    b1[0] = exp(b0[0])\n  }\n}\n");
  uint16_t h = 0x3c00, o = 0;
  CHECK_OK(sd_kernel_eval(k, (void *[]){&h, &o}, sym, NULL));
  CHECK(o == 0x402e); // e in bf16
  // Every operation prints and parses.
  k = parsed("kernel \"all\" {\n  axis a0 (8)\n  in b0 i32 [8]\n  in b1 f64 [8]\n  out b2 i32 [8]\n"
    "  t0 = b0[a0]\n  t1 = b1[a0]\n"
    "  nest a0 {\n    b2[a0] = sel((t1 < f64:inf), ((t0 >> i32:1) ^ !(t0)), cast.i32(fma(t1, pow(t1, f64:-nan), erf(t1))))\n"
    "    b2[a0] = (bits.i32(cast.f32(fmod(t1, f64:2.5))) // (t0 % i32:3)) if (isnan(t1) | (t0 == i32:4))\n  }\n}\n");
  CHECK(round_trip(k));
}

static void malformed(void) {
  sd_kernel *k;
  static const struct { const char *text, *what; } bad[] = {
    {"", "expected 'kernel'"}, {"kernel x {}", "quoted name"}, {"kernel \"x\" { nest {", "expected a buffer"},
    {"kernel \"x\" { axis a1 (3) }", "next axis number"}, {"kernel \"x\" { in b0 f99 [1] }", "expected a type"},
    {"kernel \"x\" { out b0 f32 [1] nest { b0[0] = i32:1 } }", "store of i32"},
    {"kernel \"x\" { axis a0 (3) out b0 f32 [1] nest { b0[a0] = f32:1 } }", "outside of its scope"},
    {"kernel \"x\" { axis a0 (3) out b0 f32 [1] nest a0 a0 { } }", "twice"},
    {"kernel \"x\" { out b0 f32 [1] nest { b0[0] = (f32:1 + i32:1) } }", "ADD of f32 and i32"},
    {"kernel \"x\" { out b0 f32 [1] nest { b0[0] = t0 } }", "not defined"},
    {"kernel \"x\" { out b0 f32 [1] nest { b0[0] = sum(: f32:1) } }", "over 0 axes"},
    {"kernel \"x\" { in b0 f32 [1] nest { b0[0] = f32:1 } }", "input buffer"},
    {"kernel \"x\" { out b0 string [1] }", "expected a type"},
    {"kernel \"x\" { axis a0 (3) limit a0 = a0 nest a0 { } }", "outside of its scope"},
    {"kernel \"x\" { axis a0 (3) loop a0 { loop a0 { } } }", "twice"},
    {"kernel \"x\" { axis a0 (3) vec 99 }", "number in range"}, {"kernel \"x\" { } junk", "after the kernel"},
    {"kernel \"x\" { out b0 f32 [1] nest { b0[((((((1] = f32:1 } }", "operator"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    sard_status *st = sd_kernel_parse(arena, dims, bad[i].text, &k);
    bool ok = st && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), bad[i].what);
    if (!ok) printf("%s: %s\n", bad[i].text, st ? sard_status_text(st, SARD_TEXT_MESSAGE) : "accepted");
    CHECK(ok);
    sard_status_free(st);
  }
  char deep[2100] = "kernel \"x\" { out b0 f32 [1] nest { b0[";
  size_t n = strlen(deep);
  memset(deep + n, '(', 2000);
  CHECK_ERR(sd_kernel_parse(arena, dims, deep, &k), MODEL, "nested");
  // Every prefix and seeded changes of a good text: no crash, an error or a kernel that verifies.
  char text[sizeof matmul];
  for (size_t i = 0; i < sizeof matmul - 3; i++) {
    memcpy(text, matmul, i);
    text[i] = 0;
    CHECK(take_code(sd_kernel_parse(arena, dims, text, &k)) != 0);
  }
  uint64_t r = 3;
  for (int i = 0; i < 3000; i++) {
    memcpy(text, matmul, sizeof matmul);
    for (int f = 0; f < 1 + i % 3; f++) text[test_random(&r) % (sizeof matmul - 1)] = "0123456789ab(){}[]+*,.:-\"t N"[test_random(&r) % 27];
    sard_status *st = sd_kernel_parse(arena, dims, text, &k);
    if (!st) CHECK(!take_code(sd_kernel_verify(k)));
    sard_status_free(st);
  }
}

// ---- random kernels ----
static uint64_t seed = 11;
static uint32_t rnd(uint32_t n) { return (uint32_t)(test_random(&seed) % n); }
static sd_dim num(int64_t v) { return sd_dim_const(dims, v); }

static sd_expr *random_value(sd_kernel *k, sd_buf *in, sd_expr **idx, uint32_t n, int depth) {
  static const sd_xop ops[] = {SD_X_ADD, SD_X_SUB, SD_X_MUL, SD_X_MIN, SD_X_MAX};
  if (depth == 0 || rnd(4) == 0) {
    // A dense, broadcast, permuted or reshaped access, within the buffer by a remainder.
    sd_expr *off = sd_x_i(k, SD_I64, rnd(3));
    int64_t stride = 1;
    for (uint32_t i = n; i-- > 0;) {
      if (rnd(5)) off = sd_x_bin(k, SD_X_ADD, off, sd_x_mul_dim(k, idx[i], num(stride)));
      stride *= 1 + rnd(6);
    }
    if (rnd(3) == 0) off = sd_x_bin(k, SD_X_FLOORDIV, off, sd_x_i(k, SD_I64, 1 + rnd(4)));
    off = sd_x_bin(k, SD_X_MOD, off, sd_x_dim(k, in->count));
    sd_expr *guard = rnd(4) ? NULL : sd_x_bin(k, SD_X_LT, n ? idx[rnd(n)] : off, sd_x_i(k, SD_I64, 1 + rnd(3)));
    return sd_x_load(k, in, off, guard);
  }
  if (rnd(5) == 0 && n < 8) {
    sd_expr *inner[10];
    sd_axis *axes[2];
    uint32_t m = 1 + rnd(2);
    memcpy(inner, idx, n * sizeof *idx);
    for (uint32_t i = 0; i < m; i++) {
      axes[i] = sd_kernel_axis(k, "r", num(1 + rnd(4)));
      if (rnd(4) == 0 && n) axes[i]->limit = sd_x_bin(k, SD_X_ADD, idx[rnd(n)], sd_x_i(k, SD_I64, 1));
      inner[n + i] = sd_x_axis(k, axes[i]);
    }
    return sd_x_reduce(k, rnd(2) ? SD_R_SUM : SD_R_MAX, axes, m, random_value(k, in, inner, n + m, depth - 1));
  }
  sd_expr *x = random_value(k, in, idx, n, depth - 1), *y = random_value(k, in, idx, n, depth - 1);
  if (rnd(6) == 0) return sd_x_sel(k, sd_x_bin(k, SD_X_LT, x, y), x, y);
  if (rnd(6) == 0 && n) return sd_x_bin(k, SD_X_MUL, x, sd_x_cast(k, SD_I32, idx[rnd(n)]));
  return sd_x_bin(k, ops[rnd(5)], x, y);
}

static void transforms(void) {
  int32_t data[97], before[4096], after[4096];
  int wrong = 0, broken = 0, texts = 0, merged = 0;
  for (int i = 0; i < 97; i++) data[i] = (int32_t)rnd(200) - 100;
  for (int round = 0; round < 300; round++) {
    sd_kernel *k = sd_kernel_new(arena, dims, "random");
    sd_buf *in = sd_kernel_buf(k, SD_BUF_IN, SD_I32, num(97), NULL);
    sd_nest *n = sd_kernel_nest(k, NULL);
    uint32_t rank = rnd(4);
    sd_expr *idx[4], *off = sd_x_i(k, SD_I64, 0);
    int64_t total = 1;
    for (uint32_t i = 0; i < rank; i++) {
      int64_t e = rnd(5) == 0 ? 1 : 1 + rnd(9);
      sd_axis *a = sd_kernel_axis(k, "i", num(e));
      sd_nest_axis(n, a);
      idx[i] = sd_x_axis(k, a);
      off = sd_x_bin(k, SD_X_ADD, sd_x_mul_dim(k, off, num(e)), idx[i]);
      total *= e;
    }
    sd_buf *out = sd_kernel_buf(k, SD_BUF_OUT, SD_I32, num(total), NULL);
    sd_nest_store(k, n, out, off, rnd(6) ? random_value(k, in, idx, rank, 4) : sd_x_load(k, in, sd_x_bin(k, SD_X_MOD,
        off, sd_x_dim(k, num(97))), NULL), NULL);
    broken += take_code(sd_kernel_verify(k)) != 0;
    broken += take_code(sd_kernel_eval(k, (void *[]){data, before}, sym, NULL)) != 0;
    texts += !round_trip(k);
    for (uint32_t step = 0; step < 3; step++) {
      uint32_t axes = n->n_axes;
      if (rnd(2)) sd_kernel_simplify(k);
      else if (n->n_axes) broken += take_code(sd_nest_split(k, n, rnd(n->n_axes), 1 + rnd(4))) != 0;
      merged += n->n_axes < axes;
      memset(after, 0, sizeof after);
      sard_status *st = sd_kernel_verify(k);
      if (!st) st = sd_kernel_eval(k, (void *[]){data, after}, sym, NULL);
      if (st && !broken) printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
      broken += take_code(st) != 0;
      texts += !round_trip(k);
      if (memcmp(before, after, (size_t)total * 4)) wrong++;
    }
  }
  CHECK(wrong == 0);
  CHECK(broken == 0);
  CHECK(texts == 0);
  CHECK(merged > 20);
}

static void simplify_shapes(void) {
  // A dense elementwise kernel becomes one axis; a broadcast keeps what it must.
  sd_kernel *k = parsed("kernel \"e\" {\n  axis a0 (N)\n  axis a1 (3)\n  axis a2 (4)\n  in b0 f32 [12*N]\n  in b1 f32 [4]\n  out b2 f32 [12*N]\n"
    "  t0 = {(12)a0 + (4)a1 + (1)a2 + (0)}\n  nest a0 a1 a2 {\n    b2[t0] = exp(b0[t0])\n  }\n"
    "}\n");
  sd_kernel_simplify(k);
  CHECK(k->items.at[0].nest->n_axes == 1 && k->items.at[0].nest->stores.at[0].offset->op == SD_X_AXIS);
  CHECK_OK(sd_kernel_verify(k));
  k = parsed("kernel \"b\" {\n  axis a0 (N)\n  axis a1 (3)\n  axis a2 (4)\n  in b0 f32 [12*N]\n  in b1 f32 [4]\n  out b2 f32 [12*N]\n"
    "  t0 = {(12)a0 + (4)a1 + (1)a2 + (0)}\n  nest a0 a1 a2 {\n    b2[t0] = (b1[a2] + b0[t0])\n  }\n}\n");
  sd_kernel_simplify(k);
  CHECK(k->items.at[0].nest->n_axes == 2);
  // A convolution's reduction over kw, ic merges.
  k = parsed("kernel \"c\" {\n  axis a0 (6)\n  axis a1 \"kw\" (3)\n  axis a2 \"ic\" (8)\n  in b0 f32 [64]\n  in b1 f32 [24]\n  out b2 f32 [6]\n"
    "  nest a0 {\n    b2[a0] = sum(a1 a2: (b0[{(8)a0 + (8)a1 + (1)a2 + (0)}] * b1[{(8)a1 + (1)a2 + (0)}]))\n  }\n}\n");
  sd_kernel_simplify(k);
  sd_expr *r = k->items.at[0].nest->stores.at[0].value;
  CHECK(r->op == SD_X_REDUCE && r->n_axes == 1 && sd_dim_is(dims, r->axes[0]->extent, 24));
}

static int64_t cpu_ns(void) { return (int64_t)clock() * (1000000000 / CLOCKS_PER_SEC); }

static void speed(void) {
  int64_t n = 1 << 20;
  float *x = sd_malloc((size_t)n * 4), *y = sd_malloc((size_t)n * 4);
  for (int64_t i = 0; i < n; i++) x[i] = (float)i;
  sd_kernel *k = parsed("kernel \"f\" {\n  axis a0 (1048576)\n  in b0 f32 [1048576]\n  out b1 f32 [1048576]\n  t0 = b0[a0]\n"
    "  nest a0 {\n    b1[a0] = ((t0 * t0) + sel((t0 < f32:5), f32:1, t0))\n  }\n}\n");
  int64_t t0 = cpu_ns();
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL));
  int64_t t1 = cpu_ns();
  printf("elementwise, 4 operations: %.2f ns per element\n", (double)(t1 - t0) / (double)n);
  k = parsed("kernel \"m\" {\n  axis a0 (128)\n  axis a1 (128)\n  axis a2 (128)\n  in b0 f32 [16384]\n  in b1 f32 [16384]\n  out b2 f32 [16384]\n"
    "  nest a0 a1 {\n    b2[{(128)a0 + (1)a1 + (0)}] = sum(a2: (b0[{(128)a0 + (1)a2 + (0)}] * b1[{(1)a1 + (128)a2 + (0)}]))\n  }\n}\n");
  t0 = cpu_ns();
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, x, y}, sym, NULL));
  t1 = cpu_ns();
  printf("matmul: %.2f ns per multiply-add\n", (double)(t1 - t0) / (128.0 * 128 * 128));
  k = parsed("kernel \"t\" {\n  axis a0 (1024)\n  axis a1 (1024)\n  in b0 f32 [1048576]\n  out b1 f32 [1048576]\n"
    "  nest a0 a1 {\n    b1[{(1)a0 + (1024)a1 + (0)}] = b0[{(1024)a0 + (1)a1 + (0)}]\n  }\n}\n");
  t0 = cpu_ns();
  CHECK_OK(sd_kernel_eval(k, (void *[]){x, y}, sym, NULL));
  t1 = cpu_ns();
  printf("transpose: %.2f ns per element\n", (double)(t1 - t0) / (double)n);
  CHECK(y[1024 * 3 + 7] == x[1024 * 7 + 3]);
  sd_free(x);
  sd_free(y);
}

int main(void) {
  arena = sd_arena_new();
  dims = sd_dimtab_new(arena);
  RUN(run_matmul);
  RUN(run_loops);
  RUN(run_edges);
  RUN(malformed);
  RUN(simplify_shapes);
  RUN(transforms);
  RUN(speed);
  sd_arena_free(arena);
  return check_end();
}
