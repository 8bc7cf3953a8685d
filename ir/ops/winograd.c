// Winograd convolution as nests: transform of the input tiles, one matrix product per point, transform of the outputs.
//
// One grid tile is a block of output tiles (and a part of the output channels), small enough for the transformed
// inputs and sums to stay in the second-level cache. The input has more rows and columns, up to whole blocks.
#include "ir/ops/winograd.h"

#include <math.h>
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"

enum { X, U, BIAS };
#define LINE  64               // bytes of a cache line
#define MOST_TILES 112 // of a block
#define SHARED (12 * 1024 * 1024) // bytes of weights that stay in the last cache
#define CACHE (400 * 1024) // bytes of locals that stay close
// Multiply-adds in the time that one weight needs to come from the last cache, from memory (while others are computed).
#define NEAR 4.0 // 0.6 and 8 were right where the last cache is fast; layers of 7x7 and 14x14 lose by half where it is slow
#define START 30000.0 // the same for the start of a block
#define FAR  48.0
// Of i16, half as many bytes: layers of 7x7 were right with a third of what follows for them.
#define NEAR_WORDS 2.0
#define FAR_WORDS  7.2
// With vectors of 8 it is half as many by count, but blocks half as large, which follow from that, were not faster.
// Against the direct form, which loads weights as well: multiply-adds by 16 lanes in the time that a weight needs from memory, what of
// the shorter one of loads and products is not hidden behind the other, and the time of a weight of panels that the second cache does not
// keep from rows to rows.
#define ARRIVES    24.0
#define SEEN       0.5
#define AGAIN      20.0
#define NEAR_PANEL (1280 * 1024) // bytes

// ---- transforms ----
static const double near4 = 0.625, far4 = 1.5; // points +-near, +-far of F(4,3)

static int points(int m, double *p) {
  p[0] = 0;
  if (m == 2) {
    p[1] = 1, p[2] = -1;
    return 3;
  }
  p[1] = near4, p[2] = -near4, p[3] = far4, p[4] = -far4;
  return 5;
}

// Coefficient of x^j in the product of (x - p) over all finite points but `skip`.
static double product(int m, int skip, int j) {
  double p[SD_WINO_MAX], c[SD_WINO_MAX + 1] = {1};
  int n = points(m, p), degree = 0;
  for (int i = 0; i < n; i++) {
    if (i == skip) continue;
    degree++;
    for (int d = degree; d >= 0; d--) c[d] = (d > 0 ? c[d - 1] : 0) - p[i] * (d < degree ? c[d] : 0);
  }
  return j <= degree ? c[j] : 0;
}

double sd_winograd_bt(int m, int i, int j) { return product(m, i == m + 1 ? -1 : i, j); }

double sd_winograd_g(int m, int i, int j) {
  double p[SD_WINO_MAX], n = 1, v = 1;
  int count = points(m, p);
  if (i == count) return j == 2;
  for (int q = 0; q < count; q++)
    if (q != i) n *= p[i] - p[q];
  for (int q = 0; q < j; q++) v *= p[i];
  return v / n;
}

double sd_winograd_at(int m, int i, int j) {
  double p[SD_WINO_MAX], v = 1;
  int count = points(m, p);
  if (j == count) return i == m - 1;
  for (int q = 0; q < i; q++) v *= p[j];
  return v;
}

// ---- the split ----
// Loss by items that do not divide among threads, over a few numbers of threads.
static double imbalance(double items) {
  static const struct { int threads; double weight; } mix[] = {{1, 1}, {2, 1.5}, {4, 0.7}, {8, 0.4}};
  double sum = 0, weights = 0;
  for (size_t i = 0; i < sizeof mix / sizeof *mix; i++) {
    double rounds = (double)sd_ceil_div((int64_t)items, mix[i].threads);
    sum += mix[i].weight * rounds * mix[i].threads / items;
    weights += mix[i].weight;
  }
  return sum / weights;
}

static int64_t up_to(int64_t x, int64_t step) { return sd_ceil_div(x, step) * step; }

// Loss by register tiles that are small: loads for each multiply-add, and chains of sums that wait for themselves.
static double small_tiles(const sd_winograd_shape *s, double tiles, double part) {
  double most = s->registers < 32 ? 6 : 14, sums = 2 * most, rows = tiles < most ? tiles : most;
  double vectors = part / s->lanes < 1 ? 1 : part / s->lanes;
  if (vectors > sums / rows) vectors = sums / rows;
  sums = rows * vectors;
  return (sums < 8 ? 8 / sums : 1) * (1 + 0.15 * (rows + vectors) / sums);
}

