// A model given as bytes, and external data that the caller supplies: compiling and running leave that memory as it
// was.
#include "onnx.proto3.pb-c.h"
#include "runtime/base/alloc.h"
#include "sard/sard_compile.h"
#include "tests/unit/check.h"

enum { K = 512, N = 512 }; // weights beyond what is small enough to be copied

static float weight[K * N], supplied[K * N];

static void name_value(Onnx__ValueInfoProto *v, char *name, Onnx__TypeProto *t, Onnx__TypeProto__Tensor *tensor,
                       Onnx__TensorShapeProto *shape, Onnx__TensorShapeProto__Dimension *dims,
                       Onnx__TensorShapeProto__Dimension **list, int64_t last) {
  onnx__value_info_proto__init(v), onnx__type_proto__init(t), onnx__type_proto__tensor__init(tensor),
      onnx__tensor_shape_proto__init(shape);
  for (int i = 0; i < 2; i++) {
    onnx__tensor_shape_proto__dimension__init(&dims[i]);
    dims[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE, dims[i].dim_value = i ? last : 4;
    list[i] = &dims[i];
  }
  shape->n_dim = 2, shape->dim = list;
  tensor->elem_type = 1, tensor->shape = shape;
  t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE, t->tensor_type = tensor;
  v->name = name, v->type = t;
}

// y = x w, the weight in the message or outside of it.
static size_t make(bool external, uint8_t **out) {
  Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
  Onnx__GraphProto g = ONNX__GRAPH_PROTO__INIT;
  Onnx__NodeProto n = ONNX__NODE_PROTO__INIT, *nodes[] = {&n};
  Onnx__TensorProto w = ONNX__TENSOR_PROTO__INIT, *weights[] = {&w};
  Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
  Onnx__StringStringEntryProto location = ONNX__STRING_STRING_ENTRY_PROTO__INIT, *entries[] = {&location};
  Onnx__ValueInfoProto x, y, *in[] = {&x}, *outs[] = {&y};
  Onnx__TypeProto t[2];
  Onnx__TypeProto__Tensor tensors[2];
  Onnx__TensorShapeProto shapes[2];
  Onnx__TensorShapeProto__Dimension dims[2][2], *lists[2][2];
  char *operands[] = {"x", "w"}, *results[] = {"y"};
  int64_t w_dims[] = {K, N};
  name_value(&x, "x", &t[0], &tensors[0], &shapes[0], dims[0], lists[0], K),
      name_value(&y, "y", &t[1], &tensors[1], &shapes[1], dims[1], lists[1], N);
  n.op_type = "MatMul", n.n_input = 2, n.input = operands, n.n_output = 1, n.output = results;
  w.name = "w", w.data_type = 1, w.n_dims = 2, w.dims = w_dims;
  location.key = "location", location.value = "w.bin";
  if (external) w.n_external_data = 1, w.external_data = entries, w.data_location = 1;
  else
    w.raw_data = (ProtobufCBinaryData){sizeof weight, (uint8_t *)weight};
  g.name = "g", g.n_node = 1, g.node = nodes, g.n_initializer = 1, g.initializer = weights, g.n_input = 1, g.input = in,
  g.n_output = 1, g.output = outs;
  opset.version = 17, m.ir_version = 8, m.graph = &g, m.n_opset_import = 1, m.opset_import = opsets;
  *out = sd_malloc(onnx__model_proto__get_packed_size(&m));
  return onnx__model_proto__pack(&m, *out);
}

static sard_status *read_external(void *user, const char *where, uint64_t offset, uint64_t length, const void **out) {
  (void)user, (void)where, (void)offset, (void)length;
  *out = supplied;
  return NULL;
}

static void run(bool external) {
  uint8_t *bytes, *before;
  size_t n = make(external, &bytes);
  sard_context *ctx = NULL;
  sard_model *model = NULL;
  sard_session *s = NULL;
  before = sd_malloc(n);
  memcpy(before, bytes, n), memcpy(supplied, weight, sizeof weight);
  sard_source src = {.size = sizeof src, .data = bytes, .bytes = n, .read_external = external ? read_external : NULL};
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "cache", "off"));
  CHECK_OK(sard_context_new(NULL, &ctx));
  CHECK_OK(sard_compile(ctx, &src, o, &model, NULL));
  sard_options_free(o);
  CHECK(memcmp(before, bytes, n) == 0);
  CHECK(memcmp(supplied, weight, sizeof weight) == 0);
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = 2, .dims = {4, K}};
  sard_tensor *x = NULL, *y = NULL;
  CHECK_OK(sard_tensor_new(ctx, &d, &x));
  float *v = sard_tensor_data(x, NULL);
  for (int i = 0; i < 4 * K; i++) v[i] = i == 3;
  CHECK_OK(sard_session_new(model, NULL, &s));
  CHECK_OK(sard_session_run(s, &x, 1, &y, 1));
  CHECK(y && memcmp(sard_tensor_data(y, NULL), weight + 3 * N, N * sizeof(float)) == 0);
  CHECK(memcmp(before, bytes, n) == 0 && memcmp(supplied, weight, sizeof weight) == 0);
  sard_tensor_free(x), sard_tensor_free(y);
  sard_session_free(s), sard_model_free(model), sard_context_free(ctx);
  sd_free(bytes), sd_free(before);
}

int main(void) {
  for (int i = 0; i < K * N; i++) weight[i] = (float)(i % 251 - 125) / 64;
  run(false), run(true);
  return check_end();
}
