// Nests whose reductions a group of threads shares: softmax, norms, long sums.
#include "codegen/choose_cuda_nest.h"
#include "runtime/base/alloc.h"

#define LONG_SUM    32    // steps from which on a reduction is shared
#define SHORT_ROW   8     // below, most threads of a group would have nothing to do
#define FEW_ROWS    1024  // below, a block has one warp
#define MOST_EACH   32    // elements of a row that a thread keeps, where the group can be larger
#define MOST_HELD   16384 // elements of a row that a block keeps
#define MOST_MANY   8     // rows that a thread computes together
#define MOST_STEPS  64    // steps or vectors of a thread, where the group can be larger
#define MANY_POINTS 4096  // that fill a GPU with a thread each

// With a thread for each point, do neighbouring threads read neighbouring elements in all reductions?
static bool coalesced(const sd_cuda_choice *c) {
  if (c->n->n_axes == 0) return false;
  const sd_axis *last = c->out->axes[c->n->n_axes - 1];
  for (uint32_t i = 0; i < c->loads.len; i++) {
    if (!c->loads.at[i].reduce) continue;
    sd_stride s = sd_access_stride(c->k, c->loads.at[i].load->a[0], last);
    if (s != SD_STRIDE_ONE && s != SD_STRIDE_ZERO) return false;
  }
  return true;
}

// What is known about the rows of a nest.
typedef struct shape {
  double rows, columns, steps; // rows without known number count as many
  bool is_row[SD_MAX_AXES];
} shape;

static shape shape_of(const sd_cuda_choice *c) {
  shape s = {.rows = 1, .columns = 1};
  for (uint32_t i = 0; i < c->n->n_axes; i++) {
    for (uint32_t j = 0; j < c->reductions.len; j++)
      s.is_row[i] |= !c->reductions.at[j].parent && sd_x_uses_axis(c->reductions.at[j].expr, c->n->axes[i]);
    *(s.is_row[i] ? &s.rows : &s.columns) *= sd_cuda_extent(c, c->n->axes[i]);
    if (s.is_row[i] && !sd_dim_is_const(c->k->dims, c->n->axes[i]->extent, NULL)) s.rows *= MANY_POINTS;
  }
  for (uint32_t j = 0; j < c->reductions.len; j++) {
    double steps = c->reductions.at[j].parent ? 0 : sd_access_steps(c->k->dims, c->reductions.at[j].expr);
    if (steps > s.steps) s.steps = steps;
  }
  return s;
}

// Threads for a row of so many vectors: a warp, more where there are few rows, or where a warp would not keep
// the row in its registers.
static void choose_group(const sd_cuda_choice *c, const shape *s, double vectors, double most_each,
                         double fewest) {
  sd_cuda_nest *o = c->out;
  int g = SD_CUDA_WARP;
  if (!c->whole) {
    o->group = SD_CUDA_WARP;
    return;
  }
  while (g < SD_CUDA_MOST_THREADS && vectors > g && (vectors / g > most_each || s->rows * g < fewest)) g *= 2;
  if (!c->alone) g = g > SD_CUDA_WARP ? c->threads : g;
  o->group = g;
  o->threads = g > SD_CUDA_WARP ? g : s->rows < FEW_ROWS ? SD_CUDA_WARP : 128;
}

// A part of a warp for each of many short rows: no more threads than leave each `each` vectors. 0: rows get
// whole warps.
static int part_of_warp(const sd_cuda_choice *c, const shape *s, double vectors, double each) {
  for (int g = 4; c->whole && g < SD_CUDA_WARP; g *= 2)
    if (2 * vectors > g && vectors <= g * each && s->rows * g >= 4 * SD_CUDA_FEWEST_THREADS) return g;
  return 0;
}

static void use_part(const sd_cuda_choice *c, int g) {
  if (g) c->out->group = g, c->out->threads = 128;
}

// ---- rows held in registers ----

typedef struct moved {
  const sd_axis *with;
  bool *found;
} moved;

static bool find_moved(void *user, const sd_expr *e) { // a reduction that moves with the axis
  moved *m = user;
  *m->found |= e->op == SD_X_REDUCE && sd_x_uses_axis(e, m->with);
  return !*m->found;
}

