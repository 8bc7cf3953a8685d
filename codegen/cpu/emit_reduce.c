// Reductions inside a register tile: accumulators for all coordinates at once, loops over the reduction axes, versions
// of the loops for guards that hold everywhere or nowhere, and reductions spread over vector lanes.
#include <string.h>

#include "codegen/cpu/emit.h"

#define MAX_GUARDS  12
#define LEAST_BLOCK 16 // steps; fewer are not worth a sum of their own

typedef struct reduction {
  const sd_expr *e, *body;
  const sd_expr *x, *y; // their product is what is added; NULL = the body
  uint32_t slots;       // coordinates of the result
  const sd_axis *vaxis; // axis spread over lanes, NULL = none
  uint32_t wide, which; // accumulators of a result side by side (over vaxis, else over copies), the one that is added to now
  bool plain;           // no versions any more
  bool one_by_one;      // blocks have no sums of their own
  sd_emit_carry acc;    // [coordinate][wide]
} reduction;

static void over_axes(sd_emit *E, reduction *R, uint32_t i);

// ---- combining ----
static sd_ll identity(sd_emit *E, const sd_expr *e, bool lanes) {
  LLVMTypeRef t = sd_emit_vtype(E, sd_emit_type(E, e->dtype), lanes);
  bool f = sd_dtype_is_float(e->dtype), is_signed = sd_dtype_kind_of(e->dtype) == SD_DK_I;
  int bits = sd_dtype_bits(e->dtype);
  if (e->rop == SD_R_SUM) return LLVMConstNull(t);
  if (e->rop == SD_R_PROD) return f ? sd_emit_splat_f(t, 1) : sd_emit_splat_i(t, 1);
  double inf = e->rop == SD_R_MAX ? -__builtin_inf() : __builtin_inf();
  if (f) return sd_emit_splat_f(t, inf);
  if (!is_signed) return e->rop == SD_R_MAX ? LLVMConstNull(t) : LLVMConstAllOnes(t);
  uint64_t low = 1ull << (bits - 1);
  return sd_emit_splat_i(t, (int64_t)(e->rop == SD_R_MAX ? low : low - 1));
}

// Minima and maxima look for NaN in v: where several results have it, the test is shared and stands beside their chains.
static sd_ll combine(sd_emit *E, const sd_expr *e, sd_ll acc, sd_ll v) {
  bool f = sd_dtype_is_float(e->dtype);
  switch (e->rop) {
  case SD_R_SUM: return f ? LLVMBuildFAdd(E->b, acc, v, "") : LLVMBuildAdd(E->b, acc, v, "");
  case SD_R_PROD: return f ? LLVMBuildFMul(E->b, acc, v, "") : LLVMBuildMul(E->b, acc, v, "");
  case SD_R_MAX: return sd_emit_minmax(E, e->dtype, true, v, acc);
  default: return sd_emit_minmax(E, e->dtype, false, v, acc);
  }
}

static void accumulate_one(sd_emit *E, reduction *R, bool lanes) {
  sd_ll *acc = &R->acc.v[sd_emit_project(E, R->slots) * R->wide + R->which], r;
  const sd_expr *b = R->body;
  if (R->x || (b->op == SD_X_MUL && R->e->rop == SD_R_SUM && sd_dtype_is_float(b->dtype) && !sd_emit_kept(E, b))) {
    sd_ll x = sd_emit_value_lanes(E, R->x ? R->x : b->a[0], lanes);
    if (LLVMIsNull(x)) return; // a guard that is false by construction
    sd_ll y = sd_emit_value_lanes(E, R->x ? R->y : b->a[1], lanes);
    if (LLVMIsNull(y)) return;
    r = sd_emit_fma(E, x, y, *acc);
  } else {
    sd_ll v = sd_emit_value_lanes(E, b, lanes);
    r = *acc ? combine(E, R->e, *acc, v) : v;
  }
  if (R->vaxis && E->lane.mask) r = LLVMBuildSelect(E->b, E->lane.mask, r, *acc, "");
  *acc = r;
}

static void accumulate(sd_emit *E, reduction *R) {
  bool lanes = R->vaxis || sd_emit_info_of(E, R->body)->lanes;
  sd_emit_reductions(E, R->body);
  sd_emit_first(E, R->slots);
  do
    accumulate_one(E, R, lanes);
  while (sd_emit_next(E, R->slots));
}

