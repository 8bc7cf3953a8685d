// Index arithmetic: the canonical affine form of I64 expressions, proven bounds, division and remainder by dims.
//
// An AFFINE is dim + sum of coef[i]*a[i] with distinct non-affine atoms in a fixed order. Division by d takes out the
// terms that d divides exactly; what remains vanishes when its bounds lie within one period. Remainders and quotients
// of the same value recombine (d*(x/d) + x%d = x), which is what makes reshapes of reshapes disappear.
//
// A symbolic divisor is taken as positive: where a dim is 0 the tensors that it sizes have no elements, so no code
// that divides by it runs.
#include <string.h>

#include "ir/tile_priv.h"

#define MAX_TERMS 48
#define MAX_NESTING 12

typedef struct aff {
  uint32_t n;
  sd_expr *a[MAX_TERMS];
  sd_dim c[MAX_TERMS];
  sd_dim k;
} aff;

bool sd_tile_atom_before(const sd_expr *x, const sd_expr *y) {
  if ((x->op == SD_X_AXIS) != (y->op == SD_X_AXIS)) return x->op == SD_X_AXIS;
  if (x->op == SD_X_AXIS && x->axis != y->axis) return x->axis->id < y->axis->id;
  return x->id < y->id;
}

// ---- dims ----
static bool known_ge(sd_kernel *k, sd_dim x, sd_dim y) { // proven x >= y
  if (x == SD_DIM_NONE || y == SD_DIM_NONE) return false;
  if (x == y) return true;
  sd_dim d = sd_dim_sub(k->dims, x, y);
  if (d != SD_DIM_NONE && sd_dim_get(k->dims, d)->min >= 0) return true;
  return sd_dim_lt(k->dims, x, y) == 0;
}
static bool known_gt(sd_kernel *k, sd_dim x, sd_dim y) {
  if (x == SD_DIM_NONE || y == SD_DIM_NONE) return false;
  sd_dim d = sd_dim_sub(k->dims, x, y);
  if (d != SD_DIM_NONE && sd_dim_get(k->dims, d)->min >= 1) return true;
  return sd_dim_lt(k->dims, y, x) == 1;
}
static sd_dim dim_c(sd_kernel *k, int64_t v) { return sd_dim_const(k->dims, v); }

static bool dim_exact(sd_kernel *k, sd_dim c, sd_dim d, sd_dim *q) {
  int64_t cv = 0, dv = 0;
  if (c == SD_DIM_NONE || d == SD_DIM_NONE) return false;
  if (sd_dim_is_const(k->dims, d, &dv) && sd_dim_is_const(k->dims, c, &cv)) {
    if (!dv || cv % dv) return false;
    *q = dim_c(k, cv / dv);
    return true;
  }
  if (sd_dim_is(k->dims, c, 0)) { *q = c; return true; }
  if (dv == 0 && sd_dim_is_const(k->dims, c, &cv) && cv > -2 && cv < 2) return false; // 1 / N
  *q = sd_dim_floordiv(k->dims, c, d);
  return *q != SD_DIM_NONE && sd_dim_mul(k->dims, *q, d) == c;
}

static int64_t floor_i64(int64_t x, int64_t y) { return x / y - (x % y != 0 && (x < 0) != (y < 0)); }

// c = q*d + r, taking out what divides term by term.
static void dim_split(sd_kernel *k, sd_dim c, sd_dim d, sd_dim *q, sd_dim *r) {
  int64_t cv = 0, dv = 0;
  bool d_const = sd_dim_is_const(k->dims, d, &dv) && dv > 0;
  *q = dim_c(k, 0);
  *r = c;
  if (dim_exact(k, c, d, q)) { *r = dim_c(k, 0); return; }
  *q = dim_c(k, 0);
  if (sd_dim_is_const(k->dims, c, &cv)) {
    if (!d_const) return;
    *q = dim_c(k, floor_i64(cv, dv));
    *r = dim_c(k, cv - floor_i64(cv, dv) * dv);
    return;
  }
  sd_dimnode s = *sd_dim_get(k->dims, c);
  if (s.op != SD_DIM_SUM) return;
  sd_dim quotient = d_const ? dim_c(k, floor_i64(s.value, dv)) : *q;
  for (uint32_t i = 0; i < s.n; i++) {
    sd_dim t = sd_dim_mul(k->dims, s.args[i], dim_c(k, s.coef[i])), part;
    if (dim_exact(k, t, d, &part)) quotient = sd_dim_add(k->dims, quotient, part);
  }
  sd_dim rest = quotient == SD_DIM_NONE ? quotient : sd_dim_sub(k->dims, c, sd_dim_mul(k->dims, quotient, d));
  if (rest == SD_DIM_NONE) return;
  *q = quotient;
  *r = rest;
}

