// Sums over the ranks of a group.
#include <string.h>

#include "runtime/base/half.h"
#include "runtime/collective/group.h"

enum { BLOCK = 512 }; // elements whose sums stay in the first cache

typedef void (*sum_fn)(const void *const *in, int ranks, uint64_t from, uint64_t n, void *out);

// acc: integers are summed without sign, so that they wrap.
#define SUM(name, type, acc)                                                                                 \
  static void sum_##name(const void *const *in, int ranks, uint64_t from, uint64_t n, void *out) {           \
    acc sum[BLOCK];                                                                                          \
    type *to = (type *)out + from;                                                                           \
    for (uint64_t i = 0; i < n; i++) sum[i] = (acc)((const type *)in[0])[from + i];                          \
    for (int r = 1; r < ranks; r++)                                                                          \
      for (uint64_t i = 0; i < n; i++) sum[i] = (acc)(sum[i] + (acc)((const type *)in[r])[from + i]);        \
    for (uint64_t i = 0; i < n; i++) to[i] = (type)sum[i];                                                   \
  }
SUM(f32, float, float)
SUM(f64, double, double)
SUM(u8, uint8_t, uint8_t)
SUM(u16, uint16_t, uint16_t)
SUM(u32, uint32_t, uint32_t)
SUM(u64, uint64_t, uint64_t)
#undef SUM

#define SUM_HALF(name)                                                                                       \
  static void sum_##name(const void *const *in, int ranks, uint64_t from, uint64_t n, void *out) {           \
    for (uint64_t i = from; i < from + n; i++) {                                                             \
      float sum = sd_##name##_to_f32(((const uint16_t *)in[0])[i]);                                          \
      for (int r = 1; r < ranks; r++) sum += sd_##name##_to_f32(((const uint16_t *)in[r])[i]);               \
      ((uint16_t *)out)[i] = sd_f32_to_##name(sum);                                                          \
    }                                                                                                        \
  }
SUM_HALF(f16)
SUM_HALF(bf16)
#undef SUM_HALF

static sum_fn find_sum(sd_dtype t) {
  switch (t) {
  case SD_F32:
    return sum_f32;
  case SD_F64:
    return sum_f64;
  case SD_F16:
    return sum_f16;
  case SD_BF16:
    return sum_bf16;
  default:
    break;
  }
  if (!sd_dtype_is_int(t)) return NULL;
  switch (sd_dtype_bits(t)) {
  case 8:
    return sum_u8;
  case 16:
    return sum_u16;
  case 32:
    return sum_u32;
  case 64:
    return sum_u64;
  default:
    return NULL;
  }
}

bool sd_group_sums(sd_dtype t) { return find_sum(t) != NULL; }

void sd_group_sum(sd_dtype t, const void *const *in, int ranks, uint64_t count, void *out) {
  sum_fn sum = find_sum(t);
  for (uint64_t at = 0; sum && at < count; at += BLOCK)
    sum(in, ranks, at, count - at < BLOCK ? count - at : BLOCK, out);
}
