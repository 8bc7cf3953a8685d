// Kernels: buffers, axes, nests, and the hash-consed expression nodes below the simplifying constructors.
#include <string.h>

#include "ir/tile_priv.h"
#include "runtime/base/hash.h"

static const struct { const char *name, *text; int arity; } xops[SD_X_COUNT] = {
#define X(e, t, n) [SD_X_##e] = {#e, t, n},
    SD_XOPS(X)
#undef X
};
const char *sd_xop_text(sd_xop op) { return xops[op].text; }
const char *sd_xop_name(sd_xop op) { return xops[op].name; }
int sd_xop_arity(sd_xop op) { return xops[op].arity; }
const char *sd_rop_text(sd_rop r) {
  static const char *const names[] = {"sum", "prod", "max", "min"};
  return names[r];
}

sd_dtype sd_compute_type(sd_dtype t) {
  switch (sd_dtype_kind_of(t)) {
  case SD_DK_F: return t == SD_F64 ? SD_F64 : SD_F32;
  case SD_DK_I: return sd_dtype_bits(t) < 8 ? SD_I8 : t;
  case SD_DK_U: return sd_dtype_bits(t) < 8 ? SD_U8 : t;
  case SD_DK_B: return SD_BOOL;
  case SD_DK_S:
  case SD_DK_O: return SD_I64; // a number
  case SD_DK_C: return sd_dtype_part(t);
  default: return SD_DT_NONE;
  }
}

// ---- kernels ----
sd_kernel *sd_kernel_new(sd_arena *a, sd_dimtab *dims, const char *name) {
  sd_kernel *k = SD_NEW(a, sd_kernel);
  k->arena = a;
  k->dims = dims;
  k->name = sd_arena_strdup(a, name ? name : "");
  k->table_cap = 64;
  k->table = SD_NEW_ARRAY(a, sd_expr *, k->table_cap);
  return k;
}

sd_buf *sd_kernel_buf(sd_kernel *k, sd_bufkind kind, sd_dtype t, sd_dim count, sd_value *v) {
  sd_buf *b = SD_NEW(k->arena, sd_buf);
  if (sd_dtype_kind_of(t) == SD_DK_S || sd_dtype_kind_of(t) == SD_DK_O) t = SD_I64;
  if (sd_dtype_kind_of(t) == SD_DK_C) t = sd_dtype_part(t), count = sd_dim_mul(k->dims, count, sd_dim_const(k->dims, 2));
  *b = (sd_buf){.id = k->bufs.len, .kind = kind, .dtype = t, .count = count, .value = v};
  b->invariant = v && v->data;
  sd_vec_push(k->arena, &k->bufs, b);
  return b;
}

sd_axis *sd_kernel_axis(sd_kernel *k, const char *name, sd_dim extent) {
  sd_axis *a = SD_NEW(k->arena, sd_axis);
  *a = (sd_axis){.id = k->n_axis++, .name = sd_arena_strdup(k->arena, name ? name : "i"), .extent = extent};
  a->unroll = 1;
  return a;
}

sd_nest *sd_kernel_nest(sd_kernel *k, sd_items *into) {
  sd_items *items = into ? into : &k->items;
  sd_item it = {.nest = SD_NEW(k->arena, sd_nest)};
  sd_vec_push(k->arena, items, it);
  return it.nest;
}

sd_items *sd_kernel_loop(sd_kernel *k, sd_items *into, sd_axis *axis) {
  sd_items *items = into ? into : &k->items;
  sd_item it = {.loop = axis, .body = SD_NEW(k->arena, sd_items)};
  sd_vec_push(k->arena, items, it);
  return it.body;
}

void sd_nest_axis(sd_nest *n, sd_axis *a) {
  if (n->n_axes < SD_MAX_AXES) n->axes[n->n_axes] = a;
  n->n_axes++; // beyond SD_MAX_AXES: reported by sd_kernel_verify
}

void sd_nest_store(sd_kernel *k, sd_nest *n, sd_buf *b, sd_expr *offset, sd_expr *value, sd_expr *guard) {
  int64_t on = 0;
  if (guard && guard->dtype == SD_BOOL && sd_x_const_value(guard, NULL, &on)) {
    if (!on) return;
    guard = NULL;
  }
  sd_dtype t = b ? sd_compute_type(b->dtype) : SD_DT_NONE;
  if (value && t != SD_DT_NONE) value = sd_x_cast(k, t, value);
  sd_store s = {.buf = b, .offset = offset, .value = value, .guard = guard};
  sd_vec_push(k->arena, &n->stores, s);
}

