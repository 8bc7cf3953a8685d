// Before quantization: channels of activations scaled against the weights that read them
// (passes/quantize/balance.h), which leaves the model what it computes. The inverse goes into what makes the
// activation, where that is a norm, a constant factor or a product, else a Mul is put in front of the
// readers.
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

enum { LONGEST = 16, ROUNDS = 20 }; // nodes between a product and what reads it; rounds of equalization

typedef struct buffer { // a constant operand that is changed
  Onnx__NodeProto *n;
  int at;
  const char *base;
  float *v;
  uint64_t count;
  int rank;
  int64_t dims[SD_MAX_RANK];
  bool changed;
} buffer;

typedef struct fold {
  Onnx__NodeProto *n;
  int at;
  bool product; // a weight, whose outputs are divided; else a number for each channel
} fold;

typedef struct place { // what a site is in the graph
  SD_VEC(Onnx__NodeProto *) readers;
  fold folds[2 * LONGEST];
  int n_folds;
  int spatial; // axes behind the channels
  bool bad;    // readers disagree
} place;

struct sd_quant_balance {
  sd_proto p;
  sd_places s;
  sd_quant_sites sites;
  SD_VEC(place *) places; // of each site
  SD_VEC(buffer *) buffers;
};

// ---- constants ----

static sard_status *buffer_of(sd_quant_balance *b, Onnx__NodeProto *n, int at, buffer **out) {
  sd_const *c = NULL;
  for (uint32_t i = 0; i < b->buffers.len; i++)
    if (b->buffers.at[i]->n == n && b->buffers.at[i]->at == at) return *out = b->buffers.at[i], NULL;
  SD_TRY(sd_proto_const(&b->p, sd_proto_weight(&b->p, n->input[at]), &c));
  buffer *f = *out = SD_NEW(b->p.a, buffer);
  *f = (buffer){.n = n, .at = at, .base = n->input[at], .count = c->count, .rank = c->rank};
  memcpy(f->dims, c->dims, (size_t)c->rank * sizeof *c->dims);
  f->v = SD_NEW_ARRAY(b->p.a, float, c->count + 1);
  memcpy(f->v, c->data, c->count * sizeof(float));
  sd_vec_push(b->p.a, &b->buffers, f);
  return NULL;
}

static sd_matrix matrix_of(const buffer *f) {
  const uint64_t rows = (uint64_t)f->dims[0], cols = (uint64_t)f->dims[1];
  sd_matrix m = {.at = f->v, .outputs = rows, .inputs = cols, .places = 1, .groups = 1};
  if (f->rank > 2) {
    m.places = f->count / (rows * cols), m.next_output = cols * m.places, m.next_input = m.places;
    m.groups = (uint64_t)sd_proto_get_int(f->n, "group", 1);
    return m;
  }
  m.next_output = cols, m.next_input = 1;
  if (sd_quant_axis(f->n, 2) == 0) return m;
  m.outputs = cols, m.inputs = rows, m.next_output = 1, m.next_input = cols;
  return m;
}

// Channels that a product reads and makes; false: it is none whose weight can be scaled.
static bool product_of(const sd_proto *p, const Onnx__NodeProto *n, uint64_t *reads, uint64_t *makes,
                       int *spatial) {
  const sd_quant_op *op = sd_quant_op_of(n);
  if (!op || op->role != SD_ROLE_PRODUCT || n->n_output != 1) return false;
  const Onnx__TensorProto *w = sd_proto_weight(p, sd_quant_operand(n, op->weight));
  bool conv = sd_proto_is(n, "", "Conv");
  if (!w || w->data_type != SD_F32 || w->n_dims > SD_MAX_RANK || (conv ? w->n_dims < 3 : w->n_dims != 2))
    return false;
  for (size_t i = 0; i < w->n_dims; i++)
    if (w->dims[i] < 1) return false;
  int64_t groups = conv ? sd_proto_get_int(n, "group", 1) : 1;
  if (groups < 1 || w->dims[0] % groups || sd_proto_get_int(n, "transA", 0)) return false;
  if (sd_proto_weight(p, sd_quant_operand(n, op->x))) return false;
  int out = sd_quant_axis(n, (int)w->n_dims);
  *makes = (uint64_t)w->dims[out], *reads = (uint64_t)(w->dims[!out] * groups), *spatial = (int)w->n_dims - 2;
  return true;
}

