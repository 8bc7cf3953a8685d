// MatMulNBits: a matrix product whose weights are blocks of 2, 4 or 8 bits along K, widened inside the sum.
//
// Constant weights become a tensor of the type of the bits, which the order of bytes already is, with the
// scales of a block side by side for all rows: sard.MatMulBits, whose loads a register tile can read. At accuracy level 4 its input
// may be rounded to 8 bits, a block of it at a time, which pass `rounds` does. Columns that are in groups
// of their own are brought into the order of these. Others
// are taken out of bytes one by one: sard.MatMulBytes.
#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "ir/ops/xgraph.h"

enum { A, B, SCALES, ZEROS, GROUP, BIAS };

typedef struct nbits {
  int64_t K, N, bits, block, blocks, bytes; // blocks of a row, bytes of a block
} nbits;

static sard_status *check_count(const sd_node *n, uint32_t operand, int64_t want) {
  if (!sd_sh_in(n, operand)) return NULL;
  sd_dimtab *t = sd_sh_tab(n);
  return sd_sh_same(n, sd_value_count(n->in[operand]), sd_dim_const(t, want), sd_sh_operand(n, operand),
                    NULL);
}

// 8 bits a byte: zero points of a row fill whole bytes; or they have the type of the scales, one for each
// block.
static int64_t zeros_of_row(const sd_node *n, const nbits *p) {
  return n->in[ZEROS]->dtype == SD_U8 ? (p->blocks * p->bits + 7) / 8 : p->blocks;
}

static sard_status *nbits_read(const sd_node *n, nbits *p) {
  *p = (nbits){.K = sd_node_int(n, "K", 0),
               .N = sd_node_int(n, "N", 0),
               .bits = sd_node_int(n, "bits", 4),
               .block = sd_node_int(n, "block_size", 32)};
  const int64_t most = (int64_t)1 << 40;
  if (p->K < 1 || p->N < 1 || p->K > most || p->N > most)
    return SD_SH_ERR(n, MODEL, "K is %lld, N %lld", (long long)p->K, (long long)p->N);
  if (p->bits != 2 && p->bits != 4 && p->bits != 8)
    return SD_SH_ERR(n, UNSUPPORTED, "%lld bits; 2, 4 and 8 are", (long long)p->bits);
  if (p->block < 8 || p->block > 1 << 30 || p->block & (p->block - 1))
    return SD_SH_ERR(n, MODEL, "block_size is %lld, not a power of two from 8", (long long)p->block);
  if (sd_node_int(n, "weight_prepacked", 0))
    return SD_SH_ERR(n, UNSUPPORTED, "weights packed for another runtime");
  p->blocks = (p->K + p->block - 1) / p->block;
  p->bytes = p->block * p->bits / 8;
  int64_t count;
  if (__builtin_mul_overflow(p->N * p->blocks, p->bytes, &count) || p->N > INT64_MAX / p->blocks)
    return SD_SH_ERR(n, MODEL, "K and N overflow");
  if (n->in[B]->dtype != SD_U8)
    return SD_SH_ERR(n, UNSUPPORTED, "weights of type %s", sd_dtype_name(n->in[B]->dtype));
  SD_TRY(check_count(n, B, count));
  SD_TRY(check_count(n, SCALES, p->N * p->blocks));
  SD_TRY(check_count(n, GROUP, p->K));
  SD_TRY(check_count(n, BIAS, p->N));
  if (!sd_sh_in(n, ZEROS)) return NULL;
  if (n->in[ZEROS]->dtype != SD_U8 && !sd_dtype_is_float(n->in[ZEROS]->dtype))
    return SD_SH_ERR(n, UNSUPPORTED, "zero points of type %s", sd_dtype_name(n->in[ZEROS]->dtype));
  return check_count(n, ZEROS, p->N * zeros_of_row(n, p));
}

