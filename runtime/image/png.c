// PNG by libpng's simplified API, which returns its errors. What is transparent keeps its color.
#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

enum { VERSION = 1, HAS_ALPHA = 1, RGB = 2, RGBA = 3, IS_SRGB_16 = 4 };

typedef struct png_image {
  void *opaque;
  uint32_t version, width, height, format, flags, colors, warning_or_error;
  char message[64];
} png_image;

const char *const sd_image_png_names[] = {"png_image_begin_read_from_memory", "png_image_finish_read", "png_image_free", NULL};
typedef struct api {
  int (*begin)(png_image *p, const void *data, size_t size);
  int (*finish)(png_image *p, const void *background, void *to, int32_t stride, void *colors);
  void (*free)(png_image *p);
} api;

static sard_status *failed(const png_image *p) { return SD_ERR(MODEL, "%.64s", p->message); }

static sard_status *decode_alpha(sd_image *m, const api *a, png_image *p) {
  uint64_t pixels = (uint64_t)m->width * m->height;
  uint8_t *rgba = sd_malloc(pixels * 4);
  if (!rgba) return SD_ERR(NOMEM, "no memory for %llu pixels", (unsigned long long)pixels);
  p->format = RGBA;
  int ok = a->finish(p, NULL, rgba, 0, NULL);
  for (uint64_t i = 0; i < pixels && ok; i++)
    for (int c = 0; c < 3; c++) m->rgb[3 * i + (uint64_t)c] = rgba[4 * i + (uint64_t)c];
  sd_free(rgba);
  return ok ? NULL : failed(p);
}

static sard_status *decode(sd_image *m, const api *a, png_image *p) {
  if (!a->begin(p, m->data, m->size)) return failed(p);
  SD_TRY(sd_image_size(m, p->width, p->height));
  p->flags |= IS_SRGB_16;
  if (p->format & HAS_ALPHA) return decode_alpha(m, a, p);
  p->format = RGB;
  return a->finish(p, NULL, m->rgb, 0, NULL) ? NULL : failed(p);
}

sard_status *sd_image_png(sd_image *m) {
  const api *a = m->api;
  png_image p = {.version = VERSION};
  sard_status *st = decode(m, a, &p);
  a->free(&p);
  return st;
}
