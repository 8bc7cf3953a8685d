// A packed ONNX model as files.
#pragma once
#include "runtime/base/status.h"

// The bytes of a model as `path`. Beyond 2 GB, which ends what others read, or where `apart`, the data of its
// tensors go to `path`.data beside it, straight from the bytes. Each file is there as a whole or not at all.
sard_status *sd_proto_write(const uint8_t *bytes, uint64_t size, const char *path, bool apart);
