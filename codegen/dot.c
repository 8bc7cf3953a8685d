// The form of sums of products of small integers and of bf16, see dot.h.
#include "codegen/dot.h"

#include "runtime/base/alloc.h"

#define LEAST_PRODUCTS 4e5 // a microsecond by vectors

// The load below a conversion from other integers to t, NULL for anything else.
static const sd_expr *widened(const sd_expr *e, sd_dtype t) {
  const sd_expr *l = e->op == SD_X_CAST && e->dtype == t ? e->a[0] : NULL;
  return l && l->op == SD_X_LOAD && !l->a[1] ? l : NULL;
}
static const sd_expr *byte_load(const sd_expr *e, sd_dtype t) {
  const sd_expr *l = widened(e, t);
  return l && (l->buf->dtype == SD_U8 || l->buf->dtype == SD_I8) ? l : NULL;
}
static const sd_expr *word_load(const sd_expr *e) {
  const sd_expr *l = widened(e, SD_I32);
  return l && l->buf->dtype == SD_I16 ? l : NULL;
}

static const sd_expr *bf16_load(const sd_expr *e) {
  return e->op == SD_X_LOAD && e->buf->dtype == SD_BF16 && e->dtype == SD_F32 && !e->a[1] ? e : NULL;
}

typedef struct factor { const sd_expr *load[SD_DOT_PARTS]; int parts; } factor;

static int64_t place_of(const sd_kernel *k, const sd_expr *load) {
  int64_t v = 0;
  const sd_expr *o = load->a[0];
  return o->op == SD_X_AFFINE && o->dim && sd_dim_is_const(k->dims, o->dim, &v) ? v : 0;
}

// x + (y + z), three loads of a buffer that holds the parts of each number in order. Sums do not keep the order of their operands.
static bool whole(const sd_kernel *k, const sd_expr *e, factor *f) {
  if (e->op != SD_X_ADD) return false;
  bool last = e->a[1]->op == SD_X_ADD;
  const sd_expr *small = e->a[last];
  if (small->op != SD_X_ADD) return false;
  const sd_expr *l[SD_DOT_PARTS] = {bf16_load(e->a[!last]), bf16_load(small->a[0]), bf16_load(small->a[1])};
  if (!l[0] || !l[1] || !l[2] || l[0]->buf != l[1]->buf || l[0]->buf != l[2]->buf) return false;
  bool turned = place_of(k, l[1]) > place_of(k, l[2]);
  *f = (factor){{l[0], l[1 + turned], l[2 - turned]}, SD_DOT_PARTS};
  return place_of(k, l[0]) < place_of(k, f->load[1]);
}

static bool factor_of(const sd_kernel *k, const sd_expr *e, factor *f) {
  *f = (factor){{bf16_load(e)}, 1};
  return f->load[0] || whole(k, e, f);
}

static bool factors(const sd_kernel *k, const sd_expr *r, factor *x, factor *y) {
  const sd_expr *body = r->op == SD_X_REDUCE ? r->a[0] : NULL;
  if (!body || r->rop != SD_R_SUM || body->op != SD_X_MUL) return false;
  if (r->dtype == SD_I32) {
    *x = (factor){{byte_load(body->a[0], SD_I32)}, 1}, *y = (factor){{byte_load(body->a[1], SD_I32)}, 1};
    if (x->load[0] && y->load[0]) return true;
    *x = (factor){{word_load(body->a[0])}, 1}, *y = (factor){{word_load(body->a[1])}, 1};
    return x->load[0] && y->load[0];
  }
  if (r->dtype != SD_F32) return false;
  return factor_of(k, body->a[0], x) && factor_of(k, body->a[1], y);
}

static int64_t side_of(const sd_expr *load) { return 32 / sd_dtype_bits(load->buf->dtype); }

static bool moves_by(sd_kernel *k, const sd_expr *load, const sd_axis *a, int64_t by) {
  sd_dim d;
  return sd_x_coef(k, load->a[0], a, &d) && sd_dim_is(k->dims, d, by);
}

