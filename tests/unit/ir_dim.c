// Dims: canonical forms, decisions by bounds, text, and random expressions against plain evaluation.
#include "ir/dim.h"
#include "tests/unit/check.h"

static sd_dimtab *t;
static sd_arena *arena;

static sd_dim P(const char *text) {
  const char *p = text;
  sd_dim d = sd_dim_parse(t, &p);
  if (*p) printf("cannot parse \"%s\" at \"%s\"\n", text, p);
  return d;
}

static const char *S(sd_dim d) {
  static char buf[8][512];
  static int next;
  sd_str s = {0};
  sd_dim_print(t, d, &s);
  char *out = buf[next++ & 7];
  snprintf(out, 512, "%s", s.p ? s.p : "");
  sd_str_free(&s);
  return out;
}

static void test_canonical(void) {
  static const char *const same[][2] = {
      {"N+N", "2*N"}, {"N+M", "M+N"}, {"N-N", "0"}, {"(N*12)*M", "M*12*N"}, {"floordiv(N*12,12)", "N"},
      {"floordiv(N*M,M)", "N"}, {"floordiv(4*N+3,4)", "N"}, {"floordiv(4*N+5,2)", "2*N+2"},
      {"(N+1)*(N-1)", "N*N-1"}, {"floordiv(N*N-1,N+1)", "N-1"}, {"floordiv((N+1)*M,N+1)", "M"},
      {"floordiv(2*N,4*M)", "floordiv(N,2*M)"}, {"floordiv(floordiv(N,2),3)", "floordiv(N,6)"},
      {"floordiv(floordiv(N-1,2)+1-1,2)+1", "floordiv(N-1,4)+1"}, {"ceildiv(N,2)", "floordiv(N+1,2)"},
      {"ceildiv(4*N,4)", "N"}, {"mod(4*N+3,4)", "3"}, {"mod(5*N,4)", "mod(N,4)"}, {"mod(6*N,4)", "2*mod(N,2)"},
      {"mod(N*M,M)", "0"}, {"mod(mod(N,4),4)", "mod(N,4)"}, {"floordiv(mod(N,4),4)", "0"},
      {"min(N,N)", "N"}, {"max(N,0)", "N"}, {"min(N,N+1)", "N"}, {"max(M,max(N,M))", "max(N,M)"},
      {"min(min(A,B),C)", "min(C,min(B,A))"}, {"floordiv(-7,2)", "-4"}, {"ceildiv(-7,2)", "-3"}, {"mod(-7,2)", "1"},
      {"floordiv(7,-2)", "-4"}, {"floordiv(N,-2)", "floordiv(-N,2)"}, {"floordiv(N,N+1)", "0"},
      {"floordiv(0,M)", "0"}, {"ceildiv(N*M,M)", "N"}, {"floordiv(N+6,N+6)", "1"}, {"0*N", "0"},
      {"floordiv(3*N,6)", "floordiv(N,2)"}, {"min(3,5)", "3"}, {"max(-N,3)", "3"}, {"N*(M+2)", "N*M+2*N"},
      {"broadcast(N,1)", "N"}, {"broadcast(N,N)", "N"}, {"broadcast(0,N)", "0"}, {"broadcast(N+1,M+1)", "max(N+1,M+1)"},
      {"broadcast(M,broadcast(N,M))", "broadcast(N,M)"}, {"broadcast(broadcast(A,B),C)", "broadcast(C,broadcast(B,A))"}};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    sd_dim a = P(same[i][0]), b = P(same[i][1]);
    CHECK(a && a == b);
    if (a != b) printf("  %s -> %s, %s -> %s\n", same[i][0], S(a), same[i][1], S(b));
  }
  CHECK(P("N") != P("M"));
  CHECK(P("floordiv(N,2)") != P("floordiv(N+1,2)"));
}

static void test_none(void) {
  sd_dim big = sd_dim_const(t, INT64_MAX);
  CHECK(sd_dim_add(t, big, sd_dim_const(t, 1)) == SD_DIM_NONE);
  CHECK(sd_dim_mul(t, big, sd_dim_const(t, 2)) == SD_DIM_NONE);
  CHECK(sd_dim_add(t, SD_DIM_NONE, big) == SD_DIM_NONE);
  CHECK(sd_dim_floordiv(t, P("N"), P("0")) == SD_DIM_NONE);
  CHECK(sd_dim_mod(t, P("N"), P("0")) == SD_DIM_NONE);
  CHECK(sd_dim_min(t, SD_DIM_NONE, P("N")) == SD_DIM_NONE);
  sd_dim d = P("N"); // growth is bounded
  for (int i = 0; i < 100; i++) d = sd_dim_mul(t, d, sd_dim_add(t, d, sd_dim_sym(t, "M")));
  CHECK(d == SD_DIM_NONE);
  d = P("N");
  for (int i = 0; i < 64; i++) d = sd_dim_floordiv(t, sd_dim_max(t, d, sd_dim_mul(t, d, P("M"))), P("K"));
  CHECK(d == SD_DIM_NONE || sd_dim_get(t, d) != NULL);
}

