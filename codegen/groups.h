// A step of schedules: axes whose quotient indexes operands are split.
#pragma once
#include "ir/tile.h"

// Where sums of the nest are read at x // g of the axis x of contiguous stores (channels of a grouped convolution), splits x into
// groups and the g elements of each. `a`: scratch.
sard_status *sd_split_groups(sd_kernel *k, sd_nest *n, sd_arena *a);
