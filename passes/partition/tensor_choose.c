// Which letter of a node's iteration space it is best cut along.
#include <math.h>

#include "passes/partition/tensor_inside.h"

static const double OPERATIONS_A_SECOND = 1e11;
enum { TABLE_BYTES = 8 << 20 };

// ---- letters ----

static bool size_of(const sd_tensors *t, const sd_value *v, int d, int64_t *out) {
  return sd_dim_is_const(t->m->dims, v->dims[d], out);
}

int sd_letter_axis(const sd_letter *letters, const sd_value *v, sd_letter l) {
  int at = -1;
  for (int d = 0; v && d < v->rank; d++)
    if (letters[d] == l) at = at == -1 ? d : -2;
  return at;
}

// Axes of the values with that letter can be cut into `units`.
static bool divides(const sd_tensors *t, sd_value *const *v, sd_letter (*letters)[SD_MAX_RANK], uint32_t n,
                    sd_letter l, uint64_t units) {
  for (uint32_t i = 0; i < n; i++) {
    int64_t size;
    int at = v[i] ? sd_letter_axis(letters[i], v[i], l) : -1;
    if (at == -1) continue;
    if (at < 0 || !size_of(t, v[i], at, &size) || size < 1 || (uint64_t)size % units) return false;
    if (sd_dtype_bits(v[i]->dtype) < 8 && !v[i]->data) return false; // exchanges move bytes
    if (v[i]->dtype == SD_STRING || v[i]->dtype == SD_OBJECT) return false;
  }
  return true;
}

// Each result has the letter, or is the sum over it.
static bool results_fit(const sd_node *n, const sd_axes *x, sd_letter l) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (!n->out[i]) continue;
    if (n->out[i]->elems) return false;
    if (sd_letter_axis(x->out[i], n->out[i], l) < 0 && (l != x->sum || n->n_out > 1)) return false;
  }
  return true;
}

static bool fits(const sd_tensors *t, const sd_node *n, const sd_axes *x, sd_letter l, uint64_t units) {
  if (x->counted.attr && l == x->counted.letter && (uint64_t)sd_node_int(n, x->counted.attr, 1) % units)
    return false;
  return units >= (uint64_t)t->ranks && results_fit(n, x, l) && divides(t, n->in, x->in, n->n_in, l, units) &&
         divides(t, n->out, x->out, n->n_out, l, units);
}

static sd_hold hold_with(const sd_letter *letters, const sd_value *v, const sd_cutting *w) {
  int at = w->letter ? sd_letter_axis(letters, v, w->letter) : -1;
  return (sd_hold){.axis = at, .units = w->units};
}

sd_hold sd_cutting_operand(const sd_node *n, const sd_axes *x, uint32_t i, const sd_cutting *w) {
  return hold_with(x->in[i], n->in[i], w);
}

sd_hold sd_cutting_result(const sd_node *n, const sd_axes *x, uint32_t i, const sd_cutting *w) {
  sd_hold h = hold_with(x->out[i], n->out[i], w);
  h.partial = w->letter && h.axis < 0;
  return h;
}

// ---- what readers want ----

// The least number of parts of an axis that the letter's axes have, in which operands can be made, and which
// readers of results want.
static uint64_t units_of(const sd_tensors *t, const sd_node *n, const sd_axes *x, sd_letter l) {
  int64_t size, count = x->counted.attr && l == x->counted.letter ? sd_node_int(n, x->counted.attr, 1) : 0;
  uint64_t units = count > 0 ? (uint64_t)count : UINT64_MAX;
  for (uint32_t i = 0; i < n->n_in + n->n_out; i++) {
    bool in = i < n->n_in;
    const sd_value *v = in ? n->in[i] : n->out[i - n->n_in];
    int at = v ? sd_letter_axis(in ? x->in[i] : x->out[i - n->n_in], v, l) : -1;
    if (at < 0 || !size_of(t, v, at, &size)) continue;
    if ((uint64_t)size < units) units = (uint64_t)size;
    uint64_t more = in ? t->offered[v->id][at] : t->wanted[v->id][at];
    if (more && more < units) units = more;
  }
  return units >= (uint64_t)t->ranks && units < UINT64_MAX ? units : 0;
}

static void note_units(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_value *v,
                       const sd_letter *letters, uint64_t (*to)[SD_MAX_RANK]) {
  for (int d = 0; v && d < v->rank; d++) {
    uint64_t units = letters[d] ? units_of(t, n, x, letters[d]) : 0, *at = &to[v->id][d];
    if (units && (!*at || units < *at)) *at = units;
  }
}

