// Memory: addresses built up as axes become known, loads and stores of whole bytes, lane masks, gathers.
//
// A guarded load whose guard is one bit selects its address: where the guard is false it reads a constant block of
// zeros. Guards that differ by lane, and lanes past the end, use masked loads.
#include "codegen/cpu/emit.h"

// ---- addresses ----
static void add_term(sd_emit *E, sd_emit_addr *ad, const sd_expr *atom, sd_dim coef) {
  sd_emit_term t = {.atom = atom, .dim = coef};
  t.is_const = sd_dim_is_const(E->k->dims, coef, &t.coef);
  ad->terms[ad->n++] = t;
}

// Apart, so that accesses at constant distances share their pointers.
static void split_constant(sd_emit *E, sd_dim d, sd_emit_addr *ad) {
  const sd_dimnode *n = sd_dim_get(E->k->dims, d);
  ad->sym = d;
  if (n->op != SD_DIM_SUM || !n->value) return;
  sd_dim rest = sd_dim_sub(E->k->dims, d, sd_dim_const(E->k->dims, n->value));
  if (rest) ad->offset = n->value, ad->sym = rest;
}

static sd_emit_addr *addr_of(sd_emit *E, const sd_buf *buf, const sd_expr *off) {
  sd_emit_info *x = &E->info[off->id];
  for (sd_emit_addr *a = x->addr; a; a = a->next)
    if (a->buf == buf) return a;
  sd_emit_addr *ad = SD_NEW(E->a, sd_emit_addr);
  ad->buf = buf, ad->off = off, ad->next = x->addr;
  x->addr = ad;
  bool split = off->op == SD_X_AFFINE && off->n <= 60;
  ad->terms = SD_NEW_ARRAY(E->a, sd_emit_term, split ? off->n + 1 : 1);
  int64_t v;
  if (sd_x_const_value(off, NULL, &v)) {
    ad->offset = v;
  } else if (split) {
    for (uint32_t i = 0; i < off->n; i++) add_term(E, ad, off->a[i], off->coef[i]);
    if (off->dim && !sd_dim_is_const(E->k->dims, off->dim, &ad->offset)) split_constant(E, off->dim, ad);
  } else {
    add_term(E, ad, off, sd_dim_const(E->k->dims, 1));
  }
  return ad;
}

static sd_ll sum(sd_emit *E, sd_ll x, sd_ll y) { return x ? LLVMBuildAdd(E->b, x, y, "") : y; }

static sd_ll times(sd_emit *E, sd_ll v, const sd_emit_term *t) {
  if (t->is_const && t->coef == 1) return v;
  return LLVMBuildMul(E->b, v, t->is_const ? sd_emit_splat_i(LLVMTypeOf(v), t->coef) : sd_emit_dim(E, t->dim), "");
}

// Terms that can be added now: bit sets of loop parts and of coordinate parts, and the coordinates these need.
static void what_is_new(sd_emit *E, const sd_emit_addr *ad, uint64_t *base, uint64_t *coord, uint32_t *slots) {
  const sd_emit_ptr *top = ad->top;
  *base = *coord = 0;
  *slots = top ? top->slots : 0;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    uint64_t bit = 1ull << i;
    if (t->atom->op == SD_X_AXIS) {
      const sd_emit_bind *b = sd_emit_bind_of(E, t->atom->axis);
      if (b->based && !(top && top->base_done & bit)) *base |= bit;
      if (t->is_const || !b->bound || (top && top->coord_done & bit)) continue;
      *coord |= bit;
      if (b->slot >= 0) *slots |= 1u << b->slot;
    } else if (!(top && top->base_done & bit)) {
      const sd_emit_info *x = sd_emit_info_of(E, t->atom);
      if (!x->ready || x->lanes || x->rw) continue;
      *base |= bit;
      *slots |= x->slots;
    }
  }
}

