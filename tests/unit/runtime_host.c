// Host functions against straightforward forms of themselves: all types, ties, NaN, zeros of both signs, empty tensors.
#include <math.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"
#include "tests/unit/test.h"

enum { MAX_OUT = 4 };

typedef struct fixture {
  sd_host_tensor in[5], out[MAX_OUT];
  sd_host_call call;
  sd_host_kept kept;
} fixture;

static uint64_t state = 1;
static uint32_t rnd(uint32_t n) { // from Numerical Recipes' constants
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(state >> 33) % n;
}

static uint64_t count_of(const sd_host_tensor *t) {
  uint64_t n = 1;
  for (int d = 0; d < t->rank; d++) n *= (uint64_t)t->dims[d];
  return n;
}

static sard_status *make(sd_host_call *c, uint32_t i, const int64_t *dims) {
  sd_host_tensor *t = &c->out[i];
  uint64_t bytes;
  memcpy(t->dims, dims, (size_t)t->rank * sizeof *dims);
  t->count = count_of(t);
  if (!sd_dtype_bytes(t->dtype, t->count, &bytes)) return SD_ERR(NOMEM, "too large");
  t->data = sd_malloc(bytes + 1); // exact: a write past it is seen by the sanitizer
  return t->data ? NULL : SD_ERR(NOMEM, "out of memory");
}

static void set_in(fixture *f, int i, sd_dtype t, int rank, const int64_t *dims, void *data) {
  f->in[i] = (sd_host_tensor){.dtype = t, .rank = rank, .data = data};
  if (rank) memcpy(f->in[i].dims, dims, (size_t)rank * sizeof *dims);
  f->in[i].count = count_of(&f->in[i]);
}

static sard_status *call(fixture *f, const char *op, uint32_t n_in, uint32_t n_out, const int64_t *param, uint32_t n_param, sd_pool *pool) {
  f->call = (sd_host_call){.n_in = n_in, .n_out = n_out, .n_param = n_param, .in = f->in, .out = f->out, .param = param, .make = make, .pool = pool, .kept = &f->kept};
  return sd_host_run(sd_host_find(op), &f->call);
}

static void drop_outputs(fixture *f) {
  for (int i = 0; i < MAX_OUT; i++) sd_free(f->out[i].data), f->out[i].data = NULL;
}

static const sd_dtype types[] = {SD_F32, SD_F64, SD_F16, SD_BF16, SD_I8, SD_U8, SD_I16, SD_I32, SD_U32, SD_I64, SD_U64};
enum { TYPES = sizeof types / sizeof *types };

// Random elements of few or many kinds; floats with NaN, infinities and zeros of both signs.
static void *elements(sd_dtype t, uint64_t n, uint32_t kinds) {
  static const double odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0, -0.0};
  uint64_t bytes;
  sd_dtype_bytes(t, n, &bytes);
  void *p = sd_malloc(bytes + 1);
  for (uint64_t i = 0; i < n; i++) {
    double v = (double)rnd(kinds) - kinds / 2.0;
    if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, p, i, rnd(16) ? v / 4 : odd[rnd(6)]);
    else if (t == SD_U64) ((uint64_t *)p)[i] = (uint64_t)rnd(kinds) << (rnd(2) ? 40 : 0);
    else if (t == SD_I64) ((int64_t *)p)[i] = (int64_t)v * (rnd(2) ? INT64_C(1) << 40 : 1);
    else sd_dtype_set_i64(t, p, i, (int64_t)v);
  }
  return p;
}

// The order: numbers as such, NaN behind all, ties by position.
static int compare(const sd_host_tensor *x, uint64_t i, uint64_t j) {
  if (sd_dtype_is_float(x->dtype)) {
    double a = sd_dtype_get_f64(x->dtype, x->data, i), b = sd_dtype_get_f64(x->dtype, x->data, j);
    if (isnan(a) || isnan(b)) return isnan(a) - isnan(b);
    return (a > b) - (a < b);
  }
  int64_t a = sd_dtype_get_i64(x->dtype, x->data, i), b = sd_dtype_get_i64(x->dtype, x->data, j);
  if (x->dtype == SD_U64) return ((uint64_t)a > (uint64_t)b) - ((uint64_t)a < (uint64_t)b);
  return (a > b) - (a < b);
}

// ---- TopK ----

