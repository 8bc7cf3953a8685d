// Constant matrices of products get a row for each output, [N,K], so that what the sum of an output runs over lies side by side.
#include "passes/edit.h"

static bool fits(const sd_node *n) {
  if (!sd_edit_is(n, "MatMul") && !sd_edit_is(n, "sard.MatMul8") && !sd_edit_is(n, "Gemm")) return false;
  const sd_value *w = n->in[1];
  return w->data && w->rank == 2 && sd_dtype_bits(w->dtype) >= 8 && !sd_node_int(n, "transB", 0);
}

// All products that read the matrix as it is.
static sard_status *rewrite(sd_node *n, bool *done) {
  sd_value *w, *turned;
  *done = fits(n);
  if (!*done) return NULL;
  w = n->in[1];
  SD_TRY(sd_edit_transpose(n->graph, n, w, (int64_t[]){1, 0}, 2, &turned));
  turned->name = w->name;
  for (uint32_t i = w->uses.len; i-- > 0;) {
    sd_use u = w->uses.at[i];
    if (u.operand != 1 || u.node->graph != n->graph || !fits(u.node)) continue;
    sd_node_set_input(u.node, 1, turned);
    sd_node_set_int(u.node, "transB", 1);
  }
  return NULL;
}

sard_status *sd_pass_rows(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.output_rows ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
