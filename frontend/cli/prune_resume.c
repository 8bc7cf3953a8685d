// Layers that were pruned before: --resume FILE gets a record of each layer when it is done, so that what was
// cut off goes on from there. They hold for the same files and flags only.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "frontend/cli/prune.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"

#define FIRST "sard prune layers 1 "

typedef struct record { // behind it the weights, f32, and their mask
  uint64_t unit, zeros, hash;
} record;

static uint64_t count_of(const sd_prune_unit *u) { return u->rows * u->k; }
static uint64_t hash_of(const sd_prune_unit *u) {
  return sd_hash_bytes(u->mask, count_of(u), sd_hash_bytes(u->w, count_of(u) * sizeof *u->w, count_of(u)));
}

// The model, the data, and all flags that change what becomes of the weights.
static uint64_t key_of(const sd_prune *q) {
  static const char *const apart[] = {"json",   "html",     "quiet",       "verbose", "output",
                                      "resume", "max-drop", "sensitivity", "metric",  "external-data"};
  sd_str s = {0};
  sd_change_key(q->c, apart, sizeof apart / sizeof *apart, &s);
  uint64_t key = sd_hash_bytes(s.p, s.len, 0);
  sd_str_free(&s);
  return key;
}

sard_status *sd_prune_recall(sd_prune *q) {
  const char *path = sd_args_get(q->c, "resume");
  char head[sizeof FIRST + 17];
  sd_map map;
  if (!path) return NULL;
  if (sd_pattern_removes(q->pattern.kind))
    return SD_ERR(USAGE, "--resume is of patterns that keep all outputs, not of %s", q->pattern_text);
  snprintf(head, sizeof head, FIRST "%016llx\n", (unsigned long long)key_of(q));
  if (sd_files_exists(path)) {
    SD_TRY(sd_file_map(path, &map));
    uint8_t *all = sd_arena_alloc(q->c->arena, map.size + 1);
    if (map.size) memcpy(all, map.data, map.size);
    q->earlier = all, q->earlier_size = map.size, q->earlier_at = strlen(head);
    sd_file_unmap(&map);
    if (q->earlier_size < strlen(FIRST) || memcmp(all, FIRST, strlen(FIRST)) != 0)
      return SD_ERR(USAGE, "--resume: '%s' is there, and nothing that sard prune wrote", path);
    if (q->earlier_size >= strlen(head) && memcmp(all, head, strlen(head)) == 0) return NULL;
    sd_cli_note(q->c, "'%s' is of another model, other data or other flags: it begins anew", path);
  }
  q->earlier_at = q->earlier_size = strlen(head);
  return sd_files_write(path, head, strlen(head));
}

bool sd_prune_recalled(sd_prune *q, uint32_t i) {
  const sd_prune_unit *u = &q->units.at[i];
  record r;
  uint64_t bytes = count_of(u) * sizeof *u->w, size = sizeof r + bytes + count_of(u);
  if (!q->earlier || q->earlier_size - q->earlier_at < size) return false;
  const uint8_t *at = q->earlier + q->earlier_at;
  memcpy(&r, at, sizeof r);
  if (r.unit != i) return false;
  memcpy(u->w, at + sizeof r, bytes), memcpy(u->mask, at + sizeof r + bytes, count_of(u));
  if (r.hash != hash_of(u)) {
    memcpy(u->w, u->was, bytes), memset(u->mask, 1, count_of(u));
    return false;
  }
  q->layers[i].zeros = r.zeros, q->earlier_at += size, q->recalled++;
  return true;
}

sard_status *sd_prune_remember(sd_prune *q, uint32_t i) {
  const char *path = sd_args_get(q->c, "resume");
  const sd_prune_unit *u = &q->units.at[i];
  if (!path) return NULL;
  record r = {.unit = i, .zeros = q->layers[i].zeros, .hash = hash_of(u)};
  // what is behind the last good record was cut off when it was written
  bool good = !q->earlier || truncate(path, (off_t)q->earlier_at) == 0;
  q->earlier = NULL;
  FILE *f = good ? fopen(path, "ab") : NULL;
  good = f && fwrite(&r, sizeof r, 1, f) == 1 && fwrite(u->w, sizeof *u->w, count_of(u), f) == count_of(u) &&
         fwrite(u->mask, 1, count_of(u), f) == count_of(u);
  if (f && fclose(f) != 0) good = false;
  return good ? NULL : SD_ERR(IO, "cannot write '%s': %s", path, strerror(errno));
}
