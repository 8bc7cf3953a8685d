// What was computed before: --resume FILE gets a record of each layer that is pruned or fitted, and of what was measured for the
// choice of channels, so that what was cut off goes on from there. They hold for the same files and flags only.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "frontend/cli/prune.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"

#define FIRST "sard prune layers 3 "

typedef struct record { // behind it the bytes of its pieces
  uint64_t what, bytes, hash;
} record;

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

bool sd_prune_recalled(sd_prune *q, uint64_t what, const sd_piece *at, size_t n) {
  record r;
  if (!q->earlier || q->earlier_size - q->earlier_at < sizeof r) return false;
  const uint8_t *from = q->earlier + q->earlier_at + sizeof r;
  memcpy(&r, from - sizeof r, sizeof r);
  if (r.what != what || r.bytes != sd_change_bytes(at, n) || r.bytes > q->earlier_size - q->earlier_at - sizeof r ||
      r.hash != sd_hash_bytes(from, r.bytes, what))
    return false;
  sd_change_fill(at, n, from);
  q->earlier_at += sizeof r + r.bytes, q->recalled++;
  return true;
}

sard_status *sd_prune_remember(sd_prune *q, uint64_t what, const sd_piece *at, size_t n) {
  const char *path = sd_args_get(q->c, "resume");
  if (!path) return NULL;
  record r = {.what = what, .bytes = sd_change_bytes(at, n)};
  sd_arena *a = sd_arena_scratch(q->c->arena);
  uint8_t *all = sd_arena_alloc(a, r.bytes + 1), *to = all;
  for (size_t i = 0; i < n; to += at[i++].size) memcpy(to, at[i].data, at[i].size);
  r.hash = sd_hash_bytes(all, r.bytes, what);
  // what is behind the last good record was cut off when it was written
  bool good = !q->earlier || truncate(path, (off_t)q->earlier_at) == 0;
  q->earlier = NULL;
  FILE *f = good ? fopen(path, "ab") : NULL;
  good = f && fwrite(&r, sizeof r, 1, f) == 1 && fwrite(all, 1, r.bytes, f) == r.bytes;
  if (f && fclose(f) != 0) good = false;
  sd_arena_free(a);
  return good ? NULL : SD_ERR(IO, "cannot write '%s': %s", path, strerror(errno));
}