// ---- interning ----
static uint64_t payload_hash(const sd_expr *e) {
  uint64_t bits = 0;
  switch (e->op) {
  case SD_X_CONST:
    if (sd_dtype_is_float(e->dtype)) memcpy(&bits, &e->f, 8);
    else bits = (uint64_t)e->i;
    return bits;
  case SD_X_AXIS: return e->axis->id;
  case SD_X_LOAD: return (uintptr_t)e->buf;
  case SD_X_REDUCE: return e->rop;
  default: return 0;
  }
}

static uint64_t expr_hash(const sd_expr *e) {
  uint64_t h = sd_hash_mix(e->op * 64u + e->dtype, payload_hash(e));
  for (uint32_t i = 0; i < e->n; i++) h = sd_hash_mix(h, e->a[i] ? e->a[i]->id + 1u : 0u);
  if (e->op == SD_X_AFFINE) {
    for (uint32_t i = 0; i < e->n; i++) h = sd_hash_mix(h, e->coef[i]);
    h = sd_hash_mix(h, e->dim);
  }
  for (uint32_t i = 0; i < e->n_axes; i++) h = sd_hash_mix(h, e->axes[i]->id);
  return h;
}

static bool expr_same(const sd_expr *x, const sd_expr *y) {
  if (x->op != y->op || x->dtype != y->dtype || x->n != y->n || x->n_axes != y->n_axes) return false;
  if (payload_hash(x) != payload_hash(y)) return false;
  if (x->n && memcmp(x->a, y->a, x->n * sizeof *x->a)) return false;
  if (x->n_axes && memcmp(x->axes, y->axes, x->n_axes * sizeof *x->axes)) return false;
  if (x->op != SD_X_AFFINE) return true;
  return x->dim == y->dim && (!x->n || !memcmp(x->coef, y->coef, x->n * sizeof *x->coef));
}

static void table_grow(sd_kernel *k) {
  uint32_t cap = k->table_cap * 2;
  sd_expr **t = SD_NEW_ARRAY(k->arena, sd_expr *, cap);
  for (uint32_t i = 0; i < k->table_cap; i++) {
    sd_expr *e = k->table[i];
    if (!e) continue;
    uint32_t p = (uint32_t)expr_hash(e) & (cap - 1);
    while (t[p]) p = (p + 1) & (cap - 1);
    t[p] = e;
  }
  k->table = t;
  k->table_cap = cap;
}

static uint64_t mask_of(const sd_expr *e) {
  uint64_t m = e->op == SD_X_AXIS ? 1ull << (e->axis->id % 64) : 0;
  for (uint32_t i = 0; i < e->n; i++) m |= e->a[i] ? e->a[i]->axis_mask : 0;
  for (uint32_t i = 0; i < e->n_axes; i++) {
    m |= 1ull << (e->axes[i]->id % 64);
    if (e->axes[i]->limit) m |= e->axes[i]->limit->axis_mask;
  }
  return m;
}

sd_expr *sd_tile_intern(sd_kernel *k, const sd_expr *proto) {
  uint32_t p = (uint32_t)expr_hash(proto) & (k->table_cap - 1);
  for (; k->table[p]; p = (p + 1) & (k->table_cap - 1)) {
    if (expr_same(k->table[p], proto)) return k->table[p];
  }
  sd_expr *e = SD_NEW(k->arena, sd_expr);
  *e = *proto;
  e->id = k->n_expr++;
  e->bounded = false;
  if (e->n) e->a = sd_arena_dup(k->arena, proto->a, e->n * sizeof *e->a);
  if (e->n && e->op == SD_X_AFFINE) e->coef = sd_arena_dup(k->arena, proto->coef, e->n * sizeof *e->coef);
  if (e->n_axes) e->axes = sd_arena_dup(k->arena, proto->axes, e->n_axes * sizeof *e->axes);
  e->axis_mask = mask_of(e);
  if (e->op == SD_X_AFFINE && !e->n) e->number = e->dim != SD_DIM_NONE && sd_dim_is_const(k->dims, e->dim, &e->i);
  k->table[p] = e;
  if (++k->table_len * 4 > k->table_cap * 3) table_grow(k);
  return e;
}

sd_expr *sd_tile_raw(sd_kernel *k, sd_xop op, sd_dtype t, sd_expr *const *a, uint32_t n) {
  sd_expr proto = {.op = op, .dtype = t, .n = n, .a = (sd_expr **)a};
  return sd_tile_intern(k, &proto);
}

