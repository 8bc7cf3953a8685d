// The compile cache: its digest, identities of files, records, the bound, and what becomes of a model through all of
// it.
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "codegen/compile_units.h"
#include "frontend/driver/cache.h"
#include "frontend/driver/cache_files.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "sard/sard_compile.h"

static char dir[256];

static const char *in_dir(const char *name) {
  static char path[8][512];
  static int at;
  char *p = path[at++ % 8];
  snprintf(p, 512, "%s/%s", dir, name);
  return p;
}

static void put_file(const char *path, const void *p, size_t n) { CHECK_OK(sd_file_put(path, &(sd_piece){p, n}, 1)); }

// ---- digest ----

static void fill(void *p, size_t n, uint64_t seed) {
  uint8_t *b = p;
  for (size_t i = 0; i < n; i++)
    seed = seed * 6364136223846793005u + 1442695040888963407u, b[i] = (uint8_t)(seed >> 56);
}

static void check_digest(void) {
  enum { N = 5000 };
  static uint8_t data[N], more[N];
  sd_digest_key key, other;
  fill(&key, sizeof key, 1), fill(&other, sizeof other, 2), fill(data, N, 3);
  sd_digest whole = sd_digest_bytes(&key, data, N);
  CHECK(!sd_digest_same(whole, sd_digest_bytes(&other, data, N)));
  for (size_t cut = 0; cut <= N; cut += 97) { // in parts
    sd_digesting d;
    sd_digest_begin(&d, &key);
    sd_digest_put(&d, data, cut), sd_digest_put(&d, data + cut, N - cut);
    CHECK(sd_digest_same(whole, sd_digest_end(&d)));
  }
  int equal = 0;
  for (size_t bit = 0; bit < 8 * N; bit++) { // every bit counts
    memcpy(more, data, N);
    more[bit / 8] ^= (uint8_t)(1 << bit % 8);
    equal += sd_digest_same(whole, sd_digest_bytes(&key, more, N));
  }
  CHECK(equal == 0);
  memset(more, 0, N); // so does the length, also of zeros
  sd_digest zeros[6];
  static const size_t lengths[6] = {0, 1, 8, 1023, 1024, 2048};
  for (int i = 0; i < 6; i++) {
    zeros[i] = sd_digest_bytes(&key, more, lengths[i]);
    for (int k = 0; k < i; k++) CHECK(!sd_digest_same(zeros[i], zeros[k]));
  }
}

// With a key of small words the result can be computed by hand: one block of NH, the length, and the point 2.
static void check_digest_value(void) {
  sd_digest_key key = {.point = {2, 0}};
  uint64_t block[SD_DIGEST_WORDS] = {3, 5};
  key.block[0] = 1, key.block[1] = 2; // (3 + 1) * (5 + 2) = 28, and the length 1024: (1024 + 1) * (0 + 2) = 2050
  sd_digest d = sd_digest_bytes(&key, block, sizeof block);
  CHECK(d.hi == 0 && d.lo == (1 * 2 + 28) * 2 + 2050);
  key.block[0] = ~UINT64_C(0) - 2; // words add up modulo 2^64: (3 - 3) * 7 = 0, and (1024 - 3) * 2 = 2042
  d = sd_digest_bytes(&key, block, sizeof block);
  CHECK(d.hi == 0 && d.lo == 1 * 2 * 2 + 2042);
}

// ---- identities ----

