// Transcendental functions as tile arithmetic: range reduction, a polynomial or rational approximation, special values.
//
// Coefficients are weighted minimax fits (Remez-like reweighting in 50 digits); the comment at each gives the largest
// error of the formula itself, relative unless said. Rounding to integers goes through the addition of 1.5 * 2^mantissa,
// which leaves the integer in the low bits and needs no rounding instruction.
#include "codegen/vmath.h"

#include <math.h>

typedef sd_expr X;
typedef struct vm {
  sd_kernel *k;
  sd_dtype t, u;   // float type, unsigned type of its width
  bool d;          // f64
  sd_vmath how;    // what the target has for f32
  int mant, bias;  // mantissa bits, exponent bias
} vm;

static vm vm_of(sd_kernel *k, sd_dtype t) {
  bool d = t == SD_F64;
  return (vm){k, t, d ? SD_U64 : SD_U32, d, SD_VMATH_PLAIN, d ? 52 : 23, d ? 1023 : 127};
}

// ---- short forms ----
static X *c(vm v, double x) { return sd_x_f(v.k, v.t, x); }
static X *ci(vm v, uint64_t x) { return sd_x_i(v.k, v.u, (int64_t)x); }
static X *add(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_ADD, a, b); }
static X *sub(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_SUB, a, b); }
static X *mul(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_MUL, a, b); }
static X *quo(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_DIV, a, b); }
// Of a formula that ends with it, where the last bit is not right anyway.
static X *about(vm v, X *a, X *b) { return sd_x_bin(v.k, v.how == SD_VMATH_EXP ? SD_X_FLOORDIV : SD_X_DIV, a, b); }
static X *fma_(vm v, X *a, X *b, X *z) { return sd_x_fma(v.k, a, b, z); }
static X *min(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_MIN, a, b); }
static X *max(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_MAX, a, b); }
static X *and_(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_AND, a, b); }
static X *or_(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_OR, a, b); }
static X *shl(vm v, X *a, int n) { return sd_x_bin(v.k, SD_X_SHL, a, ci(v, (uint64_t)n)); }
static X *shr(vm v, X *a, int n) { return sd_x_bin(v.k, SD_X_SHR, a, ci(v, (uint64_t)n)); }
static X *eq(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_EQ, a, b); }
static X *ne(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_NE, a, b); }
static X *lt(vm v, X *a, X *b) { return sd_x_bin(v.k, SD_X_LT, a, b); }
static X *sel(vm v, X *cond, X *a, X *b) { return sd_x_sel(v.k, cond, a, b); }
static X *un(vm v, sd_xop op, X *a) { return sd_x_un(v.k, op, a); }
static X *neg(vm v, X *a) { return un(v, SD_X_NEG, a); }
static X *fabs_(vm v, X *a) { return un(v, SD_X_ABS, a); }
static X *root(vm v, X *a) { return un(v, SD_X_SQRT, a); }
static X *bits(vm v, X *a) { return sd_x_bits(v.k, v.u, a); }
static X *flt(vm v, X *a) { return sd_x_bits(v.k, v.t, a); }

static uint64_t bits_of(vm v, double x) {
  union { double d; uint64_t u; } d = {x};
  union { float f; uint32_t u; } f = {(float)x};
  return v.d ? d.u : f.u;
}

static X *copysign_(vm v, X *mag, X *sign) { // mag >= 0
  return flt(v, or_(v, bits(v, mag), and_(v, bits(v, sign), ci(v, bits_of(v, -0.0)))));
}

static X *horner(vm v, X *x, const double *p, int n) {
  X *r = c(v, p[n - 1]);
  for (int i = n - 2; i >= 0; i--) r = fma_(v, r, x, c(v, p[i]));
  return r;
}
#define POLY(v, x, p) horner(v, x, p, (int)(sizeof(p) / sizeof *(p)))

static X *magic(vm v) { return c(v, v.d ? 0x1.8p52 : 0x1.8p23); }

