// Bodies of the rows that passes make.
#include <string.h>

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

// ---- sard.For ----
sard_status *sd_for_dims(const sd_node *n, sd_dim *trip, sd_dim *counter) {
  sd_dimtab *t = n->graph->module->dims;
  const char *p = sd_node_str(n, "trip", ""), *c = sd_node_str(n, "counter", "");
  *trip = sd_dim_parse(t, &p);
  *counter = sd_dim_parse(t, &c);
  if (*trip == SD_DIM_NONE || *p) return SD_SH_ERR(n, MODEL, "'%s' is not a number of passes", sd_node_str(n, "trip", ""));
  if (*counter == SD_DIM_NONE || *c || sd_dim_get(t, *counter)->op != SD_DIM_SYM)
    return SD_SH_ERR(n, MODEL, "'%s' is not the name of a counter", sd_node_str(n, "counter", ""));
  return NULL;
}

sard_status *sd_for_position(const sd_node *n, uint32_t out, sd_dim *position) {
  const sd_attr *at = sd_node_attr(n, "at");
  sd_dim trip;
  SD_TRY(sd_for_dims(n, &trip, position));
  if (at->kind != SD_ATTR_STRINGS) return NULL;
  const char *p = out >= n->n_in && out - n->n_in < at->n ? at->strings[out - n->n_in] : "?";
  *position = sd_dim_parse(n->graph->module->dims, &p);
  return *position == SD_DIM_NONE || *p ? SD_SH_ERR(n, MODEL, "output %u has no position", out) : NULL;
}

static bool same_dims(const sd_value *x, const sd_value *y) {
  const sd_dimtab *t = x->graph->module->dims;
  if (x->dtype != y->dtype || x->rank != y->rank) return false;
  for (int d = 0; d < x->rank; d++)
    if (x->dims[d] != y->dims[d] && sd_dim_eq(t, x->dims[d], y->dims[d]) == 0) return false;
  return true;
}

sard_status *sd_shape_for(sd_node *n) {
  sd_dim trip, counter, dims[SD_MAX_RANK];
  const sd_graph *g = n->n_body == 1 ? n->bodies[0] : NULL;
  SD_TRY(sd_for_dims(n, &trip, &counter));
  if (!g || g->inputs.len != n->n_in || g->outputs.len != n->n_out || n->n_out < n->n_in)
    return SD_SH_ERR(n, MODEL, "%u states and %u outputs do not fit the body", n->n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i] || !same_dims(n->in[i], g->inputs.at[i]) || !same_dims(n->in[i], g->outputs.at[i]))
      return SD_SH_ERR(n, UNSUPPORTED, "state %u changes its type or shape from pass to pass", i);
    for (int d = 0; d < n->in[i]->rank; d++)
      sd_module_require(n->graph->module, g->outputs.at[i]->dims[d], n->in[i]->dims[d], false, *n->name ? n->name : "a state of a loop");
    SD_TRY(sd_sh_like(n, i, i));
  }
  for (uint32_t i = n->n_in; i < n->n_out; i++) {
    const sd_value *v = g->outputs.at[i];
    if (v->rank < 0 || v->rank >= SD_MAX_RANK)
      return SD_SH_ERR(n, UNSUPPORTED, "output %u of the body has no known rank, or more than %d dims", i, SD_MAX_RANK - 1);
    dims[0] = trip;
    memcpy(dims + 1, v->dims, (size_t)v->rank * sizeof *dims);
    SD_TRY(sd_sh_set(n, i, v->dtype, v->rank + 1, dims));
  }
  return NULL;
}

// ---- sard.At ----
static sard_status *at_index(const sd_node *n, int *axis, sd_dim *index) {
  const char *p = sd_node_str(n, "index", "");
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", 0), n->in[0]->rank, axis));
  *index = sd_dim_parse(n->graph->module->dims, &p);
  return *index == SD_DIM_NONE || *p ? SD_SH_ERR(n, MODEL, "'%s' is not a position", sd_node_str(n, "index", "")) : NULL;
}

sard_status *sd_shape_at(sd_node *n) {
  sd_dim index, dims[SD_MAX_RANK];
  int axis;
  SD_TRY(at_index(n, &axis, &index));
  for (int d = 0, to = 0; d < n->in[0]->rank; d++)
    if (d != axis) dims[to++] = n->in[0]->dims[d];
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank - 1, dims);
}

sd_expr *sd_pull_at(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *at[SD_MAX_RANK];
  sd_dim index;
  int axis;
  (void)out;
  sard_status *st = at_index(n, &axis, &index);
  if (st) return sd_tb_fail(b, st);
  for (int d = 0, from = 0; d < n->in[0]->rank; d++) at[d] = d == axis ? sd_x_dim(b->k, index) : idx[from++];
  return sd_tb_load(b, n, 0, at);
}
