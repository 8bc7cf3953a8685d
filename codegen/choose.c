// Chooses schedules: a nest is a contraction (register tile), a row reduction, or a map; sizes decide the rest.
//
// Rules and numbers come from measurements of the emitted code; symbolic sizes are guessed (codegen/access.h). The work split
// depends on shapes only, so results do not depend on the number of threads.
#include "codegen/choose.h"

#include "codegen/access.h"
#include "codegen/groups.h"
#include "codegen/stash.h"
#include "runtime/base/alloc.h"

#define TILE_FLOPS     100000    // least work of a grid tile of a contraction, operations
#define TILE_BYTES     65536     // the same where each element of the vector operand is used few times
#define TILE_ELEMS     8192      // least work of a grid tile of a map or reduction, elements
#define MAX_TILES      32        // grid tiles wanted at most
#define MANY_STORES    8
#define PANEL_BYTES    (256 * 1024)

typedef struct choice {
  sd_kernel *k;
  sd_nest *n;
  const sd_isa *isa;
  sd_arena *a;
  sd_packs *packs;
  bool grid;             // nest axes may be split over the grid
  sd_accesses loads;
  sd_reductions reductions;
  int lanes;             // of a vector
  int vaxis;             // position of the vector axis, -1 = none
  uint32_t split;        // axes that may be split over the grid: the first so many
} choice;

static int64_t guess(const choice *c, const sd_axis *a) { return sd_access_guess(c->k->dims, a->extent); }
static bool known(const choice *c, const sd_axis *a) { return sd_dim_is_const(c->k->dims, a->extent, NULL); }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The free axis along which the first store is contiguous.
static int store_axis(const choice *c) {
  for (int i = (int)c->n->n_axes - 1; i >= 0; i--)
    if (sd_access_stride(c->k, c->n->stores.at[0].offset, c->n->axes[i]) == SD_STRIDE_ONE) return i;
  return -1;
}

// ---- packing of constant operands ----

// Axes on which the operand may depend besides j: those of the grid and the free ones of the nest.
static const sd_axis *pack_axis(const choice *c, uint32_t i) {
  uint32_t grid = c->k->grid.len;
  return i < grid ? c->k->grid.at[i] : i - grid < c->n->n_axes ? c->n->axes[i - grid] : NULL;
}

// Fills `p` for a constant load whose offset is affine with constant coefficients in the given axes only.
static bool pack_plan(choice *c, const sd_access *l, uint32_t jpos, int64_t factor, sd_pack *p) {
  sd_kernel *k = c->k;
  const sd_expr *offset = l->load->a[0];
  const sd_axis *j = c->n->axes[jpos];
  int64_t jc, jext, v;
  sd_dim d;
  sd_expr *rest = l->load->a[0];
  memset(p, 0, sizeof *p);
  if (!c->packs || !l->load->buf->invariant || !l->reduce || l->load->a[1] || !l->load->buf->value || !l->load->buf->value->data) return false;
  if (!sd_x_coef(k, offset, j, &d) || !sd_dim_is_const(k->dims, d, &jc) || jc == 0) return false;
  if (!sd_dim_is_const(k->dims, j->extent, &jext)) return false;
  // axes the operand also depends on (groups, parts of the grid), then the split axis, then the reduction, then lanes
  const sd_axis *x;
  for (uint32_t i = 0; (x = pack_axis(c, i)); i++) {
    if (x == j || sd_access_stride(k, offset, x) == SD_STRIDE_ZERO) continue;
    if (p->n + l->reduce->n_axes + 3 > SD_PACK_DIMS) return false;
    if (!sd_x_coef(k, offset, x, &d) || !sd_dim_is_const(k->dims, d, &v)) return false;
    p->stride[p->n] = v;
    if (!sd_dim_is_const(k->dims, x->extent, &p->extent[p->n++])) return false;
    rest = sd_x_subst(k, rest, x, sd_x_i(k, SD_I64, 0));
  }
  p->outer = p->n;
  p->stride[p->n] = jc * factor, p->extent[p->n++] = ceil_div(jext, factor);
  for (uint32_t i = 0; i < l->reduce->n_axes; i++) {
    if (!sd_x_coef(k, offset, l->reduce->axes[i], &d) || !sd_dim_is_const(k->dims, d, &v)) return false;
    p->stride[p->n] = v;
    if (!sd_dim_is_const(k->dims, l->reduce->axes[i]->extent, &p->extent[p->n++])) return false;
    rest = sd_x_subst(k, rest, l->reduce->axes[i], sd_x_i(k, SD_I64, 0));
  }
  p->stride[p->n] = jc, p->extent[p->n++] = factor;
  rest = sd_x_subst(k, rest, j, sd_x_i(k, SD_I64, 0));
  if (!sd_x_const_value(rest, NULL, &p->base)) return false; // depends on something else
  p->factor = factor, p->limit = jext, p->buf = l->load->buf;
  return true;
}