// ---- forms ----
static void aff_dim(aff *o, sd_dim d) { o->n = 0; o->k = d; }

static bool aff_term(sd_kernel *k, aff *o, sd_expr *atom, sd_dim c) {
  uint32_t i = 0;
  while (i < o->n && o->a[i] != atom && sd_tile_atom_before(o->a[i], atom)) i++;
  if (i < o->n && o->a[i] == atom) {
    o->c[i] = sd_dim_add(k->dims, o->c[i], c);
    if (!sd_dim_is(k->dims, o->c[i], 0)) return o->c[i] != SD_DIM_NONE;
    o->n--;
    memmove(o->a + i, o->a + i + 1, (o->n - i) * sizeof *o->a);
    memmove(o->c + i, o->c + i + 1, (o->n - i) * sizeof *o->c);
    return true;
  }
  if (sd_dim_is(k->dims, c, 0)) return true;
  if (o->n == MAX_TERMS || c == SD_DIM_NONE) return false;
  memmove(o->a + i + 1, o->a + i, (o->n - i) * sizeof *o->a);
  memmove(o->c + i + 1, o->c + i, (o->n - i) * sizeof *o->c);
  o->a[i] = atom;
  o->c[i] = c;
  o->n++;
  return true;
}

static bool aff_add(sd_kernel *k, aff *o, sd_expr *e, sd_dim f) { // o += f*e
  if (f == SD_DIM_NONE || o->k == SD_DIM_NONE) return false;
  if (e->op != SD_X_AFFINE) return aff_term(k, o, e, f);
  o->k = sd_dim_add(k->dims, o->k, sd_dim_mul(k->dims, e->dim, f));
  if (o->k == SD_DIM_NONE) return false;
  for (uint32_t i = 0; i < e->n; i++) {
    if (!aff_term(k, o, e->a[i], sd_dim_mul(k->dims, e->coef[i], f))) return false;
  }
  return true;
}

static sd_expr *aff_node(sd_kernel *k, const aff *o) {
  if (o->n == 1 && sd_dim_is(k->dims, o->c[0], 1) && sd_dim_is(k->dims, o->k, 0)) return o->a[0];
  sd_expr proto = {.op = SD_X_AFFINE, .dtype = SD_I64, .n = o->n, .a = (sd_expr **)o->a, .coef = o->c, .dim = o->k};
  return sd_tile_intern(k, &proto);
}

static bool div_or_mod(const sd_expr *e, sd_xop op, sd_dim *d) {
  return e->op == op && e->dtype == SD_I64 && sd_tile_is_dim(e->a[1], d);
}

// o without terms i and j, plus f*e.
static bool aff_replace(sd_kernel *k, aff *o, uint32_t i, uint32_t j, sd_expr *e, sd_dim f) {
  aff r = {.k = o->k};
  for (uint32_t t = 0; t < o->n; t++) {
    if (t != i && t != j && !aff_term(k, &r, o->a[t], o->c[t])) return false;
  }
  if (!e || !aff_add(k, &r, e, f)) return false;
  *o = r;
  return true;
}

// The rest of y after taking out one FLOORDIV(x, d) with coefficient 1: y = out + x/d.
static bool quotient_inside(sd_kernel *k, sd_expr *y, const sd_expr *x, sd_dim d, sd_expr **out) {
  aff f;
  aff_dim(&f, dim_c(k, 0));
  if (!aff_add(k, &f, y, dim_c(k, 1))) return false;
  for (uint32_t i = 0; i < f.n; i++) {
    sd_dim e;
    if (!div_or_mod(f.a[i], SD_X_FLOORDIV, &e) || e != d || f.a[i]->a[0] != x || !sd_dim_is(k->dims, f.c[i],
        1)) continue;
    if (!aff_replace(k, &f, i, i, sd_x_dim(k, dim_c(k, 0)), dim_c(k, 1))) return false;
    *out = aff_node(k, &f);
    return true;
  }
  return false;
}

