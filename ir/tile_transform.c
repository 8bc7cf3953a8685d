// Rebuilding expressions (substitution, rewriting) and the schedule steps that change axes: split, merge, drop.
#include "ir/tile_priv.h"
#include "runtime/base/alloc.h"
#include "runtime/base/status.h"

#define MAX_OPERANDS 64

void sd_tile_each_nest(const sd_items *items, void (*fn)(void *user, sd_nest *n), void *user) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].nest) fn(user, items->at[i].nest);
    else sd_tile_each_nest(items->at[i].body, fn, user);
  }
}

// ---- which axes occur ----
static bool uses(const sd_expr *e, const sd_axis *a, uint64_t *seen) {
  if (!e || !(e->axis_mask >> (a->id % 64) & 1)) return false;
  if (e->op == SD_X_AXIS) return e->axis == a;
  if (seen[e->id / 64] >> (e->id % 64) & 1) return false;
  seen[e->id / 64] |= 1ull << (e->id % 64);
  for (uint32_t i = 0; i < e->n_axes; i++) {
    if (e->axes[i] == a || uses(e->axes[i]->limit, a, seen)) return true;
  }
  for (uint32_t i = 0; i < e->n; i++) {
    if (uses(e->a[i], a, seen)) return true;
  }
  return false;
}

bool sd_x_uses_axis(const sd_expr *e, const sd_axis *a) {
  if (!e || !(e->axis_mask >> (a->id % 64) & 1)) return false;
  if (e->op == SD_X_AXIS) return e->axis == a;
  uint64_t *seen = sd_calloc(e->id / 64 + 1, sizeof *seen);
  if (!seen) return true; // the careful answer
  bool r = uses(e, a, seen);
  sd_free(seen);
  return r;
}

sd_expr **sd_tile_by_id(const sd_kernel *k, sd_arena *a) {
  sd_expr **at = SD_NEW_ARRAY(a, sd_expr *, k->n_expr + 1);
  for (uint32_t i = 0; i < k->table_cap; i++) {
    if (k->table[i]) at[k->table[i]->id] = k->table[i];
  }
  return at;
}

sd_axis_sets sd_tile_free_axes(const sd_kernel *k, sd_expr *const *by_id, sd_arena *a) {
  sd_axis_sets s = {.words = k->n_axis / 64 + 1};
  s.bits = sd_arena_array(a, (size_t)k->n_expr + 1, s.words * sizeof *s.bits);
  for (uint32_t id = 0; id < k->n_expr; id++) {
    const sd_expr *e = by_id[id];
    uint64_t *row = s.bits + (size_t)id * s.words;
    if (e->op == SD_X_AXIS) row[e->axis->id / 64] |= 1ull << (e->axis->id % 64);
    for (uint32_t i = 0; i < e->n; i++) {
      for (uint32_t w = 0; e->a[i] && w < s.words; w++) row[w] |= s.bits[(size_t)e->a[i]->id * s.words + w];
    }
    // From the inside out: the limit of an axis may use the outer ones.
    for (uint32_t i = e->n_axes; i-- > 0;) {
      const sd_axis *x = e->axes[i];
      row[x->id / 64] &= ~(1ull << (x->id % 64));
      for (uint32_t w = 0; x->limit && w < s.words; w++) row[w] |= s.bits[(size_t)x->limit->id * s.words + w];
    }
  }
  return s;
}

// ---- substitution ----
sd_subst sd_subst_begin(sd_kernel *k, uint32_t n, const sd_axis *const *axes, sd_expr *const *by) {
  return (sd_subst){.k = k, .n = n, .axes = axes, .by = by, .memo = sd_memo_take(k)};
}
void sd_subst_end(sd_subst *s) { sd_memo_give(s->k, s->memo); }

static bool may_touch(const sd_subst *s, const sd_expr *e) {
  for (uint32_t i = 0; i < s->n; i++) {
    if (e->axis_mask >> (s->axes[i]->id % 64) & 1) return true;
  }
  return false;
}

