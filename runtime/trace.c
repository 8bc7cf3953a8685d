// Records of runs. Each worker writes a row of its own, so that no lock is needed.
#include "runtime/trace.h"

#include "runtime/base/alloc.h"
#include "runtime/collective/split.h"

enum { MOST = 1 << 20 }; // slices of a row

sard_status *sd_trace_start(sard_session *s) {
  sd_trace_free(s);
  if (sd_split_devices(s)) {
    for (int i = 0; i < sd_split_devices(s); i++) SD_TRY(sd_trace_start(sd_split_session(s, i)));
    return NULL;
  }
  s->trace = sd_calloc(1, sizeof *s->trace + ((size_t)s->workers + 2) * sizeof *s->trace->row);
  if (!s->trace) return SD_ERR(NOMEM, "out of memory for a trace");
  s->trace->workers = s->workers;
  return NULL;
}

void sd_trace_free(sard_session *s) {
  for (int i = 0; s->trace && i < s->trace->workers + 2; i++) sd_free(s->trace->row[i].at);
  sd_free(s->trace);
  s->trace = NULL;
}

static void put(sd_trace_row *r, sd_trace_slice x) {
  if (r->n == r->cap) {
    size_t cap = r->cap ? 2 * r->cap : 256;
    sd_trace_slice *more = cap <= MOST ? sd_realloc(r->at, cap * sizeof *more) : NULL;
    if (!more) {
      r->lost++;
      return;
    }
    r->at = more, r->cap = cap;
  }
  r->at[r->n++] = x;
}

void sd_trace_step(struct sd_trace *t, uint32_t step, int64_t begin, int64_t end) {
  put(&t->row[0], (sd_trace_slice){step, 0, begin, end});
}

void sd_trace_launch(struct sd_trace *t, uint32_t step, int64_t begin, int64_t end) {
  put(&t->row[1 + t->workers], (sd_trace_slice){step, 0, begin, end});
}

void sd_trace_work(struct sd_trace *t, int worker, uint32_t step, uint32_t tiles, int64_t begin, int64_t end) {
  enum { GAP_NS = 2000 }; // ranges of one dispatch follow each other at once
  if (worker < 0 || worker >= t->workers) return;
  sd_trace_row *r = &t->row[1 + worker];
  sd_trace_slice *last = r->n ? &r->at[r->n - 1] : NULL;
  if (last && last->step == step && begin - last->end < GAP_NS) last->end = end, last->tiles += tiles;
  else
    put(r, (sd_trace_slice){step, tiles, begin, end});
}
