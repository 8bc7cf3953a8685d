// Elementwise operators: shape functions with tracking of small contents, and the bodies that are no plain text.
#include "ir/lower.h"
#include "ir/ops.h"
#include "ir/ops/shape.h"
#include "ir/ops/xbuild.h"
#include "runtime/base/alloc.h"
#include "runtime/host.h"

// Contents of an operand as exact fractions: floats that come from dims by constant scales are followed to the dims.
typedef struct fraction { sd_dim num; int64_t den; } fraction;

typedef sd_dim (*dim_fn)(sd_dimtab *t, sd_dim a, sd_dim b);

static bool all_known(const sd_dim *e, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (e[i] == SD_DIM_NONE) return false;
  return true;
}

static bool nonnegative(const sd_dimtab *t, sd_dim d) { return sd_dim_get(t, d)->min >= 0; }

// Folds the contents of all operands, broadcasting vectors of one element, into those of output 0.
static void fold_elems(sd_node *n, dim_fn fn) {
  sd_dim acc[SD_SH_ELEMS], x[SD_SH_ELEMS];
  uint32_t len = 0, lx = 0;
  if (n->out[0]->rank > 1) return;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!sd_sh_try_elems(n, i, i ? x : acc, SD_SH_ELEMS, i ? &lx : &len)) return;
    if (!i) continue;
    uint32_t both = len == 1 ? lx : len;
    for (uint32_t j = both; j-- > 0;) acc[j] = fn(sd_sh_tab(n), acc[len == 1 ? 0 : j], x[lx == 1 ? 0 : j]);
    len = both;
    if (!all_known(acc, len)) return;
  }
  sd_sh_set_elems(n, 0, acc, len);
}

static sard_status *broadcast_as(sd_node *n, sd_dtype t) {
  sd_dim dims[SD_MAX_RANK];
  int rank = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_bcast_operands(n, 0, n->n_in, dims, &rank));
  return sd_sh_set(n, 0, t == SD_DT_NONE ? n->in[0]->dtype : t, rank, dims);
}

static sard_status *arith(sd_node *n, dim_fn fn) {
  SD_TRY(broadcast_as(n, SD_DT_NONE));
  fold_elems(n, fn);
  return NULL;
}

// Symbols are dims, which are at least 0; a division by a symbol that is 0 is reported when its value is known.
static sd_dim div_dims(sd_dimtab *t, sd_dim a, sd_dim b) {
  int64_t x, y;
  if (sd_dim_is_const(t, a, &x) && sd_dim_is_const(t, b, &y))
    return y == 0 || (x == INT64_MIN && y == -1) ? SD_DIM_NONE : sd_dim_const(t, x / y);
  return nonnegative(t, a) && nonnegative(t, b) ? sd_dim_floordiv(t, a, b) : SD_DIM_NONE;
}

static sd_dim mod_dims(sd_dimtab *t, sd_dim a, sd_dim b) {
  return nonnegative(t, a) && nonnegative(t, b) && !sd_dim_is(t, b, 0) ? sd_dim_mod(t, a, b) : SD_DIM_NONE;
}

// Truth values are dims that are 0 or 1, so that a choice that is not decided yet is an expression too.
static sd_dim flag_dim(sd_dimtab *t, sd_dim positive) { // 1 where positive > 0
  return sd_dim_min(t, sd_dim_const(t, 1), sd_dim_max(t, sd_dim_const(t, 0), positive));
}
static sd_dim not_dim(sd_dimtab *t, sd_dim a) { return sd_dim_sub(t, sd_dim_const(t, 1), a); }
static sd_dim differ_dims(sd_dimtab *t, sd_dim a, sd_dim b) {
  int known = a == b ? 1 : sd_dim_eq(t, a, b);
  if (known >= 0) return sd_dim_const(t, !known);
  return flag_dim(t, sd_dim_max(t, sd_dim_sub(t, a, b), sd_dim_sub(t, b, a)));
}
static sd_dim less_dims(sd_dimtab *t, sd_dim a, sd_dim b) {
  int known = sd_dim_lt(t, a, b);
  return known >= 0 ? sd_dim_const(t, known) : flag_dim(t, sd_dim_sub(t, b, a));
}
static sd_dim equal_dims(sd_dimtab *t, sd_dim a, sd_dim b) { return not_dim(t, differ_dims(t, a, b)); }
static sd_dim greater_dims(sd_dimtab *t, sd_dim a, sd_dim b) { return less_dims(t, b, a); }
static sd_dim less_equal_dims(sd_dimtab *t, sd_dim a, sd_dim b) { return not_dim(t, less_dims(t, b, a)); }
static sd_dim greater_equal_dims(sd_dimtab *t, sd_dim a, sd_dim b) { return not_dim(t, less_dims(t, a, b)); }

