// Copies a constant into its packed layout: elements of 1 to 8 bytes, or 2 and 4 of them in a byte.
#include "codegen/pack.h"

#include "codegen/crew.h"
#include "codegen/triple.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

#define FEW_BYTES  (4u << 20)  // less is allocated as it comes
#define ROOM_BYTES (32u << 20) // at a time; what is not touched takes no memory
#define PART_BYTES (1u << 20)  // of a constant that several threads copy, each
#define LINE_STEPS 16          // steps of a lane that are read together

uint64_t sd_pack_hash(const sd_pack *p) {
  uint64_t h = sd_hash_mix(sd_hash_mix(p->n, (uint64_t)p->base), (uint64_t)p->limit * 31 + p->outer);
  h = sd_hash_bytes(p->extent, p->n * sizeof p->extent[0], h);
  h = sd_hash_mix(sd_hash_mix(h, (uint64_t)p->factor + ((uint64_t)p->part << 56) + ((uint64_t)p->sliced << 55)), (uint64_t)(p->side + p->steps * 8));
  return sd_hash_bytes(p->turn, p->n * sizeof p->turn[0], sd_hash_bytes(p->stride, p->n * sizeof p->stride[0], h));
}

// Elements below a byte are told apart by number: `src` and `dst` are then the beginnings of the contents.
typedef struct packer { const sd_pack *p; const uint8_t *src; uint8_t *dst; size_t elem; sd_dtype raw; uint64_t at; int64_t apart; } packer;

// The source may lie at any address of a mapped file.
#define COPY_RUN(T)                                                                                                    \
  for (int64_t i = 0; i < n; i++) memcpy(dst + i * (int64_t)sizeof(T), w->src + (from + i * stride) * (int64_t)sizeof(T), sizeof(T))

// ---- lanes far apart, whose steps lie side by side: a line of each lane is read at once ----
static bool turns(const sd_pack *p, size_t elem, sd_dtype raw) {
  return p->side <= 1 && p->n >= 2 && p->stride[p->n - 2] == 1 && p->stride[p->n - 1] > 1 && (raw == SD_U4 ? p->factor % 2 == 0 : !raw && elem == 4);
}

static void turn_words(packer *w, int64_t from, int64_t lanes, int64_t first, int64_t count) {
  const sd_pack *p = w->p;
  for (int64_t i = 0; i < lanes; i++) {
    const uint8_t *src = w->src + (size_t)(from + i * p->stride[p->n - 1] + first) * 4;
    for (int64_t s = 0; s < count; s++) memcpy(w->dst + (size_t)((first + s) * p->factor + i) * 4, src + s * 4, 4);
  }
}

static uint8_t code4(const packer *w, int64_t at) { return (uint8_t)(w->src[at >> 1] >> (at & 1) * 4 & 15); }

static void turn_codes(packer *w, int64_t from, int64_t lanes, int64_t first, int64_t count) {
  const sd_pack *p = w->p;
  int64_t by = p->stride[p->n - 1];
  for (int64_t i = 0; i < lanes; i += 2) {
    int64_t low = p->base + from + i * by + first, high = low + by;
    uint8_t *to = w->dst + (w->at + (uint64_t)(first * p->factor + i)) / 2;
    for (int64_t s = 0; s < count; s++) to[s * p->factor / 2] = (uint8_t)(code4(w, low + s) | (i + 1 < lanes ? code4(w, high + s) << 4 : 0));
  }
}

// All steps and lanes of a panel. Codes of lanes past the limit are zeros from before.
static void pack_turned(packer *w, int64_t from, int64_t lanes) {
  int64_t steps = w->p->extent[w->p->n - 2];
  if (!w->raw && lanes < w->p->factor) memset(w->dst, 0, (size_t)(steps * w->p->factor) * 4);
  for (int64_t s = 0; s < steps; s += LINE_STEPS)
    (w->raw ? turn_codes : turn_words)(w, from, lanes, s, sd_min_i64(LINE_STEPS, steps - s));
  w->at += (uint64_t)(steps * w->p->factor);
  if (!w->raw) w->dst += (size_t)(steps * w->p->factor) * 4;
}

