// sard.Find: where elements stand in a list of keys. Whole numbers that lie close together have a table with
// a place for each number between the least and the largest, other keys are hashed.
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"
#include "runtime/host_table.h"

enum { CHUNK = 256, TILE = 8192 };

typedef struct find {
  const sd_host_tensor *x;
  int64_t *to;
  sd_table table;
  uint32_t *place; // position + 1 by key, or NULL; the last one is for keys that have none
  uint64_t least, places;
  int shift;       // of keys: bits of them that are all 0
} find;

static uint64_t place_of(const find *f, uint64_t key) {
  uint64_t at = (key - f->least) >> f->shift;
  return at < f->places ? at : f->places;
}

// Without branches that data decides: what is not at its place is looked for afterwards.
static void find_block(const find *f, const uint64_t *key, uint64_t n, int64_t *to) {
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
    if (f->place)
      for (uint64_t i = 0; i < n; i++) f->to[at + i] = (int64_t)f->place[place_of(f, key[i])] - 1;
    else
      find_block(f, key, n, f->to + at);
  }
}

typedef void (*key_fn)(find *f, const uint64_t *key, uint64_t n, uint64_t first);
static void each_key(find *f, const sd_host_tensor *keys, key_fn fn) {
  uint64_t key[CHUNK];
  for (uint64_t at = 0; at < keys->count; at += CHUNK) {
    uint64_t n = keys->count - at < CHUNK ? keys->count - at : CHUNK;
    sd_host_keys(keys->dtype, keys->data, at, n, key);
    fn(f, key, n, at);
  }
}

// Here `places` is the largest key.
static void widen_range(find *f, const uint64_t *key, uint64_t n, uint64_t first) {
  if (!first) f->least = f->places = key[0];
  for (uint64_t i = 0; i < n; i++) {
    if (key[i] < f->least) f->least = key[i];
    if (key[i] > f->places) f->places = key[i];
  }
}

static void set_places(find *f, const uint64_t *key, uint64_t n, uint64_t first) {
  for (uint64_t i = 0; i < n; i++) f->place[place_of(f, key[i])] = (uint32_t)(first + i + 1);
}

static void add_to_table(find *f, const uint64_t *key, uint64_t n, uint64_t first) {
  for (uint64_t i = 0; i < n; i++)
    *sd_table_find(&f->table, key[i], f->table.size) = (sd_entry){key[i], (int64_t)(first + i)};
}

// Of equal keys the last one counts.
static bool fill(find *f, const sd_host_tensor *keys) {
  uint64_t size = 16, load = f->x->count < 8 * keys->count ? 2 : 4;
  each_key(f, keys, widen_range);
  f->shift = keys->dtype != SD_STRING && sd_host_narrow(keys->dtype) ? 32 : 0;
  f->places = keys->count ? (f->places - f->least) >> f->shift : 0;
  if (f->places < 4 * keys->count + CHUNK) {
    f->places += keys->count > 0;
    f->place = sd_calloc(f->places + 1, sizeof *f->place);
    if (f->place) each_key(f, keys, set_places);
    return f->place != NULL;
  }
  while (size < load * keys->count) size *= 2;
  if (!sd_table_make(&f->table, size)) return false;
  each_key(f, keys, add_to_table);
  return true;
}

sard_status *sd_host_find_keys(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *keys = &c->in[1];
  find f = {.x = x};
  if (x->dtype != keys->dtype) return SD_ERR(MODEL, "keys of type %s for elements of type %s", sd_dtype_name(keys->dtype), sd_dtype_name(x->dtype));
  if (x->count > (uint64_t)UINT32_MAX * TILE || keys->count >= UINT32_MAX)
    return SD_ERR(UNSUPPORTED, "%llu elements", (unsigned long long)x->count);
  SD_TRY(c->make(c, 0, x->dims));
  f.to = c->out[0].data;
  if (!c->out[0].dtype) return NULL;
  bool ok = fill(&f, keys);
  if (ok) sd_host_tiles(c, find_tiles, &f, (uint32_t)((x->count + TILE - 1) / TILE));
  sd_free(f.table.at), sd_free(f.place);
  return ok ? NULL : SD_ERR(NOMEM, "out of memory for %llu keys", (unsigned long long)keys->count);
}
