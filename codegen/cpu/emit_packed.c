// Elements below a byte: loads and stores of 2 or 4 of them in each byte, the first one in the low bits.
//
// A vector of elements side by side is a few bytes, taken apart and put together by shuffles and shifts. An
// element that is stored alone changes its bits of the byte only. Where another tile may own the rest of the
// byte, that is done by atomic operations; a store that is alone with its bytes in every tile needs none.
#include "codegen/cpu/emit.h"

typedef struct packing {
  int bits, per, log;
} packing; // bits of an element, elements in a byte
static packing packing_of(sd_dtype t) {
  int bits = sd_dtype_bits(t);
  return (packing){bits, 8 / bits, bits == 4 ? 1 : bits == 2 ? 2 : 3};
}

// ---- what is known of an offset ----

typedef struct offset {
  const sd_axis *loose; // the axis that moves inside of bytes, by one element
  bool whole;           // everything else of it is a multiple of the elements in a byte
  bool axes;            // nothing but axes
  bool side_by_side;    // from lane to lane
} offset;

static void add_term(sd_emit *E, offset *o, const sd_expr *atom, sd_dim coef, int per) {
  int64_t c = 0;
  bool known = sd_dim_is_const(E->k->dims, coef, &c), lanes = sd_emit_info_of(E, atom)->lanes;
  if (atom->op != SD_X_AXIS) o->axes = false;
  if (lanes) o->side_by_side = atom->op == SD_X_AXIS && known && c == 1;
  if (known && c % per == 0) return;
  if (atom->op == SD_X_AXIS && known && c == 1 && !o->loose) o->loose = atom->axis;
  else
    o->whole = false;
}

static offset offset_of(sd_emit *E, const sd_expr *e, int per) {
  offset o = {NULL, true, true, false};
  int64_t v = 0;
  uint32_t in_lanes = 0;
  if (sd_x_const_value(e, NULL, &v)) {
    o.whole = v % per == 0;
  } else if (e->op == SD_X_AFFINE) {
    if (e->dim && (!sd_dim_is_const(E->k->dims, e->dim, &v) || v % per)) o.whole = false;
    for (uint32_t i = 0; i < e->n; i++) {
      add_term(E, &o, e->a[i], e->coef[i], per);
      in_lanes += sd_emit_info_of(E, e->a[i])->lanes;
    }
  } else {
    add_term(E, &o, e, sd_dim_const(E->k->dims, 1), per);
    in_lanes = 1;
  }
  if (in_lanes != 1) o.side_by_side = false;
  if (o.loose && o.loose->block % per) o.whole = false;
  return o;
}

// Vectors of it begin with a byte.
static bool whole_vectors(const sd_emit *E, const offset *o) {
  return o->whole && o->side_by_side && o->loose == E->lane.axis;
}

static uint32_t stores_to(const sd_emit *E, const sd_buf *b) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < E->nests.len; i++)
    for (uint32_t s = 0; s < E->nests.at[i].nest->stores.len; s++) n += E->nests.at[i].root[s].buf == b;
  return n;
}

static bool one_tile(const sd_emit *E) {
  for (uint32_t i = 0; i < E->nest->n_axes; i++)
    if (E->nest->axes[i]->block > 0) return false;
  return E->k->grid.len == 0;
}

// No byte that the store writes is written by two tiles. The tiles are ranges of axes; two tiles that write
// into one byte would write its first element both, when everything but `loose` moves by whole bytes and that
// one is cut between bytes.
static bool owns_bytes(const sd_emit *E, const sd_emit_root *r, const offset *o) {
  if (r->buf->kind == SD_BUF_LOCAL || one_tile(E)) return true;
  if (r->guard || E->nest->sequential || !o->axes || !o->whole || stores_to(E, r->buf) != 1) return false;
  for (uint32_t i = 0; i < E->k->grid.len; i++)
    if (E->k->grid.at[i] == o->loose) return false;
  return true;
}

// ---- loads ----

static sd_ll number(sd_ll like, int64_t v) { return sd_emit_splat_i(LLVMTypeOf(like), v); }

static sd_ll lane(sd_emit *E, sd_ll v, int i) {
  if (LLVMGetTypeKind(LLVMTypeOf(v)) != LLVMVectorTypeKind) return v;
  return LLVMBuildExtractElement(E->b, v, LLVMConstInt(E->i32, (uint64_t)i, 0), "");
}

static sd_ll byte_pointer(sd_emit *E, const sd_buf *b, sd_ll index) {
  sd_ll at = LLVMBuildLShr(E->b, index, number(index, packing_of(b->dtype).log), "");
  return LLVMBuildGEP2(E->b, E->i8, E->buf_v[b->id], &at, 1, "");
}

static sd_ll load_as(sd_emit *E, const sd_buf *b, LLVMTypeRef t, sd_ll p) {
  sd_ll v = LLVMBuildLoad2(E->b, t, p, "");
  LLVMSetAlignment(v, 1);
  if (b->invariant) LLVMSetMetadata(v, E->md_invariant, E->md_empty);
  return v;
}

