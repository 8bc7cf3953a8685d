// The n-th least of many numbers without sorting them, or holding them all: digit by digit of what orders
// them.
#include "passes/prune/select.h"

#include <string.h>

enum { DIGIT = 11, PLACES = 1 << DIGIT };

// Bits in the order of the numbers.
static uint64_t key_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

// The last digit shares bits with the one before.
static int shift_of(const sd_select *s) { return s->pass < 64 / DIGIT ? 64 - DIGIT - s->pass * DIGIT : 0; }

void sd_select_begin(sd_select *s, uint64_t rank) { *s = (sd_select){.rank = rank}; }

void sd_select_see(sd_select *s, double x) {
  uint64_t key = key_of(x);
  int known = 64 - s->pass * DIGIT; // digits above are found
  if (s->pass == 0 || key >> known == s->key >> known) s->count[key >> shift_of(s) & (PLACES - 1)]++;
}

bool sd_select_again(sd_select *s) {
  uint64_t at = 0;
  while (at + 1 < PLACES && s->rank >= s->count[at]) s->rank -= s->count[at++];
  s->key |= at << shift_of(s);
  memset(s->count, 0, sizeof s->count);
  return shift_of(s) > 0 ? s->pass++, true : false;
}

bool sd_select_below(const sd_select *s, double x) { return key_of(x) < s->key; }
bool sd_select_equal(const sd_select *s, double x) { return key_of(x) == s->key; }

void sd_select_sort(float *x, float *room, uint64_t n) {
  for (int shift = 0; shift < 33; shift += DIGIT) {
    uint64_t start[PLACES + 1] = {0};
    uint32_t bits;
    for (uint64_t i = 0; i < n; i++)
      memcpy(&bits, &x[i], sizeof bits), start[(bits >> shift & (PLACES - 1)) + 1]++;
    for (int d = 0; d < PLACES; d++) start[d + 1] += start[d];
    for (uint64_t i = 0; i < n; i++)
      memcpy(&bits, &x[i], sizeof bits), room[start[bits >> shift & (PLACES - 1)]++] = x[i];
    memcpy(x, room, n * sizeof *x);
  }
}
