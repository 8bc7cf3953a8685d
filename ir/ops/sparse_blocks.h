// Sparse products in blocks: of SD_SPARSE_WIDE outputs side by side and a few inputs (4 of bytes), those that are
// not all 0.
//
// y [.., N] = sums over inputs of x [.., C], which are u8, times weights, which are i8; exact in i32. Lanes are the
// outputs of a block, and a step reads inputs side by side for all of them, so that x stays as it is, rows are as
// many as there are, and windows are offsets. N is a multiple of SD_SPARSE_WIDE.
//   start [N / SD_SPARSE_WIDE + 1] i32: the first step of each block of outputs, and the end
//   value [steps, SD_SPARSE_WIDE, SD_SPARSE_SIDE] i8
//   index [steps] i32: where the inputs of a step begin, counted from the first element of the output's window
// Attributes strides and reach as in sparse_windows.h.
#pragma once
#include "ir/ops/sparse_windows.h"

enum { SD_SPARSE_WIDE = 16, SD_SPARSE_SIDE = 4 };
enum { SD_BLOCKS_X, SD_BLOCKS_VALUE, SD_BLOCKS_INDEX, SD_BLOCKS_START };

typedef struct sd_sparse_blocks {
  int64_t n, steps, longest; // outputs; steps in all, of a block of outputs
  sd_sparse_windows windows;
} sd_sparse_blocks;
// Reads and checks a sard.SparseBlocks: whatever the tables say, a kernel stays inside of its operands.
sard_status *sd_sparse_blocks_read(const sd_node *n, sd_sparse_blocks *out);
