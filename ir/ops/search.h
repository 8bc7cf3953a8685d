// GreedySearch and BeamSearch: a loop (sard.While) around the decoder's body. Each step chooses one token for each row, a
// row being a sequence of the batch, or a beam of one.
#pragma once
#include "ir/ops/xgraph.h"

bool sd_search_is(const sd_op *op);
// Dims of input i of the body that is being made of node n, in place; *rank is what the body declares.
sard_status *sd_search_input(const sd_node *n, uint32_t i, sd_dim *dims, int *rank);

typedef struct sd_search {
  sd_node *n;
  sd_dimtab *t;
  bool beam;
  sd_dim batch, beams, rows, returned, prompt, max; // rows = batch * beams
  sd_dim vocab;
  int64_t eos, pad, ngram;
  uint32_t layers;
} sd_search;

// What a step works on. Dims: length = tokens so far, of which the last `step` are new to the decoder.
typedef struct sd_step {
  sd_value *seq;      // i32 [rows, length]
  sd_value *scores;   // f32 [rows, V]: of the next token
  sd_dim length;
  sd_value **extra;   // states of the kind of search, replaced by the next ones
  sd_value *more;     // bool scalar: the search goes on
  sd_value *next;     // i32 [rows]: the tokens chosen
  sd_value *from;     // i64 [rows]: the rows that go on (beams), NULL: all as they are
  sd_value *stacked;  // collected from all steps, or NULL
} sd_step;

// A kind of search: its states in the beginning, a step, and the outputs of the node (with the states as the loop left them).
typedef struct sd_search_kind {
  uint32_t n_extra;
  void (*start)(xg *g, const sd_search *s, sd_value **extra);
  void (*step)(xg *g, const sd_search *s, sd_step *w);
  void (*finish)(xg *g, const sd_search *s, sd_value *seq, sd_dim length, sd_value **extra, sd_value *stacked, sd_value **outs);
} sd_search_kind;
sard_status *sd_search_rewrite(sd_node *n, const sd_search_kind *kind);

// ---- pieces ----
sd_value *sd_search_operand(const sd_node *n, const char *name); // NULL when omitted
sd_value *sd_search_dim(xg *g, sd_dim d, sd_dtype t);            // a size as a scalar
sd_value *sd_search_range(xg *g, sd_dim n, sd_dtype t);          // 0, 1, ... n - 1
sd_value *sd_search_any(xg *g, sd_value *v);                     // bool scalar: one is true
// v [rows, length] filled with the padding token up to `to` columns.
sd_value *sd_search_padded(xg *g, const sd_search *s, sd_value *v, sd_dim length, sd_dim to);
// Scores of the next token: the last row of the logits, changed by what the node's operands ask for.
sd_value *sd_search_scores(xg *g, const sd_search *s, sd_value *logits, sd_value *seq, sd_dim step, sd_dim length);