static void check_identity(void) {
  sd_identity a, b;
  const char *path = in_dir("file");
  put_file(path, "one", 3);
  int fd = open(path, O_RDONLY);
  CHECK(sd_identity_of(fd, &a) && sd_identity_at(path, &b) && sd_identity_same(&a, &b));
  CHECK(!sd_identity_is_firm(fd, &a)); // just written
  struct timespec nap = {0, 150000000};
  nanosleep(&nap, NULL);
  bool firm = sd_identity_is_firm(fd, &a); // not where the folder lies in memory
  int writer = open(path, O_WRONLY);
  CHECK(!sd_identity_is_firm(fd, &a)); // somebody may write
  CHECK(write(writer, "two", 3) == 3);
  close(writer);
  CHECK(sd_identity_of(fd, &b) && !sd_identity_same(&a, &b));
  if (!firm) printf("identities are not firm in %s\n", dir);
  sd_digest_key key = {.point = {3, 5}};
  sd_digest d;
  CHECK(sd_identity_digest(fd, 3, &key, &d) && sd_digest_same(d, sd_digest_bytes(&key, "two", 3)));
  CHECK(!sd_identity_digest(fd, 2, &key, &d) && !sd_identity_digest(fd, 4, &key, &d));
  close(fd);
  CHECK(!sd_identity_at(dir, &a) && !sd_identity_at(in_dir("none"), &a));
}

// ---- records ----

static void check_records(sd_arena *a, const sd_cache_folder *f) {
  sd_digest name = {5, 6};
  sd_cache_item items[2] = {{.id = {.inode = 7, .size = 9}, .digest = {1, 2}, .name = ""},
                            {.digest = {3, 4}, .name = "weights.bin"}};
  sd_cache_record r = {.at = items, .n = 2, .text = "{}"}, got;
  CHECK(!sd_cache_record_read(a, f, name, "in", &got));
  CHECK(sd_cache_record_write(a, f, name, "in", &r));
  CHECK(sd_cache_record_read(a, f, name, "in", &got) && got.n == 2 && got.this_boot);
  CHECK_TEXT(got.text, "{}");
  CHECK_TEXT(got.at[1].name, "weights.bin");
  CHECK(got.at[0].id.inode == 7 && sd_digest_same(got.at[1].digest, items[1].digest));
  sd_map m;
  const char *path = sd_cache_file(a, f, name, "in");
  CHECK_OK(sd_file_map(path, &m));
  uint8_t *bytes = sd_arena_dup(a, m.data, m.size);
  uint64_t size = m.size;
  sd_file_unmap(&m);
  for (uint64_t cut = 0; cut < size; cut += 7) { // each prefix, each flipped byte: no record
    put_file(path, bytes, cut);
    CHECK(!sd_cache_record_read(a, f, name, "in", &got));
    bytes[cut] ^= 0x40;
    put_file(path, bytes, size);
    CHECK(!sd_cache_record_read(a, f, name, "in", &got));
    bytes[cut] ^= 0x40;
  }
}

static void check_folder(sd_arena *a) {
  sd_cache_folder f, again;
  const char *why = "", *path = in_dir("deep/er/cache");
  CHECK(sd_cache_folder_open(a, path, &f, &why) && sd_cache_folder_open(a, path, &again, &why));
  CHECK(memcmp(&f.key, &again.key, sizeof f.key) == 0);
  check_records(a, &f);
  put_file(in_dir("deep/er/cache/key"), "short", 5); // a new key, then
  CHECK(sd_cache_folder_open(a, path, &again, &why) && memcmp(&f.key, &again.key, sizeof f.key) != 0);
  CHECK(chmod(path, 0777) == 0 && !sd_cache_folder_open(a, path, &f, &why) && strstr(why, "others may write"));
  CHECK(chmod(path, 0700) == 0);
  CHECK(!sd_cache_folder_open(a, in_dir("file"), &f, &why) && strstr(why, "not a folder"));
}

// ---- the bound ----

