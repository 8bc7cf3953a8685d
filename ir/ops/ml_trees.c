// Reading the forests of ai.onnx.ml from attribute arrays: every number in them is checked.
#include "ir/ops/ml_trees.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 400 // of a tree

static const char *const mode_names[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE",    "BRANCH_GT",
                                         "BRANCH_EQ",  "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF"};

// Numbers of attribute `name`, or of `name`_as_tensor, as doubles.
static sard_status *doubles(const sd_node *n, const char *name, double **out, uint32_t *count) {
  sd_arena *a = n->graph->module->arena;
  char tensor[64];
  snprintf(tensor, sizeof tensor, "%s_as_tensor", name);
  const sd_attr *t = sd_node_attr(n, tensor);
  if (!t) t = sd_node_attr(n, name);
  *out = NULL, *count = 0;
  if (t && t->kind == SD_ATTR_TENSOR) {
    if (!sd_dtype_is_float(t->tensor->dtype) || t->tensor->count > INT32_MAX)
      return SD_SH_ERR(n, MODEL, "attribute '%s' is no list of floats", name);
    *count = (uint32_t)t->tensor->count;
    *out = SD_NEW_ARRAY(a, double, *count + 1);
    for (uint32_t i = 0; i < *count; i++) (*out)[i] = sd_dtype_get_f64(t->tensor->dtype, t->tensor->data, i);
    return NULL;
  }
  ml_floats f = ml_floats_of(n, name);
  *count = f.n;
  *out = SD_NEW_ARRAY(a, double, *count + 1);
  for (uint32_t i = 0; i < f.n; i++) (*out)[i] = f.v[i];
  return NULL;
}

static sard_status *ints_of(const sd_node *n, const char *name, uint32_t count, ml_ints *out) {
  *out = ml_ints_of(n, name);
  if (out->n != count)
    return SD_SH_ERR(n, MODEL, "attribute '%s' has %u entries instead of %u", name, out->n, count);
  return NULL;
}

// ---- checks of the whole ----
// Marks the nodes below `at` as those of a tree and finds their heights: loops and nodes of two trees are
// refused.
static sard_status *walk(const sd_node *n, ml_forest *f, int64_t at, uint32_t tree, int level) {
  ml_tnode *t = &f->nodes[at];
  if (level > MAX_DEPTH) return SD_SH_ERR(n, UNSUPPORTED, "a tree deeper than %d", MAX_DEPTH);
  if (t->open) return SD_SH_ERR(n, MODEL, "node %lld of the trees is below itself", (long long)at);
  if (t->tree && t->tree != tree + 1) return SD_SH_ERR(n, MODEL, "node %lld is in two trees", (long long)at);
  if (t->tree) return NULL;
  t->tree = tree + 1;
  if (t->mode == ML_LEAF) return NULL;
  t->open = true;
  SD_TRY(walk(n, f, t->no, tree, level + 1));
  SD_TRY(walk(n, f, t->yes, tree, level + 1));
  t->open = false;
  int no = f->nodes[t->no].height, yes = f->nodes[t->yes].height;
  t->height = 1 + (no > yes ? no : yes);
  if (t->height > MAX_DEPTH) return SD_SH_ERR(n, UNSUPPORTED, "a tree deeper than %d", MAX_DEPTH);
  if (t->height > f->depth) f->depth = t->height;
  return NULL;
}

static sard_status *check(const sd_node *n, ml_forest *f) {
  int64_t features = -1;
  const sd_value *x = n->in[0];
  if (x->rank < 1 || x->rank > 2) return SD_SH_ERR(n, MODEL, "X has rank %d", x->rank);
  bool known = sd_dim_is_const(sd_sh_tab(n), x->dims[x->rank - 1], &features);
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    const ml_tnode *t = &f->nodes[i];
    if (t->mode == ML_LEAF) continue;
    if (t->no < 0 || t->no >= f->n_nodes || t->yes < 0 || t->yes >= f->n_nodes)
      return SD_SH_ERR(n, MODEL, "node %u of the trees has no such child", i);
    if (t->feature < 0 || (known && t->feature >= features))
      return SD_SH_ERR(n, MODEL, "node %u of the trees reads feature %d of %lld", i, t->feature,
                       (long long)features);
    if (t->feature >= f->features) f->features = t->feature + 1;
  }
  for (uint32_t i = 0; i < f->n_entries; i++)
    if (f->entries[i].target < 0 || f->entries[i].target >= f->targets)
      return SD_SH_ERR(n, MODEL, "a leaf gives to target %lld of %lld", (long long)f->entries[i].target,
                       (long long)f->targets);
  for (uint32_t i = 0; i < f->n_trees; i++) SD_TRY(walk(n, f, f->roots[i], i, 0));
  return NULL;
}

