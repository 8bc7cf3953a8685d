// Speed of emitted kernels as a share of the measured peak, and the time to compile them: emit_bench [ISA] [NAME].
#include "tests/unit/emit_run.h"

#if defined(__x86_64__)
// Multiply-adds on registers only: 12 chains hide the latency.
#define FMA(r, n) "vfmadd231ps %%" r "mm0, %%" r "mm0, %%" r "mm" #n "\n"
#define FMAS(r) FMA(r, 1) FMA(r, 2) FMA(r, 3) FMA(r, 4) FMA(r, 5) FMA(r, 6) FMA(r, 7) FMA(r, 8) FMA(r, 9) FMA(r, 10) FMA(r, 11) FMA(r, 12)
#define PEAK(r)                                                                                                        \
  __asm__ volatile("vxorps %%xmm0, %%xmm0, %%xmm0\n1:\n" FMAS(r) "dec %0\njnz 1b\nvzeroupper\n" : "+r"(n)::"xmm0",     \
                   "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "cc")
static double peak_of(const sd_isa *isa) {
  double best = 1e30, lanes = isa->vector_bytes / 4;
  for (int i = 0; i < 20 && lanes >= 8; i++) {
    double t = test_seconds();
    long n = 100000;
    if (lanes == 16) PEAK("z");
    else PEAK("y");
    t = test_seconds() - t;
    if (t < best) best = t;
  }
  return lanes >= 8 ? 100000 * 12 * 2 * lanes / best * 1e-9 : 0;
}
#else
static double peak_of(const sd_isa *isa) { return (void)isa, 0; }
#endif

static sd_arena *arena;
static double peak;
static const sd_isa *isa;
static const char *only;

// Runs all tiles for about 0.2 s and prints the best of the runs.
static void bench(const char *name, double flops, double bytes, const char *text) {
  if (only && !strstr(name, only)) return;
  sd_arena_reset(arena);
  sd_kernel *k = NULL;
  er_code c;
  sard_status *st = sd_kernel_parse(arena, sd_dimtab_new(arena), text, &k);
  if (!st) st = sd_kernel_verify(k);
  if (!st) st = er_compile(k, isa, 2, &c);
  if (st) {
    printf("%s: %s\n", name, sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
    return;
  }
  sd_code_unload(&c.code);
  er_compile(k, isa, 2, &c); // the second time is typical
  void *bufs[16] = {0};
  uint32_t n = 0, err = 0;
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->kind == SD_BUF_LOCAL) continue;
    size_t count = (size_t)er_dim(k, k->bufs.at[i]->count, NULL);
    float *p = sd_alloc_aligned(count * 4 + 64);
    for (size_t j = 0; j < count; j++) p[j] = (float)(j % 17) * 0.01f;
    bufs[n++] = p;
  }
  void *scratch = sd_alloc_aligned((size_t)er_dim(k, c.o.scratch, NULL) + 64);
  sard_dispatch d = {bufs, NULL, scratch, &err};
  uint32_t tiles = (uint32_t)er_dim(k, c.o.tiles, NULL);
  double best = 1e30;
  for (double start = test_seconds(); test_seconds() - start < 0.3;) {
    double t = test_seconds();
    c.fn(&d, 0, tiles);
    t = test_seconds() - t;
    if (t < best) best = t;
  }
  printf("%-26s %9.1f us  %7.1f GFLOP/s %5.1f %%  %6.1f GB/s  compile %5.1f ms  %6llu B\n", name, best * 1e6, flops / best * 1e-9,
         peak ? 100 * flops / best * 1e-9 / peak : 0, bytes / best * 1e-9, c.compile_ms, (unsigned long long)c.o.size);
  for (uint32_t i = 0; i < n; i++) sd_free_aligned(bufs[i]);
  sd_free_aligned(scratch);
  const char *keep = getenv("EMIT_KEEP"); // folder for the objects, to look at the code
  if (keep) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%s.o", keep, name, isa->name);
    FILE *f = fopen(path, "wb");
    if (f) fwrite(c.o.data, 1, c.o.size, f), fclose(f);
  }
  sd_code_unload(&c.code);
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

