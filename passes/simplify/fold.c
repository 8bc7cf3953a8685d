// Constant folding: nodes with constant operands run in the interpreter; integers known from shapes become sard.Dims.
#include "ir/eval.h"
#include "passes/edit.h"
#include "runtime/base/alloc.h"

static bool foldable(const sd_node *n, const sd_pass_target *t) {
  uint64_t in = 0, out = 0;
  if (sd_edit_packed_weight(n, t)) return false; // passes/fusion: its products widen it
  if (n->n_body || n->op->kind > SD_NESTS || strcmp(n->op->name, "sard.Dims") == 0) return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i]) continue;
    if (!n->in[i]->data) return false;
    in += n->in[i]->data->bytes;
  }
  for (uint32_t i = 0; i < n->n_out; i++) {
    int64_t dims[SD_MAX_RANK];
    uint64_t count = 1, bytes;
    if (!n->out[i]) continue;
    if (n->out[i]->rank < 0 || !sd_value_static(n->out[i], dims)) return false;
    for (int d = 0; d < n->out[i]->rank; d++)
      if (!sd_ck_mul(count, (uint64_t)dims[d], &count)) return false;
    if (!sd_dtype_bytes(n->out[i]->dtype, count, &bytes)) return false;
    out += bytes;
  }
  return out <= in + SD_MAX_GROWTH;
}

static sard_status *fold_node(sd_node *n, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  const sd_const **results = SD_NEW_ARRAY(m->arena, const sd_const *, n->n_out + 1);
  SD_TRY(sd_eval_node_consts(n, m->arena, results));
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (!n->out[i] || !results[i]) continue;
    const sd_const *c = results[i];
    sd_value *v = sd_value_const(n->graph, n->out[i]->name, c->dtype, c->rank, c->dims, c->data);
    if (!v) return SD_ERR(INTERNAL, "a folded constant has no valid type");
    sd_value_replace(n->out[i], v);
  }
  sd_node_remove(n);
  r->rewrites++;
  return NULL;
}

// Integers whose contents are known as dims need no computation, so that Shape chains disappear.
static sard_status *known_contents(sd_node *n, sd_pass_report *r) {
  sd_module *m = n->graph->module;
  sd_value *v = n->out[0];
  int64_t numbers[64];
  bool constant = true;
  if (n->n_out != 1 || !v || !v->elems || v->n_elems > 64 || !sd_dtype_is_int(v->dtype) || strcmp(n->op->name, "sard.Dims") == 0 || sd_kind_is_host(n->op->kind) || n->n_body) return NULL;
  for (uint32_t i = 0; i < v->n_elems; i++) constant &= sd_dim_is_const(m->dims, v->elems[i], &numbers[i]);
  sd_value *by;
  if (constant) {
    int64_t dims[1] = {v->n_elems};
    uint64_t bytes;
    if (!sd_dtype_bytes(v->dtype, v->n_elems, &bytes)) return NULL;
    uint8_t *data = sd_arena_aligned(m->arena, bytes + 64, 64);
    for (uint32_t i = 0; i < v->n_elems; i++) sd_dtype_set_i64(v->dtype, data, i, numbers[i]);
    by = sd_value_const(n->graph, v->name, v->dtype, v->rank, dims, data);
  } else {
    const char **texts = SD_NEW_ARRAY(m->arena, const char *, v->n_elems + 1);
    sd_node *d;
    for (uint32_t i = 0; i < v->n_elems; i++) texts[i] = sd_dim_text(m->dims, v->elems[i], m->arena);
    const sd_op *op = sd_op_find("sard.Dims");
    if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.Dims");
    d = sd_node_new(n->graph, n, op, NULL, 0, 1);
    sd_attr *a = sd_node_attr(d, "dims");
    *a = (sd_attr){.kind = SD_ATTR_STRINGS, .n = v->n_elems, .strings = texts};
    sd_node_set_int(d, "dtype", v->dtype), sd_node_set_int(d, "scalar", v->rank == 0);
    d->name = n->name;
    SD_TRY(sd_node_infer(d));
    by = d->out[0];
    by->name = v->name;
  }
  if (!by) return NULL;
  sd_value_replace(v, by);
  sd_node_remove(n);
  r->rewrites++;
  return NULL;
}

typedef struct folding { const sd_pass_options *o; sd_pass_report *r; } folding;

static sard_status *fold_graph(sd_graph *g, void *user) {
  const folding *f = user;
  sd_pass_report *r = f->r;
  for (sd_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (f->o->bisect >= 0 && r->rewrites >= f->o->bisect) return NULL;
    uint32_t before = r->rewrites;
    SD_TRY(known_contents(n, r));
    if (r->rewrites != before || !foldable(n, &f->o->target)) continue;
    sard_status *st = fold_node(n, r);
    if (!st) continue;
    int code = sard_status_code(st); // USAGE: it asks for a size that only the run knows, like the pass of a loop
    if (code != SARD_E_UNSUPPORTED && code != SARD_E_USAGE) return sd_node_error(n, st);
    sard_status_free(st); // runs at run time instead
  }
  return NULL;
}

sard_status *sd_pass_fold(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  folding f = {o, r};
  return sd_edit_graphs(m, fold_graph, &f);
}
