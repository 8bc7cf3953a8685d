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

// For each architecture of the list the newest one that NVRTC knows and that is not above.
static sard_status *lower(sd_cuda_device *d) {
  int known[64], count = sd_nvrtc_archs(d->nvrtc, known, 64), major, minor;
  sd_cuda_device all = *d;
  sd_nvrtc_version(d->nvrtc, &major, &minor);
  d->n_archs = 0;
  for (int k = 0; k < all.n_archs; k++) {
    int best = 0;
    for (int i = 0; i < count && i < 64; i++)
      if (known[i] <= all.archs[k] && known[i] > best) best = known[i];
    if (!best)
      return SD_ERR(DEVICE, "NVRTC %d.%d compiles for no architecture up to sm_%d", major, minor, all.archs[k]);
    SD_TRY(add_arch(d, best));
  }
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
  d->here = upto && d->n_archs == 1;
  if (upto) SD_TRY(lower(d));
  SD_TRY(choose_archs(list, d));
  *out = d;
  return NULL;
}

static sard_status *put_basis(sd_arena *a, const char *text, sd_str *s) {
  sd_cuda_device *d;
  SD_TRY(sd_cuda_device_open(a, text, &d));
  if (!d) return NULL;
  sd_nvrtc_basis(d->nvrtc, s);
  sd_strf(s, "here %d", d->here);
  for (int i = 0; i < d->n_archs; i++) sd_strf(s, " sm_%d", d->archs[i]);
  sd_str_put(s, "\n");
  return NULL;
}

sard_status *sd_cuda_device_basis(const char *text, sd_str *s) {
  sd_arena *volatile a = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return sd_arena_free(a), SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(a, &oom);
  sard_status *st = put_basis(a, text, s);
  sd_arena_free(a);
  return st;
}

// ---- programs ----

int sd_cuda_builds(const sd_cuda_device *d, sd_cuda_build *out) {
  int n = 0;
  for (int i = 0; i < d->n_archs; i++) {
    bool only = d->archs[i] == SD_CUDA_ONLY;
    out[n++] = (sd_cuda_build){d->archs[i], only, true, i == 0 && !only};
  }
  if (out[0].only && !d->here) out[n++] = (sd_cuda_build){SD_CUDA_ONLY, false, false, true};
  return n;
}

bool sd_cuda_device_has_only(const sd_cuda_device *d) {
  for (int i = 0; i < d->n_archs; i++)
    if (d->archs[i] == SD_CUDA_ONLY) return true;
  return false;
}

static bool wanted(const sd_cuda_text *t, const sd_cuda_build *b) { return b->only ? t->only : t->common; }

// NULL: the build wants none of them.
static const char *program_of(const sd_cuda_text *texts, uint32_t first, uint32_t end, const sd_cuda_build *b, sd_arena *a) {
  sd_str s = {0};
  uint32_t n = 0;
  sd_str_put(&s, sd_cuda_prelude);
  for (uint32_t i = first; i < end; i++) {
    if (!wanted(&texts[i], b)) continue;
    n++;
    sd_strf(&s,
            "#define " SD_CUDA_SYMBOL " c%u\n#define " SD_CUDA_SYMBOL
            "_args c%u_args\n%s#undef " SD_CUDA_SYMBOL "\n#undef " SD_CUDA_SYMBOL "_args\n",
            i, i, texts[i].text);
  }
  const char *all = sd_arena_keep(a, sd_str_take(&s));
  return n ? all : NULL;
}

// The programs of all parts and builds. Each result has an arena of its own, which ends with the caller's.
typedef struct programs {
  const sd_cuda_device *d;
  const sd_cuda_build *builds;
  const sd_cuda_text *texts;
  uint32_t n, n_builds, n_jobs;
  sd_cubin *cubins;
  sd_arena **arenas;
} programs;

static sard_status *compile_job(void *user, uint32_t job) {
  const programs *p = user;
  uint32_t part = job / p->n_builds, first = part * SD_CUDA_PART;
  const sd_cuda_build *b = &p->builds[job % p->n_builds];
  uint32_t end = first + SD_CUDA_PART < p->n ? first + SD_CUDA_PART : p->n;
  sd_arena *volatile a = p->arenas[job] = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return SD_ERR(NOMEM, "out of memory while compiling for GPUs");
  sd_arena_set_oom(a, &oom);
  const char *text = program_of(p->texts, first, end, b, a);
  sard_status *st = text ? sd_nvrtc_compile(p->d->nvrtc, text, "the model's kernels", b->arch, b->only, a, &p->cubins[job]) : NULL;
  sd_arena_set_oom(a, NULL);
  return st;
}

static void drop_arenas(void *user) {
  programs *p = user;
  for (uint32_t i = 0; i < p->n_jobs; i++) sd_arena_free(p->arenas[i]);
}

sard_status *sd_cuda_compile(const sd_cuda_device *d, const sd_cuda_text *texts, uint32_t n, int threads, sd_arena *a,
                             sd_cubin *cubins) {
  programs *p = SD_NEW(a, programs);
  sd_cuda_build *builds = SD_NEW_ARRAY(a, sd_cuda_build, SD_CUDA_BUILDS);
  uint32_t n_builds = (uint32_t)sd_cuda_builds(d, builds), jobs = sd_cuda_parts(n) * n_builds;
  sard_status **errors = SD_NEW_ARRAY(a, sard_status *, jobs + 1);
  *p = (programs){d, builds, texts, n, n_builds, jobs, cubins, SD_NEW_ARRAY(a, sd_arena *, jobs + 1)};
  sd_arena_defer(a, drop_arenas, p);
  return sd_crew_run(jobs, threads < MOST_THREADS ? threads : MOST_THREADS, 0, compile_job, p, errors, NULL);
}
