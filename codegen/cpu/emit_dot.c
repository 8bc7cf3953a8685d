// Sums of products of small integers and of bf16 (codegen/dot.h): a turn adds the steps side by side, of u8 by i8 and of bf16 with
// one instruction, of i16 with two, of other pairs widened to 16 bits. Those of integers are exact: nothing saturates. Steps in the order of a table
// are shuffled, and two or four products of bytes added in 16 bits, which they fit. Of factors in three parts these are added up, and f32
// multiplied.
#include "codegen/cpu/emit.h"
#include "codegen/dot.h"

typedef struct dot {
  sd_dot d;
  uint32_t slots;     // of the sums
  sd_emit_carry *acc; // by coordinate
  int64_t steps;      // of this turn
} dot;

// ---- the steps of a factor as one i32, of w one for each lane ----

// The first `steps` elements of those in 32 bits; the rest 0.
static sd_ll few(sd_emit *E, const sd_expr *load, int64_t steps) {
  sd_ll v = LLVMConstNull(E->i32);
  int64_t bits = sd_dtype_bits(load->buf->dtype);
  for (int64_t i = 0; i < steps; i++) {
    sd_ll x = LLVMBuildZExt(E->b, sd_emit_load_at(E, load, i, bits == 8 ? E->i8 : E->i16), E->i32, "");
    v = LLVMBuildOr(E->b, v, LLVMBuildShl(E->b, x, LLVMConstInt(E->i32, (uint64_t)(bits * i), 0), ""), "");
  }
  return v;
}

static sd_ll word(sd_emit *E, const dot *x) {
  sd_ll v = x->steps == x->d.steps ? sd_emit_load_at(E, x->d.a[0], 0, E->i32) : few(E, x->d.a[0], x->steps);
  return sd_emit_splat(E, v);
}

// The f32 of the even or the odd steps whose parts are two bf16 in each word.
static sd_ll whole(sd_emit *E, const sd_ll *word, int parts, bool odd) {
  sd_ll part[SD_DOT_PARTS];
  for (int i = 0; i < parts; i++) {
    LLVMTypeRef t = LLVMTypeOf(word[i]);
    bool lanes = LLVMGetTypeKind(t) == LLVMVectorTypeKind;
    sd_ll v = odd ? LLVMBuildAnd(E->b, word[i], sd_emit_splat_i(t, (int64_t)0xffff0000), "") : LLVMBuildShl(E->b, word[i], sd_emit_splat_i(t, 16), "");
    part[i] = LLVMBuildBitCast(E->b, v, sd_emit_vtype(E, E->f32, lanes), "");
  }
  return parts == 1 ? part[0] : LLVMBuildFAdd(E->b, part[0], LLVMBuildFAdd(E->b, part[1], part[2], ""), "");
}

static sd_ll whole_at(sd_emit *E, const sd_expr *const *load, int parts, LLVMTypeRef t, bool odd) {
  sd_ll word[SD_DOT_PARTS];
  for (int i = 0; i < parts; i++) word[i] = sd_emit_load_at(E, load[i], 0, t);
  return whole(E, word, parts, odd);
}

// ---- one turn ----

// Two of four bytes as 16 bits each: those at even places, or those at odd ones.
static sd_ll halves(sd_emit *E, sd_ll v, sd_dtype t, bool odd) {
  unsigned n = (unsigned)E->lanes_full * 2;
  sd_ll h = LLVMBuildBitCast(E->b, v, LLVMVectorType(E->i16, n), ""), eight = sd_emit_splat_i(LLVMTypeOf(h), 8);
  if (t == SD_U8)
    return odd ? LLVMBuildLShr(E->b, h, eight, "") : LLVMBuildAnd(E->b, h, sd_emit_splat_i(LLVMTypeOf(h), 255), "");
  if (!odd) h = LLVMBuildShl(E->b, h, eight, "");
  return LLVMBuildAShr(E->b, h, eight, "");
}

