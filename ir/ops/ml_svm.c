// Support vector machines of ai.onnx.ml: kernels of all vectors as matrix products, votes of pairs as
// products with constant matrices.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/ml_common.h"
#include "ir/ops/xbuild.h"

// kernel(x, v) for x [N,F] and vectors [V,F].
static sd_value *kernels(xg *g, sd_value *x, const float *v, int64_t vectors, int64_t features) {
  const char *type = sd_node_str(g->at, "kernel_type", "LINEAR");
  ml_floats p = ml_floats_of(g->at, "kernel_params");
  double gamma = p.n > 0 ? p.v[0] : 0, coef0 = p.n > 1 ? p.v[1] : 0, degree = p.n > 2 ? p.v[2] : 0;
  int64_t dims[2] = {vectors, features}, last = -1;
  sd_value *c = sd_xg_floats(g, v, 2, dims), *dot = XG(g, "Gemm transB=1", x, c);
  if (!strcmp(type, "LINEAR")) return dot;
  if (!strcmp(type, "RBF")) { // of the differences themselves: |x|^2 - 2xv + |v|^2 cancels
    int64_t one = 1;
    sd_value *d = XG(g, "Sub", XG(g, "Unsqueeze", x, sd_xg_ints(g, &one, 1)), c);
    return XG(
        g, "Exp",
        XG(g, "Mul", XG(g, "ReduceSumSquare keepdims=0", d, sd_xg_ints(g, &last, 1)), sd_xg_f32(g, -gamma)));
  }
  dot = XG(g, "Add", XG(g, "Mul", dot, sd_xg_f32(g, gamma)), sd_xg_f32(g, coef0));
  if (!strcmp(type, "POLY")) return XG(g, "Pow", dot, sd_xg_f32(g, degree));
  if (!strcmp(type, "SIGMOID")) return XG(g, "Tanh", dot);
  return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "unknown kernel_type '%s'", type)), NULL;
}

sard_status *sd_rewrite_ml_svm_regressor(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  ml_floats w = ml_floats_of(n, "coefficients"), rho = ml_floats_of(n, "rho"),
            sv = ml_floats_of(n, "support_vectors");
  int64_t count = sd_node_int(n, "n_supports", 0);
  if (rho.n < 1 || !w.n) return SD_SH_ERR(n, MODEL, "rho or coefficients are missing");
  if (count > 0 && (sv.n % (uint64_t)count || w.n != count || !sv.n))
    return SD_SH_ERR(n, MODEL, "%u coefficients and %u numbers of vectors for %lld supports", w.n, sv.n,
                     (long long)count);
  sd_value *x = sd_ml_rows(&g, false), *y;
  if (count > 0) {
    int64_t dims[2] = {w.n, 1};
    y = XG(&g, "MatMul", kernels(&g, x, sv.v, count, sv.n / count), sd_xg_floats(&g, w.v, 2, dims));
  } else {
    y = kernels(&g, x, w.v, 1, w.n);
  }
  y = XG(&g, "Add", y, sd_xg_f32(&g, rho.v[0]));
  if (sd_node_int(n, "one_class", 0))
    y = XG(&g, "Where", XG(&g, "Greater", y, sd_xg_f32(&g, 0)), sd_xg_f32(&g, 1), sd_xg_f32(&g, -1));
  y = sd_ml_transform(&g, y, sd_node_str(n, "post_transform", "NONE"));
  return sd_xg_finish(&g, &y, 1);
}

// ---- classifier ----
typedef struct svc {
  int64_t classes, vectors, features, pairs;
  ml_ints per_class;
  ml_floats w, rho, sv;
} svc;

