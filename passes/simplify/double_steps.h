// Steps of products of bytes by twos whose products fit 16 bits together (pairs=2 in ir/ops/sparse_blocks.h): four are added before they are
// widened. Which steps go together is free.
#pragma once
#include "ir/ops/sparse_blocks.h"
#include "runtime/base/arena.h"

// The n steps of a block of outputs, of which each fits for itself, to `value` [.., wide, SD_SPARSE_SIDE] and `index` in another order; beside one
// that none goes with stands one of zeros. Returns how many, at most `most`; -1: more.
int64_t sd_double_steps(const int8_t *from, const int32_t *from_index, int64_t n, int64_t wide, int64_t most, sd_arena *scratch, int8_t *value, int32_t *index);
