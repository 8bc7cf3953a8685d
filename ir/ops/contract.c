// Matrix products: MatMul, Gemm, Einsum and their fused forms, as sums over reduction axes.
#include <string.h>

#include <math.h>

#include "ir/ops.h"
#include "ir/ops/product8.h"
#include "ir/ops/xbuild.h"

// ---- MatMul, FusedMatMul ----
// How an operand of a matrix product is read: which of its dims are the row and the column of the matrix.
typedef struct matrix {
  const sd_value *v;
  int rank;
  bool vec;            // 1-D operand: no row (a) or no column (b)
  int row, col, batch; // dims of row and column (-1: none), number of batch dims
  int batch_at[SD_MAX_RANK];
} matrix;

static void matrix_of(const sd_node *n, uint32_t operand, const char *trans, const char *trans_batch,
                      matrix *m) {
  *m = (matrix){.v = n->in[operand], .rank = n->in[operand]->rank, .row = -1, .col = -1};
  m->vec = m->rank == 1;
  if (m->vec) {
    *(operand ? &m->row : &m->col) = 0;
    return;
  }
  int last = m->rank - 1, first = 0;
  m->batch = m->rank - 2;
  m->row = m->rank - 2, m->col = last;
  if (sd_node_attr(n, trans_batch) && sd_node_int(n, trans_batch, 0) && m->rank > 2) {
    m->row = 0, first = 1; // [row, batch..., col]
  }
  for (int i = 0; i < m->batch; i++) m->batch_at[i] = first + i;
  if (sd_node_attr(n, trans) && sd_node_int(n, trans, 0)) {
    int r = m->row;
    m->row = m->col, m->col = r;
  }
}

static void matrices_of(const sd_node *n, matrix *a, matrix *b) {
  matrix_of(n, 0, "transA", "transBatchA", a);
  matrix_of(n, 1, "transB", "transBatchB", b);
}

sard_status *sd_shape_matmul(sd_node *n) {
  sd_dim dims[SD_MAX_RANK], bd[SD_MAX_RANK];
  matrix a, b;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_rank(n, 1, 1, SD_MAX_RANK));
  matrices_of(n, &a, &b);
  SD_TRY(sd_sh_same(n, a.v->dims[a.col], b.v->dims[b.row], "the summed dims of the matrices", NULL));
  int rank = a.batch;
  for (int i = 0; i < a.batch; i++) dims[i] = a.v->dims[a.batch_at[i]];
  for (int i = 0; i < b.batch; i++) bd[i] = b.v->dims[b.batch_at[i]];
  SD_TRY(sd_sh_bcast(n, dims, &rank, bd, b.batch));
  if (!a.vec) dims[rank++] = a.v->dims[a.row];
  if (!b.vec) dims[rank++] = b.v->dims[b.col];
  return sd_sh_set(n, 0, n->in[0]->dtype, rank, dims);
}

sard_status *sd_shape_matmul8(sd_node *n) {
  SD_TRY(sd_shape_matmul(n));
  return sd_shape_product8(n);
}

// Index of operand `m` for the output's batch indices, its row and its column.
static void matrix_index(sd_tb *b, const sd_node *n, const matrix *m, sd_expr *const *batch, int n_batch,
                         sd_expr *row, sd_expr *col, sd_expr **out) {
  const sd_value *y = n->out[0];
  for (int i = 0; i < m->batch; i++) {
    int at = n_batch - m->batch + i;
    out[m->batch_at[i]] = sd_sh_bcast_index(b->k, batch[at], m->v->dims[m->batch_at[i]], y->dims[at]);
  }
  if (m->row >= 0) out[m->row] = row;
  if (m->col >= 0) out[m->col] = col;
}

static sd_expr *product(sd_tb *b, const sd_node *n, sd_expr *const *idx) {
  matrix ma, mb;
  matrices_of(n, &ma, &mb);
  int n_batch = ma.batch > mb.batch ? ma.batch : mb.batch;
  sd_expr *ia[SD_MAX_RANK] = {0}, *ib[SD_MAX_RANK] = {0};
  x_axes red = {.n = 0};
  sd_expr *k = x_raxis(b, &red, "k", ma.v->dims[ma.col]);
  sd_expr *row = ma.vec ? NULL : idx[n_batch], *col = mb.vec ? NULL : idx[n_batch + (ma.vec ? 0 : 1)];
  matrix_index(b, n, &ma, idx, n_batch, row, k, ia);
  matrix_index(b, n, &mb, idx, n_batch, k, col, ib);
  sd_dtype t = sd_compute_type(n->out[0]->dtype);
  sd_expr *x = x_cast(b, t, sd_tb_load(b, n, 0, ia)), *y = x_cast(b, t, sd_tb_load(b, n, 1, ib));
  return x_reduce(b, SD_R_SUM, &red, x_mul(b, x, y));
}

