// Derivatives of normalizations: elements minus their mean, divided by the root of their mean square, times a
// scale.
#include <string.h>

#include "ir/ops/grad.h"
#include "ir/ops/grad_rules.h"

static sd_dimtab *table(const sd_grad *r) { return r->g->at->graph->module->dims; }

typedef struct norm {
  int64_t axes[SD_MAX_RANK];
  int n;         // of the axes
  bool centered; // the mean is taken away
  float epsilon;
} norm;

static sd_value *mean(xg *g, const norm *m, sd_value *v) {
  return XG(g, "ReduceMean keepdims=1", v, sd_xg_ints(g, m->axes, m->n));
}

// The normalized x, and its factor 1 / root.
static sd_value *normalized(xg *g, const norm *m, sd_value *x, sd_value **factor) {
  if (m->centered) x = XG(g, "Sub", x, mean(g, m, x));
  sd_value *square = mean(g, m, XG(g, "Mul", x, x));
  if (!square) return NULL;
  *factor = XG(g, "Reciprocal", XG(g, "Sqrt", XG(g, "Add", square, sd_xg_num(g, x->dtype, m->epsilon))));
  return XG(g, "Mul", x, *factor);
}

// Of x, from the gradient d of the normalized x `y`.
static sd_value *back(xg *g, const norm *m, sd_value *y, sd_value *factor, sd_value *d) {
  sd_value *along = XG(g, "Mul", y, mean(g, m, XG(g, "Mul", d, y)));
  sd_value *rest = XG(g, "Sub", d, along);
  if (m->centered) rest = XG(g, "Sub", rest, mean(g, m, d));
  return XG(g, "Mul", rest, factor);
}

static bool only_output(sd_grad *r) {
  for (uint32_t i = 1; i < r->n->n_out; i++)
    if (r->dy[i])
      sd_xg_fail(r->g,
                 SD_SH_ERR(r->g->at, UNSUPPORTED, "the derivative of output %u of %s", i, r->n->op->name));
  return !r->g->st && r->dy[0];
}

static void last_axes(sd_grad *r, bool centered) {
  const sd_node *n = r->n;
  norm m = {.centered = centered, .epsilon = sd_node_float(n, "epsilon", 1e-5f)};
  int axis;
  if (!only_output(r)) return;
  sd_xg_fail(r->g, sd_sh_axis(n, sd_node_int(n, "axis", -1), n->in[0]->rank, &axis));
  if (r->g->st) return;
  for (int d = axis; d < n->in[0]->rank; d++) m.axes[m.n++] = d;
  sd_value *factor = NULL, *y = normalized(r->g, &m, n->in[0], &factor), *dy = r->dy[0];
  if (r->wants[0]) r->dx[0] = back(r->g, &m, y, factor, XG(r->g, "Mul", dy, n->in[1]));
  if (r->wants[1]) r->dx[1] = XG(r->g, "Mul", dy, y);
  if (n->n_in > 2 && r->wants[2]) r->dx[2] = dy;
}
void sd_grad_layernorm(sd_grad *r) { last_axes(r, true); }
void sd_grad_rmsnorm(sd_grad *r) { last_axes(r, false); }

// ---- a scale and a bias for each channel (axis 1) ----
// A vector [C] as [C,1,...], which broadcasts with x.
static sd_value *by_channel(xg *g, sd_value *v, const sd_value *x) {
  sd_dim dims[SD_MAX_RANK];
  if (!v || g->st) return NULL;
  dims[0] = v->dims[0];
  for (int d = 1; d < x->rank - 1; d++) dims[d] = sd_dim_const(g->at->graph->module->dims, 1);
  return sd_xg_reshape(g, v, dims, x->rank - 1);
}

static sd_value *channel_sums(xg *g, sd_value *v) {
  int64_t axes[SD_MAX_RANK] = {0};
  for (int d = 2; v && d < v->rank; d++) axes[d - 1] = d;
  return v ? XG(g, "ReduceSum keepdims=0", v, sd_xg_ints(g, axes, v->rank - 1)) : NULL;
}

