// Derivatives of convolutions and pools.
//
// Both are linear in windows of the input, framed: padded and cropped to just what the windows cover.
// Backwards the windows are a transposed convolution over the frame, and the weights of a convolution are a
// convolution of the framed input with the gradient, strides and dilations changing places.
#include <string.h>

#include "ir/ops/grad.h"
#include "ir/ops/grad_rules.h"
#include "ir/ops/window.h"

static sd_dimtab *table(const sd_grad *r) { return r->g->at->graph->module->dims; }
static sd_dim number(const sd_grad *r, int64_t v) { return sd_dim_const(table(r), v); }

// Positions [start, start + length) of the spatial axes of v [N,C,...], zero where v has none.
static sd_value *piece(sd_grad *r, sd_value *v, const sd_dim *start, const sd_dim *length) {
  xg *g = r->g;
  sd_dimtab *t = table(r);
  sd_dim pads[2 * SD_MAX_RANK], from[SD_MAX_RANK], to[SD_MAX_RANK], zero = number(r, 0);
  int64_t axes[SD_MAX_RANK];
  if (g->st || !v) return NULL;
  int n = v->rank - 2;
  pads[0] = pads[1] = pads[v->rank] = pads[v->rank + 1] = zero;
  for (int i = 0; i < n; i++) {
    sd_dim before = sd_dim_max(t, sd_dim_sub(t, zero, start[i]), zero),
           end = sd_dim_add(t, start[i], length[i]);
    pads[2 + i] = before;
    pads[v->rank + 2 + i] = sd_dim_max(t, sd_dim_sub(t, end, v->dims[2 + i]), zero);
    from[i] = sd_dim_add(t, start[i], before), to[i] = sd_dim_add(t, from[i], length[i]);
    axes[i] = 2 + i;
  }
  v = XG(g, "Pad", v, sd_xg_dims(g, pads, 2 * v->rank));
  return XG(g, "Slice", v, sd_xg_dims(g, from, n), sd_xg_dims(g, to, n), sd_xg_ints(g, axes, n));
}

// The frame of the windows: its sizes.
static void frame(const sd_grad *r, const sd_window *w, sd_dim *size) {
  sd_dimtab *t = table(r);
  sd_dim one = number(r, 1);
  for (int i = 0; i < w->n; i++) {
    sd_dim steps = sd_dim_mul(t, sd_dim_sub(t, w->out[i], one), number(r, w->stride[i]));
    sd_dim reach = sd_dim_mul(t, sd_dim_sub(t, w->kernel[i], one), number(r, w->dilation[i]));
    size[i] = sd_dim_add(t, sd_dim_add(t, steps, reach), one);
  }
}

static sd_value *framed(sd_grad *r, const sd_window *w, sd_value *x) {
  sd_dim size[SD_MAX_RANK], start[SD_MAX_RANK];
  frame(r, w, size);
  for (int i = 0; i < w->n; i++) start[i] = sd_dim_sub(table(r), number(r, 0), w->pad[i]);
  return piece(r, x, start, size);
}

// What the frame has of the input.
static sd_value *unframed(sd_grad *r, const sd_window *w, sd_value *v) { return piece(r, v, w->pad, w->in); }

static const char *steps(xg *g, const char *op, int n, const int64_t *stride, const int64_t *dilation,
                         int64_t group) {
  const char *text = sd_xg_fmt(g, "%s group=%lld strides=", op, (long long)group);
  for (int i = 0; i < n; i++) text = sd_xg_fmt(g, i ? "%s,%lld" : "%s%lld", text, (long long)stride[i]);
  text = sd_xg_fmt(g, "%s dilations=", text);
  for (int i = 0; i < n; i++) text = sd_xg_fmt(g, i ? "%s,%lld" : "%s%lld", text, (long long)dilation[i]);
  return text;
}

// [a*b or a, b...] with its first two axes split or swapped: v [A,B,...] as [B,A,...].
static sd_value *swapped(xg *g, sd_value *v) {
  const char *spec = "Transpose perm=1,0";
  for (int i = 2; v && i < v->rank; i++) spec = sd_xg_fmt(g, "%s,%d", spec, i);
  return XG(g, spec, v);
}

