// Which borders of a convolution are conditions of what reads them instead of zeros in memory.
#pragma once
#include "ir/graph.h"

// Of spatial dim i of Conv n, channels second: windows reach so far into the border that register tiles
// have taps of which nothing is inside. These are then left out (codegen/cpu/emit_reduce.c); where zeros
// stand in memory they are multiplied.
bool sd_border_left_out(const sd_node *n, int i);
