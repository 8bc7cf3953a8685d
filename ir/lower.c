// Lowering: pulls the element expressions of a node's outputs, through the members of a fused group, into one kernel.
#include "ir/lower.h"

#include <string.h>

#include "ir/ops.h"
#include "runtime/base/hash.h"

#define MAX_PULL_DEPTH 400   // members in a chain of a group
#define UNIFORM_BYTES  65536 // larger constants are not searched for being uniform

typedef struct memo_entry {
  const sd_value *v;
  const sd_expr *guard, *part;
  int rank;
  sd_expr **idx;
  sd_expr *result;
} memo_entry;

struct sd_tb_private {
  memo_entry *memo; // open addressing
  uint32_t cap, len;
  int depth;
};

// ---- errors ----
sd_expr *sd_tb_fail(sd_tb *b, sard_status *st) {
  if (!b->error) b->error = st;
  else sard_status_free(st);
  return NULL;
}

#define FAIL(b, n, code, ...) sd_tb_fail((b), sd_node_error((n), SD_ERR(code, __VA_ARGS__)))

// ---- memo of pulled elements ----
static uint64_t memo_hash(const sd_value *v, const sd_expr *guard, const sd_expr *part, sd_expr *const *idx, int rank) {
  uint64_t h = sd_hash_mix(sd_hash_mix(v->id, guard ? guard->id + 1u : 0), part ? part->id + 1u : 0);
  for (int i = 0; i < rank; i++) h = sd_hash_mix(h, idx[i]->id);
  return h;
}

static memo_entry *memo_slot(sd_tb *b, const sd_value *v, sd_expr *const *idx, int rank) {
  struct sd_tb_private *p = b->priv;
  uint32_t mask = p->cap - 1, i = (uint32_t)memo_hash(v, b->guard, b->part, idx, rank) & mask;
  for (; p->memo[i].v; i = (i + 1) & mask) {
    memo_entry *e = &p->memo[i];
    if (e->v == v && e->guard == b->guard && e->part == b->part && e->rank == rank && (!rank || !memcmp(e->idx, idx, (size_t)rank * sizeof *idx))) break;
  }
  return &p->memo[i];
}

static void memo_grow(sd_tb *b) {
  struct sd_tb_private *p = b->priv;
  memo_entry *old = p->memo;
  uint32_t n = p->cap;
  p->cap = n ? n * 2 : 64;
  p->memo = SD_NEW_ARRAY(b->arena, memo_entry, p->cap);
  for (uint32_t i = 0; i < n; i++) {
    if (!old[i].v) continue;
    uint32_t at = (uint32_t)memo_hash(old[i].v, old[i].guard, old[i].part, old[i].idx, old[i].rank) & (p->cap - 1);
    while (p->memo[at].v) at = (at + 1) & (p->cap - 1);
    p->memo[at] = old[i];
  }
}

static void memo_put(sd_tb *b, const sd_value *v, sd_expr *const *idx, int rank, sd_expr *result) {
  struct sd_tb_private *p = b->priv;
  if ((p->len + 1) * 4 > p->cap * 3) memo_grow(b);
  memo_entry *e = memo_slot(b, v, idx, rank);
  if (!e->v) p->len++;
  *e = (memo_entry){v, b->guard, b->part, rank, NULL, result};
  e->idx = rank ? sd_arena_dup(b->arena, idx, (size_t)rank * sizeof *idx) : NULL;
}

// ---- index arithmetic ----
static const sd_value *outer_value(sd_tb *b, const sd_value *v);

// The value whose memory holds v: itself, or the one it is a window of.
static const sd_value *holder(const sd_value *v) {
  while (v->window) v = v->storage;
  return v;
}

sd_expr *sd_tb_offset(sd_tb *b, const sd_value *v, sd_expr *const *idx) {
  const sd_value *outer = outer_value(b, v), *shape = v;
  sd_expr *off = sd_x_i(b->k, SD_I64, 0), *x[SD_MAX_RANK];
  sd_dim stride = sd_dim_const(b->dims, 1);
  int rank = v->rank;
  for (int i = 0; i < rank; i++) {
    if (!idx[i]) return NULL;
    x[i] = idx[i];
  }
  for (const sd_value *w = outer; w && w->window; w = w->storage) {
    int more = w->storage->rank - rank; // dims that the window fixes
    for (int i = rank; i-- > 0;) x[i + more] = x[i];
    for (int i = 0; i < more; i++) x[i] = sd_x_i(b->k, SD_I64, 0);
    rank += more;
    for (int i = 0; i < rank; i++) x[i] = sd_x_bin(b->k, SD_X_ADD, x[i], sd_x_dim(b->k, w->window[i]));
    shape = w->storage;
  }
  for (int i = rank - 1; i >= 0; i--) {
    off = sd_x_bin(b->k, SD_X_ADD, off, sd_x_mul_dim(b->k, x[i], stride));
    stride = sd_dim_mul(b->dims, stride, shape->dims[i]);
  }
  return off;
}

