// The LLVM emitter against the tile interpreter: schedules, all sizes of tails, data types, guards, functions in ulp.
#include "tests/unit/emit_run.h"

static const sd_isa *isas[8];
static int n_isas;
static sd_arena *arena;
static uint64_t seed = 1;

static sd_kernel *parse(const char *text) {
  sd_kernel *k = NULL;
  sd_dimtab *t = sd_dimtab_new(arena);
  sard_status *st = sd_kernel_parse(arena, t, text, &k);
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

// Emits k for the ISA, runs it and the interpreter on the same data, compares all outputs.
static bool same(sd_kernel *k, const sd_isa *isa, int opt, const er_sym *syms, fill_fn fill, double rtol, double atol) {
  er_code c;
  sard_status *st = er_compile(k, isa, opt, &c);
  if (st) {
    printf("%s on %s: %s\n", k->name, isa->name, sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
    return false;
  }
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
  er_run(&c, data, syms, 1 + (uint32_t)(test_random(&seed) % 3));
  st = sd_kernel_eval(k, want, er_symbol, (void *)(uintptr_t)syms);
  if (st) printf("%s: interpreter: %s\n", k->name, sard_status_text(st, SARD_TEXT_MESSAGE)), ok = false;
  sard_status_free(st);
  for (uint32_t i = 0; i < k->bufs.len && ok; i++) {
    const sd_buf *b = k->bufs.at[i];
    uint64_t n = b->kind == SD_BUF_OUT ? (uint64_t)er_dim(k, b->count, syms) : 0;
    for (uint64_t e = 0; e < n && ok; e++) {
      ok = close_to(b, data[i], want[i], e, rtol, atol);
      if (!ok)
        printf("%s on %s -O%d: b%u[%llu] is %.9g, should be %.9g (int %lld, %lld)\n", k->name, isa->name, opt, i, (unsigned long long)e,
               sd_dtype_get_f64(b->dtype, data[i], e), sd_dtype_get_f64(b->dtype, want[i], e),
               (long long)sd_dtype_get_i64(b->dtype, data[i], e), (long long)sd_dtype_get_i64(b->dtype, want[i], e));
    }
  }
  for (uint32_t i = 0; i < k->bufs.len; i++)
    if (k->bufs.at[i]->kind != SD_BUF_LOCAL) er_release(&mem[i]), er_release(&ref[i]);
  sd_code_unload(&c.code);
  return ok;
}

static void check_all(const char *text, const er_sym *syms, double rtol, double atol) {
  for (int i = 0; i < n_isas; i++)
    for (int opt = 1; opt < 2; opt++) {
      sd_arena_reset(arena);
      sd_kernel *k = parse(text);
      if (!k) return;
      bool ok = same(k, isas[i], opt, syms, fill_random, rtol, atol);
      CHECK(ok);
      if (!ok) printf("%s", text);
    }
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...) {
  static char buf[8192];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(buf, sizeof buf, fmt, ap);
  va_end(ap);
  return buf;
}

// ---- shapes and schedules ----
static void elementwise(void) {
  static const int sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int vec = 0; vec <= 4; vec += 2) {
      int n = sizes[i];
      check_all(text("kernel \"map\" {\n axis a0 \"i\" (%d) block 48 vec %d\n in b0 f32 [%d]\n in b1 f32 [%d]\n out b2 f32 [%d]\n"
                     " nest a0 {\n b2[a0] = max((b0[a0] + b1[a0]), f32:0)\n }\n}\n", n, vec, n, n, n), NULL, 0, 0);
      er_sym s[] = {{"N", n}, {NULL, 0}};
      check_all(text("kernel \"map_sym\" {\n axis a0 \"i\" (N) block 48 vec %d\n in b0 f32 [N]\n out b1 f32 [N]\n"
                     " nest a0 {\n b1[a0] = (b0[a0] * f32:3)\n }\n}\n", vec), s, 0, 0);
    }
}

static void gemm(void) {
  static const int ms[] = {1, 3, 5, 6, 7, 13, 14, 15, 28, 30}, ns[] = {1, 16, 20, 32, 33, 64, 70};
  for (unsigned i = 0; i < sizeof ms / sizeof *ms; i++)
    for (unsigned j = 0; j < sizeof ns / sizeof *ns; j++) {
      int m = ms[i], n = ns[j], k = 5 + (int)(i + j) % 3;
      check_all(text("kernel \"gemm\" {\n axis a0 \"m\" (%d) block %d unroll 6\n axis a1 \"n\" (%d) block 64 vec 2\n axis a2 \"k\" (%d)\n"
                     " in b0 f32 [%d]\n in b1 f32 [%d]\n in b2 f32 [%d]\n out b3 f32 [%d]\n"
                     " nest a1 a0 {\n b3[{(%d)a0 + (1)a1 + (0)}] = max((sum(a2: (b0[{(%d)a0 + (1)a2 + (0)}] * b1[{(%d)a2 + (1)a1 + (0)}])) + b2[a1]), f32:0)\n }\n}\n",
                     m, i % 2 ? 12 : 0, n, k, m * k, k * n, n, m * n, n, k, n), NULL, 1e-5, 1e-5);
      er_sym s[] = {{"M", m}, {"N", n}, {"K", k}, {NULL, 0}};
      check_all(text("kernel \"gemm_sym\" {\n axis a0 \"m\" (M) block 28 unroll 14\n axis a1 \"n\" (N) vec 2\n axis a2 \"k\" (K) unroll 2\n"
                     " in b0 f32 [M*K]\n in b1 f32 [K*N]\n out b2 f32 [M*N]\n"
                     " nest a0 a1 {\n b2[{(N)a0 + (1)a1 + (0)}] = sum(a2: (b0[{(K)a0 + (1)a2 + (0)}] * b1[{(N)a2 + (1)a1 + (0)}]))\n }\n}\n"), s, 1e-5, 1e-5);
    }
}

int main(void) {
  arena = sd_arena_new();
  if (!arena) return 1;
  const sd_isa *r;
  for (int i = 0; (r = sd_isa_at(i)); i++)
    if (!sd_isa_host(r->name, &isas[n_isas])) n_isas++;
  RUN(elementwise);
  RUN(gemm);
  sd_arena_free(arena);
  return check_end();
}
