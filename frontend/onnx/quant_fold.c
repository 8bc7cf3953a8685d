// Before anything is quantized: what multiplies and adds a constant to each channel behind a convolution becomes part
// of its weight and bias. Else the convolution's own output would be rounded, and again what is made of it.
#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

typedef struct line {
  float *scale, *shift;
} line; // y = x * scale + shift, by channel

typedef struct folding {
  sd_proto *p;
  sd_places s; // values and who reads them
  int64_t channels;
  int spatial; // axes behind the channels
} folding;

// A constant as one number for each channel: a scalar, or C numbers on the axis of the channels. *out NULL: it is
// neither.
static sard_status *by_channel(folding *f, const char *name, bool vector, float **out) {
  const Onnx__TensorProto *t = sd_proto_weight(f->p, name);
  sd_const *c = NULL;
  *out = NULL;
  if (!t || t->data_type != SD_F32 || t->n_dims > SD_MAX_RANK) return NULL;
  SD_TRY(sd_proto_const(f->p, t, &c));
  int at = vector ? 0 : c->rank - 1 - f->spatial;
  bool all = c->count == (uint64_t)f->channels && at >= 0 && at < c->rank && c->dims[at] == f->channels;
  if (c->count != 1 && !all) return NULL;
  if (c->count == 1 && c->rank > f->spatial + 2) return NULL; // it would add axes
  float *v = SD_NEW_ARRAY(f->p->a, float, f->channels);
  for (int64_t i = 0; i < f->channels; i++) memcpy(&v[i], (const float *)c->data + (c->count == 1 ? 0 : i), sizeof *v);
  *out = v;
  return NULL;
}

static sard_status *of_norm(folding *f, const Onnx__NodeProto *n, line *out) {
  float *v[4], epsilon = sd_proto_get_float(n, "epsilon", 1e-5f);
  if (n->n_input != 5 || sd_proto_get_int(n, "training_mode", 0)) return NULL;
  for (size_t k = 1; k < n->n_output; k++)
    if (*n->output[k]) return NULL; // training
  for (int i = 0; i < 4; i++) {
    SD_TRY(by_channel(f, n->input[i + 1], true, &v[i]));
    if (!v[i]) return NULL;
  }
  for (int64_t c = 0; c < f->channels; c++) {
    float scale = v[0][c] / sqrtf(v[3][c] + epsilon);
    v[1][c] -= v[2][c] * scale, v[0][c] = scale;
  }
  *out = (line){v[0], v[1]};
  return NULL;
}

// What node n does to its operand `x`; out->scale NULL: something else.
static sard_status *line_of(folding *f, const Onnx__NodeProto *n, const char *x, line *out) {
  *out = (line){NULL, NULL};
  if (sd_proto_is(n, "", "BatchNormalization")) return strcmp(n->input[0], x) == 0 ? of_norm(f, n, out) : NULL;
  bool mul = sd_proto_is(n, "", "Mul"), add = sd_proto_is(n, "", "Add");
  if ((!mul && !add) || n->n_input != 2) return NULL;
  float *v, *other = SD_NEW_ARRAY(f->p->a, float, f->channels);
  SD_TRY(by_channel(f, n->input[strcmp(n->input[0], x) == 0], false, &v));
  for (int64_t c = 0; c < f->channels; c++) other[c] = mul ? 0 : 1;
  if (v) *out = mul ? (line){v, other} : (line){other, v};
  return NULL;
}

// The node behind a convolution that alone reads its output.
static Onnx__NodeProto *reader(folding *f, const Onnx__NodeProto *conv) {
  const sd_flow *y = sd_names_get(&f->s.flows, conv->output[0]);
  return y && y->uses == 1 && !y->pinned && y->user->n_output > 0 ? y->user : NULL;
}

// The convolution with the line in its weight and bias, which are tensors of their own.
static sard_status *take(folding *f, Onnx__NodeProto *conv, const line *l) {
  sd_proto *p = f->p;
  sd_weight w;
  const sd_const *c;
  float *bias = SD_NEW_ARRAY(p->a, float, f->channels), *had = NULL;
  const char *name = conv->input[1];
  SD_TRY(sd_quant_weight(p, p->a, conv, name, false, &w, &c));
  SD_TRY(by_channel(f, sd_quant_operand(conv, 2), true, &had));
  float *scaled = SD_NEW_ARRAY(p->a, float, c->count);
  for (uint64_t i = 0; i < c->count; i++) scaled[i] = w.at[i] * l->scale[i / w.inner];
  for (int64_t i = 0; i < f->channels; i++) bias[i] = (had ? had[i] * l->scale[i] : 0) + l->shift[i];
  const char *in[3] = {
      conv->input[0], sd_proto_tensor(p, sd_arena_printf(p->a, "%s_folded", name), SD_F32, c->rank, c->dims, scaled),
      sd_proto_tensor(p, sd_arena_printf(p->a, "%s_bias_folded", name), SD_F32, 1, &f->channels, bias)};
  conv->input = sd_arena_dup(p->a, in, sizeof in), conv->n_input = 3;
  return NULL;
}

static sard_status *fold_conv(folding *f, Onnx__NodeProto *conv, sd_names *gone) {
  const Onnx__TensorProto *w = sd_proto_weight(f->p, sd_quant_operand(conv, 1));
  if (!w || w->data_type != SD_F32 || w->n_dims < 3 || w->n_dims > SD_MAX_RANK || w->dims[0] < 1) return NULL;
  f->channels = w->dims[0], f->spatial = (int)w->n_dims - 2;
  float *had = NULL;
  const char *bias = sd_quant_operand(conv, 2);
  if (*bias) SD_TRY(by_channel(f, bias, true, &had));
  if (*bias && !had) return NULL;
  for (Onnx__NodeProto *n; (n = reader(f, conv)) != NULL;) {
    line l;
    SD_TRY(line_of(f, n, conv->output[0], &l));
    if (!l.scale) return NULL;
    SD_TRY(take(f, conv, &l));
    conv->output[0] = n->output[0];
    sd_names_add(gone, n->output[0], n);
  }
  return NULL;
}

sard_status *sd_quant_fold(sd_proto *p) {
  folding f = {.p = p};
  sd_names gone;
  uint32_t kept = 0;
  sd_names_init(&gone, p->a);
  sd_quant_flows(p, &f.s);
  for (uint32_t i = 0; i < p->nodes.len; i++)
    if (sd_proto_is(p->nodes.at[i], "", "Conv") && p->nodes.at[i]->n_input >= 2 && p->nodes.at[i]->n_output == 1)
      SD_TRY(fold_conv(&f, p->nodes.at[i], &gone));
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    Onnx__NodeProto *n = p->nodes.at[i];
    if (n->n_output == 0 || sd_names_get(&gone, n->output[0]) != n) p->nodes.at[kept++] = n;
  }
  p->nodes.len = kept;
  return NULL;
}
