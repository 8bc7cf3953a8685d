// Control flow of ONNX: types of If, Loop and Scan; loops become sard.For or sard.While. Sizes that only the run knows.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/flow.h"
#include "runtime/host.h"

// ---- sizes that only the run knows ----
sd_dim sd_sh_late(const sd_node *n, uint32_t out, int axis, const char *hint) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_value *v = out < n->n_out ? n->out[out] : NULL;
  const sd_dimnode *d = v && v->rank > axis ? sd_dim_get(t, v->dims[axis]) : NULL;
  if (d && d->op == SD_DIM_SYM && strncmp(d->name, hint, strlen(hint)) == 0) return v->dims[axis];
  return sd_dim_fresh(t, hint);
}

static const char *dim_text(const sd_node *n, sd_dim d) { return sd_dim_text(sd_sh_tab(n), d, n->graph->module->arena); }

static sd_node *make_define(sd_node *n, sd_value *v, int64_t count, sd_define how) {
  sd_module *m = n->graph->module;
  uint32_t total = (uint32_t)count * (how ? 2 : 1);
  const char **texts = SD_NEW_ARRAY(m->arena, const char *, total + 1);
  sd_node *d = sd_node_new(n->graph, n, sd_op_find("sard.Define"), &v, 1, 1);
  for (uint32_t i = 0; i < total; i++) texts[i] = dim_text(n, sd_dim_fresh(m->dims, *v->name ? v->name : "size"));
  *sd_node_attr(d, "symbols") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = total, .strings = texts};
  sd_node_set_int(d, "sign", how);
  d->name = n->name, d->onnx_index = n->onnx_index;
  return d;
}

sard_status *sd_flow_size(sd_node *n, sd_value *v, sd_dim *out) {
  sd_node *d = make_define(n, v, 1, false);
  SD_TRY(sd_node_infer(d));
  *out = d->out[0]->elems[0];
  return NULL;
}

// A definition of the same value that stands before n.
static sd_node *find_define(const sd_node *n, const sd_value *v, sd_define how) {
  for (uint32_t i = 0; i < v->uses.len; i++) {
    sd_node *d = v->uses.at[i].node;
    if (strcmp(d->op->name, "sard.Define") != 0 || d->graph != n->graph || n->next) continue;
    if (sd_node_int(d, "sign", 0) == (int64_t)how) return d;
  }
  return NULL;
}

sd_value *sd_sh_defined(sd_node *n, sd_value *v, sd_define how) {
  int64_t count = 1;
  if (!v || v->data || v->elems || !sd_dtype_is_int(v->dtype) || v->rank < 0 || v->rank > 1) return NULL;
  if (v->rank == 1 && !sd_dim_is_const(sd_sh_tab(n), v->dims[0], &count)) return NULL;
  if (count < 1 || count > SD_SH_ELEMS) return NULL;
  sd_node *d = find_define(n, v, how);
  if (d) return d->out[0];
  d = make_define(n, v, count, how);
  sard_status *st = sd_node_infer(d);
  if (!st) return d->out[0];
  sard_status_free(st);
  sd_node_remove(d);
  return NULL;
}

bool sd_sh_define(sd_node *n, uint32_t operand, sd_define how) {
  sd_value *v = sd_sh_defined(n, sd_sh_in(n, operand), how);
  if (v) sd_node_set_input(n, operand, v);
  return v != NULL;
}

