// The process as a rank: loading MPI, and a thread by which ranks tell each other that they are there. MPI
// itself ends all when a process of it ends, but waits for ever for one that is stopped.
#include "runtime/collective/mpi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/thread.h"
#include "runtime/host.h"
#include "sard/sard.h"
#include "runtime/collective/mpi_inside.h"
#include "runtime/collective/mpi_near.h"

enum { BEAT_MS = 200, PATIENCE = 6, PATH = 4096 };

static struct {
  const sd_mpi_api *api;
  sd_group group;
  pthread_mutex_t lock;
  pthread_t watch;
  bool watched, stop, passed; // stop, passed: under the lock
  int64_t heard[SD_MPI_RANKS];
  void *sending[SD_MPI_RANKS], *receiving[SD_MPI_RANKS];
  char beat, got[SD_MPI_RANKS];
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

const sd_mpi_api *sd_mpi_of(const sd_group *g) { return (void)g, self.api; }
int sd_mpi_rank(void) { return self.api ? self.group.rank : 0; }
sd_group *sd_mpi_group(void) { return self.api ? &self.group : NULL; }

// ---- beats ----

static bool stopped(void) {
  pthread_mutex_lock(&self.lock);
  bool stop = self.stop;
  pthread_mutex_unlock(&self.lock);
  return stop;
}

static void beat(int r) {
  if (self.api->ended(&self.sending[r]) == 1)
    self.api->send(SD_MPI_BEATS, &self.beat, 1, r, &self.sending[r]);
  while (self.api->ended(&self.receiving[r]) == 1) {
    self.heard[r] = sd_now_ns();
    if (self.api->receive(SD_MPI_BEATS, &self.got[r], 1, r, &self.receiving[r])) break;
  }
}

// The first rank that still answers tells; the others give it the time.
static void give_up(int silent) {
  int teller = silent == 0 ? 1 : 0;
  if (self.group.rank == teller)
    fprintf(stderr, "sard: error: rank %d of %d has not answered for %d s\n", silent, self.group.ranks,
            SD_MPI_SILENCE);
  else
    sleep(2);
  self.api->end_all(SARD_E_DEVICE);
}

static void *watch(void *user) {
  (void)user;
  while (!stopped()) {
    int64_t now = sd_now_ns();
    sd_near_look();
    for (int r = 0; r < self.group.ranks; r++) {
      if (r == self.group.rank) continue;
      beat(r);
      if (now - self.heard[r] > SD_MPI_SILENCE * INT64_C(1000000000) && !stopped()) give_up(r);
    }
    nanosleep(&(struct timespec){0, BEAT_MS * 1000000L}, NULL);
  }
  return NULL;
}

static sard_status *start_watch(void) {
  for (int r = 0; r < self.group.ranks; r++) self.heard[r] = sd_now_ns();
  for (int r = 0; r < self.group.ranks; r++)
    if (r != self.group.rank && self.api->receive(SD_MPI_BEATS, &self.got[r], 1, r, &self.receiving[r]))
      return SD_ERR(DEVICE, "rank %d cannot be received from", r);
  self.watched = pthread_create(&self.watch, NULL, watch, NULL) == 0;
  return self.watched ? NULL : SD_ERR(NOMEM, "the system gives no thread to watch the other ranks");
}

// ---- start and end ----

// MPI waits for ever where a rank is stopped while all start or leave; who it is only ranks of its machine know then.
static void *expire(void *what) {
  for (int64_t end = sd_now_ns() + PATIENCE * INT64_C(1000000000); sd_now_ns() < end;) {
    pthread_mutex_lock(&self.lock);
    bool passed = self.passed;
    pthread_mutex_unlock(&self.lock);
    if (passed) return NULL;
    sd_near_look();
    nanosleep(&(struct timespec){0, 20 * 1000000L}, NULL);
  }
  if (!sd_near_tell(true))
    fprintf(stderr, "sard: error: a rank does not %s, the others have waited for %d s\n", (const char *)what,
            PATIENCE);
  sd_near_end(); // the patience of others may end later: this rank is not what they miss
  _exit(SARD_E_DEVICE);
}

static bool guard(const char *what, pthread_t *t) {
  self.passed = false;
  return pthread_create(t, NULL, expire, (void *)(uintptr_t)what) == 0;
}

static void unguard(bool guarded, pthread_t t) {
  pthread_mutex_lock(&self.lock);
  self.passed = true;
  pthread_mutex_unlock(&self.lock);
  if (guarded) pthread_join(t, NULL);
}

// A rank that ends well waits for the others; one that fails ends them, rank 0 at once and others only where
// rank 0 has not told of the same error by then.
static void at_end(int code, void *user) {
  (void)user;
  char last = 0, all[SD_MPI_RANKS];
  if (!code) code = sard_status_code(sd_mpi_show(&self.group, &last, 1, all)); // beats go on until all are here
  pthread_mutex_lock(&self.lock);
  self.stop = true;
  pthread_mutex_unlock(&self.lock);
  if (self.watched) pthread_join(self.watch, NULL);
  for (int r = 0; r < self.group.ranks && !code; r++)
    self.api->drop(&self.sending[r]), self.api->drop(&self.receiving[r]);
  if (code) sd_near_end();
  if (code && self.group.rank) sleep(1);
  if (code) self.api->end_all(code);
  pthread_t t;
  bool guarded = guard("leave", &t);
  self.api->leave();
  unguard(guarded, t);
}

static void fail(sd_group *g) { (void)g; } // its process ends, and with it all others

// ---- joining ----

static void *open_module(void) {
  const char *given = getenv("SARD_MPI");
  char path[PATH];
  if (given) return dlopen(given, RTLD_NOW | RTLD_GLOBAL);
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
  char *end = n > 0 ? (path[n] = 0, strrchr(path, '/')) : NULL;
  for (int i = 0; end && i < 2; i++) {
    strcpy(end, i ? "/../lib/libsard_mpi.so" : "/libsard_mpi.so");
    void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (module) return module;
  }
  return dlopen("libsard_mpi.so", RTLD_NOW | RTLD_GLOBAL);
}

static sard_status *load(const sd_mpi_api **out) {
  void *module = open_module();
  if (!module)
    return sd_status_field(SD_ERR(DEVICE, "devices 'mpi' cannot be used: %s", dlerror()), SARD_TEXT_HINT,
                           "libsard_mpi.so is built where MPI is (libopenmpi-dev); SARD_MPI names the file");
  *out = dlsym(module, SD_MPI_SYMBOL);
  if (*out && (*out)->version == SD_MPI_VERSION) return NULL;
  return SD_ERR(DEVICE, "devices 'mpi' cannot be used: libsard_mpi.so is of another version");
}

static sard_status *join(void) {
  const sd_mpi_api *api = NULL;
  int rank, ranks;
  sd_near_begin();
  SD_TRY(load(&api));
  pthread_t t;
  bool guarded = guard("start", &t);
  int bad = api->start(&rank, &ranks);
  unguard(guarded, t);
  if (bad) return SD_ERR(DEVICE, "devices 'mpi' cannot be used: MPI does not start, or not with threads");
  self.api = api;
  self.group = (sd_group){.rank = rank, .ranks = ranks, .run = sd_mpi_exchange, .fail = fail};
  on_exit(at_end, NULL);
  if (ranks < 2 || ranks > SD_MPI_RANKS)
    return sd_status_field(SD_ERR(DEVICE, "MPI has %d process%s, devices 'mpi' are 2 to %d", ranks,
                                  ranks == 1 ? "" : "es", SD_MPI_RANKS),
                           SARD_TEXT_HINT, "mpirun -np 4 sard run MODEL --devices mpi --split tensor");
  return start_watch();
}

// ---- agreeing ----

enum { TEXT = 64 };

// What is shown first, so that its length is that of all versions.
static sard_status *same_version(void) {
  char own[TEXT] = "sard-peer " SARD_VERSION_TEXT, all[SD_MPI_RANKS][TEXT];
  SD_TRY(sd_mpi_show(&self.group, own, TEXT, all));
  for (int r = 0; r < self.group.ranks; r++)
    if (r != self.group.rank && memcmp(own, all[r], TEXT) != 0)
      return SD_ERR(DEVICE, "rank %d is '%.*s', rank %d is '%s': all have to be of one version", r, TEXT - 1, all[r],
                    self.group.rank, own);
  return NULL;
}

static uint64_t hash_plan(const sd_art *a) {
  uint64_t h = sd_hash_bytes(&a->n_in, sizeof a->n_in, a->n_out);
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sd_host_op *op = a->steps[i].kind == SARD_AS_HOST ? sd_host_find(sd_art_text(a, a->steps[i].op)) : NULL;
    const char *name = sd_art_text(a, a->steps[i].name);
    if (!sd_host_exchanges(op)) continue;
    h = sd_hash_bytes(op->name, strlen(op->name), h);
    h = sd_hash_bytes(name, strlen(name), h);
  }
  return h;
}

sard_status *sd_mpi_same_plan(const sd_art *a) {
  uint64_t own = hash_plan(a), all[SD_MPI_RANKS];
  SD_TRY(sd_mpi_show(&self.group, &own, sizeof own, all));
  for (int r = 0; r < self.group.ranks; r++)
    if (r != self.group.rank && all[r] != own)
      return SD_ERR(MODEL, "rank %d has another model than rank %d, or was compiled by other options", r,
                    self.group.rank);
  return NULL;
}

sard_status *sd_mpi_agree(bool *yes) {
  char own = *yes, all[SD_MPI_RANKS];
  if (!self.api) return NULL;
  SD_TRY(sd_mpi_show(&self.group, &own, 1, all));
  if (self.group.rank) *yes = all[0] != 0;
  return NULL;
}

static sard_status *begin(void) {
  SD_TRY(join());
  return same_version();
}

sard_status *sd_mpi_join(int *rank, int *ranks) {
  if (!self.api) SD_TRY(begin());
  *rank = self.group.rank, *ranks = self.group.ranks;
  return NULL;
}