static bool is_complex(const sd_value *v) { return sd_dtype_kind_of(v->dtype) == SD_DK_C; }

sd_expr *sd_tb_place(sd_tb *b, const sd_value *v, sd_expr *offset) {
  if (!is_complex(v) || !offset) return offset;
  if (!b->part)
    return FAIL(b, b->node, UNSUPPORTED, "there is no arithmetic with numbers of type %s", sd_dtype_name(v->dtype));
  return sd_x_bin(b->k, SD_X_ADD, sd_x_mul_dim(b->k, offset, sd_dim_const(b->dims, 2)), b->part);
}

sd_expr *sd_tb_real(sd_tb *b, sd_dtype t, sd_expr *x) {
  if (!x || !b->part || sd_dtype_kind_of(t) != SD_DK_C) return x;
  sd_expr *real = sd_x_bin(b->k, SD_X_EQ, b->part, sd_x_i(b->k, SD_I64, 0));
  return sd_x_sel(b->k, real, x, sd_x_f(b->k, x->dtype, 0));
}

void sd_tb_unravel(sd_tb *b, const sd_value *v, sd_expr *offset, sd_expr **out_idx) {
  sd_dim inner = sd_dim_const(b->dims, 1);
  int first = 0; // the outermost dim that is not 1 needs no remainder
  while (first < v->rank && sd_dim_is(b->dims, v->dims[first], 1)) first++;
  for (int i = v->rank - 1; i >= 0; i--) {
    if (sd_dim_is(b->dims, v->dims[i], 1)) {
      out_idx[i] = sd_x_i(b->k, SD_I64, 0);
      continue;
    }
    sd_expr *q = sd_x_bin(b->k, SD_X_FLOORDIV, offset, sd_x_dim(b->k, inner));
    out_idx[i] = i == first ? q : sd_x_bin(b->k, SD_X_MOD, q, sd_x_dim(b->k, v->dims[i]));
    inner = sd_dim_mul(b->dims, inner, v->dims[i]);
  }
}

sd_axis *sd_tb_raxis(sd_tb *b, const char *name, sd_dim extent) { return sd_kernel_axis(b->k, name, extent); }

void sd_tb_guard_begin(sd_tb *b, sd_expr *cond, sd_expr **saved) {
  *saved = b->guard;
  if (!cond) return;
  int64_t v = 0;
  if (sd_x_const_value(cond, NULL, &v) && v) return;
  b->guard = b->guard ? sd_x_bin(b->k, SD_X_AND, b->guard, cond) : cond;
}

sd_expr *sd_tb_guard_end(sd_tb *b, sd_expr *saved, sd_expr *cond, sd_expr *x, sd_expr *other) {
  sd_expr *guard = b->guard;
  double f = 1;
  b->guard = saved;
  if (!x || !other || !cond) return NULL;
  // A guarded load is already 0 where the guard does not hold.
  bool zero = sd_x_const_value(other, &f, NULL) && f == 0 && !__builtin_signbit(f);
  if (zero && x->op == SD_X_LOAD && guard && x->a[1] == guard && x->dtype == other->dtype) return x;
  return sd_x_sel(b->k, cond, x, other);
}

// ---- operands ----
bool sd_tb_has(const sd_node *n, uint32_t operand) { return operand < n->n_in && n->in[operand]; }

// The value outside of the group that a body input stands for; v itself for others.
static const sd_value *outer_value(sd_tb *b, const sd_value *v) {
  if (!b->inlined || v->graph != b->inlined || v->def) return v;
  for (uint32_t i = 0; i < b->inlined->inputs.len && i < b->node->n_in; i++) {
    if (b->inlined->inputs.at[i] == v) return b->node->in[i];
  }
  return v;
}

