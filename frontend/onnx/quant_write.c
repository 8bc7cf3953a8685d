// Writing: integers of weights, made once each, and the model around them.
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

void sd_quant_emit(sd_quant_writer *w, Onnx__NodeProto *n) { sd_vec_push(w->p->a, &w->nodes, n); }

const sd_quant_tensor *sd_quant_tensor_of(const sd_quant_writer *w, const char *name) {
  for (uint32_t i = 0; i < w->t->len; i++)
    if (strcmp(w->t->at[i].name, name) == 0) return &w->t->at[i];
  return NULL;
}

// The least scales of biases matter where a channel of the weight is next to nothing: such a weight is made for its
// node alone.
static bool binds(const float *least, const float *scales, uint64_t channels) {
  for (uint64_t c = 0; least && c < channels; c++)
    if (least[c] > scales[c]) return true;
  return false;
}

sard_status *sd_quant_make_weight(sd_quant_writer *w, const Onnx__NodeProto *n, const char *name, const float *least,
                                  const sd_quant_made **out) {
  sd_arena *a = w->p->a;
  const sd_const *c;
  sd_weight from;
  SD_TRY(sd_quant_weight(w->p, n, name, w->o->per_tensor, &from, &c));
  int axis = sd_quant_axis(n, c->rank);
  bool table = sd_quant_op_of(n)->role == SD_ROLE_TABLE; // Gather has no float8
  sd_dtype type = table ? SD_I8 : w->o->type;
  const char *key = sd_arena_printf(a, "%s\x1f%d %s", name, axis, sd_dtype_name(type));
  *out = sd_names_get(&w->made, key);
  if (*out && !binds(least, (*out)->scales, from.channels)) return NULL;
  sd_quant_made *m = SD_NEW(a, sd_quant_made);
  float *scales = SD_NEW_ARRAY(a, float, from.channels);
  int8_t *q = sd_arena_alloc(a, c->count + 1);
  int32_t most = w->o->reduce_range ? 63 : sd_affine_most(type);
  int64_t channels = (int64_t)from.channels;
  sd_weight_scales(&from, most, least, scales);
  if (type == SD_I8) sd_weight_round(&from, scales, -most - (w->o->reduce_range ? 1 : 0), most, q);
  else
    sd_weight_round_float(&from, scales, type, q);
  *m = (sd_quant_made){.scales = scales,
                       .channels = from.channels,
                       .snr = sd_weight_snr(&from, scales, type, q),
                       .from = from,
                       .type = type,
                       .values = q};
  m->q = sd_proto_tensor(w->p, sd_arena_printf(a, "%s_quantized", name), type, c->rank, c->dims, q);
  bool scalar = w->o->per_tensor;
  m->scale = sd_proto_tensor(w->p, sd_arena_printf(a, "%s_scale", name), SD_F32, scalar ? 0 : 1, &channels, scales);
  m->zero = sd_proto_tensor(w->p, sd_arena_printf(a, "%s_zero_point", name), type, scalar ? 0 : 1, &channels,
                            sd_arena_alloc(a, (uint64_t)channels + 1));
  sd_names_set(&w->made, key, m);
  *out = m;
  return NULL;
}

const char *sd_quant_emit_weight(sd_quant_writer *w, const char *name, const sd_quant_made *m, int axis) {
  const char *out = sd_proto_name(w->p, sd_arena_printf(w->p->a, "%s_dequantized", name));
  Onnx__NodeProto *n = sd_proto_node(w->p, sd_arena_printf(w->p->a, "%s_DequantizeLinear", name), "",
                                     "DequantizeLinear", (const char *[]){m->q, m->scale, m->zero}, 3, out);
  if (!w->o->per_tensor && axis != 1) sd_proto_int(w->p, n, "axis", axis);
  sd_quant_emit(w, n);
  return out;
}

void sd_quant_note(sd_quant_unit *u, const sd_quant_made *m, uint64_t elements) {
  u->bits = 8, u->snr = m->snr;
  u->bytes_after = elements + m->channels * (sizeof(float) + 1);
}

// y = Cast(Gather(q, i)) * Gather(scale, i), the scale as [rows, 1].
sard_status *sd_quant_emit_table(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u) {
  sd_proto *p = w->p;
  const sd_quant_made *m;
  const char *name = u->weight, *y = n->output[0], *index = n->input[1];
  SD_TRY(sd_quant_make_weight(w, n, name, NULL, &m));
  int64_t dims[2] = {u->dims[0], 1};
  if (w->o->per_tensor)
    return SD_ERR(UNSUPPORTED, "tables have a scale for each row: --per-tensor cannot be had for '%s'", u->name);
  const char *scale = sd_proto_tensor(p, sd_arena_printf(p->a, "%s_row_scale", name), SD_F32, 2, dims, m->scales);
  const char *q = sd_proto_name(p, sd_arena_printf(p->a, "%s_quantized", y)),
             *s = sd_proto_name(p, sd_arena_printf(p->a, "%s_scale", y));
  const char *f = sd_proto_name(p, sd_arena_printf(p->a, "%s_cast", y));
  n->input = sd_arena_dup(p->a, (const char *[]){m->q, index}, 2 * sizeof(char *)), n->output[0] = (char *)q;
  sd_quant_emit(w, n);
  sd_quant_emit(w, sd_proto_node(p, s, "", "Gather", (const char *[]){scale, index}, 2, s));
  Onnx__NodeProto *cast = sd_proto_node(p, f, "", "Cast", &q, 1, f);
  sd_proto_int(p, cast, "to", SD_F32);
  sd_quant_emit(w, cast);
  sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(p->a, "%s_Mul", y), "", "Mul", (const char *[]){f, s}, 2, y));
  sd_quant_note(u, m, u->rows * u->k);
  return NULL;
}

sard_status *sd_quant_write(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *u,
                            const sd_quant_tensors *t, uint8_t **out, uint64_t *size) {
  sd_proto p;
  SD_TRY(sd_quant_open(a, src, o, &p));
  sd_quant_writer w = {.p = &p, .o = o, .u = u, .t = t};
  sd_names_init(&w.made, a);
  for (uint32_t i = 0; i < u->len; i++)
    u->at[i].bits = 0, u->at[i].snr = 200, u->at[i].bytes_after = u->at[i].bytes_before;
  if (o->mode == SD_QUANT_STATIC) SD_TRY(sd_quant_write_static(&w));
  else if (o->mode == SD_QUANT_DYNAMIC)
    SD_TRY(sd_quant_write_dynamic(&w));
  else
    SD_TRY(sd_quant_write_weights(&w));
  if (o->format == SD_QUANT_QOPERATOR) SD_TRY(sd_quant_to_operators(&w));
  p.nodes.at = w.nodes.at, p.nodes.len = w.nodes.len, p.nodes.cap = w.nodes.cap;
  sd_proto_sweep(&p);
  return sd_proto_pack(&p, out, size);
}
