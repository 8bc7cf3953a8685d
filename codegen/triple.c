// Products of f32 as products of bf16, see triple.h: which, and the nests for them.
#include "codegen/triple.h"

#include <math.h>

#include "codegen/choose_nest.h"
#include "codegen/dot.h"
#include "codegen/product.h"
#include "runtime/base/alloc.h"

#define ROW_BYTES   1000000 // of the parts of a tile's rows: they stay in the second cache, beside two panels
#define LEAST_STEPS 32
#define MOST_CHUNKS 8 // of the steps
#define LEAST_ROWS  24
#define PANEL       SD_TRIPLE_PANEL
#define TILES       4 // of the grid, where the rows make fewer

// Cycles, measured: of 32 x 32 sums over 32 steps, and of a line of weights that comes from memory; of an
// element that is taken apart.
#define BLOCK_CYCLES 500.0
#define ONE_CYCLES   280.0 // where the constant is bf16
#define LINE_CYCLES  15.0
#define APART_CYCLES 0.8
#define SUM_CYCLES   0.15       // of a sum that is kept in memory between two chunks
#define FMA_CYCLES   (1 / 29.0) // of a multiply-add by vectors
#define HIDDEN       0.4        // share of the time for weights that vectors wait for
#define LEAST_GAIN   1.1

typedef struct triple {
  sd_kernel *k;
  sd_nest *n;
  const sd_expr *r, *x, *w;            // the sum, the loads of its factors; w is constant
  int column, row;                     // outermost axis that w moves with, innermost that x moves with
  int64_t steps, rows, columns, outer; // of the sum; of that axis; in all; of the other axes of x
  int w_parts; // of the constant: 1, 3
  int64_t block, part,
      chunk; // of rows, of the column axis: of each tile; of steps: for which rows are taken apart at once
  // What is made of them: rows of a tile, loops over columns, one of which is over panels, the chunks (NULL:
  // all steps at once), lanes of a panel, of which `width` exist in all; the order of the constant.
  sd_axis *row_axis, *loops[SD_MAX_AXES], *chunks, *panel, *lanes, *order[SD_MAX_AXES];
  uint32_t n_loops, n_order;
  int64_t width;
  sd_expr *from; // first step of the chunk
  sd_buf *rows_apart, *sums;
} triple;

// ---- what is one ----
static sd_nest *nest_of(const sd_kernel *k) {
  sd_nest *n = sd_lone_nest(k);
  if (!n || n->n_axes + 2 > SD_MAX_AXES) return NULL;
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (!sd_dim_is_const(k->dims, n->axes[i]->extent, NULL)) return NULL;
  return n;
}

// Finds the sum and its factors.
static bool find(triple *t, sd_arena *a) {
  sd_product p;
  sd_dim by;
  bool found = sd_product_find(t->k, t->n, a, &p) && p.x->buf != p.w->buf && p.w_loads == 1;
  t->r = p.sum, t->x = p.x, t->w = p.w;
  if (!found || t->r->n_axes != 1 || t->r->axes[0]->limit || !sd_dim_is_const(t->k->dims, t->r->axes[0]->extent, &t->steps)) return false;
  return sd_x_coef(t->k, t->x->a[0], t->r->axes[0], &by) && sd_dim_is(t->k->dims, by, 1);
}

// Each axis belongs to one of the factors.
static bool find_axes(triple *t) {
  t->column = t->row = -1, t->columns = t->outer = 1;
  for (uint32_t i = 0; i < t->n->n_axes; i++) {
    const sd_axis *a = t->n->axes[i];
    int64_t e = sd_access_guess(t->k->dims, a->extent);
    bool x = sd_access_stride(t->k, t->x->a[0], a) != SD_STRIDE_ZERO,
         w = sd_access_stride(t->k, t->w->a[0], a) != SD_STRIDE_ZERO;
    if (x == w || sd_access_stride(t->k, x ? t->x->a[0] : t->w->a[0], a) == SD_STRIDE_OPAQUE) return false;
    if (w && t->column < 0) t->column = (int)i;
    if (w) t->columns *= e;
    if (x && t->row >= 0) t->outer *= t->rows;
    if (x) t->row = (int)i, t->rows = e;
  }
  return t->row >= 0 && t->column >= 0 && sd_x_uses_axis(t->w, t->n->axes[sd_access_store_axis(t->k, t->n)]);
}

