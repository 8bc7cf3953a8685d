// Turned: points whose loads are contiguous along another axis than their stores. Both are made along their
// own axis; in between, a tile of the operand stands in shared memory.
#include "codegen/choose_cuda_nest.h"

#define LEAST_SIDE   16
#define LEAST_POINTS 16384

// The axis along which the load is contiguous, where that is another one than `last` and the load moves with
// both.
static const sd_axis *turned_axis(const sd_cuda_choice *c, const sd_expr *load, const sd_axis *last) {
  if (sd_access_stride(c->k, load->a[0], last) != SD_STRIDE_MANY || sd_dtype_bits(load->buf->dtype) < 8)
    return NULL;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i] != last && sd_access_stride(c->k, load->a[0], c->n->axes[i]) == SD_STRIDE_ONE)
      return c->n->axes[i];
  return NULL;
}

static int bytes_of(const sd_buf *b) { return sd_dtype_bits(b->dtype) / 8; }

static bool find_turned(sd_cuda_choice *c, const sd_axis *last, const sd_expr **loads) {
  sd_cuda_nest *o = c->out;
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    const sd_axis *t = turned_axis(c, l, last);
    if (!t) continue;
    if ((o->turn && o->turn != t) || o->n_turned == SD_CUDA_TURNED_LOADS) return false;
    o->turn = t, loads[o->n_turned++] = l;
  }
  return o->n_turned > 0;
}

static bool long_enough(const sd_cuda_choice *c, const sd_axis *a) {
  return !sd_dim_is_const(c->k->dims, a->extent, NULL) || sd_cuda_extent(c, a) >= LEAST_SIDE;
}

// Elements of a thread along both axes: 4 bytes of the widest of them.
static int lanes_of(const sd_cuda_choice *c, const sd_axis *last, const sd_expr *const *loads) {
  const sd_cuda_nest *o = c->out;
  int widest = bytes_of(c->n->stores.at[0].buf);
  for (uint32_t i = 0; i < o->n_turned; i++)
    widest = bytes_of(loads[i]->buf) > widest ? bytes_of(loads[i]->buf) : widest;
  int v = widest ? 4 / widest : 1;
  while (v > 1 && !(sd_dim_multiple_of(c->k->dims, last->extent, v) &&
                    sd_dim_multiple_of(c->k->dims, o->turn->extent, v)))
    v /= 2;
  return v > 0 ? v : 1;
}

bool sd_choose_cuda_turned(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  const sd_expr *loads[SD_CUDA_TURNED_LOADS];
  const sd_axis *last = c->n->n_axes >= 2 ? o->axes[c->n->n_axes - 1] : NULL;
  if (!c->alone || !last || c->reductions.len || sd_cuda_has_limits(c) || sd_cuda_reads_own(c)) return false;
  if (sd_access_stride(c->k, c->n->stores.at[0].offset, last) != SD_STRIDE_ONE ||
      !find_turned(c, last, loads))
    return false;
  if (!long_enough(c, last) || !long_enough(c, o->turn) || (sd_cuda_known(c) && sd_cuda_points(c) < LEAST_POINTS))
    return false;
  int v = lanes_of(c, last, loads);
  sd_expr *by = sd_cuda_make_lanes(c, c->n->n_axes - 1, v);
  sd_cuda_split s = sd_cuda_split_axis(c->k, o->turn, v);
  o->turn_lane = s.lane, o->turn_outer = s.outer;
  for (uint32_t i = 0; i < o->n_turned; i++) {
    o->turned[i].inside = sd_x_subst(c->k, (sd_expr *)loads[i], last, by);
    o->turned[i].outside = sd_x_subst(c->k, (sd_expr *)loads[i], o->turn, s.by);
  }
  o->form = SD_CUDA_TURNED, o->threads = 256;
  return true;
}