// Copies the innermost run of lanes, of which those at or past the limit become zero.
static void pack_run(packer *w, int64_t from, int64_t lanes) {
  int64_t stride = w->p->stride[w->p->n - 1], n = lanes;
  uint8_t *dst = w->dst;
  if (w->raw) {
    for (int64_t i = 0; i < n; i++)
      sd_dtype_set_i64(w->raw, dst, w->at + (uint64_t)i, sd_dtype_get_i64(w->raw, w->src, (uint64_t)(w->p->base + from + i * stride)));
    w->at += (uint64_t)w->p->extent[w->p->n - 1];
    return;
  }
  if (stride == 1 && n > 0) memcpy(dst, w->src + (size_t)from * w->elem, (size_t)n * w->elem);
  else switch (w->elem) {
  case 1: COPY_RUN(uint8_t); break;
  case 2: COPY_RUN(uint16_t); break;
  case 4: COPY_RUN(uint32_t); break;
  default: COPY_RUN(uint64_t); break;
  }
  w->dst += (size_t)w->p->extent[w->p->n - 1] * w->elem;
  if (n < 0) n = 0;
  memset(dst + (size_t)n * w->elem, 0, (size_t)(w->dst - dst) - (size_t)n * w->elem);
}

// Copies `steps` elements for each lane, and leaves room for all that stand side by side.
static void pack_sides(packer *w, int64_t from, int64_t lanes, int64_t steps) {
  const sd_pack *p = w->p;
  int64_t lane = p->stride[p->n - 2], step = p->stride[p->n - 1];
  bool whole = step == 1 && steps == p->side; // 32 bits
  for (int64_t i = 0; i < lanes; i++)
    for (int64_t s = 0; s < steps; s++) {
      if (whole) {
        memcpy(w->dst + i * 4, w->src + (from + i * lane) * (int64_t)w->elem, 4);
        break;
      }
      uint8_t *to = w->dst + (size_t)(i * p->side + s) * w->elem;
      const uint8_t *at = w->src + (from + i * lane + s * step) * (int64_t)w->elem;
      if (w->elem == 1) *to = *at;
      else memcpy(to, at, 2);
    }
  w->dst += (size_t)(p->factor * p->side) * w->elem;
}

static void pack_range(packer *w, uint32_t d, int64_t lo, int64_t hi, int64_t from, int64_t lanes, int64_t steps);

// Codes of a word in the order of memory, as sd_words_slice (words.h) has them: four by four, each in a byte of its own.
static uint32_t sliced(uint32_t word, int64_t bits) {
  uint32_t to = 0, mask = (1u << bits) - 1;
  for (int64_t s = 0; s < 32 / bits; s++) to |= (word >> s * bits & mask) << (s % 4 * 8 + s / 4 * bits);
  return to;
}

// The same of codes: a word for each lane, all steps of which are there.
static void pack_words(packer *w, int64_t from, int64_t lanes) {
  const sd_pack *p = w->p;
  int64_t lane = p->stride[p->n - 2], step = p->stride[p->n - 1], bits = 32 / p->side;
  for (int64_t i = 0; i < lanes; i++) {
    int64_t at = p->base + from + i * lane;
    uint8_t *to = w->dst + (w->at + (uint64_t)(i * p->side)) * (uint64_t)bits / 8;
    if (step == 1 && at * bits % 8 == 0) memcpy(to, w->src + at * bits / 8, 4);
    else
      for (int64_t s = 0; s < p->side; s++) sd_dtype_set_i64(w->raw, to, (uint64_t)s, sd_dtype_get_i64(w->raw, w->src, (uint64_t)(at + s * step)));
    if (!p->sliced) continue;
    uint32_t word;
    memcpy(&word, to, 4);
    word = sliced(word, bits);
    memcpy(to, &word, 4);
  }
  w->at += (uint64_t)(p->factor * p->side);
}

