// libnvrtc by dlopen. Its prototypes are written down here: no header of CUDA is needed to build.
#include "codegen/cuda/nvrtc.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/alloc.h"

#define MAX_ARCHS 64

typedef struct nvrtc_program nvrtc_program;
typedef struct entries {
  int (*version)(int *major, int *minor);
  int (*n_archs)(int *n);
  int (*archs)(int *archs);
  int (*create)(nvrtc_program **p, const char *source, const char *name, int n_headers,
                const char *const *headers, const char *const *names);
  int (*destroy)(nvrtc_program **p);
  int (*compile)(nvrtc_program *p, int n, const char *const *options);
  int (*log_size)(nvrtc_program *p, size_t *n);
  int (*log)(nvrtc_program *p, char *to);
  int (*cubin_size)(nvrtc_program *p, size_t *n);
  int (*cubin)(nvrtc_program *p, char *to);
  int (*ptx_size)(nvrtc_program *p, size_t *n);
  int (*ptx)(nvrtc_program *p, char *to);
  const char *(*error)(int code);
} entries;

static const struct {
  const char *name;
  size_t at;
} symbols[] = {
    {"nvrtcVersion", offsetof(entries, version)},
    {"nvrtcGetNumSupportedArchs", offsetof(entries, n_archs)},
    {"nvrtcGetSupportedArchs", offsetof(entries, archs)},
    {"nvrtcCreateProgram", offsetof(entries, create)},
    {"nvrtcDestroyProgram", offsetof(entries, destroy)},
    {"nvrtcCompileProgram", offsetof(entries, compile)},
    {"nvrtcGetProgramLogSize", offsetof(entries, log_size)},
    {"nvrtcGetProgramLog", offsetof(entries, log)},
    {"nvrtcGetCUBINSize", offsetof(entries, cubin_size)},
    {"nvrtcGetCUBIN", offsetof(entries, cubin)},
    {"nvrtcGetPTXSize", offsetof(entries, ptx_size)},
    {"nvrtcGetPTX", offsetof(entries, ptx)},
    {"nvrtcGetErrorString", offsetof(entries, error)},
};

struct sd_nvrtc {
  void *library;
  char path[1024];
  entries f;
  int major, minor, n_archs, archs[MAX_ARCHS];
};

// ---- finding it ----
__attribute__((format(printf, 3, 4))) static void note(sd_str *tried, const char *path, const char *fmt, ...) {
  va_list ap;
  sd_strf(tried, "%s%s: ", tried->len ? "; " : "", path);
  va_start(ap, fmt);
  sd_str_vf(tried, fmt, ap);
  va_end(ap);
}

static bool find_symbols(sd_nvrtc *n, sd_str *tried) {
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    void *p = dlsym(n->library, symbols[i].name);
    if (!p) {
      note(tried, n->path, "has no %s", symbols[i].name);
      return false;
    }
    memcpy((char *)&n->f + symbols[i].at, &p, sizeof p);
  }
  return true;
}

static bool check_version(sd_nvrtc *n, sd_str *tried) {
  int count = 0;
  bool works = n->f.version(&n->major, &n->minor) == 0 && n->f.n_archs(&count) == 0 && count > 0 &&
               count <= MAX_ARCHS && n->f.archs(n->archs) == 0;
  if (!works) {
    note(tried, n->path, "does not tell its version and architectures");
    return false;
  }
  n->n_archs = count;
  if (n->major >= SD_NVRTC_OLDEST) return true;
  note(tried, n->path, "is version %d.%d, at least %d is needed", n->major, n->minor, SD_NVRTC_OLDEST);
  return false;
}

static bool try_path(sd_nvrtc *n, const char *path, sd_str *tried) {
  snprintf(n->path, sizeof n->path, "%s", path);
  n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!n->library) {
    const char *why = dlerror();
    note(tried, path, "%s", why && strstr(why, "No such file") ? "not there" : why ? why : "cannot be loaded");
    return false;
  }
  if (find_symbols(n, tried) && check_version(n, tried)) return true;
  dlclose(n->library);
  n->library = NULL;
  return false;
}

static bool search(sd_nvrtc *n, sd_str *tried) {
  static const char *const places[] = {"libnvrtc.so.13", "libnvrtc.so.12",
                                       "/usr/local/cuda/lib64/libnvrtc.so.13",
                                       "/usr/local/cuda/lib64/libnvrtc.so.12", "libnvrtc.so"};
  const char *named = getenv("SARD_NVRTC");
  if (named && *named) return try_path(n, named, tried);
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    if (try_path(n, places[i], tried)) return true;
  return false;
}

sard_status *sd_nvrtc_open(sd_nvrtc **out) {
  sd_nvrtc *n = sd_calloc(1, sizeof *n);
  sd_str tried = {0};
  *out = NULL;
  if (!n) return SD_ERR(NOMEM, "out of memory for NVRTC");
  if (search(n, &tried)) {
    sd_str_free(&tried);
    *out = n;
    return NULL;
  }
  sard_status *st =
      sd_status_field(SD_ERR(DEVICE, "CUDA's compiler (NVRTC, version %d or later) was not found (%s)",
                             SD_NVRTC_OLDEST, tried.p ? tried.p : ""),
                      SARD_TEXT_HINT, "set SARD_NVRTC to the path of libnvrtc.so");
  sd_str_free(&tried);
  sd_free(n);
  return st;
}

