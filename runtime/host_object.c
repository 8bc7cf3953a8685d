// Host functions of sequences, optionals and boxed tensors (rows of ir/ops/object.def).
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

static uint64_t handle(const sd_host_tensor *t) { return t->dtype == SD_OBJECT && t->count ? *(const uint64_t *)t->data : 0; }

sard_status *sd_host_give_object(sd_host_call *c, uint32_t out, uint64_t number) {
  SD_TRY(c->make(c, out, NULL));
  if (c->out[out].dtype) *(uint64_t *)c->out[out].data = number;
  return NULL;
}

// The item that a tensor becomes: a copy, or the object that it is.
static sard_status *item_of(sd_host_call *c, const sd_host_tensor *t, uint64_t *out) {
  void *data;
  uint64_t bytes;
  if (t->dtype == SD_OBJECT) {
    *out = handle(t);
    return NULL;
  }
  SD_TRY(sd_objects_tensor(c->objects, t->dtype, t->rank, t->dims, out, &data));
  if (sd_dtype_bytes(t->dtype, t->count, &bytes) && bytes) memcpy(data, t->data, bytes);
  return NULL;
}

// Output `out` becomes the object: its number, or its contents where the output is a tensor. lead: of its rank or a lower
// one.
static sard_status *give_item(sd_host_call *c, uint32_t out, uint64_t number, bool lead) {
  const sd_host_tensor *y = &c->out[out];
  const sd_object *o;
  if (!y->dtype) return NULL;
  if (y->dtype == SD_OBJECT) return sd_host_give_object(c, out, number);
  SD_TRY(sd_objects_need(c->objects, number, SD_OBJ_TENSOR, &o));
  int more = y->rank - o->rank;
  if (o->dtype != y->dtype || more < 0 || (more && !lead))
    return SD_ERR(MODEL, "the tensor is %s of rank %d, %s of rank %d is expected", sd_dtype_name(o->dtype), o->rank, sd_dtype_name(y->dtype), y->rank);
  int64_t dims[SD_HOST_RANK];
  for (int d = 0; d < y->rank; d++) dims[d] = d < more ? 1 : o->dims[d - more];
  SD_TRY(c->make(c, out, dims));
  if (o->bytes) memcpy(c->out[out].data, o->data, o->bytes);
  return NULL;
}

static sard_status *sequence(sd_host_call *c, uint32_t in, const sd_object **out) {
  return sd_objects_need(c->objects, handle(&c->in[in]), SD_OBJ_SEQUENCE, out);
}

// A position among n items (`insert`: also behind the last one); `absent` where the operand is omitted.
static sard_status *position(sd_host_call *c, uint32_t in, int64_t n, bool insert, int64_t absent, int64_t *out) {
  *out = absent;
  if (in >= c->n_in || c->in[in].dtype == SD_DT_NONE) {
    if (n || insert) return NULL;
    return SD_ERR(MODEL, "the sequence is empty");
  }
  if (c->in[in].count != 1) return SD_ERR(MODEL, "a position has %llu elements", (unsigned long long)c->in[in].count);
  int64_t p = sd_dtype_get_i64(c->in[in].dtype, c->in[in].data, 0), at = p < 0 ? p + n : p;
  if (at < 0 || at > n || (at == n && !insert)) return SD_ERR(MODEL, "position %lld in a sequence of %lld", (long long)p, (long long)n);
  *out = at;
  return NULL;
}

// ---- sequences ----

sard_status *sd_host_sequence_empty(sd_host_call *c) { return sd_host_give_object(c, 0, 0); }

sard_status *sd_host_sequence_construct(sd_host_call *c) {
  uint64_t s = 0, item;
  for (uint32_t i = 0; i < c->n_in; i++) {
    SD_TRY(item_of(c, &c->in[i], &item));
    SD_TRY(sd_objects_append(c->objects, s, item, &s));
  }
  return sd_host_give_object(c, 0, s);
}

// The items of a sequence without those in [from, to), with `more` (n of them) in their place.
static sard_status *splice(sd_host_call *c, const sd_object *s, uint64_t from, uint64_t to, const uint64_t *more, uint64_t n, uint64_t *out) {
  uint64_t *all = sd_calloc(s->n + n + 1, sizeof *all);
  if (!all) return SD_ERR(NOMEM, "out of memory for a sequence of %llu items", (unsigned long long)s->n);
  if (from) memcpy(all, s->items, from * sizeof *all);
  if (n) memcpy(all + from, more, n * sizeof *all);
  if (s->n > to) memcpy(all + from + n, s->items + to, (s->n - to) * sizeof *all);
  sard_status *st = sd_objects_list(c->objects, SD_OBJ_SEQUENCE, all, from + n + (s->n - to), out);
  sd_free(all);
  return st;
}