static sd_axis *axis_clone(sd_kernel *k, const sd_axis *a) {
  sd_axis *c = sd_kernel_axis(k, a->name, a->extent);
  uint32_t id = c->id;
  *c = *a;
  c->id = id;
  return c;
}

// A reduction below gets new axes where a limit changes, or where its axis occurs in what is put in (capture).
static sd_expr *subst_reduce(sd_subst *s, sd_expr *e) {
  const sd_axis *from[SD_MAX_AXES * 4];
  sd_expr *to[SD_MAX_AXES * 4];
  sd_axis *axes[SD_MAX_AXES];
  uint32_t n = 0;
  bool fresh = false;
  if (e->n_axes > SD_MAX_AXES || s->n > SD_MAX_AXES * 3) return e;
  for (uint32_t i = 0; i < s->n; i++, n++) from[n] = s->axes[i], to[n] = s->by[i];
  for (uint32_t i = 0; i < e->n_axes; i++) {
    sd_axis *x = axes[i] = e->axes[i];
    bool clash = false;
    for (uint32_t j = 0; j < s->n; j++) clash |= s->by[j] && sd_x_uses_axis(s->by[j], x);
    sd_expr *limit = x->limit;
    if (limit) {
      sd_subst inner = sd_subst_begin(s->k, n, from, to);
      limit = sd_subst_apply(&inner, limit);
      sd_subst_end(&inner);
    }
    if (!clash && limit == x->limit) continue;
    fresh = true;
    axes[i] = axis_clone(s->k, x);
    axes[i]->limit = limit;
    from[n] = x;
    to[n++] = sd_x_axis(s->k, axes[i]);
  }
  if (!fresh) return sd_x_reduce(s->k, e->rop, axes, e->n_axes, sd_subst_apply(s, e->a[0]));
  sd_subst inner = sd_subst_begin(s->k, n, from, to);
  sd_expr *body = sd_subst_apply(&inner, e->a[0]);
  sd_subst_end(&inner);
  return sd_x_reduce(s->k, e->rop, axes, e->n_axes, body);
}

static sd_expr *subst_new(sd_subst *s, sd_expr *e) {
  sd_expr *small[MAX_OPERANDS], **a = small;
  if (e->op == SD_X_AXIS) {
    for (uint32_t i = 0; i < s->n; i++) {
      if (s->axes[i] == e->axis) return s->by[i];
    }
    return e;
  }
  if (e->op == SD_X_REDUCE) return subst_reduce(s, e);
  if (e->n > MAX_OPERANDS) a = SD_NEW_ARRAY(s->k->arena, sd_expr *, e->n);
  bool same = true;
  for (uint32_t i = 0; i < e->n; i++) {
    a[i] = sd_subst_apply(s, e->a[i]);
    same &= a[i] == e->a[i];
  }
  return same ? e : sd_tile_rebuild(s->k, e, a);
}

sd_expr *sd_subst_apply(sd_subst *s, sd_expr *e) {
  if (!e || !may_touch(s, e)) return e;
  if (e->id < s->memo.cap && s->memo.at[e->id]) return s->memo.at[e->id];
  sd_expr *r = subst_new(s, e);
  if (e->id < s->memo.cap) s->memo.at[e->id] = r;
  return r;
}

sd_expr *sd_x_subst(sd_kernel *k, sd_expr *e, const sd_axis *a, sd_expr *by) {
  sd_subst s = sd_subst_begin(k, 1, &a, &by);
  sd_expr *r = sd_subst_apply(&s, e);
  sd_subst_end(&s);
  return r;
}

typedef struct rewriter { sd_kernel *k; sd_expr *(*fn)(sd_kernel *, sd_expr *,
    void *); void *user; sd_memo memo; } rewriter;

