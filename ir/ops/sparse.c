// Products with sparse weights as nests. A tile of the grid is some rows of x times a part of the outputs: it
// goes through the blocks of inputs, turns those of its rows, and adds what each group of outputs gets from
// them; at the end the sums are turned back. Turned inputs stay in the first cache, the sums in the second.
#include "ir/ops/sparse.h"

#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"

#define LARGEST_TILE  256   // rows
#define LARGEST_PART  65536 // outputs: their numbers are u16
#define LARGEST_GROUP 16
#define FEW           4 // of a tile's rows: one in so many
#define LENGTHS       8 // bounds of sums are multiples of it

// ---- the tables ----
static sard_status *table(const sd_node *n, uint32_t operand, sd_dtype t, int rank, int64_t *dims) {
  const sd_value *v = sd_sh_in(n, operand);
  if (!v || !v->data || v->dtype != t || v->rank != rank)
    return SD_SH_ERR(n, MODEL, "operand '%s' must be a constant %s of rank %d", sd_sh_operand(n, operand),
                     sd_dtype_name(t), rank);
  for (int i = 0; i < rank; i++) dims[i] = v->data->dims[i];
  return NULL;
}

// Of images a tile is whole lines, and the inputs are those of all blocks.
static sard_status *read_places(const sd_node *n, sd_sparse *s) {
  const sd_value *x = n->in[SD_SPARSE_X];
  const sd_sparse_windows *w = &s->windows;
  int64_t place[1], size = 0;
  SD_TRY(sd_sparse_windows_read(n, &s->windows));
  if (w->spatial == 0) return NULL;
  SD_TRY(table(n, SD_SPARSE_PLACE, SD_I32, 1, place));
  sd_dim_is_const(sd_sh_tab(n), x->dims[x->rank - 2], &size);
  s->across = (size - w->reach[w->spatial - 1]) / w->stride[w->spatial - 1] + 1, s->lines = s->rows / s->across;
  if (s->lines < 1 || place[0] < 1 || place[0] > INT32_MAX)
    return SD_SH_ERR(n, MODEL, "%lld blocks of inputs, lines of %lld outputs in tiles of %lld", (long long)place[0],
                     (long long)s->across, (long long)s->rows);
  s->k = place[0] * s->block;
  for (int64_t i = 0; i < place[0]; i++) {
    int64_t at = sd_dtype_get_i64(SD_I32, n->in[SD_SPARSE_PLACE]->data->data, (uint64_t)i);
    if (!sd_sparse_windows_inside(n, w, at, s->block))
      return SD_SH_ERR(n, MODEL, "a block of inputs at %lld, outside of what an output reads", (long long)at);
  }
  return NULL;
}

static sard_status *read_sizes(const sd_node *n, sd_sparse *s) {
  int64_t value[2], index[2], start[1], order[4];
  uint64_t all = 0;
  SD_TRY(table(n, SD_SPARSE_VALUE, SD_F32, 2, value));
  SD_TRY(table(n, SD_SPARSE_INDEX, SD_U8, 2, index));
  SD_TRY(table(n, SD_SPARSE_START, SD_I32, 1, start));
  SD_TRY(table(n, SD_SPARSE_ORDER, SD_U16, 4, order));
  s->steps = value[0], s->parts = order[0], s->blocks = order[1], s->groups = order[2], s->group = order[3];
  s->shared = index[1] == 1;
  if (value[1] != s->group || index[0] != s->steps || (!s->shared && index[1] != s->group))
    return SD_SH_ERR(n, MODEL, "the tables 'value', 'index' and 'order' do not fit together");
  if (s->group < 1 || s->group > LARGEST_GROUP || s->groups < 1 || s->groups > LARGEST_PART / s->group ||
      s->parts < 1 || s->steps < 1)
    return SD_SH_ERR(n, MODEL, "%lld parts of %lld groups of %lld outputs", (long long)s->parts,
                     (long long)s->groups, (long long)s->group);
  s->part = s->groups * s->group;
  if (s->blocks != (s->k + s->block - 1) / s->block)
    return SD_SH_ERR(n, MODEL, "%lld inputs in blocks of %lld are not %lld blocks", (long long)s->k,
                     (long long)s->block, (long long)s->blocks);
  if (s->inside && s->blocks > 1)
    return SD_SH_ERR(n, MODEL, "tiles go through all parts of one block of inputs, not of %lld", (long long)s->blocks);
  if (s->n > s->parts * s->part || s->n <= (s->parts - 1) * s->part)
    return SD_SH_ERR(n, MODEL, "%lld outputs are not %lld parts of %lld", (long long)s->n,
                     (long long)s->parts, (long long)s->part);
  if (!sd_ck_mul((uint64_t)(s->parts * s->blocks), (uint64_t)s->groups, &all) ||
      (uint64_t)start[0] != all + 1)
    return SD_SH_ERR(n, MODEL, "the table 'start' must have one more than %llu elements",
                     (unsigned long long)all);
  return NULL;
}

