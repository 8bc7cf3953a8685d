#include "runtime/cuda/api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"

#define LIBRARY "libcuda.so.1"

typedef struct entry { const char *name; int version; size_t at; } entry;
static const entry entries[] = {
#define SD_CU(field, name, version, arguments) {name, version, offsetof(sd_cu_api, field)},
#include "runtime/cuda/api.def"
#undef SD_CU
};

typedef int (*find_v2_fn)(const char *symbol, void **out, int version, uint64_t flags, int *result);
typedef int (*find_fn)(const char *symbol, void **out, int version, uint64_t flags);

// How entry points are found: by name and version where the driver can, which all since 11.3 do.
typedef struct finder {
  void *library;
  find_v2_fn find_v2;
  find_fn find;
} finder;

static void *symbol(void *library, const char *name) { return dlsym(library, name); }

static void *find_entry(const finder *f, const entry *e, int *why) {
  void *p = NULL;
  *why = 0;
  if (f->find_v2) return f->find_v2(e->name, &p, e->version, 0, why) == 0 ? p : NULL;
  if (f->find) return f->find(e->name, &p, e->version, 0) == 0 ? p : NULL;
  char name[64];
  snprintf(name, sizeof name, "%s_v2", e->name);
  p = symbol(f->library, name);
  return p ? p : symbol(f->library, e->name);
}

static const char *reason(int why) { return why == 2 ? "the driver is too old for it" : "the driver does not know it"; }

static sard_status *find_entries(void *library, sd_cu_api *api) {
  finder f = {.library = library};
  void *v2 = symbol(library, "cuGetProcAddress_v2"), *v1 = symbol(library, "cuGetProcAddress");
  memcpy(&f.find_v2, &v2, sizeof v2), memcpy(&f.find, &v1, sizeof v1);
  for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
    int why;
    void *p = find_entry(&f, &entries[i], &why);
    if (!p)
      return SD_ERR(DEVICE, "%s of CUDA %d.%d: %s", entries[i].name, entries[i].version / 1000, entries[i].version % 1000 / 10,
                    reason(why));
    memcpy((char *)api + entries[i].at, &p, sizeof p);
  }
  return NULL;
}

sard_status *sd_cu_check(const sd_cu_api *api, int code, const char *what) {
  const char *name = NULL, *text = NULL;
  if (code == 0) return NULL;
  if (api->error_name(code, &name) != 0 || !name) name = "unknown error";
  if (api->error_text(code, &text) != 0 || !text) text = "no description";
  return code == SD_CU_OUT_OF_MEMORY ? SD_ERR(NOMEM, "%s: the device is out of memory (%s)", what, name)
                                     : SD_ERR(DEVICE, "%s: %s (%d, %s)", what, text, code, name);
}

static sard_status *initialize(sd_cu_api *api) {
  SD_TRY(sd_cu_check(api, api->init(0), "the CUDA driver does not start"));
  return sd_cu_check(api, api->driver_version(&api->version), "the version of the CUDA driver");
}

static sard_status *load(sd_cu_api *api) {
  const char *named = getenv("SARD_CUDA"), *path = named && *named ? named : LIBRARY;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    return sd_status_field(SD_ERR(DEVICE, "no CUDA driver: %s", why ? why : path), SARD_TEXT_HINT,
                           "install NVIDIA's driver, or set SARD_CUDA to the path of libcuda.so.1; option fallback=cpu allows the processor");
  }
  sard_status *st = find_entries(library, api);
  if (!st) st = initialize(api);
  if (!st) return NULL;
  dlclose(library);
  return sd_status_context(st, "%s", path);
}

sard_status *sd_cu_api_open(const sd_cu_api **out) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static sd_cu_api api;
  static bool loaded;
  pthread_mutex_lock(&lock);
  sard_status *st = loaded ? NULL : load(&api);
  loaded |= !st;
  pthread_mutex_unlock(&lock);
  *out = st ? NULL : &api;
  return st;
}
