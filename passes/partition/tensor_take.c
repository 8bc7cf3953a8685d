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

static void cut_at(sd_box *b, int axis, int64_t from, int64_t to) {
  b->cut[axis] = true, b->from[axis] = from, b->to[axis] = to;
}

static bool is_cut(const sd_box *b) {
  for (int d = 0; d < SD_MAX_RANK; d++)
    if (b->cut[d]) return true;
  return false;
}

static bool axis_size(const sd_tensors *t, const sd_value *v, int axis, int64_t *out) {
  return sd_dim_is_const(t->m->dims, v->dims[axis], out) && *out > 0;
}

// The same range along another axis with its letter, which may be longer or shorter by a factor.
static bool scale(const sd_tensors *t, const sd_value *v, int axis, int64_t size, int64_t from, int64_t to,
                  sd_box *out) {
  int64_t own, a, b;
  if (out->cut[axis] || !axis_size(t, v, axis, &own) || __builtin_mul_overflow(from, own, &a) ||
      __builtin_mul_overflow(to, own, &b) || a % size || b % size)
    return false;
  cut_at(out, axis, a / size, b / size);
  return true;
}

// Dims of a Reshape's result that one dim of its operand is made of: one element of those in front of a
// range, and all of those behind it, are a range there.
static bool join_digits(const sd_tensors *t, const sd_node *n, const sd_axes *x, int dim, const sd_box *part,
                        sd_box *in) {
  const sd_value *y = n->out[0];
  int64_t from = 0, to = 1, size;
  bool some = false, ranged = false;
  for (int d = 0; d < y->rank; d++) {
    if (x->digit[d] != dim + 1) continue;
    if (!axis_size(t, y, d, &size)) return false;
    int64_t a = part->cut[d] ? part->from[d] : 0, b = part->cut[d] ? part->to[d] : size;
    if (ranged && (a != 0 || b != size)) return false;
    if (!ranged) from = from * size + a, to = from - a + b;
    else
      from *= size, to *= size;
    ranged |= b - a != 1;
    some |= part->cut[d];
  }
  if (some) cut_at(in, dim, from, to);
  return true;
}

// What each operand is needed of for a part of the result; false: it is not known.
static bool parts_of(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_box *part,
                     sd_box *in) {
  for (int d = 0; d < n->out[0]->rank; d++) {
    int64_t size;
    bool some = false;
    sd_letter l = x->out[0][d];
    if (!part->cut[d]) continue;
    if (x->digit[d]) continue;
    if (!l || !axis_size(t, n->out[0], d, &size)) return false;
    if (x->counted.attr && l == x->counted.letter &&
        sd_node_int(n, x->counted.attr, 1) * (part->to[d] - part->from[d]) % size)
      return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
      int at = n->in[i] ? sd_letter_axis(x->in[i], n->in[i], l) : -1;
      if (at == -1) continue;
      if (at < 0 || !scale(t, n->in[i], at, size, part->from[d], part->to[d], &in[i])) return false;
      some = true;
    }
    if (!some) return false;
  }
  for (int dim = 0; dim < n->in[0]->rank; dim++)
    if (!join_digits(t, n, x, dim, part, &in[0])) return false;
  return true;
}

// All that reads it takes windows of it along one axis, or it has one reader.
static bool has_one_use(const sd_tensors *t, const sd_value *v) {
  int windows = 0;
  if (sd_value_is_output(v)) return false;
  for (uint32_t i = 0; v->uses.len > 1 && i < v->uses.len; i++) {
    sd_axes x;
    const sd_node *n = v->uses.at[i].node;
    if (n->n_body || !sd_axes_of(n, t->a, &x) || !x.windows || v->uses.at[i].operand) return false;
    if (windows && x.windows != windows) return false;
    windows = x.windows;
  }
  return true;
}

static bool can_take(const sd_tensors *t, const sd_value *v, const sd_box *part, const sd_node **product,
                     int depth) {
  sd_axes x;
  const sd_node *n = v->def;
  bool some = false;
  if (v->data) return v->dtype != SD_STRING && v->dtype != SD_OBJECT;
  if (!n || n->n_body || n->n_out != 1 || depth == DEEPEST || v->elems || !has_one_use(t, v) ||
      !sd_axes_of(n, t->a, &x))
    return false;
  sd_box *in = SD_NEW_ARRAY(t->a, sd_box, n->n_in + 1);
  if (!parts_of(t, n, &x, part, in)) return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i] || !is_cut(&in[i])) continue;
    if (!can_take(t, n->in[i], &in[i], product, depth + 1)) return false;
    some = true;
  }
  if (product && n->op->narrow == SD_NARROW_YES) *product = n;
  return some;
}

bool sd_tensors_can_take(const sd_tensors *t, const sd_value *v, const sd_box *part,
                         const sd_node **product) {
  return can_take(t, v, part, product, 0);
}

static sard_status *take_constant(sd_tensors *t, sd_value *v, const sd_box *part, int rank, sd_value **out) {
  sd_value *const *whole;
  SD_TRY(sd_tensors_get(t, v, SD_HOLD_WHOLE, &whole));
  *out = whole[rank];
  for (int d = 0; d < v->rank; d++)
    if (part->cut[d])
      SD_TRY(sd_edit_slice(sd_tensors_graph(t, rank), NULL, *out, d, part->from[d], part->to[d], out));
  return NULL;
}

sard_status *sd_tensors_take(sd_tensors *t, sd_value *v, const sd_box *part, int rank, sd_value **out) {
  sd_axes x;
  if (v->data) return take_constant(t, v, part, rank, out);
  const sd_node *n = v->def;
  sd_value **in = SD_NEW_ARRAY(t->a, sd_value *, n->n_in + 1);
  sd_box *boxes = SD_NEW_ARRAY(t->a, sd_box, n->n_in + 1);
  if (!sd_axes_of(n, t->a, &x) || !parts_of(t, n, &x, part, boxes))
    return SD_ERR(INTERNAL, "a part of value %u", v->id);
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *const *whole;
    if (!n->in[i]) continue;
    if (is_cut(&boxes[i])) {
      SD_TRY(sd_tensors_take(t, n->in[i], &boxes[i], rank, &in[i]));
      continue;
    }
    SD_TRY(sd_tensors_get(t, n->in[i], SD_HOLD_WHOLE, &whole));
    in[i] = whole[rank];
  }
  sd_node *node = sd_node_like(sd_tensors_graph(t, rank), NULL, n, in, n->n_in, n->n_out);
  node->out[0]->name = v->name;
  *out = node->out[0];
  SD_TRY(sd_tensors_fit(t, node, n, &x, part));
  return sd_node_infer(node);
}