static int64_t number(const sd_const *c, uint64_t i) { return sd_dtype_get_i64(c->dtype, c->data, i); }

// Each block of a part has each of its outputs once: none is left without a sum, and none is added to by two
// groups.
static sard_status *check_order(const sd_node *n, const sd_sparse *s, const sd_const *order) {
  uint64_t seen[LARGEST_PART / 64];
  for (uint64_t i = 0; i < order->count; i++) {
    int64_t output = number(order, i);
    if (i % (uint64_t)s->part == 0) memset(seen, 0, sizeof seen);
    if (output >= s->part || seen[output / 64] >> output % 64 & 1)
      return SD_SH_ERR(n, MODEL, "output %lld of a part of %lld, or twice", (long long)output, (long long)s->part);
    seen[output / 64] |= 1ull << output % 64;
  }
  return NULL;
}

// Steps of groups follow each other and are no more than a block has inputs; outputs are those of the part.
static sard_status *check_groups(const sd_node *n, sd_sparse *s) {
  const sd_const *start = n->in[SD_SPARSE_START]->data, *order = n->in[SD_SPARSE_ORDER]->data;
  int64_t from = number(start, 0);
  if (from < 0) return SD_SH_ERR(n, MODEL, "the table 'start' begins with %lld", (long long)from);
  for (uint64_t i = 1; i < start->count; i++) {
    int64_t to = number(start, i);
    if (to < from || to > s->steps || to - from > s->block)
      return SD_SH_ERR(n, MODEL, "steps %lld to %lld of %lld in a block of %lld inputs", (long long)from,
                       (long long)to, (long long)s->steps, (long long)s->block);
    if (to - from > s->longest) s->longest = to - from;
    from = to;
  }
  return check_order(n, s, order);
}

// Inputs are those that the block has: of the last one what is left of K.
static sard_status *check_index(const sd_node *n, const sd_sparse *s) {
  const sd_const *start = n->in[SD_SPARSE_START]->data;
  const uint8_t *index = n->in[SD_SPARSE_INDEX]->data->data;
  int64_t width = s->shared ? 1 : s->group;
  for (uint64_t i = 0; i + 1 < start->count; i++) {
    int64_t block = (int64_t)(i / (uint64_t)s->groups) % s->blocks,
            left = sd_min_i64(s->block, s->k - block * s->block);
    int64_t to = number(start, i + 1) * width;
    for (int64_t t = number(start, i) * width; t < to && left < SD_SPARSE_BLOCK; t++)
      if (index[t] >= left)
        return SD_SH_ERR(n, MODEL, "input %d of a block of %lld", index[t], (long long)left);
  }
  return NULL;
}

