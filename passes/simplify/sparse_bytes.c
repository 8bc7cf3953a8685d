// Products of bytes in blocks, see sparse_bytes.h.
#include "passes/simplify/sparse_bytes.h"

#include <math.h>

#include "passes/edit.h"
#include "passes/simplify/double_steps.h"
#include "passes/simplify/pair_bytes.h"
#include "passes/simplify/sparse_windows.h"
#include "passes/simplify/winograd.h"
#include "runtime/base/alloc.h"

#define LEAST_GAIN       1.15
#define LEAST_GAIN_PAIRS 1.05
#define LEAST_ROWS       4 // for pairs: fewer wait for memory
#define PLAIN (7.0 / 6) // so much faster are pairs without an order: six instructions a step instead of seven
#define ONE (7.0 / 8)   // so much slower are those with an order for one vector of outputs instead of two: four instructions each instead of seven for both
#define TWICE 1.1     // so many more steps, in twos, still gain: ten instructions for two instead of twelve
#define START 40 // cycles of a block of outputs for a register tile of rows
#define TILE  14 // rows

// w [taps of a window.., C, N], in the order of its memory. Where channels are few, those of a row of a window are the inputs of one
// place.
typedef struct weight {
  const int8_t *data;
  int64_t taps, c, n;
  int64_t row, steps; // places that are one; steps of the dense product
  int64_t outputs;    // N; n: with zeros behind them, so that blocks are whole
} weight;

static bool is_zero(const weight *w, int64_t tap, int64_t c, int64_t block) {
  for (int64_t i = 0; i < SD_SPARSE_SIDE; i++) {
    const int8_t *row = w->data + ((tap * w->c + c + i) * w->n + block * SD_SPARSE_WIDE);
    for (int o = 0; o < SD_SPARSE_WIDE; o++)
      if (row[o]) return false;
  }
  return true;
}

static int64_t count_steps(const weight *w) {
  int64_t steps = 0;
  for (int64_t b = 0; b < w->n / SD_SPARSE_WIDE; b++)
    for (int64_t tap = 0; tap < w->taps; tap++)
      for (int64_t c = 0; c < w->c; c += SD_SPARSE_SIDE) steps += !is_zero(w, tap, c, b);
  return steps;
}

static bool fits(const sd_node *n, weight *w) {
  bool conv = sd_edit_is(n, "sard.Conv8");
  if (!conv && (!sd_edit_is(n, "sard.MatMul8") || sd_node_int(n, "transB", 0))) return false;
  const sd_value *x = n->in[0];
  const sd_const *c = n->in[1]->data;
  if (!c || c->dtype != SD_I8 || x->dtype != SD_U8 || x->data || c->rank < 2) return false;
  *w = (weight){c->data, 1, c->dims[c->rank - 2], c->dims[c->rank - 1], 1, 0, c->dims[c->rank - 1]};
  if (w->n == 0 || w->c == 0) return false;
  if (!sd_dim_is(n->graph->module->dims, x->dims[x->rank - 1], w->c)) return false;
  if (conv ? !sd_sparse_window_is(n, &w->taps) : c->rank != 2 || x->rank < 2) return false;
  w->steps = w->taps * ((w->c + SD_SPARSE_SIDE - 1) / SD_SPARSE_SIDE);
  if (conv && w->c < SD_SPARSE_GROUP && w->c * c->dims[c->rank - 3] >= SD_SPARSE_GROUP && sd_sparse_window_rows(n))
    w->row = c->dims[c->rank - 3], w->taps /= w->row, w->c *= w->row;
  return true;
}

// Steps may read inputs as they stand.
static bool in_fours(const weight *w) { return w->row == 1 && w->c % SD_SPARSE_SIDE == 0; }