sard_status *sd_shape_matmul_bytes(sd_node *n) {
  nbits p;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, A, 1, SD_MAX_RANK));
  for (uint32_t i = B; i < n->n_in; i++)
    if (sd_sh_in(n, i)) SD_TRY(sd_sh_rank(n, i, 0, SD_MAX_RANK));
  SD_TRY(nbits_read(n, &p));
  const sd_value *a = n->in[A];
  SD_TRY(
      sd_sh_same(n, a->dims[a->rank - 1], sd_dim_const(sd_sh_tab(n), p.K), "the last dim of A and K", NULL));
  memcpy(dims, a->dims, sizeof dims);
  dims[a->rank - 1] = sd_dim_const(sd_sh_tab(n), p.N);
  return sd_sh_set(n, 0, a->dtype, a->rank, dims);
}

static sd_expr *times(sd_tb *b, sd_expr *x, int64_t v) { return x_mul(b, x, x_int(b, v)); }

// `bits` bits at position `at` (in units of `bits`) of a packed operand, as f32.
static sd_expr *unpacked(sd_tb *b, const sd_node *n, uint32_t operand, const nbits *p, sd_expr *row_byte,
                         sd_expr *at) {
  int64_t per = 8 / p->bits;
  sd_expr *byte =
      sd_tb_load_linear(b, n, operand, x_add(b, row_byte, x_bin(b, SD_X_FLOORDIV, at, x_int(b, per))));
  sd_expr *q = x_cast(b, SD_I32, byte);
  if (per > 1 && q) {
    sd_expr *shift = x_cast(b, SD_I32, times(b, x_bin(b, SD_X_MOD, at, x_int(b, per)), p->bits));
    q = x_bin(b, SD_X_AND, x_bin(b, SD_X_SHR, q, shift), sd_x_i(b->k, SD_I32, (1 << p->bits) - 1));
  }
  return q;
}

static sd_expr *zero_point(sd_tb *b, const sd_node *n, const nbits *p, sd_expr *row, sd_expr *block) {
  if (!sd_tb_has(n, ZEROS)) return sd_x_i(b->k, SD_I32, (int64_t)1 << (p->bits - 1));
  sd_expr *start = times(b, row, zeros_of_row(n, p));
  if (n->in[ZEROS]->dtype == SD_U8) return unpacked(b, n, ZEROS, p, start, block);
  return sd_tb_load_linear(b, n, ZEROS, x_add(b, start, block));
}

static sd_expr *weight(sd_tb *b, const sd_node *n, const nbits *p, sd_expr *row, sd_expr *k) {
  sd_expr *block = x_bin(b, SD_X_FLOORDIV, k, x_int(b, p->block)), *group = block;
  sd_expr *q =
      unpacked(b, n, B, p, times(b, row, p->blocks * p->bytes), k); // the blocks of a row are contiguous
  if (sd_tb_has(n, GROUP)) {
    group = x_cast(b, SD_I64, sd_tb_load_linear(b, n, GROUP, k));
    if (group) group = sd_x_index(b->k, group, sd_dim_const(b->dims, p->blocks));
  }
  sd_expr *z = zero_point(b, n, p, row, group);
  sd_expr *s = sd_tb_load_linear(b, n, SCALES, x_add(b, times(b, row, p->blocks), group));
  if (!q || !z || !s) return NULL;
  if (z->dtype == SD_I32) q = x_sub(b, q, z);
  q = x_cast(b, s->dtype, q);
  if (z->dtype != SD_I32) q = x_sub(b, q, x_cast(b, s->dtype, z));
  return x_mul(b, q, s);
}

sd_expr *sd_pull_matmul_bytes(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  nbits p;
  sd_expr *at[SD_MAX_RANK];
  x_axes red = {.n = 0};
  sard_status *st = nbits_read(n, &p);
  if (st) return sd_tb_fail(b, st);
  int last = n->in[A]->rank - 1;
  memcpy(at, idx, sizeof *at * (size_t)last);
  at[last] = x_raxis(b, &red, "k", sd_dim_const(b->dims, p.K));
  sd_expr *a = sd_tb_load(b, n, A, at), *w = weight(b, n, &p, idx[last], at[last]);
  if (!a || !w) return NULL;
  sd_expr *y = x_reduce(b, SD_R_SUM, &red, x_mul(b, a, x_cast(b, a->dtype, w)));
  if (!sd_tb_has(n, BIAS)) return y;
  return x_add(b, y, x_cast(b, a->dtype, sd_tb_load_linear(b, n, BIAS, idx[last])));
}