// One recombination: c*d*(x/d) + c*(x%d) = c*x, and c*d*((q + x/d) % e) + c*(x%d) = c*((q*d + x) % (e*d)).
static bool recombine_once(sd_kernel *k, aff *o) {
  for (uint32_t i = 0; i < o->n; i++) {
    sd_dim d, e;
    if (!div_or_mod(o->a[i], SD_X_MOD, &d)) continue;
    sd_expr *x = o->a[i]->a[0], *rest;
    sd_dim cd = sd_dim_mul(k->dims, o->c[i], d), c = o->c[i];
    for (uint32_t j = 0; j < o->n; j++) {
      if (j == i || o->c[j] != cd) continue;
      if (div_or_mod(o->a[j], SD_X_FLOORDIV, &e)) { // x/d itself, or the form that it was simplified to
        if ((e == d && o->a[j]->a[0] == x) || sd_tile_affine_div(k, x, d) == o->a[j])
          return aff_replace(k, o, i, j, x, c);
        continue;
      }
      if (!div_or_mod(o->a[j], SD_X_MOD, &e) || !quotient_inside(k, o->a[j]->a[0], x, d, &rest)) continue;
      sd_dim coefs[2] = {d, dim_c(k, 1)}, m = sd_dim_mul(k->dims, e, d);
      sd_expr *parts[2] = {rest, x};
      sd_expr *whole = sd_tile_affine_sum(k, 2, parts, coefs, dim_c(k, 0));
      if (!whole || m == SD_DIM_NONE) continue;
      return aff_replace(k, o, i, j, sd_x_bin(k, SD_X_MOD, whole, sd_x_dim(k, m)), c);
    }
  }
  return false;
}

static sd_expr *aff_expr(sd_kernel *k, aff *o) {
  if (o->n > 1 && k->nesting < MAX_NESTING) {
    k->nesting++;
    for (int turn = 0; turn < 8; turn++) {
      aff saved = *o;
      if (recombine_once(k, o)) continue;
      *o = saved;
      break;
    }
    k->nesting--;
  }
  return aff_node(k, o);
}

sd_expr *sd_tile_affine_sum(sd_kernel *k, uint32_t n, sd_expr *const *a, const sd_dim *coef, sd_dim c) {
  aff o;
  aff_dim(&o, c);
  if (c == SD_DIM_NONE) return NULL;
  for (uint32_t i = 0; i < n; i++) {
    if (!aff_add(k, &o, a[i], coef[i])) return NULL;
  }
  return aff_expr(k, &o);
}

sd_expr *sd_tile_affine_add(sd_kernel *k, sd_expr *x, sd_expr *y, int sign) {
  sd_expr *a[2] = {x, y};
  sd_dim c[2] = {dim_c(k, 1), dim_c(k, sign)};
  return sd_tile_affine_sum(k, 2, a, c, dim_c(k, 0));
}

sd_expr *sd_tile_affine_scale(sd_kernel *k, sd_expr *x, sd_dim d) {
  return sd_tile_affine_sum(k, 1, &x, &d, dim_c(k, 0));
}

// ---- bounds ----
static void bound_pair(sd_kernel *k, sd_expr *e);

static void bound_affine(sd_kernel *k, sd_expr *e) {
  sd_dim lo = e->dim, hi = e->dim;
  for (uint32_t i = 0; i < e->n && (lo != SD_DIM_NONE || hi != SD_DIM_NONE); i++) {
    sd_expr *a = e->a[i];
    bound_pair(k, a);
    sd_dimnode c = *sd_dim_get(k->dims, e->coef[i]);
    sd_dim l = SD_DIM_NONE, h = SD_DIM_NONE;
    if (c.min >= 0) l = a->lo, h = a->hi;
    else if (c.max <= 0) l = a->hi, h = a->lo;
    lo = l && lo ? sd_dim_add(k->dims, lo, sd_dim_mul(k->dims, l, e->coef[i])) : SD_DIM_NONE;
    hi = h && hi ? sd_dim_add(k->dims, hi, sd_dim_mul(k->dims, h, e->coef[i])) : SD_DIM_NONE;
  }
  e->lo = lo;
  e->hi = hi;
}

