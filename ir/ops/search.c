// GreedySearch and BeamSearch of com.microsoft: the loop around the decoder, and the greedy choice.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/search.h"

enum { MAX_LAYERS = 256, INPUTS = 3 };                             // inputs of a decoder before past_0
enum { IDS, POSITION, MASK, SEQUENCE, NEXT_POSITION, FIXED }; // states of every search, before past_0

bool sd_search_is(const sd_op *op) { return strcmp(op->name, "com.microsoft.GreedySearch") == 0 || strcmp(op->name, "com.microsoft.BeamSearch") == 0; }

// ---- pieces ----
sd_value *sd_search_operand(const sd_node *n, const char *name) {
  for (uint32_t i = 0; i < n->n_in && i < n->op->n_in; i++)
    if (strcmp(n->op->ins[i].name, name) == 0) return n->in[i];
  return NULL;
}

sd_value *sd_search_dim(xg *g, sd_dim d, sd_dtype t) {
  sd_value *v = sd_xg_dims(g, &d, -1);
  return v ? sd_xg_cast(g, t, v) : NULL;
}

sd_value *sd_search_range(xg *g, sd_dim n, sd_dtype t) {
  return XG(g, "Range", sd_xg_num(g, t, 0), sd_search_dim(g, n, t), sd_xg_num(g, t, 1));
}

sd_value *sd_search_any(xg *g, sd_value *v) {
  return sd_xg_cast(g, SD_BOOL, XG(g, "ReduceMax keepdims=0", v ? sd_xg_cast(g, SD_I32, v) : NULL));
}

sd_value *sd_search_padded(xg *g, const sd_search *s, sd_value *v, sd_dim length, sd_dim to) {
  sd_value *fill = sd_xg_expand(g, sd_xg_num(g, SD_I32, (double)s->pad), (sd_dim[]){s->rows, sd_dim_sub(s->t, to, length)}, 2);
  return XG(g, "Concat axis=1", v, fill);
}

// ---- what the node says ----
static sard_status *read_size(const sd_node *n, const char *name, sd_dim *out) {
  uint32_t i = 0, count;
  sd_dim e[1];
  while (i < n->op->n_in && strcmp(n->op->ins[i].name, name) != 0) i++;
  SD_TRY(sd_sh_elems(n, i, e, 1, &count));
  if (count != 1) return SD_SH_ERR(n, MODEL, "%s is not one number", name);
  if (sd_dim_lt(sd_sh_tab(n), e[0], sd_dim_const(sd_sh_tab(n), 1)) == 1) return SD_SH_ERR(n, MODEL, "%s is not positive", name);
  *out = sd_dim_max(sd_sh_tab(n), e[0], sd_dim_const(sd_sh_tab(n), 1));
  return NULL;
}

static sard_status *read_rows(const sd_node *n, sd_search *s) {
  s->t = sd_sh_tab(n);
  s->beam = strcmp(n->op->name, "com.microsoft.BeamSearch") == 0;
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  s->batch = n->in[0]->dims[0], s->prompt = n->in[0]->dims[1];
  s->beams = s->returned = sd_dim_const(s->t, 1);
  if (s->beam) SD_TRY(read_size(n, "num_beams", &s->beams));
  if (s->beam) SD_TRY(read_size(n, "num_return_sequences", &s->returned));
  s->rows = sd_dim_mul(s->t, s->batch, s->beams);
  return NULL;
}

sard_status *sd_search_input(const sd_node *n, uint32_t i, sd_dim *dims, int *rank) {
  sd_search s;
  const sd_graph *g = n->bodies[n->n_body - 1];
  bool first = strcmp(g->name, "init_decoder") == 0, later = n->n_body > 1;
  if (*rank != (i < INPUTS ? 2 : 5)) return SD_SH_ERR(n, UNSUPPORTED, "input %u of its %s has rank %d", i, g->name, *rank);
  SD_TRY(read_rows(n, &s));
  if (i < INPUTS) dims[0] = s.rows;
  if (i == 0) dims[1] = first ? s.prompt : later ? sd_dim_const(s.t, 1) : sd_dim_fresh(s.t, "step");
  if (i == 0) return NULL;
  sd_dim step = g->inputs.at[0]->rank == 2 ? g->inputs.at[0]->dims[1] : s.prompt;
  if (i == 1) dims[1] = step;
  if (i == 2) dims[1] = first ? s.prompt : sd_dim_add(s.t, step, sd_dim_fresh(s.t, "past"));
  if (i < INPUTS) return NULL;
  dims[0] = sd_dim_const(s.t, 2), dims[1] = s.rows;
  dims[3] = first || g->inputs.at[2]->rank != 2 ? sd_dim_const(s.t, 0) : sd_dim_sub(s.t, g->inputs.at[2]->dims[1], step);
  return NULL;
}