// Only one load of the kernel may read a packed buffer: other nests would find it in the packed order.
static uint32_t count_loads(const choice *c, const sd_items *items, const sd_buf *b) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < items->len; i++) {
    sd_accesses loads = {0};
    sd_reductions reductions = {0};
    if (items->at[i].body) n += count_loads(c, items->at[i].body, b);
    if (!items->at[i].nest) continue;
    sd_access_collect(c->k, items->at[i].nest, c->a, &loads, &reductions);
    for (uint32_t l = 0; l < loads.len; l++) n += loads.at[l].load->buf == b;
  }
  return n;
}
static bool loaded_once(const choice *c, const sd_buf *b) { return count_loads(c, &c->k->items, b) == 1; }

typedef struct repack { const sd_expr *load; sd_expr *offset; } repack;
static sd_expr *repack_load(sd_kernel *k, sd_expr *e, void *user) {
  repack *r = user;
  if (e->op == SD_X_LOAD && e->buf == r->load->buf) return sd_x_load(k, e->buf, r->offset, NULL);
  return e;
}

// After the split of axis j into (jo, ji): points the load at the packed form.
static sard_status *pack_apply(choice *c, const sd_access *l, const sd_pack *p, sd_axis *jo, sd_axis *ji, sd_expr *const *free_axes) {
  sd_kernel *k = c->k;
  sd_expr *offset = sd_x_i(k, SD_I64, 0);
  uint32_t d = 0, f = 0;
  for (; d < p->n; d++) {
    sd_expr *x;
    if (d < p->outer) x = free_axes[f++];
    else if (d == p->outer) x = sd_x_axis(k, jo);
    else if (d == p->n - 1) x = sd_x_axis(k, ji);
    else x = sd_x_axis(k, l->reduce->axes[d - p->outer - 1]);
    offset = sd_x_bin(k, SD_X_ADD, sd_x_mul_dim(k, offset, sd_dim_const(k->dims, p->extent[d])), x);
  }
  int64_t count = 1;
  for (d = 0; d < p->n; d++)
    if (!sd_ck_mul_i64(count, p->extent[d], &count)) return SD_ERR(NOMEM, "packed operand of %s is too large", k->name);
  repack r = {l->load, offset};
  for (uint32_t i = 0; i < c->n->stores.len; i++) {
    sd_store *s = &c->n->stores.at[i];
    s->value = sd_x_rewrite(k, s->value, repack_load, &r);
  }
  p->buf->count = sd_dim_const(k->dims, count);
  sd_vec_push(c->a, c->packs, *p);
  return NULL;
}

// ---- register tiles ----

typedef struct tile { int mr, nv; } tile;

