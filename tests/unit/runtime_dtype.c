// Element types: the table, round trips of all codes, rounding.
#include <math.h>

#include "runtime/base/dtype.h"
#include "runtime/base/half.h"
#include "tests/unit/test.h"

static void table(void) {
  int n = 0;
  for (int t = 1; t < SD_DT_COUNT; t++) {
    if (!sd_dtype_of_tensors(t)) continue;
    n++;
    CHECK(sd_dtype_parse(sd_dtype_name((sd_dtype)t)) == (sd_dtype)t);
  }
  CHECK(n == 28);
  CHECK(sd_dtype_parse("FLOAT") == SD_F32 && sd_dtype_parse("int64") == SD_I64 &&
        sd_dtype_parse("bfloat16") == SD_BF16);
  CHECK(sd_dtype_parse("FLOAT8E4M3FN") == SD_F8E4M3FN && sd_dtype_parse("nothing") == SD_DT_NONE);
  CHECK_TEXT(sd_dtype_name((sd_dtype)99), "?");
  CHECK_TEXT(sd_dtype_name((sd_dtype)-1), "?");
  CHECK(sd_dtype_is_float(SD_F4E2M1) && sd_dtype_is_int(SD_U2) && !sd_dtype_is_int(SD_BOOL));
  uint64_t b;
  CHECK(sd_dtype_bytes(SD_I4, 5, &b) && b == 3);
  CHECK(sd_dtype_bytes(SD_U2, 5, &b) && b == 2);
  CHECK(sd_dtype_bytes(SD_C128, 2, &b) && b == 32);
  CHECK(!sd_dtype_bytes(SD_F64, UINT64_MAX / 4, &b) && !sd_dtype_bytes(SD_DT_NONE, 1, &b));
}

// Every code of a float type of at most 16 bits reads and writes back as itself (NaNs as some NaN).
static void float_codes(void) {
  static const sd_dtype types[] = {SD_F16,    SD_BF16,   SD_F8E4M3FN, SD_F8E4M3FNUZ, SD_F8E5M2, SD_F8E5M2FNUZ,
                                   SD_F4E2M1, SD_F8E8M0, SD_F6E2M3,   SD_F6E3M2};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    sd_dtype t = types[i];
    unsigned bad = 0;
    for (uint32_t code = 0; code < 1u << (sd_dtype_repacked(t) ? 6 : sd_dtype_bits(t)); code++) {
      uint32_t from = code, to = 0;
      double v = sd_dtype_get_f64(t, &from, 0);
      sd_dtype_set_f64(t, &to, 0, v);
      bad += isnan(v) ? !isnan(sd_dtype_get_f64(t, &to, 0)) : to != from;
    }
    if (bad) printf("%s: %u codes\n", sd_dtype_name(t), bad);
    CHECK(bad == 0);
  }
}

// Between two neighbours the nearer one is taken, at the middle the even one.
static void float_rounding(void) {
  static const sd_dtype types[] = {SD_F16, SD_BF16, SD_F8E4M3FN, SD_F8E4M3FNUZ, SD_F8E5M2, SD_F8E5M2FNUZ, SD_F4E2M1, SD_F6E2M3, SD_F6E3M2};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    sd_dtype t = types[i];
    uint32_t half = 1u << ((sd_dtype_repacked(t) ? 6 : sd_dtype_bits(t)) - 1);
    unsigned bad = 0;
    for (uint32_t code = 0; code + 1 < half; code++) {
      uint32_t next = code + 1, got = 0;
      double a = sd_dtype_get_f64(t, &code, 0), b = sd_dtype_get_f64(t, &next, 0);
      if (!isfinite(a) || !isfinite(b)) continue;
      double mid = (a + b) / 2;
      sd_dtype_set_f64(t, &got, 0, mid);
      bad += got != (code & 1 ? next : code);
      sd_dtype_set_f64(t, &got, 0, nextafter(mid, 0));
      bad += got != code;
      sd_dtype_set_f64(t, &got, 0, nextafter(mid, INFINITY));
      bad += got != next;
    }
    if (bad) printf("%s: %u\n", sd_dtype_name(t), bad);
    CHECK(bad == 0);
  }
}

static double through(sd_dtype t, double v) {
  uint64_t room[2] = {0};
  sd_dtype_set_f64(t, room, 0, v);
  return sd_dtype_get_f64(t, room, 0);
}

