// Convolutions as sums over kernel taps and input channels, in both data layouts.
#include "ir/ops/window.h"

#include <string.h>

#include "ir/ops.h"
#include "ir/ops/product8.h"

// A convolution: window, channels and where the weight keeps what.
typedef struct conv {
  sd_window w;
  int64_t group;
  int64_t pad_out[SD_MAX_RANK]; // output_padding
  sd_dim cin, cout;             // channels of x and of y
  sd_dim cin_g, cout_g;         // the same per group
  int w_in, w_out, w_sp;        // dims of the weight: input channel, output channel, first spatial
} conv;

static sard_status *conv_check_kernel(const sd_node *n, const sd_value *w, int w_sp, const sd_dim *kernel) {
  const sd_attr *a = sd_node_attr(n, "kernel_shape");
  int rank = w->rank - 2;
  if (!a || a->kind != SD_ATTR_INTS || !a->n) return NULL;
  if ((int)a->n != rank)
    return SD_SH_ERR(n, MODEL, "kernel_shape has %u entries for %d spatial dims", a->n, rank);
  for (int i = 0; i < rank; i++)
    if (sd_dim_eq(sd_sh_tab(n), kernel[i], sd_dim_const(sd_sh_tab(n), a->ints[i])) == 0)
      return SD_SH_ERR(n, MODEL, "kernel_shape[%d] is %lld, which is not dim %d of the weight", i,
                       (long long)a->ints[i], w_sp + i);
  return NULL;
}

static void weight_dims(const sd_node *n, int64_t order, bool transposed, conv *c) {
  int rank = n->in[1]->rank;
  bool last = order != 0;
  if (order == 2) { // a row for each output channel
    c->w_out = 0, c->w_sp = 1, c->w_in = rank - 1;
    return;
  }
  c->w_sp = last ? 0 : 2;
  c->w_in = last ? rank - 2 : transposed ? 0 : 1;
  c->w_out = last ? rank - 1 : transposed ? 1 : 0;
}

// Checks shared by both directions; sets everything but the window.
static sard_status *conv_common(const sd_node *n, bool transposed, sd_dim *kernel, conv *c) {
  sd_dimtab *t = sd_sh_tab(n);
  memset(c, 0, sizeof *c);
  SD_TRY(sd_sh_rank(n, 0, 3, SD_MAX_RANK / 2));
  int rank = n->in[0]->rank;
  SD_TRY(sd_sh_rank(n, 1, rank, rank));
  int64_t order = sd_node_int(n, "channels_last", 0);
  bool last = order != 0;
  weight_dims(n, order, transposed, c);
  c->group = sd_node_int(n, "group", 1);
  if (c->group < 1 || c->group > INT32_MAX) return SD_SH_ERR(n, MODEL, "group is %lld", (long long)c->group);
  const sd_value *w = n->in[1];
  for (int i = 0; i < rank - 2; i++) kernel[i] = w->dims[c->w_sp + i];
  SD_TRY(conv_check_kernel(n, w, c->w_sp, kernel));
  sd_dim group = sd_dim_const(t, c->group), zero = sd_dim_const(t, 0);
  c->cin = n->in[0]->dims[last ? rank - 1 : 1];
  if (transposed) {
    SD_TRY(sd_sh_same(n, c->cin, w->dims[c->w_in], "channels of x and w", NULL));
    c->cout_g = w->dims[c->w_out];
    c->cout = sd_dim_mul(t, c->cout_g, group);
    c->cin_g = sd_dim_floordiv(t, c->cin, group);
    if (sd_dim_eq(t, sd_dim_mod(t, c->cin, group), zero) == 0)
      return SD_SH_ERR(n, MODEL, "the input channels are no multiple of %lld groups", (long long)c->group);
  } else {
    c->cin_g = w->dims[c->w_in];
    SD_TRY(sd_sh_same(n, c->cin, sd_dim_mul(t, c->cin_g, group), "channels of x and group * channels of w",
                      NULL));
    c->cout = w->dims[c->w_out];
    c->cout_g = sd_dim_floordiv(t, c->cout, group);
    if (sd_dim_eq(t, sd_dim_mod(t, c->cout, group), zero) == 0)
      return SD_SH_ERR(n, MODEL, "the output channels are no multiple of %lld groups", (long long)c->group);
  }
  if (sd_sh_in(n, 2)) {
    SD_TRY(sd_sh_rank(n, 2, 1, 1));
    SD_TRY(sd_sh_same(n, n->in[2]->dims[0], c->cout, "the bias and the output channels", NULL));
  }
  return NULL;
}

