// Attention over tiles of keys, one after the other: running maximum and sum of each row, results so far scaled to the
// new maximum. Partial results are a few numbers for each row and key of a tile, whatever the number of keys.
//
// One grid tile is a block of rows: query rows of one head or, where a head has few, those of all heads that share
// keys.
#include "ir/ops/attention.h"

#include "runtime/base/alloc.h"

#define UNIT 64 // keys of a part, whatever the tiles are, are a multiple of it; those of a tile divide it

typedef struct tiles {
  attn a;
  int64_t keys, group;     // of a tile; heads whose rows make one block
  sd_dim N;                // rows of a head, or of the group
  sd_expr *part;           // of the keys, NULL: all in one
  sd_expr *h, *first, *kt; // head or group; first tile of keys, tile at hand
  sd_expr *end;            // keys of the tile at hand end there, NULL: it is full
  sd_buf *score, *prob, *max, *next, *sum, *acc; // prob: scores in the type of the values, NULL: `score` has it
} tiles;

static sd_dim d_const(sd_tb *b, int64_t v) { return sd_dim_const(b->dims, v); }
static int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// ---- sizes ----
static bool is_part(const attn *a) { return sd_node_attr(a->n, "parts") != NULL; }

// Keys of a tile: a power of two for which the tile of keys and values has room; 0: there is none.
static int64_t keys_of(const sd_tb *b, const attn *a, const sd_lower_tile *tile) {
  int64_t d, dv, t, keys = sd_min_i64(tile->columns, UNIT);
  if (!sd_dim_is_const(b->dims, a->D, &d) || !sd_dim_is_const(b->dims, a->Dv, &dv)) return 0;
  if (d < 2 || dv < 1 || d > tile->most || dv > tile->most) return 0;
  int64_t row = (d + dv) * sd_dtype_bits(a->n->in[K]->dtype) / 8;
  while (keys > tile->grain && keys * row > tile->bytes) keys /= 2;
  while (sd_dim_is_const(b->dims, a->T, &t) && keys > tile->grain && keys / 2 >= t) keys /= 2;
  return keys * row > tile->bytes ? 0 : keys;
}

static bool suits(const sd_node *n) {
  sd_dtype t = n->in[Q]->dtype;
  if (n->n_out > 1 && n->out[1]) return false;
  return (t == SD_F32 || t == SD_F16 || t == SD_BF16) && n->in[K]->dtype == t && n->in[V]->dtype == t;
}

// False: attention is better done without tiles. Parts always have some.
static bool sizes(sd_tb *b, tiles *x) {
  static const sd_lower_tile plain = {.rows = 32, .columns = 64, .grain = 16, .most = 1 << 20, .bytes = 1 << 20};
  attn *a = &x->a;
  const sd_lower_tile *tile = b->tile ? b->tile : &plain;
  int64_t s, h, hk, n;
  if (!is_part(a) && (!b->tile || !suits(a->n))) return false;
  x->keys = keys_of(b, a, tile);
  if (!x->keys && !is_part(a)) return false;
  if (!x->keys) x->keys = tile->grain;
  bool fixed = sd_dim_is_const(b->dims, a->S, &s);
  x->group = 1;
  if (fixed && s < tile->grain && sd_dim_is_const(b->dims, a->H, &h) && sd_dim_is_const(b->dims, a->Hk, &hk) && hk)
    x->group = h / hk;
  x->N = sd_dim_mul(b->dims, a->S, d_const(b, x->group));
  a->rows = tile->rows;
  if (sd_dim_is_const(b->dims, x->N, &n)) a->rows = sd_min_i64(a->rows, round_up(sd_max_i64(n, 1), tile->grain));
  return true;
}

// ---- rows ----
// Axis over the rows of the block: fewer in the last block.
static sd_expr *rows_axis(sd_tb *b, const tiles *x, sd_nest *nest) {
  sd_axis *r = sd_kernel_axis(b->k, "r", d_const(b, x->a.rows));
  if (!sd_dim_multiple_of(b->dims, x->N, x->a.rows)) r->limit = x_sub(b, x_dim(b, x->N), x->a.row0);
  sd_nest_axis(nest, r);
  return x_axis(b, r);
}

// Head and row of the head that row r of the block is.
static sd_expr *row_of(sd_tb *b, const tiles *x, sd_expr *r, sd_expr **head) {
  sd_expr *row = x_add(b, x->a.row0, r);
  *head = x->h;
  if (x->group == 1) return row;
  sd_expr *s = x_dim(b, x->a.S), *first = sd_x_mul_dim(b->k, x->a.hk, d_const(b, x->group));
  *head = x_add(b, first, x_bin(b, SD_X_FLOORDIV, row, s));
  return x_bin(b, SD_X_MOD, row, s);
}

