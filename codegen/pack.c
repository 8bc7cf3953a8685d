// Copies a constant into its packed layout: elements of 1 to 8 bytes, or 2 and 4 of them in a byte.
#include "codegen/pack.h"

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

#define FEW_BYTES  (4u << 20)  // less is allocated as it comes
#define ROOM_BYTES (32u << 20) // at a time; what is not touched takes no memory

uint64_t sd_pack_hash(const sd_pack *p) {
  uint64_t h = sd_hash_mix(sd_hash_mix(p->n, (uint64_t)p->base), (uint64_t)p->limit * 31 + p->outer);
  h = sd_hash_bytes(p->extent, p->n * sizeof p->extent[0], h);
  h = sd_hash_mix(sd_hash_mix(h, (uint64_t)p->factor), (uint64_t)(p->side + p->steps * 8));
  return sd_hash_bytes(p->stride, p->n * sizeof p->stride[0], h);
}

// Elements below a byte are told apart by number: `src` and `dst` are then the beginnings of the contents.
typedef struct packer { const sd_pack *p; const uint8_t *src; uint8_t *dst; size_t elem; sd_dtype raw; uint64_t at; } packer;

// The source may lie at any address of a mapped file.
#define COPY_RUN(T)                                                                                                    \
  for (int64_t i = 0; i < n; i++) memcpy(dst + i * (int64_t)sizeof(T), w->src + (from + i * stride) * (int64_t)sizeof(T), sizeof(T))

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
  for (int64_t i = 0; i < lanes; i++)
    for (int64_t s = 0; s < steps; s++) {
      uint8_t *to = w->dst + (size_t)(i * p->side + s) * w->elem;
      const uint8_t *at = w->src + (from + i * lane + s * step) * (int64_t)w->elem;
      if (w->elem == 1) *to = *at;
      else memcpy(to, at, 2);
    }
  w->dst += (size_t)(p->factor * p->side) * w->elem;
}

static void pack_level(packer *w, uint32_t d, int64_t from, int64_t lanes, int64_t steps) {
  const sd_pack *p = w->p;
  if (p->side > 1 && d == p->n - 2) {
    pack_sides(w, from, lanes, steps);
    return;
  }
  if (d == p->n - 1) {
    pack_run(w, from, lanes);
    return;
  }
  for (int64_t i = 0; i < p->extent[d]; i++) {
    if (d == p->outer) lanes = sd_min_i64(p->factor, p->limit - i * p->factor);
    if (p->side > 1 && d == p->n - 3) steps = sd_min_i64(p->side, p->steps - i * p->side);
    pack_level(w, d + 1, from + i * p->stride[d], lanes, steps);
  }
}

// The last index that is read along a dim; of the pairs that are limited together, the second has the whole.
static int64_t last_of(const sd_pack *p, uint32_t d) {
  bool sides = p->side > 1;
  if (d == p->outer || (sides && d == p->n - 3)) return 0;
  if (d == p->n - (sides ? 2 : 1)) return p->limit - 1;
  return sides && d == p->n - 1 ? p->steps - 1 : p->extent[d] - 1;
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
  if (p->side > 1 && bits * p->side != 32) return SD_ERR(INTERNAL, "steps of %s side by side", sd_dtype_name(src->dtype));
  if (elem != 1 && elem != 2 && elem != 4 && elem != 8) return SD_ERR(UNSUPPORTED, "packing of %s constants", sd_dtype_name(src->dtype));
  uint64_t count = elem;
  int64_t low = p->base, high = p->base;
  for (uint32_t d = 0; d < p->n; d++) {
    if (!sd_ck_mul(count, (uint64_t)p->extent[d], &count)) return SD_ERR(NOMEM, "a packed constant is too large");
    int64_t reach = last_of(p, d) * p->stride[d];
    *(reach < 0 ? &low : &high) += reach;
  }
  if (count > 0 && (low < 0 || (uint64_t)high >= src->count)) return SD_ERR(INTERNAL, "packing reads outside of its constant");
  if (!sd_dtype_bytes(src->dtype, count / elem, &count)) return SD_ERR(NOMEM, "a packed constant is too large");
  uint8_t *to = allocate(room, count);
  if (bits < 8 || p->side > 1) memset(to, 0, count); // what is left out is not written
  packer w = {p, (const uint8_t *)src->data + (bits < 8 ? 0 : (size_t)p->base * elem), to, elem, bits < 8 ? (bits == 4 ? SD_U4 : SD_U2) : SD_DT_NONE, 0};
  if (count > 0) pack_level(&w, 0, 0, p->factor, p->side);
  *out = to, *out_bytes = count;
  return NULL;
}