static sd_expr *const_element(sd_tb *b, const sd_const *c, uint64_t i) {
  sd_dtype t = sd_compute_type(c->dtype);
  if (sd_dtype_is_float(t)) return sd_x_f(b->k, t, sd_dtype_get_f64(c->dtype, c->data, i));
  return sd_x_i(b->k, t, sd_dtype_get_i64(c->dtype, c->data, i));
}

static bool const_uniform(const sd_const *c) {
  size_t size = (size_t)sd_dtype_bits(c->dtype) / 8;
  if (c->count == 1) return true;
  if (!c->count || !size || sd_dtype_bits(c->dtype) % 8 || c->bytes > UNIFORM_BYTES) return false;
  return !memcmp(c->data, (const uint8_t *)c->data + size, (size_t)c->bytes - size);
}

// Row-major position of constant indices in static dims; false when not all are constant and in range.
static bool const_position(sd_tb *b, const sd_value *v, sd_expr *const *idx, uint64_t *out) {
  uint64_t at = 0;
  for (int i = 0; i < v->rank; i++) {
    int64_t x, d;
    if (!sd_x_const_value(idx[i], NULL, &x) || !sd_dim_is_const(b->dims, v->dims[i], &d)) return false;
    if (x < 0 || x >= d) return false;
    at = at * (uint64_t)d + (uint64_t)x;
  }
  *out = at;
  return true;
}

// The element as a constant or a dim where it is known now. idx NULL: only what is the same for every index.
static sd_expr *known_element(sd_tb *b, const sd_value *v, sd_expr *const *idx) {
  sd_dtype t = sd_compute_type(v->dtype);
  uint64_t at = 0;
  if (is_complex(v)) return NULL; // its parts differ
  bool position = idx && const_position(b, v, idx, &at);
  if (v->data && v->data->dtype == v->dtype) {
    if (position && at < v->data->count) return const_element(b, v->data, at);
    return const_uniform(v->data) ? const_element(b, v->data, 0) : NULL;
  }
  if (!v->elems || !v->n_elems || v->rank > 1 || (!position && v->n_elems != 1) || at >= v->n_elems) return NULL;
  sd_dim d = v->elems[position ? at : 0];
  return d == SD_DIM_NONE ? NULL : sd_x_cast(b->k, t, sd_x_dim(b->k, d));
}

static sd_buf *param(sd_tb *b, const sd_value *v) {
  for (uint32_t i = 0; i < b->k->bufs.len; i++) {
    sd_buf *p = b->k->bufs.at[i];
    if (p->kind == SD_BUF_IN && p->value == v) return p;
  }
  return sd_kernel_buf(b->k, SD_BUF_IN, v->dtype, sd_value_count(holder(v)), (sd_value *)v);
}

sd_buf *sd_tb_in(sd_tb *b, const sd_node *n, uint32_t operand, sd_dtype t) {
  sd_value *v = n->in[operand];
  return sd_kernel_buf(b->k, SD_BUF_IN, t, sd_value_count(holder(v)), v);
}

static bool inlined_here(const sd_tb *b, const sd_value *v) {
  return b->inlined && v->graph == b->inlined && v->def && v->def->graph == b->inlined;
}

static sd_expr *pull_member(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx);

static sd_expr *pull_inlined(sd_tb *b, const sd_value *v, sd_expr *const *idx) {
  if (b->priv->len) {
    memo_entry *e = memo_slot(b, v, idx, v->rank);
    if (e->v) return e->result;
  }
  if (b->priv->depth >= MAX_PULL_DEPTH)
    return FAIL(b, b->node, UNSUPPORTED, "a fused group with a chain of more than %d nodes", MAX_PULL_DEPTH);
  b->priv->depth++;
  sd_expr *r = pull_member(b, v->def, v->out_index, idx);
  b->priv->depth--;
  if (r) memo_put(b, v, idx, v->rank, r);
  return r;
}

static sd_expr *pull_value(sd_tb *b, const sd_node *n, const sd_value *v, sd_expr *const *idx) {
  for (int i = 0; i < v->rank; i++) {
    if (!idx[i]) return NULL;
  }
  sd_expr *known = known_element(b, v, idx);
  if (known) return known;
  if (inlined_here(b, v)) return pull_inlined(b, v, idx);
  const sd_value *outer = outer_value(b, v);
  if (!outer) return FAIL(b, n, INTERNAL, "a group's operand is missing");
  if (outer != v && (known = known_element(b, outer, idx))) return known;
  return sd_x_load(b->k, param(b, outer), sd_tb_place(b, v, sd_tb_offset(b, v, idx)), b->guard);
}

