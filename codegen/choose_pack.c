// Packing of constant operands: which loads can be packed, and the loads of the packed form.
#include "codegen/choose_nest.h"
#include "codegen/blocks.h"
#include "codegen/dot.h"
#include "codegen/words.h"
#include "runtime/base/alloc.h"

#define MOST_TURNED 64 // steps of an axis

// Axes on which the operand may depend besides j: those of the grid, of loops from the innermost on, and the free ones of the nest.
static const sd_axis *pack_axis(const sd_choice *c, uint32_t i) {
  if (i < c->k->grid.len) return c->k->grid.at[i];
  i -= (uint32_t)c->k->grid.len;
  for (const sd_loops *l = c->loops; l; l = l->outer)
    if (!i--) return l->axis;
  return i < c->n->n_axes ? c->n->axes[i] : NULL;
}

// Whether the packed form has no dim for axis i of the reduction; that of dot products has all, since it turns the last two.
static bool left_out(sd_kernel *k, const sd_access *l, uint32_t i, bool dot) {
  return !dot && sd_access_stride(k, l->load->a[0], l->reduce->axes[i]) == SD_STRIDE_ZERO;
}

// The steps that stand side by side go behind the lanes.
static void turn(sd_pack *p) {
  uint32_t lanes = p->n - 1, side = p->n - 2;
  int64_t extent = p->extent[side], stride = p->stride[side];
  p->extent[side] = p->extent[lanes], p->stride[side] = p->stride[lanes];
  p->extent[lanes] = extent, p->stride[lanes] = stride;
  p->steps = p->extent[p->n - 3] * p->side;
}

// What terms of the offset that move with x alone add to it at x = i.
static bool value_at(sd_kernel *k, const sd_expr *offset, const sd_axis *x, int64_t i, int64_t *out) {
  *out = 0;
  for (uint32_t t = 0; t < offset->n; t++) {
    int64_t v, c;
    if (!sd_x_uses_axis(offset->a[t], x)) continue;
    sd_expr *at = sd_x_subst(k, offset->a[t], x, sd_x_i(k, SD_I64, i));
    if (!sd_x_const_value(at, NULL, &v) || !sd_dim_is_const(k->dims, offset->coef[t], &c)) return false;
    if (!sd_ck_mul_i64(v, c, &v) || !sd_ck_add_i64(*out, v, out)) return false;
  }
  return true;
}

// An axis of n steps, of which the offset goes through multiples of a stride from another step than the first on, and begins anew behind the
// last one: remainders of x + c by n, as phases of transposed convolutions have them. *least: the step with the lowest offset.
static bool turned(sd_kernel *k, const sd_expr *offset, const sd_axis *x, int64_t n, sd_pack *p, int64_t *least) {
  int64_t v, lowest = INT64_MAX, next;
  if (offset->op != SD_X_AFFINE || n < 2 || n > MOST_TURNED) return false;
  for (int64_t i = 0; i < n; i++) {
    if (!value_at(k, offset, x, i, &v)) return false;
    if (v < lowest) lowest = v, *least = i;
  }
  p->turn[p->n] = (n - *least) % n;
  if (!value_at(k, offset, x, (*least + 1) % n, &next)) return false;
  p->stride[p->n] = next - lowest;
  for (int64_t i = 0; i < n; i++)
    if (!value_at(k, offset, x, (*least + i) % n, &v) || v != lowest + i * p->stride[p->n]) return false;
  return true;
}