static double images_of(const sd_winograd_shape *s) { return s->n > 0 ? (double)s->n : 1; }

static double weights_of(const sd_winograd_plan *p, const sd_winograd_shape *s) {
  return (p->m + 2) * (p->m + 2) * (double)(s->ic * s->depth) * (double)s->oc;
}

// Estimate for one image: products, transforms, weights that come from the last cache for each block.
static double blocks_of(const sd_winograd_plan *p, const sd_winograd_shape *s) {
  double xi = (p->m + 2) * (p->m + 2), tiles = (double)(p->block_n * p->block_r * p->block_c), ic = (double)(s->ic * s->depth);
  double part = (double)s->oc / (double)p->groups, weights = xi * ic * part; // of a block
  double size = s->words > 0 ? 2 : 4, rate = s->words > 0 ? s->words : 1;
  double transformed = tiles * (double)(p->block_n + s->depth - 1) / (double)p->block_n;
  int64_t rows = up_to(sd_ceil_div(s->oh, p->m), p->block_r), cols = up_to(sd_ceil_div(s->ow, p->m), p->block_c);
  double blocks = (double)(rows / p->block_r * (cols / p->block_c) * p->groups); // of an image
  double locals = xi * (transformed * (double)s->ic * size + tiles * part * 4), spill = locals > CACHE ? 0.1 * (locals - CACHE) / (1 << 20) : 0;
  double compute = xi * (tiles * (ic * part * small_tiles(s, tiles, part) / rate + 6 * part) + 6.5 * transformed * (double)s->ic);
  compute *= 1 + (spill < 0.3 ? spill : 0.3);
  double far = s->words > 0 ? FAR_WORDS : FAR, near = s->words > 0 ? NEAR_WORDS : NEAR;
  double block = START + compute + weights * (weights * size < SHARED ? near : far);
  double items = blocks * images_of(s) / (double)p->block_n;
  return block / (double)p->block_n * blocks * imbalance(items < 1 ? 1 : items);
}

// The same with weights that come from memory once in a run.
static double estimate(const sd_winograd_plan *p, const sd_winograd_shape *s) {
  return blocks_of(p, s) + weights_of(p, s) * (s->words > 0 ? FAR_WORDS : FAR) / images_of(s);
}

// What a row can be made of.
static bool valid(const sd_winograd_plan *p, const sd_winograd_shape *s) {
  if (p->block_n < 1 || p->block_r < 1 || p->block_c < 1 || p->groups < 1 || s->oc % p->groups) return false;
  if (p->block_n > MOST_TILES || p->block_r > MOST_TILES || p->block_c > MOST_TILES) return false;
  return p->block_n == 1 || (s->n > 0 && s->n % p->block_n == 0);
}

static bool possible(const sd_winograd_plan *p, const sd_winograd_shape *s, int64_t th, int64_t tw) {
  if (!valid(p, s) || p->block_n * p->block_r * p->block_c > MOST_TILES) return false;
  if (p->groups > 1 && s->oc / p->groups % 32) return false;
  if ((s->any_h && p->block_r > 1) || (s->any_w && p->block_c != 8)) return false;
  return p->block_n == 1 || s->depth > 1 || (p->block_r >= th && p->block_c >= tw);
}

sd_winograd_plan sd_winograd_choose(int m, const sd_winograd_shape *s) {
  int64_t th = sd_ceil_div(s->oh, m), tw = sd_ceil_div(s->ow, m);
  sd_winograd_plan best = {m, 1, 1, s->any_w ? 8 : 1, 1, -1};
  for (int64_t r = 1; r <= th && r <= 64; r++)
    for (int64_t parts = 1; parts <= tw && parts <= 64; parts++)
      for (int64_t g = 1; g <= 8; g *= 2)
        for (int64_t n = 1; n <= 8; n *= 2) {
          sd_winograd_plan p = {m, n, r, s->any_w ? 8 : sd_ceil_div(tw, parts), g, 0};
          if (!possible(&p, s, th, tw)) continue;
          p.cost = estimate(&p, s);
          if (best.cost < 0 || p.cost < best.cost) best = p;
        }
  if (best.cost < 0) best.cost = estimate(&best, s);
  return best;
}

