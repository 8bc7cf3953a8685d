// Products of bytes in blocks, see sparse_bytes.h.
#include "passes/simplify/sparse_bytes.h"

#include <math.h>

#include "passes/edit.h"
#include "passes/simplify/pair_bytes.h"
#include "passes/simplify/sparse_windows.h"

#define LEAST_GAIN       1.15
#define LEAST_GAIN_PAIRS 1.05
#define LEAST_ROWS       4 // for pairs: fewer wait for memory
#define START 40 // cycles of a block of outputs for a register tile of rows
#define TILE  14 // rows

// w [taps of a window.., C, N], in the order of its memory.
typedef struct weight {
  const int8_t *data;
  int64_t taps, c, n;
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
  *w = (weight){c->data, 1, c->dims[c->rank - 2], c->dims[c->rank - 1]};
  if (w->n % SD_SPARSE_WIDE || w->c % SD_SPARSE_SIDE || w->n == 0 || w->c == 0) return false;
  if (!sd_dim_is(n->graph->module->dims, x->dims[x->rank - 1], w->c)) return false;
  if (!conv) return c->rank == 2 && x->rank >= 2;
  return sd_sparse_window_is(n, &w->taps);
}

static double rows_of(const sd_node *n) {
  sd_dimtab *t = n->graph->module->dims;
  const sd_value *y = n->out[0];
  int64_t rows = 0;
  return sd_dim_eval(t, sd_dim_product(t, y->dims, y->rank - 1), sd_dim_usual, t, &rows) ? (double)rows : 0;
}

// Steps for blocks of `wide` outputs, at `rate` products a cycle, that are still faster by `gain` than the dense product.
static int64_t most_steps(double rate, const weight *w, double rows, int64_t wide, double gain, const sd_sparse_rates *r) {
  double dense = rows * (double)w->taps * (double)w->c * (double)w->n / r->dense8;
  double starts = ceil(rows / TILE) * (double)(w->n / wide) * START, steps = (dense / gain - starts) * rate / (rows * (double)(wide * SD_SPARSE_SIDE));
  return steps < 1 ? 0 : (int64_t)fmin(steps, (double)(INT32_MAX / (SD_SPARSE_WIDEST * SD_SPARSE_SIDE)));
}

