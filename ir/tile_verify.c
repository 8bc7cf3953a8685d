// Verifier of kernels: types of all expressions, scopes of axes, canonical form, limits of the format.
#include "ir/tile_priv.h"
#include "runtime/base/status.h"

#define MAX_EXPR_DEPTH 8192 // walks over expressions are recursive

typedef struct checker {
  const sd_kernel *k;
  sd_arena *arena;
  sd_expr **by_id;
  sd_axis_sets free;
  uint32_t *depth;
  bool *live; // reachable from a store or limit; what rewriting left over is not looked at
  uint64_t *scope; // axes in scope at this place
  uint8_t *owner;  // axis id: 1 = axis of a nest, loop or grid; 2 = of reductions
} checker;

#define BAD(...) SD_ERR(INTERNAL, __VA_ARGS__)

static bool compute_type(sd_dtype t) { return t != SD_DT_NONE && sd_compute_type(t) == t; }
static bool same_types(const sd_expr *e) {
  for (uint32_t i = 0; i < e->n; i++) {
    if (e->a[i]->dtype != e->a[0]->dtype) return false;
  }
  return true;
}

static sard_status *check_affine(const checker *c, const sd_expr *e) {
  if (e->dim == SD_DIM_NONE) return BAD("expression %u: an index overflows or uses an unknown dim", e->id);
  if (e->dtype != SD_I64) return BAD("expression %u: affine form of type %s", e->id, sd_dtype_name(e->dtype));
  for (uint32_t i = 0; i < e->n; i++) {
    if (e->coef[i] == SD_DIM_NONE) return BAD("expression %u: unknown coefficient", e->id);
    if (sd_dim_is(c->k->dims, e->coef[i], 0)) return BAD("expression %u: coefficient 0", e->id);
    if (e->a[i]->op == SD_X_AFFINE || e->a[i]->dtype != SD_I64)
      return BAD("expression %u: term %u is no atom", e->id, i);
    if (i && !sd_tile_atom_before(e->a[i - 1], e->a[i])) return BAD("expression %u: terms out of order", e->id);
  }
  return NULL;
}

static sard_status *check_axis(const checker *c, const sd_axis *a) {
  if (a->id >= c->k->n_axis) return BAD("axis '%s' has id %u of %u", a->name, a->id, c->k->n_axis);
  if (a->extent == SD_DIM_NONE) return BAD("axis '%s' has an unknown or overflowing extent", a->name);
  if (a->limit && a->limit->dtype != SD_I64) return BAD("the limit of axis '%s' is no i64", a->name);
  if (a->block < 0 || a->vec < 0 || a->vec > SD_MAX_UNROLL || a->unroll < 0 || a->unroll > SD_MAX_UNROLL)
    return BAD("axis '%s' has a schedule out of range (block %lld, vec %d, unroll %d)", a->name, (long long)a->block,
        a->vec, a->unroll);
  return NULL;
}

static sard_status *check_reduce(const checker *c, const sd_expr *e) {
  if (!e->n_axes || e->n_axes > SD_MAX_AXES) return BAD("expression %u: reduction over %u axes", e->id, e->n_axes);
  if (e->rop > SD_R_MIN) return BAD("expression %u: unknown reduction", e->id);
  if (e->dtype != e->a[0]->dtype || e->dtype == SD_BOOL)
    return BAD("expression %u: reduction of type %s", e->id, sd_dtype_name(e->dtype));
  for (uint32_t i = 0; i < e->n_axes; i++) {
    SD_TRY(check_axis(c, e->axes[i]));
    if (c->owner[e->axes[i]->id] == 1) return BAD("axis '%s' is reduced and free at once", e->axes[i]->name);
    c->owner[e->axes[i]->id] = 2;
    for (uint32_t j = 0; j < i; j++) {
      if (e->axes[j] == e->axes[i]) return BAD("expression %u: axis '%s' twice", e->id, e->axes[i]->name);
    }
  }
  return NULL;
}

