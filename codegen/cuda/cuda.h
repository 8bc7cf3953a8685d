// CUDA C from tile kernels. The text is the same for every GPU; it is compiled by NVRTC, and as C++ by the
// tests.
#pragma once
#include "codegen/choose_cuda.h"
#include "ir/lower.h"

// A kernel as text. Its only parameter is a struct of 64-bit words: pointers of the buffers in the order of
// the kernel's parameters (without LOCAL ones), values of `dims`, then scratch memory (scratch bytes for each
// block, NULL when 0) and a pointer to a 32-bit word that becomes SARD_KE_INDEX when an index is out of
// range.
typedef struct sd_cuda_source {
  const char *text; // one extern "C" __global__ function named `symbol`, to stand behind sd_cuda_prelude
  uint32_t n_bufs, n_dims;
  const sd_dim *dims;
  sd_dim blocks;  // blocks of a launch that fill a large GPU; any other number >= 1 gives the same results
  sd_dim scratch; // bytes for each block, a multiple of 256
  int threads;    // of a block
  int shared;     // bytes of dynamic shared memory of a block
} sd_cuda_source;

// What every program begins with: types, conversions, arithmetic, reductions of a group of threads.
extern const char sd_cuda_prelude[];

// Chooses a schedule (codegen/choose_cuda.h) and prints the kernel; transcendental functions are expanded in
// k. Everything is made in `a`. o NULL: defaults. Errors: no form in CUDA C.
sard_status *sd_emit_cuda(sd_kernel *k, const char *symbol, const sd_cuda_options *o, sd_arena *a, sd_cuda_source *out);

// Lowers the node and emits its kernel, which *out_kernel (NULL: not wanted) then is.
sard_status *sd_cuda_node_source(sd_arena *a, sd_module *m, const sd_node *n, const char *symbol,
                                 const sd_cuda_options *o, sd_kernel **out_kernel, sd_cuda_source *out);