static void bound_minmax(sd_kernel *k, sd_expr *e) {
  sd_expr *x = e->a[0], *y = e->a[1];
  bound_pair(k, x);
  bound_pair(k, y);
  bool is_min = e->op == SD_X_MIN;
  sd_dim (*f)(sd_dimtab *, sd_dim, sd_dim) = is_min ? sd_dim_min : sd_dim_max;
  if (x->lo && y->lo) e->lo = f(k->dims, x->lo, y->lo);
  else if (!is_min) e->lo = x->lo ? x->lo : y->lo;
  if (x->hi && y->hi) e->hi = f(k->dims, x->hi, y->hi);
  else if (is_min) e->hi = x->hi ? x->hi : y->hi;
}

static void bound_cast(sd_kernel *k, sd_expr *e) {
  sd_dtype t = e->a[0]->dtype;
  int bits = t == SD_BOOL ? 1 : sd_dtype_bits(t);
  bool u = sd_dtype_kind_of(t) != SD_DK_I;
  if (sd_dtype_is_float(t) || bits > 32) return;
  e->lo = dim_c(k, u ? 0 : -(INT64_C(1) << (bits - 1)));
  e->hi = dim_c(k, (INT64_C(1) << (u ? bits : bits - 1)) - 1);
}

static void bound_divmod(sd_kernel *k, sd_expr *e) {
  sd_dim d;
  if (!sd_tile_is_dim(e->a[1], &d) || d == SD_DIM_NONE) return;
  sd_dimnode n = *sd_dim_get(k->dims, d);
  if (n.min < 0 || n.max == 0) return;
  if (e->op == SD_X_MOD) {
    e->lo = dim_c(k, 0);
    e->hi = sd_dim_sub(k->dims, d, dim_c(k, 1));
    return;
  }
  bound_pair(k, e->a[0]);
  if (e->a[0]->lo) e->lo = sd_dim_floordiv(k->dims, e->a[0]->lo, d);
  if (e->a[0]->hi) e->hi = sd_dim_floordiv(k->dims, e->a[0]->hi, d);
}

static void bound_pair(sd_kernel *k, sd_expr *e) {
  if (e->bounded) return;
  e->bounded = true;
  e->lo = e->hi = SD_DIM_NONE;
  if (e->dtype != SD_I64) return;
  switch (e->op) {
  case SD_X_AFFINE: bound_affine(k, e); return;
  case SD_X_CONST: e->lo = e->hi = dim_c(k, e->i); return;
  case SD_X_AXIS:
    e->lo = dim_c(k, 0);
    e->hi = sd_dim_sub(k->dims, e->axis->extent, dim_c(k, 1));
    return;
  case SD_X_INDEX:
    if (!sd_tile_is_dim(e->a[1], &e->hi)) return;
    e->lo = dim_c(k, 0);
    e->hi = sd_dim_sub(k->dims, e->hi, dim_c(k, 1));
    return;
  case SD_X_FLOORDIV: case SD_X_MOD: bound_divmod(k, e); return;
  case SD_X_MIN: case SD_X_MAX: bound_minmax(k, e); return;
  case SD_X_CAST: bound_cast(k, e); return;
  case SD_X_SEL:
    bound_pair(k, e->a[1]);
    bound_pair(k, e->a[2]);
    if (e->a[1]->lo && e->a[2]->lo) e->lo = sd_dim_min(k->dims, e->a[1]->lo, e->a[2]->lo);
    if (e->a[1]->hi && e->a[2]->hi) e->hi = sd_dim_max(k->dims, e->a[1]->hi, e->a[2]->hi);
    return;
  default: return;
  }
}

bool sd_x_bounds(sd_kernel *k, const sd_expr *e, sd_dim *out_min, sd_dim *out_max) {
  bound_pair(k, (sd_expr *)e); // a cache inside the node
  if (out_min) *out_min = e->lo;
  if (out_max) *out_max = e->hi;
  return e->lo != SD_DIM_NONE && e->hi != SD_DIM_NONE;
}

int sd_tile_decide_lt(sd_kernel *k, sd_expr *x, sd_expr *y) {
  if (!sd_x_bounds(k, x, NULL, NULL) || !sd_x_bounds(k, y, NULL, NULL)) return -1;
  sd_expr *d = sd_tile_affine_add(k, x, y, -1);
  sd_dim lo, hi;
  if (!d) return -1;
  sd_x_bounds(k, d, &lo, &hi);
  if (hi && known_gt(k, dim_c(k, 0), hi)) return 1;
  if (lo && known_ge(k, lo, dim_c(k, 0))) return 0;
  return -1;
}