// ---- exp ----
static const double exp32[] = {0.4999999201, 0.1666651484, 0.04166859431, 0.008369329554, 0.001380840375}; // 3e-9
static const double exp64[] = {0.5000000000000011676, 0.1666666666666642373, 0.04166666666651940788, // 4e-18
                               0.008333333333490032588, 0.001388888894684005501, 0.0001984126951788545611,
                               0.00002480148944171330873, 2.755757222349027708e-6, 2.763165313123794155e-7,
                               2.500614753632971892e-8};

// p * 2^n for the n in the low bits of `rounded`, as two factors, so that results down to the smallest denormal and up to
// infinity are right; small: NULL = n is -125 at least.
static X *scale(vm v, X *p, X *rounded, X *small) {
  uint64_t low = (uint64_t)v.bias - 1, high = low + 64;
  if (!small) return mul(v, mul(v, p, flt(v, add(v, shl(v, bits(v, rounded), v.mant), ci(v, low << v.mant)))), c(v, 2));
  X *e = add(v, shl(v, bits(v, rounded), v.mant), sel(v, small, ci(v, high << v.mant), ci(v, low << v.mant)));
  return mul(v, mul(v, p, flt(v, e)), sel(v, small, c(v, 0x1p-63), c(v, 2)));
}

// The f32 form for targets with an instruction for p * 2^n; of an argument -z, the sign goes into the constants.
static X *exp_scalef(vm v, X *x) {
  bool minus = x->op == SD_X_NEG;
  if (minus) x = x->a[0];
  double s = minus ? -1 : 1;
  X *lo = c(v, minus ? -89 : -104), *hi = c(v, minus ? 104 : 89), *y = max(v, min(v, x, hi), lo);
  X *n = sub(v, fma_(v, y, c(v, s * M_LOG2E), magic(v)), magic(v));
  X *r = fma_(v, n, c(v, -0.693145751953125), minus ? neg(v, y) : y);
  r = fma_(v, n, c(v, -1.428606765330187e-06), r);
  X *p = fma_(v, fma_(v, POLY(v, r, exp32), r, c(v, 1)), r, c(v, 1));
  return sd_x_bin(v.k, SD_X_SHL, p, n);
}

// Is x max(.., constant) and exp(x) 2^-125 at least? Weights of Softmax are such (sd_x_exp_weight).
static bool not_small(const X *x) {
  double f;
  for (int i = 0; i < 2 && x->op == SD_X_MAX; i++)
    if (sd_x_const_value(x->a[i], &f, NULL) && f > -125.5 * M_LN2) return true;
  return false;
}

static X *exp_(vm v, X *x) {
  if (v.how == SD_VMATH_EXP) return un(v, SD_X_EXP, x);
  if (v.how == SD_VMATH_SCALE) return exp_scalef(v, x);
  bool plain = !v.d && not_small(x);
  x = min(v, x, c(v, v.d ? 710 : 89));
  if (!plain) x = max(v, x, c(v, v.d ? -746 : -104));
  X *t = fma_(v, x, c(v, M_LOG2E), magic(v)), *n = sub(v, t, magic(v));
  X *r = fma_(v, n, c(v, v.d ? -6.93147180369123816490e-01 : -0.693145751953125), x); // ln 2 in two parts
  r = fma_(v, n, c(v, v.d ? -1.90821492927058770002e-10 : -1.428606765330187e-06), r);
  X *q = v.d ? POLY(v, r, exp64) : POLY(v, r, exp32);
  return scale(v, add(v, fma_(v, mul(v, r, r), q, r), c(v, 1)), t, plain ? NULL : lt(v, x, c(v, v.d ? -700 : -86)));
}

