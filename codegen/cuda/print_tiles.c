// Contractions: a block computes bm x bn results; slices of both factors stand in shared memory.
//
// A factor is whatever expression it is (converted, guarded, gathered): its elements are computed when a
// slice is filled. Hence convolutions are products without an image of patches in memory.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

typedef struct part { // one side of the product
  const sd_axis *const *axes;
  uint32_t n;
  const sd_expr *factor;
  const char *slice, *first, *count; // in shared memory; first row or column of the tile; all of them
  int size;                          // rows or columns of a slice
  bool along_k;
} part;

static sd_dim dim(sd_print *P, int64_t v) { return sd_dim_const(P->k->dims, v); }

static sd_dim parts_of(sd_print *P, const sd_axis *const *axes, uint32_t n, int size) {
  return sd_dim_ceildiv(P->k->dims, sd_print_product(P, axes, n), dim(P, size));
}

static const sd_axis *const *n_axes_of(const sd_cuda_nest *n, uint32_t *out) {
  *out = n->nest->n_axes - n->n_rows - n->n_m;
  return n->axes + n->n_rows + n->n_m;
}

sd_dim sd_print_tile_count(sd_print *P, const sd_cuda_nest *n, int bm, int bn) {
  uint32_t nn;
  const sd_axis *const *an = n_axes_of(n, &nn);
  sd_dim p = sd_dim_mul(P->k->dims, parts_of(P, n->axes + n->n_rows, n->n_m, bm), parts_of(P, an, nn, bn));
  return sd_dim_mul(P->k->dims, p, sd_print_product(P, n->axes, n->n_rows));
}

// Fills the slice of a factor from that step on; what lies outside is 0.
static void fill(sd_print *P, const sd_cuda_nest *n, const part *p, const char *type, const char *steps,
                 bool small_k, bool small) {
  const sd_expr *r = n->sum;
  const sd_axis *const *rk = (const sd_axis *const *)r->axes;
  const char *t = sd_print_index_type(small), *tk = sd_print_index_type(small_k);
  sd_print_open(P, "for (int e = threadIdx.x; e < %d; e += %d)", p->size * n->bk, P->plan->threads);
  if (p->along_k) sd_print_line(P, "const int i = e / %d, ik = e %% %d;", n->bk, n->bk);
  else
    sd_print_line(P, "const int i = e %% %d, ik = e / %d;", p->size, p->size);
  sd_print_line(P, "const %s at = %s + i;", t, p->first);
  sd_print_line(P, "const %s k = step + ik;", tk);
  sd_print_line(P, "%s x = 0;", type);
  sd_print_open(P, "if (at < (%s)%s && k < (%s)%s)", t, p->count, tk, steps);
  sd_print_bind_digits(P, p->axes, p->n, "at", small);
  sd_print_bind_digits(P, rk, r->n_axes, "k", small_k);
  sd_print_line(P, "x = %s;", sd_print_value(P, p->factor));
  sd_print_unbind(P, rk, r->n_axes);
  sd_print_unbind(P, p->axes, p->n);
  sd_print_close(P);
  sd_print_line(P, "SD_ST(%s, ik * %d + i, x);", p->slice, p->size + 1);
  sd_print_close(P);
}

static void multiply(sd_print *P, const sd_cuda_nest *n, const char *type) {
  bool f = sd_dtype_is_float(n->sum->dtype);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int ik = 0; ik < %d; ik++)", n->bk);
  sd_print_line(P, "%s x[%d], y[%d];", type, n->tm, n->tn);
  sd_print_line(P, "#pragma unroll");
  sd_print_line(P, "for (int i = 0; i < %d; i++) x[i] = SD_LD(xs, ik * %d + ty * %d + i);", n->tm, n->bm + 1,
                n->tm);
  sd_print_line(P, "#pragma unroll");
  sd_print_line(P, "for (int j = 0; j < %d; j++) y[j] = SD_LD(ys, ik * %d + tx + %d * j);", n->tn, n->bn + 1,
                n->bn / n->tn);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", n->tm);
  sd_print_line(P, "#pragma unroll");
  const char *acc = sd_print_text(P, "acc[i * %d + j]", n->tn);
  if (f)
    sd_print_line(P, "for (int j = 0; j < %d; j++) %s = %s(x[i], y[j], %s);", n->tn, acc,
                  n->sum->dtype == SD_F64 ? "fma" : "fmaf", acc);
  else
    sd_print_line(P, "for (int j = 0; j < %d; j++) %s = sd_add<%s>(%s, sd_mul<%s>(x[i], y[j]));", n->tn, acc,
                  type, acc, type);
  sd_print_close(P);
  sd_print_close(P);
}

