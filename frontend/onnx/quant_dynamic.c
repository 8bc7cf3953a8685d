// Integers whose ranges each run finds: DynamicQuantizeLinear once for each value, MatMulInteger, and the
// scales multiplied in behind it; recurrent nodes have an operator of their own.
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

typedef struct found {
  const char *q, *scale, *zero;
} found; // outputs of a DynamicQuantizeLinear

static const found *quantize(sd_quant_writer *w, const char *x) {
  sd_arena *a = w->p->a;
  const char *key = sd_arena_printf(a, "dynamic\x1f%s", x);
  found *f = sd_names_get(&w->made, key);
  if (f) return f;
  f = SD_NEW(a, found);
  f->q = sd_proto_name(w->p, sd_arena_printf(a, "%s_quantized", x));
  f->scale = sd_proto_name(w->p, sd_arena_printf(a, "%s_scale", x));
  f->zero = sd_proto_name(w->p, sd_arena_printf(a, "%s_zero_point", x));
  Onnx__NodeProto *n =
      sd_proto_node(w->p, sd_arena_printf(a, "%s_DynamicQuantizeLinear", x), "", "DynamicQuantizeLinear", &x, 1, f->q);
  n->output = sd_arena_dup(a, (const char *[]){f->q, f->scale, f->zero}, 3 * sizeof(char *)), n->n_output = 3;
  sd_quant_emit(w, n);
  sd_names_set(&w->made, key, f);
  return f;
}

// The weight as [inputs, outputs], which MatMulInteger wants.
static const char *turned(sd_quant_writer *w, const sd_quant_made *m, const sd_quant_unit *u) {
  const char *key = sd_arena_printf(w->p->a, "turned\x1f%s", m->q);
  const char *name = sd_names_get(&w->made, key);
  if (name) return name;
  int8_t *q = sd_arena_alloc(w->p->a, u->rows * u->k + 1);
  int64_t dims[2] = {(int64_t)u->k, (int64_t)u->rows};
  for (uint64_t r = 0; r < u->rows; r++)
    for (uint64_t k = 0; k < u->k; k++) q[k * u->rows + r] = m->values[r * u->k + k];
  name = sd_proto_tensor(w->p, sd_arena_printf(w->p->a, "%s_transposed", m->q), SD_I8, 2, dims, q);
  sd_names_set(&w->made, key, (void *)name);
  return name;
}

static sard_status *product(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u) {
  sd_proto *p = w->p;
  sd_arena *a = p->a;
  const sd_quant_made *m;
  const char *y = n->output[0], *base = *n->name ? n->name : y, *bias = sd_quant_operand(n, sd_quant_op_of(n)->bias);
  SD_TRY(sd_quant_make_weight(w, n, u, u->weight, NULL, &m));
  const found *x = quantize(w, u->x);
  const char *q = sd_quant_axis(n, 2) == 0 ? turned(w, m, u) : m->q;
  const char *sum = sd_proto_name(p, sd_arena_printf(a, "%s_sum", y)),
             *cast = sd_proto_name(p, sd_arena_printf(a, "%s_cast", y));
  const char *scale = sd_proto_name(p, sd_arena_printf(a, "%s_scales", y)),
             *product = *bias ? sd_proto_name(p, sd_arena_printf(a, "%s_scaled", y)) : y;
  sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(a, "%s_MatMulInteger", base), "", "MatMulInteger",
                                 (const char *[]){x->q, q, x->zero}, 3, sum));
  Onnx__NodeProto *c = sd_proto_node(p, sd_arena_printf(a, "%s_Cast", base), "", "Cast", &sum, 1, cast);
  sd_proto_int(p, c, "to", SD_F32);
  sd_quant_emit(w, c);
  sd_quant_emit(w, sd_proto_node(p, sd_arena_printf(a, "%s_scales", base), "", "Mul",
                                 (const char *[]){x->scale, m->scale}, 2, scale));
  sd_quant_emit(
      w, sd_proto_node(p, sd_arena_printf(a, "%s_Mul", base), "", "Mul", (const char *[]){cast, scale}, 2, product));
  if (*bias)
    sd_quant_emit(
        w, sd_proto_node(p, sd_arena_printf(a, "%s_Add", base), "", "Add", (const char *[]){product, bias}, 2, y));
  sd_quant_note(u, m, u->rows * u->k);
  return NULL;
}

sard_status *sd_quant_write_dynamic(sd_quant_writer *w) {
  uint32_t next = 0;
  for (uint32_t i = 0; i < w->p->nodes.len; i++) {
    Onnx__NodeProto *n = w->p->nodes.at[i];
    sd_quant_unit *u = sd_quant_unit_of(w->u, &next, n);
    sd_quant_role role = u && !u->keep ? sd_quant_op_of(n)->role : SD_ROLE_NONE;
    if (role == SD_ROLE_STATES) SD_TRY(sd_quant_states(w, n, u));
    if (role == SD_ROLE_NONE || role == SD_ROLE_STATES) sd_quant_emit(w, n);
    else if (role == SD_ROLE_TABLE)
      SD_TRY(sd_quant_emit_table(w, n, u));
    else
      SD_TRY(product(w, n, u));
  }
  return NULL;
}
