// GridSample and AffineGrid: sampling at computed positions.
#include "ir/ops.h"
#include "ir/ops/interp.h"

typedef struct grid_plan {
  int spatial; // 2 or 3
  bool nearest, cubic, border, reflect, align;
} grid_plan;

static sard_status *plan_grid(const sd_node *n, grid_plan *p) {
  SD_TRY(sd_sh_rank(n, 0, 4, 5));
  int rank = n->in[0]->rank;
  SD_TRY(sd_sh_rank(n, 1, rank, rank));
  const char *mode = sd_node_str(n, "mode", "linear"), *pad = sd_node_str(n, "padding_mode", "zeros");
  p->spatial = rank - 2;
  p->nearest = !strcmp(mode, "nearest");
  p->cubic = !strcmp(mode, "cubic") || !strcmp(mode, "bicubic");
  p->border = !strcmp(pad, "border");
  p->reflect = !strcmp(pad, "reflection");
  p->align = sd_node_int(n, "align_corners", 0) != 0;
  if (!p->nearest && !p->cubic && strcmp(mode, "linear") && strcmp(mode, "bilinear"))
    return SD_SH_ERR(n, MODEL, "unknown mode '%s'", mode);
  if (!p->border && !p->reflect && strcmp(pad, "zeros")) return SD_SH_ERR(n, MODEL, "unknown padding_mode '%s'", pad);
  if (p->cubic && p->spatial != 2) return SD_SH_ERR(n, UNSUPPORTED, "cubic sampling of rank %d", rank);
  return NULL;
}

sard_status *sd_shape_grid_sample(sd_node *n) {
  grid_plan p;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(plan_grid(n, &p));
  const sd_value *x = n->in[0], *g = n->in[1];
  SD_TRY(sd_sh_same(n, x->dims[0], g->dims[0], "batch", &dims[0]));
  SD_TRY(sd_sh_same(n, g->dims[g->rank - 1], sd_dim_const(sd_sh_tab(n), p.spatial), "last dim of the grid", NULL));
  dims[1] = x->dims[1];
  for (int i = 0; i < p.spatial; i++) {
    dims[2 + i] = g->dims[1 + i];
    SD_TRY(sd_sh_fed(n, x->dims[2 + i], sd_dim_product(sd_sh_tab(n), g->dims + 1, p.spatial)));
  }
  return sd_sh_set(n, 0, x->dtype, x->rank, dims);
}

// v mirrored at low and high until it lies between them.
static sd_expr *mirror(sd_tb *b, sd_expr *v, sd_expr *low, sd_expr *high) {
  sd_expr *range = x_sub(b, high, low), *period = x_muln(b, range, 2);
  sd_expr *t = x_bin(b, SD_X_FMOD, x_un(b, SD_X_ABS, x_sub(b, v, low)), period);
  sd_expr *r = x_add(b, low, x_min(b, t, x_sub(b, period, t)));
  return x_sel(b, x_bin(b, SD_X_LT, x_num(b, v, 0), range), r, low);
}

// Sample position along spatial dim i, in units of elements, with borders and reflection applied.
static sd_expr *position(sd_tb *b, const grid_plan *p, sd_expr *g, sd_dim d) {
  if (!g) return NULL;
  sd_dtype t = g->dtype;
  sd_expr *len = x_float_dim(b, t, d), *last = x_addn(b, len, -1), *x;
  if (p->align) x = x_mul(b, x_muln(b, x_addn(b, g, 1), 0.5), last);
  else x = x_muln(b, x_addn(b, x_mul(b, x_addn(b, g, 1), len), -1), 0.5);
  if (p->nearest) x = x_un(b, SD_X_ROUND, x);
  sd_expr *low = x_num(b, x, p->align ? 0 : -0.5), *high = p->align ? last : x_addn(b, len, -0.5);
  if (p->reflect) x = mirror(b, x, low, high);
  if (p->border && !p->cubic) { // cubic: each neighbour takes the border's value, as PyTorch and ONNX Runtime have it
    sd_expr *out = x_bin(b, SD_X_OR, x_bin(b, SD_X_LT, x, low), x_bin(b, SD_X_LT, high, x));
    x = x_sel(b, out, x_max(b, x_min(b, x, last), x_num(b, x, 0)), x);
  }
  return x_max(b, x_min(b, x, x_addn(b, len, 4)), x_num(b, x, -4)); // anything may stand in a grid
}

// One neighbour: its index made legal, *inside set where it must be left out of the sum instead.
static sd_expr *pixel(sd_tb *b, const grid_plan *p, sd_expr *i, sd_dim d, sd_expr **inside) {
  if (p->reflect) {
    sd_expr *f = x_cast(b, SD_F32, i), *len = x_float_dim(b, SD_F32, d);
    sd_expr *low = x_num(b, f, p->align ? 0 : -0.5), *high = x_addn(b, len, p->align ? -1 : -0.5);
    i = x_cast(b, SD_I64, mirror(b, f, low, high));
  }
  if (p->reflect || p->border) return x_clamp_index(b, i, d);
  *inside = x_and(b, *inside, x_and(b, x_bin(b, SD_X_LE, x_int(b, 0), i), x_bin(b, SD_X_LT, i, x_dim(b, d))));
  return i;
}

typedef struct grid_taps { int n; sd_expr *at[SD_MAX_TAPS], *w[SD_MAX_TAPS]; } grid_taps;

