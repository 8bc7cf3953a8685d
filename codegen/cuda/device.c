// Names of devices, and a model's kernels as one program.
#include "codegen/cuda/device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/cuda/cuda.h"
#include "runtime/base/str.h"

#define SD_CUDA_THREADS 15 // besides the caller's: each takes some hundred megabytes in NVRTC

static const int usual[] = {
    75, 80, 86, 89, 90, 100, 120}; // a cubin of x.y runs on x.z, z >= y; PTX of the first on later ones

static bool knows(const sd_nvrtc *n, int arch) {
  int known[64], count = sd_nvrtc_archs(n, known, 64);
  for (int i = 0; i < count && i < 64; i++)
    if (known[i] == arch) return true;
  return false;
}

static sard_status *add_arch(sd_cuda_device *d, int arch) {
  int at = 0;
  while (at < d->n_archs && d->archs[at] < arch) at++;
  if (at < d->n_archs && d->archs[at] == arch) return NULL;
  if (d->n_archs == SD_CUDA_ARCHS) return SD_ERR(USAGE, "more than %d architectures", SD_CUDA_ARCHS);
  memmove(d->archs + at + 1, d->archs + at, (size_t)(d->n_archs - at) * sizeof *d->archs);
  d->archs[at] = arch;
  d->n_archs++;
  return NULL;
}

// "sm_80,sm_90"
static sard_status *read_archs(const char *text, sd_cuda_device *d) {
  const char *p = text;
  do {
    char *end = NULL;
    long arch = strncmp(p, "sm_", 3) == 0 ? strtol(p + 3, &end, 10) : 0;
    if (!end || end == p + 3 || (*end && *end != ',') || arch < 10 || arch > 9999)
      return SD_ERR(USAGE, "'%s' is no list of architectures such as sm_80,sm_90", text);
    SD_TRY(add_arch(d, (int)arch));
    p = *end ? end + 1 : end;
  } while (*p);
  return NULL;
}

static sard_status *choose_archs(const char *list, sd_cuda_device *d) {
  for (size_t i = 0; !list && i < sizeof usual / sizeof *usual; i++)
    if (knows(d->nvrtc, usual[i])) SD_TRY(add_arch(d, usual[i]));
  for (int i = 0; i < d->n_archs; i++) SD_TRY(sd_nvrtc_check_arch(d->nvrtc, d->archs[i]));
  return d->n_archs
             ? NULL
             : SD_ERR(UNSUPPORTED, "NVRTC knows none of the usual architectures: name one, as in cuda:sm_90");
}

// The newest architecture that NVRTC knows and that is not above the one of the list.
static sard_status *lower(sd_cuda_device *d) {
  int known[64], count = sd_nvrtc_archs(d->nvrtc, known, 64), best = 0, major, minor;
  for (int i = 0; i < count && i < 64; i++)
    if (known[i] <= d->archs[0] && known[i] > best) best = known[i];
  sd_nvrtc_version(d->nvrtc, &major, &minor);
  if (!best) return SD_ERR(DEVICE, "NVRTC %d.%d compiles for no architecture up to sm_%d", major, minor, d->archs[0]);
  d->archs[0] = best;
  return NULL;
}

static void close_device(void *p) { sd_nvrtc_close(((sd_cuda_device *)p)->nvrtc); }

bool sd_cuda_device_named(const char *text) { return text && strncmp(text, "cuda", 4) == 0; }

sard_status *sd_cuda_device_open(sd_arena *a, const char *text, sd_cuda_device **out) {
  *out = NULL;
  if (!text || strcmp(text, "cpu") == 0) return NULL;
  const char *list = strncmp(text, "cuda:", 5) == 0 ? text + 5 : NULL;
  if (!list && strcmp(text, "cuda") != 0)
    return SD_ERR(USAGE, "there is no device '%s' (known: cpu, cuda, cuda:sm_NN,...)", text);
  sd_cuda_device *d = SD_NEW(a, sd_cuda_device);
  const char *upto = list && strncmp(list, "upto_", 5) == 0 ? list + 5 : NULL;
  if (list) SD_TRY(read_archs(upto ? upto : list, d)); // before NVRTC is looked for: a wrong text is wrong everywhere
  sd_arena_defer(a, close_device, d);
  SD_TRY(sd_nvrtc_open(&d->nvrtc));
  if (upto) SD_TRY(lower(d));
  SD_TRY(choose_archs(list, d));
  *out = d;
  return NULL;
}