static const sd_value *operand_of(sd_tb *b, const sd_node *n, uint32_t operand) {
  if (!sd_tb_has(n, operand)) {
    FAIL(b, n, INTERNAL, "operand %u is missing", operand);
    return NULL;
  }
  const sd_value *v = n->in[operand];
  if (v->rank < 0 || v->rank > SD_MAX_RANK) {
    FAIL(b, n, UNSUPPORTED, "the rank of operand %u is not known", operand);
    return NULL;
  }
  if (sd_compute_type(v->dtype) == SD_DT_NONE) {
    FAIL(b, n, UNSUPPORTED, "operand %u of type %s cannot be read by kernels", operand, sd_dtype_name(v->dtype));
    return NULL;
  }
  return v;
}

sd_expr *sd_tb_load(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx) {
  const sd_value *v = operand_of(b, n, operand);
  return v ? pull_value(b, n, v, idx) : NULL;
}

// Index into a dim that may be broadcast to `out` (SD_DIM_NONE: not known). Where only the run tells whether it is 1,
// the index is idx * min(dim - 1, 1): still affine.
static sd_expr *bcast_index(sd_tb *b, sd_dim dim, sd_dim out, sd_expr *idx) {
  int64_t inside = 0;
  if (sd_dim_is(b->dims, dim, 1)) return sd_x_i(b->k, SD_I64, 0);
  if (!idx || dim == out || dim == SD_DIM_NONE || sd_dim_get(b->dims, dim)->min >= 2) return idx;
  sd_expr *known = sd_x_bin(b->k, SD_X_LT, idx, sd_x_dim(b->k, dim));
  if (sd_x_const_value(known, NULL, &inside) && inside) return idx;
  sd_dim one = sd_dim_const(b->dims, 1);
  return sd_x_mul_dim(b->k, idx, sd_dim_min(b->dims, sd_dim_sub(b->dims, dim, one), one));
}

sd_expr *sd_tb_load_bcast(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *const *idx, int rank) {
  const sd_value *v = operand_of(b, n, operand);
  sd_expr *at[SD_MAX_RANK];
  if (!v) return NULL;
  if (v->rank > rank) return FAIL(b, n, INTERNAL, "operand %u of rank %d broadcast to rank %d", operand, v->rank, rank);
  const sd_value *out = n->n_out && n->out[0] && n->out[0]->rank == rank ? n->out[0] : NULL;
  for (int i = 0; i < v->rank; i++) {
    int o = rank - v->rank + i;
    at[i] = bcast_index(b, v->dims[i], out ? out->dims[o] : SD_DIM_NONE, idx[o]);
  }
  return pull_value(b, n, v, at);
}

sd_expr *sd_tb_load_linear(sd_tb *b, const sd_node *n, uint32_t operand, sd_expr *offset) {
  const sd_value *v = operand_of(b, n, operand);
  if (!v || !offset) return NULL;
  const sd_value *outer = inlined_here(b, v) ? NULL : outer_value(b, v);
  if (outer && !outer->window && !known_element(b, outer, NULL) && v->rank != 1) {
    return sd_x_load(b->k, param(b, outer), sd_tb_place(b, v, offset), b->guard);
  }
  sd_expr *idx[SD_MAX_RANK];
  sd_tb_unravel(b, v, offset, idx);
  return pull_value(b, n, v, idx);
}

// ---- members ----
static sd_expr *expand_text(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr **operands = SD_NEW_ARRAY(b->arena, sd_expr *, n->n_in + 1);
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i]) continue;
    operands[i] = sd_tb_load_bcast(b, n, i, idx, n->out[out]->rank);
    if (!operands[i]) return NULL;
  }
  return sd_text_expand(b, n, n->op->map, operands, n->n_in);
}

static sd_expr *pull_member(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  sd_expr *r = NULL;
  if (n->op->pull) r = n->op->pull(b, n, out, idx);
  else if (n->op->map) r = expand_text(b, n, out, idx);
  else if (n->op->nests)
    return FAIL(b, n, INTERNAL, "%s makes its own nests and cannot be part of an expression", n->op->name);
  else return FAIL(b, n, UNSUPPORTED, "%s has no kernel", n->op->name);
  if (!r && !b->error) return FAIL(b, n, INTERNAL, "the body of %s gave nothing", n->op->name);
  return r ? sd_x_cast(b->k, sd_compute_type(n->out[out]->dtype), r) : NULL;
}

