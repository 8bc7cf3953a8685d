// Weights of which two of four along the sum are 0, for tensor cores that skip these.
#pragma once
#include "ir/graph.h"

// Where n is a product, or a convolution with [M, k..., C] weights, of f16, bf16 or bytes, whose constant weight is so and n's
// alone, and that has rows enough for tensor cores: the weight becomes a sard.TwoOfFour. *done: it was.
sard_status *sd_two_of_four(sd_node *n, bool *done);
