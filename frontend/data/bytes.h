// Bytes read in order from a part of a file, inflated on the way where it is compressed. Memory does not depend on
// their number.
#pragma once
#include "runtime/base/status.h"

typedef struct sd_bytes sd_bytes;

typedef struct sd_bytes_part {
  const char *what;          // for messages; must outlive the reader
  int fd;                    // stays the caller's; read with pread only
  uint64_t at, packed, size; // offset in the file, bytes there, bytes that they give
  bool deflated, checked;    // raw deflate stream; `crc` is known
  uint32_t crc;
} sd_bytes_part;

sard_status *sd_bytes_open(const sd_bytes_part *part, sd_bytes **out);
// Exactly n bytes; SARD_E_MODEL where there are fewer, or where the last of them show that the check sum is wrong.
sard_status *sd_bytes_read(sd_bytes *b, void *to, uint64_t n);
sard_status *sd_bytes_skip(sd_bytes *b, uint64_t n);
sard_status *sd_bytes_rewind(sd_bytes *b);
void sd_bytes_close(sd_bytes *b); // NULL ok
