// A node that needs to know what only the run knows (import_question.c) is built for each answer that the row
// accepts: a tree of branches, one level a question, whose leaves are the versions.
#include "frontend/onnx/import_versions.h"
#include "ir/ops/shape.h"

enum {
  MOST_MIXED = 3,     // questions that may have different answers; with more of them all have the same
  MOST_VERSIONS = 64, // of one node
};

typedef struct version { // the node as built for one answer to each question
  sd_scope *scope;
  sd_value **out; // by output of the node, NULL where it is not named
} version;

typedef struct job {
  sd_import *im;
  const sd_onnx_node *n;
  sard_status *(*build)(sd_import *im, sd_onnx_node *n);
  const sd_question *ask;
  uint32_t n_ask;
  SD_VEC(uint8_t) answers; // n_ask each, in order
  uint32_t n_answers;
  SD_VEC(version *) versions;
  uint32_t n_out; // named outputs of the node
} job;

static const uint8_t *answer(const job *j, uint32_t i) { return j->answers.at + (size_t)i * j->n_ask; }

static sard_status *inner_scope(sd_import *im, sd_scope *outer, sd_graph *g, sd_scope **out) {
  sd_scope *s = *out = SD_NEW(im->tmp, sd_scope);
  *s = (sd_scope){.parent = outer, .graph = g, .call = outer->call, .depth = outer->depth + 1};
  if (s->depth >= SD_MAX_DEPTH)
    return SD_ERR(UNSUPPORTED, "branches on ranks nest deeper than %d levels", SD_MAX_DEPTH);
  sd_names_init(&s->names, im->tmp);
  sd_names_init(&s->sparse, im->tmp);
  return NULL;
}

static sd_onnx_node copy_node(sd_import *im, const sd_onnx_node *n, sd_scope *scope) {
  sd_onnx_node c = *n;
  c.scope = scope;
  c.in.at = sd_arena_dup(im->tmp, n->in.at, n->in.len * sizeof *n->in.at), c.in.cap = n->in.len;
  c.out.at = sd_arena_dup(im->tmp, n->out.at, n->out.len * sizeof *n->out.at), c.out.cap = n->out.len;
  c.attrs.at = sd_arena_dup(im->tmp, n->attrs.at, n->attrs.len * sizeof *n->attrs.at),
  c.attrs.cap = n->attrs.len;
  return c;
}

// ---- one version ----

static sard_status *build_node(const job *j, sd_scope *scope, const uint8_t *with) {
  sd_onnx_node c = copy_node(j->im, j->n, scope);
  for (uint32_t q = 0; q < j->n_ask; q++) SD_TRY(sd_import_answer(j->im, &c, &j->ask[q], with[q]));
  return j->build(j->im, &c);
}

static sard_status *build_version(const job *j, sd_scope *scope, const uint8_t *with, version *out) {
  out->scope = scope;
  SD_TRY(build_node(j, scope, with));
  out->out = SD_NEW_ARRAY(j->im->tmp, sd_value *, j->n->out.len + 1);
  for (uint32_t i = 0; i < j->n->out.len; i++)
    if (*j->n->out.at[i]) SD_TRY(sd_import_lookup(j->im, scope, j->n->out.at[i], &out->out[i]));
  return NULL;
}

// Builds a version in a body that is thrown away. *why: of a refusal that is no line of the list of problems.
static sard_status *try_version(job *j, const uint8_t *with, bool *fits, sard_status **why) {
  sd_import *im = j->im;
  uint32_t problems = im->problems.len;
  const char *problem_node = im->problem_node, *problem_op = im->problem_op;
  sd_node *trial = sd_node_new(j->n->scope->graph, NULL, sd_op_find("If"), NULL, 0, 0);
  sd_scope *scope;
  version v;
  sard_status *st = inner_scope(im, j->n->scope, sd_node_add_body(trial, "then_branch"), &scope);
  if (!st) st = build_version(j, scope, with, &v);
  *fits = !st && im->problems.len == problems;
  im->problems.len = problems;
  im->problem_node = problem_node, im->problem_op = problem_op, im->described = false;
  sd_import_forget_body(trial);
  sd_node_remove(trial);
  if (sard_status_code(st) == SARD_E_NOMEM) return st;
  if (st) sard_status_free(*why), *why = st;
  return NULL;
}

// ---- the answers that the row accepts ----

static bool all_same(const uint8_t *with, uint32_t n) {
  for (uint32_t i = 1; i < n; i++)
    if (with[i] != with[0]) return false;
  return true;
}

