// What the outputs of a model change with each weight, computed by the model itself: the gradient of a random
// sum of its outputs. Its mean square over samples is the sum of the squares of all outputs' gradients, as
// the numbers of the sum are independent, of mean 0 and variance 1.
#include <string.h>

#include "frontend/onnx/prune_internal.h"
#include "runtime/base/alloc.h"

static const char *const TRAINING = "ai.onnx.preview.training";

static void add_attr(sd_proto *p, Onnx__NodeProto *n, Onnx__AttributeProto *a) {
  Onnx__AttributeProto **all = SD_NEW_ARRAY(p->a, Onnx__AttributeProto *, n->n_attribute + 1);
  for (size_t i = 0; i < n->n_attribute; i++) all[i] = n->attribute[i];
  all[n->n_attribute++] = a, n->attribute = all;
}

static ProtobufCBinaryData text(const char *s) { return (ProtobufCBinaryData){strlen(s), (uint8_t *)s}; }

static Onnx__AttributeProto *attr(sd_proto *p, const char *name, Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = SD_NEW(p->a, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = (char *)name, a->type = type;
  return a;
}

static Onnx__NodeProto *emit(sd_proto *p, const char *domain, const char *op, const char *const *in,
                             size_t n) {
  const char *name = sd_proto_name(p, "sard_slope");
  Onnx__NodeProto *node = sd_proto_node(p, name, domain, op, in, n, name);
  sd_vec_push(p->a, &p->nodes, node);
  return node;
}

// The sum of y times random numbers, others in each place.
static const char *random_sum(sd_proto *p, const char *y) {
  const char *x = emit(p, "", "Shape", &y, 1)->output[0];
  x = emit(p, "", "ConstantOfShape", &x, 1)->output[0];
  Onnx__NodeProto *random = emit(p, "", "RandomNormalLike", &x, 1);
  Onnx__AttributeProto *seed = attr(p, "seed", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  seed->f = 1;
  add_attr(p, random, seed);
  x = emit(p, "", "Mul", (const char *[]){y, random->output[0]}, 2)->output[0];
  Onnx__NodeProto *sum = emit(p, "", "ReduceSum", &x, 1);
  sd_proto_int(p, sum, "keepdims", 0);
  return sum->output[0];
}

sard_status *sd_prune_slopes(sd_arena *a, const sard_source *src, const sd_prune_units *units, int output,
                             const sd_packed **out) {
  sd_proto p;
  SD_TRY(sd_proto_open(a, src, &p));
  if ((uint32_t)output >= p.outputs.len) return SD_ERR(INTERNAL, "the model has no output %d", output);
  const char **names = SD_NEW_ARRAY(a, const char *, units->len + 1),
             **made = SD_NEW_ARRAY(a, const char *, units->len + 1);
  Onnx__AttributeProto *xs = attr(&p, "xs", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS),
                       *of = attr(&p, "y", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  size_t n = 0;
  xs->strings = SD_NEW_ARRAY(a, ProtobufCBinaryData, units->len + 1);
  const char *loss = random_sum(&p, p.outputs.at[output]->name);
  for (uint32_t i = 0; i < units->len; i++)
    if (!units->at[i].keep && !units->at[i].recurrent) {
      xs->strings[n] = text(units->at[i].weight);
      names[n] = units->at[i].weight, made[n] = sd_proto_name(&p, "sard_slope"), n++;
    }
  xs->n_strings = n, of->s = text(loss);
  Onnx__NodeProto *g = emit(&p, TRAINING, "Gradient", names, n);
  add_attr(&p, g, xs), add_attr(&p, g, of);
  g->output = (char **)made, g->n_output = n;
  p.outputs.len = 0;
  for (size_t i = 0; i < n; i++) sd_proto_show(&p, made[i]);
  sd_proto_opset(&p, TRAINING, 1);
  return sd_proto_pack(&p, out);
}
