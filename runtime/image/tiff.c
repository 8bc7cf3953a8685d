// TIFF by libtiff: the first image of the file, from memory, without its handlers of errors that print.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

enum { WIDTH = 256, HEIGHT = 257, TOP_LEFT = 1 };
#define MAX_ALLOC (INT64_C(4) * (INT64_C(1) << 28))

typedef struct tiff tiff;       // of libtiff
typedef struct options options; // of libtiff
typedef long (*io_fn)(void *user, void *p, long n);
typedef uint64_t (*seek_fn)(void *user, uint64_t to, int whence);
typedef int (*close_fn)(void *user);
typedef uint64_t (*size_fn)(void *user);
typedef int (*map_fn)(void *user, void **p, uint64_t *size);
typedef void (*unmap_fn)(void *user, void *p, uint64_t size);
typedef int (*message_fn)(tiff *t, void *user, const char *module, const char *format, va_list args);

const char *const sd_image_tiff_names[] = {"TIFFClientOpenExt", "TIFFClose", "TIFFGetField", "TIFFReadRGBAImageOriented", "TIFFOpenOptionsAlloc",
                                           "TIFFOpenOptionsFree", "TIFFOpenOptionsSetMaxSingleMemAlloc", "TIFFOpenOptionsSetErrorHandlerExtR",
                                           "TIFFOpenOptionsSetWarningHandlerExtR", NULL};
typedef struct api {
  tiff *(*open)(const char *name, const char *mode, void *user, io_fn read, io_fn write, seek_fn seek, close_fn close, size_fn size, map_fn map,
                unmap_fn unmap, options *o);
  void (*close)(tiff *t);
  int (*field)(tiff *t, uint32_t tag, ...);
  int (*read)(tiff *t, uint32_t width, uint32_t height, uint32_t *to, int orientation, int stop_on_error);
  options *(*options_new)(void);
  void (*options_free)(options *o);
  void (*max_alloc)(options *o, long bytes);
  void (*on_error)(options *o, message_fn fn, void *user);
  void (*on_warning)(options *o, message_fn fn, void *user);
} api;

typedef struct source {
  const uint8_t *data;
  uint64_t size, at;
  char message[128]; // the first error
} source;

static long read_some(void *user, void *p, long n) {
  source *s = user;
  uint64_t left = s->at < s->size ? s->size - s->at : 0, count = n < 0 ? 0 : (uint64_t)n;
  if (count > left) count = left;
  if (count) memcpy(p, s->data + s->at, count);
  s->at += count;
  return (long)count;
}
static long write_none(void *user, void *p, long n) {
  (void)user, (void)p, (void)n;
  return -1;
}
static uint64_t seek(void *user, uint64_t to, int whence) {
  source *s = user;
  uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->at : s->size;
  return s->at = from + to; // reads at a place past the end give nothing
}
static int close_source(void *user) { return (void)user, 0; }
static uint64_t size_source(void *user) { return ((source *)user)->size; }
static int map_none(void *user, void **p, uint64_t *size) { return (void)user, (void)p, (void)size, 0; }
static void unmap_none(void *user, void *p, uint64_t size) { (void)user, (void)p, (void)size; }

static int keep_message(tiff *t, void *user, const char *module, const char *format, va_list args) {
  source *s = user;
  (void)t, (void)module;
  if (!*s->message) vsnprintf(s->message, sizeof s->message, format, args);
  return 1;
}
static int drop_message(tiff *t, void *user, const char *module, const char *format, va_list args) {
  (void)t, (void)user, (void)module, (void)format, (void)args;
  return 1;
}

static sard_status *failed(const source *s) { return SD_ERR(MODEL, "%s", *s->message ? s->message : "it cannot be decoded"); }

static sard_status *decode(sd_image *m, const api *a, tiff *t, const source *s) {
  uint32_t width = 0, height = 0;
  if (!a->field(t, WIDTH, &width) || !a->field(t, HEIGHT, &height)) return failed(s);
  SD_TRY(sd_image_size(m, width, height));
  uint64_t pixels = (uint64_t)width * height;
  uint32_t *raster = sd_calloc(pixels, sizeof *raster);
  if (!raster) return SD_ERR(NOMEM, "no memory for %llu pixels", (unsigned long long)pixels);
  int ok = a->read(t, width, height, raster, TOP_LEFT, 1);
  for (uint64_t i = 0; i < pixels && ok; i++)
    for (int c = 0; c < 3; c++) m->rgb[3 * i + (uint64_t)c] = (uint8_t)(raster[i] >> 8 * c);
  sd_free(raster);
  return ok ? NULL : failed(s);
}

sard_status *sd_image_tiff(sd_image *m) {
  const api *a = m->api;
  source s = {.data = m->data, .size = m->size};
  options *o = a->options_new();
  if (!o) return SD_ERR(NOMEM, "libtiff cannot start");
  a->max_alloc(o, MAX_ALLOC);
  a->on_error(o, keep_message, &s);
  a->on_warning(o, drop_message, NULL);
  tiff *t = a->open("image", "rm", &s, read_some, write_none, seek, close_source, size_source, map_none, unmap_none, o);
  a->options_free(o);
  if (!t) return failed(&s);
  sard_status *st = decode(m, a, t, &s);
  a->close(t);
  return st;
}
