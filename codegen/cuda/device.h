// What a model is compiled for on CUDA devices: architectures, and the compiler that knows them.
#pragma once
#include "codegen/cuda/nvrtc.h"

#define SD_CUDA_ARCHS 16

typedef struct sd_cuda_device {
  sd_nvrtc *nvrtc;                   // closed with the arena
  int n_archs, archs[SD_CUDA_ARCHS]; // ascending
} sd_cuda_device;

// `text` names CUDA devices, well or not.
bool sd_cuda_device_named(const char *text);
// `text`: NULL or "cpu" (*out is NULL), "cuda" (the usual architectures that NVRTC knows), "cuda:sm_80,sm_90", or
// "cuda:upto_sm_103" (the newest one that NVRTC knows and that is not above). Errors: SARD_E_USAGE for another text,
// SARD_E_DEVICE without NVRTC, SARD_E_UNSUPPORTED for an architecture that it does not know.
sard_status *sd_cuda_device_open(sd_arena *a, const char *text, sd_cuda_device **out);

// Compiles kernels as programs of SD_CUDA_PART each, for each architecture, `threads` of them at a time: part p of
// archs[i] is cubins[p * n_archs + i]. The texts call their function and struct sd_kernel and sd_kernel_args
// (SD_CUDA_SYMBOL); kernel i becomes c<i>.
#define SD_CUDA_SYMBOL "sd_kernel"
#define SD_CUDA_PART   6 // few enough that large kernels spread over processors, many enough to pay for the prelude
static inline uint32_t sd_cuda_parts(uint32_t n) { return (n + SD_CUDA_PART - 1) / SD_CUDA_PART; }
sard_status *sd_cuda_compile(const sd_cuda_device *d, const char *const *texts, uint32_t n, int threads, sd_arena *a,
                             sd_cubin *cubins);
