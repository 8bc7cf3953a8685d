// Schedules in words.
#include "codegen/describe.h"

#include "codegen/access.h"
#include "codegen/dot.h"

typedef struct heaviest {
  sd_kernel *k;
  sd_arena *a;
  const sd_nest *nest;
  sd_reductions reductions; // its own
  double work;
  bool looped; // it stands in a loop
} heaviest;

static double points(const sd_kernel *k, sd_axis *const *axes, uint32_t n) {
  double p = 1;
  for (uint32_t i = 0; i < n; i++) p *= (double)sd_access_guess(k->dims, axes[i]->extent);
  return p;
}

static void look(heaviest *h, const sd_items *items, double times, bool looped) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->loop) {
      look(h, it->body, times * (double)sd_access_guess(h->k->dims, it->loop->extent), true);
      continue;
    }
    sd_accesses loads = {0};
    sd_reductions reductions = {0};
    sd_access_collect(h->k, it->nest, h->a, &loads, &reductions);
    double steps = 1;
    for (uint32_t r = 0; r < reductions.len; r++) steps += sd_access_steps(h->k->dims, reductions.at[r].expr);
    double work = times * points(h->k, it->nest->axes, it->nest->n_axes) * steps;
    if (h->nest && work <= h->work) continue;
    h->nest = it->nest, h->reductions = reductions, h->work = work, h->looped = looped;
  }
}

// Reduction axes without a loop: "3x3 "; nothing where there are none.
static bool put_taps(const sd_kernel *k, const sd_expr *r, sd_str *out) {
  bool any = false;
  int64_t v;
  for (uint32_t i = 0; i < r->n_axes; i++) {
    if (r->axes[i]->unroll != 0 || !sd_dim_is_const(k->dims, r->axes[i]->extent, &v) || v < 2) continue;
    sd_strf(out, "%s%lld", any ? "x" : "taps ", (long long)v);
    any = true;
  }
  return any;
}

static bool sparse(sd_kernel *k, const sd_reductions *all) {
  for (uint32_t r = 0; r < all->len; r++)
    for (uint32_t i = 0; i < all->at[r].expr->n_axes; i++)
      if (sd_access_read_limit(k, all->at[r].expr->axes[i])) return true;
  return false;
}

static int vectors_along(const sd_reductions *all) {
  for (uint32_t r = 0; r < all->len; r++)
    for (uint32_t i = 0; i < all->at[r].expr->n_axes; i++)
      if (all->at[r].expr->axes[i]->vec > 0) return all->at[r].expr->axes[i]->vec;
  return 0;
}

static void put_blocks(const sd_kernel *k, const sd_nest *n, sd_str *out) {
  const char *sep = ", blocks ";
  for (uint32_t i = 0; i < n->n_axes; i++) {
    if (n->axes[i]->block <= 0) continue;
    sd_strf(out, "%s%lld", sep, (long long)n->axes[i]->block);
    sep = "x";
  }
  if (k->grid.len) sd_str_put(out, ", by points");
}

static void put_nest(const heaviest *h, int lanes, bool packed, sd_str *out) {
  const sd_nest *n = h->nest;
  int64_t rows = 1, wide = 0;
  bool moved = false, taps = false; // a reduction moves with the vector axis
  for (uint32_t i = 0; i < n->n_axes; i++) {
    const sd_axis *x = n->axes[i];
    if (x->unroll > 1) rows *= x->unroll;
    if (x->vec <= 0) continue;
    wide = (int64_t)x->vec * lanes;
    for (uint32_t r = 0; r < h->reductions.len; r++) moved |= sd_x_uses_axis(h->reductions.at[r].expr, x);
  }
  if (n->sequential) return sd_str_put(out, "in order");
  for (uint32_t r = 0; r < h->reductions.len && moved && !taps; r++)
    taps = put_taps(h->k, h->reductions.at[r].expr, out);
  if (moved)
    sd_strf(out, "%s%s%lldx%lld", taps ? ", " : "", sparse(h->k, &h->reductions) ? "sparse product " : taps ? "" : "product ", (long long)rows,
            (long long)wide);
  else if (vectors_along(&h->reductions))
    sd_strf(out, "rows %d", vectors_along(&h->reductions) * lanes);
  else if (h->reductions.len)
    sd_strf(out, "sums %lldx%lld", (long long)rows, (long long)(wide ? wide : 1));
  else
    sd_strf(out, "map %lld", (long long)(wide ? wide : 1) * rows);
  for (uint32_t r = 0; r < h->reductions.len; r++)
    if (sd_dot_parts(h->k, h->reductions.at[r].expr) > 1) {
      sd_str_put(out, ", f32 in 3 bf16");
      break;
    }
  if (packed) sd_str_put(out, ", packed");
  put_blocks(h->k, n, out);
}

const char *sd_describe_schedule(sd_kernel *k, const sd_isa *isa, bool packed, sd_arena *a) {
  heaviest h = {.k = k, .a = a};
  sd_str s = {0};
  look(&h, &k->items, 1, false);
  if (h.nest) put_nest(&h, sd_emit_lanes(k, isa), packed, &s);
  if (h.looped) sd_str_put(&s, ", in a loop");
  if (!s.p) return "";
  return sd_arena_keep(a, sd_str_take(&s));
}
