// The cache's folder, its key, and records.
#include "frontend/driver/cache_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"

// ---- where it is ----

const char *sd_cache_folder_path(sd_arena *a, const char *option) {
  const char *path = option ? option : secure_getenv("SARD_CACHE"), *base = secure_getenv("XDG_CACHE_HOME"),
             *home = secure_getenv("HOME");
  if (path && *path) return strcmp(path, "off") == 0 ? NULL : sd_arena_strdup(a, path);
  if (base && *base == '/') return sd_arena_printf(a, "%s/sard", base);
  return home && *home == '/' ? sd_arena_printf(a, "%s/.cache/sard", home) : NULL;
}

static bool make_folder(sd_arena *a, const char *path) {
  if (mkdir(path, 0700) == 0 || errno == EEXIST) return true;
  char *above = errno == ENOENT ? sd_arena_strdup(a, path) : NULL, *slash = above ? strrchr(above, '/') : NULL;
  if (!slash || slash == above) return false;
  *slash = 0;
  return make_folder(a, above) && (mkdir(path, 0700) == 0 || errno == EEXIST);
}

// ---- the key ----

typedef struct key_file {
  char magic[8];
  sd_digest_key key;
  uint64_t check;
} key_file;
static const char key_magic[8] = "SARDKEY1";

static bool read_key(const char *path, sd_digest_key *out) {
  key_file k;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  bool ok = fd >= 0 && read(fd, &k, sizeof k) == sizeof k && memcmp(k.magic, key_magic, sizeof k.magic) == 0 &&
            k.check == sd_hash_bytes(&k.key, sizeof k.key, 0);
  if (fd >= 0) close(fd);
  if (ok) *out = k.key;
  return ok;
}

// Of several that make a key at once the first one counts.
static bool make_key(sd_arena *a, const char *path) {
  key_file k;
  const char *tmp = sd_arena_printf(a, "%s.tmp.%ld", path, (long)getpid());
  memcpy(k.magic, key_magic, sizeof k.magic);
  if (getrandom(&k.key, sizeof k.key, 0) != sizeof k.key) return false;
  k.check = sd_hash_bytes(&k.key, sizeof k.key, 0);
  sard_status *st = sd_file_put(tmp, &(sd_piece){&k, sizeof k}, 1);
  bool ok = !st && (link(tmp, path) == 0 || errno == EEXIST);
  sard_status_free(st);
  unlink(tmp);
  return ok;
}

static bool find_key(sd_arena *a, sd_cache_folder *f) {
  const char *path = sd_arena_printf(a, "%s/key", f->path);
  if (read_key(path, &f->key)) return true;
  if (access(path, F_OK) == 0) unlink(path); // damaged: all entries are lost with it
  return make_key(a, path) && read_key(path, &f->key);
}

// ---- the folder ----

static void read_boot(char out[SD_CACHE_BOOT]) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, out, SD_CACHE_BOOT - 1) : 0;
  memset(out + (n > 0 ? n : 0), 0, SD_CACHE_BOOT - (size_t)(n > 0 ? n : 0));
  if (fd >= 0) close(fd);
}

bool sd_cache_folder_open(sd_arena *a, const char *path, sd_cache_folder *out, const char **why) {
  struct stat st;
  *out = (sd_cache_folder){.path = path};
  if (stat(path, &st) != 0 && (!make_folder(a, path) || stat(path, &st) != 0))
    return *why = sd_arena_printf(a, "cannot make the folder '%s': %s", path, strerror(errno)), false;
  if (!S_ISDIR(st.st_mode)) return *why = sd_arena_printf(a, "'%s' is not a folder", path), false;
  // What lies there is run: nobody else may put it there.
  if (st.st_uid != geteuid()) return *why = sd_arena_printf(a, "the folder '%s' belongs to another user", path), false;
  if (st.st_mode & 022)
    return *why = sd_arena_printf(a, "others may write to the folder '%s' (chmod go-w makes it usable)", path), false;
  if (!find_key(a, out))
    return *why = sd_arena_printf(a, "cannot write to the folder '%s': %s", path, strerror(errno)), false;
  read_boot(out->boot);
  return true;
}

const char *sd_cache_file(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind) {
  return sd_arena_printf(a, "%s/%016llx%016llx.%s", f->path, (unsigned long long)name.hi, (unsigned long long)name.lo,
                         kind);
}

