// One node: names resolved, attributes read, upgraded to the newest form, matched to its row, types inferred.
#include "frontend/onnx/internal.h"

#include "runtime/base/alloc.h"

enum { MAX_ATTRS = 256 };

sd_value sd_import_absent;

sard_status *sd_import_define(sd_import *im, sd_scope *scope, const char *name, sd_value *v) {
  if (sd_names_get(&scope->sparse, name) || !sd_names_add(&scope->names, name, v))
    return SD_ERR(MODEL, "the value '%.200s' is defined twice", name);
  if (v != &sd_import_absent && !*v->name) v->name = sd_arena_strdup(im->m->arena, name);
  return NULL;
}

static sard_status *expand_sparse(sd_import *im, sd_scope *scope, const char *name, sd_value **out) {
  const Onnx__SparseTensorProto *p = sd_names_get(&scope->sparse, name);
  sd_const *c = NULL;
  SD_TRY(sd_tensor_proto_sparse(&im->tensors, p, "sparse initializer", &c));
  *out = sd_import_const_value(scope, name, c);
  sd_names_add(&scope->names, name, *out);
  return NULL;
}

sard_status *sd_import_lookup(sd_import *im, sd_scope *scope, const char *name, sd_value **out) {
  for (sd_scope *s = scope; s; s = s->parent) {
    *out = sd_names_get(&s->names, name);
    if (*out) return NULL;
    if (sd_names_get(&s->sparse, name)) return expand_sparse(im, s, name, out);
  }
  return NULL;
}

static sard_status *read_operands(sd_import *im, const Onnx__NodeProto *p, sd_onnx_node *n) {
  size_t count = p->n_input;
  while (count && !*p->input[count - 1]) count--;
  sd_vec_reserve(im->tmp, &n->in, count);
  for (size_t i = 0; i < count; i++) {
    sd_value *v = NULL;
    if (*p->input[i]) {
      SD_TRY(sd_import_lookup(im, n->scope, p->input[i], &v));
      if (!v) return SD_ERR(MODEL, "operand %zu is '%.200s', which nothing defines", i, p->input[i]);
      if (v == &sd_import_absent) v = NULL;
    }
    n->in.at[n->in.len++] = v;
  }
  while (n->in.len && !n->in.at[n->in.len - 1]) n->in.len--;
  return NULL;
}

static sard_status *read_attrs(sd_import *im, const Onnx__NodeProto *p, sd_onnx_node *n) {
  if (p->n_attribute > MAX_ATTRS)
    return SD_ERR(MODEL, "it has %zu attributes, at most %d are allowed", p->n_attribute, MAX_ATTRS);
  for (size_t i = 0; i < p->n_attribute; i++) {
    sd_onnx_attr a;
    bool absent;
    SD_TRY(sd_import_attr(im, n->scope, p->attribute[i], &a, &absent));
    if (!absent) sd_vec_push(im->tmp, &n->attrs, a);
  }
  return NULL;
}

static sard_status *read_node(sd_import *im, const Onnx__NodeProto *p, sd_onnx_node *n) {
  if (!*n->op) return SD_ERR(MODEL, "%s", "it has no operator type");
  size_t outs = p->n_output;
  while (outs && !*p->output[outs - 1]) outs--;
  sd_vec_reserve(im->tmp, &n->out, outs);
  for (size_t i = 0; i < outs; i++) n->out.at[n->out.len++] = p->output[i];
  SD_TRY(read_operands(im, p, n));
  n->opset = n->first_opset = sd_import_opset(im, n->scope, n->domain);
  if (n->opset == 0) return SD_ERR(MODEL, "the model imports no opset of the domain '%s'", n->domain);
  return read_attrs(im, p, n);
}

static bool reads_unknown(const sd_onnx_node *n) {
  for (uint32_t i = 0; i < n->in.len; i++)
    if (n->in.at[i] && n->in.at[i]->dtype == SD_DT_NONE) return true;
  return false;
}

// Outputs of a node that cannot be compiled: defined, so that what reads them is found, but of unknown type.
static sard_status *define_unknown(sd_import *im, sd_onnx_node *n) {
  for (uint32_t i = 0; i < n->out.len; i++)
    if (*n->out.at[i]) SD_TRY(sd_import_define(im, n->scope, n->out.at[i], sd_value_new(n->scope->graph, "")));
  return NULL;
}

static sard_status *give_up(sd_import *im, sd_onnx_node *n, const char *what) {
  sd_import_problem(im, n, what);
  return define_unknown(im, n);
}

bool sd_import_is_op(const sd_onnx_node *n, const char *row) {
  size_t len = strlen(n->domain);
  if (!len) return strcmp(row, n->op) == 0;
  return strncmp(row, n->domain, len) == 0 && row[len] == '.' && strcmp(row + len + 1, n->op) == 0;
}

