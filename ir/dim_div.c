// Dims: the non-linear operations. Division pulls out what divides exactly, cancels common factors and uses bounds.
#include "ir/dim_internal.h"

static int64_t floor_mod(int64_t a, int64_t b) { // b > 0
  return a % b < 0 ? a % b + b : a % b;
}

static sd_dim atom2(sd_dimtab *t, sd_dimop op, sd_dim a, sd_dim b) {
  sd_dim args[2] = {a, b};
  if (!a || !b) return SD_DIM_NONE;
  sd_dim d = sd_dim_intern(t, op, 0, NULL, 2, args, NULL);
  const sd_dimnode *x = sd_dim_get(t, d);
  bool known = x && x->min == x->max && x->min != DIM_NEG_INF && x->min != DIM_POS_INF;
  return known ? sd_dim_const(t, x->min) : d;
}

static bool is_below(const sd_dimtab *t, sd_dim a, sd_dim b) { // 0 <= a < b always
  return a && b && sd_dim_get(t, a)->min >= 0 && sd_dim_lt(t, a, b) == 1;
}

static int64_t poly_content(const dim_poly *p) { // gcd of the coefficients of the terms
  int64_t g = 0;
  for (uint32_t i = 0; i < p->n; i++) g = sd_dim_gcd(g, p->t[i].coef);
  return g;
}

// ---- floordiv by a constant ----

// floordiv(x,c)+k over b is floordiv(x + k*c, c*b): merges chains of strided windows.
static bool merge_nested(sd_dimtab *t, const dim_poly *r, int64_t b, sd_dim *out) {
  if (r->n != 1 || r->t[0].coef != 1) return false;
  const sd_dimnode *x = sd_dim_get(t, r->t[0].mono);
  int64_t c, cb, k;
  if (x->op != SD_DIM_FLOORDIV || !sd_dim_is_const(t, x->args[1], &c) || c <= 0) return false;
  if (__builtin_mul_overflow(c, b, &cb) || __builtin_mul_overflow(r->c, c, &k)) return false;
  sd_dim num = sd_dim_add(t, x->args[0], sd_dim_const(t, k));
  if (!num) return false;
  *out = sd_dim_floordiv(t, num, sd_dim_const(t, cb));
  return *out != SD_DIM_NONE;
}

// r / b with coefficients of r already reduced to [0, b).
static sd_dim floordiv_rest(sd_dimtab *t, dim_poly *r, int64_t b) {
  int64_t g = sd_dim_gcd(poly_content(r), b), min, max;
  if (g > 1) { // floor((g*x + c) / (g*m)) = floor((x + floor(c/g)) / m)
    for (uint32_t i = 0; i < r->n; i++) r->t[i].coef /= g;
    r->c = sd_dim_floor_div(r->c, g);
    b /= g;
    return sd_dim_floordiv(t, sd_dim_from_poly(t, r), sd_dim_const(t, b));
  }
  sd_dim_poly_bounds(t, r, &min, &max);
  if (min != DIM_NEG_INF && max != DIM_POS_INF && sd_dim_floor_div(min, b) == sd_dim_floor_div(max, b))
    return sd_dim_const(t, sd_dim_floor_div(min, b));
  sd_dim out;
  if (merge_nested(t, r, b, &out)) return out;
  return atom2(t, SD_DIM_FLOORDIV, sd_dim_from_poly(t, r), sd_dim_const(t, b));
}

static sd_dim floordiv_const(sd_dimtab *t, const dim_poly *a, int64_t b) { // b > 0
  dim_poly q = {.c = sd_dim_floor_div(a->c, b)}, r = {.c = floor_mod(a->c, b)};
  for (uint32_t i = 0; i < a->n; i++) {
    sd_dim_poly_term(t, &q, sd_dim_floor_div(a->t[i].coef, b), a->t[i].mono);
    sd_dim_poly_term(t, &r, floor_mod(a->t[i].coef, b), a->t[i].mono);
  }
  if (r.n == 0) return sd_dim_from_poly(t, &q);
  return sd_dim_add(t, sd_dim_from_poly(t, &q), floordiv_rest(t, &r, b));
}

// ---- floordiv by an expression ----

