// Integers with ranges known before: QuantizeLinear behind the values that become integers, a DequantizeLinear of its
// own for each node that reads them, weights and biases as integers with DequantizeLinear. Other runtimes make integer
// kernels of DequantizeLinear, the node and QuantizeLinear.
#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

typedef struct writing {
  sd_quant_writer *w;
  sd_places s;
  sd_names scales; // root of a flow -> names
} writing;

typedef struct scale_names {
  const char *scale, *zero;
} scale_names;

// Scale and zero point of a value, the tensors made once for all that share them.
static sard_status *scale_of(writing *g, const sd_flow *f, const scale_names **out, sd_affine *affine) {
  sd_proto *p = g->w->p;
  const sd_flow *root = sd_quant_root(f);
  const sd_quant_tensor *t = sd_quant_tensor_of(g->w, root->name);
  if (!t) return SD_ERR(INTERNAL, "the range of '%s' is not known", root->name);
  scale_names *names = sd_names_get(&g->scales, root->name);
  *affine = t->affine, *out = names;
  if (names) return NULL;
  *out = names = SD_NEW(p->a, scale_names);
  sd_dtype type = sd_quant_act_type(g->w->o);
  uint8_t zero =
      type == SD_U8 ? (uint8_t)t->affine.zero : (uint8_t)(int8_t)t->affine.zero; // of float8 it is 0
  names->scale = sd_proto_scalar(p, sd_arena_printf(p->a, "%s_scale", root->name), SD_F32, &t->affine.scale);
  names->zero = sd_proto_scalar(p, sd_arena_printf(p->a, "%s_zero_point", root->name), type, &zero);
  sd_names_add(&g->scales, root->name, names);
  return NULL;
}

static sard_status *quantize(writing *g, sd_flow *f) {
  sd_proto *p = g->w->p;
  const scale_names *s;
  sd_affine affine;
  if (!f || !f->quantized || f->q) return NULL;
  SD_TRY(scale_of(g, f, &s, &affine));
  f->q = sd_proto_name(p, sd_arena_printf(p->a, "%s_quantized", f->name));
  sd_quant_emit(g->w, sd_proto_node(p, sd_arena_printf(p->a, "%s_QuantizeLinear", f->name), "", "QuantizeLinear",
                                    (const char *[]){f->name, s->scale, s->zero}, 3, f->q));
  return NULL;
}

static sard_status *dequantize(writing *g, sd_flow *f, char **in) {
  sd_proto *p = g->w->p;
  const scale_names *s;
  sd_affine affine;
  SD_TRY(scale_of(g, f, &s, &affine));
  const char *out = sd_proto_name(p, sd_arena_printf(p->a, "%s_dequantized", f->name));
  sd_quant_emit(g->w, sd_proto_node(p, sd_arena_printf(p->a, "%s_DequantizeLinear", f->name), "", "DequantizeLinear",
                                    (const char *[]){f->q, s->scale, s->zero}, 3, out));
  *in = (char *)out;
  return NULL;
}

// ---- products ----

// Where |bias| / (sx * sw) would not fit 32 bits, the weight's scale, of which there are `scales`, is raised
// until it does.
static float *least_scales(writing *g, const float *bias, uint64_t channels, uint64_t scales, float sx) {
  float *least = SD_NEW_ARRAY(g->w->p->a, float, channels);
  for (uint64_t c = 0; c < channels; c++)
    least[c % scales] = fmaxf(least[c % scales], fabsf(bias[c]) / (2147483000.f * sx));
  return least;
}

// Sum over the mean inputs of what rounding did to the weights of channel c: what the bias makes up for.
static double shift_of(const sd_quant_made *m, const sd_weight *w, const sd_quant_tensor *t, const Onnx__NodeProto *n,
                       uint64_t c, const int64_t *dims) {
  bool conv = sd_proto_is(n, "", "Conv");
  int64_t groups = conv ? sd_proto_get_int(n, "group", 1) : 1;
  double sum = 0;
  for (uint64_t o = 0; o < w->outer; o++)
    for (uint64_t i = 0; i < w->inner; i++) {
      uint64_t at = (o * w->channels + c) * w->inner + i, x = conv           ? i / (w->inner / (uint64_t)dims[1])
                                                              : w->outer > 1 ? o
                                                                             : i;
      if (conv && groups > 1) x += c / (w->channels / (uint64_t)groups) * (uint64_t)dims[1];
      sum += (w->at[at] - sd_dtype_get_f64(m->type, m->values, at) * m->scales[c]) * t->mean[x];
    }
  return sum;
}

