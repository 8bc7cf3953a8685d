// Long sums in chunks, see long_sums.h: which, and the nests for them.
#include "codegen/long_sums.h"

#include <string.h>

#include "codegen/choose_nest.h"
#include "codegen/product.h"
#include "runtime/base/alloc.h"

#define LEAST_STEPS   1500 // of the sum: of fewer, more loads of sums take what is won
#define MOST_CHUNK    512  // steps
#define MOST_TAPS     1024 // steps of the inner axes of a window
#define LEAST_CHUNK   192
#define MOST_ROWS     128  // of a tile
#define MOST_COLUMNS  256
#define LEAST_COLUMNS 96
#define TILES         8 // wanted

typedef struct long_sum {
  sd_kernel *k;
  sd_nest *n;
  const sd_expr *r; // the sum
  int column;       // axis of the nest; all others are rows, of images too
  int64_t rows, columns; // of a tile; of all
  uint32_t taps;    // axes of the sum, the outermost ones, each step of which has chunks of its own
  int64_t chunk, block, part; // of the next axis of the sum, of the outermost axis of rows, of columns
} long_sum;

// ---- what is one ----
static bool moves(const long_sum *s, const sd_expr *load, int axis) { return sd_access_stride(s->k, load->a[0], s->n->axes[axis]) != SD_STRIDE_ZERO; }

// Finds the sum, a product of rows that lie side by side by a constant that moves with the columns.
static bool find(long_sum *s, sd_arena *a) {
  sd_product p;
  if (!sd_product_find(s->k, s->n, a, &p) || p.x->buf->invariant) return false;
  s->r = p.sum;
  for (int i = 0; i < (int)s->n->n_axes; i++)
    if (moves(s, p.x, i) == (i == s->column) || moves(s, p.w, i) != (i == s->column)) return false;
  return sd_access_stride(s->k, p.x->a[0], s->r->axes[s->r->n_axes - 1]) == SD_STRIDE_ONE;
}

// ---- tiles ----

// The least number of equal parts of n, each of at most `most` and a multiple of `unit`; 0: there are none of `least`.
static int64_t parts_of(int64_t n, int64_t most, int64_t unit, int64_t least) {
  for (int64_t p = sd_ceil_div(n, most); p > 0 && n / p >= least; p++)
    if (n % p == 0 && n / p % unit == 0) return p;
  return 0;
}

static sd_axis *outermost_rows(const long_sum *s) {
  return s->n->n_axes < 2 ? NULL : s->n->axes[s->column == 0];
}

// What a step of the outermost axis of rows has; 0: that is not known.
static int64_t rows_inside(const long_sum *s) {
  int64_t rows = 1, e;
  for (int i = 0; i < (int)s->n->n_axes; i++) {
    if (i == s->column || s->n->axes[i] == outermost_rows(s)) continue;
    if (!sd_dim_is_const(s->k->dims, s->n->axes[i]->extent, &e) || !sd_ck_mul_i64(rows, e, &rows)) return 0;
  }
  return rows;
}

// Rows of a tile, all tiles alike as far as possible. One axis, or several that would be one without borders around their images: a part
// of a model does not see these.
static bool choose_rows(long_sum *s) {
  const sd_axis *first = outermost_rows(s);
  int64_t inside = rows_inside(s), e = first ? sd_access_guess(s->k->dims, first->extent) : 1;
  if (inside < 1 || e < 1) return false;
  int64_t most = inside < MOST_ROWS ? MOST_ROWS / inside : 1;
  bool known = !first || sd_dim_is_const(s->k->dims, first->extent, NULL);
  s->block = known ? sd_ceil_div(e, sd_ceil_div(e, most)) : most;
  return sd_ck_mul_i64(inside, s->block, &s->rows) && s->rows <= 4 * MOST_ROWS;
}

// Chunks show in the bits of results: they follow from the steps alone, so that a part of the rows gives the bits of all.
static bool choose_chunk(long_sum *s) {
  int64_t e, inside = 1, last = s->r->n_axes - 1;
  for (uint32_t i = 0; i < s->r->n_axes; i++)
    if (s->r->axes[i]->limit || !sd_dim_is_const(s->k->dims, s->r->axes[i]->extent, &e) || !sd_ck_mul_i64(inside, e, &inside) || !e) return false;
  if (inside < LEAST_STEPS) return false;
  for (s->taps = 0; s->taps < last && inside > MOST_TAPS; s->taps++) inside /= sd_access_guess(s->k->dims, s->r->axes[s->taps]->extent);
  s->chunk = e = sd_access_guess(s->k->dims, s->r->axes[s->taps]->extent);
  if (s->taps == last && e >= LEAST_STEPS) {
    int64_t parts = parts_of(e, MOST_CHUNK, 8, LEAST_CHUNK);
    s->chunk = parts ? e / parts : e;
  }
  return s->taps > 0 || s->chunk < e;
}

static bool choose_tile(long_sum *s, const sd_isa *isa) {
  int64_t lanes = isa->vector_bytes / 4, parts = parts_of(s->columns, MOST_COLUMNS, lanes, 1);
  if (!parts || !choose_rows(s)) return false;
  const sd_axis *first = outermost_rows(s);
  int64_t want = TILES / (first ? sd_ceil_div(sd_access_guess(s->k->dims, first->extent), s->block) : 1);
  for (int64_t p = parts + 1; p <= want && s->columns / p >= LEAST_COLUMNS; p++)
    if (s->columns % p == 0 && s->columns / p % lanes == 0) parts = p;
  s->part = s->columns / parts;
  return true;
}

// ---- the nests ----