static sd_axis *keys_axis(sd_tb *b, const tiles *x) {
  sd_axis *t = sd_kernel_axis(b->k, "t", d_const(b, x->keys));
  t->limit = x->end;
  return t;
}

static sd_expr *at(sd_tb *b, sd_expr *r, sd_dim columns, sd_expr *c) {
  return x_add(b, sd_x_mul_dim(b->k, r, columns), c);
}
static sd_expr *of(sd_tb *b, sd_buf *v, sd_expr *offset) { return sd_x_load(b->k, v, offset, NULL); }

static sd_expr *key_index(sd_tb *b, const tiles *x, sd_expr *t) {
  return x_add(b, sd_x_mul_dim(b->k, x_add(b, x->first, x->kt), d_const(b, x->keys)), t);
}

// ---- nests ----
static void start(sd_tb *b, tiles *x) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *r = rows_axis(b, x, nest);
  attn a = x->a;
  row_of(b, x, r, &a.h);
  sd_expr *sink = sd_attn_sink(b, &a);
  sd_nest_store(b->k, nest, x->max, r, sink ? sink : x_lowest(b, a.type), NULL);
  sd_nest_store(b->k, nest, x->sum, r, sd_x_f(b->k, a.type, sink ? 1 : 0), NULL);
  nest = sd_kernel_nest(b->k, NULL);
  r = rows_axis(b, x, nest);
  sd_axis *d = sd_kernel_axis(b->k, "dv", a.Dv);
  sd_nest_axis(nest, d);
  sd_nest_store(b->k, nest, x->acc, at(b, r, x->a.Dv, x_axis(b, d)), sd_x_f(b->k, a.type, 0), NULL);
}

static void scores(sd_tb *b, tiles *x) {
  sd_nest *nest = sd_kernel_nest(b->k, x->a.items);
  sd_expr *iq[4], *ik[4], *stages[3], *r = rows_axis(b, x, nest);
  sd_axis *key = keys_axis(b, x), *d_axis = sd_kernel_axis(b->k, "d", x->a.D);
  sd_nest_axis(nest, key);
  attn a = x->a;
  sd_expr *d = x_axis(b, d_axis), *t = key_index(b, x, x_axis(b, key)), *s = row_of(b, x, r, &a.h);
  sd_attn_index(&a, 0, a.b, a.h, s, d, iq);
  sd_attn_index(&a, 1, a.b, a.hk, t, d, ik);
  sd_expr *p = x_mul(b, sd_tb_load(b, a.n, Q, iq), sd_tb_load(b, a.n, K, ik));
  if (p) p = sd_attn_score(b, &a, sd_x_reduce(b->k, SD_R_SUM, &d_axis, 1, p), s, t, stages);
  if (p) sd_nest_store(b->k, nest, x->score, at(b, r, d_const(b, x->keys), x_axis(b, key)), p, NULL);
}

static sd_expr *reduced(sd_tb *b, const tiles *x, sd_expr *r, sd_rop op) {
  sd_axis *t = keys_axis(b, x);
  sd_expr *v = of(b, x->score, at(b, r, d_const(b, x->keys), x_axis(b, t)));
  return v ? sd_x_reduce(b->k, op, &t, 1, v) : NULL;
}

// What is subtracted in the exponents: 0 in a row that attends nothing so far, so that its probabilities become 0.
static sd_expr *shift(sd_tb *b, const tiles *x, sd_expr *r) {
  sd_expr *m = of(b, x->next, r), *low = x_lowest(b, x->a.type);
  return x_sel(b, x_bin(b, SD_X_EQ, m, low), x_num(b, m, 0), m);
}

static sd_expr *rescale(sd_tb *b, const tiles *x, sd_expr *r) {
  return sd_x_exp_weight(b, x_sub(b, of(b, x->max, r), shift(b, x, r)));
}