static void limits(void) {
  CHECK(isinf(through(SD_F16, 65520)) && through(SD_F16, 65519) == 65504);
  CHECK(through(SD_F8E4M3FN, 1e9) == 448 && through(SD_F8E4M3FN, INFINITY) == 448 && isnan(through(SD_F8E4M3FN, NAN)));
  CHECK(through(SD_F8E5M2, 1e9) == 57344 && isinf(through(SD_F8E5M2, -INFINITY)) && through(SD_F8E4M3FNUZ, -1e9) == -240 &&
        through(SD_F8E5M2FNUZ, 1e9) == 57344);
  CHECK(isnan(through(SD_F8E4M3FNUZ, INFINITY)) && !signbit(through(SD_F8E4M3FNUZ, -1e-9)));
  CHECK(through(SD_F4E2M1, 100) == 6 && through(SD_F4E2M1, -0.3) == -0.5 && through(SD_F4E2M1, 5) == 4);
  CHECK(through(SD_F6E2M3, -9) == -7.5 && through(SD_F6E2M3, 0.0625) == 0 && through(SD_F6E3M2, 100) == 28 && through(SD_F6E3M2, 0.0625) == 0.0625);
  CHECK(through(SD_F8E8M0, 4) == 4 && through(SD_F8E8M0, 7) == 8 && isnan(through(SD_F8E8M0, NAN)));
  CHECK(through(SD_I8, 300) == 127 && through(SD_I8, -300) == -128 && through(SD_U8, -3) == 0 &&
        through(SD_I8, NAN) == 0);
  CHECK(through(SD_I32, 2.5) == 2 && through(SD_I32, 3.5) == 4 && through(SD_BOOL, 0.1) == 1);
  CHECK(through(SD_I64, 1e300) == (double)INT64_MAX && through(SD_U64, 1e300) == (double)UINT64_MAX);
  CHECK(through(SD_STRING, 1) == 0);
  float nan32 = sd_f16_to_f32(sd_f32_to_f16(NAN));
  CHECK(isnan(nan32) && isnan(sd_bf16_to_f32(sd_f32_to_bf16(NAN))) && isinf(sd_bf16_to_f32(sd_f32_to_bf16(3.4e38f))));
}

// half.c and the table agree.
static void halves(void) {
  uint64_t seed = 1;
  unsigned bad = 0;
  for (int i = 0; i < 200000; i++) {
    uint32_t u = (uint32_t)test_random(&seed), h = 0, b = 0;
    float x;
    memcpy(&x, &u, 4);
    if (isnan(x)) continue;
    sd_dtype_set_f64(SD_F16, &h, 0, x);
    sd_dtype_set_f64(SD_BF16, &b, 0, x);
    bad += h != sd_f32_to_f16(x) || b != sd_f32_to_bf16(x);
  }
  for (uint32_t h = 0; h < 65536; h++) {
    float f = sd_f16_to_f32((uint16_t)h);
    double d = sd_dtype_get_f64(SD_F16, &h, 0);
    bad += isnan(f) ? !isnan(d) : f != d;
  }
  CHECK(bad == 0);
}

static void integers(void) {
  uint64_t seed = 2;
  for (int t = 1; t < SD_DT_COUNT; t++) {
    int bits = sd_dtype_bits((sd_dtype)t);
    if (!sd_dtype_is_int((sd_dtype)t)) continue;
    uint8_t room[17 * 8 + 1];
    memset(room, 0xa5, sizeof room);
    int64_t want[17];
    for (uint64_t i = 0; i < 17; i++) {
      want[i] = (int64_t)test_random(&seed);
      sd_dtype_set_i64((sd_dtype)t, room, i, want[i]);
    }
    uint64_t bytes;
    CHECK(sd_dtype_bytes((sd_dtype)t, 17, &bytes) && room[bytes] == 0xa5);
    for (uint64_t i = 0; i < 17; i++) {
      unsigned shift = 64 - (unsigned)bits;
      int64_t v = sd_dtype_kind_of((sd_dtype)t) == SD_DK_I ? (int64_t)((uint64_t)want[i] << shift) >> shift
                                                            : (int64_t)((uint64_t)want[i] << shift >> shift);
      CHECK(sd_dtype_get_i64((sd_dtype)t, room, i) == v);
    }
  }
  uint8_t nibbles[2] = {0x21, 0x43};
  CHECK(sd_dtype_get_i64(SD_U4, nibbles, 0) == 1 && sd_dtype_get_i64(SD_U4, nibbles, 3) == 4); // low half first
}

// Codes of 6 bits in files: four in three bytes, the first one in the low bits.
static void file_codes(void) {
  static const uint8_t file[] = {0x41, 0x30, 0x10, 0x3f};
  uint8_t codes[] = {1, 1, 3, 4, 63}, got[5], back[5] = {0, 0, 0, 0, 0xa5};
  for (uint64_t n = 0; n <= 5; n++) {
    uint64_t bytes = 99;
    CHECK(sd_dtype_file_bytes(SD_F6E3M2, n, &bytes) && bytes == (6 * n + 7) / 8);
    memset(got, 0xa5, sizeof got);
    sd_dtype_from_file(SD_F6E3M2, file, n, got);
    CHECK(!memcmp(got, codes, n) && (n == 5 || got[n] == 0xa5));
    sd_dtype_to_file(SD_F6E3M2, codes, n, back);
    CHECK(back[4] == 0xa5 && (n < 4 || !memcmp(back, file, bytes)));
  }
  CHECK(!sd_dtype_repacked(SD_F4E2M1) && !sd_dtype_repacked(SD_F8E8M0) && !sd_dtype_repacked(SD_C128));
}

int main(void) {
  RUN(table);
  RUN(float_codes);
  RUN(float_rounding);
  RUN(limits);
  RUN(halves);
  RUN(integers);
  RUN(file_codes);
  return check_end();
}