sard_status *sd_sparse_read(const sd_node *n, sd_sparse *s) {
  memset(s, 0, sizeof *s);
  SD_TRY(sd_sh_rank(n, SD_SPARSE_X, 1, SD_MAX_RANK));
  const sd_value *x = n->in[SD_SPARSE_X];
  s->n = sd_node_int(n, "n", 0), s->block = sd_node_int(n, "block", 0), s->rows = sd_node_int(n, "rows", 0);
  s->inside = sd_node_int(n, "inside", 0);
  if (!sd_dim_is_const(sd_sh_tab(n), x->dims[x->rank - 1], &s->k) || s->k < 1)
    return SD_SH_ERR(n, MODEL, "the last dim of x must be a number");
  if (s->n < 1 || s->block < 1 || s->block > SD_SPARSE_BLOCK || s->rows < 1 || s->rows > LARGEST_TILE)
    return SD_SH_ERR(n, MODEL, "%lld outputs, blocks of %lld inputs, tiles of %lld rows", (long long)s->n,
                     (long long)s->block, (long long)s->rows);
  SD_TRY(read_places(n, s));
  SD_TRY(read_sizes(n, s));
  SD_TRY(check_groups(n, s));
  SD_TRY(check_index(n, s));

  if (!sd_sh_in(n, SD_SPARSE_BIAS)) return NULL;
  SD_TRY(sd_sh_rank(n, SD_SPARSE_BIAS, 1, 1));
  return sd_sh_same(n, n->in[SD_SPARSE_BIAS]->dims[0], sd_dim_const(sd_sh_tab(n), s->n),
                    "the bias and the outputs", NULL);
}

sard_status *sd_shape_sparse(sd_node *n) {
  sd_sparse s;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sparse_read(n, &s));
  const sd_value *x = n->in[SD_SPARSE_X];
  memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  sd_sparse_windows_dims(sd_sh_tab(n), &s.windows, dims);
  dims[x->rank - 1] = sd_dim_const(sd_sh_tab(n), s.n);
  return sd_sh_set(n, 0, x->dtype, x->rank, dims);
}

// ---- the nests ----
typedef struct sparse {
  const sd_node *n;
  sd_sparse s;
  sd_expr *part, *row0; // number of the part, first row of the tile, or line
  sd_expr *left;        // rows or lines from row0 on, NULL: never fewer than a tile has
  sd_expr *few;         // the same where a tile may have so few that vectors beyond them cost more than they save
  sd_buf *x, *sums;     // [block][rows], [part][rows]
} sparse;

static sd_dim d_const(sd_tb *b, int64_t v) { return sd_dim_const(b->dims, v); }
static sd_expr *times(sd_tb *b, sd_expr *x, int64_t v) { return sd_x_mul_dim(b->k, x, d_const(b, v)); }

static sd_expr *grid(sd_tb *b, const char *name, sd_dim extent) {
  if (sd_dim_is(b->dims, extent, 1)) return x_int(b, 0);
  sd_axis *a = sd_kernel_axis(b->k, name, extent);
  sd_vec_push(b->arena, &b->k->grid, a);
  return x_axis(b, a);
}

static sd_expr *axis(sd_tb *b, sd_nest *nest, const char *name, int64_t extent, sd_expr *limit) {
  if (extent == 1 && !limit) return x_int(b, 0);
  sd_axis *a = sd_kernel_axis(b->k, name, d_const(b, extent));
  a->limit = limit;
  sd_nest_axis(nest, a);
  return x_axis(b, a);
}

// Tiles with a quarter of their rows at most, as of one token, go through these only.
static sd_expr *few_rows(sd_tb *b, const sparse *w, sd_dim rows) {
  int64_t count, most = w->s.rows / FEW;
  if (!w->left || w->s.lines || (sd_dim_is_const(b->dims, rows, &count) && count % w->s.rows > most)) return NULL;
  return x_sel(b, x_bin(b, SD_X_LE, w->left, x_int(b, most)), w->left, x_int(b, w->s.rows));
}