// ---- leaves ----
sd_expr *sd_x_f(sd_kernel *k, sd_dtype t, double v) {
  if (!sd_dtype_is_float(t)) return sd_x_i(k, t, sd_scalar_from_float(t, v));
  sd_expr proto = {.op = SD_X_CONST, .dtype = t, .f = t == SD_F32 ? (double)(float)v : v};
  return sd_tile_intern(k, &proto);
}

sd_expr *sd_x_i(sd_kernel *k, sd_dtype t, int64_t v) {
  if (sd_dtype_is_float(t)) return sd_x_f(k, t, t == SD_F32 ? (double)(float)v : (double)v);
  if (t == SD_I64) return sd_x_dim(k, sd_dim_const(k->dims, v));
  sd_expr proto = {.op = SD_X_CONST, .dtype = t, .i = sd_scalar_wrap(t, v)};
  return sd_tile_intern(k, &proto);
}

sd_expr *sd_x_dim(sd_kernel *k, sd_dim d) {
  sd_expr proto = {.op = SD_X_AFFINE, .dtype = SD_I64, .dim = d};
  return sd_tile_intern(k, &proto);
}

sd_expr *sd_x_axis(sd_kernel *k, sd_axis *a) {
  if (!a) return NULL;
  sd_expr proto = {.op = SD_X_AXIS, .dtype = SD_I64, .axis = a};
  return sd_tile_intern(k, &proto);
}

bool sd_tile_is_dim(const sd_expr *e, sd_dim *out) {
  if (!e || e->op != SD_X_AFFINE || e->n) return false;
  if (out) *out = e->dim;
  return true;
}

sd_expr *sd_x_load(sd_kernel *k, sd_buf *b, sd_expr *offset, sd_expr *guard) {
  if (!b || !offset) return NULL;
  int64_t on = 0;
  sd_dtype t = sd_compute_type(b->dtype);
  if (guard && guard->dtype == SD_BOOL && sd_x_const_value(guard, NULL, &on)) {
    if (!on) return sd_x_i(k, t, 0);
    guard = NULL;
  }
  sd_expr *a[2] = {offset, guard};
  sd_expr proto = {.op = SD_X_LOAD, .dtype = t, .n = 2, .a = a, .buf = b};
  return sd_tile_intern(k, &proto);
}

sd_expr *sd_x_reduce(sd_kernel *k, sd_rop r, sd_axis *const *axes, uint32_t n, sd_expr *body) {
  if (!body || !n) return body;
  sd_expr proto = {.op = SD_X_REDUCE, .dtype = body->dtype, .n = 1, .a = &body, .rop = r, .n_axes = n};
  proto.axes = (sd_axis **)axes;
  return sd_tile_intern(k, &proto);
}

// ---- memo ----
sd_memo sd_memo_take(sd_kernel *k) {
  sd_memo m = {k->memo, k->memo_cap};
  k->memo = NULL;
  k->memo_cap = 0;
  if (m.cap < k->n_expr) {
    m.cap = k->n_expr + k->n_expr / 2 + 16;
    m.at = SD_NEW_ARRAY(k->arena, void *, m.cap);
  } else {
    memset(m.at, 0, k->n_expr * sizeof *m.at);
  }
  return m;
}

void sd_memo_give(sd_kernel *k, sd_memo m) {
  if (m.cap <= k->memo_cap) return;
  k->memo = m.at;
  k->memo_cap = m.cap;
}

void sd_tile_walk(sd_kernel *k, sd_expr *e, sd_memo *seen, void (*visit)(void *user, sd_expr *e), void *user) {
  if (!e || e->id >= seen->cap || seen->at[e->id]) return;
  seen->at[e->id] = e;
  for (uint32_t i = 0; i < e->n; i++) sd_tile_walk(k, e->a[i], seen, visit, user);
  for (uint32_t i = 0; i < e->n_axes; i++) sd_tile_walk(k, e->axes[i]->limit, seen, visit, user);
  visit(user, e);
}

// ---- queries ----
bool sd_x_const_value(const sd_expr *e, double *f, int64_t *i) {
  if (!e || (e->op != SD_X_CONST && !e->number)) return false;
  if (sd_dtype_is_float(e->dtype)) {
    if (f) *f = e->f;
    if (i) *i = (int64_t)sd_scalar_from_float(SD_I64, e->f);
  } else {
    if (f) *f = e->dtype == SD_U64 ? (double)(uint64_t)e->i : (double)e->i;
    if (i) *i = e->i;
  }
  return true;
}
