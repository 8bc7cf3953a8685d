#include "runtime/cuda/group.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/collective/meeting.h"
#include "runtime/cuda/peer.h"

typedef struct shared shared;
typedef struct member {
  sd_group group;
  shared *all;
  sard_session *s;
  uint64_t from;       // address of what it shows
  uint64_t peer_bytes; // part of group.bytes
  void *ready, *taken; // events: that is written; others' parts are read
} member;

struct shared {
  sd_meeting *m;
  sd_group **host, **list; // ranks on the host; these
  bool reach;              // all GPUs reach each other
  member at[];
};

static member *of(const sd_group *g) { return (member *)(uintptr_t)g; }

static sard_status *check(const member *x, int code, const char *what) {
  return sd_cu_check(x->s->cu->device->api, code, what);
}

// ---- from memory to memory ----

// The share of rank r, at its place in `to`, of the whole.
static sard_status *copy_share(const member *x, const sd_collective *c, int r, uint64_t to) {
  const member *y = &x->all->at[r];
  const sd_cu_device *own = x->s->cu->device, *its = y->s->cu->device;
  uint64_t each = (uint64_t)sd_dtype_bits(c->dtype) / 8 * c->inner;
  uint64_t begin = sd_share_begin(c->size, c->unit, r, x->group.ranks),
           n = (sd_share_begin(c->size, c->unit, r + 1, x->group.ranks) - begin) * each;
  sd_cu_rows rows = {.from_type = SD_CU_UNIFIED,
                     .from = y->from,
                     .from_pitch = n,
                     .to_type = SD_CU_UNIFIED,
                     .to = to + begin * each,
                     .to_pitch = c->size * each,
                     .width = n,
                     .height = c->rows};
  if (!n || !c->rows) return NULL;
  if (c->rows > 1) return check(x, own->api->copy_rows(&rows, x->s->cu->stream), "copying rows from another device");
  if (x == y) return check(x, own->api->copy(rows.to, rows.from, n, x->s->cu->stream), "copying on the device");
  return check(x, own->api->copy_peer(rows.to, own->context, rows.from, its->context, n, x->s->cu->stream),
               "copying from another device");
}

static sard_status *copy_shares(member *x, const sd_collective *c, uint64_t to) {
  for (int r = 0; r < x->group.ranks; r++) {
    if (r != x->group.rank) SD_TRY(sd_cu_after(x->s, x->all->at[r].ready));
    SD_TRY(copy_share(x, c, r, to));
  }
  return sd_cu_mark(x->s, &x->taken);
}

// Nobody goes on to overwrite what others still copy.
static sard_status *gather(member *x, const sd_collective *c, uint64_t to) {
  SD_TRY(sd_cu_mark(x->s, &x->ready));
  SD_TRY(sd_meeting_show(x->all->m, x->group.rank, c));
  SD_TRY(copy_shares(x, c, to));
  SD_TRY(sd_meeting_meet(x->all->m));
  for (int r = 0; r < x->group.ranks; r++)
    if (r != x->group.rank) SD_TRY(sd_cu_after(x->s, x->all->at[r].taken));
  return NULL;
}

// ---- exchanges ----

static sard_status *over_host(member *x, const sd_collective *c, uint32_t in, uint32_t out) {
  sd_group *host = x->all->host[x->group.rank];
  SD_TRY(sd_cu_to_host(x->s, in));
  SD_TRY(host->run(host, c));
  x->s->cu->valid[out] = SD_CU_HOST;
  x->group.bytes += host->bytes;
  host->bytes = 0;
  return NULL;
}

