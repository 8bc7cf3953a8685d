// Losses and steps of training.
#include "ir/ops.h"
#include "ir/ops/xgraph.h"

// The reduction over all elements; `weights` (NULL: each counts 1) divide a mean.
static sd_value *reduced(xg *g, sd_value *loss, sd_value *weights) {
  const char *how = sd_node_str(g->at, "reduction", "mean");
  if (!strcmp(how, "none")) return loss;
  if (!strcmp(how, "sum")) return XG(g, "ReduceSum keepdims=0", loss);
  if (strcmp(how, "mean")) return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "unknown reduction '%s'", how)), NULL;
  if (!weights) return XG(g, "ReduceMean keepdims=0", loss);
  return XG(g, "Div", XG(g, "ReduceSum keepdims=0", loss), XG(g, "ReduceSum keepdims=0", weights));
}

// From log-probabilities [N,C,...] and classes [N,...].
static sd_value *negative_log_likelihood(xg *g, sd_value *x, sd_value *target, sd_value *weight) {
  const sd_attr *ignore = sd_node_attr(g->at, "ignore_index");
  bool ignores = ignore && ignore->kind == SD_ATTR_INT;
  int64_t one = 1;
  if (g->st) return NULL;
  if (x->rank < 2 || target->rank != x->rank - 1)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "scores of rank %d with classes of rank %d", x->rank,
                                   target->rank)),
           NULL;
  sd_value *ignored = NULL, *zero = sd_xg_num(g, x->dtype, 0), *w = NULL;
  target = sd_xg_cast(g, SD_I64, target);
  if (ignores) {
    ignored = XG(g, "Equal", target, sd_xg_ints(g, &ignore->i, -1));
    target = XG(g, "Where", ignored, sd_xg_num(g, SD_I64, 0), target);
  }
  sd_value *axis = sd_xg_ints(g, &one, 1);
  sd_value *loss = XG(
      g, "Neg", XG(g, "Squeeze", XG(g, "GatherElements axis=1", x, XG(g, "Unsqueeze", target, axis)), axis));
  if (weight) w = XG(g, "Gather axis=0", weight, target);
  else if (ignores)
    w = sd_xg_num(g, x->dtype, 1);
  if (ignores) w = XG(g, "Where", ignored, zero, w), loss = XG(g, "Where", ignored, zero, loss);
  // A sum of rounded products may cancel until little of it is right: one rounding, at the end.
  sd_dtype sum = x->dtype == SD_F16 || x->dtype == SD_BF16 ? SD_F32 : x->dtype;
  loss = sd_xg_cast(g, sum, loss);
  if (w) w = sd_xg_cast(g, sum, w);
  if (weight) loss = XG(g, "Mul", loss, w);
  return sd_xg_cast(g, x->dtype, reduced(g, loss, w));
}

sard_status *sd_rewrite_nll_loss(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = negative_log_likelihood(&g, n->in[0], n->in[1], sd_xg_in(&g, 2));
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_softmax_loss(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 2, SD_MAX_RANK));
  sd_value *log_p = XG(&g, "LogSoftmax axis=1", n->in[0]);
  sd_value *outs[2] = {negative_log_likelihood(&g, log_p, n->in[1], sd_xg_in(&g, 2)), log_p};
  return sd_xg_finish(&g, outs, 2);
}

// ---- optimizers: operands R, T, then X..., G..., states...; outputs X..., states... ----
static sd_value *mul(xg *g, sd_value *x, double v) {
  return x ? XG(g, "Mul", x, sd_xg_num(g, x->dtype, v)) : NULL;
}

static sard_status *groups_of(const sd_node *n, uint32_t per, uint32_t *count) {
  *count = (n->n_in - 2) / per;
  if (n->n_in < 2 + per || (n->n_in - 2) % per || n->n_out != *count * (per - 1))
    return SD_SH_ERR(n, MODEL, "%u operands and %u outputs do not fit %u for each tensor", n->n_in, n->n_out,
                     per);
  for (uint32_t i = 0; i < n->n_in; i++)
    if (!n->in[i]) return SD_SH_ERR(n, MODEL, "operand %u is missing", i);
  return NULL;
}

// Gradient with the L2 penalty, in the type of x.
static sd_value *penalized(xg *g, sd_value *x, sd_value *gradient) {
  return XG(g, "Add", mul(g, x, sd_node_float(g->at, "norm_coefficient", 0)), gradient);
}

