// Steps of pairs whose products fit 16 bits: together they are the weights that they were made of, whatever
// these are.
#include "passes/simplify/double_steps.h"
#include "passes/simplify/pair_bytes.h"

#include "tests/unit/test.h"

typedef enum sort { SMALL, USUAL, ENDS, ONE_SIGN, LOWEST, SOME } sort;

static int weight(sort kind, uint64_t *seed, int input) {
  int r = (int)(test_random(seed) >> 40 & 255);
  switch (kind) {
  case SMALL:
    return r % 128 - 64;
  case USUAL:
    return (r % 64 + (int)(test_random(seed) >> 40 & 63) + (int)(test_random(seed) >> 40 & 63)) - 96;
  case ENDS:
    return r & 1 ? 127 : -128;
  case ONE_SIGN:
    return 127;
  case LOWEST:
    return -128;
  default:
    return input % 3 ? 0 : r - 128;
  }
}

// Returns the number of steps.
static int steps_are_exact(sort kind, int inputs, int64_t wide) {
  int8_t w[SD_SPARSE_GROUP * 40];
  int sum[SD_SPARSE_GROUP][SD_SPARSE_WIDEST] = {{0}};
  uint64_t seed = (uint64_t)(kind * 100 + inputs);
  sd_pair_step step[SD_PAIR_STEPS];
  for (int i = 0; i < inputs; i++)
    for (int o = 0; o < 40; o++) w[i * 40 + o] = (int8_t)weight(kind, &seed, i);
  int n = sd_pair_steps(w, 40, inputs, wide, step), wrong = 0;
  CHECK(n <= SD_PAIR_STEPS);
  for (int s = 0; s < n; s++)
    for (int64_t o = 0; o < wide; o++)
      for (int h = 0; h < SD_SPARSE_SIDE; h += 2) {
        int a = step[s].value[o][h], b = step[s].value[o][h + 1];
        wrong += 255 * ((a > 0 ? a : 0) + (b > 0 ? b : 0)) > 32767 ||
                 255 * ((a < 0 ? a : 0) + (b < 0 ? b : 0)) < -32768;
        sum[step[s].order[h]][o] += a, sum[step[s].order[h + 1]][o] += b;
      }
  for (int i = 0; i < inputs; i++)
    for (int64_t o = 0; o < wide; o++) wrong += sum[i][o] != w[i * 40 + o];
  CHECK(wrong == 0);
  if (wrong) printf("kind %d, %d inputs, %lld outputs: %d wrong\n", kind, inputs, (long long)wide, wrong);
  return n;
}

// Returns the number of steps of the first four inputs as they stand.
static int plain_is_exact(sort kind) {
  int8_t w[SD_SPARSE_SIDE * 40];
  int wrong = 0;
  uint64_t seed = (uint64_t)kind;
  sd_pair_step step[2];
  for (int i = 0; i < SD_SPARSE_SIDE * 40; i++) w[i] = (int8_t)weight(kind, &seed, i / 40);
  int n = sd_pair_plain(w, 40, 32, step);
  for (int64_t o = 0; o < 32; o++)
    for (int h = 0; h < SD_SPARSE_SIDE; h++) {
      int sum = 0;
      for (int s = 0; s < n; s++) {
        int a = step[s].value[o][h], b = step[s].value[o][h ^ 1];
        wrong += 255 * ((a > 0 ? a : 0) + (b > 0 ? b : 0)) > 32767 || 255 * ((a < 0 ? a : 0) + (b < 0 ? b : 0)) < -32768;
        wrong += step[s].order[h] != h, sum += a;
      }
      wrong += sum != w[h * 40 + o];
    }
  CHECK(wrong == 0);
  return n;
}

static void as_they_stand(void) {
  static const int8_t none[SD_SPARSE_SIDE * 16];
  sd_pair_step step[2];
  for (int kind = SMALL; kind <= SOME; kind++) plain_is_exact((sort)kind);
  CHECK(plain_is_exact(SMALL) == 1);
  CHECK(plain_is_exact(ONE_SIGN) == 2);
  CHECK(sd_pair_plain(none, 16, 16, step) == 0);
}

enum { STEPS = 40, EACH = 16 * SD_SPARSE_SIDE };

// Steps whose weights are below `most`, by twos: each is there once, beside zeros or one that it fits with. Returns how many.
static int64_t in_twos(int most, int64_t room) {
  static int8_t from[STEPS * EACH], to[2 * STEPS * EACH];
  int32_t at[STEPS], index[2 * STEPS];
  int seen[STEPS] = {0}, wrong = 0;
  uint64_t seed = (uint64_t)most;
  for (int i = 0; i < STEPS * EACH; i++) from[i] = (int8_t)((int)(test_random(&seed) >> 40 & 255) % (2 * most) - most);
  for (int i = 0; i < STEPS; i++) at[i] = 100 + i;
  sd_arena *a = sd_arena_new();
  int64_t n = sd_double_steps(from, at, STEPS, 16, room, a, to, index);
  sd_arena_free(a);
  for (int64_t k = 0; k < n; k++) {
    bool none = true;
    for (int e = 0; e < EACH; e++) none &= to[k * EACH + e] == 0;
    if (none) continue;
    wrong += memcmp(to + k * EACH, from + (index[k] - 100) * EACH, EACH) != 0, seen[index[k] - 100]++;
  }
  for (int64_t k = 0; k < n; k += 2)
    for (int e = 0; e < EACH; e += 2) {
      int high = 0, low = 0;
      for (int64_t i = k * EACH + e; i <= (k + 1) * EACH + e; i += EACH)
        for (int64_t j = i; j < i + 2; j++) *(to[j] > 0 ? &high : &low) += to[j];
      wrong += 255 * high > 32767 || 255 * low < -32768;
    }
  for (int i = 0; i < STEPS && n >= 0; i++) wrong += seen[i] != 1;
  CHECK(wrong == 0);
  return n;
}

static void by_twos(void) {
  CHECK(in_twos(32, 2 * STEPS) == STEPS);
  CHECK(in_twos(48, 2 * STEPS) >= STEPS);
  CHECK(in_twos(64, 2 * STEPS) > STEPS + 4); // few fit
  CHECK(in_twos(64, STEPS + 4) == -1);
}

static void all_kinds(void) {
  for (int kind = SMALL; kind <= SOME; kind++)
    for (int inputs = 1; inputs <= SD_SPARSE_GROUP; inputs++)
      for (int64_t wide = 16; wide <= 32; wide += 16) steps_are_exact((sort)kind, inputs, wide);
}

static void few_steps(void) {
  CHECK(steps_are_exact(SMALL, 16, 32) == 4);
  CHECK(steps_are_exact(USUAL, 16, 16) == 4);
  CHECK(steps_are_exact(ONE_SIGN, 16, 16) == 8); // none fits
  CHECK(steps_are_exact(SOME, 16, 16) <= 4);
}

int main(void) {
  RUN(all_kinds);
  RUN(few_steps);
  RUN(as_they_stand);
  RUN(by_twos);
  return check_end();
}
