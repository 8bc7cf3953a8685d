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

bool sd_choose_cuda_tiles(sd_cuda_choice *c) {
  const sd_expr *r = NULL;
  for (uint32_t i = 0; i < c->reductions.len; i++) {
    if (c->reductions.at[i].parent) continue;
    if (r) return false;
    r = c->reductions.at[i].expr;
  }
  if (!c->alone || !r || !is_product(c, r) || sd_choose_cuda_reduces_own(c)) return false;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i]->limit) return false;
  sd_cuda_nest *o = c->out;
  uint32_t at = 0;
  double m = 1, n = 1;
  static const factors kinds[] = {{true, true}, {false, false}, {true, false}, {false, true}};
  for (int k = 0; k < 4; k++) {
    for (uint32_t i = 0; i < c->n->n_axes; i++) {
      factors f = moves_with(r->a[0], c->n->axes[i]);
      if (f.x != kinds[k].x || f.y != kinds[k].y) continue;
      o->axes[at++] = c->n->axes[i];
      *(k == 2 ? &m : &n) *= k >= 2 ? sd_cuda_extent(c, c->n->axes[i]) : 1;
    }
    if (k == 1) o->n_rows = at;
    if (k == 2) o->n_m = at - o->n_rows;
  }
  if (m < LEAST_SIDE || n < LEAST_SIDE || o->n_m == 0 || at == o->n_rows + o->n_m) return false;
  o->form = SD_CUDA_TILES, o->sum = r;
  tile_sizes(o, m, n);
  o->x_along_k = along(c, r, r->a[0]->a[0], o->axes[o->n_rows + o->n_m - 1], true);
  o->y_along_k = along(c, r, r->a[0]->a[1], o->axes[at - 1], false);
  return true;
}
