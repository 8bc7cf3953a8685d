// The LLVM emitter against the tile interpreter: schedules, all sizes of tails, data types, guards, functions in ulp.
#include "tests/unit/emit_run.h"

#include <pthread.h>
#include <stdatomic.h>

static const sd_isa *isas[8];
static int n_isas;
static sd_arena *arena;
static uint64_t seed = 1;

static sd_expr *identity(sd_kernel *k, sd_expr *e, void *user) { return (void)k, (void)user, e; }

// Plain operations of the text become canonical as the constructors would have made them.
static void canonical(sd_kernel *k, sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) canonical(k, items->at[i].body);
    for (uint32_t s = 0; items->at[i].nest && s < items->at[i].nest->stores.len; s++) {
      sd_store *st = &items->at[i].nest->stores.at[s];
      st->offset = sd_x_rewrite(k, st->offset, identity, NULL);
      st->value = sd_x_rewrite(k, st->value, identity, NULL);
      if (st->guard) st->guard = sd_x_rewrite(k, st->guard, identity, NULL);
    }
  }
}

static sd_kernel *parse(const char *text) {
  sd_kernel *k = NULL;
  sd_dimtab *t = sd_dimtab_new(arena);
  sard_status *st = sd_kernel_parse(arena, t, text, &k);
  if (!st) canonical(k, &k->items);
  if (!st) st = sd_kernel_verify(k);
  if (st) printf("%s\n%s\n", text, sard_status_text(st, SARD_TEXT_MESSAGE));
  CHECK(!st);
  sard_status_free(st);
  return st ? NULL : k;
}

typedef void (*fill_fn)(const sd_buf *b, void *p, uint64_t n);
static void fill_random(const sd_buf *b, void *p, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    if (sd_dtype_is_float(b->dtype)) sd_dtype_set_f64(b->dtype, p, i, er_uniform(&seed) * 4 - 2);
    else sd_dtype_set_i64(b->dtype, p, i, b->dtype == SD_BOOL ? (int64_t)(test_random(&seed) & 1) : (int64_t)(test_random(&seed) % 7));
  }
}

static bool close_to(const sd_buf *b, const void *x, const void *y, uint64_t i, double rtol, double atol) {
  if (!sd_dtype_is_float(b->dtype)) return sd_dtype_get_i64(b->dtype, x, i) == sd_dtype_get_i64(b->dtype, y, i);
  double u = sd_dtype_get_f64(b->dtype, x, i), v = sd_dtype_get_f64(b->dtype, y, i);
  if (isnan(u) || isnan(v) || isinf(u) || isinf(v)) return (isnan(u) && isnan(v)) || u == v;
  return fabs(u - v) <= atol + rtol * fabs(v);
}

static bool compiled(const sd_kernel *k, const sd_isa *isa, int opt, er_code *c) {
  sard_status *st = er_compile(k, isa, opt, c);
  if (st) printf("%s on %s -O%d: %s\n", k->name, isa->name, opt, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return !st;
}

// Runs the code of k and the interpreter on the same data, compares all outputs.
static bool agrees(sd_kernel *k, const er_code *c, const char *isa, const er_sym *syms, fill_fn fill, double rtol, double atol) {
  er_mem mem[32], ref[32];
  void *data[32] = {0}, *want[32] = {0};
  bool ok = true;
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    const sd_buf *b = k->bufs.at[i];
    if (b->kind == SD_BUF_LOCAL) continue;
    uint64_t n = (uint64_t)er_dim(k, b->count, syms), bytes = 0;
    sd_dtype_bytes(b->dtype, n, &bytes);
    mem[i] = er_alloc(bytes), ref[i] = er_alloc(bytes);
    data[i] = mem[i].data, want[i] = ref[i].data;
    (b->kind == SD_BUF_IN ? fill : fill_random)(b, data[i], n);
    memcpy(want[i], data[i], bytes);
  }
  er_run(c, data, syms, 1 + (uint32_t)(test_random(&seed) % 3));
  sard_status *st = sd_kernel_eval(k, want, er_symbol, (void *)(uintptr_t)syms);
  if (st) printf("%s: interpreter: %s\n", k->name, sard_status_text(st, SARD_TEXT_MESSAGE)), ok = false;
  sard_status_free(st);
  for (uint32_t i = 0; i < k->bufs.len && ok; i++) {
    const sd_buf *b = k->bufs.at[i];
    uint64_t n = b->kind == SD_BUF_OUT ? (uint64_t)er_dim(k, b->count, syms) : 0;
    for (uint64_t e = 0; e < n && ok; e++) {
      ok = close_to(b, data[i], want[i], e, rtol, atol);
      if (!ok)
        printf("%s on %s: b%u[%llu] is %.9g, should be %.9g (int %lld, %lld)\n", k->name, isa, i, (unsigned long long)e,
               sd_dtype_get_f64(b->dtype, data[i], e), sd_dtype_get_f64(b->dtype, want[i], e),
               (long long)sd_dtype_get_i64(b->dtype, data[i], e), (long long)sd_dtype_get_i64(b->dtype, want[i], e));
    }
  }
  for (uint32_t i = 0; i < k->bufs.len; i++)
    if (k->bufs.at[i]->kind != SD_BUF_LOCAL) er_release(&mem[i]), er_release(&ref[i]);
  return ok;
}