// Pairs of steps of f32 for each lane, in their parts.
static void pack_parts(packer *w, int64_t from, int64_t lanes) {
  const sd_pack *p = w->p;
  int64_t lane = p->stride[p->n - 2];
  const uint8_t *at = w->src + from * 4, *next = at + p->stride[p->n - 1] * 4;
  float x[SD_TRIPLE_PANEL] = {0}, y[SD_TRIPLE_PANEL] = {0};
  uint32_t pair[3][SD_TRIPLE_PANEL];
  if (lane == 1) memcpy(x, at, (size_t)lanes * 4), memcpy(y, next, (size_t)lanes * 4);
  for (int64_t i = 0; lane != 1 && i < lanes; i++) memcpy(x + i, at + i * lane * 4, 4), memcpy(y + i, next + i * lane * 4, 4);
  for (int i = 0; i < SD_TRIPLE_PANEL; i++) {
    sd_triple_parts a = sd_triple_parts_of(x[i]), b = sd_triple_parts_of(y[i]);
    for (int q = 0; q < 3; q++) pair[q][i] = a.high[q] >> 16 | b.high[q];
  }
  for (int q = 0; q < p->extent[p->part]; q++) memcpy(w->dst + q * w->apart, pair[q], sizeof pair[q]);
  w->dst += sizeof pair[0];
}

static void pack_level(packer *w, uint32_t d, int64_t from, int64_t lanes, int64_t steps) {
  const sd_pack *p = w->p;
  if (p->side > 1 && d == p->n - 2 && w->raw) {
    pack_words(w, from, lanes);
    return;
  }
  if (p->side > 1 && d == p->n - 2) {
    if (p->part) pack_parts(w, from, lanes);
    else pack_sides(w, from, lanes, steps);
    return;
  }
  if (d == p->n - 2 && turns(p, w->elem, w->raw)) {
    pack_turned(w, from, lanes);
    return;
  }
  if (d == p->n - 1) {
    pack_run(w, from, lanes);
    return;
  }
  if (p->part && d == p->part) { // all parts at once
    pack_level(w, d + 1, from, lanes, steps);
    w->dst += (p->extent[d] - 1) * w->apart;
    return;
  }
  pack_range(w, d, 0, p->extent[d], from, lanes, steps);
}

static void pack_range(packer *w, uint32_t d, int64_t lo, int64_t hi, int64_t from, int64_t lanes, int64_t steps) {
  const sd_pack *p = w->p;
  for (int64_t i = lo; i < hi; i++) {
    if (d == p->outer) lanes = sd_min_i64(p->factor, p->limit - i * p->factor);
    if (p->side > 1 && d == p->n - 3) steps = sd_min_i64(p->side, p->steps - i * p->side);
    pack_level(w, d + 1, from + (p->turn[d] ? (i + p->turn[d]) % p->extent[d] : i) * p->stride[d], lanes, steps);
  }
}

// The last index that is read along a dim; of the pairs that are limited together, the second has the whole.
static int64_t last_of(const sd_pack *p, uint32_t d) {
  bool sides = p->side > 1;
  if (d == p->outer || (sides && d == p->n - 3)) return 0;
  if (d == p->n - (sides ? 2 : 1)) return p->limit - 1;
  return sides && d == p->n - 1 ? p->steps - 1 : p->extent[d] - 1;
}

// ---- several threads ----
typedef struct parts {
  packer w; // of the whole
  uint32_t dim, n;
  int64_t each, elems; // of the dim: steps of a part, elements of a step
  uint64_t bytes;      // of the whole
} parts;

// The dim whose steps are shared out, and how many parts there are: 1 where it is not worth it.
static parts divide(const packer *w, uint64_t bytes, int threads) {
  parts x = {.w = *w, .n = 1, .bytes = bytes, .elems = 1};
  const sd_pack *p = w->p;
  while (x.dim < p->outer && p->extent[x.dim] == 1) x.dim++;
  for (uint32_t d = x.dim + 1; d < p->n; d++) x.elems *= p->extent[d];
  int64_t extent = p->extent[x.dim], most = sd_min_i64(sd_min_i64(extent, 2 * (int64_t)threads), (int64_t)(bytes / PART_BYTES));
  x.each = extent;
  if (most < 2 || x.elems % 8) return x;
  x.each = (extent + most - 1) / most;
  x.n = (uint32_t)((extent + x.each - 1) / x.each);
  return x;
}

