// Taps of convolutions that meet nothing but borders are left out: of 3x3 at one pixel, one of nine is left.
#include "passes/edit.h"
#include "passes/simplify/borders.h"

enum { MOST = 1 << 20 }; // of a size, so that products of two fit

typedef struct window {
  sd_reach reach;
  int64_t from, to; // taps that meet inputs
} window;

// False where a size is not known or there is nothing to see.
static bool look(const sd_node *n, int axis, window *w) {
  sd_reach *r = &w->reach;
  if (!sd_reach_of(n, axis, r) || !sd_dim_is_const(n->graph->module->dims, n->out[0]->dims[2 + axis], &r->out)) return false;
  if (r->in < 1 || r->out < 1 || r->taps < 1 || r->stride < 1 || r->dilation < 1 || r->before < 0) return false;
  if (r->in > MOST || r->out > MOST || r->taps > MOST || r->stride > MOST || r->dilation > MOST || r->before > MOST) return false;
  for (w->from = 0; w->from < r->taps && !sd_reach_results(r, w->from);) w->from++;
  for (w->to = r->taps; w->to > w->from && !sd_reach_results(r, w->to - 1);) w->to--;
  return w->to > w->from;
}

// The borders that are left; false where one would be negative.
static bool borders(const window *w, int64_t *before, int64_t *behind) {
  const sd_reach *r = &w->reach;
  *before = r->before - w->from * r->dilation;
  *behind = (r->out - 1) * r->stride + r->dilation * (w->to - w->from - 1) + 1 - r->in - *before;
  return *before >= 0 && *behind >= 0;
}

static bool fits(const sd_node *n) {
  static const char *const ops[] = {"Conv", "ConvInteger", NULL};
  return sd_edit_one_of(n, ops) && n->in[1]->data && n->in[1]->rank > 2 && n->in[0]->rank == n->in[1]->rank && !sd_node_int(n, "channels_last", 0) &&
         strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") == 0;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  int64_t pads[2 * SD_MAX_RANK], kernel[SD_MAX_RANK];
  window w[SD_MAX_RANK];
  if (!fits(n)) return NULL;
  int axes = n->in[1]->rank - 2;
  bool less = false;
  for (int i = 0; i < axes; i++) {
    if (!look(n, i, &w[i]) || !borders(&w[i], &pads[i], &pads[axes + i])) return NULL;
    kernel[i] = w[i].to - w[i].from, less |= kernel[i] < w[i].reach.taps;
  }
  if (!less) return NULL;
  sd_value *v = n->in[1];
  for (int i = 0; i < axes; i++)
    if (kernel[i] < w[i].reach.taps) SD_TRY(sd_edit_slice(n->graph, n, v, 2 + i, w[i].from, w[i].to, &v));
  sd_node_set_input(n, 1, v);
  sd_node_set_ints(n, "pads", pads, 2 * (uint32_t)axes);
  sd_node_set_ints(n, "kernel_shape", kernel, (uint32_t)axes);
  *done = true;
  return NULL;
}

sard_status *sd_pass_taps(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes(m, o, r, rewrite);
}
