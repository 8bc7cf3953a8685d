// A step of schedules, of processors and GPUs: transposed convolutions as products.
#pragma once
#include "ir/tile.h"

// Where a sum of products reads its factors at (x + c) // s and (x + c) % s of an axis x of the results (rows and columns of a
// transposed convolution with stride s), splits x into x // s and x % s: for each of these s phases the sum is a product of
// matrices. A condition around both factors becomes a guard of each, as convolutions have them; what it leaves out then counts as
// zeros. `a`: scratch.
sard_status *sd_split_phases(sd_kernel *k, sd_nest *n, sd_arena *a);