// One axis of the same known length for all reductions and the columns, none of which moves with another's
// step.
static int64_t common_length(const sd_cuda_choice *c) {
  int64_t all = 0, e;
  uint32_t columns = c->n->n_axes - c->out->n_rows;
  if (columns > 1 || c->reductions.len > SD_CUDA_PHASES || c->reductions.len + columns < 2) return 0;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    const sd_expr *r = c->reductions.at[i].expr;
    if (r->n_axes != 1 || r->axes[0]->limit || !sd_dim_is_const(c->k->dims, r->axes[0]->extent, &e)) return 0;
    if (all && e != all) return 0;
    all = e;
    bool moves = false;
    moved m = {r->axes[0], &moves};
    sd_x_walk(c->k, r->a[0], find_moved, &m);
    if (moves) return 0;
  }
  if (columns && (!sd_dim_is_const(c->k->dims, c->out->axes[c->out->n_rows]->extent, &e) || e != all))
    return 0;
  return all;
}

static void collect(sd_cuda_choice *c, sd_expr *e, sd_accesses *loads) {
  sd_reductions ignored = {0};
  sd_store s = {.offset = sd_x_i(c->k, SD_I64, 0), .value = e};
  sd_nest n = {.stores = {.at = &s, .len = 1}};
  sd_access_collect(c->k, &n, c->a, loads, &ignored);
}

// The bodies of the reductions at the points of the columns, or of an axis of their own.
static bool make_phases(sd_cuda_choice *c, int64_t length, int vec) {
  sd_cuda_nest *o = c->out;
  uint32_t n = c->n->n_axes;
  sd_expr *by;
  if (n > o->n_rows) {
    by = sd_cuda_make_lanes(c, n - 1, vec);
    o->across = o->axes[n - 1];
  } else {
    const sd_axis *own = sd_kernel_axis(c->k, "j", sd_dim_const(c->k->dims, length));
    sd_cuda_split s = sd_cuda_split_axis(c->k, own, vec);
    sd_cuda_copy_nest(c);
    o->vec = vec, o->lane = s.lane, o->across = s.outer, by = s.by;
  }
  sd_accesses loads = {0};
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    const sd_expr *r = c->reductions.at[i].expr;
    sd_expr *body = sd_x_subst(c->k, r->a[0], r->axes[0], by);
    o->phases[o->n_phases++] = (sd_cuda_phase){r, body};
    collect(c, body, &loads);
  }
  for (uint32_t i = 0; i < o->nest->stores.len && n > o->n_rows; i++) {
    const sd_store *t = &o->nest->stores.at[i];
    sd_cuda_vector_of(c->k, t->buf, t->offset, o->lane, o);
    collect(c, t->value, &loads);
  }
  for (uint32_t i = 0; i < loads.len; i++) loads.at[i].reduce = NULL; // of one length all of them
  return sd_cuda_vectors(c, &loads, o->lane);
}

// Elements of a vector along the last axes of reductions and columns: 16 bytes, of the widest type at most
// `wide` bits.
static int row_lanes(const sd_cuda_choice *c, int most_bits) {
  int narrow = 64, wide = 8;
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    bool moves = false;
    for (uint32_t j = 0; j < c->reductions.len; j++)
      for (uint32_t x = 0; x < c->reductions.at[j].expr->n_axes; x++)
        moves |= sd_x_uses_axis(l, c->reductions.at[j].expr->axes[x]);
    if (!moves) continue;
    int bits = sd_dtype_bits(l->buf->dtype);
    narrow = bits < narrow ? bits : narrow, wide = bits > wide ? bits : wide;
  }
  int v = 128 / narrow;
  while (v > 1 && v * wide > most_bits) v /= 2;
  return v;
}

static bool hold_rows(sd_cuda_choice *c, const shape *s) {
  sd_cuda_nest *o = c->out;
  const sd_cuda_nest plain = *o;
  int64_t length = common_length(c);
  if (length < 2 || length > MOST_HELD) return false;
  for (int v = row_lanes(c, 256); v >= 1; v /= 2) {
    int part = length % v ? 0 : part_of_warp(c, s, (double)(length / v), MOST_EACH / 2.0 / v);
    if (length % v || (v > 1 && !part && length < v * SD_CUDA_WARP)) continue;
    *o = plain;
    bool fits = make_phases(c, length, v);
    if (!fits && v > 1) continue;
    double vectors = (double)(length / v);
    choose_group(c, s, vectors, (double)MOST_EACH / v, SD_CUDA_FEWEST_THREADS);
    use_part(c, part);
    o->chunks = (int)((length / v + o->group - 1) / o->group);
    if (o->chunks * v <= 2 * MOST_EACH && o->n_tests <= SD_CUDA_TESTS) return true;
  }
  *o = plain;
  return false;
}

// ---- rows that are read for each reduction ----
typedef struct lanes_maker {
  sd_cuda_choice *c;
  double vectors; // steps of the longest reduction, in vectors
  int made;
} lanes_maker;