static sard_status *check_body(const sd_node *n, const sd_graph *g) {
  static const char *const names[] = {"input_ids", "position_ids", "attention_mask"};
  uint32_t layers = g->inputs.len - INPUTS;
  bool plain = g->inputs.len > INPUTS && layers <= MAX_LAYERS && g->outputs.len == layers + 1;
  for (uint32_t i = 0; i < INPUTS && plain; i++)
    plain = strcmp(g->inputs.at[i]->name, names[i]) == 0 && g->inputs.at[i]->dtype == SD_I32 && g->inputs.at[i]->rank == 2;
  for (uint32_t i = 0; i < layers && plain; i++) {
    const sd_value *past = g->inputs.at[INPUTS + i], *present = g->outputs.at[1 + i];
    plain = past->rank == 5 && present->rank == 5 && past->dtype == present->dtype && sd_dtype_is_float(past->dtype) &&
            sd_dim_get(sd_sh_tab(n), past->dims[2])->op != SD_DIM_SYM && sd_dim_get(sd_sh_tab(n), past->dims[4])->op != SD_DIM_SYM;
  }
  plain = plain && g->outputs.at[0]->rank == 3 && sd_dtype_is_float(g->outputs.at[0]->dtype);
  return plain ? NULL : SD_SH_ERR(n, UNSUPPORTED, "its %s is not of the form input_ids, position_ids, attention_mask, past_0, ... to logits, present_0, ...", g->name);
}

static sard_status *read_search(sd_node *n, sd_search *s) {
  int64_t vocab = sd_node_int(n, "vocab_size", -1), v;
  *s = (sd_search){.n = n};
  SD_TRY(read_rows(n, s));
  SD_TRY(read_size(n, "max_length", &s->max));
  if (sd_node_int(n, "model_type", 0) != 0) return SD_SH_ERR(n, UNSUPPORTED, "model_type %lld (only decoders like GPT-2, 0, are known)", (long long)sd_node_int(n, "model_type", 0));
  if (sd_search_operand(n, "decoder_input_ids") || sd_search_operand(n, "logits_processor")) return SD_SH_ERR(n, UNSUPPORTED, "operands decoder_input_ids and logits_processor");
  if (n->in[0]->dtype != SD_I32) return SD_SH_ERR(n, MODEL, "input_ids is %s, not i32", sd_dtype_name(n->in[0]->dtype));
  if (!n->n_body || n->n_body > 2) return SD_SH_ERR(n, MODEL, "it has %u bodies", n->n_body);
  for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(check_body(n, n->bodies[i]));
  const sd_graph *g = n->bodies[n->n_body - 1];
  s->layers = g->inputs.len - INPUTS;
  if (n->bodies[0]->inputs.len != g->inputs.len) return SD_SH_ERR(n, MODEL, "its bodies have different inputs");
  s->vocab = g->outputs.at[0]->dims[2];
  if (vocab > 0 && !(sd_dim_is_const(s->t, s->vocab, &v) && v <= vocab)) s->vocab = sd_dim_const(s->t, vocab);
  if (!sd_dim_is_const(s->t, s->vocab, &v)) return SD_SH_ERR(n, UNSUPPORTED, "the number of words in its logits is not known");
  s->eos = sd_node_int(n, "eos_token_id", 0), s->pad = sd_node_int(n, "pad_token_id", 0), s->ngram = sd_node_int(n, "no_repeat_ngram_size", 0);
  if (s->eos != (int32_t)s->eos || s->pad != (int32_t)s->pad || s->ngram < 0 || s->ngram > 64)
    return SD_SH_ERR(n, UNSUPPORTED, "eos_token_id %lld, pad_token_id %lld, no_repeat_ngram_size %lld", (long long)s->eos, (long long)s->pad, (long long)s->ngram);
  if (sd_dim_lt(s->t, s->beams, s->returned) == 1) return SD_SH_ERR(n, MODEL, "num_return_sequences is larger than num_beams");
  if (sd_dim_lt(s->t, s->prompt, s->max) == 0) return SD_SH_ERR(n, MODEL, "max_length leaves no room behind the prompt");
  return NULL;
}

