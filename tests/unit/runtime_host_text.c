// Host functions of texts and of n-grams against straightforward forms of themselves, with few and with many different
// texts, on any number of threads; the texts at the border of a session.
#include <ctype.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/model.h"
#include "runtime/values.h"
#include "tests/unit/test.h"

enum { N = 6000, ROOM = 40 };

static uint64_t state = 1;
static uint32_t rnd(uint32_t n) { // from Numerical Recipes' constants
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(state >> 33) % n;
}

typedef struct fixture {
  sd_host_tensor in[5], out[1];
  sd_host_call call;
  sd_strtab *texts;
  sd_host_kept kept;
} fixture;

static sard_status *make(sd_host_call *c, uint32_t i, const int64_t *dims) {
  sd_host_tensor *t = &c->out[i];
  t->count = 1;
  for (int d = 0; d < t->rank; d++) t->dims[d] = dims[d], t->count *= (uint64_t)dims[d];
  t->data = sd_malloc(t->count * 8 + 1);
  return t->data ? NULL : SD_ERR(NOMEM, "out of memory");
}

static void set_in(fixture *f, int i, sd_dtype t, int rank, const int64_t *dims, const void *data) {
  f->in[i] = (sd_host_tensor){.dtype = t, .rank = rank, .data = (void *)(uintptr_t)data, .count = 1};
  for (int d = 0; d < rank; d++) f->in[i].dims[d] = dims[d], f->in[i].count *= (uint64_t)dims[d];
}

static sard_status *call(fixture *f, const char *op, uint32_t n_in, int rank, sd_dtype t,
                         const int64_t *param, uint32_t n_param, sd_pool *pool) {
  f->out[0] = (sd_host_tensor){.dtype = t, .rank = rank};
  f->call = (sd_host_call){.n_in = n_in,
                           .n_out = 1,
                           .n_param = n_param,
                           .in = f->in,
                           .out = f->out,
                           .param = param,
                           .make = make,
                           .pool = pool,
                           .strings = f->texts,
                           .kept = &f->kept};
  return sd_host_run(sd_host_find(op), &f->call);
}

// Texts of all lengths up to 31, of a number of kinds; some with letters of two bytes.
static uint64_t number_of(sd_strtab *t, const char *text) {
  uint64_t number = 0;
  CHECK(sd_strtab_add(t, text, strlen(text), &number));
  return number;
}

static void fill(sd_strtab *t, uint64_t *number, int n, uint32_t kinds) {
  for (int i = 0; i < n; i++) {
    char text[ROOM];
    uint32_t k = rnd(kinds);
    int length = snprintf(text, sizeof text, "%s%x", k % 3 ? "Ab\xc3\x84z" : "qRS", k * 2654435761u);
    text[k % 5 ? length : (int)(k / 5 % (uint32_t)length)] = 0;
    number[i] = number_of(t, text);
  }
}

static const char *text_of(const fixture *f, const uint64_t *number, uint64_t i) {
  return sd_strtab_text(f->texts, number[i]);
}

static void concat(void) {
  static uint64_t x[N], y[N];
  for (uint32_t kinds = 2; kinds <= 20000; kinds *= 100) {
    fixture f = {.texts = sd_strtab_new(NULL)};
    const int64_t shapes[][2][3] = {{{1, 1, N}, {1, 1, 1}},
                                    {{20, 15, 20}, {1, 15, 1}},
                                    {{20, 1, 20}, {1, 15, 20}},
                                    {{1, 1, 1}, {3, 0, 2}}};
    fill(f.texts, x, N, kinds), fill(f.texts, y, N, 3);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      const int64_t *a = shapes[s][0], *b = shapes[s][1];
      uint64_t bad = 0, i = 0;
      set_in(&f, 0, SD_STRING, 3, a, x), set_in(&f, 1, SD_STRING, 3, b, y);
      CHECK_OK(call(&f, "StringConcat", 2, 3, SD_STRING, NULL, 0, NULL));
      const int64_t *d = f.out[0].dims;
      for (int64_t k = 0; k < d[0]; k++)
        for (int64_t m = 0; m < d[1]; m++)
          for (int64_t n = 0; n < d[2]; n++, i++) {
            char want[2 * ROOM];
            int64_t at = (k % a[0] * a[1] + m % a[1]) * a[2] + n % a[2],
                    to = (k % b[0] * b[1] + m % b[1]) * b[2] + n % b[2];
            snprintf(want, sizeof want, "%s%s", text_of(&f, x, (uint64_t)at), text_of(&f, y, (uint64_t)to));
            bad += strcmp(want, text_of(&f, f.out[0].data, i)) != 0;
          }
      CHECK(bad == 0 && i == f.out[0].count);
      sd_free(f.out[0].data);
    }
    sd_strtab_free(f.texts);
  }
}

