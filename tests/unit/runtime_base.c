// base: statuses, allocation, arenas, texts, hashes, files, processors.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/base/alloc.h"
#include "runtime/base/arena.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"
#include "runtime/base/thread.h"
#include "runtime/options.h"
#include "tests/unit/test.h"

static void statuses(void) {
  sard_status *st = SD_ERR(MODEL, "bad %d", 3);
  st = sd_status_context(st, "in %s", "x");
  st = sd_status_field(st, SARD_TEXT_NODE, "n%d", 1);
  st = sd_status_field(st, SARD_TEXT_NODE, "other");
  CHECK_TEXT(sard_status_text(st, SARD_TEXT_MESSAGE), "in x: bad 3");
  CHECK_TEXT(sard_status_text(st, SARD_TEXT_NODE), "n1");
  CHECK_TEXT(sard_status_text(st, SARD_TEXT_OP), "");
  CHECK(strstr(sard_status_text(st, SARD_TEXT_WHERE), "runtime_base.c:"));
  CHECK(take_code(st) == SARD_E_MODEL);
  CHECK(sard_status_code(NULL) == SARD_OK);
  CHECK(sd_status_context(NULL, "x") == NULL);
  for (int n = 1; n < 6; n++) { // no memory: still a status
    sd_alloc_fail_after(n);
    st = sd_status_field(sd_status_context(SD_ERR(IO, "x"), "y"), SARD_TEXT_HINT, "z");
    sd_alloc_fail_after(0);
    CHECK(st != NULL);
    sard_status_free(st);
  }
  CHECK(sard_version() == 0x01000100u);
}

static void allocation(void) {
  CHECK(sd_calloc(SIZE_MAX / 2, 3) == NULL);
  CHECK(sd_malloc(SIZE_MAX) == NULL);
  CHECK(sd_alloc_aligned(SIZE_MAX - 10) == NULL);
  sd_alloc_fail_after(2);
  void *a = sd_malloc(8), *b = sd_malloc(8), *c = sd_malloc(8);
  CHECK(a && !b && c);
  sd_alloc_fail_after(0);
  sd_free(a);
  sd_free(c);
  for (size_t n = 0; n < 9u << 20; n = n * 3 + 1) {
    char *p = sd_alloc_aligned(n);
    CHECK(p && (uintptr_t)p % 64 == 0);
    if (p && n) p[0] = p[n - 1] = 1;
    sd_free_aligned(p);
  }
}

static void count_call(void *p) { ++*(int *)p; }

static void arenas(void) {
  sd_arena *a = sd_arena_new();
  jmp_buf oom;
  sd_arena_set_oom(a, &oom);
  volatile int ended = 0;
  int calls = 0;
  if (setjmp(oom) == 0) {
    for (int round = 0; round < 3; round++) {
      for (size_t n = 0; n < 3u << 20; n = n * 2 + 1) {
        char *p = sd_arena_alloc(a, n), *q = sd_arena_aligned(a, n, 64);
        CHECK((uintptr_t)p % 16 == 0 && (uintptr_t)q % 64 == 0);
        bool zero = true;
        for (size_t i = 0; i < n; i++) zero = zero && p[i] == 0 && q[i] == 0;
        CHECK(zero);
        memset(p, 7, n);
        memset(q, 7, n);
      }
      CHECK_TEXT(sd_arena_printf(a, "%d-%s", 5, "x"), "5-x");
      CHECK_TEXT(sd_arena_strndup(a, "abc", 2), "ab");
      CHECK(sd_arena_strdup(a, NULL) == NULL);
      sd_arena_defer(a, count_call, &calls);
      SD_VEC(int) v = {0};
      for (int i = 0; i < 1000; i++) sd_vec_push(a, &v, i);
      CHECK(v.len == 1000 && v.at[999] == 999);
      sd_arena_reset(a);
      CHECK(calls == round + 1);
    }
    sd_arena_defer(a, count_call, &calls);
    sd_alloc_fail_after(1);
    for (;;) sd_arena_alloc(a, 1 << 20);
  } else {
    ended = 1;
  }
  sd_alloc_fail_after(0);
  CHECK(ended);
  if (setjmp(oom) == 0) {
    sd_arena_array(a, SIZE_MAX / 2, 4);
    CHECK(false);
  }
  CHECK(sd_arena_bytes(a) > 0);
  sd_arena_free(a);
  CHECK(calls == 4);
  sd_arena_free(NULL);
}

