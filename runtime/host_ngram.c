// TfIdfVectorizer: counts n-grams of a pool in rows of numbers or strings (both are 64-bit numbers here).
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

enum { CHUNK = 256, BLOCK = 16, TILE = 32768 };

typedef struct grams {
  const int64_t *pool;
  uint64_t *start;       // of each n-gram in the pool, and its end
  uint64_t n;
  uint32_t *index;       // open addressing over the n-grams: number + 1
  uint64_t n_index;
  uint64_t *filter;      // bits by hash: most of what is looked for is not there, and ends here
  uint64_t n_bits;
  bool plain;            // all weights are 1
} grams;

static inline __attribute__((always_inline)) uint64_t gram_hash(const int64_t *at, uint64_t n, uint64_t step) {
  uint64_t h = n;
  for (uint64_t i = 0; i < n; i++) h = (h + (uint64_t)at[i * step]) * UINT64_C(0x9e3779b97f4a7c15), h ^= h >> 32;
  return h;
}

static uint64_t filter_bit(const grams *g, uint64_t h) { return h >> 24 & (g->n_bits - 1); }
static bool may_be_there(const grams *g, uint64_t h) {
  return g->filter[filter_bit(g, h) / 64] >> filter_bit(g, h) % 64 & 1;
}

static bool same(const int64_t *a, const int64_t *b, uint64_t n, uint64_t step) {
  for (uint64_t i = 0; i < n; i++)
    if (a[i] != b[i * step]) return false;
  return true;
}

// The slot of the n-gram whose items stand `step` apart; h: its hash.
static uint32_t *find(const grams *g, const int64_t *at, uint64_t n, uint64_t step, uint64_t h) {
  uint64_t i = h & (g->n_index - 1);
  for (; g->index[i]; i = (i + 1) & (g->n_index - 1)) {
    uint64_t k = g->index[i] - 1;
    if (g->start[k + 1] - g->start[k] == n && same(g->pool + g->start[k], at, n, step)) break;
  }
  return &g->index[i];
}

// ngram_counts: where the n-grams of length 1, 2, ... begin in the pool.
static sard_status *read_pool(const sd_host_call *c, grams *g) {
  const int64_t *counts = c->in[2].data;
  uint64_t lengths = c->in[2].count, items = c->in[1].count, n = 0, *start = g->start;
  for (uint64_t k = 0; k < lengths; k++) {
    int64_t from = counts[k], to = k + 1 < lengths ? counts[k + 1] : (int64_t)items;
    if (from < 0 || to < from || (uint64_t)to > items || (uint64_t)(to - from) % (k + 1)) return SD_ERR(MODEL, "ngram_counts does not fit the pool of %llu items", (unsigned long long)items);
    for (int64_t at = from; at < to; at += (int64_t)k + 1) start[n++] = (uint64_t)at;
  }
  start[n] = items;
  g->n = n;
  if (n != c->in[3].count) return SD_ERR(MODEL, "the pool has %llu n-grams, ngram_indexes %llu", (unsigned long long)n, (unsigned long long)c->in[3].count);
  if (n && start[0] != 0) return SD_ERR(MODEL, "ngram_counts begins with %llu", (unsigned long long)start[0]);
  for (uint64_t k = 0; k < n; k++) {
    uint64_t h = gram_hash(g->pool + start[k], start[k + 1] - start[k], 1);
    uint32_t *slot = find(g, g->pool + start[k], start[k + 1] - start[k], 1, h);
    if (!*slot) *slot = (uint32_t)k + 1;
    g->filter[filter_bit(g, h) / 64] |= UINT64_C(1) << filter_bit(g, h) % 64;
  }
  return NULL;
}

static void make_hashes(const int64_t *x, uint64_t count, uint64_t n, uint64_t step, uint64_t *hash) {
  if (n == 1)
    for (uint64_t i = 0; i < count; i++) hash[i] = gram_hash(x + i, 1, step);
  else if (n == 2)
    for (uint64_t i = 0; i < count; i++) hash[i] = gram_hash(x + i, 2, step);
  else
    for (uint64_t i = 0; i < count; i++) hash[i] = gram_hash(x + i, n, step);
}

// The n-grams that begin at x[0 .. count); without branches that data decides for those that are not in the pool.
static void count_grams(const grams *g, const int64_t *column, const int64_t *x, uint64_t count, uint64_t n,
                        uint64_t step, float *y) {
  uint64_t hash[CHUNK];
  uint16_t maybe[CHUNK];
  for (uint64_t at = 0; at < count; at += CHUNK) {
    uint64_t part = count - at < CHUNK ? count - at : CHUNK, found = 0;
    make_hashes(x + at, part, n, step, hash);
    for (uint64_t i = 0; i < part; i++) maybe[found] = (uint16_t)i, found += may_be_there(g, hash[i]);
    for (uint64_t i = 0; i < found; i++) {
      uint64_t k = *find(g, x + at + maybe[i], n, step, hash[maybe[i]]);
      if (k) y[column[k - 1]] += 1;
    }
  }
}

