// PBM, PGM, PPM (P1 to P6): texts or bytes, one or three values in a pixel, up to 16 bits.
#include "runtime/base/alloc.h"
#include "runtime/image/image.h"

typedef struct pnm {
  const uint8_t *p, *end;
  char kind; // '1' to '6'
  uint32_t max;
} pnm;

static int is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Spaces, and comments from # to the end of the line.
static void skip_space(pnm *s) {
  while (s->p < s->end && (is_space(*s->p) || *s->p == '#')) {
    if (*s->p++ != '#') continue;
    while (s->p < s->end && *s->p != '\n' && *s->p != '\r') s->p++;
  }
}

static sard_status *read_number(pnm *s, uint32_t *out) {
  uint64_t v = 0;
  skip_space(s);
  if (s->p == s->end) return SD_ERR(MODEL, "it ends early");
  if (*s->p < '0' || *s->p > '9') return SD_ERR(MODEL, "byte 0x%02x where a number should be", *s->p);
  for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
    v = v * 10 + (uint64_t)(*s->p - '0');
    if (v > INT32_MAX) return SD_ERR(MODEL, "a number in it is too large");
  }
  *out = (uint32_t)v;
  return NULL;
}

static uint8_t scale(const pnm *s, uint32_t v) {
  if (s->max == 255) return (uint8_t)(v > 255 ? 255 : v);
  uint64_t x = ((uint64_t)v * 255 + s->max / 2) / s->max;
  return (uint8_t)(x > 255 ? 255 : x);
}

static void set_gray(uint8_t *to, uint8_t v) { to[0] = to[1] = to[2] = v; }

// Texts; the bits of P1 may stand without spaces between them.
static sard_status *read_text(pnm *s, sd_image *m) {
  uint64_t n = (uint64_t)m->width * m->height;
  uint32_t v;
  for (uint64_t i = 0; i < n; i++) {
    uint8_t *to = m->rgb + 3 * i;
    if (s->kind == '1') {
      skip_space(s);
      if (s->p == s->end || (*s->p != '0' && *s->p != '1')) return SD_ERR(MODEL, "pixel %llu is not 0 or 1", (unsigned long long)i);
      set_gray(to, *s->p++ == '0' ? 255 : 0);
      continue;
    }
    for (int c = 0; c < (s->kind == '3' ? 3 : 1); c++) {
      SD_TRY(read_number(s, &v));
      to[c] = scale(s, v);
    }
    if (s->kind == '2') set_gray(to, to[0]);
  }
  return NULL;
}

static void read_bytes(const pnm *s, sd_image *m, uint64_t stride) {
  uint32_t wide = s->max > 255 ? 2 : 1, values = s->kind == '6' ? 3 : 1;
  for (uint64_t y = 0; y < m->height; y++) {
    const uint8_t *row = s->p + y * stride;
    for (uint64_t x = 0; x < m->width; x++) {
      uint8_t *to = sd_image_pixel(m, x, y);
      if (s->kind == '4') {
        set_gray(to, row[x / 8] >> (7 - x % 8) & 1 ? 0 : 255);
        continue;
      }
      const uint8_t *from = row + x * values * wide;
      for (uint32_t c = 0; c < values; c++) to[c] = scale(s, wide == 2 ? (uint32_t)from[2 * c] << 8 | from[2 * c + 1] : from[c]);
      if (values == 1) set_gray(to, to[0]);
    }
  }
}

// The least bytes that the pixels take, so that no memory is asked for without them.
static sard_status *check_bytes(const pnm *s, uint32_t width, uint32_t height, uint64_t *stride) {
  uint64_t bytes, each = s->kind == '3' || s->kind == '6' ? 3 : 1;
  if (s->kind >= '5' && s->max > 255) each *= 2;
  if (s->kind == '2' || s->kind == '3') each *= 2; // a digit and a space
  *stride = s->kind == '4' ? ((uint64_t)width + 7) / 8 : width * each;
  if (!sd_ck_mul(*stride, height, &bytes) || bytes > (uint64_t)(s->end - s->p) + (s->kind <= '3'))
    return SD_ERR(MODEL, "%u x %u pixels do not fit into %lld bytes", width, height, (long long)(s->end - s->p));
  return NULL;
}

sard_status *sd_image_pnm(sd_image *m) {
  pnm s = {.p = m->data + 2, .end = m->data + m->size, .max = 255};
  uint32_t width, height;
  uint64_t stride;
  if (m->size < 3 || m->data[1] < '1' || m->data[1] > '6' || !(is_space(m->data[2]) || m->data[2] == '#'))
    return SD_ERR(UNSUPPORTED, "only P1 to P6 are known");
  s.kind = (char)m->data[1];
  SD_TRY(read_number(&s, &width));
  SD_TRY(read_number(&s, &height));
  if (s.kind != '1' && s.kind != '4') SD_TRY(read_number(&s, &s.max));
  if (s.max < 1 || s.max > 65535) return SD_ERR(MODEL, "its largest value is %u", s.max);
  if (s.kind >= '4' && (s.p == s.end || !is_space(*s.p++))) return SD_ERR(MODEL, "its header has no end");
  SD_TRY(check_bytes(&s, width, height, &stride));
  SD_TRY(sd_image_size(m, width, height));
  if (s.kind <= '3') return read_text(&s, m);
  read_bytes(&s, m, stride);
  return NULL;
}
