// BeamSearch: the beams of a sequence are rows side by side. States beside those of every search: the score of each beam,
// the finished sequences (hypotheses) with their scores, best first, and which sequences are done.
#include <math.h>

#include "ir/ops.h"
#include "ir/ops/search.h"

enum { BEAM = 0, HYP_SCORE = 1, HYP_TOKENS = 2, DONE = 3, N_STATES = 4 }; // f32 [B,k], f32 [B,k], i32 [B,k,max], bool [B]

static sd_dim num(const sd_search *s, int64_t v) { return sd_dim_const(s->t, v); }
static sd_value *column(xg *g, const sd_search *s, sd_value *v) { return sd_xg_reshape(g, v, (sd_dim[]){s->batch, num(s, 1)}, 2); }

// The first beam starts with 0, so that the others, which are equal, are not taken.
static void beam_start(xg *g, const sd_search *s, sd_value **extra) {
  sd_dim by_beam[] = {s->batch, s->beams}, tokens[] = {s->batch, s->beams, s->max};
  sd_value *first = XG(g, "Equal", sd_search_range(g, s->beams, SD_I64), sd_xg_num(g, SD_I64, 0));
  extra[BEAM] = sd_xg_expand(g, XG(g, "Where", first, sd_xg_f32(g, 0), sd_xg_f32(g, -1e9)), by_beam, 2);
  extra[HYP_SCORE] = sd_xg_expand(g, sd_xg_f32(g, -INFINITY), by_beam, 2);
  extra[HYP_TOKENS] = sd_xg_expand(g, sd_xg_num(g, SD_I32, (double)s->pad), tokens, 3);
  extra[DONE] = sd_xg_expand(g, sd_xg_num(g, SD_BOOL, 0), &s->batch, 1);
}

// Score of a sequence of `length` tokens with that sum of log probabilities.
static sd_value *normalized(xg *g, const sd_search *s, sd_value *sum, sd_dim length) {
  sd_value *penalty = sd_search_operand(s->n, "length_penalty"), *by = sd_search_dim(g, length, SD_F32);
  if (penalty) by = XG(g, "Pow", by, sd_xg_cast(g, SD_F32, penalty));
  return XG(g, "Div", sum, by);
}

// Rows `index` [B, k] of v [B * groups, ...], index counted within each group of `groups`; i64 [rows].
static sd_value *flat_rows(xg *g, const sd_search *s, sd_value *index, sd_dim groups) {
  sd_value *base = XG(g, "Mul", column(g, s, sd_search_range(g, s->batch, SD_I64)), sd_search_dim(g, groups, SD_I64));
  return sd_xg_reshape(g, XG(g, "Add", index, base), &s->rows, 1);
}

// Adds candidates (scores [B,k], -inf: none; tokens i32 [rows,length]) to the hypotheses and keeps the best. Among equals the
// older one stays.
static void add_hypotheses(xg *g, const sd_search *s, sd_value **extra, sd_value *scores, sd_value *tokens, sd_dim length) {
  sd_dim by_beam[] = {s->batch, s->beams, s->max}, twice = sd_dim_mul(s->t, num(s, 2), s->beams);
  sd_value *in[2] = {XG(g, "Concat axis=1", extra[HYP_SCORE], scores), sd_xg_dims(g, &s->beams, 1)};
  sd_node *top = sd_xg_node(g, "TopK axis=1", in, 2, 2);
  if (!top) return;
  sd_value *fresh = sd_xg_reshape(g, sd_search_padded(g, s, tokens, length, s->max), by_beam, 3);
  sd_value *all = XG(g, "Concat axis=1", extra[HYP_TOKENS], fresh);
  if (all) all = sd_xg_reshape(g, all, (sd_dim[]){sd_dim_mul(s->t, s->batch, twice), s->max}, 2);
  sd_value *kept = XG(g, "Gather axis=0", all, flat_rows(g, s, top->out[1], twice));
  extra[HYP_SCORE] = top->out[0];
  extra[HYP_TOKENS] = sd_xg_reshape(g, kept, by_beam, 3);
}

typedef struct candidates { sd_value *score, *token, *beam, *end; } candidates; // [B, 2k], best first

static bool find_candidates(xg *g, const sd_search *s, sd_value *scores, candidates *c) {
  sd_dim all = sd_dim_mul(s->t, s->beams, s->vocab), twice = sd_dim_mul(s->t, num(s, 2), s->beams);
  sd_value *in[2] = {sd_xg_reshape(g, scores, (sd_dim[]){s->batch, all}, 2), sd_xg_dims(g, &twice, 1)}, *words = sd_search_dim(g, s->vocab, SD_I64);
  sd_node *top = sd_xg_node(g, "TopK axis=1", in, 2, 2);
  if (!top) return false;
  c->score = top->out[0];
  c->beam = XG(g, "Div", top->out[1], words);
  c->token = XG(g, "Sub", top->out[1], XG(g, "Mul", c->beam, words));
  c->end = XG(g, "Equal", c->token, sd_xg_ints(g, &s->eos, -1));
  return !g->st;
}

// The first k of 2k candidates.
static sd_value *best_half(xg *g, const sd_search *s, sd_value *v) { return XG(g, "Gather axis=1", v, sd_search_range(g, s->beams, SD_I64)); }

static void end_beams(xg *g, const sd_search *s, sd_step *w, const candidates *c) {
  sd_value *open = XG(g, "Not", column(g, s, w->extra[DONE]));
  sd_value *ends = XG(g, "And", best_half(g, s, c->end), open);
  sd_value *score = XG(g, "Where", ends, normalized(g, s, best_half(g, s, c->score), w->length), sd_xg_f32(g, -INFINITY));
  sd_value *tokens = XG(g, "Gather axis=0", w->seq, flat_rows(g, s, best_half(g, s, c->beam), s->beams));
  add_hypotheses(g, s, w->extra, score, tokens, w->length);
}

