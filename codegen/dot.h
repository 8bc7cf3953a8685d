// Sums of products of 8-bit integers in the form that processors add several of at once: the steps of the sum are taken
// apart into turns and SD_DOT_SIDE steps side by side, and both factors have these side by side in memory.
#pragma once
#include "codegen/choose_nest.h"

enum { SD_DOT_SIDE = 4, SD_DOT_LEAST_STEP = 4 };

typedef struct sd_dot {
  const sd_expr *a, *w;       // loads of 8 bits: a has one element for all lanes, w side by side elements in each lane
  const sd_axis *turns, *side; // the last two axes of the sum
} sd_dot;

// The reductions of the nest that are sums of such products, of a constant that can be packed, get that form. Loads and
// reductions are collected anew.
sard_status *sd_dot_choose(sd_choice *c);
// Is r, a reduction, in that form, with both factors in place for vectors along `lanes`?
bool sd_dot_is(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, sd_dot *out);
// Are there more products in the nest than vectors add in the time that it takes to configure matrix registers?
bool sd_dot_many(sd_kernel *k, const sd_nest *n, const sd_expr *r);
// What r needs for matrix registers besides: turns of known number, of which a step is not too short and the last can be read as a
// whole, and rows of `a` at one distance along axis u. *turns: their number.
bool sd_dot_rows(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, const sd_axis *u, int64_t *turns);
// The last turn of r, whose constant is packed, takes all of its steps: they are zeros there.
void sd_dot_whole(sd_kernel *k, const sd_expr *r);
// SD_DOT_SIDE for one whose steps are taken apart, 1 for others (NULL too).
int64_t sd_dot_side(sd_kernel *k, const sd_expr *r);
// Turns that one instruction on matrix registers adds, of so many: at most 16, and all of them in whole steps. Below
// SD_DOT_LEAST_STEP vectors are faster.
int64_t sd_dot_step(int64_t turns);
// Puts the steps side by side behind the lanes, of which dim n-1 of p is the axis, and sets where the steps end.
void sd_dot_pack(sd_kernel *k, const sd_expr *r, sd_pack *p);
