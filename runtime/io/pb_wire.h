// Protobuf's wire format: fields of untrusted bytes, and writing.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/str.h"

enum { SD_PB_VARINT = 0, SD_PB_64 = 1, SD_PB_BYTES = 2, SD_PB_32 = 5 };

typedef struct sd_pb_reader { const uint8_t *p, *end; } sd_pb_reader;
typedef struct sd_pb_field {
  uint64_t number;
  unsigned wire;
  uint64_t value;     // of VARINT, 64 and 32
  sd_pb_reader bytes; // of BYTES
} sd_pb_field;

bool sd_pb_varint(sd_pb_reader *r, uint64_t *out);
bool sd_pb_fixed(sd_pb_reader *r, unsigned n, uint64_t *out); // n bytes, little endian
// The next field; false at bad bytes. Not called at the end.
bool sd_pb_next(sd_pb_reader *r, sd_pb_field *f);

void sd_pb_put_varint(sd_str *s, uint64_t v);
void sd_pb_put_key(sd_str *s, unsigned number, unsigned wire);
void sd_pb_put_bytes(sd_str *s, unsigned number, const void *p, size_t n); // a field of kind BYTES