// ---- versions 1 and 3: nodes are named by (tree, node) ----
typedef struct key {
  int64_t tree, node;
  uint32_t at;
} key;
static int key_order(const void *x, const void *y) {
  const key *a = x, *b = y;
  if (a->tree != b->tree) return a->tree < b->tree ? -1 : 1;
  if (a->node != b->node) return a->node < b->node ? -1 : 1;
  return 0;
}
static int64_t key_find(const key *keys, uint32_t n, int64_t tree, int64_t node) {
  key want = {tree, node, 0};
  const key *k = n ? bsearch(&want, keys, n, sizeof *keys, key_order) : NULL;
  return k ? (int64_t)k->at : -1;
}

static sard_status *read_nodes(const sd_node *n, ml_forest *f, const key *keys, ml_ints trees) {
  ml_ints no, yes, feature, missing = ml_ints_of(n, "nodes_missing_value_tracks_true");
  double *values;
  uint32_t count;
  const sd_attr *modes = sd_node_attr(n, "nodes_modes");
  SD_TRY(ints_of(n, "nodes_falsenodeids", f->n_nodes, &no));
  SD_TRY(ints_of(n, "nodes_truenodeids", f->n_nodes, &yes));
  SD_TRY(ints_of(n, "nodes_featureids", f->n_nodes, &feature));
  SD_TRY(doubles(n, "nodes_values", &values, &count));
  if (count != f->n_nodes || !modes || modes->kind != SD_ATTR_STRINGS || modes->n != f->n_nodes ||
      (missing.n && missing.n != f->n_nodes))
    return SD_SH_ERR(n, MODEL, "the lists of nodes differ in length");
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    ml_tnode *t = &f->nodes[i];
    for (t->mode = 0; t->mode <= ML_LEAF && strcmp(mode_names[t->mode], modes->strings[i]);) t->mode++;
    if (t->mode > ML_LEAF || t->mode == ML_MEMBER)
      return SD_SH_ERR(n, MODEL, "unknown mode '%s' of a node", modes->strings[i]);
    if (t->mode == ML_LEAF) continue;
    t->no = key_find(keys, f->n_nodes, trees.v[i], no.v[i]);
    t->yes = key_find(keys, f->n_nodes, trees.v[i], yes.v[i]);
    if (feature.v[i] < 0 || feature.v[i] > INT32_MAX - 1)
      return SD_SH_ERR(n, MODEL, "feature %lld", (long long)feature.v[i]);
    t->feature = (int)feature.v[i];
    t->value = values[i];
    t->missing = missing.n && missing.v[i];
  }
  return NULL;
}

