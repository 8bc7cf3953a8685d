// The facts of each kind of machine.
#include "passes/target.h"

#include <stddef.h>
#include <string.h>

const sd_sparse_rates *sd_sparse_rates_of(const char *isa) {
  static const sd_sparse_rates rates[] = {
#define SD_SPARSE_RATES(...) {__VA_ARGS__},
#include "passes/sparse_rates.def"
#undef SD_SPARSE_RATES
  };
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
    if (strcmp(rates[i].isa, isa) == 0) return &rates[i];
  return NULL;
}

sd_pass_target sd_pass_target_cpu(void) {
  return (sd_pass_target){
      .channels_last = true, .padded_copies = true, .winograd = true, .panels = true, .byte_products = true, .row_ranges = true, .wide_rows = 16, .apart_rows = true};
}

// Shared memory is filled from any layout at the same cost, if what a sum runs over lies side by side. Memory
// traffic and launches cost more than conditions, and matrix units more than make up for what Winograd saves.
sd_pass_target sd_pass_target_cuda(void) {
  return (sd_pass_target){.channels_last = true,
                          .model_turns = true,
                          .output_rows = true,
                          .channel_vector = 4,
                          .epilogues = true,
                          .strided_reads = true,
                          .joint_sizes = true,
                          .joint_products = true,
                          .byte_products = true,
                          .tiles = 512};
}