// 1 / (1 + exp(m)) of f32 without instructions for p * 2^n. One factor 2^n is enough: what is below the smallest normal number is 0.
// Of an argument -z the sign goes into the constants.
static X *logistic_(vm v, X *m) {
  const double most = 87.33654; // 126 ln 2, below
  bool minus = m->op == SD_X_NEG;
  X *z = minus ? m->a[0] : m, *y = max(v, min(v, z, c(v, most)), c(v, -most));
  double s = minus ? -1 : 1, q[5];
  for (int i = 0; i < 5; i++) q[i] = i % 2 ? s * exp32[i] : exp32[i];
  X *t = fma_(v, y, c(v, s * M_LOG2E), magic(v)), *n = sub(v, t, magic(v));
  X *r = fma_(v, n, c(v, s * -0.693145751953125), y); // s times the rest
  r = fma_(v, n, c(v, s * -1.428606765330187e-06), r);
  X *p = fma_(v, fma_(v, POLY(v, r, q), r, c(v, s)), r, c(v, 1));
  X *power = flt(v, add(v, shl(v, bits(v, t), v.mant), ci(v, (uint64_t)v.bias << v.mant)));
  X *gone = minus ? lt(v, z, c(v, -most)) : lt(v, c(v, most), z);
  return sel(v, gone, c(v, 0), quo(v, c(v, 1), fma_(v, p, power, c(v, 1))));
}

static bool is_one(const X *e) {
  double f;
  return sd_x_const_value(e, &f, NULL) && f == 1;
}

static X *logistic(sd_kernel *k, X *e, void *user) {
  const X *sum = e->op == SD_X_DIV && e->dtype == SD_F32 && is_one(e->a[0]) ? e->a[1] : NULL;
  (void)user;
  if (!sum || sum->op != SD_X_ADD || !is_one(sum->a[sum->a[0]->op == SD_X_EXP])) return e;
  const X *power = sum->a[sum->a[0]->op != SD_X_EXP];
  return power->op == SD_X_EXP ? logistic_(vm_of(k, SD_F32), power->a[0]) : e;
}

// ---- log ----
static const double log32[] = {0.333333126, -0.2500000706, 0.200021122, -0.1666804787, 0.1421973559, // 7e-10
                               -0.1240535873, 0.1188679788, -0.116747741, 0.06747380712};
static const double log64[] = {0.6666666666666733278, 0.3999999999941626188, 0.2857142874254386176, // 1e-18
                               0.2222219853369479087, 0.1818356707944821144, 0.1531396734565242285,
                               0.1479688487160512742};

static X *log_(vm v, X *x) {
  X *tiny = lt(v, x, c(v, v.d ? 0x1p-1022 : 0x1p-126));
  X *y = sel(v, tiny, mul(v, x, c(v, v.d ? 0x1p54 : 0x1p25)), x);
  uint64_t low = bits_of(v, M_SQRT1_2), span = 2 * ((uint64_t)v.bias + 1);
  X *i = add(v, bits(v, y), ci(v, (span << v.mant) - low)); // exponent + span, mantissa from sqrt(1/2) on
  X *m = flt(v, add(v, and_(v, i, ci(v, (1ull << v.mant) - 1)), ci(v, low)));
  double big = v.d ? 0x1p52 : 0x1p23; // integer to float through the mantissa of a large number
  X *e = sub(v, flt(v, or_(v, shr(v, i, v.mant), ci(v, bits_of(v, big)))), c(v, big + (double)span));
  e = sel(v, tiny, sub(v, e, c(v, v.d ? 54 : 25)), e);
  X *f = sub(v, m, c(v, 1)), *lo = c(v, v.d ? 1.90821492927058770002e-10 : 1.428606765330187e-06), *r;
  if (v.d) {
    X *s = quo(v, f, add(v, f, c(v, 2))), *z = mul(v, s, s);
    r = fma_(v, mul(v, s, z), POLY(v, z, log64), mul(v, s, c(v, 2)));
    r = fma_(v, e, lo, r);
  } else {
    X *z = mul(v, f, f);
    r = fma_(v, e, lo, mul(v, mul(v, f, z), POLY(v, f, log32)));
    r = add(v, f, fma_(v, z, c(v, -0.5), r));
  }
  r = fma_(v, e, c(v, v.d ? 6.93147180369123816490e-01 : 0.693145751953125), r);
  r = sel(v, lt(v, c(v, 0), x), r, sel(v, eq(v, x, c(v, 0)), c(v, -INFINITY), c(v, NAN)));
  return sel(v, eq(v, x, c(v, INFINITY)), x, r);
}