// Each result is the next of the row: behind the one before it, and k of the row are not behind the last.
static bool row_is_ranked(const fixture *f, uint64_t from, uint64_t to, uint64_t len, uint64_t k, uint64_t inner, bool largest) {
  const sd_host_tensor *x = &f->in[0];
  const int64_t *at = f->out[1].data;
  uint64_t size = (uint64_t)sd_dtype_bits(x->dtype) / 8, not_behind = 0;
  for (uint64_t i = 0; i < k; i++) {
    int64_t now = at[to + i * inner], last = i ? at[to + (i - 1) * inner] : 0;
    if (now < 0 || (uint64_t)now >= len) return false;
    int c = i ? compare(x, from + (uint64_t)last * inner, from + (uint64_t)now * inner) : -1;
    if (largest && i) c = -c;
    if (c > 0 || (c == 0 && last >= now)) return false;
    if (memcmp((char *)f->out[0].data + (to + i * inner) * size, (char *)x->data + (from + (uint64_t)now * inner) * size, size)) return false;
  }
  uint64_t last = k ? (uint64_t)at[to + (k - 1) * inner] : 0;
  for (uint64_t i = 0; i < len && k; i++) {
    int c = compare(x, from + i * inner, from + last * inner);
    if (largest) c = -c;
    not_behind += c < 0 || (c == 0 && i <= last);
  }
  return not_behind == k;
}

static void rank_one(sd_dtype t, uint64_t outer, uint64_t len, uint64_t inner, uint64_t k, bool largest, uint32_t kinds, sd_pool *pool) {
  fixture f = {.out = {{.dtype = t, .rank = 3}, {.dtype = SD_I64, .rank = 3}}};
  int64_t dims[3] = {(int64_t)outer, (int64_t)len, (int64_t)inner}, one = 1, want = (int64_t)k, param[3] = {1, largest, 1};
  void *x = elements(t, outer * len * inner, kinds);
  set_in(&f, 0, t, 3, dims, x);
  set_in(&f, 1, SD_I64, 1, &one, &want);
  CHECK_OK(call(&f, "TopK", 2, 2, param, 3, pool));
  uint64_t bad = 0;
  for (uint64_t o = 0; o < outer; o++)
    for (uint64_t i = 0; i < inner; i++) bad += !row_is_ranked(&f, o * len * inner + i, o * k * inner + i, len, k, inner, largest);
  CHECK(bad == 0 && f.out[0].dims[1] == (int64_t)k);
  if (bad) printf("  %s [%d, %d, %d], k %d, largest %d, kinds %u\n", sd_dtype_name(t), (int)outer, (int)len, (int)inner, (int)k, largest, kinds);
  drop_outputs(&f);
  sd_free(x);
}

static void topk(sd_pool *pool) {
  static const uint64_t lens[] = {0, 1, 2, 15, 16, 17, 64, 100, 257, 1000};
  for (int t = 0; t < TYPES; t++)
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
      uint64_t len = lens[i], ks[] = {0, 1, 5, 33, len / 3, len};
      for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
        if (ks[k] > len) continue;
        rank_one(types[t], 2, len, 1, ks[k], k % 2, 100, pool);
        rank_one(types[t], 1, len, 3 + 17 * (i % 2), ks[k], i % 2, 4, pool);
      }
    }
  for (uint32_t kinds = 1; kinds < 100000; kinds = kinds * 17 + 1) { // long rows, ranked in parts
    rank_one(SD_F32, 1, 200001, 1, 7, true, kinds, pool);
    rank_one(SD_F32, 2, 140000, 1, 200, false, kinds, pool);
    rank_one(SD_F32, 3, 5000, 2, 100, kinds % 2, kinds, pool);
    rank_one(SD_F32, 2, 1100, 1, 256, kinds % 2, kinds, pool);
    rank_one(SD_I64, 1, 131072, 1, 40, true, kinds, pool);
  }
  rank_one(SD_F32, 0, 4, 3, 2, true, 4, pool);
  rank_one(SD_F32, 3, 4, 0, 2, true, 4, pool);
}

