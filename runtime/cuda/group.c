#include "runtime/cuda/group.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/meeting.h"
#include "runtime/cuda/nccl.h"
#include "runtime/cuda/peer.h"

#define START_NS (30 * INT64_C(1000000000)) // that communicators may take to start
#define ABORT_NS (5 * INT64_C(1000000000))  // that work may take to end when its communicator is aborted

typedef struct shared shared;
typedef struct member {
  sd_group group;
  shared *all;
  sard_session *s;
  uint64_t from;       // address of what it shows
  uint64_t peer_bytes; // part of group.bytes
  void *ready, *taken; // events: that is written; others' parts are read
  void *comm;          // NULL: without NCCL, or aborted
} member;

struct shared {
  sd_meeting *m;
  sd_group **host, **list; // ranks on the host; these
  bool reach;              // all GPUs reach each other
  const sd_nccl_api *nccl; // NULL: it is not there, for the reason of why
  char why[SD_NCCL_WHY], transport[64];
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

// ---- by NCCL ----

static void wait_a_little(void) { nanosleep(&(struct timespec){0, 20000}, NULL); }

static void abort_comm(member *x) {
  if (!x->comm) return;
  sd_cu_return(x->s->cu->device);
  x->all->nccl->drop(x->comm);
  x->comm = NULL;
}

// Calls begin and go on by themselves: returns when this one is queued.
static sard_status *begun(member *x, int code, const char *call, int64_t deadline) {
  const sd_nccl_api *f = x->all->nccl;
  int state = code;
  while (state == SD_NCCL_IN_PROGRESS) {
    if (f->async_error(x->comm, &state) != 0 || state != SD_NCCL_IN_PROGRESS) break;
    SD_TRY(sd_meeting_failed(x->all->m));
    if (sd_now_ns() > deadline) return SD_ERR(DEVICE, "%s does not come to its end", call);
    wait_a_little();
  }
  return sd_nccl_check(f, state, call);
}

// All communicators anew. Their calls belong together, so that one thread can make them.
static sard_status *start_comms(shared *all) {
  const sd_nccl_api *f = all->nccl;
  sd_nccl_id id;
  int n = all->at[0].group.ranks, code = 0, last = -1;
  for (int r = 0; r < n; r++) abort_comm(&all->at[r]);
  SD_TRY(sd_nccl_check(f, f->unique_id(&id), "ncclGetUniqueId"));
  SD_TRY(sd_nccl_check(f, f->group_start(), "ncclGroupStart"));
  sard_status *st = NULL;
  for (int r = 0; r < n && !st && (!code || code == SD_NCCL_IN_PROGRESS); r++) {
    sd_nccl_config config = SD_NCCL_CONFIG;
    last = r;
    st = sd_cu_enter(all->at[r].s->cu->device);
    if (!st) code = f->init(&all->at[r].comm, n, id, r, &config);
  }
  int ended = f->group_end();
  if (!st) st = sd_nccl_check(f, code, "ncclCommInitRankConfig");
  if (!st) st = sd_nccl_check(f, ended, "ncclGroupEnd");
  int64_t deadline = sd_now_ns() + START_NS;
  for (int r = 0; r < n && !st; r++)
    st = begun(&all->at[r], SD_NCCL_IN_PROGRESS, "ncclCommInitRankConfig", deadline), last = r;
  return sd_status_context(st, "device cuda:%d", all->at[last].s->cu->device->ordinal);
}

// Parts lie one behind the other, and are of one size.
static bool is_even(const sd_collective *c, int ranks) {
  return c->kind == SD_ALL_REDUCE ||
         (c->rows == 1 && c->unit && c->size % c->unit == 0 && c->size / c->unit % (uint64_t)ranks == 0);
}

static sard_status *queue_call(member *x, const sd_collective *c, uint64_t to) {
  const sd_nccl_api *f = x->all->nccl;
  uint64_t count = c->rows * c->size * c->inner, part = count / (uint64_t)x->group.ranks;
  const void *in = (const void *)(uintptr_t)x->from;
  void *out = (void *)(uintptr_t)to, *stream = x->s->cu->stream;
  int type = sd_nccl_type(c->dtype);
  int64_t deadline = sd_now_ns() + START_NS;
  SD_TRY(sd_cu_enter(x->s->cu->device));
  SD_TRY(sd_cu_busy_end(x->s)); // the call waits for the others
  if (c->kind == SD_ALL_REDUCE)
    return begun(x, f->all_reduce(in, out, count, type, SD_NCCL_SUM, x->comm, stream), "ncclAllReduce", deadline);
  if (c->kind == SD_ALL_GATHER)
    return begun(x, f->all_gather(in, out, part, type, x->comm, stream), "ncclAllGather", deadline);
  return begun(x, f->reduce_scatter(in, out, part, type, SD_NCCL_SUM, x->comm, stream), "ncclReduceScatter", deadline);
}

// A rank that cannot queue its call says so before others wait for it on their devices.
static sard_status *by_nccl(member *x, const sd_collective *c, uint64_t to) {
  SD_TRY(sd_meeting_show(x->all->m, x->group.rank, c));
  if (c->rows && c->size && c->inner) SD_TRY(queue_call(x, c, to));
  return sd_meeting_meet(x->all->m);
}

bool sd_cu_group_waits(const sard_session *s) { return s->group && s->group->on_device && of(s->group)->all->nccl; }

sard_status *sd_cu_group_poll(const sard_session *s, void *event, const char *what) {
  member *x = of(s->group);
  const sd_cu_api *f = s->cu->device->api;
  int code, state = 0;
  for (int64_t end = 0;;) {
    code = event ? f->event_query(event) : f->stream_query(s->cu->stream);
    if (code != 0 && code != SD_CU_NOT_READY) abort_comm(x); // nobody waits for what is queued any more
    if (code != SD_CU_NOT_READY) return sd_cu_check(f, code, what);
    sard_status *failed = sd_meeting_failed(x->all->m);
    if (!failed && x->comm && x->all->nccl->async_error(x->comm, &state) == 0 && state)
      failed = sd_nccl_check(x->all->nccl, state, "ncclCommGetAsyncError");
    if (failed) abort_comm(x);
    if (failed && !end) end = sd_now_ns() + ABORT_NS;
    if (failed && sd_now_ns() > end) return failed;
    sard_status_free(failed);
    wait_a_little();
  }
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
  bool nccl = x->all->nccl && sd_nccl_type(c->dtype) >= 0 && is_even(c, g->ranks);
  if (!nccl && (!x->all->reach || c->kind != SD_ALL_GATHER)) return over_host(x, c, in, out);
  SD_TRY(sd_cu_to_device(x->s, in));
  cu->valid[out] = 0;
  SD_TRY(sd_cu_to_device(x->s, out)); // its memory
  x->from = cu->at[in];
  SD_TRY(nccl ? by_nccl(x, c, cu->at[out]) : gather(x, c, cu->at[out]));
  cu->valid[out] = SD_CU_DEVICE;
  uint64_t each = (uint64_t)sd_dtype_bits(c->dtype) / 8 * c->inner * c->rows;
  if (c->kind != SD_ALL_GATHER) { // as a ring does it
    uint64_t bytes =
        c->size * each / (uint64_t)g->ranks * (uint64_t)(g->ranks - 1) * (c->kind == SD_ALL_REDUCE ? 2 : 1);
    g->bytes += bytes, x->peer_bytes += bytes;
    return NULL;
  }
  uint64_t own =
      sd_share_begin(c->size, c->unit, g->rank + 1, g->ranks) - sd_share_begin(c->size, c->unit, g->rank, g->ranks);
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
  bool aborted = false;
  sd_meeting_reset(all->m);
  for (int r = 0; all->nccl && r < all->at[0].group.ranks; r++) aborted |= !all->at[r].comm;
  if (aborted) SD_TRY(start_comms(all));
  return all->host[0]->reset(all->host);
}

static void free_all(sd_group **groups) {
  shared *all = of(groups[0])->all;
  for (int r = 0; r < all->at[0].group.ranks; r++) {
    abort_comm(&all->at[r]);
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

static sard_status *find_ways(shared *all, int n) {
  if (!all->m || !all->host) return SD_ERR(NOMEM, "out of memory for %d devices", n);
  SD_TRY(find_reach(all, n));
  all->nccl = sd_nccl_open(all->why);
  if (!all->nccl) return NULL;
  int v = all->nccl->version;
  snprintf(all->transport, sizeof all->transport, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
  return start_comms(all);
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
  sard_status *st = find_ways(all, n);
  if (st) free_all(list);
  else
    *out = list;
  return st;
}

// ---- what they are ----

const char *sd_cu_group_transport(const sd_group *g) {
  const shared *all = of(g)->all;
  if (all->nccl) return all->transport;
  return all->reach ? "peer-to-peer, sums through pinned memory" : "pinned memory";
}
const char *sd_cu_group_why(const sd_group *g) { return of(g)->all->nccl ? NULL : of(g)->all->why; }
uint64_t sd_cu_group_peer_bytes(const sd_group *g) { return of(g)->peer_bytes; }
void sd_cu_group_forget(sd_group *g) { of(g)->peer_bytes = 0; }
