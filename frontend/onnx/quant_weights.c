// Weights as integers, activations as they are. 8 bits: DequantizeLinear with a scale for each channel. 4 and 2 bits:
// groups along the inputs, as MatMulNBits of com.microsoft, or as DequantizeLinear with blocks (opset 21, 2 bits 25).
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

static const char *made(sd_quant_writer *w, const char *base, sd_dtype t, int rank, const int64_t *dims,
                        const void *data) {
  return sd_proto_tensor(w->p, base, t, rank, dims, data);
}

// The weight as [rows][k] in groups; `a`: for what is needed on the way.
static sard_status *group(sd_quant_writer *w, sd_arena *a, const Onnx__NodeProto *n, sd_quant_unit *u, sd_groups *g) {
  sd_weight from;
  const sd_const *c;
  SD_TRY(sd_quant_weight(w->p, a, n, u->weight, false, &from, &c));
  const float *rows = sd_quant_rows(a, &from);
  SD_TRY(sd_groups_new(u->rows, u->k, (uint64_t)w->o->group, w->o->bits, w->o->symmetric, g));
  SD_TRY(sd_quant_round_groups(w->o, g, rows, sd_quant_moments(w, u)));
  u->bits = w->o->bits, u->snr = sd_groups_snr(g, rows);
  uint64_t groups = g->rows * g->per_row,
           bits = u->rows * u->k * (uint64_t)g->bits + (g->symmetric ? 0 : groups * (uint64_t)g->bits);
  u->bytes_after = (bits + 7) / 8 + groups * sizeof(float);
  return NULL;
}

// Numbers of a few bits, the first in the low bits; each of the `rows` begins with a byte.
static uint8_t *pack(sd_arena *a, const uint8_t *q, uint64_t rows, uint64_t n, uint64_t padded, int bits,
                     uint8_t flip) {
  uint64_t each = (padded * (uint64_t)bits + 7) / 8;
  uint8_t *to = sd_arena_alloc(a, rows * each + 1);
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t i = 0; i < n; i++)
      to[r * each + i * (uint64_t)bits / 8] |= (uint8_t)((q[r * n + i] ^ flip) << (i * (uint64_t)bits % 8));
  return to;
}

static sard_status *nbits(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u, const sd_groups *g) {
  sd_proto *p = w->p;
  sd_arena *a = p->a;
  const char *y = n->output[0], *bias = sd_quant_operand(n, sd_quant_op_of(n)->bias),
             *out = *bias ? sd_proto_name(p, sd_arena_printf(a, "%s_product", y)) : y;
  int64_t blob = (int64_t)(g->group * (uint64_t)g->bits / 8), dims[3] = {(int64_t)g->rows, (int64_t)g->per_row, blob};
  int64_t n_scale = (int64_t)(g->rows * g->per_row),
          n_zero = (int64_t)(g->rows * ((g->per_row * (uint64_t)g->bits + 7) / 8));
  const char *in[4] = {u->x,
                       made(w, sd_arena_printf(a, "%s_Q%d", u->weight, g->bits), SD_U8, 3, dims,
                            pack(a, g->q, g->rows, g->k, g->per_row * g->group, g->bits, 0)),
                       made(w, sd_arena_printf(a, "%s_scales", u->weight), SD_F32, 1, &n_scale,
                            sd_arena_dup(a, g->scales, (uint64_t)n_scale * sizeof(float))),
                       NULL};
  if (!g->symmetric)
    in[3] = made(w, sd_arena_printf(a, "%s_zero_points", u->weight), SD_U8, 1, &n_zero,
                 pack(a, g->zeros, g->rows, g->per_row, g->per_row, g->bits, 0));
  Onnx__NodeProto *m = sd_proto_node(p, sd_arena_printf(a, "%s_Q%d", *n->name ? n->name : y, g->bits), "com.microsoft",
                                     "MatMulNBits", in, g->symmetric ? 3 : 4, out);
  sd_proto_int(p, m, "K", (int64_t)g->k), sd_proto_int(p, m, "N", (int64_t)g->rows);
  sd_proto_int(p, m, "bits", g->bits), sd_proto_int(p, m, "block_size", (int64_t)g->group);
  if (w->o->round_inputs) sd_proto_int(p, m, "accuracy_level", 4);
  sd_quant_emit(w, m);
  if (*bias)
    sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(a, "%s_Add", *n->name ? n->name : y), "", "Add",
                                   (const char *[]){out, bias}, 2, y));
  sd_proto_opset(p, "com.microsoft", 1);
  return NULL;
}

// From [rows][per_row] to the axes of the weight: [per_row][rows] where it is [k][rows].
static const void *turned(sd_arena *a, const void *from, uint64_t rows, uint64_t n, size_t size, bool turn) {
  uint8_t *to = sd_arena_alloc(a, rows * n * size + 1);
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t i = 0; i < n; i++)
      memcpy(to + (turn ? i * rows + r : r * n + i) * size, (const uint8_t *)from + (r * n + i) * size, size);
  return to;
}

