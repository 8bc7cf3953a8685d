// TopK. A pass over a row looks at the high halves of keys, a block at a time, and only what may belong to
// the result is looked at more closely; where the result is a large part of the row, the row is sorted. Rows
// of f32 are looked through first for a bound that k of them reach. Long rows are done in parts, whose
// results are ranked again: the result is the same, since equal values keep their order.
#include <math.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"

enum {
  BLOCK = 16,
  CHUNK = 256,
  COLUMNS = 16,
  LINE = 16,
  PART = 65536,
  MAX_PARTS = 64,
  GROUPS = 512,
  PIECES = 64,
  SAMPLED = 16
};

// ---- a row whose elements stand side by side ----

typedef struct row {
  sd_dtype dtype;
  const void *data;
  uint64_t len;
  bool largest, narrow;
} row;

static uint64_t full_key(const row *r, uint64_t i) {
  uint64_t key;
  sd_host_keys(r->dtype, r->data, i, 1, &key);
  return r->largest ? ~key : key;
}

// What a block has to hold for one of its elements to be wanted; `any`: something may be.
typedef struct limit {
  int32_t key; // a high key of at most that
  float value; // f32: a value beyond that, or NaN
  bool any;
} limit;

// `known`: at least k of the row have a high key below that; INT32_MAX: nothing is known.
static inline limit limit_of(const sd_top *t, const row *r, int32_t known) {
  int32_t key = t->full ? (int32_t)((uint32_t)(t->bound >> 32) ^ UINT32_C(0x80000000)) : INT32_MAX;
  bool all = !t->full && known == INT32_MAX;
  if (known < key) key = known;
  limit l = {key, sd_host_float_of(r->largest ? ~key : key), true};
  if (all || !r->narrow) return l;
  l.any = l.key != INT32_MIN;
  if (l.any) l.key--; // an equal one would come after
  return l;
}

static bool keys_reach(const row *r, uint64_t at, int32_t limit) {
  int32_t key[BLOCK];
  int any = 0, turn = -r->largest;
  sd_host_high_keys(r->dtype, r->data, at, BLOCK, key);
  for (int i = 0; i < BLOCK; i++) any |= (key[i] ^ turn) <= limit;
  return any;
}

// Negated comparisons hold for NaN, too: it is largest of all when the largest are wanted; else looked at in vain.
static inline __attribute__((always_inline)) bool floats_reach(const float *x, int n, float limit, bool largest) {
  int any = 0;
  if (largest)
    for (int i = 0; i < n; i++) any |= !(x[i] <= limit);
  else
    for (int i = 0; i < n; i++) any |= !(x[i] >= limit);
  return any;
}

// At most a block of elements; those within the limit are found without branches that data decides.
static void offer_elements(sd_top *t, const row *r, uint64_t at, uint64_t n, int32_t limit) {
  int32_t key[BLOCK], turn = -r->largest;
  uint8_t within[BLOCK];
  int found = 0;
  sd_host_high_keys(r->dtype, r->data, at, n, key);
  for (uint64_t i = 0; i < n; i++) within[found] = (uint8_t)i, found += (key[i] ^ turn) <= limit;
  for (int k = 0; k < found; k++) {
    uint64_t i = at + within[k];
    sd_top_offer(t, r->narrow ? sd_host_widen(key[within[k]] ^ turn) : full_key(r, i), (int64_t)i);
  }
}

static void scan(sd_top *t, const row *r, uint64_t begin, uint64_t end, int32_t known) {
  bool f = r->dtype == SD_F32;
  limit l = limit_of(t, r, known);
  for (uint64_t at = begin; at < end && l.any;) {
    const float *x = (const float *)r->data + at;
    if (f && end - at >= 4 * BLOCK && !floats_reach(x, 4 * BLOCK, l.value, r->largest)) {
      at += 4 * BLOCK;
      continue;
    }
    for (uint64_t stop = end - at < 4 * BLOCK ? end : at + 4 * BLOCK; at < stop && l.any; at += BLOCK) {
      uint64_t n = end - at < BLOCK ? end - at : BLOCK;
      x = (const float *)r->data + at;
      if (n == BLOCK && !(f ? floats_reach(x, BLOCK, l.value, r->largest) : keys_reach(r, at, l.key))) continue;
      offer_elements(t, r, at, n, l.key);
      l = limit_of(t, r, known);
    }
  }
}

