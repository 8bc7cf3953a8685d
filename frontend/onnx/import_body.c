// Bodies of control flow: types of their inputs, shapes that change from pass to pass, branches known at import.
#include "frontend/onnx/internal.h"
#include "ir/ops/search.h"
#include "runtime/base/hash.h"

enum { MAX_ATTEMPTS = 6 };

static bool is_op(const sd_node *n, const char *name) { return strcmp(n->op->name, name) == 0; }

// ---- inputs ----

static void new_dims(sd_import *im, const char *name, uint32_t axes, sd_onnx_type *t) {
  for (int d = 0; d < t->rank; d++)
    if (axes >> d & 1) t->dims[d] = sd_dim_fresh(im->m->dims, sd_arena_printf(im->tmp, "%.200s_d%d", name, d));
}

static void like_operand(const sd_value *from, sd_onnx_type *t) {
  t->unsupported = NULL;
  t->object = from->object;
  t->dtype = from->dtype, t->rank = from->rank;
  if (t->rank > 0) memcpy(t->dims, from->dims, (size_t)t->rank * sizeof *t->dims);
}

// A scan takes its inputs apart along an axis.
static void scan_part(const sd_node *node, uint32_t part, const sd_value *from, sd_onnx_type *t) {
  const sd_attr *axes = sd_node_attr(node, "scan_input_axes");
  int64_t axis = axes && axes->kind == SD_ATTR_INTS && part < axes->n ? axes->ints[part] : 0;
  like_operand(from, t);
  if (t->rank < 1) return;
  if (axis < 0) axis += t->rank;
  if (axis < 0 || axis >= t->rank) return; // the shape function reports it
  memmove(t->dims + axis, t->dims + axis + 1, (size_t)(t->rank - axis - 1) * sizeof *t->dims);
  t->rank--;
}

// FlexAttention's bodies take scores [batch, heads, queries, keys] in the precision of its softmax.
static void scores_type(const sd_node *node, sd_onnx_type *t) {
  const sd_value *q = node->in[0], *k = node->n_in > 1 ? node->in[1] : NULL;
  if (!q || !k || q->rank != 4 || k->rank != 4) return; // the shape function reports it
  int64_t precision = sd_node_int(node, "softmax_precision", q->dtype == SD_F64 ? SD_F64 : SD_F32);
  like_operand(q, t);
  t->dims[3] = k->dims[2];
  if (sd_dtype_of_tensors(precision)) t->dtype = (sd_dtype)precision;
}

// An item of a sequence: its dims differ from item to item.
static void item_of(sd_import *im, const sd_otype *of, sd_onnx_type *t) {
  if (!of) return;
  *t = (sd_onnx_type){.dtype = SD_OBJECT, .object = of};
  if (of->kind != SD_OBJ_TENSOR || of->rank == SD_RANK_UNKNOWN) return;
  *t = (sd_onnx_type){.dtype = of->dtype, .rank = of->rank < 0 ? 0 : of->rank};
  for (int d = 0; d < t->rank; d++) t->dims[d] = sd_dim_fresh(im->m->dims, "item");
}

void sd_import_body_type(sd_import *im, const sd_node *node, uint32_t i, const char *name, sd_onnx_type *t) {
  const sd_value *from = i < node->n_in ? node->in[i] : NULL;
  if (is_op(node, "ai.onnx.preview.FlexAttention") && node->n_in) {
    scores_type(node, t);
    return;
  }
  bool loop = is_op(node, "Loop");
  if (loop && i < 2) {
    *t = (sd_onnx_type){.dtype = i ? SD_BOOL : SD_I64};
    return;
  }
  if (sd_search_is(node->op)) {
    t->dtype = t->rank == SD_RANK_UNKNOWN ? SD_DT_NONE : t->dtype;
    sard_status_free(sd_search_input(node, i, name, t->dims, &t->rank)); // the shape function reports it again
    return;
  }
  if (!from || from->dtype == SD_DT_NONE || from->rank == SD_RANK_UNKNOWN) return;
  if (is_op(node, "SequenceMap") && from->object && from->object->kind == SD_OBJ_SEQUENCE) {
    item_of(im, from->object->of, t);
    return;
  }
  uint32_t parts = is_op(node, "Scan") ? (uint32_t)sd_node_int(node, "num_scan_inputs", 0) : 0;
  if (parts && parts <= node->n_in && i >= node->n_in - parts) scan_part(node, i - (node->n_in - parts), from, t);
  else like_operand(from, t);
  if (im->loop == node && im->varying) new_dims(im, name, im->varying[i], t);
  if (im->loop == node && im->objects[i]) *t = (sd_onnx_type){.dtype = SD_OBJECT, .object = im->objects[i]}; // what a pass made of it
}

