// The LLVM emitter against the tile interpreter: schedules, all sizes of tails, guards; errors, threads, memory that ends.
#include "tests/unit/emit_check.h"

#include <pthread.h>

// ---- shapes and schedules ----
static void elementwise(void) {
  static const int sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int vec = 0; vec <= 4; vec += 2) {
      int n = sizes[i];
      check_all(text("kernel \"map\" { axis a0 \"i\" (%d) block 48 vec %d in b0 f32 [%d] in b1 f32 [%d] out b2 f32 [%d]\n"
                     " nest a0 { b2[a0] = max((b0[a0] + b1[a0]), f32:0) } }\n", n, vec, n, n, n), NULL, 0, 0);
      er_sym s[] = {{"N", n}, {NULL, 0}};
      check_all(text("kernel \"map_sym\" { axis a0 \"i\" (N) block 48 vec %d in b0 f32 [N] out b1 f32 [N]\n"
                     " nest a0 { b1[a0] = (b0[a0] * f32:3) } }\n", vec), s, 0, 0);
    }
  er_sym empty[] = {{"N", 0}, {NULL, 0}};
  check_all("kernel \"empty\" { axis a0 \"i\" (N) vec 2 axis a1 \"j\" (3) in b0 f32 [N] out b1 f32 [3*N] nest a1 a0 { b1[((a1 * 3) + a0)] = b0[a0] } }", empty, 0, 0);
}

static void gemm(void) {
  static const int ms[] = {1, 3, 5, 6, 7, 13, 14, 15, 28, 30}, ns[] = {1, 16, 20, 32, 33, 64, 70};
  for (unsigned i = 0; i < sizeof ms / sizeof *ms; i++)
    for (unsigned j = 0; j < sizeof ns / sizeof *ns; j++) {
      int m = ms[i], n = ns[j], k = 5 + (int)(i + j) % 3;
      if ((i + j) % 2 == 0)
        check_all(text("kernel \"gemm\" { axis a0 \"m\" (%d) block %d unroll 6 axis a1 \"n\" (%d) block 64 vec 2 axis a2 \"k\" (%d)\n"
                       " in b0 f32 [%d] in b1 f32 [%d] in b2 f32 [%d] out b3 f32 [%d]\n"
                       " nest a1 a0 { b3[((a0 * %d) + a1)] = max((sum(a2: (b0[((a0 * %d) + a2)] * b1[((a2 * %d) + a1)])) + b2[a1]), f32:0) } }\n",
                       m, i % 2 ? 12 : 0, n, k, m * k, k * n, n, m * n, n, k, n), NULL, 1e-5, 1e-5);
      er_sym s[] = {{"M", m}, {"N", n}, {"K", k}, {NULL, 0}};
      check_all("kernel \"gemm_sym\" { axis a0 \"m\" (M) block 28 unroll 14 axis a1 \"n\" (N) vec 2 axis a2 \"k\" (K) unroll 2\n"
                " in b0 f32 [M*K] in b1 f32 [K*N] out b2 f32 [M*N]\n"
                " nest a0 a1 { b2[{(N)a0 + (1)a1 + (0)}] = sum(a2: (b0[{(K)a0 + (1)a2 + (0)}] * b1[{(N)a2 + (1)a1 + (0)}])) } }\n", s, 1e-5, 1e-5);
    }
}