static sard_status *check_types(const checker *c, const sd_expr *e) {
  const sd_expr *x = e->n ? e->a[0] : NULL;
  const char *name = sd_xop_name(e->op);
  bool f = sd_dtype_is_float(e->dtype);
  switch (e->op) {
  case SD_X_CONST: return NULL;
  case SD_X_AFFINE: return check_affine(c, e);
  case SD_X_AXIS: return e->dtype == SD_I64 ? check_axis(c, e->axis) : BAD("expression %u: axis of type %s", e->id,
      sd_dtype_name(e->dtype));
  case SD_X_LOAD:
    if (e->buf->id >= c->k->bufs.len || c->k->bufs.at[e->buf->id] != e->buf)
      return BAD("expression %u loads from a foreign buffer", e->id);
    if (e->n != 2 || x->dtype != SD_I64 || e->dtype != sd_compute_type(e->buf->dtype) || (e->a[1] &&
        e->a[1]->dtype != SD_BOOL))
      return BAD("expression %u: a load with wrong types", e->id);
    return NULL;
  case SD_X_REDUCE: return check_reduce(c, e);
  case SD_X_SEL:
    if (x->dtype != SD_BOOL || e->a[1]->dtype != e->dtype || e->a[2]->dtype != e->dtype)
      return BAD("expression %u: sel of %s, %s, %s", e->id, sd_dtype_name(x->dtype), sd_dtype_name(e->a[1]->dtype),
          sd_dtype_name(e->a[2]->dtype));
    return NULL;
  case SD_X_CAST: return NULL;
  case SD_X_BITS: return sd_dtype_bits(x->dtype) == sd_dtype_bits(e->dtype) ? NULL : BAD("expression %u: bits of another width", e->id);
  case SD_X_INDEX: return same_types(e) && e->dtype == SD_I64 &&
      x->dtype == SD_I64 ? NULL : BAD("expression %u: index of type %s", e->id, sd_dtype_name(x->dtype));
  case SD_X_ISNAN: case SD_X_ISINF:
    return e->dtype == SD_BOOL && sd_dtype_is_float(x->dtype) ? NULL : BAD("expression %u: %s of %s", e->id, name,
        sd_dtype_name(x->dtype));
  default: break;
  }
  if (!same_types(e))
    return BAD("expression %u: %s of %s and %s", e->id, name, sd_dtype_name(x->dtype), sd_dtype_name(e->a[1]->dtype));
  bool compare = e->op == SD_X_EQ || e->op == SD_X_NE || e->op == SD_X_LT || e->op == SD_X_LE;
  if (e->dtype != (compare ? SD_BOOL : x->dtype)) return BAD("expression %u: %s gives %s", e->id, name,
      sd_dtype_name(e->dtype));
  if (compare) return NULL;
  bool bits = e->op == SD_X_AND || e->op == SD_X_OR || e->op == SD_X_XOR || e->op == SD_X_NOT;
  bool ints = bits || e->op == SD_X_FLOORDIV || e->op == SD_X_MOD || e->op == SD_X_SHL || e->op == SD_X_SHR;
  if (ints ? f : e->dtype == SD_BOOL && e->op != SD_X_MIN && e->op != SD_X_MAX)
    return BAD("expression %u: %s of %s", e->id, name, sd_dtype_name(e->dtype));
  if (!f && e->op >= SD_X_SQRT && e->op <= SD_X_ERF)
    return BAD("expression %u: %s of %s", e->id, name, sd_dtype_name(e->dtype));
  return NULL;
}

static sard_status *mark_operands(checker *c, const sd_expr *e) {
  for (uint32_t i = 0; i < e->n; i++) {
    if (!e->a[i]) continue;
    if (e->a[i]->id >= e->id || c->by_id[e->a[i]->id] != e->a[i])
      return BAD("expression %u: operand %u is no earlier expression", e->id, i);
    c->live[e->a[i]->id] = true;
  }
  for (uint32_t i = 0; i < e->n_axes; i++) {
    const sd_expr *l = e->axes[i]->limit;
    if (l && (l->id >= e->id || c->by_id[l->id] != l))
      return BAD("the limit of axis '%s' is no earlier expression", e->axes[i]->name);
    if (l) c->live[l->id] = true;
  }
  return NULL;
}

static sard_status *mark_root(checker *c, const sd_expr *e) {
  if (!e) return NULL;
  if (e->id >= c->k->n_expr || c->by_id[e->id] != e) return BAD("an expression of another kernel");
  c->live[e->id] = true;
  return NULL;
}

