// External data: keys, numbers and paths checked; the file opened beneath the model's folder without following links.
#include "frontend/onnx/external.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/alloc.h"

enum { MAX_LOCATION = 4096 };

void sd_external_init(sd_external *x, sd_arena *arena, const sard_source *source) {
  *x = (sd_external){.arena = arena, .model_path = source->path, .source = source};
  sd_names_init(&x->files, arena);
}

// Plain decimal digits only: strtoull would take signs, blanks and overflow.
static bool parse_count(const char *s, uint64_t *out) {
  uint64_t v = 0;
  if (!*s) return false;
  for (; *s; s++)
    if (*s < '0' || *s > '9' || !sd_ck_mul(v, 10, &v) || !sd_ck_add(v, (uint64_t)(*s - '0'), &v)) return false;
  *out = v;
  return v <= INT64_MAX;
}

typedef struct place {
  const char *location;
  uint64_t offset, length;
  bool has_length;
} place;

static sard_status *read_entries(Onnx__StringStringEntryProto *const *entries, size_t n, place *out) {
  static const char *const keys[] = {"location", "offset", "length", "checksum"};
  unsigned seen = 0;
  for (size_t i = 0; i < n; i++) {
    const char *key = entries[i]->key, *value = entries[i]->value;
    unsigned k = 0;
    while (k < 4 && strcmp(keys[k], key)) k++;
    if (k == 4)
      return SD_ERR(MODEL, "external data has the unknown key '%.64s' (known: location, offset, length, checksum)",
                    key);
    if (seen >> k & 1) return SD_ERR(MODEL, "external data has the key '%s' twice", key);
    seen |= 1u << k;
    if (k == 0) out->location = value;
    if ((k == 1 && !parse_count(value, &out->offset)) || (k == 2 && !parse_count(value, &out->length)))
      return SD_ERR(MODEL, "external data: %s '%.64s' is no number >= 0", key, value);
    if (k == 2) out->has_length = true;
  }
  if (!out->location) return SD_ERR(MODEL, "external data without a location");
  return NULL;
}

static sard_status *check_location(const char *location) {
  size_t len = strlen(location);
  const char *why = NULL;
  if (len == 0) why = "is empty";
  else if (len >= MAX_LOCATION) why = "is too long";
  else if (location[0] == '/') why = "is an absolute path";
  else if (location[0] == '~') why = "begins with '~'";
  for (const char *p = location; !why && *p;) {
    size_t part = strcspn(p, "/");
    if (part == 0) why = "has an empty component";
    else if (p[0] == '.' && (part == 1 || (part == 2 && p[1] == '.'))) why = "has a component '.' or '..'";
    p += part;
    if (*p == '/' && !*++p) why = "is a folder";
  }
  if (!why) return NULL;
  return sd_status_field(SD_ERR(MODEL, "external data location '%.200s' %s", location, why), SARD_TEXT_HINT,
                         "external data must lie in the folder of the model, named by a relative path");
}

// Opens component by component where the kernel has no openat2.
static int open_stepwise(int dir, const char *location) {
  int at = dup(dir);
  const char *p = location;
  while (at >= 0) {
    size_t part = strcspn(p, "/");
    char name[MAX_LOCATION];
    memcpy(name, p, part);
    name[part] = 0;
    bool last = p[part] == 0;
    int flags = O_CLOEXEC | O_NOFOLLOW | (last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY);
    int next = openat(at, name, flags);
    int saved = errno;
    close(at);
    errno = saved;
    at = next;
    if (last) break;
    p += part + 1;
  }
  return at;
}

static int open_beneath(int dir, const char *location) {
  struct open_how how = {
      .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  int fd = (int)syscall(SYS_openat2, dir, location, &how, sizeof how);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL)) fd = open_stepwise(dir, location);
  return fd;
}

