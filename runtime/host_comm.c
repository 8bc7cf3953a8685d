// Exchanges between the devices of a group (runtime/collective/group.h): sard.AllReduce, AllGather,
// ReduceScatter. A device alone has the whole already.
#include <string.h>

#include "runtime/collective/group.h"
#include "runtime/host_ops.h"

enum { RANK, RANKS, TAG, AXIS, SIZE, UNIT }; // parameters

static sard_status *check(const sd_host_call *c, const sd_collective *x) {
  int64_t rank = c->param[RANK], ranks = c->param[RANKS];
  bool sums = x->kind != SD_ALL_GATHER;
  if (ranks < 1 || ranks > 64 || rank < 0 || rank >= ranks)
    return SD_ERR(MODEL, "rank %lld of %lld devices", (long long)rank, (long long)ranks);
  if (sd_dtype_bits(x->dtype) < 8 || (sums && !sd_group_sums(x->dtype)))
    return SD_ERR(MODEL, "devices cannot exchange %s so", sd_dtype_name(x->dtype));
  if (ranks > 1 && (!c->group || c->group->ranks != ranks || c->group->rank != rank))
    return SD_ERR(USAGE, "a part for device %lld of %lld cannot run by itself", (long long)rank + 1,
                  (long long)ranks);
  return NULL;
}

// The axis as it is cut: it has to be what the rank's share says.
static sard_status *find_axis(const sd_host_call *c, sd_collective *x, int64_t *dims) {
  const sd_host_tensor *t = &c->in[0];
  int64_t axis = c->param[AXIS], size = c->param[SIZE], unit = c->param[UNIT];
  if (axis < 0 || axis >= t->rank || size < 0 || unit < 1 || size % unit)
    return SD_ERR(MODEL, "axis %lld of size %lld in units of %lld", (long long)axis, (long long)size,
                  (long long)unit);
  int rank = (int)c->param[RANK], ranks = (int)c->param[RANKS];
  int64_t share = (int64_t)(sd_share_begin((uint64_t)size, (uint64_t)unit, rank + 1, ranks) -
                            sd_share_begin((uint64_t)size, (uint64_t)unit, rank, ranks));
  int64_t want = x->kind == SD_ALL_GATHER ? share : size;
  if (t->dims[axis] != want)
    return SD_ERR(MODEL, "axis %lld has %lld elements, not %lld", (long long)axis, (long long)t->dims[axis],
                  (long long)want);
  for (int d = 0; d < t->rank; d++) {
    dims[d] = t->dims[d];
    if (d < axis) x->rows *= (uint64_t)dims[d];
    if (d > axis) x->inner *= (uint64_t)dims[d];
  }
  dims[axis] = x->kind == SD_ALL_GATHER ? size : share;
  x->size = (uint64_t)size, x->unit = (uint64_t)unit;
  return NULL;
}

static sard_status *exchange(sd_host_call *c, sd_collective_kind kind) {
  const sd_host_tensor *t = &c->in[0];
  sd_collective x = {.kind = kind, .dtype = t->dtype, .tag = c->param[TAG], .rows = 1, .inner = 1, .unit = 1};
  int64_t dims[SD_HOST_RANK];
  SD_TRY(check(c, &x));
  if (kind == SD_ALL_REDUCE) memcpy(dims, t->dims, sizeof dims), x.size = t->count;
  else
    SD_TRY(find_axis(c, &x, dims));
  if (c->n_out != 1 || c->out[0].dtype != t->dtype || c->out[0].rank != t->rank)
    return SD_ERR(MODEL, "an exchange gives a tensor of the type and rank that it gets");
  SD_TRY(c->make(c, 0, dims));
  x.in = t->data, x.out = c->out[0].data;
  if (c->param[RANKS] > 1) return c->group->run(c->group, &x);
  uint64_t bytes = c->out[0].count * (uint64_t)sd_dtype_bits(t->dtype) / 8;
  if (bytes) memcpy(x.out, x.in, bytes);
  return NULL;
}

sard_status *sd_host_all_reduce(sd_host_call *c) { return exchange(c, SD_ALL_REDUCE); }
sard_status *sd_host_all_gather(sd_host_call *c) { return exchange(c, SD_ALL_GATHER); }
sard_status *sd_host_reduce_scatter(sd_host_call *c) { return exchange(c, SD_REDUCE_SCATTER); }