// x [N,g*C,...] as [C,g*N,...].
static sd_value *groups_outside(sd_grad *r, sd_value *x, int64_t group) {
  xg *g = r->g;
  if (g->st || group == 1) return swapped(g, x);
  sd_dim dims[SD_MAX_RANK + 1] = {x->dims[0], number(r, group),
                                  sd_dim_floordiv(table(r), x->dims[1], number(r, group))};
  sd_dim flat[SD_MAX_RANK] = {dims[2], sd_dim_mul(table(r), dims[1], dims[0])};
  const char *spec = "Transpose perm=2,1,0";
  for (int i = 2; i < x->rank; i++) {
    dims[i + 1] = flat[i] = x->dims[i];
    spec = sd_xg_fmt(g, "%s,%d", spec, i + 1);
  }
  return sd_xg_reshape(g, XG(g, spec, sd_xg_reshape(g, x, dims, x->rank + 1)), flat, x->rank);
}

void sd_grad_conv(sd_grad *r) {
  xg *g = r->g;
  const sd_node *n = r->n;
  sd_value *x = n->in[0], *k = n->in[1], *dy = r->dy[0];
  int64_t group = sd_node_int(n, "group", 1);
  sd_window w;
  sd_xg_fail(g, sd_sh_rank(n, 0, 3, SD_MAX_RANK / 2));
  if (!g->st) sd_xg_fail(g, sd_window_read(n, &k->dims[2], false, &w));
  if (g->st || !dy) return;
  if (w.last)
    return sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "the derivative of a Conv with channels last"));
  if (r->wants[0])
    r->dx[0] = unframed(r, &w, XG(g, steps(g, "ConvTranspose", w.n, w.stride, w.dilation, group), dy, k));
  if (r->wants[1]) {
    sd_value *in = groups_outside(r, framed(r, &w, x), group);
    r->dx[1] = swapped(g, XG(g, steps(g, "Conv", w.n, w.dilation, w.stride, group), in, swapped(g, dy)));
  }
  if (n->n_in < 3 || !r->wants[2]) return;
  int64_t axes[SD_MAX_RANK] = {0};
  for (int i = 0; i < w.n; i++) axes[1 + i] = 2 + i;
  r->dx[2] = XG(g, "ReduceSum keepdims=0", dy, sd_xg_ints(g, axes, 1 + w.n));
}

// ---- pools ----
static bool read_pool(sd_grad *r, sd_window *w) {
  sd_dim kernel[SD_MAX_RANK];
  xg *g = r->g;
  sd_xg_fail(g, sd_window_kernel(r->n, kernel));
  if (!g->st) sd_xg_fail(g, sd_window_read(r->n, kernel, sd_node_int(r->n, "ceil_mode", 0) != 0, w));
  if (!g->st && w->last)
    sd_xg_fail(g, SD_SH_ERR(g->at, UNSUPPORTED, "the derivative of a pool with channels last"));
  return !g->st && r->dy[0] && r->wants[0];
}

// v [N,C,...] as [N*C,1,...].
static sd_value *one_channel(sd_grad *r, sd_value *v) {
  sd_dim dims[SD_MAX_RANK];
  if (!v) return NULL;
  memcpy(dims, v->dims, sizeof dims);
  dims[0] = sd_dim_mul(table(r), v->dims[0], v->dims[1]), dims[1] = number(r, 1);
  return sd_xg_reshape(r->g, v, dims, v->rank);
}

