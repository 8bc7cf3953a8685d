// Products of matrices by a library instead of a model's own kernels: of the steps that the artifact
// describes as such (sard_art_product) those run by cuBLASLt that it is faster for. What is faster is
// measured on the device when a step first has these sizes, once for all sessions of a program, and stays so
// as long as the program does: runs repeat bit by bit.
#pragma once
#include <pthread.h>

#include "runtime/artifact_read.h"
#include "runtime/base/str.h"
#include "runtime/cuda/cublaslt.h"
#include "runtime/cuda/device.h"

typedef struct sard_session sard_session;
typedef struct sard_model sard_model;

// Option "library".
typedef enum sd_cu_library { SD_CU_LIBRARY_AUTO, SD_CU_LIBRARY_NO, SD_CU_LIBRARY_ALWAYS } sd_cu_library;
sard_status *sd_cu_library_read(const char *text,
                                sd_cu_library *out); // NULL: auto. SARD_E_USAGE for another text
const char *sd_cu_library_name(sd_cu_library mode);

enum { SD_CU_WORKSPACE = 32 << 20 }; // bytes of a session that the library may use

// Without padding: keys are compared as bytes.
typedef struct sd_cu_product_key {
  int64_t m, n, k, batch;
  int64_t step[4], batch_step[5]; // x, y, c, out, bias: elements
  uint64_t workspace;             // bytes
  const void *function;           // the kernel beside it
  uint32_t flags, in, out, has_c, has_bias, align;
  float scale;
  uint32_t pad;
} sd_cu_product_key;

typedef struct sd_cu_product_choice {
  struct sd_cu_product_choice *next;
  sd_cu_product_key key;
  uint32_t step; // that first had it
  bool library;
  sd_lt_algo algo;
  int64_t kernel_ns, library_ns; // of a launch; 0: not measured
  char why[SD_LT_WHY];           // why nothing was measured; "": it was, or needs not be
} sd_cu_product_choice;

typedef struct sd_cu_products {
  sd_cu_library mode;
  const sard_art_product **of; // per step, NULL: none
  uint32_t n, n_steps;         // n: steps that have one
  uint64_t *wide; // per step: address of its bias in f32, where the model has it in another type; 0: as it is
  const sd_lt_api *api; // NULL: it has not been asked for, or `why`
  void *handle;
  bool tried;
  char why[SD_LT_WHY];
  pthread_mutex_t lock; // of all below, and of the library's start
  sd_cu_product_choice *choices;
  uint32_t n_choices;
} sd_cu_products;

sard_status *sd_cu_products_new(const sd_art *a, sd_cu_library mode, sd_cu_products **out);
// Copies of biases in f32 where the products need them; the device is entered.
sard_status *sd_cu_products_widen(sd_cu_products *p, const sard_model *m, const sd_cu_device *device);
void sd_cu_products_free(sd_cu_products *p, const sd_cu_device *device); // NULL ok

// How step i, whose operands are in place, is to be launched: *out is NULL for the kernel. Measures where
// that is still open, unless the stream is captured. An error is the device's, or, where the library is to be
// used always, the library's.
sard_status *sd_cu_product_find(sard_session *s, uint32_t i, const sd_cu_product_choice **out);
// Queues the product of step i.
sard_status *sd_cu_product_launch(sard_session *s, uint32_t i, const sd_cu_product_choice *c);

// Member "library" of a JSON object. The caller sees to it that there are products at all (p->n).
// Sizes that were met so far, and those of them that the library multiplies.
void sd_cu_products_count(sd_cu_products *p, uint32_t *sizes, uint32_t *by_library);
void sd_cu_products_put(sd_str *s, sd_cu_products *p);
