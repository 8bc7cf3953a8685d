// Sparse products: weights of which only what is not 0 is kept, in tables that a kernel reads straight
// through.
//
// y [rows, N] = x [rows, K] * w [K, N]. The columns of w (outputs) stand in parts of `part`, its rows
// (inputs) in blocks of `block`. In a block the outputs of a part are taken in groups of SD_SPARSE_GROUP that
// go through the same number of steps; a step has for each output a weight and the input, counted in the
// block, that it belongs to, or one input for all of them:
//   order [parts, blocks, groups, SD_SPARSE_GROUP] u16: the outputs of a group, counted in the part
//   start [parts * blocks * groups + 1] i32: the first step of each group, and the end
//   value [steps, G] f32, index [steps, G or 1] u8
// Lanes run over `rows` rows of x at a time, turned so that those of one input lie side by side.
//
// With windows (sparse_windows.h) x is images, a row what an output place reads, and K all places of a window
// with their channels. A block of inputs lies in one place:
//   place [blocks] i32: where it begins, counted from the first element of the window
// A tile is then lines of output places, as many as `rows` has room for.
#pragma once
#include "ir/ops/sparse_windows.h"

#define SD_SPARSE_BLOCK 256 // inputs of a block at most: their number is a u8

enum { SD_SPARSE_X, SD_SPARSE_VALUE, SD_SPARSE_INDEX, SD_SPARSE_START, SD_SPARSE_ORDER, SD_SPARSE_BIAS, SD_SPARSE_PLACE };

// Sizes that the tables and attributes of a sard.SparseMatMul give.
typedef struct sd_sparse {
  int64_t k, n;                         // of w
  int64_t block, rows;                  // inputs of a block, rows of x in a tile
  int64_t parts, blocks, groups, group; // of the order table
  int64_t part;           // groups * group: outputs of a part, with those that only fill up the last one
  int64_t steps, longest; // in all; of a group
  bool shared;            // one input for all outputs of a group
  bool inside;            // a tile of the grid goes through all parts with the inputs that it turned once
  sd_sparse_windows windows;
  int64_t lines, across; // of windows: lines of a tile, outputs of a line; 0
} sd_sparse;
// Reads and checks a sard.SparseMatMul: whatever the tables say, a kernel stays inside of its buffers.
sard_status *sd_sparse_read(const sd_node *n, sd_sparse *out);
