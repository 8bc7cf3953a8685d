// Chooses schedules: a nest is a contraction (choose_contraction.c), a row reduction, or a map; sizes decide
// the rest.
//
// Rules and numbers come from measurements of the emitted code; symbolic sizes are guessed
// (codegen/access.h). The work split depends on shapes only, so results do not depend on the number of
// threads.
#include "codegen/blocks.h"
#include "codegen/choose_nest.h"
#include "codegen/dot.h"
#include "codegen/groups.h"
#include "codegen/long_sums.h"
#include "codegen/phases.h"
#include "codegen/stash.h"
#include "codegen/triple.h"
#include "codegen/words.h"
#include "runtime/base/alloc.h"

#define LEAST_GROUP 4 // fewer lanes of a vector are not worth it
#define MANY_STORES 8
#define MANY_LOADS 64   // of cubic samples along three axes; those along four, whose sizes the run knows, took LLVM 4 s
#define MOST_SHARED 256 // loads of an unrolled loop

// Reductions that do not move with the vector axis run along a contiguous reduction axis in vectors.
static void schedule_row_reductions(sd_choice *c) {
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    sd_expr *r = c->reductions.at[i].expr;
    if (c->vaxis >= 0 && c->n->axes[c->vaxis]->vec > 0 && sd_x_uses_axis(r, c->n->axes[c->vaxis])) continue;
    for (int x = (int)r->n_axes - 1; x >= 0; x--) {
      sd_axis *a = r->axes[x];
      int one = 0, bad = 0;
      for (uint32_t l = 0; l < c->loads.len; l++) {
        if (c->loads.at[l].reduce != r) continue;
        sd_stride s = sd_access_stride(c->k, c->loads.at[l].load->a[0], a);
        one += s == SD_STRIDE_ONE, bad += s > SD_STRIDE_ONE;
      }
      bool nested = false;
      for (uint32_t q = 0; q < c->reductions.len; q++)
        nested |= c->reductions.at[q].parent == r && sd_x_uses_axis(c->reductions.at[q].expr, a);
      if (!one || bad || nested) continue;
      int64_t e = sd_choose_guess(c, a);
      if (e >= c->lanes / 2) a->vec = e >= 8 * c->lanes ? 4 : e >= 2 * c->lanes ? 2 : 1;
      break;
    }
  }
}

// The axis along which a load is contiguous that is far apart along the vector axis: such loads are made in
// square blocks that are turned in registers.
static int turned_axis(const sd_choice *c) {
  int found = -1, turned = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce || x->load->a[1] || sd_dtype_bits(x->load->buf->dtype) != 32) continue;
    if (sd_access_stride(c->k, x->load->a[0], c->n->axes[c->vaxis]) != SD_STRIDE_MANY) continue;
    for (int i = (int)c->n->n_axes - 1; i >= 0; i--)
      if (i != c->vaxis && sd_access_stride(c->k, x->load->a[0], c->n->axes[i]) == SD_STRIDE_ONE)
        found = i, turned++;
  }
  return turned == 1 && sd_choose_guess(c, c->n->axes[found]) >= c->lanes ? found : -1;
}

// All reductions are short and of known length (softmax over a few channels): each lane makes its own.
static bool short_reductions(const sd_choice *c) {
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    int64_t steps = 1;
    const sd_expr *r = c->reductions.at[i].expr;
    if (r->a[0]->op == SD_X_MUL) return false; // a product reads rows
    for (uint32_t x = 0; x < r->n_axes; x++) {
      if (!sd_choose_known(c, r->axes[x]) || r->axes[x]->limit) return false;
      steps *= sd_choose_guess(c, r->axes[x]);
      if (steps > 32) return false;
    }
  }
  return true;
}

// Elements below a byte are stored one by one, which is much code for each.
static bool parts_of_bytes(const sd_choice *c) {
  for (uint32_t i = 0; i < c->n->stores.len; i++)
    if (sd_dtype_bits(c->n->stores.at[i].buf->dtype) < 8) return true;
  return false;
}

// Positions that are computed along the vector axis (Resize, Gather) serve several iterations of the next
// axis that they do not depend on.
static void share_indices(sd_choice *c) {
  sd_axis *v = c->n->axes[c->vaxis], *next = NULL;
  bool computed = false;
  for (int i = (int)c->n->n_axes - 1; i >= 0 && !next; i--)
    if (i != c->vaxis && sd_choose_guess(c, c->n->axes[i]) > 1) next = c->n->axes[i];
  if (!next || c->reductions.len || next->limit || parts_of_bytes(c)) return;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_expr *offset = c->loads.at[l].load->a[0];
    if (sd_access_stride(c->k, offset, v) != SD_STRIDE_OPAQUE) continue;
    computed = true;
    for (uint32_t t = 0; t < offset->n; t++)
      if (sd_x_uses_axis(offset->a[t], v) && sd_x_uses_axis(offset->a[t], next)) return;
  }
  if (!computed || c->loads.len > MOST_SHARED / 2) return;
  int64_t e = sd_choose_guess(c, next), most = sd_min_i64(e, sd_min_i64(8, MOST_SHARED / c->loads.len)), u = most;
  while (sd_choose_known(c, next) && u > most / 2 && e % u) u--;
  next->unroll = (int32_t)(u > most / 2 ? u : most);
}

