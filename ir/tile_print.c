// Text of kernels, and their structural hash, which is the hash of the text without names.
//
//   kernel "name" {
//     axis a0 "i" N block 8 vec 2 unroll 4       every axis used; ids in order of appearance
//     in b0 f32 [N*768] invariant                in, out, local; readwrite
//     t0 = ...                                   expressions used more than once, operands first
//     limit a1 = expr
//     grid a0
//     nest a0 a1 sequential {
//       b1[offset] = value if guard
//     }
//     loop a2 {
//     }
//   }
// Expressions: f32:1.5 bool:1 constants, plain integers for i64; a0; {(coef)a0 + (coef)t1 + (dim)}; b0[offset] or
// b0[offset | guard]; sum(a2 a3: body); (x + y); min(x, y); cast.f32(x).
#include <math.h>

#include "ir/tile_priv.h"
#include "runtime/base/hash.h"
#include "runtime/base/status.h"

#define NONE UINT32_MAX
#define INLINE_DEPTH 8 // deeper expressions get a name of their own

typedef struct printer {
  const sd_kernel *k;
  sd_arena *arena;
  sd_str *out;
  bool names;
  sd_expr **by_id;
  uint32_t *uses, *let, *height; // by expression id
  uint32_t *axis_no, n_axes;     // by axis id
  const sd_axis **axes;          // in order of appearance
} printer;

static bool trivial(const sd_expr *e) {
  return e->op == SD_X_CONST || e->op == SD_X_AXIS || (e->op == SD_X_AFFINE && !e->n);
}

static void number_axis(printer *p, const sd_axis *a) {
  if (p->axis_no[a->id] != NONE) return;
  p->axis_no[a->id] = p->n_axes;
  p->axes[p->n_axes++] = a;
}

static void count_use(printer *p, const sd_expr *e) {
  if (!e || p->uses[e->id]++) return;
  uint32_t h = 0;
  for (uint32_t i = 0; i < e->n_axes; i++) count_use(p, e->axes[i]->limit);
  for (uint32_t i = 0; i < e->n; i++) {
    count_use(p, e->a[i]);
    if (e->a[i] && p->height[e->a[i]->id] > h) h = p->height[e->a[i]->id];
  }
  p->height[e->id] = h >= INLINE_DEPTH ? 0 : h + 1;
}

static void count_axis(printer *p, const sd_axis *a) {
  number_axis(p, a);
  count_use(p, a->limit);
}

static void count_items(printer *p, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->loop) count_axis(p, it->loop);
    if (it->body) count_items(p, it->body);
    if (!it->nest) continue;
    for (uint32_t j = 0; j < it->nest->n_axes; j++) count_axis(p, it->nest->axes[j]);
    for (uint32_t j = 0; j < it->nest->stores.len; j++) {
      const sd_store *s = &it->nest->stores.at[j];
      count_use(p, s->offset);
      count_use(p, s->value);
      count_use(p, s->guard);
    }
  }
}

// ---- expressions ----
static void put_dim(printer *p, sd_dim d) { sd_dim_print(p->k->dims, d, p->out); }
static void put_expr(printer *p, const sd_expr *e);

static void put_const(printer *p, const sd_expr *e) {
  if (!sd_dtype_is_float(e->dtype)) { sd_strf(p->out, "%s:%lld", sd_dtype_name(e->dtype), (long long)e->i); return; }
  if (isnan(e->f)) sd_strf(p->out, "%s:%snan", sd_dtype_name(e->dtype), signbit(e->f) ? "-" : "");
  else if (isinf(e->f)) sd_strf(p->out, "%s:%sinf", sd_dtype_name(e->dtype), e->f < 0 ? "-" : "");
  else sd_strf(p->out, e->dtype == SD_F32 ? "%s:%.9g" : "%s:%.17g", sd_dtype_name(e->dtype), e->f);
}

// Terms are printed in an order that does not depend on ids: axes by number, named atoms, others.
static uint64_t term_key(const printer *p, const sd_expr *e) {
  if (e->op == SD_X_AXIS) return p->axis_no[e->axis->id];
  return p->let[e->id] != NONE ? (1ull << 32) + p->let[e->id] : (2ull << 32) + e->id;
}

static void put_affine(printer *p, const sd_expr *e) {
  if (e->number) { sd_strf(p->out, "%lld", (long long)e->i); return; }
  uint32_t *order = SD_NEW_ARRAY(p->arena, uint32_t, e->n + 1);
  for (uint32_t i = 0, j; i < e->n; i++) {
    for (j = i; j > 0 && term_key(p, e->a[order[j - 1]]) > term_key(p, e->a[i]); j--) order[j] = order[j - 1];
    order[j] = i;
  }
  sd_str_put(p->out, "{");
  for (uint32_t i = 0; i < e->n; i++) {
    sd_str_put(p->out, i ? " + (" : "(");
    put_dim(p, e->coef[order[i]]);
    sd_str_put(p->out, ")");
    put_expr(p, e->a[order[i]]);
  }
  sd_str_put(p->out, e->n ? " + (" : "(");
  put_dim(p, e->dim);
  sd_str_put(p->out, ")}");
}