// Least time of covering E x J (vectors): multiply-adds against loads against the latency of the accumulators.
// `even`: the axis may end early anywhere, so that only sizes that divide it leave no rows over. `make`: operations that
// make a vector of the operand that moves with J, once for all rows of a tile.
static tile choose_tile(const sd_isa *isa, int64_t e, bool e_known, bool even, int64_t jv, int make) {
  tile best = {1, 1};
  double best_cost = 1e300;
  if (e == 1 && e_known) { // the speed of memory: several panels, so that every core reads its part
    int64_t nv = ceil_div(jv, 4);
    return (tile){1, nv < 8 ? (int)nv : 8};
  }
  if (!e_known && e < 48) e = 48;
  for (int nv = 1; nv <= 8; nv++) {
    int room = isa->registers - nv - 1;
    int mr_max = room / nv;
    if (mr_max < 1) break;
    if (isa->registers == 32 && nv == 2) mr_max = 14; // 14 divides the usual image sizes
    if (mr_max > 14) mr_max = 14;
    int64_t rows = ceil_div(e, mr_max);
    int mr = (int)ceil_div(e, rows);
    int divisor = mr;
    while (even && e % divisor) divisor--;
    if (10 * divisor >= 7 * mr) mr = divisor; // else the smaller tile costs more than the rows left over
    int64_t full = e / mr, rest = e % mr, cols = ceil_div(jv, nv);
    double cost = 0;
    for (int part = 0; part < 2; part++) {
      double m = part ? (double)rest : mr, times = part ? (rest > 0) : (double)full;
      double fma = m * nv, loads = m + nv, latency = 7;
      double t = (fma > 0.8 * loads ? fma : 0.8 * loads) + make * nv;
      cost += times * (double)cols * ((t > latency ? t : latency) + 0.15 * loads);
    }
    cost *= 1 + 0.01 * nv; // prefer tall tiles among equals: less weight traffic
    if (cost < best_cost) best_cost = cost, best = (tile){mr, nv};
  }
  return best;
}

// ---- grid ----

static double nest_points(const choice *c) {
  double p = 1;
  for (uint32_t i = 0; i < c->n->n_axes; i++) p *= (double)guess(c, c->n->axes[i]);
  return p;
}

static double reduce_work(const choice *c) {
  double w = 0;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    double p = 1;
    for (uint32_t j = 0; j < c->reductions.at[i].expr->n_axes; j++) p *= (double)guess(c, c->reductions.at[i].expr->axes[j]);
    w += p;
  }
  return w;
}

// Loads of a point whose place other loads decide, where there are several (the walk through a tree): each takes about as
// long as an element of a map.
static double chained_loads(const choice *c) {
  double n = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    bool opaque = false;
    for (uint32_t i = 0; i < c->n->n_axes && !c->loads.at[l].reduce; i++)
      opaque |= sd_access_stride(c->k, c->loads.at[l].load->a[0], c->n->axes[i]) == SD_STRIDE_OPAQUE;
    n += opaque;
  }
  return n < 1 ? 1 : n;
}

// Splits axis `a` over the grid into at most `want` tiles of a multiple of `step` iterations; returns the tiles made.
static int64_t grid_axis(const choice *c, sd_axis *a, int64_t want, int64_t step) {
  int64_t e = guess(c, a);
  if (want < 2 || e <= step) return 1;
  int64_t steps = ceil_div(e, step), tiles = want < steps ? want : steps;
  a->block = ceil_div(steps, tiles) * step;
  return ceil_div(e, a->block);
}

// Splits from the outermost axis on until `want` tiles exist. The vector axis moves in steps of whole vectors.
static void grid_outer(choice *c, int64_t want) {
  for (uint32_t i = 0; i < c->n->n_axes && i < c->split && want > 1; i++) {
    sd_axis *a = c->n->axes[i];
    int64_t vectors = c->reductions.len ? 1 : 4;
    int64_t step = (a->unroll > 1 ? a->unroll : 1) * (a->vec > 0 ? (int64_t)a->vec * c->lanes * vectors : 1);
    if (sd_dtype_bits(c->n->stores.at[0].buf->dtype) < 8) step = step % 4 ? 4 * step : step; // tiles that end with a byte
    want = ceil_div(want, grid_axis(c, a, want, step));
  }
}

