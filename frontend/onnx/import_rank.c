// Tensors whose rank only the run knows: an operator that reads one is built for each rank that it can have, behind
// branches on the rank. Such a value is an object (ir/graph.h, sd_otype); sard.Unbox makes a tensor of it again.
#include "frontend/onnx/internal.h"

enum { MOST_RANK = 6 };

static bool any_rank(const sd_value *v) { return v && v->dtype == SD_OBJECT && v->object && v->object->kind == SD_OBJ_TENSOR; }

static bool takes_objects(const sd_op *op, uint32_t operand) {
  if (!op || !op->n_in) return false;
  const sd_operand *d = operand < op->n_in ? &op->ins[operand] : &op->ins[op->n_in - 1];
  return d->cls == 'V' || d->cls == 'O';
}

bool sd_import_find_any_rank(const sd_onnx_node *n, const sd_op *op, uint32_t *operand) {
  for (uint32_t i = 0; i < n->in.len; i++) {
    if (!any_rank(n->in.at[i]) || takes_objects(op, i)) continue;
    *operand = i;
    return true;
  }
  return false;
}

// ---- one rank ----

typedef struct version { // the node as built for one rank
  sd_scope *scope;
  sd_value **out; // by output of the node, NULL where it is not named
} version;

static sd_scope *inner_scope(sd_import *im, sd_scope *outer, sd_graph *g) {
  sd_scope *s = SD_NEW(im->tmp, sd_scope);
  *s = (sd_scope){.parent = outer, .graph = g, .call = outer->call, .depth = outer->depth + 1};
  sd_names_init(&s->names, im->tmp);
  sd_names_init(&s->sparse, im->tmp);
  return s;
}

static sd_onnx_node copy_node(sd_import *im, const sd_onnx_node *n, sd_scope *scope) {
  sd_onnx_node c = *n;
  c.scope = scope;
  c.in.at = sd_arena_dup(im->tmp, n->in.at, n->in.len * sizeof *n->in.at), c.in.cap = n->in.len;
  c.out.at = sd_arena_dup(im->tmp, n->out.at, n->out.len * sizeof *n->out.at), c.out.cap = n->out.len;
  c.attrs.at = sd_arena_dup(im->tmp, n->attrs.at, n->attrs.len * sizeof *n->attrs.at), c.attrs.cap = n->attrs.len;
  return c;
}

static sard_status *unbox(sd_import *im, sd_scope *scope, sd_value *v, int rank, sd_value **out) {
  sd_node *u;
  SD_TRY(sd_import_emit(im, scope, "sard.Unbox", &v, 1, &u));
  sd_node_set_int(u, "rank", rank);
  SD_TRY(sd_node_infer(u));
  *out = u->out[0];
  return NULL;
}

// The node with operand `operand` of that rank, in graph g.
static sard_status *build_version(sd_import *im, const sd_onnx_node *n, uint32_t operand, int rank, sd_graph *g, version *out) {
  out->scope = inner_scope(im, n->scope, g);
  if (out->scope->depth >= SD_MAX_DEPTH) return SD_ERR(UNSUPPORTED, "branches on ranks nest deeper than %d levels", SD_MAX_DEPTH);
  sd_onnx_node c = copy_node(im, n, out->scope);
  SD_TRY(unbox(im, out->scope, n->in.at[operand], rank, &c.in.at[operand]));
  SD_TRY(sd_import_resolved(im, &c));
  out->out = SD_NEW_ARRAY(im->tmp, sd_value *, n->out.len + 1);
  for (uint32_t i = 0; i < n->out.len; i++)
    if (*n->out.at[i]) SD_TRY(sd_import_lookup(im, out->scope, n->out.at[i], &out->out[i]));
  return NULL;
}

// The ranks that the operator can have, tried out in a body that is thrown away. *why: of the last refusal.
static sard_status *find_ranks(sd_import *im, const sd_onnx_node *n, uint32_t operand, int *ranks, uint32_t *n_ranks, sard_status **why) {
  uint32_t problems = im->problems.len;
  const char *problem_node = im->problem_node, *problem_op = im->problem_op;
  *n_ranks = 0;
  for (int r = 0; r <= MOST_RANK; r++) {
    sd_node *trial = sd_node_new(n->scope->graph, NULL, sd_op_find("If"), NULL, 0, 0);
    version v;
    sard_status *st = build_version(im, n, operand, r, sd_node_add_body(trial, "then_branch"), &v);
    bool fits = !st && im->problems.len == problems;
    im->problems.len = problems;
    im->problem_node = problem_node, im->problem_op = problem_op, im->described = false;
    sd_import_forget_body(trial);
    sd_node_remove(trial);
    if (fits) ranks[(*n_ranks)++] = r;
    if (st && sard_status_code(st) == SARD_E_NOMEM) return st;
    if (st) sard_status_free(*why), *why = st;
  }
  return NULL;
}

