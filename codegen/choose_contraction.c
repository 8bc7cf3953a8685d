// Sums of products: register tiles, the order of panels and rows, windows.
#include "codegen/choose_nest.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

#define TILE_BYTES 65536  // the same where each element of the vector operand is used few times
#define FEW_TILES  16     // as many are enough for the cores of a small machine

#define NEAR_WEIGHTS (1280 * 1024) // bytes that the second cache keeps
#define LESS         0.7           // of what is read, so that the other way gains
#define FIRST_CACHE  24576         // bytes of a panel that the first cache keeps
#define NEAR_VECTOR  3             // multiply-adds in the time that 64 bytes of a larger one need from the second cache

#define WIDE_ROW     8 // taps of a row of a window; wider ones are a loop of so many at a time
#define SPARSE_ROWS  4 // of a register tile at most, where the length of sums is read from memory

typedef sd_register_tile tile;

// A turn of products of bytes in pairs of 16 bits: two products and two sums for each row and vector, the halves of a row in two
// operations, of a vector in three. Of these run three at a time, of multiply-adds of f32 two.
static double halves_time(double rows, double vectors) { return (4 * rows * vectors + 2 * rows + 3 * vectors) * 2 / 3; }

// What a register tile covers, rows by vectors of columns, and how its sums are made.
typedef struct cover {
  int64_t rows, vectors, most; // most: rows of a tile
  bool known, even;            // whether the rows are; they may end early anywhere, so that only sizes that divide them leave none over
  int make;                    // operations that make a vector of the operand that moves with the columns, once for all rows of a tile
  bool halves;                 // products of bytes whose words are taken apart into pairs of 16 bits
  double latency;              // so many multiply-adds begin before the sum of the first one is there; of f32 8, with which sums wait now and then
  double bytes;                // of a vector of a panel, 0: of no account
  bool others;                 // rows outside of these read the panel as well
  bool groups; // columns are few, and those that are left over by whole panels, which go by single vectors, are many of them
} cover;

// Least time: multiply-adds against loads against latency.
static tile choose_tile(const sd_isa *isa, const cover *c) {
  int64_t e = c->rows, jv = c->vectors;
  tile best = {1, 1};
  double best_cost = 1e300, near = NEAR_VECTOR * isa->vector_bytes / 64.0;
  if (e == 1 && c->known) { // the speed of memory: several panels, so that every core reads its part
    int64_t nv = sd_ceil_div(jv, 4);
    return (tile){1, nv < 8 ? (int)nv : 8};
  }
  if (!c->known && e < 48) e = 48;
  for (int nv = !c->known && c->make && jv > 1 ? 2 : 1; nv <= 8; nv++) { // there may be one row only: a sum waits for the one before
    int room = isa->registers - nv - 1 + (c->halves && isa->vector_bytes == 32 ? 2 : 0); // the halves of a vector may wait in memory
    int mr_max = room / nv;
    if (mr_max < 1) break;
    if (isa->registers == 32 && nv == 2) mr_max = 14; // 14 divides the usual image sizes
    if (mr_max > c->most) mr_max = (int)c->most;
    int64_t rows = sd_ceil_div(e, mr_max);
    int mr = (int)sd_ceil_div(e, rows);
    int divisor = mr;
    while (c->even && e % divisor) divisor--;
    if (10 * divisor >= 7 * mr) mr = divisor; // else the smaller tile costs more than the rows left over
    int64_t full = e / mr, rest = e % mr, cols = sd_ceil_div(jv, nv), left = c->groups ? jv % nv : 0;
    double cost = 0;
    for (int part = 0; part < 2; part++) {
      double m = part ? (double)rest : mr, times = part ? (rest > 0) : (double)full;
      double fma = m * nv, loads = m + nv;
      double t = (fma > 0.8 * loads ? fma : 0.8 * loads) + c->make * nv;
      if (c->halves) t = halves_time(m, nv); // additions of integers wait for one cycle
      if ((rows > 1 || c->others) && c->bytes * nv > FIRST_CACHE && t < near * nv) t = near * nv;
      cost += times * (double)(cols - (left > 0)) * ((t > c->latency ? t : c->latency) + 0.15 * loads);
      cost += times * (double)left * ((m > c->latency ? m : c->latency) + 0.15 * (m + 1));
    }
    cost *= 1 + 0.01 * nv; // prefer tall tiles among equals: less weight traffic
    if (rows > 1) cost *= 1.02; // a panel that is read once comes straight from memory
    if (cost < best_cost) best_cost = cost, best = (tile){mr, nv};
  }
  return best;
}

