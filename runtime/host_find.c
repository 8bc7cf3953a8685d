// sard.Find: where elements stand in a list of keys. Whole numbers that lie close together have a table with
// a place for each number between the least and the largest, other keys are hashed.
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"
#include "runtime/host_table.h"

enum { CHUNK = 256, TILE = 8192 };

typedef struct keys {
  sd_table table;
  uint32_t *place; // position + 1 by key, or NULL; the last one is for keys that have none
  uint64_t least, places;
  int shift;       // of keys: bits of them that are all 0
} keys;

typedef struct find { const keys *k; const sd_host_tensor *x; int64_t *to; } find;

static uint64_t place_of(const keys *f, uint64_t key) {
  uint64_t at = (key - f->least) >> f->shift;
  return at < f->places ? at : f->places;
}

// Without branches that data decides: what is not at its place is looked for afterwards.
static void find_block(const keys *f, const uint64_t *key, uint64_t n, int64_t *to) {
  uint16_t other[CHUNK];
  uint64_t others = 0;
  for (uint64_t i = 0; i < n; i++) {
    const sd_entry *e = &f->table.at[sd_table_mix(key[i]) & (f->table.size - 1)];
    to[i] = e->value;
    other[others] = (uint16_t)i;
    others += (e->key != key[i]) & (e->value >= 0);
  }
  for (uint64_t i = 0; i < others; i++) to[other[i]] = sd_table_find(&f->table, key[other[i]], f->table.size)->value;
}

static void find_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  const find *f = user;
  uint64_t key[CHUNK], stop = (uint64_t)end * TILE < f->x->count ? (uint64_t)end * TILE : f->x->count;
  (void)worker;
  for (uint64_t at = (uint64_t)begin * TILE; at < stop; at += CHUNK) {
    uint64_t n = stop - at < CHUNK ? stop - at : CHUNK;
    sd_host_keys(f->x->dtype, f->x->data, at, n, key);
    if (f->k->place)
      for (uint64_t i = 0; i < n; i++) f->to[at + i] = (int64_t)f->k->place[place_of(f->k, key[i])] - 1;
    else
      find_block(f->k, key, n, f->to + at);
  }
}

typedef void (*key_fn)(keys *f, const uint64_t *key, uint64_t n, uint64_t first);
static void each_key(keys *f, const sd_host_tensor *list, key_fn fn) {
  uint64_t key[CHUNK];
  for (uint64_t at = 0; at < list->count; at += CHUNK) {
    uint64_t n = list->count - at < CHUNK ? list->count - at : CHUNK;
    sd_host_keys(list->dtype, list->data, at, n, key);
    fn(f, key, n, at);
  }
}

// Here `places` is the largest key.
static void widen_range(keys *f, const uint64_t *key, uint64_t n, uint64_t first) {
  if (!first) f->least = f->places = key[0];
  for (uint64_t i = 0; i < n; i++) {
    if (key[i] < f->least) f->least = key[i];
    if (key[i] > f->places) f->places = key[i];
  }
}

static void set_places(keys *f, const uint64_t *key, uint64_t n, uint64_t first) {
  for (uint64_t i = 0; i < n; i++) f->place[place_of(f, key[i])] = (uint32_t)(first + i + 1);
}

static void add_to_table(keys *f, const uint64_t *key, uint64_t n, uint64_t first) {
  for (uint64_t i = 0; i < n; i++)
    *sd_table_find(&f->table, key[i], f->table.size) = (sd_entry){key[i], (int64_t)(first + i)};
}

// Of equal keys the last one counts. `load`: places for one key, more where many elements are looked for.
static bool fill(keys *f, const sd_host_tensor *list, uint64_t load) {
  uint64_t size = 16;
  each_key(f, list, widen_range);
  f->shift = list->dtype != SD_STRING && sd_host_narrow(list->dtype) ? 32 : 0;
  f->places = list->count ? (f->places - f->least) >> f->shift : 0;
  if (f->places < 4 * list->count + CHUNK) {
    f->places += list->count > 0;
    f->place = sd_calloc(f->places + 1, sizeof *f->place);
    if (f->place) each_key(f, list, set_places);
    return f->place != NULL;
  }
  while (size < load * list->count) size *= 2;
  if (!sd_table_make(&f->table, size)) return false;
  each_key(f, list, add_to_table);
  return true;
}

static void free_keys(void *state) {
  keys *k = state;
  sd_free(k->table.at), sd_free(k->place);
  sd_free(k);
}

static keys *make_keys(const sd_host_call *c) {
  keys *k = sd_calloc(1, sizeof *k);
  if (!k || fill(k, &c->in[1], c->in[1].fixed || c->in[0].count >= 8 * c->in[1].count ? 4 : 2)) return k;
  free_keys(k);
  return NULL;
}

sard_status *sd_host_find_keys(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *list = &c->in[1];
  keys *k = sd_host_kept_state(c, 1);
  if (x->dtype != list->dtype) return SD_ERR(MODEL, "keys of type %s for elements of type %s", sd_dtype_name(list->dtype), sd_dtype_name(x->dtype));
  if (x->count > (uint64_t)UINT32_MAX * TILE || list->count >= UINT32_MAX)
    return SD_ERR(UNSUPPORTED, "%llu elements", (unsigned long long)x->count);
  SD_TRY(c->make(c, 0, x->dims));
  if (!c->out[0].dtype) return NULL;
  if (!k) k = make_keys(c);
  if (!k) return SD_ERR(NOMEM, "out of memory for %llu keys", (unsigned long long)list->count);
  find f = {k, x, c->out[0].data};
  sd_host_tiles(c, find_tiles, &f, (uint32_t)((x->count + TILE - 1) / TILE));
  sd_host_keep(c, 1, k, free_keys);
  return NULL;
}