static const char *row_name(sd_import *im, const sd_onnx_node *n) {
  return *n->domain ? sd_arena_printf(im->tmp, "%s.%s", n->domain, n->op) : n->op;
}

static sard_status *no_row(sd_import *im, sd_onnx_node *n) {
  // Names of other domains resemble each other by their prefix only.
  const char *name = row_name(im, n), *near = *n->domain ? NULL : sd_op_nearest(name);
  return give_up(im, n,
                 near ? sd_arena_printf(im->tmp, "Sard has no operator '%s' (the nearest name is '%s')", name, near)
                      : sd_arena_printf(im->tmp, "Sard has no operator '%s'", name));
}

// Outputs that the node of the model leaves out.
static void name_outputs(sd_import *im, const sd_onnx_node *n, sd_node *node) {
  for (uint32_t i = 0; i < node->n_out; i++) {
    const char *name = i < n->out.len ? n->out.at[i] : "";
    uint32_t row = i < node->op->n_out ? i : node->op->n_out - 1u;
    if (*name) node->out[i]->name = sd_arena_strdup(im->m->arena, name);
    else if (node->op->n_out && node->op->outs[row].optional) node->out[i] = NULL;
  }
}

static sard_status *define_outputs(sd_import *im, sd_onnx_node *n, sd_node *node) {
  for (uint32_t i = 0; i < node->n_out && i < n->out.len; i++)
    if (*n->out.at[i]) SD_TRY(sd_import_define(im, n->scope, n->out.at[i], node->out[i]));
  return NULL;
}

static uint32_t output_count(const sd_onnx_node *n, const sd_op *op) {
  uint32_t count = n->out.len;
  for (uint32_t i = count; i < op->n_out; i++)
    if (!op->outs[i].optional && !op->outs[i].variadic) count = i + 1;
  return count;
}

// The text of an UNSUPPORTED status becomes a line of the list; any other status goes up.
static sard_status *unsupported_or_fail(sd_import *im, sd_onnx_node *n, sard_status *st) {
  if (sard_status_code(st) != SARD_E_UNSUPPORTED) return st;
  const char *line = sard_status_text(st, SARD_TEXT_MESSAGE);
  if (*sard_status_text(st, SARD_TEXT_OP))
    sd_import_problem_line(im, sd_arena_printf(im->tmp, "%s (opset %lld)", line, (long long)n->first_opset));
  else
    sd_import_problem(im, n, sd_arena_strdup(im->tmp, line));
  sard_status_free(st);
  return NULL;
}

// Outputs of a loop whose states are optionals in it: what these hold.
static sard_status *unwrap_outputs(sd_import *im, sd_onnx_node *n, sd_node *node, uint64_t which) {
  for (uint32_t i = 0; i < node->n_out && i < 64; i++) {
    sd_node *get = NULL;
    if (!(which >> i & 1) || !node->out[i] || i >= n->out.len || !*n->out.at[i]) continue;
    SD_TRY(sd_import_emit(im, n->scope, "OptionalGetElement", &node->out[i], 1, &get));
    SD_TRY(sd_node_infer(get));
    node->out[i]->name = "";
    get->out[0]->name = sd_arena_strdup(im->m->arena, n->out.at[i]);
    sd_names_set(&n->scope->names, n->out.at[i], get->out[0]);
  }
  return NULL;
}

// Shapes, axes and indices that are integers of another width than the row takes.
static sard_status *widen_indices(sd_import *im, sd_onnx_node *n, const sd_op *op) {
  for (uint32_t i = 0; i < n->in.len && i < op->n_in; i++) {
    sd_value *v = n->in.at[i];
    sd_node *cast = NULL;
    if (op->ins[i].cls != 'L' || op->ins[i].variadic || !v || v->dtype == SD_I64 || !sd_dtype_is_int(v->dtype)) continue;
    SD_TRY(sd_import_emit(im, n->scope, "Cast", &v, 1, &cast));
    sd_node_set_int(cast, "to", SD_I64);
    n->in.at[i] = cast->out[0];
    SD_TRY(sd_node_infer(cast));
    SD_TRY(sd_import_fold(im, cast));
  }
  return NULL;
}

