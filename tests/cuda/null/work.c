// Streams and events: work is queued, and done when the host waits.
#include "tests/cuda/null/null.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNREAD 0xa5 // what the destination of a copy holds until the copy is done
enum { MAX_STREAMS = 4096, TIMED_OFF = 2, NON_BLOCKING = 1, PATIENCE_MS = 20000, TIMED_OUT = 702 };

struct null_event {
  null_object object;
  unsigned flags;
  uint32_t id; // of the work that records it, 0: none
  const null_stream *stream;
  bool done, captured;
  int64_t ns;
};

static null_stream *streams[MAX_STREAMS]; // the first MAX_DEVICES: the null streams
static uint32_t n_streams = MAX_DEVICES;
// By id of the work: stream, and the id that was next when the host had waited for it (0: it has not).
static const null_stream **work_stream;
static uint32_t *work_waited, n_work = 1;
static bool *work_done; // or forgotten
static long launches;
static int64_t skew_ns; // of the clock that events read
null_now work_now;

long work_launches(bool forget) {
  long n = launches;
  if (forget) launches = 0;
  return n;
}

// ---- queues ----
static uint64_t thread_number(void) { return (uint64_t)pthread_self(); }

static void init_stream(null_stream *s) { s->end = &s->first; }

// The stream of a call; NULL is the null stream of the thread's device.
static null_stream *stream_of(void *handle) {
  static null_stream null_streams[MAX_DEVICES];
  int d = null_device();
  if (handle) {
    null_stream *s = null_object_find(handle, STREAM);
    if (s && s->object.device != d)
      null_finding("stream %u of device %d is used in the context of device %d", s->object.number, s->object.device, d);
    return s;
  }
  if (!streams[d]) {
    streams[d] = &null_streams[d];
    streams[d]->object = (null_object){STREAM, d, 0, false, NULL};
    init_stream(streams[d]);
  }
  return streams[d];
}

static uint64_t hash(const void *p, uint64_t bytes) {
  uint64_t h = 14695981039346656037ull;
  for (uint64_t i = 0; i < bytes; i++) h = (h ^ ((const uint8_t *)p)[i]) * 1099511628211ull;
  return h;
}

static void free_work(null_work *w) { // memory goes also when the device has failed
  work_done[w->id] = true;
  if (w->kind == END) memory_end(w->to);
  free(w->words);
  free(w);
}

static null_work *take_first(null_stream *s) {
  null_work *w = s->first;
  s->first = w->next;
  if (!s->first) s->end = &s->first;
  return w;
}

static void note_issued(null_stream *s, uint32_t id) {
  if ((s->n_issued & (s->n_issued + 1)) == 0) s->issued = realloc(s->issued, (2 * s->n_issued + 2) * sizeof *s->issued);
  if ((id & (id - 1)) == 0) { // a power of two: room up to the next one
    work_stream = realloc(work_stream, 2 * (size_t)id * sizeof *work_stream);
    work_waited = realloc(work_waited, 2 * (size_t)id * sizeof *work_waited);
    work_done = realloc(work_done, 2 * (size_t)id * sizeof *work_done);
  }
  if (!s->issued || !work_stream || !work_waited || !work_done) abort();
  s->issued[s->n_issued++] = id;
  work_stream[id] = s, work_waited[id] = 0, work_done[id] = false;
}

static void note_edge(null_stream *s, uint32_t id, uint32_t after) {
  if ((s->n_edges & (s->n_edges + 1)) == 0) s->edges = realloc(s->edges, (2 * s->n_edges + 2) * sizeof *s->edges);
  if (!s->edges) abort();
  s->edges[s->n_edges++] = (null_edge){id, after};
}