// Whether an operand is a constant that has, or can get, a number for each channel.
static bool by_channel(const sd_proto *p, const char *name, const sd_quant_site *s, int spatial) {
  const Onnx__TensorProto *t = sd_proto_weight(p, name);
  if (!t || t->data_type != SD_F32 || t->n_dims > SD_MAX_RANK) return false;
  uint64_t count = 1;
  for (size_t i = 0; i < t->n_dims; i++) count *= (uint64_t)t->dims[i];
  int at = (int)t->n_dims - 1 - spatial;
  if (count == 1) return (int)t->n_dims <= spatial + 2;
  return count == s->k && at >= 0 && t->dims[at] == (int64_t)s->k;
}

// ---- what makes an activation ----

static const struct {
  const char *domain, *op;
  int scale, shift; // operands; -1: none
} norms[] = {{"", "LayerNormalization", 1, 2},
             {"", "RMSNormalization", 1, -1},
             {"", "SimplifiedLayerNormalization", 1, -1},
             {"com.microsoft", "SkipLayerNormalization", 2, 3},
             {"com.microsoft", "SkipSimplifiedLayerNormalization", 2, -1}},
  channel_norms[] = {{"", "BatchNormalization", 1, 2}, {"", "InstanceNormalization", 1, 2}};

// f(x / t) = f(x) / t for positive t.
static bool passes(const Onnx__NodeProto *n, bool conv) {
  static const char *const any[] = {"Relu", "LeakyRelu", "PRelu", "Identity"}, *const of_channels[] = {
                                                                                   "MaxPool", "AveragePool",
                                                                                   "GlobalAveragePool",
                                                                                   "GlobalMaxPool"};
  for (size_t i = 0; i < sizeof any / sizeof *any; i++)
    if (sd_proto_is(n, "", any[i])) return true;
  for (size_t i = 0; conv && i < sizeof of_channels / sizeof *of_channels; i++)
    if (sd_proto_is(n, "", of_channels[i])) return true;
  return false;
}

static bool add_fold(const sd_proto *p, place *at, const sd_quant_site *s, Onnx__NodeProto *n, int operand,
                     bool vector) {
  if (!by_channel(p, sd_quant_operand(n, operand), s, vector ? 0 : at->spatial)) return false;
  at->folds[at->n_folds++] = (fold){n, operand, false};
  return true;
}

static bool ends_in_norm(const sd_proto *p, place *at, const sd_quant_site *s, Onnx__NodeProto *n,
                         const char *y) {
  size_t count = at->spatial ? sizeof channel_norms / sizeof *channel_norms : sizeof norms / sizeof *norms;
  for (size_t i = 0; i < count; i++) {
    const char *domain = at->spatial ? channel_norms[i].domain : norms[i].domain,
               *op = at->spatial ? channel_norms[i].op : norms[i].op;
    int scale = at->spatial ? channel_norms[i].scale : norms[i].scale,
        shift = at->spatial ? channel_norms[i].shift : norms[i].shift;
    if (!sd_proto_is(n, domain, op) || strcmp(n->output[0], y) != 0) continue;
    return add_fold(p, at, s, n, scale, true) &&
           (!*sd_quant_operand(n, shift) || add_fold(p, at, s, n, shift, true));
  }
  return false;
}

static bool ends_in_product(const sd_proto *p, place *at, sd_quant_site *s, Onnx__NodeProto *n) {
  uint64_t reads, makes;
  int spatial;
  if (!product_of(p, n, &reads, &makes, &spatial) || makes != s->k || spatial != at->spatial) return false;
  const sd_quant_op *op = sd_quant_op_of(n);
  at->folds[at->n_folds++] = (fold){n, op->weight, true};
  if (*sd_quant_operand(n, op->bias) && !add_fold(p, at, s, n, op->bias, true)) return false;
  return s->pair = true;
}