static double arrive(const sd_winograd_shape *s, double weights) { return weights * ARRIVES * s->lanes / 16 / images_of(s); }

static double together(double products, double loads) { return products > loads ? products + SEEN * loads : loads + SEEN * products; }

double sd_winograd_cost(const sd_winograd_plan *p, const sd_winograd_shape *s) {
  return s->words > 0 ? p->cost : together(blocks_of(p, s), arrive(s, weights_of(p, s)));
}

// Rows of a register tile of two vectors.
static double direct_rows(const sd_winograd_shape *s) { return s->registers < 32 ? 6 : 14; }

double sd_winograd_direct(const sd_winograd_shape *s) {
  double pixels = (double)s->oh * (double)s->ow, taps = 9 * (double)(s->depth * s->ic), weights = taps * (double)s->oc;
  double each = pixels * small_tiles(s, 14, 2 * s->lanes), again = AGAIN * s->lanes / 16 * (ceil(pixels / direct_rows(s)) - 1);
  if (s->words > 0) return weights * (each + FAR / images_of(s));
  if (taps * 2 * s->lanes * sizeof(float) > NEAR_PANEL && each < again) each = again;
  return together(weights * each, arrive(s, weights));
}

static bool guess_size(void *user, const char *name, int64_t *v) {
  (void)user, (void)name;
  *v = 224;
  return true;
}

static int64_t size_of(const sd_dimtab *t, sd_dim d, bool *any) {
  int64_t v;
  *any = !sd_dim_is_const(t, d, &v);
  if (*any && !sd_dim_eval(t, d, guess_size, NULL, &v)) v = 1;
  return v < 1 ? 1 : v;
}

sd_winograd_shape sd_winograd_shape_of(const sd_dimtab *t, sd_dim n, sd_dim oh, sd_dim ow, int64_t depth, int64_t ic, int64_t oc) {
  sd_winograd_shape s = {.depth = depth, .ic = ic, .oc = oc, .lanes = 16, .registers = 32};
  sd_dim_is_const(t, n, &s.n);
  s.oh = size_of(t, oh, &s.any_h), s.ow = size_of(t, ow, &s.any_w);
  return s;
}

sd_dim sd_winograd_padded(sd_dimtab *t, int m, int64_t block, sd_dim out) { // written so that it is seen not to be less
  sd_dim more = sd_dim_mod(t, sd_dim_sub(t, sd_dim_const(t, 0), out), sd_dim_const(t, m * block));
  return sd_dim_add(t, sd_dim_add(t, out, sd_dim_const(t, 2)), more);
}

// ---- the row ----
typedef struct wino {
  const sd_node *n;
  sd_winograd_plan p;
  int plane;                    // axis of x that rows of images run along: 1, or 2 behind one over images of depth
  sd_dim images, oh, ow;        // of a sample, or of the batch where there is no depth
  int64_t ic, oc, depth;        // channels of x; images that an output sums over
  int points;                   // along a side
  bool bytes;
  sd_dtype type, sum;           // of transformed inputs, of sums
  sd_expr *b;                   // sample, where images have depth
  sd_expr *n0, *r0, *c0, *oc0;  // first of the grid tile
  sd_buf *v, *sums;
  int64_t tiles, part;          // tiles of an image of a block, output channels of a part
  int64_t images_in;            // of a block; images it has of the input: neighbours share these
  int64_t v_row, s_row, v_step, s_step; // elements from tile to tile, from point to point
} wino;

static sard_status *read_size(const sd_node *n, sd_dim *oh, sd_dim *ow) {
  const sd_attr *size = sd_node_attr(n, "size");
  sd_dim d[2];
  if (!size || size->kind != SD_ATTR_STRINGS || size->n != 2) return SD_SH_ERR(n, MODEL, "attribute 'size' must be the two sizes of the output");
  for (int i = 0; i < 2; i++) {
    const char *p = size->strings[i];
    d[i] = sd_dim_parse(sd_sh_tab(n), &p);
    if (d[i] == SD_DIM_NONE || *p || sd_dim_lt(sd_sh_tab(n), d[i], sd_dim_const(sd_sh_tab(n), 0)) == 1)
      return SD_SH_ERR(n, MODEL, "'%s' is not a size", size->strings[i]);
  }
  *oh = d[0], *ow = d[1];
  return NULL;
}

