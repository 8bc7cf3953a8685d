// A step of schedules: products of f32 whose sums are long.
//
// A product by a packed constant goes over panels of columns, and over all rows for each panel. Where sums are long, a panel and the next
// one, which is asked for while it is used, do not stay in the second cache, nor do the rows, which come from the last one for each panel
// then. Here a tile of the grid has some rows and several panels, and goes over the steps of the sum in chunks: of a chunk, rows and panels
// stay near, and sums are kept in memory between chunks; those of windows are rows of taps, or taps (Goto, van de Geijn: Anatomy of high-performance matrix multiplication, 2008).
#pragma once
#include "codegen/choose.h"

// Where a kernel is one product of f32 by a constant with long sums, makes of it a grid of such tiles. `a`: scratch.
sard_status *sd_long_sums(sd_kernel *k, const sd_isa *isa, sd_arena *a);