static void probabilities(sd_tb *b, tiles *x) {
  sd_nest *nest = sd_kernel_nest(b->k, x->a.items);
  sd_expr *r = rows_axis(b, x, nest);
  sd_nest_store(b->k, nest, x->next, r, x_max(b, of(b, x->max, r), reduced(b, x, r, SD_R_MAX)), NULL);

  nest = sd_kernel_nest(b->k, x->a.items);
  r = rows_axis(b, x, nest);
  sd_axis *t = keys_axis(b, x);
  sd_nest_axis(nest, t);
  sd_expr *place = at(b, r, d_const(b, x->keys), x_axis(b, t)), *p = sd_x_exp_weight(b, x_sub(b, of(b, x->score, place), shift(b, x, r)));
  if (x->prob) sd_nest_store(b->k, nest, x->prob, place, p, NULL);
  sd_nest_store(b->k, nest, x->score, place, p, NULL);

  nest = sd_kernel_nest(b->k, x->a.items);
  r = rows_axis(b, x, nest);
  sd_expr *sum = x_add(b, x_mul(b, of(b, x->sum, r), rescale(b, x, r)), reduced(b, x, r, SD_R_SUM));
  sd_nest_store(b->k, nest, x->sum, r, sum, NULL);
}

static void values(sd_tb *b, tiles *x) {
  sd_nest *nest = sd_kernel_nest(b->k, x->a.items);
  sd_expr *iv[4], *r = rows_axis(b, x, nest);
  sd_axis *dv = sd_kernel_axis(b->k, "dv", x->a.Dv), *t = keys_axis(b, x);
  sd_nest_axis(nest, dv);
  sd_attn_index(&x->a, 2, x->a.b, x->a.hk, key_index(b, x, x_axis(b, t)), x_axis(b, dv), iv);
  sd_expr *p = of(b, x->prob ? x->prob : x->score, at(b, r, d_const(b, x->keys), x_axis(b, t)));
  sd_expr *v = x_mul(b, p, sd_tb_load(b, x->a.n, V, iv)), *place = at(b, r, x->a.Dv, x_axis(b, dv));
  if (!v) return;
  v = x_add(b, x_mul(b, of(b, x->acc, place), rescale(b, x, r)), sd_x_reduce(b->k, SD_R_SUM, &t, 1, v));
  sd_nest_store(b->k, nest, x->acc, place, v, NULL);

  nest = sd_kernel_nest(b->k, x->a.items);
  r = rows_axis(b, x, nest);
  sd_nest_store(b->k, nest, x->max, r, of(b, x->next, r), NULL);
}

static void results(sd_tb *b, tiles *x) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *iy[4], *h, *r = rows_axis(b, x, nest), *s = row_of(b, x, r, &h), *sum = of(b, x->sum, r);
  sd_axis *dv = sd_kernel_axis(b->k, "dv", x->a.Dv);
  sd_nest_axis(nest, dv);
  sd_expr *y = of(b, x->acc, at(b, r, x->a.Dv, x_axis(b, dv)));
  const sd_node *n = x->a.n;
  if (!x->part) {
    sd_attn_index(&x->a, 3, x->a.b, h, s, x_axis(b, dv), iy);
    sum = x_sel(b, x_bin(b, SD_X_EQ, sum, x_num(b, sum, 0)), x_num(b, sum, 1), sum);
    y = x_mul(b, y, x_div(b, x_num(b, sum, 1), sum));
    sd_nest_store(b->k, nest, sd_tb_out(b, n, 0), sd_tb_offset(b, n->out[0], iy), y, NULL);
    return;
  }
  sd_expr *ix[5] = {x->part, x->a.b, h, s, x_axis(b, dv)};
  sd_nest_store(b->k, nest, sd_tb_out(b, n, 0), sd_tb_offset(b, n->out[0], ix), y, NULL);
  nest = sd_kernel_nest(b->k, NULL);
  r = rows_axis(b, x, nest);
  ix[3] = row_of(b, x, r, &ix[2]);
  sd_nest_store(b->k, nest, sd_tb_out(b, n, 1), sd_tb_offset(b, n->out[1], ix), of(b, x->max, r), NULL);
  sd_nest_store(b->k, nest, sd_tb_out(b, n, 2), sd_tb_offset(b, n->out[2], ix), of(b, x->sum, r), NULL);
}

// ---- the loop over tiles ----
// Keys below `reach` are all that a row of the block may attend.
static sd_expr *reach_of(sd_tb *b, const tiles *x) {
  const attn *a = &x->a;
  if (sd_node_int(a->n, "causal", 0)) {
    sd_expr *last = x->group > 1 ? x_dim(b, a->S) : x_add(b, a->row0, x_int(b, a->rows));
    return x_add(b, last, a->offset);
  }
  return sd_tb_has(a->n, KV_LEN) ? sd_tb_load(b, a->n, KV_LEN, &a->b) : NULL;
}