static sard_status *read_entries(const sd_node *n, const char *what, ml_forest *f, const key *keys) {
  sd_arena *a = n->graph->module->arena;
  char name[4][32];
  static const char *const parts[] = {"weights", "ids", "nodeids", "treeids"};
  for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s_%s", what, parts[i]);
  double *w;
  ml_ints ids, nodes, trees;
  SD_TRY(doubles(n, name[0], &w, &f->n_entries));
  SD_TRY(ints_of(n, name[1], f->n_entries, &ids));
  SD_TRY(ints_of(n, name[2], f->n_entries, &nodes));
  SD_TRY(ints_of(n, name[3], f->n_entries, &trees));
  f->entries = SD_NEW_ARRAY(a, ml_entry, f->n_entries + 1);
  int64_t *owner = SD_NEW_ARRAY(a, int64_t, f->n_entries + 1);
  for (uint32_t i = 0; i < f->n_entries; i++) {
    owner[i] = key_find(keys, f->n_nodes, trees.v[i], nodes.v[i]);
    if (owner[i] < 0)
      return SD_SH_ERR(n, MODEL, "a weight of node %lld of tree %lld, which is not there",
                       (long long)nodes.v[i], (long long)trees.v[i]);
    f->nodes[owner[i]].count++;
  }
  uint32_t at = 0;
  for (uint32_t i = 0; i < f->n_nodes; i++)
    f->nodes[i].first = at, at += f->nodes[i].count, f->nodes[i].count = 0;
  for (uint32_t i = 0; i < f->n_entries; i++) {
    ml_tnode *t = &f->nodes[owner[i]];
    f->entries[t->first + t->count++] = (ml_entry){ids.v[i], w[i]};
  }
  return NULL;
}

sard_status *sd_ml_forest_read(const sd_node *n, const char *what, int64_t targets, ml_forest *f) {
  sd_arena *a = n->graph->module->arena;
  ml_ints trees = ml_ints_of(n, "nodes_treeids"), ids;
  *f = (ml_forest){.n_nodes = trees.n, .targets = targets};
  if (!trees.n) return SD_SH_ERR(n, MODEL, "there are no nodes");
  if (targets < 1 || targets > 1 << 24) return SD_SH_ERR(n, MODEL, "%lld targets", (long long)targets);
  SD_TRY(ints_of(n, "nodes_nodeids", trees.n, &ids));
  f->nodes = SD_NEW_ARRAY(a, ml_tnode, f->n_nodes);
  f->roots = SD_NEW_ARRAY(a, int64_t, f->n_nodes);
  key *keys = SD_NEW_ARRAY(a, key, f->n_nodes);
  for (uint32_t i = 0; i < f->n_nodes; i++) keys[i] = (key){trees.v[i], ids.v[i], i};
  qsort(keys, f->n_nodes, sizeof *keys, key_order);
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    if (i && !key_order(&keys[i - 1], &keys[i]))
      return SD_SH_ERR(n, MODEL, "node %lld of tree %lld is there twice", (long long)keys[i].node,
                       (long long)keys[i].tree);
    if (!i || keys[i - 1].tree != keys[i].tree) f->roots[f->n_trees++] = keys[i].at; // the smallest for now
    else if (keys[i].at < f->roots[f->n_trees - 1])
      f->roots[f->n_trees - 1] = keys[i].at; // the first that is listed
  }
  SD_TRY(read_nodes(n, f, keys, trees));
  SD_TRY(read_entries(n, what, f, keys));
  return check(n, f);
}

// ---- version 5: inner nodes and leaves are numbered apart ----
typedef struct sets {
  const double *v;
  uint32_t n, at;
} sets;

// The values of the next set: they end with a NaN.
static uint32_t next_set(sets *s, const double **out) {
  uint32_t from = s->at;
  *out = s->v + from;
  while (s->at < s->n && !isnan(s->v[s->at])) s->at++;
  return s->at++ - from;
}

static sard_status *read_leaves(const sd_node *n, ml_forest *f, uint32_t inner) {
  ml_ints target = ml_ints_of(n, "leaf_targetids");
  double *w;
  uint32_t count;
  SD_TRY(doubles(n, "leaf_weights", &w, &count));
  if (count != target.n) return SD_SH_ERR(n, MODEL, "%u leaf_weights for %u leaf_targetids", count, target.n);
  f->entries = SD_NEW_ARRAY(n->graph->module->arena, ml_entry, count + 1);
  f->n_entries = count;
  for (uint32_t i = 0; i < count; i++) {
    f->entries[i] = (ml_entry){target.v[i], w[i]};
    f->nodes[inner + i] = (ml_tnode){.mode = ML_LEAF, .first = i, .count = 1};
  }
  return NULL;
}

static int64_t child5(ml_ints to, ml_ints leaf, uint32_t i, uint32_t inner, uint32_t leaves) {
  uint64_t limit = leaf.v[i] ? leaves : inner;
  if (to.v[i] < 0 || (uint64_t)to.v[i] >= limit) return -1;
  return leaf.v[i] ? (int64_t)inner + to.v[i] : to.v[i];
}

