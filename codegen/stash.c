// Softmax and its like: what a sum over a row adds, the stores need again. It is computed once, into a row
// that stays in the first cache. Each row is then two nests; the kernel gets explicit grid axes for the rows.
#include "codegen/stash.h"

#include "codegen/choose_nest.h"
#include "codegen/product.h"
#include "runtime/base/alloc.h"

#define ROW_BYTES (512 * 1024)

typedef struct stash {
  sd_kernel *k;
  sd_nest *n;
  const sd_expr *sum; // REDUCE
  sd_expr *body;      // its body at the point of axis j
  sd_axis *j;
  sd_buf *row; // LOCAL: body for all points of j
} stash;

typedef struct finder {
  const sd_axis *axis;
  const sd_expr *what;
  bool found;
} finder;

// Many instructions, for each point of the axis.
static bool find_costly(void *user, const sd_expr *e) {
  static const bool many[SD_X_COUNT] = {
      [SD_X_EXP] = true,  [SD_X_LOG] = true,   [SD_X_POW] = true,   [SD_X_SIN] = true,
      [SD_X_COS] = true,  [SD_X_TAN] = true,   [SD_X_TANH] = true,  [SD_X_SINH] = true,
      [SD_X_COSH] = true, [SD_X_ERF] = true,   [SD_X_ATAN] = true,  [SD_X_ASIN] = true,
      [SD_X_ACOS] = true, [SD_X_ASINH] = true, [SD_X_ACOSH] = true, [SD_X_ATANH] = true,
  };
  finder *f = user;
  if (f->found || !sd_x_uses_axis(e, f->axis)) return false;
  f->found = many[e->op];
  return !f->found;
}

static bool costly(sd_kernel *k, const sd_expr *e, const sd_axis *r) {
  finder f = {.axis = r};
  sd_x_walk(k, e, find_costly, &f);
  return f.found;
}

static bool find_same(void *user, const sd_expr *e) {
  finder *f = user;
  f->found |= e == f->what;
  return !f->found;
}

static bool occurs(sd_kernel *k, const sd_expr *e, const sd_expr *what) {
  finder f = {.what = what};
  sd_x_walk(k, e, find_same, &f);
  return f.found;
}

// A sum along the whole of axis j whose body the first store has, too.
static bool find_sum(stash *s, sd_arena *a) {
  sd_accesses loads = {0};
  sd_reductions sums = {0};
  sd_access_collect(s->k, s->n, a, &loads, &sums);
  for (uint32_t i = 0; i < sums.len; i++) {
    const sd_expr *r = sums.at[i].expr;
    if (sums.at[i].parent || r->rop != SD_R_SUM || r->n_axes != 1 || r->axes[0]->limit ||
        r->axes[0]->extent != s->j->extent)
      continue;
    if (sd_x_uses_axis(r, s->j) || !costly(s->k, r->a[0], r->axes[0])) continue;
    s->body = sd_x_subst(s->k, r->a[0], r->axes[0], sd_x_axis(s->k, s->j));
    s->sum = r;
    if (occurs(s->k, s->n->stores.at[0].value, s->body)) return true;
  }
  return false;
}

static sd_nest *nest_of(const sd_kernel *k) {
  sd_nest *n = sd_lone_nest(k);
  if (!n || n->n_axes >= SD_MAX_AXES) return NULL;
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].guard) return NULL;
  return n;
}

static sd_expr *use_row(sd_kernel *k, sd_expr *e, void *user) {
  stash *s = user;
  if (e == s->body) return sd_x_load(k, s->row, sd_x_axis(k, s->j), NULL);
  if (e != s->sum) return e;
  sd_axis *r = e->axes[0];
  return sd_x_reduce(k, e->rop, &r, 1, sd_x_load(k, s->row, sd_x_axis(k, r), NULL));
}

// The axes besides j become those of the grid; of the last one a tile has several, in a loop around the two
// nests.
static sard_status *open_rows(stash *s, int j, int64_t rows, sd_items **out) {
  sd_kernel *k = s->k;
  sd_nest *n = s->n;
  int last = -1;
  *out = NULL;
  for (int i = 0; i < (int)n->n_axes; i++)
    if (i != j) last = i;
  if (last >= 0) SD_TRY(sd_nest_split(k, n, (uint32_t)last, rows));
  sd_axis *loop = last >= 0 ? n->axes[last + 1] : NULL;
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (n->axes[i] != s->j && n->axes[i] != loop) sd_vec_push(k->arena, &k->grid, n->axes[i]);
  k->items = (sd_items){0};
  if (loop) *out = sd_kernel_loop(k, NULL, loop);
  return NULL;
}

sard_status *sd_stash(sd_kernel *k, int lanes, sd_arena *a) {
  stash s = {.k = k, .n = nest_of(k)};
  if (!s.n) return NULL;
  int j = sd_access_store_axis(k, s.n);
  if (j < 0) return NULL;
  s.j = s.n->axes[j];
  int64_t len = sd_access_guess(k->dims, s.j->extent);
  if (len < lanes || len > ROW_BYTES / 4 || !find_sum(&s, a)) return NULL;
  sd_items *items;
  SD_TRY(open_rows(&s, j, sd_ceil_div(SD_TILE_ELEMS, len), &items));
  // what the split has rebuilt has to be found again
  if (!find_sum(&s, a)) return SD_ERR(INTERNAL, "%s: a sum is lost", k->name);
  s.row = sd_kernel_buf(k, SD_BUF_LOCAL, s.body->dtype, s.j->extent, NULL);
  sd_nest *fill = sd_kernel_nest(k, items), *rest = sd_kernel_nest(k, items);
  sd_axis *r = sd_kernel_axis(k, s.j->name, s.j->extent);
  sd_nest_axis(fill, r);
  sd_nest_store(k, fill, s.row, sd_x_axis(k, r), sd_x_subst(k, s.body, s.j, sd_x_axis(k, r)), NULL);
  sd_nest_axis(rest, s.j);
  for (uint32_t i = 0; i < s.n->stores.len; i++) {
    sd_store st = s.n->stores.at[i];
    sd_nest_store(k, rest, st.buf, st.offset, sd_x_rewrite(k, st.value, use_row, &s), NULL);
  }
  return NULL;
}