static void texts(void) {
  sd_str s = {0};
  sd_str_json(&s, "a\"b\\\n\t\x01\xff\xc3\xa4");
  char *p = sd_str_take(&s);
  CHECK_TEXT(p, "\"a\\\"b\\\\\\n\\t\\u0001\\u00ff\xc3\xa4\"");
  sd_free(p);
  sd_str_json(&s, NULL);
  for (int i = 0; i < 1000; i++) sd_strf(&s, "%d,%300s", i, "x");
  p = sd_str_take(&s);
  CHECK(p && strlen(p) > 300000 && !strncmp(p, "null0,", 6));
  sd_free(p);
  p = sd_str_take(&s);
  CHECK_TEXT(p, "");
  sd_free(p);
  sd_alloc_fail_after(1);
  sd_strf(&s, "hello");
  CHECK(sd_str_take(&s) == NULL);
  sd_alloc_fail_after(0);
  const char *const words[] = {"threads", "inputs", "outputs", "isa"};
  CHECK_TEXT(sd_str_nearest("thread", words, 4), "threads");
  CHECK_TEXT(sd_str_nearest("ouptuts", words, 4), "outputs");
  CHECK_TEXT(sd_str_nearest("ISA", words, 4), "isa");
  CHECK(sd_str_nearest("profile", words, 4) == NULL);
  CHECK(sd_str_nearest("zz", words, 4) == NULL);
}

static void hashes(void) {
  uint8_t data[300] = {0};
  uint64_t seen[301];
  for (size_t n = 0; n <= 300; n++) seen[n] = sd_hash_bytes(data, n, 0);
  for (size_t i = 0; i <= 300; i++)
    for (size_t k = 0; k < i; k++)
      if (seen[i] == seen[k]) CHECK(false);
  uint64_t whole = sd_hash_bytes(data, 300, 0);
  for (size_t bit = 0; bit < 2400; bit++) { // every flipped bit shows
    data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (sd_hash_bytes(data, 300, 0) == whole) CHECK(false);
    data[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  CHECK(sd_hash_bytes(data, 300, 1) != whole);
  CHECK(sd_hash_bytes(NULL, 0, 0) == sd_hash_bytes(data, 0, 0));
}

// Number of entries of the folder of `path`.
static int entries_beside(const char *path) {
  char command[600];
  snprintf(command, sizeof command, "ls -A \"$(dirname %s)\" | wc -l", path);
  FILE *f = popen(command, "r");
  int n = -1;
  if (!f || fscanf(f, "%d", &n) != 1) n = -1;
  if (f) pclose(f);
  return n;
}

// A process that is killed while it writes leaves the whole file, or none.
static void killed(void) {
  enum { BYTES = 8 << 20 };
  const char *path = test_path("killed");
  char *data = calloc(1, BYTES);
  for (int i = 0; i < 4; i++) {
    pid_t pid = fork();
    while (pid == 0) sard_status_free(sd_file_write(path, &(sd_piece){data, BYTES}, 1)), unlink(path);
    struct timespec a_moment = {0, 15000000 + i * 7000000};
    nanosleep(&a_moment, NULL);
    kill(pid, SIGKILL), waitpid(pid, NULL, 0);
    struct stat st;
    bool there = stat(path, &st) == 0;
    CHECK(entries_beside(path) == there && (!there || st.st_size == BYTES));
    unlink(path);
  }
  free(data);
}

static void files(void) {
  const char *path = test_path("file");
  sd_map m;
  CHECK_ERR(sd_file_map(path, &m), IO, "No such file");
  CHECK_ERR(sd_file_map("/tmp", &m), IO, "a directory");
  CHECK_ERR(sd_file_map("/dev/null", &m), IO, "not a regular file");
  CHECK_OK(sd_file_write(path, (sd_piece[]){{"abc", 3}, {"defg", 4}}, 2));
  CHECK_OK(sd_file_map(path, &m));
  CHECK(m.size == 7 && !memcmp(m.data, "abcdefg", 7) && m.data[7] == 0 && m.data[70] == 0);
  sd_file_unmap(&m);
  sd_file_unmap(&m);
  CHECK_OK(sd_file_write(path, NULL, 0));
  CHECK_OK(sd_file_map(path, &m));
  CHECK(m.size == 0 && m.data == NULL);
  sd_file_unmap(&m);
  static char page[8192];
  CHECK_OK(sd_file_write(path, &(sd_piece){page, 4096}, 1)); // the 64 bytes behind a full page are readable
  CHECK_OK(sd_file_map(path, &m));
  CHECK(m.size == 4096 && m.data[4096 + 63] == 0);
  sd_file_unmap(&m);
  CHECK(entries_beside(path) == 1);
  CHECK_ERR(sd_file_write("/tmp", NULL, 0), IO, "directory");
  CHECK_ERR(sd_file_write("/nonexistent/x", NULL, 0), IO, "No such file");
  if (access("/dev/full", W_OK) == 0)
    CHECK_ERR(sd_file_write("/dev/full", &(sd_piece){"x", 1}, 1), IO, "No space left");
  char link[512];
  snprintf(link, sizeof link, "%s", test_path("link"));
  CHECK(symlink(path, link) == 0);
  CHECK_OK(sd_file_write(link, &(sd_piece){"x", 1}, 1)); // the link stays, its target changes
  struct stat st;
  CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
  CHECK(stat(path, &st) == 0 && st.st_size == 1);
  unlink(link);
  unlink(path);
}

static void processors(void) {
  int all = sd_cpu_count();
  CHECK(all >= 1);
  cpu_set_t old, one;
  CHECK(sched_getaffinity(0, sizeof old, &old) == 0);
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &old)) {
      CPU_SET(i, &one);
      break;
    }
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(sd_cpu_count() == 1);
  sched_setaffinity(0, sizeof old, &old);
  int64_t t = sd_now_ns();
  CHECK(sd_now_ns() >= t);
}

