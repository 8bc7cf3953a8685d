// Steps of products of bytes by twos, see double_steps.h.
#include "passes/simplify/double_steps.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 64 // for each step

// What the pairs of a step need of 16 bits at most.
typedef struct need {
  sd_pair_sums sums[SD_SPARSE_WIDEST / 2];
  int64_t step;
  uint64_t all; // of all sums
} need;

static uint64_t sum_of(uint64_t lanes) { return (lanes & 0xffff) + (lanes >> 16 & 0xffff) + (lanes >> 32 & 0xffff) + (lanes >> 48); }

static void read_need(need *d, const int8_t *w, int64_t wide) {
  d->all = 0;
  for (int64_t i = 0; i < wide / 2; i++) {
    sd_pair_sums s = d->sums[i] = sd_sums_of_pairs(w + 8 * i);
    d->all += sum_of(s.high) + sum_of(s.low);
  }
}

static bool fit(const need *a, const need *b, int64_t wide) {
  bool over = false;
  for (int64_t i = 0; i < wide / 2 && !over; i++) over = sd_sums_over((sd_pair_sums){a->sums[i].high + b->sums[i].high, a->sums[i].low + b->sums[i].low});
  return !over;
}

static int larger(const void *a, const void *b) {
  const need *x = a, *y = b;
  return x->all != y->all ? (x->all < y->all ? 1 : -1) : x->step < y->step ? -1 : 1;
}

// The first behind i that is left and fits beside it, -1: none is found.
static int64_t partner(const need *d, int64_t i, int64_t n, int64_t wide) {
  int tries = TRIES;
  for (int64_t k = i + 1; k < n; k++) {
    if (d[k].step < 0) continue;
    if (fit(&d[i], &d[k], wide)) return k;
    if (--tries == 0) break;
  }
  return -1;
}

int64_t sd_double_steps(const int8_t *from, const int32_t *from_index, int64_t n, int64_t wide, int64_t most, sd_arena *scratch, int8_t *value, int32_t *index) {
  int64_t each = wide * SD_SPARSE_SIDE, out = 0;
  need *d = sd_arena_aligned(scratch, (size_t)(n > 0 ? n : 1) * sizeof *d, 64);
  for (int64_t i = 0; i < n; i++) read_need(&d[i], from + i * each, wide), d[i].step = i;
  qsort(d, (size_t)n, sizeof *d, larger); // those that few go with first
  for (int64_t i = 0; i < n; i++) {
    if (d[i].step < 0) continue;
    if (out + 2 > most) return -1;
    int64_t k = partner(d, i, n, wide), two[2] = {d[i].step, k < 0 ? -1 : d[k].step};
    for (int s = 0; s < 2; s++, out++) {
      index[out] = from_index[two[s] < 0 ? two[0] : two[s]];
      if (two[s] < 0) memset(value + out * each, 0, (size_t)each);
      else memcpy(value + out * each, from + two[s] * each, (size_t)each);
    }
    if (k >= 0) d[k].step = -1;
  }
  return out;
}
