// Taps of convolutions that meet nothing but borders are left out: of 3x3 at one pixel, one of nine is left.
#include "passes/edit.h"
#include "runtime/base/alloc.h"

enum { MOST = 1 << 20 }; // of a size, so that products of two fit

typedef struct window {
  int64_t in, out, taps, stride, dilation, before; // of an axis
  int64_t from, to;                                // taps that meet inputs
} window;

static bool meets(const window *w, int64_t tap) {
  int64_t at = tap * w->dilation - w->before, i = at < 0 ? sd_ceil_div(-at, w->stride) : 0; // the first result that reads no border before
  return i < w->out && i * w->stride + at < w->in;
}

// False where a size is not known or there is nothing to see.
static bool look(const sd_node *n, int axis, window *w) {
  const sd_dimtab *t = n->graph->module->dims;
  *w = (window){.taps = n->in[1]->data->dims[2 + axis], .stride = sd_edit_entry(n, "strides", axis, 1), .dilation = sd_edit_entry(n, "dilations", axis, 1),
                .before = sd_edit_entry(n, "pads", axis, 0)};
  if (!sd_dim_is_const(t, n->in[0]->dims[2 + axis], &w->in) || !sd_dim_is_const(t, n->out[0]->dims[2 + axis], &w->out)) return false;
  if (w->in < 1 || w->out < 1 || w->taps < 1 || w->stride < 1 || w->dilation < 1 || w->before < 0) return false;
  if (w->in > MOST || w->out > MOST || w->taps > MOST || w->stride > MOST || w->dilation > MOST || w->before > MOST) return false;
  for (w->from = 0; w->from < w->taps && !meets(w, w->from);) w->from++;
  for (w->to = w->taps; w->to > w->from && !meets(w, w->to - 1);) w->to--;
  return w->to > w->from;
}

// The borders that are left; false where one would be negative.
static bool borders(const window *w, int64_t *before, int64_t *behind) {
  *before = w->before - w->from * w->dilation;
  *behind = (w->out - 1) * w->stride + w->dilation * (w->to - w->from - 1) + 1 - w->in - *before;
  return *before >= 0 && *behind >= 0;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  static const char *const ops[] = {"Conv", "ConvInteger", NULL};
  int64_t pads[2 * SD_MAX_RANK], kernel[SD_MAX_RANK];
  window w[SD_MAX_RANK];
  if (!sd_edit_one_of(n, ops) || !n->in[1]->data || n->in[1]->rank < 3 || n->in[0]->rank != n->in[1]->rank || sd_node_int(n, "channels_last", 0)) return NULL;
  if (strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") != 0) return NULL;
  int axes = n->in[1]->rank - 2;
  bool less = false;
  for (int i = 0; i < axes; i++) {
    if (!look(n, i, &w[i]) || !borders(&w[i], &pads[i], &pads[axes + i])) return NULL;
    kernel[i] = w[i].to - w[i].from, less |= kernel[i] < w[i].taps;
  }
  if (!less) return NULL;
  sd_value *v = n->in[1];
  for (int i = 0; i < axes; i++)
    if (kernel[i] < w[i].taps) SD_TRY(sd_edit_slice(n->graph, n, v, 2 + i, w[i].from, w[i].to, &v));
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