static void options(void) {
  sard_options *o = sard_options_new();
  CHECK_ERR(sard_options_set(o, "thread", "1"), USAGE, "did you mean 'threads'?");
  CHECK_ERR(sard_options_set(o, "xyzzy", "1"), USAGE, "unknown option 'xyzzy'");
  CHECK_OK(sard_options_set(o, "threads", "4"));
  CHECK_OK(sard_options_set(o, "threads", "5"));
  CHECK_OK(sard_options_set(o, "dim:N", "7"));
  CHECK_ERR(sard_options_set(o, "dim:", "7"), USAGE, "unknown option");
  CHECK_TEXT(sd_options_get(o, "threads"), "5");
  int64_t v;
  uint64_t b;
  CHECK_OK(sd_options_int(o, "threads", 0, 8, 1, &v));
  CHECK(v == 5);
  CHECK_ERR(sd_options_int(o, "threads", 0, 4, 1, &v), USAGE, "from 0 to 4");
  CHECK_ERR(sd_options_check(o, SD_OPT_CONTEXT), USAGE, "'dim:N' of a context");
  CHECK_OK(sd_options_check(o, SD_OPT_MODEL));
  CHECK_OK(sard_options_set(o, "memory-limit", "3M"));
  CHECK_OK(sd_options_bytes(o, "memory-limit", &b));
  CHECK(b == 3u << 20);
  static const char *const bad[] = {"", "x", "-1", "3MM", "99999999999999999999", "17179869184G"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    CHECK_OK(sard_options_set(o, "memory-limit", bad[i]));
    CHECK(take_code(sd_options_bytes(o, "memory-limit", &b)) == SARD_E_USAGE);
  }
  sard_options *c = sd_options_clone(o);
  CHECK_TEXT(sd_options_get(c, "dim:N"), "7");
  sard_options_free(c);
  sard_options_free(o);
}

int main(void) {
  RUN(statuses);
  RUN(allocation);
  RUN(arenas);
  RUN(texts);
  RUN(hashes);
  RUN(killed);
  RUN(files);
  RUN(processors);
  RUN(options);
  return check_end();
}