bool sd_choose_pack_plan(sd_choice *c, const sd_access *l, uint32_t jpos, int64_t factor, sd_pack *p) {
  sd_kernel *k = c->k;
  const sd_expr *offset = l->load->a[0];
  const sd_axis *j = c->n->axes[jpos];
  int64_t jc, jext, v;
  sd_dim d;
  sd_expr *rest = l->load->a[0];
  memset(p, 0, sizeof *p);
  int64_t word = sd_words_side(k, l->reduce, l->load);
  p->side = word > 1 ? word : sd_dot_side(k, l->reduce);
  bool dot = word == 1 && p->side > 1;
  sd_blocks b;
  p->sliced = word > 1 && sd_blocks_is(k, l->reduce, &b);
  if (!c->packs || !l->load->buf->invariant || !l->reduce || l->load->a[1] || !l->load->buf->value ||
      !l->load->buf->value->data)
    return false;
  if (!sd_x_coef(k, offset, j, &d) || !sd_dim_is_const(k->dims, d, &jc) || jc == 0) return false;
  if (!sd_dim_is_const(k->dims, j->extent, &jext)) return false;
  // axes the operand also depends on (groups, parts of the grid), then the split axis, then the reduction,
  // then lanes
  const sd_axis *x;
  for (uint32_t i = 0; (x = pack_axis(c, i)); i++) {
    if (x == j || sd_access_stride(k, offset, x) == SD_STRIDE_ZERO) continue;
    if (p->n + l->reduce->n_axes + 3 > SD_PACK_DIMS) return false;
    int64_t first = 0;
    if (!sd_dim_is_const(k->dims, x->extent, &p->extent[p->n])) return false;
    if (sd_x_coef(k, offset, x, &d) && sd_dim_is_const(k->dims, d, &v)) p->stride[p->n] = v;
    else if (!turned(k, offset, x, p->extent[p->n], p, &first)) return false;
    p->n++;
    rest = sd_x_subst(k, rest, x, sd_x_i(k, SD_I64, first));
  }
  p->outer = p->n;
  p->stride[p->n] = jc * factor, p->extent[p->n++] = sd_ceil_div(jext, factor);
  for (uint32_t i = 0; i < l->reduce->n_axes; i++) {
    if (left_out(k, l, i, dot)) continue;
    if (!sd_x_coef(k, offset, l->reduce->axes[i], &d) || !sd_dim_is_const(k->dims, d, &v)) return false;
    p->stride[p->n] = v;
    if (!sd_dim_is_const(k->dims, l->reduce->axes[i]->extent, &p->extent[p->n++])) return false;
    rest = sd_x_subst(k, rest, l->reduce->axes[i], sd_x_i(k, SD_I64, 0));
  }
  p->stride[p->n] = jc, p->extent[p->n++] = factor;
  if (p->side > 1) turn(p);
  if (dot) sd_dot_limit(k, l->reduce, p);
  rest = sd_x_subst(k, rest, j, sd_x_i(k, SD_I64, 0));
  if (!sd_x_const_value(rest, NULL, &p->base)) return false; // depends on something else
  p->factor = factor, p->limit = jext, p->buf = l->load->buf;
  return true;
}

static uint32_t count_loads(const sd_choice *c, const sd_items *items, const sd_buf *b) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < items->len; i++) {
    sd_accesses loads = {0};
    sd_reductions reductions = {0};
    if (items->at[i].body) n += count_loads(c, items->at[i].body, b);
    if (!items->at[i].nest) continue;
    sd_access_collect(c->k, items->at[i].nest, c->a, &loads, &reductions);
    for (uint32_t l = 0; l < loads.len; l++) n += loads.at[l].load->buf == b;
  }
  return n;
}
bool sd_choose_loaded_once(const sd_choice *c, const sd_buf *b) {
  return count_loads(c, &c->k->items, b) == 1;
}

typedef struct repack {
  const sd_expr *load;
  sd_expr *packed;
} repack;
static sd_expr *repack_load(sd_kernel *k, sd_expr *e, void *user) {
  repack *r = user;
  (void)k;
  if (e->op == SD_X_LOAD && e->buf == r->load->buf && e != r->packed) return r->packed;
  if (e->op != SD_X_CAST || e->a[0] != r->packed || e->a[0]->op != SD_X_CAST) return e;
  return sd_x_cast(k, e->dtype, e->a[0]->a[0]); // of an element of a word, which is small
}

