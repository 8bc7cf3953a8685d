// Lanes: neighbouring iterations of an axis side by side in a thread, whose loads and stores are vectors.
#include "codegen/choose_cuda_nest.h"
#include "runtime/base/alloc.h"

void sd_cuda_test(sd_cuda_nest *n, sd_dim d, int count) {
  if (count > n->modulus) n->modulus = count;
  for (uint32_t i = 0; i < n->n_tests && i < SD_CUDA_TESTS; i++)
    if (n->tests[i] == d) return;
  if (n->n_tests < SD_CUDA_TESTS) n->tests[n->n_tests] = d;
  n->n_tests++;
}

// Is d a multiple of count, now or by a test?
static bool multiple(sd_kernel *k, sd_dim d, int count, sd_cuda_nest *n) {
  if (d == SD_DIM_NONE || sd_dim_multiple_of(k->dims, d, count)) return d != SD_DIM_NONE;
  if (sd_dim_is_const(k->dims, d, NULL)) return false;
  if (n) sd_cuda_test(n, d, count);
  return true;
}

// lane, or lane / per
static int per_of(const sd_expr *e, const sd_axis *lane) {
  int64_t per;
  if (e->op == SD_X_AXIS && e->axis == lane) return 1;
  if (e->op != SD_X_FLOORDIV || e->a[0]->op != SD_X_AXIS || e->a[0]->axis != lane) return 0;
  return sd_x_const_value(e->a[1], NULL, &per) && per > 0 && per <= 64 ? (int)per : 0;
}

static bool whole_bytes(const sd_buf *b, int count) {
  int bits = sd_dtype_bits(b->dtype);
  return (bits & (bits - 1)) == 0 && count * bits % 8 == 0;
}

sd_cuda_vector sd_cuda_vector_of(sd_kernel *k, const sd_buf *b, const sd_expr *offset, const sd_axis *lane,
                                 sd_cuda_nest *n) {
  static const sd_cuda_vector none = {0, 0};
  int64_t lanes = 0;
  sd_dim_is_const(k->dims, lane->extent, &lanes);
  if (offset->op != SD_X_AFFINE) {
    int per = per_of(offset, lane);
    return per && lanes % per == 0 && whole_bytes(b, (int)lanes / per)
               ? (sd_cuda_vector){(int)lanes / per, per}
               : none;
  }
  int per = 0;
  for (uint32_t i = 0; i < offset->n; i++) {
    if (!sd_x_uses_axis(offset->a[i], lane)) continue;
    if (per || !sd_dim_is(k->dims, offset->coef[i], 1) || !(per = per_of(offset->a[i], lane))) return none;
  }
  if (!per || lanes % per) return none;
  int count = (int)lanes / per;
  if (!whole_bytes(b, count)) return none;
  for (uint32_t i = 0; i < offset->n; i++)
    if (!sd_x_uses_axis(offset->a[i], lane) && !multiple(k, offset->coef[i], count, n)) return none;
  if (offset->dim != SD_DIM_NONE && !multiple(k, offset->dim, count, n)) return none;
  return (sd_cuda_vector){count, per};
}

sd_cuda_split sd_cuda_split_axis(sd_kernel *k, const sd_axis *a, int vec) {
  sd_dim v = sd_dim_const(k->dims, vec);
  sd_cuda_split s;
  s.outer = sd_kernel_axis(k, a->name, sd_dim_floordiv(k->dims, a->extent, v));
  s.lane = sd_kernel_axis(k, a->name, v);
  s.by = sd_x_bin(k, SD_X_ADD, sd_x_mul_dim(k, sd_x_axis(k, s.outer), v), sd_x_axis(k, s.lane));
  return s;
}

sd_nest *sd_cuda_copy_nest(sd_cuda_choice *c) {
  sd_nest *copy = SD_NEW(c->a, sd_nest);
  *copy = *c->n;
  copy->stores.at = sd_arena_dup(c->a, c->n->stores.at, c->n->stores.len * sizeof *c->n->stores.at);
  c->out->plain = c->n, c->out->nest = copy;
  return copy;
}

void sd_cuda_subst_stores(sd_kernel *k, sd_nest *n, const sd_axis *a, sd_expr *by) {
  for (uint32_t i = 0; i < n->stores.len; i++) {
    sd_store *t = &n->stores.at[i];
    t->offset = sd_x_subst(k, t->offset, a, by);
    t->value = sd_x_subst(k, t->value, a, by);
    if (t->guard) t->guard = sd_x_subst(k, t->guard, a, by);
  }
}

sd_expr *sd_cuda_make_lanes(sd_cuda_choice *c, uint32_t at, int vec) {
  sd_cuda_nest *o = c->out;
  const sd_axis *a = o->axes[at];
  sd_cuda_split s = sd_cuda_split_axis(c->k, a, vec);
  sd_nest *copy = sd_cuda_copy_nest(c);
  for (uint32_t i = 0; i < copy->n_axes; i++)
    if (copy->axes[i] == a) copy->axes[i] = s.outer;
  sd_cuda_subst_stores(c->k, copy, a, s.by);
  o->vec = vec, o->lane = s.lane, o->plain_axis = a;
  o->axes[at] = s.outer;
  return s.by;
}

bool sd_cuda_has_limits(const sd_cuda_choice *c) {
  for (uint32_t i = 0; i < c->n->stores.len; i++)
    if (c->n->stores.at[i].guard) return true;
  for (uint32_t i = 0; i < c->n->n_axes; i++)
    if (c->n->axes[i]->limit) return true;
  for (uint32_t i = 0; i < c->reductions.len; i++)
    for (uint32_t x = 0; x < c->reductions.at[i].expr->n_axes; x++)
      if (c->reductions.at[i].expr->axes[x]->limit) return true;
  return false;
}

bool sd_cuda_vectors(sd_cuda_choice *c, const sd_accesses *loads, const sd_axis *lane) {
  int good = 0, bad = 0;
  for (uint32_t i = 0; i < loads->len; i++) {
    const sd_expr *l = loads->at[i].load;
    if (!sd_x_uses_axis(l, lane)) continue;
    bool guarded = l->a[1] && sd_x_uses_axis(l->a[1], lane);
    bool is = !guarded && sd_cuda_vector_of(c->k, l->buf, l->a[0], lane, c->out).count;
    if (!is && loads->at[i].reduce) return false;
    *(is ? &good : &bad) += 1;
  }
  return bad <= good && c->out->n_tests <= SD_CUDA_TESTS;
}

static const sd_expr *parent_of(const sd_reductions *all, const sd_expr *r) {
  for (uint32_t i = 0; i < all->len; i++)
    if (all->at[i].expr == r) return all->at[i].parent;
  return NULL;
}

static bool moves_inside(const sd_reductions *all,
                         const sd_expr *r) { // with a step of one that it stands below
  for (const sd_expr *p = parent_of(all, r); p; p = parent_of(all, p))
    for (uint32_t x = 0; x < p->n_axes; x++)
      if (sd_x_uses_axis(r, p->axes[x])) return true;
  return false;
}

bool sd_cuda_collect_phases(sd_cuda_nest *o, const sd_reductions *all) {
  for (uint32_t i = 0; i < all->len; i++) {
    const sd_expr *r = all->at[i].expr;
    if (moves_inside(all, r)) continue;
    if (o->n_phases == SD_CUDA_PHASES) return false;
    o->phases[o->n_phases++] = (sd_cuda_phase){r, r->a[0]};
  }
  return o->n_phases > 0;
}
