// How much work a nest is, how it is split over the grid, and the order of its axes. The split depends on
// shapes only.
#include "codegen/choose_nest.h"
#include "runtime/base/alloc.h"

double sd_choose_points(const sd_choice *c) {
  double p = 1;
  for (uint32_t i = 0; i < c->n->n_axes; i++) p *= (double)sd_choose_guess(c, c->n->axes[i]);
  return p;
}

double sd_choose_reduce_work(const sd_choice *c) {
  double w = 0;
  for (uint32_t i = 0; i < c->reductions.len; i++) w += sd_access_steps(c->k->dims, c->reductions.at[i].expr);
  return w;
}

// Loads of a point whose place other loads decide, where there are several (the walk through a tree): each
// takes about as long as an element of a map.
double sd_choose_chained_loads(const sd_choice *c) {
  double n = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    bool opaque = false;
    for (uint32_t i = 0; i < c->n->n_axes && !c->loads.at[l].reduce; i++)
      opaque |= sd_access_stride(c->k, c->loads.at[l].load->a[0], c->n->axes[i]) == SD_STRIDE_OPAQUE;
    n += opaque;
  }
  return n < 1 ? 1 : n;
}

int64_t sd_choose_grid_axis(const sd_choice *c, sd_axis *a, int64_t want, int64_t step) {
  int64_t e = sd_choose_guess(c, a);
  if (want < 2 || e <= step) return 1;
  int64_t steps = sd_ceil_div(e, step), tiles = want < steps ? want : steps;
  a->block = sd_ceil_div(steps, tiles) * step;
  return sd_ceil_div(e, a->block);
}

void sd_choose_grid_outer(sd_choice *c, int64_t want) {
  for (uint32_t i = 0; i < c->n->n_axes && i < c->split && want > 1; i++) {
    sd_axis *a = c->n->axes[i];
    int64_t vectors = c->reductions.len ? 1 : 4;
    int64_t step = (a->unroll > 1 ? a->unroll : 1) * (a->vec > 0 ? (int64_t)a->vec * c->lanes * vectors : 1);
    if (sd_dtype_bits(c->n->stores.at[0].buf->dtype) < 8)
      step = step % 4 ? 4 * step : step; // tiles that end with a byte
    want = sd_ceil_div(want, sd_choose_grid_axis(c, a, want, step));
  }
}

void sd_choose_move_axis(sd_nest *n, int from, int to) {
  sd_axis *a = n->axes[from];
  if (from > to) memmove(n->axes + to + 1, n->axes + to, (size_t)(from - to) * sizeof a);
  else
    memmove(n->axes + from, n->axes + from + 1, (size_t)(to - from) * sizeof a);
  n->axes[to] = a;
}

int sd_choose_axis_position(const sd_nest *n, const sd_axis *a) {
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (n->axes[i] == a) return (int)i;
  return -1;
}
