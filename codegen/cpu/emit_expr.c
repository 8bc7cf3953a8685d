// Values of expressions at coordinates of the register tile: what is remembered, what is emitted before loops.
#include "codegen/cpu/emit.h"

LLVMTypeRef sd_emit_type(sd_emit *E, sd_dtype t) {
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: return t == SD_F64 ? E->f64 : E->f32;
  case SD_DK_B: return E->i1;
  default: return LLVMIntTypeInContext(E->c, (unsigned)(sd_dtype_bits(t) < 8 ? 8 : sd_dtype_bits(t)));
  }
}

LLVMTypeRef sd_emit_vtype(sd_emit *E, LLVMTypeRef t, bool lanes) {
  return lanes ? LLVMVectorType(t, (unsigned)E->lanes_full) : t;
}

// ---- memory of values ----
static sd_ll *cell_of(sd_emit *E, const sd_expr *e, bool broadcast) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  uint32_t n = 2 * sd_emit_coords(E, x->slots);
  if (!x->cell || x->n < n) { // all cells are empty here: their scopes are closed
    x->cell = SD_NEW_ARRAY(E->a, sd_ll, n);
    x->n = n;
  }
  return &x->cell[2 * sd_emit_project(E, x->slots) + broadcast];
}

static void fill(sd_emit *E, const sd_expr *e, sd_ll *cell, sd_ll v) {
  if (!*cell) sd_vec_push(E->a, &E->scopes.at[E->n_scope - 1].cells, cell);
  if (E->info[e->id].rw) sd_vec_push(E->a, &E->rw_cells, cell);
  *cell = v;
}

void sd_emit_keep(sd_emit *E, const sd_expr *e, sd_ll v) { fill(E, e, cell_of(E, e, false), v); }
sd_ll sd_emit_kept(sd_emit *E, const sd_expr *e) { return *cell_of(E, e, false); }

// ---- values ----
static sd_ll constant(sd_emit *E, const sd_expr *e) {
  LLVMTypeRef t = sd_emit_type(E, e->dtype);
  return sd_dtype_is_float(e->dtype) ? LLVMConstReal(t, e->f) : LLVMConstInt(t, (uint64_t)e->i, true);
}

static sd_ll add(sd_emit *E, sd_ll x, sd_ll y) {
  int64_t c;
  if (!x || (sd_emit_const(x, &c) && c == 0)) return y;
  if (sd_emit_const(y, &c) && c == 0) return x;
  return LLVMBuildAdd(E->b, x, y, "");
}

static int64_t axis_offset(sd_emit *E, const sd_emit_bind *b) {
  return b->add + (b->slot >= 0 ? (int64_t)E->at[b->slot] * b->step : 0);
}

static sd_ll axis_value(sd_emit *E, const sd_axis *a) {
  const sd_emit_bind *b = sd_emit_bind_of(E, a);
  sd_ll v = add(E, b->base, sd_emit_i64(E, axis_offset(E, b)));
  if (a != E->lane.axis) return v;
  return LLVMBuildAdd(E->b, sd_emit_splat(E, v), sd_emit_iota(E, E->i64), "");
}

static sd_ll scaled(sd_emit *E, sd_ll v, sd_dim coef, bool wide) {
  if (!v || sd_dim_is(E->k->dims, coef, 1)) return v;
  sd_ll c = sd_emit_dim(E, coef);
  return LLVMBuildMul(E->b, v, wide ? sd_emit_splat(E, c) : c, "");
}

// Constants are summed apart and added last, so that equal indices of different copies are equal instructions.
static sd_ll affine_value(sd_emit *E, const sd_expr *e, bool lanes) {
  int64_t constant = 0, c;
  sd_ll scalar = NULL, vector = NULL;
  if (e->dim && !sd_dim_is_const(E->k->dims, e->dim, &constant)) scalar = sd_emit_dim(E, e->dim);
  for (uint32_t i = 0; i < e->n; i++) {
    const sd_expr *a = e->a[i];
    bool wide = sd_emit_info_of(E, a)->lanes;
    sd_ll v, *sum = wide ? &vector : &scalar;
    if (a->op == SD_X_AXIS && !wide && sd_dim_is_const(E->k->dims, e->coef[i], &c)) {
      const sd_emit_bind *b = sd_emit_bind_of(E, a->axis);
      constant += c * axis_offset(E, b);
      v = scaled(E, b->base, e->coef[i], false);
    } else {
      v = scaled(E, sd_emit_value(E, a), e->coef[i], wide);
    }
    if (v) *sum = *sum ? add(E, *sum, v) : v;
  }
  scalar = add(E, scalar, sd_emit_i64(E, constant));
  if (!lanes) return scalar;
  return sd_emit_const(scalar, &c) && c == 0 ? vector : LLVMBuildAdd(E->b, vector, sd_emit_splat(E, scalar), "");
}

