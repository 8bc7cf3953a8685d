// Products read packed weights panel after panel, and the rows of a tile share a panel. By itself the
// processor fetches a panel when the first rows read it: they wait for memory, and the other rows leave it
// idle. So the next panel is asked for while one is used, a share of it by each register tile.
//
// A panel is what a reduction reads of an invariant operand in order, vectors side by side, between two steps
// of the free axes. The next one follows it in memory (choose_pack.c); behind the last one stand the weights
// of a later kernel. Products of 128 rows with weights from a slow last cache went from 58 to 83 % of peak
// (64 to 79 % with tiles of 8 x 48).
#include "codegen/access.h"
#include "codegen/cpu/emit.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

#define LEAST_WEIGHTS (256 * 1024) // bytes; fewer stay near
#define LINE          64           // bytes
#define AHEAD         8192         // bytes, where each line is used once: what one core reads in 300 ns
#define LEAST_AHEAD   (2 << 20)    // bytes; fewer stay in the second cache from step to step of a loop
#define LEAST_SHARE   2            // bytes of a step; with fewer each line would be asked for often

// The coefficient of an axis in an offset that is a sum of axes; -1: not known.
static int64_t coefficient(const sd_emit *E, const sd_expr *offset, const sd_axis *a) {
  int64_t c = 0;
  for (uint32_t i = 0; i < offset->n; i++)
    if (offset->a[i]->axis == a && !sd_dim_is_const(E->k->dims, offset->coef[i], &c)) return -1;
  return c;
}

static bool sum_of_axes(const sd_emit *E, const sd_expr *offset) {
  int64_t c;
  if (offset->op != SD_X_AFFINE || (offset->dim && !sd_dim_is_const(E->k->dims, offset->dim, &c)))
    return false;
  for (uint32_t i = 0; i < offset->n; i++)
    if (offset->a[i]->op != SD_X_AXIS || !sd_dim_is_const(E->k->dims, offset->coef[i], &c)) return false;
  return true;
}

// ---- the operand that is read in panels ----
// Axes of the reduction that are loops; steps side by side (codegen/dot.h) are none, nor those of a word (codegen/words.h), for
// which the operand stands still.
static uint32_t loops_of(const sd_emit *E, const sd_expr *reduce, const sd_expr *offset) {
  const sd_axis *last = reduce->axes[reduce->n_axes - 1];
  bool word = reduce->n_axes > 1 && last->unroll == 0 && coefficient(E, offset, last) == 0;
  return reduce->n_axes - (word || sd_dot_side(E->k, reduce) > 1);
}

// Elements that the reduction reads straight through; 0 where it does not.
static int64_t panel_size(const sd_emit *E, const sd_expr *reduce, const sd_expr *offset) {
  int64_t side = sd_dot_side(E->k, reduce), size = (int64_t)E->lane.axis->vec * E->lanes_full * side, n;
  if (coefficient(E, offset, E->lane.axis) != side) return 0;
  for (uint32_t i = loops_of(E, reduce, offset); i-- > 0;) {
    const sd_axis *a = reduce->axes[i];
    if (a->limit || !sd_dim_is_const(E->k->dims, a->extent, &n)) return 0;
    if ((n > 1 && coefficient(E, offset, a) != size) || !sd_ck_mul_i64(size, n, &size)) return 0;
  }
  return size;
}

typedef struct finder {
  const sd_emit *E;
  const sd_expr *reduce, *load;
  int64_t size, bytes; // elements of a panel, bytes of all
  int64_t parts;       // of an element, one behind the other in the panel
  bool words;          // of elements below a byte (codegen/words.h)
} finder;

static bool find(void *user, const sd_expr *e) {
  finder *f = user;
  int64_t count;
  if (e->op != SD_X_LOAD || f->load) return e->op != SD_X_REDUCE;
  int bytes = sd_dtype_bits(e->buf->dtype) / 8;
  if (!e->buf->invariant || e->a[1] || bytes == 0 || !sum_of_axes(f->E, e->a[0])) return false;
  if (!sd_dim_is_const(f->E->k->dims, e->buf->count, &count) || count < LEAST_WEIGHTS / bytes) return false;
  f->size = panel_size(f->E, f->reduce, e->a[0]) * f->parts;
  if (f->size) f->load = e, f->bytes = count * bytes, f->words = loops_of(f->E, f->reduce, e->a[0]) < f->reduce->n_axes && sd_dot_side(f->E->k, f->reduce) == 1;
  return false;
}

