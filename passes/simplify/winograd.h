// What pass `winograd` makes of a convolution.
#pragma once
#include "ir/graph.h"
#include "passes/target.h"

// Time of the direct form over that of the one it gets, by estimate: 1 where it stays. Of bytes (sard.Conv8), the direct form is that
// without pairs.
double sd_winograd_speedup(const sd_node *n, const sd_pass_target *target);
