// Quotients by a constant that are clipped and rounded to integers, as quantization divides by a scale: a division takes as
// long as ten multiplications. Multiplying by the reciprocal can differ from it in the last bits, but only a quotient near the
// middle between two integers shows that. So the compiler tries the numbers around each of these middles: both ways, and the
// integers they end in, grow with the dividend, so that they agree for all dividends when they agree there. Where one
// factor is not near enough two are tried (the rest of the reciprocal is added first), and if these fail, too, the division stays.
#include <math.h>

#include "codegen/cpu/emit.h"

#define MOST_STEPS 1024 // integers from end to end
#define NEAR       8    // numbers to each side of a middle: more than both ways are apart from it

typedef struct clip { const sd_expr *t; double lo, hi; } clip;

static bool number(const sd_expr *e, double *v) { return e->op == SD_X_CONST && e->dtype == SD_F32 && sd_x_const_value(e, v, NULL); }

// e as t within bounds.
static void find_clip(const sd_expr *e, clip *c) {
  double v;
  c->lo = -INFINITY, c->hi = INFINITY;
  for (;;) {
    const sd_expr *next = NULL;
    if ((e->op == SD_X_MIN || e->op == SD_X_MAX) && (number(e->a[1], &v) || number(e->a[0], &v))) {
      next = e->a[e->a[1]->op == SD_X_CONST ? 0 : 1];
      *(e->op == SD_X_MIN ? &c->hi : &c->lo) = e->op == SD_X_MIN ? fmin(c->hi, v) : fmax(c->lo, v);
    } else if (e->op == SD_X_SEL && e->a[0]->op == SD_X_LT && number(e->a[2], &v)) {
      const sd_expr *const *of = (const sd_expr *const *)e->a[0]->a;
      bool low = of[0] == e->a[2] && of[1] == e->a[1], high = of[1] == e->a[2] && of[0] == e->a[1];
      if (low) c->lo = fmax(c->lo, v);
      if (high) c->hi = fmin(c->hi, v);
      if (low || high) next = e->a[1];
    }
    if (!next) break;
    e = next;
  }
  c->t = e;
}

// ---- the compiler's proof ----
static float by_factors(float x, const sd_emit_quotient *q) { return q->rest > 0 ? fmaf(x, q->factor, x * q->rest) : x * q->factor; }

static float ends_in(float v, const clip *c) { return rintf(fminf(fmaxf(v, (float)c->lo), (float)c->hi)); }

static bool agrees(const clip *c, float divisor, const sd_emit_quotient *q) {
  for (double k = c->lo; k < c->hi; k++) {
    float x = (float)((k + 0.5) * divisor);
    for (int i = 0; i < NEAR; i++) x = nextafterf(x, -INFINITY);
    for (int i = 0; i <= 2 * NEAR; i++, x = nextafterf(x, INFINITY))
      if (ends_in(x / divisor, c) != ends_in(by_factors(x, q), c)) return false;
  }
  return true;
}

// Infinite dividends end at the bounds, too: rest is not negative.
static void find_factors(const sd_emit *E, const clip *c, float divisor, sd_emit_quotient *q) {
  *q = (sd_emit_quotient){.of = c->t, .lo = c->lo, .hi = c->hi, .factor = (float)(1.0 / (double)divisor)};
  q->found = agrees(c, divisor, q);
  if (q->found || !E->has_fma) return;
  if ((double)q->factor > 1.0 / (double)divisor) q->factor = nextafterf(q->factor, 0);
  q->rest = (float)(1.0 / (double)divisor - (double)q->factor);
  q->found = q->rest > 0 && agrees(c, divisor, q);
}

static bool factors_of(sd_emit *E, const clip *c, sd_emit_quotient *out) {
  double d;
  sd_emit_quotient *q = &E->quotient;
  bool whole = c->lo == floor(c->lo) && c->hi == floor(c->hi) && c->hi > c->lo && c->hi - c->lo <= MOST_STEPS;
  if (!whole || fabs(c->lo) > 65536 || c->t->op != SD_X_DIV || c->t->dtype != SD_F32 || !number(c->t->a[1], &d)) return false;
  if (d < 0x1p-60 || d > 0x1p60) return false; // neither it nor its reciprocal is near the ends of f32
  if (q->of != c->t || q->lo != c->lo || q->hi != c->hi) find_factors(E, c, (float)d, q);
  *out = *q; // the dividend may have other quotients
  return q->found;
}

// ---- code ----
static sd_ll with(sd_emit *E, const sd_expr *e, const clip *c, sd_ll quotient, bool lanes) {
  sd_ll v[3];
  if (e == c->t) return quotient;
  if (e->op == SD_X_CONST) return sd_emit_value_lanes(E, e, lanes);
  for (uint32_t i = 0; i < e->n; i++) v[i] = with(E, e->a[i], c, quotient, lanes);
  return sd_emit_op(E, e, v, lanes);
}

sd_ll sd_emit_clipped_quotient(sd_emit *E, const sd_expr *e, bool lanes) {
  clip c;
  find_clip(e, &c);
  sd_emit_quotient q;
  if (!factors_of(E, &c, &q)) return NULL;
  sd_ll x = sd_emit_value_lanes(E, c.t->a[0], lanes);
  LLVMTypeRef t = LLVMTypeOf(x);
  sd_ll f = sd_emit_splat_f(t, (double)q.factor);
  sd_ll v = q.rest > 0 ? sd_emit_fma(E, x, f, LLVMBuildFMul(E->b, x, sd_emit_splat_f(t, (double)q.rest), "")) : LLVMBuildFMul(E->b, x, f, "");
  return with(E, e, &c, v, lanes);
}
