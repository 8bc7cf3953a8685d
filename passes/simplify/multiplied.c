// Convolutions of single channels with several outputs each become those with one, of channels that are
// repeated: the sums are the same, and kernels for them go over vectors of channels.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { MOST = 4 }; // outputs of a channel: the repeated input is written once more

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  (void)target;
  sd_dimtab *t = n->graph->module->dims;
  int64_t channels, outputs;
  if (!sd_edit_is(n, "Conv") || n->in[0]->rank != 4 || sd_node_int(n, "channels_last", 0)) return NULL;
  const sd_value *x = n->in[0], *w = n->in[1];
  if (!sd_dim_is_const(t, x->dims[1], &channels) || !sd_dim_is_const(t, w->dims[0], &outputs)) return NULL;
  int64_t each = channels > 1 && outputs % channels == 0 ? outputs / channels : 0;
  if (sd_node_int(n, "group", 1) != channels || each < 2 || each > MOST) return NULL;
  XG_SCOPE xg g = {.at = n};
  sd_dim apart[5] = {x->dims[0], x->dims[1], sd_dim_const(t, 1), x->dims[2], x->dims[3]};
  sd_value *v = sd_xg_reshape(&g, n->in[0], apart, 5);
  apart[2] = sd_dim_const(t, each);
  v = sd_xg_expand(&g, v, apart, 5);
  v = sd_xg_reshape(&g, v, (sd_dim[]){x->dims[0], w->dims[0], x->dims[2], x->dims[3]}, 4);
  if (g.st) return sd_xg_take(&g);
  sd_node_set_input(n, 0, v);
  sd_node_set_int(n, "group", outputs);
  *done = true;
  return NULL;
}

sard_status *sd_pass_multiplied(sd_module *m, const sd_pass_options *o, sd_arena *scratch,
                                sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes_for(m, o, r, rewrite);
}