// The reduction with its last axis split, where its loads become vectors.
static sd_expr *with_lanes(sd_kernel *k, sd_expr *e, void *user) {
  lanes_maker *m = user;
  sd_cuda_nest *o = m->c->out;
  if (e->op != SD_X_REDUCE || e->n_axes >= SD_MAX_AXES) return e;
  sd_axis *a = e->axes[e->n_axes - 1];
  for (uint32_t i = 0; i < e->n_axes; i++)
    if (e->axes[i]->limit) return e;
  for (int v = row_lanes(m->c, 512); v > 1; v /= 2) {
    const uint32_t tests = o->n_tests;
    const int modulus = o->modulus;
    int64_t extent = 0;
    bool known = sd_dim_is_const(k->dims, a->extent, &extent);
    if (v > 32 || (known && (extent % v || extent < v))) continue;
    sd_cuda_split s = sd_cuda_split_axis(k, a, v);
    sd_expr *body = sd_x_subst(k, e->a[0], a, s.by);
    sd_accesses loads = {0};
    collect(m->c, body, &loads);
    if (!known) sd_cuda_test(o, a->extent, v);
    for (uint32_t i = 0; i < loads.len; i++) loads.at[i].reduce = NULL;
    if (sd_cuda_vectors(m->c, &loads, s.lane)) {
      sd_axis *axes[SD_MAX_AXES];
      for (uint32_t i = 0; i + 1 < e->n_axes; i++) axes[i] = e->axes[i];
      axes[e->n_axes - 1] = s.outer, axes[e->n_axes] = s.lane;
      s.lane->vec = v;
      double vectors = sd_access_steps(k->dims, e) / v;
      m->vectors = vectors > m->vectors ? vectors : m->vectors, m->made++;
      return sd_x_reduce(k, e->rop, axes, e->n_axes + 1, body);
    }
    o->n_tests = tests, o->modulus = modulus;
  }
  return e;
}

// Steps of the axis for which an offset stays: of a quotient (packed factors, scales of groups).
static int64_t steps_of(const sd_expr *offset, const sd_axis *a) {
  int64_t by = 1;
  for (uint32_t i = 0; i < offset->n; i++) {
    const sd_expr *q = offset->a[i];
    if (q->op == SD_X_FLOORDIV && q->a[0]->op == SD_X_AXIS && q->a[0]->axis == a &&
        sd_x_const_value(q->a[1], NULL, &by) && by > 0)
      return by;
  }
  return 1;
}

// Bits of the loads of reductions for a step, of those that move with the axis and of the others.
static void weigh_loads(const sd_cuda_choice *c, const sd_axis *a, double *moving, double *others) {
  *moving = *others = 0;
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load, *r = c->loads.at[i].reduce;
    if (!r || !sd_x_uses_axis(l, r->axes[r->n_axes - 1])) continue;
    *(sd_x_uses_axis(l, a) ? moving : others) +=
        (double)sd_dtype_bits(l->buf->dtype) / (double)steps_of(l->a[0], r->axes[r->n_axes - 1]);
  }
}

// Rows that a thread computes together, as what some of their loads read serves all: a short axis of the rows
// as a whole, else parts of one where the loads that do not move with it are the greater part.
static int many_rows(const sd_cuda_choice *c, const shape *s, const sd_axis **out) {
  int64_t extent;
  double moving, others;
  for (int pass = 0; pass < 2; pass++) {
    for (uint32_t i = 0; i < c->out->n_rows; i++) {
      const sd_axis *a = c->out->axes[i];
      bool all = sd_dim_is_const(c->k->dims, a->extent, &extent);
      for (uint32_t r = 0; r < c->reductions.len; r++) all &= sd_x_uses_axis(c->reductions.at[r].expr, a);
      weigh_loads(c, a, &moving, &others);
      if (!all || others == 0 || moving == 0) continue;
      *out = a;
      if (pass == 0 && extent > 1 && extent <= MOST_MANY) return (int)extent;
      for (int u = 4; pass == 1 && u > 1 && others >= 1.5 * moving; u /= 2)
        if (extent % u == 0 && extent > u && s->rows / u * SD_CUDA_WARP >= SD_CUDA_FEWEST_THREADS) return u;
    }
  }
  return 0;
}

// Takes the axis, or a part of it, out of the rows.
static bool make_many(sd_cuda_choice *c, shape *s) {
  sd_cuda_nest *o = c->out;
  const sd_axis *a = NULL;
  int64_t extent;
  int u = c->n->n_axes == o->n_rows ? many_rows(c, s, &a) : 0;
  if (!u) return false;
  sd_nest *copy = sd_cuda_copy_nest(c);
  s->rows /= u;
  uint32_t at = 0;
  if (sd_dim_is_const(c->k->dims, a->extent, &extent) && extent == u) {
    o->many = a;
    for (uint32_t i = 0; i < o->n_rows; i++)
      if (o->axes[i] != a) o->axes[at++] = o->axes[i];
    o->n_rows = copy->n_axes = at;
    return true;
  }
  sd_cuda_split p = sd_cuda_split_axis(c->k, a, u);
  sd_cuda_subst_stores(c->k, copy, a, p.by);
  for (uint32_t i = 0; i < o->n_rows; i++)
    if (o->axes[i] == a) o->axes[i] = p.outer;
  o->many = p.lane;
  return true;
}

