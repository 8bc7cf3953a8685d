// Large LSTM, GRU and RNN nodes become loops over time: the product of all inputs at once in front of the loop, then for
// each step the recurrent product and the cell as kernels of their own, which run on all threads.
//
// Small ones stay one kernel (ir/ops/rnn.c), as do those with activations, lengths or clipping of their own.
#include "passes/edit.h"

#define MIN_WORK (128 * 1024) // multiply-adds of a recurrent product that are worth dispatches of their own

enum { X, W, R, BIAS, LENS, H0, C0, P };
typedef enum cell { RNN, GRU, LSTM } cell;

typedef struct recurrence {
  sd_node *n;
  sd_graph *g;
  cell kind;
  int gates, dirs;
  bool reverse, batch_first, reset_after;
  sd_dim steps, batch;
  int64_t hidden;
  sd_value *x;               // [steps, batch, input]
  sd_value *y[2], *last_h[2], *last_c[2]; // per direction
} recurrence;

// ---- small builders ----

static sard_status *build(const recurrence *c, sd_graph *g, const char *op, sd_value *const *in, uint32_t n_in, sd_value **out) {
  sd_node *before = g == c->g ? c->n : NULL;
  uint32_t id = g->module->next_id;
  SD_TRY(sd_edit_apply(g, before, op, in, n_in, out));
  if ((*out)->def && (*out)->id >= id) (*out)->def->name = c->n->name;
  return NULL;
}

static sard_status *binary(const recurrence *c, sd_graph *g, const char *op, sd_value *a, sd_value *b, sd_value **out) {
  return build(c, g, op, (sd_value *[]){a, b}, 2, out);
}

static sard_status *unary(const recurrence *c, sd_graph *g, const char *op, sd_value *a, sd_value **out) {
  return build(c, g, op, &a, 1, out);
}

static void set_text(sd_node *n, const char *name, const char *text) {
  *sd_node_attr(n, name) = (sd_attr){.kind = SD_ATTR_STRING, .s = text};
}

// x at a position of axis 0.
static sard_status *at(const recurrence *c, sd_graph *g, sd_value *x, sd_dim position, sd_value **out) {
  sd_node *n = sd_node_new(g, g == c->g ? c->n : NULL, sd_op_find("sard.At"), &x, 1, 1);
  set_text(n, "index", sd_dim_text(g->module->dims, position, g->module->arena));
  n->name = c->n->name;
  SD_TRY(sd_node_infer(n));
  return sd_edit_fold(n, out);
}

static sard_status *at_number(const recurrence *c, sd_value *x, int64_t i, sd_value **out) {
  return at(c, c->g, x, sd_dim_const(c->g->module->dims, i), out);
}

// Columns [from, to) of the last axis.
static sard_status *columns(const recurrence *c, sd_graph *g, sd_value *x, int64_t from, int64_t to, sd_value **out) {
  int64_t axis = x->rank - 1;
  sd_value *in[4] = {x, sd_value_const_i64(g, &from, 1), sd_value_const_i64(g, &to, 1), sd_value_const_i64(g, &axis, 1)};
  return build(c, g, "Slice", in, 4, out);
}

static sard_status *gate(const recurrence *c, sd_graph *g, sd_value *x, int i, sd_value **out) {
  return columns(c, g, x, i * c->hidden, (i + 1) * c->hidden, out);
}

static sard_status *transposed(const recurrence *c, sd_value *x, sd_value **out) {
  return sd_edit_transpose(c->g, c->n, x, (int64_t[]){1, 0}, 2, out);
}

// ---- what can be a loop ----

static bool usual_activations(const sd_node *n, cell kind) {
  static const char *const names[3][3] = {{"Tanh"}, {"Sigmoid", "Tanh"}, {"Sigmoid", "Tanh", "Tanh"}};
  static const uint32_t count[3] = {1, 2, 3};
  const sd_attr *a = sd_node_attr(n, "activations");
  for (uint32_t i = 0; a && a->kind == SD_ATTR_STRINGS && i < a->n; i++)
    if (strcmp(a->strings[i], names[kind][i % count[kind]]) != 0) return false;
  return true;
}

static bool given(const sd_node *n, uint32_t operand) { return operand < n->n_in && n->in[operand]; }