static sard_status *conv_set_output(sd_node *n, const conv *c) {
  sd_dim dims[SD_MAX_RANK];
  dims[0] = n->in[0]->dims[0];
  for (int i = 0; i < c->w.n; i++) dims[sd_window_axis(&c->w, i)] = c->w.out[i];
  dims[sd_window_channel(&c->w)] = c->cout;
  return sd_sh_set(n, 0, n->in[0]->dtype, c->w.n + 2, dims);
}

static sard_status *conv_read(const sd_node *n, conv *c) {
  sd_dim kernel[SD_MAX_RANK];
  SD_TRY(conv_common(n, false, kernel, c));
  SD_TRY(sd_window_read(n, kernel, false, &c->w));
  return sd_window_fits(n, &c->w);
}

sard_status *sd_shape_conv(sd_node *n) {
  conv c;
  SD_TRY(conv_read(n, &c));
  return conv_set_output(n, &c);
}

sard_status *sd_shape_conv8(sd_node *n) {
  SD_TRY(sd_shape_conv(n));
  return sd_shape_product8(n);
}

// Reduction axes in the order that suits the layout: channels outermost, or innermost when they are
// contiguous.
static sd_expr *conv_axes(sd_tb *b, const conv *c, const sd_dim *taps, x_axes *red, sd_expr **tap) {
  static const char *const name[] = {"kd", "kh", "kw"};
  sd_expr *ic = c->w.last ? NULL : x_raxis(b, red, "ic", c->cin_g);
  for (int i = 0; i < c->w.n; i++)
    tap[i] = x_raxis(b, red, c->w.n <= 3 ? name[3 - c->w.n + i] : "k", taps[i]);
  return c->w.last ? x_raxis(b, red, "ic", c->cin_g) : ic;
}

static sd_expr *add_bias(sd_tb *b, const sd_node *n, sd_expr *sum, sd_expr *channel) {
  return sd_tb_has(n, 2) ? x_add(b, sum, sd_tb_load(b, n, 2, (sd_expr *[]){channel})) : sum;
}

// Channel of x that output channel oc and channel ic of its group read. Affine for one group and for
// depthwise.
static sd_expr *conv_channel(sd_tb *b, const conv *c, sd_expr *oc, sd_expr *ic) {
  if (c->group == 1) return ic;
  sd_expr *g = sd_dim_is(b->dims, c->cout_g, 1) ? oc : x_bin(b, SD_X_FLOORDIV, oc, x_dim(b, c->cout_g));
  return g && ic ? x_add(b, sd_x_mul_dim(b->k, g, c->cin_g), ic) : NULL;
}

sd_expr *sd_pull_conv(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  conv c;
  x_axes red = {.n = 0};
  sd_expr *tap[SD_MAX_RANK], *ix[SD_MAX_RANK], *iw[SD_MAX_RANK], *cond = NULL, *saved = NULL;
  sard_status *st = conv_read(n, &c);
  if (st) return sd_tb_fail(b, st);
  sd_expr *oc = idx[sd_window_channel(&c.w)], *ic = conv_axes(b, &c, c.w.kernel, &red, tap);
  ix[0] = idx[0];
  ix[sd_window_channel(&c.w)] = conv_channel(b, &c, oc, ic);
  for (int i = 0; i < c.w.n; i++) {
    int at = sd_window_axis(&c.w, i);
    ix[at] = sd_window_input(b, &c.w, i, idx[at], tap[i], &cond);
    iw[c.w_sp + i] = tap[i];
    if (!ix[at]) return NULL;
  }
  iw[c.w_in] = ic, iw[c.w_out] = oc;
  if (!ix[sd_window_channel(&c.w)]) return NULL;
  if (cond) sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, ix);
  if (cond) x = sd_tb_guard_end(b, saved, cond, x, x_num(b, x, 0));
  sd_dtype t = sd_compute_type(n->out[out]->dtype);
  sd_expr *w = sd_tb_load(b, n, 1, iw);
  sd_expr *sum = x_reduce(b, SD_R_SUM, &red, x_mul(b, x_cast(b, t, x), x_cast(b, t, w)));
  return add_bias(b, n, sum, oc);
}

