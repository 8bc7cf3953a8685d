// Tensors: dense row-major memory with a description, owned or wrapped.
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/cuda/device.h"
#include "runtime/model.h"

static const char *value_text(int32_t dtype) {
  return dtype == SARD_SEQUENCE ? "a sequence" : dtype == SARD_OPTIONAL ? "an optional" : "a map";
}

const char *sd_tensor_text(int32_t dtype, int32_t rank, const int64_t *dims, char *out, size_t size) {
  if (dtype >= SARD_SEQUENCE) {
    snprintf(out, size, "%s", value_text(dtype));
    return out;
  }
  size_t n = (size_t)snprintf(out, size, "%s[", sd_dtype_name((sd_dtype)dtype));
  for (int32_t i = 0; i < rank && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? "," : "", (long long)dims[i]);
  if (n < size) snprintf(out + n, size - n, "]");
  return out;
}

// Strides are all 0 or those of dense row-major order. Axes of extent 0 or 1 do not matter.
static bool dense(const sard_tensor_desc *d) {
  int64_t stride = 1;
  bool given = false, right = true;
  for (int32_t i = d->rank - 1; i >= 0; i--) {
    given |= d->strides[i] != 0;
    right &= d->strides[i] == stride || d->dims[i] <= 1;
    stride *= d->dims[i] > 0 ? d->dims[i] : 1;
  }
  return !given || right;
}

sard_status *sd_tensor_size(const sard_tensor_desc *d, const char *what, uint64_t *out_bytes) {
  if (d->size < sizeof *d) return SD_ERR(USAGE, "%s: desc.size is %zu, it must be %zu", what, d->size, sizeof *d);
  if (d->rank < 0 || d->rank > SARD_MAX_RANK)
    return SD_ERR(USAGE, "%s has rank %d, the limit is %d", what, d->rank, SARD_MAX_RANK);
  if (d->device != SARD_CPU && d->device != SARD_CUDA) return SD_ERR(USAGE, "%s lies on device %d; known are 0 (CPU) and 1 (CUDA)", what, d->device);
  if (d->device && d->dtype == SARD_STRING) return SD_ERR(UNSUPPORTED, "%s: strings lie on the host only", what);
  if (!sd_dtype_of_tensors(d->dtype)) return SD_ERR(USAGE, "%s has unknown element type %d", what, d->dtype);
  uint64_t count = 1;
  for (int32_t i = 0; i < d->rank; i++)
    if (d->dims[i] < 0) return SD_ERR(USAGE, "%s: dim %d is %lld", what, i, (long long)d->dims[i]);
  for (int32_t i = 0; i < d->rank; i++)
    if (d->dims[i] == 0) count = 0; // an empty tensor may have other dims of any size
  bool ok = true;
  for (int32_t i = 0; i < d->rank && count; i++) ok = ok && sd_ck_mul(count, (uint64_t)d->dims[i], &count);
  if (!ok || !sd_dtype_bytes((sd_dtype)d->dtype, count, out_bytes) || *out_bytes > PTRDIFF_MAX / 2)
    return SD_ERR(USAGE, "%s is too large for this machine", what);
  if (count && !dense(d)) return SD_ERR(UNSUPPORTED, "%s is not dense row-major: make it contiguous first", what);
  return NULL;
}

static sard_status *make(const sard_tensor_desc *d, const char *what, sard_tensor **out) {
  uint64_t bytes;
  if (!out) return SD_ERR(USAGE, "%s: out must not be NULL", what);
  *out = NULL;
  if (!d) return SD_ERR(USAGE, "%s: the description must not be NULL", what);
  SD_TRY(sd_tensor_size(d, what, &bytes));
  sard_tensor *t = sd_calloc(1, sizeof *t);
  if (!t) return SD_ERR(NOMEM, "out of memory for %s", what);
  t->desc = *d;
  t->desc.size = sizeof *d;
  memset(t->desc.symbols, 0, sizeof t->desc.symbols); // a tensor has numbers only
  t->name = d->name ? sd_strdup(d->name) : NULL;
  t->desc.name = t->name ? t->name : "";
  t->bytes = bytes;
  if (d->name && !t->name) {
    sd_free(t);
    return SD_ERR(NOMEM, "out of memory for %s", what);
  }
  *out = t;
  return NULL;
}

// ---- devices ----

static void free_on_device(void *user) {
  sard_tensor *t = user;
  sd_cu_free(t->place, (uint64_t)(uintptr_t)t->data);
  sard_context_free(t->ctx);
}

