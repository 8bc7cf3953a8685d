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

// Cycles that turning takes for an element of x and of y, and cycles of a tile.
#define TURN_X 0.4
#define TURN_Y 0.4
#define START  2000

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Parts of the outputs, enough for all cores where the rows do not make as many tiles.
static void choose_part(const sd_sparse_weight *w, int64_t rows, sd_sparse_plan *p) {
  int64_t tiles = ceil_div(rows, p->tile), parts = ceil_div(FEW_TILES, tiles), most = w->n / SMALL_PART;
  p->inside = p->counts.blocks == 1 && tiles >= FEW_TILES;
  p->part = INNER_PART;
  if (p->inside) return;
  if (parts > most) parts = most;
  if (parts < ceil_div(w->n, LARGE_PART)) parts = ceil_div(w->n, LARGE_PART);
  p->part = ceil_div(ceil_div(w->n, parts < 1 ? 1 : parts), SD_SPARSE_SHARE) * SD_SPARSE_SHARE;
}

static double cycles(const sd_sparse_weight *w, int64_t rows, const sd_sparse_plan *p,
                     const sd_sparse_rates *r, sd_arena *a) {
  double tiles = (double)ceil_div(rows, p->tile), all = tiles * (double)p->tile,
         parts = p->inside ? 1 : (double)ceil_div(w->n, p->part);
  double steps = (double)sd_sparse_steps(w, &p->counts, p->part, p->shared, a);
  double products = steps * (p->shared ? SD_SPARSE_SHARE : SD_SPARSE_OWN) * all / (p->shared ? r->shared : r->own);
  return products + (TURN_X * (double)w->k * parts + TURN_Y * (double)w->n) * all + START * tiles * parts;
}

// Tiles of `vectors` of rows: blocks of inputs that stay in the first cache.
static int64_t block_of(const sd_sparse_weight *w, int64_t tile) {
  int64_t block = CLOSE / (tile * 4) / BLOCK_STEP * BLOCK_STEP;
  if (block > BLOCK) block = BLOCK;
  return block < w->k ? block : w->k;
}

bool sd_sparse_choose(const sd_sparse_weight *w, int64_t rows, const sd_sparse_rates *r, sd_arena *a,
                      sd_sparse_plan *out) {
  static const int vectors[] = {4, 7}; // 7 divides the rows of many images; what is shared has no registers for it
  double dense = (double)w->k * (double)w->n * (double)rows / r->dense, least = dense / LEAST_GAIN;
  bool found = false;
  for (int v = 0; v < 2; v++) {
    sd_sparse_plan p = {.tile = (int64_t)vectors[v] * r->lanes};
    p.counts = sd_sparse_count(w, block_of(w, p.tile), a);
    if (!p.counts.nonzeros) return false; // a dump without contents
    choose_part(w, rows, &p);
    if (p.inside && v) continue; // inputs and sums fill the first cache together
    for (int shared = 0; shared < (v ? 1 : 2); shared++) {
      p.shared = shared;
      double took = cycles(w, rows, &p, r, a);
      if (took >= least) continue;
      least = took, p.gain = dense / took, *out = p, found = true;
    }
  }
  return found;
}