// Bounds are scalars.
sard_status *sd_shape_clip(sd_node *n) {
  for (uint32_t i = 1; i < 3; i++) {
    SD_TRY(sd_sh_one(n, i));
    if (sd_sh_in(n, i) && sd_sh_in(n, i)->rank > n->in[0]->rank) return SD_SH_ERR(n, MODEL, "operand '%s' is no scalar", sd_sh_operand(n, i));
  }
  return sd_shape_same(n);
}

sard_status *sd_shape_add(sd_node *n) { return arith(n, sd_dim_add); }
sard_status *sd_shape_sub(sd_node *n) { return arith(n, sd_dim_sub); }
sard_status *sd_shape_mul(sd_node *n) { return arith(n, sd_dim_mul); }
sard_status *sd_shape_min(sd_node *n) { return arith(n, sd_dim_min); }
sard_status *sd_shape_max(sd_node *n) { return arith(n, sd_dim_max); }
sard_status *sd_shape_mod(sd_node *n) { return arith(n, mod_dims); }

// A quotient of floats is no dim in general: Floor, Ceil and Cast look through it (fractions).
sard_status *sd_shape_div(sd_node *n) {
  SD_TRY(broadcast_as(n, SD_DT_NONE));
  if (!sd_dtype_is_float(n->in[0]->dtype)) fold_elems(n, div_dims);
  return NULL;
}

static sard_status *compare(sd_node *n, dim_fn fn) {
  SD_TRY(broadcast_as(n, SD_BOOL));
  fold_elems(n, fn);
  return NULL;
}
sard_status *sd_shape_equal(sd_node *n) { return compare(n, equal_dims); }
sard_status *sd_shape_less(sd_node *n) { return compare(n, less_dims); }
sard_status *sd_shape_less_equal(sd_node *n) { return compare(n, less_equal_dims); }
sard_status *sd_shape_greater(sd_node *n) { return compare(n, greater_dims); }
sard_status *sd_shape_greater_equal(sd_node *n) { return compare(n, greater_equal_dims); }
sard_status *sd_shape_and(sd_node *n) { return compare(n, sd_dim_min); }
sard_status *sd_shape_or(sd_node *n) { return compare(n, sd_dim_max); }
sard_status *sd_shape_xor(sd_node *n) { return compare(n, differ_dims); }

// ---- one operand ----
typedef sd_dim (*dim_fn1)(sd_dimtab *t, sd_dim a);

static sard_status *unary(sd_node *n, sd_dtype dtype, dim_fn1 fn) {
  sd_dim e[SD_SH_ELEMS];
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  if (dtype == SD_DT_NONE) SD_TRY(sd_sh_like(n, 0, 0));
  else SD_TRY(sd_sh_set(n, 0, dtype, n->in[0]->rank, n->in[0]->dims));
  if (!fn || !sd_sh_try_elems(n, 0, e, SD_SH_ELEMS, &count)) return NULL;
  for (uint32_t i = 0; i < count; i++) e[i] = fn(sd_sh_tab(n), e[i]);
  sd_sh_set_elems(n, 0, e, count);
  return NULL;
}

static sd_dim neg_dim(sd_dimtab *t, sd_dim a) { return sd_dim_sub(t, sd_dim_const(t, 0), a); }
static sd_dim abs_dim(sd_dimtab *t, sd_dim a) { return nonnegative(t, a) ? a : sd_dim_max(t, a, neg_dim(t, a)); }
static sd_dim keep_dim(sd_dimtab *t, sd_dim a) { return (void)t, a; }
static sd_dim bool_dim(sd_dimtab *t, sd_dim a) { return differ_dims(t, a, sd_dim_const(t, 0)); }
// The square root where it is exact: exporters compute grid sizes of square images.
static sd_dim sqrt_dim(sd_dimtab *t, sd_dim a) {
  int64_t v, r = 0;
  if (!sd_dim_is_const(t, a, &v) || v < 0 || v > (1 << 30)) return SD_DIM_NONE;
  while ((r + 1) * (r + 1) <= v) r++;
  return r * r == v ? sd_dim_const(t, r) : SD_DIM_NONE;
}