static bool read_node(sd_node *n, recurrence *c) {
  sd_dimtab *t = n->graph->module->dims;
  int64_t batch = 1;
  memset(c, 0, sizeof *c);
  c->n = n, c->g = n->graph;
  if (sd_edit_is(n, "LSTM")) c->kind = LSTM, c->gates = 4;
  else if (sd_edit_is(n, "GRU")) c->kind = GRU, c->gates = 3;
  else if (sd_edit_is(n, "RNN")) c->kind = RNN, c->gates = 1;
  else return false;
  if (given(n, LENS) || given(n, P) || sd_node_float(n, "clip", 0) != 0 || sd_node_int(n, "input_forget", 0)) return false;
  if (!usual_activations(n, c->kind) || !n->in[W]->data || !n->in[R]->data || (given(n, BIAS) && !n->in[BIAS]->data)) return false;
  const char *direction = sd_node_str(n, "direction", "forward");
  c->dirs = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
  c->reverse = strcmp(direction, "reverse") == 0;
  c->batch_first = sd_node_int(n, "layout", 0) != 0;
  c->reset_after = c->kind == GRU && sd_node_int(n, "linear_before_reset", 0);
  c->steps = n->in[X]->dims[c->batch_first ? 1 : 0], c->batch = n->in[X]->dims[c->batch_first ? 0 : 1];
  c->hidden = n->in[R]->data->dims[2];
  sd_dim_is_const(t, c->batch, &batch);
  return (double)c->gates * (double)c->hidden * (double)c->hidden * (double)batch >= MIN_WORK;
}

// ---- in front of the loop ----

// Biases of input and recurrence in one; *rest: the candidate's recurrent one of a GRU that scales it by the reset gate.
static sard_status *bias(const recurrence *c, int dir, sd_value **out, sd_value **rest) {
  int64_t all = c->gates * c->hidden;
  sd_value *b, *input, *rec;
  *out = *rest = NULL;
  if (!given(c->n, BIAS)) return NULL;
  SD_TRY(at_number(c, c->n->in[BIAS], dir, &b));
  SD_TRY(columns(c, c->g, b, 0, all, &input));
  SD_TRY(columns(c, c->g, b, all, 2 * all, &rec));
  if (!c->reset_after) return binary(c, c->g, "Add", input, rec, out);
  sd_value *part[3], *gates;
  SD_TRY(gate(c, c->g, rec, 2, rest));
  SD_TRY(columns(c, c->g, rec, 0, 2 * c->hidden, &part[0]));
  SD_TRY(binary(c, c->g, "Sub", *rest, *rest, &part[1]));
  sd_node *n = sd_node_new(c->g, c->n, sd_op_find("Concat"), part, 2, 1);
  sd_node_set_int(n, "axis", 0);
  SD_TRY(sd_node_infer(n));
  SD_TRY(sd_edit_fold(n, &gates));
  return binary(c, c->g, "Add", input, gates, out);
}

static sard_status *input_product(const recurrence *c, int dir, sd_value *b, sd_value **out) {
  sd_value *w;
  SD_TRY(at_number(c, c->n->in[W], dir, &w));
  SD_TRY(transposed(c, w, &w));
  SD_TRY(binary(c, c->g, "MatMul", c->x, w, out));
  return b ? binary(c, c->g, "Add", *out, b, out) : NULL;
}

static sard_status *initial(const recurrence *c, int dir, uint32_t operand, sd_value **out) {
  sd_module *m = c->g->module;
  if (given(c->n, operand)) {
    sd_value *v = c->n->in[operand];
    if (c->batch_first) SD_TRY(sd_edit_transpose(c->g, c->n, v, (int64_t[]){1, 0, 2}, 3, &v));
    return at_number(c, v, dir, out);
  }
  const char **texts = SD_NEW_ARRAY(m->arena, const char *, 2);
  texts[0] = sd_dim_text(m->dims, c->batch, m->arena), texts[1] = sd_arena_printf(m->arena, "%lld", (long long)c->hidden);
  sd_node *d = sd_node_new(c->g, c->n, sd_op_find("sard.Dims"), NULL, 0, 1);
  *sd_node_attr(d, "dims") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = 2, .strings = texts};
  SD_TRY(sd_node_infer(d));
  sd_value *zero = sd_value_const_f32(c->g, 0);
  if (c->n->in[X]->dtype != SD_F32) SD_TRY(binary(c, c->g, "CastLike", zero, c->n->in[R], &zero));
  return binary(c, c->g, "Expand", zero, d->out[0], out);
}

// ---- cells: next states from the step's input part `x` and the states ----

