// The dim table: interning, structural order, bounds, and the ring operations (+, -, *) on canonical sums.
#include "ir/dim_internal.h"

#include "runtime/base/hash.h"

sd_dimtab *sd_dimtab_new(sd_arena *a) {
  sd_dimtab *t = SD_NEW(a, sd_dimtab);
  t->arena = a;
  t->cap = 256;
  t->table = SD_NEW_ARRAY(a, sd_dim, t->cap);
  sd_vec_push(a, &t->nodes, NULL);
  sd_vec_push(a, &t->sizes, 0u);
  return t;
}

const sd_dimnode *sd_dim_get(const sd_dimtab *t, sd_dim d) { return t->nodes.at[d < t->nodes.len ? d : 0]; }

// ---- interning ----

static uint64_t node_hash(const sd_dimnode *d) {
  uint64_t h = sd_hash_mix(d->op, (uint64_t)d->value);
  if (d->name) h = sd_hash_bytes(d->name, strlen(d->name), h);
  for (uint32_t i = 0; i < d->n; i++) h = sd_hash_mix(h, d->args[i]);
  if (d->coef)
    for (uint32_t i = 0; i < d->n; i++) h = sd_hash_mix(h, (uint64_t)d->coef[i]);
  return h;
}

static bool node_same(const sd_dimnode *a, const sd_dimnode *b) {
  if (a->op != b->op || a->value != b->value || a->n != b->n) return false;
  if (a->op == SD_DIM_SYM) return strcmp(a->name, b->name) == 0;
  if (a->n && memcmp(a->args, b->args, a->n * sizeof *a->args)) return false;
  return !a->coef || memcmp(a->coef, b->coef, a->n * sizeof *a->coef) == 0;
}

static void table_grow(sd_dimtab *t) {
  uint32_t cap = t->cap * 2;
  sd_dim *table = SD_NEW_ARRAY(t->arena, sd_dim, cap);
  for (sd_dim d = 1; d < t->nodes.len; d++) {
    uint32_t i = (uint32_t)node_hash(t->nodes.at[d]) & (cap - 1);
    while (table[i]) i = (i + 1) & (cap - 1);
    table[i] = d;
  }
  t->table = table;
  t->cap = cap;
}

sd_dim sd_dim_intern(sd_dimtab *t, sd_dimop op, int64_t value, const char *name, uint32_t n, const sd_dim *args,
                     const int64_t *coef) {
  sd_dimnode key = {.op = op, .value = value, .name = name, .n = n, .args = args, .coef = coef};
  uint32_t size = 1, i = (uint32_t)node_hash(&key) & (t->cap - 1);
  for (; t->table[i]; i = (i + 1) & (t->cap - 1))
    if (node_same(t->nodes.at[t->table[i]], &key)) return t->table[i];
  for (uint32_t k = 0; k < n; k++) size += t->sizes.at[args[k]];
  if (size > DIM_MAX_SIZE || t->nodes.len > UINT32_MAX / 4) return SD_DIM_NONE;
  sd_dimnode *d = sd_arena_dup(t->arena, &key, sizeof key);
  d->name = sd_arena_strdup(t->arena, name);
  if (n) d->args = sd_arena_dup(t->arena, args, n * sizeof *args);
  if (coef) d->coef = sd_arena_dup(t->arena, coef, n * sizeof *coef);
  if (op == SD_DIM_SYM) d->min = 0, d->max = INT64_MAX / 4;
  else sd_dim_bounds(t, d, &d->min, &d->max);
  sd_dim h = t->nodes.len;
  t->table[i] = h;
  sd_vec_push(t->arena, &t->nodes, d);
  sd_vec_push(t->arena, &t->sizes, size);
  if (t->nodes.len * 2 > t->cap) table_grow(t);
  return h;
}

sd_dim sd_dim_const(sd_dimtab *t, int64_t v) { return sd_dim_intern(t, SD_DIM_CONST, v, NULL, 0, NULL, NULL); }
sd_dim sd_dim_sym(sd_dimtab *t, const char *name) { return sd_dim_intern(t, SD_DIM_SYM, 0, name, 0, NULL, NULL); }