static sard_status *place(sard_context *ctx, sard_tensor *t) {
  uint64_t address;
  if (!ctx) return SD_ERR(USAGE, "a tensor on a device needs a context");
  SD_TRY(sd_context_cuda(ctx, t->desc.device_id, &t->place));
  SD_TRY(sd_cu_alloc(t->place, t->bytes + 64, &address));
  sd_context_hold(ctx);
  t->ctx = ctx, t->data = (void *)(uintptr_t)address, t->release = free_on_device, t->user = t;
  return NULL;
}

sard_status *sard_tensor_copy(sard_tensor *to, const sard_tensor *from) {
  if (!to || !from) return SD_ERR(USAGE, "sard_tensor_copy: tensors must not be NULL");
  bool same = to->desc.dtype == from->desc.dtype && to->desc.rank == from->desc.rank && to->bytes == from->bytes;
  for (int i = 0; i < to->desc.rank && same; i++) same = to->desc.dims[i] == from->desc.dims[i];
  if (!same || to->desc.dtype >= SARD_SEQUENCE || to->desc.dtype == SARD_STRING)
    return SD_ERR(USAGE, "sard_tensor_copy: both must be numbers of one type and shape");
  if ((to->desc.device && !to->place) || (from->desc.device && !from->place))
    return SD_ERR(UNSUPPORTED, "sard_tensor_copy: memory on a device that the caller wrapped");
  if (to->bytes == 0) return NULL;
  if (from->place && to->place && from->place != to->place) return SD_ERR(UNSUPPORTED, "sard_tensor_copy: between two devices");
  if (from->place && to->place) return sd_cu_move(to->place, (uint64_t)(uintptr_t)to->data, (uint64_t)(uintptr_t)from->data, to->bytes);
  if (to->place) return sd_cu_write(to->place, (uint64_t)(uintptr_t)to->data, from->data, to->bytes);
  if (from->place) return sd_cu_read(from->place, to->data, (uint64_t)(uintptr_t)from->data, to->bytes);
  memcpy(to->data, from->data, to->bytes);
  return NULL;
}

sard_status *sard_tensor_new(sard_context *ctx, const sard_tensor_desc *desc, sard_tensor **out) {
  SD_TRY(make(desc, "the tensor", out));
  sard_tensor *t = *out;
  if (desc->device) {
    sard_status *st = place(ctx, t);
    if (st) sard_tensor_free(t), *out = NULL;
    return st;
  }
  // The slack may be read, never used, by vector code.
  t->data = sd_alloc_aligned(t->bytes + 64);
  t->owned = true;
  if (t->data && desc->dtype == SARD_STRING) memset(t->data, 0, t->bytes);
  if (t->data) return NULL;
  unsigned long long bytes = t->bytes;
  sard_tensor_free(t);
  *out = NULL;
  return SD_ERR(NOMEM, "out of memory for a tensor of %llu bytes", bytes);
}

// The alignment that kernels count on: that of the element, on devices that of a vector.
static size_t natural_alignment(int32_t dtype, int32_t device) {
  int bits = sd_dtype_bits((sd_dtype)dtype);
  if (device) return 16;
  return bits <= 8 ? 1 : bits >= 64 ? 8 : (size_t)bits / 8;
}

sard_status *sard_tensor_wrap(sard_context *ctx, const sard_tensor_desc *desc, void *data, uint64_t bytes,
                              void (*release)(void *), void *user, sard_tensor **out) {
  (void)ctx;
  SD_TRY(make(desc, "the tensor", out));
  sard_tensor *t = *out;
  sard_status *st = NULL;
  if (bytes < t->bytes)
    st = SD_ERR(USAGE, "the memory given has %llu bytes, the tensor needs %llu", (unsigned long long)bytes,
                (unsigned long long)t->bytes);
  else if (!data && t->bytes)
    st = SD_ERR(USAGE, "the memory given is NULL, the tensor needs %llu bytes", (unsigned long long)t->bytes);
  else if ((uintptr_t)data % natural_alignment(desc->dtype, desc->device))
    st = SD_ERR(USAGE, "the memory given is not aligned to %zu bytes%s", natural_alignment(desc->dtype, desc->device),
                desc->device ? ", which kernels of devices need" : ", the size of its elements");
  if (st) {
    sard_tensor_free(t);
    *out = NULL;
    return st;
  }
  t->data = data;
  t->release = release;
  t->user = user;
  return NULL;
}