static sard_status *lstm_cell(const recurrence *c, sd_graph *g, sd_value *x, sd_value *r, sd_value *h, sd_value *cell, sd_value **out) {
  sd_value *pre, *i, *o, *f, *z, *t;
  SD_TRY(binary(c, g, "MatMul", h, r, &pre));
  SD_TRY(binary(c, g, "Add", pre, x, &pre));
  SD_TRY(gate(c, g, pre, 0, &i));
  SD_TRY(gate(c, g, pre, 1, &o));
  SD_TRY(gate(c, g, pre, 2, &f));
  SD_TRY(gate(c, g, pre, 3, &z));
  SD_TRY(unary(c, g, "Sigmoid", i, &i));
  SD_TRY(unary(c, g, "Sigmoid", o, &o));
  SD_TRY(unary(c, g, "Sigmoid", f, &f));
  SD_TRY(unary(c, g, "Tanh", z, &z));
  SD_TRY(binary(c, g, "Mul", f, cell, &t));
  SD_TRY(binary(c, g, "Mul", i, z, &z));
  SD_TRY(binary(c, g, "Add", t, z, &out[1]));
  SD_TRY(unary(c, g, "Tanh", out[1], &t));
  return binary(c, g, "Mul", o, t, &out[0]);
}

// z * h + (1 - z) * candidate
static sard_status *gru_blend(const recurrence *c, sd_graph *g, sd_value *z, sd_value *h, sd_value *candidate, sd_value **out) {
  sd_value *t;
  SD_TRY(binary(c, g, "Sub", h, candidate, &t));
  SD_TRY(binary(c, g, "Mul", z, t, &t));
  return binary(c, g, "Add", candidate, t, out);
}

static sard_status *gru_cell(const recurrence *c, sd_graph *g, sd_value *x, sd_value *r, sd_value *rest, sd_value *h, sd_value **out) {
  sd_value *zr, *xzr, *z, *reset, *cand, *rec, *part;
  int64_t two = 2 * c->hidden, three = 3 * c->hidden;
  SD_TRY(columns(c, g, x, 0, two, &xzr));
  SD_TRY(gate(c, g, x, 2, &cand));
  if (c->reset_after) {
    SD_TRY(binary(c, g, "MatMul", h, r, &rec));
    SD_TRY(columns(c, g, rec, 0, two, &zr));
    SD_TRY(gate(c, g, rec, 2, &rec));
    if (rest) SD_TRY(binary(c, g, "Add", rec, rest, &rec));
  } else {
    SD_TRY(columns(c, c->g, r, 0, two, &part));
    SD_TRY(binary(c, g, "MatMul", h, part, &zr));
  }
  SD_TRY(binary(c, g, "Add", zr, xzr, &zr));
  SD_TRY(unary(c, g, "Sigmoid", zr, &zr));
  SD_TRY(gate(c, g, zr, 0, &z));
  SD_TRY(gate(c, g, zr, 1, &reset));
  if (c->reset_after) {
    SD_TRY(binary(c, g, "Mul", reset, rec, &rec));
  } else {
    SD_TRY(columns(c, c->g, r, two, three, &part));
    SD_TRY(binary(c, g, "Mul", reset, h, &rec));
    SD_TRY(binary(c, g, "MatMul", rec, part, &rec));
  }
  SD_TRY(binary(c, g, "Add", cand, rec, &cand));
  SD_TRY(unary(c, g, "Tanh", cand, &cand));
  return gru_blend(c, g, z, h, cand, out);
}

static sard_status *rnn_cell(const recurrence *c, sd_graph *g, sd_value *x, sd_value *r, sd_value *h, sd_value **out) {
  sd_value *t;
  SD_TRY(binary(c, g, "MatMul", h, r, &t));
  SD_TRY(binary(c, g, "Add", t, x, &t));
  return unary(c, g, "Tanh", t, out);
}

// ---- the loop ----

static bool wanted(const sd_node *n, uint32_t out) {
  return out < n->n_out && n->out[out] && (n->out[out]->uses.len || sd_value_is_output(n->out[out]));
}

static sd_node *new_loop(const recurrence *c, sd_value *const *states, uint32_t n_states, sd_dim counter, sd_dim position, bool stacked) {
  sd_module *m = c->g->module;
  sd_node *n = sd_node_new(c->g, c->n, sd_op_find("sard.For"), states, n_states, n_states + stacked);
  set_text(n, "trip", sd_dim_text(m->dims, c->steps, m->arena));
  set_text(n, "counter", sd_dim_text(m->dims, counter, m->arena));
  if (stacked && position != counter) {
    const char **texts = SD_NEW_ARRAY(m->arena, const char *, 1);
    texts[0] = sd_dim_text(m->dims, position, m->arena);
    *sd_node_attr(n, "at") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = 1, .strings = texts};
  }
  n->name = c->n->name;
  return n;
}