static void in_case(const char *from, int64_t how, char *to) {
  for (; *from; from++, to++) {
    *to = *from;
    if (how && strchr("\x84\xa4", *from)) *to = how == 1 ? '\xa4' : '\x84'; // the second byte of an umlaut
    else if (!((unsigned char)*from & 0x80))
      *to = (char)(how == 1 ? tolower(*from) : how == 2 ? toupper(*from) : *from);
  }
  *to = 0;
}

// Texts without the stopwords; `exact`: their case counts.
static void normalize(uint32_t kinds, int64_t how, int64_t exact, bool with_empty) {
  static uint64_t x[N];
  fixture f = {.texts = sd_strtab_new(NULL)};
  uint64_t stop[4], bad = 0, kept = 0;
  int64_t n = N, words = 3 + with_empty, param[2] = {how, exact};
  fill(f.texts, x, N, kinds);
  for (int i = 0; i < 3; i++) {
    char word[ROOM];
    in_case(text_of(&f, x, rnd(N)), i, word);
    stop[i] = number_of(f.texts, *word ? word : "none");
  }
  stop[3] = 0;
  set_in(&f, 0, SD_STRING, 1, &n, x), set_in(&f, 1, SD_STRING, 1, &words, stop);
  CHECK_OK(call(&f, "sard.StringNormalizer", 2, 1, SD_STRING, param, 2, NULL));
  for (uint64_t i = 0; i < N; i++) {
    char text[ROOM], word[ROOM], want[ROOM];
    bool drop = false;
    in_case(text_of(&f, x, i), exact ? 0 : 1, text);
    for (int k = 0; k < words; k++)
      in_case(text_of(&f, stop, (uint64_t)k), exact ? 0 : 1, word), drop |= !strcmp(text, word);
    if (drop) continue;
    in_case(text_of(&f, x, i), how, want);
    bad += kept >= f.out[0].count || strcmp(want, text_of(&f, f.out[0].data, kept)) != 0;
    kept++;
  }
  CHECK(bad == 0 && f.out[0].count == (kept ? kept : 1));
  sd_free(f.out[0].data);
  sd_strtab_free(f.texts);
}

static void normalizer(void) {
  for (uint32_t kinds = 1; kinds <= 10000; kinds *= 100)
    for (int how = 0; how < 3; how++)
      for (int exact = 0; exact < 2; exact++) normalize(kinds, how, exact, kinds > 1 && how == 1);
}

// ---- n-grams ----

static int64_t count_one(const int64_t *x, int64_t len, const int64_t *gram, int64_t n, int64_t skips) {
  int64_t found = 0;
  for (int64_t step = 1; step <= (n == 1 ? 1 : skips + 1); step++)
    for (int64_t i = 0; i + (n - 1) * step < len; i++) {
      bool all = true;
      for (int64_t k = 0; k < n; k++) all &= x[i + k * step] == gram[k];
      found += all;
    }
  return found;
}

static void ngrams_one(int64_t count, int64_t len, int64_t range, int64_t skips, int64_t shortest,
                       bool binary, bool plain, sd_pool *pool) {
  enum { GRAMS = 30, ITEMS = GRAMS * 6 }; // of lengths 1, 2, 3
  static int64_t x[3000], pool_items[ITEMS], columns[3 * GRAMS];
  static float scale[3 * GRAMS];
  fixture f = {0};
  int64_t counts[3] = {0, GRAMS, 3 * GRAMS}, dims[2] = {count, len}, items = ITEMS, grams = 3 * GRAMS, three = 3;
  int64_t param[4] = {3, skips, shortest, binary}, bad = 0;
  for (int64_t i = 0; i < count * len; i++) x[i] = rnd((uint32_t)range);
  for (int i = 0; i < ITEMS; i++) pool_items[i] = rnd((uint32_t)range);
  for (int i = 0; i < GRAMS; i++) pool_items[i] = i; // different ones: of equal n-grams the first counts
  for (int i = 0; i < 2 * GRAMS; i++) pool_items[GRAMS + i] = i % 2 ? i / 2 % 6 : i / 12;
  for (int i = 0; i < 3 * GRAMS; i++)
    pool_items[3 * GRAMS + i] = i % 3 == 0 ? i / 48 : i % 3 == 1 ? i / 12 % 4 : i / 3 % 4;
  for (int i = 0; i < 3 * GRAMS; i++) columns[i] = 3 * GRAMS - 1 - i, scale[i] = plain ? 1 : (float)rnd(9) - 4;
  set_in(&f, 0, SD_I64, 2, dims, x), set_in(&f, 1, SD_I64, 1, &items, pool_items),
      set_in(&f, 2, SD_I64, 1, &three, counts);
  set_in(&f, 3, SD_I64, 1, &grams, columns), set_in(&f, 4, SD_F32, 1, &grams, scale);
  for (int i = 1; i < 5; i++) f.in[i].fixed = i > 1 || !binary;
  CHECK_OK(call(&f, "sard.NGrams", 5, 2, SD_F32, param, 4, pool));
  CHECK((f.kept.state != NULL) == !binary);
  if (f.kept.state) { // what was kept serves the next call
    const void *first = f.kept.state;
    sd_free(f.out[0].data);
    CHECK_OK(call(&f, "sard.NGrams", 5, 2, SD_F32, param, 4, pool));
    CHECK(f.kept.state == first);
  }
  const float *y = f.out[0].data;
  for (int64_t r = 0; r < count; r++)
    for (int64_t g = 0; g < grams; g++) {
      int64_t n = g < GRAMS       ? 1
                  : g < 2 * GRAMS ? 2
                                  : 3,
              at = n == 1   ? g
                   : n == 2 ? GRAMS + (g - GRAMS) * 2
                            : 3 * GRAMS + (g - 2 * GRAMS) * 3;
      int64_t found = n < shortest ? 0 : count_one(x + r * len, len, pool_items + at, n, skips);
      float want = (float)(binary && found ? 1 : found) * scale[columns[g]];
      bad += y[r * grams + columns[g]] != want;
    }
  CHECK(bad == 0);
  if (f.kept.free) f.kept.free(f.kept.state);
  sd_free(f.out[0].data);
}