// Sorted either way: each value replaces one of the k.
static void topk_of_sorted(sd_pool *pool) {
  enum { N = 5000 };
  static float x[N];
  for (int up = 0; up < 2; up++)
    for (int64_t k = 5; k <= 500; k *= 10) {
      fixture f = {.out = {{.dtype = SD_F32, .rank = 1}, {.dtype = SD_I64, .rank = 1}}};
      for (int i = 0; i < N; i++) x[i] = (float)(up ? i : -i);
      int64_t n = N, one = 1, param[3] = {0, 1, 1};
      set_in(&f, 0, SD_F32, 1, &n, x);
      set_in(&f, 1, SD_I64, 1, &one, &k);
      CHECK_OK(call(&f, "TopK", 2, 2, param, 3, pool));
      CHECK(row_is_ranked(&f, 0, 0, N, (uint64_t)k, 1, true));
      drop_outputs(&f);
    }
}

// Rows in which fewer than k are numbers, or all of them are infinite: what k of the row reach is NaN or an infinity.
static void topk_of_few_numbers(sd_pool *pool) {
  enum { N = 70000 };
  static float x[N];
  static const float fill[] = {NAN, INFINITY, -INFINITY, 0};
  for (int f = 0; f < 4; f++)
    for (int numbers = 0; numbers <= 60; numbers += 12)
      for (int long_row = 0; long_row < 2; long_row++)
        for (int largest = 0; largest < 2; largest++) {
          fixture c = {.out = {{.dtype = SD_F32, .rank = 1}, {.dtype = SD_I64, .rank = 1}}};
          int64_t n = long_row ? N : 700, one = 1, k = 40, param[3] = {0, largest, 1};
          for (int i = 0; i < N; i++) x[i] = fill[f];
          for (int i = 0; i < numbers; i++) x[rnd((uint32_t)n)] = (float)rnd(9) - 4;
          set_in(&c, 0, SD_F32, 1, &n, x);
          set_in(&c, 1, SD_I64, 1, &one, &k);
          CHECK_OK(call(&c, "TopK", 2, 2, param, 3, pool));
          CHECK(row_is_ranked(&c, 0, 0, (uint64_t)n, (uint64_t)k, 1, largest));
          drop_outputs(&c);
        }
}

// ---- NonZero, Compress ----

static void nonzero(sd_pool *pool) {
  static const int64_t shapes[][3] = {{1, 1, 1}, {2, 3, 5}, {0, 3, 5}, {3, 0, 2}, {3, 5, 0}, {7, 11, 300}, {1, 2, 20000}, {5000, 4, 1}};
  for (int t = 0; t < TYPES; t++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      fixture f = {.out = {{.dtype = SD_I64, .rank = 2}}};
      uint64_t n = (uint64_t)(shapes[s][0] * shapes[s][1] * shapes[s][2]), found = 0, bad = 0;
      void *x = elements(types[t], n, 3);
      set_in(&f, 0, types[t], 3, shapes[s], x);
      CHECK_OK(call(&f, "NonZero", 1, 1, NULL, 0, pool));
      const int64_t *y = f.out[0].data;
      uint64_t all = (uint64_t)f.out[0].dims[1];
      for (uint64_t i = 0; i < n; i++) {
        bool zero = sd_dtype_is_float(types[t]) ? sd_dtype_get_f64(types[t], x, i) == 0 : sd_dtype_get_i64(types[t], x, i) == 0;
        if (zero) continue;
        if (found < all) bad += (uint64_t)((y[found] * shapes[s][1] + y[all + found]) * shapes[s][2] + y[2 * all + found]) != i;
        found++;
      }
      CHECK(bad == 0 && found == all && f.out[0].dims[0] == 3);
      drop_outputs(&f);
      sd_free(x);
    }
}

static void nonzero_of_scalar(sd_pool *pool) {
  float x[1] = {0};
  for (int i = 0; i < 2; i++, x[0] = 2) {
    fixture f = {.out = {{.dtype = SD_I64, .rank = 2}}};
    set_in(&f, 0, SD_F32, 0, NULL, x);
    CHECK_OK(call(&f, "NonZero", 1, 1, NULL, 0, pool));
    CHECK(f.out[0].dims[0] == 0 && f.out[0].dims[1] == i);
    drop_outputs(&f);
  }
}

