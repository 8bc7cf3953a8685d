// The facts of each kind of machine.
#include "passes/target.h"

sd_pass_target sd_pass_target_cpu(void) {
  return (sd_pass_target){
      .channels_last = true, .padded_copies = true, .winograd = true, .panels = true, .byte_products = true, .apart_rows = true};
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
                          .all_attention = true,
                          .joint_sizes = true,
                          .joint_products = true,
                          .byte_products = true,
                          .tiles = 512};
}
