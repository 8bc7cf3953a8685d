// Convolutions as sparse products with windows (ir/ops/sparse_windows.h).
#pragma once
#include "ir/graph.h"

// Is n, a convolution with a constant weight [k.., C, N], one over channels-last images of known size, with
// no groups and nothing around them? *taps: places of a window.
bool sd_sparse_window_is(const sd_node *n, int64_t *taps);
// Where place `tap` of the window of an output begins, in elements of x.
int64_t sd_sparse_window_at(const sd_node *n, int64_t tap);
// Do the places along the last axis of a window lie side by side in x?
bool sd_sparse_window_rows(const sd_node *n);
// Attributes strides and reach of y, which takes the place of convolution n; rows: of x with channels in its last axis.
void sd_sparse_window_set(sd_node *y, const sd_node *n, bool rows);
