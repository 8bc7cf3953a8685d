// The table of image formats, and their libraries.
#include "runtime/image/image.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "runtime/base/alloc.h"

enum { MAX_NAMES = 16 };

typedef struct library { const char *file, *package; const char *const *names; } library;
static const library jpeg = {"libturbojpeg.so.0", "libturbojpeg0", sd_image_jpeg_names};
static const library png = {"libpng16.so.16", "libpng16-16", sd_image_png_names};
static const library webp = {"libwebp.so.7", "libwebp7", sd_image_webp_names};
static const library tiff = {"libtiff.so.6", "libtiff6", sd_image_tiff_names};
static const library jp2 = {"libopenjp2.so.7", "libopenjp2-7", sd_image_jp2_names};

typedef struct format {
  const char *name, *magic;
  size_t len;         // of the magic bytes, at the start of the file
  const library *lib; // NULL: decoded here
  sard_status *(*decode)(sd_image *m);
} format;

static const format formats[] = {
    {"JPEG", "\xff\xd8\xff", 3, &jpeg, sd_image_jpeg},
    {"PNG", "\x89PNG\r\n\x1a\n", 8, &png, sd_image_png},
    {"WebP", "RIFF", 4, &webp, sd_image_webp},
    {"TIFF", "II*\0", 4, &tiff, sd_image_tiff},
    {"TIFF", "MM\0*", 4, &tiff, sd_image_tiff},
    {"BigTIFF", "II+\0", 4, &tiff, sd_image_tiff},
    {"BigTIFF", "MM\0+", 4, &tiff, sd_image_tiff},
    {"JPEG 2000", "\0\0\0\x0cjP  \r\n\x87\n", 12, &jp2, sd_image_jp2},
    {"JPEG 2000", "\xff\x4f\xff\x51", 4, &jp2, sd_image_j2k},
    {"BMP", "BM", 2, NULL, sd_image_bmp},
    {"PNM", "P", 1, NULL, sd_image_pnm},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

// Loaded libraries stay: their functions by format.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *loaded[N_FORMATS][MAX_NAMES];

static sard_status *open_library(const format *f, void **fn) {
  void *handle = dlopen(f->lib->file, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    sard_status *st = SD_ERR(UNSUPPORTED, "decoding %s needs %s, which is not there", f->name, f->lib->file);
    return sd_status_field(st, SARD_TEXT_HINT, "install it; Debian's package is %s", f->lib->package);
  }
  for (int i = 0; f->lib->names[i]; i++) {
    fn[i] = dlsym(handle, f->lib->names[i]);
    if (fn[i]) continue;
    dlclose(handle);
    return SD_ERR(UNSUPPORTED, "decoding %s: %s has no function %s", f->name, f->lib->file, f->lib->names[i]);
  }
  return NULL;
}

static sard_status *load(const format *f, const void **api) {
  void *fn[MAX_NAMES] = {0}, **to = loaded[f - formats];
  sard_status *st = NULL;
  pthread_mutex_lock(&lock);
  if (!to[0]) st = open_library(f, fn);
  if (!st && !to[0]) memcpy(to, fn, sizeof fn);
  pthread_mutex_unlock(&lock);
  *api = to;
  return st;
}

sard_status *sd_image_decode(sd_image *m) {
  for (const format *f = formats; f < formats + N_FORMATS; f++) {
    if (m->size < f->len || memcmp(m->data, f->magic, f->len) != 0) continue;
    if (f->lib) SD_TRY(load(f, &m->api));
    return sd_status_context(f->decode(m), "%s image of %zu bytes", f->name, m->size);
  }
  return SD_ERR(UNSUPPORTED, "the image of %zu bytes is of no known format", m->size);
}

sard_status *sd_image_size(sd_image *m, uint64_t width, uint64_t height) {
  uint64_t pixels;
  if (!width || !height) return SD_ERR(MODEL, "its size is %llu x %llu", (unsigned long long)width, (unsigned long long)height);
  if (width > INT32_MAX || height > INT32_MAX || !sd_ck_mul(width, height, &pixels) || pixels > SD_IMAGE_PIXELS)
    return SD_ERR(UNSUPPORTED, "its size is %llu x %llu; the limit is %llu pixels", (unsigned long long)width, (unsigned long long)height,
                  (unsigned long long)SD_IMAGE_PIXELS);
  m->width = (uint32_t)width, m->height = (uint32_t)height;
  return m->room(m);
}