// ---- guards ----
typedef struct guards { const sd_expr *g[MAX_GUARDS]; uint32_t n; } guards;

static void add_guard(sd_emit *E, guards *s, const sd_expr *g, bool later) {
  if (sd_emit_true(E, g) || g->op == SD_X_CONST) return;
  if (g->op == SD_X_AND) {
    add_guard(E, s, g->a[0], later);
    add_guard(E, s, g->a[1], later);
    return;
  }
  const sd_emit_info *x = sd_emit_info_of(E, g);
  if ((!x->ready && !later) || x->rw || (x->lanes && E->lane.mask)) return;
  for (uint32_t i = 0; i < s->n; i++)
    if (s->g[i] == g) return;
  if (s->n < MAX_GUARDS) s->g[s->n++] = g;
}

// Guards of loads below e that are known now, or (`later`) known once the remaining, unrolled axes are.
static void find_guards(sd_emit *E, guards *s, const sd_expr *e, bool later) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  if (x->seen == E->stamp || (x->ready && e->op != SD_X_LOAD)) return;
  x->seen = E->stamp;
  if (e->op == SD_X_REDUCE) return;
  if (e->op == SD_X_LOAD) {
    if (e->a[1] && !x->ready) add_guard(E, s, e->a[1], later);
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) find_guards(E, s, e->a[i], later);
}

static bool full_unroll(sd_emit *E, const sd_axis *a, int64_t *n) {
  return !a->limit && !a->vec && sd_dim_is_const(E->k->dims, a->extent, n) && *n <= SD_MAX_UNROLL &&
         (a->unroll == 0 || a->unroll >= *n);
}

static sd_ll and_(sd_emit *E, sd_ll x, sd_ll y) {
  int64_t c;
  if (!x || (sd_emit_const(x, &c) && c)) return y;
  if (x == y || sd_emit_const(x, &c)) return x;
  return sd_emit_const(y, &c) ? (c ? x : y) : LLVMBuildAnd(E->b, x, y, "");
}
static sd_ll or_(sd_emit *E, sd_ll x, sd_ll y) {
  int64_t c;
  if (!x || (sd_emit_const(x, &c) && !c)) return y;
  if (x == y || sd_emit_const(x, &c)) return x;
  return sd_emit_const(y, &c) ? (c ? y : x) : LLVMBuildOr(E->b, x, y, "");
}

// Over all coordinates (and the unrolled axes from i on): is guard `g` true everywhere, and anywhere?
static void test_guard(sd_emit *E, reduction *R, uint32_t i, const sd_expr *g, sd_ll *all, sd_ll *any) {
  if (!sd_emit_ready(E, g)) {
    const sd_axis *a = R->e->axes[i];
    int64_t n = 0;
    full_unroll(E, a, &n);
    for (int64_t r = 0; r < n; r++) {
      sd_emit_scope_open(E);
      sd_emit_bind_point(E, a, NULL, r);
      test_guard(E, R, i + 1, g, all, any);
      sd_emit_unbind(E, a);
      sd_emit_scope_close(E);
    }
    return;
  }
  uint32_t slots = sd_emit_info_of(E, g)->slots;
  sd_emit_first(E, slots);
  do {
    sd_ll v = sd_emit_value(E, g);
    *all = and_(E, *all, sd_emit_all(E, v));
    *any = or_(E, *any, sd_emit_any(E, v));
  } while (sd_emit_next(E, slots));
}

static bool needs(const sd_expr *guard, const sd_expr *g) { // guard = ... AND g AND ...
  return guard == g || (guard->op == SD_X_AND && (needs(guard->a[0], g) || needs(guard->a[1], g)));
}

// Does e add nothing to the reduction where g is false?
static bool neutral(const reduction *R, const sd_expr *e, const sd_expr *g) {
  double f;
  switch (e->op) {
  case SD_X_LOAD: return R->e->rop == SD_R_SUM && e->a[1] && needs(e->a[1], g);
  case SD_X_MUL:
    return R->e->rop == SD_R_SUM && sd_dtype_is_float(e->dtype) && (neutral(R, e->a[0], g) || neutral(R, e->a[1], g));
  case SD_X_SEL:
    if (!needs(e->a[0], g) || !sd_dtype_is_float(e->dtype) || !sd_x_const_value(e->a[2], &f, NULL)) return false;
    return R->e->rop == SD_R_SUM ? f == 0 : R->e->rop == SD_R_MAX ? f == -__builtin_inf() : R->e->rop == SD_R_MIN && f == __builtin_inf();
  default: return false;
  }
}