// The axis along which a contraction reuses its vector operand: innermost free axis with the largest extent
// that the loads moving with j do not move with; -1 when there is none (depthwise).
static int reuse_axis(const sd_choice *c, const sd_expr *r, int j) {
  int best = -1;
  int64_t best_e = 1;
  for (int i = (int)c->n->n_axes - 1; i >= 0; i--) {
    if (i == j) continue;
    bool reuse = true;
    for (uint32_t l = 0; l < c->loads.len && reuse; l++) {
      const sd_access *x = &c->loads.at[l];
      if (x->reduce == r && sd_x_uses_axis(x->load, c->n->axes[j]))
        reuse = !sd_x_uses_axis(x->load, c->n->axes[i]);
    }
    int64_t e = sd_choose_guess(c, c->n->axes[i]);
    if (reuse && (best < 0 || (e > best_e && best_e < 6))) best = i, best_e = e;
  }
  return best;
}

typedef struct making {
  const sd_axis *j, *u, *step; // u: NULL = none
  int n;
} making;

static bool count_one(void *user, const sd_expr *e) {
  making *m = user;
  if (m->n >= 16 || !sd_x_uses_axis(e, m->j) || !sd_x_uses_axis(e, m->step)) return false;
  bool once = !m->u || !sd_x_uses_axis(e, m->u);
  if (e->op == SD_X_LOAD) m->n += once && sd_dtype_bits(e->buf->dtype) < 8 ? 3 : 0;
  else m->n += once && e->dtype != SD_I64;
  return e->op != SD_X_LOAD;
}

// Operations of the innermost step of `r` that move with j and not with u, as the widening of packed weights
// does: they are made once for all rows of a register tile.
static int count_made(sd_kernel *k, const sd_expr *r, const sd_axis *j, const sd_axis *u) {
  making m = {j, u, r->axes[r->n_axes - 1], 0};
  sd_x_walk(k, r->a[0], count_one, &m);
  return m.n;
}

// Loads in `r` that move with the vector axis must be contiguous or packable constants.
static bool vectorizable(sd_choice *c, const sd_expr *r, int j, int64_t factor, int *out_pack) {
  sd_dot d;
  *out_pack = -1;
  if (sd_dot_parts(c->k, r) > 1) return sd_dot_is(c->k, r, c->n->axes[j], &d); // made in that order
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r) continue;
    sd_stride s = sd_access_stride(c->k, x->load->a[0], c->n->axes[j]);
    if (s == SD_STRIDE_ZERO) continue;
    sd_pack p;
    if (*out_pack < 0 && sd_choose_loaded_once(c, x->load->buf) &&
        sd_choose_pack_plan(c, x, (uint32_t)j, factor, &p))
      *out_pack = (int)l;
    else if (s != SD_STRIDE_ONE)
      return false;
  }
  return true;
}

// Bit set of the free axes besides j with which the operand that moves with j also moves (groups, batch).
static uint32_t vector_operand_axes(const sd_choice *c, const sd_expr *r, int j) {
  uint32_t set = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r || !sd_x_uses_axis(x->load, c->n->axes[j])) continue;
    for (uint32_t i = 0; i < c->n->n_axes; i++)
      if ((int)i != j && sd_x_uses_axis(x->load, c->n->axes[i])) set |= 1u << i;
  }
  return set;
}

// Bytes of the operands of r that do not move with the vectors, ji.
static double bytes_of_rows(const sd_choice *c, const sd_expr *r, const sd_axis *ji) {
  double bytes = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce == r && !sd_x_uses_axis(x->load, ji)) bytes += (double)sd_access_guess(c->k->dims, x->load->buf->count) * sd_dtype_bits(x->load->buf->dtype) / 8;
  }
  return bytes;
}

// Weights that are larger than the second cache come anew for each of `tiles` of rows, rows for each panel of weights: what is less.
static bool panels_first(const sd_choice *c, const sd_expr *r, const sd_axis *jo, double weights, int64_t tiles) {
  double panels = (double)sd_choose_guess(c, jo);
  return weights > NEAR_WEIGHTS && panels * bytes_of_rows(c, r, c->n->axes[c->n->n_axes - 1]) < LESS * (double)tiles * weights;
}