static sard_status *check_padded(const sd_node *n, int d, sd_dim needed) {
  sd_dimtab *t = sd_sh_tab(n);
  if (needed != SD_DIM_NONE && (n->in[X]->dims[d] == needed || sd_dim_lt(t, n->in[X]->dims[d], needed) == 0)) return NULL;
  sd_str s = {0};
  sd_dim_print(t, needed, &s);
  sard_status *st = SD_SH_ERR(n, MODEL, "dim %d of x must be %s: padded to whole blocks of tiles", d, s.p ? s.p : "");
  sd_str_free(&s);
  return st;
}

static sard_status *read_plan(const sd_node *n, wino *w) {
  const sd_attr *a = sd_node_attr(n, "blocks");
  int64_t m = sd_node_int(n, "tile", 4);
  if (m != 2 && m != 4) return SD_SH_ERR(n, MODEL, "attribute 'tile' is %lld, known are 2 and 4", (long long)m);
  w->points = (int)m + 2;
  if (!a || a->kind != SD_ATTR_INTS || a->n != 4) return SD_SH_ERR(n, MODEL, "attribute 'blocks' must be four numbers");
  w->p = (sd_winograd_plan){.m = (int)m, .block_n = a->ints[0], .block_r = a->ints[1], .block_c = a->ints[2], .groups = a->ints[3]};
  return NULL;
}

static sard_status *read_sizes(const sd_node *n, wino *w) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_dim *x = n->in[X]->dims;
  int64_t u[3];
  SD_TRY(read_size(n, &w->oh, &w->ow));
  for (int d = 0; d < 3; d++)
    if (!sd_dim_is_const(t, n->in[U]->dims[d], &u[d])) return SD_SH_ERR(n, MODEL, "the sizes of u must be known");
  w->plane = n->in[X]->rank - 3, w->depth = sd_node_int(n, "depth", 1), w->oc = u[2];
  if (w->depth < 1 || (w->plane == 1 && w->depth != 1)) return SD_SH_ERR(n, MODEL, "attribute 'depth' is %lld", (long long)w->depth);
  w->ic = u[1] / w->depth, w->images = w->plane == 1 ? x[0] : sd_dim_sub(t, x[1], sd_dim_const(t, w->depth - 1));
  if (u[0] != w->points * w->points || w->oc < 1 || w->ic < 1 || u[1] % w->depth)
    return SD_SH_ERR(n, MODEL, "u must be [%d, depth * channels of x, channels of y]", w->points * w->points);
  return sd_sh_same(n, x[w->plane + 2], sd_dim_const(t, w->ic), "the channels of x and u", NULL);
}

static sard_status *read_types(const sd_node *n, wino *w) {
  sd_dtype x = n->in[X]->dtype;
  w->bytes = sd_dtype_is_int(x);
  w->type = w->bytes ? SD_I16 : sd_compute_type(x), w->sum = w->bytes ? SD_I32 : w->type;
  if (!w->bytes || (x == SD_U8 && n->in[U]->dtype == SD_I16 && w->p.m == 2)) return NULL;
  return SD_SH_ERR(n, MODEL, "x must be u8, u i16 and attribute 'tile' 2");
}

static sard_status *wino_read(const sd_node *n, wino *w) {
  sd_dimtab *t = sd_sh_tab(n);
  memset(w, 0, sizeof *w);
  w->n = n;
  SD_TRY(sd_sh_rank(n, X, 4, 5));
  SD_TRY(sd_sh_rank(n, U, 3, 3));
  SD_TRY(read_plan(n, w));
  SD_TRY(read_types(n, w));
  SD_TRY(read_sizes(n, w));
  sd_winograd_shape s = sd_winograd_shape_of(t, w->images, w->oh, w->ow, w->depth, w->ic, w->oc);
  if (!valid(&w->p, &s)) return SD_SH_ERR(n, MODEL, "attribute 'blocks' does not fit the sizes");
  SD_TRY(check_padded(n, w->plane, sd_winograd_padded(t, w->p.m, w->p.block_r, w->oh)));
  SD_TRY(check_padded(n, w->plane + 1, sd_winograd_padded(t, w->p.m, w->p.block_c, w->ow)));
  if (!sd_sh_in(n, BIAS)) return NULL;
  SD_TRY(sd_sh_rank(n, BIAS, 1, 1));
  return sd_sh_same(n, n->in[BIAS]->dims[0], sd_dim_const(t, w->oc), "the bias and the output channels", NULL);
}