static X *log1p_(vm v, X *x) { // the error of 1 + x cancels in the quotient
  X *u = add(v, c(v, 1), x), *d = sub(v, u, c(v, 1));
  X *r = quo(v, mul(v, log_(v, u), x), d);
  X *plain = sel(v, eq(v, u, c(v, INFINITY)), u, r);
  return sel(v, eq(v, d, c(v, 0)), x, plain);
}

// ---- tanh, erf ----
static const double tanh32p[] = {0.9999999932, 0.1308311567, 0.003102955598, 1.114378652e-5, // 7e-9 up to 9.02
                                 -2.018212577e-8, 5.25693037e-11, -8.433973418e-14};
static const double tanh32q[] = {1.0, 0.4641644262, 0.02449119806, 0.0002544685063};
static const double tanh64[] = {-0.3333333333333331408, 0.133333333333299104, -0.05396825396613531383, // 3e-19 to 0.625
                                0.02186948847048424784, -0.008863234336854971239, 0.003592114212812064516,
                                -0.001455727185812313541, 0.0005894566202440093302, -0.0002370241683181666127,
                                0.00009157879114291772675, -0.0000302064151567847275, 6.050379402371262486e-6};
static const double erf32p[] = {1.128379146, 0.190401154, 0.05274802041, 0.003765391979, 0.0002848782162, // 2e-8 to 3.92
                                2.050133594e-6};
static const double erf32q[] = {1.0, 0.502071371, 0.1141069166, 0.01496876179, 0.00116248221, 3.809196268e-5};
static const double erf64[] = {1.128379167095512566, -0.3761263890318351978, 0.1128379167094420013, // 7e-18 up to 1
                               -0.02686617064311433288, 0.005223977606142683959, -0.0008548325930423596237,
                               0.0001205529360681357384, -0.00001492471279181914456, 1.644713638483229444e-6,
                               -1.620634028790395492e-7, 1.371104797468389359e-8, -7.779503914249049501e-10};
static const double erfcx64[] = {0.1455897212750385393, -0.2734219314954264779, 0.2260080669166211902, // 3e-19 in 1..6
                                 -0.1635718955239260021, 0.1026043120322465452, -0.05480232669465774219,
                                 0.02414322396960098024, -0.00822062117536156864, 0.001802962469879363588,
                                 -0.0000255346825409885615, -0.0001524622387095268827, 0.00004789051367266327882,
                                 3.5603980242414706e-6, -6.16977591452919814e-6, 9.201585268822868335e-7,
                                 9.988094877636906949e-7, 1.040249603695508237e-7};

static X *clamp(vm v, X *x, double m) { return max(v, min(v, x, c(v, m)), c(v, -m)); }

static X *tanh_(vm v, X *x) {
  if (!v.d) {
    X *y = clamp(v, x, 9.02), *z = mul(v, y, y);
    return clamp(v, about(v, mul(v, y, POLY(v, z, tanh32p)), POLY(v, z, tanh32q)), 1);
  }
  X *a = fabs_(v, x), *z = mul(v, x, x);
  X *small = fma_(v, mul(v, x, z), POLY(v, z, tanh64), x);
  X *e = exp_(v, add(v, a, a));
  X *large = copysign_(v, sub(v, c(v, 1), quo(v, c(v, 2), add(v, e, c(v, 1)))), x);
  return sel(v, lt(v, a, c(v, 0.625)), small, sel(v, ne(v, x, x), x, large));
}

static X *erf_(vm v, X *x) {
  if (!v.d) {
    X *y = clamp(v, x, 3.92), *z = mul(v, y, y);
    return clamp(v, about(v, mul(v, y, POLY(v, z, erf32p)), POLY(v, z, erf32q)), 1);
  }
  X *a = fabs_(v, x), *z = mul(v, x, x), *b = max(v, min(v, a, c(v, 6)), c(v, 1));
  X *t = quo(v, sub(v, b, c(v, 3.75)), add(v, b, c(v, 3.75)));
  X *large = sub(v, c(v, 1), mul(v, exp_(v, neg(v, mul(v, b, b))), POLY(v, t, erfcx64)));
  X *small = mul(v, x, POLY(v, z, erf64));
  return sel(v, lt(v, a, c(v, 1)), small, sel(v, ne(v, x, x), x, copysign_(v, large, x)));
}