static void sort_range(sd_top *t, const row *r, uint64_t begin, uint64_t end) {
  uint64_t key[CHUNK];
  t->n = 0;
  for (uint64_t at = begin; at < end; at += CHUNK) {
    uint64_t n = end - at < CHUNK ? end - at : CHUNK;
    sd_host_keys(r->dtype, r->data, at, n, key);
    for (uint64_t i = 0; i < n; i++) t->items[t->n++] = (sd_item){r->largest ? ~key[i] : key[i], (int64_t)(at + i)};
  }
  sd_host_sort(t->items, t->spare, t->n);
}

// Where the result is a large part of the range.
static bool sorts_all(uint64_t k, uint64_t len) { return k > SD_TOP_FEW && 4 * k + 8 >= len; }

// The first k of elements begin .. end - 1, in order, as t->items; without those that `known` leaves out.
static void rank_range(sd_top *t, const row *r, uint64_t begin, uint64_t end, int32_t known) {
  t->n = 0, t->full = false;
  if (sorts_all(t->k, end - begin)) {
    sort_range(t, r, begin, end);
    return;
  }
  scan(t, r, begin, end, known);
  sd_top_settle(t);
}

// ---- a bound ahead of the ranking ----
// Elements are dealt to groups in turn. Each group's best is an element, so that the k-th best of these is reached by k
// elements; where there are twice as many groups as wanted elements, few others reach it.

// NaN as x is passed over: as the best of a group it would only make the bound better.
static inline __attribute__((always_inline)) float better(float x, float than, bool largest) {
  return (largest ? x > than : x < than) ? x : than;
}

// Of 16 groups; four elements of each at once.
static inline __attribute__((always_inline)) void best_of_lanes(const float *x, uint64_t n, uint64_t step,
                                                                bool largest, float *restrict best) {
  uint64_t at = 0;
  for (; at + 4 * step <= n; at += 4 * step)
    for (int i = 0; i < BLOCK; i++) {
      const float *v = x + at + i;
      best[i] = better(v[3 * step],
                       better(v[2 * step], better(v[step], better(v[0], best[i], largest), largest), largest),
                       largest);
    }
  for (; at + step <= n; at += step)
    for (int i = 0; i < BLOCK; i++) best[i] = better(x[at + (uint64_t)i], best[i], largest);
}

static void best_of_groups(const float *x, uint64_t n, uint64_t groups, bool largest, float *best) {
  for (uint64_t g = 0; g < groups; g += BLOCK) {
    if (largest) best_of_lanes(x + g, n, groups, true, best + g);
    else best_of_lanes(x + g, n, groups, false, best + g);
  }
}

static uint64_t count_within(const int32_t *key, uint64_t n, int32_t limit) {
  int32_t all = 0;
  for (uint64_t at = 0; at < n; at += BLOCK)
    for (int i = 0; i < BLOCK; i++) all += key[at + (uint64_t)i] <= limit;
  return (uint64_t)all;
}

// A limit that k of the keys are within, near the least one.
static int32_t near_least(const int32_t *key, uint64_t n, uint64_t k) {
  int64_t low = key[0], high = key[0];
  for (uint64_t i = 1; i < n; i++) low = key[i] < low ? key[i] : low, high = key[i] > high ? key[i] : high;
  for (int round = 0; round < 12 && low < high; round++) {
    int64_t middle = low + (high - low) / 2;
    if (count_within(key, n, (int32_t)middle) >= k) high = middle;
    else low = middle + 1;
  }
  return (int32_t)high;
}

// A high key that k of the row are below; INT32_MAX where none is looked for or none is found.
static int32_t find_bound(const row *r, uint64_t k) {
  float best[GROUPS];
  int32_t key[GROUPS], turn = -r->largest;
  uint64_t groups = BLOCK, piece = r->len, apart = r->len;
  while (groups < 2 * k) groups *= 2;
  if (r->dtype != SD_F32 || k > GROUPS / 2 || r->len < 4 * groups || sorts_all(k, r->len)) return INT32_MAX;
  if (r->len > PART) apart = r->len / PIECES, piece = apart / SAMPLED > 2 * groups ? apart / SAMPLED : 2 * groups;
  for (uint64_t g = 0; g < groups; g++) best[g] = r->largest ? -INFINITY : INFINITY;
  for (uint64_t at = 0; at + piece <= r->len; at += apart)
    best_of_groups((const float *)r->data + at, piece, groups, r->largest, best);
  sd_host_high_keys(SD_F32, best, 0, groups, key);
  for (uint64_t g = 0; g < groups; g++) key[g] ^= turn;
  int32_t bound = near_least(key, groups, k), start;
  sd_host_high_keys(SD_F32, &(float){r->largest ? -INFINITY : INFINITY}, 0, 1, &start);
  return bound < (start ^ turn) ? bound + 1 : INT32_MAX; // else a group may have had nothing but NaN
}

