// CUDA C of graph nodes: lowered, simplified, printed.
#include "codegen/cuda/cuda.h"

#include "cuda_prelude.h" // made of prelude.cuh by the build

sard_status *sd_cuda_node_source(sd_arena *a, sd_module *m, const sd_node *n, const char *symbol,
                                 const sd_cuda_options *o, sd_kernel **out_kernel, sd_cuda_source *out) {
  sd_kernel *k;
  SD_TRY(sd_lower_node(a, m, n, &k));
  k->name = symbol;
  sd_kernel_simplify(k);
  if (out_kernel) *out_kernel = k;
  return sd_node_error(n, sd_emit_cuda(k, symbol, o, a, out));
}