// The tables while they are made: of blocks that are not all 0, or of all inputs in pairs.
typedef struct steps {
  bool pairs;
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

static void open_steps(sd_arena *a, const weight *w, steps *t) {
  t->value = sd_arena_aligned(a, (uint64_t)(t->most * t->wide * SD_SPARSE_SIDE), 64);
  t->index = sd_arena_aligned(a, (uint64_t)t->most * 4, 64), t->order = sd_arena_aligned(a, (uint64_t)(t->most * SD_SPARSE_SIDE), 64);
  t->start = SD_NEW_ARRAY(a, int32_t, w->n / t->wide + 1);
}

// Four inputs as they stand.
static void add_block(const weight *w, int64_t tap, int64_t c, int64_t block, int64_t at, steps *t) {
  if (is_zero(w, tap, c, block)) return;
  for (int64_t i = 0; i < t->wide * SD_SPARSE_SIDE; i++)
    t->value[t->n * t->wide * SD_SPARSE_SIDE + i] = w->data[(tap * w->c + c + i % SD_SPARSE_SIDE) * w->n + block * t->wide + i / SD_SPARSE_SIDE];
  t->index[t->n++] = (int32_t)(at + c);
}

// Inputs from c on in pairs. The last ones are read together with some before them.
static void add_pairs(const weight *w, int64_t tap, int64_t c, int64_t block, int64_t at, steps *t) {
  sd_pair_step step[SD_PAIR_STEPS];
  int inputs = (int)(w->c - c < SD_SPARSE_GROUP ? w->c - c : SD_SPARSE_GROUP), before = SD_SPARSE_GROUP - inputs;
  int n = sd_pair_steps(w->data + (tap * w->c + c) * w->n + block * t->wide, w->n, inputs, t->wide, step);
  for (int i = 0; i < n; i++, t->n++) {
    memcpy(t->value + t->n * t->wide * SD_SPARSE_SIDE, step[i].value, (size_t)t->wide * SD_SPARSE_SIDE);
    for (int s = 0; s < SD_SPARSE_SIDE; s++) t->order[t->n * SD_SPARSE_SIDE + s] = (uint8_t)(step[i].order[s] + before);
    t->index[t->n] = (int32_t)(at + c - before);
  }
}

// False: there are more steps than there is room for.
static bool add_steps(const sd_node *n, const weight *w, steps *t) {
  int64_t by = t->pairs ? SD_SPARSE_GROUP : SD_SPARSE_SIDE, least = t->pairs ? SD_PAIR_STEPS : 1;
  t->start[0] = 0;
  for (int64_t b = 0; b < w->n / t->wide; b++) {
    for (int64_t tap = 0; tap < w->taps; tap++) {
      int64_t at = sd_sparse_window_at(n, tap);
      for (int64_t c = 0; c < w->c; c += by) {
        if (t->n + least > t->most) return false;
        (t->pairs ? add_pairs : add_block)(w, tap, c, b, at, t);
      }
    }
    t->start[b + 1] = (int32_t)t->n;
  }
  return t->n > 0;
}

static void *kept(sd_graph *g, const void *from, int64_t bytes) { return memcpy(room(g, bytes), from, (size_t)bytes); }

static sard_status *tables(sd_node *n, const weight *w, const steps *t, sd_value **out) {
  sd_graph *g = n->graph;
  int64_t blocks = w->n / t->wide, last[1] = {blocks + 1}, all[1] = {t->n}, order[2] = {t->n, SD_SPARSE_SIDE},
          value[3] = {t->n, t->wide, SD_SPARSE_SIDE};
  out[0] = sd_value_const(g, n->in[1]->name, SD_I8, 3, value, kept(g, t->value, t->n * t->wide * SD_SPARSE_SIDE));
  out[1] = sd_value_const(g, "", SD_I32, 1, all, kept(g, t->index, t->n * 4));
  out[2] = sd_value_const(g, "", SD_I32, 1, last, kept(g, t->start, last[0] * 4));
  if (t->pairs) out[3] = sd_value_const(g, "", SD_U8, 2, order, kept(g, t->order, t->n * SD_SPARSE_SIDE));
  return out[0] && out[1] && out[2] && (!t->pairs || out[3]) ? NULL : SD_ERR(NOMEM, "tables of weights in blocks are too large");
}

// Fills t with the steps of n where they gain.
static bool choose(const sd_node *n, const weight *w, const sd_sparse_rates *r, sd_arena *a, steps *t) {
  double rows = rows_of(n), products = (double)w->taps * (double)w->c * (double)w->n;
  if (rows < 1 || sd_sparse_window_at(n, w->taps - 1) > INT32_MAX - w->c) return false;
  *t = (steps){.wide = SD_SPARSE_WIDE, .most = most_steps(r->blocks8, w, rows, SD_SPARSE_WIDE, LEAST_GAIN, r)};
  int64_t left = count_steps(w);
  if (left > t->most || left == 0) {
    *t = (steps){.pairs = true, .wide = 2 * r->lanes};
    if (r->pairs8 <= 0 || rows < LEAST_ROWS || w->n % t->wide || w->c < SD_SPARSE_GROUP || left == 0) return false;
    t->most = most_steps(r->pairs8, w, rows, t->wide, LEAST_GAIN_PAIRS, r) + SD_PAIR_STEPS;
  }
  if (t->most < 1 || (double)t->most > 2 * products) return false;
  open_steps(a, w, t);
  return add_steps(n, w, t);
}

sard_status *sd_sparse_bytes(sd_node *n, const sd_sparse_rates *r, sd_arena *scratch, bool *done) {
  weight w;
  steps t;
  sd_value *in[5] = {n->n_in ? n->in[0] : NULL};
  *done = r->dense8 > 0 && n->n_in == 2 && n->in[1] && fits(n, &w) && choose(n, &w, r, scratch, &t);
  if (!*done) return NULL;
  SD_TRY(tables(n, &w, &t, in + 1));
  const sd_op *op = sd_op_find("sard.SparseBlocks");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseBlocks");
  sd_node *y = sd_node_new(n->graph, n, op, in, t.pairs ? 5 : 4, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  if (sd_edit_is(n, "sard.Conv8")) sd_sparse_window_set(y, n);
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = n->out[0]->name;
  if (!sd_edit_read_elsewhere(n->in[1], n)) sd_const_release(n->graph->module, n->in[1]->data, true);
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}