// ---- kinds of nests ----

// Reductions that do not move with the vector axis run along a contiguous reduction axis in vectors.
static void schedule_row_reductions(choice *c) {
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
      for (uint32_t q = 0; q < c->reductions.len; q++) nested |= c->reductions.at[q].parent == r && sd_x_uses_axis(c->reductions.at[q].expr, a);
      if (!one || bad || nested) continue;
      int64_t e = guess(c, a);
      if (e >= c->lanes / 2) a->vec = e >= 8 * c->lanes ? 4 : e >= 2 * c->lanes ? 2 : 1;
      break;
    }
  }
}

// The axis along which a contraction reuses its vector operand: innermost free axis with the largest extent that the
// loads moving with j do not move with; -1 when there is none (depthwise).
static int reuse_axis(const choice *c, const sd_expr *r, int j) {
  int best = -1;
  int64_t best_e = 1;
  for (int i = (int)c->n->n_axes - 1; i >= 0; i--) {
    if (i == j) continue;
    bool reuse = true;
    for (uint32_t l = 0; l < c->loads.len && reuse; l++) {
      const sd_access *x = &c->loads.at[l];
      if (x->reduce == r && sd_x_uses_axis(x->load, c->n->axes[j])) reuse = !sd_x_uses_axis(x->load, c->n->axes[i]);
    }
    int64_t e = guess(c, c->n->axes[i]);
    if (reuse && (best < 0 || (e > best_e && best_e < 6))) best = i, best_e = e;
  }
  return best;
}

// Operations of the innermost step of `r` that move with j and not with u, as the widening of packed weights does: they
// are made once for all rows of a register tile.
static int count_made(const sd_expr *e, const sd_expr *r, const sd_axis *j, const sd_axis *u) {
  if (!sd_x_uses_axis(e, j) || !sd_x_uses_axis(e, r->axes[r->n_axes - 1])) return 0;
  if (e->op == SD_X_LOAD) return sd_x_uses_axis(e, u) || sd_dtype_bits(e->buf->dtype) >= 8 ? 0 : 3;
  int n = sd_x_uses_axis(e, u) || e->dtype == SD_I64 ? 0 : 1;
  for (uint32_t i = 0; i < e->n && n < 16; i++) n += count_made(e->a[i], r, j, u);
  return n;
}

// Loads in `r` that move with the vector axis must be contiguous or packable constants.
static bool vectorizable(choice *c, const sd_expr *r, int j, int64_t factor, int *out_pack) {
  *out_pack = -1;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r) continue;
    sd_stride s = sd_access_stride(c->k, x->load->a[0], c->n->axes[j]);
    if (s == SD_STRIDE_ZERO) continue;
    sd_pack p;
    if (*out_pack < 0 && loaded_once(c, x->load->buf) && pack_plan(c, x, (uint32_t)j, factor, &p)) *out_pack = (int)l;
    else if (s != SD_STRIDE_ONE) return false;
  }
  return true;
}

static void move_axis(sd_nest *n, int from, int to) {
  sd_axis *a = n->axes[from];
  if (from > to) memmove(n->axes + to + 1, n->axes + to, (size_t)(from - to) * sizeof a);
  else memmove(n->axes + from, n->axes + from + 1, (size_t)(to - from) * sizeof a);
  n->axes[to] = a;
}

static int axis_position(const sd_nest *n, const sd_axis *a) {
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (n->axes[i] == a) return (int)i;
  return -1;
}

// Bit set of the free axes besides j with which the operand that moves with j also moves (groups, batch).
static uint32_t vector_operand_axes(const choice *c, const sd_expr *r, int j) {
  uint32_t set = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r || !sd_x_uses_axis(x->load, c->n->axes[j])) continue;
    for (uint32_t i = 0; i < c->n->n_axes; i++)
      if ((int)i != j && sd_x_uses_axis(x->load, c->n->axes[i])) set |= 1u << i;
  }
  return set;
}

