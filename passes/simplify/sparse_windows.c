// Windows of convolutions, see sparse_windows.h.
#include "passes/simplify/sparse_windows.h"

#include "passes/edit.h"

bool sd_sparse_window_is(const sd_node *n, int64_t *taps) {
  const sd_value *x = n->in[0];
  const sd_const *c = n->in[1]->data;
  int64_t size;
  if (sd_node_int(n, "channels_last", 0) != 1 || sd_node_int(n, "group", 1) != 1 ||
      !sd_edit_all_are(n, "pads", 0))
    return false;
  if (strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") != 0 || !c || c->rank != x->rank) return false;
  *taps = 1;
  for (int i = 0; i + 2 < c->rank; i++) {
    *taps *= c->dims[i];
    if (!sd_dim_is_const(n->graph->module->dims, x->dims[1 + i], &size)) return false;
  }
  return true;
}

int64_t sd_sparse_window_at(const sd_node *n, int64_t tap) {
  const sd_value *x = n->in[0];
  const sd_const *c = n->in[1]->data;
  int64_t at = 0, place[SD_MAX_RANK] = {0}, size = 1;
  for (int i = c->rank - 3; i >= 0; i--)
    place[i] = tap % c->dims[i] * sd_edit_entry(n, "dilations", i, 1), tap /= c->dims[i];
  for (int i = 0; i + 2 < c->rank; i++) {
    sd_dim_is_const(n->graph->module->dims, x->dims[1 + i], &size);
    at = at * size + place[i];
  }
  return at * c->dims[c->rank - 2];
}

bool sd_sparse_window_rows(const sd_node *n) { return sd_edit_entry(n, "dilations", n->in[1]->data->rank - 3, 1) == 1; }

void sd_sparse_window_set(sd_node *y, const sd_node *n, bool rows) {
  const sd_const *c = n->in[1]->data;
  int last = c->rank - 3;
  int64_t reach[SD_MAX_RANK], strides[SD_MAX_RANK];
  for (int i = 0; i + 2 < c->rank; i++)
    reach[i] = (c->dims[i] - 1) * sd_edit_entry(n, "dilations", i, 1) + 1, strides[i] = sd_edit_entry(n, "strides", i, 1);
  if (rows) reach[last] *= c->dims[last + 1], strides[last] *= c->dims[last + 1];
  sd_node_set_ints(y, "reach", reach, (uint32_t)c->rank - 2);
  sd_node_set_ints(y, "strides", strides, (uint32_t)c->rank - 2);
}
