// The speed this machine can reach: f32 multiply-adds in registers, and reads from memory, on a number of threads.
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/cpu.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT ON
#endif

// Multiply-adds on independent accumulators, enough to hide the latency; returns flops done. One copy per vector
// size.
#define FMA_LOOP(name, attribute, bytes)                                                \
  attribute static double name(int64_t until, float *out) {                             \
    typedef float vec __attribute__((vector_size(bytes)));                              \
    enum { ACC = 12, INNER = 2000 };                                                    \
    vec acc[ACC], x, y;                                                                 \
    float seed = *(volatile float *)out;                                                \
    double done = 0;                                                                    \
    for (int k = 0; k < ACC; k++) acc[k] = (vec){0} + seed + (float)k;                  \
    x = (vec){0} + seed + 0.5f, y = (vec){0} + seed + 0.25f;                            \
    do {                                                                                \
      for (int i = 0; i < INNER; i++) {                                                 \
        _Pragma("GCC unroll 12") for (int k = 0; k < ACC; k++) acc[k] = acc[k] * x + y; \
      }                                                                                 \
      done += (double)ACC * INNER * (double)(sizeof(vec) / sizeof(float)) * 2;          \
    } while (sd_now_ns() < until);                                                      \
    for (int k = 1; k < ACC; k++) acc[0] += acc[k];                                     \
    *(volatile float *)out = acc[0][0];                                                 \
    return done;                                                                        \
  }

FMA_LOOP(fma_base, , 16)
#ifdef __x86_64__
FMA_LOOP(fma_avx2, __attribute__((target("avx2,fma"))), 32)
FMA_LOOP(fma_avx512, __attribute__((target("avx512f,fma"))), 64)
#endif

typedef double (*fma_fn)(int64_t until, float *out);
static fma_fn best_fma(void) {
#ifdef __x86_64__
  if (sd_cpu_has_isa("avx512", NULL)) return fma_avx512;
  if (sd_cpu_has_isa("avx2", NULL)) return fma_avx2;
#endif
  return fma_base;
}

// Sums 64-bit words: adds are cheap enough that memory is the limit.
static double read_loop(const uint64_t *data, size_t words, int64_t until, uint64_t *out) {
  typedef uint64_t vec __attribute__((vector_size(16)));
  double done = 0;
  vec a = {0}, b = {0}, c = {0}, d = {0};
  do {
    const vec *p = (const vec *)data;
    for (size_t i = 0; i + 4 <= words / 2; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
    done += (double)words * 8;
    __asm__ volatile("" ::: "memory");
  } while (sd_now_ns() < until);
  a ^= b ^ c ^ d;
  *(volatile uint64_t *)out = a[0] ^ a[1];
  return done;
}

enum { READ_BYTES = 64 << 20 }; // per thread, more than its share of the caches

typedef struct job {
  pthread_t thread;
  bool reads;
  int64_t from, until;
  double done, seconds;
  uint64_t *data;
  float sink;
  uint64_t word;
} job;

static void *work(void *arg) {
  job *j = arg;
  while (sd_now_ns() < j->from) { /* all begin together */
  }
  int64_t t0 = sd_now_ns();
  j->done = j->reads ? read_loop(j->data, READ_BYTES / 8, j->until, &j->word) : best_fma()(j->until, &j->sink);
  j->seconds = (double)(sd_now_ns() - t0) * 1e-9;
  return NULL;
}

static double measure(job *jobs, int threads, bool reads, double seconds) {
  int64_t now = sd_now_ns() + 2000000;
  int started = 0;
  double rate = 0;
  for (; started < threads; started++) {
    job *j = &jobs[started];
    j->reads = reads, j->from = now, j->until = now + (int64_t)(seconds * 1e9), j->sink = 0, j->done = 0;
    if (started && pthread_create(&j->thread, NULL, work, j) != 0) break;
  }
  work(&jobs[0]);
  for (int i = 1; i < started; i++) pthread_join(jobs[i].thread, NULL);
  for (int i = 0; i < started; i++) rate += jobs[i].done / jobs[i].seconds;
  return rate * 1e-9;
}

static double larger(double a, double b) { return a > b ? a : b; }

enum { WINDOWS = 8 };

sd_peak sd_peak_measure(int threads) {
  sd_peak p = {0};
  if (threads < 1) threads = 1;
  if (threads > 256) threads = 256;
  job *jobs = sd_calloc((size_t)threads, sizeof *jobs);
  bool ok = jobs != NULL;
  for (int i = 0; ok && i < threads; i++) {
    ok = (jobs[i].data = sd_alloc_aligned(READ_BYTES)) != NULL;
    if (ok) memset(jobs[i].data, i, READ_BYTES);
  }
  if (ok) {
    // The best of several short windows: other programs on the machine disturb some of them.
    for (int i = 0; i < WINDOWS; i++) p.gflops = larger(p.gflops, measure(jobs, threads, false, 0.03));
    for (int i = 0; i < WINDOWS; i++) p.gbs = larger(p.gbs, measure(jobs, threads, true, 0.03));
  }
  for (int i = 0; jobs && i < threads; i++) sd_free_aligned(jobs[i].data);
  sd_free(jobs);
  return p;
}

// ---- memory ----

static double most_before; // the peak is counted anew (sd_peak_memory_begin): what it was before that

static double status_mb(const char *field) {
  char line[256];
  unsigned long long kb = 0;
  size_t n = strlen(field);
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, field, n) == 0 && sscanf(line + n, ": %llu", &kb) == 1) break;
  if (f) fclose(f);
  return (double)kb * 1024e-6;
}

// Peak resident memory. VmHWM begins anew with the program; getrusage would count what the parent had.
double sd_peak_memory_mb(void) { return larger(most_before, status_mb("VmHWM")); }

double sd_peak_memory_begin(void) {
  double before = sd_peak_memory_mb();
  malloc_trim(0); // memory that is free already would take what comes, unseen
  FILE *f = fopen("/proc/self/clear_refs", "w");
  bool anew = f && fputs("5", f) >= 0;
  if (f) anew &= fclose(f) == 0;
  if (!anew) return -1;
  most_before = before;
  return status_mb("VmRSS");
}

double sd_peak_memory_since(double begun) { return begun < 0 ? 0 : larger(0, status_mb("VmHWM") - begun); }