// What can be made, forward; then backward, as readers stand behind what they read, what of it is wanted.
void sd_tensors_want(sd_tensors *t) {
  sd_axes x;
  for (sd_node *n = t->m->main->first; n; n = n->next)
    if (!n->n_body && sd_axes_of(n, t->a, &x))
      for (uint32_t i = 0; i < n->n_out; i++) note_units(t, n, &x, n->out[i], x.out[i], t->offered);
  for (sd_node *n = t->m->main->last; n; n = n->prev)
    if (!n->n_body && sd_axes_of(n, t->a, &x))
      for (uint32_t i = 0; i < n->n_in; i++) note_units(t, n, &x, n->in[i], x.in[i], t->wanted);
}

// ---- costs ----

// Products of one element of the result: what of the second operand the result does not have.
static double operations(const sd_tensors *t, const sd_node *n, const sd_axes *x) {
  double each = x && x->sum ? 2 : 1;
  for (int d = 0; x && x->sum && n->n_in > 1 && d < n->in[1]->rank; d++) {
    int64_t size = 1;
    sd_letter l = x->in[1][d];
    if (!l || sd_letter_axis(x->out[0], n->out[0], l) < 0) size_of(t, n->in[1], d, &size);
    each *= (double)size;
  }
  return n->out[0] ? each * sd_tensors_count(t, n->out[0]) : 0;
}

static double input_seconds(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_cutting *w) {
  double bytes = 0;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i];
    if (!v || v->data || sd_tensors_is_weight(v)) continue;
    sd_hold h = x ? sd_cutting_operand(n, x, i, w) : SD_HOLD_WHOLE;
    bytes += sd_tensors_moved(t, sd_tensors_hold(t, v), h, sd_tensors_bytes(t, v));
  }
  return bytes / SD_TENSOR_BYTES_A_SECOND;
}

// Until the results are whole again.
static double output_seconds(const sd_tensors *t, const sd_node *n, const sd_axes *x, const sd_cutting *w) {
  double bytes = 0;
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i])
      bytes +=
          sd_tensors_moved(t, sd_cutting_result(n, x, i, w), SD_HOLD_WHOLE, sd_tensors_bytes(t, n->out[i]));
  return bytes / SD_TENSOR_BYTES_A_SECOND;
}

static void consider(const sd_tensors *t, const sd_node *n, const sd_axes *x, sd_cutting w, double beside,
                     sd_cutting *best) {
  if (!fits(t, n, x, w.letter, w.units)) return;
  w.seconds = beside + input_seconds(t, n, x, &w) + operations(t, n, x) / t->ranks / OPERATIONS_A_SECOND;
  bool sum = sd_cutting_result(n, x, 0, &w).partial, ends = false;
  for (uint32_t i = 0; i < n->n_out; i++) ends |= n->out[i] && sd_value_is_output(n->out[i]);
  if (beside == 0 && (sum || ends))
    w.seconds += output_seconds(t, n, x, &w); // outputs of the model are whole
  if (w.seconds < best->seconds) *best = w;
}

static bool is_table(const sd_value *v) { return v && v->data && v->data->bytes >= TABLE_BYTES; }

// Letters of constants: a cut begins here.
static void consider_constant(const sd_tensors *t, const sd_node *n, const sd_axes *x, uint32_t i,
                              sd_cutting *best) {
  bool table = is_table(n->in[i]);
  for (int d = 0; d < n->in[i]->rank; d++) {
    int64_t size;
    sd_cutting w = {.letter = x->in[i][d], .table = table && !x->sum};
    int at = sd_letter_axis(x->out[0], n->out[0], w.letter);
    if (!w.letter || at < 0 || !size_of(t, n->out[0], at, &size) || (!x->sum && !table)) continue;
    uint64_t wanted = t->wanted[n->out[0]->id][at];
    for (int fine = 0; fine < 2; fine++) {
      w.units = fine || !wanted ? (uint64_t)size : wanted;
      consider(t, n, x, w, output_seconds(t, n, x, &w), best);
    }
  }
}

sd_cutting sd_tensors_choose(const sd_tensors *t, const sd_node *n, const sd_axes *x) {
  sd_cutting best = {0};
  best.seconds = input_seconds(t, n, NULL, &best) + operations(t, n, x) / OPERATIONS_A_SECOND;
  for (uint32_t i = 0; x && i < n->n_in; i++)
    if (is_table(n->in[i])) best.seconds = INFINITY; // any way that keeps parts of it is better
  for (uint32_t i = 0; x && i < n->n_in; i++) {
    sd_value *v = n->in[i];
    if (!v || v->rank < 1) continue;
    sd_hold h = sd_tensors_hold(t, v);
    if (h.axis >= 0 && x->in[i][h.axis])
      consider(t, n, x, (sd_cutting){.letter = x->in[i][h.axis], .units = h.units}, 0, &best);
    if (v->data || sd_tensors_is_weight(v)) consider_constant(t, n, x, i, &best);
  }
  return best;
}
