// The module that knows MPI: libsard_mpi.so.
#include <mpi.h>
#include <stdlib.h>

#include "runtime/collective/mpi_api.h"

static MPI_Comm comm[SD_MPI_CHANNELS];

static int start(int *rank, int *ranks) {
  int level = 0;
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS || level < MPI_THREAD_MULTIPLE)
    return -1;
  for (int c = 0; c < SD_MPI_CHANNELS; c++) {
    if (MPI_Comm_dup(MPI_COMM_WORLD, &comm[c]) != MPI_SUCCESS) return -1;
    MPI_Comm_set_errhandler(comm[c], MPI_ERRORS_RETURN);
  }
  return MPI_Comm_rank(MPI_COMM_WORLD, rank) != MPI_SUCCESS ||
         MPI_Comm_size(MPI_COMM_WORLD, ranks) != MPI_SUCCESS;
}

// Counts of MPI are ints: longer messages have parts.
enum { PART = 1 << 30 };
typedef struct request {
  int n;
  MPI_Request at[];
} request;

static int begin(sd_mpi_channel c, void *data, uint64_t bytes, int peer, void **out, int sends) {
  uint64_t n = bytes / PART + 1, at = 0;
  request *r = malloc(sizeof *r + n * sizeof *r->at);
  *out = NULL;
  if (!r) return -1;
  for (r->n = 0; r->n < (int)n; r->n++, at += PART) {
    char *p = (char *)data + at;
    int count = bytes - at < PART ? (int)(bytes - at) : PART;
    int bad = sends ? MPI_Isend(p, count, MPI_BYTE, peer, 0, comm[c], &r->at[r->n])
                    : MPI_Irecv(p, count, MPI_BYTE, peer, 0, comm[c], &r->at[r->n]);
    if (bad != MPI_SUCCESS) return -1; // the run ends: what has begun is left
  }
  *out = r;
  return 0;
}

static int send_bytes(sd_mpi_channel c, const void *data, uint64_t bytes, int to, void **out) {
  return begin(c, (void *)(uintptr_t)data, bytes, to, out, 1);
}
static int receive(sd_mpi_channel c, void *data, uint64_t bytes, int from, void **out) {
  return begin(c, data, bytes, from, out, 0);
}

static int ended(void **p) {
  request *r = *p;
  int done = 1;
  if (!r) return 1;
  if (MPI_Testall(r->n, r->at, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) return -1;
  if (done) free(r), *p = NULL;
  return done;
}

static void drop(void **p) {
  request *r = *p;
  for (int i = 0; r && i < r->n; i++)
    if (r->at[i] != MPI_REQUEST_NULL) MPI_Cancel(&r->at[i]), MPI_Request_free(&r->at[i]);
  free(r), *p = NULL;
}

static void leave(void) { MPI_Finalize(); }
static void end_all(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

extern const sd_mpi_api sard_mpi;
__attribute__((visibility("default")))
const sd_mpi_api sard_mpi = {SD_MPI_VERSION, start, send_bytes, receive, ended, drop, leave, end_all};
