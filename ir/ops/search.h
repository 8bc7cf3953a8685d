// GreedySearch and BeamSearch: a loop (sard.While) around the decoder's body. Each step chooses one token for each row,
// a row being a sequence of the batch, or a beam of one.
//
// search.c         the loop and the greedy choice
// search_beam.c    the choice of beams
// search_scores.c  what changes scores
// search_decoder.c, search_encoder.c  the two forms of models: a decoder alone, an encoder with a decoder
#pragma once
#include "ir/ops/xgraph.h"

bool sd_search_is(const sd_op *op);
// Dims of input i of the body that is being made of node n, by the name of that input, in place; *rank is what the body
// declares.
sard_status *sd_search_input(const sd_node *n, uint32_t i, const char *name, sd_dim *dims, int *rank);

typedef struct sd_search {
  sd_node *n;
  sd_dimtab *t;
  const struct sd_search_form *form;
  bool beam;
  sd_dim batch, beams, rows, returned, prompt, max; // rows = batch * beams
  sd_dim vocab;
  int64_t eos, pad, ngram;
  uint32_t layers;  // pasts that change from step to step
  uint32_t first;   // index of the first past among the decoder's inputs
  sd_value **outer; // for each input of the decoder that no step changes the value it has, else NULL
} sd_search;

// A form of models. States of the loop: `fixed` ones, of which number `sequence` is the tokens so far (i32 [rows,
// length]), then the pasts, then those of the kind of search.
typedef struct sd_search_form {
  uint32_t fixed, sequence;
  int axis; // of the rows in pasts
  // Dims of input i of body g; see sd_search_input.
  sard_status *(*input)(const sd_search *s, const sd_graph *g, uint32_t i, const char *name, sd_dim *dims, int *rank);
  sard_status *(*read)(const sd_node *n, sd_search *s);   // checks the bodies; sets layers, first
  sard_status *(*prompt)(const sd_node *n, sd_search *s); // checks operand 0; sets batch, prompt
  // The states in the beginning. Where a body gives the logits of the first step, its nodes stand before n now: *logits
  // and the presents.
  void (*begin)(xg *g, sd_search *s, sd_value **state, sd_value **logits, sd_value **presents);
  // The states as inputs of the decoder's body, which g->at is in; others of its inputs are replaced.
  void (*bind)(xg *g, const sd_search *s, sd_graph *body, sd_value **state);
  // The fixed states but the sequence behind a token [rows, 1]; NULL: there are none.
  void (*next)(xg *g, const sd_search *s, sd_value *token, sd_value **state);
} sd_search_form;
extern const sd_search_form sd_search_decoder, sd_search_encoder;

// What a step works on.
typedef struct sd_step {
  sd_value *seq;    // i32 [rows, length]
  sd_value *scores; // f32 [rows, V]: of the next token
  sd_dim length;
  sd_value **extra;  // states of the kind of search, replaced by the next ones
  sd_value *more;    // bool scalar: the search goes on
  sd_value *next;    // i32 [rows]: the tokens chosen
  sd_value *from;    // i64 [rows]: the rows that go on (beams), NULL: all as they are
  sd_value *stacked; // collected from all steps, or NULL
} sd_step;

// A kind of search: its states in the beginning, a step, and the outputs of the node (with the states as the loop left
// them).
typedef struct sd_search_kind {
  uint32_t n_extra;
  void (*start)(xg *g, const sd_search *s, sd_value **extra);
  void (*step)(xg *g, const sd_search *s, sd_step *w);
  void (*finish)(xg *g, const sd_search *s, sd_value *seq, sd_dim length, sd_value **extra, sd_value *stacked,
                 sd_value **outs);
} sd_search_kind;
sard_status *sd_search_rewrite(sd_node *n, const sd_search_kind *kind);

// ---- pieces ----
sd_value *sd_search_operand(const sd_node *n, const char *name); // NULL when omitted
sd_value *sd_search_dim(xg *g, sd_dim d, sd_dtype t);            // a size as a scalar
sd_value *sd_search_range(xg *g, sd_dim n, sd_dtype t);          // 0, 1, ... n - 1
sd_value *sd_search_any(xg *g, sd_value *v);                     // bool scalar: one is true
// v [batch, ...] to [rows, ...]: each row of the batch for all of its beams.
sd_value *sd_search_by_row(xg *g, const sd_search *s, sd_value *v);
// v [rows, length] filled with the padding token up to `to` columns.
sd_value *sd_search_padded(xg *g, const sd_search *s, sd_value *v, sd_dim length, sd_dim to);
// The nodes of a body in front of g->at, with values in place of its inputs.
void sd_search_inline(xg *g, sd_graph *body, sd_value *const *in);
// Scores of the next token: the last row of the logits, changed by what the node's operands ask for.
sd_value *sd_search_scores(xg *g, const sd_search *s, sd_value *logits, sd_value *seq);