static bool sym_exists(const sd_dimtab *t, const char *name) {
  sd_dimnode key = {.op = SD_DIM_SYM, .name = name};
  for (uint32_t i = (uint32_t)node_hash(&key) & (t->cap - 1); t->table[i]; i = (i + 1) & (t->cap - 1))
    if (node_same(t->nodes.at[t->table[i]], &key)) return true;
  return false;
}

sd_dim sd_dim_fresh(sd_dimtab *t, const char *hint) {
  const char *name;
  do name = sd_arena_printf(t->arena, "%s_%u", hint && *hint ? hint : "d", t->fresh++);
  while (sym_exists(t, name));
  return sd_dim_sym(t, name);
}

void sd_dim_set_range(sd_dimtab *t, sd_dim sym, int64_t min, int64_t max) {
  sd_dimnode *s = t->nodes.at[sym];
  if (!s || s->op != SD_DIM_SYM || min > max) return;
  s->min = min < 0 ? 0 : min;
  s->max = max < s->min ? s->min : max;
  for (sd_dim d = sym + 1; d < t->nodes.len; d++) // operands have smaller handles: one sweep renews every bound
    if (t->nodes.at[d]->n) sd_dim_bounds(t, t->nodes.at[d], &t->nodes.at[d]->min, &t->nodes.at[d]->max);
}

// ---- structural order: independent of the order in which dims were made, so that texts are stable ----

int sd_dim_compare(const sd_dimtab *t, sd_dim a, sd_dim b) {
  if (a == b) return 0;
  const sd_dimnode *x = t->nodes.at[a], *y = t->nodes.at[b];
  if (!x || !y) return x ? 1 : -1;
  // A product compares as its list of atoms, so that N < N*N < N*M.
  const sd_dim *xs = x->op == SD_DIM_PROD ? x->args : &a, *ys = y->op == SD_DIM_PROD ? y->args : &b;
  uint32_t nx = x->op == SD_DIM_PROD ? x->n : 1, ny = y->op == SD_DIM_PROD ? y->n : 1;
  if (nx > 1 || ny > 1) {
    for (uint32_t i = 0; i < nx && i < ny; i++) {
      int c = sd_dim_compare(t, xs[i], ys[i]);
      if (c) return c;
    }
    return nx < ny ? -1 : 1;
  }
  if (x->op != y->op) return x->op < y->op ? -1 : 1;
  if (x->op == SD_DIM_SYM) return strcmp(x->name, y->name);
  for (uint32_t i = 0; i < x->n && i < y->n; i++) {
    int c = sd_dim_compare(t, x->args[i], y->args[i]);
    if (c) return c;
    if (x->coef && x->coef[i] != y->coef[i]) return x->coef[i] < y->coef[i] ? -1 : 1;
  }
  if (x->n != y->n) return x->n < y->n ? -1 : 1;
  return x->value < y->value ? -1 : 1;
}

// ---- bounds: saturating, INT64_MIN and INT64_MAX stand for unbounded ----

static int64_t clamp(__int128 v) {
  return v <= DIM_NEG_INF ? DIM_NEG_INF : v >= DIM_POS_INF ? DIM_POS_INF : (int64_t)v;
}

static int64_t sat_mul(int64_t a, int64_t b) { return clamp((__int128)a * b); } // 0 * unbounded is 0

// Sum of lower bounds (or of upper bounds): an unbounded side stays unbounded.
static int64_t sat_add(int64_t a, int64_t b, int64_t inf) {
  return a == inf || b == inf ? inf : clamp((__int128)a + b);
}

static void mul_bounds(int64_t *min, int64_t *max, int64_t lo, int64_t hi) {
  int64_t v[4] = {sat_mul(*min, lo), sat_mul(*min, hi), sat_mul(*max, lo), sat_mul(*max, hi)};
  *min = *max = v[0];
  for (int i = 1; i < 4; i++) {
    if (v[i] < *min) *min = v[i];
    if (v[i] > *max) *max = v[i];
  }
}