static void put_list(printer *p, const sd_expr *e) {
  sd_str_put(p->out, "(");
  for (uint32_t i = 0; i < e->n; i++) {
    if (i) sd_str_put(p->out, ", ");
    put_expr(p, e->a[i]);
  }
  sd_str_put(p->out, ")");
}

static void put_body(printer *p, const sd_expr *e) {
  const char *text = sd_xop_text(e->op);
  switch (e->op) {
  case SD_X_CONST: put_const(p, e); return;
  case SD_X_AFFINE: put_affine(p, e); return;
  case SD_X_AXIS: sd_strf(p->out, "a%u", p->axis_no[e->axis->id]); return;
  case SD_X_LOAD:
    sd_strf(p->out, "b%u[", e->buf->id);
    put_expr(p, e->a[0]);
    if (e->a[1]) { sd_str_put(p->out, " | "); put_expr(p, e->a[1]); }
    sd_str_put(p->out, "]");
    return;
  case SD_X_REDUCE:
    sd_strf(p->out, "%s(", sd_rop_text(e->rop));
    for (uint32_t i = 0; i < e->n_axes; i++) sd_strf(p->out, i ? " a%u" : "a%u", p->axis_no[e->axes[i]->id]);
    sd_str_put(p->out, ": ");
    put_expr(p, e->a[0]);
    sd_str_put(p->out, ")");
    return;
  case SD_X_CAST: case SD_X_BITS: sd_strf(p->out, "%s.%s", text, sd_dtype_name(e->dtype)); put_list(p, e); return;
  default: break;
  }
  bool infix = e->n == 2 && !(text[0] >= 'a' && text[0] <= 'z');
  if (!infix) {
    sd_str_put(p->out, text);
    put_list(p, e);
    return;
  }
  sd_str_put(p->out, "(");
  put_expr(p, e->a[0]);
  sd_strf(p->out, " %s ", text);
  put_expr(p, e->a[1]);
  sd_str_put(p->out, ")");
}

static void put_expr(printer *p, const sd_expr *e) {
  if (p->let[e->id] != NONE) sd_strf(p->out, "t%u", p->let[e->id]);
  else put_body(p, e);
}

// ---- the rest ----
static void indent(printer *p, int depth) {
  for (int i = 0; i < depth; i++) sd_str_put(p->out, "  ");
}

static void put_axes(printer *p) {
  for (uint32_t i = 0; i < p->n_axes; i++) {
    const sd_axis *a = p->axes[i];
    sd_strf(p->out, "  axis a%u ", i);
    if (p->names) { sd_str_json(p->out, a->name); sd_str_put(p->out, " "); }
    sd_str_put(p->out, "(");
    put_dim(p, a->extent);
    sd_str_put(p->out, ")");
    if (a->block) sd_strf(p->out, " block %lld", (long long)a->block);
    if (a->vec) sd_strf(p->out, " vec %d", a->vec);
    if (a->unroll != 1) sd_strf(p->out, " unroll %d", a->unroll);
    sd_str_put(p->out, "\n");
  }
}

static void put_bufs(printer *p) {
  static const char *const kinds[] = {"in", "out", "local"};
  for (uint32_t i = 0; i < p->k->bufs.len; i++) {
    const sd_buf *b = p->k->bufs.at[i];
    sd_strf(p->out, "  %s b%u %s [", kinds[b->kind], i, sd_dtype_name(b->dtype));
    put_dim(p, b->count);
    sd_strf(p->out, "]%s%s\n", b->invariant ? " invariant" : "", b->readwrite ? " readwrite" : "");
  }
}

// Numbers of named expressions, then of the axes that only expressions use, in the order of their text.
static void number_expr(printer *p, const sd_expr *e, bool root) {
  if (!e || (!root && p->let[e->id] != NONE)) return;
  if (e->op == SD_X_AXIS) number_axis(p, e->axis);
  for (uint32_t i = 0; i < e->n_axes; i++) number_axis(p, e->axes[i]);
  for (uint32_t i = 0; i < e->n; i++) number_expr(p, e->a[i], false);
}

static void number_items(printer *p, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->body) number_items(p, it->body);
    for (uint32_t j = 0; it->nest && j < it->nest->stores.len; j++) {
      const sd_store *s = &it->nest->stores.at[j];
      number_expr(p, s->offset, false);
      number_expr(p, s->value, false);
      number_expr(p, s->guard, false);
    }
  }
}

