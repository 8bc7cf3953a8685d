// Borders as conditions: taps of dilated convolutions on small images.
#include "passes/simplify/borders.h"

#include "passes/edit.h"
#include "runtime/base/alloc.h"

#define MOST_INSIDE    0.9 // of the inputs of all windows; with more, conditions gain nothing
#define LEAST_CHANNELS 16  // steps of the loop that a condition stands before
#define LEAST_TAPS     5   // of a row of a window with one channel, which is the loop then
#define LEAST_REACH    12  // of the last dim, along which register tiles lie; some then test each row

bool sd_reach_of(const sd_node *n, int i, sd_reach *r) {
  const sd_dimtab *t = n->graph->module->dims;
  *r = (sd_reach){.stride = sd_edit_entry(n, "strides", i, 1), .dilation = sd_edit_entry(n, "dilations", i, 1), .before = sd_edit_entry(n, "pads", i, 0)};
  return sd_dim_is_const(t, n->in[0]->dims[2 + i], &r->in) && sd_dim_is_const(t, n->in[1]->dims[2 + i], &r->taps);
}

// Results before the first one whose input is at `at` steps from that of result 0 or behind.
static int64_t results_before(const sd_reach *r, int64_t at) { return at <= 0 ? 0 : sd_min_i64(sd_ceil_div(at, r->stride), r->out); }

int64_t sd_reach_results(const sd_reach *r, int64_t tap) {
  int64_t at = tap * r->dilation - r->before; // the input of result 0
  return results_before(r, r->in - at) - results_before(r, -at);
}

// Products of results and taps whose input is inside, over all of them.
static double inside(const sd_reach *r) {
  double all = (double)r->out * (double)r->taps, some = 0;
  for (int64_t i = 0; i < r->taps; i++) some += (double)sd_reach_results(r, i);
  return all > 0 ? some / all : 1;
}

bool sd_border_left_out(const sd_node *n, int i) {
  const sd_value *x = n->in[0], *w = n->in[1];
  const sd_dimtab *t = n->graph->module->dims;
  int rank = x->rank - 2;
  int64_t channels, taps, after = sd_edit_entry(n, "pads", rank + i, 0);
  sd_reach r;
  if (!sd_edit_is(n, "Conv") || x->dtype != SD_F32 || !sd_reach_of(n, i, &r)) return false;
  if (r.before < 0 || after < 0 || !sd_dim_is_const(t, w->dims[1], &channels)) return false;
  r.out = (r.in + r.before + after - r.dilation * (r.taps - 1) - 1) / r.stride + 1;
  bool row = i < rank - 1, wide = row && channels == 1 && sd_dim_is_const(t, w->dims[1 + rank], &taps);
  wide = wide && taps >= LEAST_TAPS;
  if (!wide && (r.dilation < 2 || channels < LEAST_CHANNELS)) return false;
  return (row || r.dilation >= LEAST_REACH || r.dilation >= r.in) && inside(&r) < MOST_INSIDE;
}