static void add_term_bounds(const sd_dimnode *d, int64_t coef, int64_t *min, int64_t *max) {
  int64_t lo = coef, hi = coef;
  mul_bounds(&lo, &hi, d->min, d->max);
  *min = sat_add(*min, lo, DIM_NEG_INF);
  *max = sat_add(*max, hi, DIM_POS_INF);
}

int64_t sd_dim_floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static int64_t inf_floor(int64_t a, int64_t b) {
  return a == DIM_NEG_INF || a == DIM_POS_INF ? (b == DIM_POS_INF && a > 0 ? 0 : a) : sd_dim_floor_div(a, b);
}

static void div_bounds(const sd_dimnode *a, const sd_dimnode *b, int64_t *min, int64_t *max) {
  if (b->min < 0) { // the divisor may be negative: only the magnitude is known
    int64_t m = a->min == DIM_NEG_INF || a->max == DIM_POS_INF ? DIM_POS_INF : a->max > -a->min ? a->max : -a->min;
    *max = m;
    *min = m == DIM_POS_INF ? DIM_NEG_INF : -m - 1;
    return;
  }
  int64_t b1 = b->min < 1 ? 1 : b->min, b2 = b->max < 1 ? 1 : b->max; // zero has no quotient
  *min = a->min >= 0 ? (b2 == DIM_POS_INF ? 0 : inf_floor(a->min, b2)) : inf_floor(a->min, b1);
  if (a->max >= 0) *max = inf_floor(a->max, b1);
  else *max = b2 == DIM_POS_INF ? -1 : inf_floor(a->max, b2);
}

static void mod_bounds(const sd_dimnode *a, const sd_dimnode *b, int64_t *min, int64_t *max) {
  *max = b->max == DIM_POS_INF ? DIM_POS_INF : b->max > 0 ? b->max - 1 : 0;
  *min = b->min >= 0 ? 0 : b->min == DIM_NEG_INF ? DIM_NEG_INF : b->min + 1;
  if (b->min >= 0 && a->min >= 0 && a->max < *max) *max = a->max;
}

void sd_dim_bounds(const sd_dimtab *t, const sd_dimnode *d, int64_t *min, int64_t *max) {
  const sd_dimnode *a = d->n > 0 ? t->nodes.at[d->args[0]] : NULL, *b = d->n > 1 ? t->nodes.at[d->args[1]] : NULL;
  int64_t lo = d->value, hi = d->value;
  switch (d->op) {
  case SD_DIM_CONST: break;
  case SD_DIM_SYM: lo = d->min, hi = d->max; break;
  case SD_DIM_SUM:
    for (uint32_t i = 0; i < d->n; i++) add_term_bounds(t->nodes.at[d->args[i]], d->coef[i], &lo, &hi);
    break;
  case SD_DIM_PROD:
    lo = hi = 1;
    for (uint32_t i = 0; i < d->n; i++) {
      const sd_dimnode *x = t->nodes.at[d->args[i]];
      mul_bounds(&lo, &hi, x->min, x->max);
    }
    break;
  case SD_DIM_FLOORDIV: div_bounds(a, b, &lo, &hi); break;
  case SD_DIM_CEILDIV:
    div_bounds(a, b, &lo, &hi);
    hi = sat_add(hi, 1, DIM_POS_INF);
    break;
  case SD_DIM_MOD: mod_bounds(a, b, &lo, &hi); break;
  case SD_DIM_MIN: lo = a->min < b->min ? a->min : b->min, hi = a->max < b->max ? a->max : b->max; break;
  case SD_DIM_MAX: lo = a->min > b->min ? a->min : b->min, hi = a->max > b->max ? a->max : b->max; break;
  case SD_DIM_BCAST:
    lo = a->min < 1 || b->min < 1 ? 0 : a->min > b->min ? a->min : b->min;
    hi = a->max > b->max ? a->max : b->max;
    break;
  }
  *min = lo;
  *max = hi;
}