static void compress(sd_pool *pool) {
  uint8_t keep[40];
  int64_t dims[3] = {3, 40, 7}, n = 40, param[1];
  float x[3 * 40 * 7];
  for (int i = 0; i < 840; i++) x[i] = (float)i;
  for (int turn = 0; turn < 20; turn++) {
    fixture f = {.out = {{.dtype = SD_F32, .rank = 3}}};
    bool flat = turn % 4 == 3;
    int64_t kept = 0, bad = 0;
    if (flat) f.out[0].rank = 1;
    n = turn % 3 ? 40 : 13;
    param[0] = flat ? SD_HOST_ABSENT : -2;
    for (int i = 0; i < 40; i++) keep[i] = turn > 17 ? turn == 19 : rnd(3) != 0;
    set_in(&f, 0, SD_F32, 3, dims, x);
    set_in(&f, 1, SD_BOOL, 1, &n, keep);
    CHECK_OK(call(&f, "Compress", 2, 1, param, 1, pool));
    const float *y = f.out[0].data;
    for (int64_t o = 0; o < (flat ? 1 : 3); o++)
      for (int64_t i = 0; i < n; i++) {
        if (!keep[i]) continue;
        for (int64_t k = 0; k < (flat ? 1 : 7); k++) bad += *y++ != (flat ? (float)i : (float)((o * 40 + i) * 7 + k));
        kept++;
      }
    CHECK(bad == 0 && f.out[0].dims[flat ? 0 : 1] * (flat ? 1 : 3) == kept);
    drop_outputs(&f);
  }
}

// Parts of long rows, of items of all sizes that are copied in ways of their own.
static void compress_long(sd_pool *pool) {
  enum { N = 60000 };
  static uint8_t x[3 * N * 8], keep[N];
  static const sd_dtype type[] = {SD_U8, SD_U16, SD_F32, SD_I64};
  for (size_t i = 0; i < sizeof x; i++) x[i] = (uint8_t)rnd(256);
  for (int t = 0; t < 4; t++)
    for (int share = 1; share <= 9; share += 4)
      for (int outer = 1; outer <= 3; outer += 2) {
        fixture f = {.out = {{.dtype = type[t], .rank = 2}}};
        int64_t dims[2] = {outer, N}, n = N - 7, param[1] = {1};
        uint64_t size = (uint64_t)sd_dtype_bits(type[t]) / 8, bad = 0, kept = 0;
        for (int i = 0; i < N; i++) keep[i] = rnd(10) < (uint32_t)share;
        set_in(&f, 0, type[t], 2, dims, x);
        set_in(&f, 1, SD_BOOL, 1, &n, keep);
        CHECK_OK(call(&f, "Compress", 2, 1, param, 1, pool));
        const uint8_t *y = f.out[0].data;
        for (uint64_t o = 0; o < (uint64_t)outer; o++)
          for (uint64_t i = 0; i < N - 7; i++)
            if (keep[i]) bad += memcmp(y + kept++ * size, x + (o * N + i) * size, size) != 0;
        CHECK(bad == 0 && f.out[0].count == kept);
        drop_outputs(&f);
      }
}

// ---- Unique ----

// Items of a tensor [items, width]. Groups are numbered by their outputs: consistent, complete, and in order.
static void unique_one(sd_dtype t, int64_t items, int64_t width, uint32_t kinds, bool sorted, bool flat) {
  fixture f = {.out = {{.dtype = t, .rank = flat ? 1 : 2}, {.dtype = SD_I64, .rank = 1}, {.dtype = SD_I64, .rank = 1}, {.dtype = SD_I64, .rank = 1}}};
  int64_t param[2] = {flat ? SD_HOST_ABSENT : 0, sorted}, bad = 0;
  void *x = elements(t, (uint64_t)(items * width), kinds);
  set_in(&f, 0, t, 2, (int64_t[]){items, width}, x);
  CHECK_OK(call(&f, "Unique", 1, 4, param, 2, NULL));
  if (flat) items *= width, width = 1;
  const int64_t *first = f.out[1].data, *group = f.out[2].data, *count = f.out[3].data, groups = f.out[1].dims[0];
  int64_t *seen = sd_calloc((size_t)groups + 1, sizeof *seen);
  for (int64_t i = 0; i < items; i++) {
    int c = 0;
    if (group[i] < 0 || group[i] >= groups) { bad++; continue; }
    for (int64_t k = 0; k < width; k++) c |= compare(&f.in[0], (uint64_t)(i * width + k), (uint64_t)(first[group[i]] * width + k));
    bad += c != 0 || first[group[i]] > i || (!seen[group[i]]++ && first[group[i]] != i);
  }
  uint64_t bytes = (uint64_t)(width * sd_dtype_bits(t) / 8);
  for (int64_t g = 0; g < groups; g++) {
    bad += seen[g] != count[g] || memcmp((char *)f.out[0].data + (uint64_t)g * bytes, (char *)x + (uint64_t)first[g] * bytes, bytes) != 0;
    if (!g) continue;
    int c = 0;
    for (int64_t k = 0; k < width && !c; k++) c = compare(&f.in[0], (uint64_t)(first[g - 1] * width + k), (uint64_t)(first[g] * width + k));
    bad += sorted ? c >= 0 : c == 0 || first[g - 1] >= first[g];
  }
  CHECK(bad == 0 && f.out[0].dims[0] == groups);
  if (bad) printf("  %s [%d, %d] kinds %u, sorted %d, flat %d\n", sd_dtype_name(t), (int)items, (int)width, kinds, sorted, flat);
  sd_free(seen), sd_free(x);
  drop_outputs(&f);
}

