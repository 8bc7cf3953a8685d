// JPEG by libturbojpeg (API 2.1, which later versions keep). Colors as libjpeg gives them, "fancy" upsampling.
#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

enum { RGB = 0, CMYK = 11, IS_CMYK = 3, IS_YCCK = 4, LIMIT_SCANS = 32768 };

const char *const sd_image_jpeg_names[] = {"tjInitDecompress", "tjDestroy", "tjDecompressHeader3", "tjDecompress2", "tjGetErrorStr2", NULL};
typedef struct api {
  void *(*init)(void);
  int (*destroy)(void *h);
  int (*header)(void *h, const unsigned char *data, unsigned long size, int *width, int *height, int *subsampling, int *colors);
  int (*decompress)(void *h, const unsigned char *data, unsigned long size, unsigned char *to, int width, int pitch, int height, int format,
                    int flags);
  char *(*error)(void *h);
} api;

static sard_status *failed(const api *a, void *h) { return SD_ERR(MODEL, "%.150s", a->error(h)); }

// Four inks, stored inverted: what is left of white after color and black.
static void from_inks(const uint8_t *from, uint8_t *to) {
  for (int c = 0; c < 3; c++) {
    uint32_t v = (255u - from[c]) * from[3] + 128;
    to[c] = (uint8_t)(from[3] - ((v + (v >> 8)) >> 8));
  }
}

static sard_status *decode_inks(sd_image *m, const api *a, void *h) {
  uint64_t pixels = (uint64_t)m->width * m->height;
  uint8_t *inks = sd_malloc(pixels * 4);
  if (!inks) return SD_ERR(NOMEM, "no memory for %llu pixels", (unsigned long long)pixels);
  int width = (int)m->width, height = (int)m->height;
  int rc = a->decompress(h, m->data, m->size, inks, width, 0, height, CMYK, LIMIT_SCANS);
  for (uint64_t i = 0; i < pixels && !rc; i++) from_inks(inks + 4 * i, m->rgb + 3 * i);
  sd_free(inks);
  return rc ? failed(a, h) : NULL;
}

static sard_status *decode(sd_image *m, const api *a, void *h) {
  int width, height, subsampling, colors;
  if (a->header(h, m->data, m->size, &width, &height, &subsampling, &colors)) return failed(a, h);
  if (width < 1 || height < 1) return SD_ERR(MODEL, "its size is %d x %d", width, height);
  SD_TRY(sd_image_size(m, (uint64_t)width, (uint64_t)height));
  if (colors == IS_CMYK || colors == IS_YCCK) return decode_inks(m, a, h);
  return a->decompress(h, m->data, m->size, m->rgb, width, 0, height, RGB, LIMIT_SCANS) ? failed(a, h) : NULL;
}

sard_status *sd_image_jpeg(sd_image *m) {
  const api *a = m->api;
  void *h = a->init();
  if (!h) return SD_ERR(NOMEM, "libturbojpeg cannot start");
  sard_status *st = decode(m, a, h);
  a->destroy(h);
  return st;
}
