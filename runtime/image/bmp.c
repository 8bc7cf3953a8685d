// BMP: the headers of OS/2 and Windows; 1, 4, 8 bit palettes, run lengths, 16, 24, 32 bit with masks.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

enum { PLAIN = 0, RLE8 = 1, RLE4 = 2, MASKS = 3, ALPHA_MASKS = 6 };

typedef struct bmp {
  const sd_image *m;
  uint64_t at; // of the pixels
  uint32_t header, bits, compression, colors;
  uint32_t mask[3]; // red, green, blue
  bool top_down;
  uint8_t palette[256][3];
} bmp;

static uint32_t u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

static sard_status *ends_early(void) { return SD_ERR(MODEL, "it ends early"); }

// Size, depth and compression from either kind of header.
static sard_status *read_header(bmp *b, uint64_t *width, uint64_t *height) {
  const uint8_t *p = b->m->data;
  if (b->m->size < 26) return ends_early();
  b->at = u32(p + 10), b->header = u32(p + 14);
  if (b->header == 12) {
    *width = u16(p + 18), *height = u16(p + 20), b->bits = u16(p + 24);
    return NULL;
  }
  if (b->header < 40 || b->header > 1024) return SD_ERR(MODEL, "its header has %u bytes", b->header);
  if (b->m->size < 14 + (uint64_t)b->header) return ends_early();
  int64_t w = (int32_t)u32(p + 18), h = (int32_t)u32(p + 22);
  if (w < 0) return SD_ERR(MODEL, "its width is %lld", (long long)w);
  *width = (uint64_t)w, *height = (uint64_t)(h < 0 ? -h : h), b->top_down = h < 0;
  b->bits = u16(p + 28), b->compression = u32(p + 30), b->colors = u32(p + 46);
  return NULL;
}

static sard_status *check_depth(const bmp *b) {
  uint32_t bits = b->bits, c = b->compression;
  bool known = bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == 24 || bits == 32;
  bool fits = c == PLAIN || (c == RLE8 && bits == 8) || (c == RLE4 && bits == 4) || ((c == MASKS || c == ALPHA_MASKS) && (bits == 16 || bits == 32));
  if (known && fits && !(b->top_down && (c == RLE8 || c == RLE4))) return NULL;
  return SD_ERR(UNSUPPORTED, "it has %u bits in a pixel and compression %u", bits, c);
}

// Masks stand behind a header of 40 bytes, or inside of a larger one: at the same place.
static sard_status *read_masks(bmp *b) {
  static const uint32_t usual[2][3] = {{0x7c00, 0x3e0, 0x1f}, {0xff0000, 0xff00, 0xff}};
  memcpy(b->mask, usual[b->bits == 32], sizeof b->mask);
  if (b->compression != MASKS && b->compression != ALPHA_MASKS) return NULL;
  if (b->m->size < 14 + 40 + 12) return ends_early();
  for (int c = 0; c < 3; c++) b->mask[c] = u32(b->m->data + 54 + 4 * c);
  return NULL;
}

static sard_status *read_palette(bmp *b) {
  uint64_t each = b->header == 12 ? 3 : 4, from = 14 + (uint64_t)b->header, most = UINT64_C(1) << b->bits;
  uint64_t count = b->colors && b->colors < most ? b->colors : most;
  if (b->at > from && (b->at - from) / each < count) count = (b->at - from) / each;
  if (from + count * each > b->m->size) return ends_early();
  for (uint64_t i = 0; i < count; i++)
    for (int c = 0; c < 3; c++) b->palette[i][c] = b->m->data[from + i * each + 2 - (uint64_t)c];
  return NULL;
}

static uint8_t masked(uint32_t v, uint32_t mask) {
  if (!mask) return 0;
  int shift = __builtin_ctz(mask);
  return (uint8_t)((uint64_t)((v & mask) >> shift) * 255 / (mask >> shift));
}