// Along the events that the stream of `after` has waited for; seen: streams, up to where they have been looked at.
static bool reaches(uint32_t before, uint32_t after, uint32_t *seen) {
  const null_stream *s = work_stream[after];
  if (s == work_stream[before]) return before <= after;
  for (uint32_t i = 0; i < n_streams; i++) {
    if (streams[i] != s) continue;
    if (seen[i] >= after) return false;
    seen[i] = after;
  }
  for (uint32_t i = s->n_edges; i-- > 0;)
    if (s->edges[i].id <= after && reaches(before, s->edges[i].after, seen)) return true;
  return false;
}

bool work_ordered(uint32_t before, uint32_t after) {
  static uint32_t last[2], seen[MAX_STREAMS];
  static bool was;
  if (before == 0 || before == after || work_stream[before] == work_stream[after]) return true;
  if (work_waited[before] && work_waited[before] <= after) return true;
  if (!work_stream[after]->n_edges) return false;
  if (last[0] == before && last[1] == after) return was; // of the piece beside it
  memset(seen, 0, n_streams * sizeof *seen);
  last[0] = before, last[1] = after;
  return was = reaches(before, after, seen);
}

// The host has waited for the work up to `last`.
static void note_waited(null_stream *s, uint32_t last) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < s->n_issued; i++)
    if (s->issued[i] <= last) work_waited[s->issued[i]] = n_work;
    else
      s->issued[kept++] = s->issued[i];
  s->n_issued = kept;
  while (s->seen_edges < s->n_edges && s->edges[s->seen_edges].id <= last) {
    uint32_t after = s->edges[s->seen_edges++].after;
    note_waited((null_stream *)work_stream[after], after); // is done, too
  }
}

// ---- doing it ----
static void fault(const null_work *w, int code, const char *why) {
  if (why) null_finding("work %u: kernel %s %s", w->id, w->function->name, why);
  *null_error(work_now.stream->object.device) = code;
}

static void do_copy(const null_work *w) {
  if (w->kind == TO_DEVICE && w->hash && hash((void *)w->from, w->bytes) != w->hash)
    null_finding("work %u of stream %u: the host memory of a copy of %llu bytes changed before the copy was done",
                 w->id, work_now.stream->object.number, (unsigned long long)w->bytes);
  if (w->kind != TO_DEVICE) memory_touch(w->from, w->bytes, false);
  if (w->kind != TO_HOST) memory_touch(w->to, w->bytes, true);
  memmove((void *)w->to, (void *)w->from, w->bytes);
}

static void do_rows(const null_work *w) {
  for (uint64_t i = 0; i < w->rows; i++) {
    uint64_t to = w->to + i * w->to_pitch, from = w->from + i * w->from_pitch;
    memory_touch(from, w->bytes, false), memory_touch(to, w->bytes, true);
    memmove((void *)to, (void *)from, w->bytes);
  }
}

static void do_launch(const null_work *w) {
  if (++launches == null_set.fault_at) {
    fault(w, null_set.fault_code, NULL);
    return;
  }
  const char *why = code_run(w);
  if (why) fault(w, ILLEGAL_ADDRESS, why);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + skew_ns;
}

static void do_call(const null_work *w) {
  const null_call *c = w->words;
  int64_t began = now_ns();
  for (size_t i = 0; i < sizeof c->uses / sizeof *c->uses; i++)
    if (c->uses[i].bytes) memory_touch(c->uses[i].at, c->uses[i].bytes, c->uses[i].write);
  c->run(c);
  skew_ns += began + c->seems_ns - now_ns();
}

static bool still_there(const null_work *w) { // what was freed while the work waited is a finding already
  int d = work_now.stream->object.device;
  if (w->kind == LAUNCH || w->kind == CALL || w->kind == RECORD || w->kind == AFTER || w->kind == TOGETHER) return true;
  if (w->kind == PEER) return work_check_rows(w, "work") == OK;
  return memory_check(w->to, w->bytes, w->kind == TO_HOST ? -1 : d, "work") == OK &&
         (w->kind >= BEGIN || w->kind == FILL || memory_check(w->from, w->bytes, w->kind == TO_DEVICE ? -1 : d, "work") == OK);
}

