// Preparation of images: words, sizes, pixels.
#include <math.h>

#include "frontend/data/prepare.h"
#include "tests/unit/check.h"

static bool near(double a, double b, double slack) { return fabs(a - b) <= slack; }

static void words(void) {
  sd_prepare p;
  CHECK_OK(sd_prepare_parse(NULL, &p));
  CHECK(p.scale == 255 && !p.resize_w && !p.crop_w && !p.n_mean);
  CHECK_OK(sd_prepare_parse("resize=256,crop=224,mean=0.485:0.456:0.406,std=0.5,layout=nhwc,order=bgr,scale=1", &p));
  CHECK(p.resize_w == 256 && p.resize_h == 0 && p.crop_w == 224 && p.crop_h == 224 && p.n_mean == 3 && p.n_std == 1 &&
        p.last && p.bgr && p.scale == 1);
  CHECK_OK(sd_prepare_parse("resize=30x20,crop=10x8", &p));
  CHECK(p.resize_w == 30 && p.resize_h == 20 && p.crop_w == 10 && p.crop_h == 8);
  static const char *const wrong[] = {
      "resize",  "resize=",        "resize=0", "resize=3x", "resize=3x0", "resize=-4",   "crop=1x2x3", "mean=",
      "mean=1:", "mean=1:2:3:4:5", "std=0",    "scale=0",   "scale=1:2",  "layout=nhcw", "order=rbg",  "colour=1"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    CHECK_ERR(sd_prepare_parse(wrong[i], &p), USAGE, "--preprocess");
}

static void sizes(void) {
  sd_prepare p;
  int w, h;
  CHECK_OK(sd_prepare_parse("resize=50", &p));
  sd_prepare_size(&p, 200, 100, &w, &h);
  CHECK(w == 100 && h == 50);
  sd_prepare_size(&p, 30, 60, &w, &h);
  CHECK(w == 50 && h == 100);
  CHECK_OK(sd_prepare_parse("resize=50,crop=40x30", &p));
  sd_prepare_size(&p, 200, 100, &w, &h);
  CHECK(w == 40 && h == 30);
}

// A ramp along x of 8 by 2 pixels, the channels shifted.
static void pixels(void) {
  uint8_t rgb[8 * 2 * 3];
  float out[192];
  sd_prepare p;
  for (int y = 0; y < 2; y++)
    for (int x = 0; x < 8; x++)
      for (int c = 0; c < 3; c++) rgb[(y * 8 + x) * 3 + c] = (uint8_t)(10 * x + c);
  CHECK_OK(sd_prepare_parse("scale=1", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(out[0] == 0 && out[7] == 70 && out[16] == 1 && out[32] == 2);
  CHECK_OK(sd_prepare_parse("scale=1,layout=nhwc,order=bgr", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(out[0] == 2 && out[2] == 0 && out[3] == 12);
  CHECK_OK(sd_prepare_parse("scale=10,mean=1:2:3,std=2", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(near(out[7], (7 - 1) / 2., 1e-6) && near(out[16], (0.1 - 2) / 2, 1e-6) &&
        near(out[32 + 8], (0.2 - 3) / 2, 1e-6));
  CHECK_OK(sd_prepare_parse("scale=1,crop=2x2", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(out[0] == 30 && out[1] == 40 && out[2] == 30);
  // Half the size: all pixels count. Inside of a ramp the middle of the two is kept.
  CHECK_OK(sd_prepare_parse("scale=1,resize=4x1", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(near(out[1], 25, 1e-4) && near(out[2], 45, 1e-4) && out[0] > 5 && out[0] < 10);
  CHECK_OK(sd_prepare_parse("scale=1,resize=16x4", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out)); // 16 * 4 of a channel
  CHECK(near(out[0], 0, 1e-4) && near(out[1], 2.5, 1e-4) && near(out[2], 7.5, 1e-4) && near(out[15], 70, 1e-4));
  CHECK_OK(sd_prepare_parse("crop=9", &p));
  CHECK_ERR(sd_prepare_image(&p, rgb, 8, 2, out), USAGE, "smaller than the 9x9");
  CHECK_OK(sd_prepare_parse("scale=1,order=gray", &p));
  CHECK_OK(sd_prepare_image(&p, rgb, 8, 2, out));
  CHECK(near(out[0], 0.587 + 2 * 0.114, 1e-6));
}

int main(void) {
  words(), sizes(), pixels();
  return check_end();
}
