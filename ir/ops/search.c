// GreedySearch and BeamSearch of com.microsoft: the loop around the decoder, and the greedy choice.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/search.h"

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

sd_value *sd_search_by_row(xg *g, const sd_search *s, sd_value *v) {
  sd_dim dims[SD_MAX_RANK];
  if (!v) return NULL;
  if (v->rank < 1 || v->rank >= SD_MAX_RANK) {
    sd_xg_fail(g, SD_SH_ERR(s->n, UNSUPPORTED, "rank %d of '%.200s'", v->rank, v->name));
    return NULL;
  }
  int rank = v->rank;
  dims[0] = s->batch, dims[1] = sd_dim_const(s->t, 1);
  memcpy(dims + 2, v->dims + 1, (size_t)(rank - 1) * sizeof *dims);
  if (s->beam) v = sd_xg_reshape(g, v, dims, rank + 1);
  dims[1] = s->beams;
  if (s->beam && v) v = sd_xg_expand(g, v, dims, rank + 1);
  dims[1] = s->rows;
  return v ? sd_xg_reshape(g, v, dims + 1, rank) : NULL;
}

sd_value *sd_search_padded(xg *g, const sd_search *s, sd_value *v, sd_dim length, sd_dim to) {
  sd_value *fill = sd_xg_expand(g, sd_xg_num(g, SD_I32, (double)s->pad), (sd_dim[]){s->rows, sd_dim_sub(s->t, to, length)}, 2);
  return XG(g, "Concat axis=1", v, fill);
}

// A constant of a body that is taken apart belongs to the graph that the nodes go to; also where a body below reads it.
static void rehome(const sd_graph *from, sd_graph *to, const sd_graph *g, sd_node *first, const sd_node *end) {
  for (sd_node *x = first; x != end; x = x->next) {
    for (uint32_t i = 0; i < x->n_in; i++)
      if (x->in[i] && x->in[i]->data && x->in[i]->graph == from) x->in[i]->graph = to;
    for (uint32_t b = 0; b < x->n_body; b++) rehome(from, to, x->bodies[b], x->bodies[b]->first, NULL);
  }
  for (uint32_t i = 0; i < g->outputs.len; i++)
    if (g->outputs.at[i]->data && g->outputs.at[i]->graph == from) g->outputs.at[i]->graph = to;
}

