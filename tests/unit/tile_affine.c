// Index arithmetic: canonical forms, bounds, division and remainder, constant folding and identities.
#include <math.h>

#include "ir/tile.h"
#include "tests/unit/test.h"

static sd_arena *arena;
static sd_dimtab *dims;
static sd_kernel *k;
static sd_expr *b, *s, *h, *d; // axes B, S, 12, 64
static sd_dim B, S;

static sd_dim num(int64_t v) { return sd_dim_const(dims, v); }
static sd_expr *ci(int64_t v) { return sd_x_i(k, SD_I64, v); }
static sd_expr *cd(sd_dim v) { return sd_x_dim(k, v); }
static sd_expr *add(sd_expr *x, sd_expr *y) { return sd_x_bin(k, SD_X_ADD, x, y); }
static sd_expr *sub(sd_expr *x, sd_expr *y) { return sd_x_bin(k, SD_X_SUB, x, y); }
static sd_expr *muld(sd_expr *x, sd_dim v) { return sd_x_mul_dim(k, x, v); }
static sd_expr *mul(sd_expr *x, int64_t v) { return muld(x, num(v)); }
static sd_expr *div_(sd_expr *x, sd_dim v) { return sd_x_bin(k, SD_X_FLOORDIV, x, cd(v)); }
static sd_expr *mod(sd_expr *x, sd_dim v) { return sd_x_bin(k, SD_X_MOD, x, cd(v)); }

static void setup(void) {
  arena = sd_arena_new();
  dims = sd_dimtab_new(arena);
  k = sd_kernel_new(arena, dims, "t");
  B = sd_dim_sym(dims, "B");
  S = sd_dim_sym(dims, "S");
  b = sd_x_axis(k, sd_kernel_axis(k, "b", B));
  s = sd_x_axis(k, sd_kernel_axis(k, "s", S));
  h = sd_x_axis(k, sd_kernel_axis(k, "h", num(12)));
  d = sd_x_axis(k, sd_kernel_axis(k, "d", num(64)));
}

static void canonical(void) {
  CHECK(add(b, s) == add(s, b));
  CHECK(sub(add(b, s), s) == b);
  CHECK(sub(b, b) == ci(0));
  CHECK(add(mul(b, 2), mul(b, 3)) == mul(b, 5));
  CHECK(mul(add(b, ci(3)), 4) == add(mul(b, 4), ci(12)));
  CHECK(muld(b, S) == sd_x_bin(k, SD_X_MUL, cd(S), b));
  CHECK(add(ci(2), ci(3)) == ci(5));
  CHECK(sd_x_un(k, SD_X_NEG, sd_x_un(k, SD_X_NEG, add(b, s))) == add(b, s));
  sd_expr *x = add(muld(b, S), s);
  sd_dim c;
  CHECK(sd_x_coef(k, x, b->axis, &c) && c == S);
  CHECK(sd_x_coef(k, x, h->axis, &c) && sd_dim_is(dims, c, 0));
  CHECK(!sd_x_coef(k, mod(add(b, s), num(7)), b->axis, &c));
  CHECK(sd_x_uses_axis(mod(add(b, s), num(7)), b->axis) && !sd_x_uses_axis(x, d->axis));
  // Numbers that leave int64 fall back to plain operations.
  sd_expr *big = sd_x_i(k, SD_I64, INT64_MAX), *sum = add(add(b, big), big);
  CHECK(sum && sum->dtype == SD_I64);
}

static void reshape(void) {
  sd_dim row = sd_dim_mul(dims, S, num(768));
  sd_expr *off = add(add(muld(b, row), mul(s, 768)), add(mul(h, 64), d));
  CHECK(div_(off, num(768)) == add(muld(b, S), s));
  CHECK(mod(off, num(768)) == add(mul(h, 64), d));
  CHECK(div_(off, row) == b);
  CHECK(mod(off, row) == add(mul(s, 768), add(mul(h, 64), d)));
  CHECK(mod(div_(off, num(768)), S) == s);
  CHECK(mod(off, num(64)) == d);
  CHECK(mod(div_(off, num(64)), num(12)) == h);
  CHECK(div_(off, num(64)) == add(mul(add(muld(b, S), s), 12), h));
  // Common factors: 64h + d over 128 is h over 2.
  CHECK(div_(add(mul(h, 64), d), num(128)) == div_(h, num(2)));
  CHECK(mod(add(mul(h, 64), d), num(128)) == add(mul(mod(h, num(2)), 64), d));
  sd_expr *hd = add(mul(h, 64), d);
  CHECK(div_(div_(hd, num(3)), num(5)) == div_(hd, num(15)));
  CHECK(mod(mod(hd, num(30)), num(5)) == mod(hd, num(5)));
  CHECK(div_(add(h, ci(24)), num(12)) == ci(2));
  CHECK(mod(add(h, ci(-12)), num(12)) == h);
  CHECK(div_(sub(ci(11), h), num(12)) == ci(0));
  CHECK(div_(h, num(1)) == h && mod(h, num(1)) == ci(0));
}

