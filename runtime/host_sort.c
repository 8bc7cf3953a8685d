// Keys of values and their sort. The loops over blocks have fixed counts, so that the compiler makes vectors of them.
#include "runtime/host_sort.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16, FEW = 24 };

// ---- keys of 32 bits ----

// From the bits of a float: its magnitude with its sign, so that -0 is 0.
static inline int32_t bits_key(int32_t bits) {
  int32_t size = bits & INT32_MAX, sign = bits >> 31, nan = -(size > 0x7f800000);
  return (((size ^ sign) - sign) & ~nan) | (nan & INT32_MAX);
}

static int32_t float_key(float v) {
  int32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits_key(bits);
}

float sd_host_float_of(int32_t high) {
  uint32_t bits = high < 0 ? -(uint32_t)high | UINT32_C(0x80000000) : (uint32_t)high;
  float v;
  if (high == INT32_MIN) bits = UINT32_MAX; // of no number: a NaN
  memcpy(&v, &bits, sizeof v);
  return v;
}

static uint64_t wide_key(sd_dtype t, const void *data, uint64_t i) {
  if (!sd_dtype_is_float(t)) {
    uint64_t v = (uint64_t)sd_dtype_get_i64(t, data, i);
    return t == SD_U64 ? v : v ^ UINT64_C(1) << 63;
  }
  double v = sd_dtype_get_f64(t, data, i) + 0.0;
  uint64_t bits;
  if (isnan(v)) return UINT64_MAX;
  memcpy(&bits, &v, sizeof bits);
  return bits >> 63 ? ~bits : bits ^ UINT64_C(1) << 63;
}

bool sd_host_narrow(sd_dtype t) { return sd_dtype_is_float(t) ? t != SD_F64 : sd_dtype_bits(t) <= 32; }

static int32_t high_key(sd_dtype t, const void *data, uint64_t i) {
  if (!sd_host_narrow(t)) return (int32_t)(uint32_t)(wide_key(t, data, i) >> 32 ^ UINT32_C(0x80000000));
  if (sd_dtype_is_float(t)) return float_key((float)sd_dtype_get_f64(t, data, i));
  int64_t v = sd_dtype_get_i64(t, data, i);
  return t == SD_U32 ? (int32_t)((uint32_t)v ^ UINT32_C(0x80000000)) : (int32_t)v;
}

static void float_block(const int32_t *restrict x, int32_t *restrict key) {
  for (int i = 0; i < BLOCK; i++) key[i] = bits_key(x[i]);
}

void sd_host_high_keys(sd_dtype t, const void *data, uint64_t from, uint64_t n, int32_t *key) {
  uint64_t i = 0;
  if (t == SD_F32) {
    for (; i + BLOCK <= n; i += BLOCK) float_block((const int32_t *)data + from + i, key + i);
    for (; i < n; i++) key[i] = bits_key(((const int32_t *)data)[from + i]);
  }
  if (t == SD_I32) {
    memcpy(key, (const int32_t *)data + from, n * sizeof *key);
    return;
  }
  for (; i < n; i++) key[i] = high_key(t, data, from + i);
}

void sd_host_keys(sd_dtype t, const void *data, uint64_t from, uint64_t n, uint64_t *key) {
  if (t == SD_STRING) t = SD_U64; // numbers of texts: equal for equal ones, without an order
  if (t == SD_F32)
    for (uint64_t i = 0; i < n; i++) key[i] = sd_host_widen(float_key(((const float *)data)[from + i]));
  else if (t == SD_I64)
    for (uint64_t i = 0; i < n; i++) key[i] = ((const uint64_t *)data)[from + i] ^ UINT64_C(1) << 63;
  else if (sd_host_narrow(t))
    for (uint64_t i = 0; i < n; i++) key[i] = sd_host_widen(high_key(t, data, from + i));
  else
    for (uint64_t i = 0; i < n; i++) key[i] = wide_key(t, data, from + i);
}

// ---- sort ----

static void insertion_sort(sd_item *a, uint64_t n) {
  for (uint64_t i = 1; i < n; i++) {
    sd_item x = a[i];
    uint64_t j = i;
    for (; j > 0 && a[j - 1].key > x.key; j--) a[j] = a[j - 1];
    a[j] = x;
  }
}

// One pass of the sort by digits: by the byte at `shift`.
static void sort_digit(const sd_item *from, sd_item *to, uint64_t n, int shift) {
  uint64_t start[256] = {0}, sum = 0;
  for (uint64_t i = 0; i < n; i++) start[from[i].key >> shift & 255]++;
  for (int d = 0; d < 256; d++) {
    uint64_t count = start[d];
    start[d] = sum, sum += count;
  }
  for (uint64_t i = 0; i < n; i++) to[start[from[i].key >> shift & 255]++] = from[i];
}

void sd_host_sort(sd_item *items, sd_item *spare, uint64_t n) {
  if (n <= FEW) {
    insertion_sort(items, n);
    return;
  }
  uint64_t differ = 0, down = 0;
  for (uint64_t i = 1; i < n; i++) differ |= items[i].key ^ items[0].key, down |= items[i].key < items[i - 1].key;
  if (!down) return;
  sd_item *from = items, *to = spare;
  for (int shift = 0; shift < 64; shift += 8) {
    if (!(differ >> shift & 255)) continue;
    sort_digit(from, to, n, shift);
    sd_item *t = from;
    from = to, to = t;
  }
  if (from != items) memcpy(items, from, n * sizeof *items);
}

// ---- the first k ----

uint64_t sd_top_room(uint64_t k, uint64_t most) { return k <= SD_TOP_FEW ? SD_TOP_FEW : most < 4 * k + 8 ? most : 4 * k + 8; }

void sd_top_settle(sd_top *t) {
  sd_host_sort(t->items, t->spare, t->n);
  if (t->n >= t->k) t->n = t->k, t->full = true, t->bound = t->items[t->k - 1].key;
}

// Later values come after equal earlier ones.
static void insert(sd_top *t, sd_item x) {
  uint64_t j = t->n < t->k ? t->n++ : t->k - 1;
  for (; j > 0 && t->items[j - 1].key > x.key; j--) t->items[j] = t->items[j - 1];
  t->items[j] = x;
  if (t->n == t->k) t->full = true, t->bound = t->items[t->k - 1].key;
}

void sd_top_add(sd_top *t, uint64_t key, int64_t at) {
  if (t->k <= SD_TOP_FEW) {
    insert(t, (sd_item){key, at});
    return;
  }
  t->items[t->n++] = (sd_item){key, at};
  if (t->n == t->room || (!t->full && t->n == t->k)) sd_top_settle(t);
}