static void over_axis(sd_emit *E, reduction *R, uint32_t i);

// Runs the loops from axis i on: once without the guards where they all hold, else with them, or not at all.
static void versions(sd_emit *E, reduction *R, uint32_t i, const guards *s) {
  sd_ll all = NULL, some = NULL;
  bool single = true;
  for (uint32_t j = 0; j < s->n; j++) {
    sd_ll any = NULL, mine = NULL;
    bool bit = sd_emit_ready(E, s->g[j]) && !sd_emit_info_of(E, s->g[j])->slots && !sd_emit_info_of(E, s->g[j])->lanes;
    test_guard(E, R, i, s->g[j], &mine, &any);
    all = and_(E, all, mine);
    bool skip = neutral(R, R->body, s->g[j]);
    if (skip) some = and_(E, some, any);
    single = single && bit && skip;
  }
  sd_emit_if f, h;
  int64_t yes;
  if (sd_emit_const(all, &yes)) { // decided here: only one version is left
    for (uint32_t j = 0; j < s->n && yes; j++) E->info[s->g[j]->id].assumed++;
    bool was = R->plain;
    R->plain = R->plain || !yes;
    over_axis(E, R, i);
    R->plain = was;
    for (uint32_t j = 0; j < s->n && yes; j++) E->info[s->g[j]->id].assumed--;
    return;
  }
  sd_emit_if_open(E, &f, all, &R->acc);
  for (uint32_t j = 0; j < s->n; j++) E->info[s->g[j]->id].assumed++;
  over_axis(E, R, i);
  for (uint32_t j = 0; j < s->n; j++) E->info[s->g[j]->id].assumed--;
  if (!single) {
    sd_emit_if_else(E, &f);
    bool was = R->plain;
    R->plain = true;
    if (some) sd_emit_if_open(E, &h, some, &R->acc);
    over_axis(E, R, i);
    if (some) sd_emit_if_close(E, &h);
    R->plain = was;
  }
  sd_emit_if_close(E, &f);
}

// ---- loops ----
static void copies(sd_emit *E, reduction *R, uint32_t i, sd_ll base, int64_t n) {
  const sd_axis *a = R->e->axes[i];
  for (int64_t r = 0; r < n; r++) {
    sd_emit_scope_open(E);
    sd_emit_bind_point(E, a, base, r);
    if (!R->vaxis && i + 1 == R->e->n_axes) R->which = (uint32_t)r % R->wide;
    over_axes(E, R, i + 1);
    sd_emit_unbind(E, a);
    sd_emit_scope_close(E);
  }
}

// The innermost axis of a window is reduced by itself first, which changes no bit of a minimum or maximum: windows that
// overlap across it share these parts (LLVM finds equal ones).
static void part_copies(sd_emit *E, reduction *R, uint32_t i, int64_t n) {
  sd_ll *acc = SD_NEW_ARRAY(E->a, sd_ll, R->acc.n);
  memcpy(acc, R->acc.v, R->acc.n * sizeof *acc);
  memset(R->acc.v, 0, R->acc.n * sizeof *acc);
  copies(E, R, i, NULL, n);
  for (uint32_t k = 0; k < R->acc.n; k++) R->acc.v[k] = R->acc.v[k] ? combine(E, R->e, acc[k], R->acc.v[k]) : acc[k];
}

static bool parts(const reduction *R, uint32_t i, int64_t n) {
  bool order = R->e->rop == SD_R_MAX || R->e->rop == SD_R_MIN;
  return order && i > 0 && i == R->e->n_axes - 1 && n > 1 && !R->vaxis;
}

static void loop(sd_emit *E, reduction *R, uint32_t i, sd_ll lo, sd_ll last, int64_t step, bool sure, sd_ll *end) {
  sd_emit_loop l;
  const sd_axis *a = R->e->axes[i];
  sd_emit_panel panel;
  bool ahead = step == 1 && i + 2 >= R->e->n_axes && R->body == R->e->a[0] && sd_emit_panel_open(E, R->e, i, &panel);
  sd_emit_loop_open(E, &l, lo, last, step, sure, &R->acc);
  if (ahead) sd_emit_panel_ask(E, &panel, l.iv, 0, panel.lines);
  if (step > 1) {
    sd_emit_bind_base(E, a, l.iv);
    sd_emit_hoist(E, R->body);
  }
  copies(E, R, i, l.iv, step);
  sd_emit_unbind(E, a);
  sd_emit_loop_close(E, &l);
  *end = l.end;
}

