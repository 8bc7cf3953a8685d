// A forest, read and checked from the attributes of a tree operator.
#pragma once
#include "ir/ops/ml_common.h"

enum { ML_LEQ, ML_LT, ML_GTE, ML_GT, ML_EQ, ML_NEQ, ML_MEMBER, ML_LEAF };

typedef struct ml_tnode {
  int mode, feature;
  bool missing;
  double value;
  int64_t no, yes;       // children: numbers of nodes
  uint32_t first, count; // of a leaf: its entries in ml_forest.entries
  uint32_t tree;         // 1 + its number; 0: of none
  int height;            // above the deepest leaf
  bool open;             // private: being walked
} ml_tnode;

typedef struct ml_entry {
  int64_t target;
  double weight;
} ml_entry;

typedef struct ml_forest {
  ml_tnode *nodes;
  uint32_t n_nodes;
  int64_t *roots;
  uint32_t n_trees;
  ml_entry *entries;
  uint32_t n_entries;
  int64_t targets, features; // features: largest number used + 1
  int depth;
} ml_forest;

// Of TreeEnsembleRegressor (what = "target") and TreeEnsembleClassifier ("class"), and of TreeEnsemble.
sard_status *sd_ml_forest_read(const sd_node *n, const char *what, int64_t targets, ml_forest *f);
sard_status *sd_ml_forest_read5(const sd_node *n, ml_forest *f);
// Sums (or other aggregate: 0 sum, 1 min, 2 max) of the forest for each row: [N,targets].
sd_value *sd_ml_forest_scores(xg *g, const ml_forest *f, int aggregate);