void sd_dim_poly_bounds(const sd_dimtab *t, const dim_poly *p, int64_t *min, int64_t *max) {
  *min = *max = p->c;
  for (uint32_t i = 0; i < p->n; i++) add_term_bounds(t->nodes.at[p->t[i].mono], p->t[i].coef, min, max);
}

// ---- polynomials ----

void sd_dim_to_poly(const sd_dimtab *t, sd_dim d, dim_poly *out) {
  const sd_dimnode *x = sd_dim_get(t, d);
  out->c = 0;
  out->n = 0;
  out->bad = !x;
  if (!x) return;
  if (x->op == SD_DIM_CONST || x->op == SD_DIM_SUM) out->c = x->value;
  if (x->op == SD_DIM_CONST) return;
  if (x->op != SD_DIM_SUM) {
    out->t[out->n++] = (dim_term){1, d};
    return;
  }
  for (uint32_t i = 0; i < x->n; i++) out->t[out->n++] = (dim_term){x->coef[i], x->args[i]};
}

sd_dim sd_dim_from_poly(sd_dimtab *t, const dim_poly *p) {
  if (p->bad) return SD_DIM_NONE;
  if (p->n == 0) return sd_dim_const(t, p->c);
  if (p->n == 1 && p->c == 0 && p->t[0].coef == 1) return p->t[0].mono;
  sd_dim args[DIM_MAX_TERMS];
  int64_t coef[DIM_MAX_TERMS];
  for (uint32_t i = 0; i < p->n; i++) args[i] = p->t[i].mono, coef[i] = p->t[i].coef;
  return sd_dim_intern(t, SD_DIM_SUM, p->c, NULL, p->n, args, coef);
}

void sd_dim_poly_term(const sd_dimtab *t, dim_poly *p, int64_t coef, sd_dim mono) {
  if (coef == 0 || p->bad) return;
  if (!mono) {
    p->bad |= __builtin_add_overflow(p->c, coef, &p->c);
    return;
  }
  uint32_t i = 0;
  int c = 1;
  while (i < p->n && (c = sd_dim_compare(t, p->t[i].mono, mono)) < 0) i++;
  if (i < p->n && c == 0) {
    p->bad |= __builtin_add_overflow(p->t[i].coef, coef, &p->t[i].coef);
    if (p->t[i].coef == 0) memmove(&p->t[i], &p->t[i + 1], (--p->n - i) * sizeof p->t[0]);
    return;
  }
  if (p->n == DIM_MAX_TERMS) {
    p->bad = true;
    return;
  }
  memmove(&p->t[i + 1], &p->t[i], (p->n++ - i) * sizeof p->t[0]);
  p->t[i] = (dim_term){coef, mono};
}

void sd_dim_poly_axpy(const sd_dimtab *t, dim_poly *p, int64_t k, const dim_poly *q) {
  int64_t v;
  p->bad |= q->bad || __builtin_mul_overflow(k, q->c, &v) || __builtin_add_overflow(p->c, v, &p->c);
  for (uint32_t i = 0; i < q->n && !p->bad; i++) {
    p->bad |= __builtin_mul_overflow(k, q->t[i].coef, &v);
    sd_dim_poly_term(t, p, v, q->t[i].mono);
  }
}

uint32_t sd_dim_atoms(const sd_dimtab *t, const sd_dim *mono, const sd_dim **out) {
  const sd_dimnode *x = sd_dim_get(t, *mono);
  *out = x && x->op == SD_DIM_PROD ? x->args : mono;
  return !x ? 0 : x->op == SD_DIM_PROD ? x->n : 1;
}

static sd_dim mono_from_atoms(sd_dimtab *t, uint32_t n, const sd_dim *atoms) {
  if (n <= 1) return n ? atoms[0] : SD_DIM_NONE;
  return sd_dim_intern(t, SD_DIM_PROD, 0, NULL, n, atoms, NULL);
}