// A sequence is done when it has k hypotheses and no beam can get better than the worst of them.
static sd_value *find_done(xg *g, const sd_search *s, const sd_step *w, const candidates *c) {
  sd_dim last = sd_dim_sub(s->t, s->beams, num(s, 1));
  sd_value *worst = XG(g, "Gather axis=1", w->extra[HYP_SCORE], sd_xg_dims(g, &last, -1));
  sd_value *best = normalized(g, s, XG(g, "Gather axis=1", c->score, sd_xg_num(g, SD_I64, 0)), w->length);
  sd_value *full = XG(g, "Greater", worst, sd_xg_f32(g, -INFINITY));
  sd_value *stop = sd_node_int(s->n, "early_stopping", 0) ? full : XG(g, "And", full, XG(g, "GreaterOrEqual", worst, best));
  return XG(g, "Or", w->extra[DONE], stop);
}

// The first k candidates that do not end; there are that many, since each beam has one end. Sequences that are done go on with
// padding behind row 0, as in ONNX Runtime: it shows in `scores` only.
static void go_on(xg *g, const sd_search *s, sd_step *w, const candidates *c, sd_value *done) {
  sd_dim twice = sd_dim_mul(s->t, num(s, 2), s->beams);
  sd_value *order = XG(g, "Sub", sd_search_dim(g, twice, SD_I64), sd_search_range(g, twice, SD_I64));
  sd_value *in[2] = {XG(g, "Where", c->end, sd_xg_num(g, SD_I64, -1), order), sd_xg_dims(g, &s->beams, 1)};
  sd_node *top = sd_xg_node(g, "TopK axis=1", in, 2, 2);
  if (!top) return;
  sd_value *at = top->out[1], *token = XG(g, "GatherElements axis=1", c->token, at);
  w->extra[BEAM] = XG(g, "Where", done, sd_xg_f32(g, 0), XG(g, "GatherElements axis=1", c->score, at));
  token = XG(g, "Where", done, sd_xg_num(g, SD_I32, (double)s->pad), token ? sd_xg_cast(g, SD_I32, token) : NULL);
  w->next = sd_xg_reshape(g, token, &s->rows, 1);
  sd_value *from = flat_rows(g, s, XG(g, "GatherElements axis=1", c->beam, at), s->beams);
  if (from) from = sd_xg_reshape(g, from, (sd_dim[]){s->batch, s->beams}, 2);
  w->from = sd_xg_reshape(g, XG(g, "Where", done, sd_xg_num(g, SD_I64, 0), from), &s->rows, 1);
}

static void beam_step(xg *g, const sd_search *s, sd_step *w) {
  candidates c;
  sd_value *before = sd_xg_reshape(g, w->extra[BEAM], (sd_dim[]){s->rows, num(s, 1)}, 2);
  sd_value *scores = XG(g, "Add", w->scores, before), *was_done = column(g, s, w->extra[DONE]);
  if (!find_candidates(g, s, scores, &c)) return;
  if (s->n->n_out > 2 && s->n->out[2]) w->stacked = sd_xg_reshape(g, scores, (sd_dim[]){s->batch, s->beams, s->vocab}, 3);
  end_beams(g, s, w, &c);
  w->extra[DONE] = g->st ? NULL : find_done(g, s, w, &c);
  go_on(g, s, w, &c, was_done);
  w->more = sd_search_any(g, XG(g, "Not", w->extra[DONE]));
}

static sd_value *returned(xg *g, const sd_search *s, sd_value *v) { return XG(g, "Gather axis=1", v, sd_search_range(g, s->returned, SD_I64)); }

// Beams of sequences that are not done are hypotheses as well. Steps that were not made have scores 0.
static void beam_finish(xg *g, const sd_search *s, sd_value *seq, sd_dim length, sd_value **extra, sd_value *stacked, sd_value **outs) {
  sd_value *state[N_STATES] = {extra[BEAM], extra[HYP_SCORE], extra[HYP_TOKENS], extra[DONE]};
  sd_value *score = XG(g, "Where", column(g, s, extra[DONE]), sd_xg_f32(g, -INFINITY), normalized(g, s, extra[BEAM], length));
  add_hypotheses(g, s, state, score, seq, length);
  if (g->st) return;
  outs[0] = returned(g, s, state[HYP_TOKENS]);
  sd_value *best = returned(g, s, state[HYP_SCORE]);
  sd_dtype t = s->n->n_out > 1 && s->n->out[1] ? s->n->out[1]->dtype : SD_F32;
  outs[1] = best ? sd_xg_cast(g, t, best) : NULL;
  if (!stacked) return;
  sd_dim left = sd_dim_sub(s->t, sd_dim_sub(s->t, s->max, s->prompt), stacked->dims[0]);
  sd_value *rest = sd_xg_expand(g, sd_xg_f32(g, 0), (sd_dim[]){left, s->batch, s->beams, s->vocab}, 4);
  sd_value *all = XG(g, "Concat axis=0", stacked, rest);
  outs[2] = all ? sd_xg_cast(g, s->n->out[2]->dtype, all) : NULL;
}

sard_status *sd_rewrite_beam_search(sd_node *n) {
  static const sd_search_kind kind = {N_STATES, beam_start, beam_step, beam_finish};
  return sd_search_rewrite(n, &kind);
}