static void check_room(sd_arena *a) {
  sd_cache_folder f;
  const char *why, *path = in_dir("room");
  static char big[64 << 10];
  CHECK(sd_cache_folder_open(a, path, &f, &why));
  put_file(in_dir("room/mine.txt"), big, sizeof big); // not of the cache
  for (uint64_t i = 1; i <= 4; i++) {
    sd_digest name = {i, 0};
    put_file(sd_cache_file(a, &f, name, "sard"), big, sizeof big);
    CHECK(sd_cache_record_write(a, &f, name, "ok", &(sd_cache_record){.text = ""}));
    struct timespec when[2] = {{1000 + (time_t)i, 0}, {1000 + (time_t)i, 0}};
    if (i == 1) when[1].tv_sec = 2000; // the first one was used last
    CHECK(utimensat(AT_FDCWD, sd_cache_file(a, &f, name, "ok"), when, 0) == 0);
  }
  CHECK(sd_cache_count(a, path).artifacts == 4);
  sd_cache_room(a, &f, 150 << 10);
  CHECK(sd_cache_count(a, path).artifacts == 2 && sd_cache_count(a, path).bytes <= 150 << 10);
  for (uint64_t i = 1; i <= 4; i++) {
    bool there = i == 1 || i == 4;
    CHECK((access(sd_cache_file(a, &f, (sd_digest){i, 0}, "sard"), F_OK) == 0) == there);
    CHECK((access(sd_cache_file(a, &f, (sd_digest){i, 0}, "ok"), F_OK) == 0) == there);
  }
  sd_cache_room(a, &f, 0);
  CHECK(sd_cache_count(a, path).bytes == 0 && access(in_dir("room/mine.txt"), F_OK) == 0 &&
        access(in_dir("room/key"), F_OK) == 0);
}

// ---- models ----

static sard_context *ctx;

// What the cache did with the model of the path: "hit", "stored", ...
static const char *open_model(const char *path, const char *cache, const char *key, const char *value) {
  sard_options *o = sard_options_new();
  sard_source src = {.size = sizeof src, .path = path};
  sard_model *m = NULL;
  CHECK_OK(sard_options_set(o, "cache", cache));
  if (key) CHECK_OK(sard_options_set(o, key, value));
  CHECK_OK(sard_model_open(ctx, &src, o, &m));
  sard_options_free(o);
  const char *state = m ? m->cache.state : "";
  sard_model_free(m);
  return state;
}

static void copy(const char *from, const char *to) {
  sd_map m;
  CHECK_OK(sd_file_map(from, &m));
  put_file(to, m.data, m.size);
  sd_file_unmap(&m);
}

static void check_models(sd_arena *a, const char *corpus) {
  char model[512];
  const char *cache = in_dir("models"), *mine = in_dir("m.onnx"), *twin = in_dir("twin.onnx");
  snprintf(model, sizeof model, "%s/digits_mlp/model.onnx", corpus);
  copy(model, mine), copy(model, twin);
  CHECK_TEXT(open_model(mine, "off", NULL, NULL), "off");
  CHECK_TEXT(open_model(mine, cache, NULL, NULL), "stored");
  CHECK_TEXT(open_model(mine, cache, NULL, NULL), "hit");
  CHECK_TEXT(open_model(twin, cache, NULL, NULL), "hit"); // the same bytes
  CHECK_TEXT(open_model(mine, cache, "opt", "1"), "stored");
  CHECK_TEXT(open_model(mine, cache, "target", "baseline"), "stored");
  CHECK_TEXT(open_model(mine, cache, "dim:batch", "2"), "stored");
  CHECK_TEXT(open_model(mine, cache, "dim:batch", "2"), "hit");
  CHECK_TEXT(open_model(mine, cache, "cache-limit", "1K"), "hit");
  CHECK_TEXT(open_model(mine, cache, "dim:batch", "3"), "stored");
  CHECK(sd_cache_count(a, cache).artifacts == 5);
  sd_map m;
  CHECK_OK(sd_file_map(mine, &m)); // one byte of a weight: another model
  uint8_t *bytes = sd_arena_dup(a, m.data, m.size);
  uint64_t size = m.size;
  sd_file_unmap(&m);
  bytes[size / 2] ^= 1;
  int fd = open(mine, O_WRONLY);
  CHECK(pwrite(fd, bytes + size / 2, 1, (off_t)(size / 2)) == 1);
  close(fd);
  CHECK_TEXT(open_model(mine, cache, NULL, NULL), "stored");
  CHECK_TEXT(open_model(mine, cache, NULL, NULL), "hit");
  CHECK_TEXT(open_model(twin, cache, NULL, NULL), "hit");
  CHECK_TEXT(open_model(twin, in_dir("small"), "cache-limit", "1K"), "unused");
}

