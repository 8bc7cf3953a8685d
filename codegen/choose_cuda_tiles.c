// Contractions on GPUs: which axes make rows and columns of the product, sizes of the tiles, how slices are filled.
#include "codegen/choose_cuda_nest.h"

#define LEAST_SIDE 8 // results along m and n from which on tiles pay

typedef struct factors {
  bool x, y;
} factors;
static factors moves_with(const sd_expr *product, const sd_axis *a) {
  return (factors){sd_x_uses_axis(product->a[0], a), sd_x_uses_axis(product->a[1], a)};
}

static bool is_product(const sd_cuda_choice *c, const sd_expr *r) {
  const sd_expr *b = r->a[0];
  if (r->rop != SD_R_SUM || b->op != SD_X_MUL) return false;
  for (uint32_t i = 0; i < c->reductions.len; i++)
    if (c->reductions.at[i].parent == r) return false; // the factors are computed for each element of a slice
  for (uint32_t i = 0; i < r->n_axes; i++) {
    factors f = moves_with(b, r->axes[i]);
    if (!f.x || !f.y || r->axes[i]->limit) return false;
  }
  return true;
}

// Are the elements of a factor neighbours along the last reduction axis, or along axis `a`?
static bool along(const sd_cuda_choice *c, const sd_expr *r, const sd_expr *factor, const sd_axis *a,
                  bool otherwise) {
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    if (c->loads.at[i].reduce != r || !sd_x_uses_axis(l, r->axes[r->n_axes - 1])) continue;
    bool mine = factor == l;
    for (uint32_t j = 0; j < factor->n && !mine; j++) mine = factor->a[j] == l;
    if (!mine) continue;
    bool in_k = sd_access_stride(c->k, l->a[0], r->axes[r->n_axes - 1]) == SD_STRIDE_ONE;
    bool in_a = sd_access_stride(c->k, l->a[0], a) == SD_STRIDE_ONE;
    if (in_k && in_a)
      // windows: runs along the image are longer
      return sd_cuda_extent(c, r->axes[r->n_axes - 1]) >= sd_cuda_extent(c, a);
    if (in_k || in_a) return in_k;
  }
  return otherwise;
}

static void tile_sizes(sd_cuda_nest *o, double m, double n) {
  o->bm = m > 32 ? 64 : m > 16 ? 32 : 16;
  o->bn = n > 32 ? 64 : n > 16 ? 32 : 16;
  o->tm = o->bm / 16, o->tn = o->bn / 16; // 16 x 16 threads
  o->bk = 16;
}

// The only reduction of the nest, NULL when it has several.
static const sd_expr *only_reduction(const sd_cuda_choice *c) {
  const sd_expr *r = NULL;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    if (c->reductions.at[i].parent) continue;
    if (r) return NULL;
    r = c->reductions.at[i].expr;
  }
  return r;
}

// Sorts the axes: those of both factors or none, then those of x, then those of y.
static void sort_axes(sd_cuda_choice *c, double *m, double *n, double *batch) {
  sd_cuda_nest *o = c->out;
  uint32_t at = 0;
  *m = *n = *batch = 1;
  double *const counts[] = {batch, m, n};
  for (int group = 0; group < 3; group++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++) {
      const sd_axis *a = c->n->axes[i];
      bool x = sd_x_uses_axis(o->x, a), y = sd_x_uses_axis(o->y, a);
      if ((x == y ? 0 : x ? 1 : 2) != group) continue;
      o->axes[at++] = a;
      *counts[group] *= sd_cuda_extent(c, a);
    }
    if (group == 0) o->n_rows = at;
    if (group == 1) o->n_m = at - o->n_rows;
  }
}

bool sd_choose_cuda_tiles(sd_cuda_choice *c) {
  const sd_expr *r = only_reduction(c);
  if (!c->alone || !r || !is_product(c, r) || sd_cuda_reduces_own(c)) return false;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i]->limit) return false;
  sd_cuda_nest *o = c->out;
  const sd_expr *offset = c->n->stores.at[0].offset;
  int at = sd_access_store_axis(c->k, c->n);
  bool turned = at >= 0 && !moves_with(r->a[0], c->n->axes[at]).y;
  o->x = r->a[0]->a[turned], o->y = r->a[0]->a[!turned];
  double m, n, batch;
  sort_axes(c, &m, &n, &batch);
  uint32_t all = c->n->n_axes, n_n = all - o->n_rows - o->n_m;
  if (m < LEAST_SIDE || n < LEAST_SIDE || o->n_m == 0 || n_n == 0) return false;
  o->form = SD_CUDA_TILES, o->sum = r;
  if (o->x->op == SD_X_LOAD) sd_cuda_contiguous_last(c, o->axes + o->n_rows, o->n_m, o->x->a[0]);
  sd_cuda_contiguous_last(c, o->axes + o->n_rows + o->n_m, n_n, offset);
  tile_sizes(o, m, n);
  o->x_along_k = along(c, r, o->x, o->axes[o->n_rows + o->n_m - 1], true);
  o->y_along_k = along(c, r, o->y, o->axes[all - 1], false);
  o->product = sd_choose_cuda_product(c, m, n, batch);
  return true;
}
