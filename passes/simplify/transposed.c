// Transposed convolutions of stride 1 become convolutions with their weights turned around:
//
//   y[m, o] = sum x[c, o + p - k] w[c, m, k] = sum x[c, o - (K - 1 - p) + k] w[c, m, K - 1 - k]
//
// which have padded copies instead of conditions, and Winograd's form.
#include "passes/edit.h"
#include "runtime/base/alloc.h"

// [C, M/g, k...] as [M, C/g, k...], taps in reverse.
static sd_value *turned(sd_graph *g, const sd_value *w, int64_t groups) {
  const sd_const *c = w->data;
  int64_t dims[SD_MAX_RANK], inputs = c->dims[0] / groups, outputs = c->dims[1], taps = 1;
  size_t size = (size_t)sd_dtype_bits(c->dtype) / 8;
  memcpy(dims, c->dims, (size_t)c->rank * sizeof *dims);
  dims[0] = outputs * groups, dims[1] = inputs;
  for (int i = 2; i < c->rank; i++) taps *= c->dims[i];
  uint8_t *to = sd_arena_aligned(g->module->arena, c->count * size + 64, 64);
  for (int64_t from = 0; from < (int64_t)c->count; from++) {
    int64_t tap = from % taps, m = from / taps % outputs, in = from / taps / outputs, group = in / inputs;
    int64_t at = ((group * outputs + m) * inputs + in % inputs) * taps + taps - 1 - tap;
    memcpy(to + (size_t)at * size, (const uint8_t *)c->data + (size_t)from * size, size);
  }
  return sd_value_const(g, w->name, c->dtype, c->rank, dims, to);
}

// The borders of the convolution, `rank` of them at either side.
static bool borders(const sd_node *n, const sd_const *w, int64_t *pads) {
  int rank = w->rank - 2;
  for (int i = 0; i < rank; i++) {
    int64_t reach = (w->dims[2 + i] - 1) * sd_edit_entry(n, "dilations", i, 1);
    pads[i] = reach - sd_edit_entry(n, "pads", i, 0);
    pads[rank + i] = reach - sd_edit_entry(n, "pads", rank + i, 0) + sd_edit_entry(n, "output_padding", i, 0);
    if (w->dims[2 + i] < 1 || pads[i] < 0 || pads[rank + i] < 0) return false;
  }
  return true;
}

static bool fits(const sd_node *n, const sd_pass_target *target) {
  if (!target->padded_copies || !sd_edit_is(n, "ConvTranspose") || sd_node_int(n, "channels_last", 0)) return false;
  const sd_value *w = n->in[1];
  const sd_attr *shape = sd_node_attr(n, "output_shape");
  if (!w->data || w->data->count == 0 || sd_dtype_bits(w->dtype) < 8 || w->rank < 3 || n->in[0]->rank != w->rank || (shape && shape->n)) return false;
  return sd_edit_all_are(n, "strides", 1) && strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") == 0;
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  int64_t pads[2 * SD_MAX_RANK];
  if (!fits(n, target) || !borders(n, n->in[1]->data, pads)) return NULL;
  sd_value *old = n->in[1], *in[3] = {n->in[0], turned(n->graph, old, sd_node_int(n, "group", 1)), n->n_in > 2 ? n->in[2] : NULL};
  const sd_op *op = sd_op_find("Conv");
  if (!in[1] || !op) return SD_ERR(NOMEM, "turned weights are too large");
  if (!sd_edit_read_elsewhere(old, n)) sd_const_release(n->graph->module, old->data, true);
  sd_node *c = sd_node_new(n->graph, n, op, in, in[2] ? 3 : 2, 1);
  const sd_attr *dilations = sd_node_attr(n, "dilations");
  c->name = n->name, c->onnx_index = n->onnx_index;
  sd_node_set_int(c, "group", sd_node_int(n, "group", 1));
  sd_node_set_ints(c, "pads", pads, 2 * (uint32_t)(old->rank - 2));
  if (dilations && dilations->kind == SD_ATTR_INTS) *sd_node_attr(c, "dilations") = *dilations;
  SD_TRY(sd_node_infer(c));
  c->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], c->out[0]);
  sd_node_remove(n);
  *done = true;
  return NULL;
}

sard_status *sd_pass_transposed(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes_for(m, o, r, rewrite);
}