// The next combination in lexicographic order; false behind the last one.
static bool next_answer(const job *j, uint8_t *with) {
  for (uint32_t q = j->n_ask; q-- > 0;) {
    if (with[q] < j->ask[q].most) return with[q]++, true;
    with[q] = (uint8_t)j->ask[q].least;
  }
  return false;
}

static sard_status *find_answers(job *j, sard_status **why) {
  uint8_t *with = SD_NEW_ARRAY(j->im->tmp, uint8_t, j->n_ask);
  bool mixed = j->n_ask <= MOST_MIXED, fits, more = true;
  for (uint32_t q = 0; q < j->n_ask; q++) with[q] = (uint8_t)j->ask[q].least;
  while (more) {
    if (mixed || all_same(with, j->n_ask)) {
      SD_TRY(try_version(j, with, &fits, why));
      for (uint32_t q = 0; q < j->n_ask && fits; q++) sd_vec_push(j->im->tmp, &j->answers, with[q]);
      j->n_answers += fits;
    }
    if (mixed) more = next_answer(j, with);
    else if ((more = with[0] < j->ask[0].most))
      memset(with, with[0] + 1, j->n_ask);
  }
  if (j->n_answers <= MOST_VERSIONS) return NULL;
  return SD_ERR(UNSUPPORTED,
                "%u combinations of the ranks of %u operands are possible, at most %d are compiled: the "
                "model has to say more",
                j->n_answers, j->n_ask, MOST_VERSIONS);
}

// ---- the tree ----

typedef struct tree { // a branch, or a version
  sd_node *branch;
  struct tree *side[2];
  version leaf;
} tree;

// The answers [from, to), which have the same answers to the questions before `level`.
static sard_status *build_tree(job *j, sd_scope *scope, uint32_t from, uint32_t to, uint32_t level, tree *t) {
  uint32_t mid = from;
  sd_value *is;
  sd_scope *inner[2];
  if (level == j->n_ask) {
    version *v = &t->leaf;
    sd_vec_push(j->im->tmp, &j->versions, v);
    return build_version(j, scope, answer(j, from), v);
  }
  while (mid < to && answer(j, mid)[level] == answer(j, from)[level]) mid++;
  if (mid == to) return build_tree(j, scope, from, to, level + 1, t);
  SD_TRY(sd_import_ask(j->im, j->n, &j->ask[level], answer(j, from)[level], scope, &is));
  t->branch = sd_node_new(scope->graph, NULL, sd_op_find("If"), &is, 1, j->n_out);
  t->branch->name = sd_arena_strdup(j->im->m->arena, j->n->name), t->branch->onnx_index = j->n->index;
  for (int i = 0; i < 2; i++) {
    t->side[i] = SD_NEW(j->im->tmp, tree);
    SD_TRY(
        inner_scope(j->im, scope, sd_node_add_body(t->branch, i ? "else_branch" : "then_branch"), &inner[i]));
  }
  SD_TRY(build_tree(j, inner[0], from, mid, level + 1, t->side[0]));
  return build_tree(j, inner[1], mid, to, level, t->side[1]);
}

// An output becomes an object where the versions give it different types.
static sard_status *settle(job *j, uint32_t out) {
  bool same = true;
  const sd_value *first = j->versions.at[0]->out[out];
  for (uint32_t k = 1; k < j->versions.len; k++) {
    const sd_value *v = j->versions.at[k]->out[out];
    same &= v->dtype == first->dtype && v->rank == first->rank;
  }
  for (uint32_t k = 0; k < j->versions.len && !same; k++)
    SD_TRY(sd_import_box(j->im, j->versions.at[k]->scope, &j->versions.at[k]->out[out]));
  return NULL;
}

// The named outputs of t; types of the branches from the innermost on.
static sard_status *finish(job *j, tree *t, sd_value ***out) {
  if (!t->branch) {
    uint32_t count = 0;
    *out = SD_NEW_ARRAY(j->im->tmp, sd_value *, j->n_out + 1);
    for (uint32_t i = 0; i < j->n->out.len; i++)
      if (*j->n->out.at[i]) (*out)[count++] = t->leaf.out[i];
    return NULL;
  }
  for (int i = 0; i < 2; i++) {
    sd_value **inner;
    SD_TRY(finish(j, t->side[i], &inner));
    for (uint32_t k = 0; k < j->n_out; k++) sd_graph_output(t->branch->bodies[i], inner[k]);
  }
  *out = t->branch->out;
  return sd_node_infer(t->branch);
}

