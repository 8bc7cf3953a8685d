// Products in blocks: of outputs side by side and a few inputs (4 of bytes), those that are not all 0, or all of them in an order in
// which processors can add two products in 16 bits.
//
// y [.., N] = sums over inputs of x [.., C], which are u8, times weights, which are i8; exact in i32. Lanes are the
// outputs of a block, and a step reads inputs side by side for all of them, so that x stays as it is, rows are as
// many as there are, and windows are offsets. N is a multiple of `wide`, which is 16 or 32.
//   start [N / wide + 1] i32: the first step of each block of outputs, and the end
//   value [steps, wide, SD_SPARSE_SIDE] i8
//   index [steps] i32: where the inputs of a step begin, counted from the first element of the output's window
//   order [steps, SD_SPARSE_SIDE] u8, may be missing: the inputs of a step are those at these places of the SD_SPARSE_GROUP at the
//     index
// Attributes strides and reach as in sparse_windows.h. pairs, which an order goes with: whatever x is, the first two products of a step fit
// 16 bits together, and the last two do.
#pragma once
#include "ir/ops/sparse_windows.h"

enum { SD_SPARSE_WIDE = 16, SD_SPARSE_WIDEST = 32, SD_SPARSE_SIDE = 4, SD_SPARSE_GROUP = 16 };
enum { SD_SPARSE_HIGH = 32767 / 255, SD_SPARSE_LOW = -(32768 / 255) }; // sums of two weights, of those above and of those below 0
enum { SD_BLOCKS_X, SD_BLOCKS_VALUE, SD_BLOCKS_INDEX, SD_BLOCKS_START, SD_BLOCKS_ORDER };

typedef struct sd_sparse_blocks {
  uint32_t value, index, start, order; // operands
  int64_t n, wide, steps, longest;     // outputs, of a block; steps in all, of a block of outputs
  bool ordered, pairs;
  sd_sparse_windows windows;
} sd_sparse_blocks;
// Reads and checks a sard.SparseBlocks: whatever the tables say, a kernel stays inside of its operands.
sard_status *sd_sparse_blocks_read(const sd_node *n, sd_sparse_blocks *out);
// The tables alone, at the operands that s names, for other nodes: fills the numbers. Not checked: whether the places of `index` are inside
// of what is read.
sard_status *sd_sparse_blocks_tables(const sd_node *n, sd_sparse_blocks *s);
// Do pairs fit? An error says which do not.
sard_status *sd_sparse_blocks_fit(const sd_node *n, const sd_sparse_blocks *s);
// The sum of block `block` of outputs for lane `lane`, i32. x gives the element `behind` places after `place`, which the index says.
typedef sd_expr *sd_blocks_x(sd_tb *b, sd_expr *place, sd_expr *behind, void *user);
sd_expr *sd_sparse_blocks_sum(sd_tb *b, const sd_node *n, const sd_sparse_blocks *s, sd_expr *block, sd_expr *lane, sd_blocks_x *x, void *user);
