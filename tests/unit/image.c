// Images of every format against the pixels that another decoder gave (NAME.ppm beside NAME), the three orders of pixels,
// and what is refused.
#include "runtime/host.h"
#include "runtime/image/image.h"
#include "runtime/base/file.h"
#include "tests/unit/test.h"

typedef struct pixels { int64_t dims[3]; uint8_t data[4096]; } pixels;

static sard_status *make(sd_host_call *c, uint32_t out, const int64_t *dims) {
  pixels *p = c->user;
  memcpy(p->dims, dims, sizeof p->dims);
  if (dims[0] * dims[1] * dims[2] > (int64_t)sizeof p->data) return SD_ERR(NOMEM, "the result has no room");
  c->out[out].data = p->data;
  return NULL;
}

static sard_status *decode(const void *data, uint64_t size, int64_t order, pixels *to) {
  sd_host_tensor in = {.dtype = SD_U8, .rank = 1, .dims = {(int64_t)size}, .count = size, .data = (void *)data};
  sd_host_tensor out = {.dtype = SD_U8, .rank = 3};
  sd_host_call c = {
      .n_in = 1, .n_out = 1, .n_param = 1, .in = &in, .out = &out, .param = &order, .make = make, .user = to};
  return sd_host_run(sd_host_find("sard.DecodeImage"), &c);
}

static sd_map map(const char *name) {
  static char path[1024];
  const char *end = strrchr(__FILE__, '/');
  sd_map m = {0};
  snprintf(path, sizeof path, "tests/unit/images/%s", name); // from the root of the checkout, as tests/run.sh
  if (access(path, R_OK)) snprintf(path, sizeof path, "%.*s/images/%s", (int)(end - __FILE__), __FILE__, name);
  CHECK_OK(sd_file_map(path, &m));
  return m;
}

// Decoded pixels differ by at most `most`.
static void compare(const char *name, int most) {
  static pixels got, want;
  char expected[256];
  int worst = 0;
  snprintf(expected, sizeof expected, "%s.ppm", name);
  sd_map a = map(name), b = map(expected);
  CHECK_OK(decode(a.data, a.size, 0, &got));
  CHECK_OK(decode(b.data, b.size, 0, &want));
  CHECK(memcmp(got.dims, want.dims, sizeof got.dims) == 0 && got.dims[0] == 7 && got.dims[1] == 13 && got.dims[2] == 3);
  for (int i = 0; i < 7 * 13 * 3; i++) worst = abs(got.data[i] - want.data[i]) > worst ? abs(got.data[i] - want.data[i]) : worst;
  if (worst > most) printf("%s: a value differs by %d\n", name, worst);
  CHECK(worst <= most);
  sd_file_unmap(&a), sd_file_unmap(&b);
}

static void test_formats(void) {
  static const char *const exact[] = {"rgb.bmp", "gray.bmp", "palette.bmp", "bits.bmp", "rgba.bmp", "rgb565.bmp", "top_down.bmp", "rle8.bmp",
                                      "rle4.bmp", "core.bmp", "p1.pnm", "p2.pnm", "p3.pnm", "p4.pnm", "p5.pnm", "p6.pnm", "p6_16.pnm", "rgb.png",
                                      "palette.png", "gray.png", "rgba.png", "bits.png", "gray16.png", "lossless.webp", "rgb.tif", "lzw.tif",
                                      "deflate.tif", "packbits.tif", "group4.tif", "rgb.jp2", "gray.jp2"};
  static const char *const lossy[] = {"rgb.jpg", "gray.jpg", "progressive.jpg", "inks.jpg", "lossy.webp", "lossy.j2k"};
  for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) compare(exact[i], 0);
  for (size_t i = 0; i < sizeof lossy / sizeof *lossy; i++) compare(lossy[i], 1);
}

static void test_orders(void) {
  static pixels rgb, bgr, gray;
  sd_map m = map("rgb.png");
  CHECK_OK(decode(m.data, m.size, 0, &rgb));
  CHECK_OK(decode(m.data, m.size, 1, &bgr));
  CHECK_OK(decode(m.data, m.size, 2, &gray));
  CHECK(gray.dims[2] == 1 && bgr.dims[2] == 3);
  for (int i = 0; i < 7 * 13; i++) {
    const uint8_t *p = rgb.data + 3 * i, *q = bgr.data + 3 * i;
    CHECK(p[0] == q[2] && p[1] == q[1] && p[2] == q[0]);
    CHECK(abs(gray.data[i] - (int)(0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] + 0.5)) <= 1);
  }
  sd_file_unmap(&m);
}

static void test_refused(void) {
  static pixels p;
  static const char large[] = "P5 70000 70000 255 ";
  static const uint8_t bomb[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 1, 0, 0, 0, 1, 0, 0, 8, 2, 0, 0, 0};
  CHECK_ERR(decode("", 0, 0, &p), UNSUPPORTED, "no known format");
  CHECK_ERR(decode("GIF89a", 6, 0, &p), UNSUPPORTED, "no known format");
  CHECK_ERR(decode("P9 1 1 1 ", 9, 0, &p), UNSUPPORTED, "P1 to P6");
  CHECK_ERR(decode("P2 2 1 255 1", 12, 0, &p), MODEL, "do not fit");
  CHECK_ERR(decode("P5 0 1 255 1", 12, 0, &p), MODEL, "its size is 0 x 1");
  CHECK_ERR(decode("P5 1 1 0 1", 10, 0, &p), MODEL, "largest value");
  CHECK_ERR(decode(large, sizeof large, 0, &p), MODEL, "do not fit");
  CHECK_ERR(decode(bomb, sizeof bomb, 0, &p), MODEL, "PNG image of 29 bytes");
  CHECK_ERR(decode("BM", 2, 0, &p), MODEL, "ends early");
  CHECK_ERR(decode("x", 1, 3, &p), MODEL, "no tensor of bytes");
}

// Every prefix is refused or decoded; nothing is read behind it (under ASan).
static void test_prefixes(void) {
  static const char *const names[] = {"rgb.bmp", "rle8.bmp", "rle4.bmp", "core.bmp", "p3.pnm", "p6.pnm", "rgb.jpg", "rgb.png", "lossy.webp", "lzw.tif", "rgb.jp2"};
  static pixels p;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    sd_map m = map(names[i]);
    for (uint64_t n = 0; n < m.size; n++) {
      uint8_t *copy = malloc(n ? n : 1);
      if (!copy) abort();
      memcpy(copy, m.data, n);
      sard_status *st = decode(copy, n, 0, &p);
      int code = sard_status_code(st);
      if (st && code != SARD_E_MODEL && code != SARD_E_UNSUPPORTED && code != SARD_E_NOMEM)
        printf("%s, %lu bytes: %s\n", names[i], (unsigned long)n, sard_status_text(st, SARD_TEXT_MESSAGE)), check_failed++;
      sard_status_free(st);
      free(copy);
    }
    sd_file_unmap(&m);
  }
}

int main(void) {
  RUN(test_formats);
  RUN(test_orders);
  RUN(test_refused);
  RUN(test_prefixes);
  return check_end();
}