static void number_all(printer *p) {
  uint32_t n = 0;
  for (uint32_t id = 0; id < p->k->n_expr; id++) {
    bool named = p->uses[id] && !trivial(p->by_id[id]) && (p->uses[id] > 1 || !p->height[id]);
    if (named) p->let[id] = n++;
  }
  for (uint32_t id = 0; id < p->k->n_expr; id++) {
    if (p->let[id] != NONE) number_expr(p, p->by_id[id], true);
  }
  for (uint32_t i = 0; i < p->n_axes; i++) number_expr(p, p->axes[i]->limit, false); // may append to p->axes
  number_items(p, &p->k->items);
}

static void put_lets(printer *p) {
  for (uint32_t id = 0; id < p->k->n_expr; id++) {
    if (p->let[id] != NONE) {
      sd_strf(p->out, "  t%u = ", p->let[id]);
      put_body(p, p->by_id[id]);
      sd_str_put(p->out, "\n");
    }
    for (uint32_t i = 0; p->uses[id] && i < p->n_axes; i++) { // before the first reduction over the axis
      const sd_expr *limit = p->axes[i]->limit;
      if (!limit || limit->id != id) continue;
      sd_strf(p->out, "  limit a%u = ", i);
      put_expr(p, limit);
      sd_str_put(p->out, "\n");
    }
  }
}

static void put_nest(printer *p, const sd_nest *n, int depth) {
  sd_str_put(p->out, "nest");
  for (uint32_t i = 0; i < n->n_axes; i++) sd_strf(p->out, " a%u", p->axis_no[n->axes[i]->id]);
  sd_strf(p->out, "%s {\n", n->sequential ? " sequential" : "");
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    indent(p, depth + 1);
    sd_strf(p->out, "b%u[", s->buf->id);
    put_expr(p, s->offset);
    sd_str_put(p->out, "] = ");
    put_expr(p, s->value);
    if (s->guard) { sd_str_put(p->out, " if "); put_expr(p, s->guard); }
    sd_str_put(p->out, "\n");
  }
}

static void put_items(printer *p, const sd_items *items, int depth) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    indent(p, depth);
    if (it->nest) {
      put_nest(p, it->nest, depth);
    } else {
      sd_strf(p->out, "loop a%u {\n", p->axis_no[it->loop->id]);
      put_items(p, it->body, depth + 1);
    }
    indent(p, depth);
    sd_str_put(p->out, "}\n");
  }
}

static void print(printer *p) {
  const sd_kernel *k = p->k;
  size_t n = k->n_expr + 1, na = k->n_axis + 1;
  p->by_id = sd_tile_by_id(k, p->arena);
  p->uses = SD_NEW_ARRAY(p->arena, uint32_t, n);
  p->height = SD_NEW_ARRAY(p->arena, uint32_t, n);
  p->let = SD_NEW_ARRAY(p->arena, uint32_t, n);
  p->axis_no = SD_NEW_ARRAY(p->arena, uint32_t, na);
  p->axes = SD_NEW_ARRAY(p->arena, const sd_axis *, na);
  for (size_t i = 0; i < n; i++) p->let[i] = NONE;
  for (size_t i = 0; i < na; i++) p->axis_no[i] = NONE;
  for (uint32_t i = 0; i < k->grid.len; i++) count_axis(p, k->grid.at[i]);
  count_items(p, &k->items);
  number_all(p);
  sd_str_put(p->out, "kernel ");
  sd_str_json(p->out, p->names ? k->name : "");
  sd_str_put(p->out, " {\n");
  put_axes(p);
  put_bufs(p);
  put_lets(p);
  if (k->grid.len) {
    sd_str_put(p->out, "  grid");
    for (uint32_t i = 0; i < k->grid.len; i++) sd_strf(p->out, " a%u", p->axis_no[k->grid.at[i]->id]);
    sd_str_put(p->out, "\n");
  }
  put_items(p, &k->items, 1);
  sd_str_put(p->out, "}\n");
}

static bool print_kernel(const sd_kernel *k, bool names, sd_str *out) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return false;
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_arena_free(a);
    return false;
  }
  printer p = {.k = k, .arena = a, .out = out, .names = names};
  print(&p);
  sd_arena_free(a);
  return !out->failed;
}

sard_status *sd_kernel_print(const sd_kernel *k, sd_str *out) {
  return print_kernel(k, true, out) ? NULL : SD_ERR(NOMEM, "no memory to print kernel '%s'", k->name);
}

uint64_t sd_kernel_hash(const sd_kernel *k) {
  sd_str s = {0};
  uint64_t h = 0;
  // Without memory every kernel gets its own value: nothing is shared by mistake.
  if (print_kernel(k, false, &s)) h = sd_hash_bytes(s.p, s.len, 1);
  else h = (uintptr_t)k;
  sd_str_free(&s);
  return h;
}