// What follows the sum, and the stores.
static void finish(sd_print *P, const sd_cuda_nest *n, const part *x, const part *y, bool small) {
  const char *t = sd_print_index_type(small);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", n->tm);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int j = 0; j < %d; j++)", n->tn);
  sd_print_line(P, "const %s m = m0 + ty * %d + i, n = n0 + tx + %d * j;", t, n->tm, n->bn / n->tn);
  sd_print_open(P, "if (m < (%s)%s && n < (%s)%s)", t, x->count, t, y->count);
  sd_print_bind_digits(P, x->axes, x->n, "m", small);
  sd_print_bind_digits(P, y->axes, y->n, "n", small);
  sd_print_keep(P, n->sum, sd_print_text(P, "acc[i * %d + j]", n->tn));
  sd_print_stores(P);
  sd_print_unbind(P, x->axes, x->n);
  sd_print_unbind(P, y->axes, y->n);
  sd_print_close(P);
  sd_print_close(P);
  sd_print_close(P);
}

void sd_print_tiles(sd_print *P, const sd_cuda_nest *n) {
  const char *type = sd_print_ctype(n->sum->dtype);
  bool small, small_k, ignored;
  uint32_t nn;
  const sd_axis *const *am = n->axes + n->n_rows, *const *an = n_axes_of(n, &nn);
  sd_print_count(P, n->axes, n->nest->n_axes, &small);
  part x = {am, n->n_m, n->x, "xs", "m0", sd_print_count(P, am, n->n_m, &ignored), n->bm, n->x_along_k};
  part y = {an, nn, n->y, "ys", "n0", sd_print_count(P, an, nn, &ignored), n->bn, n->y_along_k};
  const char *steps = sd_print_count(P, (const sd_axis *const *)n->sum->axes, n->sum->n_axes, &small_k);
  const char *t = sd_print_index_type(small), *tk = sd_print_index_type(small_k);
  sd_print_line(P, "SD_SHARED(%s, xs, %d);", type, n->bk * (n->bm + 1));
  sd_print_line(P, "SD_SHARED(%s, ys, %d);", type, n->bk * (n->bn + 1));
  sd_print_line(P, "const int tx = threadIdx.x %% %d, ty = threadIdx.x / %d;", n->bn / n->tn, n->bn / n->tn);
  const char *across = sd_print_dim(P, parts_of(P, an, nn, n->bn)),
             *down = sd_print_dim(P, parts_of(P, am, n->n_m, n->bm));
  sd_print_open(P, "for (%s tile = blockIdx.x; tile < (%s)%s; tile += gridDim.x)", t, t,
                sd_print_dim(P, sd_print_tile_count(P, n, n->bm, n->bn)));
  sd_print_line(P, "const %s above = tile / (%s)%s, batch = above / (%s)%s;", t, t, across, t, down);
  sd_print_line(P, "const %s m0 = (above - batch * (%s)%s) * %d, n0 = (tile - above * (%s)%s) * %d;", t, t,
                down, n->bm, t, across, n->bn);
  sd_print_bind_digits(P, n->axes, n->n_rows, "batch", small);
  sd_print_line(P, "%s acc[%d] = {};", type, n->tm * n->tn);
  sd_print_open(P, "for (%s step = 0; step < (%s)%s; step += %d)", tk, tk, steps, n->bk);
  fill(P, n, &x, type, steps, small_k, small);
  fill(P, n, &y, type, steps, small_k, small);
  sd_print_line(P, "__syncthreads();");
  multiply(P, n, type);
  sd_print_line(P, "__syncthreads();");
  sd_print_close(P);
  finish(P, n, &x, &y, small);
  sd_print_unbind(P, n->axes, n->n_rows);
  sd_print_close(P);
}
