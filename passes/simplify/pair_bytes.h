// Steps of products of bytes of which two fit 16 bits together (order of ir/ops/sparse_blocks.h).
//
// Two products of u8 by i8 may need 17 bits, where both weights are large and of one sign. Which inputs stand
// side by side is free: for a group of inputs pairs are chosen that fit for all outputs of a block. Where
// none do, a weight is taken apart into two that are smaller, and the second is multiplied in a step of its
// own.
#pragma once
#include "ir/ops/sparse_blocks.h"

enum { SD_PAIR_STEPS = SD_SPARSE_GROUP / 2 };

typedef struct sd_pair_step {
  uint8_t order[SD_SPARSE_SIDE];
  int8_t value[SD_SPARSE_WIDEST][SD_SPARSE_SIDE]; // of the first outputs of a block
} sd_pair_step;

// The steps whose sums are those of all of `inputs` inputs, at most SD_SPARSE_GROUP, with weights w[input *
// stride + output] for `wide` outputs, at most SD_SPARSE_WIDEST. Inputs whose weights are all 0 are left out.
// Returns how many, at most SD_PAIR_STEPS.
int sd_pair_steps(const int8_t *w, int64_t stride, int inputs, int64_t wide, sd_pair_step *out);
// The same for SD_SPARSE_SIDE inputs as they stand, which need no order: what does not fit comes in a second step. Returns how many, 0 where
// all weights are 0.
int sd_pair_plain(const int8_t *w, int64_t stride, int64_t wide, sd_pair_step out[2]);