// Exact quotient by repeated division of the leading term (highest degree, then last in order).
static uint32_t leading(const sd_dimtab *t, const dim_poly *p) {
  uint32_t best = 0, best_degree = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    const sd_dim *atoms;
    uint32_t degree = sd_dim_atoms(t, &p->t[i].mono, &atoms);
    if (degree >= best_degree) best = i, best_degree = degree;
  }
  return best;
}

static bool exact_quotient(sd_dimtab *t, const dim_poly *a, const dim_poly *b, dim_poly *q) {
  dim_poly r = *a, term = {0};
  dim_term lead = b->t[leading(t, b)];
  *q = (dim_poly){0};
  for (int step = 0; step < DIM_MAX_TERMS && (r.n || r.c); step++) {
    sd_dim m;
    if (!r.n) return false;
    dim_term top = r.t[leading(t, &r)];
    if (top.coef % lead.coef || !sd_dim_mono_div(t, top.mono, lead.mono, &m)) return false;
    sd_dim_poly_term(t, q, top.coef / lead.coef, m);
    term = (dim_poly){0};
    sd_dim_poly_term(t, &term, top.coef / lead.coef, m);
    sd_dim bd = sd_dim_from_poly(t, b), td = sd_dim_from_poly(t, &term), sub = sd_dim_mul(t, bd, td);
    dim_poly s;
    if (!sub) return false;
    sd_dim_to_poly(t, sub, &s);
    sd_dim_poly_axpy(t, &r, -1, &s);
    if (r.bad || q->bad) return false;
  }
  return !r.n && !r.c;
}

// Divides every term of p by coef*mono, which divides all of them.
static void poly_cancel(sd_dimtab *t, dim_poly *p, int64_t coef, sd_dim mono) {
  dim_poly out = {.c = p->c / coef};
  for (uint32_t i = 0; i < p->n; i++) {
    sd_dim m = p->t[i].mono;
    if (mono) sd_dim_mono_div(t, p->t[i].mono, mono, &m);
    sd_dim_poly_term(t, &out, p->t[i].coef / coef, m);
  }
  *p = out;
}

// An atom that divides every term of both, 0 when there is none.
static sd_dim common_atom(sd_dimtab *t, const dim_poly *a, const dim_poly *b) {
  const sd_dim *atoms;
  if (a->c || b->c || !b->n || !a->n) return SD_DIM_NONE;
  uint32_t n = sd_dim_atoms(t, &b->t[0].mono, &atoms);
  for (uint32_t k = 0; k < n; k++) {
    bool all = true;
    sd_dim m;
    for (uint32_t i = 0; i < a->n && all; i++) all = sd_dim_mono_div(t, a->t[i].mono, atoms[k], &m);
    for (uint32_t i = 0; i < b->n && all; i++) all = sd_dim_mono_div(t, b->t[i].mono, atoms[k], &m);
    if (all) return atoms[k];
  }
  return SD_DIM_NONE;
}

// Splits a into q*b + r for a single-term b without constant: terms that b divides go to q.
static void split_by_term(sd_dimtab *t, const dim_poly *a, dim_term b, dim_poly *q, dim_poly *r) {
  *q = (dim_poly){0};
  *r = (dim_poly){.c = a->c};
  for (uint32_t i = 0; i < a->n; i++) {
    sd_dim m;
    if (a->t[i].coef % b.coef == 0 && sd_dim_mono_div(t, a->t[i].mono, b.mono, &m))
      sd_dim_poly_term(t, q, a->t[i].coef / b.coef, m);
    else sd_dim_poly_term(t, r, a->t[i].coef, a->t[i].mono);
  }
}

static sd_dim floordiv_expr(sd_dimtab *t, dim_poly *a, dim_poly *b) {
  dim_poly q, r;
  if (exact_quotient(t, a, b, &q)) return sd_dim_from_poly(t, &q);
  if (is_below(t, sd_dim_from_poly(t, a), sd_dim_from_poly(t, b))) return sd_dim_const(t, 0);
  sd_dim whole = SD_DIM_NONE;
  if (b->n == 1 && b->c == 0) {
    split_by_term(t, a, b->t[0], &q, &r);
    if (q.n || q.c) whole = sd_dim_from_poly(t, &q), *a = r;
  } else { // (b + c) / b = 1 + c / b
    r = *a;
    sd_dim_poly_axpy(t, &r, -1, b);
    if (!r.bad && r.n == 0) whole = sd_dim_const(t, 1), *a = r;
  }
  for (sd_dim x; (x = common_atom(t, a, b));) poly_cancel(t, a, 1, x), poly_cancel(t, b, 1, x);
  int64_t g = sd_dim_gcd(sd_dim_gcd(poly_content(a), a->c), sd_dim_gcd(poly_content(b), b->c));
  if (g > 1) poly_cancel(t, a, g, 0), poly_cancel(t, b, g, 0);
  sd_dim x = sd_dim_from_poly(t, a), y = sd_dim_from_poly(t, b), rest;
  if (!x || !y) return SD_DIM_NONE;
  if (sd_dim_is_const(t, y, NULL)) rest = sd_dim_floordiv(t, x, y);
  else if (is_below(t, x, y)) rest = sd_dim_const(t, 0);
  else rest = atom2(t, SD_DIM_FLOORDIV, x, y);
  return whole ? sd_dim_add(t, whole, rest) : rest;
}

