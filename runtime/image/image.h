// Decoding of images to 8 bit RGB. Each format is a function; those of well-known libraries load them when they are first
// needed, so that the runtime links none of them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define SD_IMAGE_PIXELS (UINT64_C(1) << 28) // more are refused

typedef struct sd_image sd_image;
struct sd_image {
  const uint8_t *data; // the encoded image; untrusted
  size_t size;
  const void *api; // functions of the format's library, in the order of its names
  uint32_t width, height;
  uint8_t *rgb; // 3 * width * height bytes, rows from top to bottom; given by `room`
  sard_status *(*room)(sd_image *m);
  void *user; // of `room`
};

// Finds the format by its first bytes, loads the library and decodes: sets width and height, calls `room`, fills rgb.
// SARD_E_UNSUPPORTED: unknown format, library not installed; SARD_E_MODEL: damaged.
sard_status *sd_image_decode(sd_image *m);

// ---- for the formats ----
// Sets the size after checking it, and asks for memory. Every format calls it once, before any row is decoded.
sard_status *sd_image_size(sd_image *m, uint64_t width, uint64_t height);
static inline uint8_t *sd_image_pixel(const sd_image *m, uint64_t x, uint64_t y) { return m->rgb + 3 * (y * m->width + x); }

sard_status *sd_image_bmp(sd_image *m);
sard_status *sd_image_pnm(sd_image *m);
sard_status *sd_image_jpeg(sd_image *m);
sard_status *sd_image_png(sd_image *m);
sard_status *sd_image_webp(sd_image *m);
sard_status *sd_image_tiff(sd_image *m);
sard_status *sd_image_jp2(sd_image *m);  // boxes
sard_status *sd_image_j2k(sd_image *m);  // bare codestream
extern const char *const sd_image_jpeg_names[], *const sd_image_png_names[], *const sd_image_webp_names[],
    *const sd_image_tiff_names[], *const sd_image_jp2_names[]; // ended by NULL
