#include "runtime/cuda/peer.h"

enum { NO_TIMES = 2 }; // flag of an event

static sard_status *check(const sard_session *s, int code, const char *what) {
  return sd_cu_check(s->cu->device->api, code, what);
}

sard_status *sd_cu_reach(const sd_cu_device *from, const sd_cu_device *to, bool *out) {
  int can = 0;
  *out = from == to;
  if (from == to) return NULL;
  const sd_cu_api *f = from->api;
  SD_TRY(sd_cu_check(f, f->peer_can(&can, from->handle, to->handle), "asking whether devices reach each other"));
  if (!can) return NULL;
  SD_TRY(sd_cu_enter(from));
  int code = f->peer_enable(to->context, 0);
  *out = true;
  return code == SD_CU_PEER_ALREADY ? NULL : sd_cu_check(f, code, "opening the memory of another device");
}

sard_status *sd_cu_bring(sard_session *s, const sard_tensor *from, sard_tensor *to) {
  const sd_cu_session *c = s->cu;
  if (!from->bytes) return NULL;
  SD_TRY(sd_cu_enter(c->device));
  return check(s,
               c->device->api->copy_peer((uint64_t)(uintptr_t)to->data, to->place->context,
                                         (uint64_t)(uintptr_t)from->data, from->place->context, from->bytes, c->stream),
               "copying from another device");
}

sard_status *sd_cu_mark(sard_session *s, void **event) {
  SD_TRY(sd_cu_enter(s->cu->device));
  return sd_cu_record(s, event, NO_TIMES);
}

void sd_cu_forget(sard_session *s, void **event) {
  if (!*event) return;
  sd_cu_return(s->cu->device);
  s->cu->device->api->event_free(*event);
  *event = NULL;
}

sard_status *sd_cu_after(sard_session *s, void *event) {
  if (!event) return NULL;
  SD_TRY(sd_cu_enter(s->cu->device));
  SD_TRY(sd_cu_busy_end(s));
  return check(s, s->cu->device->api->stream_after(s->cu->stream, event, 0), "waiting for another device");
}

sard_status *sd_cu_settle(sard_session *s) {
  SD_TRY(sd_cu_enter(s->cu->device));
  return sd_cu_end(s);
}