// ---- ConvTranspose ----
static sard_status *output_lists(const sd_node *n, conv *c, int64_t *shape, bool *has_shape) {
  const sd_attr *op = sd_node_attr(n, "output_padding"), *os = sd_node_attr(n, "output_shape");
  uint32_t count = (uint32_t)c->w.n;
  if (op && op->kind == SD_ATTR_INTS && op->n) {
    if (op->n != count)
      return SD_SH_ERR(n, MODEL, "output_padding has %u entries for %u spatial dims", op->n, count);
    for (uint32_t i = 0; i < count; i++) {
      if (op->ints[i] < 0 || op->ints[i] > INT32_MAX) return SD_SH_ERR(n, MODEL, "a negative output_padding");
      c->pad_out[i] = op->ints[i];
    }
  }
  *has_shape = os && os->kind == SD_ATTR_INTS && os->n;
  if (!*has_shape) return NULL;
  if (os->n != count && os->n != count + 2)
    return SD_SH_ERR(n, MODEL, "output_shape has %u entries for %u spatial dims", os->n, count);
  for (uint32_t i = 0; i < count; i++) shape[i] = os->ints[os->n - count + i];
  return NULL;
}

static sard_status *convtranspose_read(const sd_node *n, conv *c) {
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim kernel[SD_MAX_RANK], zero = sd_dim_const(t, 0), one = sd_dim_const(t, 1), two = sd_dim_const(t, 2);
  int64_t shape[SD_MAX_RANK];
  bool has_shape;
  SD_TRY(conv_common(n, true, kernel, c));
  SD_TRY(sd_window_read(n, kernel, false, &c->w)); // checks the attributes; sizes are set anew below
  SD_TRY(output_lists(n, c, shape, &has_shape));
  const char *auto_pad = sd_node_str(n, "auto_pad", "NOTSET");
  bool upper = !strcmp(auto_pad, "SAME_UPPER"), same = upper || !strcmp(auto_pad, "SAME_LOWER");
  for (int i = 0; i < c->w.n; i++) {
    sd_dim stride = sd_dim_const(t, c->w.stride[i]);
    sd_dim full = sd_dim_mul(t, sd_dim_sub(t, c->w.in[i], one), stride); // output without pads
    full =
        sd_dim_add(t, full, sd_dim_mul(t, sd_dim_sub(t, kernel[i], one), sd_dim_const(t, c->w.dilation[i])));
    full = sd_dim_add(t, full, sd_dim_const(t, c->pad_out[i] + 1));
    if (has_shape || same) {
      c->w.out[i] = has_shape ? sd_dim_const(t, shape[i]) : sd_dim_mul(t, c->w.in[i], stride);
      sd_dim total = sd_dim_max(t, sd_dim_sub(t, full, c->w.out[i]), zero),
             half = sd_dim_floordiv(t, total, two);
      c->w.pad[i] = upper ? half : sd_dim_sub(t, total, half);
      if (!has_shape)
        c->w.out[i] = sd_dim_sub(t, full, total); // less than in * stride for kernels below the stride
    } else {
      c->w.out[i] = sd_dim_sub(t, full, sd_dim_add(t, c->w.pad[i], c->w.pad_end[i]));
    }
  }
  return NULL;
}