sard_status *sd_shape_neg(sd_node *n) { return unary(n, SD_DT_NONE, neg_dim); }
sard_status *sd_shape_abs(sd_node *n) { return unary(n, SD_DT_NONE, abs_dim); }
sard_status *sd_shape_not(sd_node *n) { return unary(n, SD_BOOL, not_dim); }
sard_status *sd_shape_sqrt(sd_node *n) { return unary(n, SD_DT_NONE, sqrt_dim); }
sard_status *sd_shape_test(sd_node *n) { return unary(n, SD_BOOL, NULL); }
sard_status *sd_shape_identity(sd_node *n) { return unary(n, SD_DT_NONE, keep_dim); }

// ---- fractions ----
static bool const_fractions(sd_dimtab *t, const sd_value *v, fraction *out, uint32_t *out_n) {
  if (v->data->count > SD_SH_ELEMS || !sd_dtype_is_float(v->dtype)) return false;
  for (uint32_t i = 0; i < v->data->count; i++) {
    int64_t p = 0, q = 1;
    if (!sd_host_fraction(sd_dtype_get_f64(v->dtype, v->data->data, i), &p, &q)) return false;
    out[i] = (fraction){sd_dim_const(t, p), q};
  }
  *out_n = (uint32_t)v->data->count;
  return true;
}

static bool product_fraction(sd_dimtab *t, fraction *a, fraction b) {
  int64_t den;
  sd_dim num = sd_dim_mul(t, a->num, b.num);
  if (num == SD_DIM_NONE || !sd_ck_mul_i64(a->den, b.den, &den)) return false;
  *a = (fraction){num, den};
  return true;
}

// a / b, where b is a positive number.
static bool quotient_fraction(sd_dimtab *t, fraction *a, fraction b) {
  int64_t p;
  if (!sd_dim_is_const(t, b.num, &p) || p <= 0) return false;
  return product_fraction(t, a, (fraction){sd_dim_const(t, b.den), p});
}

static bool map_fractions(sd_dimtab *t, const sd_value *v, fraction *out, uint32_t *out_n, int depth);

static bool binary_fractions(sd_dimtab *t, const sd_node *d, fraction *out, uint32_t *out_n, int depth,
                             bool (*op)(sd_dimtab *, fraction *, fraction)) {
  fraction y[SD_SH_ELEMS];
  uint32_t la = 0, lb = 0;
  if (!map_fractions(t, d->in[0], out, &la, depth) || !map_fractions(t, d->in[1], y, &lb, depth)) return false;
  uint32_t len = la == 1 ? lb : la;
  if (lb != 1 && lb != len) return false;
  for (uint32_t i = len; i-- > 0;) {
    out[i] = out[la == 1 ? 0 : i];
    if (!op(t, &out[i], y[lb == 1 ? 0 : i])) return false;
  }
  *out_n = len;
  return true;
}

static bool map_fractions(sd_dimtab *t, const sd_value *v, fraction *out, uint32_t *out_n, int depth) {
  sd_dim e[SD_SH_ELEMS];
  if (!v || v->rank > 1 || v->rank < 0 || depth > 16) return false;
  if (v->data && sd_dtype_is_float(v->dtype)) return const_fractions(t, v, out, out_n);
  if (v->elems && v->n_elems <= SD_SH_ELEMS) {
    memcpy(e, v->elems, v->n_elems * sizeof *e);
    *out_n = v->n_elems;
  } else if (!v->data || !sd_value_elems(v, e, SD_SH_ELEMS, out_n)) {
    if (!v->def || v->out_index) return false;
    sd_shape_fn shape = v->def->op->shape;
    if (shape == sd_shape_mul) return binary_fractions(t, v->def, out, out_n, depth + 1, product_fraction);
    if (shape == sd_shape_div && sd_dtype_is_float(v->dtype))
      return binary_fractions(t, v->def, out, out_n, depth + 1, quotient_fraction);
    bool passes = shape == sd_shape_identity || shape == sd_shape_cast;
    return passes && sd_dtype_is_float(v->dtype) && map_fractions(t, v->def->in[0], out, out_n, depth + 1);
  }
  for (uint32_t i = 0; i < *out_n; i++) out[i] = (fraction){e[i], 1};
  return true;
}