static sd_expr *rewrite(rewriter *w, sd_expr *e) {
  if (!e) return NULL;
  if (e->id < w->memo.cap && w->memo.at[e->id]) return w->memo.at[e->id];
  sd_expr *small[MAX_OPERANDS], **a = e->n > MAX_OPERANDS ? SD_NEW_ARRAY(w->k->arena, sd_expr *, e->n) : small;
  bool same = true;
  for (uint32_t i = 0; i < e->n; i++) {
    a[i] = rewrite(w, e->a[i]);
    same &= a[i] == e->a[i];
  }
  sd_expr *r = w->fn(w->k, same ? e : sd_tile_rebuild(w->k, e, a), w->user);
  if (e->id < w->memo.cap) w->memo.at[e->id] = r;
  return r;
}

sd_expr *sd_x_rewrite(sd_kernel *k, sd_expr *e, sd_expr *(*fn)(sd_kernel *k, sd_expr *e, void *user), void *user) {
  rewriter w = {k, fn, user, sd_memo_take(k)};
  sd_expr *r = rewrite(&w, e);
  sd_memo_give(k, w.memo);
  return r;
}

typedef struct walker {
  bool (*enter)(void *user, const sd_expr *x);
  void *user;
  sd_memo seen;
} walker;

static void walk(walker *w, const sd_expr *e) {
  if (!e || e->id >= w->seen.cap || w->seen.at[e->id]) return;
  w->seen.at[e->id] = w;
  if (!w->enter(w->user, e)) return;
  for (uint32_t i = 0; i < e->n; i++) walk(w, e->a[i]);
}

void sd_x_walk(sd_kernel *k, const sd_expr *e, bool (*enter)(void *user, const sd_expr *x), void *user) {
  walker w = {enter, user, sd_memo_take(k)};
  walk(&w, e);
  sd_memo_give(k, w.seen);
}

// ---- nests ----
static void nest_subst(sd_kernel *k, sd_nest *n, uint32_t count, const sd_axis *const *axes, sd_expr *const *by) {
  sd_subst s = sd_subst_begin(k, count, axes, by);
  for (uint32_t i = 0; i < n->stores.len; i++) {
    sd_store *st = &n->stores.at[i];
    st->offset = sd_subst_apply(&s, st->offset);
    st->value = sd_subst_apply(&s, st->value);
    st->guard = sd_subst_apply(&s, st->guard);
  }
  for (uint32_t i = 0; i < n->n_axes; i++) n->axes[i]->limit = sd_subst_apply(&s, n->axes[i]->limit);
  sd_subst_end(&s);
}

static void nest_drop(sd_nest *n, uint32_t index) {
  n->n_axes--;
  for (uint32_t i = index; i < n->n_axes; i++) n->axes[i] = n->axes[i + 1];
}

sard_status *sd_nest_split(sd_kernel *k, sd_nest *n, uint32_t index, int64_t factor) {
  if (index >= n->n_axes) return SD_ERR(INTERNAL, "split of axis %u of a nest with %u axes", index, n->n_axes);
  sd_axis *a = n->axes[index];
  if (factor < 1) return SD_ERR(INTERNAL, "split of axis '%s' by %lld", a->name, (long long)factor);
  if (n->n_axes >= SD_MAX_AXES) return SD_ERR(INTERNAL, "split of axis '%s': %d axes already", a->name, SD_MAX_AXES);
  sd_dim f = sd_dim_const(k->dims, factor), outer_extent = sd_dim_ceildiv(k->dims, a->extent, f);
  if (outer_extent == SD_DIM_NONE) return SD_ERR(INTERNAL, "split of axis '%s': extent overflows", a->name);
  sd_axis *outer = sd_kernel_axis(k, sd_arena_printf(k->arena, "%s_o", a->name), outer_extent);
  sd_axis *inner = sd_kernel_axis(k, sd_arena_printf(k->arena, "%s_i", a->name), f);
  sd_expr *base = sd_x_mul_dim(k, sd_x_axis(k, outer), f);
  sd_expr *by = sd_x_bin(k, SD_X_ADD, base, sd_x_axis(k, inner)), *bound = a->limit;
  if (!sd_dim_multiple_of(k->dims, a->extent, factor)) {
    sd_expr *e = sd_x_dim(k, a->extent);
    bound = bound ? sd_x_bin(k, SD_X_MIN, bound, e) : e;
  }
  const sd_axis *old = a;
  if (bound) inner->limit = sd_x_bin(k, SD_X_SUB, bound, base);
  n->axes[index] = outer;
  for (uint32_t i = n->n_axes; i > index + 1; i--) n->axes[i] = n->axes[i - 1];
  n->axes[index + 1] = inner;
  n->n_axes++;
  nest_subst(k, n, 1, &old, &by);
  return NULL;
}

