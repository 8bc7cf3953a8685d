// Linear models of ai.onnx.ml.
#include "ir/ops.h"
#include "ir/ops/ml_common.h"

// x [N,F] times coefficients [K,F], plus intercepts [K]. K: number of rows of the coefficients.
static sd_value *scores_of(xg *g, sd_value *x, ml_floats w, ml_floats bias, int64_t targets) {
  if (g->st) return NULL;
  if (targets < 1 || !w.n || w.n % (uint64_t)targets)
    return sd_xg_fail(g,
                      SD_SH_ERR(g->at, MODEL, "%u coefficients for %lld targets", w.n, (long long)targets)),
           NULL;
  if (bias.n && bias.n != targets)
    return sd_xg_fail(g,
                      SD_SH_ERR(g->at, MODEL, "%u intercepts for %lld targets", bias.n, (long long)targets)),
           NULL;
  int64_t dims[2] = {targets, (int64_t)w.n / targets};
  return XG(g, "Gemm transB=1", x, sd_xg_floats(g, w.v, 2, dims), bias.n ? sd_ml_vector(g, bias) : NULL);
}

sard_status *sd_rewrite_ml_linear_regressor(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = scores_of(&g, sd_ml_rows(&g, false), ml_floats_of(n, "coefficients"),
                          ml_floats_of(n, "intercepts"), sd_node_int(n, "targets", 1));
  y = sd_ml_transform(&g, y, sd_node_str(n, "post_transform", "NONE"));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_ml_linear_classifier(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_labels labels;
  ml_floats w = ml_floats_of(n, "coefficients"), bias = ml_floats_of(n, "intercepts");
  const char *post = sd_node_str(n, "post_transform", "NONE");
  SD_TRY(sd_ml_labels(n, "classlabels_ints", "classlabels_strings", &labels));
  int64_t features = 0, zero = 0;
  sd_value *x = sd_ml_rows(&g, false);
  if (g.st) return sd_xg_take(&g);
  if (!sd_dim_is_const(sd_sh_tab(n), x->dims[1], &features))
    features = bias.n ? w.n / bias.n : labels.count ? w.n / labels.count : w.n;
  // The intercepts tell the number of targets: coefficients behind theirs are not read, as in ONNX Runtime.
  if (bias.n && features >= 1 && features < w.n / bias.n) w.n = bias.n * (uint32_t)features;
  if (features < 1 || w.n % (uint64_t)features)
    return SD_SH_ERR(n, MODEL, "%u coefficients for %lld features", w.n, (long long)features);
  int64_t targets = w.n / features;
  sd_value *s = scores_of(&g, x, w, bias, targets), *index;
  if (targets == 1) {
    int64_t one = 1;
    index = sd_xg_cast(&g, SD_I64,
                       XG(&g, "Greater", XG(&g, "Squeeze", s, sd_xg_ints(&g, &one, 1)), sd_xg_f32(&g, 0)));
  } else {
    index = XG(&g, "ArgMax axis=1 keepdims=0", s);
  }
  if (targets > 1 && labels.count && labels.count != targets)
    return SD_SH_ERR(n, MODEL, "%u labels for %lld targets", labels.count, (long long)targets);
  if (targets == 1 && labels.count == 1) index = XG(&g, "Mul", index, sd_xg_ints(&g, &zero, -1));
  if (targets == 1 && labels.count == 2) s = sd_ml_pair(&g, s, !strcmp(post, "LOGISTIC"));
  else
    s = sd_ml_transform(&g, s, post);
  sd_value *outs[2] = {sd_ml_label(&g, &labels, index), s};
  return sd_xg_finish(&g, outs, 2);
}