enum rounding { ROUND_DOWN, ROUND_UP, ROUND_ZERO, ROUND_NEAREST };

static sd_dim round_fraction(sd_dimtab *t, fraction f, enum rounding how) {
  if (f.den == 1) return f.num;
  sd_dim den = sd_dim_const(t, f.den);
  if (how == ROUND_UP) return sd_dim_ceildiv(t, f.num, den);
  if (how == ROUND_ZERO && !nonnegative(t, f.num)) return SD_DIM_NONE;
  if (how != ROUND_NEAREST) return sd_dim_floordiv(t, f.num, den);
  int64_t v;
  if (f.den % 2 == 0 && !sd_dim_is_const(t, f.num, &v)) return SD_DIM_NONE; // half to even is no dim expression
  sd_dim twice = sd_dim_add(t, sd_dim_mul(t, f.num, sd_dim_const(t, 2)), den);
  return f.den % 2 ? sd_dim_floordiv(t, twice, sd_dim_const(t, 2 * f.den)) : SD_DIM_NONE;
}

static void round_elems(sd_node *n, enum rounding how) {
  fraction f[SD_SH_ELEMS];
  sd_dim e[SD_SH_ELEMS];
  uint32_t count = 0;
  if (n->out[0]->rank > 1 || !map_fractions(sd_sh_tab(n), n->in[0], f, &count, 0)) return;
  for (uint32_t i = 0; i < count; i++) e[i] = round_fraction(sd_sh_tab(n), f[i], how);
  sd_sh_set_elems(n, 0, e, count);
}

static sard_status *rounded(sd_node *n, enum rounding how) {
  SD_TRY(unary(n, SD_DT_NONE, NULL));
  round_elems(n, how);
  return NULL;
}
sard_status *sd_shape_floor(sd_node *n) { return rounded(n, ROUND_DOWN); }
sard_status *sd_shape_ceil(sd_node *n) { return rounded(n, ROUND_UP); }
sard_status *sd_shape_round(sd_node *n) { return rounded(n, ROUND_NEAREST); }

// ---- conversions ----
static sard_status *cast_to(sd_node *n, int64_t to) {
  sd_dtype t = (sd_dtype)to;
  if (!sd_dtype_of_tensors(to))
    return SD_SH_ERR(n, MODEL, "attribute 'to' is %lld, which is no element type", (long long)to);
  sd_dtype from = n->in[0]->dtype;
  sd_dtype_kind kf = sd_dtype_kind_of(from), kt = sd_dtype_kind_of(t);
  if (n->op->kind == SD_HOST) return sd_sh_set(n, 0, t, n->in[0]->rank, n->in[0]->dims); // sard.CastText
  if (kf == SD_DK_S || kt == SD_DK_S || kf == SD_DK_C || kt == SD_DK_C)
    return SD_SH_ERR(n, UNSUPPORTED, "conversion from %s to %s", sd_dtype_name(from), sd_dtype_name(t));
  const char *mode = sd_node_str(n, "round_mode", "up");
  if (t == SD_F8E8M0 && strcmp(mode, "up") && strcmp(mode, "down") && strcmp(mode, "nearest"))
    return SD_SH_ERR(n, MODEL, "round_mode is '%.40s', not up, down or nearest", mode);
  if (sd_dtype_is_float(from) && sd_dtype_is_int(t)) {
    SD_TRY(unary(n, t, NULL));
    round_elems(n, ROUND_ZERO);
    return NULL;
  }
  return unary(n, t, kt == SD_DK_B && kf != SD_DK_B ? bool_dim : keep_dim);
}

sard_status *sd_shape_cast(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  return cast_to(n, sd_node_int(n, "to", 0));
}

sard_status *sd_shape_cast_like(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 0, SD_MAX_RANK));
  return cast_to(n, n->in[1]->dtype);
}