static sard_status *build_branches(job *j) {
  tree t = {0};
  sd_value **out;
  uint32_t count = 0;
  SD_TRY(build_tree(j, j->n->scope, 0, j->n_answers, 0, &t));
  for (uint32_t i = 0; i < j->n->out.len; i++)
    if (*j->n->out.at[i]) SD_TRY(settle(j, i));
  SD_TRY(finish(j, &t, &out));
  for (uint32_t i = 0; i < j->n->out.len; i++)
    if (*j->n->out.at[i]) SD_TRY(sd_import_define(j->im, j->n->scope, j->n->out.at[i], out[count++]));
  return NULL;
}

static sard_status *build_all(job *j) {
  for (uint32_t i = 0; i < j->n->out.len; i++) j->n_out += *j->n->out.at[i] != 0;
  return j->n_answers > 1 ? build_branches(j)
                          : build_node(j, j->n->scope, answer(j, 0)); // the only one that is possible
}

// ---- operands of any rank ----

bool sd_import_any_rank(const sd_onnx_node *n, const sd_op *op) {
  return sd_import_ask_ranks(n, op, NULL, 0) > 0;
}

sard_status *sd_import_for_ranks(sd_import *im, const sd_onnx_node *n, const sd_op *op) {
  uint32_t count = sd_import_ask_ranks(n, op, NULL, 0);
  sd_question largest, *ask = SD_NEW_ARRAY(im->tmp, sd_question, count);
  sard_status *why = NULL, *st = NULL;
  sd_import_ask_ranks(n, op, ask, count);
  if (sd_import_ask_largest(n, op, &largest)) {
    job j = {.im = im, .n = n, .build = sd_import_resolved, .ask = &largest, .n_ask = 1};
    st = find_answers(&j, &why);
    if (!st && j.n_answers == (uint32_t)(largest.most - largest.least + 1))
      return sard_status_free(why), build_all(&j);
  }
  job j = {.im = im, .n = n, .build = sd_import_resolved, .ask = ask, .n_ask = count};
  if (!st) st = find_answers(&j, &why);
  if (!st && !j.n_answers && count > MOST_MIXED)
    st = SD_ERR(UNSUPPORTED, "%u operands may have any rank, and no rank fits all of them", count);
  if (!st && !j.n_answers)
    return why ? why : SD_ERR(UNSUPPORTED, "operand %u may have any rank, and no rank fits", ask[0].operand);
  sard_status_free(why);
  return st ? st : build_all(&j);
}

// ---- lists ----

// Answers to these questions that the row accepts. Where no small one is, the row knows itself which length
// it needs (Split).
static sard_status *find_lengths(job *j, sd_question *ask, uint32_t count) {
  sard_status *why = NULL;
  *j = (job){.im = j->im, .n = j->n, .build = sd_import_row, .ask = ask, .n_ask = count};
  sard_status *st = find_answers(j, &why);
  if (!st && !j->n_answers && count == 1) {
    ask->least = SD_ASK_MOST + 1, ask->most = SD_SH_ELEMS;
    st = find_answers(j, &why);
  }
  sard_status_free(why);
  return st;
}

sard_status *sd_import_for_lengths(sd_import *im, const sd_onnx_node *n, const sd_op *op, sd_node *refused,
                                   bool *done) {
  sd_question ask[MOST_MIXED], alone[MOST_MIXED];
  uint32_t count = sd_import_ask_lengths(n, op, ask, MOST_MIXED);
  job j = {.im = im, .n = n};
  *done = false;
  memcpy(alone, ask, count * sizeof *ask);
  for (uint32_t k = 0; k < count && !j.n_answers; k++) SD_TRY(find_lengths(&j, &alone[k], 1));
  if (count > 1 && !j.n_answers) SD_TRY(find_lengths(&j, ask, count));
  if (!j.n_answers) return NULL;
  sd_node_remove(refused);
  *done = true;
  return build_all(&j);
}

sard_status *sd_import_box(sd_import *im, sd_scope *scope, sd_value **v) {
  sd_node *b;
  if ((*v)->dtype == SD_OBJECT) return NULL;
  SD_TRY(sd_import_emit(im, scope, "sard.Box", v, 1, &b));
  SD_TRY(sd_node_infer(b));
  *v = b->out[0];
  return NULL;
}