static void test_decide(void) {
  sd_dim n = P("N"), k = P("R");
  sd_dim_set_range(t, k, 1, 64);
  CHECK(sd_dim_eq(t, n, P("N+1")) == 0);
  CHECK(sd_dim_eq(t, n, P("M")) == -1);
  CHECK(sd_dim_eq(t, P("2*N"), P("2*M+1")) == 0);
  CHECK(sd_dim_lt(t, n, P("N+1")) == 1);
  CHECK(sd_dim_lt(t, P("N+1"), n) == 0);
  CHECK(sd_dim_lt(t, k, P("65")) == 1);
  CHECK(sd_dim_lt(t, P("0"), k) == 1);
  CHECK(sd_dim_eq(t, k, P("0")) == 0);
  CHECK(sd_dim_lt(t, P("mod(N,8)"), P("8")) == 1);
  CHECK(sd_dim_eq(t, SD_DIM_NONE, n) == -1);
  CHECK(sd_dim_multiple_of(t, P("12*N*M+6"), 6));
  CHECK(!sd_dim_multiple_of(t, P("12*N*M+5"), 6));
  CHECK(sd_dim_multiple_of(t, P("max(4*N,8)"), 4));
  CHECK(sd_dim_is(t, P("3"), 3) && !sd_dim_is(t, n, 3));
  CHECK(P("floordiv(R,65)") == P("0"));
  CHECK(P("min(R,64)") == k && P("max(R,1)") == k);
  CHECK_TEXT(S(sd_dim_fresh(t, "nz")), "nz_0");
}

static void test_text(void) {
  static const char *const stable[] = {"N", "-N", "2*N+1", "floordiv(N+1,2)", "max(M,N)", "broadcast(M,N)", "\"a b\"", "\"x\\\"y\\\\\"+3",
                                       "N*N*M+4", "-3*M+N-7", "mod(N,floordiv(M+3,4))", "?", "-5", "-9223372036854775808",
                                       "9223372036854775807", "-9223372036854775808*N"};
  for (size_t i = 0; i < sizeof stable / sizeof *stable; i++) {
    sd_dim d = P(stable[i]);
    const char *once = S(d);
    CHECK(P(once) == d);
    CHECK_TEXT(S(P(once)), once);
  }
  static const char *const bad[] = {"", "+", "N+", "2*", "floordiv(N)", "floordiv(N,0)", "foo(N,M)", "(N", "\"open", "99999999999999999999",
                                    "N*(", "max(N,M", "\"\\x00\"", "mod(,)", "*N"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *p = bad[i];
    CHECK(sd_dim_parse(t, &p) == SD_DIM_NONE && p == bad[i]);
  }
  char deep[4096];
  memset(deep, '(', sizeof deep - 1);
  deep[sizeof deep - 1] = 0;
  const char *p = deep;
  CHECK(sd_dim_parse(t, &p) == SD_DIM_NONE);
}

// ---- random expressions, evaluated beside their construction ----

static uint64_t seed = 88172645463325252ull;
static uint32_t rnd(uint32_t n) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (uint32_t)(seed >> 33) % n;
}

static int64_t values[4];
static const char *const names[4] = {"A", "B", "C", "D"};

static bool lookup(void *user, const char *name, int64_t *v) {
  (void)user;
  for (int i = 0; i < 4; i++)
    if (strcmp(names[i], name) == 0) {
      *v = values[i];
      return true;
    }
  return false;
}

typedef struct pair { sd_dim d; int64_t v[3]; bool ok; } pair; // values under three assignments
static const int64_t assign[3][4] = {{3, 7, 1, 12}, {1, 2, 5, 64}, {17, 4, 9, 2}};

static int64_t fdiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

static int64_t apply(int op, int64_t a, int64_t b, bool *ok) {
  if (op >= 3 && op <= 5 && b == 0) {
    *ok = false;
    return 0;
  }
  switch (op) {
  case 0: return a + b;
  case 1: return a - b;
  case 2: return a * b;
  case 3: return fdiv(a, b);
  case 4: return -fdiv(-a, b);
  case 5: return a - b * fdiv(a, b);
  case 6: return a < b ? a : b;
  case 7: return a > b ? a : b;
  default: *ok = *ok && a >= 0 && b >= 0; return a == 0 || b == 0 ? 0 : a > b ? a : b;
  }
}

