// How the outputs of layers are followed: values as labels over pieces of their axes. Shared by prune_flow.c
// (operators), prune_label.c and prune_shape.c.
#pragma once
#include "frontend/onnx/prune_internal.h"
#include "ir/op.h"

// An axis of dim d is, from the outside to the inside, d / (n * inner) times n places of `inner` elements
// each: the places have labels. Heads that were merged with a batch in front of them are a piece of n heads
// with an inner of 1.
typedef struct sd_strand_piece {
  int axis;
  uint32_t n;
  sd_dim inner;
} sd_strand_piece;

enum { SD_PIECES = 4 };

// A value whose pieces have a label for each combination of their places. In the order of axes, and within
// one from the outside.
typedef struct sd_strand {
  int k;
  sd_strand_piece of[SD_PIECES];
  uint32_t n;   // labels: the product of the pieces
  uint32_t *at; // row-major
} sd_strand;

// What a shape operand has to say of a flow. Which of the pieces is the one that loses places is known at the
// end only.
typedef struct sd_sized {
  const sd_node *n;
  const sd_strand *f; // of its result 0
  int64_t rest;       // what it says where it says no size: -1 for what is left, 1 for what the operand has
} sd_sized;

// Hidden units of a recurrent layer.
typedef struct sd_hidden {
  uint32_t *at, parts, n; // labels [parts][n]: parts are directions
} sd_hidden;

// States of several layers in one value, which lose as many of each: an input or output of the model, or what joins them.
typedef enum sd_outside_kind { SD_IS_INPUT, SD_IS_OUTPUT, SD_IS_JOINED } sd_outside_kind;
typedef struct sd_outside {
  const sd_value *v;
  const sd_strand *f;
  sd_outside_kind kind;
} sd_outside;

typedef struct sd_following {
  sd_arena *a;
  sd_proto *p;
  const sd_module *m;
  const sd_prune_units *units;
  sd_prune_channels *c;
  const sd_node *at; // the node in question, while nodes are walked
  sd_strand **of;    // by value id; NULL: no labels
  sd_names values;   // of the module, by name, that have labels
  SD_VEC(sd_sized) sized;
  SD_VEC(sd_hidden) hidden;
  bool resize; // states outside may get other sizes
  SD_VEC(sd_outside) outside;
} sd_following;

// ---- labels (prune_label.c) ----
sd_strand *sd_strand_of(const sd_following *g, const sd_value *v);
// n labels of no layer, which meet others or never go.
uint32_t *sd_strand_free(sd_following *g, uint32_t n);
// Labels that v has from now on. The pieces may be in any order, the first `f->k` of them in that of the
// labels.
sd_strand *sd_strand_put(sd_following *g, const sd_value *v, const sd_strand *f);
// Places along one axis.
sd_strand *sd_strand_put_axis(sd_following *g, const sd_value *v, int axis, uint32_t n, uint32_t *at);
void sd_strand_unite(sd_following *g, uint32_t a, uint32_t b);
void sd_strand_fix(sd_following *g, const sd_strand *f); // f may be NULL
// The flow with the pieces of the bits `keep` alone: what differs in the others goes together. NULL: none is
// left, and the labels are fixed.
sd_strand *sd_strand_keep(sd_following *g, const sd_strand *f, unsigned keep);
// The pieces of f that lie on axes from `from` to `to`, as bits.
unsigned sd_strand_on(const sd_strand *f, int from, int to);
// The pieces are the same, where those of b lie `shift` axes in front of those of a.
bool sd_strand_alike(const sd_strand *a, const sd_strand *b, int shift);
// Labels in the same place become one; false: the pieces are not alike.
bool sd_strand_meet(sd_following *g, const sd_strand *a, const sd_strand *b, int shift);
// The piece on the axis within which `at` elements end becomes two, if they divide it.
void sd_strand_part(sd_following *g, sd_strand *f, int axis, int64_t at);
// Pieces that overlap are taken apart, in copies of both, so that they are alike where they do: heads of queries as groups, of which
// each shares a key, and places within these. The axes of b lie `shift` in front of those of a.
void sd_strand_align(sd_following *g, sd_strand **a, sd_strand **b, int shift);
// The pieces of a that b has, too, as bits.
unsigned sd_strand_common(const sd_strand *a, const sd_strand *b, int shift);
// What both have in common, where labels in the same place become one; NULL: nothing, and labels are fixed.
sd_strand *sd_strand_agree(sd_following *g, sd_strand *a, sd_strand *b);
// A label for each element of the axis of v; NULL: the axis has none of its own, other axes have some, or the
// sizes are not known.
uint32_t *sd_strand_along(sd_following *g, const sd_strand *f, const sd_value *v, int axis);
// The size of an axis; -1: it is not known.
int64_t sd_strand_dim(const sd_following *g, const sd_value *v, int axis);
// The node of the file that n is; NULL: it is none.
const Onnx__NodeProto *sd_strand_node(const sd_following *g, const sd_node *n);
// Operand i of the node is a constant of the file whose axis loses what the labels lose; else false.
bool sd_strand_cut(sd_following *g, const sd_node *n, uint32_t i, int axis, uint32_t *labels, uint32_t count,
                   sd_prune_cut_kind kind);