sd_dim sd_dim_mono_mul(sd_dimtab *t, sd_dim a, sd_dim b, bool *bad) {
  const sd_dim *x, *y;
  sd_dim out[DIM_MAX_DEGREE];
  uint32_t nx = sd_dim_atoms(t, &a, &x), ny = sd_dim_atoms(t, &b, &y), n = 0, i = 0, j = 0;
  if (nx + ny > DIM_MAX_DEGREE) {
    *bad = true;
    return SD_DIM_NONE;
  }
  while (i < nx || j < ny)
    out[n++] = j == ny || (i < nx && sd_dim_compare(t, x[i], y[j]) <= 0) ? x[i++] : y[j++];
  sd_dim r = mono_from_atoms(t, n, out);
  *bad |= n && !r;
  return r;
}

bool sd_dim_mono_div(sd_dimtab *t, sd_dim a, sd_dim b, sd_dim *out) {
  const sd_dim *x, *y;
  sd_dim rest[DIM_MAX_DEGREE];
  uint32_t nx = sd_dim_atoms(t, &a, &x), ny = sd_dim_atoms(t, &b, &y), n = 0, j = 0;
  for (uint32_t i = 0; i < nx; i++) {
    if (j < ny && x[i] == y[j]) j++;
    else rest[n++] = x[i];
  }
  if (j < ny) return false;
  *out = mono_from_atoms(t, n, rest);
  return n == 0 || *out;
}

int64_t sd_dim_gcd(int64_t a, int64_t b) {
  uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
  while (y) {
    uint64_t r = x % y;
    x = y;
    y = r;
  }
  return x > INT64_MAX ? 1 : (int64_t)x;
}

// ---- ring operations ----

static sd_dim combine(sd_dimtab *t, sd_dim a, int64_t k, sd_dim b) { // a + k * b
  dim_poly p, q;
  sd_dim_to_poly(t, a, &p);
  sd_dim_to_poly(t, b, &q);
  sd_dim_poly_axpy(t, &p, k, &q);
  return sd_dim_from_poly(t, &p);
}

sd_dim sd_dim_add(sd_dimtab *t, sd_dim a, sd_dim b) { return combine(t, a, 1, b); }
sd_dim sd_dim_sub(sd_dimtab *t, sd_dim a, sd_dim b) { return combine(t, a, -1, b); }

sd_dim sd_dim_mul(sd_dimtab *t, sd_dim a, sd_dim b) {
  dim_poly p, q, r = {0};
  sd_dim_to_poly(t, a, &p);
  sd_dim_to_poly(t, b, &q);
  if (p.bad || q.bad) return SD_DIM_NONE;
  sd_dim_poly_axpy(t, &r, p.c, &q);
  for (uint32_t i = 0; i < p.n && !r.bad; i++) {
    int64_t v;
    r.bad |= __builtin_mul_overflow(p.t[i].coef, q.c, &v);
    sd_dim_poly_term(t, &r, v, p.t[i].mono);
    for (uint32_t j = 0; j < q.n && !r.bad; j++) {
      r.bad |= __builtin_mul_overflow(p.t[i].coef, q.t[j].coef, &v);
      sd_dim m = sd_dim_mono_mul(t, p.t[i].mono, q.t[j].mono, &r.bad);
      sd_dim_poly_term(t, &r, v, m);
    }
  }
  return sd_dim_from_poly(t, &r);
}

sd_dim sd_dim_product(sd_dimtab *t, const sd_dim *dims, int n) {
  sd_dim r = sd_dim_const(t, 1);
  for (int i = 0; i < n; i++) r = sd_dim_mul(t, r, dims[i]);
  return r;
}

// ---- questions ----

bool sd_dim_is_const(const sd_dimtab *t, sd_dim d, int64_t *out_value) {
  const sd_dimnode *x = sd_dim_get(t, d);
  if (!x || x->op != SD_DIM_CONST) return false;
  if (out_value) *out_value = x->value;
  return true;
}

bool sd_dim_is(const sd_dimtab *t, sd_dim d, int64_t value) {
  int64_t v;
  return sd_dim_is_const(t, d, &v) && v == value;
}

