// Which borders of a convolution are conditions of what reads them instead of zeros in memory.
#pragma once
#include "ir/graph.h"

// Windows along a dim.
typedef struct sd_reach {
  int64_t in, out, taps, stride, dilation, before; // before: zeros in front of the input
} sd_reach;
// Of spatial dim i of n, a convolution with channels second, all but the results; false where a size is not known.
bool sd_reach_of(const sd_node *n, int i, sd_reach *r);
int64_t sd_reach_results(const sd_reach *r, int64_t tap); // those whose input at that tap is inside

// Of spatial dim i of Conv n, channels second: windows reach so far into the border that register tiles
// have taps of which nothing is inside. These are then left out (codegen/cpu/emit_reduce.c); where zeros
// stand in memory they are multiplied.
bool sd_border_left_out(const sd_node *n, int i);