static sard_status *build(sd_import *im, sd_onnx_node *n, const sd_op *op) {
  uint32_t problems = im->problems.len;
  const char *missing = NULL;
  SD_TRY(widen_indices(im, n, op));
  sd_node *node = sd_node_new(n->scope->graph, NULL, op, n->in.at, n->in.len, output_count(n, op));
  node->name = sd_arena_strdup(im->m->arena, n->name);
  node->onnx_index = n->index;
  sard_status *st = sd_import_match_attrs(im, n, node, &missing);
  if (st) {
    SD_TRY(unsupported_or_fail(im, n, st));
    return define_unknown(im, n);
  }
  name_outputs(im, n, node);
  if (missing) sd_import_problem(im, n, missing);
  if (im->problems.len > problems) return define_outputs(im, n, node); // types of the outputs stay unknown
  uint64_t unwrap = im->unwrap;
  im->unwrap = 0;
  st = sd_node_infer(node);
  bool done = false;
  if (sard_status_code(st) == SARD_E_UNSUPPORTED && !n->asked) {
    sard_status *asking = sd_import_for_lengths(im, n, op, node, &done);
    if (done || asking) return sard_status_free(st), asking;
  }
  SD_TRY(define_outputs(im, n, node));
  if (st) return unsupported_or_fail(im, n, st);
  if (unwrap) return unwrap_outputs(im, n, node, unwrap);
  return sd_import_fold(im, node);
}

static sard_status *import_constant(sd_import *im, sd_onnx_node *n) {
  sd_value *v = NULL;
  SD_TRY(sd_import_constant(im, n, &v));
  return sd_import_define(im, n->scope, n->out.at[0], v);
}

static sard_status *import_read(sd_import *im, sd_onnx_node *n, const Onnx__FunctionProto *fn) {
  if (fn) return sd_import_inline(im, n, fn);
  if (!*n->domain && strcmp(n->op, "Constant") == 0) return import_constant(im, n);
  if (!*n->domain && (n->opset < SD_ONNX_OPSET_MIN || n->opset > SD_ONNX_OPSET_MAX))
    return give_up(im, n, sd_arena_printf(im->tmp, "opset %lld is outside of %d to %d", (long long)n->opset,
                                          SD_ONNX_OPSET_MIN, SD_ONNX_OPSET_MAX));
  if (reads_unknown(n)) {
    bool known = sd_op_find(row_name(im, n)) || (!*n->domain && sd_upgrade_has(n->op));
    return known ? define_unknown(im, n) : no_row(im, n);
  }
  return sd_import_resolved(im, n);
}

static sard_status *build_row(sd_import *im, sd_onnx_node *n) {
  bool inner = !strncmp(n->domain, "sard", 4) || !strncmp(n->first_op, "sard.", 5); // rows that trust what made them
  const sd_op *op = inner ? NULL : sd_op_find(row_name(im, n));
  return op ? build(im, n, op) : no_row(im, n);
}

sard_status *sd_import_row(sd_import *im, sd_onnx_node *n) {
  n->asked = true;
  return build_row(im, n);
}

sard_status *sd_import_resolved(sd_import *im, sd_onnx_node *n) {
  const sd_op *row = sd_op_find(row_name(im, n));
  if (sd_import_any_rank(n, row)) {
    sard_status *st = sd_import_for_ranks(im, n, row);
    if (!st || sard_status_code(st) != SARD_E_UNSUPPORTED) return st;
    SD_TRY(unsupported_or_fail(im, n, st));
    return define_unknown(im, n);
  }
  sard_status *st = sd_upgrade_node(im, n);
  if (st) {
    SD_TRY(unsupported_or_fail(im, n, st));
    return define_unknown(im, n);
  }
  bool done = false;
  SD_TRY(sd_import_branch(im, n, &done));
  return done ? NULL : build_row(im, n);
}

sard_status *sd_import_node(sd_import *im, sd_scope *scope, const Onnx__NodeProto *p, int index) {
  sd_onnx_node n = {.scope = scope, .op = p->op_type, .first_op = p->op_type, .index = index};
  n.domain = strcmp(p->domain, "ai.onnx") == 0 ? "" : p->domain;
  n.name =
      scope->call ? sd_arena_printf(im->tmp, "%s/%s", scope->call->prefix, *p->name ? p->name : p->op_type) : p->name;
  const Onnx__FunctionProto *fn = sd_import_find_function(im, n.domain, p->op_type, p->overload);
  sard_status *st = read_node(im, p, &n);
  if (st && sard_status_code(st) == SARD_E_UNSUPPORTED) {
    SD_TRY(unsupported_or_fail(im, &n, st));
    return define_unknown(im, &n);
  }
  if (!st) st = import_read(im, &n, fn);
  return sd_import_fail(im, &n, st);
}

sard_status *sd_import_emit(sd_import *im, sd_scope *scope, const char *op, sd_value *const *in, uint32_t n_in,
                            sd_node **out) {
  (void)im;
  const sd_op *row = sd_op_find(op);
  if (!row) return SD_ERR(UNSUPPORTED, "its old form needs the operator '%s', which Sard does not have", op);
  *out = sd_node_new(scope->graph, NULL, row, in, n_in, 1);
  return NULL;
}