static sard_status *correct_bias(writing *g, const sd_quant_made *m, const sd_quant_tensor *t, const Onnx__NodeProto *n,
                                 const sd_quant_unit *u, float *values) {
  sd_arena *a = sd_arena_scratch(g->w->p->a);
  sd_weight w;
  const sd_const *c;
  sard_status *st = sd_quant_weight(g->w->p, a, n, u->weight, false, &w, &c);
  for (uint64_t i = 0; !st && i < u->rows; i++) values[i] += (float)shift_of(m, &w, t, n, i, u->dims);
  sd_arena_free(a);
  return st;
}

static sard_status *read_bias(writing *g, const char *name, uint64_t channels, float **out) {
  *out = SD_NEW_ARRAY(g->w->p->a, float, channels);
  if (!*name) return NULL;
  sd_const *b = NULL;
  SD_TRY(sd_proto_const(g->w->p, sd_proto_weight(g->w->p, name), &b));
  if (b->count != channels)
    return SD_ERR(MODEL, "the bias '%s' has %llu elements for %llu channels", name, (unsigned long long)b->count,
                  (unsigned long long)channels);
  memcpy(*out, b->data, channels * sizeof(float));
  return NULL;
}

// Beside float8 a bias stays float: there are no integers to sum.
static const char *emit_bias(writing *g, const Onnx__NodeProto *n, const char *name, const float *bias,
                             const sd_quant_made *m, uint64_t channels, float sx) {
  sd_proto *p = g->w->p;
  int64_t dims = (int64_t)channels;
  if (g->w->o->type != SD_I8)
    return sd_proto_tensor(p, sd_arena_printf(p->a, "%s_corrected", *name ? name : n->output[0]), SD_F32, 1,
                           &dims, bias);
  int32_t *q = SD_NEW_ARRAY(p->a, int32_t, channels);
  float *s = SD_NEW_ARRAY(p->a, float, channels);
  for (uint64_t c = 0; c < channels; c++) {
    s[c] = m->scales[c % m->channels] * sx;
    q[c] = (int32_t)fmin(fmax(nearbyint((double)bias[c] / s[c]), INT32_MIN), INT32_MAX);
  }
  const char *base = *name ? name : sd_arena_printf(p->a, "%s_bias", n->output[0]);
  const char *in[2] = {sd_proto_tensor(p, sd_arena_printf(p->a, "%s_quantized", base), SD_I32, 1, &dims, q),
                       sd_proto_tensor(p, sd_arena_printf(p->a, "%s_quantized_scale", base), SD_F32, 1, &dims, s)};
  const char *out = sd_proto_name(p, sd_arena_printf(p->a, "%s_dequantized", base));
  Onnx__NodeProto *d =
      sd_proto_node(p, sd_arena_printf(p->a, "%s_DequantizeLinear", base), "", "DequantizeLinear", in, 2, out);
  sd_proto_int(p, d, "axis", 0);
  sd_quant_emit(g->w, d);
  return out;
}

static void set_operand(sd_proto *p, Onnx__NodeProto *n, size_t i, const char *name) {
  if (i >= n->n_input) {
    char **in = SD_NEW_ARRAY(p->a, char *, i + 1);
    for (size_t k = 0; k < i; k++) in[k] = k < n->n_input ? n->input[k] : (char *)"";
    n->input = in, n->n_input = i + 1;
  }
  n->input[i] = (char *)name;
}