sard_status *sd_shape_where(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], c[SD_SH_ELEMS], x[SD_SH_ELEMS], y[SD_SH_ELEMS], z[SD_SH_ELEMS];
  uint32_t lc, lx, ly, len = 1;
  int rank = 0;
  SD_TRY(sd_sh_rank(n, 1, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_bcast_operands(n, 0, 3, dims, &rank));
  SD_TRY(sd_sh_set(n, 0, n->in[1]->dtype, rank, dims));
  if (rank > 1 || !sd_sh_try_elems(n, 0, c, SD_SH_ELEMS, &lc) || !sd_sh_try_elems(n, 1, x, SD_SH_ELEMS, &lx) ||
      !sd_sh_try_elems(n, 2, y, SD_SH_ELEMS, &ly))
    return NULL;
  if (lc != 1) len = lc;
  if (lx != 1) len = lx;
  if (ly != 1) len = ly;
  for (uint32_t i = 0; i < len; i++) {
    sd_dimtab *t = sd_sh_tab(n);
    sd_dim yes = x[lx == 1 ? 0 : i], no = y[ly == 1 ? 0 : i];
    z[i] = sd_dim_add(t, no, sd_dim_mul(t, c[lc == 1 ? 0 : i], sd_dim_sub(t, yes, no)));
  }
  sd_sh_set_elems(n, 0, z, len);
  return NULL;
}

sard_status *sd_shape_noise(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  return sd_sh_set(n, 0, SD_F64, n->in[0]->rank, n->in[0]->dims);
}

static bool never_trains(const sd_node *n) {
  int64_t training = 1;
  sd_dim e[1];
  uint32_t count = 0;
  if (!sd_sh_in(n, 2)) return true;
  return sd_sh_try_elems(n, 2, e, 1, &count) && count == 1 && sd_dim_is_const(sd_sh_tab(n), e[0], &training) && !training;
}

static sard_status *add_noise(sd_node *n) {
  sd_value *in[4] = {n->in[0], n->in[1], n->in[2], NULL}, *of[2] = {in[0], in[2]};
  sd_node *noise = sd_node_new(n->graph, n, sd_op_find("sard.Noise"), of, 2, 1);
  sd_node_set_int(noise, "seed", sd_node_int(n, "seed", 0));
  noise->name = n->name, noise->onnx_index = n->onnx_index;
  in[3] = noise->out[0];
  for (uint32_t i = 0; i < n->n_in; i++) sd_node_set_input(n, i, NULL);
  n->in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, 4), n->n_in = 4;
  for (uint32_t i = 0; i < 4; i++) sd_node_set_input(n, i, in[i]);
  return sd_node_infer(noise);
}

sard_status *sd_shape_dropout(sd_node *n) {
  SD_TRY(sd_sh_like(n, 0, 0));
  SD_TRY(sd_sh_set(n, 1, SD_BOOL, n->in[0]->rank, n->in[0]->dims));
  for (uint32_t i = 1; i < 3; i++)
    if (sd_sh_in(n, i)) {
      SD_TRY(sd_sh_rank(n, i, 0, 1));
      if (n->in[i]->rank) SD_TRY(sd_sh_same(n, n->in[i]->dims[0], sd_dim_const(sd_sh_tab(n), 1), "a number", NULL));
    }
  if (!sd_sh_in(n, 3)) return never_trains(n) ? NULL : add_noise(n);
  SD_TRY(sd_sh_rank(n, 3, n->in[0]->rank, n->in[0]->rank));
  for (int d = 0; d < n->in[0]->rank; d++) SD_TRY(sd_sh_same(n, n->in[3]->dims[d], n->in[0]->dims[d], "noise", NULL));
  return NULL;
}

// ---- bodies ----
static sd_expr *load_scalar(sd_tb *b, const sd_node *n, uint32_t operand) {
  sd_expr *zero[1] = {x_int(b, 0)};
  return sd_tb_load(b, n, operand, zero);
}

// In training elements stay where a random number is not below the ratio, and are scaled so that their sum is expected to stay.
sd_expr *sd_pull_dropout(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *all = sd_x_i(b->k, SD_BOOL, 1), *x = out ? NULL : sd_tb_load(b, n, 0, idx);
  if (!sd_tb_has(n, 2) || !sd_tb_has(n, 3)) return out ? all : x;
  sd_expr *training = x_cast(b, SD_BOOL, load_scalar(b, n, 2)), *noise = sd_tb_load(b, n, 3, idx);
  sd_expr *ratio = sd_tb_has(n, 1) ? x_cast(b, SD_F64, load_scalar(b, n, 1)) : sd_x_f(b->k, SD_F64, 0.5);
  sd_expr *stays = x_bin(b, SD_X_LE, ratio, x_cast(b, SD_F64, noise));
  if (out) return x_sel(b, training, stays, all);
  if (!x || !ratio) return NULL;
  sd_expr *scaled = x_div(b, x, x_cast(b, x->dtype, x_sub(b, x_num(b, ratio, 1), ratio)));
  return x_sel(b, training, x_sel(b, stays, scaled, x_num(b, x, 0)), x);
}