sd_dim sd_dim_floordiv(sd_dimtab *t, sd_dim a, sd_dim b) {
  dim_poly p, q;
  int64_t k;
  sd_dim_to_poly(t, a, &p);
  sd_dim_to_poly(t, b, &q);
  if (p.bad || q.bad) return SD_DIM_NONE;
  if (q.n == 0) {
    k = q.c;
    if (k == 0 || k == INT64_MIN) return SD_DIM_NONE;
    if (k > 0) return floordiv_const(t, &p, k);
    a = sd_dim_sub(t, sd_dim_const(t, 0), a);
    return a ? sd_dim_floordiv(t, a, sd_dim_const(t, -k)) : SD_DIM_NONE;
  }
  return floordiv_expr(t, &p, &q);
}

sd_dim sd_dim_ceildiv(sd_dimtab *t, sd_dim a, sd_dim b) {
  const sd_dimnode *bn = sd_dim_get(t, b);
  if (!bn || !a || sd_dim_is(t, b, 0)) return SD_DIM_NONE;
  if (bn->min >= 0) { // ceil(a/b) = floor((a-1)/b) + 1 for b > 0
    dim_poly p, q, exact;
    sd_dim_to_poly(t, a, &p);
    sd_dim_to_poly(t, b, &q);
    if (q.n && exact_quotient(t, &p, &q, &exact)) return sd_dim_from_poly(t, &exact);
    sd_dim one = sd_dim_const(t, 1);
    return sd_dim_add(t, sd_dim_floordiv(t, sd_dim_sub(t, a, one), b), one);
  }
  sd_dim zero = sd_dim_const(t, 0), na = sd_dim_sub(t, zero, a), nb = sd_dim_sub(t, zero, b);
  if (bn->max <= 0) return na && nb ? sd_dim_ceildiv(t, na, nb) : SD_DIM_NONE;
  return atom2(t, SD_DIM_CEILDIV, a, b);
}

sd_dim sd_dim_mod(sd_dimtab *t, sd_dim a, sd_dim b) {
  dim_poly p, q, r;
  sd_dim_to_poly(t, a, &p);
  sd_dim_to_poly(t, b, &q);
  if (p.bad || q.bad || (q.n == 0 && (q.c == 0 || q.c == INT64_MIN))) return SD_DIM_NONE;
  if (q.n == 0 && q.c < 0) { // x - y*floor(x/y) with y < 0 is -((-x) mod (-y))
    sd_dim zero = sd_dim_const(t, 0), na = sd_dim_sub(t, zero, a);
    return sd_dim_sub(t, zero, sd_dim_mod(t, na, sd_dim_const(t, -q.c)));
  }
  if (q.n == 0) {
    r = (dim_poly){.c = floor_mod(p.c, q.c)};
    for (uint32_t i = 0; i < p.n; i++) sd_dim_poly_term(t, &r, floor_mod(p.t[i].coef, q.c), p.t[i].mono);
    int64_t g = sd_dim_gcd(sd_dim_gcd(poly_content(&r), r.c), q.c);
    if (r.n && g > 1) {
      poly_cancel(t, &r, g, 0);
      return sd_dim_mul(t, sd_dim_const(t, g), sd_dim_mod(t, sd_dim_from_poly(t, &r), sd_dim_const(t, q.c / g)));
    }
    a = sd_dim_from_poly(t, &r);
  } else if (exact_quotient(t, &p, &q, &r)) {
    return sd_dim_const(t, 0);
  } else if (q.n == 1 && q.c == 0) {
    dim_poly quotient;
    split_by_term(t, &p, q.t[0], &quotient, &r);
    a = sd_dim_from_poly(t, &r);
  }
  if (!a || sd_dim_is(t, a, 0) || (q.n == 0 && sd_dim_is_const(t, a, NULL))) return a;
  return is_below(t, a, b) ? a : atom2(t, SD_DIM_MOD, a, b);
}