// Weights below 2^-100 lose parts to zeros; those that are not finite have none. lower: bits that have to be 0.
static bool fits_parts(const sd_const *c, uint32_t lower) {
  enum { BLOCK = 256 };
  const uint32_t least = (127 - 100) << 23, most = (127 + 100) << 23; // 2^-100, 2^100
  uint32_t v[BLOCK], bad = 0;
  for (uint64_t i = 0; i < c->count && !bad; i += BLOCK) {
    uint64_t n = c->count - i < BLOCK ? c->count - i : BLOCK;
    if (n < BLOCK) memset(v, 0, sizeof v);
    memcpy(v, (const uint8_t *)c->data + 4 * i, 4 * n);
    for (int q = 0; q < BLOCK; q++) {
      uint32_t size = v[q] & 0x7fffffff;
      bad |= (size > most) | ((size < least) & (size != 0)) | (v[q] & lower);
    }
  }
  return !bad;
}

// ---- tiles ----

// Rows of a tile: the largest part of the axis, all of them alike, that stays near, one of `least` at least.
// 0: there is none.
static int64_t rows_of(const triple *t, int64_t least) {
  int64_t most = ROW_BYTES / (6 * t->chunk), first = sd_ceil_div(t->rows, most < 1 ? 1 : most);
  for (int64_t parts = first > least ? first : least; parts <= t->rows / LEAST_ROWS; parts++)
    if (t->rows % parts == 0) return t->rows / parts;
  return 0;
}

static int64_t row_tiles(const triple *t) { return t->rows / t->block * t->outer; }

static int64_t column_axis(const triple *t) {
  return sd_access_guess(t->k->dims, t->n->axes[t->column]->extent);
}

// Parts of the columns, for which rows are taken apart again.
static int64_t parts_of(const triple *t) {
  int64_t e = column_axis(t), unit = sd_access_store_axis(t->k, t->n) == t->column ? PANEL : 1;
  int64_t want = sd_ceil_div(TILES, row_tiles(t)), parts = 1;
  if (e % unit) return 1;
  for (int64_t p = 2; p <= want; p++)
    if (e / unit % p == 0) parts = p;
  return parts;
}

static double lines_of_weights(const triple *t) {
  return (double)t->steps * (double)t->columns / 64 * LINE_CYCLES;
}

static double cycles_of(const triple *t, int64_t parts) {
  double rows = (double)(t->rows * t->outer), k = (double)t->steps, n = (double)t->columns,
         tiles = (double)row_tiles(t);
  double blocks = tiles * (double)sd_ceil_div(t->block, 32) * k / 32 * ceil(n / 32),
         chunks = k / (double)t->chunk;
  double sums = chunks > 1 ? SUM_CYCLES * chunks * rows * n : 0;
  return blocks * (t->w_parts == 1 ? ONE_CYCLES : BLOCK_CYCLES) + 2 * t->w_parts * lines_of_weights(t) * tiles + APART_CYCLES * rows * k * (double)parts + sums;
}

static double cycles_of_vectors(const triple *t) {
  return (double)(t->rows * t->outer) * (double)t->steps * (double)t->columns * FMA_CYCLES +
         4 * lines_of_weights(t) * HIDDEN;
}

// chunk: the only one that may be (0: any). Times of `best` and more are none.
static bool search_tiles(triple *t, int64_t chunk, double best) {
  triple found = {0};
  for (int64_t i = 0; i < 2 * MOST_CHUNKS; i++) {
    int64_t chunks = 1 + i / 2;
    t->chunk = t->steps / chunks;
    if ((chunk && t->chunk != chunk) || t->steps % chunks || t->chunk % 2 || t->chunk < LEAST_STEPS ||
        sd_dot_step(t->chunk / 2) < 8)
      continue;
    t->block = rows_of(t, i % 2 ? sd_ceil_div(TILES, t->outer) : 1);
    if (t->block < LEAST_ROWS) continue;
    int64_t parts = parts_of(t);
    int64_t tiles = row_tiles(t) * parts;
    double cycles = cycles_of(t, parts) * (tiles < 2       ? 1.5
                                           : tiles < TILES ? 1.05
                                                           : 1); // other threads have nothing to do
    if (cycles >= best) continue;
    t->part = column_axis(t) / parts;
    best = cycles, found = *t;
  }
  if (found.chunk) *t = found;
  return found.chunk > 0;
}