// Emits k for the ISA and compares.
static bool same(sd_kernel *k, const sd_isa *isa, int opt, const er_sym *syms, fill_fn fill, double rtol, double atol) {
  er_code c;
  if (!compiled(k, isa, opt, &c)) return false;
  bool ok = agrees(k, &c, isa->name, syms, fill, rtol, atol);
  sd_code_unload(&c.code);
  return ok;
}

// Code of a text with symbols, for each ISA: made once, as it has to serve all sizes.
typedef struct served {
  char *text;
  sd_kernel *k;
  er_code code[8];
} served;
static served kept[32];
static int n_kept;
static sd_arena *kept_arena;

static served *served_by(const char *text) {
  for (int i = 0; i < n_kept; i++)
    if (!strcmp(kept[i].text, text)) return &kept[i];
  if (n_kept == (int)(sizeof kept / sizeof *kept)) return NULL;
  sd_arena *of_one = arena;
  arena = kept_arena;
  served *s = &kept[n_kept];
  s->k = parse(text);
  arena = of_one;
  for (int i = 0; i < n_isas; i++)
    if (!s->k || !compiled(s->k, isas[i], 1, &s->code[i])) return NULL;
  s->text = strdup(text);
  n_kept++;
  return s;
}

static void drop_served(void) {
  for (int i = 0; i < n_kept; i++) {
    for (int j = 0; j < n_isas; j++) sd_code_unload(&kept[i].code[j].code);
    free(kept[i].text);
  }
}

static void check_sizes(const char *text, const er_sym *syms, double rtol, double atol) {
  served *s = served_by(text);
  CHECK(s != NULL);
  for (int i = 0; s && i < n_isas; i++) {
    bool ok = agrees(s->k, &s->code[i], isas[i]->name, syms, fill_random, rtol, atol);
    CHECK(ok);
    for (const er_sym *v = syms; !ok && v->name; v++) printf("%s %lld\n", v->name, (long long)v->value);
    if (!ok) printf("%s", text);
  }
}

static void check_all(const char *text, const er_sym *syms, double rtol, double atol) {
  if (syms) {
    check_sizes(text, syms, rtol, atol);
    return;
  }
  for (int i = 0; i < n_isas; i++) {
    sd_arena_reset(arena);
    sd_kernel *k = parse(text);
    if (!k) return;
    bool ok = same(k, isas[i], 1, NULL, fill_random, rtol, atol);
    CHECK(ok);
    if (!ok) printf("%s", text);
  }
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...) {
  static char bufs[4][4096];
  static int turn;
  char *buf = bufs[turn = (turn + 1) % 4];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(buf, sizeof bufs[0], fmt, ap);
  va_end(ap);
  return buf;
}

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