bool sd_sh_define_reshape(sd_node *n) {
  sd_value *v = sd_sh_in(n, 1);
  const sd_value *x = n->in[0];
  int64_t count;
  if (!v || v->rank != 1 || v->dtype != SD_I64 || !sd_dim_is_const(sd_sh_tab(n), v->dims[0], &count) || count > SD_MAX_RANK) return false;
  if (strcmp(v->def ? v->def->op->name : "", "sard.ReshapeDims") != 0) {
    sd_node *r = sd_node_new(n->graph, n, sd_op_find("sard.ReshapeDims"), &v, 1, 1);
    const char **texts = SD_NEW_ARRAY(n->graph->module->arena, const char *, (size_t)x->rank + 1);
    for (int d = 0; d < x->rank; d++) texts[d] = dim_text(n, x->dims[d]);
    sd_node_set_int(r, "allowzero", sd_node_int(n, "allowzero", 0));
    *sd_node_attr(r, "dims") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = (uint32_t)x->rank, .strings = texts};
    r->name = n->name, r->onnx_index = n->onnx_index;
    r->out[0]->name = v->name;
    sard_status *st = sd_node_infer(r);
    if (st) {
      sard_status_free(st);
      sd_node_remove(r);
      return false;
    }
    sd_node_set_input(n, 1, r->out[0]);
  }
  return sd_sh_define(n, 1, SD_DEFINE_SIZES);
}

sard_status *sd_shape_define(sd_node *n) {
  const sd_attr *a = sd_node_attr(n, "symbols");
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim elems[SD_SH_ELEMS], s[2];
  int64_t count = 1;
  uint32_t each = sd_node_int(n, "sign", 0) ? 2 : 1;
  SD_TRY(sd_sh_like(n, 0, 0));
  bool one = n->in[0]->rank == 0, known = one || (n->in[0]->rank == 1 && sd_dim_is_const(t, n->in[0]->dims[0], &count));
  if (!known || count > SD_SH_ELEMS || (uint64_t)count * each != a->n) return SD_SH_ERR(n, MODEL, "%u symbols do not fit the operand", a->n);
  for (uint32_t i = 0; i < a->n; i++) {
    const char *p = a->strings[i];
    s[i % each] = sd_dim_parse(t, &p);
    if (s[i % each] == SD_DIM_NONE || *p || sd_dim_get(t, s[i % each])->op != SD_DIM_SYM) return SD_SH_ERR(n, MODEL, "'%s' is no symbol", a->strings[i]);
    if (i % each == each - 1) elems[i / each] = each == 2 ? sd_dim_sub(t, s[0], s[1]) : s[0];
  }
  sd_sh_set_elems(n, 0, elems, (uint32_t)count);
  return NULL;
}

// ---- If ----
sard_status *sd_shape_if(sd_node *n) {
  if (n->n_body != 2) return SD_SH_ERR(n, INTERNAL, "it has %u branches", n->n_body);
  const sd_graph *a = n->bodies[0], *b = n->bodies[1];
  if (a->inputs.len || b->inputs.len) return SD_SH_ERR(n, MODEL, "a branch has an input that no value of the graph has the name of");
  if (a->outputs.len != n->n_out || b->outputs.len != n->n_out)
    return SD_SH_ERR(n, MODEL, "%u outputs, but the branches give %u and %u", n->n_out, a->outputs.len, b->outputs.len);
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *x = a->outputs.at[i], *y = b->outputs.at[i];
    sd_dim dims[SD_MAX_RANK];
    if (x->dtype == SD_DT_NONE || x->rank < 0 || y->dtype == SD_DT_NONE || y->rank < 0)
      return SD_SH_ERR(n, UNSUPPORTED, "the type of output %u of a branch is not known", i);
    if (x->dtype == SD_OBJECT && y->dtype == SD_OBJECT) {
      SD_TRY(sd_sh_set_object(n, i, sd_otype_join(n->graph->module, x->object, y->object)));
      continue;
    }
    if (x->dtype != y->dtype) return SD_SH_ERR(n, MODEL, "output %u is %s in one branch and %s in the other", i, sd_dtype_name(x->dtype), sd_dtype_name(y->dtype));
    if (x->rank != y->rank) return SD_SH_ERR(n, UNSUPPORTED, "output %u has rank %d in one branch and %d in the other", i, x->rank, y->rank);
    for (int d = 0; d < x->rank; d++) dims[d] = x->dims[d] == y->dims[d] ? x->dims[d] : sd_sh_late(n, i, d, "branch");
    SD_TRY(sd_sh_set(n, i, x->dtype, x->rank, dims));
  }
  return NULL;
}