static sard_status *svc_read(const sd_node *n, svc *s, const ml_labels *l) {
  *s = (svc){.per_class = ml_ints_of(n, "vectors_per_class"),
             .w = ml_floats_of(n, "coefficients"),
             .rho = ml_floats_of(n, "rho"),
             .sv = ml_floats_of(n, "support_vectors")};
  s->classes = s->per_class.n ? s->per_class.n : l->count;
  if (s->classes < 1 || s->classes > 4096) return SD_SH_ERR(n, MODEL, "%lld classes", (long long)s->classes);
  if (l->count && l->count != s->classes)
    return SD_SH_ERR(n, MODEL, "%u labels for %lld classes", l->count, (long long)s->classes);
  for (uint32_t i = 0; i < s->per_class.n; i++) {
    if (s->per_class.v[i] < 0 || s->per_class.v[i] > INT32_MAX)
      return SD_SH_ERR(n, MODEL, "vectors_per_class has %lld", (long long)s->per_class.v[i]);
    s->vectors += s->per_class.v[i];
  }
  s->pairs = s->classes * (s->classes - 1) / 2;
  if (!s->per_class.n) return NULL;
  if (s->vectors < 1 || s->sv.n % (uint64_t)s->vectors || !s->sv.n)
    return SD_SH_ERR(n, MODEL, "%u numbers for %lld support vectors", s->sv.n, (long long)s->vectors);
  s->features = s->sv.n / s->vectors;
  if (s->w.n != (uint64_t)(s->classes - 1) * (uint64_t)s->vectors || s->rho.n < s->pairs)
    return SD_SH_ERR(n, MODEL, "%u coefficients and %u of rho for %lld classes and %lld vectors", s->w.n,
                     s->rho.n, (long long)s->classes, (long long)s->vectors);
  return NULL;
}

// Pair (i, j), i < j, sums row j-1 of the coefficients over the vectors of i and row i over those of j.
static sd_value *pair_matrix(xg *g, const svc *s) {
  float *m = sd_arena_array(g->at->graph->module->arena, (size_t)(s->vectors * s->pairs), sizeof *m);
  int64_t pair = 0, start_i = 0, dims[2] = {s->vectors, s->pairs};
  for (int64_t i = 0; i < s->classes; start_i += s->per_class.v[i++]) {
    int64_t start_j = start_i + s->per_class.v[i];
    for (int64_t j = i + 1; j < s->classes; start_j += s->per_class.v[j++], pair++) {
      for (int64_t k = start_i; k < start_i + s->per_class.v[i]; k++)
        m[k * s->pairs + pair] = s->w.v[(j - 1) * s->vectors + k];
      for (int64_t k = start_j; k < start_j + s->per_class.v[j]; k++)
        m[k * s->pairs + pair] = s->w.v[i * s->vectors + k];
    }
  }
  return sd_value_const(g->at->graph, "", SD_F32, 2, dims, m);
}

// Wins of each class: a positive pair is one for its first class.
static sd_value *votes(xg *g, const svc *s, sd_value *scores) {
  sd_arena *a = g->at->graph->module->arena;
  float *m = sd_arena_array(a, (size_t)(s->pairs * s->classes), sizeof *m),
        *base = sd_arena_array(a, (size_t)s->classes, sizeof *base);
  int64_t pair = 0, dims[2] = {s->pairs, s->classes};
  for (int64_t i = 0; i < s->classes; i++)
    for (int64_t j = i + 1; j < s->classes; j++, pair++)
      m[pair * s->classes + i] = 1, m[pair * s->classes + j] = -1, base[j] += 1;
  sd_value *won = sd_xg_cast(g, SD_F32, XG(g, "Greater", scores, sd_xg_f32(g, 0)));
  return XG(g, "Add", XG(g, "MatMul", won, sd_value_const(g->at->graph, "", SD_F32, 2, dims, m)),
            sd_value_const(g->at->graph, "", SD_F32, 1, dims + 1, base));
}