// Steps for blocks of `wide` outputs, at `rate` products a cycle, that are still faster by `gain` than the dense product. Both take as many
// vectors as the outputs need.
static int64_t most_steps(double rate, const weight *w, double rows, int64_t wide, double gain, const sd_sparse_rates *r) {
  double lanes = (double)(sd_ceil_div(w->outputs, r->lanes) * r->lanes), blocks = (double)(w->n / wide);
  double dense = rows * (double)w->steps * SD_SPARSE_SIDE * lanes / r->dense8, starts = ceil(rows / TILE) * blocks * START;
  double steps = (dense / gain - starts) * rate * blocks / (rows * lanes * SD_SPARSE_SIDE);
  return steps < 1 ? 0 : (int64_t)fmin(steps, (double)(INT32_MAX / (SD_SPARSE_WIDEST * SD_SPARSE_SIDE)));
}

// The tables while they are made: of blocks that are not all 0, or of all inputs in pairs, these with an order or as they stand.
typedef struct steps {
  bool ordered;
  int pairs; // see ir/ops/sparse_blocks.h
  int64_t wide, n, most; // most: room
  int8_t *value;
  int32_t *index, *start;
  uint8_t *order;
} steps;

static void *room(sd_graph *g, int64_t bytes) {
  void *p = sd_arena_aligned(g->module->arena, (uint64_t)bytes + 64, 64);
  memset(p, 0, (size_t)bytes + 64);
  return p;
}

static void open_steps(sd_arena *a, int64_t blocks, steps *t) {
  t->value = sd_arena_aligned(a, (uint64_t)(t->most * t->wide * SD_SPARSE_SIDE), 64);
  t->index = sd_arena_aligned(a, (uint64_t)t->most * 4, 64), t->order = sd_arena_aligned(a, (uint64_t)(t->most * SD_SPARSE_SIDE), 64);
  t->start = SD_NEW_ARRAY(a, int32_t, blocks + 1);
}

static void add_step(const sd_pair_step *s, int64_t at, steps *t) {
  memcpy(t->value + t->n * t->wide * SD_SPARSE_SIDE, s->value, (size_t)t->wide * SD_SPARSE_SIDE);
  memcpy(t->order + t->n * SD_SPARSE_SIDE, s->order, SD_SPARSE_SIDE);
  t->index[t->n++] = (int32_t)at;
}

// Four inputs as they stand.
static void add_block(const weight *w, int64_t tap, int64_t c, int64_t block, int64_t at, steps *t) {
  if (is_zero(w, tap, c, block)) return;
  for (int64_t i = 0; i < t->wide * SD_SPARSE_SIDE; i++)
    t->value[t->n * t->wide * SD_SPARSE_SIDE + i] = w->data[(tap * w->c + c + i % SD_SPARSE_SIDE) * w->n + block * t->wide + i / SD_SPARSE_SIDE];
  t->index[t->n++] = (int32_t)(at + c);
}

static void add_plain(const weight *w, int64_t tap, int64_t c, int64_t block, int64_t at, steps *t) {
  sd_pair_step step[2];
  int n = sd_pair_plain(w->data + (tap * w->c + c) * w->n + block * t->wide, w->n, t->wide, step);
  for (int i = 0; i < n; i++) add_step(&step[i], at + c, t);
}

// Inputs from c on in pairs. The last ones are read together with some before them.
static void add_pairs(const weight *w, int64_t tap, int64_t c, int64_t block, int64_t at, steps *t) {
  sd_pair_step step[SD_PAIR_STEPS];
  int inputs = (int)sd_min_i64(w->c - c, SD_SPARSE_GROUP), before = SD_SPARSE_GROUP - inputs;
  int n = sd_pair_steps(w->data + (tap * w->c + c) * w->n + block * t->wide, w->n, inputs, t->wide, step);
  for (int i = 0; i < n; i++) {
    for (int s = 0; s < SD_SPARSE_SIDE; s++) step[i].order[s] = (uint8_t)(step[i].order[s] + before);
    add_step(&step[i], at + c - before, t);
  }
}