// Position of the element in its byte, in bits, as a number of type t.
static sd_ll shift_of(sd_emit *E, packing k, sd_ll index, LLVMTypeRef t) {
  sd_ll n = LLVMBuildAnd(E->b, index, number(index, k.per - 1), "");
  n = LLVMBuildMul(E->b, n, number(n, k.bits), "");
  unsigned width = LLVMGetIntTypeWidth(LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetElementType(t) : t);
  return width < 64 ? LLVMBuildTrunc(E->b, n, t, "") : width > 64 ? LLVMBuildZExt(E->b, n, t, "") : n;
}

static sd_ll load_one(sd_emit *E, const sd_buf *b, sd_ll index, sd_ll bit) {
  packing k = packing_of(b->dtype);
  sd_ll p = byte_pointer(E, b, index);
  if (bit) p = LLVMBuildSelect(E->b, bit, p, E->zeros, "");
  sd_ll v = LLVMBuildLShr(E->b, load_as(E, b, E->i8, p), shift_of(E, k, index, E->i8), "");
  return LLVMBuildAnd(E->b, v, number(v, (1 << k.bits) - 1), "");
}

static sd_ll load_each(sd_emit *E, const sd_buf *b, sd_ll index, sd_ll mask) {
  packing k = packing_of(b->dtype);
  LLVMTypeRef vt = LLVMVectorType(E->i8, (unsigned)E->lanes_full),
              wide = LLVMVectorType(E->i32, (unsigned)E->lanes_full);
  sd_ll v = LLVMGetPoison(vt);
  for (int i = 0; i < E->lanes_full; i++) {
    sd_ll p = byte_pointer(E, b, lane(E, index, i));
    if (mask) p = LLVMBuildSelect(E->b, lane(E, mask, i), p, E->zeros, "");
    v = LLVMBuildInsertElement(E->b, v, load_as(E, b, E->i8, p), LLVMConstInt(E->i32, (uint64_t)i, 0), "");
  }
  v = LLVMBuildLShr(E->b, LLVMBuildZExt(E->b, v, wide, ""), shift_of(E, k, index, wide), "");
  return LLVMBuildTrunc(E->b, LLVMBuildAnd(E->b, v, number(v, (1 << k.bits) - 1), ""), vt, "");
}

// Elements side by side as a number; where they do not begin with a byte the last one may lie in one byte
// more.
static sd_ll load_bits(sd_emit *E, const sd_buf *b, sd_ll first, sd_ll bit, bool whole) {
  packing k = packing_of(b->dtype);
  LLVMTypeRef t = LLVMIntTypeInContext(E->c, (unsigned)(E->lanes_full * k.bits));
  sd_ll p = byte_pointer(E, b, first), q;
  if (bit) p = LLVMBuildSelect(E->b, bit, p, E->zeros, "");
  sd_ll v = load_as(E, b, t, p);
  if (whole) return v;
  q = byte_pointer(E, b, LLVMBuildAdd(E->b, first, sd_emit_i64(E, E->lanes_full - 1), ""));
  if (bit) q = LLVMBuildSelect(E->b, bit, q, E->zeros, "");
  sd_ll n = shift_of(E, k, first, t), more = load_as(E, b, E->i8, q);
  int width = E->lanes_full * k.bits;
  more = width > 8 ? LLVMBuildZExt(E->b, more, t, "") : more;
  more = LLVMBuildShl(E->b, LLVMBuildShl(E->b, more, number(more, 1), ""),
                      LLVMBuildSub(E->b, number(n, width - 1), n, ""), "");
  v = LLVMBuildOr(E->b, LLVMBuildLShr(E->b, v, n, ""), more, "");
  return v;
}

static sd_ll load_vector(sd_emit *E, const sd_buf *b, sd_ll first, sd_ll bit, bool whole) {
  packing k = packing_of(b->dtype);
  int n = E->lanes_full, bytes = n * k.bits / 8;
  sd_ll from[64], by[64];
  LLVMTypeRef vt = LLVMVectorType(E->i8, (unsigned)n), wide = LLVMVectorType(E->i32, (unsigned)n);
  sd_ll v =
      LLVMBuildBitCast(E->b, load_bits(E, b, first, bit, whole), LLVMVectorType(E->i8, (unsigned)bytes), "");
  for (int i = 0; i < n; i++) {
    from[i] = LLVMConstInt(E->i32, (uint64_t)(i / k.per), 0);
    by[i] = LLVMConstInt(E->i32, (uint64_t)(i % k.per * k.bits), 0);
  }
  v = LLVMBuildShuffleVector(E->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(from, (unsigned)n), "");
  v = LLVMBuildLShr(E->b, LLVMBuildZExt(E->b, v, wide, ""), LLVMConstVector(by, (unsigned)n), "");
  return LLVMBuildTrunc(E->b, LLVMBuildAnd(E->b, v, number(v, (1 << k.bits) - 1), ""), vt, "");
}

static bool fills_bytes(const sd_emit *E, packing k) {
  return E->lanes_full * k.bits >= 8 && E->lanes_full <= 64;
}