// The sum of the new terms at the current coordinate, NULL for nothing.
static sd_ll new_offset(sd_emit *E, const sd_emit_addr *ad, uint64_t base, uint64_t coord) {
  sd_ll s = NULL;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    if (t->atom->op == SD_X_AXIS) {
      const sd_emit_bind *b = sd_emit_bind_of(E, t->atom->axis);
      int64_t c = b->add + (b->slot >= 0 ? (int64_t)E->at[b->slot] * b->step : 0), zero;
      if (base >> i & 1 && b->base && !(sd_emit_const(b->base, &zero) && !zero)) s = sum(E, s, times(E, b->base, t));
      if (coord >> i & 1 && c) s = sum(E, s, times(E, sd_emit_i64(E, c), t));
    } else if (base >> i & 1) {
      s = sum(E, s, times(E, sd_emit_value(E, t->atom), t));
    }
  }
  return s;
}

static sd_ll gep(sd_emit *E, const sd_buf *buf, sd_ll p, sd_ll index) {
  return index ? LLVMBuildGEP2(E->b, sd_emit_storage(E, buf->dtype), p, &index, 1, "") : p;
}

static sd_emit_addr *extend(sd_emit *E, const sd_buf *buf, const sd_expr *off) {
  sd_emit_addr *ad = addr_of(E, buf, off);
  uint64_t base, coord;
  uint32_t slots, saved[SD_EMIT_SLOTS];
  what_is_new(E, ad, &base, &coord, &slots);
  if (ad->top && !base && !coord) return ad;
  sd_emit_ptr *top = ad->top, *q = SD_NEW(E->a, sd_emit_ptr);
  *q = (sd_emit_ptr){top, base | (top ? top->base_done : 0), coord | (top ? top->coord_done : 0), slots,
                     SD_NEW_ARRAY(E->a, sd_ll, sd_emit_coords(E, slots))};
  memcpy(saved, E->at, sizeof saved);
  for (uint32_t s = slots; s; s &= s - 1) E->at[__builtin_ctz(s)] = 0;
  do {
    sd_ll p = top ? top->p[sd_emit_project(E, top->slots)] : E->buf_v[buf->id];
    if (!top && ad->sym) p = gep(E, buf, p, sd_emit_dim(E, ad->sym));
    q->p[sd_emit_project(E, slots)] = gep(E, buf, p, new_offset(E, ad, base, coord));
  } while (sd_emit_next(E, slots));
  memcpy(E->at, saved, sizeof saved);
  ad->top = q;
  sd_vec_push(E->a, &E->scopes.at[E->n_scope - 1].addrs, ad);
  return ad;
}

void sd_emit_addr_extend(sd_emit *E, const sd_buf *buf, const sd_expr *off) {
  if (sd_dtype_bits(buf->dtype) < 8) { // its elements have numbers, not addresses
    sd_emit_hoist(E, off);
    return;
  }
  if (off->op == SD_X_AFFINE) // atoms inside are emitted by extend; what is deeper needs its own loads ahead
    for (uint32_t i = 0; i < off->n; i++)
      if (off->a[i]->op != SD_X_AXIS && !sd_emit_ready(E, off->a[i])) sd_emit_hoist(E, off->a[i]);
  if (off->op != SD_X_AFFINE && !sd_emit_ready(E, off)) sd_emit_hoist(E, off);
  extend(E, buf, off);
}

// ---- one access at the current coordinate ----
typedef enum lanekind { ONE, CONTIGUOUS, REVERSED, STRIDED, SCATTERED } lanekind;
typedef struct access {
  LLVMTypeRef t;  // element
  sd_ll p;        // of lane 0 (SCATTERED: without the terms that differ by lane)
  lanekind kind;
  int64_t stride; // STRIDED, when constant (else 0)
  sd_ll step;     // STRIDED: elements from lane to lane
  sd_ll index;    // SCATTERED: vector of elements to add
} access;