// ---- outputs ----
static bool wanted(const sd_value *v) { return v && (v->uses.len || sd_value_is_output(v)); }

// Dead outputs count only when all outputs are dead.
static bool any_wanted(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (wanted(n->out[i])) return true;
  }
  return false;
}

sd_buf *sd_tb_out(sd_tb *b, const sd_node *n, uint32_t out) {
  sd_value *v = out < n->n_out ? n->out[out] : NULL;
  if (v && b->inlined && n->graph == b->inlined) {
    sd_value *inner = v;
    v = NULL;
    for (uint32_t i = 0; i < b->inlined->outputs.len && i < b->node->n_out && !v; i++) {
      if (b->inlined->outputs.at[i] == inner) v = b->node->out[i];
    }
  }
  if (!v || (!wanted(v) && any_wanted(v->def))) { // an output that nobody wants still has a place to write to
    sd_dim one = sd_dim_const(b->dims, 1);
    const sd_value *inner = out < n->n_out ? n->out[out] : NULL;
    return sd_kernel_buf(b->k, SD_BUF_LOCAL, inner ? inner->dtype : SD_F32, inner ? sd_value_count(inner) : one, NULL);
  }
  for (uint32_t i = 0; i < b->k->bufs.len; i++) {
    sd_buf *p = b->k->bufs.at[i];
    if (p->kind == SD_BUF_OUT && p->value == v) return p;
  }
  return sd_kernel_buf(b->k, SD_BUF_OUT, v->dtype, sd_value_count(holder(v)), v);
}

void sd_tb_store(sd_tb *b, sd_nest *nest, const sd_node *n, uint32_t out, sd_expr *const *idx, sd_expr *value, sd_expr *guard) {
  const sd_value *v = n->out[out], *to = v;
  sd_expr *at[SD_MAX_RANK], *saved = b->guard;
  bool inner = b->inlined && n->graph == b->inlined;
  if (!value) return;
  for (int i = 0; i < v->rank; i++) {
    if (!idx[i]) return;
    at[i] = sd_dim_is(b->dims, v->dims[i], 1) ? sd_x_i(b->k, SD_I64, 0) : idx[i];
  }
  value = sd_x_cast(b->k, sd_compute_type(v->dtype), value);
  if (inner && b->inlined->outputs.len == 1) {
    const sd_value *root = b->inlined->outputs.at[0];
    b->guard = guard; // what the rest of the group reads exists only there
    memo_put(b, v, at, v->rank, value);
    value = pull_value(b, n, root, at);
    b->guard = saved;
    if (!value) return;
    n = root->def, out = root->out_index, to = b->node->out[0];
  }
  sd_nest_store(b->k, nest, sd_tb_out(b, n, out), sd_tb_place(b, to, sd_tb_offset(b, to, at)), value, guard);
}

sd_buf *sd_tb_local(sd_tb *b, sd_dtype t, sd_dim count) { return sd_kernel_buf(b->k, SD_BUF_LOCAL, t, count, NULL); }

typedef struct out_ref { sd_value *to; const sd_value *from; const sd_node *def; uint32_t index; } out_ref;

static bool same_shape(const sd_value *x, const sd_value *y) {
  return x->rank == y->rank && is_complex(x) == is_complex(y) && !memcmp(x->dims, y->dims, (size_t)x->rank * sizeof *x->dims);
}

static sard_status *check_output(const sd_tb *b, const sd_value *v) {
  if (v->rank < 0 || sd_value_count(v) == SD_DIM_NONE)
    return sd_node_error(b->node, SD_ERR(UNSUPPORTED, "the shape of output %%%u is not known or overflows", v->id));
  if (sd_compute_type(v->dtype) == SD_DT_NONE)
    return sd_node_error(b->node, SD_ERR(UNSUPPORTED, "outputs of type %s are not supported", sd_dtype_name(v->dtype)));
  return NULL;
}

static sd_expr *pull_output(sd_tb *b, const out_ref *o, sd_expr *const *idx) {
  if (!o->def) return pull_value(b, b->node, o->from, idx); // a body input or constant passed through
  return b->inlined ? pull_value(b, b->node, o->from, idx) : pull_member(b, o->def, o->index, idx);
}

// The axis for the parts of complex numbers.
static sd_axis *part_axis(sd_tb *b) {
  sd_axis *a = sd_kernel_axis(b->k, "part", sd_dim_const(b->dims, 2));
  b->part = sd_x_axis(b->k, a);
  return a;
}