sard_status *sd_shape_search(sd_node *n) {
  sd_search s;
  SD_TRY(read_search(n, &s));
  sd_dtype t = n->bodies[0]->outputs.at[0]->dtype;
  if (!s.beam) return sd_sh_set(n, 0, SD_I32, 2, (sd_dim[]){s.batch, s.max});
  SD_TRY(sd_sh_set(n, 0, SD_I32, 3, (sd_dim[]){s.batch, s.returned, s.max}));
  SD_TRY(sd_sh_set(n, 1, t, 2, (sd_dim[]){s.batch, s.returned}));
  return sd_sh_set(n, 2, t, 4, (sd_dim[]){sd_dim_sub(s.t, s.max, s.prompt), s.batch, s.beams, s.vocab});
}

// ---- the states in the beginning ----
static sd_value *for_beams(xg *g, const sd_search *s, sd_value *v) {
  if (!s->beam || !v) return v;
  v = sd_xg_reshape(g, v, (sd_dim[]){s->batch, sd_dim_const(s->t, 1), s->prompt}, 3);
  if (v) v = sd_xg_expand(g, v, (sd_dim[]){s->batch, s->beams, s->prompt}, 3);
  return v ? sd_xg_reshape(g, v, (sd_dim[]){s->rows, s->prompt}, 2) : NULL;
}

// Tokens that are no padding count, from 0; those that are have position 0. A mask that is given changes no position.
static void start_states(xg *g, const sd_search *s, sd_value **state) {
  sd_value *ids = s->n->in[0], *mask = sd_search_operand(s->n, "attention_mask"), *one = sd_xg_num(g, SD_I32, 1);
  sd_value *padding = XG(g, "Equal", ids, sd_xg_num(g, SD_I32, (double)s->pad)), *words = XG(g, "Not", padding);
  int64_t axis = 1;
  if (words) words = sd_xg_cast(g, SD_I32, words);
  mask = mask ? sd_xg_reshape(g, sd_xg_cast(g, SD_I32, mask), s->n->in[0]->dims, 2) : words;
  sd_value *position = XG(g, "Where", padding, sd_xg_num(g, SD_I32, 0), XG(g, "Sub", XG(g, "CumSum", words, one), one));
  state[IDS] = state[SEQUENCE] = for_beams(g, s, ids), state[POSITION] = for_beams(g, s, position), state[MASK] = for_beams(g, s, mask);
  words = for_beams(g, s, words);
  state[NEXT_POSITION] = XG(g, "ReduceSum keepdims=1", words, sd_xg_ints(g, &axis, 1));
}

static sd_value *no_past(xg *g, const sd_search *s, const sd_value *past) {
  sd_dim dims[5] = {past->dims[0], s->rows, past->dims[2], sd_dim_const(s->t, 0), past->dims[4]};
  return sd_xg_expand(g, sd_xg_num(g, past->dtype, 0), dims, 5);
}

// ---- a step ----