static void lane_terms(sd_emit *E, const sd_emit_addr *ad, access *ac) {
  const sd_emit_term *own = NULL;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    if (t->atom->op == SD_X_AXIS) {
      if (t->atom->axis == E->lane.axis) own = t;
      continue;
    }
    if (ad->top->base_done >> i & 1) continue;
    sd_ll v = sd_emit_value(E, t->atom); // differs by lane, or reads what the nest writes
    bool lanes = sd_emit_info_of(E, t->atom)->lanes;
    if (!t->is_const || t->coef != 1) {
      sd_ll c = sd_emit_dim(E, t->dim);
      v = LLVMBuildMul(E->b, v, lanes ? sd_emit_splat(E, c) : c, "");
    }
    if (!lanes) {
      ac->p = LLVMBuildGEP2(E->b, ac->t, ac->p, &v, 1, "");
      continue;
    }
    ac->index = sum(E, ac->index, v);
    ac->kind = SCATTERED;
  }
  if (!own) return;
  sd_ll c = sd_emit_dim(E, own->dim);
  if (ac->kind == SCATTERED) {
    ac->index = sum(E, ac->index, LLVMBuildMul(E->b, sd_emit_iota(E, E->i64), sd_emit_splat(E, c), ""));
    return;
  }
  ac->kind = !own->is_const ? STRIDED : own->coef == 1 ? CONTIGUOUS : own->coef == -1 ? REVERSED : own->coef ? STRIDED : ONE;
  ac->stride = own->is_const ? own->coef : 0;
  ac->step = c;
}

static access access_of(sd_emit *E, const sd_buf *buf, const sd_expr *off) {
  sd_emit_addr *ad = extend(E, buf, off);
  access ac = {.t = sd_emit_storage(E, buf->dtype), .p = ad->top->p[sd_emit_project(E, ad->top->slots)]};
  int64_t disp = ad->offset;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    if (t->atom->op != SD_X_AXIS || !t->is_const) continue;
    const sd_emit_bind *b = sd_emit_bind_of(E, t->atom->axis);
    disp += t->coef * (b->add + (b->slot >= 0 ? (int64_t)E->at[b->slot] * b->step : 0));
  }
  if (disp) ac.p = gep(E, buf, ac.p, sd_emit_i64(E, disp));
  lane_terms(E, ad, &ac);
  return ac;
}

// ---- masks ----
sd_ll sd_emit_lane_mask(sd_emit *E) {
  const sd_emit_lane *l = &E->lane;
  if (!l->mask || (l->mask_slot >= 0 && (int)E->at[l->mask_slot] != l->mask_at)) return NULL;
  return l->mask;
}

static sd_ll both(sd_emit *E, sd_ll x, sd_ll y) {
  int64_t c;
  if (!x || !y) return x ? x : y;
  if (sd_emit_const(x, &c)) return c ? y : x;
  if (sd_emit_const(y, &c)) return c ? x : y;
  return LLVMBuildAnd(E->b, x, y, "");
}

static unsigned align_of(LLVMTypeRef t, sd_emit *E) {
  return t == E->f32 || t == E->i32 ? 4 : t == E->f64 || t == E->i64 ? 8 : t == E->i8 ? 1 : 2;
}

// ---- loads ----
static sd_ll plain_load(sd_emit *E, const sd_buf *buf, LLVMTypeRef t, LLVMTypeRef e, sd_ll p) {
  sd_ll v = LLVMBuildLoad2(E->b, t, p, "");
  LLVMSetAlignment(v, align_of(e, E));
  if (buf->invariant) LLVMSetMetadata(v, E->md_invariant, E->md_empty);
  return v;
}

static sd_ll masked_load(sd_emit *E, access *ac, sd_ll mask) {
  LLVMTypeRef vt = LLVMVectorType(ac->t, (unsigned)E->lanes_full);
  sd_ll args[] = {ac->p, LLVMConstInt(E->i32, align_of(ac->t, E), 0), mask, LLVMConstNull(vt)};
  return sd_emit_intrinsic(E, "llvm.masked.load", (LLVMTypeRef[]){vt, E->ptr}, 2, args, 4);
}

