// Identities of files: their place and times, and whether these can be trusted to move.
#include "frontend/driver/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/alloc.h"

static bool take(const struct stat *st, sd_identity *out) {
  if (!S_ISREG(st->st_mode)) return false;
  *out = (sd_identity){.device = (uint64_t)st->st_dev,
                       .inode = (uint64_t)st->st_ino,
                       .size = (uint64_t)st->st_size,
                       .modified_s = st->st_mtim.tv_sec,
                       .modified_ns = (uint32_t)st->st_mtim.tv_nsec,
                       .changed_s = st->st_ctim.tv_sec,
                       .changed_ns = (uint32_t)st->st_ctim.tv_nsec};
  return true;
}

bool sd_identity_of(int fd, sd_identity *out) {
  struct stat st;
  return fstat(fd, &st) == 0 && take(&st, out);
}

bool sd_identity_at(const char *path, sd_identity *out) {
  struct stat st;
  return stat(path, &st) == 0 && take(&st, out);
}

// ---- whether times of change can be trusted ----

static bool keeps_times(int fd) {
  // ext2 to ext4, XFS, Btrfs, F2FS, overlayfs, ZFS, bcachefs
  static const uint32_t known[] = {0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x794c7630, 0x2fc12fc1, 0xca451a4e};
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0) return false;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if ((uint32_t)fs.f_type == known[i]) return true;
  return false;
}

typedef enum writers { WRITERS_NONE, WRITERS_SOME, WRITERS_UNKNOWN } writers;

// A read lease is given only where nobody has the file open or mapped for writing. Who opens it meanwhile is let in at
// once; the signal of that is one that does nothing by default (that of leases ends the process).
static writers find_writers(int fd) {
  if (fcntl(fd, F_SETSIG, SIGURG) != 0) return WRITERS_UNKNOWN;
  if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) return fcntl(fd, F_SETLEASE, F_UNLCK), WRITERS_NONE;
  return errno == EAGAIN ? WRITERS_SOME : WRITERS_UNKNOWN;
}

enum { WRITTEN_OUT_S = 60 }; // Linux writes pages out that have been dirty for 30 s

bool sd_identity_is_firm(int fd, const sd_identity *now) {
  struct timespec clock;
  clock_gettime(CLOCK_REALTIME, &clock);
  double age = (double)(clock.tv_sec - now->changed_s) + ((double)clock.tv_nsec - now->changed_ns) * 1e-9;
  // Times without a fraction come from a file system that keeps whole seconds.
  if (age < (now->changed_ns ? 0.1 : 2) || !keeps_times(fd)) return false;
  writers w = find_writers(fd);
  return w == WRITERS_NONE || (w == WRITERS_UNKNOWN && age > WRITTEN_OUT_S);
}

// ---- contents ----

enum { CHUNK = 256 << 10 }; // stays in the second cache, and takes no address space of the file

bool sd_identity_digest(int fd, uint64_t size, const sd_digest_key *key, sd_digest *out) {
  sd_digesting d;
  uint64_t at = 0;
  ssize_t n = 1;
  uint8_t *chunk = sd_malloc(CHUNK);
  if (!chunk) return false;
  sd_digest_begin(&d, key);
  while (n > 0 && at <= size) {
    n = pread(fd, chunk, CHUNK, (off_t)at);
    if (n < 0 && errno == EINTR) n = 1;
    else if (n > 0)
      sd_digest_put(&d, chunk, (size_t)n), at += (uint64_t)n;
  }
  sd_free(chunk);
  *out = sd_digest_end(&d);
  return n == 0 && at == size;
}
