// Protobuf's wire format.
#include "runtime/io/pb_wire.h"

#include <string.h>

bool sd_pb_varint(sd_pb_reader *r, uint64_t *out) {
  uint64_t v = 0;
  for (unsigned shift = 0; shift < 70 && r->p < r->end; shift += 7) {
    uint8_t b = *r->p++;
    if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) {
      *out = v;
      return true;
    }
  }
  return false;
}

bool sd_pb_fixed(sd_pb_reader *r, unsigned n, uint64_t *out) {
  if ((uint64_t)(r->end - r->p) < n) return false;
  *out = 0;
  memcpy(out, r->p, n);
  r->p += n;
  return true;
}

bool sd_pb_next(sd_pb_reader *r, sd_pb_field *f) {
  uint64_t key, n;
  if (!sd_pb_varint(r, &key)) return false;
  f->number = key >> 3;
  f->wire = key & 7;
  if (f->number == 0 || f->number > 0x1fffffff) return false;
  switch (f->wire) {
  case SD_PB_VARINT: return sd_pb_varint(r, &f->value);
  case SD_PB_64: return sd_pb_fixed(r, 8, &f->value);
  case SD_PB_32: return sd_pb_fixed(r, 4, &f->value);
  case SD_PB_BYTES:
    if (!sd_pb_varint(r, &n) || n > (uint64_t)(r->end - r->p)) return false;
    f->bytes = (sd_pb_reader){r->p, r->p + n};
    r->p += n;
    return true;
  default: return false; // groups are not part of ONNX
  }
}

void sd_pb_put_varint(sd_str *s, uint64_t v) {
  char b[10];
  size_t n = 0;
  for (; v >= 0x80; v >>= 7) b[n++] = (char)(v | 0x80);
  b[n++] = (char)v;
  sd_str_putn(s, b, n);
}

void sd_pb_put_key(sd_str *s, unsigned number, unsigned wire) { sd_pb_put_varint(s, number << 3 | wire); }

void sd_pb_put_bytes(sd_str *s, unsigned number, const void *p, size_t n) {
  sd_pb_put_key(s, number, SD_PB_BYTES);
  sd_pb_put_varint(s, n);
  if (n) sd_str_putn(s, p, n);
}
