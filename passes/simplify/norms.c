// Normalizations of few rows that are long: their moments become reductions of their own, made in two steps,
// of parts and of what they give. As one kernel each of its tiles would go over the whole row for them. The
// parts depend on sizes only.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { LEAST = 1 << 15, MOST_ROWS = 16, MOST_PARTS = 64 };

// Rows are the dims before `axis`, or groups of channels.
typedef struct norm {
  const char *op;
  sd_dim (*rows)(const sd_node *n); // SD_DIM_NONE: not known
  bool channels; // scale and bias have an element for each channel, else one for each of a row
} norm;

static sd_dim rows_of_channels(const sd_node *n) {
  return sd_dim_product(n->graph->module->dims, n->in[0]->dims, 2);
}

static sd_dim rows_of_groups(const sd_node *n) {
  sd_dimtab *t = n->graph->module->dims;
  return sd_dim_mul(t, n->in[0]->dims[0], sd_dim_const(t, sd_node_int(n, "num_groups", 1)));
}

static sd_dim rows_of_layers(const sd_node *n) {
  int64_t axis = sd_node_int(n, "axis", -1);
  return sd_dim_product(n->graph->module->dims, n->in[0]->dims,
                        (int)(axis < 0 ? axis + n->in[0]->rank : axis));
}

static const norm table[] = {{"InstanceNormalization", rows_of_channels, true},
                             {"GroupNormalization", rows_of_groups, true},
                             {"LayerNormalization", rows_of_layers, false}};

static const norm *norm_of(const sd_node *n) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (sd_edit_is(n, table[i].op)) return &table[i];
  return NULL;
}

// What is worked on: the input, or what it is a Reshape of, or its rows in parts, with the rows in the first
// dims.
typedef struct rows {
  sd_value *x;
  int first;   // dims of rows
  bool before; // x is what the input is a Reshape of
} rows;

static int leading(sd_dimtab *t, const sd_value *x, sd_dim count) {
  for (int k = 1; k + 1 < x->rank; k++)
    if (sd_dim_eq(t, sd_dim_product(t, x->dims, k), count) == 1) return k;
  return 0;
}

static int64_t parts_of(int64_t each) {
  int64_t p = MOST_PARTS;
  while (each % p) p--;
  return p;
}

// A row's order does not matter where it has one scale, so that the dims before a Reshape stay and so does
// their layout.
static rows rows_of(xg *g, const norm *of, sd_dim count, int64_t each) {
  sd_dimtab *t = g->at->graph->module->dims;
  sd_value *x = g->at->in[0], *before = x->def && sd_edit_is(x->def, "Reshape") ? x->def->in[0] : NULL;
  bool one = of->channels && sd_dim_eq(t, x->dims[1], sd_dim_const(t, 1)) == 1;
  rows r = {before, one && before ? leading(t, before, count) : 0, true};
  if (r.first) return r;
  r = (rows){x, leading(t, x, count), false};
  if (r.first) return r;
  int64_t parts = parts_of(each);
  return (rows){
      sd_xg_reshape(g, x, (sd_dim[]){count, sd_dim_const(t, parts), sd_dim_const(t, each / parts)}, 3), 1,
      false};
}

// Means of the rows of x, beside its elements. Dims that are kept would let both steps become one kernel.
static sd_value *mean(xg *g, sd_value *x, int first) {
  sd_dim dims[SD_MAX_RANK];
  int64_t last[SD_MAX_RANK], before = first;
  int n = 0, rank = g->st ? 0 : x->rank;
  for (int i = 0; i < rank; i++) {
    dims[i] = i < first ? x->dims[i] : sd_dim_const(g->at->graph->module->dims, 1);
    if (i > first) last[n++] = i;
  }
  x = XG(g, "ReduceMean keepdims=0", x, sd_xg_ints(g, last, n));
  return sd_xg_reshape(g, XG(g, "ReduceMean", x, sd_xg_ints(g, &before, 1)), dims, rank);
}

// Scale or bias beside the elements of y.
static sd_value *beside(xg *g, const norm *of, uint32_t operand, const sd_value *y) {
  sd_value *v = sd_xg_in(g, operand);
  if (g->st || !v || !of->channels || v->dims[0] == sd_dim_const(g->at->graph->module->dims, 1)) return v;
  sd_dim dims[SD_MAX_RANK];
  for (int i = 0; i < y->rank - 1; i++)
    dims[i] = i ? sd_dim_const(g->at->graph->module->dims, 1) : v->dims[0];
  return sd_xg_reshape(g, v, dims, y->rank - 1);
}

static sard_status *take_apart(sd_node *n, const norm *of, sd_dim count, int64_t each) {
  XG_SCOPE xg g = {.at = n};
  rows r = rows_of(&g, of, count, each);
  sd_value *d = XG(&g, "Sub", r.x, mean(&g, r.x, r.first)),
           *epsilon = sd_xg_f32(&g, (double)sd_node_float(n, "epsilon", 1e-5f));
  sd_value *variance = mean(&g, XG(&g, "Mul", d, d), r.first);
  sd_value *by = XG(&g, "Div", sd_xg_f32(&g, 1), XG(&g, "Sqrt", XG(&g, "Add", variance, epsilon)));
  sd_value *y = XG(&g, "Mul", d, by);
  if (!r.before) y = sd_xg_reshape(&g, y, n->in[0]->dims, n->in[0]->rank);
  y = XG(&g, "Mul", y, beside(&g, of, 1, y));
  if (sd_xg_in(&g, 2)) y = XG(&g, "Add", y, beside(&g, of, 2, y));
  if (r.before) y = sd_xg_reshape(&g, y, n->in[0]->dims, n->in[0]->rank);
  return sd_xg_finish(&g, &y, 1);
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  (void)target;
  const norm *of = norm_of(n);
  if (!of || n->n_out != 1 || n->in[0]->dtype != SD_F32 || n->in[1]->dtype != SD_F32) return NULL;
  sd_dimtab *t = n->graph->module->dims;
  int64_t elements, count;
  sd_dim all = sd_dim_product(t, n->in[0]->dims, n->in[0]->rank), rows = of->rows(n);
  if (all == SD_DIM_NONE || rows == SD_DIM_NONE || !sd_dim_is_const(t, all, &elements) ||
      !sd_dim_is_const(t, rows, &count))
    return NULL;
  *done = count > 0 && count <= MOST_ROWS && elements / count >= LEAST;
  return *done ? take_apart(n, of, rows, elements / count) : NULL;
}

sard_status *sd_pass_norms(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes_for(m, o, r, rewrite);
}
