// Kernels and steps in a few words, for profiles and traces.
#pragma once
#include "codegen/codegen.h"

// How the scheduled kernel computes most of its work: "product 8x64, packed, blocks 32" (a register tile of so many
// rows and lanes; the axes are split over the grid in such blocks), "rows 64" (a reduction along vectors), "taps 3x3,
// 7x16" (a window without loops), "map 32" (lanes), "in order"; "by points": each point of some axes is a tile. In the
// arena.
const char *sd_describe_schedule(sd_kernel *k, const sd_isa *isa, bool packed, sd_arena *a);