// ---- Loop ----

// Dims of a state that stay must be those that a pass gives.
static void require_states(const sd_node *n, const sd_value *from, const sd_value *state, const sd_value *next) {
  for (int d = 0; d < state->rank; d++)
    if (state->dims[d] == from->dims[d]) sd_module_require(n->graph->module, next->dims[d], state->dims[d], false, *n->name ? n->name : n->op->name);
}

// States of a loop and of its body, from operand `first_in` and outputs `first_out` on.
static sard_status *loop_states(sd_node *n, uint32_t first_in, uint32_t first_body, uint32_t first_out) {
  const sd_graph *g = n->bodies[0];
  for (uint32_t i = first_in; i < n->n_in; i++) {
    const sd_value *v = n->in[i], *state = g->inputs.at[i - first_in + first_body], *next = g->outputs.at[i - first_in + first_out];
    if (!v || state->dtype == SD_DT_NONE || state->rank < 0) return SD_SH_ERR(n, UNSUPPORTED, "the type of state %u is not known", i - first_in);
    if (v->dtype != state->dtype || v->rank != state->rank || next->dtype != state->dtype || next->rank != state->rank)
      return SD_SH_ERR(n, UNSUPPORTED, "state %u changes its type or rank from pass to pass", i - first_in);
    require_states(n, v, state, next);
    SD_TRY(sd_sh_set_value(n, i - first_in, state));
  }
  return NULL;
}

static sard_status *stacked(sd_node *n, uint32_t first_state_in, uint32_t first_out, sd_dim count) {
  const sd_graph *g = n->bodies[0];
  for (uint32_t i = n->n_in - first_state_in; i < n->n_out; i++) {
    const sd_value *v = g->outputs.at[i + first_out];
    sd_dim dims[SD_MAX_RANK] = {count};
    if (v->dtype == SD_DT_NONE || v->rank < 0 || v->rank >= SD_MAX_RANK) return SD_SH_ERR(n, UNSUPPORTED, "output %u of the body has no known type", i + first_out);
    memcpy(dims + 1, v->dims, (size_t)v->rank * sizeof *dims);
    SD_TRY(sd_sh_set(n, i, v->dtype, v->rank + 1, dims));
  }
  return NULL;
}

static bool is_const(const sd_value *v, int64_t *out) { return v && v->data && v->data->count == 1 && (*out = sd_dtype_get_i64(v->dtype, v->data->data, 0), true); }

