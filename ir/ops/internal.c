// Bodies of the rows that passes make.
#include "ir/lower.h"
#include "ir/ops.h"
#include "ir/ops/shape.h"

sard_status *sd_shape_dims(sd_node *n) {
  const sd_attr *a = sd_node_attr(n, "dims");
  sd_dimtab *t = n->graph->module->dims;
  sd_dim elems[SD_SH_ELEMS], count = sd_dim_const(t, a->n);
  if (a->n > SD_SH_ELEMS) return SD_SH_ERR(n, INTERNAL, "%u sizes, at most %d are possible", a->n, SD_SH_ELEMS);
  for (uint32_t i = 0; i < a->n; i++) {
    const char *p = a->strings[i];
    elems[i] = sd_dim_parse(t, &p);
    if (elems[i] == SD_DIM_NONE || *p) return SD_SH_ERR(n, MODEL, "'%s' is not a size", a->strings[i]);
  }
  SD_TRY(sd_sh_set(n, 0, (sd_dtype)sd_node_int(n, "dtype", SD_I64), sd_node_int(n, "scalar", 0) ? 0 : 1, &count));
  sd_sh_set_elems(n, 0, elems, a->n);
  return NULL;
}

sd_expr *sd_pull_dims(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  const sd_value *y = n->out[out];
  sd_expr *x = NULL;
  for (uint32_t i = 0; i < y->n_elems; i++) {
    sd_expr *e = sd_x_dim(b->k, y->elems[i]);
    x = x ? sd_x_sel(b->k, sd_x_bin(b->k, SD_X_EQ, idx[0], sd_x_i(b->k, SD_I64, i)), e, x) : e;
  }
  return sd_x_cast(b->k, sd_compute_type(y->dtype), x ? x : sd_x_i(b->k, SD_I64, 0));
}
