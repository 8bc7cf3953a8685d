// Transposed convolutions gather: results whose rows and columns have the same remainders by the strides read the same taps. With
// an axis for the remainders (phases), which both factors depend on, what is left of rows and columns moves one factor only.
#include "codegen/phases.h"

#include "codegen/access.h"

// ---- the sum ----

// x moves with rows and columns, y with the axis of contiguous stores.
typedef struct product {
  const sd_expr *sum, *x, *y;
} product;

// The product below a sum, also under a condition outside of which it is 0.
static const sd_expr *multiplied(const sd_expr *body) {
  double zero;
  if (body->op == SD_X_SEL && sd_x_const_value(body->a[2], &zero, NULL) && zero == 0) body = body->a[1];
  return body->op == SD_X_MUL ? body : NULL;
}

static bool find_product(sd_kernel *k, const sd_nest *n, sd_arena *a, product *out) {
  sd_accesses loads = {0};
  sd_reductions sums = {0};
  int at = sd_access_store_axis(k, n);
  sd_access_collect(k, n, a, &loads, &sums);
  const sd_expr *r = sums.len == 1 ? sums.at[0].expr : NULL, *m = r && r->rop == SD_R_SUM ? multiplied(r->a[0]) : NULL;
  if (at < 0 || !m || m->a[0]->op != SD_X_LOAD || m->a[1]->op != SD_X_LOAD) return false;
  const sd_expr *x = m->a[0]->a[0], *y = m->a[1]->a[0]; // offsets: a condition stands in both loads
  bool turned = sd_x_uses_axis(x, n->axes[at]);
  *out = (product){r, m->a[turned], m->a[!turned]};
  return turned != sd_x_uses_axis(y, n->axes[at]);
}

// ---- phases ----
// Phases of an axis; 0: it has none, or its results do not divide among them.
static int64_t phases_of(sd_kernel *k, const product *p, const sd_axis *axis) {
  if (axis->limit || !sd_x_uses_axis(p->x->a[0], axis)) return 0;
  int64_t by = sd_access_divisor(k, p->y->a[0], SD_X_MOD, axis, true, 0);
  return by > 1 && sd_dim_multiple_of(k->dims, axis->extent, by) && !sd_dim_is(k->dims, axis->extent, by) ? by : 0;
}

// ---- conditions ----
typedef struct clauses {
  const sd_expr *at[16];
  int n;
  bool all; // there were not too many
} clauses;

static void collect_clauses(const sd_expr *e, clauses *c) {
  if (e->op == SD_X_AND) {
    collect_clauses(e->a[0], c);
    collect_clauses(e->a[1], c);
  } else if (c->n < (int)(sizeof c->at / sizeof *c->at)) {
    c->at[c->n++] = e;
  } else {
    c->all = false;
  }
}

static bool fixed(sd_kernel *k, sd_dim d, int64_t *out) { return d != SD_DIM_NONE && sd_dim_is_const(k->dims, d, out); }

// offset - f * e with the f for which the first term of e goes; *f is 0 where there is none.
static sd_expr *without(sd_kernel *k, sd_expr *offset, sd_expr *e, int64_t *f) {
  int64_t has, takes;
  *f = 0;
  if (e->op != SD_X_AFFINE || !e->n || offset->op != SD_X_AFFINE || !fixed(k, e->coef[0], &takes) || takes <= 0) return offset;
  for (uint32_t i = 0; i < offset->n; i++)
    if (offset->a[i] == e->a[0] && fixed(k, offset->coef[i], &has) && has > 0 && has % takes == 0) *f = has / takes;
  return *f ? sd_x_bin(k, SD_X_SUB, offset, sd_x_mul_dim(k, e, sd_dim_const(k->dims, *f))) : offset;
}

// Do the clauses, of which each `e < c` bounds a part of the offset, keep it inside of the buffer?
static bool stays_inside(sd_kernel *k, const sd_expr *load, const clauses *c) {
  sd_dim lo, hi, low, high;
  int64_t least, most, count, bound, f;
  if (!sd_x_bounds(k, load->a[0], &lo, &hi) || !fixed(k, lo, &least) || least < 0) return false;
  sd_expr *rest = load->a[0];
  int64_t known = 0;
  for (int i = 0; i < c->n; i++) {
    const sd_expr *e = c->at[i];
    if (e->op != SD_X_LT || !sd_x_const_value(e->a[1], NULL, &bound) || bound < 1 || bound > INT32_MAX) continue;
    rest = without(k, rest, e->a[0], &f);
    if (f > INT32_MAX || known > INT64_MAX / 4) return false;
    known += f * (bound - 1);
  }
  return sd_x_bounds(k, rest, &low, &high) && fixed(k, high, &most) && fixed(k, load->buf->count, &count) && most < count - known;
}

static bool uses_others(const sd_nest *n, const sd_expr *e, const sd_expr *offset) {
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (sd_x_uses_axis(e, n->axes[i]) && !sd_x_uses_axis(offset, n->axes[i])) return true;
  return false;
}

typedef struct parting {
  const sd_nest *n;
  const product *p;
} parting;

// sum(sel(g, x|g * y|g, 0)) becomes sum(x|g * y|h), h what of g does not move with other axes than y does.
static sd_expr *part(sd_kernel *k, sd_expr *e, void *user) {
  const parting *by = user;
  sd_expr *guard = NULL, *body = e->op == SD_X_REDUCE && e == by->p->sum ? e->a[0] : NULL;
  const sd_expr *x = by->p->x, *y = by->p->y;
  clauses all = {.all = true}, own = {.all = true};
  if (!body || body->op != SD_X_SEL || x->a[1] != body->a[0] || y->a[1] != body->a[0]) return e;
  collect_clauses(body->a[0], &all);
  for (int i = 0; i < all.n; i++)
    if (!uses_others(by->n, all.at[i], y->a[0])) own.at[own.n++] = all.at[i];
  if (!all.all || !stays_inside(k, y, &own)) return e;
  for (int i = 0; i < own.n; i++) guard = guard ? sd_x_bin(k, SD_X_AND, guard, (sd_expr *)own.at[i]) : (sd_expr *)own.at[i];
  sd_expr *kept = sd_x_load(k, y->buf, y->a[0], guard);
  return sd_x_reduce(k, SD_R_SUM, e->axes, e->n_axes, sd_x_bin(k, SD_X_MUL, (sd_expr *)x, kept));
}

sard_status *sd_split_phases(sd_kernel *k, sd_nest *n, sd_arena *a) {
  product p;
  bool split = false;
  if (n->sequential || !n->stores.len || !find_product(k, n, a, &p)) return NULL;
  for (uint32_t i = 0; i < n->n_axes && n->n_axes < SD_MAX_AXES; i++) {
    int64_t by = phases_of(k, &p, n->axes[i]);
    if (!by) continue;
    SD_TRY(sd_nest_split(k, n, i++, by));
    split = true;
    if (!find_product(k, n, a, &p)) return NULL;
  }
  for (uint32_t s = 0; split && s < n->stores.len; s++)
    n->stores.at[s].value = sd_x_rewrite(k, n->stores.at[s].value, part, &(parting){n, &p});
  return NULL;
}