static void ngrams(void) {
  for (int threads = 0; threads <= 3; threads++) { // 0: without a pool
    sd_pool *pool = threads ? sd_pool_new(threads) : NULL;
    if (pool) sd_pool_enter(pool);
    for (int i = 0; i < 24; i++)
      ngrams_one(1 + i % 4, i < 12 ? 1 + i : 600, i % 2 ? 8 : 60, i % 3, 1 + i % 2, i % 4 == 1, i % 4 == 2,
                 pool);
    if (pool) sd_pool_leave(pool);
    sd_pool_free(pool);
  }
}

// ---- texts of tensors ----

// What a tensor holds comes out of the next run's table as it went in; a tensor that is given again does not grow.
static void border(void) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_STRING, .rank = 1, .dims = {N}};
  sard_tensor *from = NULL, *to = NULL;
  sd_values v = {sd_strtab_new(NULL), sd_objects_new()};
  uint64_t bytes = 0;
  CHECK_OK(sard_tensor_new(NULL, &d, &from));
  CHECK_OK(sard_tensor_new(NULL, &d, &to));
  for (int turn = 0; turn < 6; turn++) {
    uint64_t bad = 0;
    for (int i = 0; i < N; i++) {
      char text[ROOM];
      snprintf(text, sizeof text, "%d/%u", turn, turn % 2 ? rnd(7) : (uint32_t)i);
      CHECK_OK(sard_tensor_set_string(from, i, text));
    }
    sd_strtab_reset(v.strings);
    CHECK_OK(sd_values_take_strings(&v, from, N, to->data));
    CHECK_OK(sd_values_give_strings(&v, to));
    for (int i = 0; i < N; i++) bad += strcmp(((char **)from->data)[i], ((char **)to->data)[i]) != 0;
    CHECK(bad == 0);
    if (turn == 2) bytes = sd_strtab_bytes(to->texts);
    if (turn == 4) CHECK(sd_strtab_bytes(to->texts) <= bytes + 65536);
  }
  sard_tensor_free(from), sard_tensor_free(to);
  sd_strtab_free(v.strings), sd_objects_free(v.objects);
}

// Texts of all lengths, and those that differ in one byte only.
static void table(void) {
  sd_strtab *t = sd_strtab_new(NULL);
  char text[70];
  uint64_t number[70][3], bad = 0, found;
  size_t n;
  memset(text, 'x', sizeof text);
  for (int turn = 0; turn < 2; turn++)
    for (size_t length = 1; length < 70; length++)
      for (int k = 0; k < 3; k++) {
        size_t at = k == 0 ? 0 : k == 1 ? length / 2 : length - 1;
        text[at] = (char)('a' + k);
        CHECK(sd_strtab_add(t, text, length, &found));
        if (turn)
          bad +=
              found != number[length][k] || strncmp(sd_strtab_get(t, found, &n), text, length) || n != length;
        number[length][k] = found;
        text[at] = 'x';
      }
  CHECK(bad == 0 && sd_strtab_count(t) == 1 + 69 * 3);
  CHECK(!sd_strtab_find(t, "xyz", 3, &found) && sd_strtab_find(t, "axx", 3, &found) && found == number[3][0]);
  CHECK(sd_strtab_find(t, "", 0, &found) && found == 0);
  sd_strtab_free(t);
}

int main(void) {
  RUN(table);
  RUN(concat);
  RUN(normalizer);
  RUN(ngrams);
  RUN(border);
  return check_end();
}
