// NCCL, found by dlopen. Its prototypes are written down in nccl.def: no header of it is needed to build.
#pragma once
#include <stddef.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef struct sd_nccl_id {
  char bytes[128];
} sd_nccl_id;
// As of 2.14; newer libraries take what is missing as not given.
typedef struct sd_nccl_config {
  size_t size;
  unsigned magic, version;
  int blocking;
} sd_nccl_config;

typedef struct sd_nccl_api {
#define SD_NCCL(field, name, result, arguments) result(*field) arguments;
#include "runtime/cuda/nccl.def"
#undef SD_NCCL
  int version; // 22809 is 2.28.9
} sd_nccl_api;

enum { SD_NCCL_IN_PROGRESS = 7, SD_NCCL_SUM = 0, SD_NCCL_LEAST = 21400, SD_NCCL_WHY = 256 };
#define SD_NCCL_CONFIG ((sd_nccl_config){sizeof(sd_nccl_config), 0xcafebeefu, SD_NCCL_LEAST, 0})

// The library that SARD_NCCL names, else libnccl.so.2; it stays loaded. NULL: it cannot be used, and `why` tells what
// was looked for and found.
const sd_nccl_api *sd_nccl_open(char why[SD_NCCL_WHY]);
int sd_nccl_type(sd_dtype t); // -1: NCCL does not sum it
// NULL for 0 and for what is still in progress; else SARD_E_DEVICE with the name of the call and NCCL's words.
sard_status *sd_nccl_check(const sd_nccl_api *api, int code, const char *call);
