// Convolutions, pools and attention against plain loops, in every layout, on the reference interpreter.
#include <math.h>

#include "ir/lower.h"
#include "tests/unit/check.h"

static uint64_t seed = 7;
static int rnd(int n) {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (int)((seed >> 33) % (uint64_t)n);
}
static void fill(float *p, int64_t n) {
  for (int64_t i = 0; i < n; i++) p[i] = (float)(rnd(17) - 8) / 4;
}

typedef struct tensor {
  int rank;
  int64_t dims[5];
  float *data;
} tensor;
typedef struct attribute {
  const char *name;
  int n;
  int64_t v[6];
  float f;
} attribute; // n: 0 int, -1 float, else ints

static int64_t count_of(const tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dims[i];
  return n;
}
static tensor tensor_new(int rank, const int64_t *dims) {
  tensor t = {.rank = rank};
  memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
  t.data = calloc((size_t)count_of(&t) + 1, sizeof(float));
  if (!t.data) exit(1);
  fill(t.data, count_of(&t));
  return t;
}
// The tensor with its dims in another order; the caller frees data.
static tensor permuted(const tensor *t, const int *perm) {
  tensor r = {.rank = t->rank};
  int64_t stride[5], s = 1;
  for (int i = t->rank - 1; i >= 0; i--) stride[i] = s, s *= t->dims[i];
  for (int i = 0; i < t->rank; i++) r.dims[i] = t->dims[perm[i]];
  r.data = calloc((size_t)s + 1, sizeof(float));
  if (!r.data) exit(1);
  for (int64_t e = 0; e < s; e++) {
    int64_t rest = e, at = 0;
    for (int i = t->rank - 1; i >= 0; i--) at += rest % r.dims[i] * stride[perm[i]], rest /= r.dims[i];
    r.data[e] = t->data[at];
  }
  return r;
}

static sard_status *evaluate(const sd_node *n, sd_value *const *v, const tensor *const *in, int n_in,
                             const sd_lower_tile *tile, const tensor *want, double *worst) {
  sd_module *m = n->graph->module;
  sd_kernel *k;
  SD_TRY(sd_lower_tiled(m->arena, m, n, tile, &k));
  SD_TRY(sd_kernel_verify(k));
  float *got = SD_NEW_ARRAY(m->arena, float, count_of(want) + 1);
  void **data = SD_NEW_ARRAY(m->arena, void *, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->value == n->out[0]) data[i] = got;
    for (int o = 0; o < n_in; o++)
      if (v[o] && k->bufs.at[i]->value == v[o]) data[i] = in[o]->data;
  }
  SD_TRY(sd_kernel_eval(k, data, NULL, NULL));
  for (int64_t i = 0; i < count_of(want); i++) *worst = fmax(*worst, fabs(got[i] - want->data[i]));
  return NULL;
}

// Runs one node and compares its first output with `want` (free of dims: shape is checked, too).
static sard_status *run_node(sd_module *m, const char *name, const attribute *attrs, const tensor *const *in,
                             int n_in, const tensor *want, double *worst) {
  sd_value *v[6] = {0};
  for (int i = 0; i < n_in; i++) {
    sd_dim dims[5];
    if (!in[i]) continue;
    for (int d = 0; d < in[i]->rank; d++) dims[d] = sd_dim_const(m->dims, in[i]->dims[d]);
    v[i] = sd_graph_input(m->main, "x", SD_F32, in[i]->rank, dims);
  }
  const sd_op *op = sd_op_find(name);
  if (!op) return SD_ERR(INTERNAL, "no row %s", name);
  sd_node *n = sd_node_new(m->main, NULL, op, v, (uint32_t)n_in, 1);
  for (; attrs->name; attrs++) {
    if (attrs->n > 0) sd_node_set_ints(n, attrs->name, attrs->v, (uint32_t)attrs->n);
    else if (attrs->n == 0)
      sd_node_set_int(n, attrs->name, attrs->v[0]);
    else
      *sd_node_attr(n, attrs->name) = (sd_attr){.kind = SD_ATTR_FLOAT, .f = attrs->f};
  }
  SD_TRY(sd_node_infer(n));
  int64_t dims[SD_MAX_RANK];
  if (!sd_value_static(n->out[0], dims) || n->out[0]->rank != want->rank ||
      memcmp(dims, want->dims, (size_t)want->rank * sizeof *dims))
    return SD_ERR(INTERNAL, "%s has another shape than wanted", name);
  sd_graph_output(m->main, n->out[0]);
  // as for processors, and in the tiles of other targets
  static const sd_lower_tile tiles[] = {{64, 32, 16, 256, 4096}, {16, 16, 16, 64, 1 << 20}};
  *worst = 0;
  for (int t = -1; t < 2; t++) SD_TRY(evaluate(n, v, in, n_in, t < 0 ? NULL : &tiles[t], want, worst));
  return NULL;
}

