// Products in blocks: of outputs side by side and a few inputs (4 of bytes), those that are not all 0, or all of them in an order in
// which processors can add two products in 16 bits.
//
// y [.., N] = sums over inputs of x [.., C], which are u8, times weights, which are i8; exact in i32. Lanes are the
// outputs of a block, and a step reads inputs side by side for all of them, so that x stays as it is, rows are as
// many as there are, and windows are offsets. Blocks are of `wide` outputs, 8, 16 or 32; N is attribute n, where that is not 0: then the last block
// has fewer, and its table has something for those that are none.
//   start [blocks + 1] i32: the first step of each block of outputs, and the end; in twos of steps, where pairs is 2
//   value [steps, wide, SD_SPARSE_SIDE] i8
//   index [steps] i32: where the inputs of a step begin, counted from the first element of the output's window
//   order [steps, SD_SPARSE_SIDE] u8, may be missing: the inputs of a step are those at these places of the SD_SPARSE_GROUP at the
//     index
// Attributes strides and reach as in sparse_windows.h. pairs, 1 with an order: whatever x is, the first two products of a step fit 16 bits
// together, and the last two do. 2: those of a step at an even place and of the next one do, all four.
#pragma once
#include <string.h>

#include "ir/ops/sparse_windows.h"

enum { SD_SPARSE_WIDE = 16, SD_SPARSE_WIDEST = 32, SD_SPARSE_SIDE = 4, SD_SPARSE_GROUP = 16 };
enum { SD_SPARSE_HIGH = 32767 / 255, SD_SPARSE_LOW = -(32768 / 255) }; // sums of two weights, of those above and of those below 0
enum { SD_BLOCKS_X, SD_BLOCKS_VALUE, SD_BLOCKS_INDEX, SD_BLOCKS_START, SD_BLOCKS_ORDER };

// Eight weights: sums of the neighbours among them that are above 0, and of those below with the sign turned, as four numbers of 16 bits each.
typedef struct sd_pair_sums { uint64_t high, low; } sd_pair_sums;

static inline sd_pair_sums sd_sums_of_pairs(const int8_t *w) {
  const uint64_t ones = 0x0101010101010101u, bytes = 0x00ff00ff00ff00ffu;
  uint64_t v, below, size;
  memcpy(&v, w, sizeof v);
  below = (v >> 7 & ones) * 255;
  size = (v ^ below) + (below & ones);
  uint64_t high = size & ~below, low = size & below;
  return (sd_pair_sums){(high & bytes) + (high >> 8 & bytes), (low & bytes) + (low >> 8 & bytes)};
}

// Is one of the sums, each at most 2^15, too large for 16 bits?
static inline bool sd_sums_over(sd_pair_sums s) {
  const uint64_t lanes = 0x0001000100010001u;
  return ((s.high + (0x7fff - SD_SPARSE_HIGH) * lanes) | (s.low + (0x7fff + SD_SPARSE_LOW) * lanes)) & 0x8000 * lanes;
}

typedef struct sd_sparse_blocks {
  uint32_t value, index, start, order; // operands
  int64_t n, wide, steps, longest;     // outputs (where the node has no n: of whole blocks), of a block; steps in all; of a block of outputs, as start counts
  bool ordered;
  int64_t pairs; // 0, 1, 2 as above
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
