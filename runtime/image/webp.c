// WebP by libwebp.
#include "runtime/image/image.h"

const char *const sd_image_webp_names[] = {"WebPGetInfo", "WebPDecodeRGBInto", NULL};
typedef struct api {
  int (*info)(const uint8_t *data, size_t size, int *width, int *height);
  uint8_t *(*decode)(const uint8_t *data, size_t size, uint8_t *to, size_t to_size, int stride);
} api;

sard_status *sd_image_webp(sd_image *m) {
  const api *a = m->api;
  int width, height;
  if (!a->info(m->data, m->size, &width, &height) || width < 1 || height < 1) return SD_ERR(MODEL, "its header is damaged");
  SD_TRY(sd_image_size(m, (uint64_t)width, (uint64_t)height));
  size_t stride = 3 * (size_t)m->width;
  if (a->decode(m->data, m->size, m->rgb, stride * m->height, (int)stride)) return NULL;
  return SD_ERR(MODEL, "it cannot be decoded: damaged, or an animation");
}
