// Windows of sparse products, see sparse_windows.h.
#include "ir/ops/sparse_windows.h"

#include <string.h>

sard_status *sd_sparse_windows_read(const sd_node *n, sd_sparse_windows *w) {
  const sd_value *x = n->in[0];
  const sd_attr *reach = sd_node_attr(n, "reach"), *strides = sd_node_attr(n, "strides");
  memset(w, 0, sizeof *w);
  w->spatial = reach->kind == SD_ATTR_INTS ? (int)reach->n : 0;
  if (w->spatial == 0) return NULL;
  bool fits = w->spatial == x->rank - 2 || w->spatial == x->rank - 1;
  if (strides->kind != SD_ATTR_INTS || (int)strides->n != w->spatial || !fits)
    return SD_SH_ERR(n, MODEL, "windows of %d dims for x of rank %d", w->spatial, x->rank);
  for (int i = 0; i < w->spatial; i++) {
    int64_t size;
    w->stride[i] = strides->ints[i], w->reach[i] = reach->ints[i];
    bool known = sd_dim_is_const(sd_sh_tab(n), x->dims[1 + i], &size);
    if (w->stride[i] < 1 || w->reach[i] < 1 || !known || size < w->reach[i])
      return SD_SH_ERR(n, MODEL, "windows of %lld by steps of %lld along dim %d of x", (long long)w->reach[i],
                       (long long)w->stride[i], 1 + i);
  }
  return NULL;
}

// Is axis i of x, which has so many, that of the channels?
static bool is_channel(const sd_sparse_windows *w, int i, int rank) { return i == rank - 1 && (w->spatial == 0 || i > w->spatial); }

bool sd_sparse_windows_inside(const sd_node *n, const sd_sparse_windows *w, int64_t at, int64_t side) {
  const sd_value *x = n->in[0];
  bool inside = at >= 0;
  int last = x->rank - 1, first = w->spatial ? 1 : last;
  for (int i = last; i >= first && inside; i--) {
    int64_t size;
    if (!sd_dim_is_const(sd_sh_tab(n), x->dims[i], &size)) return false;
    bool channel = is_channel(w, i, x->rank);
    int64_t place = i == first && !channel ? at : at % size;
    inside = place + (i == last ? side : 1) <= (channel ? size : w->reach[i - 1]);
    at = (at - place) / size;
  }
  return inside && (w->spatial > 0 || at == 0);
}

void sd_sparse_windows_dims(sd_dimtab *t, const sd_sparse_windows *w, sd_dim *dims) {
  for (int i = 0; i < w->spatial; i++) {
    sd_dim steps = sd_dim_floordiv(t, sd_dim_sub(t, dims[1 + i], sd_dim_const(t, w->reach[i])),
                                   sd_dim_const(t, w->stride[i]));
    dims[1 + i] = sd_dim_add(t, steps, sd_dim_const(t, 1));
  }
}

sd_expr *sd_sparse_windows_load(sd_tb *b, const sd_node *n, const sd_sparse_windows *w, sd_expr *const *idx, sd_expr *place, sd_expr *behind) {
  const sd_value *x = n->in[0];
  sd_expr *at[SD_MAX_RANK];
  int last = x->rank - 1, first = w->spatial ? 1 : last;
  for (int i = last; i >= 0; i--) {
    sd_expr *size = x_dim(b, x->dims[i]), *inside = i > first ? x_bin(b, SD_X_MOD, place, size) : place;
    bool channel = is_channel(w, i, x->rank);
    at[i] = channel ? inside : idx[i];
    if (i >= first && !channel) at[i] = x_add(b, sd_x_mul_dim(b->k, idx[i], sd_dim_const(b->dims, w->stride[i - 1])), inside);
    if (i == last) at[i] = x_add(b, at[i], behind);
    place = x_bin(b, SD_X_FLOORDIV, place, size);
  }
  return sd_tb_load(b, n, 0, at);
}
