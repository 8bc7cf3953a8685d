// Parts of values that follow from parts of constants: what stands between is computed for the part alone.
#include "passes/edit.h"
#include "passes/partition/tensor_inside.h"

enum { DEEPEST = 16 };

bool sd_tensors_is_weight(const sd_value *v) {
  if (v->data || !v->def || v->def->n_body || v->def->n_out != 1 || sd_value_is_output(v)) return false;
  for (uint32_t i = 0; i < v->def->n_in; i++)
    if (v->def->in[i] && !v->def->in[i]->data) return false;
  return v->def->n_in > 0;
}

// The same range along another axis with its letter, which may be longer or shorter by a factor.
static bool scale(const sd_tensors *t, const sd_value *v, int axis, int64_t size, int64_t *from,
                  int64_t *to) {
  int64_t own, a, b;
  if (!sd_dim_is_const(t->m->dims, v->dims[axis], &own) || size < 1 ||
      __builtin_mul_overflow(*from, own, &a) || __builtin_mul_overflow(*to, own, &b) || a % size || b % size)
    return false;
  *from = a / size, *to = b / size;
  return true;
}

// All that reads it takes windows of it, or it has one reader.
static bool has_one_use(const sd_tensors *t, const sd_value *v, int axis) {
  if (sd_value_is_output(v)) return false;
  for (uint32_t i = 0; v->uses.len > 1 && i < v->uses.len; i++) {
    sd_axes x;
    const sd_node *n = v->uses.at[i].node;
    if (n->n_body || !sd_axes_of(n, t->a, &x) || x.windows != axis + 1 || v->uses.at[i].operand) return false;
  }
  return true;
}

static bool can_take(const sd_tensors *t, const sd_value *v, int axis, int64_t from, int64_t to,
                     const sd_node **product, int depth) {
  sd_axes x;
  int64_t size;
  bool some = false;
  const sd_node *n = v->def;
  if (v->data) return v->dtype != SD_STRING && v->dtype != SD_OBJECT;
  if (!n || n->n_body || n->n_out != 1 || depth == DEEPEST || v->elems || !sd_axes_of(n, t->a, &x))
    return false;
  sd_letter l = x.out[0][axis];
  if (!l || !has_one_use(t, v, axis) || !sd_dim_is_const(t->m->dims, v->dims[axis], &size)) return false;
  if (x.counted.attr && l == x.counted.letter && sd_node_int(n, x.counted.attr, 1) * (to - from) % size)
    return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    int64_t a = from, b = to;
    int at = n->in[i] ? sd_letter_axis(x.in[i], n->in[i], l) : -1;
    if (at == -1) continue;
    if (at < 0 || !scale(t, n->in[i], at, size, &a, &b) ||
        !can_take(t, n->in[i], at, a, b, product, depth + 1))
      return false;
    some = true;
  }
  if (product && n->op->narrow == SD_NARROW_YES) *product = n;
  return some;
}

bool sd_tensors_can_take(const sd_tensors *t, const sd_value *v, int axis, int64_t from, int64_t to,
                         const sd_node **product) {
  return can_take(t, v, axis, from, to, product, 0);
}

static sard_status *take_operands(sd_tensors *t, const sd_node *n, const sd_axes *x, sd_letter l,
                                  int64_t size, int64_t from, int64_t to, int rank, sd_value **in) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *const *whole;
    int64_t a = from, b = to;
    int at = n->in[i] ? sd_letter_axis(x->in[i], n->in[i], l) : -1;
    if (!n->in[i]) continue;
    if (at >= 0) {
      if (!scale(t, n->in[i], at, size, &a, &b)) return SD_ERR(INTERNAL, "a part of value %u", n->in[i]->id);
      SD_TRY(sd_tensors_take(t, n->in[i], at, a, b, rank, &in[i]));
      continue;
    }
    SD_TRY(sd_tensors_get(t, n->in[i], SD_HOLD_WHOLE, &whole));
    in[i] = whole[rank];
  }
  return NULL;
}

sard_status *sd_tensors_take(sd_tensors *t, sd_value *v, int axis, int64_t from, int64_t to, int rank,
                             sd_value **out) {
  sd_axes x;
  int64_t size = 0;
  sd_graph *g = sd_tensors_graph(t, rank);
  if (v->data) {
    sd_value *const *whole;
    SD_TRY(sd_tensors_get(t, v, SD_HOLD_WHOLE, &whole));
    return sd_edit_slice(g, NULL, whole[rank], axis, from, to, out);
  }
  const sd_node *n = v->def;
  sd_value **in = SD_NEW_ARRAY(t->a, sd_value *, n->n_in + 1);
  if (!sd_axes_of(n, t->a, &x)) return SD_ERR(INTERNAL, "a part of value %u", v->id);
  sd_dim_is_const(t->m->dims, v->dims[axis], &size);
  SD_TRY(take_operands(t, n, &x, x.out[0][axis], size, from, to, rank, in));
  sd_node *part = sd_node_like(g, NULL, n, in, n->n_in, n->n_out);
  part->out[0]->name = v->name;
  *out = part->out[0];
  SD_TRY(sd_tensors_fit(t, part, n, &x, axis, to - from));
  return sd_node_infer(part);
}