// After the split of axis j into (jo, ji): points the load at the packed form.
static sard_status *pack_apply(sd_choice *c, const sd_access *l, const sd_pack *p, sd_axis *jo, sd_axis *ji,
                               sd_expr *const *free_axes) {
  sd_kernel *k = c->k;
  sd_expr *offset = sd_x_i(k, SD_I64, 0);
  sd_axis *last = l->reduce->axes[l->reduce->n_axes - 1];
  bool words = sd_words_side(k, l->reduce, l->load) > 1, dot = !words && p->side > 1;
  uint32_t d = 0, f = 0, n = p->n - words, reduced = 0;
  for (; d < n; d++) {
    sd_expr *x;
    if (d < p->outer) x = free_axes[f++];
    else if (d == p->outer)
      x = sd_x_axis(k, jo);
    else if (d == p->n - (p->side > 1 ? 2 : 1))
      x = sd_x_axis(k, ji);
    else if (d == p->n - 1)
      x = sd_x_axis(k, last);
    else {
      while (left_out(k, l, reduced, dot)) reduced++;
      x = sd_x_axis(k, l->reduce->axes[reduced++]);
    }
    offset = sd_x_bin(k, SD_X_ADD, sd_x_mul_dim(k, offset, sd_dim_const(k->dims, p->extent[d])), x);
  }
  int64_t count = 1;
  for (d = 0; d < n; d++)
    if (!sd_ck_mul_i64(count, p->extent[d], &count))
      return SD_ERR(NOMEM, "packed operand of %s is too large", k->name);
  repack r = {l->load, words ? sd_words_element(k, l->load, offset, last, p->sliced) : sd_x_load(k, p->buf, offset, NULL)};
  for (uint32_t i = 0; i < c->n->stores.len; i++) {
    sd_store *s = &c->n->stores.at[i];
    s->value = sd_x_rewrite(k, s->value, repack_load, &r);
  }
  p->buf->count = sd_dim_const(k->dims, count);
  sd_vec_push(c->a, c->packs, *p);
  return NULL;
}

typedef struct packing {
  sd_access load;
  sd_pack p;
  sd_expr *free_axes[SD_PACK_DIMS];
} packing;

// Before the split of the axis at jpos.
static bool plan_packing(sd_choice *c, const sd_access *load, uint32_t jpos, int64_t factor, packing *x) {
  const sd_axis *a;
  uint32_t n = 0;
  x->load = *load;
  if (!sd_choose_pack_plan(c, load, jpos, factor, &x->p)) return false;
  for (uint32_t i = 0; (a = pack_axis(c, i)); i++)
    if (a != c->n->axes[jpos] && sd_access_stride(c->k, load->load->a[0], a) != SD_STRIDE_ZERO) x->free_axes[n++] = sd_x_axis(c->k, (sd_axis *)a);
  return true;
}

sard_status *sd_choose_pack(sd_choice *c, const sd_access *load, uint32_t jpos, int64_t factor) {
  sd_nest *n = c->n;
  packing *x = SD_NEW_ARRAY(c->a, packing, c->loads.len + 1);
  uint32_t count = 1;
  if (!plan_packing(c, load, jpos, factor, &x[0])) return SD_ERR(INTERNAL, "packing of %s failed", c->k->name);
  for (uint32_t l = 0; l < c->loads.len; l++) { // scales: what is read beside a panel is near it
    const sd_access *o = &c->loads.at[l];
    if (o->load == load->load || o->reduce != load->reduce || !sd_x_uses_axis(o->load, n->axes[jpos])) continue;
    if (sd_choose_loaded_once(c, o->load->buf) && plan_packing(c, o, jpos, factor, &x[count])) count++;
  }
  SD_TRY(sd_nest_split(c->k, n, jpos, factor));
  for (uint32_t i = 0; i < count; i++) SD_TRY(pack_apply(c, &x[i].load, &x[i].p, n->axes[jpos], n->axes[jpos + 1], x[i].free_axes));
  return NULL;
}