// Grid of a contraction: split the operand that is larger, so that the other one is not read more often than needed.
static void grid_contraction(choice *c, const sd_expr *r, sd_axis *jo, sd_axis *u, double flops) {
  double k = 1, rows = 1;
  for (uint32_t i = 0; i < r->n_axes; i++) k *= (double)guess(c, r->axes[i]);
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i] != jo && c->n->axes[i]->vec == 0) rows *= (double)guess(c, c->n->axes[i]);
  double cols = jo ? (double)guess(c, jo) * c->n->axes[c->n->n_axes - 1]->vec * c->lanes : 1;
  int64_t want = (int64_t)(flops / TILE_FLOPS), by_bytes = (int64_t)(4 * k * cols / TILE_BYTES);
  if (want < by_bytes) want = by_bytes;
  if (want > MAX_TILES) want = MAX_TILES;
  if (want < 2) return;
  bool by_cols = jo && cols * k >= rows * k * 0.75 && guess(c, jo) >= 4;
  // axes outside of jo (batch, groups) first, then the chosen one
  uint32_t i = 0;
  for (; i < c->n->n_axes && c->n->axes[i] != jo && c->n->axes[i] != u && c->n->axes[i]->vec == 0; i++)
    want = ceil_div(want, grid_axis(c, c->n->axes[i], want, 1));
  if (by_cols) want = ceil_div(want, grid_axis(c, jo, want, 1));
  for (uint32_t q = i; q < c->n->n_axes && want > 1; q++) {
    sd_axis *a = c->n->axes[q];
    if (a == jo || a->vec > 0 || a->block > 0) continue;
    want = ceil_div(want, grid_axis(c, a, want, a->unroll > 1 ? a->unroll : 1));
  }
  if (!by_cols && jo && want > 1) grid_axis(c, jo, want, 1);
  sd_axis *ji = c->n->axes[c->n->n_axes - 1];
  if (!jo && want > 1 && ji->vec > 0) grid_axis(c, ji, want, (int64_t)ji->vec * c->lanes);
}

// A reduction of one operand over many elements, not over a window.
static bool long_sum(const choice *c, const sd_expr *r) {
  double steps = 1;
  int loads = 0;
  for (uint32_t i = 0; i < r->n_axes; i++) steps *= (double)guess(c, r->axes[i]);
  for (uint32_t l = 0; l < c->loads.len; l++) loads += c->loads.at[l].reduce == r;
  return loads == 1 && steps >= 32;
}

// The reductions serve all iterations of axis u (softmax over another axis than the last): vectors of them stand outside of
// the axes that they do not move with, and are made once.
static void schedule_shared(choice *c, int j) {
  sd_nest *n = c->n;
  sd_axis *ja = n->axes[j];
  int64_t vectors = ceil_div(guess(c, ja), c->lanes);
  int to = 0;
  for (uint32_t i = 0; i < n->n_axes; i++)
    for (uint32_t x = 0; x < c->reductions.len; x++)
      if ((int)i != j && sd_x_uses_axis(c->reductions.at[x].expr, n->axes[i]) && to <= (int)i) to = (int)i + 1;
  ja->vec = (int32_t)sd_min_i64(vectors, 4);
  if (to < j) move_axis(n, j, to);
  if (c->grid) grid_outer(c, sd_min_i64((int64_t)(nest_points(c) * 4 / TILE_ELEMS), MAX_TILES));
}

// Taps of a window side by side, without loops. Those of a maximum are shared by the rows that overlap (cpu/emit_reduce.c).
static void unroll_window(const choice *c, const sd_expr *r) {
  int64_t taps = 1, v, most = r->rop == SD_R_MAX || r->rop == SD_R_MIN ? 25 : 9;
  for (int x = (int)r->n_axes - 1; x >= 0; x--) {
    if (!sd_dim_is_const(c->k->dims, r->axes[x]->extent, &v) || taps * v > most) break;
    r->axes[x]->unroll = 0;
    taps *= v;
  }
}