static void check_node(const char *name, const attribute *attrs, const tensor *const *in, int n_in,
                       const tensor *want) {
  sd_module *m = NULL;
  double worst = 1;
  CHECK_OK(sd_module_new("test", &m));
  if (!m) return;
  CHECK_OK(run_node(m, name, attrs, in, n_in, want, &worst));
  CHECK(worst < 1e-4);
  sd_module_free(m);
}

// ---- convolution ----
typedef struct geometry {
  int64_t stride, dilation, pad, pad_end, group;
} geometry;

static tensor conv_loops(const tensor *x, const tensor *w, const geometry *g) {
  int64_t dims[4] = {x->dims[0], w->dims[0]}, cg = w->dims[1], mg = w->dims[0] / g->group;
  for (int i = 2; i < 4; i++)
    dims[i] = (x->dims[i] + g->pad + g->pad_end - (w->dims[i] - 1) * g->dilation - 1) / g->stride + 1;
  tensor y = tensor_new(4, dims);
  for (int64_t e = 0; e < count_of(&y); e++) {
    int64_t ow = e % dims[3], oh = e / dims[3] % dims[2], oc = e / dims[3] / dims[2] % dims[1],
            b = e / dims[3] / dims[2] / dims[1];
    double sum = 0;
    for (int64_t c = 0; c < cg; c++)
      for (int64_t kh = 0; kh < w->dims[2]; kh++)
        for (int64_t kw = 0; kw < w->dims[3]; kw++) {
          int64_t ih = oh * g->stride + kh * g->dilation - g->pad,
                  iw = ow * g->stride + kw * g->dilation - g->pad;
          if (ih < 0 || iw < 0 || ih >= x->dims[2] || iw >= x->dims[3]) continue;
          int64_t ic = oc / mg * cg + c;
          sum += (double)x->data[((b * x->dims[1] + ic) * x->dims[2] + ih) * x->dims[3] + iw] *
                 w->data[((oc * cg + c) * w->dims[2] + kh) * w->dims[3] + kw];
        }
    y.data[e] = (float)sum;
  }
  return y;
}

static void test_conv(int turn) {
  static const int last[] = {0, 2, 3, 1}, weight[] = {2, 3, 1, 0};
  geometry g = {1 + rnd(3), 1 + rnd(2), rnd(3), rnd(3), 1 + turn % 3};
  int64_t cg = 1 + rnd(3), mg = 1 + rnd(2), kh = 1 + rnd(3), kw = 1 + rnd(3);
  tensor x = tensor_new(4, (int64_t[]){2, cg * g.group, 5 + rnd(4), 5 + rnd(4)});
  tensor w = tensor_new(4, (int64_t[]){mg * g.group, cg, kh, kw}), y = conv_loops(&x, &w, &g);
  tensor xl = permuted(&x, last), wl = permuted(&w, weight), yl = permuted(&y, last);
  attribute attrs[] = {{"strides", 2, {g.stride, g.stride}, 0},
                       {"dilations", 2, {g.dilation, g.dilation}, 0},
                       {"pads", 4, {g.pad, g.pad, g.pad_end, g.pad_end}, 0},
                       {"group", 0, {g.group}, 0},
                       {"channels_last", 0, {0}, 0},
                       {0}};
  check_node("Conv", attrs, (const tensor *[]){&x, &w}, 2, &y);
  attrs[4].v[0] = 1;
  check_node("Conv", attrs, (const tensor *[]){&xl, &wl}, 2, &yl);
  free(x.data), free(w.data), free(y.data), free(xl.data), free(wl.data), free(yl.data);
}

// ---- pools ----
static tensor pool_loops(const tensor *x, int64_t k, int64_t stride, int64_t pad, bool max) {
  int64_t dims[4] = {x->dims[0], x->dims[1]};
  for (int i = 2; i < 4; i++) dims[i] = (x->dims[i] + 2 * pad - k) / stride + 1;
  tensor y = tensor_new(4, dims);
  for (int64_t e = 0; e < count_of(&y); e++) {
    int64_t ow = e % dims[3], oh = e / dims[3] % dims[2], plane = e / dims[3] / dims[2];
    double sum = 0, best = -INFINITY, n = 0;
    for (int64_t ih = oh * stride - pad; ih < oh * stride - pad + k; ih++)
      for (int64_t iw = ow * stride - pad; iw < ow * stride - pad + k; iw++) {
        if (ih < 0 || iw < 0 || ih >= x->dims[2] || iw >= x->dims[3]) continue;
        double v = x->data[(plane * x->dims[2] + ih) * x->dims[3] + iw];
        sum += v, best = fmax(best, v), n++;
      }
    y.data[e] = (float)(max ? best : sum / n);
  }
  return y;
}