// 3x3 with padding, NHWC: guards that hold for whole tiles, for rows of them, or not.
static void convolution(void) {
  for (int h = 1; h <= 9; h += 2)
    for (int stride = 1; stride <= 2; stride++)
      for (int full = 0; full <= 1; full++) {
        int oh = (h - 1) / stride + 1, ic = 3, oc = 20;
        check_all(text("kernel \"conv\" { axis a0 \"oh\" (%d) block 2 axis a1 \"ow\" (%d) unroll 4 axis a2 \"oc\" (%d) vec 1\n"
                       " axis a3 \"kh\" (3) unroll %d axis a4 \"kw\" (3) unroll %d axis a5 \"ic\" (%d)\n"
                       " in b0 f32 [%d] in b1 f32 [%d] out b2 f32 [%d]\n t0 = (((a0 * %d) + a3) + -1) t1 = (((a1 * %d) + a4) + -1)\n"
                       " t2 = (((0 <= t0) & (t0 < %d)) & ((0 <= t1) & (t1 < %d)))\n"
                       " nest a0 a1 a2 { b2[((((a0 * %d) + a1) * %d) + a2)] = max(sum(a3 a4 a5: (b0[((((t0 * %d) + t1) * %d) + a5) | t2] *"
                       " b1[((((((a3 * 3) + a4) * %d) + a5) * %d) + a2)])), f32:0) } }\n",
                       oh, oh, oc, full ? 0 : 1, full ? 0 : 1, ic, h * h * ic, 9 * ic * oc, oh * oh * oc, stride, stride, h, h, oh, oc, h, ic, ic, oc),
                  NULL, 1e-5, 1e-5);
        // depthwise, max pool; NCHW with the vectors along the width
        check_all(text("kernel \"dw\" { axis a0 \"oh\" (%d) axis a1 \"ow\" (%d) unroll 3 axis a2 \"c\" (19) vec 1 axis a3 \"kh\" (3) unroll 0\n"
                       " axis a4 \"kw\" (3) unroll 0 in b0 f32 [%d] in b1 f32 [171] out b2 f32 [%d]\n t0 = (((a0 * %d) + a3) + -1) t1 = (((a1 * %d) + a4) + -1)\n"
                       " t2 = (((0 <= t0) & (t0 < %d)) & ((0 <= t1) & (t1 < %d)))\n"
                       " nest a0 a1 a2 { b2[((((a0 * %d) + a1) * 19) + a2)] = sum(a3 a4: (b0[((((t0 * %d) + t1) * 19) + a2) | t2] * b1[((((a3 * 3) + a4) * 19) + a2)])) } }\n",
                       oh, oh, h * h * 19, oh * oh * 19, stride, stride, h, h, oh, h), NULL, 1e-5, 1e-5);
        check_all(text("kernel \"pool\" { axis a0 \"c\" (3) axis a1 \"oh\" (%d) unroll 2 axis a2 \"ow\" (%d) vec 2 axis a3 \"kh\" (3)\n"
                       " axis a4 \"kw\" (3) unroll %d in b0 f32 [%d] out b1 f32 [%d]\n t0 = (((a1 * %d) + a3) + -1) t1 = (((a2 * %d) + a4) + -1)\n"
                       " t2 = (((0 <= t0) & (t0 < %d)) & ((0 <= t1) & (t1 < %d)))\n"
                       " nest a0 a1 a2 { b1[((((a0 * %d) + a1) * %d) + a2)] = max(a3 a4: sel(t2, b0[((((a0 * %d) + t0) * %d) + t1) | t2], f32:-inf)) } }\n",
                       oh, oh, full ? 0 : 1, 3 * h * h, 3 * oh * oh, stride, stride, h, h, oh, oh, h, h), NULL, 0, 0);
      }
}

// Sums over lanes, and rows that need several of them.
static void rows(void) {
  for (int n = 1; n <= 70; n += n < 36 ? 1 : 7) {
    er_sym s[] = {{"N", n}, {NULL, 0}};
    for (int sym = n % 2 || n % 8 == 0 ? 0 : 1; sym <= 1; sym++) {
      char e[16];
      snprintf(e, sizeof e, sym ? "N" : "%d", n);
      check_all(text("kernel \"softmax\" { axis a0 \"r\" (5) block 2 unroll 2 axis a1 \"j\" (%s) vec 2 axis a2 \"jm\" (%s) vec 1 axis a3 \"js\" (%s) vec 2\n"
                     " in b0 f32 [5*%s] out b1 f32 [5*%s] t0 = max(a2: b0[{(%s)a0 + (1)a2 + (0)}])\n"
                     " t1 = sum(a3: exp((b0[{(%s)a0 + (1)a3 + (0)}] - t0)))\n"
                     " nest a0 a1 { b1[{(%s)a0 + (1)a1 + (0)}] = (exp((b0[{(%s)a0 + (1)a1 + (0)}] - t0)) / t1) } }\n", e, e, e, e, e, e, e, e, e),
                sym ? s : NULL, 2e-6, 1e-7);
      check_all(text("kernel \"norm\" { axis a0 \"r\" (3) axis a1 \"j\" (%s) vec 1 axis a2 \"jm\" (%s) vec 1 axis a3 \"js\" (%s) unroll 3\n"
                     " in b0 f32 [3*%s] out b1 f32 [3*%s] out b2 i32 [3] t0 = sum(a2: b0[{(%s)a0 + (1)a2 + (0)}])\n"
                     " t1 = (b0[{(%s)a0 + (1)a3 + (0)}] - t0) t2 = (f32:1 / sqrt((sum(a3: (t1 * t1)) + f32:1)))\n"
                     " nest a0 a1 { b1[{(%s)a0 + (1)a1 + (0)}] = ((b0[{(%s)a0 + (1)a1 + (0)}] - t0) * t2)\n"
                     "  b2[a0] = cast.i32(t0) } }\n", e, e, e, e, e, e, e, e, e), sym ? s : NULL, 1e-5, 1e-5);
    }
  }
}