void sd_import_body_known(sd_import *im, const sd_node *node, uint32_t i, sd_value *v) {
  static const uint8_t yes[64] = {1};
  if (!is_op(node, "Loop") || i > 1) return;
  if (i == 1) { // a pass runs only where the condition holds
    v->data = sd_value_const(v->graph, "", SD_BOOL, 0, NULL, yes)->data;
    return;
  }
  const char *p = sd_node_str(node, "counter", "");
  sd_dim counter = sd_dim_parse(im->m->dims, &p);
  if (counter == SD_DIM_NONE) return;
  v->elems = sd_arena_dup(im->m->arena, &counter, sizeof counter);
  v->n_elems = 1;
}

// ---- loops ----

static sard_status *one_body(sd_import *im, sd_onnx_node *n, sd_node *node, const sd_onnx_attr *a) {
  return sd_status_context(sd_import_body(im, a->scope, a->body, node, a->name), "%s of node %d '%s' (%s)", a->name, n->index, n->name, n->op);
}

static bool of_any_rank(const sd_value *v) { return v->dtype == SD_OBJECT && v->object && v->object->kind == SD_OBJ_TENSOR; }

// Output i of a body as an object of any rank.
static sard_status *box_output(sd_import *im, sd_graph *g, uint32_t i) {
  sd_scope scope = {.graph = g};
  return sd_import_box(im, &scope, &g->outputs.at[i]);
}

static bool holds(const sd_otype *optional, const sd_value *v) {
  bool tensor = optional && optional->kind == SD_OBJ_OPTIONAL && optional->of && optional->of->kind == SD_OBJ_TENSOR && v->dtype == optional->of->dtype;
  return tensor || (optional && optional->kind == SD_OBJ_OPTIONAL && v->object && optional->of && v->object->kind == optional->of->kind);
}

// A state that is an object goes on as one: a tensor is boxed; what an optional holds becomes an optional again.
static sard_status *settle_states(sd_import *im, sd_node *node, uint32_t first_in, uint32_t first_out) {
  sd_graph *g = node->bodies[0];
  sd_scope scope = {.graph = g};
  for (uint32_t i = first_in; i < g->inputs.len && first_out + i - first_in < g->outputs.len; i++) {
    const sd_value *now = g->inputs.at[i];
    sd_value **next = &g->outputs.at[first_out + i - first_in];
    if (of_any_rank(now) && (*next)->dtype == now->object->dtype) SD_TRY(box_output(im, g, first_out + i - first_in));
    if (now->dtype != SD_OBJECT || !holds(now->object, *next)) continue;
    sd_node *wrap;
    SD_TRY(sd_import_emit(im, &scope, "Optional", next, 1, &wrap));
    SD_TRY(sd_node_infer(wrap));
    *next = wrap->out[0];
    im->unwrap |= 1ull << (i - first_in);
  }
  return NULL;
}

// Operands of a loop whose state is of any rank.
static sard_status *box_operands(sd_node *node, uint32_t first_in) {
  sd_graph *g = node->bodies[0];
  for (uint32_t i = first_in; i < g->inputs.len && i < node->n_in; i++) {
    sd_node *b;
    if (!of_any_rank(g->inputs.at[i]) || !node->in[i] || node->in[i]->dtype == SD_OBJECT) continue;
    SD_TRY(sd_build(node->graph, node, "sard.Box", &node->in[i], 1, &b));
    sd_node_set_input(node, i, b->out[0]);
  }
  return NULL;
}

// Branches that give tensors of different ranks give objects.
static sard_status *settle_branches(sd_import *im, sd_node *node) {
  sd_graph *a = node->n_body == 2 ? node->bodies[0] : NULL, *b = a ? node->bodies[1] : NULL;
  for (uint32_t i = 0; a && i < a->outputs.len && i < b->outputs.len; i++) {
    const sd_value *x = a->outputs.at[i], *y = b->outputs.at[i];
    bool tensors = x->dtype == y->dtype && x->dtype != SD_DT_NONE && x->rank >= 0 && y->rank >= 0 && x->rank != y->rank;
    bool mixed = (of_any_rank(x) && x->object->dtype == y->dtype) || (of_any_rank(y) && y->object->dtype == x->dtype);
    if (!tensors && !mixed) continue;
    SD_TRY(box_output(im, a, i));
    SD_TRY(box_output(im, b, i));
  }
  return NULL;
}