static void sparse_tile(sd_tb *b, sparse *w) {
  const sd_value *y = w->n->out[0];
  int64_t each = w->s.lines ? w->s.lines : w->s.rows;
  sd_dim rows = sd_dim_product(b->dims, y->dims, y->rank - (w->s.lines ? 2 : 1)), tile = d_const(b, each);
  w->part = w->s.inside ? x_int(b, 0) : grid(b, "part", d_const(b, w->s.parts)); // neighbours read one part
  w->row0 = times(b, grid(b, "tile", sd_dim_ceildiv(b->dims, rows, tile)), each);
  w->left = sd_dim_multiple_of(b->dims, rows, each) ? NULL : x_sub(b, x_dim(b, rows), w->row0);
  w->few = few_rows(b, w, rows);
  w->x = sd_tb_local(b, SD_F32, d_const(b, w->s.block * w->s.rows));
  w->sums = sd_tb_local(b, SD_F32, d_const(b, w->s.part * w->s.rows));
}

static void zero_nest(sd_tb *b, sd_buf *to, int64_t count) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_nest_store(b->k, nest, to, axis(b, nest, "i", count, NULL), sd_x_f(b->k, SD_F32, 0), NULL);
}

// Input k of block kb for place `at` of a line, or of the tile where there are no lines.
static sd_expr *input(sd_tb *b, const sparse *w, sd_expr *line, sd_expr *at, sd_expr *kb, sd_expr *k) {
  sd_expr *idx[SD_MAX_RANK], *row = x_add(b, w->row0, line ? line : at);
  if (!line) return sd_tb_load_linear(b, w->n, SD_SPARSE_X, x_add(b, x_add(b, times(b, row, w->s.k), times(b, kb, w->s.block)), k));
  sd_value lines = *w->n->out[0]; // y without places of a line and outputs
  lines.rank -= 2;
  sd_tb_unravel(b, &lines, row, idx);
  idx[lines.rank] = at;
  sd_expr *from = x_cast(b, SD_I64, sd_tb_load_linear(b, w->n, SD_SPARSE_PLACE, kb));
  return sd_sparse_windows_load(b, w->n, &w->s.windows, idx, from, k);
}

// Inputs of block kb, rows of x side by side. What the last tile lacks stays 0.
static void turn_nest(sd_tb *b, const sparse *w, sd_items *into, sd_expr *kb) {
  sd_nest *nest = sd_kernel_nest(b->k, into);
  int64_t most = w->s.block < w->s.k ? w->s.block : w->s.k;
  sd_expr *limit = into && w->s.k % most ? x_sub(b, x_int(b, w->s.k), times(b, kb, w->s.block)) : NULL;
  sd_expr *line = w->s.lines ? axis(b, nest, "line", w->s.lines, w->left) : NULL;
  sd_expr *k = axis(b, nest, "k", most, limit);
  sd_expr *p = line ? axis(b, nest, "p", w->s.across, NULL) : axis(b, nest, "p", w->s.rows, w->left);
  sd_expr *x = input(b, w, line, p, kb, k);
  sd_expr *lane = line ? x_add(b, times(b, line, w->s.across), p) : p;
  if (x) sd_nest_store(b->k, nest, w->x, x_add(b, times(b, k, w->s.rows), lane), x_cast(b, SD_F32, x), NULL);
}

