// ImageDecoder: bytes of a file to pixels [height, width, channels].
#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/image/image.h"

typedef enum order { RGB, BGR, GRAY } order; // parameter of sard.DecodeImage

typedef struct job { sd_host_call *call; order order; uint8_t *own; } job;

// Memory for the pixels: the result's, or where that has another size, some of our own.
static sard_status *room(sd_image *m) {
  job *j = m->user;
  int64_t dims[3] = {m->height, m->width, j->order == GRAY ? 1 : 3};
  SD_TRY(j->call->make(j->call, 0, dims));
  m->rgb = j->call->out[0].data;
  if (j->order == GRAY || !m->rgb) m->rgb = j->own = sd_malloc(3 * (size_t)m->width * m->height);
  return m->rgb ? NULL : SD_ERR(NOMEM, "no memory for %u x %u pixels", m->width, m->height);
}

static void convert(const sd_image *m, order o, uint8_t *to) {
  uint64_t n = (uint64_t)m->width * m->height;
  const uint8_t *p = m->rgb;
  for (uint64_t i = 0; i < n; i++, p += 3)
    if (o == GRAY) { // luma of ITU-R BT.601 in 16 bits: 0.299, 0.587, 0.114
      to[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    } else {
      uint8_t red = p[0];
      to[3 * i] = p[2], to[3 * i + 2] = red;
    }
}

sard_status *sd_host_decode_image(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  if (x->dtype != SD_U8 || c->param[0] < RGB || c->param[0] > GRAY) return SD_ERR(MODEL, "the image is no tensor of bytes");
  if (c->out[0].dtype && (c->out[0].dtype != SD_U8 || c->out[0].rank != 3)) return SD_ERR(MODEL, "the result is no tensor of pixels");
  job j = {.call = c, .order = (order)c->param[0]};
  sd_image m = {.data = x->data, .size = x->count, .room = room, .user = &j};
  sard_status *st = sd_image_decode(&m);
  if (!st && c->out[0].data && j.order != RGB) convert(&m, j.order, c->out[0].data);
  sd_free(j.own);
  return st;
}