// ---- sin, cos, tan ----
static const double sin32[] = {-0.1666665439, 0.008332157898, -0.0001951561991};  // 3e-9
static const double cos32[] = {0.04166664627, -0.00138873441, 2.443618878e-5};    // 1e-10
static const double sin64[] = {-0.1666666666666663208, 0.008333333333322323908, -0.0001984126982972137118, // 3e-18
                               2.755731366194001534e-6, -2.505075360387227499e-8, 1.589654661173258207e-10};
static const double cos64[] = {0.04166666666666659449, -0.001388888888887329276, 0.00002480158728898067015, // 5e-20
                               -2.75573142120611831e-7, 2.087570479977319784e-9, -1.135872088051796972e-11};

typedef enum trig { SIN, COS, TAN } trig;

// The reduction by multiples of pi/2 (in three parts) runs in f64 also for f32: exact enough up to about 1e9.
static X *trig_(vm v, X *x, trig what) {
  vm w = vm_of(v.k, SD_F64);
  X *xd = sd_x_cast(v.k, SD_F64, x), *t = fma_(w, xd, c(w, M_2_PI), magic(w)), *n = neg(w, sub(w, t, magic(w)));
  X *r = fma_(w, n, c(w, 1.57079632673412561417e+00), xd);
  r = fma_(w, n, c(w, 6.07710050630396597660e-11), r);
  r = fma_(w, n, c(w, 2.02226624879595063154e-21), r);
  r = clamp(w, r, 0.7855); // only huge arguments leave the range
  X *q = bits(w, t);
  if (what == COS) q = add(w, q, ci(w, 1));
  X *odd = ne(w, and_(w, q, ci(w, 1)), ci(w, 0)), *minus = ne(w, and_(w, q, ci(w, 2)), ci(w, 0));
  r = sd_x_cast(v.k, v.t, r);
  X *z = mul(v, r, r);
  X *s = fma_(v, mul(v, r, z), v.d ? POLY(v, z, sin64) : POLY(v, z, sin32), r);
  X *k = fma_(v, mul(v, z, z), v.d ? POLY(v, z, cos64) : POLY(v, z, cos32), fma_(v, z, c(v, -0.5), c(v, 1)));
  if (what == TAN) return quo(v, sel(v, odd, neg(v, k), s), sel(v, odd, s, k));
  X *y = sel(v, odd, k, s);
  return sel(v, minus, neg(v, y), y);
}

// ---- inverse functions ----
static const double asin32[] = {0.1666675312, 0.07495246013, 0.04547703526, 0.02414754239, 0.04221877191}; // 5e-9 to 1/2
static const double asin64[] = {0.1666666666666541792, 0.0750000000033584599, 0.04464285682814790702, // 1e-17
                                0.03038195918478132594, 0.0223717561794546636, 0.01735974076488899281,
                                0.01388482589568229132, 0.01217214985400507371, 0.006514501449891990392,
                                0.01956665722192789587, -0.01628625900865421601, 0.0319556816006140319};
static const double atan32[] = {-0.3333294684, 0.1997777456, -0.1387875568, 0.08057573221}; // 2e-8 up to tan(pi/8)
static const double atan64[] = {-0.3333333333333029729, 0.1999999999911447817, -0.1428571419682624481, // 3e-17
                                0.1111110670319864822, -0.09090783342440410436, 0.0769007913580541394,
                                -0.06641200175224097158, 0.05692888036339390895, -0.04359947474730383722,
                                0.0212686361885589949};

static X *asin_core(vm v, X *y, X *z) { // asin(y), z = y*y <= 1/4
  return fma_(v, mul(v, y, z), v.d ? POLY(v, z, asin64) : POLY(v, z, asin32), y);
}