// The steps of w as those of the blocks from `block` on. n: where its windows are read, NULL: it has none. False: there are more steps than there
// is room for.
static bool add_steps(const sd_node *n, const weight *w, int64_t block, steps *t) {
  int64_t by = t->ordered ? SD_SPARSE_GROUP : SD_SPARSE_SIDE, least = t->ordered ? SD_PAIR_STEPS : t->pairs ? 2 : 1;
  t->start[block] = (int32_t)t->n;
  for (int64_t b = 0; b < w->n / t->wide; b++) {
    for (int64_t tap = 0; tap < w->taps; tap++) {
      int64_t at = n ? sd_sparse_window_at(n, tap * w->row) : 0;
      for (int64_t c = 0; c < w->c; c += by) {
        if (t->n + least > t->most) return false;
        (t->ordered ? add_pairs : t->pairs ? add_plain : add_block)(w, tap, c, b, at, t);
      }
    }
    t->start[block + b + 1] = (int32_t)t->n;
  }
  return t->n > 0;
}

// Steps of pairs as they stand, *whole: of them those that are no rests.
static int64_t count_plain(const weight *w, int64_t wide, int64_t *whole) {
  sd_pair_step step[2];
  int64_t n = *whole = 0;
  for (int64_t b = 0; b < w->n / wide; b++)
    for (int64_t k = 0; k < w->taps * w->c; k += SD_SPARSE_SIDE) {
      int steps = sd_pair_plain(w->data + k * w->n + b * wide, w->n, wide, step);
      n += steps, *whole += steps > 0;
    }
  return n;
}

// The steps of all blocks in twos, where that gains.
static void double_up(int64_t blocks, sd_arena *a, steps *t) {
  steps two = {.pairs = 2, .wide = t->wide, .most = (int64_t)(TWICE * (double)t->n)};
  if (t->pairs != 1 || t->ordered || two.most < 2) return;
  open_steps(a, blocks, &two);
  two.start[0] = 0;
  sd_arena *scratch = sd_arena_scratch(a); // of a block
  int64_t b = 0, each = t->wide * SD_SPARSE_SIDE;
  for (; b < blocks; b++) {
    int64_t from = t->start[b], n = sd_double_steps(t->value + from * each, t->index + from, t->start[b + 1] - from, t->wide, two.most - two.n,
                                                    scratch, two.value + two.n * each, two.index + two.n);
    if (n < 0) break;
    two.n += n, two.start[b + 1] = (int32_t)(two.n / 2);
    sd_arena_reset(scratch);
  }
  sd_arena_free(scratch);
  if (b == blocks) *t = two;
}

static void *kept(sd_graph *g, const void *from, int64_t bytes) { return memcpy(room(g, bytes), from, (size_t)bytes); }

static sard_status *tables(sd_node *n, const char *name, int64_t blocks, const steps *t, sd_value **out) {
  sd_graph *g = n->graph;
  int64_t last[1] = {blocks + 1}, all[1] = {t->n}, order[2] = {t->n, SD_SPARSE_SIDE}, value[3] = {t->n, t->wide, SD_SPARSE_SIDE};
  out[0] = sd_value_const(g, name, SD_I8, 3, value, kept(g, t->value, t->n * t->wide * SD_SPARSE_SIDE));
  out[1] = sd_value_const(g, "", SD_I32, 1, all, kept(g, t->index, t->n * 4));
  out[2] = sd_value_const(g, "", SD_I32, 1, last, kept(g, t->start, last[0] * 4));
  if (t->ordered) out[3] = sd_value_const(g, "", SD_U8, 2, order, kept(g, t->order, t->n * SD_SPARSE_SIDE));
  return out[0] && out[1] && out[2] && (!t->ordered || out[3]) ? NULL : SD_ERR(NOMEM, "tables of weights in blocks are too large");
}

