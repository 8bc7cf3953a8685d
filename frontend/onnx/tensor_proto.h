// TensorProto to and from sd_const.
#pragma once
#include "frontend/onnx/external.h"
#include "frontend/onnx/wire.h"
#include "ir/graph.h"

// Where the parts of a tensor are found and where it goes.
typedef struct sd_tensors {
  sd_arena *arena;        // of the results; lifted and external data is pointed to, small data is copied (aligned)
  sd_spans spans;
  sd_external *external;  // NULL: external data is an error
  uint64_t dense_budget;  // bytes that sparse tensors may still expand to
  sd_module *module;      // whose strings the elements of string tensors are; NULL: these are refused
} sd_tensors;

// The tensor in every encoding. `what` is for messages ("initializer", "attribute 'value' of ..."). The dims, dtype and
// data agree in size exactly, or it is SARD_E_MODEL. Data of large tensors may lie unaligned in the mapped file.
sard_status *sd_tensor_proto_const(sd_tensors *t, const Onnx__TensorProto *p, const char *what, sd_const **out);
// Data that are in another file, as they are there. SARD_E_MODEL where they are of another size than type and shape say.
sard_status *sd_tensor_proto_outside(sd_tensors *t, const Onnx__TensorProto *p, const char *what, const void **data,
                                     uint64_t *bytes);
// The dense form. Limited by t->dense_budget, which it reduces.
sard_status *sd_tensor_proto_sparse(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what, sd_const **out);
// Checks what sd_tensor_proto_sparse would, without making the dense form.
sard_status *sd_tensor_proto_sparse_check(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what);

// ---- files that hold one TensorProto (test data) ----
// Reads one; the result lives in `a` and may point into `data`. *out_name is "" when it has none; may be NULL.
sard_status *sd_tensor_proto_read(sd_arena *a, const void *data, uint64_t size, sd_const **out, const char **out_name);