// A membership test becomes a chain of equalities; f->nodes has room for one node for each value of the sets.
static void chain(ml_forest *f, uint32_t at, const double *v, uint32_t count) {
  ml_tnode *t = &f->nodes[at];
  t->mode = ML_EQ;
  t->value = count ? v[0] : NAN;
  for (uint32_t i = 1; i < count; i++) {
    f->nodes[f->n_nodes] = *t;
    f->nodes[f->n_nodes].value = v[i];
    t->no = f->n_nodes;
    t = &f->nodes[f->n_nodes++];
  }
}

sard_status *sd_ml_forest_read5(const sd_node *n, ml_forest *f) {
  static const int modes5[] = {ML_LEQ, ML_LT, ML_GTE, ML_GT, ML_EQ, ML_NEQ, ML_MEMBER};
  ml_ints feature = ml_ints_of(n, "nodes_featureids"), no, yes, no_leaf, yes_leaf,
          roots = ml_ints_of(n, "tree_roots");
  ml_ints missing = ml_ints_of(n, "nodes_missing_value_tracks_true");
  uint32_t inner = feature.n, leaves = ml_ints_of(n, "leaf_targetids").n, count;
  double *splits, *members;
  const sd_attr *m = sd_node_attr(n, "nodes_modes");
  *f = (ml_forest){.targets = sd_node_int(n, "n_targets", 1), .n_nodes = inner + leaves, .n_trees = roots.n};
  if (f->targets < 1 || f->targets > 1 << 24)
    return SD_SH_ERR(n, MODEL, "%lld targets", (long long)f->targets);
  SD_TRY(ints_of(n, "nodes_falsenodeids", inner, &no));
  SD_TRY(ints_of(n, "nodes_truenodeids", inner, &yes));
  SD_TRY(ints_of(n, "nodes_falseleafs", inner, &no_leaf));
  SD_TRY(ints_of(n, "nodes_trueleafs", inner, &yes_leaf));
  SD_TRY(doubles(n, "nodes_splits", &splits, &count));
  if (count != inner || !m || m->kind != SD_ATTR_TENSOR || m->tensor->dtype != SD_U8 ||
      m->tensor->count != inner || (missing.n && missing.n != inner))
    return SD_SH_ERR(n, MODEL, "the lists of nodes differ in length");
  sets s = {0};
  SD_TRY(doubles(n, "membership_values", &members, &s.n));
  s.v = members;
  f->nodes = SD_NEW_ARRAY(n->graph->module->arena, ml_tnode, (size_t)inner + leaves + s.n + 1);
  f->roots = sd_arena_dup(n->graph->module->arena, roots.v, roots.n * sizeof *roots.v);
  SD_TRY(read_leaves(n, f, inner));
  for (uint32_t i = 0; i < inner; i++) {
    uint8_t mode = ((const uint8_t *)m->tensor->data)[i];
    if (mode > 6 || feature.v[i] < 0 || feature.v[i] > INT32_MAX - 1)
      return SD_SH_ERR(n, MODEL, "node %u has mode %u and feature %lld", i, mode, (long long)feature.v[i]);
    f->nodes[i] = (ml_tnode){.mode = modes5[mode],
                             .feature = (int)feature.v[i],
                             .missing = missing.n && missing.v[i],
                             .value = splits[i],
                             .no = child5(no, no_leaf, i, inner, leaves),
                             .yes = child5(yes, yes_leaf, i, inner, leaves)};
    if (mode != 6) continue;
    const double *v = NULL;
    if (s.at >= s.n) return SD_SH_ERR(n, MODEL, "membership_values has too few sets");
    count = next_set(&s, &v);
    chain(f, i, v, count);
  }
  for (uint32_t i = 0; i < f->n_trees; i++)
    if (f->roots[i] < 0 || f->roots[i] >= inner)
      return SD_SH_ERR(n, MODEL, "tree_roots has %lld of %u nodes", (long long)f->roots[i], inner);
  return check(n, f);
}
