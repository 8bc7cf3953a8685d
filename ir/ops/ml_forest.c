// Tree ensembles of ai.onnx.ml: a walk of known depth from the roots to leaves, then sums of leaf weights.
#include <math.h>
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/ml_trees.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"

// ---- constants of a forest ----
// Leaves get the first numbers, so that a leaf is its row of the weights.
typedef struct layout {
  int64_t *number; // of each node
  int64_t leaves, nodes;
  uint32_t *order; // trees side by side, those of one target together
  int64_t trees;   // with the padding
  bool one;        // each tree gives to one target
} layout;

static void number_nodes(sd_arena *a, const ml_forest *f, layout *l) {
  l->number = SD_NEW_ARRAY(a, int64_t, f->n_nodes + 1);
  for (int pass = 0; pass < 2; pass++) {
    for (uint32_t i = 0; i < f->n_nodes; i++)
      if (f->nodes[i].tree && (f->nodes[i].mode == ML_LEAF) == !pass) l->number[i] = l->nodes++;
    if (!pass) l->leaves = ++l->nodes; // one more, that gives nothing: for the padding
  }
}

// The target of each tree; false when one gives to several.
static bool one_target(const ml_forest *f, int64_t *target) {
  for (uint32_t i = 0; i < f->n_trees; i++) target[i] = -1;
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    const ml_tnode *t = &f->nodes[i];
    if (!t->tree || t->mode != ML_LEAF || !t->count) continue;
    int64_t to = f->entries[t->first].target, *of = &target[t->tree - 1];
    if (t->count > 1 || (*of >= 0 && *of != to)) return false;
    *of = to;
  }
  return true;
}

#define NO_TREE UINT32_MAX
static void order_trees(sd_arena *a, const ml_forest *f, int aggregate, layout *l) {
  int64_t *target = SD_NEW_ARRAY(a, int64_t, f->n_trees + 1), *count = SD_NEW_ARRAY(a, int64_t, f->targets),
          most = 0;
  l->one = aggregate == 0 && one_target(f, target);
  for (uint32_t i = 0; l->one && i < f->n_trees; i++) {
    if (target[i] < 0) target[i] = 0;
    if (++count[target[i]] > most) most = count[target[i]];
  }
  if (most * f->targets > 4 * (int64_t)f->n_trees + 64) l->one = false; // mostly padding
  l->trees = l->one ? most * f->targets : f->n_trees;
  l->order = SD_NEW_ARRAY(a, uint32_t, l->trees + 1);
  for (int64_t i = 0; i < l->trees; i++) l->order[i] = l->one ? NO_TREE : (uint32_t)i;
  memset(count, 0, (size_t)f->targets * sizeof *count);
  for (uint32_t i = 0; l->one && i < f->n_trees; i++) l->order[target[i] * most + count[target[i]]++] = i;
}

static sd_value *ints32(xg *g, const int32_t *v, int64_t rows, int64_t cols) {
  int64_t dims[2] = {rows, cols};
  return sd_value_const(g->at->graph, "", SD_I32, cols ? 2 : 1, dims, v);
}

static sd_value *weights(xg *g, const ml_forest *f, const layout *l, int aggregate, sd_dtype t) {
  sd_arena *a = g->at->graph->module->arena;
  uint64_t columns = l->one ? 1 : (uint64_t)f->targets, count, bytes;
  if (!sd_ck_mul((uint64_t)l->leaves, columns, &count) || count > 1u << 30 ||
      !sd_dtype_bytes(t, count, &bytes))
    return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "%lld leaves for %lld targets", (long long)l->leaves,
                                   (long long)f->targets)),
           NULL;
  void *data = sd_arena_aligned(a, bytes + 64, 64);
  bool *set = SD_NEW_ARRAY(a, bool, count + 1);
  for (uint64_t i = 0; aggregate && i < count; i++)
    sd_dtype_set_f64(t, data, i, aggregate == 1 ? INFINITY : -INFINITY);
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    const ml_tnode *node = &f->nodes[i];
    for (uint32_t k = 0; node->tree && node->mode == ML_LEAF && k < node->count; k++) {
      const ml_entry *e = &f->entries[node->first + k];
      uint64_t at = (uint64_t)l->number[i] * columns + (l->one ? 0 : (uint64_t)e->target);
      double old = set[at] && !aggregate ? sd_dtype_get_f64(t, data, at) : 0;
      sd_dtype_set_f64(t, data, at, old + e->weight);
      set[at] = true;
    }
  }
  int64_t dims[2] = {l->leaves, (int64_t)columns};
  return sd_value_const(g->at->graph, "", t, 2, dims, data);
}