static void scale_and_bias(sd_grad *r, sd_value *y) {
  if (r->wants[1]) r->dx[1] = channel_sums(r->g, XG(r->g, "Mul", r->dy[0], y));
  if (r->wants[2]) r->dx[2] = channel_sums(r->g, r->dy[0]);
}

void sd_grad_instancenorm(sd_grad *r) {
  sd_value *x = r->n->in[0], *factor = NULL;
  norm m = {.centered = true, .epsilon = sd_node_float(r->n, "epsilon", 1e-5f)};
  for (int d = 2; d < x->rank; d++) m.axes[m.n++] = d;
  sd_value *y = normalized(r->g, &m, x, &factor);
  if (r->wants[0])
    r->dx[0] = back(r->g, &m, y, factor, XG(r->g, "Mul", r->dy[0], by_channel(r->g, r->n->in[1], x)));
  scale_and_bias(r, y);
}

// Groups of channels are normalized together: [N,groups,rest].
void sd_grad_groupnorm(sd_grad *r) {
  xg *g = r->g;
  sd_value *x = r->n->in[0], *factor = NULL;
  sd_dimtab *t = table(r);
  norm m = {.axes = {2}, .n = 1, .centered = true, .epsilon = sd_node_float(r->n, "epsilon", 1e-5f)};
  sd_dim groups = sd_dim_const(t, sd_node_int(r->n, "num_groups", 1)),
         all = sd_dim_product(t, x->dims + 1, x->rank - 1);
  sd_dim dims[3] = {x->dims[0], groups, sd_dim_floordiv(t, all, groups)};
  sd_value *y = normalized(g, &m, sd_xg_reshape(g, x, dims, 3), &factor);
  if (r->wants[0]) {
    sd_value *d = sd_xg_reshape(g, XG(g, "Mul", r->dy[0], by_channel(g, r->n->in[1], x)), dims, 3);
    r->dx[0] = sd_xg_reshape(g, back(g, &m, y, factor, d), x->dims, x->rank);
  }
  scale_and_bias(r, sd_xg_reshape(g, y, x->dims, x->rank));
}

// In training by the statistics of the batch, else by those given.
void sd_grad_batchnorm(sd_grad *r) {
  xg *g = r->g;
  const sd_node *n = r->n;
  sd_value *x = n->in[0], *factor = NULL;
  norm m = {.axes = {0}, .n = 1, .centered = true, .epsilon = sd_node_float(n, "epsilon", 1e-5f)};
  if (!only_output(r)) return;
  sd_value *d = XG(g, "Mul", r->dy[0], by_channel(g, n->in[1], x)), *y;
  if (sd_node_int(n, "training_mode", 0)) {
    for (int i = 2; i < x->rank; i++) m.axes[m.n++] = i;
    y = normalized(g, &m, x, &factor);
    if (r->wants[0]) r->dx[0] = back(g, &m, y, factor, d);
    scale_and_bias(r, y);
    return;
  }
  sd_value *root = XG(g, "Sqrt", XG(g, "Add", n->in[4], sd_xg_num(g, n->in[4]->dtype, m.epsilon)));
  factor = by_channel(g, XG(g, "Reciprocal", root), x);
  y = XG(g, "Mul", XG(g, "Sub", x, by_channel(g, n->in[3], x)), factor);
  d = XG(g, "Mul", d, factor);
  if (r->wants[0]) r->dx[0] = d;
  scale_and_bias(r, y);
  if (r->wants[3]) r->dx[3] = XG(g, "Neg", channel_sums(g, d));
  if (r->wants[4]) {
    sd_value *half = sd_xg_num(g, d ? d->dtype : SD_F32, -0.5);
    r->dx[4] = channel_sums(g, XG(g, "Mul", XG(g, "Mul", d, half), XG(g, "Mul", y, factor)));
  }
}