sard_status *sd_shape_convtranspose(sd_node *n) {
  conv c;
  SD_TRY(convtranspose_read(n, &c));
  return conv_set_output(n, &c);
}

// Gather form of dim i: tap *k meets output o at input position (o + pad - k * dilation) / stride. Without
// dilation only the taps of o's phase are visited: k = (o + pad) mod stride + stride * j.
static sd_expr *transposed_input(sd_tb *b, const conv *c, int i, sd_expr *o, sd_expr **k, sd_expr **cond) {
  const sd_window *w = &c->w;
  sd_dim stride = sd_dim_const(b->dims, w->stride[i]);
  if (!o || !*k) return NULL;
  sd_expr *at = x_add(b, o, x_dim(b, w->pad[i])), *s = x_dim(b, stride);
  if (w->stride[i] == 1 || w->dilation[i] == 1) {
    sd_expr *phase = x_bin(b, SD_X_MOD, at, s), *j = *k;
    at = x_bin(b, SD_X_FLOORDIV, at, s);
    at = x_sub(b, at, sd_x_mul_dim(b->k, j, sd_dim_const(b->dims, w->dilation[i])));
    *k = x_add(b, phase, sd_x_mul_dim(b->k, j, stride));
    if (w->stride[i] > 1 && !sd_dim_multiple_of(b->dims, w->kernel[i], w->stride[i]))
      *cond = x_and(b, *cond, x_bin(b, SD_X_LT, *k, x_dim(b, w->kernel[i])));
  } else {
    sd_expr *pos = x_sub(b, at, sd_x_mul_dim(b->k, *k, sd_dim_const(b->dims, w->dilation[i])));
    *cond = x_and(b, *cond, x_bin(b, SD_X_EQ, x_bin(b, SD_X_MOD, pos, s), x_int(b, 0)));
    at = x_bin(b, SD_X_FLOORDIV, pos, s);
  }
  *cond = x_and(b, *cond, x_bin(b, SD_X_LE, x_int(b, 0), at));
  *cond = x_and(b, *cond, x_bin(b, SD_X_LT, at, x_dim(b, w->in[i])));
  return at;
}

sd_expr *sd_pull_convtranspose(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  conv c;
  x_axes red = {.n = 0};
  sd_dim taps[SD_MAX_RANK];
  sd_expr *tap[SD_MAX_RANK], *ix[SD_MAX_RANK], *iw[SD_MAX_RANK], *cond = NULL, *saved = NULL;
  sard_status *st = convtranspose_read(n, &c);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < c.w.n; i++)
    taps[i] = c.w.dilation[i] == 1
                  ? sd_dim_ceildiv(b->dims, c.w.kernel[i], sd_dim_const(b->dims, c.w.stride[i]))
                  : c.w.kernel[i];
  sd_expr *oc = idx[sd_window_channel(&c.w)], *ic = conv_axes(b, &c, taps, &red, tap);
  sd_expr *channel = conv_channel(b, &c, oc, ic);
  for (int i = 0; i < c.w.n; i++) {
    int at = sd_window_axis(&c.w, i);
    ix[at] = transposed_input(b, &c, i, idx[at], &tap[i], &cond);
    iw[c.w_sp + i] = tap[i];
    if (!ix[at]) return NULL;
  }
  ix[0] = idx[0], ix[sd_window_channel(&c.w)] = channel;
  iw[c.w_in] = channel;
  iw[c.w_out] = c.group == 1 ? oc : x_bin(b, SD_X_MOD, oc, x_dim(b, c.cout_g));
  if (!channel || !cond) return NULL;
  sd_tb_guard_begin(b, cond, &saved);
  sd_expr *x = sd_tb_load(b, n, 0, ix);
  sd_expr *product = x_mul(b, x, sd_tb_load(b, n, 1, iw));
  product = sd_tb_guard_end(b, saved, cond, product, x_num(b, product, 0));
  return add_bias(b, n, x_reduce(b, SD_R_SUM, &red, product), oc);
}