static sd_ll lane_shuffle(sd_emit *E, sd_ll x, sd_ll y, int first, int step) {
  sd_ll v[64];
  for (int i = 0; i < E->lanes_full; i++) v[i] = LLVMConstInt(E->i32, (uint64_t)(first + i * step), 0);
  return LLVMBuildShuffleVector(E->b, x, y, LLVMConstVector(v, (unsigned)E->lanes_full), "");
}

static sd_ll lane_pointer(sd_emit *E, access *ac, int lane) {
  sd_ll i = ac->kind == SCATTERED ? LLVMBuildExtractElement(E->b, ac->index, LLVMConstInt(E->i32, (uint64_t)lane, 0), "")
            : ac->kind == CONTIGUOUS ? sd_emit_i64(E, lane)
            : ac->kind == REVERSED   ? sd_emit_i64(E, -lane)
            : ac->kind == ONE        ? sd_emit_i64(E, 0)
                                     : LLVMBuildMul(E->b, ac->step, sd_emit_i64(E, lane), "");
  return LLVMBuildGEP2(E->b, ac->t, ac->p, &i, 1, "");
}

static sd_ll lane_pointers(sd_emit *E, access *ac) { // vector of pointers
  sd_ll i = ac->index;
  if (ac->kind != SCATTERED) i = LLVMBuildMul(E->b, sd_emit_iota(E, E->i64), sd_emit_splat(E, ac->step), "");
  return LLVMBuildGEP2(E->b, ac->t, ac->p, &i, 1, "");
}

// One scalar load per lane; lanes that are masked out read zeros.
static sd_ll gather(sd_emit *E, const sd_buf *buf, access *ac, sd_ll mask) {
  LLVMTypeRef vt = LLVMVectorType(ac->t, (unsigned)E->lanes_full);
  unsigned size = align_of(ac->t, E);
  if (E->isa->vector_bytes == 64 && size >= 4 && (ac->kind == SCATTERED || mask)) {
    sd_ll ones = sd_emit_splat_i(LLVMVectorType(E->i1, (unsigned)E->lanes_full), 1), ptrs = lane_pointers(E, ac);
    sd_ll args[] = {ptrs, LLVMConstInt(E->i32, size, 0), mask ? mask : ones, LLVMConstNull(vt)};
    return sd_emit_intrinsic(E, "llvm.masked.gather", (LLVMTypeRef[]){vt, LLVMTypeOf(ptrs)}, 2, args, 4);
  }
  sd_ll v = LLVMGetPoison(vt);
  for (int i = 0; i < E->lanes_full; i++) {
    sd_ll p = lane_pointer(E, ac, i), n = LLVMConstInt(E->i32, (uint64_t)i, 0);
    if (mask) p = LLVMBuildSelect(E->b, LLVMBuildExtractElement(E->b, mask, n, ""), p, E->zeros, "");
    v = LLVMBuildInsertElement(E->b, v, plain_load(E, buf, ac->t, ac->t, p), n, "");
  }
  return v;
}