// Other strides than 1 along the vector axis, guards that differ by lane, indices from memory.
static void access_forms(void) {
  static const int sizes[] = {1, 5, 16, 23, 32, 40};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    int n = sizes[i];
    er_sym s[] = {{"N", n}, {"S", 3}, {NULL, 0}};
    for (int st = -3; st <= 3; st += st == -1 ? 2 : 1)
      check_all(text("kernel \"stride\" { axis a0 \"i\" (%d) vec 2 in b0 f32 [%d] out b1 f32 [%d] nest a0 { b1[{(1)a0 + (0)}] = b0[{(%d)a0 + (%d)}] } }\n",
                     n, abs(st) * (n - 1) + 1, n, st, st < 0 ? -st * (n - 1) : 0), NULL, 0, 0);
    check_all("kernel \"stride_sym\" { axis a0 \"i\" (N) vec 1 axis a1 \"j\" (S) unroll 2 in b0 f32 [S*N] out b1 f32 [S*N]\n"
              " nest a1 a0 { b1[{(N)a1 + (1)a0 + (0)}] = b0[{(S)a0 + (1)a1 + (0)}] } }\n", s, 0, 0);
    check_all(text("kernel \"scatter\" { axis a0 \"i\" (%d) vec 1 in b0 f32 [%d] out b1 f32 [%d] nest a0 { b1[{(3)a0 + (0)}] = b0[a0] b1[{(-3)a0 + (%d)}] = (b0[a0] + f32:1) } }\n",
                   n, n, 3 * n, 3 * n - 2), NULL, 0, 0);
    check_all(text("kernel \"reverse\" { axis a0 \"i\" (%d) vec 2 in b0 f32 [%d] out b1 f32 [%d] nest a0 { b1[{(-1)a0 + (%d)}] = b0[a0] } }\n", n, n, n, n - 1), NULL, 0, 0);
    check_all(text("kernel \"concat\" { axis a0 \"i\" (%d) vec 2 in b0 f32 [%d] in b1 f32 [5] out b2 f32 [%d] t0 = (a0 < %d) t1 = (%d <= a0)\n"
                   " nest a0 { b2[a0] = sel(t0, b0[a0 | t0], b1[(a0 + %d) | t1]) } }\n", n + 5, n, n + 5, n, n, -n), NULL, 0, 0);
    check_all(text("kernel \"pad_store\" { axis a0 \"i\" (%d) vec 2 in b0 f32 [%d] out b1 f32 [%d] nest a0 { b1[a0] = b0[a0] if (2 <= a0) } }\n", n, n, n), NULL, 0, 0);
    check_all(text("kernel \"gather\" { axis a0 \"i\" (%d) vec 2 axis a1 \"j\" (3) in b0 f32 [21] in b1 i64 [%d] in b2 u8 [9] out b3 f32 [%d]\n"
                   " nest a1 a0 { b3[((a1 * %d) + a0)] = (b0[((index(b1[a0], 7) * 3) + a1)] + cast.f32(b2[index(b1[a0], 9)])) } }\n", n, n, 3 * n, n), NULL, 0, 0);
    check_all(text("kernel \"same\" { axis a0 \"i\" (%d) vec 1 in b0 f32 [1] out b1 f32 [%d] t0 = ((a0 %% 3) == 1) nest a0 { b1[a0] = b0[0 | t0] } }\n", n, n), NULL, 0, 0);
    check_all(text("kernel \"divmod\" { axis a0 \"i\" (%d) vec 1 in b0 f32 [%d] out b1 f32 [%d] nest a0 { b1[a0] = (b0[((((a0 %% 7) * 2) + (a0 // 7)) %% %d)] + cast.f32(a0)) } }\n", n, n, n, n), NULL, 0, 0);
    check_all(text("kernel \"tri\" { axis a0 \"i\" (%d) unroll 3 axis a1 \"j\" (%d) vec 1 axis a2 \"k\" (%d) unroll 2 in b0 f32 [%d] out b1 f32 [%d] limit a2 = (a0 + 1)\n"
                   " nest a0 a1 { b1[((a0 * %d) + a1)] = sum(a2: b0[((a2 * %d) + a1)]) } }\n", n, n, n, n * n, n * n, n, n), NULL, 1e-5, 1e-5);
  }
}

