// Thread pool: jobs of tiles in contiguous ranges per worker, tails stolen, bounded spinning, then sleeping on a futex.
//
// A job is open while `state` is odd. A worker joins by raising `active` and looking at `state` again; the caller
// closes the job when no tiles are left and waits until `active` is zero. So a worker that the system did not wake in
// time is not waited for: its tiles were taken by others. All atomics that take part in this are sequentially
// consistent; the two pairs (close, wait for active) and (join, look at state) rely on that order.
#include "runtime/pool.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"

enum { SPIN_NS = 50000, MAX_THREADS = 1024 };

// Tiles a worker has not begun: begin in the high half, end in the low half. One cache line each.
typedef struct slot { _Alignas(64) atomic_uint_least64_t range; } slot;

struct sd_pool {
  _Alignas(64) atomic_uint state; // counts up; odd: a job is open. Futex word
  _Alignas(64) atomic_int active; // workers inside the job
  _Alignas(64) atomic_int sleepers;
  atomic_int stop;
  atomic_flag busy; // taken by the thread that entered
  atomic_int inside; // a run is under way: its next job is near, workers stay awake
  int threads;      // wanted, the caller included
  int started;      // workers running
  bool tried;       // workers were started as far as the system allowed
  int64_t spin_ns;
  pthread_t *handles;
  slot *slots;
  // the open job
  sd_pool_fn fn;
  void *user;
  bool backward;
};

