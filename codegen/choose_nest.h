// Shared by the files that choose schedules (choose*.c): one nest with what is known about it.
#pragma once
#include "codegen/access.h"
#include "codegen/choose.h"
#include "codegen/tuning.h"

#define SD_TILE_ELEMS 8192   // least work of a grid tile of a map or reduction, elements
#define SD_TILE_FLOPS 100000 // the same of a contraction, operations
#define SD_MAX_TILES  32     // grid tiles wanted at most

#define SD_LARGEST_ROWS 14 // of a register tile

// Outputs that stand in registers during a sum: rows, and vectors of columns.
typedef struct sd_register_tile {
  int mr, nv;
} sd_register_tile;

// Loops around a nest, the innermost first.
typedef struct sd_loops {
  const sd_axis *axis;
  const struct sd_loops *outer;
} sd_loops;

typedef struct sd_choice {
  sd_kernel *k;
  sd_nest *n;
  const sd_isa *isa;
  sd_arena *a;
  sd_packs *packs;
  const sd_loops *loops; // that the nest stands in, NULL: none
  bool grid; // nest axes may be split over the grid
  const sd_tuned *tuned; // NULL: nothing was measured
  sd_accesses loads;
  sd_reductions reductions;
  int lanes;      // of a vector
  int vaxis;      // position of the vector axis, -1 = none
  uint32_t split; // axes that may be split over the grid: the first so many
} sd_choice;

static inline int64_t sd_choose_guess(const sd_choice *c, const sd_axis *a) {
  return sd_access_guess(c->k->dims, a->extent);
}
static inline bool sd_choose_known(const sd_choice *c, const sd_axis *a) {
  return sd_dim_is_const(c->k->dims, a->extent, NULL);
}

// ---- choose.c ----
void sd_choose_collect(sd_choice *c); // loads and reductions anew, after a rewrite

// ---- choose_grid.c ----
double sd_choose_points(const sd_choice *c);      // of the nest
double sd_choose_reduce_work(const sd_choice *c); // steps of all reductions of a point
double sd_choose_chained_loads(const sd_choice *c);
// Splits axis `a` over the grid into at most `want` tiles of a multiple of `step` iterations; returns the
// tiles made.
int64_t sd_choose_grid_axis(const sd_choice *c, sd_axis *a, int64_t want, int64_t step);
// Splits from the outermost axis on until `want` tiles exist. The vector axis moves in steps of whole
// vectors.
void sd_choose_grid_outer(sd_choice *c, int64_t want);

void sd_choose_move_axis(sd_nest *n, int from, int to);
int sd_choose_axis_position(const sd_nest *n, const sd_axis *a); // -1 when it is none of the nest's

// ---- choose_pack.c: constant operands in the order in which a register tile reads them ----
// Fills `p` for a constant load whose offset is affine with constant coefficients in the given axes only.
bool sd_choose_pack_plan(sd_choice *c, const sd_access *l, uint32_t jpos, int64_t factor, sd_pack *p);
bool sd_choose_loaded_once(const sd_choice *c, const sd_buf *b); // others would find it in the packed order
// Splits the axis at jpos by `factor` and points the load at the packed form, and those of other constants beside it in the sum.
sard_status *sd_choose_pack(sd_choice *c, const sd_access *l, uint32_t jpos, int64_t factor);

// ---- choose_matrix.c: products of 8-bit integers and of bf16 in matrix registers ----
typedef struct sd_matrix_tile {
  int rows, vectors; // of axis u, and of the vector axis
  int copies;        // of the axis before u, 1: none
} sd_matrix_tile;
// The register tile of r over (u, j) for matrix registers; false where they do not serve it. `moves`: axes with which the
// vector operand moves, as a set of bits.
bool sd_choose_matrix(const sd_choice *c, const sd_expr *r, int u, int j, uint32_t moves, sd_matrix_tile *t);

// ---- choose_contraction.c ----
// Matrix product, convolution, depthwise: register tile over (u, j). `done` false: r is none, nothing was
// changed.
sard_status *sd_choose_contraction(sd_choice *c, sd_expr *r, int j, bool *done);
// Taps of a window side by side, without loops.
void sd_choose_unroll_window(const sd_choice *c, const sd_expr *r);
// The register tile of `columns` vectors, which all rows of axis u read, and at most so many rows.
sd_register_tile sd_choose_rows(const sd_choice *c, const sd_axis *u, int64_t columns, int64_t most);

// ---- choose_few.c ----
// Products with few outputs along axis j, or a single one: vectors of steps of the sum. `u`: the axis that shares what moves with j, -1 = none.
// `done` false: nothing was changed.
sard_status *sd_choose_few(sd_choice *c, const sd_expr *r, int j, int u, bool *done);