// ---- data types ----
static void dtypes(void) {
  static const char *const types[] = {"f32", "f64", "f16", "bf16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"};
  for (unsigned a = 0; a < sizeof types / sizeof *types; a++) {
    for (unsigned b = 0; b < sizeof types / sizeof *types; b++) {
      const char *to = types[b];
      check_all(text("kernel \"cast\" { axis a0 \"i\" (37) vec 2 in b0 %s [37] out b1 %s [37] nest a0 { b1[a0] = cast.%s(b0[a0]) } }\n", types[a], to,
                     !strcmp(to, "f16") || !strcmp(to, "bf16") ? "f32" : to), NULL, 0, 0);
    }
    if (!strcmp(types[a], "bool")) continue;
    static const char *const ops[] = {"+", "-", "*", "/", "min", "max", "==", "<=", "fmod"};
    for (unsigned o = 0; o < sizeof ops / sizeof *ops; o++) {
      bool cmp = o == 6 || o == 7, name = ops[o][0] >= 'a';
      check_all(text("kernel \"op\" { axis a0 \"i\" (37) vec 2 in b0 %s [37] in b1 %s [37] out b2 %s [37] nest a0 { b2[a0] = %s(b0[a0] %s b1[a0]) } }\n",
                     types[a], types[a], cmp ? "bool" : types[a], name ? ops[o] : "", name ? "," : ops[o]), NULL, 1e-6, 1e-6);
    }
    if (a < 4) continue;
    static const char *const iops[] = {"//", "%", "&", "|", "^", "<<", ">>", "pow"};
    for (unsigned o = 0; o < sizeof iops / sizeof *iops; o++)
      check_all(text("kernel \"iop\" { axis a0 \"i\" (37) vec 2 in b0 %s [37] in b1 %s [37] out b2 %s [37] t0 = (b0[a0] - %s) nest a0 { b2[a0] = %s(t0 %s b1[a0]) } }\n",
                     types[a], types[a], types[a], !strcmp(types[a], "i64") ? "3" : text("%s:3", types[a]), o == 7 ? "pow" : "", o == 7 ? "," : iops[o]), NULL, 0, 0);
  }
}
// What is left of a row of elements below 32 bits, known or not; rows backward, so that a lane too many would be seen.
static void narrow_rests(void) {
  static const char *const types[] = {"u8", "i16", "f16", "bool"};
  for (int n = 1; n <= 19; n += n < 9 ? 1 : 3)
    for (int t = 0; t < 4; t++) {
      er_sym s[] = {{"N", n}, {NULL, 0}};
      check_all(text("kernel \"rests\" { axis a0 \"r\" (3) axis a1 \"i\" (N) vec 2 in b0 f32 [3*N] out b1 %s [3*N]\n"
                     " nest a0 a1 { b1[{(-1*N)a0 + (1)a1 + (2*N)}] = cast.%s(b0[{(N)a0 + (1)a1 + (0)}]) } }\n", types[t], t == 2 ? "f32" : types[t]), s, 0, 0);
      check_all(text("kernel \"rest\" { axis a0 \"r\" (3) axis a1 \"i\" (%d) vec 2 axis a2 \"k\" (4) in b0 f32 [%d] out b1 %s [%d]\n"
                     " nest a0 a1 { b1[{(-%d)a0 + (1)a1 + (%d)}] = cast.%s(sum(a2: b0[{(1)a1 + (%d)a2 + (0)}])) } }\n", n, 4 * n, types[t], 3 * n, n, 2 * n,
                     t == 2 ? "f32" : types[t], n), NULL, 0, 0);
    }
}

// ---- elements below 16 bits: all codes, all ways to reach them, whole bytes and parts of them ----
static const char *const narrow_types[] = {"f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1", "f6e2m3", "f6e3m2", "i4", "u4", "i2", "u2", "f16", "bf16"};
#define N_NARROW (sizeof narrow_types / sizeof *narrow_types)

static sd_dtype raw_type(sd_dtype t) {
  int bits = sd_dtype_bits(t);
  return bits == 2 ? SD_U2 : bits == 4 ? SD_U4 : bits == 8 ? SD_U8 : bits == 16 ? SD_U16 : bits == 32 ? SD_U32 : SD_U64;
}

// Codes in order, and numbers of all sizes: between codes, at halfway, infinite.
static void fill_codes(const sd_buf *b, void *p, uint64_t n) {
  static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3e38f, 448, 464, 480, 61440, 65520, 5, -0.25f, 0.75f};
  uint64_t first = test_random(&seed), mask = sd_dtype_repacked(b->dtype) ? 63 : UINT64_MAX;
  for (uint64_t i = 0; i < n; i++) {
    if (b->dtype != SD_F32 && b->dtype != SD_F64) {
      sd_dtype_set_i64(raw_type(b->dtype), p, i, b->dtype == SD_BOOL ? (int64_t)(test_random(&seed) & 1) : (int64_t)((first + i) & mask));
      continue;
    }
    uint64_t code = test_random(&seed), next = code + 1;
    sd_dtype t = sd_dtype_parse(narrow_types[test_random(&seed) % 8]);
    double v = sd_dtype_get_f64(t, &code, 0), w = sd_dtype_get_f64(t, &next, 0);
    switch (test_random(&seed) % 4) {
    case 0: v = special[test_random(&seed) % (sizeof special / sizeof *special)]; break;
    case 1: v = (v + w) / 2; break;
    case 2: v = v + (w - v) * er_uniform(&seed); break;
    default: break;
    }
    sd_dtype_set_f64(b->dtype, p, i, v);
  }
}