static bool many_vector_rows(sd_cuda_choice *c, const shape *all) {
  sd_cuda_nest *o = c->out;
  const sd_cuda_nest plain = *o;
  shape s = *all;
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  if (!c->alone || !make_many(c, &s)) return false;
  lanes_maker m = {c, 0, 0};
  for (uint32_t i = 0; i < o->nest->stores.len; i++)
    o->nest->stores.at[i].value = sd_x_rewrite(c->k, o->nest->stores.at[i].value, with_lanes, &m);
  sd_access_collect(c->k, o->nest, c->a, &loads, &reductions);
  if (m.made && !o->n_tests && sd_cuda_collect_phases(o, &reductions)) {
    choose_group(c, &s, m.vectors, MOST_STEPS, 2 * SD_CUDA_FEWEST_THREADS);
    return true;
  }
  *o = plain;
  return false;
}

static void vector_rows(sd_cuda_choice *c, const shape *s) {
  sd_cuda_nest *o = c->out;
  const sd_cuda_nest plain = *o;
  uint32_t n = c->n->n_axes;
  lanes_maker m = {c, 0, 0};
  int64_t extent;
  const sd_axis *last = n > o->n_rows ? o->axes[n - 1] : NULL;
  int v = last && sd_dim_is_const(c->k->dims, last->extent, &extent) ? sd_cuda_most_lanes(c, last) : 1;
  while (v > 1 && extent % v) v /= 2;
  if (v > 1 && sd_access_stride(c->k, c->n->stores.at[0].offset, last) == SD_STRIDE_ONE) {
    sd_cuda_make_lanes(c, n - 1, v);
    for (uint32_t i = 0; i < o->nest->stores.len; i++)
      sd_cuda_vector_of(c->k, o->nest->stores.at[i].buf, o->nest->stores.at[i].offset, o->lane, o);
    sd_accesses loads = {0};
    for (uint32_t i = 0; i < o->nest->stores.len; i++) collect(c, o->nest->stores.at[i].value, &loads);
    if (!sd_cuda_vectors(c, &loads, o->lane)) *o = plain;
  }
  if (o->nest == c->n) sd_cuda_copy_nest(c);
  for (uint32_t i = 0; i < o->nest->stores.len; i++)
    o->nest->stores.at[i].value = sd_x_rewrite(c->k, o->nest->stores.at[i].value, with_lanes, &m);
  if (o->n_tests > SD_CUDA_TESTS || (!m.made && !o->vec)) *o = plain;
  double vectors = m.made && o->nest != c->n ? m.vectors : s->steps;
  choose_group(c, s, vectors, MOST_STEPS, 4 * SD_CUDA_FEWEST_THREADS);
  if (s->columns < 2) use_part(c, part_of_warp(c, s, vectors, SHORT_ROW));
}

bool sd_choose_cuda_rows(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  const shape s = shape_of(c);
  uint32_t at = 0;
  double most = s.steps > s.columns ? s.steps : s.columns;
  if (sd_cuda_reduces_own(c) || most < SHORT_ROW || (s.columns < 2 && s.steps < LONG_SUM))
    return false;
  if (s.columns < 2 && coalesced(c) && sd_cuda_points(c) >= MANY_POINTS) return false;
  for (int k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++)
      if (s.is_row[i] == (k == 0)) o->axes[at++] = c->n->axes[i];
    if (k == 0) o->n_rows = at;
  }
  for (uint32_t i = 0; i < o->n_rows; i++) // a limit that moves with a column would need the columns first
    for (uint32_t j = o->n_rows; o->axes[i]->limit && j < at; j++)
      if (sd_x_uses_axis(o->axes[i]->limit, o->axes[j])) return false;
  o->form = SD_CUDA_ROWS;
  sd_cuda_along_stores(c, o->n_rows);
  choose_group(c, &s, most, MOST_STEPS, SD_CUDA_FEWEST_THREADS);
  if (!c->whole || sd_cuda_has_limits(c) || sd_cuda_reads_own(c)) return true;
  if (!hold_rows(c, &s) && !many_vector_rows(c, &s)) vector_rows(c, &s);
  return true;
}
