// Reads a part of a file through a buffer; zlib inflates.
#include "frontend/data/bytes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "runtime/base/alloc.h"

enum { BUFFER = 1 << 16 };

struct sd_bytes {
  sd_bytes_part part;
  uint64_t taken, given; // bytes read from the file, bytes handed out
  uint32_t crc;
  uint32_t at, filled; // in the buffer (deflated: what zlib has not taken is in z)
  z_stream z;
  bool z_open;
  uint8_t buffer[BUFFER];
};

static sard_status *damaged(const sd_bytes *b, const char *why) {
  return SD_ERR(MODEL, "'%s' is damaged: %s", b->part.what, why);
}

static sard_status *fill(sd_bytes *b) {
  uint64_t left = b->part.packed - b->taken, want = left < BUFFER ? left : BUFFER;
  ssize_t got;
  do got = pread(b->part.fd, b->buffer, want, (off_t)(b->part.at + b->taken));
  while (got < 0 && errno == EINTR);
  if (got < 0) return sd_status_errno("cannot read", b->part.what);
  if (got == 0) return damaged(b, "it is cut off");
  b->taken += (uint64_t)got, b->at = 0, b->filled = (uint32_t)got;
  return NULL;
}

static sard_status *plain(sd_bytes *b, uint8_t *to, uint64_t n) {
  while (n) {
    if (b->at == b->filled) SD_TRY(fill(b));
    uint64_t part = b->filled - b->at < n ? b->filled - b->at : n;
    memcpy(to, b->buffer + b->at, part);
    b->at += (uint32_t)part, to += part, n -= part;
  }
  return NULL;
}

static sard_status *inflated(sd_bytes *b, uint8_t *to, uint64_t n) {
  while (n) {
    if (b->z.avail_in == 0 && b->taken < b->part.packed) {
      SD_TRY(fill(b));
      b->z.next_in = b->buffer, b->z.avail_in = b->filled;
    }
    uInt room = n < (1u << 30) ? (uInt)n : 1u << 30;
    b->z.next_out = to, b->z.avail_out = room;
    int rc = inflate(&b->z, Z_NO_FLUSH);
    uint64_t made = room - b->z.avail_out;
    to += made, n -= made;
    if (rc == Z_MEM_ERROR) return SD_ERR(NOMEM, "out of memory while reading '%s'", b->part.what);
    if (rc != Z_OK && rc != Z_STREAM_END) return damaged(b, b->z.msg ? b->z.msg : "the compressed data end too early");
    if (rc == Z_STREAM_END && n) return damaged(b, "the compressed data end too early");
    if (!made && b->z.avail_in == 0 && b->taken == b->part.packed)
      return damaged(b, "the compressed data end too early");
  }
  return NULL;
}

sard_status *sd_bytes_read(sd_bytes *b, void *to, uint64_t n) {
  if (n > b->part.size - b->given) return damaged(b, "it has fewer bytes than its header says");
  SD_TRY(b->part.deflated ? inflated(b, to, n) : plain(b, to, n));
  b->given += n;
  for (uint64_t k = 0; b->part.checked && k < n; k += 1u << 30)
    b->crc = (uint32_t)crc32(b->crc, (const uint8_t *)to + k, (uInt)(n - k < (1u << 30) ? n - k : 1u << 30));
  if (n && b->part.checked && b->given == b->part.size && b->crc != b->part.crc)
    return damaged(b, "its check sum is wrong");
  return NULL;
}

sard_status *sd_bytes_skip(sd_bytes *b, uint64_t n) {
  uint8_t scratch[4096];
  for (; n; n -= n < sizeof scratch ? n : sizeof scratch)
    SD_TRY(sd_bytes_read(b, scratch, n < sizeof scratch ? n : sizeof scratch));
  return NULL;
}

sard_status *sd_bytes_rewind(sd_bytes *b) {
  b->taken = b->given = 0, b->at = b->filled = 0;
  b->crc = (uint32_t)crc32(0, NULL, 0);
  b->z.avail_in = 0;
  return b->part.deflated && inflateReset(&b->z) != Z_OK ? SD_ERR(INTERNAL, "inflateReset") : NULL;
}

sard_status *sd_bytes_open(const sd_bytes_part *part, sd_bytes **out) {
  sd_bytes *b = sd_calloc(1, sizeof *b);
  if (!b) return SD_ERR(NOMEM, "out of memory while opening '%s'", part->what);
  b->part = *part;
  b->crc = (uint32_t)crc32(0, NULL, 0);
  if (part->deflated && inflateInit2(&b->z, -MAX_WBITS) != Z_OK) {
    sd_free(b);
    return SD_ERR(NOMEM, "out of memory while opening '%s'", part->what);
  }
  b->z_open = part->deflated;
  *out = b;
  return NULL;
}

void sd_bytes_close(sd_bytes *b) {
  if (b && b->z_open) inflateEnd(&b->z);
  sd_free(b);
}
