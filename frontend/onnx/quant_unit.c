// The nodes that have weights, and whether they can be quantized.
#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "frontend/onnx/raise.h"
#include "runtime/base/alloc.h"

enum { LEAST_TABLE = 4096 }; // elements of a table that is worth it

static const sd_quant_op ops[] = {
#define SD_QUANT_OP(op, role, x, weight, bias) {#op, SD_ROLE_##role, x, weight, bias},
#include "frontend/onnx/quant_ops.def"
#undef SD_QUANT_OP
};

const sd_quant_op *sd_quant_op_of(const Onnx__NodeProto *n) {
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (sd_proto_is(n, "", ops[i].op)) return &ops[i];
  return NULL;
}

const char *sd_quant_operand(const Onnx__NodeProto *n, int i) {
  return i >= 0 && (size_t)i < n->n_input ? n->input[i] : "";
}

const char *sd_quant_node_name(sd_arena *a, const Onnx__NodeProto *n, uint32_t index) {
  return *n->name ? n->name : sd_arena_printf(a, "%s_%u", n->op_type, index);
}

static bool takes(const sd_quant_op *op) { return op && (op->role == SD_ROLE_PRODUCT || op->role >= SD_ROLE_TABLE); }

uint64_t sd_quant_repeats(const Onnx__NodeProto *n) {
  int64_t groups = sd_proto_is(n, "", "ConvTranspose") ? sd_proto_get_int(n, "group", 1) : 1;
  return groups > 0 && groups < 1 << 24 ? (uint64_t)groups : 1;
}

int sd_quant_axis(const Onnx__NodeProto *n, int rank) {
  if (sd_proto_is(n, "", "MatMul")) return rank - 1;
  if (sd_proto_is(n, "", "Gemm")) return sd_proto_get_int(n, "transB", 0) ? 0 : 1;
  const sd_quant_op *op = sd_quant_op_of(n);
  return op && (op->role == SD_ROLE_STATES || op->role == SD_ROLE_TURNED)
             ? 1
             : 0; // [directions, gates, inputs], [inputs, outputs, window]
}

sard_status *sd_quant_weight(sd_proto *p, sd_arena *a, const Onnx__NodeProto *n, const char *name, bool per_tensor,
                             sd_weight *out, const sd_const **out_const) {
  sd_const *c = NULL;
  SD_TRY(sd_proto_const(p, sd_proto_weight(p, name), &c));
  int axis = sd_quant_axis(n, c->rank);
  *out = (sd_weight){c->data, 1, 1, 1};
  for (int i = 0; i < c->rank; i++)
    *(per_tensor || i > axis ? &out->inner : i < axis ? &out->outer : &out->channels) *= (uint64_t)c->dims[i];
  if ((uintptr_t)c->data % sizeof(float)) { // a large weight lies in the file as it is
    float *copy = sd_arena_aligned(a, c->bytes + 1, 64);
    memcpy(copy, c->data, c->bytes);
    out->at = copy;
  }
  for (uint64_t i = 0; i < c->count; i++)
    if (!isfinite(out->at[i]))
      return SD_ERR(MODEL, "element %llu of the weight '%s' is NaN or infinite", (unsigned long long)i, name);
  *out_const = c;
  return NULL;
}

// ---- what is possible ----

static bool is_integer_op(const Onnx__NodeProto *n) {
  static const char *const names[] = {"QuantizeLinear", "QLinearConv",     "QLinearMatMul",
                                      "MatMulInteger",  "ConvInteger",     "DynamicQuantizeLinear",
                                      "MatMulNBits",    "QGemm",           "DynamicQuantizeLSTM",
                                      "QAttention",     "DequantizeLinear"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(n->op_type, names[i]) == 0) return true;
  return false;
}

// Where ONNX has what is written: DynamicQuantizeLinear, scales for each channel, float8, blocks of 4 bits
// and of 2.
static int64_t opset_of(const sd_quant_options *o) {
  if (o->mode == SD_QUANT_DYNAMIC) return 11;
  if (o->bits < 8 && o->format == SD_QUANT_QDQ) return o->bits == 4 ? 21 : 25;
  return o->type == SD_I8 ? 13 : 19;
}

sd_dtype sd_quant_act_type(const sd_quant_options *o) {
  return o->type != SD_I8 ? o->type : o->signed_acts ? SD_I8 : SD_U8;
}

sard_status *sd_quant_open(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_proto *p) {
  SD_TRY(sd_proto_open(a, src, p));
  for (uint32_t i = 0; i < p->nodes.len; i++)
    if (is_integer_op(p->nodes.at[i]))
      return SD_ERR(UNSUPPORTED, "the model is quantized already: node '%s' is %s",
                    sd_quant_node_name(a, p->nodes.at[i], i), p->nodes.at[i]->op_type);
  SD_TRY(sd_proto_raise(p, src, opset_of(o)));
  return o->mode == SD_QUANT_DYNAMIC ? NULL : sd_quant_fold(p);
}

// A bias is a number for each; 0: there is none.
static int64_t bias_channels(const Onnx__NodeProto *n, const sd_quant_op *op, const Onnx__TensorProto *w) {
  int64_t each = op->bias >= 0 ? w->dims[sd_quant_axis(n, (int)w->n_dims)] : 0, all;
  return sd_ck_mul_i64(each, (int64_t)sd_quant_repeats(n), &all) ? all : 0;
}