static sd_ll added(sd_emit *E, sd_ll acc, sd_ll x, sd_ll y) {
  const char *name = E->lanes_full == 16  ? "llvm.x86.avx512.pmaddw.d.512"
                     : E->lanes_full == 8 ? "llvm.x86.avx2.pmadd.wd"
                                          : "llvm.x86.sse2.pmadd.wd";
  return LLVMBuildAdd(E->b, acc, sd_emit_intrinsic(E, name, NULL, 0, (sd_ll[]){x, y}, 2), "");
}

static sd_ll added_words(sd_emit *E, sd_ll acc, sd_ll x, sd_ll y) {
  LLVMTypeRef t = LLVMVectorType(E->i16, 2 * (unsigned)E->lanes_full);
  return added(E, acc, LLVMBuildBitCast(E->b, x, t, ""), LLVMBuildBitCast(E->b, y, t, ""));
}

static sd_ll at_once(sd_emit *E, sd_ll acc, sd_ll x, sd_ll y) {
  if (LLVMGetTypeKind(LLVMGetElementType(LLVMTypeOf(acc))) == LLVMFloatTypeKind) {
    LLVMTypeRef t = LLVMVectorType(LLVMBFloatTypeInContext(E->c), 2 * (unsigned)E->lanes_full);
    x = LLVMBuildBitCast(E->b, x, t, ""), y = LLVMBuildBitCast(E->b, y, t, "");
    return sd_emit_intrinsic(E, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, (sd_ll[]){acc, x, y}, 3);
  }
  const char *name = E->lanes_full == 16 ? "llvm.x86.avx512.vpdpbusd.512" : "llvm.x86.avx512.vpdpbusd.256";
  return sd_emit_intrinsic(E, name, NULL, 0, (sd_ll[]){acc, x, y}, 3);
}

// The steps of this turn in the order that all lanes have in common, from the 16 in memory.
static sd_ll in_order(sd_emit *E, const dot *x, sd_ll order) {
  sd_ll group = sd_emit_load_at(E, x->d.a[0], 0, LLVMVectorType(E->i8, SD_DOT_GROUP)), at[64];
  LLVMTypeRef bytes = LLVMVectorType(E->i8, 4 * (unsigned)E->lanes_full);
  for (int i = 0; i < 4 * E->lanes_full; i++) at[i] = LLVMConstInt(E->i32, (uint64_t)(i % SD_DOT_GROUP), 0);
  group = LLVMBuildShuffleVector(E->b, group, LLVMGetPoison(LLVMTypeOf(group)), LLVMConstVector(at, 4 * (unsigned)E->lanes_full), "");
  const char *name = E->lanes_full == 16 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.avx2.pshuf.b";
  return sd_emit_intrinsic(E, name, NULL, 0, (sd_ll[]){group, LLVMBuildBitCast(E->b, order, bytes, "")}, 2);
}

// Sums of two products, of 16 bits.
static sd_ll twos(sd_emit *E, sd_ll a, sd_ll w) {
  a = LLVMBuildBitCast(E->b, a, LLVMVectorType(E->i8, 4 * (unsigned)E->lanes_full), "");
  const char *name = E->lanes_full == 16 ? "llvm.x86.avx512.pmaddubs.w.512" : "llvm.x86.avx2.pmadd.ub.sw";
  return sd_emit_intrinsic(E, name, NULL, 0, (sd_ll[]){a, LLVMBuildBitCast(E->b, w, LLVMTypeOf(a), "")}, 2);
}

static sd_ll add_twos(sd_emit *E, sd_ll acc, sd_ll two) { return added(E, acc, two, sd_emit_splat_i(LLVMTypeOf(two), 1)); }

sd_ll sd_emit_add_bytes(sd_emit *E, sd_ll acc, sd_ll x, sd_ll y) {
  if (E->isa->dot >= 4) return at_once(E, acc, x, y);
  return add_twos(E, acc, twos(E, x, y));
}

// Words of both factors for this turn, by the coordinates that they move with.
typedef struct words {
  uint32_t a_slots, w_slots;
  sd_ll *a, *w;
  sd_ll *even, *odd; // halves of w; its even and odd steps
  sd_ll order;       // of steps, NULL: that of memory
  sd_ll a2, *w2;     // of the second of two steps that fit together: the element of a at hand, w; NULL: it is one
} words;

