// Sparse tensors: checked, and expanded to dense constants under a budget.
#include "frontend/onnx/tensor_proto.h"
#include "runtime/base/alloc.h"

typedef struct sparse {
  const char *name;
  sd_const *values, *indices, dense; // dense: type and sizes only
} sparse;

// The linear position of entry i: given as such, or as one index for each dim.
static bool position(const sparse *s, uint64_t i, uint64_t *out) {
  uint64_t at = 0;
  if (s->indices->rank == 1) {
    int64_t v = sd_dtype_get_i64(SD_I64, s->indices->data, i);
    *out = (uint64_t)v;
    return v >= 0 && (uint64_t)v < s->dense.count;
  }
  for (int d = 0; d < s->dense.rank; d++) {
    int64_t v = sd_dtype_get_i64(SD_I64, s->indices->data, i * (uint64_t)s->dense.rank + (uint64_t)d);
    if (v < 0 || v >= s->dense.dims[d]) return false;
    at = at * (uint64_t)s->dense.dims[d] + (uint64_t)v;
  }
  *out = at;
  return true;
}

static sard_status *read_dense_type(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what, sparse *s) {
  sd_const *c = &s->dense;
  if (p->n_dims > SD_MAX_RANK)
    return SD_ERR(UNSUPPORTED, "%s '%s': rank %zu, at most %d are supported", what, s->name, p->n_dims, SD_MAX_RANK);
  c->dtype = s->values->dtype;
  c->rank = (int)p->n_dims;
  c->dims = sd_arena_dup(t->arena, p->dims, p->n_dims * sizeof *p->dims);
  c->count = 1;
  for (int i = 0; i < c->rank; i++)
    if (c->dims[i] < 0 || !sd_ck_mul(c->count, (uint64_t)c->dims[i], &c->count) || c->count > INT64_MAX)
      return SD_ERR(MODEL, "%s '%s': bad or overflowing dim %lld", what, s->name, (long long)c->dims[i]);
  if (!sd_dtype_bytes(c->dtype, c->count, &c->bytes) || c->bytes > INT64_MAX)
    return SD_ERR(MODEL, "%s '%s': its dense size overflows", what, s->name);
  return NULL;
}

static sard_status *read_sparse(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what, sparse *s) {
  s->name = p->values && p->values->name ? p->values->name : "(unnamed)";
  if (!p->values || !p->indices)
    return SD_ERR(MODEL, "%s '%s': a sparse tensor needs values and indices", what, s->name);
  SD_TRY(sd_tensor_proto_const(t, p->values, what, &s->values));
  SD_TRY(sd_tensor_proto_const(t, p->indices, "indices of sparse tensor", &s->indices));
  if (s->values->rank != 1 || s->indices->dtype != SD_I64)
    return SD_ERR(MODEL, "%s '%s': values must have rank 1 and indices type i64", what, s->name);
  if (s->values->dtype == SD_STRING || sd_dtype_bits(s->values->dtype) < 8)
    return SD_ERR(UNSUPPORTED, "%s '%s': sparse %s", what, s->name, sd_dtype_name(s->values->dtype));
  SD_TRY(read_dense_type(t, p, what, s));
  const sd_const *ix = s->indices;
  bool linear = ix->rank == 1 && (uint64_t)ix->dims[0] == s->values->count;
  bool tuple = ix->rank == 2 && (uint64_t)ix->dims[0] == s->values->count && ix->dims[1] == s->dense.rank;
  if (!linear && !tuple)
    return SD_ERR(MODEL, "%s '%s': the shape of the indices does not fit %llu values of rank %d", what, s->name,
                  (unsigned long long)s->values->count, s->dense.rank);
  for (uint64_t i = 0, at; i < s->values->count; i++)
    if (!position(s, i, &at))
      return SD_ERR(MODEL, "%s '%s': index %llu lies outside of the tensor", what, s->name, (unsigned long long)i);
  return NULL;
}

sard_status *sd_tensor_proto_sparse_check(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what) {
  sparse s = {0};
  return read_sparse(t, p, what, &s);
}

sard_status *sd_tensor_proto_sparse(sd_tensors *t, const Onnx__SparseTensorProto *p, const char *what, sd_const **out) {
  sparse s = {0};
  SD_TRY(read_sparse(t, p, what, &s));
  if (s.dense.bytes > t->dense_budget)
    return SD_ERR(NOMEM, "%s '%s': %llu bytes as a dense tensor, over the limit for sparse tensors (%llu are left)",
                  what, s.name, (unsigned long long)s.dense.bytes, (unsigned long long)t->dense_budget);
  t->dense_budget -= s.dense.bytes;
  size_t size = (size_t)sd_dtype_bits(s.dense.dtype) / 8;
  uint8_t *data = sd_arena_aligned(t->arena, s.dense.bytes, 64);
  for (uint64_t i = 0, at; i < s.values->count; i++)
    if (position(&s, i, &at)) memcpy(data + at * size, (const uint8_t *)s.values->data + i * size, size);
  s.dense.data = data;
  *out = sd_arena_dup(t->arena, &s.dense, sizeof s.dense);
  return NULL;
}
