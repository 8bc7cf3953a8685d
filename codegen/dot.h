// Sums of products of integers of 8 or 16 bits, and of bf16, in the form that processors add several of at once: the steps of the sum are
// taken apart into turns and the steps of 32 bits side by side, and both factors have these side by side in memory. Instructions
// for bf16 add the two products of a turn to an f32 in an order of their own and take denormals, of what they read and
// write, as zeros.
//
// Factors of f32 may be three bf16 each, whose sum they are (codegen/triple.h): sum(a.. : (a1 + (a2 + a3)) * (w1 + (w2 + w3))).
// That is what vectors compute; matrix registers add the six largest of the nine products. Where w is one bf16, there are three.
//
// Tables may say that two products of u8 by i8 fit 16 bits together (ir/ops/sparse_blocks.h): sum(a.. : cast.i32(cast.i16(a) * cast.i16(w))).
// The steps side by side may be read in an order then that a table has, or those of two turns fit together.
#pragma once
#include "codegen/choose_nest.h"

enum { SD_DOT_LEAST_STEP = 4, SD_DOT_PARTS = 3, SD_DOT_GROUP = 16 };

typedef struct sd_dot {
  // Loads of 8 bits, of i16, or of bf16: a has one element for all lanes, w side by side elements in each lane. One each, or the parts, largest
  // first.
  const sd_expr *a[SD_DOT_PARTS], *w[SD_DOT_PARTS];
  int parts, w_parts; // of a and of w: 1 and 1, 3 and 3, 3 and 1
  const sd_axis *turns, *side; // the last two axes of the sum, but for `both`
  int64_t steps;               // side by side: 4 of 8 bits, 2 of 16
  bool pairs;          // two products fit 16 bits
  const sd_axis *both; // NULL, or the axis between turns and steps side by side, of two whose products fit 16 bits together
  // NULL, or the place of a step of a in SD_DOT_GROUP elements, which is added to the offset: a load of 8 bits as I64
  const sd_expr *order;
} sd_dot;

// The reductions of the nest that are sums of such products, of a constant that can be packed, get that form where the set
// has instructions for it. Loads and
// reductions are collected anew.
sard_status *sd_dot_choose(sd_choice *c);
// Puts in the place of reductions of the nest those whose last axis is taken apart into turns and as many steps side by side as
// `steps` says of each, 1: it stays. Whether there were some: then loads and reductions are to be collected anew.
typedef int64_t sd_dot_steps(sd_choice *c, const sd_expr *r);
bool sd_dot_take_apart(sd_choice *c, sd_dot_steps *steps);
// Tiles have `n` registers from here on: what a turn computes on the way takes the others, SD_DOT_SPARE where a turn is more than
// one instruction.
#define SD_DOT_SPARE 5
void sd_dot_registers(sd_choice *c, int n);
// Is r, a reduction, in that form, with both factors in place for vectors along `lanes`?
bool sd_dot_is(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, sd_dot *out);
// Are there more products in the nest than vectors add in the time that it takes to configure matrix registers?
bool sd_dot_many(sd_kernel *k, const sd_nest *n, const sd_expr *r);
// What r needs for matrix registers besides: turns of known number, of which a step is not too short and the last can be read as a
// whole, and rows of `a` at one distance along axis u. *turns: their number.
bool sd_dot_rows(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, const sd_axis *u, int64_t *turns);
// The last turn of r, whose constant is packed, takes all of its steps: they are zeros there (integers only).
void sd_dot_whole(sd_kernel *k, const sd_expr *r);
// Parts of the factor of r that has more of them: 1, 3.
int sd_dot_parts(sd_kernel *k, const sd_expr *r);
// The steps side by side of one whose steps are taken apart, 1 for others (NULL too).
int64_t sd_dot_side(sd_kernel *k, const sd_expr *r);
// Turns that one instruction on matrix registers adds, of so many: at most 16, and all of them in whole steps. Below
// SD_DOT_LEAST_STEP vectors are faster.
int64_t sd_dot_step(int64_t turns);
// Sets where the steps of p end, the packed form of a factor of r, when that is before its last turn does.
void sd_dot_limit(sd_kernel *k, const sd_expr *r, sd_pack *p);