// A split in f32: the largest number not above it (or the smallest not below, for tests against the other
// side) would be exact for wide splits; models of f32 inputs have f32 splits.
static sd_value *walk_of(xg *g, const ml_forest *f, const layout *l, sd_value *x) {
  sd_arena *a = g->at->graph->module->arena;
  int32_t *roots = SD_NEW_ARRAY(a, int32_t, l->trees + 1), *feature = SD_NEW_ARRAY(a, int32_t, l->nodes);
  int32_t *mode = SD_NEW_ARRAY(a, int32_t, l->nodes), *child = SD_NEW_ARRAY(a, int32_t, 2 * l->nodes);
  uint8_t *missing = SD_NEW_ARRAY(a, uint8_t, l->nodes);
  uint64_t bytes = 0;
  if (l->nodes > INT32_MAX / 2 || !sd_dtype_bytes(x->dtype, (uint64_t)l->nodes, &bytes))
    return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "%lld tree nodes", (long long)l->nodes)), NULL;
  void *value = sd_arena_aligned(a, bytes + 64, 64);
  int same = -2;
  bool any = false;
  for (int64_t i = 0; i < l->leaves; i++) child[2 * i] = child[2 * i + 1] = (int32_t)i;
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    const ml_tnode *t = &f->nodes[i];
    int64_t at = l->number[i];
    if (!t->tree || t->mode == ML_LEAF) continue;
    feature[at] = t->feature, mode[at] = t->mode, missing[at] = t->missing;
    child[2 * at] = (int32_t)l->number[t->no], child[2 * at + 1] = (int32_t)l->number[t->yes];
    sd_dtype_set_f64(x->dtype, value, (uint64_t)at, t->value);
    any |= t->missing;
    same = same == -2 || same == t->mode ? t->mode : -1;
  }
  for (int64_t i = 0; i < l->trees; i++)
    roots[i] = (int32_t)(l->order[i] == NO_TREE ? l->leaves - 1 : l->number[f->roots[l->order[i]]]);
  const char *spec = sd_xg_fmt(g, "sard.TreeWalk depth=%d mode=%d", f->depth, same < -1 ? 0 : same);
  return XG(g, spec, x, ints32(g, roots, l->trees, 0), ints32(g, feature, l->nodes, 0),
            sd_value_const(g->at->graph, "", x->dtype, 1, &l->nodes, value), ints32(g, mode, l->nodes, 0),
            ints32(g, child, l->nodes, 2),
            any ? sd_value_const(g->at->graph, "", SD_BOOL, 1, &l->nodes, missing) : NULL);
}

sd_value *sd_ml_forest_scores(xg *g, const ml_forest *f, int aggregate) {
  layout l = {0};
  sd_arena *a = g->at->graph->module->arena;
  sd_value *x = sd_ml_rows(g, true);
  if (g->st) return NULL;
  int64_t columns;
  if (!sd_dim_is_const(sd_sh_tab(g->at), x->dims[1], &columns))
    columns = f->features; // the walk checks each position
  if (columns < f->features)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "feature %lld of %lld", (long long)f->features - 1,
                                   (long long)columns)),
           NULL;
  number_nodes(a, f, &l);
  order_trees(a, f, aggregate, &l);
  sd_value *leaf = walk_of(g, f, &l, x);
  const char *spec =
      sd_xg_fmt(g, "sard.TreeSum targets=%lld one=%d op=%d", (long long)f->targets, l.one, aggregate);
  sd_value *y = XG(g, spec, leaf, weights(g, f, &l, aggregate, x->dtype));
  if (aggregate && y) y = XG(g, "Where", XG(g, "IsInf", y), sd_xg_num(g, x->dtype, 0), y);
  return y;
}

// ---- the rows that do the work ----
sard_status *sd_shape_tree_walk(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  for (uint32_t i = 1; i < 7; i++)
    if (sd_sh_in(n, i)) SD_TRY(sd_sh_rank(n, i, i == 5 ? 2 : 1, i == 5 ? 2 : 1));
  for (uint32_t i = 3; i < 7; i++)
    if (sd_sh_in(n, i))
      SD_TRY(sd_sh_same(n, n->in[i]->dims[0], n->in[2]->dims[0], "lists of tree nodes", NULL));
  SD_TRY(sd_sh_same(n, n->in[5]->dims[1], sd_dim_const(sd_sh_tab(n), 2), "children", NULL));
  int64_t depth = sd_node_int(n, "depth", 0);
  if (depth < 0 || depth > 1024) return SD_SH_ERR(n, MODEL, "depth is %lld", (long long)depth);
  return sd_sh_set(n, 0, SD_I32, 2, (sd_dim[]){n->in[0]->dims[0], n->in[1]->dims[0]});
}

