// CUDA C of graph nodes: lowered, simplified, printed.
#include "codegen/cuda/cuda.h"
#include "codegen/groups.h"
#include "codegen/phases.h"

#include "cuda_prelude.h" // made of prelude.cuh by the build

#define LEAST_GROUP 16 // channels that make a product worth its tiles

static sard_status *split_axes(sd_kernel *k, sd_arena *a) {
  for (uint32_t i = 0; i < k->items.len; i++) {
    sd_nest *n = k->items.at[i].nest;
    if (!n) continue;
    SD_TRY(sd_split_groups(k, n, LEAST_GROUP, a));
    SD_TRY(sd_split_phases(k, n, a));
  }
  return NULL;
}

sard_status *sd_cuda_node_source(sd_arena *a, sd_module *m, const sd_node *n, const char *symbol,
                                 const sd_cuda_options *o, sd_kernel **out_kernel, sd_cuda_source *out) {
  static const sd_lower_tile tile = {.rows = 64, .columns = 64, .grain = 16, .most = 256, .bytes = 33 << 10};
  sd_kernel *k;
  SD_TRY(sd_lower_tiled(a, m, n, &tile, &k));
  k->name = symbol;
  if (!sd_choose_cuda_fragments(k, a)) {
    sd_kernel_simplify(k); // which merges rows and columns
    SD_TRY(split_axes(k, a));
  }
  if (out_kernel) *out_kernel = k;
  return sd_node_error(n, sd_emit_cuda(k, symbol, o, a, out));
}
