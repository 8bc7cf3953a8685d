// Schedules by heuristics: vector axis, register tile, loop order, grid, and the packing of constant operands.
#pragma once
#include "codegen/codegen.h"

#define SD_PACK_DIMS (SD_MAX_AXES + 4)

// A constant operand re-laid for contiguous vector loads: destination element [i0][i1]...[in-1] (row-major over
// `extent`) is source element base + sum ((i+turn) % extent)*stride, or 0 where the split axis (i[outer]*factor + i[n-1]) reaches `limit`.
typedef struct sd_pack {
  sd_buf *buf;       // the kernel's parameter, whose count becomes that of the packed form
  uint32_t n;
  int64_t extent[SD_PACK_DIMS], stride[SD_PACK_DIMS], turn[SD_PACK_DIMS]; // turn: of dims before `outer` only
  int64_t base;
  uint32_t outer;    // position of the outer part of the split axis
  int64_t factor, limit;
  // 4 (of 8 bits), 2 (of 16), 8 and 16 (of 4 and 2 bits): the last axis holds steps of the sum that stand side by side for each lane: then the lanes are axis n-2, and steps
  // (i[n-3]*side + i[n-1]) from `steps` on are 0. 1: none do.
  int64_t side, steps;
  bool sliced;   // elements of a word have the order of sd_words_slice (words.h)
  uint32_t part; // f32 becomes bf16, three each or one (triple.h): the axis of these, which moves nothing in the source; 0: there is none
} sd_pack;
typedef SD_VEC(sd_pack) sd_packs;

// Chooses schedules for all nests of `k` for that ISA; appends the packings it relies on (packs NULL: none are allowed).
// `tuned`: what was measured for it, NULL: nothing.
struct sd_tuned;
sard_status *sd_choose(sd_kernel *k, const sd_isa *isa, int opt, sd_arena *a, sd_packs *packs, const struct sd_tuned *tuned);