static sard_status *mark_items(checker *c, const sd_items *items, int depth) {
  if (depth > SD_MAX_DEPTH) return BAD("loops are nested deeper than %d", SD_MAX_DEPTH);
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (!it->nest == !it->loop || !it->loop == !!it->body) return BAD("an item that is not one nest or one loop");
    if (it->loop) {
      SD_TRY(mark_root(c, it->loop->limit));
      SD_TRY(mark_items(c, it->body, depth + 1));
      continue;
    }
    if (it->nest->n_axes > SD_MAX_AXES) return BAD("a nest with %u axes (at most %d)", it->nest->n_axes, SD_MAX_AXES);
    for (uint32_t j = 0; j < it->nest->n_axes; j++) SD_TRY(mark_root(c, it->nest->axes[j]->limit));
    for (uint32_t j = 0; j < it->nest->stores.len; j++) {
      SD_TRY(mark_root(c, it->nest->stores.at[j].offset));
      SD_TRY(mark_root(c, it->nest->stores.at[j].value));
      SD_TRY(mark_root(c, it->nest->stores.at[j].guard));
    }
  }
  return NULL;
}

static sard_status *check_expr(checker *c, const sd_expr *e) {
  int arity = sd_xop_arity(e->op);
  uint32_t d = 0;
  if ((uint32_t)e->op >= SD_X_COUNT || !compute_type(e->dtype))
    return BAD("expression %u has no valid operation or type", e->id);
  if (arity && e->n != (uint32_t)arity)
    return BAD("expression %u: %s with %u operands", e->id, sd_xop_name(e->op), e->n);
  if ((e->op == SD_X_REDUCE && e->n != 1) || ((e->op == SD_X_CONST || e->op == SD_X_AXIS) && e->n))
    return BAD("expression %u: %s with %u operands", e->id, sd_xop_name(e->op), e->n);
  for (uint32_t i = 0; i < e->n; i++) {
    if (!e->a[i]) {
      if (e->op != SD_X_LOAD || i != 1) return BAD("expression %u: operand %u is missing", e->id, i);
      continue;
    }
    if (c->depth[e->a[i]->id] > d) d = c->depth[e->a[i]->id];
  }
  for (uint32_t i = 0; i < e->n_axes; i++) {
    const sd_expr *l = e->axes[i]->limit;
    if (l && c->depth[l->id] > d) d = c->depth[l->id];
  }
  c->depth[e->id] = d + 1;
  if (d + 1 > MAX_EXPR_DEPTH) return BAD("expressions are nested deeper than %d", MAX_EXPR_DEPTH);
  return check_types(c, e);
}

// ---- places ----
static bool in_scope(const checker *c, const sd_axis *a) { return c->scope[a->id / 64] >> (a->id % 64) & 1; }
static void scope_set(const checker *c, const sd_axis *a, bool on) {
  uint64_t bit = 1ull << (a->id % 64);
  if (on) c->scope[a->id / 64] |= bit;
  else c->scope[a->id / 64] &= ~bit;
}

static sard_status *check_use(const checker *c, const sd_expr *e, const char *what) {
  if (e->id >= c->k->n_expr || c->by_id[e->id] != e) return BAD("%s is an expression of another kernel", what);
  const uint64_t *row = c->free.bits + (size_t)e->id * c->free.words;
  for (uint32_t w = 0; w < c->free.words; w++) {
    uint64_t stray = row[w] & ~c->scope[w];
    if (stray) return BAD("%s uses axis %u outside of its scope", what, w * 64 + (uint32_t)__builtin_ctzll(stray));
  }
  return NULL;
}

static sard_status *enter_axis(const checker *c, const sd_axis *a) {
  SD_TRY(check_axis(c, a));
  if (in_scope(c, a)) return BAD("axis '%s' twice in one place", a->name);
  if (c->owner[a->id] == 2) return BAD("axis '%s' is reduced and free at once", a->name);
  if (a->limit) SD_TRY(check_use(c, a->limit, "a limit"));
  c->owner[a->id] = 1;
  scope_set(c, a, true);
  return NULL;
}