static sard_status *direction(recurrence *c, int dir) {
  sd_dimtab *t = c->g->module->dims;
  sd_value *b, *rest, *xw, *r, *states[2], *next[2] = {0}, *x, *in[2];
  uint32_t n_states = c->kind == LSTM ? 2 : 1;
  int64_t steps;
  bool stacked = wanted(c->n, 0), back = c->reverse || dir == 1;
  sd_dim counter = sd_dim_fresh(t, "step");
  if (sd_dim_is_const(t, c->steps, &steps) && steps > 0) sd_dim_set_range(t, counter, 0, steps - 1);
  sd_dim position = back ? sd_dim_sub(t, sd_dim_sub(t, c->steps, sd_dim_const(t, 1)), counter) : counter;
  SD_TRY(bias(c, dir, &b, &rest));
  SD_TRY(input_product(c, dir, b, &xw));
  SD_TRY(at_number(c, c->n->in[R], dir, &r));
  SD_TRY(transposed(c, r, &r));
  SD_TRY(initial(c, dir, H0, &states[0]));
  if (n_states == 2) SD_TRY(initial(c, dir, C0, &states[1]));
  sd_node *loop = new_loop(c, states, n_states, counter, position, stacked);
  sd_graph *g = sd_node_add_body(loop, "step");
  for (uint32_t i = 0; i < n_states; i++) in[i] = sd_graph_input(g, "", states[i]->dtype, states[i]->rank, states[i]->dims);
  SD_TRY(at(c, g, xw, position, &x));
  if (c->kind == LSTM) SD_TRY(lstm_cell(c, g, x, r, in[0], in[1], next));
  else if (c->kind == GRU) SD_TRY(gru_cell(c, g, x, r, rest, in[0], next));
  else SD_TRY(rnn_cell(c, g, x, r, in[0], next));
  for (uint32_t i = 0; i < n_states; i++) sd_graph_output(g, next[i]);
  if (stacked) sd_graph_output(g, next[0]);
  SD_TRY(sd_node_infer(loop));
  c->last_h[dir] = loop->out[0], c->last_c[dir] = n_states == 2 ? loop->out[1] : NULL, c->y[dir] = stacked ? loop->out[n_states] : NULL;
  return NULL;
}

// Puts the directions side by side at a new axis, and the batch first where the node has it so.
static sard_status *replace_output(recurrence *c, uint32_t out, sd_value *const *parts, int64_t axis, const int64_t *batch_first) {
  sd_value *v[2], *y;
  if (!wanted(c->n, out)) return NULL;
  for (int d = 0; d < c->dirs; d++)
    SD_TRY(build(c, c->g, "Unsqueeze", (sd_value *[]){parts[d], sd_value_const_i64(c->g, &axis, 1)}, 2, &v[d]));
  y = v[0];
  if (c->dirs == 2) {
    sd_node *n = sd_node_new(c->g, c->n, sd_op_find("Concat"), v, 2, 1);
    sd_node_set_int(n, "axis", axis);
    n->name = c->n->name;
    SD_TRY(sd_node_infer(n));
    y = n->out[0];
  }
  if (c->batch_first) SD_TRY(sd_edit_transpose(c->g, c->n, y, batch_first, (uint32_t)y->rank, &y));
  y->name = c->n->out[out]->name;
  sd_value_replace(c->n->out[out], y);
  return NULL;
}

static sard_status *expand(recurrence *c) {
  c->x = c->n->in[X];
  if (c->batch_first) SD_TRY(sd_edit_transpose(c->g, c->n, c->x, (int64_t[]){1, 0, 2}, 3, &c->x));
  for (int d = 0; d < c->dirs; d++) SD_TRY(direction(c, d));
  SD_TRY(replace_output(c, 0, c->y, 1, (int64_t[]){2, 0, 1, 3}));
  SD_TRY(replace_output(c, 1, c->last_h, 0, (int64_t[]){1, 0, 2}));
  SD_TRY(replace_output(c, 2, c->last_c, 0, (int64_t[]){1, 0, 2}));
  sd_node_remove(c->n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, bool *done) {
  recurrence c;
  *done = read_node(n, &c);
  return *done ? expand(&c) : NULL;
}

sard_status *sd_pass_recurrence(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return sd_edit_nodes(m, o, r, rewrite);
}