// The streams whose next work is of the same call; their number.
static int together(const null_work *w, null_stream **out) {
  int n = 0;
  for (uint32_t i = 0; i < n_streams; i++) {
    const null_work *x = streams[i] ? streams[i]->first : NULL;
    if (x && x->kind == TOGETHER && x->together->of == w->together->of && x->together->number == w->together->number)
      out[n++] = streams[i];
  }
  return n;
}

static void do_together(const null_work *first) {
  null_stream *all[MAX_DEVICES];
  const void *in[MAX_DEVICES];
  void *out[MAX_DEVICES];
  int n = together(first, all);
  null_work *of[MAX_DEVICES];
  memory_open();
  for (int i = 0; i < n; i++) {
    null_work *w = take_first(all[i]);
    int r = w->together->rank;
    of[r] = w, work_now = (null_now){w->id, all[i]};
    memory_touch(w->from, w->together->in_bytes, false), memory_touch(w->to, w->together->out_bytes, true);
    in[r] = (void *)w->from, out[r] = (void *)w->to;
  }
  of[0]->together->compute(n, in, out, of[0]->together);
  for (int i = 0; i < n; i++) free_work(of[i]);
}

static void do_work(null_stream *s) {
  if (s->first->kind == TOGETHER && *null_error(s->object.device) == OK) {
    do_together(s->first);
    return;
  }
  null_work *w = take_first(s);
  work_now = (null_now){w->id, s};
  if (w->kind == RECORD) {
    if (w->event->id == w->id) w->event->done = true, w->event->ns = now_ns();
  } else if (w->kind != AFTER && w->kind != TOGETHER && *null_error(s->object.device) == OK && still_there(w)) {
    memory_open();
    if (w->kind == LAUNCH) do_launch(w);
    else if (w->kind == CALL)
      do_call(w);
    else if (w->kind == BEGIN || w->kind == END)
      memory_touch(w->to, w->bytes, true);
    else if (w->kind == FILL)
      memory_touch(w->to, w->bytes, true), memset((void *)w->to, (int)w->value, w->bytes);
    else if (w->kind == PEER)
      do_rows(w);
    else
      do_copy(w);
  }
  free_work(w);
}

static bool is_ready(const null_stream *s) {
  null_stream *all[MAX_DEVICES];
  if (s && s->first && s->first->kind == TOGETHER && *null_error(s->object.device) == OK)
    return together(s->first, all) == s->first->together->ranks;
  return s && s->first && (s->first->kind != AFTER || work_done[s->first->after]);
}

// One piece of any stream that has some. False: there is none that can be done.
static bool do_any(void) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < n_streams; i++) n += is_ready(streams[i]);
  uint32_t chosen = null_random(n ? n : 1);
  for (uint32_t i = 0; i < n_streams; i++)
    if (is_ready(streams[i]) && chosen-- == 0) return do_work(streams[i]), true;
  return false;
}

// What the host waits for gets nearer, by work or by other threads; a GPU would wait for ever.
static void get_on(null_stream *s) {
  static int paused;
  if (do_any()) {
    paused = 0;
    return;
  }
  if (++paused * 2 < PATIENCE_MS * 10) {
    null_pause();
    return;
  }
  null_finding("stream %u waits for work that is never done", s->object.number);
  *null_error(s->object.device) = TIMED_OUT, paused = 0;
  while (s->first) free_work(take_first(s));
}

void work_finish(void) {
  for (uint32_t i = 0; i < n_streams; i++) {
    while (streams[i] && streams[i]->first) get_on(streams[i]);
    if (streams[i]) note_waited(streams[i], n_work);
  }
}

void work_forget(int device) {
  for (uint32_t i = 0; i < n_streams; i++)
    while (streams[i] && streams[i]->object.device == device && streams[i]->first) free_work(take_first(streams[i]));
}

