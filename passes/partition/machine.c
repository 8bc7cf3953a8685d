// Times of devices and links.
#include "passes/partition/machine.h"

#include <math.h>

static void worsen(sd_machine_device *d, const sd_machine_device *x) {
  d->memory = x->memory < d->memory ? x->memory : d->memory;
  for (int t = 0; t < SD_DT_COUNT; t++) d->flops[t] = fmin(d->flops[t], x->flops[t]);
  d->bandwidth = fmin(d->bandwidth, x->bandwidth), d->launch = fmax(d->launch, x->launch);
  d->compute = fmin(d->compute, x->compute), d->moving = fmin(d->moving, x->moving);
}

sd_machine_device sd_machine_worst(const sd_machine *m, uint32_t first, uint32_t n) {
  sd_machine_device d = {0};
  uint32_t at = 0;
  for (uint32_t k = 0; k < m->n_kinds; at += m->kinds[k++].count) {
    if (first + n <= at || first >= at + m->kinds[k].count) continue;
    if (d.kind) worsen(&d, &m->kinds[k]);
    else
      d = m->kinds[k];
  }
  return d;
}

double sd_machine_flops(const sd_machine_device *d, sd_dtype t) {
  double best = 0;
  if (t > SD_DT_NONE && t < SD_DT_COUNT && d->flops[t] > 0) return d->flops[t] * d->compute;
  for (int k = SD_DT_NONE + 1; k < SD_DT_COUNT; k++)
    if (d->flops[k] > 0 && sd_dtype_bits((sd_dtype)k) >= sd_dtype_bits(t)) best = fmax(best, d->flops[k]);
  for (int k = SD_DT_NONE + 1; k < SD_DT_COUNT && best == 0; k++) best = fmax(best, d->flops[k]);
  return best * d->compute;
}

// ---- links ----

static double rounds(uint32_t n) { return ceil(log2((double)n)); }

// Of n devices that the links of one level join directly.
static double alone(const sd_machine_level *l, sd_exchange what, bool all_to_all, uint32_t n, double bytes) {
  double part = (n - 1.0) / n * bytes / l->bandwidth;
  if (what == SD_EXCHANGE_GATHER) return fmin((n - 1) * l->latency, rounds(n) * l->latency) + part;
  double ring = 2 * ((n - 1) * l->latency + part);
  double tree = 2 * (rounds(n) * l->latency + bytes / l->bandwidth);
  double direct = all_to_all ? l->latency + (n - 1) * bytes / l->bandwidth : INFINITY;
  return fmin(fmin(ring, tree), direct);
}

double sd_machine_exchange(const sd_machine *m, sd_exchange what, uint32_t n, double bytes, double *sent) {
  double seconds = 0, start = 0, share = bytes, times = what == SD_EXCHANGE_REDUCE ? 2 : 1;
  *sent = n > 1 ? times * (n - 1.0) / n * bytes : 0;
  uint32_t inside = 1; // devices that one of the level at hand stands for
  for (uint32_t i = 0; i < m->n_levels && inside < n; i++) {
    const sd_machine_level *l = &m->levels[i];
    uint32_t upto = l->devices < n && i + 1 < m->n_levels ? l->devices : n, k = (upto + inside - 1) / inside;
    start = fmax(start, l->start);
    if (k <= 1) continue;
    if (upto == n) seconds += alone(l, what, i == 0, k, share);
    else
      seconds += times * ((k - 1) * l->latency + (k - 1.0) / k * share / l->bandwidth);
    share /= k, inside = upto;
  }
  return n > 1 ? seconds + start : 0;
}

double sd_machine_send(const sd_machine *m, uint32_t a, uint32_t b, double bytes) {
  if (a == b || m->n_levels == 0) return 0;
  uint32_t i = 0;
  while (i + 1 < m->n_levels && a / m->levels[i].devices != b / m->levels[i].devices) i++;
  return m->levels[i].start + m->levels[i].latency + bytes / m->levels[i].bandwidth;
}
