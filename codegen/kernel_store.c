// Entries one behind the other, found by an open table of their places. An entry is written before its place is.
#include "codegen/kernel_store.h"

#include <stdatomic.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

enum { SLOTS = 1 << 18, PROBES = 64 };

struct sd_kernel_store {
  uint64_t bytes;
  _Atomic uint64_t used; // behind this header
  _Atomic uint64_t slot[SLOTS]; // places of entries; 0: none
};
// Behind it: text, name of the instruction set and dims, each closed by a zero, and the object.
typedef struct entry {
  uint64_t hash, object_bytes;
  uint32_t opt, n_dims;
  uint32_t text, isa, dims; // bytes, with the zero
} entry;

sd_kernel_store *sd_kernel_store_new(void *memory, size_t bytes) {
  sd_kernel_store *s = memory;
  if (bytes < 2 * sizeof *s) return NULL;
  s->bytes = bytes;
  return s;
}

static uint64_t hash_of(const sd_kernel_key *k) {
  return sd_hash_bytes(k->text, strlen(k->text), sd_hash_bytes(k->isa, strlen(k->isa), (uint64_t)k->opt));
}

static const char *isa_of(const entry *e) { return (const char *)(e + 1) + e->text; }

static bool is_of(const entry *e, uint64_t hash, const sd_kernel_key *k) {
  return e->hash == hash && e->opt == (uint32_t)k->opt && !strcmp((const char *)(e + 1), k->text) && !strcmp(isa_of(e), k->isa);
}

// The slot of the key's entry, or a free one for it; NULL: too many are taken.
static _Atomic uint64_t *slot_of(sd_kernel_store *s, uint64_t hash, const sd_kernel_key *k, const entry **found) {
  *found = NULL;
  for (uint64_t i = 0; i < PROBES; i++) {
    _Atomic uint64_t *slot = &s->slot[(hash + i) % SLOTS];
    uint64_t at = atomic_load_explicit(slot, memory_order_acquire);
    if (!at) return slot;
    const entry *e = (const entry *)((const char *)s + at);
    if (is_of(e, hash, k)) return *found = e, slot;
  }
  return NULL;
}

bool sd_kernel_store_find(sd_kernel_store *s, const sd_kernel_key *key, sd_kernel_code *out) {
  const entry *e;
  slot_of(s, hash_of(key), key, &e);
  if (!e) return false;
  const char *dims = isa_of(e) + e->isa;
  *out = (sd_kernel_code){.object = dims + e->dims, .bytes = e->object_bytes, .dims = dims, .n_dims = e->n_dims};
  return true;
}

static char *put(char *at, const void *p, size_t n) { return (char *)memcpy(at, p, n) + n; }

// Room for an entry with `bytes` behind it; 0: there is none.
static uint64_t take_room(sd_kernel_store *s, uint64_t bytes) {
  uint64_t room = s->bytes - sd_align_up(sizeof *s, 64);
  if (bytes > room - sizeof(entry)) return 0;
  bytes = sd_align_up(sizeof(entry) + bytes, 64);
  uint64_t used = atomic_load(&s->used);
  do {
    if (used > room || bytes > room - used) return 0;
  } while (!atomic_compare_exchange_weak(&s->used, &used, used + bytes));
  return sd_align_up(sizeof *s, 64) + used;
}

void sd_kernel_store_add(sd_kernel_store *s, const sd_kernel_key *key, const sd_kernel_code *code) {
  uint64_t hash = hash_of(key), none = 0, bytes;
  const entry *there;
  _Atomic uint64_t *slot = slot_of(s, hash, key, &there);
  size_t text = strlen(key->text) + 1, isa = strlen(key->isa) + 1, dims = strlen(code->dims) + 1;
  if (!slot || there || text > UINT32_MAX || dims > UINT32_MAX || !sd_ck_add(text + isa + dims, code->bytes, &bytes)) return;
  uint64_t at = take_room(s, bytes);
  if (!at) return;
  entry *e = (entry *)((char *)s + at);
  *e = (entry){hash, code->bytes, (uint32_t)key->opt, code->n_dims, (uint32_t)text, (uint32_t)isa, (uint32_t)dims};
  char *p = put(put(put((char *)(e + 1), key->text, text), key->isa, isa), code->dims, dims);
  put(p, code->object, code->bytes);
  atomic_compare_exchange_strong(slot, &none, at); // where another one took it, this code is made again the next time
}
