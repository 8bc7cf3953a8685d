// What changes the scores of the next token: repetition, repeated n-grams, masks, a least length.
#include <float.h>

#include "ir/ops/search.h"

static sd_value *lowest(xg *g) { return sd_xg_f32(g, -FLT_MAX); }
static sd_dim one(const sd_search *s) { return sd_dim_const(s->t, 1); }

static sd_value *forbid(xg *g, sd_value *scores, sd_value *where) { return XG(g, "Where", where, lowest(g), scores); }

// i32 [rows, V]: 1 where `on` (i32, like tokens) is 1 for a token.
static sd_value *mark(xg *g, const sd_search *s, sd_value *tokens, sd_value *on) {
  sd_value *zeros = sd_xg_expand(g, sd_xg_num(g, SD_I32, 0), (sd_dim[]){s->rows, s->vocab}, 2);
  return XG(g, "Greater", XG(g, "ScatterElements axis=1 reduction=max", zeros, tokens, on), sd_xg_num(g, SD_I32, 0));
}

static sd_value *repetition(xg *g, const sd_search *s, sd_value *x, sd_value *seq, sd_value *penalty) {
  sd_value *p = sd_xg_cast(g, SD_F32, penalty), *on = seq ? sd_xg_expand(g, sd_xg_num(g, SD_I32, 1), seq->dims, 2) : NULL;
  sd_value *less = XG(g, "Where", XG(g, "Less", x, sd_xg_f32(g, 0)), XG(g, "Mul", x, p), XG(g, "Div", x, p));
  return XG(g, "Where", mark(g, s, seq, on), less, x);
}

// Columns j + k of seq, for j in 0 .. windows.
static sd_value *columns(xg *g, sd_value *seq, sd_dim windows, int64_t k) {
  return XG(g, "Gather axis=1", seq, XG(g, "Add", sd_search_range(g, windows, SD_I64), sd_xg_num(g, SD_I64, (double)k)));
}

// Tokens that would end an n-gram which is there already.
static sd_value *repeated(xg *g, const sd_search *s, sd_value *seq, sd_dim length) {
  sd_dimtab *t = s->t;
  sd_dim zero = sd_dim_const(t, 0), first = sd_dim_sub(t, length, sd_dim_const(t, s->ngram - 1)); // of the last n - 1 tokens
  sd_dim windows = sd_dim_max(t, first, zero);
  sd_value *same = NULL;
  for (int64_t k = 0; k < s->ngram - 1 && !g->st; k++) {
    sd_dim at = sd_dim_max(t, sd_dim_add(t, first, sd_dim_const(t, k)), zero);
    sd_value *last = XG(g, "Gather axis=1", seq, sd_xg_dims(g, &at, 1));
    sd_value *equal = XG(g, "Equal", columns(g, seq, windows, k), last);
    same = same ? XG(g, "And", same, equal) : equal;
  }
  sd_value *next = columns(g, seq, windows, s->ngram - 1);
  sd_value *on = same ? sd_xg_cast(g, SD_I32, same) : next ? sd_xg_expand(g, sd_xg_num(g, SD_I32, 1), next->dims, 2) : NULL;
  return mark(g, s, next, on);
}

static sd_value *is_zero(xg *g, sd_value *v) { return XG(g, "Equal", v, v ? sd_xg_num(g, v->dtype, 0) : NULL); }

static sd_value *masks(xg *g, const sd_search *s, sd_value *x, sd_dim length) {
  sd_value *words = sd_search_operand(s->n, "vocab_mask"), *prefix = sd_search_operand(s->n, "prefix_vocab_mask");
  if (words) x = forbid(g, x, is_zero(g, sd_xg_reshape(g, words, &s->vocab, 1)));
  if (prefix) { // for the first token only
    sd_value *first = is_zero(g, sd_search_dim(g, sd_dim_sub(s->t, length, s->prompt), SD_I64));
    prefix = sd_xg_reshape(g, prefix, (sd_dim[]){s->batch, s->vocab}, 2);
    x = forbid(g, x, XG(g, "And", first, is_zero(g, sd_search_by_row(g, s, prefix))));
  }
  return x;
}

static sd_value *not_yet(xg *g, const sd_search *s, sd_value *x, sd_dim length, sd_value *least) {
  sd_value *early = XG(g, "Less", sd_search_dim(g, length, SD_I64), sd_xg_cast(g, SD_I64, least));
  sd_value *end = XG(g, "Equal", sd_search_range(g, s->vocab, SD_I64), sd_xg_ints(g, &s->eos, -1));
  return forbid(g, x, XG(g, "And", end, early));
}

sd_value *sd_search_scores(xg *g, const sd_search *s, sd_value *logits, sd_value *seq) {
  sd_dim length = seq->dims[1], last = sd_dim_sub(s->t, logits->dims[1], one(s));
  sd_value *x = XG(g, "Gather axis=1", logits, sd_xg_dims(g, &last, -1));
  sd_value *penalty = sd_search_operand(s->n, "repetition_penalty"), *least = sd_search_operand(s->n, "min_length");
  if (x && x->dims[1] != s->vocab) x = XG(g, "Gather axis=1", x, sd_search_range(g, s->vocab, SD_I64)); // without filling
  if (x) x = sd_xg_cast(g, SD_F32, x);
  if (s->beam) x = XG(g, "LogSoftmax axis=-1", x);
  if (penalty) x = repetition(g, s, x, seq, penalty);
  if (s->ngram > 0) x = forbid(g, x, repeated(g, s, seq, length));
  x = masks(g, s, x, length);
  return least ? not_yet(g, s, x, length, least) : x;
}
