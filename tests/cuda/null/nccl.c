// A stand-in for NCCL on the null driver, for the ranks of one process: collectives are queued in streams, and done
// when all ranks have come to them.
//
// Environment: SARD_NULL_NCCL_FAIL=ncclAllReduce:3:2,...   the third call gives error 2
//              SARD_NULL_NCCL_VERSION=22809                SARD_NULL_NCCL_COUNTS=file: at the end, how often each was
//              called
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/nccl.h"
#include "tests/cuda/null/null.h"
#include "tests/cuda/null/stand_in.h"

enum { INVALID_ARGUMENT = 4, INVALID_USAGE = 5, UNHANDLED_CUDA_ERROR = 1 };

typedef struct comm {
  uint64_t id;
  int rank, ranks;
  long calls;
  char *of; // as long as the process: what is queued names it
} comm;

static struct {
  uint64_t id;
  int ranks;
  unsigned joined;
  char of;
} cliques[4096];
static unsigned n_cliques;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int called(const char *name) { return stand_in_called(name, "SARD_NULL_NCCL_FAIL"); }

static __attribute__((destructor)) void end(void) { stand_in_counts("SARD_NULL_NCCL_COUNTS"); }

int ncclGetVersion(int *out) {
  const char *text = getenv("SARD_NULL_NCCL_VERSION");
  *out = text ? atoi(text) : 22809;
  return called("ncclGetVersion");
}

const char *ncclGetErrorString(int code) { return code ? "words of the stand-in of NCCL" : "no error"; }

int ncclGetUniqueId(sd_nccl_id *out) {
  int rc = called("ncclGetUniqueId");
  pthread_mutex_lock(&lock);
  uint64_t id = ++n_cliques;
  pthread_mutex_unlock(&lock);
  memset(out, 0, sizeof *out), memcpy(out->bytes, &id, sizeof id);
  return rc;
}

int ncclCommInitRankConfig(void **out, int ranks, sd_nccl_id id, int rank, sd_nccl_config *config) {
  int rc = called("ncclCommInitRankConfig");
  comm *c = calloc(1, sizeof *c);
  *out = NULL;
  if (!c || rc || config->magic != 0xcafebeefu || config->blocking || rank < 0 || rank >= ranks)
    return free(c), rc ? rc : INVALID_ARGUMENT;
  memcpy(&c->id, id.bytes, sizeof c->id);
  c->rank = rank, c->ranks = ranks, c->of = &cliques[c->id % 4096].of;
  pthread_mutex_lock(&lock);
  bool twice = cliques[c->id % 4096].joined >> rank & 1;
  cliques[c->id % 4096].joined |= 1u << rank, cliques[c->id % 4096].ranks = ranks;
  pthread_mutex_unlock(&lock);
  *out = c;
  return twice ? INVALID_USAGE : SD_NCCL_IN_PROGRESS;
}

int ncclCommAbort(void *p) {
  comm *c = p;
  void (*drop)(const void *of, int rank);
  *(void **)&drop = stand_in_driver("null_collect_drop");
  if (drop) drop(c->of, c->rank);
  free(c);
  return called("ncclCommAbort");
}

// In progress until all ranks have joined.
int ncclCommGetAsyncError(void *p, int *out) {
  const comm *c = p;
  pthread_mutex_lock(&lock);
  *out = cliques[c->id % 4096].joined + 1 == 1u << c->ranks ? 0 : SD_NCCL_IN_PROGRESS;
  pthread_mutex_unlock(&lock);
  return called("ncclCommGetAsyncError");
}

int ncclGroupStart(void) { return called("ncclGroupStart"); }
int ncclGroupEnd(void) { return called("ncclGroupEnd"); }

#define EACH(type, t)                                                                                                  \
  case t:                                                                                                              \
    for (uint64_t i = 0; i < n; i++) {                                                                                 \
      type sum = 0;                                                                                                    \
      for (int r = 0; r < ranks; r++) sum += ((const type *)in[r])[i];                                                 \
      ((type *)to)[i] = sum;                                                                                           \
    }                                                                                                                  \
    break;

static void sum(int ranks, const void *const *in, uint64_t n, int type, void *to) {
  switch (type) {
    EACH(float, 7)
    EACH(double, 8)
    EACH(int32_t, 2)
    EACH(int64_t, 4)
  default:
    fprintf(stderr, "stand-in of NCCL: type %d is not summed here\n", type), abort();
  }
}

static uint64_t size_of(int type) { return type < 2 ? 1 : type < 4 || type == 7 ? 4 : type == 6 || type == 9 ? 2 : 8; }

static void reduce(int ranks, const void *const *in, void *const *out, const null_collective *c) {
  uint64_t bytes = c->in_bytes, part = c->out_bytes == bytes ? 0 : c->out_bytes;
  char *all = malloc(bytes);
  sum(ranks, in, bytes / size_of(c->type), c->type, all);
  for (int r = 0; r < ranks; r++) memcpy(out[r], all + (uint64_t)r * part, c->out_bytes);
  free(all);
}

static void gather(int ranks, const void *const *in, void *const *out, const null_collective *c) {
  for (int r = 0; r < ranks; r++)
    for (int q = 0; q < ranks; q++) memcpy((char *)out[r] + (uint64_t)q * c->in_bytes, in[q], c->in_bytes);
}

static int queue(const char *name, comm *c, null_collective of, const void *in, void *out, void *stream) {
  int (*collect)(const null_collective *c, uint64_t from, uint64_t to, void *stream);
  int rc = called(name);
  null_collective *kept = malloc(sizeof *kept); // to the end of the process
  *(void **)&collect = stand_in_driver("null_collect");
  if (rc || !kept || !collect) return free(kept), rc ? rc : UNHANDLED_CUDA_ERROR;
  of.of = c->of, of.number = c->calls++, of.rank = c->rank, of.ranks = c->ranks;
  *kept = of;
  return collect(kept, (uint64_t)(uintptr_t)in, (uint64_t)(uintptr_t)out, stream) ? UNHANDLED_CUDA_ERROR : 0;
}

int ncclAllReduce(const void *in, void *out, size_t n, int type, int op, void *c, void *stream) {
  null_collective of = {.in_bytes = n * size_of(type), .out_bytes = n * size_of(type), .type = type, .compute = reduce};
  return op ? INVALID_ARGUMENT : queue("ncclAllReduce", c, of, in, out, stream);
}

int ncclAllGather(const void *in, void *out, size_t n, int type, void *c, void *stream) {
  uint64_t ranks = (uint64_t)((comm *)c)->ranks;
  null_collective of = {
      .in_bytes = n * size_of(type), .out_bytes = n * size_of(type) * ranks, .type = type, .compute = gather};
  return queue("ncclAllGather", c, of, in, out, stream);
}

int ncclReduceScatter(const void *in, void *out, size_t n, int type, int op, void *c, void *stream) {
  uint64_t ranks = (uint64_t)((comm *)c)->ranks;
  null_collective of = {
      .in_bytes = n * size_of(type) * ranks, .out_bytes = n * size_of(type), .type = type, .compute = reduce};
  return op ? INVALID_ARGUMENT : queue("ncclReduceScatter", c, of, in, out, stream);
}
