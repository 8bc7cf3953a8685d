// Gathers at all positions of a value, in their order, are reshapes: masks that exporters read by numbers of
// rows and columns (Range, Mul, Add, Concat). Then nothing depends on those numbers, and a batch among them
// can be split.
//
// An index is known as a sum over its axes: element i of it is base + coef[0] i[0] + coef[1] i[1] + ...
#include "ir/ops/xgraph.h"
#include "passes/edit.h"

enum { DEEPEST = 12 };

typedef struct form {
  sd_dim base, coef[SD_MAX_RANK]; // coef: 0 where a dim is 1
} form;

static bool is_one(const sd_value *v, int d) { return sd_dim_is(v->graph->module->dims, v->dims[d], 1); }

static form zero_form(sd_dimtab *t) {
  form f = {.base = sd_dim_const(t, 0)};
  for (int d = 0; d < SD_MAX_RANK; d++) f.coef[d] = f.base;
  return f;
}

static bool form_of(const sd_value *v, int depth, form *f);

static bool one_number(const sd_value *v, sd_dim *out) {
  uint32_t n;
  return sd_value_elems(v, out, 1, &n) && n == 1;
}

static bool form_range(const sd_node *n, int depth, form *f) {
  (void)depth;
  return one_number(n->in[0], &f->base) && one_number(n->in[2], &f->coef[0]);
}

// Dims that are not 1 stay in their order.
static bool form_renamed(const sd_node *n, int depth, form *f) {
  const sd_value *x = n->in[0], *y = n->out[0];
  form a;
  int e = 0;
  if (!form_of(x, depth, &a)) return false;
  f->base = a.base;
  for (int d = 0; d < x->rank; d++) {
    if (is_one(x, d)) continue;
    while (e < y->rank && is_one(y, e)) e++;
    if (e == y->rank || sd_dim_eq(n->graph->module->dims, x->dims[d], y->dims[e]) != 1) return false;
    f->coef[e++] = a.coef[d];
  }
  while (e < y->rank && is_one(y, e)) e++;
  return e == y->rank;
}

// The last axes belong together.
static bool form_aligned(const sd_node *n, uint32_t operand, int depth, form *f) {
  const sd_value *x = n->in[operand];
  form a;
  if (!form_of(x, depth, &a) || x->rank > n->out[0]->rank) return false;
  f->base = a.base;
  for (int d = 0; d < x->rank; d++) {
    int to = n->out[0]->rank - x->rank + d;
    if (is_one(x, d)) continue;
    if (sd_dim_eq(n->graph->module->dims, x->dims[d], n->out[0]->dims[to]) != 1) return false;
    f->coef[to] = a.coef[d];
  }
  return true;
}

static bool form_first(const sd_node *n, int depth, form *f) { return form_aligned(n, 0, depth, f); }

static bool form_add(const sd_node *n, int depth, form *f) {
  sd_dimtab *t = n->graph->module->dims;
  form b = zero_form(t);
  if (!form_aligned(n, 0, depth, f) || !form_aligned(n, 1, depth, &b)) return false;
  f->base = sd_dim_add(t, f->base, b.base);
  for (int d = 0; d < SD_MAX_RANK; d++) f->coef[d] = sd_dim_add(t, f->coef[d], b.coef[d]);
  return true;
}

// By a number that is the same everywhere.
static bool form_mul(const sd_node *n, int depth, form *f) {
  sd_dimtab *t = n->graph->module->dims;
  sd_dim by;
  bool second = one_number(n->in[1], &by);
  if (!second && !one_number(n->in[0], &by)) return false;
  if (!form_aligned(n, !second, depth, f)) return false;
  f->base = sd_dim_mul(t, f->base, by);
  for (int d = 0; d < SD_MAX_RANK; d++) f->coef[d] = sd_dim_mul(t, f->coef[d], by);
  return true;
}

static const struct {
  const char *op;
  bool (*form)(const sd_node *n, int depth, form *f);
} table[] = {{"Range", form_range},
             {"Cast", form_first},
             {"Expand", form_first},
             {"Add", form_add},
             {"Mul", form_mul}};

static bool form_of(const sd_value *v, int depth, form *f) {
  const sd_node *n = v->def;
  *f = zero_form(v->graph->module->dims);
  if ((v->dtype != SD_I64 && v->dtype != SD_I32) || v->rank < 0) return false;
  if (one_number(v, &f->base)) return true;
  if (!n || depth == DEEPEST) return false;
  if (sd_op_has(n->op, SD_RENAMES)) return form_renamed(n, depth + 1, f);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (sd_edit_is(n, table[i].op)) return table[i].form(n, depth + 1, f);
  return false;
}

// The axes of an index, of `rank`, give each element of dims of these sizes once and in order: from the last
// one on each dim is counted through by axes of its own.
static bool is_all(const sd_value *index, int rank, const form *forms, const sd_dim *sizes, uint32_t n) {
  sd_dimtab *t = index->graph->module->dims;
  int d = rank;
  for (uint32_t j = n; j-- > 0;) {
    sd_dim expect = sd_dim_const(t, 1);
    if (!sd_dim_is(t, forms[j].base, 0)) return false;
    for (; d > 0 && (expect != sizes[j] || is_one(index, d - 1)); d--) {
      if (is_one(index, d - 1)) continue;
      for (uint32_t i = 0; i < n; i++)
        if (i == j ? forms[i].coef[d - 1] != expect : !sd_dim_is(t, forms[i].coef[d - 1], 0)) return false;
      expect = sd_dim_mul(t, expect, index->dims[d - 1]);
    }
    if (expect != sizes[j]) return false;
  }
  while (d > 0 && is_one(index, d - 1)) d--;
  return d == 0;
}

static sard_status *reshape(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = sd_xg_reshape(&g, n->in[0], n->out[0]->dims, n->out[0]->rank);
  return sd_xg_finish(&g, &y, 1);
}

static bool gathers_all(const sd_node *n) {
  const sd_value *x = n->in[0], *index = n->in[1];
  int64_t axis = sd_node_int(n, "axis", 0);
  form f;
  if (axis < 0) axis += x->rank;
  return axis < x->rank && form_of(index, 0, &f) && is_all(index, index->rank, &f, &x->dims[axis], 1);
}

// Coordinates stand side by side in the last axis.
static bool gathers_points(const sd_node *n) {
  const sd_value *x = n->in[0], *index = n->in[1];
  const sd_node *c = index->def;
  form forms[SD_MAX_RANK];
  int last = index->rank - 1;
  if (sd_node_int(n, "batch_dims", 0) || !sd_edit_is(c, "Concat") || last < 0 || c->n_in > (uint32_t)x->rank)
    return false;
  int64_t axis = sd_node_int(c, "axis", 0);
  if (axis != last && axis != -1) return false;
  for (uint32_t i = 0; i < c->n_in; i++)
    if (!is_one(c->in[i], last) || !form_of(c->in[i], 0, &forms[i])) return false;
  return is_all(index, last, forms, x->dims, c->n_in);
}

static sard_status *visit(sd_node *n, bool *done) {
  bool points = sd_edit_is(n, "GatherND");
  if (!points && !sd_edit_is(n, "Gather")) return NULL;
  if (n->in[0]->rank < 1 || n->in[1]->rank < 0 || n->out[0]->rank < 0) return NULL;
  *done = points ? gathers_points(n) : gathers_all(n);
  return *done ? reshape(n) : NULL;
}

sard_status *sd_pass_positions(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes(m, o, r, visit);
}