// B packed as [N/nr][K][nr]: axes outer panel, rows, panel lanes.
static void gemm(const char *name, int m, int n, int k, int mr, int nr, int nv, int ku, bool gelu) {
  bench(name, 2.0 * m * n * k, 4.0 * ((double)m * k + (double)k * n + (double)m * n),
        text("kernel \"gemm\" {\n axis a0 \"no\" (%d) block 1\n axis a1 \"m\" (%d) unroll %d\n axis a2 \"ni\" (%d) vec %d\n"
             " axis a3 \"k\" (%d) unroll %d\n in b0 f32 [%d]\n in b1 f32 [%d] invariant\n in b2 f32 [%d]\n out b3 f32 [%d]\n"
             " t0 = (sum(a3: (b0[{(%d)a1 + (1)a3 + (0)}] * b1[{(%d)a0 + (%d)a3 + (1)a2 + (0)}])) + b2[{(%d)a0 + (1)a2 + (0)}])\n"
             " nest a0 a1 a2 {\n b3[{(%d)a0 + (%d)a1 + (1)a2 + (0)}] = %s\n }\n}\n",
             n / nr, m, mr, nr, nv, k, ku, m * k, n * k, n, m * n, k, nr * k, nr, nr, nr, n,
             gelu ? "(t0 * (f32:0.5 + (f32:0.5 * erf((t0 * f32:0.70710678)))))" : "max(t0, f32:0)"));
}

// NHWC, weights [OC/nr][kh][kw][IC][nr], padding 1, stride 1.
static void conv(const char *name, int hw, int ic, int oc, int mr, int nr, int nv) {
  int k = 3;
  bench(name, 2.0 * hw * hw * oc * ic * k * k, 4.0 * (hw * hw * (double)(ic + oc) + ic * oc * k * k),
        text("kernel \"conv\" {\n axis a0 \"oco\" (%d) block 1\n axis a1 \"oh\" (%d) block 8\n axis a2 \"ow\" (%d) unroll %d\n"
             " axis a3 \"oci\" (%d) vec %d\n axis a4 \"kh\" (3)\n axis a5 \"kw\" (3)\n axis a6 \"ic\" (%d)\n"
             " in b0 f32 [%d]\n in b1 f32 [%d] invariant\n out b2 f32 [%d]\n"
             " t0 = (((0 <= {(1)a1 + (1)a4 + (-1)}) & ({(1)a1 + (1)a4 + (-1)} < %d)) & ((0 <= {(1)a2 + (1)a5 + (-1)}) & ({(1)a2 + (1)a5 + (-1)} < %d)))\n"
             " nest a0 a1 a2 a3 {\n b2[{(%d)a0 + (%d)a1 + (%d)a2 + (1)a3 + (0)}] ="
             " max(sum(a4 a5 a6: (b0[{(%d)a1 + (%d)a2 + (%d)a4 + (%d)a5 + (1)a6 + (%d)} | t0] *"
             " b1[{(%d)a0 + (%d)a4 + (%d)a5 + (%d)a6 + (1)a3 + (0)}])), f32:0)\n }\n}\n",
             oc / nr, hw, hw, mr, nr, nv, ic, hw * hw * ic, oc * ic * 9, hw * hw * oc, hw, hw, nr, hw * oc, oc, hw * ic, ic, hw * ic, ic,
             -(hw * ic + ic), nr * 9 * ic, 3 * ic * nr, ic * nr, nr));
}

static void depthwise(const char *name, int hw, int ch, int mr, int nv, int kh) {
  bench(name, 2.0 * hw * hw * ch * 9, 4.0 * (2.0 * hw * hw * ch),
        text("kernel \"dw\" {\n axis a0 \"oh\" (%d) block 8\n axis a1 \"ow\" (%d) unroll %d\n axis a2 \"c\" (%d) vec %d\n"
             " axis a3 \"kh\" (3) unroll %d\n axis a4 \"kw\" (3) unroll 0\n in b0 f32 [%d]\n in b1 f32 [%d] invariant\n out b2 f32 [%d]\n"
             " t0 = (((0 <= {(1)a0 + (1)a3 + (-1)}) & ({(1)a0 + (1)a3 + (-1)} < %d)) & ((0 <= {(1)a1 + (1)a4 + (-1)}) & ({(1)a1 + (1)a4 + (-1)} < %d)))\n"
             " nest a0 a1 a2 {\n b2[{(%d)a0 + (%d)a1 + (1)a2 + (0)}] ="
             " sum(a3 a4: (b0[{(%d)a0 + (%d)a1 + (%d)a3 + (%d)a4 + (1)a2 + (%d)} | t0] * b1[{(%d)a3 + (%d)a4 + (1)a2 + (0)}]))\n }\n}\n",
             hw, hw, mr, ch, nv, kh, hw * hw * ch, 9 * ch, hw * hw * ch, hw, hw, hw * ch, ch, hw * ch, ch, hw * ch, ch, -(hw * ch + ch), 3 * ch, ch));
}