// ---- rows that share a panel: free axes inside of those with which it moves ----
static uint32_t first_row_axis(const sd_emit *E, const sd_expr *offset) {
  uint32_t i = E->nest->n_axes;
  while (i > 0 && (E->nest->axes[i - 1] == E->lane.axis || coefficient(E, offset, E->nest->axes[i - 1]) == 0))
    i--;
  return i;
}

// Tiles that have parts of these rows follow each other; they share a panel unless each has several.
static bool tiles_share(const sd_emit *E, uint32_t first) {
  for (uint32_t i = 0; i < first; i++)
    if (E->nest->axes[i]->block != 1) return false;
  return true;
}

static bool in_part(sd_emit *E, const sd_axis *a, bool share) {
  return E->block_lo[sd_emit_axis_no(E, a)] && !share;
}

static sd_dim row_length(sd_emit *E, const sd_axis *a, bool share) {
  sd_dim block = sd_dim_const(E->k->dims, a->block);
  return in_part(E, a, share) ? sd_dim_min(E->k->dims, a->extent, block) : a->extent;
}

static sd_ll plus(sd_emit *E, sd_ll x, sd_ll y) { return LLVMBuildAdd(E->b, x, y, ""); }
static sd_ll times(sd_emit *E, sd_ll x, sd_ll y) { return LLVMBuildMul(E->b, x, y, ""); }

static sd_ll point_of(sd_emit *E, const sd_axis *a) {
  const sd_emit_bind *b = sd_emit_bind_of(E, a);
  return b->base ? plus(E, b->base, sd_emit_i64(E, b->add)) : sd_emit_i64(E, b->add);
}

// The number of rows, and of the first one of the register tile.
static sd_dim count_rows(sd_emit *E, uint32_t first, sd_ll *row) {
  sd_dim rows = sd_dim_const(E->k->dims, 1);
  bool share = tiles_share(E, first);
  *row = sd_emit_i64(E, 0);
  for (uint32_t i = first; i < E->nest->n_axes; i++) {
    const sd_axis *a = E->nest->axes[i];
    if (a == E->lane.axis) continue;
    sd_dim length = row_length(E, a, share);
    sd_ll lo = in_part(E, a, share) ? E->block_lo[sd_emit_axis_no(E, a)] : NULL, x = point_of(E, a);
    rows = sd_dim_mul(E->k->dims, rows, length);
    *row = plus(E, times(E, *row, sd_emit_dim(E, length)), lo ? LLVMBuildSub(E->b, x, lo, "") : x);
  }
  return sd_dim_max(E->k->dims, rows, sd_dim_const(E->k->dims, 1));
}

// ---- addresses ----
static bool reduced(const sd_expr *reduce, const sd_axis *a) {
  for (uint32_t i = 0; i < reduce->n_axes; i++)
    if (reduce->axes[i] == a) return true;
  return false;
}

// Offset in elements of the panel that is read.
static sd_ll panel_begin(sd_emit *E, const finder *f) {
  const sd_expr *offset = f->load->a[0];
  int64_t c = 0;
  if (offset->dim) sd_dim_is_const(E->k->dims, offset->dim, &c);
  sd_ll at = sd_emit_i64(E, c);
  for (uint32_t i = 0; i < offset->n; i++) {
    const sd_axis *a = offset->a[i]->axis;
    if (a == E->lane.axis || reduced(f->reduce, a)) continue;
    at = plus(E, at, times(E, point_of(E, a), sd_emit_i64(E, coefficient(E, offset, a))));
  }
  return at;
}

// Steps of the reduction before the innermost loop that is about to begin.
static sd_ll steps_done(sd_emit *E, const sd_expr *reduce, const sd_expr *offset) {
  sd_ll n = sd_emit_i64(E, 0);
  for (uint32_t i = 0; i + 1 < loops_of(E, reduce, offset); i++)
    n = times(E, plus(E, n, point_of(E, reduce->axes[i])), sd_emit_dim(E, reduce->axes[i + 1]->extent));
  return n;
}