// The last two axes of r as turns and steps side by side, as many as a word has of what `load` reads.
static bool taken_apart(sd_kernel *k, const sd_expr *r, const sd_expr *load, sd_dot *d) {
  if (r->n_axes < 2) return false;
  d->side = r->axes[r->n_axes - 1], d->turns = r->axes[r->n_axes - 2];
  d->steps = side_of(load);
  return sd_dim_is(k->dims, d->side->extent, d->steps) && d->side->unroll == 0;
}

static bool in_turns(sd_kernel *k, const sd_expr *load, const sd_dot *d) {
  return moves_by(k, load, d->side, 1) && moves_by(k, load, d->turns, d->steps);
}

int64_t sd_dot_side(sd_kernel *k, const sd_expr *r) {
  factor x, y;
  sd_dot d;
  if (!r || !factors(k, r, &x, &y) || !taken_apart(k, r, x.load[0], &d)) return 1;
  return in_turns(k, x.load[0], &d) || in_turns(k, y.load[0], &d) ? d.steps : 1;
}

int sd_dot_parts(sd_kernel *k, const sd_expr *r) {
  factor x, y;
  if (!r || !factors(k, r, &x, &y)) return 1;
  return x.parts > y.parts ? x.parts : y.parts;
}

// The term of the offset of load a that a table gives for each step side by side.
static const sd_expr *order_of(sd_kernel *k, const sd_expr *a, const sd_axis *side) {
  const sd_expr *at = a->a[0], *found = NULL;
  for (uint32_t i = 0; at->op == SD_X_AFFINE && i < at->n; i++) {
    const sd_expr *x = at->a[i], *load = x->op == SD_X_CAST ? x->a[0] : NULL;
    if (!sd_x_uses_axis(x, side)) continue;
    if (found || !load || load->op != SD_X_LOAD || load->buf->dtype != SD_U8 || load->a[1]) return NULL;
    if (!sd_dim_is(k->dims, at->coef[i], 1) || !moves_by(k, load, side, 1)) return NULL;
    found = x;
  }
  return found;
}

// Products of 16 bits of which two fit together, of steps in the order of memory or of a table.
static bool in_pairs(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, sd_dot *d) {
  const sd_expr *body = r->op == SD_X_REDUCE && r->rop == SD_R_SUM && r->dtype == SD_I32 ? r->a[0] : NULL;
  const sd_expr *p = body && body->op == SD_X_CAST ? body->a[0] : NULL;
  if (!p || p->op != SD_X_MUL || p->dtype != SD_I16) return false;
  const sd_expr *x = byte_load(p->a[0], SD_I16), *y = byte_load(p->a[1], SD_I16);
  if (!x || !y || !taken_apart(k, r, x, d)) return false;
  const sd_axis *both = NULL;
  if (r->n_axes > 2 && d->turns->unroll == 0 && sd_dim_is(k->dims, d->turns->extent, 2)) both = d->turns, d->turns = r->axes[r->n_axes - 3];
  if (!sd_access_read_limit(k, d->turns)) return false;
  bool first = !sd_x_uses_axis(x, lanes);
  *d = (sd_dot){{first ? x : y}, {first ? y : x}, 1, 1, d->turns, d->side, d->steps, true, both, NULL};
  d->order = order_of(k, d->a[0], d->side);
  if ((!d->order && !moves_by(k, d->a[0], d->side, 1)) || sd_x_uses_axis(d->a[0], lanes) || d->a[0]->buf->dtype != SD_U8 || d->w[0]->buf->dtype != SD_I8) return false;
  return moves_by(k, d->w[0], d->side, 1) && moves_by(k, d->w[0], lanes, d->steps);
}