// ---- sard.MatMulBits ----
enum { BITS_ZEROS = 3, BITS_BIAS, BITS_ROWS, MOST_ROUNDED = 256 }; // elements of a block that is rounded

sard_status *sd_shape_matmul_bits(sd_node *n) {
  sd_dim dims[SD_MAX_RANK];
  sd_dimtab *t = sd_sh_tab(n);
  int64_t block = sd_node_int(n, "block_size", 0), K = 0;
  bool columns = sd_node_int(n, "columns", 0) != 0;
  SD_TRY(sd_sh_rank(n, A, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, B, 2, 2));
  SD_TRY(sd_sh_rank(n, SCALES, 2, 2));
  const sd_value *a = n->in[A], *w = n->in[B];
  sd_dim N = w->dims[!columns ? 0 : 1];
  if (block < 1 || !sd_dim_is_const(t, w->dims[columns ? 0 : 1], &K) || K < 1 || K % block)
    return SD_SH_ERR(n, MODEL, "blocks of %lld in rows of %lld", (long long)block, (long long)K);
  SD_TRY(sd_sh_same(n, a->dims[a->rank - 1], sd_dim_const(t, K), "the last dim of A and K", NULL));
  for (uint32_t i = SCALES; i <= BITS_ZEROS; i++) {
    if (!sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_rank(n, i, 2, 2));
    SD_TRY(sd_sh_same(n, n->in[i]->dims[0], sd_dim_const(t, K / block), sd_sh_operand(n, i), NULL));
    SD_TRY(sd_sh_same(n, n->in[i]->dims[1], N, sd_sh_operand(n, i), NULL));
  }
  if (sd_sh_in(n, BITS_BIAS))
    SD_TRY(sd_sh_same(n, sd_value_count(n->in[BITS_BIAS]), N, "bias", NULL));
  bool rounded = a->dtype == SD_I8;
  if (rounded != (sd_sh_in(n, BITS_ROWS) != NULL) || (!rounded && !sd_dtype_is_float(a->dtype)))
    return SD_SH_ERR(n, MODEL, "A is %s, rows are %s", sd_dtype_name(a->dtype), sd_sh_in(n, BITS_ROWS) ? "given" : "not given");
  memcpy(dims, a->dims, sizeof dims);
  dims[a->rank - 1] = sd_dim_const(t, K / block);
  if (rounded) {
    SD_TRY(sd_sh_rank(n, BITS_ROWS, a->rank, a->rank));
    for (int i = 0; i < a->rank; i++) SD_TRY(sd_sh_same(n, n->in[BITS_ROWS]->dims[i], dims[i], "rows", NULL));
  }
  memcpy(dims, a->dims, sizeof dims);
  dims[a->rank - 1] = N;
  return sd_sh_set(n, 0, rounded ? n->in[BITS_ROWS]->dtype : a->dtype, a->rank, dims);
}

// A load of an operand as number of type t.
static sd_expr *as(sd_tb *b, const sd_node *n, uint32_t operand, sd_dtype t, sd_expr *i, sd_expr *j) {
  return x_cast(b, t, i && j ? sd_tb_load(b, n, operand, (sd_expr *[]){i, j}) : NULL);
}

