// A step of schedules for kernels of one nest: terms of a sum that stores need again are computed once.
#pragma once
#include "ir/tile.h"

// Where a sum along a row has costly terms that the stores along this row use as well (Softmax), makes of the nest a grid of
// tiles of rows, with two nests for a row: one that fills a local row with the terms, one that sums it up and stores. `lanes`:
// of a vector; shorter rows stay as they are. `a`: scratch.
sard_status *sd_stash(sd_kernel *k, int lanes, sd_arena *a);
