// What is folded into convolutions before quantization, and what is not.
#include <math.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"
#include "tests/unit/check.h"

enum { C = 3 };
static float weight[C * 2] = {1, 2, -3, 4, 0.5f, -1}, scale[C] = {2, 1, -1}, shift[C] = {0.5f, 0, 1},
                        mean[C] = {1, 2, 3}, variance[C] = {4, 1, 0.25f}, factor[C] = {10, 1, 2}, offset[1] = {7};

typedef struct build {
  sd_arena *a;
  Onnx__GraphProto g;
  Onnx__NodeProto *nodes[8];
  Onnx__TensorProto *tensors[8];
  Onnx__ValueInfoProto *in[1], *out[2];
} build;

static void tensor(build *b, char *name, float *data, int rank, const int64_t *dims) {
  Onnx__TensorProto *t = b->tensors[b->g.n_initializer++] = SD_NEW(b->a, Onnx__TensorProto);
  uint64_t n = 1;
  onnx__tensor_proto__init(t);
  for (int i = 0; i < rank; i++) n *= (uint64_t)dims[i];
  t->name = name, t->data_type = 1, t->n_dims = (size_t)rank, t->dims = sd_arena_dup(b->a, dims, (size_t)rank * 8);
  t->raw_data = (ProtobufCBinaryData){n * 4, (uint8_t *)data};
}

static void node(build *b, char *op, char *out, int n, char *const *in) {
  Onnx__NodeProto *p = b->nodes[b->g.n_node++] = SD_NEW(b->a, Onnx__NodeProto);
  onnx__node_proto__init(p);
  p->op_type = op, p->n_input = (size_t)n, p->input = sd_arena_dup(b->a, in, (size_t)n * sizeof *in);
  p->n_output = 1, p->output = sd_arena_dup(b->a, &out, sizeof out);
}

static void value(build *b, Onnx__ValueInfoProto **at, char *name) {
  *at = SD_NEW(b->a, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(*at);
  (*at)->name = name;
}

// Conv, BatchNormalization, Mul by channel, Add of a number, Relu. `twice`: the convolution's output is an output, too.
static void make(sd_arena *a, bool twice, uint8_t **bytes, size_t *size) {
  build *b = SD_NEW(a, build);
  Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
  Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
  b->a = a;
  onnx__graph_proto__init(&b->g);
  b->g.node = b->nodes, b->g.initializer = b->tensors, b->g.input = b->in, b->g.output = b->out;
  tensor(b, "w", weight, 4, (const int64_t[]){C, 2, 1, 1});
  tensor(b, "s", scale, 1, (const int64_t[]){C}), tensor(b, "t", shift, 1, (const int64_t[]){C}),
      tensor(b, "m", mean, 1, (const int64_t[]){C}), tensor(b, "v", variance, 1, (const int64_t[]){C});
  tensor(b, "f", factor, 3, (const int64_t[]){C, 1, 1}), tensor(b, "o", offset, 1, (const int64_t[]){1});
  node(b, "Conv", "c", 2, (char *const[]){"x", "w"});
  node(b, "BatchNormalization", "n", 5, (char *const[]){"c", "s", "t", "m", "v"});
  node(b, "Mul", "p", 2, (char *const[]){"f", "n"});
  node(b, "Add", "q", 2, (char *const[]){"p", "o"});
  node(b, "Relu", "y", 1, (char *const[]){"q"});
  value(b, &b->in[0], "x"), value(b, &b->out[0], "y"), value(b, &b->out[1], "c");
  b->g.n_input = 1, b->g.n_output = twice ? 2 : 1, b->g.name = "g";
  opset.version = 17, m.ir_version = 8, m.graph = &b->g, m.n_opset_import = 1, m.opset_import = opsets;
  *bytes = sd_arena_alloc(a, onnx__model_proto__get_packed_size(&m));
  *size = onnx__model_proto__pack(&m, *bytes);
}

static const float *floats(sd_proto *p, const char *name) {
  sd_const *c = NULL;
  CHECK_OK(sd_proto_const(p, sd_proto_weight(p, name), &c));
  return c ? c->data : NULL;
}

static void folded(sd_arena *a) {
  uint8_t *bytes;
  size_t size;
  sd_proto p;
  make(a, false, &bytes, &size);
  CHECK_OK(sd_proto_open(a, &(sard_source){.size = sizeof(sard_source), .data = bytes, .bytes = size}, &p));
  CHECK_OK(sd_quant_fold(&p));
  CHECK(p.nodes.len == 2);
  const Onnx__NodeProto *conv = p.nodes.at[0];
  CHECK_TEXT(conv->op_type, "Conv");
  CHECK_TEXT(conv->output[0], "q");
  CHECK_TEXT(p.nodes.at[1]->input[0], "q");
  const float *w = floats(&p, conv->input[1]), *b = floats(&p, conv->input[2]);
  for (int c = 0; c < C && w && b; c++) {
    float s = scale[c] / sqrtf(variance[c] + 1e-5f);
    CHECK(fabsf(b[c] - ((shift[c] - mean[c] * s) * factor[c] + offset[0])) < 1e-4f);
    for (int k = 0; k < 2; k++) CHECK(fabsf(w[c * 2 + k] - weight[c * 2 + k] * s * factor[c]) < 1e-4f);
  }
  CHECK(floats(&p, "w")[0] == 1); // the original is as it was
}

static void not_folded(sd_arena *a) {
  uint8_t *bytes;
  size_t size;
  sd_proto p;
  make(a, true, &bytes, &size);
  CHECK_OK(sd_proto_open(a, &(sard_source){.size = sizeof(sard_source), .data = bytes, .bytes = size}, &p));
  CHECK_OK(sd_quant_fold(&p));
  CHECK(p.nodes.len == 5 && p.nodes.at[0]->n_input == 2);
}

int main(void) {
  sd_arena *a = sd_arena_new();
  jmp_buf oom;
  if (!a || setjmp(oom)) return 1;
  sd_arena_set_oom(a, &oom);
  folded(a), not_folded(a);
  sd_arena_free(a);
  return check_end();
}