static sd_expr *tree_test(sd_tb *b, int mode, sd_expr *x, sd_expr *v) {
  switch (mode) {
  case ML_LEQ:
    return x_bin(b, SD_X_LE, x, v);
  case ML_LT:
    return x_bin(b, SD_X_LT, x, v);
  case ML_GTE:
    return x_bin(b, SD_X_LE, v, x);
  case ML_GT:
    return x_bin(b, SD_X_LT, v, x);
  case ML_EQ:
    return x_bin(b, SD_X_EQ, x, v);
  default:
    return x_bin(b, SD_X_NE, x, v);
  }
}

static sd_expr *tree_condition(sd_tb *b, const sd_node *n, sd_expr *at, sd_expr *x) {
  sd_expr *v = x_cast(b, x->dtype, sd_tb_load(b, n, 3, &at)), *cond;
  int64_t mode = sd_node_int(n, "mode", -1);
  if (mode >= 0) {
    cond = tree_test(b, (int)mode, x, v);
  } else {
    sd_expr *m = x_cast(b, SD_I32, sd_tb_load(b, n, 4, &at));
    cond = tree_test(b, ML_NEQ, x, v);
    for (int i = ML_EQ; m && i >= ML_LEQ; i--)
      cond = x_sel(b, x_bin(b, SD_X_EQ, m, sd_x_i(b->k, SD_I32, i)), tree_test(b, i, x, v), cond);
  }
  if (!sd_tb_has(n, 6)) return cond;
  return x_bin(b, SD_X_OR, cond, x_and(b, x_un(b, SD_X_ISNAN, x), sd_tb_load(b, n, 6, &at)));
}

static sd_expr *checked(sd_tb *b, sd_expr *x, sd_dim extent) {
  x = x_cast(b, SD_I64, x);
  return x ? sd_x_index(b->k, x, extent) : NULL;
}

sd_expr *sd_pull_tree_walk(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_dim nodes = n->in[2]->dims[0];
  int64_t depth = sd_node_int(n, "depth", 0);
  sd_expr *at = checked(b, sd_tb_load(b, n, 1, &idx[1]), nodes);
  for (int64_t i = 0; i < depth && at; i++) {
    sd_expr *feature = checked(b, sd_tb_load(b, n, 2, &at), n->in[0]->dims[1]);
    sd_expr *x = feature ? sd_tb_load(b, n, 0, (sd_expr *[]){idx[0], feature}) : NULL;
    sd_expr *cond = x ? tree_condition(b, n, at, x) : NULL;
    if (!cond) return NULL;
    at = checked(b, sd_tb_load(b, n, 5, (sd_expr *[]){at, x_cast(b, SD_I64, cond)}), nodes);
  }
  return x_cast(b, SD_I32, at);
}

sard_status *sd_shape_tree_sum(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  int64_t targets = sd_node_int(n, "targets", 1);
  sd_dimtab *t = sd_sh_tab(n);
  bool one = sd_node_int(n, "one", 0) != 0;
  if (targets < 1) return SD_SH_ERR(n, MODEL, "targets is %lld", (long long)targets);
  SD_TRY(sd_sh_same(n, n->in[1]->dims[1], sd_dim_const(t, one ? 1 : targets), "weights and targets", NULL));
  if (one)
    SD_TRY(sd_sh_same(n, sd_dim_mod(t, n->in[0]->dims[1], sd_dim_const(t, targets)), sd_dim_const(t, 0),
                      "trees of targets", NULL));
  return sd_sh_set(n, 0, n->in[1]->dtype, 2, (sd_dim[]){n->in[0]->dims[0], sd_dim_const(t, targets)});
}

