// Constants: making them, hashing their contents, reading small integer ones as dims.
#include <sys/mman.h>

#include "ir/graph.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

static bool const_init(sd_const *c, sd_dtype t, int rank, const int64_t *dims) {
  uint64_t count = 1;
  if (rank < 0 || rank > SD_MAX_RANK) return false;
  for (int i = 0; i < rank; i++)
    if (dims[i] < 0 || !sd_ck_mul(count, (uint64_t)dims[i], &count)) return false;
  c->dtype = t;
  c->rank = rank;
  c->count = count;
  return count <= INT64_MAX && sd_dtype_bytes(t, count, &c->bytes) && c->bytes <= INT64_MAX;
}

sd_value *sd_value_const(sd_graph *g, const char *name, sd_dtype t, int rank, const int64_t *dims, const void *data) {
  sd_module *m = g->module;
  sd_const *c = SD_NEW(m->arena, sd_const);
  if (!const_init(c, t, rank, dims)) return NULL;
  c->dims = sd_arena_dup(m->arena, dims, (size_t)rank * sizeof *dims);
  c->data = data;
  sd_value *v = sd_value_new(g, name);
  v->data = c;
  v->dtype = t;
  v->rank = rank;
  for (int i = 0; i < rank; i++) v->dims[i] = sd_dim_const(m->dims, dims[i]);
  return v;
}

sd_value *sd_value_const_i64(sd_graph *g, const int64_t *v, int n) {
  sd_arena *a = g->module->arena;
  int64_t dims[1] = {n};
  size_t count = n < 0 ? 1 : (size_t)n;
  return sd_value_const(g, "", SD_I64, n < 0 ? 0 : 1, dims, sd_arena_dup(a, v, count * sizeof *v));
}

sd_value *sd_value_const_f32(sd_graph *g, float v) {
  return sd_value_const(g, "", SD_F32, 0, NULL, sd_arena_dup(g->module->arena, &v, sizeof v));
}

sd_value *sd_value_const_texts(sd_graph *g, const char *name, const char *const *v, int n) {
  int64_t dims[1] = {n};
  size_t count = n < 0 ? 1 : (size_t)n;
  uint64_t *data = sd_arena_aligned(g->module->arena, count * sizeof *data + 8, 64);
  for (size_t i = 0; i < count; i++) data[i] = sd_module_string(g->module, v[i], strlen(v[i]));
  return sd_value_const(g, name, SD_STRING, n < 0 ? 0 : 1, dims, data);
}

enum { PAGE = 4096, RELEASE_BYTES = 1 << 18 };

void sd_const_release(const sd_module *m, const sd_const *c, bool last) {
  const uint8_t *p = c->data;
  bool mapped = false;
  if (c->bytes < RELEASE_BYTES) return;
  for (uint32_t i = 0; i < m->maps.len && !mapped; i++)
    mapped = p >= m->maps.at[i].data && p < m->maps.at[i].data + m->maps.at[i].size;
  if (!mapped && !last) return;
  for (uint32_t i = 0; i < m->lent.len; i++)
    if (p >= m->lent.at[i].data && p < m->lent.at[i].data + m->lent.at[i].size) return; // its contents would be lost
  uintptr_t from = sd_align_up((uintptr_t)p, PAGE), to = ((uintptr_t)p + c->bytes) / PAGE * PAGE;
  if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

uint64_t sd_const_hash(const sd_const *c) {
  if (c->hash) return c->hash;
  uint64_t h = sd_hash_mix((uint64_t)c->dtype, (uint64_t)c->rank);
  for (int i = 0; i < c->rank; i++) h = sd_hash_mix(h, (uint64_t)c->dims[i]);
  if (c->bytes) h = sd_hash_bytes(c->data, c->bytes, h);
  if (h == 0) h = 1; // 0 means "not computed yet"
  ((sd_const *)c)->hash = h;
  return h;
}

bool sd_value_elems(const sd_value *v, sd_dim *out, uint32_t cap, uint32_t *out_n) {
  const sd_const *c = v->data;
  sd_dimtab *t = v->graph->module->dims;
  if (v->elems) {
    if (v->n_elems > cap) return false;
    memcpy(out, v->elems, v->n_elems * sizeof *out);
    *out_n = v->n_elems;
    return true;
  }
  if (!c || c->rank > 1 || c->count > cap || !(sd_dtype_is_int(c->dtype) || c->dtype == SD_BOOL)) return false;
  for (uint64_t i = 0; i < c->count; i++) {
    int64_t x = sd_dtype_get_i64(c->dtype, c->data, i);
    if (c->dtype == SD_U64 && x < 0) return false; // does not fit
    out[i] = sd_dim_const(t, x);
  }
  *out_n = (uint32_t)c->count;
  return true;
}
