// Products with constant weights that are mostly 0 (sard prune) become sard.SparseMatMul where an estimate
// from measured kernels says that it is faster by a margin: MatMul, Gemm, and convolutions of 1x1 with
// channels last. What is not sure stays dense.
#include "passes/edit.h"
#include "passes/simplify/sparse_tables.h"
#include "runtime/base/alloc.h"

#define BLOCK      128  // inputs: with the rows of a tile they fill half of the first cache
#define VECTORS    4    // of rows in a tile
#define LEAST      16   // inputs, outputs
#define MOST       0.6  // share of weights that are not 0: more never gained
#define LEAST_GAIN 1.15 // of the estimates
#define LARGE_PART 1024 // outputs: their sums stay in the second cache
#define SMALL_PART 128
#define FEW_TILES  16

// Shares of the peak that products reach, cycles that turning takes for an element of x and of y, and cycles of a tile.
#define DENSE_SHARE  0.90
#define OWN_SHARE    0.62
#define SHARED_SHARE 0.95
#define TURN_X       0.6
#define TURN_Y       1.0
#define START        2000

typedef struct product {
  sd_sparse_weight w;
  sd_value *x, *weight, *bias;
  int64_t rows; // at least
} product;

// ---- what is one ----
static bool all_are(const sd_node *n, const char *attr, int64_t v) { // or absent
  const sd_attr *a = sd_node_attr(n, attr);
  for (uint32_t i = 0; a && a->kind == SD_ATTR_INTS && i < a->n; i++)
    if (a->ints[i] != v) return false;
  return true;
}

static bool matmul(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "MatMul") || !w->data || w->rank != 2 || n->in[0]->rank < 2) return false;
  p->w = (sd_sparse_weight){w->data->data, w->data->dims[0], w->data->dims[1], w->data->dims[1], 1};
  return true;
}

static bool gemm(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "Gemm") || !w->data || w->rank != 2 || sd_node_int(n, "transA", 0)) return false;
  const sd_attr *alpha = sd_node_attr(n, "alpha"), *beta = sd_node_attr(n, "beta");
  if (alpha->f != 1 || beta->f != 1) return false;
  int64_t r = w->data->dims[0], c = w->data->dims[1];
  p->w = sd_node_int(n, "transB", 0) ? (sd_sparse_weight){w->data->data, c, r, 1, c}
                                     : (sd_sparse_weight){w->data->data, r, c, c, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  return true;
}

static bool conv(const sd_node *n, product *p) {
  const sd_value *w = n->in[1];
  if (!sd_edit_is(n, "Conv") || !sd_node_int(n, "channels_last", 0) || sd_node_int(n, "group", 1) != 1 ||
      !w->data)
    return false;
  for (int i = 0; i + 2 < w->rank; i++)
    if (w->data->dims[i] != 1) return false;
  if (!all_are(n, "strides", 1) || !all_are(n, "pads", 0)) return false;
  int64_t ic = w->data->dims[w->rank - 2], oc = w->data->dims[w->rank - 1];
  p->w = (sd_sparse_weight){w->data->data, ic, oc, oc, 1};
  p->bias = n->n_in > 2 ? n->in[2] : NULL;
  return true;
}

static bool least_symbol(void *user, const char *name, int64_t *v) {
  sd_dimtab *t = user;
  *v = sd_dim_get(t, sd_dim_sym(t, name))->min;
  if (*v < 1) *v = 1;
  return true;
}

static bool read_elsewhere(const sd_value *w, const sd_node *n) {
  if (sd_value_is_output(w)) return true;
  for (uint32_t i = 0; i < w->uses.len; i++)
    if (w->uses.at[i].node != n) return true;
  return false;
}

static bool fits(const sd_node *n, product *p) {
  sd_dimtab *t = n->graph->module->dims;
  *p = (product){.rows = 1};
  if (n->n_in < 2 || !n->in[0] || !n->in[1] || n->n_out != 1) return false;
  if (!matmul(n, p) && !gemm(n, p) && !conv(n, p)) return false;
  p->x = n->in[0], p->weight = n->in[1];
  if (p->weight->dtype != SD_F32 || p->x->dtype != SD_F32 || p->x->data || read_elsewhere(p->weight, n))
    return false;
  if (p->w.k < LEAST || p->w.n < LEAST || !sd_dim_is(t, p->x->dims[p->x->rank - 1], p->w.k)) return false;
  if (p->bias && (p->bias->rank != 1 || !sd_dim_is(t, p->bias->dims[0], p->w.n))) return false;
  if (!sd_dim_eval(t, sd_dim_product(t, p->x->dims, p->x->rank - 1), least_symbol, t, &p->rows)) return false;
  return p->rows >= 1;
}