// Probabilities of the classes from those of the pairs (Wu, Lin and Weng's second method), row by row:
// sard.PairCoupling.
static sd_value *probabilities(xg *g, const svc *s, sd_value *scores, ml_floats a, ml_floats b) {
  int64_t pairs = s->pairs;
  sd_value *pa = sd_xg_floats(g, a.v, 1, &pairs), *pb = sd_xg_floats(g, b.v, 1, &pairs);
  sd_value *r =
      XG(g, "Sigmoid", XG(g, "Neg", XG(g, "Add", XG(g, "Mul", scores, pa), pb))); // of the first class
  r = XG(g, "Clip", r, sd_xg_f32(g, 1e-7), sd_xg_f32(g, 1 - 1e-7));
  return XG(g, sd_xg_fmt(g, "sard.PairCoupling classes=%lld", (long long)s->classes), r);
}

static sard_status *linear_mode(xg *g, const svc *s, const ml_labels *l, const char *post) {
  sd_node *n = g->at;
  if (!s->w.n || s->w.n % (uint64_t)s->classes)
    return SD_SH_ERR(n, MODEL, "%u coefficients for %lld classes", s->w.n, (long long)s->classes);
  if (!s->rho.n) return SD_SH_ERR(n, MODEL, "rho is missing");
  sd_value *y = kernels(g, sd_ml_rows(g, false), s->w.v, s->classes, s->w.n / s->classes);
  y = XG(g, "Add", y, sd_xg_f32(g, s->rho.v[0]));
  sd_value *index = XG(g, "ArgMax axis=1 keepdims=0", y),
           *outs[2] = {sd_ml_label(g, l, index), sd_ml_transform(g, y, post)};
  return sd_xg_finish(g, outs, 2);
}

sard_status *sd_rewrite_ml_svm_classifier(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  svc s;
  ml_labels labels;
  ml_floats a = ml_floats_of(n, "prob_a"), b = ml_floats_of(n, "prob_b");
  const char *post = sd_node_str(n, "post_transform", "NONE");
  SD_TRY(sd_ml_labels(n, "classlabels_ints", "classlabels_strings", &labels));
  SD_TRY(svc_read(n, &s, &labels));
  if (!s.per_class.n) return linear_mode(&g, &s, &labels, post);
  if (a.n != b.n || (a.n && a.n < s.pairs))
    return SD_SH_ERR(n, MODEL, "prob_a has %u entries, prob_b %u", a.n, b.n);
  sd_value *k = kernels(&g, sd_ml_rows(&g, false), s.sv.v, s.vectors, s.features);
  sd_value *y = XG(&g, "Add", XG(&g, "MatMul", k, pair_matrix(&g, &s)),
                   sd_xg_floats(&g, s.rho.v, 1, &s.pairs)),
           *index;
  index = XG(&g, "ArgMax axis=1 keepdims=0",
             votes(&g, &s, y)); // also with probabilities, which may rank otherwise
  if (a.n) y = probabilities(&g, &s, y, a, b);
  bool pair = !a.n && s.classes == 2;
  if (pair) y = sd_ml_pair(&g, y, !strcmp(post, "LOGISTIC") ? 1 : 2);
  else
    y = sd_ml_transform(&g, y, post);
  sd_value *outs[2] = {sd_ml_label(&g, &labels, index), y};
  return sd_xg_finish(&g, outs, 2);
}

// ---- sard.PairCoupling: probabilities p [N,K] of the classes from those of the pairs, r [N,K(K-1)/2] ----
// Minimizes sum over i, j of (r[j,i] p[i] - r[i,j] p[j])^2 by coordinate steps; 100 rounds, or until p is
// near enough.
sard_status *sd_shape_pair_coupling(sd_node *n) {
  int64_t k = sd_node_int(n, "classes", 0);
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  if (k < 2 || k > 4096) return SD_SH_ERR(n, MODEL, "classes is %lld", (long long)k);
  SD_TRY(sd_sh_same(n, n->in[0]->dims[1], sd_dim_const(t, k * (k - 1) / 2), "pairs of classes", NULL));
  return sd_sh_set(n, 0, n->in[0]->dtype, 2, (sd_dim[]){n->in[0]->dims[0], sd_dim_const(t, k)});
}