sd_expr *sd_pull_matmul(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  return x_muln(b, product(b, n, idx), sd_node_attr(n, "alpha") ? sd_node_float(n, "alpha", 1) : 1);
}

// ---- Gemm ----
sard_status *sd_shape_gemm(sd_node *n) {
  matrix a, b;
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  SD_TRY(sd_sh_rank(n, 1, 2, 2));
  matrices_of(n, &a, &b);
  SD_TRY(sd_sh_same(n, a.v->dims[a.col], b.v->dims[b.row], "the summed dims of a and b", NULL));
  sd_dim dims[SD_MAX_RANK] = {a.v->dims[a.row], b.v->dims[b.col]};
  if (sd_sh_in(n, 2)) {
    sd_dim c[SD_MAX_RANK] = {dims[0], dims[1]};
    int rank = 2;
    SD_TRY(sd_sh_rank(n, 2, 0, 2));
    SD_TRY(sd_sh_bcast(n, c, &rank, n->in[2]->dims, n->in[2]->rank));
    if (sd_dim_eq(sd_sh_tab(n), c[0], dims[0]) == 0 || sd_dim_eq(sd_sh_tab(n), c[1], dims[1]) == 0)
      return SD_SH_ERR(n, MODEL, "operand 'c' is larger than the product it is added to");
  }
  return sd_sh_set(n, 0, n->in[0]->dtype, 2, dims);
}

sd_expr *sd_pull_gemm(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  double alpha = sd_node_float(n, "alpha", 1), beta = sd_node_float(n, "beta", 1);
  sd_dtype t = sd_compute_type(n->out[out]->dtype), ft = t;
  if (sd_dtype_is_int(t) && (alpha != floor(alpha) || beta != floor(beta))) ft = SD_F64; // the sum is cut, not its factors
  sd_expr *y = x_muln(b, x_cast(b, ft, product(b, n, idx)), alpha);
  if (sd_tb_has(n, 2) && beta != 0)
    y = x_add(b, y, x_muln(b, x_cast(b, ft, x_load_over(b, n, 2, idx, 2, n->out[0]->dims)), beta));
  return x_cast(b, t, y);
}

// ---- Einsum ----
// Labels 0..51 are letters, 52 + i is dim i of the broadcast ellipsis (counted from its front).
typedef struct einsum {
  uint32_t n; // operands
  struct {
    uint8_t label[SD_MAX_RANK];
    int rank;
  } term[SD_MAX_RANK], out;
  sd_dim dim[52 + SD_MAX_RANK]; // of each label
  int ellipsis;                 // its rank
} einsum;

static int letter_of(char c) {
  return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : -1;
}

// Reads one term up to ',', '-' or the end; ell: number of dims of the ellipsis of this term (-1: from the
// rank).
static sard_status *einsum_term(const sd_node *n, einsum *e, const char **p, int rank, uint8_t *label,
                                int *out_rank) {
  int at = 0, letters = 0, dots = 0;
  for (const char *q = *p; *q && *q != ',' && *q != '-'; q++) {
    if (letter_of(*q) >= 0) letters++;
    else if (*q == '.')
      dots++;
    else if (*q != ' ')
      return SD_SH_ERR(n, MODEL, "the equation has the character '%c'", *q);
  }
  int ell = dots ? (rank < 0 ? e->ellipsis : rank - letters) : 0;
  if ((dots && dots != 3) || ell < 0 || letters + ell > SD_MAX_RANK || (rank >= 0 && letters + ell != rank))
    return SD_SH_ERR(n, MODEL, "a term of equation '%s' does not fit an operand of rank %d",
                     sd_node_str(n, "equation", ""), rank);
  if (rank >= 0 && ell > e->ellipsis) e->ellipsis = ell;
  for (; **p && **p != ',' && **p != '-'; ++*p) {
    if (letter_of(**p) >= 0) label[at++] = (uint8_t)letter_of(**p);
    else if (**p == '.') {
      if (strncmp(*p, "...", 3)) return SD_SH_ERR(n, MODEL, "a broken ellipsis in the equation");
      for (int i = 0; i < ell; i++)
        label[at++] = (uint8_t)(52 + SD_MAX_RANK - ell + i); // aligned to the right
      *p += 2;
    }
  }
  *out_rank = at;
  return NULL;
}

