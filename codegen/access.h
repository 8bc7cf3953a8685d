// Accesses of a nest: which buffers are read how, per axis; what schedules and packing are chosen from.
#pragma once
#include "ir/tile.h"

// How an offset moves with an axis.
typedef enum sd_stride {
  SD_STRIDE_ZERO,   // does not depend on the axis
  SD_STRIDE_ONE,    // next element
  SD_STRIDE_MANY,   // affine, another constant or a symbolic coefficient
  SD_STRIDE_OPAQUE, // inside a non-affine expression
} sd_stride;

typedef struct sd_access {
  sd_expr *load;         // LOAD
  const sd_expr *reduce; // innermost REDUCE that contains it, NULL outside of reductions
} sd_access;
typedef SD_VEC(sd_access) sd_accesses;

typedef struct sd_reduction {
  sd_expr *expr;             // REDUCE
  const sd_expr *parent;     // enclosing REDUCE or NULL
} sd_reduction;
typedef SD_VEC(sd_reduction) sd_reductions;

// Every distinct load and reduction below the stores of `n`.
void sd_access_collect(sd_kernel *k, const sd_nest *n, sd_arena *a, sd_accesses *loads, sd_reductions *reductions);
sd_stride sd_access_stride(sd_kernel *k, const sd_expr *offset, const sd_axis *axis);
bool sd_access_uses_any(const sd_expr *e, const sd_axis *const *axes, uint32_t n);
// Is the offset, less what the axes move it by, a multiple of `at`?
bool sd_access_starts_at(const sd_kernel *k, const sd_expr *offset, const sd_axis *const *axes, uint32_t n, int at);
// The last free axis along which the first store is contiguous, -1 = none.
int sd_access_store_axis(sd_kernel *k, const sd_nest *n);
// The only constant by which `op` (FLOORDIV or MOD) divides the axis within e, where a dividend is the axis alone or, if `moved`, moves by 1 with
// it; 0 = nothing divides it, -1 = several or other things do. `by`: what was found before, 0 at first.
int64_t sd_access_divisor(sd_kernel *k, const sd_expr *e, sd_xop op, const sd_axis *axis, bool moved, int64_t by);
double sd_access_steps(const sd_dimtab *t, const sd_expr *r); // of a reduction, guessed
// Size of a dim for heuristics: its value, with 1 for symbols that are named like a batch size and 64 for others.
int64_t sd_access_guess(const sd_dimtab *t, sd_dim d);

// The number of iterations is read from memory: sums over what is left of sparse weights.
bool sd_access_read_limit(sd_kernel *k, const sd_axis *a);
