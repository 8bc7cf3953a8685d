// Groups of threads: each rank shows the others where its tensors are, and takes what it needs from theirs.
// Between two meetings of all ranks the tensors stay where they are.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/group.h"

typedef struct meeting {
  pthread_mutex_t lock;
  pthread_cond_t all_here;
  int ranks, here;
  uint64_t number; // of meetings that have ended
  int failed;      // rank + 1
  sd_collective shown[];
} meeting;

typedef struct member {
  sd_group group;
  meeting *m;
} member;

static sard_status *broken(const meeting *m) {
  return SD_ERR(CANCELLED, "device %d of %d has failed", m->failed, m->ranks);
}

// Returns when all ranks are here. Who comes last lets the others go.
static sard_status *meet(meeting *m) {
  sard_status *st = NULL;
  pthread_mutex_lock(&m->lock);
  uint64_t number = m->number;
  if (!m->failed && ++m->here == m->ranks) {
    m->here = 0, m->number++;
    pthread_cond_broadcast(&m->all_here);
  }
  while (!m->failed && m->number == number) pthread_cond_wait(&m->all_here, &m->lock);
  if (m->number == number) st = broken(m); // a meeting that all came to counts, whatever happened since
  pthread_mutex_unlock(&m->lock);
  return st;
}

static void fail(sd_group *g) {
  meeting *m = ((member *)g)->m;
  pthread_mutex_lock(&m->lock);
  if (!m->failed) m->failed = g->rank + 1;
  pthread_cond_broadcast(&m->all_here);
  pthread_mutex_unlock(&m->lock);
}

static sard_status *check_same(const meeting *m) {
  const sd_collective *a = &m->shown[0];
  for (int r = 1; r < m->ranks; r++) {
    const sd_collective *b = &m->shown[r];
    if (a->kind != b->kind || a->tag != b->tag || a->dtype != b->dtype || a->rows != b->rows ||
        a->size != b->size || a->inner != b->inner || a->unit != b->unit)
      return SD_ERR(MODEL, "device 1 is at exchange %lld of %llu elements, device %d at %lld of %llu",
                    (long long)a->tag, (unsigned long long)(a->rows * a->size * a->inner), r + 1,
                    (long long)b->tag, (unsigned long long)(b->rows * b->size * b->inner));
  }
  return NULL;
}

// Sums elements [from, from + count) of all, into `out`.
static void sum(const meeting *m, const sd_collective *c, uint64_t from, uint64_t count, void *out) {
  const void *in[64];
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  for (int r = 0; r < m->ranks; r++) in[r] = (const char *)m->shown[r].in + from * each;
  sd_group_sum(c->dtype, in, m->ranks, count, out);
}

// Each rank sums its share, and writes it to all.
static void all_reduce(const meeting *m, const sd_collective *c, sd_group *g) {
  uint64_t count = c->rows * c->size * c->inner, from = sd_share_begin(count, 1, g->rank, g->ranks),
           n = sd_share_begin(count, 1, g->rank + 1, g->ranks) - from;
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  char *own = (char *)c->out + from * each;
  sum(m, c, from, n, own);
  for (int r = 0; r < m->ranks && n; r++)
    if (r != g->rank) memcpy((char *)m->shown[r].out + from * each, own, n * each);
  g->bytes += n * each * 2 * (uint64_t)(g->ranks - 1);
}

static void all_gather(const meeting *m, const sd_collective *c, sd_group *g) {
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8 * c->inner;
  for (int r = 0; r < m->ranks; r++) {
    uint64_t from = sd_share_begin(c->size, c->unit, r, g->ranks),
             n = sd_share_begin(c->size, c->unit, r + 1, g->ranks) - from;
    const char *in = m->shown[r].in;
    for (uint64_t row = 0; n && each && row < c->rows; row++)
      memcpy((char *)c->out + (row * c->size + from) * each, in + row * n * each, n * each);
    if (r != g->rank) g->bytes += c->rows * n * each;
  }
}

static void reduce_scatter(const meeting *m, const sd_collective *c, sd_group *g) {
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  uint64_t from = sd_share_begin(c->size, c->unit, g->rank, g->ranks),
           n = (sd_share_begin(c->size, c->unit, g->rank + 1, g->ranks) - from) * c->inner;
  for (uint64_t row = 0; row < c->rows; row++)
    sum(m, c, (row * c->size + from) * c->inner, n, (char *)c->out + row * n * each);
  g->bytes += c->rows * n * each * (uint64_t)(g->ranks - 1);
}

static sard_status *run(sd_group *g, const sd_collective *c) {
  meeting *m = ((member *)g)->m;
  m->shown[g->rank] = *c;
  SD_TRY(meet(m));
  sard_status *st = check_same(m); // all find the same
  if (!st && c->kind == SD_ALL_REDUCE) all_reduce(m, c, g);
  if (!st && c->kind == SD_ALL_GATHER) all_gather(m, c, g);
  if (!st && c->kind == SD_REDUCE_SCATTER) reduce_scatter(m, c, g);
  sard_status *end = meet(m);
  if (!st) return end;
  sard_status_free(end);
  return st;
}

sd_group **sd_group_threads(int ranks) {
  sd_group **g = sd_calloc((size_t)ranks, sizeof *g);
  member *all = sd_calloc((size_t)ranks, sizeof *all);
  meeting *m = sd_calloc(1, sizeof *m + (size_t)ranks * sizeof *m->shown);
  if (!g || !all || !m) {
    sd_free(g), sd_free(all), sd_free(m);
    return NULL;
  }
  m->ranks = ranks;
  pthread_mutex_init(&m->lock, NULL);
  pthread_cond_init(&m->all_here, NULL);
  for (int r = 0; r < ranks; r++) {
    all[r] = (member){{.rank = r, .ranks = ranks, .run = run, .fail = fail}, m};
    g[r] = &all[r].group;
  }
  return g;
}

void sd_group_threads_free(sd_group **groups) {
  if (!groups) return;
  member *all = (member *)groups[0];
  pthread_cond_destroy(&all->m->all_here);
  pthread_mutex_destroy(&all->m->lock);
  sd_free(all->m), sd_free(all), sd_free(groups);
}

void sd_group_threads_reset(sd_group **groups) {
  meeting *m = ((member *)groups[0])->m;
  m->here = 0, m->failed = 0;
}
