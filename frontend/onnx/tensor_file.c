// Files that hold one TensorProto: the test data of ONNX models.
#include "frontend/onnx/tensor_proto.h"

sard_status *sd_tensor_proto_read(sd_arena *a, const void *data, uint64_t size, sd_const **out, const char **out_name) {
  ProtobufCMessage *m = NULL;
  sd_tensors t = {.arena = a};
  SD_TRY(sd_wire_read(a, data, size, &onnx__tensor_proto__descriptor, &m, &t.spans));
  const Onnx__TensorProto *p = (const Onnx__TensorProto *)m;
  if (out_name) *out_name = p->name ? p->name : "";
  return sd_tensor_proto_const(&t, p, "tensor", out);
}
