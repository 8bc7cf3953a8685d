// Host functions that pick elements: NonZero, Compress, Unique, and the shape operand of Reshape.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

// ---- keys ----

// Integers in the order of the values. NaN comes last, -0 is 0.
int64_t sd_host_key(sd_dtype t, const void *data, uint64_t i) {
  if (sd_dtype_is_float(t)) {
    double v = sd_dtype_get_f64(t, data, i) + 0.0;
    int64_t bits;
    if (isnan(v)) return INT64_MAX;
    memcpy(&bits, &v, sizeof bits);
    return bits < 0 ? INT64_MIN - bits : bits;
  }
  int64_t v = sd_dtype_get_i64(t, data, i);
  return t == SD_U64 ? (int64_t)((uint64_t)v ^ (UINT64_C(1) << 63)) : v;
}

static sard_status *element_size(const sd_host_tensor *t, size_t *out) {
  int bits = sd_dtype_bits(t->dtype);
  if (bits < 8 || bits % 8 || t->dtype == SD_STRING) return SD_ERR(UNSUPPORTED, "tensors of type %s", sd_dtype_name(t->dtype));
  *out = (size_t)bits / 8;
  return NULL;
}

// ---- NonZero ----
static bool is_nonzero(const sd_host_tensor *x, uint64_t i) {
  return sd_dtype_is_float(x->dtype) ? sd_dtype_get_f64(x->dtype, x->data, i) != 0 : sd_dtype_get_i64(x->dtype, x->data, i) != 0;
}

sard_status *sd_host_nonzero(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[2] = {x->rank, 0}, at[SD_HOST_RANK] = {0};
  for (uint64_t i = 0; i < x->count; i++) dims[1] += is_nonzero(x, i);
  SD_TRY(c->make(c, 0, dims));
  int64_t *y = c->out[0].data, to = 0;
  for (uint64_t i = 0; i < x->count; i++) {
    if (is_nonzero(x, i)) {
      for (int d = 0; d < x->rank; d++) y[d * dims[1] + to] = at[d];
      to++;
    }
    for (int d = x->rank - 1; d >= 0 && ++at[d] == x->dims[d]; d--) at[d] = 0;
  }
  return NULL;
}

// ---- Compress ----
sard_status *sd_host_compress(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *mask = &c->in[1];
  const uint8_t *keep = mask->data, *from = x->data;
  bool flat = c->param[0] == SD_HOST_ABSENT;
  int axis = flat ? 0 : (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  uint64_t outer = 1, inner = 1, len, kept = 0;
  int64_t dims[SD_HOST_RANK];
  size_t size;
  SD_TRY(element_size(x, &size));
  if (!flat && (axis < 0 || axis >= x->rank)) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  for (int d = 0; d < x->rank && !flat; d++) {
    dims[d] = x->dims[d];
    if (d != axis) *(d < axis ? &outer : &inner) *= (uint64_t)x->dims[d];
  }
  len = flat ? x->count : (uint64_t)x->dims[axis];
  if (mask->count < len) len = mask->count; // what the condition does not reach is left out
  for (uint64_t i = 0; i < len; i++) kept += keep[i] != 0;
  dims[flat ? 0 : axis] = (int64_t)kept;
  SD_TRY(c->make(c, 0, dims));
  uint8_t *to = c->out[0].data;
  uint64_t row = flat ? x->count : (uint64_t)x->dims[axis], bytes = inner * size;
  for (uint64_t o = 0; o < outer; o++)
    for (uint64_t i = 0; i < len; i++) {
      if (!keep[i]) continue;
      memcpy(to, from + (o * row + i) * bytes, bytes);
      to += bytes;
    }
  return NULL;
}

// ---- Unique ----
typedef struct unique {
  const sd_host_tensor *x;
  uint64_t outer, items, inner, width; // width = outer * inner elements of an item
  int64_t *keys;                       // [items][width]
  int64_t *order;                      // items sorted by keys
  int64_t *group, *first, *count;      // of item; of group
  int64_t *rank;                       // position of a group in the result
  int64_t groups;
} unique;

static int compare_items(const void *a, const void *b, void *user) {
  const unique *u = user;
  int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
  const int64_t *x = u->keys + (uint64_t)i * u->width, *y = u->keys + (uint64_t)j * u->width;
  for (uint64_t k = 0; k < u->width; k++)
    if (x[k] != y[k]) return x[k] < y[k] ? -1 : 1;
  return i < j ? -1 : i > j;
}

static bool unique_memory(unique *u) {
  uint64_t keys;
  if (!sd_ck_mul(u->items, u->width, &keys)) return false;
  u->keys = sd_calloc(keys, sizeof *u->keys);
  int64_t **tables[] = {&u->order, &u->group, &u->first, &u->count, &u->rank};
  bool ok = u->keys != NULL;
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    *tables[i] = sd_calloc(u->items, sizeof(int64_t));
    ok &= *tables[i] != NULL;
  }
  return ok;
}