static sard_status *product(writing *g, Onnx__NodeProto *n, sd_quant_unit *u) {
  const sd_quant_op *op = sd_quant_op_of(n);
  sd_proto *p = g->w->p;
  const char *bias = sd_quant_operand(n, op->bias);
  sd_flow *x = sd_names_get(&g->s.flows, u->x);
  const sd_quant_tensor *t = sd_quant_tensor_of(g->w, u->x);
  const scale_names *s;
  sd_affine affine;
  const sd_quant_made *m;
  float *values = NULL, *least = NULL;
  bool correct = t && t->mean && op->bias >= 0 && u->groups && op->role == SD_ROLE_PRODUCT;
  SD_TRY(scale_of(g, x, &s, &affine));
  uint64_t channels = u->rows * sd_quant_repeats(n);
  bool integers = g->w->o->type == SD_I8;
  if ((*bias && integers) || correct) {
    SD_TRY(read_bias(g, bias, channels, &values));
    if (!g->w->o->per_tensor && integers) least = least_scales(g, values, channels, u->rows, affine.scale);
  }
  SD_TRY(sd_quant_make_weight(g->w, n, u, u->weight, least, &m));
  if (correct && !g->w->o->per_tensor) SD_TRY(correct_bias(g, m, t, n, u, values));
  n->input[op->weight] = (char *)sd_quant_emit_weight(g->w, u->weight, m, sd_quant_axis(n, u->rank));
  if (values) set_operand(p, n, (size_t)op->bias, emit_bias(g, n, bias, values, m, channels, affine.scale));
  sd_quant_note(u, m, u->rows * u->k);
  return NULL;
}

// ---- the graph ----

// ONNX Runtime 1.32 takes a Relu in front of QuantizeLinear for one that the range makes superfluous, of
// float8, too, where it is not, and refuses a Clip there: it does not know Max and Min for the same.
static void plain_limits(writing *g, Onnx__NodeProto *n) {
  sd_proto *p = g->w->p;
  static const float zero = 0;
  const char *least = sd_quant_operand(n, 1), *most = sd_quant_operand(n, 2), *y = n->output[0],
             *x = n->input[0];
  if (sd_proto_is(n, "", "Relu"))
    least = sd_proto_scalar(p, sd_arena_printf(p->a, "%s_zero", y), SD_F32, &zero);
  const char *between = *least && *most ? sd_proto_name(p, sd_arena_printf(p->a, "%s_limited", y)) : y;
  if (!*least && !*most) return sd_quant_emit(g->w, n);
  if (*least)
    sd_quant_emit(g->w, sd_proto_node(p, sd_arena_printf(p->a, "%s_Max", y), "", "Max",
                                      (const char *[]){x, least}, 2, between));
  if (*most)
    sd_quant_emit(g->w, sd_proto_node(p, sd_arena_printf(p->a, "%s_Min", y), "", "Min",
                                      (const char *[]){*least ? between : x, most}, 2, y));
}

static sard_status *inputs(writing *g) {
  for (uint32_t i = 0; i < g->s.order.len; i++)
    if (!g->s.order.at[i]->from) SD_TRY(quantize(g, g->s.order.at[i]));
  return NULL;
}

sard_status *sd_quant_write_static(sd_quant_writer *w) {
  writing g = {.w = w};
  uint32_t next = 0;
  sd_names_init(&g.scales, w->p->a);
  SD_TRY(sd_quant_places(w->p, w->o, w->u, &g.s));
  SD_TRY(inputs(&g));
  for (uint32_t i = 0; i < w->p->nodes.len; i++) {
    Onnx__NodeProto *n = w->p->nodes.at[i];
    sd_quant_unit *u = sd_quant_unit_of(w->u, &next, n);
    const sd_quant_op *op = sd_quant_op_of(n);
    if (u && !u->keep && op->role == SD_ROLE_TABLE) {
      sd_flow *y = sd_names_get(&g.s.flows, n->output[0]);
      SD_TRY(sd_quant_emit_table(w, n, u));
      SD_TRY(quantize(&g, y));
      continue;
    }
    if (u && !u->keep) SD_TRY(op->role == SD_ROLE_STATES ? sd_quant_states(w, n, u) : product(&g, n, u));
    for (size_t k = 0; k < n->n_input; k++) {
      sd_flow *f = *n->input[k] ? sd_names_get(&g.s.flows, n->input[k]) : NULL;
      if (f && f->quantized && f->q && (f->forced || (g.s.integer[i] && !strcmp(f->name, u ? u->x : f->name))))
        SD_TRY(dequantize(&g, f, &n->input[k]));
    }
    sd_flow *y = n->n_output ? sd_names_get(&g.s.flows, n->output[0]) : NULL;
    if (op && op->role == SD_ROLE_CLIP && w->o->type != SD_I8 && y && y->quantized) plain_limits(&g, n);
    else
      sd_quant_emit(w, n);
    for (size_t k = 0; k < n->n_output; k++) SD_TRY(quantize(&g, sd_names_get(&g.s.flows, n->output[k])));
  }
  return NULL;
}
