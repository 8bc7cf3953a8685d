// Host functions that pick elements: NonZero, Compress, and the shape operand of Reshape.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

sard_status *sd_host_element_size(const sd_host_tensor *t, size_t *out) {
  int bits = sd_dtype_bits(t->dtype);
  if (bits < 8 || bits % 8 || t->dtype == SD_STRING) return SD_ERR(UNSUPPORTED, "tensors of type %s", sd_dtype_name(t->dtype));
  *out = (size_t)bits / 8;
  return NULL;
}

// ---- NonZero ----
// A block of elements becomes a block of 0 and 1; tiles of rows count first, and write where the counts say.

enum { STEP = 16, BLOCK = 256, TILE = 16384, PART_BYTES = 65536 };

typedef struct nonzero {
  const sd_host_tensor *x;
  uint64_t rows, len, tile; // len: of the last axis; tile: rows of one
  int64_t *y;
  uint64_t found;           // elements that are not zero
  uint64_t *at;             // of a tile: its count, then where it writes
} nonzero;

static void marks_of_32(const uint32_t *restrict x, uint32_t mask, uint8_t *restrict mark) {
  for (int i = 0; i < STEP; i++) mark[i] = (x[i] & mask) != 0;
}
static void marks_of_8(const uint8_t *restrict x, uint8_t *restrict mark) {
  for (int i = 0; i < STEP; i++) mark[i] = x[i] != 0;
}
static void marks_of_64(const uint64_t *restrict x, uint64_t mask, uint8_t *restrict mark) {
  for (int i = 0; i < STEP; i++) mark[i] = (x[i] & mask) != 0;
}

static bool is_nonzero(const sd_host_tensor *x, uint64_t i) {
  sd_dtype part = sd_dtype_part(x->dtype);
  if (part != x->dtype) return sd_dtype_get_f64(part, x->data, 2 * i) != 0 || sd_dtype_get_f64(part, x->data, 2 * i + 1) != 0;
  return sd_dtype_is_float(x->dtype) ? sd_dtype_get_f64(x->dtype, x->data, i) != 0 : sd_dtype_get_i64(x->dtype, x->data, i) != 0;
}

// A float without its sign is zero as an integer where it is zero.
static void make_marks(const sd_host_tensor *x, uint64_t i, uint64_t n, uint8_t *mark) {
  bool f = sd_dtype_is_float(x->dtype);
  int bits = sd_dtype_kind_of(x->dtype) == SD_DK_C ? 0 : sd_dtype_bits(x->dtype); // complex ones one by one
  uint64_t k = 0, steps = n - n % STEP;
  if (bits == 32)
    for (; k < steps; k += STEP) marks_of_32((const uint32_t *)x->data + i + k, UINT32_MAX >> f, mark + k);
  else if (bits == 64)
    for (; k < steps; k += STEP) marks_of_64((const uint64_t *)x->data + i + k, UINT64_MAX >> f, mark + k);
  else if (bits == 8 && !f)
    for (; k < steps; k += STEP) marks_of_8((const uint8_t *)x->data + i + k, mark + k);
  for (; k < n; k++) mark[k] = is_nonzero(x, i + k);
}

static uint64_t count_marks(const uint8_t *mark, uint64_t n) {
  uint64_t sum = 0, i = 0;
  for (; i + STEP <= n; i += STEP) {
    uint8_t part = 0;
    for (int k = 0; k < STEP; k++) part = (uint8_t)(part + mark[i + (uint64_t)k]);
    sum += part;
  }
  for (; i < n; i++) sum += mark[i];
  return sum;
}

static uint64_t tile_end(const nonzero *z, uint64_t tile) { return (tile + 1) * z->tile < z->rows ? (tile + 1) * z->tile : z->rows; }

static void count_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  const nonzero *z = user;
  uint8_t mark[BLOCK];
  (void)worker;
  for (uint32_t t = begin; t < end; t++) {
    uint64_t from = t * z->tile * z->len, to = tile_end(z, t) * z->len, sum = 0;
    for (; from < to; from += BLOCK) {
      uint64_t n = to - from < BLOCK ? to - from : BLOCK;
      make_marks(z->x, from, n, mark);
      sum += count_marks(mark, n);
    }
    z->at[t] = sum;
  }
}