// ---- records ----

typedef struct head {
  char magic[8], boot[SD_CACHE_BOOT];
  uint64_t n, text_bytes; // items and the names behind them; each name and the text end with NUL
  sd_digest check;        // of the file with zeros here
} head;
typedef struct item {
  sd_identity id;
  sd_digest digest;
  uint64_t name;
} item;
static const char record_magic[8] = "SARDREC1";
enum { RECORD_MOST = 16 << 20 };

// Contents of a small file and NUL; NULL when it is not there or cannot be read.
static uint8_t *read_whole(sd_arena *a, const char *path, uint64_t *size) {
  struct stat st;
  uint8_t *p = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= RECORD_MOST) {
    p = sd_malloc((size_t)st.st_size + 1); // an arena may leave by its recovery point, and the file would stay open
    if (p && read(fd, p, (size_t)st.st_size) != st.st_size) sd_free(p), p = NULL;
    if (p) p[st.st_size] = 0, *size = (uint64_t)st.st_size;
  }
  if (fd >= 0) close(fd);
  if (p) sd_arena_defer(a, sd_free, p);
  return p;
}

static bool is_whole(const sd_cache_folder *f, uint8_t *p, uint64_t size) {
  head *h = (head *)p;
  uint64_t items, need;
  if (!p || size < sizeof *h || memcmp(h->magic, record_magic, sizeof h->magic) != 0) return false;
  if (!sd_ck_mul(h->n, sizeof(item), &items) || !sd_ck_add(items, h->text_bytes, &need) ||
      !sd_ck_add(need, sizeof *h, &need))
    return false;
  sd_digest check = h->check;
  h->check = (sd_digest){0};
  return need == size && h->text_bytes > 0 && p[size - 1] == 0 &&
         sd_digest_same(check, sd_digest_bytes(&f->key, p, size));
}

bool sd_cache_record_read(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind,
                          sd_cache_record *out) {
  uint64_t size = 0;
  const char *path = sd_cache_file(a, f, name, kind);
  uint8_t *p = read_whole(a, path, &size);
  *out = (sd_cache_record){.text = ""};
  if (!is_whole(f, p, size)) return false;
  const head *h = (const head *)p;
  const item *items = (const item *)(h + 1);
  const char *text = (const char *)(items + h->n);
  out->at = SD_NEW_ARRAY(a, sd_cache_item, h->n + 1);
  out->n = (uint32_t)h->n, out->text = text, out->this_boot = memcmp(h->boot, f->boot, SD_CACHE_BOOT) == 0;
  for (uint64_t i = 0; i < h->n; i++) {
    if (items[i].name >= h->text_bytes) return false;
    out->at[i] = (sd_cache_item){items[i].id, items[i].digest, text + items[i].name};
  }
  if (strcmp(kind, "in") != 0) utimensat(AT_FDCWD, path, NULL, 0); // that one is cheap to make again
  return true;
}

bool sd_cache_record_write(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind,
                           const sd_cache_record *r) {
  const char *first = r->text ? r->text : "";
  uint64_t text = strlen(first) + 1, at = text;
  for (uint32_t i = 0; i < r->n; i++) text += strlen(r->at[i].name) + 1;
  uint64_t size = sizeof(head) + r->n * sizeof(item) + text;
  uint8_t *p = sd_arena_alloc(a, size);
  head *h = (head *)p;
  item *items = (item *)(h + 1);
  char *names = (char *)(items + r->n);
  memcpy(h->magic, record_magic, sizeof h->magic), memcpy(h->boot, f->boot, SD_CACHE_BOOT);
  h->n = r->n, h->text_bytes = text;
  memcpy(names, first, strlen(first));
  for (uint32_t i = 0; i < r->n; i++) {
    items[i].id = r->at[i].id, items[i].digest = r->at[i].digest, items[i].name = at;
    memcpy(names + at, r->at[i].name, strlen(r->at[i].name));
    at += strlen(r->at[i].name) + 1;
  }
  h->check = sd_digest_bytes(&f->key, p, size);
  sard_status *st = sd_file_put(sd_cache_file(a, f, name, kind), &(sd_piece){p, size}, 1);
  bool ok = !st;
  sard_status_free(st);
  return ok;
}