static bool same_codes(const sd_kernel *k, uint32_t b, const void *x, const void *y, uint64_t n, const char *what) {
  sd_dtype t = k->bufs.at[b]->dtype, raw = raw_type(t);
  for (uint64_t i = 0; i < n; i++) {
    int64_t u = sd_dtype_get_i64(raw, x, i), v = sd_dtype_get_i64(raw, y, i);
    if (u == v || (sd_dtype_is_float(t) && isnan(sd_dtype_get_f64(t, x, i)) && isnan(sd_dtype_get_f64(t, y, i)))) continue;
    printf("%s, %s: b%u[%llu] is %#llx, should be %#llx\n", k->name, what, b, (unsigned long long)i, (unsigned long long)u, (unsigned long long)v);
    return false;
  }
  return true;
}

// The bits behind the last element are 0.
static bool clean_end(sd_dtype t, const uint8_t *p, uint64_t n) {
  uint64_t used = n * (uint64_t)sd_dtype_bits(t) % 8;
  return !used || p[n * (uint64_t)sd_dtype_bits(t) / 8] >> used == 0;
}

typedef struct share { const er_code *c; void **data; const er_sym *syms; uint32_t from; atomic_int *here; } share;
static void *every_second_tile(void *p) {
  const share *s = p;
  void *bufs[32];
  int64_t dims[64];
  uint32_t n = 0, error = 0;
  for (uint32_t i = 0; i < s->c->k->bufs.len; i++) bufs[n++] = s->data[i];
  for (uint32_t i = 0; i < s->c->o.n_dims && i < 64; i++) dims[i] = er_dim(s->c->k, s->c->o.dims[i], s->syms);
  int64_t tiles = er_dim(s->c->k, s->c->o.tiles, s->syms);
  sard_dispatch d = {bufs, dims, NULL, &error};
  atomic_fetch_add(s->here, 1);
  while (atomic_load(s->here) < 2) continue; // both at once
  for (uint32_t t = s->from; t < (uint32_t)tiles; t += 2) s->c->fn(&d, t, t + 1);
  return NULL;
}

// On each ISA, at -O0 or -O3, by one thread and by two: the codes of the interpreter.
static void check_codes(const char *text, const er_sym *syms) {
  static int turn; // the other level next time
  for (int i = turn++ % 2; i < n_isas * 2; i += 2) {
    sd_arena_reset(arena);
    sd_kernel *k = parse(text);
    er_code c;
    er_mem mem[8], ref[8];
    void *data[8] = {0}, *want[8] = {0};
    if (!k) return;
    CHECK_OK(er_compile(k, isas[i / 2], i % 2 ? 3 : 0, &c));
    if (!c.fn) return;
    for (uint32_t j = 0; j < k->bufs.len; j++) {
      const sd_buf *b = k->bufs.at[j];
      uint64_t n = (uint64_t)er_dim(k, b->count, syms), bytes = 0;
      sd_dtype_bytes(b->dtype, n, &bytes);
      mem[j] = er_alloc(bytes), ref[j] = er_alloc(bytes);
      data[j] = mem[j].data, want[j] = ref[j].data;
      fill_codes(b, data[j], n);
      memcpy(want[j], data[j], bytes);
    }
    CHECK_OK(sd_kernel_eval(k, want, er_symbol, (void *)(uintptr_t)syms));
    bool ok = true;
    for (int threads = 1; threads <= 2 && ok; threads++) {
      atomic_int here = 0;
      share s[2] = {{&c, data, syms, 0, &here}, {&c, data, syms, 1, &here}};
      pthread_t other;
      if (threads == 1) er_run(&c, data, syms, 1);
      else if (pthread_create(&other, NULL, every_second_tile, &s[1]) == 0) every_second_tile(&s[0]), pthread_join(other, NULL);
      for (uint32_t j = 0; j < k->bufs.len && ok; j++) {
        const sd_buf *b = k->bufs.at[j];
        uint64_t n = (uint64_t)er_dim(k, b->count, syms);
        if (b->kind != SD_BUF_OUT) continue;
        ok = same_codes(k, j, data[j], want[j], n, isas[i / 2]->name);
        if (ok && !strstr(text, " if ") && !strstr(text, "(3)a0")) ok = clean_end(b->dtype, data[j], n);
        if (threads == 1) memset(data[j], 0xff, mem[j].bytes); // the other run has to write it all again
        if (threads == 1 && (strstr(text, " if ") || strstr(text, "(3)a0"))) memcpy(data[j], want[j], mem[j].bytes);
      }
    }
    CHECK(ok);
    if (!ok) printf("-O%d %s", i % 2 ? 3 : 0, text);
    for (uint32_t j = 0; j < k->bufs.len; j++) er_release(&mem[j]), er_release(&ref[j]);
    sd_code_unload(&c.code);
  }
}

