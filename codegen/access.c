// Collects the loads and reductions of a nest and classifies their strides.
#include "codegen/access.h"

#include <string.h>
#include <strings.h>

typedef struct walk {
  sd_kernel *k;
  sd_arena *a;
  sd_accesses *loads;
  sd_reductions *reductions;
  uint8_t *seen; // by expression id; an expression below two reductions is recorded once, with the first
} walk;

static void visit(walk *w, sd_expr *e, const sd_expr *reduce) {
  if (w->seen[e->id]) return;
  w->seen[e->id] = 1;
  if (e->op == SD_X_LOAD) sd_vec_push(w->a, w->loads, ((sd_access){e, reduce}));
  if (e->op == SD_X_REDUCE) {
    sd_vec_push(w->a, w->reductions, ((sd_reduction){e, reduce}));
    reduce = e;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) visit(w, e->a[i], reduce);
}

void sd_access_collect(sd_kernel *k, const sd_nest *n, sd_arena *a, sd_accesses *loads, sd_reductions *reductions) {
  walk w = {k, a, loads, reductions, SD_NEW_ARRAY(a, uint8_t, k->n_expr + 1)};
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    visit(&w, s->value, NULL);
    visit(&w, s->offset, NULL);
    if (s->guard) visit(&w, s->guard, NULL);
  }
}

sd_stride sd_access_stride(sd_kernel *k, const sd_expr *offset, const sd_axis *axis) {
  sd_dim c;
  if (!sd_x_coef(k, offset, axis, &c)) return SD_STRIDE_OPAQUE;
  if (sd_dim_is(k->dims, c, 0)) return SD_STRIDE_ZERO;
  return sd_dim_is(k->dims, c, 1) ? SD_STRIDE_ONE : SD_STRIDE_MANY;
}

bool sd_access_uses_any(const sd_expr *e, const sd_axis *const *axes, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (sd_x_uses_axis(e, axes[i])) return true;
  return false;
}

bool sd_access_starts_at(const sd_kernel *k, const sd_expr *e, const sd_axis *const *axes, uint32_t n, int at) {
  if (e->op == SD_X_AXIS) return sd_access_uses_any(e, axes, n);
  if (e->op != SD_X_AFFINE || (e->dim != SD_DIM_NONE && !sd_dim_multiple_of(k->dims, e->dim, at))) return false;
  for (uint32_t i = 0; i < e->n; i++)
    if (!sd_access_uses_any(e->a[i], axes, n) && !sd_dim_multiple_of(k->dims, e->coef[i], at)) return false;
  return true;
}

static bool guess_symbol(void *user, const char *name, int64_t *v) {
  *v = sd_dim_is_batch(name) ? sd_dim_batch_guess(user) : 64;
  return true;
}

int64_t sd_access_guess(const sd_dimtab *t, sd_dim d) {
  int64_t v;
  if (d == SD_DIM_NONE) return 1;
  return sd_dim_eval(t, d, guess_symbol, (void *)t, &v) && v > 1 ? v : 1;
}

int sd_access_store_axis(sd_kernel *k, const sd_nest *n) {
  for (int i = n->stores.len ? (int)n->n_axes - 1 : -1; i >= 0; i--)
    if (sd_access_stride(k, n->stores.at[0].offset, n->axes[i]) == SD_STRIDE_ONE) return i;
  return -1;
}

double sd_access_steps(const sd_dimtab *t, const sd_expr *r) {
  double steps = 1;
  for (uint32_t i = 0; i < r->n_axes; i++) steps *= (double)sd_access_guess(t, r->axes[i]->extent);
  return steps;
}

static bool find_load(void *user, const sd_expr *e) {
  bool *found = user;
  *found |= e->op == SD_X_LOAD;
  return !*found;
}

bool sd_access_read_limit(sd_kernel *k, const sd_axis *a) {
  bool found = false;
  if (a->limit) sd_x_walk(k, a->limit, find_load, &found);
  return found;
}

typedef struct division {
  sd_kernel *k;
  const sd_axis *axis;
  sd_xop op;
  bool moved;
  int64_t by;
} division;

static bool find_divisor(void *user, const sd_expr *e) {
  division *d = user;
  int64_t by;
  sd_dim step;
  if (e->op != d->op || !sd_x_uses_axis(e, d->axis)) return true;
  bool plain = d->moved ? sd_x_coef(d->k, e->a[0], d->axis, &step) && sd_dim_is(d->k->dims, step, 1) : e->a[0]->op == SD_X_AXIS;
  plain = plain && sd_x_const_value(e->a[1], NULL, &by) && (!d->by || d->by == by);
  d->by = plain ? by : -1;
  return true;
}

int64_t sd_access_divisor(sd_kernel *k, const sd_expr *e, sd_xop op, const sd_axis *axis, bool moved, int64_t by) {
  division d = {k, axis, op, moved, by};
  sd_x_walk(k, e, find_divisor, &d);
  return d.by;
}