// Memory that is short: an error or a model, never a loss; the cache stays good.
static void check_memory(const char *corpus) {
  char model[512];
  int short_of = 0, models = 0;
  const char *cache = in_dir("models");
  sard_options *o = sard_options_new();
  snprintf(model, sizeof model, "%s/digits_mlp/model.onnx", corpus);
  sard_source src = {.size = sizeof src, .path = model};
  CHECK_OK(sard_options_set(o, "cache", cache));
  for (long n = 1; models < 3 && n < 2000; n++) { // until three in a row need no more
    sard_model *m = NULL;
    sd_alloc_fail_after(n);
    sard_status *st = sard_model_open(ctx, &src, o, &m);
    sd_alloc_fail_after(0);
    models = st ? 0 : models + 1;
    short_of += st != NULL;
    CHECK(!st || (sard_status_code(st) == SARD_E_NOMEM && !m));
    sard_status_free(st);
    sard_model_free(m);
  }
  CHECK(short_of > 10 && models == 3);
  sard_options_free(o);
  CHECK_TEXT(open_model(model, cache, NULL, NULL), "hit");
}

// Only what is equal in text, instruction set and level is found, and what finds no room is not kept.
static void check_kernels(void) {
  size_t bytes = 8 << 20;
  char *at = sd_alloc_aligned(bytes), *big = sd_alloc_aligned(bytes);
  CHECK(at && big);
  if (!at || !big) return;
  memset(at, 0, bytes);
  CHECK(!sd_kernel_store_new(at, 4096));
  sd_kernel_store *s = sd_kernel_store_new(at, bytes);
  sd_kernel_key a = {"kernel a", "avx2", 3};
  sd_kernel_code got, code = {"object", 6, "d0;1;", 1}, other = {big, bytes, "", 0};
  CHECK(!sd_kernel_store_find(s, &a, &got));
  sd_kernel_store_add(s, &a, &code);
  sd_kernel_store_add(s, &a, &(sd_kernel_code){"second", 6, "", 0});
  CHECK(sd_kernel_store_find(sd_kernel_store_new(at, bytes), &a, &got)); // as another process would
  CHECK(got.bytes == 6 && !memcmp(got.object, "object", 6) && !strcmp(got.dims, "d0;1;") && got.n_dims == 1);
  CHECK(!sd_kernel_store_find(s, &(sd_kernel_key){"kernel b", a.isa, a.opt}, &got));
  CHECK(!sd_kernel_store_find(s, &(sd_kernel_key){a.text, "avx512", a.opt}, &got));
  CHECK(!sd_kernel_store_find(s, &(sd_kernel_key){a.text, a.isa, 2}, &got));
  a.opt = 2;
  sd_kernel_store_add(s, &a, &other);
  CHECK(!sd_kernel_store_find(s, &a, &got));
  other.bytes = bytes / 2, memset(big, 7, bytes);
  sd_kernel_store_add(s, &a, &other);
  CHECK(sd_kernel_store_find(s, &a, &got) && got.bytes == bytes / 2 && !memcmp(got.object, big, got.bytes));
  a.opt = 1;
  sd_kernel_store_add(s, &a, &other);
  CHECK(!sd_kernel_store_find(s, &a, &got));
  sd_free_aligned(at), sd_free_aligned(big);
}

int main(void) {
  const char *corpus = getenv("SARD_CORPUS");
  snprintf(dir, sizeof dir, "%s/sard-cache-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  if (!mkdtemp(dir)) return 1;
  sd_units_keep(NULL); // allocations of the compiler fail here, too
  sd_arena *a = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return 1;
  sd_arena_set_oom(a, &oom);
  check_kernels();
  check_digest();
  check_digest_value();
  check_identity();
  check_folder(a);
  check_room(a);
  CHECK_OK(sard_context_new(NULL, &ctx));
  sard_compiler_use(ctx);
  check_models(a, corpus && *corpus ? corpus : "models/corpus");
  check_memory(corpus && *corpus ? corpus : "models/corpus");
  sard_context_free(ctx);
  sd_arena_free(a);
  CHECK(check_remove(dir));
  return check_end();
}