static void scalar_axis(sd_emit *E, reduction *R, uint32_t i) {
  const sd_axis *a = R->e->axes[i];
  sd_ll end = sd_emit_axis_end(E, a), x = sd_emit_i64(E, 0);
  int64_t n, u = a->unroll > 1 ? a->unroll : 1;
  if (full_unroll(E, a, &n)) {
    if (parts(R, i, n)) part_copies(E, R, i, n);
    else copies(E, R, i, NULL, n);
    return;
  }
  if (u > SD_MAX_UNROLL) u = SD_MAX_UNROLL;
  if (sd_emit_const(end, &n)) {
    if (n >= u) loop(E, R, i, x, sd_emit_i64(E, n - u), u, true, &x);
    if (n % u > 0) copies(E, R, i, sd_emit_i64(E, n / u * u), n % u);
    return;
  }
  if (u > 1) loop(E, R, i, x, LLVMBuildSub(E->b, end, sd_emit_i64(E, u), ""), u, false, &x);
  loop(E, R, i, x, LLVMBuildSub(E->b, end, sd_emit_i64(E, 1), ""), 1, false, &x);
}

static void lane_copies(sd_emit *E, reduction *R, uint32_t i, sd_ll base, int64_t n, sd_ll last_mask) {
  const sd_axis *a = R->e->axes[i];
  for (int64_t r = 0; r < n; r++) {
    sd_emit_scope_open(E);
    sd_emit_set_lane(E, (sd_emit_lane){.axis = a, .mask = r == n - 1 ? last_mask : NULL, .mask_slot = -1});
    sd_emit_bind_point(E, a, base, r * E->lanes_full);
    R->which = (uint32_t)r;
    over_axes(E, R, i + 1);
    R->which = 0;
    sd_emit_unbind(E, a);
    sd_emit_set_lane(E, (sd_emit_lane){0});
    sd_emit_scope_close(E);
  }
}

static void lane_loop(sd_emit *E, reduction *R, uint32_t i, sd_ll lo, sd_ll last, int64_t n, bool sure, sd_ll *end) {
  sd_emit_loop l;
  sd_emit_loop_open(E, &l, lo, last, n * E->lanes_full, sure, &R->acc);
  lane_copies(E, R, i, l.iv, n, NULL);
  sd_emit_loop_close(E, &l);
  *end = l.end;
}

static sd_ll mask_below(sd_emit *E, sd_ll count) { // lanes [0, count)
  sd_ll n = sd_emit_splat(E, LLVMBuildTrunc(E->b, count, E->i32, ""));
  return LLVMBuildICmp(E->b, LLVMIntULT, sd_emit_iota(E, E->i32), n, "");
}

static void lane_axis(sd_emit *E, reduction *R, uint32_t i) {
  const sd_axis *a = R->e->axes[i];
  int64_t v = R->wide, lanes = E->lanes_full, n;
  sd_emit_lane saved = E->lane;
  sd_ll end = sd_emit_axis_end(E, a), x = sd_emit_i64(E, 0);
  if (sd_emit_const(end, &n)) {
    int64_t step = v * lanes, rest = n % step;
    if (n >= step) lane_loop(E, R, i, x, sd_emit_i64(E, n - step), v, true, &x);
    sd_ll mask = rest % lanes ? mask_below(E, sd_emit_i64(E, rest % lanes)) : NULL;
    lane_copies(E, R, i, sd_emit_i64(E, n - rest), (rest + lanes - 1) / lanes, mask);
  } else {
    if (v > 1) lane_loop(E, R, i, x, LLVMBuildSub(E->b, end, sd_emit_i64(E, v * lanes), ""), v, false, &x);
    lane_loop(E, R, i, x, LLVMBuildSub(E->b, end, sd_emit_i64(E, lanes), ""), 1, false, &x);
    sd_emit_if f;
    sd_emit_if_open(E, &f, LLVMBuildICmp(E->b, LLVMIntSLT, x, end, ""), &R->acc);
    lane_copies(E, R, i, x, 1, mask_below(E, LLVMBuildSub(E->b, end, x, "")));
    sd_emit_if_close(E, &f);
  }
  sd_emit_set_lane(E, saved);
}

