// Random operators: numbers are a hash of the seed and the element's position, so they do not depend on
// threads, shapes of tiles or the machine.
#include <math.h>
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "ir/ops/xgraph.h"
#include "runtime/base/hash.h"

// ---- sard.Random: uniform in [0, 1), by position ----
sard_status *sd_shape_random(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  uint32_t rank = 0;
  SD_TRY(sd_sh_elems(n, 0, dims, SD_MAX_RANK, &rank));
  return sd_sh_set(n, 0, SD_F32, (int)rank, dims);
}

static sd_expr *u32(sd_tb *b, uint32_t v) { return sd_x_i(b->k, SD_U32, v); }

// A finalizer that mixes all bits of a 32-bit number.
static sd_expr *mixed(sd_tb *b, sd_expr *x) {
  static const struct {
    uint32_t shift, factor;
  } steps[] = {{16, 0x7feb352du}, {15, 0x846ca68bu}, {16, 0}};
  for (int i = 0; i < 3; i++) {
    x = x_bin(b, SD_X_XOR, x, x_bin(b, SD_X_SHR, x, u32(b, steps[i].shift)));
    if (steps[i].factor) x = x_mul(b, x, u32(b, steps[i].factor));
  }
  return x;
}

sd_expr *sd_pull_random(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  uint32_t seed, stream = (uint32_t)sd_node_int(n, "stream", 0);
  float given = sd_node_float(n, "seed", 0);
  memcpy(&seed, &given, sizeof seed);
  sd_expr *at = sd_tb_offset(b, n->out[out], idx);
  if (!at) return NULL;
  sd_expr *low = x_cast(b, SD_U32, x_bin(b, SD_X_AND, at, x_int(b, 0xffffffff)));
  sd_expr *high =
      x_cast(b, SD_U32, x_bin(b, SD_X_AND, x_bin(b, SD_X_SHR, at, x_int(b, 32)), x_int(b, 0xffffffff)));
  sd_expr *h =
      mixed(b, x_bin(b, SD_X_XOR, low, u32(b, seed * 0x9e3779b9u + stream * 0x85ebca6bu + 0x27220a95u)));
  h = mixed(b, x_add(b, h, x_bin(b, SD_X_XOR, high, u32(b, seed ^ (stream * 0xc2b2ae35u)))));
  sd_expr *bits = x_cast(b, SD_I32, x_bin(b, SD_X_SHR, h, u32(b, 8))); // 24 bits: every value is an f32
  return x_muln(b, x_cast(b, SD_F32, bits), ldexp(1, -24));
}

// ---- building ----
// A node without a seed: a number of its own, even and not 0, from the names that the model gives it.
static int own_stream(const sd_node *n) {
  const char *out = n->n_out && n->out[0] ? n->out[0]->name : "";
  uint64_t h = sd_hash_bytes(n->name, strlen(n->name), sd_hash_bytes(out, strlen(out), (uint64_t)n->onnx_index));
  return (int)((h & 0x7ffffffe) | 2);
}

// Uniform numbers; different streams of one seed are independent. `stream`: 0 or 1.
static sd_value *uniform(xg *g, sd_value *shape, int stream) {
  const sd_attr *seed = sd_node_attr(g->at, "seed");
  if (seed->kind == SD_ATTR_NONE) stream += own_stream(g->at);
  return XG(g, sd_xg_fmt(g, "sard.Random seed=%.9g stream=%d", sd_node_float(g->at, "seed", 0), stream), shape);
}

// Box and Muller: sqrt(-2 log u) cos(2 pi v), u in (0, 1].
static sd_value *normal(xg *g, sd_value *shape) {
  sd_value *u = XG(g, "Sub", sd_xg_f32(g, 1), uniform(g, shape, 0));
  sd_value *r = XG(g, "Sqrt", XG(g, "Mul", XG(g, "Log", u), sd_xg_f32(g, -2)));
  sd_value *turn = XG(g, "Mul", uniform(g, shape, 1), sd_xg_f32(g, 6.283185307179586));
  return XG(g, "Mul", r, XG(g, "Cos", turn));
}