typedef struct coupling {
  sd_tb *b;
  const sd_node *n;
  sd_dim K;
  sd_buf *Q, *p, *Qp, *scalars; // scalars: p'Qp, step, stopped
  sd_expr *row;
} coupling;

static sd_expr *axis_in(coupling *c, sd_nest *nest, sd_dim extent) {
  sd_axis *a = sd_kernel_axis(c->b->k, "i", extent);
  sd_nest_axis(nest, a);
  return x_axis(c->b, a);
}
static sd_expr *get(coupling *c, sd_buf *buf, sd_expr *i) { return sd_x_load(c->b->k, buf, i, NULL); }
static void put(coupling *c, sd_nest *nest, sd_buf *buf, sd_expr *i, sd_expr *x) {
  if (i && x) sd_nest_store(c->b->k, nest, buf, i, x, NULL);
}
static sd_expr *at(coupling *c, sd_expr *i, sd_expr *j) {
  return x_add(c->b, sd_x_mul_dim(c->b->k, i, c->K), j);
}
static sd_nest *once(coupling *c, sd_items *into) {
  sd_nest *nest = sd_kernel_nest(c->b->k, into);
  axis_in(c, nest, sd_dim_const(c->b->dims, 1));
  return nest;
}

// r[i,j]: the probability of i against j.
static sd_expr *against(coupling *c, sd_expr *i, sd_expr *j) {
  sd_tb *b = c->b;
  sd_expr *low = x_min(b, i, j), *high = x_max(b, i, j), *k = x_dim(b, c->K), *one = x_int(b, 1),
          *two = x_int(b, 2);
  // pairs before those of `low`: low * K - low * (low + 1) / 2
  sd_expr *before =
      x_sub(b, x_mul(b, low, k), x_bin(b, SD_X_FLOORDIV, x_mul(b, low, x_add(b, low, one)), two));
  sd_expr *pair = x_max(b, x_add(b, before, x_sub(b, x_sub(b, high, low), one)), x_int(b, 0));
  pair = x_min(b, pair, x_sub(b, x_dim(b, c->n->in[0]->dims[1]), one));
  sd_expr *r = sd_tb_load(b, c->n, 0, (sd_expr *[]){c->row, pair});
  return x_sel(b, x_bin(b, SD_X_LT, i, j), r, x_sub(b, x_num(b, r, 1), r));
}

static void coupling_start(coupling *c) {
  sd_tb *b = c->b;
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *i = axis_in(c, nest, c->K), *j = axis_in(c, nest, c->K);
  x_axes red = {.n = 0};
  sd_expr *o = x_raxis(b, &red, "j", c->K), *r = against(c, o, i);
  sd_expr *own = x_reduce(b, SD_R_SUM, &red,
                          x_sel(b, x_bin(b, SD_X_EQ, o, i), r ? x_num(b, r, 0) : NULL, x_mul(b, r, r)));
  sd_expr *off = x_un(b, SD_X_NEG, x_mul(b, against(c, j, i), against(c, i, j)));
  put(c, nest, c->Q, at(c, i, j), x_sel(b, x_bin(b, SD_X_EQ, i, j), own, off));
  nest = sd_kernel_nest(b->k, NULL);
  i = axis_in(c, nest, c->K);
  put(c, nest, c->p, i, x_div_dim(b, sd_x_f(b->k, c->p->dtype, 1), c->K));
  nest = once(c, NULL);
  put(c, nest, c->scalars, x_int(b, 2), sd_x_f(b->k, c->p->dtype, 0));
}