// ---- simplification ----
typedef struct merge_check { sd_kernel *k; const sd_axis *a, *b; bool ok; } merge_check;

static bool is_one_of(const merge_check *c, const sd_expr *e) {
  return e && e->op == SD_X_AXIS && (e->axis == c->a || e->axis == c->b);
}

// Both axes occur only as f*(extent(b)*a + b).
static void check_expr(void *user, sd_expr *e) {
  merge_check *c = user;
  if (!c->ok || e->op == SD_X_AXIS) return;
  for (uint32_t i = 0; i < e->n_axes; i++) {
    if (is_one_of(c, e->axes[i]->limit)) c->ok = false;
  }
  if (e->op != SD_X_AFFINE) {
    for (uint32_t i = 0; i < e->n; i++) {
      if (is_one_of(c, e->a[i])) c->ok = false;
    }
    return;
  }
  sd_dim fa = sd_dim_const(c->k->dims, 0), fb = fa;
  for (uint32_t i = 0; i < e->n; i++) {
    if (!is_one_of(c, e->a[i])) continue;
    *(e->a[i]->axis == c->a ? &fa : &fb) = e->coef[i];
  }
  if (fa != sd_dim_mul(c->k->dims, fb, c->b->extent)) c->ok = false;
}

static bool axis_plain(const sd_axis *a) { return !a->limit && !a->block && !a->vec && a->unroll <= 1; }

static void check_root(merge_check *c, sd_memo *seen, sd_expr *e) {
  if (!e || !c->ok) return;
  if (is_one_of(c, e)) c->ok = false;
  sd_tile_walk(c->k, e, seen, check_expr, c);
}

// The merged axis and the substitution of a (outer) and b by it.
static sd_axis *merge_axes(sd_kernel *k, sd_axis *a, sd_axis *b, sd_expr **by) {
  sd_dim e = sd_dim_mul(k->dims, a->extent, b->extent);
  if (e == SD_DIM_NONE) return NULL;
  sd_axis *m = sd_kernel_axis(k, sd_arena_printf(k->arena, "%s%s", a->name, b->name), e);
  sd_expr *x = sd_x_axis(k, m);
  by[0] = sd_tile_raw(k, SD_X_FLOORDIV, SD_I64, (sd_expr *[]){x, sd_x_dim(k, b->extent)}, 2);
  by[1] = sd_tile_raw(k, SD_X_MOD, SD_I64, (sd_expr *[]){x, sd_x_dim(k, b->extent)}, 2);
  return m;
}

// Dense accesses start with an offset that is the axis alone when it is the whole offset: an AXIS as an operand of a
// LOAD or store is an affine use with coefficient 1 of b and 0 of a, so it blocks merging, which is right.
static bool nest_merge(sd_kernel *k, sd_nest *n, uint32_t i, uint32_t j) {
  sd_axis *a = n->axes[i], *b = n->axes[j];
  if (!axis_plain(a) || !axis_plain(b)) return false;
  merge_check c = {k, a, b, true};
  sd_memo seen = sd_memo_take(k);
  for (uint32_t s = 0; s < n->stores.len; s++) {
    check_root(&c, &seen, n->stores.at[s].offset);
    check_root(&c, &seen, n->stores.at[s].value);
    check_root(&c, &seen, n->stores.at[s].guard);
  }
  for (uint32_t x = 0; x < n->n_axes; x++) check_root(&c, &seen, n->axes[x]->limit);
  sd_memo_give(k, seen);
  sd_expr *by[2];
  sd_axis *m = c.ok ? merge_axes(k, a, b, by) : NULL;
  if (!m) return false;
  const sd_axis *from[2] = {a, b};
  n->axes[j] = m;
  nest_drop(n, i);
  nest_subst(k, n, 2, from, by);
  return true;
}