static inline float scaled(float y, float scale, bool once) { return (once && y > 0 ? 1 : y) * scale; }
static inline __attribute__((always_inline)) void scale_row(float *restrict y, const float *restrict scale,
                                                            uint64_t width, bool once) {
  uint64_t at = 0;
  for (; at + BLOCK <= width; at += BLOCK)
    for (int i = 0; i < BLOCK; i++) y[at + (uint64_t)i] = scaled(y[at + (uint64_t)i], scale[at + (uint64_t)i], once);
  for (; at < width; at++) y[at] = scaled(y[at], scale[at], once);
}

// A tile is `per` of the rows, so that waking a thread is little beside it.
typedef struct rows {
  const grams *g;
  const sd_host_call *c;
  const int64_t *x;
  float *y;
  uint64_t len, width, count, per;
  bool plain; // the counts as they are
} rows;

static void count_row(const rows *r, const int64_t *x, float *y) {
  const sd_host_call *c = r->c;
  uint64_t longest = (uint64_t)c->param[0], skips = (uint64_t)c->param[1], shortest = (uint64_t)c->param[2];
  const float *scale = c->in[4].data;
  memset(y, 0, r->width * sizeof *y);
  for (uint64_t n = shortest; n <= longest && n <= r->len; n++)
    for (uint64_t step = 1; step <= (n == 1 ? 1 : skips + 1) && (n - 1) * step < r->len; step++)
      count_grams(r->g, c->in[3].data, x, r->len - (n - 1) * step, n, step, y);
  if (r->plain) return;
  if (c->param[3]) scale_row(y, scale, r->width, true);
  else scale_row(y, scale, r->width, false);
}

static void count_rows(void *user, int worker, uint32_t begin, uint32_t end) {
  const rows *r = user;
  (void)worker;
  uint64_t stop = end * r->per < r->count ? end * r->per : r->count;
  for (uint64_t i = begin * r->per; i < stop; i++) count_row(r, r->x + i * r->len, r->y + i * r->width);
}

static void free_grams(void *state) {
  grams *g = state;
  sd_free(g->index), sd_free(g->filter), sd_free(g->start);
  sd_free(g);
}

static sard_status *fill_grams(const sd_host_call *c, grams *g) {
  uint64_t items = c->in[1].count, width = c->in[4].count, n = 64;
  while (n < 2 * items) n *= 2;
  *g = (grams){.pool = c->in[1].data, .n_index = n, .n_bits = 32 * n, .plain = true};
  g->index = sd_calloc(n, sizeof *g->index), g->filter = sd_calloc(g->n_bits / 64, sizeof *g->filter);
  g->start = sd_calloc(items + 2, sizeof *g->start);
  if (!g->index || !g->filter || !g->start) return SD_ERR(NOMEM, "out of memory for %llu n-grams", (unsigned long long)items);
  SD_TRY(read_pool(c, g));
  for (uint64_t i = 0; i < c->in[3].count; i++) {
    int64_t at = ((const int64_t *)c->in[3].data)[i];
    if (at < 0 || (uint64_t)at >= width) return SD_ERR(MODEL, "ngram_indexes has %lld", (long long)at);
  }
  for (uint64_t i = 0; i < width && g->plain; i++) g->plain = ((const float *)c->in[4].data)[i] == 1;
  return NULL;
}

static sard_status *make_grams(const sd_host_call *c, grams **out) {
  grams *g = sd_calloc(1, sizeof *g);
  sard_status *st = g ? fill_grams(c, g) : SD_ERR(NOMEM, "out of memory for n-grams");
  if (st && g) free_grams(g);
  *out = st ? NULL : g;
  return st;
}

static sard_status *run(sd_host_call *c, const grams *g) {
  const sd_host_tensor *x = &c->in[0];
  uint64_t width = c->in[4].count, len = x->rank ? (uint64_t)x->dims[x->rank - 1] : 1, count = x->rank == 2 ? (uint64_t)x->dims[0] : 1;
  int64_t dims[2] = {(int64_t)count, (int64_t)width};
  SD_TRY(c->make(c, 0, x->rank == 2 ? dims : dims + 1));
  if (count > UINT32_MAX) return SD_ERR(UNSUPPORTED, "%llu rows", (unsigned long long)count);
  uint64_t per = len + width < TILE ? TILE / (len + width + 1) : 1;
  rows r = {g, c, x->data, c->out[0].data, len, width, count, per, .plain = !c->param[3] && g->plain};
  if (width) sd_host_tiles(c, count_rows, &r, (uint32_t)((count + per - 1) / per));
  return NULL;
}

sard_status *sd_host_ngrams(sd_host_call *c) {
  grams *g = sd_host_kept_state(c, 1);
  if (c->in[0].rank < 1 || c->in[0].rank > 2 || c->in[4].dtype != SD_F32) return SD_ERR(MODEL, "n-grams of a tensor of rank %d", c->in[0].rank);
  if (c->param[2] < 1 || c->param[0] < c->param[2] || c->param[1] < 0 || c->param[0] > INT32_MAX || c->param[1] > INT32_MAX)
    return SD_ERR(MODEL, "n-grams of length %lld to %lld with %lld skips", (long long)c->param[2], (long long)c->param[0], (long long)c->param[1]);
  if (c->in[1].count > UINT32_MAX / 2) return SD_ERR(UNSUPPORTED, "a pool of %llu items", (unsigned long long)c->in[1].count);
  if (!g) SD_TRY(make_grams(c, &g));
  sard_status *st = run(c, g);
  sd_host_keep(c, 1, g, free_grams);
  return st;
}
