// MatMulNBits: a matrix product whose weights are blocks of 2, 4 or 8 bits along K, widened inside the sum.
#include "ir/ops.h"
#include "ir/ops/xbuild.h"

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

sard_status *sd_shape_ms_nbits(sd_node *n) {
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

sd_expr *sd_pull_ms_nbits(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
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