sard_status *sd_shape_winograd(sd_node *n) {
  wino w;
  SD_TRY(wino_read(n, &w));
  sd_dim y[5] = {n->in[X]->dims[0]};
  y[w.plane - 1] = w.images, y[w.plane] = w.oh, y[w.plane + 1] = w.ow, y[w.plane + 2] = sd_dim_const(sd_sh_tab(n), w.oc);
  return sd_sh_set(n, 0, w.bytes ? SD_I32 : n->in[X]->dtype, w.plane + 3, y);
}

static sd_dim d_const(sd_tb *b, int64_t v) { return sd_dim_const(b->dims, v); }
static sd_expr *times(sd_tb *b, sd_expr *x, int64_t v) { return sd_x_mul_dim(b->k, x, d_const(b, v)); }

// Index along a new grid axis times `step`; an axis of one needs none.
static sd_expr *grid(sd_tb *b, const char *name, sd_dim extent, int64_t step) {
  if (sd_dim_is(b->dims, extent, 1)) return x_int(b, 0);
  sd_axis *x = sd_kernel_axis(b->k, name, extent);
  sd_vec_push(b->arena, &b->k->grid, x);
  return times(b, x_axis(b, x), step);
}

static sd_expr *axis(sd_tb *b, sd_nest *nest, const char *name, int64_t extent) {
  if (extent == 1) return x_int(b, 0);
  sd_axis *x = sd_kernel_axis(b->k, name, d_const(b, extent));
  sd_nest_axis(nest, x);
  return x_axis(b, x);
}

static int64_t line_of(sd_dtype t) { return 8 * LINE / sd_dtype_bits(t); }

// Distance of rows of that many elements: whole lines, and no multiple of half the sets of a first-level cache.
static int64_t row_of(sd_dtype t, int64_t elems) {
  int64_t line = line_of(t), row = up_to(elems, line);
  return row % (32 * line) ? row : row + line;
}

static void wino_tile(sd_tb *b, wino *w) {
  const sd_winograd_plan *p = &w->p;
  int64_t n = 0;
  w->tiles = p->block_r * p->block_c, w->part = w->oc / p->groups, w->images_in = p->block_n + w->depth - 1;
  w->v_row = row_of(w->type, w->ic), w->s_row = row_of(w->sum, w->part);
  w->v_step = w->images_in * w->tiles * w->v_row + line_of(w->type), w->s_step = p->block_n * w->tiles * w->s_row + line_of(w->sum);
  n = (int64_t)w->points * w->points;
  w->v = sd_tb_local(b, w->type, d_const(b, n * w->v_step));
  w->sums = sd_tb_local(b, w->sum, d_const(b, n * w->s_step));
  w->oc0 = grid(b, "og", d_const(b, p->groups), w->part); // outermost: neighbours read the same weights
  if (w->plane > 1) w->b = grid(b, "b", w->n->in[X]->dims[0], 1);
  w->n0 = grid(b, "nb", sd_dim_ceildiv(b->dims, w->images, d_const(b, p->block_n)), p->block_n);
  w->r0 = grid(b, "rb", sd_dim_ceildiv(b->dims, w->oh, d_const(b, p->m * p->block_r)), p->block_r);
  w->c0 = grid(b, "cb", sd_dim_ceildiv(b->dims, w->ow, d_const(b, p->m * p->block_c)), p->block_c);
}

// Axes over the tiles of a block: number of the tile, image, and first row and column of its outputs.
typedef struct place { sd_expr *t, *n, *y, *x; } place;
static place tile_axes(sd_tb *b, const wino *w, sd_nest *nest, int64_t images) {
  sd_expr *n = axis(b, nest, "n", images), *r = axis(b, nest, "r", w->p.block_r), *c = axis(b, nest, "c", w->p.block_c);
  sd_expr *t = x_add(b, times(b, x_add(b, times(b, n, w->p.block_r), r), w->p.block_c), c);
  return (place){t, x_add(b, w->n0, n), times(b, x_add(b, w->r0, r), w->p.m), times(b, x_add(b, w->c0, c), w->p.m)};
}

// Index of x or y at row y, column x and channel c of image n.
static void index_of(const wino *w, sd_expr *n, sd_expr *y, sd_expr *x, sd_expr *c, sd_expr **out) {
  out[0] = w->b; // where images have depth
  out[w->plane - 1] = n, out[w->plane] = y, out[w->plane + 1] = x, out[w->plane + 2] = c;
}