void sd_search_inline(xg *g, sd_graph *body, sd_value *const *in) {
  for (uint32_t i = 0; i < body->inputs.len; i++) sd_value_replace(body->inputs.at[i], in[i]);
  rehome(body, g->at->graph, body, body->first, NULL);
  while (body->first) sd_node_move_before(body->first, g->at);
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

// Which model it is, and the dims of what it starts with.
static sard_status *read_rows(const sd_node *n, sd_search *s) {
  int64_t model = sd_node_int(n, "model_type", 0);
  s->n = (sd_node *)n, s->t = sd_sh_tab(n);
  s->beam = strcmp(n->op->name, "com.microsoft.BeamSearch") == 0;
  if (model < 0 || model > 2)
    return SD_SH_ERR(n, UNSUPPORTED, "model_type %lld (0: a decoder like GPT-2, 1: with an encoder like T5, 2: like Whisper)", (long long)model);
  s->form = model ? &sd_search_encoder : &sd_search_decoder;
  SD_TRY(s->form->prompt(n, s));
  s->beams = s->returned = sd_dim_const(s->t, 1);
  if (s->beam) SD_TRY(read_size(n, "num_beams", &s->beams));
  if (s->beam) SD_TRY(read_size(n, "num_return_sequences", &s->returned));
  s->rows = sd_dim_mul(s->t, s->batch, s->beams);
  return NULL;
}

sard_status *sd_search_input(const sd_node *n, uint32_t i, const char *name, sd_dim *dims, int *rank) {
  sd_search s = {0};
  SD_TRY(read_rows(n, &s));
  return s.form->input(&s, n->bodies[n->n_body - 1], i, name, dims, rank);
}

// No processor of logits but 0, none.
static bool plain_logits(const sd_node *n) {
  const sd_value *v = sd_search_operand(n, "logits_processor");
  sd_dim e[1];
  uint32_t count;
  int64_t kind = 1;
  return !v || (sd_value_elems(v, e, 1, &count) && count == 1 && sd_dim_is_const(sd_sh_tab(n), e[0], &kind) && kind == 0);
}

static sard_status *read_search(sd_node *n, sd_search *s) {
  int64_t vocab = sd_node_int(n, "vocab_size", -1), v;
  *s = (sd_search){.n = n};
  SD_TRY(read_rows(n, s));
  SD_TRY(read_size(n, "max_length", &s->max));
  if (!plain_logits(n)) return SD_SH_ERR(n, UNSUPPORTED, "a logits_processor that is not the constant 0");
  if (!n->n_body) return SD_SH_ERR(n, MODEL, "it has no body");
  SD_TRY(s->form->read(n, s));
  const sd_value *logits = n->bodies[n->n_body - 1]->outputs.at[0];
  if (logits->rank != 3 || !sd_dtype_is_float(logits->dtype)) return SD_SH_ERR(n, UNSUPPORTED, "logits of rank %d, %s", logits->rank, sd_dtype_name(logits->dtype));
  s->vocab = logits->dims[2];
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
  sd_dtype t = n->bodies[n->n_body - 1]->outputs.at[0]->dtype;
  if (!s.beam) return sd_sh_set(n, 0, SD_I32, 2, (sd_dim[]){s.batch, s.max});
  SD_TRY(sd_sh_set(n, 0, SD_I32, 3, (sd_dim[]){s.batch, s.returned, s.max}));
  SD_TRY(sd_sh_set(n, 1, t, 2, (sd_dim[]){s.batch, s.returned}));
  return sd_sh_set(n, 2, t, 4, (sd_dim[]){sd_dim_sub(s.t, s.max, s.prompt), s.batch, s.beams, s.vocab});
}

// ---- a step ----

// From logits and presents to the next states.
static void make_step(xg *g, const sd_search *s, const sd_search_kind *kind, sd_value *logits, sd_value *const *presents, sd_value **state, sd_step *w) {
  const sd_search_form *form = s->form;
  sd_value **sequence = state + form->sequence;
  *w = (sd_step){.seq = *sequence, .length = (*sequence)->dims[1], .extra = state + form->fixed + s->layers};
  w->scores = sd_search_scores(g, s, logits, w->seq);
  if (!g->st) kind->step(g, s, w);
  if (g->st) return;
  sd_value *seq = w->from ? XG(g, "Gather axis=0", w->seq, w->from) : w->seq;
  sd_value *token = sd_xg_reshape(g, w->next, (sd_dim[]){s->rows, sd_dim_const(s->t, 1)}, 2);
  if (form->next) form->next(g, s, token, state);
  *sequence = XG(g, "Concat axis=1", seq, token);
  for (uint32_t i = 0; i < s->layers; i++)
    state[form->fixed + i] = w->from ? XG(g, sd_xg_fmt(g, "Gather axis=%d", form->axis), presents[i], w->from) : presents[i];
}

static void set_dim_text(sd_node *n, const char *name, sd_dimtab *t, sd_dim d) {
  *sd_node_attr(n, name) = (sd_attr){.kind = SD_ATTR_STRING, .s = sd_dim_text(t, d, n->graph->module->arena)};
}

// The states as inputs of the decoder's body, in their order. `start`: what they are in the beginning.
static void bind_states(xg *g, const sd_search *s, const sd_search_kind *kind, sd_graph *body, sd_value *const *start, sd_value **state) {
  uint32_t own = s->form->fixed + s->layers, states = own + kind->n_extra;
  s->form->bind(g, s, body, state);
  for (uint32_t i = own; i < states; i++) state[i] = sd_graph_input(body, "", start[i]->dtype, start[i]->rank, start[i]->dims);
  memcpy(state + s->form->fixed, body->inputs.at + s->first, s->layers * sizeof *state);
  body->inputs.len = 0;
  for (uint32_t i = 0; i < states; i++) {
    state[i]->out_index = i;
    sd_vec_push(body->module->arena, &body->inputs, state[i]);
  }
}

// The body becomes one of sard.While: its inputs are the states, its outputs whether to go on, the next states, and scores.
static sard_status *loop_body(const sd_search *s, const sd_search_kind *kind, sd_graph *body, sd_value *const *start, bool *stacked) {
  uint32_t states = s->form->fixed + s->layers + kind->n_extra;
  sd_value **state = SD_NEW_ARRAY(body->module->arena, sd_value *, states);
  sd_node *end = sd_node_new(body, NULL, sd_op_find("Identity"), &body->inputs.at[0], 1, 1), *head = NULL;
  end->name = s->n->name, end->onnx_index = s->n->onnx_index;
  head = body->first;
  XG_SCOPE xg g = {.at = head};
  bind_states(&g, s, kind, body, start, state);
  g.at = end;
  sd_step w = {0};
  if (!g.st) make_step(&g, s, kind, body->outputs.at[0], body->outputs.at + 1, state, &w);
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
  uint32_t states = s->form->fixed + s->layers + kind->n_extra;
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
  sd_arena *arena = n->graph->module->arena;
  uint32_t own = s.form->fixed + s.layers, states = own + kind->n_extra;
  sd_value **state = SD_NEW_ARRAY(arena, sd_value *, states), *outs[3] = {0}, *more = sd_xg_num(&g, SD_BOOL, 1);
  sd_value **presents = SD_NEW_ARRAY(arena, sd_value *, s.layers), *logits = NULL;
  sd_dim trip = sd_dim_max(s.t, sd_dim_sub(s.t, s.max, s.prompt), sd_dim_const(s.t, 0));
  sd_step w = {0};
  s.outer = SD_NEW_ARRAY(arena, sd_value *, n->bodies[n->n_body - 1]->inputs.len);
  s.form->begin(&g, &s, state, &logits, presents);
  kind->start(&g, &s, state + own);
  if (logits && !g.st) { // the first step stands in front of the loop
    make_step(&g, &s, kind, logits, presents, state, &w);
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
  sd_value *seq = loop->out[s.form->sequence];
  kind->finish(&g, &s, seq, seq->dims[1], loop->out + own, steps, outs);
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