// The least bound on the passes, SD_DIM_NONE without one.
static sard_status *loop_trip(sd_node *n, sd_dim *out) {
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim e[1], zero = sd_dim_const(t, 0);
  uint32_t count;
  int64_t v;
  *out = SD_DIM_NONE;
  if (!sd_sh_in(n, 0)) return NULL;
  if (!sd_sh_try_elems(n, 0, e, 1, &count)) sd_sh_define(n, 0, SD_DEFINE_SIGNED);
  SD_TRY(sd_sh_elems(n, 0, e, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "the number of passes is not one number");
  if (sd_dim_is_const(t, e[0], &v) && v > INT64_MAX / 8) return NULL; // "for ever"
  *out = sd_dim_max(t, e[0], zero);
  return NULL;
}

// True when nothing but the number of passes ends the loop. Without a condition to begin with the one that the body gives
// still counts, as in ONNX Runtime (the specification's examples ignore it then).
static bool runs_through(const sd_node *n) {
  int64_t v;
  const sd_value *cond = sd_sh_in(n, 1);
  return (!cond || (is_const(cond, &v) && v)) && is_const(n->bodies[0]->outputs.at[0], &v) && v;
}

// A state whose shape changes, or a part that differs from pass to pass.
static bool changes_shape(const sd_node *n) {
  const sd_graph *g = n->bodies[0];
  for (uint32_t i = 2; i < n->n_in; i++)
    if (memcmp(n->in[i]->dims, g->inputs.at[i]->dims, (size_t)n->in[i]->rank * sizeof n->in[i]->dims[0])) return true;
  return false;
}

sard_status *sd_shape_loop(sd_node *n) {
  const sd_graph *g = n->n_body == 1 ? n->bodies[0] : NULL;
  sd_dim trip;
  if (!g || n->n_in < 2 || g->inputs.len != n->n_in || g->outputs.len < n->n_in - 1 || n->n_out != g->outputs.len - 1)
    return SD_SH_ERR(n, MODEL, "%u operands and %u outputs do not fit the body, which has %u and %u", n->n_in, n->n_out, g ? g->inputs.len : 0, g ? g->outputs.len : 0);
  SD_TRY(loop_trip(n, &trip));
  SD_TRY(loop_states(n, 2, 2, 1));
  if (trip == SD_DIM_NONE && runs_through(n)) return SD_SH_ERR(n, MODEL, "it has neither a number of passes nor a condition that could end it");
  if (trip != SD_DIM_NONE && runs_through(n) && !changes_shape(n)) return stacked(n, 2, 1, trip);
  uint32_t first = n->n_in - 2;
  return first < n->n_out ? stacked(n, 2, 1, sd_sh_late(n, first, 0, "passes")) : NULL;
}

static void move_body(sd_node *from, sd_node *to) {
  to->bodies = from->bodies, to->n_body = 1;
  to->bodies[0]->owner = to;
  from->bodies = NULL, from->n_body = 0;
}

static void drop_inputs(sd_graph *g, uint32_t first, uint32_t n) {
  memmove(&g->inputs.at[first], &g->inputs.at[first + n], (g->inputs.len - first - n) * sizeof g->inputs.at[0]);
  g->inputs.len -= n;
  for (uint32_t i = 0; i < g->inputs.len; i++) g->inputs.at[i]->out_index = i;
}

static void drop_output(sd_graph *g) {
  memmove(&g->outputs.at[0], &g->outputs.at[1], (g->outputs.len - 1) * sizeof g->outputs.at[0]);
  g->outputs.len--;
}

static void set_text(sd_node *n, const char *name, const char *text) { *sd_node_attr(n, name) = (sd_attr){.kind = SD_ATTR_STRING, .s = text}; }

// The number of the pass as a tensor.
sard_status *sd_flow_counter(sd_node *n, sd_graph *g, sd_dim counter, sd_value **out) {
  const char **texts = SD_NEW_ARRAY(n->graph->module->arena, const char *, 1);
  texts[0] = dim_text(n, counter);
  sd_node *d = sd_node_new(g, g->first, sd_op_find("sard.Dims"), NULL, 0, 1);
  *sd_node_attr(d, "dims") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = 1, .strings = texts};
  sd_node_set_int(d, "scalar", 1);
  *out = d->out[0];
  return sd_node_infer(d);
}

static sd_dim counter_of(const sd_node *n, sd_dim trip) {
  sd_dimtab *t = sd_sh_tab(n);
  const char *p = sd_node_str(n, "counter", "");
  sd_dim counter = sd_dim_parse(t, &p);
  int64_t passes;
  if (counter == SD_DIM_NONE) counter = sd_dim_fresh(t, "pass");
  if (trip != SD_DIM_NONE && sd_dim_is_const(t, trip, &passes) && passes > 0) sd_dim_set_range(t, counter, 0, passes - 1);
  return counter;
}

static void take_outputs(sd_node *from, sd_node *to) {
  for (uint32_t i = 0; i < from->n_out; i++) {
    if (!from->out[i]) continue;
    sd_value_copy_type(to->out[i], from->out[i]);
    to->out[i]->name = from->out[i]->name;
    sd_value_replace(from->out[i], to->out[i]);
  }
}