static void items(void) {
  check_all("kernel \"two\" { axis a0 \"r\" (7) axis a1 \"i\" (19) vec 1 axis a2 \"i\" (19) vec 1 axis a3 \"s\" (3) axis a4 \"j\" (19) in b0 f32 [133] out b1 f32 [133]\n"
            " local b2 f32 [19] local b3 f64 [19] grid a0\n nest a1 { b2[a1] = b0[((a0 * 19) + a1)] b3[a1] = cast.f64(b2[a1]) }\n"
            " loop a3 { nest a4 sequential { b2[a4] = (b2[a4] + (b2[((a4 * 18) % 19)] * cast.f32(a3))) } }\n"
            " nest a2 { b1[((a0 * 19) + a2)] = (b2[a2] + cast.f32(b3[{(-1)a2 + (18)}])) } }\n", NULL, 1e-4, 1e-4);
  check_all("kernel \"scan\" { axis a0 \"r\" (6) block 4 axis a1 \"i\" (11) in b0 i32 [66] out b1 i32 [66] readwrite t0 = (1 <= a1)\n"
            " nest a0 a1 sequential { b1[((a0 * 11) + a1)] = (b0[((a0 * 11) + a1)] + b1[((a0 * 11) + (a1 + -1)) | t0]) } }\n", NULL, 0, 0);
  check_all("kernel \"add_scatter\" { axis a0 \"i\" (40) in b0 f32 [40] in b1 i64 [40] out b2 f32 [7] readwrite t0 = index(b1[a0], 7)\n"
            " nest a0 sequential { b2[t0] = (b2[t0] + b0[a0]) } }\n", NULL, 1e-5, 1e-5);
  check_all("kernel \"grid2\" { axis a0 \"a\" (3) axis a1 \"b\" (4) axis a2 \"i\" (20) block 8 vec 1 axis a3 \"j\" (5) block 2 in b0 f32 [1200] out b1 f32 [1200] grid a0 a1\n"
            " nest a2 a3 { b1[((((((a0 * 4) + a1) * 5) + a3) * 20) + a2)] = b0[((((((a0 * 4) + a1) * 5) + a3) * 20) + a2)] } }\n", NULL, 0, 0);
}

// Kernels that compute row after row ask for the rows to come, also past the end of memory, which is harmless. Not where rows
// are so short that the processor fetches ahead by itself.
static const char *softmax(int rows, int n) {
  return text("kernel \"rows\" { axis a0 \"g\" (2) axis a1 \"r\" (%d) axis a2 \"i\" (%d) vec 2 axis a3 \"i\" (%d) vec 2 axis a4 \"m\" (%d) vec 4 axis a5 \"s\" (%d) vec 4\n"
              " in b0 f32 [%d] out b1 f32 [%d] local b2 f32 [%d] grid a0\n"
              " loop a1 { nest a2 { b2[a2] = exp((b0[{(%d)a0 + (%d)a1 + (1)a2 + (0)}] - max(a4: b0[{(%d)a0 + (%d)a1 + (1)a4 + (0)}]))) }\n"
              " nest a3 { b1[{(%d)a0 + (%d)a1 + (1)a3 + (0)}] = (b2[a3] / sum(a5: b2[a5])) } } }\n",
              rows, n, n, n, n, 2 * rows * n, 2 * rows * n, n, rows * n, n, rows * n, n, rows * n, n);
}

