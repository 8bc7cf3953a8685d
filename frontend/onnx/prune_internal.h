// Shared by the files of pruning.
#pragma once
#include "frontend/onnx/proto.h"
#include "frontend/onnx/prune.h"

// A matrix of the unit's size in the order of the file.
void sd_prune_to_file(const sd_prune_unit *u, const float *w, float *out);
// Other numbers in a tensor of f32; they are kept, not copied.
void sd_prune_replace(Onnx__TensorProto *t, uint64_t count, const float *values);
