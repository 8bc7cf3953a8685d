// Factors of a sum of products of which two of four neighbouring steps at most are not 0 (2:4), kept without the others.
//
// A factor [M, ..., K] is kept as values [M, ..., K/2], in the order of the steps, and as a row of 16-bit words for each of M: of
// four steps four bits, from the lowest on; the first two bits are the place of the first value among the four, the next two
// that of the second one, which is behind it. So a word has the places of 16 steps; K is a multiple of that, and a row is filled
// up with zeros to SD_PLACES_ROW words. (The order of words and bits is that of PTX, "Sparse matrix storage" of mma.sp.)
#pragma once
#include "ir/tile.h"

#define SD_PLACES_STEPS 16 // of a word
#define SD_PLACES_ROW   8  // words: rows are made of so many at once, 16 bytes

// Step `at` (I64) of the factor: `word` is the element of the row of words that has its place, `first` and `second` are the two
// values of its four steps.
sd_expr *sd_x_two_of_four(sd_kernel *k, sd_expr *at, sd_expr *word, sd_expr *first, sd_expr *second);
