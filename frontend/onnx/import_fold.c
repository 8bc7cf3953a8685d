// Small results that are known already become constants during import: shape functions of later nodes (Pad, Resize,
// Reshape) need the contents of operands that exporters compute by chains of nodes.
#include "frontend/onnx/internal.h"
#include "ir/eval.h"
#include "runtime/base/alloc.h"

enum { MAX_ELEMENTS = 64, MAX_OPERAND = 1 << 16 };

static bool count_of(const sd_value *v, uint64_t *out) {
  int64_t dims[SD_MAX_RANK];
  *out = 1;
  if (v->rank < 0 || !sd_value_static(v, dims)) return false;
  for (int i = 0; i < v->rank; i++)
    if (!sd_ck_mul(*out, (uint64_t)dims[i], out)) return false;
  return true;
}

// Integers whose contents the shape function found: all numbers.
static const void *from_elems(sd_import *im, const sd_value *v) {
  int64_t numbers[MAX_ELEMENTS];
  if (!v->elems || v->n_elems > MAX_ELEMENTS || !sd_dtype_is_int(v->dtype)) return NULL;
  for (uint32_t i = 0; i < v->n_elems; i++)
    if (!sd_dim_is_const(im->m->dims, v->elems[i], &numbers[i])) return NULL;
  uint8_t *data = sd_arena_aligned(im->m->arena, (size_t)v->n_elems * 8, 64);
  for (uint32_t i = 0; i < v->n_elems; i++) sd_dtype_set_i64(v->dtype, data, i, numbers[i]);
  return data;
}

static bool can_run(const sd_node *n) {
  if (n->n_body || n->op->kind > SD_NESTS) return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    if (v && (!v->data || v->data->count > MAX_OPERAND)) return false;
  }
  return true;
}

static sard_status *from_running(sd_import *im, sd_node *n, const void **out) {
  const sd_const *result = NULL;
  *out = NULL;
  if (!can_run(n)) return NULL;
  sard_status *st = sd_eval_node_consts(n, im->m->arena, &result);
  if (sard_status_code(st) == SARD_E_NOMEM) return st;
  if (!st && result) *out = result->data;
  sard_status_free(st); // what cannot be run now is left to be compiled
  return NULL;
}

sard_status *sd_import_fold(sd_import *im, sd_node *n) {
  sd_value *v = n->n_out == 1 ? n->out[0] : NULL;
  uint64_t count;
  if (v && im->keep_floats && sd_dtype_is_float(v->dtype)) return NULL;
  if (!v || v->dtype == SD_DT_NONE || !count_of(v, &count) || count > MAX_ELEMENTS) return NULL;
  const void *data = v->elems && v->n_elems == count ? from_elems(im, v) : NULL;
  if (!data) SD_TRY(from_running(im, n, &data));
  if (!data) return NULL;
  int64_t dims[SD_MAX_RANK];
  sd_value_static(v, dims);
  const sd_value *c = sd_value_const(v->graph, "", v->dtype, v->rank, dims, data);
  if (!c) return NULL;
  sd_node_remove(n);
  v->data = c->data;
  v->def = NULL;
  return NULL;
}