// ---- min, max, broadcasting ----
enum { CAP = 16 }; // operands of one set

static int decide_le(const sd_dimtab *t, sd_dim a, sd_dim b) { // 1: a <= b always, 0: a >= b always, -1 unknown
  int lt = sd_dim_lt(t, a, b);
  if (lt >= 0) return lt;
  return sd_dim_lt(t, b, a) == 0 ? 1 : -1;
}

static uint32_t flatten(const sd_dimtab *t, sd_dimop op, sd_dim d, sd_dim *out, uint32_t n, uint32_t cap) {
  const sd_dimnode *x = sd_dim_get(t, d);
  if (x->op == op) {
    for (uint32_t i = 0; i < x->n; i++) n = flatten(t, op, x->args[i], out, n, cap);
    return n;
  }
  if (n < cap) out[n] = d;
  return n + 1;
}

// d[0] op d[1] op ..., in the order of the dims, each once.
static sd_dim chain(sd_dimtab *t, sd_dimop op, sd_dim *d, uint32_t n) {
  for (uint32_t i = 1; i < n; i++)
    for (uint32_t j = i; j > 0 && sd_dim_compare(t, d[j - 1], d[j]) > 0; j--) {
      sd_dim x = d[j];
      d[j] = d[j - 1];
      d[j - 1] = x;
    }
  sd_dim r = d[0];
  for (uint32_t i = 1; i < n && r; i++)
    if (d[i] != d[i - 1]) r = atom2(t, op, r, d[i]);
  return r;
}

// Nested minima are one sorted set without dominated members, rebuilt as a left-leaning chain.
static sd_dim extreme(sd_dimtab *t, sd_dimop op, sd_dim a, sd_dim b) {
  sd_dim all[CAP], keep[CAP];
  uint32_t n = 0, k = 0;
  if (!a || !b) return SD_DIM_NONE;
  n = flatten(t, op, b, all, flatten(t, op, a, all, 0, CAP), CAP);
  if (n > CAP) return atom2(t, op, a, b);
  for (uint32_t i = 0; i < n; i++) {
    bool drop = false;
    for (uint32_t j = 0; j < k && !drop; j++) {
      int le = decide_le(t, all[i], keep[j]);
      if (le < 0) continue;
      if ((op == SD_DIM_MIN) == (le == 1)) keep[j--] = keep[--k]; // the new one dominates
      else drop = true;
    }
    if (!drop) keep[k++] = all[i];
  }
  return chain(t, op, keep, k);
}

sd_dim sd_dim_min(sd_dimtab *t, sd_dim a, sd_dim b) { return extreme(t, SD_DIM_MIN, a, b); }
sd_dim sd_dim_max(sd_dimtab *t, sd_dim a, sd_dim b) { return extreme(t, SD_DIM_MAX, a, b); }

// Members that are never 0 are one maximum, so that equal sets have one form.
sd_dim sd_dim_bcast(sd_dimtab *t, sd_dim a, sd_dim b) {
  sd_dim all[CAP], keep[CAP + 1], most = SD_DIM_NONE;
  uint32_t k = 0;
  if (!a || !b) return SD_DIM_NONE;
  if (a == b || sd_dim_is(t, b, 1) || sd_dim_is(t, a, 0)) return a;
  if (sd_dim_is(t, a, 1) || sd_dim_is(t, b, 0)) return b;
  uint32_t n = flatten(t, SD_DIM_BCAST, b, all, flatten(t, SD_DIM_BCAST, a, all, 0, CAP), CAP);
  if (n > CAP) return atom2(t, SD_DIM_BCAST, a, b);
  for (uint32_t i = 0; i < n; i++) {
    if (sd_dim_get(t, all[i])->min < 1) keep[k++] = all[i];
    else most = most ? sd_dim_max(t, most, all[i]) : all[i];
  }
  if (most) keep[k++] = most;
  return chain(t, SD_DIM_BCAST, keep, k);
}