// Unravel and ravel again: what a reshape of a reshape does.
static void recombine(void) {
  sd_dim n = sd_dim_mul(dims, sd_dim_mul(dims, B, S), num(35));
  sd_expr *t = sd_x_axis(k, sd_kernel_axis(k, "t", n));
  sd_expr *i = div_(t, num(35)), *j = mod(div_(t, num(7)), num(5)), *l = mod(t, num(7));
  CHECK(add(add(mul(i, 35), mul(j, 7)), l) == t);
  CHECK(add(mul(j, 7), l) == mod(t, num(35)));
  sd_expr *bs = div_(t, num(35));
  CHECK(add(muld(div_(bs, S), S), mod(bs, S)) == bs);
  sd_expr *whole = add(muld(div_(t, sd_dim_mul(dims, S, num(35))), sd_dim_mul(dims, S, num(35))),
                       add(muld(mod(div_(t, num(35)), S), num(35)), mod(t, num(35))));
  CHECK(whole == t);
}

static void bounds(void) {
  sd_dim lo, hi;
  CHECK(sd_x_bounds(k, add(mul(h, 64), d), &lo, &hi) && sd_dim_is(dims, lo, 0) && sd_dim_is(dims, hi, 767));
  CHECK(sd_x_bounds(k, sub(ci(5), h), &lo, &hi) && sd_dim_is(dims, lo, -6) && sd_dim_is(dims, hi, 5));
  CHECK(sd_x_bounds(k, s, &lo, &hi) && hi == sd_dim_sub(dims, S, num(1)));
  CHECK(sd_x_bin(k, SD_X_LT, s, cd(S)) == sd_x_i(k, SD_BOOL, 1));
  CHECK(sd_x_bin(k, SD_X_LE, ci(0), sub(h, ci(1)))->op == SD_X_LE);
  CHECK(sd_x_bin(k, SD_X_LT, add(h, ci(12)), h) == sd_x_i(k, SD_BOOL, 0));
  CHECK(sd_x_bin(k, SD_X_MIN, h, ci(11)) == h);
  CHECK(sd_x_bin(k, SD_X_MAX, h, ci(-3)) == h);
  CHECK(sd_x_index(k, h, num(12)) == h && sd_x_index(k, h, num(11))->op == SD_X_INDEX);
  sd_expr *clamp = sd_x_bin(k, SD_X_MIN, sd_x_bin(k, SD_X_MAX, sub(h, ci(2)), ci(0)), ci(7));
  CHECK(sd_x_bounds(k, clamp, &lo, &hi) && sd_dim_is(dims, lo, 0) && sd_dim_is(dims, hi, 7));
  CHECK(div_(clamp, num(8)) == ci(0));
  // Loaded data has no bounds and may wrap: left alone.
  sd_buf *buf = sd_kernel_buf(k, SD_BUF_IN, SD_I64, num(4), NULL);
  sd_expr *x = sd_x_load(k, buf, ci(0), NULL);
  CHECK(div_(mul(x, 4), num(4)) != x && !sd_x_bounds(k, x, &lo, &hi));
  CHECK(div_(mul(sd_x_index(k, x, num(9)), 4), num(4)) == sd_x_index(k, x, num(9)));
}

static void identities(void) {
  sd_buf *buf = sd_kernel_buf(k, SD_BUF_IN, SD_F32, num(4), NULL);
  sd_expr *x = sd_x_load(k, buf, ci(0), NULL), *zero = sd_x_f(k, SD_F32, 0.0), *one = sd_x_f(k, SD_F32, 1);
  CHECK(sd_x_bin(k, SD_X_MUL, x, one) == x && sd_x_bin(k, SD_X_DIV, x, one) == x);
  CHECK(sd_x_bin(k, SD_X_SUB, x, zero) == x);
  CHECK(sd_x_bin(k, SD_X_ADD, x, zero) != x); // -0 + 0 is 0
  CHECK(sd_x_bin(k, SD_X_ADD, x, sd_x_f(k, SD_F32, -0.0)) == x);
  CHECK(sd_x_bin(k, SD_X_MUL, x, zero)->op == SD_X_MUL); // NaN and infinities
  CHECK(sd_x_bin(k, SD_X_DIV, x, sd_x_f(k, SD_F32, 8)) == sd_x_bin(k, SD_X_MUL, x, sd_x_f(k, SD_F32, 0.125)));
  CHECK(sd_x_bin(k, SD_X_DIV, x, sd_x_f(k, SD_F32, 3))->op == SD_X_DIV);
  CHECK(sd_x_bin(k, SD_X_POW, x, sd_x_f(k, SD_F32, 2)) == sd_x_bin(k, SD_X_MUL, x, x));
  sd_expr *nan = sd_x_f(k, SD_F32, NAN);
  double f;
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_MAX, nan, one), &f, NULL) && isnan(f));
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_MIN, one, nan), &f, NULL) && isnan(f));
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_ADD, sd_x_f(k, SD_F32, 0.1), sd_x_f(k, SD_F32, 0.2)), &f, NULL) &&
      f == (double)(0.1f + 0.2f));
  CHECK(sd_x_cast(k, SD_F32, sd_x_cast(k, SD_F64, x)) == x);
  CHECK(sd_x_cast(k, SD_F32, sd_x_cast(k, SD_I32, x)) != x);
  CHECK(sd_x_cast(k, SD_I64, sd_x_cast(k, SD_I32, h)) == h);
  CHECK(sd_x_sel(k, sd_x_i(k, SD_BOOL, 1), x, zero) == x && sd_x_sel(k, sd_x_i(k, SD_BOOL, 0), x, zero) == zero);
  int64_t i;
  sd_expr *i32min = sd_x_i(k, SD_I32, INT32_MIN), *m1 = sd_x_i(k, SD_I32, -1);
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_DIV, i32min, m1), NULL, &i) && i == INT32_MIN);
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_MOD, sd_x_i(k, SD_I32, -7), sd_x_i(k, SD_I32, 3)), NULL, &i) && i == 2);
  CHECK(sd_x_const_value(sd_x_bin(k, SD_X_ADD, sd_x_i(k, SD_U8, 250), sd_x_i(k, SD_U8, 10)), NULL, &i) && i == 4);
  CHECK(sd_x_const_value(sd_x_cast(k, SD_I8, sd_x_i(k, SD_I32, 200)), NULL, &i) && i == -56);
  CHECK(sd_x_load(k, buf, ci(0), sd_x_i(k, SD_BOOL, 0)) == zero);
}

