// The CUDA driver, found by dlopen. Its prototypes are written down in api.def: no header of CUDA is needed to build, and
// the same program runs where there is no driver.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/cuda/rows.h"

typedef struct sd_cu_api {
#define SD_CU(field, name, version, arguments) int(*field) arguments;
#include "runtime/cuda/api.def"
#undef SD_CU
  int version; // of the driver, as 1000 * major + 10 * minor
} sd_cu_api;

// Results of the driver that are told apart; the numbers are those of cuda.h.
enum {
  SD_CU_OUT_OF_MEMORY = 2,
  SD_CU_NO_BINARY = 209,
  SD_CU_BAD_PTX = 218,
  SD_CU_OLD_PTX = 222,
  SD_CU_NOT_READY = 600,
  SD_CU_PEER_ALREADY = 704
};

// The driver of this process: the library that SARD_CUDA names, else libcuda.so.1, initialized. It stays loaded. May be
// called by several threads. SARD_E_DEVICE tells what was looked for and found.
sard_status *sd_cu_api_open(const sd_cu_api **out);

// NULL for 0, else SARD_E_DEVICE (SARD_E_NOMEM when memory is short) with the driver's words for the code. `what`: the
// attempted action, "copying to the device".
sard_status *sd_cu_check(const sd_cu_api *api, int code, const char *what);
