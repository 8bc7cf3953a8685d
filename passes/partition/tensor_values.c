// What ranks have of values, and exchanges.
#include "passes/partition/tensor_inside.h"

#include "passes/edit.h"
#include "runtime/collective/group.h"

sd_graph *sd_tensors_graph(const sd_tensors *t, int rank) { return t->parts->at[rank].module->main; }

// ---- sizes ----

double sd_tensors_count(const sd_tensors *t, const sd_value *v) {
  int64_t n;
  sd_dim count = v->rank >= 0 ? sd_value_count(v) : SD_DIM_NONE;
  return count != SD_DIM_NONE && sd_dim_eval(t->m->dims, count, sd_dim_usual, t->m->dims, &n) && n > 0 ? (double)n
                                                                                               : 0;
}

double sd_tensors_bytes(const sd_tensors *t, const sd_value *v) {
  return sd_tensors_count(t, v) * sd_dtype_bits(v->dtype) / 8;
}

int64_t sd_tensors_begin(const sd_tensors *t, int64_t size, uint64_t units, int rank) {
  return (int64_t)sd_share_begin((uint64_t)size, (uint64_t)size / units, rank, t->ranks);
}

// Of different units, too, where they end alike for all ranks.
static bool same(const sd_tensors *t, sd_hold a, sd_hold b) {
  if (a.axis != b.axis || a.partial != b.partial) return false;
  for (int r = 1; a.axis >= 0 && r < t->ranks; r++)
    if (sd_share_begin(a.units, 1, r, t->ranks) * b.units !=
        sd_share_begin(b.units, 1, r, t->ranks) * a.units)
      return false;
  return true;
}

double sd_tensors_moved(const sd_tensors *t, sd_hold from, sd_hold to, double bytes) {
  double rest = bytes * (t->ranks - 1) / t->ranks;
  if (same(t, from, to)) return 0;
  if (from.partial) return to.axis < 0 ? 2 * rest : rest;
  return from.axis < 0 ? 0 : rest;
}

// ---- what is held ----

sd_hold sd_tensors_hold(const sd_tensors *t, const sd_value *v) {
  return t->held[v->id] ? t->held[v->id]->hold : SD_HOLD_WHOLE;
}

void sd_tensors_set(sd_tensors *t, const sd_value *v, sd_hold h, sd_value **at) {
  sd_held *x = SD_NEW(t->a, sd_held), **end = &t->held[v->id];
  *x = (sd_held){h, at, NULL};
  while (*end) end = &(*end)->next;
  *end = x;
}

static sd_value *const *find(const sd_tensors *t, const sd_value *v, sd_hold h) {
  for (const sd_held *x = t->held[v->id]; x; x = x->next)
    if (same(t, x->hold, h)) return x->at;
  return NULL;
}

static int64_t axis_size(const sd_tensors *t, const sd_value *v, int axis) {
  int64_t size = 0;
  sd_dim_is_const(t->m->dims, v->dims[axis], &size); // axes of other sizes are never cut
  return size;
}

static sd_value *constant(sd_graph *g, const sd_value *v) {
  sd_value *x = sd_value_new(g, v->name);
  sd_value_copy_type(x, v);
  x->data = v->data, x->elems = v->elems, x->n_elems = v->n_elems;
  return x;
}

static sard_status *slice(const sd_tensors *t, int rank, const sd_value *v, sd_value *whole, sd_hold h,
                          sd_value **out) {
  int64_t size = axis_size(t, v, h.axis);
  return sd_edit_slice(sd_tensors_graph(t, rank), NULL, whole, h.axis,
                       sd_tensors_begin(t, size, h.units, rank), sd_tensors_begin(t, size, h.units, rank + 1),
                       out);
}

static sard_status *exchange(const sd_tensors *t, int rank, const char *op, const sd_value *v, sd_value *x,
                             sd_hold h, sd_value **out) {
  sd_node *n = sd_node_new(sd_tensors_graph(t, rank), NULL, sd_op_find(op), &x, 1, 1);
  n->name = v->def ? v->def->name : "";
  sd_node_set_int(n, "rank", rank), sd_node_set_int(n, "ranks", t->ranks), sd_node_set_int(n, "tag", t->tag);
  if (h.axis >= 0) {
    int64_t size = axis_size(t, v, h.axis);
    sd_node_set_int(n, "axis", h.axis), sd_node_set_int(n, "size", size);
    sd_node_set_int(n, "unit", size / (int64_t)h.units);
  }
  *out = n->out[0];
  if (sd_value_is_output(v)) (*out)->name = v->name;
  return sd_node_infer(n);
}