// Number of elements by which a window's sum is divided, [1,1,...]: the pool of ones is the share of those of
// the input.
static sd_value *divisors(sd_grad *r, const sd_window *w, sd_value *kernel) {
  xg *g = r->g;
  const sd_node *n = r->n;
  sd_value *x = n->in[0];
  sd_dim dims[SD_MAX_RANK] = {number(r, 1), number(r, 1)};
  memcpy(dims + 2, x->dims + 2, (size_t)w->n * sizeof *dims);
  sd_value *ones = sd_xg_expand(g, sd_xg_num(g, x->dtype, 1), dims, x->rank);
  if (!ones) return NULL;
  sd_node *pool = sd_node_new(g->at->graph, g->at, n->op, &ones, 1, 1);
  memcpy(pool->attrs, n->attrs, n->n_attr * sizeof *n->attrs);
  sd_xg_fail(g, sd_node_infer(pool));
  sd_value *inside = XG(g, steps(g, "Conv", w->n, w->stride, w->dilation, 1), framed(r, w, ones), kernel);
  return XG(g, "Div", inside, pool->out[0]);
}

void sd_grad_averagepool(sd_grad *r) {
  xg *g = r->g;
  sd_window w;
  if (!read_pool(r, &w)) return;
  sd_dim dims[SD_MAX_RANK] = {number(r, 1), number(r, 1)};
  memcpy(dims + 2, w.kernel, (size_t)w.n * sizeof *dims);
  sd_value *kernel = sd_xg_expand(g, sd_xg_num(g, r->dy[0]->dtype, 1), dims, w.n + 2);
  sd_value *share = XG(g, "Div", one_channel(r, r->dy[0]), divisors(r, &w, kernel));
  share = XG(g, steps(g, "ConvTranspose", w.n, w.stride, w.dilation, 1), share, kernel);
  share = unframed(r, &w, share);
  r->dx[0] = sd_xg_reshape(g, share, r->n->in[0]->dims, r->n->in[0]->rank);
}

// To the element that the pool found: the first of equal ones.
void sd_grad_maxpool(sd_grad *r) {
  xg *g = r->g;
  const sd_node *n = r->n;
  sd_window w;
  if (!read_pool(r, &w)) return;
  sd_dim count = sd_value_count(r->dy[0]), all = sd_value_count(n->in[0]);
  sd_node *pool = sd_node_new(g->at->graph, g->at, n->op, n->in, 1, 2);
  memcpy(pool->attrs, n->attrs, n->n_attr * sizeof *n->attrs);
  sd_node_set_int(pool, "storage_order", 0);
  sd_xg_fail(g, sd_node_infer(pool));
  sd_value *zeros = sd_xg_expand(g, sd_xg_num(g, r->dy[0]->dtype, 0), &all, 1);
  sd_value *at = sd_xg_reshape(g, g->st ? NULL : pool->out[1], &count, 1),
           *dy = sd_xg_reshape(g, r->dy[0], &count, 1);
  sd_value *dx = XG(g, "ScatterElements axis=0 reduction=add", zeros, at, dy);
  r->dx[0] = sd_xg_reshape(g, dx, n->in[0]->dims, n->in[0]->rank);
}

static int spatial_axes(const sd_value *x, int64_t *axes) {
  for (int d = 2; d < x->rank; d++) axes[d - 2] = d;
  return x->rank - 2;
}

void sd_grad_globalaverage(sd_grad *r) {
  const sd_value *x = r->n->in[0];
  sd_dim count = sd_dim_product(table(r), x->dims + 2, x->rank - 2);
  sd_value *n = sd_xg_cast(r->g, r->dy[0]->dtype, sd_xg_dims(r->g, &count, -1));
  r->dx[0] = sd_xg_expand(r->g, XG(r->g, "Div", r->dy[0], n), x->dims, x->rank);
}

// Elements that equal the largest share the gradient.
void sd_grad_globalmax(sd_grad *r) {
  xg *g = r->g;
  int64_t axes[SD_MAX_RANK];
  int n = spatial_axes(r->n->in[0], axes);
  sd_value *hit = sd_xg_cast(g, r->dy[0]->dtype, XG(g, "Equal", r->n->in[0], r->n->out[0]));
  sd_value *ties = n ? XG(g, "ReduceSum keepdims=1", hit, sd_xg_ints(g, axes, n)) : hit;
  r->dx[0] = XG(g, "Mul", hit, XG(g, "Div", r->dy[0], ties));
}