// The columns of the marked elements of a row, which stand side by side; their other coordinates are those of the row.
static uint64_t write_row(const nonzero *z, uint64_t row, const int64_t *at, uint64_t to) {
  uint8_t mark[BLOCK];
  uint16_t column[BLOCK];
  int last = z->x->rank - 1;
  for (uint64_t from = 0; from < z->len; from += BLOCK) {
    uint64_t n = z->len - from < BLOCK ? z->len - from : BLOCK, k = 0;
    make_marks(z->x, row * z->len + from, n, mark);
    for (uint64_t i = 0; i < n; i++) column[k] = (uint16_t)i, k += mark[i];
    for (int d = 0; d < last; d++)
      for (uint64_t i = 0; i < k; i++) z->y[(uint64_t)d * z->found + to + i] = at[d];
    for (uint64_t i = 0; i < k && last >= 0; i++) z->y[(uint64_t)last * z->found + to + i] = (int64_t)(from + column[i]);
    to += k;
  }
  return to;
}

static void write_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  const nonzero *z = user;
  (void)worker;
  for (uint32_t t = begin; t < end; t++) {
    uint64_t row = t * z->tile, rest = row, to = z->at[t];
    int64_t at[SD_HOST_RANK] = {0};
    for (int d = z->x->rank - 2; d >= 0; d--) at[d] = (int64_t)(rest % (uint64_t)z->x->dims[d]), rest /= (uint64_t)z->x->dims[d];
    for (; row < tile_end(z, t); row++) {
      to = write_row(z, row, at, to);
      for (int d = z->x->rank - 2; d >= 0 && ++at[d] == z->x->dims[d]; d--) at[d] = 0;
    }
  }
}

sard_status *sd_host_nonzero(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  nonzero z = {.x = x, .len = x->rank ? (uint64_t)x->dims[x->rank - 1] : 1};
  if (x->dtype == SD_STRING || !sd_dtype_bits(x->dtype)) return SD_ERR(UNSUPPORTED, "tensors of type %s", sd_dtype_name(x->dtype));
  z.rows = x->count ? x->count / z.len : 0;
  z.tile = z.len && z.len < TILE ? TILE / z.len : 1;
  uint64_t tiles = (z.rows + z.tile - 1) / z.tile;
  if (tiles > UINT32_MAX) return SD_ERR(UNSUPPORTED, "%llu elements", (unsigned long long)x->count);
  z.at = sd_calloc(tiles + 1, sizeof *z.at);
  if (!z.at) return SD_ERR(NOMEM, "out of memory for %llu elements", (unsigned long long)x->count);
  sd_host_tiles(c, count_tiles, &z, (uint32_t)tiles);
  for (uint64_t t = 0; t < tiles; t++) {
    uint64_t n = z.at[t];
    z.at[t] = z.found, z.found += n;
  }
  sard_status *st = c->make(c, 0, (int64_t[]){x->rank, (int64_t)z.found});
  z.y = st ? NULL : c->out[0].data;
  if (!st && c->out[0].dtype) sd_host_tiles(c, write_tiles, &z, (uint32_t)tiles);
  sd_free(z.at);
  return st;
}

// ---- Compress ----

typedef struct compress {
  const sd_host_tensor *mask;
  const uint8_t *keep, *from;
  uint8_t *to;
  uint64_t row, len, kept, bytes; // items of a row of the operand, looked at, kept; bytes of an item
  uint64_t part, parts;           // of a row: items of a tile, tiles
  uint64_t *at;                   // kept items in front of each part, then all of them
} compress;

static uint64_t part_end(const compress *z, uint64_t part) {
  return (part + 1) * z->part < z->len ? (part + 1) * z->part : z->len;
}

// Where each part of a row writes.
static void count_kept(compress *z) {
  uint8_t mark[BLOCK];
  for (uint64_t p = 0; p < z->parts; p++) {
    z->at[p] = z->kept;
    for (uint64_t i = p * z->part, end = part_end(z, p), n; i < end; i += n) {
      n = end - i < BLOCK ? end - i : BLOCK;
      make_marks(z->mask, i, n, mark);
      z->kept += count_marks(mark, n);
    }
  }
  z->at[z->parts] = z->kept;
}

// The n kept ones of small items, without branches that data decides. What is not kept is written over by the next one.
static inline __attribute__((always_inline)) void pack_items(const uint8_t *keep, const uint8_t *from,
                                                             uint64_t n, size_t size, uint8_t *to) {
  for (uint64_t i = 0, k = 0; k < n; i++) {
    memcpy(to + k * size, from + i * size, size);
    k += keep[i] != 0;
  }
}

// Items that stand side by side are copied at once.
static void copy_runs(const compress *z, const uint8_t *from, uint64_t i, uint64_t end, uint8_t *to) {
  while (i < end) {
    uint64_t n = 0;
    while (i + n < end && z->keep[i + n]) n++;
    memcpy(to, from + i * z->bytes, n * z->bytes);
    to += n * z->bytes, i += n + 1;
  }
}