static sard_status *pack_part(void *user, uint32_t i) {
  const parts *x = user;
  const sd_pack *p = x->w.p;
  packer w = x->w;
  int64_t lo = x->each * (int64_t)i, hi = sd_min_i64(lo + x->each, p->extent[x->dim]);
  int bits = w.raw ? sd_dtype_bits(w.raw) : p->part ? 16 : (int)w.elem * 8;
  uint64_t from = (uint64_t)(lo * x->elems) * (uint64_t)bits / 8, end = x->n == 1 ? x->bytes : (uint64_t)(hi * x->elems) * (uint64_t)bits / 8;
  if (w.raw || (p->side > 1 && !p->part)) memset(w.dst + from, 0, end - from); // what is left out is not written
  if (w.raw) w.at = (uint64_t)(lo * x->elems);
  else w.dst += from;
  pack_range(&w, x->dim, lo, hi, 0, p->factor, p->side);
  return NULL;
}

static uint8_t *allocate(sd_pack_room *r, uint64_t bytes) {
  uint64_t need = sd_align_up(bytes + 64, 64), size = need > ROOM_BYTES ? need : ROOM_BYTES;
  r->used += need;
  if (r->left < need && r->used < FEW_BYTES) return sd_arena_aligned(r->a, need, 64);
  if (r->left < need) {
    uint8_t *p = sd_alloc_aligned(size);
    if (!p) sd_arena_oom(r->a);
    sd_arena_defer(r->a, sd_free_aligned, p);
    r->at = p, r->left = size;
  }
  r->at += need, r->left -= need;
  return r->at - need;
}

sard_status *sd_pack_const(sd_pack_room *room, const sd_pack *p, const sd_const *src, const void **out, uint64_t *out_bytes) {
  int bits = sd_dtype_bits(src->dtype);
  size_t elem = bits == 2 || bits == 4 ? 1 : (size_t)bits / 8;
  sd_dtype type = p->part ? SD_BF16 : src->dtype;
  if (p->part && (src->dtype != SD_F32 || p->side != 2 || p->steps % 2 || p->factor != SD_TRIPLE_PANEL)) return SD_ERR(INTERNAL, "packing of parts of %s", sd_dtype_name(src->dtype));
  if (p->side > 1 && sd_dtype_bits(type) * p->side != 32) return SD_ERR(INTERNAL, "steps of %s side by side", sd_dtype_name(src->dtype));
  if (elem != 1 && elem != 2 && elem != 4 && elem != 8) return SD_ERR(UNSUPPORTED, "packing of %s constants", sd_dtype_name(src->dtype));
  uint64_t count = elem;
  int64_t low = p->base, high = p->base;
  for (uint32_t d = 0; d < p->n; d++) {
    if (!sd_ck_mul(count, (uint64_t)p->extent[d], &count)) return SD_ERR(NOMEM, "a packed constant is too large");
    int64_t reach = last_of(p, d) * p->stride[d];
    *(reach < 0 ? &low : &high) += reach;
  }
  if (count > 0 && (low < 0 || (uint64_t)high >= src->count)) return SD_ERR(INTERNAL, "packing reads outside of its constant");
  if (!sd_dtype_bytes(type, count / elem, &count)) return SD_ERR(NOMEM, "a packed constant is too large");
  uint8_t *to = allocate(room, count);
  packer w = {p, (const uint8_t *)src->data + (bits < 8 ? 0 : (size_t)p->base * elem), to, elem, bits < 8 ? (bits == 4 ? SD_U4 : SD_U2) : SD_DT_NONE, 0, 0};
  if (p->part) w.apart = p->extent[p->n - 3] * p->factor * p->side * 2;
  if (count > 0) {
    parts x = divide(&w, count, room->threads);
    SD_TRY(sd_crew_run(x.n, x.n > 1 ? room->threads : 0, 0, pack_part, &x, SD_NEW_ARRAY(room->a, sard_status *, x.n), NULL));
  }
  *out = to, *out_bytes = count;
  return NULL;
}