// x * v + z for a number v; x or z may be NULL (0).
static sd_expr *fma_(sd_tb *b, sd_expr *x, double v, sd_expr *z) {
  if (!x || v == 0) return z;
  if (!z) return x_muln(b, x, v);
  if (v == 1) return x_add(b, z, x);
  if (v == -1) return x_sub(b, z, x);
  return sd_x_fma(b->k, x, x_num(b, x, v), z);
}

// Bt d for one vector of points, with what rows p and -p share computed once.
static void input_vector(sd_tb *b, int m, sd_expr *const *d, sd_expr **out) {
  if (m == 2) {
    out[0] = x_sub(b, d[2], d[0]), out[1] = x_add(b, d[2], d[1]), out[2] = x_sub(b, d[2], d[1]), out[3] = x_sub(b, d[3], d[1]);
    return;
  }
  double n2 = near4 * near4, f2 = far4 * far4;
  out[0] = fma_(b, d[0], n2 * f2, fma_(b, d[2], -(n2 + f2), d[4]));
  out[5] = fma_(b, d[1], n2 * f2, fma_(b, d[3], -(n2 + f2), d[5]));
  sd_expr *even = fma_(b, d[2], -f2, d[4]), *odd = fma_(b, d[1], -f2, d[3]);
  out[1] = fma_(b, odd, near4, even), out[2] = fma_(b, odd, -near4, even);
  even = fma_(b, d[2], -n2, d[4]), odd = fma_(b, d[1], -n2, d[3]);
  out[3] = fma_(b, odd, far4, even), out[4] = fma_(b, odd, -far4, even);
}

// At s for one vector.
static void output_vector(sd_tb *b, int m, sd_expr *const *s, sd_expr **out) {
  sd_expr *sum = x_add(b, s[1], s[2]), *dif = x_sub(b, s[1], s[2]);
  if (m == 2) {
    out[0] = x_add(b, s[0], sum), out[1] = x_add(b, s[3], dif);
    return;
  }
  double n2 = near4 * near4, f2 = far4 * far4;
  sd_expr *sum2 = x_add(b, s[3], s[4]), *dif2 = x_sub(b, s[3], s[4]);
  out[0] = x_add(b, x_add(b, sum, sum2), s[0]);
  out[1] = fma_(b, dif2, far4, fma_(b, dif, near4, NULL));
  out[2] = fma_(b, sum2, f2, fma_(b, sum, n2, NULL));
  out[3] = fma_(b, dif2, far4 * f2, fma_(b, dif, near4 * n2, s[5]));
}

typedef void (*vector_fn)(sd_tb *b, int m, sd_expr *const *in, sd_expr **out);

// Both directions: columns first, then rows; in [points][points], out [rows][rows].
static void both_ways(sd_tb *b, int m, vector_fn fn, int rows, sd_expr *(*in)[SD_WINO_MAX], sd_expr *(*out)[SD_WINO_MAX]) {
  sd_expr *half[SD_WINO_MAX][SD_WINO_MAX], *column[SD_WINO_MAX], *result[SD_WINO_MAX];
  for (int j = 0; j < m + 2; j++) {
    for (int i = 0; i < m + 2; i++) column[i] = in[i][j];
    fn(b, m, column, result);
    for (int i = 0; i < rows; i++) half[i][j] = result[i];
  }
  for (int i = 0; i < rows; i++) fn(b, m, half[i], out[i]);
}

static bool complete(sd_expr *(*x)[SD_WINO_MAX], int rows) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < rows; j++)
      if (!x[i][j]) return false;
  return true;
}

static void input_nest(sd_tb *b, const wino *w) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *d[SD_WINO_MAX][SD_WINO_MAX], *v[SD_WINO_MAX][SD_WINO_MAX], *at_x[5];
  place at = tile_axes(b, w, nest, w->images_in);
  sd_expr *ic = axis(b, nest, "ic", w->ic), *to = x_add(b, times(b, at.t, w->v_row), ic);
  for (int i = 0; i < w->points; i++)
    for (int j = 0; j < w->points; j++) {
      index_of(w, at.n, x_add(b, at.y, x_int(b, i)), x_add(b, at.x, x_int(b, j)), ic, at_x);
      d[i][j] = x_cast(b, w->type, sd_tb_load(b, w->n, X, at_x));
    }
  if (!complete(d, w->points)) return;
  both_ways(b, w->p.m, input_vector, w->points, d, v);
  for (int i = 0; i < w->points; i++)
    for (int j = 0; j < w->points; j++)
      sd_nest_store(b->k, nest, w->v, x_add(b, to, x_int(b, (i * w->points + j) * w->v_step)), v[i][j], NULL);
}