// fmod of floats with the sign brought to that of b: a - floor(a/b)*b would lose infinite b.
sd_expr *sd_pull_mod(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_kernel *k = b->k;
  sd_expr *x = sd_tb_load_bcast(b, n, 0, idx, n->out[out]->rank), *y = sd_tb_load_bcast(b, n, 1, idx, n->out[out]->rank);
  bool truncate = sd_node_int(n, "fmod", 0) != 0, floats = x && sd_dtype_is_float(x->dtype);
  if (!x || !y) return NULL;
  if (!floats) return sd_x_bin(k, truncate ? SD_X_FMOD : SD_X_MOD, x, y);
  sd_expr *r = sd_x_bin(k, SD_X_FMOD, x, y), *zero = sd_x_f(k, r->dtype, 0), *minus = sd_x_f(k, r->dtype, -0.0);
  if (truncate) return r;
  sd_expr *below = sd_x_bin(k, SD_X_LT, y, zero);
  sd_expr *differ = sd_x_bin(k, SD_X_XOR, sd_x_bin(k, SD_X_LT, r, zero), below);
  sd_expr *moved = sd_x_sel(k, differ, sd_x_bin(k, SD_X_ADD, r, y), r);
  return sd_x_sel(k, sd_x_bin(k, SD_X_EQ, r, zero), sd_x_sel(k, below, minus, zero), moved);
}

// Integers to integers by multiplication; to floats in f64, and back by truncation: the function's last digit may be
// wrong, and must not take 1 off a whole result.
sd_expr *sd_pull_pow(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_kernel *k = b->k;
  int rank = n->out[out]->rank;
  sd_expr *x = sd_tb_load_bcast(b, n, 0, idx, rank), *y = sd_tb_load_bcast(b, n, 1, idx, rank);
  if (!x || !y) return NULL;
  sd_dtype t = x->dtype;
  bool wide = sd_dtype_bits(y->dtype) > sd_dtype_bits(t);
  if (sd_dtype_is_float(t)) {
    sd_dtype ct = sd_dtype_is_float(y->dtype) && wide ? y->dtype : t;
    return sd_x_cast(k, t, sd_x_bin(k, SD_X_POW, sd_x_cast(k, ct, x), sd_x_cast(k, ct, y)));
  }
  if (!sd_dtype_is_float(y->dtype)) {
    sd_dtype ct = sd_dtype_kind_of(y->dtype) == SD_DK_I || wide ? SD_I64 : t; // the sign of y counts
    return sd_x_cast(k, t, sd_x_bin(k, SD_X_POW, sd_x_cast(k, ct, x), sd_x_cast(k, ct, y)));
  }
  sd_expr *r = sd_x_bin(k, SD_X_POW, sd_x_cast(k, SD_F64, x), sd_x_cast(k, SD_F64, y));
  return sd_x_cast(k, t, sd_x_bin(k, SD_X_MUL, r, sd_x_f(k, SD_F64, 1 + 0x1p-44)));
}

// In f32 for integers too, as bias and lambd are floats.
sd_expr *sd_pull_shrink(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_kernel *k = b->k;
  sd_expr *x = sd_tb_load(b, n, 0, idx);
  if (!x) return NULL;
  sd_dtype ct = x->dtype, ft = ct == SD_F64 ? SD_F64 : SD_F32;
  x = sd_x_cast(k, ft, x);
  sd_expr *bias = sd_x_f(k, ft, sd_node_float(n, "bias", 0)), *zero = sd_x_f(k, ft, 0);
  double lambd = sd_node_float(n, "lambd", 0.5f);
  sd_expr *low = sd_x_bin(k, SD_X_LT, x, sd_x_f(k, ft, -lambd));
  sd_expr *high = sd_x_bin(k, SD_X_LT, sd_x_f(k, ft, lambd), x);
  sd_expr *r = sd_x_sel(k, high, sd_x_bin(k, SD_X_SUB, x, bias), zero);
  return sd_x_cast(k, ct, sd_x_sel(k, low, sd_x_bin(k, SD_X_ADD, x, bias), r));
}