static void over_axis(sd_emit *E, reduction *R, uint32_t i) {
  if (R->e->axes[i] == R->vaxis)
    lane_axis(E, R, i);
  else
    scalar_axis(E, R, i);
}

static sd_ll horizontal(sd_emit *E, const reduction *R, const sd_ll *acc) {
  sd_ll v = acc[0], index[64];
  for (uint32_t i = 1; i < R->wide; i++) v = combine(E, R->e, v, acc[i]);
  for (int half = E->lanes_full / 2; half >= 1; half /= 2) {
    for (int i = 0; i < E->lanes_full; i++) index[i] = i < half ? LLVMConstInt(E->i32, (uint64_t)(i + half), 0) : LLVMGetPoison(E->i32);
    sd_ll high = LLVMBuildShuffleVector(E->b, v, v, LLVMConstVector(index, (unsigned)E->lanes_full), "");
    v = combine(E, R->e, v, high);
  }
  return LLVMBuildExtractElement(E->b, v, LLVMConstInt(E->i32, 0, 0), "");
}

// ---- dequantized blocks ----
// The sum of x * (q * s + z) over the axes from i on, where s and z stand still, is s * sum(x * q) + z * sum(x): the weights of
// a block are then widened and no more. For one row only: several share the products q * s + z. Returns q * s + z.
static const sd_expr *block_weight(sd_emit *E, const reduction *R, uint32_t i) {
  const sd_expr *b = R->body, *m, *x;
  const sd_axis *last = R->e->axes[R->e->n_axes - 1];
  int64_t steps = 1, n;
  sd_dim by;
  if (R->one_by_one || R->x || R->vaxis || R->e->rop != SD_R_SUM || b->op != SD_X_MUL || b->dtype != SD_F32) return NULL;
  m = b->a[b->a[0]->op != SD_X_FMA], x = b->a[b->a[0]->op == SD_X_FMA];
  if (m->op != SD_X_FMA || m->a[0]->op != SD_X_CAST || x->op != SD_X_LOAD || x->a[1] || x->buf->dtype != SD_F32) return NULL;
  if (!sd_emit_ready(E, m->a[1]) || !sd_emit_ready(E, m->a[2]) || sd_emit_ready(E, m->a[0])) return NULL;
  if (sd_emit_info_of(E, x)->slots || sd_emit_info_of(E, x)->lanes || !sd_emit_info_of(E, b)->lanes) return NULL;
  for (uint32_t j = i; j < R->e->n_axes; j++) {
    if (R->e->axes[j]->limit || !sd_dim_is_const(E->k->dims, R->e->axes[j]->extent, &n)) return NULL;
    steps *= n;
  }
  return steps >= LEAST_BLOCK && sd_x_coef(E->k, x->a[0], last, &by) && sd_dim_is(E->k->dims, by, 1) ? m : NULL;
}

static void add_block(sd_emit *E, reduction *R, uint32_t i, const sd_expr *m, sd_ll sum) {
  uint32_t n = R->acc.n, chains = (uint32_t)E->isa->registers / 4; // so that no sum waits for the one before
  reduction q = {.e = R->e, .body = R->body, .x = R->body->a[R->body->a[0] == m], .y = m->a[0], .slots = R->slots, .wide = n < chains ? chains / n : 1};
  sd_emit_carry_init(E, &q.acc, n * q.wide);
  for (uint32_t k = 0; k < q.acc.n; k++) q.acc.v[k] = identity(E, R->e, true);
  over_axes(E, &q, i);
  sd_emit_first(E, R->slots);
  do {
    uint32_t k = sd_emit_project(E, R->slots);
    sd_ll v = q.acc.v[k * q.wide];
    for (uint32_t w = 1; w < q.wide; w++) v = combine(E, R->e, v, q.acc.v[k * q.wide + w]);
    v = sd_emit_fma(E, v, sd_emit_value_lanes(E, m->a[1], true), R->acc.v[k]);
    R->acc.v[k] = sd_emit_fma(E, sum, sd_emit_value_lanes(E, m->a[2], true), v);
  } while (sd_emit_next(E, R->slots));
}