static bool grid_neighbours(sd_tb *b, const grid_plan *p, sd_expr *x, grid_taps *t) {
  if (!x) return false;
  sd_expr *low = x_un(b, SD_X_FLOOR, x), *r = x_sub(b, x, low), *first = x_cast(b, SD_I64, low);
  t->n = p->nearest ? 1 : p->cubic ? 4 : 2;
  if (p->nearest) {
    t->w[0] = NULL;
  } else if (p->cubic) {
    x_cubic_weights(b, r, -0.75, t->w);
    first = x_add(b, first, x_int(b, -1));
  } else {
    t->w[0] = x_sub(b, x_num(b, r, 1), r);
    t->w[1] = r;
  }
  for (int i = 0; i < t->n; i++) t->at[i] = x_add(b, first, x_int(b, i));
  return true;
}

static sd_expr *sample(sd_tb *b, const sd_node *n, const grid_plan *p, const grid_taps *t, int dim, sd_expr **at,
                       sd_expr *inside, sd_dtype ft) {
  if (dim == p->spatial) {
    sd_expr *saved;
    if (!inside) return x_cast(b, ft, sd_tb_load(b, n, 0, at));
    sd_tb_guard_begin(b, inside, &saved);
    sd_expr *x = sd_tb_load(b, n, 0, at);
    return x_cast(b, ft, sd_tb_guard_end(b, saved, inside, x, x_num(b, x, 0)));
  }
  sd_expr *sum = NULL;
  for (int i = 0; i < t[dim].n; i++) {
    sd_expr *in = inside;
    at[2 + dim] = pixel(b, p, t[dim].at[i], n->in[0]->dims[2 + dim], &in);
    sd_expr *x = sample(b, n, p, t, dim + 1, at, in, ft);
    if (t[dim].w[i]) x = x_mul(b, x, t[dim].w[i]);
    sum = i ? x_add(b, sum, x) : x;
  }
  return sum;
}

sd_expr *sd_pull_grid_sample(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  grid_plan p;
  grid_taps t[3];
  sd_expr *where[SD_MAX_RANK], *at[SD_MAX_RANK] = {idx[0], idx[1]};
  sard_status *st = plan_grid(n, &p);
  if (st) return sd_tb_fail(b, st);
  sd_dtype ct = sd_compute_type(n->out[out]->dtype), ft = ct == SD_F64 ? SD_F64 : SD_F32;
  where[0] = idx[0];
  for (int i = 0; i < p.spatial; i++) where[1 + i] = idx[2 + i];
  for (int i = 0; i < p.spatial; i++) { // the grid holds x, y, z: the last spatial dim first
    where[1 + p.spatial] = x_int(b, p.spatial - 1 - i);
    sd_expr *g = x_cast(b, ft, sd_tb_load(b, n, 1, where));
    if (!grid_neighbours(b, &p, position(b, &p, g, n->in[0]->dims[2 + i]), &t[i])) return NULL;
  }
  return x_cast(b, ct, sample(b, n, &p, t, 0, at, NULL, ft));
}

// ---- AffineGrid ----
sard_status *sd_shape_affine_grid(sd_node *n) {
  sd_dim size[5], dims[5];
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_elems(n, 1, size, 5, &count));
  if (count != 4 && count != 5) return SD_SH_ERR(n, MODEL, "operand '%s' has %u elements", sd_sh_operand(n, 1), count);
  dims[0] = size[0];
  for (uint32_t i = 2; i < count; i++) dims[i - 1] = size[i];
  dims[count - 1] = sd_dim_const(sd_sh_tab(n), (int)count - 2);
  SD_TRY(sd_sh_same(n, n->in[0]->dims[0], size[0], "batch", NULL));
  SD_TRY(sd_sh_same(n, n->in[0]->dims[1], dims[count - 1], "rows of theta", NULL));
  SD_TRY(sd_sh_same(n, n->in[0]->dims[2], sd_dim_const(sd_sh_tab(n), (int)count - 1), "columns of theta", NULL));
  return sd_sh_set(n, 0, n->in[0]->dtype, (int)count, dims);
}

// Position of element i of d in [-1, 1].
static sd_expr *normalized(sd_tb *b, sd_expr *i, sd_dim d, sd_dtype t, bool align) {
  sd_expr *x = x_cast(b, t, i), *len = x_float_dim(b, t, d);
  if (align) return x_addn(b, x_div(b, x_muln(b, x, 2), x_addn(b, len, -1)), -1);
  return x_addn(b, x_div(b, x_addn(b, x_muln(b, x, 2), 1), len), -1);
}

sd_expr *sd_pull_affine_grid(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  const sd_value *y = n->out[out];
  int spatial = y->rank - 2;
  bool align = sd_node_int(n, "align_corners", 0) != 0;
  sd_dtype t = sd_compute_type(y->dtype);
  sd_expr *at[3] = {idx[0], idx[y->rank - 1], x_int(b, spatial)}, *sum = sd_tb_load(b, n, 0, at);
  for (int c = 0; c < spatial; c++) { // theta's columns: x (last dim), y, z
    int d = spatial - c;
    at[2] = x_int(b, c);
    sum = x_add(b, sum, x_mul(b, sd_tb_load(b, n, 0, at), normalized(b, idx[d], y->dims[d], t, align)));
  }
  return sum;
}