// w with zeros behind its outputs up to whole blocks.
static void fill_blocks(weight *w, int64_t wide, sd_arena *a) {
  int64_t n = sd_ceil_div(w->n, wide) * wide, rows = w->taps * w->c;
  if (n == w->n) return;
  int8_t *to = sd_arena_aligned(a, (uint64_t)(rows * n), 64);
  memset(to, 0, (size_t)(rows * n));
  for (int64_t i = 0; i < rows; i++) memcpy(to + i * n, w->data + i * w->n, (size_t)w->n);
  w->data = to, w->n = n;
}

// How w goes in pairs, and the most steps that gain.
static bool choose_pairs(weight *w, double rows, const sd_sparse_rates *r, sd_arena *a, steps *t) {
  int64_t whole, plain;
  *t = (steps){.pairs = 1, .wide = w->outputs > r->lanes ? 2 * r->lanes : r->lanes, .ordered = !in_fours(w)};
  if (r->pairs8 <= 0 || rows < LEAST_ROWS) return false;
  fill_blocks(w, t->wide, a);
  if (!t->ordered) plain = count_plain(w, t->wide, &whole), t->ordered = (double)plain > PLAIN * (double)whole;
  if (t->ordered && w->c < SD_SPARSE_GROUP) return false;
  double faster = !t->ordered ? PLAIN : t->wide > r->lanes ? 1 : ONE;
  t->most = most_steps(r->pairs8 * faster, w, rows, t->wide, LEAST_GAIN_PAIRS, r) + SD_PAIR_STEPS;
  return true;
}

// Fills t with the steps of n where they gain.
static bool choose(const sd_node *n, weight *w, const sd_sparse_rates *r, sd_arena *a, steps *t) {
  double rows = (double)sd_edit_rows(n), products = (double)w->taps * (double)w->c * (double)w->n;
  if (rows < 1 || sd_sparse_window_at(n, (w->taps - 1) * w->row) > INT32_MAX - w->c) return false;
  *t = (steps){.wide = SD_SPARSE_WIDE, .most = most_steps(r->blocks8, w, rows, SD_SPARSE_WIDE, LEAST_GAIN, r)};
  int64_t left = !in_fours(w) || w->n % SD_SPARSE_WIDE ? INT64_MAX : count_steps(w);
  if (left == 0 || (left > t->most && !choose_pairs(w, rows, r, a, t))) return false;
  if (t->most < 1 || (double)t->most > 2 * products) return false;
  open_steps(a, w->n / t->wide, t);
  if (!add_steps(n, w, 0, t)) return false;
  double_up(w->n / t->wide, a, t);
  return true;
}

static sard_status *replace(sd_node *n, const sd_value *w, sd_node *y) {
  y->name = n->name, y->onnx_index = n->onnx_index;
  SD_TRY(sd_node_infer(y));
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (!n->out[i]) continue;
    y->out[i]->name = n->out[i]->name;
    sd_value_replace(n->out[i], y->out[i]);
  }
  if (!sd_edit_read_elsewhere(w, n)) sd_const_release(n->graph->module, w->data, true);
  sd_node_remove(n);
  return NULL;
}

// x [N, spatial.., C] as [N, spatial.., W * C].
static sard_status *in_rows(sd_node *n, sd_value **x) {
  int64_t dims[SD_MAX_RANK] = {0};
  int last = (*x)->rank - 2;
  for (int i = 1; i <= last; i++) sd_dim_is_const(n->graph->module->dims, (*x)->dims[i], &dims[i]);
  dims[last] *= n->in[1]->data->dims[last];
  return sd_edit_reshape(n->graph, n, *x, dims, last + 1, x);
}