sd_expr *sd_pull_tree_sum(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  static const sd_rop ops[] = {SD_R_SUM, SD_R_MIN, SD_R_MAX};
  bool one = sd_node_int(n, "one", 0) != 0;
  sd_dim trees = n->in[0]->dims[1];
  x_axes red = {.n = 0};
  if (one) trees = sd_dim_floordiv(b->dims, trees, sd_dim_const(b->dims, sd_node_int(n, "targets", 1)));
  sd_expr *t = x_raxis(b, &red, "t", trees);
  if (one && t) t = x_add(b, sd_x_mul_dim(b->k, idx[1], trees), t);
  sd_expr *leaf = t ? checked(b, sd_tb_load(b, n, 0, (sd_expr *[]){idx[0], t}), n->in[1]->dims[0]) : NULL;
  if (!leaf) return NULL;
  int64_t op = sd_node_int(n, "op", 0);
  return x_reduce(b, ops[op >= 0 && op < 3 ? op : 0], &red,
                  sd_tb_load(b, n, 1, (sd_expr *[]){leaf, one ? x_int(b, 0) : idx[1]}));
}

// ---- the operators ----
static sard_status *rows_of(const sd_node *n, sd_dim *out) {
  SD_TRY(sd_sh_rank(n, 0, 1, 2));
  *out = n->in[0]->rank == 2 ? n->in[0]->dims[0] : sd_dim_const(sd_sh_tab(n), 1);
  return NULL;
}

// base_values or its tensor form as constant of type t; NULL when there are none.
static sard_status *base_values(xg *g, sd_dtype t, uint32_t *count, sd_value **out) {
  const sd_attr *a = sd_node_attr(g->at, "base_values_as_tensor"), *f = sd_node_attr(g->at, "base_values");
  *count = 0, *out = NULL;
  if (a && a->kind == SD_ATTR_TENSOR) {
    if (a->tensor->count > 1 << 24 || !sd_dtype_is_float(a->tensor->dtype))
      return SD_SH_ERR(g->at, MODEL, "base_values_as_tensor is no list of floats");
    int64_t n = (int64_t)a->tensor->count;
    *count = (uint32_t)n;
    if (n)
      *out = sd_xg_cast(g, t, sd_value_const(g->at->graph, "", a->tensor->dtype, 1, &n, a->tensor->data));
  } else if (f && f->kind == SD_ATTR_FLOATS && f->n) {
    *count = f->n;
    *out = sd_xg_cast(g, t, sd_ml_vector(g, (ml_floats){f->floats, f->n}));
  }
  return sd_xg_take(g);
}

static sard_status *aggregate_of(const sd_node *n, int *out, bool *average) {
  static const char *const names[] = {"SUM", "MIN", "MAX", "AVERAGE"};
  const char *name = sd_node_str(n, "aggregate_function", "SUM");
  for (int i = 0; i < 4; i++)
    if (!strcmp(name, names[i])) return *out = i == 3 ? 0 : i, *average = i == 3, NULL;
  return SD_SH_ERR(n, MODEL, "unknown aggregate_function '%s'", name);
}

static sd_value *averaged(xg *g, sd_value *y, uint32_t trees) {
  return y ? XG(g, "Div", y, sd_xg_num(g, y->dtype, trees)) : NULL;
}

sard_status *sd_shape_ml_tree_regressor(sd_node *n) {
  sd_dim rows;
  int64_t targets = sd_node_int(n, "n_targets", 1);
  SD_TRY(rows_of(n, &rows));
  if (targets < 1) return SD_SH_ERR(n, MODEL, "n_targets is %lld", (long long)targets);
  return sd_sh_set(n, 0, SD_F32, 2, (sd_dim[]){rows, sd_dim_const(sd_sh_tab(n), targets)});
}

