// JPEG 2000 by OpenJPEG, with boxes or as a bare codestream: gray, RGB or YCC of up to 16 bits.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

enum { J2K = 0, JP2 = 2, YCC = 3, EYCC = 4, INKS = 5, PARAMETERS = 16384 };

typedef struct component {
  uint32_t dx, dy, w, h, x0, y0, bits, depth, is_signed, resolutions, factor;
  int32_t *data;
  uint16_t alpha;
} component;
typedef struct picture {
  uint32_t x0, y0, x1, y1, n;
  int color;
  component *comps;
  uint8_t *profile;
  uint32_t profile_size;
} picture;
typedef size_t (*read_fn)(void *to, size_t n, void *user);
typedef int64_t (*skip_fn)(int64_t n, void *user);
typedef int (*seek_fn)(int64_t to, void *user);

const char *const sd_image_jp2_names[] = {"opj_create_decompress", "opj_destroy_codec", "opj_set_default_decoder_parameters", "opj_setup_decoder",
                                          "opj_stream_create", "opj_stream_destroy", "opj_stream_set_read_function", "opj_stream_set_skip_function",
                                          "opj_stream_set_seek_function", "opj_stream_set_user_data", "opj_stream_set_user_data_length",
                                          "opj_read_header", "opj_decode", "opj_image_destroy", NULL};
typedef struct api {
  void *(*codec)(int format);
  void (*codec_free)(void *codec);
  void (*defaults)(void *parameters);
  int (*setup)(void *codec, void *parameters);
  void *(*stream)(size_t buffer, int is_input);
  void (*stream_free)(void *stream);
  void (*on_read)(void *stream, read_fn fn);
  void (*on_skip)(void *stream, skip_fn fn);
  void (*on_seek)(void *stream, seek_fn fn);
  void (*user)(void *stream, void *user, void (*free)(void *user));
  void (*length)(void *stream, uint64_t bytes);
  int (*header)(void *stream, void *codec, picture **out);
  int (*decode)(void *codec, void *stream, picture *p);
  void (*picture_free)(picture *p);
} api;

typedef struct source { const uint8_t *data; uint64_t size, at; } source;

static size_t read_some(void *to, size_t n, void *user) {
  source *s = user;
  uint64_t left = s->size - s->at;
  if (!left) return (size_t)-1;
  if (n > left) n = left;
  memcpy(to, s->data + s->at, n);
  s->at += n;
  return n;
}
static int64_t skip(int64_t n, void *user) {
  source *s = user;
  if (n < 0 || (uint64_t)n > s->size - s->at) return -1;
  s->at += (uint64_t)n;
  return n;
}
static int seek(int64_t to, void *user) {
  source *s = user;
  if (to < 0 || (uint64_t)to > s->size) return 0;
  s->at = (uint64_t)to;
  return 1;
}

// ---- pixels ----
static double value(const picture *p, uint32_t c, uint64_t x, uint64_t y) {
  const component *k = &p->comps[c];
  uint64_t cx = x / k->dx, cy = y / k->dy;
  if (cx >= k->w) cx = k->w - 1;
  if (cy >= k->h) cy = k->h - 1;
  double v = k->data[cy * k->w + cx];
  return k->is_signed ? v + (double)(INT64_C(1) << (k->bits - 1)) : v;
}

static uint8_t to_byte(double v, uint32_t bits) {
  v = bits == 8 ? v : v * 255 / (double)((INT64_C(1) << bits) - 1);
  return (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v + 0.5);
}

static void read_pixel(const picture *p, uint64_t x, uint64_t y, uint8_t *to) {
  uint32_t bits = p->comps[0].bits;
  double v = value(p, 0, x, y), half = (double)(INT64_C(1) << (bits - 1));
  if (p->n < 3) {
    to[0] = to[1] = to[2] = to_byte(v, bits);
  } else if (p->color == YCC) {
    double cb = value(p, 1, x, y) - half, cr = value(p, 2, x, y) - half;
    to[0] = to_byte(v + 1.402 * cr, bits);
    to[1] = to_byte(v - 0.344136 * cb - 0.714136 * cr, bits);
    to[2] = to_byte(v + 1.772 * cb, bits);
  } else {
    for (uint32_t c = 0; c < 3; c++) to[c] = to_byte(value(p, c, x, y), p->comps[c].bits);
  }
}

static sard_status *check(const picture *p) {
  if (!p->n || p->color == INKS || p->color == EYCC) return SD_ERR(UNSUPPORTED, "it has %u components of color space %d", p->n, p->color);
  for (uint32_t c = 0; c < p->n && c < 3; c++) {
    const component *k = &p->comps[c];
    if (!k->data || !k->w || !k->h || !k->dx || !k->dy) return SD_ERR(MODEL, "component %u has no pixels", c);
    if (k->bits < 1 || k->bits > 16) return SD_ERR(UNSUPPORTED, "component %u has %u bits", c, k->bits);
  }
  return NULL;
}

// ---- decoding ----
static sard_status *decode(sd_image *m, const api *a, void *codec, void *stream, picture **out) {
  _Alignas(16) uint8_t parameters[PARAMETERS] = {0}; // larger than any version's
  a->defaults(parameters);
  if (!a->setup(codec, parameters) || !a->header(stream, codec, out) || !*out) return SD_ERR(MODEL, "its header is damaged");
  picture *p = *out;
  if (p->x1 <= p->x0 || p->y1 <= p->y0) return SD_ERR(MODEL, "it has no pixels");
  SD_TRY(sd_image_size(m, p->x1 - p->x0, p->y1 - p->y0));
  if (!a->decode(codec, stream, p)) return SD_ERR(MODEL, "it cannot be decoded");
  SD_TRY(check(p));
  for (uint64_t y = 0; y < m->height; y++)
    for (uint64_t x = 0; x < m->width; x++) read_pixel(p, x, y, sd_image_pixel(m, x, y));
  return NULL;
}

static sard_status *run(sd_image *m, int format) {
  const api *a = m->api;
  source s = {m->data, m->size, 0};
  picture *p = NULL;
  void *codec = a->codec(format), *stream = a->stream(65536, 1);
  sard_status *st = NULL;
  if (codec && stream) {
    a->on_read(stream, read_some), a->on_skip(stream, skip), a->on_seek(stream, seek);
    a->user(stream, &s, NULL), a->length(stream, m->size);
    st = decode(m, a, codec, stream, &p);
  } else {
    st = SD_ERR(NOMEM, "OpenJPEG cannot start");
  }
  if (p) a->picture_free(p);
  if (stream) a->stream_free(stream);
  if (codec) a->codec_free(codec);
  return st;
}

sard_status *sd_image_jp2(sd_image *m) { return run(m, JP2); }
sard_status *sd_image_j2k(sd_image *m) { return run(m, J2K); }
