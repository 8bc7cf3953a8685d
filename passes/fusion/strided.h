// Moves that only count differently: what a chain of them gives is its source read with another distance
// along each axis.
#pragma once
#include "passes/edit.h"

// How the elements of a value lie in the memory of its source: dims[i] of them along axis i, `stride[i]`
// elements apart.
typedef struct sd_strided {
  int rank;
  sd_dim dims[SD_MAX_RANK], stride[SD_MAX_RANK];
} sd_strided;

// v as it lies in memory of its own, row-major.
void sd_strided_whole(const sd_value *v, sd_strided *s);
// Follows a move from how its operand 0 lies; false: its result does not lie at fixed distances (or n is no
// such move). Moves: Transpose, Reshape and its like, Slice with known steps, Gather of one known position,
// Expand, Identity.
bool sd_strided_move(const sd_node *n, sd_strided *s);
// The same, without knowing how the operand lies: may it be such a move at all?
bool sd_strided_kind(const sd_node *n);