// Columns of an image, where its rows are not one axis with them, or would not be in other surroundings.
static int64_t deciding_rows(const triple *t) {
  const sd_value *y = t->n->stores.at[0].buf->value;
  int64_t inner, all = t->rows * t->outer;
  bool known = y && y->rank > 2 && sd_dim_is_const(t->k->dims, y->dims[y->rank - 2], &inner);
  return t->k->rows_apart && known && inner > 0 && all % inner == 0 ? inner : t->rows;
}

// Whether it is done, and the chunks, show in the bits of results; they are those of the axes as deciding_rows
// has them.
static bool choose_tiles(triple *t) {
  triple c = *t;
  double vectors = cycles_of_vectors(t);
  c.rows = deciding_rows(t), c.outer = t->rows * t->outer / c.rows;
  if (!search_tiles(&c, 0, vectors / LEAST_GAIN)) return false;
  if (c.rows != t->rows) return search_tiles(t, c.chunk, HUGE_VAL);
  *t = c;
  return true;
}

// ---- the nests ----
static sd_expr *bits(sd_kernel *k, sd_expr *x, uint32_t add) {
  sd_expr *u = sd_x_bits(k, SD_U32, x);
  if (add) u = sd_x_bin(k, SD_X_ADD, u, sd_x_i(k, SD_U32, add));
  return sd_x_bits(k, SD_F32, sd_x_bin(k, SD_X_AND, u, sd_x_i(k, SD_U32, 0xffff0000)));
}

// Of what is infinite nothing is left.
static void parts_of_number(sd_kernel *k, sd_expr *x, sd_expr **part) {
  part[0] = bits(k, x, 0);
  sd_expr *rest =
      sd_x_sel(k, sd_x_un(k, SD_X_ISINF, x), sd_x_f(k, SD_F32, 0), sd_x_bin(k, SD_X_SUB, x, part[0]));
  part[1] = bits(k, rest, 0x8000);
  part[2] = bits(k, sd_x_bin(k, SD_X_SUB, rest, part[1]), 0);
}

// Splits an axis so that tiles have `each` of it; its position after that is that of the tiles.
static sard_status *open_axis(triple *t, int axis, int64_t each, int *moved) {
  if (each == sd_access_guess(t->k->dims, t->n->axes[axis]->extent)) return NULL;
  SD_TRY(sd_nest_split(t->k, t->n, (uint32_t)axis, each));
  if (*moved > axis) ++*moved;
  return NULL;
}

static bool moves(const triple *t, const sd_expr *load, const sd_axis *a) {
  return sd_access_stride(t->k, load->a[0], a) != SD_STRIDE_ZERO;
}

// Axes of the grid: parts of the columns, outermost, since neighbours read the same weights; rows but those
// of a tile. Those of the columns become loops, but for the lanes of a panel.
static sard_status *open_grid(triple *t) {
  sd_kernel *k = t->k;
  int c = t->column, r = t->row, j = sd_access_store_axis(k, t->n);
  bool parts = t->part < column_axis(t), blocks = t->block < t->rows;
  sd_axis *lanes = t->n->axes[j];
  if (c == j) lanes = NULL;
  SD_TRY(open_axis(t, c, t->part, &r));
  sd_axis *part = parts ? t->n->axes[c] : NULL;
  if (!lanes) lanes = t->n->axes[c + parts];
  SD_TRY(open_axis(t, r, t->block, &c));
  t->row_axis = t->n->axes[r + blocks];
  t->width = sd_access_guess(k->dims, lanes->extent);
  j = sd_choose_axis_position(t->n, lanes);
  SD_TRY(sd_nest_split(k, t->n, (uint32_t)j, PANEL));
  t->panel = t->n->axes[j], t->lanes = t->n->axes[j + 1];
  if (!find(t, k->arena))
    return SD_ERR(INTERNAL, "%s: a product is lost", k->name); // what the splits have rebuilt
  if (parts) sd_vec_push(k->arena, &k->grid, part), t->order[t->n_order++] = part;
  for (uint32_t i = 0; i < t->n->n_axes; i++) {
    sd_axis *a = t->n->axes[i];
    if (moves(t, t->x, a) && a != t->row_axis) sd_vec_push(k->arena, &k->grid, a);
    if (moves(t, t->w, a) && a != part && a != t->lanes) t->loops[t->n_loops++] = a;
  }
  return NULL;
}