// Grid of a contraction: split the operand that is larger, so that the other one is not read more often than
// needed.
static void grid_contraction(sd_choice *c, const sd_expr *r, sd_axis *jo, sd_axis *u, double flops) {
  double k = sd_access_steps(c->k->dims, r), rows = 1;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i] != jo && c->n->axes[i]->vec == 0) rows *= (double)sd_choose_guess(c, c->n->axes[i]);
  double cols = jo ? (double)sd_choose_guess(c, jo) * c->n->axes[c->n->n_axes - 1]->vec * c->lanes : 1;
  int64_t want = (int64_t)(flops / SD_TILE_FLOPS), by_bytes = (int64_t)(4 * k * cols / TILE_BYTES);
  if (want < by_bytes) want = by_bytes;
  if (want > SD_MAX_TILES) want = SD_MAX_TILES;
  if (c->tuned && c->tuned->tiles > 0) want = c->tuned->tiles;
  if (want < 2) return;
  bool by_cols = jo && cols * k >= rows * k * 0.75 && sd_choose_guess(c, jo) >= 4;
  if (jo && !by_cols) by_cols = panels_first(c, r, jo, 4 * k * cols, want);
  // axes outside of jo (batch, groups) first, then the chosen one
  uint32_t i = 0;
  for (; i < c->n->n_axes && c->n->axes[i] != jo && c->n->axes[i] != u && c->n->axes[i]->vec == 0; i++)
    want = sd_ceil_div(want, sd_choose_grid_axis(c, c->n->axes[i], want, 1));
  if (by_cols) {
    int64_t tiles = sd_choose_grid_axis(c, jo, want, 1);
    want = tiles >= FEW_TILES ? 1 : sd_ceil_div(want, tiles); // parts of the rows would read each panel again
  }
  for (uint32_t q = i; q < c->n->n_axes && want > 1; q++) {
    sd_axis *a = c->n->axes[q];
    if (a == jo || a->vec > 0 || a->block > 0) continue;
    want = sd_ceil_div(want, sd_choose_grid_axis(c, a, want, a->unroll > 1 ? a->unroll : 1));
  }
  if (!by_cols && jo && want > 1) sd_choose_grid_axis(c, jo, want, 1);
  sd_axis *ji = c->n->axes[c->n->n_axes - 1];
  if (!jo && want > 1 && ji->vec > 0) sd_choose_grid_axis(c, ji, want, (int64_t)ji->vec * c->lanes);
}

// A reduction of one operand over many elements, not over a window.
static bool long_sum(const sd_choice *c, const sd_expr *r) {
  int loads = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) loads += c->loads.at[l].reduce == r;
  return loads == 1 && sd_access_steps(c->k->dims, r) >= 32;
}

// The reductions serve all iterations of axis u (softmax over another axis than the last): vectors of them
// stand outside of the axes that they do not move with, and are made once.
static void schedule_shared(sd_choice *c, int j) {
  sd_nest *n = c->n;
  sd_axis *ja = n->axes[j];
  int64_t vectors = sd_ceil_div(sd_choose_guess(c, ja), c->lanes);
  int to = 0;
  for (uint32_t i = 0; i < n->n_axes; i++)
    for (uint32_t x = 0; x < c->reductions.len; x++)
      if ((int)i != j && sd_x_uses_axis(c->reductions.at[x].expr, n->axes[i]) && to <= (int)i)
        to = (int)i + 1;
  ja->vec = (int32_t)sd_min_i64(vectors, 4);
  if (to < j) sd_choose_move_axis(n, j, to);
  if (c->grid)
    sd_choose_grid_outer(c, sd_min_i64((int64_t)(sd_choose_points(c) * 4 / SD_TILE_ELEMS), SD_MAX_TILES));
}

// Rows of a window so wide that neighbours along axis u have most of their inputs in common: they share
// weights.
static bool wide_rows(const sd_choice *c, const sd_expr *r, int u) {
  const sd_axis *a = r->axes[r->n_axes - 1];
  if (u < 0 || r->a[0]->op != SD_X_MUL || !sd_choose_known(c, a) || sd_choose_guess(c, a) < WIDE_ROW)
    return false;
  for (uint32_t l = 0; l < c->loads.len; l++)
    if (c->loads.at[l].reduce == r && !sd_x_uses_axis(c->loads.at[l].load, c->n->axes[u])) return true;
  return false;
}