static bool touches(const null_work *w, uint64_t at, uint64_t bytes) {
  const uint64_t *words = w->words;
  if (w->kind == AFTER) return false;
  if ((w->to && w->to - at < bytes) || (w->from && w->from - at < bytes)) return true;
  for (uint64_t i = 0; i < w->word_bytes / 8; i++)
    if (words[i] - at < bytes) return true;
  return false;
}

bool work_uses(uint64_t at, uint64_t bytes, unsigned *out_stream) {
  for (uint32_t i = 0; i < n_streams; i++)
    for (const null_work *w = streams[i] ? streams[i]->first : NULL; w; w = w->next)
      if (touches(w, at, bytes)) return *out_stream = streams[i]->object.number, true;
  return false;
}

// ---- queuing it ----
// Is there a copy under way that reads (TO_DEVICE) or writes (TO_HOST) these bytes of the host?
static bool is_copied(null_work_kind kind, uint64_t at, uint64_t bytes) {
  for (uint32_t i = 0; i < n_streams; i++)
    for (const null_work *w = streams[i] ? streams[i]->first : NULL; w; w = w->next) {
      uint64_t host = kind == TO_DEVICE ? w->from : w->to;
      if (w->kind == kind && host < at + bytes && at < host + w->bytes) return true;
    }
  return false;
}

static void queue(null_stream *s, null_work w) {
  null_work *to = malloc(sizeof *to);
  if (!to) abort();
  w.id = n_work++, w.next = NULL;
  w.hash = w.kind == TO_DEVICE && !is_copied(TO_HOST, w.from, w.bytes) ? hash((void *)w.from, w.bytes) : 0;
  if (w.kind == TO_HOST && !is_copied(TO_DEVICE, w.to, w.bytes)) memset((void *)w.to, UNREAD, w.bytes);
  if (w.kind == RECORD) w.event->id = w.id, w.event->stream = s, w.event->done = false;
  if (w.kind == AFTER) note_edge(s, w.id, w.after);
  *to = w;
  *s->end = to, s->end = &to->next;
  note_issued(s, w.id);
  while (null_set.mode == EAGER && do_any()) {
  }
  if (null_set.mode == MIXED && null_random(2)) do_any();
}

static void add_to_capture(null_stream *s, null_work w) {
  if (w.kind == AFTER) null_finding("stream %u captures a wait for an event outside of the capture", s->object.number);
  const void *host = w.kind == TO_DEVICE ? (void *)w.from : w.kind == TO_HOST ? (void *)w.to : NULL;
  if (host && !memory_is_pinned(host, w.bytes)) {
    null_finding("stream %u captures a copy of pageable memory", s->object.number);
    s->broken = true;
  }
  if (w.kind == LAUNCH && !w.function->launched)
    null_finding("stream %u captures the first launch of %s, which may load it", s->object.number, w.function->name);
  if (w.kind == CALL && ((const null_call *)w.words)->first)
    null_finding("stream %u captures the first call of %s, which may load code", s->object.number, ((const null_call *)w.words)->name);
  if (w.kind == RECORD) w.event->captured = true;
  graph_add(s->capture, w);
}

int work_add(void *stream, null_work w) {
  null_stream *s = stream_of(stream);
  if (!s) return free(w.words), INVALID_HANDLE;
  if (!stream && work_capture_of_thread()) {
    null_finding("the null stream is used while the thread captures stream %u",
                 work_capture_of_thread()->object.number);
    work_capture_of_thread()->broken = true;
    return free(w.words), CAPTURE_UNSUPPORTED;
  }
  if (s->capture && s->broken) return free(w.words), CAPTURE_INVALIDATED;
  if (s->capture) add_to_capture(s, w);
  else
    queue(s, w);
  if (w.kind == LAUNCH) w.function->launched = true;
  return OK;
}

int work_repeat(void *stream, const null_work *w) {
  null_work copy = *w;
  copy.words = w->word_bytes ? malloc(w->word_bytes) : NULL;
  if (w->word_bytes) memcpy(copy.words, w->words, w->word_bytes);
  return work_add(stream, copy);
}

