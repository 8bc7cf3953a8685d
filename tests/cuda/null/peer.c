// Devices that reach each other's memory.
#include "tests/cuda/null/null.h"

enum { PEER_UNSUPPORTED = 217, PEER_ALREADY = 704, UNIFIED = 4 };

static bool enabled[MAX_DEVICES][MAX_DEVICES]; // [device][whose memory it reaches]

int null_peer_can(int *out, int device, int peer) {
  int rc = null_enter(N_peer_can, STARTED, NULL, "%d, %d", device, peer);
  if (device == peer) null_finding("device %d is asked whether it reaches itself", device);
  *out = null_set.peer && device != peer;
  return null_leave(rc);
}

int null_peer_enable(void *peer, unsigned flags) {
  int rc = null_enter(N_peer_enable, IN_CONTEXT, NULL, "context, %u", flags);
  int to = rc ? -1 : null_context_device(peer);
  if (rc || to < 0) return null_leave(rc ? rc : INVALID_CONTEXT);
  if (!null_set.peer || to == null_device()) return null_leave(PEER_UNSUPPORTED);
  if (enabled[null_device()][to]) return null_leave(PEER_ALREADY);
  enabled[null_device()][to] = true;
  return null_leave(OK);
}

static int check_row(uint64_t at, uint64_t bytes, int device, const char *what) {
  const null_range *r = memory_find(at);
  bool reached = !r || r->host || device < 0 || r->device == device || enabled[device][r->device];
  if (!reached) null_finding("%s: memory of device %d, which device %d does not reach", what, r->device, device);
  if (!r || r->host) return null_finding("%s: %llx is no device memory", what, (unsigned long long)at), INVALID_VALUE;
  return reached ? memory_check(at, bytes, r->device, what) : INVALID_VALUE;
}

// `value`: one more than the device that has to reach both ends; 0: the driver sees to it.
int work_check_rows(const null_work *w, const char *what) {
  int device = (int)w->value - 1, rc = OK;
  uint64_t last = w->rows ? w->rows - 1 : 0;
  if (!rc) rc = check_row(w->to, w->bytes + last * w->to_pitch, device, what);
  if (!rc) rc = check_row(w->from, w->bytes + last * w->from_pitch, device, what);
  return rc;
}

int null_copy_peer(uint64_t to, void *to_context, uint64_t from, void *from_context, size_t bytes, void *stream) {
  int rc = null_enter(N_copy_peer, IN_CONTEXT, stream, "%llx, %llx, %zu", (unsigned long long)to,
                      (unsigned long long)from, bytes);
  null_work w = {.kind = PEER, .to = to, .from = from, .bytes = bytes, .rows = 1};
  if (rc) return null_leave(rc);
  if (bytes == 0) null_finding("cuMemcpyPeerAsync of 0 bytes");
  rc = memory_check(to, bytes, null_context_device(to_context), "cuMemcpyPeerAsync");
  if (!rc) rc = memory_check(from, bytes, null_context_device(from_context), "cuMemcpyPeerAsync");
  return null_leave(rc ? rc : work_add(stream, w));
}

int null_copy_rows(const sd_cu_rows *r, void *stream) {
  int rc = null_enter(N_copy_rows, IN_CONTEXT, stream, "%llx, %llx, %zu x %zu", (unsigned long long)r->to,
                      (unsigned long long)r->from, r->width, r->height);
  null_work w = {.kind = PEER,
                 .to = r->to,
                 .from = r->from,
                 .bytes = r->width,
                 .rows = r->height,
                 .to_pitch = r->to_pitch,
                 .from_pitch = r->from_pitch,
                 .value = (unsigned)null_device() + 1};
  if (rc) return null_leave(rc);
  if (r->from_x || r->from_y || r->to_x || r->to_y || r->from_type != UNIFIED || r->to_type != UNIFIED)
    return null_finding("cuMemcpy2DAsync of another form"), null_leave(INVALID_VALUE);
  if (!r->width || !r->height || r->width > r->from_pitch || r->width > r->to_pitch)
    return null_finding("cuMemcpy2DAsync of %zu rows of %zu bytes", r->height, r->width), null_leave(INVALID_VALUE);
  rc = work_check_rows(&w, "cuMemcpy2DAsync");
  return null_leave(rc ? rc : work_add(stream, w));
}