// From logits and presents to the next states; *more: whether there is a next step.
static void make_step(xg *g, const sd_search *s, const sd_search_kind *kind, const sd_graph *body, sd_value **state, sd_dim step, sd_dim length, sd_step *w) {
  sd_value *ones = sd_xg_expand(g, sd_xg_num(g, SD_I32, 1), (sd_dim[]){s->rows, sd_dim_const(s->t, 1)}, 2);
  *w = (sd_step){.seq = state[SEQUENCE], .length = length, .extra = state + FIXED + s->layers};
  w->scores = sd_search_scores(g, s, body->outputs.at[0], w->seq, step, length);
  if (!g->st) kind->step(g, s, w);
  if (g->st) return;
  sd_value *seq = w->from ? XG(g, "Gather axis=0", w->seq, w->from) : w->seq;
  state[IDS] = sd_xg_reshape(g, w->next, (sd_dim[]){s->rows, sd_dim_const(s->t, 1)}, 2);
  state[POSITION] = state[NEXT_POSITION];
  state[NEXT_POSITION] = XG(g, "Add", state[NEXT_POSITION], ones);
  state[MASK] = XG(g, "Concat axis=1", state[MASK], ones);
  state[SEQUENCE] = XG(g, "Concat axis=1", seq, state[IDS]);
  for (uint32_t i = 0; i < s->layers; i++) {
    sd_value *present = body->outputs.at[1 + i];
    state[FIXED + i] = w->from ? XG(g, "Gather axis=1", present, w->from) : present;
  }
}

// The nodes of a body in front of g->at, with values in place of its inputs.
static void inline_body(xg *g, sd_graph *body, sd_value *const *in) {
  for (uint32_t i = 0; i < body->inputs.len; i++) sd_value_replace(body->inputs.at[i], in[i]);
  while (body->first) {
    sd_node *x = body->first;
    for (uint32_t i = 0; i < x->n_in; i++)
      if (x->in[i] && x->in[i]->data && x->in[i]->graph == body) x->in[i]->graph = g->at->graph;
    sd_node_move_before(x, g->at);
  }
}

static void set_dim_text(sd_node *n, const char *name, sd_dimtab *t, sd_dim d) {
  *sd_node_attr(n, name) = (sd_attr){.kind = SD_ATTR_STRING, .s = sd_dim_text(t, d, n->graph->module->arena)};
}

// The body becomes one of sard.While: its inputs are the states, its outputs whether to go on, the next states, and scores.
static sard_status *loop_body(const sd_search *s, const sd_search_kind *kind, sd_graph *body, sd_value *const *start, bool *stacked) {
  uint32_t states = FIXED + s->layers + kind->n_extra;
  sd_value **state = SD_NEW_ARRAY(body->module->arena, sd_value *, states);
  sd_dim step = body->inputs.at[0]->dims[1], length = body->inputs.at[2]->dims[1];
  for (uint32_t i = 0; i < states; i++) {
    bool given = i < INPUTS || (i >= FIXED && i < FIXED + s->layers);
    state[i] = given ? body->inputs.at[i < INPUTS ? i : i - FIXED + INPUTS] : NULL;
    if (i == SEQUENCE) state[i] = sd_graph_input(body, "sequences", SD_I32, 2, (sd_dim[]){s->rows, length});
    else if (!given) state[i] = sd_graph_input(body, "", start[i]->dtype, start[i]->rank, start[i]->dims);
  }
  body->inputs.len = 0; // in the order of the states
  for (uint32_t i = 0; i < states; i++) {
    state[i]->out_index = i;
    body->inputs.at[body->inputs.len++] = state[i];
  }
  sd_node *end = sd_node_new(body, NULL, sd_op_find("Identity"), &state[0], 1, 1);
  end->name = s->n->name, end->onnx_index = s->n->onnx_index;
  XG_SCOPE xg g = {.at = end};
  sd_step w;
  make_step(&g, s, kind, body, state, step, length, &w);
  SD_TRY(sd_xg_take(&g));
  sd_node_remove(end);
  body->outputs.len = 0;
  sd_graph_output(body, w.more);
  for (uint32_t i = 0; i < states; i++) sd_graph_output(body, state[i]);
  if (w.stacked) sd_graph_output(body, w.stacked);
  *stacked = w.stacked != NULL;
  return NULL;
}