// 1 - beta^T, or 1 for T = 0.
static sd_value *unbiased(xg *g, double beta, sd_dtype t) {
  sd_value *steps = sd_xg_cast(g, t, g->at->in[1]), *one = sd_xg_num(g, t, 1);
  sd_value *left = XG(g, "Sub", one, XG(g, "Pow", sd_xg_num(g, t, beta), steps));
  return XG(g, "Where", XG(g, "Greater", steps, sd_xg_num(g, t, 0)), left, one);
}

sard_status *sd_rewrite_adam(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  uint32_t k;
  SD_TRY(groups_of(n, 4, &k));
  double alpha = sd_node_float(n, "alpha", 0.9f), beta = sd_node_float(n, "beta", 0.999f);
  sd_value **outs = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n->n_out);
  for (uint32_t i = 0; i < k; i++) {
    sd_value *x = n->in[2 + i], *d = penalized(&g, x, n->in[2 + k + i]);
    sd_value *v = XG(&g, "Add", mul(&g, n->in[2 + 2 * k + i], alpha), mul(&g, d, 1 - alpha));
    sd_value *h = XG(&g, "Add", mul(&g, n->in[2 + 3 * k + i], beta), mul(&g, XG(&g, "Mul", d, d), 1 - beta));
    sd_value *root =
        XG(&g, "Add", XG(&g, "Sqrt", h), sd_xg_num(&g, x->dtype, sd_node_float(n, "epsilon", 1e-6f)));
    sd_value *rate =
        XG(&g, "Div",
           XG(&g, "Mul", sd_xg_cast(&g, x->dtype, n->in[0]), XG(&g, "Sqrt", unbiased(&g, beta, x->dtype))),
           unbiased(&g, alpha, x->dtype));
    sd_value *y = XG(&g, "Sub", x, XG(&g, "Mul", rate, XG(&g, "Div", v, root)));
    outs[i] = mul(&g, y, 1 - sd_node_float(n, "norm_coefficient_post", 0)), outs[k + i] = v,
    outs[2 * k + i] = h;
  }
  return sd_xg_finish(&g, outs, n->n_out);
}

sard_status *sd_rewrite_adagrad(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  uint32_t k;
  SD_TRY(groups_of(n, 3, &k));
  sd_value **outs = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n->n_out);
  for (uint32_t i = 0; i < k; i++) {
    sd_value *x = n->in[2 + i], *d = penalized(&g, x, n->in[2 + k + i]);
    sd_value *steps = sd_xg_cast(&g, x->dtype, n->in[1]), *one = sd_xg_num(&g, x->dtype, 1);
    sd_value *rate = XG(&g, "Div", sd_xg_cast(&g, x->dtype, n->in[0]),
                        XG(&g, "Add", one, mul(&g, steps, sd_node_float(n, "decay_factor", 0))));
    sd_value *h = XG(&g, "Add", n->in[2 + 2 * k + i], XG(&g, "Mul", d, d));
    sd_value *root =
        XG(&g, "Add", XG(&g, "Sqrt", h), sd_xg_num(&g, x->dtype, sd_node_float(n, "epsilon", 0)));
    outs[i] = XG(&g, "Sub", x, XG(&g, "Div", XG(&g, "Mul", rate, d), root)), outs[k + i] = h;
  }
  return sd_xg_finish(&g, outs, n->n_out);
}

sard_status *sd_rewrite_momentum(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  uint32_t k;
  SD_TRY(groups_of(n, 3, &k));
  double alpha = sd_node_float(n, "alpha", 0), beta = sd_node_float(n, "beta", 0);
  bool nesterov = !strcmp(sd_node_str(n, "mode", "standard"), "nesterov");
  sd_value **outs = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, n->n_out);
  for (uint32_t i = 0; i < k; i++) {
    sd_value *x = n->in[2 + i], *d = penalized(&g, x, n->in[2 + k + i]), *one = sd_xg_num(&g, x->dtype, 1);
    sd_value *first = XG(&g, "Greater", sd_xg_cast(&g, SD_I64, n->in[1]), sd_xg_num(&g, SD_I64, 0));
    sd_value *share = XG(&g, "Where", first, sd_xg_num(&g, x->dtype, beta), one);
    sd_value *v = XG(&g, "Add", mul(&g, n->in[2 + 2 * k + i], alpha), XG(&g, "Mul", share, d));
    sd_value *step = nesterov ? XG(&g, "Add", d, mul(&g, v, alpha)) : v;
    outs[i] = XG(&g, "Sub", x, XG(&g, "Mul", sd_xg_cast(&g, x->dtype, n->in[0]), step)), outs[k + i] = v;
  }
  return sd_xg_finish(&g, outs, n->n_out);
}
