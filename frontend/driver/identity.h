// What the file system tells about a file, so that contents that were read once need not be read again: as long as
// inode, size and times are the same, so are the contents, provided that every later write moves the time of change. It
// does where sd_identity_is_firm says so, and as the clock of user programs cannot set that time.
#pragma once
#include "frontend/driver/digest.h"
#include "runtime/base/status.h"

typedef struct sd_identity {
  uint64_t device, inode, size;
  int64_t modified_s, changed_s;
  uint32_t modified_ns, changed_ns;
} sd_identity;

static inline bool sd_identity_same(const sd_identity *a, const sd_identity *b) {
  return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_s == b->modified_s &&
         a->changed_s == b->changed_s && a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

bool sd_identity_of(int fd, sd_identity *out);           // false: not a regular file, or it cannot be asked
bool sd_identity_at(const char *path, sd_identity *out); // the same by name
// Whether a write that comes from now on will give `fd` another identity than `now`, its present one:
// - its file system keeps times of change for every way to write (not: memory, networks, FUSE);
// - nobody has it open for writing or mapped so, who could write on without moving the time; where that cannot be
// asked, the
//   last change is so long ago that such pages have been written out, and the next write to them counts as a new one;
// - the last change is longer ago than a tick of the file system's clock.
bool sd_identity_is_firm(int fd, const sd_identity *now);
// Digest of the contents, read from the beginning; false when they cannot be read, or end before `size` bytes or
// behind.
bool sd_identity_digest(int fd, uint64_t size, const sd_digest_key *key, sd_digest *out);
