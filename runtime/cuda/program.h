// A model's CUDA code on one device: functions of its launches, and the weights that they read.
#pragma once
#include "runtime/cuda/products.h"
#include "runtime/model.h"

typedef struct sd_cu_program {
  const sd_cu_device *device;
  uint32_t arch;                // of the cubins; 0: PTX
  void **modules;               // per part of the artifact's images; NULL: no launch is in it
  uint32_t n_modules;
  const sard_art_cuda **launch; // per step: the first one; NULL: it runs on the host
  void **function;              // per launch of the artifact
  uint64_t weights, weight_bytes;
  sd_cu_products *products;
  uint64_t *consts;             // per buffer: address of a constant that launches read, else 0
} sd_cu_program;

// Loads the image that fits the device and copies the weights there. Errors: SARD_E_DEVICE where no image fits, naming those
// that the artifact has; SARD_E_NOMEM. The program belongs to the model and uses its tables.
sard_status *sd_cu_program_new(const sard_model *m, const sd_cu_device *device, sd_cu_program **out);
void sd_cu_program_free(sd_cu_program *p); // NULL ok
