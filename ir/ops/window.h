// Sliding windows: the geometry that convolutions and pools share (strides, dilations, pads, auto_pad,
// ceil_mode).
#pragma once
#include "ir/ops/xbuild.h"

typedef struct sd_window {
  int n;     // spatial dims
  bool last; // channels_last
  bool ceil; // sizes are rounded up
  sd_dim in[SD_MAX_RANK], out[SD_MAX_RANK], kernel[SD_MAX_RANK];
  int64_t stride[SD_MAX_RANK], dilation[SD_MAX_RANK];
  sd_dim pad[SD_MAX_RANK], pad_end[SD_MAX_RANK];
} sd_window;

// Reads the attributes of n (operand 0 is the data, rank 3 to 3 + more) with the kernel sizes in w->kernel.
// ceil: ceil_mode.
sard_status *sd_window_read(const sd_node *n, const sd_dim *kernel, bool ceil, sd_window *w);
// Error when a window is larger than the padded input.
sard_status *sd_window_fits(const sd_node *n, const sd_window *w);
// Kernel sizes as dims: attribute kernel_shape.
sard_status *sd_window_kernel(const sd_node *n, sd_dim *kernel);
// Strides and dilations, of default 1, checked positive; w->n must be set.
sard_status *sd_window_steps(const sd_node *n, sd_window *w);
// Positions of spatial dim i and of the channel in an index of the data.
static inline int sd_window_axis(const sd_window *w, int i) { return w->last ? 1 + i : 2 + i; }
static inline int sd_window_channel(const sd_window *w) { return w->last ? w->n + 1 : 1; }
// Input position of dim i for output position o and tap k; *cond grows by the bounds checks that are needed.
sd_expr *sd_window_input(sd_tb *b, const sd_window *w, int i, sd_expr *o, sd_expr *k, sd_expr **cond);