static void test_pool(int turn) {
  static const int last[] = {0, 2, 3, 1};
  int64_t k = 2 + rnd(2), stride = 1 + rnd(3), pad = rnd(2);
  tensor x = tensor_new(4, (int64_t[]){2, 3, 5 + rnd(4), 5 + rnd(4)}),
         y = pool_loops(&x, k, stride, pad, turn & 1);
  tensor xl = permuted(&x, last), yl = permuted(&y, last);
  attribute attrs[] = {{"strides", 2, {stride, stride}, 0},
                       {"kernel_shape", 2, {k, k}, 0},
                       {"pads", 4, {pad, pad, pad, pad}, 0},
                       {"channels_last", 0, {0}, 0},
                       {0}};
  const char *name = turn & 1 ? "MaxPool" : "AveragePool";
  check_node(name, attrs, (const tensor *[]){&x}, 1, &y);
  attrs[3].v[0] = 1;
  check_node(name, attrs, (const tensor *[]){&xl}, 1, &yl);
  free(x.data), free(y.data), free(xl.data), free(yl.data);
}

// ---- attention ----
static tensor attention_loops(const tensor *q, const tensor *k, const tensor *v, const tensor *mask,
                              float scale, bool causal) {
  int64_t B = q->dims[0], H = q->dims[1], S = q->dims[2], D = q->dims[3], Hk = k->dims[1], T = k->dims[2],
          Dv = v->dims[3];
  tensor y = tensor_new(4, (int64_t[]){B, H, S, Dv});
  double *p = calloc((size_t)T, sizeof *p);
  if (!p) exit(1);
  for (int64_t row = 0; row < B * H * S; row++) {
    int64_t s = row % S, h = row / S % H, b = row / S / H, kv = (b * Hk + h / (H / Hk)) * T;
    double max = -INFINITY, sum = 0;
    for (int64_t t = 0; t < T; t++) {
      double dot = 0;
      for (int64_t d = 0; d < D; d++) dot += (double)q->data[row * D + d] * k->data[(kv + t) * D + d];
      p[t] = causal && t > s ? -INFINITY : dot * scale + mask->data[b * T + t];
      max = fmax(max, p[t]);
    }
    for (int64_t t = 0; t < T; t++) sum += p[t] = exp(p[t] - max);
    for (int64_t d = 0; d < Dv; d++) {
      double o = 0;
      for (int64_t t = 0; t < T; t++) o += p[t] / sum * v->data[(kv + t) * Dv + d];
      y.data[row * Dv + d] = (float)o;
    }
  }
  free(p);
  return y;
}

static void test_attention(int turn) {
  static const int64_t lengths[] = {1, 3, 9, 64, 70, 130};
  static const int swap[] = {0, 2, 1, 3};
  int64_t S = lengths[turn % 6], T = lengths[rnd(6)], Hk = 1 + rnd(2), H = Hk * (1 + rnd(2));
  bool causal = turn / 6 % 2;
  tensor q = tensor_new(4, (int64_t[]){2, H, S, 4}), k = tensor_new(4, (int64_t[]){2, Hk, T, 4});
  tensor v = tensor_new(4, (int64_t[]){2, Hk, T, 3}), mask = tensor_new(4, (int64_t[]){2, 1, 1, T});
  tensor y = attention_loops(&q, &k, &v, &mask, 0.4f, causal);
  const tensor plain[4] = {q, k, v, y};
  tensor other[4];
  for (int i = 0; i < 4; i++) other[i] = permuted(&plain[i], swap);
  for (int bits = 0; bits < 16; bits += turn % 2 ? 15 : 5) {
    const tensor *x[4];
    attribute attrs[] = {{"scale", -1, {0}, 0.4f},
                         {"causal", 0, {causal}, 0},
                         {"layout", 4, {bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1}, 0},
                         {0}};
    for (int i = 0; i < 4; i++) x[i] = bits >> i & 1 ? &other[i] : &plain[i];
    check_node("sard.Attention", attrs, (const tensor *[]){x[0], x[1], x[2], &mask}, 4, x[3]);
  }
  for (int i = 0; i < 4; i++) free(plain[i].data), free(other[i].data);
  free(mask.data);
}

int main(void) {
  for (int turn = 0; turn < 60; turn++) test_conv(turn);
  for (int turn = 0; turn < 30; turn++) test_pool(turn);
  for (int turn = 0; turn < 24; turn++) test_attention(turn);
  return check_end();
}