__attribute__((visibility("default"))) int null_collect(const null_collective *c, uint64_t from, uint64_t to,
                                                        void *stream) {
  null_lock(true);
  int rc = null_device() < 0 ? INVALID_CONTEXT : *null_error(null_device());
  if (!rc) rc = memory_check(from, c->in_bytes, null_device(), "a collective");
  if (!rc) rc = memory_check(to, c->out_bytes, null_device(), "a collective");
  if (!rc)
    rc = work_add(stream, (null_work){.kind = TOGETHER, .from = from, .to = to, .bytes = c->out_bytes, .together = c});
  null_lock(false);
  return rc;
}

__attribute__((visibility("default"))) void null_collect_drop(const void *of, int rank) {
  null_lock(true);
  for (uint32_t i = 0; i < n_streams; i++) {
    null_work **at = streams[i] ? &streams[i]->first : NULL, *w;
    while (at && (w = *at) != NULL) {
      if (w->kind != TOGETHER || w->together->of != of || w->together->rank != rank) {
        at = &w->next;
        continue;
      }
      *at = w->next;
      if (!w->next) streams[i]->end = at;
      free_work(w);
    }
  }
  null_lock(false);
}

__attribute__((visibility("default"))) void null_complain(const char *what) {
  null_lock(true);
  null_finding("%s", what);
  null_lock(false);
}

__attribute__((visibility("default"))) int null_call_in(const null_call *c, uint64_t bytes, void *stream) {
  null_lock(true);
  int rc = null_device() < 0 ? INVALID_CONTEXT : *null_error(null_device());
  for (size_t i = 0; i < sizeof c->uses / sizeof *c->uses && !rc; i++)
    if (c->uses[i].bytes) rc = memory_check(c->uses[i].at, c->uses[i].bytes, null_device(), c->name);
  null_call *copy = malloc(bytes);
  if (!copy) abort();
  memcpy(copy, c, bytes);
  if (rc) free(copy);
  else rc = work_add(stream, (null_work){.kind = CALL, .words = copy, .word_bytes = bytes});
  null_lock(false);
  return rc;
}

// ---- streams ----
int null_stream_new(void **out, unsigned flags, int priority) {
  int rc = null_enter(N_stream_new, IN_CONTEXT, NULL, "%u, %d", flags, priority);
  if (rc) return null_leave(rc);
  if (!(flags & NON_BLOCKING)) null_finding("a stream that waits for the null stream (flags %u)", flags);
  if (n_streams == MAX_STREAMS) return null_finding("more than %d streams", MAX_STREAMS), null_leave(OUT_OF_MEMORY);
  null_stream *s = null_object_new(STREAM, sizeof *s);
  init_stream(s);
  streams[n_streams++] = s;
  *out = s;
  return null_leave(OK);
}

static int wait_for(null_stream *s) {
  if (s->capture) {
    null_finding("stream %u is waited for while it is captured", s->object.number);
    s->broken = true;
    return CAPTURE_UNSUPPORTED;
  }
  while (s->first) get_on(s);
  note_waited(s, n_work);
  return *null_error(s->object.device);
}

// Work gets on while the host asks.
int null_stream_query(void *stream) {
  int rc = null_enter(N_stream_query, IN_CONTEXT | NOT_IN_CAPTURE, stream, " ");
  null_stream *s = rc ? NULL : stream_of(stream);
  if (rc || !s) return null_leave(rc ? rc : INVALID_HANDLE);
  if (s->first && !do_any()) null_pause();
  if (s->first && *null_error(s->object.device) == OK) return null_leave(NOT_READY);
  if (!s->first) note_waited(s, n_work);
  return null_leave(*null_error(s->object.device));
}

// The event may be of another device. One that is not recorded is waited for by nobody.
int null_stream_after(void *stream, void *event, unsigned flags) {
  int rc = null_enter(N_stream_after, IN_CONTEXT, stream, "event, %u", flags);
  null_event *e = rc ? NULL : null_object_find(event, EVENT);
  if (!rc && !e) rc = INVALID_HANDLE;
  if (!rc && e->captured) null_finding("a stream waits for an event of a capture");
  if (!rc && e->id) rc = work_add(stream, (null_work){.kind = AFTER, .after = e->id});
  return null_leave(rc);
}