static sd_ll vector_load(sd_emit *E, const sd_buf *buf, access *ac, sd_ll bit, sd_ll mask) {
  LLVMTypeRef vt = LLVMVectorType(ac->t, (unsigned)E->lanes_full);
  if (ac->kind == CONTIGUOUS || ac->kind == REVERSED) {
    if (ac->kind == REVERSED) {
      sd_ll back = sd_emit_i64(E, 1 - E->lanes_full);
      ac->p = LLVMBuildGEP2(E->b, ac->t, ac->p, &back, 1, "");
      if (mask) mask = lane_shuffle(E, mask, LLVMGetPoison(LLVMTypeOf(mask)), E->lanes_full - 1, -1);
    }
    if (bit) ac->p = LLVMBuildSelect(E->b, bit, ac->p, E->zeros, "");
    sd_ll v = mask ? masked_load(E, ac, mask) : plain_load(E, buf, vt, ac->t, ac->p);
    return ac->kind == REVERSED ? lane_shuffle(E, v, LLVMGetPoison(vt), E->lanes_full - 1, -1) : v;
  }
  if (bit) mask = both(E, mask, sd_emit_splat(E, bit));
  if (ac->kind == STRIDED && ac->stride == 2 && !mask) { // every second element of two vectors; never past the last one
    sd_ll low = plain_load(E, buf, vt, ac->t, ac->p), n = sd_emit_i64(E, E->lanes_full - 1);
    sd_ll high = plain_load(E, buf, vt, ac->t, LLVMBuildGEP2(E->b, ac->t, ac->p, &n, 1, ""));
    sd_ll v[64];
    for (int i = 0; i < E->lanes_full; i++)
      v[i] = LLVMConstInt(E->i32, (uint64_t)(2 * i < E->lanes_full ? 2 * i : 2 * i + 1), 0);
    return LLVMBuildShuffleVector(E->b, low, high, LLVMConstVector(v, (unsigned)E->lanes_full), "");
  }
  return gather(E, buf, ac, mask);
}

// The slot whose copies lie side by side in memory where lanes lie far apart, when it has one copy for each lane; -1.
static int block_slot(sd_emit *E, const sd_buf *buf, const sd_expr *off) {
  const sd_emit_addr *ad = addr_of(E, buf, off);
  int slot = -1;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    if (t->atom->op != SD_X_AXIS) {
      if (sd_emit_info_of(E, t->atom)->slots) return -1; // moves in an unknown way
      continue;
    }
    const sd_emit_bind *b = sd_emit_bind_of(E, t->atom->axis);
    if (b->slot < 0 || t->atom->axis == E->lane.axis) continue;
    if (t->is_const && t->coef == 1 && b->step == 1 && E->count[b->slot] == (uint32_t)E->lanes_full) slot = b->slot;
  }
  return slot;
}

// Loads a square block by rows and turns it in registers: copies become lanes. Keeps the values of all copies. Lanes that
// are masked out are rows of zeros.
static sd_ll block_load(sd_emit *E, const sd_expr *e, access *ac, int slot, sd_ll mask) {
  int n = E->lanes_full;
  sd_ll r[64], low[64], high[64];
  LLVMTypeRef vt = LLVMVectorType(ac->t, (unsigned)n);
  for (int i = 0; i < n; i++) {
    sd_ll p = lane_pointer(E, ac, i), on = mask ? LLVMBuildExtractElement(E->b, mask, LLVMConstInt(E->i32, (uint64_t)i, 0), "") : NULL;
    r[i] = plain_load(E, e->buf, vt, ac->t, on ? LLVMBuildSelect(E->b, on, p, E->zeros, "") : p);
  }
  for (int h = n / 2; h; h /= 2) {
    for (int i = 0; i < n; i++) {
      low[i] = LLVMConstInt(E->i32, (uint64_t)(i & h ? n + i - h : i), 0);
      high[i] = LLVMConstInt(E->i32, (uint64_t)(i & h ? n + i : i + h), 0);
    }
    for (int i = 0; i < n; i++) {
      if (i & h) continue;
      sd_ll x = r[i], y = r[i + h];
      r[i] = LLVMBuildShuffleVector(E->b, x, y, LLVMConstVector(low, (unsigned)n), "");
      r[i + h] = LLVMBuildShuffleVector(E->b, x, y, LLVMConstVector(high, (unsigned)n), "");
    }
  }
  for (int i = n - 1; i > 0; i--) {
    E->at[slot] = (uint32_t)i;
    sd_emit_keep(E, e, r[i]);
  }
  E->at[slot] = 0;
  return r[0];
}