static uint32_t copies_of_rows(sd_emit *E) {
  int lanes = sd_emit_bind_of(E, E->lane.axis)->slot;
  return sd_emit_coords(E, (1u << E->n_slot) - 1) / (lanes < 0 ? 1 : E->count[lanes]);
}

// The bytes from step to step, and where the first one begins: straight ahead where one register tile has all
// rows.
static bool plan(sd_emit *E, const finder *f, sd_emit_panel *p, sd_ll *first) {
  sd_dimtab *t = E->k->dims;
  int64_t bytes = sd_dtype_bits(f->load->buf->dtype) / 8, step = E->lane.axis->vec * E->lanes_full * sd_dot_side(E->k, f->reduce) * bytes * f->parts,
          copies = copies_of_rows(E), n;
  sd_ll row;
  sd_dim rows = count_rows(E, first_row_axis(E, f->load->a[0]), &row);
  sd_dim each = sd_dim_floordiv(t, sd_dim_const(t, f->size * bytes), rows),
         share = sd_dim_ceildiv(t, sd_dim_const(t, step * copies), rows);
  if (sd_dim_is_const(t, rows, &n) ? n <= copies : copies == 1) {
    if (f->parts > 1) return false; // several streams
    p->lines = step < LINE ? 1 : step / LINE, p->each = step, p->share = sd_emit_i64(E, step), *first = sd_emit_i64(E, AHEAD);
    return f->words || f->bytes >= LEAST_AHEAD; // a word takes longer than to ask for it
  }
  if (!each || !share || (sd_dim_is_const(t, share, &n) && n < LEAST_SHARE)) return false;
  // of fewer rows than copies a share is all that the tile reads
  p->lines = 1, p->each = sd_min_i64(sd_access_guess(t, share), step), p->share = sd_emit_dim(E, share);
  *first = plus(E, sd_emit_i64(E, f->size * bytes), times(E, row, sd_emit_dim(E, each)));
  return true;
}

bool sd_emit_panel_open(sd_emit *E, const sd_expr *reduce, uint32_t loop, sd_emit_panel *p) {
  finder f = {.E = E, .reduce = reduce, .parts = 1};
  sd_ll first;
  sd_dot d;
  if (!E->lane.axis || E->nest->sequential) return false;
  if (sd_dot_parts(E->k, reduce) > 1 && sd_dot_is(E->k, reduce, E->lane.axis, &d)) f.parts = d.w_parts;
  sd_x_walk(E->k, reduce->a[0], find, &f);
  if (f.load && f.parts > 1) f.load = d.w[0];
  if (!f.load || loops_of(E, reduce, f.load->a[0]) != loop + 1 || !plan(E, &f, p, &first)) return false;
  sd_ll at = times(E, panel_begin(E, &f), sd_emit_i64(E, sd_dtype_bits(f.load->buf->dtype) / 8));
  at = plus(E, plus(E, at, first), times(E, steps_done(E, reduce, f.load->a[0]), p->share));
  p->p = LLVMBuildGEP2(E->b, E->i8, E->buf_v[f.load->buf->id], &at, 1, "");
  return true;
}

void sd_emit_panel_steps(sd_emit_panel *p, int64_t steps) { p->lines = (p->each * steps + LINE - 1) / LINE; }

void sd_emit_panel_ask(sd_emit *E, const sd_emit_panel *p, sd_ll step, int64_t from, int64_t to) {
  sd_ll near = LLVMConstInt(E->i32, 2, 0); // the second cache
  for (int64_t i = from; i < to; i++) {
    sd_ll at = plus(E, times(E, step, p->share), sd_emit_i64(E, i * LINE));
    sd_ll args[] = {LLVMBuildGEP2(E->b, E->i8, p->p, &at, 1, ""), LLVMConstInt(E->i32, 0, 0), near,
                    LLVMConstInt(E->i32, 1, 0)};
    sd_emit_intrinsic(E, "llvm.prefetch", &E->ptr, 1, args, 4);
  }
}
