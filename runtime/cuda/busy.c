// How long a device works on what a session queues, by events around rows of launches: a row ends where the stream
// waits, for another device or for the host.
#include "runtime/cuda/session.h"

static sard_status *check(const sard_session *s, int code, const char *what) {
  return sd_cu_check(s->cu->device->api, code, what);
}

static sard_status *mark(const sard_session *s, void **event) {
  const sd_cu_api *f = s->cu->device->api;
  if (!*event) SD_TRY(check(s, f->event_new(event, 0), "making an event"));
  return check(s, f->event_record(*event, s->cu->stream), "recording an event");
}

void sd_cu_busy_take(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  for (uint32_t i = 0; i < b->rows; i++) {
    float ms = 0; // a time that cannot be had is left out
    if (s->cu->device->api->event_elapsed(&ms, b->at[2 * i], b->at[2 * i + 1]) == 0) b->ns += (int64_t)((double)ms * 1e6);
  }
  b->rows = 0;
}

sard_status *sd_cu_busy_begin(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  if (!b->on || b->open) return NULL;
  if (b->rows == SD_CU_BUSY_ROWS) {
    SD_TRY(sd_cu_wait_event(s, b->at[2 * b->rows - 1], "waiting for a kernel"));
    sd_cu_busy_take(s);
  }
  SD_TRY(mark(s, &b->at[2 * b->rows]));
  b->open = true;
  return NULL;
}

sard_status *sd_cu_busy_end(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  if (!b->open) return NULL;
  b->open = false; // also where the mark fails: the run does, too
  SD_TRY(mark(s, &b->at[2 * b->rows + 1]));
  b->rows++;
  return NULL;
}
