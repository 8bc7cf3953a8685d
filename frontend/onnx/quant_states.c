// LSTM with products of integers, as DynamicQuantizeLSTM of com.microsoft: weights [directions, inputs, 4 *
// hidden] of bytes, with a scale for each column of each direction, or one for each direction. Each run finds
// the ranges of the inputs, and in each step those of the states: there is no other form of it that runtimes
// compute in integers, and none at all of GRU and RNN.
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

enum {
  OPERANDS = 8,
  WEIGHT = 1,
  STATE_WEIGHT = 2
}; // of LSTM: X, W, R, B, sequence_lens, initial_h, initial_c, P

const char *sd_quant_states_obstacle(const sd_proto *p, const Onnx__NodeProto *n, const sd_quant_options *o) {
  const Onnx__TensorProto *w = sd_proto_weight(p, sd_quant_operand(n, WEIGHT)),
                          *r = sd_proto_weight(p, sd_quant_operand(n, STATE_WEIGHT));
  if (!sd_proto_is(n, "", "LSTM")) return "no operator computes it on integers";
  if (o->type != SD_I8) return "no operator computes it on float8";
  if (sd_proto_get_int(n, "layout", 0)) return "DynamicQuantizeLSTM has no layout with the batch first";
  if (!r || r->data_type != SD_F32) return "its recurrent weight is no constant of f32";
  if (w->n_dims != 3 || r->n_dims != 3) return "its weights are no matrices of directions";
  return NULL;
}

// [directions][rows][k] as [directions][k][rows].
static void turn(const int64_t *dims, const int8_t *from, int8_t *to) {
  uint64_t rows = (uint64_t)dims[1], k = (uint64_t)dims[2], each = rows * k;
  for (uint64_t d = 0; d < (uint64_t)dims[0]; d++)
    for (uint64_t r = 0; r < rows; r++)
      for (uint64_t i = 0; i < k; i++) to[d * each + i * rows + r] = from[d * each + r * k + i];
}

// `a`: for what is needed while it is made.
static sard_status *make(sd_quant_writer *w, sd_arena *a, const Onnx__NodeProto *n, const char *name,
                         sd_quant_made *m) {
  const sd_const *c;
  sd_weight from;
  sd_arena *keep = w->p->a;
  bool one = w->o->per_tensor, less = w->o->reduce_range;
  int32_t most = less ? 63 : 127;
  SD_TRY(sd_quant_weight(w->p, a, n, name, false, &from, &c));
  from =
      (sd_weight){from.at, 1, from.outer * (one ? 1 : from.channels), from.inner * (one ? from.channels : 1)};
  float *scales = SD_NEW_ARRAY(keep, float, from.channels);
  int8_t *q = sd_arena_alloc(a, c->count + 1), *turned = sd_arena_alloc(keep, c->count + 1);
  sd_weight_scales(&from, most, NULL, scales);
  sd_weight_round(&from, scales, -most - less, most, q);
  turn(c->dims, q, turned);
  const int64_t dims[3] = {c->dims[0], c->dims[2], c->dims[1]}, columns[2] = {c->dims[0], c->dims[1]};
  *m = (sd_quant_made){.scales = scales,
                       .channels = from.channels,
                       .snr = sd_weight_snr(&from, scales, SD_I8, q),
                       .type = SD_I8,
                       .values = turned};
  m->q = sd_proto_tensor(w->p, sd_arena_printf(keep, "%s_quantized", name), SD_I8, 3, dims, turned);
  m->scale =
      sd_proto_tensor(w->p, sd_arena_printf(keep, "%s_scale", name), SD_F32, one ? 1 : 2, columns, scales);
  m->zero = sd_proto_tensor(w->p, sd_arena_printf(keep, "%s_zero_point", name), SD_I8, one ? 1 : 2, columns,
                            sd_arena_alloc(keep, from.channels + 1));
  return NULL;
}

// Made once for all nodes that read the weight.
static sard_status *weight(sd_quant_writer *w, const Onnx__NodeProto *n, int operand,
                           const sd_quant_made **out) {
  const char *name = n->input[operand], *key = sd_arena_printf(w->p->a, "states\x1f%s", name);
  sd_quant_made *m = sd_names_get(&w->made, key);
  *out = m;
  if (m) return NULL;
  *out = m = SD_NEW(w->p->a, sd_quant_made);
  sd_arena *a = sd_arena_scratch(w->p->a);
  sard_status *st = w->o->check ? w->o->check() : NULL;
  if (!st) st = make(w, a, n, name, m);
  sd_arena_free(a);
  sd_names_set(&w->made, key, m);
  return st;
}

sard_status *sd_quant_states(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u) {
  sd_proto *p = w->p;
  const sd_quant_made *m[2];
  char **in = SD_NEW_ARRAY(p->a, char *, OPERANDS + 4);
  for (int i = 0; i < OPERANDS; i++) in[i] = (char *)sd_quant_operand(n, i);
  for (int i = 0; i < 2; i++) {
    SD_TRY(weight(w, n, WEIGHT + i, &m[i]));
    in[WEIGHT + i] = (char *)m[i]->q, in[OPERANDS + 2 * i] = (char *)m[i]->scale,
                in[OPERANDS + 2 * i + 1] = (char *)m[i]->zero;
    sd_quant_note(u, m[i], sd_quant_elements(sd_proto_weight(p, m[i]->q)));
  }
  sd_proto_drop(p, n, "layout");
  if (!sd_proto_get_int(n, "hidden_size", 0))
    sd_proto_int(p, n, "hidden_size", sd_proto_weight(p, n->input[STATE_WEIGHT])->dims[2]);
  n->op_type = (char *)"DynamicQuantizeLSTM", n->domain = (char *)"com.microsoft";
  n->input = in, n->n_input = OPERANDS + 4, u->by_run = true;
  sd_proto_opset(p, "com.microsoft", 1);
  return NULL;
}