static void rows(void) {
  bench("softmax 128x128", 128 * 128 * 20.0, 2 * 4 * 128 * 128.0,
        "kernel \"softmax\" {\n axis a0 \"r\" (128) block 16\n axis a1 \"j\" (128) vec 4\n axis a2 \"jm\" (128) vec 4\n axis a3 \"js\" (128) vec 4\n"
        " axis a4 \"je\" (128) vec 4\n in b0 f32 [16384]\n out b1 f32 [16384] readwrite\n local b2 f32 [128]\n grid a0\n"
        " t0 = max(a2: b0[{(128)a0 + (1)a2 + (0)}])\n t1 = sum(a3: b2[a3])\n"
        " nest a4 {\n b2[a4] = exp((b0[{(128)a0 + (1)a4 + (0)}] - t0))\n }\n"
        " nest a1 {\n b1[{(128)a0 + (1)a1 + (0)}] = (b2[a1] * (f32:1 / t1))\n }\n}\n");
  bench("softmax twice 128x128", 128 * 128 * 20.0, 2 * 4 * 128 * 128.0,
        "kernel \"softmax\" {\n axis a0 \"r\" (128) block 16\n axis a1 \"j\" (128) vec 4\n axis a2 \"jm\" (128) vec 4\n axis a3 \"js\" (128) vec 4\n"
        " in b0 f32 [16384]\n out b1 f32 [16384]\n t0 = max(a2: b0[{(128)a0 + (1)a2 + (0)}])\n t1 = sum(a3: exp((b0[{(128)a0 + (1)a3 + (0)}] - t0)))\n"
        " nest a0 a1 {\n b1[{(128)a0 + (1)a1 + (0)}] = (exp((b0[{(128)a0 + (1)a1 + (0)}] - t0)) * (f32:1 / t1))\n }\n}\n");
  bench("layernorm 128x768", 128 * 768 * 8.0, 2 * 4 * 128 * 768.0,
        "kernel \"ln\" {\n axis a0 \"r\" (128) block 16\n axis a1 \"j\" (768) vec 4\n axis a2 \"jm\" (768) vec 4\n axis a3 \"js\" (768) vec 4\n"
        " in b0 f32 [98304]\n in b1 f32 [768]\n in b2 f32 [768]\n out b3 f32 [98304]\n"
        " t0 = (sum(a2: b0[{(768)a0 + (1)a2 + (0)}]) * f32:0.00130208337)\n t1 = (b0[{(768)a0 + (1)a3 + (0)}] - t0)\n"
        " t2 = (f32:1 / sqrt(((sum(a3: (t1 * t1)) * f32:0.00130208337) + f32:1e-5)))\n"
        " nest a0 a1 {\n b3[{(768)a0 + (1)a1 + (0)}] = ((((b0[{(768)a0 + (1)a1 + (0)}] - t0) * t2) * b1[a1]) + b2[a1])\n }\n}\n");
  bench("add 1M", 1 << 20, 12.0 * (1 << 20),
        "kernel \"add\" {\n axis a0 \"i\" (1048576) block 8192 vec 4\n in b0 f32 [1048576]\n in b1 f32 [1048576]\n out b2 f32 [1048576]\n"
        " nest a0 {\n b2[a0] = (b0[a0] + b1[a0])\n }\n}\n");
  static const char *const fns[] = {"exp", "log", "tanh", "erf", "sin"};
  for (int i = 0; i < 5; i++)
    bench(fns[i], 16384, 8 * 16384.0,
          text("kernel \"f\" {\n axis a0 \"i\" (16384) block 8192 vec 2\n in b0 f32 [16384]\n out b1 f32 [16384]\n nest a0 {\n b1[a0] = %s(b0[a0])\n }\n}\n", fns[i]));
  bench("silu 16K", 16384, 8 * 16384.0,
        "kernel \"f\" {\n axis a0 \"i\" (16384) block 8192 vec 2\n in b0 f32 [16384]\n out b1 f32 [16384]\n nest a0 {\n b1[a0] = (b0[a0] / (f32:1 + exp(neg(b0[a0]))))\n }\n}\n");
}