static void unique(void) {
  static const int64_t shapes[][2] = {{0, 1}, {1, 1}, {7, 1}, {300, 1}, {5000, 1}, {40, 2}, {400, 3}};
  for (int t = 0; t < TYPES; t++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      for (int how = 0; how < 4; how++) {
        unique_one(types[t], shapes[s][0], shapes[s][1], 5, how & 1, how & 2);
        unique_one(types[t], shapes[s][0], shapes[s][1], 100000, how & 1, how & 2);
      }
}

// Keys that all belong near one place of the table: they are sorted instead. Found by trial, as an attacker would.
static uint64_t place_of(uint64_t x) {
  x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
  x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
  return (x ^ x >> 33) & 1023;
}

static void unique_of_colliding(void) {
  enum { N = 400 };
  static int64_t x[N];
  int64_t n = 0, at = N, param[2] = {SD_HOST_ABSENT, 1};
  for (int64_t v = 0; n < N; v++)
    if (place_of((uint64_t)v ^ UINT64_C(1) << 63) < 4) x[n++] = v;
  fixture f = {.out = {{.dtype = SD_I64, .rank = 1}, {.dtype = SD_I64, .rank = 1}, {.dtype = SD_I64, .rank = 1}, {.dtype = SD_I64, .rank = 1}}};
  set_in(&f, 0, SD_I64, 1, &at, x);
  CHECK_OK(call(&f, "Unique", 1, 4, param, 2, NULL));
  CHECK(f.out[0].dims[0] == N && !memcmp(f.out[0].data, x, sizeof x));
  drop_outputs(&f);
}

// ---- NonMaxSuppression ----

static bool boxes_overlap(const float *a, const float *b, float limit) {
  float h = fminf(a[2], b[2]) - fmaxf(a[0], b[0]), w = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
  float both = h * w, all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both;
  return h > 0 && w > 0 && all > 0 && both / all > limit;
}

// The reference: looks for the best box that is left, again and again.
static int64_t suppress(const float *box, const float *score, int64_t n, int64_t most, float iou, float least, int64_t *out) {
  int64_t kept = 0;
  uint8_t *gone = sd_calloc((size_t)n + 1, 1);
  while (kept < most) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
      if (!gone[i] && score[i] > least && (best < 0 || score[i] > score[best])) best = i;
    if (best < 0) break;
    out[kept++] = best;
    gone[best] = 1;
    for (int64_t i = 0; i < n; i++)
      if (!gone[i] && boxes_overlap(box + 4 * best, box + 4 * i, iou)) gone[i] = 1;
  }
  sd_free(gone);
  return kept;
}

