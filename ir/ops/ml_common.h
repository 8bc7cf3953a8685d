// Shared by the ai.onnx.ml rows: attribute arrays with checks, class labels, score transforms.
#pragma once
#include "ir/ops/xgraph.h"

typedef struct ml_floats {
  const float *v;
  uint32_t n;
} ml_floats;
typedef struct ml_ints {
  const int64_t *v;
  uint32_t n;
} ml_ints;
static inline ml_floats ml_floats_of(const sd_node *n, const char *name) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_FLOATS ? (ml_floats){a->floats, a->n} : (ml_floats){0};
}
static inline ml_ints ml_ints_of(const sd_node *n, const char *name) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_INTS ? (ml_ints){a->ints, a->n} : (ml_ints){0};
}
static inline uint32_t ml_strings_of(const sd_node *n, const char *name) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_STRINGS ? a->n : 0;
}

// Rows [N,F] of numbers in f32 (f64 stays where `wide`): a vector is one row.
sd_value *sd_ml_rows(xg *g, bool wide);
// A vector constant.
sd_value *sd_ml_vector(xg *g, ml_floats v);
// post_transform over the last axis of scores [N,K].
sd_value *sd_ml_transform(xg *g, sd_value *scores, const char *post);

// Labels of a classifier: numbers, or strings.
typedef struct ml_labels {
  ml_ints ints;
  uint32_t count;
  bool strings;
  const char *const *texts;
} ml_labels;
sard_status *sd_ml_labels(const sd_node *n, const char *ints, const char *strings, ml_labels *out);
// Label number `index` (I64 [N]) as output 0 of the classifier.
sd_value *sd_ml_label(xg *g, const ml_labels *l, sd_value *index);
// Scores [N,2] from one score of two classes: how 0: [1 - s, s], 1: logistic of -s and s, 2: [-s, s].
sd_value *sd_ml_pair(xg *g, sd_value *score, int how);
