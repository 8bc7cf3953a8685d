// Geometry of sliding windows, with symbolic sizes.
#include "ir/ops/window.h"

#include <string.h>

static sard_status *list_of(const sd_node *n, const char *name, uint32_t count, int64_t absent, int64_t min,
                            int64_t *out) {
  const sd_attr *a = sd_node_attr(n, name);
  if (!a || a->kind != SD_ATTR_INTS || a->n == 0) {
    for (uint32_t i = 0; i < count; i++) out[i] = absent;
    return NULL;
  }
  if (a->n != count)
    return SD_SH_ERR(n, MODEL, "attribute '%s' has %u entries, %u are needed", name, a->n, count);
  for (uint32_t i = 0; i < count; i++) {
    if (a->ints[i] < min || a->ints[i] > INT32_MAX)
      return SD_SH_ERR(n, MODEL, "attribute '%s' has the entry %lld", name, (long long)a->ints[i]);
    out[i] = a->ints[i];
  }
  return NULL;
}

sard_status *sd_window_kernel(const sd_node *n, sd_dim *kernel) {
  int64_t v[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 3, SD_MAX_RANK / 2));
  uint32_t count = (uint32_t)n->in[0]->rank - 2;
  SD_TRY(list_of(n, "kernel_shape", count, 1, 1, v));
  for (uint32_t i = 0; i < count; i++) kernel[i] = sd_dim_const(sd_sh_tab(n), v[i]);
  return NULL;
}

sard_status *sd_window_steps(const sd_node *n, sd_window *w) {
  SD_TRY(list_of(n, "strides", (uint32_t)w->n, 1, 1, w->stride));
  if (!sd_node_attr(n, "dilations")) {
    for (int i = 0; i < w->n; i++) w->dilation[i] = 1;
    return NULL;
  }
  return list_of(n, "dilations", (uint32_t)w->n, 1, 1, w->dilation);
}

// SAME_UPPER and SAME_LOWER: out = ceil(in / stride); the odd pad goes to the end or to the start.
static void same_pads(sd_dimtab *t, sd_window *w, int i, bool lower, sd_dim span) {
  sd_dim two = sd_dim_const(t, 2), stride = sd_dim_const(t, w->stride[i]);
  w->out[i] = sd_dim_ceildiv(t, w->in[i], stride);
  sd_dim need = sd_dim_add(t, sd_dim_mul(t, sd_dim_sub(t, w->out[i], sd_dim_const(t, 1)), stride), span);
  if (w->stride[i] == 1) need = sd_dim_add(t, w->in[i], sd_dim_sub(t, span, sd_dim_const(t, 1)));
  sd_dim total = sd_dim_max(t, sd_dim_sub(t, need, w->in[i]), sd_dim_const(t, 0));
  sd_dim half = sd_dim_floordiv(t, total, two), rest = sd_dim_sub(t, total, half);
  w->pad[i] = lower ? rest : half;
  w->pad_end[i] = lower ? half : rest;
}

static sd_dim out_size(sd_dimtab *t, const sd_window *w, int i, sd_dim span, bool ceil) {
  sd_dim stride = sd_dim_const(t, w->stride[i]), start = sd_dim_add(t, w->in[i], w->pad[i]);
  sd_dim room = sd_dim_sub(t, sd_dim_add(t, start, w->pad_end[i]), span);
  if (!ceil) return sd_dim_add(t, sd_dim_floordiv(t, room, stride), sd_dim_const(t, 1));
  sd_dim out = sd_dim_add(t, sd_dim_ceildiv(t, room, stride), sd_dim_const(t, 1));
  return sd_dim_min(t, out, sd_dim_ceildiv(t, start, stride)); // no window starts in the pad at the end
}

sard_status *sd_window_read(const sd_node *n, const sd_dim *kernel, bool ceil, sd_window *w) {
  sd_dimtab *t = sd_sh_tab(n);
  int64_t pads[2 * SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 3, SD_MAX_RANK / 2));
  memset(w, 0, sizeof *w);
  w->n = n->in[0]->rank - 2;
  w->ceil = ceil;
  w->last = sd_node_attr(n, "channels_last") && sd_node_int(n, "channels_last", 0);
  SD_TRY(sd_window_steps(n, w));
  SD_TRY(list_of(n, "pads", 2 * (uint32_t)w->n, 0, INT32_MIN, pads));
  const char *auto_pad = sd_node_str(n, "auto_pad", "NOTSET");
  bool lower = !strcmp(auto_pad, "SAME_LOWER"), same = lower || !strcmp(auto_pad, "SAME_UPPER");
  bool valid = !strcmp(auto_pad, "VALID");
  if (!same && !valid && auto_pad[0] && strcmp(auto_pad, "NOTSET"))
    return SD_SH_ERR(n, MODEL, "unknown auto_pad '%s'", auto_pad);
  for (int i = 0; i < w->n; i++) {
    w->kernel[i] = kernel[i];
    w->in[i] = n->in[0]->dims[sd_window_axis(w, i)];
    sd_dim reach =
        sd_dim_mul(t, sd_dim_sub(t, kernel[i], sd_dim_const(t, 1)), sd_dim_const(t, w->dilation[i]));
    sd_dim span = sd_dim_add(t, reach, sd_dim_const(t, 1));
    w->pad[i] = sd_dim_const(t, valid ? 0 : pads[i]);
    w->pad_end[i] = sd_dim_const(t, valid ? 0 : pads[w->n + i]);
    if (same) same_pads(t, w, i, lower, span);
    else
      w->out[i] = out_size(t, w, i, span, ceil);
  }
  return NULL;
}

sard_status *sd_window_fits(const sd_node *n, const sd_window *w) {
  sd_dimtab *t = sd_sh_tab(n);
  for (int i = 0; i < w->n; i++)
    if (sd_dim_lt(t, w->out[i], sd_dim_const(t, 0)) == 1)
      return SD_SH_ERR(n, MODEL, "the window is larger than spatial dim %d with its pads", i);
  return NULL;
}

sd_expr *sd_window_input(sd_tb *b, const sd_window *w, int i, sd_expr *o, sd_expr *k, sd_expr **cond) {
  sd_dimtab *t = b->dims;
  sd_dim zero = sd_dim_const(t, 0), one = sd_dim_const(t, 1);
  sd_dim stride = sd_dim_const(t, w->stride[i]), dil = sd_dim_const(t, w->dilation[i]);
  if (!o || !k) return NULL;
  sd_expr *at = x_add(b, sd_x_mul_dim(b->k, o, stride), sd_x_mul_dim(b->k, k, dil));
  at = x_sub(b, at, x_dim(b, w->pad[i]));
  // the last position that is read: proven inside where no pad at the end or the rounding of the size leaves
  // room
  sd_dim end = sd_dim_add(t, sd_dim_mul(t, sd_dim_sub(t, w->out[i], one), stride),
                          sd_dim_sub(t, sd_dim_mul(t, sd_dim_sub(t, w->kernel[i], one), dil), w->pad[i]));
  bool low = sd_dim_lt(t, zero, w->pad[i]) != 0;
  bool high = sd_dim_lt(t, end, w->in[i]) != 1;
  // floor rounding without a pad at the end stays inside also for symbolic sizes
  if (high && sd_dim_is(t, w->pad_end[i], 0) && !w->ceil) high = false;
  if (low) *cond = x_and(b, *cond, x_bin(b, SD_X_LE, x_int(b, 0), at));
  if (high) *cond = x_and(b, *cond, x_bin(b, SD_X_LT, at, x_dim(b, w->in[i])));
  return at;
}