// Why a node cannot be quantized; NULL: it can be.
static const char *obstacle(sd_proto *p, const Onnx__NodeProto *n, const sd_quant_op *op, const Onnx__TensorProto *w,
                            const sd_quant_options *o) {
  bool gemm = sd_proto_is(n, "", "Gemm"), conv = sd_proto_is(n, "", "Conv") || op->role == SD_ROLE_TURNED;
  if (!w) return "its weight is no constant";
  if (w->data_type != SD_F32) return "its weight is not f32";
  if (op->role == SD_ROLE_STATES && o->mode != SD_QUANT_WEIGHTS) return sd_quant_states_obstacle(p, n, o);
  if (conv && o->mode == SD_QUANT_DYNAMIC) return "convolutions do not gain from ranges measured in each run";
  if (op->role == SD_ROLE_PRODUCT && !conv && w->n_dims != 2) return "its weight is no matrix";
  if (conv && w->n_dims < 3) return "its weight has no kernel";
  if (op->role == SD_ROLE_TABLE && (w->n_dims != 2 || sd_proto_get_int(n, "axis", 0) != 0))
    return "its table has no rows";
  if (sd_proto_weight(p, sd_quant_operand(n, op->x))) return "it is all constant";
  if (gemm && (sd_proto_get_int(n, "transA", 0) || sd_proto_get_float(n, "alpha", 1) != 1 ||
               sd_proto_get_float(n, "beta", 1) != 1))
    return "it scales or transposes its operands";
  const char *bias = sd_quant_operand(n, op->bias);
  const Onnx__TensorProto *b = *bias ? sd_proto_weight(p, bias) : NULL;
  int64_t channels = bias_channels(n, op, w);
  bool vector = b && b->data_type == SD_F32 && b->n_dims == 1 && b->dims[0] == channels;
  if (*bias && !vector && o->mode != SD_QUANT_WEIGHTS) return "its bias is no constant vector";
  if (*bias && !vector && o->bits < 8 && gemm) return "its bias is no constant vector";
  return NULL;
}

uint64_t sd_quant_elements(const Onnx__TensorProto *t) {
  uint64_t count = 1;
  for (size_t i = 0; i < t->n_dims; i++) count *= t->dims[i] > 0 ? (uint64_t)t->dims[i] : 0;
  return count;
}

// `also`: a second weight, NULL: there is none.
static void measure(sd_quant_unit *u, const Onnx__NodeProto *n, const Onnx__TensorProto *w,
                    const Onnx__TensorProto *also) {
  uint64_t count = sd_quant_elements(w);
  u->rank = (int)w->n_dims, u->dims = w->dims;
  int axis = sd_quant_axis(n, u->rank);
  u->rows = axis >= 0 && axis < u->rank && w->dims[axis] > 0 ? (uint64_t)w->dims[axis] : 0;
  u->k = u->rows ? count / u->rows : 0;
  int64_t groups = sd_proto_is(n, "", "Conv") ? sd_proto_get_int(n, "group", 1) : 1;
  u->groups = groups > 0 && u->rows % (uint64_t)groups == 0 ? (uint64_t)groups : 0;
  u->bytes_before = u->bytes_after = (count + (also ? sd_quant_elements(also) : 0)) * sizeof(float);
}

sard_status *sd_quant_find(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *out) {
  sd_proto p;
  SD_TRY(sd_quant_open(a, src, o, &p));
  for (uint32_t i = 0; i < p.nodes.len; i++) {
    const Onnx__NodeProto *n = p.nodes.at[i];
    const sd_quant_op *op = sd_quant_op_of(n);
    if (!takes(op) || n->n_output == 0) continue;
    const char *weight = sd_quant_operand(n, op->weight);
    const Onnx__TensorProto *w = sd_proto_weight(&p, weight);
    if (!w && op->role == SD_ROLE_TABLE) continue; // a Gather of activations or shapes
    sd_quant_unit u = {
        .name = sd_quant_node_name(a, n, i), .op = n->op_type, .x = sd_quant_operand(n, op->x), .weight = weight};
    const Onnx__TensorProto *also =
        op->role == SD_ROLE_STATES ? sd_proto_weight(&p, sd_quant_operand(n, op->weight + 1)) : NULL;
    if (w && w->n_dims <= SD_MAX_RANK) measure(&u, n, w, also);
    if (op->role == SD_ROLE_TABLE && (w->data_type != SD_F32 || u.bytes_before < LEAST_TABLE * sizeof(float))) continue;
    u.why = w && w->n_dims > SD_MAX_RANK ? "its rank is too large" : obstacle(&p, n, op, w, o);
    if (!u.why && (u.rows == 0 || u.k == 0)) u.why = "its weight is empty";
    u.keep = u.why != NULL, u.open = !w || (op->role == SD_ROLE_STATES && !also);
    sd_vec_push(a, out, u);
  }
  return NULL;
}

sd_quant_unit *sd_quant_unit_of(const sd_quant_units *u, uint32_t *next, const Onnx__NodeProto *n) {
  const sd_quant_op *op = sd_quant_op_of(n);
  if (!takes(op) || *next >= u->len || n->n_output == 0) return NULL;
  sd_quant_unit *at = &u->at[*next];
  if (strcmp(at->op, n->op_type) != 0 || strcmp(at->x, sd_quant_operand(n, op->x)) != 0 ||
      strcmp(at->weight, sd_quant_operand(n, op->weight)) != 0)
    return NULL;
  (*next)++;
  return at;
}