// Splits an axis so that tiles have `each` of it.
static sard_status *open_axis(long_sum *s, sd_axis *axis, int64_t each) {
  int at = sd_choose_axis_position(s->n, axis);
  if (sd_dim_is(s->k->dims, axis->extent, each)) return NULL;
  SD_TRY(sd_nest_split(s->k, s->n, (uint32_t)at, each));
  sd_vec_push(s->k->arena, &s->k->grid, s->n->axes[at]);
  memmove(&s->n->axes[at], &s->n->axes[at + 1], (--s->n->n_axes - (uint32_t)at) * sizeof *s->n->axes);
  return NULL;
}

static sd_axis *like(sd_kernel *k, const sd_axis *a) {
  sd_axis *x = sd_kernel_axis(k, a->name, a->extent);
  x->limit = a->limit;
  return x;
}

// Of the sum at a point of the axes, in their order.
static sd_expr *place(sd_kernel *k, sd_axis *const *axes, uint32_t n) {
  sd_expr *at = sd_x_i(k, SD_I64, 0);
  for (uint32_t i = 0; i < n; i++) at = sd_x_bin(k, SD_X_ADD, sd_x_mul_dim(k, at, axes[i]->extent), sd_x_axis(k, axes[i]));
  return at;
}

// A loop over an axis of the sum, or over chunks of it, which the axis is of then; *later: whether any loop is behind its first turn.
static sd_items *open_loop(sd_kernel *k, sd_items *items, sd_axis **axis, int64_t chunk, sd_expr **body, sd_expr **later) {
  int64_t e = sd_access_guess(k->dims, (*axis)->extent);
  sd_axis *loop = sd_kernel_axis(k, chunk > 1 ? "chunk" : (*axis)->name, sd_dim_const(k->dims, e / chunk)), *step = NULL;
  sd_expr *at = sd_x_mul_dim(k, sd_x_axis(k, loop), sd_dim_const(k->dims, chunk)), *next = sd_x_bin(k, SD_X_NE, sd_x_axis(k, loop), sd_x_i(k, SD_I64, 0));
  if (chunk > 1) step = sd_kernel_axis(k, (*axis)->name, sd_dim_const(k->dims, chunk)), at = sd_x_bin(k, SD_X_ADD, at, sd_x_axis(k, step));
  *body = sd_x_subst(k, *body, *axis, at);
  *later = *later ? sd_x_bin(k, SD_X_OR, *later, next) : next;
  *axis = step;
  return sd_kernel_loop(k, items, loop);
}

// sums[rows, column] = (those of the chunks before) + sum of this chunk
static void sum_chunks(const long_sum *s, sd_buf *sums) {
  sd_kernel *k = s->k;
  sd_axis *axes[SD_MAX_AXES];
  uint32_t n_axes = s->r->n_axes, taps = s->taps;
  sd_items *items = NULL;
  sd_expr *body = s->r->a[0], *later = NULL;
  memcpy(axes, s->r->axes, n_axes * sizeof *axes);
  for (uint32_t i = 0; i < taps; i++) items = open_loop(k, items, &axes[i], 1, &body, &later);
  if (!sd_dim_is(k->dims, axes[taps]->extent, s->chunk)) items = open_loop(k, items, &axes[taps], s->chunk, &body, &later);
  sd_nest *n = sd_kernel_nest(k, items);
  for (uint32_t i = 0; i < s->n->n_axes; i++) {
    sd_axis *x = like(k, s->n->axes[i]);
    sd_nest_axis(n, x);
    body = sd_x_subst(k, body, s->n->axes[i], sd_x_axis(k, x));
  }
  sd_expr *at = place(k, n->axes, n->n_axes), *sum = sd_x_reduce(k, SD_R_SUM, axes + taps, n_axes - taps, body);
  sd_nest_store(k, n, sums, at, sd_x_bin(k, SD_X_ADD, sd_x_load(k, sums, at, later), sum), NULL);
}

static void store_sums(const long_sum *s, sd_buf *sums) {
  sd_nest *n = sd_kernel_nest(s->k, NULL);
  for (uint32_t i = 0; i < s->n->n_axes; i++) sd_nest_axis(n, s->n->axes[i]);
  sd_product_stores(s->k, n, s->n, s->r, sd_x_load(s->k, sums, place(s->k, n->axes, n->n_axes), NULL));
}

sard_status *sd_long_sums(sd_kernel *k, const sd_isa *isa, sd_arena *a) {
  long_sum s = {.k = k, .n = sd_lone_nest(k)};
  s.column = s.n && s.n->n_axes + 2 <= SD_MAX_AXES ? sd_access_store_axis(k, s.n) : -1;
  if (s.column < 0 || !find(&s, a) || !choose_chunk(&s)) return NULL;
  if (!sd_dim_is_const(k->dims, s.n->axes[s.column]->extent, &s.columns) || !choose_tile(&s, isa)) return NULL;
  sd_axis *column = s.n->axes[s.column], *rows = outermost_rows(&s);
  SD_TRY(open_axis(&s, column, s.part));
  if (rows) SD_TRY(open_axis(&s, rows, s.block));
  s.column = sd_access_store_axis(k, s.n);
  if (!find(&s, a)) return SD_ERR(INTERNAL, "%s: a product is lost", k->name); // what the splits have rebuilt
  sd_buf *sums = sd_kernel_buf(k, SD_BUF_LOCAL, SD_F32, sd_dim_const(k->dims, s.rows * s.part), NULL);
  k->items = (sd_items){0};
  sum_chunks(&s, sums);
  store_sums(&s, sums);
  return NULL;
}