// From how v was made to `h`, by an exchange.
static sard_status *bring(sd_tensors *t, sd_value *v, sd_hold h, sd_value **at) {
  const sd_held *from = t->held[v->id];
  const char *op = !from->hold.partial ? "sard.AllGather"
                   : h.axis < 0        ? "sard.AllReduce"
                                       : "sard.ReduceScatter";
  for (int r = 0; r < t->ranks; r++)
    SD_TRY(exchange(t, r, op, v, from->at[r], from->hold.partial ? h : from->hold, &at[r]));
  t->tag++, t->r->exchanges++;
  t->r->bytes += sd_tensors_moved(t, from->hold, h, sd_tensors_bytes(t, v));
  return NULL;
}

static sd_box part_of(const sd_tensors *t, const sd_value *v, sd_hold h, int rank) {
  int64_t size = axis_size(t, v, h.axis);
  sd_box b = {0};
  b.cut[h.axis] = true;
  b.from[h.axis] = sd_tensors_begin(t, size, h.units, rank),
  b.to[h.axis] = sd_tensors_begin(t, size, h.units, rank + 1);
  return b;
}

// Weights that are computed from constants (dequantized, turned): no rank needs more of those than its part.
static bool takes_all(const sd_tensors *t, const sd_value *v, sd_hold h) {
  if (!sd_tensors_is_weight(v)) return false;
  for (int r = 0; r < t->ranks; r++) {
    sd_box b = part_of(t, v, h, r);
    if (!sd_tensors_can_take(t, v, &b, NULL)) return false;
  }
  return true;
}

static sard_status *take_all(sd_tensors *t, sd_value *v, sd_hold h, sd_value **at) {
  for (int r = 0; r < t->ranks; r++) {
    sd_box b = part_of(t, v, h, r);
    SD_TRY(sd_tensors_take(t, v, &b, r, &at[r]));
  }
  return NULL;
}

static sard_status *make(sd_tensors *t, sd_value *v, sd_hold h, sd_value **at) {
  sd_value *const *whole;
  if (v->data && h.axis < 0) {
    for (int r = 0; r < t->ranks; r++) at[r] = constant(sd_tensors_graph(t, r), v);
    return NULL;
  }
  if (h.axis < 0 || sd_tensors_hold(t, v).partial) return bring(t, v, h, at);
  if (!v->data && takes_all(t, v, h)) return take_all(t, v, h, at);
  SD_TRY(sd_tensors_get(t, v, SD_HOLD_WHOLE, &whole));
  for (int r = 0; r < t->ranks; r++) SD_TRY(slice(t, r, v, whole[r], h, &at[r]));
  return NULL;
}

sard_status *sd_tensors_get(sd_tensors *t, sd_value *v, sd_hold h, sd_value *const **out) {
  *out = find(t, v, h);
  if (*out) return NULL;
  if (!v->data && !t->held[v->id])
    return SD_ERR(INTERNAL, "value '%s' (%u) is read before it is made", v->name, v->id);
  sd_value **at = SD_NEW_ARRAY(t->a, sd_value *, t->ranks);
  SD_TRY(make(t, v, h, at));
  sd_tensors_set(t, v, h, at);
  *out = at;
  return NULL;
}

sard_status *sd_tensors_settle(sd_tensors *t, sd_value *v) {
  sd_value *const *at;
  sd_held *first = t->held[v->id], *x = first;
  SD_TRY(sd_tensors_get(t, v, SD_HOLD_WHOLE, &at));
  while (x->at != at) x = x->next;
  if (x == first) return NULL;
  for (sd_held *p = first; p; p = p->next)
    if (p->next == x) p->next = x->next;
  x->next = first, t->held[v->id] = x;
  return NULL;
}