// Parts of the guard that are one bit, and parts that differ by lane; NULL for none.
static void split_guard(sd_emit *E, const sd_expr *g, sd_ll *bit, sd_ll *mask) {
  if (!g || sd_emit_true(E, g)) return;
  bool lanes = sd_emit_info_of(E, g)->lanes;
  if (g->op == SD_X_AND && lanes) {
    split_guard(E, g->a[0], bit, mask);
    split_guard(E, g->a[1], bit, mask);
    return;
  }
  sd_ll *to = lanes ? mask : bit;
  *to = both(E, *to, sd_emit_value(E, g));
}

sd_ll sd_emit_load_stored(sd_emit *E, const sd_expr *e) {
  const sd_buf *buf = e->buf;
  bool lanes = sd_emit_info_of(E, e)->lanes;
  sd_ll bit = NULL, mask = NULL, v;
  int64_t on = 1;
  split_guard(E, e->a[1], &bit, &mask);
  if (bit && sd_emit_const(bit, &on)) bit = NULL;
  if (!on) return LLVMConstNull(sd_emit_vtype(E, sd_emit_storage(E, buf->dtype), lanes));
  if (sd_dtype_bits(buf->dtype) < 8) return sd_emit_packed_load(E, e, bit, mask, lanes);
  access ac = access_of(E, buf, e->a[0]);
  if (!lanes || ac.kind == ONE) {
    sd_ll some = mask ? sd_emit_any(E, mask) : NULL;
    bit = both(E, bit, some);
    if (bit) ac.p = LLVMBuildSelect(E->b, bit, ac.p, E->zeros, "");
    v = plain_load(E, buf, ac.t, ac.t, ac.p);
    if (lanes) v = sd_emit_splat(E, v);
    if (mask) v = LLVMBuildSelect(E->b, mask, v, LLVMConstNull(LLVMTypeOf(v)), "");
  } else {
    sd_ll exist = sd_emit_lane_mask(E);
    int slot = ac.kind == STRIDED && !bit && !mask && sd_dtype_bits(buf->dtype) == 32 && E->lanes_full <= 16 ? block_slot(E, buf, e->a[0]) : -1;
    mask = both(E, mask, exist);
    if (slot >= 0 && E->at[slot] == 0) return block_load(E, e, &ac, slot, exist);
    if (ac.kind == CONTIGUOUS && !bit && !mask) sd_emit_ahead(E, buf, e->a[0], ac.p, false);
    v = vector_load(E, buf, &ac, bit, mask);
  }
  return v;
}

sd_ll sd_emit_load(sd_emit *E, const sd_expr *e) { return sd_emit_widen(E, e->buf->dtype, sd_emit_load_stored(E, e)); }

sd_ll sd_emit_load_at(sd_emit *E, const sd_expr *e, int64_t after, LLVMTypeRef t) {
  access ac = access_of(E, e->buf, e->a[0]);
  sd_ll p = after ? gep(E, e->buf, ac.p, sd_emit_i64(E, after)) : ac.p;
  return plain_load(E, e->buf, t, ac.t, p);
}

sd_ll sd_emit_address(sd_emit *E, const sd_expr *e) { return access_of(E, e->buf, e->a[0]).p; }

// ---- stores ----
static void plain_store(sd_emit *E, LLVMTypeRef t, sd_ll v, sd_ll p) {
  LLVMSetAlignment(LLVMBuildStore(E->b, v, p), align_of(t, E));
}