// ---- division ----
static sd_expr *raw_divmod(sd_kernel *k, sd_xop op, sd_expr *x, sd_dim d) {
  sd_expr *a[2] = {x, sd_x_dim(k, d)};
  return sd_tile_raw(k, op, SD_I64, a, 2);
}

// x = q*d + r by exact division of terms. Only bounded atoms are touched: loaded data might wrap around.
static bool split_by(sd_kernel *k, const aff *x, sd_dim d, aff *q, aff *r) {
  aff_dim(q, dim_c(k, 0));
  aff_dim(r, dim_c(k, 0));
  dim_split(k, x->k, d, &q->k, &r->k);
  for (uint32_t i = 0; i < x->n; i++) {
    sd_dim part;
    bool exact = sd_x_bounds(k, x->a[i], NULL, NULL) && dim_exact(k, x->c[i], d, &part);
    if (!aff_term(k, exact ? q : r, x->a[i], exact ? part : x->c[i])) return false;
  }
  return true;
}

// True when floor(x/d) is one number for all values of x.
static bool one_period(sd_kernel *k, sd_expr *x, sd_dim d, int64_t *t) {
  sd_dim lo, hi;
  if (!sd_x_bounds(k, x, &lo, &hi)) return false;
  int64_t l, h, v;
  if (sd_dim_is_const(k->dims, d, &v) && sd_dim_is_const(k->dims, lo, &l) && sd_dim_is_const(k->dims, hi, &h)) {
    *t = floor_i64(l, v);
    return *t == floor_i64(h, v);
  }
  for (*t = -1; *t <= 1; ++*t) {
    sd_dim base = sd_dim_mul(k->dims, d, dim_c(k, *t));
    if (known_ge(k, lo, base) && known_gt(k, sd_dim_add(k->dims, base, d), hi)) return true;
  }
  return false;
}

static int64_t gcd_i64(int64_t x, int64_t y) {
  for (x = x < 0 ? -x : x; y;) { int64_t t = x % y; x = y; y = t; }
  return x;
}

// A common factor g of d and of some terms of r such that the other terms stay within [0, g): r = g*y + z, d = g*e.
static bool factor_out(sd_kernel *k, const aff *r, sd_dim d, sd_dim *g, sd_dim *e, aff *y, aff *z) {
  int64_t dv = 0, cv, t;
  bool d_const = sd_dim_is_const(k->dims, d, &dv);
  for (uint32_t i = 0; i < r->n; i++) {
    if (sd_dim_is_const(k->dims, r->c[i], &cv)) *g = dim_c(k, d_const ? gcd_i64(cv, dv) : cv < 0 ? -cv : cv);
    else *g = r->c[i];
    if (sd_dim_is(k->dims, *g, 1) || *g == d || sd_dim_get(k->dims, *g)->min < 0 || !dim_exact(k, d, *g, e)) continue;
    if (!split_by(k, r, *g, y, z)) continue;
    if (one_period(k, aff_node(k, z), *g, &t) && t == 0) return true;
  }
  return false;
}

// For the remainder: c*(y % m) becomes c*y where d divides m.
static bool drop_inner_mod(sd_kernel *k, const aff *r, sd_dim d, aff *out) {
  bool any = false;
  aff_dim(out, r->k);
  for (uint32_t i = 0; i < r->n; i++) {
    sd_dim m, q;
    if (div_or_mod(r->a[i], SD_X_MOD, &m) && dim_exact(k, m, d, &q) && sd_x_bounds(k, r->a[i]->a[0], NULL, NULL)) {
      if (!aff_add(k, out, r->a[i]->a[0], r->c[i])) return false;
      any = true;
    } else if (!aff_term(k, out, r->a[i], r->c[i])) {
      return false;
    }
  }
  return any;
}

