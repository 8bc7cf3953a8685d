#include "runtime/cuda/nccl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"
#include "runtime/cuda/entries.h"

static const sd_cu_entry entries[] = {
#define SD_NCCL(field, name, result, arguments) {name, offsetof(sd_nccl_api, field)},
#include "runtime/cuda/nccl.def"
#undef SD_NCCL
};

static bool find_entries(void *library, sd_nccl_api *api, char why[SD_NCCL_WHY]) {
  return sd_cu_entries_find(library, entries, sizeof entries / sizeof *entries, "NCCL", api, why, SD_NCCL_WHY);
}

static bool is_new_enough(sd_nccl_api *api, char why[SD_NCCL_WHY]) {
  if (api->get_version(&api->version) != 0) return snprintf(why, SD_NCCL_WHY, "NCCL does not tell its version"), false;
  if (api->version >= SD_NCCL_LEAST) return true;
  snprintf(why, SD_NCCL_WHY, "NCCL is version %d, at least %d (2.14) is needed", api->version, SD_NCCL_LEAST);
  return false;
}

static bool load(sd_nccl_api *api, char why[SD_NCCL_WHY]) {
  const char *named = getenv("SARD_NCCL"), *path = named && *named ? named : "libnccl.so.2";
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *text = dlerror();
    snprintf(why, SD_NCCL_WHY, "NCCL was not found: %s", text ? text : path);
    return false;
  }
  if (find_entries(library, api, why) && is_new_enough(api, why)) return true;
  dlclose(library);
  return false;
}

const sd_nccl_api *sd_nccl_open(char why[SD_NCCL_WHY]) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static sd_nccl_api api;
  static bool loaded;
  *why = 0;
  pthread_mutex_lock(&lock);
  bool there = loaded = loaded || load(&api, why);
  pthread_mutex_unlock(&lock);
  return there ? &api : NULL;
}

int sd_nccl_type(sd_dtype t) {
  static const int types[][2] = {{SD_I8, 0},  {SD_U8, 1},  {SD_I32, 2}, {SD_U32, 3}, {SD_I64, 4},
                                 {SD_U64, 5}, {SD_F16, 6}, {SD_F32, 7}, {SD_F64, 8}, {SD_BF16, 9}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i][0] == (int)t) return types[i][1];
  return -1;
}

sard_status *sd_nccl_check(const sd_nccl_api *api, int code, const char *call) {
  if (code == 0 || code == SD_NCCL_IN_PROGRESS) return NULL;
  const char *text = api->error_text(code);
  return SD_ERR(DEVICE, "%s: %s (%d)", call, text ? text : "no description", code);
}