// Simplified and plain forms agree on all points: random affine forms, divisors and nestings.
static int64_t value(const sd_expr *e, const int64_t *at) {
  int64_t v = 0, x, y;
  double f;
  if (sd_x_const_value(e, &f, &v)) return v;
  switch (e->op) {
  case SD_X_AXIS: return at[e->axis->id];
  case SD_X_AFFINE:
    sd_dim_is_const(dims, e->dim, &v);
    for (uint32_t i = 0; i < e->n; i++) {
      sd_dim_is_const(dims, e->coef[i], &x);
      v += x * value(e->a[i], at);
    }
    return v;
  case SD_X_FLOORDIV: case SD_X_MOD:
    x = value(e->a[0], at);
    y = value(e->a[1], at);
    v = x / y - (x % y != 0 && (x < 0) != (y < 0));
    return e->op == SD_X_FLOORDIV ? v : x - v * y;
  default: return INT64_MIN;
  }
}

static void random_forms(void) {
  uint64_t r = 7;
  int wrong = 0;
  for (int round = 0; round < 400; round++) {
    sd_kernel *old = k;
    k = sd_kernel_new(arena, dims, "r");
    int64_t extent[4], at[4];
    sd_expr *axis[4], *e = ci((int64_t)(test_random(&r) % 50) - 20);
    for (int i = 0; i < 4; i++) {
      extent[i] = 1 + (int64_t)(test_random(&r) % 9);
      axis[i] = sd_x_axis(k, sd_kernel_axis(k, "x", num(extent[i])));
      e = add(e, mul(axis[i], (int64_t)(test_random(&r) % 40) - 8));
    }
    struct { bool mod; int64_t d, scale, plus; } steps[4];
    int n = 1 + (int)(test_random(&r) % 4);
    sd_expr *x = e;
    for (int i = 0; i < n; i++) {
      steps[i].mod = test_random(&r) & 1;
      steps[i].d = 1 + (int64_t)(test_random(&r) % 36);
      steps[i].scale = 1 + (int64_t)(test_random(&r) % 12);
      steps[i].plus = (int64_t)(test_random(&r) % 9) - 4;
      sd_expr *q = steps[i].mod ? mod(x, num(steps[i].d)) : div_(x, num(steps[i].d));
      // Sums with the remainder or quotient of the same value exercise recombination.
      sd_expr *other = steps[i].mod ? mul(div_(x, num(steps[i].d)), steps[i].d) : mod(x, num(steps[i].d));
      x = add(add(mul(q, steps[i].mod ? 1 : steps[i].d), other), add(mul(q, steps[i].scale), ci(steps[i].plus)));
    }
    for (int p = 0; p < 60; p++) {
      for (int i = 0; i < 4; i++) at[i] = (int64_t)(test_random(&r) % (uint64_t)extent[i]);
      int64_t want = value(e, at);
      for (int i = 0; i < n; i++) {
        int64_t q = want / steps[i].d - (want % steps[i].d < 0), m = want - q * steps[i].d;
        want = want + (steps[i].mod ? m : q) * steps[i].scale + steps[i].plus;
      }
      if (value(x, at) != want) wrong++;
    }
    k = old;
  }
  CHECK(wrong == 0);
}

int main(void) {
  setup();
  RUN(canonical);
  RUN(reshape);
  RUN(recombine);
  RUN(bounds);
  RUN(identities);
  RUN(random_forms);
  sd_arena_free(arena);
  return check_end();
}
