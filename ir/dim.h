// Dimensions: hash-consed integer expressions over symbols, in canonical form, so that equal ones have equal handles.
//
// A static dim is the constant case, not another code path. Canonical form is a sum of coefficient * product of atoms
// plus a constant; atoms are symbols and the non-linear operations. Thus (N*12)/12 is N and N+N is 2*N. Arithmetic
// that overflows int64 gives SD_DIM_NONE, which every operation passes on; callers report it where it matters.
// Symbols of shapes are >= 0 (range [min, max], used to decide comparisons).
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/str.h"

typedef uint32_t sd_dim; // handle into an sd_dimtab
#define SD_DIM_NONE 0u   // unknown, or overflow

typedef enum sd_dimop {
  SD_DIM_CONST,    // value
  SD_DIM_SYM,      // symbol name
  SD_DIM_SUM,      // value + sum of args[i]*coef[i]; args are products or atoms
  SD_DIM_PROD,     // product of atoms args[i] (sorted, repetition for powers)
  SD_DIM_FLOORDIV, // args[0] / args[1], rounding to minus infinity
  SD_DIM_CEILDIV,  // rounding to plus infinity
  SD_DIM_MOD,      // args[0] - floordiv*args[1]
  SD_DIM_MIN,
  SD_DIM_MAX,
  SD_DIM_BCAST, // what two sizes broadcast to: the larger one, but 0 where one is 0
} sd_dimop;

typedef struct sd_dimnode {
  sd_dimop op;
  int64_t value;       // CONST; constant term of SUM
  const char *name;    // SYM
  uint32_t n;          // number of args
  const sd_dim *args;
  const int64_t *coef; // SUM
  int64_t min, max;    // proven bounds (saturating)
} sd_dimnode;

typedef struct sd_dimtab sd_dimtab;

sd_dimtab *sd_dimtab_new(sd_arena *a);
const sd_dimnode *sd_dim_get(const sd_dimtab *t, sd_dim d); // d != SD_DIM_NONE
sd_dim sd_dim_const(sd_dimtab *t, int64_t v);
sd_dim sd_dim_sym(sd_dimtab *t, const char *name);  // the symbol of that name, made (range [0, INT64_MAX/4]) when new
sd_dim sd_dim_fresh(sd_dimtab *t, const char *hint); // a new symbol with a unique name made from hint
void sd_dim_set_range(sd_dimtab *t, sd_dim sym, int64_t min, int64_t max);
// What schedules take a batch of unknown size for (1 at first), and whether a symbol looks like one by its name.
void sd_dim_guess_batch(sd_dimtab *t, int64_t size);
int64_t sd_dim_batch_guess(const sd_dimtab *t);
bool sd_dim_is_batch(const char *symbol);
// For sd_dim_eval, with the table as `user`: the size that estimates take a symbol for, within its range. Always true.
bool sd_dim_usual(void *user, const char *symbol, int64_t *out);
enum { SD_DIM_USUAL = 128 };
// Sizes but that of a batch are taken for `size` there (SD_DIM_USUAL at first).
void sd_dim_guess_size(sd_dimtab *t, int64_t size);
// That symbol is taken for `size` there, whatever its name; of several the last one.
void sd_dim_guess(sd_dimtab *t, sd_dim symbol, int64_t size);

sd_dim sd_dim_add(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_sub(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_mul(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_floordiv(sd_dimtab *t, sd_dim a, sd_dim b); // b == const 0 gives SD_DIM_NONE; exact division simplifies
sd_dim sd_dim_ceildiv(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_mod(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_min(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_max(sd_dimtab *t, sd_dim a, sd_dim b);
sd_dim sd_dim_bcast(sd_dimtab *t, sd_dim a, sd_dim b); // of sizes: a and b are not negative
sd_dim sd_dim_product(sd_dimtab *t, const sd_dim *dims, int n); // 1 for n = 0

bool sd_dim_is_const(const sd_dimtab *t, sd_dim d, int64_t *out_value); // out_value may be NULL
bool sd_dim_is(const sd_dimtab *t, sd_dim d, int64_t value);
// Decides a comparison where the bounds prove it: returns 1 (always true), 0 (always false), -1 (not known).
int sd_dim_eq(const sd_dimtab *t, sd_dim a, sd_dim b);
int sd_dim_lt(const sd_dimtab *t, sd_dim a, sd_dim b);
// True when `d` is provably a multiple of k.
bool sd_dim_multiple_of(const sd_dimtab *t, sd_dim d, int64_t k);

// Evaluates with the symbol values that `sym(user, name, &v)` supplies; false on a missing symbol, zero division or
// overflow.
bool sd_dim_eval(const sd_dimtab *t, sd_dim d, bool (*sym)(void *user, const char *name, int64_t *v), void *user,
                 int64_t *out);
// Replaces symbols by dims of the same table (subst returns SD_DIM_NONE to keep one).
sd_dim sd_dim_subst(sd_dimtab *t, sd_dim d, sd_dim (*subst)(void *user, const char *name), void *user);

// Text: "N", "4", "2*N+1", "floordiv(N+1,2)", "max(N,1)"; "?" for SD_DIM_NONE. Names that are no identifiers are
// quoted.
void sd_dim_print(const sd_dimtab *t, sd_dim d, sd_str *out);
const char *sd_dim_text(const sd_dimtab *t, sd_dim d, sd_arena *a); // the same into an arena
// Parses that text from *p on and advances it; SD_DIM_NONE and an unchanged *p when it is none ("?" is accepted).
sd_dim sd_dim_parse(sd_dimtab *t, const char **p);
