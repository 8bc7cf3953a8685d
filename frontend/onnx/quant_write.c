// Writing: integers of weights, made once each, and the model around them.
#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

void sd_quant_emit(sd_quant_writer *w, Onnx__NodeProto *n) { sd_vec_push(w->p->a, &w->nodes, n); }

const sd_quant_tensor *sd_quant_tensor_of(const sd_quant_writer *w, const char *name) {
  for (uint32_t i = 0; i < w->t->len; i++)
    if (!w->t->at[i].by_moments && strcmp(w->t->at[i].name, name) == 0) return &w->t->at[i];
  return NULL;
}

const double *sd_quant_moments(const sd_quant_writer *w, const sd_quant_unit *u) {
  return u && u->sums ? w->t->at[u->sums - 1].moments : NULL;
}

// The least scales of biases matter where a channel of the weight is next to nothing: such a weight is made for its
// node alone.
static bool binds(const float *least, const float *scales, uint64_t channels) {
  for (uint64_t c = 0; least && c < channels; c++)
    if (least[c] > scales[c]) return true;
  return false;
}

// ---- rounding by what it does to outputs ----

enum { ROUNDS = 16 }; // of adaptive rounding

const float *sd_quant_rows(sd_arena *a, const sd_weight *w) {
  if (w->outer == 1) return w->at;
  float *t = SD_NEW_ARRAY(a, float, w->outer * w->channels * w->inner);
  for (uint64_t o = 0; o < w->outer; o++)
    for (uint64_t c = 0; c < w->channels; c++)
      memcpy(t + (c * w->outer + o) * w->inner, w->at + (o * w->channels + c) * w->inner, w->inner * sizeof *t);
  return t;
}

// Adaptive rounding begins with what GPTQ gives, which may move weights further than to a neighbour.
sard_status *sd_quant_round_groups(const sd_quant_options *o, sd_groups *g, const float *rows, const double *moments) {
  uint64_t steps;
  if (!moments) return sd_groups_round(g, rows), NULL;
  if (o->rounding == SD_QUANT_NEAREST) return sd_groups_clip(g, rows, moments);
  SD_TRY(sd_groups_gptq(g, rows, moments, o->check));
  return o->rounding == SD_QUANT_ADAPTIVE ? sd_groups_adapt(g, rows, moments, ROUNDS, &steps) : NULL;
}

// Rows first, first + 1, ... of a weight, n of them, with their scales.
static sard_status *round_rows(sd_quant_writer *w, const sd_weight *from, const float *all, const float *scales,
                               uint64_t first, uint64_t n, const double *moments, int8_t *q) {
  sd_groups g;
  bool less = w->o->reduce_range;
  uint64_t k = from->outer * from->inner, step = w->o->per_tensor ? 0 : 1;
  SD_TRY(sd_groups_new(n, k, k, less ? 7 : 8, true, &g));
  sd_groups_fix(&g, scales + first * step, step, less ? 0 : 1);
  sard_status *st = sd_quant_round_groups(w->o, &g, all + first * k, moments);
  for (uint64_t c = 0; !st && c < n; c++)
    for (uint64_t i = 0; i < k; i++)
      q[(i / from->inner * from->channels + first + c) * from->inner + i % from->inner] =
          (int8_t)(g.q[c * k + i] - g.zeros[c]);
  sd_groups_free(&g);
  return st;
}

static sard_status *round_by_moments(sd_quant_writer *w, sd_arena *a, const Onnx__NodeProto *n, const sd_quant_unit *u,
                                     const float *scales, int8_t *q) {
  const sd_quant_tensor *t = &w->t->at[u->sums - 1];
  sd_weight from;
  const sd_const *c;
  sard_status *st = NULL;
  SD_TRY(sd_quant_weight(w->p, a, n, u->weight, false, &from, &c));
  const float *rows = sd_quant_rows(a, &from);
  uint64_t each = from.channels / t->groups;
  for (uint64_t g = 0; !st && g < t->groups; g++)
    st = round_rows(w, &from, rows, scales, g * each, each, t->moments + g * t->k * t->k, q);
  return st;
}

// ---- weights of 8 bits ----

// `a`: for what is needed while it is made.
static sard_status *make_weight(sd_quant_writer *w, sd_arena *a, const Onnx__NodeProto *n, const sd_quant_unit *u,
                                const char *name, const float *least, const sd_quant_made **out) {
  const sd_const *c;
  sd_weight from;
  SD_TRY(sd_quant_weight(w->p, a, n, name, w->o->per_tensor, &from, &c));
  int axis = sd_quant_axis(n, c->rank);
  bool table = sd_quant_op_of(n)->role == SD_ROLE_TABLE; // Gather has no float8
  sd_dtype type = table ? SD_I8 : w->o->type;
  const char *key = sd_arena_printf(w->p->a, "%s\x1f%d %s", name, axis, sd_dtype_name(type));
  *out = sd_names_get(&w->made, key);
  if (*out && !binds(least, (*out)->scales, from.channels)) return NULL;
  sd_quant_made *m = SD_NEW(w->p->a, sd_quant_made);
  float *scales = SD_NEW_ARRAY(w->p->a, float, from.channels);
  int8_t *q = sd_arena_alloc(w->p->a, c->count + 1);
  int32_t most = w->o->reduce_range ? 63 : sd_affine_most(type);
  int64_t channels = (int64_t)from.channels;
  sd_weight_scales(&from, most, least, scales);
  if (sd_quant_moments(w, u)) SD_TRY(round_by_moments(w, a, n, u, scales, q));
  else if (type == SD_I8)
    sd_weight_round(&from, scales, -most - (w->o->reduce_range ? 1 : 0), most, q);
  else
    sd_weight_round_float(&from, scales, type, q);
  *m = (sd_quant_made){.scales = scales,
                       .channels = from.channels,
                       .snr = sd_weight_snr(&from, scales, type, q),
                       .type = type,
                       .values = q};
  m->q = sd_proto_tensor(w->p, sd_arena_printf(w->p->a, "%s_quantized", name), type, c->rank, c->dims, q);
  bool scalar = w->o->per_tensor;
  m->scale = sd_proto_tensor(w->p, sd_arena_printf(w->p->a, "%s_scale", name), SD_F32, scalar ? 0 : 1, &channels, scales);
  m->zero = sd_proto_tensor(w->p, sd_arena_printf(w->p->a, "%s_zero_point", name), type, scalar ? 0 : 1, &channels,
                            sd_arena_alloc(w->p->a, (uint64_t)channels + 1));
  sd_names_set(&w->made, key, m);
  *out = m;
  return NULL;
}

