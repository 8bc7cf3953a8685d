// Sizes that follow from contents which only the run knows: sard.Sizes and its symbols, nodes that change into others.
#include "ir/ops/sizes.h"

#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

bool sd_sh_open(const sd_node *n, uint32_t operand) {
  int64_t v[SD_SH_ELEMS];
  uint32_t count;
  return sd_sh_in(n, operand) && !sd_sh_try_ints(n, operand, v, SD_SH_ELEMS, &count);
}

bool sd_sh_length(const sd_node *n, uint32_t operand, int64_t *out) {
  const sd_value *v = sd_sh_in(n, operand);
  *out = 1;
  return v && (v->rank == 0 || (v->rank == 1 && sd_dim_is_const(sd_sh_tab(n), v->dims[0], out)));
}

// ---- sard.Sizes ----
sard_status *sd_shape_sizes(sd_node *n) {
  int64_t count = sd_node_int(n, "count", 0);
  if (count < 0 || count > SD_SH_ELEMS) return SD_SH_ERR(n, MODEL, "%lld sizes, at most %d are possible", (long long)count, SD_SH_ELEMS);
  sd_dim dim = sd_dim_const(sd_sh_tab(n), count);
  return sd_sh_set(n, 0, SD_I64, 1, &dim);
}

static bool same_sizes(const sd_node *a, const sd_node *b) {
  if (a->op != b->op || a->graph != b->graph || a->n_in != b->n_in) return false;
  for (uint32_t i = 0; i < a->n_in; i++)
    if (a->in[i] != b->in[i]) return false;
  const sd_attr *p = sd_node_attr(a, "param"), *q = sd_node_attr(b, "param");
  if (p->kind != q->kind || p->n != q->n || (p->kind == SD_ATTR_INTS && memcmp(p->ints, q->ints, p->n * sizeof *p->ints))) return false;
  return sd_node_int(a, "what", 0) == sd_node_int(b, "what", 0) && sd_node_int(a, "count", 0) == sd_node_int(b, "count", 0);
}

// One that gives the same and stands before, which is certain while g->at is the last node.
static sd_node *find_sizes(const xg *g, const sd_node *like) {
  for (uint32_t i = 0; i < like->n_in && !g->at->next; i++) {
    const sd_value *v = like->in[i];
    for (uint32_t k = 0; v && k < v->uses.len; k++)
      if (v->uses.at[k].node != like && same_sizes(v->uses.at[k].node, like)) return v->uses.at[k].node;
  }
  return NULL;
}

sd_value *sd_xg_sizes(xg *g, sd_sizes what, sd_value *const *in, uint32_t n_in, const int64_t *param, uint32_t n_param, uint32_t count) {
  static const int64_t none[1] = {0};
  if (g->st) return NULL;
  if (!count) return sd_xg_ints(g, none, 0);
  while (n_in && !in[n_in - 1]) n_in--;
  sd_node *n = sd_node_new(g->at->graph, g->at, sd_op_find("sard.Sizes"), in, n_in, 1), *before;
  sd_node_set_int(n, "what", what), sd_node_set_int(n, "count", count);
  if (n_param) sd_node_set_ints(n, "param", param, n_param);
  n->name = *g->at->name ? g->at->name : g->at->op->name; // of the operator that the message is about
  n->onnx_index = g->at->onnx_index;
  n->out[0]->name = n_in > 1 && *in[1]->name ? in[1]->name : in[0]->name;
  sard_status *st = sd_node_infer(n);
  if (st) {
    sd_node_remove(n);
    return sd_xg_fail(g, st), NULL;
  }
  if ((before = find_sizes(g, n))) {
    sd_node_remove(n);
    n = before;
  }
  sd_value *v = sd_sh_defined(g->at, n->out[0], SD_DEFINE_SIZES);
  if (!v) sd_xg_fail(g, SD_SH_ERR(g->at, INTERNAL, "%u sizes cannot be defined", count));
  return v;
}

// ---- nodes ----
sd_node *sd_xg_again(xg *g, sd_value *const *in, uint32_t n_in) {
  const sd_node *n = g->at;
  if (g->st) return NULL;
  sd_node *x = sd_node_new(n->graph, g->at, n->op, in, n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_attr; i++) x->attrs[i] = n->attrs[i];
  x->name = n->name, x->onnx_index = n->onnx_index;
  sard_status *st = sd_node_infer(x);
  if (!st) return x;
  sd_node_remove(x);
  return sd_xg_fail(g, st), NULL;
}

sard_status *sd_xg_become(xg *g, const char *spec, sd_value *const *in, uint32_t n_in) {
  sd_node *n = g->at, *x = sd_xg_node(g, spec, in, n_in, 1);
  if (!x) return sd_xg_take(g);
  for (uint32_t i = 0; i < n->n_in; i++) sd_node_set_input(n, i, NULL);
  n->op = x->op, n->attrs = x->attrs, n->n_attr = x->n_attr;
  n->in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, x->n_in + 1), n->n_in = x->n_in;
  for (uint32_t i = 0; i < n->n_in; i++) sd_node_set_input(n, i, x->in[i]);
  sd_value_copy_type(n->out[0], x->out[0]);
  if (x->out[0]->elems) sd_sh_set_elems(n, 0, x->out[0]->elems, x->out[0]->n_elems);
  sd_node_remove(x);
  return NULL;
}

// ---- sard.Strided ----
enum { PER_DIM = 4 }; // elements of the plan: start, step and what it is less, count

static sard_status *read_plan(const sd_node *n, sd_dim *e) {
  uint32_t count = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_elems(n, 1, e, PER_DIM * SD_MAX_RANK, &count));
  if (count == (uint32_t)(PER_DIM * n->in[0]->rank)) return NULL;
  return SD_SH_ERR(n, MODEL, "a plan of %u numbers for rank %d", count, n->in[0]->rank);
}

sard_status *sd_shape_strided(sd_node *n) {
  sd_dim e[PER_DIM * SD_MAX_RANK], dims[SD_MAX_RANK];
  SD_TRY(read_plan(n, e));
  for (int d = 0; d < n->in[0]->rank; d++) dims[d] = e[PER_DIM * d + 3];
  return sd_sh_set(n, 0, n->in[0]->dtype, n->in[0]->rank, dims);
}

sd_expr *sd_pull_strided(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  sd_dim e[PER_DIM * SD_MAX_RANK];
  sd_expr *at[SD_MAX_RANK];
  sard_status *st = read_plan(n, e);
  if (st) return sd_tb_fail(b, st);
  for (int d = 0; d < n->in[0]->rank; d++) {
    const sd_dim *p = e + PER_DIM * d;
    at[d] = x_add(b, sd_x_mul_dim(b->k, idx[d], sd_dim_sub(b->dims, p[1], p[2])), x_dim(b, p[0]));
  }
  return sd_tb_load(b, n, 0, at);
}
