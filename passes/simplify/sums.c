// Reductions of many elements to few results are made in two steps, of parts and of what they give, so that all of a machine works
// on them; the parts depend on sizes only.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { LEAST = 1 << 17, LEAST_PART = 1024, MOST_PARTS = 512, FEWEST_PARTS = 8, MOST_RESULTS = 64 };

typedef struct steps {
  const char *op, *parts, *join, *end; // end NULL: nothing
} steps;
static const steps table[] = {
    {"ReduceSum", "ReduceSum", "ReduceSum", NULL},   {"ReduceMean", "ReduceMean", "ReduceMean", NULL},
    {"ReduceMax", "ReduceMax", "ReduceMax", NULL},   {"ReduceMin", "ReduceMin", "ReduceMin", NULL},
    {"ReduceProd", "ReduceProd", "ReduceProd", NULL}, {"ReduceSumSquare", "ReduceSumSquare", "ReduceSum", NULL},
    {"ReduceL1", "ReduceL1", "ReduceSum", NULL},     {"ReduceL2", "ReduceSumSquare", "ReduceSum", "Sqrt"},
};

static const steps *steps_of(const sd_node *n) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (sd_edit_is(n, table[i].op)) return &table[i];
  return NULL;
}

static bool fits_type(const sd_node *n, sd_dtype t) {
  if (sd_dtype_is_float(t)) return sd_dtype_bits(t) >= 16;
  bool rounds = sd_edit_is(n, "ReduceMean") || sd_edit_is(n, "ReduceL2");
  return sd_dtype_is_int(t) && sd_dtype_bits(t) >= 8 && !rounds;
}

// The first of the reduced dims, behind which all are; -1: they are no such dims.
static int first_reduced(const sd_node *n) {
  const sd_value *x = n->in[0];
  int64_t axes[SD_MAX_RANK];
  uint32_t count = 0;
  int first = x->rank;
  if (n->n_in > 1 && n->in[1] && !sd_edit_ints(n, 1, axes, SD_MAX_RANK, &count)) return -1;
  if (count == 0) return sd_node_int(n, "noop_with_empty_axes", 0) ? -1 : 0;
  for (uint32_t i = 0; i < count; i++) {
    int64_t a = axes[i] < 0 ? axes[i] + x->rank : axes[i];
    if (a < first) first = (int)a;
  }
  return x->rank - first == (int)count ? first : -1; // none is given twice
}

static int64_t usual(sd_dimtab *t, sd_dim d) {
  int64_t v;
  return sd_dim_eval(t, d, sd_dim_usual, t, &v) ? v : 0;
}

// Into how many parts of equal length; 0: it is one step.
static int64_t parts_of(sd_dimtab *t, sd_dim results, sd_dim each, int tiles) {
  int64_t have = usual(t, results), length = usual(t, each);
  if (have < 1 || have > MOST_RESULTS || length < LEAST) return 0;
  int64_t most = 2 * tiles / have;
  if (most > MOST_PARTS) most = MOST_PARTS;
  if (most > length / LEAST_PART) most = length / LEAST_PART;
  for (int64_t p = most; p >= FEWEST_PARTS; p--)
    if (sd_dim_multiple_of(t, each, p)) return p;
  return 0;
}

static sard_status *split(sd_node *n, const steps *s, int first, sd_dim each, int64_t parts) {
  XG_SCOPE xg g = {.at = n};
  sd_dimtab *t = n->graph->module->dims;
  sd_dtype type = n->out[0]->dtype;
  sd_dim dims[SD_MAX_RANK];
  int64_t last = first + 1, before = first;
  memcpy(dims, n->in[0]->dims, (size_t)first * sizeof *dims);
  dims[first] = sd_dim_const(t, parts), dims[first + 1] = sd_dim_floordiv(t, each, dims[first]);
  sd_value *x = sd_xg_reshape(&g, n->in[0], dims, first + 2);
  if (sd_dtype_is_float(type) && sd_dtype_bits(type) < 32) x = sd_xg_cast(&g, SD_F32, x); // partial results are not rounded
  x = XG(&g, sd_xg_fmt(&g, "%s keepdims=0", s->parts), x, sd_xg_ints(&g, &last, 1));
  x = XG(&g, sd_xg_fmt(&g, "%s keepdims=0", s->join), x, sd_xg_ints(&g, &before, 1));
  if (s->end) x = XG(&g, s->end, x);
  sd_value *y = sd_xg_reshape(&g, sd_xg_cast(&g, type, x), n->out[0]->dims, n->out[0]->rank);
  return sd_xg_finish(&g, &y, 1);
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  const steps *of = steps_of(n);
  sd_dimtab *t = n->graph->module->dims;
  int first = of && n->in[0]->rank > 0 && n->in[0]->rank < SD_MAX_RANK ? first_reduced(n) : -1;
  if (first < 0 || !fits_type(n, n->in[0]->dtype)) return NULL;
  sd_dim results = sd_dim_product(t, n->in[0]->dims, first),
         each = sd_dim_product(t, n->in[0]->dims + first, n->in[0]->rank - first);
  int64_t parts = each == SD_DIM_NONE || results == SD_DIM_NONE ? 0 : parts_of(t, results, each, target->tiles);
  *done = parts >= FEWEST_PARTS;
  return *done ? split(n, of, first, each, parts) : NULL;
}

sard_status *sd_pass_sums(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.tiles ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
