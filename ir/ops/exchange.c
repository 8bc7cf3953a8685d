// Exchanges between devices: their types. What they do is a function of the runtime (runtime/host_comm.c).
#include "ir/ops.h"
#include "ir/ops/shape.h"
#include "runtime/collective/group.h"

enum { MOST_RANKS = 64 };

static sard_status *check_rank(const sd_node *n) {
  int64_t rank = sd_node_int(n, "rank", 0), ranks = sd_node_int(n, "ranks", 1);
  sd_dtype t = n->in[0]->dtype;
  bool sums = n->op->ins[0].cls == 'N';
  if (ranks < 1 || ranks > MOST_RANKS || rank < 0 || rank >= ranks)
    return SD_SH_ERR(n, MODEL, "rank %lld of %lld devices", (long long)rank, (long long)ranks);
  if (sd_dtype_bits(t) < 8 || t == SD_STRING || t == SD_OBJECT || (sums && !sd_group_sums(t)))
    return SD_SH_ERR(n, UNSUPPORTED, "devices cannot exchange %s so", sd_dtype_name(t));
  return NULL;
}

// The share of the axis and its size are known; which of them the operand has and which the result follows
// from what the node sums: who sums shares has the whole.
sard_status *sd_shape_exchange(sd_node *n) {
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(check_rank(n));
  const sd_value *x = n->in[0];
  for (int d = 0; d < x->rank; d++) dims[d] = x->dims[d];
  int64_t axis = sd_node_int(n, "axis", -1), size = sd_node_int(n, "size", 0),
          unit = sd_node_int(n, "unit", 1);
  if (!sd_node_attr(n, "axis")) return sd_sh_set(n, 0, x->dtype, x->rank, dims);
  if (axis < 0 || axis >= x->rank || size < 0 || unit < 1 || size % unit)
    return SD_SH_ERR(n, MODEL, "axis %lld of size %lld in units of %lld", (long long)axis, (long long)size,
                     (long long)unit);
  int rank = (int)sd_node_int(n, "rank", 0), ranks = (int)sd_node_int(n, "ranks", 1);
  sd_dim whole = sd_dim_const(t, size),
         share = sd_dim_const(t, (int64_t)(sd_share_begin((uint64_t)size, (uint64_t)unit, rank + 1, ranks) -
                                           sd_share_begin((uint64_t)size, (uint64_t)unit, rank, ranks)));
  bool gathers = n->op->ins[0].cls != 'N';
  if (sd_dim_eq(t, dims[axis], gathers ? share : whole) != 1)
    return SD_SH_ERR(n, MODEL, "axis %lld is not %s elements", (long long)axis,
                     sd_dim_text(t, gathers ? share : whole, n->graph->module->arena));
  dims[axis] = gathers ? whole : share;
  return sd_sh_set(n, 0, x->dtype, x->rank, dims);
}
