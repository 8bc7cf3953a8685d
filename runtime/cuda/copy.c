// Contents of buffers between host and device, through pinned memory.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/session.h"

#define STAGE (4u << 20) // bytes: long enough for full speed, short enough to overlap with copies on the host

static sard_status *check(const sd_cu_session *c, int result, const char *what) { return sd_cu_check(c->device->api, result, what); }

static sard_status *open_stages(sd_cu_session *c) {
  const sd_cu_api *f = c->device->api;
  for (int i = 0; i < SD_CU_STAGES; i++) {
    void *p = NULL;
    if (!c->stage[i]) SD_TRY(check(c, f->host_alloc(&p, STAGE, 0), "allocating pinned memory"));
    if (p) c->stage[i] = p;
    if (!c->staged[i]) SD_TRY(check(c, f->event_new(&c->staged[i], 2), "making an event"));
  }
  return NULL;
}

// The source may change when this returns.
static sard_status *write_staged(const sard_session *s, uint64_t to, const uint8_t *from, uint64_t bytes) {
  sd_cu_session *c = s->cu;
  const sd_cu_api *f = c->device->api;
  SD_TRY(open_stages(c));
  while (bytes) {
    uint32_t i = c->next_stage++ % SD_CU_STAGES;
    uint64_t n = bytes < STAGE ? bytes : STAGE;
    SD_TRY(sd_cu_wait_event(s, c->staged[i], "copying to the device"));
    memcpy(c->stage[i], from, n);
    SD_TRY(check(c, f->to_device(to, c->stage[i], n, c->stream), "copying to the device"));
    SD_TRY(check(c, f->event_record(c->staged[i], c->stream), "copying to the device"));
    to += n, from += n, bytes -= n;
  }
  return NULL;
}

// Complete on return. The copy of one piece runs while the piece before is taken out.
static sard_status *read_staged(const sard_session *s, uint8_t *to, uint64_t from, uint64_t bytes) {
  sd_cu_session *c = s->cu;
  const sd_cu_api *f = c->device->api;
  uint64_t asked = 0, taken = 0;
  SD_TRY(open_stages(c));
  uint32_t first = c->next_stage;
  while (taken < bytes) {
    for (; asked < bytes && asked - taken < SD_CU_STAGES * (uint64_t)STAGE; c->next_stage++) {
      uint32_t i = c->next_stage % SD_CU_STAGES;
      uint64_t n = bytes - asked < STAGE ? bytes - asked : STAGE;
      SD_TRY(check(c, f->to_host(c->stage[i], from + asked, n, c->stream), "copying from the device"));
      SD_TRY(check(c, f->event_record(c->staged[i], c->stream), "copying from the device"));
      asked += n;
    }
    uint32_t i = first++ % SD_CU_STAGES;
    uint64_t n = bytes - taken < STAGE ? bytes - taken : STAGE;
    SD_TRY(sd_cu_wait_event(s, c->staged[i], "copying from the device"));
    memcpy(to + taken, c->stage[i], n);
    taken += n;
  }
  return NULL;
}

static bool is_late(const sard_session *s, uint32_t buf) { return s->late.slot[s->model->art.bufs[buf].bytes]; }

// A late buffer gets as much memory as it has on the host; what it held is lost when it moves.
static sard_status *make_room(sard_session *s, uint32_t buf) {
  sd_cu_session *c = s->cu;
  uint64_t need = sd_late_room(s, buf);
  if (!is_late(s, buf) || c->room[buf] >= need) return NULL;
  c->valid[buf] &= (uint8_t)~SD_CU_DEVICE;
  return sd_cu_renew(c->device, c->stream, need + need / 2, &c->at[buf], &c->room[buf]);
}

sard_status *sd_cu_to_host(sard_session *s, uint32_t buf) {
  sd_cu_session *c = s->cu;
  uint64_t n = sd_late_room(s, buf);
  if (c->valid[buf] != SD_CU_DEVICE) return NULL;
  if (is_late(s, buf) && n > c->room[buf]) n = c->room[buf];
  if (n && !s->buf[buf]) return SD_ERR(INTERNAL, "buffer %u has no memory on the host", buf);
  SD_TRY(read_staged(s, s->buf[buf], c->at[buf], n));
  c->copied_out += n;
  c->valid[buf] |= SD_CU_HOST;
  return NULL;
}

sard_status *sd_cu_to_device(sard_session *s, uint32_t buf) {
  sd_cu_session *c = s->cu;
  SD_TRY(make_room(s, buf));
  if (c->valid[buf] != SD_CU_HOST) return NULL;
  uint64_t n = sd_late_room(s, buf);
  if (n && !c->at[buf]) return SD_ERR(INTERNAL, "buffer %u has no memory on the device", buf);
  SD_TRY(write_staged(s, c->at[buf], s->buf[buf], n));
  c->copied_in += n;
  c->valid[buf] |= SD_CU_DEVICE;
  return NULL;
}
