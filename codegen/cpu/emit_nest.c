// Nests: loops over the free axes in order, register tiles, and the smaller tiles at the ends of axes.
//
// An axis advances by a segment: `count` copies side by side, of one iteration or of one vector each. What is left at
// the end of an axis is covered by smaller segments: exactly when the length is known, else by a chain of halves; for
// the vector axis by single vectors and a masked one (or single iterations where masks are costly).
#include "codegen/cpu/emit.h"
#include "codegen/dot.h"

static void over_axes(sd_emit *E, uint32_t i);

typedef struct segment { uint32_t count; bool lanes; sd_ll left; /* lanes of the last vector, NULL: all */ } segment;

// One segment of axis i at x, with everything inside.
static void emit_segment(sd_emit *E, uint32_t i, sd_ll x, segment s) {
  const sd_axis *a = E->nest->axes[i];
  sd_emit_scope_open(E);
  sd_emit_bind_slot(E, a, x, s.count, s.lanes ? E->lanes_full : 1);
  sd_emit_lane saved = E->lane;
  if (s.lanes) {
    sd_ll mask = s.left ? LLVMBuildICmp(E->b, LLVMIntULT, sd_emit_iota(E, E->i32), sd_emit_splat(E, s.left), "") : NULL;
    sd_emit_set_lane(E, (sd_emit_lane){a, mask, s.left, sd_emit_bind_of(E, a)->slot, (int)s.count - 1});
  }
  over_axes(E, i + 1);
  if (s.lanes) sd_emit_set_lane(E, saved);
  sd_emit_unbind(E, a);
  sd_emit_scope_close(E);
}

// Segments from lo on while they fit below end; returns where they stop.
static sd_ll segment_loop(sd_emit *E, uint32_t i, sd_ll lo, sd_ll end, segment s) {
  int64_t step = (int64_t)s.count * (s.lanes ? E->lanes_full : 1), l, n;
  bool known = sd_emit_const(lo, &l) && sd_emit_const(end, &n);
  if (known && n - l < step) return lo;
  if (known && n - l < 2 * step) {
    emit_segment(E, i, lo, s);
    return sd_emit_i64(E, l + step);
  }
  sd_emit_loop loop;
  sd_ll last = LLVMBuildSub(E->b, end, sd_emit_i64(E, step), "");
  sd_emit_loop_open(E, &loop, lo, last, step, known, NULL);
  emit_segment(E, i, loop.iv, s);
  sd_emit_loop_close(E, &loop);
  return known ? sd_emit_i64(E, l + (n - l) / step * step) : loop.end;
}

// Exactly n iterations from x on, fewer than a full segment.
static void rest_known(sd_emit *E, uint32_t i, sd_ll x, int64_t n, bool vector, bool masks) {
  if (!vector) {
    emit_segment(E, i, x, (segment){.count = (uint32_t)n});
    return;
  }
  int64_t lanes = E->lanes_full, whole = n / lanes, part = n % lanes;
  if (part && masks) {
    emit_segment(E, i, x, (segment){(uint32_t)whole + 1, true, LLVMConstInt(E->i32, (uint64_t)part, 0)});
    return;
  }
  if (whole) emit_segment(E, i, x, (segment){.count = (uint32_t)whole, .lanes = true});
  sd_ll at = LLVMBuildAdd(E->b, x, sd_emit_i64(E, whole * lanes), "");
  if (part) segment_loop(E, i, at, LLVMBuildAdd(E->b, x, sd_emit_i64(E, n), ""), (segment){.count = 1});
}

static void rest_unknown(sd_emit *E, uint32_t i, sd_ll x, sd_ll end, uint32_t count, bool vector, bool masks) {
  if (!vector) {
    if (count <= 1) return;
    uint32_t half = 1;
    while (half * 2 < count) half *= 2;
    for (; half; half /= 2) x = segment_loop(E, i, x, end, (segment){.count = half});
    return;
  }
  if (count > 1) x = segment_loop(E, i, x, end, (segment){.count = 1, .lanes = true});
  if (!masks) {
    segment_loop(E, i, x, end, (segment){.count = 1});
    return;
  }
  sd_emit_if f;
  sd_emit_if_open(E, &f, LLVMBuildICmp(E->b, LLVMIntSLT, x, end, ""), NULL);
  sd_ll left = LLVMBuildTrunc(E->b, LLVMBuildSub(E->b, end, x, ""), E->i32, "");
  emit_segment(E, i, x, (segment){1, true, left});
  sd_emit_if_close(E, &f);
}