sard_status *sd_rewrite_ml_tree_regressor(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_forest f;
  int aggregate = 0;
  bool average = false;
  uint32_t bases;
  sd_value *base;
  SD_TRY(aggregate_of(n, &aggregate, &average));
  SD_TRY(sd_ml_forest_read(n, "target", sd_node_int(n, "n_targets", 1), &f));
  sd_value *y = sd_ml_forest_scores(&g, &f, aggregate);
  if (g.st) return sd_xg_take(&g);
  if (average) y = averaged(&g, y, f.n_trees);
  SD_TRY(base_values(&g, y->dtype, &bases, &base));
  if (bases > 1 && bases != f.targets)
    return SD_SH_ERR(n, MODEL, "%u base_values for %lld targets", bases, (long long)f.targets);
  if (base) y = XG(&g, "Add", y, base);
  y = sd_ml_transform(&g, sd_xg_cast(&g, SD_F32, y), sd_node_str(n, "post_transform", "NONE"));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_shape_ml_tree_ensemble(sd_node *n) {
  sd_dim rows;
  int64_t targets = sd_node_int(n, "n_targets", 1);
  SD_TRY(rows_of(n, &rows));
  if (targets < 1) return SD_SH_ERR(n, MODEL, "n_targets is %lld", (long long)targets);
  return sd_sh_set(n, 0, n->in[0]->dtype, 2, (sd_dim[]){rows, sd_dim_const(sd_sh_tab(n), targets)});
}

sard_status *sd_rewrite_ml_tree_ensemble(sd_node *n) {
  static const char *const posts[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  static const int aggregates[] = {0, 0, 1, 2}; // AVERAGE, SUM, MIN, MAX
  XG_SCOPE xg g = {.at = n};
  ml_forest f;
  int64_t aggregate = sd_node_int(n, "aggregate_function", 1), post = sd_node_int(n, "post_transform", 0);
  if (aggregate < 0 || aggregate > 3 || post < 0 || post > 4)
    return SD_SH_ERR(n, MODEL, "aggregate_function is %lld, post_transform %lld", (long long)aggregate,
                     (long long)post);
  SD_TRY(sd_ml_forest_read5(n, &f));
  sd_value *y = sd_ml_forest_scores(&g, &f, aggregates[aggregate]);
  if (aggregate == 0) y = averaged(&g, y, f.n_trees);
  y = sd_xg_cast(&g, n->in[0]->dtype, sd_ml_transform(&g, y, posts[post]));
  return sd_xg_finish(&g, &y, 1);
}

static sard_status *tree_labels(const sd_node *n, ml_labels *l) {
  SD_TRY(sd_ml_labels(n, "classlabels_int64s", "classlabels_strings", l));
  return l->count ? NULL : SD_SH_ERR(n, MODEL, "there are no class labels");
}

sard_status *sd_shape_ml_tree_classifier(sd_node *n) {
  sd_dim rows;
  ml_labels l;
  SD_TRY(rows_of(n, &rows));
  SD_TRY(tree_labels(n, &l));
  SD_TRY(sd_sh_set(n, 0, l.strings ? SD_STRING : SD_I64, 1, &rows));
  return sd_sh_set(n, 1, SD_F32, 2, (sd_dim[]){rows, sd_dim_const(sd_sh_tab(n), l.count == 1 ? 2 : l.count)});
}

// One score for two classes: it stands for the second one.
static sard_status *binary(xg *g, const ml_labels *l, sd_value *s, bool positive) {
  const char *post = sd_node_str(g->at, "post_transform", "NONE");
  int64_t one = 1;
  sd_value *over =
      XG(g, "Greater", XG(g, "Squeeze", s, sd_xg_ints(g, &one, 1)), sd_xg_f32(g, positive ? 0.5 : 0));
  sd_value *outs[2] = {sd_ml_label(g, l, sd_xg_cast(g, SD_I64, over)),
                       sd_ml_pair(g, s,
                                  positive                    ? 0
                                  : !strcmp(post, "LOGISTIC") ? 1
                                                              : 2)};
  return sd_xg_finish(g, outs, 2);
}

sard_status *sd_rewrite_ml_tree_classifier(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_forest f;
  ml_labels labels;
  uint32_t bases;
  sd_value *base;
  SD_TRY(tree_labels(n, &labels));
  SD_TRY(sd_ml_forest_read(n, "class", labels.count < 2 ? 2 : labels.count, &f));
  bool positive = true, single = f.targets == 2;
  for (uint32_t i = 0; i < f.n_entries; i++) {
    positive &= f.entries[i].weight >= 0;
    single &= f.entries[i].target == f.entries[0].target;
  }
  if (single) {
    f.targets = 1;
    for (uint32_t i = 0; i < f.n_entries; i++) f.entries[i].target = 0;
  }
  sd_value *s = sd_xg_cast(&g, SD_F32, sd_ml_forest_scores(&g, &f, 0));
  SD_TRY(base_values(&g, SD_F32, &bases, &base));
  if (bases > 1 && bases != labels.count)
    return SD_SH_ERR(n, MODEL, "%u base_values for %u classes", bases, labels.count);
  if (single && bases == 2) base = sd_xg_slice(&g, base, 0, 1, 2);
  if (base) s = XG(&g, "Add", s, base);
  if (single) return binary(&g, &labels, s, positive);
  sd_value *label = sd_ml_label(&g, &labels, XG(&g, "ArgMax axis=1 keepdims=0", s));
  sd_value *outs[2] = {label, sd_ml_transform(&g, s, sd_node_str(n, "post_transform", "NONE"))};
  return sd_xg_finish(&g, outs, 2);
}