// Matrix product, convolution, depthwise: register tile over (u, j).
static sard_status *schedule_contraction(choice *c, sd_expr *r, int j, bool *out_done) {
  sd_kernel *k = c->k;
  sd_nest *n = c->n;
  int u = reuse_axis(c, r, j), pack = -1;
  int64_t je = guess(c, n->axes[j]);
  tile t = {1, 1};
  *out_done = false;
  if (u >= 0 && !sd_x_uses_axis(r, n->axes[u]) && vectorizable(c, r, j, c->lanes, &pack) && pack < 0) {
    schedule_shared(c, j);
    *out_done = true;
    return NULL;
  }
  pack = -1;
  if (u >= 0) {
    int make = count_made(r->a[0], r, n->axes[j], n->axes[u]) - 1; // one conversion comes with the load
    t = choose_tile(c->isa, guess(c, n->axes[u]), known(c, n->axes[u]), n->axes[u]->limit != NULL, ceil_div(je, c->lanes),
                    make > 0 ? make : 0);
  }
  if (!vectorizable(c, r, j, (int64_t)t.nv * c->lanes, &pack)) return NULL;
  *out_done = true;
  if (u < 0) { // no reuse: several outputs side by side share the loads of their windows
    u = -1;
    for (int i = (int)n->n_axes - 1; i >= 0; i--)
      if (i != j && guess(c, n->axes[i]) > 1) { u = i; break; }
    int64_t vectors = ceil_div(je, c->lanes), e = u >= 0 ? guess(c, n->axes[u]) : 1;
    if (long_sum(c, r)) {
      t.nv = (int)sd_min_i64(vectors, 8); // far apart in memory, so that each visit reads much
      t.mr = (int)sd_min_i64(e, 8 / t.nv);
    } else {
      t.nv = vectors >= 2 && e < 4 ? 2 : 1;
      t.mr = (int)(e < 4 ? e : 4);
      if (u >= 0 && known(c, n->axes[u]))
        for (int m = 7; m >= 3; m--)
          if (e % m == 0) { t.mr = m; break; }
    }
    unroll_window(c, r);
  }
  double flops = 2 * nest_points(c) * reduce_work(c);
  uint32_t moves = vector_operand_axes(c, r, j);
  sd_axis *ua = u >= 0 ? n->axes[u] : NULL, *jo = NULL, *ji = n->axes[j];
  if (ua && t.mr > 1) ua->unroll = t.mr;
  int64_t factor = (int64_t)t.nv * c->lanes;
  if (pack >= 0) {
    sd_access l = c->loads.at[pack];
    sd_pack p;
    sd_expr *free_axes[SD_PACK_DIMS];
    const sd_axis *x;
    uint32_t nf = 0;
    if (!pack_plan(c, &l, (uint32_t)j, factor, &p)) return SD_ERR(INTERNAL, "packing of %s failed", k->name);
    for (uint32_t i = 0; (x = pack_axis(c, i)); i++)
      if (x != n->axes[j] && sd_access_stride(k, l.load->a[0], x) != SD_STRIDE_ZERO) free_axes[nf++] = sd_x_axis(k, (sd_axis *)x);
    SD_TRY(sd_nest_split(k, n, (uint32_t)j, factor));
    jo = n->axes[j], ji = n->axes[j + 1];
    SD_TRY(pack_apply(c, &l, &p, jo, ji, free_axes));
  } else if (u >= 0 && je > factor && reuse_axis(c, r, j) >= 0 && n->n_axes < SD_MAX_AXES) {
    SD_TRY(sd_nest_split(k, n, (uint32_t)j, factor));
    jo = n->axes[j], ji = n->axes[j + 1];
  }
  ji->vec = t.nv;
  // lanes innermost; panels of the vector operand outside of the rows that reuse them
  move_axis(n, axis_position(n, ji), (int)n->n_axes - 1);
  if (jo) {
    int from = axis_position(n, jo), to = 0;
    while (to < from && (moves >> to & 1)) to++;
    move_axis(n, from, to);
  }
  if (c->grid) grid_contraction(c, r, jo, ua, flops);
  return NULL;
}