sard_status *sd_quant_make_weight(sd_quant_writer *w, const Onnx__NodeProto *n, const sd_quant_unit *u, const char *name,
                                  const float *least, const sd_quant_made **out) {
  sd_arena *a = sd_arena_scratch(w->p->a);
  sard_status *st = w->o->check ? w->o->check() : NULL;
  if (!st) st = make_weight(w, a, n, u, name, least, out);
  sd_arena_free(a);
  return st;
}

const char *sd_quant_emit_weight(sd_quant_writer *w, const char *name, const sd_quant_made *m, int axis) {
  const char *out = sd_proto_name(w->p, sd_arena_printf(w->p->a, "%s_dequantized", name));
  Onnx__NodeProto *n = sd_proto_node(w->p, sd_arena_printf(w->p->a, "%s_DequantizeLinear", name), "",
                                     "DequantizeLinear", (const char *[]){m->q, m->scale, m->zero}, 3, out);
  if (!w->o->per_tensor && axis != 1) sd_proto_int(w->p, n, "axis", axis);
  sd_quant_emit(w, n);
  return out;
}

// Recurrent nodes have two weights: the worse one tells.
void sd_quant_note(sd_quant_unit *u, const sd_quant_made *m, uint64_t elements) {
  u->bytes_after = (u->bits ? u->bytes_after : 0) + elements + m->channels * (sizeof(float) + 1);
  u->bits = 8, u->snr = fmin(u->snr, m->snr);
}

// y = Cast(Gather(q, i)) * Gather(scale, i), the scale as [rows, 1]; DequantizeLinear(Gather(q, i)) where the table has one scale.
sard_status *sd_quant_emit_table(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u) {
  sd_proto *p = w->p;
  const sd_quant_made *m;
  const char *name = u->weight, *y = n->output[0], *index = n->input[1];
  SD_TRY(sd_quant_make_weight(w, n, NULL, name, NULL, &m));
  int64_t dims[2] = {u->dims[0], 1};
  const char *q = sd_proto_name(p, sd_arena_printf(p->a, "%s_quantized", y));
  n->input = sd_arena_dup(p->a, (const char *[]){m->q, index}, 2 * sizeof(char *)), n->output[0] = (char *)q;
  sd_quant_emit(w, n);
  sd_quant_note(u, m, u->rows * u->k);
  if (w->o->per_tensor) {
    sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(p->a, "%s_DequantizeLinear", y), "", "DequantizeLinear", (const char *[]){q, m->scale, m->zero}, 3, y));
    return NULL;
  }
  const char *scale = sd_proto_tensor(p, sd_arena_printf(p->a, "%s_row_scale", name), SD_F32, 2, dims, m->scales);
  const char *s = sd_proto_name(p, sd_arena_printf(p->a, "%s_scale", y)), *f = sd_proto_name(p, sd_arena_printf(p->a, "%s_cast", y));
  sd_quant_emit(w, sd_proto_node(p, s, "", "Gather", (const char *[]){scale, index}, 2, s));
  Onnx__NodeProto *cast = sd_proto_node(p, f, "", "Cast", &q, 1, f);
  sd_proto_int(p, cast, "to", SD_F32);
  sd_quant_emit(w, cast);
  sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(p->a, "%s_Mul", y), "", "Mul", (const char *[]){f, s}, 2, y));
  return NULL;
}

sard_status *sd_quant_write(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *u,
                            const sd_quant_tensors *t, const sd_packed **out) {
  sd_proto p;
  SD_TRY(sd_quant_open(a, src, o, &p));
  sd_quant_writer w = {.p = &p, .o = o, .u = u, .t = t};
  sd_names_init(&w.made, a);
  for (uint32_t i = 0; i < u->len; i++)
    u->at[i].bits = 0, u->at[i].by_run = false, u->at[i].snr = 200,
    u->at[i].bytes_after = u->at[i].bytes_before;
  if (o->mode == SD_QUANT_STATIC) SD_TRY(sd_quant_write_static(&w));
  else if (o->mode == SD_QUANT_DYNAMIC)
    SD_TRY(sd_quant_write_dynamic(&w));
  else
    SD_TRY(sd_quant_write_weights(&w));
  if (o->format == SD_QUANT_QOPERATOR) SD_TRY(sd_quant_to_operators(&w));
  p.nodes.at = w.nodes.at, p.nodes.len = w.nodes.len, p.nodes.cap = w.nodes.cap;
  sd_proto_sweep(&p);
  return sd_proto_pack(&p, out);
}