int null_stream_wait(void *stream) {
  int rc = null_enter(N_stream_wait, IN_CONTEXT | NOT_IN_CAPTURE, stream, " ");
  null_stream *s = rc ? NULL : stream_of(stream);
  if (!rc) rc = s ? wait_for(s) : INVALID_HANDLE;
  return null_leave(rc);
}

int null_stream_free(void *stream) {
  int rc = null_enter(N_stream_free, IN_CONTEXT, stream, " ");
  null_stream *s = null_object_find(stream, STREAM);
  if (s && s->capture) null_finding("stream %u is destroyed while it is captured", s->object.number);
  if (s) null_object_drop(&s->object); // what it still has to do is done, in its time
  return null_leave(rc ? rc : s ? OK : INVALID_HANDLE);
}

// ---- events ----
int null_event_new(void **out, unsigned flags) {
  int rc = null_enter(N_event_new, IN_CONTEXT, NULL, "%u", flags);
  if (rc) return null_leave(rc);
  null_event *e = null_object_new(EVENT, sizeof *e);
  e->flags = flags;
  *out = e;
  return null_leave(OK);
}

int null_event_record(void *event, void *stream) {
  int rc = null_enter(N_event_record, IN_CONTEXT, stream, "event");
  null_event *e = rc ? NULL : null_object_find(event, EVENT);
  if (e && e->object.device != null_device())
    null_finding("event %u of device %d is recorded in the context of device %d", e->object.number, e->object.device,
                 null_device());
  if (!rc) rc = e ? work_add(stream, (null_work){.kind = RECORD, .event = e}) : INVALID_HANDLE;
  return null_leave(rc);
}

int null_event_wait(void *event) {
  int rc = null_enter(N_event_wait, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "event");
  null_event *e = rc ? NULL : null_object_find(event, EVENT);
  if (rc || !e) return null_leave(rc ? rc : INVALID_HANDLE);
  while (e->id && !e->done && *null_error(e->object.device) == OK) get_on((null_stream *)e->stream);
  if (e->id) note_waited((null_stream *)e->stream, e->id);
  return null_leave(*null_error(e->object.device));
}

int null_event_query(void *event) {
  int rc = null_enter(N_event_query, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "event");
  null_event *e = rc ? NULL : null_object_find(event, EVENT);
  if (rc || !e) return null_leave(rc ? rc : INVALID_HANDLE);
  if (e->id && !e->done && !do_any()) null_pause();
  if (e->id && !e->done && *null_error(e->object.device) == OK) return null_leave(NOT_READY);
  if (e->id && e->done) note_waited((null_stream *)e->stream, e->id);
  return null_leave(*null_error(e->object.device));
}

int null_event_elapsed(float *ms, void *begin, void *end) {
  int rc = null_enter(N_event_elapsed, IN_CONTEXT, NULL, "events");
  const null_event *b = rc ? NULL : null_object_find(begin, EVENT), *e = rc ? NULL : null_object_find(end, EVENT);
  if (rc || !b || !e) return null_leave(rc ? rc : INVALID_HANDLE);
  if (!b->id || !e->id || (b->flags | e->flags) & TIMED_OFF)
    return null_finding("the time between events of which one is not recorded, or not timed"),
           null_leave(INVALID_HANDLE);
  if (!b->done || !e->done) return null_leave(NOT_READY);
  *ms = (float)((double)(e->ns - b->ns) * 1e-6);
  return null_leave(OK);
}

int null_event_free(void *event) {
  int rc = null_enter(N_event_free, IN_CONTEXT, NULL, "event");
  null_event *e = null_object_find(event, EVENT);
  if (e) null_object_drop(&e->object);
  return null_leave(rc ? rc : e ? OK : INVALID_HANDLE);
}