static sd_expr *plus(sd_kernel *k, sd_expr *x, sd_expr *y) { return sd_x_bin(k, SD_X_ADD, x, y); }
static sd_expr *times(sd_kernel *k, sd_expr *x, int64_t n) {
  return sd_x_mul_dim(k, x, sd_dim_const(k->dims, n));
}
static sd_expr *number(sd_kernel *k, int64_t n) { return sd_x_i(k, SD_I64, n); }
static sd_axis *axis(sd_kernel *k, const char *name, int64_t n) {
  return sd_kernel_axis(k, name, sd_dim_const(k->dims, n));
}
static sd_buf *local(sd_kernel *k, sd_dtype t, int64_t n) {
  return sd_kernel_buf(k, SD_BUF_LOCAL, t, sd_dim_const(k->dims, n), NULL);
}

// Elements from part to part of a row: whole lines, and rows at no distance that is a multiple of 2 KiB.
static int64_t part_of_row(int64_t steps) {
  int64_t n = sd_ceil_div(steps, 32) * 32;
  return 6 * n % 2048 ? n : n + 32;
}

// The number that has its parts, one or three, at `offset`, and `apart` and twice `apart` elements further.
static sd_expr *whole(sd_kernel *k, sd_buf *b, sd_expr *offset, int parts, int64_t apart) {
  sd_expr *part[SD_DOT_PARTS];
  for (int i = 0; i < parts; i++)
    part[i] = sd_x_load(k, b, plus(k, offset, number(k, i * apart)), NULL);
  return parts == 1 ? part[0] : plus(k, part[0], plus(k, part[1], part[2]));
}

static void take_rows_apart(triple *t, sd_items *items) {
  sd_kernel *k = t->k;
  int64_t apart = part_of_row(t->chunk);
  sd_axis *i = axis(k, t->row_axis->name, t->block), *s = axis(k, t->r->axes[0]->name, t->chunk);
  sd_nest *n = sd_kernel_nest(k, items);
  sd_nest_axis(n, i), sd_nest_axis(n, s);
  sd_expr *x = sd_x_subst(k, (sd_expr *)t->x, t->row_axis, sd_x_axis(k, i));
  x = sd_x_subst(k, x, t->r->axes[0], plus(k, t->from, sd_x_axis(k, s)));
  sd_expr *part[SD_DOT_PARTS],
      *to = plus(k, times(k, sd_x_axis(k, i), SD_DOT_PARTS * apart), sd_x_axis(k, s));
  parts_of_number(k, x, part);
  for (int p = 0; p < SD_DOT_PARTS; p++)
    sd_nest_store(k, n, t->rows_apart, plus(k, to, number(k, p * apart)), part[p], NULL);
}

static bool coefficient(triple *t, const sd_axis *a, int64_t *out) {
  sd_dim d;
  return sd_x_coef(t->k, t->w->a[0], a, &d) && sd_dim_is_const(t->k->dims, d, out);
}

static void add_dim(sd_pack *p, int64_t extent, int64_t stride) {
  p->stride[p->n] = stride, p->extent[p->n++] = extent;
}