// `made` takes the place of n, its body and its outputs; n is removed.
static sard_status *become_loop(sd_node *n, sd_node *made, sd_dim counter) {
  set_text(made, "counter", dim_text(n, counter));
  made->name = n->name, made->onnx_index = n->onnx_index;
  move_body(n, made);
  take_outputs(n, made);
  sd_node_remove(n);
  return sd_node_infer(made);
}

sard_status *sd_flow_for(sd_node *n, sd_value *const *states, uint32_t n_states, sd_dim trip, sd_dim counter) {
  sd_node *made = sd_node_new(n->graph, n, sd_op_find("sard.For"), states, n_states, n->n_out);
  set_text(made, "trip", dim_text(n, trip));
  return become_loop(n, made, counter);
}

sard_status *sd_rewrite_loop(sd_node *n) {
  sd_graph *g = n->bodies[0];
  sd_dim trip, counter;
  sd_value *pass, *yes = g->inputs.at[1];
  static const uint8_t true_[64] = {1};
  SD_TRY(loop_trip(n, &trip));
  bool counted = trip != SD_DIM_NONE && runs_through(n) && !changes_shape(n);
  counter = counter_of(n, trip);
  SD_TRY(sd_flow_counter(n, g, counter, &pass));
  sd_value_replace(g->inputs.at[0], pass);
  sd_value_replace(yes, sd_value_const(g, "", SD_BOOL, 0, NULL, true_));
  drop_inputs(g, 0, 2);
  sd_node *made;
  uint32_t states = n->n_in - 2;
  if (counted) {
    made = sd_node_new(n->graph, n, sd_op_find("sard.For"), n->in + 2, states, n->n_out);
    set_text(made, "trip", dim_text(n, trip));
    drop_output(g);
  } else {
    sd_value **in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, states + 1);
    memcpy(in + 1, n->in + 2, states * sizeof *in);
    in[0] = n->in[1] ? n->in[1] : sd_value_const(n->graph, "", SD_BOOL, 0, NULL, true_);
    made = sd_node_new(n->graph, n, sd_op_find("sard.While"), in, states + 1, n->n_out);
    set_text(made, "trip", trip == SD_DIM_NONE ? "" : dim_text(n, trip));
    set_text(made, "count", dim_text(n, states < n->n_out ? n->out[states]->dims[0] : sd_dim_fresh(sd_sh_tab(n), "passes")));
  }
  return become_loop(n, made, counter);
}

// ---- Scan ----
typedef struct scan { uint32_t states, parts, outs; sd_dim trip; } scan;

static int64_t list_at(const sd_node *n, const char *name, uint32_t i) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == SD_ATTR_INTS && i < a->n ? a->ints[i] : 0;
}

static sard_status *read_scan(sd_node *n, scan *s) {
  const sd_graph *g = n->n_body == 1 ? n->bodies[0] : NULL;
  int64_t parts = sd_node_int(n, "num_scan_inputs", 0);
  int axis;
  if (!g || parts < 1 || parts > n->n_in || g->inputs.len != n->n_in || g->outputs.len != n->n_out || n->n_out < n->n_in - (uint32_t)parts)
    return SD_SH_ERR(n, MODEL, "%u operands and %u outputs do not fit the body, which has %u and %u", n->n_in, n->n_out, g ? g->inputs.len : 0, g ? g->outputs.len : 0);
  *s = (scan){n->n_in - (uint32_t)parts, (uint32_t)parts, n->n_out - (n->n_in - (uint32_t)parts), SD_DIM_NONE};
  for (uint32_t i = 0; i < s->parts; i++) {
    SD_TRY(sd_sh_rank(n, s->states + i, 1, SD_MAX_RANK));
    SD_TRY(sd_sh_axis(n, list_at(n, "scan_input_axes", i), n->in[s->states + i]->rank, &axis));
    sd_dim d = n->in[s->states + i]->dims[axis];
    if (s->trip == SD_DIM_NONE) s->trip = d;
    else SD_TRY(sd_sh_same(n, s->trip, d, "the lengths of the scanned operands", &s->trip));
  }
  return NULL;
}

