// Windows of convolutions, see sparse_windows.h.
#include "passes/simplify/sparse_windows.h"

#include "passes/edit.h"

static int64_t int_at(const sd_node *n, const char *attr, int i) { // of default 1
  const sd_attr *a = sd_node_attr(n, attr);
  return a && a->kind == SD_ATTR_INTS && (uint32_t)i < a->n ? a->ints[i] : 1;
}

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
    place[i] = tap % c->dims[i] * int_at(n, "dilations", i), tap /= c->dims[i];
  for (int i = 0; i + 2 < c->rank; i++) {
    sd_dim_is_const(n->graph->module->dims, x->dims[1 + i], &size);
    at = at * size + place[i];
  }
  return at * c->dims[c->rank - 2];
}

bool sd_sparse_window_rows(const sd_node *n) { return int_at(n, "dilations", n->in[1]->data->rank - 3) == 1; }

void sd_sparse_window_set(sd_node *y, const sd_node *n, bool rows) {
  const sd_const *c = n->in[1]->data;
  int last = c->rank - 3;
  int64_t reach[SD_MAX_RANK], strides[SD_MAX_RANK];
  for (int i = 0; i + 2 < c->rank; i++)
    reach[i] = (c->dims[i] - 1) * int_at(n, "dilations", i) + 1, strides[i] = int_at(n, "strides", i);
  if (rows) reach[last] *= c->dims[last + 1], strides[last] *= c->dims[last + 1];
  sd_node_set_ints(y, "reach", reach, (uint32_t)c->rank - 2);
  sd_node_set_ints(y, "strides", strides, (uint32_t)c->rank - 2);
}