bool sd_emit_true(sd_emit *E, const sd_expr *e) {
  int64_t v;
  if (E->info[e->id].assumed) return true;
  if (e->op == SD_X_AND && e->dtype == SD_BOOL) return sd_emit_true(E, e->a[0]) && sd_emit_true(E, e->a[1]);
  return e->op == SD_X_CONST && sd_x_const_value(e, NULL, &v) && v;
}

static sd_ll stored_sum(sd_emit *E, const sd_expr *e) {
  LLVMTypeRef t = sd_emit_vtype(E, sd_emit_type(E, e->dtype), true);
  sd_ll at = sd_emit_i64(E, sd_emit_project(E, sd_emit_info_of(E, e)->slots));
  return LLVMBuildLoad2(E->b, t, LLVMBuildGEP2(E->b, t, E->info[e->id].sums, &at, 1, ""), "");
}

// The low 4 bits of a vector as numbers: looked up, in one instruction, which sees no other bits.
static sd_ll looked_up(sd_emit *E, sd_ll v) {
  sd_ll table[16];
  for (int i = 0; i < 16; i++) table[i] = LLVMConstReal(E->f32, i);
  return sd_emit_intrinsic(E, "llvm.x86.avx512.permvar.sf.512", NULL, 0, (sd_ll[]){LLVMConstVector(table, 16), v}, 2);
}

// Four bits of each word from bit `by` on: all even or all odd ones of a word become bytes at once, of which a shuffle takes one.
static sd_ll four_bits(sd_emit *E, sd_ll v, int64_t by) {
  LLVMTypeRef words = LLVMTypeOf(v), bytes = LLVMVectorType(E->i8, 32);
  sd_ll from[32];
  if (by % 8) v = LLVMBuildLShr(E->b, v, sd_emit_splat_i(words, 4), "");
  v = LLVMBuildAnd(E->b, v, sd_emit_splat_i(words, 0x0f0f0f0f), "");
  for (unsigned i = 0; i < 32; i++) from[i] = LLVMConstInt(E->i32, i % 4 ? 32 : i + (unsigned)by / 8, 0);
  v = LLVMBuildShuffleVector(E->b, LLVMBuildBitCast(E->b, v, bytes, ""), LLVMConstNull(bytes), LLVMConstVector(from, 32), "");
  return LLVMBuildBitCast(E->b, v, words, "");
}

// Unsigned 4 bits of words (codegen/words.h) as f32, NULL for anything else.
static sd_ll widened(sd_emit *E, const sd_expr *e, bool lanes) {
  const sd_expr *x = e->a[0], *s;
  int64_t mask, by;
  if (!lanes || e->dtype != SD_F32 || x->op != SD_X_AND || x->dtype != SD_I32) return NULL;
  if (!sd_x_const_value(x->a[1], NULL, &mask) || mask != 15) return NULL;
  s = x->a[0];
  if (E->lanes_full == 16) return looked_up(E, sd_emit_value_lanes(E, s, true));
  if (E->isa->vector_bytes != 32 || E->lanes_full != 8 || s->op != SD_X_SHR) return NULL;
  if (!sd_emit_const(sd_emit_value(E, s->a[1]), &by) || by < 0 || by > 28 || by % 4) return NULL;
  return sd_emit_op(E, e, (sd_ll[]){four_bits(E, sd_emit_value_lanes(E, s->a[0], true), by)}, true);
}