// Whether 1/t goes into what makes the value `y`, through what lets it pass.
static bool foldable(sd_quant_balance *b, place *at, sd_quant_site *s) {
  const sd_flow *f = sd_names_get(&b->s.flows, s->x);
  if (f->uses != at->readers.len) return false; // others read it
  for (int steps = 0; steps < LONGEST && f && f->from && !f->pinned; steps++) {
    Onnx__NodeProto *n = f->from;
    const char *next = sd_quant_operand(n, 0);
    if (ends_in_product(&b->p, at, s, n) || ends_in_norm(&b->p, at, s, n, f->name)) return true;
    if (s->pair || n->n_input == 0) return false;
    bool mul = sd_proto_is(n, "", "Mul"), add = sd_proto_is(n, "", "Add");
    if (mul || add) {
      int constant = sd_proto_weight(&b->p, sd_quant_operand(n, 0)) ? 0 : 1;
      if (n->n_input != 2 || !add_fold(&b->p, at, s, n, constant, false)) return false;
      if (mul) return true;
      next = n->input[!constant];
    } else if (!passes(n, at->spatial > 0)) {
      return false;
    }
    f = sd_names_get(&b->s.flows, next);
    if (f && f->uses != 1) return false;
  }
  return false;
}

// ---- finding ----

static sard_status *add_reader(sd_quant_balance *b, Onnx__NodeProto *n, bool wanted) {
  uint64_t reads, makes;
  int spatial;
  uint32_t i = 0;
  if (!product_of(&b->p, n, &reads, &makes, &spatial)) return NULL;
  const char *x = n->input[sd_quant_op_of(n)->x];
  while (i < b->sites.len && strcmp(b->sites.at[i].x, x) != 0) i++;
  if (i == b->sites.len) {
    place *at = SD_NEW(b->p.a, place);
    at->spatial = spatial;
    sd_vec_push(b->p.a, &b->places, at);
    sd_vec_push(b->p.a, &b->sites, ((sd_quant_site){.x = x, .k = reads, .conv = spatial > 0}));
  }
  b->places.at[i]->bad |= b->sites.at[i].k != reads || b->places.at[i]->spatial != spatial;
  b->sites.at[i].wanted |= wanted;
  sd_vec_push(b->p.a, &b->places.at[i]->readers, n);
  return NULL;
}

static sard_status *load(sd_quant_balance *b, sd_quant_site *s, place *at) {
  sd_matrix *of = SD_NEW_ARRAY(b->p.a, sd_matrix, at->readers.len + 1);
  s->n_of = at->readers.len, s->of = of;
  for (uint32_t i = 0; i < at->readers.len; i++) {
    buffer *f;
    SD_TRY(buffer_of(b, at->readers.at[i], sd_quant_op_of(at->readers.at[i])->weight, &f));
    of[i] = matrix_of(f);
  }
  return NULL;
}

sard_status *sd_quant_balance_open(sd_arena *a, const sard_source *src, const sd_quant_options *o,
                                   const sd_quant_units *u, sd_quant_balance **out, sd_quant_sites **sites) {
  sd_quant_balance *b = *out = SD_NEW(a, sd_quant_balance);
  uint32_t next = 0, kept = 0;
  SD_TRY(sd_quant_open(a, src, o, &b->p));
  sd_quant_flows(&b->p, &b->s);
  for (uint32_t i = 0; i < b->p.nodes.len; i++) {
    const sd_quant_unit *unit = sd_quant_unit_of(u, &next, b->p.nodes.at[i]);
    SD_TRY(add_reader(b, b->p.nodes.at[i], unit && !unit->keep));
  }
  for (uint32_t i = 0; i < b->sites.len; i++) {
    sd_quant_site s = b->sites.at[i];
    place *at = b->places.at[i];
    if (at->bad || !s.wanted) continue;
    s.folded = foldable(b, at, &s);
    if (!s.folded && s.conv) continue; // a Mul in front of a convolution costs more than it gives
    SD_TRY(load(b, &s, at));
    b->sites.at[kept] = s, b->places.at[kept++] = at;
  }
  b->sites.len = b->places.len = kept;
  *sites = &b->sites;
  return NULL;
}

// ---- scaling ----

static sard_status *divide(sd_quant_balance *b, const fold *at, const place *where, const float *t,
                           uint64_t k) {
  buffer *f;
  SD_TRY(buffer_of(b, at->n, at->at, &f));
  f->changed = true;
  if (at->product) {
    sd_matrix m = matrix_of(f);
    sd_matrix_divide_outputs(&m, t);
    return NULL;
  }
  if (f->count == 1 && k > 1) { // one number for all: now one for each
    float one = f->v[0];
    bool vector = sd_proto_is(at->n, "", "Mul") || sd_proto_is(at->n, "", "Add");
    f->v = SD_NEW_ARRAY(b->p.a, float, k);
    f->count = k, f->rank = vector ? 1 + where->spatial : 1;
    for (int i = 0; i < f->rank; i++) f->dims[i] = i ? 1 : (int64_t)k;
    for (uint64_t i = 0; i < k; i++) f->v[i] = one;
  }
  for (uint64_t i = 0; i < k; i++) f->v[i] /= t[i];
  return NULL;
}