void *sard_tensor_data(sard_tensor *t, sard_tensor_desc *desc_out) {
  if (desc_out) *desc_out = t->desc;
  return t->data;
}

sard_status *sd_tensor_put_string(sard_tensor *t, uint64_t i, const char *text, size_t n) {
  uint64_t number;
  if (t->desc.dtype != SARD_STRING || !t->owned) return SD_ERR(USAGE, "the tensor is none of strings that it owns");
  if (i >= t->bytes / sizeof(char *)) return SD_ERR(USAGE, "string %llu of %llu", (unsigned long long)i, (unsigned long long)(t->bytes / sizeof(char *)));
  if (!t->texts) t->texts = sd_strtab_new(NULL);
  if (!t->texts || !sd_strtab_add(t->texts, text, n, &number)) return SD_ERR(NOMEM, "out of memory for a string of %zu bytes", n);
  ((const char **)t->data)[i] = sd_strtab_text(t->texts, number);
  return NULL;
}

sard_status *sard_tensor_set_string(sard_tensor *t, int64_t index, const char *text) {
  if (!t || !text || index < 0) return SD_ERR(USAGE, "sard_tensor_set_string: tensor and text must not be NULL, index not negative");
  return sd_tensor_put_string(t, (uint64_t)index, text, strlen(text));
}

// ---- sequences, optionals, maps ----

static sard_status *check_map(sard_tensor *const *items, int64_t n) {
  const sard_tensor *k = n > 0 ? items[0] : NULL, *v = n > 1 ? items[1] : NULL;
  if (n != 2 || k->desc.rank != 1 || v->desc.rank != 1 || k->desc.dims[0] != v->desc.dims[0] || v->desc.dtype >= SARD_SEQUENCE ||
      (k->desc.dtype != SARD_I64 && k->desc.dtype != SARD_STRING))
    return SD_ERR(USAGE, "a map has keys (int64 or strings) and values, two tensors of rank 1 and of the same length");
  return NULL;
}

static sard_status *check_items(int kind, sard_tensor *const *items, int64_t n) {
  if (kind != SARD_SEQUENCE && kind != SARD_OPTIONAL && kind != SARD_MAP) return SD_ERR(USAGE, "there is no kind of value %d", kind);
  if (n < 0 || (n && !items) || (kind == SARD_OPTIONAL && n > 1)) return SD_ERR(USAGE, "%s of %lld items", value_text(kind), (long long)n);
  for (int64_t i = 0; i < n; i++)
    if (!items[i]) return SD_ERR(USAGE, "item %lld is NULL", (long long)i);
  return kind == SARD_MAP ? check_map(items, n) : NULL;
}

static sard_status *new_value(int kind, sard_tensor *const *items, int64_t n, sard_tensor **out) {
  SD_TRY(check_items(kind, items, n));
  sard_tensor *t = sd_calloc(1, sizeof *t);
  sard_tensor **copy = sd_calloc((size_t)n + 1, sizeof *copy);
  if (!t || !copy) {
    sd_free(t);
    sd_free(copy);
    return SD_ERR(NOMEM, "out of memory for %s of %lld items", value_text(kind), (long long)n);
  }
  if (n) memcpy(copy, items, (size_t)n * sizeof *copy);
  t->desc = (sard_tensor_desc){.size = sizeof t->desc, .dtype = kind, .name = ""};
  t->items = copy, t->n_items = n;
  *out = t;
  return NULL;
}

sard_status *sard_value_new(sard_context *ctx, int kind, sard_tensor *const *items, int64_t n, sard_tensor **out) {
  (void)ctx;
  sard_status *st = out ? NULL : SD_ERR(USAGE, "sard_value_new: out must not be NULL");
  if (out) *out = NULL;
  if (!st) st = new_value(kind, items, n, out);
  for (int64_t i = 0; st && items && i < n; i++) sard_tensor_free(items[i]);
  return st;
}

int64_t sard_value_count(const sard_tensor *t) { return t ? t->n_items : 0; }
sard_tensor *sard_value_item(const sard_tensor *t, int64_t i) { return t && i >= 0 && i < t->n_items ? t->items[i] : NULL; }

void sard_tensor_free(sard_tensor *t) {
  if (!t) return;
  if (t->owned) sd_free_aligned(t->data);
  if (t->release) t->release(t->user);
  for (int64_t i = 0; i < t->n_items; i++) sard_tensor_free(t->items[i]);
  sd_free(t->items);
  sd_strtab_free(t->texts);
  sd_free(t->name);
  sd_free(t);
}
