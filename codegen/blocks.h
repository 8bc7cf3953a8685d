// Products by weights of few bits that have a scale, and a zero point, for each block of a sum, where the
// other factor is bytes with a scale for each block as well (MatMulNBits at accuracy level 4):
//
//   sum(block, k : (a * row) * fma(w, scale, zero))         a i8, w u8, u4, u2; row, scale, zero stand still
//   in a block
//
// Inside of a block that is row * scale * sum(a * w) + row * zero * sum(a), of which both sums are of
// integers, and exact: instructions that multiply bytes make them from words of w (codegen/words.h), whose
// bits are sliced so that each slice is four bytes.
#pragma once
#include "codegen/choose_nest.h"

typedef struct sd_blocks {
  const sd_expr *a, *w;              // loads; w of a word where the sum is taken apart and packed
  const sd_expr *row, *scale, *zero; // f32
  int bits;                          // of w
} sd_blocks;

// Is r, a reduction, such a sum? Behind taking apart it has turns and the steps of a word as its last two
// axes.
bool sd_blocks_is(sd_kernel *k, const sd_expr *r, sd_blocks *out);
// Whether the set has instructions for weights of so many bits that add without saturating.
bool sd_blocks_on(const sd_isa *isa, int bits);
// The reductions of the nest that are such sums, of a constant that can be packed, are taken apart into turns
// and steps of a word.
sard_status *sd_blocks_choose(sd_choice *c);
