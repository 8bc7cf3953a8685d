// Files: read-only maps, and writes that leave the old file or the new one, never a part.
#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/alloc.h"

enum { BEHIND = 64 }; // readable bytes behind the contents: vector code may load past the end

// Bytes of address space that a map of `size` takes.
static size_t map_room(uint64_t size) { return sd_align_up(size + BEHIND, (uint64_t)sysconf(_SC_PAGESIZE)); }

// The rest of the last page of a file reads as zero; where that is too little, an anonymous page follows.
static void *map_with_room(int fd, uint64_t size) {
  size_t room = map_room(size);
  void *p = mmap(NULL, room, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (mmap(p, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED) return p;
  int saved = errno;
  munmap(p, room);
  errno = saved;
  return NULL;
}

sard_status *sd_file_map_open(int fd, const char *path, sd_map *out) {
  struct stat st;
  *out = (sd_map){0};
  if (fstat(fd, &st)) return sd_status_errno("cannot read", path);
  if (!S_ISREG(st.st_mode))
    return SD_ERR(IO, "cannot read '%s': it is %s, not a regular file", path,
                  S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
  if (st.st_size == 0) return NULL;
  void *p = map_with_room(fd, (uint64_t)st.st_size);
  if (!p) return sd_status_errno("cannot map", path);
  *out = (sd_map){p, (uint64_t)st.st_size};
  return NULL;
}

sard_status *sd_file_map(const char *path, sd_map *out) {
  *out = (sd_map){0};
  // O_NONBLOCK: opening a FIFO must not hang; it has no effect on regular files.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return sd_status_errno("cannot open", path);
  sard_status *err = sd_file_map_open(fd, path, out);
  close(fd);
  return sd_status_field(err, SARD_TEXT_FILE, "%s", path);
}

void sd_file_unmap(sd_map *m) {
  if (m->data) munmap((void *)m->data, map_room(m->size));
  *m = (sd_map){0};
}

static bool write_all(int fd, const sd_piece *pieces, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const char *p = pieces[i].data;
    for (uint64_t left = pieces[i].size; left;) {
      size_t chunk = left < (1u << 30) ? (size_t)left : 1u << 30;
      ssize_t k = write(fd, p, chunk);
      if (k < 0 && errno == EINTR) continue;
      if (k == 0) errno = ENOSPC;
      if (k <= 0) return false;
      p += k;
      left -= (uint64_t)k;
    }
  }
  return true;
}

// The folder of a path, opened.
static int open_folder(const char *path, int flags) {
  const char *slash = strrchr(path, '/');
  char *folder = slash ? sd_strdup(path) : NULL;
  if (slash && !folder) return -1;
  if (folder) folder[slash == path ? 1 : slash - path] = 0;
  int fd = open(folder ? folder : ".", flags | O_CLOEXEC, 0666);
  sd_free(folder);
  return fd;
}

// Makes the rename durable; not every file system can, so failure is no error.
static void sync_folder(const char *path) {
  int fd = open_folder(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

// Gives a file without a name its own; one that is there already is replaced.
static bool name_file(int fd, const char *tmp, const char *path) {
  char it[32];
  snprintf(it, sizeof it, "/proc/self/fd/%d", fd);
  if (linkat(AT_FDCWD, it, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST || linkat(AT_FDCWD, it, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) != 0) return false;
  if (rename(tmp, path) == 0) return true;
  int saved = errno;
  unlink(tmp);
  errno = saved;
  return false;
}

// Nothing stays of a file without a name, even where the process is killed. *full: it could not take the data, and neither could
// one with a name; else not every file system has such files, or gives them names.
static bool write_unnamed(const char *path, const char *tmp, const sd_piece *pieces, size_t n, bool sync, bool *full) {
  int fd = open_folder(path, O_TMPFILE | O_WRONLY);
  *full = fd >= 0 && (!write_all(fd, pieces, n) || (sync && fsync(fd) != 0));
  bool ok = fd >= 0 && !*full && name_file(fd, tmp, path);
  int saved = errno;
  if (fd >= 0 && close(fd) && ok) ok = false, saved = errno;
  errno = saved;
  return ok;
}

static bool write_named(const char *path, const char *tmp, const sd_piece *pieces, size_t n, bool sync) {
  int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool ok = fd >= 0, made = ok;
  ok = ok && write_all(fd, pieces, n) && (!sync || fsync(fd) == 0);
  int saved = errno;
  if (fd >= 0 && close(fd) && ok) ok = false, saved = errno;
  if (ok && rename(tmp, path)) ok = false, saved = errno;
  if (!ok && made) unlink(tmp);
  errno = saved;
  return ok;
}

static sard_status *write_new(const char *path, const sd_piece *pieces, size_t n, bool sync) {
  static atomic_uint serial; // two threads may write the same path
  size_t room = strlen(path) + 48;
  char *tmp = sd_malloc(room);
  if (!tmp) return SD_ERR(NOMEM, "out of memory while writing '%s'", path);
  snprintf(tmp, room, "%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&serial, 1));
  bool full, ok = write_unnamed(path, tmp, pieces, n, sync, &full) || (!full && write_named(path, tmp, pieces, n, sync));
  int saved = errno;
  sd_free(tmp);
  if (ok && sync) sync_folder(path);
  errno = saved;
  return ok ? NULL : sd_status_errno("cannot write", path);
}

// A device or pipe (/dev/stdout) is written as it is: renaming over it would replace it.
static sard_status *write_special(const char *path, const sd_piece *pieces, size_t n) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  bool ok = fd >= 0 && write_all(fd, pieces, n);
  int saved = errno;
  if (fd >= 0 && close(fd) && ok) ok = false, saved = errno;
  errno = saved;
  return ok ? NULL : sd_status_errno("cannot write", path);
}

sard_status *sd_file_write(const char *path, const sd_piece *pieces, size_t n) {
  struct stat st;
  bool there = stat(path, &st) == 0;
  sard_status *err;
  if (there && S_ISDIR(st.st_mode)) {
    err = SD_ERR(IO, "cannot write '%s': it is a directory", path);
  } else if (there && !S_ISREG(st.st_mode)) {
    err = write_special(path, pieces, n);
  } else {
    char *real = there ? realpath(path, NULL) : NULL; // keeps a symbolic link and replaces what it points to
    err = write_new(real ? real : path, pieces, n, true);
    free(real);
  }
  return sd_status_field(err, SARD_TEXT_FILE, "%s", path);
}

sard_status *sd_file_put(const char *path, const sd_piece *pieces, size_t n) { return write_new(path, pieces, n, false); }