// Those of a maximum are shared by the rows that overlap (cpu/emit_reduce.c).
void sd_choose_unroll_window(const sd_choice *c, const sd_expr *r) {
  int64_t taps = 1, v, most = r->rop == SD_R_MAX || r->rop == SD_R_MIN ? 25 : 9;
  for (int x = (int)r->n_axes - 1; x >= 0; x--) {
    if (!sd_dim_is_const(c->k->dims, r->axes[x]->extent, &v) || taps * v > most) break;
    r->axes[x]->unroll = 0;
    taps *= v;
  }
}

// No operand serves several outputs: outputs side by side share the loads of their windows. Returns the axis
// beside j, -1 = none.
static int window_tile(const sd_choice *c, const sd_expr *r, int j, tile *t) {
  const sd_nest *n = c->n;
  int u = -1;
  for (int i = (int)n->n_axes - 1; i >= 0 && u < 0; i--)
    if (i != j && sd_choose_guess(c, n->axes[i]) > 1) u = i;
  int64_t vectors = sd_ceil_div(sd_choose_guess(c, n->axes[j]), c->lanes),
          e = u >= 0 ? sd_choose_guess(c, n->axes[u]) : 1;
  if (long_sum(c, r)) {
    t->nv = (int)sd_min_i64(vectors, 8); // far apart in memory, so that each visit reads much
    t->mr = (int)sd_min_i64(e, 8 / t->nv);
    return u;
  }
  t->nv = e >= 4 ? 1 : (int)sd_min_i64(vectors, count_made(c->k, r, n->axes[j], NULL) > 1 ? 4 : 2); // what widens weights takes long
  t->mr = (int)(e < 4 ? e : 4);
  if (u >= 0 && sd_choose_known(c, n->axes[u]))
    for (int m = wide_rows(c, r, u) && c->isa->registers == 32 ? SD_LARGEST_ROWS : 7; m >= 3; m--)
      if (e % m == 0) {
        t->mr = m;
        break;
      }
  return u;
}

// Lanes innermost; panels of the vector operand outside of the rows that reuse them. `moves`: axes with which
// it moves.
static void order_axes(sd_nest *n, sd_axis *jo, sd_axis *ji, uint32_t moves) {
  sd_choose_move_axis(n, sd_choose_axis_position(n, ji), (int)n->n_axes - 1);
  if (!jo) return;
  int from = sd_choose_axis_position(n, jo), to = 0;
  while (to < from && (moves >> to & 1)) to++;
  sd_choose_move_axis(n, from, to);
}

static tile reuse_tile(const sd_choice *c, const sd_expr *r, int u, int j, int64_t rows) {
  const sd_axis *ua = c->n->axes[u], *ja = c->n->axes[j];
  int make = count_made(c->k, r, ja, ua) - 1; // one conversion comes with the load
  int64_t vectors = sd_ceil_div(sd_choose_guess(c, ja), c->lanes);
  // of 64 bytes two run at a time as well, and all tiles take the same time
  bool halves = r->dtype == SD_I32 && c->isa->dot < 4 && c->isa->vector_bytes < 64 && sd_dot_side(c->k, r) == 4;
  uint32_t moves = vector_operand_axes(c, r, j);
  double all = 1;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if ((int)i != j && !(moves >> i & 1)) all *= (double)sd_choose_guess(c, c->n->axes[i]);
  const cover x = {.rows = rows,
                   .vectors = vectors,
                   .most = SD_LARGEST_ROWS,
                   .known = sd_choose_known(c, ua),
                   .even = ua->limit != NULL,
                   .make = make > 0 ? make : 0,
                   .halves = halves,
                   .latency = halves ? 0 : r->dtype == SD_F32 ? 9 : 7,
                   .bytes = r->dtype == SD_F32 && make < 1 ? sd_access_steps(c->k->dims, r) * c->isa->vector_bytes : 0,
                   .others = all > (double)rows,
                   .groups = moves >> u > 1};
  return choose_tile(c->isa, &x);
}