// (q - zero) * scale as q * scale - zero * scale: the second product stands still inside of a block.
sd_expr *sd_pull_matmul_bits(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  int last = n->in[A]->rank - 1;
  int64_t block = sd_node_int(n, "block_size", 0);
  sd_dim size = sd_dim_const(b->dims, block);
  bool columns = sd_node_int(n, "columns", 0) != 0;
  sd_dtype t = sd_compute_type(n->out[out]->dtype);
  sd_expr *at[SD_MAX_RANK], *row = idx[last];
  x_axes red = {.n = 0};
  sd_expr *kb = x_raxis(b, &red, "block", sd_dim_floordiv(b->dims, n->in[B]->dims[columns ? 0 : 1], size));
  sd_expr *k = x_add(b, times(b, kb, block), x_raxis(b, &red, "k", size));
  memcpy(at, idx, sizeof *at * (size_t)last);
  at[last] = k;
  sd_expr *s = as(b, n, SCALES, t, kb, row), *z = x_num(b, s, (double)sd_node_int(n, "zero", 0));
  sd_expr *q = columns ? as(b, n, B, t, k, row) : as(b, n, B, t, row, k);
  if (sd_tb_has(n, BITS_ZEROS)) z = as(b, n, BITS_ZEROS, t, kb, row);
  z = x_un(b, SD_X_NEG, x_mul(b, z, s));
  sd_expr *a = sd_tb_load(b, n, A, at);
  at[last] = kb;
  if (sd_tb_has(n, BITS_ROWS)) a = x_mul(b, x_cast(b, t, a), sd_tb_load(b, n, BITS_ROWS, at));
  if (!a || !q || !s || !z) return NULL;
  sd_expr *y = x_reduce(b, SD_R_SUM, &red, x_mul(b, a, sd_x_fma(b->k, q, s, z)));
  if (!sd_tb_has(n, BITS_BIAS)) return y;
  return x_add(b, y, x_cast(b, t, sd_tb_load_linear(b, n, BITS_BIAS, row)));
}

// ---- the row of models ----
// An operand [N, columns] turned, of which the first `count` columns count.
static sd_value *turned(xg *g, sd_value *v, int64_t N, int64_t columns, int64_t count) {
  sd_dimtab *t = sd_sh_tab(g->at);
  sd_dim dims[2] = {sd_dim_const(t, N), sd_dim_const(t, columns)};
  v = sd_xg_reshape(g, v, dims, 2);
  return XG(g, "Transpose perm=1,0", columns == count ? v : sd_xg_slice(g, v, 1, 0, count));
}

// Bytes of a constant as elements of the bits.
static sd_value *as_bits(xg *g, const sd_value *v, const nbits *p, int64_t rows, int64_t columns) {
  sd_dtype t = p->bits == 8 ? SD_U8 : p->bits == 4 ? SD_U4 : SD_U2;
  sd_value *x = sd_value_const(g->at->graph, v->name, t, 2, (int64_t[]){rows, columns}, v->data->data);
  if (!x) sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "K and N overflow"));
  return x;
}

static sd_value *zeros_turned(xg *g, const nbits *p, sd_value *z) {
  if (!z || z->dtype != SD_U8) return z ? turned(g, z, p->N, p->blocks, p->blocks) : NULL;
  sd_dimtab *t = sd_sh_tab(g->at);
  int64_t bytes = zeros_of_row(g->at, p), count = bytes * 8 / p->bits;
  sd_dim dims[2] = {sd_dim_const(t, p->N), sd_dim_const(t, bytes)};
  if (z->data) return turned(g, as_bits(g, z, p, p->N, count), p->N, count, p->blocks);
  z = XG(g, sd_xg_fmt(g, "sard.UnpackBits bits=%lld", (long long)p->bits), sd_xg_reshape(g, z, dims, 2));
  return sd_xg_cast(g, SD_U8, turned(g, z, p->N, count, p->blocks));
}

// An omitted projection: no weights, only the bias.
static sd_value *omitted(xg *g, int64_t N) {
  const sd_value *a = g->at->in[A];
  sd_dim dims[SD_MAX_RANK];
  sd_value *bias = sd_xg_in(g, BIAS);
  memcpy(dims, a->dims, sizeof dims);
  dims[a->rank - 1] = sd_dim_const(sd_sh_tab(g->at), N);
  return sd_xg_expand(g, bias ? sd_xg_cast(g, a->dtype, bias) : sd_xg_num(g, a->dtype, 0), dims, a->rank);
}