// The lengths that the axis can have in a tile, when they are known: 1 or 2 of them.
static int lengths(sd_emit *E, const sd_axis *a, int64_t *out) {
  int64_t n;
  if (a->limit || !sd_dim_is_const(E->k->dims, a->extent, &n)) return 0;
  if (!E->block_hi[sd_emit_axis_no(E, a)] || n <= a->block) return out[0] = n, 1;
  out[0] = a->block;
  out[1] = n % a->block;
  return out[1] ? 2 : 1;
}

static void over_tiled(sd_emit *E, uint32_t i, sd_ll lo, sd_ll end) {
  const sd_axis *a = E->nest->axes[i];
  bool vector = a->vec > 0 && E->lanes_full > 1, masks = E->isa->masks && !E->narrow;
  uint32_t count = vector ? (uint32_t)a->vec : a->unroll > 1 ? (uint32_t)a->unroll : 1;
  int64_t step = (int64_t)count * (vector ? E->lanes_full : 1), n[2], l;
  int known = lengths(E, a, n);
  if (known == 1 && sd_emit_const(lo, &l)) end = sd_emit_i64(E, l + n[0]);
  sd_ll x = lo;
  if (known == 1 && n[0] < step) {
    if (n[0] > 0) rest_known(E, i, x, n[0], vector, masks);
    return;
  }
  if (known == 1 && n[0] < 2 * step) {
    emit_segment(E, i, lo, (segment){.count = count, .lanes = vector});
    x = LLVMBuildAdd(E->b, lo, sd_emit_i64(E, step), "");
  } else {
    x = segment_loop(E, i, lo, end, (segment){.count = count, .lanes = vector});
  }
  if (!known) {
    rest_unknown(E, i, x, end, count, vector, masks);
    return;
  }
  if (known == 1 || n[0] % step == n[1] % step) {
    if (n[0] % step) rest_known(E, i, x, n[0] % step, vector, masks);
    return;
  }
  sd_ll left = LLVMBuildSub(E->b, end, x, "");
  for (int j = 0; j < 2; j++) {
    if (n[j] % step == 0) continue;
    sd_emit_if f;
    sd_emit_if_open(E, &f, LLVMBuildICmp(E->b, LLVMIntEQ, left, sd_emit_i64(E, n[j] % step), ""), NULL);
    rest_known(E, i, x, n[j] % step, vector, masks);
    sd_emit_if_close(E, &f);
  }
}

// ---- one register tile ----
static void stores(sd_emit *E) {
  for (uint32_t s = 0; s < E->n_root; s++) {
    memset(E->at, 0, sizeof E->at);
    E->rw_cells.len = 0;
    do
      sd_emit_store(E, &E->root[s]);
    while (sd_emit_next(E, (1u << E->n_slot) - 1));
    for (uint32_t i = 0; i < E->rw_cells.len; i++) *E->rw_cells.at[i] = NULL;
  }
}

static void point(sd_emit *E) {
  for (uint32_t s = 0; s < E->n_root; s++) { // sums first: what else the stores need is not live across their loops
    const sd_emit_root *r = &E->root[s];
    if (r->guard) sd_emit_reductions(E, r->guard);
    sd_emit_reductions(E, r->offset);
    sd_emit_reductions(E, r->value);
  }
  if (!sd_emit_rolled(E, stores)) stores(E);
  sd_emit_matrix_forget(E);
}

static void hoist(sd_emit *E) {
  for (uint32_t s = 0; s < E->n_root; s++) {
    const sd_emit_root *r = &E->root[s];
    if (r->guard) sd_emit_hoist(E, r->guard);
    sd_emit_addr_extend(E, r->buf, r->offset);
    sd_emit_hoist(E, r->value);
  }
}