static void read_pixel(const bmp *b, const uint8_t *row, uint64_t x, uint8_t *to) {
  uint32_t v;
  switch (b->bits) {
  case 24:
    for (int c = 0; c < 3; c++) to[c] = row[3 * x + 2 - (uint64_t)c];
    return;
  case 16:
  case 32:
    v = b->bits == 16 ? u16(row + 2 * x) : u32(row + 4 * x);
    for (int c = 0; c < 3; c++) to[c] = masked(v, b->mask[c]);
    return;
  default:
    v = row[x * b->bits / 8] >> (8 - b->bits - x * b->bits % 8) & ((1u << b->bits) - 1);
    memcpy(to, b->palette[v], 3);
  }
}

static void read_plain(const bmp *b, uint64_t stride) {
  const sd_image *m = b->m;
  for (uint64_t y = 0; y < m->height; y++) {
    const uint8_t *row = m->data + b->at + y * stride;
    for (uint64_t x = 0; x < m->width; x++) read_pixel(b, row, x, sd_image_pixel(m, x, b->top_down ? y : m->height - 1 - y));
  }
}

// ---- run lengths ----
static void put(const bmp *b, uint64_t x, uint64_t y, uint32_t color) {
  if (x < b->m->width && y < b->m->height) memcpy(sd_image_pixel(b->m, x, b->m->height - 1 - y), b->palette[color], 3);
}

static uint32_t run_color(const bmp *b, const uint8_t *p, uint64_t i) {
  return b->bits == 8 ? p[i] : i % 2 ? p[i / 2] & 15 : p[i / 2] >> 4;
}

// Pairs (count, color), and after a count of 0: end of row, end, move, or that many colors.
static sard_status *read_runs(const bmp *b) {
  const uint8_t *p = b->m->data + b->at, *end = b->m->data + b->m->size;
  uint64_t x = 0, y = 0;
  for (uint64_t i = 0; i < (uint64_t)b->m->width * b->m->height; i++) memcpy(b->m->rgb + 3 * i, b->palette[0], 3);
  while (y < b->m->height) {
    if (end - p < 2) return ends_early();
    uint32_t count = p[0], what = p[1];
    p += 2;
    if (count) {
      uint8_t two[1] = {(uint8_t)what};
      for (uint32_t i = 0; i < count; i++) put(b, x++, y, run_color(b, two, b->bits == 8 ? 0 : i % 2));
    } else if (what == 0) {
      x = 0, y++;
    } else if (what == 1) {
      return NULL;
    } else if (what == 2) {
      if (end - p < 2) return ends_early();
      x += p[0], y += p[1], p += 2;
    } else {
      uint64_t bytes = ((uint64_t)what * b->bits + 15) / 16 * 2;
      if ((uint64_t)(end - p) < bytes) return ends_early();
      for (uint32_t i = 0; i < what; i++) put(b, x++, y, run_color(b, p, i));
      p += bytes;
    }
  }
  return NULL;
}

sard_status *sd_image_bmp(sd_image *m) {
  bmp b = {.m = m};
  uint64_t width = 0, height = 0, stride, bytes, end;
  SD_TRY(read_header(&b, &width, &height));
  SD_TRY(check_depth(&b));
  if (b.bits <= 8) SD_TRY(read_palette(&b));
  else if (b.bits != 24) SD_TRY(read_masks(&b));
  bool runs = b.compression == RLE8 || b.compression == RLE4;
  if (!sd_ck_mul(width, b.bits, &stride) || !sd_ck_mul(stride = (stride + 31) / 32 * 4, height, &bytes) || !sd_ck_add(bytes, b.at, &end))
    return SD_ERR(MODEL, "its size overflows");
  if (b.at > m->size || (!runs && end > m->size)) return ends_early();
  SD_TRY(sd_image_size(m, width, height));
  if (runs) return read_runs(&b);
  read_plain(&b, stride);
  return NULL;
}
