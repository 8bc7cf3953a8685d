// A step of schedules: axes whose quotient indexes operands are split.
#pragma once
#include "ir/tile.h"

// Where sums of the nest are read at x // g of the axis x of contiguous stores (channels of a grouped convolution), splits x into
// groups and the g elements of each, of which there have to be `least`. `a`: scratch.
sard_status *sd_split_groups(sd_kernel *k, sd_nest *n, int64_t least, sd_arena *a);