static void coupling_round(coupling *c, sd_items *body) {
  sd_tb *b = c->b;
  sd_expr *zero = x_int(b, 0), *one = x_int(b, 1), *two = x_int(b, 2);
  sd_nest *nest = sd_kernel_nest(b->k, body);
  sd_expr *i = axis_in(c, nest, c->K);
  x_axes red = {.n = 0};
  sd_expr *j = x_raxis(b, &red, "j", c->K);
  put(c, nest, c->Qp, i, x_reduce(b, SD_R_SUM, &red, x_mul(b, get(c, c->Q, at(c, i, j)), get(c, c->p, j))));
  nest = once(c, body);
  red.n = 0;
  j = x_raxis(b, &red, "j", c->K);
  put(c, nest, c->scalars, zero, x_reduce(b, SD_R_SUM, &red, x_mul(b, get(c, c->p, j), get(c, c->Qp, j))));
  nest = once(c, body);
  red.n = 0;
  j = x_raxis(b, &red, "j", c->K);
  sd_expr *error = x_un(b, SD_X_ABS, x_sub(b, get(c, c->Qp, j), get(c, c->scalars, zero))),
          *stopped = get(c, c->scalars, two);
  error = x_reduce(b, SD_R_MAX, &red, error);
  sd_expr *near = x_bin(b, SD_X_LT, error, x_div_dim(b, x_num(b, error, 0.005), c->K));
  put(c, nest, c->scalars, two, x_sel(b, near, x_num(b, stopped, 1), stopped));
  sd_axis *step = sd_kernel_axis(b->k, "i", c->K);
  sd_items *inner = sd_kernel_loop(b->k, body, step);
  i = x_axis(b, step);
  nest = once(c, inner);
  sd_expr *pQp = get(c, c->scalars, zero), *Qpi = get(c, c->Qp, i), *Qii = get(c, c->Q, at(c, i, i));
  sd_expr *d = x_div(b, x_sub(b, pQp, Qpi), Qii);
  d = x_sel(b, x_bin(b, SD_X_NE, get(c, c->scalars, two), x_num(b, d, 0)), x_num(b, d, 0), d);
  put(c, nest, c->scalars, one, d);
  nest = once(c, inner);
  d = get(c, c->scalars, one);
  sd_expr *by = x_addn(b, d, 1), *more = x_mul(b, d, x_add(b, x_mul(b, d, Qii), x_muln(b, Qpi, 2)));
  put(c, nest, c->scalars, zero, x_div(b, x_div(b, x_add(b, pQp, more), by), by));
  nest = sd_kernel_nest(b->k, inner);
  j = axis_in(c, nest, c->K);
  put(c, nest, c->Qp, j, x_div(b, x_add(b, get(c, c->Qp, j), x_mul(b, d, get(c, c->Q, at(c, i, j)))), by));
  sd_expr *p = get(c, c->p, j);
  put(c, nest, c->p, j, x_div(b, x_sel(b, x_bin(b, SD_X_EQ, i, j), x_add(b, p, d), p), by));
}

sard_status *sd_nests_pair_coupling(sd_tb *b, const sd_node *n) {
  coupling c = {.b = b, .n = n, .K = sd_dim_const(b->dims, sd_node_int(n, "classes", 2))};
  sd_axis *rows = sd_kernel_axis(b->k, "n", n->in[0]->dims[0]);
  sd_dtype t = sd_compute_type(n->in[0]->dtype);
  sd_vec_push(b->k->arena, &b->k->grid, rows);
  c.row = x_axis(b, rows);
  c.Q = sd_tb_local(b, t, sd_dim_mul(b->dims, c.K, c.K)), c.p = sd_tb_local(b, t, c.K),
  c.Qp = sd_tb_local(b, t, c.K);
  c.scalars = sd_tb_local(b, t, sd_dim_const(b->dims, 3));
  coupling_start(&c);
  coupling_round(&c, sd_kernel_loop(b->k, NULL, sd_kernel_axis(b->k, "round", sd_dim_const(b->dims, 100))));
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *i = axis_in(&c, nest, c.K);
  put(&c, nest, sd_tb_out(b, n, 0), sd_tb_offset(b, n->out[0], (sd_expr *[]){c.row, i}), get(&c, c.p, i));
  return NULL;
}