void sd_nvrtc_close(sd_nvrtc *n) {
  if (!n) return;
  dlclose(n->library);
  sd_free(n);
}

void sd_nvrtc_version(const sd_nvrtc *n, int *major, int *minor) { *major = n->major, *minor = n->minor; }
const char *sd_nvrtc_path(const sd_nvrtc *n) { return n->path; }

// Versions tell no patches: the file tells them.
void sd_nvrtc_basis(const sd_nvrtc *n, sd_str *s) {
  union {
    int (*entry)(int *, int *);
    void *p;
  } in = {n->f.version};
  Dl_info library;
  struct stat f;
  const char *path = dladdr(in.p, &library) ? library.dli_fname : n->path;
  sd_strf(s, "nvrtc %d.%d %s", n->major, n->minor, path);
  if (stat(path, &f) == 0) sd_strf(s, " %lld %lld.%09ld", (long long)f.st_size, (long long)f.st_mtim.tv_sec, f.st_mtim.tv_nsec);
  sd_str_put(s, "\n");
}

int sd_nvrtc_archs(const sd_nvrtc *n, int *out, int room) {
  for (int i = 0; i < n->n_archs && i < room; i++) out[i] = n->archs[i];
  return n->n_archs;
}

// ---- compiling ----
sard_status *sd_nvrtc_check_arch(const sd_nvrtc *n, int arch) {
  sd_str known = {0};
  for (int i = 0; i < n->n_archs; i++)
    if (n->archs[i] == arch) return sd_str_free(&known), NULL;
    else
      sd_strf(&known, "%ssm_%d", i ? ", " : "", n->archs[i]);
  sard_status *st = SD_ERR(UNSUPPORTED, "NVRTC %d.%d does not compile for sm_%d (it knows %s)", n->major,
                           n->minor, arch, known.p ? known.p : "none");
  sd_str_free(&known);
  return st;
}

// What `size` and `get` give, with a NUL behind it; NULL when they fail.
static char *fetch(nvrtc_program *p, int (*size)(nvrtc_program *, size_t *),
                   int (*get)(nvrtc_program *, char *), sd_arena *a, size_t *out_n) {
  size_t n = 0;
  if (size(p, &n) != 0) return NULL;
  char *to = sd_arena_aligned(a, n + 1, 64);
  if (n && get(p, to) != 0) return NULL;
  to[n] = 0;
  *out_n = n;
  return to;
}

// The log may be long; the first error is what helps.
static const char *first_error(const char *log) {
  const char *e = log ? strstr(log, "error") : NULL;
  while (e && e > log && e[-1] != '\n') e--;
  return e ? e : log ? log : "";
}

static sard_status *take_results(const sd_nvrtc *n, nvrtc_program *p, int rc, const char *name, int arch,
                                 sd_arena *a, sd_cubin *out) {
  size_t bytes = 0, ignored;
  out->log = fetch(p, n->f.log_size, n->f.log, a, &ignored);
  if (rc != 0)
    return SD_ERR(INTERNAL, "the code of %s does not compile for sm_%d: %s: %.600s", name, arch,
                  n->f.error(rc), first_error(out->log));
  out->data = fetch(p, n->f.cubin_size, n->f.cubin, a, &bytes);
  out->bytes = bytes;
  out->ptx = fetch(p, n->f.ptx_size, n->f.ptx, a, &ignored);
  if (!out->log || !out->data || !bytes || !out->ptx)
    return SD_ERR(INTERNAL, "NVRTC gives no code of %s for sm_%d", name, arch);
  return NULL;
}

static void drop_program(void *p) { // also when memory was short in between
  struct {
    const sd_nvrtc *n;
    nvrtc_program *p;
  } *held = p;
  if (held->p) held->n->f.destroy(&held->p);
  held->p = NULL;
}

sard_status *sd_nvrtc_compile(const sd_nvrtc *n, const char *source, const char *name, int arch, bool only,
                              sd_arena *a, sd_cubin *out) {
  struct {
    const sd_nvrtc *n;
    nvrtc_program *p;
  } *held = sd_arena_alloc(a, sizeof *held);
  // Sums are fused where the text says so, as on processors; a cache of NVRTC's own would be a second one.
  const char *options[] = {sd_arena_printf(a, "-arch=sm_%d%s", arch, only ? "a" : ""), "-std=c++17", "-fmad=false",
                           "--ptxas-options=-v", "--no-cache"};
  int n_options = n->major > 12 || (n->major == 12 && n->minor >= 9) ? 5 : 4;
  *out = (sd_cubin){0};
  SD_TRY(sd_nvrtc_check_arch(n, arch));
  held->n = n, held->p = NULL;
  sd_arena_defer(a, drop_program, held);
  if (n->f.create(&held->p, source, name, 0, NULL, NULL) != 0)
    return SD_ERR(NOMEM, "NVRTC cannot hold program %s", name);
  int rc = n->f.compile(held->p, n_options, options);
  sard_status *st = take_results(n, held->p, rc, name, arch, a, out);
  drop_program(held);
  return st;
}