// The same where each of the `parts` of axis 0 has `count` labels of its own.
bool sd_strand_cut_parts(sd_following *g, const sd_node *n, uint32_t i, int axis, uint32_t *labels,
                         uint32_t count, uint32_t parts, sd_prune_cut_kind kind);
// The unit of operand i of a node, NULL: it is none that may change.
const sd_prune_unit *sd_strand_unit(const sd_following *g, const sd_node *n, int i, uint32_t *index);
// An attribute that says how many of the labels there are.
void sd_strand_count(sd_following *g, const sd_node *n, const char *attribute, uint32_t *labels, uint32_t count);

// The axis of its operand that `axis` of the result of a Transpose is.
int sd_strand_transposed(const sd_node *n, int axis);

// ---- attention as one operator (prune_attention.c) ----
void sd_strand_attention(sd_following *g, const sd_node *n);

// ---- what writes parts of a value (prune_write.c) ----
bool sd_strand_writes(const sd_node *n); // into a copy of its first operand
// The axes of its result along which such a node finds places, as bits.
unsigned sd_strand_whole(const sd_following *g, const sd_node *n);
void sd_strand_written(sd_following *g, const sd_node *n);

// ---- recurrent layers (prune_states.c) ----
void sd_strand_states(sd_following *g, const sd_node *n);

// ---- as many of each (prune_pair.c) ----
// Behind all nodes: hidden units of both directions, and of layers whose states are one input or output, go together, so that as many
// of each go.
void sd_strand_pair(sd_following *g);
// The same of what else is one input or output, once it is known which of its places go together.
void sd_strand_pair_outside(sd_following *g);

// ---- states that are inputs and outputs of the model (prune_io.c) ----
// In front of all nodes: labels of the inputs that are states, of no layer.
void sd_strand_inputs(sd_following *g);
// An output whose labels are those of states; false: it is none.
bool sd_strand_output(sd_following *g, const sd_value *v);
// The input of the model that a value is moved from, without computing; NULL: it is none.
const sd_value *sd_strand_source(const sd_value *v);
bool sd_strand_is_state(const sd_following *g, const sd_strand *f);
// Parts along an axis of states of several layers; false: they are none. What takes them apart, and what joins them.
bool sd_strand_slice(sd_following *g, const sd_node *n);
bool sd_strand_pick(sd_following *g, const sd_node *n, int axis);
bool sd_strand_parts(sd_following *g, const sd_node *n, int axis);
bool sd_strand_join(sd_following *g, const sd_node *n, int axis);
// The piece of f that loses places where each combination of those in front of it has its own; -1: none does.
int sd_strand_losing(const sd_following *g, const sd_strand *f);
void sd_strand_resize_outside(sd_following *g); // behind all that: what they become

// ---- shapes (prune_shape.c) ----
void sd_strand_expand(sd_following *g, const sd_node *n);
void sd_strand_reshape(sd_following *g, const sd_node *n);
void sd_strand_squeeze(sd_following *g, const sd_node *n);
void sd_strand_split(sd_following *g, const sd_node *n);
void sd_strand_gather(sd_following *g, const sd_node *n);
// Behind all nodes: which places go together so that what is left are boxes, and the sizes that change.
void sd_strand_sizes(sd_following *g);