static pair combine(int op, pair a, pair b) {
  static sd_dim (*const fns[])(sd_dimtab *, sd_dim, sd_dim) = {sd_dim_add, sd_dim_sub, sd_dim_mul, sd_dim_floordiv, sd_dim_ceildiv,
                                                              sd_dim_mod, sd_dim_min, sd_dim_max, sd_dim_bcast};
  pair r = {.d = fns[op](t, a.d, b.d), .ok = a.ok && b.ok};
  for (int i = 0; i < 3; i++) {
    r.v[i] = apply(op, a.v[i], b.v[i], &r.ok);
    if (r.v[i] > 1000000000 || r.v[i] < -1000000000) r.ok = false; // keeps the plain arithmetic in range
  }
  return r;
}

static pair random_expr(int depth) {
  if (depth == 0 || rnd(5) == 0) {
    pair r = {.ok = true};
    if (rnd(2)) {
      int64_t c = (int64_t)rnd(13) - 4;
      r.d = sd_dim_const(t, c);
      for (int i = 0; i < 3; i++) r.v[i] = c;
    } else {
      int s = (int)rnd(4);
      r.d = sd_dim_sym(t, names[s]);
      for (int i = 0; i < 3; i++) r.v[i] = assign[i][s];
    }
    return r;
  }
  return combine((int)rnd(9), random_expr(depth - 1), random_expr(depth - 1));
}

static void check_pair(const pair *r, int *checked) {
  if (!r->ok || !r->d) return;
  const sd_dimnode *x = sd_dim_get(t, r->d);
  sd_str s = {0};
  sd_dim_print(t, r->d, &s);
  const char *p = s.p;
  sd_dim back = sd_dim_parse(t, &p);
  if (back != r->d || *p) {
    printf("reparsed %s -> %s\n", s.p, S(back));
    CHECK(false);
  }
  for (int i = 0; i < 3; i++) {
    int64_t v;
    memcpy(values, assign[i], sizeof values);
    bool ok = sd_dim_eval(t, r->d, lookup, NULL, &v);
    if (!ok || v != r->v[i] || v < x->min || v > x->max) {
      printf("%s: got %lld (%d), want %lld, bounds [%lld, %lld]\n", s.p, (long long)v, ok, (long long)r->v[i],
             (long long)x->min, (long long)x->max);
      CHECK(false);
    }
  }
  ++*checked;
  sd_str_free(&s);
}

static sd_dim subst_values(void *user, const char *name) {
  int64_t v;
  (void)user;
  return lookup(NULL, name, &v) ? sd_dim_const(t, v) : SD_DIM_NONE;
}

static void test_random(void) {
  int checked = 0, decided = 0;
  for (int k = 0; k < 20000; k++) {
    pair a = random_expr(1 + (int)rnd(4)), b = random_expr(2);
    check_pair(&a, &checked);
    if (!a.ok || !b.ok || !a.d || !b.d) continue;
    int eq = sd_dim_eq(t, a.d, b.d), lt = sd_dim_lt(t, a.d, b.d);
    for (int i = 0; i < 3; i++) {
      if (eq >= 0 && eq != (a.v[i] == b.v[i])) CHECK(false);
      if (lt >= 0 && lt != (a.v[i] < b.v[i])) CHECK(false);
      int64_t f = 1 + rnd(12);
      if (sd_dim_multiple_of(t, a.d, f) && a.v[i] % f) CHECK(false);
      memcpy(values, assign[i], sizeof values);
      sd_dim c = sd_dim_subst(t, a.d, subst_values, NULL);
      if (!sd_dim_is(t, c, a.v[i])) {
        printf("%s gives %s\n", S(a.d), S(c));
        CHECK(false);
      }
    }
    decided += eq >= 0;
  }
  printf("random: %d expressions checked, %d comparisons decided\n", checked, decided);
  CHECK(checked > 5000);
}

int main(void) {
  jmp_buf oom;
  arena = sd_arena_new();
  sd_arena_set_oom(arena, &oom);
  if (setjmp(oom)) return 1;
  t = sd_dimtab_new(arena);
  test_canonical();
  test_none();
  test_decide();
  test_text();
  for (int i = 0; i < 4; i++) sd_dim_set_range(t, sd_dim_sym(t, names[i]), 1, 64);
  test_random();
  sd_arena_free(arena);
  return check_end();
}