// Rows that make their own nests: the parts are the outermost axis of the grid.
static sard_status *lower_nests(sd_tb *b, const sd_node *n) {
  if (n->n_out && n->out[0] && is_complex(n->out[0])) sd_vec_push(b->arena, &b->k->grid, part_axis(b));
  return n->op->nests(b, n);
}

// One nest for all outputs of that shape.
static sard_status *outputs_nest(sd_tb *b, const out_ref *outs, uint32_t n, bool *done, uint32_t first) {
  static const char *const names[SD_MAX_RANK] = {"i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x"};
  const sd_value *shape = outs[first].to;
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *idx[SD_MAX_RANK];
  int axes = is_complex(shape) ? 1 : 0;
  for (int i = 0; i < shape->rank; i++) {
    if (sd_dim_is(b->dims, shape->dims[i], 1)) { idx[i] = sd_x_i(b->k, SD_I64, 0); continue; }
    if (axes++ == SD_MAX_AXES)
      return sd_node_error(b->node, SD_ERR(UNSUPPORTED, "an output with more than %d dimensions above 1", SD_MAX_AXES));
    sd_axis *a = sd_kernel_axis(b->k, names[i], shape->dims[i]);
    sd_nest_axis(nest, a);
    idx[i] = sd_x_axis(b->k, a);
  }
  b->part = NULL;
  if (is_complex(shape)) sd_nest_axis(nest, part_axis(b));
  for (uint32_t o = first; o < n; o++) {
    if (done[o] || !same_shape(outs[o].to, shape)) continue;
    done[o] = true;
    sd_expr *x = pull_output(b, &outs[o], idx);
    if (!x) return NULL; // recorded in b->error
    sd_buf *buf = sd_kernel_buf(b->k, SD_BUF_OUT, outs[o].to->dtype, sd_value_count(holder(outs[o].to)), outs[o].to);
    sd_nest_store(b->k, nest, buf, sd_tb_place(b, outs[o].to, sd_tb_offset(b, outs[o].to, idx)), x, NULL);
  }
  return NULL;
}

static uint32_t wanted_outputs(sd_tb *b, out_ref *outs) {
  const sd_node *n = b->node;
  uint32_t count = 0;
  bool some = any_wanted(n);
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *v = n->out[i];
    if (!v || (some && !wanted(v))) continue;
    const sd_value *from = b->inlined ? b->inlined->outputs.at[i] : v;
    outs[count++] = (out_ref){v, from, from->def, from->out_index};
  }
  return count;
}

static sard_status *lower_outputs(sd_tb *b) {
  out_ref *outs = SD_NEW_ARRAY(b->arena, out_ref, b->node->n_out + 1);
  bool *done = SD_NEW_ARRAY(b->arena, bool, b->node->n_out + 1);
  uint32_t n = wanted_outputs(b, outs);
  for (uint32_t i = 0; i < n; i++) SD_TRY(check_output(b, outs[i].to));
  for (const sd_node *x = b->inlined ? b->inlined->first : NULL; x; x = x->next) {
    if (!x->op->nests) continue;
    for (uint32_t i = 0; i < n; i++) { // all of its own, or one that is computed from it (sd_tb_store)
      if (outs[i].def != x && n > 1)
        return sd_node_error(b->node, SD_ERR(INTERNAL, "a group with a member that makes its own nests has other outputs"));
    }
    return lower_nests(b, x);
  }
  for (uint32_t i = 0; i < n && !b->error; i++) {
    if (!done[i]) SD_TRY(outputs_nest(b, outs, n, done, i));
  }
  return NULL;
}

// ---- borders ----
// A Pad whose operand lies in its output already: only the border is left to write, one nest for each side.
static bool border_only(const sd_node *n) {
  return !strcmp(n->op->name, "Pad") && n->in[0] && n->in[0]->window && n->in[0]->storage == n->out[0];
}

// The first padded axis (but not the last one) and those before it make the grid, one tile for each row along them:
// `rows` holds their indices, `inside` whether the row crosses the operand; NULL for values of rank 1.
typedef struct border { const sd_node *n; int first; sd_expr *rows[SD_MAX_RANK], *inside, *value; } border;

