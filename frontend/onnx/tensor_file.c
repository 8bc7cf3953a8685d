// Files that hold one TensorProto, SequenceProto or OptionalProto: the test data of ONNX models.
#include "frontend/onnx/tensor_proto.h"

#include "runtime/base/alloc.h"

// The messages are unpacked into the caller's arena: they are small beside their data, and nothing needs freeing.
static sard_status *open_message(sd_arena *a, const void *data, uint64_t size, const ProtobufCMessageDescriptor *d,
                                 ProtobufCMessage **m, sd_tensors *t) {
  *t = (sd_tensors){.arena = a};
  return sd_wire_read(a, data, size, d, m, &t->spans);
}

sard_status *sd_tensor_proto_read(sd_arena *a, const void *data, uint64_t size, sd_const **out, const char **out_name) {
  ProtobufCMessage *m = NULL;
  sd_tensors t;
  SD_TRY(open_message(a, data, size, &onnx__tensor_proto__descriptor, &m, &t));
  const Onnx__TensorProto *p = (const Onnx__TensorProto *)m;
  if (out_name) *out_name = p->name ? p->name : "";
  return sd_tensor_proto_const(&t, p, "tensor", out);
}

sard_status *sd_tensor_proto_read_sequence(sd_arena *a, const void *data, uint64_t size, sd_const ***out,
                                           size_t *out_n) {
  ProtobufCMessage *m = NULL;
  sd_tensors t;
  SD_TRY(open_message(a, data, size, &onnx__sequence_proto__descriptor, &m, &t));
  const Onnx__SequenceProto *p = (const Onnx__SequenceProto *)m;
  if (p->n_sparse_tensor_values || p->n_sequence_values || p->n_optional_values)
    return SD_ERR(UNSUPPORTED, "sequence '%s' holds something else than tensors", p->name);
  *out = SD_NEW_ARRAY(a, sd_const *, p->n_tensor_values);
  *out_n = p->n_tensor_values;
  for (size_t i = 0; i < p->n_tensor_values; i++)
    SD_TRY(sd_tensor_proto_const(&t, p->tensor_values[i], "sequence element", &(*out)[i]));
  return NULL;
}

sard_status *sd_tensor_proto_read_optional(sd_arena *a, const void *data, uint64_t size, sd_const ***out,
                                           size_t *out_n) {
  ProtobufCMessage *m = NULL;
  sd_tensors t;
  SD_TRY(open_message(a, data, size, &onnx__optional_proto__descriptor, &m, &t));
  const Onnx__OptionalProto *p = (const Onnx__OptionalProto *)m;
  if (p->sparse_tensor_value || p->sequence_value || p->optional_value)
    return SD_ERR(UNSUPPORTED, "optional '%s' holds something else than a tensor", p->name);
  *out = SD_NEW_ARRAY(a, sd_const *, 1);
  *out_n = p->tensor_value != NULL;
  return p->tensor_value ? sd_tensor_proto_const(&t, p->tensor_value, "optional value", &(*out)[0]) : NULL;
}

static void put_varint(sd_str *s, uint64_t v) {
  for (; v >= 0x80; v >>= 7) sd_str_putn(s, &(char){(char)(v | 0x80)}, 1);
  sd_str_putn(s, &(char){(char)v}, 1);
}

static void put_bytes(sd_str *s, unsigned field, const char *p, size_t n) {
  put_varint(s, field << 3 | 2);
  put_varint(s, n);
  sd_str_putn(s, p, n);
}

void sd_tensor_proto_write(const sd_const *c, const char *name, sd_str *out) {
  for (int i = 0; i < c->rank; i++) { // unpacked, as other writers of ONNX do
    put_varint(out, 1 << 3);
    put_varint(out, (uint64_t)c->dims[i]);
  }
  put_varint(out, 2 << 3);
  put_varint(out, (uint64_t)c->dtype);
  if (c->dtype == SD_STRING)
    for (uint64_t i = 0; i < c->count; i++) {
      const char *s = ((const char *const *)c->data)[i];
      put_bytes(out, 6, s, strlen(s));
    }
  if (name && *name) put_bytes(out, 8, name, strlen(name));
  if (c->dtype == SD_STRING) return;
  put_varint(out, 9 << 3 | 2);
  put_varint(out, c->bytes);
}