static sd_ll compute(sd_emit *E, const sd_expr *e, bool lanes) {
  sd_ll v[3];
  switch (e->op) {
  case SD_X_AXIS: return axis_value(E, e->axis);
  case SD_X_AFFINE: return affine_value(E, e, lanes);
  case SD_X_LOAD: return sd_emit_load(E, e);
  case SD_X_REDUCE:
    if (!E->info[e->id].sums) sd_emit_reduce(E, e);
    return E->info[e->id].sums ? stored_sum(E, e) : sd_emit_kept(E, e);
  case SD_X_SEL:
    if (sd_emit_true(E, e->a[0])) return sd_emit_value_lanes(E, e->a[1], lanes);
    break;
  case SD_X_CAST:
    if (e->dtype == SD_I32 && e->a[0]->op == SD_X_ROUND && e->a[0]->dtype == SD_F32) {
      v[0] = sd_emit_clipped_quotient(E, e->a[0]->a[0], lanes);
      return sd_emit_round_to_i32(E, v[0] ? v[0] : sd_emit_value_lanes(E, e->a[0]->a[0], lanes));
    }
    v[0] = widened(E, e, lanes);
    if (v[0]) return v[0];
    break;
  case SD_X_AND: // a part that is assumed falls away
    if (e->dtype == SD_BOOL && sd_emit_true(E, e->a[0])) return sd_emit_value_lanes(E, e->a[1], lanes);
    if (e->dtype == SD_BOOL && sd_emit_true(E, e->a[1])) return sd_emit_value_lanes(E, e->a[0], lanes);
    break;
  default: break;
  }
  for (uint32_t i = 0; i < e->n && i < 3; i++) v[i] = sd_emit_value_lanes(E, e->a[i], lanes);
  return sd_emit_op(E, e, v, lanes);
}

sd_ll sd_emit_value(sd_emit *E, const sd_expr *e) {
  if (e->op == SD_X_CONST) return constant(E, e);
  bool lanes = sd_emit_info_of(E, e)->lanes;
  if (e->dtype == SD_BOOL && sd_emit_true(E, e)) return sd_emit_splat_i(sd_emit_vtype(E, E->i1, lanes), 1);
  sd_ll v = sd_emit_kept(E, e);
  if (v) return v;
  v = compute(E, e, lanes);
  sd_emit_keep(E, e, v);
  return v;
}

sd_ll sd_emit_value_lanes(sd_emit *E, const sd_expr *e, bool lanes) {
  sd_ll v = sd_emit_value(E, e);
  if (!lanes || sd_emit_info_of(E, e)->lanes) return v;
  if (LLVMIsConstant(v)) return sd_emit_splat(E, v);
  sd_ll *cell = cell_of(E, e, true);
  if (!*cell) fill(E, e, cell, sd_emit_splat(E, v));
  return *cell;
}

// ---- what is emitted ahead ----
// Evaluates e for all its coordinates; the current coordinate stays.
static void all_coords(sd_emit *E, const sd_expr *e) {
  uint32_t saved[SD_EMIT_SLOTS], slots = sd_emit_info_of(E, e)->slots;
  memcpy(saved, E->at, sizeof saved);
  sd_emit_first(E, slots);
  do
    sd_emit_value(E, e);
  while (sd_emit_next(E, slots));
  memcpy(E->at, saved, sizeof saved);
}

static void walk_reductions(sd_emit *E, const sd_expr *e) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  if (x->seen == E->stamp) return;
  x->seen = E->stamp;
  if (e->op == SD_X_REDUCE && x->ready) {
    if (!x->rw && !x->sums && !sd_emit_kept(E, e)) { // its own walks need another stamp
      uint32_t stamp = E->stamp;
      sd_emit_reduce(E, e);
      E->stamp = stamp;
    }
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) walk_reductions(E, e->a[i]);
}

void sd_emit_reductions(sd_emit *E, const sd_expr *e) {
  uint32_t outer = E->stamp;
  E->stamp = ++E->n_stamp;
  walk_reductions(E, e);
  E->stamp = outer;
}

static void walk_hoist(sd_emit *E, const sd_expr *e) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  if (x->seen == E->stamp || e->op == SD_X_CONST) return;
  x->seen = E->stamp;
  if (x->ready && !x->rw) {
    if (e->op != SD_X_AXIS) all_coords(E, e);
    return;
  }
  if (e->op == SD_X_LOAD) {
    if (e->a[1]) walk_hoist(E, e->a[1]);
    sd_emit_addr_extend(E, e->buf, e->a[0]);
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) walk_hoist(E, e->a[i]);
}

void sd_emit_hoist(sd_emit *E, const sd_expr *e) {
  uint32_t outer = E->stamp;
  E->stamp = ++E->n_stamp;
  walk_hoist(E, e); // reductions first would read better, but each stands before its uses anyway
  E->stamp = outer;
}