sard_status *sd_shape_scan(sd_node *n) {
  scan s;
  SD_TRY(read_scan(n, &s));
  for (uint32_t i = 0; i < s.states; i++) SD_TRY(sd_sh_like(n, i, i));
  for (uint32_t i = 0; i < s.outs; i++) {
    const sd_value *v = n->bodies[0]->outputs.at[s.states + i];
    sd_dim dims[SD_MAX_RANK];
    int axis;
    if (v->dtype == SD_DT_NONE || v->rank < 0 || v->rank >= SD_MAX_RANK) return SD_SH_ERR(n, UNSUPPORTED, "output %u of the body has no known type", s.states + i);
    SD_TRY(sd_sh_axis(n, list_at(n, "scan_output_axes", i), v->rank + 1, &axis));
    for (int d = 0, from = 0; d <= v->rank; d++) dims[d] = d == axis ? s.trip : v->dims[from++];
    SD_TRY(sd_sh_set(n, s.states + i, v->dtype, v->rank + 1, dims));
  }
  return NULL;
}

static sard_status *scan_part(sd_node *n, const scan *s, uint32_t i, sd_dim counter, sd_dim last) {
  sd_graph *g = n->bodies[0];
  sd_dimtab *t = sd_sh_tab(n);
  sd_value *from = n->in[s->states + i], *to = g->inputs.at[s->states + i];
  sd_node *at = sd_node_new(g, g->first, sd_op_find("sard.At"), &from, 1, 1);
  int axis;
  SD_TRY(sd_sh_axis(n, list_at(n, "scan_input_axes", i), from->rank, &axis));
  sd_node_set_int(at, "axis", axis);
  set_text(at, "index", dim_text(n, list_at(n, "scan_input_directions", i) ? sd_dim_sub(t, last, counter) : counter));
  SD_TRY(sd_node_infer(at));
  sd_value_replace(to, at->out[0]);
  return NULL;
}

// Puts the stacked axis, which For makes the first one, where the node has it.
static sard_status *place_axis(sd_node *n, uint32_t index, int64_t axis, sd_value *y, sd_value **out) {
  int to;
  int64_t perm[SD_MAX_RANK];
  SD_TRY(sd_sh_axis(n, axis, y->rank, &to));
  *out = y;
  if (to == 0) return NULL;
  for (int d = 0, from = 1; d < y->rank; d++) perm[d] = d == to ? 0 : from++;
  sd_node *t = sd_node_new(n->graph, n, sd_op_find("Transpose"), &y, 1, 1);
  sd_node_set_ints(t, "perm", perm, (uint32_t)y->rank);
  SD_TRY(sd_node_infer(t));
  t->out[0]->name = n->out[index]->name;
  *out = t->out[0];
  return NULL;
}