sd_ll sd_emit_packed_load(sd_emit *E, const sd_expr *e, sd_ll bit, sd_ll mask, bool lanes) {
  packing k = packing_of(e->buf->dtype);
  sd_ll index = sd_emit_value(E, e->a[0]);
  if (!lanes) return load_one(E, e->buf, index, bit);
  if (!sd_emit_info_of(E, e->a[0])->lanes) { // one element under masks
    if (mask) bit = bit ? LLVMBuildAnd(E->b, bit, sd_emit_any(E, mask), "") : sd_emit_any(E, mask);
    sd_ll v = sd_emit_splat(E, load_one(E, e->buf, index, bit));
    return mask ? LLVMBuildSelect(E->b, mask, v, LLVMConstNull(LLVMTypeOf(v)), "") : v;
  }
  sd_ll exists = sd_emit_lane_mask(E);
  if (exists) mask = mask ? LLVMBuildAnd(E->b, mask, exists, "") : exists;
  offset o = offset_of(E, e->a[0], k.per);
  if (o.side_by_side && !mask && fills_bytes(E, k))
    return load_vector(E, e->buf, lane(E, index, 0), bit, whole_vectors(E, &o));
  if (bit) mask = mask ? LLVMBuildAnd(E->b, mask, sd_emit_splat(E, bit), "") : sd_emit_splat(E, bit);
  return load_each(E, e->buf, index, mask);
}

// ---- stores ----

// The last element of a buffer clears what is left of its byte, so that equal contents are equal bytes.
static void store_one(sd_emit *E, const sd_buf *b, sd_ll index, sd_ll code, bool owned) {
  packing k = packing_of(b->dtype);
  LLVMBuilderRef B = E->b;
  sd_ll p = byte_pointer(E, b, index), n = shift_of(E, k, index, E->i8), one = LLVMConstInt(E->i8, 1, 0);
  sd_ll below = LLVMBuildSub(B, LLVMBuildShl(B, one, n, ""), one, "");
  sd_ll others = LLVMBuildNot(B, LLVMBuildShl(B, LLVMConstInt(E->i8, (1u << k.bits) - 1, 0), n, ""), "");
  sd_ll last = LLVMBuildICmp(B, LLVMIntEQ, LLVMBuildAdd(B, index, sd_emit_i64(E, 1), ""),
                             sd_emit_dim(E, b->count), "");
  sd_ll keep = LLVMBuildSelect(B, last, below, others, ""), v = LLVMBuildShl(B, code, n, "");
  if (owned) {
    LLVMBuildStore(B, LLVMBuildOr(B, LLVMBuildAnd(B, LLVMBuildLoad2(B, E->i8, p, ""), keep, ""), v, ""), p);
    return;
  }
  LLVMBuildAtomicRMW(B, LLVMAtomicRMWBinOpAnd, p, keep, LLVMAtomicOrderingMonotonic, false);
  LLVMBuildAtomicRMW(B, LLVMAtomicRMWBinOpOr, p, v, LLVMAtomicOrderingMonotonic, false);
}

static void store_vector(sd_emit *E, const sd_buf *b, sd_ll first, sd_ll codes) {
  packing k = packing_of(b->dtype);
  int bytes = E->lanes_full * k.bits / 8;
  sd_ll v = NULL, at[64];
  for (int j = 0; j < k.per; j++) {
    for (int i = 0; i < bytes; i++) at[i] = LLVMConstInt(E->i32, (uint64_t)(i * k.per + j), 0);
    sd_ll x = LLVMBuildShuffleVector(E->b, codes, LLVMGetPoison(LLVMTypeOf(codes)),
                                     LLVMConstVector(at, (unsigned)bytes), "");
    if (j) x = LLVMBuildShl(E->b, x, number(x, j * k.bits), "");
    v = v ? LLVMBuildOr(E->b, v, x, "") : x;
  }
  LLVMSetAlignment(LLVMBuildStore(E->b, v, byte_pointer(E, b, first)), 1);
}

void sd_emit_packed_store(sd_emit *E, const sd_emit_root *r, sd_ll codes, sd_ll mask, bool lanes) {
  packing k = packing_of(r->buf->dtype);
  sd_ll index = sd_emit_value(E, r->offset);
  offset o = offset_of(E, r->offset, k.per);
  bool owned = owns_bytes(E, r, &o);
  if (!lanes) {
    store_one(E, r->buf, index, codes, owned);
    return;
  }
  if (owned && !mask && whole_vectors(E, &o) && fills_bytes(E, k)) {
    store_vector(E, r->buf, lane(E, index, 0), codes);
    return;
  }
  for (int i = 0; i < E->lanes_full; i++) { // in order: the last lane wins where they coincide
    sd_emit_if f;
    if (mask) sd_emit_if_open(E, &f, lane(E, mask, i), NULL);
    store_one(E, r->buf, lane(E, index, i), lane(E, codes, i), owned);
    if (mask) sd_emit_if_close(E, &f);
  }
}