static sard_status *product(sd_node *n, const weight *w, const steps *t) {
  sd_value *in[5] = {n->in[0]};
  if (w->row > 1) SD_TRY(in_rows(n, &in[0]));
  SD_TRY(tables(n, n->in[1]->name, w->n / t->wide, t, in + 1));
  const sd_op *op = sd_op_find("sard.SparseBlocks");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseBlocks");
  sd_node *y = sd_node_new(n->graph, n, op, in, t->ordered ? 5 : 4, 1);
  sd_node_set_int(y, "pairs", t->pairs);
  if (w->n > w->outputs) sd_node_set_int(y, "n", w->outputs);
  if (sd_edit_is(n, "sard.Conv8")) sd_sparse_window_set(y, n, w->row > 1);
  return replace(n, n->in[1], y);
}

// ---- recurrent products: one row in most steps, whose weights come from the second-level cache, in pairs as they stand ----

enum { LSTM_R = 1, LSTM_SUMS = 7, LSTM_INDEX, LSTM_START, LSTM_OPERANDS };

static bool lstm_fits(const sd_node *n, const sd_sparse_rates *r) {
  if (!sd_edit_is(n, "sard.LSTM8") || r->pairs8 <= 0 || n->n_in != LSTM_SUMS + 1) return false;
  const sd_const *c = n->in[LSTM_R]->data;
  return c && c->dtype == SD_I8 && c->dims[1] % (2 * r->lanes) == 0 && c->dims[2] % SD_SPARSE_SIDE == 0 && c->count > 0;
}

static sard_status *recurrent(sd_node *n, const sd_sparse_rates *r, sd_arena *a, bool *done) {
  const sd_const *c = n->in[LSTM_R]->data;
  weight w = {NULL, 1, c->dims[2], c->dims[1], 1, 0, c->dims[1]};
  steps t = {.pairs = 1, .wide = 2 * r->lanes};
  int64_t each = w.c * w.n, blocks = w.n / t.wide, whole;
  int8_t *turned = sd_arena_aligned(a, c->count, 64);
  for (int64_t d = 0; d < c->dims[0]; d++) {
    for (int64_t i = 0; i < each; i++) turned[d * each + i % w.c * w.n + i / w.c] = ((const int8_t *)c->data)[d * each + i];
    w.data = turned + d * each;
    int64_t plain = count_plain(&w, t.wide, &whole);
    if ((double)plain > PLAIN * (double)whole) return NULL;
    t.most += plain + 2;
  }
  open_steps(a, c->dims[0] * blocks, &t);
  for (int64_t d = 0; d < c->dims[0]; d++) {
    w.data = turned + d * each;
    if (!add_steps(NULL, &w, d * blocks, &t)) return NULL;
  }
  double_up(c->dims[0] * blocks, a, &t);
  sd_value *in[LSTM_OPERANDS], *table[3], *old = n->in[LSTM_R];
  SD_TRY(tables(n, old->name, c->dims[0] * blocks, &t, table));
  memcpy(in, n->in, n->n_in * sizeof *in);
  in[LSTM_R] = table[0], in[LSTM_INDEX] = table[1], in[LSTM_START] = table[2];
  sd_node *y = sd_node_like(n->graph, n, n, in, LSTM_OPERANDS, n->n_out);
  sd_node_set_int(y, "pairs", t.pairs);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (!n->out[i]) y->out[i] = NULL;
  *done = true;
  return replace(n, old, y);
}

sard_status *sd_sparse_bytes(sd_node *n, const sd_pass_target *target, sd_arena *scratch, bool *done) {
  weight w;
  steps t;
  sd_sparse_rates rates = *target->sparse;
  const sd_sparse_rates *r = &rates;
  bool bytes = n->n_in == 2 && n->in[1] && fits(n, &w), lstm = lstm_fits(n, r);
  sard_status *st = NULL;
  *done = false;
  if (!lstm && !(bytes && r->dense8 > 0)) return NULL;
  if (bytes) rates.dense8 *= sd_winograd_speedup(n, target);
  sd_arena *a = sd_arena_scratch(scratch); // tables are as large as the weights
  if (lstm) st = recurrent(n, r, a, done);
  else if (choose(n, &w, r, a, &t)) *done = true, st = product(n, &w, &t);
  sd_arena_free(a);
  return st;
}