// ---- programs ----

static const char *program_of(const char *const *texts, uint32_t first, uint32_t end, sd_arena *a) {
  sd_str s = {0};
  sd_str_put(&s, sd_cuda_prelude);
  for (uint32_t i = first; i < end; i++)
    sd_strf(&s,
            "#define " SD_CUDA_SYMBOL " c%u\n#define " SD_CUDA_SYMBOL
            "_args c%u_args\n%s#undef " SD_CUDA_SYMBOL "\n#undef " SD_CUDA_SYMBOL "_args\n",
            i, i, texts[i]);
  return sd_arena_keep(a, sd_str_take(&s));
}

// Threads that take programs from a list. Each result has an arena of its own, which ends with the caller's.
typedef struct crew {
  const sd_cuda_device *d;
  const char *const *texts;
  uint32_t n, n_jobs;
  sd_cubin *cubins;
  sd_arena **arenas;
  sard_status **errors;
  atomic_uint next;
  atomic_bool failed;
} crew;

static sard_status *compile_job(crew *c, uint32_t job) {
  uint32_t part = job / (uint32_t)c->d->n_archs, arch = job % (uint32_t)c->d->n_archs, first = part * SD_CUDA_PART;
  uint32_t end = first + SD_CUDA_PART < c->n ? first + SD_CUDA_PART : c->n;
  sd_arena *volatile a = c->arenas[job] = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return SD_ERR(NOMEM, "out of memory while compiling for GPUs");
  sd_arena_set_oom(a, &oom);
  sard_status *st = sd_nvrtc_compile(c->d->nvrtc, program_of(c->texts, first, end, a), "the model's kernels", c->d->archs[arch], a, &c->cubins[job]);
  sd_arena_set_oom(a, NULL);
  return st;
}

static void *crew_main(void *arg) {
  crew *c = arg;
  for (;;) {
    uint32_t i = atomic_fetch_add(&c->next, 1);
    if (i >= c->n_jobs || atomic_load(&c->failed)) return NULL;
    c->errors[i] = compile_job(c, i);
    if (c->errors[i]) atomic_store(&c->failed, true);
  }
}

// The calling thread is one of them; fewer than asked for are enough.
static void run_crew(crew *c, int threads) {
  pthread_t ids[SD_CUDA_THREADS];
  int n = 0;
  while (n < threads - 1 && n < SD_CUDA_THREADS && n + 1 < (int)c->n_jobs && pthread_create(&ids[n], NULL, crew_main, c) == 0) n++;
  crew_main(c);
  for (int i = 0; i < n; i++) pthread_join(ids[i], NULL);
}

static void drop_arenas(void *p) {
  crew *c = p;
  for (uint32_t i = 0; i < c->n_jobs; i++) sd_arena_free(c->arenas[i]);
}

sard_status *sd_cuda_compile(const sd_cuda_device *d, const char *const *texts, uint32_t n, int threads, sd_arena *a,
                             sd_cubin *cubins) {
  crew *c = SD_NEW(a, crew);
  sard_status *st = NULL;
  c->d = d, c->texts = texts, c->n = n, c->n_jobs = sd_cuda_parts(n) * (uint32_t)d->n_archs, c->cubins = cubins;
  c->arenas = SD_NEW_ARRAY(a, sd_arena *, c->n_jobs + 1);
  c->errors = SD_NEW_ARRAY(a, sard_status *, c->n_jobs + 1);
  sd_arena_defer(a, drop_arenas, c);
  run_crew(c, threads);
  for (uint32_t i = 0; i < c->n_jobs; i++) {
    if (!st) st = c->errors[i]; // the first in the order of the kernels
    else sard_status_free(c->errors[i]);
  }
  return st;
}
