// Groups of processes. Each exchange begins with a few numbers from everybody to everybody, so that ranks
// that are not at the same one notice; tensors go the same way, and each rank sums its share in the order of
// the ranks.
#include <sched.h>
#include <string.h>
#include <time.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/mpi.h"
#include "runtime/collective/mpi_inside.h"

enum { RANKS = SD_MPI_RANKS, EAGER_NS = 2000000 };

// ---- messages ----

typedef struct messages {
  const void *out[RANKS];
  void *in[RANKS];
  uint64_t out_bytes[RANKS], in_bytes[RANKS];
} messages;

// A message that takes long to come does not keep the processor.
static void wait_a_little(int64_t since) {
  if (sd_now_ns() - since < EAGER_NS) sched_yield();
  else
    nanosleep(&(struct timespec){0, 100000}, NULL);
}

static sard_status *wait_for(const sd_mpi_api *api, void **requests, int n) {
  int64_t since = sd_now_ns();
  for (int i = 0; i < n; i++)
    for (int done = 0; !done; wait_a_little(since)) {
      done = api->ended(&requests[i]);
      if (done < 0) return SD_ERR(DEVICE, "an exchange with another rank failed");
      if (done) break;
    }
  return NULL;
}

// To each of the other ranks and from it.
static sard_status *swap(sd_group *g, const messages *m) {
  const sd_mpi_api *api = sd_mpi_of(g);
  void *requests[2 * RANKS];
  int n = 0;
  for (int r = 0; r < g->ranks; r++) {
    if (r == g->rank) continue;
    if (m->in_bytes[r] && api->receive(SD_MPI_TENSORS, m->in[r], m->in_bytes[r], r, &requests[n++]))
      return SD_ERR(DEVICE, "rank %d cannot be received from", r);
    g->bytes += m->in_bytes[r];
  }
  for (int k = 1; k < g->ranks; k++) {
    int r = (g->rank + k) % g->ranks;
    if (m->out_bytes[r] && api->send(SD_MPI_TENSORS, m->out[r], m->out_bytes[r], r, &requests[n++]))
      return SD_ERR(DEVICE, "rank %d cannot be sent to", r);
  }
  return wait_for(api, requests, n);
}

sard_status *sd_mpi_show(sd_group *g, const void *own, uint64_t bytes, void *all) {
  messages m = {0};
  uint64_t before = g->bytes;
  for (int r = 0; r < g->ranks; r++) {
    m.out[r] = own, m.in[r] = (char *)all + (uint64_t)r * bytes;
    m.out_bytes[r] = m.in_bytes[r] = bytes;
  }
  SD_TRY(swap(g, &m));
  g->bytes = before;
  return NULL;
}

static sard_status *check_same(sd_group *g, const sd_collective *c) {
  uint64_t own[7] = {c->kind, c->dtype, (uint64_t)c->tag, c->rows, c->size, c->inner, c->unit}, all[RANKS][7];
  SD_TRY(sd_mpi_show(g, own, sizeof own, all));
  for (int r = 0; r < g->ranks; r++)
    if (r != g->rank && memcmp(own, all[r], sizeof own) != 0)
      return SD_ERR(
          MODEL,
          "rank %d is at exchange %lld of %llu elements, rank %d at %lld of %llu: they run different models",
          g->rank, (long long)c->tag, (unsigned long long)(c->rows * c->size * c->inner), r,
          (long long)all[r][2], (unsigned long long)(all[r][3] * all[r][4] * all[r][5]));
  return NULL;
}

// ---- exchanges ----

static uint64_t share(const sd_group *g, const sd_collective *c, int rank, uint64_t *from) {
  *from = sd_share_begin(c->size, c->unit, rank, g->ranks);
  return sd_share_begin(c->size, c->unit, rank + 1, g->ranks) - *from;
}