// Output of the implicit form: the ellipsis, then the letters that occur once, sorted.
static void einsum_implicit(einsum *e) {
  int count[52] = {0};
  for (uint32_t i = 0; i < e->n; i++)
    for (int d = 0; d < e->term[i].rank; d++)
      if (e->term[i].label[d] < 52) count[e->term[i].label[d]]++;
  for (int i = 0; i < e->ellipsis; i++)
    e->out.label[e->out.rank++] = (uint8_t)(52 + SD_MAX_RANK - e->ellipsis + i);
  for (int c = 0; c < 52 && e->out.rank < SD_MAX_RANK; c++)
    if (count[c] == 1) e->out.label[e->out.rank++] = (uint8_t)c;
}

static sard_status *einsum_parse(const sd_node *n, einsum *e) {
  const char *p = sd_node_str(n, "equation", "");
  memset(e, 0, sizeof *e);
  e->n = n->n_in;
  if (n->n_in > SD_MAX_RANK)
    return SD_SH_ERR(n, UNSUPPORTED, "Einsum of %u operands; at most %d", n->n_in, SD_MAX_RANK);
  for (uint32_t i = 0; i < n->n_in; i++) {
    SD_TRY(sd_sh_rank(n, i, 0, SD_MAX_RANK));
    SD_TRY(einsum_term(n, e, &p, n->in[i]->rank, e->term[i].label, &e->term[i].rank));
    if (*p == ',') p++;
    else if (i + 1 < n->n_in)
      return SD_SH_ERR(n, MODEL, "the equation has %u terms for %u operands", i + 1, n->n_in);
    for (int d = 0; d < e->term[i].rank; d++) {
      sd_dim *dim = &e->dim[e->term[i].label[d]];
      if (*dim == SD_DIM_NONE) *dim = n->in[i]->dims[d];
      else
        SD_TRY(sd_sh_bcast_dim(n, *dim, n->in[i]->dims[d], dim));
    }
  }
  if (*p == '-') {
    if (p[1] != '>') return SD_SH_ERR(n, MODEL, "expected '->' in the equation");
    p += 2;
    SD_TRY(einsum_term(n, e, &p, -1, e->out.label, &e->out.rank));
  } else {
    einsum_implicit(e);
  }
  if (*p) return SD_SH_ERR(n, MODEL, "the equation goes on after its end: '%s'", p);
  for (int i = 0; i < e->out.rank; i++)
    if (e->dim[e->out.label[i]] == SD_DIM_NONE)
      return SD_SH_ERR(n, MODEL, "output label %d of the equation is in no operand", i);
  return NULL;
}

sard_status *sd_shape_einsum(sd_node *n) {
  einsum e;
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(einsum_parse(n, &e));
  for (int i = 0; i < e.out.rank; i++) dims[i] = e.dim[e.out.label[i]];
  return sd_sh_set(n, 0, n->in[0]->dtype, e.out.rank, dims);
}

sd_expr *sd_pull_einsum(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  einsum e;
  sd_expr *at[52 + SD_MAX_RANK] = {0}, *product = NULL;
  x_axes red = {.n = 0};
  sard_status *st = einsum_parse(n, &e);
  if (st) return sd_tb_fail(b, st);
  for (int i = 0; i < e.out.rank; i++) at[e.out.label[i]] = idx[i];
  for (int l = 0; l < 52 + SD_MAX_RANK; l++)
    if (e.dim[l] != SD_DIM_NONE && !at[l] && !(at[l] = x_raxis(b, &red, "k", e.dim[l]))) return NULL;
  for (uint32_t i = 0; i < e.n; i++) {
    sd_expr *ix[SD_MAX_RANK];
    for (int d = 0; d < e.term[i].rank; d++) {
      uint8_t l = e.term[i].label[d];
      ix[d] = sd_sh_bcast_index(b->k, at[l], n->in[i]->dims[d], e.dim[l]);
    }
    sd_expr *x = sd_tb_load(b, n, i, ix);
    if (!x) return NULL;
    product = product ? x_mul(b, product, x) : x;
  }
  return x_reduce(b, SD_R_SUM, &red, product);
}
