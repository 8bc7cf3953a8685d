// Ctrl-C: a run is cancelled, a file that is being written is finished or removed, everything else ends at once.
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "frontend/cli/cli.h"
#include "runtime/base/thread.h"
#include "runtime/collective/mpi.h"
#include "runtime/collective/mpi_near.h"

static _Atomic(sard_session *) running;
static atomic_int holds;
static _Atomic(int64_t) deadline, asked_at; // 0: not
enum { AGAIN_NS = 200000000 }; // of two signals closer than this, as timeout(1) sends them, the second is not a second wish

void sd_stop_say(void) {
  static const char text[] = "interrupted\n";
  static atomic_int said;
  if (!atomic_exchange(&said, 1) && write(2, text, sizeof text - 1) < 0) { /* nothing can be done */
  }
}

// Under mpirun the signal may be what it sends to all when one has died.
static _Noreturn void leave(void) {
  if (sd_near_tell(false)) _exit(SARD_E_DEVICE);
  sd_stop_say();
  _exit(130);
}

static void on_interrupt(int signal) {
  (void)signal;
  sard_session *s = atomic_load(&running);
  int64_t now = sd_now_ns(), none = 0;
  bool first = atomic_compare_exchange_strong(&asked_at, &none, now);
  if (!first && now - atomic_load(&asked_at) < AGAIN_NS) return;
  if (!first && !atomic_load(&holds)) leave(); // the second time: do not wait for the run
  if (s && !sd_mpi_group()) sard_session_cancel(s); // a rank may wait for one that is gone
  else if (!atomic_load(&holds))
    leave();
}

void sd_stop_install(void) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = on_interrupt;
  a.sa_flags = SA_RESTART;
  sigaction(SIGINT, &a, NULL);
  sigaction(SIGTERM, &a, NULL);
  a.sa_handler = SIG_IGN; // a closed pipe shows as a failed write
  sigaction(SIGPIPE, &a, NULL);
}

void sd_stop_session(sard_session *s) { atomic_store(&running, s); }
void sd_stop_hold(void) { atomic_fetch_add(&holds, 1); }
void sd_stop_release(void) {
  if (atomic_fetch_sub(&holds, 1) == 1 && atomic_load(&asked_at)) leave();
}
void sd_stop_at(int64_t ns) { atomic_store(&deadline, ns); }
bool sd_stop_asked(void) {
  int64_t end = atomic_load(&deadline);
  return atomic_load(&asked_at) != 0 || (end && sd_now_ns() >= end);
}
sard_status *sd_stop_check(void) { return sd_stop_asked() ? SD_ERR(CANCELLED, "interrupted") : NULL; }