static int prefetches(const sd_kernel *k, const char *isa) {
  sd_machine_code o;
  int n = 0;
  CHECK_OK(sd_emit_llvm(k, sd_isa_find(isa), "kernel", 3, arena, &o));
  for (size_t i = 0; i + 1 < o.size; i++) n += ((const uint8_t *)o.data)[i] == 0x0f && ((const uint8_t *)o.data)[i + 1] == 0x18;
  return n;
}

static void rows_ahead(void) {
  static const int sizes[] = {8, 64, 70, 256, 1000, 2100};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    check_all(softmax(5, sizes[i]), NULL, 1e-5, 1e-6);
    sd_kernel *k = parse(softmax(5, sizes[i]));
    CHECK((prefetches(k, "avx2") > 0) == (sizes[i] * 4 >= 256 && sizes[i] * 4 <= 8192));
  }
}

// Products whose rows share panels of packed weights ask for the next panel, those of one register tile for what comes soon;
// not where the weights stay near.
static const char *product(const char *rows, int lanes, int panels, int steps, const char *order) {
  return text("kernel \"panels\" { axis a0 \"g\" (2) axis a1 \"no\" (%d) axis a2 \"m\" (%s) block 8 unroll 4 axis a3 \"ni\" (%d) vec 2 axis a4 \"kh\" (3) axis a5 \"k\" (%d)\n"
              " in b0 f32 [%d*%s] in b1 f32 [%d] invariant out b2 f32 [%d*%s]\n"
              " nest %s { b2[{(%d*%s)a0 + (%d)a1 + (%d)a2 + (1)a3 + (0)}] = sum(a4 a5: (b0[{(%d)a2 + (%d)a4 + (1)a5 + (0)}] *"
              " b1[{(%d)a0 + (%d)a1 + (1)a3 + (%d)a4 + (%d)a5 + (0)}])) } }\n",
              panels, rows, lanes, steps, 3 * steps, rows, 6 * panels * lanes * steps, 2 * panels * lanes, rows, order, panels * lanes, rows, lanes, panels * lanes,
              3 * steps, steps, 3 * panels * lanes * steps, 3 * lanes * steps, lanes * steps, lanes);
}

static void panels_ahead(void) {
  static const char *const isas_here[] = {"avx2", "avx512"}, *const order[] = {"a0 a1 a2 a3", "a1 a0 a2 a3"};
  uint64_t before = seed;
  for (int i = 0; i < 2; i++)
    for (int o = 0; o < 2; o++) {
      int lanes = 16 << i;
      er_sym s[] = {{"M", 9}, {NULL, 0}}, none[] = {{"M", 0}, {NULL, 0}};
      const char *open = product("M", lanes, 8 >> i, 90, order[o]);
      if (i == o) check_all(open, s, 1e-4, 1e-4), check_all(open, none, 1e-4, 1e-4);
      CHECK(prefetches(parse(open), isas_here[i]) > 0);
      CHECK(prefetches(parse(product("13", lanes, 8 >> i, 90, order[o])), isas_here[i]) > 0);
      CHECK(prefetches(parse(product("4", lanes, 8 >> i, 90, order[o])), isas_here[i]) == 0);
      CHECK(prefetches(parse(product("4", lanes, 8 >> i, 700, order[o])), isas_here[i]) > 0);
      CHECK(prefetches(parse(product("13", lanes, 8 >> i, 80, order[o])), isas_here[i]) == 0);
    }
  seed = before;
}