sard_status *sd_host_sequence_insert(sd_host_call *c) {
  const sd_object *s;
  uint64_t item, made;
  int64_t at;
  SD_TRY(sequence(c, 0, &s));
  SD_TRY(position(c, 2, (int64_t)s->n, true, (int64_t)s->n, &at));
  SD_TRY(item_of(c, &c->in[1], &item));
  if ((uint64_t)at == s->n) SD_TRY(sd_objects_append(c->objects, handle(&c->in[0]), item, &made));
  else SD_TRY(splice(c, s, (uint64_t)at, (uint64_t)at, &item, 1, &made));
  return sd_host_give_object(c, 0, made);
}

sard_status *sd_host_sequence_erase(sd_host_call *c) {
  const sd_object *s;
  uint64_t made;
  int64_t at;
  SD_TRY(sequence(c, 0, &s));
  SD_TRY(position(c, 1, (int64_t)s->n, false, (int64_t)s->n - 1, &at));
  SD_TRY(splice(c, s, (uint64_t)at, (uint64_t)at + 1, NULL, 0, &made));
  return sd_host_give_object(c, 0, made);
}

sard_status *sd_host_sequence_at(sd_host_call *c) {
  const sd_object *s;
  int64_t at;
  SD_TRY(sequence(c, 0, &s));
  SD_TRY(position(c, 1, (int64_t)s->n, false, 0, &at));
  return give_item(c, 0, s->items[at], false);
}

sard_status *sd_host_sequence_length(sd_host_call *c) {
  const sd_object *s;
  SD_TRY(sequence(c, 0, &s));
  SD_TRY(c->make(c, 0, NULL));
  if (c->out[0].dtype) *(int64_t *)c->out[0].data = (int64_t)s->n;
  return NULL;
}

// ---- parts of a tensor along an axis ----

typedef struct view { uint64_t outer, len, inner; size_t size; } view; // elements [outer][len][inner] of `size` bytes

static sard_status *view_of(const sd_host_tensor *x, int axis, view *v) {
  int bits = sd_dtype_bits(x->dtype);
  *v = (view){1, (uint64_t)x->dims[axis], 1, (size_t)bits / 8};
  if (bits % 8) return SD_ERR(UNSUPPORTED, "tensors of type %s, whose elements are less than a byte, are not taken apart", sd_dtype_name(x->dtype));
  for (int d = 0; d < x->rank; d++)
    if (d != axis) *(d < axis ? &v->outer : &v->inner) *= (uint64_t)x->dims[d];
  return NULL;
}

static sard_status *add_part(sd_host_call *c, const view *v, int axis, uint64_t from, uint64_t n, bool drop, uint64_t *s) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[SD_HOST_RANK];
  int rank = 0;
  void *data;
  uint64_t item, row = v->inner * v->size;
  for (int d = 0; d < x->rank; d++)
    if (d != axis || !drop) dims[rank++] = d == axis ? (int64_t)n : x->dims[d];
  SD_TRY(sd_objects_tensor(c->objects, x->dtype, rank, dims, &item, &data));
  for (uint64_t o = 0; o < v->outer && n && row; o++)
    memcpy((char *)data + o * n * row, (const char *)x->data + (o * v->len + from) * row, n * row);
  return sd_objects_append(c->objects, *s, item, s);
}

sard_status *sd_host_split_to_sequence(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *split = c->n_in > 1 && c->in[1].dtype ? &c->in[1] : NULL;
  int64_t axis = c->param[0];
  uint64_t s = 0, at = 0;
  view v;
  if (axis < 0) axis += x->rank;
  if (axis < 0 || axis >= x->rank) return SD_ERR(MODEL, "axis %lld of a tensor of rank %d", (long long)c->param[0], x->rank);
  SD_TRY(view_of(x, (int)axis, &v));
  bool sizes = split && split->rank == 1, drop = !split && !c->param[1];
  for (uint64_t i = 0; sizes ? i < split->count : at < v.len; i++) {
    int64_t n = split ? sd_dtype_get_i64(split->dtype, split->data, sizes ? i : 0) : 1;
    if (n < 0 || (!sizes && n == 0) || (sizes && (uint64_t)n > v.len - at)) return SD_ERR(MODEL, "a part of %lld of %llu elements", (long long)n, (unsigned long long)v.len);
    if ((uint64_t)n > v.len - at) n = (int64_t)(v.len - at);
    SD_TRY(add_part(c, &v, (int)axis, at, (uint64_t)n, drop, &s));
    at += (uint64_t)n;
  }
  if (at != v.len) return SD_ERR(MODEL, "the parts have %llu elements, the axis has %llu", (unsigned long long)at, (unsigned long long)v.len);
  return sd_host_give_object(c, 0, s);
}

