// Weights that nodes make of constants by moving elements, as exporters take the weights of queries, keys and
// values out of one, become constants: they can be pruned then.
#include <string.h>

#include "frontend/onnx/prune_internal.h"
#include "ir/eval.h"
#include "ir/op.h"
#include "runtime/base/alloc.h"

typedef struct folding {
  sd_proto p;
  sd_module *m;
  sd_names values, makers; // by name: what nodes read, and the nodes of the file that make them
  sd_names done;           // the tensor's name
  bool some;
} folding;

static bool moves(const char *op) {
  static const char *const also[] = {"Split", "Concat", "Flatten", NULL};
  return sd_prune_moves(op, also);
}

// Results of nodes that move what is constant are constants of the module.
static sard_status *evaluate(folding *f) {
  for (sd_node *n = f->m->main->first; n; n = n->next) {
    bool all = moves(n->op->name) && n->n_in && n->in[0] && sd_dtype_is_float(n->in[0]->dtype);
    for (uint32_t i = 0; i < n->n_in; i++) all = all && (!n->in[i] || n->in[i]->data);
    const sd_const **outs = all ? SD_NEW_ARRAY(f->p.a, const sd_const *, n->n_out + 1) : NULL;
    sard_status *st = all ? sd_eval_node_consts(n, f->p.a, outs) : NULL;
    if (sard_status_code(st) == SARD_E_NOMEM) return st;
    for (uint32_t i = 0; all && !st && i < n->n_out; i++)
      if (n->out[i] && outs[i]) n->out[i]->data = (sd_const *)outs[i];
    sard_status_free(st); // what cannot be run now stays
  }
  return NULL;
}

static void look(folding *f) {
  for (const sd_node *n = f->m->main->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_in; i++)
      if (n->in[i] && n->in[i]->data && n->in[i]->name && *n->in[i]->name)
        sd_names_set(&f->values, n->in[i]->name, n->in[i]);
  for (uint32_t i = 0; i < f->p.nodes.len; i++)
    for (size_t k = 0; k < f->p.nodes.at[i]->n_output; k++)
      sd_names_set(&f->makers, f->p.nodes.at[i]->output[k], f->p.nodes.at[i]);
}

// What only they were for goes with the nodes.
static void spare(folding *f, const char *name, int depth) {
  const Onnx__NodeProto *n = sd_names_get(&f->makers, name);
  if (!n || sd_names_get(&f->p.spare, name) || depth > SD_MAX_DEPTH) return;
  for (size_t k = 0; k < n->n_output; k++) sd_names_set(&f->p.spare, n->output[k], f);
  for (size_t k = 0; k < n->n_input; k++) spare(f, n->input[k], depth + 1);
}

// The constant that a node's operand becomes; NULL: it stays.
static const char *folded(folding *f, const char *name) {
  const char *had = sd_names_get(&f->done, name);
  const sd_value *v = had ? NULL : sd_names_get(&f->values, name);
  const Onnx__NodeProto *maker = v ? sd_names_get(&f->makers, name) : NULL;
  if (had || !maker || !moves(maker->op_type) || !sd_dtype_is_float(v->dtype) || v->data->rank < 1 ||
      sd_proto_weight(&f->p, name))
    return had;
  const void *data = sd_arena_dup(f->p.a, v->data->data, v->data->bytes);
  const int64_t *dims = sd_arena_dup(f->p.a, v->data->dims, (size_t)v->data->rank * sizeof *dims);
  const char *t = sd_proto_tensor(&f->p, name, v->dtype, v->data->rank, dims, data);
  spare(f, name, 0);
  sd_names_set(&f->done, name, (void *)t);
  return t;
}

sard_status *sd_prune_fold(sd_arena *a, const sard_source *src, const sd_packed **out) {
  folding f = {.some = false};
  *out = NULL;
  SD_TRY(sd_proto_open(a, src, &f.p));
  SD_TRY(sd_import_onnx(src, &f.m));
  sd_names_init(&f.values, a), sd_names_init(&f.makers, a), sd_names_init(&f.done, a);
  sard_status *st = evaluate(&f);
  if (!st) look(&f);
  for (uint32_t i = 0; !st && i < f.p.nodes.len; i++) {
    Onnx__NodeProto *n = f.p.nodes.at[i];
    for (size_t k = 0; k < n->n_input; k++) {
      const char *t = folded(&f, n->input[k]);
      if (t) n->input[k] = (char *)t, f.some = true;
    }
  }
  sd_module_free(f.m);
  if (st || !f.some) return st;
  sd_proto_sweep(&f.p);
  return sd_proto_pack(&f.p, out);
}