sard_status *sd_rewrite_scan(sd_node *n) {
  sd_dimtab *t = sd_sh_tab(n);
  sd_graph *g = n->bodies[0];
  scan s;
  SD_TRY(read_scan(n, &s));
  sd_dim counter = counter_of(n, s.trip), last = sd_dim_sub(t, s.trip, sd_dim_const(t, 1));
  for (uint32_t i = 0; i < s.parts; i++) SD_TRY(scan_part(n, &s, i, counter, last));
  drop_inputs(g, s.states, s.parts);
  sd_node *made = sd_node_new(n->graph, n, sd_op_find("sard.For"), n->in, s.states, n->n_out);
  set_text(made, "trip", dim_text(n, s.trip)), set_text(made, "counter", dim_text(n, counter));
  const char **at = SD_NEW_ARRAY(n->graph->module->arena, const char *, s.outs + 1);
  for (uint32_t i = 0; i < s.outs; i++) at[i] = dim_text(n, list_at(n, "scan_output_directions", i) ? sd_dim_sub(t, last, counter) : counter);
  if (s.outs) *sd_node_attr(made, "at") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = s.outs, .strings = at};
  made->name = n->name, made->onnx_index = n->onnx_index;
  move_body(n, made);
  SD_TRY(sd_node_infer(made));
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *y = made->out[i];
    if (!n->out[i]) continue;
    y->name = n->out[i]->name;
    if (i >= s.states) SD_TRY(place_axis(n, i, list_at(n, "scan_output_axes", i - s.states), y, &y));
    sd_value_replace(n->out[i], y);
  }
  sd_node_remove(n);
  return NULL;
}

// ---- sard.While ----
sard_status *sd_while_dims(const sd_node *n, sd_dim *trip, sd_dim *counter, sd_dim *count) {
  sd_dimtab *t = sd_sh_tab(n);
  const char *names[3] = {"trip", "counter", "count"};
  sd_dim *to[3] = {trip, counter, count};
  for (int i = 0; i < 3; i++) {
    const char *text = sd_node_str(n, names[i], ""), *p = text;
    *to[i] = SD_DIM_NONE;
    if (i == 0 && !*text) continue;
    *to[i] = sd_dim_parse(t, &p);
    if (*to[i] == SD_DIM_NONE || *p || (i && sd_dim_get(t, *to[i])->op != SD_DIM_SYM)) return SD_SH_ERR(n, MODEL, "'%s' is not a %s", text, names[i]);
  }
  return NULL;
}

sard_status *sd_shape_while(sd_node *n) {
  sd_dim trip, counter, count;
  const sd_graph *g = n->n_body == 1 ? n->bodies[0] : NULL;
  uint32_t cond = sd_sh_in(n, 0) ? 1 : 0;
  SD_TRY(sd_while_dims(n, &trip, &counter, &count));
  if (!g || n->n_in < 1 || g->inputs.len != n->n_in - 1 || g->outputs.len != n->n_out + cond || n->n_out < n->n_in - 1 || (!cond && trip == SD_DIM_NONE))
    return SD_SH_ERR(n, MODEL, "%u operands and %u outputs do not fit the body", n->n_in, n->n_out);
  SD_TRY(loop_states(n, 1, 0, cond));
  return stacked(n, 1, cond, count);
}

// ---- host functions ----
static sard_status *attr_params(const sd_node *n, const sd_attr *a, sd_dim *out, uint32_t *count) {
  sd_dimtab *t = sd_sh_tab(n);
  uint32_t len = a->kind == SD_ATTR_STRINGS || a->kind == SD_ATTR_INTS ? a->n : 1;
  double f = a->kind == SD_ATTR_FLOAT ? a->f : 0;
  int64_t v = SD_HOST_ABSENT;
  if (len > SD_HOST_PARAMS - *count) return SD_SH_ERR(n, UNSUPPORTED, "more than %d parameters", SD_HOST_PARAMS);
  if (a->kind == SD_ATTR_INT) v = a->i;
  if (a->kind == SD_ATTR_FLOAT) memcpy(&v, &f, sizeof v);
  for (uint32_t i = 0; i < len; i++) {
    const char *p = a->kind == SD_ATTR_STRINGS ? a->strings[i] : "";
    sd_dim d = a->kind == SD_ATTR_STRINGS ? sd_dim_parse(t, &p) : sd_dim_const(t, a->kind == SD_ATTR_INTS ? a->ints[i] : v);
    if (d == SD_DIM_NONE) return SD_SH_ERR(n, INTERNAL, "parameter %u is not a number", *count);
    out[(*count)++] = d;
  }
  return NULL;
}