static sard_status *scale(sd_quant_balance *b, uint32_t i, const float *t) {
  const sd_quant_site *s = &b->sites.at[i];
  const place *at = b->places.at[i];
  for (uint32_t r = 0; r < at->readers.len; r++) {
    buffer *f;
    SD_TRY(buffer_of(b, at->readers.at[r], sd_quant_op_of(at->readers.at[r])->weight, &f));
    sd_matrix m = matrix_of(f);
    sd_matrix_scale_inputs(&m, t);
    f->changed = true;
  }
  for (int k = 0; s->folded && k < at->n_folds; k++) SD_TRY(divide(b, &at->folds[k], at, t, s->k));
  return NULL;
}

sard_status *sd_quant_balance_equalize(sd_quant_balance *b, int *rounds) {
  bool moved = true;
  for (*rounds = 0; moved && *rounds < ROUNDS; ++*rounds) {
    moved = false;
    for (uint32_t i = 0; i < b->sites.len; i++) {
      const sd_quant_site *s = &b->sites.at[i];
      const place *at = b->places.at[i];
      buffer *f;
      if (!s->pair || !s->folded) continue;
      float *out = SD_NEW_ARRAY(b->p.a, float, s->k), *in = SD_NEW_ARRAY(b->p.a, float, s->k), *t = out;
      int product = 0;
      while (!at->folds[product].product) product++;
      SD_TRY(buffer_of(b, at->folds[product].n, at->folds[product].at, &f));
      sd_matrix m = matrix_of(f);
      sd_matrix_output_max(&m, out);
      for (uint32_t r = 0; r < s->n_of; r++) sd_matrix_input_max(&s->of[r], in);
      moved |= sd_balance_equalize(out, in, s->k, t) > 1e-4;
      SD_TRY(scale(b, i, t));
    }
  }
  return NULL;
}

// ---- writing ----

static void put_mul(sd_quant_balance *b, uint32_t i) {
  sd_proto *p = &b->p;
  const sd_quant_site *s = &b->sites.at[i];
  const place *at = b->places.at[i];
  float *inverse = SD_NEW_ARRAY(p->a, float, s->k);
  int64_t k = (int64_t)s->k;
  for (uint64_t c = 0; c < s->k; c++) inverse[c] = 1 / s->t[c];
  const char *in[2] = {s->x,
                       sd_proto_tensor(p, sd_arena_printf(p->a, "%s_inverse", s->x), SD_F32, 1, &k, inverse)},
             *out = sd_proto_name(p, sd_arena_printf(p->a, "%s_balanced", s->x));
  Onnx__NodeProto *n = sd_proto_node(p, sd_arena_printf(p->a, "%s_Mul", s->x), "", "Mul", in, 2, out);
  uint32_t first = 0;
  while (p->nodes.at[first] != at->readers.at[0]) first++;
  sd_vec_push(p->a, &p->nodes, NULL);
  for (uint32_t k2 = p->nodes.len - 1; k2 > first; k2--) p->nodes.at[k2] = p->nodes.at[k2 - 1];
  p->nodes.at[first] = n;
  for (uint32_t r = 0; r < at->readers.len; r++)
    at->readers.at[r]->input[sd_quant_op_of(at->readers.at[r])->x] = (char *)out;
}

sard_status *sd_quant_balance_write(sd_quant_balance *b, const sd_packed **out) {
  for (uint32_t i = 0; i < b->sites.len; i++)
    if (b->sites.at[i].t) SD_TRY(scale(b, i, b->sites.at[i].t));
  for (uint32_t i = 0; i < b->buffers.len; i++) {
    buffer *f = b->buffers.at[i];
    if (f->changed)
      f->n->input[f->at] = (char *)sd_proto_tensor(&b->p, sd_arena_printf(b->p.a, "%s_balanced", f->base),
                                                   SD_F32, f->rank, f->dims, f->v);
  }
  for (uint32_t i = 0; i < b->sites.len; i++)
    if (b->sites.at[i].t && !b->sites.at[i].folded) put_mul(b, i);
  sd_proto_sweep(&b->p);
  return sd_proto_pack(&b->p, out);
}
