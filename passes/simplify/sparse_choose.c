// Estimates of sparse products, in cycles of one core.
#include "passes/simplify/sparse_choose.h"

#include "runtime/base/alloc.h"

#define BLOCK      128              // inputs at most
#define BLOCK_STEP 32
#define CLOSE      (44 * 1024)      // bytes of turned inputs of a block: they stay in the first cache
#define LEAST_GAIN 1.15             // of the estimates
#define LARGE_PART 512              // outputs: their sums stay close, in the second cache
#define SMALL_PART 128
#define INNER_PART 32               // where a tile goes through all parts: the first one
#define FEW_TILES  4                // more would turn the same inputs again and again
#define FEW_IMAGE_TILES 2

// Cycles that turning takes for an element of x, of one with windows, and of y, and cycles of a tile.
#define TURN_X      0.4
#define TURN_WINDOW 0.75
#define TURN_Y      0.4
#define START       2000

// Of the grid, were there one part of the outputs. With windows a tile is whole lines; false: it is less than one.
static bool count_tiles(const sd_sparse_task *t, int64_t tile, int64_t *tiles) {
  int64_t each = t->across ? tile / t->across : tile;
  *tiles = each ? sd_ceil_div(t->across ? t->rows / t->across : t->rows, each) : 0;
  return each > 0;
}

// Parts of the outputs, enough for all cores where the rows do not make as many tiles.
static void choose_part(const sd_sparse_task *t, int64_t tiles, sd_sparse_plan *p) {
  int64_t few = t->across ? FEW_IMAGE_TILES : FEW_TILES, parts = sd_ceil_div(few, tiles), most = t->w.n / SMALL_PART;
  p->inside = p->counts.blocks == 1 && tiles >= few;
  p->part = INNER_PART;
  if (p->inside) return;
  if (parts > most) parts = most;
  if (parts < sd_ceil_div(t->w.n, LARGE_PART)) parts = sd_ceil_div(t->w.n, LARGE_PART);
  p->part = sd_ceil_div(sd_ceil_div(t->w.n, parts < 1 ? 1 : parts), SD_SPARSE_SHARE) * SD_SPARSE_SHARE;
}

static double cycles(const sd_sparse_task *t, int64_t tiles, const sd_sparse_plan *p, const sd_sparse_rates *r,
                     sd_arena *a) {
  double all = (double)tiles * (double)p->tile, parts = p->inside ? 1 : (double)sd_ceil_div(t->w.n, p->part);
  double steps = (double)sd_sparse_steps(&t->w, &p->counts, p->part, p->shared, a);
  double products = steps * (p->shared ? SD_SPARSE_SHARE : SD_SPARSE_OWN) * all / (p->shared ? r->shared : r->own);
  double turn = t->across ? TURN_WINDOW : TURN_X;
  return products + (turn * (double)t->w.k * parts + TURN_Y * (double)t->w.n) * all + START * (double)tiles * parts;
}

// Blocks of inputs that stay in the first cache; with windows each lies in one place, 0: none does.
static int64_t block_of(const sd_sparse_task *t, int64_t tile) {
  int64_t block = CLOSE / (tile * 4) / BLOCK_STEP * BLOCK_STEP;
  if (block > BLOCK) block = BLOCK;
  if (t->across && t->channels <= block) return t->channels;
  while (t->across && block && t->channels % block) block -= BLOCK_STEP;
  return block < t->w.k ? block : t->w.k;
}

bool sd_sparse_choose(const sd_sparse_task *t, const sd_sparse_rates *r, sd_arena *a, sd_sparse_plan *out) {
  static const int vectors[] = {4, 7}; // 7 divides the rows of many images; what is shared has no registers for it
  double dense = (double)t->w.k * (double)t->w.n * (double)t->rows / t->dense, least = dense / LEAST_GAIN;
  bool found = false;
  for (int v = 0; v < 2; v++) {
    sd_sparse_plan p = {.tile = (int64_t)vectors[v] * r->lanes};
    int64_t tiles, block = block_of(t, p.tile);
    if (!block || !count_tiles(t, p.tile, &tiles)) continue;
    p.counts = sd_sparse_count(&t->w, block, a);
    if (!p.counts.nonzeros) return false; // a dump without contents
    choose_part(t, tiles, &p);
    if (p.inside && v) continue; // inputs and sums fill the first cache together
    for (int shared = 0; shared < (v ? 1 : 2); shared++) {
      p.shared = shared;
      double took = cycles(t, tiles, &p, r, a);
      if (took >= least) continue;
      least = took, *out = p, found = true;
    }
  }
  return found;
}