static X *asin_(vm v, X *x, bool acos) {
  X *a = fabs_(v, x), *half = c(v, 0.5), *big = lt(v, half, a);
  X *zb = mul(v, sub(v, c(v, 1), a), half); // asin(a) = pi/2 - 2 asin(sqrt((1-a)/2))
  X *y = sel(v, big, root(v, zb), a), *z = sel(v, big, zb, mul(v, x, x));
  X *s = asin_core(v, y, z), *s2 = add(v, s, s), *negative = lt(v, x, c(v, 0));
  if (!acos) return copysign_(v, sel(v, big, sub(v, c(v, M_PI_2), s2), s), x);
  X *far = sel(v, negative, sub(v, c(v, M_PI), s2), s2);
  return sel(v, big, far, sub(v, c(v, M_PI_2), sel(v, negative, neg(v, s), s)));
}

static X *atan_(vm v, X *x) {
  X *a = fabs_(v, x), *one = c(v, 1), *big = lt(v, c(v, M_SQRT2 + 1), a), *mid = lt(v, c(v, M_SQRT2 - 1), a);
  X *num = sel(v, big, c(v, -1), sel(v, mid, sub(v, a, one), a));
  X *den = sel(v, big, a, sel(v, mid, add(v, a, one), one));
  X *y = quo(v, num, den), *z = mul(v, y, y);
  X *r = fma_(v, mul(v, y, z), v.d ? POLY(v, z, atan64) : POLY(v, z, atan32), y);
  r = add(v, sel(v, big, c(v, M_PI_2), sel(v, mid, c(v, M_PI_4), c(v, 0))), r);
  return sel(v, ne(v, x, x), x, copysign_(v, r, x));
}

// ---- hyperbolic functions ----
static const double sinh32[] = {0.1666666649, 0.008333350717, 0.0001983605156, 2.817498163e-6}; // 5e-11 up to 1
static const double sinh64[] = {0.1666666666666666742, 0.008333333333333139282, 0.0001984126984143785558, // 9e-20
                                2.755731915521931519e-6, 2.505212342227947505e-8, 1.605723824205900532e-10,
                                7.759381534380811896e-13};

static X *half_exp(vm v, X *a) { // exp(a)/2 without overflow before the result does
  X *e = exp_(v, mul(v, a, c(v, 0.5)));
  return mul(v, mul(v, e, c(v, 0.5)), e);
}

static X *sinh_(vm v, X *x) {
  X *a = fabs_(v, x), *z = mul(v, x, x), *w = half_exp(v, a);
  X *small = fma_(v, mul(v, x, z), v.d ? POLY(v, z, sinh64) : POLY(v, z, sinh32), x);
  X *large = sub(v, w, quo(v, c(v, 0.25), w));
  return sel(v, lt(v, a, c(v, 1)), small, sel(v, ne(v, x, x), x, copysign_(v, large, x)));
}

static X *cosh_(vm v, X *x) {
  X *w = half_exp(v, fabs_(v, x));
  return add(v, w, quo(v, c(v, 0.25), w));
}

static X *asinh_(vm v, X *x) {
  X *a = fabs_(v, x), *one = c(v, 1), *huge = lt(v, c(v, v.d ? 0x1p500 : 0x1p60), a);
  X *b = sel(v, huge, one, a), *b2 = mul(v, b, b);
  X *r = log1p_(v, add(v, b, quo(v, b2, add(v, one, root(v, add(v, b2, one))))));
  r = sel(v, huge, add(v, log_(v, a), c(v, M_LN2)), r);
  return sel(v, ne(v, x, x), x, copysign_(v, r, x));
}

static X *acosh_(vm v, X *x) {
  X *one = c(v, 1), *huge = lt(v, c(v, v.d ? 0x1p500 : 0x1p60), x), *b = sel(v, huge, one, x), *m = sub(v, b, one);
  X *r = log1p_(v, add(v, m, root(v, mul(v, m, add(v, b, one)))));
  r = sel(v, huge, add(v, log_(v, x), c(v, M_LN2)), r);
  return sel(v, lt(v, x, one), c(v, NAN), r);
}

