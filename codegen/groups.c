// Grouped convolutions in channels-last order read the operand at channel // size of a group: with an axis
// for groups and one for the channels of a group, every access is affine.
#include "codegen/groups.h"

#include "codegen/access.h"

// The axis of contiguous stores, where operands of a reduction are read at a quotient of it; -1 = it is not.
static int grouped_axis(sd_kernel *k, const sd_nest *n, int64_t least, sd_arena *a, int64_t *by) {
  sd_accesses loads = {0};
  sd_reductions sums = {0};
  int64_t extent;
  int i = sd_access_store_axis(k, n);
  if (i < 0 || n->axes[i]->limit || !sd_dim_is_const(k->dims, n->axes[i]->extent, &extent)) return -1;
  sd_access_collect(k, n, a, &loads, &sums);
  *by = 0;
  for (uint32_t l = 0; l < loads.len; l++)
    if (loads.at[l].reduce) *by = sd_access_divisor(k, loads.at[l].load->a[0], SD_X_FLOORDIV, n->axes[i], false, *by);
  return *by >= least && extent % *by == 0 && extent > *by ? i : -1;
}

sard_status *sd_split_groups(sd_kernel *k, sd_nest *n, int64_t least, sd_arena *a) {
  int64_t by;
  if (n->sequential || !n->stores.len || n->n_axes >= SD_MAX_AXES) return NULL;
  int axis = grouped_axis(k, n, least, a, &by);
  return axis < 0 ? NULL : sd_nest_split(k, n, (uint32_t)axis, by);
}
