// Groups of threads: each rank shows the others where its tensors are, and takes what it needs from theirs.
// Between two meetings of all ranks the tensors stay where they are.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/collective/meeting.h"

typedef struct member {
  sd_group group;
  sd_meeting *m;
} member;

static void fail(sd_group *g) { sd_meeting_fail(((member *)g)->m, g->rank); }

// Sums elements [from, from + count) of all, into `out`.
static void sum(const sd_meeting *m, const sd_collective *c, uint64_t from, uint64_t count, void *out) {
  const void *in[64];
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  for (int r = 0; r < m->ranks; r++) in[r] = (const char *)m->shown[r].in + from * each;
  sd_group_sum(c->dtype, in, m->ranks, count, out);
}

// Each rank sums its share, and writes it to all.
static void all_reduce(const sd_meeting *m, const sd_collective *c, sd_group *g) {
  uint64_t count = c->rows * c->size * c->inner, from = sd_share_begin(count, 1, g->rank, g->ranks),
           n = sd_share_begin(count, 1, g->rank + 1, g->ranks) - from;
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  char *own = (char *)c->out + from * each;
  sum(m, c, from, n, own);
  for (int r = 0; r < m->ranks && n; r++)
    if (r != g->rank) memcpy((char *)m->shown[r].out + from * each, own, n * each);
  g->bytes += n * each * 2 * (uint64_t)(g->ranks - 1);
}

static void all_gather(const sd_meeting *m, const sd_collective *c, sd_group *g) {
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

static void reduce_scatter(const sd_meeting *m, const sd_collective *c, sd_group *g) {
  size_t each = (size_t)sd_dtype_bits(c->dtype) / 8;
  uint64_t from = sd_share_begin(c->size, c->unit, g->rank, g->ranks),
           n = (sd_share_begin(c->size, c->unit, g->rank + 1, g->ranks) - from) * c->inner;
  for (uint64_t row = 0; row < c->rows; row++)
    sum(m, c, (row * c->size + from) * c->inner, n, (char *)c->out + row * n * each);
  g->bytes += c->rows * n * each * (uint64_t)(g->ranks - 1);
}

static sard_status *run(sd_group *g, const sd_collective *c) {
  sd_meeting *m = ((member *)g)->m;
  sard_status *st = sd_meeting_show(m, g->rank, c);
  if (sard_status_code(st) == SARD_E_CANCELLED) return st;
  if (!st && c->kind == SD_ALL_REDUCE) all_reduce(m, c, g);
  if (!st && c->kind == SD_ALL_GATHER) all_gather(m, c, g);
  if (!st && c->kind == SD_REDUCE_SCATTER) reduce_scatter(m, c, g);
  sard_status *end = sd_meeting_meet(m);
  if (!st) return end;
  sard_status_free(end);
  return st;
}

static void free_all(sd_group **groups) {
  member *all = (member *)groups[0];
  sd_meeting_free(all->m);
  sd_free(all), sd_free(groups);
}

static sard_status *reset(sd_group **groups) {
  sd_meeting_reset(((member *)groups[0])->m);
  return NULL;
}

sd_group **sd_group_threads(int ranks) {
  sd_group **g = sd_calloc((size_t)ranks, sizeof *g);
  member *all = sd_calloc((size_t)ranks, sizeof *all);
  sd_meeting *m = sd_meeting_new(ranks);
  if (!g || !all || !m) {
    sd_free(g), sd_free(all), sd_meeting_free(m);
    return NULL;
  }
  for (int r = 0; r < ranks; r++) {
    all[r] = (member){{.rank = r, .ranks = ranks, .run = run, .fail = fail, .reset = reset, .free = free_all}, m};
    g[r] = &all[r].group;
  }
  return g;
}