static void border_grid(sd_tb *b, border *s) {
  const sd_value *x = s->n->in[0], *y = s->n->out[0];
  sd_dim end = SD_DIM_NONE;
  for (s->first = y->rank > 1 ? 0 : -1; s->first < y->rank - 2; s->first++)
    if (sd_dim_eq(b->dims, x->dims[s->first], y->dims[s->first]) != 1) break;
  for (int d = 0; d <= s->first; d++) {
    sd_axis *a = sd_kernel_axis(b->k, "row", y->dims[d]);
    sd_vec_push(b->arena, &b->k->grid, a);
    s->rows[d] = sd_x_axis(b->k, a);
    end = sd_dim_add(b->dims, x->window[d], x->dims[d]);
  }
  if (s->first < 0) return;
  sd_expr *row = s->rows[s->first];
  s->inside = sd_x_bin(b->k, SD_X_AND, sd_x_bin(b->k, SD_X_LE, sd_x_dim(b->k, x->window[s->first]), row),
                       sd_x_bin(b->k, SD_X_LT, row, sd_x_dim(b->k, end)));
}

// The part of a row that lies below (high: above) the operand along `side`; on the first axis: all of a row outside.
static void border_nest(sd_tb *b, const border *s, int side, bool high) {
  const sd_value *x = s->n->in[0], *y = s->n->out[0];
  sd_nest *nest = NULL;
  sd_expr *idx[SD_MAX_RANK], *zero = sd_x_i(b->k, SD_I64, 0), *guard = s->inside;
  sd_dim start[SD_MAX_RANK], extent[SD_MAX_RANK];
  for (int d = s->first + 1; d < y->rank; d++) { // sides before this one are done: stay between them
    start[d] = d < side ? x->window[d] : sd_dim_const(b->dims, 0);
    extent[d] = d < side ? x->dims[d] : y->dims[d];
    if (d != side) continue;
    sd_dim end = sd_dim_add(b->dims, x->window[d], x->dims[d]);
    start[d] = high ? end : start[d];
    extent[d] = high ? sd_dim_sub(b->dims, y->dims[d], end) : x->window[d];
    if (sd_dim_is(b->dims, extent[d], 0)) return;
  }
  nest = sd_kernel_nest(b->k, NULL);
  for (int d = 0; d < y->rank; d++) {
    idx[d] = d <= s->first ? s->rows[d] : sd_x_dim(b->k, start[d]);
    if (d <= s->first || sd_dim_is(b->dims, extent[d], 1)) continue;
    sd_axis *a = sd_kernel_axis(b->k, "i", extent[d]);
    if (guard) { // the condition becomes the length of the outermost loop
      sd_expr *all = sd_x_dim(b->k, extent[d]);
      a->limit = side > s->first ? sd_x_sel(b->k, guard, all, zero) : sd_x_sel(b->k, guard, zero, all);
      guard = NULL;
    }
    sd_nest_axis(nest, a);
    idx[d] = sd_x_bin(b->k, SD_X_ADD, idx[d], sd_x_axis(b->k, a));
  }
  if (guard && side == s->first) guard = sd_x_un(b->k, SD_X_NOT, guard);
  sd_nest_store(b->k, nest, sd_tb_out(b, s->n, 0), sd_tb_place(b, y, sd_tb_offset(b, y, idx)), s->value, guard);
}

static sard_status *lower_border(sd_tb *b, const sd_node *n) {
  const sd_value *y = n->out[0];
  sd_expr *zero[SD_MAX_RANK], *value;
  if (is_complex(y)) sd_vec_push(b->arena, &b->k->grid, part_axis(b));
  if (sd_tb_has(n, 2)) {
    for (int d = 0; d < n->in[2]->rank; d++) zero[d] = sd_x_i(b->k, SD_I64, 0);
    value = sd_tb_load(b, n, 2, zero);
  } else {
    value = sd_x_f(b->k, sd_compute_type(y->dtype), 0);
  }
  border s = {.n = n, .value = value};
  if (!value) return NULL;
  border_grid(b, &s);
  if (s.inside) border_nest(b, &s, s.first, false);
  for (int d = s.first + 1; d < y->rank; d++)
    for (int high = 0; high < 2; high++) border_nest(b, &s, d, high);
  return NULL;
}

// ---- parameters in their final order: operands that are read, outputs, locals ----
typedef struct marks { bool *seen, *loaded; } marks; // expressions visited, buffers read

static void mark_expr(sd_expr *e, marks *m) {
  if (!e || m->seen[e->id]) return;
  m->seen[e->id] = true;
  for (uint32_t i = 0; i < e->n; i++) mark_expr(e->a[i], m);
  for (uint32_t i = 0; i < e->n_axes; i++) mark_expr(e->axes[i]->limit, m);
  if (e->op == SD_X_LOAD) m->loaded[e->buf->id] = true;
}