// The share of a register tile that is asked for in a step is no more than it reads itself, also where the rows are not known.
static void panels_of_open_rows(void) {
  const char *open = "kernel \"fc\" { axis a0 \"jo\" (32) axis a1 \"m\" (M) unroll 32 axis a2 \"n\" (32) vec 2 axis a3 \"ko\" (512) axis a4 \"ki\" (4) unroll 0\n"
                     " in b0 u8 [2048*M] in b1 i8 [2097152] invariant out b2 i32 [1024*M]\n"
                     " nest a0 a1 a2 { b2[{(32)a0 + (1024)a1 + (1)a2 + (0)}] = sum(a3 a4: (cast.i32(b0[{(2048)a1 + (4)a3 + (1)a4 + (0)}]) * "
                     "cast.i32(b1[{(65536)a0 + (4)a2 + (128)a3 + (1)a4 + (0)}]))) } }";
  sd_machine_code o;
  sd_arena_reset(arena);
  sd_kernel *k = parse(open);
  CHECK_OK(sd_emit_llvm(k, sd_isa_find("amx"), "kernel", 2, arena, &o));
  CHECK(o.size < 16384);
}

// ---- any legal schedule gives the same results ----
static const char *const unscheduled[] = {
    "kernel \"mm\" { axis a0 \"b\" (2) axis a1 \"m\" (19) axis a2 \"n\" (37) axis a3 \"k\" (23) in b0 f32 [874] in b1 f32 [1702] in b2 f32 [37] out b3 f32 [1406] out b4 bool [1406]\n"
    " t0 = (sum(a3: (b0[((((a0 * 19) + a1) * 23) + a3)] * b1[((((a0 * 23) + a3) * 37) + a2)])) + b2[a2])\n"
    " nest a0 a1 a2 { b3[((((a0 * 19) + a1) * 37) + a2)] = (t0 * tanh(t0)) b4[((((a0 * 19) + a1) * 37) + a2)] = (f32:100 < t0) } }",
    "kernel \"mmt\" { axis a0 \"m\" (M) axis a1 \"n\" (N) axis a2 \"k\" (K) in b0 f32 [M*K] in b1 f16 [N*K] out b2 f32 [M*N]\n"
    " nest a0 a1 { b2[{(N)a0 + (1)a1 + (0)}] = sum(a2: (b0[{(K)a0 + (1)a2 + (0)}] * b1[{(K)a1 + (1)a2 + (0)}])) } }",
    "kernel \"conv\" { axis a0 \"oh\" (7) axis a1 \"ow\" (7) axis a2 \"oc\" (21) axis a3 \"kh\" (3) axis a4 \"kw\" (3) axis a5 \"ic\" (5) in b0 f32 [245] in b1 f32 [945] out b2 f32 [1029]\n"
    " t0 = ((a0 + a3) + -1) t1 = ((a1 + a4) + -1) t2 = (((0 <= t0) & (t0 < 7)) & ((0 <= t1) & (t1 < 7)))\n"
    " nest a0 a1 a2 { b2[((((a0 * 7) + a1) * 21) + a2)] = sum(a3 a4 a5: (b0[((((t0 * 7) + t1) * 5) + a5) | t2] * b1[((((((a3 * 3) + a4) * 5) + a5) * 21) + a2)])) } }",
    "kernel \"pool\" { axis a0 \"c\" (5) axis a1 \"oh\" (8) axis a2 \"ow\" (8) axis a3 \"kh\" (3) axis a4 \"kw\" (3) in b0 f32 [1280] out b1 f32 [320]\n"
    " t0 = (((a1 * 2) + a3) + -1) t1 = (((a2 * 2) + a4) + -1) t2 = (((0 <= t0) & (t0 < 16)) & ((0 <= t1) & (t1 < 16)))\n"
    " nest a0 a1 a2 { b1[((((a0 * 8) + a1) * 8) + a2)] = max(a3 a4: sel(t2, b0[((((a0 * 16) + t0) * 16) + t1) | t2], f32:-inf)) } }",
    "kernel \"norm\" { axis a0 \"r\" (9) axis a1 \"j\" (N) axis a2 \"x\" (N) axis a3 \"y\" (N) in b0 bf16 [9*N] in b1 f32 [N] out b2 f16 [9*N]\n"
    " t0 = max(a2: b0[{(N)a0 + (1)a2 + (0)}]) t1 = sum(a3: exp((b0[{(N)a0 + (1)a3 + (0)}] - t0)))\n"
    " nest a0 a1 { b2[{(N)a0 + (1)a1 + (0)}] = ((exp((b0[{(N)a0 + (1)a1 + (0)}] - t0)) / t1) * b1[a1]) } }",
    "kernel \"ints\" { axis a0 \"i\" (11) axis a1 \"j\" (26) axis a2 \"k\" (9) in b0 u8 [99] in b1 i8 [234] in b2 i64 [11] out b3 i32 [286]\n"
    " nest a0 a1 { b3[((a0 * 26) + a1)] = (sum(a2: (cast.i32(b0[((a0 * 9) + a2)]) * cast.i32(b1[((a2 * 26) + a1)]))) + cast.i32(b1[((index(b2[a0], 9) * 26) + a1)])) } }",
    "kernel \"perm\" { axis a0 \"i\" (6) axis a1 \"j\" (17) axis a2 \"k\" (20) in b0 f64 [2040] out b1 f32 [2040] nest a0 a1 a2 { b1[((((a0 * 17) + a1) * 20) + a2)] = cast.f32(b0[((((a2 * 17) + a1) * 6) + a0)]) } }",
};