bool sd_dot_is(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, sd_dot *out) {
  factor x, y;
  if (lanes && in_pairs(k, r, lanes, out)) return true;
  if (!lanes || !factors(k, r, &x, &y) || !taken_apart(k, r, x.load[0], out)) return false;
  bool first = !sd_x_uses_axis(x.load[0], lanes);
  const factor *a = first ? &x : &y, *w = first ? &y : &x;
  out->parts = a->parts, out->w_parts = w->parts, out->pairs = false, out->both = NULL, out->order = NULL;
  memcpy(out->a, a->load, sizeof out->a), memcpy(out->w, w->load, sizeof out->w);
  bool placed = sd_access_read_limit(k, out->turns) && moves_by(k, out->a[0], out->side, 1); // where, says a table
  if (w->parts > a->parts || sd_x_uses_axis(out->a[0], lanes) || !(placed || (!out->turns->limit && in_turns(k, out->a[0], out)))) return false;
  return moves_by(k, out->w[0], out->side, 1) && moves_by(k, out->w[0], lanes, out->steps);
}

int64_t sd_dot_step(int64_t turns) {
  int64_t n = turns < 16 ? turns : 16;
  while (n > 1 && turns % n) n--;
  return n;
}

bool sd_dot_many(sd_kernel *k, const sd_nest *n, const sd_expr *r) {
  double products = sd_access_steps(k->dims, r);
  for (uint32_t i = 0; i < n->n_axes; i++) products *= (double)sd_access_guess(k->dims, n->axes[i]->extent);
  return products >= LEAST_PRODUCTS;
}

// The last turn may read what stands behind the steps of load a, and multiply it by the zeros of a packed operand. In floats that
// may be what no zero makes zero.
static bool reads_whole_turns(sd_kernel *k, const sd_expr *a, const sd_dot *d) {
  sd_dim low, high;
  return !d->side->limit || (sd_dtype_is_int(a->buf->dtype) && sd_x_bounds(k, a->a[0], &low, &high) && sd_dim_lt(k->dims, high, a->buf->count) == 1);
}

void sd_dot_whole(sd_kernel *k, const sd_expr *r) {
  factor x, y;
  sd_dot d;
  if (factors(k, r, &x, &y) && taken_apart(k, r, x.load[0], &d)) r->axes[r->n_axes - 1]->limit = NULL;
}

bool sd_dot_rows(sd_kernel *k, const sd_expr *r, const sd_axis *lanes, const sd_axis *u, int64_t *turns) {
  factor x, y;
  sd_dot d;
  sd_dim by;
  if (!factors(k, r, &x, &y) || x.load[0]->buf->dtype == SD_I16 || !taken_apart(k, r, x.load[0], &d) || d.turns->limit || !sd_dim_is_const(k->dims, d.turns->extent, turns)) return false;
  const sd_expr *a = sd_x_uses_axis(x.load[0], lanes) ? y.load[0] : x.load[0];
  return sd_dot_step(*turns) >= SD_DOT_LEAST_STEP && in_turns(k, a, &d) && sd_x_coef(k, a->a[0], u, &by) && reads_whole_turns(k, a, &d);
}

void sd_dot_limit(sd_kernel *k, const sd_expr *r, sd_pack *p) {
  factor x, y;
  sd_dot d;
  if (!factors(k, r, &x, &y) || !taken_apart(k, r, x.load[0], &d) || !d.side->limit) return;
  int64_t steps;
  sd_expr *most = sd_x_subst(k, d.side->limit, d.turns, sd_x_i(k, SD_I64, 0));
  if (sd_x_const_value(most, NULL, &steps) && steps < p->steps) p->steps = steps;
}

// ---- choosing ----

