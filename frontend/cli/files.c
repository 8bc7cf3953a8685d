// Files of the command line: paths, folders, and whether a result can be written before work begins.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/cli/cli.h"
#include "runtime/artifact.h"
#include "runtime/base/file.h"

char *sd_files_path(sd_cli *c, const char *dir, const char *fmt, ...) {
  va_list ap;
  sd_str s = {0};
  va_start(ap, fmt);
  sd_strf(&s, "%s/", dir);
  sd_str_vf(&s, fmt, ap);
  va_end(ap);
  char *path = sd_arena_strdup(c->arena, s.p ? s.p : "");
  sd_str_free(&s);
  return path;
}

bool sd_files_exists(const char *path) { return access(path, F_OK) == 0; }

sard_status *sd_files_make_dir(const char *path) {
  struct stat st;
  if (mkdir(path, 0777) == 0) return NULL; // first: several processes may be about to make it
  int why = errno;
  if (stat(path, &st) == 0) return S_ISDIR(st.st_mode) ? NULL : SD_ERR(IO, "'%s' is not a folder", path);
  errno = why;
  return sd_status_errno("cannot make the folder", path);
}

sard_status *sd_files_can_write(const char *path) {
  struct stat st;
  if (strcmp(path, "-") == 0) return NULL;
  if (stat(path, &st) == 0) {
    if (S_ISDIR(st.st_mode)) return SD_ERR(IO, "cannot write '%s': it is a folder", path);
    if (access(path, W_OK) != 0) return sd_status_errno("cannot write", path);
    if (!S_ISREG(st.st_mode)) return NULL;
  }
  // The file is made beside and renamed: the folder must take a new one.
  char probe[4096];
  if ((size_t)snprintf(probe, sizeof probe, "%s.tmp.%ld.probe", path, (long)getpid()) >= sizeof probe)
    return SD_ERR(IO, "cannot write '%s': the path is too long", path);
  sd_stop_hold(); // an interrupt in between would leave it behind
  int fd = open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  sard_status *failed = fd < 0 ? sd_status_errno("cannot write", path) : NULL;
  if (!failed) close(fd), unlink(probe);
  sd_stop_release();
  return failed;
}

sard_status *sd_files_write(const char *path, const char *text, size_t n) {
  if (strcmp(path, "-") == 0) {
    fwrite(text, 1, n, stdout); // a failure is seen when the program ends
    return NULL;
  }
  sd_stop_hold();
  sard_status *st = sd_file_write(path, &(sd_piece){text, n}, 1);
  sd_stop_release();
  return st;
}

bool sd_files_is_artifact(const char *path) {
  char magic[8];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool is = fd >= 0 && read(fd, magic, 8) == 8 && memcmp(magic, SARD_ART_MAGIC, 8) == 0;
  if (fd >= 0) close(fd);
  return is;
}