typedef struct worker_arg { sd_pool *pool; int index; } worker_arg;

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void futex_wait(atomic_uint *word, unsigned seen) {
  syscall(SYS_futex, (unsigned *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int n) {
  syscall(SYS_futex, (unsigned *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

// Takes half of what is left in a slot (at least one tile), so that few calls do much and the tail can be stolen.
static bool claim(slot *s, bool backward, uint32_t *begin, uint32_t *end) {
  uint64_t old = atomic_load_explicit(&s->range, memory_order_relaxed);
  for (;;) {
    uint32_t b = (uint32_t)(old >> 32), e = (uint32_t)old;
    if (b >= e) return false;
    uint32_t take = (e - b) / 2 + (e - b) % 2;
    uint64_t rest = backward ? (uint64_t)b << 32 | (e - take) : (uint64_t)(b + take) << 32 | e;
    if (atomic_compare_exchange_weak_explicit(&s->range, &old, rest, memory_order_relaxed, memory_order_relaxed)) {
      *begin = backward ? e - take : b;
      *end = *begin + take;
      return true;
    }
  }
}

static void call(const sd_pool *p, int worker, uint32_t begin, uint32_t end) {
  if (p->backward)
    while (end-- > begin) p->fn(p->user, worker, end, end + 1);
  else
    p->fn(p->user, worker, begin, end);
}

// Works on the own range, then on those of the others, until nothing is left.
static void work(sd_pool *p, int self) {
  int n = p->started + 1;
  for (int k = 0; k < n; k++) {
    int w = self + k < n ? self + k : self + k - n;
    uint32_t begin, end;
    while (claim(&p->slots[w], p->backward, &begin, &end)) call(p, self, begin, end);
  }
}

// Waits for a job other than the one seen last: spins, then sleeps. False when the pool stops.
static bool wait_for_job(sd_pool *p, unsigned last) {
  int64_t until = 0;
  for (unsigned turn = 1;; turn++) {
    unsigned s = atomic_load(&p->state);
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) return false;
    if ((s & 1) && s != last) return true;
    if (turn % 64) {
      relax();
      continue;
    }
    int64_t now = sd_now_ns();
    if (!until) until = now + p->spin_ns;
    if (now < until) continue;
    if (p->spin_ns && atomic_load_explicit(&p->inside, memory_order_relaxed)) {
      until = 0;
      continue;
    }
    atomic_fetch_add(&p->sleepers, 1);
    // A job that opens between the look at state and here changes the word, and the wait returns at once.
    futex_wait(&p->state, s);
    atomic_fetch_sub(&p->sleepers, 1);
    until = 0;
  }
}

static void *worker(void *user) {
  worker_arg arg = *(worker_arg *)user;
  sd_free(user);
  sd_pool *p = arg.pool;
  for (unsigned last = 0; wait_for_job(p, last);) {
    atomic_fetch_add(&p->active, 1);
    unsigned s = atomic_load(&p->state);
    if (s & 1) {
      work(p, arg.index);
      last = s;
    }
    atomic_fetch_sub(&p->active, 1);
  }
  return NULL;
}

static bool start_worker(sd_pool *p, int index) {
  worker_arg *arg = sd_malloc(sizeof *arg);
  if (!arg) return false;
  *arg = (worker_arg){p, index};
  if (pthread_create(&p->handles[index - 1], NULL, worker, arg) == 0) return true;
  sd_free(arg);
  return false;
}

sd_pool *sd_pool_new(int threads) {
  int cpus = sd_cpu_count();
  if (threads <= 0) threads = cpus;
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  sd_pool *p = sd_alloc_aligned(sizeof *p);
  if (!p) return NULL;
  *p = (sd_pool){.threads = threads, .spin_ns = threads <= cpus ? SPIN_NS : 0};
  atomic_flag_clear(&p->busy);
  p->handles = sd_calloc((size_t)threads, sizeof *p->handles);
  p->slots = sd_alloc_aligned((size_t)threads * sizeof *p->slots);
  if (!p->handles || !p->slots) {
    sd_free(p->handles);
    sd_free_aligned(p->slots);
    sd_free_aligned(p);
    return NULL;
  }
  for (int i = 0; i < threads; i++) atomic_init(&p->slots[i].range, 0);
  return p;
}

void sd_pool_free(sd_pool *p) {
  if (!p) return;
  atomic_store(&p->stop, 1);
  atomic_fetch_add(&p->state, 2); // stays closed, but changes the futex word
  futex_wake(&p->state, MAX_THREADS);
  for (int i = 0; i < p->started; i++) pthread_join(p->handles[i], NULL);
  sd_free(p->handles);
  sd_free_aligned(p->slots);
  sd_free_aligned(p);
}

int sd_pool_threads(const sd_pool *p) { return p->threads; }

bool sd_pool_enter(sd_pool *p) {
  if (atomic_flag_test_and_set_explicit(&p->busy, memory_order_acquire)) return false;
  atomic_store_explicit(&p->inside, 1, memory_order_relaxed);
  return true;
}

void sd_pool_leave(sd_pool *p) {
  atomic_store_explicit(&p->inside, 0, memory_order_relaxed);
  atomic_flag_clear_explicit(&p->busy, memory_order_release);
}

// Threads start when they are first of use. Where the system gives fewer, the pool does with those.
// Signals are for the threads of the program.
static void start_workers(sd_pool *p) {
  sigset_t all, old;
  p->tried = true;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  while (p->started + 1 < p->threads && start_worker(p, p->started + 1)) p->started++;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void wait_until_idle(sd_pool *p) {
  for (unsigned turn = 1; atomic_load(&p->active); turn++) {
    if (turn % 1024)
      relax();
    else
      sched_yield();
  }
}

void sd_pool_run(sd_pool *p, sd_pool_fn fn, void *user, uint32_t tiles, bool backward) {
  if (tiles == 0) return;
  p->fn = fn;
  p->user = user;
  p->backward = backward;
  if (tiles == 1 || p->threads == 1) {
    call(p, 0, 0, tiles);
    return;
  }
  if (!p->tried) start_workers(p);
  uint32_t n = (uint32_t)p->started + 1;
  for (uint32_t w = 0; w < n; w++) {
    uint64_t begin = (uint64_t)tiles * w / n, end = (uint64_t)tiles * (w + 1) / n;
    atomic_store_explicit(&p->slots[w].range, begin << 32 | end, memory_order_relaxed);
  }
  atomic_fetch_add(&p->state, 1); // opens; publishes what was written above
  if (atomic_load(&p->sleepers)) futex_wake(&p->state, tiles - 1 < n ? (int)tiles - 1 : (int)n);
  work(p, 0);
  atomic_fetch_add(&p->state, 1); // closes
  wait_until_idle(p);
}
