// Tensors in files: numpy's .npy and ONNX's TensorProto .pb. Contents are untrusted.
#pragma once
#include "sard/sard.h"

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

// Reads a tensor; the kind of file is told by its first bytes. desc.name is the name in a .pb, "" for a .npy.
// SARD_E_IO when the file cannot be read, SARD_E_MODEL when it is damaged, SARD_E_UNSUPPORTED for external data and .npy
// types without an ONNX equal. The result is owned by the caller. `kind`: what is expected, SARD_SEQUENCE, SARD_OPTIONAL
// or SARD_MAP (the bytes do not tell), else a tensor.
sard_status *sd_value_read(sard_context *ctx, const char *path, int32_t kind, sard_tensor **out);
sard_status *sd_tensor_read(sard_context *ctx, const char *path, sard_tensor **out); // a tensor
// The same from bytes; `what` names them in messages.
sard_status *sd_npy_parse(sard_context *ctx, const void *data, uint64_t size, const char *what, sard_tensor **out);
// The beginning of a .npy file, for readers that take its elements in parts. `size` bytes of it are at `data`: the whole
// file, or as much as a header can have.
#define SD_NPY_HEAD_BYTES ((1u << 20) + 12)
typedef struct sd_npy_head {
  sd_dtype dtype;
  bool swapped, fortran; // big-endian; columns first
  int rank;
  int64_t dims[SARD_MAX_RANK];
  uint64_t data;         // offset of the elements
} sd_npy_head;
sard_status *sd_npy_parse_head(const void *data, uint64_t size, const char *what, sd_npy_head *out);
void sd_npy_swap(sd_dtype t, void *data, uint64_t bytes); // turns the bytes of each element around
sard_status *sd_pb_parse(sard_context *ctx, const void *data, uint64_t size, const char *what, sard_tensor **out);

// Writes a tensor. Types that numpy lacks become f32 (narrow floats) or i8/u8 (2 and 4 bit integers).
sard_status *sd_npy_write(const char *path, sard_tensor *t);
// Writes a TensorProto (with raw data), SequenceProto, OptionalProto or MapProto; name NULL: that of the tensor.
sard_status *sd_pb_write(const char *path, sard_tensor *t, const char *name);