static sard_status *blocks(sd_quant_writer *w, sd_arena *tmp, Onnx__NodeProto *n, sd_quant_unit *u, const sd_groups *g) {
  sd_proto *p = w->p;
  sd_arena *a = p->a;
  int axis = sd_quant_axis(n, 2) == 0; // along the inputs
  uint64_t count = g->rows * g->k, groups = g->rows * g->per_row;
  uint8_t flip = g->symmetric ? (uint8_t)(1 << (g->bits - 1)) : 0; // signed: two's complement
  sd_dtype t = g->bits == 4 ? (g->symmetric ? SD_I4 : SD_U4) : g->symmetric ? SD_I2 : SD_U2;
  int64_t dims[2] = {u->dims[0], u->dims[1]}, scale[2] = {(int64_t)g->rows, (int64_t)g->per_row};
  if (!axis) scale[0] = (int64_t)g->per_row, scale[1] = (int64_t)g->rows;
  const uint8_t *q = pack(a, turned(tmp, g->q, g->rows, g->k, 1, !axis), 1, count, count, g->bits, flip);
  const uint8_t *z = pack(a, turned(tmp, g->zeros, g->rows, g->per_row, 1, !axis), 1, groups, groups, g->bits, flip);
  const char *in[3] = {made(w, sd_arena_printf(a, "%s_quantized", u->weight), t, 2, dims, q),
                       made(w, sd_arena_printf(a, "%s_scale", u->weight), SD_F32, 2, scale,
                            turned(a, g->scales, g->rows, g->per_row, sizeof(float), !axis)),
                       NULL};
  if (!g->symmetric) in[2] = made(w, sd_arena_printf(a, "%s_zero_point", u->weight), t, 2, scale, z);
  const char *out = sd_proto_name(p, sd_arena_printf(a, "%s_dequantized", u->weight));
  Onnx__NodeProto *d = sd_proto_node(p, sd_arena_printf(a, "%s_DequantizeLinear", u->weight), "", "DequantizeLinear",
                                     in, g->symmetric ? 2 : 3, out);
  sd_proto_int(p, d, "axis", axis), sd_proto_int(p, d, "block_size", (int64_t)g->group);
  sd_quant_emit(w, d);
  n->input[sd_quant_op_of(n)->weight] = (char *)out;
  sd_quant_emit(w, n);
  return NULL;
}

static void free_groups(void *g) { sd_groups_free(g); }

static sard_status *few_bits(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u) {
  sd_arena *a = sd_arena_scratch(w->p->a);
  sd_groups *g = SD_NEW(a, sd_groups);
  sd_arena_defer(a, free_groups, g);
  sard_status *st = w->o->check ? w->o->check() : NULL;
  if (!st) st = group(w, a, n, u, g);
  if (!st) st = w->o->format == SD_QUANT_NBITS ? nbits(w, n, u, g) : blocks(w, a, n, u, g);
  sd_arena_free(a);
  return st;
}

// Every weight of 8 bits: recurrent nodes have two.
static sard_status *bytes(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u, const sd_quant_op *op) {
  int last = op->role == SD_ROLE_STATES ? op->weight + 1 : op->weight;
  for (int i = op->weight; i <= last; i++) {
    const char *name = sd_quant_operand(n, i);
    const sd_quant_made *m;
    const Onnx__TensorProto *t = sd_proto_weight(w->p, name);
    if (!t || t->data_type != SD_F32 || t->n_dims <= (size_t)sd_quant_axis(n, (int)t->n_dims)) continue;
    SD_TRY(sd_quant_make_weight(w, n, u, name, NULL, &m));
    n->input[i] = (char *)sd_quant_emit_weight(w, name, m, sd_quant_axis(n, (int)t->n_dims));
    sd_quant_note(u, m, sd_quant_elements(t));
  }
  sd_quant_emit(w, n);
  return NULL;
}

sard_status *sd_quant_write_weights(sd_quant_writer *w) {
  uint32_t next = 0;
  for (uint32_t i = 0; i < w->p->nodes.len; i++) {
    Onnx__NodeProto *n = w->p->nodes.at[i];
    const sd_quant_op *op = sd_quant_op_of(n);
    sd_quant_unit *u = sd_quant_unit_of(w->u, &next, n);
    bool matrix = u && (sd_proto_is(n, "", "MatMul") || sd_proto_is(n, "", "Gemm"));
    if (!u || u->keep) {
      sd_quant_emit(w, n);
    } else if (op->role == SD_ROLE_TABLE) {
      SD_TRY(sd_quant_emit_table(w, n, u));
    } else if (matrix && w->o->bits < 8) {
      SD_TRY(few_bits(w, n, u));
    } else {
      SD_TRY(bytes(w, n, u, op));
    }
  }
  return NULL;
}
