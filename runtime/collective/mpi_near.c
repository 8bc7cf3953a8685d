// Who of this machine is there, by sockets that nobody accepts.
#include "runtime/collective/mpi_near.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/collective/mpi_inside.h"

enum { UNSEEN, THERE, ENDED, GONE }; // ENDED: by itself
enum { SOON = 3, LATER = 5 };        // seconds that mpirun has: it needs 1 to 2 itself
enum { MOST_FILES = 1024 };
enum { PIDFD_SEND_SIGNAL = 424, PIDFD_OPEN = 434 }; // of Linux 5.3, on all machines; headers may be older

static struct {
  int socket, own, ranks, parent; // parent: mpirun or its daemon, as a file; -1: it cannot be had
  bool alone;                     // all ranks are of this machine
  uint64_t run;
  int link[SD_MPI_RANKS]; // to the socket of each that is there
  _Atomic char state[SD_MPI_RANKS];
} self = {.socket = -1, .parent = -1};

static socklen_t address(int rank, struct sockaddr_un *a) {
  *a = (struct sockaddr_un){.sun_family = AF_UNIX}; // a name that begins with 0 is of no file
  int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "sard-%016llx-%d", (unsigned long long)self.run,
                   rank);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int number(const char *name) {
  const char *text = getenv(name);
  return text ? atoi(text) : -1;
}

void sd_near_begin(void) {
  const char *job = getenv("PMIX_NAMESPACE"), *server = getenv("PMIX_SERVER_TMPDIR");
  struct sockaddr_un a;
  int own = number("OMPI_COMM_WORLD_RANK"), ranks = number("OMPI_COMM_WORLD_SIZE");
  if (!job || !server || self.socket >= 0 || own < 0 || own >= ranks || ranks > SD_MPI_RANKS) return;
  self.run = sd_hash_bytes(job, strlen(job), sd_hash_bytes(server, strlen(server), 0));
  self.own = own, self.ranks = ranks, self.alone = number("OMPI_COMM_WORLD_LOCAL_SIZE") == ranks;
  self.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socklen_t n = address(own, &a);
  if (self.socket >= 0 && bind(self.socket, (struct sockaddr *)&a, n) == 0 &&
      listen(self.socket, SD_MPI_RANKS) == 0) {
    self.parent = (int)syscall(PIDFD_OPEN, getppid(), 0);
    atexit(sd_near_end);
    return;
  }
  if (self.socket >= 0) close(self.socket);
  self.socket = -1;
}

// Nobody accepts: a connection waits, and breaks when the other process ends.
static bool reach(int r) {
  struct sockaddr_un a;
  socklen_t n = address(r, &a);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  if (connect(fd, (struct sockaddr *)&a, n) != 0) {
    close(fd);
    return false;
  }
  self.link[r] = fd;
  return true;
}

static char state_of(int r) {
  char word;
  ssize_t n = recv(self.link[r], &word, 1, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return THERE;
  close(self.link[r]);
  return n > 0 ? ENDED : GONE;
}

void sd_near_look(void) {
  for (int r = 0; self.socket >= 0 && r < self.ranks; r++) {
    if (r == self.own) continue;
    if (self.state[r] == UNSEEN && reach(r)) self.state[r] = THERE;
    if (self.state[r] == THERE) self.state[r] = state_of(r);
  }
}

void sd_near_end(void) {
  if (self.socket < 0) return;
  for (int fd; (fd = accept(self.socket, NULL, NULL)) >= 0;)
    if (send(fd, "", 1, MSG_NOSIGNAL) < 0) close(fd); // it has ended, too
  close(self.socket);
  self.socket = -1;
}

// ---- telling ----

static bool is_stopped(int r) {
  struct ucred who;
  socklen_t n = sizeof who;
  char path[32], text[256];
  if (getsockopt(self.link[r], SOL_SOCKET, SO_PEERCRED, &who, &n) != 0) return false;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)who.pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  char *name_end = bytes > 0 ? (text[bytes] = 0, strrchr(text, ')')) : NULL;
  return name_end && name_end[1] && name_end[2] == 'T';
}

static size_t put(char *to, const char *text) { return strlen(strcpy(to, text)); }

static size_t put_number(char *to, int v) { // of a rank: a handler of signals formats no text
  size_t n = 0;
  if (v >= 10) to[n++] = (char)('0' + v / 10);
  to[n++] = (char)('0' + v % 10);
  return n;
}

// A process of its own, which ends mpirun where that does not end: its library (PMIx 4.2) uses freed memory,
// and may wait for a lock in it for ever, when a rank has died while it joined. Handlers come here, so no
// lock is taken.
static void see_to_end(int seconds) {
  struct pollfd parent = {self.parent, POLLIN, 0};
  sigset_t all;
  if (self.parent < 0 || syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L) != 0) return;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  setsid(); // mpirun ends the groups of its ranks
  for (int fd = 0; fd < MOST_FILES; fd++)
    if (fd != self.parent) close(fd); // what others wait for
  if (poll(&parent, 1, seconds * 1000) == 0) syscall(PIDFD_SEND_SIGNAL, self.parent, SIGKILL, NULL, 0);
  _exit(0);
}

static void tell(int r, const char *what) {
  char text[80];
  size_t n = put(text, "sard: error: rank ");
  n += put_number(text + n, r);
  n += put(text + n, " of ");
  n += put_number(text + n, self.ranks);
  n += put(text + n, what);
  if (write(2, text, n) < 0) { /* nothing can be done */
  }
}

bool sd_near_tell(bool stopped) {
  struct timespec a_moment = {0, 100 * 1000000L};
  int lost = -1, halted = -1, first = self.own;
  for (int r = self.socket < 0 ? 0 : self.ranks; r-- > 0;) {
    char state = r == self.own ? ENDED : self.state[r];
    bool worse = state == GONE || lost < 0 || self.state[lost] == UNSEEN;
    if ((state == GONE || (state == UNSEEN && self.alone)) && worse) lost = r;
    if (stopped && state == THERE && is_stopped(r)) halted = r;
    else if (state == THERE && r < first)
      first = r;
  }
  bool any = lost >= 0 || halted >= 0;
  if (any && first == self.own) {
    tell(lost < 0 ? halted : lost, lost < 0                     ? " is stopped\n"
                                   : self.state[lost] == UNSEEN ? " is gone, or has not started\n"
                                                                : " is gone\n");
    see_to_end(stopped ? SOON : LATER);
  }
  if (self.socket >= 0) nanosleep(&a_moment, NULL);
  return any;
}
