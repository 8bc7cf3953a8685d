// A step of schedules: products of f32 for matrix registers that multiply bf16 (AMX).
//
// An f32 is the sum of three bf16, of 8 significant bits each: the upper half of its bits, what is left
// rounded to the nearest, and what is left then; both differences are exact. Of the nine products of two such
// sums the six largest make a product of f32 within 2^-23 of its size, and less than a quarter of that on
// average (Henry, Tang, Heinecke: Leveraging the bfloat16 artificial intelligence datatype for
// higher-precision computations, 2019). Matrix registers add 16 steps at a time and then to the sum, which
// rounds less often than vectors do, so that results are closer to the exact ones than those of vectors.
//
// A constant whose numbers are bf16 themselves, as integers of 8 bits are, has one part: three products, which
// are exact.
//
// Matrix registers take denormals for zeros: parts below 2^-126 are lost. Infinities have no parts, and sums
// that are no finite numbers are made again by vectors, which add up the parts and multiply f32
// (cpu/emit_matrix.c).
#pragma once
#include <string.h>

#include "codegen/choose.h"

enum { SD_TRIPLE_PANEL = 32 }; // columns

// Where a kernel is one product of f32 by a constant that is faster that way, makes of it a grid of tiles. A
// tile takes its rows of the other factor apart into a local buffer [rows][3][steps]; the product, panel
// after panel of 32 columns, reads the sums of the parts. The constant is taken apart when it is packed. `a`:
// scratch.
sard_status *sd_triple(sd_kernel *k, const sd_isa *isa, sd_arena *a, sd_packs *packs);

typedef struct sd_triple_parts {
  uint32_t high[3];
} sd_triple_parts; // f32 whose lower halves are 0

// Of a finite number.
static inline sd_triple_parts sd_triple_parts_of(float x) {
  sd_triple_parts p;
  for (int i = 0; i < 3; i++) {
    uint32_t bits;
    float high;
    memcpy(&bits, &x, 4);
    p.high[i] = bits = (bits + (i == 1 ? 0x8000u : 0)) & 0xffff0000u;
    memcpy(&high, &bits, 4);
    x -= high;
  }
  return p;
}
