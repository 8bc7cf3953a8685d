// The operator form of a model with QuantizeLinear and DequantizeLinear: each node between them that has an
// operator of its own on integers becomes that one, with the same scales. What has none keeps its
// DequantizeLinear.
#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

typedef struct qop {
  sd_quant_writer *w;
  sd_names made;    // name of a value -> the node that makes it
  sd_names readers; // -> what reads it
  sd_names gone;    // nodes that another one stands for, by their first output
} qop;

typedef struct reads {
  uint32_t count; // those that cannot be changed count, too: outputs, bodies
  Onnx__NodeProto *last;
} reads;

// A node with its operands' DequantizeLinear, and the QuantizeLinear behind it; NULL: none.
typedef struct step {
  Onnx__NodeProto *n, *q, *clip; // clip: a Relu or Clip between them that its range makes needless
  const Onnx__NodeProto **dq;    // of each operand
} step;

// ---- who reads what ----

static reads *reads_of(qop *g, const char *name) {
  reads *r = sd_names_get(&g->readers, name);
  if (r) return r;
  r = SD_NEW(g->w->p->a, reads);
  sd_names_add(&g->readers, name, r);
  return r;
}

static void read_body(qop *g, const Onnx__GraphProto *body, int depth) {
  for (size_t i = 0; i < body->n_output; i++) reads_of(g, body->output[i]->name)->count += 2;
  for (size_t i = 0; i < body->n_node && depth < SD_MAX_DEPTH; i++) {
    const Onnx__NodeProto *n = body->node[i];
    for (size_t k = 0; k < n->n_input; k++)
      if (*n->input[k]) reads_of(g, n->input[k])->count += 2;
    for (size_t k = 0; k < n->n_attribute; k++)
      if (n->attribute[k]->g) read_body(g, n->attribute[k]->g, depth + 1);
  }
}

static void list(qop *g) {
  const sd_quant_writer *w = g->w;
  for (uint32_t i = 0; i < w->nodes.len; i++) {
    Onnx__NodeProto *n = w->nodes.at[i];
    for (size_t k = 0; k < n->n_input; k++) {
      if (!*n->input[k]) continue;
      reads *r = reads_of(g, n->input[k]);
      r->count++, r->last = n;
    }
    for (size_t k = 0; k < n->n_output; k++)
      if (*n->output[k]) sd_names_set(&g->made, n->output[k], n);
    for (size_t k = 0; k < n->n_attribute; k++)
      if (n->attribute[k]->g) read_body(g, n->attribute[k]->g, 0);
  }
  for (uint32_t i = 0; i < w->p->outputs.len; i++) reads_of(g, w->p->outputs.at[i]->name)->count += 2;
}

// The node that alone reads a value; NULL: there is none, or more.
static Onnx__NodeProto *reader(qop *g, const char *name) {
  reads *r = reads_of(g, name);
  return r->count == 1 ? r->last : NULL;
}

// ---- ranges ----

static sard_status *element(qop *g, const char *name, double *out) {
  sd_const *c = NULL;
  float f;
  SD_TRY(sd_proto_const(g->w->p, sd_proto_weight(g->w->p, name), &c));
  if (c->dtype == SD_F32) memcpy(&f, c->data, sizeof f), *out = f;
  else
    *out = c->dtype == SD_U8 ? *(const uint8_t *)c->data : *(const int8_t *)c->data;
  return NULL;
}

// Whether integers of that scale and zero hold nothing that the node cuts off.
static sard_status *cuts_nothing(qop *g, const Onnx__NodeProto *clip, const Onnx__NodeProto *q, bool *out) {
  double scale, zero, lo, hi, least = g->w->o->signed_acts ? -128 : 0, most = least + 255;
  SD_TRY(element(g, q->input[1], &scale));
  SD_TRY(element(g, q->input[2], &zero));
  lo = (least - zero) * scale, hi = (most - zero) * scale;
  *out = false;
  if (sd_proto_is(clip, "", "Relu")) return *out = lo >= 0, NULL;
  for (int i = 1; i <= 2; i++) {
    const Onnx__TensorProto *t = sd_proto_weight(g->w->p, sd_quant_operand(clip, i));
    double limit = i == 1 ? -INFINITY : INFINITY;
    if (!t && *sd_quant_operand(clip, i)) return NULL;
    if (t && t->data_type != SD_F32) return NULL;
    if (t) SD_TRY(element(g, clip->input[i], &limit));
    if (i == 1 ? lo < limit : hi > limit + 1e-6 * fabs(limit)) return NULL; // rounding of the scale itself
  }
  return *out = true, NULL;
}