// ---- branches ----

static sard_status *rank_is(sd_import *im, sd_scope *scope, sd_value *v, int rank, sd_value **out) {
  int64_t r = rank;
  sd_node *have, *is;
  SD_TRY(sd_import_emit(im, scope, "sard.BoxRank", &v, 1, &have));
  SD_TRY(sd_node_infer(have));
  SD_TRY(sd_import_emit(im, scope, "Equal", (sd_value *[]){have->out[0], sd_value_const_i64(scope->graph, &r, -1)}, 2, &is));
  SD_TRY(sd_node_infer(is));
  *out = is->out[0];
  return NULL;
}

// An output becomes an object where the ranks give it different types.
static sard_status *settle(sd_import *im, version *v, uint32_t n, uint32_t i) {
  bool same = true;
  for (uint32_t k = 1; k < n; k++) same &= v[k].out[i]->dtype == v[0].out[i]->dtype && v[k].out[i]->rank == v[0].out[i]->rank;
  for (uint32_t k = 0; k < n && !same; k++) SD_TRY(sd_import_box(im, v[k].scope, &v[k].out[i]));
  return NULL;
}

static sard_status *finish_branches(sd_import *im, const sd_onnx_node *n, version *v, sd_node **branch, uint32_t count) {
  uint32_t named = 0, *which = SD_NEW_ARRAY(im->tmp, uint32_t, n->out.len + 1);
  for (uint32_t i = 0; i < n->out.len; i++) {
    if (!*n->out.at[i]) continue;
    SD_TRY(settle(im, v, count, i));
    which[named++] = i;
  }
  for (uint32_t k = count - 1; k-- > 0;) { // the innermost first: what is outside takes its outputs
    for (uint32_t j = 0; j < named; j++) {
      sd_graph_output(branch[k]->bodies[0], v[k].out[which[j]]);
      sd_graph_output(branch[k]->bodies[1], k + 2 == count ? v[k + 1].out[which[j]] : branch[k + 1]->out[j]);
    }
    SD_TRY(sd_node_infer(branch[k]));
  }
  for (uint32_t j = 0; j < named; j++) SD_TRY(sd_import_define(im, n->scope, n->out.at[which[j]], branch[0]->out[j]));
  return NULL;
}

static uint32_t named_outputs(const sd_onnx_node *n) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < n->out.len; i++) count += *n->out.at[i] != 0;
  return count;
}

static sard_status *build_branches(sd_import *im, const sd_onnx_node *n, uint32_t operand, const int *ranks, uint32_t count) {
  version *v = SD_NEW_ARRAY(im->tmp, version, count);
  sd_node **branch = SD_NEW_ARRAY(im->tmp, sd_node *, count);
  sd_onnx_node at = *n;
  for (uint32_t k = 0; k < count; k++) {
    sd_graph *g = at.scope->graph;
    if (k + 1 < count) {
      sd_value *is;
      SD_TRY(rank_is(im, at.scope, n->in.at[operand], ranks[k], &is));
      branch[k] = sd_node_new(g, NULL, sd_op_find("If"), &is, 1, named_outputs(n));
      branch[k]->name = sd_arena_strdup(im->m->arena, n->name), branch[k]->onnx_index = n->index;
      g = sd_node_add_body(branch[k], "then_branch");
    }
    SD_TRY(build_version(im, &at, operand, ranks[k], g, &v[k]));
    if (k + 1 < count) at.scope = inner_scope(im, at.scope, sd_node_add_body(branch[k], "else_branch"));
  }
  return finish_branches(im, n, v, branch, count);
}

sard_status *sd_import_any_rank(sd_import *im, sd_onnx_node *n, uint32_t operand) {
  int ranks[MOST_RANK + 1];
  uint32_t count;
  sard_status *why = NULL, *st = find_ranks(im, n, operand, ranks, &count, &why);
  if (!st && !count) return why ? why : SD_ERR(UNSUPPORTED, "operand %u may have any rank, and no rank fits", operand);
  sard_status_free(why);
  SD_TRY(st);
  if (count > 1) return build_branches(im, n, operand, ranks, count);
  SD_TRY(unbox(im, n->scope, n->in.at[operand], ranks[0], &n->in.at[operand])); // the only one that is possible
  return sd_import_resolved(im, n);
}

sard_status *sd_import_box(sd_import *im, sd_scope *scope, sd_value **v) {
  sd_node *b;
  if ((*v)->dtype == SD_OBJECT) return NULL;
  SD_TRY(sd_import_emit(im, scope, "sard.Box", v, 1, &b));
  SD_TRY(sd_node_infer(b));
  *v = b->out[0];
  return NULL;
}
