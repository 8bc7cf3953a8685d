// Sequences, optionals and maps in ONNX's protobuf messages.
#pragma once
#include "runtime/base/str.h"
#include "sard/sard.h"

// Reads a SequenceProto, OptionalProto or MapProto as `kind` says. An optional may also be stored as what it holds.
sard_status *sd_pb_parse_value(sard_context *ctx, const void *data, uint64_t size, int32_t kind, const char *what,
                               sard_tensor **out);
void sd_pb_put_value(sd_str *to, sard_tensor *v, const char *name);
void sd_pb_put_tensor(sd_str *to, sard_tensor *t, const char *name);