sd_register_tile sd_choose_rows(const sd_choice *c, const sd_axis *u, int64_t columns, int64_t most) {
  const cover x = {.rows = sd_choose_guess(c, u), .vectors = columns, .most = most, .known = sd_choose_known(c, u), .even = u->limit != NULL, .latency = 9};
  return choose_tile(c->isa, &x);
}

// Rows of small images are too short for a register tile: it takes several of them, so that the vector operand is read less
// often. Returns how many of which axis, NULL = none, and the tile for all of them.
static sd_axis *second_rows(const sd_choice *c, const sd_expr *r, int u, int j, tile *t, int *copies) {
  const sd_nest *n = c->n;
  uint32_t moves = vector_operand_axes(c, r, j);
  int64_t e = sd_choose_guess(c, n->axes[u]), most = SD_LARGEST_ROWS / e;
  if (u == 0 || t->mr != e || most < 2 || u - 1 == j || moves >> (u - 1) & 1 || !sd_choose_known(c, n->axes[u])) return NULL;
  sd_axis *second = n->axes[u - 1];
  int64_t length = sd_choose_guess(c, second), parts = sd_ceil_div(length, most), each = sd_ceil_div(length, parts);
  tile both = reuse_tile(c, r, u, j, each * e);
  if (each < 2 || second->limit || both.mr != each * e) return NULL;
  *t = both, *copies = (int)each;
  return second;
}

// The register tile that was measured to be the best one, no larger than what there is to cover.
static bool tuned_tile(const sd_choice *c, int u, int j, tile *t) {
  if (!c->tuned || c->tuned->rows < 1 || c->tuned->vectors < 1) return false;
  int64_t rows = sd_choose_known(c, c->n->axes[u]) ? sd_choose_guess(c, c->n->axes[u]) : SD_LARGEST_ROWS;
  int64_t vectors = sd_ceil_div(sd_choose_guess(c, c->n->axes[j]), c->lanes);
  t->mr = (int)sd_min_i64(sd_min_i64(c->tuned->rows, SD_LARGEST_ROWS), rows);
  t->nv = (int)sd_min_i64(sd_min_i64(c->tuned->vectors, 8), vectors > 0 ? vectors : 1);
  return true;
}

// Lanes are the outputs of a block of sparse weights: rows share what is read of these. Where rows of images are short, a register
// tile takes several. `step`: the axis of the sum whose end is read.
static void choose_sparse_rows(sd_choice *c, const sd_expr *r, const sd_axis *step, const sd_dot *d, int j) {
  sd_nest *n = c->n;
  int block = 0;
  while (block < j && !sd_x_uses_axis(step->limit, n->axes[block])) block++;
  if (d->pairs && block < j) sd_choose_move_axis(n, block, 0), block = 0; // all weights are there: those of a block stay in the cache
  int64_t vectors = sd_ceil_div(sd_choose_guess(c, n->axes[j]), c->lanes);
  int64_t spare = d->both ? 6 : d->pairs ? 3 : c->isa->dot >= 4 ? 2 : 5, most = (c->isa->registers - spare) / vectors - 1; // and an element of x
  int u = reuse_axis(c, r, j);
  n->axes[j]->vec = (int32_t)vectors;
  if (u < 0) return;
  if (most > SD_LARGEST_ROWS) most = SD_LARGEST_ROWS;
  if (most < 1) most = 1;
  int64_t e = sd_choose_guess(c, n->axes[u]), rows = e <= most ? e : sd_ceil_div(e, sd_ceil_div(e, most)), copies = most / rows;
  if (!sd_choose_known(c, n->axes[u])) rows = most, copies = 1;
  n->axes[u]->unroll = (int32_t)rows;
  if (u > 0 && copies > 1 && u - 1 != block && sd_choose_known(c, n->axes[u - 1]))
    n->axes[u - 1]->unroll = (int32_t)sd_min_i64(copies, sd_choose_guess(c, n->axes[u - 1]));
}

static const sd_axis *read_limit(const sd_choice *c, const sd_expr *r) {
  for (uint32_t i = 0; i < r->n_axes; i++)
    if (sd_access_read_limit(c->k, r->axes[i])) return r->axes[i];
  return NULL;
}