static void schedule_map(sd_choice *c) {
  sd_nest *n = c->n;
  if (c->vaxis >= 0) {
    sd_axis *v = n->axes[c->vaxis];
    int64_t e = sd_choose_guess(c, v);
    bool many = n->stores.len > MANY_STORES || c->loads.len > MANY_LOADS; // what they share fills the registers
    if (e >= c->lanes / 2 || !sd_choose_known(c, v)) v->vec = e >= 2 * c->lanes && !many ? 2 : 1;
    int turned = c->reductions.len || many ? -1 : turned_axis(c);
    if (turned >= 0 && (e >= c->lanes || (e > 4 && 3 * e > c->lanes))) v->vec = 1, n->axes[turned]->unroll = c->lanes;
    sd_dim apart;
    if (turned >= 0 && e >= 2 && e <= 4 && sd_choose_known(c, v) &&
        sd_x_coef(c->k, n->stores.at[0].offset, n->axes[turned], &apart) &&
        sd_dim_is(c->k->dims, apart,
                  e)) // few channels of pixels: vectors of pixels, put together when stored
      v->vec = 0, v->unroll = (int32_t)e, n->axes[turned]->vec = 1;
    if (v->vec > 0 && turned < 0) share_indices(c);
  }
}

static bool reductions_use(const sd_choice *c, const sd_axis *a) {
  for (uint32_t x = 0; x < c->reductions.len; x++)
    if (sd_x_uses_axis(c->reductions.at[x].expr, a)) return true;
  return false;
}

// Reductions are made once for all iterations of the axes that they do not move with: those go inside of the
// others, and no tile of the grid makes them again.
static void shared_inside(sd_choice *c) {
  sd_nest *n = c->n;
  sd_axis *v = c->vaxis >= 0 ? n->axes[c->vaxis] : NULL;
  int to = 0;
  bool moved = false;
  for (int i = 0; i < (int)n->n_axes; i++) {
    if (!reductions_use(c, n->axes[i])) continue;
    moved |= i > to;
    sd_choose_move_axis(n, i, to++);
  }
  if (moved) c->split = (uint32_t)to;
  if (v) c->vaxis = sd_choose_axis_position(n, v);
}

void sd_choose_collect(sd_choice *c) {
  c->loads.len = c->reductions.len = 0;
  sd_access_collect(c->k, c->n, c->a, &c->loads, &c->reductions);
}

static sard_status *schedule_nest(sd_choice *c) {
  sd_nest *n = c->n;
  bool done = false;
  sd_choose_collect(c);
  c->vaxis = sd_access_store_axis(c->k, n);
  if (n->sequential || n->stores.len == 0) return NULL;
  SD_TRY(sd_dot_choose(c));
  SD_TRY(sd_blocks_choose(c));
  SD_TRY(sd_words_choose(c));
  for (uint32_t i = 0; i < c->reductions.len && c->vaxis >= 0 && !done; i++) {
    sd_expr *r = c->reductions.at[i].expr;
    if (!c->reductions.at[i].parent && sd_x_uses_axis(r, n->axes[c->vaxis]))
      SD_TRY(sd_choose_contraction(c, r, c->vaxis, &done));
  }
  bool along = false; // a reduction moves with the would-be vector axis but cannot be vectorized along it
  for (uint32_t i = 0; i < c->reductions.len && c->vaxis >= 0; i++)
    along |= sd_x_uses_axis(c->reductions.at[i].expr, n->axes[c->vaxis]);
  if (!done) {
    if (!short_reductions(c)) shared_inside(c);
    if (!along || short_reductions(c)) schedule_map(c);
    for (uint32_t i = 0; i < c->reductions.len && along && c->vaxis >= 0 && n->axes[c->vaxis]->vec > 0; i++)
      if (!c->reductions.at[i].parent) sd_choose_unroll_window(c, c->reductions.at[i].expr);
    schedule_row_reductions(c);
    double work = sd_choose_points(c) * (along ? sd_choose_reduce_work(c) + 1 : sd_choose_chained_loads(c));
    if (!along && c->reductions.len) { // each row costs at least its reduction
      double rows = 1;
      for (uint32_t i = 0; i < n->n_axes; i++)
        if ((int)i != c->vaxis) rows *= (double)sd_choose_guess(c, n->axes[i]);
      work += rows * sd_choose_reduce_work(c);
    }
    if (c->grid) sd_choose_grid_outer(c, sd_min_i64((int64_t)(work / SD_TILE_ELEMS), SD_MAX_TILES));
  }
  return NULL;
}

static sard_status *schedule_items(sd_kernel *k, sd_items *items, const sd_isa *isa, const sd_loops *loops, sd_arena *a,
                                   sd_packs *packs, const sd_tuned *tuned) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) {
      sd_loops in = {items->at[i].loop, loops};
      SD_TRY(schedule_items(k, items->at[i].body, isa, &in, a, packs, tuned));
      continue;
    }
    SD_TRY(sd_split_groups(k, items->at[i].nest, LEAST_GROUP, a));
    SD_TRY(sd_split_phases(k, items->at[i].nest, a));
    sd_choice c = {.k = k,
                   .n = items->at[i].nest,
                   .isa = isa,
                   .a = a,
                   .packs = packs,
                   .loops = loops,
                   .grid = !loops && k->items.len == 1,
                   .tuned = tuned,
                   .lanes = isa->vector_bytes / 4,
                   .split = SD_MAX_AXES};
    SD_TRY(schedule_nest(&c));
  }
  return NULL;
}

sard_status *sd_choose(sd_kernel *k, const sd_isa *isa, int opt, sd_arena *a, sd_packs *packs, const sd_tuned *tuned) {
  if (opt <= 0) return NULL;
  SD_TRY(sd_stash(k, isa->vector_bytes / 4, a));
  if (packs && !tuned) SD_TRY(sd_triple(k, isa, a, packs)); // what was measured are other tiles
  if (packs && !tuned) SD_TRY(sd_long_sums(k, isa, a));
  return schedule_items(k, &k->items, isa, NULL, a, packs, tuned);
}