// A tile is a part of a row.
static void compress_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  const compress *z = user;
  (void)worker;
  for (uint32_t t = begin; t < end; t++) {
    uint64_t o = t / z->parts, p = t % z->parts, i = p * z->part, n = z->at[p + 1] - z->at[p];
    const uint8_t *from = z->from + o * z->row * z->bytes;
    uint8_t *to = z->to + (o * z->kept + z->at[p]) * z->bytes;
    if (z->bytes == 4) pack_items(z->keep + i, from + i * 4, n, 4, to);
    else if (z->bytes == 8) pack_items(z->keep + i, from + i * 8, n, 8, to);
    else copy_runs(z, from, i, part_end(z, p), to);
  }
}

static sard_status *compress_all(sd_host_call *c, compress *z, int64_t *kept, const int64_t *dims, uint64_t outer) {
  uint64_t tiles;
  count_kept(z);
  *kept = (int64_t)z->kept;
  SD_TRY(c->make(c, 0, dims));
  if (!sd_ck_mul(outer, z->parts, &tiles) || tiles > UINT32_MAX)
    return SD_ERR(UNSUPPORTED, "%llu rows", (unsigned long long)outer);
  z->to = c->out[0].data;
  if (z->kept && z->bytes && c->out[0].dtype) sd_host_tiles(c, compress_tiles, z, (uint32_t)tiles);
  return NULL;
}

sard_status *sd_host_compress(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0], *mask = &c->in[1];
  bool flat = c->param[0] == SD_HOST_ABSENT;
  int axis = flat ? 0 : (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  uint64_t outer = 1, inner = 1;
  compress z = {.mask = mask, .keep = mask->data, .from = x->data};
  int64_t dims[SD_HOST_RANK];
  size_t size;
  SD_TRY(sd_host_element_size(x, &size));
  if (!flat && (axis < 0 || axis >= x->rank)) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  for (int d = 0; d < x->rank && !flat; d++) {
    dims[d] = x->dims[d];
    if (d != axis) *(d < axis ? &outer : &inner) *= (uint64_t)x->dims[d];
  }
  z.len = z.row = flat ? x->count : (uint64_t)x->dims[axis];
  if (mask->count < z.len) z.len = mask->count; // what the condition does not reach is left out
  z.bytes = inner * size;
  z.part = z.bytes < PART_BYTES ? PART_BYTES / (z.bytes + !z.bytes) : 1;
  z.parts = z.len / z.part + (z.len % z.part != 0);
  z.at = sd_calloc(z.parts + 1, sizeof *z.at);
  if (!z.at) return SD_ERR(NOMEM, "out of memory for %llu items", (unsigned long long)z.len);
  sard_status *st = compress_all(c, &z, &dims[flat ? 0 : axis], dims, outer);
  sd_free(z.at);
  return st;
}

// ---- sard.ReshapeDims: allowzero, then the dims of the operand ----
sard_status *sd_host_reshape_dims(sd_host_call *c) {
  const sd_host_tensor *shape = &c->in[0];
  const int64_t *want = shape->data, *dims = c->param + 1;
  uint32_t rank = c->n_param - 1;
  int64_t from = 1, to = 1, infer = -1;
  SD_TRY(c->make(c, 0, shape->dims));
  int64_t *y = c->out[0].data;
  for (uint32_t d = 0; d < rank; d++)
    if (!sd_ck_mul_i64(from, dims[d], &from)) return SD_ERR(MODEL, "the operand of a Reshape is too large");
  for (uint64_t i = 0; i < shape->count; i++) {
    y[i] = want[i];
    if (want[i] == 0 && !c->param[0]) {
      if (i >= rank) return SD_ERR(MODEL, "the shape copies dim %llu of an operand of rank %u", (unsigned long long)i, rank);
      y[i] = dims[i];
    }
    if (want[i] == -1 && infer >= 0) return SD_ERR(MODEL, "the shape has more than one -1");
    if (want[i] == -1) infer = (int64_t)i;
    else if (y[i] < 0 || !sd_ck_mul_i64(to, y[i], &to)) return SD_ERR(MODEL, "dim %llu of the shape is %lld", (unsigned long long)i, (long long)y[i]);
  }
  if (infer >= 0) {
    y[infer] = to ? from / to : 0;
    to *= y[infer];
  }
  return from == to ? NULL : SD_ERR(MODEL, "%lld elements cannot take a shape of %lld", (long long)from, (long long)to);
}