// ---- whether it gains ----
typedef struct plan {
  int64_t tile, part;
  bool shared;
} plan;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Parts of the outputs, enough for all cores where the rows do not make as many tiles.
static int64_t part_of(const product *p, int64_t tile) {
  int64_t tiles = ceil_div(p->rows, tile), parts = ceil_div(FEW_TILES, tiles), most = p->w.n / SMALL_PART;
  if (parts > most) parts = most;
  if (parts < ceil_div(p->w.n, LARGE_PART)) parts = ceil_div(p->w.n, LARGE_PART);
  return ceil_div(ceil_div(p->w.n, parts < 1 ? 1 : parts), SD_SPARSE_SHARE) * SD_SPARSE_SHARE;
}

// Cycles of one core.
static double sparse_cycles(const product *p, const plan *s, int64_t steps, double lanes) {
  double tiles = (double)ceil_div(p->rows, s->tile), rows = tiles * (double)s->tile,
         parts = (double)ceil_div(p->w.n, s->part);
  double products = (double)steps * (s->shared ? SD_SPARSE_SHARE : SD_SPARSE_OWN) * rows;
  double turned = (TURN_X * (double)p->w.k * parts + TURN_Y * (double)p->w.n) * rows;
  return products / (2 * lanes * (s->shared ? SHARED_SHARE : OWN_SHARE)) + turned +
         START * tiles * parts;
}

static bool gains(const product *p, const sd_sparse_counts *c, int lanes, plan *best, sd_arena *a) {
  double dense = (double)p->w.k * (double)p->w.n * (double)p->rows / (2 * lanes * DENSE_SHARE),
         least = dense / LEAST_GAIN;
  bool found = false;
  for (int shared = 0; shared < 2; shared++) {
    plan s = {.tile = (int64_t)VECTORS * lanes, .shared = shared};
    s.part = part_of(p, s.tile);
    double cycles = sparse_cycles(p, &s, sd_sparse_steps(&p->w, c, s.part, shared, a), lanes);
    if (cycles >= least) continue;
    least = cycles, *best = s, found = true;
  }
  return found;
}

static sard_status *replace(sd_node *n, const product *p, const sd_sparse_counts *c, const plan *s,
                            sd_arena *scratch) {
  sd_value *in[6] = {p->x};
  sd_module *m = n->graph->module;
  const sd_op *op = sd_op_find("sard.SparseMatMul");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.SparseMatMul");
  SD_TRY(sd_sparse_tables(n->graph, p->weight->name, &p->w, c, s->part, s->shared, scratch, in + 1));
  sd_const_release(m, p->weight->data, true);
  in[5] = p->bias;
  sd_node *y = sd_node_new(n->graph, n, op, in, p->bias ? 6 : 5, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  sd_node_set_int(y, "n", p->w.n), sd_node_set_int(y, "block", c->block), sd_node_set_int(y, "rows", s->tile);
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, int lanes, sd_arena *scratch, bool *done) {
  product p;
  sd_sparse_counts c;
  plan s;
  if (!fits(n, &p)) return NULL;
  int64_t most = (int64_t)((double)(p.w.k * p.w.n) * MOST);
  *done = sd_sparse_count(&p.w, sd_min_i64(BLOCK, p.w.k), most, scratch, &c);
  *done = *done && c.nonzeros && gains(&p, &c, lanes, &s, scratch); // nothing but 0: a dump without contents
  return *done ? replace(n, &p, &c, &s, scratch) : NULL;
}

typedef struct sparse {
  const sd_pass_options *o;
  sd_pass_report *r;
  sd_arena *scratch;
} sparse;

static sard_status *in_graph(sd_graph *g, void *user) {
  const sparse *s = user;
  for (sd_node *n = g->first, *next; n; n = next) {
    bool done = false;
    next = n->next;
    if (s->o->bisect >= 0 && s->r->rewrites >= s->o->bisect) return NULL;
    sard_status *st = rewrite(n, s->o->target.sparse_lanes, s->scratch, &done);
    if (st) return sd_node_error(n, st);
    s->r->rewrites += done;
  }
  return NULL;
}

sard_status *sd_pass_sparse(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  sparse s = {o, r, scratch};
  return o->target.sparse_lanes ? sd_edit_graphs(m, in_graph, &s) : NULL;
}