static void product_nest(sd_tb *b, const wino *w) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  x_axes red = {.n = 0};
  sd_expr *xi = axis(b, nest, "xi", (int64_t)w->points * w->points), *n = axis(b, nest, "n", w->p.block_n), *t = axis(b, nest, "t", w->tiles);
  sd_expr *oc = axis(b, nest, "oc", w->part), *kd = w->depth > 1 ? x_raxis(b, &red, "kd", d_const(b, w->depth)) : x_int(b, 0);
  sd_expr *ic = x_raxis(b, &red, "ic", d_const(b, w->ic)), *row = x_add(b, times(b, x_add(b, n, kd), w->tiles), t);
  sd_expr *v = x_add(b, x_add(b, times(b, xi, w->v_step), times(b, row, w->v_row)), ic);
  sd_expr *u[3] = {xi, x_add(b, times(b, kd, w->ic), ic), x_add(b, w->oc0, oc)};
  sd_expr *a = x_cast(b, w->sum, sd_x_load(b->k, w->v, v, NULL)), *x = x_reduce(b, SD_R_SUM, &red, x_mul(b, a, x_cast(b, w->sum, sd_tb_load(b, w->n, U, u))));
  t = x_add(b, times(b, n, w->tiles), t);
  if (x) sd_nest_store(b->k, nest, w->sums, x_add(b, x_add(b, times(b, xi, w->s_step), times(b, t, w->s_row)), oc), x, NULL);
}

// Condition for row or column `i` of the tile at output position `at` to exist, NULL when it always does.
static sd_expr *inside(sd_tb *b, sd_expr *at, int i, int m, int64_t block, sd_dim size) {
  int64_t n;
  if (sd_dim_multiple_of(b->dims, size, m * block) || (block == 1 && i == 0)) return NULL;
  if (sd_dim_is_const(b->dims, size, &n) && up_to(n, m * block) - m + i < n) return NULL;
  return x_bin(b, SD_X_LT, at, x_dim(b, size));
}

static void output_nest(sd_tb *b, const wino *w) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *s[SD_WINO_MAX][SD_WINO_MAX], *y[SD_WINO_MAX][SD_WINO_MAX];
  int m = w->p.m;
  place at = tile_axes(b, w, nest, w->p.block_n);
  sd_expr *oc = axis(b, nest, "oc", w->part), *from = x_add(b, times(b, at.t, w->s_row), oc), *channel = x_add(b, w->oc0, oc);
  for (int i = 0; i < w->points; i++)
    for (int j = 0; j < w->points; j++)
      s[i][j] = sd_x_load(b->k, w->sums, x_add(b, from, x_int(b, (i * w->points + j) * w->s_step)), NULL);
  if (!complete(s, w->points)) return;
  both_ways(b, m, output_vector, m, s, y);
  sd_expr *bias = sd_tb_has(w->n, BIAS) ? sd_tb_load(b, w->n, BIAS, &channel) : NULL;
  for (int i = 0; i < m; i++)
    for (int j = 0; j < m; j++) {
      sd_expr *at_y = x_add(b, at.y, x_int(b, i)), *at_x = x_add(b, at.x, x_int(b, j)), *idx[5];
      index_of(w, at.n, at_y, at_x, channel, idx);
      sd_expr *row = inside(b, at_y, i, m, w->p.block_r, w->oh), *col = inside(b, at_x, j, m, w->p.block_c, w->ow);
      if (w->bytes) y[i][j] = x_bin(b, SD_X_SHR, y[i][j], sd_x_i(b->k, SD_I32, 2)); // a multiple of 4
      sd_tb_store(b, nest, w->n, 0, idx, bias ? x_add(b, y[i][j], bias) : y[i][j], x_and(b, row, col));
    }
}

sard_status *sd_nests_winograd(sd_tb *b, const sd_node *n) {
  wino w;
  SD_TRY(wino_read(n, &w));
  wino_tile(b, &w);
  input_nest(b, &w);
  product_nest(b, &w);
  output_nest(b, &w);
  return NULL; // errors of the expressions are in b->error
}
