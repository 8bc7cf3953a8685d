// Reads the directory at the end of a zip archive. Everything in it is checked against the size of the file.
#include "frontend/data/zip.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/alloc.h"

enum {
  END_BYTES = 22,
  END_SEARCH = END_BYTES + 65535,
  LOCATOR_BYTES = 20,
  END64_BYTES = 56,
  ENTRY_BYTES = 46,
  LOCAL_BYTES = 30
};
enum { MOST_ENTRIES = 1 << 16, MOST_DIRECTORY = 1 << 26 };
enum { STORED = 0, DEFLATED = 8 };

typedef struct reading {
  sd_arena *a;
  int fd;
  const char *path;
  uint64_t size;
} reading;

static uint64_t number(const uint8_t *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
  return v;
}

static sard_status *damaged(const reading *r, const char *why) {
  return SD_ERR(MODEL, "'%s' is no good zip archive: %s", r->path, why);
}

static sard_status *read_at(const reading *r, uint64_t at, void *to, uint64_t n) {
  if (at > r->size || n > r->size - at) return damaged(r, "it is cut off");
  while (n) {
    ssize_t got = pread(r->fd, to, n, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return sd_status_errno("cannot read", r->path);
    if (got == 0) return damaged(r, "it is cut off");
    to = (uint8_t *)to + got, at += (uint64_t)got, n -= (uint64_t)got;
  }
  return NULL;
}

// The record at the end; where its numbers do not suffice, the larger one of zip64.
static sard_status *find_directory(const reading *r, uint64_t *at, uint64_t *bytes, uint64_t *entries) {
  uint64_t n = r->size < END_SEARCH ? r->size : END_SEARCH, end = UINT64_MAX;
  uint8_t *tail = sd_arena_alloc(r->a, n + 1), wide[END64_BYTES];
  SD_TRY(read_at(r, r->size - n, tail, n));
  for (uint64_t i = n < END_BYTES ? 0 : n - END_BYTES + 1; i-- > 0;)
    if (memcmp(tail + i, "PK\5\6", 4) == 0) {
      end = i;
      break;
    }
  if (end == UINT64_MAX) return damaged(r, "it has no directory");
  *entries = number(tail + end + 10, 2), *bytes = number(tail + end + 12, 4), *at = number(tail + end + 16, 4);
  if ((*entries != 0xffff && *bytes != 0xffffffff && *at != 0xffffffff) || end < LOCATOR_BYTES) return NULL;
  const uint8_t *locator = tail + end - LOCATOR_BYTES;
  if (memcmp(locator, "PK\6\7", 4) != 0) return NULL;
  SD_TRY(read_at(r, number(locator + 8, 8), wide, sizeof wide));
  if (memcmp(wide, "PK\6\6", 4) != 0) return damaged(r, "its zip64 directory is missing");
  *entries = number(wide + 32, 8), *bytes = number(wide + 40, 8), *at = number(wide + 48, 8);
  return NULL;
}

// Sizes and offset of an entry that needs 64 bits stand in an extra field, those that need it only, in this order.
static bool widen(const uint8_t *extra, uint64_t n, uint64_t *size, uint64_t *packed, uint64_t *at) {
  uint64_t *wide[3] = {size, packed, at};
  for (uint64_t i = 0; i + 4 <= n;) {
    uint64_t id = number(extra + i, 2), len = number(extra + i + 2, 2), used = 0;
    if (len > n - i - 4) return false;
    for (int k = 0; id == 1 && k < 3; k++) {
      if (*wide[k] != 0xffffffff) continue;
      if (used + 8 > len) return false;
      *wide[k] = number(extra + i + 4 + used, 8), used += 8;
    }
    i += 4 + len;
  }
  return true;
}

// Where the data of a member begins: behind its local header, whose name and extra field have lengths of their own.
static sard_status *begin_of(const reading *r, uint64_t header, uint64_t *out) {
  uint8_t local[LOCAL_BYTES];
  SD_TRY(read_at(r, header, local, sizeof local));
  if (memcmp(local, "PK\3\4", 4) != 0) return damaged(r, "a member is not where the directory says");
  *out = header + LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
  return NULL;
}

static sard_status *take_entry(const reading *r, const uint8_t *e, uint64_t left, uint64_t *used, sd_zip_members *out) {
  if (left < ENTRY_BYTES || memcmp(e, "PK\1\2", 4) != 0) return damaged(r, "its directory is cut off");
  uint64_t flags = number(e + 8, 2), method = number(e + 10, 2), name = number(e + 28, 2), extra = number(e + 30, 2);
  uint64_t packed = number(e + 20, 4), size = number(e + 24, 4), at = number(e + 42, 4), begin = 0;
  *used = ENTRY_BYTES + name + extra + number(e + 32, 2);
  if (*used > left || !widen(e + ENTRY_BYTES + name, extra, &size, &packed, &at))
    return damaged(r, "its directory is cut off");
  const char *text = sd_arena_strndup(r->a, (const char *)e + ENTRY_BYTES, name);
  if (flags & 1) return SD_ERR(UNSUPPORTED, "'%s': member '%s' is encrypted", r->path, text);
  if (method != STORED && method != DEFLATED)
    return SD_ERR(UNSUPPORTED, "'%s': member '%s' is compressed by method %d (known: stored, deflated)", r->path, text,
                  (int)method);
  SD_TRY(begin_of(r, at, &begin));
  if (begin > r->size || packed > r->size - begin || (method == STORED && packed != size))
    return damaged(r, "a member is cut off");
  sd_bytes_part part = {sd_arena_printf(r->a, "%s: %s", r->path, text),
                        r->fd,
                        begin,
                        packed,
                        size,
                        method == DEFLATED,
                        true,
                        (uint32_t)number(e + 16, 4)};
  sd_vec_push(r->a, out, ((sd_zip_member){text, part}));
  return NULL;
}

sard_status *sd_zip_list(sd_arena *a, int fd, const char *path, sd_zip_members *out) {
  reading r = {a, fd, path, 0};
  struct stat st;
  uint64_t at = 0, bytes = 0, entries = 0, used = 0;
  if (fstat(fd, &st) != 0) return sd_status_errno("cannot read", path);
  r.size = (uint64_t)st.st_size;
  SD_TRY(find_directory(&r, &at, &bytes, &entries));
  if (entries > MOST_ENTRIES || bytes > MOST_DIRECTORY) return damaged(&r, "its directory is too large");
  if (at > r.size || bytes > r.size - at) return damaged(&r, "its directory is cut off");
  uint8_t *directory = sd_arena_alloc(a, bytes + 1);
  SD_TRY(read_at(&r, at, directory, bytes));
  for (uint64_t i = 0, p = 0; i < entries; i++, p += used) SD_TRY(take_entry(&r, directory + p, bytes - p, &used, out));
  return NULL;
}