// Steps side by side where of the loads of r w moves with the lanes, stands alone and can be packed, and a has its steps in a row; else 1.
static int64_t side_that_fits(sd_choice *c, const sd_expr *r) {
  const sd_axis *k = r->axes[r->n_axes - 1];
  factor x, y;
  int64_t steps;
  const sd_axis *lanes = c->n->axes[c->vaxis];
  if (!factors(c->k, r, &x, &y) || k->limit || !sd_dim_is_const(c->k->dims, k->extent, &steps) || steps < 2) return 1;
  bool second = sd_x_uses_axis(x.load[0], lanes);
  const sd_expr *a = second ? y.load[0] : x.load[0], *w = second ? x.load[0] : y.load[0];
  if (sd_x_uses_axis(a, lanes) || !moves_by(c->k, a, k, 1)) return 1;
  if (r->dtype == SD_F32 && c->isa->matrix && steps % side_of(w)) return 1; // no matrix registers: pairs are slower than f32
  for (uint32_t l = 0; l < c->loads.len; l++) {
    sd_pack p;
    if (c->loads.at[l].load == w)
      return sd_choose_loaded_once(c, w->buf) && sd_choose_pack_plan(c, &c->loads.at[l], (uint32_t)c->vaxis, c->lanes, &p) ? side_of(w) : 1;
  }
  return 1;
}

typedef struct change { const sd_expr *from; sd_expr *to; } change;
static sd_expr *replaced(sd_kernel *k, sd_expr *e, void *user) {
  const change *x = user;
  (void)k;
  return e == x->from ? x->to : e;
}

// r with its last axis taken apart.
static sd_expr *apart(sd_kernel *k, const sd_expr *r, int64_t steps) {
  sd_axis *axes[SD_MAX_AXES], *last = r->axes[r->n_axes - 1];
  uint32_t n = r->n_axes;
  sd_dim side = sd_dim_const(k->dims, steps);
  memcpy(axes, r->axes, n * sizeof *axes);
  axes[n - 1] = sd_kernel_axis(k, sd_arena_printf(k->arena, "%s_o", last->name), sd_dim_ceildiv(k->dims, last->extent, side));
  axes[n] = sd_kernel_axis(k, sd_arena_printf(k->arena, "%s_i", last->name), side);
  axes[n]->unroll = 0;
  sd_expr *base = sd_x_mul_dim(k, sd_x_axis(k, axes[n - 1]), side);
  if (!sd_dim_multiple_of(k->dims, last->extent, steps))
    axes[n]->limit = sd_x_bin(k, SD_X_SUB, sd_x_dim(k, last->extent), base);
  sd_expr *body = sd_x_subst(k, r->a[0], last, sd_x_bin(k, SD_X_ADD, base, sd_x_axis(k, axes[n])));
  return sd_x_reduce(k, r->rop, axes, n + 1, body);
}

bool sd_dot_take_apart(sd_choice *c, sd_dot_steps *steps) {
  bool some = false;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    const sd_expr *r = c->reductions.at[i].expr;
    int64_t n = c->reductions.at[i].parent || r->n_axes + 1 > SD_MAX_AXES ? 1 : steps(c, r);
    if (n == 1) continue;
    change x = {r, apart(c->k, r, n)};
    for (uint32_t s = 0; s < c->n->stores.len; s++)
      c->n->stores.at[s].value = sd_x_rewrite(c->k, c->n->stores.at[s].value, replaced, &x);
    some = true;
  }
  return some;
}

void sd_dot_registers(sd_choice *c, int n) {
  sd_isa *few = sd_arena_dup(c->a, c->isa, sizeof *c->isa);
  few->registers = n;
  c->isa = few;
}

static int64_t steps_of(sd_choice *c, const sd_expr *r) {
  if ((r->dtype == SD_F32 ? c->isa->pairs : c->isa->dot) < 2 || sd_dot_parts(c->k, r) > 1) return 1;
  return side_that_fits(c, r);
}

sard_status *sd_dot_choose(sd_choice *c) {
  if ((c->isa->dot < 2 && c->isa->pairs < 2) || c->vaxis < 0 || !c->packs) return NULL;
  if (!sd_dot_take_apart(c, steps_of)) return NULL;
  sd_choose_collect(c);
  bool bytes = false;
  for (uint32_t i = 0; i < c->reductions.len; i++) bytes |= sd_dot_side(c->k, c->reductions.at[i].expr) == 4;
  if (bytes && c->isa->dot < 4) sd_dot_registers(c, c->isa->registers - SD_DOT_SPARE);
  return NULL;
}
