// Packing of constants: elements in the order of panels, zeros past the end, one behind the other where they are large.
#include "codegen/pack.h"
#include "runtime/base/alloc.h"
#include "tests/unit/test.h"

// [steps][cols] into panels of `lanes` columns: [panel][step][lane].
static sd_pack panels(int64_t steps, int64_t cols, int64_t lanes) {
  return (sd_pack){.n = 3, .extent = {(cols + lanes - 1) / lanes, steps, lanes}, .stride = {lanes, cols, 1}, .outer = 0, .factor = lanes, .limit = cols};
}

// [cols][steps] into the same: the steps of a lane lie side by side.
static sd_pack turned(int64_t steps, int64_t cols, int64_t lanes) {
  return (sd_pack){.n = 3, .extent = {(cols + lanes - 1) / lanes, steps, lanes}, .stride = {lanes * steps, 1, steps}, .outer = 0, .factor = lanes, .limit = cols};
}

static sd_const matrix(sd_arena *a, sd_dtype t, int64_t steps, int64_t cols) {
  uint64_t bytes = 0;
  CHECK(sd_dtype_bytes(t, (uint64_t)(steps * cols), &bytes));
  uint8_t *data = sd_arena_alloc(a, bytes);
  for (int64_t i = 0; i < steps * cols; i++) sd_dtype_set_i64(t, data, (uint64_t)i, i % 3 + 1);
  return (sd_const){.dtype = t, .count = (uint64_t)(steps * cols), .bytes = bytes, .data = data};
}

static const uint8_t *check_packed_as(sd_pack_room *room, sd_dtype t, int64_t steps, int64_t cols, int64_t lanes, bool turn) {
  sd_const c = matrix(room->a, t, steps, cols);
  sd_pack p = turn ? turned(steps, cols, lanes) : panels(steps, cols, lanes);
  const void *out = NULL;
  uint64_t bytes = 0, at = 0;
  int64_t wrong = 0;
  CHECK_OK(sd_pack_const(room, &p, &c, &out, &bytes));
  CHECK((uintptr_t)out % 64 == 0);
  for (int64_t q = 0; q < p.extent[0]; q++)
    for (int64_t k = 0; k < steps; k++)
      for (int64_t l = 0; l < lanes; l++) {
        int64_t j = q * lanes + l, want = j < cols ? (turn ? j * steps + k : k * cols + j) % 3 + 1 : 0;
        wrong += sd_dtype_get_i64(t, out, at++) != want;
      }
  CHECK(wrong == 0);
  return out;
}

static const uint8_t *check_packed(sd_pack_room *room, sd_dtype t, int64_t steps, int64_t cols, int64_t lanes) {
  return check_packed_as(room, t, steps, cols, lanes, false);
}

static void contents(void) {
  sd_arena *a = sd_arena_new();
  sd_pack_room room = {.a = a};
  static const sd_dtype types[] = {SD_F32, SD_F64, SD_F16, SD_I8, SD_U4, SD_U2};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) check_packed(&room, types[i], 5, 37, 16), check_packed(&room, types[i], 3, 32, 16);
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    for (int64_t lanes = 15; lanes <= 16; lanes++) check_packed_as(&room, types[i], 37, 37, lanes, true);
  sd_arena_free(a);
}

// Four matrices of which the second one comes first, as remainders of i + 1 by 4.
static void in_turn(void) {
  sd_arena *a = sd_arena_new();
  sd_pack_room room = {.a = a};
  sd_const c = matrix(a, SD_F32, 4 * 5, 37);
  sd_pack p = {.n = 4, .extent = {4, 3, 5, 16}, .stride = {5 * 37, 16, 37, 1}, .turn = {1}, .outer = 1, .factor = 16, .limit = 37}, plain = p;
  const void *out = NULL;
  uint64_t bytes = 0, at = 0;
  int64_t wrong = 0;
  plain.turn[0] = 0;
  CHECK(sd_pack_hash(&p) != sd_pack_hash(&plain));
  CHECK_OK(sd_pack_const(&room, &p, &c, &out, &bytes));
  for (int64_t i = 0; i < 4; i++)
    for (int64_t q = 0; q < 3; q++)
      for (int64_t k = 0; k < 5; k++)
        for (int64_t l = 0; l < 16; l++) {
          int64_t j = q * 16 + l;
          wrong += sd_dtype_get_i64(SD_F32, out, at++) != (j < 37 ? (((i + 1) % 4 * 5 + k) * 37 + j) % 3 + 1 : 0);
        }
  CHECK(wrong == 0);
  sd_arena_free(a);
}

static void together(void) { // several threads
  sd_arena *a = sd_arena_new();
  sd_pack_room room = {.a = a, .threads = 3};
  static const sd_dtype types[] = {SD_F32, SD_I8, SD_U4};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    for (int turn = 0; turn < 2; turn++) check_packed_as(&room, types[i], 2100, 2111, 16, turn), check_packed_as(&room, types[i], 2101, 2104, 20, turn);
  sd_arena_free(a);
}

static void many(void) {
  sd_arena *a = sd_arena_new();
  sd_pack_room room = {.a = a};
  const uint8_t *last = NULL;
  for (int i = 0; i < 6; i++) {
    const uint8_t *p = check_packed(&room, i == 4 ? SD_U4 : SD_F32, 768, 500 + i, 16);
    if (i >= 4) CHECK(p > last && p < last + (4 << 20)); // what is read one after the other lies so
    last = p;
  }
  check_packed(&room, SD_U8, 9000, 4000, 16); // more than what is allocated at a time
  sd_arena_free(a);
}

int main(void) {
  RUN(contents);
  RUN(in_turn);
  RUN(together);
  RUN(many);
  return check_end();
}
