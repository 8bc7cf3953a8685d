#include "runtime/cuda/cublaslt.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/entries.h"

static const sd_cu_entry entries[] = {
#define SD_LT(field, name, arguments) {name, offsetof(sd_lt_api, field)},
#include "runtime/cuda/cublaslt.def"
#undef SD_LT
};

static bool find_entries(void *library, sd_lt_api *api, char why[SD_LT_WHY]) {
  return sd_cu_entries_find(library, entries, sizeof entries / sizeof *entries, "cuBLASLt", api, why, SD_LT_WHY);
}

static bool is_new_enough(void *library, sd_lt_api *api, char why[SD_LT_WHY]) {
  size_t (*version)(void);
  void *p = dlsym(library, "cublasLtGetVersion");
  if (!p) return snprintf(why, SD_LT_WHY, "cuBLASLt does not tell its version"), false;
  memcpy(&version, &p, sizeof p);
  api->version = version();
  if (api->version >= SD_LT_LEAST) return true;
  snprintf(why, SD_LT_WHY, "cuBLASLt is version %zu, at least %d (12.0) is needed", api->version,
           SD_LT_LEAST);
  return false;
}

static void *open_library(char why[SD_LT_WHY]) {
  static const char *const places[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                       "/usr/local/cuda/lib64/libcublasLt.so.13",
                                       "/usr/local/cuda/lib64/libcublasLt.so.12"};
  const char *named = getenv("SARD_CUBLASLT");
  void *library = NULL;
  if (named && *named) library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
  for (size_t i = 0; !(named && *named) && !library && i < sizeof places / sizeof *places; i++)
    library = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
  const char *text = library ? NULL : dlerror();
  if (!library)
    snprintf(why, SD_LT_WHY, "cuBLASLt was not found: %s",
             text ? text : "libcublasLt.so.13, libcublasLt.so.12");
  return library;
}

static bool load(sd_lt_api *api, char why[SD_LT_WHY]) {
  void *library = open_library(why);
  if (!library) return false;
  if (is_new_enough(library, api, why) && find_entries(library, api, why)) return true;
  dlclose(library);
  return false;
}

const sd_lt_api *sd_lt_open(char why[SD_LT_WHY]) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static sd_lt_api api;
  static bool loaded;
  *why = 0;
  pthread_mutex_lock(&lock);
  bool there = loaded = loaded || load(&api, why);
  pthread_mutex_unlock(&lock);
  return there ? &api : NULL;
}

int sd_lt_type(sd_dtype t) { return t == SD_F32 ? 0 : t == SD_F16 ? 2 : t == SD_BF16 ? 14 : -1; }

sard_status *sd_lt_check(int code, const char *call) {
  static const struct {
    int code;
    const char *text;
  } texts[] = {{1, "it cannot be initialized"}, {3, "out of memory"},   {7, "invalid value"},
               {8, "not for this device"},      {11, "mapping failed"}, {13, "the execution failed"},
               {14, "internal error"},          {15, "not supported"}};
  enum { ALLOC_FAILED = 3 };
  const char *text = "unknown error";
  if (code == 0) return NULL;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i].code == code) text = texts[i].text;
  return code == ALLOC_FAILED ? SD_ERR(NOMEM, "%s: %s (%d)", call, text, code)
                              : SD_ERR(DEVICE, "%s: %s (%d)", call, text, code);
}
