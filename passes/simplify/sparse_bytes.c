// Products of bytes in blocks, see sparse_bytes.h.
#include "passes/simplify/sparse_bytes.h"

#include "ir/ops/sparse_blocks.h"
#include "passes/edit.h"
#include "passes/simplify/sparse_windows.h"

#define LEAST_GAIN 1.15
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

static bool gains(const sd_node *n, const weight *w, int64_t steps, const sd_sparse_rates *r) {
  sd_dimtab *t = n->graph->module->dims;
  const sd_value *y = n->out[0];
  int64_t rows = 0;
  if (!sd_dim_eval(t, sd_dim_product(t, y->dims, y->rank - 1), sd_dim_usual, t, &rows)) return false;
  double all = (double)rows * (double)w->taps * (double)w->c * (double)w->n / r->dense8;
  double some = (double)rows * (double)steps * SD_SPARSE_WIDE * SD_SPARSE_SIDE / r->blocks8;
  double starts = (double)((rows + TILE - 1) / TILE) * (double)(w->n / SD_SPARSE_WIDE) * START;
  return rows > 0 && some + starts < all / LEAST_GAIN;
}

static void *room(sd_graph *g, int64_t bytes) {
  void *p = sd_arena_aligned(g->module->arena, (uint64_t)bytes + 64, 64);
  memset(p, 0, (size_t)bytes + 64);
  return p;
}

static sard_status *tables(sd_node *n, const weight *w, int64_t steps, sd_value **out) {
  sd_graph *g = n->graph;
  int64_t blocks = w->n / SD_SPARSE_WIDE, last[1] = {blocks + 1}, all[1] = {steps}, t = 0,
          value[3] = {steps, SD_SPARSE_WIDE, SD_SPARSE_SIDE};
  int8_t *v = room(g, steps * SD_SPARSE_WIDE * SD_SPARSE_SIDE);
  int32_t *index = room(g, steps * 4), *start = room(g, last[0] * 4);
  for (int64_t b = 0; b < blocks; b++) {
    for (int64_t tap = 0; tap < w->taps; tap++)
      for (int64_t c = 0; c < w->c; c += SD_SPARSE_SIDE) {
        if (is_zero(w, tap, c, b)) continue;
        for (int64_t i = 0; i < SD_SPARSE_WIDE * SD_SPARSE_SIDE; i++)
          v[t * SD_SPARSE_WIDE * SD_SPARSE_SIDE + i] =
              w->data[(tap * w->c + c + i % SD_SPARSE_SIDE) * w->n + b * SD_SPARSE_WIDE + i / SD_SPARSE_SIDE];
        index[t++] = (int32_t)(sd_sparse_window_at(n, tap) + c);
      }
    start[b + 1] = (int32_t)t;
  }
  out[0] = sd_value_const(g, n->in[1]->name, SD_I8, 3, value, v);
  out[1] = sd_value_const(g, "", SD_I32, 1, all, index);
  out[2] = sd_value_const(g, "", SD_I32, 1, last, start);
  return out[0] && out[1] && out[2] ? NULL : SD_ERR(NOMEM, "tables of sparse weights are too large");
}

static bool alone(const sd_value *w, const sd_node *n) {
  for (uint32_t i = 0; i < w->uses.len; i++)
    if (w->uses.at[i].node != n) return false;
  return !sd_value_is_output(w);
}

sard_status *sd_sparse_bytes(sd_node *n, const sd_sparse_rates *r, bool *done) {
  weight w;
  sd_value *in[4] = {n->n_in ? n->in[0] : NULL};
  *done = r->dense8 > 0 && n->n_in == 2 && n->in[1] && fits(n, &w);
  int64_t steps = *done ? count_steps(&w) : 0;
  *done = *done && steps > 0 && steps <= INT32_MAX / (SD_SPARSE_WIDE * SD_SPARSE_SIDE) && gains(n, &w, steps, r) &&
          sd_sparse_window_at(n, w.taps - 1) <= INT32_MAX - w.c;
  if (!*done) return NULL;
  SD_TRY(tables(n, &w, steps, in + 1));
  const sd_op *op = sd_op_find("sard.SparseBlocks");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseBlocks");
  sd_node *y = sd_node_new(n->graph, n, op, in, 4, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  if (sd_edit_is(n, "sard.Conv8")) sd_sparse_window_set(y, n);
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = n->out[0]->name;
  if (alone(n->in[1], n)) sd_const_release(n->graph->module, n->in[1]->data, true);
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}
