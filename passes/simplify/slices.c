// A split whose parts are read in place becomes slices: one node for each part, which joins what reads it,
// where a node with several results could not.
#include "passes/edit.h"

static bool takes_moves(const sd_node *n) {
  if (sd_op_has(n->op, SD_JOINS))
    return false; // their operands are computed in their memory
  return n->op->kind <= SD_COMPOSITE || sd_op_has(n->op, SD_TAKES_ANY);
}

// Sizes of the parts as numbers, and that all that read them take moves in.
static bool fits(const sd_node *n, int axis) {
  if (!sd_edit_is(n, "Split")) return false;
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *y = n->out[i];
    if (!y) continue;
    if (sd_value_is_output(y) || !sd_dim_is_const(n->graph->module->dims, y->dims[axis], NULL)) return false;
    for (uint32_t u = 0; u < y->uses.len; u++)
      if (!takes_moves(y->uses.at[u].node) || y->uses.at[u].node->graph != n->graph) return false;
  }
  return true;
}

static sard_status *slice(sd_node *n, sd_value *y, int64_t axis, int64_t from, int64_t to) {
  sd_value *part;
  SD_TRY(sd_edit_slice(n->graph, n, n->in[0], axis, from, to, &part));
  part->name = y->name;
  if (part->def) part->def->name = n->name, part->def->onnx_index = n->onnx_index;
  sd_value_replace(y, part);
  return NULL;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  int64_t axis = sd_node_int(n, "axis", 0), from = 0, size;
  if (axis < 0 && n->n_in) axis += n->in[0]->rank;
  *done = fits(n, (int)axis);
  if (!*done) return NULL;
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *y = n->out[i];
    if (!y || !sd_dim_is_const(n->graph->module->dims, y->dims[axis], &size)) continue;
    if (y->uses.len) SD_TRY(slice(n, y, axis, from, from + size));
    from += size;
  }
  sd_node_remove(n);
  return NULL;
}

sard_status *sd_pass_slices(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.strided_reads ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