// The constant in parts, in the order in which panels are read: [axes of the grid, loops, the last of which
// is over panels][parts][steps / 2] [lanes][2].
static sard_status *pack(triple *t, sd_packs *packs) {
  sd_kernel *k = t->k;
  sd_pack p = {.buf = t->w->buf, .side = 2, .steps = t->chunk, .factor = PANEL, .limit = t->width};
  sd_expr *rest = t->w->a[0];
  int64_t count = 1, by, step;
  const sd_axis *s = t->r->axes[0];
  if (!coefficient(t, s, &step)) return SD_ERR(INTERNAL, "%s: the steps of a constant", k->name);
  for (uint32_t i = 0; i < t->n_order; i++) {
    sd_axis *a = t->order[i];
    if (a == t->chunks) by = step * t->chunk;
    else if (!coefficient(t, a, &by))
      return SD_ERR(INTERNAL, "%s: axis %s of a constant", k->name, a->name);
    if (a == t->panel) p.outer = p.n;
    add_dim(&p, sd_access_guess(k->dims, a->extent), by);
    rest = sd_x_subst(k, rest, a, number(k, 0));
  }
  p.part = p.n;
  if (!coefficient(t, t->lanes, &by)) return SD_ERR(INTERNAL, "%s: the lanes of a constant", k->name);
  add_dim(&p, t->w_parts, 0), add_dim(&p, t->chunk / 2, 2 * step), add_dim(&p, PANEL, by),
      add_dim(&p, 2, step);
  rest = sd_x_subst(k, sd_x_subst(k, rest, s, number(k, 0)), t->lanes, number(k, 0));
  if (!sd_x_const_value(rest, NULL, &p.base)) return SD_ERR(INTERNAL, "%s: the place of a constant", k->name);
  for (uint32_t i = 0; i < p.n; i++)
    if (!sd_ck_mul_i64(count, p.extent[i], &count))
      return SD_ERR(NOMEM, "the packed constant of %s is too large", k->name);
  p.buf->count = sd_dim_const(k->dims, count), p.buf->dtype = SD_BF16;
  sd_vec_push(k->arena, packs, p);
  return NULL;
}

// The sum over the steps of a chunk, of parts.
static sd_expr *make_sum(triple *t) {
  sd_kernel *k = t->k;
  sd_axis *axes[2] = {axis(k, "k_o", t->chunk / 2), axis(k, "k_i", 2)};
  int64_t apart = part_of_row(t->chunk);
  axes[1]->unroll = 0;
  sd_expr *turn = sd_x_axis(k, axes[0]), *side = sd_x_axis(k, axes[1]),
          *row = times(k, sd_x_axis(k, t->row_axis), SD_DOT_PARTS * apart);
  sd_expr *a = whole(k, t->rows_apart, plus(k, plus(k, row, times(k, turn, 2)), side), SD_DOT_PARTS, apart);
  sd_expr *at = number(k, 0), *lane = times(k, sd_x_axis(k, t->lanes), 2);
  for (uint32_t i = 0; i < t->n_order; i++)
    at = plus(k, sd_x_mul_dim(k, at, t->order[i]->extent), sd_x_axis(k, t->order[i]));
  at = plus(k, plus(k, times(k, at, t->w_parts * t->chunk * PANEL), times(k, turn, 2 * PANEL)),
            plus(k, lane, side));
  sd_expr *w = whole(k, t->w->buf, at, t->w_parts, t->chunk * PANEL);
  return sd_x_reduce(k, SD_R_SUM, axes, 2, sd_x_bin(k, SD_X_MUL, a, w));
}

static sd_expr *renewed(sd_kernel *k, sd_expr *e, sd_axis *const *old, const sd_nest *n) {
  for (uint32_t a = 0; e && a < n->n_axes; a++) e = sd_x_subst(k, e, old[a], sd_x_axis(k, n->axes[a]));
  return e;
}

// Other axes in the place of all of n, for a schedule of its own.
static void renew_axes(sd_kernel *k, sd_nest *n) {
  sd_axis *old[SD_MAX_AXES];
  memcpy(old, n->axes, n->n_axes * sizeof *old);
  for (uint32_t a = 0; a < n->n_axes; a++) n->axes[a] = sd_kernel_axis(k, old[a]->name, old[a]->extent);
  for (uint32_t a = 0; a < n->n_axes; a++) n->axes[a]->limit = renewed(k, old[a]->limit, old, n);
  for (uint32_t q = 0; q < n->stores.len; q++) {
    sd_store *st = &n->stores.at[q];
    st->offset = renewed(k, st->offset, old, n), st->value = renewed(k, st->value, old, n),
    st->guard = renewed(k, st->guard, old, n);
  }
}