// The element of a at hand with all of w, of factors in parts.
static void add_whole(sd_emit *E, dot *x, const words *d) {
  uint32_t rest = x->slots & ~d->a_slots;
  for (int odd = 0; odd < 2; odd++) {
    sd_ll a = sd_emit_splat(E, whole_at(E, x->d.a, x->d.parts, E->i32, odd));
    do {
      sd_ll *acc = &x->acc->v[sd_emit_project(E, x->slots)];
      *acc = sd_emit_fma(E, a, (odd ? d->odd : d->even)[sd_emit_project(E, d->w_slots)], *acc);
    } while (sd_emit_next(E, rest));
  }
}

// One element of a with all of w, of pairs that fit 16 bits.
static void add_pairs(sd_emit *E, dot *x, const words *d) {
  uint32_t i = sd_emit_project(E, d->a_slots), rest = x->slots & ~d->a_slots;
  do {
    uint32_t j = sd_emit_project(E, d->w_slots);
    sd_ll *acc = &x->acc->v[sd_emit_project(E, x->slots)], two = twos(E, d->a[i], d->w[j]);
    if (d->w2) two = LLVMBuildAdd(E->b, two, twos(E, d->a2, d->w2[j]), "");
    *acc = add_twos(E, *acc, two);
  } while (sd_emit_next(E, rest));
}

// One element of a with all of w: its halves live as short as they can, where registers are few.
static void add_row(sd_emit *E, dot *x, const words *d) {
  uint32_t i = sd_emit_project(E, d->a_slots), rest = x->slots & ~d->a_slots;
  bool words = x->d.a[0]->buf->dtype == SD_I16;
  bool once = words || x->d.a[0]->buf->dtype == SD_BF16 || (E->isa->dot >= 4 && x->d.a[0]->buf->dtype == SD_U8 && x->d.w[0]->buf->dtype == SD_I8);
  for (int odd = 0; odd < (once ? 1 : 2); odd++) {
    sd_ll half = once ? d->a[i] : halves(E, d->a[i], x->d.a[0]->buf->dtype, odd);
    do {
      uint32_t j = sd_emit_project(E, d->w_slots);
      sd_ll *acc = &x->acc->v[sd_emit_project(E, x->slots)], *part = odd ? d->odd : d->even;
      if (!once && !part[j]) part[j] = halves(E, d->w[j], x->d.w[0]->buf->dtype, odd);
      *acc = words ? added_words(E, *acc, half, d->w[j]) : once ? at_once(E, *acc, half, d->w[j]) : added(E, *acc, half, part[j]);
    } while (sd_emit_next(E, rest));
  }
}

static sd_ll *cells(sd_emit *E, uint32_t slots) { return SD_NEW_ARRAY(E->a, sd_ll, sd_emit_coords(E, slots)); }

// The words of a, or of w, for step `at` of two that fit together: what depends on it stays in a scope of its own.
static sd_ll word_of(sd_emit *E, const dot *x, int at, bool of_w) {
  sd_emit_scope_open(E);
  sd_emit_bind_point(E, x->d.both, NULL, at);
  sd_ll v = of_w ? sd_emit_load_at(E, x->d.w[0], 0, LLVMVectorType(E->i32, (unsigned)E->lanes_full)) : word(E, x);
  sd_emit_unbind(E, x->d.both);
  sd_emit_scope_close(E);
  return v;
}

static void load_w(sd_emit *E, const dot *x, words *d) {
  uint32_t j = sd_emit_project(E, d->w_slots);
  LLVMTypeRef t = LLVMVectorType(E->i32, (unsigned)E->lanes_full);
  if (x->d.parts > 1) {
    if (!d->even[j]) d->even[j] = whole_at(E, x->d.w, x->d.w_parts, t, false), d->odd[j] = whole_at(E, x->d.w, x->d.w_parts, t, true);
  } else if (!d->w[j]) {
    d->w[j] = x->d.both ? word_of(E, x, 0, true) : sd_emit_load_at(E, x->d.w[0], 0, t);
    if (d->w2) d->w2[j] = word_of(E, x, 1, true);
  }
}

