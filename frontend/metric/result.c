// Errors of metrics. Shares have Wilson's interval, and for pairs of models McNemar's counts, with exact
// limits where these are few; all others the jackknife over blocks of samples.
#include <math.h>

#include "frontend/metric/metric.h"

static const double z95 = 1.959964, z90 = 1.644854, z998 = 3.090232; // two-sided 95 %; one-sided 95 %, 99.9 %
static const double t95 = 2.039513, t90 = 1.695519,
                    t998 = 3.374899; // of Student's distribution, 31 degrees of freedom

static int used_blocks(const sd_score *s) { return s->samples < SD_SCORE_BLOCKS ? (int)s->samples : SD_SCORE_BLOCKS; }

// Standard error of value(first) - value(second), `second` NULL: of the value alone.
static double jackknife(const sd_score *first, const sd_score *second) {
  int n = used_blocks(first);
  double sum = 0, sum2 = 0;
  if (n < 2) return NAN;
  for (int b = 0; b < n; b++) {
    double v = first->metric->value(first, b) - (second ? second->metric->value(second, b) : 0);
    sum += v, sum2 += v * v;
  }
  double spread = sum2 - sum * sum / n;
  return sqrt(fmax(0, spread) * (n - 1) / n);
}

static sd_interval wilson(double p, double n) {
  double z2 = z95 * z95, mid = (p + z2 / (2 * n)) / (1 + z2 / n);
  double half = z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return (sd_interval){p, fmax(0, mid - half), fmin(1, mid + half)};
}

sd_interval sd_score_interval(const sd_score *s) {
  double v = s->metric->value(s, -1);
  if (s->metric->share) return wilson(v, (double)s->samples);
  double half = t95 * jackknife(s, NULL);
  return (sd_interval){v, v - half, v + half};
}

void sd_paired_add(sd_paired *p, bool first_right, bool second_right) {
  p->worse += first_right && !second_right;
  p->better += second_right && !first_right;
}

// Two-sided probability that of n fair coins at most min(b, c) fall on one side.
static double mcnemar(double b, double c) {
  double n = b + c, least = fmin(b, c), sum = 0;
  for (double k = 0; k <= least; k++) sum += exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2));
  return fmin(1, 2 * sum);
}

// Probability of at most k of n where each has p, p not below k / n: terms fall from k on down.
static double binomial_below(double k, double n, double p) {
  double term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p)),
         sum = 0;
  for (; k >= 0 && term > sum * 1e-17; k--) {
    sum += term;
    term *= k / (n - k + 1) * (1 - p) / p;
  }
  return sum;
}

// Clopper and Pearson's upper limit of the share that k of n show: what makes k or less as unlikely as
// `alpha`. Of none it is 1 - alpha^(1/n), about 3 / n for 5 %.
static double share_below(double k, double n, double alpha) {
  double low = k / n, high = 1;
  for (int i = 0; i < 60 && k < n; i++) {
    double mid = (low + high) / 2;
    *(binomial_below(k, n, mid) > alpha ? &low : &high) = mid;
  }
  return high;
}

// b of n are worse, c are better: the drop is below this but with probability `alpha`. The normal
// distribution of the difference (half a sample more, for counts are whole) knows nothing where few differ:
// then the limit is that of the share of worse ones, exact where none is better.
static double drop_below(double b, double c, double n, double z, double alpha) {
  double normal = (b - c + 0.5) / n + z * sqrt(fmax(0, b + c - (b - c) * (b - c) / n)) / n;
  return b == n ? 1 : fmax(normal, share_below(b, n, alpha) - c / n);
}

double sd_paired_provable(int64_t n) { return share_below(0, (double)n, 0.05); }

void sd_paired_finish(sd_paired *p, const sd_score *first, const sd_score *second) {
  double sign = first->metric->higher ? 1 : -1, n = (double)first->samples;
  p->samples = first->samples, p->p = NAN;
  p->drop.value = sign * (first->metric->value(first, -1) - second->metric->value(second, -1));
  if (first->metric->share) {
    double b = (double)p->worse, c = (double)p->better;
    p->p = mcnemar(b, c);
    p->drop.low = -drop_below(c, b, n, z95, 0.025), p->drop.high = drop_below(b, c, n, z95, 0.025);
    p->bound = drop_below(b, c, n, z90, 0.05), p->least = -drop_below(c, b, n, z998, 0.001);
    return;
  }
  double error = jackknife(first, second);
  p->drop.low = p->drop.value - t95 * error, p->drop.high = p->drop.value + t95 * error;
  p->bound = p->drop.value + t90 * error, p->least = p->drop.value - t998 * error;
}