static void narrow_dtypes(void) {
  uint64_t before = seed; // the tests behind draw what they drew without this one
  static const int sizes[] = {0, 1, 3, 64, 259};
  for (unsigned a = 0; a < N_NARROW; a++) {
    const char *t = narrow_types[a], *wide = strchr("iu", *t) ? *t == 'i' ? "i32" : "u32" : "f32", *in = *wide == 'f' ? "f32" : "i8";
    const char *back = *wide == 'f' ? "f32" : *t == 'i' ? "i8" : "u8";
    for (unsigned z = 0; z < sizeof sizes / sizeof *sizes; z++) {
      int n = sizes[z];
      er_sym s[] = {{"N", n}, {NULL, 0}};
      check_codes(text("kernel \"widen\" { axis a0 \"i\" (N) block 64 vec 2 in b0 %s [N] out b1 %s [N] nest a0 { b1[a0] = cast.%s(b0[a0]) } }\n", t, wide, wide), s);
      check_codes(text("kernel \"round\" { axis a0 \"i\" (N) block 64 vec 1 in b0 %s [N] out b1 %s [N] nest a0 { b1[a0] = cast.%s(b0[a0]) } }\n", in, t, back), s);
      if (!n) continue;
      check_codes(text("kernel \"move\" { axis a0 \"i\" (%d) block 16 in b0 %s [%d] out b1 %s [%d] nest a0 { b1[{(-1)a0 + (%d)}] = b0[a0] } }\n", n, t, n, t, n, n - 1), s);
      check_codes(text("kernel \"odd\" { axis a0 \"i\" (%d) block 8 vec 1 in b0 %s [%d] out b1 %s [%d] out b2 %s [%d] nest a0 { b1[{(1)a0 + (0)}] = b0[{(1)a0 + (3)}] b2[(a0 + 1)] = b0[(a0 + 2)] if (1 <= a0) } }\n",
                       n, t, n + 3, t, n, t, n + 1), s);
    }
    er_sym s[] = {{"N", 37}, {NULL, 0}};
    check_codes(text("kernel \"rows\" { axis a0 \"i\" (7) block 1 axis a1 \"j\" (5) in b0 %s [35] in b1 bool [7] out b2 %s [35] t0 = ((a1 * 7) + a0)\n"
                     " nest a0 a1 { b2[((a0 * 5) + a1)] = sel(b1[a0], b0[t0], cast.%s(1)) } }\n", t, t, back), s);
    check_codes(text("kernel \"turn\" { axis a0 \"i\" (N) block 3 vec 1 axis a1 \"j\" (6) block 1 unroll 2 in b0 %s [6*N] out b1 %s [6*N]\n"
                     " nest a1 a0 { b1[{(N)a1 + (1)a0 + (0)}] = b0[{(6)a0 + (1)a1 + (0)}] } }\n", t, t), s);
    check_codes(text("kernel \"concat\" { axis a0 \"i\" (42) block 8 vec 1 in b0 %s [37] in b1 %s [5] out b2 %s [42] t0 = (a0 < 37) t1 = (37 <= a0)\n"
                     " nest a0 { b2[a0] = sel(t0, b0[a0 | t0], b1[(a0 + -37) | t1]) } }\n", t, t, t), s);
    check_codes(text("kernel \"gather\" { axis a0 \"i\" (40) block 16 vec 2 axis a1 \"j\" (3) in b0 %s [21] in b1 u2 [40] out b2 %s [120]\n"
                     " nest a1 a0 { b2[((a1 * 40) + a0)] = b0[((index(cast.i64(b1[a0]), 7) * 3) + a1)] } }\n", t, t), s);
    check_codes(text("kernel \"spread\" { axis a0 \"i\" (33) block 8 vec 1 in b0 %s [33] out b1 %s [99] nest a0 { b1[{(3)a0 + (0)}] = b0[a0] } }\n", t, t), s);
    check_codes(text("kernel \"shared\" { axis a0 \"i\" (90001) block 1 axis a1 \"j\" (5) in b0 %s [450005] out b1 %s [450005]\n"
                     " nest a0 a1 { b1[((a0 * 5) + a1)] = b0[((a0 * 5) + a1)] } }\n", t, t), s); // rows meet in bytes
    if (*wide != 'f') continue; // all f32 that round to something else: exponents around the format's range
    check_codes(text("kernel \"numbers\" { axis a0 \"i\" (20000) block 64 vec 2 in b0 f32 [20000] out b1 %s [20000] nest a0 { b1[a0] = b0[a0] } }\n", t), s);
  }
  seed = before;
}

