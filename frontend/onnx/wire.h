// Reads ONNX's protobuf files without copying weights: large data stays where it is, the rest is unpacked.
#pragma once
#include <protobuf-c/protobuf-c.h>

#include "onnx.proto3.pb-c.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

#define SD_WIRE_LIFT_BYTES 256 // data of a tensor from this size on is lifted

// Bytes of the file that one tensor's data occupies. `field` is the TensorProto field they came from: 9 raw_data,
// 4 float_data, 10 double_data (both packed).
typedef struct sd_span {
  const uint8_t *data;
  uint64_t size;
  uint32_t field;
} sd_span;
typedef SD_VEC(sd_span) sd_spans;

// Unpacks the message of type `root` (a message descriptor of onnx.proto3) in `data`. Tensors whose data was lifted
// carry `lifted` = index + 1 into *out_spans; the spans point into `data`. Everything else lives in `a`. Errors:
// SARD_E_MODEL with the byte offset where the file is malformed (wrong wire type, length past the end, nesting deeper
// than SD_MAX_DEPTH bodies, ...), SARD_E_NOMEM. Linear time; memory bounded by a multiple of the size without weights.
sard_status *sd_wire_read(sd_arena *a, const void *data, uint64_t size, const ProtobufCMessageDescriptor *root,
                          ProtobufCMessage **out, sd_spans *out_spans);

// Reads a base-128 varint at *p (before `end`) and advances. False when it is cut off or longer than 64 bits.
bool sd_wire_varint(const uint8_t **p, const uint8_t *end, uint64_t *out);
