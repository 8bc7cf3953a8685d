// Winograd convolution F(m x m, 3 x 3), m = 4 or 2: transforms and the split of the work into blocks of output tiles.
//
// A tile of (m+2)^2 inputs d gives m^2 outputs: At [ (G g Gt) * (Bt d B) ] A with * element by element; the sum over
// input channels runs over the elements: (m+2)^2 matrix products. The points are 0, +-5/8, +-3/2 and infinity for m = 4
// (all entries of Bt and At are exact in f32; the error is about 1.7 times that of the direct sum), 0, +-1 for m = 2.
//
// Of bytes (u8 by i8, m = 2): 4 G g Gt are integers of at most 9 * 128, Bt d B of at most 4 * 255, so that i16 hold both and i32 four
// times the result, which is exact while that fits: up to SD_WINO_BYTES input channels.
#pragma once
#include "ir/graph.h"

#define SD_WINO_MAX   6 // points
#define SD_WINO_BYTES (INT32_MAX / (4 * 9 * 255 * 128))

// Entries of Bt [m+2][m+2], G [m+2][3], At [m][m+2] for m = 4 or 2.
double sd_winograd_bt(int m, int i, int j);
double sd_winograd_g(int m, int i, int j);
double sd_winograd_at(int m, int i, int j);

// What the choice depends on. Sizes that are not known before the run are guessed.
typedef struct sd_winograd_shape {
  int64_t n, oh, ow, depth, ic, oc; // n: images, 0: not known; depth: images over which an output sums
  bool any_h, any_w;         // guesses
  int lanes, registers;      // of vectors; 16 and 32 where nothing else is said
  double words;              // products of i16 in the time of one of f32; 0: the form is that of f32
} sd_winograd_shape;
sd_winograd_shape sd_winograd_shape_of(const sd_dimtab *t, sd_dim n, sd_dim oh, sd_dim ow, int64_t depth, int64_t ic, int64_t oc);

typedef struct sd_winograd_plan {
  int m;                             // outputs of a tile along a side
  int64_t block_n, block_r, block_c; // of a block: images, rows and columns of tiles
  int64_t groups;                    // parts of the output channels
  double cost;                       // estimate for one image in multiply-adds, where memory is slow: of plans against each other
} sd_winograd_plan;

// The best split of the work.
sd_winograd_plan sd_winograd_choose(int m, const sd_winograd_shape *s);
// Estimates for one image against each other, in multiply-adds: of a plan, of the direct form.
double sd_winograd_cost(const sd_winograd_plan *p, const sd_winograd_shape *s);
double sd_winograd_direct(const sd_winograd_shape *s);
// Rows (or columns) of the padded input that blocks of `block` tiles need for `out` rows of output.
sd_dim sd_winograd_padded(sd_dimtab *t, int m, int64_t block, sd_dim out);