static void over_axes(sd_emit *E, uint32_t i) {
  const sd_nest *n = E->nest;
  if (i == n->n_axes) {
    point(E);
    return;
  }
  hoist(E);
  const sd_axis *a = n->axes[i];
  int no = sd_emit_axis_no(E, a);
  sd_ll end = sd_emit_axis_end(E, a), lo = E->block_lo[no] ? E->block_lo[no] : sd_emit_i64(E, 0);
  if (E->block_hi[no]) {
    end = E->block_hi[no];
    if (a->limit) {
      sd_ll limit = sd_emit_value(E, a->limit);
      end = LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, limit, end, ""), limit, end, "");
    }
  }
  bool fixed = n->sequential || sd_emit_limits(E, a); // one point at a time
  if (fixed)
    segment_loop(E, i, lo, end, (segment){.count = 1});
  else
    over_tiled(E, i, lo, end);
}

// ---- the nest ----
static bool written(const sd_nest *n, const sd_buf *b) {
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].buf == b) return true;
  return false;
}

// Axes on which the limits of others depend: copies of them would differ in the lengths of the loops inside.
static void add_limit(sd_emit *E, const sd_axis *a) {
  if (!a->limit) return;
  sd_emit_info_of(E, a->limit);
  for (int w = 0; w < SD_EMIT_AXES / 64; w++) E->limiting.w[w] |= E->info[a->limit->id].set.w[w];
}

bool sd_emit_limits(sd_emit *E, const sd_axis *a) {
  int no = sd_emit_axis_no(E, a);
  return E->limiting.w[no / 64] >> no % 64 & 1;
}

static const sd_axis *lanes_of(const sd_nest *n) {
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (n->axes[i]->vec > 0) return n->axes[i];
  return NULL;
}

// Narrow elements that lanes load, whose masks are costly before AVX-512; not those of packed words.
static bool is_narrow(sd_emit *E, const sd_expr *e) {
  const sd_axis *lanes = lanes_of(E->nest);
  return E->isa->vector_bytes < 64 && lanes && e->op == SD_X_LOAD && sd_dtype_bits(e->buf->dtype) < 32 && sd_x_uses_axis(e, lanes);
}

// Marks what reads a buffer that the nest writes; notes narrow elements.
static bool mark(sd_emit *E, const sd_expr *e) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  sd_dot d;
  if (x->seen == E->stamp) return x->rw;
  x->seen = E->stamp;
  x->rw = e->op == SD_X_LOAD && written(E->nest, e->buf);
  bool narrow = E->narrow || is_narrow(E, e), words = e->op == SD_X_REDUCE && sd_dot_is(E->k, e, lanes_of(E->nest), &d);
  E->narrow = narrow;
  for (uint32_t i = 0; e->op == SD_X_REDUCE && i < e->n_axes; i++) add_limit(E, e->axes[i]);
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i] && mark(E, e->a[i])) x->rw = true;
  if (words) E->narrow = narrow;
  return x->rw;
}

void sd_emit_nest(sd_emit *E, const struct sd_emit_nestroots *n) {
  E->nest = n->nest;
  E->root = n->root;
  E->n_root = n->nest->stores.len;
  E->narrow = false;
  E->limiting = (sd_emit_axset){{0}};
  for (uint32_t i = 0; i < n->nest->n_axes; i++) add_limit(E, n->nest->axes[i]);
  E->stamp = ++E->n_stamp;
  for (uint32_t i = 0; i < E->n_root; i++) {
    mark(E, n->root[i].value);
    mark(E, n->root[i].offset);
    if (n->root[i].guard) mark(E, n->root[i].guard);
  }
  sd_emit_scope_open(E);
  sd_ll some = NULL; // with an empty axis nothing may be read
  for (uint32_t i = 0; i < n->nest->n_axes; i++) {
    int64_t v;
    const sd_axis *a = n->nest->axes[i];
    if (sd_dim_is_const(E->k->dims, a->extent, &v) && v > 0) continue;
    sd_ll ok = LLVMBuildICmp(E->b, LLVMIntSGT, sd_emit_dim(E, a->extent), sd_emit_i64(E, 0), "");
    some = some ? LLVMBuildAnd(E->b, some, ok, "") : ok;
  }
  sd_emit_if f;
  if (some) sd_emit_if_open(E, &f, some, NULL);
  over_axes(E, 0);
  if (some) sd_emit_if_close(E, &f);
  sd_emit_scope_close(E);
}