static sard_status *check_store(const checker *c, const sd_store *s) {
  if (!s->buf || !s->offset || !s->value) return BAD("a store without buffer, offset or value");
  if (s->buf->id >= c->k->bufs.len || c->k->bufs.at[s->buf->id] != s->buf) return BAD("a store to a foreign buffer");
  if (s->buf->kind == SD_BUF_IN) return BAD("a store to input buffer %u", s->buf->id);
  if (s->offset->dtype != SD_I64) return BAD("a store offset of type %s", sd_dtype_name(s->offset->dtype));
  if (s->value->dtype != sd_compute_type(s->buf->dtype))
    return BAD("a store of %s to a buffer of %s", sd_dtype_name(s->value->dtype), sd_dtype_name(s->buf->dtype));
  SD_TRY(check_use(c, s->offset, "a store offset"));
  SD_TRY(check_use(c, s->value, "a stored value"));
  if (!s->guard) return NULL;
  if (s->guard->dtype != SD_BOOL) return BAD("a store guard of type %s", sd_dtype_name(s->guard->dtype));
  return check_use(c, s->guard, "a store guard");
}

static sard_status *check_nest(const checker *c, const sd_nest *n) {
  uint32_t vectors = 0;
  for (uint32_t i = 0; i < n->n_axes; i++) {
    SD_TRY(enter_axis(c, n->axes[i]));
    vectors += n->axes[i]->vec > 0;
  }
  if (vectors > 1) return BAD("a nest with %u vectorized axes", vectors);
  for (uint32_t i = 0; i < n->stores.len; i++) SD_TRY(check_store(c, &n->stores.at[i]));
  for (uint32_t i = 0; i < n->n_axes; i++) scope_set(c, n->axes[i], false);
  return NULL;
}

static sard_status *check_items(const checker *c, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->nest) {
      SD_TRY(check_nest(c, it->nest));
      continue;
    }
    SD_TRY(enter_axis(c, it->loop));
    SD_TRY(check_items(c, it->body));
    scope_set(c, it->loop, false);
  }
  return NULL;
}

static sard_status *check_bufs(const sd_kernel *k) {
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    const sd_buf *b = k->bufs.at[i];
    if (b->id != i) return BAD("buffer %u has id %u", i, b->id);
    if (sd_compute_type(b->dtype) == SD_DT_NONE) return BAD("buffer %u of type %s", i, sd_dtype_name(b->dtype));
    if (b->count == SD_DIM_NONE) return BAD("buffer %u has an unknown or overflowing size", i);
    if ((unsigned)b->kind > SD_BUF_LOCAL) return BAD("buffer %u of unknown kind", i);
  }
  return NULL;
}

static sard_status *verify(checker *c) {
  const sd_kernel *k = c->k;
  SD_TRY(check_bufs(k));
  c->by_id = sd_tile_by_id(k, c->arena);
  c->depth = SD_NEW_ARRAY(c->arena, uint32_t, k->n_expr + 1);
  c->owner = SD_NEW_ARRAY(c->arena, uint8_t, k->n_axis + 1);
  c->scope = SD_NEW_ARRAY(c->arena, uint64_t, k->n_axis / 64 + 1);
  c->live = SD_NEW_ARRAY(c->arena, bool, k->n_expr + 1);
  for (uint32_t i = 0; i < k->grid.len; i++) SD_TRY(mark_root(c, k->grid.at[i]->limit));
  SD_TRY(mark_items(c, &k->items, 0));
  for (uint32_t i = k->n_expr; i-- > 0;) {
    if (c->live[i]) SD_TRY(mark_operands(c, c->by_id[i]));
  }
  for (uint32_t i = 0; i < k->n_expr; i++) {
    if (c->live[i]) SD_TRY(check_expr(c, c->by_id[i]));
  }
  c->free = sd_tile_free_axes(k, c->by_id, c->arena);
  for (uint32_t i = 0; i < k->grid.len; i++) SD_TRY(enter_axis(c, k->grid.at[i]));
  return check_items(c, &k->items);
}

sard_status *sd_kernel_verify(const sd_kernel *k) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return SD_ERR(NOMEM, "no memory to verify kernel '%s'", k->name);
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "no memory to verify kernel '%s'", k->name);
  }
  checker c = {.k = k, .arena = a};
  sard_status *st = verify(&c);
  sd_arena_free(a);
  return sd_status_context(st, "kernel '%s'", k->name);
}