// ---- copies ----
static int copy_between(null_entry entry, null_work w, void *stream) {
  int rc = null_enter(entry, IN_CONTEXT, stream, "%llx, %llx, %llu", (unsigned long long)w.to,
                      (unsigned long long)w.from, (unsigned long long)w.bytes);
  const char *what = w.kind == TO_DEVICE ? "cuMemcpyHtoDAsync"
                     : w.kind == TO_HOST ? "cuMemcpyDtoHAsync"
                     : w.kind == COPY    ? "cuMemcpyDtoDAsync"
                                         : "cuMemsetD8Async";
  if (rc) return null_leave(rc);
  if (w.bytes == 0) null_finding("%s of 0 bytes", what);
  rc = memory_check(w.to, w.bytes, w.kind == TO_HOST ? -1 : null_device(), what);
  if (!rc && w.kind != FILL) rc = memory_check(w.from, w.bytes, w.kind == TO_DEVICE ? -1 : null_device(), what);
  if (!rc && w.bytes) rc = work_add(stream, w);
  return null_leave(rc);
}

int null_to_device(uint64_t to, const void *from, size_t bytes, void *stream) {
  return copy_between(
      N_to_device, (null_work){.kind = TO_DEVICE, .to = to, .from = (uint64_t)(uintptr_t)from, .bytes = bytes}, stream);
}

int null_to_host(void *to, uint64_t from, size_t bytes, void *stream) {
  return copy_between(
      N_to_host, (null_work){.kind = TO_HOST, .to = (uint64_t)(uintptr_t)to, .from = from, .bytes = bytes}, stream);
}

int null_copy(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  return copy_between(N_copy, (null_work){.kind = COPY, .to = to, .from = from, .bytes = bytes}, stream);
}

int null_fill(uint64_t to, unsigned char value, size_t bytes, void *stream) {
  return copy_between(N_fill, (null_work){.kind = FILL, .to = to, .value = value, .bytes = bytes}, stream);
}

// ---- capture (the graphs are those of graph.c) ----
null_stream *work_capture_of_thread(void) {
  for (uint32_t i = MAX_DEVICES; i < n_streams; i++)
    if (streams[i]->capture && !streams[i]->object.dead && streams[i]->mode < 2 &&
        (streams[i]->mode == 0 || streams[i]->thread == thread_number()))
      return streams[i];
  return NULL;
}

int null_capture_begin(void *stream, int mode) {
  int rc = null_enter(N_capture_begin, IN_CONTEXT, stream, "%d", mode);
  null_stream *s = rc || !stream ? NULL : stream_of(stream);
  if (rc) return null_leave(rc);
  if (!s) return null_finding("capture of the null stream, or of none"), null_leave(CAPTURE_UNSUPPORTED);
  if (s->capture) return null_finding("stream %u is captured already", s->object.number), null_leave(CAPTURE_UNMATCHED);
  s->capture = null_object_new(GRAPH, sizeof(null_graph));
  s->capture->end = &s->capture->first;
  s->broken = false, s->mode = mode, s->thread = thread_number();
  return null_leave(OK);
}

int null_capture_end(void *stream, void **graph) {
  int rc = null_enter(N_capture_end, IN_CONTEXT, stream, " ");
  null_stream *s = stream ? stream_of(stream) : NULL;
  *graph = NULL;
  if (!s || !s->capture)
    return null_finding("the end of a capture that did not begin"), null_leave(rc ? rc : CAPTURE_UNMATCHED);
  bool right = s->mode == 2 || s->thread == thread_number();
  if (!right) null_finding("the capture of stream %u ends in another thread than it began", s->object.number);
  if (!rc) rc = !right ? CAPTURE_WRONG_THREAD : s->broken ? CAPTURE_INVALIDATED : OK;
  if (rc) null_object_drop(&s->capture->object);
  else
    *graph = s->capture;
  s->capture = NULL;
  return null_leave(rc);
}
