// Windows of sparse products: sums over places near each other in images with channels last, and no zeros
// around them. An output reads from the first element of its window on; where, its tables say.
#pragma once
#include "ir/graph.h"
#include "ir/ops/xbuild.h"

typedef struct sd_sparse_windows {
  int spatial;                                     // dims of windows; 0: plain products
  int64_t stride[SD_MAX_RANK], reach[SD_MAX_RANK]; // reach: size of the window with its dilations
} sd_sparse_windows;

// Attributes strides and reach, of the spatial dims of the first operand, x [N, spatial.., C]; both empty for
// plain products. With windows the spatial dims of x are numbers. Where x has no dim of channels, the last spatial one has them, too:
// [N, spatial.., W * C], of which strides and reach count elements.
sard_status *sd_sparse_windows_read(const sd_node *n, sd_sparse_windows *w);
// Do `side` elements of x from `at` on, counted from the first element of a window, lie in one place of it?
bool sd_sparse_windows_inside(const sd_node *n, const sd_sparse_windows *w, int64_t at, int64_t side);
// dims: those of x; become those of the output, but for the last one.
void sd_sparse_windows_dims(sd_dimtab *t, const sd_sparse_windows *w, sd_dim *dims);
// The element of operand 0 that is `behind` channels after `place`, which counts elements from the first one of the window of output
// idx. Both lie in one place of the window, so that x may stand in a larger image: what is divided is `place` alone.
sd_expr *sd_sparse_windows_load(sd_tb *b, const sd_node *n, const sd_sparse_windows *w, sd_expr *const *idx, sd_expr *place, sd_expr *behind);