// Where the sum of x is not finite, infinities would meet zeros and each other that do not meet in the products.
static void over_block(sd_emit *E, reduction *R, uint32_t i, const sd_expr *m) {
  reduction x = {.e = R->e, .body = R->body->a[R->body->a[0] == m], .vaxis = R->e->axes[R->e->n_axes - 1], .wide = 1};
  sd_emit_carry_init(E, &x.acc, 1);
  x.acc.v[0] = identity(E, R->e, true);
  over_axes(E, &x, i);
  sd_ll sum = horizontal(E, &x, x.acc.v), zero = LLVMBuildFSub(E->b, sum, sum, "");
  sd_emit_if f;
  sd_emit_if_open(E, &f, LLVMBuildFCmp(E->b, LLVMRealOEQ, zero, zero, ""), &R->acc);
  add_block(E, R, i, m, sd_emit_splat(E, sum));
  sd_emit_if_else(E, &f);
  R->one_by_one = true;
  over_axis(E, R, i);
  R->one_by_one = false;
  sd_emit_if_close(E, &f);
}

static void over_axes(sd_emit *E, reduction *R, uint32_t i) {
  if (i == R->e->n_axes) {
    accumulate(E, R);
    return;
  }
  sd_emit_hoist(E, R->body);
  if (i + 2 == R->e->n_axes && sd_emit_matrix_add(E, R->e)) return;
  if (i + 2 <= R->e->n_axes && !R->vaxis && sd_emit_dot(E, R->e, i, R->slots, &R->acc)) return;
  if (i + 2 == R->e->n_axes && !R->vaxis && sd_emit_blocks(E, R->e, R->slots, &R->acc)) return;
  const sd_expr *m = block_weight(E, R, i);
  if (m) {
    over_block(E, R, i, m);
    return;
  }
  guards s = {.n = 0};
  bool later = !R->vaxis;
  int64_t n;
  for (uint32_t j = i; j < R->e->n_axes; j++) later = later && full_unroll(E, R->e->axes[j], &n);
  uint32_t stamp = E->stamp;
  E->stamp = ++E->n_stamp;
  if (!R->plain) find_guards(E, &s, R->body, later);
  E->stamp = stamp;
  if (s.n)
    versions(E, R, i, &s);
  else
    over_axis(E, R, i);
}

// ---- the whole ----
void sd_emit_reduce_at(sd_emit *E, const sd_expr *e, sd_ll *out) {
  reduction R = {.e = e, .body = e->a[0], .slots = sd_emit_info_of(E, e)->slots, .wide = 1};
  uint32_t saved[SD_EMIT_SLOTS];
  memcpy(saved, E->at, sizeof saved);
  sd_emit_carry_init(E, &R.acc, sd_emit_coords(E, R.slots));
  for (uint32_t i = 0; i < R.acc.n; i++) R.acc.v[i] = identity(E, e, true);
  over_axes(E, &R, 0);
  memcpy(out, R.acc.v, R.acc.n * sizeof *out);
  memcpy(E->at, saved, sizeof saved);
}

void sd_emit_reduce(sd_emit *E, const sd_expr *e) {
  const sd_emit_info *x = sd_emit_info_of(E, e);
  reduction R = {.e = e, .body = e->a[0], .slots = x->slots, .wide = 1};
  uint32_t n = sd_emit_coords(E, R.slots), saved[SD_EMIT_SLOTS];
  for (uint32_t i = 0; i < e->n_axes && !x->lanes && !E->nest->sequential; i++)
    if (e->axes[i]->vec > 0 && !R.vaxis && !sd_emit_limits(E, e->axes[i])) R.vaxis = e->axes[i], R.wide = (uint32_t)e->axes[i]->vec;
  memcpy(saved, E->at, sizeof saved);
  if (!R.vaxis && sd_emit_matrix_open(E, e, R.slots)) {
    sd_emit_carry_init(E, &R.acc, 0);
    over_axes(E, &R, 0);
    sd_emit_matrix_close(E);
    memcpy(E->at, saved, sizeof saved);
    return;
  }
  sd_emit_carry_init(E, &R.acc, n * R.wide);
  for (uint32_t i = 0; i < R.acc.n; i++) R.acc.v[i] = identity(E, e, x->lanes || R.vaxis);
  over_axes(E, &R, 0);
  sd_emit_first(E, R.slots);
  do {
    const sd_ll *acc = &R.acc.v[sd_emit_project(E, R.slots) * R.wide];
    sd_emit_keep(E, e, R.vaxis ? horizontal(E, &R, acc) : *acc);
  } while (sd_emit_next(E, R.slots));
  memcpy(E->at, saved, sizeof saved);
}