// The QuantizeLinear behind a node, through a Relu or Clip that its range makes needless.
static sard_status *behind(qop *g, step *s) {
  const Onnx__NodeProto *n = s->n;
  Onnx__NodeProto *at = reader(g, n->output[0]), *clip = NULL;
  const sd_quant_op *op = at ? sd_quant_op_of(at) : NULL;
  bool good = true;
  if (op && op->role == SD_ROLE_CLIP && at->n_output == 1 && strcmp(at->input[0], n->output[0]) == 0)
    clip = at, at = reader(g, clip->output[0]);
  if (!at || !sd_proto_is(at, "", "QuantizeLinear")) return NULL;
  if (clip) SD_TRY(cuts_nothing(g, clip, at, &good));
  if (good) s->q = at, s->clip = clip;
  return NULL;
}

// ---- operators ----

// x, scale, zero of operand i.
static void put3(const step *s, int i, const char **in) {
  for (int k = 0; k < 3; k++) in[k] = s->dq[i]->input[k];
}

static Onnx__NodeProto *made(qop *g, const step *s, const char *domain, const char *op, const char *const *in,
                             size_t n, const char *out) {
  sd_proto *p = g->w->p;
  const char *base = *s->n->name ? s->n->name : s->n->output[0];
  Onnx__NodeProto *m = sd_proto_node(p, sd_arena_printf(p->a, "%s_quant", base), domain, op, in, n, out);
  if (*domain) sd_proto_opset(p, domain, 1);
  return m;
}

static Onnx__NodeProto *conv(qop *g, const step *s) {
  const char *in[9] = {0};
  bool bias = s->n->n_input > 2 && *s->n->input[2];
  if (!s->dq[0] || !s->dq[1] || (bias && !s->dq[2]) || !s->q) return NULL;
  put3(s, 0, in), put3(s, 1, in + 3);
  in[6] = s->q->input[1], in[7] = s->q->input[2], in[8] = bias ? s->dq[2]->input[0] : NULL;
  Onnx__NodeProto *m = made(g, s, "", "QLinearConv", in, bias ? 9 : 8, s->q->output[0]);
  m->attribute = s->n->attribute, m->n_attribute = s->n->n_attribute;
  return m;
}

static Onnx__NodeProto *gemm(qop *g, const step *s) {
  const char *in[9] = {0};
  bool bias = s->n->n_input > 2 && *s->n->input[2];
  if (!s->dq[0] || !s->dq[1] || (bias && !s->dq[2])) return NULL;
  put3(s, 0, in), put3(s, 1, in + 3);
  in[6] = bias ? s->dq[2]->input[0] : "";
  if (s->q) in[7] = s->q->input[1], in[8] = s->q->input[2];
  Onnx__NodeProto *m = made(g, s, "com.microsoft", "QGemm", in,
                            s->q   ? 9
                            : bias ? 7
                                   : 6,
                            s->q ? s->q->output[0] : s->n->output[0]);
  sd_proto_int(g->w->p, m, "transB", sd_proto_get_int(s->n, "transB", 0));
  return m;
}

// What is behind is float: the integers' sum is scaled at once.
static Onnx__NodeProto *matmul(qop *g, const step *s) {
  const char *x[3], *w[3];
  if (!s->dq[0] || !s->dq[1]) return NULL;
  put3(s, 0, x), put3(s, 1, w);
  if (!s->q)
    return made(g, s, "com.microsoft", "MatMulIntegerToFloat",
                (const char *[]){x[0], w[0], x[1], w[1], x[2], w[2]}, 6, s->n->output[0]);
  return made(g, s, "", "QLinearMatMul",
              (const char *[]){x[0], x[1], x[2], w[0], w[1], w[2], s->q->input[1], s->q->input[2]}, 8,
              s->q->output[0]);
}

static Onnx__NodeProto *add(qop *g, const step *s) {
  const char *in[8];
  if (!s->dq[0] || !s->dq[1] || !s->q) return NULL;
  put3(s, 0, in), put3(s, 1, in + 3);
  in[6] = s->q->input[1], in[7] = s->q->input[2];
  return made(g, s, "com.microsoft", "QLinearAdd", in, 8, s->q->output[0]);
}

static Onnx__NodeProto *concat(qop *g, const step *s) {
  size_t n = 2 + 3 * s->n->n_input;
  const char **in = SD_NEW_ARRAY(g->w->p->a, const char *, n);
  for (size_t i = 0; i < s->n->n_input; i++)
    if (!s->dq[i]) return NULL;
  if (!s->q) return NULL;
  in[0] = s->q->input[1], in[1] = s->q->input[2];
  for (size_t i = 0; i < s->n->n_input; i++) put3(s, (int)i, in + 2 + 3 * i);
  Onnx__NodeProto *m = made(g, s, "com.microsoft", "QLinearConcat", in, n, s->q->output[0]);
  m->attribute = s->n->attribute, m->n_attribute = s->n->n_attribute;
  return m;
}