static sard_status *run(sd_group *g, const sd_collective *c) {
  member *x = of(g);
  sd_cu_session *cu = x->s->cu;
  const sd_art *a = &x->s->model->art;
  const sard_art_step *t = &a->steps[cu->exchange];
  uint32_t in = a->lists[t->bufs], out = a->lists[t->bufs + 1];
  if (!x->all->reach || c->kind != SD_ALL_GATHER) return over_host(x, c, in, out);
  SD_TRY(sd_cu_to_device(x->s, in));
  cu->valid[out] = 0;
  SD_TRY(sd_cu_to_device(x->s, out)); // its memory
  x->from = cu->at[in];
  SD_TRY(gather(x, c, cu->at[out]));
  cu->valid[out] = SD_CU_DEVICE;
  uint64_t each = (uint64_t)sd_dtype_bits(c->dtype) / 8 * c->inner * c->rows,
           own = sd_share_begin(c->size, c->unit, g->rank + 1, g->ranks) -
                 sd_share_begin(c->size, c->unit, g->rank, g->ranks);
  g->bytes += (c->size - own) * each, x->peer_bytes += (c->size - own) * each;
  return NULL;
}

static void fail(sd_group *g) {
  member *x = of(g);
  sd_meeting_fail(x->all->m, g->rank);
  x->all->host[g->rank]->fail(x->all->host[g->rank]);
}

// ---- making ----

static sard_status *reset(sd_group **groups) {
  shared *all = of(groups[0])->all;
  sd_meeting_reset(all->m);
  return all->host[0]->reset(all->host);
}

static void free_all(sd_group **groups) {
  shared *all = of(groups[0])->all;
  for (int r = 0; r < all->at[0].group.ranks; r++) {
    sd_cu_forget(all->at[r].s, &all->at[r].ready);
    sd_cu_forget(all->at[r].s, &all->at[r].taken);
  }
  if (all->host) all->host[0]->free(all->host);
  sd_meeting_free(all->m);
  sd_free(all->list);
  sd_free(all);
}

static sard_status *find_reach(shared *all, int n) {
  all->reach = true;
  for (int r = 0; r < n; r++)
    for (int q = 0; q < n && all->reach; q++)
      SD_TRY_MSG(sd_cu_reach(all->at[r].s->cu->device, all->at[q].s->cu->device, &all->reach), "device cuda:%d",
                 all->at[r].s->cu->device->ordinal);
  return NULL;
}

sard_status *sd_cu_groups_new(sard_session *const *ranks, int n, sd_group ***out) {
  shared *all = sd_calloc(1, sizeof *all + (size_t)n * sizeof *all->at);
  sd_group **list = sd_calloc((size_t)n, sizeof *list);
  *out = NULL;
  if (!all || !list) {
    sd_free(all), sd_free(list);
    return SD_ERR(NOMEM, "out of memory for %d devices", n);
  }
  all->list = list;
  for (int r = 0; r < n; r++) {
    all->at[r] =
        (member){{.rank = r, .ranks = n, .on_device = true, .run = run, .fail = fail, .reset = reset, .free = free_all},
                 .all = all,
                 .s = ranks[r]};
    list[r] = &all->at[r].group;
  }
  all->m = sd_meeting_new(n), all->host = sd_group_threads(n);
  sard_status *st = all->m && all->host ? find_reach(all, n) : SD_ERR(NOMEM, "out of memory for %d devices", n);
  if (st) free_all(list);
  else
    *out = list;
  return st;
}

// ---- what they are ----

const char *sd_cu_group_transport(const sd_group *g) {
  return of(g)->all->reach ? "peer-to-peer, sums through pinned memory" : "pinned memory";
}
const char *sd_cu_group_why(const sd_group *g) { return (void)g, NULL; }
uint64_t sd_cu_group_peer_bytes(const sd_group *g) { return of(g)->peer_bytes; }
void sd_cu_group_forget(sd_group *g) { of(g)->peer_bytes = 0; }
bool sd_cu_group_waits(const sard_session *s) { return (void)s, false; }
sard_status *sd_cu_group_poll(const sard_session *s, void *event, const char *what) {
  return (void)s, (void)event, (void)what, NULL;
}
