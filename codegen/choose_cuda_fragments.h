// Kernels whose local buffers stay in registers: rows of partial results, each owned by a quad of threads.
//
// All nests of such a kernel run over the same rows, and what a row needs of local buffers belongs to the same row. A
// warp has 16 rows; a local buffer is a number for each row, or a row of columns for each, spread over the four threads
// of a quad as the results of a product on tensor cores are. Sums of products over a row run on tensor cores: the
// factor that moves with the row is in registers, the other one, which all rows share, goes through shared memory.
#pragma once
#include "ir/tile.h"

typedef enum sd_cuda_mma { SD_MMA_F16, SD_MMA_BF16, SD_MMA_F32 } sd_cuda_mma; // factors; F32 as three products of TF32

typedef struct sd_cuda_fragment { // a nest
  const sd_nest *nest;
  const sd_axis *row, *col; // col NULL: a number for each row
  const sd_expr *sum;       // product, NULL: none
  const sd_expr *a, *b;     // factors that move with the row, with the column
  const sd_axis *k;         // of the sum
  const sd_buf *local;      // a is this buffer, NULL: it is computed
  sd_cuda_mma mma;
  const sd_axis *loop;   // around the nest, NULL: none
  bool before;           // a does not move with the loop: it is loaded before
  bool b_along_k;        // in shared memory neighbours follow k, else the column
  int b_vec;             // elements of 16 bytes that are copied at once, 0: each is computed
  int b_stride, b_count; // in shared memory: elements from one line to the next, of all lines
  bool in_place;         // the registers of the buffer that is stored to are those of the sum
  const sd_expr *begin;  // in_place: where the sum begins, and nothing follows it; NULL: at 0
} sd_cuda_fragment;

typedef struct sd_cuda_fragments {
  int rows;                       // of a tile, a multiple of 16
  SD_VEC(sd_cuda_fragment) nests; // in the order of the items
  int *columns;                   // by buffer id: of local ones, 0: a number for each row
} sd_cuda_fragments;

// NULL: the kernel is not of that form.
const sd_cuda_fragments *sd_choose_cuda_fragments(sd_kernel *k, sd_arena *a);
