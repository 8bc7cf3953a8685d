// Products with weights in blocks of few bits that may round their input (accuracy level 4 of MatMulNBits) do
// so where machines have products of bytes: each block of a row to 8 bits with a scale of its own
// (codegen/blocks.h).
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

static bool fits(const sd_node *n, const sd_pass_target *t) {
  if (!sd_edit_is(n, "sard.MatMulBits") || !sd_node_int(n, "rounds", 0)) return false;
  const sd_value *a = n->in[0], *w = n->in[1];
  return a->dtype == SD_F32 && a->rank < SD_MAX_RANK && w->data && !sd_node_int(n, "columns", 0) &&
         sd_dtype_bits(w->dtype) <= t->rounded_bits;
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *t, bool *done) {
  XG_SCOPE xg g = {.at = n};
  sd_dim dims[SD_MAX_RANK];
  *done = fits(n, t);
  if (!*done) return NULL;
  sd_value *a = n->in[0];
  int64_t block = sd_node_int(n, "block_size", 0);
  memcpy(dims, a->dims, (size_t)a->rank * sizeof *dims);
  dims[a->rank - 1] = sd_dim_floordiv(sd_sh_tab(n), a->dims[a->rank - 1], sd_dim_const(sd_sh_tab(n), block));
  dims[a->rank] = sd_dim_const(sd_sh_tab(n), block);
  sd_node *q =
      sd_xg_node(&g, "sard.QuantizeRows", (sd_value *[]){sd_xg_reshape(&g, a, dims, a->rank + 1)}, 1, 2);
  if (!q) return sd_xg_take(&g);
  sd_value *in[6] = {sd_xg_reshape(&g, q->out[0], a->dims, a->rank)};
  for (uint32_t i = 1; i < 5; i++) in[i] = sd_xg_in(&g, i);
  in[5] = q->out[1];
  const char *spec = sd_xg_fmt(&g, "sard.MatMulBits block_size=%lld zero=%lld", (long long)block,
                               (long long)sd_node_int(n, "zero", 0));
  sd_value *y = sd_xg_op(&g, spec, in, 6);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_pass_rounds(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.rounded_bits ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