// Tile of the first key that a row of the block may attend.
static sd_expr *first_tile(sd_tb *b, const tiles *x) {
  int64_t left = sd_node_int(x->a.n, "window_left", -1);
  if (left < 0) return x_int(b, 0);
  sd_expr *row = x->group > 1 ? x_int(b, 0) : x->a.row0;
  sd_expr *key = x_sub(b, x_add(b, row, x->a.offset), x_int(b, left));
  sd_expr *unit = x_bin(b, SD_X_FLOORDIV, x_max(b, key, x_int(b, 0)), x_int(b, UNIT));
  return sd_x_mul_dim(b->k, unit, d_const(b, UNIT / x->keys));
}

static void open_loop(sd_tb *b, tiles *x) {
  sd_dim passes = sd_dim_ceildiv(b->dims, x->a.T, d_const(b, x->keys));
  sd_expr *reach = reach_of(b, x), *all = x_dim(b, x->a.T);
  x->first = first_tile(b, x);
  if (x->part) {
    sd_dim units = sd_dim_ceildiv(b->dims, x->a.T, d_const(b, UNIT)), parts = d_const(b, sd_node_int(x->a.n, "parts", 1));
    passes = sd_dim_mul(b->dims, sd_dim_ceildiv(b->dims, units, parts), d_const(b, UNIT / x->keys));
    x->first = x_add(b, x->first, sd_x_mul_dim(b->k, x->part, passes));
  }
  sd_axis *kt = sd_kernel_axis(b->k, "kt", passes);
  bool later = x->first && !sd_x_const_value(x->first, NULL, &(int64_t){0});
  sd_expr *end = reach ? x_min(b, reach, all) : all;
  sd_expr *count = x_bin(b, SD_X_FLOORDIV, x_add(b, end, x_int(b, x->keys - 1)), x_int(b, x->keys));
  if (reach || later) kt->limit = x_sub(b, count, x->first);
  x->a.items = sd_kernel_loop(b->k, NULL, kt);
  x->kt = x_axis(b, kt);
  bool apart = sd_tb_has(x->a.n, KV_LEN); // what lies behind may be no numbers, which no mask makes 0
  if (!apart) end = all;
  if (apart || !sd_dim_multiple_of(b->dims, x->a.T, x->keys))
    x->end = x_sub(b, end, sd_x_mul_dim(b->k, x_add(b, x->first, x->kt), d_const(b, x->keys)));
}

static void open_grid(sd_tb *b, tiles *x) {
  attn *a = &x->a;
  if (is_part(a)) x->part = x_axis(b, sd_attn_grid(b, "part", d_const(b, sd_node_int(a->n, "parts", 1))));
  a->b = x_axis(b, sd_attn_grid(b, "b", a->B));
  x->h = a->h = x_axis(b, sd_attn_grid(b, "h", x->group > 1 ? a->Hk : a->H));
  sd_expr *block = x_axis(b, sd_attn_grid(b, "sb", sd_dim_ceildiv(b->dims, x->N, d_const(b, a->rows))));
  a->row0 = sd_x_mul_dim(b->k, block, d_const(b, a->rows));
  sd_expr *per = x_dim(b, sd_dim_floordiv(b->dims, a->H, a->Hk));
  a->hk = x->group > 1 || a->H == a->Hk ? a->h : x_bin(b, SD_X_FLOORDIV, a->h, per);
  sd_attn_positions(b, a);
}

bool sd_attn_tiles(sd_tb *b, attn *given) {
  tiles x = {.a = *given};
  attn *a = &x.a;
  if (!sizes(b, &x)) return false;
  open_grid(b, &x);
  sd_dim rows = d_const(b, a->rows), all = d_const(b, a->rows * x.keys);
  sd_dtype t = a->n->in[V]->dtype;
  bool narrow = t == SD_F16 || t == SD_BF16;
  x.max = sd_tb_local(b, a->type, rows), x.next = sd_tb_local(b, a->type, rows), x.sum = sd_tb_local(b, a->type, rows);
  x.score = sd_tb_local(b, a->type, all), x.prob = narrow ? sd_tb_local(b, t, all) : NULL;
  x.acc = sd_tb_local(b, a->type, sd_dim_mul(b->dims, rows, a->Dv));
  start(b, &x);
  open_loop(b, &x);
  scores(b, &x);
  probabilities(b, &x);
  values(b, &x);
  results(b, &x);
  return true; // errors of the expressions are in b->error
}
