// Sequential nests: the order counts among points that store to the same element only. Threads take axes along which the
// element surely differs, and each goes through the others in order; without such axes a thread owns elements, goes through all
// points, and leaves those of others out.
#include "codegen/choose_cuda_nest.h"

#include "runtime/base/alloc.h"

#define LEAST_POINTS 32 // along the axes that threads take; of a nest, for threads that own elements

typedef struct term { // of the offset
  const sd_expr *x;
  sd_dim by, extent; // values of x are below that
} term;

static sd_dim extent_of(const sd_expr *x) {
  if (x->op == SD_X_AXIS) return x->axis->extent;
  bool is = x->op == SD_X_INDEX && x->a[1]->op == SD_X_AFFINE && x->a[1]->n == 0;
  return is ? x->a[1]->dim : SD_DIM_NONE;
}

static uint32_t terms_of(const sd_cuda_choice *c, const sd_expr *offset, term *out) {
  sd_dim one = sd_dim_const(c->k->dims, 1);
  if (offset->op != SD_X_AFFINE) return out[0] = (term){offset, one, extent_of(offset)}, 1;
  for (uint32_t i = 0; i < offset->n && i < SD_MAX_AXES; i++)
    out[i] = (term){offset->a[i], offset->coef[i], extent_of(offset->a[i])};
  return offset->n;
}

// Are the terms digits of a number? Then elements differ where one term does.
static bool are_digits(const sd_cuda_choice *c, term *t, uint32_t n) {
  sd_dimtab *d = c->k->dims;
  sd_dim least = sd_dim_const(d, 1);
  for (uint32_t done = 0; done < n; done++) {
    uint32_t best = done;
    for (uint32_t i = done + 1; i < n; i++)
      if (t[best].by != least && (t[i].by == least || sd_dim_lt(d, t[i].by, t[best].by) == 1)) best = i;
    term x = t[best];
    t[best] = t[done], t[done] = x;
    if (x.extent == SD_DIM_NONE || sd_dim_lt(d, x.by, least) != 0) return false;
    least = sd_dim_mul(d, x.by, x.extent);
    if (least == SD_DIM_NONE) return false;
  }
  return true;
}

static bool is_own(const term *t, uint32_t n, const sd_axis *a) {
  for (uint32_t i = 0; i < n; i++) {
    const sd_expr *x = t[i].x->op == SD_X_INDEX ? t[i].x->a[0] : t[i].x;
    if (x->op == SD_X_AXIS && x->axis == a) return true;
  }
  return false;
}

// A point reads of the buffer that it writes at most the element that it writes.
static bool apart(sd_cuda_choice *c) {
  const sd_store *s = c->n->stores.at;
  if (c->n->stores.len != 1 || sd_dtype_bits(s->buf->dtype) < 8) return false;
  sd_access_collect(c->k, c->n, c->a, &c->loads, &c->reductions);
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    if (l->buf == s->buf && (l->a[0] != s->offset || c->loads.at[i].reduce)) return false;
  }
  return true;
}

void sd_choose_cuda_serial(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  const sd_axis *others[SD_MAX_AXES];
  term terms[SD_MAX_AXES];
  uint32_t at = 0, n_others = 0;
  double points = 1;
  o->form = SD_CUDA_SERIAL;
  if (!apart(c)) return;
  uint32_t n = terms_of(c, c->n->stores.at[0].offset, terms);
  bool digits = n <= SD_MAX_AXES && are_digits(c, terms, n);
  for (uint32_t i = 0; i < c->n->n_axes; i++) {
    const sd_axis *a = c->n->axes[i];
    bool own = digits && !a->limit && is_own(terms, n, a);
    if (own) o->axes[at++] = a, points *= sd_cuda_extent(c, a);
    else others[n_others++] = a;
  }
  for (uint32_t i = 0; i < n_others; i++) o->axes[at + i] = others[i];
  sd_cuda_contiguous_last(c, o->axes, at, c->n->stores.at[0].offset);
  if (points >= LEAST_POINTS) {
    o->n_rows = at;
  } else if (sd_cuda_points(c) >= LEAST_POINTS) {
    for (uint32_t i = 0; i < c->n->n_axes; i++) o->axes[i] = c->n->axes[i];
    o->owned = true;
  }
}