// Marks the axes of states that the body changes; *changed where there are new ones. Ranks and types have to stay.
static sard_status *find_varying(const sd_node *node, uint32_t first_in, uint32_t first_out, uint32_t *varying,
                                 const sd_otype **objects, bool *changed) {
  const sd_graph *g = node->bodies[0];
  *changed = false;
  for (uint32_t i = first_in; i < g->inputs.len && first_out + i - first_in < g->outputs.len; i++) {
    const sd_value *now = g->inputs.at[i], *next = g->outputs.at[first_out + i - first_in];
    if (next->dtype == SD_DT_NONE || next->rank < 0 || now->rank < 0) continue;
    if (next->dtype == SD_OBJECT && now->dtype == SD_OBJECT) {
      const sd_otype *both = sd_otype_join(node->graph->module, now->object, next->object);
      if (!both) return SD_ERR(MODEL, "state '%.200s' of the loop changes its type from pass to pass", now->name);
      *changed |= both != now->object;
      objects[i] = both;
      continue;
    }
    if (now->dtype != SD_OBJECT && next->dtype == now->dtype && next->rank != now->rank) { // of any rank from now on
      objects[i] = sd_otype_new(node->graph->module, SD_OBJ_TENSOR, now->dtype, SD_RANK_UNKNOWN, NULL);
      *changed = true;
      continue;
    }
    if (next->dtype != now->dtype || next->rank != now->rank)
      return SD_ERR(UNSUPPORTED, "state '%.200s' of the loop changes its type or rank from pass to pass", now->name);
    for (int d = 0; d < now->rank; d++) {
      if (now->dims[d] == next->dims[d] || varying[i] >> d & 1) continue;
      varying[i] |= 1u << d, *changed = true;
    }
  }
  return NULL;
}

static void forget_nodes(sd_graph *g) {
  while (g->last) {
    sd_node *x = g->last;
    while (x->n_body) sd_import_forget_body(x);
    for (uint32_t i = 0; i < x->n_out; i++)
      if (x->out[i]) x->out[i]->uses.len = 0;
    sd_node_remove(x);
  }
}

void sd_import_forget_body(sd_node *node) {
  sd_graph *g = node->graph, *body = node->bodies[node->n_body - 1];
  sd_attr *a = sd_node_attr(node, body->name);
  forget_nodes(body);
  for (uint32_t i = 0; i < g->children.len; i++)
    if (g->children.at[i] == body) {
      memmove(&g->children.at[i], &g->children.at[i + 1], (g->children.len - i - 1) * sizeof g->children.at[0]);
      g->children.len--;
      break;
    }
  node->n_body--;
  if (a) *a = (sd_attr){0};
}

// What building a loop has shown of its states. Loops around it are built again and again until they know theirs: this one
// starts from there.
typedef struct sd_loop_states {
  const Onnx__GraphProto *body;
  const sd_call *call;
  uint64_t types; // of the operands
  uint32_t *varying;
  const sd_otype **objects;
} sd_loop_states;

static sd_loop_states *loop_states(sd_import *im, const sd_onnx_node *n, const sd_node *node,
                                   const Onnx__GraphProto *body) {
  sd_loop_states *s = NULL;
  uint64_t types = 0;
  for (uint32_t i = 0; i < node->n_in; i++) {
    const sd_value *v = node->in[i];
    types = sd_hash_mix(types, v ? (uint64_t)v->dtype << 32 | (uint32_t)v->rank : 0);
    types = sd_hash_mix(types, v ? (uint64_t)(uintptr_t)v->object : 0);
  }
  for (uint32_t i = 0; i < im->loops.len; i++) {
    s = im->loops.at[i];
    if (s->body == body && s->call == n->scope->call && s->types == types) return s;
  }
  s = SD_NEW(im->tmp, sd_loop_states);
  *s = (sd_loop_states){.body = body, .call = n->scope->call, .types = types};
  s->varying = SD_NEW_ARRAY(im->tmp, uint32_t, body->n_input + 1);
  s->objects = SD_NEW_ARRAY(im->tmp, const sd_otype *, body->n_input + 1);
  sd_vec_push(im->tmp, &im->loops, s);
  return s;
}

