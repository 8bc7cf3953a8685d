// Register tiles for matrix registers (cpu/emit_matrix.c): up to four registers of sums, of 16 rows by one vector each.
//
// An instruction on them takes nearly the same time for few rows as for 16, so that full registers count; then the loads of both
// operands. A tile of rows that is as large as the axis, or divides it, leaves nothing to vectors.
#include "codegen/choose_nest.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

#define SUMS  4
#define ROWS  16
#define LEAST 4 // rows; fewer are faster by vectors
#define GUESS 32 // rows at least, where they are not known
#define LINE  64 // bytes
#define LATENCY 5 // cycles of a sum by vectors
#define NEAR  24576 // bytes of a panel that stay in the first cache

typedef struct shape { int registers, vectors, copies; } shape;

// Rows of a tile over e of them, in `registers` registers.
static int64_t rows_of(int64_t e, int registers) {
  int64_t most = ROWS * registers;
  if (e <= most) return e;
  for (int64_t n = most; n >= most * 3 / 4; n -= registers) // registers of one height
    if (e % n == 0) return n;
  return most;
}

// The same where the last tile takes rows of the one before again: tiles of nearly one height.
static int64_t rows_of_parts(int64_t e, int registers) {
  int64_t tiles = sd_ceil_div(e, ROWS * registers);
  return sd_ceil_div(sd_ceil_div(e, tiles), registers) * registers;
}

typedef struct sums {
  int64_t e, vectors, step; // rows, vectors, turns of an instruction
  double turns;             // of the whole sum
  double add;               // cycles of a turn by vectors
  bool known;               // e is no guess
  int parts;                // of f32 in three bf16: those of the constant, 1 or 3; 0: it is none
} sums;

// Of parts: six products or three, loads of both factors, which come from the second cache, and what has no register of its own again.
static double cost_of_parts(const sums *x, int64_t n, const shape *s) {
  double rows = (double)n, height = rows / s->registers, steps = x->turns / (double)x->step;
  bool one = x->parts == 1;
  double add = (one ? 3 : 6) * s->registers * s->vectors * (10 + 6 * height / ROWS);
  double loads = rows * (s->registers > 3 ? 5.1 : 4.1) + ROWS * s->vectors * (s->vectors > 2 ? 5.1 : 3.6) / (one ? 3 : 1);
  double tile = ((add > loads ? add : loads) + 0.25 * (add > loads ? loads : add)) * steps + 8 * rows * s->vectors;
  return (double)sd_ceil_div(x->e, n) * tile * (double)sd_ceil_div(x->vectors, s->vectors);
}

// Time for all rows and vectors, in cycles. Panels that are larger than the first cache come from the second one; stores of
// parts of a line take longer.
static double cost_of(const sums *x, int64_t n, const shape *s) {
  double rows = (double)(n * s->copies), height = rows / s->registers, steps = x->turns / (double)x->step;
  if (x->parts) return cost_of_parts(x, n, s);
  double line = x->turns * LINE * s->vectors <= NEAR ? 0.5 : 1, store = s->vectors == 1 ? 9 : s->vectors == 4 ? 6 : 7;
  double add = s->registers * s->vectors * (10 + 6 * height / ROWS), loads = 0.5 * rows + line * ROWS * s->vectors;
  double tile = ((add > loads ? add : loads) + 0.25 * (add > loads ? loads : add)) * steps, left = 0;
  int64_t rest = x->e % n, part = n / (s->registers / s->copies); // whole registers of the rest, and rows by vectors
  tile += rows * s->vectors * store;
  if (s->copies == 1 && (x->known ? rest % part == 0 : part == ROWS)) left = (double)(rest / part) * tile / s->registers, rest %= part;
  double by_vectors = x->add * (double)(rest * s->copies * s->vectors);
  if (rest > 0) left += x->turns * (by_vectors > LATENCY ? by_vectors : LATENCY) + store * (double)(rest * s->copies * s->vectors);
  return ((double)(x->e / n) * tile + left) * (double)sd_ceil_div(x->vectors, s->vectors);
}

bool sd_choose_matrix(const sd_choice *c, const sd_expr *r, int u, int j, uint32_t moves, sd_matrix_tile *t) {
  static const shape shapes[] = {{4, 1, 1}, {2, 2, 1}, {3, 1, 1}, {1, 4, 1}, {1, 3, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 1}, {2, 2, 2}, {4, 1, 4}, {3, 1, 3}, {2, 1, 2}};
  const sd_nest *n = c->n;
  sd_dot d;
  int64_t turns, e = sd_choose_guess(c, n->axes[u]), vectors = sd_ceil_div(sd_choose_guess(c, n->axes[j]), c->lanes);
  double best = 1e300;
  if (!sd_choose_known(c, n->axes[u]) && e < GUESS) e = GUESS;
  if (!c->isa->matrix || !sd_dot_many(c->k, n, r)) return false;
  if (e < LEAST || n->axes[u]->limit || !sd_dot_rows(c->k, r, n->axes[j], n->axes[u], &turns)) return false;
  const sd_axis *second = u > 0 && u - 1 != j && !(moves >> (u - 1) & 1) && !n->axes[u - 1]->limit ? n->axes[u - 1] : NULL;
  sums x = {e, vectors, sd_dot_step(turns), sd_access_steps(c->k->dims, r) / (double)sd_dot_side(c->k, r), r->dtype == SD_F32 ? 2 : 0.5, sd_choose_known(c, n->axes[u]),
            sd_dot_parts(c->k, r) > 1 && sd_dot_is(c->k, r, n->axes[j], &d) ? d.w_parts : 0};
  int64_t length = second ? sd_choose_guess(c, second) : 1;
  for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    const shape *s = &shapes[i];
    if (s->vectors > vectors || s->copies > length) continue;
    if (s->copies > 1 && (x.parts || e > ROWS || !sd_choose_known(c, n->axes[u]))) continue;
    if (s->copies == 1 && s->registers > sd_ceil_div(e, ROWS)) continue;
    int64_t rows = s->copies > 1 ? e : x.parts ? rows_of_parts(e, s->registers) : rows_of(e, s->registers);
    double cost = cost_of(&x, rows, s) * (double)sd_ceil_div(length, s->copies);
    if (cost >= best * 0.999) continue;
    best = cost;
    *t = (sd_matrix_tile){(int)rows, s->vectors, s->copies};
  }
  return best < 1e300;
}