// A weight of 4 bits widened inside of a contraction.
static void narrow_contraction(void) {
  er_sym s[] = {{"N", 3}, {NULL, 0}};
  uint64_t before = seed;
  for (unsigned a = 0; a < 10; a++)
    check_all(text("kernel \"mm\" { axis a0 \"m\" (N) unroll 4 axis a1 \"n\" (35) block 32 vec 2 axis a2 \"k\" (11) in b0 f32 [11*N] in b1 %s [385] in b2 f32 [35] out b3 f32 [35*N]\n"
                   " nest a1 a0 { b3[{(35)a0 + (1)a1 + (0)}] = sum(a2: (b0[{(11)a0 + (1)a2 + (0)}] * (cast.f32(b1[((a2 * 35) + a1)]) * b2[a1]))) } }\n", narrow_types[a]),
              s, 1e-5, 1e-5);
  seed = before;
}

// ---- functions: units in the last place against the C library in a wider type ----
typedef struct fn { const char *name; long double (*f)(long double); double lo, hi, ulp32, rel64; } fn;
static long double sigmoid_ref(long double x) { return 1 / (1 + expl(-x)); }
static long double falling_ref(long double x) { return 1 / (1 + expl(x)); }
static long double weight_ref(long double x) { return expl(x < -86.5L ? -86.5L : x); }
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
  for (unsigned i = 0; i < N_NARROW; i++) { // stores that share bytes are atomic there without calls
    const char *t = narrow_types[i];
    sd_arena_reset(arena);
    k = parse(text("kernel \"move\" { axis a0 \"i\" (N) block 8 vec 2 in b0 %s [N] out b1 %s [N] out b2 %s [N] nest a0 { b1[a0] = b0[a0] b2[{(-1)a0 + (N-1)}] = b0[a0] } }\n", t, t, t));
    CHECK_OK(sd_emit_llvm(k, sd_isa_find("neon"), "kernel", i % 4, arena, &o));
    CHECK_OK(sd_code_check(o.data, o.size, "kernel"));
  }
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
  arena = sd_arena_new();
  kept_arena = sd_arena_new();
  if (!arena || !kept_arena) return 1;
  const sd_isa *r;
  for (int i = 0; (r = sd_isa_at(i)); i++) {
    if (r->dot == 4) continue; // differs in products of bytes only, which are dot_test's
    sard_status *st = sd_isa_host(r->name, &isas[n_isas]);
    n_isas += !st;
    sard_status_free(st);
  }
  if (check_short()) isas[0] = isas[n_isas - 1], n_isas = 1;
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
  RUN(dtypes);
  RUN(narrow_dtypes);
  RUN(narrow_contraction);
  RUN(function_errors);
  RUN(binary_functions);
  RUN(narrow_rests);
  RUN(index_errors);
  RUN(other_target);
  RUN(threads);
  RUN(out_of_memory);
  drop_served();
  sd_arena_free(kept_arena);
  sd_arena_free(arena);
  return check_end();
}
