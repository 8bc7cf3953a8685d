// Grouped convolutions in channels-last order read the operand at channel // size of a group: with an axis
// for groups and one for the channels of a group, every access is affine.
#include "codegen/groups.h"

#include "codegen/access.h"

typedef struct finder {
  const sd_axis *axis;
  int64_t by; // the only divisor, 0 = none yet, -1 = several
} finder;

static bool find_quotient(void *user, const sd_expr *e) {
  finder *f = user;
  int64_t by;
  if (e->op != SD_X_FLOORDIV || !sd_x_uses_axis(e, f->axis)) return true;
  bool plain = e->a[0]->op == SD_X_AXIS && sd_x_const_value(e->a[1], NULL, &by) && (!f->by || f->by == by);
  f->by = plain ? by : -1;
  return true;
}

// The axis of contiguous stores, where operands of a reduction are read at a quotient of it; -1 = it is not.
static int grouped_axis(sd_kernel *k, const sd_nest *n, int64_t least, sd_arena *a, int64_t *by) {
  sd_accesses loads = {0};
  sd_reductions sums = {0};
  int64_t extent;
  int i = sd_access_store_axis(k, n);
  if (i < 0 || n->axes[i]->limit || !sd_dim_is_const(k->dims, n->axes[i]->extent, &extent)) return -1;
  finder f = {n->axes[i], 0};
  sd_access_collect(k, n, a, &loads, &sums);
  for (uint32_t l = 0; l < loads.len; l++)
    if (loads.at[l].reduce) sd_x_walk(k, loads.at[l].load->a[0], find_quotient, &f);
  *by = f.by;
  return f.by >= least && extent % f.by == 0 && extent > f.by ? i : -1;
}

sard_status *sd_split_groups(sd_kernel *k, sd_nest *n, int64_t least, sd_arena *a) {
  int64_t by;
  if (n->sequential || !n->stores.len || n->n_axes >= SD_MAX_AXES) return NULL;
  int axis = grouped_axis(k, n, least, a, &by);
  return axis < 0 ? NULL : sd_nest_split(k, n, (uint32_t)axis, by);
}