// ---- all rows ----

typedef struct job {
  sd_host_call *c;
  const sd_host_tensor *x;
  uint64_t k, len, inner, size, columns; // columns: rows that are turned together
  uint64_t parts, part;                  // of a row, and elements of each
  sd_item *found;                        // [parts][k]: results of the parts
  uint64_t *found_n;
  sd_item *items;                        // [worker][2][room]
  uint64_t room;
  uint8_t *turned;                       // [worker][columns][turned_row] bytes
  uint64_t turned_row;
  row row;
  int32_t known;                         // of the long row at hand
} job;

static sd_top worker_top(const job *j, int worker) {
  sd_item *items = j->items + (uint64_t)worker * 2 * j->room;
  return (sd_top){.items = items, .spare = items + j->room, .k = j->k, .room = j->room};
}

// Elements first, first + stride, ... of the outputs: the items, elements of the row.
static void write_row(const job *j, const row *r, const sd_item *items, uint64_t first, uint64_t stride) {
  const sd_host_tensor *v = &j->c->out[0], *at = &j->c->out[1];
  const char *from = r->data;
  char *to = v->dtype ? (char *)v->data + first * j->size : NULL;
  uint64_t size = j->size;
  if (to && size == 4)
    for (uint64_t i = 0; i < j->k; i++) memcpy(to + i * stride * 4, from + (uint64_t)items[i].at * 4, 4);
  else if (to)
    for (uint64_t i = 0; i < j->k; i++) memcpy(to + i * stride * size, from + (uint64_t)items[i].at * size, size);
  if (j->c->n_out > 1 && at->dtype)
    for (uint64_t i = 0; i < j->k; i++) ((int64_t *)at->data)[first + i * stride] = items[i].at;
}

// Columns [c0, c0 + n) of a block of `len` lines, each as a row.
static void turn(const job *j, const uint8_t *block, uint64_t c0, uint64_t n, uint8_t *to) {
  const uint8_t *from = block + c0 * j->size;
  uint64_t line = j->inner * j->size, row = j->turned_row, size = j->size;
  if (size == 4)
    for (uint64_t i = 0; i < j->len; i++, from += line)
      for (uint64_t c = 0; c < n; c++) memcpy(to + c * row + i * 4, from + c * 4, 4);
  else
    for (uint64_t i = 0; i < j->len; i++, from += line)
      for (uint64_t c = 0; c < n; c++) memcpy(to + c * row + i * size, from + c * size, size);
}

// A tile is `columns` neighbouring rows, or one row where they stand side by side.
static void rank_rows(void *user, int worker, uint32_t begin, uint32_t end) {
  const job *j = user;
  uint64_t groups = (j->inner + j->columns - 1) / j->columns;
  sd_top t = worker_top(j, worker);
  for (uint32_t tile = begin; tile < end; tile++) {
    uint64_t outer = tile / groups, c0 = tile % groups * j->columns, n = j->inner - c0 < j->columns ? j->inner - c0 : j->columns;
    const uint8_t *block = (const uint8_t *)j->x->data + outer * j->len * j->inner * j->size;
    uint8_t *turned = j->inner > 1 ? j->turned + (uint64_t)worker * j->columns * j->turned_row : NULL;
    if (turned) turn(j, block, c0, n, turned);
    for (uint64_t c = 0; c < n; c++) {
      row r = j->row;
      r.data = turned ? turned + c * j->turned_row : block;
      rank_range(&t, &r, 0, j->len, find_bound(&r, j->k));
      write_row(j, &r, t.items, outer * j->k * j->inner + c0 + c, j->inner);
    }
  }
}

static void rank_parts(void *user, int worker, uint32_t begin, uint32_t end) {
  const job *j = user;
  sd_top t = worker_top(j, worker);
  for (uint32_t p = begin; p < end; p++) {
    uint64_t from = p * j->part, to = from + j->part < j->len ? from + j->part : j->len;
    rank_range(&t, &j->row, from, to, j->known);
    j->found_n[p] = t.n < j->k ? t.n : j->k;
    memcpy(j->found + p * j->k, t.items, j->found_n[p] * sizeof *t.items);
  }
}