static Onnx__NodeProto *pool(qop *g, const step *s) {
  const char *in[5];
  if (!s->dq[0] || !s->q) return NULL;
  put3(s, 0, in), in[3] = s->q->input[1], in[4] = s->q->input[2];
  bool global = sd_proto_is(s->n, "", "GlobalAveragePool");
  Onnx__NodeProto *m = made(g, s, "com.microsoft", global ? "QLinearGlobalAveragePool" : "QLinearAveragePool",
                            in, 5, s->q->output[0]);
  m->attribute = s->n->attribute, m->n_attribute = s->n->n_attribute;
  return m;
}

// Nodes that only move values take them as integers, of one scale.
static Onnx__NodeProto *same(qop *g, const step *s) {
  if (!s->dq[0] || !s->q || s->n->n_output != 1) return NULL;
  if (strcmp(s->dq[0]->input[1], s->q->input[1]) != 0 || strcmp(s->dq[0]->input[2], s->q->input[2]) != 0)
    return NULL;
  Onnx__NodeProto *m = sd_proto_copy(g->w->p, s->n, sd_arena_printf(g->w->p->a, "%s_quant", s->n->output[0]));
  m->input[0] = s->dq[0]->input[0], m->output[0] = s->q->output[0];
  return m;
}

static const struct {
  const char *op;
  Onnx__NodeProto *(*make)(qop *g, const step *s); // NULL: it stays as it is
} forms[] = {{"Conv", conv},      {"Gemm", gemm},        {"MatMul", matmul},          {"Add", add},
             {"Concat", concat},  {"AveragePool", pool}, {"GlobalAveragePool", pool}, {"MaxPool", same},
             {"Reshape", same},   {"Transpose", same},   {"Flatten", same},           {"Squeeze", same},
             {"Unsqueeze", same}, {"Slice", same}};

// ---- the graph ----

static sard_status *convert(qop *g, Onnx__NodeProto **at) {
  sd_arena *a = g->w->p->a;
  step s = {.n = *at};
  size_t form = 0, count = sizeof forms / sizeof *forms;
  while (form < count && !sd_proto_is(s.n, "", forms[form].op)) form++;
  if (form == count || s.n->n_output == 0 || s.n->n_input == 0) return NULL;
  s.dq = SD_NEW_ARRAY(a, const Onnx__NodeProto *, s.n->n_input);
  bool some = false;
  for (size_t i = 0; i < s.n->n_input; i++) {
    const Onnx__NodeProto *d = *s.n->input[i] ? sd_names_get(&g->made, s.n->input[i]) : NULL;
    if (d && sd_proto_is(d, "", "DequantizeLinear") && d->n_input >= (i < 2 ? 3 : 2))
      s.dq[i] = d, some = true;
  }
  if (!some) return NULL;
  SD_TRY(behind(g, &s));
  Onnx__NodeProto *m = forms[form].make(g, &s);
  if (!m) return NULL;
  if (s.clip) sd_names_set(&g->gone, s.clip->output[0], s.clip);
  if (s.q) sd_names_set(&g->gone, s.q->output[0], s.q);
  *at = m;
  return NULL;
}

// DequantizeLinear that nothing reads any more, and nodes that others stand for.
static void sweep(qop *g) {
  sd_quant_writer *w = g->w;
  uint32_t kept = 0;
  sd_names_init(&g->readers, w->p->a);
  for (uint32_t i = 0; i < w->nodes.len; i++)
    if (sd_names_get(&g->gone, w->nodes.at[i]->output[0]) != w->nodes.at[i])
      w->nodes.at[kept++] = w->nodes.at[i];
  w->nodes.len = kept;
  list(g);
  for (uint32_t i = kept = 0; i < w->nodes.len; i++) {
    Onnx__NodeProto *n = w->nodes.at[i];
    if (!sd_proto_is(n, "", "DequantizeLinear") || reads_of(g, n->output[0])->count) w->nodes.at[kept++] = n;
  }
  w->nodes.len = kept;
}

sard_status *sd_quant_to_operators(sd_quant_writer *w) {
  qop g = {.w = w};
  sd_names_init(&g.made, w->p->a), sd_names_init(&g.readers, w->p->a), sd_names_init(&g.gone, w->p->a);
  list(&g);
  for (uint32_t i = 0; i < w->nodes.len; i++) SD_TRY(convert(&g, &w->nodes.at[i]));
  sweep(&g);
  return NULL;
}