static bool reduce_merge(sd_kernel *k, sd_axis **axes, uint32_t *n, sd_expr **body, uint32_t i) {
  sd_axis *a = axes[i], *b = axes[i + 1];
  if (!axis_plain(a) || !axis_plain(b)) return false;
  merge_check c = {k, a, b, true};
  sd_memo seen = sd_memo_take(k);
  check_root(&c, &seen, *body);
  for (uint32_t x = 0; x < *n; x++) check_root(&c, &seen, axes[x]->limit);
  sd_memo_give(k, seen);
  sd_expr *by[2];
  sd_axis *m = c.ok ? merge_axes(k, a, b, by) : NULL;
  if (!m) return false;
  const sd_axis *from[2] = {a, b};
  axes[i] = m;
  --*n;
  for (uint32_t x = i + 1; x < *n; x++) axes[x] = axes[x + 1];
  sd_subst s = sd_subst_begin(k, 2, from, by);
  *body = sd_subst_apply(&s, *body);
  sd_subst_end(&s);
  return true;
}

static sd_expr *simplify_reduce(sd_kernel *k, sd_expr *e, void *user) {
  (void)user;
  if (e->op != SD_X_REDUCE || e->n_axes > SD_MAX_AXES) return e;
  sd_axis *axes[SD_MAX_AXES];
  sd_expr *body = e->a[0];
  uint32_t n = 0;
  bool limits = false;
  for (uint32_t i = 0; i < e->n_axes; i++) limits |= e->axes[i]->limit != NULL;
  for (uint32_t i = 0; i < e->n_axes; i++) {
    axes[n++] = e->axes[i];
    if (limits || !axis_plain(e->axes[i]) || !sd_dim_is(k->dims, e->axes[i]->extent, 1)) continue;
    body = sd_x_subst(k, body, e->axes[i], sd_x_i(k, SD_I64, 0));
    n--;
  }
  for (uint32_t i = 0; i + 1 < n;) i = reduce_merge(k, axes, &n, &body, i) ? 0 : i + 1;
  return n == e->n_axes ? e : sd_x_reduce(k, e->rop, axes, n, body);
}

static void simplify_nest(void *user, sd_nest *n) {
  sd_kernel *k = user;
  if (n->n_axes > SD_MAX_AXES) return;
  for (uint32_t i = 0; i < n->n_axes;) {
    sd_axis *a = n->axes[i];
    sd_expr *zero = sd_x_i(k, SD_I64, 0);
    if (!axis_plain(a) || !sd_dim_is(k->dims, a->extent, 1)) { i++; continue; }
    const sd_axis *from = a;
    nest_drop(n, i);
    nest_subst(k, n, 1, &from, &zero);
  }
  for (uint32_t i = 0; i < n->stores.len; i++) {
    sd_store *s = &n->stores.at[i];
    s->offset = sd_x_rewrite(k, s->offset, simplify_reduce, NULL);
    s->value = sd_x_rewrite(k, s->value, simplify_reduce, NULL);
    s->guard = sd_x_rewrite(k, s->guard, simplify_reduce, NULL);
  }
  for (bool again = true; again;) {
    again = false;
    for (uint32_t i = 0; i < n->n_axes && !again; i++) {
      for (uint32_t j = 0; j < n->n_axes && !again; j++) {
        // In a sequential nest only neighbours keep the order of the points.
        if (i != j && (!n->sequential || j == i + 1)) again = nest_merge(k, n, i, j);
      }
    }
  }
}

void sd_kernel_simplify(sd_kernel *k) { sd_tile_each_nest(&k->items, simplify_nest, k); }
