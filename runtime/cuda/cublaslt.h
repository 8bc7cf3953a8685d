// cuBLASLt, found by dlopen. Its prototypes are written down in cublaslt.def: no header of it is needed to
// build.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef struct sd_lt_algo {
  uint64_t data[8];
} sd_lt_algo;
// cublasLtMatmulHeuristicResult_t
typedef struct sd_lt_proposal {
  sd_lt_algo algo;
  size_t workspace; // bytes
  int state;        // status: 0 where it can be used
  float waves;
  int reserved[4];
} sd_lt_proposal;

typedef struct sd_lt_api {
#define SD_LT(field, name, arguments) int(*field) arguments;
#include "runtime/cuda/cublaslt.def"
#undef SD_LT
  size_t version; // 130100 is 13.1.0
} sd_lt_api;

enum { // numbers of its headers
  SD_LT_COMPUTE_F32 = 68,
  SD_LT_COMPUTE_TF32 = 77,
  SD_LT_TRANSPOSE_A = 3, // attributes of descriptors; int32_t
  SD_LT_TRANSPOSE_B = 4,
  SD_LT_EPILOGUE = 7,   // uint32_t
  SD_LT_BIAS_STEP = 10, // int64_t
  SD_LT_BIAS_AT = 8,    // pointer
  SD_LT_BIAS_TYPE = 26, // int32_t
  SD_LT_NO_EPILOGUE = 1,
  SD_LT_RELU = 2, // epilogues, which may be joined
  SD_LT_BIAS = 4,
  SD_LT_PRODUCTS = 5,       // attributes of layouts; int32_t
  SD_LT_PRODUCT_STEP = 6,   // int64_t
  SD_LT_WORKSPACE = 1,      // attributes of wishes; uint64_t
  SD_LT_REDUCTION = 3,      // uint32_t: how parts of a sum may be joined
  SD_LT_IN_F32 = 2,         // in the type that is computed in, not in that of the results
  SD_LT_ALIGNMENT_A = 5,    // to 8 for d; uint32_t
  SD_LT_LEAST = 12 * 10000, // version
  SD_LT_WHY = 256,
};

// The library that SARD_CUBLASLT names, else libcublasLt.so.13 or .12 where the loader finds it or below
// /usr/local/cuda; it stays loaded. NULL: it cannot be used, and `why` tells what was looked for and found.
const sd_lt_api *sd_lt_open(char why[SD_LT_WHY]);
int sd_lt_type(sd_dtype t); // cudaDataType; -1: no type of products here
// NULL for 0; else SARD_E_DEVICE, SARD_E_NOMEM for memory, with the name of the call and what the status
// means.
sard_status *sd_lt_check(int code, const char *call);
