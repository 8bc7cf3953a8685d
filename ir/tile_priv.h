// Shared by the tile_*.c files only: raw interning, rebuilding, walks over the expression DAG, scalar semantics.
#pragma once
#include "ir/tile.h"

// ---- interning without simplification ----
// The expression equal to *proto, made when new (arrays are copied). Fields id, axis_mask and bounds are ignored.
sd_expr *sd_tile_intern(sd_kernel *k, const sd_expr *proto);
sd_expr *sd_tile_raw(sd_kernel *k, sd_xop op, sd_dtype t, sd_expr *const *a, uint32_t n);
// The same operation as e over other operands, through the simplifying constructors.
sd_expr *sd_tile_rebuild(sd_kernel *k, const sd_expr *e, sd_expr *const *a);

// ---- I64 canonical form (tile_affine.c) ----
// NULL when the result does not fit the form (overflow, too many terms): the caller then makes a plain operation.
sd_expr *sd_tile_affine_add(sd_kernel *k, sd_expr *x, sd_expr *y, int sign);
sd_expr *sd_tile_affine_scale(sd_kernel *k, sd_expr *x, sd_dim d);
sd_expr *sd_tile_affine_div(sd_kernel *k, sd_expr *x, sd_dim d);
sd_expr *sd_tile_affine_mod(sd_kernel *k, sd_expr *x, sd_dim d);
// Sum of coef[i]*a[i] + c where the a[i] may be any I64 expressions.
sd_expr *sd_tile_affine_sum(sd_kernel *k, uint32_t n, sd_expr *const *a, const sd_dim *coef, sd_dim c);
bool sd_tile_is_dim(const sd_expr *e, sd_dim *out); // an AFFINE without terms
// Proven sign facts of x - y: 1 always < 0, 0 always >= 0, -1 not known; and for `le`, <= 0 and > 0.
int sd_tile_decide_lt(sd_kernel *k, sd_expr *x, sd_expr *y);
// Position of an atom among the terms of an AFFINE: axes by id, then others by id.
bool sd_tile_atom_before(const sd_expr *x, const sd_expr *y);

// ---- scalars (tile_scalar.c) ----
typedef struct sd_scalar { double f; int64_t i; } sd_scalar; // by the dtype: f for floats, i for others
int64_t sd_scalar_wrap(sd_dtype t, int64_t v); // to the width of integer type t; BOOL gives 0 or 1
// Value of op over constants x[] of type `from` with result type `to`; false when op has no constant value.
bool sd_scalar_eval(sd_xop op, sd_dtype from, sd_dtype to, const sd_scalar *x, sd_scalar *out);
int64_t sd_scalar_from_float(sd_dtype t, double v); // CAST float -> integer or BOOL
typedef struct sd_float_fns { float (*f)(float); double (*d)(double); } sd_float_fns;
const sd_float_fns *sd_scalar_float_fns(sd_xop op); // unary float functions; NULL when op is none
typedef struct sd_float_fns2 { float (*f)(float, float); double (*d)(double, double); } sd_float_fns2;
const sd_float_fns2 *sd_scalar_float_fns2(sd_xop op); // POW, FMOD, MIN, MAX
int64_t sd_scalar_ipow(int64_t x, int64_t y, bool is_unsigned);

// ---- walks ----
// Memo by expression id: taken, used and given back (nesting is allowed). Zeroed for the ids that exist when taken.
typedef struct sd_memo { void **at; uint32_t cap; } sd_memo;
sd_memo sd_memo_take(sd_kernel *k);
void sd_memo_give(sd_kernel *k, sd_memo m);
// Simultaneous substitution of several axes, with a memo that several calls may share.
typedef struct sd_subst { sd_kernel *k; uint32_t n; const sd_axis *const *axes; sd_expr *const *by; sd_memo memo; } sd_subst;
sd_subst sd_subst_begin(sd_kernel *k, uint32_t n, const sd_axis *const *axes, sd_expr *const *by);
sd_expr *sd_subst_apply(sd_subst *s, sd_expr *e); // NULL stays NULL
void sd_subst_end(sd_subst *s);
// Calls visit once for every expression reachable from e (operands first) that `seen` does not hold yet.
void sd_tile_walk(sd_kernel *k, sd_expr *e, sd_memo *seen, void (*visit)(void *user, sd_expr *e), void *user);
// All expressions of the kernel by id (arena of the kernel when `a` is NULL), and for each the set of axes that are
// free in it: `words` 64-bit words per expression, bit = axis id.
sd_expr **sd_tile_by_id(const sd_kernel *k, sd_arena *a);
typedef struct sd_axis_sets { uint32_t words; uint64_t *bits; } sd_axis_sets;
sd_axis_sets sd_tile_free_axes(const sd_kernel *k, sd_expr *const *by_id, sd_arena *a);
static inline bool sd_axis_sets_has(const sd_axis_sets *s, const sd_expr *e, const sd_axis *x) {
  return s->bits[(size_t)e->id * s->words + x->id / 64] >> (x->id % 64) & 1;
}
// Calls fn for every nest of the items, inside loops too.
void sd_tile_each_nest(const sd_items *items, void (*fn)(void *user, sd_nest *n), void *user);
// Text of the operations.
const char *sd_xop_text(sd_xop op);
const char *sd_xop_name(sd_xop op);
int sd_xop_arity(sd_xop op);
const char *sd_rop_text(sd_rop r);