// ---- columns in groups of their own (g_idx) ----
// Columns in the order of their groups, which then are blocks; NULL where these are not known or no blocks.
static int64_t *columns_by_group(xg *g, const nbits *p, const sd_value *group) {
  if (!group->data || p->K % p->block || p->K > INT32_MAX) return NULL;
  int64_t *order = SD_NEW_ARRAY(g->at->graph->module->arena, int64_t, p->K), *end = SD_NEW_ARRAY(g->at->graph->module->arena, int64_t, p->blocks);
  for (int64_t k = 0; k < p->K; k++) {
    int64_t b = sd_dtype_get_i64(group->dtype, group->data->data, (uint64_t)k);
    if (b < 0 || b >= p->blocks || end[b] == p->block) return NULL;
    order[b * p->block + end[b]++] = k;
  }
  return order;
}

static bool in_order(const int64_t *order, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (order[i] != i) return false;
  return true;
}

static uint8_t code_at(const uint8_t *v, int64_t i, int64_t bits) { return (uint8_t)(v[i * bits / 8] >> i * bits % 8 & ((1 << bits) - 1)); }

// Weights with their columns in that order.
static sd_value *reordered(xg *g, const nbits *p, const sd_value *w, const int64_t *order) {
  const uint8_t *from = w->data->data;
  uint8_t *to = SD_NEW_ARRAY(g->at->graph->module->arena, uint8_t, p->N * p->blocks * p->bytes);
  for (int64_t i = 0; i < p->N; i++)
    for (int64_t k = 0; k < p->K; k++) {
      int64_t at = i * p->K + k;
      to[at * p->bits / 8] |= (uint8_t)(code_at(from, i * p->K + order[k], p->bits) << at * p->bits % 8);
    }
  return sd_value_const(g->at->graph, w->name, SD_U8, 3, (int64_t[]){p->N, p->blocks, p->bytes}, to);
}

static bool empty(const sd_node *n, const sd_value *v) {
  for (int i = 0; i < v->rank; i++)
    if (sd_dim_is(sd_sh_tab(n), v->dims[i], 0)) return true;
  return false;
}

sard_status *sd_rewrite_ms_nbits(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  nbits p;
  sd_value *y;
  SD_TRY(sd_sh_rank(n, A, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, B, 0, SD_MAX_RANK));
  int64_t K = sd_node_int(n, "K", 0), N = sd_node_int(n, "N", 0);
  if (empty(n, n->in[B]) && N > 0) {
    y = omitted(&g, N);
    return sd_xg_finish(&g, &y, 1);
  }
  SD_TRY(nbits_read(n, &p));
  sd_value *group = sd_xg_in(&g, GROUP), *a = n->in[A], *w = n->in[B];
  int64_t *order = group && w->data ? columns_by_group(&g, &p, group) : NULL;
  if (order && !in_order(order, K)) {
    a = XG(&g, sd_xg_fmt(&g, "Gather axis=%d", a->rank - 1), a, sd_xg_ints(&g, order, (int)K));
    w = reordered(&g, &p, w, order);
  }
  if (!w || !a) return sd_xg_finish(&g, &a, 1);
  if (!w->data || (group && !order) || K % p.block) {
    sd_value *in[6] = {n->in[A],          n->in[B], n->in[SCALES], sd_xg_in(&g, ZEROS), sd_xg_in(&g, GROUP),
                       sd_xg_in(&g, BIAS)};
    y = sd_xg_op(&g,
                 sd_xg_fmt(&g, "sard.MatMulBytes K=%lld N=%lld bits=%lld block_size=%lld", (long long)K,
                           (long long)N, (long long)p.bits, (long long)p.block),
                 in, 6);
    return sd_xg_finish(&g, &y, 1);
  }
  bool rounds = sd_node_int(n, "accuracy_level", 0) == 4 && a->dtype == SD_F32 && p.block >= 16 && p.block <= MOST_ROUNDED;
  const char *spec = sd_xg_fmt(&g, "sard.MatMulBits block_size=%lld rounds=%d zero=%d", (long long)p.block, rounds, 1 << (p.bits - 1));
  y = XG(&g, spec, a, as_bits(&g, w, &p, p.N, p.K),
         turned(&g, n->in[SCALES], p.N, p.blocks, p.blocks), zeros_turned(&g, &p, sd_xg_in(&g, ZEROS)),
         sd_xg_in(&g, BIAS));
  return sd_xg_finish(&g, &y, 1);
}