static void load_a(sd_emit *E, const dot *x, words *d) {
  uint32_t i = sd_emit_project(E, d->a_slots);
  if (x->d.parts > 1 || d->a[i]) return;
  d->a[i] = d->order ? in_order(E, x, d->order) : x->d.both ? word_of(E, x, 0, false) : word(E, x);
  if (d->w2) d->a2 = word_of(E, x, 1, false);
}

static void turn(sd_emit *E, dot *x, sd_ll base, int64_t steps) {
  sd_emit_scope_open(E);
  sd_emit_bind_point(E, x->d.turns, base, 0);
  sd_emit_bind_point(E, x->d.side, NULL, 0);
  x->steps = steps;
  words d = {.a_slots = sd_emit_info_of(E, x->d.a[0])->slots, .w_slots = sd_emit_info_of(E, x->d.w[0])->slots};
  if (x->d.order) {
    d.order = sd_emit_splat(E, sd_emit_load_at(E, x->d.order->a[0], 0, E->i32));
    sd_emit_keep(E, x->d.order, sd_emit_i64(E, 0)); // where the 16 begin
  }
  d.a = cells(E, d.a_slots), d.w = cells(E, d.w_slots), d.even = cells(E, d.w_slots), d.odd = cells(E, d.w_slots);
  if (x->d.both) d.w2 = cells(E, d.w_slots);
  sd_emit_first(E, x->slots);
  do load_w(E, x, &d);
  while (sd_emit_next(E, x->slots & ~(d.a_slots & ~d.w_slots)));
  do {
    load_a(E, x, &d);
    (x->d.parts > 1 ? add_whole : x->d.pairs ? add_pairs : add_row)(E, x, &d);
  } while (sd_emit_next(E, x->slots & d.a_slots));
  sd_emit_unbind(E, x->d.side);
  sd_emit_unbind(E, x->d.turns);
  sd_emit_scope_close(E);
}

// ---- all turns ----

// Steps of the last turn when they are fewer, else 0; *turns: whole ones.
static int64_t rest_of(sd_emit *E, const sd_dot *d, int64_t *turns) {
  int64_t n = 0, steps = 0;
  sd_dim_is_const(E->k->dims, d->turns->extent, &n);
  *turns = n;
  if (!d->side->limit || n < 1) return 0;
  const sd_expr *l = d->side->limit;
  if (l->op == SD_X_AFFINE) sd_dim_is_const(E->k->dims, l->dim, &steps);
  steps -= d->steps * (n - 1);
  if (steps >= d->steps) return 0;
  *turns = n - 1;
  return steps;
}

bool sd_emit_dot(sd_emit *E, const sd_expr *r, uint32_t first, uint32_t slots, sd_emit_carry *acc) {
  dot x = {.slots = slots, .acc = acc};
  int64_t turns;
  if ((r->dtype == SD_F32 ? E->isa->pairs : E->isa->dot) < 2 || !sd_dot_is(E->k, r, E->lane.axis, &x.d) || !sd_dim_is_const(E->k->dims, x.d.turns->extent, NULL) || x.d.turns != r->axes[first])
    return false;
  if (x.d.pairs && E->isa->vector_bytes < 32) return false;
  int64_t rest = rest_of(E, &x.d, &turns);
  bool known = !x.d.turns->limit;
  if (turns > 0) {
    sd_emit_loop l;
    sd_emit_panel panel;
    bool ahead = known && sd_emit_panel_open(E, r, r->n_axes - 2, &panel);
    sd_ll last = known ? sd_emit_i64(E, turns - 1) : LLVMBuildSub(E->b, sd_emit_axis_end(E, x.d.turns), sd_emit_i64(E, 1), "");
    sd_emit_loop_open(E, &l, sd_emit_i64(E, 0), last, 1, known, acc);
    if (ahead) sd_emit_panel_ask(E, &panel, l.iv, 0, panel.lines);
    turn(E, &x, l.iv, x.d.steps);
    sd_emit_loop_close(E, &l);
  }
  if (rest > 0) turn(E, &x, sd_emit_i64(E, turns), rest);
  return true;
}