sard_status *sd_host_params(const sd_node *n, sd_dim *out, uint32_t *out_n) {
  *out_n = 0;
  for (uint32_t i = 0; i < n->n_attr; i++) SD_TRY(attr_params(n, &n->attrs[i], out, out_n));
  return NULL;
}

// ---- rows whose result sizes the data decides ----

static sd_dim count_limit(sd_node *n, sd_dim s, sd_dim of) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_dimnode *d = sd_dim_get(t, of);
  if (d) sd_dim_set_range(t, s, 0, d->max < INT64_MAX / 4 && d->max >= 0 ? d->max : INT64_MAX / 4);
  return s;
}

sard_status *sd_shape_nonzero(sd_node *n) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_value *x = n->in[0];
  sd_dim dims[2] = {sd_dim_const(t, x->rank), sd_sh_late(n, 0, 1, "nonzero")};
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  count_limit(n, dims[1], sd_value_count(x));
  return sd_sh_set(n, 0, SD_I64, 2, dims);
}

sard_status *sd_shape_compress(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  const sd_attr *a = sd_node_attr(n, "axis");
  const sd_value *x = n->in[0];
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, 1));
  if (a->kind != SD_ATTR_INT) {
    dims[0] = count_limit(n, sd_sh_late(n, 0, 0, "compress"), sd_value_count(x));
    return sd_sh_set(n, 0, x->dtype, 1, dims);
  }
  SD_TRY(sd_sh_axis(n, a->i, x->rank, &axis));
  memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  dims[axis] = count_limit(n, sd_sh_late(n, 0, axis, "compress"), x->dims[axis]);
  return sd_sh_set(n, 0, x->dtype, x->rank, dims);
}

sard_status *sd_shape_unique(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], of;
  const sd_attr *a = sd_node_attr(n, "axis");
  const sd_value *x = n->in[0];
  int axis = 0;
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  bool flat = a->kind != SD_ATTR_INT;
  if (!flat) SD_TRY(sd_sh_axis(n, a->i, x->rank, &axis));
  of = flat ? sd_value_count(x) : x->dims[axis];
  sd_dim count = count_limit(n, sd_sh_late(n, 0, axis, "unique"), of);
  if (!flat) memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  dims[axis] = count;
  SD_TRY(sd_sh_set(n, 0, x->dtype, flat ? 1 : x->rank, dims));
  SD_TRY(sd_sh_set(n, 1, SD_I64, 1, &count));
  SD_TRY(sd_sh_set(n, 2, SD_I64, 1, &of));
  return sd_sh_set(n, 3, SD_I64, 1, &count);
}

sard_status *sd_shape_topk(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], k[1];
  const sd_value *x = n->in[0];
  uint32_t count;
  int axis;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", -1), x->rank, &axis));
  SD_TRY(sd_sh_elems(n, 1, k, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "K must be one number");
  if (sd_dim_lt(sd_sh_tab(n), x->dims[axis], k[0]) == 1) return SD_SH_ERR(n, MODEL, "K is larger than axis %d", axis);
  memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  dims[axis] = k[0];
  SD_TRY(sd_sh_set(n, 0, x->dtype, x->rank, dims));
  return sd_sh_set(n, 1, SD_I64, x->rank, dims);
}

sard_status *sd_shape_nms(sd_node *n) {
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 3, 3));
  sd_dim dims[2] = {sd_sh_late(n, 0, 0, "selected"), sd_dim_const(t, 3)};
  SD_TRY(sd_sh_same(n, n->in[0]->dims[1], n->in[1]->dims[2], "the numbers of boxes and scores", NULL));
  SD_TRY(sd_sh_same(n, n->in[0]->dims[0], n->in[1]->dims[0], "the batches of boxes and scores", NULL));
  count_limit(n, dims[0], sd_value_count(n->in[1]));
  return sd_sh_set(n, 0, SD_I64, 2, dims);
}
