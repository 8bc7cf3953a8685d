// Names of devices, and a model's kernels as one program.
#include "codegen/cuda/device.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/crew.h"
#include "codegen/cuda/cuda.h"
#include "runtime/base/str.h"

#define MOST_THREADS 16 // each takes some hundred megabytes in NVRTC

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

// The programs of all parts and architectures. Each result has an arena of its own, which ends with the caller's.
typedef struct programs {
  const sd_cuda_device *d;
  const char *const *texts;
  uint32_t n, n_jobs;
  sd_cubin *cubins;
  sd_arena **arenas;
} programs;

static sard_status *compile_job(void *user, uint32_t job) {
  const programs *p = user;
  uint32_t part = job / (uint32_t)p->d->n_archs, arch = job % (uint32_t)p->d->n_archs, first = part * SD_CUDA_PART;
  uint32_t end = first + SD_CUDA_PART < p->n ? first + SD_CUDA_PART : p->n;
  sd_arena *volatile a = p->arenas[job] = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return SD_ERR(NOMEM, "out of memory while compiling for GPUs");
  sd_arena_set_oom(a, &oom);
  sard_status *st = sd_nvrtc_compile(p->d->nvrtc, program_of(p->texts, first, end, a), "the model's kernels", p->d->archs[arch], a, &p->cubins[job]);
  sd_arena_set_oom(a, NULL);
  return st;
}

static void drop_arenas(void *user) {
  programs *p = user;
  for (uint32_t i = 0; i < p->n_jobs; i++) sd_arena_free(p->arenas[i]);
}

sard_status *sd_cuda_compile(const sd_cuda_device *d, const char *const *texts, uint32_t n, int threads, sd_arena *a,
                             sd_cubin *cubins) {
  programs *p = SD_NEW(a, programs);
  uint32_t jobs = sd_cuda_parts(n) * (uint32_t)d->n_archs;
  sard_status **errors = SD_NEW_ARRAY(a, sard_status *, jobs + 1);
  *p = (programs){d, texts, n, jobs, cubins, SD_NEW_ARRAY(a, sd_arena *, jobs + 1)};
  sd_arena_defer(a, drop_arenas, p);
  return sd_crew_run(jobs, threads < MOST_THREADS ? threads : MOST_THREADS, 0, compile_job, p, errors, NULL);
}
