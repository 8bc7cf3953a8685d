// Borders as conditions: taps of dilated convolutions on small images.
#include "passes/simplify/borders.h"

#include "passes/edit.h"
#include "runtime/base/alloc.h"

#define MOST_INSIDE    0.9 // of the inputs of all windows; with more, conditions gain nothing
#define LEAST_CHANNELS 16  // steps of the loop that a condition stands before
#define LEAST_TAPS     5   // of a row of a window with one channel, which is the loop then
#define LEAST_REACH    12  // of the last dim, along which register tiles lie; some then test each row

typedef struct reach {
  int64_t in, n, stride, dilation, before, after;
} reach;

// Results before the first one whose input is at `at` steps from that of result 0 or behind.
static int64_t results_before(const reach *t, int64_t at, int64_t out) {
  return at <= 0 ? 0 : sd_min_i64(sd_ceil_div(at, t->stride), out);
}

// Products of results and taps whose input is inside, over all of them.
static double inside(const reach *t) {
  int64_t out = (t->in + t->before + t->after - t->dilation * (t->n - 1) - 1) / t->stride + 1;
  double all = (double)out * (double)t->n, some = 0;
  for (int64_t i = 0; i < t->n; i++) {
    int64_t at = i * t->dilation - t->before; // the input of result 0
    some += (double)(results_before(t, t->in - at, out) - results_before(t, -at, out));
  }
  return all > 0 ? some / all : 1;
}

bool sd_border_left_out(const sd_node *n, int i) {
  const sd_value *x = n->in[0], *w = n->in[1];
  const sd_dimtab *t = n->graph->module->dims;
  int rank = x->rank - 2;
  int64_t channels, taps;
  reach a = {.stride = sd_edit_entry(n, "strides", i, 1),
             .dilation = sd_edit_entry(n, "dilations", i, 1),
             .before = sd_edit_entry(n, "pads", i, 0),
             .after = sd_edit_entry(n, "pads", rank + i, 0)};
  if (!sd_edit_is(n, "Conv") || x->dtype != SD_F32) return false;
  if (a.before < 0 || a.after < 0 || !sd_dim_is_const(t, w->dims[1], &channels)) return false;
  if (!sd_dim_is_const(t, x->dims[2 + i], &a.in) || !sd_dim_is_const(t, w->dims[2 + i], &a.n)) return false;
  bool row = i < rank - 1, wide = row && channels == 1 && sd_dim_is_const(t, w->dims[1 + rank], &taps);
  wide = wide && taps >= LEAST_TAPS;
  if (!wide && (a.dilation < 2 || channels < LEAST_CHANNELS)) return false;
  return (row || a.dilation >= LEAST_REACH || a.dilation >= a.in) && inside(&a) < MOST_INSIDE;
}