static sd_value *scaled(xg *g, sd_value *x, double by, double plus, sd_dtype t) {
  return sd_xg_cast(g, t, XG(g, "Add", XG(g, "Mul", x, sd_xg_f32(g, by)), sd_xg_f32(g, plus)));
}

static sard_status *type_of(const sd_node *n, sd_dtype like, sd_dtype *out) {
  int64_t t = sd_node_int(n, "dtype", 0);
  *out = t ? (sd_dtype)t : like;
  return sd_dtype_is_float(*out) ? NULL
                                 : SD_SH_ERR(n, MODEL, "random numbers of type %s", sd_dtype_name(*out));
}

static sard_status *shape_of(xg *g, sd_value **out) {
  sd_node *n = g->at;
  if (n->n_in) return *out = sd_xg_dims(g, n->in[0]->dims, n->in[0]->rank), sd_xg_take(g);
  const sd_attr *a = sd_node_attr(n, "shape");
  if (a->n > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "rank %u", a->n);
  for (uint32_t i = 0; i < a->n; i++)
    if (a->ints[i] < 0) return SD_SH_ERR(n, MODEL, "attribute 'shape' has %lld", (long long)a->ints[i]);
  return *out = sd_xg_ints(g, a->ints, (int)a->n), sd_xg_take(g);
}

sard_status *sd_rewrite_random_uniform(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dtype t;
  sd_value *shape;
  SD_TRY(type_of(n, n->n_in ? n->in[0]->dtype : SD_F32, &t));
  SD_TRY(shape_of(&g, &shape));
  double low = sd_node_float(n, "low", 0), high = sd_node_float(n, "high", 1);
  sd_value *y = scaled(&g, uniform(&g, shape, 0), high - low, low, t);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_random_normal(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dtype t;
  sd_value *shape;
  SD_TRY(type_of(n, n->n_in ? n->in[0]->dtype : SD_F32, &t));
  SD_TRY(shape_of(&g, &shape));
  sd_value *y = scaled(&g, normal(&g, shape), sd_node_float(n, "scale", 1), sd_node_float(n, "mean", 0), t);
  return sd_xg_finish(&g, &y, 1);
}

sard_status *sd_rewrite_bernoulli(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  int64_t t = sd_node_int(n, "dtype", 0);
  sd_value *shape;
  SD_TRY(shape_of(&g, &shape));
  sd_value *y = XG(&g, "Less", uniform(&g, shape, 0), sd_xg_cast(&g, SD_F32, n->in[0]));
  y = sd_xg_cast(&g, t ? (sd_dtype)t : n->in[0]->dtype, y);
  return sd_xg_finish(&g, &y, 1);
}

// A class is drawn by the largest of log-probability plus Gumbel noise.
sard_status *sd_rewrite_multinomial(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  int64_t count = sd_node_int(n, "sample_size", 1), one = 1;
  if (count < 0) return SD_SH_ERR(n, MODEL, "sample_size is %lld", (long long)count);
  sd_dim dims[3] = {n->in[0]->dims[0], sd_dim_const(sd_sh_tab(n), count), n->in[0]->dims[1]};
  sd_value *u = XG(&g, "Add", uniform(&g, sd_xg_dims(&g, dims, 3), 0), sd_xg_f32(&g, ldexp(1, -25)));
  sd_value *noise = XG(&g, "Neg", XG(&g, "Log", XG(&g, "Neg", XG(&g, "Log", u))));
  sd_value *x = XG(&g, "Unsqueeze", sd_xg_cast(&g, SD_F32, n->in[0]), sd_xg_ints(&g, &one, 1));
  sd_value *y = XG(&g, "ArgMax axis=2 keepdims=0", XG(&g, "Add", x, noise));
  y = sd_xg_cast(&g, (sd_dtype)sd_node_int(n, "dtype", SD_I32), y);
  return sd_xg_finish(&g, &y, 1);
}