// The nest of the product, in loops over the panels.
static sd_nest *over_panels(triple *t, sd_items *items) {
  for (uint32_t i = 0; i < t->n_loops; i++) items = sd_kernel_loop(t->k, items, t->loops[i]);
  sd_nest *n = sd_kernel_nest(t->k, items);
  sd_nest_axis(n, t->row_axis), sd_nest_axis(n, t->lanes);
  return n;
}

// Sums of all chunks are added up in memory, [loops][rows][lanes], then stored.
static void make_chunks(triple *t) {
  sd_kernel *k = t->k;
  sd_expr *at = number(k, 0);
  int64_t panels = 1;
  for (uint32_t i = 0; i < t->n_loops; i++) {
    at = plus(k, sd_x_mul_dim(k, at, t->loops[i]->extent), sd_x_axis(k, t->loops[i]));
    panels *= sd_access_guess(k->dims, t->loops[i]->extent);
  }
  at = plus(k, times(k, plus(k, times(k, at, t->block), sd_x_axis(k, t->row_axis)), PANEL),
            sd_x_axis(k, t->lanes));
  sd_buf *sums = local(k, SD_F32, panels * t->block * PANEL);
  sd_axis *flat = sd_kernel_axis(k, "i", sums->count);
  sd_nest *clear = sd_kernel_nest(k, NULL), *end;
  sd_nest_axis(clear, flat);
  sd_nest_store(k, clear, sums, sd_x_axis(k, flat), sd_x_f(k, SD_F32, 0), NULL);
  sd_items *items = sd_kernel_loop(k, NULL, t->chunks);
  sd_expr *so_far = sd_x_load(k, sums, at, NULL);
  take_rows_apart(t, items);
  sd_nest_store(k, over_panels(t, items), sums, at, plus(k, so_far, make_sum(t)), NULL);
  end = sd_kernel_nest(k, NULL);
  sd_nest_axis(end, t->row_axis);
  for (uint32_t i = 0; i < t->n_loops; i++) sd_nest_axis(end, t->loops[i]);
  sd_nest_axis(end, t->lanes);
  sd_product_stores(k, end, t->n, t->r, so_far);
  renew_axes(k, end);
}

static sard_status *make_items(triple *t, sd_packs *packs) {
  sd_kernel *k = t->k;
  t->from = number(k, 0);
  if (t->chunk < t->steps) {
    t->chunks = axis(k, "chunk", t->steps / t->chunk);
    t->order[t->n_order++] = t->chunks, t->from = times(k, sd_x_axis(k, t->chunks), t->chunk);
  }
  for (uint32_t i = 0; i < t->n_loops; i++) t->order[t->n_order++] = t->loops[i];
  SD_TRY(pack(t, packs));
  t->rows_apart = local(k, SD_BF16, t->block * SD_DOT_PARTS * part_of_row(t->chunk));
  k->items = (sd_items){0};
  if (t->chunks) {
    make_chunks(t);
    return NULL;
  }
  take_rows_apart(t, NULL);
  sd_product_stores(k, over_panels(t, NULL), t->n, t->r, make_sum(t));
  return NULL;
}

sard_status *sd_triple(sd_kernel *k, const sd_isa *isa, sd_arena *a, sd_packs *packs) {
  triple t = {.k = k};
  if (!isa->matrix || isa->pairs < 2 || !(t.n = nest_of(k))) return NULL;
  if (sd_access_store_axis(k, t.n) < 0 || !find(&t, a) || !find_axes(&t)) return NULL;
  const sd_const *w = t.w->buf->value->data;
  t.w_parts = fits_parts(w, 0xffff) ? 1 : SD_DOT_PARTS;
  if (!choose_tiles(&t) || (t.w_parts > 1 && !fits_parts(w, 0))) return NULL;
  SD_TRY(open_grid(&t));
  return make_items(&t, packs);
}