// Each block has every output of the part once, so that the first one needs no sums to add to.
static void product_nest(sd_tb *b, const sparse *w, sd_items *into, sd_expr *kb, bool first) {
  const sd_sparse *s = &w->s;
  sd_nest *nest = sd_kernel_nest(b->k, into);
  sd_expr *g = axis(b, nest, "g", s->groups, NULL), *u = axis(b, nest, "u", s->group, NULL),
          *p = axis(b, nest, "p", s->rows, w->few);
  sd_expr *group = x_add(b, times(b, x_add(b, times(b, w->part, s->blocks), kb), s->groups), g);
  sd_expr *from = x_cast(b, SD_I64, sd_tb_load_linear(b, w->n, SD_SPARSE_START, group));
  sd_expr *to = x_cast(b, SD_I64, sd_tb_load_linear(b, w->n, SD_SPARSE_START, x_add(b, group, x_int(b, 1))));
  sd_expr *output =
      x_cast(b, SD_I64, sd_tb_load_linear(b, w->n, SD_SPARSE_ORDER, x_add(b, times(b, group, s->group), u)));
  if (!from || !to || !output) return;
  int64_t longest = (s->longest + LENGTHS) / LENGTHS * LENGTHS; // so that layers alike share code
  sd_axis *step = sd_tb_raxis(b, "t", d_const(b, sd_min_i64(longest, s->block)));
  step->limit = x_sub(b, to, from);
  sd_expr *t = x_add(b, from, x_axis(b, step)), *one = x_add(b, times(b, t, s->group), u);
  sd_expr *input = x_cast(b, SD_I64, sd_tb_load_linear(b, w->n, SD_SPARSE_INDEX, s->shared ? t : one));
  sd_expr *value = sd_tb_load_linear(b, w->n, SD_SPARSE_VALUE, one);
  if (!input || !value) return;
  sd_expr *x = sd_x_load(b->k, w->x, x_add(b, times(b, input, s->rows), p), NULL);
  sd_expr *sum = sd_x_reduce(b->k, SD_R_SUM, &step, 1, x_mul(b, value, x)),
          *at = x_add(b, times(b, output, s->rows), p);
  if (!first) sum = x_add(b, sd_x_load(b->k, w->sums, at, NULL), sum);
  sd_nest_store(b->k, nest, w->sums, at, sum, NULL);
}

// Outputs of lines lie side by side: a tile is some rows of y, with windows too.
static void output_nest(sd_tb *b, const sparse *w, sd_items *into) {
  const sd_value *y = w->n->out[0];
  int64_t each = w->s.lines ? w->s.across : 1, rows = w->s.lines ? w->s.lines * each : w->s.rows;
  sd_nest *nest = sd_kernel_nest(b->k, into);
  sd_expr *idx[SD_MAX_RANK], *first = times(b, w->part, w->s.part);
  sd_expr *end = w->s.n % w->s.part ? x_sub(b, x_int(b, w->s.n), first) : NULL;
  sd_expr *p = axis(b, nest, "p", rows, w->left ? times(b, w->left, each) : NULL),
          *n = axis(b, nest, "n", w->s.part, end);
  sd_value outer = *y; // y without its last dim
  outer.rank--;
  sd_tb_unravel(b, &outer, x_add(b, times(b, w->row0, each), p), idx);
  idx[outer.rank] = x_add(b, first, n);
  sd_expr *v = sd_x_load(b->k, w->sums, x_add(b, times(b, n, w->s.rows), p), NULL);
  if (sd_tb_has(w->n, SD_SPARSE_BIAS)) v = x_add(b, v, sd_tb_load(b, w->n, SD_SPARSE_BIAS, &idx[outer.rank]));
  sd_tb_store(b, nest, w->n, 0, idx, v, NULL);
}

sard_status *sd_nests_sparse(sd_tb *b, const sd_node *n) {
  sparse w = {.n = n};
  SD_TRY(sd_sparse_read(n, &w.s));
  sparse_tile(b, &w);
  if (w.left || w.s.lines * w.s.across % w.s.rows) zero_nest(b, w.x, w.s.block * w.s.rows);
  sd_items *into = NULL; // parts, one behind the other with the same turned inputs
  turn_nest(b, &w, NULL, x_int(b, 0));
  if (w.s.inside && w.s.parts > 1) {
    sd_axis *parts = sd_kernel_axis(b->k, "part", d_const(b, w.s.parts));
    into = sd_kernel_loop(b->k, NULL, parts), w.part = x_axis(b, parts);
  }
  product_nest(b, &w, into, x_int(b, 0), true);
  if (w.s.blocks > 1) {
    sd_axis *rest = sd_kernel_axis(b->k, "kb", d_const(b, w.s.blocks - 1));
    sd_items *blocks = sd_kernel_loop(b->k, NULL, rest);
    sd_expr *kb = x_add(b, x_axis(b, rest), x_int(b, 1));
    turn_nest(b, &w, blocks, kb);
    product_nest(b, &w, blocks, kb, false);
  }
  output_nest(b, &w, into);
  return NULL; // errors of the expressions are in b->error
}