// a - b as a polynomial; false when it is not known.
static bool difference(const sd_dimtab *t, sd_dim a, sd_dim b, dim_poly *p) {
  dim_poly q;
  sd_dim_to_poly(t, a, p);
  sd_dim_to_poly(t, b, &q);
  sd_dim_poly_axpy(t, p, -1, &q);
  return !p->bad;
}

int sd_dim_eq(const sd_dimtab *t, sd_dim a, sd_dim b) {
  dim_poly p;
  int64_t min, max, g = 0;
  if (!a || !b) return -1;
  if (a == b) return 1;
  if (!difference(t, a, b, &p)) return -1;
  if (p.n == 0) return p.c == 0;
  sd_dim_poly_bounds(t, &p, &min, &max);
  if (min > 0 || max < 0) return 0;
  for (uint32_t i = 0; i < p.n; i++) g = sd_dim_gcd(g, p.t[i].coef);
  if (p.c % g) return 0;
  return min == 0 && max == 0 ? 1 : -1;
}

int sd_dim_lt(const sd_dimtab *t, sd_dim a, sd_dim b) {
  dim_poly p;
  int64_t min, max;
  if (!a || !b || !difference(t, a, b, &p)) return -1;
  sd_dim_poly_bounds(t, &p, &min, &max);
  return max < 0 ? 1 : min >= 0 ? 0 : -1;
}

// The greatest divisor of k that provably divides d (k > 0).
static int64_t known_factor(const sd_dimtab *t, sd_dim d, int64_t k) {
  const sd_dimnode *x = sd_dim_get(t, d);
  __int128 p = 1;
  int64_t g;
  switch (x->op) {
  case SD_DIM_CONST: return sd_dim_gcd(k, x->value);
  case SD_DIM_SUM:
    g = sd_dim_gcd(k, x->value);
    for (uint32_t i = 0; i < x->n; i++) {
      p = (__int128)sd_dim_gcd(k, x->coef[i]) * known_factor(t, x->args[i], k);
      g = sd_dim_gcd(g, (int64_t)(p % k));
    }
    return g;
  case SD_DIM_PROD:
    for (uint32_t i = 0; i < x->n; i++) p = sd_dim_gcd(k, (int64_t)(p * known_factor(t, x->args[i], k) % k));
    return (int64_t)p;
  case SD_DIM_MOD:
  case SD_DIM_MIN:
  case SD_DIM_MAX:
  case SD_DIM_BCAST: return sd_dim_gcd(known_factor(t, x->args[0], k), known_factor(t, x->args[1], k));
  default: return x->min == x->max ? sd_dim_gcd(k, x->min) : 1;
  }
}

bool sd_dim_multiple_of(const sd_dimtab *t, sd_dim d, int64_t k) {
  if (!d || k == 0 || k == INT64_MIN) return false;
  if (k < 0) k = -k;
  return k == 1 || known_factor(t, d, k) == k;
}

void sd_dim_guess_batch(sd_dimtab *t, int64_t size) { t->batch = size; }
int64_t sd_dim_batch_guess(const sd_dimtab *t) { return t->batch > 0 ? t->batch : 1; }
bool sd_dim_is_batch(const char *symbol) { return strcasestr(symbol, "batch") || !strcasecmp(symbol, "b") || !strcasecmp(symbol, "n"); }

void sd_dim_guess_size(sd_dimtab *t, int64_t size) { t->usual = size; }

void sd_dim_guess(sd_dimtab *t, sd_dim symbol, int64_t size) { t->told = symbol, t->told_size = size; }

bool sd_dim_usual(void *user, const char *symbol, int64_t *out) {
  sd_dimtab *t = user;
  sd_dim d = sd_dim_sym(t, symbol);
  const sd_dimnode *s = sd_dim_get(t, d);
  *out = d == t->told ? t->told_size : sd_dim_is_batch(symbol) ? sd_dim_batch_guess(t) : t->usual > 0 ? t->usual : SD_DIM_USUAL;
  if (*out < s->min) *out = s->min;
  if (*out > s->max) *out = s->max;
  return true;
}
