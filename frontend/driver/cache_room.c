// The bound of the compile cache: what was not used for longest goes first.
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "frontend/driver/cache_files.h"

enum { STEM = 32, MOST_FILES = 8192, OLD_S = 3600 };

typedef struct entry {
  const char *name;
  uint64_t bytes;
  struct timespec used;
} entry;
typedef SD_VEC(entry) entries;

static const char *const kinds[] = {".sard", ".ok", ".in", ".names", ".tune"};

// Only names that the cache gives: people may point it at a folder of theirs.
static bool is_ours(const char *name) {
  if (strspn(name, "0123456789abcdef") != STEM) return false;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(name + STEM, kinds[i]) == 0) return true;
  return false;
}

// "<name of ours or key>.tmp.<numbers>", which a process left that ended while it wrote.
static bool is_left_over(const char *name, const struct stat *st) {
  char stem[64];
  const char *tmp = strstr(name, ".tmp.");
  if (!tmp || (size_t)(tmp - name) >= sizeof stem || strspn(tmp + 5, "0123456789.") != strlen(tmp + 5)) return false;
  memcpy(stem, name, (size_t)(tmp - name));
  stem[tmp - name] = 0;
  return (is_ours(stem) || strcmp(stem, "key") == 0) && time(NULL) - st->st_mtim.tv_sec > OLD_S;
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static bool before(const struct timespec *a, const struct timespec *b) {
  return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static int by_use(const void *a, const void *b) {
  const entry *x = a, *y = b;
  return before(&x->used, &y->used) ? -1 : before(&y->used, &x->used) ? 1 : by_name(a, b);
}

static void close_folder(void *d) { closedir(d); }

// The files of the cache; an artifact was used when its record was, and goes with it.
static uint64_t list(sd_arena *a, const char *path, bool clean, entries *out) {
  uint64_t total = 0;
  DIR *d = opendir(path);
  if (!d) return 0;
  sd_arena_defer(a, close_folder, d);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    struct stat st;
    if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
    if (clean && is_left_over(e->d_name, &st)) unlinkat(dirfd(d), e->d_name, 0);
    if (!is_ours(e->d_name)) continue;
    sd_vec_push(a, out, ((entry){sd_arena_strdup(a, e->d_name), (uint64_t)st.st_blocks * 512, st.st_mtim}));
    total += (uint64_t)st.st_blocks * 512;
  }
  if (out->len) qsort(out->at, out->len, sizeof *out->at, by_name);
  for (uint32_t i = 1; i < out->len; i++) { // ".ok" stands before ".sard"
    entry *ok = &out->at[i - 1], *artifact = &out->at[i];
    if (strncmp(ok->name, artifact->name, STEM) == 0 && strcmp(artifact->name + STEM, ".sard") == 0)
      artifact->used = ok->used;
  }
  if (out->len) qsort(out->at, out->len, sizeof *out->at, by_use);
  return total;
}

void sd_cache_room(sd_arena *a, const sd_cache_folder *f, uint64_t most) {
  entries all = {0};
  uint64_t total = list(a, f->path, true, &all);
  for (uint32_t i = 0; i < all.len; i++) {
    bool same = i && strncmp(all.at[i].name, all.at[i - 1].name, STEM) == 0; // an artifact whose record has gone
    if (total <= most && all.len - i <= MOST_FILES && !same) break;
    if (unlink(sd_arena_printf(a, "%s/%s", f->path, all.at[i].name)) == 0) total -= all.at[i].bytes;
  }
}

sd_cache_use sd_cache_count(sd_arena *a, const char *path) {
  entries all = {0};
  sd_cache_use use = {.bytes = list(a, path, false, &all)};
  for (uint32_t i = 0; i < all.len; i++) use.artifacts += strcmp(all.at[i].name + STEM, ".sard") == 0;
  return use;
}
