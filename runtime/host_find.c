// sard.Find: where elements stand in a list of keys.
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"
#include "runtime/host_table.h"

enum { CHUNK = 256, TILE = 8192 };

typedef struct find {
  const sd_host_tensor *x;
  int64_t *to;
  sd_table table;
} find;

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
    find_block(f, key, n, f->to + at);
  }
}

// Of equal keys the last one counts.
static bool fill(find *f, const sd_host_tensor *keys) {
  uint64_t size = 16;
  while (size < 4 * keys->count) size *= 2;
  if (!sd_table_make(&f->table, size)) return false;
  for (uint64_t i = 0; i < keys->count; i++) {
    uint64_t key;
    sd_host_keys(keys->dtype, keys->data, i, 1, &key);
    *sd_table_find(&f->table, key, size) = (sd_entry){key, (int64_t)i};
  }
  return true;
}

sard_status *sd_host_find_keys(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *keys = &c->in[1];
  find f = {.x = x};
  if (x->dtype != keys->dtype) return SD_ERR(MODEL, "keys of type %s for elements of type %s", sd_dtype_name(keys->dtype), sd_dtype_name(x->dtype));
  if (x->count > (uint64_t)UINT32_MAX * TILE || keys->count > UINT32_MAX) return SD_ERR(UNSUPPORTED, "%llu elements", (unsigned long long)x->count);
  SD_TRY(c->make(c, 0, x->dims));
  f.to = c->out[0].data;
  if (!c->out[0].dtype) return NULL;
  bool ok = fill(&f, keys);
  if (ok) sd_host_tiles(c, find_tiles, &f, (uint32_t)((x->count + TILE - 1) / TILE));
  sd_free(f.table.at);
  return ok ? NULL : SD_ERR(NOMEM, "out of memory for %llu keys", (unsigned long long)keys->count);
}