// (y/a + c) / d = (y + c*a) / (a*d)
static sd_expr *nested_quotient(sd_kernel *k, const aff *r, sd_dim d) {
  sd_dim a;
  if (r->n != 1 || !sd_dim_is(k->dims, r->c[0], 1) || !div_or_mod(r->a[0], SD_X_FLOORDIV, &a)) return NULL;
  sd_expr *y = r->a[0]->a[0];
  sd_dim ad = sd_dim_mul(k->dims, a, d), shift = sd_dim_mul(k->dims, r->k, a), one = dim_c(k, 1);
  if (sd_dim_get(k->dims, a)->min < 0 || ad == SD_DIM_NONE || shift == SD_DIM_NONE) return NULL;
  sd_expr *x = sd_tile_affine_sum(k, 1, &y, &one, shift);
  return x ? sd_tile_affine_div(k, x, ad) : NULL;
}

static sd_expr *rest_divmod(sd_kernel *k, const aff *r, sd_dim d, bool mod) {
  aff y, z;
  sd_dim g, e;
  if (factor_out(k, r, d, &g, &e, &y, &z)) {
    sd_expr *ye = aff_expr(k, &y), *part = mod ? sd_tile_affine_mod(k, ye, e) : sd_tile_affine_div(k, ye, e);
    if (!part || !mod) return part;
    return aff_add(k, &z, part, g) ? aff_expr(k, &z) : NULL;
  }
  if (mod && drop_inner_mod(k, r, d, &y)) return sd_tile_affine_mod(k, aff_expr(k, &y), d);
  sd_expr *nested = mod ? NULL : nested_quotient(k, r, d);
  aff copy = *r;
  return nested ? nested : raw_divmod(k, mod ? SD_X_MOD : SD_X_FLOORDIV, aff_expr(k, &copy), d);
}

static sd_expr *divmod(sd_kernel *k, sd_expr *e, sd_dim d, bool mod) {
  if (d == SD_DIM_NONE) return NULL;
  sd_dimnode dn = *sd_dim_get(k->dims, d);
  if (dn.op == SD_DIM_CONST && dn.value == 1) return mod ? sd_x_dim(k, dim_c(k, 0)) : e;
  if (dn.min < 0 || dn.max <= 0 || k->nesting >= MAX_NESTING)
    return raw_divmod(k, mod ? SD_X_MOD : SD_X_FLOORDIV, e, d);
  aff x, q, r;
  int64_t t;
  aff_dim(&x, dim_c(k, 0));
  if (!aff_add(k, &x, e, dim_c(k, 1)) || !split_by(k, &x, d, &q, &r)) return NULL;
  sd_expr *rest = aff_node(k, &r);
  if (one_period(k, rest, d, &t)) {
    if (!mod) return aff_add(k, &q, sd_x_dim(k, dim_c(k, t)), dim_c(k, 1)) ? aff_expr(k, &q) : NULL;
    r.k = sd_dim_sub(k->dims, r.k, sd_dim_mul(k->dims, d, dim_c(k, t)));
    return r.k == SD_DIM_NONE ? NULL : aff_expr(k, &r);
  }
  for (uint32_t i = 0; i < x.n; i++) { // unbounded data: leave it whole
    if (!sd_x_bounds(k, x.a[i], NULL, NULL)) return raw_divmod(k, mod ? SD_X_MOD : SD_X_FLOORDIV, e, d);
  }
  k->nesting++;
  sd_expr *part = rest_divmod(k, &r, d, mod);
  k->nesting--;
  if (!part || mod) return part;
  return aff_add(k, &q, part, dim_c(k, 1)) ? aff_expr(k, &q) : NULL;
}

sd_expr *sd_tile_affine_div(sd_kernel *k, sd_expr *x, sd_dim d) { return divmod(k, x, d, false); }
sd_expr *sd_tile_affine_mod(sd_kernel *k, sd_expr *x, sd_dim d) { return divmod(k, x, d, true); }

// ---- queries ----
bool sd_x_coef(sd_kernel *k, const sd_expr *e, const sd_axis *a, sd_dim *out) {
  *out = dim_c(k, 0);
  if (e->op == SD_X_AXIS) {
    if (e->axis == a) *out = dim_c(k, 1);
    return true;
  }
  if (e->op != SD_X_AFFINE) return !sd_x_uses_axis(e, a);
  for (uint32_t i = 0; i < e->n; i++) {
    if (e->a[i]->op == SD_X_AXIS) {
      if (e->a[i]->axis == a) *out = e->coef[i];
    } else if (sd_x_uses_axis(e->a[i], a)) {
      return false;
    }
  }
  return true;
}