// The tensors of a sequence: of one type, and equal in all dims but `axis` (-1: in all).
static sard_status *joined_dims(sd_host_call *c, const sd_object *s, int axis, bool stack, int64_t *dims) {
  const sd_object *first = NULL, *o;
  int rank = c->out[0].rank - (stack ? 1 : 0);
  int64_t total = 0;
  for (uint64_t i = 0; i < s->n; i++) {
    SD_TRY(sd_objects_need(c->objects, s->items[i], SD_OBJ_TENSOR, &o));
    if (!first) first = o;
    bool same = o->dtype == c->out[0].dtype && o->rank == rank;
    for (int d = 0; d < rank && same; d++) same = o->dims[d] == first->dims[d] || (!stack && d == axis);
    if (!same) return SD_ERR(MODEL, "item %llu of the sequence does not fit to the first one", (unsigned long long)i);
    if (!stack && __builtin_add_overflow(total, o->dims[axis], &total)) return SD_ERR(MODEL, "the joined tensor is too large");
  }
  if (!first) return SD_ERR(MODEL, "the sequence is empty");
  for (int d = 0, from = 0; d < c->out[0].rank; d++) dims[d] = stack && d == axis ? (int64_t)s->n : first->dims[from++];
  if (!stack) dims[axis] = total;
  return NULL;
}

sard_status *sd_host_concat_from_sequence(sd_host_call *c) {
  const sd_object *s, *o;
  int64_t dims[SD_HOST_RANK], axis = c->param[0];
  bool stack = c->param[1] != 0;
  int rank = c->out[0].rank;
  uint64_t outer = 1, at = 0, row;
  if (!c->out[0].dtype) return NULL;
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return SD_ERR(MODEL, "axis %lld of a tensor of rank %d", (long long)c->param[0], rank);
  if (sd_dtype_bits(c->out[0].dtype) % 8) return SD_ERR(UNSUPPORTED, "tensors of type %s are not joined from a sequence", sd_dtype_name(c->out[0].dtype));
  SD_TRY(sequence(c, 0, &s));
  SD_TRY(joined_dims(c, s, (int)axis, stack, dims));
  SD_TRY(c->make(c, 0, dims));
  row = (uint64_t)sd_dtype_bits(c->out[0].dtype) / 8;
  for (int d = 0; d < rank; d++) *(d < axis ? &outer : &row) *= (uint64_t)dims[d];
  for (uint64_t i = 0; i < s->n && outer; i++) {
    o = sd_objects_get(c->objects, s->items[i]);
    uint64_t part = o->bytes / outer;
    for (uint64_t k = 0; k < outer && part; k++) memcpy((char *)c->out[0].data + k * row + at, (const char *)o->data + k * part, part);
    at += part;
  }
  return NULL;
}

// ---- optionals ----

sard_status *sd_host_optional(sd_host_call *c) {
  uint64_t item, made;
  if (!c->n_in || !c->in[0].dtype) return sd_host_give_object(c, 0, 0);
  SD_TRY(item_of(c, &c->in[0], &item));
  SD_TRY(sd_objects_list(c->objects, SD_OBJ_OPTIONAL, &item, 1, &made));
  return sd_host_give_object(c, 0, made);
}

sard_status *sd_host_optional_has(sd_host_call *c) {
  bool has = c->n_in && c->in[0].dtype;
  if (has && c->in[0].dtype == SD_OBJECT) has = c->param[0] ? sd_objects_get(c->objects, handle(&c->in[0]))->n > 0 : true;
  SD_TRY(c->make(c, 0, NULL));
  if (c->out[0].dtype) *(uint8_t *)c->out[0].data = has;
  return NULL;
}

sard_status *sd_host_optional_get(sd_host_call *c) {
  uint64_t item;
  const sd_object *o = sd_objects_get(c->objects, handle(&c->in[0]));
  if (c->in[0].dtype == SD_OBJECT && c->param[0]) { // an optional
    if (!o->n) return SD_ERR(MODEL, "the optional has no value");
    return give_item(c, 0, o->items[0], false);
  }
  if (c->in[0].dtype == SD_OBJECT) return sd_host_give_object(c, 0, handle(&c->in[0]));
  SD_TRY(item_of(c, &c->in[0], &item));
  return give_item(c, 0, item, false);
}

// ---- tensors of any rank ----

sard_status *sd_host_box(sd_host_call *c) {
  uint64_t item;
  SD_TRY(item_of(c, &c->in[0], &item));
  return sd_host_give_object(c, 0, item);
}

sard_status *sd_host_unbox(sd_host_call *c) { return give_item(c, 0, handle(&c->in[0]), c->param[1]); }

sard_status *sd_host_box_rank(sd_host_call *c) {
  const sd_object *o;
  SD_TRY(sd_objects_need(c->objects, handle(&c->in[0]), SD_OBJ_TENSOR, &o));
  SD_TRY(c->make(c, 0, NULL));
  if (c->out[0].dtype) *(int64_t *)c->out[0].data = o->rank;
  return NULL;
}

// The tensor without its dims of 1, as an object.
sard_status *sd_host_squeeze_any(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[SD_HOST_RANK];
  int rank = 0;
  uint64_t item, bytes;
  void *data;
  for (int d = 0; d < x->rank; d++)
    if (x->dims[d] != 1) dims[rank++] = x->dims[d];
  SD_TRY(sd_objects_tensor(c->objects, x->dtype, rank, dims, &item, &data));
  if (sd_dtype_bytes(x->dtype, x->count, &bytes) && bytes) memcpy(data, x->data, bytes);
  return sd_host_give_object(c, 0, item);
}