static uint32_t pick(uint32_t n) { return (uint32_t)(test_random(&seed) % n); }

static void schedule_reductions(const sd_expr *e) {
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) schedule_reductions(e->a[i]);
  for (uint32_t i = 0; e->op == SD_X_REDUCE && i < e->n_axes; i++) {
    static const int8_t unroll[] = {1, 1, 0, 2, 3, 4};
    e->axes[i]->unroll = unroll[pick(6)];
    e->axes[i]->vec = i + 1 == e->n_axes && pick(3) == 0 ? 1 + (int)pick(3) : 0;
  }
}

static void random_schedules(void) {
  for (int round = 0; round < (check_short() ? 3 : 20); round++)
    for (unsigned i = 0; i < sizeof unscheduled / sizeof *unscheduled; i++) {
      sd_arena_reset(arena);
      sd_kernel *k = parse(unscheduled[i]);
      if (!k) return;
      er_sym s[] = {{"M", 1 + pick(20)}, {"N", 1 + pick(70)}, {"K", 1 + pick(40)}, {NULL, 0}};
      sd_nest *n = k->items.at[0].nest;
      for (uint32_t a = n->n_axes; a > 1; a--) { // shuffle
        uint32_t b = pick(a);
        sd_axis *x = n->axes[a - 1];
        n->axes[a - 1] = n->axes[b], n->axes[b] = x;
      }
      for (uint32_t a = 0; a < n->n_axes; a++) {
        n->axes[a]->unroll = pick(2) ? 1 : 1 + (int)pick(6);
        n->axes[a]->block = pick(2) ? 0 : 1 + pick(40);
      }
      if (pick(4)) n->axes[pick(n->n_axes)]->vec = 1 + (int)pick(3);
      for (uint32_t r = 0; r < n->stores.len; r++) schedule_reductions(n->stores.at[r].value);
      bool ok = same(k, isas[pick((uint32_t)n_isas)], 1, s, fill_random, 1e-3, 1e-3);
      CHECK(ok);
      if (ok) continue;
      sd_str text = {0};
      sard_status_free(sd_kernel_print(k, &text));
      printf("M %d N %d K %d\n%s\n", (int)s[0].value, (int)s[1].value, (int)s[2].value, text.p);
      sd_str_free(&text);
    }
}

// ---- the error flag, other architectures, hostile kernels ----
static void index_errors(void) {
  for (int i = 0; i < n_isas; i++)
    for (int bad = -1; bad < 21; bad++) {
      sd_arena_reset(arena);
      sd_kernel *k = parse("kernel \"index\" { axis a0 \"i\" (21) block 8 vec 1 in b0 f32 [5] in b1 i64 [21] out b2 f32 [21] nest a0 { b2[a0] = b0[index(b1[a0], 5)] } }\n");
      er_code c;
      CHECK_OK(er_compile(k, isas[i], 1, &c));
      float x[5] = {1, 2, 3, 4, 5}, y[21];
      int64_t index[32];
      for (int j = 0; j < 32; j++) index[j] = j < 21 ? j % 5 : 99; // past the end: must not count
      if (bad >= 0) index[bad] = bad % 2 ? -1 : 5;
      uint32_t e = er_run(&c, (void *[]){x, index, y}, NULL, 1);
      CHECK(e == (bad >= 0 ? SARD_KE_INDEX : 0));
      CHECK(bad < 0 || y[bad] == 1);
      sd_code_unload(&c.code);
    }
}