int main(int argc, char **argv) {
  arena = sd_arena_new();
  sard_status *st = sd_isa_host(argc > 1 ? argv[1] : "auto", &isa);
  if (st || !arena) return printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE)), 1;
  only = argc > 2 ? argv[2] : NULL;
  peak = peak_of(isa);
  printf("%s: peak %.1f GFLOP/s (register-only multiply-adds)\n", isa->name, peak);
  if (isa->registers == 32) {
    gemm("gemm 128x768x768 14x2", 128, 768, 768, 14, 32, 2, 1, false);
    gemm("gemm 128x768x768 13x2", 128, 768, 768, 13, 32, 2, 1, false);
    gemm("gemm 128x768x768 12x2", 128, 768, 768, 12, 32, 2, 1, false);
    gemm("gemm 126x768x768 14x2", 126, 768, 768, 14, 32, 2, 1, false);
    gemm("gemm 126x768x768 14x2 u2", 126, 768, 768, 14, 32, 2, 2, false);
    gemm("gemm 126x768x768 14x2 u4", 126, 768, 768, 14, 32, 2, 4, false);
    gemm("gemm 128x3072x768 13x2", 128, 3072, 768, 13, 32, 2, 1, false);
    gemm("gemm 128x768x3072 13x2", 128, 768, 3072, 13, 32, 2, 1, false);
    gemm("gemm far weights 8x3", 128, 48 * 1024, 768, 8, 48, 3, 1, false);
    gemm("gemm far weights 13x2", 128, 48 * 1024, 768, 13, 32, 2, 1, false);
    gemm("gemm 128x768x3072 6x4", 128, 768, 3072, 6, 64, 4, 1, false);
    gemm("gemm+gelu 128x3072x768 14x2", 128, 3072, 768, 14, 32, 2, 1, true);
    gemm("gemm 128x768x768 8x3", 128, 768, 768, 8, 48, 3, 1, false);
    gemm("gemm 128x768x768 6x4", 128, 768, 768, 6, 64, 4, 1, false);
    gemm("gemm 1x768x768 1x4", 1, 768, 768, 1, 64, 4, 1, false);
    conv("conv3x3 56x56x64", 56, 64, 64, 14, 32, 2);
    conv("conv3x3 28x28x128", 28, 128, 128, 14, 32, 2);
    conv("conv3x3 14x14x256", 14, 256, 256, 14, 32, 2);
    conv("conv3x3 7x7x512", 7, 512, 512, 7, 64, 4);
    depthwise("dw3x3 56x56x128 8x1", 56, 128, 8, 1, 0);
    depthwise("dw3x3 kh loop 56x56x128 8x1", 56, 128, 8, 1, 1);
    depthwise("dw3x3 56x56x128 14x1", 56, 128, 14, 1, 0);
    depthwise("dw3x3 kh loop 56x56x128 14x1", 56, 128, 14, 1, 1);
    depthwise("dw3x3 56x56x128 4x2", 56, 128, 4, 2, 0);
    depthwise("dw3x3 kh loop 56x56x128 4x2", 56, 128, 4, 2, 1);
    depthwise("dw3x3 14x14x512 14x1", 14, 512, 14, 1, 0);
    depthwise("dw3x3 kh loop 14x14x512 14x1", 14, 512, 14, 1, 1);
  } else {
    gemm("gemm 128x768x768 6x2", 128, 768, 768, 6, 16, 2, 1, false);
    gemm("gemm 126x768x768 6x2", 126, 768, 768, 6, 16, 2, 1, false);
    gemm("gemm 126x768x768 6x2 u2", 126, 768, 768, 6, 16, 2, 2, false);
    gemm("gemm 126x768x768 6x2 u4", 126, 768, 768, 6, 16, 2, 4, false);
    gemm("gemm+gelu 128x3072x768 6x2", 128, 3072, 768, 6, 16, 2, 1, true);
    gemm("gemm far weights 6x2", 128, 48 * 1024, 768, 6, 16, 2, 1, false);
    gemm("gemm 128x768x768 4x3", 128, 768, 768, 4, 24, 3, 1, false);
    gemm("gemm 1x768x768 1x4", 1, 768, 768, 1, 32, 4, 1, false);
    conv("conv3x3 56x56x64", 56, 64, 64, 6, 16, 2);
    conv("conv3x3 28x28x128", 28, 128, 128, 6, 16, 2);
    conv("conv3x3 14x14x256", 14, 256, 256, 5, 16, 2);
    depthwise("dw3x3 56x56x128 8x1", 56, 128, 8, 1, 0);
    depthwise("dw3x3 kh loop 56x56x128 8x1", 56, 128, 8, 1, 1);
    depthwise("dw3x3 56x56x128 4x1", 56, 128, 4, 1, 0);
    depthwise("dw3x3 kh loop 56x56x128 4x1", 56, 128, 4, 1, 1);
    depthwise("dw3x3 14x14x512 7x1", 14, 512, 7, 1, 0);
    depthwise("dw3x3 kh loop 14x14x512 7x1", 14, 512, 7, 1, 1);
  }
  rows();
  sd_arena_free(arena);
  return 0;
}
