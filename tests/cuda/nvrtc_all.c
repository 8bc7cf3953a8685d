// Compiles texts of kernels with NVRTC, many in one program; registers that do not suffice are failures.
#include "tests/cuda/nvrtc_all.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codegen/cuda/nvrtc.h"
#include "runtime/base/str.h"

enum { PER_PROGRAM = 40 };

typedef struct counts {
  uint32_t passed, failed;
  uint64_t bytes;
} counts;

static char *program_of(const gathered *g, uint32_t first, uint32_t n) {
  sd_str s = {0};
  sd_str_put(&s, sd_cuda_prelude);
  for (uint32_t i = first; i < first + n; i++)
    sd_strf(
        &s,
        "#define sd_kernel k%u\n#define sd_kernel_args k%u_args\n%s#undef sd_kernel\n#undef sd_kernel_args\n",
        i, i, g->kernels[i].text);
  return sd_str_take(&s);
}

// "Function properties for k12 \n 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
static void judge_log(const gathered *g, const char *log, int arch, counts *c) {
  static const char head[] = "Function properties for k";
  for (const char *p = log; (p = strstr(p, head));) {
    uint32_t k = (uint32_t)strtoul(p += sizeof head - 1, NULL, 10);
    const char *line = strchr(p, '\n');
    unsigned stack = 0, stores = 0, loads = 0;
    while (line && *line && (*line < '0' || *line > '9')) line++;
    if (k >= g->n_kernels || !line ||
        sscanf(line, "%u bytes stack frame, %u bytes spill stores, %u bytes spill loads", &stack, &stores,
               &loads) != 3)
      continue;
    if (stack || stores || loads) {
      printf("FAIL %s (k%u): %u bytes of stack, %u and %u bytes spilled for sm_%d\n", g->kernels[k].label, k,
             stack, stores, loads, arch);
      c->failed++;
    } else {
      c->passed++;
    }
  }
}

static void compile_part(const sd_nvrtc *n, const gathered *g, uint32_t first, uint32_t count, int arch,
                         counts *c) {
  char *text = program_of(g, first, count), name[40];
  snprintf(name, sizeof name, "k%u-k%u", first, first + count - 1);
  sd_arena *a = sd_arena_new();
  sd_cubin cubin;
  counts before = *c;
  sard_status *st =
      text && a ? sd_nvrtc_compile(n, text, name, arch, g->options.wide, a, &cubin) : SD_ERR(NOMEM, "out of memory");
  if (st && count > 1) { // which of them?
    for (uint32_t i = first; i < first + count; i++) compile_part(n, g, i, 1, arch, c);
  } else if (st) {
    printf("FAIL %s (k%u): %s\n", g->kernels[first].label, first, sard_status_text(st, SARD_TEXT_MESSAGE));
    c->failed++;
  } else {
    judge_log(g, cubin.log, arch, c);
    c->bytes += cubin.bytes;
    uint32_t seen = c->passed + c->failed - before.passed - before.failed;
    if (seen != count)
      printf("FAIL %s: the log tells of %u functions of %u for sm_%d\n", name, seen, count, arch),
          c->failed++;
  }
  sard_status_free(st);
  sd_arena_free(a);
  free(text);
}

// 75, 80, 90 and the newest, of those that the library knows. `only`: sm_90a.
static int choose_archs(const sd_nvrtc *n, int arch, bool only, int *out) {
  if (arch) return out[0] = arch, 1;
  if (only) return out[0] = 90, 1;
  int known[64], n_known = sd_nvrtc_archs(n, known, 64), count = 0;
  for (int i = 0; i < n_known && i < 64; i++)
    if (known[i] == 75 || known[i] == 80 || known[i] == 90 || i == n_known - 1) out[count++] = known[i];
  return count;
}

int compile_with_nvrtc(const gathered *g, int jobs, int arch, bool turns) {
  sd_nvrtc *n;
  int archs[8], major, minor;
  sard_status *st = sd_nvrtc_open(&n);
  if (st) {
    printf("no NVRTC here, so nothing is compiled for GPUs: %s\n0 passed, 0 failed\n",
           sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
    return 0;
  }
  sd_nvrtc_version(n, &major, &minor);
  int n_archs = choose_archs(n, arch, g->options.wide, archs);
  uint32_t parts = (g->n_kernels + PER_PROGRAM - 1) / PER_PROGRAM;
  counts *c = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), all = {0};
  if (c == MAP_FAILED || jobs > 64) return 2;
  atomic_uint *next = (atomic_uint *)(c + 64); // whoever is done takes the next one
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int j = 0; j < jobs; j++) {
    if (fork()) continue;
    for (uint32_t i; (i = atomic_fetch_add(next, 1)) < parts * (uint32_t)n_archs;) {
      uint32_t part = i / (uint32_t)n_archs, which = i % (uint32_t)n_archs, first = part * PER_PROGRAM;
      uint32_t left = g->n_kernels - first;
      if (turns && part % (uint32_t)n_archs != which) continue;
      compile_part(n, g, first, left < PER_PROGRAM ? left : PER_PROGRAM, archs[which], &c[j]);
    }
    fflush(stdout);
    _exit(0);
  }
  int status, crashed = 0;
  for (int j = 0; j < jobs; j++) wait(&status), crashed += status != 0;
  for (int j = 0; j < jobs; j++)
    all.passed += c[j].passed, all.failed += c[j].failed, all.bytes += c[j].bytes;
  printf("NVRTC %d.%d, %u kernels, sm_%d to sm_%d, %llu KiB of code\n", major, minor, g->n_kernels, archs[0],
         archs[n_archs - 1], (unsigned long long)all.bytes / 1024);
  printf("%u passed, %u failed\n", all.passed, all.failed + (uint32_t)crashed);
  sd_nvrtc_close(n);
  return all.failed + (uint32_t)crashed != 0;
}