// A few long rows, one after another: the parts' results, side by side and in order, are sorted once more.
static void rank_long_rows(job *j, uint64_t rows) {
  for (uint64_t r = 0; r < rows; r++) {
    uint64_t n = 0;
    j->row.data = (const uint8_t *)j->x->data + r * j->len * j->size;
    j->known = find_bound(&j->row, j->k);
    sd_host_tiles(j->c, rank_parts, j, (uint32_t)j->parts);
    for (uint64_t p = 0; p < j->parts; n += j->found_n[p++]) memmove(j->found + n, j->found + p * j->k, j->found_n[p] * sizeof *j->found);
    sd_host_sort(j->found, j->found + j->parts * j->k, n);
    write_row(j, &j->row, j->found, r * j->k, 1);
  }
}

static sard_status *rank(job *j, uint64_t outer) {
  uint64_t workers = (uint64_t)sd_host_workers(j->c), items, turned = 0, groups = (j->inner + j->columns - 1) / j->columns;
  bool parts = j->parts > 1;
  j->turned_row = (j->len + LINE) * j->size; // rows apart by a large power of 2 would share few places in the cache
  j->room = sd_top_room(j->k, parts ? j->part : j->len);
  bool ok = sd_ck_mul(workers * 2 * sizeof(sd_item), j->room, &items) && sd_ck_mul(workers * j->columns, j->turned_row, &turned);
  j->items = ok ? sd_alloc_aligned(items) : NULL;
  if (j->inner > 1) j->turned = ok ? sd_alloc_aligned(turned) : NULL;
  if (parts) j->found = sd_calloc(2 * j->parts * j->k, sizeof *j->found), j->found_n = sd_calloc(j->parts, sizeof *j->found_n);
  ok &= j->items && (j->inner == 1 || j->turned) && (!parts || (j->found && j->found_n));
  sard_status *st = ok && outer <= UINT32_MAX / groups ? NULL : SD_ERR(NOMEM, "out of memory for %llu elements", (unsigned long long)j->x->count);
  if (!st && parts) rank_long_rows(j, outer);
  else if (!st) sd_host_tiles(j->c, rank_rows, j, (uint32_t)(outer * groups));
  sd_free_aligned(j->items), sd_free_aligned(j->turned), sd_free(j->found), sd_free(j->found_n);
  return st;
}

sard_status *sd_host_topk(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[SD_HOST_RANK], k;
  int axis = (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  uint64_t outer = 1;
  job j = {.c = c, .x = x, .inner = 1, .columns = 1, .parts = 1, .size = (uint64_t)sd_dtype_bits(x->dtype) / 8};
  if (axis < 0 || axis >= x->rank || c->in[1].count != 1) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  if (!j.size || x->dtype == SD_STRING) return SD_ERR(UNSUPPORTED, "tensors of type %s", sd_dtype_name(x->dtype));
  k = sd_dtype_get_i64(c->in[1].dtype, c->in[1].data, 0);
  if (k < 0 || k > x->dims[axis]) return SD_ERR(MODEL, "%lld of %lld elements are asked for", (long long)k, (long long)x->dims[axis]);
  for (int d = 0; d < x->rank; d++) {
    dims[d] = d == axis ? k : x->dims[d];
    if (d != axis) *(d < axis ? &outer : &j.inner) *= (uint64_t)x->dims[d];
  }
  for (uint32_t i = 0; i < c->n_out; i++) SD_TRY(c->make(c, i, dims));
  j.k = (uint64_t)k, j.len = (uint64_t)x->dims[axis];
  if (!j.k || !outer || !j.inner) return NULL;
  if (j.inner > 1) j.columns = j.inner < COLUMNS ? j.inner : COLUMNS;
  if (sd_host_workers(c) > 1 && j.inner == 1 && outer < 8 && j.len >= 2 * PART && j.k <= j.len / MAX_PARTS / 8) {
    j.parts = j.len / PART < MAX_PARTS ? j.len / PART : MAX_PARTS;
    j.part = (j.len + j.parts - 1) / j.parts;
  }
  j.row = (row){x->dtype, x->data, j.len, c->param[1] != 0, sd_host_narrow(x->dtype)};
  return rank(&j, outer);
}