static sard_status *loop_body(sd_import *im, sd_onnx_node *n, sd_node *node, const sd_onnx_attr *a) {
  sd_loop_states *known = loop_states(im, n, node, a->body);
  uint32_t problems = im->problems.len, *varying = known->varying;
  const sd_otype **objects = known->objects;
  uint32_t scans = is_op(node, "Scan") ? (uint32_t)sd_node_int(node, "num_scan_inputs", 0) : 0;
  uint32_t first_in = is_op(node, "Loop") ? 2 : 0, first_out = is_op(node, "Loop") ? 1 : 0;
  for (int attempt = 1;; attempt++) {
    const sd_node *outer = im->loop;
    const uint32_t *outer_varying = im->varying;
    const sd_otype *const *outer_objects = im->objects;
    bool changed;
    im->loop = node, im->varying = varying, im->objects = objects;
    sard_status *st = one_body(im, n, node, a);
    im->loop = outer, im->varying = outer_varying, im->objects = outer_objects;
    if (st || scans) return st; // the states of a scan keep their shape: its shape function checks it
    SD_TRY(settle_states(im, node, first_in, first_out));
    SD_TRY(find_varying(node, first_in, first_out, varying, objects, &changed));
    if (!changed || attempt == MAX_ATTEMPTS) return box_operands(node, first_in);
    if (attempt == MAX_ATTEMPTS - 1)
      for (uint32_t i = first_in; i < a->body->n_input; i++) varying[i] = varying[i] ? UINT32_MAX : 0;
    sd_import_forget_body(node);
    im->problems.len = problems; // of shapes that were only tried
  }
}

static void set_counter(sd_import *im, sd_node *node) {
  sd_attr *a = sd_node_attr(node, "counter");
  sd_str s = {0};
  if (!a) return;
  sd_dim_print(im->m->dims, sd_dim_fresh(im->m->dims, "pass"), &s);
  *a = (sd_attr){.kind = SD_ATTR_STRING, .s = sd_arena_strdup(im->m->arena, s.p ? s.p : "")};
  sd_str_free(&s);
}

// Bodies are made in the order of the row, whatever the order in the file.
sard_status *sd_import_bodies(sd_import *im, sd_onnx_node *n, sd_node *node) {
  bool loop = is_op(node, "Loop") || is_op(node, "Scan");
  if (is_op(node, "Loop")) set_counter(im, node);
  for (int i = 0; i < node->op->n_attr; i++) {
    if (node->op->attrs[i].def.kind != SD_ATTR_GRAPH) continue;
    sd_onnx_attr *a = sd_import_find_attr(n, node->op->attrs[i].name);
    if (!a || !a->body) continue;
    SD_TRY(loop ? loop_body(im, n, node, a) : one_body(im, n, node, a));
  }
  return is_op(node, "If") ? settle_branches(im, node) : NULL;
}

// ---- branches ----

sard_status *sd_import_branch(sd_import *im, sd_onnx_node *n, bool *done) {
  *done = false;
  if (*n->domain || strcmp(n->op, "If") != 0 || n->in.len != 1 || !n->in.at[0]) return NULL;
  const sd_value *cond = n->in.at[0];
  int64_t yes;
  if (cond->data && cond->data->count == 1) {
    yes = sd_dtype_get_i64(SD_BOOL, cond->data->data, 0);
  } else if (!cond->elems || cond->n_elems != 1 || !sd_dim_is_const(im->m->dims, cond->elems[0], &yes)) {
    return NULL;
  }
  const sd_onnx_attr *a = sd_import_find_attr(n, yes ? "then_branch" : "else_branch");
  if (!a || !a->body) return NULL;
  sd_scope *scope = SD_NEW(im->tmp, sd_scope);
  *scope = (sd_scope){.parent = a->scope, .graph = n->scope->graph, .call = a->scope->call, .depth = a->scope->depth + 1};
  if (scope->depth >= SD_MAX_DEPTH) return SD_ERR(MODEL, "bodies nest deeper than %d levels", SD_MAX_DEPTH);
  sd_names_init(&scope->names, im->tmp);
  sd_names_init(&scope->sparse, im->tmp);
  SD_TRY(sd_import_inline_graph(im, scope, a->body));
  *done = true;
  for (uint32_t i = 0; i < n->out.len; i++) {
    sd_value *v = NULL;
    if (i >= a->body->n_output) return SD_ERR(MODEL, "the branch has %zu outputs, the node %u", a->body->n_output, n->out.len);
    SD_TRY(sd_import_lookup(im, scope, a->body->output[i]->name, &v));
    if (!v || v == &sd_import_absent) return SD_ERR(MODEL, "the output '%.200s' is defined by nothing", a->body->output[i]->name);
    if (*n->out.at[i]) SD_TRY(sd_import_define(im, n->scope, n->out.at[i], v));
  }
  return NULL;
}
