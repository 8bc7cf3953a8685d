// Shared by the files of pruning.
#pragma once
#include "frontend/onnx/proto.h"
#include "frontend/onnx/prune.h"

// Other numbers in a tensor of f32; they are kept, not copied.
void sd_prune_replace(Onnx__TensorProto *t, uint64_t count, const float *values);
// The weights of all units that are not kept, where they have changed.
void sd_prune_put(sd_proto *p, const sd_prune_units *units);
// Operators that move elements of their first operand, and those of `also`, which ends with NULL.
bool sd_prune_moves(const char *op, const char *const *also);
// Elements of all constants of floats.
uint64_t sd_prune_parameters(const sd_proto *p);