// The axis along which a load is contiguous that is far apart along the vector axis: such loads are made in square
// blocks that are turned in registers.
static int turned_axis(const choice *c) {
  int found = -1, turned = 0;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce || x->load->a[1] || sd_dtype_bits(x->load->buf->dtype) != 32) continue;
    if (sd_access_stride(c->k, x->load->a[0], c->n->axes[c->vaxis]) != SD_STRIDE_MANY) continue;
    for (int i = (int)c->n->n_axes - 1; i >= 0; i--)
      if (i != c->vaxis && sd_access_stride(c->k, x->load->a[0], c->n->axes[i]) == SD_STRIDE_ONE) found = i, turned++;
  }
  return turned == 1 && guess(c, c->n->axes[found]) >= c->lanes ? found : -1;
}

// All reductions are short and of known length (softmax over a few channels): each lane makes its own.
static bool short_reductions(const choice *c) {
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    int64_t steps = 1;
    const sd_expr *r = c->reductions.at[i].expr;
    if (r->a[0]->op == SD_X_MUL) return false; // a product reads rows
    for (uint32_t x = 0; x < r->n_axes; x++) {
      if (!known(c, r->axes[x]) || r->axes[x]->limit) return false;
      steps *= guess(c, r->axes[x]);
      if (steps > 32) return false;
    }
  }
  return true;
}

// Positions that are computed along the vector axis (Resize, Gather) serve several iterations of the next axis that they do
// not depend on.
static void share_indices(choice *c) {
  sd_axis *v = c->n->axes[c->vaxis], *next = NULL;
  bool computed = false;
  for (int i = (int)c->n->n_axes - 1; i >= 0 && !next; i--)
    if (i != c->vaxis && guess(c, c->n->axes[i]) > 1) next = c->n->axes[i];
  if (!next || c->reductions.len || next->limit) return;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_expr *offset = c->loads.at[l].load->a[0];
    if (sd_access_stride(c->k, offset, v) != SD_STRIDE_OPAQUE) continue;
    computed = true;
    for (uint32_t t = 0; t < offset->n; t++)
      if (sd_x_uses_axis(offset->a[t], v) && sd_x_uses_axis(offset->a[t], next)) return;
  }
  int64_t e = guess(c, next), most = sd_min_i64(e, 8), u = most;
  if (!computed) return;
  while (known(c, next) && u > most / 2 && e % u) u--;
  next->unroll = (int32_t)(u > most / 2 ? u : most);
}

static void schedule_map(choice *c) {
  sd_nest *n = c->n;
  if (c->vaxis >= 0) {
    sd_axis *v = n->axes[c->vaxis];
    int64_t e = guess(c, v);
    bool many = n->stores.len > MANY_STORES; // what they share fills the registers
    if (e >= c->lanes / 2 || !known(c, v)) v->vec = e >= 2 * c->lanes && !many ? 2 : 1;
    int turned = c->reductions.len || many ? -1 : turned_axis(c);
    if (turned >= 0 && e >= c->lanes) v->vec = 1, n->axes[turned]->unroll = c->lanes;
    sd_dim apart;
    if (turned >= 0 && e >= 2 && e <= 4 && known(c, v) && sd_x_coef(c->k, n->stores.at[0].offset, n->axes[turned], &apart) &&
        sd_dim_is(c->k->dims, apart, e)) // few channels of pixels: vectors of pixels, put together when stored
      v->vec = 0, v->unroll = (int32_t)e, n->axes[turned]->vec = 1;
    if (v->vec > 0 && turned < 0) share_indices(c);
  }
}

