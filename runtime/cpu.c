// CPU features by CPUID and XGETBV; a feature counts only where the operating system saves its registers.
#include "runtime/cpu.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

// One bit of CPUID and the register state (XCR0) that it needs.
typedef struct feature { const char *name; uint32_t leaf, sub; char reg; uint8_t bit, level; } feature;
// level 1: part of the avx2 row, 2: of the avx512 row as well, 3: of the avxvnni row, 4: of the avx512vnni row, 5: of the avx512bf16 row as well,
// 6: of the amx row.
static const feature features[] = {
    {"sse4.2", 1, 0, 'c', 20, 1},  {"popcnt", 1, 0, 'c', 23, 1},   {"avx", 1, 0, 'c', 28, 1},
    {"fma", 1, 0, 'c', 12, 1},     {"f16c", 1, 0, 'c', 29, 1},     {"movbe", 1, 0, 'c', 22, 1},
    {"avx2", 7, 0, 'b', 5, 1},     {"bmi1", 7, 0, 'b', 3, 1},      {"bmi2", 7, 0, 'b', 8, 1},
    {"lzcnt", 0x80000001u, 0, 'c', 5, 1},
    {"avx512f", 7, 0, 'b', 16, 2}, {"avx512dq", 7, 0, 'b', 17, 2}, {"avx512cd", 7, 0, 'b', 28, 2},
    {"avx512bw", 7, 0, 'b', 30, 2}, {"avx512vl", 7, 0, 'b', 31, 2},
    {"avx_vnni", 7, 1, 'a', 4, 3}, {"avx512_vnni", 7, 0, 'c', 11, 4},
    {"avx512_bf16", 7, 1, 'a', 5, 5},
    {"amx_tile", 7, 0, 'd', 24, 6}, {"amx_int8", 7, 0, 'd', 25, 6}, {"amx_bf16", 7, 0, 'd', 22, 6},
};

#define LEVEL(n) (1u << (n))
#define MATRIX_STATE (3u << 17) // configuration and contents of the matrix registers, in XCR0

// Read once: in virtual machines each CPUID is a trap of some microseconds.
static struct { uint32_t one[4], seven[4], more[4], extended[4]; } leaves;
static pthread_once_t leaves_once = PTHREAD_ONCE_INIT;

static void read_leaves(void) {
  uint32_t most = __get_cpuid_max(0, NULL);
  if (most >= 1) __cpuid(1, leaves.one[0], leaves.one[1], leaves.one[2], leaves.one[3]);
  if (most >= 7) __cpuid_count(7, 0, leaves.seven[0], leaves.seven[1], leaves.seven[2], leaves.seven[3]);
  if (leaves.seven[0] >= 1) __cpuid_count(7, 1, leaves.more[0], leaves.more[1], leaves.more[2], leaves.more[3]);
  if (__get_cpuid_max(0x80000000u, NULL) >= 0x80000001u)
    __cpuid(0x80000001u, leaves.extended[0], leaves.extended[1], leaves.extended[2], leaves.extended[3]);
}

static bool has(const feature *f) {
  pthread_once(&leaves_once, read_leaves);
  const uint32_t *leaf = f->leaf == 1 ? leaves.one : f->leaf != 7 ? leaves.extended : f->sub ? leaves.more : leaves.seven;
  return leaf[f->reg - 'a'] >> f->bit & 1;
}

static uint64_t saved_state(void) {
  static const feature osxsave = {"osxsave", 1, 0, 'c', 27, 0};
  if (!has(&osxsave)) return 0;
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

// The features of all levels in the bit set.
static bool has_levels(unsigned levels, const char **missing) {
  uint64_t need = levels & LEVEL(2) ? 0xe6 : 0x06; // XMM, YMM; opmask and ZMM halves
  if (levels & LEVEL(6)) need |= MATRIX_STATE;
  *missing = "operating system support for the vector registers";
  if ((saved_state() & need) != need) return false;
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
    *missing = features[i].name;
    if (levels & LEVEL(features[i].level) && !has(&features[i])) return false;
  }
  return true;
}

// Linux lets a process use the matrix registers once it has asked, since they enlarge what it saves for each thread; threads
// that it has, and will have, may use them then.
static bool matrix_allowed;

static void ask_for_matrix(void) {
#if defined(__linux__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  matrix_allowed = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#endif
}

static bool has_matrix(const char **missing) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (!has_levels(LEVEL(1) | LEVEL(2) | LEVEL(4) | LEVEL(5) | LEVEL(6), missing)) return false;
  pthread_once(&once, ask_for_matrix);
  *missing = "permission of the operating system for the matrix registers";
  return matrix_allowed;
}

const char *sd_cpu_arch(void) { return "x86_64"; }

const char *sd_cpu_id(char out[SD_CPU_ID]) {
  const uint32_t *one = leaves.one, *seven = leaves.seven, *more = leaves.more;
  pthread_once(&leaves_once, read_leaves); // one[1] has the number of the processor
  snprintf(out, SD_CPU_ID, "%x-%x-%x-%x-%x-%x-%x-%x", one[0], one[2], one[3], seven[1], seven[2], seven[3], more[0], more[3]);
  return out;
}

static bool has_row(const char *isa, const char **missing) {
  if (!strcmp(isa, "baseline")) return true;
  if (!strcmp(isa, "avx2")) return has_levels(LEVEL(1), missing);
  if (!strcmp(isa, "avxvnni")) return has_levels(LEVEL(1) | LEVEL(3), missing);
  if (!strcmp(isa, "avx512")) return has_levels(LEVEL(1) | LEVEL(2), missing);
  if (!strcmp(isa, "avx512vnni")) return has_levels(LEVEL(1) | LEVEL(2) | LEVEL(4), missing);
  if (!strcmp(isa, "avx512bf16")) return has_levels(LEVEL(1) | LEVEL(2) | LEVEL(4) | LEVEL(5), missing);
  if (!strcmp(isa, "amx")) return has_matrix(missing);
  return false;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

const char *sd_cpu_arch(void) { return "aarch64"; }

const char *sd_cpu_id(char out[SD_CPU_ID]) {
  snprintf(out, SD_CPU_ID, "%lx-%lx", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
  return out;
}

static bool has_row(const char *isa, const char **missing) {
  (void)missing;
  return !strcmp(isa, "neon") || !strcmp(isa, "baseline"); // part of every 64-bit Arm
}
#else
const char *sd_cpu_arch(void) { return "?"; }

const char *sd_cpu_id(char out[SD_CPU_ID]) {
  out[0] = 0;
  return out;
}

static bool has_row(const char *isa, const char **missing) {
  (void)isa, (void)missing;
  return false;
}
#endif

bool sd_cpu_has_isa(const char *isa, const char **out_missing) {
  const char *none, **missing = out_missing ? out_missing : &none;
  *missing = "a name that this build knows";
  return has_row(isa, missing);
}

const char *sd_cpu_name(void) {
  static _Thread_local char name[128];
  FILE *f = fopen("/proc/cpuinfo", "re");
  char line[256];
  name[0] = 0;
  while (f && !name[0] && fgets(line, sizeof line, f)) {
    char *colon = !strncmp(line, "model name", 10) ? strchr(line, ':') : NULL;
    if (colon) snprintf(name, sizeof name, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
  }
  if (f) fclose(f);
  return name;
}