static int open_folder(const char *model_path) {
  const char *slash = strrchr(model_path, '/');
  if (!slash) return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  size_t n = slash == model_path ? 1 : (size_t)(slash - model_path);
  char *folder = sd_malloc(n + 1);
  if (!folder) return errno = ENOMEM, -1;
  memcpy(folder, model_path, n);
  folder[n] = 0;
  int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int saved = errno;
  sd_free(folder);
  errno = saved;
  return dir;
}

static sard_status *map_fd(int fd, const char *location, sd_map *out) {
  struct stat st;
  if (fstat(fd, &st)) return sd_status_errno("cannot read external data", location);
  if (!S_ISREG(st.st_mode)) return SD_ERR(MODEL, "external data '%s' is not a regular file", location);
  if (st.st_nlink != 1)
    return sd_status_field(SD_ERR(MODEL, "external data '%s' is a hard link: it has %lu names", location,
                                  (unsigned long)st.st_nlink),
                           SARD_TEXT_HINT, "copy the file, so that it belongs to the model alone");
  return sd_file_map_open(fd, location, out);
}

static void unmap(void *m) { sd_file_unmap(m); }

static sard_status *map_location(sd_external *x, const char *location, const sd_map **out) {
  sd_map *m = sd_names_get(&x->files, location);
  if (m) return *out = m, NULL;
  if (!x->model_path)
    return sd_status_field(SD_ERR(MODEL, "external data '%.200s' of a model given as bytes", location), SARD_TEXT_HINT,
                           "open the model by its path, or supply sard_source.read_external");
  m = SD_NEW(x->arena, sd_map);
  sd_arena_defer(x->arena, unmap, m);
  int dir = open_folder(x->model_path);
  if (dir < 0) return sd_status_errno("cannot open the folder of", x->model_path);
  int fd = open_beneath(dir, location);
  int saved = errno;
  close(dir);
  errno = saved;
  if (fd < 0 && (errno == ELOOP || errno == EXDEV))
    return sd_status_field(SD_ERR(MODEL, "external data '%s' is reached through a symbolic link", location),
                           SARD_TEXT_HINT, "copy the file into the folder of the model");
  if (fd < 0)
    return sd_status_field(sd_status_errno("cannot open external data", location), SARD_TEXT_HINT,
                           "the file must lie in the folder of '%s'", x->model_path);
  sard_status *st = map_fd(fd, location, m);
  close(fd);
  SD_TRY(st);
  const char *name = sd_arena_strdup(x->arena, location);
  sd_names_add(&x->files, name, m);
  if (x->module) sd_vec_push(x->arena, &x->module->externals, name);
  if (x->module) sd_vec_push(x->arena, &x->module->maps, *m);
  return *out = m, NULL;
}

sard_status *sd_external_get(sd_external *x, Onnx__StringStringEntryProto *const *entries, size_t n, uint64_t bytes,
                             const void **out) {
  place at = {0};
  SD_TRY(read_entries(entries, n, &at));
  if (at.has_length && at.length != bytes)
    return SD_ERR(MODEL, "external data '%.200s' has %llu bytes, its type and shape need %llu", at.location,
                  (unsigned long long)at.length, (unsigned long long)bytes);
  SD_TRY(check_location(at.location));
  if (x->source->read_external) {
    *out = NULL;
    SD_TRY(x->source->read_external(x->source->user, at.location, at.offset, bytes, out));
    if (!*out && bytes) return SD_ERR(IO, "external data '%.200s': the caller supplied none", at.location);
    if (x->module && *out) sd_vec_push(x->module->arena, &x->module->lent, ((sd_map){*out, bytes}));
    return NULL;
  }
  const sd_map *m = NULL;
  SD_TRY(map_location(x, at.location, &m));
  uint64_t end;
  if (!sd_ck_add(at.offset, bytes, &end) || end > m->size)
    return SD_ERR(MODEL, "external data '%s': bytes %llu to %llu + %llu lie outside of its %llu bytes", at.location,
                  (unsigned long long)at.offset, (unsigned long long)at.offset, (unsigned long long)bytes,
                  (unsigned long long)m->size);
  *out = m->data ? m->data + at.offset : (const uint8_t *)"";
  return NULL;
}
