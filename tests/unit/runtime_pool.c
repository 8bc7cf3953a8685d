// Thread pool: every tile runs once, jobs follow each other quickly, several users at once.
#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/pool.h"
#include "tests/unit/test.h"

typedef struct job {
  uint8_t *hits; // plain memory: a tile that ran twice is a race, or a 2
  uint64_t *sums; // per worker
} job;

static void hit(void *user, int worker, uint32_t begin, uint32_t end) {
  job *j = user;
  for (uint32_t i = begin; i < end; i++) {
    j->hits[i]++;
    j->sums[worker * 8] += i;
  }
}

static void tiles(void) {
  enum { N = 5000 };
  static uint8_t hits[N];
  uint64_t sums[64 * 8];
  for (int turn = 0; turn < 8; turn++) {
    int threads = turn / 2 * 2 + 1;
    sd_pool *p = sd_pool_new(threads);
    CHECK(sd_pool_threads(p) == threads && sd_pool_enter(p) && !sd_pool_enter(p));
    for (uint32_t n = 0; n <= N; n = n < 40 ? n + 1 : n * 2 + 1) {
      memset(hits, 0, sizeof hits);
      memset(sums, 0, sizeof sums);
      sd_pool_run(p, hit, &(job){hits, sums}, n, turn % 2);
      uint64_t sum = 0, bad = 0;
      for (int w = 0; w < threads; w++) sum += sums[w * 8];
      for (uint32_t i = 0; i < N; i++) bad += hits[i] != (i < n);
      CHECK(bad == 0 && sum == (uint64_t)n * (n ? n - 1 : 0) / 2);
    }
    sd_pool_leave(p);
    sd_pool_free(p);
  }
  sd_pool_free(NULL);
  sd_pool_free(sd_pool_new(4)); // never used
}

// Backward each thread begins with its last tile.
typedef struct order { uint32_t last[16 * 4]; bool wrong; } order; // per worker: the tile that it ran last

static void note_order(void *user, int worker, uint32_t begin, uint32_t end) {
  order *o = user;
  o->wrong |= end != begin + 1 || (worker == 0 && begin + 1 != o->last[0]);
  o->last[worker * 16] = begin;
}

static void backward(void) {
  sd_pool *p = sd_pool_new(1);
  order o = {.last = {100}};
  CHECK(sd_pool_enter(p));
  sd_pool_run(p, note_order, &o, 100, true);
  CHECK(!o.wrong && o.last[0] == 0);
  sd_pool_leave(p);
  sd_pool_free(p);
}

// Each job reads what others wrote in the job before: the order between jobs holds.
static void read_then_write(void *user, int worker, uint32_t begin, uint32_t end) {
  (void)worker;
  int **v = user; // from v[0] to v[1], shifted by one
  for (uint32_t i = begin; i < end; i++) v[1][i] = v[0][(i + 1) % 64] + 1;
}

static void jobs_in_order(void) {
  int a[64] = {0}, b[64], *v[2] = {a, b};
  sd_pool *p = sd_pool_new(4);
  CHECK(sd_pool_enter(p));
  for (int round = 0; round < 3000; round++) {
    sd_pool_run(p, read_then_write, v, 64, false);
    int *x = v[0];
    v[0] = v[1];
    v[1] = x;
    if (round % 500 == 0) usleep(300); // workers fall asleep and are woken
  }
  for (int i = 0; i < 64; i++) CHECK(v[0][i] == 3000);
  sd_pool_leave(p);
  sd_pool_free(p);

}

static sd_pool *shared;
static atomic_int pooled_runs;

static void *user_thread(void *arg) {
  (void)arg;
  for (int round = 0; round < 300; round++) {
    uint8_t hits[100] = {0};
    uint64_t sums[64 * 8] = {0};
    job j = {hits, sums};
    bool mine = sd_pool_enter(shared);
    if (mine)
      sd_pool_run(shared, hit, &j, 100, false);
    else
      hit(&j, 0, 0, 100);
    if (mine) sd_pool_leave(shared);
    atomic_fetch_add(&pooled_runs, mine);
    for (int i = 0; i < 100; i++)
      if (hits[i] != 1) return (void *)1;
  }
  return NULL;
}

static void many_users(void) {
  shared = sd_pool_new(3);
  pthread_t t[8];
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&t[i], NULL, user_thread, NULL) == 0);
  for (int i = 0; i < 8; i++) {
    void *bad;
    pthread_join(t[i], &bad);
    CHECK(bad == NULL);
  }
  CHECK(atomic_load(&pooled_runs) > 0);
  sd_pool_free(shared);
}

static void nothing(void *user, int worker, uint32_t begin, uint32_t end) {
  (void)user, (void)worker, (void)begin, (void)end;
}

static void speed(void) {
  int n = sd_cpu_count();
  sd_pool *p = sd_pool_new(n);
  CHECK(sd_pool_enter(p));
  for (int i = 0; i < 1000; i++) sd_pool_run(p, nothing, NULL, 64, false);
  int64_t t = sd_now_ns();
  for (int i = 0; i < 20000; i++) sd_pool_run(p, nothing, NULL, 64, false);
  printf("# fork and join of %d threads: %.0f ns\n", n, (double)(sd_now_ns() - t) / 20000);
  sd_pool_leave(p);
  sd_pool_free(p);
}

static void no_memory(void) {
  for (int n = 1; n <= 3; n++) {
    sd_alloc_fail_after(n);
    CHECK(sd_pool_new(4) == NULL);
  }
  sd_alloc_fail_after(4); // no room to start workers: the caller does all
  sd_pool *p = sd_pool_new(2);
  uint8_t hits[10] = {0};
  uint64_t sums[16] = {0};
  CHECK(sd_pool_enter(p));
  sd_pool_run(p, hit, &(job){hits, sums}, 10, false);
  sd_alloc_fail_after(0);
  CHECK(hits[9] == 1 && sums[0] == 45);
  sd_pool_free(p);
}

int main(void) {
  RUN(tiles);
  RUN(backward);
  RUN(jobs_in_order);
  RUN(many_users);
  RUN(no_memory);
  RUN(speed);
  return check_end();
}
