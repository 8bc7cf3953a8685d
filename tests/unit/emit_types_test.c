// The LLVM emitter against the tile interpreter: casts and elements of all data types, also of less than a byte.
#include "tests/unit/emit_check.h"

#include <pthread.h>
#include <stdatomic.h>

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
    for (unsigned z = 0; z < sizeof sizes / sizeof *sizes; z += check_short() ? 2 : 1) {
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
    int rows = check_short() ? 9001 : 90001;
    check_codes(text("kernel \"shared\" { axis a0 \"i\" (%d) block 1 axis a1 \"j\" (5) in b0 %s [%d] out b1 %s [%d]\n"
                     " nest a0 a1 { b1[((a0 * 5) + a1)] = b0[((a0 * 5) + a1)] } }\n", rows, t, 5 * rows, t, 5 * rows), s); // rows meet in bytes
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

static void narrow_on_other_target(void) {
  sd_machine_code o;
  for (unsigned i = 0; i < N_NARROW; i++) { // stores that share bytes are atomic there without calls
    const char *t = narrow_types[i];
    sd_arena_reset(arena);
    sd_kernel *k = parse(text("kernel \"move\" { axis a0 \"i\" (N) block 8 vec 2 in b0 %s [N] out b1 %s [N] out b2 %s [N] nest a0 { b1[a0] = b0[a0] b2[{(-1)a0 + (N-1)}] = b0[a0] } }\n", t, t, t));
    CHECK_OK(sd_emit_llvm(k, sd_isa_find("neon"), "kernel", i % 4, arena, &o));
    CHECK_OK(sd_code_check(o.data, o.size, "kernel"));
  }
}

int main(void) {
  if (!emit_check_open()) return 1;
  RUN(dtypes);
  RUN(narrow_dtypes);
  RUN(narrow_contraction);
  RUN(narrow_rests);
  RUN(narrow_on_other_target);
  return emit_check_close();
}