static sard_status *make_loop(const sd_search *s, const sd_search_kind *kind, sd_value *more, sd_value **state, sd_dim trip, sd_node **out) {
  sd_node *n = s->n;
  sd_graph *body = n->bodies[n->n_body - 1];
  uint32_t states = FIXED + s->layers + kind->n_extra;
  bool stacked;
  SD_TRY(loop_body(s, kind, body, state, &stacked));
  sd_value **in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, states + 1);
  in[0] = more;
  memcpy(in + 1, state, states * sizeof *in);
  sd_node *w = sd_node_new(n->graph, n, sd_op_find("sard.While"), in, states + 1, states + stacked);
  set_dim_text(w, "trip", s->t, trip);
  set_dim_text(w, "counter", s->t, sd_dim_fresh(s->t, "token"));
  set_dim_text(w, "count", s->t, sd_dim_fresh(s->t, "tokens"));
  w->name = n->name, w->onnx_index = n->onnx_index;
  w->bodies = SD_NEW_ARRAY(n->graph->module->arena, sd_graph *, 1);
  w->bodies[0] = body, w->n_body = 1;
  body->owner = w;
  n->n_body--;
  *out = w;
  return sd_node_infer(w);
}

sard_status *sd_search_rewrite(sd_node *n, const sd_search_kind *kind) {
  XG_SCOPE xg g = {.at = n};
  sd_search s;
  sd_node *loop = NULL;
  SD_TRY(read_search(n, &s));
  uint32_t states = FIXED + s.layers + kind->n_extra;
  sd_value **state = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, states), *outs[3] = {0}, *more = sd_xg_num(&g, SD_BOOL, 1);
  sd_dim trip = sd_dim_max(s.t, sd_dim_sub(s.t, s.max, s.prompt), sd_dim_const(s.t, 0));
  sd_step w = {0};
  start_states(&g, &s, state);
  for (uint32_t i = 0; i < s.layers; i++) state[FIXED + i] = no_past(&g, &s, n->bodies[0]->inputs.at[INPUTS + i]);
  kind->start(&g, &s, state + FIXED + s.layers);
  if (n->n_body == 2 && !g.st) { // the first step stands in front of the loop
    sd_value **in = SD_NEW_ARRAY(n->graph->module->arena, sd_value *, INPUTS + s.layers);
    for (uint32_t i = 0; i < INPUTS + s.layers; i++) in[i] = state[i < INPUTS ? i : i - INPUTS + FIXED];
    inline_body(&g, n->bodies[0], in);
    make_step(&g, &s, kind, n->bodies[0], state, s.prompt, s.prompt, &w);
    n->bodies[0]->outputs.len = 0;
    more = w.more;
    trip = sd_dim_sub(s.t, trip, sd_dim_const(s.t, 1));
  }
  SD_TRY(sd_xg_take(&g));
  SD_TRY(make_loop(&s, kind, more, state, trip, &loop));
  sd_value *steps = loop->n_out > states ? loop->out[states] : NULL;
  if (steps && w.stacked) {
    int64_t first = 0;
    steps = XG(&g, "Concat axis=0", XG(&g, "Unsqueeze", w.stacked, sd_xg_ints(&g, &first, 1)), steps);
  }
  kind->finish(&g, &s, loop->out[SEQUENCE], loop->out[SEQUENCE]->dims[1], loop->out + FIXED + s.layers, steps, outs);
  return sd_xg_finish(&g, outs, n->n_out);
}

// ---- the greedy choice: one state, the rows that have met the end ----
static void greedy_start(xg *g, const sd_search *s, sd_value **extra) { extra[0] = sd_xg_expand(g, sd_xg_num(g, SD_BOOL, 0), &s->rows, 1); }

static void greedy_step(xg *g, const sd_search *s, sd_step *w) {
  sd_value *best = XG(g, "ArgMax axis=1 keepdims=0", w->scores);
  sd_value *ended = XG(g, "Or", w->extra[0], XG(g, "Equal", best, sd_xg_ints(g, &s->eos, -1)));
  w->next = XG(g, "Where", ended, sd_xg_num(g, SD_I32, (double)s->pad), best ? sd_xg_cast(g, SD_I32, best) : NULL);
  w->extra[0] = ended;
  w->more = sd_search_any(g, XG(g, "Not", ended));
}

static void greedy_finish(xg *g, const sd_search *s, sd_value *seq, sd_dim length, sd_value **extra, sd_value *stacked, sd_value **outs) {
  (void)extra, (void)stacked;
  outs[0] = sd_search_padded(g, s, seq, length, s->max);
}

sard_status *sd_rewrite_greedy_search(sd_node *n) {
  static const sd_search_kind kind = {1, greedy_start, greedy_step, greedy_finish};
  return sd_search_rewrite(n, &kind);
}