// Sums whose length is read from memory (sparse weights): made for one iteration at a time of the axes on which it
// depends, so that the register tile is what is inside of those, as it was lowered, or rows that do not move with it.
static bool choose_sparse(sd_choice *c, const sd_expr *r, int j) {
  const sd_axis *step = read_limit(c, r);
  sd_axis *ua = j > 0 ? c->n->axes[j - 1] : NULL;
  if (!step) return false;
  sd_dot d;
  if (sd_dot_is(c->k, r, c->n->axes[j], &d)) choose_sparse_rows(c, r, step, &d, j);
  else {
    int64_t vectors = sd_ceil_div(sd_choose_guess(c, c->n->axes[j]), c->lanes), rows = ua ? sd_choose_guess(c, ua) : 1;
    if (!ua || sd_x_uses_axis(step->limit, ua) || !sd_choose_known(c, ua) || rows > SPARSE_ROWS) rows = 1;
    if (rows > 1) ua->unroll = (int32_t)rows;
    c->n->axes[j]->vec = (int32_t)sd_min_i64(vectors, (c->isa->registers - 2) / rows); // and one for a weight
  }
  if (c->grid) sd_choose_grid_outer(c, sd_min_i64((int64_t)(sd_choose_points(c) / SD_TILE_ELEMS), SD_MAX_TILES));
  return true;
}

sard_status *sd_choose_contraction(sd_choice *c, sd_expr *r, int j, bool *out_done) {
  sd_nest *n = c->n;
  int u = reuse_axis(c, r, j), pack = -1;
  bool reused = u >= 0, wide = false;
  int64_t je = sd_choose_guess(c, n->axes[j]);
  *out_done = choose_sparse(c, r, j);
  if (!*out_done) SD_TRY(sd_choose_few(c, r, j, u, out_done));
  if (*out_done) return NULL;
  if (reused && !sd_x_uses_axis(r, n->axes[u]) && vectorizable(c, r, j, c->lanes, &pack) && pack < 0) {
    schedule_shared(c, j);
    *out_done = true;
    return NULL;
  }
  tile t = reused ? reuse_tile(c, r, u, j, sd_choose_guess(c, n->axes[u])) : (tile){1, 1};
  int copies = 1;
  bool tuned = reused && tuned_tile(c, u, j, &t);
  sd_matrix_tile m;
  bool matrix = reused && !tuned && sd_choose_matrix(c, r, u, j, vector_operand_axes(c, r, j), &m);
  if (matrix) t = (tile){m.rows * m.copies, m.vectors}, copies = m.copies;
  sd_axis *second = !reused || tuned ? NULL : matrix ? (copies > 1 ? n->axes[u - 1] : NULL) : second_rows(c, r, u, j, &t, &copies);
  if (!vectorizable(c, r, j, (int64_t)t.nv * c->lanes, &pack)) return NULL;
  *out_done = true;
  if (!reused) {
    u = window_tile(c, r, j, &t);
    sd_choose_unroll_window(c, r);
    wide = wide_rows(c, r, u);
    if (wide && r->axes[r->n_axes - 1]->unroll) r->axes[r->n_axes - 1]->unroll = WIDE_ROW;
  }
  double flops = 2 * sd_choose_points(c) * sd_choose_reduce_work(c);
  uint32_t moves = vector_operand_axes(c, r, j);
  sd_axis *ua = u >= 0 ? n->axes[u] : NULL, *jo = NULL, *ji = n->axes[j];
  if (second) second->unroll = copies, t.mr /= copies;
  if (ua && t.mr > 1) ua->unroll = t.mr;
  int64_t factor = (int64_t)t.nv * c->lanes;
  bool plain_split = pack < 0 && u >= 0 && je > factor && reuse_axis(c, r, j) >= 0 && n->n_axes < SD_MAX_AXES;
  if (pack >= 0) SD_TRY(sd_choose_pack(c, &c->loads.at[pack], (uint32_t)j, factor));
  if (pack >= 0 && matrix) sd_dot_whole(c->k, r);
  else if (plain_split)
    SD_TRY(sd_nest_split(c->k, n, (uint32_t)j, factor));
  if (pack >= 0 || plain_split) jo = n->axes[j], ji = n->axes[j + 1];
  ji->vec = t.nv;
  order_axes(n, jo, ji, moves);
  if (wide && jo) // a panel stays in the first cache, and so do inputs of neighbours
    sd_choose_move_axis(n, sd_choose_axis_position(n, jo), sd_choose_axis_position(n, ua));
  if (c->grid) grid_contraction(c, r, jo, ua, flops);
  return NULL;
}