static bool reductions_use(const choice *c, const sd_axis *a) {
  for (uint32_t x = 0; x < c->reductions.len; x++)
    if (sd_x_uses_axis(c->reductions.at[x].expr, a)) return true;
  return false;
}

// Reductions are made once for all iterations of the axes that they do not move with: those go inside of the others, and no
// tile of the grid makes them again.
static void shared_inside(choice *c) {
  sd_nest *n = c->n;
  sd_axis *v = c->vaxis >= 0 ? n->axes[c->vaxis] : NULL;
  int to = 0;
  bool moved = false;
  for (int i = 0; i < (int)n->n_axes; i++) {
    if (!reductions_use(c, n->axes[i])) continue;
    moved |= i > to;
    move_axis(n, i, to++);
  }
  if (moved) c->split = (uint32_t)to;
  if (v) c->vaxis = axis_position(n, v);
}

static sard_status *schedule_nest(choice *c) {
  sd_nest *n = c->n;
  bool done = false;
  sd_access_collect(c->k, n, c->a, &c->loads, &c->reductions);
  c->vaxis = store_axis(c);
  if (n->sequential || n->stores.len == 0) return NULL;
  for (uint32_t i = 0; i < c->reductions.len && c->vaxis >= 0 && !done; i++) {
    sd_expr *r = c->reductions.at[i].expr;
    if (!c->reductions.at[i].parent && sd_x_uses_axis(r, n->axes[c->vaxis])) SD_TRY(schedule_contraction(c, r, c->vaxis, &done));
  }
  bool along = false; // a reduction moves with the would-be vector axis but cannot be vectorized along it
  for (uint32_t i = 0; i < c->reductions.len && c->vaxis >= 0; i++)
    along |= sd_x_uses_axis(c->reductions.at[i].expr, n->axes[c->vaxis]);
  if (!done) {
    if (!short_reductions(c)) shared_inside(c);
    if (!along || short_reductions(c)) schedule_map(c);
    for (uint32_t i = 0; i < c->reductions.len && along && c->vaxis >= 0 && n->axes[c->vaxis]->vec > 0; i++)
      if (!c->reductions.at[i].parent) unroll_window(c, c->reductions.at[i].expr);
    schedule_row_reductions(c);
    double work = nest_points(c) * (along ? reduce_work(c) + 1 : chained_loads(c));
    if (!along && c->reductions.len) { // each row costs at least its reduction
      double rows = 1;
      for (uint32_t i = 0; i < n->n_axes; i++)
        if ((int)i != c->vaxis) rows *= (double)guess(c, n->axes[i]);
      work += rows * reduce_work(c);
    }
    if (c->grid) grid_outer(c, sd_min_i64((int64_t)(work / TILE_ELEMS), MAX_TILES));
  }
  return NULL;
}

static sard_status *schedule_items(sd_kernel *k, sd_items *items, const sd_isa *isa, bool grid, sd_arena *a, sd_packs *packs) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) {
      SD_TRY(schedule_items(k, items->at[i].body, isa, false, a, packs));
      continue;
    }
    SD_TRY(sd_split_groups(k, items->at[i].nest, a));
    choice c = {.k = k, .n = items->at[i].nest, .isa = isa, .a = a, .packs = packs, .grid = grid, .lanes = isa->vector_bytes / 4, .split = SD_MAX_AXES};
    SD_TRY(schedule_nest(&c));
  }
  return NULL;
}

sard_status *sd_choose(sd_kernel *k, const sd_isa *isa, int opt, sd_arena *a, sd_packs *packs) {
  if (opt <= 0) return NULL;
  SD_TRY(sd_stash(k, isa->vector_bytes / 4, a));
  return schedule_items(k, &k->items, isa, k->items.len == 1, a, packs);
}
