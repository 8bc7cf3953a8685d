// What a model is compiled for on CUDA devices: architectures, and the compiler that knows them.
#pragma once
#include "codegen/cuda/nvrtc.h"

#define SD_CUDA_ARCHS 16

typedef struct sd_cuda_device {
  sd_nvrtc *nvrtc;                   // closed with the arena
  int n_archs, archs[SD_CUDA_ARCHS]; // ascending
  bool here;                         // the only one that the caller has: no other one will run the code
} sd_cuda_device;

// What a program is compiled for. sm_90 is compiled as sm_90a, whose code runs on 9.0 alone, which is all that sm_90 is: it has
// products by four warps. Only its PTX, where later GPUs shall compile it, is that of sm_90.
#define SD_CUDA_ONLY   90
#define SD_CUDA_BUILDS (SD_CUDA_ARCHS + 1)
typedef struct sd_cuda_build {
  int arch;
  bool only;       // sm_90a
  bool cubin, ptx; // what is wanted of it
} sd_cuda_build;
// Into `out`, which has room for SD_CUDA_BUILDS; returns their number.
int sd_cuda_builds(const sd_cuda_device *d, sd_cuda_build *out);
bool sd_cuda_device_has_only(const sd_cuda_device *d); // one of them is sm_90a

// `text` names CUDA devices, well or not.
bool sd_cuda_device_named(const char *text);
// `text`: NULL or "cpu" (*out is NULL), "cuda" (the usual architectures that NVRTC knows), "cuda:sm_80,sm_90", or
// "cuda:upto_sm_103,sm_90" (for each the newest one that NVRTC knows and that is not above). Errors: SARD_E_USAGE for
// another text, SARD_E_DEVICE without NVRTC, SARD_E_UNSUPPORTED for an architecture that it does not know.
sard_status *sd_cuda_device_open(sd_arena *a, const char *text, sd_cuda_device **out);

// Adds to s what the code for the devices of `text` depends on beside the model: architectures and NVRTC. Errors as above.
sard_status *sd_cuda_device_basis(const char *text, sd_str *s);

// A kernel as text, which calls its function and struct sd_kernel and sd_kernel_args (SD_CUDA_SYMBOL).
typedef struct sd_cuda_text {
  const char *text;
  bool common, only; // wanted in code for any architecture; in that for sm_90a
} sd_cuda_text;
// Compiles kernels as programs of SD_CUDA_PART each, for each of the device's builds, `threads` of them at a time: part p of
// build i is cubins[p * builds + i], without data where the build wants none of its kernels. Kernel i becomes c<i>.
#define SD_CUDA_SYMBOL "sd_kernel"
#define SD_CUDA_PART   6 // few enough that large kernels spread over processors, many enough to pay for the prelude
static inline uint32_t sd_cuda_parts(uint32_t n) { return (n + SD_CUDA_PART - 1) / SD_CUDA_PART; }
sard_status *sd_cuda_compile(const sd_cuda_device *d, const sd_cuda_text *texts, uint32_t n, int threads, sd_arena *a,
                             sd_cubin *cubins);