static void other_target(void) {
  sd_arena_reset(arena);
  sd_kernel *k = parse("kernel \"gemm\" { axis a0 \"m\" (M) unroll 8 axis a1 \"n\" (N) vec 3 axis a2 \"k\" (K) in b0 f16 [M*K] in b1 bf16 [K*N] out b2 f16 [M*N]\n"
                       " nest a0 a1 { b2[{(N)a0 + (1)a1 + (0)}] = tanh(sum(a2: (b0[{(K)a0 + (1)a2 + (0)}] * b1[{(N)a2 + (1)a1 + (0)}]))) } }\n");
  sd_machine_code o;
  CHECK_OK(sd_emit_llvm(k, sd_isa_find("neon"), "kernel", 2, arena, &o));
  CHECK_OK(sd_code_check(o.data, o.size, "kernel"));
  const sd_isa *none;
  CHECK_ERR(sd_isa_host("avx9", &none), USAGE, "avx512");
}

// Kernels compile in several threads at once, each with arenas of its own, and give the same code.
static void *compile_thread(void *p) {
  sd_arena *a = sd_arena_new();
  er_code *c = p;
  for (int i = 0; i < 6; i++) {
    sd_kernel *k = NULL;
    sard_status *st = sd_kernel_parse(a, sd_dimtab_new(a), "kernel \"k\" { axis a0 \"i\" (N) vec 2 in b0 f32 [N] out b1 f32 [N] nest a0 { b1[a0] = erf(exp(b0[a0])) } }", &k);
    if (!st) st = sd_emit_llvm(k, isas[n_isas - 1], "kernel", 2, a, &c->o);
    if (st) {
      sard_status_free(st);
      c->o.size = 0;
      break;
    }
  }
  return a;
}

static void threads(void) {
  pthread_t t[4];
  er_code c[4] = {0};
  void *a[4];
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, compile_thread, &c[i]) == 0);
  for (int i = 0; i < 4; i++) pthread_join(t[i], &a[i]);
  for (int i = 0; i < 4; i++) CHECK(c[i].o.size && c[i].o.size == c[0].o.size && !memcmp(c[i].o.data, c[0].o.data, c[0].o.size));
  for (int i = 0; i < 4; i++) sd_arena_free(a[i]);
}

// Memory that runs out at any allocation is an error, and the next kernel compiles again.
static void out_of_memory(void) {
  for (volatile long n = 1; n < 60; n++) {
    sd_arena *a = sd_arena_new();
    jmp_buf oom;
    sd_arena_set_oom(a, &oom);
    if (!setjmp(oom)) {
      sd_kernel *k = NULL;
      sard_status *st = sd_kernel_parse(a, sd_dimtab_new(a), "kernel \"k\" { axis a0 \"i\" (N) vec 2 in b0 f32 [N] out b1 f32 [N] nest a0 { b1[a0] = erf(b0[a0]) } }", &k);
      sd_machine_code o;
      sd_alloc_fail_after(n);
      if (!st) st = sd_emit_llvm(k, isas[0], "kernel", 1, a, &o);
      sd_alloc_fail_after(0);
      CHECK(!st || sard_status_code(st) == SARD_E_NOMEM);
      sard_status_free(st);
    }
    sd_alloc_fail_after(0);
    sd_arena_free(a);
  }
}

int main(void) {
  if (!emit_check_open()) return 1;
  RUN(elementwise);
  RUN(gemm);
  RUN(convolution);
  RUN(rows);
  RUN(access_forms);
  RUN(items);
  RUN(rows_ahead);
  RUN(panels_ahead);
  RUN(panels_of_open_rows);
  RUN(random_schedules);
  RUN(index_errors);
  RUN(other_target);
  RUN(threads);
  RUN(out_of_memory);
  return emit_check_close();
}
