// What a node has to know and only the run knows: the rank of a tensor of any rank (an object, ir/graph.h),
// and the length of a list that decides the rank of results. How the run is asked, and what operands become
// once the answer is known.
#include "frontend/onnx/import_versions.h"
#include "ir/ops/shape.h"

// ---- tensors of any rank ----

static bool any_rank(const sd_value *v) {
  return v && v->dtype == SD_OBJECT && v->object && v->object->kind == SD_OBJ_TENSOR;
}

static const sd_operand *declared(const sd_op *op, uint32_t operand) {
  return op && op->n_in ? &op->ins[operand < op->n_in ? operand : op->n_in - 1u] : NULL;
}

static bool of_any_rank(const sd_onnx_node *n, const sd_op *op, uint32_t operand) {
  const sd_operand *d = declared(op, operand);
  return any_rank(n->in.at[operand]) && !(d && (d->cls == 'V' || d->cls == 'O'));
}

uint32_t sd_import_ask_ranks(const sd_onnx_node *n, const sd_op *op, sd_question *out, uint32_t cap) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n->in.len; i++) {
    if (!of_any_rank(n, op, i)) continue;
    if (count < cap) out[count] = (sd_question){.what = SD_ASK_RANK, .operand = i, .most = SD_ASK_MOST};
    count++;
  }
  return count;
}

// Operands of an elementwise row are broadcast to the largest rank among them: those of lower rank get dims
// of 1 in front.
bool sd_import_ask_largest(const sd_onnx_node *n, const sd_op *op, sd_question *out) {
  bool old = !*n->domain && n->opset < 7; // broadcasts by attributes
  if (!op || old || op->kind != SD_MAP || !(op->text || op->shape == sd_shape_broadcast)) return false;
  *out = (sd_question){.what = SD_ASK_LARGEST, .row = op, .most = SD_ASK_MOST};
  for (uint32_t i = 0; i < n->in.len; i++)
    if (n->in.at[i] && n->in.at[i]->rank > out->least) out->least = n->in.at[i]->rank;
  if (out->most < out->least) out->most = out->least;
  return true;
}

// ---- lists ----

uint32_t sd_import_ask_lengths(const sd_onnx_node *n, const sd_op *op, sd_question *out, uint32_t cap) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n->in.len && i < op->n_in && count < cap; i++) {
    const sd_value *v = n->in.at[i];
    if (!op->ins[i].list || !v || v->rank < 1 ||
        sd_dim_is_const(n->scope->graph->module->dims, v->dims[v->rank - 1], NULL))
      continue;
    out[count++] =
        (sd_question){.what = SD_ASK_LENGTH, .operand = i, .least = v->rank > 1, .most = SD_ASK_MOST};
  }
  return count;
}

// ---- asking ----

static sard_status *emit(sd_import *im, sd_scope *scope, const char *op, sd_value *const *in, uint32_t n_in,
                         sd_value **out) {
  sd_node *x;
  SD_TRY(sd_import_emit(im, scope, op, in, n_in, &x));
  SD_TRY(sd_node_infer(x));
  *out = x->out[0];
  return NULL;
}

static sard_status *largest_rank(sd_import *im, const sd_onnx_node *n, const sd_op *op, sd_scope *scope,
                                 sd_value **out) {
  sd_value *most = NULL, *rank;
  for (uint32_t i = 0; i < n->in.len; i++) {
    if (!of_any_rank(n, op, i)) continue;
    SD_TRY(emit(im, scope, "sard.BoxRank", &n->in.at[i], 1, &rank));
    if (most) SD_TRY(emit(im, scope, "Max", (sd_value *[]){most, rank}, 2, &most));
    else
      most = rank;
  }
  *out = most;
  return NULL;
}

static sard_status *length(sd_import *im, sd_value *v, sd_scope *scope, sd_value **out) {
  sd_node *shape;
  SD_TRY(sd_import_emit(im, scope, "Shape", &v, 1, &shape));
  sd_node_set_int(shape, "start", -1);
  SD_TRY(sd_node_infer(shape));
  *out = shape->out[0];
  return NULL;
}

sard_status *sd_import_ask(sd_import *im, const sd_onnx_node *n, const sd_question *q, int answer,
                           sd_scope *scope, sd_value **out) {
  int64_t k = answer;
  sd_value *have = NULL, *number = sd_value_const_i64(scope->graph, &k, q->what == SD_ASK_LENGTH ? 1 : -1);
  switch (q->what) {
  case SD_ASK_RANK:
    SD_TRY(emit(im, scope, "sard.BoxRank", &n->in.at[q->operand], 1, &have));
    break;
  case SD_ASK_LARGEST:
    SD_TRY(largest_rank(im, n, q->row, scope, &have));
    break;
  case SD_ASK_LENGTH:
    SD_TRY(length(im, n->in.at[q->operand], scope, &have));
    break;
  }
  return emit(im, scope, q->what == SD_ASK_LARGEST ? "LessOrEqual" : "Equal", (sd_value *[]){have, number}, 2,
              out);
}

// ---- answers ----

static sard_status *unbox(sd_import *im, sd_onnx_node *n, uint32_t operand, int rank, bool lead) {
  sd_node *u;
  SD_TRY(sd_import_emit(im, n->scope, "sard.Unbox", &n->in.at[operand], 1, &u));
  sd_node_set_int(u, "rank", rank);
  sd_node_set_int(u, "lead", lead);
  n->in.at[operand] = u->out[0];
  return sd_node_infer(u);
}

static sard_status *with_length(sd_import *im, sd_onnx_node *n, uint32_t operand, int length) {
  sd_value **v = &n->in.at[operand];
  int64_t dims[SD_MAX_RANK] = {0}; // 0: as it is
  sd_node *r;
  dims[(*v)->rank - 1] = length;
  SD_TRY(sd_import_emit(im, n->scope, "Reshape",
                        (sd_value *[]){*v, sd_value_const_i64(n->scope->graph, dims, (*v)->rank)}, 2, &r));
  sd_node_set_int(r, "allowzero", (*v)->rank == 1);
  r->name = sd_arena_strdup(im->m->arena, n->name);
  *v = r->out[0];
  return sd_node_infer(r);
}

sard_status *sd_import_answer(sd_import *im, sd_onnx_node *n, const sd_question *q, int answer) {
  switch (q->what) {
  case SD_ASK_RANK:
    return unbox(im, n, q->operand, answer, false);
  case SD_ASK_LENGTH:
    return with_length(im, n, q->operand, answer);
  case SD_ASK_LARGEST:
    break;
  }
  for (uint32_t i = 0; i < n->in.len; i++)
    if (of_any_rank(n, q->row, i)) SD_TRY(unbox(im, n, i, answer, true));
  return NULL;
}
