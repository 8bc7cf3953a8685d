// Hash table from names to pointers: open addressing, at most half full.
#include "frontend/onnx/names.h"

#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

struct sd_names_entry {
  const char *key;
  uint64_t hash;
  void *value;
};

void sd_names_init(sd_names *t, sd_arena *a) {
  *t = (sd_names){.arena = a, .seed = sd_hash_mix((uint64_t)(uintptr_t)t, (uint64_t)sd_now_ns())};
}

// The slot that holds the key, or the empty one where it belongs.
static struct sd_names_entry *slot(const sd_names *t, const char *key, uint64_t hash) {
  for (uint32_t i = (uint32_t)hash & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
    struct sd_names_entry *e = &t->at[i];
    if (!e->key || (e->hash == hash && strcmp(e->key, key) == 0)) return e;
  }
}

static void grow(sd_names *t) {
  sd_names old = *t;
  if (old.cap >= 1u << 31) sd_arena_oom(t->arena);
  t->cap = old.cap ? old.cap * 2 : 16;
  t->at = SD_NEW_ARRAY(t->arena, struct sd_names_entry, t->cap);
  for (uint32_t i = 0; i < old.cap; i++)
    if (old.at[i].key) *slot(t, old.at[i].key, old.at[i].hash) = old.at[i];
}

void *sd_names_get(const sd_names *t, const char *key) {
  if (!t->cap) return NULL;
  return slot(t, key, sd_hash_bytes(key, strlen(key), t->seed))->value;
}

bool sd_names_add(sd_names *t, const char *key, void *value) {
  if ((t->len + 1) * 2 > t->cap) grow(t);
  uint64_t hash = sd_hash_bytes(key, strlen(key), t->seed);
  struct sd_names_entry *e = slot(t, key, hash);
  if (e->key) return false;
  *e = (struct sd_names_entry){key, hash, value};
  t->len++;
  return true;
}

void sd_names_set(sd_names *t, const char *key, void *value) {
  if (sd_names_add(t, key, value)) return;
  slot(t, key, sd_hash_bytes(key, strlen(key), t->seed))->value = value;
}