static void find_groups(unique *u, bool sorted) {
  for (uint64_t i = 0; i < u->items; i++) u->order[i] = (int64_t)i;
  for (uint64_t o = 0; o < u->outer; o++)
    for (uint64_t i = 0; i < u->items; i++)
      for (uint64_t k = 0; k < u->inner; k++)
        u->keys[i * u->width + o * u->inner + k] = sd_host_key(u->x->dtype, u->x->data, (o * u->items + i) * u->inner + k);
  if (u->items) qsort_r(u->order, u->items, sizeof *u->order, compare_items, u);
  for (uint64_t i = 0; i < u->items; i++) {
    int64_t item = u->order[i];
    bool same = i > 0 && !memcmp(u->keys + (uint64_t)item * u->width, u->keys + (uint64_t)u->order[i - 1] * u->width, u->width * sizeof *u->keys);
    if (!same) u->first[u->groups++] = item; // equal items are sorted by position
    u->group[item] = u->groups - 1;
    u->count[u->groups - 1]++;
  }
  if (sorted) {
    for (int64_t g = 0; g < u->groups; g++) u->rank[g] = g;
    return;
  }
  int64_t next = 0; // in the order of first occurrence
  for (uint64_t i = 0; i < u->items; i++)
    if (u->first[u->group[i]] == (int64_t)i) u->rank[u->group[i]] = next++;
}

static sard_status *unique_outputs(sd_host_call *c, const unique *u, size_t size, int axis, bool flat) {
  int64_t dims[SD_HOST_RANK], n = u->groups, items = (int64_t)u->items;
  memcpy(dims, u->x->dims, sizeof dims);
  dims[axis] = n;
  SD_TRY(c->make(c, 0, flat ? &n : dims));
  for (uint32_t i = 1; i < c->n_out; i++) SD_TRY(c->make(c, i, i == 2 ? &items : &n));
  uint8_t *y = c->out[0].data;
  const uint8_t *x = u->x->data;
  for (uint64_t o = 0; o < u->outer; o++)
    for (int64_t g = 0; g < n && c->out[0].dtype; g++)
      memcpy(y + (o * (uint64_t)n + (uint64_t)u->rank[g]) * u->inner * size, x + (o * u->items + (uint64_t)u->first[g]) * u->inner * size, u->inner * size);
  for (int64_t g = 0; g < n; g++) {
    if (c->n_out > 1 && c->out[1].dtype) ((int64_t *)c->out[1].data)[u->rank[g]] = u->first[g];
    if (c->n_out > 3 && c->out[3].dtype) ((int64_t *)c->out[3].data)[u->rank[g]] = u->count[g];
  }
  for (uint64_t i = 0; i < u->items && c->n_out > 2 && c->out[2].dtype; i++) ((int64_t *)c->out[2].data)[i] = u->rank[u->group[i]];
  return NULL;
}

sard_status *sd_host_unique(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  bool flat = c->param[0] == SD_HOST_ABSENT;
  int axis = flat ? 0 : (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  unique u = {.x = x, .outer = 1, .inner = 1, .items = x->count};
  size_t size;
  SD_TRY(element_size(x, &size));
  if (!flat && (axis < 0 || axis >= x->rank)) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  for (int d = 0; d < x->rank && !flat; d++)
    if (d == axis) u.items = (uint64_t)x->dims[d];
    else *(d < axis ? &u.outer : &u.inner) *= (uint64_t)x->dims[d];
  u.width = u.outer * u.inner;
  sard_status *st = NULL;
  if (!unique_memory(&u)) st = SD_ERR(NOMEM, "out of memory for %llu elements", (unsigned long long)x->count);
  else find_groups(&u, c->param[1] != 0);
  if (!st) st = unique_outputs(c, &u, size, axis, flat);
  int64_t *tables[] = {u.keys, u.order, u.group, u.first, u.count, u.rank};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) sd_free(tables[i]);
  return st;
}

// ---- sard.ReshapeDims: allowzero, then the dims of the operand ----
sard_status *sd_host_reshape_dims(sd_host_call *c) {
  const sd_host_tensor *shape = &c->in[0];
  const int64_t *want = shape->data, *dims = c->param + 1;
  uint32_t rank = c->n_param - 1;
  int64_t from = 1, to = 1, infer = -1;
  SD_TRY(c->make(c, 0, shape->dims));
  int64_t *y = c->out[0].data;
  for (uint32_t d = 0; d < rank; d++)
    if (!sd_ck_mul_i64(from, dims[d], &from)) return SD_ERR(MODEL, "the operand of a Reshape is too large");
  for (uint64_t i = 0; i < shape->count; i++) {
    y[i] = want[i];
    if (want[i] == 0 && !c->param[0]) {
      if (i >= rank) return SD_ERR(MODEL, "the shape copies dim %llu of an operand of rank %u", (unsigned long long)i, rank);
      y[i] = dims[i];
    }
    if (want[i] == -1 && infer >= 0) return SD_ERR(MODEL, "the shape has more than one -1");
    if (want[i] == -1) infer = (int64_t)i;
    else if (y[i] < 0 || !sd_ck_mul_i64(to, y[i], &to)) return SD_ERR(MODEL, "dim %llu of the shape is %lld", (unsigned long long)i, (long long)y[i]);
  }
  if (infer >= 0) {
    y[infer] = to ? from / to : 0;
    to *= y[infer];
  }
  return from == to ? NULL : SD_ERR(MODEL, "%lld elements cannot take a shape of %lld", (long long)from, (long long)to);
}