static X *atanh_(vm v, X *x) {
  X *a = fabs_(v, x);
  X *r = mul(v, c(v, 0.5), log1p_(v, quo(v, add(v, a, a), sub(v, c(v, 1), a))));
  return sel(v, ne(v, x, x), x, copysign_(v, sel(v, lt(v, c(v, 1), a), c(v, NAN), r), x));
}

// ---- pow, fmod ----
static X *whole_power(vm v, X *x, int n) { // x^n, n > 0
  X *r = NULL;
  for (int m = n; m; m >>= 1, x = m ? mul(v, x, x) : x)
    if (m & 1) r = r ? mul(v, r, x) : x;
  return r;
}

// x^(quarters / 4), small and constant: products of x and of its roots. Rounded are two roots, two products and a quotient at most, of which
// the first root counts one and a half times: errors are below 4.5 * 2^-24 (f64: 2^-53) of the result. Powers of -0 and -infinity that
// are not whole are those of 0 and infinity.
static X *power(vm v, X *x, int quarters) {
  int n = quarters < 0 ? -quarters : quarters, rest = n % 4;
  if (rest) x = sel(v, eq(v, x, c(v, -INFINITY)), c(v, INFINITY), add(v, x, c(v, 0)));
  X *r = n >= 4 ? whole_power(v, x, n / 4) : NULL, *half = rest ? root(v, x) : NULL;
  if (rest & 2) r = r ? mul(v, r, half) : half;
  if (rest & 1) r = r ? mul(v, r, root(v, half)) : root(v, half);
  return quarters < 0 ? quo(v, c(v, 1), r) : r;
}

static X *pow_(vm v, X *x, X *y) {
  double f;
  if (sd_x_const_value(y, &f, NULL)) {
    if (f == 0) return c(v, 1);
    if (4 * f == trunc(4 * f) && fabs(f) <= 4) return power(v, x, (int)(4 * f));
  }
  vm w = vm_of(v.k, SD_F64); // the product needs more digits than the result
  X *one = c(w, 1), *zero = c(w, 0), *xd = sd_x_cast(v.k, SD_F64, x), *yd = sd_x_cast(v.k, SD_F64, y), *a = fabs_(w, xd);
  X *r = exp_(w, mul(w, yd, log_(w, a)));
  X *whole = eq(w, un(w, SD_X_TRUNC, yd), yd), *h = mul(w, yd, c(w, 0.5));
  X *odd = and_(w, whole, ne(w, un(w, SD_X_TRUNC, h), h));
  X *negative = ne(w, shr(w, bits(w, xd), 63), ci(w, 0));
  r = sel(w, and_(w, negative, odd), neg(w, r), r);
  r = sel(w, and_(w, and_(w, lt(w, xd, zero), lt(w, a, c(w, INFINITY))), un(w, SD_X_NOT, whole)), c(w, NAN), r);
  X *sure = or_(w, eq(w, xd, one), or_(w, eq(w, yd, zero), and_(w, eq(w, a, one), eq(w, fabs_(w, yd), c(w, INFINITY)))));
  return sd_x_cast(v.k, v.t, sel(w, sure, one, r));
}

static X *int_pow(sd_kernel *k, X *x, X *y) { // squaring; exponents below 0 give 0 but for 1 and -1
  sd_dtype t = x->dtype;
  X *r = sd_x_i(k, t, 1), *one = r, *zero = sd_x_i(k, t, 0), *base = x;
  int n = sd_dtype_bits(t);
  for (int i = 0; i < n; i++) {
    X *bit = sd_x_bin(k, SD_X_AND, sd_x_bin(k, SD_X_SHR, y, sd_x_i(k, t, i)), one);
    r = sd_x_sel(k, sd_x_bin(k, SD_X_NE, bit, zero), sd_x_bin(k, SD_X_MUL, r, base), r);
    if (i < n - 1) base = sd_x_bin(k, SD_X_MUL, base, base);
  }
  if (sd_dtype_kind_of(t) != SD_DK_I) return r;
  X *minus = sd_x_i(k, t, -1), *odd = sd_x_bin(k, SD_X_NE, sd_x_bin(k, SD_X_AND, y, one), zero);
  X *unit = sd_x_sel(k, sd_x_bin(k, SD_X_EQ, x, one), one,
                     sd_x_sel(k, sd_x_bin(k, SD_X_EQ, x, minus), sd_x_sel(k, odd, minus, one), zero));
  return sd_x_sel(k, sd_x_bin(k, SD_X_LT, y, zero), unit, r);
}