static void lanes_store(sd_emit *E, access *ac, sd_ll v, sd_ll mask) {
  if (mask && ac->kind != ONE) {
    sd_ll ptrs = lane_pointers(E, ac);
    sd_ll args[] = {v, ptrs, LLVMConstInt(E->i32, align_of(ac->t, E), 0), mask};
    sd_emit_intrinsic(E, "llvm.masked.scatter", (LLVMTypeRef[]){LLVMTypeOf(v), LLVMTypeOf(ptrs)}, 2, args, 4);
    return;
  }
  for (int i = 0; i < E->lanes_full; i++) { // in order: the last lane wins where they coincide
    sd_emit_if f;
    sd_ll n = LLVMConstInt(E->i32, (uint64_t)i, 0);
    if (mask) sd_emit_if_open(E, &f, LLVMBuildExtractElement(E->b, mask, n, ""), NULL);
    plain_store(E, ac->t, LLVMBuildExtractElement(E->b, v, n, ""), lane_pointer(E, ac, i));
    if (mask) sd_emit_if_close(E, &f);
  }
}

// The first lanes, in parts of a power of two: before AVX-512 there are no masked stores below 32 bits.
static void first_lanes_store(sd_emit *E, access *ac, sd_ll v, sd_ll left) {
  sd_ll p = ac->p, at[64];
  for (int part = E->lanes_full / 2; part; part /= 2) {
    sd_ll some = LLVMBuildAnd(E->b, left, LLVMConstInt(E->i32, (uint64_t)part, 0), "");
    sd_ll on = LLVMBuildICmp(E->b, LLVMIntNE, some, LLVMConstNull(E->i32), "");
    for (int i = 0; i < E->lanes_full; i++) at[i] = LLVMConstInt(E->i32, (uint64_t)((i + part) % E->lanes_full), 0);
    sd_ll rest = LLVMBuildShuffleVector(E->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(at, (unsigned)E->lanes_full), "");
    for (int i = 0; i < part; i++) at[i] = LLVMConstInt(E->i32, (uint64_t)i, 0);
    sd_ll low = LLVMBuildShuffleVector(E->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(at, (unsigned)part), "");
    sd_emit_if f;
    sd_emit_if_open(E, &f, on, NULL);
    plain_store(E, ac->t, part > 1 ? low : LLVMBuildExtractElement(E->b, low, LLVMConstNull(E->i32), ""), p);
    sd_emit_if_close(E, &f);
    v = LLVMBuildSelect(E->b, on, rest, v, "");
    p = LLVMBuildGEP2(E->b, ac->t, p, &some, 1, "");
  }
}

static void vector_store(sd_emit *E, access *ac, sd_ll v, sd_ll mask) {
  if (ac->kind == REVERSED) {
    sd_ll back = sd_emit_i64(E, 1 - E->lanes_full);
    ac->p = LLVMBuildGEP2(E->b, ac->t, ac->p, &back, 1, "");
    v = lane_shuffle(E, v, LLVMGetPoison(LLVMTypeOf(v)), E->lanes_full - 1, -1);
    if (mask) mask = lane_shuffle(E, mask, LLVMGetPoison(LLVMTypeOf(mask)), E->lanes_full - 1, -1);
  } else if (ac->kind != CONTIGUOUS) {
    lanes_store(E, ac, v, mask);
    return;
  }
  if (!mask) {
    plain_store(E, ac->t, v, ac->p);
    return;
  }
  if (E->isa->vector_bytes < 64 && align_of(ac->t, E) < 4 && mask == E->lane.mask && E->lane.left && ac->kind == CONTIGUOUS) {
    first_lanes_store(E, ac, v, E->lane.left);
    return;
  }
  sd_ll args[] = {v, ac->p, LLVMConstInt(E->i32, align_of(ac->t, E), 0), mask};
  sd_emit_intrinsic(E, "llvm.masked.store", (LLVMTypeRef[]){LLVMTypeOf(v), E->ptr}, 2, args, 4);
}

static sd_ll stored_value(sd_emit *E, const sd_emit_root *r, bool lanes) {
  sd_ll v = sd_emit_stored_form(E, r->value, r->buf->dtype, lanes, 0);
  if (v) return v;
  v = sd_emit_value_lanes(E, r->value, lanes);
  v = sd_emit_cast(E, r->value->dtype, sd_compute_type(r->buf->dtype), v, lanes);
  return sd_emit_narrow(E, r->buf->dtype, v);
}

