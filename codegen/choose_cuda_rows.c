// Nests whose reductions a group of threads shares: softmax, norms, long sums.
#include "codegen/choose_cuda_nest.h"

#define LONG_SUM    32   // steps from which on a reduction is shared
#define SHORT_ROW   8    // below, most threads of a group would have nothing to do
#define WARP_SUM    1024 // steps up to which a warp is enough
#define MANY_POINTS 4096 // that fill a GPU with a thread each

// With a thread for each point, do neighbouring threads read neighbouring elements in all reductions?
static bool coalesced(const sd_cuda_choice *c) {
  if (c->n->n_axes == 0) return false;
  const sd_axis *last = c->out->axes[c->n->n_axes - 1];
  for (uint32_t i = 0; i < c->loads.len; i++) {
    if (!c->loads.at[i].reduce) continue;
    sd_stride s = sd_access_stride(c->k, c->loads.at[i].load->a[0], last);
    if (s != SD_STRIDE_ONE && s != SD_STRIDE_ZERO) return false;
  }
  return true;
}

bool sd_choose_cuda_rows(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  double steps = 0, points = 1, columns = 1;
  uint32_t at = 0;
  bool row[SD_MAX_AXES] = {false};
  for (uint32_t i = 0; i < c->n->n_axes; i++) {
    points *= sd_cuda_extent(c, c->n->axes[i]);
    for (uint32_t j = 0; j < c->reductions.len; j++)
      row[i] |= !c->reductions.at[j].parent && sd_x_uses_axis(c->reductions.at[j].expr, c->n->axes[i]);
    if (!row[i]) columns *= sd_cuda_extent(c, c->n->axes[i]);
  }
  for (uint32_t j = 0; j < c->reductions.len; j++)
    if (!c->reductions.at[j].parent && sd_access_steps(c->k->dims, c->reductions.at[j].expr) > steps)
      steps = sd_access_steps(c->k->dims, c->reductions.at[j].expr);
  double most = steps > columns ? steps : columns;
  if (sd_choose_cuda_reduces_own(c) || most < SHORT_ROW || (columns < 2 && steps < LONG_SUM)) return false;
  if (columns < 2 && coalesced(c) && points >= MANY_POINTS) return false;
  for (int k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++)
      if (row[i] == (k == 0)) o->axes[at++] = c->n->axes[i];
    if (k == 0) o->n_rows = at;
  }
  for (uint32_t i = 0; i < o->n_rows; i++) // a limit that moves with a column would need the columns first
    for (uint32_t j = o->n_rows; o->axes[i]->limit && j < at; j++)
      if (sd_x_uses_axis(o->axes[i]->limit, o->axes[j])) return false;
  o->form = SD_CUDA_ROWS;
  o->group = most <= WARP_SUM || !c->whole ? SD_CUDA_WARP : c->threads;
  sd_choose_cuda_along_stores(c, o->n_rows);
  return true;
}
