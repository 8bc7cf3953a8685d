// Images as models want them: resized, cut, scaled, in the order of their axes.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct sd_prepare {
  int resize_w, resize_h; // 0: not; resize_h 0: the shorter side becomes resize_w
  int crop_w, crop_h;     // from the middle; 0: not
  double scale;           // values are divided by it: 255
  int n_mean, n_std;      // 0, 1 or as many as channels
  double mean[4], std[4]; // (value / scale - mean) / std
  bool last;              // channels are the last axis
  bool last_given;
  bool bgr, gray;
} sd_prepare;

// "resize=256,crop=224,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nhwc,order=bgr,scale=255"; NULL: the
// defaults.
sard_status *sd_prepare_parse(const char *text, sd_prepare *out);
// Size of what comes of an image.
void sd_prepare_size(const sd_prepare *p, uint32_t width, uint32_t height, int *out_w, int *out_h);
// From RGB bytes to floats [channels, h, w] or [h, w, channels], as sd_prepare_size says. SARD_E_NOMEM; SARD_E_USAGE
// where the image is smaller than what is cut out.
sard_status *sd_prepare_image(const sd_prepare *p, const uint8_t *rgb, uint32_t width, uint32_t height, float *out);