static void mark_nest(const sd_nest *n, marks *m) {
  for (uint32_t i = 0; i < n->n_axes && i < SD_MAX_AXES; i++) mark_expr(n->axes[i]->limit, m);
  for (uint32_t i = 0; i < n->stores.len; i++) {
    mark_expr(n->stores.at[i].offset, m);
    mark_expr(n->stores.at[i].value, m);
    mark_expr(n->stores.at[i].guard, m);
  }
}

static void mark_items(const sd_items *items, marks *m) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->nest) mark_nest(it->nest, m);
    if (it->loop) mark_expr(it->loop->limit, m);
    if (it->body) mark_items(it->body, m);
  }
}

// Drops stores to local buffers that nothing reads, then nests and loops without stores; true when something went.
static bool drop_stores(sd_items *items, const bool *loaded) {
  bool any = false;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < items->len; i++) {
    sd_item it = items->at[i];
    if (it.body) any |= drop_stores(it.body, loaded);
    uint32_t n = 0;
    for (uint32_t j = 0; it.nest && j < it.nest->stores.len; j++) {
      sd_store *s = &it.nest->stores.at[j];
      if (!s->buf || s->buf->kind != SD_BUF_LOCAL || loaded[s->buf->id]) it.nest->stores.at[n++] = *s;
    }
    if (it.nest) any |= n < it.nest->stores.len, it.nest->stores.len = n;
    if (it.nest ? n : it.body->len) items->at[kept++] = it;
  }
  items->len = kept;
  return any;
}

static void order_params(sd_tb *b) {
  sd_kernel *k = b->k;
  marks m = {SD_NEW_ARRAY(b->arena, bool, k->n_expr + 1), SD_NEW_ARRAY(b->arena, bool, k->bufs.len + 1)};
  do {
    memset(m.seen, 0, k->n_expr);
    memset(m.loaded, 0, k->bufs.len);
    for (uint32_t i = 0; i < k->grid.len; i++) mark_expr(k->grid.at[i]->limit, &m);
    mark_items(&k->items, &m);
  } while (drop_stores(&k->items, m.loaded));
  static const sd_bufkind order[] = {SD_BUF_IN, SD_BUF_OUT, SD_BUF_LOCAL};
  sd_buf **at = SD_NEW_ARRAY(b->arena, sd_buf *, k->bufs.len + 1);
  uint32_t n = 0;
  for (int pass = 0; pass < 3; pass++) {
    for (uint32_t i = 0; i < k->bufs.len; i++) {
      sd_buf *p = k->bufs.at[i];
      if (p->kind == order[pass] && (m.loaded[i] || p->kind == SD_BUF_OUT)) at[n++] = p;
    }
  }
  for (uint32_t i = 0; i < n; i++) {
    k->bufs.at[i] = at[i];
    at[i]->id = i;
  }
  k->bufs.len = n;
}

sard_status *sd_lower_node(sd_arena *a, sd_module *m, const sd_node *n, sd_kernel **out) {
  return sd_lower_tiled(a, m, n, NULL, out);
}

sard_status *sd_lower_tiled(sd_arena *a, sd_module *m, const sd_node *n, const sd_lower_tile *tile, sd_kernel **out) {
  struct sd_tb_private priv = {0};
  sd_tb b = {.arena = a, .dims = m->dims, .node = n, .tile = tile, .priv = &priv};
  *out = NULL;
  b.k = sd_kernel_new(a, m->dims, n->name && *n->name ? n->name : n->op->name);
  if (!strcmp(n->op->name, "sard.Fused")) {
    if (n->n_body != 1 || n->bodies[0]->outputs.len != n->n_out)
      return sd_node_error(n, SD_ERR(INTERNAL, "a fused group needs one body with as many outputs as the node"));
    b.inlined = n->bodies[0];
  }
  sard_status *st = border_only(n) ? lower_border(&b, n) : n->op->nests ? lower_nests(&b, n) : lower_outputs(&b);
  if (b.error) { // the cause; what followed from it adds nothing
    if (st && st != b.error) sard_status_free(st);
    return b.error;
  }
  if (st) return sd_node_error(n, st);
  order_params(&b);
  st = sd_kernel_verify(b.k);
  if (st) return sd_node_error(n, sd_status_context(st, "lowering of %s", n->op->name));
  *out = b.k;
  return NULL;
}