// Rows of `whole` and those of a rank's share, one behind the other.
static void copy_share(const sd_group *g, const sd_collective *c, int rank, char *whole, char *part,
                       bool out) {
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8 * c->inner;
  uint64_t from, n = share(g, c, rank, &from) * each;
  for (uint64_t row = 0; row < c->rows && n; row++) {
    char *at = whole + (row * c->size + from) * each;
    memcpy(out ? part + row * n : at, out ? at : part + row * n, n);
  }
}

// Where the parts of all ranks begin in a buffer for them; its size.
static uint64_t places(const sd_group *g, const sd_collective *c, uint64_t *at) {
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8 * c->inner * c->rows;
  uint64_t from, total = 0;
  for (int r = 0; r < g->ranks; r++) at[r] = total, total += share(g, c, r, &from) * each;
  at[g->ranks] = total;
  return total;
}

// The rank's share of the sum of all, into `out`.
static sard_status *sum_share(sd_group *g, const sd_collective *c, void *out) {
  uint64_t at[RANKS + 1], bytes = places(g, c, at), own = at[g->rank + 1] - at[g->rank];
  char *room = sd_malloc(bytes + own * (uint64_t)g->ranks + 1), *parts = room + bytes;
  const void *in[RANKS];
  messages m = {0};
  if (!room) return SD_ERR(NOMEM, "out of memory for an exchange of %llu bytes", (unsigned long long)bytes);
  for (int r = 0; r < g->ranks; r++) {
    copy_share(g, c, r, (char *)(uintptr_t)c->in, room + at[r], true);
    m.out[r] = room + at[r], m.out_bytes[r] = at[r + 1] - at[r];
    m.in[r] = parts + own * (uint64_t)r, m.in_bytes[r] = own;
    in[r] = r == g->rank ? room + at[r] : m.in[r];
  }
  sard_status *st = swap(g, &m);
  if (!st) sd_group_sum(c->dtype, in, g->ranks, own / ((size_t)sd_dtype_bits(c->dtype) / 8), out);
  sd_free(room);
  return st;
}

// The whole of what each has a share of.
static sard_status *gather(sd_group *g, const sd_collective *c, const void *own) {
  uint64_t at[RANKS + 1], bytes = places(g, c, at);
  char *room = sd_malloc(bytes + 1);
  messages m = {0};
  if (!room) return SD_ERR(NOMEM, "out of memory for an exchange of %llu bytes", (unsigned long long)bytes);
  for (int r = 0; r < g->ranks; r++) {
    m.out[r] = own, m.out_bytes[r] = at[g->rank + 1] - at[g->rank];
    m.in[r] = room + at[r], m.in_bytes[r] = at[r + 1] - at[r];
  }
  sard_status *st = swap(g, &m);
  for (int r = 0; r < g->ranks && !st; r++)
    copy_share(g, c, r, c->out, r == g->rank ? (char *)(uintptr_t)own : room + at[r], false);
  sd_free(room);
  return st;
}

static sard_status *all_reduce(sd_group *g, const sd_collective *c) {
  sd_collective flat = *c; // cut anywhere
  flat.size = c->rows * c->size * c->inner, flat.rows = flat.inner = flat.unit = 1;
  uint64_t from, n = share(g, &flat, g->rank, &from);
  char *sum = sd_malloc(n * (size_t)sd_dtype_bits(c->dtype) / 8 + 1);
  if (!sum) return SD_ERR(NOMEM, "out of memory for an exchange of %llu elements", (unsigned long long)n);
  sard_status *st = sum_share(g, &flat, sum);
  if (!st) st = gather(g, &flat, sum);
  sd_free(sum);
  return st;
}

sard_status *sd_mpi_exchange(sd_group *g, const sd_collective *c) {
  SD_TRY(check_same(g, c));
  if (c->kind == SD_ALL_REDUCE) return all_reduce(g, c);
  return c->kind == SD_ALL_GATHER ? gather(g, c, c->in) : sum_share(g, c, c->out);
}