static void nms_one(int64_t batch, int64_t classes, int64_t n, int64_t most, float iou, float least, uint32_t kinds, sd_pool *pool) {
  fixture f = {.out = {{.dtype = SD_I64, .rank = 2}}};
  int64_t param[1] = {0}, *want = sd_calloc((size_t)n + 1, sizeof *want), row = 0, bad = 0;
  float *box = sd_calloc((size_t)(batch * n * 4) + 1, sizeof *box), *score = sd_calloc((size_t)(batch * classes * n) + 1, sizeof *score);
  for (int64_t i = 0; i < batch * n; i++) {
    float *b = box + 4 * i;
    for (int k = 0; k < 2; k++) b[k] = (float)rnd(60), b[k + 2] = b[k] + (float)rnd(20);
  }
  for (int64_t i = 0; i < batch * classes * n; i++) score[i] = (float)rnd(kinds) / (float)kinds;
  set_in(&f, 0, SD_F32, 3, (int64_t[]){batch, n, 4}, box);
  set_in(&f, 1, SD_F32, 3, (int64_t[]){batch, classes, n}, score);
  set_in(&f, 2, SD_I64, 0, NULL, &most);
  set_in(&f, 3, SD_F32, 0, NULL, &iou);
  set_in(&f, 4, SD_F32, 0, NULL, &least);
  CHECK_OK(call(&f, "NonMaxSuppression", 5, 1, param, 1, pool));
  const int64_t *got = f.out[0].data;
  for (int64_t c = 0; c < batch * classes; c++) {
    int64_t kept = suppress(box + c / (classes ? classes : 1) * n * 4, score + c * n, n, most, iou, least, want);
    for (int64_t i = 0; i < kept; i++, row++)
      bad += row >= f.out[0].dims[0] || got[3 * row] != c / classes || got[3 * row + 1] != c % classes || got[3 * row + 2] != want[i];
  }
  CHECK(bad == 0 && row == f.out[0].dims[0]);
  if (bad) printf("  nms %d %d %d most %d\n", (int)batch, (int)classes, (int)n, (int)most);
  drop_outputs(&f);
  sd_free(want), sd_free(box), sd_free(score);
}

static void nms(sd_pool *pool) {
  static const int64_t sizes[] = {0, 1, 9, 40, 700};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int64_t most = 0; most <= 700; most = most * 5 + 1)
      for (uint32_t kinds = 3; kinds <= 3000; kinds *= 1000) {
        nms_one(2, 3, sizes[s], most, 0.3f, 0.2f, kinds, pool);
        nms_one(1, 1, sizes[s], most, 0, -1, kinds, pool);
      }
  nms_one(0, 3, 5, 4, 0.5f, 0, 3, pool);
  nms_one(2, 0, 5, 4, 0.5f, 0, 3, pool);
}

// ---- sard.Find ----

static void find(sd_pool *pool) {
  for (int t = 0; t < TYPES; t++)
    for (int64_t n = 0; n <= 20000; n = n * 9 + 7)
      for (int64_t count = 0; count <= 3000; count = count * 7 + 1) {
        fixture f = {.out = {{.dtype = SD_I64, .rank = 1}}};
        void *x = elements(types[t], (uint64_t)n, 100), *keys = elements(types[t], (uint64_t)count, count > 100 ? 100000 : 100);
        int64_t bad = 0, step = n > 300 ? 37 : 1;
        set_in(&f, 0, types[t], 1, &n, x);
        set_in(&f, 1, types[t], 1, &count, keys);
        f.in[1].fixed = t % 2;
        CHECK_OK(call(&f, "sard.Find", 2, 1, NULL, 0, pool));
        CHECK((f.kept.state != NULL) == f.in[1].fixed);
        if (f.kept.state) { // what was kept serves the next call
          const void *first = f.kept.state;
          drop_outputs(&f);
          CHECK_OK(call(&f, "sard.Find", 2, 1, NULL, 0, pool));
          CHECK(f.kept.state == first);
        }
        const int64_t *got = f.out[0].data;
        for (int64_t i = 0; i < n; i += step) {
          int64_t want = -1;
          for (int64_t k = 0; k < count; k++) { // the last of equal keys
            uint64_t a, b;
            sd_host_keys(types[t], x, (uint64_t)i, 1, &a), sd_host_keys(types[t], keys, (uint64_t)k, 1, &b);
            if (a == b) want = k;
          }
          bad += got[i] != want;
        }
        CHECK(bad == 0 && f.out[0].count == (uint64_t)n);
        drop_outputs(&f);
        if (f.kept.free) f.kept.free(f.kept.state);
        sd_free(x), sd_free(keys);
      }
}

static void all_functions(void) {
  for (int threads = 0; threads <= 3; threads++) { // 0: without a pool
    sd_pool *pool = threads ? sd_pool_new(threads) : NULL;
    if (pool) sd_pool_enter(pool);
    topk(pool);
    topk_of_sorted(pool);
    topk_of_few_numbers(pool);
    nonzero(pool);
    nonzero_of_scalar(pool);
    compress(pool);
    compress_long(pool);
    nms(pool);
    find(pool);
    if (pool) sd_pool_leave(pool);
    sd_pool_free(pool);
  }
}

int main(void) {
  RUN(all_functions);
  RUN(unique);
  RUN(unique_of_colliding);
  return check_end();
}