// Takes off multiples of |y| whose factor has at most 26 bits, and |y| in two halves, so that products are exact in f64
// without a fused operation; three steps reach quotients of 2^78.
static X *fmod_(vm v, X *x, X *y) {
  vm w = vm_of(v.k, SD_F64);
  X *b = sd_x_cast(v.k, SD_F64, fabs_(v, y)), *r = sd_x_cast(v.k, SD_F64, fabs_(v, x)), *top = ci(w, ~((1ull << 27) - 1));
  X *high = flt(w, and_(w, bits(w, b), top)), *low = sub(w, b, high);
  for (int i = 0; i < 3; i++) {
    X *q = flt(w, and_(w, bits(w, un(w, SD_X_TRUNC, quo(w, r, b))), top));
    r = sub(w, sub(w, r, mul(w, q, high)), mul(w, q, low));
    r = sel(w, lt(w, r, c(w, 0)), add(w, r, b), r);
  }
  r = sel(w, lt(w, r, b), r, sub(w, r, b));
  X *s = copysign_(v, sd_x_cast(v.k, v.t, fabs_(w, r)), x);
  X *keep = and_(v, eq(v, fabs_(v, y), c(v, INFINITY)), lt(v, fabs_(v, x), c(v, INFINITY)));
  return sel(v, keep, x, sel(v, eq(v, y, c(v, 0)), c(v, NAN), s));
}

static X *expand(sd_kernel *k, X *e, void *user) {
  const sd_vmath *how = user;
  if (!sd_dtype_is_float(e->dtype)) return e->op == SD_X_POW && sd_dtype_is_int(e->dtype) ? int_pow(k, e->a[0], e->a[1]) : e;
  vm v = vm_of(k, e->dtype);
  v.how = e->dtype == SD_F32 ? *how : SD_VMATH_PLAIN;
  switch (e->op) {
  case SD_X_EXP: return exp_(v, e->a[0]);
  case SD_X_LOG: return log_(v, e->a[0]);
  case SD_X_TANH: return tanh_(v, e->a[0]);
  case SD_X_ERF: return erf_(v, e->a[0]);
  case SD_X_SIN: return trig_(v, e->a[0], SIN);
  case SD_X_COS: return trig_(v, e->a[0], COS);
  case SD_X_TAN: return trig_(v, e->a[0], TAN);
  case SD_X_ASIN: return asin_(v, e->a[0], false);
  case SD_X_ACOS: return asin_(v, e->a[0], true);
  case SD_X_ATAN: return atan_(v, e->a[0]);
  case SD_X_SINH: return sinh_(v, e->a[0]);
  case SD_X_COSH: return cosh_(v, e->a[0]);
  case SD_X_ASINH: return asinh_(v, e->a[0]);
  case SD_X_ACOSH: return acosh_(v, e->a[0]);
  case SD_X_ATANH: return atanh_(v, e->a[0]);
  case SD_X_POW: return pow_(v, e->a[0], e->a[1]);
  case SD_X_FMOD: return fmod_(v, e->a[0], e->a[1]);
  default: return e;
  }
}

sd_expr *sd_vmath_expand(sd_kernel *k, sd_expr *e, sd_vmath how) {
  if (how == SD_VMATH_PLAIN) e = sd_x_rewrite(k, e, logistic, NULL);
  return sd_x_rewrite(k, e, expand, &how);
}