// Copies that lie side by side between the lanes (the channels of pixels) are shuffled into whole vectors, all with the
// first one. True: done.
static bool interleaved_store(sd_emit *E, const sd_emit_root *r) {
  const sd_emit_info *x = sd_emit_info_of(E, r->value);
  if (r->guard || !x->lanes || x->rw || sd_dtype_bits(r->buf->dtype) != 32 || sd_emit_lane_mask(E)) return false;
  const sd_emit_addr *ad = addr_of(E, r->buf, r->offset);
  int64_t stride = 0;
  int slot = -1, n = E->lanes_full;
  for (uint32_t i = 0; i < ad->n; i++) {
    const sd_emit_term *t = &ad->terms[i];
    if (t->atom->op != SD_X_AXIS) return false;
    const sd_emit_bind *b = sd_emit_bind_of(E, t->atom->axis);
    if (t->atom->axis == E->lane.axis) stride = t->is_const ? t->coef : 0;
    else if (b->slot >= 0 && t->is_const && t->coef == 1 && b->step == 1) slot = b->slot;
  }
  if (slot < 0 || stride < 2 || stride > 4 || E->count[slot] != stride) return false;
  if (E->at[slot]) return true;
  sd_ll v[4], out[4], at[64];
  for (int j = 0; j < stride; j++) {
    E->at[slot] = (uint32_t)j;
    v[j] = stored_value(E, r, true);
  }
  E->at[slot] = 0;
  access ac = access_of(E, r->buf, r->offset);
  for (int o = 0; o < stride; o++) {
    out[o] = LLVMGetPoison(LLVMTypeOf(v[0]));
    for (int j = 0; j < stride; j++) { // lane i of vector o is element (o * n + i) / stride of copy (o * n + i) % stride
      for (int i = 0; i < n; i++) {
        int e = o * n + i;
        at[i] = LLVMConstInt(E->i32, (uint64_t)(e % stride == j ? n + e / stride : i), 0);
      }
      out[o] = LLVMBuildShuffleVector(E->b, out[o], v[j], LLVMConstVector(at, (unsigned)n), "");
    }
    sd_ll step = sd_emit_i64(E, (int64_t)o * n);
    plain_store(E, ac.t, out[o], LLVMBuildGEP2(E->b, ac.t, ac.p, &step, 1, ""));
  }
  return true;
}

void sd_emit_store(sd_emit *E, const sd_emit_root *r) {
  sd_ll bit = NULL, mask = NULL;
  if (interleaved_store(E, r)) return;
  split_guard(E, r->guard, &bit, &mask);
  bool any_lanes = E->lane.axis && (sd_emit_info_of(E, r->offset)->lanes || sd_emit_info_of(E, r->value)->lanes || mask);
  sd_ll v = stored_value(E, r, any_lanes);
  bool packed = sd_dtype_bits(r->buf->dtype) < 8;
  access ac = {0};
  sd_emit_if f;
  if (packed) sd_emit_value(E, r->offset);
  else ac = access_of(E, r->buf, r->offset);
  if (bit) sd_emit_if_open(E, &f, bit, NULL);
  if (packed)
    sd_emit_packed_store(E, r, v, any_lanes ? both(E, mask, sd_emit_lane_mask(E)) : NULL, any_lanes);
  else if (any_lanes) {
    mask = both(E, mask, sd_emit_lane_mask(E));
    if (ac.kind == CONTIGUOUS && !mask) sd_emit_ahead(E, r->buf, r->offset, ac.p, true);
    vector_store(E, &ac, v, mask);
  } else
    plain_store(E, ac.t, v, ac.p);
  if (bit) sd_emit_if_close(E, &f);
}
